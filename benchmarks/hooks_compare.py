"""How local hook tools behave when it matters: each scenario is played on each tool, in a throw-away repository.

    python benchmarks/hooks_compare.py [--only WORD] [--json | --into docs/hooks.md]

A cell says what was seen, never what a manual says. Where a tool documents no setting of the kind, its nearest form is
written into the configuration all the same, and the cell says what came of it. Checks are real processes (`PROBE`) that
note what they see in a folder outside of the repository; crashes are SIGKILL to the process group of ``git commit``.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import hook_tools  # noqa: E402 - the path comes first
from hook_tools import Check, Done, Missing, NoSuchSettingError, Repository, Tool, Wish  # noqa: E402

PATIENCE_S = 30.0

# probe NAME LOG TASK [FILES]: notes its start and end in LOG, what a.py and b.py hold, and does its task in between.
PROBE = """import os, sys, time
name, log, task, *files = sys.argv[1:]
def held(path):
    return open(path).read() if os.path.exists(path) else "(none)"
def note(kind, text):
    with open(os.path.join(log, f"{name}.{kind}"), "a") as file:
        file.write(text + "\\n")
note("start", f"{time.time()} {os.getpid()}")
note("saw", "|".join([held("a.py"), held("b.py"), held("new.py")]).replace("\\n", " "))
note("named", " ".join(files))
note("prefix", sys.prefix)
if task == "hang" and not os.path.exists(os.path.join(log, "calm")):
    time.sleep(60)
elif task.startswith("sleep"):
    time.sleep(float(task[5:]))
elif task == "mend":
    for path in files:
        text = held(path).replace("BAD", "GOOD")
        if text != held(path):
            open(path, "w").write(text)
elif task == "fail":
    print("probe says no")
note("end", str(time.time()))
sys.exit(task == "fail")
"""
LINES = "first\n" + "".join(f"line {number}\n" for number in range(20)) + "last\n"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario has: a tool, a repository made for it, and a folder where checks leave their notes."""

    tool: Tool
    repository: Repository
    log: Path
    probe: Path
    python: str

    def check(self, name: str, task: str = "look", **more: object) -> Check:
        return Check(name, (self.python, str(self.probe), name, str(self.log), task), **more)  # type: ignore[arg-type]

    def notes(self, name: str, kind: str) -> list[str]:
        file = self.log / f"{name}.{kind}"
        return file.read_text().splitlines() if file.exists() else []

    def begin(self, *checks: Check, wish: Wish | None = None) -> None:
        self.tool.install(self.repository, checks, wish)

    def stage(self, files: Mapping[str, str]) -> None:
        self.repository.write(files)
        self.repository.git("add", *files)

    def commit(self, *words: str, more: Mapping[str, str] | None = None) -> Done:
        return self.tool.commit(self.repository, *words, more=more)

    def committed(self, name: str) -> str:
        return self.repository.git("show", f"HEAD:{name}")


Scenario = Callable[[Stage], str]


# --- scenarios: each returns the cell ---------------------------------------------------------------------------------


def partial_staging(stage: Stage) -> str:
    """an edit of a staged file that is not staged: hidden from the check, and kept"""
    stage.begin(stage.check("look", names_files=True))
    stage.stage({"a.py": "STAGED\n"})
    stage.repository.write({"a.py": "STAGED\nEDIT\n"})
    done = stage.commit()
    return _seen(stage, "EDIT", done, kept=stage.repository.read("a.py") == "STAGED\nEDIT\n")


def other_edits(stage: Stage) -> str:
    """unstaged edits of other files hidden from a check of the whole tree"""
    stage.begin(stage.check("look", whole_tree=True))
    stage.stage({"a.py": "STAGED\n"})
    stage.repository.write({"b.py": "EDIT\n"})
    done = stage.commit()
    return _seen(stage, "EDIT", done, kept=stage.repository.read("b.py") == "EDIT\n")


def untracked(stage: Stage) -> str:
    """untracked files hidden from a check of the whole tree"""
    stage.begin(stage.check("look", whole_tree=True))
    stage.stage({"a.py": "STAGED\n"})
    stage.repository.write({"new.py": "EDIT\n"})
    done = stage.commit()
    return _seen(stage, "EDIT", done, kept=stage.repository.read("new.py") == "EDIT\n")


