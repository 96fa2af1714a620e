"""The table of keys says what ci.keys says, without listing the tree."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.digest import digest
from ci.git import PlainGit
from ci.keys import NOTHING_MATCHED, KeyMaker, matcher
from ci.keytable import KEY_VERSION, KeyTable, Row, edits_of, record_of, write_table
from ci.model import Check, CheckName, Sha
from fakes.repositories import Repository

PATHS = [
    f"{folder}{name}" for folder in ("", "src/", "docs/", "src/deep/") for name in ("a.py", "b.py", "c.md", "odd\n\udcff.py")
]
BLOBS = [f"{number:040x}".encode() for number in range(4)]
SETS = (("*.py",), ("src/", "!*.md"), ("docs/",))

Tree = Mapping[str, bytes]
trees = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(BLOBS))


def record(path: str, blob: bytes) -> bytes:
    return record_of(b"100644", blob, os.fsencode(path))


def write(path: Path, tree: Tree) -> KeyTable:
    """A table of SETS with this base."""
    of_sets = [{name for name in tree if matcher(inputs)(name)} for inputs in SETS]
    of_sets.append({*tree} - set().union(*of_sets))
    sets = [NOTHING_MATCHED.edited({name: record(name, tree[name]) for name in names}) for names in of_sets]
    records = [[[bucket.records.values() for bucket in group.buckets] for group in each.groups] for each in sets]
    rows = [Row(f"check {number}", b"definition", number, False, True, None) for number in range(len(SETS))]
    write_table(str(path), "1", "base", rows, records)
    return KeyTable(str(path))


def edits_between(before: Tree, after: Tree) -> dict[bytes, bytes | None]:
    edits: dict[bytes, bytes | None] = {os.fsencode(path): None for path in before if path not in after}
    return edits | {os.fsencode(path): record(path, blob) for path, blob in after.items() if before.get(path) != blob}


@given(trees, trees)
def test_a_set_has_the_digest_that_its_listing_has(
    tmp_path_factory: pytest.TempPathFactory, before: Tree, after: Tree
) -> None:
    table = write(tmp_path_factory.mktemp("table") / "keys", before)
    edits = edits_between(before, after)
    unseen = {path for path in edits if os.fsdecode(path) not in before}
    if unseen:
        with pytest.raises(KeyError):
            table.matched(0, edits)
        table.seen.add(
            {
                path: sum(matcher(inputs)(os.fsdecode(path)) << number for number, inputs in enumerate(SETS))
                for path in unseen
            }
        )
    for number, inputs in enumerate(SETS):
        listed = {path: record(path, blob) for path, blob in after.items() if matcher(inputs)(path)}
        assert table.matched(number, edits) == NOTHING_MATCHED.edited(listed).digest
        assert sorted(table.records(number, edits)) == sorted(listed.values())


def test_keys_by_the_table_are_the_keys(repository: Repository, tmp_path: Path) -> None:
    """A real tree, from KeyMaker to the file and back."""
    checks = [
        Check(CheckName("python"), "true", inputs=("*.py",)),
        Check(CheckName("docs"), "true", inputs=("docs/",)),
        Check(CheckName("whole"), "true"),
    ]
    base = Sha(repository.commit("Base", {"src/a.py": "A\n", "docs/x.md": "X\n", "README": "R\n"}))
    tip = Sha(repository.commit("Tip", {"src/a.py": "B\n", "docs/x.md": None, "README": "RR\n"}))
    git = PlainGit(repository.git_dir)
    path = str(tmp_path / "keys")
    KeyMaker(git).write_table(path, "1", base, checks)
    table = KeyTable(path)
    raw = git.diff(base, tip)
    assert raw is not None
    keys = KeyMaker(git).keys(tip, checks)
    for row in table.rows[:2]:
        assert (
            digest(KEY_VERSION, row.definition, b"inputs", table.matched(row.inputs, edits_of(raw)))
            == keys[CheckName(row.name)]
        )
    assert table.rows[2].inputs == Row.WHOLE
    assert table.sets_of(b"README") == 1 << 2  # after the two sets: seen, and among no inputs


def test_what_was_seen_is_kept_for_its_table_alone(tmp_path: Path) -> None:
    table = write(tmp_path / "keys", {"src/a.py": BLOBS[0]})
    table.seen.add({b"new": 0b10})
    assert KeyTable(str(tmp_path / "keys")).sets_of(b"new") == 0b10
    for version, base in (("1", "other"), ("2", "base")):
        write_table(str(tmp_path / "keys"), version, base, [], [NOTHING_OF_ANY])
        with pytest.raises(KeyError):
            KeyTable(str(tmp_path / "keys")).sets_of(b"new")


def test_edits_of_few_trees_are_kept_the_latest(tmp_path: Path) -> None:
    write(tmp_path / "keys", {"src/a.py": BLOBS[0]})
    seen = KeyTable(str(tmp_path / "keys")).seen
    for number in range(5):
        seen.add_edits(f"tree {number}", {b"src/a.py": None if number % 2 else b"new"})
    seen.add({b"new": 0b10})
    kept = KeyTable(str(tmp_path / "keys")).seen
    assert [kept.edits(f"tree {number}") for number in range(5)] == [
        None,
        {b"src/a.py": None},
        {b"src/a.py": b"new"},
        {b"src/a.py": None},
        {b"src/a.py": b"new"},
    ]
    assert kept.sets_of(b"new") == 0b10


NOTHING_OF_ANY = [[[] for _ in range(32)] for _ in range(32)]


@pytest.mark.parametrize("cut", [0, 5, 23, 40, 53, 60, 2000, -1])
def test_a_table_that_was_cut_short_is_none(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "keys", {"src/a.py": BLOBS[0]})
    whole = (tmp_path / "keys").read_bytes()
    (tmp_path / "keys").write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="keys"):
        KeyTable(str(tmp_path / "keys"))


@pytest.mark.parametrize("junk", [b"\0", b"\xff"])
@pytest.mark.parametrize("at", [25, 40, 60, 2000, -2000, -1])
def test_a_damaged_table_is_none_or_not_intact(tmp_path: Path, at: int, junk: bytes) -> None:
    """The disk gave back something else from one place on. What is asked all the same ends as documented."""
    write(tmp_path / "keys", {"src/a.py": BLOBS[0]})
    whole = (tmp_path / "keys").read_bytes()
    damaged = whole[:at] + junk * len(whole[at:])
    (tmp_path / "keys").write_bytes(damaged)
    with contextlib.suppress(ValueError):
        table = KeyTable(str(tmp_path / "keys"))
        assert table.is_intact() is (damaged == whole)
        with contextlib.suppress(ValueError, KeyError):
            table.matched(0, {b"src/a.py": None})
