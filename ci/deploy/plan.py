"""Decides what deploys do next: from facts, the promoted commit and the time to actions as values.

Pure: no clock, git, process or journal. The state of every deploy is a fold over facts, so a controller that dies leaves
nothing behind that its successor must guess, except whether a step's process is still there (``steps`` finds out).

The rules, each of which is a test:
- An environment gets the promoted commit; with ``after`` the commit that the earlier environment stands on, and only while
  that commit is good there. Never one that is not newer on trunk than the commit that stands there and than every
  *barred* one: a commit that was rolled back is not deployed again by itself, a newer commit that has it as an ancestor is.
- Wave after wave: no target of a wave gets a step before the wave ahead is good and its bake time is over.
- A step is sent at most once. Failed, timed out and unknown count alike against ``max_failures``.
- A wave that fails is rolled back with every wave before it, newest first, on every target that was touched since the last
  good deploy, those of deploys that were overtaken included.
- A newer commit replaces a deploy that has sent nothing, overtakes a running one at a wave border, and after
  MOST_OVERTAKES in a row waits, or a fast trunk would never see a last wave.
- A rollback that a person asks for begins at the next wave border, does not wait for a bake, and is itself never overtaken.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import assert_never

from ci.deploy.model import (
    DeployFact,
    DeployFinished,
    DeployStarted,
    Environment,
    RollbackRequested,
    StepFinished,
    StepSent,
    WaveFinished,
)
from ci.model import Sha

MOST_OVERTAKES = 3  # in a row, in one environment

DEPLOY, VERIFY, ROLL_BACK = "deploy", "verify", "roll back"  # actions of a step
FORWARD, ROLLBACK = "forward", "rollback"  # kinds of a deploy
DONE = "done"  # the one good outcome of a step


# --- state: a fold over facts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was sent. end None: it runs, or its controller died and nobody has looked yet."""

    sent: StepSent
    end: StepFinished | None = None

    @property
    def is_done(self) -> bool:
        return self.end is not None and self.end.outcome == DONE

    @property
    def has_failed(self) -> bool:
        return self.end is not None and self.end.outcome != DONE


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy, from its facts. waves: finished ones, by number from 1. inherited: targets that deploys before it
    touched since the last good one, and which a rollback therefore must reach too."""

    started: DeployStarted
    steps: Mapping[str, Step] = field(default_factory=dict)
    waves: Mapping[int, WaveFinished] = field(default_factory=dict)
    end: DeployFinished | None = None
    inherited: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return self.started.deploy

    @property
    def settings(self) -> Environment:
        return self.started.settings or Environment(name=self.started.environment, command="")

    @property
    def is_rolling_back(self) -> bool:
        """Whether it only restores targets from here on, or did when it ended."""
        return (
            self.started.kind == ROLLBACK
            or any(not wave.good for wave in self.waves.values())
            or any(step.sent.action == ROLL_BACK for step in self.steps.values())
        )

    @property
    def restores(self) -> Sha | None:
        """The commit that its rollback leads to; None: there has been no good one."""
        return self.started.commit if self.started.kind == ROLLBACK else self.started.previous

    @property
    def removes(self) -> Sha | None:
        """The commit that its rollback takes away."""
        return self.started.previous if self.started.kind == ROLLBACK else self.started.commit

    def steps_of(self, action: str) -> tuple[Step, ...]:
        return tuple(step for step in self.steps.values() if step.sent.action == action)

    def touched(self) -> tuple[str, ...]:
        """Targets that a step of this deploy may have altered, in the order of sending."""
        return tuple(dict.fromkeys(step.sent.target for step in self.steps.values() if step.sent.action != VERIFY))

    def left_behind(self) -> tuple[str, ...]:
        """Targets that are not known to stand on a good commit once this deploy has ended without becoming good."""
        restored = {step.sent.target for step in self.steps_of(ROLL_BACK) if step.is_done}
        return tuple(target for _, target in targets_to_restore(self) if target not in restored)

    def failures(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps_of(DEPLOY) if step.has_failed)


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """What became of an environment. good: commits that it stood on, oldest first; the last is the present one.

    stands: number of the deploy that put the present commit there. barred: commits that are not deployed by themselves.
    request: a person's rollback that has not begun. overtakes: overtaken deploys in a row. dirty: targets touched since the
    last good deploy. running: number of the deploy that has not ended. heard: every rollback that was asked for.
    """

    good: tuple[Sha, ...] = ()
    stands: int | None = None
    barred: frozenset[Sha] = frozenset()
    request: RollbackRequested | None = None
    overtakes: int = 0
    dirty: tuple[str, ...] = ()
    running: int | None = None
    heard: frozenset[RollbackRequested] = frozenset()

    @property
    def present(self) -> Sha | None:
        return self.good[-1] if self.good else None

    @property
    def earlier(self) -> Sha | None:
        """Where a rollback from the present commit leads; None: nowhere."""
        return next((commit for commit in reversed(self.good[:-1]) if commit not in self.barred), None)


@dataclass(frozen=True, slots=True)
class DeployState:
    """Every deploy by number, and every environment by name that was ever deployed to, or asked to be put back."""

    deploys: Mapping[int, Deploy] = field(default_factory=dict)
    environments: Mapping[str, EnvironmentState] = field(default_factory=dict)

    @property
    def running(self) -> tuple[Deploy, ...]:
        numbers = (state.running for state in self.environments.values())
        return tuple(self.deploys[number] for number in sorted(number for number in numbers if number is not None))

    @property
    def next_number(self) -> int:
        return max(self.deploys, default=0) + 1

    def of(self, environment: str) -> EnvironmentState:
        return self.environments.get(environment, EnvironmentState())


def fold(facts: Iterable[DeployFact], state: DeployState | None = None) -> DeployState:
    """The state after these facts, in journal order."""
    state = state or DeployState()
    for fact in facts:
        state = apply(state, fact)
    return state


def apply(state: DeployState, fact: DeployFact) -> DeployState:
    """The state after one more fact. A fact that is already in it, or is about an unknown deploy, changes nothing."""
    match fact:
        case DeployStarted():
            return _apply_start(state, fact)
        case RollbackRequested():
            return _apply_request(state, fact)
        case StepSent() | StepFinished() | WaveFinished() | DeployFinished():
            deploy = state.deploys.get(fact.deploy)
            return state if deploy is None or deploy.end is not None else _apply_progress(state, deploy, fact)
        case _:
            assert_never(fact)


def _apply_start(state: DeployState, fact: DeployStarted) -> DeployState:
    if fact.deploy in state.deploys:
        return state
    before = state.of(fact.environment)
    request = None if fact.kind == ROLLBACK else before.request
    return _with(
        state,
        Deploy(fact, inherited=before.dirty),
        replace(before, running=fact.deploy, request=request),
    )


def _apply_request(state: DeployState, fact: RollbackRequested) -> DeployState:
    """A request with nothing to go back to is dropped, and so is one that meets a rollback under way. One that is told again
    when its rollback is over must not ask for another."""
    heard = state.of(fact.environment)
    if fact in heard.heard:
        return state
    before = replace(heard, heard=heard.heard | {fact})
    state = DeployState(state.deploys, {**state.environments, fact.environment: before})
    if before.running is not None:
        deploy = state.deploys[before.running]
        leaves = None if deploy.is_rolling_back else deploy.started.commit
    else:
        leaves = before.present if before.earlier is not None else None
    if leaves is None or before.request is not None:
        return state
    after = replace(before, request=fact, barred=before.barred | {leaves})
    return DeployState(state.deploys, {**state.environments, fact.environment: after})


def _apply_progress(
    state: DeployState, deploy: Deploy, fact: StepSent | StepFinished | WaveFinished | DeployFinished
) -> DeployState:
    environment = state.of(deploy.started.environment)
    match fact:
        case StepSent():
            if fact.step not in deploy.steps:
                deploy = replace(deploy, steps={**deploy.steps, fact.step: Step(fact)})
        case StepFinished():
            step = deploy.steps.get(fact.step)
            if step is not None and step.end is None:
                deploy = replace(deploy, steps={**deploy.steps, fact.step: replace(step, end=fact)})
        case WaveFinished():
            if fact.wave not in deploy.waves:
                deploy = replace(deploy, waves={**deploy.waves, fact.wave: fact})
        case DeployFinished():
            deploy = replace(deploy, end=fact)
            environment = _after_end(environment, deploy, fact.outcome)
        case _:
            assert_never(fact)
    return _with(state, deploy, environment)


def _after_end(before: EnvironmentState, deploy: Deploy, outcome: str) -> EnvironmentState:
    commit = deploy.started.commit
    after = replace(before, running=None)
    if outcome == "superseded":
        touched = tuple(dict.fromkeys((*before.dirty, *deploy.touched())))
        return replace(after, dirty=touched, overtakes=before.overtakes + (1 if deploy.steps else 0))
    after = replace(after, overtakes=0, request=None)
    if outcome == "good":
        if deploy.started.kind == ROLLBACK and commit in before.good:
            good = before.good[: before.good.index(commit) + 1]
        else:
            good = (*(known for known in before.good if known != commit), commit)
        return replace(after, good=good, stands=deploy.number, dirty=())
    barred = before.barred if deploy.started.kind == ROLLBACK else before.barred | {commit}
    return replace(after, barred=barred, dirty=deploy.left_behind())


def _with(state: DeployState, deploy: Deploy, environment: EnvironmentState) -> DeployState:
    return DeployState(
        {**state.deploys, deploy.number: deploy},
        {**state.environments, deploy.started.environment: environment},
    )


# --- decisions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartDeploy:
    """Begin a deploy. waves: for a rollback, those of the deploy that it undoes; None: from the environment's targets at
    ``commit``, which somebody has to look up."""

    settings: Environment
    commit: Sha
    previous: Sha | None
    kind: str = FORWARD
    by: str = "gate"
    waves: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class SendStep:
    deploy: int
    step: str
    wave: int
    target: str  # "" for verify
    action: str


@dataclass(frozen=True, slots=True)
class FinishWave:
    deploy: int
    wave: int
    good: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FinishDeploy:
    deploy: int
    outcome: str
    reason: str = ""


Action = StartDeploy | SendStep | FinishWave | FinishDeploy


@dataclass(frozen=True, slots=True)
class Decisions:
    """look_again_at: epoch seconds UTC, when a bake time is over; None: only an event can change anything."""

    actions: tuple[Action, ...] = ()
    look_again_at: float | None = None


TrunkOrder = Callable[[Sha], int | None]
"""Position of a commit on trunk's first-parent history, larger is newer; None: it is not on it."""


