"""What is expected of each waiting change: the odds that it is fine, how long its checks take, how often they lie.

Pure, but for the memory it is. ``learn`` takes the journal's events one by one, at the cost of the event, and the same
events give the same odds whenever they are told. What the journal does not hold (files, lines, the checks touched) is noted
beside it, and odds do without where nobody did. All of this serves order and worth: which run comes first, how many changes
share one, when a red is believed. It proves nothing, and nothing lands by it.

A change is fine when every check that it touches is green with it on a green trunk. The chance is a logistic regression over
a few features, learned as one does with a normal prior for each weight (assumed density filtering): the priors make the
first day sensible, and a little noise per verdict lets the weights follow a team that alters. The features rest on rates
with priors of their own: of each check, of each author, of late. Results of the revision itself are left out of its chance:
the planner has them, and would count them twice.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, fsum, log, log2, pi, sqrt
from typing import TypeVar

from ci.model import CheckName, Outcome, Result, RunId, TestCase
from gate.flakes import Flakes
from gate.model import (
    Change,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Event,
    Forecast,
    Landed,
    LandedBefore,
    LandingFailed,
    LandingStarted,
    Outlook,
    RetryRequested,
    RunFinished,
    RunStarted,
    Submission,
    Why,
)

CHANCE = 0.9  # of a change like any other, on the first day
DURATION_S = 300.0  # of a run of a check that nobody has run yet
CLASH = 0.03  # that two changes which meddle break together though each is fine (Uber, 2019: 0.034 to 0.05)
CHECK_FAILS = 0.05  # share of the changes touching a check that it is red for
CERTAIN = 0.999  # no chance is beyond it, or below 1 - it

# How many observations each prior is worth, and over how many a rate forgets.
PRIOR, MEMORY = 20.0, 300.0  # of a check
AUTHOR_PRIOR, AUTHOR_MEMORY = 1.0, 100.0  # the prior in refusals, as many as expected
LATE_PRIOR, LATE_MEMORY = 1.0, 40.0  # of late, whoever it was; likewise
CLASH_PRIOR, CLASH_MEMORY = 100.0, 3_000.0
DURATION_SHARE = 0.1  # of a run in the mean of logarithms, once ten are known
DURATION_STEP = log(4)  # one odd run moves the mean as if it had been so much longer or shorter, not more
DURATION_FROM = 3  # runs that have to be known before one can be odd

DEGREE_MOST = 2.0
DRIFT = 1e-4  # added to the variance of each weight with each verdict
COMPANY = 64  # newest landings that a red change may have broken together with
REFRESH_SHARE = 0.1  # forecasts of all that wait are made anew when so much more has been learned, …
REFRESH_MOST = 20  # … or this many verdicts

MOST_CHANGES = 50_000  # remembered, the newest: of one that was forgotten, only the verdict counts no more
MOST_AUTHORS = 5_000
MOST_CHECKS = 1_000
MOST_RUNS = 20_000  # under way
MOST_TRIALS = 50  # ended runs of one change and check

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a revision before anything has run. None: unknown, which speaks neither for nor against it.

    lines: added and removed. touches: required checks with an input among its paths. is_green_here: what its author's own
    results say of these checks: a hint, for nobody vouches for them.
    """

    files: int | None = None
    lines: int | None = None
    touches: frozenset[CheckName] | None = None
    is_green_here: bool | None = None


STREAK_DRIFT = 3e-3  # as DRIFT, for the weights of the verdict before: a streak is over before a team has altered
MOST_FATES = 1_000  # changes whose verdict is remembered for the sake of their neighbours


