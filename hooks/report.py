"""What a check came to, as the local hooks tell it."""

from typing import NamedTuple

from ci.model import CheckName, Outcome
from hooks.fixes import Mended


class Report(NamedTuple):
    """What one check came to. outcome None: it did not run, and idle says why; is_blocked when that is no good sign.

    fixes: what it made of files; they are in nobody's index or work tree yet.
    """

    check: CheckName
    outcome: Outcome | None
    duration_s: float = 0.0
    is_cached: bool = False
    is_blocked: bool = False
    idle: str = ""
    reason: str = ""
    failed: tuple[str, ...] = ()
    log: str = ""
    fixes: tuple[Mended, ...] = ()

    @property
    def is_fine(self) -> bool:
        return self.outcome is Outcome.GREEN or (self.outcome is None and not self.is_blocked)
