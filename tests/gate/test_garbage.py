"""Garbage is collected between plans, and as much of it as ever."""

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType

import pytest

from gate import garbage, serve
from gate.garbage import between_plans
from gate.simulate import world
from gate.simulate.measure import play
from gate.simulate.workloads import PRESETS

pytestmark = pytest.mark.skipif(
    (3, 14) <= sys.version_info < (3, 14, 5), reason="this Python collects bit by bit, in two generations"
)


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often each generation was gone through. A full pass is due far sooner than by default."""
    seen: Counter[int] = Counter()

    def note(phase: str, info: dict[str, int]) -> None:
        seen[info["generation"]] += phase == "start"

    monkeypatch.setattr(garbage, "YOUNG_PASSES", 10)
    before = gc.get_threshold()
    gc.freeze()
    gc.collect()  # a full pass is due when a quarter more objects are there than at the last one, which were none
    gc.set_threshold(100, 2, 5)
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


def keep_many(passes: Counter[int]) -> list[Ring]:
    """As many objects as it takes until a full pass is due, all still in use."""
    kept: list[Ring] = []
    while passes[1] <= garbage.YOUNG_PASSES:
        kept.append(Ring())
    return kept


def test_everything_is_gone_through_between_plans_and_never_during_one(passes: Counter[int]) -> None:
    with between_plans() as collect:
        old = Ring()
        is_alive = weakref.ref(old)
        kept = keep_many(passes)
        del old
        collect()
        assert passes[2] == 1
        assert is_alive() is None
        collect()
        assert passes[2] == 1  # nothing more is due
    assert kept


def test_without_it_a_full_pass_comes_at_any_time(passes: Counter[int]) -> None:
    assert keep_many(passes)
    assert passes[2]


def test_afterwards_python_collects_as_it_did_before() -> None:
    before = gc.get_threshold()
    with between_plans():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before


@pytest.mark.parametrize("module", [serve, world], ids=["daemon", "simulator"])
def test_it_is_asked_for_between_plans(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(module, "between_plans", lambda: nullcontext(lambda: asked.append(True)))
    if module is serve:
        serve.Server().run(until_idle=True)
    else:
        play(PRESETS["W2"].altered(hours=1.0), 1, "trunkgate")
    assert asked
