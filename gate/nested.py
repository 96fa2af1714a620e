"""gate.toml files in folders: which of them have a say, how they are read, and how they become one configuration.

The file at the top names the folders ([nested] folders), so that a vendored folder's file has no say. ``compose`` is pure;
what it is given comes from a tree (``read_tree``) or from the files of a work tree (``read_folder``), at the cost of nothing
where the file at the top names no folders. All files are of one tree: policy is trunk's, and a change to any of them is one
to the gate's own rules.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from ci.errors import Unavailable
from ci.git import Git
from ci.model import Sha
from gate.config import (
    CONFIG_NAME,
    IS_LINK,
    LINK_MODE,
    MAX_BYTES,
    Config,
    Nested,
    Problem,
    Source,
    check_needs,
    load,
    parse,
    read_source,
)
from gate.config_values import FOLDER, quoted

MOST_FILES = 1000  # of one tree, below the top
ANYWHERE = Nested(("**",))
"""For a trunk whose own rules cannot be read: any gate.toml may be the one that mends them. No file can say this."""

_PATHS_AT_ONCE = 500  # in one command line

NO_FILE = f"is not a file of at most {MAX_BYTES} bytes: put the checks in such a file"

Files = Mapping[str, bytes | str]
"""The gate.toml of each folder, or what is wrong with that which has its name."""


# --- which have a say ---------------------------------------------------------------------------------------------------


def is_rule(nested: Nested, path: str) -> bool:
    """Whether a change to this path is one to the gate's own rules: a gate.toml that is read, or would be.

    What lies below one counts too: it is where that file is, or would be, and the rules could not be read.
    """
    steps = path.split("/")
    folders = ("/".join(steps[:position]) for position, step in enumerate(steps) if step == CONFIG_NAME)
    return any(not folder or nested == ANYWHERE or nested.names(folder) for folder in folders)


def rules_among(nested: Nested, paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(path for path in paths if is_rule(nested, path)))


def roots(nested: Nested) -> tuple[str, ...]:
    """Folders that everything which has a say lies in; "" is the top."""
    found = set()
    for pattern in nested.folders:
        steps = pattern.split("/")
        first = next((position for position, step in enumerate(steps) if _is_glob(step)), len(steps))
        found.add("/".join(steps[:first]))
    return tuple(sorted(found))


def _is_glob(step: str) -> bool:
    return "*" in step or "?" in step


# --- one configuration --------------------------------------------------------------------------------------------------


def compose(top: bytes, files: Files, origin: str = CONFIG_NAME) -> Config | tuple[Problem, ...]:
    """The configuration of all files together, or every problem of them. Checks are in the order of folders.

    files: those of folders that do not match are passed over. origin: what people call the file at the top.
    """
    source = read_source(top, origin)
    if isinstance(source, Problem):
        return (source,)
    nested = source.config.nested
    sources, unreadable = [source], []
    named = sorted(folder for folder in files if nested.names(folder))
    for folder in named[:MOST_FILES]:
        read = _read(files[folder], folder)
        if isinstance(read, Problem):
            unreadable.append(read)
        else:
            sources.append(read)
    if len(named) > MOST_FILES:
        source.book.add(("nested", "folders"), f"more than {MOST_FILES} folders that match have a {CONFIG_NAME}")
    check_needs(sources, is_all=not unreadable)
    problems = [problem for read in sources for problem in read.book.problems()] + unreadable
    if problems:
        return tuple(problems)
    return replace(source.config, checks=tuple(check for read in sources for check in read.config.checks))


def _read(text: bytes | str, folder: str) -> Source | Problem:
    name = f"{folder}/{CONFIG_NAME}"
    if not FOLDER.fullmatch(folder):
        rule = "names of checks begin with their folder, and are of letters, digits and ._@+- between slashes"
        return Problem("", 0, f"the folder {quoted(folder)} cannot have checks: {rule}. Rename it, or do not name it", name)
    if isinstance(text, str):
        return Problem("", 0, f"{name} {text}", name)
    return read_source(text, name, folder)


def load_all(git: Git, commit: Sha) -> Config | tuple[Problem, ...]:
    """The configuration of a commit or tree. Raises Unavailable when git cannot tell."""
    top = load(git, commit)
    return compose_tree(git, commit, top) if isinstance(top, Config) and top.nested.folders else top


def compose_tree(git: Git, commit: Sha, top: Config) -> Config | tuple[Problem, ...]:
    """The same where the file at the top was read before."""
    text = git.run("cat-file", "blob", f"{commit}:{CONFIG_NAME}").out
    return compose(text, read_tree(git, commit, top.nested))


# --- reading ------------------------------------------------------------------------------------------------------------


def read_tree(git: Git, tree: Sha, nested: Nested) -> Files:
    """The files that have a say in a tree, or in a commit's. Raises Unavailable when git cannot tell."""

    def inside(folders: Sequence[str]) -> Iterable[str]:
        named = [f"{folder}/" for folder in folders if folder]
        asked = [*([[]] if "" in folders else []), *_some(named)]
        return (path for paths in asked for _, kind, _, _, path in _entries(git, tree, paths, "-d") if kind == "tree")

    found: dict[str, str] = {}
    files: dict[str, bytes | str] = {}
    wanted = sorted(_walk(nested, inside))
    for some in _some(wanted):
        for mode, _, blob, size, path in _entries(git, tree, [f"{folder}/{CONFIG_NAME}" for folder in some]):
            folder = path.rpartition("/")[0]
            files[folder] = IS_LINK if mode == LINK_MODE else NO_FILE
            if mode in ("100644", "100755") and int(size) <= MAX_BYTES and len(found) < MOST_FILES:
                found[folder] = blob
    return files | dict(zip(found, _contents(git, list(found.values())), strict=True))


