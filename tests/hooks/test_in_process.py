"""Checks whose command is gate hygiene, run by gate check without a process: no program called gate can be found here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci import RUNTIME
from ci.git import PlainGit
from ci.keys import KeyMaker
from ci.keytable import KeyTable, key_for_files
from ci.model import InputKey, Sha
from ci.results import LocalResults
from fakes.repositories import Repository, git_env
from hooks.config import parsed
from hooks.known import green_at

GATE = Path(sys.executable).with_name("gate")


class Clone:
    """A repository with one check of files, and a PATH on which nothing but git and the shell's tools are."""

    def __init__(self, repository: Repository, tools: Path) -> None:
        self.repository = repository
        self.path = repository.path
        self.tools = tools

    def rule(self, names: str, more: str = "") -> None:
        check = f'[[check]]\nname = "files"\ncommand = "gate hygiene {names} {{files}}"\n'
        self.repository.commit("Rules", {"gate.toml": f'{check}stage = "pre-commit"\ninputs = ["src/"]\n{more}'})

    def stage(self, path: str, content: str | bytes, *, executable: bool = False) -> None:
        self.repository.write(path, content, executable=executable)
        self.repository.git("add", "--", path)

    def gate(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = git_env(PATH=str(self.tools))
        return subprocess.run([GATE, "check", *words], cwd=self.path, env=env, capture_output=True, text=True, check=False)

    def told(self, *words: str) -> dict[str, Any]:
        done = self.gate("--json", *words)
        assert done.stdout, done.stderr
        (check,) = json.loads(done.stdout)["checks"]
        return dict(check)


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> Clone:
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.get_exec_path():
        for name in ("git", "sh"):
            if Path(folder, name).exists() and not (tools / name).exists():
                (tools / name).symlink_to(Path(folder, name))
    return Clone(repository, tools)


def test_what_is_staged_is_judged_and_not_what_lies_there(clone: Clone) -> None:
    clone.rule("trailing-whitespace")
    clone.stage("src/a.py", "A = 0\n")
    clone.repository.write("src/a.py", "A = 0   \n")
    assert clone.told()["outcome"] == "green"
    clone.stage("src/a.py", "A = 1   \n")
    clone.repository.write("src/a.py", "A = 1\n")
    told = clone.told()
    assert (told["outcome"], told["reason"]) == ("red", "1 finding")
    assert Path(told["log"]).read_text() == "src/a.py:1: blanks at the end of the line\n"
    assert Path(told["log"]).stat().st_mode & 0o077 == 0
    assert clone.gate().returncode == 1


def test_what_git_shows_in_the_place_of_a_blob_is_not_what_is_committed(clone: Clone) -> None:
    clone.rule("trailing-whitespace")
    clone.stage("src/a.py", "A = 0\n")
    assert clone.gate().returncode == 0  # from here on the short way is open
    clone.stage("src/a.py", "A = 1   \n")
    shown = clone.repository.git("hash-object", "-w", "--stdin", stdin=b"A = 1\n")
    clone.repository.git("replace", clone.repository.head(":src/a.py"), shown)
    assert clone.gate().returncode == 1


def test_both_ways_of_gate_check_run_them(clone: Clone) -> None:
    """The short one where nothing else is to be run: it does not open the store."""
    clone.rule("trailing-whitespace,python-syntax")
    clone.stage("src/a.py", "A = 0\n")
    assert "files  green" in clone.gate().stdout
    clone.stage("src/a.py", "A = 2\n")
    store = clone.path / ".git/gate/results.sqlite"
    before = store.read_bytes()
    done = clone.gate()
    assert "files  green" in done.stdout
    assert "1 green; " in done.stdout
    assert store.read_bytes() == before
    assert "exactly this was green already" in clone.gate().stderr
    assert clone.told()["cached"] is True
    assert clone.told("--no-cache")["cached"] is False
    clone.stage("src/a.py", "A = (\n")
    assert "src/a.py:1: '(' was never closed" in clone.gate().stdout


OLD = "0.0.9, Python 3.11.0"
RUN = "import ci, sys; ci.RUNTIME = sys.argv.pop(1); from hooks.main import main; sys.exit(main())"


@pytest.mark.parametrize("gone", [[], ["greens"], ["greens", "keys"]])
def test_what_another_version_found_green_is_not_believed(clone: Clone, gone: list[str]) -> None:
    """Neither by its marker, nor by its table of keys, nor by its results."""
    clone.rule("trailing-whitespace", '[[check]]\nname = "other"\ncommand = "true {files}"\nstage = "pre-commit"\n')
    clone.stage("src/a.py", "A = 0\n")

    def check(version: str) -> str:
        words = [sys.executable, "-c", RUN, version, "check"]
        env = git_env(PATH=str(clone.tools))
        done = subprocess.run(words, cwd=clone.path, env=env, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    assert "2 green; " in check(OLD)
    assert "was green already" in check(OLD)
    for name in gone:
        path = clone.path / ".git/gate" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "2 green (1 cached); " in check(RUNTIME), "a result of the other check holds for any version"
    assert "was green already" in check(RUNTIME)


def test_both_ways_and_the_gate_make_the_same_keys(clone: Clone) -> None:
    clone.rule("trailing-whitespace")
    git, keys = PlainGit(clone.repository.git_dir), []
    for number in (2, 3):
        clone.stage("src/a.py", f"A = {number}\n")
        assert "1 green; " in clone.gate().stdout  # the long way; then by the table that it left, without the store
        tree = Sha(clone.repository.git("write-tree"))
        (check,) = parsed(clone.repository.git("show", "HEAD:gate.toml").encode(), "gate.toml").checks
        keys.append(InputKey(key_for_files(KeyMaker(git).keys(tree, [check])[check.name], ["src/a.py"])))
    with LocalResults(clone.path / ".git/gate/results.sqlite") as results:
        assert [key for key, kept in results.for_keys(keys).items() if kept] == keys[:1]
    assert all(green_at(str(clone.path / ".git"), key) for key in keys)


def test_names_and_modes_are_those_of_the_tree(clone: Clone) -> None:
    clone.rule("shebang,case-conflict,end-of-file,large-file --max 1kB")
    clone.stage("src/run", "#!/bin/sh\n", executable=True)
    (clone.path / "src/link").symlink_to("no line end")
    clone.repository.git("add", "src/link")
    clone.stage("src/odd\nname \udcff;$(x)", "A\n")
    clone.stage("src/none", "")
    assert clone.told()["outcome"] == "green"
    clone.stage("src/Run", "#!/bin/sh\n")
    clone.stage("src/big", "A" * 1023 + "\n" + "B\n")
    told = clone.told()
    assert told["outcome"] == "red"
    assert Path(told["log"]).read_text().splitlines() == [
        "src/Run:1: begins with #! and is not executable (git update-index --chmod=+x)",
        "src/Run:1: src/Run and src/run are the same name where case does not count",
        "src/big:1: has 1026 bytes, and 1000 are allowed",
        "src/run:1: src/run and src/Run are the same name where case does not count",
    ]


def test_a_name_is_compared_with_those_that_are_not_staged_too(clone: Clone) -> None:
    """By both ways: the short one must not answer for what it has not looked at."""
    clone.rule("case-conflict")
    clone.repository.commit("Names", {"src/run": "A\n", "src/other": "A\n", "Src/other": "not among the inputs\n"})
    clone.stage("src/other", "B\n")
    assert clone.told()["outcome"] == "green"
    clone.stage("src/new", "B\n")
    assert clone.told()["outcome"] == "green"
    clone.stage("src/RUN", "B\n")
    for _ in range(2):
        told = clone.told()
        assert told["outcome"] == "red"
        assert Path(told["log"]).read_text() == (
            "src/RUN:1: src/RUN and src/run are the same name where case does not count\n"
        )


def test_more_files_than_fit_into_a_pipe(clone: Clone) -> None:
    clone.rule("end-of-file")
    for number in range(1500):
        clone.repository.write(f"src/{number:04}", "A\n" if number != 1400 else "A")
    clone.repository.git("add", "-A")
    assert Path(clone.told()["log"]).read_text() == "src/1400:1: no line end at the end\n"


def test_what_can_be_mended_is_mended_where_it_is_staged(clone: Clone) -> None:
    clone.rule("trailing-whitespace,merge-conflict --fix", "fix = true\n")
    clone.stage("src/a.py", "A = 1   \nB = 2\n")
    clone.repository.write("src/a.py", "A = 1   \nB = 2\n# at work\n")
    done = clone.gate("--fix")
    assert done.returncode == 0, done.stdout
    assert "mended and staged: src/a.py" in done.stdout
    assert clone.repository.git("show", ":src/a.py") == "A = 1\nB = 2"
    assert (clone.path / "src/a.py").read_text() == "A = 1\nB = 2\n# at work\n"
    clone.stage("src/a.py", "A = 1  \n<<<<<<< ours\n")
    done = clone.gate("--fix")
    assert done.returncode == 1
    assert "src/a.py:2: a mark of an unfinished merge" in done.stdout
    assert clone.repository.git("show", ":src/a.py") == "A = 1\n<<<<<<< ours"


def test_where_more_than_the_files_decides_a_process_runs(clone: Clone) -> None:
    """With an environment of its own, the program that its PATH has is the one that is meant."""
    clone.rule("trailing-whitespace", '[check.env]\nPATH = "/nowhere"\n')
    clone.stage("src/a.py", "A = 1\n")
    assert clone.told()["outcome"] != "green"
    assert KeyTable(str(clone.path / ".git/gate/keys")).rows[0].command == ""
