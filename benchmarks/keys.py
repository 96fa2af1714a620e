"""What keys cost after a small change in a large repository, against the ``git diff-tree`` that they rest on.

Builds a repository of --files files and a chain of commits that change one file each, then in every round, in random order:
the diff between two neighbouring commits as a process, and the keys of the second for twelve checks with declared inputs
from the first. Both go through the same door. The aim is a ratio of medians of at most 2.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from ci.git import Git, PlainGit, ServerGit
from ci.keys import KeyMaker
from ci.model import Check, CheckName, Sha

FOLDERS = 50
LANGUAGES = ("py", "ts", "md", "go")


def path_of(number: int) -> str:
    return f"area{number % FOLDERS:02}/part{number // FOLDERS % 20:02}/file{number}.{LANGUAGES[number % 4]}"


def build_repository(folder: Path, files: int, commits: int) -> list[Sha]:
    """A bare repository, by one fast-import. Returns its commits, oldest first."""
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    draw = random.Random(7)  # the same repository each time
    stream = []
    for commit in range(commits + 1):
        touched = range(files) if commit == 0 else [draw.randrange(files)]
        stream.append(
            f"commit refs/heads/main\nmark :{commit + 1}\ncommitter bench <b@example.org> {commit} +0000\ndata 1\nx\n"
        )
        for number in touched:
            text = f"file {number} at {commit}\n"
            stream.append(f"M 100644 inline {path_of(number)}\ndata {len(text)}\n{text}\n")
    front = ["git", f"--git-dir={folder}"]
    subprocess.run([*front, "fast-import", "--quiet"], input="".join(stream).encode(), check=True)
    listed = subprocess.run([*front, "rev-list", "--reverse", "main"], capture_output=True, text=True, check=True).stdout
    return [Sha(line) for line in listed.split()]


def declared_checks() -> list[Check]:
    """Twelve, from narrow to nearly everything, as a repository with several languages and areas declares them."""
    inputs = [
        *((f"*.{language}",) for language in LANGUAGES),
        *((f"/area{area:02}/",) for area in (1, 2)),
        ("/area0*/**/*.py", "/area1*/**"),
        ("*.py", "!/area4*/**"),
        ("*.ts", "*.md", "!part03/**"),
        ("/*/part00/",),
        ("*", "!*.md"),
        ("*.go", "/area05/", "!/area05/part01/**"),
    ]
    return [Check(CheckName(f"check{number}"), "true", inputs=each) for number, each in enumerate(inputs)]


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time of one call, in milliseconds."""
    wall, cpu = time.perf_counter(), cpu_s()
    action()
    return (time.perf_counter() - wall) * 1000, (cpu_s() - cpu) * 1000


def compare(git: Git, commits: Sequence[Sha]) -> dict[str, object]:
    checks = declared_checks()
    maker = KeyMaker(git)
    full_scan = measured(lambda: maker.keys(commits[0], checks))
    times: dict[str, list[tuple[float, float]]] = {"diff_tree": [], "keys": []}
    for near, commit in pairwise(commits):
        sides: list[tuple[str, Callable[[], object]]] = [
            ("diff_tree", partial(git.run, "diff-tree", "-r", "-z", near, commit)),
            ("keys", partial(maker.keys, commit, checks, near)),
        ]
        random.shuffle(sides)
        for name, action in sides:
            times[name].append(measured(action))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    return {
        "door": type(git).__name__,
        "rounds": len(commits) - 1,
        "full_scan_ms": round(full_scan[0], 1),
        **{
            f"{name}_{unit}": round(medians[name][column], 2)
            for name in times
            for column, unit in enumerate(("ms", "cpu_ms"))
        },
        "ratio": round(medians["keys"][0] / medians["diff_tree"][0], 2),
        "ratio_cpu": round(medians["keys"][1] / medians["diff_tree"][1], 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-keys-") as folder:
        repository = Path(folder) / "repo.git"
        commits = build_repository(repository, options.files, options.rounds)
        figures = [compare(door(repository), commits) for door in (PlainGit, ServerGit)]
    if options.json:
        print(json.dumps({"files": options.files, "aim": 2.0, "runs": figures}))
        return 0
    for each in figures:
        print(
            f"{each['door']}, {options.files} files, {each['rounds']} rounds: diff-tree {each['diff_tree_ms']} ms,"
            f" keys of 12 checks {each['keys_ms']} ms, ratio {each['ratio']}"
            f" (CPU {each['diff_tree_cpu_ms']} and {each['keys_cpu_ms']} ms, ratio {each['ratio_cpu']});"
            f" first keys, by full scan: {each['full_scan_ms']} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
