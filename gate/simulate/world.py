"""One simulated queue: a clock that jumps from event to event, workers, and the shipped planner between them.

The world owns the state, asks ``gate.plan.plan`` at every event and carries out what it says, as gate/gate.py does. Building
a candidate costs nothing here, so the planner's mappings answer whatever it looks up. An auditor holds each verdict against
the truth, which only clairvoyant policies may ask for.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from ci.model import MOST_NAMED, Check, InputKey, Outcome, Result, RunId, Sha
from gate.findings import FindingBook
from gate.garbage import between_plans
from gate.model import (
    Assumption,
    Build,
    Cancel,
    Candidate,
    Change,
    ChangeId,
    Evidence,
    Hold,
    Land,
    Merged,
    MergeOutcome,
    Need,
    Plan,
    Refuse,
    Running,
    Snapshot,
    Start,
    Verdict,
)
from gate.plan import Planner
from gate.simulate.draws import BEGIN, HOUR_S, Arrival
from gate.simulate.foresight import Foresight
from gate.simulate.workloads import Workload
from gate.view import Policy

PLANS_PER_EVENT = 1000  # more at one moment: it plans for ever


class Truth(Protocol):
    """What is true of the changes that were submitted so far; the same on the same seed, whoever asks and how often."""

    def is_fine(self, change: ChangeId) -> bool:
        """It breaks nothing by itself, on a trunk that holds only fine changes."""

    def clash(self, one: ChangeId, other: ChangeId) -> bool:
        """Both together break something, though each may be fine by itself. The order does not matter. False where one of
        them had landed before the other was submitted: this was written on top of it."""

    def duration_s(self, change: ChangeId) -> float:
        """Seconds until all its checks have run on top of any given others, with workers enough."""


class Contents(Truth, Protocol):
    """What is in trunk and in candidates, and what comes of runs. Two kinds: by_change.py and by_content.py."""

    def arrive(self, arrival: Arrival) -> None: ...
    def leave(self, change: ChangeId) -> None: ...
    def land(self, change: ChangeId) -> set[ChangeId]: ...
    def foes_on_trunk(self, change: ChangeId) -> set[ChangeId]: ...
    def needs_of(self, candidate: Candidate) -> tuple[Need, ...]: ...
    def trial(self, change: ChangeId, assumption: Assumption) -> tuple[Need, ...]: ...
    def trunk_needs(self) -> tuple[Need, ...]: ...
    def run_s(self, key: InputKey, tests: Sequence[str]) -> float: ...
    def failures(self, key: InputKey, run: int, began: float, ended: float, tests: Sequence[str]) -> tuple[str, ...]: ...
    def also_green(self, key: InputKey) -> tuple[InputKey, ...]: ...
    def shows_in(self, change: ChangeId) -> float: ...
    def mend(self) -> None: ...


class Broken(AssertionError):  # noqa: N818 - a finding about the planner
    """The planner decided what no planner may."""


@dataclass(slots=True)
class Run:
    """One run, as it is under way and as it is counted. changes: of the candidate. ended_at None: it has not."""

    key: InputKey
    check: Check
    changes: tuple[ChangeId, ...]
    tests: tuple[str, ...]
    attempt: int  # of this key, from 0
    started_at: float
    ends_at: float
    ended_at: float | None = None
    is_aborted: bool = False
    is_repeat: bool = False  # its key had a result already


@dataclass(slots=True)
class History:
    """What happened, for the measures. Times in epoch seconds of the virtual clock, plans in seconds of the real one."""

    submitted_at: dict[ChangeId, float] = field(default_factory=dict)
    decided: dict[ChangeId, tuple[Verdict, float]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    false_refusals: list[ChangeId] = field(default_factory=list)
    red_landings: list[ChangeId] = field(default_factory=list)
    intermittent: dict[ChangeId, float] = field(default_factory=dict)  # whose fault shows in this share of the runs only
    trunk_red_s: float = 0.0
    plans_s: list[float] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # changes in the snapshot of each plan
    ended_at: float = BEGIN


class World:
    """Plays one queue once. arrivals: in order of submission. workers, drain and the like are the workload's."""

    def __init__(
        self, workload: Workload, arrivals: Sequence[Arrival], contents: Contents, foresight: Foresight, policy: Policy
    ) -> None:
        self.history = History()
        self._workload = workload
        self._arrivals = arrivals
        self._contents = contents
        self._planner = Planner(policy)
        self._now = BEGIN
        self._landings = 0
        self._merged = 0
        self._trunk = Sha("trunk0")
        self._arrived = 0
        self._waiting: dict[ChangeId, Change] = {}
        self._leaving: list[tuple[float, ChangeId]] = []
        self._changes: tuple[Change, ...] = ()
        self._running: dict[RunId, tuple[Running, Run]] = {}
        self._running_keys: set[InputKey] = set()
        self._running_told: tuple[Running, ...] | None = None  # as in the last snapshot; None: others run now
        self._ends: list[tuple[float, int, RunId]] = []
        self._attempts: dict[InputKey, int] = {}
        self._places: dict[ChangeId, int] = {}
        self._alone: dict[ChangeId, Candidate] = {}
        self._controls: dict[ChangeId, Candidate] = {}  # the parents of these
        self._red_from: float | None = None  # since when trunk holds a fault
        self._look_again_at: float | None = None
        self._evidence: dict[InputKey, Evidence] = {}
        self._foresight = foresight
        self._merges = _Merges(self._merge, self._is_on_trunk)
        self._trials = _Trials(contents)
        self._see_trunk_green()
        self._findings = FindingBook()
        self._verdicts: dict[ChangeId, Verdict] = {}

    def play(self) -> History:
        last_arrival = self._arrivals[-1].change.submitted_at if self._arrivals else BEGIN
        give_up_at = last_arrival + self._workload.drain * HOUR_S
        with between_plans() as collect_garbage:
            while (moment := self._next_moment()) is not None and moment <= give_up_at:
                self._now = moment
                self._take_in()
                self._turn()
                collect_garbage()
        self.history.ended_at = self._now
        if self._red_from is not None:
            self.history.trunk_red_s += self._now - self._red_from
        return self.history

    # --- events

    def _next_moment(self) -> float | None:
        moments = [moment for moment in (self._look_again_at, self._mended_at()) if moment is not None]
        while self._leaving and self._leaving[0][1] not in self._waiting:
            heapq.heappop(self._leaving)
        if self._leaving:
            moments.append(self._leaving[0][0])
        if self._arrived < len(self._arrivals):
            moments.append(self._arrivals[self._arrived].change.submitted_at)
        elif not self._waiting:
            return None  # what still runs can decide nothing
        while self._ends and self._ends[0][2] not in self._running:
            heapq.heappop(self._ends)
        if self._ends:
            moments.append(self._ends[0][0])
        return min(moments, default=None)

    def _mended_at(self) -> float | None:
        """When somebody will have put right what is wrong with trunk. None: nothing is, or nobody does."""
        if self._red_from is None or self._workload.is_per_change:
            return None
        return self._red_from + self._workload.mended * 60

    def _take_in(self) -> None:
        mended_at = self._mended_at()
        if mended_at is not None and mended_at <= self._now:
            self._mend()
        while self._ends and self._ends[0][0] <= self._now:
            _, _, id_ = heapq.heappop(self._ends)
            if id_ in self._running:
                self._finish(id_)
        while self._leaving and self._leaving[0][0] <= self._now:
            self._withdraw(heapq.heappop(self._leaving)[1])
        arrived = self._arrived
        while arrived < len(self._arrivals) and self._arrivals[arrived].change.submitted_at <= self._now:
            self._submit(self._arrivals[arrived])
            arrived += 1
        if arrived > self._arrived:
            self._arrived = arrived
            self._changes = tuple(self._waiting.values())

    def _submit(self, arrival: Arrival) -> None:
        change = arrival.change
        self._contents.arrive(arrival)
        self._waiting[change.id] = change
        if arrival.leaves_at is not None:
            heapq.heappush(self._leaving, (arrival.leaves_at, change.id))
        self._foresight.submit(arrival)
        self._trials.add(change.id)
        self.history.submitted_at[change.id] = change.submitted_at
        if (shows := self._contents.shows_in(change.id)) < 1:
            self.history.intermittent[change.id] = shows

    def _finish(self, id_: RunId) -> None:
        _, run = self._running.pop(id_)
        self._running_keys.remove(run.key)
        self._running_told = None
        run.ended_at = self._now
        failed = self._contents.failures(run.key, run.attempt, run.started_at, self._now, run.tests)
        outcome = Outcome.RED if failed else Outcome.GREEN
        named = tuple(name for name in failed if name != run.check.name)
        result = Result(
            run.key, run.check.name, outcome, id_, run.started_at, self._now, failed=named[:MOST_NAMED], tests=run.tests
        )
        self._foresight.finish(id_, result, self._now)
        self._learn(result)
        is_proof = outcome is not Outcome.GREEN or self._evidence[run.key].green is result
        self._findings.end(id_, outcome if is_proof else None)
        if outcome is Outcome.GREEN:
            for key in self._contents.also_green(run.key):
                self._learn(result._replace(key=key))

    def _learn(self, result: Result) -> None:
        self._evidence[result.key] = self._evidence.get(result.key, _NOTHING).learn(result)

    def _see_trunk_green(self) -> None:
        """Trunk was tested, as a whole, by whoever put it where it is."""
        for need in self._contents.trunk_needs():
            if need.key not in self._evidence:
                self._learn(Result(need.key, need.check.name, Outcome.GREEN, RunId("trunk"), self._now, self._now))

    def _mend(self) -> None:
        assert self._red_from is not None
        self.history.trunk_red_s += self._now - self._red_from
        self._red_from = None
        self._contents.mend()
        self._alone.clear()
        self._controls.clear()
        self._move_trunk()
        self._trials.forget(self._waiting)
        self._see_trunk_green()

    def _move_trunk(self) -> None:
        self._landings += 1
        self._trunk = Sha(f"trunk{self._landings}")
        self._merges.forget([*self._alone.values(), *self._controls.values()])

    # --- planning

    def _turn(self) -> None:
        for _ in range(PLANS_PER_EVENT):
            snapshot = self._snapshot()
            began = perf_counter()
            made = self._planner.plan(snapshot, self._now)
            self.history.plans_s.append(perf_counter() - began)
            self.history.pending.append(len(snapshot.changes))
            if not self._perform(made):
                again_at = made.look_again_at
                self._look_again_at = again_at if again_at is not None and again_at > self._now else None
                return
        raise Broken(f"it plans for ever: {made}")

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            trunk=self._trunk,
            changes=self._changes,
            merges=self._merges,
            trials=self._trials,
            evidence=self._evidence,
            running=self._running_now(),
            workers=self._workload.workers,
            outlook=self._foresight.outlook(),
            places=self._places,
            alone=self._alone,
            findings=self._findings.findings,
            decided=self._verdicts,
            per_change=self._workload.is_per_change,
            max_false_refusals=self._workload.max_false_refusals,
            batch=self._workload.batch,
        )

    def _running_now(self) -> tuple[Running, ...]:
        if self._running_told is None:
            self._running_told = tuple([running for running, _ in self._running.values()])
        return self._running_told

    def _is_on_trunk(self, candidate: Candidate) -> bool:
        return candidate.base == self._trunk and all(change in self._waiting for change, _ in candidate.entries)

    def _merge(self, candidate: Candidate) -> MergeOutcome | None:
        if not self._is_on_trunk(candidate):
            return None
        if not candidate.entries:
            return Merged(self._trunk, self._trunk, self._contents.trunk_needs())
        self._merged += 1
        commit = Sha(f"merge{self._merged}")
        return Merged(commit, commit, self._contents.needs_of(candidate))

    # --- decisions

    def _perform(self, made: Plan) -> bool:
        """Whether there is something new to plan from: a verdict. A start or a stop tells nothing that was not known."""
        has_news = False
        for decision in made.decisions:
            match decision:
                case Hold() | Build():  # most of a long queue, so they come first
                    pass
                case Refuse():
                    self._refuse(decision)
                    has_news = True
                case Land():
                    self._land(decision.candidate)
                    has_news = True
                case Cancel():
                    self._cancel(decision.run)
                case Start():
                    self._start(decision)
        return has_news

    def _start(self, start: Start) -> None:
        if len(self._running) >= self._workload.workers:
            raise Broken(f"more runs than workers: {start}")
        if start.key in self._running_keys:
            raise Broken(f"one key is run twice: {start}")
        attempt = self._attempts.get(start.key, 0)
        self._attempts[start.key] = attempt + 1
        changes = tuple(change for change, _ in start.candidate.entries)
        for change in changes:
            self._places.setdefault(change, len(self._places))
        ends_at = self._now + self._contents.run_s(start.key, start.tests)
        if len(changes) == 1 and start.candidate.base == self._trunk:
            self._alone[changes[0]] = start.candidate
            control = self._controls[changes[0]] = start.candidate.parent
            self._merges.get(control)  # it may be asked for when trunk has moved on
        run = Run(start.key, start.check, changes, start.tests, attempt, self._now, ends_at)
        run.is_repeat = start.key in self._evidence
        self.history.runs.append(run)
        id_ = RunId(f"r{len(self.history.runs)}")
        self._findings.begin(id_, start.check.name, changes)
        self._foresight.start(id_, start.check.name, changes, self._now)
        self._running[id_] = (Running(id_, start.check.name, start.key, self._now, changes), run)
        self._running_keys.add(start.key)
        self._running_told = None
        heapq.heappush(self._ends, (ends_at, len(self.history.runs), id_))

    def _cancel(self, id_: RunId) -> None:
        _, run = self._running.pop(id_)
        self._running_keys.remove(run.key)
        self._running_told = None
        self._findings.end(id_, None)
        self._foresight.finish(id_, None, self._now)
        run.ended_at = self._now
        run.is_aborted = True

    def _refuse(self, refusal: Refuse) -> None:
        change = refusal.change
        if change not in self._waiting:
            raise Broken(f"a refusal of what does not wait: {refusal}")
        if self._contents.is_fine(change) and not self._contents.foes_on_trunk(change):
            self.history.false_refusals.append(change)
        self._decide(change, Verdict.REFUSED)
        self._foresight.refuse((change, refusal.revision), refusal.reasons, self._now)
        self._changes = tuple(self._waiting.values())

    def _withdraw(self, id_: ChangeId) -> None:
        change = self._waiting.get(id_)
        if change is not None:
            self._decide(id_, Verdict.WITHDRAWN)
            self._foresight.withdraw(change.entry, self._now)
            self._changes = tuple(self._waiting.values())

    def _land(self, candidate: Candidate) -> None:
        merged = self._merges.get(candidate)
        if not isinstance(merged, Merged) or not candidate.entries:
            raise Broken(f"a landing of what is not on top of trunk: {candidate}")
        for need in merged.needs:
            known = self._evidence.get(need.key)
            if known is None or known.green is None:
                raise Broken(f"a landing without a green result for {need.key}: {candidate}")
        altered: set[ChangeId] = set()
        landed = [self._waiting[change] for change, _ in candidate.entries]
        for change, _ in candidate.entries:
            if not self._contents.is_fine(change) or self._contents.foes_on_trunk(change):
                self.history.red_landings.append(change)
                self._red_from = self._now if self._red_from is None else self._red_from
            altered |= self._contents.land(change)
            self._decide(change, Verdict.LANDED)
        self._foresight.land(candidate.entries, self._now)
        self._findings.land(landed, self._waiting.values())
        self._changes = tuple(self._waiting.values())
        self._move_trunk()
        self._trials.forget(altered)

    def _decide(self, change: ChangeId, verdict: Verdict) -> None:
        del self._waiting[change]
        self._trials.remove(change)
        self._contents.leave(change)
        self._findings.forget([change])
        self._alone.pop(change, None)
        self._controls.pop(change, None)
        self._verdicts[change] = verdict
        self.history.decided[change] = (verdict, self._now)


