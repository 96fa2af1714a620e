"""Every aim of the planner, from simulations with one fixed configuration on seeds that nothing was tuned on.

    python benchmarks/simulation.py [--only W1 W3 …] [--seeds 101:130] [--jobs 2] [--json]

Every policy plays every seed of its setup, and what is compared are pairs: two policies, or two settings, on the same seed.
A simulation that was played already by the same code is read from build/simulation.jsonl, so a run that was stopped goes on
where it was. Written are a table of the aims and one of all that was played, as they stand in docs/simulation.md. All of it
takes most of a day on one core; ``--only`` plays the setups whose name begins so.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from gate.simulate.draws import arrivals  # noqa: E402 - the path comes first
from gate.simulate.measure import mean_and_margin, play, quantile  # noqa: E402
from gate.simulate.workloads import PRESETS, Workload  # noqa: E402

CACHE = ROOT / "build" / "simulation.jsonl"
SEEDS = range(101, 131)  # held out: looked at only when the configuration was fixed

PUBLISHED = ("uber-2019", "uber-2025", "optimistic", "single", "batch-bisect", "batch-4", "speculate-all")
ORACLES = ("oracle", "oracle-reorder")
OURS = "trunkgate"

Json = dict[str, Any]
Measure = Callable[[Json], float | None]


@dataclass(frozen=True)
class Setup:
    """One workload and who plays it. settings: what differs from the preset. most_seeds: how many are enough."""

    name: str
    preset: str
    policies: tuple[str, ...]
    settings: Json = field(default_factory=dict)
    most_seeds: int = 1_000

    @property
    def workload(self) -> Workload:
        return PRESETS[self.preset].altered(**self.settings)


W1_SETUPS = tuple(
    Setup(f"W1 {workers} workers", "W1", (OURS, *PUBLISHED, *ORACLES), {"workers": workers}) for workers in (100, 75, 150)
)
W3_CHANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
BATCHES = ("batch-4", "batch-stop-4", "batch-bisect", "dynamic-divide-4")
SETUPS = (
    *W1_SETUPS,
    Setup("W1 300/h", "W1", (OURS, "uber-2019", "optimistic", "oracle"), {"rate": 300.0, "workers": 300}),
    Setup(
        "W1 500/h",
        "W1",
        (OURS, "uber-2019", "uber-2025", "optimistic", "optimistic-no-window", "single", *ORACLES),
        {"rate": 500.0, "workers": 500},
    ),
    Setup("W1 a day", "W1", (OURS, "uber-2019", "oracle"), {"hours": 24.0, "daily": 0.6}),
    *(
        Setup(
            f"W2 1 worker, 16/h, failure {failure}",
            "W2",
            (OURS, "batch-bisect", "single"),
            {"rate": 16.0, "failure": failure},
        )
        for failure in (0.05, 0.1, 0.2)
    ),
    *(
        Setup(f"W2 burst, failure {failure}", "W2", (OURS, "batch-bisect", "single"), {"burst": 15, "failure": failure})
        for failure in (0.05, 0.1, 0.2)
    ),
    Setup("W2 3 workers, 16/h", "W2", (OURS, "batch-bisect", "optimistic"), {"rate": 16.0, "workers": 3}),
    Setup("W2 flakes .05", "W2", (OURS, "batch-bisect"), {"rate": 8.0, "suite_flake": 0.05}),
    *(Setup(f"W3 p={chance}", "W3", (OURS, *BATCHES, "oracle-batch"), {"failure": chance}) for chance in W3_CHANCES),
    *(
        Setup(
            f"W3 streaks of {streak:g}, {share}",
            "W3",
            (OURS, *BATCHES, "oracle-batch"),
            {"failure": share, "pattern": "streaks", "streak": streak, "predictor": "learned"},
        )
        for share in (0.05, 0.2, 0.4)
        for streak in (1.0, 3.0, 5.0)
    ),
    Setup("W3 drift", "W3", (OURS, *BATCHES), {"failure": 0.1, "pattern": "drift", "predictor": "learned"}),
    Setup("W5 suite flake .05", "W5", (OURS,)),
    Setup("W5 no flakes", "W5", (OURS,), {"suite_flake": 0.0}),
    *(
        Setup(f"W8 {name}, {workers} workers", "W8", (OURS,), {"declared": declared, "workers": workers, "hours": 6.0})
        for workers in (60, 200)
        for name, declared in (("declared", True), ("whole tree", False))
    ),
    *(
        Setup(
            f"plans with {waiting} waiting", "W1", (OURS,), {"burst": waiting, "workers": 500, "drain": hours}, most_seeds=3
        )
        for waiting, hours in ((1_000, 1.0), (10_000, 0.1))
    ),
    Setup("a day at 500/h", "W1", (OURS,), {"rate": 500.0, "workers": 500, "hours": 24.0}, most_seeds=2),
)


@dataclass(frozen=True)
class Row:
    """One aim against what was reached."""

    aim: str
    where: str
    reached: str
    is_met: bool


# --- playing ----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="setups whose name begins so")
    parser.add_argument("--seeds", default=f"{SEEDS[0]}:{SEEDS[-1]}")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--policies", nargs="*", default=[], help="of each setup, only these")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    first, last = map(int, words.seeds.split(":"))
    setups = [setup for setup in SETUPS if setup.name.startswith(tuple(words.only))]
    played = play_all(setups, range(first, last + 1), words.policies, words.jobs)
    rows = [row for row in aims(played) if row is not None]
    if words.json:
        print(json.dumps({"aims": [asdict(row) for row in rows], "records": played.records}, indent=1))
        return
    print(f"seeds {first}:{last}\n")
    print("\n".join(aims_table(rows)), "\n")
    print("\n".join(records_table(played)))


@dataclass(frozen=True)
class Played:
    """Records by setup, policy and seed."""

    records: list[Json]

    def of(self, setup: str, policy: str) -> dict[int, Json]:
        return {record["seed"]: record for record in self.records if record["setup"] == setup and record["policy"] == policy}


def play_all(setups: Sequence[Setup], seeds: Iterable[int], only: Sequence[str], jobs: int) -> Played:
    known = _read_cache()
    asked = [
        (setup, policy, seed)
        for at, seed in enumerate(seeds)
        for setup in setups
        if at < setup.most_seeds
        for policy in setup.policies
        if not only or policy in only
    ]
    missing = [task for task in asked if _name(*task) not in known]
    print(f"{len(asked)} simulations, {len(missing)} to play", file=sys.stderr)
    if missing:
        CACHE.parent.mkdir(exist_ok=True)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, CACHE.open("a") as cache:
            futures = {pool.submit(_play, *task): task for task in missing}
            try:
                for count, future in enumerate(as_completed(futures), 1):
                    task = futures[future]
                    known[_name(*task)] = future.result()
                    cache.write(json.dumps({"name": _name(*task), "record": future.result()}) + "\n")
                    cache.flush()
                    told = f"{task[0].name}, {task[1]}, seed {task[2]}: {future.result()['wall_s']:.0f} s"
                    print(f"{count} of {len(missing)}: {told}", file=sys.stderr)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return Played([known[_name(*task)] for task in asked])


def _play(setup: Setup, policy: str, seed: int) -> Json:
    began = time.perf_counter()
    record = asdict(play(setup.workload, seed, policy))
    return record | {"setup": setup.name, "settings": setup.settings, "wall_s": time.perf_counter() - began}


def _name(setup: Setup, policy: str, seed: int) -> str:
    """What a simulation depends on: what is simulated, and the code that has a part in it."""
    code = _code("odds.py", "flakes.py", "policy.py", "known.py") if policy == OURS else _code()
    return f"{setup.preset} {json.dumps(setup.settings, sort_keys=True)} {policy} {seed} {code}"


_CODES: dict[tuple[str, ...], str] = {}


def _code(*more: str) -> str:
    """more: files of the shipped policy, which the published ones do not know."""
    if more not in _CODES:
        simulator = sorted((ROOT / "gate" / "simulate").glob("*.py"))
        shared = [path for path in simulator if path.name not in ("command.py", "report.py", "plot.py")]
        core = [
            ROOT / "gate" / name
            for name in ("model.py", "plan.py", "view.py", "meddling.py", "blame.py", "findings.py", *more)
        ]
        text = b"".join(path.read_bytes() for path in (*shared, *core, ROOT / "ci" / "proof.py"))
        _CODES[more] = sha256(text).hexdigest()[:12]
    return _CODES[more]


def _read_cache() -> dict[str, Json]:
    if not CACHE.exists():
        return {}
    return {line["name"]: line["record"] for line in map(json.loads, CACHE.read_text().splitlines())}


# --- the aims ---------------------------------------------------------------------------------------------------------


def aims(played: Played) -> Iterator[Row | None]:
    yield from aims_of_w1(played)
    yield from aims_of_w2(played)
    yield from aims_of_w3(played)
    yield from aims_of_w5(played)
    yield from aims_of_w8(played)
    yield from aims_of_all(played)
    yield from aims_of_speed(played)


def aims_of_w1(played: Played) -> Iterator[Row | None]:
    for workers in (100, 150):
        where = f"W1 {workers} workers"
        yield pairs(played, where, "p50_s", "uber-2019", 0.80, better_on=0.9)
        yield pairs(played, where, "p95_s", "uber-2019", 0.83, better_on=0.9)
        yield pairs(played, where, "runs_per_change", "uber-2019", 0.5)
    for against in (*PUBLISHED, *ORACLES):
        for measure in ("p50_s", "p95_s", "runs_per_change"):
            if against not in ORACLES:
                yield pairs(played, "W1 75 workers", measure, against, 1.0)
    for setup in SETUPS:
        if setup.preset == "W1":
            yield pairs(played, setup.name, "p50_s", "optimistic", 0.75)
            yield pairs(played, setup.name, "p95_s", "optimistic", 0.6)
            yield pairs(played, setup.name, "runs_per_change", "optimistic", 1.1)
    yield pairs(played, "W1 500/h", "p50_s", "oracle", 1.0)
    yield pairs(played, "W1 500/h", "p95_s", "oracle", 1.1)
    for policy, published in (("single", 80.0), ("optimistic", 8.45), ("uber-2019", 1.2)):
        found = ratios(played, "W1 500/h", "p50_s", policy, "oracle")
        if found:
            reached = median(found)
            yield Row(
                f"{policy}: P50 {published:g} times the oracle, as published, within 15 %",
                "W1 500/h",
                f"{reached:.2f}",
                abs(reached / published - 1) <= 0.15,
            )


def aims_of_w2(played: Played) -> Iterator[Row | None]:
    for failure in (0.05, 0.1, 0.2):
        where = f"W2 1 worker, 16/h, failure {failure}"
        yield level(played, where, lambda record: record["p50_s"], 450, "P50 s")
        yield level(played, where, lambda record: record["undecided"], 0, "undecided")
        burst = [record["last_verdict_s"] / 60 for record in played.of(f"W2 burst, failure {failure}", OURS).values()]
        if burst:
            yield row("minutes until the last verdict", f"W2 burst, failure {failure}", burst, 15)


def aims_of_w3(played: Played) -> Iterator[Row | None]:
    for chance in W3_CHANCES[:4]:
        where = f"W3 p={chance}"
        ours = played.of(where, OURS)
        if not ours:
            continue
        yield level(
            played, where, lambda record, p=chance: record["runs_per_change"] / entropy(p), 1.10, "runs / entropy bound"
        )
        fours, stops = played.of(where, "batch-4"), played.of(where, "batch-stop-4")
        if fours and stops:
            better = min((fours, stops), key=lambda records: fmean(one["runs_per_change"] for one in records.values()))
            found = [ours[seed]["runs_per_change"] / better[seed]["runs_per_change"] for seed in ours if seed in better]
            yield row("runs per change / the better of batch-4 and stop-4", where, found, 0.90)
        yield level(played, where, lambda record: record["rounds_p95"], 6, "rounds P95")
    for setup in SETUPS:
        if setup.preset == "W3" and setup.settings.get("pattern") == "streaks":
            ours, theirs = played.of(setup.name, OURS), played.of(setup.name, "dynamic-divide-4")
            if ours and theirs:
                least = {seed: streak_bound(setup.workload, seed) for seed in ours}
                gap = fmean(theirs[seed]["runs_per_change"] - least[seed] for seed in ours if seed in theirs)
                closed = fmean(
                    theirs[seed]["runs_per_change"] - ours[seed]["runs_per_change"] for seed in ours if seed in theirs
                )
                share = closed / gap if gap > 0 else math.nan
                yield Row(
                    "gap of dynamic-divide-4 to the clairvoyant closed by half", setup.name, f"{share:.2f}", share >= 0.5
                )


def aims_of_w5(played: Played) -> Iterator[Row | None]:
    flaky, calm = played.of("W5 suite flake .05", OURS), played.of("W5 no flakes", OURS)
    if not flaky:
        return
    # A refusal is false where the change was fine, so those who were not are no part of the share.
    innocents = sum(record["landed"] + record["false_refusals"] for record in flaky.values())
    share = sum(record["false_refusals"] for record in flaky.values()) / innocents
    yield Row("innocent refusals ≤ 0.1 %", "W5 suite flake .05", f"{100 * share:.3f} % of {innocents}", share <= 0.001)
    if calm:
        extra = [
            flaky[seed]["worker_minutes_per_change"] / calm[seed]["worker_minutes_per_change"]
            for seed in flaky
            if seed in calm
        ]
        yield row("worker time / the same without flakes", "W5 suite flake .05", extra, 1.02)
    again = [record["repeat_share"] for record in flaky.values()]
    yield row("share of worker time that repeats a run", "W5 suite flake .05", again, 0.02)
    through = sum(record["let_through"] for record in flaky.values())
    retried = sum(record["let_through_by_retries"] for record in flaky.values())
    of = sum(record["intermittent"] for record in flaky.values())
    told = f"{through} of {of}, two retries {retried:.1f}"
    yield Row("intermittent faults let through ≤ by two retries", "W5 suite flake .05", told, through <= retried)


def aims_of_w8(played: Played) -> Iterator[Row | None]:
    for workers in (60, 200):
        declared, whole = (played.of(f"W8 {name}, {workers} workers", OURS) for name in ("declared", "whole tree"))
        found = [whole[seed]["p95_s"] / declared[seed]["p95_s"] for seed in declared if seed in whole]
        if found:
            factor = median(found)
            yield Row("P95 with whole trees / with declared inputs ≥ 5", f"W8 {workers} workers", spread(found), factor >= 5)


def aims_of_all(played: Played) -> Iterator[Row | None]:
    sure = [record for record in played.records if record["policy"] == OURS and not has_accidents(record)]
    if sure:
        red = sum(record["red_landings"] for record in sure)
        landed = sum(record["landed"] for record in sure)
        yield Row("landings on a red trunk, flakes off: 0", "all", f"{red} of {landed}", red == 0)
        false = sum(record["false_refusals"] for record in sure)
        yield Row("false refusals, flakes off: 0", "all", f"{false}", false == 0)


def aims_of_speed(played: Played) -> Iterator[Row | None]:
    for waiting, at_most in ((1_000, 20), (10_000, 200)):
        yield level(
            played, f"plans with {waiting} waiting", lambda record: record["plan_p99_ms"], at_most, "one plan at P99, ms"
        )
    yield level(played, "a day at 500/h", lambda record: record["wall_s"], 60, "real seconds")


def has_accidents(record: Json) -> bool:
    workload = PRESETS[record["preset"]].altered(**record["settings"])
    return bool(workload.suite_flake) or (workload.preset == "W5" and bool(workload.intermittent))


def pairs(
    played: Played, where: str, measure: str, against: str, at_most: float, better_on: float | None = None
) -> Row | None:
    found = ratios(played, where, measure, OURS, against)
    if not found:
        return None
    return row(f"{measure} / {against}", where, found, at_most, better_on)


def ratios(played: Played, where: str, measure: str, policy: str, against: str) -> list[float]:
    ours, theirs = played.of(where, policy), played.of(where, against)
    return [ours[seed][measure] / theirs[seed][measure] for seed in ours if seed in theirs and theirs[seed][measure]]


def row(what: str, where: str, found: Sequence[float], at_most: float, better_on: float | None = None) -> Row:
    """The median counts; better_on: on how many of the seeds it has to be below 1 as well."""
    is_met = median(found) <= at_most
    aim = f"{what} ≤ {at_most:g}"
    reached = spread(found)
    if better_on is not None:
        better = fmean(value < 1 for value in found)
        aim += f", better on ≥ {better_on:.0%} of the seeds"
        reached += f", better on {better:.0%}"
        is_met = is_met and better >= better_on
    return Row(aim, where, reached, is_met)


def level(played: Played, where: str, measure: Measure, at_most: float, unit: str) -> Row | None:
    found = [value for record in played.of(where, OURS).values() if (value := measure(record)) is not None]
    if not found:
        return None
    mean, margin = mean_and_margin(found)
    told = f"{mean:.3g} ±{margin:.2g}" if len(found) > 1 else f"{mean:.3g}"
    return Row(f"{unit} ≤ {at_most:g}", where, told, mean <= at_most)


def spread(found: Sequence[float]) -> str:
    ascending = sorted(found)
    return f"{median(found):.2f} [{quantile(ascending, 0.1):.2f}–{quantile(ascending, 0.9):.2f}]"


def entropy(p: float) -> float:
    """Bits per change: no way of testing groups needs fewer runs for each, where failures are independent."""
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def streak_bound(workload: Workload, seed: int) -> float:
    """Runs per change of a clairvoyant that keeps the order: one for each bad change, one for each streak of good ones."""
    fine = [arrival.is_fine for arrival in arrivals(workload, seed)]
    return (fine.count(False) + sum(is_fine for is_fine, _ in groupby(fine))) / len(fine)


# --- tables -----------------------------------------------------------------------------------------------------------


def aims_table(rows: Sequence[Row]) -> list[str]:
    lines = ["| workload | aim | reached | |", "|---|---|---|---|"]
    return lines + [f"| {one.where} | {one.aim} | {one.reached} | {'met' if one.is_met else '**missed**'} |" for one in rows]


def records_table(played: Played) -> list[str]:
    """Means with 95 % intervals of everything that was played."""
    lines = [
        "| workload | policy | P50 min | P95 min | runs/change | worker min/change | aborted % | falsely refused | open |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (setup, policy), records in _grouped(played.records).items():
        cells = [
            _cell([one["p50_s"] / 60 for one in records if one["p50_s"] is not None], 1),
            _cell([one["p95_s"] / 60 for one in records if one["p95_s"] is not None], 1),
            _cell([one["runs_per_change"] for one in records], 2),
            _cell([one["worker_minutes_per_change"] for one in records], 1),
            _cell([100 * one["aborted_share"] for one in records], 1),
            f"{sum(one['false_refusals'] for one in records)}",
            f"{sum(one['undecided'] for one in records)}",
        ]
        lines.append(f"| {setup} | {policy} | {' | '.join(cells)} |")
    return lines


def _grouped(records: Iterable[Json]) -> dict[tuple[str, str], list[Json]]:
    found: dict[tuple[str, str], list[Json]] = {}
    for record in records:
        found.setdefault((record["setup"], record["policy"]), []).append(record)
    return found


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    mean, margin = mean_and_margin(values)
    return f"{mean:.{digits}f}" if math.isinf(margin) else f"{mean:.{digits}f} ±{margin:.{digits}f}"


if __name__ == "__main__":
    main()
