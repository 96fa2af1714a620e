"""Every sentence that the local hooks say to people."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ci.model import Check, CheckName, Outcome, Sha, Stage
from hooks import lines
from hooks.lines import shown, span

if TYPE_CHECKING:
    from gate.config import Problem
    from hooks.records import Answer, Seen
    from hooks.report import Report


def warn(line: str) -> None:
    """One line on standard error, where everything goes that is not a result."""
    sys.stderr.write(line + "\n")


# --- gate.toml ------------------------------------------------------------------------------------------------------------


def broken_config(where: str, problems: "Iterable[Problem]") -> str:
    return "\n".join([f"{where} cannot be used:", *map(_of_problem, problems)])


def _of_problem(problem: "Problem") -> str:
    names_file = bool(problem.file and problem.line)  # what is of a file as a whole says so
    return f"  {problem.file} {problem.told}" if names_file else f"  {problem.told}"


# --- commit messages ----------------------------------------------------------------------------------------------------


MESSAGE_HELP = """\
usage: gate message FILE

Judge the commit message in FILE by the rules of [message] in gate.toml, and never change it. git calls this as its
commit-msg hook.

exit codes: 0 fine, 1 a rule is broken, 2 usage or configuration
"""


def message_usage() -> str:
    return "usage: gate message FILE\n  git calls this as its commit-msg hook, with the file that holds the message"


def message_unreadable(path: str, cause: str) -> str:
    return f"cannot read the commit message in {shown(path)}: {cause}"


def bad_pattern(pattern: str, cause: str) -> str:
    return f"gate.toml: [message] pattern {pattern!r} is not a regular expression: {cause}"


def subject_unlike_pattern(pattern: str) -> str:
    return f"the subject does not match the pattern {pattern}"


def subject_too_long(length: int, limit: int, *, runs_on: bool) -> str:
    cure = (
        "leave the second line empty: everything up to the first empty line is the subject"
        if runs_on
        else "move details below it"
    )
    return f"the subject has {length} characters, and {limit} are allowed: {cure}"


def trailers_missing(names: tuple[str, ...]) -> str:
    lines = " and ".join(f'"{name}: …"' for name in names)
    signing = " (git commit --signoff adds it)" if names == ("Signed-off-by",) else ""
    return f"the last paragraph must hold a line {lines}{signing}"


# Who empties the message gives the commit up, and is told by git only after us; --allow-empty-message would make it.
MESSAGE_EMPTY = "gate: the commit message is empty, which [message] does not allow; nothing is committed"


def message_refused(subject: str, path: str, broken: Iterable[tuple[str, str]]) -> list[str]:
    """broken: pairs of a key below [message] and a sentence."""
    return [
        f"gate: the commit message breaks the rules of gate.toml: {shown(subject)}",
        *(f"  [message] {rule}: {sentence}" for rule, sentence in broken),
        f"  nothing is lost: what you staged is still staged; to go on: git commit --edit --file={shlex.quote(path)}",
    ]


# --- pushes -------------------------------------------------------------------------------------------------------------


PUSH_HELP = """\
usage: gate push [--json] [REMOTE URL] < LINES

Judge a push before it is sent: no push to trunk, checks of the tip of each ref as [push] checks says, warnings by [push].
git calls this as its pre-push hook, with a line for each ref: LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID
To submit a change: git push REMOTE HEAD:refs/for/main

options
  --json       print one JSON object instead of lines; before REMOTE

