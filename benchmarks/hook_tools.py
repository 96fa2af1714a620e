"""The local hook tools that hooks.py and hooks_compare.py put side by side: how each is got, configured and called.

Each comes from its registry package into an environment of its own, ours from this checkout, not editable: an editable
installation adds a finder to every start of Python. Environments of other people's tools are kept (build/hook-tools) and
used again; delete the folder to get the newest. A tool that cannot be got is `Missing` and says why; nothing stands in.

To let a feature of ours take part, alter `Gate` and nothing else: scenarios only know the verbs of `Tool`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
KEPT_IN = PROJECT / "build/hook-tools"
FILES = "*.py"  # what checks that name files are about
_PATIENCE_S = 900.0  # for an installation

Json = dict[str, Any]


# --- a repository, and what a run in it cost ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended. CPU is user and system time of it and all descendants that were waited for."""

    code: int
    out: str
    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Repository:
    """A work tree of a throw-away repository. home: where programs started in it keep what they keep."""

    path: Path
    home: Path

    @classmethod
    def create(cls, path: Path, home: Path, files: Mapping[str, str]) -> "Repository":
        path.mkdir(parents=True)
        home.mkdir(parents=True, exist_ok=True)
        made = cls(path, home)
        made.git("init", "-q", "--initial-branch=main", ".")
        made.write(files)
        made.git("add", "-A")
        made.git("commit", "-q", "--allow-empty", "-m", "first")
        return made

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        copied = replace(self, path=path)
        copied.git("status", "-uno")  # the index holds times of the files that were copied
        return copied

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def read(self, name: str) -> str | None:
        file = self.path / name
        return file.read_text() if file.exists() else None

    def git(self, *words: str) -> str:
        """What git printed. Ends the program when git fails: no benchmark goes on after a broken preparation."""
        done = subprocess.run(["git", *words], cwd=self.path, env=environment(self.home), capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"git {' '.join(words)}: {os.fsdecode(done.stderr)}")
        return os.fsdecode(done.stdout)

    def commit_all(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--no-verify", "--allow-empty", "-m", message)


def environment(home: Path, path: Iterable[str | Path] = (), more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nobody's configuration has a say, and no environment that happens to be active."""
    ours = str(Path(sys.prefix, "bin"))
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GATE_", "PYTHON", "VIRTUAL_ENV"))
    }
    people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _PERSON}
    folders = [*map(str, path), *(entry for entry in os.get_exec_path() if entry != ours)]
    return (
        kept
        | people
        | {
            "PATH": os.pathsep.join(folders),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": "1",  # git's own housekeeping would fall upon whoever commits at that moment
            "GIT_CONFIG_KEY_0": "gc.auto",
            "GIT_CONFIG_VALUE_0": "0",
        }
        | dict(more or {})
    )


_PERSON = (("NAME", "Bench"), ("EMAIL", "bench@example.org"))


def measured(words: Sequence[str], folder: Path, env: Mapping[str, str]) -> Done:
    """Run a command to its end and take its time; what it prints is thrown away."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        words, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    wall_ms = (time.perf_counter() - started_at) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    return Done(process.returncode, "", (used.ru_utime + used.ru_stime) * 1000, wall_ms)


# --- tools ----------------------------------------------------------------------------------------------------------------


class NoSuchSettingError(Exception):
    """The tool has nothing of this kind; the text says what there is instead, or is empty."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check, as every tool can be told of it. command: a program and its arguments.

    names_files: the staged Python files follow. Without, it runs once for the commit: when a Python file is staged, or
    whatever is staged when it looks at the whole tree. fixes: it mends files, and the tool is asked to commit that too.
    own_environment: its ``python`` is to be one that the tool has made for it.
    """

    name: str
    command: tuple[str, ...]
    names_files: bool = False
    whole_tree: bool = False
    fixes: bool = False
    timeout_s: int | None = None
    stage: str = "pre-commit"
    own_environment: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for on top of the checks, where the tool has a setting for it."""

    parallel: bool = False
    timings: bool = False
    budget_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A tool that is not here, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A hook tool. bin: the folder that holds its programs."""

    name: str
    version: str
    bin: Path

    def install(self, repository: Repository, checks: Sequence[Check], wish: Wish | None = None) -> None:
        """Write the configuration, commit it, and set the hooks up. Raises NoSuchSettingError."""
        raise NotImplementedError

    def skip(self, check: str) -> dict[str, str]:
        """Variables that leave out one check of the next commit."""
        raise NotImplementedError

    def share(self, theirs: Repository, check: Check, repository: Repository) -> None:  # noqa: ARG002 - for tools that can
        """Have one repository publish a check as ``v1`` and the other take it from there. Raises NoSuchSettingError."""
        raise NoSuchSettingError

    def environment(self, repository: Repository, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return environment(repository.home, (self.bin,), more)

    def commit(
        self, repository: Repository, *words: str, more: Mapping[str, str] | None = None, patience_s: float = 60
    ) -> Done:
        """``git commit``, with the tool's hooks and what they print."""
        started_at = time.perf_counter()
        done = subprocess.run(
            ["git", "commit", "-m", "change", *words],
            cwd=repository.path,
            env=self.environment(repository, more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=patience_s,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), 0.0, (time.perf_counter() - started_at) * 1000)

    def call(self, repository: Repository, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / program, *words],
            cwd=repository.path,
            env=self.environment(repository),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, repository: Repository, program: str, *words: str) -> None:
        done = self.call(repository, program, *words)
        if done.returncode:
            raise SystemExit(f"{self.name}: {program} {' '.join(words)}: {done.stdout}{done.stderr}")


