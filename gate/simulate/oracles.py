"""Clairvoyant policies: bounds, not gates. They know who is fine, who breaks what together with whom, and how long runs
take. They give bad changes their one run as well, for a change is refused by evidence only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heapreplace

from gate.meddling import Meddling, positions, taking_part
from gate.model import Change, ChangeId, Need
from gate.simulate.batches import Batches, halves
from gate.simulate.world import Truth
from gate.view import Proposal, View


@dataclass(frozen=True, slots=True, eq=False)
class _GoOn(Proposal):
    """Its run is under way, and is not stopped for one that is worth as much; nothing more is started for it."""

    @property
    def may_start(self) -> bool:
        return False


class Oracle:
    """Tests each change on exactly those ahead that are going to land, so with one run; lands in order of submission.

    It does not wait for bad changes ahead: it knows that they leave. Source: the Oracle of "Keeping Master Green at Scale"
    (EuroSys 2019), to which every policy there is compared. Of two changes that clash, the one submitted first lands.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._meddling = Meddling()
        self._lands: dict[ChangeId, bool] = {}

    def __call__(self, view: View) -> Iterator[Proposal]:
        self._follow(view)
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            past = self._landing(self._meddling.ahead(change.id))
            yield self._propose(view, change, past)

    def _follow(self, view: View) -> None:
        queue = taking_part(view.queue)
        for change in self._meddling.follow(queue):
            self._forget(change)
        for change in queue:
            if change.id not in self._lands:
                self._lands[change.id] = self._is_going_to_land(change)

    def _forget(self, gone: Change) -> None:
        del self._lands[gone.id]

    def _is_going_to_land(self, change: Change) -> bool:
        """Asked once, when it is submitted: what it clashes with had landed before, or is still ahead of it."""
        ahead = self._meddling.ids(self._meddling.ahead(change.id))
        return (
            self._truth.is_fine(change.id)
            and all(self._lands[needed] for needed in self._meddling.ids(self._meddling.needed(change.id)))
            and not any(self._lands[other] and self._truth.clash(other, change.id) for other in ahead)
        )

    def _landing(self, bits: int) -> int:
        """Those of the set that are going to land."""
        landing = 0
        for position in positions(bits):
            if self._lands[self._meddling.change(position).id]:
                landing |= 1 << position
        return self._meddling.with_needed(landing)

    def _propose(self, view: View, change: Change, past: int) -> Proposal:
        ahead = self._meddling.entries(past)
        # What has landed ahead of a bad change would need another run if this landed too. It does not.
        kind = Proposal if self._lands[change.id] else self._kind_for_own(view, change, past)
        return kind(change, ahead, settles=not past)

    def _kind_for_own(self, view: View, change: Change, past: int) -> type[Proposal]:
        """For a trial of which only the change's own need is of interest, the first: nothing starts when that has started.

        The others are of those that have landed ahead of it, see Snapshot.per_change.
        """
        own = (view.trial(change, (self._meddling.ids(past), 1)) or ())[:1]
        return _GoOn if any(need.key in view.running or need.key in view.snapshot.evidence for need in own) else Proposal


