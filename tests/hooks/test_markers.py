"""Markers of contents that were green, in real repositories: what they spare, and what they must not speak of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env
from hooks import known as known_module
from hooks import local as local_module
from hooks.check import run as check
from hooks.markers import forget_green, remember_green, was_green, was_green_at_hand
from hooks.staged import Staged, at_hand, look

GATE = Path(sys.executable).with_name("gate")
RULES = '[[check]]\nname = "a"\ncommand = "test ! -e fault"\nstage = "pre-commit"\n'
FOREVER = float("inf")


class Clone:
    def __init__(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = repository
        repository.commit("Rules", {"gate.toml": RULES, "a.py": "A\n"})
        monkeypatch.chdir(repository.path)
        for name in ("PRE_COMMIT", "GATE_HOOK", "GATE_SKIP"):
            monkeypatch.delenv(name, raising=False)
        for name, value in git_env().items():
            monkeypatch.setenv(name, value)

    def stage(self, content: str, name: str = "a.py") -> None:
        self.repository.write(name, content)
        self.repository.git("add", name)

    def staged(self) -> Staged:
        staged = look()
        assert staged is not None
        return staged

    def green(self, *names: str) -> bool:
        """Whether the index as it lies there is known to be green."""
        index = at_hand()
        return index is not None and was_green_at_hand(index, [*names], 0.0)


@pytest.fixture
def clone(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Clone:
    return Clone(repository, monkeypatch)


def asked(tmp_path: Path, *words: str, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What ``gate check`` said, and the git commands that it started."""
    trace = tmp_path / "trace"
    trace.unlink(missing_ok=True)
    told = {**os.environ, "GIT_TRACE": str(trace), **env}
    done = subprocess.run([GATE, "check", *words], env=told, capture_output=True, text=True, check=False)
    return done, trace.read_text().splitlines() if trace.exists() else []


def test_a_commit_that_is_made_once_more_asks_git_nothing(clone: Clone, tmp_path: Path) -> None:
    clone.stage("B\n")
    first, questions = asked(tmp_path)
    assert first.returncode == 0
    assert questions
    again, questions = asked(tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    assert "exactly this was green already" in again.stderr
    assert not questions
    elsewhere, questions = asked(tmp_path, "a.py")  # of one file, which may come to another end
    assert elsewhere.returncode == 0
    assert questions


def test_a_marker_of_an_index_speaks_of_nothing_else(clone: Clone) -> None:
    clone.stage("B\n")
    remember_green(clone.staged(), [], FOREVER)
    assert clone.green()
    assert not clone.green("a.py")
    clone.stage("C\n")
    assert not clone.green()
    clone.stage("B\n")
    assert was_green(clone.staged(), [], 0.0)  # as a content it is known, whatever the times in the index


def test_the_same_index_on_another_commit_is_another_content(clone: Clone) -> None:
    clone.stage("B\n")
    remember_green(clone.staged(), [], FOREVER)
    other = clone.repository.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Other")
    clone.repository.git("update-ref", "HEAD", other)
    assert at_hand() is not None
    assert not clone.green()


def test_what_was_staged_while_checks_ran_has_no_marker(clone: Clone) -> None:
    clone.stage("B\n")
    then = clone.staged()
    clone.stage("a fault\n", "fault")
    remember_green(then, [], FOREVER)
    assert not clone.green()


@pytest.mark.parametrize("way", ["short", "long"])
def test_what_is_staged_while_what_was_staged_is_looked_at_has_no_marker(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """The checks then saw another content, and what they said is not of the one that was there before."""
    clone.repository.commit("Files", {"fault": "fault\n"})
    if way == "short":
        asked(tmp_path, "--all-files", "--no-cache")
        clone.repository.git("rm", "-q", "fault")
        assert asked(tmp_path)[0].returncode == 0  # known from here on
        clone.repository.git("reset", "-q", "--hard")
    clone.stage("B\n")
    ask = local_module.tree_of

    def staged_meanwhile(staged: Staged) -> bytes:
        clone.repository.git("rm", "-qf", "--ignore-unmatch", "fault", "a.py")
        clone.stage("A\n")
        return ask(staged)

    with monkeypatch.context() as meanwhile:
        for module in (known_module, local_module):
            meanwhile.setattr(module, "tree_of", staged_meanwhile)
        assert check([]) == 0  # by hand: what it says is of what is staged now
    clone.repository.git("reset", "-q", "--hard")
    clone.stage("B\n")
    assert asked(tmp_path)[0].returncode == 1


def test_what_is_unstaged_while_checks_begin_is_no_bug(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rules = '[[check]]\nname = "a"\ncommand = "gate hygiene end-of-file {files}"\nstage = "pre-commit"\ninputs = ["src/"]\n'
    clone.repository.commit("Rules", {"gate.toml": rules})
    clone.stage("A\n", "src/kept")
    clone.stage("A\n", "src/gone")
    ask = local_module.tree_of

    def unstaged_meanwhile(staged: Staged) -> bytes:
        clone.repository.git("rm", "-q", "--cached", "src/gone")
        return ask(staged)

    monkeypatch.setattr(local_module, "tree_of", unstaged_meanwhile)
    assert check([]) == 0
    assert "something else is staged than when the checks began (src/gone)" in capfd.readouterr().err
    assert not clone.green()


def test_a_red_check_takes_both_markers_away(clone: Clone) -> None:
    clone.stage("B\n")
    remember_green(clone.staged(), [], FOREVER)
    forget_green(clone.staged(), [])
    assert not clone.green()
    assert not was_green(clone.staged(), [], 0.0)


def test_a_marker_ends(clone: Clone) -> None:
    clone.stage("B\n")
    remember_green(clone.staged(), [], 100.0)
    index = at_hand()
    assert index is not None
    assert was_green_at_hand(index, [], 99.0)
    assert not was_green_at_hand(index, [], 100.0)


def test_nothing_staged_is_still_told_as_that(clone: Clone, tmp_path: Path) -> None:
    assert asked(tmp_path, "--no-cache")[0].returncode == 0
    assert "nothing is staged" in asked(tmp_path)[0].stderr


def test_git_is_asked_where_files_do_not_say_it(clone: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone.stage("B\n")
    assert at_hand() is not None
    clone.repository.git("pack-refs", "--all")
    assert at_hand() is None  # the branch is no file of its own
    clone.repository.git("checkout", "-q", "--detach")
    assert at_hand() is not None
    for name in ("GIT_WORK_TREE", "GIT_COMMON_DIR"):
        with monkeypatch.context() as context:
            context.setenv(name, ".")
            assert at_hand() is None
    without = tmp_path / "index"
    without.write_bytes(Path(".git/index").read_bytes()[:-20] + bytes(20))  # as with index.skipHash
    monkeypatch.setenv("GIT_INDEX_FILE", str(without))
    assert at_hand() is None
    monkeypatch.chdir(tmp_path)
    assert at_hand() is None


def test_a_note_of_what_was_left_out_is_looked_up_all_the_same(clone: Clone, tmp_path: Path) -> None:
    """A marker tells that all is green now; the note of an earlier try has to go."""
    clone.stage("B\n")
    assert asked(tmp_path, GATE_HOOK="pre-commit", GATE_SKIP="a")[0].returncode == 0
    notes = Path(".git/gate/notes")
    assert [*notes.iterdir()]
    assert asked(tmp_path)[0].returncode == 0  # by hand: all green, and the note is still there
    assert clone.green()
    assert asked(tmp_path, GATE_HOOK="pre-commit")[0].returncode == 0
    assert not [*notes.iterdir()]
