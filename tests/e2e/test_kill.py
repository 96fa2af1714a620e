"""SIGKILL at any moment: nothing is lost, nothing happens twice, nothing is left behind.

Whatever was killed when, the end is compared with that of a run that nobody disturbed, and held against the rule of
landing: between T and C lie exactly the listed changes, and every required check is green for the very tree of C.
"""

import itertools
import os
import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.deploy.model import DeployStarted
from ci.keys import KeyMaker
from ci.model import Outcome
from ci.results import results_for_keys
from fakes.crashing import Life, Nursery
from fakes.stand import PARTS, PLAIN, Stand, wait_for
from gate import commands, config
from gate.feed import read_lines
from gate.locks import remove_stale
from gate.model import LandingStarted, RunFinished, Verdict

AFTER = """
[[check]]
name = "after"
command = "true"
stage = "post-commit"

[[environment]]
name = "prod"
targets = ["one", "two"]
command = "echo {commit} >> $TARGETS/{target}"
waves = ["1", "100%"]
pass_env = ["TARGETS"]
"""


@dataclass(frozen=True)
class Ending:
    """What must not depend on where a daemon was killed."""

    verdicts: dict[int, str]
    queue: list[int]  # in its order
    landed: set[int]
    tree: str
    promoted: bool
    deployed: dict[str, str]  # by target: the subject of what was deployed there last


