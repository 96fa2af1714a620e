"""A project that is installed in place: what checks import is the work tree's, whatever tree they run over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env
from hooks.astray import leads

GATE = Path(sys.executable).with_name("gate")
PACKAGES = ".venv/lib/python3.11/site-packages"
READS = "sh -c 'grep -q 3 \\\"$(cat {0})/shop.py\\\"'"


@pytest.fixture
def project(repository: Repository) -> Repository:
    """A check that finds src by what ``pip install -e`` writes."""
    installed = repository.path / PACKAGES / "_shop.pth"
    repository.write(f"{PACKAGES}/_shop.pth", f"{repository.path}/src\n")
    repository.write(".gitignore", ".venv\nnode_modules\n")
    rule = f'[[check]]\nname = "total"\nstage = "pre-commit"\ninputs = ["src/"]\ncommand = "{READS.format(installed)}"\n'
    repository.commit("Rules", {"gate.toml": f'{rule}[hooks]\nlink = [".venv"]\n', "src/shop.py": "3\n"})
    return repository


def check(project: Repository, **env: str) -> subprocess.CompletedProcess[str]:
    run = [GATE, "check", "--all-files"]
    return subprocess.run(run, cwd=project.path, env=git_env(**env), capture_output=True, text=True, check=False)


def test_what_was_found_of_a_work_tree_that_is_otherwise_is_not_kept(project: Repository) -> None:
    project.write("src/shop.py", "4\n")
    project.git("add", "src")
    project.write("src/shop.py", "3\n")  # which is what the check sees
    done = check(project)
    assert done.returncode == 0
    assert (
        f"gate: checks import from the work tree: src (by {PACKAGES}/_shop.pth); it has src/shop.py otherwise" in done.stderr
    )
    project.git("checkout", "-q", "src")
    done = check(project)
    assert (done.returncode, done.stderr) == (1, "")


def test_what_was_found_of_a_work_tree_that_is_the_same_there_is_kept(project: Repository) -> None:
    project.write("notes", "elsewhere\n")
    project.write("gate.toml", (project.path / "gate.toml").read_text() + "\n# not staged\n")
    assert "total  green " in check(project).stdout
    assert "total  cached" in check(project).stdout


def test_a_file_that_is_new_there_counts(project: Repository) -> None:
    project.write("src/new.py", "\n")
    assert "it has src/new.py otherwise" in check(project).stderr
    assert "total  green " in check(project).stdout


def test_a_check_that_says_where_to_import_from_is_not_led_astray(project: Repository) -> None:
    rules = (project.path / "gate.toml").read_text().replace("[hooks]", 'env = {PYTHONPATH = "src"}\n[hooks]')
    project.write("gate.toml", rules)
    project.git("add", "gate.toml")
    project.write("src/new.py", "\n")
    assert check(project).stderr == ""


def test_an_environment_on_path_leads_astray_as_a_linked_one_does(project: Repository) -> None:
    rules = (project.path / "gate.toml").read_text().replace('link = [".venv"]', "link = []")
    project.write("gate.toml", rules)
    project.git("add", "gate.toml")
    project.write(".venv/bin/python3", "")
    project.write("src/new.py", "\n")
    path = f"{project.path}/.venv/bin:{git_env()['PATH']}"
    assert "checks import from the work tree: src " in check(project, PATH=path).stderr
    assert check(project, GATE_X="1").stderr == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("__editable___shop_finder.py", "MAPPING: dict[str, str] = {{'shop': '{top}/src/shop'}}\n"),
        ("__editable__.shop.pth", "{top}/src\n"),
        ("of-all.pth", "import site; site.addsitedir('{top}')\n"),
    ],
)
def test_what_each_tool_writes_is_understood(tmp_path: Path, name: str, content: str) -> None:
    packages = tmp_path / PACKAGES
    packages.mkdir(parents=True)
    (tmp_path / "src/shop").mkdir(parents=True)
    (packages / name).write_text(content.format(top=tmp_path))
    (packages / "other.pth").write_text(f"{tmp_path}/.venv/lib/more\n{tmp_path}-other/src\n/usr/share\n")
    (found,) = leads(tmp_path, [".venv"])
    assert found in ("src", "src/shop", ".")


def test_workspaces_of_npm_are_links(tmp_path: Path) -> None:
    for folder in ("packages/lib", "packages/kit", "node_modules/@our", "node_modules/theirs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "node_modules/lib").symlink_to("../packages/lib")
    (tmp_path / "node_modules/@our/kit").symlink_to("../../packages/kit")
    (tmp_path / "node_modules/alias").symlink_to("theirs")
    assert leads(tmp_path, ["node_modules"]) == {"packages/lib": "node_modules/lib", "packages/kit": "node_modules/@our/kit"}


def test_links_that_lead_to_themselves_and_odd_files_lead_nowhere(tmp_path: Path) -> None:
    packages = tmp_path / PACKAGES
    packages.mkdir(parents=True)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/a").symlink_to("b")
    (tmp_path / "node_modules/b").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    (packages / "loop.pth").write_text(f"{tmp_path}/loop\n")
    (packages / "long.pth").write_text(f"{tmp_path}/{'x' * 300}\n")
    (packages / "comment.pth").write_text(f"# {tmp_path}/{PACKAGES}/../../../..\n/mnt{tmp_path}/node_modules\n")
    os.mkfifo(packages / "pipe.pth")
    (tmp_path / "env/lib/python3.11").mkdir(parents=True)
    (tmp_path / "env/lib/python3.11/site-packages").write_text("no folder\n")
    assert leads(tmp_path, [".venv", "node_modules", "env"]) == {}


def test_what_nothing_can_import_is_nobodys_concern(project: Repository) -> None:
    project.write("src/notes.md", "new\n")
    assert check(project).stderr == ""


def test_nothing_installed_leads_nowhere(tmp_path: Path) -> None:
    assert leads(tmp_path, ["not there"]) == {}