_NOTHING = Evidence()


# --- mappings that answer when asked ----------------------------------------------------------------------------------


class _Merges(Mapping[Candidate, MergeOutcome]):
    """Every candidate on trunk, merged when somebody looks it up."""

    def __init__(self, merge: Callable[[Candidate], MergeOutcome | None], is_known: Callable[[Candidate], bool]) -> None:
        """is_known: whether ``merge`` would give something, for less."""
        self._merge = merge
        self._is_known = is_known
        self._made: dict[Candidate, MergeOutcome | None] = {}

    def get(self, candidate: Candidate, default: Any = None) -> Any:
        try:
            found = self._made[candidate]
        except KeyError:
            found = self._made[candidate] = self._merge(candidate)
        return default if found is None else found

    def __getitem__(self, candidate: Candidate) -> MergeOutcome:
        found: MergeOutcome | None = self.get(candidate)
        if found is None:
            raise KeyError(candidate)
        return found

    def __contains__(self, candidate: object) -> bool:
        return isinstance(candidate, Candidate) and (self._made.get(candidate) is not None or self._is_known(candidate))

    def __iter__(self) -> Iterator[Candidate]:
        return iter([candidate for candidate, outcome in self._made.items() if outcome is not None])

    def __len__(self) -> int:
        return sum(outcome is not None for outcome in self._made.values())

    def forget(self, but: Iterable[Candidate]) -> None:
        made = self._made
        self._made = {each: made[each] for each in but if each in made}


