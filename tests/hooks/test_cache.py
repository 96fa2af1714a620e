"""gate cache in repositories where gate check has run: what is there, what goes, and what somebody is just using."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ci.model import CheckName, InputKey, Outcome, Result, RunId
from ci.results import LocalResults
from fakes.repositories import Repository, git_env
from hooks import cache as cache_module
from hooks.cache import tidy, tidy_notes
from hooks.known import GREENS
from hooks.pool import Pool

GATE = Path(sys.executable).with_name("gate")
RULE = '[[check]]\nname = "c"\ncommand = "{}"\nstage = "pre-commit"\n'


class Clone:
    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.path = repository.path
        self.home = repository.git_dir / "gate"

    def gate(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GATE, *words],
            cwd=cwd or self.path,
            env=git_env(**dict(env or {})),
            capture_output=True,
            text=True,
            check=False,
        )

    def cache(self, *words: str) -> Any:
        done = self.gate("cache", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def counts(self, *words: str) -> tuple[int, int, int]:
        """Results, logs and work trees."""
        told = self.cache(*words)
        return told["results"], told["logs"], told["trees"]

    def check(self, command: str = "echo said; false") -> int:
        self.repository.write("gate.toml", RULE.format(command))
        self.repository.git("add", "gate.toml")
        return self.gate("check").returncode


@pytest.fixture
def clone(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Clone(repository)


def test_where_nothing_ran_nothing_is_kept_and_looking_makes_nothing(clone: Clone) -> None:
    assert clone.counts() == (0, 0, 0)
    assert not clone.home.exists()


def test_what_is_kept_is_told(clone: Clone) -> None:
    assert clone.check() == 1
    told = clone.cache("show")
    assert (told["results"], told["logs"], told["trees"]) == (1, 1, 1)
    assert told["logs_bytes"] == len("said\n")
    assert told["results_bytes"] == sum(path.stat().st_size for path in clone.home.glob("results.sqlite*"))
    assert told["trees_bytes"] > 0
    assert (told["action"], told["folder"]) == ("show", str(clone.home))
    assert told["pool"] == str(Pool(clone.repository.git_dir).folder)
    lines = clone.gate("cache").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["1 results", "1 logs", "1 work trees"]


def test_clearing_takes_all_and_the_next_check_runs(clone: Clone) -> None:
    assert clone.check("true") == 0
    linked = clone.path.with_name("linked")
    clone.repository.git("worktree", "add", "-q", str(linked))
    (linked / "gate.toml").write_text(RULE.format("echo"))
    Repository(linked).git("add", "gate.toml")
    assert clone.gate("check", cwd=linked).returncode == 0
    assert "was green already" in clone.gate("check").stderr
    assert "was green already" in clone.gate("check", cwd=linked).stderr
    cleared = clone.gate("cache", "clear")
    assert cleared.stdout.splitlines()[-1].startswith("removed ")
    assert clone.counts() == (0, 0, 0)
    assert not (clone.home / "rules").exists()
    assert "1 green;" in clone.gate("check").stdout
    assert (clone.home / "rules").exists()
    assert "1 green;" in clone.gate("check", cwd=linked).stdout


def test_what_is_in_use_stays_and_what_uses_it_ends_well(clone: Clone, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    clone.repository.write("gate.toml", RULE.format(f"echo before; cat {fifo}; cat {fifo}; false"))
    clone.repository.git("add", "gate.toml")
    with subprocess.Popen([GATE, "check"], cwd=clone.path, env=git_env(), stdout=subprocess.PIPE) as gate:
        fifo.write_text("")  # it runs
        assert clone.counts("clear")[2] == 1
        fifo.write_text("")
        out, _ = gate.communicate(timeout=60)
    assert gate.returncode == 1, out
    assert clone.counts() == (1, 0, 1)


# --- what somebody left who was killed ----------------------------------------------------------------------------------


class Left:
    """Unfinished files of processes in two work trees, of two ages."""

    NAMES = (
        "index.{}",
        "index.{}.lock",
        "keys.{}",
        "rules.{}",
        "keys.seen.{}",
        "background.wanted.{}",
        "../.a\n.gate-1.py.gate-{}",
    )

    def __init__(self, clone: Clone) -> None:
        linked = clone.path.with_name("linked")
        clone.repository.git("worktree", "add", "-q", str(linked))
        self._clone = clone
        self._folders = (clone.home, clone.repository.git_dir / "worktrees/linked/gate")
        for folder in self._folders:
            folder.mkdir(exist_ok=True)
        with subprocess.Popen(["true"]) as dead:
            dead.wait()
        self.owners = {"living": os.getpid(), "dead": dead.pid}

    def leave(self, owner: str, *, age_s: float) -> None:
        for folder in self._folders:
            for name in self.NAMES:
                path = folder / name.format(self.owners[owner])
                path.write_text("half")
                os.utime(path, (time.time() - age_s,) * 2)

    def there(self, owner: str) -> int:
        return sum((folder / name.format(self.owners[owner])).exists() for folder in self._folders for name in self.NAMES)


HOUR_S = 3600
ALL = 2 * len(Left.NAMES)


def test_what_a_killed_check_left_unfinished_goes_in_time(clone: Clone) -> None:
    left = Left(clone)
    left.leave("dead", age_s=HOUR_S - 60)
    left.leave("living", age_s=HOUR_S + 60)
    assert clone.gate("cache", "prune").returncode == 0
    assert (left.there("dead"), left.there("living")) == (ALL, ALL)
    left.leave("dead", age_s=HOUR_S + 60)
    assert clone.check("true") == 0
    assert left.there("dead") == ALL  # somebody has just tidied
    os.utime(clone.home / "tidied", (time.time() - HOUR_S - 60,) * 2)
    assert clone.check("true # again") == 0
    assert (left.there("dead"), left.there("living")) == (0, ALL)


def test_notes_of_greens_are_bounded_by_their_number(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clone.check("true") == 0
    folder = clone.repository.git_dir / GREENS
    (newest,) = folder.iterdir()
    for number in range(4):
        older = folder / f"older-{number}"
        older.write_bytes(b"1.0\n")
        os.utime(older, (1000 + number, 1000 + number))
    monkeypatch.setattr(cache_module, "_NOTES_KEPT", 3)
    tidy_notes(clone.home, 0.0)
    assert {path.name for path in folder.iterdir()} == {newest.name, "older-2", "older-3"}
    tidy_notes(clone.home, 1003.0)
    assert {path.name for path in folder.iterdir()} == {newest.name, "older-3"}


def test_clearing_takes_what_is_unfinished_and_leaves_what_is_just_being_written(clone: Clone) -> None:
    left = Left(clone)
    others = [clone.home / "keys", clone.home / "results.sqlite", clone.repository.git_dir / "index.123"]
    assert clone.check("true") == 0
    others[-1].write_text("a copy that somebody made")
    left.leave("dead", age_s=0)
    left.leave("living", age_s=0)
    assert clone.gate("cache", "clear").returncode == 0
    assert (left.there("dead"), left.there("living")) == (0, ALL)
    left.leave("living", age_s=HOUR_S + 60)  # another process has that number by now
    assert clone.gate("cache", "clear").returncode == 0
    assert left.there("living") == 0
    assert [path.exists() for path in others] == [True] * 3


def test_a_check_that_is_killed_while_git_writes_the_tree_leaves_nothing_for_good(clone: Clone, tmp_path: Path) -> None:
    """A real one: git itself is slow here, and the copy of the index lies there meanwhile."""
    assert clone.check("true") == 0
    clone.repository.git("commit", "-qm", "Rule")
    clone.repository.write("src/a.py", "A = 2\n")
    clone.repository.git("add", "-A")
    slow = tmp_path / "slow/git"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\ncase "$*" in *write-tree*) exec sleep 60;; esac\n' + f'exec {shutil.which("git")} "$@"\n')
    slow.chmod(0o755)
    env = git_env(PATH=f"{slow.parent}:{os.environ['PATH']}")
    with subprocess.Popen([GATE, "check"], cwd=clone.path, env=env, start_new_session=True) as gate:
        copy = clone.home / f"index.{gate.pid}"
        while not copy.exists():
            assert gate.poll() is None
        clone.gate("cache", "clear")
        assert copy.exists()
        os.killpg(gate.pid, signal.SIGKILL)
    assert copy.exists()
    clone.gate("cache", "clear")
    assert not copy.exists()


# --- what goes in time --------------------------------------------------------------------------------------------------


def record(clone: Clone, finished_at: float, count: int = 1, reason: str = "") -> None:
    with LocalResults(clone.home / "results.sqlite") as results:
        for number in range(count):
            run = RunId(f"{finished_at} {number}")
            results.record(
                Result(InputKey("k"), CheckName("c"), Outcome.RED, run, finished_at - 1, finished_at, reason=reason)
            )


def log(clone: Clone, name: str, written_at: float, size: int) -> Path:
    path = clone.home / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (written_at, written_at))
    return path


def test_what_is_older_goes(clone: Clone) -> None:
    now, day_s = time.time(), 86400
    record(clone, now - 3 * day_s)
    record(clone, now)
    log(clone, "old", now - 3 * day_s, 10)
    log(clone, "new", now, 10)
    with Pool(clone.repository.git_dir).slot() as tree:
        pass
    os.utime(tree.with_suffix(".lock"), (now - 3 * day_s,) * 2)
    assert clone.counts("prune") == (2, 2, 1)  # [hooks] cache_age is a month
    assert clone.counts("prune", "--age", "5d") == (2, 2, 1)
    assert clone.counts("prune", "--age", "2d") == (1, 1, 0)
    assert [path.name for path in (clone.home / "logs").iterdir()] == ["new"]


def test_what_an_earlier_version_left_in_folders_goes_as_well(clone: Clone) -> None:
    now, day_s = time.time(), 86400
    log(clone, "apps/a/fmt-1.patch", now - 3 * day_s, 10)
    log(clone, "apps/b/fmt-2.patch", now, 10)
    assert clone.counts("show")[1] == 2
    assert clone.counts("prune", "--age", "2d")[1] == 1
    assert [path.name for path in (clone.home / "logs/apps").iterdir()] == ["b"]
    assert clone.counts("clear")[1] == 0
    assert list((clone.home / "logs").iterdir()) == []


def test_the_rule_of_the_repository_counts_when_no_other_is_given(clone: Clone) -> None:
    record(clone, time.time() - 60)
    clone.repository.commit("Rule", {"gate.toml": '[hooks]\ncache_age = "1s"\n'})
    assert clone.counts("prune", "--age", "1d")[0] == 1
    assert clone.counts("prune")[0] == 0


def test_the_oldest_go_until_the_rest_fits(clone: Clone) -> None:
    now = time.time()
    for age_s in range(400, 0, -100):
        record(clone, now - age_s, count=100, reason="r" * 1000)
        log(clone, f"log {age_s}", now - age_s, 100_000)
    told = clone.cache("prune", "--size", "400kB")
    assert 300_000 <= told["results_bytes"] + told["logs_bytes"] <= 400_000
    assert told["logs"] == 2  # half of the room is for results
    with LocalResults(clone.home / "results.sqlite") as results:
        assert max(result.finished_at for result in results.latest()) == now - 100
    assert {path.name for path in (clone.home / "logs").iterdir()} == {"log 200", "log 100"}


def test_a_bound_that_nothing_fits_comes_to_an_end(clone: Clone) -> None:
    record(clone, time.time(), count=3)
    log(clone, "log", time.time(), 10)
    with LocalResults(clone.home / "results.sqlite") as results:
        tidy(clone.home, results, 0.0, max_bytes=1)
        assert results.count() in (1, 2)  # without them the file would be as large
    assert list((clone.home / "logs").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "--age", "7"], "--age '7' is not a duration"),
        (["prune", "--age", "0s"], "--age "),
        (["prune", "--size", "lots"], "--size "),
        (["clear", "--age", "7d"], "--age, --size and --pool-size are for gate cache prune"),
        (["--size", "1MB"], "--age, --size and --pool-size are for gate cache prune"),
        (["empty"], "invalid choice"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_goes(clone: Clone, words: list[str], said: str) -> None:
    record(clone, time.time())
    refused = clone.gate("cache", *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert clone.counts()[0] == 1


def test_a_store_that_is_damaged_is_said_to_be(clone: Clone) -> None:
    clone.repository.write(".git/gate/results.sqlite", "this is no database")
    shown = clone.gate("cache")
    assert shown.returncode == 0
    assert "results.sqlite was corrupt" in shown.stderr
    aside = clone.home / "results.sqlite.corrupt"
    assert aside.exists()
    clone.cache("clear")
    assert not aside.exists()


def test_work_trees_that_nobody_needs_any_more_go_by_themselves(clone: Clone) -> None:
    """As after inputs were altered in gate.toml: each list of them has a tree of its own."""
    pool = Pool(clone.repository.git_dir).folder
    assert clone.check() == 1
    stale = pool / "0/pool/stale"
    stale.mkdir(parents=True)
    (stale / "settled").touch()
    year_ago = time.time() - 365 * 86_400
    os.utime(stale / "settled", (year_ago, year_ago))
    assert clone.check("echo other; false") == 1
    assert not stale.exists()
    assert (pool / "0/pool").exists()


def test_outside_of_a_repository_there_is_no_cache(clone: Clone, tmp_path: Path) -> None:
    done = clone.gate("cache", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not in the work tree of a git repository" in done.stderr
