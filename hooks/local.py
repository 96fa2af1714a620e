"""The slow half of ``gate check``: runs the checks of the staged gate.toml on what is staged, within the budget.

Nothing here takes the lock of the index, which git may hold. The one thing that writes to the index and the work tree is
hooks/fixes.py, for a check that mends files, and only in a commit that comes straight from git or when asked for.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ci.errors import UserError
from ci.git import PlainGit, read_file
from ci.keytable import key_for_files
from ci.model import Check, CheckName, InputKey, Outcome, Result, Sha, Stage
from ci.run import RunSettings
from hooks import lines, text
from hooks.fixes import Applied, Mended, apply_fixes, patch_of
from hooks.inputs import Inputs
from hooks.known import TABLE, tree_of
from hooks.markers import NOTES, forget_green, remember_green
from hooks.report import Report
from hooks.rules import CONFIG_NAME, Rules, kept_rules
from hooks.session import Job, Session, as_file_name, log_file, tree_entries, tree_paths, write_log
from hooks.staged import EMPTY_BLOBS, NO_FILES, Staged, ask_git, look, restaged

if TYPE_CHECKING:
    from gate.config import Config

EXIT_GREEN, EXIT_RED, EXIT_UNAVAILABLE = 0, 1, 4

# Who calls us: git itself through a hook that gate install wrote, a runner that hides unstaged edits by itself, or a person.
INSTALLED = "GATE_HOOK"
RUNNER = "PRE_COMMIT"
SKIP = "GATE_SKIP"
_CALLER_SEEN_EVERY_S = 0.5


class Wish(NamedTuple):
    """What the command line asked for. names: as given, relative to the current folder; empty: what is staged."""

    stage: Stage = Stage.PRE_COMMIT
    names: tuple[str, ...] = ()
    all_files: bool = False
    json: bool = False
    cache: bool = True
    only: tuple[CheckName, ...] = ()
    fix: bool = False
    budget: bool = True
    verbose: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the next plain ``gate check`` of the same names asks for the same."""
        return self.stage is Stage.PRE_COMMIT and not self.all_files and not self.only

    def again(self) -> str:
        """The words that make another ``gate check`` look at the same, each after a blank. A runner names what is staged."""
        words = [f"--stage {self.stage}"] if self.stage is not Stage.PRE_COMMIT else []
        words += ["--all-files"] if self.all_files else []
        names = [] if RUNNER in os.environ else [*self.names]
        return "".join(f" {word}" for word in (*words, text.file_words(names, many="FILES")) if word)


class Scope(NamedTuple):
    """What is looked at. tree: the staged content. files: of it, those to look at; None: all. besides: what else concerns a
    check that has it among its inputs, and cannot be handed to a command: deleted files, submodules, symbolic links.
    """

    tree: Sha
    files: tuple[str, ...] | None
    besides: tuple[str, ...] = ()


def run_checks(words: list[str], staged: Staged | None) -> int:
    """The slow half of ``gate check``. Returns the exit code. Raises UserError and Unavailable."""
    wish = wished(words)
    if staged is None:
        raise UserError(text.no_work_tree())
    started_at = time.monotonic()
    leave_hook_environment()
    with ended_by_signals():
        try:
            round_ = _Round(staged, wish)
        except NoConfig as nothing:
            if INSTALLED not in os.environ:
                raise
            text.warn(f"gate: {nothing}; nothing was checked")
            return EXIT_GREEN
        printer: text.Printer
        printer = text.JsonPrinter(wish.stage, round_.scope.tree) if wish.json else text.LinePrinter(round_.checks)
        reports = round_.mend(printer)
        mended: list[str] = []
        turns = sum(check.fix for check in round_.checks)  # of two checks that mend one file, each has its own
        while round_.applied.paths:
            # What is staged now is not what was checked.
            mended += round_.applied.paths
            turns -= 1
            staged = look() or staged
            round_ = _Round(staged, wish._replace(fix=turns > 0), mended=mended)
            reports = round_.mend(printer)
        reports += round_.run(printer, reports)
        is_in_vain = _takes_no_more(staged, mended)
    printer.finish(reports, time.monotonic() - started_at)
    for line in round_.warnings:
        text.warn(f"gate: {line}")
    if is_in_vain:
        text.warn(is_in_vain)
    elif mended and staged.is_passing and exit_code(reports) != EXIT_GREEN:
        text.warn(text.staged_for_nothing(mended))
    elif wish.fix and not (mended or staged.raw or wish.names) and round_.scope.files == () and INSTALLED not in os.environ:
        text.warn(text.NOTHING_TO_MEND)
    code = exit_code(reports) or (EXIT_RED if is_in_vain else EXIT_GREEN)
    if code == EXIT_GREEN and (INSTALLED in os.environ or RUNNER in os.environ):
        _note(Path(staged.common_dir), round_.scope.tree, reports)
    altered = restaged(staged)
    if not altered or code != EXIT_GREEN:
        _remember(staged, wish, round_, code, reports)
    return _as_of_now(altered, code, wish)


