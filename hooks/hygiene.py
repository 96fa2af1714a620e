"""``gate hygiene``: small checks of single files, which need no other program.

A check gets the content of a file and says what is wrong with it; a few can also mend it. The checks read no file and start
nothing, so ``gate check`` runs them inside its own process, on content that git has staged. Only the command line below them
reads and writes files. Nothing here decides which files are looked at: whoever calls names them.

This may be called for every commit: no import beyond ``os`` and ``sys`` but inside the one function that needs it, and that
is why the sentences are here and not in hooks.text.
"""

# pathlib, dataclasses, re and argparse would cost more than all that this file does:
# ruff: noqa: PTH105, PTH108

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

EXIT_GREEN, EXIT_FOUND, EXIT_UNREADABLE = 0, 1, 4

_BINARY_WITHIN_BYTES = 8000  # a NUL in these, and git takes a file for binary
_FINDINGS_SHOWN = 50  # of one check in one file; the rest is a number
_MOST_KEY_STEPS = 10**7  # of tomllib, which goes through the parts of its table's name again for each part of each key
_LONGEST_SENTENCE = 200  # characters of what a parser says, which may quote the file

_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

USAGE = "usage: gate hygiene NAME[,NAME…] [--fix] [--max SIZE] [--json] [--] FILES…"
HELP = f"""\
{USAGE}

Small checks of single files. NAME is one or more of:
  trailing-whitespace   no blanks before the end of a line (*)
  end-of-file           exactly one line end after the last line (*)
  mixed-line-ending     every line ends in the same way (*)
  byte-order-mark       no byte order mark of UTF-8 (*)
  merge-conflict        no marks of an unfinished merge
  python-syntax         .py, .pyi, .pyw: Python can compile it
  json-syntax           .json: is JSON, no key twice
  toml-syntax           .toml: is TOML
  private-key           no private key
  large-file            no more than --max bytes
  case-conflict         no two names that differ only in upper and lower case
  shebang               executable scripts begin with #!, and what begins with #! is executable

options
  --fix        mend what is marked (*) in place; what was mended is still counted as found
  --max SIZE   for large-file, such as 500kB (the default), 2MB or a number of bytes
  --json       print one JSON object instead of lines

exit codes: 0 nothing found, 1 something found or mended, 2 usage, 4 a file could not be read or written
"""


class Finding(tuple[int, str]):
    """Something that is wrong: (line, text). line: from 1 on, counted by line feeds; 1 too when it is about all of it."""

    __slots__ = ()

    def __new__(cls, line: int, text: str) -> "Finding":
        return super().__new__(cls, (line, text))

    @property
    def line(self) -> int:
        return self[0]

    @property
    def text(self) -> str:
        return self[1]


class Options:
    """What checks must know beside the file. max_bytes: for large-file. spellings: without, case-conflict finds nothing."""

    __slots__ = ("max_bytes", "spellings")

    def __init__(self, max_bytes: int = 500_000, spellings: "Spellings | None" = None) -> None:
        self.max_bytes = max_bytes
        self.spellings = spellings


DEFAULTS = Options()


class File:
    """What a check looks at. executable: None when nobody knows. size_bytes: of the content, given when it was not read."""

    __slots__ = ("content", "executable", "is_binary", "options", "path", "size_bytes")

    def __init__(
        self,
        path: str,
        content: bytes,
        options: Options = DEFAULTS,
        executable: bool | None = None,
        size_bytes: int | None = None,
    ) -> None:
        self.path = path
        self.content = content
        self.options = options
        self.executable = executable
        self.size_bytes = len(content) if size_bytes is None else size_bytes
        self.is_binary = is_binary(content)


class Request:
    """What a command line asks for. names: of checks; none when it is help. options: without spellings. files: as given."""

    __slots__ = ("files", "fix", "json", "names", "options")

    def __init__(
        self,
        names: "tuple[str, ...]",
        options: Options = DEFAULTS,
        files: "tuple[str, ...]" = (),
        *,
        fix: bool = False,
        json: bool = False,
    ) -> None:
        self.names = names
        self.options = options
        self.files = files
        self.fix = fix
        self.json = json

    def options_among(self, paths: "Iterable[str]", others: "Iterable[str]" = ()) -> Options:
        """options, with spellings where case-conflict needs them. paths: all that will be judged. others: see Spellings."""
        return Options(self.options.max_bytes, Spellings(paths, others)) if "case-conflict" in self.names else self.options


