"""What follows a landing: the post-commit pipeline, the promotion ref, and deploys from it."""

import getpass
import os
import signal
from pathlib import Path

import pytest

from fakes.stand import PLAIN, Stand, wait_for
from gate.repository import account

PIPELINE = (
    PLAIN
    + """
[[check]]
name = "unit"
command = "exit 0"
inputs = ["unit"]

[[check]]
name = "build"
stage = "post-commit"
command = "exit 0"
inputs = ["build"]

[[check]]
name = "e2e"
stage = "post-commit"
needs = ["build"]
command = "test ! -e broken"
inputs = ["broken", "e2e"]
"""
)
ENVIRONMENT = """
[[environment]]
name = "live"
targets = ["one", "two", "three"]
command = "echo {commit} >>$OUT/{target}"
verify = "test ! -e bad"
waves = ["1", "100%"]
pass_env = ["OUT"]
"""
FILES = {"unit": "0", "build": "0", "e2e": "0"}
GREEN = "refs/heads/green/main"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setenv("OUT", str(folder))
    return folder


def test_the_promotion_ref_follows_green_and_stays_behind_red(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PIPELINE, FILES)
    stand.submit("good", {"unit": "1"})
    stand.settle()
    good = stand.trunk()
    assert stand.server.head(GREEN) == good
    bad = stand.submit("bad", {"broken": ""})
    stand.settle()
    assert stand.verdict(bad) == "landed"
    assert stand.server.head(GREEN) == good
    found = stand.gate_json("status")["trunk"]
    assert (found["state"], found["red"]) == ("red", ["e2e"])
    assert found["suspects"] == [{"commit": stand.trunk(), "change": bad}]
    landed = stand.trunk()
    stand.submit("beside it", {"unit": "2"})
    stand.settle()
    assert stand.gate_json("status")["trunk"]["suspects"] == [{"commit": landed, "change": bad}]
    stand.submit("mend", {"broken": None})
    stand.settle()
    assert stand.server.head(GREEN) == stand.trunk()


def test_what_came_in_between_is_suspect_together(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PIPELINE, FILES)
    stand.settle()
    owner = account(os.getuid())
    assert stand.gate("close", "both land at once when it is opened", by=owner).returncode == 0
    first = stand.submit("bad", {"broken": ""})
    second = stand.submit("beside it", {"unit": "1"})
    stand.settle()
    assert stand.gate("open", by=owner).returncode == 0
    stand.settle()
    suspects = {item["change"] for item in stand.gate_json("status")["trunk"]["suspects"]}
    assert suspects == {first, second}


