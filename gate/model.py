"""The facts of a queue, frozen: changes, candidates, events of the journal, and the snapshot that a plan is made from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from ci.deploy.model import DeployFact
from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha
from ci.proof import proves

ChangeId = NewType("ChangeId", int)


# --- changes -------------------------------------------------------------------------------------------------------


class Priority(StrEnum):
    """Order in the queue; among equals, the order of submission."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


class Why(StrEnum):
    """Why a change was refused, or why it waits. The words for people are in gate/text.py."""

    # refused
    CHECK_RED = "check red"
    CONFLICT = "conflict"
    NOTHING_TO_DO = "nothing to do"
    BROKEN_CONFIG = "broken gate.toml"
    SIGNED_COMMITS = "signed commits would be rewritten"
    DEPENDENCY_GONE = "a change it depends on cannot land"
    UNRELATED = "unrelated history"
    MERGE_COMMITS = "merge commits cannot be rebased"
    NO_ISOLATION = "no sandbox for an untrusted author"
    # waiting
    DRAFT = "draft"
    NEEDS_APPROVAL = "needs approval"
    TRUNK_CLOSED = "trunk is closed"
    TRUNK_RED = "trunk is red"
    WAITS_FOR_CHANGE = "waits for a change ahead"
    WAITS_FOR_CHECK = "waits for a check"
    WAITS_FOR_WORKER = "waits for a worker"
    INFRASTRUCTURE = "a check cannot be run"


@dataclass(frozen=True, slots=True)
class Reason:
    """One typed reason. Which fields are set follows from ``why``."""

    why: Why
    check: CheckName | None = None
    change: ChangeId | None = None  # the change that it waits for, conflicts with, or depends on
    paths: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()  # failed tests that JUnit named
    run: RunId | None = None
    people: tuple[str, ...] = ()  # who could approve
    detail: str = ""  # a finished clause, such as "line 12: unknown key 'stge' (did you mean 'stage'?)"
    odds: tuple[tuple[str, float], ...] = ()  # whose fault it may be, with the chance of each, the likeliest first
    base: Sha | None = None  # the trunk commit that it was red on, where trunk has moved since


@dataclass(frozen=True, slots=True)
class Submission:
    """One push to refs/for/<trunk>, as recorded in Git by hooks/receive.py. order: position among all submissions."""

    record: Sha  # the commit on refs/gate/submissions that holds the record
    change: ChangeId
    revision: int
    head: Sha
    by: str
    at: float
    priority: Priority = Priority.NORMAL
    depends: tuple[ChangeId, ...] = ()
    draft: bool = False
    topic: str = ""  # topic or Change-Id
    subject: str = ""  # first line of the head's message
    fixes_trunk: bool = False


# --- events of the journal, past tense, in the order they may happen --------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeSubmitted:
    at: float
    submission: Submission


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    at: float
    change: ChangeId
    revision: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ChangeWithdrawn:
    """By its owner (gate cancel). A new revision withdraws the old one by itself, without an event."""

    at: float
    change: ChangeId
    revision: int
    by: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunStarted:
    at: float
    run: RunId
    check: CheckName
    key: InputKey
    commit: Sha
    changes: tuple[ChangeId, ...]  # of the candidate, in landing order; empty: trunk itself
    stage: str = "merge"
    log: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """result None: the run was cancelled, or the daemon died under it."""

    at: float
    run: RunId
    result: Result | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """Which result made which check green for the landed tree."""

    check: CheckName
    key: InputKey
    run: RunId


@dataclass(frozen=True, slots=True)
class LandingStarted:
    """Written before the ref moves. After a crash the ref says whether it did.

    changes: (change, revision) in landing order. commits: the trunk commit that each of them ends in.
    """

    at: float
    base: Sha
    commit: Sha
    tree: Sha
    changes: tuple[tuple[ChangeId, int], ...]
    commits: tuple[Sha, ...]
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Landed:
    """Trunk moved from base to commit, as the LandingStarted before it says."""

    at: float
    base: Sha
    commit: Sha


