"""Keeps a repository from growing for ever: old results with their logs, old feeds, and git's own housekeeping.

Facts stay: events and submissions are never removed. What goes is derived, or so old that nobody asks for it.
"""

import contextlib
from pathlib import Path

from ci.results import prune
from gate.journal import Journal
from gate.repository import Repository

EVERY_S = 3600.0
KEEP_S = 90 * 86400.0  # results, logs and feeds
LOOSE_OBJECTS = 6700  # git's own default for gc.auto, which the gate sets to 0 so that no push waits for it


def tidy(repository: Repository, journal: Journal, now: float) -> None:
    """Safe beside everything else that goes on, and when killed. Raises Unavailable or OSError."""
    pruned: list[str] = []
    journal.write(lambda execute: pruned.extend(prune(execute, now - KEEP_S)))
    for log in pruned:
        if log:
            with contextlib.suppress(FileNotFoundError):
                repository.log_path(log).unlink()
    for folder in ("feed", "logs"):
        _remove_older(repository.folder / folder, now - KEEP_S)
    # Objects that no ref holds yet are candidates; gc keeps what is younger than two weeks.
    repository.git.run("-c", f"gc.auto={LOOSE_OBJECTS}", "gc", "--auto", "--quiet", "--no-detach")


def _remove_older(folder: Path, moment: float) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime < moment:
                path.unlink()
