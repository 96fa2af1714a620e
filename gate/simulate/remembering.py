"""What a published policy proposed for the last plan, with what was known of it: most of a long queue is as it was."""

from collections.abc import Iterator
from dataclasses import replace

from gate.known import Knowledge
from gate.model import ChangeId
from gate.view import Known, Policy, Proposal, View


class Remembering:
    """Another policy, whose proposals are the same objects as before where nothing else is known of them, so that the core
    need not explore them anew. The plans are those of the policy by itself, if its proposals are asked for to the end and
    time alone does not alter what they are worth."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._knowledge = Knowledge()
        self._before: dict[ChangeId, list[Proposal]] = {}
        self._now: dict[ChangeId, list[Proposal]] = {}
        self._is_looked_at: set[ChangeId] = set()  # anew, in this plan

    def __call__(self, view: View) -> Iterator[Proposal]:
        self._knowledge.follow(view)
        self._now, self._is_looked_at = {}, set()
        for proposal in self._policy(view):
            kept = self._kept(view, proposal)
            self._now.setdefault(proposal.change.id, []).append(kept)
            yield kept
        self._knowledge.finish()
        self._before = self._now

    def _kept(self, view: View, proposal: Proposal) -> Proposal:
        known: Known | None = None
        for before in self._before.get(proposal.change.id, ()):
            if before.change is proposal.change and before.ahead == proposal.ahead and before.together == proposal.together:
                known = before.known
                if known is None or not known.is_current or known.objection is not None or view.is_stacked:
                    break
                if proposal.change.id in self._is_looked_at:
                    self._knowledge.keep(known)
                return before if _is_worth_the_same(before, proposal) else replace(proposal, known=known)
        return replace(proposal, known=self._look(proposal))

    def _look(self, proposal: Proposal) -> Known:
        id_ = proposal.change.id
        if id_ not in self._is_looked_at:
            self._is_looked_at.add(id_)
            self._knowledge.renew(id_)
            for kept in self._now.get(id_, ()):
                if kept.known is not None:
                    self._knowledge.keep(kept.known)
        return self._knowledge.at(proposal.change, proposal.ahead, proposal.assumption)


def _is_worth_the_same(one: Proposal, other: Proposal) -> bool:
    return (one.settles, one.worth, one.behind, one.may_start) == (other.settles, other.worth, other.behind, other.may_start)
