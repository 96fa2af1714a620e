"""Deploys with real git and real processes."""

import os
import pickle
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ci.deploy import engine
from ci.deploy.model import DeployFinished, DeployStarted, Environment, RollbackRequested, StepFinished, StepSent
from ci.git import ServerGit
from ci.model import Sha
from fakes.deploys import Controller, World
from fakes.repositories import Repository

Open = Callable[[World], Controller]

TEN = tuple(f"web{number}" for number in range(10))

# Each target is a folder; what stands there is in "version", and every run of a command adds a line to "runs".
DEPLOY_ONE = """#!/bin/sh
mkdir -p -- "$SERVERS/$1" || exit
echo "$GATE_ACTION $2" >>"$SERVERS/$1/runs"
cat app.txt >"$SERVERS/$1/version"
"""


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "servers"
    folder.mkdir()
    monkeypatch.setenv("SERVERS", str(folder))
    return folder


@pytest.fixture
def world(repository: Repository, tmp_path: Path) -> World:
    repository.write("deploy-one", DEPLOY_ONE, executable=True)
    commit = Sha(repository.commit("one", {"app.txt": "one\n"}))
    production = Environment(
        name="production",
        command="./deploy-one {target} {commit}",
        targets=TEN,
        waves=("1", "50%", "100%"),
        pass_env=("SERVERS",),
    )
    return World(repository.git_dir, tmp_path / "gate", (production,), (commit,), commit)


@pytest.fixture
def controller() -> Iterator[Open]:
    opened: list[Controller] = []

    def open_one(told: World) -> Controller:
        opened.append(Controller(told))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def configured(world: World, **settings: object) -> World:
    return replace(world, environments=(replace(world.environments[0], **settings),))


def with_commit(world: World, repository: Repository, text: str) -> World:
    commit = Sha(repository.commit(text, {"app.txt": f"{text}\n"}))
    return replace(world, trunk=(*world.trunk, commit), promoted=commit)


def versions(servers: Path) -> dict[str, str]:
    return {folder.name: (folder / "version").read_text().strip() for folder in sorted(servers.iterdir())}


def runs(servers: Path) -> dict[str, list[str]]:
    return {folder.name: (folder / "runs").read_text().splitlines() for folder in sorted(servers.iterdir())}


def outcomes(world: World) -> list[str]:
    return [fact.outcome for fact in world.facts() if isinstance(fact, DeployFinished)]


def test_ten_targets_are_deployed_in_three_waves_each_once(world: World, servers: Path, controller: Open) -> None:
    state = controller(world).run_until_over()

    assert outcomes(world) == ["good"]
    assert state.of("production").present == world.promoted
    assert versions(servers) == dict.fromkeys(TEN, "one")
    assert runs(servers) == {target: [f"deploy {world.promoted}"] for target in TEN}
    assert [len(wave) for wave in state.deploys[1].started.waves] == [1, 4, 5]
    ended = [fact for fact in world.facts() if isinstance(fact, StepFinished)]
    assert all((world.folder / fact.log).exists() for fact in ended)
    (world.folder / "deploys" / "targets-of-one-that-was-killed").mkdir()
    controller(world)  # at its start it clears what the one before had no time to
    assert not [path.name for path in (world.folder / "deploys").glob("*/tree-*")]
    assert [path.name for path in (world.folder / "deploys").iterdir()] == ["1"]


def test_nothing_is_deployed_twice_when_nothing_is_new(world: World, servers: Path, controller: Open) -> None:
    first = controller(world)
    first.run_until_over()
    first.run_until_over()
    controller(world).run_until_over()
    assert outcomes(world) == ["good"]


