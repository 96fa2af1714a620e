"""Decides what the gate does next: ``plan(snapshot, now) -> Plan``. Pure: no clock, store, git or log.

The core holds the rule (a candidate lands only when every check it needs is green for its own keys) and all verdicts. A
policy proposes which candidates to test, best first; the core builds, starts, judges and lands from its proposals, and can
do nothing that the rule forbids whatever the policy proposes. The same function runs in production, in tests and in the
simulator.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from ci.model import InputKey, Result
from gate.model import (
    Build,
    Cancel,
    Candidate,
    Change,
    ChangeId,
    Decision,
    Entry,
    Evidence,
    Hold,
    Land,
    Merged,
    Need,
    Plan,
    Reason,
    Refuse,
    Snapshot,
    Start,
    Unmerged,
    Verdict,
    Why,
)

LOOKAHEAD = 200  # proposals considered in one plan; those behind have no worker to wait for
BUILDS_AT_ONCE = 16  # candidates merged before the next plan, so that events never wait long for an answer
INFRASTRUCTURE_TRIES = 3  # runs that failed through no fault of the change, before a person is asked
INFRASTRUCTURE_PAUSE_S = 5.0  # before the second try; doubled before each one after it
RED_TRUNK_RECHECK_S = 600.0  # a red trunk is tested again after this long: it may have been a flake


def plan(snapshot: Snapshot, now: float, policy: "Policy | None" = None) -> Plan:
    """What to do now. The same snapshot and moment give the same plan; normal outcomes never raise.

    Decisions are in the order in which they should be carried out. Times in epoch seconds UTC.
    """
    view = View(snapshot, now)
    draft = _Draft(view)
    for change in view.queue:
        draft.refuse_hopeless(change)
    for proposal, _ in zip((policy or optimistic)(view), range(LOOKAHEAD), strict=False):
        draft.consider(proposal)
    draft.land()
    draft.start_and_cancel()
    return draft.plan()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Test ``change`` as the last entry of ``candidate``. A policy yields these, the most worthwhile first."""

    change: Change
    candidate: Candidate


Policy = Callable[["View"], Iterable[Proposal]]


class Standing(Enum):
    """What is known of a candidate, worst first."""

    UNMERGED = "cannot be merged"
    RED = "a check is red"
    STUCK = "a check cannot be run"
    UNBUILT = "not merged yet"
    UNKNOWN = "a check has not ended"
    GREEN = "every check is green"


@dataclass(frozen=True, slots=True)
class Assessment:
    """A candidate's standing, with the needs that make it so. again_at: when a pause before the next try is over."""

    standing: Standing
    red: tuple[tuple[Need, Result], ...] = ()
    open: tuple[Need, ...] = ()
    stuck: tuple[tuple[Need, Result], ...] = ()
    again_at: float | None = None


# --- the view: questions about one snapshot ---------------------------------------------------------------------------


