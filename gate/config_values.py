"""The kinds of values in gate.toml: how each is read, what is said when it cannot be, and how it is written back."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ci.model import Stage, words_of

Complain = Callable[..., None]
"""Called as complain(text, *steps below the key, near=(word, known words)): the last two where they help."""

MAX_COUNT = 1_000_000_000
MAX_DURATION_S = 10 * 365 * 86_400.0
MAX_SIZE_BYTES = 2**50
MAX_PATTERN = 1_000  # characters of a glob or of a regular expression
# Matching takes time to the power of a glob's stars, and whoever pushes chooses the file names: with these bounds the worst
# path takes milliseconds, with one star more a third of a second.
MAX_STARS = 3  # between two slashes
MAX_DEEP_STEPS = 2  # "**" steps before the last step, which costs nothing
_DURATIONS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_WAVE = r"[1-9][0-9]{0,6}|(?:100|[1-9][0-9]?)%"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_STEP = r"[A-Za-z0-9._@+-]+"  # of the path of a folder: no character that a glob, a name of a check or a terminal minds
FOLDER = re.compile(rf"(?!\.\.?(?:/|$)){_STEP}(?:/(?!\.\.?(?:/|$)){_STEP})*")
FROM_TOP = "//"  # in front of a path or a name in a folder's gate.toml: it begins at the top of the repository


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. type, unit: words for the reference page.

    read: the TOML value to the attribute's value; complains when it cannot, and what it then returns is not used.
    write: the attribute's value to what TOML can hold; None for a value that is not set.
    """

    type: str
    read: Callable[[Any, Complain], Any]
    unit: str = ""
    write: Callable[[Any], Any] = lambda value: value
    suffix: str = ""  # of the attribute's name


def shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def quoted(text: str) -> str:
    """For a message: shortened, with escapes for all that could disturb a terminal."""
    return repr(shortened(text))


def kind_word(value: object) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return words.get(type(value), "a date or time")


def _is_text(value: object, complain: Complain, what: str = "text", *below: str | int) -> bool:
    """Whether the value is text that can be handed to a program: not blank, no NUL."""
    if not isinstance(value, str):
        hint = (
            f", as in {quoted(str(value).lower())}"
            if isinstance(value, bool)
            else ", in quotes"
            if isinstance(value, int | float)
            else ""
        )
        complain(f"must be {what}{hint}, and is {kind_word(value)}", *below)
    elif not value.strip():
        complain(f"is empty: write {what}, or leave the key out", *below)
    elif "\0" in value:
        complain("holds a NUL character, which no program can be given", *below)
    else:
        return True
    return False


def _text(what: str = "text", form: str = "", but: str = "") -> Callable[[Any, Complain], str]:
    """A reader of one text. form: regular expression of the whole; but: what to say when it does not match."""

    def read(value: Any, complain: Complain) -> str:
        if not _is_text(value, complain, what):
            return ""
        if form and not re.fullmatch(form, value):
            complain(f"{quoted(value)} {but}")
        return str(value)

    return read


def _choice(words: Iterable[str]) -> Callable[[Any, Complain], str]:
    known = tuple(str(word) for word in words)
    listed = ", ".join(quoted(word) for word in known)

    def read(value: Any, complain: Complain) -> str:
        if _is_text(value, complain, f"one of {listed}") and value not in known:
            complain(f"must be one of {listed}, and is {quoted(value)}", near=(value, known))
        return str(value)

    return read


def _stage(value: Any, complain: Complain) -> Stage:
    word = _choice(Stage)(value, complain)
    return Stage(word) if word in list(Stage) else Stage.MERGE


def _flag(value: Any, complain: Complain) -> bool:
    if not isinstance(value, bool):
        complain(f"must be true or false, without quotes, and is {kind_word(value)}")
    return value is True


def _count(least: int, most: int = MAX_COUNT) -> Callable[[Any, Complain], int]:
    def read(value: Any, complain: Complain) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            complain(f"must be a whole number, and is {kind_word(value)}")
        elif value < least:
            complain("must not be negative" if least == 0 else f"must be {least} or more")
        elif value > most:
            complain(f"must be {most} or less")
        else:
            return value
        return least

    return read


def _share(most: float) -> Callable[[Any, Complain], float]:
    def read(value: Any, complain: Complain) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            complain(f"must be a number from 0 to {most:g}, and is {kind_word(value)}")
        elif not 0 <= value <= most:  # nan is not either
            complain(f"must be from 0 to {most:g}")
        else:
            return float(value)
        return 0.0

    return read


