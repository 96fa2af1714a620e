"""What leads checks out of the pool and back to the work tree: a project that is installed in place (``pip install -e``).

Such an environment names folders of the work tree, and whatever tree a check runs over, it imports from there. That is
right as long as these folders hold what is checked.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hooks.staged import ask_git

_READ_AT_MOST = 1 << 16


def leads(top: Path, links: Sequence[str]) -> dict[str, str]:
    """Folders of the work tree that checks import from, "." for all of it, each with what leads there. links: names in the
    work tree that checks see where they run."""
    found: dict[str, str] = {}
    for file in _of_python(top, links):
        named = re.findall(re.escape(os.fsencode(top)) + rb"(?=[/\n'\"]|$)([^\n'\"]*)", _content(file))
        for path in named:
            _note(found, top, file, top / os.fsdecode(path).strip("/"), links)
    for link in links:
        for entry in _links_in(top / link):
            _note(found, top, entry, entry.resolve(), links)
    return found


def differences(top: Path, tree: str, folders: Sequence[str]) -> list[str]:
    """Paths below these folders that the work tree has otherwise than this tree, ignored ones left out."""
    where = ("-C", str(top), "--no-optional-locks", "--literal-pathspecs")
    altered, new = ask_git(
        (*where, "diff", "--name-only", "-z", "--no-ext-diff", "--no-renames", "--no-relative", tree, "--", *folders),
        (*where, "ls-files", "--others", "--exclude-standard", "-z", "--", *folders),
    )
    paths = [os.fsdecode(path) for _, answer in (altered, new) for path in answer.split(b"\0")[:-1]]
    failed = [] if not (altered[0] or new[0]) else ["what git could not tell"]
    return sorted({*paths, *failed})


def _note(found: dict[str, str], top: Path, source: Path, target: Path, links: Sequence[str]) -> None:
    """A path of the work tree that is not in one of the linked folders, where its owner installs things."""
    try:
        folder = target.resolve().relative_to(top.resolve())
    except (OSError, ValueError):
        return
    if target.exists() and not any(folder.is_relative_to(link) for link in links):
        found.setdefault(str(folder), os.path.relpath(source, top))


def _of_python(top: Path, links: Sequence[str]) -> Iterator[Path]:
    """The files by which a Python environment on PATH, or one that is linked, finds what is installed in place."""
    on_path = [Path(entry).parent for entry in os.get_exec_path() if os.path.lexists(f"{entry}/python3")]
    for root in dict.fromkeys([*on_path, *(top / link for link in links)]):
        for packages in root.glob("lib/python3.*/site-packages"):
            for entry in os.scandir(packages):
                if entry.name.endswith(".pth") or (entry.name.startswith("__editable__") and entry.name.endswith(".py")):
                    yield Path(entry.path)


def _links_in(folder: Path) -> Iterator[Path]:
    """Links among the packages of a folder, also in that of a scope: workspaces of npm and its like."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.name.startswith("@"):
            yield from _links_in(Path(entry.path))


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_READ_AT_MOST)
    except OSError:
        return b""
