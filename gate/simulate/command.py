"""``gate simulate``: words in; simulations on all processors; a table, JSON or a picture out."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.errors import UserError
from gate.simulate.workloads import OF_A_RECORD, PARAMETERS, PRESETS, RECORDED, Workload

if TYPE_CHECKING:
    from gate.simulate.recorded import Recorded

FEWEST_SEEDS = 10  # fewer say little; a warning tells
MOST_SEEDS = 10_000
DEFAULT_PRESET = "W1"
DEFAULT_POLICY = "trunkgate"
DEFAULT_POLICIES = f"{DEFAULT_POLICY},optimistic-first"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One workload, policy and seed. settings: what differs from the preset."""

    workload: Workload
    settings: tuple[tuple[str, Any], ...]
    policy: str
    seed: int
    recorded: "Recorded | None" = None  # what is played instead of a queue that is drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    presets = ", ".join(sorted(PRESETS))
    parser.add_argument("--preset", metavar="NAME", help=f"the kind of queue: {presets} (default: {DEFAULT_PRESET})")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="REPO.git",
        help="instead of a preset: make the plans of this repository's journal once more; with --what-if, --policies or a "
        "setting, play its changes so",
    )
    parser.add_argument("--seeds", default="1:10", metavar="FIRST:LAST", help="or a list as in 1,2,5 (default: 1:10)")
    parser.add_argument("--policies", metavar="NAME,…", help=f"default: {DEFAULT_POLICIES}, with --from {DEFAULT_POLICY}")
    parser.add_argument(
        "--what-if", action="append", default=[], metavar="KEY=VALUE,…", help="the same with other settings, beside it"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one per CPU)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it as well, as .png or .svg; needs trunkgate[plot]")
    for parameter in PARAMETERS:
        of = "" if len(parameter.metadata["of"]) == len(PRESETS) else f" ({', '.join(parameter.metadata['of'])})"
        parser.add_argument(
            f"--{parameter.name.replace('_', '-')}", default=None, metavar="VALUE", help=parameter.metadata["what"] + of
        )


def run(arguments: argparse.Namespace) -> int:
    from gate.simulate.plot import check_path, plot
    from gate.simulate.report import table

    if arguments.source is not None:
        return _run_recorded(arguments)
    simulations = ordered_simulations(arguments)
    if arguments.plot is not None:
        check_path(arguments.plot)
    records = list(_play_all(simulations, arguments.jobs))
    if arguments.json:
        print(json.dumps([asdict(record) for record in records], indent=2))
    else:
        print("\n".join(table(records)))
    if arguments.plot is not None:
        plot(records, arguments.plot)
    return 0


def _run_recorded(arguments: argparse.Namespace) -> int:
    """Exit code 1: a plan came out otherwise than it was recorded."""
    from gate.simulate.plot import check_path, plot
    from gate.simulate.recorded import as_it_was, read_recorded
    from gate.simulate.replay import replay
    from gate.simulate.report import replayed, table

    if arguments.plot is not None:
        check_path(arguments.plot)
    if arguments.preset is not None:
        raise UserError(f"--from plays what was recorded, and --preset {arguments.preset} what is drawn: give one of them")
    made = replay(arguments.source)
    records: list[Any] = []
    left_out = 0
    if arguments.what_if or arguments.policies or arguments.plot is not None or _given(arguments):
        recorded = read_recorded(arguments.source)
        simulations = ordered_simulations(arguments, recorded)
        left_out = recorded.left_out
        records = [replace(as_it_was(recorded), seed=simulations[0].seed), *_play_all(simulations, arguments.jobs)]
    if arguments.json:
        data = {"replay": asdict(made), "left_out": left_out, "records": [asdict(record) for record in records]}
        print(json.dumps(data, indent=2))
    else:
        print("\n".join([*replayed(made), *(table(records) if records else [])]))
        if left_out:
            print(f"{left_out} revisions are left out: no setting would have altered what became of them")
    if arguments.plot is not None:
        plot(records, arguments.plot)
    return 0 if made.difference is None else 1