@dataclass(frozen=True, slots=True)
class PreCommit(Tool):
    """pre-commit: hooks one after the other. ``require_serial``: one process for all files, else it starts four at least."""

    program = "pre-commit"

    def install(self, repository: Repository, checks: Sequence[Check], wish: Wish | None = None) -> None:
        hooks = [self._hook(check, wish or Wish()) for check in checks]
        self.install_hooks(repository, hooks, sorted({check.stage for check in checks}), wish or Wish())

    def install_hooks(self, repository: Repository, hooks: Sequence[Json], stages: Iterable[str], wish: Wish) -> None:
        config: Json = {"repos": [{"repo": "local", "hooks": list(hooks)}]}
        if wish.budget_ms is not None:
            config["budget"] = f"{wish.budget_ms}ms"
        self._configure(repository, config, stages)

    def share(self, theirs: Repository, check: Check, repository: Repository) -> None:
        theirs.write({".pre-commit-hooks.yaml": json.dumps([self._hook(check, Wish())])})
        theirs.commit_all("publish")
        theirs.git("tag", "v1")
        taken = {"repo": str(theirs.path), "rev": "v1", "hooks": [{"id": check.name}]}
        self._configure(repository, {"repos": [taken]}, [check.stage])

    def _configure(self, repository: Repository, config: Json, stages: Iterable[str]) -> None:
        repository.write({".pre-commit-config.yaml": json.dumps(config, indent=1)})  # JSON is YAML
        repository.commit_all("configure hooks")
        self.must(repository, self.program, "install", *(word for stage in stages for word in ("-t", stage)))

    def skip(self, check: str) -> dict[str, str]:
        return {"SKIP": check}

    def _hook(self, check: Check, wish: Wish) -> Json:
        hook: Json = {
            "id": check.name,
            "name": check.name,
            "language": "system",
            "entry": _line(check.command),
            "stages": [check.stage],
            "require_serial": True,
            "pass_filenames": check.names_files,
        }
        if check.whole_tree or check.stage != "pre-commit":
            hook["always_run"] = True
        else:
            hook["files"] = r"\.py$"
        if check.timeout_s is not None:
            hook["timeout"] = check.timeout_s  # not a key of pre-commit or prek 0.5; the nearest there could be
        if wish.timings:
            hook["verbose"] = True
        if check.own_environment:
            hook |= {"language": "python", "entry": _line(("python", *check.command[1:]))}
        return hook


@dataclass(frozen=True, slots=True)
class Prek(PreCommit):
    """prek: the same configuration; hooks of one ``priority`` run together."""

    program = "prek"

    def _hook(self, check: Check, wish: Wish) -> Json:
        hook = PreCommit._hook(self, check, wish)
        return hook | {"priority": 0} if wish.parallel else hook

    def skip(self, check: str) -> dict[str, str]:
        return {"PREK_SKIP": check}


