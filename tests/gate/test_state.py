"""The fold: what the queue is after what has happened. Duplicates and races of tellers change nothing."""

from ci.model import CheckName, InputKey, Outcome, Result, RunId, Sha
from gate.model import (
    ApprovalGiven,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Event,
    Landed,
    LandingFailed,
    LandingStarted,
    Promoted,
    Reason,
    RetryRequested,
    RunFinished,
    RunStarted,
    Submission,
    TokenAdded,
    TokenRevoked,
    TrunkClosed,
    TrunkJudged,
    TrunkMoved,
    TrunkOpened,
    Verdict,
    Why,
)
from gate.state import TRUNK, State, fold

RED = (Reason(Why.CHECK_RED, check=CheckName("unit")),)


def state(*events: Event) -> State:
    found = State()
    fold(found, enumerate(events, 1))
    return found


def pushed(change: int, revision: int = 1) -> ChangeSubmitted:
    record, head = Sha(f"record {change}.{revision}"), Sha(f"head {change}.{revision}")
    return ChangeSubmitted(float(revision), Submission(record, ChangeId(change), revision, head, "ann", float(revision)))


def refused(change: int, revision: int = 1) -> ChangeRefused:
    return ChangeRefused(5.0, ChangeId(change), revision, RED)


def withdrawn(change: int, revision: int = 1) -> ChangeWithdrawn:
    return ChangeWithdrawn(5.0, ChangeId(change), revision, "ann")


def landing(*entries: tuple[int, int], base: str = "T0", commit: str = "T1") -> LandingStarted:
    commits = (*(Sha(f"{commit} part {at}") for at in range(len(entries) - 1)), Sha(commit))
    changes = tuple((ChangeId(change), revision) for change, revision in entries)
    return LandingStarted(6.0, Sha(base), Sha(commit), Sha("tree"), changes, commits, ())


def landed(base: str = "T0", commit: str = "T1") -> Landed:
    return Landed(7.0, Sha(base), Sha(commit))


def order(found: State) -> list[int]:
    return list(found.waiting)


# --- nothing changes --------------------------------------------------------------------------------------------------


def test_no_events_leave_nothing_waiting() -> None:
    assert state() == State()


def test_a_submission_told_twice_changes_nothing() -> None:
    assert order(state(pushed(1), pushed(1))) == [1]
    again = state(pushed(1), refused(1), pushed(1))
    assert again.waiting == {}
    assert again.verdicts == {1: Verdict.REFUSED}
    assert len(again.revisions[ChangeId(1)]) == 1


def test_an_older_revision_told_late_does_not_replace_the_newer_one() -> None:
    found = state(pushed(1), pushed(1, 2), pushed(1))
    assert found.waiting[ChangeId(1)].revision == 2


def test_a_landing_told_twice_lands_once() -> None:
    once: tuple[Event, ...] = (pushed(1), landing((1, 1)), landed())
    twice = state(*once, landed())
    twice.seq = len(once)
    assert twice == state(*once)


def test_the_end_of_an_unknown_run_changes_nothing() -> None:
    assert state(RunFinished(1.0, RunId("r1"), None)) == State(seq=1)


# --- revisions and places in the queue ----------------------------------------------------------------------------------


def test_a_new_revision_of_a_waiting_change_keeps_its_place() -> None:
    found = state(pushed(1), pushed(2), pushed(1, 2))
    assert order(found) == [1, 2]
    assert found.waiting[ChangeId(1)].revision == 2


def test_a_new_revision_of_a_refused_change_goes_to_the_end() -> None:
    found = state(pushed(1), pushed(2), refused(1), pushed(1, 2))
    assert order(found) == [2, 1]
    assert 1 not in found.verdicts


def test_a_new_revision_of_a_withdrawn_change_goes_to_the_end() -> None:
    assert order(state(pushed(1), pushed(2), withdrawn(1), pushed(1, 2))) == [2, 1]


def test_a_new_revision_of_a_landed_change_does_not_wait() -> None:
    found = state(pushed(1), landing((1, 1)), landed(), pushed(1, 2))
    assert found.waiting == {}
    assert found.verdicts == {1: Verdict.LANDED}
    newest = found.newest(ChangeId(1))
    assert newest is not None
    assert newest.revision == 2


def test_approvals_belong_to_one_revision() -> None:
    found = state(pushed(1), ApprovalGiven(2.0, ChangeId(1), 1, "maria"), pushed(1, 2))
    assert found.approvals == {(1, 1): {"maria": 2.0}}


# --- verdicts -----------------------------------------------------------------------------------------------------------


def test_a_verdict_on_an_old_revision_leaves_the_new_one_waiting() -> None:
    for verdict in (refused(1), withdrawn(1)):
        found = state(pushed(1), pushed(1, 2), verdict)
        assert order(found) == [1]
        assert found.verdicts == {}


def test_of_a_refusal_and_a_withdrawal_at_the_same_moment_the_first_stands() -> None:
    for first, second, verdict in (
        (refused(1), withdrawn(1), Verdict.REFUSED),
        (withdrawn(1), refused(1), Verdict.WITHDRAWN),
    ):
        found = state(pushed(1), first, second)
        assert found.verdicts == {1: verdict}
        assert found.decided[ChangeId(1), 1].verdict is verdict


