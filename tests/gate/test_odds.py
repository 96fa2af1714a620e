"""What is learned of changes, checks and tests: by hand where a figure can be told, and on histories with a known truth."""

import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import exp
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.model import CheckName, InputKey, Outcome, Result, RunId, Sha, TestCase
from fakes.histories import History, Team, Told
from gate import flakes as flakes_module
from gate import odds as odds_module
from gate.flakes import Flakes
from gate.model import (
    Change,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Event,
    Landed,
    LandingStarted,
    Outlook,
    Reason,
    RetryRequested,
    RunFinished,
    RunStarted,
    Submission,
    Why,
)
from gate.odds import Odds, Traits, reliability

UNIT, LINT, E2E = CheckName("unit"), CheckName("lint"), CheckName("e2e")


def change(number: int, *touches: CheckName, by: str = "ann", files: int = 3, revision: int = 1) -> Change:
    paths = frozenset(str(place) for place in range(files))
    head = Sha(f"h{number}.{revision}")
    return Change(ChangeId(number), revision, head, by, 0.0, paths=paths, touches=frozenset(touches or (UNIT, LINT)))


class Teller:
    """Tells odds a history, step by step. Every step is one that the gate could have written."""

    def __init__(self, odds: Odds | None = None) -> None:
        self.odds = odds or Odds()
        self.runs = 0

    def submit(self, item: Change, lines: int | None = None, is_green_here: bool | None = None) -> float:
        """Its chance, asked when it came."""
        record = Sha(f"s{item.id}.{item.revision}")
        self.odds.learn(ChangeSubmitted(0.0, Submission(record, item.id, item.revision, item.head, item.by, 0.0)))
        self.odds.note_change(item, lines, is_green_here)
        return self.chance(item)

    def chance(self, item: Change) -> float:
        return self.odds.forecast(item).chance

    def run(
        self,
        item: Change,
        outcome: Outcome = Outcome.GREEN,
        check: CheckName = UNIT,
        ahead: Iterable[int] = (),
        key: str = "",
        seconds: float = 60.0,
        tests: tuple[str, ...] = (),
    ) -> None:
        self.runs += 1
        run = RunId(f"r{self.runs}")
        of = InputKey(key or f"{check} of {run}")
        self.odds.learn(RunStarted(0.0, run, check, of, Sha("-"), (*map(ChangeId, ahead), item.id)))
        self.odds.learn(RunFinished(0.0, run, Result(of, check, outcome, run, 0.0, seconds, tests=tests)))

    def land(self, *items: Change) -> None:
        commits = tuple(Sha(f"c{item.id}") for item in items)
        entries = tuple(item.entry for item in items)
        self.odds.learn(LandingStarted(0.0, Sha("-"), commits[-1], Sha("-"), entries, commits, ()))
        self.odds.learn(Landed(0.0, Sha("-"), commits[-1]))

    def refuse(self, item: Change, *checks: CheckName) -> None:
        reasons = tuple(Reason(Why.CHECK_RED, check=check) for check in checks or (UNIT,))
        self.odds.learn(ChangeRefused(0.0, item.id, item.revision, reasons))

    def team(self, first: int, count: int, *touches: CheckName, by: str = "bob", red_every: int = 0) -> None:
        """Changes of somebody, each decided before the next comes."""
        for number in range(first, first + count):
            item = change(number, *touches, by=by)
            self.submit(item)
            if red_every and number % red_every == 0:
                self.run(item, Outcome.RED)
                self.refuse(item)
            else:
                self.run(item)
                self.land(item)


# --- the first day ----------------------------------------------------------------------------------------------------


def test_an_ordinary_change_is_fine_in_nine_of_ten_cases_before_anything_is_known() -> None:
    assert Teller().submit(change(1)) == pytest.approx(0.9, abs=0.02)
    assert Odds().forecast(change(1)).chance == pytest.approx(0.9, abs=0.02)


def test_more_files_more_lines_and_more_checks_each_make_it_less_likely() -> None:
    by_files = [Teller().submit(change(1, files=files)) for files in (1, 3, 10, 100, 1_000)]
    by_lines = [Teller().submit(change(1), lines=lines) for lines in (1, 30, 1_000, 50_000)]
    checks = [CheckName(f"check {number}") for number in range(60)]
    by_checks = [Teller().submit(change(1, *checks[:count])) for count in (1, 2, 5, 60)]
    for chances in (by_files, by_lines, by_checks):
        assert chances == sorted(chances, reverse=True)
        assert chances[0] > chances[-1] + 0.05
    assert by_checks[-1] > 0.5  # who touches everything is not lost


