"""What is kept from plan to plan is what would be found anew: an answer stays while its facts do, and not for longer."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha
from gate.known import Knowledge
from gate.model import Candidate, Change, ChangeId, Evidence, Merged, Need, Reason, Running, Snapshot, Unmerged, Why
from gate.view import Known, Standing, View

CHECK = Check(CheckName("unit"), "true", max_age_s=100.0)
NEED = Need(CHECK, InputKey("k"))
ALONE = (frozenset[ChangeId](), 1)
NOW = 1_000.0


def change(number: int, **traits: Any) -> Change:
    return Change(ChangeId(number), 1, Sha(f"h{number}"), "ann", 0.0, touches=frozenset({CHECK.name}), **traits)


ONE, TWO = change(1), change(2)
BARE = Snapshot(Sha("trunk"), (ONE, TWO))
TRIED = replace(BARE, trials={ONE.id: {ALONE: (NEED,)}})


def result(outcome: Outcome, at: float = NOW) -> Result:
    return Result(NEED.key, CHECK.name, outcome, RunId(f"r {outcome} {at}"), at - 10, at)


GREEN = replace(TRIED, evidence={NEED.key: Evidence().learn(result(Outcome.GREEN))})
STUCK = replace(TRIED, evidence={NEED.key: Evidence().learn(result(Outcome.INFRASTRUCTURE))})
UNDER_WAY = replace(TRIED, running=(Running(RunId("r"), CHECK.name, NEED.key, NOW),))
MERGED = replace(BARE, merges={Candidate(BARE.trunk, (ONE.entry,)): Merged(Sha("m"), Sha("t"), (NEED,))})
CLASHING = replace(BARE, merges={Candidate(BARE.trunk, (ONE.entry,)): Unmerged(Reason(Why.CONFLICT))})


class Asking:
    """Asks for the first change on trunk alone, plan after plan."""

    def __init__(self) -> None:
        self.knowledge = Knowledge()

    def plan(self, snapshot: Snapshot, now: float = NOW) -> tuple[Known, set[ChangeId]]:
        altered = self.knowledge.follow(View(snapshot, now))
        known = self.knowledge.at(snapshot.changes[0], (), ALONE)
        self.knowledge.finish()
        return known, altered


@pytest.mark.parametrize("snapshot", [BARE, TRIED, GREEN, STUCK, UNDER_WAY, MERGED, CLASHING])
def test_the_same_facts_in_other_objects_give_the_same_answer(snapshot: Snapshot) -> None:
    asking = Asking()
    first, _ = asking.plan(snapshot)
    again, altered = asking.plan(
        replace(
            snapshot,
            changes=tuple(replace(each) for each in snapshot.changes),
            trials={id_: dict(assumed) for id_, assumed in snapshot.trials.items()},
            evidence={key: replace(known) for key, known in snapshot.evidence.items()},
            running=tuple(replace(run) for run in snapshot.running),
            merges=dict(snapshot.merges),
        )
    )
    assert (again, altered) == (first, set())


@pytest.mark.parametrize(
    ("before", "after", "standing"),
    [
        (BARE, TRIED, Standing.UNKNOWN),
        (TRIED, BARE, Standing.UNBUILT),
        (TRIED, GREEN, Standing.GREEN),
        (GREEN, TRIED, Standing.UNKNOWN),
        (BARE, MERGED, Standing.UNKNOWN),
        (BARE, CLASHING, Standing.UNMERGED),
        (MERGED, BARE, Standing.UNBUILT),
        (MERGED, CLASHING, Standing.UNMERGED),
        (MERGED, replace(MERGED, trunk=Sha("other")), Standing.UNBUILT),
    ],
)
def test_another_fact_gives_another_answer_and_the_old_one_is_told_to_be_old(
    before: Snapshot, after: Snapshot, standing: Standing
) -> None:
    asking = Asking()
    old, _ = asking.plan(before)
    new, altered = asking.plan(after)
    assert (new.standing, altered) == (standing, {ONE.id})
    assert (old.is_current, new.is_current) == (False, True)


def test_that_a_run_begins_is_known_and_that_it_begins_anew_and_that_it_ends() -> None:
    asking = Asking()
    begun_again = replace(UNDER_WAY, running=(replace(UNDER_WAY.running[0], run=RunId("r2"), started_at=NOW + 1),))
    told = [asking.plan(snapshot)[0].runs for snapshot in (TRIED, UNDER_WAY, begun_again, TRIED)]
    assert told == [(), UNDER_WAY.running, begun_again.running, ()]


def test_time_alone_makes_a_green_result_too_old_and_ends_a_pause() -> None:
    asking = Asking()
    assert [asking.plan(GREEN, at)[0].standing for at in (NOW, NOW + 99, NOW + 101)] == [
        Standing.GREEN,
        Standing.GREEN,
        Standing.UNKNOWN,
    ]
    asking = Asking()
    assert [bool(asking.plan(STUCK, at)[0].assessment.open) for at in (NOW, NOW + 4, NOW + 6)] == [False, False, True]


def test_facts_that_are_altered_in_place_are_seen() -> None:
    evidence: dict[InputKey, Evidence] = {}
    merges: dict[Candidate, Any] = {}
    asking = Asking()
    told = [asking.plan(replace(TRIED, evidence=evidence))[0].standing]
    evidence[NEED.key] = Evidence().learn(result(Outcome.RED))
    told.append(asking.plan(replace(TRIED, evidence=evidence))[0].standing)
    assert told == [Standing.UNKNOWN, Standing.RED]
    asking = Asking()
    told = [asking.plan(replace(BARE, merges=merges))[0].standing]
    merges[Candidate(BARE.trunk, (TWO.entry,))] = Merged(Sha("m2"), Sha("t2"), ())
    told.append(asking.plan(replace(BARE, merges=merges))[0].standing)
    merges |= MERGED.merges
    told.append(asking.plan(replace(BARE, merges=merges))[0].standing)
    assert told == [Standing.UNBUILT, Standing.UNBUILT, Standing.UNKNOWN]


@pytest.mark.parametrize("gone", [(ONE,), (ONE, change(2, fixes_trunk=True)), ()])
def test_what_speaks_of_a_change_that_has_left_or_is_another_now_is_dropped(gone: Iterable[Change]) -> None:
    knowledge = Knowledge()
    knowledge.follow(View(BARE, NOW))
    on_top = knowledge.at(ONE, (TWO.entry,), (frozenset({TWO.id}), 1))
    alone = knowledge.at(TWO, (), ALONE)
    knowledge.finish()
    altered = knowledge.follow(View(replace(BARE, changes=tuple(gone)), NOW))
    assert (on_top.is_current, alone.is_current) == (False, False)
    assert altered == ({ONE.id} if ONE in gone else set())


def test_what_nobody_asks_for_again_when_a_change_is_looked_at_anew_is_forgotten() -> None:
    knowledge = Knowledge()
    knowledge.follow(View(BARE, NOW))
    alone, on_top = knowledge.at(ONE, (), ALONE), knowledge.at(ONE, (TWO.entry,), (frozenset({TWO.id}), 1))
    knowledge.finish()
    knowledge.follow(View(BARE, NOW))
    knowledge.renew(ONE.id)
    assert knowledge.at(ONE, (), ALONE) is alone
    knowledge.finish()
    assert (alone.is_current, on_top.is_current) == (True, False)


def test_a_change_with_nothing_ahead_is_looked_at_on_trunk_as_it_is_first_and_only_where_it_was_merged() -> None:
    here, then = Candidate(BARE.trunk, (ONE.entry,)), Candidate(Sha("earlier"), (ONE.entry,))
    merged = Merged(Sha("m"), Sha("t"), (NEED,))
    both = replace(BARE, alone={ONE.id: then}, merges={then: merged, here: merged})
    assert [*View(both, NOW).alone(ONE)] == [here, then]
    assert [*View(replace(both, merges={then: merged}), NOW).alone(ONE)] == [then]
    assert [*View(replace(both, merges={here: merged, then: Unmerged(Reason(Why.CONFLICT))}), NOW).alone(ONE)] == [here]
    assert [*View(replace(both, alone={}), NOW).alone(ONE)] == [here]
    assert [*View(both, NOW).alone(replace(ONE, revision=2))] == []
