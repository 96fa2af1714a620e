"""``make demo``, once and for real: what its summary says of every scene, its exit status, and what it leaves behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "run.py"

SCENES = (
    "A repository behind a gate",
    "A commit stopped by a pre-commit check",
    "A good change lands",
    "A change whose tests fail is refused",
    "Two changes pass alone and break together: one lands",
    "Two changes to separate parts do not wait for each other",
    "A conflict is refused, with the file named",
    "A direct push to trunk is rejected",
    "A change that weakens gate.toml is held for a maintainer",
    "A post-commit check goes red: promotion stays at the last green",
    "A deploy in three waves, and one that is rolled back",
)


def demo(*words: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, DEMO, *words],
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_all_of_it_happens_and_nothing_is_left_running_or_changed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folder = tmp_path / "a demo's folder"

    done = demo(folder, HOME=str(home))

    assert done.returncode == 0, done.stdout + done.stderr
    for scene in SCENES:
        assert re.search(rf"^  {re.escape(scene)} +happened$", done.stdout, re.MULTILINE), scene
    assert "11 of 11 scenes happened" in done.stdout
    assert "NOT SO" not in done.stdout
    assert "\033" not in done.stdout
    assert not re.search(r"(change \d+ refused: )\1", done.stdout)
    assert (folder / "gate.log").read_text().endswith("gate: stopped\n")
    assert [*home.iterdir()] == []


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")

    done = demo(tmp_path)

    assert done.returncode == 2
    assert "name an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("words", [["--keep", "--clean"], ["--unknown"]])
def test_words_that_it_does_not_know_or_that_contradict_are_refused(words: list[str]) -> None:
    assert demo(*words).returncode == 2
