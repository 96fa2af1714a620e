"""What ``gate check`` costs a commit: its CPU time against that of ``python -c pass``, in interleaved runs.

    python benchmarks/hook_start.py [--rounds N] [--json]

CPU is user and system time of the whole process tree, git included; on a shared machine it moves far less than the wall
clock. Everything runs from an environment made for the purpose, as an installation has it: an editable installation adds a
finder to every start of Python, also to ``python -c pass``, and would flatter the ratio.
"""

import argparse
import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
AIM = 3.0  # times the CPU of python -c pass, with nothing to do

# What pip and uv write as a console script. pip's imports re, which ours would not need.
SCRIPT_OF_PIP = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from hooks.main import check
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(check())
"""
SCRIPT_OF_UV = """#!{python}
# -*- coding: utf-8 -*-
import sys
from hooks.main import check
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit(check())
"""

RULES = "".join(
    f'[[check]]\nname = "check-{number}"\ncommand = "true"\nstage = "pre-commit"\ninputs = ["src/"]\n' for number in range(3)
)


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure. prepare: done before each run, and not measured."""

    name: str
    words: tuple[str, ...]
    folder: Path
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians over the rounds; ratio is the median of the ratios within one round."""

    name: str
    cpu_ms: float
    wall_ms: float
    ratio: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as folder:
        figures = measure(cases(Path(folder)), given.rounds)
    if given.json:
        print(json.dumps({"rounds": given.rounds, "aim": AIM, "cases": [asdict(figure) for figure in figures]}, indent=2))
        return 0
    print(f"{'':<44}{'CPU ms':>8}{'wall ms':>9}{'x pass':>8}")
    for figure in figures:
        print(f"{figure.name:<44}{figure.cpu_ms:>8.1f}{figure.wall_ms:>9.1f}{figure.ratio:>8.2f}")
    print(f"aim: nothing to do costs at most {AIM:g} times python -c pass ({given.rounds} rounds, medians)")
    return 0


def cases(folder: Path) -> list[Case]:
    python, scripts = make_environment(folder / "env")
    idle = make_repository(folder / "idle")
    busy = make_repository(folder / "busy")
    (busy / "src/file-0.py").write_text("changed\n")
    git(busy, "add", "-A")
    subprocess.run([scripts["uv"]], cwd=busy, env=environment(), check=True, capture_output=True)
    marker = busy / ".git/gate/green"
    kept = marker.read_bytes()
    return [
        Case("python -c pass", (python, "-c", "pass"), idle),
        Case("nothing staged (script by uv)", (scripts["uv"],), idle),
        Case("nothing staged (script by pip)", (scripts["pip"],), idle),
        Case("this content was green (script by uv)", (scripts["uv"],), busy, lambda: marker.write_bytes(kept)),
        Case("this content was green (script by pip)", (scripts["pip"],), busy, lambda: marker.write_bytes(kept)),
        Case("3 checks, all in the store (script by uv)", (scripts["uv"],), busy, lambda: marker.unlink(missing_ok=True)),
        Case(
            "git rev-parse and git diff --cached alone",
            ("/bin/sh", "-c", "git rev-parse HEAD; git diff --cached --raw"),
            busy,
        ),
    ]


def measure(cases: Sequence[Case], rounds: int) -> list[Figure]:
    """The first case is what the others are compared with."""
    cpu: dict[str, list[float]] = {case.name: [] for case in cases}
    wall: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            case.prepare()
            cpu_ms, wall_ms = run(case)
            if number:  # the first round warms the caches
                cpu[case.name].append(cpu_ms)
                wall[case.name].append(wall_ms)
    base = cpu[cases[0].name]
    return [
        Figure(
            name,
            statistics.median(cpu[name]),
            statistics.median(wall[name]),
            statistics.median(each / other for each, other in zip(cpu[name], base, strict=True)),
        )
        for name in cpu
    ]


def run(case: Case) -> tuple[float, float]:
    """CPU and wall milliseconds of one run."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        case.words, cwd=case.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    wall_ms = (time.perf_counter() - started_at) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{case.name} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000, wall_ms


def make_environment(folder: Path) -> tuple[str, dict[str, str]]:
    """An environment that holds the three packages and what their local path needs. Its Python, and its console scripts."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in ("hooks", "gate", "ci"):
        shutil.copytree(PROJECT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(sysconfig.get_path("purelib"), "pathspec"), site / "pathspec")
    compileall.compile_dir(str(site), quiet=1)
    python = str(folder / "bin/python")
    scripts = {}
    for maker, text in (("pip", SCRIPT_OF_PIP), ("uv", SCRIPT_OF_UV)):
        script = folder / "bin" / f"gate-check-{maker}"
        script.write_text(text.format(python=python))
        script.chmod(0o755)
        scripts[maker] = str(script)
    return python, scripts


def make_repository(folder: Path) -> Path:
    """A repository of 1,000 files with three checks."""
    (folder / "src").mkdir(parents=True)
    for number in range(1000):
        (folder / f"src/file-{number}.py").write_text(f"N = {number}\n")
    (folder / "gate.toml").write_text(RULES)
    git(folder, "init", "-q", ".")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, env=environment(), check=True)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON", "VIRTUAL_ENV"))}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


if __name__ == "__main__":
    sys.exit(main())
