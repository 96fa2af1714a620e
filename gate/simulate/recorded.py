"""A real journal as a simulated queue: the same changes at the same times, with other settings or another policy.

What the journal knows stays as it was: content that was tested keeps its result and duration, a change that landed is fine,
one that was refused for a check breaks it. What it cannot know is drawn: whether a change without a verdict breaks a check
(the share of those that did), how long a run of new content takes (lognormal, fitted to the check's green runs), and whether
it is red for nothing (the odds that the gate has learned). docs/simulation.md says what is left out.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist, fmean, pstdev

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha, Stage
from ci.proof import proofs
from gate.changes import Changes
from gate.config import Config
from gate.gate import in_force
from gate.model import (
    Change,
    ChangeId,
    ChangeRefused,
    Entry,
    Event,
    Forecast,
    Landed,
    Reason,
    RunFinished,
    RunStarted,
    Verdict,
    Why,
)
from gate.odds import DURATION_S, Odds
from gate.simulate.by_content import ByContent, key_of, number_of
from gate.simulate.draws import BEGIN, Arrival, Fault, Suite, uniform
from gate.simulate.foresight import Learned
from gate.simulate.measure import Record as Measures
from gate.simulate.measure import measure, policies
from gate.simulate.replay import Record, opened
from gate.simulate.workloads import RECORDED, Workload
from gate.simulate.world import History, Run, World
from gate.state import Decided, State, apply_event

NOT_PLAYED = frozenset(  # reasons that end a change without a run, by what its commits are: no setting alters them
    {
        *(Why.CONFLICT, Why.NOTHING_TO_DO, Why.BROKEN_CONFIG, Why.SIGNED_COMMITS, Why.UNRELATED, Why.MERGE_COMMITS),
        Why.NO_ISOLATION,
    }
)


@dataclass(frozen=True, slots=True)
class Past:
    """One revision, and what became of it. at: when it was there, trunk open, and no approval missing.

    red: the checks that it was refused for, with the tests that failed. left_at: when its owner took it back or replaced it.
    """

    change: Change
    at: float
    verdict: Verdict | None = None
    decided_at: float | None = None
    red: tuple[tuple[CheckName, tuple[str, ...]], ...] = ()
    left_at: float | None = None


@dataclass(frozen=True, slots=True)
class Tested:
    """What is known of one content: the changes in it that touch the check's inputs, landed or not. failed: of a red one."""

    check: CheckName
    members: frozenset[ChangeId]
    is_green: bool
    failed: tuple[str, ...]
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Habits:
    """What runs of a check are like. mu, sigma: of the logarithm of seconds of the green ones. fails: share of the decided
    changes that break it. flakes: share of its runs that are red for nothing. retest_s: None: it never was."""

    check: Check
    mu: float
    sigma: float
    fails: float
    flakes: float
    retest_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A journal, as far as a simulation needs it. Changes are numbered anew, one for each revision; times from BEGIN on.

    left_out: revisions that no setting would alter: refused for what they are, never approved, drafts.
    """

    workload: Workload
    pasts: tuple[Past, ...]
    tested: tuple[Tested, ...]
    habits: tuple[Habits, ...]
    history: History
    left_out: int


def play_recorded(recorded: Recorded, workload: Workload, seed: int, policy: str) -> Measures:
    contents = _Contents(recorded, workload, seed)
    arrivals = [contents.arrival(past) for past in recorded.pasts]
    world = World(workload, arrivals, contents, Learned(), policies()[policy](contents))
    return measure(world.play(), workload, seed, policy)


def as_it_was(recorded: Recorded) -> Measures:
    """The record's own measures. What was true of its changes, nobody knows: no refusal and no landing counts as false."""
    return measure(recorded.history, recorded.workload, 0, RECORDED)


# --- a content for each set of changes ----------------------------------------------------------------------------------


