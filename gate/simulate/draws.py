"""Draws the changes of a workload from a seed. Each trait has a stream of its own, so that altering one parameter leaves the
other traits of the same seed as they were, and all policies meet the same queue."""

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from ci.model import CheckName, Sha
from gate.model import Change, ChangeId, Forecast
from gate.simulate.workloads import Workload

BEGIN = 1_000_000.0  # epoch seconds of the first moment: 0 means "never" in the facts of a queue
HOUR_S = 3600.0
COMPONENTS_TAKEN = (1, 1, 2, 3)  # how many components a change takes, each as likely: weights 2:1:1
PRIOR_CHANCE = 0.9  # what the constant predictor says of every change
MAPE_OF_SIGMA = math.sqrt(2 / math.pi)  # mean absolute error of a small lognormal factor, for one of its sigma


@dataclass(frozen=True, slots=True)
class Arrival:
    """A change as the planner will see it, and the truth about it. duration_s: of one run for it."""

    change: Change
    forecast: Forecast
    is_fine: bool
    is_wide: bool
    duration_s: float


def arrivals(workload: Workload, seed: int) -> tuple[Arrival, ...]:
    """In order of submission; ids count from 1."""
    return tuple(_arrivals_of_components(workload, seed))


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
        taken = popularity.draw(places, places.choice(COMPONENTS_TAKEN))
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
