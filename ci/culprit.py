"""Decides which commits can have broken trunk. Pure: it reads judgements and runs nothing."""

from collections.abc import Mapping, Sequence

from ci.model import Sha


def suspects(first_parent: Sequence[Sha], judged: Mapping[Sha, bool]) -> tuple[Sha, ...]:
    """The commits after the last green one, up to and including the red one, oldest first.

    first_parent: trunk's own commits, oldest first, ending with the red one. judged: whether a commit's post-commit pipeline
    was green; commits that were skipped are not in it, so a suspect may have been judged by nobody. With no green commit
    in the given history all of it is suspect; with a green last commit nothing is.
    """
    last_green = max((place for place, commit in enumerate(first_parent) if judged.get(commit) is True), default=-1)
    return tuple(first_parent[last_green + 1 :])
