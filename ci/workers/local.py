"""Runs checks on this machine, a thread per worker, and cleans up after a daemon that was killed."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ci import processes, sandbox
from ci.entries import TreeRefused
from ci.errors import Unavailable, UserError
from ci.git import Git, ServerGit
from ci.model import Outcome, RunEnd, RunId, RunRequest
from ci.removal import remove_tree
from ci.run import RunSettings, run_check
from ci.warm import Door
from ci.workspace import Workspace

_log = logging.getLogger(__name__)


class LocalWorkers:
    """Workers on this machine. ``folder`` is the gate's own: uses pool/, runs/ and logs/ in it.

    on_end: called from the worker's thread, when the run's processes are gone and before its folder is. The log of a run
    is ``logs/<run>.log``; the file appears with the first output.
    """

    def __init__(
        self,
        repository: Git,
        folder: Path,
        settings: RunSettings,
        on_end: Callable[[RunEnd], None],
        door: Door = ServerGit,
    ) -> None:
        self.capacity = max(1, settings.workers)
        self._repository = repository
        self._folder = folder.resolve()
        self._settings = settings._replace(hidden=(*settings.hidden, repository.git_dir.resolve(), self._folder))
        self._on_end = on_end
        self._door = door
        self._waiting: queue.SimpleQueue[RunRequest | None] = queue.SimpleQueue()
        self._cancelled: dict[RunId, threading.Event] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        # bubblewrap dies with the thread that started it, so these live until close.
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"worker-{slot}", daemon=True)
            for slot in range(self.capacity)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, request: RunRequest) -> None:
        with self._lock:
            if self._is_closed:
                raise Unavailable(f"run {request.run} cannot be started: the workers are closed")
            self._cancelled[request.run] = threading.Event()
        self._waiting.put(request)

    def cancel(self, run: RunId) -> None:
        with self._lock:
            event = self._cancelled.get(run)
        if event is not None:
            event.set()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for event in self._cancelled.values():
                event.set()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, slot: int) -> None:
        workspace = Workspace(self._repository, self._folder, slot, self._door)
        while (request := self._waiting.get()) is not None:
            try:
                self._run(workspace, request, self._cancelled[request.run])
            except Exception:  # the last boundary of a thread: a bug must not take the worker with it
                _log.exception("run %s of check %s: a bug in the worker", request.run, request.check.name)
            finally:
                with self._lock:
                    self._cancelled.pop(request.run, None)

    def _run(self, workspace: Workspace, request: RunRequest, cancelled: threading.Event) -> None:
        """Run and report exactly once. Reported before the folder is cleared away: nobody need wait for that."""
        isolation = ""
        is_reported = False
        began_at = time.time()

        def report(end: RunEnd) -> None:
            nonlocal is_reported
            is_reported = True
            self._on_end(end)

        def failed(outcome: Outcome | None, reason: str) -> None:
            if not is_reported:
                report(RunEnd(request, outcome, began_at, time.time(), isolation=isolation or "plain", reason=reason))

        if cancelled.is_set():
            failed(None, "cancelled before it began")
            return
        try:
            isolation = sandbox.choose(self._settings.isolation)
            with workspace.place(request, isolation) as place:
                log = f"logs/{request.run}.log"
                end = run_check(request, place, self._settings, self._folder / log, cancelled)
                report(end._replace(log=log if (self._folder / log).exists() else ""))
        except TreeRefused as refused:
            failed(Outcome.RED, str(refused))
        except (Unavailable, UserError, OSError) as wrong:
            if is_reported:
                _log.warning("after run %s: %s", request.run, wrong)
            failed(Outcome.INFRASTRUCTURE, str(wrong))
        finally:
            failed(Outcome.INFRASTRUCTURE, "a bug in the gate; its log has the details")


def reap(folder: Path) -> int:
    """End what a killed daemon left running under this folder, and remove what it left lying. Returns how many processes.

    For the start of a daemon that holds the lock on ``folder``: nobody else runs checks there. Warm work trees stay.
    """
    folder = folder.resolve()
    runs = folder / "runs"
    ended: set[int] = set()

    def left() -> set[int]:
        found = processes.marked(runs, below=True)
        # Who wiped its environment is known by who started it: there is no record yet in the moment after a start.
        for pid in tuple(found):
            found |= processes.family(pid)
        for record in runs.glob("*.process"):
            with suppress(OSError, ValueError):
                pid, started = (int(word) for word in record.read_text().split())
                if processes.start_ticks(pid) == started:
                    found |= processes.family(pid)
        ended.update(found)
        return found

    if not processes.kill_until_gone(left):
        raise Unavailable(f"processes of earlier runs in {runs} do not end, though killed: {sorted(left())}")
    if runs.is_dir():
        for leftover in runs.iterdir():
            remove_tree(leftover)
    return len(ended)
