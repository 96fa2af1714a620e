"""Runs that are red though nothing is wrong: of a whole check, or of single tests, in storms that pass.

A storm is some minutes in which everything on the machines goes wrong more often: repeating a run at once tells little,
after some minutes it does. Outside of them accidents are as much rarer as makes their share over all time that of the
workload.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator

from ci.model import CheckName, InputKey
from gate.simulate.draws import BEGIN, stream, test_name, uniform
from gate.simulate.workloads import Workload

SKEW_SIGMA = 1.5  # of the lognormal flake odds of flaky tests: a few of them make most of the accidents


class Accidents:
    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._seed = seed
        self._tests = tuple(_flaky_tests(workload, seed)) if workload.preset == "W5" else ()
        self._storms = _Storms(workload, seed)

    def failures(self, key: InputKey, check: CheckName, run: int, began: float, ended: float) -> tuple[str, ...]:
        """Tests that fail by accident in one run of the whole check; its own name where it names none. run: of the key."""
        if not self._workload.suite_flake:
            return ()
        if not self._tests:
            return (check,) if uniform(self._seed, "flake", key, run) < self._workload.suite_flake else ()
        force = self._storms.force(began, ended)
        dice = stream(self._seed, f"flake/{key}/{run}")
        return tuple(test for test, odds in self._tests if dice.random() < odds * force)


def _flaky_tests(workload: Workload, seed: int) -> Iterator[tuple[str, float]]:
    """(test, chance that it fails a run by accident), so that a run of all is red as often as the workload says."""
    dice = stream(seed, "flaky tests")
    chosen = sorted(dice.sample(range(workload.tests), round(workload.flaky * workload.tests)))
    weights = [math.exp(dice.gauss(0, SKEW_SIGMA)) for _ in chosen]
    total = -math.log1p(-workload.suite_flake)  # of the odds of all: 1 - exp(-total) is the chance that any fails
    for number, weight in zip(chosen, weights, strict=True):
        yield test_name(number), total * weight / sum(weights)


class _Storms:
    def __init__(self, workload: Workload, seed: int) -> None:
        self._force = workload.storm
        self._dice = stream(seed, "storms")
        self._every_s, self._length_s = workload.storm_every * 60, workload.storm_length * 60
        stormy = self._length_s / self._every_s if self._every_s else 0.0
        self._calm = 1 / (1 + stormy * (self._force - 1))
        self._begins: list[float] = []
        self._ends: list[float] = []

    def force(self, began: float, ended: float) -> float:
        """How many times as likely as on average accidents are between two moments."""
        if ended <= began or not self._every_s:
            return 1.0
        self._foresee(ended)
        at = max(0, bisect_right(self._begins, began) - 1)
        stormy_s = 0.0
        while at < len(self._begins) and self._begins[at] < ended:
            stormy_s += max(0.0, min(ended, self._ends[at]) - max(began, self._begins[at]))
            at += 1
        return self._calm * (1 + (self._force - 1) * stormy_s / (ended - began))

    def _foresee(self, until: float) -> None:
        while not self._begins or self._begins[-1] <= until:
            after = self._ends[-1] if self._ends else BEGIN
            gap_s = max(1.0, self._every_s - self._length_s)
            self._begins.append(after + self._dice.expovariate(1 / gap_s))
            self._ends.append(self._begins[-1] + self._dice.expovariate(1 / max(1.0, self._length_s)))
