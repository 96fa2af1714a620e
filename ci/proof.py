"""When the results of one key make it green: at the word of a whole run, or by retests that outweigh what was red.

A retest runs only the tests that failed. It says nothing of the others, so it counts only after a whole run that named every
test that failed in it, and only when it ran them all. Pure. The reasons, and what this cannot see, are in
docs/decisions/0006-retests.md.
"""

from collections.abc import Iterable, Iterator, Sequence

from ci.model import MOST_NAMED, Outcome, Result


def proofs(results: Iterable[Result]) -> Iterator[Result]:
    """The results that make their key green. results: all of one key, oldest first."""
    reds: list[Result] = []
    passes: list[Result] = []
    for result in results:
        match result.outcome:
            case Outcome.GREEN if proves(result, reds, passes):
                yield result
                reds, passes = [], []
            case Outcome.GREEN:
                passes.append(result)
            case Outcome.RED | Outcome.TIMED_OUT:
                reds.append(result)
            case Outcome.INFRASTRUCTURE:
                pass


def proves(green: Result, reds: Sequence[Result], passes: Sequence[Result]) -> bool:
    """Whether a green result makes its key green.

    reds, passes: the results of the key since the last proof that were red or timed out, and the green retests among them.
    A whole run does. A retest does when, with it, what failed has passed more often than it failed: a fault that shows in
    half of the runs gets through so in 3 of 8 cases (the first time red, five retests at most), and in 6 of 8 where one pass
    of two retries is enough.
    """
    if not green.tests:
        return True
    failed = set(failed_tests(reds))
    counted = sum(failed <= set(each.tests) for each in passes)
    return bool(failed) and failed <= set(green.tests) and counted + 1 > len(reds)


def failed_tests(reds: Sequence[Result]) -> tuple[str, ...]:
    """The tests to run again so that, should they pass, nothing is left that was red. (): only a whole run can tell.

    reds: of one key, since its last proof, oldest first. Every one must have named all that failed in it, and one must have
    run the whole check. A name that a tool would take for an option, or for a file of arguments, is given to none.
    """
    if all(red.tests for red in reds):
        return ()
    for red in reds:
        if red.outcome is not Outcome.RED or not 0 < len(red.failed) < MOST_NAMED:
            return ()
    named = tuple(dict.fromkeys(test for red in reds for test in red.failed))
    return named if len(named) < MOST_NAMED and not any(test.startswith(("-", "@")) for test in named) else ()