class FreeOracle(Oracle):
    """Lands each good change as soon as its own run ends, whoever is ahead of it; as good as any order can be when there are
    workers enough.

    A change that lands ahead of an earlier one is run a second time, for the trunk that holds both: the earlier one may not
    land before that is green, and it is started early enough. So it takes more runs than the oracle that keeps the order,
    and with few workers it may land later. Runs start in order of submission. Where results belong to content and not to
    changes, a change that lands first makes the others' runs void, and this is the oracle that keeps the order.
    """

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._own: dict[ChangeId, tuple[Need, ...]] = {}  # what the last plan asked for, none or one
        self._ends_at: dict[ChangeId, float] = {}  # of the own runs that have started
        self._overtaken: dict[ChangeId, set[ChangeId]] = {}  # who was ahead of those that landed ahead of this one

    def __call__(self, view: View) -> Iterator[Proposal]:
        if not view.snapshot.per_change:
            yield from super().__call__(view)
            return
        self._follow(view)
        ends_at = self._foresee(view)
        second_runs: list[Proposal] = []
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            if not self._lands[change.id]:
                yield self._propose(view, change, self._landing(self._meddling.ahead(change.id)))
                continue
            past = self._earlier(self._near(change, ends_at), change, ends_at)
            proposal = self._propose(view, change, past)
            self._own[change.id] = (view.trial(change, proposal.assumption) or ())[:1]
            yield proposal
            second_runs += self._runs_to_let_by(view, change, past, ends_at)
        yield from second_runs

    def _forget(self, gone: Change) -> None:
        # Every one gone at once is still known here: the order among them is that of their runs, which is close enough.
        for other in self._meddling.ids(self._meddling.ahead(gone.id)) if self._lands[gone.id] else ():
            self._overtaken.setdefault(other, set()).update(self._meddling.ids(self._meddling.ahead(gone.id)))
        self._overtaken.pop(gone.id, None)
        self._ends_at.pop(gone.id, None)
        self._own.pop(gone.id, None)
        super()._forget(gone)

    def _foresee(self, view: View) -> dict[ChangeId, float]:
        """When the own run of each ends, were those that have not started given the workers in order."""
        for id_, own in self._own.items():
            run = view.running.get(own[0].key) if own else None
            if run is not None:
                self._ends_at[id_] = run.started_at + self._truth.duration_s(id_)
            elif own and own[0].key not in view.snapshot.evidence:
                self._ends_at.pop(id_, None)
        free_at = [view.now] * (view.snapshot.workers - len(view.snapshot.running))
        free_at += [run.started_at + self._truth.duration_s(run.changes[-1]) for run in view.snapshot.running]
        heapify(free_at)
        ends_at: dict[ChangeId, float] = {}
        for position in positions(self._meddling.present):
            change = self._meddling.change(position).id
            end = self._ends_at.get(change)
            if end is None:
                end = max(view.now, free_at[0]) + self._truth.duration_s(change)
                heapreplace(free_at, end)
            ends_at[change] = end
        return ends_at

    def _near(self, change: Change, ends_at: dict[ChangeId, float]) -> int:
        """Those that have a part in a run which this one needs to land: its own, and those of the ones that overtake it."""
        near = self._meddling.ahead(change.id)
        for id_ in self._overtaken.get(change.id, ()):
            if id_ in ends_at and id_ != change.id:
                near |= self._meddling.bit(id_)
        for later in self._overtaking(change, ends_at):
            near |= self._meddling.ahead(later.id) & ~self._meddling.bit(change.id)
        return near

    def _overtaking(self, change: Change, ends_at: dict[ChangeId, float]) -> Iterator[Change]:
        for position in positions(self._meddling.behind(change.id)):
            later = self._meddling.change(position)
            if self._lands[later.id] and ends_at[later.id] < ends_at[change.id]:
                yield later

    def _earlier(self, bits: int, change: Change, ends_at: dict[ChangeId, float]) -> int:
        """Those of the set that land before the change. What ends at the same moment lands in order of submission."""
        end, bit = ends_at[change.id], self._meddling.bit(change.id)
        earlier = 0
        for position in positions(self._landing(bits)):
            other_end = ends_at[self._meddling.change(position).id]
            if other_end < end or (other_end == end and 1 << position < bit):
                earlier |= 1 << position
        return self._meddling.with_needed(earlier | self._meddling.needed(change.id))

    def _runs_to_let_by(self, view: View, change: Change, past: int, ends_at: dict[ChangeId, float]) -> Iterator[Proposal]:
        on_trunk = past | self._meddling.bit(change.id)
        for later in self._overtaking(change, ends_at):
            assumed = on_trunk & self._meddling.ahead(later.id)
            ahead = self._meddling.entries(assumed)
            yield self._kind_for_own(view, later, assumed)(later, ahead, settles=False)


class BatchOracle(Batches):
    """The bound for batches: one run for each stretch of good changes that follow each other, and one for each bad change.

    Of changes that clash, it knows those that are in one batch; other clashes it meets like everybody else.
    """

    def __init__(self, truth: Truth) -> None:
        super().__init__(lambda _: None, halves)
        self._truth = truth

    def first_batch(self, bits: int) -> int:
        batch = 0
        members: list[ChangeId] = []
        for position in positions(bits):
            change = self.meddling.change(position).id
            is_good = self._truth.is_fine(change) and not any(self._truth.clash(other, change) for other in members)
            if not is_good and members:
                break
            batch |= 1 << position
            members.append(change)
            if not is_good:
                break
        return batch
