"""Records as a table for people: means over the seeds with 95 % intervals, a line per policy and settings."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gate import text
from gate.simulate.measure import Record, mean_and_margin

if TYPE_CHECKING:
    from gate.simulate.replay import Replay

Column = tuple[str, Callable[[Record], float | None], int]  # heading, measure, digits

COLUMNS: tuple[Column, ...] = (
    ("P50 min", lambda record: _minutes(record.p50_s), 1),
    ("P95 min", lambda record: _minutes(record.p95_s), 1),
    ("P99 min", lambda record: _minutes(record.p99_s), 1),
    ("runs/change", lambda record: record.runs_per_change, 2),
    ("worker min/change", lambda record: record.worker_minutes_per_change, 1),
    ("aborted %", lambda record: 100 * record.aborted_share, 1),
    ("landed", lambda record: record.landed, 0),
    ("refused", lambda record: record.refused, 0),
    ("falsely", lambda record: record.false_refusals, 1),
    ("undecided", lambda record: record.undecided, 0),
    ("red landings", lambda record: record.red_landings, 1),
    ("trunk red min", lambda record: record.trunk_red_s / 60, 1),
    ("plan P99 ms", lambda record: record.plan_p99_ms, 1),
)


def groups(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """By (settings, policy), in the order in which they came."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((_settings(record), record.policy), []).append(record)
    return found


def table(records: Sequence[Record]) -> list[str]:
    grouped = groups(records)
    rows = [["settings", "policy", *(heading for heading, _, _ in COLUMNS)]]
    for (settings, policy), group in grouped.items():
        rows.append([settings, policy, *(_cell(group, measure, digits) for _, measure, digits in COLUMNS)])
    if len({settings for settings, _ in grouped}) == 1:
        rows = [row[1:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    seeds = sorted({record.seed for record in records})
    preset = records[0].preset
    shared = "" if len({settings for settings, _ in grouped}) > 1 else _settings(records[0])
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "1 seed"
    return [f"{preset} {shared}".strip(), *lines, f"means and 95 % intervals over {count}: {_seeds(seeds)}"]


def _cell(group: Sequence[Record], measure: Callable[[Record], float | None], digits: int) -> str:
    values = [value for record in group if (value := measure(record)) is not None]
    if not values:
        return "-"
    mean, margin = mean_and_margin(values)
    return f"{mean:.{digits}f}" if len(values) < 2 else f"{mean:.{digits}f} ±{margin:.{digits}f}"


def _settings(record: Record) -> str:
    return ",".join(f"{name}={value}" for name, value in record.settings.items())


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}:{seeds[-1]}"
    return ",".join(map(str, seeds))


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def replayed(made: "Replay") -> list[str]:
    """What a replay has shown."""
    told = f"{made.decisions} decisions of {made.plans} plans, from {made.events} events: "
    lines = [told + ("all as recorded" if made.difference is None else "as recorded, then one that is not")]
    if made.unchecked:
        lines.append(f"{made.unchecked} earlier decisions cannot be made again: nobody recorded when they were planned")
    if (found := made.difference) is not None:
        moment = text.moment(found.at)
        lines += [
            f"at {moment}, after event {found.seen} ({found.fact}):",
            f"  recorded: {found.recorded or 'nothing more'}",
            f"  planned:  {found.planned or 'nothing more'}",
        ]
    return lines
