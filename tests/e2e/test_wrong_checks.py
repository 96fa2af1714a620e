"""A check that is wrong on trunk, or all of a gate.toml: what status says, and how a team gets out of it."""

import os
from pathlib import Path

import pytest

from fakes.stand import PLAIN, Stand
from gate.repository import account

RULES = '[trust]\nmaintainers = ["mia"]\ntrusted = ["*"]\n'
FILES = {"x": "0"}


def rules(command: str, name: str = "unit") -> str:
    return PLAIN + RULES + f'[[check]]\nname = "{name}"\ncommand = "{command}"\n'


WRONG, RIGHT = rules("./no-such-file"), rules("true")


def test_a_check_that_was_never_right_is_mended_by_a_change_that_need_not_pass_it(tmp_path: Path) -> None:
    stand = Stand(tmp_path, WRONG, FILES)
    change = stand.submit("mend the check", {"gate.toml": RIGHT}, by="mia")
    stand.settle()
    held = stand.why(change)["reasons"][0]
    assert held["why"] == "trunk is red"
    assert "gate approve --waive unit" in held["cure"]
    trunk = stand.gate_json("status")["trunk"]
    assert (trunk["state"], trunk["red"]) == ("red", ["unit"])
    assert "\nred: unit" in stand.gate("status").stdout
    waived = stand.gate("approve", str(change), "--waive", "unit", by="mia")
    assert waived.stdout == f"change {change} revision 1 approved by mia, without unit as trunk has it\n"
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert stand.gate_json("status")["trunk"]["red"] == []
    good = stand.submit("good", {"x": "1"})
    stand.settle()
    assert stand.verdict(good) == "landed"


def test_a_change_that_the_wrong_check_has_refused_is_tried_again(tmp_path: Path) -> None:
    """The check was green once, so that trunk passes for green."""
    once = tmp_path / "once"
    once.touch()
    stand = Stand(tmp_path / "s", rules(f"test -e {once}"), FILES)
    landed = stand.submit("good", {"x": "1"})
    stand.settle()
    assert stand.verdict(landed) == "landed"
    once.unlink()
    change = stand.submit("another check", {"gate.toml": rules("true", "other"), "x": "2"}, by="mia")
    stand.settle()
    assert stand.verdict(change) == "refused"
    told = stand.gate_json("approve", str(change), "--waive", "unit", by="mia")
    assert (told["waived"], told["retried"]) == (["unit"], True)
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_what_is_waived_is_only_the_check_as_trunk_had_it(tmp_path: Path) -> None:
    stand = Stand(tmp_path, WRONG, FILES)
    stand.settle()
    change = stand.submit("no better", {"gate.toml": rules("exit 1")}, by="mia")
    assert stand.gate("approve", str(change), "--waive", "unit", by="mia").returncode == 0
    stand.settle()
    assert stand.verdict(change) is None
    assert stand.gate_json("status")["waiting"][0]["reasons"][0]["why"] == "trunk is red"
    newer = stand.submit("mend it", {"gate.toml": RIGHT}, f"change={change}", by="mia")
    stand.settle()
    assert (newer, stand.verdict(newer)) == (change, None)  # what was waived was so for the revision before


@pytest.mark.parametrize(
    ("who", "check", "content", "why"),
    [
        ("ann", "unit", RIGHT, "ann may not approve changes here: mia may"),
        ("mia", "lint", RIGHT, "there is no check 'lint' before landing: there are unit"),
        ("mia", "unit", WRONG + "\n# no other\n", "leaves the check unit as it is: only one that it alters can be waived"),
        ("mia", "unit", "[[check]\n", "the gate.toml of change 1 is broken"),
    ],
)
def test_nobody_waives_more_than_a_maintainer_may(tmp_path: Path, who: str, check: str, content: str, why: str) -> None:
    stand = Stand(tmp_path, WRONG, FILES)
    stand.settle()
    change = stand.submit("mend", {"gate.toml": content}, by="mia")
    done = stand.gate("approve", str(change), "--waive", check, by=who)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_nobody_ahead_of_a_waived_change_lands_without_the_check(tmp_path: Path) -> None:
    stand = Stand(tmp_path, rules("sleep 1; grep -q 0 x"), FILES)
    stand.settle()
    ahead = stand.submit("breaks it", {"x": "1"})
    change = stand.submit("another check", {"gate.toml": rules("true", "other")}, by="mia")
    assert stand.gate("approve", str(change), "--waive", "unit", by="mia").returncode == 0
    stand.settle()
    assert (stand.verdict(ahead), stand.verdict(change)) == ("refused", "landed")


