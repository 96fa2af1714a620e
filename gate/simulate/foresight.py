"""What the planner is told of the future: what the workload says, or what the shipped odds learn as the queue goes on."""

from collections.abc import Sequence
from typing import Protocol

from ci.model import CheckName, InputKey, Result, RunId, Sha
from gate.model import (
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Forecast,
    Landed,
    LandingStarted,
    Outlook,
    Reason,
    RunFinished,
    RunStarted,
    Submission,
)
from gate.odds import Odds
from gate.simulate.draws import Arrival, suites
from gate.simulate.workloads import Workload


class Foresight(Protocol):
    """Hears what happens, in the order in which it does, and says what to expect."""

    def outlook(self) -> Outlook: ...
    def submit(self, arrival: Arrival) -> None: ...
    def start(self, run: RunId, check: CheckName, changes: Sequence[ChangeId], at: float) -> None: ...
    def finish(self, run: RunId, result: Result | None, at: float) -> None: ...
    def land(self, entries: Sequence[Entry], at: float) -> None: ...
    def refuse(self, entry: Entry, reasons: tuple[Reason, ...], at: float) -> None: ...
    def withdraw(self, entry: Entry, at: float) -> None: ...


def foresight(workload: Workload, seed: int) -> Foresight:
    return Learned() if workload.predictor == "learned" else Given(workload, seed)


class Given:
    """The workload's own figures: a chance for each class of changes, the duration of each check, how often it flakes."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._forecasts: dict[ChangeId, Forecast] = {}
        checks = () if workload.is_per_change else suites(workload, seed)
        flakes = {suite.check.name: workload.suite_flake for suite in checks if workload.suite_flake}
        durations = {suite.check.name: suite.duration_s for suite in checks}
        self._outlook = Outlook(self._forecasts, durations, flakes, workload.clash)

    def outlook(self) -> Outlook:
        return self._outlook

    def submit(self, arrival: Arrival) -> None:
        self._forecasts[arrival.change.id] = arrival.forecast

    def start(self, run: RunId, check: CheckName, changes: Sequence[ChangeId], at: float) -> None:
        pass

    def finish(self, run: RunId, result: Result | None, at: float) -> None:
        pass

    def land(self, entries: Sequence[Entry], at: float) -> None:  # noqa: ARG002
        for change, _ in entries:
            del self._forecasts[change]

    def refuse(self, entry: Entry, reasons: tuple[Reason, ...], at: float) -> None:  # noqa: ARG002
        del self._forecasts[entry[0]]

    def withdraw(self, entry: Entry, at: float) -> None:  # noqa: ARG002
        del self._forecasts[entry[0]]


class Learned:
    """gate/odds.py, told what a gate's journal would hold."""

    def __init__(self) -> None:
        self._odds = Odds()
        self._landings = 0

    def outlook(self) -> Outlook:
        return self._odds.outlook()

    def submit(self, arrival: Arrival) -> None:
        change = arrival.change
        submission = Submission(Sha(""), change.id, change.revision, change.head, change.by, change.submitted_at)
        self._odds.learn(ChangeSubmitted(change.submitted_at, submission))
        self._odds.note_change(change)

    def start(self, run: RunId, check: CheckName, changes: Sequence[ChangeId], at: float) -> None:
        self._odds.learn(RunStarted(at, run, check, InputKey(""), Sha(""), tuple(changes)))

    def finish(self, run: RunId, result: Result | None, at: float) -> None:
        self._odds.learn(RunFinished(at, run, result))

    def land(self, entries: Sequence[Entry], at: float) -> None:
        self._landings += 1
        commit = Sha(f"landing{self._landings}")
        self._odds.learn(LandingStarted(at, Sha(""), commit, commit, tuple(entries), (), ()))
        self._odds.learn(Landed(at, Sha(""), commit))

    def refuse(self, entry: Entry, reasons: tuple[Reason, ...], at: float) -> None:
        self._odds.learn(ChangeRefused(at, entry[0], entry[1], reasons))

    def withdraw(self, entry: Entry, at: float) -> None:
        self._odds.learn(ChangeWithdrawn(at, entry[0], entry[1], ""))