def _duration(least_s: float) -> Callable[[Any, Complain], float]:
    def read(value: Any, complain: Complain) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = f"{value}s" if isinstance(value, int) and 0 < value < MAX_COUNT else "90s"
            complain(f'must be text with a unit, as in "{shown}" (units: ms, s, m, h, d), and is a number')
            return least_s
        if not _is_text(value, complain, 'a duration such as "90s"'):
            return least_s
        found = re.fullmatch(r"([0-9]{1,15})(ms|s|m|h|d)", value)
        if found is None:
            complain(f'{quoted(value)} is not a duration: write a whole number and ms, s, m, h or d, as in "90s" or "5m"')
            return least_s
        number = int(found[1])
        seconds = number / 1000 if found[2] == "ms" else float(number * _DURATIONS_S[found[2]])
        if seconds < least_s:
            complain('must be longer than "0s"')
        elif seconds > MAX_DURATION_S:
            complain(f"must be {_written_duration(MAX_DURATION_S)} or less")
        return seconds

    return read


def _written_duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    milliseconds = round(seconds * 1000)
    for unit, factor in _DURATIONS_S.items():
        if milliseconds and milliseconds % (factor * 1000) == 0:
            return f"{milliseconds // (factor * 1000)}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def _size(value: Any, complain: Complain) -> int:
    size = 1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif _is_text(value, complain, 'a size such as "20MB", or a number of bytes'):
        found = re.fullmatch(r"([0-9]{1,15}) ?([A-Za-z]{1,3})", value)
        if found is None or found[2] not in _SIZES:
            complain(f'{quoted(value)} is not a size: write a whole number and one of {", ".join(_SIZES)}, as in "20MB"')
        else:
            size = int(found[1]) * _SIZES[found[2]]
    if size < 1:
        complain("must be 1 byte or more")
    elif size > MAX_SIZE_BYTES:
        complain("must be 1048576GiB or less")
    return size


def _written_size(size: int) -> int | str:
    for unit in ("GB", "GiB", "MB", "MiB", "kB", "KiB"):
        if size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return size


def _list(
    read_one: Callable[[Any, Complain], str], *, may_be_empty: bool = True
) -> Callable[[Any, Complain], tuple[str, ...]]:
    def read(value: Any, complain: Complain) -> tuple[str, ...]:
        if not isinstance(value, list):
            hint = f", as in [{quoted(value)}]" if isinstance(value, str) else ""
            complain(f"must be a list{hint}, and is {kind_word(value)}")
            return ()
        if not value and not may_be_empty:
            complain("is an empty list: name at least one, or leave the key out")
        found: dict[str, int] = {}
        for position, item in enumerate(value):

            def complain_of_item(text: str, *below: str | int, position: int = position, **more: Any) -> None:
                complain(text, position, *below, **more)

            one = read_one(item, complain_of_item)
            if one and one in found:
                complain_of_item(f"{quoted(one)} is there twice")
            found.setdefault(one, position)
        return tuple(found)

    return read


def _globs(value: Any, complain: Complain) -> tuple[str, ...]:
    patterns = _list(_glob, may_be_empty=False)(value, complain)
    if patterns and all(pattern.startswith("!") for pattern in patterns):
        complain('only excludes, which leaves no file: begin with a pattern that includes, such as "**"')
    return patterns


def _glob(value: Any, complain: Complain) -> str:
    if _is_text(value, complain, "a gitignore pattern"):
        because = _glob_problem(value)
        if because:
            complain(f"{quoted(value)} {because}")
        return str(value)
    return ""


# Nothing of this can be wrong: no bracket, no backslash, no blank, no comment.
_PLAIN_GLOB = re.compile(r"!?/?[\w.*-]+(/[\w.*-]+)*/?", re.ASCII)


def _glob_problem(pattern: str) -> str:
    """What is wrong with a gitignore pattern; "" when it is fine."""
    pattern = re.sub(r"^(!?)//", r"\1/", pattern)  # from the top of the repository, as everything is in the file there
    path = pattern.removeprefix("!")
    steps = path.removeprefix("/").split("/")  # a first / anchors at the top of the repository, as in a .gitignore
    if len(pattern) > MAX_PATTERN:
        return f"is longer than {MAX_PATTERN} characters"
    if any(step != "**" and step.count("*") > MAX_STARS for step in steps) or steps[:-1].count("**") > MAX_DEEP_STEPS:
        return "has too many stars, which would take too long to match: write several patterns"
    if ".." in steps:
        return "climbs out with '..': patterns name files of the repository, from its top"
    if "." in steps:
        return "holds a '.' step and so matches nothing: leave it out"
    if re.search(r"[\x00-\x1f\x7f]", pattern):
        return "holds a control character"
    if _PLAIN_GLOB.fullmatch(pattern):
        return ""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # 18 ms that most patterns need not pay

    try:
        expression, include = GitIgnoreSpecPattern.pattern_to_regex(pattern)
        if expression is not None and "[" in pattern:
            re.compile(expression)
    except (ValueError, re.error):
        return "is not a gitignore pattern"
    if include is None:
        return "matches nothing: it is a comment, or has a bracket that is not closed"
    return ""


