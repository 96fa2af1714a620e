"""What a run tests and what comes of it, worked out by hand on a few changes."""

from collections.abc import Iterable

import pytest

from ci.model import Check, CheckName, InputKey, Sha
from gate.model import Candidate, Change, ChangeId, Forecast
from gate.simulate.by_change import ByChange
from gate.simulate.by_content import ByContent
from gate.simulate.draws import BEGIN, Arrival, Fault, suites
from gate.simulate.workloads import PRESETS, Workload

TRUNK = Sha("trunk")
NEVER, ALWAYS = {"clash": 0.0}, {"clash": 1.0}


def change(number: int, *touches: str, minutes: float = 10, bad: bool = False, wide: bool = False) -> Arrival:
    """Of a queue whose results belong to changes. touches: components."""
    names = frozenset(CheckName(name) for name in touches)
    described = Change(ChangeId(number), 1, Sha(f"h{number}"), "a", BEGIN, touches=names)
    return Arrival(described, Forecast(), not bad, minutes * 60, wide)


def queue(*arrivals: Arrival, **altered: float) -> ByChange:
    contents = ByChange(PRESETS["W1"].altered(**(altered or NEVER)), 1)
    for arrival in arrivals:
        contents.arrive(arrival)
    return contents


def candidate(*changes: int, together: int = 1) -> Candidate:
    return Candidate(TRUNK, tuple((ChangeId(number), 1) for number in changes), together)


def keys(contents: ByChange | ByContent, *changes: int, together: int = 1) -> list[str]:
    return [need.key for need in contents.needs_of(candidate(*changes, together=together))]


def land(contents: ByChange | ByContent, number: int) -> set[ChangeId]:
    altered = contents.land(ChangeId(number))
    contents.leave(ChangeId(number))
    return altered


def trial(contents: ByChange | ByContent, number: int, *ahead: int, together: int = 1) -> list[str]:
    needs = contents.trial(ChangeId(number), (frozenset(ChangeId(other) for other in ahead), together))
    return [need.key for need in needs]


def is_red(contents: ByChange, key: str) -> bool:
    return bool(contents.failures(InputKey(key), 0, BEGIN, BEGIN + 60, ()))


# --- results that belong to changes -----------------------------------------------------------------------------------


def test_a_change_is_tested_on_top_of_the_earlier_ones_that_it_meddles_with() -> None:
    contents = queue(change(1, "a"), change(2, "b"), change(3, "a", "b"))
    assert keys(contents, 1) == ["1|"]
    assert keys(contents, 1, 2) == ["1|", "2|"]
    assert keys(contents, 1, 2, 3) == ["1|", "2|", "3|1,2"]
    assert keys(contents, 3) == ["3|"]


def test_a_key_is_the_same_whether_those_ahead_are_assumed_or_have_landed() -> None:
    contents = queue(change(1, "a"), change(2, "a"))
    assert trial(contents, 2, 1) == ["2|1"]
    assert land(contents, 1) == {2}
    assert trial(contents, 2) == ["2|1"]
    assert keys(contents, 2) == ["2|1"]


def test_what_had_landed_before_a_change_was_submitted_is_not_part_of_its_key() -> None:
    contents = queue(change(1, "a"))
    land(contents, 1)
    contents.arrive(change(2, "a"))
    assert keys(contents, 2) == ["2|"]


def test_the_order_of_landing_plays_no_part() -> None:
    contents = queue(change(1, "a"), change(2, "a"))
    assert sorted(keys(contents, 2, 1)) == sorted(keys(contents, 1, 2)) == ["1|", "2|1"]


def test_who_was_bypassed_needs_the_others_result_on_top_of_it() -> None:
    contents = queue(change(1, "a"), change(2, "a"), change(3, "b"))
    assert land(contents, 2) == {1}
    assert keys(contents, 1) == trial(contents, 1) == ["1|", "2|1"]
    assert keys(contents, 3) == ["3|"]
    assert keys(contents, 3, 1) == ["3|", "1|", "2|1"]


def test_a_landing_alters_the_trials_of_all_who_share_one_that_has_landed() -> None:
    """2 has landed ahead of 1 and 3: when 1 lands, what 3 has to show of 2 is on top of 1, too."""
    contents = queue(change(1, "a"), change(2, "b"), change(3, "a", "b"))
    assert land(contents, 3) == {1, 2}
    assert trial(contents, 2) == ["2|", "3|2"]
    assert 2 in land(contents, 1)
    assert trial(contents, 2) == ["2|", "3|1,2"]


def test_wide_changes_meddle_with_all() -> None:
    contents = queue(change(1, "a"), change(2, "b", "a", wide=True), change(3, "c"), change(4, "d"))
    assert keys(contents, 1, 2, 3, 4) == ["1|", "2|1", "3|2", "4|2"]


