"""What ended runs tell of the changes in them."""

from ci.model import CheckName, Outcome, RunId, Sha
from gate.findings import RED_AT_MOST, FindingBook
from gate.model import Change, ChangeId, Finding

UNIT, LINT = CheckName("unit"), CheckName("lint")
ONE, TWO, THREE = map(ChangeId, (1, 2, 3))


def told(*runs: tuple[CheckName, tuple[int, ...], Outcome | None]) -> FindingBook:
    """A book of runs that have ended, each of a check and these changes."""
    book = FindingBook()
    for at, (check, changes, outcome) in enumerate(runs):
        book.begin(RunId(f"r{at}"), check, tuple(map(ChangeId, changes)))
        book.end(RunId(f"r{at}"), outcome)
    return book


def change(id_: int, *touches: CheckName, paths: tuple[str, ...] = ()) -> Change:
    return Change(ChangeId(id_), 1, Sha("head"), "ann", 0.0, touches=frozenset(touches), paths=frozenset(paths))


def test_green_tells_of_the_last_change_that_it_is_fine_and_of_no_other() -> None:
    book = told((UNIT, (1, 2, 3), Outcome.GREEN))
    assert book.findings == {THREE: Finding(green=frozenset({UNIT}), clean_with=frozenset({ONE, TWO}))}


def test_greens_of_several_checks_and_company_add_up() -> None:
    book = told((UNIT, (1, 3), Outcome.GREEN), (LINT, (2, 3), Outcome.GREEN))
    assert book.findings[THREE] == Finding(green=frozenset({UNIT, LINT}), clean_with=frozenset({ONE, TWO}))


def test_red_and_timed_out_tell_that_one_of_the_company_may_be_bad_once_for_each_company() -> None:
    book = told((UNIT, (1, 3), Outcome.RED), (LINT, (1, 3), Outcome.TIMED_OUT), (UNIT, (3,), Outcome.RED))
    assert book.findings[THREE].red_with == (frozenset({ONE}), frozenset())


def test_only_the_newest_reds_are_remembered() -> None:
    book = told(*((UNIT, (other, 1), Outcome.RED) for other in range(2, RED_AT_MOST + 4)))
    assert book.findings[ONE].red_with == tuple(frozenset({ChangeId(other)}) for other in range(4, RED_AT_MOST + 4))


def test_a_run_of_trunk_or_one_that_was_stopped_or_could_not_be_run_tells_nothing() -> None:
    book = told((UNIT, (), Outcome.RED), (UNIT, (1,), None), (UNIT, (1,), Outcome.INFRASTRUCTURE))
    assert book.findings == {}


def test_a_run_that_ends_twice_or_was_never_begun_tells_nothing_more() -> None:
    book = told((UNIT, (1,), Outcome.GREEN))
    before = dict(book.findings)
    book.end(RunId("r0"), Outcome.RED)
    book.end(RunId("unheard of"), Outcome.RED)
    assert book.findings == before


def test_who_meddles_with_what_has_landed_has_met_it_on_trunk() -> None:
    book = FindingBook()
    landed = [change(1, UNIT), change(2, LINT)]
    book.land(landed, [change(3, UNIT), change(4), change(5, paths=("a",))])
    book.land([change(6, UNIT)], [change(3, UNIT)])
    assert book.findings == {THREE: Finding(met=frozenset({ONE, ChangeId(6)}))}


def test_nothing_is_known_of_a_change_that_was_forgotten_and_of_the_others_all() -> None:
    book = told((UNIT, (1,), Outcome.GREEN), (UNIT, (1, 2), Outcome.GREEN))
    book.forget([ONE, THREE])
    assert book.findings == {TWO: Finding(green=frozenset({UNIT}), clean_with=frozenset({ONE}))}
