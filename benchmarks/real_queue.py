"""A queue of real changes over real Git and real check processes, with declared inputs and without, side by side.

    python benchmarks/real_queue.py [--changes 200] [--round 20] [--rate PER_MINUTE] [--cpu-s 0.2] [--json]

Two gates serve the same generated monorepo (benchmarks/monorepo.py), each by a `gate serve` of its own: in one, every check
declares what it reads, in the other, everything is an input of every check. Both get the same changes, pushed to
refs/for/main in rounds that alternate between them; a round begins when all changes of the one before have a verdict, and
its changes start from trunk as it is then. A change's time to landing runs from the start of its push.

Nothing is taken on the gate's word. Afterwards every commit that trunk was moved to is checked out whole and every check is
run on it, and so is every refused change, merged with trunk. Ratios are of one run on one machine: quote them rather than
the absolute figures.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE)]

import monorepo  # noqa: E402 - the path comes first
from monorepo import Change, Effort, Kind, Shares  # noqa: E402

from fakes.repositories import git_env  # noqa: E402
from fakes.stand import Daemon, Stand  # noqa: E402
from gate.journal import Journal  # noqa: E402
from gate.model import (  # noqa: E402
    ChangeId,
    ChangeRefused,
    LandingFailed,
    Reason,
    RunFinished,
    RunStarted,
    Submission,
    TrunkMoved,
    Verdict,
)
from gate.state import State, fold  # noqa: E402

PATIENCE_S = 90.0  # without any new verdict, before a queue is called stuck; far longer than all checks of one change take
LOOK_EVERY_S = 0.05
AUTHORS = tuple(f"dev-{number}" for number in range(8))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Json = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Shares()
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--round", type=int, default=20, help="changes that are under way at once, at most")
    parser.add_argument(
        "--rate", type=float, help="changes pushed per minute, at random moments; default: one after the other"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--cpu-s", type=float, default=0.2, help="CPU seconds of a run")
    parser.add_argument("--idle-s", type=float, default=0.0, help="seconds that a run waits, on top")
    parser.add_argument("--flake", type=float, default=0.0, help="chance that a run is red for no reason")
    parser.add_argument("--broken", type=float, default=usual.broken, help="share of changes that break their check")
    parser.add_argument("--clash", type=float, default=usual.clash, help="share that is fine alone and red with another")
    parser.add_argument("--conflict", type=float, default=usual.conflict, help="share that writes a line another writes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ.update({name: value for name, value in git_env().items() if name.startswith(("GIT_CONFIG", "TZ", "LC_"))})
    shares = Shares(asked.broken, asked.clash, asked.conflict)
    rounds = monorepo.draw_changes(asked.seed, asked.changes, asked.round, shares)
    effort = Effort(asked.cpu_s, asked.idle_s, asked.flake)
    with ExitStack() as stack:
        folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-bench-")))
        declared = Side("declared inputs", folder / "on", rounds, effort, asked.workers, has_inputs=True)
        undeclared = Side("everything an input", folder / "off", rounds, effort, asked.workers, has_inputs=False)
        play([declared, undeclared], rounds, asked.rate, asked.seed)
        found = report(declared, undeclared)
    found["settings"] = {name: value for name, value in vars(asked).items() if name not in ("json", "keep")}
    print(json.dumps(found, indent=2) if asked.json else table(found))
    return 0 if found["is_sound"] else 1


# --- the run -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Played:
    """One round at one gate. pushing_s: until the last push had ended. took_s: from the first push to the last verdict."""

    pushing_s: float
    took_s: float
    entered: dict[ChangeId, Change]


class Side:
    """One of the two gates, and what it was given. Its daemon runs from ``open`` to ``close``."""

    def __init__(
        self,
        name: str,
        folder: Path,
        rounds: Sequence[Sequence[Change]],
        effort: Effort,
        workers: int,
        *,
        has_inputs: bool,
    ) -> None:
        config = monorepo.gate_toml(has_inputs=has_inputs, workers=workers, effort=effort)
        self.name = name
        self.stand = Stand(folder, config, monorepo.first_files(max(map(len, rounds))))
        self.founded_on = self.stand.trunk()
        self.state = State()
        self.pushed_at: dict[ChangeId, float] = {}
        self.rounds: list[Played] = []
        self.started_at = 0.0  # the first push; runs before it were trunk's own
        self.cpu_s = 0.0  # since then, of the daemon and of every process of its that has ended
        self._journal = Journal(self.stand.path / "gate" / "journal.sqlite")
        self._daemon: Daemon | None = None
        self._cpu_before_s = 0.0

    def open(self) -> None:
        """Start the daemon, and wait until it has judged the trunk that it found."""
        self._daemon = self.stand.daemon("--quiet")
        self._wait_until(lambda: self.state.trunk in self.state.judged, "it does not judge its trunk")
        self.started_at = time.time()
        self._cpu_before_s = self._cpu_s()

    def play(self, changes: Sequence[Change], offsets_s: Sequence[float]) -> None:
        """Push each change at its moment, and wait for the last verdict."""
        self.stand.dev.git("fetch", "-q", "origin", "main")
        heads = [self.commit(change) for change in changes]
        entered: dict[ChangeId, Change] = {}
        start = time.time()
        for change, head, offset_s in zip(changes, heads, offsets_s, strict=True):
            time.sleep(max(0.0, start + offset_s - time.time()))
            pushed_at = time.time()
            pushed = self.stand.push(what=head, by=AUTHORS[change.number % len(AUTHORS)])
            if pushed.code != 0:
                raise SystemExit(f"{self.name}: a push failed: {pushed.said}")
            number = ChangeId(pushed.change)
            entered[number] = change
            self.pushed_at[number] = pushed_at
        pushing_s = time.time() - start
        self._wait_until(lambda: not entered.keys() - self.state.verdicts.keys(), "its queue is stuck")
        end = max(self.decided_at(number) for number in entered)
        self.rounds.append(Played(pushing_s, end - start, entered))

    def close(self) -> None:
        if self._daemon is None:
            return
        self.cpu_s = self._cpu_s() - self._cpu_before_s
        code = self._daemon.stop()
        if code != 0:
            raise SystemExit(f"{self.name}: gate serve ended with {code}: {self.stand.daemon_log()}")

    def events(self) -> list[Any]:
        return [event for _, event in self._journal.read()]

    def changes(self) -> dict[ChangeId, Change]:
        return {number: change for played in self.rounds for number, change in played.entered.items()}

    def decided_at(self, number: ChangeId) -> float:
        return self.state.decided[number, self.submission(number).revision].at

    def submission(self, number: ChangeId) -> Submission:
        found = self.state.newest(number)
        assert found is not None
        return found

    def reasons(self, number: ChangeId) -> tuple[Reason, ...]:
        return self.state.decided[number, self.submission(number).revision].reasons

    def commit(self, change: Change) -> str:
        dev = self.stand.dev
        dev.git("checkout", "-q", "--detach", "FETCH_HEAD")
        paths = [f"{edit.folder}/{monorepo.MODULE}" for edit in change.edits]
        texts = {path: (dev.path / path).read_text() for path in paths}
        return dev.commit(f"{change.kind}: {change.number}", monorepo.edited(change.edits, texts))

    def _wait_until(self, happened: Callable[[], bool], trouble: str) -> None:
        """Read the journal as it grows. A queue in which nothing is decided for long ends the run, with all that it says."""
        known, since = len(self.state.decided), time.monotonic()
        while not happened():
            fold(self.state, self._journal.read(self.state.seq))
            if len(self.state.decided) != known:
                known, since = len(self.state.decided), time.monotonic()
            if time.monotonic() > since + PATIENCE_S:
                waiting = [self.stand.gate("why", str(number)).stdout for number in self.state.waiting]
                raise SystemExit("\n".join([f"{self.name}: {trouble}", self.stand.daemon_log(), *waiting]))
            time.sleep(LOOK_EVERY_S)

    def _cpu_s(self) -> float:
        """Of the daemon and of the processes that it has waited for: git's and checks."""
        assert self._daemon is not None
        stat = Path(f"/proc/{self._daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[11:15])) / TICKS_PER_S


def play(sides: Sequence[Side], rounds: Sequence[Sequence[Change]], rate: float | None, seed: int) -> None:
    rng = random.Random(seed)
    try:
        for each in sides:
            each.open()
        for number, changes in enumerate(rounds):
            offsets_s = moments(rng, len(changes), rate)
            for each in sides if number % 2 == 0 else sides[::-1]:
                each.play(changes, offsets_s)
                print(f"round {number + 1} of {len(rounds)}: {each.name}: {each.rounds[-1].took_s:.1f} s", file=sys.stderr)
    finally:
        for each in sides:
            each.close()


def moments(rng: random.Random, count: int, rate: float | None) -> list[float]:
    """When each change of a round is pushed, in seconds from its start. rate None: as soon as the one before is pushed."""
    if rate is None:
        return [0.0] * count
    gaps = [0.0, *(rng.expovariate(rate / 60) for _ in range(count - 1))]
    return [sum(gaps[: place + 1]) for place in range(count)]


# --- what it came to -----------------------------------------------------------------------------------------------------


def report(declared: Side, undeclared: Side) -> Json:
    """Figures of both, the first's as multiples of the second's, and whether what must never happen has not."""
    ours, theirs = measure(declared), measure(undeclared)
    compared = [
        "landings_per_min",
        "to_landing_p50_s",
        "to_landing_p95_s",
        "runs_per_change",
        "check_cpu_s_per_change",
        "gate_cpu_s_per_change",
    ]
    by_round = [
        _landings_per_min(declared, [one]) / _landings_per_min(undeclared, [other])
        for one, other in zip(declared.rounds, undeclared.rounds, strict=True)
        if _landings_per_min(undeclared, [other])
    ]
    return {
        "is_sound": all(each["red_landings"] == 0 and each["is_whole"] for each in (ours, theirs)),
        "keys_on": ours,
        "keys_off": theirs,
        "on_over_off": {name: _ratio(ours[name], theirs[name]) for name in compared},
        "landings_per_min_by_round": [round(each, 2) for each in by_round],
    }


def measure(at: Side) -> Json:
    changes, events = at.changes(), at.events()
    landed = [number for number in changes if at.state.verdicts[number] is Verdict.LANDED]
    refused = [number for number in changes if at.state.verdicts[number] is Verdict.REFUSED]
    waits_s = [at.decided_at(number) - at.pushed_at[number] for number in landed]
    runs = [event for event in events if isinstance(event, RunStarted) and event.at >= at.started_at]
    ends = {event.run: event for event in events if isinstance(event, RunFinished)}
    told_s = [cpu_told(at.stand.path / "gate" / run.log) for run in runs]
    check_cpu_s = sum(filter(None, told_s))
    truth = Truth(at)
    red = truth.red_landings()
    wrong = truth.false_refusals()
    return {
        "changes": len(changes),
        "landed": len(landed),
        "refused": len(refused),
        "refused_by_kind": {kind.value: sum(changes[number].kind is kind for number in refused) for kind in Kind},
        "pushes_per_min": round(60 * len(changes) / sum(played.pushing_s for played in at.rounds), 2),
        "landings_per_min": round(_landings_per_min(at, at.rounds), 2),
        "to_landing_p50_s": round(_percentile(waits_s, 50), 2),
        "to_landing_p95_s": round(_percentile(waits_s, 95), 2),
        "runs": len(runs),
        "runs_per_change": round(len(runs) / len(changes), 2),
        "stopped_share": round(sum(run.run in ends and ends[run.run].result is None for run in runs) / max(1, len(runs)), 3),
        "check_cpu_s_per_change": round(check_cpu_s / len(changes), 3),
        "runs_of_unknown_cpu": told_s.count(None),
        "gate_cpu_s_per_change": round((at.cpu_s - check_cpu_s) / len(changes), 3),
        "trunk_moves": len(at.state.landings),
        "failed_landings": sum(isinstance(event, LandingFailed) for event in events),
        "red_landings": len(red),
        "false_refusals": len(wrong),
        "wrongly_refused": [
            {"change": number, "kind": changes[number].kind.value, "why": [cause.why.value for cause in at.reasons(number)]}
            for number in wrong
        ],
        "is_whole": is_whole(at),
    }


def cpu_told(log: Path) -> float | None:
    """What a run said of itself. None: it was ended before it could."""
    try:
        words = log.read_text().split()
        return float(words[words.index("cpu_s") + 1])
    except (OSError, ValueError, IndexError):
        return None


def _landings_per_min(at: Side, rounds: Sequence[Played]) -> float:
    landed = sum(at.state.verdicts[number] is Verdict.LANDED for played in rounds for number in played.entered)
    return 60 * landed / sum(played.took_s for played in rounds)


def _percentile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _ratio(one: float, other: float) -> float | None:
    return round(one / other, 3) if other else None


# --- what is true --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Truth:
    """What is so at one of the two, found by running every check on whole trees, without effort or flakes."""

    at: Side
    _known: dict[str, list[int]] = field(default_factory=dict)  # by tree

    def red_landings(self) -> list[str]:
        """Commits that trunk was moved to though a check is red there."""
        return [landing.commit for _, landing in self.at.state.landings if self.red_checks(landing.commit)]

    def false_refusals(self) -> list[ChangeId]:
        """Refused changes that trunk could have taken, both as it was then, and once all submitted before had a verdict.

        The second look is for a change that was refused because of one ahead of it, which landed a moment later.
        """
        at = self.at
        refused = [number for number, verdict in at.state.verdicts.items() if verdict is Verdict.REFUSED]
        return [
            number
            for number in refused
            if self.takes(self.trunk_at(at.decided_at(number)), at.submission(number).head)
            and self.takes(self.trunk_at(self.all_ahead_decided_at(number)), at.submission(number).head)
        ]

    def takes(self, trunk: str, head: str) -> bool:
        """Would this trunk, with this change merged in, be green?"""
        merged = self.at.stand.server.run("merge-tree", "--write-tree", trunk, head)
        return merged.returncode == 0 and not self.red_checks(merged.stdout.split()[0].decode())

    def trunk_at(self, moment: float) -> str:
        """Where trunk stood; a landing of this very moment counts."""
        landings = [landing for landed_at, landing in self.at.state.landings if landed_at <= moment]
        return landings[-1].commit if landings else self.at.founded_on

    def all_ahead_decided_at(self, number: ChangeId) -> float:
        ahead = [other for other in self.at.state.verdicts if other <= number]
        return max(self.at.decided_at(other) for other in ahead)

    def red_checks(self, treeish: str) -> list[int]:
        """Numbers of the checks that are red there."""
        tree = self.at.stand.server.tree(treeish)
        if tree not in self._known:
            self._known[tree] = _red_checks(self._check_out(tree))
        return self._known[tree]

    def _check_out(self, tree: str) -> Path:
        folder = self.at.stand.folder / "truth"
        folder.mkdir(exist_ok=True)
        server = self.at.stand.server
        place = {
            "GIT_DIR": str(server.path),
            "GIT_WORK_TREE": str(folder),
            "GIT_INDEX_FILE": f"{folder}.index",
        }
        server.git("-c", "core.bare=false", "read-tree", "--reset", "-u", tree, env=place)
        return folder


def _red_checks(folder: Path) -> list[int]:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **monorepo.NO_EFFORT.environment}
    words = monorepo.command_of_all_checks()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the checks cannot be run: {done.stderr}")
    return [int(number) for number in json.loads(done.stdout.splitlines()[-1])]