def test_a_queue_killed_at_any_boundary_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Two that are independent, one red, and two that break together."""
    files = {
        "a/check.sh": 'test "$(($(cat a/x) + $(cat a/y)))" -le 1\n',
        **{"a/x": "0", "a/y": "0", "b/check.sh": "exit 0\n", "b/x": "0"},
    }
    stand = Stand(tmp_path, PARTS, files)
    stand.submit("first of a pair", {"a/x": "1"})
    stand.submit("independent", {"b/x": "1"})
    stand.submit("red", {"a/x": "7"})
    stand.submit("second of a pair", {"a/y": "1"})
    ending = kill_at_every_boundary(stand)
    assert ending.verdicts == {1: "landed", 2: "landed", 3: "refused", 4: "refused"}
    assert ending.queue == [1, 2, 3, 4]
    assert ending.landed == {1, 2}  # in either order: neither waits for the other


def test_a_deploy_killed_at_any_boundary_reaches_each_target_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, PLAIN + AFTER, {"x": "0"})
    monkeypatch.setenv("TARGETS", str(tmp_path))
    stand.settle()  # deploys what is there: now it is the change's turn
    (stand.path / "gate" / "wake").unlink()  # neither can be copied, and both are made anew
    shutil.rmtree(stand.path / "gate" / "pool")
    stand.submit("good", {"x": "1"})
    ending = kill_at_every_boundary(stand)
    assert ending.verdicts == {1: "landed"}
    assert ending.promoted
    assert set(ending.deployed) == {"one", "two"}
    assert len(set(ending.deployed.values())) == 1


def kill_at_every_boundary(stand: Stand) -> Ending:
    """Run copies of a repository, each with one daemon killed at its k-th boundary and another that ends the work."""
    with Nursery() as nursery:
        expected = _ending_of(stand, nursery, None)[1]
    numbers = itertools.count(1)
    is_over = threading.Event()
    reached: list[str] = []

    def work() -> None:
        with Nursery() as nursery:
            while not is_over.is_set():
                k = next(numbers)
                life, ending = _ending_of(stand, nursery, k)
                assert ending == expected, f"killed at {k}, ahead of {life.boundary}"
                reached.append(life.boundary)
                if not life.boundary:
                    is_over.set()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work) for _ in range(2)]:
            try:
                done.result()
            finally:
                is_over.set()
    # Which of two effects side by side is the k-th differs from run to run, so one of them may be missed, not both.
    assert any("LandingStarted" in boundary or "Landed" in boundary for boundary in reached)
    assert any("update-ref" in boundary for boundary in reached)
    return expected


def _ending_of(stand: Stand, nursery: Nursery, kill_at: int | None) -> tuple[Life, Ending]:
    """One copy of the repository, its daemon killed there, and what came of it in the end."""
    folder = stand.folder / f"copy-{kill_at}"
    copy = Copy(stand, folder)
    life = copy.live(nursery, kill_at)
    assert life.code == (-9 if life.boundary else 0), copy.said()
    if life.boundary:
        results = copy.results()
        rest = copy.live(nursery)
        assert (rest.code, rest.boundary) == (0, ""), f"killed at {kill_at}, ahead of {life.boundary}: {copy.said()}"
        assert results <= copy.results(), f"killed at {kill_at}, ahead of {life.boundary}: results are lost"
    return life, copy.ending()


class Copy:
    """A copy of a stand's repository, with targets of its own to deploy to."""

    def __init__(self, stand: Stand, folder: Path) -> None:
        folder.mkdir()
        self.repository = stand.server.copy(folder / "srv.git")
        self.path = self.repository.path
        self.targets = folder / "targets"
        self.targets.mkdir()
        self.log = folder / "log"
        with commands.office(self.path) as at:
            self.seq = at.state.seq  # of the last event before

    def live(self, nursery: Nursery, kill_at: int | None = None) -> Life:
        return nursery.live(self.path, self.log, kill_at, {"TARGETS": str(self.targets)})

    def said(self) -> str:
        return self.log.read_text()

    def results(self) -> set[str]:
        """Runs whose results were journalled. What the journal says of them and what the store has is the same."""
        with commands.office(self.path) as at:
            ends = [event for _, event in at.journal.read() if isinstance(event, RunFinished) and event.result]
            stored = at.journal.query(lambda execute: {str(row[0]) for row in execute("select run from results", {})})
        assert {str(event.run) for event in ends} == stored
        assert len(ends) == len(stored)
        return stored

    def ending(self) -> Ending:
        with commands.office(self.path) as at:
            hold_to_the_rule(at)
            state = at.state
            assert not at.unseen
            assert not state.runs
            assert not state.waiting
            assert state.landing is None
            for change, verdict in state.verdicts.items():
                newest = state.newest(change)
                assert newest is not None
                told = [line for line in read_lines(at.repository.feed_path(change))[0] if line["verdict"]]
                assert told, f"the feed of change {change} has no verdict"
                assert {line["verdict"] for line in told} == {verdict.value}
            self.nothing_is_left_behind()
            git = self.repository
            return Ending(
                {int(change): verdict.value for change, verdict in state.verdicts.items()},
                [int(change) for change in state.revisions],
                {int(change) for _, landing in state.landings for change, _ in landing.changes},
                git.tree("main"),
                git.run("rev-parse", "green/main").stdout == git.run("rev-parse", "main").stdout,
                self.deployed(at),
            )

    def deployed(self, at: commands.Office) -> dict[str, str]:
        """The subject of what each target has. It got that, and whatever was overtaken by it, once."""
        started = [event.commit for _, event in at.journal.read(self.seq) if isinstance(event, DeployStarted)]
        assert len(started) == len(set(started))
        found = {target.name: target.read_text().split() for target in self.targets.iterdir()}
        for target, commits in found.items():
            assert len(commits) == len(set(commits)), f"{target} got {commits}"
            assert set(commits) <= set(started)
        return {target: self.repository.git("log", "-1", "--format=%s", commits[-1]) for target, commits in found.items()}

    def nothing_is_left_behind(self) -> None:
        folder = self.path / "gate"
        assert not list((folder / "runs").glob("*"))
        assert not [path for path in self.path.rglob("*.lock") if path != folder / "daemon.lock"]
        assert not list(folder.glob("deploys/*/tree-*"))
        assert self.repository.git("worktree", "list").count("\n") == 0
        wait_for(lambda: not processes_of(self.path), within_s=5)


def hold_to_the_rule(at: commands.Office) -> None:
    """Every landing: begun before it was done, with the tree that it said, proved by green results for that very tree."""
    git = at.repository.git
    state = at.state
    begun = {event.commit: event for _, event in at.journal.read() if isinstance(event, LandingStarted)}
    trunk = git.run("rev-parse", str(at.repository.trunk)).text
    history = git.run("rev-list", "--first-parent", trunk).text.split()
    assert len({c for _, landing in state.landings for c, _ in landing.changes}) == sum(
        len(landing.changes) for _, landing in state.landings
    ), "a change landed twice"
    for _, landing in state.landings:
        assert begun[landing.commit] == landing
        assert git.run("rev-parse", f"{landing.commit}^{{tree}}").text == landing.tree
        between = git.run("rev-list", "--first-parent", "--reverse", f"{landing.base}..{landing.commit}").text.split()
        assert between == list(landing.commits)
        assert set(between) <= set(history)
        for (change, revision), commit in zip(landing.changes, landing.commits, strict=True):
            head = next(item.head for item in state.revisions[change] if item.revision == revision)
            assert git.run("rev-parse", f"{commit}^2").text == head
            assert git.run("rev-parse", f"refs/changes/{change}/landed").text == commit
        policy = config.load(git, landing.base)
        assert isinstance(policy, config.Config)
        checks = policy.checks_before_landing()
        keys = KeyMaker(git).keys(landing.commit, checks, None)
        assert {proof.check: proof.key for proof in landing.proofs} == {check.name: keys[check.name] for check in checks}
        for proof in landing.proofs:
            found = at.journal.query(lambda execute, key=proof.key: results_for_keys(execute, [key]))[proof.key]
            assert any(result.run == proof.run and result.outcome is Outcome.GREEN for result in found)
    merged = [
        git.run("rev-parse", f"{commit}^2").text
        for commit in history[: sum(len(landing.commits) for _, landing in state.landings)]
    ]
    assert len(merged) == len(set(merged)), "a head was merged twice"
    landed = {change for change, verdict in state.verdicts.items() if verdict is Verdict.LANDED}
    marked = git.run("for-each-ref", "--format=%(refname)", "refs/changes/*/landed").text.split()
    assert {int(ref.split("/")[2]) for ref in marked} == landed


