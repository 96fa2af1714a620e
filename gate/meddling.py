"""Who meddles with whom among the changes that wait, kept from one plan to the next: a queue alters little between two.

A set of changes is an int with one bit for each, in queue order. A change keeps its bit while it waits. Pure, but for the
memory it is: a fresh one that is told the same queue says the same, though perhaps by other bits.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import TypeVar

from ci.model import CheckName
from gate.model import Change, ChangeId, Entry

GONE_KEPT = 256  # bits of changes that have left, beyond as many as there are waiting, before all are numbered afresh

SETS_KEPT = 5_000  # of which the members are remembered

T = TypeVar("T")


class Meddling:
    """The queue as ``follow`` was last told. All sets speak of changes that wait, unless a name says otherwise."""

    def __init__(self) -> None:
        self._queue: tuple[Change, ...] = ()
        self.epoch = 0  # rises when bits are given out anew: what was kept by bit is void
        self._number_afresh(())

    def follow(self, queue: Sequence[Change]) -> tuple[Change, ...]:
        """Take over the queue as it is now, in its order. Returns the changes that have left since the last time.

        Who was ahead of these, of those that still wait, may be asked until the next time.
        """
        now = tuple(queue)
        if now == self._queue:
            return ()
        if len(self._changes) > 2 * len(now) + GONE_KEPT:
            self._number_afresh(self._queue)
        ids = {change.id for change in now}
        gone = tuple(change for change in self._queue if change.id not in ids)
        stayed = tuple(change for change in self._queue if change.id in ids)
        if now[: len(stayed)] != stayed:
            self._number_afresh(gone)
            stayed = ()
        for change in gone:
            self.present &= ~self.bit(change.id)
        for change in now[len(stayed) :]:
            self._add(change)
        self._queue = now
        return gone

    def bit(self, change: ChangeId) -> int:
        return 1 << self._position[change]

    def position(self, change: ChangeId) -> int:
        """The number of its bit."""
        return self._position[change]

    def ahead(self, change: ChangeId) -> int:
        """The waiting ones before it that it meddles with."""
        return self._ahead[self._position[change]] & self.present

    def behind(self, change: ChangeId) -> int:
        """The waiting ones after it that it meddles with."""
        return self._behind[self._position[change]] & self.present

    def near(self, change: Change) -> int:
        """The waiting ones that a change which is not among them meddles with."""
        near = 0
        for check in change.touches:
            near |= self._by_check.get(check, 0)
        for path in change.paths:
            near |= self._by_path.get(path, 0)
        for id_ in change.depends:
            if id_ in self._position:
                near |= self.bit(id_) | self.needed(id_)
        return near & self.present

    def standing_on(self, change: Change) -> int:
        """The waiting ones that share a path with it, or that it depends on directly; those behind it included."""
        near = 0
        for path in change.paths:
            near |= self._by_path.get(path, 0)
        for id_ in change.depends:
            if id_ in self._position:
                near |= self.bit(id_)
        return near & self.present

    def knows(self, change: ChangeId) -> bool:
        """It is in the queue that was told."""
        position = self._position.get(change)
        return position is not None and bool(self.present >> position & 1)

    @property
    def is_stacked(self) -> bool:
        """Some depend on others, or did when they were numbered."""
        return bool(self._dependent)

    def needed(self, change: ChangeId) -> int:
        """The waiting ones that it depends on, and those that these depend on."""
        return self._needed[self._position[change]] & self.present

    def with_needed(self, bits: int) -> int:
        """The set with all that its members depend on."""
        for position in positions(bits & self._dependent):
            bits |= self._needed[position]
        return bits & self.present

    def change(self, position: int) -> Change:
        return self._changes[position]

    def ids(self, bits: int) -> frozenset[ChangeId]:
        found = self._ids.get(bits)
        if found is None:
            found = frozenset([change.id for change in chosen(self._changes, bits)])
            _remember(self._ids, bits, found)
        return found

    def entries(self, bits: int) -> tuple[Entry, ...]:
        found = self._entries.get(bits)
        if found is None:
            found = tuple([change.entry for change in chosen(self._changes, bits)])
            _remember(self._entries, bits, found)
        return found

    def _number_afresh(self, changes: Sequence[Change]) -> None:
        self.epoch += 1
        self.present = 0
        self._changes: list[Change] = []
        self._position: dict[ChangeId, int] = {}
        self._ahead: list[int] = []  # by position; those that have left since are in it
        self._behind: list[int] = []  # likewise
        self._needed: list[int] = []  # likewise
        self._dependent = 0  # those that depend on another
        self._by_check: dict[CheckName, int] = {}
        self._by_path: dict[str, int] = {}
        self._ids: dict[int, frozenset[ChangeId]] = {}  # of sets that were asked for: most are, again and again
        self._entries: dict[int, tuple[Entry, ...]] = {}
        for change in changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        position = len(self._changes)
        bit = 1 << position
        ahead = 0
        for check in change.touches:
            known = self._by_check.get(check, 0)
            ahead |= known
            self._by_check[check] = known | bit
        for path in change.paths:
            known = self._by_path.get(path, 0)
            ahead |= known
            self._by_path[path] = known | bit
        needed = 0
        for id_ in change.depends:
            at = self._position.get(id_)  # missing: it has its verdict, or nothing is run for it
            if at is not None:
                needed |= 1 << at | self._needed[at]
        if needed:
            self._dependent |= bit
        self._changes.append(change)
        self._position[change.id] = position
        self._ahead.append(ahead | needed)
        self._behind.append(0)
        self._needed.append(needed)
        for other in positions((ahead | needed) & self.present):
            self._behind[other] |= bit
        self.present |= bit


def _remember(known: dict[int, T], bits: int, found: T) -> None:
    if len(known) >= SETS_KEPT:
        known.clear()
    known[bits] = found


def positions(bits: int) -> Iterator[int]:
    """Ascending, so in queue order."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def chosen(items: Sequence[T], bits: int) -> list[T]:
    """Those at the positions of the set, in order."""
    if bits.bit_count() * 16 < bits.bit_length():
        return [items[position] for position in positions(bits)]
    # Of a dense set all is looked at in one go, which is many times as fast as bit after bit.
    return list(compress(items, bin(bits)[:1:-1].encode().translate(_DIGITS)))


_DIGITS = bytes.maketrans(b"01", b"\0\1")


def taking_part(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Without those that no published policy knows of: drafts, unapproved ones, and what is refused before any run."""
    return tuple([change for change in changes if change.may_run and not change.holds and not change.broken])
