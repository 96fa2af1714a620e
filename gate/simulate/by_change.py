"""Results that belong to changes, as in published queues: one run per change, on top of those it meddles with.

What a run tests is told by its key: ``members|context``. members: the changes under test, one, or a batch. context: the
changes that any of them meddles with, which were submitted before it and are in the tree, the landed ones included. The
order of landing plays no part, so a change that landed ahead of an earlier one is tested as if it had come after it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ci.model import Check, CheckName, InputKey
from gate.model import Assumption, Candidate, ChangeId, Need
from gate.simulate.draws import Arrival, uniform
from gate.simulate.workloads import Workload

BUILD = Check(CheckName("build"), "true")


@dataclass(slots=True)
class _Known:
    """A change among those that were in the queue together with it, as far as they meddle with it.

    earlier, later: by submission. Those that had landed before it was submitted are not here: it was written on top of them.
    """

    arrival: Arrival
    earlier: set[ChangeId] = field(default_factory=set)
    later: set[ChangeId] = field(default_factory=set)
    landed_earlier: set[ChangeId] = field(default_factory=set)
    landed_later: set[ChangeId] = field(default_factory=set)
    foes: set[ChangeId] = field(default_factory=set)  # with which it breaks, though each is fine by itself
    needs: dict[frozenset[ChangeId], Need] = field(default_factory=dict)  # by context, of it as the only member


class ByChange:
    """The content of trunk and of every candidate, and the truth about them."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._seed = seed
        self._known: dict[ChangeId, _Known] = {}
        self._waiting_at: dict[str, set[ChangeId]] = {}  # component → who waits and takes it
        self._waiting_wide: set[ChangeId] = set()
        self._waiting: set[ChangeId] = set()

    # --- truth

    def is_fine(self, change: ChangeId) -> bool:
        return self._known[change].arrival.is_fine

    def clash(self, one: ChangeId, other: ChangeId) -> bool:
        return other in self._known[one].foes

    def duration_s(self, change: ChangeId) -> float:
        return self._known[change].arrival.duration_s

    def foes_on_trunk(self, change: ChangeId) -> set[ChangeId]:
        known = self._known[change]
        return known.foes & (known.landed_earlier | known.landed_later)

    def shows_in(self, change: ChangeId) -> float:  # noqa: ARG002 - such are other queues
        return 1.0

    # --- what happens

    def arrive(self, arrival: Arrival) -> None:
        id_ = arrival.change.id
        known = self._known[id_] = _Known(arrival, earlier=self._meddling(arrival))
        for other in known.earlier:
            self._known[other].later.add(id_)
            if uniform(self._seed, "clash", other, id_) < self._workload.clash:
                known.foes.add(other)
                self._known[other].foes.add(id_)
        self._waiting.add(id_)
        if arrival.is_wide:
            self._waiting_wide.add(id_)
            return
        for component in arrival.change.touches:
            self._waiting_at.setdefault(component, set()).add(id_)

    def _meddling(self, arrival: Arrival) -> set[ChangeId]:
        if arrival.is_wide:
            return set(self._waiting)
        return self._waiting_wide.union(*(self._waiting_at.get(component, ()) for component in arrival.change.touches))

    def leave(self, change: ChangeId) -> None:
        """It has a verdict."""
        self._known[change].needs.clear()
        self._waiting.discard(change)
        self._waiting_wide.discard(change)
        if not self._known[change].arrival.is_wide:
            for component in self._known[change].arrival.change.touches:
                self._waiting_at[component].discard(change)

    def land(self, change: ChangeId) -> set[ChangeId]:
        """Returns the changes whose trials are others now."""
        known = self._known[change]
        for other in known.later:
            self._known[other].landed_earlier.add(change)
            self._known[other].needs.clear()  # no tree is without it any more
        for other in known.earlier:
            self._known[other].landed_later.add(change)
        # Whoever was to land ahead of a change that waits still meddles with those whose context it is part of.
        altered = known.later | known.earlier
        return altered.union(*(self._known[other].earlier for other in known.later if other not in self._waiting))

    def mend(self) -> None:
        """Nobody does: with a sound planner nothing bad lands in such a queue."""

    # --- needs

    def needs_of(self, candidate: Candidate) -> tuple[Need, ...]:
        changes = [change for change, _ in candidate.entries]
        return self._needs(changes, frozenset(changes), candidate.together)

    def trial(self, change: ChangeId, assumption: Assumption) -> tuple[Need, ...]:
        """The needs that the change has a part in. Of an assumption with a batch, the latest submitted are its members."""
        ahead, together = assumption
        tested = [*sorted(ahead)[len(ahead) - (together - 1) :], change]
        return self._needs(tested, ahead | {change}, together)

    def trunk_needs(self) -> tuple[Need, ...]:
        return ()

    def _needs(self, tested: Sequence[ChangeId], tree: frozenset[ChangeId], together: int) -> tuple[Need, ...]:
        """tree: what is in it beside trunk. The last ``together`` of ``tested`` are tested by one run."""
        alone = tested if together == 1 else tested[: len(tested) - together]
        needs = [self._need_alone(change, tree) for change in alone]
        if together > 1:
            members = tested[len(tested) - together :]
            contexts = frozenset[ChangeId]().union(*(self._context(change, tree) for change in members))
            needs.append(self._need(members, contexts.difference(members)))
        if any(self._known[change].landed_later for change in tested):
            bypassed = set[ChangeId]().union(*(self._known[change].landed_later for change in tested))
            needs += [self._need_alone(later, tree) for later in sorted(bypassed)]
        return tuple(needs)

    def _context(self, change: ChangeId, tree: frozenset[ChangeId]) -> frozenset[ChangeId]:
        known = self._known[change]
        return tree & known.earlier | known.landed_earlier

    def _need_alone(self, change: ChangeId, tree: frozenset[ChangeId]) -> Need:
        known = self._known[change]
        context = self._context(change, tree)
        need = known.needs.get(context)
        if need is None:
            need = known.needs[context] = self._need((change,), context)
        return need

    def _need(self, members: Iterable[ChangeId], context: Iterable[ChangeId]) -> Need:
        return Need(BUILD, InputKey(f"{_words(members)}|{_words(context)}"))

    # --- runs

    def run_s(self, key: InputKey, tests: Sequence[str]) -> float:  # noqa: ARG002 - no test has a name here
        members, _ = _read(key)
        longest_s = max(self.duration_s(change) for change in members)
        return longest_s * (1 + self._workload.batch_cost * (len(members) - 1))

    def failures(
        self,
        key: InputKey,
        run: int,  # noqa: ARG002 - the same each time
        began: float,  # noqa: ARG002
        ended: float,  # noqa: ARG002
        tests: Sequence[str],  # noqa: ARG002
    ) -> tuple[str, ...]:
        members, context = _read(key)
        tree = members | context
        is_red = any(not self.is_fine(change) or not self._known[change].foes.isdisjoint(tree) for change in tree)
        return ("build",) if is_red else ()

    def also_green(self, key: InputKey) -> tuple[InputKey, ...]:
        """What else a green run proves: of a batch, each member by itself on top of what was before it."""
        members, context = _read(key)
        if len(members) == 1:
            return ()
        tree = frozenset(members | context)
        return tuple(self._need((change,), self._known[change].earlier & tree).key for change in sorted(members))


def _words(changes: Iterable[ChangeId]) -> str:
    return ",".join(map(str, sorted(changes)))


def _read(key: InputKey) -> tuple[set[ChangeId], set[ChangeId]]:
    """(members, context) of a key."""
    members, _, context = key.partition("|")
    return _changes(members), _changes(context)


def _changes(words: str) -> set[ChangeId]:
    return {ChangeId(int(word)) for word in words.split(",") if word}