def _command(value: Any, complain: Complain) -> str | tuple[str, ...]:
    if not isinstance(value, list):
        return str(value) if _is_text(value, complain, "a command: text for sh -c, or a list of words") else ""
    if not value:
        complain("is an empty command: name a program")
    for position, word in enumerate(value):
        if not isinstance(word, str):
            complain(f"must be text, and is {kind_word(word)}", position)
        elif "\0" in word:
            complain("holds a NUL character, which no program can be given", position)
        elif position == 0 and not word.strip():
            complain("is an empty command: name a program", position)
    return tuple(str(word) for word in value)


def _retest(value: Any, complain: Complain) -> str | tuple[str, ...]:
    command = _command(value, complain)
    words = words_of(command)
    if words and "{tests}" not in words:
        complain("does not say where the tests go: put {tests} there")
    if "{files}" in words:
        complain("holds {files}: it is given the names of tests, by {tests}")
    return command


def _written_command(command: str | tuple[str, ...]) -> str | list[str] | None:
    return list(command) if isinstance(command, tuple) else command or None


_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_variable = _text("the name of an environment variable", _VARIABLE, "is not the name of an environment variable")


def _env(value: Any, complain: Complain) -> tuple[tuple[str, str], ...]:
    """Sorted by name: the order in the file must not alter a check's input key."""
    if not isinstance(value, dict):
        complain(f'must be a table, as in {{ LANG = "C" }}, and is {kind_word(value)}')
        return ()
    for name, content in value.items():
        if not re.fullmatch(_VARIABLE, name):
            complain(f"{quoted(name)} is not the name of an environment variable", name)
        elif name.startswith("GATE_"):
            complain("is set by the gate: names that begin with GATE_ are taken", name)
        if not isinstance(content, str):
            complain(f"must be text, in quotes, and is {kind_word(content)}", name)
        elif "\0" in content:
            complain("holds a NUL character, which no program can be given", name)
    return tuple(sorted((name, str(content)) for name, content in value.items()))


def _expression(value: Any, complain: Complain) -> str:
    if not isinstance(value, str):
        complain(f"must be a regular expression in quotes, and is {kind_word(value)}")
        return ""
    if len(value) > MAX_PATTERN:
        complain(f"is longer than {MAX_PATTERN} characters")
        return ""
    import warnings as python_warnings  # only files with a pattern need it

    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # of future meanings of [[: Python's affair, not the user's
            re.compile(value)
    except re.error as wrong:
        complain(f"is not a regular expression: {wrong}")
    except (RecursionError, OverflowError):
        complain("is a regular expression that is nested too deeply or repeats too often")
    return value


def _waves(value: Any, complain: Complain) -> tuple[str, ...]:
    waves = _list(_wave, may_be_empty=False)(value, complain)
    if not waves or not all(re.fullmatch(_WAVE, wave) for wave in waves):
        return waves
    shares = [wave.endswith("%") for wave in waves]
    numbers = [int(wave.rstrip("%")) for wave in waves]
    for position in range(1, len(waves)):
        here, before = waves[position], waves[position - 1]
        if shares[position - 1] and not shares[position]:
            complain(f"{quoted(here)} is a count after a share: counts come first, then shares", position)
        elif shares[position] == shares[position - 1] and numbers[position] <= numbers[position - 1]:
            complain(f"{quoted(here)} does not rise above {quoted(before)}: each wave adds targets", position)
    if waves[-1] != "100%":
        complain(f'must end with "100%", and ends with {quoted(waves[-1])}: the last wave reaches every target')
    return waves


def _wave(value: Any, complain: Complain) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MAX_COUNT:
        complain(f'must be text, as in "{value}" for a count or "{min(value, 100)}%" for a share')
        return ""
    if not _is_text(value, complain, 'a count such as "1" or a share such as "10%"'):
        return ""
    if not re.fullmatch(_WAVE, value):
        complain(f'{quoted(value)} is not a wave: write a count such as "1", or a share from "1%" to "100%"')
    return str(value)


def _file_name(value: Any, complain: Complain) -> str:
    if not _is_text(value, complain, "the path of a file in the repository"):
        return ""
    if value.startswith("/") or ".." in value.split("/"):
        complain(f"{quoted(value)} leaves the repository: write a path from its top, without '..'")
    elif all(step in ("", ".") for step in value.split("/")):
        complain(f"{quoted(value)} is the whole repository: name what lies in it")
    return str(value)


