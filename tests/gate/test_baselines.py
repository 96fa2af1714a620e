"""The published policies on queues small enough to be worked out by hand, and what all of them have to do alike."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.model import CheckName, Sha
from fakes.queue import World as RealWorld
from fakes.queue import code
from gate.meddling import Meddling, positions
from gate.model import Change, ChangeId, Forecast, Verdict
from gate.simulate.baselines import BASELINES, WINDOW_FLOOR, WINDOW_START, Optimistic
from gate.simulate.batches import halves, halves_above_four, quarters, runs_expected, singles, size_for_history
from gate.simulate.by_change import ByChange
from gate.simulate.by_content import ByContent
from gate.simulate.draws import BEGIN, Arrival, arrivals
from gate.simulate.foresight import Given, foresight
from gate.simulate.measure import measure, play
from gate.simulate.paths import chance_to_finish_first, uber_2025
from gate.simulate.remembering import Remembering
from gate.simulate.workloads import PRESETS, Workload
from gate.simulate.world import History, World
from gate.view import Policy, Proposal, View

W1 = PRESETS["W1"].altered(warmup=0.0, clash=0.0)
NOT_CLAIRVOYANT = sorted(name for name in BASELINES if not name.startswith("oracle"))


def change(
    number: int, *touches: str, at: float = 0, minutes: float = 10, bad: bool = False, chance: float = 0.9
) -> Arrival:
    """at: minutes from the beginning."""
    names = frozenset(CheckName(name) for name in touches)
    described = Change(ChangeId(number), 1, Sha(f"h{number}"), "a", BEGIN + 60 * at, touches=names)
    return Arrival(described, Forecast(chance, minutes * 60), not bad, minutes * 60)


def simulate(policy: str | Policy, *arrivals: Arrival, **altered: float) -> History:
    workload = W1.altered(**altered)
    contents = ByChange(workload, 1)
    chosen = BASELINES[policy](contents) if isinstance(policy, str) else policy
    return World(workload, arrivals, contents, Given(workload, 1), chosen).play()


def ends(history: History) -> dict[int, tuple[str, float]]:
    """By change: its verdict, and minutes since the beginning."""
    return {change: (verdict.value, (at - BEGIN) / 60) for change, (verdict, at) in history.decided.items()}


def runs(history: History) -> list[str]:
    """Keys in order of their starts: the change or the batch, and what it was tested on top of. Aborted ones end in "!"."""
    return [run.key + "!" * run.is_aborted for run in history.runs]


def started_at(history: History, minute: float) -> set[str]:
    return {run.key for run in history.runs if run.started_at == BEGIN + 60 * minute}


# --- single -----------------------------------------------------------------------------------------------------------


def test_a_single_queue_runs_a_change_when_what_it_meddles_with_is_decided_and_independent_ones_at_once() -> None:
    history = simulate("single", change(1, "a"), change(2, "a", "b"), change(3, "b"), change(4, "c"))
    assert started_at(history, 0) == {"1|", "4|"}
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 20), 3: ("landed", 30), 4: ("landed", 10)}


# --- optimistic -------------------------------------------------------------------------------------------------------


def test_an_optimistic_chain_lands_with_one_run_for_each() -> None:
    history = simulate("optimistic", change(1, "a"), change(2, "a"), change(3, "a", minutes=15))
    assert runs(history) == ["1|", "2|1", "3|1,2"]
    assert ends(history) == {1: ("landed", 10), 2: ("landed", 10), 3: ("landed", 15)}


def test_a_failure_restarts_those_behind_it_without_it_and_nobody_else() -> None:
    history = simulate(
        "optimistic", change(1, "a", bad=True), change(2, "a", minutes=30), change(3, "a", minutes=30), change(4, "b")
    )
    assert runs(history) == ["1|", "2|1!", "3|1,2!", "4|", "2|", "3|2"]
    assert ends(history) == {1: ("refused", 10), 2: ("landed", 40), 3: ("landed", 40), 4: ("landed", 10)}


def test_a_failing_change_leaves_the_chain_before_it_is_refused() -> None:
    """Red on top of an undecided one: it is only assumed to be bad, and those behind it are tested on what is left."""
    history = simulate("optimistic", change(1, "a", minutes=30), change(2, "a", bad=True), change(3, "a", minutes=40))
    assert runs(history) == ["1|", "2|1", "3|1,2!", "3|1"]
    assert ends(history) == {1: ("landed", 30), 2: ("refused", 30), 3: ("landed", 50)}


def test_the_window_grows_by_one_with_a_landing_and_is_halved_by_a_failure_but_not_below_the_floor() -> None:
    policy = Optimistic()
    simulate(policy, change(1, "a"), change(2, "b"))
    assert policy.window == WINDOW_START + 2
    policy = Optimistic()
    simulate(policy, change(1, "a"), change(2, "a", at=1, bad=True))
    assert policy.window == (WINDOW_START + 1) // 2
    policy = Optimistic()
    simulate(policy, *(change(number, f"c{number}", bad=True) for number in range(1, 6)))
    assert policy.window == WINDOW_FLOOR


def test_what_runs_goes_on_when_the_window_shrinks() -> None:
    chain = [change(number, "a", minutes=60) for number in range(1, 15)]
    history = simulate("optimistic", change(90, "b", bad=True), *chain, change(91, "a", at=11))
    assert not any(run.is_aborted for run in history.runs)
    assert "91|" not in {run.key[:3] for run in history.runs if run.started_at < BEGIN + 3600}


def test_the_window_keeps_back_who_has_too_many_ahead_in_its_own_queue() -> None:
    chain = [change(number, "a") for number in range(1, WINDOW_START + 4)]
    history = simulate("optimistic", *chain, change(90, "b"))
    assert len(started_at(history, 0)) == WINDOW_START + 1
    assert "90|" in started_at(history, 0)
    assert len(started_at(simulate("optimistic-no-window", *chain), 0)) == WINDOW_START + 3
    links = [change(number, f"c{number}", f"c{number + 1}") for number in range(1, WINDOW_START + 4)]
    assert len(started_at(simulate("optimistic", *links), 0)) == WINDOW_START


# --- batches ----------------------------------------------------------------------------------------------------------


def test_bors_tests_one_batch_while_the_next_one_gathers() -> None:
    history = simulate("batch-bisect", change(1, "a"), *(change(number, "a", at=number) for number in range(2, 6)))
    assert runs(history) == ["1|", "2,3,4,5|1"]
    assert ends(history)[5] == ("landed", 20)


def test_bors_halves_what_is_red_and_tests_both_halves_the_first_one_first() -> None:
    history = simulate("batch-bisect", *(change(number, "a", bad=number == 3) for number in range(1, 5)))
    assert runs(history) == ["1,2,3,4|", "1,2|", "3,4|1,2", "3|1,2", "4|1,2"]
    assert ends(history) == {1: ("landed", 20), 2: ("landed", 20), 3: ("refused", 40), 4: ("landed", 50)}


def test_who_comes_while_a_red_batch_is_split_waits_for_all_of_it() -> None:
    history = simulate("batch-bisect", change(1, "a", bad=True), change(2, "a"), change(3, "a", at=1), change(4, "b", at=2))
    assert runs(history) == ["1,2|", "4|", "1|", "2|", "3|2"]


def test_nobody_overtakes_who_waits_for_a_batch() -> None:
    history = simulate("batch-bisect", change(1, "a"), change(2, "a", "b", at=1), change(3, "b", at=2))
    assert runs(history) == ["1|", "2,3|1"]


def test_a_batch_that_has_no_worker_yet_still_grows() -> None:
    history = simulate("batch-bisect", change(1, "a"), change(2, "b", at=1), change(3, "b", at=2), workers=1)
    assert runs(history) == ["1|", "2,3|"]


def test_bors_as_published_knows_one_queue_for_the_repository() -> None:
    arrivals = [change(1, "a"), change(2, "b", at=1), change(3, "c", at=2)]
    assert runs(simulate("batch-bisect", *arrivals)) == ["1|", "2|", "3|"]
    assert runs(simulate("batch-bisect-one-queue", *arrivals)) == ["1|", "2,3|"]
    assert ends(simulate("batch-bisect-one-queue", *arrivals))[2] == ("landed", 20)
    red = simulate("batch-bisect-one-queue", change(1, "a", bad=True), change(2, "b"))
    assert runs(red) == ["1,2|", "1|", "2|"]
    assert ends(red) == {1: ("refused", 20), 2: ("landed", 30)}


def test_fours_are_tested_one_by_one_when_red() -> None:
    history = simulate("batch-4", *(change(number, "a", bad=number == 2) for number in range(1, 7)))
    assert runs(history) == ["1,2,3,4|", "1|", "2|1", "3|1", "4|1,3", "5,6|1,3,4"]


def test_stop_at_four_halves_a_batch_of_eight_once() -> None:
    history = simulate("batch-stop-4", *(change(number, "a", bad=number == 8) for number in range(1, 10)))
    assert runs(history)[:3] == ["1,2,3,4,5,6,7,8|", "1,2,3,4|", "5,6,7,8|1,2,3,4"]
    assert runs(history)[3:7] == ["5|1,2,3,4", "6|1,2,3,4,5", "7|1,2,3,4,5,6", "8|1,2,3,4,5,6,7"]
    assert ends(history)[8][0] == "refused"


def test_a_dynamic_batch_begins_with_four_and_grows_while_nothing_fails() -> None:
    history = simulate("dynamic-divide-4", *(change(number, "a") for number in range(1, 25)))
    assert runs(history)[0] == "1,2,3,4|"
    assert [run.count(",") - run.partition("|")[2].count(",") + 1 for run in runs(history)] == [4, 20]


def test_the_size_follows_the_newest_failures_most() -> None:
    calm = [False] * 100
    assert size_for_history(calm) == 20
    assert size_for_history([*calm[:99], True]) < size_for_history([True, *calm[:99]])
    assert size_for_history([True] * 100) == 1
    sizes = [size_for_history([False] * (100 - count) + [True] * count) for count in (0, 1, 3, 10, 50)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("size", "split", "rate", "per_change"),
    [  # facts/papers.md section 3, from other derivations: Batch4, Bisect8, Stop4(8)
        (4, singles, 0.01, 0.289),
        (4, singles, 0.05, 0.435),
        (4, singles, 0.30, 1.010),
        (8, halves, 0.05, 0.399),
        (8, halves, 0.20, 0.988),
        (8, halves_above_four, 0.05, 0.395),
        (8, halves_above_four, 0.20, 0.923),
    ],
)
def test_expected_runs_are_those_of_the_published_table(size: int, split: object, rate: float, per_change: float) -> None:
    assert runs_expected(size, rate, split) / size == pytest.approx(per_change, abs=0.0006)  # type: ignore[arg-type]


def test_quarters_of_each_size_hold_everybody_once() -> None:
    assert (quarters(20), quarters(13), quarters(8), quarters(4)) == ((5, 5, 5, 5), (3, 3, 3, 4), (4, 4), (1, 1, 1, 1))
    assert all(sum(quarters(size)) == sum(halves(size)) == size for size in range(2, 40))


# --- speculation ------------------------------------------------------------------------------------------------------


def everything_of(chain: Sequence[Arrival]) -> set[str]:
    """The keys of all paths of changes that all meddle with each other."""
    ids = [str(arrival.change.id) for arrival in chain]
    return {
        f"{id_}|{','.join(assumed)}"
        for at, id_ in enumerate(ids)
        for count in range(at + 1)
        for assumed in combinations(ids[:at], count)
    }


def test_speculate_all_funds_every_path_of_one_level_before_any_of_the_next() -> None:
    arrivals = [change(1, "a"), change(2, "a"), change(3, "a"), change(4, "b"), change(5, "b")]
    assert started_at(simulate("speculate-all", *arrivals, workers=6), 0) == {"1|", "4|", "2|", "2|1", "5|", "5|4"}
    chain = [change(number, "a") for number in range(1, 5)]
    assert started_at(simulate("speculate-all", *chain, workers=7), 0) == everything_of(chain[:3])
    everything = {"1|", "4|", "2|", "2|1", "5|", "5|4", "3|", "3|1", "3|2", "3|1,2"}
    assert started_at(simulate("speculate-all", *arrivals), 0) == everything


def test_uber_2019_funds_the_paths_that_are_most_likely_needed() -> None:
    arrivals = [change(1, "a", chance=0.9), change(2, "a", chance=0.6), change(3, "a", chance=0.9)]
    # Needed with: 1| 1, 2|1 .9, 3|1,2 .54, 3|1 .36, 2| .1, 3|2 .06, 3| .04
    order = ["1|", "2|1", "3|1,2", "3|1", "2|", "3|2", "3|"]
    for workers in range(1, 8):
        assert started_at(simulate("uber-2019", *arrivals, workers=workers), 0) == set(order[:workers])


def test_uber_2019_bets_against_who_is_likely_to_fail() -> None:
    arrivals = [change(1, "a", bad=True, chance=0.2), change(2, "a")]
    history = simulate("uber-2019", *arrivals, workers=2)
    assert runs(history) == ["1|", "2|"]
    assert ends(history) == {1: ("refused", 10), 2: ("landed", 10)}


def test_uber_2019_stops_what_is_worth_less_and_uber_2025_does_not() -> None:
    arrivals = [change(1, "a", minutes=30), change(2, "a", minutes=30), change(3, "b", at=5)]
    assert runs(simulate("uber-2019", *arrivals, workers=2)) == ["1|", "2|1!", "3|", "2|1"]
    assert runs(simulate("uber-2025", *arrivals, workers=2)) == ["1|", "2|1", "3|"]


def test_what_a_finished_speculation_says_alters_what_the_next_ones_are_worth() -> None:
    """Change 2 is red on top of 1, which is almost surely fine: 3 is then tested without 2, though its forecast was good."""
    arrivals = [
        change(1, "a", minutes=60, chance=0.999),
        change(2, "a", minutes=5, bad=True),
        change(3, "a", minutes=30),
    ]
    history = simulate("uber-2019", *arrivals, workers=2)
    assert started_at(history, 0) == {"1|", "2|1"}
    assert started_at(history, 5) == {"3|1"}
    assert ends(history) == {1: ("landed", 60), 2: ("refused", 60), 3: ("landed", 60)}


def test_a_green_speculation_makes_sure_that_a_doubtful_change_lands() -> None:
    arrivals = [change(1, "a", minutes=60), change(2, "a", minutes=5, chance=0.3), change(3, "a", minutes=30)]
    history = simulate("uber-2019", *arrivals, workers=2)
    assert started_at(history, 0) == {"1|", "2|1"}
    assert started_at(history, 5) == {"3|1,2"}
    assert ends(history)[3] == ("landed", 60)


def test_what_may_clash_is_less_likely_to_land() -> None:
    arrivals = [change(1, "a"), change(2, "a", "b"), change(3, "b")]
    assert started_at(simulate("uber-2019", *arrivals, workers=3), 0) == {"1|", "2|1", "3|2"}
    assert started_at(simulate("uber-2019", *arrivals, workers=3, clash=0.6), 0) == {"1|", "2|1", "3|"}


def test_uber_2025_starts_nothing_below_its_threshold() -> None:
    arrivals = [change(1, "a", chance=0.97), change(2, "a", minutes=12)]
    assert runs(simulate("uber-2025", *arrivals)) == ["1|", "2|1"]
    assert started_at(simulate("uber-2019", *arrivals), 0) == {"1|", "2|1", "2|"}


def test_uber_2025_lands_ahead_of_an_undecided_change_when_both_of_its_outcomes_are_covered() -> None:
    history = simulate("uber-2025", change(1, "a", minutes=100), change(2, "a", minutes=5))
    assert sorted(runs(history)) == ["1|", "2|", "2|1"]
    assert ends(history) == {2: ("landed", 5), 1: ("landed", 100)}


def test_uber_2025_never_bypasses_on_one_path_alone() -> None:
    history = simulate("uber-2025", change(1, "a", minutes=100), change(2, "a", minutes=5), clash=1.0)
    assert sorted(runs(history)) == ["1|", "2|", "2|1"]
    assert ends(history) == {1: ("landed", 100), 2: ("refused", 100)}
    assert history.false_refusals == history.red_landings == []


def test_uber_2025_bypasses_no_more_than_it_is_told_to() -> None:
    slow = [change(number, "a", f"c{number}", minutes=100) for number in (1, 2)]
    arrivals = [*slow, change(3, "a", minutes=5)]
    assert ends(simulate(uber_2025(bypass=2), *arrivals))[3] == ("landed", 5)
    assert ends(simulate(uber_2025(bypass=1), *arrivals))[3] == ("landed", 100)


def test_no_bypass_is_tried_by_who_is_likely_to_be_ready_last() -> None:
    """Half a minute longer, with a spread of some 40 s each: a chance of .3, which is well above the other threshold."""
    history = simulate("uber-2025", change(1, "a", minutes=10, chance=0.97), change(2, "a", minutes=10.5))
    assert runs(history) == ["1|", "2|1"]
    history = simulate("uber-2025", change(1, "a", minutes=10.5, chance=0.97), change(2, "a", minutes=10))
    assert sorted(runs(history)) == ["1|", "2|", "2|1"]


@pytest.mark.parametrize(
    ("x", "y", "chance"),
    [  # (arrival, mean, spread) of both, in minutes: the examples of CI at Scale, facts/papers.md section 1b
        ((0, 25, 5), (5, 20, 4), 0.50),
        ((0, 20, 4), (480, 5, 2), 0.0),
        ((0, 35, 6), (1, 15, 3), 0.9977),
    ],
)
def test_the_chance_to_finish_first_is_as_published(
    x: tuple[float, float, float], y: tuple[float, float, float], chance: float
) -> None:
    assert chance_to_finish_first(*y, *x) == pytest.approx(chance, abs=0.0001)


# --- oracles ----------------------------------------------------------------------------------------------------------


def test_the_oracle_does_not_wait_for_who_is_going_to_leave() -> None:
    history = simulate("oracle", change(1, "a", bad=True, minutes=100), change(2, "a"))
    assert runs(history) == ["1|", "2|"]
    assert ends(history) == {1: ("refused", 100), 2: ("landed", 10)}


def test_the_oracle_lands_in_order_and_the_other_one_as_runs_end() -> None:
    arrivals = [change(1, "a", minutes=100), change(2, "a", minutes=5)]
    in_order = simulate("oracle", *arrivals)
    assert runs(in_order) == ["1|", "2|1"]
    assert ends(in_order) == {1: ("landed", 100), 2: ("landed", 100)}
    free = simulate("oracle-reorder", *arrivals)
    assert runs(free) == ["1|", "2|", "2|1"]
    assert ends(free) == {1: ("landed", 100), 2: ("landed", 5)}


@pytest.mark.parametrize("policy", ["oracle", "oracle-reorder"])
def test_an_oracle_with_few_workers_stops_no_run_of_its_own(policy: str) -> None:
    history = simulate(policy, change(1, "a", bad=True, at=0), change(2, "b", at=1), change(3, "b", at=2), workers=1)
    assert runs(history) == ["1|", "2|", "3|2"]


def test_of_two_that_clash_both_oracles_land_the_first() -> None:
    for policy in ("oracle", "oracle-reorder"):
        history = simulate(policy, change(1, "a", minutes=100), change(2, "a", minutes=5), clash=1.0)
        assert ends(history) == {1: ("landed", 100), 2: ("refused", 100)}, policy
        assert runs(history) == ["1|", "2|1"], policy


def test_with_workers_enough_the_free_oracle_lands_every_good_change_as_its_run_ends() -> None:
    dice = random.Random(7)
    arrivals = [
        change(number, *dice.sample("abcdef", 2), at=number, minutes=dice.randint(4, 60), bad=dice.random() < 0.1)
        for number in range(1, 60)
    ]
    history = simulate("oracle-reorder", *arrivals, workers=500)
    late = {
        arrival.change.id: ends(history)[arrival.change.id]
        for arrival in arrivals
        if arrival.is_fine
        and history.decided[arrival.change.id] != (Verdict.LANDED, arrival.change.submitted_at + arrival.duration_s)
    }
    assert late == {}
    assert not any(run.is_aborted for run in history.runs)


def test_the_oracle_of_batches_needs_a_run_for_each_stretch_of_good_changes_and_each_bad_one() -> None:
    history = simulate("oracle-batch", *(change(number, "a", bad=number in (3, 4)) for number in range(1, 8)))
    assert runs(history) == ["1,2|", "3|1,2", "4|1,2", "5,6,7|1,2"]


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "altered",
    [
        {"preset": "W1", "hours": 1.5, "components": 300, "clash": 0.1, "workers": 40},
        {"preset": "W1", "hours": 0.5, "components": 20, "workers": 5},
        {"preset": "W2", "hours": 6.0, "failure": 0.3, "rate": 6.0},
        {"preset": "W8", "hours": 0.5, "checks": 8, "folders": 40},
    ],
    ids=lambda altered: f"{altered['preset']}-{altered['hours']}",
)
def test_every_policy_decides_everything_and_refuses_nobody_for_nothing(name: str, altered: dict[str, float]) -> None:
    workload = PRESETS[str(altered["preset"])].altered(warmup=0.0, **altered)
    record = play(workload, 5, name)
    assert (record.undecided, record.red_landings, record.false_refusals) == (0, 0, 0)
    assert record.landed > 0


@pytest.mark.parametrize("name", BASELINES)
def test_the_oracle_needs_no_more_runs_than_changes_and_lands_no_later_than_those_who_keep_the_order(name: str) -> None:
    workload = W1.altered(hours=1.0, components=150, clash=0.034)
    oracle, other = play(workload, 3, "oracle"), play(workload, 3, name)
    assert oracle.runs_per_change == 1
    assert oracle.aborted_share == 0
    if name not in ("uber-2025", "oracle-reorder"):
        assert oracle.p50_s is not None
        assert other.p50_s is not None
        assert other.p50_s >= oracle.p50_s


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "workload",
    [
        W1.altered(hours=0.6, components=40, clash=0.1, workers=9),
        PRESETS["W8"].altered(hours=0.6, warmup=0.0),
        PRESETS["W5"].altered(hours=4.0, warmup=0.0, suite_flake=0.3),
    ],
    ids=lambda workload: workload.preset,
)
def test_what_a_policy_does_is_the_same_when_its_proposals_are_remembered(name: str, workload: Workload) -> None:
    contents = ByChange(workload, 3) if workload.is_per_change else ByContent(workload, 3)
    world = World(workload, arrivals(workload, 3), contents, foresight(workload, 3), BASELINES[name](contents))
    forgetful = measure(world.play(), workload, 3, name)
    untimed = {"plan_p50_ms": 0.0, "plan_p99_ms": 0.0}
    assert replace(play(workload, 3, name), **untimed) == replace(forgetful, **untimed)
    assert forgetful.landed > 10


@pytest.mark.parametrize("name", NOT_CLAIRVOYANT)
@pytest.mark.parametrize("seed", range(4))
def test_with_real_trees_and_dependencies_every_verdict_is_right(name: str, seed: int) -> None:
    """The world's auditor holds each plan against the truth, and asks a second time with the same facts."""
    dice = random.Random(seed)
    codes = tuple(
        code(f"check{at}", f"f{at}", f"f{at + 1}", breaks=[{f"f{at}": "bad"}, {f"f{at}": "3", f"f{at + 1}": "4"}])
        for at in range(3)
    )
    world = RealWorld(codes, {f"f{at}": "0" for at in range(4)}, workers=4)
    chosen = Remembering(BASELINES[name](None))  # type: ignore[arg-type]

    def policy(view: View) -> Iterator[Proposal]:
        for proposal in chosen(view):
            assert view.objection(proposal.change, proposal.ahead) is None
            yield proposal

    for number in range(1, 13):
        depends = [ChangeId(dice.randint(1, number - 1))] if number > 1 and dice.random() < 0.3 else []
        waiting = [needed for needed in depends if needed in world.state.waiting]
        text = "bad" if dice.random() < 0.2 else str(number)
        world.push({f"f{dice.randint(0, 3)}": text}, depends=waiting)
        world.turns(policy)
        if world.running and dice.random() < 0.5:
            world.finish_check(dice.choice(list(world.running)))
    for _ in range(200):
        world.turns(policy)
        if not world.running:
            break
        world.finish_check(dice.choice(list(world.running)))
    assert world.landed
    assert world.state.waiting == {}


