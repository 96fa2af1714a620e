"""How far the gate's odds can be trusted: the chance it gave each change when it came, beside what became of it.

    python benchmarks/odds.py [--seeds 101:110] [--changes 2000] [--json]
    python benchmarks/odds.py --from REPO.git [--json]

Without ``--from``: journals drawn from seeds (tests/fakes/histories.py), where the truth is known. The team gets worse
half-way, one check after three quarters, checks are red for nothing, changes break together. The odds are asked at each
submission, and learn only what the journal tells later. They are compared by mean squared error (Brier) with the chance of
the first day for all, with the share of fine changes so far, and with the true chances, which nothing can beat but by luck.
``skill`` is how much of the way from the share so far to the truth was made. With ``--from``: the same over a repository's
own journal, which is only read; files of each change come from Git, and the truth is what the gate decided.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ci.git import GitFailed  # noqa: E402 - the path comes first
from fakes.histories import History, Team, Told  # noqa: E402
from gate import merge  # noqa: E402
from gate.journal import Journal  # noqa: E402
from gate.model import ChangeRefused, ChangeSubmitted, Entry, Event, LandingStarted, Why  # noqa: E402
from gate.odds import CHANCE, Odds, Traits, reliability  # noqa: E402
from gate.repository import Repository  # noqa: E402
from gate.state import State, apply_event  # noqa: E402

Predictions = list[tuple[float, bool]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="101:110", help="first and last (101:110)")
    parser.add_argument("--changes", type=int, default=2_000, help="in each history")
    parser.add_argument("--hints", type=float, default=0.0, help="share of changes with their author's own results (0)")
    parser.add_argument("--from", dest="source", type=Path, help="a repository that the gate serves")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.source is not None:
        if not Repository(arguments.source).journal_path.is_file():
            parser.error(f"{arguments.source} has no journal of a gate's")
        report = measure_repository(arguments.source)
    else:
        first, _, last = arguments.seeds.partition(":")
        report = measure_histories(range(int(first), int(last or first) + 1), arguments.changes, arguments.hints)
    print(json.dumps(report, indent=2) if arguments.json else as_text(report))


# --- drawn histories ------------------------------------------------------------------------------------------------------


def measure_histories(seeds: range, changes: int, hints: float) -> dict[str, object]:
    """One record over all seeds; the odds begin anew with each."""
    predicted: dict[str, Predictions] = {"odds": [], "first day for all": [], "share so far": [], "truth": []}
    flakes, clashes, durations = [], [], []
    events, seconds = 0, 0.0
    for seed in seeds:
        team = Team(changes=changes, hints=hints)
        history, odds = History(seed, team), Odds()
        fine, seen = 20 * CHANCE, 20.0
        waiting: dict[int, bool] = {}
        for step in history.steps():
            if isinstance(step, Told):
                odds.note_change(step.change, step.lines, step.is_green_here)
                chance = odds.forecast(step.change).chance
                for name, value in (("odds", chance), ("first day for all", CHANCE), ("share so far", fine / seen)):
                    predicted[name].append((value, step.is_fine))
                predicted["truth"].append((step.chance, step.is_fine))
                waiting[step.change.id] = step.is_fine
                continue
            begun = time.perf_counter()
            odds.learn(step)
            seconds += time.perf_counter() - begun
            events += 1
            if isinstance(step, ChangeRefused):
                seen += 1
            elif isinstance(step, LandingStarted):
                fine, seen = fine + 1, seen + 1
        outlook = odds.outlook()
        flakes += [abs(outlook.flakes[check] - team.flake) for check in history.checks if check in outlook.flakes]
        clashes.append(outlook.clash)
        durations += [abs(outlook.durations[c] / history.durations[c] - 1) for c in history.checks if c in outlook.durations]
    return (
        {"seeds": f"{seeds.start}:{seeds.stop - 1}", "changes": len(predicted["odds"])}
        | compared(predicted)
        | {
            "flake odds, mean error": round(sum(flakes) / len(flakes), 4),
            "clash, mean (truth 0.034)": round(sum(clashes) / len(clashes), 4),
            "durations, mean relative error": round(sum(durations) / len(durations), 3),
            "events per second": round(events / seconds),
        }
    )


# --- a repository's own journal -------------------------------------------------------------------------------------------


def measure_repository(path: Path) -> dict[str, object]:
    predicted: dict[str, Predictions] = {"odds": [], "first day for all": [], "share so far": []}
    fine, seen = 20 * CHANCE, 20.0
    asked: dict[Entry, tuple[float, float]] = {}
    events = 0
    odds = Odds()
    for event, entry in told(path, odds):
        events += 1
        if entry is not None:
            asked[entry] = (odds.chance_of(entry), fine / seen)
        for decided, is_fine in verdicts(event):
            if decided in asked:
                chance, share = asked.pop(decided)
                predicted["odds"].append((chance, is_fine))
                predicted["first day for all"].append((CHANCE, is_fine))
                predicted["share so far"].append((share, is_fine))
                fine, seen = fine + is_fine, seen + 1
    return {"repository": path.name, "events": events, "changes": len(predicted["odds"])} | compared(predicted)


def told(path: Path, odds: Odds) -> Iterator[tuple[Event, Entry | None]]:
    """Events of the journal, each learned before it is told; with a submission, its entry once its files are noted."""
    repository = Repository(path)
    state = State()
    for _, event in Journal(repository.journal_path).read():
        apply_event(state, event)
        odds.learn(event)
        entry: Entry | None = None
        if isinstance(event, ChangeSubmitted):
            entry = (event.submission.change, event.submission.revision)
            if state.trunk is not None:
                try:
                    _, paths = merge.read_change(repository.git, state.trunk, event.submission.head)
                except GitFailed:
                    pass  # git has forgotten it
                else:
                    odds.note_traits(entry, Traits(files=len(paths)))
        yield event, entry


def verdicts(event: Event) -> list[tuple[Entry, bool]]:
    if isinstance(event, LandingStarted):
        return [(entry, True) for entry in event.changes]
    if isinstance(event, ChangeRefused) and any(reason.why is Why.CHECK_RED for reason in event.reasons):
        return [((event.change, event.revision), False)]
    return []


# --- words ----------------------------------------------------------------------------------------------------------------


def compared(predicted: dict[str, Predictions]) -> dict[str, object]:
    tables = {name: reliability(predictions) for name, predictions in predicted.items()}
    found: dict[str, object] = {
        name: {"brier": round(table.brier, 5), "calibration error": round(table.calibration_error, 4)}
        for name, table in tables.items()
    }
    if "truth" in tables:
        room = tables["share so far"].brier - tables["truth"].brier
        found["skill"] = round((tables["share so far"].brier - tables["odds"].brier) / room, 3) if room > 0 else None
    found["reliability"] = [
        {"from": row.low, "to": row.high, "changes": row.count, "predicted": row.predicted, "actual": row.actual}
        for row in tables["odds"].bins
        if row.count
    ]
    return found


def as_text(report: dict[str, object]) -> str:
    lines = []
    for name, value in report.items():
        if name == "reliability":
            assert isinstance(value, list)
            lines += ["", "chance given   changes  predicted  actual"]
            lines += [
                f"{row['from']:.1f} to {row['to']:.1f}  {row['changes']:8}  {row['predicted']:9.3f}  {row['actual']:6.3f}"
                for row in value
            ]
            lines.append("")
        elif isinstance(value, dict):
            lines.append(f"{name}: " + ", ".join(f"{what} {figure}" for what, figure in value.items()))
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
