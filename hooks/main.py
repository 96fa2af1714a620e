"""The programs' front door: finds the command that was asked for, and turns what went wrong into words and an exit code.

A hook starts with every commit, so this file imports next to nothing, and each command's module only once it was chosen.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Every other command belongs to gate.cli.
LOCAL_COMMANDS = {
    "check": "hooks.check:run",
    "message": "hooks.message:run",
    "push": "hooks.push:run",
    "cache": "hooks.cache:run",
    "install": "hooks.install:run",
    "uninstall": "hooks.install:undo",
    "hygiene": "hooks.hygiene:run",
    "background": "hooks.background:run",
    "local": "hooks.glance:run",
}
_ALL_OTHERS = "gate.cli:main"

HELP = """\
usage: gate COMMAND [ARGUMENTS]     (gate COMMAND --help says more)

in your working repository
  check       run the checks of gate.toml on what is staged
  message     judge a commit message (git calls it: commit-msg)
  push        judge a push before it is sent (git calls it: pre-push)
  background  check a commit after it was made, while you go on (git calls it: post-commit)
  local       what the checks in the background found
  cache       what the hooks keep here: show, prune or clear it
  install     have git call the first four by itself, as its hooks
  uninstall   undo that, and put back the hooks that were there before
  hygiene     small checks of files: blanks, line ends, marks of conflicts, syntax, keys, sizes
  init        write a first gate.toml, or make a bare repository a gated one
  config      check or show a gate.toml

on the server, or with --repo REPO.git
  serve       run the gate for one or more bare repositories
  status      the queue, trunk, and what runs
  why         what a change waits for, and since when
  log         output of a change's checks
  cancel      take a change out of the queue
  retry       judge a change again
  approve     approve a change
  close       land nothing until trunk is opened again
  open        land again
  deploys     what is deployed where
  simulate    what the planner would do, with other settings or another queue
  rollback    put an environment back to its last good commit
  token       tokens for pushing over HTTP

exit codes: 0 fine, 1 refused or red, 2 usage or configuration, 3 a bug of ours, 4 something outside failed, 130 interrupted
"""

INTERRUPTED = 130
READER_GONE = 141  # as the shell shows SIGPIPE

# Failures of the machine that no code of ours can cure: ENOSPC, EDQUOT, EROFS, EACCES, EPERM, EMFILE, ENFILE, ENOMEM, EIO.
_FAILURES_OUTSIDE = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM", "EIO")


def main() -> int:
    """The program ``gate``."""
    words = sys.argv[1:]
    if not words:
        return _guarded(_say_how)
    if words[0] in ("--version", "-V"):
        from ci import VERSION

        return _guarded(lambda: _say(f"gate {VERSION}\n"))
    if words[0] in ("--help", "-h", "help"):
        return _guarded(lambda: _say(HELP))
    target = LOCAL_COMMANDS.get(words[0])
    if target is not None:
        return run_command(target, words[1:])
    return run_command(_ALL_OTHERS, words)


def check() -> int:
    """The program ``gate-check``, for hook runners."""
    return run_command(LOCAL_COMMANDS["check"], sys.argv[1:])


def message() -> int:
    """The program ``gate-message``."""
    return run_command(LOCAL_COMMANDS["message"], sys.argv[1:])


def push() -> int:
    """The program ``gate-push``."""
    return run_command(LOCAL_COMMANDS["push"], sys.argv[1:])


def hygiene() -> int:
    """The program ``gate-hygiene``."""
    return run_command(LOCAL_COMMANDS["hygiene"], sys.argv[1:])


def background() -> int:
    """The program ``gate-background``."""
    return run_command(LOCAL_COMMANDS["background"], sys.argv[1:])


def run_command(target: str, words: list[str]) -> int:
    """Import ``module:function``, call it with the words, and return its exit code."""
    if "PYTHONPATH" in os.environ:
        _import_ours()
    return _guarded(lambda: _load(target)(words))


def _import_ours() -> None:
    """Our other packages, before a project's that are called so: PYTHONPATH comes before what is installed."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib costs more
    try:
        for package in ("ci", "gate"):
            __import__(package)
    finally:
        del sys.path[0]


def _load(target: str) -> "Callable[[list[str]], int]":
    module, _, function = target.partition(":")
    __import__(module)  # importlib.import_module without importing importlib
    found: Callable[[list[str]], int] = getattr(sys.modules[module], function)
    return found


def _say_how() -> int:
    sys.stderr.write(HELP)
    return 2


def _say(words: str) -> int:
    sys.stdout.write(words)
    return 0


def _guarded(command: "Callable[[], int]") -> int:
    """The one boundary: every exception ends here, as a sentence on stderr and an exit code."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files need not be UTF-8
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("gate: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads standard output any more; the interpreter's own flush at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return READER_GONE
    except Exception as failure:
        return _explain(failure)
    return code


def _open_streams() -> None:
    """Those that we were started without: else the first file that is opened would be taken for one, also by checks."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this
            os.set_inheritable(handle, True)
            setattr(sys, name, os.fdopen(handle, "w" if number else "r", closefd=False))


def _explain(failure: Exception) -> int:
    from ci.errors import Unavailable, UserError

    if isinstance(failure, UserError):
        sys.stderr.write(f"gate: {failure}\n")
        return 2
    if isinstance(failure, Unavailable) or _comes_from_outside(failure):
        sys.stderr.write(f"gate: {failure}\n{_whose_fault(failure)}")
        return 4
    where = _write_report(failure)
    sys.stderr.write(f"gate: a bug in gate itself, not in your change: {type(failure).__name__}: {failure}\n")
    sys.stderr.write(f"  please report it with the file {where}\n" if where else "")
    return 3


def _comes_from_outside(failure: Exception) -> bool:
    import errno

    return isinstance(failure, OSError) and errno.errorcode.get(failure.errno or 0) in _FAILURES_OUTSIDE


def _whose_fault(failure: Exception) -> str:
    """A line that says more than "Permission denied" of a file or folder; or nothing."""
    cause = failure if isinstance(failure, OSError) else failure.__cause__
    if not isinstance(cause, PermissionError) or not isinstance(cause.filename, str):
        return ""
    from hooks import text

    why = text.whose_fault(cause.filename)
    return f"  {why}\n" if why else ""


def _write_report(failure: Exception) -> str:
    """Path of a new file with the traceback; "" when it could only be printed."""
    import platform
    import tempfile
    import traceback

    from ci import VERSION

    story = "".join(traceback.format_exception(failure))
    facts = f"gate {VERSION}, Python {platform.python_version()}, {platform.platform()}\ncommand: {sys.argv!r}\n\n"
    try:
        handle, where = tempfile.mkstemp(prefix="gate-bug-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(facts + story)
    except OSError:
        sys.stderr.write(story)
        return ""
    return where
