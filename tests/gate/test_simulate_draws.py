"""Workloads as they are drawn: what the parameters say is what comes out, and each trait has dice of its own."""

import math
from itertools import groupby, islice, pairwise
from statistics import fmean, median

import pytest

from gate.simulate.accidents import Accidents
from gate.simulate.draws import BEGIN, PLACES_TAKEN, Arrival, arrivals, failures, submission_times, suites, uniform
from gate.simulate.workloads import PRESETS, Workload

W1 = PRESETS["W1"]
MANY = W1.altered(rate=500.0, hours=24.0)


@pytest.fixture(scope="module")
def many() -> tuple[Arrival, ...]:
    return arrivals(MANY, 7)


def test_the_same_seed_gives_the_same_changes_and_another_gives_others() -> None:
    assert arrivals(W1, 1) == arrivals(W1, 1)
    assert arrivals(W1, 1) != arrivals(W1, 2)


@pytest.mark.parametrize(
    ("altered", "trait"),
    [
        ({"classes": "1:0.5"}, lambda one: (one.change.submitted_at, one.change.touches, one.duration_s)),
        ({"sigma": 0.1}, lambda one: (one.change.submitted_at, one.change.touches, one.is_fine, one.forecast.chance)),
        ({"zipf": 1.2}, lambda one: (one.change.submitted_at, one.is_fine, one.duration_s, one.forecast)),
        ({"wide": 0.5}, lambda one: (one.change.submitted_at, one.is_fine, one.forecast.chance)),
        ({"duration_error": 0.5}, lambda one: (one.change, one.is_fine, one.duration_s)),
    ],
)
def test_altering_one_parameter_leaves_the_other_traits_as_they_were(altered, trait) -> None:
    assert [trait(one) for one in arrivals(W1, 1)] == [trait(one) for one in arrivals(W1.altered(**altered), 1)]


def test_changes_arrive_at_the_rate(many: tuple[Arrival, ...]) -> None:
    assert len(many) == pytest.approx(12_000, abs=4 * math.sqrt(12_000))
    gaps = [b.change.submitted_at - a.change.submitted_at for a, b in pairwise(many)]
    assert min(gaps) >= 0
    # Of a Poisson process, a share exp(-1) of the gaps is longer than the mean.
    assert fmean(gap > 7.2 for gap in gaps) == pytest.approx(math.exp(-1), abs=0.02)


def test_a_day_has_its_peak_at_noon_and_the_same_mean() -> None:
    at = [(one - BEGIN) / 3600 for one in submission_times(MANY.altered(daily=0.8), 3)]
    assert len(at) == pytest.approx(12_000, abs=500)
    noon, night = (sum(low <= hour < low + 2 for hour in at) for low in (11, 0))
    assert noon / 1000 == pytest.approx(1.79, abs=0.15)  # 2 hours of 500 * (1 + 0.8 * cos)
    assert night / 1000 == pytest.approx(0.22, abs=0.1)


def test_durations_are_lognormal_clipped_and_predicted_with_the_stated_error(many: tuple[Arrival, ...]) -> None:
    narrow = [one.duration_s / 60 for one in many if not one.is_wide]
    assert median(narrow) == pytest.approx(27, rel=0.03)
    assert 4 <= min(narrow) < 5 < 110 < max(narrow) <= 120
    assert fmean(minutes > 27 * math.exp(0.5) for minutes in narrow) == pytest.approx(0.159, abs=0.015)
    assert all(one.forecast.duration_s for one in many)
    errors = [abs((one.forecast.duration_s or 0) / one.duration_s - 1) for one in many]
    assert fmean(errors) == pytest.approx(0.05, rel=0.05)


