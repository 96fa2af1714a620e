"""What a plan costs: a planner that remembers what has not altered, beside one that remembers nothing, on equal snapshots.

    python benchmarks/planning.py [--rate 500] [--workers 500] [--minutes 60] [--burst 0] [--seed 1]

Plays a simulated queue (W1: one run per change, results by change) and has each plan made twice, in turn; every pair must be
equal. Told are CPU milliseconds per plan and the ratio. The first ten minutes are left out, for the queue is filling.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean
from time import process_time

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from gate.model import Plan, Snapshot  # noqa: E402 - the path comes first
from gate.plan import Planner, plan  # noqa: E402
from gate.simulate import world  # noqa: E402
from gate.simulate.draws import BEGIN  # noqa: E402
from gate.simulate.measure import play, quantile  # noqa: E402
from gate.simulate.workloads import PRESETS  # noqa: E402
from gate.view import Policy  # noqa: E402

FILLING_S = 600.0


class Both:
    """In the place of the planner: both kinds, timed."""

    taken_s: list[tuple[float, float, int]] = []  # noqa: RUF012 - of all plans: with memory, without, and changes waiting
    fills_s = FILLING_S

    def __init__(self, policy: Policy) -> None:
        self._planner = Planner(policy)

    def plan(self, snapshot: Snapshot, now: float) -> Plan:
        began = process_time()
        made = self._planner.plan(snapshot, now)
        middle = process_time()
        again = plan(snapshot, now)
        ended = process_time()
        if made != again:
            sys.exit("a planner that remembers has planned otherwise than one that does not")
        if now >= BEGIN + self.fills_s:
            self.taken_s.append((middle - began, ended - middle, len(snapshot.changes)))
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--burst", type=int, default=0, help="this many changes at once instead of arrivals")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    world.Planner = Both  # type: ignore[misc,assignment]
    Both.fills_s = 1.0 if words.burst else FILLING_S
    hours = words.minutes / 60
    arrivals = {"burst": words.burst} if words.burst else {"hours": hours}
    workload = PRESETS["W1"].altered(rate=words.rate, workers=words.workers, warmup=0.0, drain=hours, **arrivals)
    play(workload, words.seed, "trunkgate")
    print(f"{len(Both.taken_s)} plans, {fmean(waiting for *_, waiting in Both.taken_s):.0f} changes waiting in the mean")
    print("| CPU ms of a plan | P50 | P99 | mean |\n|---|---|---|---|")
    for name, kind in (("remembers", 0), ("remembers nothing", 1)):
        taken = sorted(1000 * each[kind] for each in Both.taken_s)
        print(f"| {name} | {quantile(taken, 0.5):.1f} | {quantile(taken, 0.99):.1f} | {fmean(taken):.1f} |")
    mine, fresh = (sum(each[kind] for each in Both.taken_s) for kind in (0, 1))
    print(f"\nratio of all CPU time: {mine / fresh:.3f}")


if __name__ == "__main__":
    main()
