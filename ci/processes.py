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
_MAX_LOOKS = 20  # at a machine on which new processes never cease to come up
_EXEC_LOOKS = 3
_EXEC_S = 0.001  # longer than an exec shows no environment
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the kernel's include/linux/sched.h
_GONE_WITHIN_S = 5.0


def record_path(scratch: Path) -> Path:
    """Where a run's first process is written down: beside its private folder, not in it, where the check could put a
    link in its place or the number of somebody else's process."""
    return scratch.with_name(f"{scratch.name}.process")


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid it names one process. None: there is none."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def marked(mark: Path, *, below: bool = False) -> set[int]:
    """Living processes that carry this mark. below: or the mark of anything below this folder.

    Looks again at processes that came up meanwhile (a parent that is gone by now may have left a child) and at those that
    show no environment yet, as between the two halves of an exec.
    """
    end = b"/" if below else b"\0"
    wanted = f"{MARK}=".encode() + os.fsencode(mark) + end
    looks_left: dict[int, int] = {}
    found = set()
    for _ in range(_MAX_LOOKS):
        open_ones = [pid for pid in _pids() if looks_left.get(pid, _EXEC_LOOKS)]
        if not open_ones:
            break
        for pid in open_ones:
            environment = _read(f"/proc/{pid}/environ")
            looks_left[pid] = looks_left.get(pid, _EXEC_LOOKS) - 1 if environment == b"" and _may_be_starting(pid) else 0
            if environment and wanted in environment:
                found.add(pid)
        if any(looks_left[pid] for pid in open_ones):
            time.sleep(_EXEC_S)
    return found


def _may_be_starting(pid: int) -> bool:
    """No zombie, and no thread of the kernel: those never have an environment."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX" and not int(fields[6]) & _KERNEL_THREAD


def family(leader: int) -> set[int]:
    """Living processes that are in the leader's session or process group, or descend from it. With the leader itself."""
    living = _living()
    return _with_descendants({pid for pid, (_, *groups) in living.items() if leader in (pid, *groups)}, living)


def descendants(ancestor: int) -> set[int]:
    """Living processes that descend from this one, which is not among them."""
    return _with_descendants({ancestor}, _living()) - {ancestor}


def _living() -> dict[int, tuple[int, int, int]]:
    """Parent, process group and session of each."""
    found = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in "ZX":
            found[pid] = (int(fields[1]), int(fields[2]), int(fields[3]))
    return found


def _with_descendants(found: set[int], living: dict[int, tuple[int, int, int]]) -> set[int]:
    while more := {pid for pid, (parent, *_) in living.items() if parent in found and pid not in found}:
        found = found | more
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
    raw = _read(f"/proc/{pid}/stat")
    return raw.rpartition(b")")[2].decode().split() if raw else None


def _read(path: str) -> bytes | None:
    """Content of a file under /proc; None when its process is gone or somebody else's. A plain run reads hundreds."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts)
