"""What the shipped policy chooses to run, as stories: which changes share a run, on which past, and who comes first.

All changes of a ``line`` touch one check, each by a file of its own; those of ``apart`` have a check each. Odds, durations
and workers are what a story says. Every turn is audited (fakes/queue.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha
from fakes.queue import code
from fakes.told import RUN_S, Run, Told, numbers, queue_of
from gate.model import (
    Change,
    ChangeId,
    Evidence,
    Forecast,
    Need,
    Outlook,
    Priority,
    Snapshot,
    Verdict,
    Why,
)
from gate.policy import AGING_S, COVER_AT_MOST, KEEP_CHANCE, OTHER_CHANCE, PATIENCE_S, START_CHANCE, Worthwhile, optimistic
from gate.view import View

LANDED, REFUSED = Verdict.LANDED, Verdict.REFUSED


def line(*chances: float, bad: Iterable[int] = (), waiting: int | None = None, **settings: Any) -> Told:
    """These chances of changes 1, 2, …; the first ``waiting`` of them are pushed, all unless told. bad: they break it."""
    files = [f"f{at}" for at in range(1, len(chances) + 1)]
    unit = code("unit", *files, breaks=[{f"f{at}": "new"} for at in bad])
    queue = queue_of([unit], chances, {}, **settings)
    for at in range(1, 1 + (len(chances) if waiting is None else waiting)):
        push(queue, at)
    return queue


def apart(*durations_s: float, **settings: Any) -> Told:
    """A check for each file, with these durations; nothing is pushed."""
    codes = [code(f"c{at}", f"f{at}") for at in range(1, len(durations_s) + 1)]
    return queue_of(codes, (), {f"c{at}": duration_s for at, duration_s in enumerate(durations_s, 1)}, **settings)


def push(queue: Told, at: int, by: str = "ann", **settings: Any) -> None:
    """A change to the file of this number."""
    change = queue.push({f"f{at}": "new"}, **settings)
    queue.authors[change] = by


def upto(count: int) -> Run:
    return tuple(range(1, count + 1))


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "size"), [(0.5, 1), (0.6, 1), (0.8, 3), (0.9, 7), (0.99, 8)])
def test_one_run_tests_as_many_changes_as_are_all_fine_about_every_other_time(chance: float, size: int) -> None:
    queue = line(*[chance] * 8, workers=1)
    queue.turns()
    assert queue.runs() == [upto(size)]


def test_changes_that_often_break_each_other_share_a_run_less_often() -> None:
    sizes = []
    for clash in (0.0, 0.1, 0.4):
        queue = line(*[0.9] * 8, workers=1, clash=clash)
        queue.turns()
        sizes.append(len(queue.runs()[0]))
    assert sizes == [7, 4, 2]


def test_two_workers_ask_about_the_whole_and_about_its_first_half() -> None:
    queue = line(*[0.95] * 8, workers=2)
    queue.turns()
    assert set(queue.runs()) == {upto(8), upto(4)}


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_no_run_tests_more_changes_together_than_the_bound_allows(bound: int) -> None:
    queue = line(*[0.99] * 9, workers=1, batch=bound)
    queue.turns()
    assert queue.runs() == [upto(bound)]
    queue.workers = 2
    queue.turns()
    assert queue.runs() == [upto(bound), upto(2 * bound)]


def test_where_every_commit_must_be_green_no_run_is_for_two_changes() -> None:
    queue = line(*[0.99] * 4, workers=4, every_commit=True)
    queue.turns()
    assert set(queue.runs()) == {upto(1), upto(2), upto(3), upto(4)}
    queue.settle()
    assert [len(run) for run in queue.all_runs()[:4]] == [1, 2, 3, 4]


def test_a_green_batch_lands_whole_and_ends_the_runs_of_its_parts() -> None:
    queue = line(*[0.95] * 8, workers=2)
    queue.turns()
    queue.end(*upto(8))
    queue.turns()
    assert queue.landed == [tuple((ChangeId(at), 1) for at in upto(8))]
    assert queue.runs() == []
    assert len(queue.started) == 2


def test_the_half_of_a_red_batch_that_must_be_red_is_not_run() -> None:
    """Runs of 8, 4, 6 and 7 changes: then it is the eighth, and what the first run has said of it is enough."""
    queue = line(*[0.95] * 8, bad=[8], workers=1)
    queue.settle()
    assert queue.all_runs() == [upto(8), upto(4), (5, 6), (7,)]
    assert (queue.verdict(8), len(queue.landed)) == (REFUSED, 3)


@pytest.mark.parametrize("bad", range(1, 9))
def test_a_bad_change_is_found_wherever_in_a_batch_it_is_and_no_other_is_refused(bad: int) -> None:
    queue = line(*[0.95] * 8, bad=[bad], workers=1)
    queue.settle()
    assert {at: queue.verdict(at) for at in upto(8)} == {at: REFUSED if at == bad else LANDED for at in upto(8)}
    ended = sum(len(results) for results in queue.store.values()) - 1  # but the one of trunk as it was
    assert ended <= 8  # one for each at the most, however deep the bad one sits


def test_a_green_part_of_a_red_batch_lands_at_once_and_is_asked_about_no_more() -> None:
    queue = line(*[0.95] * 8, bad=[7], workers=1)
    queue.turns()
    queue.end(*upto(8))
    queue.turns()
    assert queue.runs() == [upto(4)]
    queue.end(*upto(4))
    queue.turns()
    assert queue.landed == [tuple((ChangeId(at), 1) for at in upto(4))]
    before = len(queue.started)
    queue.settle()
    assert not any(set(run) & set(upto(4)) for run in queue.all_runs()[before:])


def test_a_part_that_was_green_before_its_batch_was_red_is_not_asked_about_again() -> None:
    queue = line(*[0.95] * 8, bad=[6], workers=2)
    queue.close()  # so that what is green stays in the queue
    queue.turns()
    queue.end(*upto(4))
    queue.turns()
    queue.end(*upto(8))
    queue.turns()
    assert all(len(run) > 4 for run in queue.runs())
    assert queue.runs()


def suspecting(*chances: float, waiting: int) -> Told:
    """All that wait are tested in one run, which is red; then two more come, and workers enough."""
    queue = line(*chances, workers=1, waiting=waiting)
    queue.turns()
    assert queue.runs() == [upto(waiting)]
    queue.end(*upto(waiting), outcome=Outcome.RED)
    push(queue, waiting + 1)
    push(queue, waiting + 2)
    queue.workers = 8
    queue.turns()
    return queue


@pytest.mark.parametrize("chance", [0.7, 0.95])
def test_behind_a_red_batch_changes_are_tested_without_its_last_one_when_that_is_suspected(chance: float) -> None:
    queue = suspecting(0.95, 0.95, chance, 0.95, 0.95, waiting=3)
    behind = [run for run in queue.runs() if run[-1] > 3]
    assert behind
    assert not any(3 in run for run in behind)


def test_behind_a_red_batch_changes_are_tested_without_the_one_that_is_suspected_wherever_it_is() -> None:
    queue = suspecting(0.95, 0.7, 0.95, 0.95, 0.95, waiting=3)
    behind = [run for run in queue.runs() if run[-1] > 3]
    assert behind
    assert not any(2 in run for run in behind)


def test_one_worker_looks_for_the_bad_one_before_it_tests_what_cannot_land_before_that_is_found() -> None:
    queue = line(*[0.95] * 40, bad=[2], workers=1)
    queue.turns()
    (first,) = queue.runs()
    queue.end(*first)
    queue.turns()
    (second,) = queue.runs()
    assert set(second) < set(first)


def test_behind_a_red_batch_a_part_of_what_was_green_is_not_run() -> None:
    queue = line(0.95, 0.95, 0.7, *[0.95] * 4, bad=[1], workers=1, waiting=3)
    queue.turns()
    queue.end(*upto(3))
    for at in (4, 5, 6, 7):
        push(queue, at)
    queue.workers = 2
    queue.turns()
    (behind,) = (run for run in queue.runs() if run[-1] > 3)
    queue.end(*behind, outcome=Outcome.GREEN)
    queue.turns()
    assert not any(set(run) < set(behind) and run[-1] > 3 for run in queue.runs())


# --- streaks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_bad", "size"), [(0.0, 7), (-1.0, 5), (-4.0, 1)])
def test_the_run_after_a_bad_change_is_for_fewer_the_likelier_it_has_company(after_bad: float, size: int) -> None:
    queue = line(0.4, *[0.9] * 12, bad=[1], workers=1)
    queue.outlook = replace(queue.outlook, after_bad=after_bad)
    queue.turns()
    queue.end(1)
    queue.turns()
    assert queue.verdict(1) == REFUSED
    assert queue.runs() == [tuple(range(2, 2 + size))]


def test_a_change_in_a_streak_keeps_the_only_worker_and_after_it_is_known_to_be_fine_the_rest_share_one_run() -> None:
    queue = line(0.4, *[0.9] * 12, bad=[1, 2], workers=1)
    queue.outlook = replace(queue.outlook, after_bad=-4.0)
    queue.settle()
    assert queue.all_runs() == [(1,), (2,), (3,), tuple(range(4, 11)), (11, 12, 13)]


# --- pasts ------------------------------------------------------------------------------------------------------------


def test_with_a_worker_for_each_all_changes_are_started_on_their_likeliest_past_and_in_a_line() -> None:
    queue = line(*[0.7] * 3, workers=3)
    queue.turns()
    assert set(queue.runs()) == {upto(1), upto(2), upto(3)}


def test_the_likeliest_past_is_without_a_change_that_most_likely_does_not_land() -> None:
    queue = line(0.2, 0.9, 0.9, workers=2)
    queue.turns()
    assert set(queue.runs()) == {(1,), (2, 3)}


def test_a_change_that_is_nearly_sure_to_be_bad_does_not_keep_those_behind_it_from_being_tested() -> None:
    queue = line(0.05, 0.9, 0.9, workers=2)
    queue.turns()
    assert set(queue.runs()) == {(1,), (2, 3)}


@pytest.mark.parametrize(("chance", "is_started"), [(0.6, True), (0.68, True), (0.72, False), (0.999, False)])
def test_another_past_is_started_when_the_chance_that_it_comes_true_is_worth_it(chance: float, is_started: bool) -> None:
    assert is_started == (1 - chance > OTHER_CHANCE)
    queue = line(chance, 0.9, workers=8)
    queue.turns()
    assert ((2,) in queue.runs()) == is_started


def test_another_past_that_runs_goes_on_while_it_may_come_true_until_somebody_wants_its_worker() -> None:
    for chance in (1 - (START_CHANCE + KEEP_CHANCE) / 2, 1 - KEEP_CHANCE / 2):
        queue = line(0.65, 0.9, 0.5, workers=8, waiting=2)
        queue.turns()
        assert set(queue.runs()) == {(1,), (1, 2), (2,)}
        queue.outlook = replace(queue.outlook, forecasts={**queue.outlook.forecasts, ChangeId(1): Forecast(chance)})
        queue.turns()
        assert (2,) in queue.runs()
        push(queue, 3, priority=Priority.URGENT)
        queue.workers = 3
        queue.turns()
        assert (2,) not in queue.runs()


def test_other_pasts_take_only_workers_that_no_likeliest_past_wants() -> None:
    queue = line(*[0.7] * 3, workers=4)
    queue.turns()
    assert {upto(1), upto(2), upto(3)} < set(queue.runs())
    assert len(queue.runs()) == 4
    assert queue.runs()[3] in {(2,), (1, 3), (2, 3)}


def test_the_simple_policy_has_no_run_for_another_past() -> None:
    queue = line(*[0.7] * 3, workers=8)
    queue.turns(optimistic)
    assert queue.runs() == [upto(1), upto(2), upto(3)]


# --- landing ahead of an undecided change -------------------------------------------------------------------------------


def two_in_line(**settings: Any) -> Told:
    """Every commit has to be green, so that the second may land with the first only once this is known to be."""
    queue = line(0.7, 0.7, workers=8, every_commit=True, **settings)
    queue.turns()
    assert set(queue.runs()) == {(1,), (1, 2), (2,)}
    return queue


@pytest.mark.parametrize("runs", [[(2,), (1, 2)], [(1, 2), (2,)]])
def test_a_change_lands_ahead_of_an_undecided_one_when_both_its_outcomes_are_covered_and_not_before(runs: list[Run]) -> None:
    queue = two_in_line()
    queue.end(*runs[0])
    queue.turns()
    assert queue.landed == []
    assert Why.WAITS_FOR_CHANGE in queue.whys(2)
    queue.end(*runs[1])
    queue.turns()
    # The content of the first, on trunk as it is now, is what (1, 2) has tested.
    assert queue.landed == [((ChangeId(2), 1),), ((ChangeId(1), 1),)]
    assert queue.all_runs() == [(1,), (1, 2), (2,)]


@pytest.mark.parametrize("every_commit", [True, False])
def test_a_green_run_without_one_ahead_that_is_unlikely_to_land_is_no_leave_to_land_before_it(every_commit: bool) -> None:
    queue = line(0.1, 0.9, workers=8, every_commit=every_commit)
    queue.turns()
    assert (2,) in queue.runs()
    queue.end(2)
    queue.turns()
    assert (queue.landed, queue.verdict(2)) == ([], None)
    assert Why.WAITS_FOR_CHANGE in queue.whys(2)


def test_nobody_lands_on_top_of_one_whose_own_past_is_assumed() -> None:
    """The second is green without the first, which is unlikely to land; the third does not meddle with the first at all."""
    codes = [code("c1", "f1", "f3"), code("c2", "f2", "f4")]
    queue = queue_of(codes, [0.3, 0.9, 0.9], {}, workers=6)
    for edits in ({"f1": "new"}, {"f3": "new", "f4": "new"}, {"f2": "new"}):
        queue.push(edits)
    queue.turns()
    while runs := [run for run, start in queue.running.items() if 1 not in numbers(start)]:
        queue.finish_check(runs[0])
        queue.turns()
    assert queue.tested() == {("c1", (1,)), ("c1", (1, 2))}
    assert queue.landed == []


def test_a_change_lands_ahead_of_those_that_wait_for_checks_it_has_no_part_in() -> None:
    codes = [code("long 1", "f1"), code("long 2", "f2"), code("short", "f1", "f2", "f3")]
    queue = queue_of(codes, [0.9, 0.9, 0.9], {"long 1": 3600.0, "long 2": 3600.0}, workers=20)
    for path in ("f1", "f2", "f3"):
        queue.push({path: "new"})
    queue.turns()
    while not queue.landed and queue.now < 10 * RUN_S:
        queue.wait(30.0)
        for run in [run for run, start in queue.running.items() if start.check.name == "short"]:
            queue.finish_check(run)
        queue.turns()
    assert queue.landed == [((ChangeId(3), 1),)]
    assert queue.tested() == {("long 1", (1,)), ("long 2", (1, 2))}


def test_a_change_that_is_red_whatever_becomes_of_the_one_ahead_is_refused_before_that_is_known() -> None:
    queue = two_in_line(bad=[2])
    queue.end(2)
    queue.turns()
    assert queue.verdict(2) is None
    queue.end(1, 2)
    queue.turns()
    assert (queue.verdict(1), queue.verdict(2)) == (None, REFUSED)


@pytest.mark.parametrize("red", [(2,), (1, 2)])
def test_a_change_that_is_red_on_one_past_and_green_on_the_other_waits_for_the_one_ahead(red: Run) -> None:
    queue = two_in_line()
    for run in ((2,), (1, 2)):
        queue.end(*run, outcome=Outcome.RED if run == red else Outcome.GREEN)
    queue.turns()
    assert (queue.landed, queue.verdict(2)) == ([], None)


@pytest.mark.parametrize("every_commit", [False, True])
@pytest.mark.parametrize("chances", [(0.6, 0.95, 0.95), (0.51, 0.9, 0.9)])
def test_no_past_is_proposed_in_which_a_change_lands_without_what_it_depends_on(
    chances: tuple[float, ...], every_commit: bool
) -> None:
    queue = queue_of([code("unit", "f1", "f2", "f3")], chances, {}, workers=12, every_commit=every_commit)
    queue.push({"f1": "new"})
    queue.push({"f2": "new"}, depends=[1])
    queue.push({"f3": "new"})
    queue.turns()
    for _ in range(3):
        view = View(queue.snapshot(), queue.now)
        assert {view.objection(each.change, each.ahead) for each in Worthwhile()(view) if each.may_start} == {None}
        queue.turns()
        queue.wait(100.0)
    assert (3,) in queue.all_runs()  # neither of the others lands


def test_a_change_overtakes_those_that_depend_on_each_other_once_all_that_may_become_of_them_is_covered() -> None:
    queue = queue_of([code("unit", "f1", "f2", "f3")], (0.5, 0.95, 0.95), {}, workers=12, every_commit=True)
    queue.push({"f1": "new"})
    queue.push({"f2": "new"}, depends=[1])
    queue.push({"f3": "new"})
    queue.turns()
    while not queue.landed and queue.now < 10 * RUN_S:
        queue.wait(30.0)
        for run in [run for run in queue.running if numbers(queue.running[run])[-1:] == (3,)]:
            queue.finish_check(run)
        queue.turns()
    assert queue.landed[0] == ((ChangeId(3), 1),)
    assert (2, 3) not in queue.all_runs()


def test_what_a_change_depends_on_is_never_overtaken() -> None:
    queue = line(0.7, 0.7, workers=8, every_commit=True, waiting=1)
    push(queue, 2, depends=[1])
    queue.turns()
    assert set(queue.runs()) == {(1,), (1, 2)}
    queue.end(1, 2)
    queue.turns()
    assert queue.landed == []


def behind_long_ones(count: int, chance: float = 0.6) -> Told:
    """So many changes of long runs, and then one whose run is short."""
    queue = line(*[chance] * (count + 1), workers=64, every_commit=True, waiting=count)
    forecasts = {ChangeId(at): Forecast(chance, RUN_S * 10) for at in upto(count)}
    queue.outlook = replace(queue.outlook, forecasts={**forecasts, ChangeId(count + 1): Forecast(chance, RUN_S / 10)})
    push(queue, count + 1)
    queue.turns()
    return queue


def test_who_is_far_back_is_looked_at_when_those_ahead_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.policy.HORIZON", 1)
    queue = apart(*[RUN_S] * 6, workers=2)
    for at in upto(6):
        push(queue, at)
    queue.turns()
    assert (queue.runs(), queue.whys(4), queue.whys(6)) == ([(1,), (2,)], [Why.WAITS_FOR_WORKER], [Why.WAITS_FOR_WORKER])
    assert not any(candidate.entries[-1:] == ((ChangeId(4), 1),) for candidate in queue.merges)
    queue.settle()
    assert {at: queue.verdict(at) for at in upto(6)} == dict.fromkeys(upto(6), LANDED)


def test_what_runs_is_not_stopped_because_many_come_ahead_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.policy.HORIZON", 0)
    queue = apart(*[RUN_S] * 6, workers=2)
    for at in (1, 2):
        push(queue, at, priority=Priority.LOW)
    queue.turns()
    queue.wait(RUN_S * 0.95)
    for at in (3, 4, 5):
        push(queue, at)
    queue.turns()
    assert queue.all_runs() == queue.runs() == [(1,), (2,)]


def behind_a_doubtful_one(
    chance: float = 0.3,
    ahead: Sequence[float] = (0.9,) * 4,
    breaks: Sequence[dict[str, str]] = ({"f1": "0", "g1": "new"},),
    *,
    retest: bool = False,
) -> Told:
    """Changes ``ahead``, each of a check of its own; one, most likely bad, that touches the checks of all; eight behind it.

    breaks: check c1; unless told, it is red with the doubtful one alone, and green with 1 and that.
    """
    count = len(ahead) + 8
    codes = [code(f"c{at}", f"f{at}", f"g{at}", breaks=breaks if at == 1 else (), retest=retest) for at in upto(count)]
    queue = queue_of(codes, [*ahead, chance] + [0.9] * 8, {}, workers=400)
    for at in upto(len(ahead)):
        push(queue, at)
    queue.push({f"g{at}": "new" for at in upto(count)})
    for at in range(len(ahead) + 1, count + 1):
        push(queue, at)
    queue.turns()
    return queue


def behind_a_line(chance: float = 0.3, breaks: Sequence[dict[str, str]] = (), *, retest: bool = False) -> Told:
    """Changes 1 to 8 in one line of check a; 9 touches that and the checks of 10 to 17, which have one each."""
    codes = [code("a", *[f"f{at}" for at in upto(9)], breaks=breaks, retest=retest)]
    codes += [code("z", "z"), *(code(f"c{at}", f"f{at}", f"g{at}") for at in range(10, 18))]
    queue = queue_of(codes, [0.9] * 8 + [chance] + [0.9] * 9, {"z": 10.0}, workers=200)
    for at in upto(8):
        push(queue, at)
    queue.push({"f9": "new", **{f"g{at}": "new" for at in range(10, 18)}})
    for at in range(10, 18):
        push(queue, at)
    queue.turns()
    return queue


def end_check(queue: Told, check: str, *changes: int) -> None:
    (run,) = (run for run, start in queue.running.items() if (start.check.name, numbers(start)) == (check, changes))
    queue.finish_check(run)
    queue.turns()


def test_who_blocks_others_is_judged_by_its_own_run_though_trunk_has_moved_and_changes_ahead_are_undecided() -> None:
    queue = behind_a_doubtful_one()
    end_check(queue, "c2", 2)
    assert queue.verdict(2) is LANDED
    assert ("c2", (5,)) in queue.tested()  # of the old trunk, for it meddles with what has landed
    end_check(queue, "c1", 5)
    assert (queue.verdict(1), queue.verdict(5)) == (None, REFUSED)
    assert queue.whys(5) == [Why.CHECK_RED]
    assert 5 not in {change for run in queue.runs() for change in run}
    end_check(queue, "c7", 8)
    assert queue.verdict(8) is LANDED


def test_the_reason_names_the_trunk_that_it_was_red_on() -> None:
    queue = behind_a_line(breaks=[{"f9": "new"}])
    then = queue.trunk
    end_check(queue, "a", 1)
    assert queue.verdict(1) is LANDED
    end_check(queue, "a", 9)
    assert [(reason.why, reason.base) for reason in queue.reasons(9)] == [(Why.CHECK_RED, then)]


def test_a_trunk_that_somebody_else_has_moved_may_mend_what_a_change_was_red_for_by_itself() -> None:
    queue = behind_a_doubtful_one()
    queue.move_trunk({"f1": "mended"})
    (run,) = (run for run, start in queue.running.items() if (start.check.name, numbers(start)) == ("c1", (5,)))
    queue.finish_check(run)
    queue.turns()
    assert queue.verdict(5) is None


def test_who_is_green_on_top_of_one_ahead_is_not_refused_for_being_red_without_it() -> None:
    queue = behind_a_doubtful_one(chance=0.45)
    end_check(queue, "c1", 1, 2, 3, 4, 5)
    end_check(queue, "c1", 5)
    assert queue.verdict(5) is None


def test_who_is_green_with_one_that_has_landed_is_not_refused_for_an_earlier_trunk() -> None:
    queue = behind_a_doubtful_one(0.45, ahead=(0.9, 0.3, 0.3, 0.3))
    end_check(queue, "c1", 1, 5)  # what it was red for, 1 mends
    end_check(queue, "c1", 1)
    assert queue.verdict(1) is LANDED
    end_check(queue, "c1", 5)
    assert queue.verdict(5) is None


def test_an_earlier_trunk_that_was_red_itself_is_no_measure() -> None:
    queue = behind_a_doubtful_one(breaks=[{"g1": "new"}])
    control = code("c1", "f1", "g1").key(queue.tree)
    end_check(queue, "c1", 1)
    assert queue.verdict(1) is LANDED
    queue.store[control].insert(0, queue.store[control][0]._replace(outcome=Outcome.RED))
    end_check(queue, "c1", 5)
    assert queue.verdict(5) is None


def test_the_run_by_itself_of_an_earlier_trunk_gives_way_to_what_is_worth_more() -> None:
    """All workers are busy with it, and a change that takes ten seconds gets one."""
    queue = behind_a_line()
    end_check(queue, "a", 1)
    for run in [run for run, start in queue.running.items() if numbers(start) != (9,)]:
        queue.lose_run(run)
    queue.workers = len(queue.running)
    queue.push({"z": "new"})
    queue.turns()
    assert ("z", (18,)) in queue.tested()


def test_who_is_green_by_itself_is_not_run_so_again_on_each_new_trunk() -> None:
    queue = behind_a_line()
    for check, _ in sorted(one for one in queue.tested() if one[1] == (9,)):
        end_check(queue, check, 9)
    for at in upto(4):
        end_check(queue, "a", *upto(at))
        assert queue.verdict(at) is LANDED
    assert [start.check.name for start in queue.started if numbers(start) == (9,)].count(CheckName("a")) == 1


def test_after_a_move_by_hand_that_has_nothing_to_do_with_it_it_is_judged_all_the_same() -> None:
    queue = behind_a_doubtful_one()
    queue.move_trunk({"README": "new"})
    queue.turns()
    end_check(queue, "c1", 5)
    assert queue.verdict(5) is REFUSED


def test_while_it_is_judged_by_one_trunk_it_is_not_run_on_the_next() -> None:
    queue = behind_a_line(breaks=[{"f9": "new"}], retest=True)
    queue.outlook = replace(queue.outlook, flakes={CheckName("a"): 0.1})
    for check, _ in sorted((one for one in queue.tested() if one[1] == (9,)), reverse=True):
        end_check(queue, check, 9)
    assert Why.WAITS_FOR_CHECK in queue.whys(9)  # its failed test is run again in a minute
    for at in upto(2):
        end_check(queue, "a", *upto(at))
        assert queue.verdict(at) is LANDED
    assert [start.check.name for start in queue.started if numbers(start) == (9,)].count(CheckName("a")) == 1


def test_who_most_likely_is_fine_is_not_run_by_itself_behind_others() -> None:
    assert (5,) not in behind_a_doubtful_one(chance=0.9).runs()


def runs_for(queue: Told, change: int) -> list[Run]:
    return [run for run in queue.runs() if run[-1] == change]


@pytest.mark.parametrize("count", range(1, COVER_AT_MOST + 1))
def test_a_short_one_is_tested_on_every_past_and_lands_ahead_of_long_ones_when_all_are_green(count: int) -> None:
    queue = behind_long_ones(count)
    runs = sorted(runs_for(queue, count + 1), key=lambda run: -abs(2 * len(run) - count - 2))  # both ends first
    assert len(set(runs)) == 2**count
    for run in runs:
        assert queue.landed == []
        queue.end(*run)
        queue.turns()
    assert queue.landed[0] == ((ChangeId(count + 1), 1),)


def test_behind_too_many_long_ones_a_short_one_is_tested_on_its_likeliest_past_only() -> None:
    queue = behind_long_ones(COVER_AT_MOST + 1)
    assert runs_for(queue, COVER_AT_MOST + 2) == [upto(COVER_AT_MOST + 2)]


def test_a_past_that_hardly_comes_true_is_tested_to_overtake_with_only_where_that_gains_time() -> None:
    assert set(runs_for(behind_long_ones(1, 0.97), 2)) == {(1, 2), (2,)}
    queue = line(0.97, 0.97, workers=64, every_commit=True)
    queue.turns()
    assert runs_for(queue, 2) == [(1, 2)]


# --- who keeps a worker, and who gets one -------------------------------------------------------------------------------


@pytest.mark.parametrize(("newcomers", "runs"), [(1, upto(1)), (2, upto(3)), (3, upto(4))])
def test_changes_join_a_run_that_just_began_when_there_are_enough_of_them(newcomers: int, runs: Run) -> None:
    queue = line(*[0.9] * 4, workers=1, waiting=1)
    queue.turns()
    for at in range(newcomers):
        push(queue, 2 + at)
    queue.turns()
    assert queue.runs() == [runs]


def test_a_run_that_is_nearly_over_is_not_begun_again_for_those_who_come_late() -> None:
    queue = line(*[0.9] * 4, workers=1, waiting=1)
    queue.turns()
    queue.wait(0.9 * RUN_S)
    for at in range(3):
        push(queue, 2 + at)
    queue.turns()
    assert queue.runs() == [upto(1)]
    assert len(queue.started) == 1


@pytest.mark.parametrize(("takes_s", "runs"), [(280.0, 1), (60.0, 1), (20.0, 1), (15.0, 2)])
def test_a_run_is_stopped_only_for_one_that_is_worth_several_times_as_much(takes_s: float, runs: int) -> None:
    queue = apart(RUN_S, takes_s, workers=1, every_commit=True)
    push(queue, 1)
    queue.turns()
    push(queue, 2)
    queue.turns()
    assert queue.runs() == [(runs,)]


@pytest.mark.parametrize(("takes_s", "runs"), [(280.0, 1), (240.0, 2)])
def test_where_runs_are_shared_one_is_stopped_for_what_is_worth_a_fifth_more(takes_s: float, runs: int) -> None:
    queue = apart(RUN_S, takes_s, workers=1)
    push(queue, 1)
    queue.turns()
    push(queue, 2)
    queue.turns()
    assert queue.runs() == [(runs,)]


def test_the_short_comes_before_the_long_until_that_has_waited_long_enough() -> None:
    for waited_s, runs in ((PATIENCE_S - 100, 3), (PATIENCE_S + 100, 2)):
        queue = apart(60.0, 9000.0, 60.0, workers=1)
        push(queue, 1)
        queue.turns()
        push(queue, 2)
        queue.wait(waited_s)
        push(queue, 3)
        queue.end(1)
        queue.turns()
        assert queue.runs() == [(runs,)]


def test_who_has_waited_longer_outweighs_what_is_a_little_shorter() -> None:
    for waited_s, runs in ((0.0, 3), (AGING_S / 2, 2)):
        queue = apart(60.0, 300.0, 250.0, workers=1)
        push(queue, 1)
        queue.turns()
        push(queue, 2)
        queue.wait(waited_s)
        push(queue, 3)
        queue.end(1)
        queue.turns()
        assert queue.runs() == [(runs,)]


@pytest.mark.parametrize(("author", "runs"), [("ann", 5), ("bob", 6)])
def test_the_next_free_worker_is_for_an_author_who_has_less_than_an_equal_share(author: str, runs: int) -> None:
    queue = apart(*[300.0] * 6, workers=4)
    for at in range(1, 6):
        push(queue, at)
    queue.turns()
    push(queue, 6, by=author)
    queue.turns()
    queue.end(1)
    queue.turns()
    assert queue.runs() == [(2,), (3,), (4,), (runs,)]


@pytest.mark.parametrize(
    ("priority", "runs"), [(Priority.URGENT, 3), (Priority.HIGH, 3), (Priority.NORMAL, 2), (Priority.LOW, 2)]
)
def test_of_two_that_wait_for_a_worker_the_one_in_more_of_a_hurry_gets_it(priority: Priority, runs: int) -> None:
    queue = apart(300.0, 300.0, 300.0, workers=1)
    push(queue, 1)
    queue.turns()
    push(queue, 2)
    push(queue, 3, priority=priority)
    queue.end(1)
    queue.turns()
    assert queue.runs() == [(runs,)]


@pytest.mark.parametrize("priority", [Priority.URGENT, Priority.HIGH, Priority.NORMAL])
@pytest.mark.parametrize("ran_s", [10.0, 150.0, 280.0])
def test_nothing_that_runs_is_stopped_for_a_hurry(priority: Priority, ran_s: float) -> None:
    queue = apart(300.0, 300.0, 300.0, workers=1)
    push(queue, 1, priority=Priority.LOW)  # also beside what is in no hurry
    queue.turns()
    queue.wait(ran_s)
    push(queue, 2, priority=Priority.LOW)
    push(queue, 3, priority=priority)
    queue.turns()
    assert queue.runs() == [(1,)]
    queue.end(1)
    queue.turns()
    assert queue.all_runs() == [(1,), (3,)]


def hurried() -> Told:
    """One under test, two that are not yet, and then one that is urgent; each needs a run of its own."""
    queue = line(*[0.9] * 4, workers=2, waiting=1, every_commit=True)
    queue.turns()
    assert queue.runs() == [(1,)]
    push(queue, 2)
    push(queue, 3)
    push(queue, 4, priority=Priority.URGENT)
    queue.turns()
    return queue


def test_an_urgent_change_overtakes_those_not_yet_tested_and_has_nobody_begin_again() -> None:
    queue = hurried()
    assert queue.runs() == [(1,), (1, 4)]
    assert queue.all_runs() == [(1,), (1, 4)]


def test_an_urgent_change_stays_ahead_of_those_whom_it_has_overtaken() -> None:
    queue = hurried()
    queue.end(1, 4)
    queue.turns()
    assert queue.runs() == [(1,), (1, 4, 2)]
    queue.end(1, 4, 2)
    queue.turns()
    assert queue.runs() == [(1,), (1, 4, 2, 3)]
    queue.end(1)
    queue.turns()
    assert queue.landed == [((ChangeId(1), 1), (ChangeId(4), 1), (ChangeId(2), 1))]


def drafted(earlier_s: float) -> Told:
    """A draft and, so much later, a change wait for the same worker."""
    queue = apart(300.0, 300.0, 300.0, workers=1)
    push(queue, 1)
    queue.turns()
    push(queue, 2, draft=True)
    queue.wait(earlier_s)
    push(queue, 3)
    queue.end(1)
    queue.turns()
    return queue


@pytest.mark.parametrize("earlier_s", [0.0, 60.0, PATIENCE_S + 1])
def test_a_draft_gets_a_worker_after_all_that_may_land(earlier_s: float) -> None:
    assert drafted(earlier_s).runs() == [(3,)]


def test_a_draft_gets_a_worker_that_nobody_else_wants() -> None:
    queue = drafted(60.0)
    queue.workers = 2
    queue.turns()
    assert set(queue.runs()) == {(2,), (3,)}


def test_two_authors_do_not_stop_each_others_runs_in_turn() -> None:
    """A red batch leaves two places to look at, by two authors, each of several checks: whoever has both workers has more
    than a share of them."""
    files = [f"f{at}" for at in range(1, 4)]
    codes = [code("k0", *files, breaks=[{"f2": "new", "f3": "new"}]), *(code(f"k{at}", *files) for at in range(1, 12))]
    queue = queue_of(codes, [0.96] * 3, {item.check.name: 0.31 for item in codes}, workers=2, clash=0.2)
    for at, author in ((1, "ann"), (2, "ben"), (3, "cid")):
        push(queue, at, by=author)
    queue.turns()
    for _ in range(12):
        whole = [run for run, start in queue.running.items() if len(start.candidate.entries) == 3]
        if not whole:
            break
        queue.finish_check(whole[0])
        queue.turns()
    started = len(queue.started)
    for _ in range(20):
        queue.wait(0.01)
        queue.turns()
    assert len(queue.started) <= started + 2


# --- what is remembered -------------------------------------------------------------------------------------------------
# Every turn plans with a memory and without, and compares (fakes/queue.py): stories in which the two once differed.


@pytest.mark.parametrize("chances", [(0.6, 0.9, 0.9, 0.9), (0.9, 0.6, 0.9, 0.9), (0.9, 0.9, 0.9, 0.9)])
def test_a_draft_that_was_red_speaks_against_nobody_who_comes_later(chances: tuple[float, ...]) -> None:
    queue = line(*chances, waiting=1, workers=6, bad=[2])
    queue.turns()
    push(queue, 2, draft=True)
    queue.turns()
    queue.end(1, 2)
    queue.turns()
    for at in (3, 4):
        push(queue, at)
        queue.turns()
    assert {(1, 3), (1, 3, 4)} <= set(queue.runs())


@pytest.mark.parametrize(("workers", "count", "after_bad"), [(8, 4, -4.0), (8, 5, -3.0), (7, 6, -3.0)])
def test_a_change_that_could_not_be_tested_and_then_is_red_makes_the_next_one_likelier_to_be_bad(
    workers: int, count: int, after_bad: float
) -> None:
    files = [f"f{at}" for at in range(2, 9)]
    codes = [code("k1", "a"), code("k2", "a", breaks=[{"a": "new"}]), code("k3", *files)]
    queue = queue_of(codes, (0.9,) * 9, {}, workers=workers)
    queue.outlook = replace(queue.outlook, after_bad=after_bad)
    queue.authors[queue.push({"a": "new"})] = "ann"
    queue.turns()
    for again in (True, True, False):
        for run in [run for run, start in queue.running.items() if start.check.name == "k1"]:
            queue.finish_check(run, Outcome.INFRASTRUCTURE)
        if again:
            queue.wait(11)
            queue.turns()
    for at in range(2, 2 + count):
        push(queue, at)
    queue.turns()
    before = set(queue.runs())
    queue.wait(1)
    queue.finish("k2", 1)
    queue.turns()
    assert set(queue.runs()) - before


def test_who_comes_along_with_another_is_seen_as_soon_as_it_is_ready() -> None:
    """The third meddles with the second only, which shares a path with the first; that turns from red to green at once."""

    def submitted(number: int, path: str, *touches: str) -> Change:
        names = frozenset(map(CheckName, touches))
        return Change(ChangeId(number), 1, Sha(f"h{number}"), "ann", 0.0, paths=frozenset({path}), touches=names)

    def need(check: str, key: str) -> Need:
        return Need(Check(CheckName(check), "true"), InputKey(key))

    first, second, third = submitted(1, "p", "k1"), submitted(2, "p", "k2", "k3"), submitted(3, "z", "k3")
    alone, on_first = (frozenset[ChangeId](), 1), (frozenset({first.id}), 1)
    trials = {
        first.id: {alone: (need("k1", "first"),)},
        second.id: {alone: (need("k2", "second"),), on_first: (need("k2", "second"),)},
    }

    def known(outcome: Outcome) -> Snapshot:
        result = Result(InputKey("first"), CheckName("k1"), outcome, RunId("r"), 0.0, 5.0)
        evidence = {result.key: Evidence().learn(result)}
        outlook = Outlook(clash=0.0)
        return Snapshot(Sha("T"), (first, second, third), trials=trials, evidence=evidence, workers=4, outlook=outlook)

    def pasts(policy: Worthwhile, outcome: Outcome, now: float) -> list[tuple[int, list[int]]]:
        return [(each.change.id, [id_ for id_, _ in each.ahead]) for each in policy(View(known(outcome), now))]

    remembering = Worthwhile()
    pasts(remembering, Outcome.RED, 10.0)
    told = pasts(remembering, Outcome.GREEN, 11.0)
    assert told == pasts(Worthwhile(), Outcome.GREEN, 11.0)
    assert (3, [1, 2]) in told


def test_a_clock_that_is_set_back_is_believed() -> None:
    queue = apart(RUN_S, workers=1)
    push(queue, 1)
    queue.turns()
    queue.end(1, outcome=Outcome.INFRASTRUCTURE)
    queue.wait(6)
    queue.planner.plan(queue.snapshot(), queue.now)
    queue.now -= 5
    queue.turn()
    assert queue.runs() == []


def test_a_batch_and_another_run_do_not_stop_each_other_in_turn() -> None:
    """Worth more than the other one before it starts, the batch is not worth less as soon as it runs."""
    codes = [code("unit", "f1", "f2"), code("other", "f3")]
    queue = queue_of(codes, [0.9] * 3, {"unit": 3641.0, "other": 2500.0}, workers=1)
    for at in upto(3):
        push(queue, at)
    queue.turns()
    assert queue.all_runs()[-1:] == queue.runs() == [(1, 2)]


def test_of_two_pauses_the_one_that_ends_second_is_noticed() -> None:
    queue = apart(*[RUN_S] * 3, workers=8)
    queue.codes = tuple(replace(item, check=item.check._replace(max_age_s=400.0)) for item in queue.codes)
    queue.push({"f1": "new", "f2": "new"})
    push(queue, 3)
    queue.turns()
    queue.finish("c1", 1)  # green for 400 seconds
    for check, change in (("c2", 1), ("c3", 2)):
        queue.turns()
        queue.finish(check, change, Outcome.INFRASTRUCTURE)
    queue.turns()
    for _ in range(2):
        assert queue.told.look_again_at is not None
        queue.now = queue.told.look_again_at
        queue.turns()
    assert ("c3", (2,)) in queue.tested()
