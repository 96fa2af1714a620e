"""Questions about one snapshot, which the core of the planner and its policies ask alike. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from ci.model import CheckName, InputKey, Result
from gate.model import (
    Assumption,
    Candidate,
    Change,
    ChangeId,
    Entry,
    Evidence,
    Merged,
    Need,
    Priority,
    Reason,
    Running,
    Snapshot,
    Unmerged,
    Verdict,
    Why,
)

INFRASTRUCTURE_TRIES = 3  # runs that failed through no fault of the change, before a person is asked
INFRASTRUCTURE_PAUSE_S = 5.0  # before the second try; doubled before each one after it
NEVER = float("inf")
RED_TRUNK_RECHECK_S = 600.0  # a red trunk is tested again after this long: it may have been a flake


class Objection(Enum):
    """Why the core pays no attention to a proposal."""

    NOT_WAITING = "it holds a change, or a revision, that does not wait"
    TWICE = "it holds a change twice"
    MAY_NOT_RUN = "it holds a change whose checks nobody has allowed to run"
    DEPENDENCY_MISSING = "it holds a change without one that this depends on"


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


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """Test ``change`` on trunk and on top of ``ahead``, which are entries in landing order.

    together: how many of them all, the last ones, are tested by one run; see Candidate.
    settles: a verdict may follow from it: those ahead that it meddles with are all in the candidate, or every outcome of
    theirs is covered. False: only run it, to know sooner.
    worth: free workers, and those of runs that are worth less, go to the greatest; among equals to what runs already,
    then to what was proposed first. Below 0: nothing is started for it, but what runs goes on where there is room.
    known: what is known of it, where the policy has asked already.
    behind: a change ahead that has to be decided first, where the proposal does not settle; for people who ask why.
    """

    change: Change
    ahead: tuple[Entry, ...] = ()
    together: int = 1
    settles: bool = True
    worth: float = 0.0
    behind: ChangeId | None = None
    known: "Known | None" = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (*self.ahead, self.change.entry)

    @property
    def assumption(self) -> Assumption:
        """As Candidate.assumption."""
        return frozenset([change for change, _ in self.ahead]), self.together

    @property
    def may_start(self) -> bool:
        return self.worth >= 0

    def worth_at(self, now: float) -> float:  # noqa: ARG002 - another kind may be worth more the longer it waits
        return self.worth


Policy = Callable[["View"], Iterable[Proposal]]


# --- the view: questions about one snapshot ---------------------------------------------------------------------------


class View:
    """One snapshot and one moment, with the questions that the core and the policies ask of them."""

    def __init__(self, snapshot: Snapshot, now: float, before: "View | None" = None) -> None:
        """before: the view of an earlier plan; what depends on the queue alone is taken from it where that is the same."""
        self.snapshot = snapshot
        self.now = now
        self.queue: tuple[Change, ...]
        self.waiting: dict[ChangeId, Change]
        self.is_stacked: bool  # some changes depend on others
        self.is_hurried: bool  # some have more than the usual priority
        self.is_ranked: bool  # some have more priority than others
        self.questionable: tuple[Change, ...]  # the only ones that may be refused without any run
        self._tangled: frozenset[ChangeId]
        if before is not None and before.snapshot.changes == snapshot.changes:
            self.queue, self.waiting, self.is_stacked = before.queue, before.waiting, before.is_stacked
            self.questionable, self.is_hurried = before.questionable, before.is_hurried
            self.is_ranked = before.is_ranked
            self._tangled = before._tangled
        else:
            self.queue = tuple(_in_order(snapshot.changes))
            self.waiting = {change.id: change for change in self.queue}
            self.is_stacked = any(change.depends for change in self.queue)
            self.is_hurried = any(rank < Priority.NORMAL.rank for rank in _ranks(self.queue))
            self.is_ranked = len({*_ranks(self.queue)}) > 1
            self.questionable = tuple([change for change in self.queue if change.depends or change.broken])
            self._tangled = self._find_tangled()
        self.running = {run.key: run for run in snapshot.running}
        self.moments: list[float] = []  # when the policy wants to be asked again, though nothing happens
        self.by_themselves: dict[ChangeId, float] = {}  # whom the policy wants judged by their own run; its worth
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
        if not self.is_stacked:
            return frozenset()
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

    def alone(self, change: Change) -> Iterator[Candidate]:
        """The change with nothing ahead of it, as far as that was merged: on trunk as it is, and on the one on which it was
        last run so."""
        here = Candidate(self.snapshot.trunk, (change.entry,))
        then = self.snapshot.alone.get(change.id, here)
        for candidate in (here, then) if then != here else (here,):
            if candidate.entries == here.entries and isinstance(self.snapshot.merges.get(candidate), Merged):
                yield candidate

    def candidate(self, proposal: Proposal) -> Candidate:
        return Candidate(self.snapshot.trunk, proposal.entries, proposal.together)

    def trial(self, change: Change, assumption: Assumption) -> tuple[Need, ...] | None:
        """The needs in which the change has a part; None: not known yet."""
        assumed = self.snapshot.trials.get(change.id)
        return None if assumed is None else assumed.get(assumption)

    def assess_needs(self, needs: tuple[Need, ...], red_from: float) -> Assessment:
        if len(needs) == 1 and needs[0].key not in self.snapshot.evidence:  # as it is for most
            return Assessment(Standing.UNKNOWN, open=needs)
        red: list[tuple[Need, Result]] = []
        unknown: list[Need] = []
        paused: list[tuple[Need, Result]] = []
        stuck: list[tuple[Need, Result]] = []
        pauses: list[float] = []
        for need in needs:
            evidence = self.snapshot.evidence.get(need.key, _NOTHING)
            if evidence.green is not None and evidence.green.is_green_at(self.now, need.check.max_age_s):
                continue
            if evidence.red is not None and evidence.red.finished_at >= max(red_from, finished_at(evidence.green)):
                red.append((need, evidence.red))
                continue
            tries = tries_of(evidence, red_from)
            again_at = next_try_at(tries)
            if need.key in self.running or again_at <= self.now:
                unknown.append(need)
            else:
                (stuck if len(tries) >= INFRASTRUCTURE_TRIES else paused).append((need, tries[-1]))
                pauses.append(again_at)
        standing = (
            Standing.RED if red else Standing.STUCK if stuck else Standing.UNKNOWN if unknown or paused else Standing.GREEN
        )
        return Assessment(standing, tuple(red), tuple(unknown), tuple(paused), tuple(stuck), min(pauses, default=None))

    def assess_trunk(self, base: Need, red_from: float) -> Assessment:
        """What is known of a check on trunk as it is. A red one counts also beside a green one from before it: it shows that
        trunk is red now and then, which forbids nobody to land, but speaks for those whom the check was red for."""
        reds = self.snapshot.evidence.get(base.key, _NOTHING).reds
        if not reds or reds[-1].finished_at < finished_at(self.snapshot.evidence[base.key].green):
            return self.assess_needs((base,), red_from)
        if reds[-1].finished_at >= red_from:
            return Assessment(Standing.RED, red=((base, reds[-1]),))
        tries = tries_of(self.snapshot.evidence[base.key], red_from)
        again_at = next_try_at(tries)
        if base.key in self.running or again_at <= self.now:
            return Assessment(Standing.UNKNOWN, open=(base,))
        if len(tries) >= INFRASTRUCTURE_TRIES:
            return Assessment(Standing.STUCK, stuck=((base, tries[-1]),), again_at=again_at)
        return Assessment(Standing.UNKNOWN, paused=((base, tries[-1]),), again_at=again_at)

    @cached_property
    def red_on_trunk(self) -> Mapping[CheckName, Result]:
        """Checks that are red on trunk as far as is known, each with the newest red result."""
        merged = self.snapshot.merges.get(Candidate(self.snapshot.trunk))
        if not isinstance(merged, Merged):
            return {}
        known = ((need.check.name, self.snapshot.evidence.get(need.key, _NOTHING)) for need in merged.needs)
        return {
            name: evidence.red
            for name, evidence in known
            if evidence.red is not None and evidence.reds and evidence.red.finished_at >= finished_at(evidence.green)
        }

    def mends_trunk(self, change: Change) -> bool:
        """Its owner says so, and it can: it has to do with a check that is known to be red on trunk."""
        return change.fixes_trunk and not change.touches.isdisjoint(self.red_on_trunk)

    def objection(self, change: Change, ahead: tuple[Entry, ...]) -> Objection | None:
        """What the rule has against testing, judging or landing the change on top of these at all; None: nothing."""
        known = len(ahead) if ahead in self._sound else 0  # what was looked at as a candidate is not looked at again
        before = {id_ for id_, _ in ahead[:known]}
        entries = (*ahead, change.entry)
        for id_, revision in entries[known:]:
            other = self.waiting.get(id_)
            if other is None or other.revision != revision:
                return Objection.NOT_WAITING
            if id_ in before:
                return Objection.TWICE
            if not other.may_run:
                return Objection.MAY_NOT_RUN
            if other.depends and any(needed in self.waiting and needed not in before for needed in other.depends):
                return Objection.DEPENDENCY_MISSING
            before.add(id_)
        self._sound.add(entries)
        return None


class Known:
    """What is known of a change on top of some others.

    ahead: the others, as entries in landing order. needs: what has to be green for the change; None: nobody has merged it
    yet, or it does not merge. is_trial: the needs are those in which the change itself has a part, and there may be others.
    runs: those under way for what is open. alters_at: when time alone makes this old. is_current: it is not old yet.
    explored: what the core has made of it, for the core. noted: the same of the policy.
    """

    __slots__ = (
        "ahead",
        "alters_at",
        "assessment",
        "assumption",
        "change",
        "explored",
        "is_current",
        "is_trial",
        "needs",
        "noted",
        "objection",
        "runs",
        "standing",
    )

    def __init__(
        self,
        change: Change,
        ahead: tuple[Entry, ...],
        assumption: Assumption,
        needs: tuple[Need, ...] | None,
        assessment: Assessment,
        view: View,
        *,
        is_trial: bool,
    ) -> None:
        self.change = change
        self.ahead = ahead
        self.assumption = assumption
        self.needs = needs
        self.assessment = assessment
        self.standing = assessment.standing
        self.is_trial = is_trial
        self.objection: Objection | None = view.objection(change, ahead)
        running = view.running
        self.runs: tuple[Running, ...] = tuple([running[need.key] for need in assessment.open if need.key in running])
        self.alters_at = NEVER if needs is None else _alters_at(needs, assessment, view.snapshot.evidence, view.now)
        self.is_current = True
        self.explored: tuple[Any, ...] = ()
        self.noted: Any = None


def _alters_at(needs: Iterable[Need], assessment: Assessment, evidence: Mapping[InputKey, Evidence], now: float) -> float:
    """When a green result gets too old, or a pause is over; NEVER: only an event alters it."""
    moments = [NEVER if assessment.again_at is None else assessment.again_at]
    for need in needs:
        known = None if need.check.max_age_s is None else evidence.get(need.key)
        if known is not None and known.green is not None and need.check.max_age_s is not None:
            moments.append(known.green.finished_at + need.check.max_age_s)
    return min([moment for moment in moments if moment >= now], default=NEVER)


_NOTHING = Evidence()


def finished_at(result: Result | None) -> float:
    return 0.0 if result is None else result.finished_at


def tries_of(evidence: Evidence, since: float) -> tuple[Result, ...]:
    """Infrastructure errors since the last real outcome, or since a later moment; oldest first."""
    if not evidence.attempts:
        return ()
    passed_at = finished_at(evidence.passes[-1]) if evidence.passes else 0.0
    outcome_at = max(finished_at(evidence.red), finished_at(evidence.green), passed_at)
    return tuple(each for each in evidence.attempts if each.finished_at >= since and each.finished_at > outcome_at)


def next_try_at(tries: Sequence[Result]) -> float:
    """When a check that could not be run is tried again; 0 when it has not failed so."""
    if not tries:
        return 0.0
    if len(tries) >= INFRASTRUCTURE_TRIES:
        return tries[-1].finished_at + RED_TRUNK_RECHECK_S
    return tries[-1].finished_at + INFRASTRUCTURE_PAUSE_S * float(2 ** (len(tries) - 1))


def _ranks(changes: Iterable[Change]) -> set[int]:
    return {priority.rank for priority in {change.priority for change in changes}}


def _in_order(changes: Iterable[Change]) -> Iterator[Change]:
    """Priority, then submission; but never a change before one that it depends on."""
    changes = tuple(changes)
    if not any(change.depends for change in changes):
        one = len(_ranks(changes)) <= 1
        yield from changes if one else sorted(changes, key=lambda change: change.priority.rank)
        return
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
