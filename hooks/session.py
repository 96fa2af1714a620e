"""Runs checks of one tree on the developer's machine: what is known is taken from the store, the rest gets a place each.

Used by every local command that runs checks: ``gate check``, ``gate push`` and the work after a commit. A check runs in a
work tree of the pool, which holds the tree and nothing that its owner is just editing. Under pre-commit and prek, which
hide unstaged edits themselves, a check over the whole tree runs in the work tree: its result is kept, and a kept one
believed, only while that holds exactly the tree.
"""

import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ci.errors import Unavailable
from ci.git import PlainGit
from ci.keys import depends_on_files_alone
from ci.model import Check, CheckName, InputKey, Outcome, Result, RunEnd, RunId, RunRequest, Sha
from ci.processes import descendants, kill_until_gone
from ci.removal import remove_tree
from ci.results import LocalResults, newest_green
from ci.run import RunSettings, run_check
from ci.sandbox import Isolation
from ci.workspace import Place, Workspace, inputs_name
from hooks import text
from hooks.fixes import Mended, quoted
from hooks.hygiene import parsed
from hooks.in_process import found_and_mended
from hooks.known import green_at, note_green
from hooks.order import Expected, Past, Waiting, expected, order
from hooks.pool import Pool, sweep
from hooks.report import Report
from hooks.staged import NO_FILES, ask_git

_SIGNAL_SEEN_WITHIN_S = 0.2

# Latest runs of a check that its chance of failure is taken from: with 20, a failure shows 18 % later than in the best of
# all orders, with 100 within 10 % (benchmarks/first_failure.py).
LEARNED_FROM = 100

_PROGRESS_EVERY_S = 0.5
_ENDED_WITHIN_S = 4.0  # checks that are told to: they have a grace of two

_FILES = ("100644", "100755")  # as git writes the modes of files
_LINK = "120000"

_NOT_FOUND = 127  # exit code of a shell


class Job(NamedTuple):
    """A check to answer for. files: for {files}; None: all that match. key: None when no result of it may be kept.
    listing: what its inputs match, in the form of RunRequest.listing, asked for when it runs.
    """

    check: Check
    key: InputKey | None
    files: tuple[str, ...] | None = None
    listing: Callable[[], tuple[bytes, ...] | None] = lambda: None


