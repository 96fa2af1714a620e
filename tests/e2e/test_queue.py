"""What becomes of changes, on real Git with real checks: each test is a short story from push to verdict."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from ci.model import Sha
from fakes.stand import PARTS, PLAIN, Stand, wait_for
from gate.gate import Gate
from gate.model import ChangeId, Forecast, Snapshot
from gate.serve import open_server

GOOD = "exit 0\n"
ALL_GOOD = {"a/check.sh": 'test "$(cat a/x)" -le 1\n', "a/x": "0", "b/check.sh": GOOD, "b/x": "0", "notes": "n\n"}


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, PARTS, ALL_GOOD)


def test_a_green_change_lands_as_a_merge_of_exactly_the_tested_tree(stand: Stand) -> None:
    before = stand.trunk()
    change = stand.submit("more of a", {"a/x": "1"})
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert stand.server.git("rev-parse", "main^1") == before
    assert stand.server.git("rev-parse", "main^2") == stand.dev.head()
    assert stand.server.head(f"refs/changes/{change}/landed") == stand.trunk()
    landing = stand.state().landings[-1][1]
    assert landing.tree == stand.server.tree("main")
    assert {proof.check for proof in landing.proofs} == {"a", "b"}


def test_a_red_change_is_refused_and_trunk_stays(stand: Stand) -> None:
    before = stand.trunk()
    change = stand.submit("bad", {"a/x": "7"})
    stand.settle()
    assert stand.verdict(change) == "refused"
    assert stand.trunk() == before
    assert [reason["why"] for reason in stand.why(change)["reasons"]] == ["check red"]


def test_of_two_changes_that_break_together_exactly_one_lands(tmp_path: Path) -> None:
    check = 'test "$(($(cat a/x) + $(cat a/y)))" -le 1\n'
    stand = Stand(tmp_path, PARTS, {**ALL_GOOD, "a/check.sh": check, "a/y": "0"})
    first = stand.submit("one more x", {"a/x": "1"})
    second = stand.submit("one more y", {"a/y": "1"})
    stand.settle()
    assert [stand.verdict(first), stand.verdict(second)] == ["landed", "refused"]
    assert (stand.show("a/x"), stand.show("a/y")) == ("1", "0")


def test_checks_whose_inputs_a_change_does_not_touch_are_not_run_for_it(stand: Stand) -> None:
    stand.submit("warm up", {"a/x": "1", "b/x": "1"})
    stand.settle()
    runs = stand.state().run_count
    change = stand.submit("more of b", {"b/x": "2"})
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert stand.state().run_count == runs + 1


def test_a_change_to_what_no_check_reads_lands_without_a_run(stand: Stand) -> None:
    stand.submit("warm up", {"a/x": "1", "b/x": "1"})
    stand.settle()
    runs = stand.state().run_count
    change = stand.submit("notes", {"notes": "more\n"})
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert stand.state().run_count == runs


def test_a_textual_conflict_with_what_landed_is_refused_with_file_and_rival(stand: Stand) -> None:
    stand.branch("mine", {"notes": "mine\n"})
    first = stand.push().change
    stand.dev.git("checkout", "-q", "--detach", "origin/main")
    stand.dev.commit("theirs", {"notes": "theirs\n"})
    second = stand.push().change
    stand.settle()
    assert [stand.verdict(first), stand.verdict(second)] == ["landed", "refused"]
    assert f"it conflicts with change {first} in notes" in stand.why(second)["reasons"][0]["text"]


def test_a_broken_trunk_refuses_nobody_and_the_mend_lands(stand: Stand) -> None:
    broken = stand.dev.commit("break it behind the gate's back", {"a/x": "9"})
    stand.dev.git("push", "-q", "origin", f"{broken}:refs/heads/elsewhere")
    stand.server.git("update-ref", "refs/heads/main", broken)
    good = stand.submit("innocent", {"a/other": "1"})
    stand.settle()
    assert stand.verdict(good) is None
    assert "main itself is red: a fails there" in stand.why(good)["reasons"][0]["text"]
    mend = stand.submit("mend", {"a/x": "1"})
    stand.settle()
    assert [stand.verdict(mend), stand.verdict(good)] == ["landed", "landed"]


def test_a_change_to_gate_toml_waits_for_a_maintainer_and_must_pass_both_gates(tmp_path: Path) -> None:
    trust = '[trust]\nmaintainers = ["mia"]\ntrusted = ["*"]\n'
    stand = Stand(tmp_path, trust + PARTS, ALL_GOOD)
    weaker = stand.submit("no more checks", {"gate.toml": trust + PLAIN, "a/x": "7"})
    stand.settle()
    assert stand.verdict(weaker) is None
    assert "needs an approval by mia" in stand.why(weaker)["reasons"][0]["text"]
    assert stand.gate("approve", str(weaker)).returncode == 2  # ann is no maintainer
    assert stand.gate("approve", str(weaker), by="mia").returncode == 0
    stand.settle()
    assert stand.verdict(weaker) == "refused"  # approved, and still red by the gate that it meets


def test_a_change_that_breaks_gate_toml_is_refused_with_the_line(stand: Stand) -> None:
    other = stand.submit("fine", {"a/x": "1"})
    change = stand.submit("typo", {"gate.toml": PARTS.replace("inputs", "imputs")}, by=stand.state().closed or "root")
    stand.settle()
    assert stand.verdict(other) == "landed"
    said = str(stand.why(change)["reasons"])
    assert "broken" in said
    assert "line 8" in said
    assert "inputs" in said


def test_a_new_revision_takes_the_place_of_the_old_one(stand: Stand) -> None:
    change = stand.submit("bad", {"a/x": "7"})
    stand.branch("good", {"a/x": "1"})
    pushed = stand.push(f"change={change}")
    assert pushed.code == 0, pushed.said
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert stand.show("a/x") == "1"


def test_a_refused_change_can_be_mended_by_a_new_revision(stand: Stand) -> None:
    change = stand.submit("bad", {"a/x": "7"})
    stand.settle()
    stand.branch("good", {"a/x": "1"})
    assert stand.push(f"change={change}").code == 0
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_commits_stacked_on_another_change_wait_for_it(stand: Stand) -> None:
    below = stand.submit("below", {"a/x": "7"})
    stand.dev.commit("above", {"b/x": "1"})
    above = stand.push().change
    stand.settle()
    assert [stand.verdict(below), stand.verdict(above)] == ["refused", "refused"]
    assert f"depends on change {below}" in stand.why(above)["reasons"][0]["text"]


def test_commits_stacked_on_what_was_pushed_anew_since_are_to_be_rebased(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PARTS, ALL_GOOD)
    below = stand.submit("below", {"a/x": "1"}, "draft")
    stand.dev.commit("above", {"b/x": "1"})
    above = stand.push().change
    server = open_server([stand.path])
    try:
        server.run(until_idle=True)
        assert stand.verdict(above) is None
        stand.submit("below, once more", {"a/x": "2"}, "draft", f"change={below}")
        server.run(until_idle=True)
    finally:
        server.close()
    assert stand.verdict(above) == "refused"
    assert "it contains revision 1, and revision 2 has been pushed since; rebase onto that" in str(
        stand.why(above)["reasons"]
    )


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_stack_lands_in_order_by_every_method(tmp_path: Path, method: str) -> None:
    stand = Stand(tmp_path, f'[merge]\nmethod = "{method}"\n' + PARTS, ALL_GOOD)
    below = stand.submit("below", {"a/x": "1"})
    stand.dev.commit("above", {"b/x": "1"})
    above = stand.push().change
    stand.settle()
    assert [stand.verdict(below), stand.verdict(above)] == ["landed", "landed"]
    assert (stand.show("a/x"), stand.show("b/x")) == ("1", "1")
    parents = stand.server.git("log", "--first-parent", "--format=%P", "-n2", "main").splitlines()
    assert all(len(line.split()) == (2 if method == "merge" else 1) for line in parents)


def test_a_draft_is_tested_and_does_not_land(stand: Stand) -> None:
    change = stand.submit("draft", {"a/x": "1"}, "draft")
    stand.settle()
    assert stand.verdict(change) is None
    assert stand.state().run_count > 0
    assert "it is a draft" in str(stand.why(change)["reasons"])


def test_a_closed_trunk_tests_and_lands_nothing_until_it_is_opened(stand: Stand) -> None:
    owner = stand.gate_json("status")["repository"]  # any look; the owner of the folder may close it
    assert owner
    import getpass

    assert stand.gate("close", "broken air conditioning", by=getpass.getuser()).returncode == 0
    change = stand.submit("good", {"a/x": "1"})
    stand.settle()
    assert stand.verdict(change) is None
    assert "broken air conditioning" in str(stand.why(change)["reasons"])
    assert stand.gate("open", by=getpass.getuser()).returncode == 0
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_somebody_elses_push_to_trunk_is_never_overwritten(stand: Stand) -> None:
    change = stand.submit("good", {"a/x": "1"})
    other = stand.branch("past the gate", {"b/x": "5"})
    stand.dev.git("push", "-q", "origin", f"{other}:refs/heads/elsewhere")
    stand.server.git("update-ref", "refs/heads/main", other)
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert (stand.show("a/x"), stand.show("b/x")) == ("1", "5")


def test_what_trunk_has_already_is_answered_with_nothing_to_do(stand: Stand) -> None:
    stand.branch("same", {"a/x": "1"})
    first = stand.push().change
    stand.dev.git("checkout", "-q", "--detach", "origin/main")
    stand.dev.commit("the same once more", {"a/x": "1"}, GIT_AUTHOR_DATE="2026-01-06T12:00:00+00:00")
    second = stand.push().change
    stand.settle()
    assert [stand.verdict(first), stand.verdict(second)] == ["landed", "refused"]
    assert "nothing to do" in stand.why(second)["reasons"][0]["text"]


def test_cancel_takes_a_change_out_and_retry_brings_a_refused_one_back(stand: Stand) -> None:
    change = stand.submit("bad", {"a/x": "7"})
    assert stand.gate("cancel", str(change), by="bob").returncode == 2  # not his
    assert stand.gate("cancel", str(change)).returncode == 0
    stand.settle()
    assert stand.verdict(change) == "withdrawn"
    other = stand.submit("bad too", {"a/x": "8"})
    stand.settle()
    runs = stand.state().run_count
    assert stand.gate("retry", str(other)).returncode == 0
    stand.settle()
    assert stand.verdict(other) == "refused"
    assert stand.state().run_count > runs


def test_a_check_that_cannot_be_started_is_not_held_against_the_change(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PLAIN + '[[check]]\nname = "gone"\ncommand = ["no-such-program"]\n', {"x": "0"})
    change = stand.submit("good", {"x": "1"})
    server_log = stand.gate("serve", "--until-idle", str(stand.path))
    assert server_log.returncode == 0, server_log.stderr
    assert stand.verdict(change) is None
    assert "cannot be run on this machine" in str(stand.why(change)["reasons"])


def test_waiting_push_streams_the_checks_and_fails_with_the_verdict(stand: Stand) -> None:
    with stand.daemon():
        stand.branch("good", {"a/x": "1"})
        good = stand.push("wait")
        stand.branch("bad", {"a/x": "7"})
        bad = stand.push("wait")
    assert good.code == 0
    assert "a green in" in good.said
    assert "landed on main" in good.said
    assert bad.code == 1
    assert "a RED in" in bad.said
    assert "refused" in bad.said


def test_sigterm_ends_the_daemon_cleanly_and_the_next_one_goes_on(tmp_path: Path) -> None:
    slow = PLAIN + '[[check]]\nname = "slow"\ncommand = "grep -q 0 x || test -e go || sleep 60"\ninputs = ["x", "go"]\n'
    stand = Stand(tmp_path, slow, {"x": "0"})
    daemon = stand.daemon()
    change = stand.submit("slow one", {"x": "1"})
    wait_for(lambda: any(run.changes for run in stand.state().runs.values()))
    assert daemon.stop() == 0
    assert not stand.state().runs
    stand.branch("quick", {"x": "1", "go": ""})
    assert stand.push(f"change={change}").code == 0
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_a_change_that_git_cannot_read_keeps_itself_waiting_and_nobody_else(stand: Stand) -> None:
    lost = stand.submit("lost", {"a/x": "1"})
    head = stand.dev.head()
    good = stand.submit("good", {"b/x": "1"})
    (stand.path / "objects" / head[:2] / head[2:]).unlink()
    stand.settle()
    assert (stand.verdict(lost), stand.verdict(good)) == (None, "landed")
    assert "git cannot read it" in stand.why(lost)["reasons"][0]["text"]


class Blocker:
    """Twelve parts, each with a check; four changes whose checks wait to be let go; behind them one that touches all
    parts and is thought to be bad; eight behind that, each of a part of its own, whose checks end last of all where the bad
    one is in. The bad one's own run waits as well."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, red_with_first: str) -> None:
        """red_with_first: what the check of part p1 does where the first of the four is in."""
        parts = [f"p{number}" for number in range(1, 13)]
        self._folder = folder
        self._words = (*parts, "bad", "late")
        rules = "".join(
            f'[[check]]\nname = "{part}"\ncommand = "sh {part}/check.sh"\ninputs = ["{part}/"]\n' for part in parts
        )
        check = f"test -e p1/bad || exit 0\n{self._until('bad')}exit 1\n"
        rules = PLAIN.replace("workers = 2", "workers = 40") + rules
        late = {f"{part}/check.sh": f"test -e {part}/x || exit 0\n{self._until('late')}" for part in parts[4:]}
        files = {f"{part}/check.sh": check if part == "p1" else GOOD for part in parts[:4]} | late
        self.stand = stand = Stand(folder, rules, files)
        stand.settle()
        self.trunk = stand.trunk()
        self.first, *self.others = [
            stand.submit(
                f"{part} waits", {f"{part}/check.sh": self._until(part) + red_with_first.format(self._until("late"))}
            )
            for part in parts[:4]
        ]
        self.bad = stand.submit("All parts", {**{f"{part}/x": "1" for part in parts}, "p1/bad": "1"})
        self.behind = [stand.submit(f"More of {part}", {f"{part}/y": "1"}) for part in parts[4:]]
        snapshot = Gate._snapshot

        def doubt(gate: Gate, trunk: Sha) -> Snapshot:
            made = snapshot(gate, trunk)
            odds = {**made.outlook.forecasts, ChangeId(self.bad): Forecast(0.2)}
            return replace(made, outlook=replace(made.outlook, forecasts=odds))

        monkeypatch.setattr(Gate, "_snapshot", doubt)

    def _until(self, word: str) -> str:
        return f"while [ ! -e {self._folder}/go-{word} ]; do sleep 0.05; done\n"

    def let_go(self, *words: str) -> None:
        for word in words or self._words:
            (self._folder / f"go-{word}").touch()

    def runs_alone(self) -> bool:
        return any(run.changes == (self.bad,) for run in self.stand.state().runs.values())

    def serve(self, people: Callable[[], None]) -> None:
        """Until there is nothing to do. people: what happens meanwhile."""

        def meanwhile() -> None:
            try:
                people()
            finally:
                self.let_go()

        story = Thread(target=meanwhile)
        story.start()
        server = open_server([self.stand.path])
        server.run(until_idle=True)
        server.close()
        story.join()


