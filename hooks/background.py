"""``gate background``: starts the checks of stage merge on the commit just made, and lets git go on at once.

git calls this after each commit and waits for its end; a runner of hooks, or whoever reads git's output, waits until nobody
holds that output any more. So this file only decides whether there is anything to do and starts hooks/worker.py as a process
of its own, which has nothing of ours but a log.
"""

import os
import sys

from hooks.desk import Desk, Made
from hooks.staged import ask_git

# The word of the process that works, before the facts that it cannot find by itself without git's variables.
WORK = "--work"

INSTALLED = "GATE_HOOK"
RUNNER = "PRE_COMMIT"

_PLACES = ("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", "--show-toplevel", "--revs-only")

# In the middle of these a commit is one of many, and the next will take its place.
_SERIES = ("rebase-merge", "rebase-apply")

# What is said about the commit alone, and what says who calls.
_OF_THE_COMMIT = (INSTALLED, RUNNER, "GATE_SKIP")


def run(words: list[str]) -> int:
    """Exit code 0, but for what a commit cannot be blamed for. Raises UserError and Unavailable."""
    if words[:1] == [WORK]:
        from hooks.worker import work_unseen

        return work_unseen(Made(*words[1:]))
    event, foreground, stop = _wished(words)
    made, config = _look()
    if stop:
        return _stop(made)
    reason = _reason_for_nothing(made.git_dir, event) if config is not None else "HEAD has no gate.toml"
    if foreground and not reason:
        from hooks.worker import work

        Desk(made.git_dir).want(made.commit)
        return work(made)
    is_asked = INSTALLED not in os.environ and RUNNER not in os.environ
    if not reason and (is_asked or not _is_switched_off(config)):
        _start(made)
    if is_asked:
        from hooks import text

        text.warn(text.background_not_needed(reason) if reason else text.background_started(made.commit))
    return 0


def _wished(words: list[str]) -> tuple[str, bool, bool]:
    """The event of git's post-rewrite hook or "", --foreground, --stop. Raises SystemExit as argparse does."""
    rewritten_by = os.environ.get("PRE_COMMIT_REWRITE_COMMAND", "")  # a runner tells it so
    if not words or words == ["rebase"] or words == ["amend"]:
        return (words or [rewritten_by])[0], False, False
    import argparse

    from hooks import text

    parser = argparse.ArgumentParser(prog="gate background", description=text.BACKGROUND_DESCRIPTION)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help=text.HELP_FOREGROUND)
    how.add_argument("--stop", action="store_true", help=text.HELP_STOP)
    parser.add_argument("event", nargs="?", choices=["rebase", "amend"], help=text.HELP_EVENT)
    given = parser.parse_args(words)
    return given.event or rewritten_by, given.foreground, given.stop


def _look() -> tuple[Made, bytes | None]:
    """HEAD of the current work tree ("" before the first commit), and its gate.toml, if it has one. Raises UserError."""
    (failed, answer), (_, config) = ask_git((*_PLACES, "HEAD", "HEAD:gate.toml"), ("cat-file", "blob", "HEAD:gate.toml"))
    places = os.fsdecode(answer).removesuffix("\n").split("\n")
    if failed or len(places) < 3:
        from ci.errors import UserError
        from hooks import text

        raise UserError(text.no_work_tree())
    git_dir, common_dir, top, *ids = places
    return Made(git_dir, common_dir, top, ids[0] if ids else ""), config if len(ids) == 2 else None


def _reason_for_nothing(git_dir: str, event: str) -> str:
    """Why there is nothing to do; "" when there is."""
    if event == "amend":
        return "the commit hook has seen the amended commit already"
    # git calls us for the end of a rebase before it has tidied up.
    if event != "rebase" and _is_one_of_many(git_dir):
        return "more commits are about to be made here; the last one will be worked on"
    return ""


def _is_one_of_many(git_dir: str) -> bool:
    if any(os.path.isdir(os.path.join(git_dir, name)) for name in _SERIES):  # noqa: PTH112, PTH118 - pathlib costs more
        return True
    try:
        with open(os.path.join(git_dir, "sequencer", "todo"), "rb") as todo:  # noqa: PTH118, PTH123
            return len(todo.read().splitlines()) > 1  # the commit just made is still in there
    except OSError:
        return False


def _is_switched_off(config: bytes | None) -> bool:
    """By this gate.toml. One that cannot be read is for the record to tell."""
    if config is None or b"background" not in config:
        return False  # nearly always, and tomllib is long to load
    import tomllib

    try:
        hooks = tomllib.loads(config.decode()).get("hooks")
    except ValueError:
        return False
    return isinstance(hooks, dict) and hooks.get("background") is False


def python_options() -> tuple[str, ...]:
    """For a Python that finds our packages, and not those of a project that are called like them: it does without the
    current folder and PYTHON's variables, unless they are what leads to ours. PYTHONHOME may be meant for another one."""
    ours = os.path.abspath(__file__)  # noqa: PTH100 - pathlib costs more
    told = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), os.environ.get("PYTHONUSERBASE", "")]
    lead_here = any(folder and ours.startswith(os.path.join(os.path.abspath(folder), "")) for folder in told)  # noqa: PTH100, PTH118
    return ("-P",) if lead_here else ("-P", "-E")


def _start(made: Made) -> None:
    from subprocess import DEVNULL, STDOUT, Popen

    desk = Desk(made.git_dir)
    program = (sys.executable, *python_options(), "-c", "import sys; from hooks.main import main; sys.exit(main())")
    try:
        desk.want(made.commit)
        log = desk.open_log()
        Popen(
            [*program, "background", WORK, made.git_dir, made.common_dir, made.top, made.commit],
            cwd=made.top,
            env=_environment(),
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            start_new_session=True,  # neither the terminal's end nor Ctrl-C in it are meant for it
        )
    except OSError as cause:
        from ci.errors import Unavailable
        from hooks import text

        raise Unavailable(text.background_not_started(str(cause))) from cause


def _environment() -> dict[str, str]:
    # git's own settings stay, which somebody may have given in this way, and what it takes to a server.
    kept = ("GIT_CONFIG", "GIT_SSH", "GIT_SSL", "GIT_ASKPASS", "GIT_PROXY", "GIT_HTTP")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_THE_COMMIT and (not name.startswith("GIT_") or name.startswith(kept))
    }


def _stop(made: Made) -> int:
    from hooks import text

    desk = Desk(made.git_dir)
    commit = desk.worked_on()
    desk.want_nothing()
    desk.wait_until_free()
    text.warn(text.nothing_to_stop() if commit is None else text.background_stopped(commit))
    return 0
