"""Every sentence that the local hooks say to people."""

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ci.model import Check, CheckName, Outcome, Sha, Stage
from gate.config import CONFIG_NAME, Problem

if TYPE_CHECKING:
    from hooks.local import Report


def warn(line: str) -> None:
    """One line on standard error, where everything goes that is not a result."""
    sys.stderr.write(line + "\n")


def shown(name: str) -> str:
    """A path, ref or subject that cannot steer the terminal or break the line it stands in."""
    return name if name.isprintable() else repr(name)


# --- gate.toml ------------------------------------------------------------------------------------------------------------


def broken_config(where: str, problems: Iterable[Problem]) -> str:
    lines = [f"  line {problem.line}: {problem.path}: {problem.text}" for problem in problems]
    return "\n".join([f"{where} cannot be used:", *lines])


# --- commit messages ----------------------------------------------------------------------------------------------------


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


def message_refused(subject: str, path: str, broken: Iterable[tuple[str, str]]) -> list[str]:
    """broken: pairs of a key below [message] and a sentence."""
    return [
        f"gate: the commit message breaks the rules of gate.toml: {shown(subject)}",
        *(f"  [message] {rule}: {sentence}" for rule, sentence in broken),
        f"  nothing is lost: what you staged is still staged; to go on: git commit --edit --file={shlex.quote(path)}",
    ]


# --- pushes -------------------------------------------------------------------------------------------------------------


def push_usage() -> str:
    return (
        "usage: gate push [REMOTE URL] < LINES\n"
        "  git calls this as its pre-push hook; to submit a change: git push REMOTE HEAD:refs/for/main"
    )


def push_line_unreadable(line: str) -> str:
    return f"cannot read what is to be pushed: {shown(line)} is not a line of git's pre-push hook"


def push_to_trunk(remote: str, branch: str, local: str) -> list[str]:
    return [
        f"gate: {shown(branch)} is the trunk of {shown(remote)}: changes reach it through the gate, not by a direct push",
        f"  to submit this change instead: git push {shlex.quote(remote)} {shlex.quote(f'{local}:refs/for/{branch}')}",
    ]


def deletion_of_trunk(remote: str, branch: str) -> list[str]:
    return [f"gate: {shown(branch)} is the trunk of {shown(remote)}, and this push would delete it; nothing was pushed"]


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


def span(seconds: float) -> str:
    """A time for people: two of its units at most."""
    for size_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_s:
            whole, rest = divmod(int(seconds), size_s)
            smaller = {"d": (3600, "h"), "h": (60, "min"), "min": (1, "s")}[unit]
            part = rest // smaller[0]
            return f"{whole} {unit} {part} {smaller[1]}" if part else f"{whole} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


# --- gate check ---------------------------------------------------------------------------------------------------------

CHECK_DESCRIPTION = "Run the checks of the staged gate.toml on what is staged."
CHECK_EPILOG = """\
exit codes: 0 green, 1 red, 2 usage or configuration, 4 a check could not be run, 130 interrupted
Whether a check runs, and on what, is in docs/reference/hooks.md."""
HELP_STAGE = "pre-commit (default); merge: with pre-commit, all that the gate asks for before landing; post-commit"
HELP_ALL_FILES = "look at all tracked files, not only at those that are staged"
HELP_ONLY = "only this check; may be given more than once"
HELP_NO_CACHE = "run also what was green before with the same inputs"
HELP_JSON = "print one JSON object instead of lines"
HELP_FILES = "look at these files or folders of what is staged"

NO_FILES = "no files"
WORK_TREE_CHANGED = "files changed in the work tree while checks ran over it, so their results are not kept: see git status"

_TAIL_LINES = 40
_TAIL_BYTES = 8192
_FAILED_SHOWN = 20


def no_work_tree(folder: str) -> str:
    return f"{shown(folder)} is not in the work tree of a git repository, or git is missing: nothing can be staged here"