def test_a_result_is_red_by_the_change_its_context_or_two_of_them_that_clash() -> None:
    contents = queue(change(1, "a"), change(2, "a", bad=True), change(3, "a"), **NEVER)
    assert [is_red(contents, key) for key in ("1|", "2|1", "3|1", "3|1,2")] == [False, True, False, True]
    clashing = queue(change(1, "a"), change(2, "a"), change(3, "b", "a"), change(4, "b"), **ALWAYS)
    assert [is_red(clashing, key) for key in ("1|", "2|", "2|1", "4|3", "4|")] == [False, False, True, True, False]
    assert clashing.clash(ChangeId(1), ChangeId(2))
    assert clashing.clash(ChangeId(2), ChangeId(1))
    assert not clashing.clash(ChangeId(1), ChangeId(4))


def test_nobody_clashes_with_what_it_was_written_on_top_of() -> None:
    contents = queue(change(1, "a"), **ALWAYS)
    land(contents, 1)
    contents.arrive(change(2, "a"))
    assert not contents.clash(ChangeId(1), ChangeId(2))
    contents.arrive(change(3, "a"))
    land(contents, 2)
    assert contents.foes_on_trunk(ChangeId(3)) == {2}


def test_a_batch_is_one_run_and_when_green_proves_each_member() -> None:
    contents = queue(change(1, "a"), change(2, "a"), change(3, "b"), change(4, "a", "b"))
    assert keys(contents, 1, 2, 3, 4, together=3) == ["1|", "2,3,4|1"]
    assert trial(contents, 4, 1, 2, 3, together=3) == ["2,3,4|1"]
    assert contents.also_green(InputKey("2,3,4|1")) == ("2|1", "3|", "4|1,2,3")
    assert keys(contents, 1, 2, 3, 4) == ["1|", "2|1", "3|", "4|1,2,3"]
    assert contents.also_green(InputKey("2|1")) == ()
    land(contents, 1)
    assert keys(contents, 2, 3, 4, together=3) == ["2,3,4|1"]


def test_a_run_takes_what_its_change_takes_and_a_batch_the_longest_of_them() -> None:
    contents = queue(change(1, minutes=10), change(2, minutes=30), change(3, minutes=20))
    assert contents.run_s(InputKey("1|"), ()) == 600
    assert contents.run_s(InputKey("1,2,3|"), ()) == 1800
    costly = queue(change(1, minutes=10), change(2, minutes=30), change(3, minutes=20), batch_cost=0.1)
    assert costly.run_s(InputKey("1,2,3|"), ()) == pytest.approx(2160)


def test_a_batch_is_red_where_one_of_its_members_would_be() -> None:
    contents = queue(change(1), change(2, bad=True), change(3), **NEVER)
    assert [is_red(contents, key) for key in ("1,2|", "1,3|", "1,2,3|")] == [True, False, True]
    clashing = queue(change(1, "a"), change(2, "b"), change(3, "a"), **ALWAYS)
    assert [is_red(clashing, key) for key in ("1,2|", "1,3|")] == [False, True]


# --- results that belong to content -----------------------------------------------------------------------------------

W8 = PRESETS["W8"].altered(checks=3, folders=3, jitter=0.0, **NEVER)


def repository(workload: Workload, *described: tuple[int, Iterable[int], bool]) -> ByContent:
    """described: (number, which of the checks it touches, whether it is fine). A bad one breaks the first."""
    contents = ByContent(workload, 1)
    for number, touched, is_fine in described:
        contents.arrive(edit(workload, number, touched, is_fine))
    return contents


def edit(workload: Workload, number: int, touched: Iterable[int], is_fine: bool = True, odds: float = 1.0) -> Arrival:
    areas = [CheckName(f"check{at}") if workload.preset == "W8" else CheckName("suite") for at in touched]
    every = frozenset(suite.check.name for suite in suites(workload, 1))
    names = frozenset(areas) if workload.declared else every
    tests = ("tests/test_1.py::test_1", "tests/test_1.py::test_2") if workload.preset == "W5" else ()
    faults = () if is_fine else (Fault(areas[0], tests, odds),)
    described = Change(ChangeId(number), 1, Sha(f"h{number}"), "a", BEGIN, touches=names)
    return Arrival(described, Forecast(), is_fine, 60.0, False, faults, frozenset(areas))


def red(contents: ByContent, *changes: int) -> list[str]:
    """The checks that are red for a candidate."""
    found = []
    for need in contents.needs_of(candidate(*changes)):
        contents.run_s(need.key, ())
        if contents.failures(need.key, 0, BEGIN, BEGIN + 60, ()):
            found.append(need.check.name)
    return found


