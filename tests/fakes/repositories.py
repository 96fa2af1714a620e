"""Real Git repositories for tests: fixed dates and identity, so that commit ids repeat; verbs instead of command lines."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann Author",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_AUTHOR_DATE": "2026-01-05T12:00:00+00:00",
    "GIT_COMMITTER_NAME": "Ann Author",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_COMMITTER_DATE": "2026-01-05T12:00:00+00:00",
}


def git_env(**more: str) -> dict[str, str]:
    """An environment in which nobody's Git configuration has a say."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GATE_"))}
    return kept | IDENTITY | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "TZ": "UTC", "LC_ALL": "C"} | more


class Repository:
    """A repository with a work tree, or a bare one when ``bare``."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        self.bare = bare

    @classmethod
    def create(cls, path: Path, *, bare: bool = False, trunk: str = "main") -> "Repository":
        path.mkdir(parents=True)
        made = cls(path, bare=bare)
        made.git("init", "-q", f"--initial-branch={trunk}", *(["--bare"] if bare else []), ".")
        return made

    @property
    def git_dir(self) -> Path:
        return self.path if self.bare else self.path / ".git"

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git here; the exit code is the caller's to judge."""
        return subprocess.run(
            ["git", *arguments], cwd=self.path, env=git_env(**dict(env or {})), input=stdin, capture_output=True, check=False
        )

    def git(self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
        """Run git here and return what it printed; fail the test when git fails."""
        done = self.run(*arguments, env=env, stdin=stdin)
        assert done.returncode == 0, f"git {arguments}: {done.stderr.decode(errors='replace')}"
        return os.fsdecode(done.stdout).removesuffix("\n")

    def write(self, path: str, content: str | bytes, *, executable: bool = False) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        if executable:
            file.chmod(0o755)
        return file

    def commit(self, message: str = "change", files: Mapping[str, str | bytes | None] | None = None, **env: str) -> str:
        """Write the files (None deletes), commit everything, return the commit's id."""
        for path, content in (files or {}).items():
            if content is None:
                (self.path / path).unlink()
            else:
                self.write(path, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "--no-verify", "-m", message, env=env)
        return self.head()

    def sign(self) -> str:
        """Put a commit in the place of HEAD that has a signature, of nobody, and return its id."""
        raw = self.run("cat-file", "commit", "HEAD").stdout.replace(
            b"\n\n", b"\ngpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n\n", 1
        )
        self.git("reset", "-q", "--soft", self.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw))
        return self.head()

    def head(self, ref: str = "HEAD") -> str:
        return self.git("rev-parse", "--verify", ref)

    def tree(self, ref: str = "HEAD") -> str:
        return self.git("rev-parse", "--verify", f"{ref}^{{tree}}")

    def clone(self, path: Path, *, bare: bool = False) -> "Repository":
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["git", "clone", "-q", *(["--bare"] if bare else []), str(self.path), str(path)],
            env=git_env(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Repository(path, bare=bare)

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path, bare=self.bare)


def bound_by_modes() -> list[str]:
    """The front of a command that modes of files bind, as they do not bind root."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
