"""``gate check``: the checks of gate.toml on what is staged. This file only decides whether there is anything to do.

Most commits that meet this hook a second time, and many that meet it first, need no check: nothing is staged, exactly this
content was green already, or every check has a green result for what its inputs are now. To find that out must cost little
more than starting the interpreter, so hooks.local, which runs the checks and imports what it needs for that, is only
loaded when there is something to run.
"""

# pathlib and contextlib would cost more than everything this file does:
# ruff: noqa: PTH108, PTH123, PTH208

import sys
from os import environ, fsdecode, listdir, unlink
from time import time

from hooks.markers import NOTES, SAID, remember_green, was_green, was_green_at_hand
from hooks.staged import Staged, ask_git, at_hand, look, restaged

_KNOWN = "gate: exactly this was green already (--no-cache checks it again)\n"


def run(words: list[str]) -> int:
    """Exit code: 0 green, 1 red. Raises UserError and Unavailable."""
    names = _names_alone(words)
    index = at_hand() if names is not None else None
    if index is not None and names is not None and was_green_at_hand(index, names, time()) and not _has_notes(index.git_dir):
        if _is_hook():
            sys.stderr.write(reminder(index.git_dir))
        sys.stderr.write(_KNOWN)
        return 0
    staged = look()
    if staged is not None and _is_hook():
        sys.stderr.write(reminder(staged.git_dir))
    if staged is not None and staged.config is not None and names is not None:
        if not staged.raw and not names:
            sys.stderr.write("gate: nothing is staged, so there is nothing to check (--all-files checks everything)\n")
            return 0
        now = time()
        if was_green(staged, names, now):
            sys.stderr.write(_KNOWN)
            forget_note(staged)
            return 0
        from hooks.known import greens

        known = greens(staged, names, now)
        if known is not None and restaged(staged):
            staged = look()  # what is staged by now is for the other half
        elif known is not None:
            known.tell(time() - now)
            remember_green(staged, names, known.until)
            forget_note(staged)
            return 0
    from hooks.local import run_checks

    return run_checks(words, staged)


def _is_hook() -> bool:
    return "GATE_HOOK" in environ or "PRE_COMMIT" in environ


def _has_notes(common_dir: str) -> bool:
    try:
        return bool(listdir(f"{common_dir}/{NOTES}"))
    except OSError:
        return False


def _names_alone(words: list[str]) -> list[str] | None:
    """The files given, when the command line holds nothing else; None when it has options."""
    if words[:1] == ["--"]:
        return words[1:]
    return None if any(word.startswith("-") for word in words) else words


def reminder(git_dir: str) -> str:
    """A line that says what was found red in the background in the history of HEAD; or nothing."""
    try:
        with open(f"{git_dir}/{SAID}", "rb") as file:
            commit, _, found = fsdecode(file.read()).rstrip().partition(" ")
    except OSError:
        return ""
    (is_elsewhere, _), (failed, count) = ask_git(
        ("merge-base", "--is-ancestor", commit, "HEAD"), ("rev-list", "--count", f"{commit}..HEAD")
    )
    if is_elsewhere or failed:
        return ""
    ago = int(count)
    when = f"{ago} commit{'s' if ago > 1 else ''} ago" if ago else "HEAD"
    return f"gate: {when}: {found} (gate local says more)\n"


def forget_note(staged: Staged) -> None:
    """Remove the note that a commit of this content is made without some checks (hooks/records.py): an earlier try was."""
    try:
        if _is_hook() and _has_notes(staged.common_dir):
            from hooks.known import tree_of

            unlink(f"{staged.common_dir}/{NOTES}/{fsdecode(tree_of(staged))}.json")
    except OSError:  # there is none
        pass
