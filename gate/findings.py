"""What finished runs have told of the waiting changes, beyond the keys they were for. Folded from starts and ends of runs.

A key says what is known of one tree; a finding says what that makes likely of others: a change that was green anywhere is
most likely fine, and two that were green together do not break each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ci.model import CheckName, Outcome, RunId
from gate.model import Change, ChangeId, Finding

RED_AT_MOST = 8  # red runs remembered of a change


class FindingBook:
    """Findings by change. Forgets a change when told."""

    def __init__(self) -> None:
        self._found: dict[ChangeId, Finding] = {}
        self._runs: dict[RunId, tuple[CheckName, tuple[ChangeId, ...], frozenset[ChangeId]]] = {}  # and met by its last

    @property
    def findings(self) -> Mapping[ChangeId, Finding]:
        return self._found

    def begin(self, run: RunId, check: CheckName, changes: tuple[ChangeId, ...]) -> None:
        """changes: of the candidate, in order. A run of trunk itself tells nothing of a change."""
        if changes:
            self._runs[run] = (check, changes, self._found.get(changes[-1], NOTHING).met)

    def end(self, run: RunId, outcome: Outcome | None) -> None:
        check, changes, met = self._runs.pop(run, (None, (), frozenset[ChangeId]()))
        if check is None or outcome is None or outcome is Outcome.INFRASTRUCTURE:
            return
        known = self._found.get(changes[-1], NOTHING)
        others = frozenset(changes[:-1])
        if outcome is Outcome.GREEN:
            found = replace(known, green=known.green | {check}, clean_with=known.clean_with | others | met)
        elif others in known.red_with:
            return
        else:
            found = replace(known, red_with=(*known.red_with, others)[-RED_AT_MOST:])
        self._found[changes[-1]] = found

    def land(self, landed: Sequence[Change], waiting: Iterable[Change]) -> None:
        """These changes have landed: the waiting ones that meddle with them have met them on trunk."""
        for change in waiting:
            met = frozenset(other.id for other in landed if change.meddles_with(other))
            if met:
                known = self._found.get(change.id, NOTHING)
                self._found[change.id] = replace(known, met=known.met | met)

    def forget(self, changes: Iterable[ChangeId]) -> None:
        """They have a verdict, or another revision: nothing is known of them any more."""
        for change in changes:
            self._found.pop(change, None)


NOTHING = Finding()
