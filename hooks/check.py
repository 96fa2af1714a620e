"""``gate check``: the checks of gate.toml on what is staged. This file only decides whether there is anything to do.

Most commits that meet this hook a second time, and many that meet it first, need no check: nothing is staged, or exactly
this content was green already. To find that out must cost little more than starting the interpreter, so hooks.local, which
runs the checks and imports what it needs for that, is only loaded when there is something to run.
"""

# pathlib and contextlib would cost more than everything this file does:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, SIM105

import sys
from os import environ, fsdecode, fsencode, mkdir, replace, unlink
from time import time

from hooks.main import VERSION
from hooks.staged import Staged, ask_git, look

SAID = "gate/said"  # in the work tree's git folder: a commit that was found red, and words for it (hooks/worker.py)


def run(words: list[str]) -> int:
    """Exit code: 0 green, 1 red. Raises UserError and Unavailable."""
    staged = look()
    if staged is not None and ("GATE_HOOK" in environ or "PRE_COMMIT" in environ):
        remind(staged.git_dir)
    names = _names_alone(words)
    if staged is not None and staged.config is not None and names is not None:
        if not staged.raw and not names:
            sys.stderr.write("gate: nothing is staged, so there is nothing to check (--all-files checks everything)\n")
            return 0
        if was_green(staged, names, time()):
            sys.stderr.write("gate: exactly this was green already (--no-cache checks it again)\n")
            return 0
    from hooks.local import run_checks

    return run_checks(words, staged)


def _names_alone(words: list[str]) -> list[str] | None:
    """The files given, when the command line holds nothing else; None when it has options."""
    if words[:1] == ["--"]:
        return words[1:]
    return None if any(word.startswith("-") for word in words) else words


def remind(git_dir: str) -> None:
    """Say on standard error what was found red in the background, when the next commit will have it in its history."""
    try:
        with open(f"{git_dir}/{SAID}", "rb") as file:
            commit, _, found = fsdecode(file.read()).rstrip().partition(" ")
    except OSError:
        return
    (is_elsewhere, _), (failed, count) = ask_git(
        ("merge-base", "--is-ancestor", commit, "HEAD"), ("rev-list", "--count", f"{commit}..HEAD")
    )
    if not is_elsewhere and not failed:
        ago = int(count)
        when = f"{ago} commit{'s' if ago > 1 else ''} ago" if ago else "HEAD"
        sys.stderr.write(f"gate: {when}: {found} (gate local says more)\n")


# --- the marker: the newest staged content that was green, one per work tree ---------------------------------------------


def was_green(staged: Staged, names: list[str], now: float) -> bool:
    """Whether the marker speaks of exactly this content, these files and this version of ours, and has not expired."""
    try:
        with open(_marker(staged), "rb") as file:
            expires_at, _, content = file.read().partition(b"\n")
    except OSError:
        return False
    try:
        return content == _content(staged, names) and now < float(expires_at)
    except ValueError:
        return False


def remember_green(staged: Staged, names: list[str], expires_at: float) -> None:
    """Write the marker. expires_at: epoch seconds UTC, inf for never. Where it cannot be written, a shortcut is lost."""
    marker = _marker(staged)
    unfinished = f"{marker}.{time()}"
    try:
        _make_folder(staged)
        with open(unfinished, "wb") as file:
            file.write(f"{expires_at}\n".encode() + _content(staged, names))
        replace(unfinished, marker)
    except OSError:
        _forget(unfinished)


def forget_green(staged: Staged) -> None:
    """Remove the marker: a check of this work tree went red."""
    _forget(_marker(staged))


def _forget(path: str) -> None:
    try:
        unlink(path)
    except OSError:
        pass


def _make_folder(staged: Staged) -> None:
    try:
        mkdir(f"{staged.git_dir}/gate", 0o700)
    except FileExistsError:
        pass


def _marker(staged: Staged) -> str:
    return f"{staged.git_dir}/gate/green"


def _content(staged: Staged, names: list[str]) -> bytes:
    # The facts themselves instead of a digest of them: comparing a few kilobytes is cheaper than importing hashlib.
    # HEAD and the staged difference imply gate.toml; it is named so that a marker can be read by people.
    facts = [VERSION, staged.head or "no commit", staged.config or "no config", staged.prefix, *sorted(names)]
    return b"\0".join(map(fsencode, facts)) + b"\n" + staged.raw