class Odds:
    """Learns from events in the order of the journal; forecasts at any time. For one thread at a time."""

    def __init__(self) -> None:
        self._flakes = Flakes()
        self._model = _Regression()
        self._checks: dict[CheckName, _Rate] = {}
        self._authors: dict[str, _Excess] = {}
        self._late = _Excess(LATE_PRIOR, LATE_MEMORY)
        self._clash = _Rate(CLASH, CLASH_PRIOR, CLASH_MEMORY)
        self._durations: dict[CheckName, _Duration] = {}
        self._stories: dict[ChangeId, _Story] = {}
        self._runs: dict[RunId, tuple[_Story | None, _Trial]] = {}
        self._streaks = _Streaks()
        self._landing: LandingStarted | None = None
        self._landings = 0
        self._landed: deque[tuple[ChangeId, frozenset[CheckName]]] = deque(maxlen=COMPANY)
        self._verdicts = 0
        self._refreshed_at = 0  # verdicts when the forecasts of all that wait were made last
        self._forecasts: dict[ChangeId, Forecast] = {}
        self._seconds: dict[CheckName, float] = {}
        self._reds: dict[CheckName, float] = {}
        self._steady: dict[CheckName, None] = {}
        self._outlook = Outlook(self._forecasts, self._seconds, self._reds, self._clash.mean, self._steady)

    # --- forecasts ----------------------------------------------------------------------------------------------------

    def forecast(self, change: Change) -> Forecast:
        """duration_s is None: all its runs take what its checks take, see Outlook."""
        story = self._stories.get(change.id)
        if story is None or story.revision != change.revision:
            story = _Story(change.by, change.revision, self._landings, traits=_traits(change))
        elif story.traits.touches is None:
            return self._forecast(story, _traits(change))
        return self._forecast(story, story.traits)

    def chance_of(self, entry: Entry) -> float:
        """Of a revision that nobody has described, from what was noted of it; CHANCE when it is not known."""
        story = self._stories.get(entry[0])
        if story is None or story.revision != entry[1]:
            return CHANCE
        return self._forecast(story, story.traits).chance

    def outlook(self, changes: Iterable[Change] = ()) -> Outlook:
        """What is expected of all that was noted, and of these. It follows what is learned: take it anew for each plan.

        Costs nothing but a look at ``changes``: forecasts are made when a change is noted, and all of them again when as
        much has been learned as alters them.
        """
        for change in changes:
            if change.id not in self._forecasts:
                self.note_change(change)
        after_fine, after_bad = self._streaks.after(is_bad=False), self._streaks.after(is_bad=True)
        was = self._outlook
        if (was.clash, was.after_fine, was.after_bad) != (self._clash.mean, after_fine, after_bad):
            self._outlook = replace(was, clash=self._clash.mean, after_fine=after_fine, after_bad=after_bad)
        return self._outlook

    def test_flake(self, check: CheckName, test: str) -> float:
        """The chance that one test of a check fails in a run though nothing is wrong."""
        return self._flakes.test(check, test)

    def _forecast(self, story: "_Story", traits: Traits) -> Forecast:
        if traits.touches is not None and not traits.touches:
            return Forecast(CERTAIN)  # no check has a say in it
        return Forecast(min(CERTAIN, max(1 - CERTAIN, self._model.chance(self._features(story, traits)))))

    def _features(self, story: "_Story", traits: Traits) -> tuple[float, ...]:
        """In the order of PRIORS; 0 is what is usual."""
        touches = story.touches if traits.touches is None else traits.touches
        rates = [self._check_rate(check) for check in touches]
        author = self._authors.get(story.by)
        return (
            1.0,
            log(fsum(rates) / len(rates) / CHECK_FAILS) if rates else 0.0,
            log(len(rates) / 2) if rates else 0.0,
            0.0 if traits.files is None else (log2(1 + traits.files) - 2) / 2,
            0.0 if traits.lines is None else (log2(1 + traits.lines) - 6) / 3,
            0.0 if author is None else author.degree,
            min(3.0, story.refusals),
            {None: 0.0, True: 1.0, False: -1.0}[traits.is_green_here],
            self._late.degree,
        )

    def _check_rate(self, check: CheckName) -> float:
        known = self._checks.get(check)
        return CHECK_FAILS if known is None else known.mean

    # --- what is noted beside the journal -------------------------------------------------------------------------------

    def note_change(self, change: Change, lines: int | None = None, is_green_here: bool | None = None) -> None:
        """A waiting change as it is described now; again when that alters. After its ChangeSubmitted."""
        self.note_traits(change.entry, _traits(change, lines, is_green_here))
        self._forecasts[change.id] = self.forecast(change)
        _drop_oldest(self._forecasts, MOST_CHANGES)

    def note_traits(self, entry: Entry, traits: Traits) -> None:
        """What is known of a revision, also one of long ago whose verdict is still to be told. After its ChangeSubmitted."""
        story = self._stories.get(entry[0])
        if story is not None and story.revision == entry[1]:
            story.traits = traits

    def learn_tests(self, result: Result, tests: Sequence[TestCase]) -> None:
        """The tests of a run that was told already: what passed among them, and what failed beyond the names it gives."""
        self._flakes.learn_tests(result, tests)

    # --- learning -----------------------------------------------------------------------------------------------------

    def learn(self, event: Event) -> None:
        """The next event of the journal. What says nothing of anybody's odds costs nothing."""
        match event:
            case RunStarted():
                self._learn_start(event)
            case RunFinished():
                self._learn_end(event)
            case ChangeSubmitted():
                self._learn_submission(event.submission)
            case LandingStarted():
                self._landing = event
            case LandingFailed():
                self._landing = None
            case Landed():
                self._learn_landing(event)
            case ChangeRefused():
                self._learn_refusal(event)
            case ChangeWithdrawn():
                story = self._stories.get(event.change)
                if story is not None and story.revision == event.revision:
                    self._learn_given_up(story)
                    self._end(event.change, story)
            case LandedBefore():
                self._forecasts.pop(event.change, None)
                self._stories.pop(event.change, None)
            case RetryRequested():
                story = self._stories.get(event.change)
                if story is not None:
                    story.is_decided = False
                    story.trials.clear()
            case _:
                pass

    def _learn_submission(self, submission: Submission) -> None:
        before = self._stories.pop(submission.change, None)
        if before is not None and before.revision >= submission.revision:
            self._stories[submission.change] = before
            return  # told twice
        refusals = 0
        if before is not None:
            if not before.is_decided:
                self._learn_given_up(before)
            refusals = before.refusals
        story = _Story(submission.by, submission.revision, self._landings, refusals)
        self._stories[submission.change] = story
        self._forecasts.pop(submission.change, None)
        _drop_oldest(self._stories, MOST_CHANGES)

    def _learn_start(self, event: RunStarted) -> None:
        story = self._stories.get(event.changes[-1]) if event.changes else None
        trial = _Trial(event.check, event.changes[:-1], self._landings, event.at)
        self._runs[event.run] = (story, trial)
        _drop_oldest(self._runs, MOST_RUNS)

    def _learn_end(self, event: RunFinished) -> None:
        story, trial = self._runs.pop(event.run, (None, None))
        result = event.result
        if result is None or result.outcome is Outcome.INFRASTRUCTURE:
            return
        self._flakes.learn(result)
        self._reds[result.check] = self._flakes.check(result.check)
        _drop_oldest(self._reds, MOST_CHECKS)
        self._steady.pop(result.check, None)
        if self._flakes.is_steady(result.check):
            self._steady[result.check] = None
            _drop_oldest(self._steady, MOST_CHECKS)
        if result.tests:
            return  # a part of the check: it tells neither how long it takes nor what it says of the change
        self._learn_duration(result)
        if story is not None and trial is not None:
            trial.is_green = result.outcome is Outcome.GREEN
            trials = story.trials.setdefault(trial.check, [])
            trials.append(trial)
            del trials[:-MOST_TRIALS]

    def _learn_duration(self, result: Result) -> None:
        known = self._durations.pop(result.check, None) or _Duration()
        self._durations[result.check] = known
        _drop_oldest(self._durations, MOST_CHECKS)
        known.learn(result)
        self._seconds.pop(result.check, None)
        self._seconds[result.check] = exp(known.mean)
        _drop_oldest(self._seconds, MOST_CHECKS)

    def _learn_landing(self, event: Landed) -> None:
        landing, self._landing = self._landing, None
        if landing is None or landing.commit != event.commit:
            return  # told twice
        for change, _ in landing.changes:
            self._learn_fate(change, is_bad=False)
            story = self._stories.pop(change, None)
            touches: frozenset[CheckName] = frozenset()
            if story is not None:
                touches = story.touches
                company = sum(not touches.isdisjoint(others) for _, others in self._since(story.landings, self._landings))
                self._clash.add(0.0, company)
                self._learn_verdict(story, 1.0, dict.fromkeys(touches, 1.0))
            self._forecasts.pop(change, None)
            self._landed.append((change, touches))
            self._landings += 1

    def _learn_refusal(self, event: ChangeRefused) -> None:
        story = self._stories.get(event.change)
        if story is None or story.is_decided or story.revision != event.revision:
            return
        red = {reason.check for reason in event.reasons if reason.why is Why.CHECK_RED and reason.check is not None}
        if red:
            self._learn_fate(event.change, is_bad=True)
            self._learn_red(story, red)
        self._end(event.change, story)

    def _learn_fate(self, change: ChangeId, *, is_bad: bool) -> None:
        forecast = self._forecasts.get(change)
        self._streaks.learn(change, is_bad, CHANCE if forecast is None else forecast.chance)

    def _learn_given_up(self, story: "_Story") -> None:
        """Replaced or taken back. Where a check was red for it with nothing undecided ahead, that is why."""
        landed = self._landed_ids()
        red = {
            check
            for check, trials in story.trials.items()
            if not trials[-1].is_green and landed.issuperset(trials[-1].ahead)
        }
        if red and not story.is_decided:
            self._learn_red(story, red)

    def _learn_red(self, story: "_Story", red: set[CheckName]) -> None:
        """These checks are red for the change: through itself, or only together with what landed since it was written."""
        fine = min(self._fine_alone(story, check) for check in sorted(red))
        greens = {check: 1.0 for check, trials in story.trials.items() if trials[-1].is_green}
        self._learn_verdict(story, fine, greens | dict.fromkeys(red, fine))
        story.refusals += 1

    def _fine_alone(self, story: "_Story", check: CheckName) -> float:
        """The chance that a red change is fine by itself; what it may have broken together with counts as a clash."""
        trials = story.trials.get(check, [])
        landed = self._landed_ids()
        companies = [
            self._company(story, trial, check) for trial in trials if not trial.is_green and landed.issuperset(trial.ahead)
        ]
        if not companies:
            companies = [{id_ for id_, touches in self._since(story.landings, self._landings) if check in touches}]
        company = min(companies, key=len)  # it is red even with these alone
        if not company:
            return 0.0
        if any(trial.is_green and company - self._company(story, trial, check) for trial in trials):
            self._clash.add(1.0, len(company))
            return 1.0
        rates = {each: self._check_rate(each) for each in story.touches | {check}}
        own = (1 - self._forecast(story, story.traits).chance) * rates[check] / fsum(rates.values())
        together = 1 - (1 - self._clash.mean) ** len(company)
        fine = 1 - own / (1 - (1 - own) * (1 - together))
        self._clash.add(fine, len(company))
        return fine

    def _company(self, story: "_Story", trial: "_Trial", check: CheckName) -> set[ChangeId]:
        """What a run of the check had of others: what landed since the change was written, and what was ahead of it."""
        return {id_ for id_, touches in self._since(story.landings, trial.landings) if check in touches}.union(trial.ahead)

    def _learn_verdict(self, story: "_Story", fine: float, checks: dict[CheckName, float]) -> None:
        """fine: 1 it was, 0 it was not. checks: the same for each of those that had their say."""
        if not checks:
            return
        features = self._features(story, story.traits)
        author = self._authors.pop(story.by, None) or _Excess(AUTHOR_PRIOR, AUTHOR_MEMORY)
        author.add(1 - fine, 1 - self._model.chance(_without(features, AUTHOR)))
        self._authors[story.by] = author
        self._late.add(1 - fine, 1 - self._model.chance(_without(features, LATE)))
        self._model.learn(features, fine)
        _drop_oldest(self._authors, MOST_AUTHORS)
        for check, was_fine in checks.items():
            rate = self._checks.pop(check, None) or _Rate(CHECK_FAILS, PRIOR, MEMORY)
            rate.add(1 - was_fine)
            self._checks[check] = rate
            _drop_oldest(self._checks, MOST_CHECKS)
        self._verdicts += 1
        if self._verdicts - self._refreshed_at >= min(REFRESH_MOST, REFRESH_SHARE * self._verdicts):
            self._refresh()

    def _refresh(self) -> None:
        self._refreshed_at = self._verdicts
        for change in self._forecasts:
            story = self._stories.get(change)
            if story is not None:
                self._forecasts[change] = self._forecast(story, story.traits)

    def _end(self, change: ChangeId, story: "_Story") -> None:
        """It waits no more. Its story stays: there may be another revision, or somebody wants it tried again."""
        story.is_decided = True
        story.trials.clear()
        self._forecasts.pop(change, None)

    def _since(self, landings: int, until: int) -> list[tuple[ChangeId, frozenset[CheckName]]]:
        """What landed when between ``landings`` and ``until`` had landed, as far as it is remembered."""
        first = self._landings - len(self._landed)
        return list(self._landed)[max(0, landings - first) : max(0, until - first)]

    def _landed_ids(self) -> set[ChangeId]:
        return {id_ for id_, _ in self._landed}


