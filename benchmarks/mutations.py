"""Breaks the planner in twenty ways, one at a time, and shows that its tests notice each.

    python benchmarks/mutations.py [--only NAME …] [--jobs 2]

Each break is made in a copy of the project, in which the planner's tests then run until the first that fails. The program
ends with 1 when a break was not noticed, or when its place in the code is not there any more. Ten minutes on two cores.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("test_known.py", "test_policy.py", "test_plan.py", "test_simulate.py", "test_plan_properties.py")
TIMEOUT_S = 900


@dataclass(frozen=True)
class Break:
    """In this file ``old``, which stands there once, becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


BREAKS = (
    Break(
        "a green assumed path is enough to land",
        "gate/policy.py",
        "if not member.direct & undecided:\n            return True",
        "return True",
    ),
    Break(
        "overtaking on one outcome only",
        "gate/policy.py",
        "for some in self._pasts(undecided):\n            if self._state_of(self._ask(sure",
        "for some in [0]:\n            if self._state_of(self._ask(sure",
    ),
    Break(
        "refused on top of undecided changes",
        "gate/plan.py",
        "        if parent.entries:\n            behind = ",
        "        if False:\n            behind = ",
    ),
    Break(
        "refused before it is known whether trunk is red, too",
        "gate/plan.py",
        "        if at_fault:\n            self._refuse(change, *at_fault)",
        "        if at_fault or waits:\n            self._refuse(change, *at_fault, *waits)",
    ),
    Break(
        "a red batch is split as if it might be green",
        "gate/policy.py",
        "offer(bounds[-1], end, not is_red)",
        "offer(bounds[-1], end, True)",
    ),
    Break(
        "evidence that altered is not looked up again",
        "gate/known.py",
        "if known is not before and known != before:\n                yield from",
        "if before is None and known is not None:\n                yield from",
    ),
    Break(
        "those behind are not told that a change turned out otherwise",
        "gate/policy.py",
        "if self._public(member) != before:",
        "if False:",
    ),
    Break(
        "whether a change settles is not asked again when others are open ahead of those that it was tested with",
        "gate/policy.py",
        "if member.open != opened:",
        "if False:",
    ),
    Break(
        "those behind are not told that a change will be decided at another time",
        "gate/policy.py",
        "if (member.ends_at, member.rest_s) != moments:",
        "if False:",
    ),
    Break(
        "what was thought of other pasts is taken to hold for ever",
        "gate/policy.py",
        "member.thought_until = min(member.thought_until, until - ROUNDING_S)",
        "pass",
    ),
    Break(
        "a run is stopped for whatever is worth a little more",
        "gate/policy.py",
        "STICKS = 16.0",
        "STICKS = 1.0",
    ),
    Break(
        "nobody who waits for long comes first",
        "gate/policy.py",
        "return weight * STARVING_WORTH",
        "return weight",
    ),
    Break(
        "less likely pasts start at once",
        "gate/policy.py",
        "if may_turn and moment + usual_s < decided_at:",
        "if False:",
    ),
    Break(
        "a change may land without one that it depends on",
        "gate/view.py",
        "return Objection.DEPENDENCY_MISSING",
        "pass",
    ),
    Break(
        "more runs than workers",
        "gate/plan.py",
        "room = max(0, self.view.snapshot.workers - len(unasked) + len(useless))",
        "room = self.view.snapshot.workers + 1",
    ),
    Break(
        "a closed trunk lets everybody through",
        "gate/plan.py",
        "        if closed is None:\n            return distinct",
        "        if True:\n            return distinct",
    ),
    Break(
        "urgent changes restart what is under test",
        "gate/policy.py",
        "is_tested = is_hurried and change.id in places",
        "is_tested = False",
    ),
    Break(
        "ready on top of changes that are not",
        "gate/policy.py",
        "member.state is _State.GREEN and self._is_company_green(member)",
        "member.state is _State.GREEN",
    ),
    Break(
        "the run by itself of who keeps others waiting is stopped when trunk moves",
        "gate/plan.py",
        "if need.key in running and running[need.key].changes == (change.id,):",
        "if False:",
    ),
    Break(
        "refused for being red without the one that it is green on top of",
        "gate/plan.py",
        "assessment.standing is Standing.RED and self._is_measure(change, candidate, assessment)",
        "assessment.standing is Standing.RED",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="breaks whose name begins so")
    parser.add_argument("--jobs", type=int, default=2)
    words = parser.parse_args()
    chosen = [each for each in BREAKS if each.name.startswith(tuple(words.only))]
    with ThreadPoolExecutor(words.jobs) as pool:
        noticed = list(pool.map(is_noticed, chosen))
    print(f"{sum(noticed)} of {len(chosen)} breaks were noticed")
    sys.exit(not all(noticed))


def is_noticed(one: Break) -> bool:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "build", ".*_cache", ".hypothesis"))
        place = copy / one.file
        text = place.read_text()
        if text.count(one.old) != 1:
            print(f"NOT THERE    {one.name}: {one.file} has it {text.count(one.old)} times", flush=True)
            return False
        place.write_text(text.replace(one.old, one.new))
        tests = [f"tests/gate/{name}" for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        try:
            ran = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            print(f"noticed      {one.name}: the tests did not end", flush=True)
            return True
    failed = next((line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
    took = f"{time.perf_counter() - began:.0f} s"
    print(f"{'noticed     ' if ran.returncode == 1 else 'NOT NOTICED '} {one.name} ({took}) {failed[:100]}", flush=True)
    return ran.returncode == 1


if __name__ == "__main__":
    main()
