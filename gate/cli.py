"""The command line of the gate: words in; one result on standard output (``--json``: the same data), the rest on stderr.

Exit codes: docs/reference/commands.md. Errors travel as exceptions to the one boundary in hooks/main.py.
"""

import argparse
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci.errors import UserError

Json = dict[str, Any]
_SEQUENCE = re.compile(rb"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")  # colours; other controls
TRUNK = 0  # where a command takes the number of a change, this is trunk itself
FOLLOW_EVERY_S = 0.1  # how often --follow looks


def main(words: list[str]) -> int:
    """Run one command. Raises UserError and Unavailable."""
    from ci.git import forget_git_variables

    forget_git_variables()
    parser, known = _parser()
    if words and not words[0].startswith("-") and words[0] not in known:
        raise UserError(f"there is no command {words[0]!r}: gate --help lists all there are")
    arguments = parser.parse_args(words)
    code: int = arguments.command(arguments)
    return code


def _parser() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """With the names of its commands."""
    from gate.simulate.command import add_arguments as add_simulation

    parser = argparse.ArgumentParser(prog="gate", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], what: str, *, repo: bool = True, json: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        added.set_defaults(command=run)
        if json:
            added.add_argument("--json", action="store_true", help="print the result as JSON")
        if repo:
            added.add_argument(
                "--repo", type=Path, default=Path(), metavar="REPO.git", help="the bare repository (default: here)"
            )
        return added

    init = command("init", _init, "write a first gate.toml, or make a bare repository a gated one", repo=False)
    init.add_argument("path", type=Path, nargs="?", default=Path(), metavar="PATH")
    init.add_argument("--trunk", metavar="BRANCH", help="the trunk of a bare repository (default: what HEAD names)")

    init.add_argument(
        "--from-pre-commit", action="store_true", help="add a check that runs the hooks of .pre-commit-config.yaml"
    )

    serve = command("serve", _serve, "run the gate for bare repositories, in the foreground", repo=False, json=False)
    serve.add_argument("repositories", type=Path, nargs="+", metavar="REPO.git")
    serve.add_argument("--until-idle", action="store_true", help="handle what is queued and what follows from it, then exit")
    serve.add_argument("--http", metavar="HOST:PORT", help="serve Git over HTTP; tokens: gate token add")
    serve.add_argument("--quiet", action="store_true", help="say only what goes wrong")

    config = command("config", _config, "check or show a gate.toml", repo=False)
    config.add_argument("what", choices=["check", "show"])
    config.add_argument("file", type=Path, nargs="?", default=Path("gate.toml"), metavar="FILE")

    command("status", _status, "the queue, trunk, and what runs")
    why = command("why", _why, "what a change waits for, or why it was refused")
    why.add_argument("change", type=_number)
    log = command("log", _log, "what happened to a change, or the output of one of its checks")
    log.add_argument("change", type=_number_or_trunk, help="a change's number, or 'trunk' with a post-commit CHECK")
    log.add_argument("check", nargs="?")
    log.add_argument("--follow", action="store_true", help="stay until the change is decided, or the run is over")
    cancel = command("cancel", _ask("cancel"), "take a change out of the queue")
    cancel.add_argument("change", type=_number)
    cancel.add_argument("reason", nargs="?", default="")
    retry = command("retry", _ask("retry"), "run the red checks of a change again")
    retry.add_argument("change", type=_number_or_trunk, help="a change's number, or 'trunk' for the post-commit pipeline")
    approve = command("approve", _ask("approve"), "approve the newest revision of a change")
    approve.add_argument("change", type=_number)
    approve.add_argument("--revision", type=_number, metavar="R", help="approve only if R is still the newest")
    waive = "it need not pass CHECK as trunk has it, which it replaces or removes; may be given more than once"
    approve.add_argument("--waive", action="append", default=[], metavar="CHECK", help=waive)
    close = command("close", _ask("close"), "land nothing until trunk is opened again")
    close.add_argument("reason")
    command("open", _ask("open_trunk"), "land again")
    command("deploys", _deploys, "what is deployed where, and the newest deploys")
    rollback = command("rollback", _ask("rollback"), "put an environment back to its last good commit")
    rollback.add_argument("environment", metavar="ENV")
    rollback.add_argument("reason", nargs="?", default="")
    simulate = command("simulate", _simulate, "play queues with the planner and compare policies", repo=False)
    add_simulation(simulate)
    token = command("token", _token, "tokens for pushing over HTTP")
    token.add_argument("what", choices=["add", "revoke", "list"])
    token.add_argument("name", nargs="?", metavar="NAME")
    return parser, commands.choices.keys()


