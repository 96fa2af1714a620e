"""Whose fault a red check is, as odds, and what to do to know better. Pure.

A red result of a candidate may be the change's doing, that of a change ahead of it, trunk's, an accident of the check, or
one of the machine. ``judge`` weighs them by what is known; ``decide`` says whether that is enough to refuse the change, and
when it is not, which run would tell the most. What lands, and in which order, is gate/plan.py's.

The model, with its sources in docs/decisions/0006-retests.md:
- A fault is there in every run (95 of 100), or in some of them: then it shows in 2 to 8 of 10 runs, each share as likely.
- An accident comes as often as the check is red for nothing (``flakes`` in gate/odds.py). That the same tests fail again by
  accident is as likely as that they did at all, and likelier the sooner after the last time, for accidents come in bursts:
  right after a failure, half of the repetitions say nothing; a minute later a fifth, four minutes later one in a hundred.
- A check that was green without the change speaks for trunk: what is wrong there can then be wrong now and then only. Where
  that is left as an excuse, the failed tests are run without the change, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from itertools import pairwise
from math import exp, prod

from ci.model import Check, Outcome, Result
from ci.proof import failed_tests

RETEST_APART_S = 60.0  # between a failure and the next try; doubled for each failure in a row
RETEST_APART_MOST_S = 600.0
BURST = 0.5  # chance that what made a check fail by accident is still there right after
BURST_S = 60.0  # how fast that chance wanes: the time to 1/e of it
TRUNK_RED = 0.01  # that trunk itself is red for a check which nobody has looked at there: rare, for the gate keeps it green
INTERMITTENT = 0.05  # share of the real faults that do not show in every run (workload W5)
SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the runs that such a fault shows in, each as likely (the same)
MACHINE = 0.28  # share of the accidents that are the machine's (flaky tests of 22,352 Python projects)
SICK_MACHINE = 10.0  # times likelier are these where the check could not be run at all meanwhile
LEAST_CHANCE = 0.005  # nobody is known to be innocent, or guilty, before anything has run
MOST_FLAKE = 0.9  # beyond it, red and green say nothing


class Suspect(StrEnum):
    """Who or what may have made a check red, in the words of reports."""

    CHANGE = "the change"
    AHEAD = "a change ahead"
    TRUNK = "trunk"
    FLAKE = "a flake"
    MACHINE = "the machine"


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a check that is red for a candidate.

    reds: results of its key since it was last green that are red or timed out, oldest first, at least one. passes: retests
    since then that were green, and are not enough to prove the key green. attempts: those that could not be run.
    chance: that the change breaks nothing, see Forecast. ahead: the same of each undecided change ahead in the candidate.
    clash: see Outlook.
    control: the newest result of the same check without the change, whole and believed to be of now; None: not known.
    control_passes: retests without the change that were green, after it. Those of other tests do not count.
    flake: that a run of the check is red for nothing. test_flakes: the same per test, where known.
    """

    check: Check
    reds: tuple[Result, ...]
    passes: tuple[Result, ...] = ()
    attempts: tuple[Result, ...] = ()
    chance: float = 0.9
    ahead: tuple[float, ...] = ()
    clash: float = 0.03
    control: Result | None = None
    control_passes: tuple[Result, ...] = ()
    flake: float = 0.0
    test_flakes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blame:
    """The odds of each suspect; together 1."""

    change: float
    ahead: float
    trunk: float
    flake: float
    machine: float

    @property
    def accident(self) -> float:
        """That nobody's commits made it red."""
        return self.flake + self.machine

    @property
    def odds(self) -> tuple[tuple[str, float], ...]:
        """For a Reason: the likeliest first, without those that are out of the question."""
        each = zip(Suspect, (self.change, self.ahead, self.trunk, self.flake, self.machine), strict=True)
        return tuple(sorted(((who.value, odds) for who, odds in each if odds > 0), key=lambda pair: -pair[1]))

    @property
    def likeliest(self) -> Suspect:
        return Suspect(self.odds[0][0])


