"""Brings what a mending check made of staged files to index and work tree, without touching a line that is not staged.

For each file there are three contents: the staged one, what the check made of it, and what is in the work tree. Where the
last is the first, it becomes the second; where it has further edits, both sets of edits are merged, and a fix that meets one
of them is not applied at all. The work tree comes first and the index second: whoever is killed in between finds the fix as
an unstaged edit, and nothing gone.
"""

import errno
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ci.errors import Unavailable
from hooks import text
from hooks.staged import Staged, restaged

_REGULAR = ("100644", "100755")
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
_LOCK_HELD_S = 2.0
_LOOK_AGAIN_S = 0.05


class Mended(NamedTuple):
    """What a check made of one staged file. staged, mended: blob ids; mended None: it removed the file. mode, mended_mode:
    as git writes them."""

    path: str
    mode: str
    staged: str
    mended: str | None
    mended_mode: str

    @property
    def entry(self) -> bytes:
        """For update-index, which puts it into an index or takes it out."""
        if self.mended is None:
            return b"0 %b\t%b\0" % (b"0" * len(self.staged), os.fsencode(self.path))
        return b"%b %b\t%b\0" % (self.mended_mode.encode(), self.mended.encode(), os.fsencode(self.path))


class Applied(NamedTuple):
    """paths: files that are mended now, in the index and in the work tree. patch: what was not applied, "" when nothing."""

    paths: tuple[str, ...]
    patch: bytes


