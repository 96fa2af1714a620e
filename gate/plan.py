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

LOOKAHEAD = 200  # undecided proposals considered in one plan; those behind have no worker to wait for
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
    undecided = 0
    for proposal in (policy or optimistic)(view):
        undecided += draft.consider(proposal)
        if undecided >= LOOKAHEAD:
            break
    draft.land()
    draft.start_and_cancel()
    return draft.plan()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Test ``change`` as the last entry of ``candidate``.

    settles: a verdict may follow from it: those ahead that it meddles with are all in the candidate, or every outcome of
    theirs is covered. False: only run it, to know sooner.
    worth: free workers, and those of runs that are worth less, go to the greatest; among equals to what runs already,
    then to what was proposed first.
    """

    change: Change
    candidate: Candidate
    settles: bool = True
    worth: float = 0.0


Policy = Callable[["View"], Iterable[Proposal]]


class Objection(Enum):
    """Why the core pays no attention to a proposal."""

    OTHER_TRUNK = "it is not based on trunk"
    NOT_WAITING = "it holds a change, or a revision, that does not wait"
    NOT_LAST = "the change is not its last one"
    TWICE = "it holds a change twice"
    MAY_NOT_RUN = "it holds a change whose checks nobody has allowed to run"
    DEPENDENCY_MISSING = "it holds a change without one that this depends on"
    ANSWERED = "the change is refused, or ready to land, already"


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
    """A candidate's standing, with the needs that make it so.

    open: may be run now, or is. paused: could not be run, and is tried again later; stuck: so often that a person is asked.
    again_at: when the first of these pauses is over.
    """

    standing: Standing
    red: tuple[tuple[Need, Result], ...] = ()
    open: tuple[Need, ...] = ()
    paused: tuple[tuple[Need, Result], ...] = ()
    stuck: tuple[tuple[Need, Result], ...] = ()
    again_at: float | None = None

    @property
    def leaves(self) -> bool:
        """Those behind it are better off without it: it is not going to land as things stand."""
        return self.standing in (Standing.UNMERGED, Standing.RED, Standing.STUCK)


# --- the view: questions about one snapshot ---------------------------------------------------------------------------


class View:
    """One snapshot and one moment, with the questions that the core and the policies ask of them."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot = snapshot
        self.now = now
        self.queue = tuple(_in_order(snapshot.changes))
        self.waiting = {change.id: change for change in self.queue}
        self.running = {run.key for run in snapshot.running}
        self._tangled = self._find_tangled()
        self._sound: set[tuple[Entry, ...]] = set()  # changes to which there is no objection, in this order on trunk

    def hopelessness(self, change: Change) -> tuple[Reason, ...]:
        """Reasons to refuse without any run; empty when there is none."""
        if not change.depends:
            return change.broken
        gone = (
            Reason(Why.DEPENDENCY_GONE, change=needed, detail=self._fate(needed))
            for needed in change.depends
            if needed not in self.waiting and self.snapshot.decided.get(needed) is not Verdict.LANDED
        )
        circle = (
            [Reason(Why.DEPENDENCY_GONE, change=change.id, detail="it depends on itself")]
            if self._is_in_circle(change)
            else []
        )
        return (*change.broken, *gone, *circle)

    def _fate(self, change: ChangeId) -> str:
        verdict = self.snapshot.decided.get(change)
        return "it does not exist" if verdict is None else f"it was {verdict.value}"

    def _find_tangled(self) -> frozenset[ChangeId]:
        """Changes that depend on each other in a circle, and those that depend on such: all that cannot be put in order."""
        settled: set[ChangeId] = set()
        for change in self.queue:
            if not change.depends or all(needed in settled or needed not in self.waiting for needed in change.depends):
                settled.add(change.id)
        return frozenset(self.waiting.keys() - settled)

    def _is_in_circle(self, change: Change) -> bool:
        if change.id not in self._tangled:
            return False
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
        paused: list[tuple[Need, Result]] = []
        stuck: list[tuple[Need, Result]] = []
        pauses: list[float] = []
        for need in needs:
            evidence = self.snapshot.evidence.get(need.key, _NOTHING)
            if evidence.green is not None and evidence.green.is_green_at(self.now, need.check.max_age_s):
                continue
            if evidence.red is not None and evidence.red.finished_at >= max(red_from, _finished_at(evidence.green)):
                red.append((need, evidence.red))
                continue
            tries = [result for result in evidence.attempts if result.finished_at >= red_from]
            again_at = _next_try_at(tries)
            if need.key in self.running or again_at <= self.now:
                unknown.append(need)
            else:
                (stuck if len(tries) >= INFRASTRUCTURE_TRIES else paused).append((need, tries[-1]))
                pauses.append(again_at)
        standing = (
            Standing.RED if red else Standing.STUCK if stuck else Standing.UNKNOWN if unknown or paused else Standing.GREEN
        )
        return Assessment(standing, tuple(red), tuple(unknown), tuple(paused), tuple(stuck), min(pauses, default=None))

    def objection(self, proposal: Proposal) -> Objection | None:
        """What the rule has against testing, judging or landing a proposal at all; None: nothing."""
        candidate = proposal.candidate
        if candidate.base != self.snapshot.trunk:
            return Objection.OTHER_TRUNK
        if not candidate.entries or candidate.entries[-1] != proposal.change.entry:
            return Objection.NOT_LAST
        ahead = candidate.entries[:-1]
        known = len(ahead) if ahead in self._sound else 0  # what was looked at as a candidate is not looked at again
        before = {id_ for id_, _ in candidate.entries[:known]}
        for id_, revision in candidate.entries[known:]:
            change = self.waiting.get(id_)
            if change is None or change.revision != revision:
                return Objection.NOT_WAITING
            if id_ in before:
                return Objection.TWICE
            if not change.may_run:
                return Objection.MAY_NOT_RUN
            if change.depends and any(needed in self.waiting and needed not in before for needed in change.depends):
                return Objection.DEPENDENCY_MISSING
            before.add(id_)
        self._sound.add(candidate.entries)
        return None


