"""Fixtures that every room of tests shares."""

from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings, the identity or the home folder of whoever runs it."""
    for name, value in git_env().items():
        if name.startswith(("GIT_", "TZ", "LC_")):
            monkeypatch.setenv(name, value)
    for name in ("GATE_USER", "GL_USER", "REMOTE_USER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository.create(tmp_path_factory.mktemp("template") / "repo")
    repository.commit("first", {"README.md": "hello\n", "src/a.py": "A = 1\n", "src/b.py": "B = 1\n"})
    return repository


@pytest.fixture
def repository(_template: Repository, tmp_path: Path) -> Repository:
    """A small repository with a work tree and one commit on main."""
    return _template.copy(tmp_path / "repo")