def test_a_failed_verify_puts_the_previous_commit_back(
    world: World, servers: Path, repository: Repository, controller: Open
) -> None:
    world = configured(world, verify='test "$GATE_WAVE" != 2 || ! grep -l bad "$SERVERS"/*/version')
    controller(world).run_until_over()
    worse = with_commit(world, repository, "bad")
    state = controller(worse).run_until_over()

    assert outcomes(world) == ["good", "rolled back"]
    assert versions(servers) == dict.fromkeys(TEN, "one")
    assert state.of("production").present == world.promoted
    assert worse.promoted in state.of("production").barred
    assert runs(servers)["web0"][1:] == [f"deploy {worse.promoted}", f"rollback {world.promoted}"]
    assert len(runs(servers)["web9"]) == 1, "the third wave was never begun"
    controller(worse).run_until_over()
    assert outcomes(world) == ["good", "rolled back"], "a commit that was rolled back is not tried again"

    controller(with_commit(worse, repository, "fixed")).run_until_over()
    assert versions(servers) == dict.fromkeys(TEN, "fixed")


SAY_WHAT_HAPPENS = 'echo "$1 from $2 to $3" >"$SERVERS/said"; cat app.txt >>"$SERVERS/said"'


def test_a_rollback_command_is_told_what_goes_and_what_comes(
    world: World, servers: Path, repository: Repository, controller: Open
) -> None:
    world = configured(world, waves=("100%",), targets=("web0",))
    controller(world).run_until_over()
    worse = configured(
        with_commit(world, repository, "bad"),
        verify="exit 1",
        rollback=("/bin/sh", "-c", SAY_WHAT_HAPPENS, "sh", "{target}", "{commit}", "{previous}"),
    )
    controller(worse).run_until_over()
    assert (servers / "said").read_text() == f"web0 from {worse.promoted} to {world.promoted}\none\n"


def test_a_person_can_ask_for_the_commit_before(
    world: World, servers: Path, repository: Repository, controller: Open
) -> None:
    controller(world).run_until_over()
    newer = with_commit(world, repository, "two")
    one = controller(newer)
    one.run_until_over()
    one.record(RollbackRequested(1.0, "production", "ann"))
    state = one.run_until_over()
    assert versions(servers) == dict.fromkeys(TEN, "one")
    assert outcomes(world) == ["good", "good", "good"]
    assert state.of("production").present == world.promoted
    started = [fact for fact in world.facts() if isinstance(fact, DeployStarted)]
    assert (started[-1].kind, started[-1].by) == ("rollback", "ann")


HOSTILE = ("-rf", 'it\'s "$(touch PWNED)" `touch PWNED` $HOME; *')


@pytest.mark.parametrize(
    "command",
    [
        "./deploy-one {target} {commit}",
        './deploy-one "{target}" {commit}',
        "./deploy-one '{target}' '{commit}'",
        ("./deploy-one", "{target}", "{commit}"),
    ],
    ids=["bare", "in double quotes", "in single quotes", "as a list"],
)
def test_hostile_target_names_are_only_names(
    world: World, servers: Path, controller: Open, command: str | tuple[str, ...]
) -> None:
    world = configured(world, command=command, targets=HOSTILE)
    controller(world).run_until_over()
    assert sorted(folder.name for folder in servers.iterdir()) == sorted(HOSTILE)
    assert runs(servers) == {target: [f"deploy {world.promoted}"] for target in HOSTILE}


def start_controller(world: World, file: Path) -> "subprocess.Popen[bytes]":
    file.write_bytes(pickle.dumps(world))
    tests = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "fakes.deploys", str(file)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tests.parent), str(tests)))},
    )


# A target waits for word through a FIFO: the test decides when a step ends.
HELD = 'echo "$GATE_TARGET" >>"$SERVERS/begun"; read -r word <"$SERVERS/go-$GATE_TARGET"; ./deploy-one {target} {commit}'


