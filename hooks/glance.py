"""``gate local``: a glance at the last commits: what checks in the background found, what runs, what was left out.

Reads small files and asks git once; runs nothing and alters nothing.
"""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ci.errors import UserError
from hooks import text
from hooks.desk import Desk
from hooks.records import INTERRUPTED, RUNNING, Answer, Note, Record, Seen, read_notes, read_records
from hooks.staged import ask_git

_LOOKED_BACK = 200
_SHOWN = 10


def run(words: list[str]) -> int:
    """Exit code 0, whatever there is to see. Raises UserError."""
    import argparse

    parser = argparse.ArgumentParser(prog="gate local", description=text.LOCAL_DESCRIPTION)
    parser.add_argument("--json", action="store_true", help=text.HELP_JSON)
    as_json = parser.parse_args(words).json
    (failed, answer), (_, log), (is_lost, places) = ask_git(
        ("rev-parse", "--path-format=absolute", "--git-common-dir"),
        ("log", "--no-show-signature", f"--max-count={_LOOKED_BACK}", "-z", "--format=%H %T %s"),
        ("rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "hooks"),
    )
    if failed:
        raise UserError(text.no_work_tree())
    if not is_lost:
        _tell_of_hooks_put_aside(os.fsdecode(places))
    found = look(Path(os.fsdecode(answer.removesuffix(b"\n"))), log)
    sys.stdout.write(_as_json(found) if as_json else text.glance(found, time.time()))
    return 0


def _tell_of_hooks_put_aside(places: str) -> None:
    """places: the work tree and the folder of hooks, a line each."""
    top, folder = places.removesuffix("\n").split("\n")[:2]
    if any(Path(folder).glob("*.old")):
        from hooks.install import put_aside  # nearly always for nothing

        if kinds := put_aside(Path(top), Path(folder)):
            text.warn(text.hooks_put_aside(kinds))


def look(common_dir: Path, log: bytes) -> list[Seen]:
    """The newest commits of which something is known. log: commits as ``id tree subject``, newest first, NUL in between."""
    records, notes = read_records(common_dir), read_notes(common_dir)
    found: list[Seen] = []
    for age, line in enumerate(log.split(b"\0")):
        commit, tree, subject = (*line.decode(errors="replace").split(" ", 2), "", "")[:3]
        record, note = records.get(commit), notes.get(tree, Note())
        if (record is not None or note != Note()) and len(found) < _SHOWN:
            found.append(Seen(commit, tree, age, subject, _state(record), record, note))
    return found


def _state(record: Record | None) -> str:
    if record is None:
        return ""
    if record.ended is not None:
        return record.ended
    return RUNNING if Desk(record.git_dir).worked_on() == record.commit else INTERRUPTED


def _as_json(found: list[Seen]) -> str:
    import json

    now = time.time()
    commits = [
        {
            "commit": seen.commit,
            "tree": seen.tree,
            "age": seen.age,
            "subject": seen.subject,
            "state": seen.state or None,
            "started_at": seen.record.started_at if seen.record else None,
            "ended_at": seen.record.ended_at if seen.record else None,
            "checks": [_facts(answer) for answer in seen.record.answers] if seen.record else [],
            "running": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in seen.running(now)],
            "waiting": seen.waiting,
            "skipped": list(seen.note.skipped),
            "left": list(seen.note.left),
            "trouble": seen.record.trouble if seen.record else "",
            "log": seen.log,
        }
        for seen in found
    ]
    return json.dumps({"commits": commits}, indent=2) + "\n"


def _facts(answer: Answer) -> dict[str, Any]:
    """The answer as ``gate check --json`` would tell it."""
    facts = asdict(answer)
    return {"name": facts.pop("name"), "outcome": facts.pop("outcome"), "cached": facts.pop("is_cached"), **facts}
