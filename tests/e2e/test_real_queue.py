"""The benchmark of real changes: it measures what it says, and would see a red trunk and a false refusal."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import real_queue
from benchmarks.real_queue import Change, Kind, Shares, Side, Truth, monorepo
from fakes.repositories import git_env
from gate.model import ChangeId, ChangeRefused, ChangeSubmitted, Landed, LandingStarted, Sha, Submission
from gate.state import apply_event

PROGRAM = Path(real_queue.__file__)
MANY_OF_EACH = Shares(broken=0.2, clash=0.3, conflict=0.3)


def test_a_small_queue_is_measured_with_declared_inputs_and_without() -> None:
    words = [*("--changes", "20", "--round", "10", "--cpu-s", "0"), *("--broken", "0.2", "--conflict", "0.2", "--json")]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=git_env(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for side in (found["keys_on"], found["keys_off"]):
        assert side["landed"] + side["refused"] == 20
        assert (side["red_landings"], side["false_refusals"], side["is_whole"]) == (0, 0, True), side["wrongly_refused"]
        assert (side["refused_by_kind"]["broken"], side["refused_by_kind"]["conflict"]) == (4, 2)
        assert side["check_cpu_s_per_change"] > 0
        assert 0 < side["to_landing_p50_s"] <= side["to_landing_p95_s"]
    assert found["keys_off"]["runs"] > 2 * found["keys_on"]["runs"]
    assert found["on_over_off"]["runs_per_change"] < 0.5


@pytest.fixture(scope="module")
def drawn() -> list[Change]:
    return monorepo.draw_changes(3, 20, 20, MANY_OF_EACH)[0]


@pytest.fixture
def side(tmp_path: Path, drawn: list[Change]) -> Iterator[Side]:
    made = Side("side", tmp_path / "side", [drawn], monorepo.NO_EFFORT, 2, has_inputs=True)
    yield made
    made.close()


def test_changes_are_what_they_are_drawn_to_be(side: Side, drawn: list[Change]) -> None:
    truth, trunk = Truth(side), side.stand.trunk()
    of_kind = {kind: [send(side, change) for change in drawn if change.kind is kind] for kind in Kind}
    for kind in Kind:
        assert all(truth.takes(trunk, head) is (kind is not Kind.BROKEN) for head in of_kind[kind][:6]), kind
    merged = [merge(side, trunk, head) for head in (of_kind[Kind.CLASH][0], of_kind[Kind.CONFLICT][0])]
    assert side.stand.server.run("merge-tree", "--write-tree", merged[0], of_kind[Kind.CLASH][1]).returncode == 0
    assert not truth.takes(merged[0], of_kind[Kind.CLASH][1])
    assert side.stand.server.run("merge-tree", "--write-tree", merged[1], of_kind[Kind.CONFLICT][1]).returncode == 1


def test_a_red_landing_and_a_false_refusal_are_seen(side: Side, drawn: list[Change]) -> None:
    fine, broken = (next(change for change in drawn if change.kind is kind) for kind in (Kind.FINE, Kind.BROKEN))
    for number, change in enumerate((fine, broken, fine), 1):
        submit(side, number, send(side, change))
    refuse(side, 1, at=10.0)
    refuse(side, 2, at=10.0)
    assert Truth(side).false_refusals() == [1]
    assert Truth(side).red_landings() == []
    commit = land(side, 3, side.stand.trunk(), side.submission(ChangeId(2)).head)
    assert Truth(side).red_landings() == [commit]


def test_a_refusal_is_right_when_what_it_clashes_with_lands_a_moment_later(side: Side, drawn: list[Change]) -> None:
    first, second = [change for change in drawn if change.kind is Kind.CLASH][:2]
    for number, change in enumerate((first, second), 1):
        submit(side, number, send(side, change))
    refuse(side, 2, at=10.0)
    trunk = side.stand.trunk()
    assert Truth(side).takes(trunk, side.submission(ChangeId(2)).head)
    land(side, 1, trunk, side.submission(ChangeId(1)).head, at=11.0)
    assert Truth(side).false_refusals() == []


def send(side: Side, change: Change) -> str:
    """Put a change's commit where the server has it, without the gate."""
    side.stand.dev.git("fetch", "-q", "origin", "main")
    head = side.commit(change)
    side.stand.server.git("fetch", "-q", str(side.stand.dev.path), head)
    return head


def merge(side: Side, trunk: str, head: str) -> str:
    tree = side.stand.server.git("merge-tree", "--write-tree", trunk, head)
    return side.stand.server.git("commit-tree", tree, "-p", trunk, "-p", head, "-m", "merge")


def submit(side: Side, number: int, head: str) -> None:
    record = Sha(f"{number:040}")
    apply_event(side.state, ChangeSubmitted(1.0, Submission(record, ChangeId(number), 1, Sha(head), "ann", 1.0)))


def refuse(side: Side, number: int, at: float) -> None:
    apply_event(side.state, ChangeRefused(at, ChangeId(number), 1, ()))


def land(side: Side, number: int, trunk: str, head: str, at: float = 20.0) -> str:
    base, commit = Sha(trunk), Sha(merge(side, trunk, head))
    tree = Sha(side.stand.server.tree(commit))
    apply_event(side.state, LandingStarted(at, base, commit, tree, ((ChangeId(number), 1),), (commit,), ()))
    apply_event(side.state, Landed(at, base, commit))
    return commit
