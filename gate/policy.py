"""Chooses what to test, by expected landings per worker-minute. Pure: a policy proposes, and gate/plan.py disposes.

What a run is worth is the chance that its outcome will be needed, times how many changes it lands if it is green, over the
worker time that it still takes. On this one scale compare a change on top of all that is likely to land ahead of it; the
same change without one of those, in case it does not land; one run for several changes, and the halves of a batch that was
red; and the runs that must all be green before a change may land ahead of one that is undecided.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from itertools import pairwise
from math import log

from ci.model import CheckName
from gate.model import Candidate, Change, ChangeId, Entry, Finding, Forecast, Need, Outlook, Priority, Unmerged, Verdict
from gate.view import Proposal, Standing, View

START_CHANCE = 0.1  # nothing is started whose outcome is less likely to be needed: CI at Scale, 2025, found a floor to pay
KEEP_CHANCE = 0.03  # what runs already goes on down to this chance, where there is room
COVER_AT_MOST = 3  # undecided changes that one may overtake: every one more doubles the runs that this takes
COVER_GAIN = 0.1  # of a run's duration: overtaking that brings a landing forward by less is not worth a run
USUAL_S = 300.0  # a run, as long as nothing is known of its check
PATIENCE_S = 3600.0  # who has waited this long comes before all who have not, see docs/planner.md
STARVING_WORTH = 1000.0  # times the usual
AGING_S = 1800.0  # every further half hour of waiting counts as much as being worth it once more
STICKS = 4.0  # a run is worth so many times what it would be as a new one: stopping it must pay
JOINS = 1.2  # the same for a run of several changes, in whose place comes one of these and more
GOES_ON = 1.0  # what runs on a past that nobody asks for now is worth as much as if it were needed, while it may be
HELD_WORTH = 1e-6  # times the usual: a draft is tested when nobody else wants the worker
RANK_WORTH = (64.0, 8.0, 1.0, 0.125)  # urgent, high, normal, low

BROAD = 64  # names of a change, from which on it is looked at by itself and not entered under each

_DEFAULT = Forecast()
_NOTHING = Finding()


def worthwhile(view: View) -> Iterator[Proposal]:
    """The shipped policy."""
    return _Board(view).proposals()


class _State(IntEnum):
    UNKNOWN = 0
    RUNNING = 1
    GREEN = 2
    RED = 3
    OUT = 4  # it does not merge, or cannot be tested
    FAR = 5  # behind so many undecided ones that nothing is worth looking at


@dataclass(slots=True)
class _Member:
    """One waiting change as the board sees it. Bit sets are over positions on the board.

    direct: the undecided and the ready ones ahead that it meddles with. assumed: those of them that will land, most likely.
    path: the chance that just those land. lands: the chance that it lands itself. cost_s: worker time of its runs
    that is still to be spent. ends_at: when its own run ends; lands_at: it and all it is assumed to be on top of.
    """

    change: Change
    bit: int
    direct: int
    assumed: int
    path: float
    state: _State = _State.UNKNOWN
    lands: float = 0.0
    cost_s: float = 0.0
    ends_at: float = 0.0
    lands_at: float = 0.0
    stands_on: int = 0  # those of the assumed whose paths it touches, or which it depends on, and what these stand on
    is_unbuilt: bool = False  # nobody knows yet what it needs
    settles: bool = False
    suspected: float = 0.0  # chance that it is the one at fault, where one of several is; others are tested without it
    candidate: Candidate | None = None


class _Board:
    """All waiting changes in order, each with what is known of it on its likeliest past."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.trunk = view.snapshot.trunk
        self.outlook: Outlook = view.snapshot.outlook
        self.members: list[_Member] = []  # position → member; only those that others may be tested on top of
        self.held: list[_Member] = []
        self.undecided = 0
        self.ready = 0
        self._asked: set[tuple[int, int]] = set()  # pasts beside the likeliest that are proposed, by bit of the member
        self._suspects = 0
        self._by_name: dict[str, int] = {}
        self._broad: list[tuple[frozenset[str], int]] = []
        self._position: dict[ChangeId, int] = {}
        self._segments: dict[frozenset[CheckName], list[_Member]] = {}  # since the last green one of each line
        self._arrival = {change.id: at for at, change in enumerate(view.snapshot.changes)}
        authors = Counter(
            view.waiting[run.changes[-1]].by
            for run in view.snapshot.running
            if run.changes[-1:] and run.changes[-1] in view.waiting
        )
        self._fair_runs = max(1.0, view.snapshot.workers / max(1, len({change.by for change in view.queue})))
        self._runs_by = authors
        for change in self._ordered():
            self._take(change)

    # --- order ---------------------------------------------------------------------------------------------------------

    def _ordered(self) -> Iterable[Change]:
        """Priority, then submission. But nobody who came first by priority has the runs of others begin again: what is
        under test already stays ahead of it, and it overtakes by covering every outcome."""
        places = self.view.snapshot.places
        is_closed, is_red = self.view.snapshot.closed is not None, bool(self.view.red_on_trunk)
        is_hurried = any(change.priority.rank < Priority.NORMAL.rank for change in self.view.queue)

        def rank(at: int) -> tuple[bool, bool, bool, int, int]:
            # What mends a closed or a red trunk comes first, for nothing ahead of it could land; held ones (drafts) last.
            change = self.view.queue[at]
            is_late = is_closed and not change.mends_gate
            is_stuck = is_red and not self.view.mends_trunk(change)
            is_tested = is_hurried and change.id in places
            last = (-1, places[change.id]) if is_tested else (change.priority.rank, self._arrival[change.id])
            return bool(change.holds), is_late, is_stuck, *last

        ordered = [self.view.queue[at] for at in sorted(range(len(self.view.queue)), key=rank)]
        if not any(change.depends for change in ordered):
            return ordered
        return _after_dependencies(ordered, self.view.waiting.keys())

    # --- one change after the other --------------------------------------------------------------------------------------

    def _take(self, change: Change) -> None:
        if not change.may_run or change.broken or (change.depends and self.view.hopelessness(change)):
            return
        direct = 0
        names, by_name = change.names, self._by_name
        for name in names if len(names) <= len(by_name) else names & by_name.keys():
            direct |= by_name.get(name, 0)
        for others, bit in self._broad:
            if not others.isdisjoint(names):
                direct |= bit
        for needed in change.depends:
            position = self._position.get(needed)
            if position is not None:
                direct |= 1 << position
            elif needed in self.view.waiting:
                return  # it depends on a change that is not going to land as things stand
        direct &= self.undecided | self.ready
        member = _Member(change, 1 << len(self.members), direct, *self._likeliest(direct))
        self._stand(member)
        if any(
            (self._position.get(needed) is not None) and not member.assumed >> self._position[needed] & 1
            for needed in change.depends
        ):
            return
        self._judge(member)
        if change.holds:
            self.held.append(member)
            return
        position = len(self.members)
        self.members.append(member)
        self._position[change.id] = position
        if member.state is _State.OUT or (member.lands <= 0.0 and member.suspected == 0.0):
            return  # those behind are tested without it
        if len(names) > BROAD:
            self._broad.append((names, member.bit))
        else:
            for name in names:
                by_name[name] = by_name.get(name, 0) | member.bit
        if member.settles and member.state is _State.GREEN:
            self._make_ready(member)
        else:
            self.undecided |= member.bit

    def _likeliest(self, direct: int) -> tuple[int, float]:
        """Of these changes those that will land, most likely, and the chance that it is just them."""
        if not direct:
            return 0, 1.0
        last = self.members[direct.bit_length() - 1]
        is_chain = last.direct & (self.undecided | self.ready) == direct & ~last.bit
        if is_chain and last.path > 0.0 and not last.assumed & self._suspects:
            assumed, path, rest = last.assumed, last.path, last.bit  # a chain: one more than the one before
        else:
            assumed, path, rest = direct & self.ready, 1.0, direct & self.undecided
        while rest:
            bit = rest & -rest
            rest ^= bit
            if bit & self.ready:
                assumed |= bit
                continue
            other = self.members[bit.bit_length() - 1]
            if other.suspected:
                path *= other.suspected
            elif other.lands >= 0.5:
                assumed |= bit
                path *= other.lands
            else:
                path *= 1.0 - other.lands
            if path < KEEP_CHANCE:
                return assumed, 0.0
        return assumed, path

    def _stand(self, member: _Member) -> None:
        """A change ahead may merge only on top of those that it shares a path with: they come along."""
        change = member.change
        if not change.paths and not change.depends:
            return
        near = 0
        for path in change.paths:
            near |= self._by_name.get(f"\0{path}", 0)
        for others, bit in self._broad:
            if not others.isdisjoint(f"\0{path}" for path in change.paths):
                near |= bit
        for needed in change.depends:
            near |= 1 << self._position[needed] if needed in self._position else 0
        member.stands_on = near & member.assumed
        for at in _positions(member.assumed):
            below = self.members[at].stands_on & (self.undecided | self.ready)
            if at in _positions(near):
                member.stands_on |= below
            for extra in _positions(below & ~member.assumed & self.undecided):
                member.path *= self.members[extra].lands
            member.assumed |= below

    def _judge(self, member: _Member) -> None:
        """What is known of the change on its likeliest past, and what follows for those behind."""
        change, now = member.change, self.view.now
        forecast = self.outlook.forecasts.get(change.id, _DEFAULT)
        member.lands = self._chance_to_land(member, self._chance(change))
        if member.path == 0.0:
            member.state = _State.FAR
            member.lands_at = float("inf")
            return
        member.candidate = self.candidate(member.assumed, change)
        member.state, member.cost_s, longest_s = self._look(member.candidate, change, forecast)
        member.is_unbuilt = member.state is _State.UNKNOWN and self._needs(member.candidate) is None
        undecided = member.assumed & self.undecided
        member.ends_at = now + longest_s
        member.lands_at = max([member.ends_at, *(self.members[at].lands_at for at in _positions(undecided))])
        member.settles = self._is_closed(member)
        match member.state:
            case _State.GREEN:
                self._segments[change.touches] = []
            case _State.RED:
                if member.settles and not member.assumed & self.undecided:
                    member.lands = 0.0
                self._suspect(member)
            case _State.OUT:
                member.lands = 0.0
            case _:
                self._segments.setdefault(change.touches, []).append(member)

    def _chance_to_land(self, member: _Member, chance: float) -> float:
        """That it is fine, and breaks nothing with those ahead that land; by Bayes' rule after each red run of it."""
        clash = self.outlook.clash
        found = self.view.snapshot.findings.get(member.change.id, _NOTHING)
        if found.green:
            share = len(found.green & member.change.touches) / max(1, len(member.change.touches))
            chance **= 1.0 - (1.0 if self.view.snapshot.per_change else share)
        least = chance
        for others in found.red_with:
            all_land = all_fine = 1.0
            for id_ in others:
                lands = self._lands(id_)
                all_land *= lands
                all_fine *= lands * (1.0 - clash)
            least = min(least, chance * (1.0 - all_land) / max(1e-6, 1.0 - chance * all_fine))
        least *= (1.0 - clash) ** len(found.met - found.clean_with)
        for at in _positions(member.direct):
            other = self.members[at]
            if other.change.id not in found.clean_with:
                least *= 1.0 - clash * other.lands
        return max(1e-3, least)

    def _lands(self, change: ChangeId) -> float:
        position = self._position.get(change)
        if position is not None:
            return self.members[position].lands
        return 1.0 if self.view.snapshot.decided.get(change) is Verdict.LANDED else 0.0

    def _suspect(self, member: _Member) -> None:
        """A batch is red: one of those since the last green one is at fault, and the unlikeliest to be fine is suspected."""
        segment = self._segments.get(member.change.touches, [])
        inside = [other for other in segment if other.bit & member.assumed and other.bit & self.undecided]
        if not inside or self.view.snapshot.per_change:
            return
        faults = [1.0 - self._chance(other.change) for other in (*inside, member)]
        worst = max(range(len(faults)), key=lambda at: (faults[at], at))
        suspect = (*inside, member)[worst]
        self._suspects |= suspect.bit
        suspect.suspected = max(0.05, min(0.95, faults[worst] / max(1e-9, sum(faults))))
        self._segments[member.change.touches] = []

    def _chance(self, change: Change) -> float:
        """That it is fine by itself, if the changes ahead of it that have no verdict yet are."""
        chance = self.outlook.forecasts.get(change.id, _DEFAULT).chance
        before = self.view.snapshot.decided.get(ChangeId(change.id - 1))
        factor = self.outlook.after_bad if before is Verdict.REFUSED else self.outlook.after_fine
        return chance if factor == 1.0 else max(0.02, 1.0 - (1.0 - chance) * factor)

    def _is_closed(self, member: _Member) -> bool:
        """Every undecided change ahead that meddles with one of the candidate is in it: a verdict may follow from it."""
        outside = ~(member.assumed | self.ready)
        if not member.direct & self.undecided:
            return True
        if member.state in (_State.GREEN, _State.RED) and self._is_covered(member):
            return True
        inside = member.assumed & self.undecided
        if member.direct & self.undecided & outside or (inside and self.view.snapshot.every_commit):
            return False
        return all(not self.members[at].direct & self.undecided & outside for at in _positions(inside))

    def _is_covered(self, member: _Member) -> bool:
        """The change is green whichever of the undecided changes ahead land: it may land before they are decided.

        Or it is red whichever of them do, and is refused.

        The bypass of Uber's CI at Scale (2025): never on a single assumed path.
        """
        undecided = [1 << at for at in _positions(member.direct & self.undecided)]
        if len(undecided) > COVER_AT_MOST or self._depends_on(member, member.direct & self.undecided):
            return False
        sure = member.direct & self.ready
        if not all(
            self._outcome(self.candidate(sure | some, member.change), member.change) is member.state
            for some in _subsets(undecided)
        ):
            return False
        member.assumed = sure
        member.candidate = self.candidate(sure, member.change)
        return True

    def _depends_on(self, member: _Member, bits: int) -> bool:
        return any(
            (self._position.get(needed, -1) >= 0 and bits >> self._position[needed] & 1) for needed in member.change.depends
        )

    def _make_ready(self, member: _Member) -> None:
        """It lands now, and with it all that it was tested with."""
        bits = member.bit | (member.assumed & self.undecided)
        self.ready |= bits
        self.undecided &= ~bits
        for at in _positions(bits):
            self.members[at].lands = 1.0
            self.members[at].suspected = 0.0

    # --- candidates, and what is known of them ---------------------------------------------------------------------------

    def candidate(self, assumed: int, change: Change) -> Candidate:
        members = self.members
        return Candidate(self.trunk, (*(members[at].change.entry for at in _positions(assumed)), change.entry))

    def _look(self, candidate: Candidate, change: Change, forecast: Forecast) -> tuple[_State, float, float]:
        """State, worker seconds that are still to be spent, and seconds until the last of its runs ends."""
        needs = self._needs(candidate)
        if needs is None:
            duration_s = forecast.duration_s or max(map(self._takes_s, change.touches), default=0.0)
            return _State.UNKNOWN, sum(map(self._takes_s, change.touches)) or duration_s, duration_s
        if isinstance(needs, _State):
            return needs, 0.0, 0.0
        snapshot, now, running = self.view.snapshot, self.view.now, self.view.running
        cost_s = longest_s = 0.0
        state = _State.GREEN
        for need in needs:
            known = snapshot.evidence.get(need.key)
            if known is not None:
                if known.green is not None and known.green.is_green_at(now, need.check.max_age_s):
                    continue
                match self.view.assess_needs((need,), change.evidence_from).standing:
                    case Standing.RED:
                        return _State.RED, 0.0, 0.0
                    case Standing.STUCK:
                        return _State.OUT, 0.0, 0.0
                    case _:
                        pass
            left_s = forecast.duration_s or self._takes_s(need.check.name)
            run = running.get(need.key)
            if run is not None:  # begun, though others of its checks wait: else it would be stopped for a part of itself
                left_s = max(left_s * 0.1, left_s - (now - run.started_at))
                state = _State.RUNNING
            elif state is _State.GREEN:
                state = _State.UNKNOWN
            cost_s += left_s
            longest_s = max(longest_s, left_s)
        return state, cost_s, longest_s

    def _left_s(self, member: _Member, started_at: float) -> float:
        """Of a run for the change."""
        forecast = self.outlook.forecasts.get(member.change.id, _DEFAULT)
        takes_s = forecast.duration_s or max(map(self._takes_s, member.change.touches), default=USUAL_S)
        return max(takes_s * 0.1, takes_s - (self.view.now - started_at))

    def _outcome(self, candidate: Candidate, change: Change) -> _State:
        return self._look(candidate, change, self.outlook.forecasts.get(change.id, _DEFAULT))[0]

    def _needs(self, candidate: Candidate) -> tuple[Need, ...] | _State | None:
        """What has to be green for the change; OUT when it does not merge; None: nobody has merged it yet."""
        trial = self.view.trial(candidate)
        if trial is not None:
            return trial
        outcome = self.view.snapshot.merges.get(candidate)
        if outcome is None:
            return None
        if isinstance(outcome, Unmerged):
            return _State.OUT
        return outcome.needs

    def _takes_s(self, check: CheckName) -> float:
        return self.outlook.durations.get(check, USUAL_S)

    # --- what to run -----------------------------------------------------------------------------------------------------

    def proposals(self) -> Iterator[Proposal]:
        """First one for each change, in order, by which it is judged; then its other pasts, the most worthwhile first."""
        cuts = self._cuts()
        unbuilt = 0
        for member in (*self.members, *self.held):
            if member.candidate is None:
                continue
            worth = self._worth(member, 1.0, 1)
            funded = cuts.get(member.bit) if not member.change.holds else (worth * HELD_WORTH, None)
            if funded is not None:
                worth, cover = funded
            else:
                cover = None
            unbuilt += worth > 0 and member.is_unbuilt
            yield Proposal(member.change, member.candidate, member.settles, worth, cover or self._behind(member))
        free = self.view.snapshot.workers - len(self.view.snapshot.running)
        if free > 0:
            yield from self._others(self.view.snapshot.workers - unbuilt)
        yield from self._under_way()

    def _behind(self, member: _Member) -> ChangeId | None:
        undecided = member.direct & self.undecided
        return self.members[undecided.bit_length() - 1].change.id if undecided else None

    def _worth(self, member: _Member, chance: float, lands: float, *, in_line: bool = False) -> float:
        """Landings per worker second, with the weight of priority and of waiting."""
        if chance < START_CHANCE and member.state is not _State.RUNNING:
            return -1.0
        weight = self._weight(member)
        if member.state is _State.RUNNING:
            weight *= JOINS if in_line else STICKS
        return min(0.5, weight * chance * lands / max(1.0, member.cost_s))

    def _cuts(self) -> dict[int, tuple[float, ChangeId | None]]:
        """By bit of a member: what its run is worth, and for one whose run is left out the change that it is tested with."""
        if self.view.snapshot.per_change or self.view.snapshot.every_commit:
            return {member.bit: (self._worth(member, member.path, 1), None) for member in self.members}
        # What mends a closed trunk lands alone, so that it is not tested only together with what does not.
        lines: dict[tuple[frozenset[CheckName], bool], list[_Member]] = {}
        cuts: dict[int, tuple[float, ChangeId | None]] = {}
        for member in self.members:
            if member.state is _State.FAR or not member.change.touches:
                cuts[member.bit] = (0.0 if not member.change.touches else -1.0, None)
                continue
            line = lines.setdefault((member.change.touches, member.change.mends_gate), [])
            line.append(member)
            if member.state in (_State.GREEN, _State.RED, _State.OUT):
                self._cut(line, member.state is _State.RED, cuts)
                lines[member.change.touches, member.change.mends_gate] = []
        for line in lines.values():
            self._cut(line, False, cuts)
        return cuts

    def _cut(self, line: list[_Member], is_red: bool, cuts: dict[int, tuple[float, ChangeId | None]]) -> None:
        """Where in a line of changes that touch the same checks to run them: each run is for all since the last one.

        What is asked first is the likeliest half: of the segments between the runs that are known or chosen, the one where
        the first bad change most likely is, is cut where it most likely is on either side. For one run at a time that is
        binary splitting with inference (Sobel and Groll, 1959); for many it is a run for each change.
        """
        if line and line[-1].state in (_State.GREEN, _State.OUT):
            cuts[line.pop().bit] = (0.0, None)
        if not line:
            return
        base = line[0].path
        fine = [1.0]  # chance that the first so many are
        for member in line:
            fine.append(fine[-1] * self._chance(member.change) * (1.0 - self.outlook.clash if len(fine) > 1 else 1.0))
        end = len(line)
        total = 1.0 - fine[end] if is_red else 1.0
        total = max(total, 1e-9)
        most = self.view.snapshot.batch or end
        chosen: dict[int, float] = {}  # how many of the line are in the run → the chance that its outcome is needed
        bounds = [0]
        for count, member in enumerate(line, 1):
            if member.state is _State.RUNNING:
                chosen[count] = base * (fine[bounds[-1]] if not is_red else 1.0)
                bounds.append(count)
        heap: list[tuple[float, int, int, bool]] = []  # (-chance, from, to, whether the end of the line is open)

        def offer(start: int, stop: int, is_open: bool) -> None:
            if start >= stop or (not is_open and stop - start < 2):
                return
            mass = (fine[start] if is_open else fine[start] - fine[stop]) / total
            heappush(heap, (-base * mass, start, stop, is_open))

        for start, stop in pairwise(bounds):
            offer(start, stop, False)
        offer(bounds[-1], end, not is_red)
        room = self.view.snapshot.workers
        while heap and room > 0:
            minus, start, stop, is_open = heappop(heap)
            if -minus < START_CHANCE:
                break
            middle = fine[start] * 0.5 if is_open else (fine[start] + fine[stop]) / 2
            last = stop if is_open else stop - 1
            at = min(
                range(start + 1, min(last, start + most) + 1),
                key=lambda count: (abs(fine[count] - middle), -count),
            )
            chosen[at] = -minus
            room -= 1
            offer(start, at, False)
            offer(at, stop, is_open)
        self._fund(line, fine, chosen, is_red, cuts)

    def _fund(
        self,
        line: list[_Member],
        fine: list[float],
        chosen: dict[int, float],
        is_red: bool,
        cuts: dict[int, tuple[float, ChangeId | None]],
    ) -> None:
        before = 0
        cover: list[_Member] = []
        for count, member in enumerate(line, 1):
            cover.append(member)
            if is_red and count == len(line):
                cuts[member.bit] = (0.0, None)  # known to be red: judged, not run
            elif count in chosen:
                lands = (count - before) * fine[count] / fine[before]
                oldest = min(cover, key=lambda other: other.change.submitted_at)
                worth = self._worth(member, chosen[count], lands, in_line=True)
                if worth >= 0:
                    worth = max(worth, min(0.5, worth * self._weight(oldest) / self._weight(member)))
                cuts[member.bit] = (worth, None)
            else:
                continue
            for other in cover[:-1]:
                cuts[other.bit] = (-1.0, member.change.id)
            cover, before = [], count
        for other in cover:
            cuts[other.bit] = (-1.0, None)

    def _weight(self, member: _Member) -> float:
        """Priority, waiting, and less for an author who has more than an equal share of the workers."""
        change = member.change
        waited_s = max(0.0, self.view.now - change.submitted_at)
        weight = RANK_WORTH[change.priority.rank] * (1.0 + waited_s / AGING_S)
        if waited_s > PATIENCE_S:
            return weight * STARVING_WORTH
        return weight / max(1.0, self._runs_by[change.by] / self._fair_runs)

    def covering(self, member: _Member, undecided: list[int], fixed: set[int]) -> Iterator[tuple[int, float]]:
        """The pasts that must all be green for the change to overtake those that will be decided long after its own runs
        could end, and for each the chance that it is needed, less where little time is gained."""
        forecast = self.outlook.forecasts.get(member.change.id, _DEFAULT)
        usual_s = forecast.duration_s or max(map(self._takes_s, member.change.touches), default=USUAL_S)
        soonest = self.view.now + (0.0 if member.state is _State.GREEN else usual_s * 0.1)
        late = [bit for bit in undecided if self.members[bit.bit_length() - 1].lands_at > soonest and bit not in fixed]
        if not late or len(late) > COVER_AT_MOST:
            return
        early = [self.members[bit.bit_length() - 1] for bit in undecided if bit not in late]
        path = 1.0
        for other in early:
            path *= max(other.lands, 1.0 - other.lands)
        if path < START_CHANCE:
            return
        shared = member.assumed & ~sum(late)
        ends_at, missing = max([self.view.now, *(other.lands_at for other in early)]), 0
        pasts: list[int] = []
        for some in _subsets(late):
            state, _, longest_s = self._look(self.candidate(shared | some, member.change), member.change, forecast)
            if state in (_State.RED, _State.OUT):
                return
            ends_at = max(ends_at, self.view.now + longest_s)
            missing += state is _State.UNKNOWN
            if state is not _State.GREEN:
                pasts.append(shared | some)
        gain_s = max(self.members[bit.bit_length() - 1].lands_at for bit in late) - ends_at
        if gain_s < COVER_GAIN * usual_s:
            return
        chance = path * min(1.0, gain_s / usual_s) / max(1, missing)
        yield from ((past, chance) for past in pasts)

    # --- other pasts -----------------------------------------------------------------------------------------------------

    def _others(self, room: int) -> Iterator[Proposal]:
        """Runs for pasts that are less likely, as long as a worker may be left for them, and runs to overtake with."""
        heap: list[tuple[float, int, _Pasts]] = []
        for member in self.members:
            if (
                member.candidate is None
                or member.state in (_State.OUT, _State.FAR)
                or (member.settles and member.state >= _State.GREEN)
            ):
                continue
            if not member.direct & self.undecided:
                continue
            pasts = _Pasts(self, member)
            if pasts.chance >= KEEP_CHANCE:
                heappush(heap, (-pasts.worth, member.bit, pasts))
        while heap and room > 0:
            _, bit, pasts = heappop(heap)
            member = pasts.member
            candidate = self.candidate(pasts.assumed, member.change)
            forecast = self.outlook.forecasts.get(member.change.id, _DEFAULT)
            state, cost_s, _ = self._look(candidate, member.change, forecast)
            if state is _State.RUNNING or (state is _State.UNKNOWN and pasts.chance >= START_CHANCE):
                weight = self._weight(member) * (STICKS if state is _State.RUNNING else 1.0)
                worth = min(0.5, weight * pasts.chance * forecast.chance / max(1.0, cost_s))
                self._asked.add((member.bit, pasts.assumed))
                yield Proposal(member.change, candidate, False, worth, self._behind(member))
                room -= 1
            if pasts.advance() and pasts.chance >= KEEP_CHANCE:
                heappush(heap, (-pasts.worth, bit, pasts))

    def _under_way(self) -> Iterator[Proposal]:
        """What runs may go on where nothing else wants its worker, as long as what it assumes may still come true."""
        for run in self.view.snapshot.running:
            at = self._position.get(run.changes[-1]) if run.changes else None
            if at is None:
                continue
            ahead = [change for change in run.changes[:-1] if change in self.view.waiting]
            if any(change not in self._position for change in ahead):
                continue
            assumed = sum(1 << self._position[change] for change in ahead)
            member = self.members[at]
            if assumed == member.assumed or assumed >> at or (member.bit, assumed) in self._asked:
                continue
            if assumed & ~(self.undecided | self.ready) or member.direct & self.ready & ~assumed:
                continue  # it cannot come true any more
            candidate = self.candidate(assumed, member.change)
            needs = self._needs(candidate)
            if isinstance(needs, tuple) and any(need.key == run.key for need in needs):
                worth = self._weight(member) * GOES_ON / max(1.0, self._left_s(member, run.started_at))
                yield Proposal(member.change, candidate, False, min(0.5, worth), self._behind(member))


