"""Setting up a bare repository: what is set and written, what is left alone, and that twice is as once."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ci.git
from ci.errors import Unavailable, UserError
from ci.git import PlainGit
from fakes.repositories import Repository
from fakes.servers import push
from gate.install import init_bare, missing_hooks


@pytest.fixture
def bare(repository: Repository, tmp_path: Path) -> Repository:
    server = repository.clone(tmp_path / "server.git", bare=True)
    repository.git("remote", "add", "origin", str(server.path))
    repository.commit("b", {"b": "1"})
    return server


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_a_fresh_repository_is_set_up(bare: Repository) -> None:
    said = init_bare(bare.path)
    assert f"wrote {bare.path}/hooks/proc-receive" in said
    assert bare.git("config", "--get-all", "receive.procReceiveRefs").split() == ["refs/for", "refs/heads/main"]
    assert bare.git("config", "--get-all", "receive.hideRefs").split() == ["refs/changes", "refs/gate", "!refs/gate/have"]
    assert (bare.path / "gate").stat().st_mode & 0o777 == 0o700
    assert bare.git("config", "gc.auto") == "0"


def test_twice_changes_nothing_and_says_so(bare: Repository) -> None:
    init_bare(bare.path)
    before = state(bare.path)
    assert init_bare(bare.path) == [f"{bare.path} is set up already; nothing to change"]
    assert state(bare.path) == before


def test_what_others_set_is_kept(bare: Repository) -> None:
    bare.git("config", "--add", "receive.hideRefs", "refs/secret")
    init_bare(bare.path)
    assert bare.git("config", "--get-all", "receive.hideRefs").split() == [
        "refs/secret",
        "refs/changes",
        "refs/gate",
        "!refs/gate/have",
    ]


def test_another_trunk(bare: Repository) -> None:
    init_bare(bare.path)
    assert "HEAD points to stable, which makes it the trunk" in init_bare(bare.path, "stable")
    assert bare.git("symbolic-ref", "HEAD") == "refs/heads/stable"
    assert bare.git("config", "--get-all", "receive.procReceiveRefs").split() == ["refs/for", "refs/heads/stable"]
    assert init_bare(bare.path, "stable") == [f"{bare.path} is set up already; nothing to change"]


@pytest.mark.parametrize("trunk", ["a b", "-x", "", "a..b", "x.lock"])
def test_a_name_that_no_branch_can_have(bare: Repository, trunk: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a branch"):
        init_bare(bare.path, trunk)
    assert bare.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_repositories_that_are_not_bare_are_refused(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a work tree"):
        init_bare(repository.path)
    with pytest.raises(UserError, match="is no Git repository"):
        init_bare(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        init_bare(tmp_path / "nowhere")


def test_git_that_is_too_old_is_refused(bare: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.37.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    ci.git.git_version.cache_clear()
    try:
        with pytest.raises(Unavailable, match=r"git 2\.37 is too old"):
            init_bare(bare.path)
    finally:
        ci.git.git_version.cache_clear()
    assert not (bare.path / "gate").exists()


def test_a_hook_of_ours_with_an_old_path_is_renewed(bare: Repository, repository: Repository) -> None:
    init_bare(bare.path)
    hook = bare.path / "hooks/pre-receive"
    right = hook.read_text()
    hook.write_text(right.replace(sys.executable, "/gone/python"))
    assert init_bare(bare.path) == [f"renewed {hook}"]
    assert hook.read_text() == right


@pytest.mark.parametrize("name", ["pre-receive", "proc-receive"])
def test_a_hook_of_somebody_else_is_left_alone(bare: Repository, name: str) -> None:
    hook = bare.path / "hooks" / name
    hook.write_text("#!/bin/sh\nexit 0\n")
    said = init_bare(bare.path)
    assert [line for line in said if f"{hook} was not written by the gate and is left alone" in line]
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


def test_chained_as_told_the_hook_works_and_is_accepted(bare: Repository, repository: Repository) -> None:
    hook = bare.path / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\n")
    [told] = [line for line in init_bare(bare.path) if "left alone" in line]
    hook.write_text("#!/bin/sh\n" + told.partition("standard input: ")[2] + '\necho "mine saw $refs" >&2\n')
    hook.chmod(0o755)
    assert init_bare(bare.path) == [f"{bare.path} is set up already; nothing to change"]
    code, said = push(repository, "origin", "HEAD:refs/heads/mine")
    assert (code, "mine saw 0000" in said) == (0, True), said
    code, said = push(repository, "origin", "HEAD:refs/heads/green/main")
    assert code == 1
    assert "moved by the gate alone" in said


def test_odd_paths_are_quoted(repository: Repository, tmp_path: Path) -> None:
    """Of the repository, which git handles, and of the interpreter and of this package, which the hook's script names."""
    odd = tmp_path / 'it\'s $HOME "here"; x'
    odd.mkdir()
    package = Path(__file__).parents[2]
    for room in ("ci", "gate", "hooks"):
        (odd / room).symlink_to(package / room)
    (odd / "python").symlink_to(sys.executable)
    server = repository.clone(odd / "server.git", bare=True)
    code = "import sys; from pathlib import Path; from gate.install import init_bare; init_bare(Path(sys.argv[1]))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(server.path)], check=True, env=env)
    script = server.path / "hooks/proc-receive"
    script.write_text(script.read_text().replace(sys.executable, shlex.quote(str(odd / "python"))))
    repository.git("remote", "add", "odd", str(server.path))
    repository.commit("b", {"b": "1"})
    assert push(repository, "odd", "HEAD:refs/for/main")[0] == 0


def test_hooks_that_do_not_call_the_gate_are_told_to_whoever_serves(bare: Repository) -> None:
    init_bare(bare.path)
    git = PlainGit(bare.path)
    assert missing_hooks(git) == []
    (bare.path / "hooks/pre-receive").write_text("#!/bin/sh\nexit 0\n")
    (bare.path / "hooks/proc-receive").unlink()
    told = missing_hooks(git)
    assert len(told) == 2
    assert all("gate init" in sentence for sentence in told)