def test_what_has_landed_has_landed_whatever_is_asked_at_the_same_moment() -> None:
    for events in (
        (pushed(1), landing((1, 1)), withdrawn(1), landed()),
        (pushed(1), landing((1, 1)), landed(), withdrawn(1)),
        (pushed(1), landing((1, 1)), landed(), refused(1)),
        (pushed(1), landing((1, 1)), pushed(1, 2), landed()),
    ):
        found = state(*events)
        assert found.waiting == {}
        assert found.verdicts == {1: Verdict.LANDED}
        assert found.decided[ChangeId(1), 1].verdict is Verdict.LANDED


def test_a_landing_decides_each_of_its_changes_with_its_own_commit() -> None:
    found = state(pushed(1), pushed(2), landing((1, 1), (2, 1)), landed())
    assert found.decided[ChangeId(1), 1].commit == "T1 part 0"
    assert found.decided[ChangeId(2), 1].commit == "T1"
    assert found.landed_by == {"T1 part 0": 1, "T1": 2}
    assert found.landing is None
    assert found.trunk == "T1"


def test_a_landing_that_failed_decides_nothing() -> None:
    found = state(pushed(1), landing((1, 1)), LandingFailed(7.0, Sha("T0"), Sha("T1"), "somebody else moved trunk"))
    assert order(found) == [1]
    assert found.landing is None
    assert found.trunk is None


def test_an_end_of_another_landing_is_not_taken_for_this_one() -> None:
    found = state(pushed(1), landing((1, 1)), landed(commit="elsewhere"))
    assert order(found) == [1]
    assert found.landing is not None


# --- retry --------------------------------------------------------------------------------------------------------------


def retry(change: int) -> RetryRequested:
    return RetryRequested(9.0, ChangeId(change), "ann")


def test_a_retry_reopens_a_refused_change_at_the_end_of_the_queue() -> None:
    found = state(pushed(1), pushed(2), refused(1), retry(1))
    assert order(found) == [2, 1]
    assert found.verdicts == {}
    assert found.decided == {}
    assert found.retried_at == {1: 9.0}


def test_a_retried_change_can_be_refused_again() -> None:
    found = state(pushed(1), refused(1), retry(1), refused(1))
    assert found.verdicts == {1: Verdict.REFUSED}


def test_a_retry_asked_twice_is_one() -> None:
    assert order(state(pushed(1), refused(1), retry(1), retry(1))) == [1]


def test_a_retry_of_a_waiting_change_keeps_its_place_and_moves_its_evidence() -> None:
    found = state(pushed(1), pushed(2), retry(1))
    assert order(found) == [1, 2]
    assert found.retried_at == {1: 9.0}


def test_a_retry_does_not_bring_back_what_has_landed_was_withdrawn_or_never_was() -> None:
    assert state(pushed(1), landing((1, 1)), landed(), retry(1)).waiting == {}
    assert state(pushed(1), withdrawn(1), retry(1)).waiting == {}
    assert state(retry(8)).waiting == {}


def test_a_retry_of_trunk_forgets_its_judgement_and_no_other() -> None:
    judged = [TrunkJudged(1.0, Sha("T0"), green=True), TrunkJudged(2.0, Sha("T1"), green=False)]
    found = state(TrunkMoved(0.0, None, Sha("T1")), *judged, RetryRequested(3.0, TRUNK, "ann"))
    assert list(found.judged) == ["T0"]
    assert found.green == "T0"


# --- the rest -------------------------------------------------------------------------------------------------------------


def test_runs_are_known_until_they_end_and_their_numbers_go_on() -> None:
    def started(run: str) -> RunStarted:
        return RunStarted(1.0, RunId(run), CheckName("unit"), InputKey("k"), Sha("c"), ())

    result = Result(InputKey("k"), CheckName("unit"), Outcome.GREEN, RunId("r1"), 1.0, 2.0)
    found = state(started("r1"), started("r2"), RunFinished(2.0, RunId("r1"), result))
    assert list(found.runs) == ["r2"]
    assert found.run_count == 2


def test_trunk_is_closed_until_it_is_opened() -> None:
    closed = TrunkClosed(1.0, "maria", "release")
    assert state(closed).closed == closed
    assert state(closed, TrunkOpened(2.0, "maria")).closed is None


def test_a_red_judgement_leaves_the_last_green_one() -> None:
    found = state(
        TrunkJudged(1.0, Sha("T0"), green=True), TrunkJudged(2.0, Sha("T1"), green=False), Promoted(3.0, Sha("T0"))
    )
    assert (found.green, found.promoted) == ("T0", "T0")


def test_a_revoked_token_is_gone_and_revoking_it_again_is_harmless() -> None:
    added, revoked = TokenAdded(1.0, "ci", "digest"), TokenRevoked(2.0, "ci")
    assert state(added).tokens == {"ci": "digest"}
    assert state(added, revoked, revoked).tokens == {}


def test_a_state_says_how_far_it_has_read() -> None:
    assert state(pushed(1), pushed(2)).seq == 2
    assert state(pushed(1), pushed(2)).seen == "record 2.1"
