"""Checks whose command is ``gate hygiene``, run inside this process on what git keeps, without a file or a process for each.

The content is the blob's: what is to be committed. Only the reading is here; what is looked for is in hooks/hygiene.py.
"""

from hooks.hygiene import Finding, Request, judge, mend, sentence
from hooks.lines import shown
from hooks.staged import MOST_STDIN, ask_git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LINK, EXECUTABLE = b"120000", b"100755"

_MOST_BYTES = 50_000_000  # of all files of a commit; beyond it a process of its own reads them one by one


def judged(
    request: Request, files: "Mapping[str, tuple[bytes, bytes]]", git_dir: str = "", others: "Iterable[str]" = ()
) -> "Iterator[tuple[str, bytes, list[tuple[str, Finding]]]]":
    """(path, content, what was found) of each file. files: path -> (mode, id of the blob). git_dir: "": where we are.
    others: paths beside them, for case-conflict.

    Raises OSError when git cannot give the content, and ValueError for more of it than is good to hold.
    """
    options = request.options_among(files, others)
    for path, content in _contents(files, git_dir):
        mode, _ = files[path]
        # What git keeps of a link is a path and no text.
        names = tuple(name for name in request.names if name == "case-conflict") if mode == LINK else request.names
        yield path, content, judge(names, path, content, options, executable=mode == EXECUTABLE)


def found_and_mended(
    request: Request, files: "Mapping[str, tuple[bytes, bytes]]", git_dir: str, others: "Iterable[str]"
) -> tuple[list[str], dict[str, bytes]]:
    """What ``gate hygiene`` would print, and path -> what it would make of a file. The parameters: as of ``judged``."""
    said: list[str] = []
    mended = {}
    options = request.options_among(files, others)
    for path, content, found in judged(request, files, git_dir, others):
        mode, _ = files[path]
        if request.fix and mode != LINK:
            better, names = mend(request.names, content)
            if names:
                mended[path] = better
                said.append(f"{shown(path)}: mended: {', '.join(names)}")
                found = judge(request.names, path, better, options, executable=mode == EXECUTABLE)
        said += [sentence(path, each) for _, each in found]
    return said, mended


def _contents(files: "Mapping[str, tuple[bytes, bytes]]", git_dir: str) -> "Iterator[tuple[str, bytes]]":
    words = ("--git-dir", git_dir) if git_dir else ()
    for paths in _chunks([*files]):
        asked = b"".join([files[path][1] + b"\n" for path in paths])
        ((_, sizes),) = ask_git((*words, "cat-file", "--batch-check=%(objectsize)"), stdin=asked)
        if sum(int(size) for size in sizes.split()) > _MOST_BYTES:  # ValueError for one that is missing
            raise ValueError("more content than is good to hold")
        ((failed, answer),) = ask_git((*words, "cat-file", "--batch"), stdin=asked)
        if failed:
            raise OSError("git cat-file failed")
        at = 0
        for path in paths:
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split(b" ")[2])
            yield path, answer[end + 1 : end + 1 + size]
            at = end + 1 + size + 1


def _chunks(paths: "Sequence[str]") -> "Iterator[Sequence[str]]":
    size = MOST_STDIN // 65  # the longest ids have 64 digits
    return (paths[start : start + size] for start in range(0, len(paths), size))
