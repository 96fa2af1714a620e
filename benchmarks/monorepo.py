"""A small monorepo for measurements, and changes to it: pure, and the same again for the same seed.

Forty folders of Python modules, twelve checks. A check owns three folders and shares one with two other checks. It is red
when a module of its folders does not parse, or when two of them claim the same name: so a change can break its check, and
two changes that touch different files can be fine each by itself and red together.
"""

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

FOLDERS = tuple(f"parts/p{number:02}" for number in range(40))
CHECK_COUNT = 12
OWN_FOLDERS = 3  # of a check; 12 × 3 are owned, the last 4 are shared by 3 checks each
ZIPF = 0.6  # how popular folders are, the exponent of the workloads W1 and W8 in docs/simulation.md
PARTS_OF_A_CHANGE = (1, 1, 2, 3)  # folders that a change touches: one, two or three, 2:1:1 as in W1
MODULE = "module.py"
PROGRAM = "tools/check.py"
PYTHON = ("python3", "-I", "-S")  # starts fastest: a check's effort is what Effort says, and little more

CHECK_PROGRAM = '''\
"""Checks the modules of the folders it is given. The last line of its output says what CPU it took."""
import os
import signal
import sys
import time


def main(folders):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        wrong = broken_modules(folders)
        while time.process_time() < float(os.environ["CHECK_CPU_S"]):
            sum(range(10000))
        time.sleep(float(os.environ["CHECK_IDLE_S"]))
        if int.from_bytes(os.urandom(4), "big") < float(os.environ["CHECK_FLAKE"]) * 2**32:
            wrong.append("the weather was bad")
    finally:
        print("\\ncpu_s", time.process_time(), flush=True)
    if wrong:
        sys.exit("; ".join(wrong))


def broken_modules(folders):
    wrong = []
    claimed = {}
    for folder in folders:
        names = {}
        with open(f"{folder}/module.py") as file:
            text = file.read()
        try:
            exec(compile(text, folder, "exec"), {}, names)
        except SyntaxError as cause:
            wrong.append(f"{folder}: {cause}")
        for place, name in names.items():
            if name and claimed.setdefault(name, f"{folder} {place}") != f"{folder} {place}":
                wrong.append(f"{name} is claimed by {claimed[name]} and by {folder} {place}")
    return wrong


main(sys.argv[1:])
'''

ALL_CHECKS_PROGRAM = """\
import json
import sys

red = []
for check, arguments in enumerate(json.loads(sys.argv[1])):
    sys.argv = arguments
    with open(arguments[0]) as file:
        program = compile(file.read(), arguments[0], "exec")
    try:
        exec(program, {"__name__": "__main__"})
    except SystemExit as end:
        if end.code:
            red.append(check)
print(json.dumps(red))
"""


class Kind(StrEnum):
    """What a change was made to be. What it comes to is measured: of a pair, either may land first, or neither."""

    FINE = "fine"
    BROKEN = "broken"  # a module does not parse
    CLASH = "clash"  # claims the same name as the change before it of this kind, in another file under the same check
    CONFLICT = "conflict"  # writes the same line as the change before it of this kind


@dataclass(frozen=True, slots=True)
class Edit:
    """A line of a folder's module gets a new value, as Python text."""

    folder: str
    place: int
    value: str


@dataclass(frozen=True, slots=True)
class Change:
    """number: counts from 0 in order of submission. edits: at most one per folder."""

    number: int
    kind: Kind
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """Of all changes, 0 to 1. Clashing and conflicting ones come in pairs and count twice."""

    broken: float = 0.08
    clash: float = 0.08
    conflict: float = 0.06


@dataclass(frozen=True, slots=True)
class Effort:
    """What a run of a check takes, and the chance that it is red for no reason."""

    cpu_s: float = 0.2
    idle_s: float = 0.0
    flake: float = 0.0

    @property
    def environment(self) -> dict[str, str]:
        return {"CHECK_CPU_S": str(self.cpu_s), "CHECK_IDLE_S": str(self.idle_s), "CHECK_FLAKE": str(self.flake)}


NO_EFFORT = Effort(0.0, 0.0, 0.0)


# --- the repository ------------------------------------------------------------------------------------------------------


def folders_of_check(check: int) -> tuple[str, ...]:
    own = FOLDERS[check * OWN_FOLDERS : (check + 1) * OWN_FOLDERS]
    shared = FOLDERS[CHECK_COUNT * OWN_FOLDERS :]
    return (*own, shared[check % len(shared)])


def command_of_check(check: int) -> list[str]:
    return [*PYTHON, PROGRAM, *folders_of_check(check)]


def command_of_all_checks() -> list[str]:
    """All checks, one after the other in one process; it prints the numbers of those that are red, as its last line."""
    arguments = [command_of_check(check)[len(PYTHON) :] for check in range(CHECK_COUNT)]
    return [*PYTHON, "-c", ALL_CHECKS_PROGRAM, json.dumps(arguments)]


