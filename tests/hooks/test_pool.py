"""Work trees that are shared by all runs of an account: who holds one, what a killed holder leaves, and where they lie."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from ci import processes
from ci.errors import Unavailable
from ci.model import Sha
from ci.run import RunSettings
from fakes.repositories import Repository, git_env
from hooks import pool as pool_module
from hooks.pool import Pool, pools_folder, remove_orphans, sweep
from hooks.session import Session

GATE = Path(sys.executable).with_name("gate")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/trunkgate"


@pytest.fixture
def pool(repository: Repository) -> Pool:
    return Pool(repository.git_dir)


# --- who holds one ------------------------------------------------------------------------------------------------------


def test_a_slot_is_warm_for_the_next_and_never_for_two(pool: Pool) -> None:
    with pool.slot() as first:
        (first / "warm").touch()
        with pool.slot() as second:
            assert second != first
    with pool.slot() as again:
        assert again == first
        assert (again / "warm").exists()


def test_many_holders_at_once_have_a_slot_each(pool: Pool) -> None:
    """All of them hold one at the same moment."""
    everybody = Barrier(8)

    def hold(_: int) -> Path:
        with pool.slot() as folder:
            everybody.wait(60)
            return folder

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(hold, range(8)))) == 8


def test_repositories_do_not_share_slots_and_names_of_one_do(repository: Repository, tmp_path: Path) -> None:
    other = Repository.create(tmp_path / "other")
    (tmp_path / "link").symlink_to(repository.path)
    assert Pool(other.git_dir).folder != Pool(repository.git_dir).folder
    assert Pool(tmp_path / "link/.git").folder == Pool(repository.git_dir).folder


def test_when_all_are_in_use_that_is_said(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SLOTS", 2)
    with pool.slot(), pool.slot(), pytest.raises(Unavailable, match="all 2 work trees"), pool.slot():
        pass
    with pool.slot():
        pass


@pytest.mark.parametrize(
    ("how", "is_recorded"),
    [("setsid", True), ("setsid", False), ("env -i", True), ("env -i", False)],
)
def test_what_a_killed_holder_left_is_ended_by_the_next(
    how: str, is_recorded: bool, repository: Repository, pool: Pool, tmp_path: Path
) -> None:
    """Also when it was killed before it had written down what it started."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    rule = '[[check]]\nname = "c"\ncommand = "{}"\nstage = "pre-commit"\n'
    repository.write("gate.toml", rule.format(f"{how} sh -c 'echo $$ > {fifo}; exec sleep 1000'; true"))
    repository.git("add", "gate.toml")
    with subprocess.Popen([GATE, "check"], cwd=repository.path, env=git_env(), stdout=subprocess.DEVNULL) as gate:
        sleeper = int(fifo.read_text())
        gate.send_signal(signal.SIGKILL)
    assert Path(f"/proc/{sleeper}").exists()
    assert list((pool.folder / "0/runs").iterdir()) != []
    for record in () if is_recorded else (pool.folder / "0/runs").glob("*.process"):
        record.unlink()
    with pool.slot() as folder:
        assert folder.name == "0"
        assert list((folder / "runs").iterdir()) == []
        assert not processes.is_alive(sleeper)


def test_clearing_takes_what_nobody_uses(pool: Pool) -> None:
    with pool.slot(), pool.slot():
        pass
    with pool.slot() as used:
        pool.clear()
        assert [path.name for path in pool.folder.iterdir() if path.is_dir()] == [used.name]
    pool.clear()
    assert [path for path in pool.folder.iterdir() if path.is_dir()] == []


# --- what goes in time --------------------------------------------------------------------------------------------------


def use(pool: Pool, at: float, count: int = 1) -> list[Path]:
    """Work trees that were last used at a moment."""
    with ExitStack() as held:
        folders = [held.enter_context(pool.slot()) for _ in range(count)]
    for folder in folders:
        os.utime(folder.with_suffix(".lock"), (at, at))
    return folders


def test_work_trees_that_were_not_used_for_long_go(pool: Pool) -> None:
    old, new = use(pool, 1000, count=2)
    os.utime(new.with_suffix(".lock"), (3000, 3000))
    pool.prune(unused_since=500)
    assert (old.exists(), new.exists()) == (True, True)
    pool.prune(unused_since=2000)
    assert (old.exists(), new.exists()) == (False, True)


def test_of_a_slot_in_use_the_trees_go_that_no_check_asks_for_any_more(pool: Pool) -> None:
    (folder,) = use(pool, 3000)
    for name, used_at in (("inputs", 3000), ("inputs-of-old", 1000), ("cut-short", None)):
        (folder / "pool" / name / "tree").mkdir(parents=True)
        if used_at is not None:
            (folder / "pool" / name / "settled").touch()
            os.utime(folder / "pool" / name / "settled", (used_at, used_at))
    pool.prune(unused_since=2000)
    assert [path.name for path in (folder / "pool").iterdir()] == ["inputs"]


def test_a_work_tree_in_use_stays_and_its_use_is_remembered(pool: Pool) -> None:
    (folder,) = use(pool, 1000)
    with pool.slot() as again:
        assert again == folder
        pool.prune(unused_since=float("inf"))
        assert folder.exists()
    pool.prune(unused_since=2000)
    assert folder.exists()


