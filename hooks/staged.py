"""What is staged, read from git at the cost of two small git processes.

This is the hot path of every commit: no import here beyond ``os``. git inherits the environment as it is, because the
hook's GIT_INDEX_FILE names the index of the commit being made, which need not be the repository's own (``commit -a``,
``commit PATH``). Nothing here takes the index lock: git holds it while hooks run.
"""

import os

SUBMODULE = b"160000"  # the mode that git gives one

_PLACES = (
    "rev-parse",
    "--path-format=absolute",
    "--git-dir",
    "--git-common-dir",
    "--show-toplevel",
    "--show-prefix",
    "--revs-only",
    "HEAD",
    ":gate.toml",
)
_STAGED = (
    "diff",
    "--cached",
    "--raw",
    "-z",
    "--no-abbrev",
    "--no-renames",
    "--no-relative",
    "--no-ext-diff",
    "--ita-invisible-in-index",
    "--ignore-submodules=none",
)


class Staged:
    """What the commit being made would change.

    git_dir: of this work tree. common_dir: shared by all linked work trees. top: the work tree's root. prefix: the current
    folder below it, "" or ending in a slash. head: None when there is no commit yet. config: blob id of the staged
    gate.toml, None when there is none. raw: answer of ``git diff --cached --raw -z``; with head it names the staged content.
    """

    __slots__ = ("common_dir", "config", "git_dir", "head", "prefix", "raw", "top")

    def __init__(
        self, git_dir: str, common_dir: str, top: str, prefix: str, config: str | None, head: str | None, raw: bytes
    ) -> None:
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.top = top
        self.prefix = prefix
        self.config = config
        self.head = head
        self.raw = raw

    @property
    def is_unmerged(self) -> bool:
        return any(status == b"U" for _, status, _ in self._entries())

    def files(self) -> list[str]:
        """Paths that were added or changed, as they can be handed to a command."""
        return [os.fsdecode(path) for mode, status, path in self._entries() if status != b"D" and mode != SUBMODULE]

    def deleted(self) -> list[str]:
        return [os.fsdecode(path) for _, status, path in self._entries() if status == b"D"]

    def submodules(self) -> list[str]:
        """Submodules that were added or moved to another commit."""
        return [os.fsdecode(path) for mode, status, path in self._entries() if status != b"D" and mode == SUBMODULE]

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
    try:
        (lost, places), (failed, raw) = ask_git(_PLACES, _STAGED)
        if lost or failed:
            return None
        git_dir, common_dir, top, prefix, *ids = os.fsdecode(places).removesuffix("\n").split("\n")
        head, config = ids if len(ids) == 2 else (_object_id("HEAD"), _object_id(":gate.toml"))
    except (OSError, ValueError):
        return None
    return Staged(git_dir, common_dir, top, prefix, config, head, raw)


def _object_id(name: str) -> str | None:
    ((failed, answer),) = ask_git(("rev-parse", "--quiet", "--verify", name))
    return None if failed else os.fsdecode(answer).strip()


def ask_git(*questions: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """Exit code and standard output of git commands, all started before the first is read. Raises OSError."""
    # ``subprocess`` would do this too, and its import costs as much as the whole interpreter.
    started: list[tuple[int, int]] = []
    for question in questions:
        ours, theirs = os.pipe()
        try:
            quiet = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
            child = os.posix_spawnp(
                "git", ("git", *question), os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1), quiet]
            )
        finally:
            os.close(theirs)
        started.append((child, ours))
    answers = []
    for child, ours in started:
        with os.fdopen(ours, "rb") as pipe:
            out = pipe.read()
        answers.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), out))
    return answers
