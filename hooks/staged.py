"""What is staged, read from git at the cost of two small git processes.

This is the hot path of every commit: no import here beyond ``os``. git inherits the environment as it is, because the
hook's GIT_INDEX_FILE names the index of the commit being made, which need not be the repository's own (``commit -a``,
``commit PATH``). Nothing here takes the index lock: git holds it while hooks run.
"""

import os

SUBMODULE, LINK = b"160000", b"120000"  # the modes that git gives them
NO_FILES = (SUBMODULE, LINK)  # which no command is told of by {files}
EMPTY_BLOBS = (
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
)  # ids of a file with nothing in it, of both kinds that git has

_PLACES = (
    "rev-parse",
    "--path-format=absolute",
    "--git-dir",
    "--git-common-dir",
    "--show-toplevel",
    "--show-prefix",
    "--git-path",
    "index",
    "--revs-only",
    "HEAD",
    "HEAD^{tree}",
    ":gate.toml",
)
_SHORTEST_ID, _LONGEST_ID = 20, 32  # bytes of a checksum at the end of an index
MOST_STDIN = 32_768  # what a pipe holds, so that nobody need write while the other reads

DIFF = (
    "diff",
    "--cached",
    "--raw",
    "-z",
    "--no-abbrev",
    "--no-renames",
    "--no-relative",
    "--no-ext-diff",
    "-O/dev/null",
    "--ita-invisible-in-index",
    "--ignore-submodules=none",
)


DIFF_TREES = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-relative", "-O/dev/null", "--ignore-submodules=none")


class AtHand:
    """The index and HEAD of the folder we are in, as files say them. git_dir: their folder. id: names both, and so what is
    staged; one content may have many ids, for an index holds times of files as well."""

    __slots__ = ("git_dir", "id")

    def __init__(self, git_dir: str, id_: bytes) -> None:
        self.git_dir = git_dir
        self.id = id_


class Staged:
    """What the commit being made would change.

    git_dir: of this work tree. common_dir: shared by all linked work trees. top: the work tree's root. prefix: the current
    folder below it, "" or ending in a slash. index: path of the file that holds what is staged. head, head_tree: None when
    there is no commit yet. config: blob id of the staged gate.toml, None when there is none. raw: answer of ``git diff
    --cached --raw -z``; with head_tree it names the staged content. at_hand: from before git was asked for the others.
    """

    __slots__ = ("at_hand", "common_dir", "config", "git_dir", "head", "head_tree", "index", "prefix", "raw", "top")

    def __init__(
        self,
        places: "list[str]",
        head: str | None,
        head_tree: str | None,
        config: str | None,
        raw: bytes,
        at_hand: AtHand | None = None,
    ) -> None:
        self.git_dir, self.common_dir, self.top, self.prefix, self.index = places
        self.head = head
        self.head_tree = head_tree
        self.config = config
        self.raw = raw
        self.at_hand = at_hand

    @property
    def is_passing(self) -> bool:
        """Whether the index is one that git made for this commit (``commit -a``, ``-p``, ``commit PATH``), and drops when it
        is not made."""
        return self.index.endswith(".lock")

    @property
    def is_unmerged(self) -> bool:
        return any(status == b"U" for _, status, _ in self._entries())

    def files(self) -> list[str]:
        """Paths that were added or changed, as they can be handed to a command."""
        return [os.fsdecode(path) for mode, status, path in self._entries() if status != b"D" and mode not in NO_FILES]

    def deleted(self) -> list[str]:
        return [os.fsdecode(path) for _, status, path in self._entries() if status == b"D"]

    def others(self) -> list[str]:
        """Submodules and symbolic links that were added or lead to something else."""
        return [os.fsdecode(path) for mode, status, path in self._entries() if status != b"D" and mode in NO_FILES]

    def blobs(self) -> "dict[str, tuple[bytes, bytes]]":
        """path -> (mode, id) of ``files``."""
        fields = self.raw.split(b"\0")
        found = {}
        for entry, path in zip(fields[0::2], fields[1::2], strict=False):
            _, mode, _, blob, status = entry.split(b" ")
            if status != b"D" and mode not in NO_FILES:
                found[os.fsdecode(path)] = (mode, blob)
        return found

    def _entries(self) -> list[tuple[bytes, bytes, bytes]]:
        return differences(self.raw)


