"""What ``gate init`` writes into a working repository: a commented gate.toml for what it finds there, and the hooks.

Owns two files, gate.toml and .pre-commit-config.yaml, and only while it creates them: a file that is there already is never
written to (gate/adopt.py adds to one, when asked to). Detection reads file names and a few small files; it runs nothing.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ci.errors import Unavailable, UserError
from gate.config import CONFIG_NAME, Config, parse

HOOKS_CONFIG_NAME = ".pre-commit-config.yaml"
HOOK_IDS = ("gate-check", "gate-message", "gate-push", "gate-background")

_MAX_READ_BYTES = 1_000_000  # of a file that is looked into
_NPM_PLACEHOLDER = "no test specified"  # what npm init writes, and fails


# --- what is there -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A way to test that the folder shows. because: the file that told. network: it must fetch what it needs."""

    name: str
    command: str
    because: str
    inputs: tuple[str, ...]
    network: bool = False


def detect(folder: Path) -> tuple[Found, ...]:
    """The ways to test that the folder shows, in a fixed order. Files that cannot be read or understood show nothing."""
    ways = (_pytest(folder), _npm(folder), _cargo(folder), _go(folder), _make(folder))
    return tuple(way for way in ways if way is not None)


def _pytest(folder: Path) -> Found | None:
    because = _sign_of_pytest(folder)
    if because is None:
        return None
    return Found("pytest", "python3 -m pytest -q --junitxml={junit}", because, ("**/*.py", "pyproject.toml"))


def _sign_of_pytest(folder: Path) -> str | None:
    for name, sign in (
        ("pytest.ini", ""),
        (".pytest.ini", ""),
        ("pyproject.toml", r"\bpytest\b"),
        ("setup.cfg", r"\[tool:pytest\]"),
        ("tox.ini", r"\[pytest\]"),
        ("conftest.py", ""),
    ):
        if re.search(sign, _read(folder / name) or "") and (folder / name).is_file():
            return name
    for tests in ("tests", "test"):
        for pattern in ("test_*.py", "*_test.py", "*/test_*.py", "*/*_test.py"):
            if any((folder / tests).glob(pattern)):
                return f"{tests}/"
    return None


def _npm(folder: Path) -> Found | None:
    try:
        package = json.loads(_read(folder / "package.json") or "{}")
    except (ValueError, RecursionError):
        return None
    scripts = package.get("scripts") if isinstance(package, dict) else None
    script = scripts.get("test") if isinstance(scripts, dict) else None
    if not isinstance(script, str) or not script.strip() or _NPM_PLACEHOLDER in script:
        return None
    is_locked = any((folder / name).is_file() for name in ("package-lock.json", "npm-shrinkwrap.json"))
    install = "npm ci" if is_locked else "npm install --no-save"
    inputs = ("package.json", "package-lock.json", "src/**", "test/**")
    return Found("npm-test", f"{install} --no-audit --no-fund && npm test", "package.json", inputs, network=True)


def _cargo(folder: Path) -> Found | None:
    manifest = _read(folder / "Cargo.toml")
    if manifest is None:
        return None
    try:
        tomllib.loads(manifest)
    except (ValueError, RecursionError):
        return None
    locked = " --locked" if (folder / "Cargo.lock").is_file() else ""
    inputs = ("Cargo.toml", "Cargo.lock", "**/*.rs")
    return Found("cargo-test", f"cargo test{locked}", "Cargo.toml", inputs, network=True)


def _go(folder: Path) -> Found | None:
    if not (folder / "go.mod").is_file():
        return None
    needs_modules = (folder / "go.sum").is_file()
    return Found(
        "go-test", "go vet ./... && go test ./...", "go.mod", ("go.mod", "go.sum", "**/*.go"), network=needs_modules
    )


