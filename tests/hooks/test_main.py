"""The front door: which command runs, and what each kind of failure becomes."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hooks.main
from ci import VERSION
from ci.errors import Unavailable, UserError
from fakes.repositories import git_env
from gate.cli import _parser
from hooks.main import HELP, LOCAL_COMMANDS, run_command

GATE = Path(sys.executable).with_name("gate")
PROJECT = Path(__file__).parents[2]


def gate(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GATE, *words], cwd=cwd, env=git_env(), capture_output=True, text=True, check=False)


def test_the_version_is_that_of_the_package() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert gate("--version").stdout == f"gate {VERSION}\n"


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_is_a_result(word: str) -> None:
    done = gate(word)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELP, "")


@pytest.mark.parametrize("command", LOCAL_COMMANDS)
def test_help_of_each_command_is_a_result(command: str, tmp_path: Path) -> None:
    done = gate(command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: gate {command} ")


def test_no_command_at_all_is_a_mistake() -> None:
    done = gate()
    assert (done.returncode, done.stdout, done.stderr) == (2, "", HELP)


def fail(failure: BaseException) -> str:
    """A command, as module:function, that fails in this way."""

    def command(words: list[str]) -> int:
        raise failure

    vars(sys.modules[__name__])["failing"] = command
    sys.modules["failing_command"] = sys.modules[__name__]
    return "failing_command:failing"


@pytest.fixture(autouse=True)
def _no_trace() -> object:
    yield
    sys.modules.pop("failing_command", None)


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (UserError("your input"), 2, "gate: your input\n"),
        (Unavailable("the outside"), 4, "gate: the outside\n"),
        (OSError(28, "No space left on device", "x"), 4, "No space left on device: 'x'"),
        (PermissionError(13, "Permission denied", "x"), 4, "Permission denied: 'x'"),
        (KeyboardInterrupt(), 130, "gate: interrupted\n"),
    ],
)
def test_a_failure_becomes_a_sentence_and_a_code(
    failure: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(fail(failure), []) == code
    assert said in capsys.readouterr().err


def test_a_bug_leaves_a_report_that_can_be_pasted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(fail(ZeroDivisionError("oh\udcff")), []) == 3
    (report,) = tmp_path.iterdir()
    said = capsys.readouterr().err
    assert "a bug in gate itself" in said
    assert str(report) in said
    assert "Traceback" not in said
    assert "ZeroDivisionError: oh\\udcff" in report.read_text()


def test_a_bug_on_a_full_disk_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    assert run_command(fail(ZeroDivisionError("oh")), []) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_bug() -> None:
    shell = f"'{GATE}' --help | true; echo ${{PIPESTATUS[0]}}"
    for _ in range(5):  # whether the pipe is closed before the words are written is chance
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
        assert done.stdout.strip() in ("0", "141")
        assert done.stderr == ""
    closed = f"exec {{w}}> >(:); wait $!; '{GATE}' --help >&$w; echo $?"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_folder_called_hooks_is_not_ours(tmp_path: Path) -> None:
    """A user's repository may hold packages named like ours."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "__init__.py").write_text("raise SystemExit('theirs')\n")
    assert gate("--version", cwd=tmp_path).returncode == 0


def test_every_command_is_in_the_help() -> None:
    """The help is a constant, because building it from the commands would import them all."""
    _, elsewhere = _parser()
    assert "status" in elsewhere
    for command in [*hooks.main.LOCAL_COMMANDS, *elsewhere]:
        assert f"\n  {command} " in HELP