exit codes: 0 the push goes on, 1 refused or red, 2 usage or configuration, 4 a check could not be run, 130 interrupted
"""


def push_usage() -> str:
    return (
        "usage: gate push [--json] [REMOTE URL] < LINES\n"
        "  git calls this as its pre-push hook; to submit a change: git push REMOTE HEAD:refs/for/main"
    )


def push_line_unreadable(line: str) -> str:
    return f"cannot read what is to be pushed: {shown(line)} is not a line of git's pre-push hook"


def push_to_trunk(remote: str, branch: str, local: str) -> list[str]:
    return [
        f"gate: {shown(branch)} is the trunk of {shown(remote)}: changes reach it through the gate, not by a direct push",
        f"  to submit this change instead: git push {shlex.quote(remote)} {shlex.quote(f'{local}:refs/for/{branch}')}",
        f'  where there is no gate: [push] trunk = "allow" in the gate.toml of {shown(branch)}',
    ]


def deletion_of_trunk(remote: str, branch: str) -> list[str]:
    return [f"gate: {shown(branch)} is the trunk of {shown(remote)}, and this push would delete it; nothing was pushed"]


def push_not_a_commit(name: str) -> str:
    return f"gate: warning: {shown(name)} is no commit, or is not complete here, so that nothing of it was checked"


def push_checks_of(names: Sequence[str], commit: Sha) -> str:
    return f"checks of {_some(names)} ({commit[:10]})"


def push_known(commit: Sha, count: int) -> str:
    return f"{commit[:10]} was green already: {count} {'check' if count == 1 else 'checks'}"


def would_mend_there(check: Check, paths: Sequence[str]) -> str:
    """Of a check of a commit. paths: from the top of the repository on."""
    words = (
        f"--stage {check.stage} --only {check.name}"
        if check.stage is not Stage.PRE_COMMIT
        else file_words(paths, many="--all-files")
    )
    return f"it would mend {_some(paths)}: gate check --fix {words} does that in your work tree"


def file_words(paths: Sequence[str], many: str) -> str:
    """Paths as words of a command. many: stands for more, or others, than anybody can paste."""
    if len(paths) > 5 or not all(path.isprintable() for path in paths):
        return many
    dashes = "-- " if any(path.startswith("-") for path in paths) else ""
    return dashes + " ".join(map(shlex.quote, paths))


def push_not_green(names: Sequence[str], commit: Sha, checks: Sequence[str]) -> list[str]:
    """checks: those that are not green."""
    return [
        f"gate: {_some(names)} ({commit[:10]}) is not green: {_some(checks)}; nothing was pushed",
        "  to fix: mend it, commit or git commit --amend, and push again; "
        "to push it as it is: git push --no-verify (the gate runs the checks all the same)",
    ]


def push_told(
    refused: Sequence[str],
    warned: Sequence[str],
    commits: Iterable[tuple[Sequence[str], Sha, Sequence["Report"]]],
    *,
    is_green: bool,
) -> str:
    """One JSON object. commits: the names that each is pushed by, its id, and what its checks came to."""
    import json

    checked = [
        {
            "names": list(names),
            "commit": commit,
            "green": all(report.is_fine for report in reports),
            "checks": list(map(_facts_of, reports)),
        }
        for names, commit, reports in commits
    ]
    facts = {"green": is_green, "refused": list(refused), "warnings": list(warned), "commits": checked}
    return json.dumps(facts, indent=2) + "\n"


def far_behind(branch: str, behind: int, limit: int, remote: str, trunk: str) -> list[str]:
    return [
        f"gate: warning: {shown(branch)} is {behind} commits behind {shown(trunk)}: [push] max_behind is {limit}",
        _catch_up(remote, trunk),
    ]


def long_away(branch: str, age_s: float, limit_s: float, remote: str, trunk: str) -> list[str]:
    return [
        f"gate: warning: the oldest commit of {shown(branch)} that is not on {shown(trunk)} is {span(age_s)} old, "
        f"and [push] max_age is {span(limit_s)}",
        _catch_up(remote, trunk),
    ]


def _catch_up(remote: str, trunk: str) -> str:
    branch = shlex.quote(trunk)
    return f"  to catch up: git fetch {shlex.quote(remote)} {branch} && git rebase FETCH_HEAD"


# --- gate check ---------------------------------------------------------------------------------------------------------

CHECK_DESCRIPTION = "Run the checks of the staged gate.toml on what is staged."
CHECK_EPILOG = """\
exit codes: 0 green, 1 red, 2 usage or configuration, 4 a check could not be run, 130 interrupted
Whether a check runs, and on what, is in docs/reference/hooks.md."""
HELP_STAGE = "pre-commit (default); merge: with pre-commit, all that the gate asks for before landing; post-commit"
HELP_ALL_FILES = "look at all tracked files, not only at those that are staged"
HELP_ONLY = "only this check; may be given more than once"
HELP_NO_CACHE = "run also what was green before with the same inputs"
HELP_NO_BUDGET = "run all, however long it takes: [hooks] budget is passed over"
HELP_FIX = "apply what checks with fix = true mended to index and work tree; after gate install, commits do so"
HELP_VERBOSE = "show the end of what green checks print as well, and keep all of it"
HELP_JSON = "print one JSON object instead of lines"
HELP_FILES = "look at these files or folders of what is staged"


def not_found(reason: str, path: str) -> str:
    """Programs with windows give their hooks another PATH than a terminal has."""
    return f"{reason}; PATH is {shown(path) or 'empty'}"


def led_astray(leads: Mapping[str, str], paths: Sequence[str]) -> str:
    folders = ", ".join(f"{shown(folder)} (by {shown(source)})" for folder, source in [*leads.items()][:3])
    return (
        f"checks import from the work tree: {folders}; it has {_some(paths)} otherwise than what is checked, so results "
        "are not kept: stage or stash that, or set PYTHONPATH in the check's env"
    )


WORK_TREE_CHANGED = "files changed in the work tree while checks ran over it, so their results are not kept: see git status"

_TAIL_LINES = 40
_TAIL_BYTES = 8192
_FAILED_SHOWN = 20


# Set by git for a hook, which it runs at the top: where below it the caller is, "" at the top.
CALLERS_FOLDER = "GIT_PREFIX"


def _from_here(path: str) -> str:
    """A path that leads there from where the caller is."""
    return path if os.environ.get(CALLERS_FOLDER) else os.path.relpath(path)


def restaged(paths: Sequence[str], *, is_commit: bool) -> str:
    told = f"gate: something else is staged than when the checks began ({_some(paths)})"
    return f"{told}: what they looked at is not what would be committed; commit again" if is_commit else told


def no_work_tree() -> str:
    """Why there is nothing to look at in the current folder."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - pathlib costs more
    except FileNotFoundError:
        return "the current folder is gone: go to another one"
    if "\n" in folder:
        return (
            f"{shown(folder)} has a newline in its path, from which git's answers cannot be told apart: rename that folder"
        )
    if why := _what_git_says():
        return f"git refuses to look at the repository of {shown(folder)}:\n  {why}"
    return f"{shown(folder)} is not in the work tree of a git repository, or git is missing: go to one, or git init"