_NOTHING = Evidence()


def _finished_at(result: Result | None) -> float:
    return 0.0 if result is None else result.finished_at


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
        stack = {} if first in done else {first: None}  # a dict: a set with an order
        while stack:
            id_ = next(reversed(stack))
            ahead = [
                needed for needed in by_id[id_].depends if needed in by_id and needed not in done and needed not in stack
            ]
            if ahead:
                stack[min(ahead, key=place.__getitem__)] = None
                continue
            del stack[id_]
            done.add(id_)
            yield by_id[id_]


# --- the policy --------------------------------------------------------------------------------------------------------


def optimistic(view: View) -> Iterator[Proposal]:
    """Each change on top of those ahead that it could meddle with, all of them assumed to land.

    Two changes meddle with each other when a required check has inputs among the paths of both, when they touch the same
    path, or when one depends on the other; independent changes are tested side by side. A change that is red, cannot be
    tested or does not merge is assumed to leave, so those behind it are tested without it.
    """
    ahead = _Ahead(view)
    is_closed = view.snapshot.closed is not None
    # What mends a closed trunk comes first, for nothing ahead of it could land; held ones (drafts) after all others.
    for change in sorted(view.queue, key=lambda change: (bool(change.holds), is_closed and not change.mends_gate)):
        if view.hopelessness(change) or not change.may_run:
            continue
        meddling = ahead.meddling_with(change)
        if meddling is None:
            continue  # it depends on a change that is not going to land as things stand
        candidate = Candidate(view.snapshot.trunk, (*ahead.entries(meddling), change.entry))
        yield Proposal(change, candidate)
        if not change.holds and not view.assess(candidate, change.evidence_from).leaves:
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
    waits: dict[ChangeId, tuple[Need, ...]] = field(default_factory=dict)  # what each change has yet to see run
    builds: dict[Candidate, None] = field(default_factory=dict)
    wants: dict[InputKey, Start] = field(default_factory=dict)
    ready: dict[ChangeId, Proposal] = field(default_factory=dict)
    landing: Land | None = None
    starts: list[Start] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    # verdicts

    def refuse_hopeless(self, change: Change) -> None:
        if reasons := self.view.hopelessness(change):
            self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def consider(self, proposal: Proposal) -> bool:
        """Build, test, judge or hold one proposal. True: it is undecided, so that a worker or a landing may be for it."""
        if self.objection(proposal) is not None:
            return False
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
                self._wait(change, assessment)
            case Standing.GREEN if change.holds:
                self._hold(change)
            case Standing.GREEN:
                if all(entry[0] in self.ready for entry in candidate.entries[:-1]):
                    self.ready[change.id] = proposal
                else:
                    undecided = next(entry[0] for entry in candidate.entries if entry[0] not in self.ready)
                    self._hold(change, Reason(Why.WAITS_FOR_CHANGE, change=undecided))
        return not assessment.leaves

    def objection(self, proposal: Proposal) -> Objection | None:
        if proposal.change.id in self.refusals or proposal.change.id in self.ready:
            return Objection.ANSWERED
        return self.view.objection(proposal)

    def _build(self, proposal: Proposal) -> None:
        """Merge the candidate, unless a run for its last form is still under way and there is nothing to learn yet.

        After trunk has moved, a change is merged again only when a worker could use it or its runs have ended; the runs
        count by key, so they go on meanwhile.
        """
        change, candidate = proposal.change, proposal.candidate
        earlier = self.view.snapshot.built.get(change.id)
        if earlier is not None and self._is_same_past(earlier, candidate):
            was = self.view.assess(earlier, change.evidence_from)
            if was.standing is Standing.UNKNOWN and was.open and all(need.key in self.view.running for need in was.open):
                self._wait(change, was)
                return
        # What is ready now was green as soon as it was merged, or nearly so: the next ones may well be, too.
        unstarted = sum(key not in self.view.running for key in self.wants)
        has_worker = unstarted + len(self.builds) < self._free_workers() + 1 + 4 * len(self.ready)
        if len(self.builds) >= BUILDS_AT_ONCE or not (has_worker or not change.touches):
            self._hold(change, Reason(Why.WAITS_FOR_WORKER))
        elif (obstacle := self._ask(candidate)) is not None:
            self._hold(change, Reason(Why.WAITS_FOR_CHANGE, change=obstacle))
        else:
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="being merged"))

    def _ask(self, candidate: Candidate) -> ChangeId | None:
        """Have a candidate merged; or the change in it that is known not to go on top of those before it.

        When a change before the last one does not merge, nothing is learned of the candidate itself, and asking for it would
        never end. So its shortest unknown part is asked for as well: something is always learned.
        """
        merges = self.view.snapshot.merges
        self.builds[candidate] = None
        if isinstance(merges.get(candidate.parent), Merged) or candidate.parent in self.builds:
            return None
        for count in range(1, len(candidate.entries)):
            part = Candidate(candidate.base, candidate.entries[:count])
            outcome = merges.get(part)
            if isinstance(outcome, Unmerged):
                del self.builds[candidate]
                return part.entries[-1][0]
            if outcome is None:
                self.builds[part] = None
                break
        return None

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
        elif isinstance(by_itself := self.view.snapshot.merges[alone], Unmerged) and self.view.waiting.keys().isdisjoint(
            change.depends
        ):
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
        if parent.entries:
            self._hold(
                change, Reason(Why.WAITS_FOR_CHANGE, change=parent.entries[-1][0], check=assessment.red[0][0].check.name)
            )
            return
        control = self.view.snapshot.merges.get(parent)
        if control is None:
            self.builds[parent] = None
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="looking whether it is red without the change"))
            return
        assert isinstance(control, Merged)  # trunk itself has nothing to merge
        theirs = {need.check.name: need for need in control.needs}
        at_fault: list[Reason] = []
        waits: list[Reason] = []
        wants: list[tuple[Need, Candidate, str]] = []
        for need, result in assessment.red:
            base = theirs.get(need.check.name)
            if base is None:  # the change brought the check along
                at_fault.append(_red(need, result))
                continue
            without = self.view.assess_needs((base,), max(self.view.now - RED_TRUNK_RECHECK_S, change.retried_at))
            if without.again_at is not None:
                self.moments.append(without.again_at)
            match without.standing:
                case Standing.GREEN if not self._was_red_since(base, result):
                    at_fault.append(_red(need, result))
                case Standing.GREEN:
                    wants.append(
                        (need, candidate, f"change {change.id}, once more: trunk was red, too, and is not any more")
                    )
                    waits.append(Reason(Why.WAITS_FOR_CHECK, check=need.check.name, detail="again, for trunk was red, too"))
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
                    wants.append((base, parent, "is it red without the change?"))
                    waits.append(Reason(Why.WAITS_FOR_CHECK, check=need.check.name, detail="on trunk without the change"))
        if at_fault:
            self._refuse(change, *at_fault)
            return
        for want in wants:
            self._want(*want)
        self._hold(change, *waits)

    def _was_red_since(self, base: Need, result: Result) -> bool:
        """The check has said both of trunk, and green only after ``result``: what made trunk red may have made this red."""
        evidence = self.view.snapshot.evidence[base.key]
        return evidence.red is not None and result.finished_at < _finished_at(evidence.green)

    def _refuse(self, change: Change, *reasons: Reason) -> None:
        self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def _hold(self, change: Change, *reasons: Reason) -> None:
        self.holds[change.id] = (*change.holds, *reasons)

    def _wait(self, change: Change, assessment: Assessment) -> None:
        """Hold until runs have ended; which of them are under way is known when workers have been given out."""
        if assessment.again_at is not None:
            self.moments.append(assessment.again_at)
        self.waits[change.id] = assessment.open
        self._hold(change, *(_stuck(need, result) for need, result in assessment.paused))

    # landing

    def land(self) -> None:
        """Land everything that is ready as one candidate; the first of it alone, when together it is not ready."""
        proposals = self._join(self._let_through())
        if not proposals:
            return
        train = Candidate(self.view.snapshot.trunk, tuple(proposal.change.entry for proposal in proposals))
        cut = self._landable(train)
        if cut is None and train not in self.view.snapshot.merges:
            self._ask(train)
        elif cut is None:
            cut = self._landable(proposals[0].candidate)
        if cut is not None:
            self.landing = Land(cut)
        for proposal in proposals:
            if cut is None or proposal.change.entry not in cut.entries:
                self._hold(proposal.change, Reason(Why.WAITS_FOR_CHECK, detail="green, about to land"))

    def _join(self, ready: list[Proposal]) -> list[Proposal]:
        """Without those that turned out not to merge on top of the others, though no path and no check told of it."""
        chosen: dict[Entry, Proposal] = {}
        for proposal in ready:
            joint = Candidate(self.view.snapshot.trunk, (*chosen, proposal.change.entry))
            has_all = all(entry in chosen for entry in proposal.candidate.entries[:-1])
            if has_all and not isinstance(self.view.snapshot.merges.get(joint), Unmerged):
                chosen[proposal.change.entry] = proposal
            else:
                self._hold(proposal.change, Reason(Why.WAITS_FOR_CHANGE, change=next(reversed(chosen))[0]))
        return list(chosen.values())

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
        """The candidate, or with every_commit its longest prefix, if the rule holds for it."""
        shortest = 1 if self.view.snapshot.every_commit else len(candidate.entries)
        found: Candidate | None = None
        for count in range(shortest, len(candidate.entries) + 1):
            prefix = Candidate(candidate.base, candidate.entries[:count])
            if self.view.assess(prefix).standing is not Standing.GREEN:
                break
            found = prefix
        return found

    # runs

    def _want_all(self, proposal: Proposal, assessment: Assessment) -> None:
        undecided = {need.check.name for need in assessment.open}
        undecided |= {need.check.name for need, _ in (*assessment.paused, *assessment.stuck)}
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
        if self.landing is not None:  # of the old trunk only the last candidate of each change is kept, see Snapshot
            waiting = [start for start in waiting if self._is_kept(start.candidate)]
            self.builds.clear()
        self.starts = waiting[: max(0, free)]

    def _is_kept(self, candidate: Candidate) -> bool:
        return bool(candidate.entries) and self.view.snapshot.built.get(candidate.entries[-1][0]) == candidate

    def plan(self) -> Plan:
        self._tell_waits()
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

    def _tell_waits(self) -> None:
        """Now that workers have been given out: which runs a change waits for, or else that it waits for a worker."""
        under_way = self.view.running | {start.key for start in self.starts}
        for id_, needs in self.waits.items():
            runs = tuple(Reason(Why.WAITS_FOR_CHECK, check=need.check.name) for need in needs if need.key in under_way)
            if needs and not runs:
                runs = (Reason(Why.WAITS_FOR_WORKER),)
            if id_ in self.holds:
                self.holds[id_] += runs

    def _not_considered(self, change: Change) -> tuple[Reason, ...]:
        blocked = next((needed for needed in change.depends if needed in self.view.waiting), None)
        if blocked is not None:
            return (Reason(Why.WAITS_FOR_CHANGE, change=blocked),)
        return (Reason(Why.WAITS_FOR_WORKER),)


def _red(need: Need, result: Result) -> Reason:
    return Reason(Why.CHECK_RED, check=need.check.name, run=result.run, tests=result.failed, detail=result.reason)


def _stuck(need: Need, result: Result) -> Reason:
    return Reason(Why.INFRASTRUCTURE, check=need.check.name, run=result.run, detail=result.reason)
