"""What is known of each change on top of some others, kept from one plan to the next. Pure, but for the memory it is.

A plan asks the same questions again and again, and little of what it is told alters between two. So each answer is kept
together with the facts that it rests on, and at the next plan these facts are looked up again, all at once: where one
differs, the answer is given anew. Nobody has to tell what has happened, and a plan that remembers nothing is the same.
"""

from collections.abc import Iterable, Iterator, Mapping

from ci.model import InputKey, Sha
from gate.model import (
    Assumption,
    Candidate,
    Change,
    ChangeId,
    Entry,
    Evidence,
    Need,
    Running,
    Snapshot,
    Trials,
    Unmerged,
)
from gate.view import NEVER, Assessment, Known, Standing, View

_NONE: Mapping[Assumption, "Known"] = {}
_UNBUILT = Assessment(Standing.UNBUILT)
_UNMERGED = Assessment(Standing.UNMERGED)


class Knowledge:
    """Answers of ``at``, kept. One for each queue; ``follow`` comes before all other calls of a plan."""

    def __init__(self) -> None:
        self._by_change: dict[ChangeId, dict[Assumption, Known]] = {}
        self._before: dict[ChangeId, dict[Assumption, Known]] = {}  # of changes that are looked at anew
        self._waiting: dict[ChangeId, Change] = {}
        self._trials: dict[ChangeId, Mapping[Assumption, tuple[Need, ...]] | None] = {}
        self._running: dict[InputKey, Running] = {}
        self._merges_seen: tuple[Sha, int, list[Candidate]] | None = None
        self._next_at = NEVER  # the first moment when time alone makes an answer old
        self._lay_out(())

    def follow(self, view: View) -> set[ChangeId]:
        """Take over the facts as they are now. Returns the changes of which something else is known than before."""
        self._view = view
        altered = self._drop_the_gone(view)
        if self._old > len(self._kept) // 2:
            self._lay_out([known for known in self._kept if known.is_current])
        snapshot = view.snapshot
        doubtful = {*self._tried(snapshot.trials), *self._merged(snapshot), *self._learned(snapshot.evidence)}
        doubtful.update(self._begun_and_ended(view.running))
        is_due = view.now >= self._next_at
        if is_due:
            doubtful.update(known for known in self._kept if known.alters_at <= view.now)
        for known in doubtful:
            if known.is_current and self._is_replaced(known):
                altered.add(known.change.id)
        if is_due:
            self._next_at = min([known.alters_at for known in self._kept if known.is_current], default=NEVER)
        return altered

    def at(self, change: Change, ahead: tuple[Entry, ...], assumption: Assumption) -> Known:
        """What is known of the change on top of these, as of now. assumption: what Candidate.assumption is for them."""
        known = self._by_change.get(change.id)
        if known is None:
            known = self._by_change[change.id] = {}
            self._trials.setdefault(change.id, self._view.snapshot.trials.get(change.id))
        found = known.get(assumption)
        if found is None or found.ahead != ahead:
            found = self._before.get(change.id, _NONE).get(assumption)
            if found is None or found.change is not change or found.ahead != ahead:
                found = self._ask(change, ahead, assumption)
                self._keep_watch(found)
            known[assumption] = found
        if found.objection is not None or self._view.is_stacked:
            found.objection = self._view.objection(change, ahead)  # others that come and go may alter it
        return found

    def renew(self, change: ChangeId) -> None:
        """The change is looked at anew: what is not asked for until the end of this plan is forgotten."""
        known = self._by_change.pop(change, None)
        if known is not None:
            self._before[change] = known

    def keep(self, known: Known) -> None:
        """As if it had been asked for again."""
        self._by_change.setdefault(known.change.id, {}).setdefault(known.assumption, known)

    def finish(self) -> None:
        """Nothing more is asked for in this plan."""
        for change, before in self._before.items():
            kept = self._by_change.get(change, _NONE)
            for assumption, known in before.items():
                if kept.get(assumption) is not known:
                    self._retire(known)
        self._before = {}

    def _ask(self, change: Change, ahead: tuple[Entry, ...], assumption: Assumption) -> Known:
        view = self._view
        trials = view.snapshot.trials.get(change.id)
        needs = None if trials is None else trials.get(assumption)
        if needs is not None:
            assessed = view.assess_needs(needs, change.evidence_from)
            return Known(change, ahead, assumption, needs, assessed, view, is_trial=True)
        outcome = view.snapshot.merges.get(Candidate(view.snapshot.trunk, (*ahead, change.entry), assumption[1]))
        if outcome is None:
            return Known(change, ahead, assumption, None, _UNBUILT, view, is_trial=False)
        if isinstance(outcome, Unmerged):
            return Known(change, ahead, assumption, None, _UNMERGED, view, is_trial=False)
        assessed = view.assess_needs(outcome.needs, change.evidence_from)
        return Known(change, ahead, assumption, outcome.needs, assessed, view, is_trial=False)

    def _is_replaced(self, known: Known) -> bool:
        """Ask again. False: the answer is the same."""
        anew = self._ask(known.change, known.ahead, known.assumption)
        if (anew.needs, anew.assessment, anew.runs, anew.alters_at) == (
            known.needs,
            known.assessment,
            known.runs,
            known.alters_at,
        ) and anew.is_trial is known.is_trial:
            return False
        self._retire(known)
        self._by_change[known.change.id][known.assumption] = anew
        self._keep_watch(anew)
        return True

    def _retire(self, known: Known) -> None:
        known.is_current = False
        self._old += 1

    # --- facts that alter

    def _drop_the_gone(self, view: View) -> set[ChangeId]:
        """Whatever speaks of a change that left, or has become another. Returns those that it was known of."""
        if view.waiting is self._waiting:
            return set()
        before, now = self._waiting, view.waiting
        gone = {id_ for id_, change in before.items() if now.get(id_) is not change and now.get(id_) != change}
        self._waiting = view.waiting
        altered: set[ChangeId] = set()
        if not gone:
            return altered
        for id_, kept in [*self._by_change.items()]:
            if id_ in gone:
                for known in kept.values():
                    self._retire(known)
                del self._by_change[id_]
                continue
            for assumption, known in [*kept.items()]:
                if not gone.isdisjoint(assumption[0]):
                    self._retire(known)
                    del kept[assumption]
                    altered.add(id_)
        return altered

    def _lay_out(self, kept: Iterable[Known]) -> None:
        """All that is watched, in lists, so that it can be looked up at once. What is old stays in them for a while."""
        evidence = dict(zip(self._keys, self._evidence, strict=True)) if kept else {}
        self._kept: list[Known] = []
        self._old = 0  # how many of them are
        self._untried: list[Known] = []  # those without a trial
        self._keys: list[InputKey] = []  # all keys of all needs
        self._users: dict[InputKey, list[Known]] = {}  # by key, those that have it among their needs
        self._evidence: list[Evidence | None] = []  # of each key
        self._next_at = NEVER
        for known in kept:
            self._keep_watch(known, evidence)

    def _keep_watch(self, known: Known, evidence: Mapping[InputKey, Evidence | None] | None = None) -> None:
        """evidence: that the answer rests on; None: that of now."""
        self._kept.append(known)
        if not known.is_trial:
            self._untried.append(known)
        self._next_at = min(self._next_at, known.alters_at)
        for need in known.needs or ():
            users = self._users.get(need.key)
            if users is None:
                self._users[need.key] = [known]
                self._keys.append(need.key)
                self._evidence.append((evidence or self._view.snapshot.evidence).get(need.key))
            else:
                users.append(known)

    def _tried(self, trials: Trials) -> Iterator[Known]:
        """What is known of changes with other trials than before. Those of a change are never altered, but replaced."""
        now = {id_: trials.get(id_) for id_ in self._by_change}
        before, self._trials = self._trials, now
        if now != before:
            for id_, assumed in now.items():
                was = before.get(id_)
                if assumed is not was and assumed != was:
                    yield from self._by_change[id_].values()

    def _learned(self, evidence: Mapping[InputKey, Evidence]) -> Iterator[Known]:
        """Whatever rests on a key of which something else is known now."""
        now = list(map(evidence.get, self._keys))
        if now == self._evidence:
            return
        for key, known, before in zip(self._keys, now, self._evidence, strict=True):
            if known is not before and known != before:
                yield from self._users[key]
        self._evidence = now

    def _begun_and_ended(self, running: dict[InputKey, Running]) -> Iterator[Known]:
        """Whatever rests on a key of which a run has begun or ended."""
        before = self._running
        self._running = running
        for key, run in running.items():
            was = before.get(key)
            if was is not run and was != run:
                yield from self._users.get(key, ())
        for key in before.keys() - running.keys():
            yield from self._users.get(key, ())

    def _merged(self, snapshot: Snapshot) -> Iterator[Known]:
        """What is known, or not known, from merging by itself, where somebody has merged its last change since."""
        if not self._untried:
            self._merges_seen = None
            return
        merged_all = list(snapshot.merges)
        seen, self._merges_seen = self._merges_seen, (snapshot.trunk, len(merged_all), merged_all[-1:])
        if seen == self._merges_seen:
            return
        if seen is not None and seen[0] == snapshot.trunk and len(merged_all) > seen[1]:
            fresh = merged_all[max(0, seen[1] - 1) :]
            if fresh[:1] == seen[2]:  # else some were forgotten meanwhile
                merged = {candidate.entries[-1][0] for candidate in fresh if candidate.entries}
                yield from (known for known in self._untried if known.change.id in merged)
                return
        yield from self._untried
