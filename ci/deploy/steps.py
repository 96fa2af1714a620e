"""Runs steps as local processes that outlive their controller, and finds out what became of them.

A step runs under a small /bin/sh shim in a session of its own. Its output goes to a file (a pipe would break under the
command when the controller dies). Beside it lie, each written in one piece by hard link so that the first writer wins:

    <step>.pid   the shim's process id, written before the command starts. It is the claim: a second shim for the same step
                 ends at once, which is why a step may be started again when nobody knows whether it ever was.
    <step>.rc    how it ended: the exit code, or "timed out" by the controller that killed it.

Nothing here is sandboxed: deploys need the network and secrets, and only code that trunk has accepted and found green runs.
"""

import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ci import processes

GRACE_S = 5.0  # between asking a session to end and killing it
TIMED_OUT = "timed out"
_LOG_TAIL_BYTES = 4096

# $1: path without suffix, $2: working folder. "$$" is the shim itself: a subshell would keep the number, an exec would not.
# Its own words, such as "Terminated" for a command that a signal ends, would stand in the log as the last of the step's.
_SHIM = """
base=$1 folder=$2
shift 2
cd -- "$folder" || exit
keep() { echo "$1" >"$base.$$" && ln "$base.$$" "$base.$2" 2>/dev/null; kept=$?; rm -f "$base.$$"; return $kept; }
keep $$ pid || exit
exec 3>&2 2>/dev/null
( exec 2>&3 3>&-; exec "$@" )
keep $? rc
"""


@dataclass(frozen=True, slots=True)
class Order:
    """A step to run. base: absolute path of its files without suffix, unique to the step."""

    step: str
    base: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    timeout_s: float

    @property
    def log(self) -> Path:
        return self.base.with_name(f"{self.base.name}.log")


@dataclass(frozen=True, slots=True)
class StepEnd:
    """outcome: done, failed, timed out, unknown."""

    step: str
    outcome: str
    exit_code: int | None = None
    reason: str = ""


@dataclass(slots=True)
class _Watched:
    order: Order
    pid: int
    kill_at: float
    asked_to_end: bool = False


