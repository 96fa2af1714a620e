"""Which commits are suspects of having broken trunk."""

from collections.abc import Mapping

import pytest

from ci.culprit import suspects
from ci.model import Sha

A, B, C, D = (Sha(letter * 40) for letter in "abcd")


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        pytest.param({C: True, D: False}, (D,), id="the red one alone, right after a green one"),
        pytest.param({A: True, D: False}, (B, C, D), id="those that were skipped too"),
        pytest.param({A: True, B: False, D: False}, (B, C, D), id="a red one between ends nothing"),
        pytest.param({A: True, B: False, C: True, D: False}, (D,), id="the last green one counts"),
        pytest.param({D: False}, (A, B, C, D), id="all, when none was ever green"),
        pytest.param({D: True}, (), id="none, when the last is green"),
    ],
)
def test_suspects(judged: Mapping[Sha, bool], expected: tuple[Sha, ...]) -> None:
    assert suspects((A, B, C, D), judged) == expected


def test_no_history_has_no_suspects() -> None:
    assert suspects((), {}) == ()
