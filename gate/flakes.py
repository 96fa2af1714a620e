"""How often a check, and each of its tests, is red though nothing is wrong. Pure, but for the memory it is.

A red says nothing by itself. When the same input key is green later, by a whole run or by retests that outweigh the reds
(the rule of ci/proof.py), the content was fine and each red before was for nothing. What is never green may be a fault: it
is not counted at all, so these odds err on the low side where nobody tests again.

Each test starts with the odds of a stranger: 16 % of tests are flaky, and 1.5 % of all runs of a test flake (Google, 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log, log1p
from typing import TypeVar

from ci.model import CheckName, InputKey, Outcome, Result, TestCase

CHECK_FLAKES = 0.01  # of the runs of a check that nobody has run yet
CHECK_PRIOR_RUNS = 50.0  # how many runs that is worth
CHECK_MEMORY_RUNS = 2_000.0  # older runs fade

FLAKY_TESTS = 0.16  # share of the tests that flake at all
FLAKY_SHAPE = 0.3  # of the Beta distribution of their odds: most flake rarely, a few often
FLAKY_RATE = 0.015 / FLAKY_TESTS  # mean of it, so that 1.5 % of all runs of a test flake
FLAKY_REST = FLAKY_SHAPE * (1 / FLAKY_RATE - 1)
STEADY_RATE = 1e-5  # that a test flakes which never did, and is not of those that do
TEST_MEMORY_RUNS = 1_000.0  # runs of the suite; a test that was mended is trusted again some time after it

MOST_CHECKS = 1_000
MOST_TESTS = 20_000  # of one check, that were ever seen to flake
MOST_KEYS = 5_000  # that are red and may still turn green


K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Open:
    """A key that is red so far. reds: runs, retests included; whole: of the whole check. failed: how often, by test."""

    reds: int = 0
    whole: int = 0
    passes: int = 0  # retests that were green
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Suite:
    """One check. flaky: by test, how often it failed for nothing (faded) and after how many runs that was counted last."""

    bad: float = CHECK_FLAKES * CHECK_PRIOR_RUNS
    total: float = CHECK_PRIOR_RUNS
    runs: int = 0
    wrong_at: int | None = None  # how many runs there were when it was last known to be red for nothing
    flaky: dict[str, tuple[float, int]] = field(default_factory=dict)


class Flakes:
    """Learns from results in the order in which they were recorded; each costs what failed in it, not what passed."""

    def __init__(self) -> None:
        self._suites: dict[CheckName, _Suite] = {}
        self._open: dict[InputKey, _Open] = {}

    def check(self, check: CheckName) -> float:
        """The chance that a run of it is red though nothing is wrong."""
        suite = self._suites.get(check)
        return CHECK_FLAKES if suite is None else suite.bad / suite.total

    def is_steady(self, check: CheckName) -> bool:
        """As far as is known it was never red for nothing, or so long ago that it counts no more."""
        suite = self._suites.get(check)
        return suite is None or suite.wrong_at is None or suite.runs - suite.wrong_at > CHECK_MEMORY_RUNS

    def test(self, check: CheckName, test: str) -> float:
        """The chance that this test fails in one run though nothing is wrong."""
        suite = self._suites.get(check)
        runs, flaky = (0, {}) if suite is None else (suite.runs, suite.flaky)
        fails, counted_at = flaky.get(test, (0.0, 0))
        fails *= exp((counted_at - runs) / TEST_MEMORY_RUNS)
        seen = TEST_MEMORY_RUNS * (1 - exp(-runs / TEST_MEMORY_RUNS))
        passes = max(0.0, seen - fails)
        likelihood = exp(_log_beta(FLAKY_SHAPE + fails, FLAKY_REST + passes) - _log_beta(FLAKY_SHAPE, FLAKY_REST))
        steady = exp(fails * log(STEADY_RATE) + passes * log1p(-STEADY_RATE))
        is_flaky = FLAKY_TESTS * likelihood / (FLAKY_TESTS * likelihood + (1 - FLAKY_TESTS) * steady)
        return is_flaky * (FLAKY_SHAPE + fails) / (FLAKY_SHAPE + FLAKY_REST + seen) + (1 - is_flaky) * STEADY_RATE

    def learn(self, result: Result) -> None:
        """Infrastructure errors say nothing of a check."""
        if result.outcome is Outcome.INFRASTRUCTURE:
            return
        suite = self._suite(result.check)
        suite.runs += not result.tests
        known = self._open.get(result.key)
        if result.outcome is Outcome.GREEN:
            if known is not None and result.tests:
                known.passes += 1
            if known is not None and (not result.tests or known.passes > known.reds):
                del self._open[result.key]
                suite.wrong_at = suite.runs
                _count_runs(suite, known.whole, bad=True)
                _count_tests(suite, known.failed)
            if not result.tests:
                _count_runs(suite, 1, bad=False)
            return
        if known is None:
            known = self._open[result.key] = _Open()
            _drop_oldest(self._open, MOST_KEYS)
        known.reds += 1
        known.whole += not result.tests
        for test in result.failed:
            known.failed[test] = known.failed.get(test, 0) + 1

    def learn_tests(self, result: Result, tests: Sequence[TestCase]) -> None:
        """More than the result names: all that failed, and what passed in a run that others made red. After ``learn``."""
        known = self._open.get(result.key)
        if known is None or result.outcome in (Outcome.GREEN, Outcome.INFRASTRUCTURE):
            return
        for test in sorted({test.name for test in tests if test.is_failure}.difference(result.failed)):
            known.failed[test] = known.failed.get(test, 0) + 1
        passed = {test.name for test in tests if test.outcome == "passed"}
        _count_tests(self._suite(result.check), {test: count for test, count in known.failed.items() if test in passed})
        known.failed = {test: count for test, count in known.failed.items() if test not in passed}

    def _suite(self, check: CheckName) -> _Suite:
        suite = self._suites.pop(check, None) or _Suite()
        self._suites[check] = suite  # the newest stands last
        _drop_oldest(self._suites, MOST_CHECKS)
        return suite


def _count_runs(suite: _Suite, runs: int, *, bad: bool) -> None:
    for _ in range(runs):
        kept = 1 - 1 / CHECK_MEMORY_RUNS
        suite.bad = suite.bad * kept + bad
        suite.total = suite.total * kept + 1


def _count_tests(suite: _Suite, failed: dict[str, int]) -> None:
    for test, count in failed.items():
        fails, counted_at = suite.flaky.pop(test, (0.0, suite.runs))
        suite.flaky[test] = (fails * exp((counted_at - suite.runs) / TEST_MEMORY_RUNS) + count, suite.runs)
        _drop_oldest(suite.flaky, MOST_TESTS)


def _drop_oldest(known: dict[K, V], most: int) -> None:
    if len(known) > most:
        del known[next(iter(known))]


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
