"""Makes the plans of a real journal again, with the shipped planner, and compares what they decide with what was recorded.

It works on a scratch repository that borrows the objects of the real one, and on a copy of its journal: a daemon may go on
serving meanwhile. Facts come from the journal; merges, keys, odds and plans are made anew, by the code that the daemon runs.
When the daemon planned, and how much it knew then, is told by the looks beside the events (gate/looks.py).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from ci.errors import Unavailable, UserError
from ci.model import Result, RunId, Sha, Stage, TestCase
from ci.results import cases_of_run, prune, record_result
from gate import text
from gate.config import Config
from gate.gate import in_force
from gate.journal import Journal, copy_journal, decode, encode
from gate.looks import Look, Step
from gate.model import (
    Build,
    Candidate,
    ChangeRefused,
    Event,
    Land,
    Landed,
    LandingFailed,
    LandingStarted,
    Merged,
    Plan,
    Refuse,
    RunFinished,
    RunStarted,
    Start,
    Why,
)
from gate.plan import plan
from gate.queue import Queue
from gate.repository import Repository
from gate.state import State, apply_event
from gate.tidy import EVERY_S, KEEP_S

Decided = RunStarted | ChangeRefused | LandingStarted


@dataclass(frozen=True, slots=True)
class Difference:
    """The first plan that came out otherwise. at: its moment. fact: the newest event that it knew. None: no decision."""

    at: float
    seen: int
    fact: str
    recorded: str | None
    planned: str | None


@dataclass(frozen=True, slots=True)
class Replay:
    """decisions: starts, refusals and landings that came out as recorded. unchecked: those before the first look."""

    events: int
    plans: int
    decisions: int
    unchecked: int
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A journal as it was at one moment, and a repository to work on that nobody else has."""

    repository: Repository
    journal: Journal
    events: Sequence[tuple[int, Event]]
    looks: Sequence[Look]


def replay(path: Path) -> Replay:
    """Raises UserError when this is no repository with a gate, Unavailable when it cannot be read."""
    with opened(path) as record:
        return _Rehearsal(record).play()


@contextmanager
def opened(path: Path) -> Iterator[Record]:
    """A record to work with. Nothing is written to the repository at ``path``."""
    source = Repository(path)
    source.require_installed()
    if not source.journal_path.exists() and source.git.run("for-each-ref", "--count=1", "refs/changes").out:
        source.close()
        raise UserError(f"{path} has changes and no journal: it was removed, or gate serve has yet to run")
    with TemporaryDirectory(prefix="gate-simulate-") as folder:
        copy_journal(source.journal_path, Path(folder) / "journal.sqlite")
        repository = _borrow(source, Path(folder) / source.name)
        journal = Journal(Path(folder) / "journal.sqlite")
        try:
            events = journal.read()
            if events and events[0][0] != 1:
                raise Unavailable(f"the journal of {path} begins with event {events[0][0]}: those before are lost")
            yield Record(repository, journal, events, journal.looks())
        finally:
            journal.close()
            repository.close()
            source.close()


def _borrow(source: Repository, to: Path) -> Repository:
    """A bare repository with the objects and settings of another, and without its refs: merges are made in it."""
    for folder in ("objects/info", "refs", "info"):
        (to / folder).mkdir(parents=True)
    (to / "objects/info/alternates").write_text(f"{source.git_dir / 'objects'}\n")
    (to / "HEAD").write_text(f"ref: {source.trunk}\n")
    for name in ("config", "info/attributes", "info/grafts"):
        if (source.git_dir / name).is_file():
            copyfile(source.git_dir / name, to / name)
    made = Repository(to)
    made.owner = source.owner  # who may land what depends on it, and not on who asks for a replay
    return made


class _Differs(Exception):  # noqa: N818 - an answer, and no error
    def __init__(self, recorded: str | None, planned: str | None) -> None:
        self.recorded = recorded
        self.planned = planned