def test_what_no_check_looks_at_cannot_be_red() -> None:
    nothing = replace(change(1), touches=frozenset())
    assert Teller().submit(nothing) == odds_module.CERTAIN


def test_the_authors_own_results_are_a_hint_and_no_more() -> None:
    red, unknown, green = (Teller().submit(change(1), is_green_here=hint) for hint in (False, None, True))
    assert 0.7 < red < unknown < green < 0.97


# --- learning ---------------------------------------------------------------------------------------------------------


def test_each_landing_of_an_author_raises_the_chance_of_the_next_change_and_each_refusal_lowers_it() -> None:
    teller = Teller()
    chances = [teller.chance(change(900))]
    for number in range(1, 9):
        teller.team(number, 1, by="ann")
        chances.append(teller.chance(change(900)))
    assert chances == sorted(chances)
    chances = chances[-1:]
    for number in range(10, 18):
        teller.team(number, 1, by="ann", red_every=1)
        chances.append(teller.chance(change(900)))
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.75


def test_odds_tell_authors_and_checks_apart() -> None:
    teller = Teller()
    for round_ in range(40):
        teller.team(10 * round_ + 1, 3, UNIT, by="careful")
        teller.team(10 * round_ + 10, 1, UNIT, by="hasty", red_every=2 if round_ % 2 else 0)
        rare = change(10 * round_ + 5, E2E, by="careful")
        teller.submit(rare)
        teller.run(rare, Outcome.RED if round_ % 3 == 0 else Outcome.GREEN, E2E)
        if round_ % 3 == 0:
            teller.refuse(rare, E2E)
        else:
            teller.land(rare)
    assert teller.chance(change(9_000, UNIT, by="hasty")) < teller.chance(change(9_001, UNIT, by="careful")) - 0.2
    assert teller.chance(change(9_002, E2E, by="careful")) < teller.chance(change(9_003, UNIT, by="careful")) - 0.05


def test_a_change_whose_last_revision_was_red_is_trusted_less_and_only_from_then_on() -> None:
    teller = Teller()
    first = change(1)
    teller.submit(first)
    teller.run(first, Outcome.RED)
    before = teller.chance(change(2))
    teller.refuse(first)
    again, other = teller.submit(change(1, revision=2)), teller.submit(change(2))
    assert again < other - 0.02
    assert other < before


def test_a_revision_that_is_replaced_counts_only_when_it_was_red_by_itself() -> None:
    chances = []
    for ahead, outcome in (((), Outcome.GREEN), ((7,), Outcome.RED), ((), Outcome.RED)):
        teller = Teller()
        item = change(1, UNIT)
        teller.submit(item)
        teller.run(item, outcome, ahead=ahead)
        chances.append(teller.submit(change(1, UNIT, revision=2)))
    green, red_on_others, red_alone = chances
    assert green == red_on_others
    assert red_alone < green - 0.02


def test_reasons_that_are_not_the_checks_teach_nothing_of_the_chance() -> None:
    teller = Teller()
    before = teller.chance(change(9))
    teller.submit(change(1))
    teller.odds.learn(ChangeRefused(0.0, ChangeId(1), 1, (Reason(Why.NO_ISOLATION, check=UNIT),)))
    teller.submit(change(2))
    teller.odds.learn(ChangeWithdrawn(0.0, ChangeId(2), 1, "ann"))
    assert teller.chance(change(9)) == before


def test_odds_follow_a_team_that_gets_worse() -> None:
    teller = Teller()
    teller.team(1, 600)
    assert teller.chance(change(9_000, by="bob")) > 0.97
    teller.team(1_001, 60, red_every=2)
    assert 0.4 < teller.chance(change(9_001, by="bob")) < 0.8


