"""A whole gate on real Git: a bare repository with the hooks installed, a developer's clone, and the daemon in process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.repositories import Repository, git_env
from gate import commands
from gate.install import init_bare
from gate.serve import open_server
from gate.state import State

PLAIN = '[run]\nisolation = "plain"\nworkers = 2\n'
PARTS = (
    PLAIN
    + """
[[check]]
name = "a"
command = "sh a/check.sh"
inputs = ["a/"]

[[check]]
name = "b"
command = "sh b/check.sh"
inputs = ["b/"]
"""
)


@dataclass(frozen=True)
class Push:
    """How a push ended for the one who pushed."""

    code: int
    said: str

    @property
    def change(self) -> int:
        """The number that the gate gave it."""
        return int(self.said.split("change ")[1].split()[0])


class Stand:
    """One gated repository. ``settle`` does what a daemon would do until nothing is left to do."""

    def __init__(self, folder: Path, config: str, files: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.server = Repository.create(folder / "srv.git", bare=True)
        init_bare(self.server.path)
        self.dev = self.server.clone(folder / "dev")
        self.dev.git("checkout", "-q", "-B", "main")
        self.dev.commit("first", {"gate.toml": config, **(files or {})})
        self.dev.git("push", "-q", "origin", "main")

    @property
    def path(self) -> Path:
        return self.server.path

    def trunk(self) -> str:
        return self.server.head("refs/heads/main")

    def show(self, path: str, ref: str = "refs/heads/main") -> str | None:
        found = self.server.run("cat-file", "blob", f"{ref}:{path}")
        return found.stdout.decode() if found.returncode == 0 else None

    def branch(self, message: str, files: Mapping[str, str | bytes | None], base: str = "origin/main", **env: str) -> str:
        """A commit on a new branch off ``base``; the clone stands on it."""
        self.dev.git("fetch", "-q", "origin")
        self.dev.git("checkout", "-q", "--detach", base)
        return self.dev.commit(message, files, **env)

    def push(self, *options: str, what: str = "HEAD", to: str = "refs/for/main", by: str = "ann") -> Push:
        words = [word for option in options for word in ("-o", option)]
        done = self.dev.run("push", *words, "origin", f"{what}:{to}", env={"GATE_USER": by})
        return Push(done.returncode, done.stderr.decode(errors="replace"))

    def start_push(self, *options: str, by: str = "ann") -> "subprocess.Popen[bytes]":
        """A push in a process group of its own, for a test that interrupts it."""
        words = [word for option in options for word in ("-o", option)]
        return subprocess.Popen(
            ["git", "push", *words, "origin", "HEAD:refs/for/main"],
            cwd=self.dev.path,
            env=git_env(GATE_USER=by),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def submit(self, message: str, files: Mapping[str, str | bytes | None], *options: str, by: str = "ann") -> int:
        """A change off trunk as it is now; its number."""
        self.branch(message, files)
        pushed = self.push(*options, by=by)
        assert pushed.code == 0, pushed.said
        return pushed.change

    def settle(self) -> None:
        server = open_server([self.path])
        try:
            server.run(until_idle=True)
        finally:
            server.close()

    def state(self) -> State:
        with commands.office(self.path) as at:
            return at.state

    def verdict(self, change: int) -> str | None:
        found = self.state().verdicts.get(change)  # type: ignore[call-overload]
        return None if found is None else found.value

    def why(self, change: int) -> dict[str, Any]:
        with commands.office(self.path) as at:
            return commands.why(at, change)

    def gate(self, *words: str, by: str = "ann") -> subprocess.CompletedProcess[str]:
        """The installed program, as a person on the server would call it."""
        program = str(Path(sys.executable).parent / "gate")
        env = git_env(GATE_USER=by, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        return subprocess.run(
            [program, *words], env=env, cwd=self.path, capture_output=True, text=True, check=False, timeout=60
        )

    def gate_json(self, *words: str, by: str = "ann") -> Any:
        done = self.gate(*words, "--json", by=by)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def daemon_log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def daemon(self, *words: str) -> "Daemon":
        return Daemon(self, *words)


class Daemon:
    """``gate serve`` as a process of its own."""

    def __init__(self, stand: Stand, *words: str) -> None:
        self.log = stand.folder / "serve.log"
        env = git_env(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "gate"), "serve", str(stand.path), *words],
                stdout=out,
                stderr=out,
                env=env,
            )
        wait_for(lambda: b"serving" in self.log.read_bytes() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)


def wait_for(happened: Any, within_s: float = 30.0) -> None:
    """Poll until something is so: for what another process does. Fails the test when it never is."""
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