def _what_git_says() -> str:
    """What is wrong, and what git advises, with a repository that is there."""
    import subprocess  # only where something is wrong

    try:
        done = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, check=False)
    except OSError:
        return ""
    usual = (b"not a git repository", b"must be run in a work tree")
    if not done.returncode or any(words in done.stderr for words in usual):
        return ""
    return "\n  ".join(map(shown, os.fsdecode(done.stderr).expandtabs(4).splitlines()))


def no_config() -> str:
    return "no gate.toml is staged or committed here: write one with gate init, then git add gate.toml"


def config_not_staged(path: str, *, is_ignored: bool) -> str:
    return f"gate.toml is there and not staged: git add {'--force ' if is_ignored else ''}{shlex.quote(path)}"


def config_taken_out(path: str) -> str:
    return f"gate.toml is staged to be removed: to have it back, git restore --staged --worktree {shlex.quote(path)}"


def no_such_check(name: str, stage: Stage, names: Sequence[str], elsewhere: Stage | None) -> str:
    """names: what the stage has. elsewhere: the stage of the check of this name; None: there is no such check."""
    if elsewhere is not None:
        return f"the check {shown(name)} is of stage {elsewhere}: gate check --stage {elsewhere} --only {shown(name)}"
    there = ", ".join(map(shown, names)) or "none"
    return f"gate.toml has no check {shown(name)} for stage {stage}; it has: {there}"


def unmerged() -> str:
    return "a merge is not finished: resolve the conflicts and git add the files, then check again"


def outside(name: str, top: str) -> str:
    return f"{shown(name)} lies outside of the work tree {shown(top)}"


def not_staged(path: str) -> str:
    return f"gate: {shown(path)} is not among what is staged or committed, and is not looked at (git add it first)"


def blocked_by(need: CheckName) -> str:
    return f"not run: it needs {shown(need)}, which is not green"


def found(count: int, *, mends_in_vain: bool = False) -> str:
    told = "1 finding" if count == 1 else f"{count} findings"
    return f"{told}; what --fix mends reaches nobody unless the check has fix = true" if mends_in_vain else told


def mute_tool(check: str, tool: str, why: str) -> str:
    line = why.strip().splitlines()[0]
    return f"{tool!r}, which the check {shown(check)} names in tools, tells no version ({line}): an upgrade will not be seen"


def skipped_by(variable: str) -> str:
    return f"by {variable}; the gate runs it all the same"


def nothing_to_skip(variable: str, name: str, there: Sequence[CheckName]) -> str:
    return f"{variable} names {shown(name)}, and no check in gate.toml is called so; they are: {_some(there) or 'none'}"


def left_to_the_gate(ends_at_s: float, budget_s: float) -> str:
    return f"to the gate: it would end after about {span(ends_at_s)}, and [hooks] budget is {span(budget_s)}"


def mended(paths: Sequence[str]) -> str:
    return f"mended and staged: {_some(paths)}"