# --- what is remembered -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trial:
    """One run of one check for one change. ahead: what was tested below it. landings: how many there had been."""

    check: CheckName
    ahead: tuple[ChangeId, ...]
    landings: int
    at: float
    is_green: bool = False


@dataclass(slots=True)
class _Story:
    """The newest revision of a change. landings: how many there had been when it came. refusals: revisions that were red."""

    by: str
    revision: int
    landings: int
    refusals: int = 0
    traits: Traits = Traits()
    trials: dict[CheckName, list[_Trial]] = field(default_factory=dict)
    is_decided: bool = False

    @property
    def touches(self) -> frozenset[CheckName]:
        """Where nobody noted it: the checks that ran for it."""
        return frozenset(self.trials) if self.traits.touches is None else self.traits.touches


@dataclass(slots=True)
class _Duration:
    """Of the runs of one check: mean of the logarithm of seconds. Reds end early, so they count until one was green."""

    mean: float = log(DURATION_S)
    count: int = 0
    is_green: bool = False

    def learn(self, result: Result) -> None:
        seconds = log(max(0.001, result.duration_s))
        if result.outcome is Outcome.TIMED_OUT:
            if seconds <= self.mean:
                return  # it says only that it takes longer than that
        elif result.outcome is Outcome.GREEN:
            if not self.is_green:
                self.is_green, self.count = True, 0
        elif self.is_green:
            return
        step = seconds - self.mean
        if self.count >= DURATION_FROM:
            step = min(DURATION_STEP, max(-DURATION_STEP, step))
        self.count += 1
        self.mean += step * max(DURATION_SHARE, 1 / self.count)


