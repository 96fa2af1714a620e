"""The journal: an append-only record of what happened, in SQLite beside the repository. Events are never changed.

Owns the events table and the schema's version; the result tables in the same file belong to ci/results.py. All SQL about
events is here. Any process may append (a person's command does); the daemon alone decides.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError

from ci.deploy.model import DeployFact
from ci.errors import Unavailable
from ci.model import Result, TestCase
from ci.results import record_result
from gate import model
from gate.looks import Look, Step
from gate.model import ChangeId, Event

BUSY_TIMEOUT_MS = 10_000  # how long a writer waits for another before it gives up
SCHEMA_VERSION = "0003"  # newest file in migrations/versions

_MEND = "stop the gate, move the file away, restore a copy of it or start without one: what waits in Git is found again"

_ALEMBIC = threading.Lock()  # it keeps what it is working on in its module

T = TypeVar("T")

METADATA = sa.MetaData()
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("change", sa.Integer, nullable=True, index=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
LOOKS = sa.Table(
    "looks",
    METADATA,
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("seen", sa.Integer, nullable=False),
    sa.Column("workers", sa.Integer, nullable=False),
    sa.Column("may_sandbox", sa.Boolean, nullable=False),
    sa.Column("may_start", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for union in (Event, DeployFact) for kind in get_args(union) if isinstance(kind, type)
}


class Journal:
    """The journal of one repository. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open, and create or migrate what is missing. Raises Unavailable when the file cannot be used."""
        self.path = path
        self._looks: list[Look] = []  # not written yet
        self._engine = _engine(path)
        self._reading = self._engine.execution_options(reads=True)
        with self._trouble():
            _migrate(self._engine, path)

    def append(self, *events: Event, results: Iterable[tuple[Result, tuple[TestCase, ...]]] = ()) -> None:
        """Write the events, in this order, and the results, in one durable transaction."""
        rows = [
            {"at": event.at, "kind": type(event).__name__, "change": _change_of(event), "data": encode(event)}
            for event in events
        ]
        looks = self._looks[:]
        with self._trouble(), self._engine.begin() as connection:
            for result, tests in results:
                record_result(connection.exec_driver_sql, result, tests)
            if rows:
                connection.execute(sa.insert(EVENTS), rows)
            if looks:
                connection.execute(sa.insert(LOOKS), [asdict(look) for look in looks])
        del self._looks[: len(looks)]

    def note(self, look: Look) -> None:
        """Have it written with the next events: it costs no transaction of its own. Those that are never written, because
        the daemon was killed before, had no consequence that lasts. For the thread that appends."""
        self._looks.append(look)

    def looks(self) -> list[Look]:
        """All that was written, oldest first."""
        wanted = sa.select(*(LOOKS.c[each.name] for each in fields(Look))).order_by(LOOKS.c.place)
        return [Look(Step(step), *more) for step, *more in self._rows(wanted)]

    def read(self, after: int = 0) -> list[tuple[int, Event]]:
        """Events with a sequence number above ``after``, oldest first."""
        wanted = sa.select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.data).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq)
        return [(seq, decode(kind, data)) for seq, kind, data in self._rows(wanted)]

    def of_change(self, change: ChangeId) -> list[tuple[int, Event]]:
        """Events that name this change as their own, oldest first."""
        wanted = (
            sa.select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.data).where(EVENTS.c.change == change).order_by(EVENTS.c.seq)
        )
        return [(seq, decode(kind, data)) for seq, kind, data in self._rows(wanted)]

    def query(self, ask: Callable[[Callable[..., Any]], T]) -> T:
        """Run one of ci/results.py's questions: ``ask`` gets the connection's execute."""
        with self._trouble(), self._reading.connect() as connection:
            return ask(connection.exec_driver_sql)

    def write(self, act: Callable[[Callable[..., Any]], object]) -> None:
        """Run one of ci/results.py's changes in a transaction: ``act`` gets the connection's execute."""
        with self._trouble(), self._engine.begin() as connection:
            act(connection.exec_driver_sql)

    def close(self) -> None:
        self._engine.dispose()

    def _rows(self, wanted: sa.Select[Any]) -> list[Any]:
        with self._trouble(), self._reading.connect() as connection:
            return list(connection.execute(wanted))

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Turn what a broken disk or file does to SQLite into a sentence."""
        try:
            yield
        except DatabaseError as cause:
            raise _unavailable(self.path, cause) from cause


def copy_journal(path: Path, to: Path) -> None:
    """Copy a journal as it is at this moment, though a daemon may be writing to it. ``path`` is only read; should there be
    none yet, there is none afterwards."""
    if not path.exists():
        return
    try:
        reading = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with closing(reading) as source, closing(sqlite3.connect(to)) as copy:
            source.backup(copy)
    except sqlite3.Error as cause:
        raise Unavailable(f"the journal {path} cannot be read: {cause}") from cause


def encode(event: Event) -> bytes:
    """One event as it is stored. A byte of a file's name that is no text becomes an escape, as in ``b\\udcfcro``."""
    try:
        return msgspec.json.encode(event)
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_text(msgspec.to_builtins(event)))


def _as_text(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_as_text(name): _as_text(item) for name, item in value.items()}
        case list() | tuple():
            return [_as_text(item) for item in value]
        case _:
            return value


def decode(kind: str, data: bytes) -> Event:
    """One stored event. Fields that this version does not know are ignored; a kind that it does not know is an error."""
    known = _KINDS.get(kind)
    if known is None:
        raise Unavailable(
            f"the journal holds an event of kind {kind!r}: it was written by a newer trunkgate; install that version"
        )
    try:
        event: Event = msgspec.json.decode(data, type=known)
    except msgspec.DecodeError as cause:
        raise Unavailable(f"the journal holds an event of kind {kind!r} that cannot be read ({cause}): {_MEND}") from cause
    return event


def _change_of(event: Event) -> int | None:
    if isinstance(event, model.ChangeSubmitted):
        return event.submission.change
    return getattr(event, "change", None)


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    )

    @sa.event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver guesses
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # what is recorded survives a power cut

    @sa.event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes later fails at once, whatever the timeout, when another wrote.
        # One that only reads waits for nobody, and nobody for it.
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _migrate(engine: sa.Engine, path: Path) -> None:
    """Bring the file to SCHEMA_VERSION; Alembic is imported only when there is something to do."""
    with engine.execution_options(reads=True).connect() as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            version = connection.exec_driver_sql("select version_num from alembic_version").scalar()
            if version == SCHEMA_VERSION:
                return
            if version is not None and str(version) > SCHEMA_VERSION:
                raise Unavailable(f"{path} has schema {version}, newer than this trunkgate knows: install the newer version")
    from alembic import command
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with _ALEMBIC, engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def _unavailable(path: Path, cause: DatabaseError) -> Unavailable:
    said = str(cause.orig)
    if "readonly" in said or "unable to open" in said:
        cure = "see that the folder belongs to, and can be written by, the account that runs the gate"
    elif "full" in said:
        cure = "free some disk space; nothing was lost, and trunk was not touched"
    elif "malformed" in said or "not a database" in said:
        cure = _MEND
    elif isinstance(cause, OperationalError) and "locked" in said:
        cure = "another program holds it; try again"
    else:
        cure = "see the disk and the file"
    return Unavailable(f"the journal {path} cannot be used: {said}; {cure}")
