"""Steps as real processes: how they end, and what a second controller makes of what the first one left."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.deploy import steps as module
from ci.deploy.steps import Order, StepEnd, Steps, booted_at


class Watch:
    """Steps with a bell that rings at each end."""

    def __init__(self) -> None:
        self._bell = threading.Semaphore(0)
        self.steps = Steps(self._bell.release)

    def next_end(self) -> StepEnd:
        while not (ended := self.steps.collect()):
            assert self._bell.acquire(timeout=30), "no step ended"
        (end,) = ended
        return end


@pytest.fixture
def watch() -> Iterator[Watch]:
    one = Watch()
    yield one
    one.steps.close()


@pytest.fixture
def second() -> Iterator[Watch]:
    one = Watch()
    yield one
    one.steps.close()


def order(folder: Path, script: str, timeout_s: float = 60.0) -> Order:
    return Order("s", folder / "steps" / "s", ("/bin/sh", "-c", script), dict(os.environ), folder, timeout_s)


def begun(path: Path) -> str:
    """What a step wrote into a FIFO; waits for it."""
    return path.read_text().strip()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("true", StepEnd("s", "done", 0), id="exit code 0"),
        pytest.param(
            "echo no space left; exit 3", StepEnd("s", "failed", 3, "exit code 3: no space left"), id="its last line"
        ),
        pytest.param("exit 3", StepEnd("s", "failed", 3, "exit code 3"), id="nothing said"),
        pytest.param(
            "printf 'a\\033[2Jb\\n\\n' >&2; exit 1", StepEnd("s", "failed", 1, "exit code 1: a?[2Jb"), id="unprintable"
        ),
        pytest.param(
            "kill -9 $PPID", StepEnd("s", "unknown", None, "its process is gone and has left no exit code"), id="shim"
        ),
    ],
)
def test_how_a_step_ends(watch: Watch, tmp_path: Path, script: str, expected: StepEnd) -> None:
    watch.steps.start(order(tmp_path, script))
    assert watch.next_end() == expected
    assert watch.steps.is_idle


def test_a_command_killed_by_somebody_else_has_failed(watch: Watch, tmp_path: Path) -> None:
    watch.steps.start(order(tmp_path, "kill -9 $$"))
    end = watch.next_end()
    assert (end.outcome, end.exit_code) == ("failed", 128 + 9)


def test_output_goes_to_the_log(watch: Watch, tmp_path: Path) -> None:
    told = order(tmp_path, "echo out; echo err >&2; pwd; cat")
    watch.steps.start(told)
    assert watch.next_end().outcome == "done"
    assert told.log.read_text() == f"out\nerr\n{tmp_path}\n"
    assert sorted(path.name for path in told.log.parent.iterdir()) == ["s.log", "s.pid", "s.rc"]


@pytest.mark.parametrize("spoil", ["folder", "command", "argument"])
def test_a_step_that_cannot_be_started_has_failed(watch: Watch, tmp_path: Path, spoil: str) -> None:
    argv = {"folder": ("true",), "command": (), "argument": ("true", "a\0b")}[spoil]
    folder = tmp_path / "gone" if spoil == "folder" else tmp_path
    watch.steps.start(Order("s", tmp_path / "steps" / "s", argv, dict(os.environ), folder, 60.0))
    end = watch.next_end()
    assert end.outcome == "failed"
    assert ("cannot be started" in end.reason) != (spoil == "command")


def test_of_a_step_that_a_signal_ends_its_own_words_are_the_last(watch: Watch, tmp_path: Path) -> None:
    told = order(tmp_path, "echo waiting; kill -TERM $$")
    watch.steps.start(told)
    assert watch.next_end().reason == "exit code 143: waiting"
    assert told.log.read_text() == "waiting\n"


def test_a_step_that_takes_too_long_is_ended_with_all_its_session(watch: Watch, tmp_path: Path) -> None:
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    watch.steps.start(order(tmp_path, f"exec 2>/dev/null; sleep 1000 & echo $! >{fifo}; echo waiting; wait", timeout_s=0.5))
    child = int(begun(fifo))
    assert watch.next_end() == StepEnd("s", "timed out", None, "waiting")
    assert not is_alive(child)


def test_a_step_that_does_not_listen_is_killed(watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    watch.steps.start(order(tmp_path, f"trap '' TERM; echo $$ >{fifo}; while :; do sleep 1; done", timeout_s=0.5))
    stubborn = int(begun(fifo))
    assert watch.next_end().outcome == "timed out"
    assert not is_alive(stubborn)


def is_alive(pid: int) -> bool:
    """False also for a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# --- a second controller ------------------------------------------------------------------------------------------------

