"""gate-push as git's own pre-push hook, with real pushes, and as pre-commit and prek call it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ci.model import CheckName, InputKey, Outcome, Result, RunId
from ci.results import LocalResults
from fakes.repositories import Repository, git_env

PROGRAM = Path(sys.executable).with_name("gate-push")
GATE = PROGRAM.with_name("gate")
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


def hook(
    repository: Repository, stdin: str = "", env: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *options, "origin", "url"] if stdin else [PROGRAM, *options],
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


def test_by_setting_trunk_is_pushed_to_where_no_gate_is(clone: Repository) -> None:
    assert b'where there is no gate: [push] trunk = "allow"' in clone.run("push", "origin", "topic:main").stderr
    clone.commit("Setting", {"gate.toml": '[push]\ntrunk = "allow"\n'})
    clone.git("push", "-q", "--no-verify", "origin", "topic:main")
    clone.commit("More", {"x.txt": "x\n"})
    assert clone.run("push", "origin", "topic:main").returncode == 0
    assert clone.run("push", "origin", ":main").returncode == 1


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


def test_signatures_that_git_shows_in_its_log_are_no_commit_times(clone: Repository) -> None:
    clone.git("config", "log.showSignature", "true")
    clone.sign()
    pushed = clone.run("push", "-q", "origin", "topic")
    assert (pushed.returncode, pushed.stderr) == (0, b"")


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


# --- checks of what is pushed -------------------------------------------------------------------------------------------


class Pusher:
    """A clone of a bare repository, with the hook and a gate.toml on trunk, on a branch that has no commit of its own.

    The checks write down that they ran, which no kept result does.
    """

    def __init__(self, clone: Repository, ledger: Path) -> None:
        self.repository = clone
        self.git = clone.git
        self.path = clone.path
        self.ledger = ledger

    def ran(self) -> list[str]:
        """Checks that ran since the last question, each with the files that it was told of."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        self.ledger.unlink(missing_ok=True)
        return sorted(lines)

    def push(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return self.repository.run("push", "-q", "origin", *words, env=env)

    def remote_refs(self) -> set[str]:
        return {line.split("\t")[1] for line in self.git("ls-remote", "origin").splitlines()}


@pytest.fixture
def pusher(repository: Repository, tmp_path: Path) -> Pusher:
    ledger = tmp_path / "ledger"
    rules = f"""
        [[check]]
        name = "files"
        command = "echo files {{files}} >> {ledger}; ! grep -n TODO {{files}}"
        stage = "pre-commit"
        inputs = ["*.txt"]

        [[check]]
        name = "whole"
        command = "echo whole >> {ledger}; ! grep -rn TODO --include=*.txt ."
        stage = "pre-commit"

        [[check]]
        name = "slow"
        command = "echo slow >> {ledger}; ! grep -rn SLOW --include=*.txt ."
    """
    repository.commit("Rules", {"gate.toml": textwrap.dedent(rules), "old.txt": "old\n"})
    clone = repository.clone(tmp_path / "central.git", bare=True).clone(tmp_path / "clone")
    clone.write(".git/hooks/pre-push", f'#!/bin/sh\nexec "{PROGRAM}" "$@"\n', executable=True)
    clone.git("checkout", "-q", "-b", "topic")
    return Pusher(clone, ledger)


@pytest.mark.parametrize("runner", [{}, {"PRE_COMMIT": "1"}], ids=["git", "runner"])
def test_the_commit_is_judged_and_not_the_work_tree(pusher: Pusher, runner: Mapping[str, str]) -> None:
    """A runner that calls the hook gets the push told by git as well."""
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pusher.repository.write("a.txt", "done\n")
    refused = pusher.push("topic", env=runner)
    assert refused.returncode == 1
    assert b"files  RED" in refused.stdout
    assert b"whole  RED" in refused.stdout
    assert b"is not green: files, whole; nothing was pushed" in refused.stderr
    assert b"git push --no-verify" in refused.stderr
    assert pusher.remote_refs() == {"HEAD", "refs/heads/main"}
    pusher.repository.commit("Good")
    pusher.repository.write("a.txt", "TODO\n")
    pusher.repository.write("b.txt", "TODO\n")
    pusher.git("add", "b.txt")
    assert pusher.push("topic", env=runner).returncode == 0
    assert (pusher.path / "a.txt").read_text() == "TODO\n"


def test_a_runner_that_tells_by_environment_has_the_commit_checked(pusher: Pusher) -> None:
    bad = pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pusher.repository.commit("Good", {"a.txt": "done\n"})
    env = {
        "PRE_COMMIT": "1",
        "PRE_COMMIT_REMOTE_NAME": "origin",
        "PRE_COMMIT_REMOTE_BRANCH": "refs/for/main",
        "PRE_COMMIT_LOCAL_BRANCH": "refs/heads/topic",
    }
    assert hook(pusher.repository, env=env | {"PRE_COMMIT_TO_REF": bad}).returncode == 1
    assert hook(pusher.repository, env=env | {"PRE_COMMIT_TO_REF": pusher.repository.head()}).returncode == 0


def test_what_the_commit_met_is_not_run_again_and_takes_one_line(pusher: Pusher) -> None:
    pusher.repository.write("a.txt", "done\n")
    pusher.git("add", "a.txt")
    subprocess.run([GATE, "check"], cwd=pusher.path, env=git_env(), check=True, capture_output=True)
    assert pusher.ran() == ["files a.txt", "whole"]
    pusher.git("commit", "-q", "-m", "Good")
    pushed = pusher.push("HEAD:refs/for/main")
    assert (pushed.returncode, pushed.stderr, pusher.ran()) == (0, b"", [])
    assert pushed.stdout.decode() == f"gate: {pusher.repository.head()[:10]} was green already: 2 checks\n"


def test_an_amended_commit_is_judged_anew(pusher: Pusher) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    assert pusher.push("topic").returncode == 1
    pusher.repository.write("a.txt", "done\n")
    pusher.git("commit", "-q", "-a", "--amend", "--no-verify", "-m", "Good")
    assert pusher.push("topic").returncode == 0


def test_a_branch_that_is_not_checked_out_is_judged_by_its_own_rules(pusher: Pusher) -> None:
    pusher.git("checkout", "-q", "-b", "other")
    rule = '[[check]]\nname = "other"\ncommand = "grep good a.txt"\nstage = "pre-commit"\n'
    pusher.repository.commit("Other rules", {"gate.toml": rule, "a.txt": "TODO\n"})
    pusher.git("checkout", "-q", "topic")
    refused = pusher.push("other")
    assert b"other  RED" in refused.stdout
    assert b"whole" not in refused.stdout


def test_checks_are_told_of_the_files_that_are_not_on_trunk(pusher: Pusher) -> None:
    pusher.repository.commit("One", {"a.txt": "a\n", "gone.txt": "g\n"})
    pusher.repository.commit("Two", {"b.txt": "b\n", "gone.txt": None})
    assert pusher.push("topic").returncode == 0
    assert pusher.ran() == ["files a.txt b.txt", "whole"]
    pusher.repository.commit("No text", {"src/a.py": "A = 2\n", "a.txt": None, "b.txt": None})
    assert b"files  no files" in pusher.push("topic").stdout
    pusher.repository.commit("Less", {"old.txt": None})
    assert b"files  no files" in pusher.push("topic").stdout  # there is none to tell of
    assert pusher.ran() == ["whole", "whole"]


def test_what_trunk_has_is_not_asked_for_again(pusher: Pusher) -> None:
    pushed = pusher.push("topic", "main~1:refs/heads/older")
    assert (pushed.returncode, pushed.stdout, pusher.ran()) == (0, b"", [])


def test_where_trunk_is_not_known_all_files_are_looked_at(pusher: Pusher, tmp_path: Path) -> None:
    Repository.create(tmp_path / "empty.git", bare=True)
    pusher.git("remote", "add", "fresh", str(tmp_path / "empty.git"))
    pusher.repository.commit("More", {"a.txt": "a\n"})
    pusher.git("push", "-q", "fresh", "topic:main")
    assert pusher.ran() == ["files a.txt old.txt", "whole"]


def test_a_shallow_clone_is_judged_by_what_it_has(pusher: Pusher, tmp_path: Path) -> None:
    source = pusher.repository.clone(tmp_path / "source.git", bare=True)
    pusher.git("clone", "-q", "--depth=1", f"file://{source.path}", str(tmp_path / "shallow"))
    shallow = Repository(tmp_path / "shallow")
    shallow.write(".git/hooks/pre-push", f'#!/bin/sh\nexec "{PROGRAM}" "$@"\n', executable=True)
    shallow.commit("Bad", {"a.txt": "TODO\n"})
    assert shallow.run("push", "origin", "HEAD:refs/heads/new").returncode == 1
    pusher.ran()
    shallow.git("update-ref", "-d", "refs/remotes/origin/topic")
    shallow.git("checkout", "-q", "--orphan", "unrelated")
    shallow.commit("Bad", {"a.txt": "done\n"})
    assert shallow.run("push", "origin", "HEAD:refs/heads/new").returncode == 0
    assert pusher.ran() == ["files a.txt old.txt", "whole"]


def test_equal_pushes_are_checked_once_and_others_each(pusher: Pusher) -> None:
    good = pusher.repository.commit("Good", {"a.txt": "done\n"})
    bad = pusher.repository.commit("Bad", {"a.txt": "SLOW TODO\n"})
    assert pusher.push("HEAD~1:refs/heads/one", "HEAD~1:refs/for/main").returncode == 0
    assert pusher.ran() == ["files a.txt", "whole"]
    refused = pusher.push("HEAD~1:refs/heads/two", "topic:refs/heads/three", "HEAD:refs/heads/four")
    assert refused.returncode == 1
    assert pusher.ran() == ["files a.txt", "whole"]
    assert f"gate: checks of HEAD~1 ({good[:10]})\ngate: {good[:10]} was green already" in refused.stdout.decode()
    assert f"gate: topic, HEAD ({bad[:10]}) is not green: files, whole; nothing was pushed" in refused.stderr.decode()
    assert "refs/heads/two" not in pusher.remote_refs()


def test_the_tip_of_each_ref_is_checked_and_no_commit_below(pusher: Pusher) -> None:
    """As the gate judges a change. Who wants to know of each commit asks while rebasing."""
    for message, content in (("Good", "done\n"), ("Bad", "TODO\n"), ("Mended", "done after all\n")):
        pusher.repository.commit(message, {"a.txt": content})
    assert pusher.push("HEAD:refs/for/main", "HEAD:refs/heads/topic").returncode == 0
    assert pusher.ran() == ["files a.txt", "whole"]
    assert pusher.push("HEAD:refs/heads/more", "HEAD~1:refs/heads/bad").returncode == 1
    asked = pusher.repository.run("rebase", "--exec", f"{GATE} check --all-files", "origin/main")
    assert asked.returncode == 1
    assert pusher.git("log", "-1", "--format=%s") == "Bad"


def test_deletions_and_tags_are_not_checked(pusher: Pusher) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pusher.git("push", "-q", "--no-verify", "origin", "topic")
    pusher.git("tag", "-m", "annotated", "v1")
    pushed = pusher.push("v1", ":topic")
    assert (pushed.returncode, pushed.stdout, pusher.ran()) == (0, b"", [])


def test_an_annotated_tag_stands_for_its_commit(pusher: Pusher) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pusher.git("tag", "-m", "annotated", "v1")
    assert b"v1 (" in pusher.push("v1:refs/for/main").stderr


def test_what_is_no_commit_is_said_and_left_to_the_server(pusher: Pusher) -> None:
    pushed = pusher.push("HEAD^{tree}:refs/for/main")
    assert pushed.returncode == 0
    assert b"is no commit, or is not complete here" in pushed.stderr
    missing = hook(pusher.repository, f"topic {'1' * 40} refs/heads/topic {'0' * 40}\n")
    assert missing.returncode == 0
    assert "topic is no commit, or is not complete here" in missing.stderr


def test_a_commit_without_gate_toml_has_no_checks_and_a_broken_one_is_refused(pusher: Pusher) -> None:
    pusher.repository.commit("None", {"gate.toml": None, "a.txt": "TODO\n"})
    pushed = pusher.push("topic")
    assert (pushed.returncode, pushed.stdout, pushed.stderr, pusher.ran()) == (0, b"", b"", [])
    pusher.repository.commit("Broken", {"gate.toml": "[push]\nchecks = 'som'\n"})
    refused = pusher.push("topic")
    assert refused.returncode == 1
    assert b"gate.toml of topic cannot be used:\n  line 2: push.checks" in refused.stderr


@pytest.mark.parametrize(("setting", "ran"), [("none", []), ("pre-commit", ["files a.txt", "whole"])])
def test_the_setting_of_the_commit_decides(pusher: Pusher, setting: str, ran: list[str]) -> None:
    rules = (pusher.path / "gate.toml").read_text()
    pusher.repository.commit("Setting", {"gate.toml": f'[push]\nchecks = "{setting}"\n{rules}', "a.txt": "a\n"})
    assert pusher.push("topic").returncode == 0
    assert pusher.ran() == ran


def test_by_setting_all_that_the_gate_asks_for_is_run_as_the_gate_does(pusher: Pusher) -> None:
    rules = (pusher.path / "gate.toml").read_text()
    pusher.repository.commit("Setting", {"gate.toml": f'[push]\nchecks = "merge"\n{rules}', "a.txt": "SLOW\n"})
    refused = pusher.push("topic")
    assert b"is not green: slow;" in refused.stderr
    assert pusher.ran() == ["files a.txt old.txt", "slow", "whole"]
    (pusher.path / "a.txt").unlink()
    pusher.git("commit", "-q", "-a", "--amend", "--no-verify", "-m", "Setting")
    assert pusher.push("topic").returncode == 0
    assert pusher.ran() == ["slow", "whole"]  # no text is other than on trunk, which went through the gate


def test_a_check_that_is_skipped_is_said_to_be(pusher: Pusher) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    assert pusher.push("topic", env={"GATE_SKIP": "whole"}).returncode == 1
    pushed = pusher.push("topic", env={"GATE_SKIP": "whole,files"})
    assert pushed.returncode == 0
    assert b"2 skipped" in pushed.stdout


def test_what_does_not_fit_into_the_budget_is_left_to_the_gate(pusher: Pusher) -> None:
    rules = (pusher.path / "gate.toml").read_text()
    pusher.repository.commit("Budget", {"gate.toml": f'[hooks]\nbudget = "1ms"\n{rules}', "a.txt": "a\n"})
    assert pusher.push("topic").returncode == 0
    assert pusher.ran() == ["files a.txt", "whole"]  # what they take is not known yet
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pushed = pusher.push("topic")
    assert pushed.returncode == 0
    assert pusher.ran() == []
    assert b"2 left to the gate" in pushed.stdout
    assert b"[hooks] budget is 1 ms" in pushed.stdout


def test_the_budget_is_for_all_of_the_push(pusher: Pusher) -> None:
    """What was spent before a check could start counts: here it is at least a start of git."""
    rule = '[[check]]\nname = "long"\ncommand = "true"\nstage = "pre-commit"\n'
    pusher.repository.commit("Rule", {"gate.toml": f'[hooks]\nbudget = "1h"\n{rule}'})
    with LocalResults(pusher.path / ".git/gate/results.sqlite") as results:
        results.record(Result(InputKey("k"), CheckName("long"), Outcome.GREEN, RunId("r"), 0.0, 3599.9995))
    assert b"1 left to the gate" in pusher.push("topic").stdout


def test_a_check_that_sees_history_sees_that_of_the_commit_and_is_kept_by_it(pusher: Pusher) -> None:
    rule = (
        f'[[check]]\nname = "log"\ncommand = "git log -1 --format=%s >> {pusher.ledger}"\nstage = "pre-commit"\ngit = true\n'
    )
    pusher.repository.commit("One", {"gate.toml": rule})
    pusher.repository.commit("Two", {"gate.toml": rule})
    assert pusher.push("topic~1:refs/heads/one", "topic").returncode == 0
    assert pusher.ran() == ["One", "Two"]  # of one tree, and not of one history
    assert pusher.push("topic~1:refs/heads/three", "topic:refs/heads/four").returncode == 0
    assert pusher.ran() == []
    pusher.git("push", "-q", "--no-verify", "origin", "topic:main")
    assert pusher.push("topic:refs/heads/five").stdout == b""  # trunk has it


def test_a_check_that_mends_is_red_and_mends_nothing(pusher: Pusher) -> None:
    command = "sed -i s/TODO/done/ {files}"
    rule = f'[[check]]\nname = "f"\ncommand = "{command}"\nstage = "pre-commit"\ninputs = ["*.txt"]\nfix = true\n'
    pusher.repository.commit("Bad", {"gate.toml": rule, "a b.txt": "TODO\n"})
    refused = pusher.push("topic")
    assert refused.returncode == 1
    assert b"gate check --fix 'a b.txt'" in refused.stdout
    assert (pusher.path / "a b.txt").read_text() == "TODO\n"
    assert pusher.git("status", "--porcelain") == ""


@pytest.mark.parametrize("name", ["-x", "$(touch${IFS}pwned)", "a'\"b", "a;b", "\udcff", "ü"])
def test_any_name_of_a_branch_is_only_a_name(pusher: Pusher, name: str) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    pusher.git("update-ref", f"refs/heads/{name}", "HEAD")
    strict = {"PYTHONIOENCODING": "utf-8"}  # as outside of the locale C
    refused = pusher.push(f"refs/heads/{name}:refs/heads/{name}", env=strict)
    assert refused.returncode == 1
    assert b"is not green: files, whole" in refused.stderr
    assert not (pusher.path / "pwned").exists()


def test_what_is_pushed_may_be_written_with_blanks(pusher: Pusher) -> None:
    pusher.repository.commit("So bad", {"a.txt": "TODO\n"})
    assert b"gate: HEAD^{/So bad} (" in pusher.push("HEAD^{/So bad}:refs/heads/x").stderr


def test_a_linked_work_tree_pushes_its_own_head(pusher: Pusher, tmp_path: Path) -> None:
    pusher.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Repository(tmp_path / "linked")
    linked.commit("Bad", {"a.txt": "TODO\n"})
    assert linked.run("push", "origin", "HEAD").returncode == 1
    assert pusher.ran() == ["files a.txt", "whole"]


def test_checks_see_what_is_linked_and_not_tracked(pusher: Pusher) -> None:
    rule = '[hooks]\nlink = ["tools"]\n[[check]]\nname = "tool"\ncommand = "tools/run"\nstage = "pre-commit"\n'
    pusher.repository.write(".git/info/exclude", "tools\n")
    pusher.repository.write("tools/run", "#!/bin/sh\n", executable=True)
    pusher.repository.commit("Rules", {"gate.toml": rule})
    assert pusher.push("topic").returncode == 0


def test_a_bare_repository_can_push_too(pusher: Pusher, tmp_path: Path) -> None:
    pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    bare = pusher.repository.clone(tmp_path / "bare.git", bare=True)
    bare.write("hooks/pre-push", f'#!/bin/sh\nexec "{PROGRAM}" "$@"\n', executable=True)
    assert b"is not green" in bare.run("push", "origin", "topic:refs/heads/new").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push_leaves_no_process_and_pushes_nothing(pusher: Pusher, tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    rule = f'[[check]]\nname = "slow"\ncommand = "echo $$ $PPID > {fifo}; exec sleep 1000"\nstage = "pre-commit"\n'
    pusher.repository.commit("Slow", {"gate.toml": rule})
    words = ["git", "push", "-q", "origin", "topic"]
    with subprocess.Popen(words, cwd=pusher.path, env=git_env(), stderr=subprocess.PIPE, start_new_session=True) as process:
        sleeper = int(fifo.read_text().split()[0])
        os.killpg(process.pid, number)  # as a terminal does
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert b"gate: interrupted" in err
    assert not Path(f"/proc/{sleeper}").exists()
    assert "refs/heads/topic" not in pusher.remote_refs()


def test_json_tells_all(pusher: Pusher) -> None:
    nothing = json.loads(hook(pusher.repository, options=["--json"]).stdout)
    assert nothing == {"green": True, "refused": [], "warnings": [], "commits": []}
    head = pusher.repository.commit("Bad", {"a.txt": "TODO\n"})
    line = f"refs/heads/topic {head} refs/heads/%s {'1' * 40}\n"
    done = hook(pusher.repository, line % "topic", options=["--json"])
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["green"]) == (1, False)
    (commit,) = facts["commits"]
    assert (commit["names"], commit["commit"], commit["green"]) == (["topic"], head, False)
    assert {each["name"]: each["outcome"] for each in commit["checks"]} == {"files": "red", "whole": "red"}
    refused = json.loads(hook(pusher.repository, line % "main", options=["--json"]).stdout)
    assert (refused["green"], refused["commits"]) == (False, [])
    assert "main is the trunk of origin" in refused["refused"][0]
    strange = hook(pusher.repository, f"refs/heads/topic {'1' * 40} refs/heads/topic {'0' * 40}\n", options=["--json"])
    (warning,) = json.loads(strange.stdout)["warnings"]
    assert "topic is no commit" in warning
    assert warning in strange.stderr
