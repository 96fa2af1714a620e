"""The journal on real disks: what is written is read back, by several processes, and trouble is a sentence."""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.deploy.model import DeployFact
from ci.errors import Unavailable
from ci.model import CheckName, InputKey, Outcome, Result, RunId, Sha, TestCase
from ci.results import SCHEMA, results_for_keys
from gate.journal import METADATA, SCHEMA_VERSION, Journal, copy_journal, decode
from gate.looks import Look, Step
from gate.model import (
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Event,
    Reason,
    Submission,
    TrunkClosed,
    TrunkOpened,
    Why,
)

KINDS: list[type[Any]] = sorted({*get_args(Event), *get_args(DeployFact)}, key=lambda kind: kind.__name__)
OPENED = TrunkOpened(1.0, "maria")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def closed(reason: str, at: float = 1.0) -> TrunkClosed:
    return TrunkClosed(at, "maria", reason)


def result(run: str = "r1") -> Result:
    return Result(InputKey("k"), CheckName("unit"), Outcome.RED, RunId(run), 1.0, 2.0, 1, reason="exit 1", failed=("t",))


# --- append and read ----------------------------------------------------------------------------------------------------


def test_a_new_journal_holds_nothing(path: Path) -> None:
    assert Journal(path).read() == []


def test_events_come_back_in_the_order_of_their_telling_with_numbers_that_rise(path: Path) -> None:
    journal = Journal(path)
    journal.append(closed("a", at=9.0), OPENED)
    journal.append(closed("b"))
    assert journal.read() == [(1, closed("a", at=9.0)), (2, OPENED), (3, closed("b"))]
    assert journal.read(after=2) == [(3, closed("b"))]


def test_nothing_appended_is_nothing_written(path: Path) -> None:
    journal = Journal(path)
    journal.append()
    assert journal.read() == []


def test_what_was_appended_is_there_after_opening_again(path: Path) -> None:
    journal = Journal(path)
    journal.append(OPENED)
    journal.close()
    assert Journal(path).read() == [(1, OPENED)]


def test_the_events_of_one_change_are_found_the_submission_among_them(path: Path) -> None:
    submitted = ChangeSubmitted(1.0, Submission(Sha("r"), ChangeId(7), 1, Sha("h"), "ann", 1.0))
    withdrawn = ChangeWithdrawn(2.0, ChangeId(7), 1, "ann")
    journal = Journal(path)
    journal.append(submitted, OPENED, ChangeWithdrawn(2.0, ChangeId(8), 1, "ann"), withdrawn)
    assert journal.of_change(ChangeId(7)) == [(1, submitted), (4, withdrawn)]