def apply_fixes(staged: Staged, fixes: Iterable[Mended]) -> Applied:
    """Apply what can be applied: all of it, or where somebody interrupts before the first, nothing. Raises Unavailable when
    git or the disk fails; then the index is as it was."""
    from tempfile import TemporaryDirectory  # long to load, and few commits mend anything

    applied: list[Mended] = []
    refused: list[Mended] = []
    with TemporaryDirectory(prefix="gate-") as folder:
        given = [*fixes]
        _check_out(staged, [fix for fix in given if _is_mendable(fix)], Path(folder))
        altered = {*restaged(staged)}  # a fix of what is not staged any more would stage it again
        seen = [None if fix.path in altered else _looked_at(staged, fix) for fix in given]
        same = _as_staged(staged, dict(zip(given, seen, strict=True)), Path(folder))
        merged = [
            found and _merged(fix, *found, Path(folder), is_staged=fix.path in same)
            for fix, found in zip(given, seen, strict=True)
        ]
    with _undisturbed():
        for fix, found in zip(given, merged, strict=True):
            try:
                is_mended = found is not None and _replace(
                    staged, Path(staged.top, fix.path), *found, _mode_for(fix, found[1])
                )
            except OSError as wrong:
                done = [each.path for each in applied]
                raise Unavailable(text.fix_unwritable(fix.path, wrong.strerror or str(wrong), done)) from wrong
            (applied if is_mended else refused).append(fix)
        if applied:
            _stage(staged, applied)
    return Applied(tuple(fix.path for fix in applied), patch_of(staged, refused))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and its like wait for the end of this, whichever thread they reach, and leave the git processes in it alone."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDINGS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def patch_of(staged: Staged, fixes: Iterable[Mended]) -> bytes:
    """The fixes as a patch on what is staged, for ``git apply``."""
    lines = b"".join([fix.entry for fix in fixes])
    if not lines:
        return b""
    from tempfile import TemporaryDirectory  # long to load, and few commits mend anything

    with TemporaryDirectory(prefix="gate-") as folder:
        before, after = (str(Path(folder, name)) for name in ("before", "after"))
        tree = _git(staged, "write-tree", env=_private_copy(staged, before)).decode().strip()
        _git(staged, "read-tree", tree, env={"GIT_INDEX_FILE": after})
        _git(staged, "update-index", "-z", "--index-info", stdin=lines, env={"GIT_INDEX_FILE": after})
        # Without the lines around it a change fits nowhere, and a user's diff.context may be 0.
        words = ("diff", "--cached", "-U3", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative")
        return _git(staged, *words, "--src-prefix=a/", "--dst-prefix=b/", tree, env={"GIT_INDEX_FILE": after})


def _private_copy(staged: Staged, path: str) -> Mapping[str, str]:
    """An index with what is staged: git holds the lock of the real one while ``commit -a`` waits for us."""
    index = _git(staged, "rev-parse", "--path-format=absolute", "--git-path", "index").removesuffix(b"\n")
    Path(path).write_bytes(Path(os.fsdecode(index)).read_bytes())
    return {"GIT_INDEX_FILE": path}


def _is_mendable(fix: Mended) -> bool:
    return fix.mended is not None and fix.mode in _REGULAR and fix.mended_mode in _REGULAR


def _check_out(staged: Staged, fixes: Iterable[Mended], folder: Path) -> None:
    """Write both contents of these files as git would, line endings and filters applied, below ``staged`` and ``mended``."""
    lines = b"".join(
        b"%b %b %d\t%b\0" % (fix.mode.encode(), blob.encode(), stage, os.fsencode(fix.path))
        for fix in fixes
        for stage, blob in ((1, fix.staged), (2, str(fix.mended)))
    )
    if not lines:
        return
    # One index with both sides of every file, as in a merge. cat-file --batch would do with one process; with --filters it
    # tells the sizes from before them, and takes no path that begins with a blank.
    index = {"GIT_INDEX_FILE": str(folder / "index")}
    _git(staged, "update-index", "-z", "--index-info", stdin=lines, env=index)
    for stage, name in ((1, "staged"), (2, "mended")):
        _git(staged, "checkout-index", "--all", f"--stage={stage}", f"--prefix={folder / name}/", env=index)


def _looked_at(staged: Staged, fix: Mended) -> tuple[bytes, os.stat_result] | None:
    """What the file of the work tree holds, and what it was when we looked. None: it is to be left alone."""
    file = Path(staged.top, fix.path)
    try:
        found = file.lstat()
        if not _is_mendable(fix) or not stat.S_ISREG(found.st_mode):
            return None
        if file.parent.resolve() != Path(staged.top).resolve() / Path(fix.path).parent:
            return None  # beyond a link: to git this file is deleted, and the one that it leads to is nobody's to mend
        return file.read_bytes(), found
    except OSError:  # deleted, moved, or in the way of something else: its owner is at work there
        return None


def _as_staged(staged: Staged, seen: Mapping[Mended, tuple[bytes, os.stat_result] | None], folder: Path) -> set[str]:
    """Paths of those files of which git add would make what is staged, though git would write them with other line ends
    itself. Whatever else a filter takes out of a file is in it alone. Asked after they were looked at, so that an edit in
    between is noticed."""
    paths = {
        fix.path: fix.staged
        for fix, found in seen.items()
        if found is not None and _differ_in_line_ends(found[0], (folder / "staged" / fix.path).read_bytes())
    }
    if not paths:
        return set()
    asked = b"".join([quoted(path) + b"\n" for path in paths])
    ids = _git(staged, "hash-object", "--stdin-paths", stdin=asked).decode().split()
    return {path for (path, blob), found in zip(paths.items(), ids, strict=True) if found == blob}


def _differ_in_line_ends(one: bytes, other: bytes) -> bool:
    return one != other and one.replace(b"\r\n", b"\n") == other.replace(b"\r\n", b"\n")


def quoted(path: str) -> bytes:
    """A path as git takes one for a line, whatever is in it: quoted as in C."""
    return b'"%b"' % re.sub(rb"[^\w./-]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(path))


def _merged(
    fix: Mended, present: bytes, found: os.stat_result, folder: Path, *, is_staged: bool
) -> tuple[bytes, os.stat_result] | None:
    """What the file of the work tree is to hold, and what it was when we looked. None: it is to be left alone.

    folder: see ``_check_out``. is_staged: see ``_as_staged``.
    """
    if fix.staged == fix.mended:  # its mode alone
        return present, found
    base, wanted = folder / "staged" / fix.path, folder / "mended" / fix.path
    mended = wanted.read_bytes()
    if is_staged or present in (base.read_bytes(), mended):
        return mended, found
    ours = folder / "work-tree"
    ours.write_bytes(present)
    # Exit code: 0 clean, else the number of places where both sides edited, or an error such as a binary file.
    words = ["git", "merge-file", "-p", "-q", str(ours), str(base), str(wanted)]
    done = subprocess.run(words, capture_output=True, cwd=folder, check=False)
    return (done.stdout, found) if done.returncode == 0 else None


def _mode_for(fix: Mended, found: os.stat_result) -> int:
    """Of the file of the work tree: as it is, unless the check has made it executable, or taken that away."""
    mode = stat.S_IMODE(found.st_mode)
    if fix.mended_mode == fix.mode:
        return mode
    return mode | (mode & 0o444) >> 2 if fix.mended_mode == "100755" else mode & ~0o111


def _replace(staged: Staged, file: Path, content: bytes, found: os.stat_result, mode: int) -> bool:
    """Write the file in one step, with a mode and its group. False: somebody else has just written it, and it is left.
    Raises OSError."""
    # Whoever is killed here leaves a file that git does not see. Only where git's folder is on another disk it lies beside.
    part = os.fsencode(file.name)[:100].decode(errors="ignore")  # a name may have 255 bytes, and a letter four of them
    beside = file.with_name(f".{part}.gate-{os.getpid()}")
    for unfinished in (Path(staged.git_dir, beside.name), beside):
        try:
            with unfinished.open("wb") as opened:
                opened.write(content)
            with suppress(PermissionError):
                os.chown(unfinished, -1, found.st_gid)
            unfinished.chmod(mode)
            now = file.lstat()
            if (now.st_mtime_ns, now.st_size, now.st_ino) != (found.st_mtime_ns, found.st_size, found.st_ino):
                unfinished.unlink()
                return False
            unfinished.replace(file)
        except OSError as wrong:
            unfinished.unlink(missing_ok=True)
            if wrong.errno != errno.EXDEV or unfinished == beside:
                raise
        else:
            break
    return True


def _stage(staged: Staged, fixes: Sequence[Mended]) -> None:
    """Put these into what is to be committed. Raises Unavailable."""
    index = Path(staged.index)
    if index.suffix != ".lock":
        _update_index(staged, fixes, index)
        return
    # With ``commit PATH`` there is also the one that will be the repository's own afterwards, under its lock's name.
    locks = {index, *([Path(staged.git_dir, "index.lock")] if index.name.startswith("next-index-") else [])}
    for lock in locks:
        _update_lock(staged, fixes, lock)


def _update_lock(staged: Staged, fixes: Sequence[Mended], lock: Path) -> None:
    """As ``commit -a`` and ``commit PATH`` want it: an index that git holds as its lock while it waits for us.

    A git that is interrupted removes it. Written in place, nothing is left then; a new file would lock everybody out.
    """
    from tempfile import TemporaryDirectory  # long to load, and few commits mend anything

    try:
        held = lock.open("r+b")
    except FileNotFoundError:
        return
    with held, TemporaryDirectory(prefix="gate-") as folder:
        copy = Path(folder, "index")
        copy.write_bytes(held.read())
        _update_index(staged, fixes, copy)
        held.seek(0)
        held.write(copy.read_bytes())
        held.truncate()


def _update_index(staged: Staged, fixes: Sequence[Mended], index: Path) -> None:
    hidden = _hidden(staged, fixes, index)
    lines = b"".join([fix.entry for fix in fixes])
    _write_index(
        staged, index, "--index-info", stdin=lines, then="the files are mended, and not staged: git add, and commit again"
    )
    for option, paths in hidden.items():
        then = f"what is mended is staged, and git looks at it again: git update-index {option}"
        _write_index(staged, index, option, "--stdin", stdin=b"\0".join(paths) + b"\0", then=then)
    _refresh(staged, fixes, index)


def _hidden(staged: Staged, fixes: Sequence[Mended], index: Path) -> Mapping[str, list[bytes]]:
    """Which of these files git is told to look away from, by the option that does so: an entry made anew forgets it, and the
    next ``commit -a`` would take in what its owner keeps out of commits that way."""
    mended = {os.fsencode(fix.path) for fix in fixes}
    hidden: dict[str, list[bytes]] = {}
    for entry in _git(staged, "ls-files", "-v", "-z", env={"GIT_INDEX_FILE": str(index)}).split(b"\0")[:-1]:
        if entry[2:] in mended:
            if entry[:1].upper() == b"S":
                hidden.setdefault("--skip-worktree", []).append(entry[2:])
            if entry[:1].islower():
                hidden.setdefault("--assume-unchanged", []).append(entry[2:])
    return hidden


def _refresh(staged: Staged, fixes: Sequence[Mended], index: Path) -> None:
    """Note in the entries what the files look like on disk: without that, ``git diff-index`` takes them for altered.
    ``update-index --refresh`` would look at every file there is. Where it fails, the next git status does it."""
    words = ("add", "--refresh", "--pathspec-from-file=-", "--pathspec-file-nul")
    paths = b"".join([os.fsencode(fix.path) + b"\0" for fix in fixes])
    with suppress(Unavailable):
        _git(staged, *words, stdin=paths, env={"GIT_INDEX_FILE": str(index), "GIT_LITERAL_PATHSPECS": "1"})


def _write_index(staged: Staged, index: Path, *words: str, stdin: bytes, then: str) -> None:
    """Waits for whoever else holds its lock, as an editor does for a moment that looks at the repository. then: said where
    that is in vain."""
    give_up_at = time.monotonic() + _LOCK_HELD_S
    while True:
        try:
            _git(staged, "update-index", "-z", *words, stdin=stdin, env={"GIT_INDEX_FILE": str(index)})
        except Unavailable as failed:
            if f"{index.name}.lock" in str(failed) and time.monotonic() < give_up_at:
                time.sleep(_LOOK_AGAIN_S)
                continue
            raise Unavailable(f"{failed}; {then}") from failed
        return


def _git(staged: Staged, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """git as the hook was given it: its GIT_INDEX_FILE names the index of the commit that is being made."""
    done = subprocess.run(
        ["git", *words], input=stdin, capture_output=True, cwd=staged.top, env=os.environ | dict(env or {}), check=False
    )
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().splitlines() or ["it said nothing"]
        cause = next((line for line in said if line.startswith(("fatal: ", "error: "))), said[-1])  # advice may follow
        raise Unavailable(f"git {words[0]} failed with exit code {done.returncode}: {cause}")
    return done.stdout
