"""The two doors to git give the same answers, and let nothing of the caller's Git in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.errors import Unavailable
from ci.git import GitFailed, PlainGit, ServerGit, read_file, resolve
from ci.model import Sha
from fakes.repositories import Repository

Door = PlainGit | ServerGit


@pytest.fixture(params=[PlainGit, ServerGit])
def git(request: pytest.FixtureRequest, repository: Repository) -> Iterator[Door]:
    make: Callable[[Path], Door] = request.param
    made = make(repository.git_dir)
    yield made
    if isinstance(made, ServerGit):
        made.close()


def test_an_answer_is_bytes_and_an_exit_code(git: Door, repository: Repository) -> None:
    end = git.run("rev-parse", "HEAD")
    assert (end.code, end.text) == (0, repository.head())


def test_standard_input_is_handed_over_and_empty_without(git: Door) -> None:
    assert git.run("hash-object", "--stdin", stdin=b"x").text == "c1b0730e0133447badcfd47fd144e254807b06e1"
    assert git.run("hash-object", "--stdin").text == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_an_exit_code_that_nobody_expected_is_an_error_with_gits_words(git: Door) -> None:
    with pytest.raises(GitFailed, match="exit code 128"):
        git.run("cat-file", "blob", "no-such-thing")
    assert git.run("cat-file", "blob", "no-such-thing", ok=(128,)).code == 128


def test_the_callers_git_variables_have_no_say(git: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if isinstance(git, ServerGit):
        pytest.skip("forget_git_variables clears them once, at the edge")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git.run("rev-parse", "--is-inside-git-dir").code == 0


def test_a_diff_names_what_differs_and_nothing_when_nothing_does(git: Door, repository: Repository) -> None:
    before = Sha(repository.head())
    after = Sha(repository.commit("edit", {"src/a.py": "A = 2\n", "new\nline": "x"}))
    for one, other in ((before, after), (Sha(repository.tree(before)), Sha(repository.tree(after)))):
        found = git.diff(one, other)
        assert found is not None
        assert found.split(b"\0")[1::2] == [b"new\nline", b"src/a.py"]
    assert git.diff(after, after) == b""
    assert git.diff(before, Sha("1" * 40)) is None
    found = git.diff(before, after)
    assert found is not None  # the resident one answers on after a question it could not


def test_a_resident_diff_that_died_or_fell_out_of_step_is_not_believed(repository: Repository) -> None:
    git = ServerGit(repository.git_dir)
    before = Sha(repository.head())
    after = Sha(repository.commit("edit", {"src/a.py": "A = 2\n"}))
    expected = git.diff(before, after)
    assert expected

    git._differ.proc.kill()
    assert git.diff(before, after) == expected

    # An answer that nobody read is still in the pipe: what comes next is not about the next question.
    other = Sha(repository.commit("more", {"README.md": "bye\n"}))
    trees = f"{repository.tree(before)} {repository.tree(other)}\n".encode()
    git.diff(before, after)
    git._differ.stdin.write(trees + b"end-of-nothing\n")
    git._differ.stdin.flush()
    assert git.diff(before, after) == expected
    git.close()


def test_a_file_named_like_an_end_does_not_cut_a_diff_short(git: Door, repository: Repository) -> None:
    before = Sha(repository.head())
    after = Sha(repository.commit("trap", {"end-0": "x", "zz": "y"}))
    found = git.diff(before, after)
    assert found is not None
    assert found.split(b"\0")[1::2] == [b"end-0", b"zz"]


def test_a_stored_commit_is_gits_own(git: Door, repository: Repository) -> None:
    raw = repository.git("cat-file", "commit", "HEAD").encode() + b"\n"
    assert git.store_commit(raw) == repository.head()
    other = git.store_commit(raw.replace(b"first", b"other"))
    assert repository.git("log", "-1", "--format=%s", other) == "other"


def test_a_file_of_a_commit_is_read_whole_or_is_not_there(git: Door, repository: Repository) -> None:
    head = Sha(repository.head())
    assert read_file(git, head, "README.md") == b"hello\n"
    assert read_file(git, head, "no") is None


def test_names_lead_to_commits_or_nowhere(git: Door, repository: Repository) -> None:
    assert resolve(git, "refs/heads/main") == repository.head()
    assert resolve(git, "refs/heads/none") is None
    assert resolve(git, "--help") is None


def test_the_resident_git_sees_a_ref_move(repository: Repository) -> None:
    git = ServerGit(repository.git_dir)
    before = git.header("refs/heads/main")
    after = repository.commit("more")
    assert (before, git.header("refs/heads/main")) != (after, before)
    assert git.header("refs/heads/main") == after
    assert git.header("refs/heads/none") is None
    git.close()


def test_a_repository_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        ServerGit(tmp_path / "none").run("rev-parse", "HEAD")