class Session:
    """One run of checks over one tree: its store, a place for every check, its threads. Used by one thread.

    commit: a commit with that tree, made when the first check needs one. work_tree: where checks over the whole tree run
    instead of in the pool; None: in the pool. links: names in ``top`` that checks see in the pool. keeps_logs: also those
    of what is green. at_once: most checks side by side; None: as many as there are cores. watch: told twice a second what
    runs, as (check, seconds); what it raises ends the run.
    """

    def __init__(
        self,
        common_dir: Path,
        settings: RunSettings,
        tree: Sha,
        commit: Callable[[], Sha],
        *,
        top: Path | None = None,
        work_tree: Path | None = None,
        links: Sequence[str] = (),
        use_cache: bool = True,
        keeps_logs: bool = False,
        at_once: int | None = None,
        watch: Callable[[list[tuple[str, float]]], None] | None = None,
    ) -> None:
        self._git = PlainGit(common_dir)
        self._settings = settings
        self._tree = tree
        self._commit = commit
        self._top = top
        self._work_tree = work_tree
        self._links = tuple(links)
        self._use_cache = use_cache
        self._keeps_logs = keeps_logs
        self._at_once = at_once or cores()
        self._watch = watch
        self.home = common_dir / "gate"
        self.results = LocalResults(self.home / "results.sqlite")
        self._cancelled = threading.Event()
        self._ends: queue.SimpleQueue[tuple[Job, RunEnd | BaseException, tuple[Mended, ...]]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._since: dict[CheckName, float] = {}
        self._warnings: list[str] = []
        self._lock = threading.Lock()
        self._known_commit: Sha | None = None
        self._ran_here: set[CheckName] = set()
        self._leads: dict[str, str] | None = None  # see hooks.astray; None: nobody has looked
        self.known_until = float("inf")  # epoch seconds UTC: when the first of the results is too old
        self.is_kept = True  # every result is in the store now

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        """Every process that was started has ended when this returns."""
        self._cancelled.set()
        give_up_at = time.monotonic() + _ENDED_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
        while late := [thread for thread in self._threads if thread.is_alive()]:
            # It waits for git, which fills a folder for a check by a filter of its owner's, and may try once more.
            kill_until_gone(lambda: descendants(os.getpid()))
            late[0].join(_SIGNAL_SEEN_WITHIN_S)
        self.results.close()

    @property
    def has_run(self) -> bool:
        return bool(self._threads)

    def tidy(self, max_age_s: float, max_bytes: int, max_pool_bytes: int) -> None:
        """Keep what results, logs and work trees take within bounds; the newest stay. max_pool_bytes: of the work trees,
        which are measured once a day, because it takes long."""
        from hooks.cache import tidy  # it knows gate.toml, which is long to load

        with suppress(OSError):  # the answers of the checks stand
            tidy(self.home, self.results, time.time() - max_age_s, max_bytes)
        with suppress(OSError, Unavailable):  # files of another account, or no place for any: gate cache prune tells
            sweep(time.time() - max_age_s)
            Pool(self.home.parent).prune(time.time() - max_age_s)
            Pool(self.home.parent).fit_daily(max_pool_bytes)

    def cancel(self) -> None:
        """End what runs, from any thread; ``reports`` then raises KeyboardInterrupt."""
        self._cancelled.set()

    def warnings(self) -> list[str]:
        return [*self._warnings, *([self.results.warning] if self.results.warning else [])]

    def expectations(self, checks: Sequence[Check]) -> dict[CheckName, Expected]:
        """Chance of failure and duration of each check, from its latest runs here."""
        return {
            check.name: expected([Past(*run) for run in self.results.past_runs(check.name, LEARNED_FROM)])
            for check in checks
        }

    def in_order(
        self, jobs: Sequence[Job], kept: Mapping[CheckName, Result], budget_s: float
    ) -> tuple[list[Job], Mapping[str, float]]:
        """The jobs in the order to start them, what is known first; and what is left to the gate, by when it would end.

        budget_s 0: there is no limit.
        """
        known = [job for job in jobs if job.check.name in kept]
        open_ = {job.check.name: job for job in jobs if job.check.name not in kept}
        if not open_:
            return known, {}
        expectations = self.expectations([job.check for job in open_.values()])
        waiting = [Waiting(name, expectations[name], job.check.needs) for name, job in open_.items()]
        found = order(waiting, self._at_once, budget_s)
        return [*known, *(open_[CheckName(name)] for name in found.run)], found.left

    def kept(self, jobs: Sequence[Job]) -> dict[CheckName, Result]:
        """The green result that spares each job its run, where there is one."""
        if not self._use_cache:
            return {}
        usable = [
            job for job in jobs if job.key is not None and (not self._is_in_work_tree(job.check) or self._agrees(jobs))
        ]
        found = self.results.for_keys([job.key for job in usable if job.key is not None])
        kept = {}
        for job in usable:
            results = found.get(job.key, []) if job.key is not None else []
            result = newest_green(results, time.time(), job.check.max_age_s)
            if result is not None:
                kept[job.check.name] = result
                self._note_green(result)
                self._note_age(job.check, result.finished_at)
            elif (noted_at := self._noted_at(job)) is not None:
                assert job.key is not None
                run = RunId("noted")  # one that ran where no store is opened: hooks.known
                kept[job.check.name] = Result(job.key, job.check.name, Outcome.GREEN, run, noted_at, noted_at)
                self._note_age(job.check, noted_at)
        return kept

    def reports(
        self, jobs: Sequence[Job], kept: Mapping[CheckName, Result], done: Sequence[Report] = ()
    ) -> Iterator[Report]:
        """The report of every job, as soon as it is known; started in their order, at most ``at_once`` of them side by side.

        done: what is known of checks that these may need. Raises what a run raised that is no outcome: Unavailable,
        UserError, our bugs; KeyboardInterrupt when it was cancelled.
        """
        names = {job.check.name for job in jobs}
        waiting = [*jobs]
        ended = {report.check: report for report in done}
        agrees = self._agrees(jobs)
        while waiting or self._since:
            ready = [job for job in waiting if all(need in ended or need not in names for need in job.check.needs)]
            known = [report for job in ready if (report := _known(job, kept, ended)) is not None]
            for report in known:
                ended[report.check] = report
                yield report
            startable = [job for job in ready if job.check.name not in ended]
            for job in startable[: self._at_once - len(self._since)]:
                self._start(job)
                waiting.remove(job)
            waiting = [job for job in waiting if job.check.name not in ended]
            if known or not self._since:
                continue  # what is known now may have made others ready
            job, end, fixes = self._next_end()
            del self._since[job.check.name]
            if isinstance(end, BaseException):
                raise end
            report = self._judged(job, end, fixes, agrees=agrees)
            ended[report.check] = report
            yield report

    def _next_end(self) -> tuple[Job, RunEnd | BaseException, tuple[Mended, ...]]:
        told_at = time.monotonic()
        while True:
            # A signal that comes between Python's look for signals and the wait itself is only seen after the wait.
            with suppress(queue.Empty):
                return self._ends.get(timeout=_SIGNAL_SEEN_WITHIN_S)
            now = time.monotonic()
            if self._watch is not None and now - told_at >= _PROGRESS_EVERY_S:
                told_at = now
                self._watch([(name, now - since) for name, since in self._since.items()])

    def _agrees(self, jobs: Sequence[Job]) -> bool:
        return not any(self._is_in_work_tree(job.check) for job in jobs) or _work_tree_agrees()

    def _is_in_work_tree(self, check: Check) -> bool:
        return self._work_tree is not None and (check.is_whole_tree or check.git)

    def _noted_at(self, job: Job) -> float | None:
        noted_at = green_at(str(self.home.parent), str(job.key))
        is_fresh = job.check.max_age_s is None or time.time() - noted_at <= job.check.max_age_s
        return noted_at if noted_at and is_fresh else None

    def _note_green(self, result: Result) -> None:
        if result.outcome is Outcome.GREEN and not result.tests:
            note_green(str(self.home.parent), result.key, result.finished_at)

    def _note_age(self, check: Check, finished_at: float) -> None:
        if check.max_age_s is not None:
            self.known_until = min(self.known_until, finished_at + check.max_age_s)

    def _start(self, job: Job) -> None:
        thread = threading.Thread(target=self._run, args=(job,), name=f"check {job.check.name}")
        self._threads.append(thread)
        self._since[job.check.name] = time.monotonic()
        thread.start()

    def _run(self, job: Job) -> None:
        """In a thread of its own: the run from its place to its end."""
        run = RunId(os.urandom(8).hex())
        try:
            log = self._log_file(f"{as_file_name(job.check.name)}-{run}.log")
            here = self._run_here(job, run, log)
            if here is not None:
                self._ran_here.add(job.check.name)
            end, fixes = here or self._run_there(job, run, log)
            if log.exists():
                end = end._replace(log=os.path.relpath(log, self.home) if log.is_relative_to(self.home) else str(log))
        except BaseException as failure:  # raised again by the thread that waits for this one
            self._ends.put((job, failure, ()))
        else:
            self._ends.put((job, end, fixes))

    def _run_there(self, job: Job, run: RunId, log: Path) -> tuple[RunEnd, tuple[Mended, ...]]:
        """The run in a place of its own, or in the work tree."""
        needs_commit = (job.check.is_whole_tree or job.check.git) and self._work_tree is None
        commit = self._made_commit() if needs_commit else self._tree
        listing = job.listing()
        request = RunRequest(run, job.check, job.key or InputKey(""), commit, listing=listing, files=job.files)
        with self._place(request) as place:
            end = run_check(request, place, self._settings, log, self._cancelled)
            return end, self._fixes(place, end.altered)

    def _run_here(self, job: Job, run: RunId, log: Path) -> tuple[RunEnd, tuple[Mended, ...]] | None:
        """The run of a check that needs no process; None: it needs one."""
        wish = parsed(job.check.command)
        listing = job.listing() if wish is not None and job.files is not None and depends_on_files_alone(job.check) else None
        if wish is None or job.files is None or listing is None:
            return None
        started_at = time.time()
        entries = {os.fsdecode(path): meta for meta, _, path in (line[:-1].partition(b"\t") for line in listing)}
        # What was unstaged just now is in no entry; that something was is told in the end.
        files = {path: (mode, blob) for path in job.files if path in entries for mode, blob in [entries[path].split(b" ")]}
        try:
            said, mended = found_and_mended(wish, files, str(self._git.git_dir), entries)
        except ValueError:
            return None  # more content than is good to hold
        if said:
            write_log(log, "".join(f"{line}\n" for line in said).encode(errors="backslashreplace"))
        wanted = mended if job.check.fix else {}
        fixes = []
        for path, made in zip(wanted, self._stored(wanted.values()), strict=True):
            mode, blob = files[path]
            fixes.append(Mended(path, mode.decode(), blob.decode(), made, mode.decode()))
        request = RunRequest(run, job.check, job.key or InputKey(""), self._tree, files=job.files)
        outcome = Outcome.RED if said else Outcome.GREEN
        reason = text.found(len(said), mends_in_vain=bool(mended) and not job.check.fix) if said else ""
        end = RunEnd(request, outcome, started_at, time.time(), exit_code=1 if said else 0, reason=reason)
        return end, tuple(fixes)

    def _stored(self, contents: Collection[bytes]) -> list[str]:
        """Ids of these as blobs of the repository, as they are."""
        if not contents:
            return []
        from tempfile import TemporaryDirectory  # long to load, and few commits mend anything

        with TemporaryDirectory(prefix="gate-") as folder:
            files = [Path(folder, str(number)) for number in range(len(contents))]
            for file, content in zip(files, contents, strict=True):
                file.write_bytes(content)
            asked = b"".join([quoted(str(file)) + b"\n" for file in files])
            return self._git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=asked).text.split()

    def _log_file(self, name: str) -> Path:
        file, warning = log_file(self.home, name)
        with self._lock:
            if warning and warning not in self._warnings:
                self._warnings.append(warning)
        return file

    def _made_commit(self) -> Sha:
        with self._lock:
            if self._known_commit is None:
                self._known_commit = self._commit()
            return self._known_commit

    @contextmanager
    def _place(self, request: RunRequest) -> Iterator[Place]:
        if self._is_in_work_tree(request.check) and self._work_tree is not None:
            names_all = request.check.names_files and request.files is None
            files = tuple(tree_paths(self._git, self._tree, ())) if names_all else None
            with Pool(
                self._git.git_dir
            ).slot() as folder:  # not to run in, but for the next run to find and end what is left
                scratch = folder / "runs" / request.run
                scratch.mkdir(mode=0o700, parents=True)
                try:
                    yield Place(self._work_tree, files, scratch)
                finally:
                    remove_tree(scratch)
            return
        check = request.check
        warm = "0" if check.is_whole_tree or check.git else inputs_name(check.inputs)
        with Pool(self._git.git_dir).slot(warm) as folder:
            workspace = Workspace(self._git, folder, 0, PlainGit, keeps_inputs=True)
            with workspace.place(request, Isolation.PLAIN) as place:
                self._link(place.folder)
                yield place

    def _link(self, folder: Path) -> None:
        """Show a check what its owner has installed beside the tracked files, where the tree has nothing of that name."""
        for name in self._links if self._top is not None else ():
            source, target = Path(self._top or "", name), folder / name
            if Path(name).parts[0] != ".git" and source.exists() and not os.path.lexists(target) and target.parent.is_dir():
                target.symlink_to(source)

    def _fixes(self, place: Place, altered: Sequence[str]) -> tuple[Mended, ...]:
        """What a run made of these files, stored as blobs of the repository."""
        if not altered:
            return ()
        known = self._git.run("ls-tree", "-r", "-z", "--full-tree", self._tree).out.split(b"\0")[:-1]
        staged = {os.fsdecode(path): meta.split(b" ") for meta, _, path in (line.partition(b"\t") for line in known)}
        git = PlainGit(self._git.git_dir, place.folder)  # the attributes there say how files become blobs
        modes = {path: _mode_of(place.folder / path) for path in altered}
        files = [path for path, mode in modes.items() if mode in _FILES]
        asked = b"".join([quoted(path) + b"\n" for path in files])
        made = git.run("hash-object", "-w", "--stdin-paths", stdin=asked).text.split() if files else []
        mended = dict(zip(files, made, strict=True))
        for path, mode in modes.items():
            if mode == _LINK:
                target = os.fsencode(os.readlink(place.folder / path))  # noqa: PTH115 - as it is written, also "./x"
                mended[path] = git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=target).text
        return tuple(
            Mended(path, mode.decode(), blob.decode(), mended.get(path), modes[path])
            for path, (mode, _, blob) in ((path, staged[path]) for path in altered)
        )

    def _judged(self, job: Job, end: RunEnd, fixes: tuple[Mended, ...], *, agrees: bool) -> Report:
        """Keep the result where it says something about the tree, and make the report."""
        result = end.result
        if result is None:  # only we ourselves cancel, and then nobody waits for reports
            raise KeyboardInterrupt
        log = self.home / end.log if end.log else None
        if end.outcome is Outcome.GREEN and log is not None and not self._keeps_logs:
            log.unlink(missing_ok=True)
            result, log = result._replace(log=""), None
        is_other = self._is_in_work_tree(job.check) and not (agrees and self._still_agrees())
        if job.key is None or is_other or self._is_led_astray(job):
            self.is_kept = False
        else:
            self.results.record(result, end.tests)
            self._note_green(result)
            self._note_age(job.check, result.finished_at)
        reason = end.reason
        if end.outcome is Outcome.INFRASTRUCTURE and end.exit_code == _NOT_FOUND:
            reason = text.not_found(reason, os.environ.get("PATH", ""))
        return Report(
            job.check.name,
            end.outcome,
            duration_s=result.duration_s,
            reason=reason,
            failed=result.failed,
            log="" if log is None else str(log),
            fixes=fixes,
        )

    def _is_led_astray(self, job: Job) -> bool:
        """Whether what the check imports may have come from the work tree, and been other than what it was to look at."""
        in_place = self._top is None or self._is_in_work_tree(job.check)
        if in_place or job.check.name in self._ran_here or "PYTHONPATH" in dict(job.check.env):
            return False
        from hooks import astray  # where nothing is installed in place, this was for nothing

        if self._leads is None:
            self._leads = astray.leads(Path(self._top or ""), self._links)
        if not self._leads:
            return False
        paths = astray.differences(Path(self._top or ""), self._tree, list(self._leads))
        if paths and (line := text.led_astray(self._leads, paths)) not in self._warnings:
            self._warnings.append(line)
        return bool(paths)

    def _still_agrees(self) -> bool:
        """Asked after a run: a check, or its owner meanwhile, may have changed files that git knows."""
        agrees = _work_tree_agrees()
        if not agrees and text.WORK_TREE_CHANGED not in self._warnings:
            self._warnings.append(text.WORK_TREE_CHANGED)
        return agrees


