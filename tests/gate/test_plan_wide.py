"""Random histories in which some changes touch what many others touch: the auditor holds every plan against the truth, and a
planner that remembers against one that does not (fakes/queue.py).

The changes of test_plan_properties.py are too few for anybody to keep eight others waiting.
"""

import random
from dataclasses import replace

import pytest

from ci.model import Outcome
from fakes.queue import Code, Edit, code
from fakes.told import RUN_S, Told, queue_of
from gate.model import ChangeId, Priority
from gate.policy import BLOCKS

HISTORIES = 10
REACHES = {1, 2, 4, 5}  # of these, those in which changes are looked at by themselves on an earlier trunk
STEPS = 30
AHEAD, BEHIND = 6, BLOCKS + 2
WIDE = AHEAD + 1  # the number of the change that touches the checks of all
LAST = WIDE + BEHIND


def drawn(dice: random.Random) -> Told:
    """Six changes ahead, in one line or apart; one that may well break something, alone or with one of these; ten behind."""
    one = dice.randint(1, AHEAD)
    breaks = dice.choice(
        [[], [{f"f{WIDE}": "new"}], [{f"f{WIDE}": "new", f"f{one}": "0"}], [{f"f{WIDE}": "new", f"f{one}": "new"}]]
    )
    retest = dice.random() < 0.4
    ahead = [code("a", *[f"f{at}" for at in range(1, WIDE + 1)], breaks=breaks, retest=retest)]
    if dice.random() < 0.4:
        ahead = [_of_one(at, [each for each in breaks if {*each} <= {f"f{at}", f"f{WIDE}"}]) for at in range(1, WIDE)]
    codes = [*ahead, *(code(f"c{at}", f"f{at}", f"g{at}", max_age_s=dice.choice((None, 400.0))) for at in behind())]
    chances = [*(dice.choice((0.3, 0.9)) for _ in range(AHEAD)), dice.choice((0.2, 0.45, 0.6)), *[0.9] * 60]
    queue = queue_of(codes, chances, {item.check.name: dice.choice((60.0, RUN_S, 3600.0)) for item in codes})
    flakes = {item.check.name: 0.1 for item in codes if dice.random() < 0.2}
    queue.outlook = replace(queue.outlook, flakes=flakes, clash=dice.choice((0.0, 0.1)))
    queue.workers = dice.choice((2, 8, 60))
    for at in range(1, WIDE):
        queue.push({f"f{at}": "new"})
    queue.push(wide("new"))
    for at in behind():
        queue.push({f"f{at}": "new"})
    return queue


def behind() -> range:
    return range(WIDE + 1, LAST + 1)


def wide(text: str) -> dict[str, str]:
    return {f"f{WIDE}": text, **{f"g{at}": text for at in behind()}}


def _of_one(at: int, breaks: list[dict[str, str]]) -> Code:
    return code(f"a{at}", f"f{at}", f"f{WIDE}", breaks=breaks)


def play(queue: Told, dice: random.Random) -> int:
    """Returns how often somebody might have been judged by an earlier trunk."""
    asked = 0
    queue.turns()
    for _ in range(STEPS):
        take_a_step(queue, dice)
        queue.turns()
        asked += sum(alone.base != queue.trunk for alone in queue.alone.values())
    return asked


def take_a_step(queue: Told, dice: random.Random) -> None:
    waiting = sorted(queue.state.waiting)
    match dice.choices(
        ("end", "wait", "push", "revise", "retry", "leave", "move", "close", "workers"), (60, 12, 8, 3, 3, 2, 2, 2, 2)
    )[0]:
        case "end" if queue.running:
            run = dice.choice([*queue.running])
            if dice.random() < 0.03:
                queue.lose_run(run)
            else:
                queue.finish_check(run, Outcome.INFRASTRUCTURE if dice.random() < 0.03 else None)
        case "wait":
            queue.wait(dice.choice((1.0, 30.0, RUN_S)))
        case "push" if dice.random() < 0.3:
            queue.push(wide(f"new {dice.randint(0, 3)}"))
        case "push":
            path = f"f{dice.randint(1, LAST)}"
            needed = [dice.choice(waiting)] if waiting and dice.random() < 0.2 else []
            edit = Edit(queue.tree.content().get(path, ""), f"more {dice.randint(0, 5)}")
            queue.push({path: edit}, depends=needed, priority=dice.choice([*Priority]), draft=dice.random() < 0.1)
        case "revise" if waiting:
            change = WIDE if ChangeId(WIDE) in waiting else dice.choice(waiting)
            queue.push(queue.edits[ChangeId(change), queue.state.waiting[ChangeId(change)].revision], change=change)
        case "retry":
            queue.retry(dice.choice(sorted(queue.state.revisions)))
        case "leave" if waiting:
            queue.cancel(dice.choice(waiting))
        case "move":
            queue.move_trunk({f"f{dice.randint(1, AHEAD)}": "by hand"})
        case "close":
            (queue.open if queue.state.closed else queue.close)()
        case "workers":
            queue.workers = dice.choice((2, 8, 60))
            for run in [*queue.running][queue.workers :]:
                queue.lose_run(run)
        case _:
            pass


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_every_plan_is_sound_and_nobody_waits_for_ever(seed: int) -> None:
    dice = random.Random(seed)
    queue = drawn(dice)
    asked = play(queue, dice)
    queue.open()
    queue.settle(dice)
    left = queue.state.waiting
    assert all(item.draft or any(needed in left for needed in item.depends) for item in left.values())
    # Else the histories are not what they are for: somebody has to be asked on a trunk that has moved since.
    assert seed not in REACHES or asked > 0