# --- for callers in this process ----------------------------------------------------------------------------------------


def parsed(command: "str | tuple[str, ...] | list[str]") -> Request | None:
    """What a check's command in gate.toml asks of us; None when it is anything but a plain call of ``gate hygiene``.

    Plain is: the words gate, hygiene, names and options that we know, and {files} once and last; in a string with nothing
    but blanks between them. None of these words means anything to a shell, so running it and doing this are the same.
    """
    words = [word for word in command.split(" ") if word] if isinstance(command, str) else [*command]
    if words[:2] != ["gate", "hygiene"] or words[-1] != "{files}":
        return None
    request = _request(words[2:])
    if isinstance(request, str) or request.files != ("{files}",) or request.json:
        return None  # JSON is for whoever reads the output of a process
    return request


def findings(
    name: str, path: str, content: bytes, options: Options = DEFAULTS, executable: bool | None = None
) -> list[Finding]:
    """What one check finds in one file. Pure. Raises KeyError for a name that is none."""
    return _findings(name, File(path, content, options, executable))


def judge(
    names: "Sequence[str]", path: str, content: bytes, options: Options = DEFAULTS, executable: bool | None = None
) -> list[tuple[str, Finding]]:
    """(name of the check, finding) of several checks of one file, in the order of the names. Pure."""
    return _judge(names, File(path, content, options, executable))


