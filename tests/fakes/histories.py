"""Journals of a team that never was, drawn from a seed, with the truth about every change beside them.

The truth is not of the form that gate/odds.py assumes: each touched check is red with a hazard of its own, times that of the
author, of the size and of the day. A check may be red for nothing, and is then run again for the same key. A change that
meddles with what landed since it was written may break together with it. In the middle of a history the team gets worse, and
later one check does: odds that do not follow are seen.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log, prod

from ci.model import CheckName, InputKey, Outcome, Result, RunId, Sha
from gate.model import (
    Change,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    Event,
    Landed,
    LandingStarted,
    Reason,
    RunFinished,
    RunStarted,
    Submission,
    Why,
)

HINT_RIGHT = 0.9  # share of the authors' own results that are as the gate's


@dataclass(frozen=True, slots=True)
class Team:
    """Parameters of a history. worse_at, spoilt_at: shares of the history after which the team, and one check, get worse."""

    changes: int = 1_000
    authors: int = 12
    checks: int = 8
    pending: int = 6  # changes between a submission and its verdict
    flake: float = 0.02  # of every run
    clash: float = 0.034  # of each pair that meddles and waits at the same time
    at_once: float = 0.5  # share of the changes whose checks run at once, with nothing of others; the rest wait their turn
    hints: float = 0.0  # share of the changes that come with their author's own results
    worse_at: float = 0.5
    spoilt_at: float = 0.75


@dataclass(frozen=True, slots=True)
class Told:
    """What the gate describes right after a submission, and the truth that it does not know.

    chance: that it is fine, for one who knows the team, the day and the author's own results.
    """

    change: Change
    lines: int
    is_green_here: bool | None
    chance: float
    is_fine: bool


class History:
    """``steps`` in the order of a journal. Everything follows from the seed."""

    def __init__(self, seed: int, team: Team | None = None) -> None:
        self.team = team or Team()
        self._dice = random.Random(seed)
        self.checks = tuple(CheckName(f"check {number}") for number in range(self.team.checks))
        self.durations = {check: exp(self._dice.gauss(log(200), 0.8)) for check in self.checks}
        self._hazards = {check: exp(self._dice.gauss(log(0.03), 0.7)) for check in self.checks}
        self._authors = {f"author {number}": exp(self._dice.gauss(0, 0.7)) for number in range(self.team.authors)}
        self._now = 1_000.0
        self._runs = 0
        self._landed: list[Change] = []

    def steps(self) -> Iterator[Event | Told]:
        waiting: list[tuple[Told, frozenset[CheckName], int, bool]] = []
        for number in range(1, self.team.changes + 1):
            self._now += self._dice.expovariate(1 / 300)
            told, reds = self._draw(ChangeId(number), number / self.team.changes)
            change = told.change
            yield ChangeSubmitted(
                self._now, Submission(Sha(f"s{number}"), change.id, change.revision, change.head, change.by, self._now)
            )
            yield told
            ran_at_once = self._dice.random() < self.team.at_once
            for check in sorted(change.touches) if ran_at_once else ():
                yield from self._run(check, change, f"{number} alone", is_red=check in reds)
            waiting.append((told, reds, len(self._landed), ran_at_once))
            if len(waiting) > self.team.pending:
                yield from self._decide(*waiting.pop(0))
        for left in waiting:
            yield from self._decide(*left)

    def _draw(self, id_: ChangeId, progress: float) -> tuple[Told, frozenset[CheckName]]:
        files = max(1, round(exp(self._dice.gauss(log(3), 1.1))))
        lines = max(1, round(files * exp(self._dice.gauss(log(20), 0.8))))
        touches = frozenset(self._dice.sample(self.checks, min(len(self.checks), self._dice.choice((1, 1, 1, 2, 2, 3, 5)))))
        by = self._dice.choice(list(self._authors))
        today = self._authors[by] * (files / 3) ** 0.4 * (2.0 if progress > self.team.worse_at else 1.0)
        odds = {check: 1 - exp(-self._hazard(check, progress) * today) for check in touches}
        reds = frozenset(check for check in sorted(touches) if self._dice.random() < odds[check])
        paths = frozenset(f"{number}" for number in range(files))
        change = Change(id_, 1, Sha(f"h{id_}"), by, self._now, paths=paths, touches=touches)
        chance = prod(1 - odds[check] for check in touches)
        if self._dice.random() >= self.team.hints:
            return Told(change, lines, None, chance, not reds), reds
        hint = (not reds) is (self._dice.random() < HINT_RIGHT)
        right, wrong = (HINT_RIGHT, 1 - HINT_RIGHT) if hint else (1 - HINT_RIGHT, HINT_RIGHT)
        return Told(change, lines, hint, chance * right / (chance * right + (1 - chance) * wrong), not reds), reds

    def _hazard(self, check: CheckName, progress: float) -> float:
        is_spoilt = check == self.checks[0] and progress > self.team.spoilt_at
        return self._hazards[check] * (8.0 if is_spoilt else 1.0)

    def _decide(self, told: Told, reds: frozenset[CheckName], landings: int, ran_at_once: bool) -> Iterator[Event]:
        """Its turn has come. What landed since may have altered the keys of its checks, and then they run again."""
        change = told.change
        broken = set(reds)
        company = [other.touches & change.touches for other in self._landed[landings:]]
        broken.update(min(shared) for shared in company if shared and self._dice.random() < self.team.clash)
        for check in sorted(change.touches):
            if not ran_at_once or any(check in shared for shared in company):
                yield from self._run(check, change, f"{change.id} on {len(self._landed)}", is_red=check in broken)
        if broken:
            reasons = tuple(Reason(Why.CHECK_RED, check=check) for check in sorted(broken))
            yield ChangeRefused(self._now, change.id, change.revision, reasons)
            return
        commit = Sha(f"c{change.id}")
        yield LandingStarted(self._now, Sha("-"), commit, Sha("-"), (change.entry,), (commit,), ())
        yield Landed(self._now, Sha("-"), commit)
        self._landed.append(change)

    def _run(self, check: CheckName, change: Change, content: str, *, is_red: bool) -> Iterator[Event]:
        """Runs of one key: until it is green, or red so often that nobody believes in a flake."""
        key = InputKey(f"{check} of {content}")
        for _ in range(3):
            self._runs += 1
            run = RunId(f"r{self._runs}")
            started_at = self._now
            yield RunStarted(started_at, run, check, key, Sha("-"), (change.id,))
            self._now += (seconds := self.durations[check] * exp(self._dice.gauss(0, 0.3))) / 100
            is_red_now = is_red or self._dice.random() < self.team.flake
            outcome = Outcome.RED if is_red_now else Outcome.GREEN
            yield RunFinished(self._now, run, Result(key, check, outcome, run, started_at, started_at + seconds))
            if not is_red_now:
                return