def by_hand(queue: Iterable[Change]) -> dict[ChangeId, set[ChangeId]]:
    """Who is ahead of whom and meddles with it, one pair at a time; with all that a change depends on."""
    found: dict[ChangeId, set[ChangeId]] = {}
    needs: dict[ChangeId, set[ChangeId]] = {}
    seen: list[Change] = []
    for one in queue:
        needs[one.id] = set(one.depends).union(*(needs.get(needed, set()) for needed in one.depends))
        found[one.id] = {other.id for other in seen if one.meddles_with(other) or other.id in needs[one.id]}
        seen.append(one)
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_who_meddles_with_whom_is_kept_as_the_queue_alters(data: st.DataObject) -> None:
    meddling = Meddling()
    queue: list[Change] = []
    for number in range(1, data.draw(st.integers(1, 25))):
        names = data.draw(st.frozensets(st.sampled_from("abcde"), max_size=2))
        depends = data.draw(st.sets(st.sampled_from([one.id for one in queue]), max_size=1)) if queue else set()
        queue.append(
            Change(
                ChangeId(number),
                1,
                Sha(f"h{number}"),
                "a",
                0.0,
                touches=frozenset(CheckName(name) for name in names),
                paths=data.draw(st.frozensets(st.sampled_from("xyz"), max_size=1)),
                depends=tuple(depends),
            )
        )
        if data.draw(st.booleans()):
            gone = {data.draw(st.sampled_from(queue)).id}
            for one in queue:
                if not gone.isdisjoint(one.depends):
                    gone.add(one.id)
            queue = [one for one in queue if one.id not in gone]
        before = {one.id for one in meddling._queue}
        assert {one.id for one in meddling.follow(queue)} == before - {one.id for one in queue}
        ahead = by_hand(queue)
        assert {one.id: set(meddling.ids(meddling.ahead(one.id))) for one in queue} == ahead
        behind = {one.id: {other for other, those in ahead.items() if one.id in those} for one in queue}
        assert {one.id: set(meddling.ids(meddling.behind(one.id))) for one in queue} == behind


def test_a_queue_in_another_order_is_taken_over_as_it_is() -> None:
    first, second, third = (change(number, "a").change for number in (1, 2, 3))
    meddling = Meddling()
    meddling.follow([first, second, third])
    assert meddling.follow([third, first]) == (second,)
    assert meddling.ids(meddling.ahead(ChangeId(1))) == {3}
    assert [meddling.change(position).id for position in positions(meddling.present)] == [3, 1]