def mend(names: "Sequence[str]", content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The content with what these checks can mend mended, and the names of those that altered it. Pure.

    Mended in the order of FIXES whatever the order of the names: what one leaves is fine for all before it.
    """
    if is_binary(content):
        return content, ()
    altered = []
    for name, fix in FIXES.items():
        if name in names and (better := fix(content)) != content:
            altered.append(name)
            content = better
    return content, tuple(altered)


def sentence(path: str, finding: Finding) -> str:
    """A finding as the command line prints it."""
    return f"{_shown(path)}:{finding.line}: {finding.text}"


def is_binary(content: bytes) -> bool:
    """As git sees it."""
    return content.find(b"\0", 0, _BINARY_WITHIN_BYTES) >= 0


def _judge(names: "Sequence[str]", file: File) -> list[tuple[str, Finding]]:
    return [(name, finding) for name in names for finding in _findings(name, file)]


def _findings(name: str, file: File) -> list[Finding]:
    check = CHECKS[name]
    return [] if file.is_binary and (name in _OF_TEXT or _is_encrypted(name, file.content)) else check(file)


def _is_encrypted(name: str, content: bytes) -> bool:
    """Whether git holds only what git-crypt made of a file: its name speaks of the text that nobody can see here."""
    return name not in _WITHOUT_CONTENT and content.startswith(b"\0GITCRYPT\0")


# --- checks of any text -------------------------------------------------------------------------------------------------


def trailing_whitespace(file: File) -> list[Finding]:
    """Blanks and tabs before CR, LF or the end. Form feeds stay: they part pages."""
    content = file.content
    if not content.endswith((b" ", b"\t")) and not any(pair in content for pair in (b" \n", b"\t\n", b" \r", b"\t\r")):
        return []
    lines = (
        number
        for number, line in _lines(content)
        if line.rstrip(b"\r\n").endswith((b" ", b"\t")) or b" \r" in line or b"\t\r" in line
    )
    return _each(lines, "blanks at the end of the line")


def without_trailing_whitespace(content: bytes) -> bytes:
    return b"\n".join(
        b"\r".join([part.rstrip(b" \t") for part in line.split(b"\r")]) if b"\r" in line else line.rstrip(b" \t")
        for line in content.split(b"\n")
    )


def end_of_file(file: File) -> list[Finding]:
    """Exactly one line end after the last line; an empty file has no line."""
    content = file.content
    body = content.rstrip(b"\r\n")
    end = content[len(body) :]
    if not content or (body and end == _end_after(content, end)):
        return []
    number = body.count(b"\n") + 1
    if not body:
        return [Finding(1, "nothing but empty lines")]
    if end in (b"", b"\r"):  # where other lines end in LF, CR alone ends none
        return [Finding(number, "no line end at the end")]
    return [Finding(number + 1, "empty lines at the end of the file")]


def with_one_end(content: bytes) -> bytes:
    body = content.rstrip(b"\r\n")
    return body + _end_after(content, content[len(body) :]) if body else b""


def _end_after(content: bytes, end: bytes) -> bytes:
    """The line end to keep of those at the end; without any, that of the first line. CR alone only where there is no LF."""
    for kind in (b"\r\n", b"\n"):
        if end.startswith(kind):
            return kind
    first = content.find(b"\n")
    if first < 0:
        return b"\r" if b"\r" in content else b"\n"
    return b"\r\n" if content[first - 1 : first] == b"\r" else b"\n"


def mixed_line_ending(file: File) -> list[Finding]:
    """LF, CRLF and CR alone, of which a file may have one kind."""
    content = file.content
    if b"\r" not in content:
        return []
    crlf, lf, cr = _line_ends(content)
    if (crlf > 0) + (lf > 0) + (cr > 0) < 2:
        return []
    usual = "CRLF" if crlf > lf else "LF"
    number = next(
        number
        for number, line in _lines(content)
        if b"\r" in line.removesuffix(b"\r\n") or (line.endswith(b"\n") and line.endswith(b"\r\n") is (usual == "LF"))
    )
    counts = [f"{count} {kind}" for count, kind in ((lf, "LF"), (crlf, "CRLF"), (cr, "CR")) if count]
    return [Finding(number, f"line ends are mixed: {', '.join(counts)}; here is the first that is not {usual}")]


def with_same_line_ends(content: bytes) -> bytes:
    """All CRLF where most are, else all LF."""
    crlf, lf, cr = _line_ends(content)
    if (crlf > 0) + (lf > 0) + (cr > 0) < 2:
        return content
    with_lf = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return with_lf.replace(b"\n", b"\r\n") if crlf > lf else with_lf


def _line_ends(content: bytes) -> tuple[int, int, int]:
    """How many CRLF, LF alone and CR alone."""
    crlf = content.count(b"\r\n")
    return crlf, content.count(b"\n") - crlf, content.count(b"\r") - crlf


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def byte_order_mark(file: File) -> list[Finding]:
    return [Finding(1, "begins with a byte order mark")] if file.content.startswith(_BYTE_ORDER_MARK) else []


def without_byte_order_mark(content: bytes) -> bytes:
    at = 0
    while content.startswith(_BYTE_ORDER_MARK, at):
        at += len(_BYTE_ORDER_MARK)
    return content[at:]


# With the blank and, behind it, the label that git always writes; without one it may be a line below a heading.
_OURS, _BASE, _THEIRS = b"<" * 7 + b" ", b"|" * 7 + b" ", b">" * 7 + b" "
_BETWEEN = b"=" * 7


def merge_conflict(file: File) -> list[Finding]:
    """Marks that git left. A line of equal signs alone is one only after the first mark: else it underlines a heading."""
    content = file.content
    if _OURS not in content and _THEIRS not in content:
        return []
    return _each(_conflict_lines(content), "a mark of an unfinished merge")


def _conflict_lines(content: bytes) -> "Iterator[int]":
    is_open = False
    for number, line in _lines(content):
        if line.startswith((_OURS, _THEIRS)):
            is_open = line.startswith(_OURS)
            yield number
        elif is_open and (line.startswith(_BASE) or line.rstrip(b"\r\n") == _BETWEEN):
            yield number


# In pieces, so that this file is not refused by its own check.
_DASHES, _KEY = b"-" * 5, b"PRIVATE " + b"KEY"
_KEY_MARKS = (
    *(
        _DASHES + b"BEGIN " + kind + _KEY
        for kind in (b"", b"RSA ", b"DSA ", b"EC ", b"OPENSSH ", b"ENCRYPTED ", b"ANY ", b"PGP ", b"SSH2 ENCRYPTED ")
    ),
    b"-" * 4 + b" BEGIN SSH2 ENCRYPTED " + _KEY,
    _DASHES + b"BEGIN OpenVPN Static " + b"key V1" + _DASHES,
    b"PuTTY-User-" + b"Key-File-",
    b"AGE-SECRET-" + b"KEY-1",
)


def private_key(file: File) -> list[Finding]:
    """The first line of a private key, also within a string."""
    content = file.content
    if not any(mark in content for mark in _KEY_MARKS):
        return []
    lines = (number for number, line in _lines(content) if any(mark in line for mark in _KEY_MARKS))
    return _each(lines, "a private key: remove it, and consider it known")


def shebang(file: File) -> list[Finding]:
    """``#!`` and the executable bit go together. Only ``#!`` before an absolute path counts: Rust has ``#![…]``."""
    if file.executable is None:
        return []
    begins = file.content.startswith(b"#!") and file.content[2:80].lstrip(b" \t").startswith(b"/")
    if file.executable and not begins:
        return [Finding(1, "is executable and does not begin with #! and the path of its interpreter")]
    if begins and not file.executable:
        return [Finding(1, "begins with #! and is not executable (git update-index --chmod=+x)")]
    return []


# --- checks of a syntax -------------------------------------------------------------------------------------------------


def python_syntax(file: File) -> list[Finding]:
    """Whether the Python that runs us can compile it, by the coding that it declares. Nothing of it is run."""
    if not file.path.lower().endswith((".py", ".pyi", ".pyw")):
        return []
    import warnings

    # The filters of warnings belong to the whole process, and gate check has threads.
    with _lock(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(file.content, "<file>", "exec", dont_inherit=True)
        except SyntaxError as wrong:
            return [Finding(max(1, wrong.lineno or 1), _said(wrong.msg))]
        except (RecursionError, MemoryError):
            return [Finding(1, "nested too deeply, or too large, for Python")]
        except (ValueError, LookupError, OverflowError) as wrong:  # which of them it is depends on the version of Python
            return [Finding(1, _said(str(wrong)))]
    return []


def json_syntax(file: File) -> list[Finding]:
    """JSON as RFC 8259 has it: UTF-8, no NaN. A key that is given twice is refused too: one of the two has no effect."""
    if not file.path.lower().endswith(".json"):
        return []
    import json

    text = _decoded(file.content.removeprefix(_BYTE_ORDER_MARK))
    if isinstance(text, Finding):
        return [text]
    try:
        # Numbers stay text: Python bounds the digits of whole numbers, and JSON does not.
        json.loads(text, object_pairs_hook=_refuse_twins, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except json.JSONDecodeError as wrong:
        return [Finding(wrong.lineno, _said(wrong.msg))]
    except RecursionError:
        return [Finding(1, "nested too deeply to be read")]
    except ValueError as wrong:
        return [Finding(1, _said(str(wrong)))]
    return []


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"an object has the key {key[:50]!r} twice")
        seen.add(key)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a value of JSON")


_OF_KEYS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. \t\"'")


def toml_syntax(file: File) -> list[Finding]:
    if not file.path.lower().endswith(".toml"):
        return []
    import tomllib

    text = _decoded(file.content)
    if isinstance(text, Finding):
        return [text]
    if _has_endless_keys(file.content):
        return [Finding(1, "has keys of too many parts to be read")]
    try:
        tomllib.loads(text, parse_float=str)
    except RecursionError:
        return [Finding(1, "nested too deeply to be read")]
    except ValueError as wrong:  # tomllib's own, and a whole number of too many digits
        said, _, place = str(wrong).rpartition(" (at ")
        line = place.removeprefix("line ").partition(",")[0]
        if line.isascii() and line.isdecimal():
            return [Finding(int(line), _said(said))]
        if place == "end of document)":
            return [Finding(text.removesuffix("\n").count("\n") + 1, _said(said))]
        return [Finding(1, _said(str(wrong)))]
    return []


def _has_endless_keys(content: bytes) -> bool:
    """Whether tomllib would take longer than its time: by the dots in what looks like keys, which may be text as well."""
    dots, lines = content.count(b"."), content.count(b"\n")
    if dots * (dots + lines) <= _MOST_KEY_STEPS:
        return False
    pieces = content.translate(bytes(byte if byte in _OF_KEYS else 10 for byte in range(256))).split(b"\n")
    return max(piece.count(b".") for piece in pieces) * (dots + lines) > _MOST_KEY_STEPS


def _decoded(content: bytes) -> str | Finding:
    try:
        return content.decode()
    except UnicodeDecodeError as wrong:
        return Finding(content.count(b"\n", 0, wrong.start) + 1, f"is not UTF-8: {wrong.reason}")


_LOCKS: "dict[str, AbstractContextManager[object]]" = {}


def _lock() -> "AbstractContextManager[object]":
    import _thread  # a part of the interpreter, unlike threading

    return _LOCKS.setdefault("warnings", _thread.allocate_lock())  # one step, so that two threads get the same


# --- checks of a file as a whole ----------------------------------------------------------------------------------------


def large_file(file: File) -> list[Finding]:
    size, most = file.size_bytes, file.options.max_bytes
    return [Finding(1, f"has {size} bytes, and {most} are allowed")] if size > most else []


class Spellings:
    """Names that would be one file, or one folder, where upper and lower case are the same; also of accented letters.

    paths: those that will be asked about. others: that they may clash with, such as those of the tree. Built in linear time.
    """

    __slots__ = ("_root",)

    def __init__(self, paths: "Iterable[str]", others: "Iterable[str]" = ()) -> None:
        # folded name -> (spelling -> the path that answers for it, None while only others have it; what lies below)
        self._root: dict[str, tuple[dict[str, str | None], dict[str, object]]] = {}
        for path in sorted(paths):
            self._add(path, path)
        for path in others:
            self._add(path, None)

    def twin_of(self, path: str) -> tuple[str, str] | None:
        """A file or folder of this path, and another spelling of it. Of paths that share a spelling, the first tells."""
        parts = _parts(path)
        for depth, (spellings, _) in enumerate(self._walk(parts)):
            if len(spellings) > 1 and spellings.get(parts[depth]) == path:
                other = min(spelling for spelling in spellings if spelling != parts[depth])
                return "/".join(parts[: depth + 1]), "/".join([*parts[:depth], other])
        return None

    def _add(self, path: str, answers: str | None) -> None:
        parts = _parts(path)
        for part, (spellings, _) in zip(parts, self._walk(parts), strict=True):
            spellings.setdefault(part, answers)

    def _walk(self, parts: list[str]) -> "Iterator[tuple[dict[str, str | None], dict[str, object]]]":
        level = self._root
        for part in parts:
            found = level.setdefault(_folded(part), ({}, {}))
            yield found
            level = found[1]  # type: ignore[assignment]  # a recursive type would need a name for each level


def case_conflict(file: File) -> list[Finding]:
    twin = file.options.spellings and file.options.spellings.twin_of(file.path)
    if not twin:
        return []
    return [Finding(1, f"{_shown(twin[0])} and {_shown(twin[1])} are the same name where case does not count")]


def _parts(path: str) -> list[str]:
    return path.removeprefix("./").split("/")


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    import unicodedata

    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


# --- the tables ---------------------------------------------------------------------------------------------------------

CHECKS: "dict[str, Callable[[File], list[Finding]]]" = {
    "trailing-whitespace": trailing_whitespace,
    "end-of-file": end_of_file,
    "mixed-line-ending": mixed_line_ending,
    "byte-order-mark": byte_order_mark,
    "merge-conflict": merge_conflict,
    "python-syntax": python_syntax,
    "json-syntax": json_syntax,
    "toml-syntax": toml_syntax,
    "private-key": private_key,
    "large-file": large_file,
    "case-conflict": case_conflict,
    "shebang": shebang,
}

# In the order in which they are applied.
FIXES: "dict[str, Callable[[bytes], bytes]]" = {
    "byte-order-mark": without_byte_order_mark,
    "mixed-line-ending": with_same_line_ends,
    "trailing-whitespace": without_trailing_whitespace,
    "end-of-file": with_one_end,
}

_OF_TEXT = frozenset({*FIXES, "merge-conflict", "private-key", "shebang"})
_WITHOUT_CONTENT = frozenset({"large-file", "case-conflict"})


# --- the command line ---------------------------------------------------------------------------------------------------


def run(words: list[str]) -> int:
    """Exit code as HELP has it. Raises UserError."""
    request = _request(words)
    if isinstance(request, str):
        from ci.errors import UserError

        raise UserError(request)
    if not request.names:
        sys.stdout.write(HELP)
        return EXIT_GREEN
    if not request.files:
        sys.stderr.write("gate: no files were given, so there is nothing to look at\n")
    printer = _JsonPrinter() if request.json else _LinePrinter()
    paths = sorted({*request.files})  # runners pass names in any order
    options = request.options_among(paths, _names_beside(paths) if "case-conflict" in request.names else ())
    for path in paths:
        try:
            _look_at(path, request, options, printer)
        except OSError as failure:
            printer.failed(path, _why(failure))
    return printer.finish()


def _names_beside(paths: "Sequence[str]") -> "list[str]":
    """What these may clash with: all that git tracks from here on; where git cannot be asked, what lies beside them."""
    from hooks.staged import ask_git

    ((failed, tracked),) = ask_git(("ls-files", "-z"))
    if not failed:
        return [os.fsdecode(path) for path in tracked.split(b"\0") if path]
    folders = {"/".join(parts[:depth]) for path in paths for parts in [_parts(path)] for depth in range(len(parts))}
    return [f"{folder}/{name}".lstrip("/") for folder in folders for name in _listed(folder or ".")]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - of names alone
    except OSError:  # a path that is not there is told when it is looked at
        return []


def _request(words: "Sequence[str]") -> Request | str:
    """What the words ask for, without names when it is help; or a sentence about what is wrong with them."""
    names: list[str] | None = None
    files: list[str] = []
    options = DEFAULTS
    flags = set()
    left = iter(words)
    for word in left:
        if word == "--":
            files += left
        elif word in ("-h", "--help"):
            return Request(())
        elif word in ("--fix", "--json"):
            flags.add(word)
        elif word == "--max" or word.startswith("--max="):
            size = word[len("--max=") :] if "=" in word else next(left, "")
            found = _size(size)
            if found is None:
                return (
                    f"--max {_shown(size) or 'alone'} is no size: write a number and one of {', '.join(_SIZES)}, as in 500kB"
                )
            options = Options(found)
        elif word.startswith("-"):
            return f"{_shown(word)} is no option (before files whose names begin with a dash, write --)\n  {USAGE}"
        elif names is None:
            names = word.split(",")
        else:
            files.append(word)
    if names is None:
        return f"which checks?\n  {USAGE}\n  NAME is one of: {', '.join(CHECKS)}"
    unknown = next((name for name in names if name not in CHECKS), None)
    if unknown is not None:
        return f"{_shown(unknown) or 'an empty word'} is no check of files; there are: {', '.join(CHECKS)}"
    once = tuple(dict.fromkeys(names))
    return Request(once, options, tuple(files), fix="--fix" in flags, json="--json" in flags)


def _size(written: str) -> int | None:
    digits = written.rstrip("".join({*"".join(_SIZES)}))
    unit = written[len(digits) :] or "B"
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 16 and unit in _SIZES):
        return None
    return int(digits) * _SIZES[unit]


