"""What is true in a simulated queue, whoever knows it: the clairvoyant policies ask this, and so does the auditor."""

from typing import Protocol

from gate.model import ChangeId


class Truth(Protocol):
    """Answers are functions of the workload's seed and of the changes asked for, never of when or how often they are asked."""

    def is_fine(self, change: ChangeId) -> bool:
        """It breaks nothing by itself, on a trunk that holds only fine changes."""

    def clash(self, one: ChangeId, other: ChangeId) -> bool:
        """Both together break something, though each may be fine by itself. The order does not matter. False where the
        earlier of the two had landed before the later was submitted: this was written on top of it."""

    def duration_s(self, change: ChangeId) -> float:
        """Seconds of one run for it, were all it touches tested by one worker."""
