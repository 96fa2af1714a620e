"""Draws the changes of a workload from a seed. Each trait has a stream of its own, so that altering one parameter leaves the
other traits of the same seed as they were, and all policies meet the same queue."""

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from ci.model import WHOLE_TREE, Check, CheckName, Sha
from gate.model import Change, ChangeId, Forecast
from gate.simulate.workloads import Workload

BEGIN = 1_000_000.0  # epoch seconds of the first moment: 0 means "never" in the facts of a queue
HOUR_S = 3600.0
PLACES_TAKEN = (1, 1, 2, 3)  # how many components a change takes, or checks a folder: weights 2:1:1
FOLDERS_TAKEN = (1, 2, 3, 4)  # how many folders a change touches
TESTS_BROKEN_MEAN = 4.0  # how many tests of a suite a fault makes red, geometric
PRIOR_CHANCE = 0.9  # what the constant predictor says of every change
MAPE_OF_SIGMA = math.sqrt(2 / math.pi)  # mean absolute error of a small lognormal factor, for one of its sigma


@dataclass(frozen=True, slots=True)
class Fault:
    """What makes a check red. odds: that a run of it is red by this. tests: those that fail; (): it names none."""

    check: CheckName
    tests: tuple[str, ...] = ()
    odds: float = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A change as the planner will see it, and the truth about it.

    duration_s: until all its checks have run, side by side. faults: what it breaks by itself, where checks have a content.
    areas: the checks with a folder among those it touches, whether they declare their inputs or not. leaves_at: when its
    owner takes it back, should it have no verdict by then; None: never.
    """

    change: Change
    forecast: Forecast
    is_fine: bool
    duration_s: float
    is_wide: bool = False
    faults: tuple[Fault, ...] = ()
    areas: frozenset[CheckName] = frozenset()
    leaves_at: float | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A check as it is in truth. folders: that it has as inputs."""

    check: Check
    duration_s: float
    folders: frozenset[int] = frozenset({0})


def arrivals(workload: Workload, seed: int) -> tuple[Arrival, ...]:
    """In order of submission; ids count from 1."""
    if workload.is_per_change:
        return tuple(_arrivals_of_components(workload, seed))
    return tuple(_arrivals_of_folders(workload, seed, suites(workload, seed)))


def suites(workload: Workload, seed: int) -> tuple[Suite, ...]:
    """The checks of a repository. Of one with declared inputs, the same whether they are declared."""
    if workload.preset != "W8":
        retest = "retest {tests}" if workload.preset == "W5" else None
        return (Suite(Check(CheckName("suite"), "true", retest=retest), workload.check * 60),)
    owners, lengths = stream(seed, "owners"), stream(seed, "durations")
    popularity = Zipf(workload.checks, workload.zipf)
    inputs: dict[int, set[int]] = {number: set() for number in range(workload.checks)}
    for folder in range(workload.folders):
        for number in popularity.draw(owners, owners.choice(PLACES_TAKEN)):
            inputs[number].add(folder)
    found = []
    for number, folders in inputs.items():
        patterns = tuple(f"folder{folder}/" for folder in sorted(folders)) if workload.declared else WHOLE_TREE
        check = Check(CheckName(f"check{number}"), "true", inputs=patterns)
        found.append(Suite(check, draw_duration_s(workload, lengths), frozenset(folders)))
    return tuple(found)