def differences(raw: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(new mode, status, path) of every line of ``--raw -z``: without renames, ``:old new id id status`` and one path."""
    fields = raw.split(b"\0")
    entries = []
    for entry, path in zip(fields[0::2], fields[1::2], strict=False):
        _, mode, _, _, status = entry.split(b" ")
        entries.append((mode, status, path))
    return entries


def look() -> Staged | None:
    """What is staged in the repository of the current folder; None when this is not a work tree, or git cannot be asked."""
    before = at_hand()
    try:
        (lost, places), (failed, raw) = ask_git(_PLACES, DIFF)
        if lost or failed:
            return None
        lines = os.fsdecode(places).removesuffix("\n").split("\n")
        if not (5 <= len(lines) <= 8 and all(lines[at].startswith("/") for at in (0, 1, 2, 4))):
            return None  # a newline in one of them, and git cannot be asked for an end of another kind
        ids = lines[5:] if len(lines) == 8 else [_object_id(name) for name in ("HEAD", "HEAD^{tree}", ":gate.toml")]
        head, head_tree, config = ids
        return Staged(lines[:5], head, head_tree, config, raw, before)
    except (OSError, ValueError):
        return None


def at_hand() -> AtHand | None:
    """None where git has to be asked: in linked work trees, below the top, where HEAD's branch is no file of its own, and
    for an index without a checksum."""
    if "GIT_COMMON_DIR" in os.environ or "GIT_WORK_TREE" in os.environ or os.environ.get("GIT_DIR", ".git") != ".git":
        return None
    try:
        head = _content(".git/HEAD")
        if head.startswith(b"ref: "):
            head = _content(b".git/" + head[5:].rstrip())
        with open(os.environ.get("GIT_INDEX_FILE", ".git/index"), "rb") as file:  # noqa: PTH123
            file.seek(-_LONGEST_ID, os.SEEK_END)
            end = file.read()
    except (OSError, ValueError):
        return None
    is_named = not head.startswith(b"ref: ") and any(end[-_SHORTEST_ID:])
    return AtHand(".git", head + end) if is_named else None


def _content(path: "str | bytes") -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def restaged(staged: Staged) -> list[str]:
    """Paths of which something else is staged now: their owner may go on with git add while checks run. Raises
    Unavailable and OSError."""
    index = at_hand()
    if index is not None and staged.at_hand is not None and index.id == staged.at_hand.id:
        return []
    ((failed, raw),) = ask_git(DIFF)
    if failed:
        from ci.errors import Unavailable

        raise Unavailable(f"git diff --cached failed with exit code {failed}: what is staged now cannot be told")
    if raw == staged.raw:
        return []
    then, now = ({path: entry for entry, path in _pairs(each)} for each in (staged.raw, raw))
    return sorted(os.fsdecode(path) for path in then.keys() | now.keys() if then.get(path) != now.get(path))


def _pairs(raw: bytes) -> "list[tuple[bytes, bytes]]":
    fields = raw.split(b"\0")
    return list(zip(fields[0::2], fields[1::2], strict=False))


def _object_id(name: str) -> str | None:
    ((failed, answer),) = ask_git(("rev-parse", "--quiet", "--verify", name))
    return None if failed else os.fsdecode(answer).strip()


def ask_git(*questions: tuple[str, ...], index: str = "", stdin: bytes = b"") -> list[tuple[int, bytes]]:
    """Exit code and standard output of git commands, all started before the first is read. Raises OSError.

    index: the file that they take for the index; "": the one they are given anyway. stdin: for a single question, no more
    than MOST_STDIN bytes; empty: they inherit ours.
    """
    # ``subprocess`` would do this too, and its import costs as much as the whole interpreter.
    # What refs/replace show in the place of a tree or blob is not what is committed.
    env = {**os.environ, "GIT_NO_REPLACE_OBJECTS": "1", **({"GIT_INDEX_FILE": index} if index else {})}
    started: list[tuple[int, int]] = []
    for question in questions:
        ours, theirs = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        given = _filled_pipe(stdin) if stdin else -1
        if stdin:
            actions.append((os.POSIX_SPAWN_DUP2, given, 0))
        try:
            child = os.posix_spawnp("git", ("git", *question), env, file_actions=actions)
        finally:
            os.close(theirs)
            if stdin:
                os.close(given)
        started.append((child, ours))
    answers = []
    for child, ours in started:
        with os.fdopen(ours, "rb") as pipe:
            out = pipe.read()
        answers.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), out))
    return answers


def _filled_pipe(content: bytes) -> int:
    theirs, ours = os.pipe()
    os.write(ours, content)
    os.close(ours)
    return theirs
