"""Content keys: what a result belongs to.

The key of a check for a commit is a digest of the check's definition and of the content that its inputs match. Equal keys
mean that a run can come to nothing new, so everything that can alter the outcome is in, and nothing else: not the commit
(unless the check asks for Git), not the author, not what else is in the tree. docs/reference/keys.md lists what is in.

Keys of declared inputs are kept incrementally: matched paths lie in buckets by a hash of the path, the buckets of one
commit are shared with the next, and one ``git diff-tree`` tells which of them to hash again. The local hooks import this
module: pathspec is loaded only when a check declares inputs.
"""

import os
import signal
import subprocess
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple, TypeVar

from ci import RUNTIME
from ci.digest import digest, sha256
from ci.errors import UserError
from ci.git import Git
from ci.keytable import FAN_OUT, KEY_VERSION, Row, bucket_digest, bucket_of, edits_of, record_of, write_table
from ci.model import WHOLE_TREE, Check, CheckName, InputKey, Sha

# Commits whose matched paths are remembered. They share all but the buckets that differ between them.
_STATES_KEPT = 256

_TOOL_TIMEOUT_S = 10.0

Patterns = tuple[str, ...]
Matcher = Callable[[str], bool]
Known = TypeVar("Known")
Edits = Mapping[str, bytes | None]  # path -> its record, None when it is gone


# --- what matches -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def matcher(patterns: Patterns) -> Matcher:
    """A question to ask of a path: is it among these inputs? gitignore patterns, the last one that matches decides.

    Raises UserError when a pattern is none.
    """
    if patterns == WHOLE_TREE:
        return lambda _: True
    from pathspec import GitIgnoreSpec  # 30 ms that a check over the whole tree need not pay
    from pathspec.patterns.gitignore import GitIgnorePatternError

    try:
        # The pure Python backend: whichever faster one happens to be installed must not have a say in what matches.
        spec = GitIgnoreSpec.from_lines(patterns, backend="simple")
    except GitIgnorePatternError as wrong:
        raise UserError(f"inputs {list(patterns)}: {wrong}") from wrong
    matches = spec.match_file
    # pathspec's expressions do not let * and ** run over a newline, Git's do. A lone surrogate is in no decoded path.
    return lambda path: matches(path.replace("\n", "\ud800") if "\n" in path else path)


def touched(checks: Iterable[Check], paths: Iterable[str]) -> frozenset[CheckName]:
    """The checks that have an input among these paths, so that a change of them alters the key.

    A check with ``git = true`` sees history and is touched by every commit, also by one that changes no path.
    """
    changed = tuple(paths)
    return frozenset(check.name for check in checks if check.git or any(map(matcher(check.inputs), changed)))


def matching(git: Git, commit: Sha, patterns: Patterns) -> tuple[str, ...]:
    """Paths of a commit or tree that match, in Git's order; submodules are among them. Bytes that are not UTF-8 are
    surrogates (``os.fsencode`` gives them back)."""
    is_match = matcher(patterns)
    return tuple(path for path, _ in _list_tree(git, commit) if is_match(path))


# --- matched paths, in buckets ----------------------------------------------------------------------------------------


class _Bucket(NamedTuple):
    digest: bytes
    records: Mapping[str, bytes]


class _Group(NamedTuple):
    digest: bytes
    buckets: tuple[_Bucket, ...]


