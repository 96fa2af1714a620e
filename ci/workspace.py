"""Gives a check its place: a folder with the content of a commit, as much of it as the check declares.

A check over the whole tree gets a warm work tree that is reset between runs; a check with declared inputs gets a fresh
folder with those files and nothing else, or a warm one as well where the same few checks come again and again. All are
written through Git directories that lie outside of what a check can write: nothing that a check leaves behind is ever read
as configuration, hook or index by a git command of ours. The canonical
repository lends its objects and knows nothing of all this.
"""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ci import keys, processes
from ci.digest import digest
from ci.errors import Unavailable, UserError
from ci.git import Git, GitFailed
from ci.model import RunRequest, Sha
from ci.sandbox import Isolation

Door = Callable[[Path, Path | None], Git]  # opens git on a git directory, with a work tree or without

_SUBMODULE = b"160000"
_MOST_OBJECTS = 6700  # in a Git directory of a warm tree, which is then made anew; gc.auto is as many
_REFUSAL = "the commit holds a path that git refuses to write: {}"
_GLOB = re.compile(r"[*?\[\\]")

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


_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "gate"), ("EMAIL", "gate@localhost"), ("DATE", "1000000000 +0000"))
}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that a check runs in. ``Place(folder)`` is a folder that exists, as in a developer's clone.

    files: paths that match the check's inputs; None: nobody has looked. scratch: the run's private folder; None: the run
    makes one. shown: (what, where) that a sandbox shows read-only besides. ceiling: where a git that looks for a
    repository must stop on its way up. altered: finds files of the commit that are other than they were written, or gone;
    None: nobody can tell.
    """

    folder: Path
    files: tuple[str, ...] | None = None
    scratch: Path | None = None
    shown: tuple[tuple[Path, Path], ...] = ()
    ceiling: Path | None = None
    altered: Callable[[], tuple[str, ...]] | None = None


class TreeRefused(UserError):  # noqa: N818 - as ci.errors names its own
    """The commit cannot be written as files: it holds a path like ``../x`` or ``.git/config`` that git rightly refuses."""


class Workspace:
    """The places of one worker slot. For one run at a time; ``folder`` is the gate's own, its path without symlinks.

    slot: number of the warm work tree under ``folder/pool``. door: how to open git on a Git directory of our own.
    keeps_inputs: also declared inputs stay between runs, which is worth it where their checks are few and come often.
    """

    def __init__(self, repository: Git, folder: Path, slot: int, door: Door, *, keeps_inputs: bool = False) -> None:
        self._repository = repository
        self._runs = folder / "runs"
        self._pool = folder / "pool"
        self._door = door
        self._keeps_inputs = keeps_inputs
        self._tree = _WarmTree(repository, self._pool / str(slot), door)

    @contextmanager
    def place(self, request: RunRequest, isolation: Isolation) -> Iterator[Place]:
        """The place for a run, removed or left to the next reset afterwards.

        Raises TreeRefused when the commit cannot be files, Unavailable when git or the disk fails.
        """
        scratch = self._runs / request.run
        try:
            try:
                scratch.mkdir(parents=True, mode=0o700)
                if request.check.is_whole_tree or request.check.git:
                    place = self._whole_tree(request, isolation, scratch)
                else:
                    place = self._declared_inputs(request, scratch)
                _require_folder(place.folder, request.check.folder)
            except OSError as wrong:
                raise Unavailable(f"the folder for check {request.check.name} cannot be made: {wrong}") from wrong
            yield place
        finally:
            remove_tree(scratch)

    def _whole_tree(self, request: RunRequest, isolation: Isolation, scratch: Path) -> Place:
        tree = self._tree
        tree.reset_to(request.commit, mark=scratch)
        shown: tuple[tuple[Path, Path], ...] = ()
        if request.check.git:
            if isolation is Isolation.BUBBLEWRAP:
                shown = ((tree.git_dir, tree.folder / ".git"), *((path, path) for path in tree.object_folders()))
            else:
                shutil.copytree(tree.git_dir, tree.folder / ".git", symlinks=True)
        files = None
        if request.files is None and request.check.names_files:
            listed = _list(self._repository, request.commit, request.check.inputs)
            files = tuple(os.fsdecode(entry.path) for entry in listed if entry.mode != _SUBMODULE)
        return Place(tree.folder, files, scratch, shown, ceiling=tree.folder.parent, altered=tree.altered)

    def _declared_inputs(self, request: RunRequest, scratch: Path) -> Place:
        if request.listing is None:
            entries = _list(self._repository, request.commit, request.check.inputs)
        else:
            entries = sorted(map(_entry, request.listing), key=lambda entry: entry.path)
        files = tuple(os.fsdecode(entry.path) for entry in entries if entry.mode != _SUBMODULE)
        if self._keeps_inputs:
            tree = _WarmTree(self._repository, self._pool / inputs_name(request.check.inputs), self._door)
            # A partial clone has blobs to come, which only its own Git directory knows how to fetch: written below, they do.
            with suppress(GitFailed):
                tree.reset_to_entries(entries, scratch)
                return Place(tree.folder, files, scratch, ceiling=tree.folder.parent, altered=tree.altered)
            (scratch / "index").unlink(missing_ok=True)
        folder = scratch / "tree"
        folder.mkdir()
        write_files(self._repository, entries, folder, scratch)
        return Place(
            folder, files, scratch, ceiling=scratch, altered=partial(_altered, self._repository, _index(folder, scratch))
        )


def inputs_name(inputs: Sequence[str]) -> str:
    """Name of the warm folder of these inputs."""
    return digest(*(pattern.encode("utf-8", "surrogateescape") for pattern in inputs))[:16]


def _index(folder: Path, scratch: Path) -> dict[str, str]:
    """Environment for a git that is to know the files of ``write_files``."""
    return {"GIT_INDEX_FILE": str(scratch / "index"), "GIT_WORK_TREE": str(folder)}


def _require_folder(top: Path, folder: str) -> None:
    """See to it that a check can begin in its folder, which need not have an input. Raises TreeRefused."""
    here = top
    for step in folder.split("/") if folder else ():
        here /= step
        if not os.path.lexists(here):
            here.mkdir()
        elif here.is_symlink() or not here.is_dir():
            raise TreeRefused(f"{folder} is no folder in this commit, and has a check")


class Entry(NamedTuple):
    """One line of a tree: octal mode, hexadecimal object id, path, all as git prints them."""

    mode: bytes
    blob: bytes
    path: bytes


def _entry(record: bytes) -> Entry:
    meta, path = record.removesuffix(b"\0").split(b"\t", 1)
    mode, blob = meta.split(b" ")
    return Entry(mode, blob, path)


def _list(repository: Git, commit: Sha, inputs: Sequence[str]) -> list[Entry]:
    """Everything of a commit that matches the inputs, submodules among it, in git's order."""
    prefixes = literal_prefixes(inputs)
    words = ("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *(["--", *prefixes] if prefixes else []))
    out = repository.run(*words, env={"GIT_LITERAL_PATHSPECS": "1"}).out  # a file may be called ":(top)x"
    is_match = keys.matcher(tuple(inputs))
    entries = []
    for line in out.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        if is_match(os.fsdecode(path)):
            mode, _, blob = meta.split(b" ")
            entries.append(Entry(mode, blob, path))
    return entries


def literal_prefixes(inputs: Sequence[str]) -> list[str]:
    """Folders or files that everything matching lies in, so that git need not list the rest; empty: anywhere."""
    prefixes = []
    for pattern in inputs:
        if pattern.startswith(("!", "#")) or not pattern.strip():
            continue  # takes away, or is no pattern: adds no place to look
        anchored = pattern.rstrip("/")
        if "/" not in anchored or pattern != pattern.strip():
            return []
        parts = []
        for part in anchored.lstrip("/").split("/"):
            if _GLOB.search(part):
                break
            parts.append(part)
        if not parts or not {"", ".", ".."}.isdisjoint(parts):
            return []
        prefixes.append("/".join(parts))
    return prefixes


def write_files(repository: Git, entries: Sequence[Entry], folder: Path, scratch: Path) -> None:
    """Write these into an empty folder, with the modes, links and filters that git gives them. Submodules: empty folders."""
    if not entries:
        return
    env = {**_index(folder, scratch), processes.MARK: str(scratch)}
    try:
        _add_to_index(repository, entries, env)
        repository.run("-c", f"core.hooksPath={os.devnull}", "checkout-index", "--all", "--quiet", "--force", env=env)
    except GitFailed as failed:
        raise _refused(failed) from failed


def _add_to_index(git: Git, entries: Sequence[Entry], env: Mapping[str, str]) -> None:
    lines = b"".join(b"%b %b\t%b\0" % entry for entry in entries)
    indexed = git.run("update-index", "-z", "--index-info", stdin=lines, env=env)
    if "Ignoring path" in indexed.err:  # leaves it out and calls that success
        raise TreeRefused(_REFUSAL.format(indexed.err.partition("Ignoring path")[2].strip()))


# As git sees it, with the filters that it wrote them by. What a run made besides is nobody's input.
_WHAT_DIFFERS = ("diff-files", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")


def _altered(git: Git, env: Mapping[str, str]) -> tuple[str, ...]:
    """Files of an index that are other in its work tree, or gone from it."""
    git.run("update-index", "-q", "--refresh", env=env, ok=(0, 1))
    return tuple(map(os.fsdecode, git.run(*_WHAT_DIFFERS, env=env).out.split(b"\0")[:-1]))


class _Settled(NamedTuple):
    """What a warm tree holds: a commit, and where its submodules are. at_ns: since when, by the file system's clock."""

    commit: Sha
    submodules: frozenset[bytes]
    at_ns: int


class _WarmTree:
    """A work tree that is kept between runs, with a Git directory beside it that borrows the canonical objects."""

    def __init__(self, repository: Git, home: Path, door: Door) -> None:
        self._repository = repository
        self._home = home
        self._door = door
        self.git_dir = home / "git"
        self.folder = home / "tree"

    @property
    def _git(self) -> Git:
        return self._door(self.git_dir, self.folder)

    def reset_to(self, commit: Sha, mark: Path) -> None:
        """Make the folder hold exactly the commit, whatever the last run did to it."""
        self._reset(lambda: commit, mark)

    def reset_to_entries(self, entries: Sequence[Entry], scratch: Path) -> None:
        """The same for these entries alone, which become a commit that only the Git directory here knows."""

        def commit() -> Sha:
            env = {"GIT_INDEX_FILE": str(scratch / "index"), processes.MARK: str(scratch), **_NOBODY}
            git = self._door(self.git_dir, None)
            _add_to_index(git, entries, env)
            tree = git.run("write-tree", env=env).text
            return Sha(git.run("commit-tree", "--no-gpg-sign", tree, "-m", "Inputs", env=env).text)

        self._reset(commit, scratch)

    def _reset(self, commit_of: Callable[[], Sha], mark: Path) -> None:
        env = {processes.MARK: str(mark)}
        settled = self._read_settled()
        (self._home / "settled").unlink(missing_ok=True)
        submodules = None
        try:
            if settled is not None and not self._is_cluttered() and self._is_cleared(settled, env):
                commit = commit_of()
                submodules = self._submodules_after(settled, commit)
            if submodules is None:
                self._begin_anew()
                commit = commit_of()
                submodules = self._submodules_of(commit)
            self._git.run("checkout", "--quiet", "--detach", "--force", "--no-recurse-submodules", commit, "--", env=env)
        except GitFailed as failed:
            raise _refused(failed) from failed
        (self._home / "settled").write_bytes(b"\0".join((commit.encode(), *sorted(submodules))))

    def altered(self) -> tuple[str, ...]:
        """Which files of the commit are other than the reset left them."""
        return _altered(self._git, {})

    def _read_settled(self) -> _Settled | None:
        """What the folder held when it was last given away; None: nothing ever, or a reset was cut short."""
        path = self._home / "settled"
        try:
            commit, *submodules = path.read_bytes().split(b"\0")
            at_ns = path.stat().st_ctime_ns
        except FileNotFoundError:
            return None
        return _Settled(Sha(commit.decode()), frozenset(submodules), at_ns)

    def _submodules_after(self, settled: _Settled, commit: Sha) -> frozenset[bytes] | None:
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
            if old_mode == _SUBMODULE:
                submodules.discard(path)
            if new_mode == _SUBMODULE:
                submodules.add(path)
        return frozenset(submodules)

    def _is_cluttered(self) -> bool:
        """Whether the objects of our own, of commits past, are too many: judged by one folder of 256, as git judges it."""
        with suppress(OSError):
            return len(os.listdir(self.git_dir / "objects" / "17")) > _MOST_OBJECTS // 256  # noqa: PTH208
        return False

    def _submodules_of(self, commit: Sha) -> frozenset[bytes]:
        listed = self._git.run("ls-tree", "-r", "-d", "-z", "--full-tree", "--end-of-options", commit).out
        lines = (line.split(b"\t", 1) for line in listed.split(b"\0")[:-1])
        return frozenset(path for meta, path in lines if meta.startswith(_SUBMODULE))

    def _is_cleared(self, settled: _Settled, env: Mapping[str, str]) -> bool:
        """Remove everything that is not of the settled commit. False: there is something that cannot be removed.

        This comes ahead of the checkout: git would take an attributes file that a check left behind for one of ours.
        """
        try:
            if self.folder.is_symlink() or not self.folder.is_dir():
                return False
            for lock in ("index.lock", "HEAD.lock"):  # of a git that was killed
                (self.git_dir / lock).unlink(missing_ok=True)
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


def _quoted(path: Path) -> bytes:
    """A path as git's alternates file takes it, whatever bytes are in it."""
    raw = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + raw + b'"'


def _refused(failed: GitFailed) -> Unavailable | TreeRefused:
    """What a failure to write a commit means: git's refusal of a path is about the commit, all else about the machine."""
    for line in failed.end.err.splitlines():
        if "nvalid path" in line:
            return TreeRefused(_REFUSAL.format(line.partition("nvalid path")[2].strip()))
    return failed
