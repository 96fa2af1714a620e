"""Runs the checks of the staged gate.toml on what is staged, with the server's own runner, keys and kind of store.

A check with declared inputs runs in a folder that holds just those, written from the staged content. A check over the whole
tree runs in the work tree, which is warm but may hold more than what is staged: its result is kept, and a kept one believed,
only while the two agree. The index is never touched and its lock never taken: git may hold it.
"""

import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

from ci.errors import UserError
from ci.git import PlainGit, read_file
from ci.keys import KeyMaker, matcher, touched
from ci.model import Check, CheckName, InputKey, Outcome, Result, RunEnd, RunId, RunRequest, Sha, Stage
from ci.results import LocalResults, newest_green
from ci.run import RunSettings, run_check
from ci.sandbox import Isolation
from ci.workspace import Place, Workspace
from gate.config import CONFIG_NAME, Config
from hooks import text
from hooks.check import forget_green, remember_green
from hooks.config import parsed
from hooks.staged import SUBMODULE, Staged, ask_git

EXIT_GREEN, EXIT_RED, EXIT_UNAVAILABLE = 0, 1, 4

_SIGNAL_SEEN_WITHIN_S = 0.2
_LOGS_KEPT_S = 7 * 86400.0
_RESULTS_KEPT_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for. names: as given, relative to the current folder; empty: what is staged."""

    stage: Stage = Stage.PRE_COMMIT
    names: tuple[str, ...] = ()
    all_files: bool = False
    json: bool = False
    cache: bool = True
    only: tuple[CheckName, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the next plain ``gate check`` of the same names asks for the same."""
        return self.stage is Stage.PRE_COMMIT and not self.all_files and not self.only


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at. tree: the staged content. files: of it, those to look at; None: all. besides: what else concerns a
    check that has it among its inputs, and cannot be handed to a command: deleted files, submodules.
    """

    tree: Sha
    files: tuple[str, ...] | None
    besides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A check to answer for. files: for {files}; None: all that match. key: None when no result of it may be kept."""

    check: Check
    key: InputKey | None
    files: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one check came to. outcome None: it did not run, and reason says why; is_blocked when that is no good sign."""

    check: CheckName
    outcome: Outcome | None
    duration_s: float = 0.0
    is_cached: bool = False
    is_blocked: bool = False
    reason: str = ""
    failed: tuple[str, ...] = ()
    log: str = ""

    @property
    def is_fine(self) -> bool:
        return self.outcome is Outcome.GREEN or (self.outcome is None and not self.is_blocked)


def run_checks(words: list[str], staged: Staged | None) -> int:
    """The slow half of ``gate check``. Returns the exit code. Raises UserError and Unavailable."""
    wish = wished(words)
    if staged is None:
        raise UserError(text.no_work_tree(str(Path.cwd())))
    started_at = time.monotonic()
    _leave_hook_environment()
    git = PlainGit(Path(staged.git_dir))
    scope = _scope(git, staged, wish)
    config = _config(git, scope.tree)
    checks = select_checks(config, wish)
    changed = None if scope.files is None else {*scope.files, *scope.besides}
    jobs, untouched = _jobs(git, scope, checks, changed)
    settings = RunSettings(isolation="plain", pass_env=config.run.pass_env, log_max_bytes=config.run.log_max_bytes)
    session = _Session(git, staged, settings, scope.tree, use_cache=wish.cache)
    printer: text.Printer = text.JsonPrinter(wish.stage, scope.tree) if wish.json else text.LinePrinter(checks)
    reports = []
    with _ended_by_signals(), session:
        for report in chain(untouched, session.reports(jobs)):
            reports.append(report)
            printer.tell(report)
    printer.finish(reports, time.monotonic() - started_at)
    for line in session.warnings():
        text.warn(f"gate: {line}")
    code = exit_code(reports)
    _remember(staged, wish, session, code, [job.check for job in jobs])
    return code


def wished(words: list[str]) -> Wish:
    """Read the command line. Raises SystemExit as argparse does."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="gate check",
        description=text.CHECK_DESCRIPTION,
        epilog=text.CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stage", choices=[stage.value for stage in Stage], default=Stage.PRE_COMMIT.value, help=text.HELP_STAGE
    )
    parser.add_argument("--all-files", action="store_true", help=text.HELP_ALL_FILES)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=text.HELP_ONLY)
    parser.add_argument("--no-cache", dest="cache", action="store_false", help=text.HELP_NO_CACHE)
    parser.add_argument("--json", action="store_true", help=text.HELP_JSON)
    parser.add_argument("files", nargs="*", metavar="FILES", help=text.HELP_FILES)
    given = parser.parse_args(words)
    return Wish(
        stage=Stage(given.stage),
        names=tuple(given.files),
        all_files=given.all_files,
        json=given.json,
        cache=given.cache,
        only=tuple(CheckName(name) for name in given.only),
    )


