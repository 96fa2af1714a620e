"""Whole simulated queues, small enough to be worked out by hand; what the world refuses; what the measures count."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ci.errors import UserError
from ci.model import Check, CheckName, InputKey, RunId, Sha
from gate.cli import main
from gate.model import (
    Cancel,
    Candidate,
    Change,
    ChangeId,
    Decision,
    Forecast,
    Land,
    Need,
    Plan,
    Refuse,
    Snapshot,
    Start,
    Verdict,
)
from gate.plan import Planner, plan
from gate.policy import BLOCKS, Worthwhile
from gate.simulate import world as world_module
from gate.simulate.by_change import ByChange
from gate.simulate.by_content import ByContent
from gate.simulate.command import ordered_simulations
from gate.simulate.draws import BEGIN, Arrival, Fault
from gate.simulate.foresight import Given, Learned
from gate.simulate.measure import mean_and_margin, measure, play, policies, quantile
from gate.simulate.report import table
from gate.simulate.workloads import PARAMETERS, PRESETS, Workload, reference
from gate.simulate.world import Broken, History, Run, World
from gate.view import Policy, Proposal, View

W1 = PRESETS["W1"].altered(warmup=0.0, clash=0.0)


def change(
    number: int, *touches: str, at: float = 0, minutes: float = 10, bad: bool = False, chance: float = 0.99
) -> Arrival:
    """at, minutes: of the virtual clock, from its beginning."""
    names = frozenset(CheckName(name) for name in touches)
    described = Change(ChangeId(number), 1, Sha(f"h{number}"), "a", BEGIN + 60 * at, touches=names)
    return Arrival(described, Forecast(chance, minutes * 60), not bad, minutes * 60)


def one_by_one(view: View) -> Iterator[Proposal]:
    """Each change alone on trunk, once those ahead of it that it meddles with are decided."""
    for at, one in enumerate(view.queue):
        if not any(one.meddles_with(other) for other in view.queue[:at]):
            yield Proposal(one)


def in_a_chain(view: View) -> Iterator[Proposal]:
    """Every change on top of all ahead of it, whatever comes of them."""
    for at, one in enumerate(view.queue):
        yield Proposal(one, tuple(other.entry for other in view.queue[:at]))


def simulate(arrivals: Iterable[Arrival], policy: Policy = one_by_one, **altered: float) -> History:
    workload = W1.altered(**altered)
    return World(workload, tuple(arrivals), ByChange(workload, 1), Given(workload, 1), policy).play()


def ends(history: History) -> dict[int, tuple[str, float]]:
    """By change: its verdict, and minutes since the beginning."""
    return {change: (verdict.value, (at - BEGIN) / 60) for change, (verdict, at) in history.decided.items()}


def runs(history: History) -> list[tuple[str, float, float]]:
    """(key, first minute, last minute)"""
    return [(run.key, (run.started_at - BEGIN) / 60, ((run.ended_at or math.inf) - BEGIN) / 60) for run in history.runs]


# --- queues worked out by hand ----------------------------------------------------------------------------------------


def test_independent_changes_run_side_by_side_and_land_as_they_end() -> None:
    history = simulate([change(1, "a", minutes=10), change(2, "b", at=1, minutes=5), change(3, "c", at=2, minutes=20)])
    assert ends(history) == {2: ("landed", 6), 1: ("landed", 10), 3: ("landed", 22)}
    assert runs(history) == [("1|", 0, 10), ("2|", 1, 6), ("3|", 2, 22)]


def test_one_worker_runs_one_at_a_time() -> None:
    history = simulate([change(1, "a"), change(2, "b"), change(3, "c")], workers=1)
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 20), 3: ("landed", 30)}


def test_a_change_that_waits_for_another_runs_after_it() -> None:
    history = simulate([change(1, "a"), change(2, "a", minutes=5)])
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 15)}
    assert runs(history) == [("1|", 0, 10), ("2|1", 10, 15)]


def test_a_chain_lands_on_top_of_each_other_with_no_second_run() -> None:
    history = simulate([change(1, "a"), change(2, "a", minutes=5), change(3, "a", minutes=15)], in_a_chain)
    assert runs(history) == [("1|", 0, 10), ("2|1", 0, 5), ("3|1,2", 0, 15)]
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 10), 3: ("landed", 15)}


def test_what_was_tested_on_top_of_a_bad_change_is_tested_again() -> None:
    history = simulate([change(1, "a", bad=True), change(2, "a", minutes=5)], in_a_chain)
    assert runs(history) == [("1|", 0, 10), ("2|1", 0, 5), ("2|", 10, 15)]
    assert ends(history) == {1: ("refused", 10), 2: ("landed", 15)}
    assert history.false_refusals == []


def test_of_two_that_clash_the_later_is_refused_and_rightly() -> None:
    history = simulate([change(1, "a"), change(2, "a", minutes=5)], in_a_chain, clash=1.0)
    assert ends(history) == {1: ("landed", 10), 2: ("refused", 10)}
    assert history.false_refusals == []


def test_who_comes_after_a_landing_is_written_on_top_of_it() -> None:
    history = simulate([change(1, "a"), change(2, "a", at=11)], clash=1.0)
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 21)}


def test_a_run_that_nobody_wants_any_more_is_stopped_and_counted_to_that_moment() -> None:
    def second_thoughts(view: View) -> Iterator[Proposal]:
        entries = tuple(one.entry for one in view.queue)
        if len(entries) == 2 and view.now < BEGIN + 240:
            yield Proposal(view.queue[1], entries[:1], settles=False)
        yield from one_by_one(view)

    arrivals = [change(1, "a"), change(2, "a"), change(3, "b", at=4, minutes=1)]
    history = simulate(arrivals, second_thoughts)
    assert [run[:2] for run in runs(history)] == [("2|1", 0), ("1|", 0), ("3|", 4), ("2|1", 10)]
    assert [(run.is_aborted, run.ended_at) for run in history.runs[:2]] == [(True, BEGIN + 240), (False, BEGIN + 600)]
    record = measure(history, W1, 1, "x")
    assert record.runs_per_change == pytest.approx(4 / 3)
    assert record.aborted_share == pytest.approx(1 / 4)
    assert record.worker_minutes_per_change == pytest.approx((4 + 10 + 1 + 10) / 3)


def test_a_green_batch_lands_all_of_it_at_once() -> None:
    def together(view: View) -> Iterator[Proposal]:
        entries = tuple(one.entry for one in view.queue)
        if entries:
            yield Proposal(view.queue[-1], entries[:-1], len(entries))

    history = simulate([change(1, "a"), change(2, "a", minutes=30), change(3, "b", minutes=20)], together)
    assert runs(history) == [("1,2,3|", 0, 30)]
    assert ends(history) == {1: ("landed", 30), 2: ("landed", 30), 3: ("landed", 30)}


def test_what_is_not_decided_by_the_end_is_said_to_be_so() -> None:
    def only_the_first(view: View) -> Iterator[Proposal]:
        yield from (proposal for proposal in one_by_one(view) if proposal.change.id == 1)

    record = measure(simulate([change(1, "a"), change(2, "b")], only_the_first), W1, 1, "x")
    assert (record.landed, record.undecided) == (1, 1)
    late = simulate([change(1, "a", minutes=50), change(2, "b", minutes=90)], drain=1.0)
    assert ends(late) == {1: ("landed", 50)}


def test_a_clairvoyant_policy_wastes_nothing() -> None:
    record = play(W1.altered(hours=1.0, clash=0.1), 3, "oracle")
    assert record.runs_per_change == 1
    assert (record.aborted_share, record.false_refusals, record.red_landings, record.undecided) == (0, 0, 0, 0)
    assert record.refused > 0


# --- the same again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["W1", "W2", "W5", "W8"])
def test_a_simulation_is_the_same_each_time_but_for_the_time_it_takes(preset: str) -> None:
    def told() -> dict[str, object]:
        record = asdict(play(PRESETS[preset].altered(hours=1.5), 1, "trunkgate"))
        return {name: value for name, value in record.items() if not name.startswith("plan_p")}

    assert told() == told()


def test_all_policies_meet_the_same_changes_and_refuse_the_same_bad_ones() -> None:
    records = [play(W1.altered(hours=1.0), 2, policy) for policy in ("oracle", "single", "trunkgate")]
    assert len({(record.landed, record.refused) for record in records}) == 1
    assert all(record.red_landings == record.false_refusals == 0 for record in records)


# --- what trunk holds -----------------------------------------------------------------------------------------------------

W2 = PRESETS["W2"].altered(warmup=0.0)
SUITE = CheckName("suite")


def edit(number: int, at: float = 0, odds: float | None = None) -> Arrival:
    """odds: that its fault shows in a run; None: it has none."""
    described = Change(ChangeId(number), 1, Sha(f"h{number}"), "a", BEGIN + 60 * at, touches=frozenset({SUITE}))
    faults = () if odds is None else (Fault(SUITE, (), odds),)
    return Arrival(described, Forecast(0.95), odds is None, 300.0, False, faults, frozenset({SUITE}))


def test_a_fault_that_does_not_show_lands_makes_trunk_red_and_is_mended() -> None:
    workload = W2.altered(workers=2)
    arrivals = (edit(1, odds=1e-9), edit(2, at=100))
    history = World(workload, arrivals, ByContent(workload, 1), Given(workload, 1), one_by_one).play()
    record = measure(history, workload, 1, "x")
    assert (record.landed, record.red_landings, record.intermittent, record.let_through) == (2, 1, 1, 1)
    assert record.let_through_by_retries == pytest.approx(1)
    assert record.trunk_red_s == 30 * 60


def test_trunk_is_red_until_the_end_where_nobody_mends_it_before() -> None:
    workload = W2.altered(workers=2, mended=1e6)
    arrivals = (edit(1, odds=1e-9), edit(2, at=100))
    history = World(workload, arrivals, ByContent(workload, 1), Given(workload, 1), one_by_one).play()
    assert history.trunk_red_s == 100 * 60


def test_the_shipped_odds_can_learn_meanwhile() -> None:
    workload = W2.altered(predictor="learned", workers=2)
    told = Learned()
    arrivals = tuple(edit(number, at=10 * number, odds=None if number % 2 else 1.0) for number in range(1, 41))
    assert told.outlook().forecasts == {}
    history = World(workload, arrivals, ByContent(workload, 1), told, one_by_one).play()
    assert sum(verdict is Verdict.LANDED for verdict, _ in history.decided.values()) == 20
    assert told.outlook().durations[SUITE] == pytest.approx(300)
    told.submit(edit(100))
    assert told.outlook().forecasts[ChangeId(100)].chance < 0.75


# --- what no planner may do -----------------------------------------------------------------------------------------------

BUILD = Check(CheckName("build"), "true")
FIRST_RED_THEN_GREEN = 22  # a seed on which a fault that shows in half of the runs shows in the first of three only


@dataclass
class Deciding:
    """In the place of the planner."""

    decide: Callable[[Snapshot], Iterable[Decision]]

    def plan(self, snapshot: Snapshot, now: float) -> Plan:
        return Plan(tuple(self.decide(snapshot)))


def planner(decide: Callable[[Snapshot], Iterable[Decision]]) -> Callable[[Policy], Deciding]:
    return lambda _: Deciding(decide)


def start(snapshot: Snapshot, number: int) -> Start:
    candidate = Candidate(snapshot.trunk, ((ChangeId(number), 1),))
    need: Need = snapshot.trials[ChangeId(number)][candidate.assumption][0]
    return Start(need.check, need.key, candidate, "")


def land_what_is_red(snapshot: Snapshot) -> list[Decision]:
    """Of change 2, which is bad."""
    wanted = start(snapshot, 2)
    if wanted.key in snapshot.evidence:
        return [Land(wanted.candidate)]
    return [] if snapshot.running else [wanted]


@pytest.mark.parametrize(
    ("what", "decide"),
    [
        ("without a green result", lambda snapshot: [Land(Candidate(snapshot.trunk, ((ChangeId(1), 1),)))]),
        ("not on top of trunk", lambda snapshot: [Land(Candidate(Sha("elsewhere"), ((ChangeId(1), 1),)))]),
        ("not on top of trunk", lambda snapshot: [Land(Candidate(snapshot.trunk))]),
        ("more runs than workers", lambda snapshot: [start(snapshot, number) for number in (1, 2, 3)]),
        ("run twice", lambda snapshot: [start(snapshot, 1), start(snapshot, 1)]),
        ("without a green result", lambda snapshot: land_what_is_red(snapshot)),
        ("does not wait", lambda snapshot: [Refuse(ChangeId(9), 1, ())]),
    ],
)
def test_the_world_refuses_what_no_planner_may_do(monkeypatch: pytest.MonkeyPatch, what: str, decide) -> None:
    monkeypatch.setattr(world_module, "Planner", planner(decide))
    with pytest.raises(Broken, match=what):
        simulate([change(1, "a"), change(2, "b", bad=True), change(3, "c")], workers=2)


def test_refusing_who_is_fine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_all(snapshot: Snapshot) -> list[Decision]:
        return [Refuse(one.id, 1, ()) for one in snapshot.changes]

    monkeypatch.setattr(world_module, "Planner", planner(refuse_all))
    history = simulate([change(1, "a"), change(2, "b", bad=True)])
    assert history.false_refusals == [1]


def test_a_worker_is_free_again_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def change_its_mind(snapshot: Snapshot) -> list[Decision]:
        if not snapshot.running:
            return [start(snapshot, 1)]
        if snapshot.running[0].key == "1|":
            return [Cancel(RunId(snapshot.running[0].run), ""), start(snapshot, 2)]
        return []

    monkeypatch.setattr(world_module, "Planner", planner(change_its_mind))
    history = simulate([change(1, "a"), change(2, "b", at=1)], workers=1, drain=0.1)
    assert [(run[0], run[1]) for run in runs(history)] == [("1|", 0), ("2|", 1)]


def test_what_was_merged_on_an_old_trunk_is_not_known_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Snapshot, Candidate, bool]] = []

    def land_the_first(snapshot: Snapshot) -> list[Decision]:
        wanted = start(snapshot, 1) if ChangeId(1) in snapshot.trials else start(snapshot, 2)
        second = Candidate(snapshot.trunk, ((ChangeId(2), 1),))
        seen.append((snapshot, second, second in snapshot.merges))
        if wanted.key in snapshot.evidence:
            return [Land(wanted.candidate)] if ChangeId(1) in snapshot.trials else []
        return [] if snapshot.running else [wanted]

    monkeypatch.setattr(world_module, "Planner", planner(land_the_first))
    simulate([change(1, "a"), change(2, "b")], workers=1, drain=0.3)
    (_, first, _), (last, second, is_known) = seen[0], seen[-1]
    assert first != second
    assert is_known
    assert first not in last.merges


def test_retests_prove_a_key_green_only_when_they_outweigh_what_was_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red once: two retests have to pass (ci/proof.py)."""
    workload = PRESETS["W5"].altered(suite_flake=0.0, warmup=0.0, workers=1)
    test = "tests/test_1.py::test_1"
    described = Change(ChangeId(1), 1, Sha("h1"), "a", BEGIN, touches=frozenset({SUITE}))
    arrival = Arrival(described, Forecast(0.9), False, 600.0, False, (Fault(SUITE, (test,), 0.5),), frozenset({SUITE}))
    greens: list[bool] = []

    def retest(snapshot: Snapshot) -> list[Decision]:
        whole = start(snapshot, 1)
        known = snapshot.evidence.get(whole.key)
        greens.append(known is not None and known.green is not None)
        if snapshot.running or (known is not None and known.green is not None):
            return []
        return [whole if known is None else replace(whole, tests=(test,))]

    monkeypatch.setattr(world_module, "Planner", planner(retest))
    contents = ByContent(workload, FIRST_RED_THEN_GREEN)
    history = World(workload, (arrival,), contents, Given(workload, 1), one_by_one).play()
    assert [run.tests for run in history.runs] == [(), (test,), (test,)]
    assert [run.is_repeat for run in history.runs] == [False, True, True]
    assert greens == [False, False, False, True]


