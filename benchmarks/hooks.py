"""What one ``git commit`` costs with each local hook tool, and what ``gate check`` costs, against the aims for both.

    python benchmarks/hooks.py [--rounds N] [--big 50000] [--cases REGEX] [--json]

One interleaved run: a round measures every case once, each with new content, and ratios are taken inside a round. CPU is
user and system time of the whole process tree, git included; on a shared machine it moves far less than the wall clock, so
both are judged and CPU is what to quote. Tools come from their packages (benchmarks/hook_tools.py), the repository has 1,000
Python files, commits have 1 and 50 of them.

pre-commit and prek get ``require_serial``, without which they start four processes and more for each check with 50 files;
checks are started by the same bare Python in every tool. Four checks are scripts, which every tool starts as processes; four
of gate hygiene do the same, and gate runs these in its own process. States of what ``gate check`` kept:

- new: the content was never checked, so every check runs;
- stored: every check is found in the store of results, the marker of the newest green content is not there;
- marked: exactly this was green just before, by the same hook, as when a commit is given up at its message and made again.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import hook_tools  # noqa: E402 - the path comes first
from hook_tools import Check, Done, Missing, Repository, Tool, Wish  # noqa: E402

SIZES = (1, 50)  # files of a commit
FILES, FILES_A_FOLDER = 1000, 100
RUNNER_SHARE = 1.15  # of a runner's own cost, that our hook may come to besides one start of Python
FASTER_THAN_PRE_COMMIT = 4.0
START_AIM = 3.0  # times python -c pass

# What the pip writes as a console script that `python -m venv` of Python 3.11 brings along (23.2): it imports re. What pip
# writes today is measured otherwise; pre-commit has that one, and uv, which prek takes, writes what is as quick.
SCRIPT_OF_OLD_PIP = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from hooks.main import check
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit(check())
"""

_EACH = """import sys

failed = False
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        data = file.read()
    {rule}
        print(name)
        failed = True
sys.exit(failed)
"""
HYGIENE = {
    "blanks": _EACH.format(rule='if any(line != line.rstrip() for line in data.decode().split("\\n")):'),
    "newline": _EACH.format(rule='if data and not data.endswith(b"\\n"):'),
    "conflicts": _EACH.format(rule='if any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in data.split(b"\\n")):'),
    "parse": "import ast\n" + _EACH.format(rule="try:\n        ast.parse(data)\n    except SyntaxError:"),
}
OUR_HYGIENE = ("trailing-whitespace", "end-of-file", "merge-conflict", "python-syntax")
MODULE = '''"""Module {number}."""

import os


def value_{number}(name: str) -> str:
    """What {number} is about."""
    return os.path.join(name, "{number}")


N = {number}
'''


@dataclass(frozen=True, slots=True)
class Case:
    """A command to measure. prepare: called before each run with its number, not measured."""

    name: str
    words: tuple[str, ...]
    folder: Path
    env: Mapping[str, str]
    prepare: Callable[[int], object] = lambda _: None


@dataclass(frozen=True, slots=True)
class Aim:
    """What should hold for a number that is made of the cases of a round, in the median. needs: those cases."""

    name: str
    limit: float
    needs: tuple[str, ...]
    number: Callable[..., float]
    is_least: bool = False  # the number should not be below the limit, instead of above

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_least else value <= self.limit


@dataclass(slots=True)
class Plan:
    cases: list[Case] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


