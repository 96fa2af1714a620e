"""Whose turn it is in one work tree: at most one commit is worked on at a time, and a newer one takes its place.

Three small files in the work tree's git folder. ``background.wanted`` names the commit that was asked for last; a worker
whose commit is not named there any more ends by itself, so that nobody needs to know its process. ``background.lock`` is
held while a worker is alive and names its commit; the system lets go of it when the worker dies, however it dies.
``background.log`` takes what a worker says that nobody watches. Starting work is part of every commit: no import here that
costs much.
"""

# pathlib, contextlib and tempfile would cost more than what is done here:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, PTH118, SIM105

import fcntl
import os
import time

_LOOK_AGAIN_S = 0.05


class Made:
    """A commit to work on. git_dir: of the work tree where it was made. common_dir: shared by all linked work trees.
    top: the work tree's root."""

    __slots__ = ("commit", "common_dir", "git_dir", "top")

    def __init__(self, git_dir: str, common_dir: str, top: str, commit: str) -> None:
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.top = top
        self.commit = commit


class Desk:
    """The three files of the work tree whose git folder this is. Making one touches nothing."""

    __slots__ = ("_folder", "_lock", "_wanted", "log")

    def __init__(self, git_dir: str) -> None:
        self._folder = os.path.join(git_dir, "gate")
        self._lock = os.path.join(self._folder, "background.lock")
        self._wanted = os.path.join(self._folder, "background.wanted")
        self.log = os.path.join(self._folder, "background.log")

    def want(self, commit: str) -> None:
        """Ask for this commit instead of any other. Raises OSError."""
        try:
            os.mkdir(self._folder, 0o700)
        except FileExistsError:
            pass
        unfinished = f"{self._wanted}.{os.getpid()}"
        with open(unfinished, "w", encoding="ascii") as file:
            file.write(commit)
        os.replace(unfinished, self._wanted)

    def want_nothing(self) -> None:
        try:
            os.unlink(self._wanted)
        except FileNotFoundError:
            pass

    def wanted(self) -> str:
        """The commit that was asked for last; "" for none."""
        return _content(self._wanted)

    def open_log(self) -> int:
        """A descriptor of a new, empty log. Whoever still writes to the one before does not spoil it. Raises OSError."""
        try:
            os.unlink(self.log)
        except FileNotFoundError:
            pass
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def worked_on(self) -> str | None:
        """The commit that a living worker is busy with, "" while it is about to say; None: there is none."""
        try:
            lock = os.open(self._lock, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _content(self._lock)
        finally:
            os.close(lock)
        return None

    def take(self, commit: str) -> int | None:
        """Wait until no other worker is busy here, and become the one that is.

        Returns the descriptor that holds the lock until it is closed. None: meanwhile another commit is wanted, or none, or
        somebody works on this one already. Raises OSError.
        """
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        is_named = False  # somebody was busy with it, or it was worked on before and somebody just looks whether it is
        while self.wanted() == commit:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if is_named and _content(self._lock) == commit:
                    break
                is_named = _content(self._lock) == commit
                time.sleep(_LOOK_AGAIN_S)
                continue
            os.pwrite(lock, commit.encode(), 0)  # over another one of the same length: nobody finds half a name
            return lock
        os.close(lock)
        return None

    def wait_until_free(self) -> None:
        """Return when no worker is busy. Raises OSError."""
        while self.worked_on() is not None:
            time.sleep(_LOOK_AGAIN_S)


def _content(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""