class View:
    """One snapshot and one moment, with the questions that the core and the policies ask of them."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot = snapshot
        self.now = now
        self.queue = tuple(_in_order(snapshot.changes))
        self.waiting = {change.id: change for change in self.queue}
        self.running = {run.key for run in snapshot.running}

    def is_hopeless(self, change: Change) -> tuple[Reason, ...]:
        """Reasons to refuse without any run; empty when there is none."""
        gone = (
            Reason(Why.DEPENDENCY_GONE, change=needed, detail=self._fate(needed))
            for needed in change.depends
            if needed not in self.waiting and self.snapshot.decided.get(needed) is not Verdict.LANDED
        )
        circle = (
            [Reason(Why.DEPENDENCY_GONE, change=change.id, detail="it depends on itself")] if self._in_circle(change) else []
        )
        return (*change.broken, *gone, *circle)

    def _fate(self, change: ChangeId) -> str:
        verdict = self.snapshot.decided.get(change)
        return "it does not exist" if verdict is None else f"it was {verdict.value}"

    def _in_circle(self, change: Change) -> bool:
        seen: set[ChangeId] = set()
        stack = list(change.depends)
        while stack:
            needed = stack.pop()
            if needed == change.id:
                return True
            if needed in self.waiting and needed not in seen:
                seen.add(needed)
                stack.extend(self.waiting[needed].depends)
        return False

    def assess(self, candidate: Candidate, red_from: float = 0.0) -> Assessment:
        """red_from: red results that finished before this moment are as if they had never been."""
        outcome = self.snapshot.merges.get(candidate)
        if outcome is None:
            return Assessment(Standing.UNBUILT)
        if isinstance(outcome, Unmerged):
            return Assessment(Standing.UNMERGED)
        return self.assess_needs(outcome.needs, red_from)

    def assess_needs(self, needs: Iterable[Need], red_from: float) -> Assessment:
        red: list[tuple[Need, Result]] = []
        unknown: list[Need] = []
        stuck: list[tuple[Need, Result]] = []
        pauses: list[float] = []
        for need in needs:
            evidence = self.snapshot.evidence.get(need.key, _NOTHING)
            if evidence.green is not None and evidence.green.is_green_at(self.now, need.check.max_age_s):
                continue
            if evidence.red is not None and evidence.red.finished_at >= red_from:
                red.append((need, evidence.red))
                continue
            tries = [result for result in evidence.attempts if result.finished_at >= red_from]
            again_at = _next_try_at(tries)
            if need.key in self.running or again_at <= self.now:
                unknown.append(need)
            elif len(tries) >= INFRASTRUCTURE_TRIES:
                stuck.append((need, tries[-1]))
                pauses.append(again_at)
            else:
                pauses.append(again_at)
        standing = (
            Standing.RED if red else Standing.STUCK if stuck else Standing.UNKNOWN if unknown or pauses else Standing.GREEN
        )
        return Assessment(standing, tuple(red), tuple(unknown), tuple(stuck), min(pauses, default=None))

    def entry_of(self, change: ChangeId) -> Entry | None:
        found = self.waiting.get(change)
        return None if found is None else found.entry


_NOTHING = Evidence()


def _next_try_at(tries: list[Result]) -> float:
    """When a check that could not be run is tried again; 0 when it has not failed so."""
    if not tries:
        return 0.0
    if len(tries) >= INFRASTRUCTURE_TRIES:
        return tries[-1].finished_at + RED_TRUNK_RECHECK_S
    return tries[-1].finished_at + INFRASTRUCTURE_PAUSE_S * float(2 ** (len(tries) - 1))


def _in_order(changes: Iterable[Change]) -> Iterator[Change]:
    """Priority, then submission; but never a change before one that it depends on."""
    by_id = {change.id: change for change in changes}
    place = {id_: (change.priority.rank, index) for index, (id_, change) in enumerate(by_id.items())}
    done: set[ChangeId] = set()
    for first in sorted(by_id, key=place.__getitem__):
        stack = [first]
        while stack:
            ahead = [
                needed
                for needed in by_id[stack[-1]].depends
                if needed in by_id and needed not in done and needed not in stack
            ]
            if ahead:
                stack.append(min(ahead, key=place.__getitem__))
                continue
            id_ = stack.pop()
            if id_ not in done:
                done.add(id_)
                yield by_id[id_]


# --- the policy --------------------------------------------------------------------------------------------------------


def optimistic(view: View) -> Iterator[Proposal]:
    """Each change on top of those ahead that it could meddle with, all of them assumed to land.

    Two changes meddle with each other when a required check has inputs among the paths of both, when they touch the same
    path, or when one depends on the other; independent changes are tested side by side. A change that is red or does not
    merge is assumed to leave, so those behind it are tested without it.
    """
    ahead = _Ahead(view)
    for change in sorted(view.queue, key=lambda change: bool(change.holds)):  # held ones (drafts) only after all others
        if view.is_hopeless(change) or not change.may_run:
            continue
        meddling = ahead.meddling_with(change)
        if meddling is None:
            continue  # it depends on a change that is not going to land as things stand
        candidate = Candidate(view.snapshot.trunk, (*ahead.entries(meddling), change.entry))
        yield Proposal(change, candidate)
        leaves = view.assess(candidate, change.evidence_from).standing in (Standing.RED, Standing.UNMERGED)
        if not leaves and not change.holds:
            ahead.add(change, meddling)


class _Ahead:
    """The changes assumed to land, and who meddles with whom, as bit sets over their positions."""

    def __init__(self, view: View) -> None:
        self._waiting = view.waiting
        self._changes: list[Change] = []
        self._closure: list[int] = []  # position → bits of all it meddles with, transitively
        self._by_name: dict[tuple[str, str | ChangeId], int] = {}  # (kind, check, path or change) → bits

    def meddling_with(self, change: Change) -> int | None:
        """Bits of the changes ahead that ``change`` must be tested on top of; None when a dependency is missing there."""
        direct = 0
        for name in self._names(change):
            direct |= self._by_name.get(name, 0)
        for needed in change.depends:
            at = self._by_name.get(("change", needed), 0)
            if not at and needed in self._waiting:
                return None
            direct |= at
        closure = direct
        for position in _positions(direct):
            closure |= self._closure[position]
        return closure

    def add(self, change: Change, meddling: int) -> None:
        bit = 1 << len(self._changes)
        self._changes.append(change)
        self._closure.append(meddling)
        for name in (*self._names(change), ("change", change.id)):
            self._by_name[name] = self._by_name.get(name, 0) | bit

    def entries(self, bits: int) -> tuple[Entry, ...]:
        return tuple(self._changes[position].entry for position in _positions(bits))

    @staticmethod
    def _names(change: Change) -> Iterator[tuple[str, str | ChangeId]]:
        yield from (("check", check) for check in change.touches)
        yield from (("path", path) for path in change.paths)


def _positions(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


# --- the core ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    view: View
    refusals: dict[ChangeId, Refuse] = field(default_factory=dict)
    holds: dict[ChangeId, tuple[Reason, ...]] = field(default_factory=dict)
    builds: dict[Candidate, None] = field(default_factory=dict)
    wants: dict[InputKey, Start] = field(default_factory=dict)
    ready: dict[ChangeId, Proposal] = field(default_factory=dict)
    landing: Land | None = None
    starts: list[Start] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    # verdicts

    def refuse_hopeless(self, change: Change) -> None:
        if reasons := self.view.is_hopeless(change):
            self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def consider(self, proposal: Proposal) -> None:
        """Build, test, judge or hold one proposal."""
        change, candidate = proposal.change, proposal.candidate
        assessment = self.view.assess(candidate, change.evidence_from)
        if assessment.again_at is not None:
            self.moments.append(assessment.again_at)
        match assessment.standing:
            case Standing.UNBUILT:
                self._build(proposal)
            case Standing.UNMERGED:
                self._judge_unmerged(proposal)
            case Standing.RED:
                self._judge_red(proposal, assessment)
            case Standing.STUCK:
                self._want_all(proposal, assessment)
                self._hold(change, *(_stuck(need, result) for need, result in assessment.stuck))
            case Standing.UNKNOWN:
                self._want_all(proposal, assessment)
                self._hold(change, *(Reason(Why.WAITS_FOR_CHECK, check=need.check.name) for need in assessment.open))
            case Standing.GREEN if change.holds:
                self._hold(change)
            case Standing.GREEN:
                if all(entry[0] in self.ready for entry in candidate.entries[:-1]):
                    self.ready[change.id] = proposal
                else:
                    undecided = next(entry[0] for entry in candidate.entries if entry[0] not in self.ready)
                    self._hold(change, Reason(Why.WAITS_FOR_CHANGE, change=undecided))

    def _build(self, proposal: Proposal) -> None:
        """Merge the candidate, unless a run for its last form is still under way and there is nothing to learn yet.

        After trunk has moved, a change is merged again only when a worker could use it or its runs have ended; the runs
        count by key, so they go on meanwhile.
        """
        change, candidate = proposal.change, proposal.candidate
        earlier = self.view.snapshot.built.get(change.id)
        if earlier is not None and self._is_same_past(earlier, candidate):
            was = self.view.assess(earlier, change.evidence_from)
            if was.standing is Standing.UNKNOWN and all(need.key in self.view.running for need in was.open):
                self._hold(change, *(Reason(Why.WAITS_FOR_CHECK, check=need.check.name) for need in was.open))
                return
        has_worker = len(self.wants) + len(self.builds) < self._free_workers() + 1
        if len(self.builds) < BUILDS_AT_ONCE and (has_worker or not change.touches):
            self.builds[candidate] = None
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="being merged"))
        else:
            self._hold(change, Reason(Why.WAITS_FOR_WORKER))

    def _is_same_past(self, earlier: Candidate, candidate: Candidate) -> bool:
        decided = self.view.snapshot.decided
        return tuple(entry for entry in earlier.entries if decided.get(entry[0]) is not Verdict.LANDED) == candidate.entries

    def _free_workers(self) -> int:
        return max(0, self.view.snapshot.workers - len(self.view.snapshot.running))

    def _judge_unmerged(self, proposal: Proposal) -> None:
        change, candidate = proposal.change, proposal.candidate
        outcome = self.view.snapshot.merges[candidate]
        assert isinstance(outcome, Unmerged)
        alone = Candidate(candidate.base, (change.entry,))
        if candidate == alone:
            self._refuse(change, outcome.reason)
        elif alone not in self.view.snapshot.merges:
            self.builds[alone] = None
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="being merged"))
        elif isinstance(by_itself := self.view.snapshot.merges[alone], Unmerged) and not change.depends:
            self._refuse(change, by_itself.reason)
        else:
            blocker = self._blocker(candidate, outcome.reason)
            self._hold(
                change, Reason(Why.WAITS_FOR_CHANGE, change=blocker, paths=outcome.reason.paths, detail=outcome.reason.why)
            )

    def _blocker(self, candidate: Candidate, reason: Reason) -> ChangeId:
        """The last change ahead that touches a path in conflict; the last one ahead when none does."""
        ahead = [self.view.waiting[entry[0]] for entry in reversed(candidate.entries[:-1]) if entry[0] in self.view.waiting]
        touching = (change.id for change in ahead if not change.paths.isdisjoint(reason.paths))
        return next(touching, candidate.entries[-2][0])

    def _judge_red(self, proposal: Proposal, assessment: Assessment) -> None:
        """Whose fault a red check is: told by the same check on the candidate without the change.

        Nobody is refused while a change ahead is undecided: it might leave, and the red with it.
        """
        change, candidate = proposal.change, proposal.candidate
        parent = candidate.parent
        control = self.view.snapshot.merges.get(parent)
        if control is None:
            self.builds[parent] = None
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="looking whether it is red without the change"))
            return
        if parent.entries:
            self._hold(
                change, Reason(Why.WAITS_FOR_CHANGE, change=parent.entries[-1][0], check=assessment.red[0][0].check.name)
            )
            return
        if isinstance(control, Unmerged):  # trunk itself has no such commit any more; the next snapshot has another trunk
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail=control.reason.detail))
            return
        theirs = {need.check.name: need for need in control.needs}
        red_from = max(self.view.now - RED_TRUNK_RECHECK_S, change.retried_at)
        at_fault: list[Reason] = []
        waits: list[Reason] = []
        for need, result in assessment.red:
            base = theirs.get(need.check.name)
            if base is None:  # the change brought the check along
                at_fault.append(_red(need, result))
                continue
            without = self.view.assess_needs((base,), red_from)
            if without.again_at is not None:
                self.moments.append(without.again_at)
            match without.standing:
                case Standing.GREEN if base.key != need.key:
                    at_fault.append(_red(need, result))
                case Standing.RED:
                    waits.append(
                        Reason(
                            Why.TRUNK_RED, check=need.check.name, run=without.red[0][1].run, tests=without.red[0][1].failed
                        )
                    )
                    self.moments.append(without.red[0][1].finished_at + RED_TRUNK_RECHECK_S)
                case Standing.STUCK:
                    waits.append(_stuck(base, without.stuck[0][1]))
                case _:
                    self._want(base, parent, "is it red without the change?")
                    waits.append(Reason(Why.WAITS_FOR_CHECK, check=need.check.name, detail="on trunk without the change"))
        if at_fault:
            self._refuse(change, *at_fault)
        else:
            self._hold(change, *waits)

    def _refuse(self, change: Change, *reasons: Reason) -> None:
        self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def _hold(self, change: Change, *reasons: Reason) -> None:
        self.holds[change.id] = (*change.holds, *reasons)

    # landing

    def land(self) -> None:
        """Land everything that is ready as one candidate; what is ready one by one, when together it is not."""
        proposals = self._let_through()
        if not proposals:
            return
        train = Candidate(self.view.snapshot.trunk, tuple(proposal.change.entry for proposal in proposals))
        for candidate in (train, proposals[0].candidate):
            cut = self._landable(candidate)
            if cut is not None or candidate in self.builds:
                break
        if cut is not None:
            self.landing = Land(cut)
        for proposal in proposals:
            if cut is None or proposal.change.entry not in cut.entries:
                self._hold(proposal.change, Reason(Why.WAITS_FOR_CHECK, detail="green, about to land"))

    def _let_through(self) -> list[Proposal]:
        """What is ready and not kept out by a closed trunk, nor on top of a change that is."""
        closed = self.view.snapshot.closed
        if closed is None:
            return list(self.ready.values())
        through: dict[Entry, Proposal] = {}
        for proposal in self.ready.values():
            if proposal.change.mends_gate and all(entry in through for entry in proposal.candidate.entries[:-1]):
                through[proposal.change.entry] = proposal
            else:
                self._hold(proposal.change, Reason(Why.TRUNK_CLOSED, detail=closed))
        return list(through.values())

    def _landable(self, candidate: Candidate) -> Candidate | None:
        """The candidate, or with every_commit its longest prefix, if the rule holds for it. Asks for what is not merged."""
        prefixes = [Candidate(candidate.base, candidate.entries[: count + 1]) for count in range(len(candidate.entries))]
        judged = prefixes if self.view.snapshot.every_commit else prefixes[-1:]
        found: Candidate | None = None
        for prefix in judged:
            standing = self.view.assess(prefix).standing
            if standing is Standing.UNBUILT:
                self.builds[prefix] = None
            if standing is not Standing.GREEN:
                break
            found = prefix
        return found

    # runs

    def _want_all(self, proposal: Proposal, assessment: Assessment) -> None:
        undecided = {need.check.name for need in assessment.open}
        for need in assessment.open:
            if undecided.isdisjoint(need.check.needs):
                self._want(need, proposal.candidate, f"change {proposal.change.id}")

    def _want(self, need: Need, candidate: Candidate, because: str) -> None:
        self.wants.setdefault(need.key, Start(need.check, need.key, candidate, because))

    def start_and_cancel(self) -> None:
        """Fill the free workers, and stop what no candidate needs any more."""
        needed = set(self.wants)
        for change in self.view.queue:
            if change.id in self.refusals:
                continue
            if (earlier := self.view.snapshot.built.get(change.id)) is not None:
                outcome = self.view.snapshot.merges.get(earlier)
                if isinstance(outcome, Merged):
                    needed.update(need.key for need in outcome.needs)
        self.cancels = [
            Cancel(run.run, "nothing needs it any more") for run in self.view.snapshot.running if run.key not in needed
        ]
        free = self.view.snapshot.workers - len(self.view.snapshot.running) + len(self.cancels)
        waiting = [start for key, start in self.wants.items() if key not in self.view.running]
        self.starts = waiting[: max(0, free)]

    def plan(self) -> Plan:
        for change in self.view.queue:
            if change.id not in self.holds and change.id not in self.refusals and change.id not in self.ready:
                self.holds[change.id] = change.holds or self._not_considered(change)
        landing_now = {entry[0] for entry in self.landing.candidate.entries} if self.landing else set[ChangeId]()
        decisions: list[Decision] = [*self.refusals.values()]
        if self.landing is not None:
            decisions.append(self.landing)
        decisions += [*self.cancels, *self.starts, *(Build(candidate) for candidate in self.builds)]
        decisions += [
            Hold(id_, reasons) for id_, reasons in self.holds.items() if id_ not in landing_now and id_ not in self.refusals
        ]
        later = [moment for moment in self.moments if moment > self.view.now]
        return Plan(tuple(decisions), min(later, default=None))

    def _not_considered(self, change: Change) -> tuple[Reason, ...]:
        blocked = next((needed for needed in change.depends if needed in self.view.waiting), None)
        if blocked is not None:
            return (Reason(Why.WAITS_FOR_CHANGE, change=blocked),)
        return (Reason(Why.WAITS_FOR_WORKER),)


def _red(need: Need, result: Result) -> Reason:
    return Reason(Why.CHECK_RED, check=need.check.name, run=result.run, tests=result.failed, detail=result.reason)


def _stuck(need: Need, result: Result) -> Reason:
    return Reason(Why.INFRASTRUCTURE, check=need.check.name, run=result.run, detail=result.reason)