Rounds = Sequence[Mapping[str, Done]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--big", type=int, default=50_000, help="files of the big repository; 0 leaves it out")
    parser.add_argument("--cases", metavar="REGEX", default="", help="only the cases whose name matches")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as folder:
        tools = hook_tools.get_tools()
        plan = make_plan(Path(folder).resolve(), tools, given.big)
        plan.cases = [case for case in plan.cases if case.name == PASS or re.search(given.cases, case.name)]
        rounds = measure(plan.cases, given.rounds)
    versions = {name: tool.version for name, tool in tools.items() if isinstance(tool, Tool)}
    print(json.dumps(as_json(plan, rounds, versions), indent=1) if given.json else as_markdown(plan, rounds, versions))
    return 0


# --- what is measured -----------------------------------------------------------------------------------------------------


def make_plan(folder: Path, tools: Mapping[str, Tool | Missing], big: int) -> Plan:
    plan = Plan(missing=[tool for tool in tools.values() if isinstance(tool, Missing)])
    bench = _Bench(folder, {name: tool for name, tool in tools.items() if isinstance(tool, Tool)}, plan)
    bench.add_starts()
    bench.add_commits()
    if big:
        bench.add_big(big)
    plan.aims += _aims(big)
    return plan


def _aims(big: int) -> list[Aim]:
    aims = []
    for state in ("marked", "stored"):
        name = f"gate check, {state}"
        aims += [
            Aim(f"{name} ({script} script): times `python -c pass`", START_AIM, (f"{name} ({script})", PASS), _ratio)
            for script in ("pip", "old pip")
        ]
    for size in SIZES:
        # lefthook as its package starts it, and its bare binary, which is the harder to beat.
        for state in ("marked", "stored"):
            aims += [
                Aim(
                    f"commit of {_files(size)}, gate {state}: times {other} with one Python check",
                    1.0,
                    (_case("one Python check", f"gate, {state}", size), _case("one Python check", other, size)),
                    _ratio,
                )
                for other in ("lefthook", "lefthook binary")
            ]
        for four, prek in (("four of gate hygiene", "prek"), ("four checks", "prek, parallel")):
            ours = _case(four, "gate, new", size)
            aims += [
                Aim(
                    f"{four}, {_files(size)}: pre-commit is this many times gate",
                    FASTER_THAN_PRE_COMMIT,
                    (_case(four, "pre-commit", size), ours),
                    _ratio,
                    is_least=True,
                ),
                Aim(
                    f"{four}, {_files(size)}: times prek with one priority",
                    1.0,
                    (ours, _case(four, prek, size)),
                    _ratio,
                ),
            ]
        aims += [
            Aim(
                f"{_files(size)}: gate {state} in {runner}, of the runner with `true` × {RUNNER_SHARE} + a Python",
                1.0,
                (_case("in a runner", f"gate in {runner}, {state}", size), _case("true", runner, size), PASS),
                lambda ours, runner, start: ours / (RUNNER_SHARE * runner + start),
            )
            for runner in ("prek", "pre-commit")
            for state in ("marked", "stored")
        ]
    if big:
        aims += [
            Aim(
                f"{big:,} files instead of {FILES:,}: growth of `gate check`, {state}, of that of `git status -uno`",
                1.0,
                (
                    *(f"gate check, {state}, {many} files" for many in (big, FILES)),
                    *(f"{REFRESH}, {m} files" for m in (big, FILES)),
                ),
                lambda ours_big, ours, git_big, git: (ours_big - ours) / (git_big - git),
            )
            for state in ("marked", "stored", "new")
        ]
    return aims


PASS = "python -c pass"
# A commit does this itself before it calls a hook: read the index, look at every file of it, compare it with HEAD.
REFRESH = "git status -uno"


def _ratio(one: float, other: float) -> float:
    return one / other


def _case(what: str, who: str, size: int) -> str:
    return f"{what}: {who}, {_files(size)}"


def _files(size: int) -> str:
    return f"{size} file" if size == 1 else f"{size} files"


class _Bench:
    """Makes the repositories, and the cases in them."""

    def __init__(self, folder: Path, tools: Mapping[str, Tool], plan: Plan) -> None:
        self._folder = folder
        self._tools = tools
        self._plan = plan
        self._home = folder / "home"
        self._python = str(hook_tools.make_environment(folder / "python") / "python")
        self._template = make_repository(folder / "template", self._home, FILES)
        # Takes part in every round, whatever tools there are.
        self._add(PASS, (self._python, "-c", "pass"), self._template)

    def add_starts(self) -> None:
        """``gate check`` alone, by both kinds of launcher."""
        gate = self._tools.get("gate")
        if gate is None:
            return
        checks = [Check(f"check-{number}", ("true",)) for number in range(3)]
        for script, program in (("pip", str(gate.bin / "gate-check")), ("old pip", self._script_of_old_pip(gate))):
            repository = self._repository(f"start-{script.replace(' ', '-')}")
            gate.install(repository, checks)
            self._add(f"gate check, nothing staged ({script})", (program,), repository, gate, _unstage(repository))
            for state in ("marked", "stored"):
                prepare = _staged(repository, gate, 1, state)
                self._add(f"gate check, {state} ({script})", (program,), repository, gate, prepare)
        repository = self._repository("git-alone")
        asked = "git rev-parse HEAD; git diff --cached --raw"
        self._add("git rev-parse and git diff --cached", ("/bin/sh", "-c", asked), repository, None, _changed(repository, 1))

    def add_commits(self) -> None:
        true, python = [Check("true", ("true",))], [Check("pass", (self._python, "-c", "pass"))]
        four = [Check(name, (self._python, f"tools/{name}.py"), names_files=True) for name in HYGIENE]
        gate = self._tools.get("gate")
        program = str(gate.bin / "gate") if gate else ""
        ours = [Check(name, ("gate", "hygiene", name), names_files=True) for name in OUR_HYGIENE]
        theirs = [Check(name, (program, "hygiene", name), names_files=True) for name in OUR_HYGIENE]
        self._add_commit("true", "no hook", None, lambda _: None)
        self._add_commit("true", "sh", None, lambda repository: hook_tools.write_hook(repository, "true"))
        self._add_commit(
            "one Python check", "sh", None, lambda repository: hook_tools.write_hook(repository, f"{self._python} -c pass")
        )
        self._add_commit("four checks", "sh", None, lambda repository: hook_tools.write_hook(repository, _shell_hook(four)))
        for name, tool in self._tools.items():
            if name.startswith("gate in "):
                for state in ("marked", "stored", "new"):
                    self._add_commit("in a runner", f"{name}, {state}", tool, partial(_install, tool, python), state)
            elif name == "gate":
                self._add_commit("true", "gate, new", tool, partial(_install, tool, true))
                for state in ("marked", "stored", "new"):
                    self._add_commit("one Python check", f"gate, {state}", tool, partial(_install, tool, python), state)
                self._add_commit("four checks", "gate, new", tool, partial(_install, tool, four))
                whole = [Check(check.name, check.command, names_files=True, whole_tree=True) for check in four]
                self._add_commit("four of gate hygiene", "gate, new", tool, partial(_install, tool, ours))
                self._add_commit("four checks", "gate, new, no inputs declared", tool, partial(_install, tool, whole))
            else:
                self._add_commit("true", name, tool, partial(_install, tool, true))
                self._add_commit("one Python check", name, tool, partial(_install, tool, python))
                self._add_commit("four checks", name, tool, partial(_install, tool, four))
                if gate and name in ("pre-commit", "prek"):
                    is_parallel = Wish(parallel=True) if name == "prek" else None
                    install = partial(_install, tool, theirs, wish=is_parallel)
                    self._add_commit("four of gate hygiene", name, tool, install)
                if name != "pre-commit":
                    install = partial(_install, tool, four, wish=Wish(parallel=True))
                    self._add_commit("four checks", f"{name}, parallel", tool, install)

    def add_big(self, big: int) -> None:
        """One changed file in repositories of both sizes: what ``gate check`` takes, and what git takes to look at them."""
        gate = self._tools.get("gate")
        if gate is None:
            return
        for number_of_files in (FILES, big):
            template = make_repository(self._folder / f"files-{number_of_files}", self._home, number_of_files)
            of_it = f"{number_of_files} files"
            self._add(f"{REFRESH}, {of_it}", ("git", "status", "-uno"), template, None, _changed(template, 1))
            self._add(f"git diff --cached, {of_it}", ("git", "diff", "--cached", "--raw"), template, None)
            for state in ("marked", "stored", "new"):
                repository = template.copy(self._folder / f"files-{number_of_files}-{state}")
                gate.install(repository, [Check("pass", (self._python, "-c", "pass"))])
                words = (str(gate.bin / "gate-check"),)
                prepare = _staged(repository, gate, 1, state)
                self._add(f"gate check, {state}, {of_it}", words, repository, gate, prepare)

    def _add_commit(
        self, what: str, who: str, tool: Tool | None, install: Callable[[Repository], object], state: str = "new"
    ) -> None:
        repository = self._repository(f"{what}-{who}")
        install(repository)
        for size in SIZES:
            prepare = _staged(repository, tool, size, state)
            self._add(_case(what, who, size), ("git", "commit", "-q", "-m", "change"), repository, tool, prepare)

    def _add(
        self,
        name: str,
        words: tuple[str, ...],
        repository: Repository,
        tool: Tool | None = None,
        prepare: Callable[[int], object] = lambda _: None,
    ) -> None:
        env = tool.environment(repository) if tool else hook_tools.environment(repository.home)
        self._plan.cases.append(Case(name, words, repository.path, env, prepare))

    def _repository(self, name: str) -> Repository:
        return self._template.copy(self._folder / name.replace(" ", "-").replace(",", ""))

    def _script_of_old_pip(self, gate: Tool) -> str:
        script = self._folder / "gate-check-old-pip"
        script.write_text(SCRIPT_OF_OLD_PIP.format(python=gate.bin / "python"))
        script.chmod(0o755)
        return str(script)


def make_repository(path: Path, home: Path, number_of_files: int) -> Repository:
    files = {_name(number): MODULE.format(number=number) for number in range(number_of_files)}
    return Repository.create(path, home, files | {f"tools/{name}.py": script for name, script in HYGIENE.items()})


def _name(number: int) -> str:
    return f"src/part_{number // FILES_A_FOLDER}/module_{number}.py"


def _install(tool: Tool, checks: Sequence[Check], repository: Repository, wish: Wish | None = None) -> None:
    tool.install(repository, checks, wish)


def _shell_hook(checks: Sequence[Check]) -> str:
    lines = ["set -e", "files=$(git diff --cached --name-only --diff-filter=d -- '*.py')"]
    return "\n".join([*lines, *(f"{' '.join(check.command)} $files" for check in checks)])


def _changed(repository: Repository, size: int) -> Callable[[int], None]:
    """Stages new content of that many files."""

    def prepare(number: int) -> None:
        names = [_name(each) for each in range(size)]
        text = f"\nROUND = {number}  # of {size}\n"
        repository.write({name: MODULE.format(number=each) + text for each, name in enumerate(names)})
        repository.git("add", "--", *names)

    return prepare


def _staged(repository: Repository, tool: Tool | None, size: int, state: str) -> Callable[[int], None]:
    """Stages new content, and brings what gate kept of it into the state."""
    change = _changed(repository, size)

    def prepare(number: int) -> None:
        change(number)
        markers = repository.path / ".git/gate/greens"
        if state == "new" or tool is None:
            return
        # A commit that is given up at its message: git calls the hook, and a runner names files to ours.
        env = {**tool.environment(repository), "GIT_EDITOR": "false"}
        if hook_tools.measured(("git", "commit", "-q"), repository.path, env).code != 1:
            raise SystemExit(f"{tool.name}: the commit was not given up")
        if state == "stored":
            shutil.rmtree(markers, ignore_errors=True)
        elif not any(markers.iterdir()):
            raise SystemExit("gate check left no marker")

    return prepare


def _unstage(repository: Repository) -> Callable[[int], object]:
    return lambda _: repository.git("reset", "-q", "--hard")


# --- measuring and telling ------------------------------------------------------------------------------------------------


def measure(cases: Sequence[Case], rounds: int) -> Rounds:
    """Each case once in every round; the first round warms the caches and is not kept."""
    kept = []
    for number in range(rounds + 1):
        done = {}
        for case in cases:
            case.prepare(number)
            done[case.name] = hook_tools.measured(case.words, case.folder, case.env)
            if done[case.name].code:
                raise SystemExit(f"{case.name} ended with {done[case.name].code}")
        print(f"round {number} of {rounds}", file=sys.stderr)
        if number:
            kept.append(done)
    return kept


def judged(aim: Aim, rounds: Rounds, kind: str) -> float | None:
    """The median over the rounds; None when a case of it was not measured. kind: cpu_ms or wall_ms."""
    if not all(name in done for done in rounds for name in aim.needs):
        return None
    return statistics.median(aim.number(*(getattr(done[name], kind) for name in aim.needs)) for done in rounds)


def figures(name: str, rounds: Rounds) -> dict[str, float]:
    """Medians; x_pass and x_bare: CPU by that of python -c pass, and of a commit of as many files without a hook."""
    cpu = [done[name].cpu_ms for done in rounds]
    found = {"cpu_ms": statistics.median(cpu), "wall_ms": statistics.median(done[name].wall_ms for done in rounds)}
    found["x_pass"] = statistics.median(done[name].cpu_ms / done[PASS].cpu_ms for done in rounds)
    for size in SIZES:
        if ": " in name and name.endswith(f", {_files(size)}"):
            bare = _case("true", "no hook", size)
            if bare not in rounds[0]:  # --cases leaves it out
                continue
            found["x_bare"] = statistics.median(done[name].cpu_ms / done[bare].cpu_ms for done in rounds)
    return found


def as_json(plan: Plan, rounds: Rounds, versions: Mapping[str, str]) -> hook_tools.Json:
    aims = []
    for aim in plan.aims:
        values = {kind: judged(aim, rounds, kind) for kind in ("cpu_ms", "wall_ms")}
        aims.append(
            {
                "aim": aim.name,
                "limit": aim.limit,
                "is_least": aim.is_least,
                **{kind.removesuffix("_ms"): value for kind, value in values.items()},
                "cpu_met": None if values["cpu_ms"] is None else aim.is_met(values["cpu_ms"]),
                "wall_met": None if values["wall_ms"] is None else aim.is_met(values["wall_ms"]),
            }
        )
    cases = {case.name: figures(case.name, rounds) for case in plan.cases}
    missing = {tool.name: tool.why for tool in plan.missing}
    return {"rounds": len(rounds), "versions": dict(versions), "missing": missing, "cases": cases, "aims": aims}


def as_markdown(plan: Plan, rounds: Rounds, versions: Mapping[str, str]) -> str:
    lines = [f"{len(rounds)} rounds, medians. " + ", ".join(f"{name} {version}" for name, version in versions.items()), ""]
    lines += [*(f"{tool.name}: {tool.why}" for tool in plan.missing), *([""] if plan.missing else [])]
    lines += ["| case | CPU ms | wall ms | CPU × pass | CPU × bare |", "|---|---|---|---|---|"]
    for case in plan.cases:
        found = figures(case.name, rounds)
        bare = f"{found['x_bare']:.2f}" if "x_bare" in found else ""
        lines.append(f"| {case.name} | {found['cpu_ms']:.1f} | {found['wall_ms']:.1f} | {found['x_pass']:.2f} | {bare} |")
    lines += ["", "| aim | limit | CPU | | wall | |", "|---|---|---|---|---|---|"]
    lines += [_aim_line(aim, rounds) for aim in plan.aims]
    return "\n".join(lines)


def _aim_line(aim: Aim, rounds: Rounds) -> str:
    cells = [aim.name, f"{'≥' if aim.is_least else '≤'} {aim.limit:g}"]
    for kind in ("cpu_ms", "wall_ms"):
        value = judged(aim, rounds, kind)
        cells += ["", "not measured"] if value is None else [f"{value:.2f}", "met" if aim.is_met(value) else "**missed**"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
