"""Carries out what ``plan.decide`` says: checkouts, processes, and a fact for everything that happened.

It owns no truth: facts go to ``record`` and come back as the state of the next call. What it remembers itself (which trees
are being made, which processes run) is either on disk too or cheap to find out again.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, assert_never

from ci.deploy.command import arguments, environ
from ci.deploy.model import (
    DeployFact,
    DeployFinished,
    DeployStarted,
    Environment,
    StepFinished,
    StepSent,
    WaveFinished,
)
from ci.deploy.plan import (
    ROLL_BACK,
    ROLLBACK,
    VERIFY,
    Action,
    Deploy,
    DeployState,
    FinishDeploy,
    FinishWave,
    SendStep,
    StartDeploy,
    TrunkOrder,
    apply,
    decide,
    expand_waves,
)
from ci.deploy.steps import Order, Steps
from ci.deploy.targets import find_targets
from ci.errors import Unavailable, UserError
from ci.git import Git
from ci.model import Sha

RETRY_S = 30.0  # before something outside that failed (an inventory, git, the disk) is asked again

T = TypeVar("T")
_Work = tuple[str, Sha] | int  # the targets of an environment at a commit, or the trees of a deploy


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something outside that keeps a deploy from going on, and is tried again at ``retry_at``."""

    text: str
    retry_at: float


