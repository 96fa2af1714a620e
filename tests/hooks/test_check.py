"""gate check in real repositories, called as a developer calls it and as git does."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ci.model import Check, CheckName, Outcome, Stage
from ci.processes import is_alive
from fakes.repositories import Repository, bound_by_modes, git_env
from gate.config import Config
from hooks.local import Wish, exit_code, select_checks
from hooks.report import Report
from hooks.text import LinePrinter

GATE = Path(sys.executable).with_name("gate")
PROJECT = Path(__file__).parents[2]


class Clone:
    """A developer's repository with a gate.toml, and the words to use it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.path = repository.path

    def rule(self, config: str) -> None:
        """Commit this gate.toml."""
        self.repository.commit("Rules", {"gate.toml": textwrap.dedent(config)})

    def stage(self, files: Mapping[str, str]) -> None:
        for path, content in files.items():
            self.repository.write(path, content)
        self.repository.git("add", "--", *files)

    def hook(self) -> None:
        """Have git call gate check before each commit."""
        self.repository.write(".git/hooks/pre-commit", f'#!/bin/sh\nexec "{GATE}" check\n', executable=True)

    def check(
        self, *words: str, cwd: str = ".", env: Mapping[str, str] | None = None, python: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GATE, "check", *words],
            cwd=self.path / cwd,
            env=git_env(**dict(env or {})),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )

    def outcomes(self, *words: str, cwd: str = ".", env: Mapping[str, str] | None = None) -> dict[str, str]:
        """What each check came to, in one word."""
        told = self.facts(*words, cwd=cwd, env=env)["checks"]
        return {each["name"]: "cached" if each["cached"] else each["outcome"] or each["reason"] for each in told}

    def markers(self) -> list[Path]:
        folder = self.path / ".git/gate/greens"
        return sorted(folder.iterdir()) if folder.exists() else []

    def facts(self, *words: str, cwd: str = ".", env: Mapping[str, str] | None = None) -> Any:
        done = self.check("--json", *words, cwd=cwd, env=env)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def clone(repository: Repository) -> Clone:
    return Clone(repository)


SEES = """
    [[check]]
    name = "sees"
    command = 'cat src/a.py; ls -A . src; printf "<%s>" {files}; false'
    stage = "pre-commit"
    inputs = ["src/"]
"""

NO_TODO = """
    [[check]]
    name = "todo"
    command = "! grep -n TODO {files}"
    stage = "pre-commit"
    inputs = ["*.py"]
"""

WHOLE = """
    [[check]]
    name = "whole"
    command = "test ! -e bad && cat src/a.py"
    stage = "pre-commit"
"""


def output(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("  | ") for line in done.stdout.splitlines() if line.startswith("  | ")]


# --- which content ------------------------------------------------------------------------------------------------------


def test_a_check_sees_what_is_staged_and_only_its_inputs(clone: Clone) -> None:
    clone.rule(SEES)
    clone.stage({"src/a.py": "staged\n", "other.txt": "o\n"})
    clone.repository.write("src/a.py", "unstaged\n")
    clone.repository.write("src/untracked.py", "u\n")
    done = clone.check()
    assert done.returncode == 1
    assert output(done) == ["staged", ".:", "src", "", "src:", "a.py", "b.py", "<src/a.py>"]


def test_the_staged_gate_toml_rules(clone: Clone) -> None:
    clone.rule(SEES)
    clone.stage({"gate.toml": textwrap.dedent(NO_TODO), "src/a.py": "fine\n"})
    clone.repository.write("gate.toml", "not even TOML")
    assert clone.outcomes() == {"todo": "green"}


def test_without_a_gate_toml_the_cure_is_named(clone: Clone) -> None:
    done = clone.check()
    assert done.returncode == 2
    assert "gate init" in done.stderr


