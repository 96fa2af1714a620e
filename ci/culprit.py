"""Decides which commits can have broken trunk. Pure: it reads judgements and runs nothing."""

from collections.abc import Collection, Mapping, Sequence

from ci.model import CheckName, Sha


def suspects(first_parent: Sequence[Sha], judged: Mapping[Sha, Collection[CheckName]]) -> tuple[Sha, ...]:
    """The commits that can have turned red what is red in the last one, oldest first.

    first_parent: trunk's own commits, oldest first, ending with the one in question. judged: what was red in a commit's
    post-commit pipeline, nothing for a green one; commits that were skipped are not in it, so a suspect may have been judged
    by nobody. A check was turned red after the last green commit and no later than in the first one that it was red in. With
    no green commit in the given history that can be any so far.
    """
    last_green = max((place for place, commit in enumerate(first_parent) if judged.get(commit) == ()), default=-1)
    since = first_parent[last_green + 1 :]
    reds = judged.get(since[-1], ()) if since else ()
    ends = [next(place for place, commit in enumerate(since) if check in judged.get(commit, ())) for check in reds]
    return tuple(since[: max(ends) + 1]) if ends else ()
