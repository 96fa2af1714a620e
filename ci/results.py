"""The result store: which run of which check came to what, by input key, and the history of every test.

All SQL over results is in this module. Its functions take ``execute(sql, params)``, which the server binds to its journal's
connection (``connection.exec_driver_sql``) and the local hooks to ``sqlite3`` alone; transactions are the caller's. Results
are facts: recorded once, never altered, and only ``prune`` removes them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ci.model import CheckName, InputKey, Outcome, Result, RunId, TestCase
from ci.proof import proofs

if TYPE_CHECKING:
    import sqlite3

Answer = TypeVar("Answer")
Rows = Iterable[Sequence[Any]]
Execute = Callable[[str, Mapping[str, Any]], Rows]  # named parameters, as in :key

SCHEMA: tuple[str, ...] = (
    """CREATE TABLE IF NOT EXISTS results (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    check_name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    started_at REAL NOT NULL,
    finished_at REAL NOT NULL,
    exit_code INTEGER,
    isolation TEXT NOT NULL,
    reason TEXT NOT NULL,
    failed TEXT NOT NULL,
    log TEXT NOT NULL,
    tests TEXT NOT NULL DEFAULT '[]'
)""",
    "CREATE INDEX IF NOT EXISTS results_by_key ON results (key, seq)",
    "CREATE INDEX IF NOT EXISTS results_by_check ON results (check_name, seq)",
    "CREATE INDEX IF NOT EXISTS results_by_age ON results (finished_at)",
    """CREATE TABLE IF NOT EXISTS test_results (
    run TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    duration_s REAL NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (run, position)
)""",
    "CREATE INDEX IF NOT EXISTS test_results_by_name ON test_results (name)",
)

_COLUMNS = "key, check_name, outcome, run, started_at, finished_at, exit_code, isolation, reason, failed, log, tests"
_CHUNK = 100  # values per statement: far below what any SQLite or driver takes, and beyond it nothing gets faster


class TestRun(NamedTuple):
    """What one test came to in one run. outcome: passed, failed, error or skipped."""

    run: RunId
    key: InputKey
    finished_at: float
    outcome: str
    duration_s: float
    message: str


TestRun.__test__ = False  # type: ignore[attr-defined]  # not a pytest class


def newest_green(results: Iterable[Result], now: float, max_age_s: float | None) -> Result | None:
    """The result that spares a run: of those that make the key green, the one that finished last and is not too old.

    results: all of one key, oldest first. max_age_s None: never too old.
    """
    usable = (result for result in proofs(results) if result.is_green_at(now, max_age_s))
    return max(usable, key=lambda result: result.finished_at, default=None)


def record_result(execute: Execute, result: Result, tests: Sequence[TestCase] = ()) -> None:
    """Add one result and the tests that its report named. A run that is recorded already stays as it is."""
    execute(
        f"INSERT INTO results ({_COLUMNS}) VALUES (:key, :check_name, :outcome, :run, :started_at, :finished_at,"  # noqa: S608 - constants
        " :exit_code, :isolation, :reason, :failed, :log, :tests) ON CONFLICT DO NOTHING",
        {
            "key": result.key,
            "check_name": result.check,
            "outcome": result.outcome.value,
            "run": result.run,
            "started_at": result.started_at,
            "finished_at": result.finished_at,
            "exit_code": result.exit_code,
            "isolation": result.isolation,
            "reason": _storable(result.reason),
            "failed": json.dumps(result.failed),
            "log": _storable(result.log),
            "tests": json.dumps(result.tests),
        },
    )
    for start in range(0, len(tests), _CHUNK):
        rows = []
        params: dict[str, Any] = {"run": result.run}
        for position, test in enumerate(tests[start : start + _CHUNK], start):
            rows.append(f"(:run, :p{position}, :n{position}, :o{position}, :d{position}, :m{position})")
            params |= {
                f"p{position}": position,
                f"n{position}": _storable(test.name),
                f"o{position}": test.outcome,
                f"d{position}": test.duration_s,
                f"m{position}": _storable(test.message),
            }
        execute(
            "INSERT INTO test_results (run, position, name, outcome, duration_s, message) VALUES "  # noqa: S608 - placeholders
            f"{', '.join(rows)} ON CONFLICT DO NOTHING",
            params,
        )


def results_for_keys(execute: Execute, keys: Iterable[InputKey]) -> dict[InputKey, list[Result]]:
    """Every result of these keys, newest last. A key without any result is missing."""
    found: dict[InputKey, list[Result]] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _CHUNK):
        params = {f"k{number}": key for number, key in enumerate(wanted[start : start + _CHUNK])}
        rows = execute(
            f"SELECT {_COLUMNS} FROM results WHERE key IN ({', '.join(':' + name for name in params)}) ORDER BY seq",  # noqa: S608
            params,
        )
        for row in rows:
            result = _result(row)
            found.setdefault(result.key, []).append(result)
    return found


def latest_results(execute: Execute, check: CheckName | None = None, limit: int = 100) -> list[Result]:
    """The last results of one check, or (None) of all, newest last."""
    condition = "" if check is None else "WHERE check_name = :check_name"
    rows = execute(
        f"SELECT {_COLUMNS} FROM results {condition} ORDER BY seq DESC LIMIT :limit",  # noqa: S608 - constants
        {"limit": limit} | ({} if check is None else {"check_name": check}),
    )
    return [_result(row) for row in rows][::-1]


def past_runs(execute: Execute, check: CheckName, limit: int) -> list[tuple[bool, float]]:
    """(whether it was green, seconds) of the last whole runs of a check that had their say, newest last."""
    rows = execute(
        "SELECT outcome = 'green', finished_at - started_at FROM results WHERE check_name = :check_name AND tests = '[]'"
        " AND outcome IN ('green', 'red', 'timed out') ORDER BY seq DESC LIMIT :limit",
        {"check_name": check, "limit": limit},
    )
    return [(bool(is_green), duration_s) for is_green, duration_s in rows][::-1]


def cases_of_run(execute: Execute, run: RunId) -> list[TestCase]:
    """The tests of one run, in report order."""
    rows = execute(
        "SELECT name, outcome, duration_s, message FROM test_results WHERE run = :run ORDER BY position", {"run": run}
    )
    return [TestCase(name, outcome, duration_s, message) for name, outcome, duration_s, message in rows]


def history_of_test(execute: Execute, check: CheckName, name: str, limit: int = 100) -> list[TestRun]:
    """What one test of one check came to in its last runs, newest last."""
    rows = execute(
        "SELECT r.run, r.key, r.finished_at, t.outcome, t.duration_s, t.message"
        " FROM test_results t JOIN results r ON r.run = t.run"
        " WHERE t.name = :name AND r.check_name = :check_name ORDER BY r.seq DESC, t.position DESC LIMIT :limit",
        {"name": _storable(name), "check_name": check, "limit": limit},
    )
    return [TestRun(*row) for row in rows][::-1]


def prune(execute: Execute, finished_before: float) -> list[str]:
    """Remove results that finished before this moment, with their tests. Returns their logs, for the caller to remove.

    Costs a run when such a key comes again, nothing else.
    """
    params = {"finished_before": finished_before}
    logs = [log for (log,) in execute("SELECT log FROM results WHERE finished_at < :finished_before AND log <> ''", params)]
    execute("DELETE FROM test_results WHERE run IN (SELECT run FROM results WHERE finished_at < :finished_before)", params)
    execute("DELETE FROM results WHERE finished_at < :finished_before", params)
    return logs


def _result(row: Sequence[Any]) -> Result:
    key, check, outcome, run, started_at, finished_at, exit_code, isolation, reason, failed, log, tests = row
    return Result(
        key=key,
        check=check,
        outcome=Outcome(outcome),
        run=run,
        started_at=started_at,
        finished_at=finished_at,
        exit_code=exit_code,
        isolation=isolation,
        reason=reason,
        failed=tuple(json.loads(failed)),
        log=log,
        tests=tuple(json.loads(tests)),
    )


def _storable(text: str) -> str:
    """Text that a database takes: a lone surrogate, as in a file name that is not UTF-8, becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- the developer's own store ----------------------------------------------------------------------------------------