def no_config() -> str:
    return f"no {CONFIG_NAME} is staged or committed here: write one with gate init, then git add {CONFIG_NAME}"


def no_such_check(name: str, stage: Stage, names: Sequence[str]) -> str:
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


class Printer(Protocol):
    """Tells of every report as it comes, and of all of them in the end."""

    def tell(self, report: "Report") -> None: ...

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None: ...


class LinePrinter:
    """A line per check; after a red one the tests that failed, the end of its output and where the rest is."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._width = max((len(shown(check.name)) for check in checks), default=0)
        self._is_colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def tell(self, report: "Report") -> None:
        word, colour = self._word(report)
        time = "" if report.outcome is None or report.is_cached else span(report.duration_s)
        self._say(f"{shown(report.check):<{self._width}}  {self._painted(f'{word:<8}', colour)}  {time}".rstrip())
        if report.is_fine:
            return
        if report.reason:
            self._say(f"  {shown(report.reason)}")
        for name in report.failed[:_FAILED_SHOWN]:
            self._say(f"  failed: {shown(name)}")
        if len(report.failed) > _FAILED_SHOWN:
            self._say(f"  and {len(report.failed) - _FAILED_SHOWN} more")
        if report.log:
            for line in tail(Path(report.log)):
                self._say(f"  | {line}")
            self._say(f"  whole output: {shown(os.path.relpath(report.log))}")

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None:
        green = [report for report in reports if report.outcome is Outcome.GREEN]
        cached = sum(report.is_cached for report in green)
        bad = [report for report in reports if not report.is_fine]
        idle = len(reports) - len(green) - len(bad)
        parts = [f"{len(green)} green" + (f" ({cached} cached)" if cached else "")]
        parts += [f"{len(bad)} not green: {', '.join(shown(report.check) for report in bad)}"] if bad else []
        parts += [f"{idle} without files"] if idle else []
        self._say(f"{'; '.join(parts)}; {span(duration_s)}" if reports else "no check for this stage in gate.toml")

    def _word(self, report: "Report") -> tuple[str, int]:
        match report.outcome:
            case Outcome.GREEN:
                return ("cached" if report.is_cached else "green"), 32
            case Outcome.RED:
                return "RED", 31
            case Outcome.TIMED_OUT:
                return "TIMED OUT", 31
            case Outcome.INFRASTRUCTURE:
                return "NOT RUN", 33
            case None:
                return ("NOT RUN", 33) if report.is_blocked else (NO_FILES, 2)

    def _painted(self, word: str, colour: int) -> str:
        return f"\x1b[{colour}m{word}\x1b[0m" if self._is_colourful else word

    def _say(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()  # a person waits for it


class JsonPrinter:
    """The same facts as one JSON object, when all is done."""

    def __init__(self, stage: Stage, tree: Sha) -> None:
        self._stage = stage
        self._tree = tree

    def tell(self, report: "Report") -> None:
        pass

    def finish(self, reports: Sequence["Report"], duration_s: float) -> None:
        import json

        checks = [
            {
                "name": report.check,
                "outcome": report.outcome,
                "cached": report.is_cached,
                "duration_s": round(report.duration_s, 3),
                "reason": report.reason,
                "failed": list(report.failed),
                "log": report.log,
            }
            for report in reports
        ]
        facts = {
            "stage": self._stage,
            "tree": self._tree,
            "green": all(report.is_fine for report in reports),
            "duration_s": round(duration_s, 3),
            "checks": checks,
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")


def tail(log: Path) -> list[str]:
    """The last lines of a log, without anything that could steer a terminal. Starts with a mark when there was more."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    is_cut = size > _TAIL_BYTES or len(lines) > _TAIL_LINES
    kept = ["".join(letter for letter in line if letter.isprintable() or letter == "\t") for line in lines[-_TAIL_LINES:]]
    return ["[…]", *kept] if is_cut else kept
