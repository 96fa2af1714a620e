"""How a check's outcome stands in a line. Both halves of ``gate check`` print by it, so it imports nothing that costs."""

import os
import sys

GREEN, RED, YELLOW, FAINT = 32, 31, 33, 2

# Why a check did not run that nothing is wrong with.
NO_FILES = "no files"
SKIPPED = "skipped"
LEFT = "left"
_IDLE = ((NO_FILES, "without files"), (LEFT, "left to the gate"), (SKIPPED, "skipped"))


class Paint:
    """What standard output can show."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.is_colourful = self.is_terminal and not os.environ.get("NO_COLOR")

    def __call__(self, word: str, colour: int) -> str:
        return f"\x1b[{colour}m{word}\x1b[0m" if self.is_colourful else word


def shown(name: str) -> str:
    """A path, ref or subject that cannot steer the terminal or break the line it stands in."""
    return name if name.isprintable() else repr(name)


def width_of(names: "list[str]") -> int:
    return max(map(len, map(shown, names)), default=0)


def of_check(name: str, width: int, word: str, colour: int, paint: Paint, why: str = "") -> str:
    return f"{shown(name):<{width}}  {paint(f'{word:<8}', colour)}  {why}".rstrip()


def of_all(green: int, cached: int, bad: "list[str]", idle: "list[str]", took: str) -> str:
    """The last line. bad: names of what is not green. idle: why each of the others did not run."""
    parts = [f"{green} green" + (f" ({cached} cached)" if cached else "")]
    parts += [f"{len(bad)} not green: {', '.join(map(shown, bad))}"] if bad else []
    for why, words in _IDLE:
        count = idle.count(why)
        parts += [f"{count} {words}"] if count else []
    return f"{'; '.join(parts)}; {took}"


def no_check() -> str:
    """Said to a person who asked. At each commit of a repository that has checks for the gate alone, it would be noise."""
    return (
        "" if "GATE_HOOK" in os.environ else "no check for this stage in gate.toml (gate config show: the stage of each)\n"
    )


def span(seconds: float) -> str:
    """A time for people: two of its units at most."""
    for size_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_s:
            whole, rest = divmod(int(seconds), size_s)
            smaller = {"d": (3600, "h"), "h": (60, "min"), "min": (1, "s")}[unit]
            part = rest // smaller[0]
            return f"{whole} {unit} {part} {smaller[1]}" if part else f"{whole} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