def test_a_key_belongs_to_the_changes_that_touch_the_check_whoever_has_landed() -> None:
    contents = repository(W8, (1, [0], True), (2, [0, 1], True), (3, [2], True))
    both = keys(contents, 1, 2)
    assert len(both) == 2
    assert keys(contents, 2, 1) == both
    assert keys(contents, 3, 1, 2)[:2] == both
    alone = keys(contents, 2)
    assert alone[0] != both[0]
    assert alone[1] == both[1]
    assert trial(contents, 2, 1, 3) == both
    land(contents, 1)
    assert keys(contents, 2) == trial(contents, 2) == both
    assert {need.key for need in contents.trunk_needs()} & {*both} == set()
    land(contents, 2)
    assert {need.key for need in contents.trunk_needs()} >= {*both}


def test_a_landing_alters_the_trials_of_those_who_touch_the_same_checks() -> None:
    contents = repository(W8, (1, [0], True), (2, [0, 1], True), (3, [2], True))
    assert land(contents, 1) >= {2}
    assert 3 not in land(contents, 2)


def test_a_bad_change_makes_its_check_red_on_whatever_it_lies() -> None:
    contents = repository(W8, (1, [0, 1], False), (2, [0], True), (3, [1], True))
    assert red(contents, 1) == ["check0"]
    assert red(contents, 1, 2) == ["check0"]
    assert red(contents, 2) == red(contents, 1, 3)[1:] == []
    land(contents, 1)
    assert red(contents, 2) == ["check0"]
    assert red(contents, 3) == []


def test_two_that_clash_are_red_together_only() -> None:
    contents = repository(W8.altered(clash=1.0), (1, [0], True), (2, [0], True), (3, [1], True))
    assert red(contents, 1) == red(contents, 2) == red(contents, 1, 3) == []
    assert red(contents, 1, 2) == red(contents, 2, 1) == ["check0"]
    again = repository(W8.altered(clash=1.0), (1, [0], True), (2, [0], True))
    land(again, 1)
    assert red(again, 2) == ["check0"]
    assert again.foes_on_trunk(ChangeId(2)) == {1}


def test_without_declared_inputs_the_truth_is_the_same_and_every_key_is_another() -> None:
    undeclared = W8.altered(clash=1.0, declared=False)
    contents = repository(undeclared, (1, [0], True), (2, [0], True), (3, [1], True), (4, [2], False))
    assert len(keys(contents, 1)) == len(keys(contents, 3)) == 3
    assert red(contents, 1, 2) == ["check0"]
    assert red(contents, 1, 3) == []
    assert red(contents, 1, 4) == ["check2"]
    assert not {*keys(contents, 1)} & {*keys(contents, 3, 1)}


def test_a_mended_trunk_is_other_content_and_green() -> None:
    contents = repository(W8, (1, [0], False), (2, [0], True), (3, [1], True))
    untouched = keys(contents, 3)
    land(contents, 1)
    before = keys(contents, 2)
    assert red(contents, 2) == ["check0"]
    contents.mend()
    assert keys(contents, 2) != before
    assert red(contents, 2) == []
    assert keys(contents, 3) == untouched


# --- tests with names -------------------------------------------------------------------------------------------------

W5 = PRESETS["W5"].altered(suite_flake=0.0)


def test_a_run_names_the_tests_that_failed_and_a_retest_runs_only_those_it_is_given() -> None:
    contents = repository(W5, (1, [0], False), (2, [0], True))
    key = contents.needs_of(candidate(1))[0].key
    contents.run_s(key, ())
    broken = ("tests/test_1.py::test_1", "tests/test_1.py::test_2")
    assert contents.failures(key, 0, BEGIN, BEGIN, ()) == broken
    assert contents.failures(key, 1, BEGIN, BEGIN, broken[1:]) == broken[1:]
    assert contents.failures(key, 1, BEGIN, BEGIN, ("another",)) == ()


def test_a_retest_takes_the_time_of_its_tests_and_of_getting_ready() -> None:
    contents = repository(W5, (1, [0], True))
    key = contents.needs_of(candidate(1))[0].key
    assert contents.run_s(key, ()) == 600
    assert contents.run_s(key, ("a", "b")) == pytest.approx(12 + 600 * 2 / 2000)


def test_an_intermittent_fault_shows_in_its_share_of_the_runs() -> None:
    contents = ByContent(W5, 1)
    contents.arrive(edit(W5, 1, [0], is_fine=False, odds=0.3))
    key = contents.needs_of(candidate(1))[0].key
    contents.run_s(key, ())
    shown = [contents.failures(key, run, BEGIN, BEGIN, ("tests/test_1.py::test_1",)) != () for run in range(2000)]
    assert sum(shown) / 2000 == pytest.approx(0.3, abs=0.04)
    assert contents.shows_in(ChangeId(1)) == 0.3


def test_the_check_of_a_suite_can_be_retested() -> None:
    assert isinstance(suites(W5, 1)[0].check, Check)
    assert suites(W5, 1)[0].check.retest is not None
    assert suites(PRESETS["W2"], 1)[0].check.retest is None
