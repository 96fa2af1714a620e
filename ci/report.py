"""Reads JUnit reports: what real tools write, and what somebody who attacks the gate might.

A report is never trusted and never needed: a broken, huge or hostile one yields no tests and a note, and the check's exit
status stands. Documents are parsed here, element by element, with limits (no DTD, so no entities; bounded depth, size and
number of tests); junitparser says what the elements mean.
"""

import codecs
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat  # nosec - DTDs are refused below, before any entity is declared

import junitparser
from junitparser import xunit2
from junitparser.junitparser import FinalResult, etree  # type: ignore[attr-defined]
from pathspec import GitIgnoreSpec

from ci.model import TestCase

_MESSAGE_CHARACTERS = 300
_NAME_CHARACTERS = 500
_MAX_FOLDERS = 20_000  # looked through for reports

# What XML 1.0 forbids, and tools write all the same when a test prints colours. Surrogates cannot come from decoding.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_REFERENCE = re.compile("&#(x[0-9a-fA-F]{1,8}|[0-9]{1,8});")
_DECLARATION = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["'][^>]{0,200}\?>""")

_RANK = (junitparser.Error, junitparser.Failure, junitparser.Skipped)
_OUTCOMES = ("error", "failed", "skipped", "passed")

# Elements whose text nobody reads, and that can be most of a file.
_OUTPUT_TAGS = frozenset({"system-out", "system-err"})


@dataclass(frozen=True, slots=True)
class ReportLimits:
    """max_bytes: of one report. The last four: of all reports of a run together."""

    max_bytes: int = 50_000_000
    max_depth: int = 50
    max_all_bytes: int = 100_000_000
    max_elements: int = 1_000_000
    max_files: int = 1000
    max_tests: int = 200_000


@dataclass(frozen=True, slots=True)
class Reports:
    """tests: in report order. notes: what could not be read, a sentence each."""

    tests: tuple[TestCase, ...] = ()
    notes: tuple[str, ...] = ()


class _Unreadable(Exception):  # noqa: N818 - a state of a report, caught in this file
    """This report cannot be read; the message says why."""


Stamp = tuple[int, int, int]  # differs when a file was written in between

DEFAULT_LIMITS = ReportLimits()


def read_reports(paths: Iterable[Path], limits: ReportLimits = DEFAULT_LIMITS, folder: Path | None = None) -> Reports:
    """The tests of these files, read as one. Raises nothing for what is in a file, or for a file that is not there.

    folder: the check's folder; with it a class name like tests.test_a.TestB becomes tests/test_a.py::TestB when that file
    is there.
    """
    tests: list[TestCase] = []
    notes: list[str] = []
    room = _Room(limits)
    for number, path in enumerate(paths):
        if number == limits.max_files:
            notes.append(f"more than {limits.max_files} reports: the rest is not read")
            break
        try:
            tests += _read(path, limits, folder, room)
        except _Unreadable as why:
            notes.append(f"report {path.name!r} is not read: {why}")
    return Reports(tuple(tests), tuple(notes))


def find_reports(folder: Path, pattern: str) -> dict[Path, Stamp]:
    """Files in the folder that match the pattern (with ``*`` and ``**``), in order of their names.

    Symlinks are not followed, and a pattern cannot lead out of the folder: it is matched against paths that were found.
    The stamps of two calls tell a report of this run from one that came with the tree or was left by an earlier run.
    """
    is_match = GitIgnoreSpec.from_lines(["/" + pattern.lstrip("/")], backend="simple").match_file
    found = {}
    for number, (here, folders, names) in enumerate(os.walk(folder)):
        if number > _MAX_FOLDERS:
            break
        folders[:] = sorted(set(folders) - {".git"})
        for name in sorted(names):
            path = Path(here, name)
            if is_match(str(path.relative_to(folder))) and (stamp := _stamp(path)) is not None:
                found[path] = stamp
    return found


def _stamp(path: Path) -> Stamp | None:
    """None: not a plain file. The time of change is in: unlike that of modification, nobody can set it."""
    try:
        known = path.lstat()
    except OSError:
        return None
    return (known.st_ino, known.st_size, known.st_ctime_ns) if stat.S_ISREG(known.st_mode) else None


# --- one document -------------------------------------------------------------------------------------------------------


class _Room:
    """What is left of the limits of all reports of a run: reading costs the daemon's time and memory, not the check's."""

    def __init__(self, limits: ReportLimits) -> None:
        self.content_bytes = limits.max_all_bytes
        self.elements = limits.max_elements
        self.tests = limits.max_tests


def _read(path: Path, limits: ReportLimits, folder: Path | None, room: _Room) -> list[TestCase]:
    if room.content_bytes <= 0 or room.elements <= 0:
        raise _Unreadable("the reports before it are too large already")
    content = _content(path, limits.max_bytes)
    room.content_bytes -= len(content)
    text = _decoded(content)
    if not text:
        return []
    root = _parsed(text, limits, room)
    cases: list[TestCase] = []
    for case in _cases(root):
        if len(cases) == room.tests:
            raise _Unreadable(f"it names more than {limits.max_tests} tests")
        cases.append(_test(case, folder))
    room.tests -= len(cases)
    return cases


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise _Unreadable(wrong.strerror or "it cannot be opened") from wrong
    with os.fdopen(fd, "rb") as file:
        known = os.fstat(fd)
        if not stat.S_ISREG(known.st_mode):
            raise _Unreadable("it is no file")
        if known.st_size > max_bytes:
            raise _Unreadable(f"it has {known.st_size} bytes, more than {max_bytes}")
        return file.read(max_bytes)


