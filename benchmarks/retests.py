"""What the rule for retests costs and lets through: gate/blame.py and ci/proof.py played against drawn faults and flakes.

Per chance of the change and flake odds of the check: the share of faults that show in .2 to .8 of the runs which got
through, and the same where one pass of two retries is enough; how a fault that shows in every run is refused; and what
becomes of a change without fault that a flake made red once.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from statistics import mean

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId
from ci.proof import proves
from gate.blame import BURST, BURST_S, Case, Step, decide

BOUND = 0.005
RUN_S = 1.0
CHECK = Check(CheckName("unit"), "pytest --junitxml={junit}", retest="pytest --junitxml={junit} {tests}")


def ran(outcome: Outcome, at: float, tests: tuple[str, ...] = ()) -> Result:
    failed = ("t",) if outcome is Outcome.RED else ()
    return Result(InputKey("k"), CHECK.name, outcome, RunId(f"r{at}"), at, at + RUN_S, failed=failed, tests=tests)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A change, and how the failed test behaves with it. Without it, the test is always green."""

    chance: float
    flake: float
    fails: Callable[[float], bool]  # whether a run that starts at this second after the first red one is red


@dataclass(frozen=True, slots=True)
class End:
    landed: bool
    retests: int
    controls: int
    after_s: float


def play(drawn: Drawn) -> End:
    """From the first red run, at second 0, to the verdict."""
    reds, passes, controls, at = [ran(Outcome.RED, 0.0)], list[Result](), list[Result](), 0.0
    while True:
        case = Case(
            CHECK,
            tuple(reds),
            tuple(passes),
            chance=drawn.chance,
            control=ran(Outcome.GREEN, -100.0),
            control_passes=tuple(controls),
            flake=drawn.flake,
        )
        found = decide(case, BOUND)
        if found.step is Step.REFUSE:
            return End(False, len(reds) + len(passes) - 1, len(controls), at + RUN_S)
        at = max(at + RUN_S, found.not_before)
        if found.step is Step.CONTROL:
            controls.append(ran(Outcome.GREEN, at, found.tests))
        elif drawn.fails(at):
            reds.append(ran(Outcome.RED, at, found.tests))
        elif proves(green := ran(Outcome.GREEN, at, found.tests), reds, passes):
            return End(True, len(reds) + len(passes), len(controls), at + RUN_S)
        else:
            passes.append(green)


def line(chance: float, flake: float, draws: int, dice: random.Random) -> str:
    shares = [dice.uniform(0.2, 0.8) for _ in range(draws)]
    seen = [share for share in shares if dice.random() < share]

    def now_and_then(share: float) -> End:
        return play(Drawn(chance, flake, lambda _: dice.random() < share))

    def by_accident(at: float) -> bool:
        """As the model has it, the burst counted from the first failure."""
        return dice.random() < flake + (1 - flake) * BURST * exp(-at / BURST_S)

    through = sum(now_and_then(share).landed for share in seen) / draws
    retried = sum(1 - share**2 for share in seen) / draws
    steady = play(Drawn(chance, flake, lambda _: True))
    unlucky = [play(Drawn(chance, flake, by_accident)) for _ in range(draws)]
    refused = sum(not end.landed for end in unlucky) / draws
    return (
        f"{chance:6.2f} {flake:6.3f} | {through:11.3f} {retried:11.3f} | {steady.retests:7d} {steady.after_s:6.0f} s |"
        f" {refused:10.4f} {refused * flake:13.5f} {mean(end.retests for end in unlucky):8.2f}"
        f" {mean(end.after_s for end in unlucky):6.0f} s"
    )


def main() -> None:
    words = argparse.ArgumentParser(description="what the rule for retests costs and lets through")
    words.add_argument("--draws", type=int, default=3000)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    print("change, check | fault now and then      | steady fault     | no fault, but red once")
    print("chance  flake | let through two retries | retests refused  | refused/red refused/every  retests landed")
    for chance in (0.8, 0.95, 0.99):
        for flake in (0.05, 0.02, 0.005, 0.001):
            print(line(chance, flake, given.draws, random.Random(f"{given.seed} {chance} {flake}")))


if __name__ == "__main__":
    main()