def is_whole(at: Side) -> bool:
    """Do the landings lead from one to the next up to where trunk stands, and has each change got just one verdict?"""
    moves = [landing for _, landing in at.state.landings]
    follows = all(one.commit == other.base for one, other in itertools.pairwise(moves))
    ends = not moves or moves[-1].commit == at.stand.trunk()
    aliens = sum(isinstance(event, TrunkMoved) for event in at.events())  # the first is the trunk that it found
    verdicts = [number for landing in moves for number, _ in landing.changes]
    verdicts += [event.change for event in at.events() if isinstance(event, ChangeRefused)]
    return follows and ends and aliens == 1 and sorted(verdicts) == sorted(at.changes())


def table(found: Json) -> str:
    lines = [f"{'':28}{'declared':>12}{'everything':>12}{'ratio':>8}"]
    for name, value in found["keys_on"].items():
        if isinstance(value, int | float):
            ratio = found["on_over_off"].get(name)
            lines.append(f"{name:28}{value!s:>12}{found['keys_off'][name]!s:>12}{'' if ratio is None else ratio:>8}")
    if ratios := found["landings_per_min_by_round"]:
        lines.append(f"landings per minute, ratio by round: {min(ratios)} to {max(ratios)}")
    lines.append("sound: trunk was green at every landing" if found["is_sound"] else "NOT SOUND")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