@dataclass(frozen=True, slots=True)
class Lefthook(Tool):
    """lefthook. bin holds the program of the Python package, which starts the binary, or the binary itself."""

    def install(self, repository: Repository, checks: Sequence[Check], wish: Wish | None = None) -> None:
        wish = wish or Wish()
        config: Json = {}
        if any(check.own_environment for check in checks):
            raise NoSuchSettingError
        for check in checks:
            stage = config.setdefault(check.stage, {"parallel": True, "jobs": []} if wish.parallel else {"jobs": []})
            stage["jobs"].append(self._job(check))
            if wish.budget_ms is not None:
                stage["budget"] = f"{wish.budget_ms}ms"
        self._configure(repository, config)

    def share(self, theirs: Repository, check: Check, repository: Repository) -> None:
        theirs.write({"lefthook.yml": json.dumps({check.stage: {"jobs": [self._job(check)]}})})
        theirs.commit_all("publish")
        theirs.git("tag", "v1")
        taken = {"git_url": str(theirs.path), "ref": "v1", "configs": ["lefthook.yml"]}
        self._configure(repository, {"remotes": [taken]})

    def _configure(self, repository: Repository, config: Json) -> None:
        repository.write({"lefthook.yml": json.dumps(config, indent=1)})
        repository.commit_all("configure hooks")
        self.must(repository, "lefthook", "install")

    def skip(self, check: str) -> dict[str, str]:
        return {"LEFTHOOK_EXCLUDE": check}

    def _job(self, check: Check) -> Json:
        job: Json = {"name": check.name, "run": _line(check.command) + (" {staged_files}" if check.names_files else "")}
        if not check.whole_tree and check.stage == "pre-commit":
            job["glob"] = FILES
        if check.fixes:
            job["stage_fixed"] = True
        if check.timeout_s is not None:
            job["timeout"] = f"{check.timeout_s}s"
        return job


@dataclass(frozen=True, slots=True)
class Gate(Tool):
    """Ours, called by git itself."""

    def install(self, repository: Repository, checks: Sequence[Check], wish: Wish | None = None) -> None:
        self.configure(repository, checks, wish or Wish())
        install_gate_hook(self, repository)

    def configure(self, repository: Repository, checks: Sequence[Check], wish: Wish) -> None:
        if any(check.stage != "pre-commit" for check in checks):
            raise NoSuchSettingError("own commands at pre-commit only")
        if any(check.own_environment for check in checks):
            raise NoSuchSettingError
        tables = [_table("hooks", {"budget": f"{wish.budget_ms}ms"})] if wish.budget_ms is not None else []
        tables += [_table("[check]", self._keys(check)) for check in checks]
        repository.write({"gate.toml": "\n".join(tables)})
        repository.commit_all("configure hooks")

    def skip(self, check: str) -> dict[str, str]:
        return {"GATE_SKIP": check}

    def _keys(self, check: Check) -> Json:
        keys: Json = {
            "name": check.name,
            "stage": "pre-commit",
            "command": [*check.command, *(["{files}"] if check.names_files else [])],
        }
        if not check.whole_tree:
            keys["inputs"] = [FILES]
        if check.fixes:
            keys["fix"] = True
        if check.timeout_s is not None:
            keys["timeout"] = f"{check.timeout_s}s"
        return keys


@dataclass(frozen=True, slots=True)
class GateInRunner(Gate):
    """Ours as a hook of a runner, as ``gate init`` writes it: one hook ``gate-check``, found on PATH."""

    runner: PreCommit

    def install(self, repository: Repository, checks: Sequence[Check], wish: Wish | None = None) -> None:
        self.configure(repository, checks, wish or Wish())
        hook: Json = {"id": "gate-check", "name": "gate check", "language": "system", "entry": "gate-check", "args": ["--"]}
        hook |= {"stages": ["pre-commit"], "always_run": True, "require_serial": True}
        if wish and wish.timings:
            hook["verbose"] = True
        self.runner.install_hooks(repository, [hook], ["pre-commit"], Wish())


def install_gate_hook(gate: Tool, repository: Repository) -> None:
    """``gate install``; where this version has no such command, the file that docs/reference/hooks.md tells to write."""
    hook = repository.path / ".git/hooks/pre-commit"
    done = gate.call(repository, "gate", "install", "--hook-type", "pre-commit")
    if done.returncode == 0 and hook.exists():
        return
    if gate.call(repository, "gate", "install", "--help").returncode == 0:
        raise SystemExit(f"gate install: {done.stdout}{done.stderr}")
    write_hook(repository, "exec gate check")


def write_hook(repository: Repository, script: str) -> None:
    """A pre-commit hook of git's own, in sh."""
    hook = repository.path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)


