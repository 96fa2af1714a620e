"""The daemon: one loop over the gates of one or several repositories, woken by hooks, workers and people's commands.

It decides nothing (gate/plan.py does), and owns nothing that the journal and Git do not hold: killed at any moment, it
starts again from them. Here the rooms meet: workers and deployer get the callables with which they reach the gate.
"""

import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci.errors import Unavailable, UserError
from ci.git import GitFailed
from ci.workers.local import LocalWorkers, reap
from gate.garbage import between_plans
from gate.gate import Gate
from gate.install import missing_hooks
from gate.journal import Journal
from gate.locks import STALE_AFTER_S, remove_stale
from gate.repository import Repository
from gate.tidy import EVERY_S, tidy

LOOK_EVERY_S = 5.0  # at the latest: a wake-up may get lost, and somebody may move trunk without one
PAUSE_AFTER_TROUBLE_S = 5.0  # before a repository whose disk or journal failed is tried again
IDLE_PATIENCE_S = 60.0  # --until-idle waits for a moment that is nearer than this, and leaves a later one to the next start

log = logging.getLogger("gate")


@dataclass(slots=True)
class Served:
    """One repository under the daemon. lock: held for as long as the daemon is responsible for it."""

    repository: Repository
    lock: int
    wake: int
    gate: Gate
    pause_until: float = 0.0
    tidy_at: float = 0.0
    unlock_at: float = 0.0
    trouble: Unavailable | None = None


@dataclass(slots=True)
class Server:
    """The repositories that one daemon serves."""

    served: list[Served] = field(default_factory=list)
    stopping: bool = False

    def run(
        self,
        *,
        until_idle: bool,
        clock: Callable[[], float] = time.time,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve until asked to stop; with ``until_idle`` until nothing is left that could go on by itself.

        With ``until_idle`` a repository in trouble raises Unavailable; else it is logged and tried again. on_wait: called
        before each wait, to show how far things are.
        """
        with _signals(self) as alarm, between_plans() as collect_garbage:
            while not self.stopping:
                happened = [self._turn(one, clock, until_idle=until_idle) for one in self.served]
                collect_garbage()
                if any(happened):
                    continue
                for one in self.served:
                    one.gate.publish()
                    if not until_idle:
                        _tidy_now_and_then(one, clock())
                    _unlock_now_and_then(one, clock())
                on_wait()
                if until_idle and all(one.gate.is_idle(clock() + IDLE_PATIENCE_S) for one in self.served):
                    return
                self._wait(alarm, clock())

    def close(self) -> None:
        """End the runs, and let go of the repositories."""
        for one in self.served:
            with contextlib.suppress(Unavailable):
                one.gate.close()
            one.gate.journal.close()
            os.close(one.wake)
            os.close(one.lock)
        self.served.clear()

    def _turn(self, one: Served, clock: Callable[[], float], *, until_idle: bool) -> bool:
        """One gate's turn. Trouble outside (disk, journal, git) keeps this repository waiting and no other."""
        if clock() < one.pause_until:
            return False
        try:
            happened = one.gate.turn()
        except (Unavailable, OSError) as trouble:
            found = _as_unavailable(trouble)
            if until_idle:
                raise found from trouble
            if one.trouble is None or str(one.trouble) != str(found):
                log.error("%s: %s; trying again every %.0f s", one.repository.name, found, PAUSE_AFTER_TROUBLE_S)
            one.trouble = found
            one.pause_until = clock() + PAUSE_AFTER_TROUBLE_S
            return False
        if one.trouble is not None:
            log.info("%s: going on after: %s", one.repository.name, one.trouble)
            one.trouble = None
        return happened

    def _wait(self, alarm: int, now: float) -> None:
        moments = [one.gate.wake_at for one in self.served if one.gate.wake_at is not None]
        moments += [one.pause_until for one in self.served if one.pause_until > now]
        timeout = max(0.0, min([LOOK_EVERY_S, *(moment - now for moment in moments)]))
        ready, _, _ = select.select([alarm, *(one.wake for one in self.served)], [], [], timeout)
        for handle in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(handle, 4096)  # how many woke us, and how often, does not matter


def open_server(paths: Sequence[Path], clock: Callable[[], float] = time.time) -> Server:
    """Take responsibility for the repositories. Raises UserError or Unavailable; then none of them is held."""
    server = Server()
    try:
        for path in paths:
            server.served.append(_serve(path, clock, tuple(other.resolve() for other in paths)))
    except BaseException:
        server.close()
        raise
    return server


def _serve(path: Path, clock: Callable[[], float], hidden: tuple[Path, ...]) -> Served:
    """hidden: folders that no check may see, which are those of all repositories served."""
    repository = Repository(path)
    repository.require_installed()
    try:
        lock = _lock(repository)
    except OSError as cause:
        raise _as_unavailable(cause) from cause
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, lock)
        try:
            reap(repository.folder)
            remove_stale(repository.git_dir, clock())
            wake = _open_wake(repository.folder)
        except OSError as cause:
            raise _as_unavailable(cause) from cause
        on_failure.callback(os.close, wake)
        journal = Journal(repository.journal_path)
        on_failure.callback(journal.close)

        def poke() -> None:
            with contextlib.suppress(BlockingIOError):  # full: the loop has been told often enough
                os.write(wake, b"w")

        gate = Gate(
            repository,
            journal,
            lambda settings, on_end: LocalWorkers(
                repository.git, repository.folder, settings._replace(hidden=(*settings.hidden, *hidden)), on_end
            ),
            poke,
            clock,
        )
        gate.start()
        on_failure.pop_all()
    for sentence in missing_hooks(repository.git):
        log.warning("%s: %s", repository.name, sentence)
    return Served(repository, lock, wake, gate)


