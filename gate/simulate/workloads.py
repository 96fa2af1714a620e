"""What a simulated queue is made of: every parameter with its meaning, and the presets. Sources: docs/simulation.md."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

ALL = ("W1", "W2", "W3", "W5", "W8")
CONTENT = ("W2", "W3", "W5", "W8")
SUITE = ("W2", "W3", "W5")


def _option(
    default: Any,
    what: str,
    of: tuple[str, ...] = ALL,
    choices: tuple[str, ...] = (),
    *,
    least: float = 0.0,
    most: float = 1e9,
) -> Any:
    """of: the presets that know this parameter; elsewhere it has no meaning, and asking for it is an error."""
    return field(default=default, metadata={"what": what, "of": of, "choices": choices, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class Workload:
    """Parameters of one simulated queue. Which have a meaning for a preset: the metadata of each field."""

    preset: str = field(default="W1", metadata={})
    # arrivals
    rate: float = _option(100.0, "changes per hour, in the mean", least=0.001)
    hours: float = _option(6.0, "how long changes arrive; then the queue is drained")
    daily: float = _option(
        0.0, "swing of the daily curve, 0 to 1: the rate is times 1 - swing * cos(2 pi hour / 24)", most=1
    )
    burst: int = _option(0, "this many changes, all there at the start, instead of arrivals")
    warmup: float = _option(1.0, "hours: changes submitted before are not counted; a burst has no warm-up")
    drain: float = _option(2000.0, "hours after the last arrival when the simulation is given up")
    # what runs them
    workers: int = _option(100, "runs at once", least=1)
    batch: int = _option(0, "the most changes that one run may test together; 0: as the odds say")
    max_false_refusals: float = _option(0.005, "the chance of a false refusal that is accepted", most=0.5)
    predictor: str = _option(
        "class",
        "what the planner is told of a change's chance: its class's, one for all, or what gate/odds.py learns meanwhile",
        ALL,
        ("class", "constant", "learned"),
    )
    # what changes are like
    classes: str = _option("0.9:0.99,0.05:0.8,0.05:0.05", "share:chance of success, of each class of changes", ("W1", "W8"))
    clash: float = _option(0.034, "chance that two changes which meddle with each other break together", most=1)
    components: int = _option(4000, "components of the code", ("W1",), least=1)
    zipf: float = _option(0.6, "exponent of how popular components, folders and checks are", ("W1", "W8"), most=3)
    wide: float = _option(0.004, "share of changes that meddle with every other", ("W1",), most=1)
    wide_factor: float = _option(1.3, "how many times as long a wide change takes", ("W1",))
    median: float = _option(
        27.0, "minutes: median duration, of the run of a change (W1) or of a check (W8)", ("W1", "W8"), least=0.01
    )
    sigma: float = _option(0.5, "sigma of the lognormal duration", ("W1", "W8"), most=5)
    shortest: float = _option(4.0, "minutes: durations are clipped to at least this", ("W1", "W8"), least=0.01)
    longest: float = _option(120.0, "minutes: and to at most this", ("W1", "W8"), least=0.01)
    duration_error: float = _option(0.05, "mean absolute error of the predicted duration, as a share of it", ("W1",), most=5)
    batch_cost: float = _option(0.0, "how much longer a run takes for each change but one that it tests together", ("W1",))
    # one check that every change touches
    check: float = _option(10.0, "minutes that the check takes", SUITE, least=0.01)
    failure: float = _option(0.05, "share of changes that break it", SUITE, most=0.95)
    pattern: str = _option("independent", "how failures follow each other", ("W3",), ("independent", "streaks", "drift"))
    streak: float = _option(3.0, "mean length of a streak of failures (pattern streaks)", ("W3",), least=1)
    drift: float = _option(0.8, "swing of the share of failures (pattern drift)", ("W3",), most=1)
    period: int = _option(200, "changes until the share of failures is back where it was (pattern drift)", ("W3",), least=1)
    # accidents
    suite_flake: float = _option(
        0.0, "chance that a run of the whole check is red though nothing is wrong", ("W2", "W5"), most=0.99
    )
    tests: int = _option(2000, "tests of the check, all named in its reports", ("W5",), least=1)
    flaky: float = _option(0.16, "share of the tests that flake at all", ("W5",), most=1)
    storm: float = _option(10.0, "how many times likelier accidents are during a storm", ("W5",))
    storm_every: float = _option(120.0, "minutes from one storm to the next, in the mean", ("W5",))
    storm_length: float = _option(3.0, "minutes that a storm lasts, in the mean", ("W5",))
    intermittent: float = _option(0.05, "share of real faults that show in .2 to .8 of the runs only", ("W5",), most=1)
    setup: float = _option(0.2, "minutes that a retest takes beside the time of its tests", ("W5",))
    mended: float = _option(30.0, "minutes until somebody mends a trunk on which a fault has landed", CONTENT)
    # many checks with declared inputs
    checks: int = _option(60, "checks", ("W8",), least=1)
    folders: int = _option(400, "folders of the repository", ("W8",), least=1)
    declared: bool = _option(True, "whether checks declare their inputs; else each has the whole tree", ("W8",))
    jitter: float = _option(0.1, "sigma of how long one check takes from run to run", ("W8",), most=5)

    def __post_init__(self) -> None:
        if self.predictor == "learned" and self.is_per_change:
            raise ValueError("predictor=learned: nothing can be learned of changes whose only trait is what they touch")
        for parameter in PARAMETERS:
            value, known = getattr(self, parameter.name), parameter.metadata
            if known["choices"] and value not in known["choices"]:
                raise ValueError(f"{parameter.name}={value}: choose from {', '.join(known['choices'])}")
            if not isinstance(value, str) and not known["least"] <= value <= known["most"]:
                raise ValueError(f"{parameter.name}={value}: it is from {known['least']:g} to {known['most']:g}")
        if max(self.rate * self.hours, self.burst) > MOST_CHANGES:
            raise ValueError(f"rate={self.rate:g} for hours={self.hours:g}: that is more than {MOST_CHANGES:,} changes")
        if self.shortest > self.longest:
            raise ValueError(f"shortest={self.shortest:g}: longest is {self.longest:g}, and no duration is between them")
        if self.pattern == "streaks" and self.failure > self.streak / (1 + self.streak):
            most = self.streak / (1 + self.streak)
            raise ValueError(f"failure={self.failure:g}: in streaks of {self.streak:g} no more than {most:.2g} can fail")
        try:
            if self.shares and all(0 <= share <= 1 and 0 <= chance <= 1 for share, chance in self.shares):
                return
        except ValueError:
            pass
        raise ValueError(f"classes={self.classes}: write shares and chances from 0 to 1, as in 0.9:0.99,0.1:0.5")

    @property
    def shares(self) -> tuple[tuple[float, float], ...]:
        """(share, chance of success) of each class."""
        pairs = (item.partition(":") for item in self.classes.split(","))
        return tuple((float(share), float(chance)) for share, _, chance in pairs)

    @property
    def warmup_s(self) -> float:
        return 0.0 if self.burst else self.warmup * 3600

    @property
    def is_per_change(self) -> bool:
        return self.preset == "W1"

    def altered(self, **given: Any) -> "Workload":
        return replace(self, **given)


MOST_CHANGES = 1_000_000  # of one simulation

RECORDED = "recorded"  # in the place of a preset: a real journal, see recorded.py
OF_A_RECORD = ("workers", "batch", "max_false_refusals", "warmup", "drain", "mended")  # that have a meaning for it

PARAMETERS = tuple(field for field in fields(Workload) if field.metadata)

PRESETS: dict[str, Workload] = {
    "W1": Workload(),
    "W2": Workload("W2", rate=8.0, hours=48.0, workers=1, clash=0.0, check=5.0),
    "W3": Workload("W3", burst=200, workers=1, clash=0.0, failure=0.05),
    "W5": Workload("W5", rate=6.0, hours=96.0, workers=4, clash=0.0, failure=0.1, suite_flake=0.05),
    "W8": Workload("W8", rate=30.0, hours=12.0, workers=60, median=5.0, sigma=0.8, shortest=0.5, longest=30.0),
}


def reference() -> list[str]:
    """The table of parameters on the reference page, docs/reference/commands.md."""
    lines = ["| option of `gate simulate` | meaning | preset: default |", "|---|---|---|"]
    for parameter in PARAMETERS:
        name = parameter.name
        choices = f" ({', '.join(parameter.metadata['choices'])})" if parameter.metadata["choices"] else ""
        defaults: dict[str, list[str]] = {}
        for preset, workload in PRESETS.items():
            if preset in parameter.metadata["of"]:
                defaults.setdefault(f"{getattr(workload, name)}", []).append(preset)
        told = "; ".join(f"{' '.join(presets)}: `{value}`" for value, presets in defaults.items())
        lines.append(f"| `--{name.replace('_', '-')}` | {parameter.metadata['what']}{choices} | {told} |")
    return lines