def uniform(seed: int, *names: object) -> float:
    """A number from 0 to 1 that belongs to these names, whoever asks and whenever."""
    digest = blake2b(repr((seed, *names)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


def stream(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")  # noqa: S311 - dice, not secrets


def submission_times(workload: Workload, seed: int) -> Iterator[float]:
    """A Poisson process whose rate follows the daily curve, thinned from one at its highest rate."""
    if workload.burst:
        yield from [BEGIN] * workload.burst
        return
    dice = stream(seed, "arrivals")
    highest = workload.rate * (1 + workload.daily)
    at = 0.0
    while highest > 0:
        at += dice.expovariate(highest) * HOUR_S
        if at >= workload.hours * HOUR_S:
            return
        rate = workload.rate * (1 - workload.daily * math.cos(2 * math.pi * at / (24 * HOUR_S)))
        if dice.random() * highest < rate:
            yield BEGIN + at


class Zipf:
    """Draws places by popularity: the n-th has weight 1 / n ** exponent."""

    def __init__(self, count: int, exponent: float) -> None:
        self._sums = list(accumulate(rank**-exponent for rank in range(1, count + 1)))

    def draw(self, dice: random.Random, count: int) -> frozenset[int]:
        """``count`` different places, or all there are."""
        found: set[int] = set()
        while len(found) < min(count, len(self._sums)):
            found.add(bisect_left(self._sums, dice.random() * self._sums[-1]))
        return frozenset(found)


def _arrivals_of_components(workload: Workload, seed: int) -> Iterator[Arrival]:
    classes, luck = stream(seed, "classes"), stream(seed, "luck")
    places, lengths, errors = stream(seed, "places"), stream(seed, "durations"), stream(seed, "predictions")
    wideness = stream(seed, "wide")
    popularity = Zipf(workload.components, workload.zipf)
    everything = frozenset(_component(place) for place in range(workload.components))
    for number, at in enumerate(submission_times(workload, seed), 1):
        chance = draw_class(workload, classes)
        is_fine = luck.random() < chance
        taken = popularity.draw(places, places.choice(PLACES_TAKEN))
        is_wide = wideness.random() < workload.wide
        duration_s = draw_duration_s(workload, lengths) * (workload.wide_factor if is_wide else 1.0)
        predicted_s = duration_s * math.exp(errors.gauss(0, workload.duration_error / MAPE_OF_SIGMA))
        yield Arrival(
            change=Change(
                id=ChangeId(number),
                revision=1,
                head=Sha(f"head{number}"),
                by=f"author{number % 50}",
                submitted_at=at,
                # A wide change has to share a name with every other one, and these have none in common.
                touches=everything if is_wide else frozenset(_component(place) for place in taken),
            ),
            forecast=Forecast(chance if workload.predictor == "class" else PRIOR_CHANCE, predicted_s),
            is_fine=is_fine,
            is_wide=is_wide,
            duration_s=duration_s,
        )


def _arrivals_of_folders(workload: Workload, seed: int, checks: tuple[Suite, ...]) -> Iterator[Arrival]:
    classes, luck, places, faults = (stream(seed, name) for name in ("classes", "luck", "folders", "faults"))
    popularity = Zipf(workload.folders if workload.preset == "W8" else 1, workload.zipf)
    everything = frozenset(suite.check.name for suite in checks)
    failing = failures(workload, seed)
    for number, at in enumerate(submission_times(workload, seed), 1):
        if workload.preset == "W8":
            chance = draw_class(workload, classes)
            is_fine = luck.random() < chance
        else:
            chance, is_fine = 1 - workload.failure, not next(failing)
        folders = popularity.draw(places, places.choice(FOLDERS_TAKEN))
        touched = [suite for suite in checks if not folders.isdisjoint(suite.folders)]
        broken = places.choice(touched) if touched else None
        own = () if is_fine or broken is None else (draw_fault(workload, broken.check.name, faults),)
        yield Arrival(
            change=Change(
                id=ChangeId(number),
                revision=1,
                head=Sha(f"head{number}"),
                by=f"author{number % 50}",
                submitted_at=at,
                touches=frozenset(suite.check.name for suite in touched) if workload.declared else everything,
            ),
            forecast=Forecast(chance if workload.predictor == "class" else PRIOR_CHANCE),
            is_fine=not own,
            duration_s=max((suite.duration_s for suite in (touched if workload.declared else checks)), default=0.0),
            faults=own,
            areas=frozenset(suite.check.name for suite in touched),
        )


def failures(workload: Workload, seed: int) -> Iterator[bool]:
    """Whether each change in turn breaks the check. Streaks: two states, as many failures in the mean as without them."""
    dice = stream(seed, "luck")
    share = workload.failure
    if workload.pattern == "streaks":
        mends = 1 / max(1.0, workload.streak)
        breaks = mends * share / (1 - share)
        is_failing = dice.random() < share
        while True:
            yield is_failing
            is_failing = dice.random() >= mends if is_failing else dice.random() < breaks
    number = 0
    while True:
        swing = workload.drift * math.sin(2 * math.pi * number / workload.period) if workload.pattern == "drift" else 0.0
        yield dice.random() < share * (1 + swing)
        number += 1


def draw_fault(workload: Workload, check: CheckName, dice: random.Random) -> Fault:
    if workload.preset != "W5":
        return Fault(check)
    is_intermittent = dice.random() < workload.intermittent
    odds = dice.uniform(0.2, 0.8)
    count = 1 if is_intermittent else 1 + int(dice.expovariate(1 / (TESTS_BROKEN_MEAN - 1)))
    tests = dice.sample(range(workload.tests), min(count, workload.tests))
    return Fault(check, tuple(test_name(test) for test in tests), odds if is_intermittent else 1.0)


def test_name(number: int) -> str:
    return f"tests/test_{number // 20}.py::test_{number}"


def draw_class(workload: Workload, dice: random.Random) -> float:
    """The chance of success of the class that a change is of."""
    at = dice.random() * sum(share for share, _ in workload.shares)
    for share, chance in workload.shares:
        at -= share
        if at < 0:
            return chance
    return workload.shares[-1][1]


def draw_duration_s(workload: Workload, dice: random.Random) -> float:
    minutes = workload.median * math.exp(workload.sigma * dice.gauss(0, 1))
    return 60 * min(max(minutes, workload.shortest), workload.longest)


def _component(place: int) -> CheckName:
    return CheckName(f"c{place}")