def _takes_no_more(staged: Staged, mended: Sequence[str]) -> str:
    """Why git would not commit what these files were mended to; "": it does."""
    if not mended or INSTALLED not in os.environ:
        return ""
    if Path(staged.git_dir, "MERGE_HEAD").exists():  # a merge is a commit also where nothing is other than in HEAD
        return ""
    # A hook of merges that leads to the other one has that one's name; the heads are known to git merge alone.
    if os.environ[INSTALLED] == "pre-merge-commit" or any(name.startswith("GITHEAD_") for name in os.environ):
        return text.merged_before()
    return "" if staged.raw else text.nothing_left(mended)


def _as_of_now(altered: Sequence[str], code: int, wish: Wish) -> int:
    """A commit has what is staged when its hooks are over, which must be what was checked. altered: paths that are not."""
    if not altered:
        return code
    is_push = "PRE_COMMIT_TO_REF" in os.environ  # of a runner, which may as well run all hooks on all files
    is_runners = RUNNER in os.environ and wish.stage is Stage.PRE_COMMIT and not wish.all_files and not is_push
    is_commit = INSTALLED in os.environ or is_runners
    text.warn(text.restaged(altered, is_commit=is_commit))
    return code or EXIT_RED if is_commit else code


def wished(words: list[str]) -> Wish:
    """Read the command line. Raises SystemExit as argparse does."""
    if words[:1] in ([], ["--"]):
        return Wish(names=tuple(words[1:]), fix=INSTALLED in os.environ)  # as a commit asks: without argparse's 7 ms
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
    parser.add_argument("--no-budget", dest="budget", action="store_false", help=text.HELP_NO_BUDGET)
    parser.add_argument("--fix", action="store_true", help=text.HELP_FIX)
    parser.add_argument("-v", "--verbose", action="store_true", help=text.HELP_VERBOSE)
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
        fix=given.fix or INSTALLED in os.environ,
        budget=given.budget,
        verbose=given.verbose,
    )


def select_checks(checks: Sequence[Check], wish: Wish) -> tuple[Check, ...]:
    """The checks that were asked for, in the order of the file.

    Stage merge takes those of pre-commit along: together they are what the gate wants to see green before it lands a change.
    """
    stages = {Stage.PRE_COMMIT, Stage.MERGE} if wish.stage is Stage.MERGE else {wish.stage}
    of_stage = [check for check in checks if check.stage in stages]
    unknown = [name for name in wish.only if name not in {check.name for check in of_stage}]
    if unknown:
        elsewhere = next((check.stage for check in checks if check.name == unknown[0]), None)
        raise UserError(text.no_such_check(unknown[0], wish.stage, [check.name for check in of_stage], elsewhere))
    return tuple(check for check in of_stage if not wish.only or check.name in wish.only)


def exit_code(reports: Iterable[Report]) -> int:
    """Red outweighs what could not be run: it is about the change, and known."""
    outcomes = {report.outcome for report in reports if not report.is_fine}
    if outcomes & {Outcome.RED, Outcome.TIMED_OUT}:
        return EXIT_RED
    return EXIT_UNAVAILABLE if outcomes else EXIT_GREEN


class NoConfig(UserError):  # noqa: N818 - as ci.errors names its own
    """What is staged has no gate.toml."""


