"""Who needs whose approval for what."""

import pytest

from gate.config import PathRule, Trust
from gate.model import Why
from gate.trust import is_maintainer, is_trusted, may_approve, missing_approvals

OWNER = "root"
NAMED = Trust(maintainers=("maria",), trusted=("tom",))
DATABASE = Trust(
    maintainers=("maria",),
    trusted=("*",),
    paths=(PathRule(paths=("db/**", "*.sql"), approvers=("dana", "dirk"), approvals=1),),
)
TWO = Trust(
    maintainers=("maria",), trusted=("*",), paths=(PathRule(paths=("db/**",), approvers=("dana", "dirk"), approvals=2),)
)


@pytest.mark.parametrize(
    ("trust", "person", "maintainer", "trusted"),
    [
        (Trust(), "anybody", False, True),
        (Trust(), OWNER, True, True),
        (NAMED, "maria", True, True),
        (NAMED, "tom", False, True),
        (NAMED, "ulf", False, False),
        (NAMED, OWNER, False, False),
        (NAMED, "*", False, False),
    ],
)
def test_who_is_what(trust: Trust, person: str, maintainer: bool, trusted: bool) -> None:
    assert is_maintainer(trust, person, OWNER) is maintainer
    assert is_trusted(trust, person, OWNER) is trusted


@pytest.mark.parametrize(
    ("what", "trust", "by", "paths", "approved_by"),
    [
        ("anybody's change, as long as nobody is named", Trust(), "ann", ["a"], []),
        ("a trusted person's change", NAMED, "tom", ["a"], []),
        ("a maintainer's change", NAMED, "maria", ["a"], []),
        ("somebody else's change that a maintainer has approved", NAMED, "ulf", ["a"], ["maria"]),
        ("a maintainer's change of gate.toml", NAMED, "maria", ["gate.toml"], []),
        ("a trusted person's change of gate.toml that a maintainer has approved", NAMED, "tom", ["gate.toml"], ["maria"]),
        ("a gate.toml that is not the gate's", NAMED, "tom", ["sub/gate.toml"], []),
        ("the owner's change of gate.toml while nobody is named", Trust(), OWNER, ["gate.toml"], []),
        ("a change beside a path rule", DATABASE, "ann", ["src/a"], []),
        ("a change under a path rule, approved", DATABASE, "ann", ["db/x"], ["dirk"]),
        ("an approver's own change under a rule for one", DATABASE, "dana", ["db/x"], []),
        ("an approver's own change under a rule for two, approved by the other", TWO, "dana", ["db/x"], ["dirk"]),
        ("a change under a rule for two, approved by both", TWO, "ann", ["db/x"], ["dana", "dirk"]),
        ("a change of no path at all", DATABASE, "ann", [], []),
    ],
)
def test_nothing_is_missing_for(what: str, trust: Trust, by: str, paths: list[str], approved_by: list[str]) -> None:
    assert missing_approvals(trust, by, paths, approved_by, OWNER) == (), what


@pytest.mark.parametrize(
    ("what", "trust", "by", "paths", "approved_by", "people"),
    [
        ("an untrusted person's change", NAMED, "ulf", ["a"], [], ("maria",)),
        ("an untrusted person's change approved by a trusted one", NAMED, "ulf", ["a"], ["tom"], ("maria",)),
        ("an untrusted person's change approved by themselves", NAMED, "ulf", ["a"], ["ulf"], ("maria",)),
        ("a trusted person's change of gate.toml", NAMED, "tom", ["a", "gate.toml"], [], ("maria",)),
        ("anybody's change of gate.toml while nobody is named", Trust(), "ann", ["gate.toml"], [], (OWNER,)),
        ("a change under a path rule", DATABASE, "ann", ["db/x"], [], ("dana", "dirk")),
        ("a maintainer's change under a path rule", DATABASE, "maria", ["db/x"], [], ("dana", "dirk")),
        ("a change under a path rule approved by its author", DATABASE, "ann", ["db/x"], ["ann"], ("dana", "dirk")),
        ("an approver's own change under a rule for two", TWO, "dana", ["db/x"], ["dana"], ("dirk",)),
        ("a change under a rule for two approved by one", TWO, "ann", ["db/x"], ["dana"], ("dirk",)),
        ("a file in a folder with a newline in its name", DATABASE, "ann", ["db/a\nb/c"], [], ("dana", "dirk")),
        ("a file that a rule names, below such a folder", DATABASE, "ann", ["a\nb/c.sql"], [], ("dana", "dirk")),
        ("a file whose name is not UTF-8", DATABASE, "ann", ["db/\udcff"], [], ("dana", "dirk")),
    ],
)
def test_an_approval_is_missing_for(
    what: str, trust: Trust, by: str, paths: list[str], approved_by: list[str], people: tuple[str, ...]
) -> None:
    (reason,) = missing_approvals(trust, by, paths, approved_by, OWNER)
    assert (reason.why, reason.people) == (Why.NEEDS_APPROVAL, people), what


def test_each_rule_that_is_not_met_is_named_with_the_files_that_it_is_about() -> None:
    reasons = missing_approvals(TWO, "ann", ["gate.toml", "db/b", "db/a", "src/c"], ["dana"], OWNER)
    assert [(reason.paths, reason.detail) for reason in reasons] == [
        (("gate.toml",), "it changes the gate's own rules"),
        (("db/a", "db/b"), "1 of 2 approvals missing"),
    ]


def test_maintainers_and_the_approvers_of_a_rule_may_approve() -> None:
    assert [person for person in ("maria", "dana", "ann", OWNER) if may_approve(DATABASE, person, OWNER)] == [
        "maria",
        "dana",
    ]
    assert may_approve(Trust(), OWNER, OWNER)
