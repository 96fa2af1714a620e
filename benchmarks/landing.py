"""What the gate costs per landed change, beside the least that Git itself can do for the same changes on the same disk.

    python benchmarks/landing.py [--files 100 50000] [--changes 20 100] [--rounds 3] [--json]

The naive loop is ``git merge-tree``, ``git commit-tree`` and ``git update-ref`` per change, with nothing checked or kept.
The gate takes the same changes from queued to landed, once with a check process per change and once with every key green
already; it has started before the clock does. Rounds are interleaved; ratios are taken inside a round and the median is
told. Wall time on one machine: quote ratios.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.repositories import Repository, git_env  # noqa: E402 - the path comes first
from fakes.stand import wait_for  # noqa: E402
from gate.install import init_bare  # noqa: E402
from gate.journal import Journal  # noqa: E402
from gate.serve import open_server  # noqa: E402

CHECK = '[run]\nworkers = 2\nisolation = "plain"\n\n[[check]]\nname = "true"\ncommand = ["true"]\ninputs = ["changes/"]\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[100, 50_000], help="sizes of the repository")
    parser.add_argument("--changes", type=int, nargs="+", default=[20, 100], help="how many changes wait")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.update({name: value for name, value in git_env().items() if name.startswith(("GIT_CONFIG", "TZ", "LC_"))})
    found = []
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as folder:
        for files in arguments.files:
            for changes in arguments.changes:
                print(f"{files} files, {changes} changes …", file=sys.stderr, flush=True)
                found.append(measure(Path(folder) / f"{files}-{changes}", files, changes, arguments.rounds))
            found[-1] |= measure_single(Path(folder) / f"single-{files}", files)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for record in found:
        print("; ".join(f"{name} {value}" for name, value in record.items()))


def measure(folder: Path, files: int, changes: int, rounds: int) -> dict[str, float | int]:
    """Milliseconds per change and ratios, medians over the rounds."""
    queued, push_ms, plain_push_ms = prepare(folder, files, changes)
    naive, checked, cached = [], [], []
    for round_ in range(rounds):
        with copied(queued, folder / f"naive-{round_}") as place:
            naive.append(land_naively(place) / changes)
        with copied(queued, folder / f"checked-{round_}") as place:
            checked.append(land_by_gate(place, changes) / changes)
            results = place.path / "gate" / "journal.sqlite"
            with copied(queued, folder / f"cached-{round_}") as other:
                keep_results(results, other.path / "gate" / "journal.sqlite")
                cached.append(land_by_gate(other, changes) / changes)
    shutil.rmtree(folder)
    return {
        "files": files,
        "changes": changes,
        "naive_ms": ms(naive),
        "checked_ms": ms(checked),
        "cached_ms": ms(cached),
        "checked_ratio": ratio(checked, naive),
        "cached_ratio": ratio(cached, naive),
        "push_ms": round(push_ms, 1),
        "plain_push_ms": round(plain_push_ms, 1),
        "push_ratio": round(push_ms / plain_push_ms, 2),
    }


def measure_single(folder: Path, files: int) -> dict[str, float]:
    """From the start of one push to trunk moved, with a daemon that waits; and what the client sees with -o wait."""
    queued, _, _ = prepare(folder, files, 1)
    environment = git_env(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    program = str(Path(sys.executable).parent / "gate")
    daemon = subprocess.Popen([program, "serve", "--quiet", str(queued.path)], env=environment, stderr=subprocess.DEVNULL)
    try:
        trunk = queued.path / "refs/heads/main"
        before = trunk.read_text()
        wait_for(lambda: trunk.read_text() != before)  # the prepared change
        dev = Repository(folder / "dev")
        moved = []
        for number in range(7):
            dev.commit(f"single {number}", {"changes/single": str(number)})
            before = trunk.read_text()
            start = time.perf_counter()
            dev.git("push", "-q", "origin", "HEAD:refs/for/main", env={"GATE_USER": "ann"})
            wait_for(lambda: trunk.read_text() != before)  # noqa: B023 - called at once
            moved.append(time.perf_counter() - start)
    finally:
        daemon.terminate()
        daemon.wait()
    shutil.rmtree(folder)
    return {"single_push_to_trunk_ms": ms(moved)}


def prepare(folder: Path, files: int, changes: int) -> tuple[Repository, float, float]:
    """A gated repository with changes that wait, each of its own file; and what a push of one cost, beside a plain push."""
    server = Repository.create(folder / "queued.git", bare=True)
    server.run("fast-import", "--quiet", stdin=b"".join(history(files)))
    init_bare(server.path)
    dev = Repository(folder / "dev")
    dev.path.mkdir()
    dev.git("init", "-q", "--initial-branch=main", ".")
    dev.git("remote", "add", "origin", str(server.path))
    dev.git("config", "core.sparseCheckout", "true")
    (dev.path / ".git/info/sparse-checkout").write_text("/changes/\n")
    dev.git("fetch", "-q", "origin", "main")
    pushes, plain = [], []
    for number in range(changes):
        dev.git("checkout", "-q", "--detach", "FETCH_HEAD")
        dev.commit(f"change {number}", {f"changes/new-{number}": f"{number}\n"})
        start = time.perf_counter()
        dev.git("push", "-q", "origin", f"HEAD:refs/heads/plain-{number}")
        plain.append(time.perf_counter() - start)
        server.git("update-ref", "-d", f"refs/heads/plain-{number}")
        dev.git("commit", "-q", "--amend", "-m", f"change {number}, for the gate")
        start = time.perf_counter()
        dev.git("push", "-q", "origin", "HEAD:refs/for/main", env={"GATE_USER": "ann"})
        pushes.append(time.perf_counter() - start)
    return server, 1000 * statistics.median(pushes), 1000 * statistics.median(plain)


def history(files: int) -> Iterator[bytes]:
    yield b"commit refs/heads/main\nmark :1\ncommitter Ann <ann@example.org> 1767614400 +0000\ndata 5\nfirst\n"
    yield b"M 100644 inline gate.toml\ndata %d\n%s\n" % (len(CHECK), CHECK.encode())
    yield b"M 100644 inline changes/old\ndata 4\nold\n\n"
    for number in range(files):
        text = b"".join(b"line %d of %d\n" % (line, number) for line in range(10))
        yield b"M 100644 inline d%02d/e%02d/f%05d.py\ndata %d\n%s\n" % (
            number % 40,
            number // 40 % 50,
            number,
            len(text),
            text,
        )


def land_naively(place: Repository) -> float:
    git = ["git", f"--git-dir={place.path}"]
    env = git_env()

    def ask(*words: str) -> str:
        return subprocess.run([*git, *words], env=env, check=True, capture_output=True, text=True).stdout.strip()

    start = time.perf_counter()
    trunk = ask("rev-parse", "refs/heads/main")
    heads = ask("for-each-ref", "--sort=v:refname", "--format=%(objectname)", "refs/changes").split()
    for head in heads:
        tree = ask("merge-tree", "--write-tree", trunk, head)
        commit = ask("commit-tree", tree, "-p", trunk, "-p", head, "-m", "Merge")
        ask("update-ref", "refs/heads/main", commit, trunk)
        trunk = commit
    return time.perf_counter() - start


def land_by_gate(place: Repository, changes: int) -> float:
    server = open_server([place.path])
    try:
        start = time.perf_counter()
        server.run(until_idle=True)
        took = time.perf_counter() - start
        landed = len(server.served[0].gate.state.landed_by)
        assert landed == changes, f"{landed} of {changes} landed"
        return took
    finally:
        server.close()


def keep_results(there: Path, here: Path) -> None:
    """Give a fresh journal the results of another, and nothing else."""
    Journal(here).close()
    import sqlite3

    with sqlite3.connect(here) as connection:
        connection.execute("attach database ? as there", (str(there),))
        connection.execute("insert into results select * from there.results")
    connection.close()


@contextmanager
def copied(repository: Repository, path: Path) -> Iterator[Repository]:
    yield repository.copy(path)
    shutil.rmtree(path)


def ms(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)


def ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


if __name__ == "__main__":
    main()
