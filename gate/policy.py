"""Chooses what to test, by expected landings per worker-minute. Pure: a policy proposes, and gate/plan.py disposes.

What a run is worth is the chance that its outcome will be needed, times how many changes it lands if it is green, over the
worker time that it still takes. On this one scale compare a change on top of all that is likely to land ahead of it; the
same change without one of those, in case it does not land; one run for several changes, and the halves of a batch that was
red; and the runs that must all be green before a change may land ahead of one that is undecided.

The board is kept from one plan to the next, and only those changes are looked at again for which something is different, and
those behind them. What is proposed follows from the snapshot alone: a new board proposes the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush, nlargest
from itertools import pairwise
from math import ceil, exp, floor, log, log2

from ci.model import CheckName, RunId
from gate.known import Knowledge
from gate.meddling import Meddling, chosen, positions
from gate.model import Change, ChangeId, Finding, Forecast, Outlook, Running, Verdict
from gate.view import NEVER, Known, Proposal, Standing, View

START_CHANCE = 0.1  # nothing is started whose outcome is less likely to be needed: CI at Scale, 2025, found a floor to pay
KEEP_CHANCE = 0.03  # what runs already goes on down to this chance, where there is room
COVER_AT_MOST = 3  # undecided changes that one may overtake: every one more doubles the runs that this takes
COVER_GAIN = 0.5  # of a run's duration: overtaking that brings a landing forward by less is not worth a run
BLOCKS = 8  # so many behind a change that meddle with it make its verdict worth more than its landing
RED_CHANCE = 0.5  # by itself, of a change that is worth a run which can only tell that it is
BLOCKER_PATH = 0.4  # its runs for that are begun when those ahead that it does not overtake will go so with this chance
OTHER_CHANCE = 0.3  # a run on a less likely past, or one of those to overtake with, is not started below this
USUAL_S = 300.0  # a run, as long as nothing is known of its check
PATIENCE_S = 3600.0  # who has waited this long comes before all who have not, see docs/planner.md
STARVING_WORTH = 1000.0  # times the usual
AGING_S = 1800.0  # every further half hour of waiting counts as much as being worth it once more
STICKS = 16.0  # a run is worth so many times what it would be as a new one: stopping it must pay
JOINS = 1.2  # the same for a run of several changes, in whose place comes one of these and more
GOES_ON = 0.3  # the chance, at least, of a past that nobody asks for now: what runs on it goes on while it may come true
HELD_WORTH = 1e-6  # times the usual: a draft is tested when nobody else wants the worker
RANK_WORTH = (64.0, 8.0, 1.0, 0.125)  # urgent, high, normal, low
MOST_WORTH = 0.5  # of any run, on the core's scale, where verdicts' own runs are worth 1
HORIZON = 500  # changes beyond as many as there are workers; whoever is farther back is not looked at yet
ROUNDING_S = 0.01  # moments are no nearer to each other than this, or may be the same
LOOKS_PER_RUN = 8  # how often, while a run of a change would last, it is asked anew whether overtaking pays

_DEFAULT = Forecast()
_NOTHING = Finding()

Parts = tuple[tuple[float, float | None], ...]
"""Of a trial, what has yet to be run: seconds that each run takes, and when it was started."""


Line = tuple[frozenset[CheckName], bool]
"""What changes have in common that one run may be for; what mends a closed trunk lands alone, so it has one of its own."""


def worthwhile(view: View) -> Iterable[Proposal]:
    """The shipped policy, without a memory."""
    return Worthwhile()(view)


class Worthwhile:
    """The shipped policy for one queue. Quick where little has altered since the last plan."""

    def __init__(self) -> None:
        self._knowledge = Knowledge()
        self._board: _Board | None = None
        self._asked_at = 0.0

    def __call__(self, view: View) -> Iterable[Proposal]:
        if view.now < self._asked_at:  # somebody has set the clock back: what time alone alters cannot be told
            self._knowledge, self._board = Knowledge(), None
        self._asked_at = view.now
        altered = self._knowledge.follow(view)
        if self._board is None or not self._board.is_for(view):
            self._board = _Board(view, self._knowledge)
        proposals = self._board.propose(view, altered)
        self._knowledge.finish()
        return proposals


class _State(IntEnum):
    UNKNOWN = 0
    RUNNING = 1
    GREEN = 2
    RED = 3
    OUT = 4  # it does not merge, or cannot be tested
    FAR = 5  # behind so many undecided ones that nothing is worth looking at


class _Status(IntEnum):
    ABSENT = 0  # those behind it are tested without it
    UNDECIDED = 1
    READY = 2  # it lands now


@dataclass(slots=True, eq=False)
class _Member:
    """One waiting change as the board sees it. Bit sets are over positions on the board.

    direct: the undecided and the ready ones ahead that it meddles with. assumed: those of them that will land, most likely,
    and whatever these stand on. path: the chance that just those land. lands: the chance that it lands itself.
    parts: of its runs on this past. It will be decided at ``ends_at``, or ``rest_s`` from now if that is later.
    """

    change: Change
    at: int
    bit: int
    finding: Finding | None = None
    forecast: Forecast | None = None
    was_before: Verdict | None = None  # of the change submitted just before it
    direct: int = 0
    open: int = 0  # the undecided ones among them, when it was looked at
    assumed: int = 0
    path: float = 0.0
    state: _State = _State.UNKNOWN
    status: _Status = _Status.ABSENT
    chance: float = 0.0  # that it is fine by itself
    lands: float = 0.0
    ends_at: float = 0.0
    rest_s: float = 0.0
    stands_on: int = 0  # those of the assumed whose paths it touches, or which it depends on, and what these stand on
    is_plain: bool = False  # the assumed are among the direct, and were chosen by their own odds
    settles: bool = False
    known: Known | None = None  # None: nothing is run for it as things stand
    parts: Parts = ()
    accuses: tuple[int, float] | None = None  # since its batch was red: a position, and the chance that this one is to blame
    ends_line: bool = False  # those before it in its line are none of the business of those after it
    blocks: bool = False  # so many wait behind it that its verdict is worth more than its landing
    red_alone: float = 0.0  # of one that does: the chance that it is red on trunk with nothing ahead
    blocking: tuple[object, ...] | None = None  # what is known of it as one that does
    foreseen_until: float = NEVER  # when it has to be thought of again when it will be decided
    main: "Choice | None" = None
    alternates: tuple["Choice", ...] = ()
    alternates_until: float = 0.0  # when they have to be thought of again
    thought_of: tuple[object, ...] | None = None  # what they rest on, beside what is known of pasts:
    thought_with: tuple[Known, ...] = ()
    thought_due_at: float = NEVER  # what came of it for ``due_at``
    thought_at: float = 0.0  # the moment that it was thought of
    thought_until: float = 0.0  # time alone alters nothing before this
    turns_before: tuple[float, float] | None = None  # when those ahead will be decided: its other pasts are run before that
    due_at: float = NEVER  # when a run for it may be worthwhile that is not yet
    goes_on: tuple["Choice", ...] = ()  # runs on pasts that may still come true
    loose: tuple["Choice", ...] = ()  # those of them that are not among the alternates

    def decided_at(self, now: float) -> float:
        """When it and all ahead of it are likely to be."""
        return max(self.ends_at, now + self.rest_s)


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Proposal):
    """A proposal that is worth more the longer its change waits, and the less time its runs still take."""

    board: "_Board | None" = None
    parts: Parts = ()
    gain: float = 0.0  # landings that are expected of it, times how much it sticks
    starts: bool = True
    oldest: Change | None = None  # of those that the run tests, the one that has waited longest
    assumed: int = 0
    heirs: list["Choice"] = field(default_factory=list)  # that can land only after what this decides
    is_main: bool = False  # on the likeliest past: the change is judged by it
    takes_s: float | None = field(default=None, init=False)  # as ``left_s``; None: it alters, for a run is under way

    def __post_init__(self) -> None:
        if all(began is None for _, began in self.parts):
            object.__setattr__(self, "takes_s", max(1.0, left_s(self.parts, 0.0)))

    @property
    def may_start(self) -> bool:
        return self.starts

    @property
    def assumption(self) -> tuple[frozenset[ChangeId], int]:
        assert self.known is not None
        return self.known.assumption

    def worth_at(self, now: float) -> float:
        if not self.starts:
            return -1.0
        assert self.board is not None
        weight = self.board.weight(self.change)
        if self.takes_s is None:
            weight *= self.board.haste(self.change)
        worth = min(MOST_WORTH, weight * self.gain / (self.takes_s or max(1.0, left_s(self.parts, now))))
        if self.oldest is not None and self.oldest is not self.change:
            worth = max(worth, min(MOST_WORTH, worth * self.board.weight(self.oldest) / weight))
        return max([worth, *[heir.worth_at(now) for heir in self.heirs]]) if self.heirs else worth

    def rate_at(self, now: float) -> float:
        """What is expected of it for each second that it takes, whoever's it is."""
        return self.gain / (self.takes_s or max(1.0, left_s(self.parts, now)))


