"""Attacks by somebody who may push and is not trusted: what they are after does not happen."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gitdb import IStream, LooseObjectDB

from ci.report import ReportLimits, read_reports
from ci.run import RunSettings
from ci.sandbox import bubblewrap_trouble
from ci.workers.local import LocalWorkers
from fakes.stand import PLAIN, Stand
from gate import serve

needs_bubblewrap = pytest.mark.skipif(bubblewrap_trouble() is not None, reason="bubblewrap does not work here")
BUBBLEWRAP = '[run]\nisolation = "bubblewrap"\nworkers = 1\n'
WHOLE = '[[check]]\nname = "whole"\ncommand = "sh check.sh"\n'


# --- refs ---------------------------------------------------------------------------------------------------------------


def test_a_replaced_gate_toml_does_not_free_protected_tags(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PLAIN + '[protect]\ntags = ["v*"]\n')
    stand.branch("change", {"x": "1"})
    rules = stand.dev.git("rev-parse", "origin/main:gate.toml")
    laxer = stand.dev.git("hash-object", "-w", "--stdin", stdin=b'[trust]\nmaintainers = ["mallory"]\n')
    stand.push(what=laxer, to=f"refs/replace/{rules}", by="mallory")

    assert stand.push(to="refs/tags/v1", by="mallory").code != 0


@pytest.mark.parametrize("folder", ["refs/heads", "refs/tags", "refs/remotes", "refs"])
@pytest.mark.parametrize("name", ["refs/changes/1/landed", "refs/gate/submissions", "refs/heads/green/main"])
def test_no_ref_can_be_taken_for_one_of_the_gates(tmp_path: Path, folder: str, name: str) -> None:
    stand = Stand(tmp_path, PLAIN)
    stand.branch("change", {"x": "1"})

    forged = stand.push(to=f"{folder}/{name}", by="mallory")

    assert forged.code != 0
    assert stand.push(by="ann").code == 0
    stand.branch("better", {"x": "2"})
    assert stand.push("change=1", by="ann").code == 0


def test_folders_in_folders_without_end_are_refused_at_the_door(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PLAIN)
    objects = LooseObjectDB(str(stand.dev.git_dir / "objects"))
    blob = stand.dev.git("hash-object", "-w", "--stdin", stdin=b"x")
    name, sha = b"100644 f", blob
    for _ in range(3000):
        raw = name + b"\0" + bytes.fromhex(sha)
        sha = objects.store(IStream("tree", len(raw), io.BytesIO(raw))).hexsha.decode()
        name = b"40000 a"
    commit = stand.dev.git("commit-tree", "-p", "origin/main", "-m", "deep", sha)

    pushed = stand.push(what=commit, by="mallory")

    assert pushed.code != 0
    assert "more than 1000 deep" in pushed.said


# --- checks -------------------------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_a_check_in_a_sandbox_makes_the_daemon_write_nowhere_else(tmp_path: Path) -> None:
    # So many names that the check runs twice: what the first leaves behind must not lead the daemon astray.
    names = {f"in/{number:03}{'x' * 240}": "" for number in range(500)}
    check = '[[check]]\nname = "files"\ncommand = "sh in/check.sh {files}"\ninputs = ["in/"]\n'
    stand = Stand(tmp_path, BUBBLEWRAP + check, {"in/check.sh": "true\n", **names})
    victim = tmp_path / "precious"
    victim.write_text("precious")

    script = f"for name in process files.process; do rm -f $HOME/../$name; ln -s {victim} $HOME/../$name; done\n"
    change = stand.submit("links", {"in/check.sh": script}, by="mallory")
    stand.settle()

    assert stand.verdict(change) == "landed"
    assert victim.read_text() == "precious"
    assert list((stand.path / "gate" / "runs").iterdir()) == []


@needs_bubblewrap
def test_a_check_leaves_nothing_to_the_next_one_by_rights_or_times(tmp_path: Path) -> None:
    look = "ls -ld --time-style=+%Y tests tests/t | cut -c1-10; find tests -newermt 2040-01-01; cat tests/t\n"
    stand = Stand(tmp_path, BUBBLEWRAP + WHOLE, {"check.sh": look, "tests/t": "test\n"})

    evil = stand.submit("evil", {"check.sh": "touch -d 2050-01-01 tests/t; chmod 000 tests/t tests\n"}, by="mallory")
    stand.settle()
    next_one = stand.submit("next", {"check.sh": look + "true\n"})
    stand.settle()

    assert stand.verdict(evil) == stand.verdict(next_one) == "landed"
    assert stand.gate("log", str(next_one), "whole").stdout.splitlines() == ["drwxr-xr-x", "-rw-r--r--", "test"]


@needs_bubblewrap
def test_a_check_that_nests_folders_without_end_does_not_keep_its_worker(tmp_path: Path) -> None:
    stand = Stand(tmp_path, BUBBLEWRAP + WHOLE, {"check.sh": "true\n"})
    script = "cd $HOME; python3 -c \"import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\"\n"
    evil = stand.submit("deep", {"check.sh": script}, by="mallory")
    stand.settle()
    assert stand.verdict(evil) == "landed"
    next_one = stand.submit("next", {"check.sh": "test ! -e $HOME/d\n"})
    stand.settle()
    assert stand.verdict(next_one) == "landed"
    assert list((stand.path / "gate" / "runs").iterdir()) == []


def test_a_report_of_a_million_nothings_is_left_out(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_bytes(b"<testsuite>" + b"<a/>" * 200 + b"</testsuite>")
    few = ReportLimits(max_elements=150)
    found = read_reports([report, report], few)
    assert found.tests == ()
    assert found.notes == (
        "report 'report.xml' is not read: it has more than 150 elements",
        "report 'report.xml' is not read: the reports before it are too large already",
    )
    assert len(read_reports([report] * 3, ReportLimits(max_all_bytes=1000)).notes) == 1


# --- what people read ---------------------------------------------------------------------------------------------------


def test_a_terminal_gets_the_colours_of_a_log_and_nothing_worse(tmp_path: Path) -> None:
    script = r"printf '\033[31mred\033[0m \033]0;title\007 \033[2Jgone \302\233 d\303\251j\303\240\n'" + "\n"
    stand = Stand(tmp_path, PLAIN + WHOLE, {"check.sh": "true\n"})
    change = stand.submit("print", {"check.sh": script}, by="mallory")
    stand.settle()

    reading, terminal = pty.openpty()
    program = Path(sys.executable).parent / "gate"
    subprocess.run([program, "log", str(change), "whole"], cwd=stand.path, stdout=terminal, check=True)
    os.close(terminal)
    shown = os.read(reading, 10_000).decode()
    os.close(reading)

    bad = "\N{REPLACEMENT CHARACTER}"
    assert shown == f"\x1b[31mred\x1b[0m {bad}]0;title{bad} {bad}[2Jgone {bad} déjà\r\n"


# --- other repositories -------------------------------------------------------------------------------------------------


def test_a_check_sees_no_repository_that_the_daemon_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands = [Stand(tmp_path / name, PLAIN) for name in ("a", "b")]
    hidden: list[tuple[Path, ...]] = []

    class Workers(LocalWorkers):
        def __init__(self, repository: Any, folder: Path, settings: RunSettings, on_end: Any) -> None:
            hidden.append(settings.hidden)
            super().__init__(repository, folder, settings, on_end)

    monkeypatch.setattr(serve, "LocalWorkers", Workers)
    server = serve.open_server([stand.path for stand in stands])
    server.run(until_idle=True)
    server.close()

    assert len(hidden) == 2
    assert all({stand.path for stand in stands} <= set(each) for each in hidden)