def _make(folder: Path) -> Found | None:
    for name in ("GNUmakefile", "makefile", "Makefile"):  # the order in which make looks
        text = _read(folder / name)
        if text is not None:
            has_test = re.search(r"^test[ \t]*:(?![:=])", text, re.MULTILINE)
            return Found("make-test", "make test", name, ("Makefile", "src/**")) if has_test else None
    return None


def _read(file: Path) -> str | None:
    """The text of a file of moderate size; None when there is none that can be read."""
    with suppress(OSError, UnicodeDecodeError):
        if file.is_file() and file.stat().st_size <= _MAX_READ_BYTES:
            return file.read_text(encoding="utf-8")
    return None


# --- gate.toml -----------------------------------------------------------------------------------------------------------

_HEAD = """\
# How changes get onto trunk. This file is read from trunk, never from the change that is judged by it.
# `gate config check` says what is wrong with it, `gate config show` lists every key with its value.
# Remove the # in front of a line to use it.
"""

_MARKERS = """\
# Runs when a developer commits, on the files of the commit, and again by the gate. {files} stands for the files.
[[check]]
name = "no-conflict-markers"
stage = "pre-commit"
command = "! grep -nE '^(<{7}|>{7}) ' {files} /dev/null"
"""

_EXAMPLE = """\
# Nothing was found here that runs tests. A check is a command that exits with 0 when all is well:
#[[check]]
#name = "tests"
#command = "./run-tests"
#timeout = "15m"
"""

_TAIL = """\
# Slower checks may run on trunk, after landing. The promotion ref follows trunk only as far as they are green.
#[[check]]
#name = "end-to-end"
#stage = "post-commit"
#command = "./run-end-to-end-tests"
#timeout = "1h"

# People are called as the server knows them. As it stands everybody who can push lands on green, and only the account
# that owns the repository may change this file and approve.
#[trust]
#maintainers = ["ann"]
#trusted = ["ann", "ben"]

#[message]
#max_subject = 72
#trailers = ["Signed-off-by"]

# On the developer's machine. After each commit the checks of stage merge run in the background, unless this says no;
# a commit leaves to the gate what is not expected to end within the budget; a push asks for the checks of this stage.
#[hooks]
#background = false
#budget = "10s"
#[push]
#checks = "merge"

# Where green commits go, wave after wave. {target} stands for one of the targets.
#[[environment]]
#name = "production"
#command = ["./deploy", "{target}", "{commit}"]
#targets = ["web1", "web2", "web3"]
#verify = "./smoke-test"
#waves = ["1", "100%"]
#bake = "5m"
"""


def starter_toml(folder: Path) -> str:
    """A commented gate.toml for what the folder holds. Reads without problem or warning, as it is and with all # removed."""
    found = detect(folder)
    # A test target of make usually runs what the others run: with both, every landing would pay twice.
    doubled = len(found) > 1
    checks = [_check_of(way, is_comment=doubled and way.name == "make-test") for way in found]
    return "\n".join([_HEAD, *(checks or [_EXAMPLE]), _MARKERS, _TAIL])


def _check_of(way: Found, *, is_comment: bool) -> str:
    lines = ["[[check]]", f'name = "{way.name}"', f'command = "{way.command}"', 'timeout = "15m"']
    if way.network:
        lines += ["# It fetches what it depends on, so a green result does not hold for ever:"]
        lines += ["network = true", 'max_age = "1d"']
    if is_comment:
        why = [f"# {way.because} has a target named test; most often it runs what is above, so it is left out."]
        return "\n".join([*why, *(f"#{line}" for line in lines), ""])
    inputs = ", ".join(f'"{pattern}"' for pattern in way.inputs)
    why = [f"# Because of {way.because}. Its programs must be installed where the gate runs."]
    hint = [
        "# With inputs it runs only for changes that touch them; it then sees these files and no others, so name them all:",
        f"#inputs = [{inputs}]",
    ]
    return "\n".join([*why, *lines, *hint, ""])


# --- the hooks -----------------------------------------------------------------------------------------------------------

