"""``gate cache``: what the local hooks keep, and how it is kept small.

Kept are results and logs, beside the repository's objects and shared by its linked work trees, and the warm work trees of
the pool. All of it may go at any time: it costs a run.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ci.errors import UserError
from ci.results import LocalResults
from hooks import text
from hooks.known import GREENS
from hooks.markers import SAID
from hooks.pool import Pool, remove_orphans, size_of_tree
from hooks.rules import RULES
from hooks.staged import ask_git

_SHARE_DROPPED = 4  # of the results, one in so many goes at a time when all together are too large

# What somebody who was killed may leave in the Git folder of a work tree, with the number of the process at the end. In its
# folder gate: copies of the index (hooks/known.py), tables of keys (ci/keytable.py), what gate.toml came to (rules.py),
# a wish (hooks/desk.py). Beside that folder: files on their way to the work tree (hooks/fixes.py).
_UNFINISHED = re.compile(r"(?:index|keys|keys\.seen|rules|background\.wanted)\.(\d+)(?:\.lock)?")
_UNFINISHED_BESIDE = re.compile(r"\..*\.gate-(\d+)", re.DOTALL)
_DAMAGED = "results.sqlite.corrupt*"  # a store that was moved aside
_TIDIED, _TIDIED_EVERY_S = "tidied", 3600.0
_NOTES_KEPT = 5000  # of greens, each a file of twenty bytes: without one, a check of that content takes the longer way
_WRITING_S = 3600.0  # it takes milliseconds: after an hour the number may be that of somebody else


def run(words: list[str]) -> int:
    """``gate cache [show|clear|prune]``. Raises UserError and Unavailable."""
    import argparse

    parser = argparse.ArgumentParser(prog="gate cache", description=text.CACHE_DESCRIPTION)
    parser.add_argument("action", nargs="?", choices=["show", "clear", "prune"], default="show", help=text.HELP_CACHE)
    parser.add_argument("--age", metavar="DURATION", help=text.HELP_CACHE_AGE)
    parser.add_argument("--size", metavar="SIZE", help=text.HELP_CACHE_SIZE)
    parser.add_argument("--pool-size", metavar="SIZE", help=text.HELP_CACHE_POOL)
    parser.add_argument("--json", action="store_true", help=text.HELP_JSON)
    given = parser.parse_args(words)
    if given.action != "prune" and (given.age or given.size or given.pool_size):
        raise UserError(text.only_for_prune(given.action))
    home, pool = _places()
    before = measure(home, pool)
    with LocalResults(home / "results.sqlite") as results:
        if given.action == "prune":
            from gate.config import Config  # long to load, and ``tidy`` is called at a commit
            from hooks.config import read_config

            rules = (read_config("", "HEAD") or Config()).hooks
            age_s = _duration(given.age) if given.age else rules.cache_age_s
            tidy(home, results, time.time() - age_s, _size(given.size, "--size") if given.size else rules.cache_size_bytes)
            tidy_notes(home, time.time() - age_s)
            pool.prune(time.time() - age_s)
            pool.fit(_size(given.pool_size, "--pool-size") if given.pool_size else rules.pool_size_bytes)
            remove_orphans()
        elif given.action == "clear":
            clear(home, results, pool)
    after = measure(home, pool)
    sys.stdout.write(text.cache_told(given.action, str(home), str(pool.folder), before, after, as_json=given.json))
    return 0


def measure(home: Path, pool: Pool) -> text.Kept:
    """What is there now. With the store open, what SQLite keeps beside an open one would count as well."""
    with LocalResults(home / "results.sqlite") as results:
        count = results.count() if results.path.exists() else 0
        if results.warning:
            text.warn(f"gate: {results.warning}")
    logs = _logs(home)
    trees = [path for path in _entries(pool.folder) if path.is_dir()]
    return text.Kept(
        count,
        sum(_size_of(path) for path in _files(home) if path.name.startswith("results.sqlite")),
        len(logs),
        sum(map(_size_of, logs)),
        len(trees),
        sum(map(size_of_tree, trees)),
    )


def tidy(home: Path, results: LocalResults, before: float, max_bytes: int) -> None:
    """Remove results and logs from before this moment, and then the oldest of the rest until they take no more than this;
    and once an hour ``tidy_notes``, which has many files to look at.

    max_bytes: of the two together; a store with nothing in it takes some kilobytes all the same.
    """
    results.prune(before)
    tidied = home / _TIDIED
    if _time_of(tidied) < time.time() - _TIDIED_EVERY_S:
        tidied.touch()
        tidy_notes(home, before)
    logs = sorted(_logs(home), key=_time_of)
    while logs and _time_of(logs[0]) < before:
        logs.pop(0).unlink(missing_ok=True)
    room = max_bytes - sum(map(_size_of, logs))
    while logs and room < max_bytes // 2:  # half of it for the results, which are worth more
        gone = logs.pop(0)
        room += _size_of(gone)
        gone.unlink(missing_ok=True)
    while (taken := results.size_bytes()) > room and results.drop_oldest(_SHARE_DROPPED) and results.size_bytes() < taken:
        continue


def tidy_notes(home: Path, before: float) -> None:
    """Remove what has no size to speak of, from before this moment: notes of greens, of which only the newest few thousand
    stay, damaged stores, and files that were begun by somebody who is gone."""
    notes = sorted(((_time_of(path), path) for path in _files(home.parent / GREENS)), reverse=True)
    for number, (written_at, note) in enumerate(notes):
        if written_at < before or number >= _NOTES_KEPT:
            note.unlink(missing_ok=True)
    for store in home.glob(_DAMAGED):
        if _time_of(store) < before:
            store.unlink(missing_ok=True)
    _remove_empty(home / "logs")
    for path, is_old, is_alive in _unfinished(home):
        if is_old and not is_alive:  # who is not alive here may be so in another container
            path.unlink(missing_ok=True)


def clear(home: Path, results: LocalResults, pool: Pool) -> None:
    """Remove all of it. Work trees in use stay, and files that somebody is just writing."""
    results.prune(float("inf"))
    results.compact()
    for log in _logs(home):
        log.unlink(missing_ok=True)
    _remove_empty(home / "logs")
    for note in [*_files(home / "greens"), *_files(home.parent / GREENS), home.parent / RULES, *home.glob(_DAMAGED)]:
        note.unlink(missing_ok=True)
    for path, is_old, is_alive in _unfinished(home):
        if is_old or not is_alive:
            path.unlink(missing_ok=True)
    from hooks.records import forget_all  # long to load, for whoever only tidies

    forget_all(home.parent)
    for said in (home.parent / SAID, *home.parent.glob(f"worktrees/*/{SAID}")):
        said.unlink(missing_ok=True)  # it sends people to gate local, which knows of nothing now
    pool.clear()


def _unfinished(home: Path) -> Iterator[tuple[Path, bool, bool]]:
    """Files that were begun, of all work trees: each with whether it is old, and whether the process behind it is alive."""
    for git_dir in (home.parent, *home.parent.glob("worktrees/*")):
        for folder, pattern in ((git_dir / home.name, _UNFINISHED), (git_dir, _UNFINISHED_BESIDE)):
            for path in _files(folder):
                found = pattern.fullmatch(path.name)
                if found is not None:
                    yield path, _time_of(path) < time.time() - _WRITING_S, _is_alive(int(found[1]))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _places() -> tuple[Path, Pool]:
    ((failed, answer),) = ask_git(("rev-parse", "--path-format=absolute", "--git-common-dir"))
    if failed:
        raise UserError(text.no_work_tree())
    common = Path(os.fsdecode(answer.removesuffix(b"\n")))
    return common / "gate", Pool(common)


def _duration(word: str) -> float:
    from gate.config_values import POSITIVE_DURATION

    return float(POSITIVE_DURATION.read(word, _refuse("--age")))


def _size(word: str, option: str) -> int:
    from gate.config_values import SIZE

    return int(SIZE.read(word, _refuse(option)))


def _refuse(option: str) -> "_Refuse":
    return _Refuse(option)


class _Refuse:
    """Turns a complaint about a value into an error of the command line."""

    def __init__(self, option: str) -> None:
        self._option = option

    def __call__(self, problem: str, *_: object, **__: object) -> None:
        raise UserError(f"{self._option} {problem}")


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _files(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_file()]
    return []


def _logs(home: Path) -> list[Path]:
    """Also those in folders there, where earlier versions put the patches of checks of nested gate.toml files."""
    return [Path(folder, name) for folder, _, names in os.walk(home / "logs") for name in names]


def _remove_empty(top: Path) -> None:
    """The folders below this one that hold nothing."""
    for folder, _, _ in os.walk(top, topdown=False):
        if Path(folder) != top:
            with suppress(OSError):
                Path(folder).rmdir()


def _size_of(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _time_of(path: Path) -> float:
    with suppress(OSError):
        return path.lstat().st_mtime
    return 0.0
