"""Runs one check once, in a folder that somebody else made, and says what it came to.

Owns the environment of a check, its command line, its output, its end by itself, by time or by request, and what counts
as the check's own word: exit status 0 is green, anything else red, and when the check could not have its say (its program
is not installed, something outside killed it) that is an infrastructure error. Used by the gate's workers and by
``gate check`` alike; imports only the standard library until there is a report to read.
"""

import os
import pwd
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum, auto
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from ci import processes, sandbox
from ci.errors import Unavailable
from ci.model import Check, Outcome, RunEnd, RunRequest, TestCase
from ci.sandbox import Isolation
from ci.workspace import Place

if TYPE_CHECKING:
    from ci.report import Stamp

BATCH_BYTES = 100_000  # of file names in one command line: Linux takes 128 kB per word, and 2 MB with the environment

_TICK_S = 0.1  # how late a cancellation may be noticed
_GRACE_S = 2.0  # between asking a check to end and ending it
_GONE_WITHIN_S = 5.0  # that a killed sandbox takes at most to be gone
_CHUNK_BYTES = 1 << 16
_TAIL_BYTES = 4096
_DRAIN_BYTES = 10_000_000  # read after the end; more can only come from a process that got away

_CHILD_PID = re.compile(rb'"child-pid": (\d+)')
_PLACEHOLDERS = {many: re.compile(rf"\{{({many}|junit|commit)\}}") for many in ("files", "tests")}
_SHELL_PARAMETER = {"files": '"$@"', "tests": '"$@"', "junit": '"$GATE_JUNIT"', "commit": '"$GATE_COMMIT"'}

# What /bin/sh says when it finds no program: dash, bash and busybox, for a word of a script and for exec.
_SHELL_MISSED = re.compile(
    rb"^(?:/bin/)?sh: (?:line )?(?:\d+: )?(?:exec: )?(?:line \d+: )?(?P<name>[^\n]+?): "
    rb"(?:command not found|not found|No such file or directory|Permission denied|cannot execute[^\n]*)\s*\Z",
    re.MULTILINE,
)


class RunSettings(NamedTuple):
    """Where and how checks run on this machine.

    isolation: auto, bubblewrap or plain. read: more folders that checks may read, where home folders are hidden.
    pass_env: names of our own variables that checks may see. hidden: folders that no check may see.
    """

    workers: int = 2
    isolation: str = "auto"
    read: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    log_max_bytes: int = 20_000_000
    hidden: tuple[Path, ...] = ()


def run_check(request: RunRequest, place: Place, settings: RunSettings, log: Path, cancelled: threading.Event) -> RunEnd:
    """Run a check in a place and wait for its end. All of its processes are gone when this returns.

    log: made when there is output, and appended to as the output comes. cancelled: set it, from any thread, to end the
    run early; the end then has no outcome. Must be called from a thread that lives as long as the run. The ``log`` of the
    end is left empty: where logs lie is the caller's to know. Raises Unavailable when the isolation asked for is not there.
    """
    isolation = sandbox.choose(settings.isolation)
    check = request.check
    files = _from_folder(check.folder, request.files if request.files is not None else place.files)
    if check.names_files and not files and not request.tests:
        now = time.time()
        reason = "nothing to do: no file matches"
        return RunEnd(request, Outcome.GREEN, now, now, isolation=isolation, reason=reason)
    started_at = time.time()
    given = [] if check.fix or place.altered is None else [place.folder / check.folder / name for name in files or ()]
    stamps = [*map(_stamp, given)]
    placed = _placed_reports(check, place)
    deadline = time.monotonic() + check.timeout_s
    ends: list[_End] = []
    tests: list[TestCase] = []
    with _scratch(place) as scratch, _Log(log, settings.log_max_bytes) as output:
        for number, words_for in enumerate(_commands(request, files or ())):
            junit = scratch / (f"junit-{number}.xml" if number else "junit.xml")
            env = environment(request, place, settings, scratch, junit, isolation)
            process = _Process(words_for(env), env, request, place, settings, scratch, isolation)
            end = process.run(output, deadline, cancelled)
            ends.append(end)
            before, placed = placed, _placed_reports(check, place)
            new = [path for path, stamp in placed.items() if before.get(path) != stamp]
            tests += _tests(place.folder / check.folder, junit, new, output)
            if end.how is not _How.ENDED or end.missing:
                break
    outcome, reason = _judge(check, ends, tests, _last_words(output.tail))
    if request.tests and outcome in (Outcome.GREEN, Outcome.RED):
        outcome, reason = _judge_retest(request.tests, outcome, reason, tests)
    altered: tuple[str, ...] = ()
    if check.fix and place.altered is not None and outcome in (Outcome.GREEN, Outcome.RED):
        altered = place.altered()
        if altered:
            outcome, reason = Outcome.RED, _altered_files(altered)
    elif outcome is Outcome.GREEN and place.altered is not None and stamps != [*map(_stamp, given)]:
        handed = {os.path.normpath(os.path.join(check.folder, name)) for name in files or ()}  # noqa: PTH118 - as paths of a tree
        if rewritten := [path for path in place.altered() if path in handed]:
            outcome, reason = Outcome.RED, _rewritten_files(rewritten)
    exit_code = next((end.code for end in ends if end.code), 0)
    return RunEnd(
        request,
        outcome,
        started_at,
        time.time(),
        exit_code=None if outcome is None else exit_code,
        isolation=isolation,
        reason=reason,
        tests=tuple(tests),
        altered=altered,
    )