def select_checks(config: Config, wish: Wish) -> tuple[Check, ...]:
    """The checks that were asked for, in the order of the file.

    Stage merge takes those of pre-commit along: together they are what the gate wants to see green before it lands a change.
    """
    stages = {Stage.PRE_COMMIT, Stage.MERGE} if wish.stage is Stage.MERGE else {wish.stage}
    of_stage = [check for check in config.checks if check.stage in stages]
    unknown = [name for name in wish.only if name not in {check.name for check in of_stage}]
    if unknown:
        raise UserError(text.no_such_check(unknown[0], wish.stage, [check.name for check in of_stage]))
    return tuple(check for check in of_stage if not wish.only or check.name in wish.only)


def exit_code(reports: Iterable[Report]) -> int:
    """Red outweighs what could not be run: it is about the change, and known."""
    outcomes = {report.outcome for report in reports if not report.is_fine}
    if outcomes & {Outcome.RED, Outcome.TIMED_OUT}:
        return EXIT_RED
    return EXIT_UNAVAILABLE if outcomes else EXIT_GREEN


# --- what is looked at --------------------------------------------------------------------------------------------------


def _scope(git: PlainGit, staged: Staged, wish: Wish) -> Scope:
    tree = _write_tree(git, staged)
    if wish.names:
        # Runners of hooks do not pass the names of deleted files, and a deletion can break a build like any other change.
        also = staged.deleted() if "PRE_COMMIT" in os.environ else []
        return Scope(tree, _named(git, tree, staged, wish.names), tuple(also))
    # Past the commit the gate itself looks at everything; at the commit, what is staged is what is new.
    if wish.all_files or wish.stage is not Stage.PRE_COMMIT:
        return Scope(tree, None)
    return Scope(tree, tuple(staged.files()), (*staged.deleted(), *staged.submodules()))


def _write_tree(git: PlainGit, staged: Staged) -> Sha:
    """The staged content as a tree, through a private copy of the index: ``commit -a`` holds the lock of the real one."""
    if staged.is_unmerged:
        raise UserError(text.unmerged())
    _, answer = ask_git(("rev-parse", "--path-format=absolute", "--git-path", "index"))[0]
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        copy = Path(folder, "index")
        with suppress(FileNotFoundError):  # nothing was ever staged here: git reads a missing index as an empty one
            shutil.copyfile(os.fsdecode(answer.removesuffix(b"\n")), copy)
        return Sha(git.run("write-tree", env={"GIT_INDEX_FILE": str(copy)}).text)


def _named(git: PlainGit, tree: Sha, staged: Staged, names: Collection[str]) -> tuple[str, ...]:
    """The files of the tree that these names mean; a folder means all below it."""
    wanted = [_below_top(staged, name) for name in names]
    if "" in wanted:
        return tuple(_tree_paths(git, tree, ()))
    found = tuple(_tree_paths(git, tree, wanted))
    folders = {path[: at + 1] for path in found for at, letter in enumerate(path) if letter == "/"}
    for path in wanted:
        if path not in found and path + "/" not in folders:
            text.warn(text.not_staged(path))
    return found


def _tree_paths(git: PlainGit, tree: Sha, paths: Collection[str]) -> Iterator[str]:
    """Files of the tree at or below these paths; no paths: all. Submodules are no files."""
    words = ("ls-tree", "-r", "-z", "--full-tree", tree, "--", *paths)
    for line in git.run(*words, env={"GIT_LITERAL_PATHSPECS": "1"}).out.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        if not meta.startswith(SUBMODULE):
            yield os.fsdecode(path)


def _below_top(staged: Staged, name: str) -> str:
    """A name as given, relative to the top of the work tree; "" is the top itself."""
    path = os.path.normpath(os.path.join(staged.top, staged.prefix, name))  # noqa: PTH118 - Path knows no lexical ".."
    if path != staged.top and not path.startswith(staged.top.rstrip("/") + "/"):
        raise UserError(text.outside(name, staged.top))
    return path[len(staged.top.rstrip("/")) + 1 :]


def _config(git: PlainGit, tree: Sha) -> Config:
    content = read_file(git, tree, CONFIG_NAME)
    if content is None:
        raise UserError(text.no_config())
    return parsed(content, f"the staged {CONFIG_NAME}")