def test_who_many_wait_for_is_refused_by_its_own_run_of_a_trunk_that_has_moved_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first of the four its check does not end before all is over: only the run without that can tell."""
    queue = Blocker(tmp_path, monkeypatch, red_with_first="test -e p1/bad || exit 0\n{}exit 1\n")
    stand, seen = queue.stand, []

    def people() -> None:
        wait_for(queue.runs_alone)
        queue.let_go("p1")
        wait_for(lambda: stand.verdict(queue.first) == "landed")
        queue.let_go("bad")
        wait_for(lambda: stand.verdict(queue.bad) == "refused")
        wait_for(lambda: all(stand.verdict(change) == "landed" for change in queue.behind))
        seen.append([stand.verdict(change) for change in queue.others])

    queue.serve(people)
    assert seen == [[None] * 3]  # nobody had to wait for those ahead
    assert [stand.verdict(change) for change in queue.others] == ["landed"] * 3
    (reason,) = stand.why(queue.bad)["reasons"]
    assert reason["text"] == f"the check p1 is red: exit code 1, by itself on main as of {queue.trunk[:10]}"


def test_a_trunk_that_was_mended_by_hand_has_its_own_say_on_who_many_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Blocker(tmp_path, monkeypatch, red_with_first="{}exit 0\n")
    stand = queue.stand

    def people() -> None:
        wait_for(queue.runs_alone)
        mended = stand.branch("past the gate", {"p1/check.sh": "exit 0\n"})
        stand.dev.git("push", "-q", "origin", f"{mended}:refs/heads/elsewhere")
        stand.server.git("update-ref", "refs/heads/main", mended)
        wait_for(lambda: stand.state().trunk == mended)
        queue.let_go("bad")  # red, on the trunk that was
        runs = stand.state().run_count
        wait_for(lambda: stand.state().run_count > runs)

    queue.serve(people)
    assert stand.verdict(queue.bad) == "landed"
