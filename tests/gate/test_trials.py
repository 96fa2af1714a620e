"""What is remembered of a change's needs, by what was assumed ahead of it, while others land."""

from collections.abc import Iterable

from ci.model import Check, CheckName, InputKey, Sha
from gate.model import Candidate, Change, ChangeId, Need
from gate.trials import TrialBook

UNIT, LINT, DOCS = (Check(CheckName(name), "true") for name in ("unit", "lint", "docs"))
ONE, TWO, THREE = map(ChangeId, (1, 2, 3))


def change(id_: int, *touches: Check) -> Change:
    return Change(ChangeId(id_), 1, Sha("head"), "ann", 0.0, touches=frozenset(check.name for check in touches))


def on(*changes: int, together: int = 1) -> Candidate:
    return Candidate(Sha("trunk"), tuple((ChangeId(id_), 1) for id_ in changes), together)


def need(check: Check, key: str = "k") -> Need:
    return Need(check, InputKey(f"{check.name} {key}"))


def booked(*candidates: Candidate) -> TrialBook:
    """Each merged, with one need that is named after it."""
    book = TrialBook()
    for candidate in candidates:
        name = " ".join(str(id_) for id_, _ in candidate.entries)
        book.note(candidate, [need(UNIT, name)], [change(candidate.entries[-1][0], UNIT)], lambda key: True)
    return book


def known(book: TrialBook, id_: ChangeId) -> set[tuple[frozenset[ChangeId], int]]:
    return set(book.trials.get(id_, {}))


def ahead(*changes: ChangeId, together: int = 1) -> tuple[frozenset[ChangeId], int]:
    return frozenset(changes), together


def waiting(*changes: Change) -> dict[ChangeId, Change]:
    return {each.id: each for each in changes}


def noted(tested: Iterable[Change], green: set[Check]) -> tuple[Need, ...]:
    book = TrialBook()
    names = {need(check).key for check in green}
    book.note(on(1, 2), [need(UNIT), need(LINT), need(DOCS)], tested, lambda key: key in names)
    return book.trials[TWO][ahead(ONE)]


def test_a_change_has_a_part_in_the_checks_it_touches_and_in_those_that_nobody_has_seen_green() -> None:
    assert noted([change(2, UNIT)], {UNIT, LINT}) == (need(UNIT), need(DOCS))


def test_what_those_ahead_have_yet_to_pass_is_for_them_to_have_run() -> None:
    book = TrialBook()
    book.note(on(1, 2), [need(UNIT), need(LINT), need(DOCS)], [change(2, UNIT)], lambda key: False, [change(1, UNIT, LINT)])
    assert book.trials[TWO][ahead(ONE)] == (need(UNIT), need(DOCS))


def test_tested_together_changes_share_what_each_of_them_touches() -> None:
    assert noted([change(1, LINT), change(2, UNIT)], {UNIT, LINT, DOCS}) == (need(UNIT), need(LINT))


def test_the_order_of_those_ahead_is_not_told_apart_and_who_they_are_is() -> None:
    book = booked(on(1, 2, 3), on(2, 1, 3), on(1, 3), on(3))
    assert known(book, THREE) == {ahead(ONE, TWO), ahead(ONE), ahead()}
    assert book.trials[THREE][ahead(ONE, TWO)] == (need(UNIT, "2 1 3"),)


def test_when_one_lands_what_assumed_it_stays_true_and_what_left_it_out_is_forgotten() -> None:
    book = booked(on(1, 2, 3), on(1, 3), on(2, 3), on(3))
    book.move([change(1, UNIT)], waiting(change(2, UNIT), change(3, UNIT)))
    assert book.trials[THREE] == {ahead(TWO): (need(UNIT, "1 2 3"),), ahead(): (need(UNIT, "1 3"),)}


def test_when_one_lands_that_it_does_not_meddle_with_all_stays_true() -> None:
    book = booked(on(1, 3), on(3))
    book.move([change(2, LINT)], waiting(change(3, UNIT)))
    assert known(book, THREE) == {ahead(ONE), ahead()}


def test_when_several_land_what_assumed_only_some_of_them_is_forgotten() -> None:
    book = booked(on(1, 3), on(2, 3), on(1, 2, 3))
    book.move([change(1, UNIT), change(2, UNIT)], waiting(change(3, UNIT)))
    assert book.trials[THREE] == {ahead(): (need(UNIT, "1 2 3"),)}


def test_of_those_that_landed_nothing_is_remembered() -> None:
    book = booked(on(1), on(1, 2))
    book.move([change(1, UNIT)], waiting(change(2, UNIT)))
    assert known(book, ONE) == set()
    assert known(book, TWO) == {ahead()}


def test_a_run_for_several_together_is_of_no_use_when_one_of_its_company_has_landed_alone() -> None:
    book = booked(on(1, 2, together=2), on(1, 2))
    book.move([change(1, UNIT)], waiting(change(2, UNIT)))
    assert known(book, TWO) == {ahead()}


def test_one_that_turned_out_not_to_merge_is_dropped_and_no_other() -> None:
    book = booked(on(1, 2), on(2))
    book.drop(on(1, 2))
    book.drop(on(9))
    assert known(book, TWO) == {ahead()}


def test_a_new_revision_belies_all_that_assumed_the_old_one() -> None:
    book = booked(on(1), on(1, 2), on(2), on(1, 2, 3), on(2, 3))
    book.forget(ONE)
    assert (known(book, ONE), known(book, TWO), known(book, THREE)) == (set(), {ahead()}, {ahead(TWO)})


def test_when_somebody_else_moves_trunk_nothing_is_known() -> None:
    book = booked(on(1), on(1, 2))
    book.forget()
    assert book.trials == {}
