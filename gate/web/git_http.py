"""Smart HTTP for Git: an ASGI bridge to git's own ``http-backend``.

Serves clones to everybody and pushes to holders of a token. Only the three requests of the smart protocol reach git, only
for the repositories given by name, with an environment built from scratch: nothing of a request becomes a path, and only the
headers listed here become variables. A client who leaves does not end the git that works for it.
"""

import asyncio
import base64
import binascii
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from ci.errors import Unavailable, UserError
from ci.git import git_environment

MAX_BODY_BYTES = 2_000_000_000  # of one request
SHUTDOWN_S = 3  # how long open requests may go on once the server is closed

_CHUNK_BYTES = 65536
_MAX_HEAD_BYTES = 16384  # of what http-backend puts before its body; really some 200
_SERVICES = ("git-upload-pack", "git-receive-pack")
_PROTOCOL = re.compile(r"[a-z0-9=:.-]{1,100}")

_log = logging.getLogger("gate.web")

Who = Callable[[str, str], str | None]  # (repository, token) → whose token it is
"""Name of the holder of a token; None: nobody holds it."""


def app(repositories: Mapping[str, Path], who: Who, *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """The web application: each repository at ``/<name>.git``. The mapping is read anew at each request."""
    routes = [
        Route("/{name}.git/info/refs", _Git(repositories, who, max_body_bytes, service=None), methods=["GET"]),
        *(
            Route(f"/{{name}}.git/{service}", _Git(repositories, who, max_body_bytes, service=service), methods=["POST"])
            for service in _SERVICES
        ),
    ]
    return Starlette(routes=routes)


class _Git:
    """One request of the smart protocol. service None: the advertisement of refs, whose query names the service."""

    def __init__(self, repositories: Mapping[str, Path], who: Who, max_body_bytes: int, *, service: str | None) -> None:
        self._repositories = repositories
        self._who = who
        self._max_body_bytes = max_body_bytes
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._admit(scope)
        if isinstance(answer, Response):
            _note(scope, answer.status_code)
            await answer(scope, receive, send)
            return
        await _serve_git(answer, self._max_body_bytes, scope, receive, send)

    def _admit(self, scope: Scope) -> "Response | dict[str, str]":
        """The environment for http-backend, or the answer to a request that git never sees."""
        headers = Headers(scope=scope)
        repository = self._repositories.get(scope["path_params"]["name"])
        service = self._service or _asked_service(scope)
        if service is None:
            return _say(403, "this is Git's smart protocol only: use git clone, fetch or push")
        name = ""
        if "authorization" in headers:
            token = _token(headers["authorization"])
            known = self._who(scope["path_params"]["name"], token) if token else None
            if known is None:
                return _unauthorized("this token is not known here, or was revoked")
            name = known
        if not name and service == "git-receive-pack":
            return _unauthorized("to push, give your token as the password; gate token add NAME makes one")
        if repository is None:
            return _say(404, "no such repository is served here")
        extra = {
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(repository.absolute()),
            "REQUEST_METHOD": scope["method"],
            "REMOTE_ADDR": scope["client"][0] if scope.get("client") else "",
            "PATH_INFO": f"/{self._service}" if self._service else "/info/refs",
            "QUERY_STRING": "" if self._service else f"service={service}",
        }
        if name:
            extra |= {"REMOTE_USER": name, "GATE_USER": name}
        if _PROTOCOL.fullmatch(headers.get("git-protocol", "")):
            extra["GIT_PROTOCOL"] = headers["git-protocol"]
        if self._service:
            refusal = self._describe_body(headers, extra)
            if refusal is not None:
                return refusal
        return git_environment(extra)

    def _describe_body(self, headers: Headers, extra: dict[str, str]) -> Response | None:
        """Add what http-backend must know of the body, or refuse it."""
        if headers.get("content-type") != f"application/x-{self._service}-request":
            return _say(415, f"the body of this request is not a {self._service} request")
        extra["CONTENT_TYPE"] = headers["content-type"]
        encoding = headers.get("content-encoding", "identity")
        if encoding in ("gzip", "x-gzip"):
            extra["HTTP_CONTENT_ENCODING"] = "gzip"
        elif encoding != "identity":
            return _say(415, "the body may be compressed by gzip only")
        length = headers.get("content-length")
        if length is not None:
            if not (length.isascii() and length.isdecimal()):
                return _say(400, "Content-Length is no number")
            if int(length) > self._max_body_bytes:
                return _too_large(self._max_body_bytes)
            extra["CONTENT_LENGTH"] = length
        return None


def _asked_service(scope: Scope) -> str | None:
    asked = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10).get("service", [])
    return asked[0] if len(asked) == 1 and asked[0] in _SERVICES else None


