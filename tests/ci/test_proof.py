"""Which results of a key make it green."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.model import MOST_NAMED, CheckName, InputKey, Outcome, Result, RunId
from ci.proof import failed_tests, proofs

WORDS = {"G": Outcome.GREEN, "R": Outcome.RED, "T": Outcome.TIMED_OUT, "I": Outcome.INFRASTRUCTURE}


def history(written: str) -> list[Result]:
    """One result per word: its outcome, what failed after it in brackets, and after a slash what a retest was limited to."""
    results = []
    for number, word in enumerate(written.split()):
        said, _, asked = word.partition("/")
        failed = tuple(said[2:-1].split(",")) if "(" in said else ()
        tests = tuple(asked.split(",")) if asked else ()
        results.append(
            Result(
                InputKey("k"), CheckName("c"), WORDS[said[0]], RunId(str(number)), number, number, failed=failed, tests=tests
            )
        )
    return results


@pytest.mark.parametrize(
    ("written", "proven"),
    [
        ("", []),
        ("R(a)", []),
        ("G", [0]),
        ("R(a) G", [1]),
        ("R(a) G/a", []),  # as often as it failed
        ("R(a) G/a G/a", [2]),
        ("R(a) R(a)/a G/a G/a", []),
        ("R(a) R(a)/a G/a G/a G/a", [4]),
        ("R(a) G/a R(a)/a G/a G/a", [4]),
        ("R(a) I/a G/a I G/a", [4]),  # what could not be run says nothing
        ("R(a,b) G/a G/a G/a", []),  # b was never run again
        ("R(a,b) G/a,b G/b,a", [2]),
        ("R(a,b) G/a,b G/a G/a,b", [3]),
        ("R(a) R(b) G/a G/b G/a G/b G/a,b G/a,b", []),
        ("R(a) R(b) G/a,b G/a,b G/a,b", [4]),
        ("G/a G/a G/a", []),  # no whole run before them: it was pruned, or never was
        ("R(a)/a G/a G/a", []),
        ("R G/a G/a", []),  # it did not say what failed
        ("T(a) G/a G/a", []),  # it did not come to its end
        ("R(a) T/a G/a G/a G/a", []),
        ("R(a) G/a G G/a", [2]),  # a whole run stands for itself, and nothing before it counts after it
        ("R(a) G/a G/a R(a) G/a", [2]),
        ("R(--x) G/--x G/--x", []),
        ("R(@x) G/@x G/@x", []),
    ],
)
def test_what_makes_a_key_green(written: str, proven: list[int]) -> None:
    assert [int(result.run) for result in proofs(history(written))] == proven


def test_a_list_of_failures_that_may_go_on_is_no_basis() -> None:
    for count, is_complete in ((MOST_NAMED - 1, True), (MOST_NAMED, False)):
        names = ",".join(f"t{number}" for number in range(count))
        assert bool(failed_tests(history(f"R({names})"))) == is_complete
        assert bool(list(proofs(history(f"R({names}) G/{names} G/{names}")))) == is_complete


@given(st.lists(st.sampled_from(("R(a)", "R(a,b)", "R(a)/a,b", "G/a", "G/a,b", "G", "T", "I/a")), max_size=12))
def test_without_a_whole_green_run_every_proof_outweighs_its_reds(words: list[str]) -> None:
    results = history(" ".join(words))
    begun = 0
    for proof in proofs(results):
        at = results.index(proof)
        since = results[begun : at + 1]
        begun = at + 1
        if proof.tests:
            reds = [result for result in since if result.outcome is Outcome.RED]
            passes = [result for result in since if result.outcome is Outcome.GREEN]
            assert any(not red.tests for red in reds)
            assert len(passes) > len(reds)
