"""The door to git: every call of the git program by gate and ci goes through here, and never through a shell.

GitPython's command wrapper starts the program on the server; the local hooks, which must start in milliseconds, use the
plain door with the same face (``hooks`` pass it in). Callers give ``--`` and full ref names wherever data could look like
an option. Output is bytes, because file names are.
"""

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ci.errors import Unavailable
from ci.model import Sha

OLDEST_GIT = (2, 38)  # first with merge-tree --write-tree

# Git's own variables steer any git started below; a hook or a caller's shell may have set them for another repository.
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SYSTEMROOT")


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every git that we start: built, with none of the caller's GIT_ variables."""
    env = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    env |= {"LC_ALL": "C", "LANGUAGE": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    # Else whoever may push refs/replace/* shows the gate other content than every clone of the same commit has.
    env["GIT_NO_REPLACE_OBJECTS"] = "1"
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM"):
        if name in os.environ:
            env[name] = os.environ[name]
    return env | dict(extra or {})


# As ``git rev-parse --local-env-vars`` names them. Not settings: these somebody may have given so, by "git -c" or in CI.
_OF_A_REPOSITORY = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR", "GIT_GRAFT_FILE"),
    *("GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NO_REPLACE_OBJECTS"),
    *("GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE"),
)


def traveller_environment() -> dict[str, str]:
    """Added for a git that goes to a server: what ssh, proxies and keepers of passwords need cannot be listed."""
    ours = git_environment()
    return {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY and name not in ours}


class GitEnd(NamedTuple):
    """What one git command came to."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output without its last newline; undecodable bytes are kept as surrogates."""
        return os.fsdecode(self.out.removesuffix(b"\n"))


class GitFailed(Unavailable):
    """A git command ended in a way its caller did not expect."""

    def __init__(self, arguments: tuple[str, ...], end: GitEnd) -> None:
        said = end.err.strip().splitlines() or ["it said nothing"]
        # Advice may stand below the cause.
        self.cause = next((line for line in said if line.startswith(("fatal: ", "error: "))), said[-1])
        super().__init__(f"git {' '.join(arguments[:3])} failed with exit code {end.code}: {self.cause}")
        self.arguments = arguments
        self.end = end


class Git(Protocol):
    """One repository's git. ``git_dir`` is absolute."""

    git_dir: Path

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Collection[int] = (0,),
    ) -> GitEnd:
        """Run one git command to its end. ok: exit codes that are answers; any other raises GitFailed."""
        ...

    def diff(self, before: Sha, after: Sha) -> bytes | None:
        """``diff-tree --raw -z`` of two trees, or of the trees of two commits; None when git does not have one of them."""
        ...

    def store_commit(self, raw: bytes) -> Sha:
        """Write a commit object, given as the bytes below its header, and return its id."""
        ...


_DIFF = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-relative", "--ignore-submodules=none")
"""Without --ignore-submodules=none a .gitmodules file of the user's can make git keep quiet about a submodule."""


class PlainGit:
    """git through ``subprocess`` alone: the door of the local path, where an import of GitPython would be felt."""

    def __init__(self, git_dir: Path, work_tree: Path | None = None) -> None:
        self.git_dir = git_dir.absolute()
        self._front = ["git", f"--git-dir={self.git_dir}"]
        if work_tree is not None:
            self._front.append(f"--work-tree={work_tree.absolute()}")
        self._folder = work_tree

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Collection[int] = (0,),
    ) -> GitEnd:
        try:
            done = subprocess.run(
                [*self._front, *arguments],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                env=git_environment(env),
                cwd=self._folder,
                check=False,
            )
        except FileNotFoundError as gone:
            raise _cannot_start(self.git_dir, gone) from gone
        return _answer(arguments, GitEnd(done.returncode, done.stdout, os.fsdecode(done.stderr)), ok)

    def diff(self, before: Sha, after: Sha) -> bytes | None:
        end = self.run(*_DIFF, "--end-of-options", before, after, ok=(0, 128))
        return end.out if end.code == 0 else None

    def store_commit(self, raw: bytes) -> Sha:
        return Sha(self.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).text)


def forget_git_variables() -> None:
    """Remove Git's own variables from this process, once, at the edge: GitPython hands its children all that it finds."""
    for name in [name for name in os.environ if name.startswith("GIT_") and not name.startswith("GIT_CONFIG_")]:
        del os.environ[name]


