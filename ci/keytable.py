"""Input keys of a tree that differs little from one whose keys were made before, without listing either.

A file holds what the inputs of some checks match in one tree, the base, bucket by bucket as ci/keys.py has them. Of a
million matched paths a changed one costs a few reads of a kilobyte. The local hooks ask it at every commit, so nothing is
imported here that the interpreter has not loaded anyway, or nearly so.

Whether a path is among some inputs is never computed here: for every path of the base it is in the table, and the others
were noted when somebody looked (``Seen``). A path that nobody has looked at is a KeyError; the caller takes the long way.

Files are marshalled data, which must come from somebody trusted: they lie in the folder that git takes its hooks from.
"""

# pathlib, dataclasses and hashlib would cost more than all that this file does:
# ruff: noqa: PTH105, PTH108, PTH123, S302, SIM105

import marshal
import os
import zlib

from ci.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

KEY_VERSION = b"trunkgate key 1"  # a new way to make keys gets a new number, and old results are simply not found again

# 32 groups of 32 buckets: with 50,000 matched paths one changed file hashes some 50 paths, 32 buckets and 32 groups again.
FAN_OUT = 32
BUCKETS = FAN_OUT * FAN_OUT

_MAGIC = b"trunkgate key table 3\n"
_TREES_NEAR = 4  # whose edits are kept: HEAD, and what was staged lately and may become HEAD
_NUMBER = 8  # bytes of a number in the file, the lowest first; struct would have to be imported
_DIGEST = 32
_OFFSETS = _NUMBER * (BUCKETS + 1)
_FRONT = len(_MAGIC) + 4 * _NUMBER  # bytes of the header and of the file, CRC-32 of the header and of what follows it


def key_for_files(key: str, files: "Sequence[str]") -> str:
    """The key of a run that is told of some files only: it may come to another end than one that is told of all."""
    found: str = sha256(b"\0".join([key.encode(), *map(os.fsencode, files)])).hexdigest()
    return found


def bucket_of(path: bytes) -> int:
    """Number of the bucket of a path; its group is this modulo FAN_OUT.

    Only spreads the work: a hostile choice of names makes keys slower, never wrong.
    """
    return zlib.crc32(path) % BUCKETS


def record_of(mode: bytes, blob: bytes, path: bytes) -> bytes:
    """One line of a tree. No field holds the byte that ends it, so records joined are unambiguous."""
    return b"%b %b\t%b\0" % (mode, blob, path)


def edits_of(raw: bytes) -> "dict[bytes, bytes | None]":
    """path -> its new record, None when it is gone: of ``git diff --raw -z`` without renames, with whole ids."""
    fields = raw.split(b"\0")
    edits: dict[bytes, bytes | None] = {}
    for entry, path in zip(fields[:-1:2], fields[1::2], strict=True):
        _, mode, _, blob, status = entry.split(b" ")
        edits[path] = None if status == b"D" else record_of(mode, blob, path)
    return edits


class Row:
    """A check of the table. definition: digest of what it is. inputs: number of its set, WHOLE for the whole tree.

    is_fixed: nothing but its key decides whether it must run. max_age_s None: its results do not get too old. command: ""
    when more than it and the files decides what it comes to.
    """

    WHOLE = -1
    __slots__ = ("command", "definition", "inputs", "is_fixed", "max_age_s", "name", "names_files")

    def __init__(
        self,
        name: str,
        definition: bytes,
        inputs: int,
        names_files: bool,
        is_fixed: bool,
        max_age_s: float | None,
        command: "str | tuple[str, ...]" = "",
    ) -> None:
        self.name = name
        self.definition = definition
        self.inputs = inputs
        self.names_files = names_files
        self.is_fixed = is_fixed
        self.max_age_s = max_age_s
        self.command = command

    def fields(self) -> "tuple[Any, ...]":
        return (self.name, self.definition, self.inputs, self.names_files, self.is_fixed, self.max_age_s, self.command)