def _target(value: Any, complain: Complain) -> str:
    if not _is_text(value, complain, "the name of a target"):
        return ""
    if value.startswith("-") or not value.isprintable():
        complain(f"{quoted(value)} is not a target: no '-' in front, no control characters")
    return str(value)


def _folder(value: Any, complain: Complain) -> str:
    if not _is_text(value, complain, "an absolute path"):
        return ""
    if not value.startswith("/") or ".." in value.split("/"):
        complain(f"{quoted(value)} is not absolute: write the whole path from /, without '~' and '..'")
    return str(value)


def _nested_folder(value: Any, complain: Complain) -> str:
    if not _is_text(value, complain, "a folder of the repository"):
        return ""
    steps = value.split("/")
    if "**" in steps:
        complain(f"{quoted(value)} has no fixed depth, so any folder could have a say: write a pattern for each depth")
    elif not all(re.fullmatch(r"[A-Za-z0-9._@+*?-]+", step) and step not in (".", "..") for step in steps):
        complain(
            f"{quoted(value)} is not a folder, or a pattern of some: write a path from the top of the repository, of "
            "letters, digits and ._@+-, with * and ? between two slashes, as in services/*"
        )
    elif any(step.count("*") > MAX_STARS for step in steps):
        complain(f"{quoted(value)} has too many stars, which would take too long to match: write several patterns")
    elif len(value) > MAX_PATTERN:
        complain(f"is longer than {MAX_PATTERN} characters")
    return str(value)


_FULL_NAME = rf"(?:{FROM_TOP})?(?:(?:{_STEP}/)*{_NAME})"
_NAME_RULE = "is not a name: use 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or a digit"
_LINE = r"[^\x00-\x1f\x7f]+"
_person = _text("a name", _LINE, "holds a control character")
_tag = _text(
    "a pattern of tag names", r"(?!refs/)[^\x00-\x1f\x7f]+", "is matched against the name after refs/tags/: leave that out"
)
_trailer = _text("the name of a trailer", r"[A-Za-z0-9][A-Za-z0-9-]*", "is not the name of a trailer, such as Reviewed-by")
_committer = _text('"Name <address>"', r"[^<>\x00-\x1f\x7f]*[^<>\s] <[^<>\s]+>", 'is not of the form "Name <address>"')


def _unset_when_empty(value: Any) -> Any:
    return value or None


NAME = Kind("name", _text("a name", _NAME, _NAME_RULE), write=_unset_when_empty)
NEEDS = Kind("list of names", _list(_text("the name of a check", _FULL_NAME, "is not the name of a check")), write=list)
FLAG = Kind("true or false", _flag)
POSITIVE_DURATION = Kind("duration", _duration(0.001), "ms, s, m, h, d", _written_duration, "_s")
DURATION = Kind("duration", _duration(0.0), "ms, s, m, h, d", _written_duration, "_s")
SIZE = Kind("size", _size, "bytes, kB, MB, GB, KiB, MiB, GiB", _written_size, "_bytes")
GLOBS = Kind("list of patterns", _globs, write=list)
COMMAND = Kind("command", _command, write=_written_command)
RETEST = Kind("command", _retest, write=lambda command: None if command is None else _written_command(command))
FILE = Kind("path", _file_name, write=_unset_when_empty)
PEOPLE = Kind("list of names", _list(_person), write=list)
VARIABLES = Kind("list of names", _list(_variable), write=list)
STAGE = Kind("one of " + ", ".join(Stage), _stage, write=str)
SOME_PEOPLE = Kind("list of names", _list(_person, may_be_empty=False), write=list)
TARGETS = Kind("list of names", _list(_target, may_be_empty=False), write=_unset_when_empty)
TRAILERS = Kind("list of names", _list(_trailer), write=list)
TAGS = Kind("list of patterns", _list(_tag), write=list)
FOLDERS = Kind("list of paths", _list(_folder), write=list)
FILES = Kind("list of paths", _list(_file_name), write=list)
NESTED = Kind("list of folders", _list(_nested_folder), write=list)
COMMANDS = Kind("list of commands", _list(_text("a command")), write=list)
ENV = Kind("table of texts", _env, write=dict)
EXPRESSION = Kind("regular expression", _expression)
COMMITTER = Kind("text", _committer)
WAVES = Kind("list of waves", _waves, "targets, %", write=list)


def one_of(*words: str) -> Kind:
    return Kind("one of " + ", ".join(words), _choice(words))


def number(least: int, unit: str, most: int = MAX_COUNT) -> Kind:
    return Kind("whole number", _count(least, most), unit)


def share(most: float, unit: str) -> Kind:
    return Kind("number", _share(most), unit)