class Steps:
    """The steps that run on this machine, watched by one thread. The methods are for one caller at a time.

    on_end is called from that thread whenever ``collect`` has news.
    """

    def __init__(self, on_end: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._on_end = on_end
        self._clock = clock
        self._lock = threading.Lock()  # guards the next two
        self._watched: dict[int, _Watched] = {}  # by pid file descriptor
        self._ended: list[StepEnd] = []
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._is_closing = False
        self._thread = threading.Thread(target=self._watch, name="deploy-steps", daemon=True)
        self._thread.start()

    def start(self, order: Order) -> None:
        """Start a step; when a process of it is already there, watch that one instead. How it ends comes by ``collect``."""
        if not order.argv:
            self._report(StepEnd(order.step, "failed", reason="no command is configured for it"))
            return
        try:
            pid = _spawn(order)
        except (OSError, ValueError) as wrong:
            self._report(StepEnd(order.step, "failed", reason=f"cannot be started: {wrong}"))
            return
        self._watch_process(order, pid, self._clock() + order.timeout_s)

    def resume(self, order: Order, sent_at: float) -> None:
        """Pick up a step that an earlier controller has sent, and start it if that controller never came to do so.

        A step sent before the machine last booted is not started: what the disk remembers of it may be less than what
        happened.
        """
        seen = _look(order.base)
        if seen == "absent" and sent_at > booted_at():
            self.start(order)
        elif isinstance(seen, int):
            self._watch_process(order, seen, sent_at + order.timeout_s)
        else:
            self._report(_end_of(order, "lost" if seen == "absent" else seen))

    def collect(self) -> tuple[StepEnd, ...]:
        """The steps that ended since the last call."""
        with self._lock:
            ended, self._ended = tuple(self._ended), []
        return ended

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits to be collected."""
        with self._lock:
            return not self._watched and not self._ended

    def close(self) -> None:
        """Stop watching. What runs goes on; a later ``resume`` finds it."""
        self._is_closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched.clear()
        self._selector.close()
        os.close(self._wake)

    # --- the watching thread ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._is_closing:
            with self._lock:
                next_kill = min((watched.kill_at for watched in self._watched.values()), default=None)
            timeout_s = None if next_kill is None else max(next_kill - self._clock(), 0.0)
            for key, _ in self._selector.select(timeout_s):
                if key.fd == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                else:
                    self._finish(key.fd)
            now = self._clock()
            with self._lock:
                late = [watched for watched in self._watched.values() if watched.kill_at <= now]
            for watched in late:
                _end_late(watched, now)

    def _finish(self, descriptor: int) -> None:
        """The process behind the descriptor is gone: settle what became of its step.

        It counts as watched until its end can be collected: in between nobody may find us idle.
        """
        with self._lock:
            watched = self._watched[descriptor]
        self._selector.unregister(descriptor)
        if watched.asked_to_end:
            processes.kill_until_gone(lambda: processes.family(watched.pid))
        with suppress(ChildProcessError):  # a process that an earlier controller started is not ours to reap
            os.waitpid(watched.pid, 0)
        seen = _look(watched.order.base)
        if isinstance(seen, int):  # our shim lost the claim to one that was started before it
            self._watch_process(watched.order, seen, watched.kill_at)
            with self._lock:
                del self._watched[descriptor]
        else:
            self._report(_end_of(watched.order, seen), descriptor)
        os.close(descriptor)

    def _watch_process(self, order: Order, pid: int, kill_at: float) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            seen = _look(order.base)
            self._report(_end_of(order, "lost" if isinstance(seen, int) else seen))
            return
        with self._lock:
            self._watched[descriptor] = _Watched(order, pid, kill_at)
        self._selector.register(descriptor, selectors.EVENT_READ)
        os.eventfd_write(self._wake, 1)

    def _report(self, end: StepEnd, descriptor: int = -1) -> None:
        """descriptor: of the process that was watched; -1: none was."""
        with self._lock:
            self._ended.append(end)
            self._watched.pop(descriptor, None)
        self._on_end()


def _spawn(order: Order) -> int:
    """Start the shim in a session of its own and return its process id."""
    order.base.parent.mkdir(parents=True, exist_ok=True)
    return os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _SHIM, "gate-step", str(order.base), str(order.folder), *order.argv],
        dict(order.env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(order.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )


def _look(base: Path) -> int | str:
    """What became of a step: the process id of its living shim, the words in its rc file, "absent" or "lost"."""
    pid = _read(base, "pid")
    if pid is not None and pid.isdigit() and _is_shim(int(pid), base):
        return int(pid)
    ended = _read(base, "rc")  # only after the look at the process: it may have ended in between
    if ended is not None:
        return ended
    return "absent" if pid is None else "lost"


def _read(base: Path, suffix: str) -> str | None:
    try:
        return base.with_name(f"{base.name}.{suffix}").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def _is_shim(pid: int, base: Path) -> bool:
    """Whether that process is the shim of that step, and not one that got its number later. A zombie is not."""
    try:
        return os.fsencode(base) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _end_of(order: Order, seen: str) -> StepEnd:
    if seen == "0":
        return StepEnd(order.step, "done", 0)
    said = _last_line(order.log)
    if seen == TIMED_OUT:
        return StepEnd(order.step, TIMED_OUT, reason=said)
    if seen.isdigit():
        return StepEnd(order.step, "failed", int(seen), f"exit code {seen}{': ' if said else ''}{said}")
    if seen == "absent":
        return StepEnd(order.step, "failed", reason=f"cannot be started{': ' if said else ''}{said}")
    return StepEnd(order.step, "unknown", reason="its process is gone and has left no exit code")


def _last_line(log: Path) -> str:
    """The last line with something in it, fit for a terminal."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(letter if letter.isprintable() else "?" for letter in last)[:200]


def _end_late(watched: _Watched, now: float) -> None:
    """First ask, later kill. The words are written first: when the step ended by itself a moment ago, its own stand."""
    if not watched.asked_to_end:
        _keep(watched.order.base, "rc", TIMED_OUT)
    number = signal.SIGKILL if watched.asked_to_end else signal.SIGTERM
    processes.send(number, processes.family(watched.pid))
    watched.asked_to_end = True
    watched.kill_at = now + GRACE_S


def _keep(base: Path, suffix: str, words: str) -> None:
    """Write a file in one piece unless it is there already, as the shim does."""
    temporary = base.with_name(f"{base.name}.{os.getpid()}-gate")
    with suppress(OSError):  # on a full disk the words are lost and the step's end is "unknown"; it is ended all the same
        temporary.write_text(f"{words}\n")
        base.with_name(f"{base.name}.{suffix}").hardlink_to(temporary)
    temporary.unlink(missing_ok=True)


def booted_at() -> float:
    """When the machine was started, epoch seconds UTC."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
