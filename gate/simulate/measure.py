"""Plays one workload with one policy on one seed, and says in numbers how it went."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import Any

from gate.model import Verdict
from gate.policy import Worthwhile, optimistic
from gate.simulate.baselines import BASELINES
from gate.simulate.by_change import ByChange
from gate.simulate.by_content import ByContent
from gate.simulate.draws import BEGIN, arrivals
from gate.simulate.foresight import foresight
from gate.simulate.remembering import Remembering
from gate.simulate.workloads import Workload
from gate.simulate.world import Contents, History, Run, Truth, World
from gate.view import Policy

PolicyMaker = Callable[[Truth], Policy]


@dataclass(frozen=True, slots=True)
class Record:
    """Measures of one policy on one seed. Only changes that were submitted after the warm-up count, and runs for these.

    p50_s, p95_s, p99_s: seconds from submission to landing. runs_per_change: started, aborted ones included, over decided
    changes. aborted_share: of these runs. repeat_share: of their time, that of runs whose key had a result already.
    rounds: runs that a change was part of until its verdict. last_verdict_s: since the first moment. trunk_red_s: time
    during which trunk held what is not fine. intermittent: decided changes with a fault that shows
    in some runs only; let_through: those that landed; let_through_by_retries: how many would have, were a red run
    tried twice more and one green enough. pending_max: changes
    in the longest queue. plan_p50_ms, plan_p99_ms: of one plan, in real time: all else is the same on each run.
    """

    policy: str
    seed: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    runs_per_change: float
    worker_minutes_per_change: float
    aborted_share: float
    landed: int
    refused: int
    undecided: int
    false_refusals: int
    red_landings: int
    intermittent: int
    let_through: int
    let_through_by_retries: float
    trunk_red_s: float
    repeat_share: float
    rounds_mean: float
    rounds_p95: float | None
    last_verdict_s: float
    plans: int
    pending_max: int
    plan_p50_ms: float
    plan_p99_ms: float
    preset: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def policies() -> dict[str, PolicyMaker]:
    """By name. A policy may remember what it saw, so every simulation makes a fresh one."""
    return {
        "trunkgate": lambda _: Worthwhile(),
        "optimistic-first": lambda _: optimistic,
        **{name: _remembering(make) for name, make in BASELINES.items()},
    }


def _remembering(make: PolicyMaker) -> PolicyMaker:
    return lambda truth: Remembering(make(truth))


def play(workload: Workload, seed: int, policy: str) -> Record:
    contents: Contents = ByChange(workload, seed) if workload.is_per_change else ByContent(workload, seed)
    changes, told = arrivals(workload, seed), foresight(workload, seed)
    world = World(workload, changes, contents, told, policies()[policy](contents))
    return measure(world.play(), workload, seed, policy)


def measure(history: History, workload: Workload, seed: int, policy: str) -> Record:
    counted_from = BEGIN + workload.warmup_s
    counted = {change for change, at in history.submitted_at.items() if at >= counted_from}
    decided = {change: end for change, end in history.decided.items() if change in counted}
    waits = sorted(
        at - history.submitted_at[change] for change, (verdict, at) in decided.items() if verdict is Verdict.LANDED
    )
    runs = [run for run in history.runs if (run.changes[-1] in counted if run.changes else run.started_at >= counted_from)]
    busy_s = sum(_busy_s(run, history) for run in runs)
    part_in = Counter(change for run in history.runs for change in run.changes)
    rounds = sorted(part_in[change] for change in decided)
    intermittent = {change: shows for change, shows in history.intermittent.items() if change in decided}
    plans_s = sorted(history.plans_s)
    return Record(
        policy=policy,
        seed=seed,
        p50_s=quantile(waits, 0.50),
        p95_s=quantile(waits, 0.95),
        p99_s=quantile(waits, 0.99),
        runs_per_change=len(runs) / max(1, len(decided)),
        worker_minutes_per_change=busy_s / 60 / max(1, len(decided)),
        aborted_share=sum(run.is_aborted for run in runs) / max(1, len(runs)),
        landed=len(waits),
        refused=sum(verdict is Verdict.REFUSED for verdict, _ in decided.values()),
        undecided=len(counted) - len(decided),
        false_refusals=sum(change in counted for change in history.false_refusals),
        red_landings=len(history.red_landings),
        intermittent=len(intermittent),
        let_through=sum(decided[change][0] is Verdict.LANDED for change in intermittent),
        let_through_by_retries=sum(1 - shows**3 for shows in intermittent.values()),
        trunk_red_s=history.trunk_red_s,
        repeat_share=sum(_busy_s(run, history) for run in runs if run.is_repeat) / max(1.0, busy_s),
        rounds_mean=sum(rounds) / max(1, len(rounds)),
        rounds_p95=quantile(rounds, 0.95),
        last_verdict_s=max((at for _, at in decided.values()), default=BEGIN) - BEGIN,
        plans=len(plans_s),
        pending_max=max(history.pending, default=0),
        plan_p50_ms=1000 * (quantile(plans_s, 0.50) or 0.0),
        plan_p99_ms=1000 * (quantile(plans_s, 0.99) or 0.0),
        preset=workload.preset,
    )


def _busy_s(run: Run, history: History) -> float:
    return (history.ended_at if run.ended_at is None else run.ended_at) - run.started_at


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """Linear between the two nearest; None of nothing."""
    if not ascending:
        return None
    at = share * (len(ascending) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (at - low)


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval (Student's t); infinite for a single value."""
    if len(values) < 2:
        return (values[0] if values else math.nan), math.inf
    return fmean(values), _student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def _student_t(freedom: int) -> float:
    """The two-sided 95 % point, by the expansion of Cornish and Fisher; within 0.1 % from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
