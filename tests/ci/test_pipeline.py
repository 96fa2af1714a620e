"""What a post-commit pipeline does next, as tables."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha, Stage
from ci.pipeline import MOST_TRIES, PipelineState, choose_commit, decide

NOW = 1000.0


@dataclass(frozen=True)
class Known:
    green: Result | None = None
    red: Result | None = None
    attempts: tuple[Result, ...] = ()


def check(name: str, *needs: str, max_age_s: float | None = None) -> Check:
    return Check(
        CheckName(name), "true", Stage.POST_COMMIT, needs=tuple(CheckName(need) for need in needs), max_age_s=max_age_s
    )


def result(outcome: Outcome, at: float = NOW - 10) -> Result:
    return Result(InputKey("k"), CheckName("c"), outcome, RunId("r"), at - 1, at)


GREEN = Known(green=result(Outcome.GREEN))
RED = Known(red=result(Outcome.RED))
LATE = Known(red=result(Outcome.TIMED_OUT))


def infrastructure(tries: int) -> Known:
    return Known(attempts=(result(Outcome.INFRASTRUCTURE),) * tries)


def state(checks: tuple[Check, ...], known: Mapping[str, Known], *running: str) -> PipelineState:
    """Each check's key is "key of <name>"."""
    return decide(
        checks,
        {check.name: InputKey(f"key of {check.name}") for check in checks},
        {InputKey(f"key of {name}"): value for name, value in known.items()},
        {InputKey(f"key of {name}") for name in running},
        NOW,
    )


def started(of: PipelineState) -> list[str]:
    return [check.name for check in of.start]


BUILD, SLOW, SITE = check("build"), check("slow", "build"), check("site", "slow")
CHAIN = (BUILD, SLOW, SITE)


def test_a_pipeline_without_checks_is_green() -> None:
    assert state((), {}).is_green


@pytest.mark.parametrize(
    ("known", "running", "starts", "is_over"),
    [
        pytest.param({}, (), ["build"], False, id="the first starts, the others wait for it"),
        pytest.param({}, ("build",), [], False, id="nothing starts twice"),
        pytest.param({"build": GREEN}, (), ["slow"], False, id="green lets the next one start"),
        pytest.param({"build": GREEN}, ("slow",), [], False, id="the next one runs"),
        pytest.param({"build": RED}, (), [], True, id="red ends what needs it"),
        pytest.param({"build": LATE}, (), [], True, id="timed out counts as red"),
        pytest.param({"build": RED}, ("build",), [], False, id="a run that goes on may still say otherwise"),
        pytest.param({"build": infrastructure(MOST_TRIES - 1)}, (), ["build"], False, id="tried once more"),
        pytest.param({"build": infrastructure(MOST_TRIES)}, (), [], True, id="tried often enough"),
        pytest.param({"build": GREEN, "slow": GREEN, "site": GREEN}, (), [], True, id="all green"),
    ],
)
def test_what_starts_next(known: Mapping[str, Known], running: tuple[str, ...], starts: list[str], is_over: bool) -> None:
    now = state(CHAIN, known, *running)
    assert (started(now), now.is_over) == (starts, is_over)
    assert now.is_green == (len(now.green) == 3)


def test_every_check_is_named_in_one_place() -> None:
    now = state(CHAIN, {"build": RED})
    assert (now.red, now.blocked, now.green, now.waiting) == (("build",), ("slow", "site"), (), ())


def test_a_check_that_cannot_be_run_is_not_red_and_not_green() -> None:
    now = state(CHAIN, {"build": infrastructure(3)})
    assert (now.could_not_run, now.red, now.blocked) == (("build",), (), ("slow", "site"))
    assert now.is_over
    assert not now.is_green


def test_branches_go_on_beside_a_red_one() -> None:
    now = state((BUILD, check("a", "build"), check("b", "build"), check("c", "a", "b")), {"build": GREEN, "a": RED})
    assert started(now) == ["b"]
    assert now.blocked == ("c",)


def test_a_green_result_that_is_too_old_is_run_again() -> None:
    licences = check("licences", max_age_s=100)
    old = Known(green=result(Outcome.GREEN, NOW - 101))
    assert started(state((licences,), {"licences": old})) == ["licences"]
    assert state((licences,), {"licences": Known(green=result(Outcome.GREEN, NOW - 99))}).is_green


@pytest.mark.parametrize(("red_at", "is_green"), [(NOW - 20, True), (NOW - 5, False)])
def test_the_newest_result_counts(red_at: float, is_green: bool) -> None:
    both = Known(green=result(Outcome.GREEN, NOW - 10), red=result(Outcome.RED, red_at))
    now = state((BUILD,), {"build": both})
    assert (now.is_green, now.is_over) == (is_green, True)


def test_a_need_of_an_earlier_stage_is_green() -> None:
    assert started(state((check("slow", "unit"),), {})) == ["slow"]


def test_a_check_without_a_key_waits() -> None:
    now = decide((BUILD,), {}, {}, (), NOW)
    assert (now.waiting, now.start) == (("build",), ())


A, B, C = Sha("a" * 40), Sha("b" * 40), Sha("c" * 40)


@pytest.mark.parametrize(
    ("judged", "current", "chosen"),
    [
        pytest.param({}, None, C, id="the newest commit of trunk starts"),
        pytest.param({}, A, A, id="a pipeline that has begun is finished"),
        pytest.param({A: False}, A, C, id="then the newest is taken and what came between is skipped"),
        pytest.param({A: True, C: True}, C, None, id="nothing to do until trunk moves"),
        pytest.param({C: False}, C, None, id="a red commit is not judged again"),
    ],
)
def test_which_commit_is_judged_next(judged: Mapping[Sha, bool], current: Sha | None, chosen: Sha | None) -> None:
    assert choose_commit(C, judged, current) == chosen