def test_wide_changes_are_few_take_longer_and_meddle_with_every_other(many: tuple[Arrival, ...]) -> None:
    wide = [one for one in many if one.is_wide]
    assert len(wide) / len(many) == pytest.approx(0.004, abs=0.002)
    assert all(one.change.meddles_with(other.change) for one in wide[:3] for other in many[:500])
    alike = arrivals(MANY.altered(wide=0.0, hours=1.0), 7)
    wider = arrivals(MANY.altered(wide=1.0, hours=1.0), 7)
    assert [one.duration_s * 1.3 for one in alike] == pytest.approx([one.duration_s for one in wider])


def test_other_changes_meddle_where_they_share_a_component(many: tuple[Arrival, ...]) -> None:
    narrow = [one.change for one in many[:400] if not one.is_wide]
    counts = [len(one.touches) for one in narrow]
    assert [fmean(count == n for count in counts) for n in (1, 2, 3)] == pytest.approx([0.5, 0.25, 0.25], abs=0.08)
    pairs = [(one, other) for one in narrow for other in narrow if one.id < other.id]
    assert all(one.meddles_with(other) == bool(one.touches & other.touches) for one, other in pairs)
    assert any(one.meddles_with(other) for one, other in pairs)


def test_the_chance_of_success_is_that_of_the_class_and_is_what_comes_true(many: tuple[Arrival, ...]) -> None:
    for chance, share in ((0.99, 0.9), (0.8, 0.05), (0.05, 0.05)):
        like = [one for one in many if one.forecast.chance == chance]
        assert len(like) / len(many) == pytest.approx(share, abs=0.01)
        assert fmean(one.is_fine for one in like) == pytest.approx(chance, abs=0.05)
    assert {one.forecast.chance for one in arrivals(W1.altered(predictor="constant"), 1)} == {0.9}


def test_a_burst_is_there_at_the_start() -> None:
    burst = arrivals(PRESETS["W2"].altered(burst=15), 1)
    assert [one.change.submitted_at for one in burst] == [BEGIN] * 15
    assert PRESETS["W2"].altered(burst=15).warmup_s == 0 < PRESETS["W2"].warmup_s


def test_failures_come_in_streaks_and_are_no_more_for_that() -> None:
    workload = PRESETS["W3"].altered(pattern="streaks", failure=0.2, streak=4.0)
    drawn = list(islice(failures(workload, 1), 40_000))
    assert fmean(drawn) == pytest.approx(0.2, abs=0.02)
    streaks = [len(list(run)) for is_failing, run in groupby(drawn) if is_failing]
    assert fmean(streaks) == pytest.approx(4, abs=0.3)