def read_folder(top: Path, nested: Nested) -> Files:
    """The files that have a say in a work tree, as they are now. Raises Unavailable when one cannot be read."""

    def inside(folders: Sequence[str]) -> Iterable[str]:
        for folder in folders:
            with suppress(OSError), os.scandir(top / folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and entry.name != ".git":
                        yield f"{folder}/{entry.name}" if folder else entry.name

    files: dict[str, bytes | str] = {}
    for folder in sorted(_walk(nested, inside)):
        path = top / folder / CONFIG_NAME
        if not os.path.lexists(path):
            continue
        if path.is_symlink():
            files[folder] = IS_LINK
            continue
        try:
            is_fine = path.is_file() and path.stat().st_size <= MAX_BYTES
            files[folder] = path.read_bytes() if is_fine else NO_FILE
        except OSError as cause:
            raise Unavailable(f"{path} cannot be read: {cause.strerror}") from cause
    return files


def top_of(file: Path) -> Path | None:
    """The gate.toml at the top of the work tree, where this one is of a folder that it names; else None."""
    folder = file.absolute().parent
    if file.name != CONFIG_NAME:
        return None
    top = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)
    if top == folder or not (top / CONFIG_NAME).is_file():
        return None
    found = parse((top / CONFIG_NAME).read_bytes())
    has_say = isinstance(found, Config) and found.nested.names(str(folder.relative_to(top)))
    return top / CONFIG_NAME if has_say else None


def _walk(nested: Nested, inside: Callable[[Sequence[str]], Iterable[str]]) -> Collection[str]:
    """The folders that match, level by level. inside: the folders directly in these; "" is the top."""
    found: set[str] = set()
    pending = {("", tuple(pattern.split("/"))) for pattern in nested.folders}
    while pending:
        wanted: dict[str, set[tuple[str, ...]]] = {}
        for here, steps in pending:
            while steps and not _is_glob(steps[0]):
                here, steps = (f"{here}/{steps[0]}" if here else steps[0]), steps[1:]
            if steps:
                wanted.setdefault(here, set()).add(steps)
            else:
                found.add(here)
        pending = set()
        for path in inside(sorted(wanted)) if wanted else ():
            parent, _, name = path.rpartition("/")
            pending |= {(path, steps[1:]) for steps in wanted.get(parent, ()) if fnmatchcase(name, steps[0])}
    return found


def _some(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as a command line takes, at a time."""
    for first in range(0, len(paths), _PATHS_AT_ONCE):
        yield paths[first : first + _PATHS_AT_ONCE]


def _entries(git: Git, tree: Sha, paths: Sequence[str], *options: str) -> Iterable[tuple[str, str, str, str, str]]:
    """(mode, kind, id, size, path) of what a tree has of these paths; no paths: of all at its top."""
    words = ("ls-tree", "-z", "-l", "--full-tree", *options, "--end-of-options", tree, *(["--", *paths] if paths else []))
    for line in git.run(*words, env={"GIT_LITERAL_PATHSPECS": "1"}).out.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        mode, kind, name, size = meta.decode().split()
        yield mode, kind, name, size, os.fsdecode(path)


def _contents(git: Git, blobs: Sequence[str]) -> list[bytes]:
    """What these blobs hold. Raises Unavailable when one is missing: what cannot be read must not pass for no checks."""
    if not blobs:
        return []
    out = git.run("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode()).out
    contents, at = [], 0
    for blob in blobs:
        end = out.index(b"\n", at)
        fields = out[at:end].split()
        if len(fields) != 3:
            raise Unavailable(f"a {CONFIG_NAME} cannot be read, its blob {blob}: run git fsck in {git.git_dir}")
        size = int(fields[2])
        contents.append(out[end + 1 : end + 1 + size])
        at = end + 1 + size + 1
    return contents
