"""Folders that are kept between runs, and hold exactly what they should at the start of each, whatever the last one did."""

import os
import re
import stat
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ci import processes
from ci.digest import digest
from ci.entries import SUBMODULE, TreeRefused, add_to_index, altered_files, listed, of_listing, path_of, refused
from ci.git import Git, GitFailed
from ci.model import WHOLE_TREE, Sha
from ci.promised import fetch_missing
from ci.removal import remove_tree

Door = Callable[[Path, Path | None], Git]  # opens git on a git directory, with a work tree or without

# What a repository or an account may say of how blobs become files. A warm folder's own Git directory is told the same, and
# a folder is begun anew when it is other: git does not write a file again because of it.
_CONVERTS = r"^(filter\..*|core\.(autocrlf|eol|attributesfile))$"
_ELSEWHERE = re.compile(rb"\[\s*include|attributesfile", re.IGNORECASE)
_TELL_WHERE = ("GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")  # the settings of machine and account are
_OF_THE_MACHINE = Path("/etc/gitattributes")
_CONVERSION = "conversion"  # in the Git directory: digests of the files that say so, and of what they say

_TICK_NS = 10_000_000  # of the clock that files get their times from, at the slowest that Linux is built with
_WITHIN_A_TICK_S = 0.001

# trustctime: git may compare whole seconds only. Files that are as new as the index it compares by content; a file that is
# older and is changed after the index was written has a later second of change, which unlike the others nobody can set.
#
# Whatever the account's own settings say: these keep the reset of a work tree complete and honest.
_WARM_SETTINGS = f"""
[core]
	bare = false
	trustctime = true
	checkStat = default
	fileMode = true
	symlinks = true
	fsmonitor = false
	untrackedCache = false
	splitIndex = false
	sparseCheckout = false
	hooksPath = {os.devnull}
	excludesFile = {os.devnull}
[submodule]
	recurse = false
[gc]
	auto = 0
"""