def decide(
    environments: Sequence[Environment], state: DeployState, promoted: Sha | None, order: TrunkOrder, now: float
) -> Decisions:
    """What to do now, for every environment at once.

    environments: as configured by the gate.toml of the promoted commit. A running deploy keeps the settings that it was
    started with, and goes on when its environment is no longer among them.
    """
    configured = {environment.name: environment for environment in environments}
    actions: list[Action] = []
    deadlines: list[float] = []
    for deploy in state.running:
        settings = configured.get(deploy.started.environment)
        newer = None if settings is None else _commit_to_deploy(settings, state, promoted, order)
        own = _proceed(deploy, state.of(deploy.started.environment), newer, order, now)
        actions += own.actions
        if own.look_again_at is not None:
            deadlines.append(own.look_again_at)
    for name in dict.fromkeys((*configured, *state.environments)):
        start = _start(name, configured.get(name), state, promoted, order)
        if start is not None:
            actions.append(start)
    return Decisions(tuple(actions), min(deadlines, default=None))


def _start(
    name: str, settings: Environment | None, state: DeployState, promoted: Sha | None, order: TrunkOrder
) -> StartDeploy | None:
    environment = state.of(name)
    if environment.running is not None:
        return None
    if environment.request is not None and environment.stands is not None and environment.earlier is not None:
        undone = state.deploys[environment.stands]
        return StartDeploy(
            settings=settings or undone.settings,
            commit=environment.earlier,
            previous=environment.present,
            kind=ROLLBACK,
            by=environment.request.by,
            waves=undone.started.waves,
        )
    commit = None if settings is None else _commit_to_deploy(settings, state, promoted, order)
    if settings is None or commit is None:
        return None
    return StartDeploy(settings, commit, environment.present)


