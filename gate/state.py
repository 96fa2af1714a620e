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
)


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
    decided: dict[Entry, Decided] = field(default_factory=dict)
    approvals: dict[Entry, dict[str, float]] = field(default_factory=dict)
    retried_at: dict[ChangeId, float] = field(default_factory=dict)
    runs: dict[RunId, RunStarted] = field(default_factory=dict)  # not ended
    seen: Sha | None = None  # newest submission record taken in
    trunk: Sha | None = None
    closed: TrunkClosed | None = None
    landing: LandingStarted | None = None  # begun, and neither done nor given up
    landings: list[LandingStarted] = field(default_factory=list)  # done, oldest first
    judged: dict[Sha, TrunkJudged] = field(default_factory=dict)
    promoted: Sha | None = None
    tokens: dict[str, str] = field(default_factory=dict)  # name → digest
    deploy: DeployState = field(default_factory=DeployState)

    def newest(self, change: ChangeId) -> Submission | None:
        revisions = self.revisions.get(change)
        return revisions[-1] if revisions else None

    def verdict(self, change: ChangeId) -> Verdict | None:
        """What became of the change: landed if any revision has; else of its newest revision; None: it waits."""
        revisions = self.revisions.get(change, [])
        found = [self.decided.get((change, revision.revision)) for revision in revisions]
        if any(decided is not None and decided.verdict is Verdict.LANDED for decided in found):
            return Verdict.LANDED
        return found[-1].verdict if found and found[-1] is not None else None

    def waiting(self) -> list[Submission]:
        """Newest revisions of the changes without a verdict, in order of their first submission."""
        return [revisions[-1] for change, revisions in self.revisions.items() if self.verdict(change) is None]


def fold(state: State, events: Iterable[tuple[int, Event]]) -> None:
    """Bring ``state`` up to date with events that follow what it has seen."""
    for seq, event in events:
        apply_event(state, event)
        state.seq = seq


def apply_event(state: State, event: Event) -> None:
    match event:
        case ChangeSubmitted(submission=submission):
            state.revisions.setdefault(submission.change, []).append(submission)
            state.seen = submission.record
        case ChangeRefused():
            state.decided[event.change, event.revision] = Decided(Verdict.REFUSED, event.at, event.reasons)
        case ChangeWithdrawn():
            state.decided[event.change, event.revision] = Decided(Verdict.WITHDRAWN, event.at, by=event.by)
        case RunStarted():
            state.runs[event.run] = event
        case RunFinished():
            state.runs.pop(event.run, None)
        case LandingStarted():
            state.landing = event
        case Landed():
            _land(state, event)
        case LandingFailed():
            state.landing = None
        case TrunkMoved():
            state.trunk = event.new
        case ApprovalGiven():
            state.approvals.setdefault((event.change, event.revision), {})[event.by] = event.at
        case RetryRequested():
            _retry(state, event)
        case TrunkClosed():
            state.closed = event
        case TrunkOpened():
            state.closed = None
        case TrunkJudged():
            state.judged[event.commit] = event
        case Promoted():
            state.promoted = event.commit
        case TokenAdded():
            state.tokens[event.name] = event.digest
        case TokenRevoked():
            state.tokens.pop(event.name, None)
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


def _land(state: State, event: Landed) -> None:
    landing = state.landing
    if landing is None or landing.commit != event.commit:
        return  # told twice: a crash came between the ref and the first telling
    for entry, commit in zip(landing.changes, landing.commits, strict=True):
        state.decided[entry] = Decided(Verdict.LANDED, event.at, commit=commit)
    state.trunk = event.commit
    state.landings.append(landing)
    state.landing = None


def _retry(state: State, event: RetryRequested) -> None:
    state.retried_at[event.change] = event.at
    newest = state.newest(event.change)
    if newest is not None and state.verdict(event.change) is Verdict.REFUSED:
        del state.decided[event.change, newest.revision]