class _Pasts:
    """The pasts of one change but the likeliest, best first: the chance that each is needed, be it because it comes true or
    because the change may overtake an undecided one only when every past is green."""

    def __init__(self, board: _Board, member: _Member) -> None:
        self.member = member
        self._items = self._ranked(board, member)
        self._at = 0
        self.assumed = 0
        self.chance = 0.0
        self._load()

    @property
    def worth(self) -> float:
        return self.chance / max(1.0, self.member.cost_s or USUAL_S)

    def advance(self) -> bool:
        self._at += 1
        return self._load()

    def _load(self) -> bool:
        if self._at >= len(self._items):
            self.chance = 0.0
            return False
        self.chance, self.assumed = self._items[self._at]
        return True

    @staticmethod
    def _ranked(board: _Board, member: _Member) -> list[tuple[float, int]]:
        undecided = [1 << at for at in _positions(member.direct & board.undecided)]
        # Who is suspected of a red batch stays out: with it in again the batch would be red again.
        open_to = [bit for bit in undecided if not board.members[bit.bit_length() - 1].suspected]
        flips = sorted((_flip_cost(board.members[bit.bit_length() - 1].lands), bit) for bit in open_to)
        fixed = {1 << board._position[needed] for needed in member.change.depends if needed in board._position}
        flips = [(cost, bit) for cost, bit in flips if bit not in fixed]
        found: dict[int, float] = {}
        for cost, bits in _best_flips([cost for cost, _ in flips], [bit for _, bit in flips], member.path):
            found[member.assumed ^ bits] = member.path * cost
        for assumed, chance in board.covering(member, undecided, fixed):
            if assumed != member.assumed:
                found[assumed] = max(chance, found.get(assumed, 0.0))
        return sorted(((chance, assumed) for assumed, chance in found.items()), reverse=True)