def chained(share: float, streak: float, seeds: Iterable[int]) -> tuple[float, float]:
    """The mean chance that a change is said to have after a fine one and after a bad one, when they fail in such streaks; of
    the second hundred of each history."""
    said: dict[bool, list[float]] = {False: [], True: []}
    for seed in seeds:
        teller, dice, was_bad = Teller(), random.Random(seed), False
        for number in range(1, 201):
            item = change(number, by=f"author{number % 50}")
            alone, outlook = teller.submit(item), teller.odds.outlook()
            shift = outlook.after_bad if was_bad else outlook.after_fine
            if number > 100:
                said[was_bad].append(1 / (1 + (1 / alone - 1) * exp(-shift)))
            was_bad = dice.random() < (1 - 1 / streak if was_bad else share / (1 - share) / streak)
            teller.run(item, Outcome.RED if was_bad else Outcome.GREEN)
            (teller.refuse if was_bad else teller.land)(item)
    return fmean(said[False]), fmean(said[True])


def test_that_bad_changes_come_in_streaks_is_learned_within_a_hundred_changes() -> None:
    assert chained(0.2, 5.0, range(1, 11)) == (pytest.approx(0.95, abs=0.05), pytest.approx(0.2, abs=0.1))


def test_where_each_change_fails_by_itself_the_one_before_says_little_after_a_hundred() -> None:
    assert chained(0.2, 1 / 0.8, range(1, 11)) == (pytest.approx(0.8, abs=0.05), pytest.approx(0.8, abs=0.1))


def test_before_anything_is_known_a_bad_change_speaks_against_the_next_and_a_fine_one_for_nothing() -> None:
    outlook = Odds().outlook()
    assert (outlook.after_fine, outlook.after_bad) == (0.0, -2.0)


def test_reds_of_changes_that_many_landed_beside_are_expected_of_the_next_whatever_they_are_blamed_on() -> None:
    """All were there from the start, so that each red may be a clash with any that landed: the sum has to be right."""
    odds, dice = Odds(), random.Random(7)
    teller = Teller(odds)
    items = [change(number) for number in range(1, 202)]
    for item in items:
        teller.submit(item)
    for item in items[:-1]:
        is_bad = dice.random() < 0.3
        teller.run(item, Outcome.RED if is_bad else Outcome.GREEN)
        (teller.refuse if is_bad else teller.land)(item)
    outlook = odds.outlook()
    alone = outlook.forecasts[items[-1].id].chance
    chance = [1 / (1 + (1 / alone - 1) * exp(-shift)) for shift in (outlook.after_fine, outlook.after_bad)]
    assert chance == [pytest.approx(0.7, abs=0.15)] * 2


def test_a_change_that_lands_when_it_is_tried_again_was_fine() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    teller.run(item, Outcome.RED)
    teller.refuse(item)
    refused = teller.chance(change(2))
    teller.odds.learn(RetryRequested(0.0, item.id, "ann"))
    teller.run(item)
    teller.land(item)
    assert teller.chance(change(2)) > refused


def test_a_change_that_is_refused_when_it_is_tried_again_counts_again() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    for _ in range(2):
        teller.run(item, Outcome.RED)
        teller.refuse(item)
        once = teller.chance(change(2))
        teller.refuse(item)
        assert teller.chance(change(2)) == once  # told twice, with nothing between
        teller.odds.learn(RetryRequested(0.0, item.id, "ann"))
        again = teller.chance(change(2))
        assert again == once
    teller.refuse(item)
    assert teller.chance(change(2)) < again


def test_a_submission_that_is_told_again_does_not_make_it_a_new_change() -> None:
    teller = Teller()
    item = change(1, files=300)
    described = teller.submit(item)
    told = ChangeSubmitted(0.0, Submission(Sha("s1.1"), item.id, item.revision, item.head, item.by, 0.0))
    teller.odds.learn(told)
    assert teller.odds.outlook().forecasts[item.id].chance == described
    assert teller.odds.chance_of(item.entry) == described


# --- changes that break together --------------------------------------------------------------------------------------


def clash_of(odds: Odds) -> float:
    return odds.outlook().clash


def test_who_was_green_alone_and_is_red_on_what_landed_since_is_fine_and_clashes() -> None:
    teller = Teller()
    first, second = change(1, UNIT), change(2, UNIT)
    teller.submit(first)
    teller.submit(second)
    teller.run(second)
    teller.run(first)
    teller.land(first)
    before, others = clash_of(teller.odds), teller.chance(change(9, UNIT))
    teller.run(second, Outcome.RED)
    teller.refuse(second)
    assert clash_of(teller.odds) > before + 0.005
    assert teller.chance(change(9, UNIT)) >= others