def processes_of(folder: Path) -> list[str]:
    """Living processes that know of this folder, by environment, command line or working folder."""
    wanted = os.fsencode(folder)
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            where = os.fsencode((process / "cwd").readlink())
        except OSError:
            continue  # gone since
        if wanted in told or where.startswith(wanted):
            found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
    return found


# --- killed from outside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_a_daemon_killed_at_random_moments_ends_as_if_nothing_had_been(tmp_path: Path, seed: int) -> None:
    """Killed alone or with the gits that it runs; the next one meets what was left running."""
    chance = random.Random(seed)
    check = 'sleep 0.05; test "$(($(cat x) + $(cat y)))" -le 1\n'
    stand = Stand(tmp_path, PARTS, {"a/check.sh": f"cd a; {check}", "a/x": "0", "a/y": "0", "b/check.sh": "exit 0\n"})
    for name, value in (("x", "1"), ("y", "1"), ("x", "7"), ("z", "1"), ("y", "0")):
        stand.submit(f"{name} is {value}", {f"a/{name}": value}, f"topic={name}{value}{chance.random()}")
    with Nursery() as nursery:
        calm = Copy(stand, tmp_path / "calm")
        assert calm.live(nursery).code == 0
        wild = Copy(stand, tmp_path / "wild")
        for _ in range(6):
            daemon = nursery.start(wild.path, wild.log)
            threading.Event().wait(chance.uniform(0.02, 0.5))  # any moment will do
            chance.choice((os.kill, os.killpg))(daemon, signal.SIGKILL)
            nursery.end()
            make_locks_old(wild.path)
        results = wild.results()
        assert wild.live(nursery).code == 0, wild.said()
        assert results <= wild.results()
        assert wild.ending() == calm.ending()


def test_the_program_itself_survives_sigkill(tmp_path: Path) -> None:
    """``gate serve`` as it is installed, killed while a check runs: its check is ended, and run again by the next one."""
    slow = PLAIN + '[[check]]\nname = "slow"\ncommand = "test -e go || sleep 600"\ninputs = ["x", "go"]\n'
    stand = Stand(tmp_path, slow, {"x": "0", "go": ""})
    stand.settle()
    runs = stand.state().run_count
    change = stand.submit("good", {"x": "1", "go": None})
    with stand.daemon() as daemon:
        wait_for(lambda: any("sleep" in line for line in processes_of(stand.path)))
        daemon.process.kill()
        daemon.process.wait()
    assert any("sleep" in line for line in processes_of(stand.path))
    with stand.daemon():
        wait_for(lambda: stand.state().run_count == runs + 2)
        assert sum("sleep" in line for line in processes_of(stand.path)) <= 2  # the shell and its child, of one run
        stand.branch("quick", {"x": "1", "go": ""})
        assert stand.push(f"change={change}").code == 0
        wait_for(lambda: stand.verdict(change) == "landed")
    wait_for(lambda: not processes_of(stand.path))


# --- git killed between two refs --------------------------------------------------------------------------------------

# Ends the git that called it, with every lock taken and nothing changed yet; and, in the daemon's case, the daemon.
TEARING = """#!/bin/sh
[ "$1" = prepared ] && [ -e tear ] || exit 0
cat >torn
grep -q -f tear torn || exit 0
read -r _ _ _ parent _ </proc/$PPID/stat
rm tear
[ -e daemon-too ] && kill -9 $parent
kill -9 $PPID
"""