class WarmFolder:
    """A folder that is kept between runs, with a Git directory beside it that borrows the canonical objects."""

    def __init__(self, repository: Git, home: Path, door: Door) -> None:
        self._repository = repository
        self._home = home
        self._door = door
        self._settled = home / "settled"  # what the folder held when it was last given away; gone while that is altered
        self.git_dir = home / "git"
        self.folder = home / "tree"

    @property
    def _git(self) -> Git:
        return self._door(self.git_dir, self.folder)

    def altered(self) -> tuple[str, ...]:
        """Which files are other than the reset left them, or gone. Raises GitFailed."""
        try:
            return altered_files(self._git, {})
        except GitFailed:
            self._settled.unlink(missing_ok=True)  # the index may be at fault: the next run begins anew
            raise

    def _with_contents(self, reset: Callable[[], None], entries: Callable[[], Mapping[bytes, bytes]]) -> None:
        """Reset. Where that fails, once more if it can help: from the beginning, with what a partial clone had yet to fetch.
        entries: as in ci.entries. Raises TreeRefused and Unavailable."""
        was_begun = self._settled.exists()
        try:
            reset()
        except GitFailed as failed:
            reason = refused(failed)
            if isinstance(reason, TreeRefused):
                raise reason from failed
            has_more = False
            with suppress(GitFailed):  # the Git directory is broken, and made anew below
                has_more = fetch_missing(self._repository, self._git, lambda: entries().values())
            if not has_more and not was_begun:
                raise reason from failed
        else:
            return
        try:
            reset()
        except GitFailed as failed:
            raise refused(failed) from failed

    def _is_as_begun(self) -> bool:
        """Whether the folder is there to be looked through, and files are still made of blobs as when it was begun."""
        try:
            for lock in ("index.lock", "HEAD.lock"):  # of a git that was killed: nobody else is at work here
                (self.git_dir / lock).unlink(missing_ok=True)
            if self.folder.is_symlink() or not self.folder.is_dir():
                return False
            self.folder.chmod(stat.S_IRWXU)
            known, _, values = (self.git_dir / _CONVERSION).read_bytes().partition(b"\n")
            sources = self._sources()
            if known == sources != b"":
                return True
            if values != self._digest_of(*self._conversion()):
                return False
            (self.git_dir / _CONVERSION).write_bytes(sources + b"\n" + values)
        except OSError:
            return False
        return True

    def _sources(self) -> bytes:
        """Digest of what may say how blobs become files, attributes of the commit apart. Nothing where that leads to other
        files: then only git can say whether they say the same."""
        own = [self._repository.git_dir / name for name in ("config", "config.worktree", "info/attributes")]
        contents = [*map(_content, (*own, *_account_files(), _OF_THE_MACHINE))]
        told = [f"{name}={os.environ.get(name)}".encode() for name in _TELL_WHERE]
        return b"" if any(map(_ELSEWHERE.search, contents)) else digest(*contents, *told).encode()

    def _conversion(self) -> tuple[bytes, bytes]:
        """What they say: settings, and the attributes that the repository has outside of its commits."""
        settings = self._repository.run("config", "-z", "--get-regexp", _CONVERTS, ok=(0, 1)).out
        return settings, _content(self._repository.git_dir / "info/attributes")

    def _digest_of(self, settings: bytes, attributes: bytes) -> bytes:
        named = re.findall(rb"(?:^|\0)core\.attributesfile\n([^\0]*)", settings) or [os.fsencode(_account_files()[-1])]
        of_account = _content(Path(os.fsdecode(named[-1])).expanduser())
        return digest(settings, attributes, of_account, _content(_OF_THE_MACHINE)).encode()

    def _begin_anew(self) -> None:
        """An empty folder and a new Git directory."""
        remove_tree(self._home)
        self.folder.mkdir(parents=True, mode=0o700)
        self.git_dir.mkdir()
        hash_name = self._repository.run("rev-parse", "--show-object-format").text
        self._door(self.git_dir, None).run("init", "--quiet", "--bare", "--template=", f"--object-format={hash_name}")
        (self.git_dir / "objects" / "info" / "alternates").write_bytes(_quoted(self._objects()) + b"\n")
        with (self.git_dir / "config").open("a") as config:
            config.write(_WARM_SETTINGS)
        sources = self._sources()
        settings, attributes = self._conversion()
        for setting in settings.split(b"\0")[:-1]:
            name, has_value, value = setting.partition(b"\n")
            words = ("config", "--file", str(self.git_dir / "config"), "--add", os.fsdecode(name))
            self._repository.run(*words, os.fsdecode(value) if has_value else "true")
        (self.git_dir / "info").mkdir(exist_ok=True)
        (self.git_dir / "info" / "attributes").write_bytes(attributes)
        (self.git_dir / _CONVERSION).write_bytes(sources + b"\n" + self._digest_of(settings, attributes))

    def _objects(self) -> Path:
        return (self._repository.git_dir / "objects").resolve()

    def object_folders(self) -> list[Path]:
        """The canonical object store and those that it borrows from in turn."""
        found: list[Path] = []
        pending = [self._objects()]
        while pending and len(found) < 20:
            folder = pending.pop()
            if folder in found or not folder.is_dir():
                continue
            found.append(folder)
            with suppress(FileNotFoundError):
                lines = (folder / "info" / "alternates").read_bytes().splitlines()
                pending += [
                    (folder / os.fsdecode(line)).resolve() for line in lines if line and not line.startswith((b"#", b'"'))
                ]
        return found


def _account_files() -> tuple[Path, ...]:
    """Where git looks for the account's and the machine's settings, and for the account's attributes."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "git")
    named = [os.environ[name] for name in _TELL_WHERE[:2] if os.environ.get(name)]
    return *map(Path, named), Path("/etc/gitconfig"), home / ".gitconfig", settings / "config", settings / "attributes"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


class _Settled(NamedTuple):
    """What a folder of inputs holds: records as of RunRequest.listing, and by what the file of each path is known again when
    nobody touched it: its number, and its time of change in ns, which nobody can set. For a submodule that is 0: a folder,
    and quickly looked into. at_ns: since when, by the file system's clock."""

    records: list[bytes]
    stamps: dict[bytes, tuple[int, int]]
    at_ns: int


