"""Gives a check its place: a folder with the content of a commit, as much of it as the check declares.

A check over the whole tree gets a warm work tree that is reset between runs; a check with declared inputs gets a fresh
folder with those files and nothing else, or a warm one as well where the same few checks come again and again. All are
written through Git directories that lie outside of what a check can write: nothing that a check leaves behind is ever read
as configuration, hook or index by a git command of ours. The canonical
repository lends its objects and knows nothing of all this.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ci.digest import digest
from ci.entries import TreeRefused, altered_files, files_of, index_of, listed, listing_of, of_listing, write_files
from ci.errors import Unavailable
from ci.git import Git, GitFailed
from ci.model import RunRequest
from ci.removal import remove_tree
from ci.sandbox import Isolation
from ci.warm import Door, WarmInputs, WarmTree


class Place(NamedTuple):
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
        self._tree = WarmTree(repository, self._pool / str(slot), door)

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
                from shutil import copytree  # long to load, and few checks look at history

                copytree(tree.git_dir, tree.folder / ".git", symlinks=True)
        is_asked = request.check.names_files and request.files is None
        files = files_of(listed(self._repository, request.commit, request.check.inputs)) if is_asked else None
        return Place(tree.folder, files, scratch, shown, ceiling=tree.folder.parent, altered=tree.altered)

    def _declared_inputs(self, request: RunRequest, scratch: Path) -> Place:
        records = request.listing
        if records is None:
            records = listing_of(listed(self._repository, request.commit, request.check.inputs))
        is_asked = request.check.names_files and request.files is None
        files = files_of(of_listing(records)) if is_asked else None
        if self._keeps_inputs:
            tree = WarmInputs(self._repository, self._pool / inputs_name(request.check.inputs), self._door)
            # A filter may look into the Git directory for more than its settings, as git-crypt does for its key: written
            # below, the files are made with the repository's own.
            with suppress(GitFailed):
                tree.reset_to(records, scratch)
                return Place(tree.folder, files, scratch, ceiling=tree.folder.parent, altered=tree.altered)
        folder = scratch / "tree"
        folder.mkdir()
        write_files(self._repository, of_listing(records), folder, scratch)
        return Place(
            folder,
            files,
            scratch,
            ceiling=scratch,
            altered=partial(altered_files, self._repository, index_of(folder, scratch)),
        )


def inputs_name(inputs: Sequence[str]) -> str:
    """Name of the warm folder of these inputs."""
    return digest(*(pattern.encode("utf-8", "surrogateescape") for pattern in inputs))[:16]


def _require_folder(top: Path, folder: str) -> None:
    """See to it that a check can begin in its folder, which need not have an input. Raises TreeRefused."""
    here = top
    for step in folder.split("/") if folder else ():
        here /= step
        if not os.path.lexists(here):
            here.mkdir()
        elif here.is_symlink() or not here.is_dir():
            raise TreeRefused(f"{folder} is no folder in this commit, and has a check")