def _line(words: Sequence[str]) -> str:
    """Words that need no quoting, as a line: tools differ in how they split one."""
    if any(set(word) & set(" \"'\\${}") for word in words):
        raise ValueError(f"{words}: put this into a script")
    return " ".join(words)


def _table(name: str, keys: Json) -> str:
    """A table of TOML. Plain ASCII texts, numbers, booleans and lists of them look the same in JSON."""
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


# --- getting them ---------------------------------------------------------------------------------------------------------


def get_tools(folder: Path = KEPT_IN) -> dict[str, Tool | Missing]:
    """Every tool by its name, in the order of the tables."""
    precommit = _got("pre-commit", folder, lambda path: PreCommit("pre-commit", _version(path, "pre-commit"), path))
    prek = _got("prek", folder, lambda path: Prek("prek", _version(path, "prek"), path))
    lefthook = _got("lefthook", folder, lambda path: Lefthook("lefthook", _version(path, "lefthook"), path))
    binary = _bare_lefthook(lefthook, folder) if isinstance(lefthook, Lefthook) else Missing("lefthook binary", lefthook.why)
    gate: Tool | Missing
    try:
        path = make_gate(folder / "gate")
        gate = Gate("gate", _version(path, "trunkgate"), path)
    except (OSError, subprocess.SubprocessError) as failure:
        gate = Missing("gate", _why(failure))
    tools = [precommit, prek, lefthook, binary, gate, *(_in_runner(gate, runner) for runner in (prek, precommit))]
    return {tool.name: tool for tool in tools}


def _got(package: str, folder: Path, make: Any) -> Any:
    try:
        return make(make_environment(folder / package, package))
    except (OSError, subprocess.SubprocessError) as failure:
        return Missing(package, _why(failure))


def _why(failure: Exception) -> str:
    said = getattr(failure, "stderr", None) or b""
    last = os.fsdecode(said).strip().splitlines()[-1:] or [str(failure)]
    return f"could not be installed: {last[0]}"


def _in_runner(gate: Tool | Missing, runner: Tool | Missing) -> Tool | Missing:
    name = f"gate in {runner.name}"
    for needed in (gate, runner):
        if isinstance(needed, Missing):
            return Missing(name, needed.why)
    assert isinstance(gate, Tool)
    assert isinstance(runner, PreCommit)
    return GateInRunner(name, f"{gate.version} in {runner.version}", gate.bin, runner)


def _bare_lefthook(packaged: Lefthook, folder: Path) -> Tool | Missing:
    """lefthook's binary first on PATH, without the Python program in front of it."""
    inside = packaged.bin.parent.glob("lib/python*/site-packages/lefthook/bin/*/lefthook*")
    found = [path for path in inside if path.is_file()]
    if not found:
        return Missing("lefthook binary", "could not be installed: the package holds no binary")
    place = folder / "lefthook-binary"
    place.mkdir(exist_ok=True)
    link = place / "lefthook"
    link.unlink(missing_ok=True)
    link.symlink_to(found[0])
    return Lefthook("lefthook binary", packaged.version, place)


def make_environment(folder: Path, *packages: str) -> Path:
    """The folder of programs of an environment that holds these packages; made once. Raises OSError, SubprocessError."""
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", *([] if packages else ["--without-pip"]), str(folder)])
        if packages:
            _run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])
        (folder / "complete").touch()
    return folder / "bin"


def make_gate(folder: Path) -> Path:
    """An environment with this checkout as it is now, and what it depends on, as ``pip install .`` of a new pip makes it."""
    source = folder.with_name("gate-source")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    packages = [path for path in PROJECT.iterdir() if (path / "py.typed").exists()]
    for path in packages:
        shutil.copytree(path, source / path.name, ignore=ignored)
    named = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for name in ("pyproject.toml", named["readme"], *named["license-files"]):
        shutil.copy(PROJECT / name, source)
    # A local folder is built and installed anew each time, what it depends on is not.
    if not (folder / "bin/pip").exists():
        _run([sys.executable, "-m", "venv", str(folder)])
    _run(
        [str(folder / "bin/pip"), "install", "-q", "--disable-pip-version-check", "pip>=26"]
    )  # older ones write slower programs
    _run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(source)])
    return folder / "bin"


def _run(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=_PATIENCE_S, env=_without_active())


def _without_active() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _version(folder: Path, package: str) -> str:
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([folder / "python", "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
