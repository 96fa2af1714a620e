"""gate-push as git's own pre-push hook, with real pushes, and as pre-commit and prek call it."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env

PROGRAM = Path(sys.executable).with_name("gate-push")
DAY_S = 86400


def ago(days: int) -> str:
    return f"@{int(time.time()) - days * DAY_S} +0000"


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> Repository:
    """A clone of a bare repository, with the hook, on a branch that has one commit more than trunk."""
    repository.commit("Rules", {"gate.toml": '[push]\nmax_behind = 1\nmax_age = "2d"\n'})
    bare = repository.clone(tmp_path / "central.git", bare=True)
    bare.git("config", "receive.denyDeleteCurrent", "ignore")
    clone = bare.clone(tmp_path / "clone")
    clone.write(".git/hooks/pre-push", f'#!/bin/sh\nexec "{PROGRAM}" "$@"\n', executable=True)
    clone.git("checkout", "-q", "-b", "topic")
    clone.commit("Work", {"w.txt": "w\n"}, GIT_COMMITTER_DATE=ago(0))
    return clone


def hook(repository: Repository, stdin: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "origin", "url"] if stdin else [PROGRAM],
        cwd=repository.path,
        env=git_env(**dict(env or {})),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_push_to_trunk_is_refused_with_the_command_to_use(clone: Repository) -> None:
    refused = clone.run("push", "origin", "topic:main")
    assert refused.returncode == 1
    assert b"main is the trunk of origin" in refused.stderr
    assert b"git push origin topic:refs/for/main" in refused.stderr
    assert clone.git("ls-remote", "origin", "refs/heads/main").split()[0] != clone.head()


def test_head_is_offered_when_head_was_pushed(clone: Repository) -> None:
    assert b"git push origin HEAD:refs/for/main" in clone.run("push", "origin", "HEAD:main").stderr


def test_a_submission_and_another_branch_pass_without_a_word(clone: Repository) -> None:
    assert clone.run("push", "-q", "origin", "topic").stderr == b""
    clone.git("update-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert clone.run("push", "-q", "origin", "HEAD:refs/for/main").returncode == 0


def test_one_forbidden_ref_stops_the_whole_push(clone: Repository) -> None:
    assert clone.run("push", "origin", "topic", "topic:main").returncode == 1
    assert clone.git("ls-remote", "origin", "refs/heads/topic") == ""


def test_trunk_is_what_the_remote_says(clone: Repository) -> None:
    clone.git("push", "-q", "--no-verify", "origin", "main:refs/heads/develop")
    clone.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/develop")
    assert clone.run("push", "origin", "topic:develop").returncode == 1
    assert clone.run("push", "origin", "topic:main").returncode == 0


def test_trunk_is_guessed_when_nobody_asked_the_remote(clone: Repository) -> None:
    clone.git("symbolic-ref", "--delete", "refs/remotes/origin/HEAD")
    assert clone.run("push", "origin", "topic:main").returncode == 1


def test_by_setting_a_push_to_trunk_submits(clone: Repository) -> None:
    clone.commit("Setting", {"gate.toml": '[submit]\ntrunk_push = "submit"\n'})
    assert clone.run("push", "origin", "topic:main").returncode == 1  # trunk's own gate.toml decides
    clone.git("push", "-q", "--no-verify", "origin", "topic:main")
    clone.commit("More", {"x.txt": "x\n"})
    assert clone.run("push", "origin", "topic:main").returncode == 0


def test_deleting_trunk_is_refused_and_deleting_a_branch_is_not(clone: Repository) -> None:
    clone.git("push", "-q", "origin", "topic")
    refused = clone.run("push", "origin", ":main")
    assert refused.returncode == 1
    assert b"would delete it" in refused.stderr
    clone.git("push", "-q", "origin", ":topic")


def test_the_first_push_of_trunk_to_an_empty_repository_passes(clone: Repository, tmp_path: Path) -> None:
    Repository.create(tmp_path / "empty.git", bare=True)
    clone.git("remote", "add", "fresh", str(tmp_path / "empty.git"))
    clone.git("push", "-q", "fresh", "main")
    assert clone.run("push", "fresh", "topic:main").returncode == 1


def test_a_push_to_an_address_without_a_remote_is_judged_too(clone: Repository) -> None:
    url = clone.git("remote", "get-url", "origin")
    assert clone.run("push", url, "topic:main").returncode == 1


def test_a_branch_far_behind_is_warned_about_and_pushed(clone: Repository) -> None:
    clone.git("checkout", "-q", "main")
    for number in range(2):
        clone.commit(f"Trunk {number}", {"t.txt": str(number)})
    clone.git("push", "-q", "--no-verify", "origin", "main")
    pushed = clone.run("push", "-q", "origin", "topic")
    assert pushed.returncode == 0
    assert b"topic is 2 commits behind main: [push] max_behind is 1" in pushed.stderr
    assert b"git fetch origin main && git rebase FETCH_HEAD" in pushed.stderr


def test_a_branch_away_for_long_is_warned_about_and_pushed(clone: Repository) -> None:
    clone.commit("Old work", {"o.txt": "o\n"}, GIT_COMMITTER_DATE=ago(5))
    pushed = clone.run("push", "-q", "origin", "HEAD:refs/for/main")
    assert b"the oldest commit of HEAD that is not on main is 5 d" in pushed.stderr
    assert b"[push] max_age is 2 d" in pushed.stderr


@pytest.mark.parametrize(("branch", "code"), [("refs/heads/main", 1), ("refs/heads/topic", 0), ("refs/for/main", 0)])
def test_runners_tell_by_environment(clone: Repository, branch: str, code: int) -> None:
    env = {
        "PRE_COMMIT": "1",
        "PRE_COMMIT_REMOTE_NAME": "origin",
        "PRE_COMMIT_REMOTE_BRANCH": branch,
        "PRE_COMMIT_LOCAL_BRANCH": "refs/heads/topic",
        "PRE_COMMIT_TO_REF": clone.head(),
    }
    done = hook(clone, env=env)
    assert done.returncode == code
    assert ("git push origin topic:refs/for/main" in done.stderr) is bool(code)


def test_nothing_to_push_is_fine_and_a_riddle_is_not(clone: Repository) -> None:
    assert hook(clone).returncode == 0
    assert hook(clone, "what is this\n").returncode == 2


def test_the_environment_of_a_hook_reaches_git(clone: Repository, tmp_path: Path) -> None:
    """In a linked work tree git tells hooks where the repository is by GIT_DIR."""
    clone.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Repository(tmp_path / "linked")
    assert linked.run("push", "origin", "HEAD:main").returncode == 1
    assert os.fspath(tmp_path) not in linked.run("push", "-q", "origin", "HEAD").stderr.decode()