def _number(word: str) -> int:
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not the number of a change")
    return int(word)


def _number_or_trunk(word: str) -> int:
    return TRUNK if word == "trunk" else _number(word)


# --- setting up -----------------------------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give a working repository or a bare one")
    is_bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
    if arguments.trunk and not is_bare:
        raise UserError("--trunk belongs to a bare repository: a working repository's trunk is its server's")
    if arguments.from_pre_commit and is_bare:
        raise UserError("--from-pre-commit belongs to a working repository: a bare one has no hooks to take over")
    if is_bare:
        from gate.install import init_bare

        lines = init_bare(path, arguments.trunk)
    else:
        from gate.starter import init_work_repository

        lines = init_work_repository(path, from_hooks=arguments.from_pre_commit)
    return _print(arguments, {"path": str(path), "lines": lines}, lines)


def _config(arguments: argparse.Namespace) -> int:
    from gate import config, nested

    path: Path = nested.top_of(arguments.file) or arguments.file
    if path.name == config.CONFIG_NAME and path.exists() and not path.is_file():  # another name may be one of a pipe
        raise UserError(f"{path} is not a file: put the configuration in a file of that name")
    if path.name == config.CONFIG_NAME and path.is_symlink():
        raise UserError(f"{path} {config.IS_LINK}")
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}): 'gate init' writes a first one") from cause
    found = config.parse(data, str(path))
    files: dict[str, bytes] = {}
    if isinstance(found, config.Config) and found.nested.folders:
        read = nested.read_folder(path.parent, found.nested)
        found = nested.compose(data, read, str(path))
        files = {folder: text for folder, text in read.items() if isinstance(text, bytes)}
    if not isinstance(found, config.Config):
        problems = [
            {"file": str(_file(path, problem)), "path": problem.path, "line": problem.line, "text": problem.text}
            for problem in found
        ]
        _print(arguments, {"file": str(path), "problems": problems}, [_problem(path, problem) for problem in found])
        return 2
    beside = _files_beside(path)
    warned = config.warnings(found) + (config.warnings_at(found, beside) if beside else ())
    if arguments.what == "check":
        others = f" (with those of {len(files)} folder{'s' * (len(files) > 1)})" if files else ""
        lines = [*(f"{path}: warning: {line}" for line in warned), f"{path}{others} is fine: {len(found.checks)} checks"]
        told = {"file": str(path), "folders": sorted(files), "problems": [], "warnings": list(warned)}
        return _print(arguments, told, lines)
    values = config.effective(found, data, str(path), files)
    width = max((len(name) for name, _, _ in values), default=0)
    shown = [f"{name:<{width}}  {value:<30}  # {origin}" for name, value, origin in values]
    return _print(arguments, {"values": [{"path": n, "value": v, "origin": o} for n, v, o in values]}, shown)


def _files_beside(path: Path) -> list[str]:
    """What git tracks in the work tree whose gate.toml this is, or would with git add; nothing where it is of none."""
    from ci.errors import Unavailable
    from ci.git import PlainGit

    top = path.absolute().parent
    if not (top / ".git").exists():
        return []
    try:
        listed = PlainGit(top / ".git", top).run("ls-files", "-z", "--cached", "--others", "--exclude-standard").out
    except Unavailable:  # the file can be judged without git
        return []
    return [os.fsdecode(name) for name in listed.split(b"\0")[:-1]]