class Step(Enum):
    REFUSE = "refuse the change"
    RETEST = "run what failed once more"
    CONTROL = "run the check without the change"
    HOLD = "wait for somebody else"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a red check, and the odds that it rests on.

    tests: for RETEST and CONTROL: these tests only; (): the whole check. not_before: for both, epoch seconds UTC; 0: now.
    waits_for: for HOLD: TRUNK until trunk is green again, AHEAD until those ahead are decided.
    """

    step: Step
    blame: Blame
    tests: tuple[str, ...] = ()
    not_before: float = 0.0
    waits_for: Suspect | None = None


def decide(case: Case, max_false_refusals: float) -> Advice:
    """What to do about a red check.

    max_false_refusals: refuse when the chance that this is wrong is not above it. Never refuses before the check was seen
    green without the change. There is no end to retests but a proof or a refusal; each costs a few tests, and they get rare.
    """
    blame = judge(case)
    control = case.control
    if control is not None and control.outcome is not Outcome.GREEN:
        return Advice(Step.HOLD, blame, waits_for=Suspect.AHEAD if case.ahead else Suspect.TRUNK)
    if control is not None and 1 - blame.change <= max_false_refusals:
        return Advice(Step.REFUSE, blame)
    if control is not None and blame.trunk > max(max_false_refusals, blame.accident) and (tests := retest_tests(case)):
        return Advice(Step.CONTROL, blame, tests, max((_apart(result) for result in case.control_passes), default=0.0))
    others = blame.trunk + (blame.ahead if case.ahead else 0.0)
    if blame.accident > max(max_false_refusals, 0.0 if control is not None else others):
        return Advice(Step.RETEST, blame, retest_tests(case), _retest_at(case))
    if control is None:
        return Advice(Step.CONTROL, blame)
    if case.ahead:
        return Advice(Step.HOLD, blame, waits_for=Suspect.AHEAD)
    return Advice(Step.RETEST, blame, retest_tests(case), _retest_at(case))


def judge(case: Case) -> Blame:
    """The odds of each suspect, by Bayes from the chances before anything had run."""
    bad = _within(1 - case.chance, LEAST_CHANCE, 1 - LEAST_CHANCE)
    bad_ahead = 1 - prod(_within(chance, LEAST_CHANCE, 1.0) for chance in case.ahead)
    clash = 1 - (1 - case.clash) ** len(case.ahead)
    flake = _flake_odds(case)
    reds, passes = len(case.reds), len(case.passes)
    real = _chance_if_real(reds, passes)
    # Without the change it was seen, too. Green: what is wrong there can be wrong now and then only, and for a check that is
    # never red for nothing there is no now and then.
    sound, faulty = 1.0, real
    if case.control is not None and case.control.outcome is Outcome.GREEN:
        failed = {test for red in case.reds for test in red.failed}
        without = 1 + sum(failed <= set(each.tests) for each in case.control_passes)
        sound, faulty = (1 - flake) ** without, _chance_if_real(reds, passes + without) if flake else 0.0
    elif case.control is not None:
        sound, faulty = flake, _chance_if_real(reds + 1, passes)

    innocent = (1 - bad) * (1 - bad_ahead) * (1 - clash)
    accident = innocent * (1 - TRUNK_RED) * _chance_if_accident(case, flake) * sound
    machine = MACHINE * SICK_MACHINE ** min(2, len(case.attempts))
    weights = (
        bad * real * sound,
        (1 - bad) * (bad_ahead * faulty + (1 - bad_ahead) * clash * real * sound),
        innocent * TRUNK_RED * faulty,
        accident * (1 - MACHINE),
        accident * machine,
    )
    total = sum(weights)
    if total <= 0:  # red with and without the change, of a check that is never red for nothing, where nothing else is wrong
        return Blame(0.0, 0.0, 1.0, 0.0, 0.0)
    return Blame(*(weight / total for weight in weights))


def retest_tests(case: Case) -> tuple[str, ...]:
    """The tests to run again; (): the whole check, for it does not say how, or could not run them alone."""
    could_not = any(attempt.tests and attempt.finished_at >= case.reds[0].finished_at for attempt in case.attempts)
    return () if case.check.retest is None or could_not else failed_tests(case.reds)


def _retest_at(case: Case) -> float:
    """Apart from the last try: an accident that lasts would only be seen twice."""
    last = max((*case.reds, *case.passes, *case.attempts), key=lambda result: result.finished_at)
    passed_at = max((result.finished_at for result in case.passes), default=0.0)
    in_a_row = sum(red.finished_at > passed_at for red in case.reds)
    return last.finished_at + min(RETEST_APART_MOST_S, RETEST_APART_S * 2.0 ** min(10, max(0, in_a_row - 1)))


def _apart(result: Result) -> float:
    return result.finished_at + RETEST_APART_S


def _flake_odds(case: Case) -> float:
    """That the check, or one of the tests that failed, is red for nothing: the greater of both."""
    tests = {test for red in case.reds for test in red.failed}
    by_tests = 1 - prod(1 - _within(case.test_flakes.get(test, 0.0), 0.0, 1.0) for test in tests)
    return _within(max(case.flake, by_tests), 0.0, MOST_FLAKE)


def _chance_if_real(reds: int, passes: int) -> float:
    """That a real fault gives these results."""
    steady = 0.0 if passes else 1.0
    now_and_then = sum(share**reds * (1 - share) ** passes for share in SHARES) / len(SHARES)
    return (1 - INTERMITTENT) * steady + INTERMITTENT * now_and_then


def _chance_if_accident(case: Case, flake: float) -> float:
    """That nothing is wrong and the results are these all the same."""
    again = prod(flake + (1 - flake) * _still_there(earlier, later) for earlier, later in pairwise(case.reds))
    return flake * again * float((1 - flake) ** len(case.passes))


def _still_there(earlier: Result, later: Result) -> float:
    """That what made the earlier run fail by accident was still there for the later one."""
    return BURST * exp(-max(0.0, later.started_at - earlier.finished_at) / BURST_S)


def told(case: Case) -> str:
    """What was seen, as a Reason's detail: "red twice, 70 s apart". After the check's last words where no test is named.

    Empty for one red with tests.
    """
    first, last = case.reds[0], case.reds[-1]
    reds, passes = len(case.reds), len(case.passes)
    apart = round(last.started_at - first.finished_at)
    seen = [] if last.failed or not last.reason else [last.reason]
    if reds == 2:
        seen.append(f"red twice, {apart} s apart")
    elif reds > 2:
        seen.append(f"red {reds} times in {apart} s")
    if passes:
        seen.append(f"green in {passes} of {passes + reds} runs")
    return ", ".join(seen)


def _within(value: float, least: float, most: float) -> float:
    return min(most, max(least, value))