def test_a_gate_toml_that_is_a_link_is_told_as_one(clone: Clone) -> None:
    clone.repository.write("conf/gate.toml", "[message]\nmax_subject = 5\n" + textwrap.dedent(WHOLE))
    (clone.path / "gate.toml").symlink_to("conf/gate.toml")
    clone.repository.git("add", "--all")
    told = "gate.toml is a symbolic link, and none is followed: commit the file itself\n"
    assert clone.check().stderr == f"gate: the staged {told}"
    for words in (["message", "conf/gate.toml"], ["config", "check"]):
        done = subprocess.run([GATE, *words], cwd=clone.path, env=git_env(), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.endswith(told)
    (clone.path / "gate.toml").unlink()
    clone.stage({"gate.toml": "[nested]\nfolders = ['src']\n"})
    (clone.path / "src/gate.toml").symlink_to("../conf/gate.toml")
    clone.repository.git("add", "--all")
    assert clone.check().stderr == f"gate: the staged gate.toml cannot be used:\n  src/{told}"


def test_a_gate_toml_that_is_not_staged_is_to_be_staged(clone: Clone) -> None:
    clone.repository.write("gate.toml", "")
    told = "gate: gate.toml is there and not staged: git add {}\n"
    assert clone.check().stderr == told.format("gate.toml")
    clone.repository.git("add", "--intent-to-add", "gate.toml")
    assert clone.check("--all-files").stderr == told.format("gate.toml")
    clone.repository.git("reset", "-q")
    clone.repository.write(".git/info/exclude", "*.toml\n")
    assert clone.check(cwd="src").stderr == told.format("--force ../gate.toml")


def test_a_gate_toml_that_is_not_staged_any_more_can_be_had_back(clone: Clone) -> None:
    clone.rule(WHOLE)
    clone.repository.git("rm", "-q", "--cached", "gate.toml")
    assert "gate.toml is there and not staged: git add gate.toml" in clone.check().stderr
    (clone.path / "gate.toml").unlink()
    done = clone.check()
    assert done.returncode == 2
    told = "gate.toml is staged to be removed: to have it back, git restore --staged --worktree gate.toml"
    assert done.stderr == f"gate: {told}\n"
    clone.repository.git(*told.partition("git ")[2].split())
    assert (clone.path / "gate.toml").exists()
    clone.stage({"a.txt": "a"})
    assert clone.outcomes() == {"whole": "green"}


def test_a_broken_gate_toml_names_the_line(clone: Clone) -> None:
    clone.stage({"gate.toml": "[[check]]\nname = 'x'\ncommand = 'true'\nstge = 'merge'\n"})
    done = clone.check()
    assert done.returncode == 2
    assert "\n  line 4: check[0].stge: unknown key" in done.stderr
    clone.stage({"gate.toml": "[run]\nworkers = 1\nworkers = 2\n"})
    assert (
        clone.check().stderr == "gate: the staged gate.toml cannot be used:\n  line 3: this key is there twice: keep one\n"
    )


def test_outside_of_a_work_tree_there_is_nothing_to_check(clone: Clone, tmp_path: Path) -> None:
    bare = Clone(clone.repository.clone(tmp_path / "bare.git", bare=True))
    assert bare.check().returncode == 2
    assert "not in the work tree" in bare.check().stderr


def test_untouched_checks_do_not_run(clone: Clone) -> None:
    clone.rule(SEES + WHOLE)
    clone.stage({"other.txt": "o\n"})
    assert clone.outcomes() == {"sees": "no files", "whole": "green"}


def test_a_deleted_file_concerns_its_checks_and_is_not_handed_to_them(clone: Clone) -> None:
    clone.rule(NO_TODO + '[[check]]\nname = "both"\ncommand = "test -e src/b.py"\nstage = "pre-commit"\ninputs = ["src/"]\n')
    clone.repository.git("rm", "-q", "src/b.py")
    assert clone.outcomes() == {"todo": "no files", "both": "red"}


def test_names_of_deleted_files_are_not_expected_from_a_runner(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "both"\ncommand = "test -e src/b.py"\nstage = "pre-commit"\ninputs = ["src/"]\n')
    clone.repository.git("rm", "-q", "src/b.py")
    clone.stage({"x.txt": "x\n"})
    assert clone.outcomes("x.txt", env={"PRE_COMMIT": "1"}) == {"both": "red"}
    assert clone.outcomes("x.txt") == {"both": "no files"}


@pytest.mark.parametrize("words", [("--all-files",), ("--stage", "merge"), ("--all-files", "--only", "braces")])
def test_a_command_that_no_file_can_be_handed_to_is_not_green_for_it(clone: Clone, words: tuple[str, ...]) -> None:
    clone.rule("""\
        [[check]]
        name = "braces"
        stage = "pre-commit"
        inputs = ["*.{py,txt}"]
        command = "false {files}"
        [[check]]
        name = "link"
        stage = "pre-commit"
        inputs = ["*.rb"]
        command = "false {files}"
        """)
    clone.stage({"a.txt": "BAD"})
    (clone.path / "a.rb").symlink_to("a.txt")
    clone.repository.git("add", "a.rb")
    assert set(clone.outcomes(*words).values()) == {"no files"}


def test_files_folders_and_everything_can_be_asked_for(clone: Clone) -> None:
    clone.rule(SEES.replace("cat src/a.py; ls -A . src; ", ""))
    assert output(clone.check("src/b.py", "src/b.py")) == ["<src/b.py>"]
    assert output(clone.check("src")) == ["<src/a.py><src/b.py>"]
    assert output(clone.check("b.py", "../README.md", cwd="src")) == ["<src/b.py>"]
    assert output(clone.check("--all-files")) == ["<src/a.py><src/b.py>"]
    assert output(clone.check(".")) == ["<src/a.py><src/b.py>"]
    assert output(clone.check("--stage", "merge")) == ["<src/a.py><src/b.py>"]
    assert clone.check("README.md").returncode == 0


def test_a_name_that_is_not_staged_is_said_and_passed_over(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.repository.write("new.py", "TODO\n")
    done = clone.check("new.py", "src/a.py")
    assert done.returncode == 0
    assert "new.py is not among what is staged or committed" in done.stderr
    assert clone.check("../elsewhere.py").returncode == 2


@pytest.mark.parametrize(
    "name", ["-dash.py", "a b.py", "quote'\".py", "new\nline.py", "$(touch pwned).py", "\udcff.py", ":(glob)*.py"]
)
def test_any_name_of_a_file_is_only_a_name(clone: Clone, name: str) -> None:
    clone.rule(NO_TODO + WHOLE)
    clone.stage({name: "TODO\n"})
    staged, named = clone.check(), clone.check("--no-cache", "--", name)
    assert (staged.returncode, named.returncode) == (1, 1), (staged, named)
    assert "1:TODO" in " ".join(output(staged))
    assert output(staged) == output(named)
    assert not (clone.path / "pwned").exists()


# --- how git calls it ---------------------------------------------------------------------------------------------------


def test_the_first_commit_of_a_repository_is_checked(tmp_path: Path) -> None:
    clone = Clone(Repository.create(tmp_path / "new"))
    clone.hook()
    clone.stage({"gate.toml": textwrap.dedent(NO_TODO), "a.py": "TODO\n"})
    assert clone.repository.run("commit", "-m", "first").returncode == 1
    clone.stage({"a.py": "done\n"})
    clone.repository.git("commit", "-q", "-m", "first")


@pytest.fixture
def hooked(clone: Clone) -> Clone:
    clone.rule(NO_TODO)
    clone.hook()
    return clone


def test_commit_a_is_judged_by_what_it_will_hold(hooked: Clone) -> None:
    hooked.repository.write("src/a.py", "TODO\n")
    stopped = hooked.repository.run("commit", "-a", "-m", "x")
    assert stopped.returncode == 1
    assert b"todo  RED" in stopped.stderr
    hooked.repository.write("src/a.py", "done\n")
    hooked.repository.git("commit", "-q", "-a", "-m", "x")


def test_commit_of_a_path_leaves_the_rest_of_the_index_out(hooked: Clone) -> None:
    hooked.stage({"src/a.py": "TODO\n"})
    hooked.repository.write("src/b.py", "done\n")
    hooked.repository.git("commit", "-q", "-m", "b", "--", "src/b.py")
    assert hooked.repository.run("commit", "-m", "a").returncode == 1


def test_partial_staging_is_judged_by_the_staged_part(hooked: Clone) -> None:
    hooked.stage({"src/a.py": "done\n"})
    hooked.repository.write("src/a.py", "done\nTODO\n")
    hooked.repository.git("commit", "-q", "-m", "x")
    assert (hooked.path / "src/a.py").read_text() == "done\nTODO\n"
    assert hooked.repository.git("show", "HEAD:src/a.py") == "done"


def test_an_intended_file_is_not_there_yet(hooked: Clone) -> None:
    hooked.repository.write("new.py", "TODO\n")
    hooked.repository.git("add", "-N", "new.py")
    hooked.stage({"src/a.py": "done\n"})
    hooked.repository.git("commit", "-q", "-m", "x")
    hooked.repository.git("add", "new.py")
    assert hooked.repository.run("commit", "-m", "y").returncode == 1


def test_a_linked_work_tree_is_judged_by_its_own_index(hooked: Clone, tmp_path: Path) -> None:
    hooked.repository.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Clone(Repository(tmp_path / "linked"))
    hooked.stage({"src/a.py": "TODO\n"})
    linked.stage({"src/b.py": "fine\n"})
    linked.repository.git("commit", "-q", "-m", "x")
    linked.stage({"src/b.py": "TODO\n"})
    assert linked.repository.run("commit", "-m", "y").returncode == 1


def test_work_trees_share_results(clone: Clone, tmp_path: Path) -> None:
    clone.rule(NO_TODO)
    clone.repository.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Clone(Repository(tmp_path / "linked"))
    clone.stage({"src/a.py": "same\n"})
    linked.stage({"src/a.py": "same\n"})
    assert clone.outcomes() == {"todo": "green"}
    assert linked.outcomes() == {"todo": "cached"}


def test_a_merge_with_conflicts_is_judged_when_it_is_resolved(hooked: Clone) -> None:
    git = hooked.repository.git
    git("checkout", "-q", "-b", "topic")
    hooked.repository.commit("topic", {"src/a.py": "topic\n"})
    git("checkout", "-q", "main")
    hooked.repository.commit("main", {"src/a.py": "main\n"})
    hooked.repository.run("merge", "topic")
    unmerged = hooked.check()
    assert unmerged.returncode == 2
    assert "a merge is not finished" in unmerged.stderr
    hooked.stage({"src/a.py": "TODO\n"})
    assert hooked.repository.run("commit", "--no-edit").returncode == 1
    hooked.stage({"src/a.py": "both\n"})
    git("commit", "-q", "--no-edit")


def test_checks_do_not_get_the_variables_of_git(hooked: Clone, tmp_path: Path) -> None:
    """With GIT_DIR in its environment, a test suite that makes repositories wrecks the developer's own."""
    hooked.rule('[[check]]\nname = "env"\ncommand = "! env | grep ^GIT_ | grep -v ^GIT_CEILING"\nstage = "pre-commit"\n')
    hooked.repository.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = Clone(Repository(tmp_path / "linked"))
    linked.stage({"x": "x"})
    linked.repository.git("commit", "-q", "-m", "x")
    outside = {"GIT_DIR": str(hooked.repository.git_dir), "GIT_WORK_TREE": str(hooked.path)}
    hooked.stage({"x": "x"})
    assert Clone(Repository(tmp_path)).outcomes("--no-cache", env=outside) == {"env": "green"}


def test_the_index_and_its_lock_are_left_alone(clone: Clone) -> None:
    clone.rule(NO_TODO + WHOLE)
    clone.stage({"src/a.py": "A\n"})
    index = clone.path / ".git/index"
    before = index.read_bytes(), index.stat().st_mtime_ns, index.stat().st_ino
    (clone.path / ".git/index.lock").touch()
    assert clone.check().returncode == 0
    assert (index.read_bytes(), index.stat().st_mtime_ns, index.stat().st_ino) == before


def test_submodules_are_no_files(clone: Clone, tmp_path: Path) -> None:
    other = Repository.create(tmp_path / "other")
    other.commit("x", {"x.py": "TODO\n"})
    clone.rule(NO_TODO + WHOLE)
    clone.repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.path), "sub.py")
    assert clone.outcomes() == {"todo": "no files", "whole": "green"}
    clone.rule('[[check]]\nname = "files"\ncommand = "cat {files}"\nstage = "pre-commit"\n')
    assert clone.outcomes("--all-files") == {"files": "green"}
    assert clone.outcomes(".") == {"files": "green"}


# --- what is kept -------------------------------------------------------------------------------------------------------


def test_green_is_not_run_again_for_the_same_inputs(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"todo": "green"}
    clone.stage({"README.md": "not an input\n"})
    assert clone.outcomes() == {"todo": "cached"}
    assert clone.outcomes("--no-cache") == {"todo": "green"}
    clone.stage({"src/a.py": "AA\n"})
    assert clone.outcomes() == {"todo": "green"}


def test_another_list_of_files_is_another_question(clone: Clone) -> None:
    clone.rule(NO_TODO)
    assert clone.outcomes("src/a.py") == {"todo": "green"}
    assert clone.outcomes("src/b.py") == {"todo": "green"}
    assert clone.outcomes("src/a.py", "src/b.py") == {"todo": "green"}
    assert clone.outcomes("src/b.py") == {"todo": "cached"}


def test_a_check_that_sees_history_is_run_each_time(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "history"\ncommand = "git log -1"\nstage = "pre-commit"\ngit = true\n')
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"history": "green"}
    assert clone.outcomes() == {"history": "green"}
    assert clone.markers() == []


def test_red_is_run_again(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "TODO\n"})
    assert clone.outcomes() == {"todo": "red"}
    assert clone.outcomes() == {"todo": "red"}


