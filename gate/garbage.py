"""Python's collection of garbage, kept out of plans: with a long queue, going through it all takes as long as several."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

YOUNG_PASSES = 100  # over what is young, before all is gone through: some 700,000 objects more than have gone
_NEVER = 2**31 - 1


@contextmanager
def between_plans() -> Iterator[Callable[[], None]]:
    """Yields what to call between two plans: it goes through everything where that is due, which happens at no other time.

    What is young is collected as ever, in less than a millisecond. Pythons that collect bit by bit (3.14.0 to 3.14.4) do so.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield _collect_where_due
    finally:
        gc.set_threshold(young, middle, old)


def _collect_where_due() -> None:
    if gc.get_count()[2] >= YOUNG_PASSES:
        gc.collect()
