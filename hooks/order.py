"""Which checks to run at a commit, and in which order. Pure: told what is expected of each, it decides.

The order is the one that finds a failure soonest: by chance of failure per second, as of old (Smith's rule for the sum of
weighted completion times, 1956; here the weight is the chance). What is not expected to end within the budget is left to the
gate, and so is what needs it. A check of which nothing is known is run: that is how something gets known.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Before anything is known of a check: one failure in ten, as if it had been seen twice.
_PRIOR_CHANCE = 0.1
_PRIOR_RUNS = 2.0
_UNKNOWN_S = 1.0  # decides only where the check stands among others
_LEAST_S = 0.001
_LATEST = 5  # runs that tell how long the next one takes: what was made quicker soon counts as that


class Past(NamedTuple):
    """One run of a check that had its say. Newest last where several are given."""

    is_green: bool
    duration_s: float


class Expected(NamedTuple):
    """chance: of failure. duration_s None: nothing is known."""

    chance: float
    duration_s: float | None


class Waiting(NamedTuple):
    """A check that would have to run. needs: names of those that must be green before; others may be left out of sight."""

    name: str
    expected: Expected
    needs: tuple[str, ...] = ()


class Order(NamedTuple):
    """run: in the order to start them. left: name to when it was expected to end, in seconds from now."""

    run: tuple[str, ...]
    left: Mapping[str, float]


def expected(past: Sequence[Past]) -> Expected:
    """What its latest runs let expect of a check."""
    if not past:
        return Expected(_PRIOR_CHANCE, None)
    failures = sum(not each.is_green for each in past)
    chance = (failures + _PRIOR_CHANCE * _PRIOR_RUNS) / (len(past) + _PRIOR_RUNS)
    durations = sorted(each.duration_s for each in past[-_LATEST:])
    return Expected(chance, durations[len(durations) // 2])  # statistics.median takes 5 ms to import


def order(waiting: Sequence[Waiting], cores: int, budget_s: float = 0.0) -> Order:
    """What to run in which order, and what to leave. budget_s 0: there is no limit.

    Checks whose needs go in a circle, which no configuration has, come last and as they were given.
    """
    by_name = {each.name: each for each in waiting}
    urgency = _urgencies(waiting, by_name)
    run: list[str] = []
    left: dict[str, float] = {}
    ends: dict[str, float] = {}
    free_at = [0.0] * max(1, cores)
    pending = list(waiting)
    while pending:
        ready = [each for each in pending if not any(need in by_name and need not in ends for need in each.needs)]
        chosen = max(ready or pending[:1], key=lambda each: urgency[each.name])  # the first of equals
        pending.remove(chosen)
        worker = min(range(len(free_at)), key=free_at.__getitem__)
        starts = max(free_at[worker], *(ends.get(need, 0.0) for need in chosen.needs), 0.0)
        duration = chosen.expected.duration_s
        ends[chosen.name] = starts + (duration or 0.0)
        is_left = any(need in left for need in chosen.needs)
        if is_left or (budget_s and duration is not None and ends[chosen.name] > budget_s):
            left[chosen.name] = ends[chosen.name]
            continue
        run.append(chosen.name)
        free_at[worker] = ends[chosen.name]
    return Order(tuple(run), left)


def _urgencies(waiting: Sequence[Waiting], by_name: Mapping[str, Waiting]) -> dict[str, float]:
    """Chance of failure per second: of a check, or of it with what waits for it where that is worth more."""
    urgency = {each.name: _chance_per_s([each]) for each in waiting}
    for each in waiting:
        behind = [each]
        seen = {each.name}
        for need in _needs_of(each, by_name, seen):
            behind.append(need)
            urgency[need.name] = max(urgency[need.name], _chance_per_s(behind))
    return urgency


def _needs_of(each: Waiting, by_name: Mapping[str, Waiting], seen: set[str]) -> list[Waiting]:
    """All that a check waits for, nearest first."""
    found: list[Waiting] = []
    for name in each.needs:
        if name in by_name and name not in seen:
            seen.add(name)
            found.append(by_name[name])
    return found + [further for need in found for further in _needs_of(need, by_name, seen)]


def _chance_per_s(together: Sequence[Waiting]) -> float:
    seconds = sum(_UNKNOWN_S if one.expected.duration_s is None else one.expected.duration_s for one in together)
    return sum(one.expected.chance for one in together) / max(seconds, _LEAST_S)