def test_who_is_red_alone_does_not_clash_whatever_landed_meanwhile() -> None:
    teller = Teller()
    first, second = change(1, UNIT), change(2, UNIT)
    teller.submit(first)
    teller.submit(second)
    teller.run(second, Outcome.RED)
    teller.run(first)
    teller.land(first)
    before = clash_of(teller.odds)
    teller.run(second, Outcome.RED)
    teller.refuse(second)
    assert clash_of(teller.odds) <= before


def test_who_never_ran_alone_is_blamed_in_part() -> None:
    lost = []
    for company in (0, 3):
        teller = Teller()
        item = change(1, UNIT)
        teller.submit(item)
        teller.team(10, company, UNIT, by="ann")
        before = teller.chance(change(9, UNIT))
        teller.run(item, Outcome.RED)
        teller.refuse(item)
        lost.append(before - teller.chance(change(9, UNIT)))
    assert lost[0] > lost[1] > 0


def test_pairs_that_land_together_in_peace_lower_the_odds_of_a_clash() -> None:
    teller = Teller()
    items = [change(number, UNIT) for number in range(1, 30)]
    for item in items:
        teller.submit(item)
    before = clash_of(teller.odds)
    for item in items:
        teller.land(item)
    assert clash_of(teller.odds) < before / 2


# --- durations --------------------------------------------------------------------------------------------------------


def seconds_of(odds: Odds, check: CheckName = UNIT) -> float:
    return odds.outlook().durations[check]


def test_a_check_takes_as_long_as_it_took_and_one_odd_run_hardly_matters() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    assert UNIT not in teller.odds.outlook().durations
    for _ in range(12):
        teller.run(item, seconds=60.0)
    assert seconds_of(teller.odds) == pytest.approx(60.0)
    teller.run(item, seconds=60_000.0)
    assert 60.0 < seconds_of(teller.odds) < 75.0
    for _ in range(60):
        teller.run(item, seconds=20.0)
    assert seconds_of(teller.odds) == pytest.approx(20.0, rel=0.05)


def test_a_red_ends_early_and_says_nothing_once_a_green_is_known() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    teller.run(item, Outcome.RED, seconds=5.0)
    assert seconds_of(teller.odds) == pytest.approx(5.0)
    teller.run(item, seconds=100.0)
    assert seconds_of(teller.odds) == pytest.approx(100.0)
    teller.run(item, Outcome.RED, seconds=5.0)
    assert seconds_of(teller.odds) == pytest.approx(100.0)


def test_a_retest_of_some_tests_says_nothing_of_how_long_the_check_takes() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    teller.run(item, seconds=100.0)
    teller.run(item, seconds=1.0, tests=("t",))
    assert seconds_of(teller.odds) == pytest.approx(100.0)


def test_a_time_out_says_that_it_takes_longer() -> None:
    teller = Teller()
    item = change(1)
    teller.submit(item)
    for _ in range(10):
        teller.run(item, seconds=100.0)
    teller.run(item, Outcome.TIMED_OUT, seconds=50.0)
    assert seconds_of(teller.odds) == pytest.approx(100.0)
    teller.run(item, Outcome.TIMED_OUT, seconds=900.0)
    assert seconds_of(teller.odds) > 105.0


# --- flakes -----------------------------------------------------------------------------------------------------------


def result(key: str, outcome: Outcome, failed: tuple[str, ...] = (), tests: tuple[str, ...] = ()) -> Result:
    return Result(InputKey(key), UNIT, outcome, RunId("r"), 0.0, 1.0, failed=failed, tests=tests)


def test_a_red_is_a_flake_once_the_same_content_is_green() -> None:
    known = Flakes()
    before = known.check(UNIT)
    known.learn(result("a", Outcome.RED))
    assert known.check(UNIT) == before
    known.learn(result("b", Outcome.GREEN))
    assert known.check(UNIT) < before  # of other content
    known.learn(result("a", Outcome.GREEN))
    assert known.check(UNIT) == pytest.approx((0.5 + 1) / 53, rel=0.01)


