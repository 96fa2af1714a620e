"""What was found out about commits: small files that ``gate local`` and the next commit read.

Two kinds, both below ``gate`` in the repository's common git folder. A record tells what the checks after one commit came
to; it is named by the commit. A note tells which checks a commit was made without; it is named by the tree, because when it
is written the commit does not exist yet. Each is written whole or not at all, the newest of each kind stay, and one that
cannot be read is none. Records hold facts only: whether the work on a commit still goes on is told by a lock of
hooks/desk.py.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ci.model import Outcome
from hooks.desk import Desk
from hooks.markers import NOTES

KEPT = 50  # of each kind; more than anybody looks back
RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check came to. outcome: a value of Outcome, None when it did not run. log: absolute path, or ""."""

    name: str
    outcome: str | None
    is_cached: bool = False
    duration_s: float = 0.0
    reason: str = ""
    failed: tuple[str, ...] = ()
    log: str = ""

    @property
    def is_bad(self) -> bool:
        return self.outcome in (Outcome.RED, Outcome.TIMED_OUT)


class Ended(StrEnum):
    """How the work on a commit ended."""

    FINISHED = "finished"
    SUPERSEDED = "superseded"  # by a newer commit
    STOPPED = "stopped"  # by its owner
    FAILED = "failed"  # a check could not be run, or gate.toml is broken


@dataclass(frozen=True, slots=True)
class Record:
    """The work on one commit. Times are epoch seconds UTC.

    git_dir: of the work tree in which it was asked for. wanted: every check of it. running: since when, by name.
    ended None: it goes on, or was killed. trouble: what kept it from going on.
    """

    commit: str
    git_dir: str
    started_at: float
    wanted: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    running: Mapping[str, float] = field(default_factory=dict)
    ended: Ended | None = None
    ended_at: float | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Names of the checks that a commit was made without: skipped by its owner, or left out for want of time."""

    skipped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit of which something is known. age: commits since. state: how the work on it stands, "" when there was none."""

    commit: str
    tree: str
    age: int
    subject: str
    state: str
    record: Record | None
    note: Note

    def running(self, now: float) -> list[tuple[str, float]]:
        """Checks that run, with the seconds since they began. now: epoch seconds UTC."""
        if self.record is None or self.state != RUNNING:
            return []
        return [(name, max(0.0, now - since)) for name, since in self.record.running.items()]

    @property
    def waiting(self) -> list[str]:
        """Checks that have not come to an end, and do not run."""
        if self.record is None:
            return []
        known = {answer.name for answer in self.record.answers}
        running = self.record.running if self.state == RUNNING else ()
        return [name for name in self.record.wanted if name not in known and name not in running]

    @property
    def log(self) -> str:
        """What the worker said that came to no end, or was brought to one; "" when nothing is to be read there."""
        log = Desk(self.record.git_dir).log if self.record is not None and self.state in (INTERRUPTED, Ended.FAILED) else ""
        return log if log and Path(log).exists() else ""


# --- one file each ------------------------------------------------------------------------------------------------------


def keep_record(common_dir: Path, record: Record) -> None:
    """Raises OSError."""
    _write(_records(common_dir) / f"{record.commit}.json", asdict(record))


def read_records(common_dir: Path) -> dict[str, Record]:
    """All that there are, by commit."""
    found = {}
    for path in _entries(_records(common_dir)):
        facts = _read(path)
        with suppress(TypeError, KeyError, ValueError):
            answers = tuple(Answer(**{**each, "failed": tuple(each["failed"])}) for each in facts["answers"])
            ended = Ended(facts["ended"]) if facts["ended"] else None
            record = Record(**{**facts, "wanted": tuple(facts["wanted"]), "answers": answers, "ended": ended})
            found[record.commit] = record
    return found


def keep_note(common_dir: Path, tree: str, note: Note) -> None:
    """Note it for the commit that will have this tree; an empty note takes an earlier one away. Raises OSError."""
    path = _notes(common_dir) / f"{tree}.json"
    if note == Note():
        path.unlink(missing_ok=True)
    else:
        _write(path, asdict(note))


def read_notes(common_dir: Path) -> dict[str, Note]:
    """All that there are, by tree."""
    found = {}
    for path in _entries(_notes(common_dir)):
        facts = _read(path)
        with suppress(TypeError, KeyError):
            found[path.stem] = Note(tuple(facts["skipped"]), tuple(facts["left"]))
    return found


def forget_all(common_dir: Path) -> None:
    """Remove every record and note."""
    for path in [*_entries(_records(common_dir)), *_entries(_notes(common_dir))]:
        path.unlink(missing_ok=True)


def _records(common_dir: Path) -> Path:
    return common_dir / "gate" / "background"


def _notes(common_dir: Path) -> Path:
    return common_dir / NOTES


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    for folder in (path.parent.parent, path.parent):  # and not the git folder, which is gone where its owner removed it
        folder.mkdir(mode=0o700, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.{os.getpid()}.new")
    unfinished.write_text(json.dumps(facts), encoding="utf-8")
    unfinished.replace(path)
    # What a killed process has left unfinished grows old like the rest.
    for old in sorted(path.parent.iterdir(), key=_written_at, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)


def _read(path: Path) -> Any:
    """What the file holds; nothing when it is gone, damaged, or of another version."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _entries(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # somebody else has just removed it
        return 0.0


# --- what is still red --------------------------------------------------------------------------------------------------


def unsettled(history: Sequence[Record]) -> tuple[Record, list[Answer]] | None:
    """The newest record with red answers that no later one has put another in place of, and these answers.

    history: records of one line of commits, newest first. A check is settled by what it came to in a later commit, and by no
    longer being asked for there.
    """
    for at, record in enumerate(history):
        reds = [answer for answer in record.answers if answer.is_bad]
        reds = [answer for answer in reds if not any(_settles(later, answer.name) for later in history[:at])]
        if reds:
            return record, reds
    return None


def _settles(later: Record, name: str) -> bool:
    if later.wanted and name not in later.wanted:
        return True
    return any(answer.name == name and (answer.outcome == Outcome.GREEN or answer.is_bad) for answer in later.answers)
