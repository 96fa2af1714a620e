"""Makes candidates real: merges them commit by commit and computes the keys that their results must have.

Everything here can be computed again from Git, so it is remembered and never stored. A candidate's commit depends only on
what it is made of: the same changes on the same base give the same commit id, also after a restart.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ci.keys import KeyMaker, definition_digest
from ci.model import Check, Sha
from gate import trust
from gate.config import CONFIG_NAME, Config
from gate.merge import Joined, Title, merge_change
from gate.model import Candidate, Entry, Merged, MergeOutcome, Need, Reason, Submission, Unmerged, Waived, Why
from gate.nested import rules_among
from gate.repository import Repository

REMEMBERED = 20_000  # merges kept in memory


@dataclass(frozen=True, slots=True)
class Material:
    """What a candidate is made from: its changes' submissions, and of each the heads that it is stacked on and its paths.
    waived: checks that its first change need not pass as trunk has them, should it replace or remove them: nor those behind
    it, whom trunk as it is does not await any more."""

    submissions: Mapping[Entry, Submission]
    stacked_on: Mapping[Entry, tuple[Sha, ...]]
    paths: Mapping[Entry, frozenset[str]]
    waived: frozenset[Waived] = frozenset()


def definition(check: Check) -> str:
    """Digest of what a check is, whatever its tools say."""
    return definition_digest(check, dict.fromkeys(check.tools, "")).hex()


class Candidates:
    """Builds and remembers candidates of one repository. For one thread at a time."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._keys = KeyMaker(repository.git)
        self._joined: dict[tuple[Sha, Entry], Joined | Reason] = {}
        self._needs: dict[tuple[Sha, tuple[Check, ...]], tuple[Need, ...]] = {}

    def forget_policy(self) -> None:
        """Another policy: other ways to merge."""
        self._joined.clear()

    def build(self, candidate: Candidate, policy: Config, material: Material) -> MergeOutcome | None:
        """The candidate as a commit with its needs; None when one of its earlier changes does not merge."""
        commit, tree = candidate.base, self._repository.tree_of(candidate.base)
        near = commit
        for entry in candidate.entries:
            joined = self._join(commit, tree, entry, policy, material)
            if isinstance(joined, Reason):
                return Unmerged(joined) if entry == candidate.entries[-1] else None
            near, commit, tree = commit, joined.commit, joined.tree
        altered = {path for entry in candidate.entries for path in rules_among(policy.nested, material.paths[entry])}
        checks = tuple(check for check in policy.checks_before_landing() if not self._is_gone(check, commit, altered))
        own = self._own_checks(commit) if altered else ()
        if isinstance(own, Reason):
            return Unmerged(own)
        added = tuple(check for check in own if check not in checks)
        if material.waived and rules_among(policy.nested, material.paths[candidate.entries[0]]):
            waived = material.waived
            checks = tuple(check for check in checks if check in own or (check.name, definition(check)) not in waived)
        return Merged(commit, tree, self._needs_of(commit, tree, checks, near) + self._needs_of(commit, tree, added, near))

    def commits(self, candidate: Candidate) -> tuple[Sha, ...]:
        """The commit that each change of a candidate ends in. Only for one that was built."""
        found: list[Sha] = []
        commit = candidate.base
        for entry in candidate.entries:
            joined = self._joined[commit, entry]
            assert isinstance(joined, Joined)
            commit = joined.commit
            found.append(commit)
        return tuple(found)

    def listing(self, commit: Sha, check: Check) -> tuple[bytes, ...] | None:
        """What the key of a check was made from, for a candidate's commit; None when it is not remembered."""
        return self._keys.listing(commit, check)

    def forget(self) -> None:
        """Start over when much has gathered: all of it can be computed again."""
        if len(self._joined) + len(self._needs) > REMEMBERED:
            self._joined.clear()
            self._needs.clear()

    def _join(self, onto: Sha, onto_tree: Sha, entry: Entry, policy: Config, material: Material) -> Joined | Reason:
        known = self._joined.get((onto, entry))
        if known is None:
            submission = material.submissions[entry]
            known = merge_change(
                self._repository.git,
                onto,
                submission.head,
                settings=policy.merge,
                title=Title(submission.change, submission.subject, submission.by, submission.at),
                exclude=material.stacked_on.get(entry, ()),
                onto_tree=onto_tree,
            )
            if isinstance(known, Joined):
                known = self._carried(onto_tree, known, policy, material.paths[entry]) or known
            self._joined[onto, entry] = known
        return known

    def _carried(self, onto_tree: Sha, joined: Joined, policy: Config, paths: frozenset[str]) -> Reason | None:
        """A conflict, when the merge took the change to guarded paths that it does not name: a rename on trunk moves a
        change along, and nobody approved it there."""
        found = self._repository.git.diff(onto_tree, joined.tree)
        assert found is not None  # both trees were made or read a moment ago
        landed = {os.fsdecode(path) for path in found.split(b"\0")[1::2]} - paths
        rules = rules_among(policy.nested, landed)
        guarded = tuple(sorted(path for path in landed if path in rules or trust.has_rule(policy.trust, path)))
        detail = "files were renamed on trunk, to where changes need an approval"
        return Reason(Why.CONFLICT, paths=guarded, detail=detail) if guarded else None

    def _is_gone(self, check: Check, commit: Sha, altered: Collection[str]) -> bool:
        """Whether the candidate removes the whole folder of the check, rules and all: then nothing is left to check there.

        One that removes the rules alone meets the check.
        """
        is_touched = bool(check.folder) and f"{check.folder}/{CONFIG_NAME}" in altered
        return is_touched and not self._repository.has_folder(commit, check.folder)

    def _own_checks(self, commit: Sha) -> tuple[Check, ...] | Reason:
        """The checks of the candidate's own gate.toml, of which a change of it alters one: it must pass both gates."""
        own = self._repository.rules(commit)
        if isinstance(own, Config):
            return own.checks_before_landing()
        first = own[0]
        more = f" (and {len(own) - 1} more)" if len(own) > 1 else ""
        name = first.file or CONFIG_NAME
        return Reason(Why.BROKEN_CONFIG, paths=(name,), detail=f"{first.told}{more}")

    def _needs_of(self, commit: Sha, tree: Sha, checks: tuple[Check, ...], near: Sha) -> tuple[Need, ...]:
        if not checks:
            return ()
        known = self._needs.get((commit, checks))
        if known is None:
            keys = self._keys.keys(commit, checks, near, tree=tree)
            known = self._needs[commit, checks] = tuple(Need(check, keys[check.name]) for check in checks)
        return known