def _from_folder(folder: str, files: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """These paths of the tree as they are called in one of its folders."""
    if not folder or files is None:
        return files
    front = f"{folder}/"
    return tuple(path.removeprefix(front) if path.startswith(front) else os.path.relpath(path, folder) for path in files)


# --- what the check is told ---------------------------------------------------------------------------------------------


def environment(
    request: RunRequest, place: Place, settings: RunSettings, scratch: Path, junit: Path, isolation: Isolation
) -> dict[str, str]:
    """The whole environment of a check: built, not inherited. docs/reference/checks.md lists it."""
    check = request.check
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    temporary = Path("/tmp")  # noqa: S108 - the sandbox's own
    if isolation is Isolation.PLAIN:
        temporary = scratch / "tmp"
        temporary.mkdir(exist_ok=True)
    user = _user_name()
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "USER": user,
        "LOGNAME": user,
        "CI": "true",
    }
    if place.ceiling is not None:
        # The gate's folders lie inside a bare repository: without this a git in a check would find it on its way up.
        env["GIT_CEILING_DIRECTORIES"] = str(place.ceiling)
    env |= {name: os.environ[name] for name in settings.pass_env if name in os.environ}
    env |= dict(check.env)
    known = {"GATE_CHANGE": request.change, "GATE_BASE": request.base}
    env |= {name: value for name, value in known.items() if value}
    return env | {
        "GATE": "1",
        "GATE_CHECK": check.name,
        "GATE_STAGE": check.stage,
        "GATE_RUN": request.run,
        "GATE_COMMIT": request.commit,
        "GATE_JUNIT": str(junit),
        processes.MARK: str(scratch),
    }


def _commands(request: RunRequest, files: Sequence[str]) -> Iterator[Callable[[Mapping[str, str]], list[str]]]:
    """The commands to run one after the other, each as what its words are in an environment."""
    check = request.check
    if request.tests:
        if check.retest is None:
            raise Unavailable(f"check {check.name!r} does not say how to run single tests")
        yield partial(command_line, check.retest, "tests", request.tests)
        return
    for batch in _batches(check, files):
        yield partial(
            command_line, check.command, "files", [f"./{path}" if path.startswith("-") else path for path in batch]
        )


