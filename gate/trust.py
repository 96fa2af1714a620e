"""Who may land what: pure rules over names, roles and paths. Identities come from elsewhere (docs/reference/push.md)."""

from collections.abc import Collection, Iterable

from ci.keys import matcher
from gate.config import Nested, PathRule, Trust
from gate.model import Reason, Why
from gate.nested import rules_among

ALONE = Nested()  # only the gate.toml at the top has a say
MOST_PATHS = 10  # that a reason names


def is_maintainer(trust: Trust, person: str, owner: str) -> bool:
    """owner: the account that the repository belongs to; it stands in while nobody is named."""
    return person in trust.maintainers if trust.maintainers else person == owner


def is_trusted(trust: Trust, person: str, owner: str) -> bool:
    return "*" in trust.trusted or person in trust.trusted or is_maintainer(trust, person, owner)


def has_rule(trust: Trust, path: str) -> bool:
    return any(matcher(rule.paths)(path) for rule in trust.paths)


def missing_approvals(
    trust: Trust, by: str, paths: Collection[str], approved_by: Collection[str], owner: str, nested: Nested = ALONE
) -> tuple[Reason, ...]:
    """What keeps a change of these paths from landing on green checks; empty when nothing does.

    nested: of trunk's policy. A maintainer's own change to a gate.toml needs nobody else; under a path rule an author who is
    among its approvers counts as one of them, and a maintainer who is not does not.
    """
    others = set(approved_by) - {by}
    maintainers = trust.maintainers or (owner,)
    has_maintainer = any(is_maintainer(trust, person, owner) for person in others)
    missing: list[Reason] = []
    altered = rules_among(nested, paths)[:MOST_PATHS]
    if altered and not is_maintainer(trust, by, owner) and not has_maintainer:
        missing.append(
            Reason(Why.NEEDS_APPROVAL, paths=altered, people=maintainers, detail="it changes the gate's own rules")
        )
    elif not is_trusted(trust, by, owner) and not has_maintainer:
        missing.append(Reason(Why.NEEDS_APPROVAL, people=maintainers, detail=f"{by} is not among the trusted"))
    for rule in trust.paths:
        touched = _touched(rule, paths)
        given = len(others.intersection(rule.approvers)) + (by in rule.approvers)
        if touched and given < rule.approvals:
            wanting = f"{rule.approvals - given} of {rule.approvals} approvals missing"
            candidates = tuple(person for person in rule.approvers if person not in others and person != by)
            missing.append(Reason(Why.NEEDS_APPROVAL, paths=touched[:MOST_PATHS], people=candidates, detail=wanting))
    return tuple(missing)


def _touched(rule: PathRule, paths: Iterable[str]) -> tuple[str, ...]:
    """Paths under a rule. A path counts also where a folder of its name would: it may take that folder's place."""
    is_match = matcher(rule.paths)
    return tuple(sorted(path for path in paths if is_match(path) or is_match(f"{path}/.")))


def may_approve(trust: Trust, person: str, owner: str) -> bool:
    """Whether an approval by this person can count: a maintainer's where trust lacks, an approver's under their rule."""
    return is_maintainer(trust, person, owner) or any(person in rule.approvers for rule in trust.paths)