class Matched(NamedTuple):
    """Every path of a tree that matches some patterns, with a digest that is a function of just (path, mode, blob).

    A record is ``mode SP blob TAB path NUL``: no field holds the byte that ends it, so records joined are unambiguous.
    Digests over digests rather than sums of them: who chooses blobs must not be able to choose a collision.
    """

    digest: bytes
    groups: tuple[_Group, ...]

    def edited(self, edits: Edits) -> "Matched":
        """The same with these paths replaced, added or (None) gone. Untouched buckets are shared."""
        if not edits:
            return self
        by_group: dict[int, dict[int, list[tuple[str, bytes | None]]]] = defaultdict(lambda: defaultdict(list))
        for path, record in edits.items():
            place = bucket_of(os.fsencode(path))
            by_group[place % FAN_OUT][place // FAN_OUT].append((path, record))
        groups = list(self.groups)
        for group, by_bucket in by_group.items():
            buckets = list(groups[group].buckets)
            for bucket, changes in by_bucket.items():
                records = dict(buckets[bucket].records)
                for path, record in changes:
                    if record is None:
                        records.pop(path, None)
                    else:
                        records[path] = record
                buckets[bucket] = _bucket(records)
            groups[group] = _group(buckets)
        return _matched(groups)


def _bucket(records: Mapping[str, bytes]) -> _Bucket:
    return _Bucket(bucket_digest(records.values()), records)


def _group(buckets: Iterable[_Bucket]) -> _Group:
    kept = tuple(buckets)
    return _Group(sha256(b"".join([bucket.digest for bucket in kept])).digest(), kept)


def _matched(groups: Iterable[_Group]) -> Matched:
    kept = tuple(groups)
    return Matched(sha256(b"".join([group.digest for group in kept])).digest(), kept)


NOTHING_MATCHED = _matched([_group([_bucket({})] * FAN_OUT)] * FAN_OUT)


# --- keys -------------------------------------------------------------------------------------------------------------


class KeyMaker:
    """Makes the keys of one repository and remembers the newest commits it has seen. For one thread at a time.

    version_of: asked once per process for the output of each command in ``Check.tools``. top: of the work tree that tools
    named by a path of it are in; "": there is none, as on the server, and they count as missing.
    """

    def __init__(self, git: Git, version_of: Callable[[str], str] | None = None, *, top: str = "") -> None:
        self._git = git
        self._top = top
        self._version_of = version_of or tool_version
        self._definitions: dict[Check, bytes] = {}
        self._trees: OrderedDict[Sha, Sha] = OrderedDict()
        self._states: OrderedDict[Sha, dict[Patterns, Matched]] = OrderedDict()

    def keys(
        self, commit: Sha, checks: Sequence[Check], near: Sha | None = None, *, tree: Sha | None = None
    ) -> dict[CheckName, InputKey]:
        """The key of each check for this commit, or for a tree that is in no commit.

        near: a commit or tree that differs little and whose keys were made before; only a hint, never needed. tree: the
        commit's tree when the caller knows it, which saves one git call. Raises GitFailed when there is no such commit.
        """
        if tree is not None:
            _remember(self._trees, commit, tree)
        patterns = tuple({check.inputs for check in checks if not (check.is_whole_tree or check.git)})
        matched = self._matched(commit, patterns, near) if patterns else {}
        keys = {}
        for check in checks:
            content: tuple[bytes, ...]
            if check.git:
                content = (b"commit", commit.encode(), self._tree_of(commit).encode())
            elif check.is_whole_tree:
                content = (b"tree", self._tree_of(commit).encode())
            else:
                content = (b"inputs", matched[check.inputs].digest)
            keys[check.name] = InputKey(digest(KEY_VERSION, self.definition(check), *content))
        return keys

    def listing(self, commit: Sha, check: Check) -> tuple[bytes, ...] | None:
        """The records that the key of a check with declared inputs was made from; None when they are not remembered."""
        state = self._state_of(commit)
        if check.is_whole_tree or check.git or state is None or check.inputs not in state:
            return None
        return tuple(
            record for group in state[check.inputs].groups for bucket in group.buckets for record in bucket.records.values()
        )

    def write_table(self, path: str, version: str, tree: Sha, checks: Sequence[Check]) -> None:
        """Keep what the inputs of these checks match in a tree, for ci.keytable. Raises OSError."""
        patterns = tuple({check.inputs: None for check in checks if not (check.is_whole_tree or check.git)})
        matched = self._matched(tree, patterns, None) if patterns else {}
        rows = [
            Row(
                check.name,
                self.definition(check),
                patterns.index(check.inputs) if check.inputs in patterns else Row.WHOLE,
                check.names_files,
                not (check.git or check.tools),
                check.max_age_s,
                check.command if depends_on_files_alone(check) else "",
            )
            for check in checks
        ]
        is_match = [matcher(each) for each in patterns]
        listed = _list_tree(self._git, tree)
        others = {path: record for path, record in listed if not any(matches(path) for matches in is_match)}
        sets = [matched[each] for each in patterns] + [NOTHING_MATCHED.edited(others)]
        records = [[[bucket.records.values() for bucket in group.buckets] for group in each.groups] for each in sets]
        write_table(path, version, tree, rows, records)

    def definition(self, check: Check) -> bytes:
        """Digest of what a check is; its tools are asked for their versions."""
        known = self._definitions.get(check)
        if known is None:
            known = self._definitions[check] = definition_digest(check, self.versions(check))
        return known

    def versions(self, check: Check) -> dict[str, str]:
        """What each tool of a check says of its version, or why it says nothing (``is_mute``)."""
        folder = os.path.join(self._top, check.folder) if self._top else ""  # noqa: PTH118 - of the local path, see hooks.inputs
        return {tool: self._version_of(_placed(tool, folder) if folder else tool) for tool in check.tools}

    def _tree_of(self, commit: Sha) -> Sha:
        known = self._trees.get(commit)
        if known is None:
            known = Sha(self._git.run("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}").text)
            _remember(self._trees, commit, known)
        return known

    def _state_of(self, commit: Sha) -> dict[Patterns, Matched] | None:
        """What is known of a commit, under its own id or under its tree's."""
        for name in (commit, self._trees.get(commit)):
            if name is not None and name in self._states:
                self._states.move_to_end(name)
                return self._states[name]
        return None

    def _matched(self, commit: Sha, patterns: tuple[Patterns, ...], near: Sha | None) -> Mapping[Patterns, Matched]:
        state = self._state_of(commit)
        if state is None:
            state = self._from_nearby(commit, patterns, near) or {}
        missing = [each for each in patterns if each not in state]
        if missing:
            listed = list(_list_tree(self._git, commit))
            for each in missing:
                is_match = matcher(each)
                state[each] = NOTHING_MATCHED.edited({path: record for path, record in listed if is_match(path)})
        for name in {commit, self._trees.get(commit, commit)}:
            _remember(self._states, name, state)
        return state

    def _from_nearby(self, commit: Sha, patterns: tuple[Patterns, ...], near: Sha | None) -> dict[Patterns, Matched] | None:
        """The state of a commit by what differs from a known one: near, else the one used last. None: none is known."""
        known = self._state_of(near) if near is not None else None
        if known is None:
            near, known = next(reversed(self._states.items()), (None, None))
        if near is None or known is None:
            return None
        edits = _changes(self._git, near, commit)
        if edits is None:
            return None
        return {
            each: known[each].edited({path: record for path, record in edits if is_match(path)})
            for each, is_match in ((each, matcher(each)) for each in patterns)
            if each in known
        }


def _remember(kept: OrderedDict[Sha, Known], name: Sha, known: Known) -> None:
    kept[name] = known
    kept.move_to_end(name)
    while len(kept) > _STATES_KEPT:
        kept.popitem(last=False)


def depends_on_files_alone(check: Check) -> bool:
    """Whether its command and the files that it is told of decide what a check comes to."""
    return check.names_files and not (check.env or check.folder or check.junit or check.tools or check.git)


# --- the definition of a check ----------------------------------------------------------------------------------------

Value = str | float | bool | None | tuple["Value", ...]


def definition_digest(check: Check, versions: Mapping[str, str]) -> bytes:
    """Digest of what a check is. versions: the output of each of its tools; our own is known.

    In: all that its process can see or that decides what its end means. The name is in because the check is told it, in
    GATE_CHECK. Not in: stage, needs, max_age_s, which say when to run it and for how long to believe it.
    """
    fields: tuple[tuple[str, Value], ...] = (
        ("name", check.name),
        ("command", check.command),  # a string and a list of words are told apart: only one of them meets a shell
        ("inputs", check.inputs),
        ("env", tuple(sorted(check.env))),
        ("tools", tuple((tool, versions[tool]) for tool in check.tools)),
        ("timeout_s", float(check.timeout_s)),
        ("junit", check.junit),
        ("git", check.git),
        ("network", check.network),
    )
    if check.retest is not None:  # a name more only where it is used: keys from before it was thought of stay good
        fields += (("retest", check.retest),)
    if check.fix:
        fields += (("fix", check.fix),)
    if check.folder:
        fields += (("folder", check.folder),)
    if "hygiene" in check.words:  # the command gate hygiene, however it is called: our version is that of its tool
        fields += (("runtime", RUNTIME),)
    found: bytes = sha256(_encoded(fields)).digest()
    return found


def _encoded(value: Value) -> bytes:
    """One value as bytes that no other value has: a letter for its type, its length, itself."""
    match value:
        case str():
            kind, raw = b"s", value.encode("utf-8", "surrogateescape")
        case bool():
            kind, raw = b"b", b"1" if value else b"0"
        case None:
            kind, raw = b"n", b""
        case tuple():
            kind, raw = b"t", b"".join(map(_encoded, value))
        case _:
            kind, raw = b"f", repr(float(value)).encode()
    return b"%b%d:%b" % (kind, len(raw), raw)


def _placed(tool: str, folder: str) -> str:
    """The command of a tool that is named by a path, as it is called from elsewhere."""
    program, blank, rest = tool.partition(" ")
    if "/" not in program or program.startswith(("/", "'", '"')):
        return tool
    from shlex import quote  # few checks name tools

    return f"{quote(os.path.join(folder, program))}{blank}{rest}"  # noqa: PTH118 - a string, as it was given


_MUTE = ("cannot be read: ", "is empty", "cannot be started: ", "did not answer within ", "exit code ")


def is_mute(version: str) -> bool:
    """Whether this is what ``tool_version`` says of a tool that told none."""
    return version.startswith(_MUTE)


@cache
def tool_version(command: str) -> str:
    """What a version command prints, and how it ended when not well. Run once per process, without a shell.

    A tool that is missing, fails or hangs is a version of its own: the check then most likely fails too, and its result
    must not be found again once the tool is there. After an upgrade of a tool the daemon has to be restarted.
    """
    from shlex import split  # few checks name tools

    try:
        words = split(command)
    except ValueError as wrong:
        return f"cannot be read: {wrong}"
    if not words:
        return "is empty"
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | {"LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",  # not where we happen to be: a folder may hold a .tool-versions
            start_new_session=True,
        )
    except (OSError, ValueError) as wrong:
        return f"cannot be started: {wrong}"
    with process:
        try:
            out, _ = process.communicate(timeout=_TOOL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return f"did not answer within {_TOOL_TIMEOUT_S:g} s"
    said = os.fsdecode(out).strip()
    return said if process.returncode == 0 else f"exit code {process.returncode}: {said}"


# --- git --------------------------------------------------------------------------------------------------------------


def _list_tree(git: Git, commit: Sha) -> Iterable[tuple[str, bytes]]:
    """(path, record) of everything in a tree."""
    listed = git.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit).out
    for line in listed.split(b"\0")[:-1]:
        meta, path = line.split(b"\t", 1)
        mode, _, blob = meta.split(b" ")
        yield os.fsdecode(path), record_of(mode, blob, path)


def _changes(git: Git, near: Sha, commit: Sha) -> list[tuple[str, bytes | None]] | None:
    """(path, new record) of everything that differs. None: git does not have one of the two."""
    found = git.diff(near, commit)
    return None if found is None else [(os.fsdecode(path), new) for path, new in edits_of(found).items()]
