"""What is odd in a command, seen without running it: what is taken otherwise than meant, and exit codes that nobody sees.

Pure. Reads shell text as people write it and not all that a shell could: where it is not sure, it says nothing.
"""

import re
from collections.abc import Iterator, Sequence

from gate.config_values import quoted

_PLACEHOLDER = r"\{(?:files|junit|commit|tests)\}"
_PLAIN = re.compile(rf"""\\.|'[^']*'|(?<![^\s;&|(])\#[^\n]*|"|\$\(|\(|\)|`|{_PLACEHOLDER}""", re.DOTALL)
_DOUBLE = re.compile(rf"""\\.|"|\$\(|`|{_PLACEHOLDER}""", re.DOTALL)  # what has a meaning between double quotes
_ENDS = {'"': '"', "`": "`", "$(": ")", "(": ")"}

_ALIKE = re.compile(r"(?<![$@{%])\{([a-z][a-z_-]*)\}(?!\})")
_OPERATORS = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>"}
_TAKE_OPERATORS = {"find", "test", "[", "expr"}  # as words of their own

# In front of what matters, they do not fail, or what follows fails with them.
_HARMLESS = {".", ":", "cd", "echo", "export", "local", "mkdir", "printf", "readonly", "rm", "set", "shift", "true", "umask"}
_HARMLESS |= {"unset", "wait"}
_FILTERS = {"cat", "column", "cut", "fold", "head", "less", "more", "nl", "sed", "sort", "tail", "tee", "tr", "uniq"}
_SOURCES = {"cat", "echo", "printf"}
_COMPOUND = re.compile(r"\b(?:case|for|if|until|while)\b|(?:^|\s)\{\s")
_MINDS_COMMANDS = re.compile(r"\bset(?:\s+-[a-z]+)*\s+-[a-z]*e|\berrexit\b|\$\?|\bexit\b|\breturn\b|\btrap\b")
_MINDS_PIPES = re.compile(r"\bpipefail\b|\bPIPESTATUS\b|\$\?")


def odd(command: str | tuple[str, ...], *, is_told: bool = False) -> Iterator[str]:
    """Sentences without a subject, which is the check. is_told: another warning says already that it is several commands."""
    if isinstance(command, str):
        text, in_quotes = _read(command)
        for placeholder, quote in dict.fromkeys(in_quotes):
            yield _in_quotes(placeholder, quote)
        if text and not is_told:
            yield from _lost_codes(text)
    else:
        yield from _odd_words(command)
    whole = command if isinstance(command, str) else " ".join(command)
    for name in dict.fromkeys(_ALIKE.findall(whole)):
        if meant := _meant(name):
            yield f"has {{{name}}} in its command, which stays as it is: did you mean {{{meant}}}?"


def _meant(name: str) -> str:
    """The placeholder that somebody who writes this one has in mind; "": none of ours."""
    import difflib  # few commands have braces that are not ours

    known = ("files", "junit", "commit")
    if name in (*known, "tests"):
        return ""
    return "files" if "file" in name else next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), "")


def _in_quotes(placeholder: str, quote: str) -> str:
    if quote == "'":
        return f"has {placeholder} between single quotes, where the shell puts nothing in its place: leave the quotes out"
    return (
        f"has {placeholder} between double quotes, which undo those that it brings along, so that a name with a blank falls "
        "apart: leave the quotes out"
    )


def _odd_words(words: Sequence[str]) -> Iterator[str]:
    first = words[0]
    if re.search(r"\s", first) and "/" not in first:
        yield f"calls the program {quoted(first)}, with a blank in its name: write text, or each word by itself"
    operator = next((word for word in words[1:] if word in _OPERATORS), "")
    if operator and first.rpartition("/")[2] not in _TAKE_OPERATORS:
        yield f"hands {quoted(operator)} to its program as a word, for a list is run by no shell: write the command as text"


# --- shell text ---------------------------------------------------------------------------------------------------------


def _read(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text with _ for all in quotes and parentheses and without comments, and (placeholder, quote) of those in quotes.

    The text is "" where it cannot be told what is a command and what is not.
    """
    bare: list[str] = []
    found: list[tuple[str, str]] = []
    ends = [""]  # of what is open, the innermost last
    at = 0
    while token := (_DOUBLE if ends[-1] == '"' else _PLAIN).search(text, at):
        word = token[0]
        said = text[at : token.start()]
        at = token.end()
        is_top = len(ends) == 1
        if word == ends[-1]:
            ends.pop()
            said = word = "_" if len(ends) == 1 else ""
            bare.append(word)
            continue
        if word in _ENDS:
            ends.append(_ENDS[word])
            word = ""
        elif word.startswith("'"):
            inside = re.findall(_PLACEHOLDER, word)
            # What a shell in the quotes finds in its environment, it puts there.
            found += [(each, "'") for each in inside if each in ("{files}", "{tests}") or word == f"'{each}'"]
            word = "_"
        elif word.startswith("{") and ends[-1] == '"':
            found.append((word, '"'))
        elif word.startswith("#"):
            word = ""
        elif word.startswith("\\"):
            word = " " if word == "\\\n" else "_"
        if is_top:
            bare += [said, word]
    bare.append(text[at:])
    whole = "".join(bare)
    if "<<" in whole:  # a text follows, of which nobody knows what it is
        return "", []
    return (whole if len(ends) == 1 else ""), found


def _lost_codes(text: str) -> Iterator[str]:
    """text: without quotes and comments. What loops and conditions do with exit codes is passed over."""
    if _COMPOUND.search(text):
        return
    commands = [each.split() for each in re.split(r"[;\n]+", re.sub(r"(&&|\|)\s*\n\s*", r"\1 ", text)) if each.strip()]
    lost = "" if _MINDS_COMMANDS.search(text) else next(filter(None, map(_may_fail, commands[:-1])), "")
    pipe = [] if _MINDS_PIPES.search(text) or not commands else _hiding_pipe(commands[-1])
    if lost:
        yield (
            f"ends as the last of its commands does, so that nobody sees when {quoted(lost)} fails before: begin it with "
            "set -e, or join the commands with &&"
        )
    elif pipe:
        yield (
            f"ends as {quoted(pipe[-1])} does, so that nobody sees when {quoted(pipe[0])} fails before the pipe: leave "
            "that out, or write into a file and show it afterwards"
        )


def _may_fail(words: Sequence[str]) -> str:
    """The program of a command, where it matters that it fails and nobody looks."""
    program = _program(words)
    return "" if "||" in words or words[-1] == "&" or program in _HARMLESS else program


def _program(words: Sequence[str]) -> str:
    return next((word for word in words if not re.match(r"[A-Za-z_]\w*=", word) and word != "!"), "")


def _hiding_pipe(words: Sequence[str]) -> list[str]:
    """The programs of a pipe whose last one ends well whatever it is given; none for what is no pipe, or fills a file."""
    programs = [_program(part.split()) for part in " ".join(words).split(" | ")]
    is_filling = ">" in "".join(words[-2:]) and programs[-1] != "tee"
    hides = len(programs) > 1 and programs[-1] in _FILTERS and programs[0] not in _SOURCES and not is_filling
    return programs if hides and not {"&&", "||", "!"} & {*words} else []
