"""Git over HTTP, at the level of requests; the pushes themselves are in tests/e2e/test_transports.py."""

import base64
import gzip
import http.client
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.errors import UserError
from fakes.repositories import Repository
from fakes.servers import Server, expect_line, push, start_push
from gate.web.git_http import Handle, app, serve
from gate.web.tokens import digest, find, new_token

TOKENS = {"ann's": "ann"}


def who(repository: str, token: str) -> str | None:
    """Tokens belong to one repository."""
    return TOKENS.get(token) if repository == "work" else None


READ = "/work.git/info/refs?service=git-upload-pack"
WRITE = "/work.git/info/refs?service=git-receive-pack"


@pytest.fixture
def server(repository: Repository, tmp_path: Path) -> Server:
    return Server.found(tmp_path / "server.git", repository)


@pytest.fixture
def handle(server: Server) -> Iterator[Handle]:
    served = serve(app({"work": server.path}, who, max_body_bytes=200_000), "127.0.0.1", 0)
    yield served
    served.close()


def basic(token: str, name: str = "any") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()}


def ask(
    handle: Handle, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", handle.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_reading_needs_no_token(handle: Handle) -> None:
    status, headers, body = ask(handle, "GET", READ)
    assert status == 200
    assert headers["content-type"] == "application/x-git-upload-pack-advertisement"
    assert b"refs/heads/main" in body


def test_writing_needs_a_token(handle: Handle) -> None:
    status, headers, _ = ask(handle, "GET", WRITE)
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic ")
    assert ask(handle, "POST", "/work.git/git-receive-pack", b"0000")[0] == 401
    assert ask(handle, "GET", WRITE, **basic("ann's"))[0] == 200


@pytest.mark.parametrize(
    "value", ["Basic !!!", "Basic", "Bearer ann's", "Basic " + base64.b64encode(b"\xff\xfe").decode(), ""]
)
def test_a_wrong_token_is_refused_even_for_reading(handle: Handle, value: str) -> None:
    assert ask(handle, "GET", READ, Authorization=value)[0] == 401
    assert ask(handle, "GET", READ, **basic("bob's"))[0] == 401
    assert ask(handle, "GET", READ, **basic(""))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/work.git/HEAD", 404),
        ("GET", "/work.git/config", 404),
        ("GET", "/work.git/objects/info/packs", 404),
        ("GET", "/work.git/info/refs", 403),
        ("GET", "/work.git/info/refs?service=git-upload-archive", 403),
        ("GET", "/work.git/info/refs?service=git-upload-pack&service=git-receive-pack", 403),
        ("GET", "/other.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/..%2fserver.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/../server.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/work.git/../server.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/work.git//info/refs?service=git-upload-pack", 404),
        ("GET", "/%00.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/work.git/git-upload-pack", 405),
        ("POST", "/work.git/info/refs?service=git-upload-pack", 405),
        ("PUT", "/work.git/git-receive-pack", 405),
    ],
)
def test_nothing_else_is_served(handle: Handle, method: str, path: str, status: int) -> None:
    assert ask(handle, method, path)[0] == status


def test_the_body_must_be_what_it_says(handle: Handle) -> None:
    path, kind = "/work.git/git-upload-pack", "application/x-git-upload-pack-request"
    assert ask(handle, "POST", path, b"0000", Content_Type="text/plain")[0] == 415
    assert ask(handle, "POST", path, b"0000", Content_Type=kind, Content_Encoding="br")[0] == 415
    packed = gzip.compress(b"0014command=ls-refs\n0000")
    status, _, body = ask(handle, "POST", path, packed, Content_Type=kind, Content_Encoding="gzip", Git_Protocol="version=2")
    assert status == 200
    assert b"refs/heads/main" in body


@pytest.mark.parametrize("buffer", ["500000", "65536"], ids=["announced", "chunked"])
def test_large_bodies_are_refused(server: Server, handle: Handle, repository: Repository, buffer: str) -> None:
    repository.commit("large", {"noise": os.urandom(400_000)})
    before = server.refs()
    url = f"http://any:ann's@127.0.0.1:{handle.port}/work.git"
    done = repository.run("-c", f"http.postBuffer={buffer}", "push", url, "HEAD:refs/heads/mine")
    assert done.returncode != 0
    if buffer == "500000":
        assert b"413" in done.stderr
    assert server.refs() == before
    repository.commit("small", {"noise": None})
    repository.git("reset", "-q", "--soft", "origin/main")
    repository.commit("small", {"b": "1"})
    assert push(repository, url, "HEAD:refs/heads/mine")[0] == 0


def test_headers_do_not_become_variables(server: Server, handle: Handle, repository: Repository) -> None:
    """A pusher cannot pose as somebody else by header, user name or push option."""
    seen = server.path / "seen"
    hook = server.path / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\nenv >{seen}\n")
    hook.chmod(0o755)
    repository.commit("b", {"b": "1"})
    forged = ["GATE_USER: mia", "Remote-User: mia", "Remote_User: mia", "GL-User: mia", "GIT_DIR: /", "Proxy: x"]
    settings = [word for header in forged for word in ("-c", f"http.extraHeader={header}")]
    url = f"http://mia:ann's@127.0.0.1:{handle.port}/work.git"
    done = repository.run(*settings, "push", url, "HEAD:refs/heads/mine")
    assert done.returncode == 0, done.stderr
    env = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    assert (env["GATE_USER"], env["REMOTE_USER"]) == ("ann", "ann")
    assert "GL_USER" not in env
    assert "mia" not in env.values()
    assert not [name for name in env if name.startswith("HTTP_") and name != "HTTP_CONTENT_ENCODING"]


def test_the_log_holds_no_token(handle: Handle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(handle, "GET", WRITE, **basic("ann's"))
        ask(handle, "GET", "/%1b%5b31m.git/info/refs?service=git-upload-pack", **basic("bob's"))
    assert "GET /work.git/info/refs 200 ann" in caplog.text
    assert "ann's" not in caplog.text
    assert "bob's" not in caplog.text
    assert base64.b64encode(b"any:ann's").decode() not in caplog.text
    assert "\x1b" not in caplog.text


def test_a_client_who_leaves_does_not_end_the_push(server: Server, handle: Handle, repository: Repository) -> None:
    repository.commit("b", {"b": "1"})
    done = server.path / "done"
    hook = server.path / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\necho here >&2\nread go <{server.path}/go\necho more >&2\necho $go >{done}\n")
    hook.chmod(0o755)
    os.mkfifo(server.path / "go")
    os.mkfifo(done)
    url = f"http://any:ann's@127.0.0.1:{handle.port}/work.git"
    with start_push(repository, url, "HEAD:refs/heads/mine") as process:
        expect_line(process, "here")
        os.killpg(process.pid, 9)
    with (server.path / "go").open("w") as go:
        go.write("on\n")
    assert done.read_text() == "on\n"


def test_an_address_that_is_taken_is_an_error_of_its_user(handle: Handle) -> None:
    with pytest.raises(UserError, match="cannot listen at"):
        serve(app({}, who), "127.0.0.1", handle.port)


def test_closing_ends_the_server_at_once_and_twice_is_fine(server: Server) -> None:
    served = serve(app({"work": server.path}, who), "127.0.0.1", 0)
    port = served.port
    served.close()
    served.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_tokens_are_found_by_digest_alone() -> None:
    token, known = new_token()
    other, another = new_token()
    assert len(token) >= 43
    assert known == digest(token) != another
    assert token not in known
    assert find(token, {"bob": another, "ann": known}) == "ann"
    assert find(other + "x", {"bob": another, "ann": known}) is None
    assert find("", {}) is None