def test_with_others_waiting_a_waived_change_mends_a_red_trunk_from_behind(tmp_path: Path) -> None:
    stand = Stand(tmp_path, WRONG, FILES)
    stand.settle()
    ahead = [stand.submit(f"good {number}", {f"y{number}": "1"}) for number in range(2)]
    change = stand.submit("mend the check", {"gate.toml": RIGHT}, by="mia")
    stand.settle()
    assert stand.gate("approve", str(change), "--waive", "unit", by="mia").returncode == 0
    stand.settle()
    assert [stand.verdict(each) for each in (*ahead, change)] == ["landed"] * 3


def test_a_change_that_leaves_gate_toml_alone_has_nothing_waived(tmp_path: Path) -> None:
    """Its own gate.toml is an older one, which is no doing of its."""
    stand = Stand(tmp_path, RIGHT, FILES)
    stand.settle()
    old = stand.trunk()
    stricter = stand.submit("stricter", {"gate.toml": rules("grep -q 0 x")}, by="mia")
    stand.settle()
    assert stand.verdict(stricter) == "landed"
    stand.branch("breaks it", {"x": "1"}, base=old)
    change = stand.push(by="ann").change
    done = stand.gate("approve", str(change), "--waive", "unit", by="mia")
    assert (done.returncode, done.stdout) == (2, "")
    assert "leaves the check unit as it is" in done.stderr


def test_what_was_waived_is_required_again_once_trunk_has_another_check(tmp_path: Path) -> None:
    guarded = '[[trust.path]]\npaths = ["x"]\napprovers = ["zoe"]\n'
    wrong = (
        PLAIN + RULES + guarded + rules("./no-such-file").removeprefix(PLAIN + RULES) + '# 1\n# 2\n# 3\ntimeout = "60s"\n'
    )
    stand = Stand(tmp_path, wrong, FILES)
    stand.settle()
    change = stand.submit("narrower", {"gate.toml": f'{wrong}inputs = ["none"]\n', "x": "bad"}, by="mia")
    assert stand.gate("approve", str(change), "--waive", "unit", by="mia").returncode == 0
    mend = stand.submit("mend", {"gate.toml": wrong.replace("./no-such-file", "! grep -q bad x")}, by="mia")
    assert stand.gate("approve", str(mend), "--waive", "unit", by="mia").returncode == 0
    stand.settle()
    assert (stand.verdict(change), stand.verdict(mend)) == (None, "landed")
    assert stand.gate("approve", str(change), by="zoe").returncode == 0
    stand.settle()
    assert (stand.verdict(change), stand.show("x")) == ("refused", "0")


def test_status_says_that_a_broken_gate_toml_has_closed_trunk(tmp_path: Path) -> None:
    stand = Stand(tmp_path, RIGHT + 'comand = "x"\n', FILES)
    stand.settle()
    assert "\nclosed: its gate.toml is broken, line " in stand.gate("status").stdout
    assert "unknown key 'comand'" in stand.gate_json("status")["trunk"]["broken"]
    change = stand.submit("mend", {"gate.toml": RIGHT}, by="mia")
    stand.settle()  # of people it knows nobody but the owner of the repository
    assert stand.gate("approve", str(change), by=account(os.getuid())).returncode == 0
    stand.settle()
    assert stand.gate_json("status")["trunk"]["broken"] is None
