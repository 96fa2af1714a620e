"""The entries of a tree, as much of it as a check declares, and how git writes them as files.

Entries are a mapping from a path to its octal mode, a blank, and its hexadecimal object id, all as git prints them.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ci import keys, processes
from ci.errors import Unavailable, UserError
from ci.git import Git, GitFailed
from ci.model import Sha

SUBMODULE, LINK = b"160000", b"120000"  # the modes that git gives them
_REFUSAL = "the commit holds a path that git refuses to write: {}"
_GLOB = re.compile(r"[*?\[\\]")


class TreeRefused(UserError):  # noqa: N818 - as ci.errors names its own
    """The commit cannot be written as files: it holds a path like ``../x`` or ``.git/config`` that git rightly refuses."""


def listed(repository: Git, commit: Sha, inputs: Sequence[str]) -> dict[bytes, bytes]:
    """Everything of a commit that matches the inputs, submodules among it, in git's order."""
    prefixes = literal_prefixes(inputs)
    words = ("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *(["--", *prefixes] if prefixes else []))
    out = repository.run(*words, env={"GIT_LITERAL_PATHSPECS": "1"}).out  # a file may be called ":(top)x"
    is_match = keys.matcher(tuple(inputs))
    entries = {}
    for line in out.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        if is_match(os.fsdecode(path)):
            mode, _, blob = meta.split(b" ")
            entries[path] = mode + b" " + blob
    return entries


def path_of(record: bytes) -> bytes:
    """Of a record as in RunRequest.listing."""
    return record[record.index(b"\t") + 1 : -1]


def of_listing(records: Iterable[bytes]) -> dict[bytes, bytes]:
    """The entries of such records, in git's order."""
    entries = {path_of(record): record[: record.index(b"\t")] for record in records}
    return dict(sorted(entries.items()))


def listing_of(entries: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    return tuple(b"%b\t%b\0" % (meta, path) for path, meta in entries.items())


def files_of(entries: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Paths of those that can be handed to a command: a submodule is none, and what a symbolic link leads to has a path of
    its own, or is not there."""
    return tuple(os.fsdecode(path) for path, meta in entries.items() if not meta.startswith((SUBMODULE, LINK)))


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


def write_files(repository: Git, entries: Mapping[bytes, bytes], folder: Path, scratch: Path) -> None:
    """Write these into an empty folder, with the modes, links and filters that git gives them. Submodules: empty folders."""
    if not entries:
        return
    env = {**index_of(folder, scratch), processes.MARK: str(scratch)}
    try:
        add_to_index(repository, entries, env)
        repository.run("-c", f"core.hooksPath={os.devnull}", "checkout-index", "--all", "--quiet", "--force", env=env)
    except GitFailed as failed:
        raise refused(failed) from failed


def add_to_index(
    git: Git, entries: Mapping[bytes, bytes], env: Mapping[str, str], *, gone: Mapping[bytes, bytes] | None = None
) -> None:
    """gone: entries that are taken out of it first. Raises TreeRefused and GitFailed."""
    lines = [b"0 %b\t%b\0" % (b"0" * len(meta.partition(b" ")[2]), path) for path, meta in (gone or {}).items()]
    lines += listing_of(entries)
    indexed = git.run("update-index", "-z", "--index-info", stdin=b"".join(lines), env=env)
    if "Ignoring path" in indexed.err:  # leaves it out and calls that success
        raise TreeRefused(_REFUSAL.format(indexed.err.partition("Ignoring path")[2].strip()))


# As git sees it, with the filters that it wrote them by. What a run made besides is nobody's input.
_WHAT_DIFFERS = ("diff-files", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")


def altered_files(git: Git, env: Mapping[str, str]) -> tuple[str, ...]:
    """Files of an index that are other in its work tree, or gone from it."""
    git.run("update-index", "-q", "--refresh", env=env, ok=(0, 1))
    return tuple(map(os.fsdecode, git.run(*_WHAT_DIFFERS, env=env).out.split(b"\0")[:-1]))


def index_of(folder: Path, scratch: Path) -> dict[str, str]:
    """Environment for a git that is to know the files of ``write_files``."""
    return {"GIT_INDEX_FILE": str(scratch / "index"), "GIT_WORK_TREE": str(folder)}


def refused(failed: GitFailed) -> Unavailable | TreeRefused:
    """What a failure to write a commit means: git's refusal of a path is about the commit, all else about the machine."""
    for line in failed.end.err.splitlines():
        if "nvalid path" in line:
            return TreeRefused(_REFUSAL.format(line.partition("nvalid path")[2].strip()))
    return failed
