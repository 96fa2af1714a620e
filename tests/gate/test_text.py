"""Sentences for people: whole, on one line, and free of whatever a push has put into names."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.deploy.model import DeployFact
from ci.model import CheckName, InputKey, Outcome, Result, RunId, Sha
from gate import text
from gate.model import (
    ChangeId,
    ChangeRefused,
    ChangeWithdrawn,
    Event,
    LandingStarted,
    Promoted,
    Reason,
    RunFinished,
    RunStarted,
    TrunkJudged,
    TrunkMoved,
    Why,
)

KINDS: list[type[Any]] = sorted({*get_args(Event), *get_args(DeployFact)}, key=lambda kind: kind.__name__)
COMMIT = Sha("0123456789abcdef")
UNIT = CheckName("unit")
TWO = ChangeId(2)

REASONS = [
    (Reason(Why.CHECK_RED, check=UNIT), "the check unit is red"),
    (Reason(Why.CHECK_RED, check=UNIT, detail="exit 1"), "the check unit is red: exit 1"),
    (
        Reason(Why.CHECK_RED, check=UNIT, detail="exit 1", base=Sha("0123456789abcdef")),
        "the check unit is red: exit 1, by itself on main as of 0123456789",
    ),
    (Reason(Why.CHECK_RED, check=UNIT, tests=("a", "b"), detail="exit 1"), "the check unit is red: a and b failed"),
    (
        Reason(
            Why.CHECK_RED,
            check=UNIT,
            tests=("a",),
            detail="red twice, 70 s apart",
            odds=(("the change", 0.966), ("a flake", 0.02), ("trunk", 0.012), ("the machine", 0.002)),
        ),
        "the check unit is red: a failed (red twice, 70 s apart: the change 97 %, a flake 2 %, trunk 1 %)",
    ),
    (
        Reason(Why.CHECK_RED, check=UNIT, detail="exit 1", odds=(("the change", 0.9989), ("a flake", 0.0011))),
        "the check unit is red: exit 1 (the change 99.8 %)",
    ),
    (Reason(Why.CHECK_RED, check=UNIT, tests=("a",), odds=(("the change", 1.0),)), "the check unit is red: a failed"),
    (
        Reason(Why.WAITS_FOR_CHECK, check=UNIT, tests=("a",), odds=(("a flake", 0.6), ("the change", 0.4))),
        "a of unit was red, which may be nobody's fault, and is run once more (a flake 60 %, the change 40 %)",
    ),
    (
        Reason(Why.WAITS_FOR_CHECK, check=UNIT, odds=(("a flake", 0.6), ("the change", 0.4))),
        "unit was red, which may be nobody's fault, and is run once more (a flake 60 %, the change 40 %)",
    ),
    (
        Reason(Why.WAITS_FOR_CHANGE, change=TWO, check=UNIT, odds=(("a change ahead", 0.7), ("the change", 0.3))),
        "change 2 is ahead of it and undecided, on top of which unit is red (a change ahead 70 %, the change 30 %)",
    ),
    (Reason(Why.CONFLICT, paths=("src/a.py",)), "it conflicts with main in src/a.py"),
    (Reason(Why.CONFLICT, change=TWO, paths=("a", "b", "c")), "it conflicts with change 2 in a, b and c"),
    (Reason(Why.CONFLICT), "it conflicts with main in its history"),
    (Reason(Why.NOTHING_TO_DO), "there is nothing to do: main has all of it already"),
    (Reason(Why.BROKEN_CONFIG, detail="line 3: no"), "its gate.toml is broken: line 3: no"),
    (
        Reason(Why.DEPENDENCY_GONE, change=TWO, detail="it was refused"),
        "it depends on change 2, which cannot land: it was refused",
    ),
    (
        Reason(Why.NEEDS_APPROVAL, people=("ann", "ben"), paths=("db/x",)),
        "it needs an approval by ann or ben, for it touches db/x",
    ),
    (Reason(Why.NEEDS_APPROVAL), "it needs an approval by a maintainer"),
    (Reason(Why.TRUNK_CLOSED, detail="release"), "main is closed: release"),
    (Reason(Why.TRUNK_RED, check=UNIT, tests=("t",)), "main itself is red: unit fails there without this change (t failed)"),
    (Reason(Why.WAITS_FOR_CHANGE, change=TWO), "change 2 is ahead of it and undecided"),
    (
        Reason(Why.WAITS_FOR_CHANGE, change=TWO, paths=("a",)),
        "change 2 is ahead of it and undecided, with which it conflicts in a",
    ),
    (
        Reason(Why.WAITS_FOR_CHANGE, change=TWO, check=UNIT),
        "change 2 is ahead of it and undecided, on top of which unit is red",
    ),
    (Reason(Why.WAITS_FOR_CHECK, check=UNIT), "unit is being run"),
    (Reason(Why.WAITS_FOR_CHECK, detail="being merged"), "being merged"),
    (Reason(Why.WAITS_FOR_WORKER), "every worker is busy"),
    (Reason(Why.INFRASTRUCTURE, check=UNIT, detail="no sh"), "unit cannot be run on this machine: no sh"),
]


@pytest.mark.parametrize(("reason", "sentence"), REASONS, ids=lambda item: item.why.name if isinstance(item, Reason) else "")
def test_a_reason_reads(reason: Reason, sentence: str) -> None:
    assert text.reason(reason) == sentence


@pytest.mark.parametrize("why", Why, ids=lambda why: why.name)
def test_every_reason_has_words_with_or_without_its_details(why: Why) -> None:
    assert text.reason(Reason(why)).strip()
    full = Reason(why, UNIT, TWO, ("a",), ("t",), RunId("r1"), ("ann",), "a detail")
    assert text.reason(full).strip()
    assert "None" not in text.reason(full) + text.cure(full)


@pytest.mark.parametrize("why", [why for why in Why if text.cure(Reason(why)) == ""], ids=lambda why: why.name)
def test_only_what_passes_by_itself_or_says_its_cure_has_no_cure(why: Why) -> None:
    assert why in {
        Why.NOTHING_TO_DO,
        Why.NO_ISOLATION,
        Why.DRAFT,
        Why.TRUNK_CLOSED,
        Why.TRUNK_RED,
        Why.WAITS_FOR_CHANGE,
        Why.WAITS_FOR_CHECK,
        Why.WAITS_FOR_WORKER,
    }


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (ChangeWithdrawn(1.0, TWO, 1, "ann"), "change 2 withdrawn by ann"),
        (ChangeRefused(1.0, TWO, 1, (Reason(Why.NOTHING_TO_DO),)), "change 2 refused: there is nothing to do: main has all"),
        (RunStarted(1.0, RunId("r1"), UNIT, InputKey("k"), COMMIT, (ChangeId(1), TWO)), "unit started for change 2"),
        (RunStarted(1.0, RunId("r1"), UNIT, InputKey("k"), COMMIT, ()), "unit started on main"),
        (RunFinished(1.0, RunId("r1"), None, "nothing needs it"), "run r1 was stopped: nothing needs it"),
        (LandingStarted(1.0, COMMIT, COMMIT, COMMIT, ((TWO, 1),), (COMMIT,), ()), "landing change 2"),
        (
            LandingStarted(1.0, COMMIT, COMMIT, COMMIT, tuple((ChangeId(at), 1) for at in range(1, 9)), (COMMIT,), ()),
            "landing changes 1, 2, 3, 4, 5 and 3 more",
        ),
        (TrunkMoved(1.0, None, COMMIT), "main is at 0123456789"),
        (TrunkMoved(1.0, COMMIT, COMMIT), "main was moved to 0123456789 by somebody else than the gate"),
        (TrunkJudged(1.0, COMMIT, green=True), "main at 0123456789 is green"),
        (
            TrunkJudged(1.0, COMMIT, green=False, red=(UNIT,), suspects=(COMMIT, COMMIT)),
            "main at 0123456789 is red: unit; 2 commits can have done it",
        ),
        (Promoted(1.0, COMMIT), "green/main moved to 0123456789"),
    ],
)
def test_an_event_reads(fact: Event, line: str) -> None:
    assert text.event(fact).startswith(line)


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome.GREEN, "unit green in 2.0 s"),
        (Outcome.RED, "unit RED in 2.0 s: exit 1"),
        (Outcome.TIMED_OUT, "unit TIMED OUT after 2.0 s"),
        (Outcome.INFRASTRUCTURE, "unit could not be run: exit 1"),
    ],
)
def test_a_result_reads(outcome: Outcome, line: str) -> None:
    assert text.result(Result(InputKey("k"), UNIT, outcome, RunId("r1"), 1.0, 3.0, reason="exit 1")) == line


def test_a_refusal_ends_with_what_to_do_said_once() -> None:
    red = Reason(Why.CHECK_RED, check=UNIT)
    told = text.refused(TWO, [red, Reason(Why.CHECK_RED, check=CheckName("lint"))], "trunk")
    assert told == (
        "change 2 refused: the check unit is red; the check lint is red; "
        "to fix: mend it and push again; gate retry tries the same commits once more, and trunk without them"
    )
    assert text.refused(TWO, [Reason(Why.NOTHING_TO_DO)], "trunk").endswith("trunk has all of it already")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1.0, "0 ms"),
        (0.0, "0 ms"),
        (0.25, "250 ms"),
        (1.0, "1.0 s"),
        (119.0, "119.0 s"),
        (120.0, "2 min"),
        (7199.0, "2 h 0 min"),
        (9000.0, "2 h 30 min"),
    ],
)
def test_a_duration_reads(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_a_moment_is_iso_in_utc() -> None:
    assert text.moment(0.0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (list("abcde"), "a, b, c, d and e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
    ],
)
def test_a_list_reads(items: list[str], words: str) -> None:
    assert text.names(items) == words


HOSTILE = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["\x1b[2J", "a\nremote: landed", "\r", "\x00", "\u202egnp.exe", "\udcff", "\u2028", "\x9b31m"]
)


@pytest.fixture
def hostile_texts() -> Iterator[None]:
    """Every text that Hypothesis makes is as a push might have it; ids of commits come from Git itself."""
    before = st.from_type(str)
    st.register_type_strategy(str, HOSTILE)
    st.register_type_strategy(Sha, st.text("0123456789abcdef", min_size=40, max_size=40).map(Sha))
    yield
    st.register_type_strategy(str, before)


@pytest.mark.usefixtures("hostile_texts")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_event_can_put_a_control_character_on_a_terminal(kind: type[Any]) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.from_type(kind).filter(lambda fact: "inf" not in repr(fact) and "nan" not in repr(fact)))
    def check(fact: Event) -> None:
        line = text.event(fact)
        assert line.isprintable(), line
        line.encode()

    check()


@given(HOSTILE)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_what_is_cleaned_is_printable_bounded_and_can_be_encoded(sentence: str) -> None:
    cleaned = text.clean(sentence)
    assert cleaned.isprintable()
    assert len(cleaned) <= 1000
    cleaned.encode()


def test_a_very_long_sentence_is_cut() -> None:
    assert text.clean("x" * 5000) == "x" * 997 + "..."


def test_what_is_clean_stays_as_it_is() -> None:
    assert text.clean("Grüße, 世界 – a/b c") == "Grüße, 世界 – a/b c"


def test_a_reason_as_data_has_its_odds_where_there_are_any() -> None:
    plain = Reason(Why.DRAFT)
    assert text.as_data(plain) == {"why": "draft", "text": text.reason(plain), "cure": ""}
    blamed = Reason(Why.CHECK_RED, check=UNIT, odds=(("the change", 0.75), ("trunk", 0.25)))
    assert text.as_data(blamed)["odds"] == {"the change": 0.75, "trunk": 0.25}
