"""Daemons that are killed at a chosen effect: SIGKILL to themselves, so that nothing of Python's own clearing up happens.

A daemon is forked from a small process that has imported everything and started no thread: milliseconds instead of the
import. It is killed ahead of its k-th effect, for every k behind the one before: an effect is whatever outlives the process
(a transaction of the journal, a git command that writes more than objects, a started process, a verdict in a feed).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from fakes.repositories import git_env

CLEAN_UP = "import sys; sys.path[:0] = sys.argv[1:]; from fakes.crashing import main; main()"

# Those that only add objects to the repository are no effects: nothing refers to what they add.
WRITING = ("update-ref", "update-index", "checkout-index", "read-tree", "checkout", "clean", "init")


@dataclass(frozen=True)
class Life:
    """How a daemon ended. effects: how many it had. boundary: where it was killed; "": it lived until nothing was left."""

    effects: int
    boundary: str
    code: int


class Nursery:
    """Starts daemons quickly. For one thread at a time."""

    def __init__(self) -> None:
        paths = [str(Path(__file__).parent.parent.parent), str(Path(__file__).parent.parent)]
        env = git_env(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLEAN_UP, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(timeout=10) == 0

    def live(self, repo: Path, log: Path, kill_at: int | None = None, env: Mapping[str, str] | None = None) -> Life:
        """A daemon that serves until idle, or is killed at its ``kill_at``-th boundary."""
        self.start(repo, log, kill_at, env)
        return self.end()

    def start(self, repo: Path, log: Path, kill_at: int | None = None, env: Mapping[str, str] | None = None) -> int:
        """Start a daemon; its process id, for those who want to kill it themselves."""
        order = {"repo": str(repo), "log": str(log), "kill_at": kill_at, "env": dict(env or {})}
        return int(self._ask(json.dumps(order)))

    def end(self) -> Life:
        """Wait for the daemon that was started last."""
        return Life(**json.loads(self._ask("wait")))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


# --- in the small process ---------------------------------------------------------------------------------------------


def main() -> None:
    """Answer orders on standard input, one line each, until it is closed."""
    import git  # noqa: F401 - what every daemon would import by itself
    import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401

    import gate.serve  # noqa: F401

    daemon = 0
    report = -1
    for line in sys.stdin:
        if line == "wait\n":
            said = os.read(report, 4096).decode()  # empty when it was killed from outside
            code = os.waitstatus_to_exitcode(os.waitpid(daemon, 0)[1])
            os.close(report)
            effects, _, boundary = said.partition(" ")
            print(json.dumps({"effects": int(effects or 0), "boundary": boundary, "code": code}), flush=True)
            continue
        order = json.loads(line)
        report, end = os.pipe()
        daemon = os.fork()
        if daemon == 0:
            _be_a_daemon(order, end)
        os.close(end)
        print(daemon, flush=True)


def _be_a_daemon(order: dict[str, Any], report: int) -> None:
    from gate.serve import open_server

    code = 70
    os.setsid()  # killpg takes the daemon and its gits, and nothing of ours
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["env"])
        boundaries = Boundaries(order["kill_at"], report)
        boundaries.watch()
        server = open_server([Path(order["repo"])])
        try:
            server.run(until_idle=True)
        finally:
            server.close()
        os.write(report, f"{boundaries.count} ".encode())
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


class Boundaries:
    """Counts boundaries, and kills this very process at the chosen one."""

    def __init__(self, kill_at: int | None, report: int) -> None:
        self.count = 0
        self._kill_at = kill_at
        self._report = report
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Put a boundary ahead of everything that outlives the process."""
        from ci import run
        from ci.deploy import engine, steps
        from ci.git import ServerGit
        from gate.feed import Feed
        from gate.journal import Journal

        def git_word(_: object, *arguments: str, **more: object) -> str | None:
            return next((f"git {word}" for word in arguments if word in WRITING), None)

        self._ahead_of(Journal, "append", lambda _, *events, **more: "+".join(type(event).__name__ for event in events))
        self._ahead_of(ServerGit, "run", git_word)
        self._ahead_of(Feed, "_write", lambda _, *arguments: "verdict" if arguments[-1] else None)
        self._ahead_of(run._Process, "_record")
        self._ahead_of(steps, "_spawn")
        self._ahead_of(steps.Steps, "_watch_process")
        self._ahead_of(engine, "_remove_trees")

    def _ahead_of(self, owner: Any, name: str, detail: Callable[..., str | None] = lambda *_, **__: "") -> None:
        """detail: what to call this one; None: it is no effect."""
        plain = getattr(owner, name)

        @wraps(plain)
        def wrapped(*arguments: Any, **more: Any) -> Any:
            what = detail(*arguments, **more)
            if what is not None:
                self.reach(f"{name} {what}".strip())
            return plain(*arguments, **more)

        setattr(owner, name, wrapped)

    def reach(self, boundary: str) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._kill_at:
                os.write(self._report, f"{self.count} {boundary}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # the signal takes effect on the way out of the kernel, whichever thread is first
