"""What a check is and what came of running it: frozen facts, with no behaviour beyond questions about themselves.

Every commit loads this file. Named tuples, because dataclasses would load ``inspect`` and compile six methods a class.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, NewType

Sha = NewType("Sha", str)  # full hexadecimal object id
RefName = NewType("RefName", str)  # full name, as in refs/heads/main
CheckName = NewType("CheckName", str)
InputKey = NewType("InputKey", str)  # hexadecimal digest, see ci/keys.py
RunId = NewType("RunId", str)

WHOLE_TREE: tuple[str, ...] = ("**",)
MOST_NAMED = 50  # failed tests that a result names; one that names so many may have had more


class Stage(StrEnum):
    """When a check must have run."""

    PRE_COMMIT = "pre-commit"  # at commit, and again by the gate
    MERGE = "merge"  # by the gate, before landing
    POST_COMMIT = "post-commit"  # on trunk, after landing


class Outcome(StrEnum):
    """What one run of one check came to."""

    GREEN = "green"
    RED = "red"
    TIMED_OUT = "timed out"
    INFRASTRUCTURE = "infrastructure error"  # the check never had its say; says nothing about the change


class Check(NamedTuple):
    """A command with declared inputs that is green (exit 0) or red.

    command: a string is given to ``/bin/sh -c``, its placeholders replaced by quoted shell parameters; a tuple is an
        argument vector. Placeholders: {files}, {junit}, {commit}. Data never becomes part of a shell string.
    retest: a command of the same forms that runs only the tests of {tests}, by the names that reports give them; None: it
        cannot.
    inputs: gitignore patterns (last match wins, ``!`` excludes). The default means the whole tree.
    max_age_s: a green result older than this is not reused; None: never too old.
    junit: path pattern, relative to the check's folder, of reports that the tool writes by itself.
    tools: commands whose output names a version; the output is part of the input key.
    fix: it may alter its inputs, which is no green: the content that was checked is not the content that is right.
    folder: where it runs, below the top of the tree, without slashes around it; "" is the top. Its ``inputs`` begin at the
        top like all others; ``junit`` and what {files} stands for begin here.
    """

    name: CheckName
    command: str | tuple[str, ...]
    stage: Stage = Stage.MERGE
    inputs: tuple[str, ...] = WHOLE_TREE
    needs: tuple[CheckName, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    tools: tuple[str, ...] = ()
    timeout_s: float = 900.0
    max_age_s: float | None = None
    junit: str | None = None
    git: bool = False
    network: bool = False
    retest: str | tuple[str, ...] | None = None
    fix: bool = False
    folder: str = ""

    @property
    def is_whole_tree(self) -> bool:
        return self.inputs == WHOLE_TREE

    @property
    def words(self) -> str:
        """The command as one string, for people and for finding placeholders."""
        return words_of(self.command)

    @property
    def names_files(self) -> bool:
        return "{files}" in self.words


def words_of(command: str | tuple[str, ...]) -> str:
    return command if isinstance(command, str) else " ".join(command)


class TestCase(NamedTuple):
    """One test of one JUnit report. outcome: passed, failed, error or skipped."""

    name: str
    outcome: str
    duration_s: float = 0.0
    message: str = ""  # first line of the failure, shortened

    @property
    def is_failure(self) -> bool:
        return self.outcome in ("failed", "error")


TestCase.__test__ = False  # type: ignore[attr-defined]  # not a pytest class


class Result(NamedTuple):
    """Outcome of one run of one check for one input key. Times are epoch seconds UTC.

    log: path relative to the store's folder; "" when nothing was printed or kept.
    isolation: what the run was kept in: bubblewrap or plain.
    failed: names of the failed tests, in report order, at most MOST_NAMED.
    tests: the tests that the run was limited to; (): it was the whole check. What it says of its key is ci/proof.py's.
    """

    key: InputKey
    check: CheckName
    outcome: Outcome
    run: RunId
    started_at: float
    finished_at: float
    exit_code: int | None = None
    isolation: str = "plain"
    reason: str = ""  # one sentence when outcome is not green
    failed: tuple[str, ...] = ()
    log: str = ""
    tests: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.finished_at - self.started_at

    def is_green_at(self, now: float, max_age_s: float | None) -> bool:
        fresh = max_age_s is None or now - self.finished_at <= max_age_s
        return self.outcome is Outcome.GREEN and fresh


class RunRequest(NamedTuple):
    """Everything that a worker needs to run one check once.

    files: for {files}: paths of the tree that match the check's inputs. None: list them from the commit.
    base, change: told to the check as GATE_BASE and GATE_CHANGE; they are not inputs.
    listing: what the key of a check with declared inputs was made from, one ``mode SP blob TAB path NUL`` per file, where
        the caller has it: it spares listing the tree, and the run has exactly the content that its key speaks of.
    tests: run only these, by the check's ``retest`` command; (): the whole check.
    """

    run: RunId
    check: Check
    key: InputKey
    commit: Sha
    base: Sha | None = None
    change: str = ""
    files: tuple[str, ...] | None = None
    listing: tuple[bytes, ...] | None = None
    tests: tuple[str, ...] = ()


class RunEnd(NamedTuple):
    """How a run ended. outcome None: it was cancelled, and there is no result. tests: all that its reports named.

    altered: files of the commit that the run left other than it found them; only looked for where the check has ``fix``.
    """

    request: RunRequest
    outcome: Outcome | None
    started_at: float
    finished_at: float
    exit_code: int | None = None
    isolation: str = "plain"
    reason: str = ""
    tests: tuple[TestCase, ...] = ()
    log: str = ""
    altered: tuple[str, ...] = ()

    @property
    def result(self) -> Result | None:
        if self.outcome is None:
            return None
        return Result(
            key=self.request.key,
            check=self.request.check.name,
            outcome=self.outcome,
            run=self.request.run,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            isolation=self.isolation,
            reason=self.reason,
            failed=tuple(test.name for test in self.tests if test.is_failure)[:MOST_NAMED],
            log=self.log,
            tests=self.request.tests,
        )


Keys = Mapping[CheckName, InputKey]
