"""One bare repository and the gate's own folder in it: where things are, and cheap looks at refs and objects."""

import pwd
from pathlib import Path
from typing import NoReturn

from ci.errors import Unavailable, UserError
from ci.git import ServerGit, require_git
from ci.model import RefName, Sha
from gate.config import CONFIG_NAME

NAMES_KEPT = 10_000
GATE_FOLDER = "gate"
PLAN_FILE = "plan.json"  # what the daemon last planned for each waiting change; derived
SUBMISSIONS = RefName("refs/gate/submissions")


def account(uid: int) -> str:
    """The name of a local account; "uid N" where it has none, as in a container. hooks/receive.py names it likewise."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class Repository:
    """A bare repository. Its trunk is the branch that HEAD names."""

    def __init__(self, git_dir: Path) -> None:
        """Raises UserError when this is no bare repository, Unavailable when git is missing or too old."""
        require_git()
        self.git_dir = git_dir.absolute()
        if not (self.git_dir / "HEAD").is_file() or not (self.git_dir / "objects").is_dir():
            raise UserError(
                f"{git_dir} is not a bare Git repository: give the folder that 'git init --bare' made, "
                "or name it with --repo"
            )
        self.git = ServerGit(self.git_dir)
        self.trunk = RefName(self.git.run("symbolic-ref", "-q", "HEAD", ok=(0, 1)).text)
        if not self.trunk.startswith("refs/heads/"):
            raise UserError(f"HEAD of {git_dir} points to no branch: name the trunk with gate init --trunk BRANCH {git_dir}")
        self.folder = self.git_dir / GATE_FOLDER
        self._names: dict[str, Sha | None] = {}
        self.owner = account(self.git_dir.stat().st_uid)

    @property
    def name(self) -> str:
        return self.git_dir.name

    @property
    def trunk_name(self) -> str:
        return self.trunk.removeprefix("refs/heads/")

    @property
    def promotion(self) -> RefName:
        return RefName(f"refs/heads/green/{self.trunk_name}")

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.sqlite"

    def require_installed(self) -> None:
        """Raise UserError when 'gate init' has not been run on this repository."""
        if not self.folder.is_dir():
            raise UserError(f"{self.git_dir} has no gate yet: run 'gate init {self.git_dir}'")

    def feed_path(self, change: int) -> Path:
        return self.folder / "feed" / f"{change}.jsonl"

    def log_path(self, log: str) -> Path:
        return self.folder / log

    def tree_of(self, commit: Sha) -> Sha:
        """Raises Unavailable when there is no such commit."""
        return self._named(f"{commit}^{{tree}}") or self._gone(commit)

    def config_blob(self, commit: Sha) -> Sha | None:
        """Id of a commit's gate.toml; None when it has none."""
        return self._named(f"{commit}:{CONFIG_NAME}")

    def _named(self, name: str) -> Sha | None:
        """What a name that begins with an object id leads to: for ever the same, so it is asked once."""
        if name not in self._names:
            if len(self._names) > NAMES_KEPT:
                self._names.clear()
            self._names[name] = self.git.header(name)
        return self._names[name]

    def _gone(self, commit: Sha) -> NoReturn:
        raise Unavailable(f"{self.git_dir} has no commit {commit}: objects are missing, see 'git fsck'")

    def look(self, ref: str) -> Sha | None:
        """Where a ref points now; None when it does not exist."""
        return self.git.header(ref)

    def close(self) -> None:
        """End the resident git."""
        self.git.close()
