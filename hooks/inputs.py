"""What the inputs of checks match in the staged tree, and the keys that follow: for the half of ``gate check`` that runs.

Keeps the table that hooks.known reads (ci/keytable.py): it is written when there is none for these checks, or when the
staged tree has moved far from its base, and what nobody had looked at is noted in it.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from ci import RUNTIME
from ci.digest import digest
from ci.git import PlainGit
from ci.keys import KeyMaker, is_mute, matcher
from ci.keytable import KEY_VERSION, KeyTable, Row, edits_of
from ci.model import Check, CheckName, InputKey, Sha
from hooks.known import MOST_EDITS, is_config


class Inputs:
    """Of all checks of a stage, in one tree.

    table: where it is kept; "": nowhere, for trees that come by once. also: paths that will be asked for and that the tree
    need not have. commit: that has the tree, when there is one. top: of the work tree.
    """

    def __init__(
        self,
        git: PlainGit,
        tree: Sha,
        checks: Sequence[Check],
        *,
        table: str = "",
        also: Iterable[str] = (),
        commit: Sha | None = None,
        top: str = "",
    ) -> None:
        self._git = git
        self._tree = tree
        self._commit = commit
        self._maker = KeyMaker(git, top=top)
        self._edits: dict[bytes, bytes | None] = {}
        self._rows: dict[CheckName, Row] = {}
        self._table = self._opened(table, checks) if table else None
        if table and self._table is None:
            with suppress(OSError):
                with suppress(FileExistsError):
                    os.mkdir(os.path.dirname(table), 0o700)  # noqa: PTH102, PTH120 - a string, as in hooks.known
                self._maker.write_table(table, RUNTIME, tree, checks)
                self._table = self._opened(table, checks)
        if self._table is not None:
            self._look_at([*self._edits, *map(os.fsencode, also)], checks)

    def matches(self, check: Check, path: str) -> bool:
        row = self._rows.get(check.name)
        if self._table is not None and row is not None and row.inputs != Row.WHOLE:  # as of a check that looks at history
            with suppress(KeyError):
                return bool(self._table.sets_of(os.fsencode(path)) >> row.inputs & 1)
        return matcher(check.inputs)(path)

    def touched(self, checks: Iterable[Check], paths: Iterable[str]) -> frozenset[CheckName]:
        """The checks that a change of these paths concerns; ``ci.keys.touched`` says the same."""
        changed = tuple(paths)
        return frozenset(check.name for check in checks if check.git or any(self.matches(check, path) for path in changed))

    def keys(self, checks: Sequence[Check]) -> dict[CheckName, InputKey]:
        """As ``KeyMaker.keys``; checks that look at history have a key only where there is a commit."""
        tabled = [check for check in checks if check.name in self._rows and not (check.git or check.is_whole_tree)]
        others = [check for check in checks if check not in tabled and not check.git]
        keys = self._maker.keys(self._tree, others, tree=self._tree)
        if self._commit is not None:
            keys |= self._maker.keys(self._commit, [check for check in checks if check.git], tree=self._tree)
        for check in tabled:
            assert self._table is not None
            content = self._table.matched(self._rows[check.name].inputs, self._edits)
            keys[check.name] = InputKey(digest(KEY_VERSION, self._maker.definition(check), b"inputs", content))
        return keys

    def mute_tools(self, checks: Iterable[Check]) -> Iterator[tuple[CheckName, str, str]]:
        """(check, tool, why) of tools that say no version: an upgrade of one would not be seen."""
        for check in checks:
            for tool, version in self._maker.versions(check).items() if check.tools else ():
                if is_mute(version):
                    yield check.name, tool, version

    def listing(self, check: Check) -> tuple[bytes, ...] | None:
        """The records of a check with declared inputs, as a run takes them; None: the run is to look itself."""
        if self._table is None or check.name not in self._rows or check.git or check.is_whole_tree:
            return self._maker.listing(self._tree, check)
        return tuple(self._table.records(self._rows[check.name].inputs, self._edits))

    def _opened(self, path: str, checks: Sequence[Check]) -> KeyTable | None:
        """The table, when it is whole, for exactly these checks, and its base is near and has this gate.toml."""
        try:
            table = KeyTable(path)
        except (OSError, ValueError):
            return None
        definitions = [self._maker.definition(check) for check in checks]
        if table.version != RUNTIME or [row.definition for row in table.rows] != definitions:
            return None
        raw = self._git.diff(Sha(table.tree), self._tree)
        if raw is None or raw.count(b"\0") > 2 * MOST_EDITS or not table.is_intact():
            return None
        edits = edits_of(raw)
        if any(is_config(path) for path in edits):
            return None  # hooks.known would not use it, and what is in it of an age may be old
        if self._tree != table.tree and table.seen.edits(self._tree) is None:
            with suppress(OSError):
                table.seen.add_edits(self._tree, edits)  # a commit makes it the tree of HEAD, and hooks.known asks for that
        self._edits = edits
        self._rows = {CheckName(row.name): row for row in table.rows}
        return table

    def _look_at(self, paths: Iterable[bytes], checks: Sequence[Check]) -> None:
        """Note which sets these paths are in, where nobody has looked."""
        assert self._table is not None
        patterns = {self._rows[check.name].inputs: check.inputs for check in checks}
        patterns.pop(Row.WHOLE, None)
        found = {}
        for path in paths:
            try:
                self._table.sets_of(path)
            except KeyError:
                name = os.fsdecode(path)
                found[path] = sum(1 << number for number, each in patterns.items() if matcher(each)(name))
        if found:
            with suppress(OSError):
                self._table.seen.add(found)