def warm(pool: Pool, name: str, used_at: float) -> Path:
    """A warm tree of a hundred bytes in the first slot that is free."""
    with pool.slot() as home:
        tree = home / "pool" / name
        (tree / "tree").mkdir(parents=True)
        (tree / "tree" / "file").write_bytes(b"x" * 100)
        (tree / "settled").touch()
        os.utime(tree / "settled", (used_at, used_at))
    return tree


def test_what_nobody_used_for_longest_goes_until_the_rest_fits(pool: Pool) -> None:
    trees = [warm(pool, name, at) for name, at in (("b", 2000), ("a", 1000), ("c", 3000))]
    pool.fit(300)
    assert all(tree.exists() for tree in trees)
    pool.fit(250)
    assert [tree.exists() for tree in trees] == [True, False, True]
    with pool.slot():
        pool.fit(0)
        assert [tree.exists() for tree in trees] == [True, False, True], "in use"
    pool.fit_daily(200)
    pool.fit_daily(150)
    assert trees[0].exists(), "not twice a day"
    os.utime(pool.folder / "fitted", (0, 0))
    pool.fit_daily(150)
    assert [tree.exists() for tree in trees] == [False, False, True]
    pool.fit(0)
    assert trees[2].exists(), "it would only be made once more"


def test_pools_of_repositories_that_are_gone_are_swept_once_a_day(
    pool: Pool, repository: Repository, cache: Path, tmp_path: Path
) -> None:
    (old,) = use(pool, 1000)
    another = Repository.create(tmp_path / "another")
    (young,) = use(Pool(another.git_dir), 3000)
    there = Repository.create(tmp_path / "there")
    (used,) = use(Pool(there.git_dir), 1000)
    sweep(2000)
    assert old.exists()
    repository.path.rename(tmp_path / "moved")
    another.path.rename(tmp_path / "moved too")
    sweep(2000)
    assert old.exists(), "not twice a day"
    os.utime(cache / "swept", (0, 0))
    sweep(2000)
    assert (old.parent.exists(), young.exists(), used.exists()) == (False, True, True)
    os.utime(cache / "swept", (0, 0))
    with (cache / "swept").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        sweep(5000)
    assert young.exists(), "another process is at it"


def test_a_repository_of_which_nobody_can_tell_keeps_its_pool(
    pool: Pool, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = use(pool, 1000)
    repository.path.rename(repository.path.with_name("moved"))
    asked = Path.stat

    def unreachable(path: Path, **given: bool) -> os.stat_result:
        if path == repository.git_dir:
            raise OSError(errno.ENOTCONN, "the other end is gone")
        return asked(path, **given)

    monkeypatch.setattr(Path, "stat", unreachable)
    remove_orphans()
    assert folder.exists()


def test_where_no_work_tree_can_be_tidying_stops_nobody(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that need no process need none."""

    def none() -> Path:
        raise Unavailable("there is no folder for the work trees of checks")

    monkeypatch.setattr(pool_module, "pools_folder", none)
    with Session(repository.git_dir, RunSettings(isolation="plain"), Sha("tree"), lambda: Sha("commit")) as session:
        session.tidy(1000.0, 1000, 1000)


def test_a_tree_that_cannot_be_removed_keeps_none_of_the_others(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, other = use(pool, 1000, count=2)
    remove = pool_module.remove_tree

    def refuse(path: Path) -> None:
        if path == stuck:
            raise PermissionError(errno.EACCES, "not yours")
        remove(path)

    monkeypatch.setattr(pool_module, "remove_tree", refuse)
    with pytest.raises(PermissionError):
        pool.prune(unused_since=2000)
    assert (stuck.exists(), other.exists()) == (True, False)


def test_the_pool_of_a_repository_that_is_gone_goes(pool: Pool, repository: Repository, cache: Path, tmp_path: Path) -> None:
    (folder,) = use(pool, 3000)
    (cache / "not a pool").mkdir()
    (cache / "not a pool/0").mkdir()
    (cache / "linked").symlink_to(tmp_path)
    repository.path.rename(tmp_path / "moved")
    remove_orphans()
    assert not folder.parent.exists()
    assert {path.name for path in cache.iterdir()} == {"not a pool", "linked"}
    assert (cache / "not a pool/0").exists()


# --- where they lie -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where work trees go while the cache folder cannot be written: its name is that of a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary" / f"trunkgate-{os.getuid()}"


def test_they_lie_in_the_cache_folder_that_is_nobody_elses(cache: Path) -> None:
    assert pools_folder() == cache
    assert cache.stat().st_mode & 0o777 == 0o700


def test_without_the_variable_the_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert pools_folder() == tmp_path / "home/.cache/trunkgate"


def test_where_the_cache_cannot_be_written_a_temporary_folder_serves(fallback: Path) -> None:
    assert pools_folder() == fallback
    assert fallback.stat().st_mode & 0o777 == 0o700
    assert pools_folder() == fallback


def test_a_name_that_depends_on_the_current_folder_is_none(
    monkeypatch: pytest.MonkeyPatch, fallback: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert pools_folder() == fallback
    assert list(Path.cwd().iterdir()) == []


def test_a_temporary_folder_that_is_a_link_is_refused(fallback: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    fallback.symlink_to(tmp_path / "theirs")
    with pytest.raises(Unavailable, match="set XDG_CACHE_HOME"):
        pools_folder()


def test_a_temporary_folder_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch, fallback: Path) -> None:
    """Whoever made the folder may alter what checks run there."""
    others = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: others)
    fallback.with_name(f"trunkgate-{others}").mkdir()
    with pytest.raises(Unavailable, match="set XDG_CACHE_HOME"):
        pools_folder()
