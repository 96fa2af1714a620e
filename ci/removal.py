"""Removes folders, whatever the run that used them did to their permissions or their depth."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a file or folder, also one whose owner took away his own permissions. Nothing there: nothing to do.

    Raises OSError when it cannot be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        try:
            shutil.rmtree(path)
        except (OSError, RecursionError):
            _remove_stubborn(path)


def _remove_stubborn(path: Path) -> None:
    """Also folders that their owner has no rights on, and folders in folders deeper than any path, stack or number of
    open files reaches: what lies below the second level is moved up before it is looked at."""
    path.chmod(stat.S_IRWXU)
    while entries := list(os.scandir(path)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)  # noqa: PTH108 - a string, as all paths of this loop
                continue
            os.chmod(entry.path, stat.S_IRWXU)  # noqa: PTH101
            for child in list(os.scandir(entry.path)):
                if child.is_dir(follow_symlinks=False):
                    os.chmod(child.path, stat.S_IRWXU)  # noqa: PTH101 - to be moved a folder must be writable itself
                    os.rename(child.path, path / f".gone-{os.urandom(16).hex()}")  # noqa: PTH104
                else:
                    os.unlink(child.path)  # noqa: PTH108
            os.rmdir(entry.path)  # noqa: PTH106
    path.rmdir()
