"""Remembers what was found out about the waiting changes, so that a turn costs what has changed and not what is there.

It decides nothing and owns no fact: all of it is read from Git and the journal, and is read again after a restart.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from ci.git import GitFailed
from ci.model import Check, InputKey, Outcome, Result, Sha, Stage
from ci.results import results_for_keys
from gate import merge, text
from gate.candidates import Candidates, Material
from gate.changes import Changes
from gate.config import Config
from gate.findings import FindingBook
from gate.journal import Journal
from gate.model import (
    ApprovalGiven,
    Candidate,
    Change,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Event,
    Evidence,
    Finding,
    Landed,
    LandingStarted,
    Merged,
    MergeOutcome,
    Reason,
    RetryRequested,
    RunFinished,
    Running,
    RunStarted,
    Snapshot,
    Submission,
    Trials,
    TrunkMoved,
    Unmerged,
    Waived,
    Why,
)
from gate.odds import Odds, Traits
from gate.repository import Repository
from gate.state import State
from gate.trials import TrialBook

READ_BACK = 100  # newest decided changes whose size is read from Git at start: a call each, and the odds begin with it


class Queue:
    """What is known of the waiting changes beyond the journal: merges, keys, evidence. All of it can be found again."""

    def __init__(self, repository: Repository, journal: Journal) -> None:
        self.merges: dict[Candidate, MergeOutcome] = {}
        self.built: dict[ChangeId, Candidate] = {}
        self.alone: dict[ChangeId, Candidate] = {}
        self.evidence: dict[InputKey, Evidence] = {}
        self.places: dict[ChangeId, int] = {}  # of every change that was ever tested, by when it first was
        self.odds = Odds()
        self._past: set[Entry] = set()  # decided before we started, and to be read from Git
        self._journal = journal
        self._repository = repository
        self._changes = Changes(repository)
        self._candidates = Candidates(repository)
        self._described: dict[Entry, Change] = {}
        self._newest: dict[ChangeId, Change] = {}  # as it was described last, also when that is to be done anew
        self._book = TrialBook()
        self._findings = FindingBook()
        self._users: dict[InputKey, set[ChangeId]] = {}
        self._trunk: Sha | None = None

    def notice(self, event: Event, state: State) -> None:
        """Learn from an event that ``state`` has just taken in, and drop what it has made old."""
        self.odds.learn(event)
        match event:
            case ChangeSubmitted(submission=item):
                self._changes.note(item)
                self._read_past(item, state)
                self._drop_candidates(item.change)
                self._book.forget(item.change)
                self._findings.forget([item.change])
                if item.revision > 1:
                    self._described.clear()  # changes that are stacked on it see it too
            case ApprovalGiven(waived=waived) if waived and state.trunk is not None:
                self.forget_policy(state.trunk)
            case ApprovalGiven(change=change) | RetryRequested(change=change):
                self._described = {entry: known for entry, known in self._described.items() if entry[0] != change}
                if isinstance(event, RetryRequested):
                    self._findings.forget([change])  # red results from before it no longer count
                    self.alone.pop(change, None)
            case ChangeRefused(change=change):
                self._findings.forget([change])
                self._drop_candidates(change)  # its trials stay: somebody may want it tried again
            case ChangeWithdrawn(change=change):
                self._findings.forget([change])
                self._drop_candidates(change)
                if change not in state.waiting:
                    self._book.forget(change)
            case RunStarted(changes=changes):
                self._findings.begin(event.run, event.check, changes)
                for change in changes:
                    self.places.setdefault(change, len(self.places))
                if len(changes) == 1:
                    self._note_alone(changes[0], event.commit, state)
            case RunFinished(result=None):
                self._findings.end(event.run, None)
            case RunFinished(result=Result() as result):
                if result.key in self.evidence:
                    self.evidence[result.key] = self.evidence[result.key].learn(result)
                known = self.evidence.get(result.key, _NOTHING)
                says_all = not result.tests or result.outcome is not Outcome.GREEN or known.green is result
                self._findings.end(event.run, result.outcome if says_all else None)
            case Landed() if state.trunk != self._trunk:
                self._move_trials(state)
                self._move(state)
            case TrunkMoved(old=old, new=new):
                self._book.forget()
                self.alone = {}  # whoever moved it may have mended what they were red for
                self._move(state)
                if self._changes.trunk_moved(old, new):
                    self._described.clear()
            case _:
                pass

    def read_back(self, events: Iterable[Event]) -> None:
        """These are going to be told: what is past in them, and not too old, may be read from Git as it comes."""
        decided: list[Entry] = []
        for event in events:
            if isinstance(event, LandingStarted):
                decided += event.changes
            elif isinstance(event, ChangeRefused):
                decided.append((event.change, event.revision))
        self._past = set(decided[-READ_BACK:])

    def _read_past(self, submission: Submission, state: State) -> None:
        entry = (submission.change, submission.revision)
        if entry in self._past and state.trunk is not None:
            with suppress(GitFailed):  # git may have forgotten it by now
                _, paths, lines = merge.read_change(self._repository.git, state.trunk, submission.head)
                self.odds.note_traits(entry, Traits(files=len(paths), lines=lines))

    def describe(
        self, state: State, policy: Config, trunk: Sha, may_sandbox: bool, is_gate_broken: bool
    ) -> tuple[Change, ...]:
        described = []
        for submission in state.waiting.values():
            entry = (submission.change, submission.revision)
            if entry not in self._described:
                try:
                    self._described[entry] = self._changes.describe(
                        submission, state, policy, trunk, may_sandbox=may_sandbox, is_gate_broken=is_gate_broken
                    )
                except GitFailed as failed:
                    described.append(_unreadable(submission, failed))
                    continue
                self._newest[submission.change] = self._described[entry]
                self.odds.note_change(self._described[entry], self._changes.lines(entry))
            described.append(self._described[entry])
        return tuple(described)

    def snapshot(
        self, state: State, policy: Config, trunk: Sha, *, workers: int, may_sandbox: bool, trouble: str | None
    ) -> Snapshot:
        """What a plan is made from. workers: runs that may be under way at once. trouble: why trunk is closed by its own
        gate.toml."""
        queued = (run for run in state.runs.values() if run.stage != Stage.POST_COMMIT)
        return Snapshot(
            trunk=trunk,
            changes=self.describe(state, policy, trunk, may_sandbox, trouble is not None),
            merges=self.merges,
            trials=self.trials,
            places=self.places,
            findings=self.findings,
            built=self.built,
            alone=self.alone,
            evidence=self.evidence,
            running=tuple(Running(run.run, run.check, run.key, run.at, run.changes) for run in queued),
            decided=state.verdicts,
            closed=trouble or (state.closed.reason if state.closed else None),
            every_commit=policy.merge.every_commit,
            workers=workers,
            max_false_refusals=policy.merge.max_false_refusals,
            batch=policy.merge.batch,
            outlook=self.odds.outlook(),
        )

    @property
    def trials(self) -> Trials:
        return self._book.trials

    @property
    def findings(self) -> Mapping[ChangeId, Finding]:
        return self._findings.findings

    def forget_policy(self, trunk: Sha) -> None:
        """Another gate.toml: other checks, other needs, other approvals.

        Candidates of earlier trunks stay: they only tell which runs may still be of use.
        """
        self._described.clear()
        self._book.forget()
        self._candidates.forget_policy()
        self.merges = {candidate: outcome for candidate, outcome in self.merges.items() if candidate.base != trunk}
        self.built = {change: candidate for change, candidate in self.built.items() if candidate.base != trunk}
        self.alone = {}  # nobody is judged by checks that may not be required any more

    def build(self, candidate: Candidate, policy: Config, state: State, tell: Callable[[ChangeId, str], None]) -> bool:
        """Merge a candidate and look its keys up. False: one of its earlier changes does not merge, so it is moot."""
        outcome = self._candidates.build(candidate, policy, self._material(candidate, state))
        if outcome is None:
            return False
        self.merges[candidate] = outcome
        needs = outcome.needs if isinstance(outcome, Merged) else ()
        self.evidence_for(need.key for need in needs)
        if candidate.entries:
            change = candidate.entries[-1][0]
            self.built[change] = candidate
            if isinstance(outcome, Unmerged):
                self._book.drop(candidate)
            tested = [self._newest[id_] for id_, _ in candidate.entries[-candidate.together :] if id_ in self._newest]
            if isinstance(outcome, Merged) and len(tested) == candidate.together and candidate.base == state.trunk:
                ahead = [self._newest[id_] for id_, _ in candidate.entries[: -candidate.together] if id_ in self._newest]
                self._book.note(candidate, needs, tested, lambda key: self.evidence[key].green is not None, ahead)
            known = [need.check.name for need in needs if self.evidence[need.key].green is not None]
            for need in needs:
                self._users.setdefault(need.key, set()).add(change)
            if known:
                tell(change, f"{text.names(known)} green already, for the same inputs")
        return True

    def commits(self, candidate: Candidate) -> tuple[Sha, ...]:
        return self._candidates.commits(candidate)

    def listing(self, commit: Sha, check: Check) -> tuple[bytes, ...] | None:
        return self._candidates.listing(commit, check)

    def users_of(self, key: InputKey) -> list[ChangeId]:
        return sorted(self._users.get(key, ()))

    def doubt(self, candidate: Candidate) -> None:
        """The candidate could not land: look its results up again in the store."""
        outcome = self.merges.pop(candidate, None)
        if isinstance(outcome, Merged):
            for need in outcome.needs:
                self.evidence.pop(need.key, None)
        self.evidence_for(need.key for other in self.merges.values() if isinstance(other, Merged) for need in other.needs)

    def evidence_for(self, keys: Iterable[InputKey], red_from: float = 0.0) -> dict[InputKey, Evidence]:
        """Evidence by key, from memory or the store. red_from: red results before this moment are left out."""
        wanted = list(keys)
        missing = [key for key in wanted if key not in self.evidence]
        if missing:
            found = self._journal.query(lambda execute: results_for_keys(execute, missing))
            for key in missing:
                self.evidence[key] = _evidence(found.get(key, ()))
        return {key: _from(self.evidence[key], red_from) for key in wanted}

    def _material(self, candidate: Candidate, state: State) -> Material:
        submissions: dict[Entry, Submission] = {}
        stacked: dict[Entry, tuple[Sha, ...]] = {}
        for change, revision in candidate.entries:
            entry = (change, revision)
            submissions[entry] = next(item for item in state.revisions[change] if item.revision == revision)
            stacked[entry] = self._changes.stacked_heads(entry, state)
        paths = {entry: self._changes.paths(entry) for entry in candidate.entries}
        # Whoever is ahead of it has to pass trunk as it is.
        waived = state.waived.get(candidate.entries[0], frozenset()) if candidate.entries else frozenset[Waived]()
        return Material(submissions, stacked, paths, waived)

    def _note_alone(self, change: ChangeId, commit: Sha, state: State) -> None:
        newest = state.waiting.get(change)
        if newest is not None and state.trunk is not None:
            candidate = Candidate(state.trunk, ((change, newest.revision),))
            merged = self.merges.get(candidate)
            if isinstance(merged, Merged) and merged.commit == commit:
                self.alone[change] = candidate

    def _drop_candidates(self, change: ChangeId) -> None:
        self.built.pop(change, None)
        self.alone.pop(change, None)

    def _move_trials(self, state: State) -> None:
        self._findings.forget(change for change, _ in state.landings[-1][1].changes)
        landed = [self._newest.get(change) for change, _ in state.landings[-1][1].changes]
        changes = [change for change in landed if change is not None]
        if len(changes) < len(landed):
            self._book.forget()  # what is not known cannot be told to leave the others alone
        waiting = {id_: change for id_, change in self._newest.items() if id_ in state.waiting}
        self._book.move(changes, waiting)
        self._findings.land(changes, waiting.values())

    def _move(self, state: State) -> None:
        """Trunk moved: keep the merges on it, and the last ones of each change, whose runs go on."""
        if state.trunk == self._trunk:
            return
        self._trunk = state.trunk
        self.built = {change: candidate for change, candidate in self.built.items() if change in state.waiting}
        self.alone = {change: candidate for change, candidate in self.alone.items() if change in state.waiting}
        kept = {*self.built.values(), *self.alone.values(), *(candidate.parent for candidate in self.alone.values())}
        self.merges = {
            candidate: outcome
            for candidate, outcome in self.merges.items()
            if candidate.base == state.trunk or candidate in kept
        }
        needed = {need.key for outcome in self.merges.values() if isinstance(outcome, Merged) for need in outcome.needs}
        needed |= {need.key for assumed in self.trials.values() for needs in assumed.values() for need in needs}
        self.evidence = {key: known for key, known in self.evidence.items() if key in needed}
        self._users = {key: users for key, users in self._users.items() if key in needed}
        self._described = {entry: known for entry, known in self._described.items() if entry[0] in state.waiting}
        self._newest = {change: known for change, known in self._newest.items() if change in state.waiting}
        self._candidates.forget()


_NOTHING = Evidence()


def _unreadable(submission: Submission, failed: GitFailed) -> Change:
    """A change that git cannot read keeps itself waiting, and not the whole queue; it is read again in the next turn."""
    return Change(
        submission.change,
        submission.revision,
        submission.head,
        submission.by,
        submission.at,
        holds=(Reason(Why.INFRASTRUCTURE, detail=str(failed)),),
        may_run=False,
    )


def _evidence(results: Iterable[Result]) -> Evidence:
    known = Evidence()
    for result in results:
        known = known.learn(result)
    return known


def _from(known: Evidence, moment: float) -> Evidence:
    return Evidence(
        known.green,
        known.red if known.red is not None and known.red.finished_at >= moment else None,
        tuple(result for result in known.attempts if result.finished_at >= moment),
        tuple(result for result in known.reds if result.finished_at >= moment),
        tuple(result for result in known.passes if result.finished_at >= moment),
    )