@dataclass(frozen=True, slots=True)
class LandingFailed:
    """Somebody else moved trunk, or the rule did not hold at the last look. Trunk was not touched."""

    at: float
    base: Sha
    commit: Sha
    detail: str


@dataclass(frozen=True, slots=True)
class LandedBefore:
    """Git's mark says that the change landed as this commit, and the journal, begun anew, has no record of it."""

    at: float
    change: ChangeId
    revision: int
    commit: Sha


@dataclass(frozen=True, slots=True)
class TrunkMoved:
    """Trunk was seen at a commit that the gate did not put there."""

    at: float
    old: Sha | None
    new: Sha


Waived = tuple[CheckName, str]


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """waived: checks of trunk, each with the digest of what it was then (gate.candidates.definition), that the revision
    replaces or removes and need not pass."""

    at: float
    change: ChangeId
    revision: int
    by: str
    waived: tuple[Waived, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """Red results from before ``at`` no longer count against the change; a refused change waits again."""

    at: float
    change: ChangeId
    by: str


@dataclass(frozen=True, slots=True)
class TrunkClosed:
    at: float
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrunkOpened:
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class TrunkJudged:
    """A post-commit pipeline ended. suspects: first-parent commits that can have turned it red, oldest first. unrun: of
    ``red``, those that the machine could not run, which says nothing of the commit."""

    at: float
    commit: Sha
    green: bool
    red: tuple[CheckName, ...] = ()
    suspects: tuple[Sha, ...] = ()
    unrun: tuple[CheckName, ...] = ()

    @property
    def seen_red(self) -> tuple[CheckName, ...]:
        return tuple(check for check in self.red if check not in self.unrun)


@dataclass(frozen=True, slots=True)
class Promoted:
    at: float
    commit: Sha


@dataclass(frozen=True, slots=True)
class TokenAdded:
    """digest: SHA-256 of a token of 32 random bytes, hexadecimal. The token itself is never stored."""

    at: float
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    at: float
    name: str


Event = (
    ChangeSubmitted
    | ChangeRefused
    | ChangeWithdrawn
    | RunStarted
    | RunFinished
    | LandingStarted
    | Landed
    | LandingFailed
    | LandedBefore
    | TrunkMoved
    | ApprovalGiven
    | RetryRequested
    | TrunkClosed
    | TrunkOpened
    | TrunkJudged
    | Promoted
    | TokenAdded
    | TokenRevoked
    | DeployFact
)


# --- candidates -----------------------------------------------------------------------------------------------------

Entry = tuple[ChangeId, int]  # a change and its revision
Assumption = tuple[frozenset[ChangeId], int]  # the other changes of a candidate, and how many are tested together


@dataclass(frozen=True, slots=True)
class Candidate:
    """A would-be trunk: a base and an ordered list of changes. No entries: the base itself.

    together: how many of its last changes are tested by one run. It matters only where results belong to changes and not to
    content, see Snapshot.per_change; elsewhere it stays 1, for a check of the tree tests all that is in it.
    """

    base: Sha
    entries: tuple[Entry, ...] = ()
    together: int = 1
    _assumption: list[Assumption] = field(default_factory=list, init=False, repr=False, compare=False)  # once asked for

    @property
    def parent(self) -> "Candidate":
        """The candidate without its last change."""
        return Candidate(self.base, self.entries[:-1])

    @property
    def assumption(self) -> Assumption:
        """What is assumed of the last change's company."""
        if not self._assumption:
            self._assumption.append((frozenset([change for change, _ in self.entries[:-1]]), self.together))
        return self._assumption[0]


@dataclass(frozen=True, slots=True)
class Need:
    """A check that must be green for a candidate, with the key that its result must have."""

    check: Check
    key: InputKey


@dataclass(frozen=True, slots=True)
class Merged:
    """The candidate as a real commit. needs: every required check of base's policy, and those of its own gate.toml
    where that differs from base's."""

    commit: Sha
    tree: Sha
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Unmerged:
    """The candidate's last change does not go on top of the others. reason.why: CONFLICT, NOTHING_TO_DO, SIGNED_COMMITS,
    MERGE_COMMITS, UNRELATED or BROKEN_CONFIG."""

    reason: Reason


MergeOutcome = Merged | Unmerged


# --- what a plan is made from -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A change without a verdict, at its newest revision.

    paths: what its commits touch, against where it left trunk. touches: required checks with an input among those paths.
    holds: reasons that keep it from landing whatever its checks say (draft, approval). may_run: its checks may be run now.
    broken: reasons to refuse it without any run.
    evidence_from: red results that finished before this moment do not count against it.
    retried_at: when somebody last asked to have it tried again; 0: never.
    mends_gate: it changes the gate.toml without which nothing can land, so a closed trunk does not keep it out.
    fixes_trunk: its owner says that it mends a red trunk (push option fixes-trunk).
    """

    id: ChangeId
    revision: int
    head: Sha
    by: str
    submitted_at: float
    priority: Priority = Priority.NORMAL
    depends: tuple[ChangeId, ...] = ()
    paths: frozenset[str] = frozenset()
    touches: frozenset[CheckName] = frozenset()
    holds: tuple[Reason, ...] = ()
    may_run: bool = True
    broken: tuple[Reason, ...] = ()
    evidence_from: float = 0.0
    retried_at: float = 0.0
    mends_gate: bool = False
    fixes_trunk: bool = False
    names: frozenset[str] = field(init=False, repr=False, compare=False)  # of all that it could meddle with others about

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", self.touches.union(f"\0{path}" for path in self.paths))

    @property
    def entry(self) -> Entry:
        return (self.id, self.revision)

    def meddles_with(self, other: "Change") -> bool:
        """A required check has inputs among the paths of both, they touch the same path, or one depends on the other.

        Where this is false, neither's results depend on whether the other has landed.
        """
        return not self.names.isdisjoint(other.names) or other.id in self.depends or self.id in other.depends


class Verdict(StrEnum):
    LANDED = "landed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one input key. green: the newest proof that it is green, see ci/proof.py.

    Since then, each oldest first: attempts: infrastructure errors. reds: what was red or timed out, retests included.
    passes: retests that were green, and do not prove it yet.
    """

    green: Result | None = None
    red: Result | None = None  # newest that is not green: red or timed out
    attempts: tuple[Result, ...] = ()
    reds: tuple[Result, ...] = ()
    passes: tuple[Result, ...] = ()

    def learn(self, result: Result) -> "Evidence":
        """With one more result, which was recorded after all others."""
        match result.outcome:
            case Outcome.GREEN if proves(result, self.reds, self.passes):
                return Evidence(result, self.red)
            case Outcome.GREEN:
                return replace(self, passes=(*self.passes, result))
            case Outcome.RED | Outcome.TIMED_OUT:
                return replace(self, red=result, reds=(*self.reds, result))
            case Outcome.INFRASTRUCTURE:
                return replace(self, attempts=(*self.attempts, result))


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has not ended. Who needs it is told by its key. changes: of the candidate that it was started for."""

    run: RunId
    check: CheckName
    key: InputKey
    started_at: float
    changes: tuple[ChangeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a change, see gate/odds.py.

    chance: 0 to 1, that every check it touches is green with it on a green trunk, were nothing else in the queue.
    duration_s: of all the runs for it; None: as long as its checks take, see Outlook.
    """

    chance: float = 0.9
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What runs that ended have told of a change, see gate/findings.py.

    green: checks that were green with it as the last change of a candidate. clean_with: the others in these candidates, and
        those that it had met when the runs began.
    red_with: the others in the candidates that were red, as far back as is remembered.
    met: changes that landed since it was submitted and meddle with it.
    """

    green: frozenset[CheckName] = frozenset()
    clean_with: frozenset[ChangeId] = frozenset()
    red_with: tuple[frozenset[ChangeId], ...] = ()
    met: frozenset[ChangeId] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of the queue. A change or check that is missing is as the defaults say.

    durations: seconds of a run of a check. flakes: the chance that a run of a check is red though nothing is wrong.
    steady: checks that nobody has ever seen so.
    clash: the chance that two changes which meddle with each other break together, though each is fine by itself.
    after_fine, after_bad: added to the log odds that a change is fine, where the one submitted before it broke nothing, or
        something: bad changes come in streaks.
    """

    forecasts: Mapping[ChangeId, Forecast] = field(default_factory=dict)
    durations: Mapping[CheckName, float] = field(default_factory=dict)
    flakes: Mapping[CheckName, float] = field(default_factory=dict)
    clash: float = 0.03
    steady: Collection[CheckName] = frozenset()
    after_fine: float = 0.0
    after_bad: float = 0.0


Trials = Mapping[ChangeId, Mapping[Assumption, tuple[Need, ...]]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan is made from, and nothing else.

    changes: without a verdict, in order of submission. decided: verdicts of changes that others depend on.
    merges: what is known of candidates; one that is missing has not been merged yet. No outcome is replaced by another:
        candidates are added at the end, and forgotten.
    trials: by the last change of a candidate and what is assumed ahead of it, the needs that the change has a part in.
        Those of a change are replaced, and never altered, when something else is known.
        They outlive a landing that does not meddle with them: runs are known to be of use before anything is merged again.
    built: the candidate that each change was last merged in, perhaps on an earlier trunk; it is a key of ``merges``.
    alone: the candidate of each change with nothing ahead that a run was last started for, likewise.
    evidence: by key; a key that is missing has never been run.
    workers: how many runs may be under way at once, those of ``running`` included.
    places: by change, when it was first tested, as a rising number. Those ahead of it then stay ahead of it.
    per_change: a need belongs to the changes it was run for, and not to the content of a check's inputs. Only simulated
        queues are so, after published ones.
    max_false_refusals: a change is refused when the chance that this is wrong is below it. batch: the most changes that one
        run may test together; 0: as many as the odds say.
    """

    trunk: Sha
    changes: tuple[Change, ...] = ()
    merges: Mapping[Candidate, MergeOutcome] = field(default_factory=dict)
    trials: Trials = field(default_factory=dict)
    built: Mapping[ChangeId, Candidate] = field(default_factory=dict)
    alone: Mapping[ChangeId, Candidate] = field(default_factory=dict)
    evidence: Mapping[InputKey, Evidence] = field(default_factory=dict)
    running: tuple[Running, ...] = ()
    decided: Mapping[ChangeId, Verdict] = field(default_factory=dict)
    closed: str | None = None  # the reason; None: trunk is open
    every_commit: bool = False
    workers: int = 2
    outlook: Outlook = field(default_factory=Outlook)
    findings: Mapping[ChangeId, Finding] = field(default_factory=dict)
    places: Mapping[ChangeId, int] = field(default_factory=dict)
    per_change: bool = False
    max_false_refusals: float = 0.005
    batch: int = 0


# --- decisions, imperatives ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Build:
    """Merge this candidate and compute its keys: the next plan needs to know."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Start:
    """Run a check for a candidate. because: for the log and for gate why.

    tests: run only these tests of it, which have failed for this key; empty: the whole check.
    """

    check: Check
    key: InputKey
    candidate: Candidate
    because: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    run: RunId
    because: str


@dataclass(frozen=True, slots=True)
class Land:
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Refuse:
    change: ChangeId
    revision: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is done; why the change waits. Shown by gate status and gate why, never stored."""

    change: ChangeId
    reasons: tuple[Reason, ...]


Decision = Build | Start | Cancel | Land | Refuse | Hold


@dataclass(frozen=True, slots=True)
class Plan:
    """look_again_at: epoch seconds UTC; None: only an event can change anything."""

    decisions: tuple[Decision, ...] = ()
    look_again_at: float | None = None


OUTCOMES_AGAINST = (Outcome.RED, Outcome.TIMED_OUT)
