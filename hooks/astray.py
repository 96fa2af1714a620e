"""What leads checks out of the pool and back to the work tree: a project that is installed in place (``pip install -e``).

Such an environment names folders of the work tree, and whatever tree a check runs over, it imports from there. That is
right as long as these folders hold what is checked.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hooks.staged import ask_git

_READ_AT_MOST = 1 << 16
_IMPORTABLE = (".py", ".so", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".json")


def leads(top: Path, links: Sequence[str]) -> dict[str, str]:
    """Folders of the work tree that checks import from, "." for all of it, each with what leads there. links: names in the
    work tree that checks see where they run."""
    found: dict[str, str] = {}
    for file in _of_python(top, links):
        named = re.findall(rb"(?<![\w./-])" + re.escape(os.fsencode(top)) + rb"(?=[/\n'\"]|$)([^\n'\"]*)", _content(file))
        for path in named:
            _note(found, top, str(file), os.path.join(top, os.fsdecode(path).strip("/")), links)  # noqa: PTH118
    for link in links:
        for entry in _links_in(str(top / link)):
            _note(found, top, entry, entry, links)
    return found


def differences(top: Path, tree: str, folders: Sequence[str]) -> list[str]:
    """Paths below these folders that the work tree has otherwise than this tree: ignored ones left out, and new ones that
    nothing can import."""
    where = ("-C", str(top), "--no-optional-locks", "--literal-pathspecs")
    altered, new = ask_git(
        (*where, "diff", "--name-only", "-z", "--no-ext-diff", "--no-renames", "--no-relative", tree, "--", *folders),
        (*where, "ls-files", "--others", "--exclude-standard", "-z", "--", *folders),
    )
    paths = [os.fsdecode(path) for path in altered[1].split(b"\0")[:-1]]
    paths += [name for path in new[1].split(b"\0")[:-1] if (name := os.fsdecode(path)).endswith(_IMPORTABLE)]
    failed = [] if not (altered[0] or new[0]) else ["what git could not tell"]
    return sorted({*paths, *failed})


def _note(found: dict[str, str], top: Path, source: str, target: str, links: Sequence[str]) -> None:
    """A path of the work tree that is not in one of the linked folders, where its owner installs things."""
    # Not by pathlib, for which a link that leads to itself is an error.
    folder = os.path.relpath(os.path.realpath(target), os.path.realpath(top))
    is_linked = any(f"{folder}/".startswith(f"{link.rstrip('/')}/") for link in links)
    if os.path.exists(target) and folder.split("/")[0] != ".." and not is_linked:  # noqa: PTH110
        found.setdefault(folder, os.path.relpath(source, top))


def _of_python(top: Path, links: Sequence[str]) -> Iterator[Path]:
    """The files by which a Python environment on PATH, or one that is linked, finds what is installed in place."""
    on_path = [Path(entry).parent for entry in os.get_exec_path() if os.path.lexists(f"{entry}/python3")]
    for root in dict.fromkeys([*on_path, *(top / link for link in links)]):
        with suppress(OSError):
            for packages in root.glob("lib/python3.*/site-packages"):
                for entry in _entries(str(packages)):
                    is_finder = entry.name.startswith("__editable__") and entry.name.endswith(".py")
                    if (is_finder or entry.name.endswith(".pth")) and entry.is_file():
                        yield Path(entry.path)


def _links_in(folder: str) -> Iterator[str]:
    """Links among the packages of a folder, also in that of a scope: workspaces of npm and its like."""
    for entry in _entries(folder):
        if entry.is_symlink():
            yield entry.path
        elif entry.name.startswith("@"):
            yield from _links_in(entry.path)


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _content(file: Path) -> bytes:
    """Without comments."""
    try:
        with file.open("rb") as opened:
            lines = opened.read(_READ_AT_MOST).split(b"\n")
    except OSError:
        return b""
    return b"\n".join(line for line in lines if not line.lstrip().startswith(b"#"))
