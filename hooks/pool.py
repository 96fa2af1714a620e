"""Work trees that checks run in while their owner goes on editing: a few per repository, warm, one run at a time in each.

They lie in the account's cache folder and not inside of .git, because test runners know that name and pass over everything
below it. A slot is held by a lock that the system lets go of when its holder dies, however it dies; whoever takes a slot
next, this or another, ends what killed ones left behind.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ci.digest import sha256
from ci.errors import Unavailable
from ci.removal import remove_tree

_SLOTS = 64  # far more than run at once; beyond it something is wrong
_SWEPT = "swept"  # changed when pools were last swept, and locked by whoever does it
_SWEEP_EVERY_S = 86_400.0
_FITTED = "fitted"  # changed when it was last seen to that the trees of a pool take no more room than they may
_OWNER = "repository"  # a file that names the repository a pool belongs to


def pools_folder() -> Path:
    """Where the pools of all repositories of this account lie: in its cache folder, or where that cannot be written, in a
    folder for temporary files that belongs to nobody else. Raises Unavailable when there is neither."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home() raises without one
    for folder in _homes(Path(base, "trunkgate")):
        if not folder.is_absolute():
            continue  # the specification of XDG_CACHE_HOME has it so: it would be another one in each current folder
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_ours = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
            if is_ours and os.access(folder, os.W_OK):
                return folder.resolve()
    raise Unavailable("there is no folder for the work trees of checks: set XDG_CACHE_HOME to one that can be written")


def _homes(first: Path) -> Iterator[Path]:
    yield first
    from tempfile import gettempdir  # seldom needed, and long to load

    yield Path(gettempdir(), f"trunkgate-{os.getuid()}")


class Pool:
    """The work trees of one repository. common_dir: its Git directory, which all its linked work trees share."""

    def __init__(self, common_dir: Path) -> None:
        self._owner = os.fsencode(common_dir.resolve())
        self.folder = pools_folder() / sha256(self._owner).hexdigest()[:16]

    @contextmanager
    def slot(self, warm: str = "") -> Iterator[Path]:
        """A folder that nobody else uses meanwhile, with this warm tree in it where there is one. Raises Unavailable when
        there is none."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not (self.folder / _OWNER).exists():
            (self.folder / _OWNER).write_bytes(self._owner)
        self.end_leftovers()
        homes = [self.folder / str(number) for number in range(_SLOTS)]
        for home in sorted(homes, key=lambda home: not (home / "pool" / warm / "settled").exists()):
            with _lock(home) as is_held:
                if is_held:
                    os.utime(_lock_file(home))
                    home.mkdir(mode=0o700, exist_ok=True)
                    yield home
                    return
        raise Unavailable(f"all {_SLOTS} work trees in {self.folder} are in use: end the checks that hang")

    def end_leftovers(self) -> None:
        """End what killed runs left in work trees that nobody is using: nobody may ever need as many again, and the checks
        would run on."""
        for home in _folders(self.folder):
            if _has_leftovers(home):
                with _lock(home) as is_held:
                    if is_held:
                        _end_leftovers(home)

    def prune(self, unused_since: float) -> None:
        """Remove the work trees that nobody used since then, as many as can be. Raises OSError when one cannot."""
        failures = []
        for home in _folders(self.folder):
            try:
                with _lock(home) as is_held:
                    if is_held:
                        _prune(home, unused_since)
            except OSError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def fit_daily(self, max_bytes: int) -> None:
        """``fit``, if that was not done since yesterday."""
        fitted = self.folder / _FITTED
        if _time_of(fitted) < time.time() - _SWEEP_EVERY_S:
            fitted.touch()
            self.fit(max_bytes)

    def fit(self, max_bytes: int) -> None:
        """Remove the trees that nobody used for longest, until all together take no more, or one is left. Looks at every
        file. Raises OSError."""
        trees = sorted((tree for home in _folders(self.folder) for tree in _folders(home / "pool")), key=_settled_at)
        sizes = {tree: size_of_tree(tree) for tree in trees}
        taken = sum(sizes.values())
        for tree in trees[:-1]:  # the newest would only be made once more
            if taken <= max_bytes:
                return
            home = tree.parent.parent
            with _lock(home) as is_held:
                if is_held:
                    _end_leftovers(home)
                    remove_tree(tree)
                    taken -= sizes[tree]

    def clear(self) -> None:
        """Remove the work trees that nobody is using."""
        _clear(self.folder, unused_since=float("inf"))


def sweep(unused_since: float) -> None:
    """Remove the pools of repositories that are gone, or not there now, if nobody used them since then; once a day is
    enough. What cannot be removed stays."""
    with suppress(OSError), (pools_folder() / _SWEPT).open("a") as file:
        is_first = file.tell() == 0
        if is_first or os.fstat(file.fileno()).st_mtime < time.time() - _SWEEP_EVERY_S:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(".")
            remove_orphans(unused_since)


def remove_orphans(unused_since: float = float("inf")) -> None:
    """The same, now."""
    for pool in _folders(pools_folder()):
        with suppress(OSError):
            owner = Path(os.fsdecode((pool / _OWNER).read_bytes()))
            if _is_gone(owner):
                _clear(pool, unused_since)
                _remove_empty(pool)


def _is_gone(folder: Path) -> bool:
    """False also where nobody can tell, as of a network that does not answer."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _clear(pool: Path, unused_since: float) -> None:
    for home in _folders(pool):
        with _lock(home) as is_held:
            if is_held and _lock_file(home).stat().st_mtime < unused_since:
                _end_leftovers(home)
                remove_tree(home)


def _remove_empty(pool: Path) -> None:
    """A pool without work trees, unless somebody is about to make one."""
    with ExitStack() as held:
        locks = [held.enter_context(_lock(lock.with_suffix(""))) for lock in pool.glob("*.lock")]
        if all(locks) and not _folders(pool):
            remove_tree(pool)


def _prune(home: Path, unused_since: float) -> None:
    if _lock_file(home).stat().st_mtime < unused_since:
        _end_leftovers(home)
        remove_tree(home)
    for tree in _folders(home / "pool"):
        if _settled_at(tree) < unused_since:  # of inputs, say, that no check has any more
            _end_leftovers(home)
            remove_tree(tree)


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return []


def size_of_tree(folder: Path) -> int:
    """Bytes in all files below it, as far as they can be looked at."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(here, name)).st_size  # noqa: PTH118 - many, and Path takes its time
    return total


def _settled_at(tree: Path) -> float:
    """When a warm tree was last used; 0 when that was cut short, for then it will be written anew."""
    return _time_of(tree / "settled")


def _time_of(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


@contextmanager
def _lock(home: Path) -> Iterator[bool]:
    """Whether the slot is ours, until the end of the block. Its lock file stays: one that is removed locks nobody out."""
    with _lock_file(home).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(home: Path) -> Path:
    """Its time of change is when the slot was last used."""
    return home.with_suffix(".lock")


def _has_leftovers(home: Path) -> bool:
    """Or somebody is running a check there."""
    with suppress(FileNotFoundError):
        return any((home / "runs").iterdir())
    return False


def _end_leftovers(home: Path) -> None:
    """Processes and files of runs whose owner was killed."""
    if _has_leftovers(home):
        from ci.workers.local import reap  # it has more than a hook needs, and is seldom needed

        reap(home)