def test_the_mappings_of_a_snapshot_answer_what_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Snapshot] = []

    def look(snapshot: Snapshot) -> list[Decision]:
        seen.append(snapshot)
        return []

    monkeypatch.setattr(world_module, "Planner", planner(look))
    simulate([change(1, "a"), change(2, "a")])
    snapshot = seen[-1]
    both = Candidate(snapshot.trunk, ((ChangeId(1), 1), (ChangeId(2), 1)))
    assert both in snapshot.merges
    assert [need.key for need in snapshot.merges[both].needs] == ["1|", "2|1"]  # type: ignore[union-attr]
    assert snapshot.merges.get(both) is snapshot.merges[both]
    assert Candidate(Sha("old"), both.entries) not in snapshot.merges
    assert Candidate(snapshot.trunk, ((ChangeId(9), 1),)) not in snapshot.merges
    assert [*snapshot.trials] == [1, 2]
    assert [*snapshot.merges] == [both]
    assert [need.key for need in snapshot.trials[ChangeId(2)][frozenset({ChangeId(1)}), 1]] == ["2|1"]


# --- measures -----------------------------------------------------------------------------------------------------------


def test_only_changes_after_the_warm_up_count() -> None:
    arrivals = [change(1, "a", minutes=100, at=0), change(2, "b", at=59), change(3, "c", at=61, minutes=20)]
    history = simulate(arrivals)
    record = measure(history, W1.altered(warmup=1.0), 1, "x")
    assert (record.landed, record.p50_s, record.runs_per_change) == (1, 1200, 1)
    assert measure(history, W1, 1, "x").landed == 3