def _token(authorization: str) -> str:
    """The password of HTTP basic authentication; "" when there is none. The user name is not looked at."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _say(status: int, text: str) -> Response:
    return PlainTextResponse(f"gate: {text}\n", status)


def _unauthorized(text: str) -> Response:
    response = _say(401, text)
    response.headers["WWW-Authenticate"] = 'Basic realm="gate", charset="UTF-8"'
    return response


def _too_large(most: int) -> Response:
    return _say(413, f"the request is larger than {most / 1e6:.0f} MB, which is all that this server takes")


def _note(scope: Scope, status: int, name: str = "") -> None:
    """One line per request: never a header, never a query."""
    _log.info("%s %s %d %s", scope["method"], scope["path"].encode("unicode_escape").decode(), status, name or "-")


async def _serve_git(env: Mapping[str, str], max_body_bytes: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Let http-backend answer: the body goes in and the answer out as they come."""
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as cause:
        _log.error("git http-backend cannot be started: %s", cause)
        await _say(500, "git cannot be started on the server")(scope, receive, send)
        return
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, receive, max_body_bytes))
    listening = asyncio.create_task(_log_words(process.stderr))
    try:
        start = await _read_head(process.stdout)
        if start is None:
            await _say(500, "git http-backend failed; the log of the gate tells why")(scope, receive, send)
        else:
            _note(scope, start["status"], env.get("GATE_USER", ""))
            await send(start)
        # Read on in any case, also when the client has left and send does nothing any more: git must not be
        # stopped by a full pipe in the middle of its work.
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            if start is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if start is not None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        await process.wait()
    finally:
        # Reached with a running child only when the server is being closed. SIGTERM lets http-backend end its own child.
        if process.returncode is None:
            process.terminate()
        for task in (feeding, listening):
            task.cancel()
        await asyncio.gather(feeding, listening, return_exceptions=True)


async def _feed(stdin: asyncio.StreamWriter, receive: Receive, max_bytes: int) -> None:
    """Pass the body on. Ends with it, with the client, or at the limit: git then sees an end of file in the middle, and
    fails the request in its own words. A status cannot tell, since http-backend gives its own before it reads."""
    seen = 0
    try:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            chunk = message.get("body", b"")
            seen += len(chunk)
            if seen > max_bytes:
                _log.warning("a request was cut off: larger than %d bytes, which it had not announced", max_bytes)
                break
            stdin.write(chunk)
            await stdin.drain()
            if not message.get("more_body", False):
                break
    except ConnectionError:  # git has read all that it wanted
        return
    finally:
        stdin.close()


async def _read_head(stdout: asyncio.StreamReader) -> Message | None:
    """The start of the answer, from the header lines of a CGI program; None when it gave none."""
    status = 200
    headers: list[tuple[bytes, bytes]] = []
    seen = 0
    while (line := await stdout.readline()).strip():
        seen += len(line)
        name, colon, value = line.strip().partition(b":")
        if not colon or seen > _MAX_HEAD_BYTES:
            return None
        if name.lower() == b"status":
            status = int(value.split()[0])
        else:
            headers.append((name.lower(), value.strip()))
    if not line:
        return None
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _log_words(stderr: asyncio.StreamReader) -> None:
    while chunk := await stderr.read(_CHUNK_BYTES):
        for line in chunk.decode("utf-8", "replace").splitlines():
            _log.info("git http-backend: %s", line.encode("unicode_escape").decode())


# --- the server ---------------------------------------------------------------------------------------------------------


class Handle:
    """A running web server. ``close`` may be called twice."""

    def __init__(self, server: uvicorn.Server, thread: threading.Thread, host: str, port: int) -> None:
        self._server = server
        self._thread = thread
        self.port = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Take no more requests, give the open ones SHUTDOWN_S seconds, and end."""
        self._server.should_exit = True
        self._thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answered = threading.Event()  # set when the start has succeeded or failed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answered.set()


def serve(application: Starlette, host: str, port: int) -> Handle:
    """Serve in a thread of its own, from when this returns. port 0: any that is free, see ``Handle.port``.

    Raises UserError when the address cannot be taken, Unavailable when the server does not start.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as cause:
        raise UserError(
            f"cannot listen at {host}, port {port}: {cause.strerror or cause}; choose another with --http"
        ) from cause
    server = _Server(
        uvicorn.Config(
            application,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )

    def run() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            listener.close()
            server.answered.set()

    thread = threading.Thread(target=run, name="gate-http", daemon=True)
    thread.start()
    server.answered.wait()
    if not server.started:
        thread.join()
        raise Unavailable(f"the web server at {host}, port {port} did not start; its log tells why")
    return Handle(server, thread, host, listener.getsockname()[1])
