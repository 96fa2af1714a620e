"""What gate check keeps of gate.toml: exactly what the file says, and nothing of another file."""

import json
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from ci.model import Check, Stage
from gate.config import Config, parse
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


def blob_of(text: bytes) -> str:
    return sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()


OLD = b'[[check]]\nname = "old"\ncommand = "false"\n'


def rules(folder: Path, text: bytes, *, blob: str | None = "") -> Rules:
    """As when this gate.toml is staged. blob: its id, as somebody else gave it."""
    return kept_rules(str(folder), blob_of(text) if blob == "" else blob, lambda: text, configured)


def kept(folder: Path, text: bytes) -> Rules:
    """As when nobody can read it any more."""

    def nothing() -> bytes:
        raise AssertionError("it was kept, and need not be read")

    return kept_rules(str(folder), blob_of(text), nothing, configured)


def facts(rules: Rules) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in Rules.__slots__}


def test_what_is_kept_is_what_was_read(tmp_path: Path) -> None:
    config = configured(EVERYTHING)
    every, default = config.checks[1], Check(config.checks[1].name, "true")
    same = [name for name in Check._fields if getattr(every, name) == getattr(default, name)]
    assert same == ["name", "fix", "folder"], "each field is to be seen here with another value than its default"
    read = rules(tmp_path, EVERYTHING)
    again = kept(tmp_path, EVERYTHING)
    assert facts(again) == facts(read) == facts(Rules.of(config))
    assert isinstance(again.checks[1].stage, Stage)
    assert [type(value) for value in vars_of(again.checks[1])] == [type(value) for value in vars_of(every)]


def vars_of(check: Check) -> list[object]:
    return [getattr(check, name) for name in Check._fields]


@pytest.mark.parametrize(
    "spoil", ["other blob", "other version", "cut short", "no rules", "unknown field", "unknown stage", "no stage"]
)
def test_what_is_not_of_this_file_and_this_version_is_read_anew(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / RULES
    rules(tmp_path, OLD)
    version, _, checks, others = json.loads(path.read_text())
    blob = blob_of(EVERYTHING)
    without = {name: value for name, value in checks[0].items() if name != "stage"}
    path.write_text(
        {
            "other blob": path.read_text(),
            "other version": json.dumps(["0.0.0", blob, checks, others]),
            "cut short": json.dumps([version, blob, checks, others])[:-9],
            "no rules": "null",
            "unknown field": json.dumps([version, blob, [{**checks[0], "colour": "red"}], others]),
            "unknown stage": json.dumps([version, blob, [{**checks[0], "stage": "someday"}], others]),
            "no stage": json.dumps([version, blob, [without], others]),
        }[spoil]
    )
    assert rules(tmp_path, EVERYTHING).checks == configured(EVERYTHING).checks
    assert kept(tmp_path, EVERYTHING).checks == configured(EVERYTHING).checks


@pytest.mark.parametrize("text", [b'[nested]\nfolders = ["apps/*"]\n', EVERYTHING], ids=["folders", "nobody knows its id"])
def test_what_a_folder_may_add_to_and_what_nobody_has_staged_are_not_kept(tmp_path: Path, text: bytes) -> None:
    rules(tmp_path, text, blob="" if b"nested" in text else None)
    assert not (tmp_path / RULES).exists()


def test_another_file_that_was_staged_meanwhile_is_not_kept_under_the_id_of_the_first(tmp_path: Path) -> None:
    assert rules(tmp_path, OLD, blob=blob_of(EVERYTHING)).checks == configured(OLD).checks
    assert rules(tmp_path, EVERYTHING).checks == configured(EVERYTHING).checks


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("in the way")
    assert rules(tmp_path, EVERYTHING).budget_s == 5
