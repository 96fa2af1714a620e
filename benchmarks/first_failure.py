"""How long until the first failure shows, in the order that gate check runs its checks, against the best order there is.

    python benchmarks/first_failure.py [--histories N] [--commits N] [--json]

Each history is a repository of twelve checks, with durations and chances of failure of their own. Commits are drawn one
after the other; at each, the checks run in the order that the last runs of each let expect to be the best, as
hooks/order.py has it, until all have ended. What is measured: the time at which the first red one ends, over the second
half of the commits that have one. The best order is that of somebody who knows the true chances: on one core by chance over
duration, which is the best for one worker (Smith 1956); on more the best that local search finds from there. The
clairvoyant runs what will fail first, which no order can do for all commits; it shows how much chance decides. Seeds are
fixed: the same numbers each time.
"""

import argparse
import json
import random
import statistics
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT)]

from hooks.order import Expected, Past, Waiting, expected, order  # noqa: E402 - the path comes first
from hooks.session import LEARNED_FROM  # noqa: E402

CHECKS = 12
CORES = (1, 2, 4)
AIM = 1.1


class Check(NamedTuple):
    name: str
    chance: float
    duration_s: float


class Run(NamedTuple):
    """One check at one commit."""

    is_red: bool
    duration_s: float


Commit = dict[str, Run]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=30)
    parser.add_argument("--commits", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [row for seed in range(given.histories) for row in play(seed, given.commits)]
    print(json.dumps(rows, indent=1) if given.json else as_markdown(rows))
    return 0


def play(seed: int, commits: int) -> list[dict[str, float]]:
    """Mean seconds to the first failure in one history, per number of cores."""
    draw = random.Random(seed)
    checks = [
        # From a linter's blink to a suite's half a minute; most fail seldom, and a few often.
        Check(f"check-{number}", min(0.4, draw.lognormvariate(-3.5, 1.0)), min(30.0, draw.lognormvariate(0.5, 1.2)))
        for number in range(CHECKS)
    ]
    history = [
        {check.name: Run(draw.random() < check.chance, check.duration_s * draw.lognormvariate(0.0, 0.2)) for check in checks}
        for _ in range(commits)
    ]
    judged = [commit for commit in history[commits // 2 :] if any(run.is_red for run in commit.values())]
    truth = [Waiting(check.name, Expected(check.chance, check.duration_s)) for check in checks]
    rows = []
    for cores in CORES:
        learned = learned_orders(checks, history, cores)[commits // 2 :]
        ours = [first_red_s(run, commit, cores) for run, commit in zip(learned, history[commits // 2 :], strict=True)]
        best = best_order(truth, judged, cores)
        rows.append(
            {
                "seed": seed,
                "cores": cores,
                "learned_s": statistics.fmean(at for at in ours if at is not None),
                "best_s": mean_s(best, judged, cores),
                "as_written_s": mean_s([check.name for check in checks], judged, cores),
                "clairvoyant_s": statistics.fmean(
                    min(run.duration_s for run in commit.values() if run.is_red) for commit in judged
                ),
            }
        )
    return rows


def learned_orders(checks: Sequence[Check], history: Sequence[Commit], cores: int) -> list[tuple[str, ...]]:
    """The order at each commit, from what was seen before it."""
    past: dict[str, deque[Past]] = {check.name: deque(maxlen=LEARNED_FROM) for check in checks}
    orders = []
    for commit in history:
        orders.append(order([Waiting(name, expected(list(runs))) for name, runs in past.items()], cores).run)
        for name, run in commit.items():
            past[name].append(Past(not run.is_red, run.duration_s))
    return orders


def best_order(truth: Sequence[Waiting], judged: Sequence[Commit], cores: int) -> list[str]:
    """On one core the order by true chances. On more: from there, swaps of two as long as one helps on these very commits,
    so that what is called the best is rather too good."""
    best = list(order(truth, cores).run)
    if cores == 1:
        return best
    reached = mean_s(best, judged, cores)
    is_better = True
    while is_better:
        is_better = False
        for left in range(CHECKS):
            for right in range(left + 1, CHECKS):
                other = [*best]
                other[left], other[right] = other[right], other[left]
                if (other_s := mean_s(other, judged, cores)) < reached - 1e-9:
                    best, reached, is_better = other, other_s, True
    return best


def mean_s(names: Sequence[str], judged: Sequence[Commit], cores: int) -> float:
    return statistics.fmean(at for commit in judged if (at := first_red_s(names, commit, cores)) is not None)


def first_red_s(names: Sequence[str], commit: Commit, cores: int) -> float | None:
    """When the first red check ends; None: all are green."""
    free_at = [0.0] * cores
    found = None
    for name in names:
        worker = min(range(cores), key=free_at.__getitem__)
        free_at[worker] += commit[name].duration_s
        if commit[name].is_red and (found is None or free_at[worker] < found):
            found = free_at[worker]
    return found


def as_markdown(rows: Sequence[dict[str, float]]) -> str:
    lines = [
        f"{len(rows) // len(CORES)} histories of {CHECKS} checks; seconds to the first failure: means; ratios: medians",
        "",
        "| cores | learned | best | learned / best (tenths) | as written / best | clairvoyant / best | aim |",
        "|---|---|---|---|---|---|---|",
    ]
    for cores in CORES:
        here = [row for row in rows if row["cores"] == cores]
        ratios = sorted(row["learned_s"] / row["best_s"] for row in here)
        ratio = statistics.median(ratios)
        outer = f"{ratios[len(ratios) // 10]:.2f}–{ratios[-len(ratios) // 10]:.2f}"
        lines.append(
            f"| {cores} | {statistics.fmean(row['learned_s'] for row in here):.2f} |"
            f" {statistics.fmean(row['best_s'] for row in here):.2f} | {ratio:.3f} ({outer}) |"
            f" {statistics.median(row['as_written_s'] / row['best_s'] for row in here):.2f} |"
            f" {statistics.median(row['clairvoyant_s'] / row['best_s'] for row in here):.2f} |"
            f" ≤ {AIM}: {'met' if ratio <= AIM else '**missed**'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