class WarmInputs(WarmFolder):
    """The declared inputs of checks: what these records of a tree name, and nothing else."""

    def reset_to(self, records: Collection[bytes], mark: Path) -> None:
        """Make the folder hold exactly these. records: as RunRequest.listing. Raises TreeRefused, Unavailable, OSError."""
        self._with_contents(lambda: self._reset_to(set(records), mark), lambda: of_listing(records))

    def _reset_to(self, wanted: set[bytes], mark: Path) -> None:
        settled = self._read_settled()
        known = set(settled.records)
        new, old = wanted - known, known - wanted
        # Attributes decide how blobs become files: git would not write a file again because of others.
        is_kept = known and self._is_as_begun() and not any(record.endswith(b".gitattributes\0") for record in (*new, *old))
        untouched = self._cleared(settled) if is_kept else None
        if untouched is None:
            settled, new, old = _NOTHING_SETTLED, wanted, set()
        elif touched := settled.stamps.keys() - untouched:
            new |= {record for record in wanted & known if path_of(record) in touched}
        if untouched is not None and not new and not old:
            os.utime(self._settled)  # it is in use: hooks/pool.py removes those that are not
            return
        self._settled.unlink(missing_ok=True)
        wrong = of_listing(new)
        gone = {path: meta for path, meta in of_listing(old).items() if path not in wrong}
        if untouched is None:
            self._begin_anew()
        self._remove(gone)
        self._write(wrong, gone, {processes.MARK: str(mark)}, is_all=untouched is None)
        stamps = {path: stamp for path, stamp in settled.stamps.items() if path not in gone}
        self._settle(wanted, stamps | {path: self._stamp(path, meta) for path, meta in wrong.items()})

    def _cleared(self, settled: _Settled) -> set[bytes] | None:
        """The paths that are in the folder as they were written, after everything else was removed from it.

        A file that is as new as the note of it may have been altered since, within one tick of the clock. Symlinks are not
        followed. None: there is something that cannot be removed.
        """
        untouched = set()
        stamps, at_ns = settled.stamps, settled.at_ns
        folders = _folders_of(stamps)
        pending = [b""]
        try:
            mode = stat.S_IMODE(self.git_dir.stat().st_mode)
            while pending:
                front = pending.pop()
                with os.scandir(self._at(front)) as listed:
                    for entry in listed:
                        path = front + entry.name
                        stats = entry.stat(follow_symlinks=False)
                        number, changed_at_ns = stamps.get(path, (-1, -1))
                        if (stats.st_ctime_ns == changed_at_ns < at_ns and stats.st_ino == number) or (
                            changed_at_ns == 0 and _is_empty_submodule(entry, number, mode)
                        ):
                            untouched.add(path)
                        elif path in folders and stat.S_ISDIR(stats.st_mode):
                            if stat.S_IMODE(stats.st_mode) != mode:
                                os.chmod(entry.path, mode)  # noqa: PTH101 - bytes, as all paths of this loop
                            pending.append(path + b"/")
                        else:
                            remove_tree(Path(os.fsdecode(entry.path)))
        except OSError:
            return None
        return untouched

    def _remove(self, gone: Iterable[bytes]) -> None:
        """The files of these, and the folders that nothing is left in."""
        for path in gone:
            remove_tree(Path(os.fsdecode(self._at(path))))
        for folder in sorted(_folders_of(gone), key=len, reverse=True):
            with suppress(OSError):  # there is something in it, or a run removed it
                os.rmdir(self._at(folder))  # noqa: PTH106 - bytes

    def _write(
        self, wrong: Mapping[bytes, bytes], gone: Mapping[bytes, bytes], env: Mapping[str, str], *, is_all: bool
    ) -> None:
        """The index as well, which ``altered`` compares with. Both: entries as in ci.entries."""
        add_to_index(self._git, wrong, env, gone=gone)
        if wrong:
            # The index is to know their times as well, or ``altered`` compares contents. For a few, it costs more to write.
            words = ("checkout-index", "--force", "--quiet", *(("-u",) if is_all else ()), "-z", "--stdin")
            self._git.run(*words, stdin=b"\0".join((*wrong, b"")), env=env)

    def _stamp(self, path: bytes, meta: bytes) -> tuple[int, int]:
        stats = os.lstat(self._at(path))
        return stats.st_ino, 0 if meta.startswith(SUBMODULE) else stats.st_ctime_ns

    def _settle(self, records: Collection[bytes], stamps: Mapping[bytes, tuple[int, int]]) -> None:
        """Note what the folder holds, at a moment that is later than all of it, as the file system counts moments: what is
        altered from now on is as new as the note, or newer."""
        numbers, times = (array("Q", some) for some in (zip(*stamps.values(), strict=True) if stamps else ((), ())))
        columns = (b"".join(records), b"\0".join(stamps), numbers.tobytes(), times.tobytes())
        unfinished = self._settled.with_name("unfinished")
        unfinished.write_bytes(b" ".join(b"%d" % len(column) for column in columns) + b"\n" + b"".join(columns))
        unfinished.replace(self._settled)
        latest = max(times, default=0)
        while self._settled.stat().st_ctime_ns <= latest <= time.time_ns() + _TICK_NS:  # not when the clock was set back
            time.sleep(_WITHIN_A_TICK_S)
            os.utime(self._settled)

    def _read_settled(self) -> _Settled:
        """Nothing: it is new, a reset was cut short, or the note cannot be read."""
        try:
            raw = self._settled.read_bytes()
            at_ns = self._settled.stat().st_ctime_ns
            head, _, rest = raw.partition(b"\n")
            columns = []
            for length in map(int, head.split()):
                columns.append(rest[:length])
                rest = rest[length:]
            records, paths, numbers, times = columns
            if rest or list(map(len, columns)) != list(map(int, head.split())):
                raise ValueError("it was cut short")
            stamps = zip(array("Q", numbers), array("Q", times), strict=True)
            found = dict(zip(paths.split(b"\0") if paths else (), stamps, strict=True))
        except (FileNotFoundError, ValueError):  # or it is of another version of ours
            return _NOTHING_SETTLED
        return _Settled(re.findall(rb"[^\0]+\0", records), found, at_ns)

    def _at(self, path: bytes) -> bytes:
        return os.fsencode(self.folder) + b"/" + path