def intent_to_add(stage: Stage) -> str:
    """a file that is only `git add -N`: hidden from the check, kept and still marked"""
    stage.begin(stage.check("look", names_files=True))
    stage.stage({"a.py": "STAGED\n"})
    stage.repository.write({"new.py": "EDIT\n"})
    stage.repository.git("add", "-N", "new.py")
    done = stage.commit()
    kept = stage.repository.read("new.py") == "EDIT\n" and stage.repository.git("ls-tree", "HEAD", "new.py") == ""
    still = stage.repository.git("status", "--porcelain", "new.py").startswith(" A")
    named = any("new.py" in line for line in stage.notes("look", "named"))
    seen = any("EDIT" in line for line in stage.notes("look", "saw"))
    found = "**handed to it**" if named else "not handed to it, but there" if seen else "hidden"
    marked = "" if still else "; **no longer marked**"
    return f"{found}, {'kept' if kept else '**lost or committed**'}{_refused(done)}{marked}"


def deletion(stage: Stage) -> str:
    """a tracked file removed, which is not staged: there for a check of the whole tree, and gone again afterwards"""
    stage.begin(stage.check("look", whole_tree=True))
    stage.stage({"a.py": "STAGED\n"})
    (stage.repository.path / "b.py").unlink()
    done = stage.commit()
    saw = stage.notes("look", "saw")
    hidden = bool(saw) and "(none)" not in saw[0].split("|")[1]
    kept = stage.repository.read("b.py") is None and stage.repository.git("ls-tree", "HEAD", "b.py") != ""
    return f"{'there' if hidden else '**missing**'}, {'gone again' if kept else '**deletion undone**'}{_refused(done)}"


def fix_all_staged(stage: Stage) -> str:
    """a check that mends a file, all of it staged"""
    return _fix(stage, "BAD\n", "BAD\n", "GOOD\n")


def fix_other_line(stage: Stage) -> str:
    """a check that mends one line, an unstaged edit on another"""
    staged = LINES.replace("first", "BAD")
    return _fix(stage, staged, staged.replace("last", "EDIT"), LINES.replace("first", "GOOD"))


def fix_same_line(stage: Stage) -> str:
    """a check that mends a line with an unstaged edit"""
    return _fix(stage, LINES.replace("first", "BAD"), LINES.replace("first", "EDIT"), LINES.replace("first", "GOOD"))


def interrupt(stage: Stage) -> str:
    """SIGINT, as by Ctrl-C, in the middle of a check, with unstaged edits in a staged file and in another"""
    return _stopped(stage, signal.SIGINT)


def terminate(stage: Stage) -> str:
    """SIGTERM, with the same edits"""
    return _stopped(stage, signal.SIGTERM)


def kill(stage: Stage) -> str:
    """SIGKILL, with the same edits"""
    return _stopped(stage, signal.SIGKILL)


def timeout(stage: Stage) -> str:
    """a check that hangs is ended after its own timeout (asked: 1 s)"""
    stage.begin(stage.check("hang", "sleep6", timeout_s=1))
    stage.stage({"a.py": "STAGED\n"})
    done = stage.commit()
    if done.wall_ms < 5000 and not stage.notes("hang", "end") and stage.notes("hang", "start"):
        return "yes, said so" if re.search("time", done.out, re.IGNORECASE) else "yes"
    return "no such setting: ran to its end" if stage.notes("hang", "end") else "refused the setting"


def budget(stage: Stage) -> str:
    """a bound on the time of all checks (asked: 0.7 s; the slow check takes 1.5 s, third commit)"""
    stage.begin(stage.check("quick"), stage.check("slow", "sleep1.5"), wish=Wish(budget_ms=700))
    for number in range(3):
        stage.stage({"a.py": f"N = {number}\n"})
        done = stage.commit()
    ran = len(stage.notes("slow", "end"))
    if done.code:
        return f"refused the setting: exit {done.code}"
    return "yes: the slow check was left" if ran < 3 and len(stage.notes("quick", "end")) == 3 else "no: all checks ran"


def cache(stage: Stage) -> str:
    """the same content committed again"""
    stage.begin(stage.check("look", names_files=True))
    stage.stage({"a.py": "STAGED\n"})
    stage.commit()
    stage.repository.git("reset", "-q", "--soft", "HEAD~1")
    stage.commit()
    ran = len(stage.notes("look", "end"))
    return {1: "not checked again", 2: "checked again"}.get(ran, f"ran {ran} times")


def parallel(stage: Stage) -> str:
    """two checks at once"""
    if _overlap(stage, Wish(), "one", "two"):
        return "by default"
    return "when asked" if _overlap(stage, Wish(parallel=True), "three", "four") else "no"


