"""Decides what the gate does next: ``plan(snapshot, now) -> Plan``. Pure: no clock, store, git or log.

The core holds the rule (a candidate lands only when every check it needs is green for its own keys) and all verdicts. A
policy proposes which candidates to test, best first; the core builds, starts, judges and lands from its proposals, and can
do nothing that the rule forbids whatever the policy proposes. The same function runs in production, in tests and in the
simulator.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from math import inf
from typing import assert_never

from ci.model import Check, CheckName, InputKey, Result, Sha
from ci.proof import failed_tests
from gate.blame import RETEST_APART_S, Advice, Case, Step, decide, retest_tests, told
from gate.model import (
    Assumption,
    Build,
    Cancel,
    Candidate,
    Change,
    ChangeId,
    Decision,
    Entry,
    Evidence,
    Forecast,
    Hold,
    Land,
    Merged,
    Need,
    Plan,
    Reason,
    Refuse,
    Running,
    Snapshot,
    Start,
    Unmerged,
    Why,
)
from gate.policy import Worthwhile, worthwhile
from gate.view import (
    INFRASTRUCTURE_TRIES,
    NEVER,
    RED_TRUNK_RECHECK_S,
    Assessment,
    Known,
    Policy,
    Proposal,
    Standing,
    View,
    finished_at,
    next_try_at,
    tries_of,
)

CONTROL_WORTH = 1.0  # of a run that a verdict waits for: more than that of any other, which is far less a second
GO_ON = -1.0  # worth of a run that nothing is decided by: it goes on where there is room
BUILDS_AT_ONCE = 16  # candidates merged before the next plan, so that events never wait long for an answer

_EVERY_WORKER_IS_BUSY = (Reason(Why.WAITS_FOR_WORKER),)
_DEFAULT = Forecast()
_NOTHING = Evidence()
_NO_TRIALS: Mapping[Assumption, tuple[Need, ...]] = {}


def plan(snapshot: Snapshot, now: float, policy: Policy = worthwhile) -> Plan:
    """What to do now. The same snapshot and moment give the same plan; normal outcomes never raise.

    Decisions are in the order in which they should be carried out. Times in epoch seconds UTC.
    """
    return Planner(policy).plan(snapshot, now)


class Planner:
    """Plans for one queue, again and again. It remembers what has not altered since its last plan, so that a plan costs what
    has; its plans are those of ``plan``, which remembers nothing. For one thread."""

    def __init__(self, policy: Policy | None = None) -> None:
        """policy: None: the shipped one. It may have a memory of its own."""
        self._policy = Worthwhile() if policy is None else policy
        self._view: View | None = None
        self._holds: dict[ChangeId, Hold] = {}

    def plan(self, snapshot: Snapshot, now: float) -> Plan:
        self._view = view = View(snapshot, now, self._view)
        draft = _Draft(view, self._holds)
        for change in view.questionable:
            draft.refuse_hopeless(change)
        draft.consider_all(self._policy(view))
        for id_, worth in sorted(view.by_themselves.items()):
            draft.judge_by_itself(view.waiting[id_], worth)
        draft.build()
        draft.land()
        draft.start_and_cancel()
        made = draft.plan()
        self._holds = draft.told
        return made


# --- the core ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    """A run that a proposal asks for, or that a verdict waits for, with its worth. may_start: it need not be under way.

    last: the last change of the candidate; None: it is trunk.
    """

    key: InputKey
    need: Need
    last: ChangeId | None
    may_start: bool
    proposal: Proposal | None = None
    wanted: "_Wanted | None" = None
    worth: float = 0.0

    def start(self, view: View) -> Start:
        if self.proposal is not None:
            because = f"change {self.proposal.change.id}"
            return Start(self.need.check, self.key, view.candidate(self.proposal), because)
        assert self.wanted is not None
        return Start(self.need.check, self.key, self.wanted.candidate, self.wanted.because, self.wanted.tests)

    def worth_by(self, worths: "_Worths") -> float:
        return self.worth if self.proposal is None else worths[self.proposal]


class _Worths(dict[Proposal, float]):
    """Of proposals at one moment, each worked out once: one is behind the runs of many checks."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._now = now

    def __missing__(self, proposal: Proposal) -> float:
        self[proposal] = worth = proposal.worth_at(self._now)
        return worth