def _commit_to_deploy(settings: Environment, state: DeployState, promoted: Sha | None, order: TrunkOrder) -> Sha | None:
    """The commit that an environment should get, when it is newer than what stands there and than every barred one."""
    if promoted is None:
        return None
    commit: Sha | None = promoted
    if settings.after:
        earlier = state.of(settings.after)
        commit = None if earlier.present in earlier.barred else earlier.present
    position = None if commit is None else order(commit)
    if position is None:
        return None
    here = state.of(settings.name)
    passed = (order(known) for known in (*here.barred, *here.good[-1:]))
    return commit if all(known is None or position > known for known in passed) and commit != here.present else None


def _proceed(deploy: Deploy, environment: EnvironmentState, newer: Sha | None, order: TrunkOrder, now: float) -> Decisions:
    """One running deploy: within a wave, at a wave border, or on the way back."""
    if deploy.is_rolling_back:
        return Decisions(_roll_back(deploy))
    wave = len(deploy.waves) + 1
    if any(step.sent.wave == wave for step in deploy.steps.values()):
        return Decisions(_go_on_with_wave(deploy, wave))
    # From here on it stands at a wave border, where requests and newer commits are heard.
    if environment.request is not None:
        return Decisions(_roll_back(deploy))
    is_last = wave > len(deploy.started.waves)
    if not is_last and newer is not None and _is_overtaken(deploy, environment, newer, order):
        return Decisions((FinishDeploy(deploy.number, "superseded", f"overtaken by {newer[:10]}"),))
    if wave > 1:
        baked_at = deploy.waves[wave - 1].at + deploy.settings.bake_s
        if now < baked_at:
            return Decisions(look_again_at=baked_at)
    if is_last:
        return Decisions((FinishDeploy(deploy.number, "good", _say_failures(deploy.failures())),))
    return Decisions(_go_on_with_wave(deploy, wave))


