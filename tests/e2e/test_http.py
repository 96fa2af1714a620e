"""The daemon as a server of Git over HTTP: anybody reads, who has a token submits, and the gate knows who it was."""

import socket
from pathlib import Path

from fakes.repositories import Repository
from fakes.stand import PARTS, Stand

FILES = {"a/check.sh": "exit 0\n", "a/x": "0", "b/check.sh": "exit 0\n", "b/x": "0"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_reading_is_open_and_submitting_takes_a_token(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PARTS, FILES)
    port = free_port()
    with stand.daemon("--http", f"127.0.0.1:{port}"):
        address = f"127.0.0.1:{port}/srv.git"
        clone = Repository.create(tmp_path / "away")
        clone.git("fetch", "-q", f"http://{address}", "main")
        clone.git("checkout", "-q", "FETCH_HEAD")
        clone.commit("from afar", {"a/x": "1"})
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
        assert clone.run("push", f"http://{address}", "HEAD:refs/for/main", env=quiet).returncode != 0
        assert stand.state().revisions == {}

        token = stand.gate_json("token", "add", "zoe")["token"]  # while the daemon runs
        pushed = clone.run("push", "-o", "wait", f"http://zoe:{token}@{address}", "HEAD:refs/for/main", env=quiet)
        said = pushed.stderr.decode()
        assert pushed.returncode == 0, said
        assert "landed on main" in said
        assert [item.by for item in stand.state().revisions[1]] == ["zoe"]  # type: ignore[index]

        assert stand.gate("token", "revoke", "zoe").returncode == 0
        clone.commit("too late", {"a/x": "0"})
        assert clone.run("push", f"http://zoe:{token}@{address}", "HEAD:refs/for/main", env=quiet).returncode != 0
    assert token not in stand.daemon_log()
    assert token.encode() not in (stand.path / "gate/journal.sqlite").read_bytes()


def test_a_token_counts_for_its_own_repository_alone(tmp_path: Path) -> None:
    ours = Stand(tmp_path / "ours", PARTS, FILES)
    theirs = Stand(tmp_path / "theirs", PARTS, FILES)
    theirs.server.path.rename(tmp_path / "theirs/other.git")
    port = free_port()
    token = ours.gate_json("token", "add", "mia")["token"]
    with ours.daemon(str(tmp_path / "theirs/other.git"), "--http", f"127.0.0.1:{port}"):
        ours.branch("mine", {"a/x": "1"})
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
        there = ours.dev.run("push", f"http://x:{token}@127.0.0.1:{port}/other.git", "HEAD:refs/for/main", env=quiet)
        assert there.returncode != 0
        assert b"not known here" in there.stderr or b"Authentication failed" in there.stderr
        here = ours.dev.run("push", f"http://x:{token}@127.0.0.1:{port}/srv.git", "HEAD:refs/for/main", env=quiet)
        assert here.returncode == 0, here.stderr
