"""What goes wrong around a landing: trunk rewound or deleted, a disk that fails, people who change their minds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci.errors import Unavailable
from fakes.stand import PARTS, PLAIN, Stand, wait_for
from gate import commands
from gate.feed import read_lines
from gate.journal import Journal
from gate.model import LandingFailed, LandingStarted, RunFinished
from gate.serve import open_server

GOOD = "exit 0\n"
FILES = {"a/check.sh": GOOD, "a/x": "0", "b/check.sh": GOOD, "b/x": "0", "notes": "n\n"}
RULES = '[trust]\nmaintainers = ["mia"]\ntrusted = ["*"]\n'
NO_CHECKS = PLAIN + '[[check]]\nname = "a"\ncommand = "true"\ninputs = ["none/"]\n'


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, PARTS, FILES)


def test_a_deleted_trunk_is_waited_for_and_not_asked_about_for_ever(stand: Stand) -> None:
    change = stand.submit("good", {"a/x": "1"})
    was = stand.trunk()
    server = open_server([stand.path])
    try:
        one = server.served[0].gate
        one.turn()
        stand.server.git("update-ref", "-d", "refs/heads/main")
        server.run(until_idle=True)
        assert sum(one.turn() for _ in range(50)) == 0
        stand.server.git("update-ref", "refs/heads/main", was)
        server.run(until_idle=True)
    finally:
        server.close()
    assert stand.verdict(change) == "landed"


def test_a_trunk_that_cannot_be_moved_is_told_and_not_tried_without_end(stand: Stand) -> None:
    change = stand.submit("good", {"a/x": "1"})
    hook = stand.path / "hooks" / "reference-transaction"
    hook.write_text('#!/bin/sh\n[ "$1" != prepared ] || ! grep -q refs/heads/main\n')
    hook.chmod(0o755)
    with pytest.raises(Unavailable, match="refs/heads/main could not be moved"):
        stand.settle()
    hook.unlink()
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_the_end_of_a_run_is_kept_while_the_journal_cannot_be_written(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    change = stand.submit("good", {"a/x": "1"})
    append = Journal.append
    failed: list[str] = []

    def fail_once(self: Journal, *events: Any, results: Any = ()) -> None:
        if not failed and any(isinstance(event, RunFinished) for event in events):
            failed.append("now")
            raise Unavailable("the disk is full")
        append(self, *events, results=results)

    monkeypatch.setattr(Journal, "append", fail_once)
    server = open_server([stand.path])
    try:
        with pytest.raises(Unavailable, match="the disk is full"):
            server.run(until_idle=True)
        server.run(until_idle=True)
    finally:
        server.close()
    assert failed
    assert stand.verdict(change) == "landed"


def test_a_run_that_is_written_down_is_started_whatever_fails_next(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    change = stand.submit("good", {"a/x": "1"})
    read, append = Journal.read, Journal.append
    broken: list[str] = []

    def note(self: Journal, *events: Any, results: Any = ()) -> None:
        append(self, *events, results=results)
        if not broken and any(type(event).__name__ == "RunStarted" for event in events):
            broken.append("the next read fails")

    def fail(self: Journal, after: int = 0) -> Any:
        if len(broken) == 1:
            broken.append("done")
            raise Unavailable("the disk is gone")
        return read(self, after)

    monkeypatch.setattr(Journal, "append", note)
    monkeypatch.setattr(Journal, "read", fail)
    server = open_server([stand.path])
    try:
        with pytest.raises(Unavailable, match="the disk is gone"):
            server.run(until_idle=True)
        server.run(until_idle=True)
    finally:
        server.close()
    assert stand.verdict(change) == "landed"


def test_half_a_line_in_a_feed_harms_nobody(stand: Stand) -> None:
    change = stand.submit("good", {"a/x": "1"})
    stand.settle()
    feed = stand.path / "gate" / "feed" / f"{change}.jsonl"
    whole = feed.read_bytes().splitlines(keepends=True)
    feed.write_bytes(b"".join(whole[:-1]) + whole[-1][:20])
    stand.settle()
    assert read_lines(feed)[0][-1]["verdict"] == "landed"


def test_what_a_rewound_trunk_lost_does_not_come_back_without_its_approval(tmp_path: Path) -> None:
    stand = Stand(tmp_path, RULES + PARTS, FILES)
    before = stand.trunk()
    weaker = stand.branch("weaker", {"gate.toml": RULES + NO_CHECKS})
    stand.dev.git("push", "-q", "origin", f"{weaker}:refs/heads/elsewhere")
    stand.server.git("update-ref", "refs/heads/main", weaker)
    change = stand.submit("on top of it", {"a/x": "1"}, "draft")
    server = open_server([stand.path])
    try:
        server.run(until_idle=True)
        stand.server.git("update-ref", "refs/heads/main", before)
        server.run(until_idle=True)
        server.served[0].gate.publish()
        said = str(stand.why(change)["reasons"])
    finally:
        server.close()
    assert "needs an approval by mia" in said


def test_a_rename_on_trunk_does_not_carry_a_change_into_guarded_paths(tmp_path: Path) -> None:
    rule = '[[trust.path]]\npaths = ["guarded/"]\napprovers = ["mia"]\n'
    stand = Stand(tmp_path, RULES + rule + PARTS, {**FILES, "free": "line\n" * 40})
    change = stand.submit("harmless", {"free": "line\n" * 40 + "more\n"})
    renamed = stand.branch("rename", {"free": None, "guarded/x": "line\n" * 40})
    stand.dev.git("push", "-q", "origin", f"{renamed}:refs/heads/elsewhere")
    stand.server.git("update-ref", "refs/heads/main", renamed)
    stand.settle()
    assert stand.show("guarded/x") == "line\n" * 40
    assert stand.verdict(change) == "refused", stand.why(change)["reasons"]
    assert "guarded/x" in stand.why(change)["reasons"][0]["text"]


def test_a_stack_under_squash_outlives_a_restart(tmp_path: Path) -> None:
    stand = Stand(tmp_path, '[merge]\nmethod = "squash"\n' + PARTS, FILES)
    stand.submit("below", {"notes": "one\n"})
    below = stand.dev.head()
    stand.dev.commit("above", {"b/x": "1"})
    above = stand.push("draft").change
    stand.settle()
    stand.submit("other", {"notes": "two\n"})
    stand.settle()
    stand.dev.git("checkout", "-q", "--detach", below)
    stand.dev.commit("above", {"b/x": "2"})
    assert stand.push(f"change={above}").code == 0
    stand.settle()
    assert stand.verdict(above) == "landed", stand.why(above)["reasons"]
    assert (stand.show("notes"), stand.show("b/x")) == ("two\n", "2")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_mend_on_top_of_a_refused_change_lands_with_its_commits(tmp_path: Path, method: str) -> None:
    config = f'[merge]\nmethod = "{method}"\n' + PARTS
    stand = Stand(tmp_path, config, {**FILES, "a/check.sh": 'test "$(cat a/x)" -le 1\n'})
    bad = stand.submit("bad", {"a/x": "7", "a/more": "m"})
    server = open_server([stand.path])
    try:
        server.run(until_idle=True)
        assert stand.verdict(bad) == "refused"
        stand.dev.commit("mend it", {"a/x": "1"})
        mend = stand.push().change
        server.run(until_idle=True)
    finally:
        server.close()
    assert mend != bad
    assert stand.verdict(mend) == "landed"
    assert (stand.show("a/x"), stand.show("a/more")) == ("1", "m")


def test_a_change_that_alters_the_merge_method_alters_it_for_those_behind(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("")
    stand = Stand(tmp_path / "s", PARTS, {**FILES, "a/check.sh": f"while ! test -e {go}; do sleep 0.01; done\n"})
    stand.submit("warm up: a and b are green", {"notes": "warm\n"})
    stand.settle()
    go.unlink()
    policy = stand.submit("squash from now on", {"gate.toml": '[merge]\nmethod = "squash"\n' + PARTS}, by=stand_owner())
    behind = stand.submit("behind", {"a/x": "1"}, f"depends={policy}")
    server = open_server([stand.path])
    try:
        one = server.served[0].gate
        wait_for(lambda: (one.turn() or True) and stand.verdict(policy) == "landed")
        go.write_text("")
        server.run(until_idle=True)
    finally:
        server.close()
    assert stand.verdict(behind) == "landed"
    assert len(stand.server.git("log", "-1", "--format=%P", "main").split()) == 1


def stand_owner() -> str:
    import getpass

    return getpass.getuser()


@pytest.mark.parametrize(
    "ask", [lambda at, change: commands.cancel(at, change, "ann"), lambda at, _: commands.close(at, stand_owner(), "stop")]
)
def test_who_is_told_withdrawn_or_closed_before_a_landing_began_is_told_the_truth(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Any, int], Any]
) -> None:
    change = stand.submit("good", {"a/x": "1"})
    before = stand.trunk()
    append = Journal.append
    asked: list[str] = []

    def change_of_mind(self: Journal, *events: Any, results: Any = ()) -> None:
        if not asked and any(isinstance(event, LandingStarted) for event in events):
            asked.append("now")
            with commands.office(stand.path) as at:
                ask(at, change)
        append(self, *events, results=results)

    monkeypatch.setattr(Journal, "append", change_of_mind)
    stand.settle()
    assert asked
    assert stand.trunk() == before
    assert stand.verdict(change) != "landed"
    with commands.office(stand.path) as at:
        assert any(isinstance(event, LandingFailed) for _, event in at.journal.read())


def test_a_stack_stays_when_the_change_below_is_pushed_again_as_it_is(stand: Stand) -> None:
    stand.branch("below", {"a/x": "1"})
    below = stand.push("draft").change
    head = stand.dev.head()
    stand.dev.commit("above", {"b/x": "1"})
    above = stand.push().change
    assert stand.push(f"change={below}", what=head).code == 0
    stand.settle()
    assert [stand.verdict(below), stand.verdict(above)] == ["landed", "landed"]


def test_a_revision_that_was_recorded_while_its_change_landed_is_told_so(stand: Stand) -> None:
    change = stand.submit("good", {"a/x": "1"})
    stand.settle()
    mark = f"refs/changes/{change}/landed"
    at = stand.server.head(mark)
    stand.server.git("update-ref", "-d", mark)  # what the hook saw, a moment before
    stand.branch("late", {"a/x": "2"})
    assert stand.push(f"change={change}").code == 0
    stand.server.git("update-ref", mark, at)
    stand.settle()
    told = read_lines(stand.path / "gate" / "feed" / f"{change}.jsonl")[0][-1]
    assert (told["revision"], told["verdict"]) == (2, "refused")
    assert "push this as a new change" in str(told["text"])


def test_another_isolation_or_number_of_workers_comes_also_while_there_is_always_something_to_run(tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = f"while ! test -e {go}; do sleep 0.01; done\n"
    stand = Stand(tmp_path / "s", PARTS, {**FILES, "a/check.sh": waits, "b/check.sh": waits})
    go.write_text("")
    stand.submit("warm up: a and b are green", {"notes": "warm\n"})
    stand.settle()
    go.unlink()
    stand.submit("one", {"a/x": "1"})
    server = open_server([stand.path])
    try:
        one = server.served[0].gate
        while not stand.state().runs:
            one.turn()
        wider = stand.branch("one worker", {"gate.toml": PARTS.replace("workers = 2", "workers = 1")})
        stand.dev.git("push", "-q", "origin", f"{wider}:refs/heads/elsewhere")
        stand.server.git("update-ref", "refs/heads/main", wider)
        started = stand.state().run_count
        stand.submit("two", {"b/x": "1"})
        for _ in range(20):
            one.turn()
        assert stand.state().run_count == started
        go.write_text("")
        server.run(until_idle=True)
    finally:
        server.close()
    assert (stand.show("a/x"), stand.show("b/x")) == ("1", "1")


def test_a_list_of_reasons_that_cannot_be_written_does_not_stop_the_gate(stand: Stand) -> None:
    (stand.path / "gate" / "plan.new").mkdir()
    change = stand.submit("good", {"a/x": "1"})
    stand.settle()
    assert stand.verdict(change) == "landed"