class _Rate:
    """A beta posterior that forgets: the share of what is bad, the newest ``memory`` observations counting most."""

    __slots__ = ("_bad", "_memory", "_total")

    def __init__(self, mean: float, prior: float, memory: float) -> None:
        self._bad = mean * prior
        self._total = prior
        self._memory = memory

    @property
    def mean(self) -> float:
        return self._bad / self._total

    def add(self, bad: float, count: float = 1.0) -> None:
        """``bad`` of ``count`` observations were."""
        kept = max(0.0, 1 - count / self._memory)
        self._bad = self._bad * kept + bad
        self._total = self._total * kept + count


class _Excess:
    """How many refusals there were against how many all else made likely; it forgets as a rate does."""

    __slots__ = ("_bad", "_expected", "_memory", "_prior")

    def __init__(self, prior: float, memory: float) -> None:
        self._bad = self._expected = 0.0
        self._prior = prior
        self._memory = memory

    @property
    def degree(self) -> float:
        """0: as many as expected; above it more. Between -DEGREE_MOST and DEGREE_MOST, in logarithms."""
        ratio = (self._bad + self._prior) / (self._expected + self._prior)
        return min(DEGREE_MOST, max(-DEGREE_MOST, log(ratio)))

    def add(self, bad: float, expected: float) -> None:
        kept = 1 - 1 / self._memory
        self._bad = self._bad * kept + bad
        self._expected = self._expected * kept + expected


