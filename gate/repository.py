"""One bare repository and the gate's own folder in it: where things are, and cheap looks at refs and objects."""

import pwd
from pathlib import Path
from typing import NoReturn

from ci.errors import Unavailable, UserError
from ci.git import ServerGit, require_git
from ci.model import RefName, Sha
from gate import nested
from gate.config import CONFIG_NAME, Config, Problem, load

NAMES_KEPT = 10_000
RULES_KEPT = 500
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
        self._tops: dict[Sha | None, Config | tuple[Problem, ...]] = {}
        self._rules: dict[tuple[Sha | None, ...], Config | tuple[Problem, ...]] = {}
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

    def rules(self, commit: Sha) -> Config | tuple[Problem, ...]:
        """What a commit's gate.toml says, with those of its folders; or what is wrong with them. Raises Unavailable.

        Read once for the same file at the top and the same content of the folders that it names.
        """
        blob = self.config_blob(commit)
        if blob not in self._tops:
            self._tops[blob] = load(self.git, commit)
        top = self._tops[blob]
        if not isinstance(top, Config) or not top.nested.folders:
            return top
        folders = (f"{commit}:{folder}/" if folder else f"{commit}^{{tree}}" for folder in nested.roots(top.nested))
        key = (blob, *map(self._named, folders))
        if key not in self._rules:
            if len(self._rules) > RULES_KEPT:
                self._rules.clear()
            self._rules[key] = nested.compose_tree(self.git, commit, top)
        return self._rules[key]

    def has_folder(self, commit: Sha, folder: str) -> bool:
        """folder: as a gate.toml that is in use names it."""
        return self._named(f"{commit}:{folder}/") is not None

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
