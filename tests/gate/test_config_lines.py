"""Lines of keys: whatever TOML allows, each key that tomllib reads is found on the line where it was written."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.toml_lines import MOST_PARTS, Path, key_lines, line_of, long_key

WRITTEN = {
    "tables": ("[a]\nb = 1\n[c.d]\ne = 2\n", {("a",): 1, ("a", "b"): 2, ("c", "d"): 3, ("c", "d", "e"): 4}),
    "arrays of tables": ("[[a]]\nb = 1\n[[a]]\nb = 2\n", {("a",): 1, ("a", 0, "b"): 2, ("a", 1): 3, ("a", 1, "b"): 4}),
    "tables inside arrays of tables": (
        "[[a]]\n[a.b]\nc = 1\n[[a]]\n[[a.d]]\ne = 1\n[[a.d]]\ne = 2\n",
        {("a", 0, "b", "c"): 3, ("a", 1): 4, ("a", 1, "d", 0, "e"): 6, ("a", 1, "d", 1, "e"): 8},
    ),
    "dotted keys": ("a.b = 1\n[c]\na . 'x.y' . \"z\" = 2\n", {("a",): 1, ("a", "b"): 1, ("c", "a", "x.y", "z"): 3}),
    "quoted headers": ('["a.b"]\nc = 1\n[ d . "e f" ]\ng = 1', {("a.b", "c"): 2, ("d", "e f"): 3, ("d", "e f", "g"): 4}),
    "escapes in keys": ('"\\u0041\\t\\"" = 1\n', {('A\t"',): 1}),
    "texts of many lines": ('a = """\n[b]\nc = 1\n"""\nd = 1\n', {("a",): 1, ("d",): 5}),
    "quotes at the end of a text": ('a = """x""""\nb = \'\'\'y\'\'\'\'\'\nc = ""\nd = 1', {("b",): 2, ("c",): 3, ("d",): 4}),
    "quotes at the end of a text in a list": (
        'a = ["""x"""", "y",\n\'\'\'z\'\'\'\'\', "w",\n"v"]\n',
        {("a", 1): 1, ("a", 2): 2, ("a", 3): 2, ("a", 4): 3},
    ),
    "escaped quotes": ('a = "\\"]"\nb = """\\"""\n"""\nc = 1', {("b",): 2, ("c",): 4}),
    "lists of many lines": (
        'a = [\n  1, # ]\n  "]",\n\n  [2,\n 3],\n]\nb = 1',
        {("a", 1): 3, ("a", 2): 5, ("a", 2, 1): 6, ("b",): 8},
    ),
    "inline tables": ("a = { b = 1, c.d = [{ e = 1 },\n{ e = 2 }] }\nf = 1", {("a", "c", "d", 1, "e"): 2, ("f",): 3}),
    "comments": ("# [a]\na = 1 # b = 2\n#c\nd = '#'\n e = 1", {("a",): 2, ("d",): 4, ("e",): 5}),
    "dates and numbers": ("a = 1979-05-27 07:32:00.5\nb = -1.5e+3\nc = 1", {("a",): 1, ("b",): 2, ("c",): 3}),
    "carriage returns": ("[a]\r\nb = 1\r\n\r\nc = 1\r\n", {("a", "b"): 2, ("a", "c"): 4}),
}


@pytest.mark.parametrize(("text", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_keys_are_found_on_their_lines(text: str, expected: dict[Path, int]) -> None:
    lines = key_lines(text)
    assert {path: lines.get(path) for path in expected} == expected
    assert set(_paths(tomllib.loads(text))) == set(lines)


def test_what_is_not_there_is_on_the_line_of_what_is_around_it() -> None:
    lines = key_lines("\n[[a]]\nb = 1\n")
    assert line_of(lines, ("a", 0, "c", 3)) == 2
    assert line_of(lines, ("x", "y")) == 0


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every path of what tomllib made."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _paths(inner, (*path, name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _paths(inner, (*path, position))


_FRAGMENTS = [
    *"ab1.=[]{},\"'#\\ \n",
    *("\n[", "]\n", "\n[[", "]]\n", " = ", '"""', "'''", "\r\n", "a = 1\n", "b = [", "[[a]]\n", "[a.b]\n", "c = {", "é"),
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=25).map("".join))
def test_any_text_ends_and_valid_text_is_found_whole(text: str) -> None:
    lines = key_lines(text)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(_paths(values)) == set(lines)


_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6)
_values = st.recursive(
    st.integers(0, 9) | st.text("ab\n\"'\\]#", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=12,
)


def _quote(text: str) -> str:
    return '"' + "".join(f"\\U{ord(letter):08x}" if letter in '"\\\x7f' or letter < " " else letter for letter in text) + '"'


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(name)} = {_inline(held)}" for name, held in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(_inline(held) for held in value) + "\n]"
    return _quote(value) if isinstance(value, str) else str(value)


@settings(max_examples=150)
@given(st.dictionaries(_names, _values, max_size=4))
def test_every_key_of_a_generated_file_is_found(values: dict[str, Any]) -> None:
    text = "".join(f"{_quote(name)} = {_inline(held)}\n" for name, held in values.items())
    assert tomllib.loads(text) == values
    lines = key_lines(text)
    assert set(_paths(values)) == set(lines)
    written = text.split("\n")
    for name in values:
        assert written[lines[(name,)] - 1].startswith(_quote(name))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a" + ".a" * MOST_PARTS + " = 1", 1),
        ("b = 1\n[a" + " . 'a'" * MOST_PARTS + "]", 2),
        ("b = {a" + ' ."a"' * MOST_PARTS + " = 1}", 1),
        ("a" + ".a" * (MOST_PARTS - 1) + " = 1", 0),
        ("a = '" + ".a" * 100 + "'", 0),
        ('a = """\n' + "a.a" * 100 + '\n"""', 0),
        ("# a" + ".a" * 100, 0),
        ("a = [" + "1.5, " * 100 + "]", 0),
    ],
)
def test_long_keys_are_seen_before_tomllib_sees_them(text: str, line: int) -> None:
    assert long_key(text) == line
