"""Odds of a red check, and what follows from them. Numbers are of the model in docs/decisions/0006-retests.md."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.model import MOST_NAMED, Check, CheckName, InputKey, Outcome, Result, RunId
from ci.proof import proves
from gate.blame import RETEST_APART_MOST_S, RETEST_APART_S, Advice, Case, Step, Suspect, decide, judge, told

UNIT = Check(CheckName("unit"), "pytest --junitxml={junit}", retest="pytest --junitxml={junit} {tests}")
MUTE = Check(CheckName("unit"), "make test")
BOUND = 0.005


def ran(outcome: Outcome, at: float, *failed: str, tests: tuple[str, ...] = (), took_s: float = 1.0) -> Result:
    return Result(
        InputKey("k"), UNIT.name, outcome, RunId(f"r{at}"), at - took_s, at, failed=failed, tests=tests
    )  # at: its end


def red(at: float, *failed: str, tests: tuple[str, ...] = ()) -> Result:
    return ran(Outcome.RED, at, *(failed or ("t",)), tests=tests)


def passed(at: float) -> Result:
    return ran(Outcome.GREEN, at, tests=("t",))


GREEN_BASE = ran(Outcome.GREEN, 0)
RED_BASE = red(0)
ONCE = (red(100),)
TWICE = (red(100), red(171, tests=("t",)))


def advice(bound: float = BOUND, **of: Any) -> Advice:
    return decide(replace(Case(UNIT, ONCE, control=GREEN_BASE, flake=0.05), **of), bound)


def step(bound: float = BOUND, **of: Any) -> Step:
    return advice(bound, **of).step


# --- what to do --------------------------------------------------------------------------------------------------------


def test_a_steady_check_that_is_green_without_the_change_convicts_at_the_first_red() -> None:
    assert step(flake=0.0) is Step.REFUSE
    assert step(flake=0.0, chance=1.0) is Step.REFUSE
    assert step(flake=0.0, bound=0.0) is Step.REFUSE


def test_nobody_is_refused_before_the_check_was_seen_without_the_change() -> None:
    assert step(flake=0.0, control=None) is Step.CONTROL
    assert step(flake=0.0, control=None, chance=0.0, bound=0.5) is Step.CONTROL


def test_a_check_that_is_red_without_the_change_is_trunks_or_that_of_those_ahead() -> None:
    assert advice(control=RED_BASE).waits_for is Suspect.TRUNK
    assert advice(control=RED_BASE, ahead=(0.9,)).waits_for is Suspect.AHEAD
    assert advice(control=ran(Outcome.TIMED_OUT, 0), flake=0.0).step is Step.HOLD


def test_a_flaky_check_is_run_again_before_anybody_is_refused() -> None:
    assert step(flake=0.05) is Step.RETEST
    assert step(flake=0.0001) is Step.REFUSE  # 1 accident among 1,000 faults


def test_what_is_likelier_is_looked_at_first() -> None:
    assert step(flake=0.001, control=None) is Step.CONTROL  # trunk is red more often than that
    assert step(flake=0.2, control=None) is Step.RETEST


def test_what_fails_now_and_then_is_looked_for_without_the_change() -> None:
    reds = tuple(red(100 + 1000.0 * count) for count in range(5))
    unsteady: dict[str, Any] = {"reds": reds, "passes": (passed(4500),), "chance": 0.98, "flake": 0.02}
    found = advice(**unsteady)
    assert (found.step, found.tests, found.not_before) == (Step.CONTROL, ("t",), 0.0)
    assert found.blame.trunk > 0.05
    controls: tuple[Result, ...] = ()
    while (found := advice(**unsteady, control_passes=controls)).step is Step.CONTROL:
        assert found.not_before == (controls[-1].finished_at + RETEST_APART_S if controls else 0.0)
        controls = (*controls, passed(4600 + 100.0 * len(controls)))
    assert found.step is Step.REFUSE
    assert 2 < len(controls) < 20
    of_others = tuple(each._replace(tests=("u",)) for each in controls)
    assert advice(**unsteady, control_passes=of_others).step is Step.CONTROL
    assert advice(**unsteady | {"check": MUTE}).step is Step.RETEST


def test_while_a_change_ahead_is_undecided_only_accidents_are_looked_into() -> None:
    assert advice(flake=0.0, ahead=(0.9,)).waits_for is Suspect.AHEAD
    assert step(flake=0.2, ahead=(0.9,)) is Step.RETEST
    assert step(flake=0.0, ahead=(0.9,), control=None) is Step.CONTROL


def test_enough_reds_apart_in_time_convict_even_of_a_flaky_check() -> None:
    apart = [100.0, 161.0, 282.0, 523.0]
    reds = tuple(red(at, tests=("t",) if at > 100 else ()) for at in apart)
    steps = [step(reds=reds[:count], chance=0.95) for count in (1, 2, 3, 4)]
    assert steps == [Step.RETEST, Step.RETEST, Step.RETEST, Step.REFUSE]


def test_the_same_reds_in_one_burst_do_not() -> None:
    reds = tuple(ran(Outcome.RED, 100 + count, "t", took_s=0.5) for count in range(4))
    assert step(reds=reds, chance=0.95) is Step.RETEST


def test_what_counts_is_the_time_from_the_end_of_one_run_to_the_start_of_the_next() -> None:
    slow = tuple(ran(Outcome.RED, 1000.0 * count, "t", took_s=999) for count in (1, 2, 3))
    quick = tuple(red(1000.0 * count) for count in (1, 2, 3))
    assert step(reds=quick) is Step.REFUSE
    assert step(reds=slow) is Step.RETEST


def test_a_wider_bound_refuses_sooner() -> None:
    assert step(reds=TWICE, bound=0.005) is Step.RETEST
    assert step(reds=TWICE, bound=0.2) is Step.REFUSE


def test_a_bound_of_zero_never_refuses_what_could_be_an_accident() -> None:
    reds = tuple(red(100 + 700.0 * count) for count in range(12))
    assert step(reds=reds, bound=0.0) is Step.CONTROL
    assert step(reds=reds, bound=0.0, check=MUTE) is Step.RETEST


# --- what is run again, and when ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "tests"),
    [
        ({}, ("t",)),
        ({"reds": (red(1, "a", "b"), red(90, "b", tests=("a", "b")))}, ("a", "b")),
        ({"check": MUTE}, ()),
        ({"reds": (ran(Outcome.RED, 1),)}, ()),  # no test is named: the fault lies elsewhere
        ({"reds": (ran(Outcome.TIMED_OUT, 1, "t"),)}, ()),  # nobody knows what else would have failed
        ({"reds": (red(1, *(f"t{n}" for n in range(MOST_NAMED))),)}, ()),  # there may be more
        ({"reds": (red(1, tests=("t",)),)}, ()),  # the whole run before it is gone from the store
        ({"attempts": (ran(Outcome.INFRASTRUCTURE, 200, tests=("t",)),)}, ()),  # the tool cannot run them alone
        ({"attempts": (ran(Outcome.INFRASTRUCTURE, 200),)}, ("t",)),
        ({"attempts": (ran(Outcome.INFRASTRUCTURE, 50, tests=("t",)),)}, ("t",)),  # before the check was red
    ],
)
def test_only_what_failed_is_run_again_where_that_tells_all(of: dict[str, Any], tests: tuple[str, ...]) -> None:
    assert advice(**of).tests == tests


def test_retests_keep_apart_and_the_more_often_it_failed_in_a_row_the_farther() -> None:
    assert advice().not_before == 100 + RETEST_APART_S
    assert advice(reds=TWICE).not_before == 171 + 2 * RETEST_APART_S
    assert advice(reds=TWICE, passes=(passed(300),), chance=0.99).not_before == 300 + RETEST_APART_S
    many = tuple(red(100.0 * (count + 1)) for count in range(30))
    assert advice(reds=many, bound=0.0, check=MUTE).not_before == 3000 + RETEST_APART_MOST_S
    could_not = ran(Outcome.INFRASTRUCTURE, 500)
    assert advice(attempts=(could_not,)).not_before == 500 + RETEST_APART_S


# --- odds --------------------------------------------------------------------------------------------------------------


def test_odds_in_words_begin_with_the_likeliest() -> None:
    blame = judge(Case(UNIT, ONCE, control=GREEN_BASE, flake=0.05))
    assert [who for who, _ in blame.odds] == ["the change", "a flake", "the machine", "trunk"]
    assert blame.likeliest is Suspect.CHANGE
    # 0.1 for a fault; 0.9 · 0.99 · 0.05 for an accident; a trunk that is red now and then is rare.
    assert blame.change == pytest.approx(0.097 / (0.097 + 0.0446 * 0.95 + 0.0001) * 0.95, rel=0.06)


def test_a_test_known_to_flake_excuses_the_change() -> None:
    case = Case(UNIT, ONCE, control=GREEN_BASE, flake=0.01)
    assert judge(replace(case, test_flakes={"t": 0.3})).change < 0.35 < judge(case).change
    assert judge(replace(case, test_flakes={"another": 0.3})) == judge(case)


def test_a_pass_leaves_only_faults_that_show_now_and_then() -> None:
    before = judge(Case(UNIT, ONCE, control=GREEN_BASE, flake=0.05)).change
    after = judge(Case(UNIT, ONCE, (passed(170),), control=GREEN_BASE, flake=0.05)).change
    assert before > 0.65
    assert after < 0.04


def test_a_machine_that_could_not_run_the_check_meanwhile_is_suspected_more() -> None:
    case = Case(UNIT, ONCE, control=GREEN_BASE, flake=0.05)
    sick = judge(replace(case, attempts=(ran(Outcome.INFRASTRUCTURE, 120),)))
    assert sick.machine > 2 * judge(case).machine
    assert sick.change < judge(case).change


def test_red_with_and_without_the_change_is_never_the_changes_alone() -> None:
    assert judge(Case(UNIT, ONCE, control=RED_BASE, chance=0.01, flake=0.0)).trunk == pytest.approx(1)
    assert judge(Case(UNIT, ONCE, control=RED_BASE, ahead=(0.5,), flake=0.0)).ahead > 0.9


def test_what_was_seen_is_told_in_a_clause() -> None:
    assert told(Case(UNIT, ONCE)) == ""
    assert told(Case(UNIT, TWICE)) == "red twice, 70 s apart"
    assert told(Case(UNIT, (*TWICE, red(300)), (passed(400),))) == "red 3 times in 199 s, green in 1 of 4 runs"
    crashed = ran(Outcome.RED, 100)._replace(reason="exit code 1: boom")
    assert told(Case(UNIT, (crashed,))) == "exit code 1: boom"
    assert told(Case(UNIT, (crashed, crashed._replace(started_at=190)))) == "exit code 1: boom, red twice, 90 s apart"


# --- for all cases ------------------------------------------------------------------------------------------------------

chances = st.floats(0, 1)
gaps = st.floats(0, 5000)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    at = 100.0
    reds, passes, attempts = list[Result](), list[Result](), list[Result]()
    for outcome in (Outcome.RED, *draw(st.lists(st.sampled_from(Outcome), max_size=6))):
        at += 1 + draw(gaps)
        whole = outcome is Outcome.TIMED_OUT or not reds or draw(st.booleans())
        one = ran(outcome, at, *(("t",) if outcome is Outcome.RED else ()), tests=() if whole else ("t",))
        if outcome is Outcome.GREEN:
            passes.append(one._replace(tests=("t",)))
        else:
            (attempts if outcome is Outcome.INFRASTRUCTURE else reds).append(one)
    return Case(
        draw(st.sampled_from((UNIT, MUTE))),
        tuple(reds),
        tuple(passes),
        tuple(attempts),
        chance=draw(chances),
        ahead=tuple(draw(st.lists(chances, max_size=3))),
        clash=draw(chances),
        control=draw(st.sampled_from((None, GREEN_BASE, RED_BASE))),
        flake=draw(chances),
        test_flakes=draw(st.dictionaries(st.just("t"), chances)),
    )


@given(cases())
def test_the_odds_are_odds(case: Case) -> None:
    blame = judge(case)
    every = (blame.change, blame.ahead, blame.trunk, blame.flake, blame.machine)
    assert all(0 <= one <= 1 for one in every)
    assert sum(every) == pytest.approx(1)
    assert sum(odds for _, odds in blame.odds) == pytest.approx(1)
    assert case.ahead or blame.ahead == 0


@given(cases(), gaps)
def test_one_more_red_never_speaks_for_the_change(case: Case, gap: float) -> None:
    if case.passes or (case.control is not None and case.control.outcome is not Outcome.GREEN):
        return
    last = max(result.finished_at for result in case.reds)
    more = replace(case, reds=(*case.reds, red(last + 1 + gap)))
    assert judge(more).change >= judge(case).change - 1e-9


@given(cases(), chances)
def test_the_likelier_the_change_was_to_break_something_the_likelier_it_did(case: Case, other: float) -> None:
    better, worse = max(case.chance, other), min(case.chance, other)
    assert judge(replace(case, chance=worse)).change >= judge(replace(case, chance=better)).change - 1e-9


@given(cases(), st.floats(0, 0.5))
def test_nobody_is_refused_on_a_red_trunk_or_beyond_the_bound(case: Case, bound: float) -> None:
    found = decide(case, bound)
    if found.step is Step.REFUSE:
        assert case.control is GREEN_BASE
        assert 1 - found.blame.change <= bound
    if case.control is RED_BASE:
        assert found.step is Step.HOLD
    if found.step is Step.RETEST:
        everything = (*case.reds, *case.passes, *case.attempts)
        assert found.not_before >= max(result.finished_at for result in everything) + RETEST_APART_S
        assert not found.tests or case.check is UNIT


@given(st.floats(0, 0.1), st.floats(0.5, 0.99), st.floats(0.005, 0.1))
def test_a_fault_that_shows_in_every_run_is_refused_within_the_hour(flake: float, chance: float, bound: float) -> None:
    case = Case(UNIT, ONCE, control=GREEN_BASE, flake=flake, chance=chance)
    while (found := decide(case, bound)).step is not Step.REFUSE:
        if found.step is Step.CONTROL:
            controls = (*case.control_passes, passed(max(case.reds[-1].finished_at, found.not_before) + 1))
            case = replace(case, control_passes=controls)
        else:
            case = replace(case, reds=(*case.reds, red(found.not_before + 1, tests=found.tests)))
    assert found.step is Step.REFUSE
    assert case.reds[-1].finished_at < 100 + 3600


@given(st.lists(st.booleans(), max_size=40), st.floats(0.0001, 0.3))
def test_retests_that_pass_often_enough_prove_the_key_green_and_nothing_else_does(runs: list[bool], flake: float) -> None:
    reds, passes = [*ONCE], list[Result]()
    for is_green in runs:
        found = decide(Case(UNIT, tuple(reds), tuple(passes), control=GREEN_BASE, flake=flake), BOUND)
        if found.step is not Step.RETEST:
            return
        outcome = Outcome.GREEN if is_green else Outcome.RED
        one = ran(outcome, found.not_before + 1, *(() if is_green else ("t",)), tests=found.tests)
        is_proof = is_green and proves(one, reds, passes)
        assert is_proof == (is_green and len(passes) + 1 > len(reds))
        if is_proof:
            return
        (passes if is_green else reds).append(one)