def _is_overtaken(deploy: Deploy, environment: EnvironmentState, newer: Sha, order: TrunkOrder) -> bool:
    theirs, ours = order(newer), order(deploy.started.commit)
    if theirs is None or (ours is not None and theirs <= ours):
        return False
    return not deploy.steps or environment.overtakes < MOST_OVERTAKES


def _go_on_with_wave(deploy: Deploy, wave: int) -> tuple[Action, ...]:
    steps = [step for step in deploy.steps.values() if step.sent.wave == wave]
    running = sum(step.end is None for step in steps)
    failures = deploy.failures()
    if len(failures) > deploy.settings.max_failures:
        # Nothing new is sent; what runs is waited for, so that the rollback meets targets at rest.
        return () if running else (FinishWave(deploy.number, wave, False, _say_failures(failures)),)
    sent = {step.sent.target for step in steps if step.sent.action == DEPLOY}
    unsent = [target for target in deploy.started.waves[wave - 1] if target not in sent]
    if unsent:
        free = max(deploy.settings.concurrency, 1) - running
        return tuple(_send(deploy, wave, target, DEPLOY) for target in unsent[: max(free, 0)])
    if running:
        return ()
    verify = next((step for step in steps if step.sent.action == VERIFY), None)
    if deploy.settings.verify and verify is None:
        return (_send(deploy, wave, "", VERIFY),)
    if verify is not None and verify.has_failed:
        return (FinishWave(deploy.number, wave, False, f"verify {_say_end(verify)}"),)
    return (FinishWave(deploy.number, wave, True, _say_failures(failures)),)