@dataclass(slots=True)
class _Rehearsal:
    """Does what a gate does with its queue, at the moments and with the facts of the record."""

    record: Record
    state: State = field(init=False)
    queue: Queue = field(init=False)
    policy: Config | None = None  # None: not read yet
    trouble: str | None = None
    plans: int = 0
    decisions: int = 0
    tidied_at: float = 0.0
    _place: int = 0  # of the next event to take in
    _stored: int = 0  # place of the first event whose result is not in the store yet
    _store: Journal = field(init=False)
    _limits: dict[RunId, tuple[str, ...]] = field(init=False)  # of runs with a result: the tests they were limited to

    def __post_init__(self) -> None:
        self._store = Journal(self.record.journal.path.with_name("results.sqlite"))
        results = (event.result for _, event in self.record.events if isinstance(event, RunFinished))
        self._limits = {result.run: result.tests for result in results if result is not None}
        self._forget()

    def play(self) -> Replay:
        looks = deque(self.record.looks)
        decided = [seq for seq, event in self.record.events if isinstance(event, Decided) and _is_planned(event)]
        last = self.record.events[-1][0] if self.record.events else 0
        first = looks[0].seen if looks else last
        unchecked = sum(seq <= first for seq in decided)
        difference = None
        try:
            while looks:
                look = looks.popleft()
                try:
                    self._step(look, looks)
                except _Differs as found:
                    difference = self._difference(look, found)
                    break
        finally:
            self._store.close()
        return Replay(len(self.record.events), self.plans, self.decisions, unchecked, difference)

    def _difference(self, look: Look, found: _Differs) -> Difference:
        trunk = self.record.repository.trunk_name
        newest = next((event for seq, event in reversed(self.record.events) if seq <= look.seen), None)
        fact = "nothing" if newest is None else text.event(newest, trunk)
        return Difference(look.at, look.seen, fact, found.recorded, found.planned)

    def _step(self, look: Look, looks: deque[Look]) -> None:
        """One look, and those after it that tell what became of its plan."""
        if look.step is Step.STARTED:
            self._start(look)
            return
        self._take_in(look.seen)
        if look.step is Step.WARMED:
            self._build(Candidate(self._read_policy()))
        elif look.step is Step.PLANNED:
            self._tidy(look.at)
            self._plan(self._read_policy(), look, looks)

    # --- what a gate remembers ------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self.state = State()
        self.queue = Queue(self.record.repository, self._store)
        self.policy = self.trouble = None
        self._place = 0

    def _start(self, look: Look) -> None:
        """A daemon knows nothing at first but the journal, and learns from it what happened; not what tests there were."""
        self._forget()
        self.tidied_at = look.at
        self.queue.read_back(event for seq, event in self.record.events if seq <= look.seen)
        self._take_in(look.seen, is_news=False)

    def _take_in(self, until: int, *, is_news: bool = True) -> None:
        """All events up to this one."""
        while self._place < len(self.record.events) and self.record.events[self._place][0] <= until:
            seq, event = self.record.events[self._place]
            result = event.result if isinstance(event, RunFinished) else None
            if result is not None and self._place >= self._stored:
                self._store_result(result)
            self._place += 1
            self._stored = max(self._stored, self._place)
            apply_event(self.state, event)
            self.state.seq = seq
            self.queue.notice(event, self.state)
            if result is not None and is_news:
                self.queue.odds.learn_tests(result, self._tests_in(result.run))

    def _store_result(self, result: Result) -> None:
        self._store.write(lambda execute: record_result(execute, result))

    def _tests_in(self, run: RunId) -> Sequence[TestCase]:
        return self.record.journal.query(lambda execute: cases_of_run(execute, run))

    def _tidy(self, now: float) -> None:
        """Results go when they are old, as in the daemon, give or take the hour between two looks at what is."""
        if now >= self.tidied_at + EVERY_S:
            self.tidied_at = now
            self._store.write(lambda execute: prune(execute, now - KEEP_S))

    def _read_policy(self) -> Sha:
        """Returns trunk, whose policy it is."""
        trunk = self.state.trunk
        assert trunk is not None
        policy, trouble = in_force(self.record.repository.rules(trunk))
        if policy != self.policy or trouble != self.trouble:
            self.policy, self.trouble = policy, trouble
            self.queue.forget_policy(trunk)
        return trunk

    # --- planning -------------------------------------------------------------------------------------------------------

    def _plan(self, trunk: Sha, look: Look, looks: deque[Look]) -> None:
        assert self.policy is not None
        snapshot = self.queue.snapshot(
            self.state, self.policy, trunk, workers=look.workers, may_sandbox=look.may_sandbox, trouble=self.trouble
        )
        made = plan(snapshot, look.at)
        self.plans += 1
        self._perform(made, look, looks)

    def _perform(self, made: Plan, look: Look, looks: deque[Look]) -> None:
        """Carry the plan out as far as the record says that it was, in the order of gate/gate.py: starts before all else."""
        doubt = looks.popleft() if looks and looks[0].step is Step.DOUBTED else None
        following = looks[0] if looks else None
        is_cut_short = following is None or following.step in (Step.STARTED, Step.BROKEN_OFF)
        recorded = self._decided_until(None if following is None else following.seen)
        starts = [decision for decision in made.decisions if isinstance(decision, Start) and look.may_start]
        others = [decision for decision in made.decisions if isinstance(decision, Refuse | Land | Build)]
        for decision in (*starts, *others):
            if isinstance(decision, Build):
                self._build(decision.candidate)
                continue
            if doubt is not None and isinstance(decision, Land) and not _begins(recorded, LandingStarted):
                self._doubt(decision.candidate, doubt)
                continue
            planned = self._as_event(decision)
            if not recorded and is_cut_short:
                return
            seq, event = recorded.popleft() if recorded else (0, None)
            if event is None or not self._is_same(event, planned, decision):
                tests = decision.tests if isinstance(decision, Start) else ()
                raise _Differs(None if event is None else self._recorded(event), self._words(planned, tests))
            self.decisions += 1
            if isinstance(decision, Start) and _begins(recorded, RunStarted) and decision is not starts[-1]:
                continue  # those of one plan were written together, and read together
            self._take_in(seq if not isinstance(decision, Land) else self._end_of_landing(seq))
            if doubt is not None and isinstance(decision, Land):
                self._doubt(decision.candidate, doubt)
        if recorded:
            raise _Differs(self._recorded(recorded[0][1]), None)

    def _decided_until(self, seen: int | None) -> deque[tuple[int, Decided]]:
        """What was decided beyond what is taken in, up to an event; None: to the last."""
        ahead = islice(self.record.events, self._place, None)
        near = takewhile(lambda each: seen is None or each[0] <= seen, ahead)
        return deque((seq, event) for seq, event in near if isinstance(event, Decided) and _is_planned(event))

    def _build(self, candidate: Candidate) -> None:
        assert self.policy is not None
        self.queue.build(candidate, self.policy, self.state, lambda change, line: None)  # noqa: ARG005 - nobody listens

    def _doubt(self, candidate: Candidate, doubt: Look) -> None:
        self._take_in(doubt.seen)
        self.queue.doubt(candidate)

    def _end_of_landing(self, begun: int) -> int:
        """A landing is begun and ended in one go: nothing is planned between."""
        ahead = islice(self.record.events, self._place, None)
        ends = (seq for seq, event in ahead if seq > begun and isinstance(event, Landed | LandingFailed))
        return next(ends, begun)

    # --- comparing ------------------------------------------------------------------------------------------------------

    def _as_event(self, decision: Start | Refuse | Land) -> Decided:
        """As it would be recorded, but for the moment, the number of the run and the proofs."""
        event: Event
        match decision:
            case Start(check=check, key=key, candidate=candidate):
                changes = tuple(change for change, _ in candidate.entries)
                merged = self._merged(candidate)
                event = RunStarted(0.0, RunId(""), check.name, key, merged.commit, changes, check.stage)
            case Refuse(change=change, revision=revision, reasons=reasons):
                event = ChangeRefused(0.0, change, revision, reasons)
            case Land(candidate=candidate):
                merged, commits = self._merged(candidate), self.queue.commits(candidate)
                event = LandingStarted(0.0, candidate.base, merged.commit, merged.tree, candidate.entries, commits, ())
        stored = decode(type(event).__name__, encode(event))
        assert isinstance(stored, Decided)
        return stored

    def _merged(self, candidate: Candidate) -> Merged:
        merged = self.queue.merges[candidate]
        assert isinstance(merged, Merged)
        return merged

    def _is_same(self, recorded: Decided, planned: Decided, decision: Start | Refuse | Land) -> bool:
        match recorded:
            case RunStarted():
                known = replace(recorded, at=0.0, run=RunId(""), log="")
                tests = self._limits.get(recorded.run)  # only results tell
                return known == planned and isinstance(decision, Start) and tests in (None, decision.tests)
            case ChangeRefused():
                return isinstance(planned, ChangeRefused) and _without_rivals(recorded) == _without_rivals(planned)
            case LandingStarted():
                return replace(recorded, at=0.0, proofs=()) == planned

    def _recorded(self, event: Decided) -> str:
        return self._words(event, self._limits.get(event.run, ()) if isinstance(event, RunStarted) else ())

    def _words(self, event: Decided, tests: tuple[str, ...]) -> str:
        trunk = self.record.repository.trunk_name
        match event:
            case RunStarted():
                made_of = ", ".join(map(str, event.changes)) or "nothing"
                only = f", only {text.names(tests)}" if tests else ""
                return (
                    f"{text.event(event, trunk)}{only}: {trunk} with {made_of}, as {event.commit[:10]}, key {event.key[:10]}"
                )
            case LandingStarted():
                return f"{text.event(event, trunk)} as {event.commit[:10]}"
            case ChangeRefused():
                return text.event(event, trunk)


def _is_planned(event: Decided) -> bool:
    """And not of trunk's pipeline after landing, which plans for itself (ci/pipeline.py)."""
    return not isinstance(event, RunStarted) or event.stage != Stage.POST_COMMIT


def _begins(recorded: deque[tuple[int, Decided]], kind: type[Decided]) -> bool:
    return bool(recorded) and isinstance(recorded[0][1], kind)


def _without_rivals(refused: ChangeRefused) -> ChangeRefused:
    """The gate adds to a conflict with trunk whose landing it is with: a service to people, after the plan."""
    reasons = tuple(replace(cause, change=None) if cause.why is Why.CONFLICT else cause for cause in refused.reasons)
    return replace(refused, at=0.0, reasons=reasons)
