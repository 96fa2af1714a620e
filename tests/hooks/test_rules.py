"""What gate check keeps of gate.toml: exactly what the file says, and nothing of another file."""

import json
from pathlib import Path
from typing import Any

import pytest

from ci.model import Check, Stage
from gate.config import Config, Nested, parse
from hooks.rules import RULES, Rules, kept_rules

EVERYTHING = b"""
[run]
pass_env = ["SSH_AUTH_SOCK"]
log_max = "1MB"

[hooks]
budget = "5s"
cache_age = "3d"
cache_size = "7MB"
link = ["node_modules"]

[[check]]
name = "first"
command = "true"
stage = "pre-commit"

[[check]]
name = "every"
command = ["tool", "{files}", "\\u00fc"]
stage = "pre-commit"
inputs = ["src/**", "!src/x"]
needs = ["first"]
env = { A = "1", B = "2" }
tools = ["tool --version"]
timeout = "7s"
max_age = "2h"
junit = "out/*.xml"
git = true
network = true
retest = ["tool", "{tests}"]
"""


def configured(text: bytes) -> Config:
    config = parse(text)
    assert isinstance(config, Config), config
    return config


def no_reading() -> Config:
    raise AssertionError("it was kept, and need not be read")


def facts(rules: Rules) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in Rules.__slots__}


def test_what_is_kept_is_what_was_read(tmp_path: Path) -> None:
    config = configured(EVERYTHING)
    every, default = config.checks[1], Check(config.checks[1].name, "true")
    same = [name for name in Check.__slots__ if getattr(every, name) == getattr(default, name)]
    assert same == ["name", "fix", "folder"], "each field is to be seen here with another value than its default"
    read = kept_rules(str(tmp_path), "b1", lambda: config)
    kept = kept_rules(str(tmp_path), "b1", no_reading)
    assert facts(kept) == facts(read) == facts(Rules.of(config))
    assert isinstance(kept.checks[1].stage, Stage)
    assert [type(value) for value in vars_of(kept.checks[1])] == [type(value) for value in vars_of(every)]


def vars_of(check: Check) -> list[object]:
    return [getattr(check, name) for name in Check.__slots__]


@pytest.mark.parametrize("spoil", ["other blob", "other version", "cut short", "no rules", "unknown field", "unknown stage"])
def test_what_is_not_of_this_file_and_this_version_is_read_anew(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / RULES
    kept_rules(str(tmp_path), "b1", lambda: configured(b'[[check]]\nname = "old"\ncommand = "false"\n'))
    version, blob, checks, others = json.loads(path.read_text())
    path.write_text(
        {
            "other blob": json.dumps([version, "b0", checks, others]),
            "other version": json.dumps(["0.0.0", blob, checks, others]),
            "cut short": path.read_text()[:-9],
            "no rules": "null",
            "unknown field": json.dumps([version, blob, [{**checks[0], "colour": "red"}], others]),
            "unknown stage": json.dumps([version, blob, [{**checks[0], "stage": "someday"}], others]),
        }[spoil]
    )
    assert kept_rules(str(tmp_path), "b1", lambda: configured(EVERYTHING)).checks == configured(EVERYTHING).checks
    assert kept_rules(str(tmp_path), "b1", no_reading).checks == configured(EVERYTHING).checks


def test_what_a_folder_may_add_to_and_what_nobody_has_staged_are_not_kept(tmp_path: Path) -> None:
    nested = Config(nested=Nested(("apps/*",)))
    for blob, config in (("b1", nested), (None, configured(EVERYTHING))):
        read: list[int] = []

        def reading(config: Config = config, read: list[int] = read) -> Config:
            read.append(1)
            return config

        kept_rules(str(tmp_path), blob, reading)
        kept_rules(str(tmp_path), blob, reading)
        assert len(read) == 2


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("in the way")
    assert kept_rules(str(tmp_path), "b1", lambda: configured(EVERYTHING)).budget_s == 5
