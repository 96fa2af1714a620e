"""Markers: staged contents that were green, shared by the linked work trees. The next commit of the same needs no check.

One small file for each, named by a digest of the content, holds the moment until which it counts.
"""

# The hot path of every commit: pathlib and contextlib would cost more than everything this file does:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, PTH208, SIM105

from os import environ, fsencode, getpid, listdir, lstat, mkdir, replace, unlink

from hooks.staged import Staged

SAID = "gate/said"  # in the work tree's git folder: a commit that was found red, and words for it (hooks/worker.py)

_MARKERS_KEPT = 64


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