def _decoded(raw: bytes) -> str:
    """The document as characters that XML allows, without its declaration. Undecodable bytes become U+FFFD."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", "replace")
    else:
        raw = raw.removeprefix(codecs.BOM_UTF8)
        declared = _DECLARATION.match(raw)
        text = _by_name(raw, declared[1].decode() if declared else "utf-8")
    text = _FORBIDDEN.sub("\ufffd", text.lstrip("\ufeff \t\r\n"))
    if text.startswith("<?xml"):
        text = text.partition("?>")[2]
    return _REFERENCE.sub(_allowed_reference, text).strip()


def _by_name(raw: bytes, encoding: str) -> str:
    try:
        text = raw.decode(encoding, "replace")
    except (LookupError, ValueError):  # unknown, or one that is no text encoding at all
        return raw.decode("utf-8", "replace")
    return text


def _allowed_reference(found: re.Match[str]) -> str:
    digits = found[1]
    point = int(digits[1:], 16) if digits[0] == "x" else int(digits)
    is_allowed = (
        point in (0x9, 0xA, 0xD) or 0x20 <= point <= 0xD7FF or 0xE000 <= point <= 0xFFFD or 0x10000 <= point <= 0x10FFFF
    )
    return found[0] if is_allowed else "\ufffd"


def _parsed(text: str, limits: ReportLimits, room: _Room) -> Any:
    """The document as elements of junitparser's own XML library."""
    builder = etree.TreeBuilder()
    depth = 0
    silent = 0  # inside this many elements whose text is dropped

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, silent
        depth += 1
        if depth > limits.max_depth:
            raise _Unreadable(f"its elements are nested more than {limits.max_depth} deep")
        room.elements -= 1
        if room.elements < 0:
            raise _Unreadable(f"it has more than {limits.max_elements} elements")
        name = tag.rpartition("}")[2]
        silent += name in _OUTPUT_TAGS or silent > 0
        builder.start(name, attributes)

    def end(tag: str) -> None:
        nonlocal depth, silent
        depth -= 1
        silent -= silent > 0
        builder.end(tag.rpartition("}")[2])

    def data(characters: str) -> None:
        if not silent and depth:
            builder.data(characters)

    def refuse(*_: object) -> None:
        raise _Unreadable("it has a document type declaration, which could hold entities")

    parser = expat.ParserCreate("utf-8", "}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as wrong:
        raise _Unreadable(f"it is no XML: {wrong}") from wrong
    return builder.close()


def _cases(root: Any) -> Iterator[junitparser.TestCase]:
    try:
        document = xunit2.JUnitXml.fromroot(root)
    except junitparser.JUnitXmlError as wrong:
        raise _Unreadable(f"its root element is {root.tag!r}, not testsuites or testsuite") from wrong
    # Some tools put test cases straight into testsuites.
    yield from document.iterchildren(xunit2.TestCase)  # type: ignore[no-untyped-call]
    for suite in document:
        yield from suite


def _test(case: junitparser.TestCase, folder: Path | None) -> TestCase:
    """Error beats failure beats skipped. A test that passed after failures (flakyFailure) passed."""
    results = sorted((_RANK.index(type(result)), number, result) for number, result in enumerate(case.result))
    rank, _, worst = results[0] if results else (len(_RANK), 0, None)
    message = "" if worst is None else _first_line(worst)
    return TestCase(_name(case, folder), _OUTCOMES[rank], _seconds(case._elem.get("time")), message)


def _name(case: junitparser.TestCase, folder: Path | None) -> str:
    """tests/test_a.py::TestB::test_c where that can be told, else class::name."""
    name = case.name or "(no name)"
    class_name = case.classname or ""
    file = case._elem.get("file") or ""
    if not file and folder is not None and class_name:
        file = _file_of(class_name, folder)
    parts = [class_name] if class_name and class_name != name else []
    if file:
        module = os.path.splitext(file)[0].replace("/", ".")  # noqa: PTH122 - a name in a report, no path of ours
        inner = class_name.removeprefix(module).lstrip(".") if class_name.startswith(module) else ""
        parts = [file, *(inner.split(".") if inner else ())]
    return "::".join([*parts, name])[:_NAME_CHARACTERS]


def _file_of(class_name: str, folder: Path) -> str:
    """The longest beginning of a dotted name that is a Python file in the folder; "" when none is."""
    words = class_name.split(".")
    if not all(word.isidentifier() for word in words) or len(words) > 20:
        return ""
    for count in range(len(words), 0, -1):
        path = "/".join(words[:count]) + ".py"
        if (folder / path).is_file():
            return path
    return ""


def _seconds(said: str | None) -> float:
    """A duration as tools write it: 1.5, 1,234.5 and 1,5 are all met. What cannot be read is 0."""
    text = (said or "").strip().removesuffix("s")
    if "," in text:
        text = text.replace(",", "") if "." in text or text.count(",") > 1 else text.replace(",", ".")
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0.0 <= seconds < 1e9 else 0.0


def _first_line(result: FinalResult) -> str:
    said = (result.message or result.text or "").strip()
    return said.splitlines()[0][:_MESSAGE_CHARACTERS] if said else ""
