"""The result store, through both doors that the product uses, and the local file that is only a cache."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from ci.model import CheckName, InputKey, Outcome, Result, RunId, TestCase
from ci.results import (
    SCHEMA,
    Execute,
    LocalResults,
    cases_of_run,
    history_of_test,
    latest_results,
    newest_green,
    past_runs,
    prune,
    record_result,
    results_for_keys,
)

KEY, OTHER = InputKey("a" * 64), InputKey("b" * 64)
UNIT = CheckName("unit")


def result(run: str, *, key: InputKey = KEY, outcome: Outcome = Outcome.GREEN, at: float = 100.0) -> Result:
    return Result(key=key, check=UNIT, outcome=outcome, run=RunId(run), started_at=at - 1, finished_at=at)


FULL = Result(
    key=KEY,
    check=UNIT,
    outcome=Outcome.TIMED_OUT,
    run=RunId("full"),
    started_at=1.25,
    finished_at=2.5,
    exit_code=-9,
    isolation="bubblewrap",
    reason="ended after 1 s",
    failed=("t::a'b", 't::"\n;--'),
    log="logs/full.log",
    tests=("t::a'b", 't::"\n;--'),
)


@pytest.fixture(params=["sqlite3", "SQLAlchemy"])
def execute(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Execute]:
    if request.param == "sqlite3":
        connection = sqlite3.connect(":memory:", isolation_level=None)
        run: Execute = connection.execute
        close = connection.close
    else:
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'journal.sqlite'}")
        session = engine.connect()
        run = session.exec_driver_sql

        def close() -> None:
            session.close()
            engine.dispose()

    for statement in SCHEMA:
        run(statement, {})
    yield run
    close()


def test_a_result_comes_back_as_it_was(execute: Execute) -> None:
    record_result(execute, FULL)
    assert results_for_keys(execute, [KEY]) == {KEY: [FULL]}


def test_a_key_without_results_is_missing(execute: Execute) -> None:
    assert results_for_keys(execute, []) == {}
    assert results_for_keys(execute, [KEY]) == {}


def test_results_come_in_the_order_they_were_recorded_newest_last(execute: Execute) -> None:
    """Also when a clock was set back in between."""
    made = [result("r1", at=300.0), result("r2", at=100.0, outcome=Outcome.RED), result("r3", at=200.0)]
    for each in made:
        record_result(execute, each)
    record_result(execute, result("elsewhere", key=OTHER))
    assert results_for_keys(execute, [KEY])[KEY] == made
    assert latest_results(execute, UNIT, limit=2) == [made[2], result("elsewhere", key=OTHER)]
    assert latest_results(execute, CheckName("never ran")) == []


def test_what_a_check_came_to_is_told_of_whole_runs_that_had_their_say(execute: Execute) -> None:
    record_result(execute, result("old"))
    record_result(execute, result("red", outcome=Outcome.RED))
    record_result(execute, result("machine", outcome=Outcome.INFRASTRUCTURE))
    record_result(execute, result("retest")._replace(tests=("t",)))
    record_result(execute, FULL._replace(check=CheckName("another")))
    record_result(execute, result("slow", outcome=Outcome.TIMED_OUT)._replace(started_at=10.0, finished_at=14.5))
    assert past_runs(execute, UNIT, 10) == [(True, 1.0), (False, 1.0), (False, 4.5)]
    assert past_runs(execute, UNIT, 2) == [(False, 1.0), (False, 4.5)]


def test_thousands_of_keys_are_asked_for_at_once(execute: Execute) -> None:
    keys = [InputKey(f"{number:064}") for number in range(1000)]
    for number in (0, 99, 100, 999):
        record_result(execute, result(f"r{number}", key=keys[number]))
    assert set(results_for_keys(execute, [*keys, *keys])) == {keys[0], keys[99], keys[100], keys[999]}


def test_recording_a_run_twice_changes_nothing(execute: Execute) -> None:
    tests = [TestCase("t", "passed", 0.5)]
    record_result(execute, result("r"), tests)
    record_result(execute, result("r")._replace(outcome=Outcome.RED), [TestCase("t", "failed"), *tests])
    assert results_for_keys(execute, [KEY]) == {KEY: [result("r")]}
    assert cases_of_run(execute, RunId("r"))[0] == tests[0]


def test_every_test_has_a_history(execute: Execute) -> None:
    many = [TestCase(f"t{number}", "passed", number / 8) for number in range(250)]
    record_result(execute, result("r1", at=1), many)
    record_result(execute, result("r2", at=2, outcome=Outcome.RED), [TestCase("t7", "failed", 3.0, "assert 1 == 2")])
    record_result(execute, result("r3", at=3)._replace(check=CheckName("other")), [TestCase("t7", "passed")])
    assert cases_of_run(execute, RunId("r1")) == many
    history = history_of_test(execute, UNIT, "t7")
    assert [(test.run, test.outcome, test.duration_s, test.message) for test in history] == [
        ("r1", "passed", 7 / 8, ""),
        ("r2", "failed", 3.0, "assert 1 == 2"),
    ]
    assert [test.run for test in history_of_test(execute, UNIT, "t7", limit=1)] == ["r2"]


def test_names_that_are_not_utf8_are_kept_readable(execute: Execute) -> None:
    name = os.fsdecode(b"t\xff")
    record_result(execute, result("r")._replace(reason=name, failed=(name,)), [TestCase(name, "failed")])
    assert results_for_keys(execute, [KEY])[KEY][0].failed == (name,)
    assert len(history_of_test(execute, UNIT, name)) == 1


def test_pruning_takes_what_is_old_with_its_tests_and_names_its_logs(execute: Execute) -> None:
    record_result(execute, result("old", at=10)._replace(log="logs/old"), [TestCase("t", "passed")])
    record_result(execute, result("new", at=20)._replace(log="logs/new"), [TestCase("t", "passed")])
    record_result(execute, result("silent", at=10))
    assert prune(execute, finished_before=20) == ["logs/old"]
    assert [each.run for each in latest_results(execute)] == ["new"]
    assert (len(cases_of_run(execute, RunId("old"))), len(cases_of_run(execute, RunId("new")))) == (0, 1)


@pytest.mark.parametrize(
    ("results", "max_age_s", "run"),
    [
        ([], None, None),
        ([result("red", outcome=Outcome.RED)], None, None),
        ([result("g")], None, "g"),
        ([result("g"), result("red", outcome=Outcome.RED, at=150)], None, "g"),
        ([result("newer", at=150), result("older", at=120)], None, "newer"),
        ([result("older", at=120), result("newer", at=150)], None, "newer"),
        ([result("g", at=100)], 900, "g"),
        ([result("g", at=100)], 899, None),
        ([result("g", at=100), result("fresh", at=101)], 899, "fresh"),
    ],
)
def test_the_newest_green_result_in_time_spares_a_run(
    results: list[Result], max_age_s: float | None, run: str | None
) -> None:
    found = newest_green(results, now=1000.0, max_age_s=max_age_s)
    assert (found.run if found else None) == run


# --- the local store --------------------------------------------------------------------------------------------------


def test_a_retest_that_is_green_spares_no_run_before_it_outweighs_what_was_red() -> None:
    red = result("r", outcome=Outcome.RED, at=100)._replace(failed=("t",))
    first, second = (result(name, at=at)._replace(tests=("t",)) for name, at in (("g", 200), ("h", 300)))
    assert newest_green([red, first], 1000, None) is None
    assert newest_green([first, second], 1000, None) is None
    assert newest_green([red, first, second], 1000, None) == second
    assert newest_green([red, first, second], 1000, max_age_s=600) is None


def test_the_local_store_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.sqlite"
    with LocalResults(path) as store:
        assert not path.exists()  # nothing was asked yet
        store.record(FULL, [TestCase("t", "passed")])
        assert store.for_keys([KEY]) == {KEY: [FULL]}
    with LocalResults(path) as store:
        assert store.for_keys(iter([KEY])) == {KEY: [FULL]}
        assert store.latest() == [FULL]
        assert store.prune(finished_before=3) == ["logs/full.log"]
        assert store.for_keys([KEY]) == {}
        assert store.warning == ""


def test_a_local_store_of_an_earlier_version_is_used_on(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as old:
        for statement in SCHEMA:
            old.execute(statement.replace(",\n    tests TEXT NOT NULL DEFAULT '[]'", ""))
        old.execute("INSERT INTO results VALUES (1, 'r0', ?, 'unit', 'green', 1, 2, 0, 'plain', '', '[]', '')", (KEY,))
    old.close()
    for _ in range(2):
        with LocalResults(path) as store:
            assert store.for_keys([KEY])[KEY][0] == result("r0", at=2)._replace(exit_code=0)
            assert store.warning == ""
    with LocalResults(path) as store:
        store.record(FULL)
        assert store.latest()[-1] == FULL


def test_the_local_store_is_durable_and_shared(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with LocalResults(path) as one, LocalResults(path) as two:
        one.record(result("r1"))
        two.record(result("r2"))
        assert [each.run for each in one.for_keys([KEY])[KEY]] == ["r1", "r2"]
        connection = one._connection
        assert connection is not None
        answers = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
        assert answers == ["wal", 2, 10000]


def test_writing_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    """Else two hooks at once can fail whatever the timeout is."""
    with LocalResults(tmp_path / "results.sqlite") as store:
        store.for_keys([KEY])
        assert store._connection is not None
        said: list[str] = []
        store._connection.set_trace_callback(said.append)
        store.prune(finished_before=1)
        assert (said[0], said[-1]) == ("BEGIN IMMEDIATE", "COMMIT")


def test_a_failed_record_leaves_nothing_of_itself(tmp_path: Path) -> None:
    with LocalResults(tmp_path / "results.sqlite") as store:
        with pytest.raises(sqlite3.Error):
            store.record(result("r"), [TestCase("t", "passed", None)])  # type: ignore[arg-type]
        assert store.for_keys([KEY]) == {}


@pytest.mark.parametrize("damage", ["not a database", "pages overwritten"])
def test_a_corrupt_local_store_is_moved_aside_and_begun_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "results.sqlite"
    with LocalResults(path) as store:
        for number in range(200):
            store.record(result(f"r{number}"))
    content = path.read_bytes()
    path.write_bytes(b"rubbish" * 100 if damage == "not a database" else content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = path.read_bytes()
    with LocalResults(path) as store:
        assert store.for_keys([KEY]) == {}
        assert "was corrupt" in store.warning
        assert "results.sqlite.corrupt" in store.warning
        store.record(FULL)
        assert store.for_keys([KEY]) == {KEY: [FULL]}
    assert (tmp_path / "results.sqlite.corrupt").read_bytes() == damaged


@pytest.mark.parametrize("place", ["folder is a file", "file is a folder"])
def test_where_nothing_can_be_stored_checks_go_on(tmp_path: Path, place: str) -> None:
    path = tmp_path / "x" / "results.sqlite"
    if place == "folder is a file":
        (tmp_path / "x").write_text("")
    else:
        path.mkdir(parents=True)
    _works_without_storing(path)


def test_in_a_read_only_folder_checks_go_on(tmp_path: Path) -> None:
    place = tmp_path / "read only"
    place.mkdir()
    path = place / "results.sqlite"
    with LocalResults(path) as store:
        store.record(FULL)
    path.chmod(0o444)
    place.chmod(0o555)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        _works_without_storing(path)
    finally:
        os.seteuid(was)
        place.chmod(0o755)


def _works_without_storing(path: Path) -> None:
    with LocalResults(path) as store:
        store.record(result("r"))
        assert store.for_keys([OTHER]) == {}
        assert "cannot be used" in store.warning
        assert "results are not kept" in store.warning