# --- one look at what is staged ------------------------------------------------------------------------------------------


class _Round:
    """What is staged at one moment, and the answers for it. mended: files that an earlier round has just mended."""

    def __init__(self, staged: Staged, wish: Wish, mended: Sequence[str] = ()) -> None:
        self._staged = staged
        self._wish = wish
        self._git = PlainGit(Path(staged.git_dir))
        self.scope = _scope(self._git, staged, wish)
        self._rules = _rules(self._git, staged, self.scope.tree)
        self.checks = select_checks(self._rules.checks, wish)
        self._mended = tuple(mended)
        self._staged_paths = None if self.scope.files is None else {*self.scope.files}
        changed = None if self.scope.files is None else {*self.scope.files, *self.scope.besides}
        skipped = skipped_checks(self.checks)
        wanted = [check for check in self.checks if check.name not in skipped]
        table = f"{staged.git_dir}/{TABLE}" if wish.stage is Stage.PRE_COMMIT and not wish.only else ""
        inputs = Inputs(self._git, self.scope.tree, self.checks, table=table, also=changed or (), top=staged.top)
        self._jobs, self._idle = jobs_of(inputs, self.scope, wanted, changed)
        self._idle += [Report(name, None, idle=lines.SKIPPED, reason=text.skipped_by(SKIP)) for name in skipped]
        self.applied = Applied((), b"")
        self.warnings = vain_skips(self._rules.checks)
        self.warnings += [text.mute_tool(*each) for each in inputs.mute_tools(wanted)]
        self.known_until = float("inf")
        self.is_kept = True

    def mend(self, printer: text.Printer) -> list[Report]:
        """Run the checks that mend files, and apply what they did where that was asked for. Without such checks: nothing."""
        fixers = {job.check.name for job in self._jobs if job.check.fix}
        if not fixers or not self._wish.fix:
            return []
        wanted = with_needs(fixers, [job.check for job in self._jobs])  # nothing is mended on top of what is red
        with self._session(printer) as session:
            jobs = [job for job in self._jobs if job.check.name in wanted]
            reports = list(self._answers(session, jobs, printer, quiet=True))
        fixes = [fix for report in reports for fix in report.fixes if self._may_mend(fix.path)]
        if not fixes:
            return [self._told(report, printer) for report in reports]
        chosen = _last_of_each(fixes)
        self.applied = apply_fixes(self._staged, chosen)
        if self.applied.paths:
            paths = {*self.applied.paths}
            done = {fix for fix in chosen if fix.path in paths}
            printer.mended({report.check: [fix.path for fix in report.fixes if fix in done] for report in reports})
            return []
        return [self._told(report, printer) for report in reports]

    def _may_mend(self, path: str) -> bool:
        """A commit takes what its owner staged, and no other file that a check found something to mend in."""
        return self._staged_paths is None or INSTALLED not in os.environ or path in self._staged_paths

    def run(self, printer: text.Printer, done: Sequence[Report]) -> list[Report]:
        """Answer for all that is not done yet, within the budget. Returns the reports of these."""
        for report in self._idle:
            printer.tell(report)
        known = {report.check for report in done}
        with self._session(printer) as session:
            jobs = [job for job in self._jobs if job.check.name not in known]
            return [*self._idle, *self._answers(session, jobs, printer, done)]

    def _answers(
        self,
        session: Session,
        jobs: Sequence[Job],
        printer: text.Printer,
        done: Sequence[Report] = (),
        *,
        quiet: bool = False,
    ) -> Iterator[Report]:
        kept = session.kept(jobs)
        chosen, left = self._ordered(session, jobs, kept)
        for name, ends_at_s in left.items():
            reason = text.left_to_the_gate(ends_at_s, self._rules.budget_s)
            report = Report(CheckName(name), None, idle=lines.LEFT, reason=reason)
            printer.tell(report)
            yield report
        for report in session.reports(chosen, kept, done):
            yield report if quiet else self._told(report, printer)
        self.warnings += [line for line in session.warnings() if line not in self.warnings]
        self.known_until = min(self.known_until, session.known_until)
        self.is_kept = self.is_kept and session.is_kept and not left
        if session.has_run:
            session.tidy(self._rules.cache_age_s, self._rules.cache_size_bytes, self._rules.pool_size_bytes)

    def _ordered(
        self, session: Session, jobs: Sequence[Job], kept: Mapping[CheckName, Result]
    ) -> tuple[list[Job], Mapping[str, float]]:
        """The jobs in the order to start them, what is known first, and what is left to the gate."""
        is_what_is_staged = not self._wish.names or RUNNER in os.environ
        has_budget = self._wish.is_plain and self._wish.budget and is_what_is_staged
        return session.in_order(jobs, kept, self._rules.budget_s if has_budget else 0.0)

    def _told(self, report: Report, printer: text.Printer) -> Report:
        """The report with its fixes put down as a patch for people, and told."""
        if report.fixes:
            report = report._replace(reason=self._patched(report))
        printer.tell(report)
        return report

    def _patched(self, report: Report) -> str:
        name = f"{as_file_name(report.check)}-{os.urandom(4).hex()}.patch"
        patch, warning = log_file(Path(self._staged.common_dir, "gate"), name)
        self.warnings += [warning] if warning and warning not in self.warnings else []
        write_log(patch, patch_of(self._staged, report.fixes))
        paths = [fix.path for fix in report.fixes]
        is_stuck = not self._wish.fix and bool({*paths} & {*self._mended})
        git, shown = "git", os.path.relpath(patch)
        if self._staged.prefix or os.environ.get(text.CALLERS_FOLDER):  # below the top, git apply skips all above it
            git, shown = f"git -C {shlex.quote(self._staged.top)}", str(patch)
        if not any(map(self._may_mend, paths)):
            return text.patch_of_others(paths, git, shown)
        if is_stuck:
            return text.not_stable(paths)
        add = f"{git} add {text.file_words(paths, many='FILES')}" if self._staged.is_passing else ""
        was_tried = self._wish.fix or bool(self._mended)
        return text.patch_left(paths, git, shown, self._wish.again(), add=add, was_tried=was_tried)

    def _session(self, printer: text.Printer) -> Session:
        rules = self._rules
        staged = self._staged
        return Session(
            Path(staged.common_dir),
            RunSettings(isolation="plain", pass_env=rules.pass_env, log_max_bytes=rules.log_max_bytes),
            self.scope.tree,
            lambda: candidate(self._git, self.scope.tree, staged.head),
            top=Path(staged.top),
            work_tree=Path(staged.top) if RUNNER in os.environ else None,
            links=rules.link,
            use_cache=self._wish.cache,
            keeps_logs=self._wish.verbose,
            watch=printer.watch,
        )


