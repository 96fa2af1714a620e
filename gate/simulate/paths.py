"""Published ways of speculating: which assumptions about the undecided changes ahead deserve a run.

A path of a change is one such assumption: of the undecided changes ahead that it meddles with, these land and the others do
not. All that these policies differ in is what a path's run is worth, and what becomes of runs that are worth less now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import erf, sqrt

from gate.meddling import Meddling, positions, taking_part
from gate.model import Change, ChangeId, Forecast, Need, Verdict
from gate.view import Proposal, Standing, View

SURE = 1e-6  # no outcome is taken for surer than this, so that a wrong forecast can be got over
TIES = 4  # times as many proposals as workers at most: as long as they are equal, the core keeps what runs already
WORTH = 0.4  # of a run that is needed for certain, on the core's scale, where verdicts' own runs are worth 1
WORTH_RUNNING = 0.5  # added by sticky policies, so that nothing new displaces what runs
SPREAD = 0.0625  # standard deviation of a build time, of its mean: 5 % mean absolute error, the middle of Uber's 3 to 6
BYPASS_CHANCE = 0.5  # of being ready first, below which a bypass is not tried; Uber has such a threshold, of unknown value

_DEFAULT = Forecast()


def speculating_on_all() -> "Paths":
    """Speculate-all: every outcome of everybody as likely as the other, so all paths of those with few undecided ones ahead
    come before any path of those with more. Source: "Keeping Master Green at Scale" (EuroSys 2019)."""
    return Paths(is_even=True)


def uber_2019() -> "Paths":
    """SubmitQueue: the runs that are most likely needed have the workers; what runs is stopped when it is not among them.

    Source: "Keeping Master Green at Scale" (EuroSys 2019). Chances of success and of a clash are those of the outlook, where
    the paper has two logistic regressions; finished speculations alter them as they should by Bayes' rule.
    """
    return Paths()


def uber_2025(threshold: float = 0.05, bypass: int = 3) -> "Paths":
    """No start of what is unlikely to be needed, no end of what runs and may still be needed, and landing ahead of up to
    ``bypass`` undecided changes when every outcome of theirs is covered by finished runs that agree.

    Source: "CI at Scale: Lean, Green, and Fast" (ICSE-SEIP 2025), whose thresholds are not given.
    """
    return Paths(threshold=threshold, is_sticky=True, bypass=bypass)


@dataclass(slots=True)
class _Findings:
    """What finished runs have told of one change. Sets of changes it was tested on top of."""

    is_fine: bool = False  # green on some path, so it breaks nothing by itself
    clean_with: set[ChangeId] = field(default_factory=set)
    red_with: list[frozenset[ChangeId]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Choice:
    """An undecided change ahead. likely: its bit if the likelier outcome is that it lands, else 0.

    chance: that the outcome of the run on the likelier side is needed, as far as this change tells. ratio: by how much that
    of the other side is less.
    """

    bit: int
    likely: int
    chance: float
    ratio: float


@dataclass(frozen=True, slots=True)
class _Path:
    change: Change
    assumed: int
    needs: tuple[Need, ...]


class Paths:
    """Finds the paths most worth a run, best first and lazily. Remembers what it asked for, to learn from its outcome."""

    def __init__(
        self,
        *,
        threshold: float = 0.0,
        is_sticky: bool = False,
        bypass: int = 0,
        is_even: bool = False,
        spread: float = SPREAD,
    ) -> None:
        self._threshold = threshold
        self._is_sticky = is_sticky
        self._bypass = bypass
        self._is_even = is_even
        self._spread = spread
        self._meddling = Meddling()
        self._findings: dict[ChangeId, _Findings] = {}
        self._refused: set[ChangeId] = set()  # as far as anybody was tested on top of them
        self._asked: list[tuple[ChangeId, frozenset[ChangeId], tuple[Need, ...]]] = []  # by the last plan
        self._lands: dict[int, float] = {}  # position → chance that it lands

    def __call__(self, view: View) -> Iterator[Proposal]:
        self._note_verdicts(view, self._meddling.follow(taking_part(view.queue)))
        self._learn(view)
        self._lands = self._chances(view)
        settled = 0
        for change, standing in self._settled(view):
            settled |= self._meddling.bit(change.id)
            if standing in (Standing.GREEN, Standing.RED):
                self._lands[self._meddling.position(change.id)] = float(standing is Standing.GREEN)
            yield Proposal(change)
        asked: list[_Path] = []
        for path, worth in self._best(view, settled):
            if path.needs:  # none are known before the candidate is merged
                asked.append(path)
            yield self._propose(path, worth)
        self._asked = [(path.change.id, self._meddling.ids(path.assumed), path.needs) for path in asked]

    # --- what has come of what was asked for

    def _note_verdicts(self, view: View, gone: Sequence[Change]) -> None:
        for change in gone:
            verdict = view.snapshot.decided.get(change.id)
            findings = self._findings.pop(change.id, None)
            was_red = findings is not None and bool(findings.red_with) and not findings.is_fine
            if was_red if verdict is None else verdict is not Verdict.LANDED:
                self._refused.add(change.id)

    def _learn(self, view: View) -> None:
        for id_, assumed, needs in self._asked:
            change = view.waiting.get(id_)
            if change is None:
                continue
            match view.assess_needs(needs, change.evidence_from).standing:
                case Standing.GREEN:
                    findings = self._findings.setdefault(id_, _Findings())
                    findings.is_fine = True
                    findings.clean_with |= assumed
                case Standing.RED:
                    findings = self._findings.setdefault(id_, _Findings())
                    if assumed not in findings.red_with:
                        findings.red_with.append(assumed)

    # --- chances

    def _chances(self, view: View) -> dict[int, float]:
        """By position: the chance that the change lands. Those it depends on or may clash with come before it."""
        lands: dict[int, float] = {}
        if self._is_even:
            return dict.fromkeys(positions(self._meddling.present), 0.5)
        forecasts, clash = view.snapshot.outlook.forecasts, view.snapshot.outlook.clash
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            chance = forecasts.get(change.id, _DEFAULT).chance
            clean_with: set[ChangeId] = set()
            findings = self._findings.get(change.id)
            if findings is not None:
                clean_with = findings.clean_with
                chance = 1.0 if findings.is_fine else self._chance_after_reds(view, findings, chance, lands)
            for other in positions(self._meddling.ahead(change.id)):
                if self._meddling.change(other).id not in clean_with:
                    chance *= 1.0 - clash * lands[other]
            for needed in positions(self._meddling.needed(change.id)):
                chance *= lands[needed]
            lands[position] = min(1.0 - SURE, max(SURE, chance))
        return lands

    def _chance_after_reds(self, view: View, findings: _Findings, chance: float, lands: dict[int, float]) -> float:
        """A red run has one of three causes: the change itself, one it was tested on, or that two of them clash.

        Only where one that it was tested on does not land may the change still do so.
        """
        clash = view.snapshot.outlook.clash
        least = chance
        for assumed in findings.red_with:
            all_land = all_fine = 1.0
            for id_ in assumed:
                other = 0.0 if id_ in self._refused else 1.0
                if id_ in view.waiting:
                    other = lands.get(self._meddling.position(id_), 1.0)
                all_land *= other
                all_fine *= other * (1.0 - clash)
            least = min(least, chance * (1.0 - all_land) / max(SURE, 1.0 - chance * all_fine))
        return least

    # --- verdicts that can follow now

    def _settled(self, view: View) -> Iterator[tuple[Change, Standing]]:
        for position in positions(self._meddling.present):
            change = self._meddling.change(position)
            ahead = self._meddling.ahead(change.id)
            if ahead and (ahead.bit_count() > self._bypass or not self._is_covered(view, change, ahead)):
                continue
            standing = self._standing(view, change, 0)
            if standing is not Standing.UNKNOWN:
                yield change, standing

    def _is_covered(self, view: View, change: Change, ahead: int) -> bool:
        """Whichever of the undecided changes land, its runs have ended, and all say the same."""
        if self._meddling.needed(change.id):
            return False
        said = self._standing(view, change, 0)
        if said not in (Standing.GREEN, Standing.RED):
            return False
        return all(
            self._standing(view, change, some) is said
            for some in _subsets(ahead)
            if self._meddling.with_needed(some) == some
        )

    # --- runs

    def _best(self, view: View, settled: int) -> Iterator[tuple[_Path, float]]:
        """Paths with runs to start or to go on with, and what these are worth, until there are no more workers for them."""
        room = view.snapshot.workers
        kept: set[tuple[int, int]] = set()  # (position, assumed)
        for path in self._under_way(view) if self._is_sticky else ():
            kept.add((self._meddling.bit(path.change.id), path.assumed))
            room -= sum(need.key in view.running for need in path.needs)
            yield path, WORTH_RUNNING
        last_worth, proposals = 0.0, 0
        for change, assumed, chance in self._likeliest(view, settled):
            if (room <= 0 and chance < last_worth) or proposals >= TIES * view.snapshot.workers:
                return
            if (self._meddling.bit(change.id), assumed) in kept:
                continue
            needs = self._trial(view, change, assumed)
            known = view.assess_needs(needs or (), change.evidence_from)
            if needs is not None and known.standing not in (Standing.UNKNOWN, Standing.STUCK):
                continue
            room -= len(known.open) if needs else 1
            proposals, last_worth = proposals + 1, chance
            yield _Path(change, assumed, needs or ()), WORTH * chance

    def _under_way(self, view: View) -> Iterator[_Path]:
        """What runs and may still be needed: all it was started on top of have landed or wait, and nobody else landed."""
        for run in view.snapshot.running:
            ids = [id_ for id_ in run.changes if id_ in view.waiting]
            if not ids or ids[-1] != run.changes[-1]:
                continue
            change = view.waiting[ids[-1]]
            assumed = 0
            for id_ in ids[:-1]:
                assumed |= self._meddling.bit(id_)
            needs = self._trial(view, change, assumed)
            if needs is not None and any(need.key == run.key for need in needs):
                yield _Path(change, assumed, needs)

    def _likeliest(self, view: View, settled: int) -> Iterator[tuple[Change, int, float]]:
        """(change, assumed, chance that its outcome is needed) of all paths above the threshold, best first.

        A global heap over the best path left of each change. From one path two follow: one more choice turned over, or the
        last one turned back and the next turned over instead, in order of what turning costs; so the k best of a change take
        O(k log k). As in uber/submitqueue, speculation-generator-best-first.md.
        """
        floor = max(self._threshold, SURE)
        choices: dict[int, list[_Choice]] = {}
        heap: list[tuple[float, int, int, int]] = []  # (-chance, position, assumed, number of the last choice turned over)
        for position in positions(self._meddling.present & ~settled):
            change = self._meddling.change(position)
            forced = self._meddling.needed(change.id)
            assumed, chance = forced, 1.0
            for needed in positions(forced):
                chance *= self._lands[needed]
            found = []
            for other in positions(self._meddling.ahead(change.id) & ~forced):
                choice = self._choice(view, change, other)
                chance *= choice.chance
                assumed |= choice.likely
                found.append(choice)
                if chance < floor:
                    break
            else:
                choices[position] = found
                heap.append((-chance, position, assumed, -1))
        heapify(heap)
        in_order: set[int] = set()
        while heap:
            minus, position, assumed, last = heappop(heap)
            change = self._meddling.change(position)
            if self._meddling.with_needed(assumed) == assumed:
                yield change, assumed, -minus
            turns = choices[position]
            if position not in in_order:
                turns.sort(key=lambda choice: -choice.ratio)
                in_order.add(position)
            if last + 1 == len(turns):
                continue
            turn = turns[last + 1]
            if -minus * turn.ratio >= floor:
                heappush(heap, (minus * turn.ratio, position, assumed ^ turn.bit, last + 1))
            if last >= 0 and -minus / turns[last].ratio * turn.ratio >= floor:
                chance = minus / turns[last].ratio * turn.ratio
                heappush(heap, (chance, position, assumed ^ turns[last].bit ^ turn.bit, last + 1))

    def _choice(self, view: View, change: Change, position: int) -> _Choice:
        """With a bypass in sight, the runs for both outcomes are needed if the change is ready first."""
        lands = self._lands[position]
        likely, unlikely = max(lands, 1.0 - lands), min(lands, 1.0 - lands)
        if 0 < self._meddling.ahead(change.id).bit_count() <= self._bypass:
            first = self._is_ready_first(view, change, self._meddling.change(position))
            if first >= BYPASS_CHANCE:
                likely, unlikely = max(likely, first), max(unlikely, first)
        return _Choice(1 << position, 1 << position if lands >= 0.5 else 0, likely, unlikely / likely)

    def _is_ready_first(self, view: View, change: Change, ahead: Change) -> float:
        forecasts = view.snapshot.outlook.forecasts
        ahead_s = forecasts.get(ahead.id, _DEFAULT).duration_s
        change_s = forecasts.get(change.id, _DEFAULT).duration_s
        if ahead_s is None or change_s is None:
            return 0.0
        return chance_to_finish_first(
            change.submitted_at, change_s, self._spread * change_s, ahead.submitted_at, ahead_s, self._spread * ahead_s
        )

    # --- one path

    def _propose(self, path: _Path, worth: float) -> Proposal:
        ahead = self._meddling.ahead(path.change.id)
        behind = self._meddling.change(ahead.bit_length() - 1).id if ahead else None
        entries = self._meddling.entries(path.assumed)
        return Proposal(path.change, entries, settles=not ahead, worth=worth, behind=behind)

    def _trial(self, view: View, change: Change, assumed: int) -> tuple[Need, ...] | None:
        known = view.snapshot.trials.get(change.id)
        return None if known is None else known.get((self._meddling.ids(assumed), 1))

    def _standing(self, view: View, change: Change, assumed: int) -> Standing:
        needs = self._trial(view, change, assumed)
        return Standing.UNKNOWN if needs is None else view.assess_needs(needs, change.evidence_from).standing


def chance_to_finish_first(
    arrived_at: float, mean_s: float, spread_s: float, other_arrived_at: float, other_mean_s: float, other_spread_s: float
) -> float:
    """The chance that one run ends before another, both started on arrival, durations normal. Source: CI at Scale, 2025."""
    lead_s = (other_arrived_at - arrived_at) - (mean_s - other_mean_s)
    spread = sqrt(spread_s**2 + other_spread_s**2)
    if spread == 0.0:
        return float(lead_s > 0)
    return 0.5 * (1.0 + erf(lead_s / spread / sqrt(2.0)))


def _subsets(bits: int) -> Iterator[int]:
    some = bits
    while some:
        yield some
        some = (some - 1) & bits
    yield 0