def test_a_check_is_steady_until_it_was_seen_red_for_nothing_and_again_long_after() -> None:
    odds = Odds()

    def end(key: str, outcome: Outcome) -> bool:
        odds.learn(RunFinished(1.0, RunId("r"), result(key, outcome)))
        return UNIT in odds.outlook().steady

    assert end("a", Outcome.GREEN)
    assert end("b", Outcome.RED)  # so far, it may be right
    assert not end("b", Outcome.GREEN)
    for _ in range(int(flakes_module.CHECK_MEMORY_RUNS)):
        assert not end("c", Outcome.GREEN)
    assert end("c", Outcome.GREEN)


def test_what_is_never_green_is_a_fault_and_no_flake() -> None:
    known = Flakes()
    for _ in range(20):
        known.learn(result("a", Outcome.RED, ("t",)))
        known.learn(result("a", Outcome.INFRASTRUCTURE))
        known.learn(result("b", Outcome.INFRASTRUCTURE))
    known.learn(result("b", Outcome.GREEN))
    assert known.check(UNIT) < flakes_module.CHECK_FLAKES
    assert known.test(UNIT, "t") < 0.015


def test_a_retest_proves_a_flake_only_when_it_passed_more_often_than_it_failed() -> None:
    known = Flakes()
    before = known.check(UNIT)
    known.learn(result("a", Outcome.RED, ("t",)))
    known.learn(result("a", Outcome.GREEN, tests=("t",)))
    assert known.check(UNIT) == before
    known.learn(result("a", Outcome.GREEN, tests=("t",)))
    assert known.check(UNIT) > before + 0.01


def test_flake_odds_of_a_check_come_near_the_truth() -> None:
    known = Flakes()
    for number in range(2_000):
        if number % 20 == 0:
            known.learn(result(str(number), Outcome.RED))
        known.learn(result(str(number), Outcome.GREEN))
    assert known.check(UNIT) == pytest.approx(100 / 2_100, rel=0.15)


def test_a_stranger_flakes_as_tests_do_and_one_that_never_did_is_trusted_more_and_more() -> None:
    known = Flakes()
    chances = [known.test(UNIT, "t")]
    assert chances[0] == pytest.approx(0.015, rel=0.01)  # papers: 1.5 % of all runs
    for number in range(300):
        known.learn(result(str(number), Outcome.GREEN))
        chances.append(known.test(UNIT, "t"))
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.0005


def test_only_the_tests_that_failed_for_nothing_are_suspects_and_they_are_forgiven_in_time() -> None:
    known = Flakes()
    for number in range(60):
        if number % 10 == 0:
            known.learn(result(str(number), Outcome.RED, ("t",)))
        known.learn(result(str(number), Outcome.GREEN))
    assert known.test(UNIT, "t") == pytest.approx(6 / 66, rel=0.2)
    assert known.test(UNIT, "u") < 0.005
    assert known.test(LINT, "t") == pytest.approx(0.015, rel=0.01)  # of another check
    for number in range(4_000):
        known.learn(result(f"later {number}", Outcome.GREEN))
    assert known.test(UNIT, "t") < 0.002


def test_a_test_that_passes_when_others_fail_again_was_a_flake_and_one_beyond_the_named_counts_too() -> None:
    known = Flakes()
    first = result("a", Outcome.RED, ("flaky", "broken"))
    known.learn(first)
    known.learn_tests(first, [TestCase("flaky", "failed"), TestCase("broken", "error"), TestCase("unnamed", "failed")])
    second = result("a", Outcome.RED, ("broken",))
    seen = []
    for _ in range(3):  # what passed once is no news the next time
        known.learn(second)
        known.learn_tests(second, [TestCase("flaky", "passed"), TestCase("broken", "failed"), TestCase("unnamed", "passed")])
        seen.append(known.test(UNIT, "flaky"))
        assert known.test(UNIT, "unnamed") == seen[-1]
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 0.2
    assert known.test(UNIT, "broken") < 0.015


# --- what is asked, and when it alters --------------------------------------------------------------------------------