_HOOK_TYPES = ("pre-commit", "commit-msg", "pre-push", "post-commit", "post-rewrite")

# The same fields as in .pre-commit-hooks.yaml, for programs that are installed already.
_HOOKS = {
    "gate-check": """\
      - id: gate-check
        name: gate check
        entry: gate-check
        args: ["--"]
        language: system
        stages: [pre-commit]
        always_run: true
        require_serial: true
""",
    "gate-message": """\
      - id: gate-message
        name: gate message
        entry: gate-message
        language: system
        stages: [commit-msg]
        require_serial: true
""",
    "gate-push": """\
      - id: gate-push
        name: gate push
        entry: gate-push
        language: system
        stages: [pre-push]
        always_run: true
        pass_filenames: false
        require_serial: true
        verbose: true
""",
    "gate-background": """\
      - id: gate-background
        name: gate background
        entry: gate-background
        language: system
        stages: [post-commit, post-rewrite]
        always_run: true
        pass_filenames: false
        require_serial: true
""",
}


def _repo_entry(ids: Sequence[str]) -> str:
    return "  - repo: local\n    hooks:\n" + "".join(_HOOKS[name] for name in ids)


def hooks_config() -> str:
    """A whole .pre-commit-config.yaml with our hooks. It works with pre-commit and prek alike."""
    return (
        "# Hooks that git runs, by way of pre-commit or prek. Set up once per clone: pre-commit install (or prek install).\n"
        "# Whoever has neither: gate install\n"
        f"default_install_hook_types: [{', '.join(_HOOK_TYPES)}]\n"
        "repos:\n" + _repo_entry(HOOK_IDS)
    )


# --- gate init -----------------------------------------------------------------------------------------------------------


def init_work_repository(folder: Path, *, from_hooks: bool = False) -> list[str]:
    """Write what is missing of gate.toml and .pre-commit-config.yaml; the lines for people, in order.

    May be called again: then nothing changes. Never writes to a file that exists, but that with from_hooks a gate.toml gets
    a check at its end that runs the hooks. Raises UserError when the folder is not the top of a work tree, or has no hooks
    to take over; Unavailable when it cannot be written.
    """
    if not (folder / ".git").exists():
        raise UserError(
            f"{folder} is not the top of a Git work tree: go there, or run git init first (a bare repository is set up by "
            "giving its own path)"
        )
    if not from_hooks:
        written = [*_init_config(folder), *_init_hooks(folder)]
    else:
        from gate.adopt import add_hooks_check, hooks_file

        hooks_file(folder)  # before anything is written
        started = [] if (folder / CONFIG_NAME).exists() else [*_init_config(folder)]
        written = [*started, *add_hooks_check(folder), *_init_hooks(folder)]
    is_new = any(line.startswith(("wrote ", "added to ")) for line in written)
    return [*written, *_next_steps(folder)] if is_new else written


def _init_config(folder: Path) -> Iterator[str]:
    file = folder / CONFIG_NAME
    found = detect(folder)
    if _create(file, starter_toml(folder)):
        signs = ", ".join(f"{way.name} (from {way.because})" for way in found)
        yield f"wrote {CONFIG_NAME}: " + (
            f"found {signs}" if found else "found nothing that runs tests, so add your own check"
        )
        return
    text = _bytes(file)
    problems = () if text is None else parse(text)
    if isinstance(problems, Config) or not problems:
        yield f"{CONFIG_NAME} is there already: left alone"
    else:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        yield f"{CONFIG_NAME} is there already: left alone. It has {count}: see gate config check"


