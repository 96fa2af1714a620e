"""Which commits are suspects of having broken trunk."""

from collections.abc import Mapping

import pytest

from ci.culprit import suspects
from ci.model import CheckName, Sha

A, B, C, D = (Sha(letter * 40) for letter in "abcd")
E2E, LINT = ((CheckName(name),) for name in ("e2e", "lint"))
GREEN: tuple[CheckName, ...] = ()


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        pytest.param({C: GREEN, D: E2E}, (D,), id="the red one alone, right after a green one"),
        pytest.param({A: GREEN, D: E2E}, (B, C, D), id="those that were skipped too"),
        pytest.param({A: GREEN, B: E2E, D: E2E}, (B,), id="nobody who came after it was red already"),
        pytest.param({A: GREEN, B: LINT, D: E2E}, (B, C, D), id="another check that was red says nothing"),
        pytest.param({B: GREEN, C: LINT, D: E2E + LINT}, (C, D), id="each check has its own"),
        pytest.param({A: GREEN, B: E2E, C: GREEN, D: E2E}, (D,), id="the last green one counts"),
        pytest.param({D: E2E}, (A, B, C, D), id="all, when none was ever green"),
        pytest.param({B: E2E, D: E2E}, (A, B), id="all so far, when none was ever green"),
        pytest.param({D: GREEN}, (), id="none, when the last is green"),
    ],
)
def test_suspects(judged: Mapping[Sha, tuple[CheckName, ...]], expected: tuple[Sha, ...]) -> None:
    assert suspects((A, B, C, D), judged) == expected


def test_no_history_has_no_suspects() -> None:
    assert suspects((), {}) == ()