def _look_at(path: str, request: Request, options: Options, printer: "_LinePrinter | _JsonPrinter") -> None:
    """Judge one file of the disk, and mend it when asked to. Raises OSError."""
    status = os.lstat(path)
    if (status.st_mode & 0o170000) == 0o120000:
        # What a link leads to is judged by its own name, and what git keeps of the link is a path and no text.
        names: tuple[str, ...] = tuple(name for name in request.names if name == "case-conflict")
        printer.found(path, _judge(names, File(path, b"", options)))
        return
    content, status = (b"", _regular(status)) if _WITHOUT_CONTENT.issuperset(request.names) else _read(path)
    size_bytes = status.st_size
    if request.fix:
        better, mended = mend(request.names, content)
        if mended:
            try:
                _replace(path, better, status)
            except OSError as failure:
                printer.failed(path, _why(failure))  # and what is wrong with it is told below
            else:
                printer.mended(path, mended)
                content, size_bytes = better, len(better)
    file = File(path, content, options, executable=bool(status.st_mode & 0o100), size_bytes=size_bytes)
    printer.found(path, _judge(request.names, file))


def _read(path: str) -> tuple[bytes, os.stat_result]:
    # Neither wait for a pipe nor wake a device, and a link may have come since.
    _regular(os.lstat(path))
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = _regular(os.fstat(handle))
        return file.read(), status


