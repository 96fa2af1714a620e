"""What a check is kept in: bubblewrap where it works, else nothing but a process group of its own.

Owns which isolation a machine can give and the command line that gives it. In bubblewrap a check sees the system
read-only, no home folder, no /run, none of the gate's own files, other people's processes as little as the network
(unless it asks), and can write to its own folder and to private temporary folders only. Programs that are installed in a
home folder stay usable: what PATH needs is shown again, read-only.

Everything is mounted by folder, never by file: the cost of bubblewrap's mounts is quadratic in their number.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path

from ci.errors import Unavailable

_PROBE_TIMEOUT_S = 10.0

# Folders where people and services keep what is theirs. $HOME is added: a service's home can be anywhere.
_HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp")  # noqa: S108 - not used as temporary folders
_WRITABLE_HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - private ones, gone with the run

# Readable by root alone, and a check of a gate that runs as root would be root.
_SECRETS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/ssh", "/etc/ssl/private")

# bubblewrap leaves these writable to a root without capabilities, and through /proc/sys that root reaches the host.
_PROC_READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")

# What lies beside a bin folder and belongs to programs. Not the whole parent: ~/.cargo has credentials.toml beside bin.
_BESIDE_BIN = ("bin", "sbin", "lib", "lib64", "libexec", "include", "shims", "versions", "toolchains", "plugins", "version")
_PROGRAM_FOLDERS = ("bin", "sbin", "shims")
_MAX_PROGRAM_FOLDERS = 100


class Isolation(StrEnum):
    BUBBLEWRAP = "bubblewrap"
    PLAIN = "plain"


def choose(wanted: str) -> Isolation:
    """The isolation to use. wanted: auto, bubblewrap or plain. Raises Unavailable when bubblewrap must be and cannot."""
    if wanted == "plain":
        return Isolation.PLAIN
    trouble = bubblewrap_trouble()
    if trouble is None:
        return Isolation.BUBBLEWRAP
    if wanted == "bubblewrap":
        raise Unavailable(
            f'checks must run in bubblewrap (isolation = "bubblewrap"), but {trouble}: '
            'install it and allow user namespaces, or set isolation = "auto"'
        )
    return Isolation.PLAIN


@cache
def bubblewrap_trouble() -> str | None:
    """Why bubblewrap cannot be used here; None: it can. Really runs it, once per process."""
    from shutil import which  # long to load, and local hooks do not come here

    if which("bwrap") is None:
        return "there is no bwrap on PATH"
    try:
        done = subprocess.run(
            [*_front(network=False), *_SYSTEM, "--", "/bin/sh", "-c", ":"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return f"it does not start ({wrong})"
    if done.returncode == 0:
        return None
    return f"it does not work here ({os.fsdecode(done.stderr).strip() or f'exit code {done.returncode}'})"


def bubblewrap(
    *,
    folder: Path,
    start: Path | None = None,
    scratch: Path,
    network: bool,
    read: Iterable[str] = (),
    hidden: Iterable[Path] = (),
    shown: Iterable[tuple[Path, Path]] = (),
    status_fd: int | None = None,
    path: str | None = None,
) -> list[str]:
    """The words to put before a command. folder, scratch: absolute, without symlinks, writable for the command.
    start: where it begins, in the folder; None: the folder itself.

    read: more folders to show where home folders are hidden. hidden: shown to nobody, whatever ``read`` says.
    shown: (what, where) to show read-only in the end. status_fd: where bubblewrap reports, as JSON lines.
    """
    words = [*_front(network=network)]
    if status_fd is not None:
        words += ["--json-status-fd", str(status_fd)]
    search = os.environ.get("PATH", os.defpath) if path is None else path
    system, covered = _system(search, str(Path.home()), tuple(read), tuple(sorted(map(str, hidden))), network)
    words += system
    words += ["--bind", str(folder), str(folder), "--bind", str(scratch), str(scratch)]
    for what, where in shown:
        words += ["--ro-bind", str(what), str(where)]
    for path in covered:  # last, for the mounts below them need their mount points made
        if path not in _WRITABLE_HIDDEN:
            words += ["--remount-ro", path]
    return [*words, "--chdir", str(folder if start is None else start), "--"]


def _front(*, network: bool) -> list[str]:
    """Own namespaces, no capabilities. --die-with-parent follows the thread that starts it: that must outlive the run."""
    words = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "gate", "--cap-drop", "ALL"]
    return words if network else [*words, "--unshare-net"]


_SYSTEM = [
    *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
    *(word for path in _PROC_READ_ONLY for word in ("--ro-bind-try", path, path)),
]


@lru_cache(maxsize=16)
def _system(
    search: str, home: str, read: tuple[str, ...], hidden: tuple[str, ...], network: bool
) -> tuple[list[str], list[str]]:
    """Mounts of everything but the run's own folders, in order (a later mount covers an earlier one), and the folders
    that an empty one covers."""
    covered = _outermost(_real(path) for path in (*_HIDDEN, home) if Path(path).is_dir())
    words = list(_SYSTEM)
    for path in covered:
        words += ["--tmpfs", path]
    wanted = [sys.prefix, sys.base_prefix, *_program_folders(search, covered), *(str(Path(p).expanduser()) for p in read)]
    if network:
        wanted.append("/etc/resolv.conf")  # often a link into /run
    words += _shown_again(wanted, covered)
    for path in sorted({_real(path) for path in (*hidden, *_SECRETS)}):
        if Path(path).is_dir():
            words += ["--tmpfs", path]
            covered.append(path)
        elif Path(path).exists():
            words += ["--ro-bind", os.devnull, path]
    return words, covered


def _shown_again(wanted: Iterable[str], covered: Sequence[str]) -> list[str]:
    """Mounts that show these paths read-only in folders that are covered, with every symlink on the way to them."""
    links: dict[str, str] = {}
    real: set[str] = set()
    for path in wanted:
        end = Path("/")
        for link, target, here in _walk(path):
            end = here
            if link is not None and _is_below(link, covered):
                links[link] = target
        if _is_below(str(end), covered) and end.exists():
            real.add(str(end))
    binds = [path for path in _outermost(real) if path not in covered]
    words = [word for path in binds for word in ("--ro-bind-try", path, path)]
    for link, target in sorted(links.items()):
        if not _is_below(link, binds):
            words += ["--symlink", target, link]
    return words


def _walk(path: str) -> Iterator[tuple[str | None, str, Path]]:
    """The way to a path as the kernel goes it: (symlink, its target, the real path so far), one per step."""
    pending = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - resolve() would hide the links
    here = Path("/")
    for _ in range(500):  # a loop of links ends here
        if not pending:
            return
        part = pending.pop()
        here = here.parent if part == ".." else here / part
        link, target = None, ""
        if here.is_symlink():
            link, target = str(here), str(here.readlink())
            pending += reversed([part for part in Path(target).parts if part != "/"])
            here = Path("/") if target.startswith("/") else here.parent
        yield link, target, here


def _program_folders(search: str, covered: Sequence[str]) -> list[str]:
    """The folders of PATH that are covered, what belongs to programs beside them, and the same for where links in them
    lead: a tool installed by pipx is a link in ~/.local/bin to an environment elsewhere."""
    pending = [entry for entry in search.split(":") if entry.startswith("/")]
    pending += [str(Path(prefix) / "bin") for prefix in (sys.prefix, sys.base_prefix)]
    seen: dict[str, None] = {}
    wanted: list[str] = []
    while pending and len(seen) < _MAX_PROGRAM_FOLDERS:
        folder = pending.pop(0)
        if folder in seen or not Path(folder).is_dir():
            continue
        seen[folder] = None
        if not _is_below(_real(folder), covered) and not _is_below(folder, covered):
            continue
        wanted.append(folder)
        if Path(folder).name in _PROGRAM_FOLDERS:
            parent = Path(folder).parent
            wanted += [str(parent / name) for name in _BESIDE_BIN if (parent / name).exists()]
            wanted += [str(parent / "pyvenv.cfg")] if (parent / "pyvenv.cfg").exists() else []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    to = _real(entry.path)
                    pending.append(str(Path(to).parent))
    return wanted


def _real(path: str) -> str:
    return os.path.realpath(path)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    """Is it one of these folders, or below one?"""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie below another, and without the root folder: hiding that would hide everything."""
    kept: list[str] = []
    for path in sorted(set(paths) - {"/", "/usr", "/etc", "/var"}):
        if not _is_below(path, kept):
            kept.append(path)
    return kept
