"""Makes a bare repository a gate's: Git's settings and the two server-side hooks.

May be called any number of times; what is right already is left alone. Never touches a hook that it did not write.
"""

import os
import shlex
import sys
from pathlib import Path

from ci.errors import Unavailable, UserError
from ci.git import Git, ServerGit, require_git
from ci.model import RefName

STATE_FOLDER = "gate"
HOOKS = ("proc-receive", "pre-receive")
MARKER = "# written by gate init; renewed by it as long as this line stays"

# Why each of them: docs/reference/push.md
_SETTINGS = (
    ("receive.advertisePushOptions", "true"),
    ("http.receivepack", "true"),
    ("core.logAllRefUpdates", "true"),
    ("gc.auto", "0"),
    ("receive.autogc", "false"),
    ("receive.fsckObjects", "true"),  # refuses crafted trees with names such as .. and .git
)
_ROUTES = "receive.procReceiveRefs"
_HIDDEN = ("refs/changes", "refs/gate", "!refs/gate/have")  # in this order: the last that matches decides

# Started so, and not as a script, the hook is compiled once and not at every push: half of its cost. Appended to the path,
# the folder of hooks/receive.py hides nothing of the standard library.
_START = "import sys; sys.path.append(sys.argv.pop(1)); from receive import main; sys.exit(main())"


def init_bare(repo: Path, trunk: str | None = None) -> list[str]:
    """Set up the server's side of a bare repository. What was done, or is left to do, as sentences.

    trunk: short name of the branch that HEAD shall point to; None: what it points to now.
    Raises UserError for a repository that is not bare or a name that no branch can have, Unavailable for git or disk.
    """
    require_git()
    git = _bare(repo)
    said = _point_head(git, trunk)
    ref = _trunk(git)
    for name, values in _wanted(ref).items():
        said += _set(git, name, values)
    folder = git.git_dir / STATE_FOLDER
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            said.append(f"made {folder}, where the gate keeps its state")
        for hook in HOOKS:
            said += _write_hook(_hooks_folder(git), hook)
    except OSError as cause:
        raise Unavailable(f"{git.git_dir} cannot be set up: {cause}") from cause
    return said or [f"{git.git_dir} is set up already; nothing to change"]


def missing_hooks(git: Git) -> list[str]:
    """Sentences about hooks through which no push reaches this installation of the gate; empty when all is well."""
    folder = _hooks_folder(git)
    return [
        f"{folder / hook} does not call this gate: run 'gate init {git.git_dir}', or no push arrives"
        for hook in HOOKS
        if not (folder / hook).is_file() or _call(hook) not in (folder / hook).read_text(errors="surrogateescape")
    ]


def _bare(repo: Path) -> Git:
    folder = repo.absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: create the repository first, with git init --bare {shlex.quote(str(repo))}")
    git = ServerGit(folder)
    end = git.run("rev-parse", "--is-bare-repository", ok=(0, 128))
    if end.code != 0 and "dubious ownership" in end.err:
        raise UserError(f"{folder} belongs to another account: run gate as its owner, as git itself asks for")
    if end.text == "false" or (folder / ".git").exists():
        raise UserError(f"{folder} has a work tree, and the gate serves bare repositories only: git clone --bare makes one")
    if end.code != 0:
        raise UserError(f"{folder} is no Git repository: create one with git init --bare {shlex.quote(str(repo))}")
    return git


def _point_head(git: Git, trunk: str | None) -> list[str]:
    if trunk is None:
        return []
    ref = f"refs/heads/{trunk}"
    if git.run("check-ref-format", ref, ok=(0, 1)).code != 0 or trunk.startswith("-"):
        raise UserError(f"{trunk!r} cannot be the name of a branch")
    former = git.run("symbolic-ref", "-q", "HEAD", ok=(0, 1)).text
    if former == ref:
        return []
    git.run("symbolic-ref", "HEAD", ref)
    # Otherwise the gate would be asked about pushes to what is an ordinary branch now, and refuse them.
    git.run("config", "--local", "--unset-all", "--fixed-value", _ROUTES, former, ok=(0, 5))
    return [f"HEAD points to {trunk}, which makes it the trunk"]


def _trunk(git: Git) -> RefName:
    ref = git.run("symbolic-ref", "-q", "HEAD", ok=(0, 1)).text
    if not ref.startswith("refs/heads/"):
        raise UserError(f"HEAD of {git.git_dir} points to no branch: name the trunk with --trunk")
    return RefName(ref)


def _wanted(trunk: RefName) -> dict[str, tuple[str, ...]]:
    wanted = {name: (value,) for name, value in _SETTINGS}
    return wanted | {_ROUTES: ("refs/for", trunk), "receive.hideRefs": _HIDDEN}


def _set(git: Git, name: str, values: tuple[str, ...]) -> list[str]:
    """Give a setting its values. Of one that may have several, values that others set are kept."""
    present = tuple(git.run("config", "--local", "--get-all", name, ok=(0, 1)).text.splitlines())
    if len(values) == 1:
        if present == values:
            return []
        git.run("config", "--local", "--replace-all", name, values[0])
        return [f"set {name} = {values[0]}"]
    missing = [value for value in values if value not in present]
    for value in missing:
        git.run("config", "--local", "--add", name, value)
    return [f"added {name} = {value}" for value in missing]


def _hooks_folder(git: Git) -> Path:
    end = git.run("rev-parse", "--git-path", "hooks")
    return (git.git_dir / end.text).absolute()


def _write_hook(folder: Path, hook: str) -> list[str]:
    file = folder / hook
    script = f"#!/bin/sh\n{MARKER}\nexec {_call(hook)}\n"
    present = None
    if os.path.lexists(file):
        present = file.read_text(errors="surrogateescape") if file.is_file() else ""
        if MARKER not in present:
            return [] if _call(hook) in present else [_how_to_chain(file, hook)]
        if present == script and os.access(file, os.X_OK):
            return []
    folder.mkdir(exist_ok=True)
    fresh = folder / f".{hook}.new"
    fresh.write_text(script, errors="surrogateescape")
    fresh.chmod(0o755)
    fresh.replace(file)
    return [f"wrote {file}" if present is None else f"renewed {file}"]


def _call(hook: str) -> str:
    receive = Path(__file__).resolve().parent.parent / "hooks" / "receive.py"
    return shlex.join([sys.executable, "-I", "-S", "-c", _START, str(receive.parent), hook])


def _how_to_chain(file: Path, hook: str) -> str:
    left_alone = f"{file} was not written by the gate and is left alone, and without it the gate does not work here."
    if hook == "proc-receive":
        return f"{left_alone} Git has one such hook: let yours hand over refs/for and the trunk with: exec {_call(hook)}"
    return (
        f"{left_alone} Let it begin with this line, and read its refs from $refs instead of standard input: "
        f"refs=$(cat); printf '%s\\n' \"$refs\" | {_call(hook)} || exit 1"
    )
