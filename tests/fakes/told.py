"""A queue of which a test says the odds, the durations and the authors; for stories and histories of the shipped policy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ci.model import Outcome, RunId
from fakes.queue import Code, World
from gate.model import Candidate, ChangeId, Forecast, Outlook, RunStarted, Snapshot, Start

RUN_S = 300.0

Run = tuple[int, ...]  # the changes of a candidate that is tested


@dataclass
class Told(World):
    """A world that also tells of authors, of the bound of a batch, and since when runs go on."""

    batch: int = 0
    authors: dict[int, str] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        told = super().snapshot()
        began = {event.run: event.at for event in self.events if isinstance(event, RunStarted)}
        return replace(
            told,
            batch=self.batch,
            changes=tuple(replace(change, by=self.authors.get(change.id, change.by)) for change in told.changes),
            running=tuple(replace(run, started_at=began.get(run.run, run.started_at)) for run in told.running),
        )

    def runs(self) -> list[Run]:
        """The changes of each run under way, oldest run first."""
        return [numbers(start) for start in self.running.values()]

    def all_runs(self) -> list[Run]:
        return [numbers(start) for start in self.started]

    def end(self, *changes: int, outcome: Outcome | None = None) -> None:
        """End the run of just these changes."""
        (run,) = (run for run, start in self.running.items() if numbers(start) == changes)
        self.finish_check(run, outcome)


def numbers(start: Start) -> Run:
    return tuple(change for change, _ in start.candidate.entries)


def queue_of(codes: Sequence[Code], chances: Iterable[float], durations: dict[str, float], **settings: Any) -> Told:
    outlook = Outlook(
        forecasts={ChangeId(at): Forecast(chance) for at, chance in enumerate(chances, 1)},
        durations={item.check.name: durations.get(item.check.name, RUN_S) for item in codes},
        clash=settings.pop("clash", 0.0),
    )
    files = {path: "0" for item in codes for path in sorted(item.inputs)}
    queue = Told(tuple(codes), files, outlook=outlook, **settings)
    for item in codes:
        run = RunId(f"base {item.check.name}")
        queue.running[run] = Start(item.check, item.key(queue.tree), Candidate(queue.trunk), "")
        queue.finish_check(run)
    return queue
