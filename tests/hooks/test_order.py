"""Which checks run at a commit, and in which order: tables of what is expected, and rules for whatever may be expected."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.order import Expected, Past, Waiting, expected, order


def waiting(name: str, chance: float, duration_s: float | None, *needs: str) -> Waiting:
    return Waiting(name, Expected(chance, duration_s), needs)


# --- what is expected ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("past", "chance", "duration_s"),
    [
        ([], 0.1, None),
        ([Past(True, 3.0)], 0.2 / 3, 3.0),
        ([Past(False, 3.0)], 1.2 / 3, 3.0),
        ([Past(True, 1.0), Past(False, 9.0), Past(True, 2.0)], 1.2 / 5, 2.0),  # one that hung says little of the next
        ([Past(False, 1.0)] * 1000, 1000.2 / 1002, 1.0),
    ],
)
def test_few_runs_alter_what_is_expected_little_and_many_much(
    past: Sequence[Past], chance: float, duration_s: float | None
) -> None:
    assert expected(past) == (pytest.approx(chance), duration_s)


def test_what_was_made_quicker_soon_counts_as_that() -> None:
    slow, quick = Past(is_green=True, duration_s=60.0), Past(is_green=True, duration_s=1.0)
    assert expected([slow] * 100 + [quick] * 2).duration_s == 60.0
    assert expected([slow] * 100 + [quick] * 3).duration_s == 1.0


# --- the order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "run"),
    [
        pytest.param([], [], id="nothing is nothing"),
        pytest.param([waiting("slow", 0.1, 9), waiting("fast", 0.1, 1)], ["fast", "slow"], id="the shorter first"),
        pytest.param([waiting("good", 0.1, 5), waiting("bad", 0.5, 5)], ["bad", "good"], id="the likelier to fail first"),
        pytest.param([waiting("a", 0.1, 5), waiting("b", 0.2, 11)], ["a", "b"], id="by chance per second"),
        pytest.param([waiting("b", 0.1, 5), waiting("a", 0.1, 5)], ["b", "a"], id="equals as they were given"),
        pytest.param([waiting("a", 0.1, 0.5), waiting("new", 0.1, None), waiting("b", 0.1, 2)], ["a", "new", "b"], id="new"),
        pytest.param([waiting("a", 0.1, 0.0), waiting("b", 0.2, 0.0)], ["b", "a"], id="what takes no time"),
        pytest.param([waiting("test", 0.9, 1, "build"), waiting("build", 0.0, 1)], ["build", "test"], id="a need first"),
        pytest.param([waiting("test", 0.9, 1, "known green"), waiting("a", 0.1, 1)], ["test", "a"], id="a need that is met"),
        pytest.param(
            [waiting("other", 0.2, 1), waiting("build", 0.0, 1), waiting("test", 0.9, 1, "build")],
            ["build", "test", "other"],
            id="a need is as urgent as what waits for it",
        ),
        pytest.param(
            [waiting("other", 0.5, 1), waiting("build", 0.0, 9), waiting("test", 0.9, 1, "build")],
            ["other", "build", "test"],
            id="and takes its time",
        ),
        pytest.param(
            [waiting("x", 0.2, 1), waiting("a", 0.0, 1), waiting("b", 0.0, 1, "a"), waiting("c", 0.9, 1, "b")],
            ["a", "b", "c", "x"],
            id="also for what waits at the end of a row",
        ),
        pytest.param(
            [waiting("a", 0.1, 1, "b"), waiting("b", 0.1, 1, "a"), waiting("c", 0.0, 9)], ["c", "a", "b"], id="circle"
        ),
    ],
)
def test_what_runs_first(checks: Sequence[Waiting], run: Sequence[str]) -> None:
    assert order(checks, cores=1) == (tuple(run), {})


@pytest.mark.parametrize(
    ("checks", "cores", "run", "left"),
    [
        pytest.param([waiting("a", 0.1, 10)], 1, ["a"], {}, id="what just fits is run"),
        pytest.param([waiting("a", 0.1, 10.5)], 1, [], {"a": 10.5}, id="what does not is left"),
        pytest.param([waiting("a", 0.1, None), waiting("b", 0.1, 10)], 1, ["a", "b"], {}, id="what is not known is run"),
        pytest.param(
            [waiting("a", 0.9, 6), waiting("b", 0.5, 6), waiting("c", 0.1, 4)],
            1,
            ["a", "c"],
            {"b": 12},
            id="what is left takes no time from the others",
        ),
        pytest.param([waiting("a", 0.9, 6), waiting("b", 0.5, 6)], 2, ["a", "b"], {}, id="two cores hold more"),
        pytest.param(
            [waiting("build", 0.1, 20), waiting("test", 0.1, None, "build")],
            1,
            [],
            {"build": 20, "test": 20},
            id="what needs something that is left is left",
        ),
        pytest.param(
            [waiting("build", 0.1, 6), waiting("test", 0.1, 6, "build")],
            2,
            ["build"],
            {"test": 12},
            id="what waits for a need ends later on any core",
        ),
    ],
)
def test_what_the_budget_leaves(checks: Sequence[Waiting], cores: int, run: Sequence[str], left: dict[str, float]) -> None:
    assert order(checks, cores, budget_s=10) == (tuple(run), left)


# --- rules --------------------------------------------------------------------------------------------------------------

_chances = st.floats(0.01, 0.99)
_durations = st.floats(0.01, 100)


@st.composite
def _rows(draw: st.DrawFn, most: int = 8) -> list[Waiting]:
    """Checks in any order, each with needs among others that do not need it."""
    names = [f"c{number}" for number in range(draw(st.integers(0, most)))]
    made = [
        waiting(name, draw(_chances), draw(st.none() | _durations), *draw(st.sets(st.sampled_from(names[:at] or ["gone"]))))
        for at, name in enumerate(names)
    ]
    return draw(st.permutations(made))


def seconds_to_a_failure(row: Sequence[Waiting]) -> float:
    """Expected, until the first check fails or all were green; one after the other, each failing by itself."""
    seconds, chance_of_green = 0.0, 1.0
    for each in row:
        seconds += chance_of_green * (each.expected.duration_s or 0.0)
        chance_of_green *= 1 - each.expected.chance
    return seconds


@settings(deadline=None)
@given(st.lists(st.tuples(_chances, _durations), max_size=5))
def test_no_other_order_finds_a_failure_sooner(facts: Sequence[tuple[float, float]]) -> None:
    row = [waiting(f"c{number}", chance, duration_s) for number, (chance, duration_s) in enumerate(facts)]
    by_name = {each.name: each for each in row}
    found = seconds_to_a_failure([by_name[name] for name in order(row, cores=1).run])
    assert found <= min(map(seconds_to_a_failure, permutations(row))) * (1 + 1e-9)


@settings(deadline=None)
@given(_rows(), st.integers(1, 4), st.floats(0, 200))
def test_every_check_is_run_or_left_and_never_before_what_it_needs(
    row: Sequence[Waiting], cores: int, budget_s: float
) -> None:
    found = order(row, cores, budget_s)
    assert sorted([*found.run, *found.left]) == sorted(each.name for each in row)
    needs = {each.name: {need for need in each.needs if need != "gone"} for each in row}
    for position, name in enumerate(found.run):
        assert needs[name] <= {*found.run[:position]}
    for each in row:
        assert each.name not in found.left or needs[each.name] & {*found.left} or each.expected.duration_s is not None


@settings(deadline=None)
@given(_rows(), st.integers(1, 4), st.floats(0.1, 200))
def test_all_that_runs_ends_within_the_budget_and_nothing_that_is_left_would(
    row: Sequence[Waiting], cores: int, budget_s: float
) -> None:
    """Started in this order, each as soon as a core is free and its needs have ended. What is new takes no time here."""
    found = order(row, cores, budget_s)
    by_name = {each.name: each for each in row}
    free_at, ends = [0.0] * cores, dict[str, float]()

    def end(name: str) -> float:
        each = by_name[name]
        return max(min(free_at), *(ends.get(need, 0.0) for need in each.needs), 0.0) + (each.expected.duration_s or 0.0)

    for name in found.run:
        ends[name] = end(name)
        free_at[free_at.index(min(free_at))] = ends[name]
        assert ends[name] <= budget_s
    for name in found.left:
        assert {*by_name[name].needs} & {*found.left} or end(name) > budget_s


@settings(deadline=None)
@given(_rows())
def test_without_a_budget_nothing_is_left(row: Sequence[Waiting]) -> None:
    assert order(row, cores=2).left == {}