def candidate(git: PlainGit, tree: Sha, parent: str | None) -> Sha:
    """A commit of this tree on top of the parent, the same each time, that no ref names."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _NOBODY.items()}
    words = ("commit-tree", "--no-gpg-sign", tree, "-m", "What is staged", *(["-p", parent] if parent else []))
    return Sha(git.run(*words, env=who).text)


_NOBODY = {"NAME": "gate", "EMAIL": "gate@localhost", "DATE": "1000000000 +0000"}


def _last_of_each(fixes: Iterable[Mended]) -> list[Mended]:
    """One fix for each file. Two checks that mended the same one meet in the next round."""
    return list({fix.path: fix for fix in reversed([*fixes])}.values())


def with_needs(names: Collection[CheckName], checks: Sequence[Check]) -> set[CheckName]:
    """These, and what they need of the given checks."""
    needs = {check.name: check.needs for check in checks}
    found: set[CheckName] = set()
    pending = [*names]
    while pending:
        name = pending.pop()
        if name not in found and name in needs:
            found.add(name)
            pending += needs[name]
    return found


def skipped_checks(checks: Sequence[Check]) -> list[CheckName]:
    """Checks that their owner skips this time."""
    names = _names_to_skip()
    return [check.name for check in checks if check.name in names]


def vain_skips(checks: Iterable[Check]) -> list[str]:
    """A sentence for each name that no check has, of whatever stage: a skip that does nothing misleads."""
    there = [check.name for check in checks]
    return [text.nothing_to_skip(SKIP, name, there) for name in _names_to_skip() if name not in there]


def _names_to_skip() -> list[str]:
    return [name.strip() for name in os.environ.get(SKIP, "").split(",") if name.strip()]


# --- what is looked at --------------------------------------------------------------------------------------------------


def _scope(git: PlainGit, staged: Staged, wish: Wish) -> Scope:
    tree = _write_tree(git, staged)
    if wish.names:
        # Runners pass neither deleted files nor submodules and links, which can break a build like any other change.
        also = [*staged.deleted(), *staged.others()] if RUNNER in os.environ else []
        return Scope(tree, _named(git, tree, staged, wish.names), tuple(also))
    # Past the commit the gate itself looks at everything; at the commit, what is staged is what is new.
    if wish.all_files or wish.stage is not Stage.PRE_COMMIT:
        return Scope(tree, None)
    return Scope(tree, tuple(staged.files()), (*staged.deleted(), *staged.others()))


def _write_tree(git: PlainGit, staged: Staged) -> Sha:
    """The staged content as a tree, through a private copy of the index: ``commit -a`` holds the lock of the real one."""
    if staged.is_unmerged:
        raise UserError(text.unmerged())
    with suppress(OSError):  # nothing was ever run here, or staged, or nothing of ours can be written
        return Sha(os.fsdecode(tree_of(staged)))
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        copy = Path(folder, "index")
        with suppress(FileNotFoundError):  # nothing was ever staged here: git reads a missing index as an empty one
            copy.write_bytes(Path(staged.index).read_bytes())
        return Sha(git.run("write-tree", env={"GIT_INDEX_FILE": str(copy)}).text)


def _named(git: PlainGit, tree: Sha, staged: Staged, names: Collection[str]) -> tuple[str, ...]:
    """The files of the tree that these names mean; a folder means all below it."""
    wanted = [_below_top(staged, name) for name in names]
    if "" in wanted:
        return tuple(tree_paths(git, tree, ()))
    found = dict(tree_entries(git, tree, wanted))
    folders = {path[: at + 1] for path in found for at, letter in enumerate(path) if letter == "/"}
    for path in wanted:
        if path not in found and path + "/" not in folders:
            text.warn(text.not_staged(path))
    return tuple(path for path, mode in found.items() if mode not in NO_FILES)


def _below_top(staged: Staged, name: str) -> str:
    """A name as given, relative to the top of the work tree; "" is the top itself."""
    path = os.path.normpath(os.path.join(staged.top, staged.prefix, name))  # noqa: PTH118 - Path knows no lexical ".."
    if path != staged.top and not path.startswith(staged.top.rstrip("/") + "/"):
        folder, file = os.path.split(path)  # it may lead here through a link, or be one
        whole = os.path.realpath(path)
        path = whole if whole == staged.top else os.path.join(os.path.realpath(folder), file)  # noqa: PTH118
    if path != staged.top and not path.startswith(staged.top.rstrip("/") + "/"):
        raise UserError(text.outside(name, staged.top))
    return path[len(staged.top.rstrip("/")) + 1 :]


def _rules(git: PlainGit, staged: Staged, tree: Sha) -> Rules:
    def content() -> bytes:
        found = read_file(git, tree, CONFIG_NAME)
        if found is None:
            raise NoConfig(_why_no_config(staged))
        return found

    def read(found: bytes) -> "Config":
        from hooks.config import composed  # as much again as all that is loaded so far

        return composed(git, tree, found, f"the staged {CONFIG_NAME}")

    # What is added with intent only has an empty blob, and is not in the tree.
    return kept_rules(staged.common_dir, None if staged.config in EMPTY_BLOBS else staged.config, content, read)


def _why_no_config(staged: Staged) -> str:
    file = os.path.join(staged.top, CONFIG_NAME)  # noqa: PTH118 - as a path of the work tree
    (is_new, _), (is_listed, _) = ask_git(("cat-file", "-e", f"HEAD:{CONFIG_NAME}"), ("check-ignore", "--quiet", "--", file))
    if os.path.lexists(file):
        return text.config_not_staged(os.path.relpath(file), is_ignored=not is_listed)
    return text.no_config() if is_new else text.config_taken_out(os.path.relpath(file))


def jobs_of(
    inputs: Inputs, scope: Scope, checks: Sequence[Check], changed: Collection[str] | None
) -> tuple[list[Job], list[Report]]:
    """What to answer for, and the reports of checks that nothing concerns."""
    concerned = {check.name for check in checks} if changed is None else inputs.touched(checks, changed)
    keys = inputs.keys([check for check in checks if check.name in concerned])
    jobs, untouched = [], []
    for check in checks:
        files = None if scope.files is None else tuple(path for path in scope.files if inputs.matches(check, path))
        has_none = files == () or (files is None and _matches_no_file(inputs, check))
        if check.name not in concerned or (check.names_files and has_none):
            untouched.append(Report(check.name, None, idle=lines.NO_FILES, reason=lines.NO_FILES))
            continue
        # A check that may look at history is not answered for by a tree: its key has a commit in it.
        key = keys.get(check.name)
        if check.names_files and files is not None and key is not None:
            key = InputKey(key_for_files(key, files))
        jobs.append(Job(check, key, files if check.names_files else None, partial(inputs.listing, check)))
    return jobs, untouched


def _matches_no_file(inputs: Inputs, check: Check) -> bool:
    """Whether it is known that nothing of the tree can be handed to its command."""
    records = inputs.listing(check) if check.names_files else None
    return records is not None and all(record[:6] in NO_FILES for record in records)


# --- around it ----------------------------------------------------------------------------------------------------------


@contextmanager
def ended_by_signals(*, outlives_caller: bool = False) -> Iterator[None]:
    """Whoever ends us ends the checks too: a plain SIGTERM would leave their processes behind. So does who ends the git or
    the runner that called us, as programs with windows do, unless we are to outlive it."""
    caller = os.getppid()

    def interrupt(*_: object) -> None:
        # Only once: another one would interrupt those that end the checks, and a Thread.join of Python 3.11 that was
        # interrupted takes its thread for one that has ended.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in before:
            signal.signal(number, _pass_over)
        raise KeyboardInterrupt

    def look(*_: object) -> None:
        if os.getppid() != caller:
            interrupt()

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ends = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in ends}
    if not outlives_caller and (INSTALLED in os.environ or RUNNER in os.environ):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, _CALLER_SEEN_EVERY_S, _CALLER_SEEN_EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_over(*_: object) -> None:
    """A signal that says what is known. Not SIG_IGN, which programs that are started now would take over."""


def leave_hook_environment() -> None:
    """Take the environment that a runner made for us off PATH: ``python`` in a check means the project's, not ours."""
    # What pre-commit and prek leave in the environments they make. One that the user activated has none of these.
    marks = (".install_state_v1", ".install_state_v2", ".prek-hook.json")
    if any(Path(sys.prefix, mark).exists() for mark in marks):
        ours = os.path.join(sys.prefix, "bin")  # noqa: PTH118 - as a runner wrote it
        os.environ["PATH"] = os.pathsep.join(entry for entry in os.get_exec_path() if entry != ours)


def _note(common_dir: Path, tree: Sha, reports: Sequence[Report]) -> None:
    """Leave a note of what the commit that comes of this tree is made without."""
    skipped, left = (tuple(each.check for each in reports if each.idle == idle) for idle in (lines.SKIPPED, lines.LEFT))
    with suppress(OSError):  # a glance tells less
        if not (skipped or left or os.listdir(common_dir / NOTES)):  # noqa: PTH208 - of names alone
            return
        from hooks.records import Note, keep_note  # long to load, and nearly always there is nothing to note

        keep_note(common_dir, tree, Note(skipped, left))


def _remember(staged: Staged, wish: Wish, round_: _Round, code: int, reports: Sequence[Report]) -> None:
    """Leave the marker for the next commit of the same content, when nothing but the content decided the outcome."""
    decided = not any(report.idle in (lines.LEFT, lines.SKIPPED) for report in reports)
    if code != EXIT_GREEN:
        forget_green(staged, list(wish.names))
    elif round_.is_kept and decided and wish.is_plain and not any(check.tools for check in round_.checks):
        remember_green(staged, list(wish.names), round_.known_until)
