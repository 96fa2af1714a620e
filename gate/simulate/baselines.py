"""The published merge queues that the planner is compared with, each as a policy for the same core on the same workers.

Each is at least as good as published: all know which changes meddle with each other, and changes that do not are tested and
landed side by side. Only what to test is theirs; the rule by which trunk moves is the core's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from gate.meddling import Meddling, positions, taking_part
from gate.model import Assumption, Change, ChangeId, Verdict
from gate.simulate.batches import bisecting, dynamic_in_four, fours, stopping_at_four
from gate.simulate.oracles import BatchOracle, FreeOracle, Oracle
from gate.simulate.paths import speculating_on_all, uber_2019, uber_2025
from gate.simulate.world import Truth
from gate.view import Policy, Proposal, Standing, View

WINDOW_START = 20  # Zuul's defaults, as are the floor, the growth by 1 and the halving: zuul/model.py, ChangeQueue
WINDOW_FLOOR = 3


class Single:
    """A change is tested when all that are ahead of it and meddle with it are decided.

    The Single-Queue of "Keeping Master Green at Scale" (EuroSys 2019), where independent changes run in parallel, too.
    """

    def __init__(self) -> None:
        self._meddling = Meddling()

    def __call__(self, view: View) -> Iterator[Proposal]:
        self._meddling.follow(taking_part(view.queue))
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            if not self._meddling.ahead(change.id):
                yield Proposal(change)


class Optimistic:
    """Each change on top of all ahead that are not failing. A red one restarts those behind it, without it. As Zuul's gate.

    Zuul lets only the first changes of a shared queue be tested, in a window that grows by 1 with each landing and is halved
    with each failure. A change's shared queue is here the changes ahead that it meddles with, directly or through others;
    of windows there is one, for there is one trunk. One window over all that wait would keep Zuul, which has a queue of its
    own for independent projects, from using more than some 20 workers. ``window`` None: none at all, as in the comparison of
    "Keeping Master Green at Scale" (EuroSys 2019).
    """

    def __init__(self, window: int | None = WINDOW_START) -> None:
        self._meddling = Meddling()
        self._failing: set[ChangeId] = set()
        self._tests: dict[ChangeId, _Test] = {}  # as they were proposed last
        self.window = window

    def __call__(self, view: View) -> Iterator[Proposal]:
        self._resize(view, self._meddling.follow(taking_part(view.queue)))
        leaving = 0
        shared: dict[int, int] = {}  # position → those ahead in its shared queue
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            assumed = self._meddling.ahead(change.id) & ~leaving
            queue = assumed
            for other in positions(assumed):
                queue |= shared[other]
            shared[position] = queue
            if self._meddling.is_stacked:
                if self._meddling.needed(change.id) & leaving or self._meddling.with_needed(assumed) & leaving:
                    leaving |= 1 << position
                    continue
                assumed = self._meddling.with_needed(assumed)
            test = self._test(change, assumed)
            is_outside = self.window is not None and queue.bit_count() >= self.window
            if is_outside and not self._is_running(view, test):
                continue
            if self._is_failing(view, test):
                leaving |= 1 << position
                self._failing.add(change.id)
            else:
                self._failing.discard(change.id)
            yield test.proposal

    def _resize(self, view: View, gone: Sequence[Change]) -> None:
        for change in gone:
            self._tests.pop(change.id, None)
            verdict = view.snapshot.decided.get(change.id)
            has_failed = change.id in self._failing if verdict is None else verdict is not Verdict.LANDED
            self._failing.discard(change.id)
            if self.window is not None:
                self.window = max(WINDOW_FLOOR, self.window // 2) if has_failed else self.window + 1

    def _test(self, change: Change, assumed: int) -> "_Test":
        ahead = self._meddling.ahead(change.id)
        entries = self._meddling.entries(assumed)
        behind = self._meddling.change(ahead.bit_length() - 1).id if ahead else None
        before = self._tests.get(change.id)
        if before is not None:
            was = before.proposal
            if was.change is change and (was.ahead, was.settles, was.behind) == (entries, not ahead, behind):
                return before
        proposal = Proposal(change, entries, settles=not ahead, behind=behind)
        test = self._tests[change.id] = _Test(proposal, proposal.assumption)
        return test

    def _is_running(self, view: View, test: "_Test") -> bool:
        """Who is tested already when the window shrinks goes on."""
        return any(need.key in view.running for need in view.trial(test.proposal.change, test.assumption) or ())

    def _is_failing(self, view: View, test: "_Test") -> bool:
        change = test.proposal.change
        needs = view.trial(change, test.assumption)
        if needs is None:
            return view.assess(view.candidate(test.proposal), change.evidence_from).leaves
        return view.assess_needs(needs, change.evidence_from).standing is Standing.RED


class _Test(NamedTuple):
    """A proposal, with its assumption, which takes longer to put together than all else that is asked of it."""

    proposal: Proposal
    assumption: Assumption


BASELINES: dict[str, Callable[[Truth], Policy]] = {
    "single": lambda _: Single(),
    "optimistic": lambda _: Optimistic(),
    "optimistic-no-window": lambda _: Optimistic(window=None),
    "batch-bisect": lambda _: bisecting(),
    "batch-bisect-one-queue": lambda _: bisecting(is_apart=False),
    "batch-4": lambda _: fours(),
    "batch-stop-4": lambda _: stopping_at_four(),
    "dynamic-divide-4": lambda _: dynamic_in_four(),
    "speculate-all": lambda _: speculating_on_all(),
    "uber-2019": lambda _: uber_2019(),
    "uber-2025": lambda _: uber_2025(),
    "oracle": Oracle,
    "oracle-reorder": FreeOracle,
    "oracle-batch": BatchOracle,
}