def _lock(repository: Repository) -> int:
    handle = os.open(repository.folder / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for pause_s in (*([0.05] * 10), None):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause_s is not None:
                time.sleep(pause_s)  # a hook that asks whether a daemon runs holds the lock for a moment
        else:
            return handle
    os.close(handle)
    raise UserError(f"another 'gate serve' has {repository.git_dir} already: stop it first, or leave this one out")


def _open_wake(folder: Path) -> int:
    """The FIFO that hooks write to. Opened for both ends, so that it neither blocks nor ever ends."""
    path = folder / "wake"
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _unlock_now_and_then(one: Served, now: float) -> None:
    """A hook's git may be killed too, and its lock would keep every later push out."""
    if now >= one.unlock_at:
        one.unlock_at = now + STALE_AFTER_S
        remove_stale(one.repository.git_dir, now)


def _tidy_now_and_then(one: Served, now: float) -> None:
    """Once an hour, beside the loop: git's housekeeping may take minutes."""
    if now < one.tidy_at:
        return
    is_first = one.tidy_at == 0.0
    one.tidy_at = now + EVERY_S
    if is_first:
        return  # not in the first moments of a daemon

    def work() -> None:
        try:
            tidy(one.repository, one.gate.journal, now)
        except (Unavailable, OSError) as trouble:
            log.warning("%s: could not tidy up: %s", one.repository.name, trouble)

    threading.Thread(target=work, name="tidy", daemon=True).start()


def _as_unavailable(trouble: Exception) -> Unavailable:
    if isinstance(trouble, GitFailed) and "No space left" in trouble.end.err:
        return Unavailable(f"the disk is full ({trouble}): free some space; nothing was lost, and trunk was not touched")
    if isinstance(trouble, Unavailable):
        return trouble
    assert isinstance(trouble, OSError)
    if trouble.errno == errno.ENOSPC:
        return Unavailable("the disk is full: free some space; nothing was lost, and trunk was not touched")
    if trouble.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Unavailable(
            f"{trouble.filename} cannot be written ({trouble.strerror}): the gate needs its repository writable"
        )
    return Unavailable(f"{trouble.filename or 'the system'}: {trouble.strerror or trouble}")


@contextlib.contextmanager
def _signals(server: Server) -> Iterator[int]:
    """SIGTERM and SIGINT end the loop after the present turn. Yields a handle that is readable when one came."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop(_number: int, _frame: object) -> None:
        server.stopping = True
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"s")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