_NOTHING_SETTLED = _Settled([], {}, 0)


def _is_empty_submodule(entry: "os.DirEntry[bytes]", number: int, mode: int) -> bool:
    """As it was written: its folder is there, and nothing in it."""
    stats = entry.stat(follow_symlinks=False)
    is_same = stat.S_ISDIR(stats.st_mode) and stats.st_ino == number and stat.S_IMODE(stats.st_mode) == mode
    return is_same and not os.listdir(entry.path)  # noqa: PTH208 - one call, not one for each name


def _folders_of(paths: Iterable[bytes]) -> set[bytes]:
    """Every folder above these."""
    folders: set[bytes] = set()
    for folder in {path.rpartition(b"/")[0] for path in paths}:
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition(b"/")[0]
    return folders


class _SettledTree(NamedTuple):
    """What a warm tree holds: a commit, and where its submodules are. at_ns: since when, by the file system's clock."""

    commit: Sha
    submodules: frozenset[bytes]
    at_ns: int


class WarmTree(WarmFolder):
    """All of a commit."""

    def reset_to(self, commit: Sha, mark: Path) -> None:
        """Make the folder hold exactly the commit. Raises TreeRefused and Unavailable."""
        everything = partial(listed, self._repository, commit, WHOLE_TREE)
        self._with_contents(lambda: self._reset_to(commit, mark), everything)

    def _reset_to(self, commit: Sha, mark: Path) -> None:
        env = {processes.MARK: str(mark)}
        settled = self._read_settled()
        self._settled.unlink(missing_ok=True)
        submodules = None
        if settled is not None and self._is_cleared(settled, env):
            submodules = self._submodules_after(settled, commit)
        if submodules is None:
            self._begin_anew()
            submodules = self._submodules_of(commit)
        self._git.run("checkout", "--quiet", "--detach", "--force", "--no-recurse-submodules", commit, "--", env=env)
        self._settled.write_bytes(b"\0".join((commit.encode(), *sorted(submodules))))

    def _read_settled(self) -> _SettledTree | None:
        """None: nothing ever, or a reset was cut short."""
        try:
            commit, *submodules = self._settled.read_bytes().split(b"\0")
            at_ns = self._settled.stat().st_ctime_ns
        except FileNotFoundError:
            return None
        return _SettledTree(Sha(commit.decode()), frozenset(submodules), at_ns)

    def _submodules_after(self, settled: _SettledTree, commit: Sha) -> frozenset[bytes] | None:
        """Paths of the submodules of a commit, by what differs from the settled one.

        None: the folder cannot be moved there, only written anew. Attributes decide how blobs become files, and git does
        not write a blob that is the same in both commits again because of them.
        """
        if settled.commit == commit:
            return settled.submodules
        end = self._git.run(
            *("diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none", "--end-of-options"),
            *(settled.commit, commit),
            ok=(0, 128),  # 128: the commit before may have been pruned
        )
        if end.code != 0:
            return None
        submodules = set(settled.submodules)
        fields = iter(end.out.split(b"\0")[:-1])
        for meta, path in zip(fields, fields, strict=True):
            if path.rpartition(b"/")[2] == b".gitattributes":
                return None
            old_mode, new_mode = meta.lstrip(b":").split(b" ")[:2]
            if old_mode == SUBMODULE:
                submodules.discard(path)
            if new_mode == SUBMODULE:
                submodules.add(path)
        return frozenset(submodules)

    def _submodules_of(self, commit: Sha) -> frozenset[bytes]:
        listed = self._git.run("ls-tree", "-r", "-d", "-z", "--full-tree", "--end-of-options", commit).out
        lines = (line.split(b"\t", 1) for line in listed.split(b"\0")[:-1])
        return frozenset(path for meta, path in lines if meta.startswith(SUBMODULE))

    def _is_cleared(self, settled: _SettledTree, env: Mapping[str, str]) -> bool:
        """Remove everything that is not of the settled commit. False: there is something that cannot be removed.

        This comes ahead of the checkout: git would take an attributes file that a check left behind for one of ours.
        """
        try:
            if not self._is_as_begun():
                return False
            self._git.run("clean", "--quiet", "-ffdx", env=env)
            # What git clean does not look at: anything named .git, pipes, sockets, and the content of submodules. And what
            # git takes for unchanged, with other rights or times than it gave them: it is written again.
            for odd in list(_unseen_by_git(self.folder, settled.at_ns, stat.S_IMODE(self.git_dir.stat().st_mode))):
                remove_tree(odd)
            for name in settled.submodules:
                path = self.folder / os.fsdecode(name)
                if os.path.lexists(path) and path.parent.resolve() == path.parent:  # never through a check's symlink
                    remove_tree(path)
        except (GitFailed, OSError):
            return False
        return True


def _unseen_by_git(folder: Path, since_ns: int, mode: int) -> Iterator[Path]:
    """What git skips when it lists a folder, at any depth, and files that were touched since a moment, by their time of
    change, which nobody can set. Folders get their mode back on the way. Symlinks are not followed."""
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                known = entry.stat(follow_symlinks=False)
                if entry.name == ".git":
                    yield Path(entry.path)
                elif stat.S_ISDIR(known.st_mode):
                    if known.st_mode & 0o777 != mode & 0o777:
                        os.chmod(entry.path, mode)  # noqa: PTH101 - a string, as all paths of this loop
                    pending.append(entry.path)
                elif known.st_ctime_ns >= since_ns or not (stat.S_ISREG(known.st_mode) or stat.S_ISLNK(known.st_mode)):
                    yield Path(entry.path)


def _quoted(path: Path) -> bytes:
    """A path as git's alternates file takes it, whatever bytes are in it."""
    raw = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + raw + b'"'