def command_line(command: str | tuple[str, ...], many: str, given: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The words of a command. Both forms go through /bin/sh, which tells a missing program from a failing one.

    many: the placeholder that stands for all of ``given``: files or tests.
    """
    placeholder = _PLACEHOLDERS[many]
    if isinstance(command, str):
        text = placeholder.sub(lambda found: _SHELL_PARAMETER[found[1]], command)
        return ["/bin/sh", "-c", text, "sh", *given]
    words: list[str] = []
    for word in command:
        # One pass: what has been put in is never looked through again.
        for one in given if f"{{{many}}}" in word else ("",):
            values = {many: one, "junit": env["GATE_JUNIT"], "commit": env["GATE_COMMIT"]}
            words.append(placeholder.sub(lambda found, values=values: values[found[1]], word))  # type: ignore[misc]
    return ["/bin/sh", "-c", 'exec "$@"', "sh", *words]


def _batches(check: Check, files: Sequence[str]) -> Iterator[tuple[str, ...]]:
    if not check.names_files:
        yield ()
        return
    batch: list[str] = []
    size = 0
    for path in files:
        length = len(os.fsencode(path)) + 3
        if batch and size + length > BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(path)
        size += length
    yield tuple(batch)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run us under a number that has no name
        return "gate"


@contextmanager
def _scratch(place: Place) -> Iterator[Path]:
    """The run's private folder: home, temporary files, report. The place's own, or one for this call."""
    if place.scratch is not None:
        yield place.scratch
        return
    import shutil  # only for a folder that somebody else made
    import tempfile

    made = Path(tempfile.mkdtemp(prefix="gate-")).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


# --- its output ---------------------------------------------------------------------------------------------------------


class _Log:
    """A log file that grows as the output comes, up to a limit. Keeps the last bytes in memory, whatever the limit."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._file: int | None = None
        self.tail = b""

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)

    def write(self, chunk: bytes) -> None:
        self.tail = (self.tail + chunk)[-_TAIL_BYTES:]
        if self._left <= 0:
            return
        kept = chunk[: self._left]
        self._left -= len(kept)
        self._append(kept)
        if self._left <= 0:
            self._append(f"\ngate: the output is longer than {self._max_bytes} bytes; the rest is dropped\n".encode())

    def note(self, text: str) -> None:
        """A line of ours: always kept, there are few."""
        self._append(f"gate: {text}\n".encode(errors="replace"))

    def _append(self, data: bytes) -> None:
        if self._file is None:
            for folder in (self._path.parent.parent, self._path.parent):  # and none above: of a repository that is gone
                folder.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        while data:
            data = data[os.write(self._file, data) :]


# --- its process --------------------------------------------------------------------------------------------------------


class _How(Enum):
    ENDED = auto()  # by itself
    TIMED_OUT = auto()
    CANCELLED = auto()
    NOT_STARTED = auto()


class _End(NamedTuple):
    """How one command ended. code: as a shell counts, 128 + signal for a death by signal. missing: a program not found."""

    how: _How
    code: int
    missing: str = ""
    detail: str = ""


