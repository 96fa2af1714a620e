"""Markers: staged contents that were green, shared by the linked work trees. The next commit of the same needs no check.

One small file for each, named by a digest of the content, holds the moment until which it counts. Another is named by the
index as it lies there, which spares asking git what is in it: for a commit that is made once more, as after a message that
was refused.
"""

# The hot path of every commit: pathlib and contextlib would cost more than everything this file does:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, PTH208, SIM105

from os import environ, fsencode, getpid, listdir, lstat, mkdir, replace, unlink

from hooks.staged import AtHand, Staged, at_hand

NOTES = "gate/notes"  # in the common git folder: what commits are made without (hooks/records.py)
SAID = "gate/said"  # in the work tree's git folder: a commit that was found red, and words for it (hooks/worker.py)

_MARKERS_KEPT = 128


def was_green(staged: Staged, names: list[str], now: float) -> bool:
    """Whether a marker speaks of exactly this content, these files and these versions (ci.RUNTIME), and has not expired."""
    return _counts(_marker(staged, names), now)


def was_green_at_hand(index: AtHand, names: list[str], now: float) -> bool:
    """The same, for whoever has not asked git yet."""
    return _counts(_marker_at_hand(index, names), now)


def _counts(marker: str, now: float) -> bool:
    try:
        with open(marker, "rb") as file:
            return now < float(file.read())
    except (OSError, ValueError):
        return False


def remember_green(staged: Staged, names: list[str], expires_at: float) -> None:
    """Write a marker. expires_at: epoch seconds UTC, inf for never. Where it cannot be written, a shortcut is lost."""
    _write(staged, _marker(staged, names), expires_at)
    index = at_hand()
    is_as_it_was = index is not None and staged.at_hand is not None and index.id == staged.at_hand.id
    if index is not None and is_as_it_was and (staged.raw or names):
        _write(staged, _marker_at_hand(index, names), expires_at)


def _write(staged: Staged, marker: str, expires_at: float) -> None:
    unfinished = f"{marker}.{getpid()}"
    try:
        _make_folder(staged)
        with open(unfinished, "wb") as file:
            file.write(f"{expires_at}\n".encode())
        replace(unfinished, marker)
        _drop_oldest(_folder(staged.common_dir))
    except OSError:
        _forget(unfinished)


def forget_green(staged: Staged, names: list[str]) -> None:
    """Remove the marker of this content: a check of it went red."""
    _forget(_marker(staged, names))
    if staged.at_hand is not None:
        _forget(_marker_at_hand(staged.at_hand, names))


def _forget(path: str) -> None:
    try:
        unlink(path)
    except OSError:
        pass


def _make_folder(staged: Staged) -> None:
    for folder in (f"{staged.common_dir}/gate", _folder(staged.common_dir)):
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


def _folder(common_dir: str) -> str:
    return f"{common_dir}/gate/greens"


def _marker(staged: Staged, names: list[str]) -> str:
    # A commit with other words, or on another branch, has the same content when its tree and what is staged are the same.
    # What is staged for deletion counts beside names that a runner gives, and not beside those that a person does.
    facts = [staged.head_tree or "no commit", staged.prefix, *_caller(names)]
    return _named(staged.common_dir, facts, staged.raw)


def _marker_at_hand(index: AtHand, names: list[str]) -> str:
    return _named(index.git_dir, ["at hand", *_caller(names)], index.id)


def _caller(names: list[str]) -> list[str]:
    caller = "runner" if "PRE_COMMIT" in environ else "person"
    return [caller, *sorted(names)] if names else []


def _named(common_dir: str, facts: list[str], content: bytes) -> str:
    from ci import RUNTIME
    from ci.digest import digest

    return f"{_folder(common_dir)}/{digest(*map(fsencode, [RUNTIME, *facts]), content)}"
