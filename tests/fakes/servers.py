"""A bare repository as the gate serves it, and a stand-in for the daemon that tells pushers what became of their change."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.git import ServerGit
from ci.model import Sha
from fakes.repositories import Repository, git_env
from gate.install import init_bare
from gate.model import Submission
from gate.submissions import read_new


class Server(Repository):
    """A bare repository with the hooks of the gate."""

    @classmethod
    def found(cls, path: Path, trunk: Repository) -> "Server":
        """Serve a repository with that trunk, which becomes ``origin`` there."""
        server = cls(path, bare=True)
        trunk.clone(path, bare=True)
        server.git("remote", "remove", "origin")
        init_bare(path)
        trunk.git("remote", "add", "origin", str(path))
        trunk.git("fetch", "-q", "origin")
        return server

    @property
    def state(self) -> Path:
        return self.path / "gate"

    def submissions(self, after: str | None = None) -> list[Submission]:
        return read_new(ServerGit(self.path), None if after is None else Sha(after))

    def set_policy(self, text: str) -> None:
        """Put a gate.toml on trunk, without asking anybody."""
        blob = self.git("hash-object", "-w", "--stdin", stdin=text.encode())
        entries = self.git("ls-tree", "main").splitlines()
        kept = [entry for entry in entries if not entry.endswith("\tgate.toml")]
        tree = self.git("mktree", stdin="\n".join([*kept, f"100644 blob {blob}\tgate.toml", ""]).encode())
        commit = self.git("commit-tree", tree, "-p", "main", "-m", "policy")
        self.git("update-ref", "refs/heads/main", commit)

    def refs(self, *patterns: str) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", *patterns).splitlines()
        return dict(line.split(" ", 1) for line in lines)  # type: ignore[misc]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold what a running daemon holds."""
        with (self.state / "daemon.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def tell(self, change: int, text: str, *, revision: int = 1, verdict: str | None = None) -> None:
        """Write a line to the feed of a change, as the daemon does."""
        (self.state / "feed").mkdir(exist_ok=True)
        entry = {"seq": 1, "at": 0.0, "revision": revision, "text": text, "verdict": verdict}
        with (self.state / "feed" / f"{change}.jsonl").open("a") as feed:
            feed.write(json.dumps(entry) + "\n")


def start_push(clone: Repository, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    """``git push`` with these arguments, still going on; everything it prints comes on stdout. Its own process group."""
    return subprocess.Popen(
        ["git", "push", *arguments],
        cwd=clone.path,
        env=git_env(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def push(clone: Repository, *arguments: str, **env: str) -> tuple[int, str]:
    """``git push`` with these arguments: exit code, and everything that it printed."""
    with start_push(clone, *arguments, **env) as process:
        said, _ = process.communicate(timeout=60)
    return process.returncode, said


def expect_line(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what the process prints until a line holds these words; fail the test when none does."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"{words!r} was not said, but: {''.join(seen)}")


def wake_pipe(server: Server) -> int:
    """The daemon's end of the wake-up pipe."""
    os.mkfifo(server.state / "wake")
    return os.open(server.state / "wake", os.O_RDONLY | os.O_NONBLOCK)