def test_independent_failures_make_no_streaks_and_drift_makes_seasons() -> None:
    independent = list(islice(failures(PRESETS["W3"].altered(failure=0.2), 1), 40_000))
    assert fmean(independent) == pytest.approx(0.2, abs=0.01)
    streaks = [len(list(run)) for is_failing, run in groupby(independent) if is_failing]
    assert fmean(streaks) == pytest.approx(1.25, abs=0.03)
    drifting = list(islice(failures(PRESETS["W3"].altered(failure=0.2, pattern="drift", period=200), 1), 40_000))
    seasons = [fmean(drifting[at] for at in range(40_000) if at % 200 // 100 == half) for half in (0, 1)]
    assert seasons == pytest.approx([0.2 * (1 + 0.8 * 2 / math.pi), 0.2 * (1 - 0.8 * 2 / math.pi)], abs=0.015)


# --- a monorepo ---------------------------------------------------------------------------------------------------------


def test_every_folder_is_an_input_of_one_to_three_checks() -> None:
    w8 = PRESETS["W8"]
    checks = suites(w8, 1)
    assert len(checks) == 60
    owners = [sum(folder in suite.folders for suite in checks) for folder in range(400)]
    assert {1, 2, 3} == set(owners)
    assert fmean(owners) == pytest.approx(fmean(PLACES_TAKEN), abs=0.15)
    assert all(suite.check.inputs == tuple(f"folder{n}/" for n in sorted(suite.folders)) for suite in checks)


def test_without_declared_inputs_the_same_changes_touch_every_check() -> None:
    w8 = PRESETS["W8"]
    declared, undeclared = arrivals(w8, 1), arrivals(w8.altered(declared=False), 1)
    assert all(one.change.touches == one.areas and 1 <= len(one.areas) <= 12 for one in declared)
    assert all(len(one.change.touches) == 60 for one in undeclared)
    assert [(one.is_fine, one.faults, one.areas) for one in declared] == [
        (one.is_fine, one.faults, one.areas) for one in undeclared
    ]
    assert all(suite.check.is_whole_tree for suite in suites(w8.altered(declared=False), 1))


def test_a_bad_change_breaks_one_check_that_it_touches() -> None:
    drawn = arrivals(PRESETS["W8"], 1)
    bad = [one for one in drawn if not one.is_fine]
    assert bad
    assert all(len(one.faults) == 1 and one.faults[0].check in one.change.touches for one in bad)
    assert all(not one.faults for one in drawn if one.is_fine)


# --- accidents ----------------------------------------------------------------------------------------------------------


def accidents_in(workload: Workload, runs: int, apart_s: float, seed: int = 5) -> list[tuple[str, ...]]:
    accidents = Accidents(workload, seed)
    check = suites(workload, seed)[0].check.name
    moments = [BEGIN + number * apart_s for number in range(runs)]
    return [accidents.failures(f"key{at}", check, 0, at, at + 600) for at in moments]


def test_a_suite_is_red_by_accident_as_often_as_the_workload_says() -> None:
    found = accidents_in(PRESETS["W5"], 6000, 2000.0)
    assert fmean(bool(failed) for failed in found) == pytest.approx(0.05, abs=0.012)
    assert {len(name.split("::")) for failed in found for name in failed} == {2}
    assert accidents_in(PRESETS["W5"].altered(suite_flake=0.0), 10, 600.0) == [()] * 10


def test_without_storms_the_share_is_the_same() -> None:
    calm = accidents_in(PRESETS["W5"].altered(storm=1.0), 6000, 2000.0)
    assert fmean(bool(failed) for failed in calm) == pytest.approx(0.05, abs=0.012)


def test_storms_add_nothing_to_the_share_over_all_time() -> None:
    stormy = accidents_in(PRESETS["W5"].altered(storm=60.0, storm_length=10.0), 6000, 2000.0)
    assert 0.02 < fmean(bool(failed) for failed in stormy) < 0.06


def test_only_the_flaky_share_of_the_tests_fails_by_accident() -> None:
    found = accidents_in(PRESETS["W5"].altered(suite_flake=0.9), 400, 2000.0)
    assert 100 < len({name for failed in found for name in failed}) <= 320


def test_accidents_come_in_storms() -> None:
    """One accident makes another, half a minute later, likelier than an hour later does."""
    workload = PRESETS["W5"].altered(storm=60.0, storm_length=10.0, suite_flake=0.1)
    accidents = Accidents(workload, 5)
    check = suites(workload, 5)[0].check.name
    at = [BEGIN + number * 3600 for number in range(4000)]
    first = [bool(accidents.failures(f"a{now}", check, 0, now, now + 60)) for now in at]
    soon = [bool(accidents.failures(f"b{now}", check, 0, now + 90, now + 150)) for now in at]
    after = [fmean(two for one, two in zip(first, soon, strict=True) if one is was) for was in (True, False)]
    assert after[0] > 4 * after[1]


def test_a_number_belongs_to_its_names() -> None:
    assert uniform(1, "clash", 2, 3) == uniform(1, "clash", 2, 3)
    assert len({uniform(1, "clash", 2, 3), uniform(2, "clash", 2, 3), uniform(1, "clash", 3, 2), uniform(1, "x", 2, 3)}) == 4
    assert fmean(uniform(1, number) for number in range(4000)) == pytest.approx(0.5, abs=0.02)
