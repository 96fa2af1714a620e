"""What the gate learned while it ran is there after a restart, and reaches the plan."""

from pathlib import Path

import pytest

from ci.model import CheckName, Sha
from fakes.stand import PARTS, Stand
from gate.gate import Gate
from gate.model import Change, ChangeId, Outlook, Snapshot
from gate.odds import Odds
from gate.serve import open_server


def test_odds_reach_the_plan_and_outlive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Outlook] = []
    snapshot = Gate._snapshot

    def look(gate: Gate, trunk: Sha) -> Snapshot:
        made = snapshot(gate, trunk)
        seen.append(made.outlook)
        return made

    monkeypatch.setattr(Gate, "_snapshot", look)
    stand = Stand(tmp_path, PARTS, {"a/check.sh": "true\n", "b/check.sh": "true\n"})
    server = open_server([stand.path])
    server.run(until_idle=True)
    fine = stand.submit("Fine", {"a/one": "1\n"}, by="ann")
    server.run(until_idle=True)
    # Many files, so that the start after this has to read them from Git to come to the same odds.
    red = stand.submit("Red", {"b/check.sh": "exit 1\n", **{f"b/{number}": "1\n" for number in range(300)}}, by="bob")
    server.run(until_idle=True)
    assert (stand.verdict(fine), stand.verdict(red)) == ("landed", "refused")
    by_bob = stand.submit("Waits", {"a/two": "2\n"}, "draft", by="bob")
    by_ann = stand.submit("Waits, too", {"a/three": "3\n"}, "draft", by="ann")
    server.run(until_idle=True)
    server.close()
    online = seen[-1]
    chances = [online.forecasts[ChangeId(change)].chance for change in (by_ann, by_bob)]
    assert chances[0] > chances[1] + 0.02
    assert {*online.durations} == {CheckName("a"), CheckName("b")}
    assert all(0 < seconds < 60 for seconds in online.durations.values())

    stand.settle()
    again = seen[-1]
    assert again is not online
    assert again.forecasts == online.forecasts
    assert (again.durations, again.flakes, again.clash) == (online.durations, online.flakes, online.clash)


def test_the_lines_of_a_change_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int | None] = {}
    note = Odds.note_change

    def listen(odds: Odds, change: Change, lines: int | None = None, is_green_here: bool | None = None) -> None:
        told[change.id] = lines
        note(odds, change, lines, is_green_here)

    monkeypatch.setattr(Odds, "note_change", listen)
    stand = Stand(tmp_path, PARTS, {"a/check.sh": "true\n", "a/x": "1\n2\n3\n"})
    change = stand.submit("Two lines altered", {"a/x": "1\n4\n5\n"})
    stand.settle()
    assert told == {change: 4}