def test_a_red_pipeline_can_be_tried_again(tmp_path: Path) -> None:
    flaky = PIPELINE.replace("test ! -e broken", "test -e /proc/self && test -e $OUT/fixed").replace(
        "workers = 2\n", 'workers = 2\npass_env = ["OUT"]\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUT", str(tmp_path))
        stand = Stand(tmp_path / "s", flaky, FILES)
        stand.settle()
        assert stand.gate_json("status")["trunk"]["state"] == "red"
        (tmp_path / "fixed").touch()
        stand.settle()
        assert stand.gate_json("status")["trunk"]["state"] == "red"  # nobody asked
        assert stand.gate("retry", "trunk").returncode == 0
        stand.settle()
        assert stand.gate_json("status")["trunk"]["state"] == "green"
        assert stand.server.head(GREEN) == stand.trunk()


def test_a_green_commit_is_deployed_wave_by_wave_and_a_bad_one_rolled_back(tmp_path: Path, out: Path) -> None:
    stand = Stand(tmp_path, PIPELINE + ENVIRONMENT, FILES)
    stand.settle()
    good = stand.trunk()
    assert {path.name: path.read_text().split() for path in out.iterdir()} == {
        name: [good] for name in ("one", "two", "three")
    }
    stand.submit("bad in production", {"bad": ""})
    stand.settle()
    bad = stand.trunk()
    assert stand.server.head(GREEN) == bad
    assert (out / "one").read_text().split() == [good, bad, good]
    assert (out / "two").read_text().split() == [good]
    found = stand.gate_json("deploys")
    assert [(item["commit"], item["state"]) for item in found["deploys"]] == [(good, "good"), (bad, "rolled back")]
    failed = f"deploy 2: live, {bad[:10]}: rolled back: verify failed (exit code 1)"
    assert found["environments"] == [
        {"environment": "live", "commit": good, "barred": [bad], "running": None, "failed": failed}
    ]
    assert f"live is at {good[:10]}; {failed}\n" in stand.gate("status").stdout


def test_a_person_can_roll_an_environment_back(tmp_path: Path, out: Path) -> None:
    stand = Stand(tmp_path, PIPELINE + ENVIRONMENT, FILES)
    stand.settle()
    first = stand.trunk()
    stand.submit("second", {"unit": "1"})
    stand.settle()
    second = stand.trunk()
    assert stand.gate("rollback", "live").returncode == 2  # ann is no maintainer
    assert stand.gate("rollback", "live", "customers complain", by=getpass.getuser()).returncode == 0
    stand.settle()
    assert (out / "three").read_text().split() == [first, second, first]
    assert stand.gate_json("deploys")["environments"][0]["commit"] == first
    stand.settle()
    assert (out / "three").read_text().split() == [first, second, first]  # and it is not put back by itself


def test_one_daemon_serves_several_repositories_each_by_its_own_rules(tmp_path: Path) -> None:
    strict = Stand(tmp_path / "strict", PLAIN + '[[check]]\nname = "no"\ncommand = "test ! -e x"\n', {"y": "0"})
    free = Stand(tmp_path / "free", PLAIN, {"y": "0"})
    refused = strict.submit("x", {"x": "1"})
    landed = free.submit("x", {"x": "1"})
    done = strict.gate("serve", str(strict.path), str(free.path), "--until-idle")
    assert done.returncode == 0, done.stderr
    assert (strict.verdict(refused), free.verdict(landed)) == ("refused", "landed")


def test_a_pusher_who_stops_waiting_loses_nothing_and_can_follow_later(tmp_path: Path) -> None:
    gate_file = tmp_path / "go"
    config = PLAIN + f'[[check]]\nname = "slow"\ncommand = "until test -e {gate_file}; do sleep 0.05; done"\n'
    stand = Stand(tmp_path / "s", config, {"x": "0"})
    with stand.daemon():
        stand.branch("slow", {"x": "1"})
        pusher = stand.start_push("wait")
        wait_for(lambda: any(run.changes for run in stand.state().runs.values()))
        os.killpg(pusher.pid, signal.SIGINT)  # as a terminal does
        pusher.communicate(timeout=30)
        gate_file.touch()
        followed = stand.gate("log", "1", "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "landed on main" in followed.stdout
    assert stand.verdict(1) == "landed"


def test_a_trunk_that_was_moved_back_takes_the_promotion_ref_along(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PIPELINE, FILES)
    stand.settle()
    first = stand.trunk()
    stand.submit("second", {"unit": "1"})
    stand.settle()
    assert stand.server.head(GREEN) == stand.trunk() != first
    stand.server.git("update-ref", "refs/heads/main", first)
    stand.settle()
    assert stand.server.head(GREEN) == first


def test_a_trunk_that_was_founded_red_is_called_red_and_not_promoted(tmp_path: Path) -> None:
    stand = Stand(
        tmp_path,
        PIPELINE.replace('command = "exit 0"\ninputs = ["unit"]', 'command = "test -s unit"\ninputs = ["unit"]'),
        {**FILES, "unit": ""},
    )
    stand.settle()
    found = stand.gate_json("status")["trunk"]
    assert (found["state"], found["red"], found["promoted"]) == ("red", ["unit"], None)
    stand.submit("mend", {"unit": "1"})
    stand.settle()
    assert stand.server.head(GREEN) == stand.trunk()


def test_the_output_of_a_post_commit_check_can_be_read(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PIPELINE.replace("test ! -e broken", "echo it is broken; test ! -e broken"), FILES)
    stand.submit("bad", {"broken": ""})
    stand.settle()
    assert "it is broken" in stand.gate("log", "trunk", "e2e").stdout
    assert stand.gate_json("log", "trunk", "e2e")["outcome"] == "red"
    assert stand.gate("log", "trunk").returncode == 2
