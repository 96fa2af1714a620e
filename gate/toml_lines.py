"""Where each key of a TOML file stands: key paths to line numbers, which ``tomllib`` does not tell.

The text is expected to be valid TOML (``tomllib`` judges that). Nothing here fails on text that is not: the answer is then
merely incomplete.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

Path = tuple[str | int, ...]  # as ("check", 2, "stage"); positions in arrays count from 0

# tomllib's time grows with the square of the parts of one key: 40,000 parts in an 80 kB file take it half a minute.
MOST_PARTS = 16

# Without possessive quantifiers, which Python took wrongly at first (3.11.2, for one).
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<text>"{3}[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3,5}|'{3}[^']*(?:'(?!'')[^']*)*'{3,5}
        |"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\n]*')
      | (?P<mark>[][{},=.])
      | (?P<bare>[^][{},=.\s"'\#]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}

_Token = tuple[str, str, int]  # kind, text, line
_END: _Token = ("end", "", 0)


def long_key(text: str) -> int:
    """Line of the first key of more than MOST_PARTS dotted parts; 0 when there is none. Linear in the text's length."""
    if all(line.count(".") < MOST_PARTS for line in text.split("\n")):
        return 0
    dots, after_dot = 0, False
    for kind, word, line in _tokens(text):
        if kind == "mark" and word == ".":
            dots, after_dot = dots + 1, True
            if dots >= MOST_PARTS:
                return line
        elif kind in ("bare", "text") and after_dot:
            after_dot = False
        elif kind != "space":
            dots, after_dot = 0, False
    return 0


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Line of the key, or of the nearest thing around it that the file holds; 0: only the file as a whole."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def key_lines(text: str) -> dict[Path, int]:
    """Line, from 1, where each key, table and array element of a valid TOML text begins."""
    reader = _Reader(text)
    with suppress(RecursionError):  # arrays in arrays, nearly as deep as tomllib reads
        reader.read()
    return reader.lines


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for found in _TOKEN.finditer(text):
        yield found.lastgroup or "other", found[0], line
        line += found[0].count("\n")


class _Reader:
    """One pass over the tokens, with one token of looking ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = (token for token in _tokens(text) if token[0] != "space")
        self._now: _Token = next(self._tokens, _END)
        self.lines: dict[Path, int] = {}
        self._newest: dict[Path, int] = {}  # array of tables: position of its newest table

    def read(self) -> None:
        table: Path = ()
        while self._now[0] != "end":
            kind, word, _ = self._now
            if word == "[" and kind == "mark":
                table = self._header()
            elif kind in ("bare", "text"):
                self._pair(table)
            else:
                self._step()

    def _step(self) -> _Token:
        gone, self._now = self._now, next(self._tokens, _END)
        return gone

    def _is(self, *marks: str) -> bool:
        return self._now[0] == "mark" and self._now[1] in marks

    def _header(self) -> Path:
        line = self._step()[2]
        is_array = self._is("[")
        if is_array:
            self._step()
        path: Path = ()
        for part in self._key():
            path = self._inside(path)
            path += (part,)
            self.lines.setdefault(path, line)
        if is_array:
            self._newest[path] = self._newest.get(path, -1) + 1
            path += (self._newest[path],)
            self.lines.setdefault(path, line)
        else:
            path = self._inside(path)
        while self._is("]"):
            self._step()
        return path

    def _inside(self, path: Path) -> Path:
        """The newest table of the array of tables at this path; the path itself when there is none."""
        return (*path, self._newest[path]) if path in self._newest else path

    def _key(self) -> list[str]:
        parts = []
        while self._now[0] in ("bare", "text"):
            kind, word, _ = self._step()
            parts.append(_unquoted(word) if kind == "text" else word)
            if not self._is("."):
                break
            self._step()
        return parts

    def _pair(self, table: Path) -> None:
        """One key, the equals sign and the value."""
        line, path = self._now[2], table
        for part in self._key():
            path += (part,)
            self.lines.setdefault(path, line)
        if self._is("="):
            self._step()
            self._value(path)

    def _value(self, path: Path) -> None:
        if self._is("["):
            self._array(path)
        elif self._is("{"):
            self._inline_table(path)
        else:
            while self._now[0] not in ("newline", "end") and not self._is(",", "]", "}"):
                self._step()

    def _array(self, path: Path) -> None:
        self._step()
        position = 0
        while self._now[0] != "end":
            if self._is("]"):
                self._step()
                return
            if self._is(","):
                position += 1
                self._step()
            elif self._now[0] == "newline" or self._is("}"):
                self._step()
            else:
                element = (*path, position)
                self.lines.setdefault(element, self._now[2])
                self._value(element)

    def _inline_table(self, path: Path) -> None:
        self._step()
        while self._now[0] != "end":
            if self._is("}"):
                self._step()
                return
            if self._now[0] in ("bare", "text"):
                self._pair(path)
            else:
                self._step()


def _unquoted(word: str) -> str:
    inner = word[1:-1]
    return inner if word.startswith("'") else _ESCAPE.sub(_unescaped, inner)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    if code is None:
        return _ESCAPED.get(found[3], found[3])
    return chr(min(int(code, 16), 0x10FFFF))