class LocalResults:
    """Results kept beside a developer's clone, in a file of SQLite's that is only a cache.

    Opened at the first question. Nothing that is wrong with the file or its place stops a check: a corrupt file is moved
    aside and begun anew, and where nothing can be stored, nothing is. ``warning`` then says so in a sentence.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning = ""
        self._connection: sqlite3.Connection | None = None
        self._is_unusable = False

    def record(self, result: Result, tests: Sequence[TestCase] = ()) -> None:
        self._attempt(lambda execute: record_result(execute, result, tests), None, writes=True)

    def for_keys(self, keys: Iterable[InputKey]) -> dict[InputKey, list[Result]]:
        wanted = tuple(keys)
        return self._attempt(lambda execute: results_for_keys(execute, wanted), {})

    def latest(self, check: CheckName | None = None, limit: int = 100) -> list[Result]:
        return self._attempt(lambda execute: latest_results(execute, check, limit), [])

    def past_runs(self, check: CheckName, limit: int) -> list[tuple[bool, float]]:
        return self._attempt(lambda execute: past_runs(execute, check, limit), [])

    def prune(self, finished_before: float) -> list[str]:
        return self._attempt(lambda execute: prune(execute, finished_before), [], writes=True)

    def count(self) -> int:
        return self._attempt(lambda execute: int(next(iter(execute("SELECT count(*) FROM results", {})))[0]), 0)

    def drop_oldest(self, one_in: int) -> bool:
        """Remove the oldest of every so many results, at least one, and give its room back. False: there was none."""

        def drop(execute: Execute) -> bool:
            rows = list(execute("SELECT max(seq), min(seq), count(*) FROM results", {}))
            newest, oldest, count = rows[0]
            if not count:
                return False
            params = {"until": oldest + (newest - oldest) // one_in}
            execute("DELETE FROM test_results WHERE run IN (SELECT run FROM results WHERE seq <= :until)", params)
            execute("DELETE FROM results WHERE seq <= :until", params)
            return True

        dropped = self._attempt(drop, False, writes=True)
        self.compact()
        return dropped

    def compact(self) -> None:
        """Give the room of what was removed back to the disk."""

        def vacuum(execute: Execute) -> None:
            execute("VACUUM", {})
            execute("PRAGMA wal_checkpoint(TRUNCATE)", {})

        if self.path.exists():
            self._attempt(vacuum, None)

    def size_bytes(self) -> int:
        """Of the file and of what SQLite keeps beside it."""
        files = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "LocalResults":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(self, action: Callable[[Execute], Answer], otherwise: Answer, *, writes: bool = False) -> Answer:
        """The action's answer; otherwise when the store cannot be used. A corrupt file is replaced once."""
        import sqlite3  # 8 ms that a run without any check need not pay

        is_second = False
        while not self._is_unusable:
            try:
                connection = self._open()
                if not writes:
                    return action(connection.execute)
                with _transaction(connection):
                    return action(connection.execute)
            except (OSError, sqlite3.DatabaseError) as wrong:
                is_corrupt = getattr(wrong, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
                if not (is_corrupt or isinstance(wrong, (OSError, sqlite3.OperationalError))):
                    raise  # our bug: a value or a statement that no store would take
                self.close()
                self._is_unusable = is_second or not (is_corrupt and self._move_aside(wrong))
                if self._is_unusable:
                    self.warning = f"{self.path} cannot be used ({wrong}): results are not kept, and checks run each time"
                is_second = True
        return otherwise

    def _open(self) -> "sqlite3.Connection":
        import sqlite3

        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            for statement in SCHEMA:
                self._connection.execute(statement)
            _add_what_is_new(self._connection)
        return self._connection

    def _move_aside(self, wrong: Exception) -> bool:
        """Put a corrupt file where somebody may look at it. The files that SQLite keeps beside it belong to it."""
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        try:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self.path.replace(aside)
        except OSError:
            return False
        self.warning = f"{self.path} was corrupt ({wrong}): moved to {aside.name} and begun anew, so checks run again once"
        return True


def _add_what_is_new(connection: "sqlite3.Connection") -> None:
    """A file of an earlier version lacks a column. Looked at again under the lock: two hooks may open it at once."""

    def lacks_tests() -> bool:
        return "tests" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(results)")}

    if lacks_tests():
        with _transaction(connection):
            if lacks_tests():
                connection.execute("ALTER TABLE results ADD COLUMN tests TEXT NOT NULL DEFAULT '[]'")


@contextmanager
def _transaction(connection: "sqlite3.Connection") -> Iterator[None]:
    """IMMEDIATE: a transaction that reads before it writes can otherwise fail at once, whatever the busy timeout is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")
