"""The tables of the hook benchmarks: a tool that is not there is said to be missing, and an aim is judged by its rounds."""

import sys
from pathlib import Path

import pytest

from benchmarks import hooks, hooks_compare

# As the scripts find it themselves: the classes have to be the same.
hook_tools = sys.modules["hook_tools"]
NOTHING = {name: hook_tools.Missing(name, "could not be installed: no index") for name in ("prek", "gate")}


def test_a_missing_tool_is_said_in_every_cell(tmp_path: Path) -> None:
    table = hooks_compare.play(tmp_path, NOTHING, hooks_compare.SCENARIOS[:2])
    assert [set(row.values()) for row in table.values()] == [{"could not be installed: no index"}] * 2
    page = hooks_compare.as_markdown(table, list(NOTHING), {})
    assert page.splitlines()[0] == "| | prek | gate |"
    assert page.count("could not be installed") == 4


def test_a_package_that_cannot_be_got_is_missing_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> Path:
        raise OSError("no index")

    monkeypatch.setattr(hook_tools, "make_environment", refuse)
    monkeypatch.setattr(hook_tools, "make_gate", refuse)
    tools = hook_tools.get_tools(tmp_path)
    assert len(tools) == 7
    assert {tool.why for tool in tools.values()} == {"could not be installed: no index"}


def test_aims_of_what_was_not_measured_say_so_and_the_others_are_judged_by_the_median() -> None:
    rounds = [{"a": hook_tools.Done(0, "", cpu, 10.0), "b": hook_tools.Done(0, "", 10.0, 10.0)} for cpu in (10, 11, 90)]
    aim = hooks.Aim("a by b", 1.0, ("a", "b"), lambda one, other: one / other)
    assert hooks._aim_line(aim, rounds) == "| a by b | ≤ 1 | 1.10 | **missed** | 1.00 | met |"
    gone = hooks.Aim("a by c", 1.0, ("a", "c"), lambda one, other: one / other)
    assert hooks._aim_line(gone, rounds) == "| a by c | ≤ 1 |  | not measured |  | not measured |"


def test_every_scenario_has_a_title_of_its_own() -> None:
    titles = [hooks_compare.title(scenario) for scenario in hooks_compare.SCENARIOS]
    assert len(set(titles)) == len(titles)
    assert all(title and "\n" not in title for title in titles)


PAGE = Path(__file__).parents[2] / "docs/hooks.md"


def test_the_page_has_the_rows_and_columns_that_the_comparison_makes() -> None:
    """Of the rows as well: one that is new, renamed or gone asks for another run, and not for a touch by hand."""
    names = ["pre-commit", "prek", "lefthook", "gate", "gate in prek", "gate in pre-commit"]
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: len(hooks_compare.SCENARIOS) + 2]]
    assert [cell.rstrip("0123456789. ") for cell in table[0][1:]] == names
    assert [row[0] for row in table[2:]] == [hooks_compare.title(scenario) for scenario in hooks_compare.SCENARIOS]
    assert all(len(row) == len(names) + 1 and all(row) for row in table[2:])
    assert lines[len(table) :] == []


def test_a_new_table_takes_the_place_of_the_old_one_and_leaves_the_words() -> None:
    page = "# Title\n\n| | old |\n|---|---|\n| row | cell |\n\nWords.\n"
    assert hooks_compare.with_table(page, "| | new |\n|---|---|") == "# Title\n\n| | new |\n|---|---|\n\nWords.\n"