class ServerGit:
    """git through GitPython's command wrapper: the door of gate and ci. Call ``forget_git_variables`` first.

    Works on the absolute git directory. GitPython's ``Repo`` guesses whether a repository is bare from its configuration
    and guesses wrong once extensions.worktreeConfig is on, so only the wrapper below it is used.
    """

    def __init__(self, git_dir: Path, work_tree: Path | None = None) -> None:
        import git  # 80 ms that the local hooks must not pay
        import gitdb

        self.git_dir = git_dir.absolute()
        self._front = ["git", f"--git-dir={self.git_dir}"]
        if work_tree is not None:
            self._front.append(f"--work-tree={work_tree.absolute()}")
        self._wrapper = git.Git(str(work_tree or self.git_dir))
        self._not_found = git.exc.GitCommandNotFound
        self._differ: Any = None  # resident diff-tree
        is_sha1 = self.run("rev-parse", "--show-object-format", ok=(0, 128)).text == "sha1"
        self._objects = gitdb.LooseObjectDB(str(self.git_dir / "objects")) if is_sha1 else None
        self._stream = gitdb.IStream

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Collection[int] = (0,),
    ) -> GitEnd:
        try:
            process = self._wrapper.execute(
                [*self._front, *arguments],
                as_process=True,
                istream=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                env=git_environment(env),
            )
        except self._not_found as gone:
            raise _cannot_start(self.git_dir, gone.__cause__ or gone) from gone
        out, err = process.communicate(stdin)
        return _answer(arguments, GitEnd(process.returncode, out, os.fsdecode(err)), ok)

    def header(self, name: str) -> Sha | None:
        """Object id of a full ref name or ``commit^{tree}``-like name, from a resident git; None when there is none.

        For one thread at a time. Never for names from outside: the resident git reads one name per line.
        """
        if self._objects is None:  # GitPython's reader knows ids of SHA-1 only
            end = self.run("rev-parse", "--quiet", "--verify", "--end-of-options", name, ok=(0, 1))
            return Sha(end.text) if end.code == 0 else None
        try:
            found, _, _ = self._wrapper.get_object_header(name)
        except self._not_found as gone:
            raise _cannot_start(self.git_dir, gone.__cause__ or gone) from gone
        except (ValueError, OSError) as answer:
            if str(answer).rstrip("'").endswith(" missing"):
                return None
            # Somebody ended the resident git: that is no answer. The next question starts another.
            self._wrapper.clear_cache()
            raise Unavailable(f"git cat-file failed in {self.git_dir}: {answer}") from answer
        return Sha(os.fsdecode(found))

    def diff(self, before: Sha, after: Sha) -> bytes | None:
        """As PlainGit's, from a resident git: a start would cost many times the answer. For one thread at a time.

        Input keys rest on this answer, so one that is not beyond doubt is asked for again, from a git of its own.
        """
        trees = [self.header(f"{one}^{{tree}}") for one in (before, after)]
        if None in trees:
            return None
        if trees[0] == trees[1]:
            return b""
        question = f"{trees[0]} {trees[1]}\n".encode()
        try:
            answer = self._ask_differ(question)
        except OSError:
            answer = b""
        found = answer.removeprefix(question)
        if not answer.startswith(question) or not found:
            self._end_differ()
            end = self.run(*_DIFF, "--end-of-options", before, after, ok=(0, 128))
            return end.out if end.code == 0 else None
        return found

    def _ask_differ(self, question: bytes) -> bytes:
        """The answer of the resident diff-tree, which begins with the question. Raises OSError when it is gone."""
        if self._differ is None:
            self._differ = self._wrapper.execute(
                [*self._front, *_DIFF, "--stdin"], as_process=True, istream=subprocess.PIPE, env=git_environment()
            )
        # git echoes a line that is no object id, and flushes: the sign that the answer is whole. It cannot be guessed, so no
        # file name can be taken for it.
        mark = f"end-{os.urandom(16).hex()}\n".encode()
        self._differ.stdin.write(question + mark)
        self._differ.stdin.flush()
        answer = b""
        while not answer.endswith(mark):
            more = os.read(self._differ.stdout.fileno(), 1 << 16)
            if not more:
                raise OSError("it ended in the middle of an answer")
            answer += more
        return answer.removesuffix(mark)

    def store_commit(self, raw: bytes) -> Sha:
        """Through gitdb's writer of loose objects, which spares a process; by git itself where objects are not SHA-1."""
        if self._objects is None:
            return Sha(self.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).text)
        try:
            stored = self._objects.store(self._stream("commit", len(raw), io.BytesIO(raw)))
        except OSError as cause:
            raise Unavailable(f"{self.git_dir}/objects cannot be written: {cause.strerror or cause}") from cause
        return Sha(stored.hexsha.decode())

    def close(self) -> None:
        """End the resident gits, if any were started; the next question starts others."""
        self._wrapper.clear_cache()
        self._end_differ()

    def _end_differ(self) -> None:
        differ, self._differ = self._differ, None
        if differ is not None:
            for pipe in (differ.stdin, differ.stdout, differ.stderr):
                with contextlib.suppress(OSError):  # a question that never reached it
                    pipe.close()
            differ.proc.wait()  # the wrapper would raise over its exit code


def _answer(arguments: tuple[str, ...], end: GitEnd, ok: Collection[int]) -> GitEnd:
    if end.code not in ok:
        raise GitFailed(arguments, end)
    return end


def _cannot_start(git_dir: Path, cause: BaseException) -> Unavailable:
    if not git_dir.exists():
        return Unavailable(f"{git_dir} is gone: the repository was moved or deleted")
    return Unavailable(
        f"git cannot be started ({cause}): install Git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer and see that it is on PATH"
    )


@cache
def git_version() -> tuple[int, int]:
    """Version of the git on PATH. Raises Unavailable when there is none."""
    try:
        said = subprocess.run(["git", "version"], capture_output=True, text=True, check=True, env=git_environment()).stdout
    except (OSError, subprocess.CalledProcessError) as cause:
        raise Unavailable(
            f"git cannot be started ({cause}): install Git 2.38 or newer and see that it is on PATH"
        ) from cause
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        raise Unavailable(f"'git version' answered {said.strip()!r}, which names no version")
    return int(found[1]), int(found[2])


def require_git() -> None:
    """Raise Unavailable, with the cure, when git is missing or older than 2.38."""
    found = git_version()
    if found < OLDEST_GIT:
        raise Unavailable(
            f"git {found[0]}.{found[1]} is too old: merging without a work tree needs "
            f"git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer"
        )


def resolve(git: Git, name: str) -> Sha | None:
    """The commit that a full ref name or object id leads to; None when there is none."""
    end = git.run("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}", ok=(0, 1, 128))
    return Sha(end.text) if end.code == 0 else None


def read_file(git: Git, commit: Sha, path: str) -> bytes | None:
    """Content of a file of a commit; None when it has no such file."""
    end = git.run("cat-file", "blob", f"{commit}:{path}", ok=(0, 128))
    return end.out if end.code == 0 else None