def test_repeats_and_rounds_are_told_apart() -> None:
    history = History(ended_at=BEGIN + 600)
    history.submitted_at = {ChangeId(1): BEGIN, ChangeId(2): BEGIN}
    history.decided = {ChangeId(1): (Verdict.LANDED, BEGIN + 300), ChangeId(2): (Verdict.REFUSED, BEGIN + 600)}
    for began, ended, members, again in ((0, 100, (1, 2), False), (100, 200, (2,), False), (200, 250, (2,), True)):
        run = Run(InputKey("k"), BUILD, tuple(map(ChangeId, members)), (), 0, BEGIN + began, BEGIN + ended, BEGIN + ended)
        run.is_repeat = again
        history.runs.append(run)
    record = measure(history, W1, 1, "x")
    assert (record.rounds_mean, record.repeat_share) == (2.0, pytest.approx(50 / 250))
    assert (record.landed, record.refused, record.p50_s, record.last_verdict_s) == (1, 1, 300, 600)


def test_quantiles_lie_between_the_nearest() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([float(n) for n in range(101)], 0.95) == 95


def test_the_interval_is_that_of_student() -> None:
    values = [float(n) for n in range(10)]
    mean, margin = mean_and_margin(values)
    assert mean == 4.5
    assert margin == pytest.approx(2.2622 * 3.02765 / math.sqrt(10), rel=1e-3)
    assert mean_and_margin([1.0, 1.0]) == (1, 0)
    assert math.isinf(mean_and_margin([1.0])[1])


