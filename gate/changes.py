"""What the planner must know of each waiting change, read from Git and held against trunk's policy.

All of it follows from the submission, the policy and the other submissions; it is remembered, never stored.
"""

from dataclasses import dataclass

from ci import keys
from ci.model import Sha
from gate import merge, trust
from gate.config import Config
from gate.model import Change, ChangeId, Entry, Reason, Submission, Verdict, Why
from gate.nested import rules_among
from gate.repository import Repository
from gate.state import State


@dataclass(frozen=True, slots=True)
class Content:
    """What a revision's commits hold. stacked_on: entries of other changes whose heads are among its commits."""

    paths: frozenset[str]
    lines: int | None
    stacked_on: tuple[Entry, ...]


class Changes:
    """Describes the waiting changes of one repository. For one thread at a time."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._contents: dict[Entry, Content] = {}
        self._heads: dict[Sha, Entry] = {}  # of every revision there ever was, in the order of submission
        self._places: dict[Entry, int] = {}

    def note(self, submission: Submission) -> None:
        """Know a revision's head. For all of them, in order: a change may be stacked on one that was decided long ago."""
        entry = (submission.change, submission.revision)
        self._heads.setdefault(submission.head, entry)
        self._places.setdefault(entry, len(self._places))

    def trunk_moved(self, old: Sha | None, new: Sha) -> bool:
        """Somebody moved trunk. True: to a commit without the old one, so that every change has to be read again: it may
        hold commits that trunk had and lost."""
        if not self._contents or old is None:
            return False
        asked = self._repository.git.run("merge-base", "--is-ancestor", "--", old, new, ok=(0, 1, 128))
        if asked.code != 0:
            self._contents.clear()
        return asked.code != 0

    def admit(self, submission: Submission, base: Sha, state: State) -> None:
        """Read what a new submission's commits hold, against the trunk that it met."""
        entry = (submission.change, submission.revision)
        commits, paths, lines = merge.read_change(self._repository.git, base, submission.head)
        below = (self._heads[commit] for commit in commits if commit in self._heads and commit != submission.head)
        stacked_on = tuple(
            other
            for other in below
            if other[0] != submission.change
            and self._places[other] < self._places[entry]
            and not _was_given_up(other, submission, state)
        )
        self._contents[entry] = Content(paths, lines, stacked_on)

    def content(self, submission: Submission, base: Sha, state: State) -> Content:
        entry = (submission.change, submission.revision)
        if entry not in self._contents:
            self.admit(submission, base, state)
        return self._contents[entry]

    def describe(
        self, submission: Submission, state: State, policy: Config, base: Sha, *, may_sandbox: bool, is_gate_broken: bool
    ) -> Change:
        """The change as the planner sees it now.

        may_sandbox: checks can be kept in a sandbox on this machine. is_gate_broken: trunk's own rules cannot be read.
        """
        content = self.content(submission, base, state)
        entry = (submission.change, submission.revision)
        approved_by = state.approvals.get(entry, {})
        owner = self._repository.owner
        approvals = trust.missing_approvals(policy.trust, submission.by, content.paths, approved_by, owner, policy.nested)
        drafts = (Reason(Why.DRAFT),) if submission.draft else ()
        depends, outdated = _dependencies(submission, content, state)
        is_trusted = trust.is_trusted(policy.trust, submission.by, owner)
        unsafe = (Reason(Why.NO_ISOLATION),) if not is_trusted and not may_sandbox else ()
        return Change(
            id=submission.change,
            revision=submission.revision,
            head=submission.head,
            by=submission.by,
            submitted_at=submission.at,
            priority=submission.priority,
            depends=depends,
            paths=content.paths,
            touches=keys.touched(policy.checks_before_landing(), content.paths),
            holds=drafts + approvals,
            may_run=not approvals,
            broken=outdated + unsafe,
            evidence_from=max(submission.at, state.retried_at.get(submission.change, 0.0)),
            retried_at=state.retried_at.get(submission.change, 0.0),
            mends_gate=is_gate_broken and bool(rules_among(policy.nested, content.paths)),
            fixes_trunk=submission.fixes_trunk,
        )

    def paths(self, entry: Entry) -> frozenset[str]:
        """Of a change that was described."""
        return self._contents[entry].paths

    def lines(self, entry: Entry) -> int | None:
        """Of a change that was described: how many it adds and takes away; None: too many to count."""
        return self._contents[entry].lines

    def stacked_heads(self, entry: Entry, state: State) -> tuple[Sha, ...]:
        """Heads of the changes that a revision is stacked on."""
        content = self._contents.get(entry)
        below = () if content is None else content.stacked_on
        return tuple(_head_of(other, state) for other in below)


def _head_of(entry: Entry, state: State) -> Sha:
    return next(item.head for item in state.revisions[entry[0]] if item.revision == entry[1])


def _was_given_up(below: Entry, submission: Submission, state: State) -> bool:
    """A revision that was refused or withdrawn before this was pushed on top of it: its commits belong to this change now.

    So does a mend of a refused change, pushed without saying that it is one.
    """
    decided = state.decided.get(below)
    return decided is not None and decided.verdict is not Verdict.LANDED and decided.at < submission.at


def _dependencies(submission: Submission, content: Content, state: State) -> tuple[tuple[ChangeId, ...], tuple[Reason, ...]]:
    """The changes that must land first, and reasons to refuse when the stack below has moved on."""
    outdated = []
    below: dict[ChangeId, int] = {}
    for change, revision in content.stacked_on:
        below[change] = max(revision, below.get(change, 0))
    for change, revision in below.items():
        newest = state.waiting.get(change)
        if newest is not None and newest.head != _head_of((change, revision), state):
            detail = (
                f"it contains revision {revision}, and revision {newest.revision} has been pushed since; rebase onto that"
            )
            outdated.append(Reason(Why.DEPENDENCY_GONE, change=change, detail=detail))
    return tuple(dict.fromkeys((*submission.depends, *below))), tuple(outdated)
