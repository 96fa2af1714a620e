"""What is known of the needs of each waiting change, by what is assumed ahead of it. Pure, but for the memory it is.

A need's key depends only on content, so what was learned of a change on top of some others stays true when one of these
lands, and when something lands that does not meddle with it.
"""

from collections.abc import Callable, Iterable, Mapping

from ci.model import InputKey
from gate.model import Assumption, Candidate, Change, ChangeId, Need, Trials


class TrialBook:
    """The needs of candidates by their last change and the assumption that they make. Forgets what a landing belies.

    The mapping of a change is never altered: another takes its place, so whoever has it need not look into it again.
    """

    def __init__(self) -> None:
        self._trials: dict[ChangeId, dict[Assumption, tuple[Need, ...]]] = {}

    @property
    def trials(self) -> Trials:
        return self._trials

    def note(
        self,
        candidate: Candidate,
        needs: Iterable[Need],
        tested: Iterable[Change],
        is_green: Callable[[InputKey], bool],
        ahead: Iterable[Change] = (),
    ) -> None:
        """A candidate was merged. tested: the last ``together`` changes of it. is_green: of checks that they do not touch,
        those which nobody has ever seen green are theirs, too, for somebody has to have them run. ahead: the other changes
        of it, who see to what they touch themselves."""
        touched = frozenset[str]().union(*(change.touches for change in tested))
        change = candidate.entries[-1][0]
        theirs = frozenset[str]().union(*(other.touches for other in ahead))
        own = tuple(
            need for need in needs if need.check.name in touched or not (need.check.name in theirs or is_green(need.key))
        )
        self._trials[change] = {**self._trials.get(change, {}), candidate.assumption: own}

    def drop(self, candidate: Candidate) -> None:
        """A candidate turned out not to merge, though nothing that landed told of it."""
        self._leave_out(candidate.entries[-1][0], lambda assumption: assumption == candidate.assumption)

    def move(self, landed: Iterable[Change], waiting: Mapping[ChangeId, Change]) -> None:
        """These changes have landed: what assumed them lasts; what did not, and meddles with them, is forgotten.

        waiting: every change that still waits. The others are forgotten.
        """
        news = {change.id: change for change in landed}
        for id_ in [*self._trials]:
            change = waiting.get(id_)
            if change is None:
                del self._trials[id_]
                continue
            meddling = {other.id for other in news.values() if change.meddles_with(other)}
            assumed = self._trials[id_]
            if not meddling and not any(not ahead.isdisjoint(news) for ahead, _ in assumed):
                continue
            self._trials[id_] = {
                (ahead.difference(news), together): needs
                for (ahead, together), needs in assumed.items()
                if meddling <= ahead and (together == 1 or ahead.isdisjoint(news))
            }

    def forget(self, change: ChangeId | None = None) -> None:
        """A change has a new revision or a verdict; None: trunk was moved by somebody else, or policy has changed."""
        if change is None:
            self._trials.clear()
            return
        self._trials.pop(change, None)
        for id_ in self._trials:
            self._leave_out(id_, lambda assumption: change in assumption[0])

    def _leave_out(self, change: ChangeId, is_old: Callable[[Assumption], bool]) -> None:
        assumed = self._trials.get(change, {})
        if any(map(is_old, assumed)):
            self._trials[change] = {assumption: needs for assumption, needs in assumed.items() if not is_old(assumption)}
