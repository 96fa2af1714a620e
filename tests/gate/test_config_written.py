"""gate.toml written back: dump and parse are inverse, effective values have an origin, the reference page tells all."""

import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.deploy.model import Environment
from ci.model import Check, CheckName, Stage
from gate.config import (
    KEYS,
    SECTIONS,
    Config,
    Hooks,
    Merge,
    Message,
    Nested,
    PathRule,
    Protect,
    Push,
    Run,
    Submit,
    Trust,
    dump,
    effective,
    parse,
    toml_value,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gate-toml.md"

# --- dump and parse ------------------------------------------------------------------------------------------------------

_name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
_variable = st.from_regex(r"[A-FH-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
_any_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_word = _any_text.filter(str.strip)
_person = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=8).filter(str.strip)
_command = _word | st.tuples(_word) | st.tuples(_word, _any_text, _any_text)
_duration = st.integers(1, 10**9).map(lambda milliseconds: milliseconds / 1000) | st.integers(1, 3650).map(
    lambda d: d * 86_400.0
)
_wait = st.just(0.0) | _duration
_size = st.integers(1, 2**50) | st.sampled_from([1000, 1024, 20_000_000, 2**30])
_glob = st.from_regex(r"[a-z]{1,4}(/\*\*|/\*\.py|/[a-z\[\] '\"]x)?", fullmatch=True).filter(lambda glob: "[" not in glob)


def _several(strategy: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(strategy, min_size=least, max_size=3, unique=True).map(tuple)


_globs = st.just(("**",)) | _several(_glob, 1)
_waves = st.lists(st.integers(1, 99), max_size=3, unique=True).map(lambda steps: (*(f"{s}%" for s in sorted(steps)), "100%"))


@st.composite
def _checks(draw: st.DrawFn) -> tuple[Check, ...]:
    made: list[Check] = []
    for name in draw(st.lists(_name, max_size=3, unique=True)):
        stage = draw(st.sampled_from(Stage))
        order = list(Stage)
        earlier = [check.name for check in made if order.index(check.stage) <= order.index(stage)]
        made.append(
            Check(
                CheckName(name),
                draw(_command),
                stage,
                draw(_globs),
                tuple(draw(st.lists(st.sampled_from(earlier), unique=True))) if earlier else (),
                tuple(sorted(draw(st.dictionaries(_variable, _any_text, max_size=2)).items())),
                draw(_several(_word)),
                draw(_duration),
                draw(st.none() | _duration),
                draw(st.none() | st.just("out/*.xml")),
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.sampled_from((None, "t {tests}", ("t", "{tests}")))),
            )
        )
    return tuple(made)


@st.composite
def _environments(draw: st.DrawFn) -> tuple[Environment, ...]:
    made: list[Environment] = []
    for name in draw(st.lists(_name, max_size=2, unique=True)):
        way = draw(st.sampled_from(["targets", "targets_file", "targets_command"]))
        ways = {
            "targets": _several(_person.filter(lambda t: t[0] != "-" and t.isprintable()), 1),
            "targets_file": _name,
            "targets_command": _command,
        }
        environment = Environment(
            name,
            draw(_command),
            verify=draw(st.just("") | _command),
            rollback=draw(st.just("") | _command),
            waves=draw(_waves),
            after=draw(st.sampled_from(["", *(other.name for other in made)])),
            bake_s=draw(_wait),
            timeout_s=draw(_duration),
            max_failures=draw(st.integers(0, 9)),
            concurrency=draw(st.integers(1, 99)),
            pass_env=draw(_several(_variable)),
            **{way: draw(ways[way])},
        )
        made.append(environment)
    return tuple(made)


_configs = st.builds(
    Config,
    st.builds(Submit, st.sampled_from(["refuse", "submit"]), st.integers(1, 999), _size, _several(_person), _duration),
    st.builds(
        Merge,
        st.sampled_from(["merge", "squash", "rebase"]),
        st.booleans(),
        st.sampled_from(["refuse", "resign"]),
        st.sampled_from(["conflict", "true", "false"]),
        st.sampled_from(["A <b@c>", "trunk'gate \" \\ é <gate@localhost>"]),
        st.floats(0, 0.5),
        st.integers(0, 1000),
    ).filter(lambda merge: not (merge.method == "rebase" and merge.every_commit)),
    st.builds(
        Trust,
        _several(_person),
        _several(_person),
        st.lists(st.builds(PathRule, _globs, _several(_person, 1), st.integers(1, 3)), max_size=2).map(tuple),
    ),
    st.builds(
        Run,
        st.integers(1, 64),
        st.sampled_from(["auto", "plain"]),
        _several(_name.map("/{}".format)),
        _several(_variable),
        _size,
    ),
    st.builds(Protect, _several(_name)),
    st.builds(
        Message, st.sampled_from(["", r"^[A-Z]\S+ '\"", "\t"]), st.integers(0, 99), _several(st.sampled_from(["A", "B-c"]))
    ),
    st.builds(
        Push,
        st.sampled_from(["refuse", "allow"]),
        st.sampled_from(["none", "pre-commit", "merge"]),
        st.integers(0, 99),
        _wait,
    ),
    st.builds(Hooks, _wait, _size, _size, _duration, _several(_name), st.booleans(), st.booleans()),
    st.builds(Nested, _several(st.sampled_from(["libs/*", "tool", "a/b-?/*"]))),
    _checks(),
    _environments(),
)


@settings(max_examples=60, deadline=None)
@given(_configs)
def test_what_is_dumped_is_parsed_as_the_same(config: Config) -> None:
    assert parse(dump(config).encode()) == config


def test_a_dump_reads_well() -> None:
    config = Config(checks=(Check(CheckName("unit"), "pytest", timeout_s=900.0, env=(("A", "1"),)),))
    text = dump(config)
    assert 'timeout = "15m"' in text
    assert 'max_size = "50MB"' in text
    assert "max_age" not in text.partition("[[check]]")[2]
    assert text.index("[push]") < text.index("[[check]]")


# --- effective values ----------------------------------------------------------------------------------------------------


def test_each_effective_value_tells_where_it_comes_from() -> None:
    text = b'[run]\nworkers = 7\n\n[[check]]\nname = "a"\ncommand = ["x", "y"]\n\n[check.env]\nB = "1"\n[[trust.path]]\n'
    text += b'paths = ["p"]\napprovers = ["ann"]\n'
    config = parse(text)
    assert isinstance(config, Config)
    rows = {path: (value, origin) for path, value, origin in effective(config, text)}
    assert rows["run.workers"] == ("7", "gate.toml line 2")
    assert rows["run.isolation"] == ('"auto"', "default")
    assert rows["check[0].command"] == ('["x", "y"]', "gate.toml line 6")
    assert rows["check[0].env"] == ('{ B = "1" }', "gate.toml line 8")
    assert rows["check[0].timeout"] == ('"15m"', "default")
    assert rows["check[0].max_age"] == ("", "default")
    assert rows["trust.path[0].paths"] == ('["p"]', "gate.toml line 11")
    assert rows["trust.path[0].approvals"] == ("1", "default")
    assert len(rows) == sum(1 for key in KEYS if not key.table.startswith("environment"))


# --- the table of keys and the reference page ------------------------------------------------------------------------------


def test_every_attribute_has_a_key() -> None:
    for section, made in SECTIONS.items():
        inner = {name for name in SECTIONS if name.rpartition(".")[0] == section and name}
        arrays = {name.rpartition(".")[2].removesuffix("[]") + "s" * name.endswith("[]") for name in inner}
        keys = {key.attribute for key in KEYS if key.table == section}
        by_place = {"folder"} if made is Check else set()  # told by where the file is
        assert {*signature(made).parameters} == keys | arrays | by_place, section


@pytest.mark.parametrize("key", KEYS, ids=[key.path for key in KEYS])
def test_the_example_of_each_key_is_valid_and_not_its_default(key) -> None:
    table = f"[{key.table}]".replace("[]]", "]]")
    table = f"[{table}" if table.endswith("]]") else table
    given = {"check[]": {"name": '"n"', "command": '"x"'}, "trust.path[]": {"paths": '["a"]', "approvers": '["b"]'}}
    given["environment[]"] = {"name": '"n"', "command": '"x"', "targets": '["t"]'}
    pairs = given.get(key.table, {}) | {key.name: key.example}
    if key.name in ("targets_file", "targets_command"):
        del pairs["targets"]
    text = table + "\n" + "".join(f"{name} = {value}\n" for name, value in pairs.items())
    others = {"needs": '[[check]]\nname = "build"\ncommand = "x"\n'}
    others["after"] = '[[environment]]\nname = "staging"\ncommand = "x"\ntargets = ["t"]\n'
    config = parse((text + others.get(key.name, "")).encode())
    assert isinstance(config, Config), config
    assert key.example != toml_value(key.default)


def _rows() -> dict[str, list[str]]:
    """The rows of the page's tables by the path of their key."""
    rows = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"#+ `\[+([a-z.]+)\]+`", line):
            section = found[1] + "[]" * ("`[[" in line)
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 6 and cells[0].startswith("`"):
            rows[f"{section}.{cells[0].strip('`')}"] = cells
    return rows