@pytest.fixture
def torn(tmp_path: Path) -> Stand:
    stand = Stand(tmp_path, PARTS, {"a/check.sh": "exit 0\n", "b/check.sh": "exit 0\n"})
    hook = stand.path / "hooks" / "reference-transaction"
    hook.write_text(TEARING)
    hook.chmod(0o755)
    return stand


def finish_refs(repo: Path, count: int) -> None:
    """Do the first part of what git was about to do: put locks in the place of their refs, in git's order.

    A lock that is empty holds a ref that the transaction only verifies: git takes that away again, and moves nothing.
    """
    refs = [line.split()[2] for line in (repo / "torn").read_text().splitlines()]
    moved = [ref for ref in refs if ref != "HEAD" and (repo / f"{ref}.lock").stat().st_size]
    for ref in moved[:count]:
        (repo / f"{ref}.lock").rename(repo / ref)


def make_locks_old(repo: Path) -> None:
    for lock in repo.rglob("*.lock"):
        if lock.name != "daemon.lock":
            os.utime(lock, (0, 0))


@pytest.mark.parametrize("done", range(5))
def test_a_push_killed_between_two_refs_is_recorded_whole_or_not_at_all(torn: Stand, done: int) -> None:
    head = torn.branch("good", {"a/x": "1"})
    (torn.path / "tear").write_text("refs/gate/submissions\n")
    assert torn.push("topic=one").code != 0
    finish_refs(torn.path, done)
    assert len(list(torn.path.glob("refs/**/*.lock"))) == 4 - done
    make_locks_old(torn.path)
    torn.settle()
    is_recorded = done >= 2  # the change's own ref, the record; then its names
    with commands.office(torn.path) as at:
        assert set(at.state.verdicts) == ({1} if is_recorded else set())
    again = torn.push("topic=one", what=head)
    if is_recorded:
        assert "no commits to land" in again.said
    else:
        assert again.code == 0
        assert again.change == 1
    other = torn.submit("other", {"b/x": "1"})
    assert other == 2
    torn.settle()
    assert [torn.verdict(1), torn.verdict(2)] == ["landed", "landed"]
    with commands.office(torn.path) as at:
        hold_to_the_rule(at)


def test_a_name_is_found_again_after_a_push_was_killed_ahead_of_it(torn: Stand) -> None:
    """Revision 2 is recorded, and no name leads there yet: the third push is revision 3, and no second revision 2."""
    torn.branch("first", {"a/x": "1"})
    assert torn.push("topic=one").change == 1
    torn.branch("second", {"a/x": "2"})
    (torn.path / "tear").write_text("refs/gate/submissions\n")
    assert torn.push("topic=one").code != 0
    finish_refs(torn.path, 2)
    make_locks_old(torn.path)
    assert remove_stale(torn.path, time.time()) == 2
    torn.branch("third", {"a/x": "3"})
    assert "change 1 revision 3 submitted" in torn.push("topic=one").said
    torn.settle()
    with commands.office(torn.path) as at:
        assert [(change, [item.revision for item in items]) for change, items in at.state.revisions.items()] == [
            (1, [1, 2, 3])
        ]
    assert torn.show("a/x") == "3"


@pytest.mark.parametrize("done", range(3))
def test_a_landing_killed_between_two_refs_is_finished_or_begun_again(torn: Stand, done: int) -> None:
    torn.settle()  # promotes what is there: the next refs that move are those of the landing
    runs = torn.state().run_count
    change = torn.submit("good", {"a/x": "1"})
    (torn.path / "tear").write_text("refs/heads/main\n")
    (torn.path / "daemon-too").touch()
    with Nursery() as nursery:
        assert nursery.live(torn.path, torn.folder / "log").code == -signal.SIGKILL
    finish_refs(torn.path, done)
    if done == 0:
        said = torn.gate("serve", "--until-idle", str(torn.path))
        assert said.returncode == 4
        assert "main.lock': File exists" in said.stderr or "HEAD.lock': File exists" in said.stderr
        assert "older than 60 s" in said.stderr
        make_locks_old(torn.path)
    torn.settle()
    assert torn.verdict(change) == "landed"
    assert torn.state().run_count == runs + 1  # as without the crash: no result was lost
    with commands.office(torn.path) as at:
        hold_to_the_rule(at)
    make_locks_old(torn.path)
    torn.settle()
    assert not list(torn.path.glob("**/*main*.lock"))