def test_events_and_results_are_written_together_or_not_at_all(path: Path) -> None:
    journal = Journal(path)
    tests = (TestCase("t", "failed", 0.5, "no"),)
    journal.append(OPENED, results=[(result(), tests)])
    assert journal.query(lambda execute: results_for_keys(execute, [InputKey("k")])) == {"k": [result()]}
    assert journal.query(lambda execute: list(execute("SELECT run, name FROM test_results"))) == [("r1", "t")]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Unavailable):
        journal.append(OPENED, results=[(result("r2"), ())])
    assert journal.query(lambda execute: results_for_keys(execute, [InputKey("k")])) == {"k": [result()]}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_event_comes_back_as_it_was(kind: type[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.sqlite")

    @settings(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.from_type(kind).filter(is_told), max_size=3))
    def check(events: list[Event]) -> None:
        before = journal.read()
        journal.append(*events)
        assert [event for _, event in journal.read()[len(before) :]] == events

    check()


def is_told(event: object) -> bool:
    """Numbers as the gate tells them: no infinities, and none beyond what the database's integers hold."""
    return "inf" not in repr(event) and "nan" not in repr(event) and abs(getattr(event, "change", 0) or 0) < 2**62


def test_a_name_that_is_no_text_is_written_with_its_bytes_shown(path: Path) -> None:
    """A conflict in a file whose name is not UTF-8, as Git and Python tell it."""
    journal = Journal(path)
    reason = Reason(Why.CONFLICT, paths=(os.fsdecode(b"b\xfcro"), "fine"))
    journal.append(ChangeRefused(1.0, ChangeId(1), 1, (reason,)))
    ((_, event),) = journal.read()
    assert isinstance(event, ChangeRefused)
    assert event.reasons[0].paths == ("b\\udcfcro", "fine")


# --- several at once ----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from gate.journal import Journal
from gate.model import TrunkClosed
for at in range(int(sys.argv[3])):
    Journal(Path(sys.argv[1])).append(TrunkClosed(float(at), sys.argv[2], "a"), TrunkClosed(float(at), sys.argv[2], "b"))
"""


def writer(path: Path, name: str, times: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(times)])


def test_two_processes_begin_one_journal_and_write_side_by_side(path: Path) -> None:
    writers = [writer(path, name, 20) for name in ("ann", "ben")]
    assert [process.wait(60) for process in writers] == [0, 0]
    events = [event for _, event in Journal(path).read()]
    pairs = list(zip(events[::2], events[1::2], strict=True))
    assert len(pairs) == 40
    for first, second in pairs:
        assert isinstance(first, TrunkClosed)
        assert isinstance(second, TrunkClosed)
        assert (first.by, first.at, first.reason, second.reason) == (second.by, second.at, "a", "b")
    for name in ("ann", "ben"):
        assert [first.at for first, _ in pairs if isinstance(first, TrunkClosed) and first.by == name] == list(range(20))


def test_reading_waits_for_no_writer(path: Path) -> None:
    journal = Journal(path)
    journal.append(OPENED)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert journal.read() == [(1, OPENED)]
        assert Journal(path).query(lambda execute: results_for_keys(execute, [InputKey("k")])) == {}
    finally:
        other.close()


def test_writing_waits_for_another_and_then_says_who_is_in_the_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.journal.BUSY_TIMEOUT_MS", 50)
    journal = Journal(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Unavailable, match="another program holds it; try again"):
            journal.append(OPENED)
    finally:
        other.close()
    journal.append(OPENED)


# --- trouble --------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_journal_is_named_and_left_alone(path: Path) -> None:
    path.write_bytes(b"This is no database, however one looks at it.\n" * 100)
    before = path.read_bytes()
    with pytest.raises(Unavailable, match=r"journal\.sqlite cannot be used: file is not a database; stop the gate"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_damaged_journal_is_a_sentence(path: Path) -> None:
    journal = Journal(path)
    for at in range(200):
        journal.append(closed("x" * 500, at))
    journal.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(Unavailable, match="malformed"):
        Journal(path).read()


def test_a_damaged_event_is_a_sentence(path: Path) -> None:
    journal = Journal(path)
    journal.append(OPENED)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE events SET data = '{\"at\": 1'")
    with pytest.raises(Unavailable, match="event of kind 'TrunkOpened' that cannot be read"):
        journal.read()


def test_a_folder_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open database file; see that the folder"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")


def run_with(prelude: str, path: Path) -> str:
    """What a process says that opens the journal and appends a large event, after these lines. "fine" if it can."""
    script = f"""
import os, resource, sys
from pathlib import Path
from ci.errors import Unavailable
from gate.journal import Journal
from gate.model import TrunkClosed
path = Path(sys.argv[1])
{prelude}
try:
    Journal(path).append(TrunkClosed(1.0, "maria", "x" * 1_000_000))
    print("fine")
except Unavailable as trouble:
    print(trouble)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the next test takes another way")
def test_a_folder_that_may_not_be_written_is_a_sentence(path: Path) -> None:
    Journal(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert "readonly database; see that the folder" in run_with("", path)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_elses_folder_is_a_sentence() -> None:
    with tempfile.TemporaryDirectory() as folder:  # for the folders that pytest makes are closed to others
        path = Path(folder) / "journal.sqlite"
        Journal(path).close()
        path.parent.chmod(0o755)
        said = run_with("os.setgid(65534); os.setuid(65534)", path)
    assert "see that the folder belongs to, and can be written by, the account that runs the gate" in said


def test_a_full_disk_is_a_sentence_and_nothing_of_the_event_is_there(path: Path) -> None:
    """The largest file that may be written stands for the disk."""
    Journal(path).append(OPENED)
    said = run_with("resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))", path)
    assert said.startswith(f"the journal {path} cannot be used: ")
    assert Journal(path).read() == [(1, OPENED)]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000


def test_a_full_database_says_that_space_is_to_be_freed(path: Path) -> None:
    journal = Journal(path)

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 30")

    sa.event.listen(journal._engine, "checkout", limit)
    with pytest.raises(Unavailable, match="database or disk is full; free some disk space"):
        journal.append(closed("x" * 1_000_000))
    journal.append(OPENED)
    assert journal.read() == [(1, OPENED)]


# --- versions -----------------------------------------------------------------------------------------------------------


def test_a_newer_schema_asks_for_the_newer_version(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(Unavailable, match="schema 0999, newer than this trunkgate knows"):
        Journal(path)


def test_an_event_of_a_newer_version_is_named() -> None:
    with pytest.raises(Unavailable, match="kind 'TrunkPainted': it was written by a newer trunkgate"):
        decode("TrunkPainted", b"{}")


def test_the_odds_of_a_reason_come_back_and_one_of_an_earlier_version_has_none(path: Path) -> None:
    refused = ChangeRefused(1.0, ChangeId(1), 1, (Reason(Why.CHECK_RED, odds=(("the change", 0.75), ("a flake", 0.25))),))
    Journal(path).append(refused)
    assert Journal(path).read() == [(1, refused)]
    old = b'{"at": 1.0, "change": 1, "revision": 1, "reasons": [{"why": "check red", "check": "unit"}]}'
    assert decode("ChangeRefused", old) == ChangeRefused(
        1.0, ChangeId(1), 1, (Reason(Why.CHECK_RED, check=CheckName("unit")),)
    )


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    assert decode("TrunkOpened", b'{"at": 1.0, "by": "maria", "colour": "green"}') == OPENED


def test_a_fresh_schema_is_what_the_migrations_lead_to(path: Path, tmp_path: Path) -> None:
    Journal(path).close()
    fresh = sqlite3.connect(tmp_path / "fresh.sqlite")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    METADATA.create_all(engine)
    engine.dispose()
    for statement in SCHEMA:
        fresh.execute(statement)
    migrated = sqlite3.connect(path)
    assert schema_of(migrated) == schema_of(fresh)
    (version,) = migrated.execute("SELECT version_num FROM alembic_version").fetchone()
    assert version == SCHEMA_VERSION
    fresh.close()
    migrated.close()


def test_results_of_the_first_schema_are_of_whole_runs(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE results DROP COLUMN tests")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("INSERT INTO results VALUES (1, 'r0', 'k', 'unit', 'green', 1, 2, 0, 'plain', '', '[]', '')")
    connection.close()
    (found,) = Journal(path).query(lambda execute: results_for_keys(execute, [InputKey("k")]))[InputKey("k")]
    assert (found.outcome, found.tests) == (Outcome.GREEN, ())


def schema_of(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Columns of the tables and of the indices, by name; Alembic's own table left out."""
    named = connection.execute("SELECT type, name FROM sqlite_master WHERE tbl_name <> 'alembic_version'").fetchall()
    pragma = {"table": "table_info", "index": "index_info"}
    return {
        name: connection.execute(f"PRAGMA {pragma[kind]}('{name}')").fetchall() for kind, name in named if kind in pragma
    }


def test_looks_are_written_with_the_next_events_and_wait_for_a_disk_that_is_full(path: Path) -> None:
    journal = Journal(path)
    first = Look(Step.STARTED, 1.0, 0)
    second = Look(Step.PLANNED, 2.5, 3, workers=4, may_sandbox=True, may_start=False)
    journal.note(first)
    journal.note(second)
    assert journal.looks() == []
    with sqlite3.connect(path) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON looks BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(Unavailable):
        journal.append(OPENED)
    with sqlite3.connect(path) as other:
        other.execute("DROP TRIGGER full")
    assert journal.read() == [], "together or not at all"
    journal.append(OPENED)
    journal.append(OPENED)
    assert journal.looks() == [first, second]


def test_a_copy_holds_what_was_there_and_leaves_the_journal_alone(path: Path, tmp_path: Path) -> None:
    journal = Journal(path)
    journal.append(OPENED)
    with sqlite3.connect(path) as other:  # of an earlier version
        other.execute("UPDATE alembic_version SET version_num = '0002'")
    copy_journal(path, tmp_path / "copy.sqlite")
    journal.append(OPENED)
    assert Journal(tmp_path / "copy.sqlite").read() == [(1, OPENED)]
    assert sqlite3.connect(path).execute("SELECT version_num FROM alembic_version").fetchone() == ("0002",)
    copy_journal(tmp_path / "missing.sqlite", tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "torn.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(Unavailable, match=r"torn.sqlite cannot be read"):
        copy_journal(tmp_path / "torn.sqlite", tmp_path / "torn-copy.sqlite")
