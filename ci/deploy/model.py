"""What a deploy is: environments, waves, targets, and the facts journalled about each step. Frozen, no behaviour."""

from dataclasses import dataclass

from ci.model import Sha


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a deploy goes. Exactly one of targets, targets_file, targets_command says which targets there are.

    command, verify, rollback: as ``Check.command``, with the placeholders {target}, {commit}, {previous}, {environment}
        and {wave}. command runs once per target; verify once per wave; rollback once per target, and when it is empty,
        command runs again with the last good commit.
    waves: how many targets are deployed when the wave is over, counts ("1") or shares ("10%"); the last must be "100%".
    after: name of the environment that must be good at a commit first; "": deploys come straight from the promotion ref.
    max_failures: failed targets that a whole deploy survives.
    """

    name: str
    command: str | tuple[str, ...]
    targets: tuple[str, ...] = ()
    targets_file: str = ""
    targets_command: str | tuple[str, ...] = ""
    verify: str | tuple[str, ...] = ""
    rollback: str | tuple[str, ...] = ""
    waves: tuple[str, ...] = ("100%",)
    after: str = ""
    bake_s: float = 0.0
    timeout_s: float = 900.0
    max_failures: int = 0
    concurrency: int = 10
    pass_env: tuple[str, ...] = ()


# Facts, journalled in this order. ``deploy`` numbers count up over the whole repository. Times: epoch seconds UTC.


@dataclass(frozen=True, slots=True)
class DeployStarted:
    """The plan is frozen here: targets, waves and settings do not change under a running deploy.

    kind: forward or rollback (back to an earlier good commit, asked for by a person; previous is then the commit left).
    settings: the environment as gate.toml had it at that moment. None: nothing can be run for it, every step fails.
    """

    at: float
    deploy: int
    environment: str
    commit: Sha
    previous: Sha | None  # last good commit of the environment
    waves: tuple[tuple[str, ...], ...]
    kind: str = "forward"
    by: str = "gate"
    settings: Environment | None = None


@dataclass(frozen=True, slots=True)
class StepSent:
    """Written before a command starts. step: stable id of (deploy, wave, target, action).

    action: deploy, verify, roll back.
    """

    at: float
    deploy: int
    step: str
    wave: int
    target: str  # "" for verify
    action: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """outcome: done, failed, timed out, unknown (the machine went down under it)."""

    at: float
    deploy: int
    step: str
    outcome: str
    exit_code: int | None = None
    reason: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class WaveFinished:
    """good: failures are within the threshold and verify exited 0. bake is over when at + bake_s has passed."""

    at: float
    deploy: int
    wave: int
    good: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeployFinished:
    """outcome: good, rolled back, failed (rollback did not help), superseded."""

    at: float
    deploy: int
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RollbackRequested:
    """A person asked for the environment's last good commit before the present one."""

    at: float
    environment: str
    by: str
    reason: str = ""


DeployFact = DeployStarted | StepSent | StepFinished | WaveFinished | DeployFinished | RollbackRequested
