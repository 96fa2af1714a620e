"""What the planner does, as stories over a small symbolic world. Every turn in it is audited (fakes/queue.py)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId
from fakes.queue import TESTS, Code, Edit, World, code
from gate.blame import RETEST_APART_S
from gate.model import (
    Build,
    Cancel,
    Candidate,
    ChangeId,
    Decision,
    Forecast,
    Land,
    Merged,
    Need,
    Outlook,
    Plan,
    Priority,
    Refuse,
    Snapshot,
    Start,
    Verdict,
    Why,
)
from gate.plan import plan
from gate.view import (
    INFRASTRUCTURE_PAUSE_S,
    INFRASTRUCTURE_TRIES,
    RED_TRUNK_RECHECK_S,
    Assessment,
    Known,
    Objection,
    Policy,
    Proposal,
    Standing,
    View,
)

LANDED, REFUSED = Verdict.LANDED, Verdict.REFUSED


def world(*codes_: Code, **settings: Any) -> World:
    """Checks "a" and "b" of the files of these names, unless others are given; a file that says "bad" is red."""
    codes = codes_ or (code("a", "a", breaks=[{"a": "bad"}]), code("b", "b", breaks=[{"b": "bad"}]))
    return World(codes, {"a": "0", "b": "0", "c": "0", "docs": "0"}, **settings)


def one_check(**settings: Any) -> World:
    """One check of a and b: red with either of them bad, and when both are new."""
    return world(code("unit", "a", "b", breaks=[{"a": "bad"}, {"b": "bad"}, {"a": "new", "b": "new"}]), **settings)


def kinds(made: Plan) -> list[type[Decision]]:
    return [type(decision) for decision in made.decisions]


# --- nothing to do ----------------------------------------------------------------------------------------------------


def test_an_empty_queue_needs_nothing() -> None:
    assert world().turn() == Plan()


def test_a_queue_that_only_waits_for_its_runs_needs_nothing_more() -> None:
    queue = world()
    queue.push({"a": "1"})
    made = queue.turns()
    assert queue.whys(1) == [Why.WAITS_FOR_CHECK, Why.WAITS_FOR_CHECK]
    assert made.look_again_at is None


# --- one change -------------------------------------------------------------------------------------------------------


def test_an_unbuilt_change_is_built_then_tested_then_landed() -> None:
    queue = world()
    queue.push({"a": "1"})
    assert kinds(queue.turn())[0] is Build
    assert [type(item) for item in queue.turn().decisions][:2] == [Start, Start]
    queue.finish("a", 1)
    queue.finish("b", 1)
    assert kinds(queue.turn()) == [Land]
    assert queue.verdict(1) is LANDED


def test_a_change_whose_keys_are_green_lands_without_a_run() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"a": "0"})
    queue.settle()
    runs = len(queue.started)
    queue.push({"a": "1"})
    queue.settle()
    assert queue.verdict(3) is LANDED
    assert len(queue.started) == runs


def test_a_red_change_alone_is_refused_once_trunk_is_known_to_be_green() -> None:
    queue = world()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("a", 1)
    queue.turns()
    assert queue.verdict(1) is None
    queue.finish("b", 1)
    queue.turns()
    queue.finish("a", None)
    queue.turns()
    assert queue.verdict(1) is REFUSED
    assert [(reason.why, reason.check) for reason in queue.reasons(1)] == [(Why.CHECK_RED, "a")]


def test_a_red_change_with_an_unknown_base_gets_a_control_run_of_the_red_check_only() -> None:
    queue = world()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("a", 1)
    queue.finish("b", 1)
    queue.turns()
    assert queue.tested() == {("a", ())}


def test_timed_out_counts_as_red() -> None:
    queue = world()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("a", 1, Outcome.TIMED_OUT)
    queue.settle()
    assert queue.verdict(1) is REFUSED


def test_nothing_to_do_is_refused_without_a_run() -> None:
    queue = world()
    queue.push({"a": Edit("9", "0")})
    queue.turns()
    assert queue.whys(1) == [Why.NOTHING_TO_DO]
    assert not queue.started


def test_a_conflict_with_trunk_is_refused_without_a_run() -> None:
    queue = world()
    queue.push({"a": Edit("9", "1")})
    queue.turns()
    assert (queue.verdict(1), queue.whys(1)) == (REFUSED, [Why.CONFLICT])
    assert not queue.started


def test_a_check_waits_for_the_checks_it_needs() -> None:
    queue = world(code("fast", "a"), code("slow", "a", needs=("fast",)))
    queue.push({"a": "1"})
    queue.turns()
    assert queue.tested() == {("fast", (1,))}
    queue.finish("fast", 1)
    queue.turns()
    assert queue.tested() == {("slow", (1,))}


def test_a_check_is_not_run_while_one_that_it_needs_cannot_be() -> None:
    queue = world(code("fast", "a"), code("slow", "a", needs=("fast",)))
    queue.push({"a": "1"})
    for _ in range(INFRASTRUCTURE_TRIES):
        queue.turns()
        queue.finish("fast", 1, Outcome.INFRASTRUCTURE)
        made = queue.turns()
        assert not queue.running
        assert made.look_again_at is not None
        queue.now = min(made.look_again_at, queue.now + 60)


# --- red trunk --------------------------------------------------------------------------------------------------------


def red_trunk(**settings: Any) -> World:
    queue = one_check(**settings)
    queue.move_trunk({"a": "bad"})
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 1)
    queue.turns()
    queue.finish("unit", None)
    queue.turns()
    return queue


def test_on_a_red_trunk_changes_are_held_and_nobody_is_refused() -> None:
    queue = red_trunk()
    assert queue.verdict(1) is None
    assert queue.whys(1) == [Why.TRUNK_RED]


def test_a_red_trunk_is_tested_again_after_a_while() -> None:
    queue = red_trunk()
    made = queue.turns()
    assert made.look_again_at == queue.now + RED_TRUNK_RECHECK_S
    queue.now = made.look_again_at + 1
    queue.turns()
    assert queue.tested() == {("unit", ())}


def test_a_change_that_mends_a_red_trunk_lands_from_behind() -> None:
    queue = red_trunk()
    queue.push({"a": "mended"})
    queue.settle()
    assert queue.landed == [((2, 1),), ((1, 1),)]


def test_a_change_that_mends_a_red_trunk_is_found_behind_however_many_that_are_red() -> None:
    files = [f"f{at}" for at in range(10)]
    queue = world(code("unit", "a", *files, breaks=[{"a": "bad"}]))
    queue.move_trunk({"a": "bad"})
    for name in files:
        queue.push({name: "1"})
    mending = queue.push({"a": "mended"})
    queue.settle()
    assert queue.verdict(mending) is LANDED


def test_red_from_while_trunk_was_red_does_not_refuse_once_trunk_is_green_again() -> None:
    """A service was down: the change and trunk were red. It came back: trunk is green, and the change is asked again."""
    queue = one_check()
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 1, Outcome.RED)
    queue.turns()
    queue.finish("unit", None, Outcome.RED)
    queue.turns()
    assert queue.whys(1) == [Why.TRUNK_RED]
    queue.wait(RED_TRUNK_RECHECK_S + 1)
    queue.turns()
    queue.finish("unit", None)
    queue.turns()
    assert queue.tested() == {("unit", (1,))}
    queue.finish("unit", 1)
    queue.turns()
    assert queue.verdict(1) is LANDED


def test_a_change_that_is_red_again_on_a_trunk_that_is_green_again_is_refused() -> None:
    queue = one_check()
    queue.push({"b": "bad"})
    queue.turns()
    queue.finish("unit", 1)
    queue.turns()
    queue.finish("unit", None, Outcome.RED)
    queue.turns()
    queue.wait(RED_TRUNK_RECHECK_S + 1)
    queue.settle()
    assert queue.verdict(1) is REFUSED


# --- changes that meddle ----------------------------------------------------------------------------------------------


def test_a_change_red_on_top_of_an_undecided_one_is_held() -> None:
    queue = one_check()
    queue.push({"a": "new"})
    queue.push({"b": "new"})
    queue.turns()
    assert queue.tested() == {("unit", (1,)), ("unit", (1, 2))}
    queue.finish("unit", 2)
    queue.turns()
    assert queue.verdict(2) is None
    assert [(reason.why, reason.change) for reason in queue.reasons(2)] == [(Why.WAITS_FOR_CHANGE, 1)]


def test_those_behind_a_red_change_are_tested_without_it() -> None:
    queue = one_check()
    queue.push({"a": "bad"})
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 1)
    queue.turns()
    assert ("unit", (2,)) in queue.tested()
    assert ("unit", (1, 2)) not in queue.tested()


@pytest.mark.parametrize("first", [1, 2])
def test_of_two_changes_that_break_together_exactly_the_first_lands_whichever_result_comes_first(first: int) -> None:
    queue = one_check()
    queue.push({"a": "new"})
    queue.push({"b": "new"})
    queue.turns()
    queue.finish("unit", first)
    queue.turns()
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2)) == (LANDED, REFUSED)


def test_independent_changes_are_tested_side_by_side_and_neither_waits() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"a": "2"})
    queue.push({"b": "2"})
    queue.turns()
    assert queue.tested() == {("a", (2,)), ("b", (3,))}
    queue.finish("b", 3)
    queue.turns()
    assert queue.verdict(3) is LANDED
    assert queue.tested() == {("a", (2,))}


def test_ready_changes_land_together() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"a": "2"})
    queue.push({"b": "2"})
    queue.turns()
    for run in list(queue.running):
        queue.finish_check(run)
    queue.turns()
    assert queue.landed[-1] == ((2, 1), (3, 1))


def test_with_every_commit_each_prefix_that_lands_is_green() -> None:
    queue = one_check(every_commit=True)
    for at in range(3):
        queue.push({"a": Edit(str(at), str(at + 1))})
    queue.turns()
    for run in list(queue.running):
        queue.finish_check(run)
    queue.settle()
    assert [entry for train in queue.landed for entry in train] == [(1, 1), (2, 1), (3, 1)]


def test_a_conflict_with_a_change_ahead_waits_and_is_refused_only_when_that_one_has_landed() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.push({"a": "2"})
    queue.turns()
    (reason,) = queue.reasons(2)
    assert (reason.why, reason.change, reason.paths) == (Why.WAITS_FOR_CHANGE, 1, ("a",))
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2), queue.whys(2)) == (LANDED, REFUSED, [Why.CONFLICT])


def test_a_conflict_with_a_change_ahead_that_leaves_lands() -> None:
    queue = world()
    queue.push({"a": "bad"})
    queue.push({"a": "2"})
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2)) == (REFUSED, LANDED)


@pytest.mark.parametrize("place", [(1, 2), (2, 3), (1, 3), (3, 4)])
def test_changes_that_conflict_though_no_path_tells_do_not_stop_the_others(place: tuple[int, int]) -> None:
    """A renamed folder, and a new file in it: the train of all that is ready cannot be built, and nothing says why."""
    queue = world(code("unit", "z"), clashes={frozenset(map(ChangeId, place))})
    for path in ("a", "b", "c", "docs"):
        queue.push({path: "1"})
    queue.settle()
    lost = ChangeId(place[1])
    assert [queue.verdict(change) for change in range(1, 5) if change != lost] == [LANDED] * 3
    assert queue.whys(lost) == [Why.CONFLICT]


def test_a_change_behind_two_that_secretly_conflict_waits_and_lands_at_last() -> None:
    queue = one_check(clashes={frozenset((ChangeId(1), ChangeId(2)))}, workers=1)
    queue.push({"a": "1", "c": "1"})
    queue.push({"docs": "1"})
    queue.push({"docs": Edit("0", "1"), "c": Edit("1", "2")})
    queue.settle()
    assert queue.verdict(1) is LANDED
    assert queue.whys(2) == [Why.CONFLICT]
    assert queue.verdict(3) is LANDED


def test_what_depends_on_a_change_that_secretly_conflicts_does_not_land_without_it() -> None:
    queue = world(code("unit", "z"), clashes={frozenset((ChangeId(1), ChangeId(2)))})
    queue.push({"a": "1"})
    queue.push({"b": "1"})
    queue.push({"c": "1"}, depends=[2])
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2), queue.whys(3)) == (LANDED, REFUSED, [Why.DEPENDENCY_GONE])


def test_a_change_is_tested_on_all_that_those_it_meddles_with_stand_on() -> None:
    queue = world(workers=8)
    queue.push({"a": "1"})
    queue.push({"a": Edit("1", "2"), "b": "1"})
    queue.push({"b": Edit("1", "2")})
    queue.turns()
    assert ("b", (1, 2, 3)) in queue.tested()


# --- infrastructure errors --------------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_run_is_tried_again_after_growing_pauses_then_held_and_never_refused() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    for tries in range(INFRASTRUCTURE_TRIES):
        queue.turns()
        queue.finish("unit", 1, Outcome.INFRASTRUCTURE)
        made = queue.turns()
        assert not queue.running
        assert queue.whys(1) == [Why.INFRASTRUCTURE]
        is_last = tries == INFRASTRUCTURE_TRIES - 1
        pause = RED_TRUNK_RECHECK_S if is_last else INFRASTRUCTURE_PAUSE_S * 2**tries
        assert made.look_again_at == queue.now + pause
        if not is_last:
            queue.wait(pause)
    queue.retry(1)
    queue.wait(0.5)
    queue.settle()
    assert queue.verdict(1) is LANDED


def test_a_pause_is_remembered_when_trunk_moves_meanwhile() -> None:
    queue = one_check(workers=1)
    queue.push({"a": "1"})
    queue.turns()
    queue.finish("unit", 1, Outcome.INFRASTRUCTURE)
    queue.turns()
    queue.move_trunk({"docs": "1"})
    assert queue.turns().look_again_at == queue.now + INFRASTRUCTURE_PAUSE_S


def test_a_change_whose_check_cannot_be_run_does_not_keep_those_behind_waiting() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.push({"b": "1"})
    cannot_run(queue, "unit", 1)
    queue.turns()
    assert queue.whys(1) == [Why.INFRASTRUCTURE]
    assert queue.tested() == {("unit", (2,))}
    queue.finish("unit", 2)
    queue.turns()
    assert queue.verdict(2) is LANDED


def cannot_run(queue: World, check: str, change: int | None) -> None:
    """Let a check fail to run until a person is asked."""
    for tries in range(INFRASTRUCTURE_TRIES):
        queue.wait(60 * bool(tries))
        queue.turns()
        queue.finish(check, change, Outcome.INFRASTRUCTURE)


def test_trunk_itself_unable_to_run_a_red_check_refuses_nobody() -> None:
    queue = one_check()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("unit", 1)
    cannot_run(queue, "unit", None)
    queue.turns()
    assert queue.whys(1) == [Why.INFRASTRUCTURE]


def test_a_lost_run_is_started_again() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.turns()
    queue.lose_run(next(iter(queue.running)))
    queue.turns()
    assert queue.tested() == {("unit", (1,))}


# --- who may, and when ------------------------------------------------------------------------------------------------


def test_a_draft_is_tested_and_not_landed() -> None:
    queue = one_check()
    queue.push({"a": "1"}, draft=True)
    queue.settle()
    assert queue.started
    assert queue.whys(1) == [Why.DRAFT]


def test_nobody_waits_for_a_draft() -> None:
    queue = one_check()
    queue.push({"a": "1"}, draft=True)
    queue.push({"b": "1"})
    queue.turns()
    assert queue.tested() == {("unit", (2,)), ("unit", (2, 1))}


def test_drafts_do_not_wait_for_each_other() -> None:
    queue = one_check()
    queue.push({"a": "1"}, draft=True)
    queue.push({"b": "1"}, draft=True)
    queue.turns()
    assert queue.tested() == {("unit", (1,)), ("unit", (2,))}


def test_nobody_waits_for_an_approval_of_another_change() -> None:
    queue = one_check()
    queue.push({"a": "1"}, needs_approval=True)
    queue.push({"b": "1"})
    queue.settle()
    assert queue.verdict(2) is LANDED


def test_a_change_held_for_approval_is_not_run_and_lands_when_approved() -> None:
    queue = one_check()
    queue.push({"a": "1"}, needs_approval=True)
    queue.settle()
    assert queue.whys(1) == [Why.NEEDS_APPROVAL]
    assert not queue.merges
    queue.approve(1)
    queue.settle()
    assert queue.verdict(1) is LANDED


def test_while_trunk_is_closed_changes_are_tested_and_not_landed() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.close()
    queue.settle()
    assert queue.whys(1) == [Why.TRUNK_CLOSED]
    queue.open()
    queue.turns()
    assert queue.verdict(1) is LANDED
    assert len(queue.started) == 1


def test_what_mends_the_gate_passes_a_closed_trunk_and_what_is_ahead_of_it() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.push({"b": "1"}, mends_gate=True)
    queue.close("its gate.toml is broken")
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2)) == (None, LANDED)
    assert queue.whys(1) == [Why.TRUNK_CLOSED]


def test_what_mends_the_gate_does_not_take_along_what_it_depends_on() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.push({"b": "1"}, mends_gate=True, depends=[1])
    queue.close("its gate.toml is broken")
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2)) == (None, None)


# --- dependencies and order -------------------------------------------------------------------------------------------


def test_a_change_lands_after_the_one_it_depends_on_whatever_was_pushed_first() -> None:
    queue = world()
    queue.push({"a": "1"}, depends=[2])
    queue.push({"b": "1"})
    queue.settle()
    assert [entry[0] for train in queue.landed for entry in train] == [2, 1]


def test_an_urgent_change_takes_what_it_depends_on_with_it() -> None:
    queue = world()
    for _ in range(2):
        queue.push({"c": str(_)})
    queue.push({"a": "1"}, priority=Priority.LOW)
    queue.push({"b": "1"}, priority=Priority.URGENT, depends=[3])
    assert [change.id for change in View(queue.snapshot(), queue.now).queue] == [3, 4, 1, 2]


def test_what_depends_on_a_refused_change_is_refused() -> None:
    queue = world()
    queue.push({"a": "bad"})
    queue.push({"b": "1"}, depends=[1])
    queue.settle()
    assert queue.whys(2) == [Why.DEPENDENCY_GONE]
    assert queue.reasons(2)[0].detail == "it was refused"


def test_what_depends_on_a_withdrawn_change_is_refused() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.push({"b": "1"}, depends=[1])
    queue.cancel(1)
    queue.turns()
    assert queue.reasons(2)[0].detail == "it was withdrawn"


def test_what_depends_on_an_unknown_change_is_refused() -> None:
    queue = world()
    queue.push({"b": "1"}, depends=[77])
    queue.turns()
    assert (queue.verdict(1), queue.reasons(1)[0].detail) == (REFUSED, "it does not exist")


def test_changes_in_a_circle_are_refused_and_so_is_what_depends_on_them() -> None:
    queue = world()
    queue.push({"a": "1"}, depends=[2])
    queue.push({"b": "1"}, depends=[1])
    queue.push({"c": "1"}, depends=[1])
    queue.push({"docs": "1"}, depends=[4])
    queue.turns()
    assert [queue.verdict(change) for change in (1, 2, 3, 4)] == [REFUSED] * 4
    assert queue.reasons(1)[0].detail == "it depends on itself"
    assert queue.reasons(3)[0].detail == "it was refused"


def test_what_depends_on_a_draft_waits_for_it() -> None:
    queue = world()
    queue.push({"a": "1"}, draft=True)
    queue.push({"b": "1"}, depends=[1])
    queue.settle()
    assert [(reason.why, reason.change) for reason in queue.reasons(2)] == [(Why.WAITS_FOR_CHANGE, 1)]


def test_a_conflict_with_trunk_is_refused_though_a_dependency_has_landed() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"b": "1"}, draft=False)
    queue.push({"b": Edit("0", "2"), "a": Edit("0", "2")}, depends=[1])
    queue.turns()
    assert queue.whys(3) == [Why.CONFLICT]
    assert queue.verdict(2) is None


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ("NORMAL NORMAL", [1, 2]),
        ("NORMAL HIGH", [2, 1]),
        ("LOW NORMAL", [2, 1]),
        ("HIGH URGENT", [2, 1]),
        ("URGENT HIGH", [1, 2]),
    ],
)
def test_the_queue_is_in_order_of_priority_then_of_submission(priorities: str, order: list[int]) -> None:
    queue = one_check()
    for at, name in enumerate(priorities.split()):
        queue.push({"a": Edit("0", "1"), f"f{at}": "1"}, priority=Priority[name])
    queue.settle()
    assert [entry[0] for train in queue.landed for entry in train] == order


# --- workers ----------------------------------------------------------------------------------------------------------


def test_no_more_is_started_than_there_are_workers_and_the_rest_waits_for_one() -> None:
    queue = one_check(workers=2)
    for at in range(4):
        queue.push({"a": Edit(str(at), str(at + 1))})
    queue.turns()
    assert len(queue.running) == 2
    assert queue.whys(3) == [Why.WAITS_FOR_WORKER]


def test_a_free_worker_is_used_however_many_others_are_busy() -> None:
    names = [f"f{at}" for at in range(6)]
    queue = world(*(code(name, name) for name in names), workers=6)
    green_base(queue)
    for name in names:
        queue.push({name: "1"})
        queue.turns()
    assert len(queue.running) == 6


def green_base(queue: World) -> None:
    """Let every check be green on trunk as it is."""
    for item in queue.codes:
        run = RunId(f"base {item.check.name}")
        queue.running[run] = Start(item.check, item.key(queue.tree), Candidate(queue.trunk), "")
        queue.finish_check(run)


def test_one_key_is_run_once_for_all_who_need_it() -> None:
    queue = world(code("a", "a"), workers=8)
    queue.push({"b": "1"})
    queue.push({"c": "1"})
    queue.turns()
    assert len(queue.running) == 1


def test_a_run_that_nobody_needs_any_more_is_cancelled_and_its_worker_used_at_once() -> None:
    queue = one_check(workers=1)
    queue.push({"a": "1"})
    queue.turns()
    queue.cancel(1)
    queue.push({"a": "2"})
    queue.turn()
    assert kinds(queue.told)[0] is Cancel
    queue.turns()
    assert queue.tested() == {("unit", (2,))}


def test_a_new_revision_ends_the_runs_of_the_old_one() -> None:
    queue = one_check(workers=1)
    queue.push({"a": "1"})
    queue.turns()
    queue.push({"a": "2"}, change=1)
    queue.turns()
    assert [start.candidate.entries for start in queue.running.values()] == [((1, 2),)]


def test_runs_go_on_when_trunk_moves_and_their_change_is_not_yet_merged_again() -> None:
    queue = one_check(workers=1)
    queue.push({"a": "1"})
    queue.turns()
    (run,) = queue.running
    queue.move_trunk({"docs": "1"})
    made = queue.turn()
    assert Cancel not in kinds(made)
    assert run in queue.running


def test_a_landing_does_not_cancel_the_runs_of_an_independent_change() -> None:
    queue = world()
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"a": "2"})
    queue.push({"b": "2"})
    queue.turns()
    runs = set(queue.running)
    queue.finish("a", 2)
    queue.turns()
    assert queue.verdict(2) is LANDED
    assert set(queue.running) < runs
    assert len(queue.started) == 4


# --- ages, retries, contradictions ------------------------------------------------------------------------------------


def test_a_green_result_that_is_too_old_is_asked_for_again() -> None:
    queue = world(code("scan", "a", max_age_s=100.0))
    queue.push({"a": "1"})
    queue.close()
    queue.settle()
    queue.wait(101)
    queue.open()
    queue.turns()
    assert queue.verdict(1) is None
    assert queue.tested() == {("scan", (1,))}


def test_a_red_result_from_before_a_green_one_is_not_told_when_that_one_is_too_old() -> None:
    queue = world(code("scan", "a", max_age_s=100.0))
    queue.push({"a": "1"})
    queue.close()
    queue.turns()
    queue.finish("scan", 1, Outcome.RED)
    key = next(iter(queue.store))
    queue.store[key].append(queue.store[key][0]._replace(outcome=Outcome.GREEN, finished_at=queue.now + 1))
    queue.wait(200)
    queue.turns()
    assert queue.tested() == {("scan", (1,))}


@pytest.mark.parametrize("max_age_s", [30.0, 60.0, 90.0, 130.0, 200.0, None])
def test_two_that_fail_the_same_test_are_refused_however_soon_a_result_is_too_old(max_age_s: float | None) -> None:
    lint = code("lint", "a", "b", breaks=[{"a": "1"}], max_age_s=max_age_s, retest=True)
    queue = World((lint,), {"a": "0", "b": "0"}, workers=4, outlook=Outlook(flakes={CheckName("lint"): 0.01}))
    began = queue.now
    queue.push({"a": "1"})
    queue.push({"a": "1"})
    while queue.state.waiting and queue.now < began + 1_800.0:
        made = queue.turns()
        if queue.running:
            queue.finish_check(next(iter(queue.running)))
        elif made.look_again_at is not None:
            queue.now = max(queue.now, made.look_again_at)
    assert (queue.verdict(1), queue.verdict(2)) == (REFUSED, REFUSED)
    assert len(queue.started) <= 12


def test_after_a_retry_trunk_is_asked_anew_though_it_was_green_once() -> None:
    """A service is down for good: what trunk was before that says nothing of it now."""
    queue = one_check()
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 1, Outcome.RED)
    queue.turns()
    queue.finish("unit", None)
    queue.turns()
    assert queue.verdict(1) is REFUSED
    queue.wait(10.0)
    queue.retry(1)
    queue.turns()
    queue.finish("unit", 1, Outcome.RED)
    queue.turns()
    assert queue.tested() == {("unit", ())}
    queue.finish("unit", None, Outcome.RED)
    queue.turns()
    assert queue.whys(1) == [Why.TRUNK_RED]


def test_a_retry_reopens_a_refused_change_and_runs_the_red_check_again() -> None:
    queue = one_check()
    queue.push({"a": "bad"})
    queue.settle()
    assert queue.verdict(1) is REFUSED
    queue.wait(1)
    queue.retry(1)
    queue.turns()
    assert queue.tested() == {("unit", (1,))}


def test_green_beside_red_of_one_key_counts_as_green() -> None:
    queue = one_check()
    queue.push({"a": "1"})
    queue.turns()
    queue.finish("unit", 1, Outcome.RED)
    key = next(iter(queue.store))
    queue.store[key].append(queue.store[key][0]._replace(outcome=Outcome.GREEN))
    queue.turns()
    assert queue.verdict(1) is LANDED


# --- landing and what goes with it ------------------------------------------------------------------------------------


def test_nothing_is_merged_onto_a_trunk_that_the_same_plan_leaves_behind() -> None:
    queue = world(workers=1)
    queue.push({"a": "1"})
    queue.settle()
    queue.push({"a": "2"})
    queue.turns()
    queue.finish("a", 2)
    for at in range(5):
        queue.push({f"f{at}": "1"})
    made = queue.turn()
    while Land not in kinds(made):
        made = queue.turn()
    assert Build not in kinds(made)


def test_a_change_retried_while_another_lands_is_started_on_the_new_trunk() -> None:
    """Its last candidate was dropped with its refusal, so nothing keeps that candidate once trunk has moved."""
    queue = world(workers=3)
    green_base(queue)
    queue.push({"a": "1"})
    queue.push({"b": "bad"})
    queue.turns()
    queue.finish("b", 2)
    queue.turns()
    assert queue.verdict(2) is REFUSED
    queue.wait(1)
    queue.retry(2)
    queue.finish("a", 1)
    assert kinds(queue.turn())[0] is Land
    queue.turns()
    assert queue.tested() == {("b", (2,))}


# --- proposals that the core objects to -------------------------------------------------------------------------------


def objections() -> Iterator[tuple[Objection, Snapshot, Proposal]]:
    queue = one_check()
    one, two = queue.push({"a": "1"}), queue.push({"b": "1"}, depends=[1])
    held = queue.push({"c": "1"}, needs_approval=True)
    snapshot = queue.snapshot()
    changes = {change.id: change for change in snapshot.changes}
    first, second, third = (changes[id_] for id_ in (one, two, held))
    yield Objection.NOT_WAITING, snapshot, Proposal(replace(first, revision=2))
    yield Objection.NOT_WAITING, snapshot, Proposal(first, ((ChangeId(9), 1),))
    yield Objection.NOT_WAITING, snapshot, Proposal(second, ((one, 7),))
    yield Objection.TWICE, snapshot, Proposal(first, (first.entry,))
    yield Objection.MAY_NOT_RUN, snapshot, Proposal(third)
    yield Objection.MAY_NOT_RUN, snapshot, Proposal(first, (third.entry,))
    yield Objection.DEPENDENCY_MISSING, snapshot, Proposal(second)


@pytest.mark.parametrize(("objection", "snapshot", "proposal"), list(objections()))
def test_the_core_names_what_is_wrong_with_a_proposal_and_does_nothing_with_it(
    objection: Objection, snapshot: Snapshot, proposal: Proposal
) -> None:
    assert View(snapshot, 0.0).objection(proposal.change, proposal.ahead) is objection
    made = plan(snapshot, 0.0, lambda view: [proposal])
    assert not any(isinstance(decision, Build | Start | Land | Refuse) for decision in made.decisions)


def test_no_policy_is_taken_at_its_word_for_a_verdict() -> None:
    """It says of a change what is true of another, or of nothing: that it is green on trunk, though it depends on one that
    waits; that a check is red which nobody has."""
    queue = world(code("one", "a"), code("two", "b"), workers=4)
    queue.push({"a": "1"})
    queue.push({"b": "1"}, depends=[1])
    second = Candidate(queue.trunk, ((ChangeId(2), 1),))
    for candidate in (Candidate(queue.trunk), second):
        queue._build(candidate)
    merged = queue.merges[second]
    assert isinstance(merged, Merged)
    for need in merged.needs:
        queue.store[need.key] = [Result(need.key, need.check.name, Outcome.GREEN, RunId(f"x{need.key}"), 0.0, queue.now)]
    snapshot = queue.snapshot()
    one, two = snapshot.changes
    alone = (frozenset[ChangeId](), 1)

    def green(view: View) -> Iterator[Proposal]:
        known = Known(one, (), alone, merged.needs, view.assess(second), view, is_trial=False)
        yield Proposal(two, known=known)

    def unobjectionable(view: View) -> Iterator[Proposal]:
        known = Known(two, (), alone, merged.needs, view.assess(second), view, is_trial=False)
        known.objection = None
        yield Proposal(two, known=known)

    def red(view: View) -> Iterator[Proposal]:
        need = Need(Check(CheckName("invented"), "true"), InputKey("x"))
        result = Result(need.key, need.check.name, Outcome.RED, RunId("r"), 0.0, queue.now)
        assessed = Assessment(Standing.RED, red=((need, result),))
        yield Proposal(one, known=Known(one, (), alone, (need,), assessed, view, is_trial=False))

    for policy in (green, unobjectionable, red):
        made = plan(snapshot, queue.now, policy)
        assert not any(isinstance(decision, Land | Refuse) for decision in made.decisions)


def proposing(*candidates: tuple[int, ...]) -> Policy:
    """A policy that proposes candidates of these changes, each for its last one."""

    def policy(view: View) -> Iterator[Proposal]:
        for numbers in candidates:
            changes = [view.waiting.get(ChangeId(number)) for number in numbers]
            entries = tuple(change.entry for change in changes if change is not None)
            if changes[-1] is not None and len(entries) == len(numbers):
                yield Proposal(changes[-1], entries[:-1])

    return policy


def run_all(queue: World, policy: Policy) -> None:
    """Finish all that the policy leads to, without landing anything."""
    queue.close()
    for _ in range(20):
        queue.turn(policy)
        for run in list(queue.running):
            queue.finish_check(run)
    queue.open()


def test_a_change_is_refused_or_lands_and_never_both_however_often_it_is_proposed() -> None:
    """The third is red by itself and green on top of the second; both are known at the same moment."""
    queue = world(code("unit", "a", "b", breaks=[{"a": "0", "b": "new"}]), workers=8)
    queue.push({"b": "new"})
    queue.settle()  # refused; so trunk is known to be green without it
    queue.wait(1)
    queue.push({"a": "1"})
    queue.push({"b": "new"})
    policy = proposing((2,), (3,), (2, 3))
    queue.turn(policy)
    queue.turn(policy)
    assert queue.tested() == {("unit", (2,)), ("unit", (3,)), ("unit", (2, 3))}
    for run in list(queue.running):
        queue.finish_check(run)
    queue.turn(policy)
    assert (queue.verdict(2), queue.verdict(3)) == (LANDED, REFUSED)


def test_a_policy_cannot_land_a_change_on_top_of_one_that_is_held() -> None:
    queue = one_check(workers=8)
    queue.push({"a": "1"}, draft=True)
    queue.push({"b": "1"})
    policy = proposing((1,), (1, 2))
    run_all(queue, policy)
    queue.turn(policy)
    assert [(reason.why, reason.change) for reason in queue.reasons(2)] == [(Why.WAITS_FOR_CHANGE, 1)]


def test_a_policy_cannot_take_other_changes_through_a_closed_trunk() -> None:
    queue = one_check(workers=8)
    queue.push({"a": "1"})
    queue.push({"b": "1"}, mends_gate=True)
    policy = proposing((1,), (1, 2))
    run_all(queue, policy)
    queue.close()
    queue.turn(policy)
    assert queue.whys(2) == [Why.TRUNK_CLOSED]


def test_with_every_commit_a_train_lands_only_as_far_as_each_prefix_is_green() -> None:
    """The second alone is green, on top of the first it is red, and the third mends that."""
    queue = world(code("unit", "a", "b", "c", breaks=[{"a": "new", "b": "new", "c": "0"}]), workers=8, every_commit=True)
    queue.push({"a": "new"})
    queue.push({"b": "new"})
    queue.push({"c": "1"})
    policy = proposing((1,), (2,), (1, 2, 3))
    run_all(queue, policy)
    queue.turn(policy)
    queue.turn(policy)
    assert queue.landed == [((1, 1),)]


# --- verdicts by odds -------------------------------------------------------------------------------------------------

FLAKY = Outlook(flakes={CheckName("unit"): 0.05})


def flaky(outlook: Outlook = FLAKY, **settings: Any) -> World:
    """One check that names what failed and can run just that, green on trunk, and known to be red for nothing at times."""
    unit = code("unit", "a", "b", "c", breaks=[{"a": "bad"}, {"b": "bad"}], retest=True)
    queue = world(unit, outlook=outlook, **settings)
    green_base(queue)
    return queue


def red_by_accident(queue: World) -> World:
    """One change, which is red though nothing is wrong with it."""
    queue.push({"a": "1"})
    queue.turns()
    queue.finish("unit", 1, Outcome.RED)
    return queue


def waits_until(queue: World) -> float:
    """Let time pass until the gate wants to look again; how long that is."""
    moment = queue.turns().look_again_at
    assert moment is not None
    before, queue.now = queue.now, max(queue.now, moment)
    return queue.now - before


def test_red_that_may_be_nobodys_fault_refuses_nobody_and_says_how_likely_that_is() -> None:
    queue = red_by_accident(flaky())
    made = queue.turns()
    (reason,) = queue.reasons(1)
    assert (queue.verdict(1), queue.running) == (None, {})
    assert (reason.why, reason.check, reason.tests) == (Why.WAITS_FOR_CHECK, "unit", TESTS[:1])
    assert sum(chance for _, chance in reason.odds) == pytest.approx(1)
    assert 0.2 < dict(reason.odds)["a flake"] < 0.4
    assert made.look_again_at == queue.now + RETEST_APART_S


def test_only_the_failed_tests_run_again_apart_in_time_and_the_change_lands_when_they_passed_more_often_than_not() -> None:
    queue = red_by_accident(flaky())
    runs = len(queue.started)
    for _ in range(2):
        assert queue.verdict(1) is None
        assert waits_until(queue) == RETEST_APART_S
        queue.turns()
        queue.finish("unit", 1)
    queue.turns()
    assert queue.verdict(1) is LANDED
    assert [start.tests for start in queue.started[runs:]] == [TESTS[:1]] * 2


def test_red_again_and_again_is_refused_with_how_often_it_was_and_the_odds() -> None:
    queue = flaky()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("unit", 1)
    while queue.verdict(1) is None:
        assert waits_until(queue) >= RETEST_APART_S
        queue.turns()
        queue.finish("unit", 1)
        queue.turns()
    (reason,) = queue.reasons(1)
    assert (reason.why, reason.tests) == (Why.CHECK_RED, TESTS[:1])
    assert reason.detail.startswith("red 4 times in ")
    assert reason.odds[0][0] == "the change"
    assert reason.odds[0][1] > 1 - queue.snapshot().max_false_refusals
    assert len(queue.started) == 4


def test_a_new_revision_starts_with_a_clean_slate_and_a_whole_run() -> None:
    queue = red_by_accident(flaky())
    queue.turns()
    queue.push({"a": "2"}, change=1)
    queue.turns()
    assert [(start.candidate.entries, start.tests) for start in queue.running.values()] == [(((1, 2),), ())]


def test_with_odds_that_nothing_flakes_the_first_red_on_a_green_trunk_refuses() -> None:
    queue = red_by_accident(flaky(Outlook()))
    queue.turns()
    assert queue.whys(1) == [Why.CHECK_RED]


def test_a_check_that_cannot_run_single_tests_is_believed_until_it_was_once_red_for_nothing() -> None:
    for steady, verdict in (({"unit"}, REFUSED), (set(), None)):
        queue = one_check(outlook=replace(FLAKY, steady=frozenset(map(CheckName, steady))))
        green_base(queue)
        red_by_accident(queue)
        queue.turns()
        assert queue.verdict(1) is verdict


def test_a_check_that_can_run_single_tests_is_not_believed_at_once_though_it_was_never_red_for_nothing() -> None:
    queue = red_by_accident(flaky(replace(FLAKY, steady=frozenset({CheckName("unit")}))))
    queue.turns()
    assert queue.verdict(1) is None


def test_the_whole_check_again_waits_for_a_free_worker_and_single_tests_do_not() -> None:
    for retest in (False, True):
        unit = code("unit", "a", "b", retest=retest)
        other = code("other", "c", "docs")
        queue = world(unit, other, outlook=FLAKY, workers=1)
        green_base(queue)
        red_by_accident(queue)
        queue.turns()
        queue.push({"c": "1"})
        queue.turns()
        queue.wait(RETEST_APART_S)
        queue.turns()
        expected = {("unit", (1,))} if retest else {("other", (2,))}
        assert queue.tested() == expected


def test_a_red_on_top_of_an_undecided_change_is_run_again_when_most_likely_neither_is_at_fault() -> None:
    """Each is fine with 99.9 %, and one run of 20 is red for nothing: those behind need not be tested without it all."""
    sure = {ChangeId(change): Forecast(0.999) for change in (1, 2)}
    queue = flaky(replace(FLAKY, forecasts=sure, clash=0.001))
    queue.push({"a": "1"})
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 2, Outcome.RED)
    queue.turns()
    assert Why.WAITS_FOR_CHANGE in queue.whys(2)
    queue.wait(RETEST_APART_S)
    queue.turns()
    assert [start.tests for start in queue.running.values() if start.candidate.entries[-1][0] == 2] == [TESTS[:1]]


def test_a_red_on_top_of_a_change_that_may_well_be_bad_is_not_run_again() -> None:
    queue = flaky(replace(FLAKY, forecasts={ChangeId(1): Forecast(0.6)}))
    queue.push({"a": "1"})
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 2, Outcome.RED)
    queue.wait(RETEST_APART_S)
    queue.turns()
    assert not any(start.tests for start in queue.started)


def test_a_retest_that_cannot_be_run_is_paused_then_a_person_is_asked_and_the_change_is_never_refused() -> None:
    queue = red_by_accident(flaky())
    for tries in range(INFRASTRUCTURE_TRIES):
        queue.wait(RETEST_APART_S)
        queue.turns()
        assert [start.tests for start in queue.running.values()] == [TESTS[:1] if tries == 0 else ()]
        queue.finish("unit", 1, Outcome.INFRASTRUCTURE)
        queue.turns()
        assert not queue.running
    assert (queue.verdict(1), queue.whys(1)) == (None, [Why.INFRASTRUCTURE])
    queue.wait(RED_TRUNK_RECHECK_S)
    queue.turns()
    queue.finish("unit", 1)
    queue.turns()
    assert queue.verdict(1) is LANDED


def test_after_a_retry_reds_from_before_do_not_count_against_the_change_but_their_tests_have_to_pass() -> None:
    queue = flaky()
    queue.push({"a": "bad"})
    queue.turns()
    queue.finish("unit", 1)
    queue.wait(RETEST_APART_S)
    queue.turns()
    queue.finish("unit", 1)
    queue.wait(1)
    queue.retry(1)
    queue.turns()
    assert [start.tests for start in queue.running.values()] == [()]
    queue.finish("unit", 1)
    made = queue.turns()
    assert queue.verdict(1) is None  # the third red in all, and the first that counts
    assert made.look_again_at == queue.now + RETEST_APART_S


def test_on_a_red_trunk_nobody_is_refused_however_often_it_is_red_and_the_odds_are_told() -> None:
    queue = flaky()
    queue.move_trunk({"a": "bad"})
    queue.push({"c": "1"})
    for _ in range(12):
        for run in list(queue.running):
            queue.finish_check(run)
        queue.turns()
        queue.wait(RETEST_APART_S)
    (reason,) = queue.reasons(1)
    assert (queue.verdict(1), reason.why) == (None, Why.TRUNK_RED)
    assert reason.odds[0][0] == "trunk"


def test_a_fault_on_trunk_that_shows_now_and_then_is_looked_for_there_before_a_sure_change_is_refused() -> None:
    queue = flaky(replace(FLAKY, flakes={CheckName("unit"): 0.001}, forecasts={ChangeId(1): Forecast(0.999)}))
    red_by_accident(queue)
    queue.turns()
    for _ in range(3):
        if any(not start.candidate.entries for start in queue.running.values()):
            break
        for run in list(queue.running):
            queue.finish_check(run, Outcome.RED)
        queue.wait(RETEST_APART_S * 4)
        queue.turns()
    assert [(start.candidate.entries, start.tests) for start in queue.running.values()] == [((), TESTS[:1])]
    queue.finish("unit", None, Outcome.RED)
    queue.turns()
    assert (queue.verdict(1), queue.whys(1)) == (None, [Why.TRUNK_RED])


def test_tests_that_trunk_does_not_have_are_not_asked_for_there_without_end() -> None:
    queue = flaky(replace(FLAKY, flakes={CheckName("unit"): 0.001}, forecasts={ChangeId(1): Forecast(0.999)}))
    queue.push({"a": "bad"})
    for _ in range(60):
        queue.turns()
        for run, start in list(queue.running.items()):
            on_trunk = not start.candidate.entries
            queue.finish_check(run, Outcome.INFRASTRUCTURE if on_trunk and start.tests else None)
        queue.wait(RETEST_APART_S)
    assert queue.verdict(1) is REFUSED
    assert sum(not start.candidate.entries for start in queue.started) <= 1


def two_who_fail_the_same_test(edits: Iterable[dict[str, str]]) -> World:
    """Each by itself, again and again, until trunk is asked."""
    queue = flaky()
    for change in edits:
        queue.push(change)
        queue.turns()
        for run in list(queue.running):
            queue.finish_check(run, Outcome.RED)
    while not any(not start.candidate.entries for start in queue.running.values()):
        queue.wait(RETEST_APART_S)
        queue.turns()
        assert queue.state.verdicts == {}
        for run, start in list(queue.running.items()):
            if start.candidate.entries:
                queue.finish_check(run, Outcome.RED)
    return queue


def test_a_test_that_fails_for_others_too_is_run_on_trunk_and_when_it_fails_there_nobody_is_refused() -> None:
    """A fault that shows now and then has landed, by luck: all who come after it are red for it."""
    queue = two_who_fail_the_same_test([{"a": "1"}, {"b": "1"}])
    assert [(start.candidate.entries, start.tests) for start in queue.running.values()] == [((), TESTS[:1])]
    queue.finish("unit", None, Outcome.RED)
    queue.turns()
    assert queue.state.verdicts == {}
    assert [queue.whys(change) for change in (1, 2)] == [[Why.TRUNK_RED]] * 2


def test_a_test_that_fails_for_others_too_convicts_when_it_passed_on_trunk_as_often_as_it_failed() -> None:
    queue = two_who_fail_the_same_test([{"a": "bad"}, {"b": "bad"}])
    reds = sum(result.outcome is Outcome.RED for result in queue.store[queue.started[0].key])
    queue.settle()
    assert (queue.verdict(1), queue.verdict(2)) == (REFUSED, REFUSED)
    assert sum(not start.candidate.entries for start in queue.started) == reds


def test_a_red_that_others_have_only_together_with_the_change_does_not_speak_for_it() -> None:
    queue = flaky(Outlook())
    queue.push({"a": "bad"})
    queue.push({"b": "1"})
    queue.turns()
    queue.finish("unit", 2)
    queue.finish("unit", 1)
    queue.turns()
    assert queue.verdict(1) is REFUSED


def test_when_single_tests_could_not_be_run_the_whole_check_is_run_from_then_on() -> None:
    queue = red_by_accident(flaky())
    for outcome, tests in ((Outcome.INFRASTRUCTURE, TESTS[:1]), (Outcome.RED, ()), (Outcome.GREEN, ())):
        queue.wait(2 * RETEST_APART_S)
        queue.turns()
        assert [start.tests for start in queue.running.values()] == [tests]
        queue.finish("unit", 1, outcome)
    queue.turns()
    assert queue.verdict(1) is LANDED


def test_failures_to_run_it_from_before_the_last_outcome_do_not_add_up_to_a_machine_that_cannot() -> None:
    queue = flaky(replace(FLAKY, flakes={CheckName("unit"): 0.5}))
    queue.push({"a": "1"})
    for outcome in (Outcome.INFRASTRUCTURE, Outcome.INFRASTRUCTURE, Outcome.RED, Outcome.INFRASTRUCTURE):
        queue.wait(2 * RETEST_APART_S)
        queue.turns()
        queue.finish("unit", 1, outcome)
    made = queue.turns()
    assert queue.whys(1) == [Why.WAITS_FOR_CHECK]
    assert made.look_again_at == queue.now + RETEST_APART_S


def test_what_passed_before_another_red_still_counts() -> None:
    queue = red_by_accident(flaky())
    passed, failed = Outcome.GREEN, Outcome.RED
    for outcome in (passed, failed, passed, passed):
        assert queue.verdict(1) is None
        queue.wait(2 * RETEST_APART_S)
        queue.turns()
        queue.finish("unit", 1, outcome)
        queue.turns()
    assert queue.verdict(1) is LANDED


# --- what mends a red trunk -------------------------------------------------------------------------------------------


def test_who_says_that_it_mends_a_red_trunk_is_tested_and_lands_before_all_others_who_are_told() -> None:
    queue = red_trunk()
    for at in range(3):
        queue.push({f"f{at}": "1"})
    mending = queue.push({"a": "mended"}, fixes_trunk=True)
    queue.turns()
    assert ("unit", (mending,)) in queue.tested()
    assert Why.TRUNK_RED not in queue.whys(mending)
    assert all(Why.TRUNK_RED in queue.whys(change) for change in range(1, mending))
    queue.finish("unit", mending)
    queue.turns()
    assert queue.landed[0] == ((mending, 1),)


def test_with_one_worker_what_mends_a_red_trunk_takes_it_from_whatever_runs() -> None:
    queue = red_trunk(workers=1)
    queue.push({"b": "2"})
    queue.turns()
    assert queue.tested() == {("unit", (2,))}
    mending = queue.push({"a": "mended"}, fixes_trunk=True)
    queue.turns()
    assert queue.tested() == {("unit", (mending,))}


def test_who_has_nothing_to_do_with_what_is_red_does_not_pass_the_queue_by_saying_so() -> None:
    queue = world(workers=1)
    queue.move_trunk({"a": "bad"})
    queue.push({"b": "1"})
    queue.turns()
    queue.settle()
    queue.push({"b": "2"}, fixes_trunk=True)
    queue.turns()
    assert [change.id for change in View(queue.snapshot(), queue.now).queue] == [1, 2]
    assert not View(queue.snapshot(), queue.now).mends_trunk(queue.snapshot().changes[-1])
    assert Why.TRUNK_RED in queue.whys(2)


def test_on_a_green_trunk_nobody_passes_the_queue_by_saying_that_it_mends_trunk() -> None:
    queue = one_check(workers=1)
    green_base(queue)
    queue.push({"a": "1"})
    queue.turns()
    queue.push({"b": "1"}, fixes_trunk=True)
    queue.turns()
    assert queue.tested() == {("unit", (1,))}


def test_what_claims_to_mend_a_red_trunk_and_does_not_stops_nobody_who_does() -> None:
    queue = red_trunk()
    claiming = queue.push({"a": Edit("bad", "mended"), "b": Edit("0", "bad")}, fixes_trunk=True)
    mending = queue.push({"a": "mended"})
    queue.settle()
    assert queue.verdict(mending) is LANDED
    assert queue.verdict(claiming) is REFUSED