def stages(stage: Stage) -> str:
    """own commands at commit-msg, pre-push and post-commit"""
    names = ("commit-msg", "pre-push", "post-commit")
    stage.begin(*(stage.check(name, stage=name) for name in names))
    remote = stage.log / "remote.git"
    stage.repository.git("init", "-q", "--bare", str(remote))
    stage.stage({"a.py": "STAGED\n"})
    stage.commit()
    push = ["git", "push", "-q", str(remote), "HEAD:refs/heads/side"]
    env = stage.tool.environment(stage.repository)
    subprocess.run(push, cwd=stage.repository.path, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    ran = [name for name in names if stage.notes(name, "end")]
    return ", ".join(ran) or "none"


def timings(stage: Stage) -> str:
    """the time of each check in what is printed"""
    if _has_timings(stage, Wish(), "one"):
        return "always"
    return "when asked" if _has_timings(stage, Wish(timings=True), "two") else "no"


def own_environment(stage: Stage) -> str:
    """an environment of Python that the tool makes for a check"""
    stage.begin(stage.check("look", own_environment=True))
    stage.stage({"a.py": "STAGED\n"})
    done = stage.commit()
    prefix = stage.notes("look", "prefix")
    return ("yes" if prefix and prefix[0].startswith(str(stage.repository.home)) else "no") + _refused(done)


def published(stage: Stage) -> str:
    """a check that another repository publishes, at a fixed version"""
    theirs = Repository.create(stage.log / "theirs", stage.repository.home, {})
    stage.tool.share(theirs, stage.check("look"), stage.repository)
    stage.stage({"a.py": "STAGED\n"})
    done = stage.commit()
    return ("yes" if stage.notes("look", "end") else "no") + _refused(done)


def skipping(stage: Stage) -> str:
    """one check left out of one commit by a variable"""
    stage.begin(stage.check("look"), stage.check("other"))
    stage.stage({"a.py": "STAGED\n"})
    variables = stage.tool.skip("look")
    done = stage.commit(more=variables)
    left = not stage.notes("look", "start") and bool(stage.notes("other", "start"))
    return (f"`{next(iter(variables))}`" if left else f"no (tried `{next(iter(variables))}`)") + _refused(done)


SCENARIOS: tuple[Scenario, ...] = (
    *(partial_staging, other_edits, untracked, intent_to_add, deletion),
    *(fix_all_staged, fix_other_line, fix_same_line, interrupt, terminate, kill),
    *(timeout, budget, cache, parallel, stages, timings, skipping, own_environment, published),
)


# --- what scenarios share -----------------------------------------------------------------------------------------------


def _seen(stage: Stage, secret: str, done: Done, *, kept: bool) -> str:
    saw = stage.notes("look", "saw")
    hidden = "not run" if not saw else "**seen**" if any(secret in line for line in saw) else "hidden"
    return f"{hidden}, {'kept' if kept else '**lost**'}{_refused(done)}"


def _refused(done: Done) -> str:
    return f"; commit refused ({done.code})" if done.code else ""


def _fix(stage: Stage, staged: str, work: str, mended: str) -> str:
    stage.repository.write({"a.py": LINES})
    stage.repository.commit_all("lines")
    stage.begin(stage.check("mend", "mend", names_files=True, fixes=True))
    stage.stage({"a.py": staged})
    stage.repository.write({"a.py": work})
    done = stage.commit()
    if done.code:
        end = "refused"
    elif stage.committed("a.py") == mended:
        end = "mended and committed"
    else:
        end = "**committed unmended**"
    now = stage.repository.read("a.py") or ""
    edit = "" if "EDIT" not in work else ", edit kept" if "EDIT" in now else ", **edit lost**"
    return f"{end}{edit}{', mended in the work tree' if done.code and 'GOOD' in now else ''}"


def _stopped(stage: Stage, number: signal.Signals) -> str:
    """What becomes of unstaged edits and of the check, then and at the next commit."""
    stage.begin(stage.check("slow", "hang"))
    stage.stage({"a.py": "STAGED\n"})
    edits = {"a.py": "STAGED\nEDIT\n", "b.py": "EDIT\n"}
    stage.repository.write(edits)
    env = stage.tool.environment(stage.repository)
    words = ["git", "commit", "-q", "-m", "change"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        words, cwd=stage.repository.path, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        until = time.monotonic() + PATIENCE_S
        while not stage.notes("slow", "start") and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(process.pid, number)
    _wait_for_group(process.pid)
    running = [int(line.split()[1]) for line in stage.notes("slow", "start")]
    kept = _holds(stage, edits)
    survived = any(map(_is_alive, running))
    lies_in = _copies(stage)
    (stage.log / "calm").touch()
    (stage.repository.path / ".git/index.lock").unlink(missing_ok=True)  # git's own, when it is killed
    done = stage.commit()
    back = _holds(stage, edits)
    outlived = any(map(_is_alive, running))
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    found = ["edits kept" if kept else f"**edits gone from the work tree** ({lies_in})"]
    found += [] if kept else [f"{'' if back else 'not '}back after the next commit"]
    found += ["**edits lost by the next commit**"] if kept and not back else []
    found += [f"the check lived on{', past the next commit' if outlived else ' until the next commit'}"] if survived else []
    return ", ".join(found) + (f"; next commit refused ({done.code})" if done.code else "")


def _wait_for_group(leader: int) -> None:
    """Until a process group is gone, but not for long: who does not react to a signal may stay."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def _copies(stage: Stage) -> str:
    """Where a tool has put edits that are not in the work tree, so that a person could bring them back."""
    places = []
    if stage.repository.git("stash", "list"):
        places.append("in a stash")
    for folder, name in ((stage.repository.home, "the home folder"), (stage.repository.path / ".git", "`.git`")):
        texts = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size < 10_000]
        if any(b"+EDIT" in file.read_bytes() for file in texts):
            places.append(f"in a patch in {name}")
    return " and ".join(places) or "no copy found"


def _holds(stage: Stage, edits: Mapping[str, str]) -> bool:
    return all(stage.repository.read(name) == content for name, content in edits.items())


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def _overlap(stage: Stage, wish: Wish, *names: str) -> bool:
    stage.begin(*(stage.check(name, "sleep0.8") for name in names), wish=wish)
    stage.stage({"a.py": f"ABOUT = {names!r}\n"})
    stage.commit()
    starts = [float(stage.notes(name, "start")[-1].split()[0]) for name in names]
    ends = [float(stage.notes(name, "end")[-1]) for name in names]
    return max(starts) < min(ends)


def _has_timings(stage: Stage, wish: Wish, name: str) -> bool:
    stage.begin(stage.check(name, "sleep0.4"), wish=wish)
    stage.stage({"a.py": f"ABOUT = {name!r}\n"})
    done = stage.commit()
    return re.search(r"\b(0?\.[4-9]\d*|[1-3]\.\d+) ?s|\b[4-9]\d\d ?ms", done.out) is not None


# --- playing and telling ------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table in the place of the one that the page has")
    given = parser.parse_args()
    if given.into and given.only:
        parser.error("--into takes the whole table: leave --only out")
    tools = {name: tool for name, tool in hook_tools.get_tools().items() if name != "lefthook binary"}
    scenarios = [scenario for scenario in SCENARIOS if given.only in scenario.__name__]
    with tempfile.TemporaryDirectory(prefix="gate-bench-", ignore_cleanup_errors=True) as folder:
        table = play(Path(folder).resolve(), tools, scenarios)
    versions = {name: tool.version for name, tool in tools.items() if isinstance(tool, Tool)}
    if given.json:
        print(json.dumps({"versions": versions, "table": table}, indent=1))
        return 0
    markdown = as_markdown(table, list(tools), versions)
    if given.into:
        given.into.write_text(with_table(given.into.read_text(), markdown))
    else:
        print(markdown)
    return 0


def play(folder: Path, tools: Mapping[str, Tool | Missing], scenarios: Sequence[Scenario]) -> dict[str, dict[str, str]]:
    """What was seen, by the scenario's title and the tool's name."""
    python = str(hook_tools.make_environment(folder / "python") / "python")
    probe = folder / "probe.py"
    probe.write_text(PROBE)
    table: dict[str, dict[str, str]] = {}
    for scenario in scenarios:
        row = table.setdefault(title(scenario), {})
        for name, tool in tools.items():
            if isinstance(tool, Missing):
                row[name] = tool.why
                continue
            place = folder / f"{scenario.__name__}-{name}".replace(" ", "-")
            repository = Repository.create(place / "repository", place / "home", {"a.py": "A\n", "b.py": "B\n"})
            (place / "log").mkdir()
            row[name] = _played(scenario, Stage(tool, repository, place / "log", probe, python))
            shutil.rmtree(place, ignore_errors=True)
            print(f"{scenario.__name__}: {name}: {row[name]}", file=sys.stderr)
    return table


def _played(scenario: Scenario, stage: Stage) -> str:
    try:
        return scenario(stage)
    except NoSuchSettingError as reason:
        return f"no such setting: {reason}" if str(reason) else "no such setting"
    except subprocess.TimeoutExpired:
        return "did not end"
    except (IndexError, SystemExit) as failure:
        return f"failed: {failure}".splitlines()[0][:120]


def title(scenario: Scenario) -> str:
    return (scenario.__doc__ or scenario.__name__).strip()


def as_markdown(table: Mapping[str, Mapping[str, str]], names: Sequence[str], versions: Mapping[str, str]) -> str:
    head = [f"{name} {versions[name]}" if name in versions and " in " not in name else name for name in names]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(cells.get(name, '') for name in names)} |" for row, cells in table.items()]
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with this table instead of its own, which has to be its only one."""
    lines = page.splitlines()
    own = [number for number, line in enumerate(lines) if line.startswith("|")]
    return "\n".join([*lines[: own[0]], table, *lines[own[-1] + 1 :]]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