class _Process:
    """One command of a check, from its start to the end of the last of its processes."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        request: RunRequest,
        place: Place,
        settings: RunSettings,
        scratch: Path,
        isolation: Isolation,
    ) -> None:
        self._words = words
        self._env = env
        self._request = request
        self._place = place
        self._settings = settings
        self._scratch = scratch
        self._isolation = isolation
        self._said = b""  # bubblewrap's own report
        self._first: int | None = None  # process 1 of the sandbox: when it is gone, so is all
        self._first_fd: int | None = None
        self._asked: dict[int, int | None] = {}  # to end, by process, with when it was started

    def run(self, output: _Log, deadline: float, cancelled: threading.Event) -> _End:
        with ExitStack() as stack:
            out, out_end = _pipe(stack)
            status, status_end = _pipe(stack)
            words = [*self._words]
            if self._isolation is Isolation.BUBBLEWRAP:
                words = [*self._front(status_end.fileno()), *words]
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=out_end,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._place.folder / (self._request.check.folder if self._isolation is Isolation.PLAIN else ""),
                    start_new_session=True,
                    umask=0o022,
                    pass_fds=(status_end.fileno(),) if self._isolation is Isolation.BUBBLEWRAP else (),
                )
            except OSError as wrong:
                return _End(_How.NOT_STARTED, 0, detail=f"it cannot be started: {wrong}")
            out_end.close()
            status_end.close()
            try:
                self._record(process.pid)
                how = self._follow(process, out, status, output, deadline, cancelled)
            finally:
                self._end_all(process, status)
                processes.record_path(self._scratch).unlink(missing_ok=True)
            _drain(out, output.write)
        return self._verdict(how, process.returncode, output.tail)

    def _front(self, status_fd: int) -> list[str]:
        return sandbox.bubblewrap(
            folder=self._place.folder,
            start=self._place.folder / self._request.check.folder,
            scratch=self._scratch,
            network=self._request.check.network,
            read=self._settings.read,
            hidden=self._settings.hidden,
            shown=self._place.shown,
            status_fd=status_fd,
            path=self._env["PATH"],
        )

    def _record(self, pid: int) -> None:
        """Whom to end should we be killed: see ``reap``. Nobody reaps for a run without a lasting scratch folder."""
        if self._place.scratch is not None:
            processes.record_path(self._scratch).write_text(f"{pid} {processes.start_ticks(pid)}\n")

    def _follow(
        self,
        process: "subprocess.Popen[bytes]",
        out: FileIO,
        status: FileIO,
        output: _Log,
        deadline: float,
        cancelled: threading.Event,
    ) -> _How:
        """Copy output until the command ends, or until it has been told to (time up, run cancelled) and had its grace."""
        hearers = {out.fileno(): output.write, status.fileno(): self._hear}
        poll = select.poll()
        for fd in hearers:
            poll.register(fd, select.POLLIN)
        how = _How.ENDED
        end_at = deadline
        while True:
            now = time.monotonic()
            if how is _How.ENDED and (cancelled.is_set() or now >= deadline):
                how = _How.CANCELLED if cancelled.is_set() else _How.TIMED_OUT
                self._ask_to_end(process)
                end_at = now + _GRACE_S
            elif now >= end_at:
                return how
            wait_s = min(_TICK_S, max(0.0, end_at - now))
            for fd, _ in poll.poll(wait_s * 1000) if hearers else ():
                chunk = os.read(fd, _CHUNK_BYTES)
                if chunk:
                    hearers[fd](chunk)
                else:
                    poll.unregister(fd)
                    del hearers[fd]
            if out.fileno() not in hearers:  # it ends now, or has closed its output and runs on
                with suppress(subprocess.TimeoutExpired):
                    process.wait(wait_s)
            if process.poll() is not None:
                return how

    def _ask_to_end(self, process: "subprocess.Popen[bytes]") -> None:
        pids = processes.marked(self._scratch) | processes.family(process.pid)
        if self._isolation is Isolation.BUBBLEWRAP:
            pids -= {process.pid, self._first or process.pid}  # they would end the rest without asking
        self._asked |= {pid: processes.start_ticks(pid) for pid in pids}
        processes.send(signal.SIGTERM, pids)

    def _end_all(self, process: "subprocess.Popen[bytes]", status: FileIO) -> None:
        """See to it that no process is left. The sandbox's process 1 takes all others with it, and is gone after them."""
        if self._isolation is Isolation.BUBBLEWRAP:
            if process.poll() is not None:
                _drain(status, self._hear)
            if self._first_fd is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
                gone = select.poll()
                gone.register(self._first_fd, select.POLLIN)
                gone.poll(_GONE_WITHIN_S * 1000)
                os.close(self._first_fd)
            if process.poll() is None:
                process.kill()
            process.wait()
            _drain(status, self._hear)
            return
        # Before anything is killed: whose parent is gone, and whose session is its own, is nobody's child any more.
        family = processes.family(process.pid)
        family |= {pid for pid, since in self._asked.items() if since and processes.start_ticks(pid) == since}
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        processes.kill_until_gone(lambda: family | processes.marked(self._scratch))

    def _hear(self, chunk: bytes) -> None:
        """bubblewrap reports, as lines of JSON, its process 1 at the start and the exit code at the end."""
        self._said += chunk
        found = _CHILD_PID.search(self._said)
        if found is not None and self._first is None:
            self._first = int(found[1])
            with suppress(OSError):  # it may be over already
                self._first_fd = os.pidfd_open(self._first)

    def _verdict(self, how: _How, returncode: int, tail: bytes) -> _End:
        code = 128 - returncode if returncode < 0 else returncode
        if how is not _How.ENDED:
            return _End(how, code)
        if self._isolation is Isolation.BUBBLEWRAP and b'"exit-code"' not in self._said and returncode >= 0:
            said = os.fsdecode(tail).strip().splitlines()
            return _End(_How.NOT_STARTED, code, detail=f"the sandbox failed: {said[-1] if said else f'exit code {code}'}")
        missed = _SHELL_MISSED.search(tail) if code in (126, 127) else None
        return _End(how, code, missing=os.fsdecode(missed["name"]) if missed else "")


def _pipe(stack: ExitStack) -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return stack.enter_context(FileIO(reading, "r")), stack.enter_context(FileIO(writing, "w"))


def _drain(source: FileIO, hear: Callable[[bytes], None]) -> None:
    """What is there to read, without waiting for more: a process that got away may hold the other end open."""
    os.set_blocking(source.fileno(), False)
    left = _DRAIN_BYTES
    with suppress(BlockingIOError):
        while left > 0 and (chunk := os.read(source.fileno(), _CHUNK_BYTES)):
            hear(chunk)
            left -= len(chunk)


# --- what it came to ----------------------------------------------------------------------------------------------------


def _last_words(tail: bytes) -> str:
    """The last line of output that says something, made harmless and short; "" when there is none."""
    lines = (line.strip() for line in reversed(tail.decode(errors="replace").splitlines()))
    words = "".join(letter if letter.isprintable() else "?" for letter in next((line for line in lines if line), ""))
    return words if len(words) <= 200 else words[:197] + "..."


