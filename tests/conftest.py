"""Fixtures that every room of tests shares."""

import signal
import threading
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env


def pytest_configure() -> None:
    """Ctrl-C works for what tests start, also where they themselves were started in the background: a shell lets it be
    ignored there, and a process hands that on to those that it starts."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGQUIT):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, _cache_folder: Path) -> None:
    """No test sees the settings, the identity or the caches of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache_folder))
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