class _Contents(ByContent):
    def __init__(self, recorded: Recorded, workload: Workload, seed: int) -> None:
        super().__init__(workload, seed, [Suite(each.check, math.exp(each.mu)) for each in recorded.habits])
        self._habits = {each.check.name: each for each in recorded.habits}
        self._tested: dict[InputKey, Tested] = {}
        for tested in recorded.tested:
            number = 0
            for member in tested.members:
                number ^= number_of(seed, member)
            self._tested[key_of(tested.check, number)] = tested

    def arrival(self, past: Past) -> Arrival:
        change = replace(past.change, submitted_at=past.at, evidence_from=past.at)
        faults = tuple(self._faults_in(past))
        longest = max((math.exp(self._habits[check].mu) for check in change.touches), default=0.0)
        return Arrival(change, Forecast(), not faults, longest, faults=faults, areas=change.touches, leaves_at=past.left_at)

    def _faults_in(self, past: Past) -> Iterable[Fault]:
        if past.verdict is Verdict.LANDED:
            return
        if past.red:
            yield from (Fault(check, tests) for check, tests in past.red if check in past.change.touches)
            return
        for check in sorted(past.change.touches):
            if uniform(self._seed, "fate", past.change.id, check) < self._habits[check].fails:
                yield Fault(check)

    def run_s(self, key: InputKey, tests: Sequence[str]) -> float:
        super().run_s(key, ())  # what is wrong with it, from what is wrong with its changes
        habits, tested = self._habits[self._checks[key]], self._tested.get(key)
        if tested is not None:
            self._run[key] = frozenset() if tested.is_green else frozenset({Fault(tested.check, tested.failed)})
        if tests and habits.retest_s is not None:
            return habits.retest_s
        if tested is not None and tested.duration_s is not None:
            return tested.duration_s
        luck = min(max(uniform(self._seed, "duration", key), 1e-9), 1 - 1e-9)
        return math.exp(habits.mu + habits.sigma * NormalDist().inv_cdf(luck))

    def failures(self, key: InputKey, run: int, began: float, ended: float, tests: Sequence[str]) -> tuple[str, ...]:
        failed = super().failures(key, run, began, ended, tests)
        check = self._checks[key]
        accident = FLAKY_TEST if self._habits[check].check.retest is not None else check
        is_asked = not tests or accident in tests
        if failed or not is_asked or uniform(self._seed, "flake", key, run) >= self._habits[check].flakes:
            return failed
        return (accident,)


FLAKY_TEST = "a test that flakes"


# --- reading a journal ----------------------------------------------------------------------------------------------------


def read_recorded(path: Path) -> Recorded:
    """Raises UserError when this is no repository with a gate, Unavailable when it cannot be read."""
    with opened(path) as record:
        return _Reading(record).read()