def _file(path: Path, problem: Any) -> Path:
    return path.parent / problem.file if problem.file else path


def _problem(path: Path, problem: Any) -> str:
    file = _file(path, problem)
    where = f"{file}:{problem.line}" if problem.line else str(file)
    return f"{where}: {problem.path}: {problem.text}" if problem.path else f"{where}: {problem.text}"


def _token(arguments: argparse.Namespace) -> int:
    from gate import commands

    with commands.office(arguments.repo) as at:
        if arguments.what == "list":
            found = commands.token_list(at)
            return _print(arguments, found, found["tokens"] or ["no tokens: 'gate token add NAME' makes one"])
        if not arguments.name:
            raise UserError(f"gate token {arguments.what} needs a NAME")
        if arguments.what == "revoke":
            return _print(arguments, commands.token_revoke(at, arguments.name), [f"token {arguments.name} revoked"])
        found = commands.token_add(at, arguments.name)
        print("this is shown once; give it as the password, with any user name:", file=sys.stderr)
        return _print(arguments, found, [found["token"]])


# --- serving --------------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    from gate.serve import open_server

    logging.basicConfig(
        level=logging.WARNING if arguments.quiet or _shows_progress(arguments) else logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    server = open_server(arguments.repositories)
    try:
        http = _open_http(arguments.http, server) if arguments.http else None
        try:
            names = ", ".join(one.repository.name for one in server.served)
            print(f"gate: serving {names}" + (f" at {http.url}" if http else ""), file=sys.stderr, flush=True)
            with _progress(arguments, server) as on_wait:
                server.run(until_idle=arguments.until_idle, on_wait=on_wait)
        finally:
            if http is not None:
                http.close()
    finally:
        server.close()
    print("gate: idle" if arguments.until_idle and not server.stopping else "gate: stopped", file=sys.stderr)
    return 0


def _shows_progress(arguments: argparse.Namespace) -> bool:
    return bool(arguments.until_idle) and sys.stderr.isatty()


@contextmanager
def _progress(arguments: argparse.Namespace, server: Any) -> Iterator[Callable[[], None]]:
    """A bar of decided changes for the person who waits for --until-idle at a terminal."""
    if not _shows_progress(arguments):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("changes decided", total=None)
        before = sum(len(one.gate.state.decided) for one in server.served)

        def on_wait() -> None:
            decided = sum(len(one.gate.state.decided) for one in server.served) - before
            waiting = sum(len(one.gate.state.waiting) for one in server.served)
            running = sorted({run.check for one in server.served for run in one.gate.state.runs.values()})
            what = f"running {', '.join(running)}" if running else "changes decided"
            bar.update(task, completed=decided, total=decided + waiting, description=what)

        yield on_wait


def _open_http(where: str, server: Any) -> Any:
    from gate.web.git_http import app, serve
    from gate.web.tokens import find

    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UserError(f"--http {where!r}: write HOST:PORT, as in 127.0.0.1:8080")
    gates = {one.repository.name.removesuffix(".git"): one.gate for one in server.served}
    if len(gates) < len(server.served):
        raise UserError("two of the repositories have the same folder name, and HTTP would serve only one of them")
    repositories = {name: gate.repository.git_dir for name, gate in gates.items()}

    def who(repository: str, token: str) -> str | None:
        # Read anew for each request: a token added or revoked while the gate runs counts at once. Each repository has its
        # own: whoever may make tokens for one is not thereby somebody in another.
        return find(token, gates[repository].state.tokens) if repository in gates else None

    return serve(app(repositories, who), host, int(port))


# --- looking --------------------------------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    from gate import commands

    with commands.office(arguments.repo) as at:
        found = commands.status(at)
    trunk = found["trunk"]
    commit = trunk["commit"][:10] if trunk["commit"] else "nothing yet"
    lines = [f"{trunk['branch']} is at {commit}, {trunk['state']}; the gate is {found['gate']}"]
    if trunk["closed"]:
        lines.append(f"closed by {trunk['closed']['by']}: {trunk['closed']['reason']}")
    if trunk["broken"]:
        lines.append(f"closed: {trunk['broken']}; a change that mends it, based on {trunk['branch']}, lands")
    if trunk["red"]:
        changes = [f"change {item['change']}" if item["change"] else item["commit"][:10] for item in trunk["suspects"]]
        lines.append(f"red: {', '.join(trunk['red'])}" + (f"; suspects: {', '.join(changes)}" if changes else ""))
    if trunk["promoted"]:
        lines.append(f"green/{trunk['branch']} is at {trunk['promoted'][:10]}")
    lines += [_waiting_line(item) for item in found["waiting"]] or ["nothing waits"]
    lines += [f"deploys: {trouble}" for trouble in found["troubles"]]
    lines += [f"running: {run['check']} ({run['run']}) for {_whom(run)}" for run in found["running"]]
    lines += [_recent_line(item) for item in found["recent"]]
    lines += [
        f"{item['environment']} is at {(item['commit'] or 'nothing')[:10]}{_failed(item)}" for item in found["deploys"]
    ]
    return _print(arguments, found, lines)


def _waiting_line(item: Json) -> str:
    reasons = "; ".join(reason["text"] for reason in item["reasons"]) or "not looked at yet"
    return f"waiting: change {item['change']} ({item['by']}: {item['subject']}): {reasons}"


def _whom(run: Json) -> str:
    return f"change {run['changes'][-1]}" if run["changes"] else "trunk"


def _recent_line(item: Json) -> str:
    after = f" as {item['commit'][:10]}" if item["commit"] else f": {'; '.join(item['reasons'])}" if item["reasons"] else ""
    return f"{item['verdict']}: change {item['change']} ({item['subject']}){after}"


def _why(arguments: argparse.Namespace) -> int:
    from gate import commands, text

    with commands.office(arguments.repo) as at:
        found = commands.why(at, arguments.change)
    head = f"change {found['change']} revision {found['revision']} ({found['by']}: {found['subject']})"
    lines = [f"{head}: {found['state']}, {text.duration(found['waited_s'])} after it was submitted"]
    for reason in found["reasons"]:
        lines.append(f"  because {reason['text']}")
        lines += [f"  to fix: {reason['cure']}"] if reason.get("cure") else []
    if found["state"] == "waiting" and not found["reasons"]:
        lines.append("  the gate has not looked at it yet" + ("" if found["gate"] == "running" else ": it is not running"))
    lines += [f"  {item['at']}  {item['text']}" for item in found["story"]]
    return _print(arguments, found, lines)


def _log(arguments: argparse.Namespace) -> int:
    from gate import commands

    with commands.office(arguments.repo) as at:
        if arguments.check is None:
            if arguments.change == TRUNK:
                raise UserError("gate log trunk needs the name of a check: 'gate status' names those that are red")
            return _log_of_change(arguments, at)
        run = commands.runs_of(at, arguments.change, arguments.check)[-1]
    if arguments.json:
        return _print(arguments, run, [])
    _copy_log(arguments, run)
    return 0


def _log_of_change(arguments: argparse.Namespace, at: Any) -> int:
    """The change's feed; with --follow until it is decided. Exit code 1 when it was refused."""
    from gate import commands

    runs = commands.runs_of(at, arguments.change, None)
    lines, offset = commands.feed_of(at, arguments.change)
    if arguments.json and not arguments.follow:
        return _print(arguments, {"change": arguments.change, "lines": lines, "runs": runs}, [])
    newest = at.submission(arguments.change).revision
    verdict = at.state.verdicts.get(arguments.change)
    if verdict is None:  # lines of an earlier try of the same revision may be there: they decide nothing
        lines = [line | {"verdict": None} for line in lines]
    with _spinner(arguments, f"change {arguments.change} waits for its verdict"):
        while True:
            for line in lines:
                print(json.dumps(line) if arguments.json else f"r{line['revision']}  {line['text']}", flush=True)
            decided = [line["verdict"] for line in lines if line["verdict"] and line["revision"] == newest]
            if decided or not arguments.follow:
                return 1 if arguments.follow and decided[-1] != "landed" else 0
            time.sleep(FOLLOW_EVERY_S)
            lines, offset = commands.feed_of(at, arguments.change, offset)


def _copy_log(arguments: argparse.Namespace, run: Json) -> None:
    from gate import commands

    path = Path(run["log"])
    offset = 0
    while True:
        with commands.office(arguments.repo) as at:
            newest = commands.runs_of(at, arguments.change, arguments.check)
        is_over = next(one["outcome"] for one in newest if one["run"] == run["run"]) != "running"
        if path.is_file():
            with path.open("rb") as file:
                file.seek(offset)
                while data := file.read(65536):
                    offset += len(data)
                    sys.stdout.buffer.write(_harmless(data) if sys.stdout.isatty() else data)
            sys.stdout.flush()
        if is_over or not arguments.follow:
            return
        time.sleep(FOLLOW_EVERY_S)


def _harmless(data: bytes) -> bytes:
    """What a check printed, for a terminal: colours stay, and other sequences, which could type for the reader or hide
    lines from them, lose their escape character. One that a block ends in the middle of loses it, too."""
    return _SEQUENCE.sub(lambda found: found[1] or b"\xef\xbf\xbd", data)


@contextmanager
def _spinner(arguments: argparse.Namespace, what: str) -> Iterator[None]:
    """A sign of life for the person who follows at a terminal."""
    if not arguments.follow or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _deploys(arguments: argparse.Namespace) -> int:
    from gate import commands

    with commands.office(arguments.repo) as at:
        found = commands.deploys(at)
    lines = [
        f"{item['environment']} is at {(item['commit'] or 'nothing')[:10]}"
        + (f"; {item['running']}" if item["running"] else _failed(item))
        for item in found["environments"]
    ]
    lines += [f"  {item['started']}  {item['text']}" for item in found["deploys"]]
    return _print(arguments, found, lines or ["nothing was deployed yet"])


def _failed(item: Json) -> str:
    return f"; {item['failed']}" if item["failed"] else ""


def _simulate(arguments: argparse.Namespace) -> int:
    from gate.simulate.command import run

    return run(arguments)


# --- asking ---------------------------------------------------------------------------------------------------------------


def _ask(name: str) -> Callable[[argparse.Namespace], int]:
    """A command that records what a person asks for: its arguments are those of the function in gate/commands.py."""

    def run(arguments: argparse.Namespace) -> int:
        from gate import commands

        given = {key: value for key, value in vars(arguments).items() if key not in ("command", "json", "repo")}
        with commands.office(arguments.repo) as at:
            found: Json = getattr(commands, name)(at, by=commands.who_asks(), **given)
            if not commands.is_running(at.repository):
                print("gate: not running now; this counts when it starts", file=sys.stderr)
        return _print(arguments, found, [_asked(name, found)])

    return run


def _asked(name: str, found: Json) -> str:
    match name:
        case "cancel":
            return f"change {found['change']} withdrawn"
        case "retry":
            return "trunk's pipeline is tried again" if found["change"] == 0 else f"change {found['change']} is tried again"
        case "approve":
            missing = f"; still missing: {'; '.join(found['missing'])}" if found["missing"] else ""
            waived = f", without {', '.join(found['waived'])} as trunk has it" if found["waived"] else ""
            again = "; it is tried again" if found["retried"] else ""
            return f"change {found['change']} revision {found['revision']} approved by {found['by']}{waived}{missing}{again}"
        case "close":
            return f"closed: {found['reason']}"
        case "open_trunk":
            return "open"
        case _:
            return f"{found['environment']} goes back to {found['to'][:10]}"


def _print(arguments: argparse.Namespace, data: Json, lines: Sequence[str]) -> int:
    if arguments.json:
        print(json.dumps(data, indent=2))
    else:
        for line in lines:
            print(line)
    return 0