def test_forecasts_of_those_that_wait_are_in_the_outlook_until_their_verdict_and_follow_what_is_learned() -> None:
    teller = Teller()
    item = change(1, by="bob")
    first = teller.submit(item)
    assert teller.odds.outlook().forecasts[item.id].chance == first
    teller.team(100, 10, red_every=1)
    assert teller.odds.outlook().forecasts[item.id].chance < first - 0.1
    teller.land(item)
    assert item.id not in teller.odds.outlook().forecasts
    other = change(2)
    assert teller.odds.outlook([other]).forecasts[other.id] == teller.odds.forecast(other)


def test_a_new_revision_is_forecast_by_what_it_touches_itself() -> None:
    teller = Teller()
    teller.submit(change(1, files=200))
    small = replace(change(1, files=1), revision=2)
    assert teller.chance(small) > teller.chance(change(1, files=200)) + 0.05  # described, before it was told
    teller.submit(small)
    assert teller.odds.outlook().forecasts[small.id] == teller.odds.forecast(small)
    teller.odds.note_traits((small.id, 1), Traits(files=5_000))  # the old one
    assert teller.odds.chance_of(small.entry) == teller.odds.outlook().forecasts[small.id].chance


# --- histories --------------------------------------------------------------------------------------------------------


def facts(outlook: Outlook) -> tuple[object, ...]:
    return (dict(outlook.forecasts), dict(outlook.durations), dict(outlook.flakes), outlook.clash)


def tell(odds: Odds, step: Event | Told) -> None:
    if isinstance(step, Told):
        odds.note_change(step.change, step.lines, step.is_green_here)
    else:
        odds.learn(step)


teams = st.builds(
    Team,
    changes=st.integers(1, 60),
    authors=st.integers(1, 4),
    checks=st.integers(1, 6),
    pending=st.integers(0, 12),
    flake=st.sampled_from((0.0, 0.02, 0.6)),
    clash=st.sampled_from((0.0, 0.034, 1.0)),
    at_once=st.sampled_from((0.0, 0.5, 1.0)),
    hints=st.sampled_from((0.0, 0.5)),
)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), team=teams, dice=st.randoms(use_true_random=False))
def test_whatever_is_told_and_however_often_chances_are_chances(seed: int, team: Team, dice: random.Random) -> None:
    """Also where events are missing, doubled, or of changes that nobody knows."""
    odds = Odds()
    asked: list[Change] = []
    for step in History(seed, team).steps():
        for _ in range(dice.choice((0, 1, 1, 1, 1, 2))):
            tell(odds, step)
        if isinstance(step, Told):
            asked.append(step.change)
    outlook = odds.outlook(asked)
    forecasts = [outlook.forecasts[item.id].chance for item in asked] + [odds.forecast(item).chance for item in asked]
    assert all(0 < value < 1 for value in (*forecasts, *outlook.flakes.values(), outlook.clash))
    assert all(value > 0 for value in outlook.durations.values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), team=teams)
def test_odds_that_are_asked_all_the_time_are_those_of_a_replay(seed: int, team: Team) -> None:
    online, replayed = Odds(), Odds()
    steps = list(History(seed, team).steps())
    for step in steps:
        tell(online, step)
        if isinstance(step, Told):
            online.forecast(step.change)
            online.test_flake(UNIT, "t")
        online.outlook()
    for step in steps:
        tell(replayed, step)
    assert facts(online.outlook()) == facts(replayed.outlook())


def test_what_is_told_twice_counts_once() -> None:
    once, twice = Odds(), Odds()
    for step in History(3, Team(changes=80)).steps():
        tell(once, step)
        tell(twice, step)
        if isinstance(step, ChangeSubmitted | Landed | ChangeRefused):
            tell(twice, step)
    assert facts(once.outlook()) == facts(twice.outlook())


