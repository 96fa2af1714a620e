"""Lock files on refs that a killed git left behind. They block every later change of the ref, until somebody removes them.

git holds such a lock for milliseconds. One that is much older has no owner any more, and the gate, which would be stuck or
keep pushes stuck, removes it and says so. Younger ones are left alone: their git may be alive, also on another machine.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

STALE_AFTER_S = 60.0
PACKED_STALE_AFTER_S = 600.0  # all refs are rewritten under this one

log = logging.getLogger("gate")


def remove_stale(git_dir: Path, now: float) -> int:
    """Remove the locks on refs that are too old to have an owner. How many there were. now: epoch seconds UTC."""
    removed = 0
    for path in _locks(git_dir):
        patience_s = PACKED_STALE_AFTER_S if path.name == "packed-refs.lock" else STALE_AFTER_S
        with suppress(OSError):  # gone: its owner was alive; not ours to remove: who needs the ref says what is in the way
            age_s = now - path.stat().st_mtime
            if age_s > patience_s:
                path.unlink()
                log.warning("removed %s: a git that was killed left it %.0f s ago", path, age_s)
                removed += 1
    return removed


def _locks(git_dir: Path) -> Iterator[Path]:
    for name in ("HEAD.lock", "packed-refs.lock"):
        yield git_dir / name
    for folder, _, names in os.walk(git_dir / "refs"):
        for name in names:
            if name.endswith(".lock"):  # no ref can be called so
                yield Path(folder, name)