HELD = 'echo run >>runs; echo begun >begun; read -r word <go; echo "$word" >>runs'


@pytest.fixture
def held(tmp_path: Path) -> Order:
    for name in ("begun", "go"):
        os.mkfifo(tmp_path / name)
    return order(tmp_path, HELD)


def test_a_running_step_is_picked_up(watch: Watch, second: Watch, held: Order, tmp_path: Path) -> None:
    watch.steps.start(held)
    begun(tmp_path / "begun")
    second.steps.resume(held, time.time())
    assert not second.steps.is_idle
    (tmp_path / "go").write_text("on\n")
    assert second.next_end().outcome == "done"
    assert (tmp_path / "runs").read_text() == "run\non\n"


def test_a_step_that_ended_meanwhile_has_its_own_outcome(watch: Watch, second: Watch, tmp_path: Path) -> None:
    told = order(tmp_path, "exit 7")
    watch.steps.start(told)
    watch.next_end()
    second.steps.resume(told, time.time())
    assert second.next_end().exit_code == 7


def test_a_step_that_was_never_started_is_started(second: Watch, tmp_path: Path) -> None:
    second.steps.resume(order(tmp_path, "echo run >>runs"), time.time())
    assert second.next_end().outcome == "done"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_step_that_was_never_seen_since_the_machine_booted_is_unknown(second: Watch, tmp_path: Path) -> None:
    second.steps.resume(order(tmp_path, "echo run >>runs"), booted_at() - 1)
    assert second.next_end().outcome == "unknown"
    assert not (tmp_path / "runs").exists()


def test_a_step_whose_process_went_down_is_unknown(watch: Watch, second: Watch, held: Order, tmp_path: Path) -> None:
    watch.steps.start(held)
    begun(tmp_path / "begun")
    os.kill(int(held.base.with_suffix(".pid").read_text()), signal.SIGKILL)
    watch.next_end()
    second.steps.resume(held, time.time())
    assert second.next_end().outcome == "unknown"
    (tmp_path / "go").write_text("on\n")


def test_a_process_that_got_the_number_later_is_not_taken_for_the_step(second: Watch, tmp_path: Path) -> None:
    told = order(tmp_path, "true")
    told.base.parent.mkdir()
    told.base.with_suffix(".pid").write_text(f"{os.getpid()}\n")
    second.steps.resume(told, time.time())
    assert second.next_end().outcome == "unknown"


def test_of_two_shims_for_one_step_one_runs_and_both_controllers_hear_of_it(
    watch: Watch, second: Watch, held: Order, tmp_path: Path
) -> None:
    watch.steps.start(held)
    begun(tmp_path / "begun")
    second.steps.start(held)  # as after a crash between starting the process and its claim
    (tmp_path / "go").write_text("on\n")
    assert watch.next_end().outcome == second.next_end().outcome == "done"
    assert (tmp_path / "runs").read_text() == "run\non\n"


def test_a_step_that_was_late_before_the_restart_is_ended(watch: Watch, second: Watch, held: Order, tmp_path: Path) -> None:
    watch.steps.start(held)
    begun(tmp_path / "begun")
    second.steps.resume(held, time.time() - 120)
    assert second.next_end().outcome == "timed out"


def test_closing_leaves_steps_running(watch: Watch, second: Watch, held: Order, tmp_path: Path) -> None:
    first = Steps(lambda: None)
    first.start(held)
    begun(tmp_path / "begun")
    first.close()
    second.steps.resume(held, time.time())
    (tmp_path / "go").write_text("on\n")
    assert second.next_end().outcome == "done"