def _flip_cost(lands: float) -> float:
    """-log of how much less likely the other outcome of a change is."""
    return log(max(lands, 1.0 - lands) / max(min(lands, 1.0 - lands), 1e-9))


def _best_flips(costs: list[float], bits: list[int], path: float) -> Iterator[tuple[float, int]]:
    """Sets of outcomes that differ from the likeliest ones, with how much less likely they are; lazily, best first.

    costs: ascending. The k best subsets in O(k log k): each is followed by itself with the next item added, and by itself
    with its last item replaced by the next (as in uber/submitqueue's generator).
    """
    if not costs:
        return
    floor = log(path / KEEP_CHANCE) if path > KEEP_CHANCE else 0.0
    heap = [(costs[0], 0, bits[0])]
    while heap:
        cost, last, chosen = heappop(heap)
        if cost > floor:
            return
        yield 2.718281828459045**-cost, chosen
        if last + 1 < len(costs):
            heappush(heap, (cost + costs[last + 1], last + 1, chosen | bits[last + 1]))
            heappush(heap, (cost - costs[last] + costs[last + 1], last + 1, chosen ^ bits[last] | bits[last + 1]))


def _positions(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _subsets(bits: list[int]) -> Iterator[int]:
    for choice in range(1 << len(bits)):
        yield sum(bit for at, bit in enumerate(bits) if choice >> at & 1)


def _after_dependencies(changes: list[Change], waiting: Iterable[ChangeId]) -> Iterator[Change]:
    """The same order, but each change after those that it depends on."""
    waits = set(waiting)
    postponed: list[Change] = []
    for change in changes:
        postponed.append(change)
        progress = True
        while progress:
            progress = False
            for other in [*postponed]:
                if waits.isdisjoint(other.depends):
                    postponed.remove(other)
                    waits.discard(other.id)
                    yield other
                    progress = True


def optimistic(view: View) -> Iterator[Proposal]:
    """A simple policy: each change on top of all ahead that it could meddle with, every one of them assumed to land."""
    board = _Board(view)
    for member in (*board.members, *board.held):
        if member.candidate is not None:
            yield Proposal(member.change, member.candidate, member.settles)


__all__ = ["Entry", "optimistic", "worthwhile"]