class Deployer:
    """The deploys of one repository. ``resume`` once, then ``tick`` whenever something may have changed; from one thread.

    folder: absolute; holds deploys/<number>/ with checkouts while a deploy runs, and the logs of its steps for good.
    record: makes a fact durable and folds it, before it returns. on_change: "tick soon"; called from other threads.
    """

    def __init__(
        self,
        repository: Git,
        folder: Path,
        record: Callable[[DeployFact], None],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._repository = repository
        self._folder = folder
        self._record = record
        self._on_change = on_change
        self._steps = Steps(on_change, clock)
        # Checkouts and inventories take seconds: they are made beside the loop, and the tick after that finds them.
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="deploy-prepare")
        self._works: dict[_Work, Future[Any]] = {}
        self._troubles: dict[_Work, Trouble] = {}
        self._asked: set[_Work] = set()  # in the present tick

    @property
    def is_idle(self) -> bool:
        """Whether no step runs and nothing is being prepared. A deploy that bakes is not seen here, but in state.running."""
        return self._steps.is_idle and not self._works

    @property
    def troubles(self) -> tuple[str, ...]:
        """What keeps deploys from going on at the moment, as sentences."""
        return tuple(trouble.text for trouble in self._troubles.values())

    def resume(self, state: DeployState) -> None:
        """Pick up what an earlier controller left: steps that run, checkouts of deploys that are over."""
        for deploy in state.running:
            for step in deploy.steps.values():
                if step.end is None:
                    self._steps.resume(self._order(deploy, step.sent), step.sent.at)
        running = {str(deploy.number) for deploy in state.running}
        for folder in (self._folder / "deploys").glob("*"):
            if folder.name.startswith("targets-"):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.name not in running:
                _remove_trees(folder)

    def tick(
        self,
        environments: Sequence[Environment],
        state: DeployState,
        promoted: Sha | None,
        order: TrunkOrder,
        now: float,
    ) -> float | None:
        """Do all that can be done now. Returns when to come back even if nothing happens, epoch seconds UTC.

        state: the fold of every fact recorded so far. Those of this call have been recorded when it returns.
        """
        self._asked = set()
        state = self._collect(state, now)
        while True:
            before = state
            decisions = decide(environments, state, promoted, order, now)
            for action in decisions.actions:
                state = self._perform(action, state, now)
            if state is before:
                break
        self._drop_what_nobody_asks_for()
        retries = (trouble.retry_at for trouble in self._troubles.values())
        return min((at for at in (decisions.look_again_at, *retries) if at is not None), default=None)

    def close(self) -> None:
        """Stop watching. Steps that run go on, and the next controller's ``resume`` finds them."""
        for future in self._works.values():
            future.cancel()
        self._pool.shutdown()  # what is being removed is removed to the end
        self._steps.close()

    def _write(self, state: DeployState, fact: DeployFact) -> DeployState:
        self._record(fact)
        return apply(state, fact)

    def _collect(self, state: DeployState, now: float) -> DeployState:
        for end in self._steps.collect():
            deploy = next(deploy for deploy in state.running if end.step in deploy.steps)
            log = str(self._base(deploy, end.step).with_suffix(".log").relative_to(self._folder))
            fact = StepFinished(now, deploy.number, end.step, end.outcome, end.exit_code, end.reason, log)
            state = self._write(state, fact)
        return state

    # --- actions ------------------------------------------------------------------------------------------------------

    def _perform(self, action: Action, state: DeployState, now: float) -> DeployState:
        """The state afterwards; the very same object when the action has to wait for something."""
        match action:
            case StartDeploy():
                return self._start(action, state, now)
            case SendStep():
                return self._send(action, state, now)
            case FinishWave():
                return self._write(state, WaveFinished(now, action.deploy, action.wave, action.good, action.reason))
            case FinishDeploy():
                state = self._write(state, DeployFinished(now, action.deploy, action.outcome, action.reason))
                self._pool.submit(_remove_trees, self._deploy_folder(action.deploy))
                return state
            case _:
                assert_never(action)

    def _start(self, action: StartDeploy, state: DeployState, now: float) -> DeployState:
        waves, refused = action.waves, ""
        if waves is None:
            try:
                targets = self._prepared(
                    (action.settings.name, action.commit), lambda: self._find_targets(action.settings, action.commit), now
                )
            except UserError as wrong:  # of this commit: the next one may have put it right
                targets, refused = (), str(wrong)
            if targets is None:
                return state
            waves = expand_waves(action.settings.waves, targets)
        number = state.next_number
        started = DeployStarted(
            at=now,
            deploy=number,
            environment=action.settings.name,
            commit=action.commit,
            previous=action.previous,
            waves=waves,
            kind=action.kind,
            by=action.by,
            settings=action.settings,
        )
        state = self._write(state, started)
        return self._write(state, DeployFinished(now, number, "failed", refused)) if refused else state

    def _send(self, action: SendStep, state: DeployState, now: float) -> DeployState:
        deploy = state.deploys[action.deploy]
        missing = tuple(commit for commit in _commits_needed(deploy) if not self._tree(deploy, commit).exists())
        if missing and self._prepared(deploy.number, lambda: self._make_trees(deploy, missing), now) is None:
            return state
        sent = StepSent(now, action.deploy, action.step, action.wave, action.target, action.action)
        state = self._write(state, sent)  # before the process: a crash in between is a step that ``resume`` starts
        self._steps.start(self._order(deploy, sent))
        return state

    # --- work beside the loop -----------------------------------------------------------------------------------------

    def _prepared(self, work: _Work, do: Callable[[], T], now: float) -> T | None:
        """What ``do`` returned in another thread; None: not yet, or it failed for a reason outside and is tried later."""
        self._asked.add(work)
        if work in self._troubles and now < self._troubles[work].retry_at:
            return None
        future = self._works.get(work)
        if future is None:
            future = self._works[work] = self._pool.submit(do)
            future.add_done_callback(lambda _: self._on_change())
        if not future.done():
            return None
        del self._works[work]
        try:
            result: T = future.result()
        except (Unavailable, OSError) as failed:
            self._troubles[work] = Trouble(str(failed), now + RETRY_S)
            return None
        self._troubles.pop(work, None)
        return result

    def _drop_what_nobody_asks_for(self) -> None:
        """Forget the preparations of deploys that have been overtaken meanwhile."""
        self._troubles = {work: trouble for work, trouble in self._troubles.items() if work in self._asked}
        self._works = {work: future for work, future in self._works.items() if work in self._asked or not future.done()}

    def _find_targets(self, settings: Environment, commit: Sha) -> tuple[str, ...]:
        if not settings.targets_command:
            return find_targets(self._repository, settings, commit, self._folder)
        deploys = self._folder / "deploys"
        deploys.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="targets-", dir=deploys, ignore_cleanup_errors=True) as folder:
            tree = Path(folder) / "tree"
            _check_out(self._repository, commit, tree)
            return find_targets(self._repository, settings, commit, tree)

    def _make_trees(self, deploy: Deploy, commits: Sequence[Sha]) -> bool:
        for commit in commits:
            _check_out(self._repository, commit, self._tree(deploy, commit))
        return True

    # --- where things are, and what a step is told --------------------------------------------------------------------

    def _deploy_folder(self, number: int) -> Path:
        return self._folder / "deploys" / str(number)

    def _base(self, deploy: Deploy, step: str) -> Path:
        return self._deploy_folder(deploy.number) / step

    def _tree(self, deploy: Deploy, commit: Sha) -> Path:
        return self._deploy_folder(deploy.number) / f"tree-{commit}"

    def _order(self, deploy: Deploy, sent: StepSent) -> Order:
        settings = deploy.settings
        command, commit, previous, tree = (
            settings.command,
            deploy.started.commit,
            deploy.started.previous,
            deploy.started.commit,
        )
        if sent.action == VERIFY:
            command = settings.verify
        elif sent.action == ROLL_BACK:
            tree = deploy.restores or deploy.started.commit
            if settings.rollback:
                command, commit, previous = settings.rollback, deploy.removes or Sha(""), deploy.restores
            else:
                commit, previous = deploy.restores or Sha(""), deploy.removes
        values = {
            "target": sent.target,
            "commit": commit,
            "previous": previous or "",
            "environment": settings.name,
            "wave": str(sent.wave),
        }
        more = {
            "GATE_DEPLOY": str(deploy.number),
            "GATE_STEP": sent.step,
            "GATE_ACTION": sent.action.replace(" ", ""),
        }
        return Order(
            step=sent.step,
            base=self._base(deploy, sent.step),
            argv=arguments(command, values) if command else (),
            env=environ(values, more, settings.pass_env),
            folder=self._tree(deploy, tree),
            timeout_s=settings.timeout_s,
        )


def _commits_needed(deploy: Deploy) -> tuple[Sha, ...]:
    """The checkouts of a deploy. That of the previous commit is made at the start too: a full disk or a lost object must be
    found while nothing has been touched, not when a rollback is needed."""
    previous = None if deploy.started.kind == ROLLBACK else deploy.started.previous
    return (deploy.started.commit,) if previous is None else (deploy.started.commit, previous)


def _check_out(repository: Git, commit: Sha, tree: Path) -> None:
    """Write a commit's files into a new folder, through an index of its own; it appears whole or not at all."""
    half = tree.with_name(f"{tree.name}.half")
    index = tree.with_name(f"{tree.name}.index")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(half)}
    repository.run("read-tree", commit, env=env)
    repository.run("checkout-index", "--all", "--force", env=env)
    index.unlink()
    half.rename(tree)


def _remove_trees(folder: Path) -> None:
    for tree in folder.glob("tree-*"):
        if tree.is_dir():
            shutil.rmtree(tree, ignore_errors=True)
        else:
            tree.unlink(missing_ok=True)