def _init_hooks(folder: Path) -> Iterator[str]:
    # prek reads these two as well, and the first that it finds hides the others.
    for other in ("prek.toml", ".pre-commit-config.yml"):
        if (folder / other).exists() and not (folder / HOOKS_CONFIG_NAME).exists():
            yield from _tell_missing(other, _read(folder / other) or "")
            return
    if _create(folder / HOOKS_CONFIG_NAME, hooks_config()):
        yield f"wrote {HOOKS_CONFIG_NAME}: hooks {', '.join(HOOK_IDS)}"
        return
    yield from _tell_missing(HOOKS_CONFIG_NAME, _read(folder / HOOKS_CONFIG_NAME) or "")


def _tell_missing(name: str, text: str) -> Iterator[str]:
    """What to add to a hooks configuration that somebody else wrote."""
    there = set(re.findall(r"""^[^#\n]*\bid["']?\s*[:=]\s*["']?([\w-]+)""", text, re.MULTILINE))
    missing = [hook for hook in HOOK_IDS if hook not in there]
    if not missing:
        yield f"{name} has the hooks already: left alone"
        return
    if name.endswith(".toml"):
        yield f"{name} was not written by gate init: left alone. To run the hooks from it, add:"
        yield from _toml_entry(missing).splitlines()
    else:
        yield f"{name} was not written by gate init: left alone. To run the hooks from it, add below repos:"
        yield from _repo_entry(missing).splitlines()
    yield f"then run: {_install(name, text)}"


def _install(name: str, text: str) -> str:
    """The command that has git call the hooks of a configuration; shorter where the configuration names their types."""
    runner = "pre-commit" if name == HOOKS_CONFIG_NAME else "prek"
    default = re.search(r"^default_install_hook_types\s*[:=]\s*\[([^\]]*)\]", text, re.MULTILINE)
    named = set(re.findall(r"[\w-]+", default[1])) if default else set()
    missing = not named.issuperset(_HOOK_TYPES)
    return " ".join([f"{runner} install", *(f"--hook-type {kind}" for kind in _HOOK_TYPES if missing)])


def _toml_entry(ids: Sequence[str]) -> str:
    """The same for prek.toml."""
    lines = ["[[repos]]", 'repo = "local"']
    for name in ids:
        lines.append("[[repos.hooks]]")
        for pair in _HOOKS[name].replace("- ", "  ", 1).splitlines():
            key, _, value = pair.strip().partition(": ")
            is_text = not value.startswith("[") and value not in ("true", "false")
            bare_list = value.startswith("[") and '"' not in value
            shown = f'"{value}"' if is_text else re.sub(r"[\w-]+", r'"\g<0>"', value) if bare_list else value
            lines.append(f"{key} = {shown}")
    return "\n".join(lines)


def _next_steps(folder: Path) -> Iterator[str]:
    added = [name for name in (CONFIG_NAME, HOOKS_CONFIG_NAME) if (folder / name).exists()]
    yield f"next: read {CONFIG_NAME}, then git add {' '.join(added)} and commit"
    yield "next, in each clone: gate install"
    if HOOKS_CONFIG_NAME in added:
        install = _install(HOOKS_CONFIG_NAME, _read(folder / HOOKS_CONFIG_NAME) or "")
        yield f"  or, for whoever has pre-commit: {install} (prek takes the same words)"
    yield "next, on the server: gate init REPO.git, then gate serve REPO.git"


def _create(file: Path, text: str) -> bool:
    """Write a new file; False when something of that name is there, be it a dangling link. Leaves no half of a file."""
    try:
        opened = file.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    except OSError as cause:
        raise Unavailable(f"{file} cannot be written: {cause.strerror}") from cause
    try:
        with opened:
            opened.write(text)
    except OSError as cause:
        file.unlink(missing_ok=True)
        raise Unavailable(f"{file} cannot be written: {cause.strerror}") from cause
    return True


def _bytes(file: Path) -> bytes | None:
    """Content of a file; None when it cannot be read. Cut off where it is too long for its reader, who then refuses it."""
    with suppress(OSError):
        if file.is_file():
            with file.open("rb") as opened:
                return opened.read(_MAX_READ_BYTES + 1)
    return None
