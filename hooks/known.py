"""Whether every check has a green result for what is staged, or gets one from the few checks that need no process: found
out without loading what runs checks.

It answers only where the answer is plain: nothing skipped, no check that looks at history or names tools, no gate.toml
altered, no path that hooks/inputs.py has not looked at. In all other cases it says None, and hooks.local finds out. Both
come to the same answer, by the same keys and the same store.
"""

# pathlib, tempfile and contextlib would cost more than everything this file does, and so would a look into the store, which
# sqlite3 keeps:
# ruff: noqa: PTH102, PTH105, PTH108, PTH123, SIM105

import os
import sys

from ci import RUNTIME
from ci.digest import digest
from ci.keytable import KEY_VERSION, KeyTable, Row, edits_of, key_for_files
from hooks import lines
from hooks.staged import DIFF_TREES, Staged, ask_git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GREENS = "gate/known"  # below the common Git directory: a file for each key with a green result, which says when it ended
TABLE = "gate/keys"  # below the Git directory of the work tree: each has a HEAD of its own to be near to
MOST_EDITS = 500  # that a table is worth reading for

_CONFIG = b"gate.toml"


class Known:
    """cached: names of the checks with a green result. ran: of those that ran just now and are green, with their seconds.
    idle: of those that nothing staged concerns. until: epoch seconds UTC, when the first of the results is too old."""

    def __init__(self, cached: list[str], ran: dict[str, float], idle: list[str], until: float) -> None:
        self.cached = cached
        self.ran = ran
        self.idle = idle
        self.until = until

    def tell(self, took_s: float) -> None:
        """As hooks.text.LinePrinter would."""
        paint = lines.Paint()
        width = lines.width_of([*self.cached, *self.ran, *self.idle])
        out = [lines.of_check(name, width, lines.NO_FILES, lines.FAINT, paint) for name in self.idle]
        out += [lines.of_check(name, width, "cached", lines.GREEN, paint) for name in self.cached]
        out += [
            lines.of_check(name, width, "green", lines.GREEN, paint, lines.span(seconds))
            for name, seconds in self.ran.items()
        ]
        slowest = max(self.ran, key=self.ran.__getitem__) if len(self.ran) > 1 else ""
        took = lines.span(took_s) + (f", slowest {lines.shown(slowest)}" if slowest else "")
        cached = len(self.cached)
        last = lines.of_all(cached + len(self.ran), cached, [], [lines.NO_FILES] * len(self.idle), took)
        sys.stdout.write("\n".join([*out, last, ""]) if out else lines.no_check())


def greens(staged: Staged, names: list[str], now: float) -> Known | None:
    """names: of files, as given on the command line."""
    if staged.head_tree is None or "GATE_SKIP" in os.environ or staged.is_unmerged:
        return None
    try:
        return _greens(staged, KeyTable(f"{staged.git_dir}/{TABLE}"), names, now)
    except (OSError, KeyError, ValueError):  # no table, or a damaged one; a path that nobody has looked at; no result
        return None


def _greens(staged: Staged, table: KeyTable, names: list[str], now: float) -> Known | None:
    if table.version != RUNTIME or not all(row.is_fixed for row in table.rows):
        return None
    is_runner = "PRE_COMMIT" in os.environ
    files = staged.files()
    if names and (staged.prefix or sorted(names) != sorted(files)):
        return None
    changed = files + (staged.deleted() + staged.others() if is_runner or not names else [])
    edits = _edits(staged, table)
    if edits is None or any(is_config(path) for path in edits):
        return None
    sets = {path: table.sets_of(os.fsencode(path)) for path in changed}
    keys: list[tuple[Row, str, list[str]]] = []
    idle = []
    tree = b""
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
        tree = tree or (tree_of(staged) if is_whole else b"")
        content = (b"tree", tree) if is_whole else (b"inputs", table.matched(row.inputs, edits))
        key = digest(KEY_VERSION, row.definition, *content)
        keys.append((row, key_for_files(key, named) if row.names_files else key, named))
    return _answered(staged, keys, idle, now)