# --- the command ----------------------------------------------------------------------------------------------------------


def asked(*words: str) -> list[tuple[str, int, Workload]]:
    import argparse

    from gate.simulate.command import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = ordered_simulations(parser.parse_args(list(words)))
    return [(one.policy, one.seed, one.workload) for one in found]


def test_every_policy_plays_every_seed() -> None:
    found = asked("--seeds", "3:5", "--policies", "single,oracle")
    assert [(policy, seed) for policy, seed, _ in found] == [
        *(("single", seed) for seed in (3, 4, 5)),
        *(("oracle", seed) for seed in (3, 4, 5)),
    ]
    assert {workload for _, _, workload in found} == {PRESETS["W1"]}


def test_every_parameter_is_an_option() -> None:
    for parameter in PARAMETERS:
        preset = parameter.metadata["of"][0]
        default = getattr(PRESETS[preset], parameter.name)
        text = {True: "true", False: "false"}[default] if isinstance(default, bool) else str(default)
        words = (f"--{parameter.name.replace('_', '-')}", text)
        assert asked("--preset", preset, "--seeds", "1", "--policies", "single", *words)[0][2] == PRESETS[preset]


def test_what_if_stands_beside_what_is() -> None:
    words = ("--preset", "W8", "--seeds", "1", "--policies", "single", "--rate", "20")
    found = asked(*words, "--what-if", "workers=8,batch=4", "--what-if", "declared=false,classes=0.5:1,0.5:0.5")
    w8 = PRESETS["W8"].altered(rate=20.0)
    assert [workload for _, _, workload in found] == [
        w8,
        w8.altered(workers=8, batch=4),
        w8.altered(declared=False, classes="0.5:1,0.5:0.5"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--preset", "W4"), "no preset 'W4'"),
        (("--policies", "zuul"), "no policy 'zuul'"),
        (("--seeds", "5:1"), "none between"),
        (("--seeds", "one"), "1:30"),
        (("--rate", "many"), "a number"),
        (("--workers", "1.5"), "a whole number"),
        (("--what-if", "speed=9"), "no setting 'speed'"),
        (("--what-if", "faster"), "workers=8"),
        (("--preset", "W2", "--components", "5"), "no meaning for W2"),
        (("--preset", "W3", "--pattern", "odd"), "choose from"),
        (("--predictor", "learned"), "nothing can be learned"),
        (("--classes", "0.5:2"), "from 0 to 1"),
        (("--clash", "nan"), "from 0 to 1"),
        (("--classes", "half"), "classes"),
        (("--workers", "0"), "workers"),
        (("--rate", "-1"), "rate"),
    ],
)
def test_what_cannot_be_asked_for_is_said(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        asked(*words)


KEYS = {
    *("policy", "seed", "p50_s", "p95_s", "p99_s", "runs_per_change", "aborted_share", "landed", "refused"),
    *("false_refusals", "red_landings", "plan_p99_ms"),
}


def test_json_holds_a_record_per_policy_and_seed_whatever_the_number_of_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["simulate", "--preset", "W2", "--hours", "3", "--seeds", "1:2", "--policies", "single,oracle", "--json"]
    told = []
    for jobs in ("1", "2"):
        assert main([*words, "--jobs", jobs]) == 0
        records = json.loads(capsys.readouterr().out)
        assert [(record["policy"], record["seed"]) for record in records] == [
            ("single", 1),
            ("single", 2),
            ("oracle", 1),
            ("oracle", 2),
        ]
        assert all(record.keys() >= KEYS for record in records)
        told.append([{key: value for key, value in one.items() if not key.startswith("plan_p")} for one in records])
    assert told[0] == told[1]


def test_the_table_has_means_with_intervals_and_the_seeds() -> None:
    records = [play(PRESETS["W2"].altered(hours=3.0), seed, "single") for seed in (1, 2, 3)]
    lines = table(records)
    mean, margin = mean_and_margin([(record.p50_s or 0) / 60 for record in records])
    assert f"{mean:.1f} ±{margin:.1f}" in lines[2]
    assert lines[-1].endswith("3 seeds: 1:3")


def test_a_picture_is_drawn_and_is_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "--preset", "W2", "--hours", "3", "--seeds", "1:2", "--policies", "single,oracle", "--jobs", "1"]
    drawn = []
    for name in ("a.svg", "b.svg", "c.png"):
        assert main([*words, "--what-if", "workers=3", "--plot", str(tmp_path / name)]) == 0
        drawn.append((tmp_path / name).read_bytes())
    assert b"<svg" in drawn[0]
    assert drawn[0] == drawn[1]
    assert drawn[2].startswith(b"\x89PNG")
    assert "single" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "told"), [("a.pdf", "a .png or a .svg"), ("nowhere/a.png", "no folder")])
