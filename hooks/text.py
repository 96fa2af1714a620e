"""Every sentence that the local hooks say to people."""

import shlex
import sys
from collections.abc import Iterable

from gate.config import Problem


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
    return f"{seconds:.1f} s"