def left_s(parts: Parts, now: float) -> float:
    """Worker seconds still to be spent; of a run that lasts longer than expected, a tenth of what it was to last."""
    left = 0.0
    for takes, began in parts:
        left += takes if began is None else max(takes * 0.1, takes - (now - began))
    return left


def longest_s(parts: Parts, now: float) -> float:
    """Until the last run would end, with workers enough."""
    return max([takes if began is None else max(takes * 0.1, takes - (now - began)) for takes, began in parts], default=0.0)


class _Board:
    """All waiting changes in order, each with what is known of it on its likeliest past."""

    def __init__(self, view: View, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._setting = _setting(view)
        self._meddling = Meddling()
        self._epoch = self._meddling.epoch
        self._view = view
        self._outlook: Outlook = view.snapshot.outlook
        self._durations = _durations(self._outlook)
        self._per_change = view.snapshot.per_change
        self._sticks = STICKS if view.snapshot.per_change or view.snapshot.every_commit else JOINS
        self.undecided = 0
        self.ready = 0
        self._members: list[_Member | None] = []  # by position
        self._order: list[_Member] = []  # in queue order, which is that of positions
        self._held: list[_Member] = []
        self._also_reads: dict[int, int] = {}  # position → those who rest on it, though they do not meddle with it
        self._accused: dict[int, dict[int, float]] = {}  # position → who accuses it, with the chance that it is to blame
        self._lines: dict[Line, list[_Member]] = {}
        self._asked: list[Known] = []  # since somebody began to listen
        self._runs: dict[RunId, Running] = {}
        self._runs_of: dict[ChangeId, list[Running]] = {}  # by the last change
        self._awaited: dict[ChangeId, int] = {}  # a change that is not on the board → who rests on its verdict
        self._ordered_for: tuple[Change, ...] | None = None  # the queue that it was sorted from
        self._ordered_as: tuple[Change, ...] = ()

    def is_for(self, view: View) -> bool:
        """Nothing is different that every change depends on."""
        return self._setting == _setting(view)

    # --- what has altered ------------------------------------------------------------------------------------------------

    def propose(self, view: View, altered: set[ChangeId]) -> list[Choice]:
        """First one for each change, in order, by which it is judged; then its other pasts, the most worthwhile first."""
        self._view = view
        self._outlook = view.snapshot.outlook
        self._runs_by: Counter[str] | None = None
        self._weights: dict[ChangeId, float] = {}
        self._most_rank: float | None = None  # what the most urgent change counts for
        self._asked = []
        self._stale_lines: set[Line] = set()
        dirty = self._follow_queue(view) | self._follow_runs(view) | self._follow_facts(view)
        for id_ in altered:
            if self._meddling.knows(id_):
                dirty |= self._meddling.bit(id_)
        due = 0
        for member in self._order:
            if member.foreseen_until <= view.now:
                due |= member.bit
        self._look_at(dirty & self._meddling.present, due)
        for line in self._stale_lines:
            self._fund_line(self._lines.get(line, []))
        self._held = [self._look_at_held(change) for change in view.queue if change.holds and self._takes_part(change)]
        for member in self._order:
            blocking = None
            if member.blocks:
                member.red_alone = self._red_alone(member)
                blocking = self._blocking(member)
            if blocking != member.blocking:  # by what nothing else of it rests on: runs by itself, of an earlier trunk
                member.blocking, member.alternates_until = blocking, 0.0
        view.by_themselves.update(self._by_themselves(view))
        return self._emit(view)

    def _takes_part(self, change: Change) -> bool:
        return change.may_run and not change.broken and not (change.depends and self._view.hopelessness(change))

    def _follow_queue(self, view: View) -> int:
        """The members that are new, or behind somebody who left."""
        meddling, known = self._meddling, self._members
        ordered = self._ordered(view)
        gone = meddling.follow(ordered)
        if meddling.epoch != self._epoch:
            self._epoch = meddling.epoch
            self._forget_members()
            gone, known = (), self._members
        elif not gone and len(ordered) == len(self._order):
            return 0
        dirty = 0
        for change in gone:
            dirty |= self._remove(meddling.position(change.id), meddling.behind(change.id))
        known += [None] * (meddling.position(ordered[-1].id) + 1 - len(known) if ordered else 0)
        self._order = []
        for change in ordered:
            at = meddling.position(change.id)
            member = known[at]
            if member is None:
                member = known[at] = _Member(change, at, 1 << at)
                dirty |= member.bit | self._awaited.pop(change.id, 0)
                if not self._per_change:
                    self._lines.setdefault(_line_of(change), []).append(member)
            self._order.append(member)
        for member in self._order:
            blocks = self._blocks(member)
            if blocks is not member.blocks:
                member.blocks = blocks
                dirty |= member.bit
        return dirty & meddling.present

    def _blocks(self, member: _Member) -> bool:
        """Many wait behind it, and not behind each other, as they do in a line."""
        behind = self._meddling.behind(member.change.id)
        count = behind.bit_count()
        if count < BLOCKS:
            return False
        next_one = self._member((behind & -behind).bit_length() - 1)
        return 2 * self._meddling.behind(next_one.change.id).bit_count() < count

    def _ordered(self, view: View) -> tuple[Change, ...]:
        """Priority, then submission. But nobody who came first by priority has the runs of others begin again: what is
        under test already stays ahead of it, and it overtakes by covering every outcome."""
        places = view.snapshot.places
        is_closed, is_red = view.snapshot.closed is not None, bool(view.red_on_trunk)
        # Else the queue is in this order already.
        is_plain = not (is_closed or is_red or view.is_hurried or view.is_stacked)
        if is_plain and self._ordered_for is view.queue:
            return self._ordered_as
        ordered = [change for change in view.queue if not change.holds and self._takes_part(change)]
        if not is_plain:
            ordered = self._ranked(ordered, view, is_closed=is_closed, is_red=is_red)
        near = HORIZON + view.snapshot.workers
        # Who was tested once stays, though others have come ahead of it since: its runs go on.
        ordered[near:] = [change for change in ordered[near:] if change.id in places]
        self._ordered_for, self._ordered_as = (view.queue if is_plain else None), tuple(ordered)
        return self._ordered_as

    def _ranked(self, changes: list[Change], view: View, *, is_closed: bool, is_red: bool) -> list[Change]:
        places, is_hurried = view.snapshot.places, view.is_hurried
        arrival = {change.id: at for at, change in enumerate(view.snapshot.changes)}

        def rank(change: Change) -> tuple[bool, bool, int, int]:
            # What mends a closed or a red trunk comes first, for nothing ahead of it could land.
            is_late = is_closed and not change.mends_gate
            is_stuck = is_red and not view.mends_trunk(change)
            is_tested = is_hurried and change.id in places
            last = (-1, places[change.id]) if is_tested else (change.priority.rank, arrival[change.id])
            return is_late, is_stuck, *last

        ranked = sorted(changes, key=rank)
        return list(_after_dependencies(ranked, view.waiting.keys())) if view.is_stacked else ranked

    def _forget_members(self) -> None:
        self.undecided = self.ready = 0
        self._members = []
        self._also_reads = {}
        self._accused = {}
        self._awaited = {}
        self._lines = {}
        self._runs, self._runs_of = {}, {}

    def _remove(self, at: int, behind: int) -> int:
        """Returns those that rested on it."""
        member = self._members[at]
        assert member is not None
        dirty = behind | self._also_reads.pop(at, 0) | self._take_back(member)
        self._accused.pop(at, None)
        self.undecided &= ~member.bit
        self.ready &= ~member.bit
        self._members[at] = None
        if not self._per_change:
            line = _line_of(member.change)
            self._lines[line].remove(member)
            self._stale_lines.add(line)
            if not self._lines[line]:
                del self._lines[line]
        return dirty

    def _follow_runs(self, view: View) -> int:
        """The members for which runs have begun or ended."""
        now, before = {run.run: run for run in view.snapshot.running}, self._runs
        altered = [run for id_, run in now.items() if (was := before.get(id_)) is not run and was != run]
        ended = [run for id_, run in before.items() if id_ not in now]
        if not altered and not ended:
            return 0
        self._runs = now
        dirty = 0
        for run in (*ended, *altered):
            if run.changes:
                self._runs_of.pop(run.changes[-1], None)
                dirty |= self._bit_if_known(run.changes[-1])
        last = {run.changes[-1] for run in (*ended, *altered) if run.changes}
        for run in now.values():
            if run.changes and run.changes[-1] in last:
                self._runs_of.setdefault(run.changes[-1], []).append(run)
        return dirty

    def _bit_if_known(self, change: ChangeId) -> int:
        return self._meddling.bit(change) if self._meddling.knows(change) else 0

    def _follow_facts(self, view: View) -> int:
        """The members of which runs have told something, or other things are expected now."""
        findings, outlook = view.snapshot.findings, self._outlook
        dirty = 0
        for id_ in [id_ for id_ in self._awaited if id_ not in view.waiting]:
            dirty |= self._awaited.pop(id_)
        forecasts = outlook.forecasts
        for member in self._order:
            id_ = member.change.id
            if (finding := findings.get(id_)) is not member.finding:
                dirty |= member.bit if finding != member.finding else 0
                member.finding = finding
            if (forecast := forecasts.get(id_)) is not member.forecast:
                dirty |= member.bit if forecast != member.forecast else 0
                member.forecast = forecast
        if outlook.after_fine != 0.0 or outlook.after_bad != 0.0:
            for member in self._order:
                before = view.snapshot.decided.get(ChangeId(member.change.id - 1))
                if before is not member.was_before:
                    member.was_before = before
                    dirty |= member.bit
        return dirty

    # --- one change after the other --------------------------------------------------------------------------------------

    def _look_at(self, dirty: int, due: int) -> None:
        """These anew, and those behind who rest on what turns out otherwise. due: of these only when they will be decided.

        What alters of a change that many wait for is most often just who is open ahead of it, or when it will be decided.
        Neither is worth looking at all of those anew: whether they settle, and when they will be decided, is all that rests
        on it.
        """
        doubtful = 0  # who may settle now, or not any more
        while pending := dirty | due | doubtful:
            bit = pending & -pending
            member = self._members[bit.bit_length() - 1]
            if member is not None:
                opened, moments = member.open, (member.ends_at, member.rest_s)
                if dirty & bit or (doubtful & bit and self._settles_otherwise(member)):
                    dirty |= self._look_through(member)
                elif due & bit:
                    self._foresee_again(member)
                if member.open != opened:
                    doubtful |= self._readers(member)
                if (member.ends_at, member.rest_s) != moments:
                    due |= self._meddling.behind(member.change.id)
            dirty, due, doubtful = dirty & ~bit, due & ~bit, doubtful & ~bit

    def _look_through(self, member: _Member) -> int:
        """One of them anew. Returns those who rest on what turned out otherwise."""
        before, accused = self._public(member), member.accuses
        self._look_at_one(member)
        if not self._per_change:
            self._stale_lines.add(_line_of(member.change))
        dirty = 0
        if self._public(member) != before:
            dirty = self._readers(member)
        if accused != member.accuses:
            dirty |= self._who_heard(accused, member.at) | self._who_heard(member.accuses, member.at)
        return dirty

    def _readers(self, member: _Member) -> int:
        """Those behind it who may rest on it."""
        return self._meddling.behind(member.change.id) | self._also_reads.get(member.at, 0) & self._meddling.present

    def _settles_otherwise(self, member: _Member) -> bool:
        """Others are open ahead of those that it was tested with, and that makes a difference. It makes none to one that is
        covered: nobody undecided is in its candidate."""
        is_inside = member.known is not None and member.assumed & self.undecided
        return bool(is_inside) and self._is_enclosed(member) is not member.settles

    def _foresee_again(self, member: _Member) -> None:
        member.alternates_until = 0.0
        if member.known is not None or member.state is _State.FAR:
            self._foresee(member)

    def _public(self, member: _Member) -> tuple[object, ...]:
        """What those behind it rest on, who do not rest on what it rests on itself; but for who is open ahead of it, and
        when it will be decided: see ``_look_at``."""
        return (
            member.status,
            member.chance,
            member.lands,
            member.stands_on,
            member.state is _State.RED,
            member.state in (_State.UNKNOWN, _State.RUNNING),
            member.ends_line,
        )

    def _who_heard(self, accuses: tuple[int, float] | None, accuser: int) -> int:
        """Those behind both of them who might be tested on top of the one who is suspected."""
        suspect = self._members[accuses[0]] if accuses is not None else None
        if suspect is None:
            return 0
        readers = self._meddling.behind(suspect.change.id) | self._also_reads.get(suspect.at, 0) & self._meddling.present
        return readers >> (accuser + 1) << (accuser + 1)

    def _look_at_held(self, change: Change) -> _Member:
        """Nobody is tested on top of it."""
        at = len(self._members)
        member = _Member(change, at, 1 << at, self._view.snapshot.findings.get(change.id))
        member.forecast = self._outlook.forecasts.get(change.id)
        self._look_at_one(member, self._meddling.near(change))
        return member

    def _look_at_one(self, member: _Member, near: int | None = None) -> None:
        """near: those it meddles with; None: as the board knows."""
        change = member.change
        self._knowledge.renew(change.id)
        self._take_back(member)
        ahead = self._meddling.ahead(change.id) if near is None else near
        member.direct = ahead & (self.undecided | self.ready)
        member.open = ahead & self.undecided
        member.assumed, member.path = self._likeliest(member)
        member.stands_on = 0
        member.known = member.main = None
        member.parts = ()
        member.alternates_until = 0.0
        member.goes_on = ()
        member.settles = member.ends_line = False
        member.is_plain = True
        self._stand(member)
        is_off = any(
            not (self._meddling.knows(needed) and self._bit_if_known(needed) & member.assumed)
            for needed in change.depends
            if needed in self._view.waiting
        )
        if is_off:  # it depends on a change that is not going to land as things stand
            member.state, member.lands, member.foreseen_until = _State.OUT, 0.0, NEVER
        else:
            self._judge(member)
        if near is not None:
            return
        if is_off or member.state is _State.OUT or (member.lands <= 0.0 and not self._suspicion(member.at, member.at)):
            member.status = _Status.ABSENT
        elif member.settles and member.state is _State.GREEN and self._is_company_green(member):
            member.status, member.lands = _Status.READY, 1.0
        else:
            member.status = _Status.UNDECIDED
        self.undecided = self.undecided & ~member.bit | (member.bit if member.status is _Status.UNDECIDED else 0)
        self.ready = self.ready & ~member.bit | (member.bit if member.status is _Status.READY else 0)

    def _is_company_green(self, member: _Member) -> bool:
        """What it was tested on top of is green as well, so all of it lands: each is ready, or tested by the same checks."""
        company = [other.change for other in self._those(member.assumed & self.undecided)]
        return all(not self._per_change and other.touches <= member.change.touches for other in company)

    def _note_reader(self, at: int, reader: _Member) -> None:
        """Who looks at one ahead that it does not meddle with has to be looked at again with it."""
        if reader.at < len(self._members):
            self._also_reads[at] = self._also_reads.get(at, 0) | reader.bit

    def _await(self, change: ChangeId, reader: _Member) -> None:
        """The same for one that is not ahead of it on the board: when it comes there, or leaves the queue."""
        if reader.at < len(self._members):
            self._awaited[change] = self._awaited.get(change, 0) | reader.bit

    def _member(self, at: int) -> _Member:
        member = self._members[at]
        assert member is not None
        return member

    def _those(self, bits: int) -> list[_Member]:
        """The members of a set, in order."""
        return [member for member in chosen(self._members, bits) if member is not None]

    def _likeliest(self, member: _Member) -> tuple[int, float]:
        """Of those ahead the ones that will land, most likely, and the chance that it is just them."""
        direct = member.direct
        if not direct:
            return 0, 1.0
        last = self._member(direct.bit_length() - 1)
        is_chain = (
            last.is_plain
            and last.direct == direct & ~last.bit
            and not any(direct >> suspect & 1 and self._suspicion(suspect, member.at) for suspect in self._accused)
        )
        if is_chain and last.path > 0.0:
            assumed, path, rest = last.assumed, last.path, last.bit  # a chain: one more than the one before
        else:
            assumed, path, rest = direct & self.ready, 1.0, direct & self.undecided
        for other in self._those(rest):
            if other.status is _Status.READY:
                assumed |= other.bit
                continue
            suspicion = self._suspicion(other.at, member.at) if self._accused else 0.0
            if suspicion:
                path *= suspicion
            elif other.lands >= 0.5:
                assumed |= other.bit
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
        assumed = member.assumed
        near = self._meddling.standing_on(change) & (member.bit - 1)
        member.stands_on = near & member.assumed
        for other in self._those(member.assumed):
            below = other.stands_on & (self.undecided | self.ready)
            if near & other.bit:
                member.stands_on |= below
            for extra in positions(below & ~member.assumed):
                self._note_reader(extra, member)
                if self.undecided >> extra & 1:
                    member.path *= self._member(extra).lands
            member.assumed |= below
        member.is_plain = member.assumed == assumed

    def _judge(self, member: _Member) -> None:
        """What is known of the change on its likeliest past, and what follows for those behind."""
        change = member.change
        member.lands = self._chance_to_land(member)
        member.goes_on = tuple(self._under_way(member))
        if member.path == 0.0:
            member.state, member.parts = _State.FAR, ((self._usual_s(change), None),)
            self._foresee(member)
            return
        self._learn(member, self._ask(member.assumed, change))
        self._foresee(member)
        member.settles = self._is_closed(member)
        match member.state:
            case _State.GREEN:
                member.ends_line = True
            case _State.RED:
                if member.settles and not member.assumed & self.undecided:
                    member.lands = 0.0
                self._suspect(member)
            case _State.OUT:
                member.lands = 0.0
            case _:
                pass
        if self._per_change or self._view.snapshot.every_commit:
            self._fund(member, member.path, 1.0)
        elif not change.touches:  # whatever it has to see run is asked for by others
            self._fund(member, 0.0, 0.0, worth=0.0)

    def _foresee(self, member: _Member) -> None:
        """When its own run ends and all ahead of it that it meddles with are decided. Of one that blocks many, all but so
        many as it may overtake are enough, once the runs for that have ended."""
        member.foreseen_until = NEVER
        own, ahead = _end(member.parts), self._those(member.direct & self.undecided)
        others = _last(ahead)
        last = max(own[0], others[0]), max(own[1], others[1])
        if member.blocks and len(ahead) > COVER_AT_MOST:
            usual_s = self._usual_s(member.change)
            moment = self._moment(usual_s)
            member.foreseen_until = moment + _pace_s(usual_s)
            begun_at = self._begun_cover(member)[1]
            covered = (begun_at + usual_s, usual_s * 0.1) if begun_at else (0.0, usual_s)
            _, at = nlargest(1 + COVER_AT_MOST, [(max(other.ends_at, moment + other.rest_s), other.at) for other in ahead])[
                -1
            ]
            fourth = self._member(at)
            sooner = max(covered[0], fourth.ends_at), max(covered[1], fourth.rest_s)
            last = min(last, sooner, key=lambda one: (max(one[0], moment + one[1]), one))
        member.ends_at, member.rest_s = last

    def _wake(self, member: _Member, due_at: float, usual_s: float) -> None:
        """Something may be worth a run from then on, though nothing happens."""
        member.thought_due_at = min(member.thought_due_at, ceil(due_at / _pace_s(usual_s)) * _pace_s(usual_s))

    def _hold_until(self, member: _Member, until: float) -> None:
        """What is thought of its other pasts is the same at every moment before this, if time alone passes. A little
        earlier: at the very moment, rounding decides."""
        member.thought_until = min(member.thought_until, until - ROUNDING_S)

    def _moment(self, usual_s: float) -> float:
        """Now, but for the time within which nothing is looked at again that only time alters."""
        pace_s = _pace_s(usual_s)
        return floor(self._view.now / pace_s) * pace_s

    def _learn(self, member: _Member, known: Known) -> None:
        member.known = known
        member.state, member.parts = self._state_of(known)

    def _chance_to_land(self, member: _Member) -> float:
        """That it is fine, and breaks nothing with those ahead that land; by Bayes' rule after each red run of it."""
        clash = self._outlook.clash
        chance: float
        chance = member.chance = self._chance(member)
        found = member.finding or _NOTHING
        chance **= 1.0 - self._share_of_green(member)
        least = chance
        for others in found.red_with:
            all_land = all_fine = 1.0
            for id_ in others:
                lands = self._lands(id_, member)
                all_land *= lands
                all_fine *= lands * (1.0 - clash)
            least = min(least, chance * (1.0 - all_land) / max(1e-6, 1.0 - chance * all_fine))
        least *= (1.0 - clash) ** len(found.met - found.clean_with)
        for other in self._those(member.direct):
            if other.change.id not in found.clean_with:
                least *= 1.0 - clash * other.lands
        return max(1e-3, round(least, 3))  # what is less than that off is not worth looking at those behind again

    def _share_of_green(self, member: _Member) -> float:
        """Of its checks, those that were green with it as the last change of some candidate."""
        green, touches = (member.finding or _NOTHING).green, member.change.touches
        if self._per_change:
            return 1.0 if green else 0.0
        return len(green & touches) / max(1, len(touches)) if green else 0.0

    def _lands(self, change: ChangeId, reader: _Member) -> float:
        if self._meddling.knows(change):
            other = self._member(self._meddling.position(change))
            if other.at < reader.at:
                self._note_reader(other.at, reader)
                return other.lands
        if change in self._view.waiting:
            self._await(change, reader)
        return 1.0 if self._view.snapshot.decided.get(change) is Verdict.LANDED else 0.0

    def _chance(self, member: _Member) -> float:
        """That it is fine by itself, if those ahead of it are that have no verdict yet and are not known to be bad."""
        chance = (member.forecast or _DEFAULT).chance
        is_bad = member.was_before is Verdict.REFUSED
        before = ChangeId(member.change.id - 1)
        if self._meddling.knows(before):
            other = self._member(self._meddling.position(before))
            if other.at < member.at:
                self._note_reader(other.at, member)
                is_bad = other.state is _State.RED and other.lands == 0.0
        shift = self._outlook.after_bad if is_bad else self._outlook.after_fine
        if shift == 0.0:
            return chance
        odds = exp(shift)
        return chance * odds / (chance * odds + 1.0 - chance)

    def _suspect(self, member: _Member) -> None:
        """A batch is red: one of those since the last green one is at fault, and the unlikeliest to be fine is suspected."""
        if self._per_change or member.at >= len(self._members):
            return  # nobody is tested on top of a held one, so nobody need hear of it
        inside: list[_Member] = []
        for other in reversed(self._lines.get(_line_of(member.change), ())):
            if other.at >= member.at:
                continue
            if other.ends_line:
                break
            is_open = other.state in (_State.UNKNOWN, _State.RUNNING)
            if is_open and other.bit & member.assumed and other.bit & self.undecided:
                inside.append(other)
        if not inside:
            return
        suspects = (*reversed(inside), member)
        faults = [1.0 - other.chance for other in suspects]
        worst = max(range(len(faults)), key=lambda at: (faults[at], at))
        odds = max(0.05, min(0.95, faults[worst] / max(1e-9, sum(faults))))
        member.accuses = (suspects[worst].at, odds)
        member.ends_line = True
        self._accused.setdefault(suspects[worst].at, {})[member.at] = odds

    def _take_back(self, member: _Member) -> int:
        """What it accuses another of. Returns those who heard of it."""
        if member.accuses is None:
            return 0
        heard = self._who_heard(member.accuses, member.at)
        suspect, _ = member.accuses
        accusers = self._accused.get(suspect)
        if accusers is not None:
            accusers.pop(member.at, None)
            if not accusers:
                del self._accused[suspect]
        member.accuses = None
        return heard

    def _suspicion(self, at: int, reader: int) -> float:
        """The chance that this one is the one at fault, where one of several is, as far as the reader has heard: it looks at
        what is ahead of it, and at itself. 0: nobody says so."""
        accusers = self._accused.get(at)
        if not accusers:
            return 0.0
        heard = [accuser for accuser in accusers if accuser <= reader]
        return accusers[max(heard)] if heard else 0.0

    def _is_closed(self, member: _Member) -> bool:
        """Every undecided change ahead that meddles with one of the candidate is in it: a verdict may follow from it."""
        if not member.direct & self.undecided:
            return True
        if member.state in (_State.GREEN, _State.RED) and self._is_covered(member):
            return True
        return self._is_enclosed(member)

    def _is_enclosed(self, member: _Member) -> bool:
        """The same, but for being covered."""
        undecided = self.undecided
        outside = ~(member.assumed | self.ready)
        if not member.direct & undecided:
            return True
        inside = member.assumed & undecided
        if member.direct & undecided & outside or (inside and self._view.snapshot.every_commit):
            return False
        return all(not other.direct & undecided & outside for other in self._those(inside))

    def _is_covered(self, member: _Member) -> bool:
        """The change is green whichever of the undecided changes ahead land: it may land before they are decided.

        Or it is red whichever of them do, and is refused.

        The bypass of Uber's CI at Scale (2025): never on a single assumed path.
        """
        undecided = [1 << at for at in positions(member.direct & self.undecided)]
        if len(undecided) > COVER_AT_MOST or self._depends_on(member, member.direct & self.undecided):
            return False
        sure = member.direct & self.ready
        for some in self._pasts(undecided):
            if self._state_of(self._ask(sure | some, member.change))[0] is not member.state:
                return False
        member.assumed = sure
        member.is_plain = False
        self._learn(member, self._ask(sure, member.change))
        return True

    def _pasts(self, bits: list[int], shared: int = 0) -> Iterator[int]:
        """Every subset that may come true beside these: nothing lands without what it depends on."""
        among = shared | sum(bits)
        for some in _subsets(bits):
            if self._closed(shared | some, among) == shared | some:
                yield some

    def _closed(self, assumed: int, among: int) -> int:
        """These without those that depend on another of ``among`` which is not assumed."""
        while self._view.is_stacked:
            missing = among & ~assumed
            without = [other.bit for other in self._those(assumed & among) if self._depends_on(other, missing)]
            if not without:
                break
            assumed &= ~sum(without)
        return assumed

    def _depends_on(self, member: _Member, bits: int) -> bool:
        return any(self._bit_if_known(needed) & bits for needed in member.change.depends)

    # --- what is known ---------------------------------------------------------------------------------------------------

    def _ask(self, assumed: int, change: Change) -> Known:
        """What is known of the change on this past."""
        known = self._knowledge.at(change, self._meddling.entries(assumed), (self._meddling.ids(assumed), 1))
        self._asked.append(known)
        return known

    def _state_of(self, known: Known) -> tuple[_State, Parts]:
        """And what has yet to be run."""
        duration_s = self._outlook.forecasts.get(known.change.id, _DEFAULT).duration_s
        found: tuple[object, float | None, tuple[_State, Parts]] | None = known.noted
        if found is None or found[0] is not self._durations or found[1] != duration_s:
            found = known.noted = self._durations, duration_s, self._work_out(known, duration_s)
        return found[2]

    def _work_out(self, known: Known, duration_s: float | None) -> tuple[_State, Parts]:
        match known.standing:
            case Standing.GREEN:
                return _State.GREEN, ()
            case Standing.RED:
                return _State.RED, ()
            case Standing.STUCK | Standing.UNMERGED:
                return _State.OUT, ()
            case _:
                pass
        if known.needs is None:
            each = [self._takes_s(check) for check in known.change.touches]
            if duration_s is None:
                return _State.UNKNOWN, tuple([(takes, None) for takes in each])
            return _State.UNKNOWN, ((duration_s, None),)
        began = {run.key: run.started_at for run in known.runs}
        left = known.assessment.open
        if known.assessment.paused:
            left = (*left, *(need for need, _ in known.assessment.paused))
        parts = tuple([(duration_s or self._takes_s(need.check.name), began.get(need.key)) for need in left])
        # Begun, though others of its checks wait: else it would be stopped for a part of itself.
        return _State.RUNNING if began else _State.UNKNOWN, parts

    def _takes_s(self, check: CheckName) -> float:
        return self._durations.get(check, USUAL_S)

    def _usual_s(self, change: Change) -> float:
        """Until all runs for it have ended, with workers enough."""
        duration_s = self._outlook.forecasts.get(change.id, _DEFAULT).duration_s
        return duration_s or max(map(self._takes_s, change.touches), default=USUAL_S)

    # --- what to run: one change, or several of a line -------------------------------------------------------------------

    def _fund(
        self,
        member: _Member,
        chance: float,
        lands: float,
        *,
        in_line: bool = False,
        oldest: Change | None = None,
        cover: ChangeId | None = None,
        worth: float = 1.0,
    ) -> None:
        """Propose its likeliest past. chance: that the outcome is needed; lands: how many changes land by it then.

        worth 0: it is proposed to be judged, and takes a worker that nobody else wants; below: nothing is started for it.
        """
        assert member.known is not None
        is_running = member.state is _State.RUNNING
        starts = worth == 0.0 or (worth > 0.0 and (chance >= START_CHANCE or is_running))
        sticks = (JOINS if in_line else STICKS) if is_running else 1.0
        member.main = Choice(
            member.change,
            member.known.ahead,
            1,
            member.settles,
            0.0,
            cover or self._behind(member),
            member.known,
            self,
            member.parts,
            chance * lands * sticks * max(0.0, worth),
            starts,
            oldest,
            member.assumed,
            is_main=True,
        )

    def _behind(self, member: _Member) -> ChangeId | None:
        undecided = member.direct & self.undecided
        return self._member(undecided.bit_length() - 1).change.id if undecided else None

    def weight(self, change: Change) -> float:
        """Of all that is proposed for the change in this plan."""
        found = self._weights.get(change.id)
        if found is None:
            found = self._weights[change.id] = self._weigh(change)
        return found

    def haste(self, change: Change) -> float:
        """How many times as much a run under way is worth beside others of more priority: that alone stops nothing."""
        if not self._view.is_ranked:
            return 1.0
        if self._most_rank is None:
            self._most_rank = max(RANK_WORTH[each.priority.rank] for each in self._view.queue)
        return self._most_rank / RANK_WORTH[change.priority.rank]

    def _weigh(self, change: Change) -> float:
        """Priority, waiting, and less for an author whose other changes have more than an equal share of the workers.

        The runs of the change itself do not count: else two authors would stop each other's in turn, for ever.
        """
        waited_s = max(0.0, self._view.now - change.submitted_at)
        weight = RANK_WORTH[change.priority.rank] * (1.0 + waited_s / AGING_S)
        if waited_s > PATIENCE_S:
            return weight * STARVING_WORTH
        if self._runs_by is None:
            view = self._view
            runs = [run.changes[-1] for run in view.snapshot.running if run.changes]
            self._runs_by = Counter([view.waiting[last].by for last in runs if last in view.waiting])
            self._fair_runs = max(1.0, view.snapshot.workers / max(1, len({other.by for other in view.queue})))
        others = self._runs_by.get(change.by, 0) - len(self._runs_of.get(change.id, ()))
        return weight / max(1.0, others / self._fair_runs)

    def _fund_line(self, line: list[_Member]) -> None:
        """Where in a line of changes that touch the same checks to run them: each run is for all since the last one."""
        if self._view.snapshot.every_commit or not (line and line[0].change.touches):
            return
        part: list[_Member] = []
        first: Choice | None = None  # the best run of the first part that ends with a change that is left out
        for member in line:
            if member.known is None or member.state is _State.FAR:
                continue
            part.append(member)
            is_left_out = member.state is _State.RED or member.lands < 0.5  # those behind are tested without it
            if is_left_out or member.state in (_State.GREEN, _State.OUT):
                self._cut(part, member.state is _State.RED)
                first = self._inherit(part, first, is_left_out=is_left_out)
                part = []
        self._cut(part, False)
        self._inherit(part, first, is_left_out=False)

    def _inherit(self, part: list[_Member], first: "Choice | None", *, is_left_out: bool) -> "Choice | None":
        """What is tested without a change ahead lands only after that is decided: a run that decides it is worth as much."""
        funded = [member.main for member in part if member.main is not None and member.main.gain > 0.0]
        if not funded:
            return first
        best = max(funded, key=lambda choice: choice.gain / max(1.0, sum([takes for takes, _ in choice.parts])))
        if first is None:
            return best if is_left_out else None
        first.heirs.append(best)
        return first

    def _cut(self, line: list[_Member], is_red: bool) -> None:
        """Each run is for all since the last one before it that is chosen.

        What is asked first is the likeliest half: of the segments between the runs that are known or chosen, the one where
        the first bad change most likely is, is cut where it most likely is on either side. For one run at a time that is
        binary splitting with inference (Sobel and Groll, 1959); for many it is a run for each change.
        """
        if line and line[-1].state in (_State.GREEN, _State.OUT):
            last = line.pop()
            self._fund(last, 0.0, 0.0, worth=0.0)
            if last.state is _State.GREEN:  # and with it those that it was tested with
                for other in [other for other in line if other.bit & last.assumed]:
                    self._fund(other, 0.0, 0.0, worth=-1.0, cover=last.change.id)
                    line.remove(other)
        if not line:
            return
        base = line[0].path
        fine = [1.0]  # chance that the first so many are
        for member in line:
            fine.append(fine[-1] * member.chance * (1.0 - self._outlook.clash if len(fine) > 1 else 1.0))
        end = len(line)
        total = 1.0 - fine[end] if is_red else 1.0
        total = max(total, 1e-9)
        most = self._view.snapshot.batch or end
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
        room = self._view.snapshot.workers
        while heap and room > 0:
            minus, start, stop, is_open = heappop(heap)
            if -minus < START_CHANCE:
                break
            middle = fine[start] * 0.5 if is_open else (fine[start] + fine[stop]) / 2
            furthest = stop if is_open else stop - 1
            at = min(
                range(start + 1, min(furthest, start + most) + 1),
                key=lambda count: (abs(fine[count] - middle), -count),
            )
            chosen[at] = -minus
            room -= 1
            offer(start, at, False)
            offer(at, stop, is_open)
        self._fund_chosen(line, fine, chosen, is_red)

    def _fund_chosen(self, line: list[_Member], fine: list[float], chosen: dict[int, float], is_red: bool) -> None:
        before = began = 0  # so many of the line are in the last run that is chosen, and in the last one that is under way
        tested: list[_Member] = []
        for count, member in enumerate(line, 1):
            tested.append(member)
            if is_red and count == len(line):
                self._fund(member, 0.0, 0.0, worth=0.0)  # known to be red: judged, not run
            elif count in chosen:
                # A run under way is worth what it would be if it were to be started: else it is stopped for another, and
                # that for it.
                since = began if member.state is _State.RUNNING else before
                lands = (count - since) * fine[count] / fine[since]
                oldest = min(tested, key=lambda other: other.change.submitted_at).change
                self._fund(member, chosen[count], lands, in_line=True, oldest=oldest)
            else:
                continue
            for other in tested[:-1]:
                self._fund(other, 0.0, 0.0, worth=-1.0, cover=member.change.id)
            tested, before = [], count
            began = count if member.state is _State.RUNNING else began
        for other in tested:
            self._fund(other, 0.0, 0.0, worth=-1.0)

    # --- what to run: other pasts ----------------------------------------------------------------------------------------

    def _emit(self, view: View) -> list[Choice]:
        workers, free = view.snapshot.workers, view.snapshot.workers - len(view.snapshot.running)
        found = [member.main for member in self._order if member.main is not None]
        for member in self._held:
            if member.known is not None:
                self._fund(member, member.path, HELD_WORTH)
                assert member.main is not None
                found.append(member.main)
        if free <= 0:
            for member in self._order:
                found += member.goes_on
            return found
        unbuilt = sum([choice.starts and choice.known is not None and choice.known.needs is None for choice in found])
        room = workers - unbuilt
        others: list[Choice] = []
        for member in self._order:
            if member.alternates_until <= view.now:
                self._think_of_others(member)
            others += member.alternates
            if member.due_at > view.now:
                view.moments.append(member.due_at)
        if len(others) > room:
            # Less likely pasts only as long as a worker may be left for them, the one with the most chance per second next.
            others = sorted(others, key=lambda choice: choice.rate_at(view.now), reverse=True)[: max(0, room)]
            asked = set(others)
            found += others
            for member in self._order:
                if member.goes_on:
                    found += [choice for choice in member.goes_on if not _is_among(choice, member.alternates, asked)]
            return found
        found += others
        for member in self._order:
            found += member.loose
        return found

    def _think_of_others(self, member: _Member) -> None:
        usual_s = self._usual_s(member.change)
        moment = self._moment(usual_s)
        if member.alternates_until > 0.0 and moment < member.thought_until:  # nothing has altered but the time
            self._is_thought_of(member, usual_s, moment)
            return
        is_answered = member.settles and member.state in (_State.GREEN, _State.RED)
        is_far = member.state is _State.FAR and not member.blocks
        others = self._those(member.direct & self.undecided)
        if not others or member.state is _State.OUT or is_answered or is_far:
            member.alternates, member.thought_of = (), None
            member.thought_due_at, member.turns_before, member.thought_until = NEVER, None, NEVER
        else:
            rests_on = (
                member.assumed,
                member.path,
                member.state,
                member.blocks,
                [(other.at, other.lands, other.ends_at, other.rest_s) for other in others],
                [self._suspicion(other.at, member.at) for other in others] if self._accused else None,
                member.forecast,
                self._behind(member),
                member.blocking,
            )
            is_same = member.thought_of == rests_on and all(known.is_current for known in member.thought_with)
            if is_same and (moment == member.thought_at or moment < member.thought_until):
                for known in member.thought_with:
                    self._knowledge.keep(known)
            else:
                self._asked = []
                member.thought_at, member.thought_until = moment, NEVER
                member.thought_due_at, member.turns_before = NEVER, None
                member.alternates = tuple(self._others(member, others, usual_s, moment))
                member.thought_of, member.thought_with = rests_on, tuple(self._asked)
        among = {choice.assumed for choice in member.alternates}
        member.loose = tuple([choice for choice in member.goes_on if choice.assumed not in among])
        self._is_thought_of(member, usual_s, moment)

    def _is_thought_of(self, member: _Member, usual_s: float, moment: float) -> None:
        pace_s = _pace_s(usual_s)
        member.alternates_until = NEVER if not member.direct & self.undecided else moment + pace_s
        member.due_at = member.thought_due_at
        if member.turns_before is not None:
            member.due_at = min(member.due_at, ceil((_moment_of(member.turns_before, moment) - usual_s) / pace_s) * pace_s)

    def _others(self, member: _Member, undecided: list[_Member], usual_s: float, moment: float) -> Iterator[Choice]:
        """Its pasts but the likeliest, best first: each may come true, or is one of those that have all to be green for it
        to overtake. undecided: those ahead of it."""
        if member.blocks:
            self._hold_until(member, moment)
        if member.blocks and (gain := self._probe(member)) > 0.0:
            known = self._ask(0, member.change)
            if known.standing is Standing.UNBUILT or len(known.runs) < len(known.assessment.open):
                yield self._beside(member, known, 0, self._state_of(known)[1], gain)
        found: dict[int, float] = {}
        # Just in time: before those ahead are about to be decided nothing can land by it, and it may still turn out useless.
        may_turn = member.path >= OTHER_CHANCE and not (member.blocks and len(undecided) > COVER_AT_MOST)
        last = _last(undecided)
        decided_at = _moment_of(last, moment)
        if may_turn and moment + usual_s < decided_at:
            member.turns_before = last
            self._hold_until(member, NEVER if last[1] > usual_s else last[0] - usual_s)
        elif may_turn:
            # Who is suspected of a red batch stays out: with it in again the batch would be red again.
            turns = sorted(
                (_turn_cost(other.lands), other.bit)
                for other in undecided
                if other.change.id not in member.change.depends and not self._suspicion(other.at, member.at)
            )
            for cost, bits in _best_turns([cost for cost, _ in turns], [bit for _, bit in turns], member.path):
                assumed = self._closed(member.assumed ^ bits, member.direct & self.undecided)
                found[assumed] = max(member.path * cost, found.get(assumed, 0.0))
        covers = self._blocker_covering if member.blocks else self._covering
        for assumed, chance in covers(member, undecided, usual_s, moment):
            if assumed != member.assumed or member.state is _State.FAR:
                found[assumed] = max(chance, found.get(assumed, 0.0))
        fine = (member.forecast or _DEFAULT).chance
        for chance, assumed in sorted(((chance, assumed) for assumed, chance in found.items()), reverse=True):
            if chance < KEEP_CHANCE:
                return
            known = self._ask(assumed, member.change)
            state, parts = self._state_of(known)
            if state is _State.RUNNING or (state is _State.UNKNOWN and chance >= OTHER_CHANCE):
                gain = chance * fine * (self._sticks if state is _State.RUNNING else 1.0)
                yield self._beside(member, known, assumed, parts, gain)

    def _beside(self, member: _Member, known: Known, assumed: int, parts: Parts, gain: float) -> Choice:
        """A proposal that nothing is decided by."""
        behind = self._behind(member)
        return Choice(member.change, known.ahead, 1, False, 0.0, behind, known, self, parts, gain, assumed=assumed)

    def _covering(
        self, member: _Member, undecided: list[_Member], usual_s: float, moment: float
    ) -> Iterator[tuple[int, float]]:
        """The pasts that must all be green for the change to overtake those that will be decided long after its own runs
        could end, and for each the time that is gained for a run, as a share of what runs take, instead of the chance."""
        own_s = 0.0 if member.state is _State.GREEN else usual_s * 0.1
        soonest = moment + own_s
        depends = member.change.depends
        late = [other for other in undecided if other.decided_at(moment) > soonest and other.change.id not in depends]
        for other in late:
            if other.rest_s <= own_s:
                self._hold_until(member, other.ends_at - own_s)
        if not late or len(late) > COVER_AT_MOST:
            return
        early = [other for other in undecided if other not in late]
        path = 1.0
        for other in early:
            path *= max(other.lands, 1.0 - other.lands)
        if path < START_CHANCE:
            return
        bits = [other.bit for other in late]
        shared = member.assumed & ~sum(bits)
        (ends_at, rest_s), missing = _last(early), 0
        pasts: list[int] = []
        begun = False
        for some in self._pasts(bits, shared):
            state, parts = self._state_of(self._ask(shared | some, member.change))
            if state in (_State.RED, _State.OUT):
                return
            end = _end(parts)
            ends_at, rest_s = max(ends_at, end[0]), max(rest_s, end[1])
            missing += state is _State.UNKNOWN
            begun = begun or (state is _State.RUNNING and shared | some != member.assumed)
            if state is not _State.GREEN:
                pasts.append(shared | some)
        gain_s, until = _gain_s(_last(late), (ends_at, rest_s), moment)
        self._hold_until(member, until)
        if gain_s < 0:
            return
        if missing or not begun:
            # Where one of them does other than expected, all of a run is saved.
            surprise = 1.0
            for other in late:
                surprise *= max(other.lands, 1.0 - other.lands)
            gain_s += (1.0 - surprise) * usual_s
            if gain_s < COVER_GAIN * usual_s:
                return
        worth = min(1.0, path * gain_s / usual_s / max(1, missing))
        yield from ((past, worth) for past in pasts)

    def _blocker_covering(
        self, member: _Member, undecided: list[_Member], usual_s: float, moment: float
    ) -> Iterator[tuple[int, float]]:
        """The same for one behind which many wait: red with all of these pasts settles it, too, and is worth as much to
        them. It overtakes those that will be decided last, once the others are as good as decided."""
        if self._depends_on(member, member.direct & self.undecided):
            return
        late = self._those(self._begun_cover(member)[0])
        if not late:
            if member.red_alone >= RED_CHANCE:
                return  # it is asked by itself
            others = sorted(undecided, key=lambda one: (-one.decided_at(moment), one.at))
            if len(others) > COVER_AT_MOST and others[COVER_AT_MOST].decided_at(moment) > moment + usual_s:
                self._wake(member, others[COVER_AT_MOST].decided_at(moment) - usual_s, usual_s)
                return
            late = others[:COVER_AT_MOST]
        path, shared = 1.0, member.direct & self.ready
        ends_at = moment
        for other in undecided:
            if other in late:
                continue
            path *= max(other.lands, 1.0 - other.lands)
            shared |= other.bit if other.lands >= 0.5 else 0
            ends_at = max(ends_at, other.decided_at(moment))
        pasts: list[int] = []
        states: list[_State] = []
        for some in self._pasts([other.bit for other in late], shared):
            state, parts = self._state_of(self._ask(shared | some, member.change))
            states.append(state)
            ends_at = max(ends_at, moment + longest_s(parts, moment))
            if state in (_State.UNKNOWN, _State.RUNNING):
                pasts.append(shared | some)
        if _State.OUT in states or (_State.GREEN in states and _State.RED in states):
            return
        if path < (START_CHANCE if _State.RUNNING in states else BLOCKER_PATH):
            return
        gain_s = max([other.decided_at(moment) for other in late]) - ends_at
        if gain_s >= COVER_GAIN * usual_s or _State.RUNNING in states:
            chance = path * max(COVER_GAIN, gain_s / usual_s) * (1 + BLOCKS) / max(1, states.count(_State.UNKNOWN))
            yield from ((past, min(1.0, chance)) for past in pasts)

    def _blocking(self, member: _Member) -> tuple[object, ...]:
        """What is thought of others of one that blocks them rests on this, too."""
        return self._begun_cover(member), self._probe(member), member.red_alone >= RED_CHANCE

    def _probe(self, member: _Member) -> float:
        """What it is worth to run one that blocks others on trunk as it is, with nothing ahead, see decision 0014: the
        chance that it is red, and so decided, for as many as it blocks. 0: nothing, or an earlier trunk is to tell."""
        undecided = member.direct & self.undecided
        if undecided.bit_count() <= COVER_AT_MOST or member.direct & self.ready or self._depends_on(member, undecided):
            return 0.0
        red = member.red_alone
        if red < RED_CHANCE:
            return 0.0
        view, change = self._view, member.change
        for candidate in view.alone(change):
            if candidate.base != view.snapshot.trunk:
                found = view.assess(candidate, change.evidence_from)
                if found.standing is Standing.RED or any(need.key in view.running for need in found.open):
                    return 0.0
        return red * (1 + BLOCKS)

    def _red_alone(self, member: _Member) -> float:
        """The chance that it is red on trunk with nothing ahead: it is at fault, or breaks with one that landed since."""
        view, change = self._view, member.change
        if any(view.assess(each, change.evidence_from).standing is Standing.RED for each in view.alone(change)):
            return 1.0
        found = member.finding or _NOTHING
        fine: float = self._chance(member) ** (1.0 - self._share_of_green(member))
        return 1.0 - fine * (1.0 - self._outlook.clash) ** len(found.met - found.clean_with)

    def _by_themselves(self, view: View) -> Iterator[tuple[ChangeId, float]]:
        """Those that block others, and are most likely red whoever of those ahead lands: they are judged by their own runs,
        which go on when trunk moves. And what these are worth."""
        for member in self._order:
            if member.blocks and member.direct & self.undecided and member.red_alone >= RED_CHANCE:
                id_ = member.change.id
                runs = [run for run in self._runs_of.get(id_, ()) if run.changes == (id_,)]
                parts = tuple([(self._usual_s(member.change), run.started_at) for run in runs])
                gain = member.red_alone * (1 + BLOCKS) * self._sticks
                yield id_, min(MOST_WORTH, self.weight(member.change) * gain / max(1.0, left_s(parts, view.now)))

    def _begun_cover(self, member: _Member) -> tuple[int, float]:
        """In whose outcomes the pasts of it differ of which runs are under way that began together, and when they did; none
        and 0 where it overtakes nobody yet."""
        begun: dict[float, list[int]] = {}
        for run in self._runs_of.get(member.change.id, ()):
            ahead = [change for change in run.changes[:-1] if change in self._view.waiting]
            if all(map(self._meddling.knows, ahead)):
                begun.setdefault(run.started_at, []).append(sum(map(self._meddling.bit, ahead)))
        if not begun:
            return 0, 0.0
        began_at = max(begun, key=lambda at: (len(begun[at]), at))
        some = every = begun[began_at][0]
        for past in begun[began_at]:
            some, every = some | past, every & past
        late = some & ~every & member.direct & self.undecided
        return (late, began_at) if 0 < late.bit_count() <= COVER_AT_MOST else (0, 0.0)

    def _under_way(self, member: _Member) -> Iterator[Choice]:
        """What runs may go on where nothing else wants its worker, as long as what it assumes may still come true."""
        for run in self._runs_of.get(member.change.id, ()):
            ahead = [change for change in run.changes[:-1] if change in self._view.waiting]
            for change in ahead:
                if not self._meddling.knows(change) or self._meddling.position(change) > member.at:
                    self._await(change, member)
            if not all(map(self._meddling.knows, ahead)):
                continue
            assumed = sum([self._meddling.bit(change) for change in ahead])
            for at in positions(assumed & ~member.direct & (member.bit - 1)):
                self._note_reader(at, member)
            if assumed == member.assumed or assumed >> member.at:
                continue
            if assumed & ~(self.undecided | self.ready) or member.direct & self.ready & ~assumed:
                continue  # it cannot come true any more
            known = self._ask(assumed, member.change)
            if any(need.key == run.key for need in known.needs or ()):
                parts = ((self._usual_s(member.change), run.started_at),)
                chance = 1.0
                for other in self._those(member.direct & self.undecided):
                    chance *= other.lands if assumed & other.bit else 1.0 - other.lands
                yield self._beside(member, known, assumed, parts, self._sticks * max(GOES_ON, chance))


# When something will have ended: at a moment, or after a rest of so many seconds if that is later.


def _end(parts: Parts) -> tuple[float, float]:
    """Of these runs, with workers enough."""
    ends_at = rest_s = 0.0
    for takes, began in parts:
        if began is None:
            rest_s = max(rest_s, takes)
        else:
            ends_at, rest_s = max(ends_at, began + takes), max(rest_s, takes * 0.1)
    return ends_at, rest_s


def _last(members: Sequence[_Member]) -> tuple[float, float]:
    """When all of these will be decided; at once if they are none."""
    if not members:
        return 0.0, 0.0
    return max([member.ends_at for member in members]), max([member.rest_s for member in members])


def _moment_of(end: tuple[float, float], now: float) -> float:
    return max(end[0], now + end[1])


def _gain_s(late: tuple[float, float], soon: tuple[float, float], now: float) -> tuple[float, float]:
    """By how much one end is later than the other, and until when that stays as it is."""
    moves = late[0] <= now + late[1], soon[0] <= now + soon[1]
    if all(moves):
        return late[1] - soon[1], NEVER
    if any(moves):
        return _moment_of(late, now) - _moment_of(soon, now), now
    return late[0] - soon[0], min(late[0] - late[1], soon[0] - soon[1])


def _is_among(choice: Choice, alternates: Sequence[Choice], asked: set[Choice]) -> bool:
    return any(other.assumed == choice.assumed and other in asked for other in alternates)


def _pace_s(usual_s: float) -> float:
    """How long a thought of the future of a change holds whose runs usually take so long."""
    return float(2.0 ** floor(log2(max(1.0, usual_s / LOOKS_PER_RUN))))


def _line_of(change: Change) -> Line:
    return change.touches, change.mends_gate


def _setting(view: View) -> tuple[object, ...]:
    """What every change depends on."""
    snapshot, outlook = view.snapshot, view.snapshot.outlook
    return (
        snapshot.per_change,
        snapshot.every_commit,
        snapshot.workers,
        snapshot.batch,
        outlook.clash,
        outlook.after_fine,
        outlook.after_bad,
        _durations(outlook),
    )


def _durations(outlook: Outlook) -> dict[CheckName, float]:
    """Of the checks, in steps of 5 %: they move a little with every run that ends, and all changes rest on them."""
    return {
        check: exp(round(log(takes_s) * 20) / 20) if takes_s > 0 else 0.0 for check, takes_s in outlook.durations.items()
    }


def _turn_cost(lands: float) -> float:
    """-log of how much less likely the other outcome of a change is."""
    return log(max(lands, 1.0 - lands) / max(min(lands, 1.0 - lands), 1e-9))


def _best_turns(costs: list[float], bits: list[int], path: float) -> Iterator[tuple[float, int]]:
    """Sets of outcomes that differ from the likeliest ones, with how much less likely they are; lazily, best first.

    costs: ascending. The k best subsets in O(k log k): each is followed by itself with the next item added, and by itself
    with its last item replaced by the next (as in uber/submitqueue's generator).
    """
    if not costs:
        return
    most = log(path / KEEP_CHANCE) if path > KEEP_CHANCE else 0.0
    heap = [(costs[0], 0, bits[0])]
    while heap:
        cost, last, chosen = heappop(heap)
        if cost > most:
            return
        yield exp(-cost), chosen
        if last + 1 < len(costs):
            heappush(heap, (cost + costs[last + 1], last + 1, chosen | bits[last + 1]))
            heappush(heap, (cost - costs[last] + costs[last + 1], last + 1, chosen ^ bits[last] | bits[last + 1]))


def _subsets(bits: list[int]) -> Iterator[int]:
    for choice in range(1 << len(bits)):
        yield sum([bit for at, bit in enumerate(bits) if choice >> at & 1])


def _after_dependencies(changes: Sequence[Change], waiting: Iterable[ChangeId]) -> Iterator[Change]:
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
    for choice in worthwhile(view):
        assert isinstance(choice, Choice)
        if choice.is_main:
            yield Proposal(choice.change, choice.ahead, settles=choice.settles)
