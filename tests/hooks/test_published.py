"""The hooks as this repository publishes them, installed and called by real pre-commit and real prek.

Building a hook's environment needs a package index; where there is none, these tests are skipped and say so.
"""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env

PROJECT = Path(__file__).parents[2]
RULES = """
    [message]
    pattern = "^[A-Z]"

    [push]
    max_behind = 1

    [[check]]
    name = "todo"
    command = "! grep -n TODO {files}"
    stage = "pre-commit"
    inputs = ["*.py"]

    [[check]]
    name = "whole"
    command = "test ! -e src/gone.py || test -e src/b.py"
    stage = "pre-commit"
"""


@dataclass(frozen=True, slots=True)
class Runner:
    """pre-commit or prek, with a cache that holds the environment of our hooks. config: what a project writes."""

    name: str
    env: dict[str, str]
    config: str

    def run(self, repository: Repository, *words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name(self.name)
        return subprocess.run(
            [program, *words],
            cwd=repository.path,
            env=git_env(**self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module", params=["pre-commit", "prek"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A runner that has installed our hooks from a clone of this repository. Slow, so once for all tests."""
    folder = tmp_path_factory.mktemp(request.param)
    if not (PROJECT / ".git").exists():
        pytest.skip("this is not a clone of the project")
    published = Repository(PROJECT).clone(folder / "published")
    config = textwrap.dedent(f"""\
        default_install_hook_types: [pre-commit, commit-msg, pre-push]
        repos:
          - repo: {published.path}
            rev: {published.head()}
            hooks: [{{id: gate-check}}, {{id: gate-message}}, {{id: gate-push}}]
    """)
    home = str(folder / "home")
    found = Runner(request.param, {"PRE_COMMIT_HOME": home, "PREK_HOME": home}, config)
    first = Repository.create(folder / "first")
    first.commit("Use the hooks", {".pre-commit-config.yaml": config})
    installed = found.run(first, "install", "--install-hooks")
    if installed.returncode and _is_offline(installed.stdout):
        pytest.skip(f"{request.param} cannot build an environment without a package index")
    assert installed.returncode == 0, installed.stdout
    return found


def _is_offline(said: str) -> bool:
    signs = ("Could not find a version", "Failed to fetch", "No matching distribution", "dns error", "NewConnectionError")
    return any(sign in said for sign in signs)


@pytest.fixture
def clone(runner: Runner, repository: Repository, tmp_path: Path) -> Repository:
    """A developer's clone of a bare repository, with the hooks installed."""
    repository.commit("Rules", {"gate.toml": textwrap.dedent(RULES), ".pre-commit-config.yaml": runner.config})
    bare = repository.clone(tmp_path / "central.git", bare=True)
    clone = bare.clone(tmp_path / "clone")
    installed = runner.run(clone, "install")
    assert installed.returncode == 0, installed.stdout
    return clone


def commit(clone: Repository, runner: Runner, *words: str) -> tuple[int, str]:
    done = clone.run("commit", *words, env=runner.env)
    return done.returncode, os.fsdecode(done.stdout + done.stderr)


def test_a_commit_is_checked(clone: Repository, runner: Runner) -> None:
    clone.write("src/a.py", "A = 2  # TODO\n")
    code, said = commit(clone, runner, "-a", "-m", "Work")
    assert code == 1
    assert "todo   RED" in said
    assert "1:A = 2  # TODO" in said
    clone.write("src/a.py", "A = 2\n")
    code, said = commit(clone, runner, "-a", "-m", "Work")
    assert code == 0, said


def test_names_with_dashes_and_blanks_reach_the_check(clone: Repository, runner: Runner) -> None:
    clone.write("-dash.py", "TODO\n")
    clone.write("a b.py", "TODO\n")
    clone.git("add", "--", "-dash.py", "a b.py")
    code, said = commit(clone, runner, "-m", "Work")
    assert code == 1
    assert "./-dash.py:1:TODO" in said
    assert "a b.py:1:TODO" in said


def test_a_commit_that_only_deletes_is_checked_too(clone: Repository, runner: Runner) -> None:
    clone.write("src/gone.py", "G = 1\n")
    clone.git("add", "src/gone.py")
    assert commit(clone, runner, "-m", "Add")[0] == 0
    clone.git("rm", "-q", "src/b.py")
    code, said = commit(clone, runner, "-m", "Delete")
    assert code == 1, said
    assert "whole  RED" in said


def test_unstaged_work_survives_and_is_not_judged(clone: Repository, runner: Runner) -> None:
    clone.write("src/a.py", "A = 2\n")
    clone.git("add", "src/a.py")
    clone.write("src/a.py", "A = 2  # TODO\n")
    code, said = commit(clone, runner, "-m", "Work")
    assert code == 0, said
    assert (clone.path / "src/a.py").read_text() == "A = 2  # TODO\n"


def test_all_files_can_be_checked_as_in_ci(clone: Repository, runner: Runner) -> None:
    clone.commit("Unchecked", {"src/c.py": "TODO\n"})
    done = runner.run(clone, "run", "--all-files", "gate-check")
    assert done.returncode == 1
    assert "1:TODO" in done.stdout


def test_a_message_is_judged(clone: Repository, runner: Runner) -> None:
    clone.write("src/a.py", "A = 2\n")
    code, said = commit(clone, runner, "-a", "-m", "lower case")
    assert code == 1
    assert "[message] pattern" in said


def test_a_push_to_trunk_is_stopped_and_a_submission_is_not(clone: Repository, runner: Runner) -> None:
    clone.commit("Work", {"src/a.py": "A = 2\n"})
    stopped = clone.run("push", "origin", "HEAD:main", env=runner.env)
    assert stopped.returncode == 1
    assert b"git push origin HEAD:refs/for/main" in stopped.stdout + stopped.stderr
    passed = clone.run("push", "origin", "HEAD:refs/for/main", env=runner.env)
    assert passed.returncode == 0, passed.stderr


def test_a_warning_is_seen_although_the_push_goes_on(clone: Repository, runner: Runner) -> None:
    clone.git("checkout", "-q", "-b", "topic")
    clone.commit("Work", {"w.txt": "w\n"})
    clone.git("checkout", "-q", "main")
    for number in range(2):
        clone.commit(f"Trunk {number}", {"t.txt": str(number)})
    clone.git("push", "-q", "--no-verify", "origin", "main")
    pushed = clone.run("push", "origin", "topic", env=runner.env)
    assert pushed.returncode == 0
    assert b"topic is 2 commits behind main" in pushed.stdout + pushed.stderr


def test_a_linked_work_tree_commits_through_the_hooks(clone: Repository, runner: Runner, tmp_path: Path) -> None:
    clone.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Repository(tmp_path / "linked")
    linked.write("src/a.py", "TODO\n")
    assert commit(linked, runner, "-a", "-m", "Work")[0] == 1
    linked.write("src/a.py", "A = 3\n")
    code, said = commit(linked, runner, "-a", "-m", "Work")
    assert code == 0, said


def test_checks_do_not_get_the_environment_of_the_hook(clone: Repository, runner: Runner) -> None:
    """``python`` in a check is the project's, not the one that the runner made for us."""
    home = runner.env["PRE_COMMIT_HOME"]
    check = f"[[check]]\nname = 'path'\nstage = 'pre-commit'\ncommand = 'echo $PATH; case $PATH in *{home}*) exit 1; esac'\n"
    clone.write("gate.toml", check)
    code, said = commit(clone, runner, "-a", "-m", "Work")
    assert code == 0, said