UNDER_A_RUNNER = {"PRE_COMMIT": "1"}  # which hides unstaged edits, so that a whole tree is the work tree


@pytest.mark.parametrize("dirt", ["src/a.py", "untracked.py"])
def test_a_check_over_the_whole_tree_sees_what_is_staged_and_nothing_else(clone: Clone, dirt: str) -> None:
    clone.rule('[[check]]\nname = "whole"\ncommand = "! grep -r --include=*.py dirt ."\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    clone.repository.write(dirt, "dirt\n")
    assert clone.outcomes() == {"whole": "green"}
    clone.repository.git("add", "-A")
    assert clone.outcomes() == {"whole": "red"}


@pytest.mark.parametrize("dirt", ["src/a.py", "untracked.py"])
def test_under_a_runner_a_whole_tree_result_counts_only_for_a_clean_work_tree(clone: Clone, dirt: str) -> None:
    clone.rule(WHOLE)
    clone.stage({"src/a.py": "A\n"})
    was = (clone.path / dirt).read_text() if (clone.path / dirt).exists() else None
    clone.repository.write(dirt, "dirt\n")
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"whole": "green"}
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"whole": "green"}
    if was is None:
        (clone.path / dirt).unlink()
    else:
        clone.repository.write(dirt, was)
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"whole": "green"}
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"whole": "cached"}
    clone.repository.write(dirt, "dirt\n")
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"whole": "green"}
    assert clone.outcomes() == {"whole": "cached"}  # without one, what is staged is not what the work tree holds


