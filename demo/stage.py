"""The stage of the demo: its folder, the server with its gate, the people with their clones, and what is printed about them.

Nothing here touches the settings of whoever runs the demo: git, pre-commit and the gate get a home folder of their own.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

MARKER = ".trunkgate-demo"  # a folder with this file is ours, and may be replaced by the next demo
PATIENCE_S = 60.0  # for one command, or for one thing to happen; all of it takes less than a minute
ASK_EVERY_S = 0.3  # a command of the gate takes longer than a look at a file
PROJECT = Path(__file__).resolve().parent / "project"
TARGETS = tuple(f"web{number:02}" for number in range(1, 11))
OLD_SERVER = "web03"  # one of the second wave, and set up before the others


class DidNotHappenError(Exception):
    """What a scene waits for or counts on is not so."""


# --- printing -----------------------------------------------------------------------------------------------------------


class Paper:
    """What the reader sees. Colours only on a terminal, and not where NO_COLOR is set."""

    def __init__(self) -> None:
        self._has_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def heading(self, text: str) -> None:
        self._print()
        self._print(self._colour("1;36", text))
        self._print(self._colour("36", "-" * len(text)))

    def tell(self, text: str) -> None:
        self._print(text)

    def command(self, who: str, line: str) -> None:
        self._print(f"  {self._colour('1', who + '$')} {line}")

    def output(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._print(f"    {line}")

    def so(self, text: str, *, good: bool) -> None:
        self._print(self._colour("32" if good else "1;31", f"so: {text}"))

    def checked(self, text: str, *, holds: bool) -> None:
        self._print(f"  checked: {text}" if holds else self._colour("31", f"  NOT SO: {text}"))

    def _colour(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._has_colour else text

    def _print(self, text: str = "") -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


# --- commands -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended. said: its standard output and error, as they came."""

    code: int
    said: str

    @property
    def lines(self) -> list[str]:
        """What it said to the reader: without git's padding, and lines that are the same at every push."""
        kept = (line.rstrip().removeprefix("remote: ") for line in self.said.splitlines())
        dull = ("To /", "error: failed to push", "gate push...", "gate:   follow it on the server")
        return [line for line in kept if line and not line.startswith(dull)]

    def matching(self, *words: str) -> list[str]:
        return [line for line in self.lines if any(word in line for word in words)]


