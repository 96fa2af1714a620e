"""Where runs are executed. A worker pool only executes: what to run, and what a result means, is decided elsewhere."""

from typing import Protocol

from ci.model import RunId, RunRequest


class Workers(Protocol):
    """A pool of workers. Made with ``on_end``, which it calls once per started run, from a thread of its own."""

    capacity: int  # runs under way at once; more are queued in order of their start

    def start(self, request: RunRequest) -> None:
        """Run this when a worker is free. Never blocks."""
        ...

    def cancel(self, run: RunId) -> None:
        """End this run early; its end has no outcome. A run that is over, or that nobody knows, is no error."""
        ...

    def close(self) -> None:
        """Cancel everything, wait for the ends, leave no process and no thread. May be called twice."""
        ...