def write_log(file: Path, content: bytes) -> None:
    """A new file, for its owner's eyes alone, since it may lie among temporary files. Raises OSError."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as log:
        log.write(content)


def log_file(home: Path, name: str) -> tuple[Path, str]:
    """Where to write a log or a patch with this name: in a folder of ``home``, which is gate in the git folder, or where
    that cannot be written, among temporary files, and then the warning that says so, else "". Raises OSError where the git
    folder is gone."""
    logs = home / "logs"
    try:
        for folder in (home, logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        if os.access(logs, os.W_OK | os.X_OK):
            return logs / name, ""
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as cause:
        if not home.parent.is_dir():
            raise
        from tempfile import gettempdir  # long to load, and seldom needed

        elsewhere = Path(gettempdir(), f"gate-{name}")
        return elsewhere, text.logs_elsewhere(str(logs), cause.strerror or str(cause), str(elsewhere.parent))


def _mode_of(file: Path) -> str:
    """As git writes it; "" where there is neither a file nor a link, or it is behind a link that a run has made."""
    try:
        if file.parent.resolve() != file.parent:
            return ""
        mode = file.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISLNK(mode):
        return _LINK
    return _FILES[bool(mode & stat.S_IXUSR)] if stat.S_ISREG(mode) else ""


def _known(job: Job, kept: Mapping[CheckName, Result], ended: Mapping[CheckName, Report]) -> Report | None:
    """The report of a job that need not, or must not, run."""
    bad = next((need for need in job.check.needs if need in ended and not ended[need].is_fine), None)
    if bad is not None:
        return Report(job.check.name, None, is_blocked=True, reason=text.blocked_by(bad))
    result = kept.get(job.check.name)
    return None if result is None else Report(job.check.name, Outcome.GREEN, result.duration_s, is_cached=True)


def tree_paths(git: PlainGit, tree: Sha, paths: Sequence[str]) -> Iterator[str]:
    """Files of the tree at or below these paths; no paths: all."""
    return (path for path, mode in tree_entries(git, tree, paths) if mode not in NO_FILES)


def tree_entries(git: PlainGit, tree: Sha, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(path, mode as git writes it) of all in the tree at or below these paths."""
    words = ("ls-tree", "-r", "-z", "--full-tree", tree, "--", *paths)
    for line in git.run(*words, env={"GIT_LITERAL_PATHSPECS": "1"}).out.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        yield os.fsdecode(path), meta[:6]


def _work_tree_agrees() -> bool:
    """Whether the work tree holds what is staged and, but for ignored files, nothing else."""
    asked = ("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal")
    failed, answer = ask_git((*asked, "--ignore-submodules=none"))[0]
    # "XY path": X is how the index differs from HEAD, Y how the work tree differs from the index.
    return not failed and all(entry[1:2] == b" " for entry in answer.split(b"\0") if entry)


def cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def as_file_name(name: str) -> str:
    """The name of a check as a part of one: a nested gate.toml gives its checks names with slashes."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]
