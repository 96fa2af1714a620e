"""gate.toml from somebody who means harm: answered in time, with a bounded answer, and never with an exception."""

import tracemalloc
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.config import KEYS, MAX_BYTES, SECTIONS, Config, Problem, parse


def refuse(text: bytes) -> tuple[Problem, ...]:
    found = parse(text)
    assert isinstance(found, tuple), "this was to be refused"
    return found


def test_ten_megabytes_are_refused_unread() -> None:
    text = b"[[check]]\n" * 1_000_000
    tracemalloc.start()
    try:
        (problem,) = refuse(text)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert problem.text == f"gate.toml has 10000000 bytes: more than {MAX_BYTES} are not read"


def test_the_file_goes_by_the_name_that_people_know() -> None:
    found = parse(b"a" * (MAX_BYTES + 1), "other.toml")
    assert isinstance(found, tuple)
    assert found[0].text.startswith("other.toml has")


def test_ten_thousand_checks_are_read() -> None:
    config = parse("".join(f'[[check]]\nname = "c{i}"\ncommand = "x"\n' for i in range(10_000)).encode())
    assert isinstance(config, Config)
    assert len(config.checks) == 10_000


def test_a_circle_of_ten_thousand_is_found_and_drawn_short() -> None:
    names = [f"c{i}" for i in range(10_000)]
    text = "".join(
        f'[[check]]\nname = "{name}"\ncommand = "x"\nneeds = ["{need}"]\n'
        for name, need in zip(names, islice(cycle(names), 1, None), strict=False)
    )
    (problem,) = refuse(text.encode())
    assert problem.text == "needs go in a circle: c0 → c1 → c2 → c3 → c4 → ... → c9999 → c0"


def test_circles_without_end_are_not_told_without_end() -> None:
    everybody = ", ".join(f'"c{i}"' for i in range(150))
    found = refuse("".join(f'[[check]]\nname = "c{i}"\ncommand = "x"\nneeds = [{everybody}]\n' for i in range(150)).encode())
    assert len(found) == 20


def test_problems_without_end_are_counted_instead() -> None:
    found = refuse("".join(f"k{i} = 1\n" for i in range(20_000)).encode())
    assert len(found) == 201
    assert found[-1] == Problem("", 0, "and 19800 more problems")
    assert [problem.line for problem in found[:-1]] == list(range(1, 201))


TOO_MUCH = {
    "lists in lists": (b"a = " + b"[" * 100_000, "nested too deeply"),
    "closed lists in lists": (b"a = " + b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
    "tables in tables": (b"a = " + b"{ a = " * 100_000, "nested too deeply"),
    "a key of many parts": (b"a" + b".a" * 400_000 + b" = 1", "more than 16 dotted parts"),
    "a header of many parts": (b"[a" + b".a" * 400_000 + b"]", "more than 16 dotted parts"),
    "quoted parts": (b'"a"' + b' . "a"' * 100_000 + b" = 1", "more than 16 dotted parts"),
    "a number of many digits": (b"[run]\nworkers = " + b"9" * 500_000, "a number that is too long"),
    "the same in hexadecimal": (b"[run]\nworkers = 0x" + b"f" * 500_000, "must be 10000 or less"),
    "a duration in hexadecimal": (b"[push]\nmax_age = 0x" + b"f" * 500_000, "must be text with a unit"),
    "a wave in hexadecimal": (b"[[environment]]\nwaves = [0x" + b"f" * 500_000 + b"]", "in quotes, and is a whole number"),
    "a size in hexadecimal": (b"[submit]\nmax_size = 0x" + b"f" * 500_000, "must be 1048576GiB or less"),
    "infinity": (b"[run]\nworkers = inf", "must be a whole number"),
    "not a number": (b"[push]\nmax_age = nan", "must be text with a unit"),
    "a duration of many digits": (b'[push]\nmax_age = "' + b"9" * 100_000 + b's"', "is not a duration"),
    "a key of a megabyte": (b"k" * 900_000 + b" = 1", "unknown key 'kkkk"),
    "a name of a megabyte": (b'[[check]]\ncommand = "x"\nname = "' + b"n" * 900_000 + b'"', "is not a name"),
    "a pattern of a megabyte": (b'[message]\npattern = "' + b"(a*)*" * 100_000 + b'"', "is longer than 1000 characters"),
    "groups in groups": (b'[message]\npattern = "' + b"(" * 490 + b")" * 490 + b'"', "nested too deeply"),
    "a glob of a megabyte": (
        b'[[check]]\nname = "a"\ncommand = "x"\ninputs = ["' + b"a?" * 400_000 + b'"]',
        "is longer than 1000",
    ),
    "bytes that are not UTF-8": (b"# fine\n# \xff\xfe\n", "is not UTF-8: byte 0xff"),
    "UTF-16": ("[run]\n".encode("utf-16"), "is not UTF-8: byte 0xff"),
    "a byte order mark": (b"\xef\xbb\xbf[run]\n", "begins with a byte order mark"),
    "a lone surrogate": (b'[merge]\nmethod = "\\ud800"\n', "not TOML"),
    "a NUL": (b"[run]\n\0\n", "not TOML"),
}


@pytest.mark.parametrize(("text", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_is_refused_in_few_words(text: bytes, words: str) -> None:
    found = refuse(text)
    assert any(words in problem.text for problem in found), found
    assert all(len(problem.text) < 400 and len(problem.path) < 200 for problem in found)


def test_the_line_of_bad_bytes_is_told() -> None:
    assert refuse(b"# fine\n# \xff\n")[0].line == 2


@pytest.mark.parametrize("mean", ["\x1b[2J", "\u202e", "\u2028", "\x07", "\u0085", "\ufeff"])
def test_nothing_of_the_file_reaches_a_terminal_raw(mean: str) -> None:
    escaped = "".join(f"\\U{ord(letter):08x}" for letter in mean)
    text = f'"{escaped}" = 1\n[merge]\nmethod = "{escaped}"\n[[check]]\nname = "{escaped}"\nneeds = ["a{escaped}"]\n'
    for problem in refuse(text.encode()):
        assert mean not in problem.text
        assert mean not in problem.path


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(text: bytes) -> None:
    assert isinstance(parse(text), Config | tuple)


_ANY = st.recursive(
    st.sampled_from(["1", "-1", "1.5", "true", '""', '"a"', '"**"', '"100%"', '"5m"', "1979-05-27", "nan"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{i} = {item}" for i, item in enumerate(items)) + "}"
        )
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@given(
    st.sampled_from([f"[{section}]" if "[]" not in section else f"[[{section[:-2]}]]" for section in SECTIONS if section]),
    st.dictionaries(
        st.sampled_from(sorted({key.name for key in KEYS} | {"path", "nonsense"})),
        _ANY,
        max_size=5,
    ),
)
def test_any_value_at_any_key_is_answered(header: str, pairs: dict[str, str]) -> None:
    text = header + "\n" + "".join(f"{name} = {value}\n" for name, value in pairs.items())
    found = parse(text.encode())
    assert isinstance(found, Config) or all(problem.text and problem.line >= 0 for problem in found)