def test_under_a_runner_a_check_that_changes_files_is_told_on(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "fixer"\ncommand = "echo fixed > src/a.py"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    done = clone.check(env=UNDER_A_RUNNER)
    assert done.returncode == 0
    assert "files changed in the work tree while checks ran" in done.stderr
    clone.repository.write("src/a.py", "A\n")
    assert clone.outcomes(env=UNDER_A_RUNNER) == {"fixer": "green"}


def test_results_have_the_keys_of_the_server(clone: Clone) -> None:
    from ci.git import PlainGit
    from ci.keys import KeyMaker
    from ci.model import Sha
    from ci.results import LocalResults
    from gate.config import parse

    clone.rule(NO_TODO + WHOLE)
    assert set(clone.outcomes("--all-files").values()) == {"green"}
    config = parse((clone.path / "gate.toml").read_bytes())
    assert isinstance(config, Config)
    head = Sha(clone.repository.head())
    keys = KeyMaker(PlainGit(clone.repository.git_dir)).keys(head, config.checks)
    with LocalResults(clone.path / ".git/gate/results.sqlite") as results:
        found = results.for_keys(keys.values())
    assert [[each.check for each in found[key]] for key in keys.values()] == [["todo"], ["whole"]]


def test_a_green_result_grows_old(clone: Clone) -> None:
    clone.rule(NO_TODO.replace("stage =", 'max_age = "1s"\n    stage ='))
    clone.stage({"src/a.py": "A\n"})
    assert clone.check().returncode == 0
    assert len(clone.markers()) == 2
    for marker in clone.markers():
        assert 0 < float(marker.read_bytes()) - (clone.path / ".git/gate/results.sqlite").stat().st_mtime < 2
        marker.write_bytes(b"1.0\n")
    assert "was green already" not in clone.check().stderr


# --- nothing to do ------------------------------------------------------------------------------------------------------


def test_with_nothing_staged_there_is_nothing_to_do(clone: Clone) -> None:
    clone.rule(WHOLE)
    done = clone.check()
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is staged" in done.stderr
    assert not (clone.path / ".git/gate").exists()


def test_the_same_content_is_not_even_looked_at_again(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    assert "was green already" not in clone.check().stderr
    assert "was green already" in clone.check().stderr
    assert "was green already" not in clone.check("src/a.py").stderr
    assert "was green already" in clone.check("--", "src/a.py").stderr
    assert "was green already" not in clone.check("--", "src/a.py", cwd="src").stderr
    clone.stage({"src/a.py": "AA\n"})
    assert "was green already" not in clone.check("--", "src/a.py").stderr


@pytest.mark.parametrize("options", [("--only", "todo"), ("--stage", "merge"), ("--all-files",)])
def test_another_question_leaves_no_answer_to_the_plain_one(clone: Clone, options: tuple[str, ...]) -> None:
    clone.rule(NO_TODO + WHOLE)
    clone.stage({"src/a.py": "A\n"})
    assert clone.check(*options).returncode == 0
    assert "was green already" not in clone.check().stderr


def test_what_hangs_on_tools_or_on_a_dirty_tree_is_looked_at_each_time(clone: Clone) -> None:
    clone.rule(NO_TODO.replace("inputs", 'tools = ["git --version"]\n    inputs'))
    clone.stage({"src/a.py": "A\n"})
    assert clone.check().returncode == 0
    assert clone.outcomes() == {"todo": "cached"}
    assert clone.markers() == []
    clone.rule(WHOLE)
    clone.stage({"src/a.py": "AA\n"})
    clone.repository.write("dirt", "d\n")
    assert clone.check(env=UNDER_A_RUNNER).returncode == 0
    assert clone.markers() == []


def test_a_path_may_lead_here_through_a_link(clone: Clone, tmp_path: Path) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "TODO\n", "b.py": "B\n"})
    (tmp_path / "link").symlink_to(clone.path)
    assert clone.check(str(tmp_path / "link/b.py")).returncode == 0
    assert clone.check(str(tmp_path / "link/src/a.py")).returncode == 1
    assert clone.check(str(tmp_path / "elsewhere/b.py")).returncode == 2


