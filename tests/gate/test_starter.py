"""gate init in a working repository: what it finds, what it writes, and what it leaves alone."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ci.errors import Unavailable, UserError
from ci.model import Stage
from fakes.repositories import Repository
from gate.config import Config, parse, warnings
from gate.starter import HOOK_IDS, detect, hooks_config, init_work_repository, starter_toml

PROGRAMS = Path(sys.executable).parent
PROJECT = Path(__file__).parents[2]

PACKAGE = json.dumps({"scripts": {"test": "vitest run"}})
NPM = {"package.json": PACKAGE, "package-lock.json": ""}
CARGO = '[package]\nname = "a"\n'
FOLDERS: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing": ({}, []),
    "pytest in pyproject": ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ["pytest"]),
    "pytest as a dependency": ({"pyproject.toml": '[dependency-groups]\ndev = ["pytest>=9"]\n'}, ["pytest"]),
    "pyproject without pytest": ({"pyproject.toml": "[project]\n"}, []),
    "pytest.ini": ({"pytest.ini": ""}, ["pytest"]),
    "setup.cfg": ({"setup.cfg": "[tool:pytest]\n"}, ["pytest"]),
    "another setup.cfg": ({"setup.cfg": "[metadata]\n"}, []),
    "a folder of tests": ({"tests/unit/test_a.py": ""}, ["pytest"]),
    "a folder of other tests": ({"tests/a.c": ""}, []),
    "npm": ({"package.json": PACKAGE}, ["npm-test"]),
    "npm with nothing to test": ({"package.json": '{"scripts": {"test": "echo no test specified; exit 1"}}'}, []),
    "npm without scripts": ({"package.json": "{}"}, []),
    "a broken package.json": ({"package.json": "{"}, []),
    "a strange package.json": ({"package.json": '{"scripts": ["test"]}'}, []),
    "a deep package.json": ({"package.json": "[" * 100_000}, []),
    "cargo": ({"Cargo.toml": CARGO}, ["cargo-test"]),
    "a broken Cargo.toml": ({"Cargo.toml": "["}, []),
    "go": ({"go.mod": "module a\n"}, ["go-test"]),
    "make": ({"Makefile": "all:\n\ntest: all\n\ttrue\n"}, ["make-test"]),
    "make without a test target": ({"Makefile": "all:\ntest := 1\n.PHONY: test\ntested:\n"}, []),
    "several": (
        {"go.mod": "", "go.sum": "", **NPM, "Cargo.toml": CARGO, "Cargo.lock": ""},
        ["npm-test", "cargo-test", "go-test"],
    ),
    "make beside another": ({"Makefile": "test:\n\tpytest\n", "pytest.ini": ""}, ["pytest", "make-test"]),
}


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def program(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return Repository.create(tmp_path / "work").path


@pytest.mark.parametrize(("files", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_finds_what_runs_tests(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    assert [found.name for found in detect(fill(tmp_path, files))] == expected


@pytest.mark.parametrize(("files", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_the_starter_reads_without_problem_or_warning(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    text = starter_toml(fill(tmp_path, files))
    config = parse(text.encode())
    assert isinstance(config, Config), config
    assert warnings(config) == ()
    names = [check.name for check in config.checks]
    assert names == [*(name for name in expected if len(expected) == 1 or name != "make-test"), "no-conflict-markers"]


@pytest.mark.parametrize("files", [files for files, _ in FOLDERS.values()], ids=FOLDERS)
def test_every_line_that_is_offered_may_be_used(tmp_path: Path, files: dict[str, str]) -> None:
    text = re.sub(r"^#(?=\S)", "", starter_toml(fill(tmp_path, files)), flags=re.MULTILINE)
    config = parse(text.encode())
    assert isinstance(config, Config), config
    assert warnings(config) == ()
    assert config.environments


def test_a_test_target_of_make_is_offered_but_not_run_twice(tmp_path: Path) -> None:
    text = starter_toml(fill(tmp_path, {"Makefile": "test:\n", "pytest.ini": ""}))
    assert '#command = "make test"' in text


def test_files_that_are_not_text_show_nothing(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_bytes(b"\xff")
    (tmp_path / "Makefile").mkdir()
    (tmp_path / "pytest.ini").symlink_to("nowhere")
    assert detect(tmp_path) == ()


def test_the_harmless_check_finds_conflict_markers_and_nothing_else(tmp_path: Path) -> None:
    config = parse(starter_toml(tmp_path).encode())
    assert isinstance(config, Config)
    (check,) = config.checks
    assert check.stage is Stage.PRE_COMMIT
    assert isinstance(check.command, str)
    fill(tmp_path, {"a b.txt": "=======\n<<<<<< six\n", "conflict 'quoted'": "x\n<<<<<<< ours\n"})

    command = check.command.replace("{files}", '"$@"')

    def run(*files: str) -> int:
        return program(tmp_path, "/bin/sh", "-c", command, "sh", *files).returncode

    assert run() == 0
    assert run("a b.txt") == 0
    assert run("a b.txt", "conflict 'quoted'") == 1


# --- what gate init writes -----------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_fresh_repository_gets_both_files(work: Path) -> None:
    lines = init_work_repository(fill(work, {"pytest.ini": ""}))
    assert lines == [
        "wrote gate.toml: found pytest (from pytest.ini)",
        "wrote .pre-commit-config.yaml: hooks gate-check, gate-message, gate-push, gate-background",
        "next: read gate.toml, then git add gate.toml .pre-commit-config.yaml and commit",
        "next, in each clone: gate install",
        "  or, for whoever has pre-commit: pre-commit install (prek takes the same words)",
        "next, on the server: gate init REPO.git, then gate serve REPO.git",
    ]
    assert (work / "gate.toml").read_text() == starter_toml(work)


def test_the_second_time_changes_nothing_and_says_so(work: Path) -> None:
    init_work_repository(work)
    before = files_of(work)
    assert init_work_repository(work) == [
        "gate.toml is there already: left alone",
        ".pre-commit-config.yaml has the hooks already: left alone",
    ]
    assert files_of(work) == before


def test_a_file_of_somebody_else_is_never_written_to(work: Path) -> None:
    fill(work, {".pre-commit-config.yaml": "repos: []\n# id: gate-check\n", "gate.toml": "[run]\nworkers = 0\n"})
    before = files_of(work)
    lines = init_work_repository(work)
    assert files_of(work) == before
    assert lines[0] == "gate.toml is there already: left alone. It has 1 problem: see gate config check"
    assert lines[1].startswith(".pre-commit-config.yaml was not written by gate init: left alone.")
    assert lines[-1] == (
        "then run: pre-commit install --hook-type pre-commit --hook-type commit-msg --hook-type pre-push "
        "--hook-type post-commit --hook-type post-rewrite"
    )
    added = "\n".join(lines[2:-1])
    assert added == hooks_config().partition("repos:\n")[2].rstrip()


def test_only_the_hooks_that_are_missing_are_named(work: Path) -> None:
    theirs = "repos:\n- repo: x\n  hooks: [{id: gate-check}, {'id': \"gate-push\"}]\n  - id: gate-check\n"
    fill(work, {".pre-commit-config.yaml": theirs})
    lines = init_work_repository(work)
    assert not any("id: gate-check" in line for line in lines)
    assert any("id: gate-message" in line for line in lines)


def test_dangling_links_are_left_alone(work: Path) -> None:
    (work / "gate.toml").symlink_to("elsewhere")
    (work / ".pre-commit-config.yaml").symlink_to("elsewhere")
    lines = init_work_repository(work)
    assert lines[0] == "gate.toml is there already: left alone"
    assert not (work / "elsewhere").exists()


def test_a_pipe_of_that_name_holds_nobody_up(work: Path) -> None:
    os.mkfifo(work / "gate.toml")
    assert init_work_repository(work)[0] == "gate.toml is there already: left alone"


@pytest.mark.parametrize("name", ["prek.toml", ".pre-commit-config.yml"])
def test_a_file_that_only_prek_reads_is_not_hidden_by_one_of_ours(work: Path, name: str) -> None:
    fill(work, {name: ""})
    lines = init_work_repository(work)
    assert not (work / ".pre-commit-config.yaml").exists()
    assert any(line.startswith(f"{name} was not written by gate init") for line in lines)
    assert any(line.startswith("then run: prek install --hook-type pre-commit ") for line in lines)
    assert lines[-3].endswith("git add gate.toml and commit")


def test_outside_a_work_tree_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the top of a Git work tree"):
        init_work_repository(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Unavailable, match=r"gate\.toml cannot be written: Permission denied"):
        init_work_repository(work)


# --- the runners' word ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["pre-commit", "prek"])
def test_the_hooks_are_valid_for_both_runners(work: Path, runner: str) -> None:
    init_work_repository(work)
    done = program(work, PROGRAMS / runner, "validate-config", ".pre-commit-config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_the_lines_for_prek_toml_are_valid(work: Path) -> None:
    fill(work, {"prek.toml": ""})
    lines = init_work_repository(work)
    end = next(position for position, line in enumerate(lines) if line.startswith("then run"))
    text = "\n".join(lines[lines.index("[[repos]]") : end])
    hooks = tomllib.loads(text)["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == list(HOOK_IDS)
    assert [hook["stages"] for hook in hooks] == [
        ["pre-commit"],
        ["commit-msg"],
        ["pre-push"],
        ["post-commit", "post-rewrite"],
    ]
    (work / "prek.toml").write_text(text)
    done = program(work, PROGRAMS / "prek", "validate-config", "prek.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_the_hooks_are_those_that_the_project_publishes() -> None:
    published = (PROJECT / ".pre-commit-hooks.yaml").read_text()

    def fields(text: str) -> dict[str, dict[str, str]]:
        """By hook, the fields that make a difference to when and how it runs."""
        compared = ("entry", "args", "stages", "always_run", "pass_filenames", "require_serial", "verbose")
        hooks: dict[str, dict[str, str]] = {}
        for line in text.splitlines():
            if found := re.match(r"\s*(- )?(\w+): ([^#]*)", line):
                if found[2] == "id":
                    hook = hooks.setdefault(found[3].strip(), {})
                elif found[2] in compared and hooks:
                    hook[found[2]] = found[3].strip()
        return hooks

    # gate-hygiene asks for names of checks, so that only its user can write it.
    assert fields(hooks_config()) == {name: each for name, each in fields(published).items() if name != "gate-hygiene"}


def test_the_installed_hook_stops_a_commit_with_conflict_markers(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_work_repository(work)
    monkeypatch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
    kinds = [f"--hook-type={kind}" for kind in ("pre-commit", "commit-msg", "pre-push")]
    assert program(work, PROGRAMS / "prek", "install", *kinds).returncode == 0
    repository = Repository(work)
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "begin")
    repository.write("a.txt", "<<<<<<< ours\n")
    repository.git("add", "-A")
    refused = repository.run("commit", "-q", "-m", "conflict")
    assert refused.returncode == 1
    assert b"no-conflict-markers" in refused.stdout + refused.stderr
