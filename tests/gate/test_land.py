"""The last look before trunk moves: whatever a plan says, nothing lands that the store and Git do not bear out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha
from fakes.repositories import Repository
from gate import land as landing
from gate.journal import Journal
from gate.land import land
from gate.model import Candidate, ChangeId, Merged, Need
from gate.repository import Repository as Gated
from gate.state import State

GREEN = Result(InputKey("k"), CheckName("unit"), Outcome.GREEN, RunId("r1"), 1.0, 2.0)


class Case:
    """A trunk, a commit on top of it that is a candidate, and a journal."""

    def __init__(self, bare: Repository, work: Repository) -> None:
        self.bare = bare
        self.base = Sha(work.head())
        self.commit = Sha(work.commit("change", {"x": "1"}))
        work.git("checkout", "-q", "--detach", self.base)
        self.other = Sha(work.commit("other", {"y": "1"}))
        work.git("push", "-q", str(bare.path), f"{self.other}:refs/heads/elsewhere", f"{self.commit}:refs/heads/change")
        (bare.path / "gate").mkdir()
        self.gated = Gated(bare.path)
        self.journal = Journal(self.gated.journal_path)
        need = Need(Check(CheckName("unit"), "true"), InputKey("k"))
        self.merged = Merged(self.commit, Sha(work.tree(self.commit)), (need,))

    def land(self, merged: Merged | None = None, commits: tuple[Sha, ...] | None = None) -> str | None:
        candidate = Candidate(self.base, ((ChangeId(1), 1),))
        return land(self.gated, self.journal, candidate, merged or self.merged, commits or (self.commit,), State(), 3.0)

    @property
    def trunk(self) -> str:
        return self.bare.head("refs/heads/main")


@pytest.fixture
def case(repository: Repository, tmp_path: Path) -> Iterator[Case]:
    made = Case(repository.clone(tmp_path / "srv.git", bare=True), repository)
    yield made
    made.journal.close()
    made.gated.close()


def test_what_is_green_lands(case: Case) -> None:
    case.journal.append(results=[(GREEN, ())])
    assert case.land() is None
    assert case.trunk == case.commit


@pytest.mark.parametrize("known", [None, Outcome.RED, Outcome.INFRASTRUCTURE])
def test_what_the_store_has_no_green_result_for_does_not_land(case: Case, known: Outcome | None) -> None:
    case.journal.append(results=[(GREEN._replace(outcome=known), ())] if known else [])
    assert "no green result of unit" in str(case.land())
    assert case.trunk == case.base


def test_a_retest_lands_nothing_before_it_outweighs_what_was_red(case: Case) -> None:
    red = GREEN._replace(outcome=Outcome.RED, run=RunId("r0"), failed=("t",))
    case.journal.append(results=[(red, ()), (GREEN._replace(tests=("t",)), ())])
    assert "no green result of unit" in str(case.land())
    assert case.trunk == case.base
    case.journal.append(results=[(GREEN._replace(run=RunId("r2"), tests=("t",)), ())])
    assert case.land() is None
    assert case.trunk == case.commit


def test_a_tree_or_commits_that_were_not_tested_do_not_land(case: Case) -> None:
    case.journal.append(results=[(GREEN, ())])
    assert "tree that was tested" in str(case.land(replace(case.merged, tree=Sha(case.bare.tree(case.base)))))
    assert "not the ones that were tested" in str(case.land(commits=(case.other,)))
    assert case.trunk == case.base


def test_a_trunk_that_somebody_moved_is_left_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.journal.append(results=[(GREEN, ())])
    case.bare.git("update-ref", "refs/heads/main", case.other)
    assert case.land() == "somebody else moved trunk"
    monkeypatch.setattr(landing, "_look_again", lambda *_: None)  # moved between the look and the landing
    assert case.land() is not None
    assert case.trunk == case.other