def test_why_git_refuses_a_repository_is_told_in_its_words(clone: Clone) -> None:
    done = clone.check(env={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    assert done.returncode == 2
    assert "git refuses to look at the repository of" in done.stderr
    assert "safe.directory" in done.stderr


def test_a_folder_that_is_gone_is_no_bug_of_ours(clone: Clone, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone}; rmdir {gone}; '{GATE}' check"
    done = subprocess.run(["bash", "-c", script], env=git_env(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "gate: the current folder is gone: go to another one\n")


def test_an_order_of_files_that_its_owner_likes_is_none_of_ours(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.repository.git("config", "diff.orderFile", "/not/there")
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"todo": "green"}


def test_a_tool_beside_the_tracked_files_is_asked_where_it_is(clone: Clone) -> None:
    tool = clone.path / "env's/linter"
    tool.parent.mkdir()
    rule = NO_TODO.replace("inputs", 'tools = ["env\'s/linter --version"]\n    inputs')
    clone.rule('[hooks]\nlink = ["env\'s"]\n' + textwrap.dedent(rule))
    clone.repository.write(".gitignore", "env*\n")
    clone.stage({"src/a.py": "A\n"})
    assert "which the check todo names in tools, tells no version (cannot be started: " in clone.check().stderr
    for version in ("1.0", "2.0"):
        tool.write_text(f"#!/bin/sh\necho {version}\n")
        tool.chmod(0o755)
        assert clone.outcomes() == {"todo": "green"}
        assert clone.outcomes() == {"todo": "cached"}
    assert clone.check().stderr == ""


def test_red_takes_the_marker_away(clone: Clone, tmp_path: Path) -> None:
    """A flaky check was green, and is red when it is asked again."""
    flag = tmp_path / "flag"
    clone.rule(f'[[check]]\nname = "flaky"\ncommand = "test ! -e {flag}"\nstage = "pre-commit"\ninputs = ["src/"]\n')
    clone.stage({"src/a.py": "A\n"})
    assert clone.check().returncode == 0
    flag.touch()
    assert clone.check("--no-cache").returncode == 1
    assert "was green already" not in clone.check().stderr


@pytest.mark.parametrize("content", [b"", b"\n", b"nan\n", b"\xff\xfe"])
def test_a_damaged_marker_is_no_answer(clone: Clone, content: bytes) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    clone.check()
    for marker in clone.markers():
        marker.write_bytes(content)
    assert "was green already" not in clone.check().stderr


@pytest.fixture
def partial_clone(clone: Clone, tmp_path: Path) -> Clone:
    """Without the files of lib/, which are as many as "far" lines below, and with checks that read them."""
    clone.rule(
        '[[check]]\nname = "declared"\ncommand = "grep -q far lib/far lib/6 && test -e lib"\nstage = "pre-commit"\n'
        'inputs = ["lib/", "*.txt"]\n'
        '[[check]]\nname = "whole"\ncommand = "grep -q far lib/far lib/6"\nstage = "pre-commit"\n'
    )
    clone.repository.commit("Far", {"lib/far": "far\n", **{f"lib/{number}": f"far {number}\n" for number in range(9)}})
    clone.repository.git("config", "uploadpack.allowFilter", "true")
    clone.repository.git("clone", "-q", "--filter=blob:none", "--sparse", f"file://{clone.path}", str(tmp_path / "partial"))
    return Clone(Repository(tmp_path / "partial"))


@pytest.mark.parametrize("check", ["declared", "whole"])
def test_files_that_a_partial_clone_has_yet_to_fetch_are_fetched_at_once(partial_clone: Clone, check: str) -> None:
    packs = partial_clone.path / ".git/objects/pack"
    before = len(list(packs.glob("*.pack")))
    for content in "AB":
        partial_clone.stage({"x.txt": content})
        assert partial_clone.outcomes("--only", check) == {check: "green"}
    assert len(list(packs.glob("*.pack"))) == before + 1
    assert not list((partial_clone.path / ".git").glob("FETCH_HEAD"))


@pytest.mark.parametrize(("check", "many"), [("declared", 10), ("whole", 12)])
def test_files_that_a_partial_clone_cannot_fetch(partial_clone: Clone, clone: Clone, check: str, many: int) -> None:
    clone.path.rename(clone.path.with_name("elsewhere"))
    partial_clone.stage({"x.txt": "A"})
    ended = partial_clone.check("--only", check)
    assert ended.returncode == 4
    assert f"this is a partial clone, and {many} of the files to check have yet to be fetched" in ended.stderr
    assert "failed from origin: fatal: " in ended.stderr
    clone.path.with_name("elsewhere").rename(clone.path)
    assert partial_clone.outcomes("--only", check) == {check: "green"}


@pytest.mark.parametrize(
    "settings",
    [
        {"extensions.partialClone": None, "remote.origin.promisor": "yes"},
        {"extensions.partialClone": "origin", "remote.origin.promisor": None},
        {"remote.another.promisor": "true", "remote.another.url": "/nowhere"},
        {"extensions.partialClone": "another", "remote.another.url": "/nowhere"},
    ],
    ids=["yes", "extension alone", "one more", "another as extension"],
)
def test_whatever_may_have_the_files_is_asked(partial_clone: Clone, settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        partial_clone.repository.run("config", "--unset-all", name)
        if value is not None:
            partial_clone.repository.git("config", name, value)
    partial_clone.stage({"x.txt": "A"})
    assert partial_clone.outcomes("--only", "whole") == {"whole": "green"}


def test_the_way_to_the_server_may_be_given_in_the_environment(partial_clone: Clone, clone: Clone) -> None:
    partial_clone.repository.git("config", "remote.origin.url", "far:away")
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone.path}.insteadOf",
        "GIT_CONFIG_VALUE_0": "far:away",
    }
    partial_clone.stage({"x.txt": "A"})
    assert partial_clone.outcomes("--only", "declared", env=settings) == {"declared": "green"}


def test_a_filter_that_needs_the_repositorys_own_git_directory(clone: Clone) -> None:
    """As git-crypt, whose key lies there."""
    (clone.path / ".git/key").write_text("known\n")
    clone.repository.git("config", "filter.crypt.smudge", 'cat "$(git rev-parse --git-dir)/key" -')
    clone.repository.git("config", "filter.crypt.clean", "tail -n +2")
    clone.repository.git("config", "filter.crypt.required", "true")
    clone.rule(
        '[[check]]\nname = "known"\ncommand = "grep -q known a.txt"\nstage = "pre-commit"\n'
        'inputs = ["*.txt", ".gitattributes"]\n'
    )
    for content in "AB":
        clone.stage({".gitattributes": "*.txt filter=crypt\n", "a.txt": f"known\n{content}\n"})
        assert clone.outcomes() == {"known": "green"}


@pytest.mark.parametrize("who", ["GATE_HOOK", "PRE_COMMIT"])
def test_what_is_staged_while_checks_run_is_not_committed_unchecked(clone: Clone, who: str) -> None:
    meanwhile = f"cd {clone.path}; test -e late.txt || {{ echo BAD > late.txt; git add late.txt; }}"
    (clone.path / ".git/meanwhile").write_text(meanwhile)
    clone.rule(
        f'[[check]]\nname = "good"\ncommand = "sh -c \'! grep BAD $@ && sh {clone.path}/.git/meanwhile\' - {{files}}"\n'
        'stage = "pre-commit"\ninputs = ["*.txt"]\n'
    )
    clone.stage({"a.txt": "A\n"})
    ended = clone.check("a.txt", env={who: "1"})
    assert ended.returncode == 1
    assert "something else is staged than when the checks began (late.txt)" in ended.stderr
    again = clone.check("a.txt", "late.txt", env={who: "1"})
    assert again.returncode == 1
    assert "BAD" in again.stdout
    for content, env in (("B", {}), ("C", {who: "1", "PRE_COMMIT": "1", "PRE_COMMIT_TO_REF": "HEAD"})):
        env.pop("GATE_HOOK", None)  # by hand, and at a push under a runner: no commit is under way
        clone.repository.git("rm", "-q", "--cached", "late.txt")
        (clone.path / "late.txt").unlink()
        clone.stage({"a.txt": f"{content}\n"})
        no_commit = clone.check("a.txt", env=env)
        assert (no_commit.returncode, "something else is staged" in no_commit.stderr) == (0, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(clone: Clone, closed: str) -> None:
    clone.rule('[[check]]\nname = "c"\ncommand = "echo said; true"\nstage = "pre-commit"\n')
    clone.stage({"a.txt": "A\n"})
    for words in ("check", "check", "local", "cache"):
        ended = subprocess.run(
            ["/bin/sh", "-c", f'exec "{GATE}" {words} {closed}'], cwd=clone.path, env=git_env(), capture_output=True
        )
        assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr


def test_a_newline_in_the_path_is_told(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "a\nb")
    clone = Clone(repository)
    clone.rule('[[check]]\nname = "c"\ncommand = "true"\nstage = "pre-commit"\n')
    clone.stage({"a.txt": "A\n"})
    ended = clone.check()
    assert ended.returncode == 2
    assert "has a newline in its path" in ended.stderr


def test_submodules_are_not_expected_from_a_runner(clone: Clone) -> None:
    """Either way: the first answer runs the check, the second finds the table of keys."""
    clone.rule('[[check]]\nname = "both"\ncommand = "test ! -e mark"\nstage = "pre-commit"\ninputs = ["mod", "mark"]\n')
    head = clone.repository.head()
    for content in "AB":
        clone.stage({"x.txt": content, "mark": content})
        clone.repository.git("commit", "-q", "--no-verify", "-m", "Mark")
        clone.repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},mod")
        clone.stage({"x.txt": content * 2})
        assert clone.outcomes("x.txt", env={"PRE_COMMIT": "1"}) == {"both": "red"}
        assert clone.check("x.txt", env={"PRE_COMMIT": "1"}).returncode == 1
        assert clone.outcomes("x.txt") == {"both": "no files"}
        clone.repository.git("rm", "-q", "--cached", "mod")


def test_a_marker_for_names_that_a_person_gave_is_none_for_a_runner(clone: Clone) -> None:
    """What is staged for deletion counts for a runner alone."""
    clone.rule(NO_TODO + '[[check]]\nname = "there"\ncommand = "test -e lib/a"\nstage = "pre-commit"\ninputs = ["lib/"]\n')
    clone.repository.commit("Library", {"lib/a": "A\n"})
    clone.stage({"src/a.py": "A\n"})
    clone.repository.git("rm", "-q", "lib/a")
    assert clone.check("src/a.py").returncode == 0
    assert clone.check("src/a.py", env={"PRE_COMMIT": "1"}).returncode == 1
    assert clone.check("src/a.py").returncode == 0


def test_a_marker_holds_for_the_content_wherever_it_is_staged(clone: Clone) -> None:
    """After a commit with other words, on another branch, in another work tree, and after something else was staged."""
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    clone.check()
    clone.repository.git("branch", "other")
    clone.repository.git("commit", "-q", "--amend", "-m", "Other words", "--only")
    assert "was green already" in clone.check().stderr
    clone.stage({"src/a.py": "B\n"})
    assert "was green already" not in clone.check().stderr
    clone.stage({"src/a.py": "A\n"})
    assert "was green already" in clone.check().stderr
    clone.repository.git("worktree", "add", "-q", "../linked", "other")
    linked = Clone(Repository(clone.path.parent / "linked"))
    linked.stage({"src/a.py": "A\n"})
    assert "was green already" in clone.check(cwd="../linked").stderr


def test_markers_do_not_pile_up(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    clone.check()
    newest = clone.markers()
    for number in range(257):
        old = newest[0].with_name(f"old-{number}")
        old.write_bytes(b"inf\n")
        os.utime(old, (number, number))
    clone.stage({"src/a.py": "B\n"})
    clone.check()
    names = [marker.name for marker in clone.markers()]
    assert {marker.name for marker in newest} <= {*names}
    assert len(names) == 128 + 1  # the first of the two new ones was one too many
    assert "old-130" not in names


# --- how checks run -----------------------------------------------------------------------------------------------------


def test_a_check_waits_for_what_it_needs(clone: Clone, tmp_path: Path) -> None:
    done = tmp_path / "done"
    clone.rule(f"""
        [[check]]
        name = "second"
        command = "test -e {done}"
        stage = "pre-commit"
        needs = ["first"]

        [[check]]
        name = "first"
        command = "touch {done}"
        stage = "pre-commit"
    """)
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"first": "green", "second": "green"}


def test_a_check_does_not_run_on_top_of_a_red_one(clone: Clone) -> None:
    clone.rule("""
        [[check]]
        name = "last"
        command = "true"
        stage = "pre-commit"
        needs = ["middle"]

        [[check]]
        name = "middle"
        command = "true"
        stage = "pre-commit"
        needs = ["first"]

        [[check]]
        name = "first"
        command = "false"
        stage = "pre-commit"
    """)
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {
        "first": "red",
        "middle": "not run: it needs first, which is not green",
        "last": "not run: it needs middle, which is not green",
    }
    assert clone.check().returncode == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_checks_run_side_by_side(clone: Clone, tmp_path: Path) -> None:
    """Each waits for the other to be there: one after the other, both would time out."""
    one, two = tmp_path / "one", tmp_path / "two"
    os.mkfifo(one)
    os.mkfifo(two)
    clone.rule(
        f'[[check]]\nname = "a"\ncommand = "echo here > {one}; cat {two}"\nstage = "pre-commit"\ntimeout = "20s"\n'
        f'[[check]]\nname = "b"\ncommand = "cat {one}; echo here > {two}"\nstage = "pre-commit"\ntimeout = "20s"\n'
    )
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"a": "green", "b": "green"}


def test_a_failed_test_is_named(clone: Clone) -> None:
    report = '<testsuite><testcase name="adds" classname="sums"><failure message="1 is not 2"/></testcase></testsuite>'
    clone.rule(f"""
        [[check]]
        name = "tests"
        command = '''echo '{report}' > {{junit}}; exit 1'''
        stage = "pre-commit"
    """)
    clone.stage({"src/a.py": "A\n"})
    done = clone.check()
    assert done.returncode == 1
    assert "  failed: sums::adds" in done.stdout or "  failed: sums.adds" in done.stdout, done.stdout


def test_long_output_is_cut_and_the_whole_is_kept(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "loud"\ncommand = "seq 1000; printf \'\\\\033[2J\\\\n\'; false"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    done = clone.check(cwd="src")
    shown = output(done)
    assert shown[0] == "[…]"
    assert shown[-2:] == ["1000", "[2J"]
    assert len(shown) == 41
    (log,) = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if "whole output" in line]
    assert (clone.path / "src" / log).read_text().startswith("1\n2\n3\n")


def test_a_terminal_that_knows_few_letters_gets_them_spelled(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "umlaut"\ncommand = "printf \'\\\\303\\\\274\\\\n\'; false"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    assert output(clone.check()) == ["ü"]
    assert output(clone.check(env={"PYTHONIOENCODING": "ascii"})) == ["\\xfc"]


def test_green_leaves_no_log(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "loud"\ncommand = "seq 1000"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    assert clone.check().returncode == 0
    assert list((clone.path / ".git/gate/logs").iterdir()) == []


def test_who_asks_for_it_sees_what_green_checks_print(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "loud"\ncommand = "echo old {files}"\nstage = "pre-commit"\ninputs = ["src/"]\n')
    clone.stage({"src/a.py": "A\n"})
    assert output(clone.check("--no-cache")) == []
    done = clone.check("--no-cache", "--verbose")
    assert (done.returncode, output(done)) == (0, ["old src/a.py"])
    (log,) = (clone.path / ".git/gate/logs").iterdir()
    assert f"whole output: .git/gate/logs/{log.name}" in done.stdout
    assert clone.check("-v").stdout.splitlines()[-1].startswith("1 green (1 cached); ")


def test_where_a_program_is_missing_that_is_not_among_the_inputs_is_told(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "own"\ncommand = "./tool.sh"\nstage = "pre-commit"\ninputs = ["src/"]\n')
    clone.stage({"src/a.py": "A\n", "tool.sh": "#!/bin/sh\n"})
    assert (
        "'./tool.sh' is missing or not executable in the check's folder, which holds its inputs alone"
        in clone.check().stdout
    )


def test_a_check_that_cannot_start_is_not_red(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "gone"\ncommand = ["no-such-program-anywhere"]\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    done = clone.check()
    assert done.returncode == 4
    assert "no-such-program-anywhere" in done.stdout
    assert f"PATH is {os.environ['PATH']}" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_check_leaves_no_process(clone: Clone, tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    clone.rule(f'[[check]]\nname = "slow"\ncommand = "echo $$ > {fifo}; exec sleep 1000"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    with subprocess.Popen([GATE, "check"], cwd=clone.path, env=git_env(), stderr=subprocess.PIPE) as process:
        sleeper = int(fifo.read_text())
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"interrupted" in err
    assert not Path(f"/proc/{sleeper}").exists()


def test_a_filter_of_git_that_does_not_end_is_ended_with_the_checks(clone: Clone, tmp_path: Path) -> None:
    """It fills the folder of a check, and nobody has told git that this is over."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    clone.rule('[[check]]\nname = "some"\ncommand = "true"\nstage = "pre-commit"\ninputs = ["*.txt", ".gitattributes"]\n')
    clone.stage({".gitattributes": "*.txt filter=slow\n", "a.txt": "A\n"})
    clone.repository.git("config", "filter.slow.smudge", f"echo $$ > {fifo}; exec sleep 1000")
    with subprocess.Popen([GATE, "check"], cwd=clone.path, env=git_env(), stderr=subprocess.PIPE) as process:
        sleeper = int(fifo.read_text())
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert not is_alive(sleeper)


def test_a_reader_that_goes_away_ends_the_checks(clone: Clone, tmp_path: Path) -> None:
    clone.rule("".join(f'[[check]]\nname = "c{n}"\ncommand = "true"\nstage = "pre-commit"\n' for n in range(5)))
    clone.stage({"src/a.py": "A\n"})
    script = f"exec {{w}}> >(:); wait $!; '{GATE}' check >&$w; echo $?"
    done = subprocess.run(["bash", "-c", script], cwd=clone.path, env=git_env(), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_lines_are_plain_when_nobody_watches(clone: Clone) -> None:
    clone.rule(NO_TODO + WHOLE)
    clone.stage({"README.md": "x\n"})
    done = clone.check()
    assert (
        re.sub(r"[0-9.]+ m?s\b", "TIME", done.stdout)
        == "todo   no files\nwhole  green     TIME\n1 green; 1 without files; TIME\n"
    )


def test_an_unusable_store_does_not_stop_a_check(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "A\n"})
    clone.repository.write(".git/gate/results.sqlite", "this is no database")
    done = clone.check()
    assert done.returncode == 0
    assert "results.sqlite was corrupt" in done.stderr


@pytest.fixture
def closed(clone: Clone) -> Iterator[Clone]:
    """What we keep cannot be read, as after a commit by another account."""
    clone.rule(NO_TODO)
    folder = clone.path / ".git/gate"
    folder.mkdir(mode=0)
    yield clone
    folder.chmod(0o700)


def bound(clone: Clone, *words: str) -> subprocess.CompletedProcess[str]:
    """gate, bound by the modes of files. The time is for a run that does not come to an end."""
    run = [*bound_by_modes(), str(GATE), *words]
    return subprocess.run(run, cwd=clone.path, env=git_env(), capture_output=True, text=True, check=False, timeout=60)


def test_a_check_ends_where_nobody_can_see_whether_it_has_a_log(closed: Clone) -> None:
    closed.stage({"src/a.py": "A\n"})
    done = bound(closed, "check")
    assert done.returncode == 0, done.stderr
    assert re.match(r"todo +green ", done.stdout)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_red_check_is_told_where_no_log_can_be_kept(closed: Clone, options: tuple[str, ...]) -> None:
    closed.stage({"src/a.py": "TODO\n"})
    done = bound(closed, "check", *options)
    assert done.returncode == 1
    assert done.stderr.count("gate/logs cannot be written: ") == 1
    assert f"{closed.path}/.git/gate has mode 000; chmod u+rwX it" in done.stderr
    if options:
        (told,) = json.loads(done.stdout)["checks"]
        assert (told["outcome"], Path(told["log"]).read_text()) == ("red", "1:TODO\n")
        assert Path(told["log"]).stat().st_mode & 0o077 == 0, "what it says of private files is nobody else's"
        Path(told["log"]).unlink()
    else:
        assert output(done)[0] == "1:TODO"


def test_a_file_in_the_way_of_logs_is_named(clone: Clone) -> None:
    clone.rule(NO_TODO)
    clone.stage({"src/a.py": "TODO\n"})
    clone.repository.write(".git/gate/logs", "in the way")
    done = clone.check()
    assert output(done)[0] == "1:TODO"
    assert f"{clone.path}/.git/gate/logs cannot be written: file exists; " in done.stderr


@pytest.mark.parametrize("mode", [0o000, 0o755])
def test_a_fix_is_told_where_no_patch_can_be_kept(clone: Clone, mode: int) -> None:
    clone.rule(NO_TODO.replace("! grep -n TODO", "sed -i s/TODO/DONE/") + "    fix = true\n")
    clone.stage({"src/a.py": "TODO\n"})
    folder = clone.path / ".git/gate"
    folder.mkdir(mode=mode)
    (folder / "logs").write_text("in the way") if mode else None
    try:
        done = bound(clone, "check")
    finally:
        folder.chmod(0o700)
    assert "gate check --fix does that" in done.stdout
    assert done.stderr.count("gate/logs cannot be written: ") == 1


@pytest.mark.parametrize("words", [("cache",), ("background", "--foreground")])
def test_whose_a_folder_is_that_we_may_not_use_is_told(closed: Clone, words: tuple[str, ...]) -> None:
    done = bound(closed, *words)
    assert done.returncode == 4
    assert f"\n  {closed.path}/.git/gate has mode 000; chmod u+rwX it\n" in done.stderr


def test_asking_for_a_check_that_is_not_there(clone: Clone) -> None:
    clone.rule(NO_TODO)
    done = clone.check("--only", "no such")
    assert done.returncode == 2
    assert "it has: todo" in done.stderr
    done = clone.check("--stage", "post-commit", "--only", "todo")
    assert done.stderr == "gate: the check todo is of stage pre-commit: gate check --stage pre-commit --only todo\n"
    assert clone.check("--stage", "sometime").returncode == 2
    nothing = clone.check("--stage", "post-commit")
    assert nothing.returncode == 0
    assert nothing.stdout == "no check for this stage in gate.toml (gate config show: the stage of each)\n"


def test_a_runners_own_environment_is_not_the_projects(clone: Clone, tmp_path: Path) -> None:
    """pre-commit and prek put the environment they made for us first on PATH; its python has nothing of the project."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ours], check=True)
    (site,) = ours.glob("lib/python*/site-packages")
    paths = [str(PROJECT), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    (site / "as-here.pth").write_text("\n".join(paths))
    for folder in (ours / "bin", theirs):
        folder.mkdir(exist_ok=True)
        (folder / "marker").write_text("#!/bin/sh\n")
        (folder / "marker").chmod(0o755)
    clone.rule('[[check]]\nname = "which"\ncommand = "command -v marker; false"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "B\n"})
    env = git_env(PATH=f"{ours / 'bin'}:{theirs}:{os.environ['PATH']}")
    program = [ours / "bin/python", "-c", "import sys; from hooks.main import check; sys.exit(check())"]

    def found() -> list[str]:
        return output(subprocess.run(program, cwd=clone.path, env=env, capture_output=True, text=True, check=False))

    assert found() == [str(ours / "bin/marker")]
    (ours / ".install_state_v2").touch()
    assert found() == [str(theirs / "marker")]


def test_what_is_skipped_is_said_and_a_name_that_no_check_has_is_warned_of(clone: Clone) -> None:
    clone.rule(NO_TODO + '[[check]]\nname = "later"\ncommand = "true"\n')
    clone.stage({"src/a.py": "TODO\n"})
    done = clone.check(env={"GATE_SKIP": "todo, later,typo"})
    assert done.returncode == 0
    assert "todo  skipped   by GATE_SKIP; the gate runs it all the same" in done.stdout
    assert done.stderr == "gate: GATE_SKIP names typo, and no check in gate.toml is called so; they are: todo, later\n"
    assert clone.check().returncode == 1  # the skip leaves no marker
    clone.stage({"src/a.py": "fine\n"})
    assert clone.outcomes(env={"GATE_SKIP": "typo"}) == {"todo": "green"}


def test_what_does_not_fit_into_the_budget_is_left_unless_it_is_asked_for(clone: Clone) -> None:
    clone.rule('[hooks]\nbudget = "1ms"\n' + textwrap.dedent(NO_TODO))
    clone.stage({"src/a.py": "A\n"})
    assert clone.outcomes() == {"todo": "green"}  # nothing was known of it
    clone.stage({"src/a.py": "TODO\n"})
    left = clone.check()
    assert left.returncode == 0
    assert "[hooks] budget is 1 ms" in left.stdout
    assert clone.check("--no-budget").returncode == 1
    assert clone.check("src/a.py").returncode == 1  # who names files means them
    assert clone.check("src/a.py", env=UNDER_A_RUNNER).returncode == 0  # a runner always does
    for words in (["--no-budget"], ["--all-files"], ["--only", "todo"], ["--stage", "merge"]):
        assert clone.check(*words, env=UNDER_A_RUNNER).returncode == 1
    assert clone.check().returncode == 0
    assert clone.outcomes("--all-files") == {"todo": "red"}


LINKS = """
    [hooks]
    link = ["tools", "src/a.py", "src/made", "gone/made", ".git", ".git/config", "absent"]

    [[check]]
    name = "whole"
    command = "find . -name made -o -name tools -o -name a.py -o -name '.git*' | sort; cat tools/x src/a.py; false"
    stage = "pre-commit"
"""


@pytest.mark.parametrize("inputs", ["", 'inputs = ["src/"]\n'], ids=["whole", "inputs"])
def test_what_is_linked_is_seen_beside_what_is_staged_and_never_in_its_place(clone: Clone, inputs: str) -> None:
    clone.rule(textwrap.dedent(LINKS) + inputs)
    clone.stage({"src/a.py": "staged\n"})
    for path in ("src/a.py", "tools/x", "src/made", "gone/made"):
        clone.repository.write(path, "of the work tree\n")
    done = clone.check()
    assert output(done) == ["./src/a.py", "./src/made", "./tools", "of the work tree", "staged"]
    assert (clone.path / "tools/x").exists()


# --- on a terminal ------------------------------------------------------------------------------------------------------


def test_on_a_terminal_what_runs_is_shown_until_it_ends(clone: Clone, tmp_path: Path) -> None:
    """The check runs until the line about it was seen."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    clone.rule(f'[[check]]\nname = "slow"\ncommand = "cat {fifo}"\nstage = "pre-commit"\n')
    clone.stage({"src/a.py": "A\n"})
    ours, theirs = pty.openpty()
    env = git_env(TERM="xterm")
    with subprocess.Popen([GATE, "check"], cwd=clone.path, env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"running: slow" not in seen:
            seen += os.read(ours, 1024)
        fifo.write_text("")
        with suppress(OSError):  # EIO: nobody has the other end open
            while more := os.read(ours, 1024):
                seen += more
        os.close(ours)
    assert process.returncode == 0
    assert b"\r\x1b[Kslow  \x1b[32mgreen" in seen[seen.rindex(b"running: slow") :]


@pytest.mark.parametrize(
    ("terminal", "term", "shown"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_progress_is_for_terminals_that_can_erase_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: bool, term: str, shown: bool
) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", term)
    with os.fdopen(ours), os.fdopen(theirs, "w") as pseudo, (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", pseudo if terminal else file)
        assert (LinePrinter(()).watch is not None) is shown


# --- rules as tables ----------------------------------------------------------------------------------------------------


def checks(*stages: Stage) -> tuple[Check, ...]:
    return tuple(Check(CheckName(stage.value), "true", stage) for stage in stages)


@pytest.mark.parametrize(
    ("stage", "chosen"),
    [
        (Stage.PRE_COMMIT, ["pre-commit"]),
        (Stage.MERGE, ["pre-commit", "merge"]),
        (Stage.POST_COMMIT, ["post-commit"]),
    ],
)
def test_a_stage_stands_for_all_that_the_gate_asks_for_by_then(stage: Stage, chosen: list[str]) -> None:
    assert [check.name for check in select_checks(checks(*Stage), Wish(stage))] == chosen


def report(outcome: Outcome | None, *, is_blocked: bool = False) -> Report:
    return Report(CheckName("x"), outcome, is_blocked=is_blocked)


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([], 0),
        ([report(None)], 0),
        ([report(Outcome.GREEN), report(None)], 0),
        ([report(Outcome.GREEN), report(Outcome.RED)], 1),
        ([report(Outcome.TIMED_OUT)], 1),
        ([report(Outcome.INFRASTRUCTURE), report(Outcome.RED)], 1),
        ([report(Outcome.GREEN), report(Outcome.INFRASTRUCTURE)], 4),
        ([report(Outcome.INFRASTRUCTURE), report(None, is_blocked=True)], 4),
    ],
)
def test_the_exit_code_tells_red_from_what_could_not_be_run(reports: list[Report], code: int) -> None:
    assert exit_code(reports) == code