def _judge(check: Check, ends: Sequence[_End], tests: Sequence[TestCase], last_words: str) -> tuple[Outcome | None, str]:
    """Outcome and, when it is not green, why in one sentence. The exit status rules, whatever the reports say."""
    last = ends[-1]
    if last.how is _How.CANCELLED:
        return None, "cancelled"
    if last.how is _How.TIMED_OUT:
        return Outcome.TIMED_OUT, f"it did not end within {check.timeout_s:g} s"
    if last.how is _How.NOT_STARTED:
        return Outcome.INFRASTRUCTURE, last.detail
    for end in ends:
        if end.missing and not _is_in_tree(end.missing):
            return (
                Outcome.INFRASTRUCTURE,
                f"the program {end.missing!r} cannot be started on this machine (exit code {end.code})",
            )
        if end.code == 128 + signal.SIGKILL:
            return Outcome.INFRASTRUCTURE, "something outside killed it (SIGKILL), most often for lack of memory"
    bad = next((end for end in ends if end.code), None)
    if bad is None:
        return Outcome.GREEN, ""
    why = f"exit code {bad.code}: {last_words}" if last_words else f"exit code {bad.code}"
    if bad.missing:
        where = "the check's folder" if check.is_whole_tree else "the check's folder, which holds its inputs alone"
        why = f"the program {bad.missing!r} is missing or not executable in {where} (exit code {bad.code})"
    elif bad.code - 128 in signal.valid_signals():
        why = f"it died of {signal.Signals(bad.code - 128).name}" if _is_named(bad.code - 128) else why
    failed = [test.name for test in tests if test.is_failure]
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        why = f"{len(failed)} of {len(tests)} tests failed: {', '.join(failed[:3])}{more}"
    return Outcome.RED, why


def _judge_retest(asked: Sequence[str], outcome: Outcome, reason: str, tests: Sequence[TestCase]) -> tuple[Outcome, str]:
    """What a run of single tests came to. Green only where the report shows that every one of them ran, and passed.

    Where it neither passed them all nor names one that failed, nothing was learned: the tool does not take the names that
    its reports give, or was not told to write a report.
    """
    outcomes: dict[str, set[str]] = {}
    for test in tests:
        outcomes.setdefault(test.name, set()).add(test.outcome)
    if any(test.is_failure for test in tests):
        return Outcome.RED, reason or "the report of the retest names tests that failed"
    unseen = [name for name in asked if outcomes.get(name) != {"passed"}]
    if outcome is Outcome.GREEN and not unseen:
        return Outcome.GREEN, ""
    told = f"its report does not show that {unseen[0]} ran" if unseen else "all of them passed"
    return Outcome.INFRASTRUCTURE, f"the failed tests could not be run alone: {reason or 'exit code 0'}, and {told}"


def _stamp(path: Path) -> tuple[int, ...]:
    """By what a file is known again that nobody has written."""
    try:
        stats = path.lstat()
    except OSError:
        return ()
    return stats.st_ino, stats.st_size, stats.st_mode, stats.st_mtime_ns, stats.st_ctime_ns


def _altered_files(paths: Sequence[str]) -> str:
    return f"it mended {_some(paths)}: what was checked is not what is right"


def _rewritten_files(paths: Sequence[str]) -> str:
    return f"it rewrote {_some(paths)}, which reached nobody: give the check fix = true, or have it only look"


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}"


def _is_in_tree(program: str) -> bool:
    """Was it named by a path in the check's folder? Then that it is missing is the change's doing."""
    return "/" in program and not program.startswith("/")


def _is_named(number: int) -> bool:
    return number in {each.value for each in signal.Signals}


def _placed_reports(check: Check, place: Place) -> "dict[Path, Stamp]":
    """What there is of the reports that the tool writes where it likes."""
    if check.junit is None:
        return {}
    from ci import report  # 40 ms that only a check with a report pays

    return report.find_reports(place.folder, f"{check.folder}/{check.junit}")


def _tests(folder: Path, junit: Path, placed: Iterable[Path], output: _Log) -> tuple[TestCase, ...]:
    """The tests of these reports; what is wrong with one is a line in the log."""
    paths = [*([junit] if os.path.lexists(junit) else []), *placed]
    if not paths:
        return ()
    from ci import report

    read = report.read_reports(paths, folder=folder)
    for note in read.notes:
        output.note(note)
    return read.tests