class _TrialsOf(Mapping[Assumption, tuple[Need, ...]]):
    """The trials of one change, on the trunk of this moment."""

    def __init__(self, change: ChangeId, contents: Contents) -> None:
        self._change = change
        self._contents = contents
        self._made: dict[Assumption, tuple[Need, ...]] = {}

    def get(self, assumption: Assumption, default: Any = None) -> Any:  # noqa: ARG002 - it always answers
        try:
            return self._made[assumption]
        except KeyError:
            found = self._made[assumption] = self._contents.trial(self._change, assumption)
            return found

    def __getitem__(self, assumption: Assumption) -> tuple[Need, ...]:
        found: tuple[Need, ...] = self.get(assumption)
        return found

    def __contains__(self, assumption: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Assumption]:
        return iter(list(self._made))

    def __len__(self) -> int:
        return len(self._made)


class _Trials(dict[ChangeId, Mapping[Assumption, tuple[Need, ...]]]):
    """The trials of every waiting change."""

    def __init__(self, contents: Contents) -> None:
        super().__init__()
        self._contents = contents

    def add(self, change: ChangeId) -> None:
        self[change] = _TrialsOf(change, self._contents)

    def remove(self, change: ChangeId) -> None:
        del self[change]

    def forget(self, changes: Iterable[ChangeId]) -> None:
        for change in changes:
            if change in self:
                self.add(change)