@dataclass(slots=True)
class _Reading:
    record: Record
    state: State = field(default_factory=State)
    odds: Odds = field(default_factory=Odds)
    policy: Config = field(default_factory=Config)
    trouble: str | None = None
    read_at: Sha | None = None  # the trunk that these are of
    checks: dict[CheckName, Check] = field(default_factory=dict)
    changes: dict[Entry, Change] = field(default_factory=dict)  # every revision
    ids: dict[Entry, ChangeId] = field(default_factory=dict)  # of those that are played, as they are numbered here
    first: float = 0.0  # when the first of them could go
    ready_at: dict[Entry, float] = field(default_factory=dict)
    left_at: dict[Entry, float] = field(default_factory=dict)
    red: dict[Entry, ChangeRefused] = field(default_factory=dict)  # refused for a check, the first time
    landed: dict[Entry, None] = field(default_factory=dict)
    runs: dict[RunId, tuple[RunStarted, frozenset[Entry]]] = field(default_factory=dict)  # with all that was in the tree
    trunks: dict[RunId, tuple[CheckName, Sha | None]] = field(default_factory=dict)  # of each run, the trunk of its time
    bare: set[RunId] = field(default_factory=set)  # those of trunk alone
    red_trunks: set[tuple[CheckName, Sha | None]] = field(
        default_factory=set
    )  # checks, each with a trunk that it was red on
    results: dict[tuple[CheckName, frozenset[Entry]], list[Result]] = field(
        default_factory=lambda: defaultdict[tuple[CheckName, frozenset[Entry]], list[Result]](list)
    )
    ends: dict[RunId, RunFinished] = field(default_factory=dict)
    _reader: Changes = field(init=False)

    def __post_init__(self) -> None:
        self._reader = Changes(self.record.repository)

    def read(self) -> Recorded:
        for _, event in self.record.events:
            before = dict(self.state.waiting)
            apply_event(self.state, event)
            self.odds.learn(event)
            self._see_trunk(event)
            self._take_in(event)
            for id_, submission in before.items():
                if self.state.waiting.get(id_) is not submission and not isinstance(event, Landed | ChangeRefused):
                    self.left_at[id_, submission.revision] = event.at
            self._see_ready(event)
        return self._recorded()

    def _see_trunk(self, event: Event) -> None:
        """What was red on a trunk says nothing of the changes that were tested on top of it."""
        match event:
            case RunStarted():
                self.trunks[event.run] = (event.check, self.state.trunk if event.changes else event.commit)
                if not event.changes:
                    self.bare.add(event.run)
            case RunFinished(result=Result(outcome=Outcome.RED | Outcome.TIMED_OUT)) if event.run in self.bare:
                self.red_trunks.add(self.trunks[event.run])
            case RunFinished(result=Result(outcome=Outcome.GREEN)) if event.run in self.bare:
                self.red_trunks.discard(self.trunks[event.run])  # it was red for nothing, or for what is over
            case _:
                pass

    def _take_in(self, event: Event) -> None:
        match event:
            case ChangeRefused(change=change, revision=revision) if _red(event.reasons):
                self.red.setdefault((change, revision), event)
            case Landed() if self.state.landings:
                self.landed |= dict.fromkeys(self.state.landings[-1][1].changes)
            case RunStarted() if event.stage != Stage.POST_COMMIT:
                newest = (self.state.newest(change) for change in event.changes)
                tree = {(item.change, item.revision) for item in newest if item is not None}
                self.runs[event.run] = (event, frozenset(tree | self.landed.keys()))
            case RunFinished() if event.run in self.runs:
                self.ends[event.run] = event
                started, whole = self.runs[event.run]
                if event.result is not None:
                    self.results[started.check, self._touching(started.check, whole)].append(event.result)
            case _:
                pass

    def _touching(self, check: CheckName, tree: Iterable[Entry]) -> frozenset[Entry]:
        return frozenset(entry for entry in tree if entry not in self.changes or check in self.changes[entry].touches)

    def _see_ready(self, event: Event) -> None:
        """Describe what was just submitted, and note what nothing keeps back any more."""
        trunk = self.state.trunk
        if trunk is None:
            return
        self._read_policy(trunk)
        for item in self.state.waiting.values():
            entry = (item.change, item.revision)
            if entry not in self.changes:
                self._reader.note(item)
            if entry in self.ready_at:
                continue
            self.changes[entry] = self._reader.describe(
                item, self.state, self.policy, trunk, may_sandbox=True, is_gate_broken=self.trouble is not None
            )
            if not self.changes[entry].holds and self.state.closed is None:
                self.ready_at[entry] = max(event.at, item.at)

    def _read_policy(self, trunk: Sha) -> None:
        if trunk == self.read_at:
            return
        self.read_at = trunk
        self.policy, self.trouble = in_force(self.record.repository.rules(trunk))
        self.checks |= {check.name: check for check in self.policy.checks_before_landing()}

    # --- what follows from it

    def _recorded(self) -> Recorded:
        played = sorted((entry for entry in self.changes if self._is_played(entry)), key=lambda entry: self.ready_at[entry])
        self.ids = {entry: ChangeId(number) for number, entry in enumerate(played, 1)}
        self.first = self.ready_at[played[0]] if played else 0.0
        pasts = tuple(map(self._past, played))
        workload = Workload(
            preset=RECORDED,
            workers=self.policy.run.workers,
            batch=self.policy.merge.batch,
            max_false_refusals=self.policy.merge.max_false_refusals,
            predictor="learned",
            clash=0.0,
            warmup=0.0,
        )
        return Recorded(
            workload,
            pasts,
            tuple(self._all_tested()),
            tuple(self._habits(pasts)),
            self._history(pasts),
            len(self.changes) - len(played),
        )

    def _is_played(self, entry: Entry) -> bool:
        decided = self._decided(entry)
        reasons: tuple[Reason, ...] = () if decided is None else decided.reasons
        return entry in self.ready_at and not any(cause.why in NOT_PLAYED for cause in reasons)

    def _decided(self, entry: Entry) -> Decided | None:
        """A change that was refused for a check, tried again and refused for another cause, is red all the same."""
        decided, red = self.state.decided.get(entry), self.red.get(entry)
        if red is None or (decided is not None and decided.verdict is Verdict.LANDED):
            return decided
        return Decided(Verdict.REFUSED, red.at, red.reasons)

    def _past(self, entry: Entry) -> Past:
        known = self.changes[entry]
        depends = (
            # The newest revision that was there by then; one that never was keeps nobody waiting.
            max(
                (other for other, number in self.ids.items() if other[0] == needed and number < self.ids[entry]),
                default=None,
            )
            for needed in known.depends
        )
        change = replace(
            known,
            id=self.ids[entry],
            revision=1,
            depends=tuple(self.ids[other] for other in depends if other is not None),
            retried_at=0.0,
            broken=(),
            touches=known.touches.intersection(self.checks),
        )
        decided = self._decided(entry)
        red = () if decided is None else _red(decided.reasons)
        return Past(
            change,
            self._moment(self.ready_at[entry]),
            None if decided is None else decided.verdict,
            None if decided is None else self._moment(decided.at),
            red,
            None if entry not in self.left_at else self._moment(max(self.left_at[entry], self.ready_at[entry])),
        )

    def _moment(self, at: float) -> float:
        return at - self.first + BEGIN

    def _all_tested(self) -> Iterable[Tested]:
        for (check, members), results in self.results.items():
            whole = [result for result in results if not result.tests]
            reds = [result for result in whole if result.outcome in (Outcome.RED, Outcome.TIMED_OUT)]
            reds = [result for result in reds if self.trunks.get(result.run) not in self.red_trunks]
            is_green = any(True for _ in proofs(results))
            if check in self.checks and members <= self.ids.keys() and (is_green or reds):
                greens = [result for result in whole if result.outcome is Outcome.GREEN]
                ids = frozenset(self.ids[entry] for entry in members)
                failed = () if is_green else reds[-1].failed
                yield Tested(check, ids, is_green, failed, next((each.duration_s for each in greens or reds), None))

    def _habits(self, pasts: Sequence[Past]) -> Iterable[Habits]:
        outlook = self.odds.outlook()
        touched = Counter(check for past in pasts if past.verdict is not None for check in past.change.touches)
        broken = Counter(check for past in pasts for check, _ in past.red)
        for name, check in self.checks.items():
            results = [result for (of, _), found in self.results.items() if of == name for result in found]
            logs = [
                math.log(max(0.001, result.duration_s))
                for result in results
                if result.outcome is Outcome.GREEN and not result.tests
            ]
            retests = [result.duration_s for result in results if result.tests]
            yield Habits(
                check,
                mu=fmean(logs) if logs else math.log(DURATION_S),
                sigma=pstdev(logs) if logs else 0.0,
                fails=broken[name] / touched[name] if touched[name] else 0.0,
                flakes=0.0 if name in outlook.steady else outlook.flakes.get(name, 0.0),
                retest_s=fmean(retests) if retests else None,
            )

    def _history(self, pasts: Sequence[Past]) -> History:
        """What happened to the changes that are played, as a simulation would tell it."""
        history = History(submitted_at={past.change.id: past.at for past in pasts})
        for past in pasts:
            if past.verdict is not None and past.decided_at is not None:
                history.decided[past.change.id] = (past.verdict, past.decided_at)
            elif past.left_at is not None:
                history.decided[past.change.id] = (Verdict.WITHDRAWN, past.left_at)
        seen: Counter[InputKey] = Counter()
        for id_, (started, tree) in self.runs.items():
            revisions = {entry[0]: entry for entry in tree if entry in self.ids}
            if started.check not in self.checks or not revisions.keys() >= set(started.changes):
                continue
            end = self.ends.get(id_)
            began_at = self._moment(started.at)
            run = Run(
                started.key,
                self.checks[started.check],
                changes=tuple(self.ids[revisions[change]] for change in started.changes),
                tests=() if end is None or end.result is None else end.result.tests,
                attempt=seen[started.key],
                started_at=began_at,
                ends_at=began_at if end is None else self._moment(end.at),
                ended_at=None if end is None else self._moment(end.at),
                is_aborted=end is not None and end.result is None,
                is_repeat=seen[started.key] > 0,
            )
            seen[started.key] += 1
            history.runs.append(run)
        history.ended_at = self._moment(self.record.events[-1][1].at) if self.record.events else BEGIN
        return history


def _red(reasons: Iterable[Reason]) -> tuple[tuple[CheckName, tuple[str, ...]], ...]:
    """The checks that a change was refused for, with the tests that failed."""
    return tuple((cause.check, cause.tests) for cause in reasons if cause.why is Why.CHECK_RED and cause.check is not None)