def _roll_back(deploy: Deploy) -> tuple[Action, ...]:
    """The next steps of a rollback: newest wave first, each wave ended before the one below it, no budget of failures."""
    steps = deploy.steps_of(ROLL_BACK)
    running = sum(step.end is None for step in steps)
    if deploy.restores is not None or deploy.settings.rollback:
        sent = {step.sent.target for step in steps}
        unsent = [place for place in targets_to_restore(deploy) if place[1] not in sent]
        if unsent:
            wave = unsent[0][0]
            if any(step.end is None and step.sent.wave != wave for step in steps):
                return ()
            free = max(max(deploy.settings.concurrency, 1) - running, 0)
            return tuple(_send(deploy, wave, target, ROLL_BACK) for number, target in unsent[:free] if number == wave)
        if running:
            return ()
    left = deploy.left_behind()
    if left:
        why = "could not be rolled back" if steps else "there is no earlier good commit and no rollback command for"
        return (FinishDeploy(deploy.number, "failed", f"left behind, {why}: {_say_targets(left)}"),)
    return (FinishDeploy(deploy.number, "good" if deploy.started.kind == ROLLBACK else "rolled back"),)


def targets_to_restore(deploy: Deploy) -> tuple[tuple[int, str], ...]:
    """(wave, target) of every target that a rollback has to reach, in its order: newest wave first, then, as wave 0, those
    which only deploys that this one overtook have touched."""
    if deploy.started.kind == ROLLBACK:
        reached = {target for wave in deploy.started.waves for target in wave}
    else:
        reached = {step.sent.target for step in deploy.steps_of(DEPLOY)}
    reached |= set(deploy.inherited)
    places = [
        (number, target)
        for number, wave in reversed(list(enumerate(deploy.started.waves, start=1)))
        for target in wave
        if target in reached
    ]
    planned = {target for _, target in places}
    return (*places, *((0, target) for target in deploy.inherited if target not in planned))


def _send(deploy: Deploy, wave: int, target: str, action: str) -> SendStep:
    return SendStep(deploy.number, step_id(deploy.number, wave, target, action), wave, target, action)


def step_id(deploy: int, wave: int, target: str, action: str) -> str:
    """Stable, unique within a repository, and safe as a file name whatever the target is called."""
    digest = hashlib.sha256("\0".join((str(deploy), str(wave), target, action)).encode("utf-8", "surrogateescape"))
    return f"{deploy}-{wave}-{digest.hexdigest()[:16]}"


def expand_waves(waves: Sequence[str], targets: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Split targets into waves. waves: how many are deployed when a wave is over, as counts ("1") or shares ("10%").

    Shares are rounded up, waves that would add nothing are left out, and the last holds all the rest.
    """
    ends = [*(min(_wave_end(wave, len(targets)), len(targets)) for wave in waves[:-1]), len(targets)]
    split: list[tuple[str, ...]] = []
    begin = 0
    for end in ends:
        if end > begin:
            split.append(tuple(targets[begin:end]))
            begin = end
    return tuple(split)


def _wave_end(wave: str, count: int) -> int:
    return ceil(Fraction(wave.removesuffix("%")) * count / 100) if wave.endswith("%") else int(wave)


# --- reasons, as clauses that facts keep -----------------------------------------------------------------------------


def _say_failures(failures: Sequence[Step]) -> str:
    if not failures:
        return ""
    first = failures[0]
    others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"{first.sent.target} {_say_end(first)}{others}"


def _say_end(step: Step) -> str:
    if step.end is None:
        return "has not ended"
    outcome = "has an unknown outcome" if step.end.outcome == "unknown" else step.end.outcome
    return f"{outcome} ({step.end.reason})" if step.end.reason else outcome


def _say_targets(targets: Sequence[str], most: int = 10) -> str:
    more = f" and {len(targets) - most} more" if len(targets) > most else ""
    return ", ".join(targets[:most]) + more