class Seen:
    """What was found out since a table was written: the sets that paths are in which the base lacks, as bits, and how trees
    differ from the base. Belongs to one table, which owner names: bits of another one are numbers of other sets."""

    def __init__(self, path: str, owner: bytes) -> None:
        self._path = path
        self._owner = owner
        try:
            with open(path, "rb") as file:
                kept = marshal.loads(file.read())
        except (OSError, ValueError, EOFError, TypeError):
            kept = None
        is_ours = isinstance(kept, tuple) and len(kept) == 3 and kept[0] == owner
        self._known: dict[bytes, int] = kept[1] if is_ours else {}
        self._near: dict[str, dict[bytes, bytes | None]] = kept[2] if is_ours else {}

    def sets_of(self, path: bytes) -> int:
        """Raises KeyError when nobody has looked."""
        return self._known[path]

    def add(self, found: "Mapping[bytes, int]") -> None:
        """Raises OSError when it cannot be kept."""
        self._known |= found
        self._keep()

    def edits(self, tree: str) -> "dict[bytes, bytes | None] | None":
        """That make this tree of the base; None: nobody has looked."""
        return self._near.get(tree)

    def add_edits(self, tree: str, edits: "dict[bytes, bytes | None]") -> None:
        """Raises OSError when they cannot be kept."""
        self._near = {**dict(list(self._near.items())[1 - _TREES_NEAR :]), tree: edits}
        self._keep()

    def _keep(self) -> None:
        _write(self._path, marshal.dumps((self._owner, self._known, self._near)))


