"""The command line on the server: what it prints, as text and as JSON, and how it exits."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.model import Sha
from fakes.stand import PARTS, Stand
from gate import commands
from gate.model import LandingStarted

FILES = {"a/check.sh": 'test "$(cat a/x)" -le 1\n', "a/x": "0", "b/check.sh": "exit 0\n", "b/x": "0"}
ME = getpass.getuser()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """One landed change (1), one refused (2), one that waits as a draft (3)."""
    made = Stand(tmp_path_factory.mktemp("commands"), PARTS, FILES)
    made.submit("good", {"a/x": "1"})
    made.submit("bad", {"a/check.sh": "exit 1\n"})
    made.submit("idea", {"b/x": "1"}, "draft")
    made.settle()
    return made


def test_status_tells_of_trunk_queue_and_verdicts(stand: Stand) -> None:
    found = stand.gate_json("status")
    assert found["trunk"]["commit"] == stand.trunk()
    assert found["trunk"]["promoted"] == stand.trunk()
    assert found["trunk"]["state"] == "green"
    assert [item["change"] for item in found["waiting"]] == [3]
    assert found["waiting"][0]["reasons"][0]["why"] == "draft"
    assert {item["change"]: item["verdict"] for item in found["recent"]} == {1: "landed", 2: "refused"}
    assert found["gate"] == "not running"
    said = stand.gate("status").stdout
    assert "main is at" in said
    assert "waiting: change 3 (ann: idea): it is a draft" in said


def test_why_tells_the_reason_the_cure_and_the_story(stand: Stand) -> None:
    found = stand.gate_json("why", "2")
    assert found["state"] == "refused"
    assert found["reasons"][0]["why"] == "check red"
    assert "push again" in found["reasons"][0]["cure"]
    told = [line["text"] for line in found["story"]]
    assert told[0].startswith("change 2 revision 1 submitted")
    assert told[-1].startswith("change 2 refused")
    said = stand.gate("why", "2").stdout
    assert "because the check a is red" in said
    assert "to fix:" in said


def test_log_shows_the_feed_and_the_output_of_a_check(stand: Stand) -> None:
    assert "refused" in stand.gate("log", "2").stdout
    assert stand.gate("log", "2", "--follow").returncode == 1
    assert stand.gate("log", "1", "--follow").returncode == 0
    run = stand.gate_json("log", "2", "a")
    assert run["outcome"] == "red"
    assert Path(run["log"]).parent == stand.path / "gate/logs"
    wrong = stand.gate("log", "2", "nope")
    assert wrong.returncode == 2
    assert "there are runs of a" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("why", "99"), "there is no change 99 here: the newest is 3"),
        (("why", "x"), "is not the number of a change"),
        (("cancel", "1"), "change 1 was landed already"),
        (("approve", "2"), "change 2 was refused already"),
        (("approve", "3", "--revision", "2"), "change 3 is at revision 1 now, not 2"),
        (("retry", "1"), "there is nothing to try again"),
        (("rollback", "moon"), "nothing was ever deployed to 'moon'"),
        (("token", "revoke", "nobody"), "there is no token 'nobody'"),
        (("token", "add"), "needs a NAME"),
        (("close", "lunch"), "ann may not close trunk"),
        (("nonsense",), "there is no command 'nonsense': gate --help lists all there are"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(stand: Stand, words: tuple[str, ...], said: str) -> None:
    done = stand.gate(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_gated_repository_is_said(stand: Stand, tmp_path: Path) -> None:
    done = stand.gate("status", "--repo", str(tmp_path))
    assert done.returncode == 2
    assert "is not a bare Git repository" in done.stderr


def test_closing_and_opening_is_recorded_with_who_and_why(stand: Stand) -> None:
    assert stand.gate_json("close", "fire drill", by=ME) == {"closed": True, "by": ME, "reason": "fire drill"}
    assert stand.gate_json("status")["trunk"]["closed"] == {"by": ME, "reason": "fire drill"}
    assert stand.gate_json("open", by=ME)["closed"] is False
    assert stand.gate_json("status")["trunk"]["closed"] is None


def test_a_token_is_shown_once_and_listed_by_name(stand: Stand) -> None:
    made = stand.gate("token", "add", "bot")
    assert len(made.stdout.strip()) >= 32
    assert "shown once" in made.stderr
    assert stand.gate_json("token", "list") == {"tokens": ["bot"]}
    assert stand.gate("token", "add", "bot").returncode == 2
    assert stand.gate("token", "revoke", "bot").returncode == 0


def test_config_check_and_show(stand: Stand, tmp_path: Path) -> None:
    good = tmp_path / "gate.toml"
    good.write_text(PARTS)
    assert stand.gate_json("config", "check", str(good))["problems"] == []
    shown = {item["path"]: item for item in stand.gate_json("config", "show", str(good))["values"]}
    assert shown["run.workers"] == {"path": "run.workers", "value": "2", "origin": f"{good} line 3"}
    assert shown["merge.method"]["origin"] == "default"
    good.write_text(PARTS.replace("workers", "wrokers"))
    bad = stand.gate("config", "check", str(good))
    assert bad.returncode == 2
    assert f"{good}:3: run.wrokers" in bad.stdout + bad.stderr
    assert "workers" in bad.stdout + bad.stderr
    assert stand.gate("config", "check", str(tmp_path / "none")).returncode == 2


def test_config_check_waits_for_nobody_to_write_the_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate.toml")
    command = [Path(sys.executable).with_name("gate"), "config", "check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        "gate: gate.toml is not a file: put the configuration in a file of that name\n",
    )


def test_config_check_looks_for_what_inputs_match(stand: Stand) -> None:
    file = stand.dev.path / "gate.toml"
    check = '[[check]]\nname = "{0}"\ncommand = "true"\ninputs = ["{0}"]\n'
    file.write_text(check.format("new.py") + check.format("build.py") + check.format("gate.toml"))
    (stand.dev.path / "new.py").touch()
    (stand.dev.path / "build.py").touch()
    (stand.dev.path / ".gitignore").write_text("build.py\n")
    (warning,) = stand.gate_json("config", "check", str(file))["warnings"]
    assert "check 'build.py' has nothing to look at, as inputs match no file: 'build.py'" in warning
    elsewhere = stand.dev.path / ".git/gate.toml"
    elsewhere.write_bytes(file.read_bytes())
    assert stand.gate_json("config", "check", str(elsewhere))["warnings"] == []


def test_a_change_that_is_landing_is_too_late_to_withdraw(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PARTS, FILES)
    change = stand.submit("good", {"a/x": "1"})
    with commands.office(stand.path) as at:
        item = at.submission(change)
        trunk = Sha(stand.trunk())
        at.record(LandingStarted(1.0, trunk, item.head, trunk, ((item.change, item.revision),), (item.head,), ()))
    done = stand.gate("cancel", str(change))
    assert done.returncode == 2
    assert "too late to withdraw it" in done.stderr