def gate_toml(*, has_inputs: bool, workers: int, effort: Effort) -> str:
    """has_inputs: each check declares what it reads; else everything is an input of every check."""
    parts = [f'[run]\nworkers = {workers}\nisolation = "plain"\n']
    env = ", ".join(f'{name} = "{value}"' for name, value in effort.environment.items())
    for check in range(CHECK_COUNT):
        inputs = [PROGRAM, *(f"{folder}/" for folder in folders_of_check(check))] if has_inputs else ["**"]
        parts.append(
            f'[[check]]\nname = "check-{check:02}"\ncommand = {command_of_check(check)}\n'
            f"inputs = {inputs}\nenv = {{ {env} }}\n"
        )
    return "\n".join(parts)


def first_files(places: int) -> dict[str, str]:
    """The modules and the program. places: lines in a module that changes can write, all still free."""
    modules = {f"{folder}/{MODULE}": "".join(_line(place, "0") for place in range(places)) for folder in FOLDERS}
    return {PROGRAM: CHECK_PROGRAM, **modules}


def edited(edits: Sequence[Edit], files: Mapping[str, str]) -> dict[str, str]:
    """The new texts of the modules that these edits write. files: texts by path."""
    texts = {}
    for edit in edits:
        path = f"{edit.folder}/{MODULE}"
        lines = files[path].splitlines(keepends=True)
        start = edit.place * len(_line(0, "0").splitlines())
        lines[start] = _line(edit.place, edit.value).splitlines(keepends=True)[0]
        texts[path] = "".join(lines)
    return texts


def _line(place: int, value: str) -> str:
    """Three lines that nobody writes keep two neighbouring edits from being a conflict for Git."""
    return f"place_{place} = {value}\n" + "# free\n" * 3


# --- changes -------------------------------------------------------------------------------------------------------------


def draw_changes(seed: int, count: int, at_once: int, shares: Shares) -> list[list[Change]]:
    """Changes in rounds of ``at_once``, the last one perhaps shorter; the two of a pair are in the same round."""
    rng = random.Random(seed)
    rounds = []
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        rounds.append(_draw_round(rng, start, size, shares))
    return rounds


def _draw_round(rng: random.Random, start: int, size: int, shares: Shares) -> list[Change]:
    free = {folder: itertools.count() for folder in FOLDERS}  # no two changes write the same line unless they are meant to
    clashes, conflicts = _pairs(rng, size * shares.clash), _pairs(rng, size * shares.conflict)
    broken = _whole(rng, size * shares.broken)
    kinds = [Kind.CLASH] * 2 * clashes + [Kind.CONFLICT] * 2 * conflicts + [Kind.BROKEN] * broken
    kinds = (kinds + [Kind.FINE] * size)[:size]
    rng.shuffle(kinds)
    partners: dict[Kind, Change] = {}
    changes = []
    for number, kind in enumerate(kinds, start):
        name = f'"name-{number}"'
        partner = partners.pop(kind, None)
        folders = _draw_folders(rng)
        edits = [Edit(folder, next(free[folder]), f'"name-{number}-{folder}"') for folder in folders]
        match kind:
            case Kind.BROKEN:
                edits[0] = Edit(edits[0].folder, edits[0].place, '"')
            case Kind.CONFLICT if partner is not None:
                edits = [Edit(partner.edits[0].folder, partner.edits[0].place, name)]
            case Kind.CLASH if partner is not None:
                taken = partner.edits[0]
                other = rng.choice(_neighbours(taken.folder))
                edits = [Edit(other, next(free[other]), taken.value)]
        change = Change(number, kind, tuple(edits))
        if kind in (Kind.CLASH, Kind.CONFLICT) and partner is None:
            partners[kind] = change
        changes.append(change)
    return changes


def _draw_folders(rng: random.Random) -> list[str]:
    wanted = rng.choice(PARTS_OF_A_CHANGE)
    weights = [(rank + 1) ** -ZIPF for rank in range(len(FOLDERS))]
    found: dict[str, None] = {}
    while len(found) < wanted:
        # Ranks are spread over the folders, so that the popular ones do not all belong to the first checks.
        rank = rng.choices(range(len(FOLDERS)), weights)[0]
        found[FOLDERS[rank * 7 % len(FOLDERS)]] = None
    return list(found)


def _neighbours(folder: str) -> list[str]:
    """Other folders that a check reads together with this one."""
    return sorted(
        {
            other
            for check in range(CHECK_COUNT)
            if folder in folders_of_check(check)
            for other in folders_of_check(check)
            if other != folder
        }
    )


def _pairs(rng: random.Random, changes: float) -> int:
    return _whole(rng, changes / 2)


def _whole(rng: random.Random, expected: float) -> int:
    """A whole number whose mean is ``expected``."""
    return int(expected) + (rng.random() < expected % 1)
