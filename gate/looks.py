"""What a plan was made from beyond the events: when, how many of them it knew, and how many workers there were.

Nothing is decided by these. They are what lets ``gate simulate --from`` make the same plans once more, exactly.
"""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What the daemon was doing. All else that it remembers follows from the events and from these, in this order."""

    STARTED = "started"  # it has forgotten all, and read the events so far
    WARMED = "warmed"  # it made the keys of trunk
    PLANNED = "planned"
    BROKEN_OFF = "broken off"  # trouble outside came while the plan before was carried out
    DOUBTED = "doubted"  # the landing of the plan before did not take place, and its results were looked up again


@dataclass(frozen=True, slots=True)
class Look:
    """One step. at: of the plan, epoch seconds UTC. seen: the newest event that was known, by its place in the journal.

    workers: runs that the plan might have under way at once. may_sandbox: checks could be kept in a sandbox.
    may_start: False while workers of an earlier policy finished what they ran: no run was started, whatever the plan said.
    """

    step: Step
    at: float
    seen: int
    workers: int = 0
    may_sandbox: bool = False
    may_start: bool = True