def test_a_picture_that_cannot_be_drawn_is_said_before_anything_runs(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        main(["simulate", "--hours", "1e3", "--plot", str(tmp_path / name)])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="trunkgate\\[plot\\]"):
        main(["simulate", "--hours", "1e3", "--plot", str(tmp_path / "a.png")])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--policies", ","), "names none"),
        (("--policies", ""), "names none"),
        (("--sigma", "1e6"), "from 0 to 5"),
        (("--zipf", "20"), "from 0 to 3"),
        (("--rate", "1e9"), "more than 1,000,000 changes"),
        (("--seeds", "1:99999999999"), "more than 10,000"),
        (("--seeds", f"1:{10**30}"), "more than 10,000"),
        (("--preset", "W8", "--hours", "1"), "nothing is counted, all is warm-up"),
        (("--shortest", "100", "--longest", "1"), "no duration is between them"),
        (("--preset", "W3", "--pattern", "streaks", "--failure", ".6", "--streak", "1"), "no more than 0.5 can fail"),
        (("--preset", "W1", "--from", "."), "give one of them"),
    ],
)
def test_what_would_never_end_or_says_nothing_is_refused_before_anything_runs(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        main(["simulate", *words])


def test_what_is_named_twice_is_played_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--seeds", "1,1", "--policies", "single,single", "--hours", "1.2", "--rate", "10", "--jobs", "1", "--json")
    assert main(["simulate", *words]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_the_reference_page_tells_every_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()
    assert "\n".join(reference()) in page


def test_the_shipped_planner_is_what_is_simulated() -> None:
    contents = ByChange(W1, 1)
    assert isinstance(policies()["trunkgate"](contents), Worthwhile)
    assert world_module.Planner is Planner


@dataclass
class Doubted:
    """The planner, each of whose plans is made once more by one that remembers nothing."""

    policy: Policy
    planner: Planner = field(init=False)

    def __post_init__(self) -> None:
        self.planner = Planner(self.policy)

    def plan(self, snapshot: Snapshot, now: float) -> Plan:
        made = self.planner.plan(snapshot, now)
        assert made == plan(snapshot, now)
        return made


@pytest.mark.parametrize(
    ("preset", "altered"),
    [
        ("W1", {"rate": 60.0, "hours": 1.0, "workers": 60, "components": 60, "wide": 0.05}),
        ("W1", {"rate": 60.0, "hours": 0.7, "workers": 12, "components": 200, "wide": 0.02, "zipf": 1.0}),
        ("W2", {"rate": 16.0, "hours": 6.0, "failure": 0.2, "suite_flake": 0.05}),
        ("W3", {"burst": 25, "failure": 0.3, "pattern": "streaks", "predictor": "learned", "workers": 2}),
        ("W5", {"rate": 10.0, "hours": 3.0}),
        ("W8", {"rate": 20.0, "hours": 0.7, "workers": 30, "checks": 8, "folders": 30}),
    ],
)
def test_a_planner_that_remembers_plans_as_one_that_does_not(
    preset: str, altered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_module, "Planner", Doubted)
    record = play(PRESETS[preset].altered(warmup=0.0, **altered), 3, "trunkgate")
    assert record.plans > 15
    assert record.undecided == 0


# --- what the shipped policy does where each change has runs of its own ---------------------------------------------------


def in_the_way(behind: int) -> list[Arrival]:
    """A change that meddles with all, behind three that take long and one that does not; and some behind it."""
    ahead = [
        change(1, "a", minutes=10),
        *(change(number, name, minutes=60) for number, name in ((2, "b"), (3, "c"), (4, "d"))),
    ]
    names = [f"e{number}" for number in range(behind)]
    followers = [change(6 + number, name, at=2) for number, name in enumerate(names)]
    return [*ahead, change(5, "a", "b", "c", "d", *names, at=1), *followers]


def test_who_blocks_many_is_tested_with_every_outcome_of_those_decided_last_and_lands_ahead_of_them() -> None:
    history = simulate(in_the_way(BLOCKS), Worthwhile(), clash=0.0)
    assert {run.key for run in history.runs if run.key.startswith("5|1")} == {
        "5|" + ",".join(["1", *some]) for count in range(4) for some in combinations("234", count)
    }
    assert ends(history)[5] == ("landed", 12)
    assert all(at <= 13 for number, (_, at) in ends(history).items() if number > 5)


def test_who_blocks_few_waits_for_its_turn() -> None:
    history = simulate(in_the_way(BLOCKS - 1), Worthwhile(), clash=0.0)
    assert [run.key for run in history.runs if run.key.startswith("5|") and run.started_at < BEGIN + 600] == ["5|1,2,3,4"]


def doubtful(*, is_bad: bool) -> list[Arrival]:
    """As ``in_the_way``, but who meddles with all is most likely bad, and four ahead of it take long."""
    ahead = [change(1, "a", minutes=5), *(change(number, f"b{number}", minutes=60) for number in (2, 3, 4, 5))]
    names = [f"e{number}" for number in range(BLOCKS)]
    blocker = change(6, "a", "b2", "b3", "b4", "b5", *names, at=1, chance=0.3, bad=is_bad)
    return [*ahead, blocker, *(change(7 + number, name, at=2) for number, name in enumerate(names))]


def test_who_blocks_many_and_is_most_likely_bad_is_refused_by_its_own_run_on_a_trunk_that_has_moved_since() -> None:
    history = simulate(doubtful(is_bad=True), Worthwhile(), clash=0.0)
    (run,) = (run for run in history.runs if run.key == "6|")
    assert not run.is_aborted  # though 1, which it meddles with, has landed in the middle of it
    assert ends(history)[1] == ("landed", 5)
    assert ends(history)[6] == ("refused", 12)
    assert all(how == ("landed", pytest.approx(12, abs=1)) for number, how in ends(history).items() if number > 6)


def test_who_blocks_many_and_is_green_by_itself_waits_for_those_ahead_all_the_same() -> None:
    history = simulate(doubtful(is_bad=False), Worthwhile(), clash=0.0)
    assert [run.key for run in history.runs if run.changes == (ChangeId(6),)][:1] == ["6|"]
    assert ends(history)[6][0] == "landed"
    assert ends(history)[6][1] >= 60


def test_a_run_on_a_less_likely_past_starts_when_those_ahead_are_about_to_be_decided() -> None:
    """Four are too many to overtake. Of the last one it is not known whether it will land."""
    ahead = [change(number, f"a{number}", minutes=60, chance=0.97) for number in (1, 2, 3)]
    ahead.append(change(4, "a4", minutes=60, chance=0.55, bad=True))
    history = simulate([*ahead, change(5, "a1", "a2", "a3", "a4", at=1, minutes=45)], Worthwhile(), clash=0.0)
    (other,) = (run for run in history.runs if run.key == "5|1,2,3")
    assert (other.started_at - BEGIN) / 60 == pytest.approx(60 - 45, abs=5)  # nothing else happens at that moment
    assert ends(history)[5] == ("landed", pytest.approx(60, abs=5))
