"""Tells pushing clients what the server has, so that they send their change and not the whole history.

A push learns what the other side has from the refs that are advertised, and the gate hides its own. Trunk alone does not
help: it has moved on to landings that the client has never seen. So some older commits of trunk are advertised as
refs/gate/have/*, at doubling distances: whoever left trunk n landings ago has one that is at most twice as far back.
"""

from ci.model import Sha
from gate.repository import Repository

HAVES = "refs/gate/have"
FARTHEST = 1 << 14  # landings


def refresh_haves(repository: Repository, trunk: Sha) -> None:
    """Point the refs at trunk's history as it is now. Raises Unavailable when git fails."""
    asked = ("rev-list", "--first-parent", f"--max-count={FARTHEST + 1}", "--end-of-options", trunk)
    history = repository.git.run(*asked).text.splitlines()
    steps = [0, *(1 << power for power in range(FARTHEST.bit_length()))]
    reached = [*(step for step in steps if step < len(history) - 1), len(history) - 1]
    lines = [f"update {HAVES}/{place} {history[step]}\n" for place, step in enumerate(reached)]
    repository.git.run("update-ref", "--stdin", stdin="".join(lines).encode())