def test_a_controller_killed_within_a_wave_deploys_every_target_once(
    world: World, servers: Path, tmp_path: Path, controller: Open
) -> None:
    for name in ("begun", *(f"go-{target}" for target in TEN)):
        os.mkfifo(servers / name)
    world = configured(world, command=HELD, concurrency=3)
    killed = start_controller(world, tmp_path / "world")
    go = {target: os.open(servers / f"go-{target}", os.O_RDWR) for target in TEN}
    with os.fdopen(os.open(servers / "begun", os.O_RDWR)) as begun:
        assert begun.readline().strip() == "web0"
        os.write(go["web0"], b"go\n")
        assert {begun.readline().strip() for _ in range(3)} == {"web1", "web2", "web3"}
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        os.write(go["web2"], b"go\n")  # ends while there is no controller
        second = controller(world)
        for target in TEN[1:]:
            if target != "web2":
                os.write(go[target], b"go\n")
        second.run_until_over()
    for descriptor in go.values():
        os.close(descriptor)
    for name in ("begun", *(f"go-{target}" for target in TEN)):
        (servers / name).unlink()
    assert outcomes(world) == ["good"]
    assert runs(servers) == {target: [f"deploy {world.promoted}"] for target in TEN}


def test_a_controller_killed_at_random_moments_deploys_every_target_once(
    world: World, servers: Path, tmp_path: Path, controller: Open
) -> None:
    chance = random.Random(7)
    for _ in range(6):
        life = start_controller(world, tmp_path / "world")
        try:
            life.wait(timeout=chance.uniform(0.15, 0.6))
        except subprocess.TimeoutExpired:
            life.kill()
            life.wait()
    controller(world).run_until_over()
    assert outcomes(world) == ["good"]
    assert runs(servers) == {target: [f"deploy {world.promoted}"] for target in TEN}
    sent = Counter(fact.step for fact in world.facts() if isinstance(fact, StepSent))
    assert set(sent.values()) == {1}


# --- what keeps a deploy from going on ------------------------------------------------------------------------------------


def test_a_list_of_targets_that_is_wrong_fails_the_deploy_of_that_commit_only(
    world: World, servers: Path, repository: Repository, controller: Open
) -> None:
    world = configured(world, targets=(), targets_file="hosts")
    one = controller(world)
    one.run_until_over()
    assert [fact.reason for fact in world.facts() if isinstance(fact, DeployFinished)] == [
        f'environment "production": hosts is not a file of commit {world.promoted[:10]}'
    ]
    repository.write("hosts", "web1\nweb2\n")
    controller(with_commit(world, repository, "two")).run_until_over()
    assert versions(servers) == {"web1": "two", "web2": "two"}


def test_an_inventory_that_is_down_is_asked_again_and_nobody_is_blamed(
    world: World, servers: Path, controller: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_S", 0.05)
    command = 'test -e "$SERVERS/up" || { echo no route >&2; exit 1; }; echo up'
    world = configured(world, targets=(), targets_command=command)
    one = controller(world)
    one.run_until(lambda _: bool(one.deployer.troubles))
    assert "no route" in one.deployer.troubles[0]
    assert world.facts() == []
    (servers / "up").mkdir()
    one.run_until(lambda state: state.of("production").present is not None)
    assert one.deployer.troubles == ()
    assert list((world.folder / "deploys").glob("targets-*")) == []


def test_a_deploy_touches_nothing_when_the_way_back_cannot_be_prepared(
    world: World, servers: Path, repository: Repository, controller: Open
) -> None:
    controller(world).run_until_over()
    newer = with_commit(world, repository, "two")
    tree = repository.tree(world.promoted)
    (repository.git_dir / "objects" / tree[:2] / tree[2:]).unlink()
    one = controller(newer)
    one.run_until(lambda _: bool(one.deployer.troubles))
    assert versions(servers) == dict.fromkeys(TEN, "one")
    assert one.tick() is not None, "it comes back by itself"


def test_a_bare_repository_through_the_servers_git(
    world: World, servers: Path, repository: Repository, tmp_path: Path
) -> None:
    bare = repository.clone(tmp_path / "bare.git", bare=True)
    told = replace(world, git_dir=bare.git_dir)
    one = Controller(told, ServerGit(bare.git_dir))
    one.run_until_over()
    one.close()
    assert versions(servers) == dict.fromkeys(TEN, "one")


def test_facts_keep_their_shape_in_a_journal(world: World, servers: Path, controller: Open) -> None:
    controller(world).run_until_over()
    for fact in world.facts():
        assert msgspec.json.decode(msgspec.json.encode(fact), type=type(fact)) == fact
