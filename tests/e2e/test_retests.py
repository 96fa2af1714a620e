"""From a plan that asks for single tests to what the store says of them, through a real gate and real runs."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.model import InputKey, Outcome
from ci.results import latest_results
from fakes.stand import PLAIN, Stand
from gate import commands
from gate.model import Plan, Snapshot, Start
from gate.plan import Planner
from gate.serve import open_server

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

    shipped = Planner.plan

    def limiting(planner: Planner, snapshot: Snapshot, now: float) -> Plan:
        """The shipped plan, which runs single tests of each key first, as if they had failed."""
        seen.append(snapshot)
        made = shipped(planner, snapshot, now)
        first = [each for each in made.decisions if isinstance(each, Start) and each.key not in limited]
        limited.update(each.key for each in first)
        decisions = (replace(each, tests=("t 1",)) if each in first else each for each in made.decisions)
        return replace(made, decisions=tuple(decisions))

    monkeypatch.setattr(Planner, "plan", limiting)
    change = stand.submit("change", {"a/x": "1"}, "draft")
    stand.settle()
    assert (seen[-1].max_false_refusals, seen[-1].batch) == (0.25, 3)
    with commands.office(stand.path) as at:
        # Trunk's own pipeline may end before or after it.
        [result] = [each for each in at.journal.query(lambda execute: latest_results(execute)) if each.tests]
        assert (result.outcome, result.tests) == (Outcome.GREEN, ("t 1",))
        assert (at.repository.folder / result.log).read_text() == "again: t 1\n"
    assert stand.verdict(change) is None


SUITE = """
from pathlib import Path

VALUE = Path(__file__).with_name("value").read_text()
MARK = Path({mark!r})


def test_fine():
    pass


def test_value():
    assert VALUE != "bad"
    if VALUE == "unlucky" and not MARK.exists():
        MARK.touch()
        raise OSError("a port was taken")
"""


@pytest.fixture
def flaky(tmp_path: Path) -> Stand:
    """A suite of real tests, one of which fails now and then, and a gate that has nothing but its first day's odds."""
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider --rootdir=."
    config = f"""{PLAIN}
[[check]]
name = "unit"
command = "{command} --junitxml={{junit}}"
retest = "{command} --junitxml={{junit}} {{tests}}"
inputs = ["unit/**"]
"""
    suite = SUITE.format(mark=str(tmp_path / "unlucky once"))
    return Stand(tmp_path, config, {"unit/test_it.py": suite, "unit/value": "good"})


def serve(stand: Stand, change: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Until all is decided, in no time: the clock jumps to when the gate wants to look again. What ``gate why`` said."""
    ahead_s = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    told: list[dict[str, Any]] = []
    server = open_server([stand.path], time.time)

    def jump() -> None:
        nonlocal ahead_s
        gate = server.served[0].gate
        if not gate.state.runs and gate.wake_at is not None:
            told.extend(stand.why(change)["reasons"])
            ahead_s += max(0.0, gate.wake_at - time.time())

    try:
        server.run(until_idle=True, clock=time.time, on_wait=jump)
    finally:
        server.close()
    return told


def unit_results(stand: Stand) -> list[tuple[Outcome, tuple[str, ...]]]:
    with commands.office(stand.path) as at:
        found = at.journal.query(lambda execute: latest_results(execute))
    return [(result.outcome, result.tests) for result in found]


def test_a_change_that_had_bad_luck_lands_after_its_failed_test_passed_twice(
    flaky: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky.settle()
    change = flaky.submit("unlucky", {"unit/value": "unlucky"})
    told = serve(flaky, change, monkeypatch)
    assert flaky.verdict(change) == "landed"
    failed = ("unit/test_it.py::test_value",)
    whole, *retests = unit_results(flaky)[-3:]
    assert whole == (Outcome.RED, ())
    assert retests == [(Outcome.GREEN, failed)] * 2
    assert told[0]["text"].startswith(f"{failed[0]} of unit was red, which may be nobody's fault, and is run once more")
    assert told[0]["odds"]["the change"] > 0.5
    assert told[-1]["odds"]["a flake"] > 0.5


def test_a_change_that_is_bad_is_refused_with_how_often_its_test_failed_and_the_odds(
    flaky: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky.settle()
    change = flaky.submit("bad", {"unit/value": "bad"})
    serve(flaky, change, monkeypatch)
    assert flaky.verdict(change) == "refused"
    (reason,) = flaky.why(change)["reasons"]
    assert "the check unit is red: unit/test_it.py::test_value failed (red 3 times in " in reason["text"]
    assert " s: the change 99." in reason["text"]
    shown = flaky.gate("why", str(change)).stdout
    assert "the change 99." in shown
