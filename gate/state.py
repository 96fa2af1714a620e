"""The queue's present, folded from the journal. Nothing here is a fact of its own: delete it, fold again, and it is back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from ci.deploy import model as deploys
from ci.deploy.plan import DeployState, apply
from ci.model import RunId, Sha
from gate.model import (
    ApprovalGiven,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Event,
    Landed,
    LandedBefore,
    LandingFailed,
    LandingStarted,
    Promoted,
    Reason,
    RetryRequested,
    RunFinished,
    RunStarted,
    Submission,
    TokenAdded,
    TokenRevoked,
    TrunkClosed,
    TrunkJudged,
    TrunkMoved,
    TrunkOpened,
    Verdict,
    Waived,
)

TRUNK = ChangeId(0)  # no change has this number; a retry of it is a retry of trunk's pipeline


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict on one revision. commit: where it landed."""

    verdict: Verdict
    at: float
    reasons: tuple[Reason, ...] = ()
    commit: Sha | None = None
    by: str = ""


@dataclass(slots=True)
class State:
    """Folded facts. ``revisions`` keeps the order of submission; the newest revision of a change stands last."""

    seq: int = 0
    revisions: dict[ChangeId, list[Submission]] = field(default_factory=dict)
    waiting: dict[ChangeId, Submission] = field(default_factory=dict)  # newest revisions without a verdict, in queue order
    verdicts: dict[ChangeId, Verdict] = field(default_factory=dict)  # of the changes that do not wait
    decided: dict[Entry, Decided] = field(default_factory=dict)
    approvals: dict[Entry, dict[str, float]] = field(default_factory=dict)
    waived: dict[Entry, frozenset[Waived]] = field(default_factory=dict)
    retried_at: dict[ChangeId, float] = field(default_factory=dict)  # TRUNK stands for trunk's own pipeline
    runs: dict[RunId, RunStarted] = field(default_factory=dict)  # not ended
    run_count: int = 0
    seen: Sha | None = None  # newest submission record taken in
    trunk: Sha | None = None
    closed: TrunkClosed | None = None
    landing: LandingStarted | None = None  # begun, and neither done nor given up
    landings: list[tuple[float, LandingStarted]] = field(default_factory=list)  # done, oldest first, with the moment
    landed_by: dict[Sha, ChangeId] = field(default_factory=dict)  # trunk commit → the change that ends in it
    judged: dict[Sha, TrunkJudged] = field(default_factory=dict)
    green: Sha | None = None  # judged green last
    promoted: Sha | None = None
    tokens: dict[str, str] = field(default_factory=dict)  # name → digest; replaced, never altered: the web thread reads it
    deploy: DeployState = field(default_factory=DeployState)

    def newest(self, change: ChangeId) -> Submission | None:
        revisions = self.revisions.get(change)
        return revisions[-1] if revisions else None

    def submissions(self) -> dict[Entry, Submission]:
        return {(item.change, item.revision): item for items in self.revisions.values() for item in items}


def fold(state: State, events: Iterable[tuple[int, Event]]) -> None:
    """Bring ``state`` up to date with events that follow what it has seen."""
    for seq, event in events:
        apply_event(state, event)
        state.seq = seq


def apply_event(state: State, event: Event) -> None:
    match event:
        case ChangeSubmitted(submission=submission):
            _submit(state, submission)
        case ChangeRefused():
            _decide(state, (event.change, event.revision), Decided(Verdict.REFUSED, event.at, event.reasons))
        case ChangeWithdrawn():
            _decide(state, (event.change, event.revision), Decided(Verdict.WITHDRAWN, event.at, by=event.by))
        case RunStarted():
            state.runs[event.run] = event
            state.run_count += 1
        case RunFinished():
            state.runs.pop(event.run, None)
        case LandingStarted():
            state.landing = event
        case Landed():
            _land(state, event)
        case LandingFailed():
            state.landing = None
        case LandedBefore():
            _decide(state, (event.change, event.revision), Decided(Verdict.LANDED, event.at, commit=event.commit))
            state.landed_by[event.commit] = event.change
        case TrunkMoved():
            state.trunk = event.new
        case ApprovalGiven():
            entry = (event.change, event.revision)
            state.approvals.setdefault(entry, {})[event.by] = event.at
            if event.waived:
                state.waived[entry] = state.waived.get(entry, frozenset()).union(event.waived)
        case RetryRequested():
            _retry(state, event)
        case TrunkClosed():
            state.closed = event
        case TrunkOpened():
            state.closed = None
        case TrunkJudged():
            state.judged[event.commit] = event
            state.green = event.commit if event.green else state.green
        case Promoted():
            state.promoted = event.commit
        case TokenAdded():
            state.tokens = {**state.tokens, event.name: event.digest}
        case TokenRevoked():
            state.tokens = {name: digest for name, digest in state.tokens.items() if name != event.name}
        case (
            deploys.DeployStarted()
            | deploys.StepSent()
            | deploys.StepFinished()
            | deploys.WaveFinished()
            | deploys.DeployFinished()
            | deploys.RollbackRequested()
        ):
            state.deploy = apply(state.deploy, event)
        case _:
            assert_never(event)


def _submit(state: State, submission: Submission) -> None:
    """A new revision keeps its change's place in the queue; a change that was decided goes to the end."""
    revisions = state.revisions.setdefault(submission.change, [])
    if any(known.record == submission.record for known in revisions):
        return  # told twice: a person's command and the daemon found it at the same time
    state.seen = submission.record
    revisions.append(submission)
    if state.verdicts.get(submission.change) is not Verdict.LANDED:
        state.verdicts.pop(submission.change, None)
        state.waiting[submission.change] = submission


def _decide(state: State, entry: Entry, decided: Decided) -> None:
    """The first verdict on a revision stands: a person and the gate may decide at the same moment. But trunk has the last
    word, for what has landed has landed."""
    change, revision = entry
    if entry in state.decided and decided.verdict is not Verdict.LANDED:
        return
    state.decided[entry] = decided
    waiting = state.waiting.get(change)
    if decided.verdict is Verdict.LANDED or (waiting is not None and waiting.revision == revision):
        state.waiting.pop(change, None)
        state.verdicts[change] = decided.verdict


def _land(state: State, event: Landed) -> None:
    landing = state.landing
    if landing is None or landing.commit != event.commit:
        return  # told twice: a crash came between the ref and the first telling
    for entry, commit in zip(landing.changes, landing.commits, strict=True):
        _decide(state, entry, Decided(Verdict.LANDED, event.at, commit=commit))
        state.landed_by[commit] = entry[0]
    state.trunk = event.commit
    state.landings.append((event.at, landing))
    state.landing = None


def _retry(state: State, event: RetryRequested) -> None:
    state.retried_at[event.change] = event.at
    if event.change == TRUNK:
        if state.trunk is not None:
            state.judged.pop(state.trunk, None)
        return
    newest = state.newest(event.change)
    if newest is not None and state.verdicts.get(event.change) is Verdict.REFUSED:
        del state.decided[event.change, newest.revision]
        del state.verdicts[event.change]
        state.waiting[event.change] = newest
