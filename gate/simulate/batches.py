"""Published ways of testing several changes by one run, and of finding who is to blame when it is red.

Only one run is under way for changes that meddle with each other, directly or through others; who waits meanwhile makes the
next batch. With workers to spare, changes that do not meddle are batches apart: that is more than the published gates do,
which know one queue for a repository, and better than them; ``is_apart=False`` is as published.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gate.meddling import Meddling, positions, taking_part
from gate.model import Candidate, Change, ChangeId, Unmerged, Verdict
from gate.view import Assessment, Proposal, Standing, View

SIZE_STOP = 8  # of batch-stop-4, as in the comparisons of Beheshtian et al. 2021
HISTORY = 100  # newest verdicts that a dynamic size is chosen from, as Bavand and Rigby 2021 do
SIZE_FIRST = 4  # of a dynamic batch as long as nothing has a verdict, likewise
SIZE_MOST = 20  # of a dynamic batch, likewise

Size = Callable[[Sequence[bool]], int | None]
"""The most changes in a new batch; None: all that wait. Asked with the last verdicts, oldest first: True was a refusal."""
Split = Callable[[int], tuple[int, ...]]
"""The sizes of the parts that a red batch of this many changes, at least 2, is tested in."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """is_part: of a red one. Such a one stays as it is; another may still grow as long as it does not run."""

    changes: tuple[ChangeId, ...]
    is_part: bool = False


class Batches:
    """Forms batches of those that wait, tests one at a time, and splits what is red. Remembers what it has split."""

    def __init__(self, size: Size, split: Split, *, is_apart: bool = True) -> None:
        self._size = size
        self._most = size(())
        self._split = split
        self._is_apart = is_apart
        self.meddling = Meddling()
        self._batches: list[_Batch] = []  # no change of one meddles with one of a later batch that is before it in the queue
        self._red: set[ChangeId] = set()  # found to be red alone
        self._refusals: deque[bool] = deque(maxlen=HISTORY)

    def __call__(self, view: View) -> Iterator[Proposal]:
        gone = self.meddling.follow(taking_part(view.queue))
        self._note_verdicts(view, gone)
        undecided = deque(self._still_waiting(view))
        batches: list[_Batch] = []
        taken = 0  # the changes that are in a batch
        while undecided:
            batch = undecided.popleft()
            bits = self._bits(batch)
            if self._is_blocked(bits, taken):
                batches.append(batch)
                taken |= bits
                continue
            assessment = self._assess(view, bits)
            if assessment.leaves and len(batch.changes) > 1:
                undecided.extendleft(reversed(self._parts(batch)))
                continue
            if not batch.is_part and not _has_begun(view, assessment):
                continue  # nobody has worked on it yet: more may join it
            taken |= bits
            batches.append(batch)
            yield self._propose(view, bits, assessment)
        for bits in self._new_batches(taken):
            assessment = self._assess(view, bits)
            batches.append(_Batch(tuple(self.meddling.change(position).id for position in positions(bits))))
            if not assessment.leaves or bits.bit_count() == 1:
                yield self._propose(view, bits, assessment)
        self._batches = batches

    def _note_verdicts(self, view: View, gone: Sequence[Change]) -> None:
        for change in gone:
            verdict = view.snapshot.decided.get(change.id)
            self._refusals.append(change.id in self._red if verdict is None else verdict is not Verdict.LANDED)
            self._red.discard(change.id)
        if gone:
            self._most = self._size(tuple(self._refusals))

    def _still_waiting(self, view: View) -> Iterator[_Batch]:
        for batch in self._batches:
            if left := tuple(id_ for id_ in batch.changes if id_ in view.waiting):
                yield _Batch(left, batch.is_part)

    def _bits(self, batch: _Batch) -> int:
        bits = 0
        for id_ in batch.changes:
            bits |= self.meddling.bit(id_)
        return bits

    def _is_blocked(self, bits: int, taken: int) -> bool:
        if not self._is_apart:
            return taken != 0
        return any(self.meddling.ahead(self.meddling.change(at).id) & taken for at in positions(bits))

    def _assess(self, view: View, bits: int) -> Assessment:
        candidate = self._candidate(view, bits)
        outcome = view.snapshot.merges.get(candidate)
        if outcome is None:
            # Nothing will ever be known of it when one of the first does not merge on top of those before.
            parts = (Candidate(candidate.base, candidate.entries[:count]) for count in range(1, len(candidate.entries)))
            is_hopeless = any(isinstance(view.snapshot.merges.get(part), Unmerged) for part in parts)
            return Assessment(Standing.UNMERGED if is_hopeless else Standing.UNBUILT)
        if isinstance(outcome, Unmerged):
            return Assessment(Standing.UNMERGED)
        return view.assess_needs(outcome.needs, view.waiting[candidate.entries[-1][0]].evidence_from)

    def _parts(self, batch: _Batch) -> list[_Batch]:
        parts: list[_Batch] = []
        begin = 0
        for size in self._split(len(batch.changes)):
            parts.append(_Batch(batch.changes[begin : begin + size], is_part=True))
            begin += size
        return parts

    def _propose(self, view: View, bits: int, assessment: Assessment) -> Proposal:
        candidate = self._candidate(view, bits)
        change = view.waiting[candidate.entries[-1][0]]
        if assessment.leaves:
            self._red.add(change.id)
        else:
            self._red.discard(change.id)
        return Proposal(change, candidate.entries[:-1], candidate.together)

    def _candidate(self, view: View, bits: int) -> Candidate:
        """All of them, tested by one run."""
        entries = self.meddling.entries(bits)
        return Candidate(view.snapshot.trunk, entries, len(entries) if view.snapshot.per_change else 1)

    def _new_batches(self, taken: int) -> list[int]:
        """Who is in no batch and meddles with nobody ahead who has to wait, grouped by who meddles with whom."""
        groups: list[int] = []
        fresh = 0
        blocked = 0
        for position in positions(self.meddling.present & ~taken):
            bit = 1 << position
            ahead = self.meddling.ahead(self.meddling.change(position).id)
            if ahead & (taken | blocked) or (taken and not self._is_apart):
                blocked |= bit
                continue
            fresh |= bit
            if self._is_apart and not ahead & fresh:
                groups.append(bit)
                continue
            joined = [group for group in groups if not self._is_apart or group & ahead]
            for group in joined:
                groups.remove(group)
                bit |= group
            groups.append(bit)
        return sorted((self.first_batch(group) for group in groups), key=lambda bits: bits & -bits)

    def first_batch(self, bits: int) -> int:
        """Of these, which meddle with each other, the ones to test now."""
        while self._most is not None and bits.bit_count() > self._most:
            bits ^= 1 << (bits.bit_length() - 1)
        return bits


def _has_begun(view: View, assessment: Assessment) -> bool:
    return assessment.standing is not Standing.UNBUILT and (
        not assessment.open or any(need.key in view.running for need in assessment.open)
    )


# --- the published sizes and splits -------------------------------------------------------------------------------------


def bisecting(*, is_apart: bool = True) -> Batches:
    """bors-ng: all that wait make a batch; a red one is split into halves, and both are tested, the first one first.

    Source: bors-ng, lib/worker/batcher.ex and batcher/divider.ex.
    """
    return Batches(lambda _: None, halves, is_apart=is_apart)


def fours() -> Batches:
    """Batches of at most 4; the members of a red one are tested one by one (Dorfman 1943; Batch4 of Beheshtian et al. 2021).

    A batch does not wait for 4 to be there: the studies know no empty queue, a gate does.
    """
    return Batches(lambda _: 4, singles)


def stopping_at_four() -> Batches:
    """BatchStop4 of Beheshtian et al. 2021: halves as long as more than 4 are left, then one by one."""
    return Batches(lambda _: SIZE_STOP, halves_above_four)


def dynamic_in_four() -> Batches:
    """Dynamic size with BatchDivide4, Bavand and Rigby 2021: a red batch is split into 4 parts, then as BatchStop4.

    They read the size for a failure rate from a table; here it is the one with the fewest runs per change expected.
    """
    return Batches(size_for_history, quarters)


def halves(count: int) -> tuple[int, ...]:
    return count // 2, count - count // 2


def singles(count: int) -> tuple[int, ...]:
    return (1,) * count


def halves_above_four(count: int) -> tuple[int, ...]:
    return singles(count) if count <= 4 else halves(count)


def quarters(count: int) -> tuple[int, ...]:
    """4 parts of a batch above 10, whose parts then have at most 5; 2 of one of 6 to 10; else one by one."""
    if count > 10:
        return tuple((count + part) // 4 for part in range(4))
    return halves(count) if count > 5 else singles(count)


def size_for_history(refusals: Sequence[bool]) -> int:
    """The size for the failure rate of the last verdicts, where the n-th newest counts 1/n."""
    if not refusals:
        return SIZE_FIRST
    newest_first = refusals[::-1]
    weights = [1 / (age + 1) for age in range(len(newest_first))]
    rate = sum(weight for weight, refused in zip(weights, newest_first, strict=True) if refused) / sum(weights)
    return min(range(1, SIZE_MOST + 1), key=lambda size: runs_expected(size, rate, quarters) / size)


def runs_expected(size: int, rate: float, split: Split) -> float:
    """Runs until all of a batch have a verdict, its first included, when each change is red with this chance by itself.

    A part is run when the whole that it is of is red; so the chance of each run is known without the outcomes of the others.
    """
    if size == 1:
        return 1.0
    red = 1 - (1 - rate) ** size
    return 1.0 + sum(red + _runs_below(part, rate, split) for part in split(size))


def _runs_below(size: int, rate: float, split: Split) -> float:
    return 0.0 if size == 1 else runs_expected(size, rate, split) - 1.0