def _jobs(
    git: PlainGit, scope: Scope, checks: Sequence[Check], changed: Collection[str] | None
) -> tuple[list[Job], list[Report]]:
    """What to answer for, and the reports of checks that nothing concerns."""
    concerned = {check.name for check in checks} if changed is None else touched(checks, changed)
    keys = KeyMaker(git).keys(scope.tree, [check for check in checks if check.name in concerned])
    jobs, untouched = [], []
    for check in checks:
        files = None if scope.files is None else tuple(filter(matcher(check.inputs), scope.files))
        if check.name not in concerned or (check.names_files and files == ()):
            untouched.append(Report(check.name, None, reason=text.NO_FILES))
            continue
        # A check that may look at history is not answered for by a tree; its server side result has a commit in its key.
        key = None if check.git else keys[check.name]
        if check.names_files and files is not None and key is not None:
            key = _key_for_files(key, files)
        jobs.append(Job(check, key, files if check.names_files else None))
    return jobs, untouched


def _key_for_files(key: InputKey, files: Sequence[str]) -> InputKey:
    """The key of a run that is told of some files only: it may come to another end than one that is told of all."""
    return InputKey(sha256(b"\0".join([key.encode(), *map(os.fsencode, files)])).hexdigest())


# --- running ------------------------------------------------------------------------------------------------------------