def start(words: Iterable[str], folder: Path, env: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        list(words),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def finish(process: "subprocess.Popen[str]", said: str = "") -> Done:
    """Wait for its end. said: what was read of its output already."""
    try:
        rest, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        rest, _ = process.communicate()
        raise DidNotHappenError(f"{shlex.join(map(str, process.args))} did not end within {PATIENCE_S:.0f} s") from None  # type: ignore[arg-type]
    return Done(process.returncode, said + rest)


def wait_for(look: Callable[[], bool], what: str, pause_s: float = 0.05) -> None:
    """Look again and again until it is so. Raises DidNotHappenError."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > give_up_at:
            raise DidNotHappenError(f"waited {PATIENCE_S:.0f} s in vain for this: {what}")
        time.sleep(pause_s)


# --- the stage ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stage:
    """The folder of the demo, with the server and everybody's clones in it."""

    folder: Path
    paper: Paper
    gate: "subprocess.Popen[bytes] | None" = None
    people: "dict[str, Person]" = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        return self.folder / "shop.git"

    @property
    def servers(self) -> Path:
        return self.folder / "servers"

    @property
    def gate_log(self) -> Path:
        return self.folder / "gate.log"

    def env(self, who: str) -> dict[str, str]:
        """What a person's commands get: nothing of the settings of whoever runs the demo. who: as the server knows them."""
        bin_folder = Path(sys.executable).parent
        return {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "PRE_COMMIT_HOME": str(self.folder / "home" / "pre-commit"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.folder / "home" / "gitconfig"),
            "GIT_AUTHOR_NAME": who.capitalize(),
            "GIT_AUTHOR_EMAIL": f"{who}@shop.example",
            "GIT_COMMITTER_NAME": who.capitalize(),
            "GIT_COMMITTER_EMAIL": f"{who}@shop.example",
            "GATE_USER": who,
        }

    # --- setting up

    def furnish(self) -> None:
        """Make what must be there before the first command: homes, servers, and a file for each person to source."""
        (self.folder / "home").mkdir()
        (self.folder / "home" / "gitconfig").write_text("[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n")
        for target in TARGETS:
            settings = {"greeting": f"Welcome to {target}"} | ({} if target == OLD_SERVER else {"currency": "EUR"})
            (self.servers / target).mkdir(parents=True)
            (self.servers / target / "settings.json").write_text(json.dumps(settings) + "\n")

    def add_person(self, name: str) -> "Person":
        """Somebody with an empty shell; DIR/as-NAME, sourced, puts the reader in their place."""
        person = Person(name, self, self.folder / name)
        self.people[name] = person
        exports = [f"export {key}={shlex.quote(value)}" for key, value in self.env(name).items()]
        file = self.folder / f"as-{name}"
        words = [f"# In a shell: . {file}", *exports, f"cd {shlex.quote(str(person.clone))}"]
        file.write_text("\n".join(words) + "\n")
        return person

    def start_gate(self) -> None:
        """Start the daemon in a session of its own, so that it can outlive this program and its terminal."""
        with self.gate_log.open("ab") as log:
            self.gate = subprocess.Popen(
                ["gate", "serve", str(self.repo)],
                cwd=self.folder,
                env=self.env("gate") | {"SHOP_SERVERS": str(self.servers)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / "gate.pid").write_text(f"{self.gate.pid}\n")
        wait_for(lambda: "gate: serving" in self.gate_log.read_text() or self.gate_is_gone(), "the gate says that it serves")
        if self.gate_is_gone():
            raise DidNotHappenError(f"the gate did not start: {self.gate_log.read_text().strip()}")

    def gate_is_gone(self) -> bool:
        return self.gate is None or self.gate.poll() is not None

    def stop_gate(self) -> int | None:
        """Ask the daemon to end, and wait. Its exit code; None when there was none."""
        if self.gate is None:
            return None
        if self.gate.poll() is None:
            self.gate.send_signal(signal.SIGTERM)
        try:
            code = self.gate.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.gate.kill()
            code = self.gate.wait()
        (self.folder / "gate.pid").unlink(missing_ok=True)
        return code

    # --- facts

    def ask(self, *words: str) -> Json:
        """``gate … --json`` about the repository."""
        done = subprocess.run(
            ["gate", *words, "--json", "--repo", str(self.repo)],
            cwd=self.folder,
            env=self.env("ann"),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        if done.returncode:
            raise DidNotHappenError(f"gate {shlex.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        answer: Json = json.loads(done.stdout)
        return answer

    def git(self, *words: str) -> str:
        """A question to git about the server's repository. "" when git says no."""
        done = subprocess.run(
            ["git", *words],
            cwd=self.repo,
            env=self.env("gate"),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    @property
    def trunk(self) -> str:
        return self.git("rev-parse", "refs/heads/main")

    @property
    def promoted(self) -> str:
        return self.git("rev-parse", "--verify", "--quiet", "refs/heads/green/main")

    def wait_until_judged(self) -> Json:
        """Wait until the post-commit pipeline has judged the present trunk. What gate status says then."""
        found: Json = {}

        def is_judged() -> bool:
            found.update(self.ask("status"))
            trunk = found["trunk"]
            return bool(trunk["commit"] == self.trunk and trunk["state"] != "unknown")

        wait_for(is_judged, "the post-commit pipeline judges trunk", pause_s=ASK_EVERY_S)
        return found

    def wait_until_deployed(self, commit: str) -> Json:
        """Wait until the deploy of this commit has ended. The deploy, as gate deploys tells it."""
        found: list[Json] = []

        def is_over() -> bool:
            found[:] = [deploy for deploy in self.ask("deploys")["deploys"] if deploy["commit"] == commit]
            return bool(found) and found[-1]["state"] != "running"

        wait_for(is_over, f"a deploy of {commit[:10]} ends", pause_s=ASK_EVERY_S)
        return found[-1]

    def versions(self) -> dict[str, str]:
        """The commit that each server has, as the server's own folder says."""
        files = {target: self.servers / target / "VERSION" for target in TARGETS}
        return {target: file.read_text().strip() if file.exists() else "" for target, file in files.items()}

    def history(self, target: str) -> list[str]:
        """What was ever put on a server, oldest first: lines of action, commit and wave."""
        file = self.servers / target / "history.txt"
        return file.read_text().splitlines() if file.exists() else []

    def gate_said(self) -> list[str]:
        """The lines of the daemon's log, without the time."""
        return [line.partition(" ")[2] for line in self.gate_log.read_text().splitlines()]


@dataclass(slots=True)
class Person:
    """Somebody who works on the shop, in a clone of their own."""

    name: str
    stage: Stage
    clone: Path

    def run(self, line: str, *, show: bool = True, folder: Path | None = None, **env: str) -> Done:
        """A command as one would type it; without shell features. Its output is the caller's to show."""
        return finish(self.start(line, show=show, folder=folder, **env))

    def start(self, line: str, *, show: bool = True, folder: Path | None = None, **env: str) -> "subprocess.Popen[str]":
        if show:
            self.stage.paper.command(self.name, line)
        return start(shlex.split(line), folder or self.clone, self.stage.env(self.name) | env)

    def must(self, line: str, **options: Any) -> Done:
        """A command that the scene counts on. Raises DidNotHappenError."""
        done = self.run(line, **options)
        if done.code:
            raise DidNotHappenError(f"{line} ended with {done.code}: {done.said.strip()}")
        return done

    def begin(self, topic: str) -> None:
        """Start a branch from the newest trunk."""
        self.must("git fetch -q origin", show=False)
        self.must(f"git switch -q --no-track -C {topic} origin/main", show=False)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace one passage of a file. Raises DidNotHappen when it is not there exactly once."""
        file = self.clone / path
        text = file.read_text()
        if text.count(old) != 1:
            raise DidNotHappenError(f"{path} holds {text.count(old)} times: {old!r}")
        file.write_text(text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        """Add to the end of a file, or make one."""
        with (self.clone / path).open("a") as file:
            file.write(text)

    def commit(self, message: str) -> str:
        """``git commit`` of all that was edited, hooks and all. The commit."""
        self.must("git add --all", show=False)
        self.must(f"git commit -q -m {shlex.quote(message)}")
        return self.head

    @property
    def head(self) -> str:
        return self.must("git rev-parse HEAD", show=False).said.strip()

    def change_of(self, head: str) -> int:
        """The number that the gate gave to this person's pushed commit."""
        refs = self.stage.git("for-each-ref", "--points-at", head, "--format=%(refname)", "refs/changes").split()
        numbers = {int(ref.split("/")[2]) for ref in refs if not ref.endswith("/landed")}
        if len(numbers) != 1:
            raise DidNotHappenError(f"{head[:10]} is {sorted(numbers) or 'no'} change on the server")
        return numbers.pop()


def require_programs() -> None:
    """Raises DidNotHappenError when the demo cannot begin."""
    if shutil.which("git") is None:
        raise DidNotHappenError("git is not on PATH: install it first")
    for name in ("gate", "pre-commit", "ruff"):
        if not (Path(sys.executable).parent / name).exists():
            raise DidNotHappenError(f"{name} is not installed beside {sys.executable}: 'make demo' sees to that")


def make_folder(wanted: Path | None) -> Path:
    """An empty folder for the demo. Raises DidNotHappen for one that holds what is not ours, or where a gate still runs."""
    import tempfile

    if wanted is None:
        folder = Path(tempfile.mkdtemp(prefix="trunkgate-demo-")).resolve()
    else:
        folder = wanted.absolute()
        if folder.exists() and not folder.is_dir():
            raise DidNotHappenError(f"{folder} is a file: name a folder")
        if folder.is_dir() and any(folder.iterdir()):
            _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by the demo of trunkgate, which may replace it.\n")
    return folder


def _clear(folder: Path) -> None:
    if not (folder / MARKER).is_file():
        raise DidNotHappenError(f"{folder} holds files that are not the demo's: name an empty folder, or none")
    pid_file = folder / "gate.pid"
    if pid_file.is_file() and _is_gate(pid := pid_file.read_text().strip(), folder):
        raise DidNotHappenError(
            f"the gate of an earlier demo still runs in {folder}: stop it with 'kill {pid}' and try again"
        )
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_gate(pid: str, folder: Path) -> bool:
    """Whether that process is the gate of this folder, and not one that got its number later."""
    try:
        words = Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")
    except (ValueError, OSError):
        return False
    return b"serve" in words and any(word.startswith(os.fsencode(folder)) for word in words)