def _expected(key) -> list[str]:
    default = "required" if key.is_required else f"`{toml_value(key.default)}`" if key.default is not None else "not set"
    return [f"`{key.name}`", key.kind.type, key.kind.unit, default, f"`{key.example}`", key.meaning]


@pytest.mark.parametrize("key", KEYS, ids=[key.path for key in KEYS])
def test_the_reference_page_has_each_key_as_it_is(key) -> None:
    assert _rows().get(key.path) == _expected(key)


def test_the_reference_page_has_no_key_that_is_gone() -> None:
    assert set(_rows()) == {key.path for key in KEYS}


def test_every_example_file_on_the_reference_page_is_valid() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        assert isinstance(parse(example.encode()), Config), parse(example.encode())


# --- what reading imports ------------------------------------------------------------------------------------------------


HEAVY = {"difflib", "toml", "git", "sqlalchemy", "asyncio", "subprocess"}


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        (
            '[[check]]\nname = "a"\ncommand = "x"\n',
            {"pathspec", "difflib", "toml", "git", "sqlalchemy", "asyncio", "subprocess"},
        ),
        ('[[check]]\nname = "a"\ncommand = "x"\ninputs = ["src/**"]\n', HEAVY),
    ],
)
def test_reading_a_good_file_imports_little(text: str, absent: set[str]) -> None:
    program = "import sys; from gate.config import Config, parse; assert isinstance(parse(sys.argv[1].encode()), Config)\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "print(*sys.modules)", text], capture_output=True, text=True, check=True
    )
    assert not absent & set(done.stdout.split())
