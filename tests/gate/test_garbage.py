"""Garbage is collected between plans, and as much of it as ever."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from gate.garbage import YOUNG_PASSES, between_plans

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python collects bit by bit anyway")


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """The generations that were gone through."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def keep_many(passes: list[int]) -> list[Ring]:
    """As many objects as it takes until a full pass is due, all still in use."""
    kept: list[Ring] = []
    while passes.count(1) <= YOUNG_PASSES:
        kept.append(Ring())
    return kept


def test_everything_is_gone_through_between_plans_and_never_during_one(passes: list[int]) -> None:
    with between_plans() as collect:
        old = Ring()
        is_alive = weakref.ref(old)
        kept = keep_many(passes)
        del old
        collect()
        assert passes.count(2) == 1
        assert is_alive() is None
        collect()
        assert passes.count(2) == 1  # nothing more is due
    assert kept


def test_without_it_a_full_pass_comes_at_any_time(passes: list[int]) -> None:
    assert keep_many(passes)
    assert 2 in passes


def test_afterwards_python_collects_as_it_did_before() -> None:
    before = gc.get_threshold()
    with between_plans():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
