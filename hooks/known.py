"""Whether every check has a green result for what is staged, found out without loading what runs checks.

It answers only where the answer is plain: nothing skipped, no check that looks at history or names tools, no gate.toml
altered, no path that hooks/inputs.py has not looked at. In all other cases it says None, and hooks.local finds out. Both
come to the same answer, by the same keys and the same store.
"""

# pathlib, tempfile and contextlib would cost more than everything this file does, and so would a look into the store, which
# sqlite3 keeps:
# ruff: noqa: PTH103, PTH105, PTH108, PTH120, PTH123, SIM105

import os
import sys

from ci.digest import digest
from ci.keytable import KEY_VERSION, KeyTable, Row, edits_of, key_for_files
from hooks import lines
from hooks.main import VERSION
from hooks.staged import DIFF, Staged, ask_git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GREENS = "gate/known"  # below the common Git directory: a file for each key with a green result, which says when it ended
TABLE = "gate/keys"  # below the Git directory of the work tree: each has a HEAD of its own to be near to
MOST_EDITS = 500  # that a table is worth reading for

_CONFIG = b"gate.toml"


class Known:
    """cached: names of the checks with a green result. idle: of those that nothing staged concerns. until: epoch seconds
    UTC, when the first of the results is too old."""

    def __init__(self, cached: list[str], idle: list[str], until: float) -> None:
        self.cached = cached
        self.idle = idle
        self.until = until

    def tell(self, took_s: float) -> None:
        """As hooks.text.LinePrinter would."""
        paint = lines.Paint()
        width = lines.width_of([*self.cached, *self.idle])
        out = [lines.of_check(name, width, lines.NO_FILES, lines.FAINT, paint) for name in self.idle]
        out += [lines.of_check(name, width, "cached", lines.GREEN, paint) for name in self.cached]
        count = len(self.cached)
        last = lines.of_all(count, count, [], [lines.NO_FILES] * len(self.idle), lines.span(took_s))
        sys.stdout.write("\n".join([*out, last if out else lines.NO_CHECK]) + "\n")


def greens(staged: Staged, names: list[str], now: float) -> Known | None:
    """names: of files, as given on the command line."""
    if staged.head_tree is None or "GATE_SKIP" in os.environ or staged.is_unmerged:
        return None
    try:
        return _greens(staged, KeyTable(f"{staged.git_dir}/{TABLE}"), names, now)
    except (OSError, KeyError, ValueError):  # no table, or a damaged one; a path that nobody has looked at; no result
        return None


def _greens(staged: Staged, table: KeyTable, names: list[str], now: float) -> Known | None:
    if table.version != VERSION or not all(row.is_fixed for row in table.rows):
        return None
    is_runner = "PRE_COMMIT" in os.environ
    files = staged.files()
    if names and (staged.prefix or sorted(names) != sorted(files)):
        return None
    changed = files + (staged.deleted() if is_runner or not names else []) + ([] if names else staged.submodules())
    edits = _edits(staged, table)
    if edits is None or any(path == _CONFIG or path.endswith(b"/" + _CONFIG) for path in edits):
        return None
    sets = {path: table.sets_of(os.fsencode(path)) for path in changed}
    keys: dict[str, tuple[str, Row]] = {}
    idle = []
    for row in table.rows:
        is_whole = row.inputs == Row.WHOLE
        named = [path for path in files if is_whole or sets[path] >> row.inputs & 1]
        if not (is_whole and changed) and not any(sets[path] >> row.inputs & 1 for path in changed):
            idle.append(row.name)
            continue
        if row.names_files and not named:
            idle.append(row.name)
            continue
        if is_whole and is_runner:
            return None  # it would run in the work tree, and whether that agrees has to be asked
        content = (b"tree", _tree(staged)) if is_whole else (b"inputs", table.matched(row.inputs, edits))
        key = digest(KEY_VERSION, row.definition, *content)
        keys[row.name] = (key_for_files(key, named) if row.names_files else key, row)
    until = _until(staged, keys, now)
    return None if until is None else Known([*keys], idle, until)


def _edits(staged: Staged, table: KeyTable) -> "Mapping[bytes, bytes | None] | None":
    """What is staged against the base of the table. None: too much, or git does not have the base any more."""
    raw = staged.raw
    if staged.head_tree != table.tree:
        ((failed, raw),) = ask_git((*DIFF, table.tree))
        if failed:
            return None
    return edits_of(raw) if raw.count(b"\0") <= 2 * MOST_EDITS else None


def _tree(staged: Staged) -> bytes:
    """The id of the staged tree. git writes trees only where it gets the lock of the index, which the commit may hold."""
    copy = f"{staged.git_dir}/gate/index.{os.getpid()}"
    try:
        with open(staged.index, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        ((failed, answer),) = ask_git(("write-tree",), index=copy)
    finally:
        for path in (copy, copy + ".lock"):
            try:
                os.unlink(path)
            except OSError:
                pass
    if failed:
        raise OSError("git write-tree failed")
    return answer.strip()


def _until(staged: Staged, keys: "Mapping[str, tuple[str, Row]]", now: float) -> float | None:
    """When the first of the green results is too old; None when a key has none now."""
    until = float("inf")
    for key, row in keys.values():
        with open(f"{staged.common_dir}/{GREENS}/{key}", "rb") as file:
            finished_at = float(file.read())
        if row.max_age_s is not None:
            until = min(until, finished_at + row.max_age_s)
    return until if now < until else None


# --- what the other half leaves for this one ------------------------------------------------------------------------------


def note_green(common_dir: str, key: str, finished_at: float) -> None:
    """The store has a green result of a whole run for this key. Where it cannot be noted, a shortcut is lost."""
    path = f"{common_dir}/{GREENS}/{key}"
    unfinished = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(unfinished, "wb") as file:
            file.write(b"%r\n" % finished_at)
        os.replace(unfinished, path)
    except OSError:
        pass
