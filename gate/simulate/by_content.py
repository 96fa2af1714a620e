"""Results that belong to the content of a check's inputs, as in the gate itself.

A key is the check and a number for the set of all changes in the tree that touch its inputs, whoever of them has landed:
equal content has equal keys, in whatever order it came to be. The number of a set is that of its members, joined by
exclusive or (Zobrist), so that a key is made from what was added, and not from the whole tree.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from ci.model import CheckName, InputKey
from gate.model import Assumption, Candidate, ChangeId, Need
from gate.simulate.accidents import Accidents
from gate.simulate.draws import Arrival, Fault, Suite, suites, uniform
from gate.simulate.workloads import Workload

Faults = frozenset[Fault]
NUMBERS = 1 << 60  # of sets of changes: two sets of one simulation hardly ever share one


@dataclass(slots=True)
class _Known:
    arrival: Arrival
    number: int
    foes: dict[ChangeId, Fault] = field(default_factory=dict)  # with which it breaks, though each is fine by itself


class ByContent:
    """The content of trunk and of every candidate, and the truth about them."""

    def __init__(self, workload: Workload, seed: int, checks: Iterable[Suite] | None = None) -> None:
        """checks: those of the repository; None: drawn from the seed."""
        self._workload = workload
        self._seed = seed
        self._suites = {suite.check.name: suite for suite in (suites(workload, seed) if checks is None else checks)}
        self._accidents = Accidents(workload, seed)
        self._known: dict[ChangeId, _Known] = {}
        self._waiting: dict[CheckName, set[ChangeId]] = {name: set() for name in self._suites}  # by check they touch
        self._close: dict[CheckName, set[ChangeId]] = {name: set() for name in self._suites}  # the same, by area
        self._landed: set[ChangeId] = set()
        self._trunk: dict[CheckName, int] = dict.fromkeys(self._suites, 0)
        self._trunk_faults: dict[CheckName, Faults] = dict.fromkeys(self._suites, frozenset())
        # What is wrong with the content of a key. Of keys that were never run, only those made since the landing before
        # last are kept.
        self._faults: dict[InputKey, Faults] = {}
        self._faults_before: dict[InputKey, Faults] = {}
        self._checks: dict[InputKey, CheckName] = {}
        self._run: dict[InputKey, Faults] = {}

    # --- truth

    def is_fine(self, change: ChangeId) -> bool:
        return self._known[change].arrival.is_fine

    def clash(self, one: ChangeId, other: ChangeId) -> bool:
        return other in self._known[one].foes

    def duration_s(self, change: ChangeId) -> float:
        return self._known[change].arrival.duration_s

    def foes_on_trunk(self, change: ChangeId) -> set[ChangeId]:
        return self._known[change].foes.keys() & self._landed

    def shows_in(self, change: ChangeId) -> float:
        return min((fault.odds for fault in self._known[change].arrival.faults), default=1.0)

    # --- what happens

    def arrive(self, arrival: Arrival) -> None:
        id_ = arrival.change.id
        known = self._known[id_] = _Known(arrival, number_of(self._seed, id_))
        if self._workload.clash:
            for other in set[ChangeId]().union(*(self._close[area] for area in arrival.areas)):
                if uniform(self._seed, "clash", other, id_) < self._workload.clash:
                    shared = sorted(arrival.areas & self._known[other].arrival.areas)
                    fault = Fault(shared[int(uniform(self._seed, "clashing check", other, id_) * len(shared))])
                    known.foes[other] = fault
                    self._known[other].foes[id_] = fault
        for area in arrival.areas:
            self._close[area].add(id_)
        for check in arrival.change.touches:
            self._waiting[check].add(id_)

    def leave(self, change: ChangeId) -> None:
        """It has a verdict."""
        arrival = self._known[change].arrival
        for area in arrival.areas:
            self._close[area].discard(change)
        for check in arrival.change.touches:
            self._waiting[check].discard(change)

    def land(self, change: ChangeId) -> set[ChangeId]:
        """Returns the changes whose trials are others now."""
        touches = self._known[change].arrival.change.touches
        for check in touches:
            self._trunk_faults[check] = self._faults_of(check, (change,))
            self._trunk[check] ^= self._known[change].number
        self._landed.add(change)
        self._faults_before, self._faults = self._faults, {}
        return set[ChangeId]().union(*(self._waiting[check] for check in touches))

    def mend(self) -> None:
        """Somebody puts right what is wrong with trunk, by a commit of their own."""
        for check, faults in self._trunk_faults.items():
            if faults:
                self._trunk_faults[check] = frozenset()
                self._trunk[check] ^= int(uniform(self._seed, "mend", check, self._trunk[check]) * NUMBERS)
        self._faults_before, self._faults = self._faults, {}

    # --- needs

    def trunk_needs(self) -> tuple[Need, ...]:
        return self._needs((), self._suites)

    def needs_of(self, candidate: Candidate) -> tuple[Need, ...]:
        """Of the checks that the candidate touches: the others are as on trunk."""
        tree = [change for change, _ in candidate.entries]
        return self._needs(tree, self._touched(tree))

    def trial(self, change: ChangeId, assumption: Assumption) -> tuple[Need, ...]:
        ahead, together = assumption
        tree = sorted(ahead)
        tested = [*tree[len(tree) - (together - 1) :], change]
        return self._needs([*tree, change], self._touched(tested))

    def _touched(self, changes: Iterable[ChangeId]) -> list[CheckName]:
        """In an order of their own: that of sets of words differs from process to process."""
        touched = {check for change in changes for check in self._known[change].arrival.change.touches}
        return [check for check in self._suites if check in touched]

    def _needs(self, tree: Sequence[ChangeId], checks: Iterable[CheckName]) -> tuple[Need, ...]:
        needs = []
        members = [(self._known[change].arrival.change.touches, self._known[change].number) for change in tree]
        for check in checks:
            number = self._trunk[check]
            for touches, own in members:
                if check in touches:
                    number ^= own
            key = key_of(check, number)
            if key not in self._faults:
                self._faults[key] = self._faults_of(check, tree)
                self._checks[key] = check
            needs.append(Need(self._suites[check].check, key))
        return tuple(needs)

    def _faults_of(self, check: CheckName, tree: Collection[ChangeId]) -> Faults:
        """What is wrong with the check where these are on top of trunk."""
        found: set[Fault] = set()
        for change in tree:
            known = self._known[change]
            if not known.arrival.is_fine:
                found.update(fault for fault in known.arrival.faults if fault.check == check)
            for foe, fault in known.foes.items():
                if fault.check == check and (foe in tree or foe in self._landed):
                    found.add(fault)
        return self._trunk_faults[check].union(found) if found else self._trunk_faults[check]

    # --- runs

    def run_s(self, key: InputKey, tests: Sequence[str]) -> float:
        """Asked when a run of the key starts."""
        if key not in self._run:
            found = self._faults.get(key)
            self._run[key] = self._faults_before[key] if found is None else found
        whole_s = self._suites[self._checks[key]].duration_s
        if tests:
            return self._workload.setup * 60 + whole_s * len(tests) / self._workload.tests
        if self._workload.preset != "W8" or not self._workload.jitter:
            return whole_s
        luck = min(max(uniform(self._seed, "jitter", key), 1e-9), 1 - 1e-9)
        return whole_s * math.exp(self._workload.jitter * NormalDist().inv_cdf(luck))

    def failures(self, key: InputKey, run: int, began: float, ended: float, tests: Sequence[str]) -> tuple[str, ...]:
        """The tests that failed, or the name of the check where it names no tests. run: of this key, from 0."""
        check = self._checks[key]
        failed: dict[str, None] = {}
        for fault in sorted(self._run[key], key=lambda fault: (fault.tests, fault.odds)):
            for test in fault.tests or (check,):
                if fault.odds >= 1 or uniform(self._seed, "fault", key, run, test) < fault.odds:
                    failed[test] = None
        failed |= dict.fromkeys(self._accidents.failures(key, check, run, began, ended))
        return tuple(test for test in failed if not tests or test in tests)

    def also_green(self, key: InputKey) -> tuple[InputKey, ...]:  # noqa: ARG002 - a key is the whole of its content
        return ()


def number_of(seed: int, change: ChangeId) -> int:
    """Its part in the number of a set."""
    return int(uniform(seed, "set", change) * NUMBERS)


def key_of(check: CheckName, number: int) -> InputKey:
    return InputKey(f"{check}:{number:x}")
