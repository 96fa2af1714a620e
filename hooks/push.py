"""pre-push: stops a direct push to trunk before anything is sent, and warns about a branch that has been away for long.

The server refuses such a push as well; here the answer comes sooner, and with the command to use instead. Commits that have
a gate.toml are checked before they are sent: hooks/pushed.py does that, and is only loaded for them.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from ci.errors import UserError
from ci.model import Sha
from gate.config import CONFIG_NAME, Config, Push
from hooks import text
from hooks.config import read_config
from hooks.staged import ask_git

if TYPE_CHECKING:
    from hooks.pushed import Checked

_BRANCHES = "refs/heads/"
_SUBMISSIONS = "refs/for/"


@dataclass(frozen=True, slots=True)
class Ref:
    """One ref of a push. local, head: None for a deletion. creates: the remote has no such ref yet, as far as is known."""

    local: str | None
    head: str | None
    remote: str
    creates: bool


def run(words: list[str]) -> int:
    """words: the remote's name and URL, as git passes them; --json may stand before them. Returns the exit code: 0 lets the
    push go on. Raises UserError and Unavailable."""
    as_json = words[:1] == ["--json"]
    words = words[1:] if as_json else words
    if words[:1] in (["-h"], ["--help"]):
        sys.stdout.write(text.PUSH_HELP)
        return 0
    if sys.stdin.isatty() and "PRE_COMMIT" not in os.environ:
        raise UserError(text.push_usage())
    remote = words[0] if words else os.environ.get("PRE_COMMIT_REMOTE_NAME", "origin")
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # names of refs need not be UTF-8
    refs = [*_from_git(sys.stdin), *_from_runner(os.environ, remote)]
    trunk = trunk_of(remote)
    base = f"refs/remotes/{remote}/{trunk}"
    config = (read_config(base, "HEAD") if refs else None) or Config()
    refused = refusals(refs, remote, trunk, config)
    warned = [] if refused else _warnings(refs, remote, trunk, config.push)
    for line in refused or warned:
        text.warn(line)
    commits, strange = ([], []) if refused else _commits(refs)
    for line in strange:
        text.warn(line)
    warned += strange
    reminder = _reminder(commits) if commits else ""
    if reminder:
        text.warn(reminder)
        warned.append(reminder)
    code = 1 if refused else 0
    checked: list[Checked] = []
    if commits:
        from hooks.pushed import check_commits

        code, checked = check_commits(commits, base, quiet=as_json)
    if as_json:
        sys.stdout.write(text.push_told(refused, warned, checked, is_green=code == 0))
    return code


def refusals(refs: Iterable[Ref], remote: str, trunk: str, config: Config) -> list[str]:
    """Lines for people when a ref of the push is trunk itself. Creating trunk on a remote that has none is how it begins."""
    for ref in refs:
        if ref.remote != _BRANCHES + trunk or ref.creates:
            continue
        if ref.head is None:
            return text.deletion_of_trunk(remote, trunk)
        if config.submit.trunk_push != "submit" and config.push.trunk != "allow":
            return text.push_to_trunk(remote, trunk, _pushable(ref))
    return []


def trunk_of(remote: str) -> str:
    """Name of the remote's default branch, or the likeliest guess when nobody has asked the remote."""
    (unknown, answer), *_ = ask_git(("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD"))
    if not unknown:
        return os.fsdecode(answer).strip().removeprefix(f"refs/remotes/{remote}/")
    return next((name for name in ("main", "master") if _exists(f"refs/remotes/{remote}/{name}")), "main")


def _warnings(refs: Iterable[Ref], remote: str, trunk: str, rules: Push) -> list[str]:
    base = f"refs/remotes/{remote}/{trunk}"
    if not (rules.max_behind or rules.max_age_s) or not _exists(base):
        return []
    lines: list[str] = []
    for ref in refs:
        if ref.head is None or not ref.remote.startswith((_BRANCHES, _SUBMISSIONS)):
            continue
        name = (ref.local or ref.head).removeprefix(_BRANCHES)
        behind = len(_commit_times(ref.head, base)) if rules.max_behind else 0
        ahead = _commit_times(base, ref.head) if rules.max_age_s else []
        age_s = time() - min(ahead, default=time())
        if behind > rules.max_behind:
            lines += text.far_behind(name, behind, rules.max_behind, remote, trunk)
        elif age_s > rules.max_age_s:
            lines += text.long_away(name, age_s, rules.max_age_s, remote, trunk)
    return lines


