"""Decides what a post-commit pipeline does next: a graph of checks by ``needs``, judged from the results of its keys.

Pure: it starts nothing and stores nothing. Status is worked out from evidence each time, so a restart has nothing to
restore, and a commit whose keys are already green is green without a run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ci.model import Check, CheckName, InputKey, Result, Sha

MOST_TRIES = 3  # infrastructure errors after which a check counts as one that could not be run


class Evidence(Protocol):
    """What is known of one input key; gate.model.Evidence is one."""

    @property
    def green(self) -> Result | None:
        """Newest green result."""
        ...

    @property
    def red(self) -> Result | None:
        """Newest result that is red or timed out."""
        ...

    @property
    def attempts(self) -> tuple[Result, ...]:
        """Infrastructure errors since the last real outcome."""
        ...


@dataclass(frozen=True, slots=True)
class PipelineState:
    """Where a pipeline stands. Every check is named in exactly one of the fields; the order is that of the checks.

    start: nothing is in the way of running these now. waiting: running, or behind one that is.
    blocked: never runs on this commit, because a check that it needs is red, blocked or could not be run.
    could_not_run: the machine failed it MOST_TRIES times. It says nothing against the commit, and keeps it from being green.
    """

    start: tuple[Check, ...] = ()
    waiting: tuple[CheckName, ...] = ()
    green: tuple[CheckName, ...] = ()
    red: tuple[CheckName, ...] = ()
    blocked: tuple[CheckName, ...] = ()
    could_not_run: tuple[CheckName, ...] = ()

    @property
    def is_over(self) -> bool:
        return not self.start and not self.waiting

    @property
    def is_green(self) -> bool:
        return self.is_over and not (self.red or self.blocked or self.could_not_run)


def decide(
    checks: Sequence[Check],
    keys: Mapping[CheckName, InputKey],
    evidence: Mapping[InputKey, Evidence],
    running: Collection[InputKey],
    now: float,
) -> PipelineState:
    """Where the pipeline of one commit stands, and which checks to start.

    checks: those of the post-commit stage, without cycles in ``needs``. A need that is not among them is a check of an
        earlier stage and counts as green: the commit could not have landed without it.
    keys: input keys for that commit. A check whose key is not known yet waits.
    """
    by_name = {check.name: check for check in checks}
    places: dict[CheckName, str] = {}
    for name in by_name:
        _place(name, by_name, keys, evidence, running, now, places)

    def named(place: str) -> tuple[CheckName, ...]:
        return tuple(check.name for check in checks if places[check.name] == place)

    return PipelineState(
        start=tuple(by_name[name] for name in named("start")),
        waiting=named("waiting"),
        green=named("green"),
        red=named("red"),
        blocked=named("blocked"),
        could_not_run=named("could not run"),
    )


def _place(
    name: CheckName,
    checks: Mapping[CheckName, Check],
    keys: Mapping[CheckName, InputKey],
    evidence: Mapping[InputKey, Evidence],
    running: Collection[InputKey],
    now: float,
    places: dict[CheckName, str],
) -> str:
    """The field of PipelineState that a check belongs to; remembered in ``places``."""
    if name in places:
        return places[name]
    check = checks[name]
    needs = [
        _place(need, checks, keys, evidence, running, now, places) if need in checks else "green" for need in check.needs
    ]
    places[name] = place = _own_place(check, keys.get(name), needs, evidence, running, now)
    return place


def _own_place(
    check: Check,
    key: InputKey | None,
    needs: Sequence[str],
    evidence: Mapping[InputKey, Evidence],
    running: Collection[InputKey],
    now: float,
) -> str:
    if any(need in ("red", "blocked", "could not run") for need in needs):
        return "blocked"
    if key is None or any(need != "green" for need in needs):
        return "waiting"
    known = evidence.get(key)
    newest = None if known is None else _newest(known)
    if newest is not None and newest.is_green_at(now, check.max_age_s):
        return "green"
    if key in running:
        return "waiting"
    if newest is not None and known is not None and newest is known.red:
        return "red"
    if known is not None and len(known.attempts) >= MOST_TRIES:
        return "could not run"
    return "start"


def _newest(known: Evidence) -> Result | None:
    results = [result for result in (known.green, known.red) if result is not None]
    return max(results, key=lambda result: result.finished_at, default=None)


def choose_commit(trunk: Sha, judged: Mapping[Sha, bool], current: Sha | None) -> Sha | None:
    """The commit whose pipeline goes on or starts now; None: nothing to do until trunk moves.

    judged: commits whose pipeline is over, and whether it was green. current: the commit whose pipeline was begun last.
    A pipeline that has begun is finished; then the newest trunk commit is taken and what came in between is skipped.
    """
    if current is not None and current not in judged:
        return current
    return None if trunk in judged else trunk
