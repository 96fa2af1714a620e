"""``gate check``: the checks of gate.toml on what is staged. This file only decides whether there is anything to do.

Most commits that meet this hook a second time, and many that meet it first, need no check: nothing is staged, exactly this
content was green already, or every check has a green result for what its inputs are now. To find that out must cost little
more than starting the interpreter, so hooks.local, which runs the checks and imports what it needs for that, is only
loaded when there is something to run.
"""

# pathlib and contextlib would cost more than everything this file does:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, PTH208, SIM105

import sys
from os import environ, fsdecode, fsencode, getpid, listdir, lstat, mkdir, replace, unlink
from time import time

from hooks.staged import Staged, ask_git, look

SAID = "gate/said"  # in the work tree's git folder: a commit that was found red, and words for it (hooks/worker.py)

_MARKERS_KEPT = 64


def run(words: list[str]) -> int:
    """Exit code: 0 green, 1 red. Raises UserError and Unavailable."""
    staged = look()
    if staged is not None and ("GATE_HOOK" in environ or "PRE_COMMIT" in environ):
        sys.stderr.write(reminder(staged.git_dir))
    names = _names_alone(words)
    if staged is not None and staged.config is not None and names is not None:
        if not staged.raw and not names:
            sys.stderr.write("gate: nothing is staged, so there is nothing to check (--all-files checks everything)\n")
            return 0
        now = time()
        if was_green(staged, names, now):
            sys.stderr.write("gate: exactly this was green already (--no-cache checks it again)\n")
            forget_note(staged)
            return 0
        from hooks.known import greens

        known = greens(staged, names, now)
        if known is not None:
            known.tell(time() - now)
            remember_green(staged, names, known.until)
            forget_note(staged)
            return 0
    from hooks.local import run_checks

    return run_checks(words, staged)


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
    notes = f"{staged.common_dir}/gate/notes"
    try:
        if ("GATE_HOOK" in environ or "PRE_COMMIT" in environ) and listdir(notes):
            from hooks.known import tree_of

            unlink(f"{notes}/{fsdecode(tree_of(staged))}.json")
    except OSError:  # there is none
        pass


# --- markers: staged contents that were green, shared by the linked work trees --------------------------------------------


def was_green(staged: Staged, names: list[str], now: float) -> bool:
    """Whether a marker speaks of exactly this content, these files and these versions (ci.RUNTIME), and has not expired."""
    try:
        with open(_marker(staged, names), "rb") as file:
            return now < float(file.read())
    except (OSError, ValueError):
        return False


def remember_green(staged: Staged, names: list[str], expires_at: float) -> None:
    """Write a marker. expires_at: epoch seconds UTC, inf for never. Where it cannot be written, a shortcut is lost."""
    marker = _marker(staged, names)
    unfinished = f"{marker}.{getpid()}"
    try:
        _make_folder(staged)
        with open(unfinished, "wb") as file:
            file.write(f"{expires_at}\n".encode())
        replace(unfinished, marker)
        _drop_oldest(_folder(staged))
    except OSError:
        _forget(unfinished)


def forget_green(staged: Staged, names: list[str]) -> None:
    """Remove the marker of this content: a check of it went red."""
    _forget(_marker(staged, names))


def _forget(path: str) -> None:
    try:
        unlink(path)
    except OSError:
        pass


def _make_folder(staged: Staged) -> None:
    for folder in (f"{staged.common_dir}/gate", _folder(staged)):
        try:
            mkdir(folder, 0o700)
        except FileExistsError:
            pass


def _drop_oldest(folder: str) -> None:
    names = listdir(folder)
    if len(names) > 2 * _MARKERS_KEPT:
        paths = [f"{folder}/{name}" for name in names]
        for path in sorted(paths, key=_time_of)[:-_MARKERS_KEPT]:
            _forget(path)


def _time_of(path: str) -> float:
    try:
        return lstat(path).st_mtime
    except OSError:
        return 0.0


def _folder(staged: Staged) -> str:
    return f"{staged.common_dir}/gate/greens"


def _marker(staged: Staged, names: list[str]) -> str:
    from ci import RUNTIME
    from ci.digest import digest

    # A commit with other words, or on another branch, has the same content when its tree and what is staged are the same.
    # What is staged for deletion counts beside names that a runner gives, and not beside those that a person does.
    caller = "runner" if "PRE_COMMIT" in environ else "person"
    facts = [RUNTIME, staged.head_tree or "no commit", staged.prefix, *([caller, *sorted(names)] if names else [])]
    return f"{_folder(staged)}/{digest(*map(fsencode, facts), staged.raw)}"
