"""The feed of a change: one JSON line for everything that a waiting pusher wants to see.

Derived from the journal and from plans, so that hooks can follow a change with nothing but a file. Losing a feed loses
nothing: a verdict that is missing after a crash is written again at start.
"""

import json
import logging
import os
from pathlib import Path

from gate.model import ChangeId, Submission, Verdict
from gate.repository import Repository
from gate.text import clean

log = logging.getLogger("gate")


class Feed:
    """Appends to the feeds of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        (repository.folder / "feed").mkdir(exist_ok=True)
        self._last: dict[ChangeId, str] = {}

    def tell(self, submission: Submission, seq: int, line: str, at: float, verdict: Verdict | None = None) -> None:
        """Add a line for a revision; the same line twice in a row is told once."""
        if verdict is None and self._last.get(submission.change) == line:
            return
        self._last[submission.change] = line
        self._write(submission, seq, line, at, verdict)

    def repeat_verdict(self, submission: Submission, line: str, at: float, verdict: Verdict) -> None:
        """Write a verdict that a crash may have kept out of the feed."""
        path = self._repository.feed_path(submission.change)
        if not any(told["revision"] == submission.revision and told["verdict"] == verdict for told in read_lines(path)[0]):
            self._write(submission, 0, line, at, verdict)

    def _write(self, submission: Submission, seq: int, line: str, at: float, verdict: Verdict | None) -> None:
        told = {"seq": seq, "at": at, "revision": submission.revision, "text": clean(line), "verdict": verdict}
        # One write of one line with O_APPEND: a reader sees all of it or nothing. The newline before it ends a line that a
        # full disk or a crash cut short.
        try:
            handle = os.open(self._repository.feed_path(submission.change), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(handle).st_size
                is_cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
                os.write(handle, b"\n" * is_cut + json.dumps(told).encode() + b"\n")
            finally:
                os.close(handle)
        except OSError as trouble:  # what happened is in the journal; that nobody was told must not stop the gate
            log.warning("the feed of change %s cannot be written: %s", submission.change, trouble.strerror)


def read_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, object]], int]:
    """Whole lines from a byte offset on, and the offset after them. A feed that does not exist yet is empty."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return [told for line in whole.splitlines() if (told := _parsed(line)) is not None], offset + len(whole)


def _parsed(line: bytes) -> dict[str, object] | None:
    """None for a line that a full disk or a crash cut short."""
    try:
        found: dict[str, object] = json.loads(line)
    except ValueError:
        return None
    return found