def test_the_same_history_gives_the_same_odds_in_every_process() -> None:
    """Sets of names are walked in another order in each; no sum may depend on it."""
    program = (
        "from fakes.histories import *\nfrom gate.odds import Odds\nodds = Odds()\n"
        "for step in History(5, Team(changes=150, hints=0.3)).steps():\n"
        "    odds.note_change(step.change, step.lines) if isinstance(step, Told) else odds.learn(step)\n"
        "asked = [s.change for s in History(6).steps() if isinstance(s, Told)]\n"
        "print([odds.forecast(change).chance.hex() for change in asked[:50]], odds.outlook().clash.hex())\n"
    )
    project = Path(__file__).parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{project}{os.pathsep}{project / 'tests'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert said[0]
    assert len(set(said)) == 1


def held_by(thing: object, seen: set[int] | None = None) -> Iterator[int]:
    """Sizes of all collections that an object of ours holds."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | int | float | frozenset):
        return
    seen.add(id(thing))
    if isinstance(thing, dict | list | tuple | set | deque):
        yield len(thing)
        inner: Iterable[object] = thing.values() if isinstance(thing, dict) else thing
        for inside in inner:
            yield from held_by(inside, seen)
        return
    names = getattr(thing, "__dict__", None) or getattr(type(thing), "__slots__", ())
    for name in names:
        yield from held_by(getattr(thing, name), seen)


def test_memory_is_bounded_by_what_is_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_CHANGES", "MOST_AUTHORS", "MOST_CHECKS", "MOST_RUNS", "MOST_TRIALS", "MOST_FATES", "COMPANY"):
        monkeypatch.setattr(odds_module, name, 10)
    for name in ("MOST_CHECKS", "MOST_TESTS", "MOST_KEYS"):
        monkeypatch.setattr(flakes_module, name, 10)
    odds = Odds()
    team = Team(changes=300, authors=80, checks=60, pending=3, flake=0.3)
    for step in History(11, team).steps():
        tell(odds, step)
    waiting = Teller(odds)
    for number in range(1_000, 1_020):
        waiting.submit(change(number))
        for _ in range(20):
            waiting.run(change(number))
    for number in range(200):
        key = f"left open {number}"
        for outcome, failed in ((Outcome.RED, (f"test {number}",)), (Outcome.GREEN, ()), (Outcome.RED, ("x",))):
            told = result(key, outcome, failed)._replace(check=UNIT)
            odds.learn(RunStarted(0.0, RunId(f"lost {number}"), UNIT, told.key, Sha("-"), ()))
            odds.learn(RunFinished(0.0, RunId(f"never begun {number}"), told))
    assert max(held_by(odds)) == 10


def test_predictions_come_true_as_often_as_they_say() -> None:
    """Prequential: each chance is asked when the change comes, and the truth is never told but by the journal."""
    by_odds, by_share = [], []
    fine, seen = 18.0, 20.0
    for seed in (201, 202, 203, 204):
        odds = Odds()
        for step in History(seed, Team(changes=1_000)).steps():
            tell(odds, step)
            if isinstance(step, Told):
                by_odds.append((odds.forecast(step.change).chance, step.is_fine))
                by_share.append((fine / seen, step.is_fine))
                fine, seen = fine + step.is_fine, seen + 1
    table = reliability(by_odds)
    assert table.calibration_error < 0.025
    assert table.brier < 0.9 * reliability(by_share).brier
    assert all(abs(row.predicted - row.actual) < 0.1 for row in table.bins if row.count >= 100)


def test_the_outlook_learns_flakes_clashes_and_durations_of_a_history() -> None:
    team = Team(changes=3_000, flake=0.05, clash=0.1, pending=4)
    history, odds = History(301, team), Odds()
    for step in history.steps():
        tell(odds, step)
    outlook = odds.outlook()
    assert all(outlook.flakes[check] == pytest.approx(0.05, abs=0.02) for check in history.checks)
    assert all(outlook.durations[check] == pytest.approx(history.durations[check], rel=0.25) for check in history.checks)
    assert outlook.clash == pytest.approx(0.1, abs=0.035)


# --- how far they can be trusted --------------------------------------------------------------------------------------


def test_reliability_by_hand() -> None:
    table = reliability([(0.9, True), (0.9, True), (0.8, False), (0.1, False), (1.0, True)], bins=2)
    low, high = table.bins
    assert (low.low, low.high, low.count, low.predicted, low.actual) == (0.0, 0.5, 1, 0.1, 0.0)
    assert (high.count, high.actual) == (4, 0.75)
    assert high.predicted == pytest.approx(0.9)
    assert table.brier == pytest.approx((0.01 + 0.01 + 0.64 + 0.01 + 0.0) / 5)
    assert table.calibration_error == pytest.approx((1 * 0.1 + 4 * 0.15) / 5)


def test_reliability_of_nothing_is_nothing() -> None:
    table = reliability([])
    assert (len(table.bins), table.brier, table.calibration_error) == (10, 0.0, 0.0)