def ordered_simulations(arguments: argparse.Namespace, recorded: "Recorded | None" = None) -> list[Simulation]:
    """Everything that was asked for. recorded: to be played instead of the preset. Raises UserError."""
    preset = (arguments.preset or DEFAULT_PRESET) if recorded is None else recorded.workload.preset
    if recorded is None and preset not in PRESETS:
        raise UserError(f"there is no preset {preset!r}: choose from {', '.join(sorted(PRESETS))}")
    base = PRESETS[preset] if recorded is None else recorded.workload
    given = _given(arguments)
    variants = [given, *(given | _settings(words) for words in arguments.what_if)]
    default = DEFAULT_POLICIES if recorded is None else DEFAULT_POLICY
    names = _policies(default if arguments.policies is None else arguments.policies)
    seeds = _seeds(arguments.seeds)
    if len(seeds) < FEWEST_SEEDS:
        print(f"gate: {_seeds_say(len(seeds))} little: the intervals are wide", file=sys.stderr)
    found = []
    for variant in variants:
        settings = {name: _value(preset, name, text) for name, text in variant.items()}
        try:
            workload = base.altered(**settings)
        except ValueError as cause:
            raise UserError(str(cause)) from cause
        if recorded is None and workload.warmup_s >= workload.hours * 3600 and not workload.burst:
            raise UserError(f"hours={workload.hours:g}: nothing is counted, all is warm-up (warmup={workload.warmup:g})")
        found += [Simulation(workload, tuple(settings.items()), name, seed, recorded) for name in names for seed in seeds]
    return found


def _policies(words: str) -> list[str]:
    from gate.simulate.measure import policies

    known = policies()
    names = list(dict.fromkeys(name for name in words.split(",") if name))
    if not names:
        raise UserError(f"--policies {words!r} names none: choose from {', '.join(sorted(known))}")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no policy {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    return names


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """Parameters that are options of their own."""
    return {
        parameter.name: value for parameter in PARAMETERS if (value := getattr(arguments, parameter.name, None)) is not None
    }


def _settings(words: str) -> dict[str, str]:
    """KEY=VALUE,KEY=VALUE. A value may hold commas and colons, not equals signs."""
    found: dict[str, str] = {}
    last = ""
    for part in words.split(","):
        name, equals, value = part.partition("=")
        if equals:
            last = name.strip().replace("-", "_")
            found[last] = value
        elif last:
            found[last] += f",{part}"
        else:
            raise UserError(f"--what-if {words}: write it as in workers=8,batch=4")
    return found


def _value(preset: str, name: str, text: str) -> Any:
    parameter = next((parameter for parameter in PARAMETERS if parameter.name == name), None)
    if parameter is None:
        raise UserError(f"there is no setting {name!r}: choose from {', '.join(each.name for each in PARAMETERS)}")
    if preset == RECORDED and name not in OF_A_RECORD:
        raise UserError(f"{name} has no meaning for a record, only {', '.join(OF_A_RECORD)}")
    if preset in PRESETS and preset not in parameter.metadata["of"]:
        raise UserError(f"{name} has no meaning for {preset}, only for {', '.join(parameter.metadata['of'])}")
    kind: type = type(parameter.default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        return kind(text)
    except (ValueError, KeyError) as cause:
        raise UserError(f"{name}={text}: that is not {_KINDS[kind]}") from cause


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def _seeds_say(count: int) -> str:
    return "1 seed says" if count == 1 else f"{count} seeds say"


def _seeds(words: str) -> Sequence[int]:
    try:
        if ":" in words:
            first, last = (int(word) for word in words.split(":"))
            seeds: Sequence[int] = range(first, min(last, first + MOST_SEEDS) + 1)
        else:
            seeds = list(dict.fromkeys(int(word) for word in words.split(",")))
    except ValueError as cause:
        raise UserError(f"--seeds {words}: write it as in 1:30 or 1,2,5") from cause
    if not seeds:
        raise UserError(f"--seeds {words}: there is none between them")
    if len(seeds) > MOST_SEEDS:
        raise UserError(f"--seeds {words}: those are more than {MOST_SEEDS:,}")
    return seeds


# --- playing them -----------------------------------------------------------------------------------------------------


def _play_all(simulations: Sequence[Simulation], jobs: int) -> Iterator[Any]:
    """Records in the order of the simulations, whichever ends first."""
    if jobs <= 1 or len(simulations) == 1:
        for at, simulation in enumerate(simulations):
            _tell(at, len(simulations))
            yield play_one(simulation)
        _tell(len(simulations), len(simulations))
        return
    # Spawned, not forked: the same on every system, and no state of this process leaks into a simulation.
    with ProcessPoolExecutor(min(jobs, len(simulations)), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(play_one, simulation) for simulation in simulations]
        try:
            for at, _ in enumerate(as_completed(futures)):
                _tell(at + 1, len(simulations))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        yield from (future.result() for future in futures)


def play_one(simulation: Simulation) -> Any:
    from gate.simulate.measure import play

    if simulation.recorded is None:
        record = play(simulation.workload, simulation.seed, simulation.policy)
    else:
        from gate.simulate.recorded import play_recorded

        record = play_recorded(simulation.recorded, simulation.workload, simulation.seed, simulation.policy)
    return replace(record, settings=dict(simulation.settings))


def _tell(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} simulations", end="\n" if done == of else "", file=sys.stderr, flush=True)
