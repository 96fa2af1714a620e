"""Finds and ends every process of a run, also those that left its process group.

A run's processes carry a mark in their environment: the path of the run's private folder, which no other run on the
machine has. A process that wipes its environment and starts a session of its own after its parents are gone is not
found: that much only a pid namespace (ci/sandbox.py) catches.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = "GATE_MARK"

_POLL_S = 0.005
_GONE_WITHIN_S = 5.0


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid it names one process. None: there is none."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def marked(mark: Path, *, below: bool = False) -> set[int]:
    """Living processes that carry this mark. below: or the mark of anything below this folder."""
    end = b"/" if below else b"\0"
    wanted = f"{MARK}=".encode() + os.fsencode(mark) + end
    found = set()
    for pid in _pids():
        with suppress(OSError):  # gone since, or somebody else's
            if wanted in Path(f"/proc/{pid}/environ").read_bytes():
                found.add(pid)
    return found


def family(leader: int) -> set[int]:
    """Living processes that are in the leader's session or process group, or descend from it. With the leader itself."""
    parents: dict[int, int] = {}
    found = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            continue
        parent, group, session = (int(field) for field in fields[1:4])
        parents[pid] = parent
        if leader in (pid, group, session):
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def send(signal_number: int, pids: set[int]) -> None:
    for pid in pids - {os.getpid()}:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)


def kill_until_gone(find: Callable[[], set[int]]) -> bool:
    """Kill what ``find`` finds until it finds nothing: a process may fork between the look and the kill.

    False: something is still there after five seconds, as happens in the middle of a stuck disk.
    """
    give_up_at = time.monotonic() + _GONE_WITHIN_S
    while left := {pid for pid in find() if is_alive(pid)}:
        send(signal.SIGKILL, left)
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_POLL_S)
    return True


def is_alive(pid: int) -> bool:
    """False also for a zombie: it holds nothing but its place in the table."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - the fast way, 1 ms
    except FileNotFoundError:  # no /proc on this system: the process group is all there is
        return []


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third (state) on: the second holds the name, with any bytes in it."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return raw.rpartition(b")")[2].decode().split()
