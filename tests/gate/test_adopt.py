"""gate init --from-pre-commit: what it reads, what it adds, and that a gate with it refuses what a hook refuses."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.sandbox import bubblewrap_trouble
from fakes.repositories import Repository
from fakes.stand import Stand
from gate.adopt import Hook, hooks_in
from gate.config import Config, parse, warnings

PROGRAMS = Path(sys.executable).parent
LOCAL = """\
repos:
  - repo: local
    hooks:
      - id: no-bad-word
        name: no bad word
        entry: sh -c '! grep -l bad "$@"' --
        language: system
        files: \\.txt$
      - id: gate-check
        name: gate check
        entry: gate-check
        language: system
        always_run: true
      - id: long-message
        name: long message
        entry: 'false'
        language: system
        stages: [commit-msg]
        always_run: true
      - id: last
        name: last of all
        entry: 'true'
        language: system
        files: nothing
"""


@pytest.mark.parametrize(
    ("text", "hooks"),
    [
        ("", ()),
        ("repos: []\n", ()),
        ("- repo: x\n  hooks:\n  - id: a\n    stages: [commit]\n  - id: 'b'\n", (Hook("a", ("commit",)), Hook("b"))),
        ("  hooks: [{id: a}, { id: gate-check }]\n", (Hook("a"), Hook("gate-check", (), True))),
        ("  - id: a # id: no\n# - id: no\n", (Hook("a"),)),
        ("  - id: a\n    stages:\n      - pre-push\n      - manual\n", (Hook("a", ("pre-push", "manual")),)),
        ("default_stages: [pre-push]\nrepos:\n- hooks:\n  - id: a\n", (Hook("a", ("pre-push",)),)),
        ("repos:\n- hooks:\n  - id: a\ndefault_stages: [pre-push]\n", (Hook("a", ("pre-push",)),)),
        ("  - id: a\n- repo: y\n  hooks:\n  - id: b\n    stages: [pre-push]\n", (Hook("a"), Hook("b", ("pre-push",)))),
        ("  - id: mine\n    entry: gate check --stage merge\n", (Hook("mine", (), True),)),
        ('[[repos]]\nrepo = "local"\n[[repos.hooks]]\nid = "a"\nstages = ["pre-push"]\n', (Hook("a", ("pre-push",)),)),
    ],
)
def test_which_hooks_a_configuration_has(text: str, hooks: tuple[Hook, ...]) -> None:
    assert hooks_in(text) == hooks


def init(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [str(PROGRAMS / "gate"), "init", "--from-pre-commit", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = Repository.create(tmp_path / "work").path
    (folder / ".pre-commit-config.yaml").write_text(LOCAL)
    return folder


def read(folder: Path) -> Config:
    config = parse((folder / "gate.toml").read_bytes())
    assert isinstance(config, Config), config
    assert warnings(config) == ()
    return config


def test_without_a_gate_toml_one_is_written_first(work: Path) -> None:
    done = init(work)
    assert done.returncode == 0, done.stderr
    assert [check.name for check in read(work).checks] == ["no-conflict-markers", "pre-commit"]
    before = {name: (work / name).read_bytes() for name in ("gate.toml", ".pre-commit-config.yaml")}
    again = init(work, "--json")
    assert "left alone" in json.loads(again.stdout)["lines"][0]
    assert {name: (work / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("text", ["", "[run]\nworkers = 3 # ours", '[[check]]\nname = "pre-commit"\ncommand = "x"\n'])
def test_what_is_there_stays_as_it_is(work: Path, text: str) -> None:
    (work / "gate.toml").write_text(text)
    assert init(work).returncode == 0
    assert (work / "gate.toml").read_text().startswith(text)
    assert len(read(work).checks) == 1 + text.count("[[check]]")
    added = (work / "gate.toml").read_text()[len(text) :]
    assert "the gate runs by itself what they run: gate-check." in added
    assert "not of the stage pre-commit: long-message (commit-msg)." in added


@pytest.mark.parametrize("text", ["[run\n", "check = []\n", "x = 1\n"])
def test_a_gate_toml_that_nothing_can_be_added_to_stays(work: Path, text: str) -> None:
    (work / "gate.toml").write_text(text)
    assert init(work).returncode == 2
    assert (work / "gate.toml").read_text() == text


def test_without_hooks_nothing_is_written(tmp_path: Path) -> None:
    work = Repository.create(tmp_path / "work").path
    assert init(work).returncode == 2
    assert not (work / "gate.toml").exists()
    (work / ".pre-commit-config.yaml").write_text("repos: [{repo: local, hooks: [{id: gate-check}]}]\n")
    assert "nothing to add" in init(work).stdout


@pytest.mark.parametrize("sign", ["prek.toml", ".pre-commit-config.yml", "installed", "minimum"])
def test_prek_is_taken_where_it_is_used(work: Path, sign: str) -> None:
    yaml = work / ".pre-commit-config.yaml"
    if sign == "installed":
        subprocess.run([PROGRAMS / "prek", "install", "-q"], cwd=work, check=True, capture_output=True)
    elif sign == "minimum":
        yaml.write_text("minimum_prek_version: '0.2.0'\n" + LOCAL)
    elif sign == "prek.toml":
        yaml.unlink()
        (work / sign).write_text('[[repos]]\nrepo = "local"\n[[repos.hooks]]\nid = "a"\n')
    else:
        yaml.rename(work / sign)
    assert init(work).returncode == 0
    assert "prek run " in str(read(work).checks[-1].command)


@pytest.mark.parametrize("isolation", ["plain", "bubblewrap"])
@pytest.mark.parametrize("program", ["pre-commit", "prek"])
def test_a_gate_refuses_what_a_hook_refuses(
    tmp_path: Path, program: str, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isolation == "bubblewrap" and bubblewrap_trouble():
        pytest.skip("no bubblewrap here")
    read = json.dumps([str(PROGRAMS.parent)])
    run = f'[run]\nisolation = "{isolation}"\nread = {read}\n'
    monkeypatch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
    config = LOCAL if program == "pre-commit" else "minimum_prek_version: '0.2.0'\n" + LOCAL
    stand = Stand(tmp_path, run, {".pre-commit-config.yaml": config, "old.txt": "bad, from before the hooks"})
    assert init(stand.dev.path).returncode == 0
    stand.dev.git("commit", "-qam", "hooks")
    rules = (stand.dev.path / "gate.toml").read_text()
    first = stand.submit("rules", {"gate.toml": rules, "a.txt": "fine"}, by=getpass.getuser())
    stand.settle()
    assert stand.verdict(first) == "landed", stand.gate("log", str(first)).stdout
    good = stand.submit("good", {"b.txt": "fine"})
    bad = stand.submit("bad", {"c.txt": "bad"})
    stand.settle()
    assert stand.verdict(good) == "landed", stand.gate("log", str(good)).stdout
    assert stand.verdict(bad) == "refused"
    output = Path(stand.gate_json("log", str(bad), program)["log"]).read_text()
    assert "c.txt" in output
    assert "old.txt" not in output
    # Locally there is no trunk to compare with: all files, and no gate check in a gate check.
    stand.dev.git("checkout", "-q", "origin/main")
    words = [str(PROGRAMS / "gate"), "check", "--stage", "merge"]
    done = subprocess.run(words, cwd=stand.dev.path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "  exit code 1: failed hooks: no bad word\n" in done.stdout
    logs = [log.read_text() for log in (stand.dev.path / ".git/gate/logs").iterdir()]
    assert any("old.txt" in log for log in logs)
    assert len(logs) == 1


@pytest.mark.parametrize("program", ["pre-commit", "prek"])
def test_a_program_that_is_not_installed_is_no_hook_that_failed(work: Path, program: str) -> None:
    if program == "prek":
        (work / ".pre-commit-config.yaml").write_text("minimum_prek_version: '0.2.0'\n" + LOCAL)
    assert init(work).returncode == 0
    subprocess.run(["git", "add", "-A"], cwd=work, check=True)
    words = [str(PROGRAMS / "gate"), "check", "--stage", "merge", "--only", program]
    env = {**os.environ, "PATH": os.defpath}
    done = subprocess.run(words, cwd=work, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stdout
    assert f"the program '{program}' cannot be started on this machine" in done.stdout
