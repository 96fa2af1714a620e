"""Reads what hooks/receive.py recorded: the chain of submissions on refs/gate/submissions.

The first-parent chain is: newest record, ..., first record, an empty root. Each record's second parent is the pushed head,
so that no submitted commit is ever garbage.
"""

import json
import os
from pathlib import Path

from ci.errors import Unavailable
from ci.git import Git
from ci.model import RefName, Sha
from gate.model import ChangeId, ChangeSubmitted, Event, LandedBefore, Priority, Submission, Verdict
from gate.repository import Repository
from gate.state import State

SUBMISSIONS = RefName("refs/gate/submissions")
FORMAT = 1  # of the record, as hooks/receive.py writes it


def read_new(git: Git, after: Sha | None) -> list[Submission]:
    """Submissions recorded later than the record ``after``, oldest first; None: all of them.

    One call of git, two for the whole chain. Raises Unavailable, naming the record, when one cannot be read.
    """
    arguments = ["log", "-z", "--reverse", "--first-parent", "--no-show-signature", "--format=%H%n%B"]
    if after is not None:
        arguments.append(f"^{after}")
    if after is None and git.run("rev-parse", "--quiet", "--verify", SUBMISSIONS, ok=(0, 1)).code == 1:
        return []  # nothing was ever submitted; asked first, for the first push may come at any moment
    end = git.run(*arguments, "--end-of-options", SUBMISSIONS, "--", ok=(0, 128))
    if end.code != 0:
        raise Unavailable(f"{SUBMISSIONS} cannot be read: {end.err.strip()}")
    found = []
    for entry in end.out.decode("utf-8", "replace").split("\0"):
        record, _, text = entry.partition("\n")
        submission = _read(Sha(record), text) if record else None
        if submission is not None:
            found.append(submission)
    return found


def news(repository: Repository, state: State, now: float) -> list[Event]:
    """What Git knows of submissions and the journal does not. As long as the journal is whole, that is new submissions.

    Should it have been lost, what has landed is known by its mark: to land that again could undo what came after it.
    """
    found = read_new(repository.git, state.seen)
    newest = {item.change: item for item in found}
    marks = [
        LandedBefore(now, change, item.revision, mark)
        for change, item in newest.items()
        if state.verdicts.get(change) is not Verdict.LANDED and (mark := repository.look(f"refs/changes/{change}/landed"))
    ]
    return [*(ChangeSubmitted(item.at, item) for item in found), *marks]


def _read(record: Sha, text: str) -> Submission | None:
    """None for the root of the chain."""
    try:
        fact = json.loads(text)
        if fact["format"] != FORMAT:
            raise Unavailable(f"record {record} on {SUBMISSIONS} has format {fact['format']!r}: this gate reads {FORMAT}")
        if "change" not in fact:
            return None
        options = fact["options"]
        return Submission(
            record=record,
            change=ChangeId(int(fact["change"])),
            revision=int(fact["revision"]),
            head=Sha(str(fact["head"])),
            by=str(fact["by"]),
            at=float(fact["at"]),
            priority=Priority(options["priority"]),
            depends=tuple(ChangeId(int(change)) for change in options["depends"]),
            draft=bool(options["draft"]),
            fixes_trunk=bool(options.get("fixes_trunk", False)),
            topic=str(fact["topic"] or fact["change_id"]),
            subject=str(fact["subject"]),
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise Unavailable(
            f"record {record} on {SUBMISSIONS} cannot be read ({cause!r}): the repository is damaged"
        ) from cause


def poke(folder: Path) -> bool:
    """Wake the daemon of the gate folder ``REPO.git/gate``. False: none listens, which is harmless."""
    try:
        pipe = os.open(folder / "wake", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        os.write(pipe, b"p")
    except BlockingIOError:
        return True  # full: the daemon has been told often enough
    except OSError:
        return False
    finally:
        os.close(pipe)
    return True
