"""gate.toml as frozen types. Parsing is strict: see ``parse``."""

from dataclasses import dataclass, field

from ci.deploy.model import Environment
from ci.model import Check, CheckName, Stage

CONFIG_NAME = "gate.toml"


@dataclass(frozen=True, slots=True)
class Submit:
    """What may be pushed to refs/for/<trunk>, and by whom. hooks/receive.py reads these keys by itself."""

    trunk_push: str = "refuse"  # refuse | submit
    max_commits: int = 100
    max_size_bytes: int = 50_000_000
    allow: tuple[str, ...] = ("*",)
    wait_timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Merge:
    """How a change becomes commits on trunk."""

    method: str = "merge"  # merge | squash | rebase
    every_commit: bool = False
    signed: str = "refuse"  # refuse | resign: commits that are signed and would be rewritten
    directory_renames: str = "conflict"  # conflict | true | false, as git's merge.directoryRenames
    committer: str = "trunkgate <gate@localhost>"


@dataclass(frozen=True, slots=True)
class PathRule:
    """Changes that touch these paths need this many approvals by these people."""

    paths: tuple[str, ...]  # gitignore patterns
    approvers: tuple[str, ...]
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may land what. maintainers empty: the account that owns the repository is the only one."""

    maintainers: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ("*",)
    paths: tuple[PathRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Where and how checks run on the server."""

    workers: int = 2
    isolation: str = "auto"  # auto | bubblewrap | plain
    read: tuple[str, ...] = ()  # more folders that checks may read
    pass_env: tuple[str, ...] = ()  # names of variables of the daemon that checks may see
    log_max_bytes: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Protect:
    """Refs that nobody pushes to directly."""

    tags: tuple[str, ...] = ()  # patterns as of fnmatch, without refs/tags/


@dataclass(frozen=True, slots=True)
class Message:
    """Rules for commit messages, checked by gate-message."""

    pattern: str = ""  # regular expression that the subject must match; "": none
    max_subject: int = 0  # characters; 0: no limit
    trailers: tuple[str, ...] = ()  # required trailer names


@dataclass(frozen=True, slots=True)
class Push:
    """When gate-push warns that a branch has been away from trunk for too long."""

    max_behind: int = 0  # commits; 0: no limit
    max_age_s: float = 0.0  # age of the oldest commit that is not on trunk; 0: no limit


@dataclass(frozen=True, slots=True)
class Config:
    """One gate.toml. ``checks`` and ``environments`` keep the order of the file."""

    submit: Submit = field(default_factory=Submit)
    merge: Merge = field(default_factory=Merge)
    trust: Trust = field(default_factory=Trust)
    run: Run = field(default_factory=Run)
    protect: Protect = field(default_factory=Protect)
    message: Message = field(default_factory=Message)
    push: Push = field(default_factory=Push)
    checks: tuple[Check, ...] = ()
    environments: tuple[Environment, ...] = ()

    def checks_before_landing(self) -> tuple[Check, ...]:
        """The required checks: everything that runs at commit or before landing."""
        return tuple(check for check in self.checks if check.stage is not Stage.POST_COMMIT)

    def checks_after_landing(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.stage is Stage.POST_COMMIT)

    def check(self, name: CheckName) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a gate.toml. path: dotted, as in check[2].stage. line: from 1; 0: the file as a whole."""

    path: str
    line: int
    text: str  # what is wrong and what to write instead
