"""Finds out which targets an environment has at a commit: a list, a file of that commit, or what a command prints.

Names are data: any text of one line is allowed, and whoever uses one passes it as a parameter or a whole argument.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ci import processes
from ci.deploy.command import arguments, environ
from ci.deploy.model import Environment
from ci.errors import Unavailable, UserError
from ci.git import Git, read_file
from ci.model import Sha

COMMAND_TIMEOUT_S = 60.0


def find_targets(repository: Git, settings: Environment, commit: Sha, tree: Path) -> tuple[str, ...]:
    """The targets, in the order in which waves take them.

    tree: a checkout of ``commit``, where the command runs. Raises UserError when what was configured at this commit cannot
    be a list of targets, Unavailable when the command fails and may work later.
    """
    if settings.targets:
        return _proven(settings, settings.targets, "targets")
    if settings.targets_file:
        return _proven(settings, _from_file(repository, settings, commit), settings.targets_file)
    if settings.targets_command:
        return _proven(settings, _from_command(settings, commit, tree), "the output of targets_command")
    raise UserError(f'environment "{settings.name}" names no targets: set targets, targets_file or targets_command')


def _from_file(repository: Git, settings: Environment, commit: Sha) -> list[str]:
    path = PurePosixPath(settings.targets_file)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f'environment "{settings.name}": targets_file {settings.targets_file!r} leaves the repository; '
            "give a path inside it"
        )
    content = read_file(repository, commit, str(path))
    if content is None:
        raise UserError(f'environment "{settings.name}": {path} is not a file of commit {commit[:10]}')
    return _lines(settings, content, str(path))


def _from_command(settings: Environment, commit: Sha, tree: Path) -> list[str]:
    values = {"target": "", "commit": commit, "previous": "", "environment": settings.name, "wave": ""}
    try:
        with subprocess.Popen(
            arguments(settings.targets_command, values),
            cwd=tree,
            env=environ(values, {}, settings.pass_env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired as slow:
                processes.kill_until_gone(lambda: processes.family(process.pid))
                raise Unavailable(
                    f'environment "{settings.name}": targets_command did not end within {COMMAND_TIMEOUT_S:.0f} s'
                ) from slow
    except OSError as gone:
        raise Unavailable(f'environment "{settings.name}": targets_command cannot be started: {gone}') from gone
    if process.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            f'environment "{settings.name}": targets_command ended with exit code {process.returncode}'
            f": {said[-1] if said else 'it said nothing'}"
        )
    return _lines(settings, out, "the output of targets_command", comments=False)


def _lines(settings: Environment, content: bytes, source: str, *, comments: bool = True) -> list[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError as wrong:
        raise UserError(f'environment "{settings.name}": {source} is not UTF-8 text: {wrong}') from wrong
    # Not splitlines(): a form feed or a Unicode separator is part of a name here, and refused as such below.
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    return [line for line in lines if line and not (comments and line.startswith("#"))]


def _proven(settings: Environment, targets: Sequence[str], source: str) -> tuple[str, ...]:
    seen: set[str] = set()
    for target in targets:
        if not target.strip():
            raise UserError(f'environment "{settings.name}": {source} has an empty target name')
        if not target.isprintable():
            raise UserError(f'environment "{settings.name}": {source} has a control character in the target {target!r}')
        if target in seen:
            raise UserError(f'environment "{settings.name}": {source} names the target {target!r} twice')
        seen.add(target)
    if not seen:
        raise UserError(f'environment "{settings.name}": {source} names no target')
    return tuple(targets)