def _edits(staged: Staged, table: KeyTable) -> "Mapping[bytes, bytes | None] | None":
    """What is staged against the base of the table. None: too much, or git does not have the base any more."""
    of_head = _edits_of_head(staged.head_tree or "", table)
    edits = None if of_head is None else of_head | edits_of(staged.raw)
    return edits if edits is not None and len(edits) <= MOST_EDITS else None


def _edits_of_head(tree: str, table: KeyTable) -> "dict[bytes, bytes | None] | None":
    edits = {} if tree == table.tree else table.seen.edits(tree)
    if edits is not None:
        return edits
    ((failed, raw),) = ask_git((*DIFF_TREES, table.tree, tree))
    if failed or raw.count(b"\0") > 2 * MOST_EDITS:
        return None
    edits = edits_of(raw)
    try:
        table.seen.add_edits(tree, edits)
    except OSError:
        pass
    return edits


def is_config(path: bytes) -> bool:
    """Whether it is a gate.toml, of whatever folder."""
    return path == _CONFIG or path.endswith(b"/" + _CONFIG)


def tree_of(staged: Staged) -> bytes:
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


def _answered(staged: Staged, keys: "Sequence[tuple[Row, str, list[str]]]", idle: list[str], now: float) -> Known | None:
    """keys: of each check, with its key and its files."""
    until = float("inf")
    cached, open_ = [], []
    for row, key, files in keys:
        finished_at = green_at(staged.common_dir, key)
        expires_at = float("inf") if row.max_age_s is None else finished_at + row.max_age_s
        if now < expires_at and finished_at:
            cached.append(row.name)
            until = min(until, expires_at)
        else:
            open_.append((row, key, files))
    ran = _run(staged, open_)
    if ran is None:
        return None
    for row, key, _ in open_:
        note_green(staged.common_dir, key, now)
        until = min(until, now + (row.max_age_s or float("inf")))
    return Known(cached, ran, idle, until)


def _run(staged: Staged, open_: "Sequence[tuple[Row, str, list[str]]]") -> dict[str, float] | None:
    """Seconds that each of these took. None: not all can be run here, or one found something, which is told elsewhere."""
    if not open_:
        return {}
    from hooks.hygiene import parsed

    requests = [parsed(row.command) for row, _, _ in open_]
    if any(request is None or "case-conflict" in request.names for request in requests):
        return None  # names may clash with those of files that are not looked at here
    from time import monotonic

    from hooks.in_process import judged

    blobs = staged.blobs()
    took = {}
    for (row, _, files), request in zip(open_, requests, strict=True):
        began = monotonic()
        if request is None or any(found for _, _, found in judged(request, {path: blobs[path] for path in files})):
            return None
        took[row.name] = monotonic() - began
    return took


# --- what the other half leaves for this one ------------------------------------------------------------------------------


def green_at(common_dir: str, key: str) -> float:
    """When the newest green run of this key ended, epoch seconds UTC; 0: there is none, as far as was noted."""
    try:
        with open(f"{common_dir}/{GREENS}/{key}", "rb") as file:
            return float(file.read())
    except (OSError, ValueError):
        return 0.0


def note_green(common_dir: str, key: str, finished_at: float) -> None:
    """The store has a green result of a whole run for this key. Where it cannot be noted, a shortcut is lost."""
    path = f"{common_dir}/{GREENS}/{key}"
    unfinished = f"{path}.{os.getpid()}"
    try:
        for folder in (f"{common_dir}/gate", f"{common_dir}/{GREENS}"):  # and not the git folder, should it be gone
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                pass
        with open(unfinished, "wb") as file:
            file.write(b"%r\n" % finished_at)
        os.replace(unfinished, path)
    except OSError:
        pass