def fix_unwritable(path: str, why: str, done: Sequence[str]) -> str:
    """done: what was mended in the work tree before."""
    left = f"; {_some(done)}: mended in the work tree already, and staged with the rest then" if done else ""
    return f"{shown(path)} cannot be mended: {why}; nothing was staged; try again once it can be written{left}"


def merged_before() -> str:
    return "gate: git made this merge before anything was mended, and would commit it as it was: git commit has all in it"


def nothing_left(mended: Sequence[str]) -> str:
    told = f"gate: {_some(mended)} was mended to what HEAD has, and nothing is left to commit"
    return f"{told} (with --amend or --allow-empty: once more)"


def logs_elsewhere(folder: str, cause: str, elsewhere: str) -> str:
    """cause: as the system says it."""
    return (
        f"{shown(folder)} cannot be written: {whose_fault(folder) or cause.lower()}; until then, what red checks said is in "
        f"{shown(elsewhere)}"
    )


def whose_fault(path: str) -> str:
    """Whose a file or folder is that keeps us from this path, and the cure; "" where it is neither owner nor mode."""
    where = Path(path)
    while True:
        try:
            facts = where.stat()
            break
        except OSError:  # not there, or behind a folder that is closed
            where = where.parent
    if os.access(where, os.W_OK | (os.X_OK if where.is_dir() else 0)):
        return ""
    if facts.st_uid == os.getuid():
        return f"{shown(str(where))} has mode {facts.st_mode & 0o777:03o}; chmod u+rwX it"
    return f"{shown(str(where))} belongs to {_account(facts.st_uid)}; chown it"


