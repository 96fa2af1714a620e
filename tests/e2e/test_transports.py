"""One push, every way there is: local path, file URL, smart HTTP, ssh. Real git on both sides."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.repositories import Repository
from fakes.servers import Server, expect_line, push, start_push
from gate.web.git_http import app, serve
from gate.web.tokens import digest, find


@dataclass(frozen=True)
class Way:
    """How a server is reached, and whom it takes the pusher for."""

    url: str
    who: str
    env: dict[str, str]


@pytest.fixture
def server(repository: Repository, tmp_path: Path) -> Server:
    return Server.found(tmp_path / "odd 'name' here.git", repository)


@pytest.fixture
def clone(server: Server, repository: Repository) -> Repository:
    repository.commit("Add c", {"src/c.py": "C = 1\n"})
    return repository


@pytest.fixture(params=["path", "file", "http", "ssh"])
def way(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Way]:
    me = getpass.getuser()
    if request.param == "path":
        yield Way(str(server.path), me, {})
    elif request.param == "file":
        yield Way(f"file://{server.path}", me, {})
    elif request.param == "http":
        tokens = {"ann": digest("secret")}
        served = serve(app({"work": server.path}, lambda _repository, token: find(token, tokens)), "127.0.0.1", 0)
        try:
            yield Way(f"http://ann:secret@127.0.0.1:{served.port}/work.git", "ann", {})
        finally:
            served.close()
    else:
        yield from ssh_way(server, request.getfixturevalue("sshd"))


@dataclass(frozen=True)
class Sshd:
    """A running ssh server of ours, and how to reach it."""

    port: int
    folder: Path

    @property
    def client(self) -> str:
        """For GIT_SSH_COMMAND."""
        options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        words = ["ssh", "-F", "/dev/null", "-p", str(self.port), "-i", str(self.folder / "ann")]
        return shlex.join([*words, *(word for option in options for word in ("-o", option))])


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """sshd on a loopback port, that knows one key and runs one command."""
    program = find_sshd()
    folder = tmp_path_factory.mktemp("ssh")
    for key in ("host", "ann"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    command = folder / "as-user"
    command.write_text('#!/bin/sh\nGATE_USER=$1 exec git-shell -c "$SSH_ORIGINAL_COMMAND"\n')
    command.chmod(0o755)
    public = (folder / "ann.pub").read_text()
    (folder / "authorized_keys").write_text(f'restrict,command="{command} ann" {public}')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\n"
    )
    with subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE, text=True) as process:
        try:
            expect_words(process, "listening on")
            yield Sshd(port, folder)
        finally:
            process.terminate()


def expect_words(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError("sshd did not start")


def find_sshd() -> str:
    """sshd, installed when it is missing and this is root's machine; the test is skipped when there is none."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    if shutil.which("sshd", path=path) is None and os.getuid() == 0 and shutil.which("apt-get"):
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "openssh-server"]):
            subprocess.run(["apt-get", *words], env=env, capture_output=True, check=False)
    program = shutil.which("sshd", path=path)
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here, and it cannot be installed: install openssh-server to run this test")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it when started as root
    return program


def ssh_way(server: Server, sshd: Sshd) -> Iterator[Way]:
    yield Way(f"ssh://{getpass.getuser()}@127.0.0.1{server.path}", "ann", {"GIT_SSH_COMMAND": sshd.client})


def test_a_push_is_recorded_under_the_right_name(way: Way, server: Server, clone: Repository) -> None:
    code, said = push(clone, "-o", "priority=high", way.url, "HEAD:refs/for/main/sums", **way.env)
    assert code == 0, said
    assert "remote: gate: change 1 revision 1 submitted: Add c" in said
    assert "-> refs/changes/1/1" in said
    [submission] = server.submissions()
    assert (submission.by, submission.priority, submission.topic) == (way.who, "high", "sums")


def test_a_refusal_reaches_the_pusher(way: Way, server: Server, clone: Repository) -> None:
    code, said = push(clone, way.url, "HEAD:main", **way.env)
    assert code == 1
    assert "(main moves only through the gate)" in said
    code, said = push(clone, way.url, "HEAD:refs/heads/green/main", **way.env)
    assert code == 1
    assert "refs/heads/green/main is moved by the gate alone" in said


def test_waiting_streams_as_it_happens(way: Way, server: Server, clone: Repository) -> None:
    with server.running(), start_push(clone, "-o", "wait", way.url, "HEAD:refs/for/main", **way.env) as process:
        expect_line(process, "submitted")
        server.tell(1, "check unit is running")
        expect_line(process, "check unit is running")
        server.tell(1, "check unit is red: test_sum", verdict="refused")
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "(change 1 refused: check unit is red: test_sum)" in said


def test_megabytes_go_through(way: Way, server: Server, clone: Repository) -> None:
    clone.commit("Large", {"noise": os.urandom(8_000_000)})
    code, said = push(clone, way.url, "HEAD:refs/for/main", **way.env)
    assert code == 0, said
    assert server.git("cat-file", "-s", "refs/changes/1/1:noise") == "8000000"


def test_changes_can_be_fetched_but_not_pushed(way: Way, server: Server, clone: Repository) -> None:
    push(clone, way.url, "HEAD:refs/for/main", **way.env)
    clone.git("fetch", "-q", way.url, "refs/changes/1/1:refs/heads/theirs", env=way.env)
    assert clone.head("theirs") == clone.head()
    code, said = push(clone, "-v", way.url, ":refs/changes/1/1", **way.env)
    assert code == 1, said
    assert "refs/changes/1/1" in server.refs("refs/changes")
