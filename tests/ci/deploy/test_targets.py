"""Where the list of targets comes from, and which lists are refused."""

from pathlib import Path

import pytest

from ci.deploy import targets as module
from ci.deploy.model import Environment
from ci.deploy.targets import find_targets
from ci.errors import Unavailable, UserError
from ci.git import PlainGit
from ci.model import Sha
from fakes.repositories import Repository

HOSTS = b'# the old ones\nweb1\n\n  web2 \r\n-rf\nit\'s "one" $(name)\nb\xc3\xbccher\n'


def find(repository: Repository, tree: Path, **settings: object) -> tuple[str, ...]:
    environment = Environment("prod", "deploy", **settings)  # type: ignore[arg-type]
    return find_targets(PlainGit(repository.git_dir), environment, Sha(repository.head()), tree)


def test_targets_of_the_configuration(repository: Repository, tmp_path: Path) -> None:
    assert find(repository, tmp_path, targets=("b", "a")) == ("b", "a")


def test_targets_of_a_file_are_those_of_the_commit_and_not_of_the_folder(repository: Repository, tmp_path: Path) -> None:
    repository.commit("hosts", {"deploy/hosts": HOSTS})
    repository.write("deploy/hosts", "other\n")
    found = find(repository, tmp_path, targets_file="deploy/hosts")
    assert found == ("web1", "web2", "-rf", 'it\'s "one" $(name)', "bücher")


def test_targets_of_a_command_run_in_the_tree(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("x\n#y\n")
    assert find(repository, tmp_path, targets_command="cat hosts; echo {environment}") == ("x", "#y", "prod")
    assert find(repository, tmp_path, targets_command=("cat", "hosts")) == ("x", "#y")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"targets": ("a", "b", "a")}, "names the target 'a' twice", id="a name twice"),
        pytest.param({"targets": ("a", "")}, "empty target name", id="an empty name"),
        pytest.param({"targets": ("a", "b\x1b[2J")}, "control character", id="a name that would paint the terminal"),
        pytest.param({"targets": ("a\nb",)}, "control character", id="a name of two lines"),
        pytest.param({}, "names no targets", id="nothing configured"),
        pytest.param({"targets_file": "../../etc/passwd"}, "leaves the repository", id="a path with dots"),
        pytest.param({"targets_file": "/etc/passwd"}, "leaves the repository", id="an absolute path"),
        pytest.param({"targets_file": "gone"}, "gone is not a file of commit", id="a file that is not there"),
        pytest.param({"targets_file": "src"}, "src is not a file of commit", id="a folder"),
        pytest.param({"targets_file": "empty"}, "names no target", id="an empty file"),
        pytest.param({"targets_file": "latin"}, "not UTF-8", id="a file that is not text"),
        pytest.param({"targets_file": "odd"}, "control character", id="a file with a form feed in a name"),
        pytest.param({"targets_command": "true"}, "names no target", id="a command that prints nothing"),
    ],
)
def test_what_is_no_list_of_targets(repository: Repository, tmp_path: Path, settings: dict[str, object], said: str) -> None:
    repository.commit("files", {"empty": "# none\n", "latin": b"b\xfccher\n", "odd": "a\x0cb\n"})
    with pytest.raises(UserError, match="prod") as refused:
        find(repository, tmp_path, **settings)
    assert said in str(refused.value)


def test_a_link_in_the_tree_is_not_followed_out_of_it(repository: Repository, tmp_path: Path) -> None:
    (repository.path / "hosts").symlink_to("/etc/passwd")
    repository.commit("link")
    assert find(repository, tmp_path, targets_file="hosts") == ("/etc/passwd",), (
        "the link's own text, not the file behind it"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param("echo no route >&2; exit 3", "exit code 3: no route", id="it fails"),
        pytest.param(("./not-there",), "cannot be started", id="it is not there"),
        pytest.param("cat /dev/zero >/dev/null; true", "did not end", id="it does not end"),
    ],
)
def test_a_command_that_may_work_later(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str | tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.3)
    with pytest.raises(Unavailable) as failed:
        find(repository, tmp_path, targets_command=command)
    assert said in str(failed.value)