@dataclass(slots=True, eq=False)
class _Explored:
    """What follows from a proposal that nothing is decided by yet; the same at the next plan if nothing else is known then.

    waits: what has yet to run. reasons: why the change waits; what it waits for comes on top, unless it is told in them.
    idle: the same where none of it runs. trunk: which it was looked at on last; None: the same on any.
    """

    proposal: Proposal
    wishes: tuple[_Wish, ...]
    waits: tuple[Need, ...]
    reasons: tuple[Reason, ...]
    idle: tuple[Reason, ...]
    is_told: bool
    trunk: Sha | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A run that a verdict waits for. tests: these only; (): the whole check."""

    need: Need
    candidate: Candidate
    because: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Finding:
    """What follows from one red check: a reason to refuse the change, or to wait for these runs or for somebody else."""

    reason: Reason
    runs: tuple[_Wanted, ...] = ()
    is_guilty: bool = False


class _Draft:
    """A plan in the making. told_before: what each change was told by the last plan."""

    def __init__(self, view: View, told_before: Mapping[ChangeId, Hold]) -> None:
        self.view = view
        self.told_before = told_before
        self.told: dict[ChangeId, Hold] = {}
        self.refusals: dict[ChangeId, Refuse] = {}
        self.holds: dict[ChangeId, tuple[Reason, ...]] = {}
        self.waits: dict[ChangeId, _Explored] = {}  # by change, where something has yet to be told of what it waits for
        self.builds: dict[Candidate, None] = {}
        self.wishes: dict[InputKey, _Wish] = {}  # the first of each key
        self.more_wishes: dict[InputKey, list[_Wish]] = {}
        self.unstarted = 0  # runs that are wished for, and may be started
        self.unbuilt: list[Proposal] = []
        self.unsure: set[ChangeId] = set()  # whose runs cannot be told from useless ones before a merge
        self.ready: dict[ChangeId, Proposal] = {}
        self.landing: Land | None = None
        self.starts: list[Start] = []
        self.cancels: list[Cancel] = []
        self.moments: list[float] = []
        self.worths = _Worths(view.now)
        self.is_trunk_red = bool(view.red_on_trunk)

    # verdicts

    def refuse_hopeless(self, change: Change) -> None:
        if reasons := self.view.hopelessness(change):
            self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def consider_all(self, proposals: Iterable[Proposal]) -> None:
        """Each in turn. What is explored already and is as it was is most of a long queue, so it is quick."""
        holds, wishes, ready, refusals = self.holds, self.wishes, self.ready, self.refusals
        is_trunk_red, trunk = self.is_trunk_red, self.view.snapshot.trunk
        for proposal in proposals:
            known = proposal.known
            for explored in () if known is None or is_trunk_red else known.explored:
                if explored.proposal is proposal:
                    seen = explored.trunk
                    if seen is None or seen == trunk or self._is_merged_here(explored):
                        break
            else:
                self.consider(proposal)
                continue
            id_ = proposal.change.id
            if id_ in ready or id_ in refusals:
                continue
            for wish in explored.wishes:
                if wishes.setdefault(wish.key, wish) is not wish:
                    self._wish(wish)
            if id_ not in holds:
                holds[id_] = explored.reasons
                if explored.waits and not explored.is_told:
                    self.waits[id_] = explored

    def consider(self, proposal: Proposal) -> None:
        """Build, test, judge or hold one proposal."""
        if proposal.change.id in self.refusals or proposal.change.id in self.ready:
            return  # it is answered
        may_mend = self.is_trunk_red and proposal.change.fixes_trunk
        if proposal.known is not None and not may_mend:
            for explored in proposal.known.explored:
                if self._is_as_before(proposal, explored):
                    self._take_over(proposal, explored)
                    return
        known = proposal.known
        if known is None or known.change is not proposal.change or known.ahead != proposal.ahead:
            known = self._know(proposal)
        is_answer = proposal.settles and known.standing in (Standing.GREEN, Standing.RED, Standing.UNMERGED)
        objection = self.view.objection(proposal.change, proposal.ahead) if is_answer else known.objection
        if objection is not None:
            return
        if proposal.settles and self.view.mends_trunk(proposal.change):
            # Nothing else can land before it does.
            proposal = Proposal(proposal.change, proposal.ahead, proposal.together, worth=CONTROL_WORTH, known=known)
        assessment = known.assessment
        if is_answer:  # a verdict may follow, so no policy's word is taken for it
            assessment = self.view.assess(self.view.candidate(proposal), proposal.change.evidence_from)
        self._look_again(assessment.again_at)
        match assessment.standing:
            case Standing.UNBUILT:
                self.unbuilt.append(proposal)
            case Standing.UNMERGED:
                self._judge_unmerged(proposal)
            case Standing.RED if proposal.settles:
                self._judge_red(proposal.change, self.view.candidate(proposal), assessment)
            case Standing.GREEN if proposal.settles:
                self._settle_green(proposal)
            case _:
                self._explore(proposal, assessment)

    def _is_as_before(self, proposal: Proposal, explored: _Explored) -> bool:
        before, snapshot = explored.proposal, self.view.snapshot
        if before is not proposal and (before.behind != proposal.behind or before.settles != proposal.settles):
            return False
        return explored.trunk in (None, snapshot.trunk) or self._is_merged_here(explored)

    def _is_merged_here(self, explored: _Explored) -> bool:
        """It was looked at on an earlier trunk, and is merged on this one, too: then as much follows from it."""
        snapshot = self.view.snapshot
        is_merged = self.view.candidate(explored.proposal) in snapshot.merges
        if is_merged:
            explored.trunk = snapshot.trunk
        return is_merged

    def _know(self, proposal: Proposal) -> Known:
        """What is known of a proposal whose policy did not ask."""
        change, assumption = proposal.change, proposal.assumption
        needs = self.view.trial(change, assumption)
        if needs is not None:
            assessed = self.view.assess_needs(needs, change.evidence_from)
            return Known(change, proposal.ahead, assumption, needs, assessed, self.view, is_trial=True)
        assessed = self.view.assess(self.view.candidate(proposal), change.evidence_from)
        return Known(change, proposal.ahead, assumption, None, assessed, self.view, is_trial=False)

    def _explore(self, proposal: Proposal, known: Assessment) -> None:
        """Run what is not known yet. It is no verdict: an outcome may be missing, or a change ahead be undecided."""
        change, running = proposal.change, self.view.running
        is_under_way = all(need.key in running for need in known.open)
        candidate = self.view.candidate(proposal)
        wishes = self._wishes(proposal, known)
        waits = known.open if known.standing is Standing.UNKNOWN else ()
        if proposal.behind is not None:
            reasons = (*change.holds, Reason(Why.WAITS_FOR_CHANGE, change=proposal.behind))
        else:
            hindered = known.paused if known.standing is Standing.UNKNOWN else known.stuck
            reasons = (*change.holds, *(_stuck(need, result) for need, result in hindered))
        if is_under_way:
            reasons = (*reasons, *(_waits_for(need) for need in waits))
            self._take_over(proposal, _Explored(proposal, wishes, waits, reasons, reasons, is_told=True, trunk=None))
            return
        idle = (*reasons, *_EVERY_WORKER_IS_BUSY)
        if candidate in self.view.snapshot.merges:
            self._take_over(proposal, _Explored(proposal, wishes, waits, reasons, idle, is_told=False, trunk=candidate.base))
        else:  # what cannot be started before a merge must not keep the merge waiting for a worker
            self.unbuilt.append(proposal)
            under_way = tuple([wish for wish in wishes if wish.key in running])
            self._apply(change, _Explored(proposal, under_way, waits, reasons, idle, is_told=False, trunk=None))

    def _take_over(self, proposal: Proposal, explored: _Explored) -> None:
        if explored.proposal is not proposal:  # as much is known of it, but it is worth something else
            wishes = tuple([_Wish(wish.key, wish.need, wish.last, proposal.may_start, proposal) for wish in explored.wishes])
            explored = replace(explored, proposal=proposal, wishes=wishes)
        self._apply(proposal.change, explored)
        known = proposal.known
        if known is not None and known.alters_at == NEVER and known.standing in (Standing.UNKNOWN, Standing.STUCK):
            # Else more was looked at than what is known of the change itself. Two are kept, for a run may be proposed as
            # one of several pasts and as what may go on.
            others = [each for each in known.explored if each.proposal is not proposal]
            known.explored = (explored, *others[:1])

    def _apply(self, change: Change, explored: _Explored) -> None:
        for wish in explored.wishes:
            self._wish(wish)
        if change.id not in self.holds:
            self.holds[change.id] = explored.reasons
            if explored.waits and not explored.is_told:
                self.waits[change.id] = explored

    def _wishes(self, proposal: Proposal, known: Assessment) -> tuple[_Wish, ...]:
        """For its open needs, but those that run only when others are green."""
        undecided = {need.check.name for need in known.open}
        undecided |= {need.check.name for need, _ in (*known.paused, *known.stuck)}
        return tuple(
            [
                _Wish(need.key, need, proposal.change.id, proposal.may_start, proposal)
                for need in known.open
                if not need.check.needs or undecided.isdisjoint(need.check.needs)
            ]
        )

    def _wish(self, wish: _Wish) -> None:
        if self.wishes.setdefault(wish.key, wish) is not wish:
            self.more_wishes.setdefault(wish.key, []).append(wish)

    def _want(self, need: Need, candidate: Candidate, because: str, worth: float, tests: tuple[str, ...] = ()) -> None:
        last = candidate.entries[-1][0] if candidate.entries else None
        self._wish(_Wish(need.key, need, last, worth >= 0, None, _Wanted(need, candidate, because, tests), worth))

    def _may_be_started(self, key: InputKey) -> bool:
        if key in self.view.running:
            return False
        return self.wishes[key].may_start or any(wish.may_start for wish in self.more_wishes.get(key, ()))

    def _settle_green(self, proposal: Proposal) -> None:
        """The tree is green: all that is in it may land, unless something in it is kept back."""
        members = [self.view.waiting[change] for change, _ in proposal.entries]
        kept = next((member for member in members if member.holds), None)
        if kept is proposal.change:
            self._hold(kept)
        elif kept is not None:
            self._hold(proposal.change, Reason(Why.WAITS_FOR_CHANGE, change=kept.id))
        elif self.view.snapshot.every_commit and any(member.id not in self.ready for member in members[:-1]):
            self._hold(proposal.change, Reason(Why.WAITS_FOR_CHANGE, change=members[-2].id))
        else:
            for member in members:
                self.holds.pop(member.id, None)
                self.ready.setdefault(member.id, proposal)

    def build(self) -> None:
        """Have the most worthwhile candidates merged: nothing can be started before."""
        if self.unbuilt:
            self.unstarted = sum([self._may_be_started(key) for key in self.wishes])
        for proposal in sorted(self.unbuilt, key=lambda proposal: -self.worths[proposal]):
            self._build(proposal)

    def _build(self, proposal: Proposal) -> None:
        """Have a candidate merged, if a worker could use it. After trunk moved, runs go on and count by key meanwhile."""
        change, candidate = proposal.change, self.view.candidate(proposal)
        self.unsure.add(change.id)
        # What is ready now was green as soon as it was merged, or nearly so: the next ones may well be, too.
        has_worker = self.unstarted + len(self.builds) < self._free_workers() + 1 + 4 * len(self.ready)
        if self.view.objection(change, proposal.ahead) is not None:
            return
        is_wanted = proposal.may_start and (has_worker or not proposal.settles)
        if len(self.builds) >= BUILDS_AT_ONCE or not (is_wanted or not change.touches or self._has_ended(change)):
            reason = Reason(Why.WAITS_FOR_WORKER)
        elif (obstacle := self._ask(candidate)) is not None:
            reason = Reason(Why.WAITS_FOR_CHANGE, change=obstacle)
        else:
            reason = Reason(Why.WAITS_FOR_CHECK, detail="being merged")
        if change.id not in self.holds:
            self._hold(change, reason)

    def _has_ended(self, change: Change) -> bool:
        """Runs for the change have ended on an earlier trunk: a merge tells what they are worth now, and takes no worker."""
        earlier = self.view.snapshot.built.get(change.id)
        return earlier is not None and self.view.assess(earlier, change.evidence_from).standing in (
            Standing.GREEN,
            Standing.RED,
        )

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

    def _free_workers(self) -> int:
        return max(0, self.view.snapshot.workers - len(self.view.snapshot.running))

    def _judge_unmerged(self, proposal: Proposal) -> None:
        change, candidate = proposal.change, self.view.candidate(proposal)
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

    def judge_by_itself(self, change: Change, worth: float) -> None:
        """By its own run on trunk, perhaps as that was a while ago, though changes ahead are undecided: decision 0014.

        worth: of such a run that is under way.
        """
        if self.is_trunk_red or change.id in self.refusals or change.id in self.ready:
            return
        if self.view.objection(change, ()) is not None:
            return
        running = self.view.running
        for candidate in self.view.alone(change):
            assessment = self.view.assess(candidate, change.evidence_from)
            self._look_again(assessment.again_at)
            if assessment.standing is Standing.RED and self._is_measure(change, candidate, assessment):
                self._judge_red(change, candidate, assessment)
                return
            for need in assessment.open:
                if need.key in running and running[need.key].changes == (change.id,):
                    self._want(need, candidate, f"change {change.id}", worth)

    def _is_measure(self, change: Change, alone: Candidate, found: Assessment) -> bool:
        """Nothing speaks against judging the change by what is red on this trunk: none of it is green on a past that may
        still come true, and an earlier trunk was never seen red itself."""
        red = {need.check.name for need, _ in found.red}
        for needs in self.view.snapshot.trials.get(change.id, _NO_TRIALS).values():
            same = tuple([need for need in needs if need.check.name in red])
            if same and self.view.assess_needs(same, 0.0).standing is Standing.GREEN:
                return False
        then = self.view.snapshot.merges.get(alone.parent) if alone.base != self.view.snapshot.trunk else None
        return not isinstance(then, Merged) or not any(
            need.check.name in red and self._evidence(need).red is not None for need in then.needs
        )

    def _judge_red(self, change: Change, candidate: Candidate, assessment: Assessment) -> None:
        """Whose fault a red check is, and what would tell, see gate/blame.py.

        Nobody is refused on top of an undecided change: that might leave, and the red with it. Nor on a red trunk.
        """
        for need in assessment.open:  # its author wants to know all that is wrong
            if need.key in self.view.running:
                self._want(need, candidate, f"change {change.id}", GO_ON)
        parent = candidate.parent
        if parent.entries:
            behind = Reason(Why.WAITS_FOR_CHANGE, change=parent.entries[-1][0], check=assessment.red[0][0].check.name)
            self._hold(change, behind, *self._retest_on_top(change, candidate, assessment))
            return
        control = self.view.snapshot.merges.get(parent)
        if control is None:
            self.builds[parent] = None
            self._hold(change, Reason(Why.WAITS_FOR_CHECK, detail="looking whether it is red without the change"))
            return
        assert isinstance(control, Merged)  # a trunk itself has nothing to merge
        theirs = {need.check.name: need for need in control.needs}
        at_fault: list[Reason] = []
        waits: list[Reason] = []
        runs: list[_Wanted] = []
        for need, result in assessment.red:
            base = theirs.get(need.check.name)
            if base is None:  # the change brought the check along
                at_fault.append(_red(need, result))
                continue
            finding = self._weigh(change, candidate, need, base)
            (at_fault if finding.is_guilty else waits).append(finding.reason)
            runs += finding.runs
        if at_fault:
            self._refuse(change, *at_fault)
            return
        for run in runs:
            self._want(run.need, run.candidate, run.because, CONTROL_WORTH, run.tests)
        self._hold(change, *waits)

    def _weigh(self, change: Change, candidate: Candidate, need: Need, base: Need) -> "_Finding":
        """What follows from one red check of a change on trunk. base: the same check without the change."""
        now = self.view.now
        name = need.check.name
        red = self._evidence(need).red
        assert red is not None
        without = self.view.assess_trunk(base, max(now - RED_TRUNK_RECHECK_S, change.retried_at))
        self._look_again(without.again_at)
        match without.standing:
            case Standing.GREEN if self._was_red_since(base, red):
                because = f"change {change.id}, once more: trunk was red, too, and is not any more"
                reason = Reason(Why.WAITS_FOR_CHECK, check=name, detail="again, for trunk was red, too")
                return _Finding(reason, (_Wanted(need, candidate, because),))
            case Standing.GREEN:
                control = self._evidence(base).green
                assert control is not None
                if control.finished_at < change.retried_at:
                    control = None  # somebody doubts the verdict: what trunk was then is asked anew, too
            case Standing.RED:
                control = without.red[0][1]
            case Standing.STUCK:
                return _Finding(_stuck(base, without.stuck[0][1]))
            case _:
                control = None
        case = self._case(change, need, control, base)
        advice = decide(case, self.view.snapshot.max_false_refusals)
        tests = retest_tests(case)
        trunk_has_tests = not any(attempt.tests for attempt in self._evidence(base).attempts)
        if advice.step is Step.REFUSE and tests and trunk_has_tests and self._fails_elsewhere(change, need, tests):
            passes = [each for each in case.control_passes if set(tests) <= set(each.tests)]
            # Where what trunk was is not believed for as long as that takes, it would begin again and again.
            can_be_shown = (need.check.max_age_s or inf) > len(case.reds) * RETEST_APART_S
            if len(passes) < len(case.reds) and can_be_shown:  # else trunk would have shown by now what the change has
                not_before = passes[-1].finished_at + RETEST_APART_S if passes else 0.0
                advice = replace(advice, step=Step.CONTROL, tests=tests, not_before=not_before)
        match advice.step:
            case Step.REFUSE:
                base_then = candidate.base if candidate.base != self.view.snapshot.trunk else None
                reason = replace(_red(need, red), detail=told(case), odds=advice.blame.odds, base=base_then)
                return _Finding(reason, is_guilty=True)
            case Step.HOLD:
                assert control is not None
                self._look_again(control.finished_at + RED_TRUNK_RECHECK_S)
                odds = advice.blame.odds
                return _Finding(Reason(Why.TRUNK_RED, check=name, run=control.run, tests=control.failed, odds=odds))
            case Step.CONTROL if control is None:
                asked = without.open or ((base,) if without.standing is Standing.GREEN else ())
                runs = tuple(_Wanted(open_, candidate.parent, "is it red without the change?") for open_ in asked)
                return _Finding(Reason(Why.WAITS_FOR_CHECK, check=name, detail="on trunk without the change"), runs)
            case Step.CONTROL if trunk_has_tests:
                reason = Reason(Why.WAITS_FOR_CHECK, check=name, detail="on trunk without the change")
                return _Finding(reason, self._when_due(base, candidate.parent, advice, "is it red without the change, too?"))
            case Step.CONTROL | Step.RETEST:  # trunk may not have the tests that failed
                return self._retest(change, candidate, need, case, advice)
            case _:
                assert_never(advice.step)

    def _fails_elsewhere(self, change: Change, need: Need, tests: Iterable[str]) -> bool:
        """One of these tests fails for somebody else, too, in a candidate without this change: what both have is trunk."""
        wanted = set(tests)
        for id_, assumed in self.view.snapshot.trials.items():
            if id_ == change.id or id_ not in self.view.waiting:
                continue
            for (ahead, _), needs in assumed.items():
                same = (other.key for other in needs if other.check.name == need.check.name and change.id not in ahead)
                reds = (red for key in same for red in self.view.snapshot.evidence.get(key, _NOTHING).reds)
                if any(not wanted.isdisjoint(red.failed) for red in reds):
                    return True
        return False

    def _retest(self, change: Change, candidate: Candidate, need: Need, case: Case, advice: Advice) -> "_Finding":
        known = self._evidence(need)
        tries = tries_of(known, change.evidence_from)
        if len(tries) >= INFRASTRUCTURE_TRIES and next_try_at(tries) > self.view.now:
            self._look_again(next_try_at(tries))
            return _Finding(_stuck(need, tries[-1]))
        # Reds from before a retry count no more against the change, but what failed then has to pass, too.
        tests = failed_tests(known.reds) if advice.tests else ()
        reason = Reason(Why.WAITS_FOR_CHECK, check=need.check.name, tests=tests, detail=told(case), odds=advice.blame.odds)
        runs = self._when_due(need, candidate, replace(advice, tests=tests), f"change {change.id}, once more")
        if not tests and need.key not in self.view.running and not self._free_workers():
            runs = ()  # all of a check again takes as long as any run: the next free worker is its, nobody is stopped for it
        return _Finding(reason, runs)

    def _when_due(self, need: Need, candidate: Candidate, advice: Advice, because: str) -> tuple["_Wanted", ...]:
        if need.key not in self.view.running and advice.not_before > self.view.now:
            self._look_again(advice.not_before)
            return ()
        return (_Wanted(need, candidate, because, advice.tests),)

    def _retest_on_top(self, change: Change, candidate: Candidate, assessment: Assessment) -> tuple[Reason, ...]:
        """Red on top of undecided changes, and most likely for nothing: running the failed tests again takes seconds, and
        then those behind need not be tested without it all."""
        ahead = [self.view.waiting[id_] for id_, _ in candidate.entries[:-1]]
        findings: list[_Finding] = []
        for need, _ in assessment.red:
            case = self._case(change, need, ahead=ahead)
            advice = decide(case, self.view.snapshot.max_false_refusals)
            if advice.step is not Step.RETEST or not advice.tests:
                return ()
            findings.append(self._retest(change, candidate, need, case, advice))
        for finding in findings:
            for run in finding.runs:
                self._want(run.need, run.candidate, run.because, CONTROL_WORTH, run.tests)
        return tuple(finding.reason for finding in findings)

    def _case(
        self,
        change: Change,
        need: Need,
        control: Result | None = None,
        base: Need | None = None,
        ahead: Iterable[Change] = (),
    ) -> Case:
        """What is known of a red check. control: the newest result of ``base``; None: not known, or not asked for."""
        outlook, known, since = self.view.snapshot.outlook, self._evidence(need), change.evidence_from
        assert known.red is not None
        reds = tuple(result for result in known.reds if result.finished_at >= since)
        return Case(
            need.check,
            reds=reds or (known.red,),
            passes=tuple(result for result in known.passes if result.finished_at >= since),
            attempts=tuple(result for result in known.attempts if result.finished_at >= since),
            chance=self._chance(change),
            ahead=tuple(map(self._chance, ahead)),
            clash=outlook.clash,
            control=control,
            control_passes=() if base is None else self._evidence(base).passes,
            flake=self._flake(need.check),
        )

    def _chance(self, change: Change) -> float:
        """That it does not break one of its checks: those that it touches share the odds that it breaks any."""
        forecast = self.view.snapshot.outlook.forecasts.get(change.id, _DEFAULT)
        return float(forecast.chance ** (1 / max(1, len(change.touches))))

    def _flake(self, check: Check) -> float:
        """That a run of it is red for nothing. A check that cannot run single tests is believed until it has been: on a mere
        guess, all of it would run again for every change that breaks it."""
        outlook = self.view.snapshot.outlook
        if check.retest is None and check.name in outlook.steady:
            return 0.0
        return outlook.flakes.get(check.name, 0.0)

    def _evidence(self, need: Need) -> Evidence:
        return self.view.snapshot.evidence.get(need.key, _NOTHING)

    def _look_again(self, moment: float | None) -> None:
        if moment is not None:
            self.moments.append(moment)

    def _was_red_since(self, base: Need, result: Result) -> bool:
        """The check has said both of trunk, and green only after ``result``: what made trunk red may have made this red."""
        evidence = self.view.snapshot.evidence[base.key]
        return evidence.red is not None and result.finished_at < finished_at(evidence.green)

    def _refuse(self, change: Change, *reasons: Reason) -> None:
        self.refusals[change.id] = Refuse(change.id, change.revision, reasons)

    def _hold(self, change: Change, *reasons: Reason) -> None:
        self.holds[change.id] = (*change.holds, *reasons)

    # landing

    def land(self) -> None:
        """Land everything that is ready as one candidate; the first of it alone, when together it is not ready."""
        proposals, entries = self._join(self._let_through())
        if not proposals:
            return
        train = Candidate(self.view.snapshot.trunk, entries)
        cut = self._landable(train)
        if cut is None and train not in self.view.snapshot.merges:
            self._ask(train)
        elif cut is None:
            cut = self._landable(self.view.candidate(proposals[0]))
        if cut is not None:
            self.landing = Land(cut)
        for change, _ in entries:
            if cut is None or change not in {entry[0] for entry in cut.entries}:
                self._hold(self.view.waiting[change], Reason(Why.WAITS_FOR_CHECK, detail="green, about to land"))

    def _join(self, ready: list[Proposal]) -> tuple[list[Proposal], tuple[Entry, ...]]:
        """Without those that turned out not to merge on top of the others, though no path and no check told of it."""
        chosen: list[Proposal] = []
        entries: tuple[Entry, ...] = ()
        for proposal in ready:
            fresh = tuple(entry for entry in proposal.entries if entry not in entries)
            joint = (*entries, *fresh)
            clashing = any(
                isinstance(self.view.snapshot.merges.get(Candidate(self.view.snapshot.trunk, joint[:count])), Unmerged)
                for count in range(len(entries) + 1, len(joint) + 1)
                if entries
            )
            if not clashing:
                chosen.append(proposal)
                entries = joint
                continue
            for change, _ in fresh:
                self._hold(self.view.waiting[change], Reason(Why.WAITS_FOR_CHANGE, change=entries[-1][0]))
        return chosen, entries

    def _let_through(self) -> list[Proposal]:
        """What is ready and not kept out by a closed trunk, nor on top of a change that is."""
        distinct = list({id(proposal): proposal for proposal in self.ready.values()}.values())
        closed = self.view.snapshot.closed
        if closed is None:
            return distinct
        through = [
            proposal for proposal in distinct if all(self.view.waiting[change].mends_gate for change, _ in proposal.entries)
        ]
        kept_in = {change for proposal in through for change, _ in proposal.entries}
        for id_ in self.ready:
            if id_ not in kept_in:
                self._hold(self.view.waiting[id_], Reason(Why.TRUNK_CLOSED, detail=closed))
        return through

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

    def start_and_cancel(self) -> None:
        """Give the workers to what is worth most, and stop what is worth less than it, or nothing at all."""
        running, wishes = self.view.running, self.wishes
        if self.ready or self.refusals:
            for key in [key for key, wish in wishes.items() if self._is_answered(wish)]:
                others = [wish for wish in self.more_wishes.pop(key, ()) if not self._is_answered(wish)]
                del wishes[key]
                for wish in others:
                    self._wish(wish)
        unasked = [run for run in self.view.snapshot.running if run.key not in wishes]
        useless = [run for run in unasked if not self._may_be_of_use(run)]
        room = max(0, self.view.snapshot.workers - len(unasked) + len(useless))
        going_on = len(running) - len(unasked)
        starts = [
            key for key, wish in wishes.items() if key not in running and (wish.may_start or self._may_be_started(key))
        ]
        displaced: list[InputKey] = []
        if len(starts) + going_on <= room:
            starts = [key for key in starts if self._can_start(key)]
        else:
            under_way = [key for key in wishes if key in running]
            ranked = sorted([*under_way, *starts], key=self._worth_of_keys().__getitem__, reverse=True)
            chosen = dict.fromkeys(islice((key for key in ranked if key in running or self._can_start(key)), room))
            starts = [key for key in chosen if key not in running]
            # The least worthy first.
            displaced = [key for key in reversed(ranked) if key in running and key not in chosen]
        self.cancels = [Cancel(run.run, "nothing needs it any more") for run in useless]
        self.cancels += [
            Cancel(running[key].run, "its worker is worth more elsewhere")
            for key in displaced[: max(0, len(starts) + going_on - room)]
        ]
        self.starts = [self._best_wish(key).start(self.view) for key in starts]
        if self.landing is not None:
            self.builds.clear()

    def _worth_of_keys(self) -> dict[InputKey, float]:
        """Of each key, what the most worthwhile of its runs is worth."""
        known = self.worths
        worths = {
            key: wish.worth if (proposal := wish.proposal) is None else known[proposal] for key, wish in self.wishes.items()
        }
        for key, more in self.more_wishes.items():
            worths[key] = max(worths[key], *[wish.worth_by(known) for wish in more])
        return worths

    def _best_wish(self, key: InputKey) -> _Wish:
        more = self.more_wishes.get(key, ())
        return max((self.wishes[key], *more), key=lambda wish: wish.worth_by(self.worths)) if more else self.wishes[key]

    def _is_answered(self, wish: _Wish) -> bool:
        """It lands or is refused in this plan, by what another run has told."""
        return wish.last in self.ready or wish.last in self.refusals

    def _can_start(self, key: InputKey) -> bool:
        """Of the old trunk only the last candidate of each change is kept when something lands, see Snapshot."""
        wish = self._best_wish(key)
        if self.landing is not None and wish.last not in self.view.snapshot.built:
            return False  # most of them: their candidates need not be looked up
        candidate = wish.start(self.view).candidate
        if self.landing is not None and not self._is_kept(candidate):
            return False
        outcome = self.view.snapshot.merges.get(candidate)
        if outcome is None and self.landing is None and len(self.builds) < BUILDS_AT_ONCE:
            self._ask(candidate)  # it was merged once, and has been forgotten since
        if candidate.entries:
            change = self.view.waiting.get(candidate.entries[-1][0])
            if change is None or self.view.objection(change, candidate.entries[:-1]) is not None:
                return False
        return isinstance(outcome, Merged)

    def _may_be_of_use(self, run: Running) -> bool:
        """Nothing asks for it now, but what it was started for has yet to be merged on trunk as it is."""
        return any(change in self.unsure for change in run.changes[-1:])

    def _is_kept(self, candidate: Candidate) -> bool:
        return bool(candidate.entries) and self.view.snapshot.built.get(candidate.entries[-1][0]) == candidate

    def plan(self) -> Plan:
        self._tell_waits()
        for change in [change for change in self.view.queue if change.id not in self.holds]:
            if change.id not in self.refusals and change.id not in self.ready:
                self.holds[change.id] = change.holds or self._not_considered(change)
        if self.view.red_on_trunk:
            self._tell_red_trunk()
        landing_now = {entry[0] for entry in self.landing.candidate.entries} if self.landing else set[ChangeId]()
        decisions: list[Decision] = [*self.refusals.values()]
        if self.landing is not None:
            decisions.append(self.landing)
        decisions += [*self.cancels, *self.starts, *(Build(candidate) for candidate in self.builds)]
        before = self.told_before
        self.told = {
            id_: hold if (hold := before.get(id_)) is not None and hold.reasons is reasons else Hold(id_, reasons)
            for id_, reasons in self.holds.items()
        }
        if landing_now or self.refusals:
            decisions += [hold for id_, hold in self.told.items() if id_ not in landing_now and id_ not in self.refusals]
        else:
            decisions += self.told.values()
        later = [moment for moment in (*self.moments, *self.view.moments) if self.view.now < moment < NEVER]
        return Plan(tuple(decisions), min(later, default=None))

    def _tell_red_trunk(self) -> None:
        """To all who wait for whatever mends it."""
        reasons = tuple(
            Reason(Why.TRUNK_RED, check=name, run=red.run, tests=red.failed) for name, red in self.view.red_on_trunk.items()
        )
        for id_, waits in self.holds.items():
            is_told = any(reason.why is Why.TRUNK_RED for reason in waits)
            if not is_told and id_ not in self.ready and not self.view.mends_trunk(self.view.waiting[id_]):
                self.holds[id_] = (*waits, *reasons)

    def _tell_waits(self) -> None:
        """Now that workers have been given out: which runs a change waits for, or else that it waits for a worker."""
        under_way = self.view.running.keys() | {start.key for start in self.starts} if self.waits else ()
        for id_, explored in self.waits.items():
            reasons = self.holds.get(id_)
            if reasons is None:
                continue
            runs = tuple([_waits_for(need) for need in explored.waits if need.key in under_way])
            if runs or reasons is not explored.reasons:
                self.holds[id_] = reasons + (runs or _EVERY_WORKER_IS_BUSY)
            else:
                self.holds[id_] = explored.idle  # the very same as in the plan before: most of a long queue waits so

    def _not_considered(self, change: Change) -> tuple[Reason, ...]:
        for needed in change.depends:
            if needed in self.view.waiting:
                return (Reason(Why.WAITS_FOR_CHANGE, change=needed),)
        return _EVERY_WORKER_IS_BUSY


def _waits_for(need: Need) -> Reason:
    return _waits_for_check(need.check.name)


@lru_cache(maxsize=1000)
def _waits_for_check(check: CheckName) -> Reason:
    return Reason(Why.WAITS_FOR_CHECK, check=check)


def _red(need: Need, result: Result) -> Reason:
    return Reason(Why.CHECK_RED, check=need.check.name, run=result.run, tests=result.failed, detail=result.reason)


def _stuck(need: Need, result: Result) -> Reason:
    return Reason(Why.INFRASTRUCTURE, check=need.check.name, run=result.run, detail=result.reason)