# Mean and standard deviation of each weight on the first day.
PRIORS = (
    (log(CHANCE / (1 - CHANCE)), 0.7),  # of a change like any other
    (-0.9, 0.3),  # how often its checks are red for those who touch them
    (-0.4, 0.3),  # how many they are
    (-0.3, 0.2),  # files
    (-0.15, 0.2),  # lines
    (-0.7, 0.3),  # how much more its author's changes were refused than could be expected
    (-0.4, 0.3),  # revisions of it that were red
    (0.6, 0.4),  # what its author's own results say
    (-0.4, 0.3),  # how much more was refused of late than could be expected
)
AUTHOR, LATE = 5, 8  # their places

# The same of what is added to the log odds of a change after one that was fine, and after one that was bad.
STREAK_PRIORS = {False: (0.0, 1.0), True: (-2.0, 2.0)}


class _Regression:
    """Logistic regression by assumed density filtering: each weight has a mean and a variance, and each verdict moves them.

    See Chapelle and Li, "An empirical evaluation of Thompson sampling" (2011), algorithm 3, here one example at a time; the
    chance integrates over what is not known of the weights (MacKay, 1992).
    """

    def __init__(self, priors: Sequence[tuple[float, float]] = PRIORS, drift: float = DRIFT) -> None:
        self._means = [mean for mean, _ in priors]
        self._variances = [deviation**2 for _, deviation in priors]
        self._drift = drift

    def chance(self, features: Sequence[float]) -> float:
        total, spread = self._sum(features)
        return _logistic(total / sqrt(1 + pi * spread / 8))

    def log_odds(self, features: Sequence[float]) -> float:
        return self._sum(features)[0]

    def learn(self, features: Sequence[float], fine: float, known: float = 0.0) -> None:
        """known: log odds from elsewhere, to which these weights only add."""
        total, spread = self._sum(features)
        chance = _logistic(known + total)
        curve = chance * (1 - chance)
        error = (fine - chance) / (1 + curve * spread)
        for place, value in enumerate(features):
            variance = self._variances[place]
            self._means[place] += variance * value * error
            self._variances[place] = variance / (1 + curve * value * value * variance) + self._drift

    def _sum(self, features: Sequence[float]) -> tuple[float, float]:
        total = spread = 0.0
        for mean, variance, value in zip(self._means, self._variances, features, strict=True):
            total += mean * value
            spread += variance * value * value
        return total, spread


