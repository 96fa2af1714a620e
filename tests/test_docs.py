"""What the documentation promises is there, and what is there is documented."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gate.cli import _parser
from hooks.main import LOCAL_COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in _parser()[0]._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices)


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_command_and_each_of_its_options_is_on_the_reference_page(name: str) -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    assert f"`gate {name}" in page
    options = {word for action in commands()[name]._actions for word in action.option_strings if word.startswith("--")}
    for option in options - {"--help", "--json", "--repo"}:
        assert option in page, f"gate {name} {option}"
    assert "--json" in page
    assert "--repo" in page


@pytest.mark.parametrize("name", sorted(commands().keys() - {"serve"}))  # which goes on, and logs
def test_every_command_that_prints_has_json(name: str) -> None:
    assert "--json" in commands()[name].format_help()


@pytest.mark.parametrize("name", sorted(LOCAL_COMMANDS))
def test_a_local_command_and_each_of_its_options_is_where_people_look(name: str) -> None:
    gate = Path(sys.executable).with_name("gate")
    told = subprocess.run([gate, name, "--help"], capture_output=True, text=True, check=True).stdout
    commands_page, hooks_page = ((ROOT / f"docs/reference/{page}.md").read_text() for page in ("commands", "hooks"))
    row = next(line for line in commands_page.split("\n") if line.startswith("| `gate ") and f"`gate {name}" in line)
    usage = [line for line in hooks_page.split("\n") if line.startswith("`gate ") and f"`gate {name}" in line]
    assert usage
    for option in {*re.findall(r"--[a-z][a-z-]+", told)} - {"--help"}:
        assert option in row, f"gate {name} {option} in commands.md"
        assert option in "".join(usage), f"gate {name} {option} in hooks.md"


def test_the_map_names_every_module() -> None:
    told = (ROOT / "ARCHITECTURE.md").read_text()
    missing = [
        str(path.relative_to(ROOT))
        for room in ("hooks", "gate", "ci")
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py" and "migrations" not in path.parts and path.stem not in told
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    for link in links:
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.split("#")[0]).exists(), link


def test_each_decision_is_listed() -> None:
    listed = (ROOT / "docs/decisions/README.md").read_text()
    for record in (ROOT / "docs/decisions").glob("0*.md"):
        assert f"({record.name})" in listed
