"""The plans of real journals, made once more; and the same changes with other settings."""

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gate.gate
import gate.simulate.replay
from ci.errors import Unavailable, UserError
from ci.model import CheckName
from fakes.stand import PLAIN, Stand, wait_for
from gate import commands
from gate.journal import Journal
from gate.land import land
from gate.looks import Step
from gate.model import (
    ChangeId,
    ChangeSubmitted,
    Hold,
    LandingFailed,
    LandingStarted,
    Plan,
    RunStarted,
    Snapshot,
    Start,
    TrunkOpened,
    Verdict,
)
from gate.plan import Planner, plan
from gate.serve import open_server
from gate.simulate.draws import BEGIN
from gate.simulate.recorded import Past, Recorded, as_it_was, play_recorded, read_recorded
from gate.simulate.replay import Replay, opened, replay

CONFIG = (
    PLAIN
    + """
[[check]]
name = "a"
command = "sh a/check.sh"
inputs = ["a/"]

[[check]]
name = "b"
command = "sh b/check.sh"
inputs = ["b/"]

[[check]]
name = "all"
command = "true"
stage = "post-commit"
"""
)
GOOD = {"a/check.sh": "! grep -q bad a/x\n", "a/x": "0\n1\n2\n", "b/check.sh": "test ! -e b/bad\n", "b/x": "0", "note": "0"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A queue to which everything happened that usually does. For reading only."""
    stand = Stand(tmp_path_factory.mktemp("busy"), CONFIG, GOOD)
    stand.settle()
    stand.submit("lands", {"a/x": "0\n1\nmore\n"})
    stand.settle()
    red = stand.submit("is red", {"a/x": "bad\n1\nmore\n"}, by="bob")
    stand.submit("another check", {"b/x": "1"})
    stand.settle()
    # Several at once, that have to do with each other.
    for number in range(4):
        stand.submit(f"batch {number}", {f"b/file{number}": "1"})
    stand.submit("breaks b", {"b/bad": ""}, by="bob")
    stand.submit("no check reads it", {"note": "1"})
    stand.settle()
    # Two that do not go together.
    stand.submit("one way", {"a/x": "0\none\nmore\n"})
    stand.submit("other way", {"a/x": "0\nother\nmore\n"})
    stand.settle()
    # People step in.
    assert stand.gate("close", "release", by="root").returncode == 0
    waits = stand.submit("waits", {"a/y": "1"})
    gone = stand.submit("is taken back", {"b/z": "1"})
    stand.settle()
    assert stand.gate("cancel", str(gone)).returncode == 0
    assert stand.gate("open", by="root").returncode == 0
    stand.settle()
    assert stand.verdict(waits) == "landed"
    assert stand.gate("retry", str(red)).returncode == 0
    stand.settle()
    # A new revision mends what is red; a draft waits; trunk moves by another hand.
    stand.branch("is red, mended", {"a/z": "1"})
    assert stand.push(f"change={red}", by="bob").code == 0
    stand.submit("draft", {"b/w": "1"}, "draft")
    stand.settle()
    stand.branch("by hand", {"b/byhand": "1"})
    stand.server.git("fetch", "-q", str(stand.dev.path), "HEAD:refs/heads/main")
    stand.submit("on top", {"b/x": "2"})
    # Another policy, which needs an approval; then the workers are renewed.
    policy = stand.submit("three workers", {"gate.toml": CONFIG.replace("workers = 2", "workers = 3")})
    stand.settle()
    assert stand.gate("approve", str(policy), by="root").returncode == 0
    stand.submit("beside it", {"a/v": "1"})
    stand.settle()
    hasty = stand.submit("hasty", {"a/w": "1"})
    stand.branch("thought over", {"a/w": "2"})
    assert stand.push(f"change={hasty}").code == 0
    stand.settle()
    (stand.path / "gate" / "wake").unlink()  # a pipe, which nobody can copy
    return stand


def verdicts(stand: Stand) -> list[str | None]:
    state = stand.state()
    return [found.value if (found := state.verdicts.get(change)) else None for change in state.revisions]


def submitted(stand: Stand) -> set[int]:
    """The changes that the daemon knows of."""
    journal = Journal(stand.path / "gate" / "journal.sqlite")
    found = {event.submission.change for _, event in journal.read() if isinstance(event, ChangeSubmitted)}
    journal.close()
    return {int(change) for change in found}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


# --- the same plans once more -----------------------------------------------------------------------------------------


def test_a_busy_queue_is_decided_again_as_it_was(busy: Stand) -> None:
    found = verdicts(busy)
    assert {"landed", "refused", "withdrawn", None} == set(found), found
    with commands.office(busy.path) as at:
        kinds = [type(event).__name__ for _, event in at.journal.read()]
        starts = [event for _, event in at.journal.read() if isinstance(event, RunStarted)]
    decided = sum(event.stage != "post-commit" for event in starts) + kinds.count("ChangeRefused")
    assert len(starts) > decided - kinds.count("ChangeRefused"), "trunk's pipeline is to run beside it"
    made = replay(busy.path)
    assert made.difference is None, made.difference
    assert (made.decisions, made.unchecked) == (decided + kinds.count("LandingStarted"), 0)
    assert made.decisions > 20


def test_nothing_is_written_to_the_repository(busy: Stand) -> None:
    before = contents(busy.path)
    assert replay(busy.path).difference is None
    read_recorded(busy.path)
    assert contents(busy.path) == before


def test_another_constant_of_the_planner_shows_in_the_first_plan_that_it_alters(
    busy: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gate.plan.BUILDS_AT_ONCE", 0)
    made = replay(busy.path)
    assert made.difference is not None
    assert made.difference.recorded is not None
    assert "started for change 1" in made.difference.recorded
    assert made.difference.planned is None
    assert made.decisions == 0


def test_a_plan_that_starts_something_else_is_told_with_both(busy: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def twisted(snapshot: Snapshot, now: float) -> Plan:
        """The shipped plan, but the second change is held for ever."""
        made = plan(replace(snapshot, changes=tuple(each for each in snapshot.changes if each.id != 2)), now)
        return replace(made, decisions=tuple(each for each in made.decisions if not isinstance(each, Hold)))

    monkeypatch.setattr(gate.simulate.replay, "plan", twisted)
    found = replay(busy.path).difference
    assert found is not None
    assert found.recorded is not None
    assert "change 2" in found.recorded
    assert found.planned is None or "change 3" in found.planned


def test_what_a_run_was_limited_to_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Planner.plan

    def limited(planner: Planner, snapshot: Snapshot, now: float) -> Plan:
        made = shipped(planner, snapshot, now)
        return replace(
            made,
            decisions=tuple(replace(each, tests=("t",)) if isinstance(each, Start) else each for each in made.decisions),
        )

    config = PLAIN + '[[check]]\nname = "a"\ncommand = "true"\nretest = "true {tests}"\n'
    stand = Stand(tmp_path, config, GOOD)
    stand.submit("change", {"a/x": "1"}, "draft")
    with monkeypatch.context() as altered:
        altered.setattr(Planner, "plan", limited)
        stand.settle()
    found = replay(stand.path).difference
    assert found is not None
    assert found.recorded is not None
    assert "only t:" in found.recorded
    assert found.planned == found.recorded.replace(", only t:", ":")


def test_a_daemon_that_was_killed_in_the_middle_of_it_all_is_followed(tmp_path: Path) -> None:
    slow = {**GOOD, "a/check.sh": "sleep 0.3\n"}
    stand = Stand(tmp_path, CONFIG, slow)
    with stand.daemon() as daemon:
        stand.submit("one", {"a/x": "1"})
        stand.submit("two", {"b/x": "1"})
        stand.submit("three", {"a/y": "1"})
        daemon.process.kill()
        daemon.process.wait()
    stand.submit("four", {"b/y": "1"})
    stand.settle()
    assert verdicts(stand) == ["landed"] * 4
    assert replay(stand.path).difference is None


def test_a_landing_that_failed_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ways: without a word, told in the journal, and with trouble that breaks the plan off."""
    stand = Stand(tmp_path, CONFIG, GOOD)
    troubles = ["silent", "told", "breaks off"]

    def unlucky(repository: Any, journal: Any, candidate: Any, merged: Any, commits: Any, state: Any, now: float) -> Any:
        trouble = troubles.pop(0) if troubles else ""
        if trouble == "told":
            journal.append(
                LandingStarted(now, candidate.base, merged.commit, merged.tree, candidate.entries, commits, ()),
                LandingFailed(now, candidate.base, merged.commit, trouble),
            )
        if trouble == "breaks off":
            raise Unavailable(trouble)
        return trouble or land(repository, journal, candidate, merged, commits, state, now)

    monkeypatch.setattr(gate.gate, "land", unlucky)
    stand.submit("one", {"a/x": "1"})
    stand.submit("two", {"b/x": "1"})
    server = open_server([stand.path])
    with pytest.raises(Unavailable, match="breaks off"):
        server.run(until_idle=True)
    server.run(until_idle=True)
    server.close()
    assert (troubles, verdicts(stand)) == ([], ["landed", "landed"])
    with commands.office(stand.path) as at:
        steps = [look.step for look in at.journal.looks()]
    assert (steps.count(Step.DOUBTED), steps.count(Step.BROKEN_OFF)) == (2, 1)
    assert replay(stand.path).difference is None


def test_a_change_that_is_red_at_once_after_a_start_is_refused_again(tmp_path: Path) -> None:
    """The daemon had made the keys of trunk before it knew of any change: the control needs no plan of its own."""
    stand = Stand(tmp_path, CONFIG, GOOD)
    stand.settle()
    stand.submit("red", {"a/x": "bad"})
    stand.settle()
    assert verdicts(stand) == ["refused"]
    assert replay(stand.path).difference is None


def test_workers_that_finish_under_an_earlier_policy_start_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    config = CONFIG.replace("sh a/check.sh", f"while test ! -e {go}; do sleep 0.02; done").replace(
        "workers = 2", "workers = 4"
    )
    stand = Stand(tmp_path / "at", config, GOOD)
    stand.settle()
    go.unlink()
    with stand.daemon():
        stand.submit("runs until it may end", {"a/x": "1"})
        wait_for(lambda: stand.state().runs)
        policy = stand.submit("other workers", {"gate.toml": config.replace("workers = 4", "workers = 3")}, by="root")
        wait_for(lambda: stand.verdict(policy) == "landed")
        later = stand.submit("may not start yet", {"b/x": "1"})
        wait_for(lambda: later in submitted(stand))
        go.touch()
        wait_for(lambda: stand.verdict(later) == "landed")
    with commands.office(stand.path) as at:
        assert not all(look.may_start for look in at.journal.looks())
    assert replay(stand.path).difference is None


def test_a_gate_with_nothing_to_do_writes_nothing_down(tmp_path: Path) -> None:
    stand = Stand(tmp_path, CONFIG, GOOD)
    stand.submit("draft", {"a/x": "1"}, "draft")
    server = open_server([stand.path])
    server.run(until_idle=True)
    served = server.served[0].gate
    before = len(served.journal.looks())
    for _ in range(20):
        served.turn()
    served.journal.append(TrunkOpened(1.0, "root"))
    after = len(served.journal.looks())
    server.close()
    assert 0 < after - before <= 1, "the last plan of the run"


def test_a_gate_that_goes_on_serving_is_replayed_beside_it(tmp_path: Path) -> None:
    stand = Stand(tmp_path, CONFIG, GOOD)
    with stand.daemon():
        for number in range(3):
            stand.branch(f"c{number}", {f"a/f{number}": "1"})
            assert stand.push("wait").code == 0
            assert replay(stand.path).difference is None


def test_an_empty_queue_and_a_journal_without_looks_are_told_as_such(tmp_path: Path) -> None:
    stand = Stand(tmp_path, CONFIG, GOOD)
    assert replay(stand.path) == Replay(0, 0, 0, 0)
    stand.submit("change", {"a/x": "1"})
    stand.settle()
    with commands.office(stand.path) as at:
        at.journal.write(lambda execute: execute("DELETE FROM looks"))
    made = replay(stand.path)
    assert (made.plans, made.decisions, made.unchecked, made.difference) == (0, 0, 2, None)


def test_plans_whose_looks_are_missing_do_not_come_out_as_recorded(busy: Stand, tmp_path: Path) -> None:
    """What is recorded beside the events is needed: without the looks of plans that only merged, others are made."""
    copy = busy.server.copy(tmp_path / "copy.git")
    with commands.office(copy.path) as at:
        at.journal.write(lambda execute: execute("UPDATE looks SET workers = 1"))
    found = replay(copy.path).difference
    assert found is not None


def test_who_owns_the_repository_does_not_depend_on_who_asks(busy: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = iter(["its owner", "who asks"])
    monkeypatch.setattr("gate.repository.account", lambda uid: next(owners))
    with opened(busy.path) as record:
        assert record.repository.owner == "its owner"


# --- with other settings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(busy: Stand) -> Recorded:
    return read_recorded(busy.path)


def test_what_became_of_each_revision_is_known(recorded: Recorded) -> None:
    fates = Counter((past.verdict, *(check for check, _ in past.red)) for past in recorded.pasts)
    assert fates == {(Verdict.LANDED,): 14, (Verdict.REFUSED, "a"): 1, (Verdict.REFUSED, "b"): 1, (None,): 1}
    assert recorded.left_out == 3  # one of the two that conflict, the one taken back while trunk was closed, and the draft
    assert recorded.pasts[0].at == BEGIN
    [hasty] = [past for past in recorded.pasts if past.verdict is None]
    assert hasty.left_at is not None
    assert hasty.left_at >= hasty.at


def test_content_that_was_tested_is_known_by_its_changes(recorded: Recorded) -> None:
    first, red = recorded.pasts[0], next(past for past in recorded.pasts if past.red and past.red[0][0] == "a")
    found = {(tested.check, tested.members): tested.is_green for tested in recorded.tested}
    check = CheckName("a")
    assert found[check, frozenset({first.change.id})] is True
    assert found[check, frozenset({first.change.id, red.change.id})] is False
    [habits] = [each for each in recorded.habits if each.check.name == check]
    assert habits.mu < 0  # of seconds: a grep takes less than one
    assert 0 < habits.fails < 0.5


def test_the_same_settings_lead_to_the_same_verdicts(recorded: Recorded) -> None:
    it_was = as_it_was(recorded)
    assert (it_was.landed, it_was.refused) == (14, 2)
    # The gate was not there when one was replaced at once; a simulated one is, and may land it before.
    patient = replace(recorded, pasts=tuple(past for past in recorded.pasts if past.left_at is None))
    for seed in range(1, 6):
        played = play_recorded(patient, recorded.workload, seed, "trunkgate")
        assert (played.landed, played.refused, played.undecided) == (it_was.landed, it_was.refused, 0)
        assert (played.false_refusals, played.red_landings) == (0, 0)


def test_what_was_red_on_a_broken_trunk_is_not_held_against_those_who_were_tested_on_it(tmp_path: Path) -> None:
    rules = PLAIN + '[[check]]\nname = "unit"\ncommand = "! grep -rqn BAD src"\ninputs = ["src/"]\n'
    stand = Stand(tmp_path, rules, {"src/a": "0", "src/b": "0", "src/c": "0"})
    stand.settle()
    broken = stand.branch("by hand", {"src/a": "BAD"})
    stand.dev.git("push", "-q", "origin", f"{broken}:refs/heads/elsewhere")
    stand.server.git("update-ref", "refs/heads/main", broken)
    changes = [stand.submit(f"More of {name}", {f"src/{name}": "1"}) for name in "bc"]
    stand.settle()
    assert [stand.verdict(change) for change in changes] == [None, None]
    changes.append(stand.submit("mend", {"src/a": "1"}, "fixes-trunk"))
    stand.settle()
    assert [stand.verdict(change) for change in changes] == ["landed"] * 3
    recorded = read_recorded(stand.path)
    played = play_recorded(recorded, recorded.workload, 1, "trunkgate")
    assert (played.landed, played.refused, played.false_refusals) == (3, 0, 0)


def test_what_was_tested_keeps_its_result_whatever_became_of_the_change(recorded: Recorded) -> None:
    """That a check was red for a content outweighs that its change has landed: as other content."""
    [red] = [tested for tested in recorded.tested if not tested.is_green and tested.check == "a"]
    past = {past.change.id: past for past in recorded.pasts}
    innocent = tuple(replace(each, red=(), verdict=Verdict.LANDED) for each in recorded.pasts)
    played = play_recorded(replace(recorded, pasts=innocent), recorded.workload, 1, "trunkgate")
    unknown = play_recorded(replace(recorded, pasts=innocent, tested=()), recorded.workload, 1, "trunkgate")
    assert max(past[id_].at for id_ in red.members) > BEGIN
    assert (played.false_refusals, unknown.false_refusals) == (2, 0)


def test_a_run_takes_as_long_as_it_did_or_as_those_of_its_check(recorded: Recorded) -> None:
    hour = replace(recorded, tested=tuple(replace(each, duration_s=3600.0) for each in recorded.tested))
    assert (play_recorded(hour, hour.workload, 1, "trunkgate").p50_s or 0) >= 3600
    unknown = replace(slower(recorded), tested=())
    found = [play_recorded(unknown, unknown.workload, seed, "single").worker_minutes_per_change for seed in range(1, 21)]
    assert 1 / 60 < sum(found) / len(found) < 3 / 60
    assert len(set(found)) > 10, "drawn anew for each seed"


def test_fewer_workers_make_a_queue_slower(recorded: Recorded) -> None:
    slow = replace(slower(recorded), tested=())

    def waits(workers: int) -> float:
        found = [play_recorded(slow, slow.workload.altered(workers=workers), seed, "single") for seed in range(1, 6)]
        return sum(record.p95_s or 0.0 for record in found)

    assert waits(1) > 1.1 * waits(8)


def slower(recorded: Recorded) -> Recorded:
    """Every new run takes two seconds in the median."""
    return replace(recorded, habits=tuple(replace(each, mu=math.log(2), sigma=0.3) for each in recorded.habits))


def test_a_change_leaves_when_its_owner_took_it_back(recorded: Recorded) -> None:
    slow = replace(slower(recorded), tested=())
    [hasty] = [past for past in recorded.pasts if past.left_at is not None]
    stays = replace(slow, pasts=tuple(replace(past, left_at=None) for past in slow.pasts))
    left, stayed = (play_recorded(each, each.workload, 1, "trunkgate") for each in (slow, stays))
    assert (left.landed + left.refused, left.undecided) == (16, 0)
    assert stayed.landed + stayed.refused == 17
    assert hasty.change.id == max(past.change.id for past in recorded.pasts) - 1


def test_an_unknown_fate_is_drawn_and_an_accident_is_too(recorded: Recorded) -> None:
    """Twenty changes that nobody decided, of a check that half of the changes break; then a check that flakes."""
    known = next(past for past in recorded.pasts if past.change.touches == {"b"})
    many = tuple(
        Past(replace(known.change, id=ChangeId(number), depends=(), paths=frozenset({f"p{number}"})), BEGIN + 60 * number)
        for number in range(1, 21)
    )
    often = replace(recorded, pasts=many, tested=(), habits=tuple(replace(each, fails=0.5) for each in recorded.habits))
    refused = [play_recorded(often, often.workload, seed, "trunkgate").refused for seed in range(1, 11)]
    assert 60 < sum(refused) < 140
    flaky = replace(often, habits=tuple(replace(each, fails=0.0, flakes=0.3) for each in recorded.habits))
    steady = replace(often, habits=tuple(replace(each, fails=0.0) for each in recorded.habits))
    wronged = [play_recorded(each, each.workload, 1, "trunkgate").false_refusals for each in (flaky, steady)]
    assert wronged[0] > 0, "a check that was never seen to flake, and cannot run single tests, is believed"
    assert wronged[1] == 0


# --- as a command -------------------------------------------------------------------------------------------------------


def test_the_command_tells_whether_all_is_as_recorded(busy: Stand) -> None:
    done = busy.gate("simulate", "--from", str(busy.path))
    assert (done.returncode, "all as recorded" in done.stdout) == (0, True), done.stderr
    with_settings = busy.gate(
        "simulate", "--from", str(busy.path), "--what-if", "workers=8", "--seeds", "1:2", "--jobs", "1"
    )
    assert with_settings.returncode == 0, with_settings.stderr
    lines = with_settings.stdout.splitlines()
    assert [line.split()[0] for line in lines if "trunkgate" in line or line.startswith("recorded")]
    assert sum("trunkgate" in line for line in lines) == 2
    assert "3 revisions are left out" in with_settings.stdout


def test_the_command_gives_json_and_names_a_setting_without_a_meaning(busy: Stand) -> None:
    words = ("simulate", "--from", str(busy.path), "--policies", "single", "--seeds", "3", "--jobs", "1")
    data = busy.gate_json(*words)
    assert data["replay"]["difference"] is None
    assert [(each["policy"], each["seed"]) for each in data["records"]] == [("recorded", 3), ("single", 3)]
    assert data["records"][0]["landed"] == 14
    assert [each["refused"] for each in data["records"]] == [2, 2]
    wrong = busy.gate(*words, "--what-if", "rate=5")
    assert (wrong.returncode, "rate has no meaning for a record" in wrong.stderr) == (2, True)


def test_a_difference_is_an_exit_code(busy: Stand, tmp_path: Path) -> None:
    copy = busy.server.copy(tmp_path / "copy.git")
    with commands.office(copy.path) as at:
        at.journal.write(lambda execute: execute("UPDATE looks SET may_start = 0"))
    done = busy.gate("simulate", "--from", str(copy.path), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["replay"]["difference"]
    assert "started for change 1" in found["recorded"]
    assert found["planned"] is None
    assert busy.gate("simulate", "--from", str(tmp_path)).returncode == 2


def test_a_journal_that_is_gone_or_lacks_its_beginning_is_not_all_as_recorded(busy: Stand, tmp_path: Path) -> None:
    copy = busy.server.copy(tmp_path / "copy.git")
    with commands.office(copy.path) as at:
        at.journal.write(lambda execute: execute("DELETE FROM events WHERE seq = 1"))
    with pytest.raises(Unavailable, match="begins with event 2: those before are lost"):
        replay(copy.path)
    for file in (copy.path / "gate").glob("journal.sqlite*"):
        file.unlink()
    with pytest.raises(UserError, match="has changes and no journal"):
        replay(copy.path)