def _why(failure: OSError) -> str:
    return failure.strerror or str(failure)


def _regular(status: os.stat_result) -> os.stat_result:
    if (status.st_mode & 0o170000) != 0o100000:
        is_folder = (status.st_mode & 0o170000) == 0o040000
        raise OSError(0, "is a folder: name the files in it" if is_folder else "is not a file")
    return status


def _replace(path: str, content: bytes, before: os.stat_result) -> None:
    """Put new content in the place of a file in one step, with its mode. Raises OSError, and then the file is as it was."""
    folder, slash, _ = path.rpartition("/")
    unfinished = f"{folder}{slash}.gate-{os.getpid()}-{os.urandom(4).hex()}"
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            made = os.fstat(handle)
            if (before.st_uid, before.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(handle, before.st_uid, before.st_gid)
            os.fchmod(handle, before.st_mode & 0o7777)
            os.fsync(handle)
        now = os.lstat(path)
        if any(getattr(now, fact) != getattr(before, fact) for fact in ("st_ino", "st_dev", "st_size", "st_mtime_ns")):
            raise OSError(0, "was changed by somebody else meanwhile, and is not mended")
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


class _Printer:
    """Counts what comes, for the exit code."""

    def __init__(self) -> None:
        self._is_green = True
        self._failures = 0

    @property
    def code(self) -> int:
        # What was found outweighs what could not be read: it is about the change, and known.
        if not self._is_green:
            return EXIT_FOUND
        return EXIT_UNREADABLE if self._failures else EXIT_GREEN


class _LinePrinter(_Printer):
    """A line for everything that was found or mended."""

    def found(self, path: str, found: list[tuple[str, Finding]]) -> None:
        for _, finding in found:
            self._is_green = False
            sys.stdout.write(sentence(path, finding) + "\n")

    def mended(self, path: str, names: tuple[str, ...]) -> None:
        self._is_green = False
        sys.stdout.write(f"{_shown(path)}: mended: {', '.join(names)}\n")

    def failed(self, path: str, why: str) -> None:
        self._failures += 1
        sys.stderr.write(f"gate: {_shown(path)}: {why}\n")

    def finish(self) -> int:
        return self.code


class _JsonPrinter(_Printer):
    """The same facts as one JSON object, when all is done."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: dict[str, list[dict[str, object]]] = {"findings": [], "mended": [], "unreadable": []}

    def found(self, path: str, found: list[tuple[str, Finding]]) -> None:
        self._is_green = self._is_green and not found
        self._facts["findings"] += [{"check": name, "path": path, "line": at.line, "text": at.text} for name, at in found]

    def mended(self, path: str, names: tuple[str, ...]) -> None:
        self._is_green = False
        self._facts["mended"].append({"path": path, "checks": list(names)})

    def failed(self, path: str, why: str) -> None:
        self._failures += 1
        self._facts["unreadable"].append({"path": path, "text": why})

    def finish(self) -> int:
        import json

        sys.stdout.write(json.dumps({"green": self.code == EXIT_GREEN, **self._facts}, indent=2) + "\n")
        return self.code


# --- what several of them need ------------------------------------------------------------------------------------------


def _lines(content: bytes) -> "Iterator[tuple[int, bytes]]":
    """(number, line with its end), one at a time: a list of all lines may take many times the room of the content."""
    from io import BytesIO

    return enumerate(BytesIO(content), 1)


def _each(numbers: "Iterator[int]", text: str) -> list[Finding]:
    """Findings that say the same of each of these lines; past the first ones, only how many more there are."""
    found: list[Finding] = []
    more = last = 0
    for number in numbers:
        if len(found) < _FINDINGS_SHOWN:
            found.append(Finding(number, text))
        else:
            more += 1
            last = number
    return [*found, Finding(last, f"{text}: the last of {more} more such lines")] if more else found


def _said(text: str) -> str:
    """What a parser says, which may quote the file: without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_SENTENCE])


def _shown(name: str) -> str:
    """A name that cannot steer the terminal or break the line it stands in: as hooks.text has it, without its imports."""
    return name if name.isprintable() else repr(name)
