"""From a plan that asks for single tests to what the store says of them, through a real gate and real runs."""

from dataclasses import replace
from pathlib import Path

import pytest

import gate.gate
from ci.model import InputKey, Outcome
from ci.results import latest_results
from fakes.stand import PLAIN, Stand
from gate import commands
from gate.model import Plan, Snapshot, Start
from gate.plan import plan

CONFIG = (
    PLAIN
    + """
[merge]
max_false_refusals = 0.25
batch = 3

[[check]]
name = "unit"
command = "true"
retest = "echo again: {tests}; echo '<testsuite><testcase name=\\"t 1\\"/></testsuite>' > {junit}"
inputs = ["a/**"]
"""
)


def test_a_plan_knows_its_bounds_and_a_run_of_single_tests_is_kept_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path, CONFIG, {"a/x": "0"})
    seen: list[Snapshot] = []
    limited: set[InputKey] = set()

    def limiting(snapshot: Snapshot, now: float) -> Plan:
        """The shipped plan, which runs single tests of each key first, as if they had failed."""
        seen.append(snapshot)
        made = plan(snapshot, now)
        first = [each for each in made.decisions if isinstance(each, Start) and each.key not in limited]
        limited.update(each.key for each in first)
        decisions = (replace(each, tests=("t 1",)) if each in first else each for each in made.decisions)
        return replace(made, decisions=tuple(decisions))

    monkeypatch.setattr(gate.gate, "plan", limiting)
    change = stand.submit("change", {"a/x": "1"}, "draft")
    stand.settle()
    assert (seen[-1].max_false_refusals, seen[-1].batch) == (0.25, 3)
    with commands.office(stand.path) as at:
        # Trunk's own pipeline may end before or after it.
        [result] = [each for each in at.journal.query(lambda execute: latest_results(execute)) if each.tests]
        assert (result.outcome, result.tests) == (Outcome.GREEN, ("t 1",))
        assert (at.repository.folder / result.log).read_text() == "again: t 1\n"
    assert stand.verdict(change) is None