def _account(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container, say
        return f"account {number}"


def staged_for_nothing(mended: Sequence[str]) -> str:
    told = "gate: git drops what it has staged for a commit that is not made"
    return f"{told}: {_some(mended)}: mended in the work tree alone; commit in the same way again, or git add"


NOTHING_TO_MEND = "gate: nothing is staged, so there was nothing to mend: git add first (--all-files looks at everything)"


def patch_left(paths: Sequence[str], git: str, patch: str, options: str, *, add: str, was_tried: bool) -> str:
    """git: the words that call it for the top of the work tree. options: of the gate check that applies it, beside --fix.
    add: the command that stages the files, where git drops what it has staged for this commit; else ""."""
    if was_tried:
        why = "it meets lines that are not staged, or that were staged since, or leaves no plain file"
        way = f"{add}, and commit again" if add else "stage these lines"
        return f"it would mend {_some(paths)}, where {why}: {way}, or {git} apply --cached {shlex.quote(patch)}"
    first = f"{add}, and " if add else ""
    way = f"{first}gate check --fix{options} does that, or {git} apply --index {shlex.quote(patch)}"
    return f"it would mend {_some(paths)}: {way}"


def patch_of_others(paths: Sequence[str], git: str, patch: str) -> str:
    way = f"gate check --fix --all-files does that, or {git} apply --index {shlex.quote(patch)}"
    return f"it would mend {_some(paths)} too, of which nothing is staged: {way}"


def not_stable(paths: Sequence[str]) -> str:
    return f"it mended {_some(paths)} a second time: two checks undo each other's work, or one never ends"


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(map(shown, paths[:5])) + more


# --- gate background, gate local ------------------------------------------------------------------------------------------

BACKGROUND_DESCRIPTION = (
    "Start the checks of stages pre-commit and merge on HEAD, and return. git calls this after each commit; a newer commit "
    "takes the place of an older one."
)
HELP_FOREGROUND = "run them here, and wait for their end"
HELP_STOP = "end what runs in the background in this work tree"
HELP_EVENT = "given by git's post-rewrite hook: rebase, which starts the work that each commit of it did not, or amend"
LOCAL_DESCRIPTION = "What the checks in the background found in the last commits, and what these were made without."

_LEAST_SHORT = 7


def short(commit: str) -> str:
    return commit[:_LEAST_SHORT]


def background_started(commit: str) -> str:
    return f"gate: the checks of {short(commit)} run in the background; gate local says what they find"


def background_not_needed(reason: str) -> str:
    return f"gate: nothing was started: {reason}"


def background_not_started(cause: str) -> str:
    return f"the commit is made, but its checks could not be started in the background: {cause}"


def background_superseded(commit: str) -> str:
    return f"gate: {short(commit)} is not worked on any more, because another commit is wanted, or none"


def background_is_done_by_another(commit: str) -> str:
    return f"gate: nothing was done: {short(commit)} is worked on already, or a newer commit is; see gate local"


def background_stopped(commit: str) -> str:
    return f"gate: the work on {short(commit)} has ended; gate background starts it again"


def nothing_to_stop() -> str:
    return "gate: nothing runs in the background in this work tree"


def reds(answers: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Red checks with their failed tests, in one line."""
    return "; ".join(f"{shown(name)} is red{_first_of(failed)}" for name, failed in answers)


def _first_of(failed: Sequence[str]) -> str:
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f", {shown(failed[0])}{more}" if failed else ""


def age(commits: int) -> str:
    return "HEAD" if not commits else f"{commits} commit{'s' if commits > 1 else ''} ago"


def nothing_known() -> str:
    return "nothing is known of the last commits: gate background checks HEAD; after gate install, it does so by itself"


def glance(found: Sequence["Seen"], now: float) -> str:
    """What ``gate local`` prints. found: newest first. now: epoch seconds UTC."""
    if not found:
        return nothing_known() + "\n"
    width = max(len(age(seen.age)) for seen in found)
    lines = []
    for seen in found:
        lines.append(f"{age(seen.age):<{width}}  {short(seen.commit)}  {shown(seen.subject)}")
        lines += [f"  {line}" for line in _work_of(seen, now)]
    return "\n".join(lines) + "\n"


def _work_of(seen: "Seen", now: float) -> Iterator[str]:
    record = seen.record
    if record is not None:
        for name, seconds in seen.running(now):
            yield f"{shown(name)} is running: {span(seconds)} so far"
        for answer in record.answers:
            yield from _not_green(answer)
        if record.wanted:
            yield f"{sum(answer.outcome == Outcome.GREEN for answer in record.answers)} of {len(record.wanted)} green"
        if seen.waiting:
            yield f"{'waiting' if seen.state == 'running' else 'not run'}: {', '.join(map(shown, seen.waiting))}"
        yield from _how_it_ended(seen.state, record.trouble, seen.log)
    for names, why in ((seen.note.skipped, "skipped"), (seen.note.left, "no time")):
        if names:
            yield f"committed without: {', '.join(map(shown, names))} ({why})"


def _not_green(answer: "Answer") -> Iterator[str]:
    if answer.outcome == Outcome.GREEN:
        return
    why = f": {shown(answer.reason)}" if answer.reason else ""
    yield f"{shown(answer.name)} is {answer.outcome}{why}" if answer.outcome else f"{shown(answer.name)}{why}"
    yield from (f"  failed: {shown(name)}" for name in answer.failed[:_FAILED_SHOWN])
    if len(answer.failed) > _FAILED_SHOWN:
        yield f"  and {len(answer.failed) - _FAILED_SHOWN} more"
    if answer.log and Path(answer.log).exists():
        yield f"  whole output: {shown(os.path.relpath(answer.log))}"


def _how_it_ended(state: str, trouble: str, log: str) -> Iterator[str]:
    whole = f" (all it said: {shown(os.path.relpath(log))})" if log else ""
    match state:
        case "interrupted":
            yield f"interrupted: the work was killed{whole}; gate background starts what is missing, when this is HEAD"
        case "superseded":
            yield "not gone on with: a newer commit has taken its place"
        case "stopped":
            yield "stopped; gate background starts what is missing, when this is HEAD"
        case "failed":
            yield f"could not be gone on with{whole}: {trouble}"


# --- gate cache -----------------------------------------------------------------------------------------------------------

CACHE_DESCRIPTION = (
    "What the hooks keep in this repository: results, logs and warm work trees. Any of it may go; it costs a run."
)
HELP_CACHE = "show (default): how much there is; clear: remove all; prune: remove what is old or too much"
HELP_CACHE_AGE = "for prune: remove what is older, as in 7d; without it [hooks] cache_age"
HELP_CACHE_POOL = "for prune: keep no more than this of work trees, as in 1GB; without it [hooks] pool_size"
HELP_CACHE_SIZE = "for prune: keep no more than this of results and logs, as in 50MB; without it [hooks] cache_size"


def only_for_prune(action: str) -> str:
    return f"--age, --size and --pool-size are for gate cache prune; gate cache {action} looks at all there is"


class Kept(NamedTuple):
    """Bytes on disk, and counts."""

    results: int
    results_bytes: int
    logs: int
    logs_bytes: int
    trees: int
    trees_bytes: int


def cache_told(action: str, home: str, pool: str, before: Kept, after: Kept, *, as_json: bool) -> str:
    """What ``gate cache`` prints."""
    if as_json:
        import json

        return json.dumps({"action": action, "folder": home, "pool": pool, **after._asdict()}, indent=2) + "\n"
    freed = max(0, sum(before[1::2]) - sum(after[1::2]))  # a store with nothing in it takes some kilobytes
    lines = [
        f"{after.results} results  {size(after.results_bytes)}",
        f"{after.logs} logs  {size(after.logs_bytes)}   in {shown(home)}",
        f"{after.trees} work trees  {size(after.trees_bytes)}   in {shown(pool)}",
    ]
    return "\n".join([*lines, *([f"removed {size(freed)}"] if action != "show" else [])]) + "\n"


def size(count: int) -> str:
    """Bytes for people."""
    for unit_bytes, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {unit}"
    return f"{count} B"


# --- how gate check prints ------------------------------------------------------------------------------------------------


class Printer(Protocol):
    """Tells of every report as it comes, and of all of them in the end."""

    @property
    def watch(self) -> Callable[[list[tuple[str, float]]], None] | None:
        """To be told what runs; None: nobody looks."""
        ...

    def tell(self, report: "Report") -> None: ...

    def note(self, line: str) -> None: ...

    def mended(self, files: Mapping[str, Sequence[str]]) -> None:
        """files: by the name of the check that mended them; they are staged. May be called again: of the next round."""
        ...

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None: ...


class LinePrinter:
    """What is not green at once, with the tests that failed, the end of its output and where the rest is; in the end a line
    for each of the others, and one for all. On a terminal the last line shows what runs."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._width = lines.width_of([check.name for check in checks])
        self._paint = lines.Paint()
        self._quiet: list[str] = []

    @property
    def watch(self) -> Callable[[list[tuple[str, float]]], None] | None:
        return self._show_running if self._paint.is_terminal else None

    def tell(self, report: "Report") -> None:
        word, colour = self._word(report)
        time = "" if report.outcome is None or report.is_cached else span(report.duration_s)
        why = shown(report.reason) if report.idle and report.reason != report.idle else time
        line = lines.of_check(report.check, self._width, word, colour, self._paint, why)
        if report.is_fine:
            self._quiet += [line, *_output(report)]
            return
        self._say(line)
        if report.reason:
            self._say(f"  {shown(report.reason)}")
        for name in report.failed[:_FAILED_SHOWN]:
            self._say(f"  failed: {shown(name)}")
        if len(report.failed) > _FAILED_SHOWN:
            self._say(f"  and {len(report.failed) - _FAILED_SHOWN} more")
        for line in _output(report):
            self._say(line)

    def note(self, line: str) -> None:
        self._say(f"gate: {line}")

    def mended(self, files: Mapping[str, Sequence[str]]) -> None:
        self.note(mended(_each(files)))

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None:
        for line in self._quiet:
            self._say(line)
        green = [report for report in reports if report.outcome is Outcome.GREEN]
        ran = [report for report in reports if report.outcome is not None and not report.is_cached]
        slowest = max(ran, key=lambda report: report.duration_s, default=None)
        named = f", slowest {shown(slowest.check)}" if slowest is not None and len(ran) > 1 else ""
        last = lines.of_all(
            len(green),
            sum(report.is_cached for report in green),
            [report.check for report in reports if not report.is_fine],
            [report.idle for report in reports],
            span(duration_s) + named,
        )
        if reports:
            self._say(last)
        else:
            sys.stdout.write(lines.no_check())

    def _word(self, report: "Report") -> tuple[str, int]:
        match report.outcome:
            case Outcome.GREEN:
                return ("cached" if report.is_cached else "green"), lines.GREEN
            case Outcome.RED:
                return "RED", lines.RED
            case Outcome.TIMED_OUT:
                return "TIMED OUT", lines.RED
            case Outcome.INFRASTRUCTURE:
                return "NOT RUN", lines.YELLOW
            case None:
                return ("NOT RUN", lines.YELLOW) if report.is_blocked else (report.idle, lines.FAINT)

    def _show_running(self, running: list[tuple[str, float]]) -> None:
        line = ", ".join(f"{shown(name)} {int(seconds)} s" for name, seconds in running)
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 80
        sys.stdout.write(f"\r\x1b[K{f'running: {line}'[: columns - 1]}")
        sys.stdout.flush()

    def _say(self, line: str) -> None:
        clear = "\r\x1b[K" if self._paint.is_terminal else ""  # the line that tells what runs gives way to the next one
        sys.stdout.write(f"{clear}{line}\n")
        sys.stdout.flush()  # a person waits for it


def _output(report: "Report") -> list[str]:
    """The end of what it printed, where that was kept, and where the rest is."""
    if not report.log:
        return []
    return [*(f"  | {line}" for line in tail(Path(report.log))), f"  whole output: {shown(_from_here(report.log))}"]


class JsonPrinter:
    """The same facts as one JSON object, when all is done."""

    def __init__(self, stage: Stage, tree: Sha) -> None:
        self._stage = stage
        self._tree = tree
        self._notes: list[str] = []
        self._mended: dict[str, list[str]] = {}

    @property
    def watch(self) -> None:
        return None

    def tell(self, report: "Report") -> None:
        pass

    def note(self, line: str) -> None:
        self._notes.append(line)

    def mended(self, files: Mapping[str, Sequence[str]]) -> None:
        self.note(mended(_each(files)))
        for check, paths in files.items():
            self._mended[check] = sorted({*self._mended.get(check, []), *paths})

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None:
        import json

        facts = {
            "stage": self._stage,
            "tree": self._tree,
            "green": all(report.is_fine for report in reports),
            "duration_s": round(duration_s, 3),
            "notes": self._notes,
            "mended": _each(self._mended),
            "checks": [_facts_of(report, self._mended.get(report.check, ())) for report in reports],
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")


class SilentPrinter:
    """For who tells of the reports in another way."""

    watch = None

    def tell(self, report: "Report") -> None: ...

    def note(self, line: str) -> None: ...

    def mended(self, files: Mapping[str, Sequence[str]]) -> None: ...

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None: ...


def _each(files: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted({path for paths in files.values() for path in paths})


def _facts_of(report: "Report", mended: Sequence[str] = ()) -> Mapping[str, object]:
    """mended: files that this check mended, and that are staged so now."""
    return {
        "name": report.check,
        "outcome": report.outcome,
        "cached": report.is_cached,
        "idle": report.idle,
        "duration_s": round(report.duration_s, 3),
        "reason": report.reason,
        "failed": list(report.failed),
        "mended": list(mended),
        "log": report.log,
    }


def tail(log: Path) -> list[str]:
    """The last lines of a log, without anything that could steer a terminal. Starts with a mark when there was more."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    is_cut = size > _TAIL_BYTES or len(lines) > _TAIL_LINES
    kept = ["".join(letter for letter in line if letter.isprintable() or letter == "\t") for line in lines[-_TAIL_LINES:]]
    return ["[…]", *kept] if is_cut else kept


# --- gate install -------------------------------------------------------------------------------------------------------

INSTALL_DESCRIPTIONS = {
    "install": "Install the hooks into this repository and all of its work trees. Hooks that are there keep running.",
    "uninstall": "Remove the hooks that gate install has written, and put back those that were there before.",
}
_UNCHANGED = "nothing was changed"


def hook_type_help(kinds: Iterable[str]) -> str:
    return f"only this hook, of {', '.join(kinds)}; may be given more than once (default: all)"


def no_git(cause: str) -> str:
    return f"git cannot be run: {cause}"


def bare_repository(folder: str) -> str:
    return (
        f"{shown(folder)} is a bare repository, and nobody commits there: install the hooks in a clone of it\n"
        "  to make it a gated repository: gate init REPO.git"
    )


def hooks_put_aside(kinds: Sequence[str]) -> str:
    names = ", ".join(f"{kind} (now {kind}.old)" for kind in kinds)
    return (
        f"gate: another tool, such as lefthook, has put hooks of ours aside, and git does not run them any more: {names}\n"
        "  to have both run: gate install again; to have ours gone: gate uninstall"
    )


def no_hooks_folder() -> str:
    return (
        "git names no folder for hooks here, as where core.hooksPath is empty: hooks are switched off\n"
        "  to see who says so: git config --show-origin --get-all core.hooksPath"
    )


def hooks_folder_is_none(folder: str) -> str:
    return (
        f"git looks for hooks in {shown(folder)}, which is not a folder: hooks are switched off here\n"
        "  to see who says so: git config --show-origin --get-all core.hooksPath"
    )


def hooks_folder_unwritable(folder: str, cause: str) -> str:
    return f"hooks cannot be installed in {shown(folder)}: {cause}"


def hooks_folder_elsewhere(folder: str, scope: str) -> str:
    """scope: the level of git's settings that core.hooksPath is of; "": it is not set, and the folder is a link."""
    because = f"by core.hooksPath of your {scope} settings" if scope else "by a symbolic link"
    return (
        f"git looks for hooks in {shown(folder)} ({because}), outside of this repository: a hook installed there would run "
        f"in every repository that uses the folder; {_UNCHANGED}\n"
        "  to call the gate from the hooks there, add to its pre-commit: [ ! -f gate.toml ] || gate check || exit\n"
        '  to use no hooks but those of this repository: git config core.hooksPath "$(git rev-parse --path-format=absolute '
        '--git-common-dir)/hooks"'
    )


def hooks_folder_tracked(folder: str, commands: Mapping[str, str]) -> str:
    return (
        f"git tracks the hooks in {shown(folder)}: what is installed there, with paths of this machine in it, would be "
        f"committed for everybody; {_UNCHANGED}\n"
        f"  to call the gate from them, for everybody, add: {_calls(commands)}"
    )


def hooks_folder_of_husky(folder: str, commands: Mapping[str, str]) -> str:
    return (
        f"the hooks in {shown(folder)} are husky's, which writes them anew whenever it is installed; {_UNCHANGED}\n"
        f"  to call the gate from husky, add below .husky: {_calls(commands)}"
    )


def _calls(commands: Mapping[str, str]) -> str:
    return ", ".join(f'gate {command} "$@" to {kind}' for kind, command in commands.items())


def install_refused(refusals: Iterable[tuple[str, str]]) -> str:
    """refusals: pairs of a hook and a sentence with its cure."""
    return "\n".join([f"{_UNCHANGED}:", *(f"  {kind}: {why}" for kind, why in refusals)])


def hook_is_no_file(kind: str) -> str:
    return (
        f"what has this name among the hooks is no file: move it away, or install the others with --hook-type (not {kind})"
    )


def hook_kept_twice(kind: str, before: str, *, is_ours_aside: bool) -> str:
    cure = (
        "gate uninstall, then gate install again" if is_ours_aside else f"move {before} away, or put it in place of {kind}"
    )
    return f"there is a hook that gate did not write, and {before} as well, and only one can be called first; to fix: {cure}"


def hook_acts_by_name(command: str) -> str:
    return (
        "the hook that is there acts by its own name, or may do so, and would not work under another; "
        f'to fix: add a line to it: gate {command} "$@" || exit'
    )


def hook_of_runner(runner: str, config: str, command: str) -> str:
    return f"{runner} runs gate-{command} already, by {shown(config)}"


def hook_calls_gate(command: str) -> str:
    return f"the hook that is there calls gate {command} already"


def hook_calls_pre_commit() -> str:
    return "it is the pre-commit hook that it calls, so that what is installed there serves merges too"


def hook_called_by_runner(runner: str, name: str) -> str:
    return f"{runner} calls it already, as {name}"


_NOT_EXECUTABLE = "it cannot be executed: git did not run it, and neither does gate"


def hook_kept(runner: str, *, is_executable: bool) -> str:
    if not is_executable:
        return _NOT_EXECUTABLE
    if runner == "lefthook":
        return "lefthook takes its place back when lefthook.yml changes: a line in that file lasts longer"
    return ""


def hook_left_beside(before: str) -> str:
    return f"somebody has replaced the hook of gate install; what was there before that is kept as {before}"


def hook_of_others() -> str:
    return "not written by gate install"


def own_hooks_folder(folder: str) -> str:
    return f"gate: {shown(folder)} belongs to this work tree alone: other work trees need a gate install of their own"


def hook_without_gate(kind: str, before: str, program: str) -> list[str]:
    """What an installed hook says when its program is gone. Part of a shell script: the names are known by then only."""
    return [
        f"gate: the program that this {kind} hook calls is gone: {shown(program)}; and PATH has no gate",
        "  to fix: install trunkgate, then gate install; or, to be rid of the hook, remove it from the folder of hooks,",
        f"  git rev-parse --git-path hooks/{kind}, and rename {before} to {kind} if there is one",
    ]


def installed(folder: str, hooks: Iterable[tuple[str, str, str, str]]) -> list[str]:
    """hooks: the name of each, what was done about it, the file that keeps what was there before or "", and why or ""."""
    words = {
        "written": "installed",
        "chained": "installed",
        "renewed": "installed anew",
        "unchanged": "installed already",
        "left": "left alone",
        "removed": "removed",
        "restored": "removed; the hook that was there before is back",
        "absent": "not installed",
    }
    lines = [f"hooks in {shown(folder)}"]
    for kind, did, before, why in hooks:
        how = "is kept" if why == _NOT_EXECUTABLE else "runs first"
        kept = f"; what was there before {how}, as {before}" if before and did != "left" else ""
        lines.append(f"  {kind}: {words[did]}{kept}{f' ({why})' if why and kept else f': {why}' if why else ''}")
    return lines