class KeyTable:
    """The table in a file, open for as long as somebody holds this. tree: the base. version: of what wrote it."""

    _handle = -1

    def __init__(self, path: str) -> None:
        """Raises OSError when there is none, and ValueError when it is none or was cut short. See also ``is_intact``."""
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        front = os.read(self._handle, _FRONT)
        if not front.startswith(_MAGIC):
            raise ValueError(f"{path} is not a table of keys")
        length, self._size, crc, self._crc = (
            _number(front[at : at + _NUMBER]) for at in range(len(_MAGIC), _FRONT, _NUMBER)
        )
        is_whole = 0 < length < self._size == os.fstat(self._handle).st_size
        header = os.pread(self._handle, length, _FRONT) if is_whole else b""
        if not header or zlib.crc32(header) != crc:
            raise ValueError(f"{path} is a table of keys that was cut short")
        self.version, self.tree, rows, self._places = marshal.loads(header)
        self.rows = [Row(*row) for row in rows]
        self._start = _FRONT + length
        self._buckets: dict[tuple[int, int], dict[bytes, bytes]] = {}
        self.seen = Seen(path + ".seen", sha256(header).digest())

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def is_intact(self) -> bool:
        """Whether all of it is what was written. Reads the whole file: for whoever is going to keep what follows from it."""
        return zlib.crc32(os.pread(self._handle, self._size, self._start)) == self._crc

    def sets_of(self, path: bytes) -> int:
        """The sets that a path is in, as bits. Raises KeyError when nobody has looked."""
        bucket = bucket_of(path)
        bits = sum(1 << number for number in range(len(self._places)) if path in self._bucket(number, bucket))
        return bits or self.seen.sets_of(path)

    def records(self, number: int, edits: "Mapping[bytes, bytes | None]") -> "list[bytes]":
        """All that a set matches after these edits, in no order. Raises KeyError as ``sets_of`` does."""
        at = self._start + self._places[number] + (FAN_OUT + BUCKETS) * _DIGEST
        length = _number(self._read(at + _NUMBER * BUCKETS, _NUMBER))
        import re  # not for those who only look up a key

        kept = re.findall(rb"[^\0]+\0", self._read(at + _OFFSETS, length))
        gone = {self._bucket(number, bucket_of(path)).get(path) for path in edits}
        return [record for record in kept if record not in gone] + [
            new for path, new in edits.items() if new is not None and self.sets_of(path) >> number & 1
        ]

    def matched(self, number: int, edits: "Mapping[bytes, bytes | None]") -> bytes:
        """Digest of what a set matches once these paths have these records, or (None) are gone.

        edits: of every set; those of others are passed over. Raises KeyError as ``sets_of`` does.
        """
        at = self._start + self._places[number]
        groups = self._read(at, FAN_OUT * _DIGEST)
        touched: dict[int, dict[int, dict[bytes, bytes]]] = {}
        for path, new in edits.items():
            if not self.sets_of(path) >> number & 1:
                continue
            bucket = bucket_of(path)
            of_group = touched.setdefault(bucket % FAN_OUT, {})
            if bucket not in of_group:
                of_group[bucket] = dict(self._bucket(number, bucket))
            if new is None:
                of_group[bucket].pop(path, None)
            else:
                of_group[bucket][path] = new
        changed = bytearray(groups)
        for group, buckets in touched.items():
            digests = bytearray(self._read(at + (FAN_OUT + group * FAN_OUT) * _DIGEST, FAN_OUT * _DIGEST))
            for bucket, records in buckets.items():
                _put(digests, bucket // FAN_OUT, bucket_digest(records.values()))
            _put(changed, group, sha256(bytes(digests)).digest())
        found: bytes = sha256(bytes(changed)).digest()
        return found

    def _bucket(self, number: int, bucket: int) -> dict[bytes, bytes]:
        """path -> record."""
        known = self._buckets.get((number, bucket))
        if known is None:
            at = self._start + self._places[number] + (FAN_OUT + BUCKETS) * _DIGEST
            offsets = self._read(at + _NUMBER * _position(bucket), 2 * _NUMBER)
            start, end = _number(offsets[:_NUMBER]), _number(offsets[_NUMBER:])
            lines = self._read(at + _OFFSETS + start, end - start).split(b"\0")[:-1]
            known = {line[line.index(b"\t") + 1 :]: line + b"\0" for line in lines}
            self._buckets[number, bucket] = known
        return known

    def _read(self, at: int, length: int) -> bytes:
        if not 0 <= length <= self._size - at:
            raise ValueError("a table of keys is damaged")
        return os.pread(self._handle, length, at)


def bucket_digest(records: "Iterable[bytes]") -> bytes:
    found: bytes = sha256(b"".join(sorted(records))).digest()
    return found


def write_table(
    path: str, version: str, tree: str, rows: "Iterable[Row]", sets: "Iterable[Sequence[Sequence[Iterable[bytes]]]]"
) -> None:
    """Write a table in one step. sets: of each, the records of every bucket of every group, as ci.keys.Matched has them;
    after those of the rows, one with every path that is in none of them.

    Raises OSError.
    """
    places, sections, at = [], [], 0
    for groups in sets:
        section = _section(groups)
        places.append(at)
        sections.append(section)
        at += len(section)
    header = marshal.dumps((version, tree, [row.fields() for row in rows], places))
    body = b"".join(sections)
    size = _FRONT + len(header) + len(body)
    _write(path, b"".join([_MAGIC, *map(_bytes, (len(header), size, zlib.crc32(header), zlib.crc32(body))), header, body]))


def _section(groups: "Sequence[Sequence[Iterable[bytes]]]") -> bytes:
    """Digests of the groups, of their buckets, where the records of each bucket begin, the records."""
    group_digests, digests, offsets, chunks, at = [], [], [], [], 0
    for buckets in groups:
        of_group = []
        for records in buckets:
            chunk = b"".join(sorted(records))
            of_group.append(sha256(chunk).digest())
            offsets.append(at)
            chunks.append(chunk)
            at += len(chunk)
        joined = b"".join(of_group)
        digests.append(joined)
        group_digests.append(sha256(joined).digest())
    return b"".join([*group_digests, *digests, *map(_bytes, offsets), _bytes(at), *chunks])


def _position(bucket: int) -> int:
    """Of a bucket in the file, which has the buckets of a group side by side."""
    return bucket % FAN_OUT * FAN_OUT + bucket // FAN_OUT


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _bytes(number: int) -> bytes:
    return number.to_bytes(_NUMBER, "little")


def _put(digests: bytearray, number: int, new: bytes) -> None:
    digests[number * _DIGEST : (number + 1) * _DIGEST] = new


def _write(path: str, content: bytes) -> None:
    unfinished = f"{path}.{os.getpid()}"
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except OSError:
        try:
            os.unlink(unfinished)
        except OSError:
            pass
        raise