def _commits(refs: Iterable[Ref]) -> tuple[list[tuple[str, Sha]], list[str]]:
    """Names and ids of the commits that refs are pushed to and that have a gate.toml, and warnings of what is no commit.
    Tags are no matter of the gate's.

    Commits below them are not asked for: the gate judges a change by the tree that would land.
    """
    name = ("rev-parse", "--quiet", "--verify", "--end-of-options")
    commits, strange = [], []
    for ref in refs:
        if ref.head is None or not ref.remote.startswith((_BRANCHES, _SUBMISSIONS)):
            continue
        shown = (ref.local or ref.head).removeprefix(_BRANCHES)
        (is_none, commit), (is_free, _) = ask_git((*name, f"{ref.head}^{{commit}}"), (*name, f"{ref.head}:{CONFIG_NAME}"))
        if is_none:
            strange.append(text.push_not_a_commit(shown))
        elif not is_free:
            commits.append((shown, Sha(os.fsdecode(commit).strip())))
    return commits, strange


def _reminder(commits: Iterable[tuple[str, Sha]]) -> str:
    """What is known to be red in the history of HEAD, when HEAD is pushed. The checks of a push need not see it."""
    (is_none, answer), *_ = ask_git(("rev-parse", "HEAD", "--absolute-git-dir"))
    head, _, git_dir = os.fsdecode(answer).partition("\n")
    if is_none or head not in {commit for _, commit in commits}:
        return ""
    from hooks.check import reminder

    return reminder(git_dir.removesuffix("\n")).removesuffix("\n")


def _commit_times(without: str, of: str) -> list[int]:
    """Commit times of what ``of`` has and ``without`` lacks. A rebase makes them new, as it ends the time away."""
    failed, answer = ask_git(("log", "--no-show-signature", "--format=%ct", "--end-of-options", f"{without}..{of}", "--"))[0]
    return [] if failed else [int(line) for line in answer.split()]


def _from_git(lines: Iterable[str]) -> list[Ref]:
    """Lines of git's hook: local ref, local id, remote ref, remote id. An id of zeros says that there is nothing.

    The first is what was written left of the colon, which may have blanks in it: ``HEAD@{1 day ago}``.
    """
    refs = []
    for line in lines:
        match line.rsplit(maxsplit=3):
            case [local, head, remote, old]:
                gone = not head.strip("0")
                refs.append(Ref(None if gone else local, None if gone else head, remote, creates=not old.strip("0")))
            case []:
                continue
            case _:
                raise UserError(text.push_line_unreadable(line.rstrip("\n")))
    return refs


def _from_runner(environment: Mapping[str, str], remote: str) -> list[Ref]:
    """What pre-commit and prek say. They read standard input themselves, and tell of one ref only, never of a deletion."""
    branch, head = environment.get("PRE_COMMIT_REMOTE_BRANCH"), environment.get("PRE_COMMIT_TO_REF")
    local = environment.get("PRE_COMMIT_LOCAL_BRANCH")
    if not branch:
        return []
    known = f"refs/remotes/{remote}/{branch.removeprefix(_BRANCHES)}"
    creates = branch.startswith(_BRANCHES) and not _exists(known)
    return [Ref(local, head or local or "HEAD", branch, creates)]


def _pushable(ref: Ref) -> str:
    """What to write left of the colon."""
    if ref.local is None or ref.local == "(delete)":
        return "HEAD"
    return ref.local.removeprefix(_BRANCHES)


def _exists(ref: str) -> bool:
    failed, _ = ask_git(("rev-parse", "--quiet", "--verify", "--end-of-options", ref))[0]
    return not failed