class _Streaks:
    """What the verdict of the change before adds to the log odds of a change: a Markov chain of two states, fine and bad,
    whose transitions move with the forecast of each change."""

    __slots__ = ("_after", "_fates")

    def __init__(self) -> None:
        self._fates: dict[ChangeId, tuple[bool, float]] = {}  # whether it was bad, and the chance that it would be fine
        self._after = {is_bad: _Regression([prior], STREAK_DRIFT) for is_bad, prior in STREAK_PRIORS.items()}

    def after(self, *, is_bad: bool) -> float:
        return self._after[is_bad].log_odds((1.0,))

    def learn(self, change: ChangeId, is_bad: bool, chance: float) -> None:
        if change in self._fates:
            return  # tried again, and decided again
        self._fates[change] = (is_bad, chance)
        _drop_oldest(self._fates, MOST_FATES)
        for before, after in ((ChangeId(change - 1), change), (change, ChangeId(change + 1))):
            if before in self._fates and after in self._fates:
                was_bad, foreseen = self._fates[after]
                self._after[self._fates[before][0]].learn((1.0,), float(not was_bad), log(foreseen / (1.0 - foreseen)))


def _traits(change: Change, lines: int | None = None, is_green_here: bool | None = None) -> Traits:
    return Traits(len(change.paths), lines, change.touches, is_green_here)


def _without(features: Sequence[float], place: int) -> tuple[float, ...]:
    return (*features[:place], 0.0, *features[place + 1 :])


def _logistic(value: float) -> float:
    return 1 / (1 + exp(-value)) if value > -700 else 0.0


def _drop_oldest(known: dict[K, V], most: int) -> None:
    if len(known) > most:
        del known[next(iter(known))]


# --- how far odds can be trusted ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions from ``low`` to below ``high`` (the last bin: to 1). predicted, actual: means; 0 when there are none."""

    low: float
    high: float
    count: int
    predicted: float
    actual: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """brier: mean squared error, 0 best. calibration_error: mean distance of predicted and actual, bins weighed by count."""

    bins: tuple[Bin, ...]
    brier: float
    calibration_error: float


def reliability(predictions: Iterable[tuple[float, bool]], bins: int = 10) -> Reliability:
    """How predicted chances compare with what came true. bins: of equal width."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for chance, is_true in predictions:
        members[min(bins - 1, int(chance * bins))].append((chance, is_true))
    count = sum(map(len, members))
    rows = []
    for place, inside in enumerate(members):
        weight = max(1, len(inside))
        predicted = sum(chance for chance, _ in inside) / weight
        rows.append(Bin(place / bins, (place + 1) / bins, len(inside), predicted, sum(true for _, true in inside) / weight))
    brier = sum((chance - is_true) ** 2 for inside in members for chance, is_true in inside) / max(1, count)
    error = sum(row.count * abs(row.predicted - row.actual) for row in rows) / max(1, count)
    return Reliability(tuple(rows), brier, error)