class _Session:
    """One run of ``gate check``: its store, a place for every check, its threads. Used by one thread."""

    def __init__(self, git: PlainGit, staged: Staged, settings: RunSettings, tree: Sha, *, use_cache: bool) -> None:
        self._git = git
        self._top = Path(staged.top)
        self._settings = settings
        self._tree = tree
        self._use_cache = use_cache
        self._home = Path(staged.common_dir, "gate")
        self._results = LocalResults(self._home / "results.sqlite")
        self._cancelled = threading.Event()
        self._ends: queue.SimpleQueue[tuple[Job, RunEnd | BaseException]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._warnings: list[str] = []
        self.known_until = float("inf")  # epoch seconds UTC: when the first of the results is too old
        self.is_kept = True  # every result is in the store now

    def __enter__(self) -> "_Session":
        return self

    def __exit__(self, *_: object) -> None:
        """Every process that was started has ended when this returns."""
        self._cancelled.set()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._results.prune(time.time() - _RESULTS_KEPT_S)
            _remove_old_logs(self._home / "logs", time.time() - _LOGS_KEPT_S)
        self._results.close()

    def warnings(self) -> list[str]:
        return [*self._warnings, *([self._results.warning] if self._results.warning else [])]

    def reports(self, jobs: Sequence[Job]) -> Iterator[Report]:
        """The report of every job, as soon as it is known; as many run at once as there are cores.

        Raises what a run raised that is no outcome: Unavailable, UserError, our bugs.
        """
        names = {job.check.name for job in jobs}
        waiting = [*jobs]
        done: dict[CheckName, Report] = {}
        running = 0
        agrees = not any(_is_in_work_tree(job.check) for job in jobs) or _work_tree_agrees()
        kept = self._kept_results(jobs, agrees=agrees)
        while waiting or running:
            ready = [job for job in waiting if all(need in done or need not in names for need in job.check.needs)]
            known = [report for job in ready if (report := _known(job, kept, done)) is not None]
            for report in known:
                done[report.check] = report
                yield report
            startable = [job for job in ready if job.check.name not in done]
            for job in startable[: _cores() - running]:
                self._start(job)
                running += 1
                waiting.remove(job)
            waiting = [job for job in waiting if job.check.name not in done]
            if known or not running:
                continue  # what is known now may have made others ready
            job, end = self._next_end()
            running -= 1
            if isinstance(end, BaseException):
                raise end
            report = self._judged(job, end, agrees=agrees)
            done[report.check] = report
            yield report

    def _next_end(self) -> tuple[Job, RunEnd | BaseException]:
        while True:
            # A signal that comes between Python's look for signals and the wait itself is only seen after the wait.
            with suppress(queue.Empty):
                return self._ends.get(timeout=_SIGNAL_SEEN_WITHIN_S)

    def _kept_results(self, jobs: Sequence[Job], *, agrees: bool) -> dict[CheckName, Result]:
        """The green result that spares each job its run, where there is one."""
        if not self._use_cache:
            return {}
        usable = [job for job in jobs if job.key is not None and (agrees or not _is_in_work_tree(job.check))]
        found = self._results.for_keys([job.key for job in usable if job.key is not None])
        kept = {}
        for job in usable:
            results = found.get(job.key, []) if job.key is not None else []
            result = newest_green(results, time.time(), job.check.max_age_s)
            if result is not None:
                kept[job.check.name] = result
                self._note_age(job.check, result.finished_at)
        return kept

    def _note_age(self, check: Check, finished_at: float) -> None:
        if check.max_age_s is not None:
            self.known_until = min(self.known_until, finished_at + check.max_age_s)

    def _start(self, job: Job) -> None:
        thread = threading.Thread(target=self._run, args=(job,), name=f"check {job.check.name}")
        self._threads.append(thread)
        thread.start()

    def _run(self, job: Job) -> None:
        """In a thread of its own: the run from its place to its end."""
        run = RunId(os.urandom(8).hex())
        request = RunRequest(run, job.check, job.key or InputKey(""), self._tree, files=job.files)
        log = self._home / "logs" / f"{_as_file_name(job.check.name)}-{run}.log"
        try:
            with self._place(request) as place:
                end = run_check(request, place, self._settings, log, self._cancelled)
        except BaseException as failure:  # raised again by the thread that waits for this one
            self._ends.put((job, failure))
        else:
            self._ends.put((job, replace(end, log=str(log.relative_to(self._home)) if log.exists() else "")))

    @contextmanager
    def _place(self, request: RunRequest) -> Iterator[Place]:
        if _is_in_work_tree(request.check):
            names_all = request.check.names_files and request.files is None
            yield Place(self._top, tuple(_tree_paths(self._git, self._tree, ())) if names_all else None)
            return
        with tempfile.TemporaryDirectory(prefix="gate-", ignore_cleanup_errors=True) as folder:
            workspace = Workspace(self._git, Path(folder).resolve(), 0, PlainGit)
            with workspace.place(request, Isolation.PLAIN) as place:
                yield place

    def _judged(self, job: Job, end: RunEnd, *, agrees: bool) -> Report:
        """Keep the result where it says something about what is staged, and make the report."""
        result = end.result
        if result is None:  # only we ourselves cancel, and then nobody waits for reports
            raise KeyboardInterrupt
        log = self._home / end.log if end.log else None
        if end.outcome is Outcome.GREEN and log is not None:
            log.unlink(missing_ok=True)
            result, log = replace(result, log=""), None
        if job.key is None or (_is_in_work_tree(job.check) and not (agrees and self._still_agrees())):
            self.is_kept = False
        else:
            self._results.record(result, end.tests)
            self._note_age(job.check, result.finished_at)
        return Report(
            job.check.name,
            end.outcome,
            duration_s=result.duration_s,
            reason=end.reason,
            failed=result.failed,
            log="" if log is None else str(log),
        )

    def _still_agrees(self) -> bool:
        """Asked after a run: a check, or its owner meanwhile, may have changed files that git knows."""
        agrees = _work_tree_agrees()
        if not agrees and text.WORK_TREE_CHANGED not in self._warnings:
            self._warnings.append(text.WORK_TREE_CHANGED)
        return agrees


def _known(job: Job, kept: Mapping[CheckName, Result], done: Mapping[CheckName, Report]) -> Report | None:
    """The report of a job that need not, or must not, run."""
    bad = next((need for need in job.check.needs if need in done and not done[need].is_fine), None)
    if bad is not None:
        return Report(job.check.name, None, is_blocked=True, reason=text.blocked_by(bad))
    result = kept.get(job.check.name)
    return None if result is None else Report(job.check.name, Outcome.GREEN, result.duration_s, is_cached=True)


def _is_in_work_tree(check: Check) -> bool:
    return check.is_whole_tree or check.git


def _work_tree_agrees() -> bool:
    """Whether the work tree holds what is staged and, but for ignored files, nothing else."""
    asked = ("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal")
    failed, answer = ask_git((*asked, "--ignore-submodules=none"))[0]
    # "XY path": X is how the index differs from HEAD, Y how the work tree differs from the index.
    return not failed and all(entry[1:2] == b" " for entry in answer.split(b"\0") if entry)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _as_file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]


def _remove_old_logs(folder: Path, before: float) -> None:
    with suppress(OSError):
        for log in folder.iterdir():
            if log.stat().st_mtime < before:
                log.unlink(missing_ok=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Whoever ends us ends the checks too: a plain SIGTERM would leave their processes behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_hook_environment() -> None:
    """Take the environment that a runner made for us off PATH: ``python`` in a check means the project's, not ours."""
    # What pre-commit and prek leave in the environments they make. One that the user activated has none of these.
    marks = (".install_state_v1", ".install_state_v2", ".prek-hook.json")
    if any(Path(sys.prefix, mark).exists() for mark in marks):
        ours = os.path.join(sys.prefix, "bin")  # noqa: PTH118 - as a runner wrote it
        os.environ["PATH"] = os.pathsep.join(entry for entry in os.get_exec_path() if entry != ours)


def _remember(staged: Staged, wish: Wish, session: _Session, code: int, checks: Sequence[Check]) -> None:
    """Leave the marker for the next commit of the same content, when nothing but the content decided the outcome."""
    if code != EXIT_GREEN:
        forget_green(staged)
    elif session.is_kept and wish.is_plain and not any(check.tools for check in checks):
        remember_green(staged, list(wish.names), session.known_until)
