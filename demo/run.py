#!/usr/bin/env python3
"""The demo: a shop's repository behind a gate, from a commit that a hook stops to a deploy that is rolled back.

Everything in it is real: git commit, git push, the daemon, checks, deploys. Each scene ends with what was found in Git,
in the answers of ``gate … --json`` and in the files of the servers; the exit status is 0 only if all of it was so. Run by
``make demo``.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stage import (
    OLD_SERVER,
    PROJECT,
    TARGETS,
    DidNotHappenError,
    Done,
    Json,
    Paper,
    Person,
    Stage,
    finish,
    make_folder,
    require_programs,
    wait_for,
)

SUBMIT = "git push -o wait origin HEAD:refs/for/main"
WAVES = (TARGETS[:1], TARGETS[1:4], TARGETS[4:])


@dataclass(slots=True)
class Scene:
    """One scene as it is played: it collects what was checked."""

    stage: Stage
    all_held: bool = True

    @property
    def paper(self) -> Paper:
        return self.stage.paper

    @property
    def ann(self) -> Person:
        return self.stage.people["ann"]

    @property
    def ben(self) -> Person:
        return self.stage.people["ben"]

    def tell(self, text: str) -> None:
        self.paper.tell(text)

    def output(self, lines: Sequence[str]) -> None:
        self.paper.output(lines)

    def check(self, text: str, holds: bool) -> None:
        """Something that must be so for the scene to have happened."""
        self.paper.checked(text, holds=holds)
        self.all_held = self.all_held and holds

    def why(self, change: int) -> Json:
        return self.stage.ask("why", str(change))


# --- the scenes, in order -----------------------------------------------------------------------------------------------


def set_up(scene: Scene) -> str:
    stage, paper = scene.stage, scene.paper
    stage.furnish()
    ann = stage.add_person("ann")
    server = Person("server", stage, stage.folder)
    scene.tell("On the server: an empty bare repository becomes a gated one.")
    server.must("git init -q --bare shop.git")
    scene.output(server.must("gate init shop.git").lines[-3:])
    scene.tell("Ann puts a first version of a small shop on it, with its gate.toml; that founds trunk.")
    ann.must(f"git clone -q {shlex.quote(str(stage.repo))} ann", folder=stage.folder)
    shutil.copytree(PROJECT, ann.clone, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    scene.output(ann.must("gate config check").lines)
    ann.must("git switch -q -c main", show=False)
    ann.commit("A small shop")
    scene.output(ann.must("git push -q origin main").lines)
    ann.must("git remote set-head origin main", show=False)
    scene.tell("The gate begins to serve it (its own words are in gate.log), and Ann installs the hooks in her clone.")
    paper.command("server", f"gate serve {shlex.quote(str(stage.repo))} &")
    stage.start_gate()
    scene.output(ann.must("pre-commit install").lines)
    for name in ("ben", "mallory"):
        person = stage.add_person(name)
        person.must(f"git clone -q {shlex.quote(str(stage.repo))} {name}", folder=stage.folder, show=False)
    scene.ben.must("pre-commit install", show=False)
    status = stage.wait_until_judged()
    deploy = stage.wait_until_deployed(stage.trunk)
    scene.check("gate status says that trunk is green", status["trunk"]["state"] == "green")
    scene.check("the hooks are in Ann's clone", (ann.clone / ".git" / "hooks" / "pre-commit").is_file())
    scene.check("the first version is on all ten servers", set(stage.versions().values()) == {stage.trunk})
    scene.check("its deploy was good", deploy["state"] == "good")
    return "trunk is there, green, served, and in production."


def hook(scene: Scene) -> str:
    ann = scene.ann
    scene.tell("Ann adds a function to the basket, and mistypes a name in it.")
    ann.begin("clear")
    before = ann.head
    ann.append("shop/cart/basket.py", "\n    def clear(self) -> None:\n        sefl.items.clear()\n")
    ann.must("git add --all", show=False)
    stopped = ann.run('git commit -q -m "Clear a basket"')
    scene.output(stopped.lines)
    scene.check("git commit ended with an error", stopped.code != 0)
    scene.check("the hook named the mistyped name", any("sefl" in line for line in stopped.lines))
    scene.check("there is no new commit", ann.head == before)
    ann.must("git reset -q --hard", show=False)
    return "the mistake was stopped where it was made, in a second."


def good(scene: Scene) -> str:
    ann, stage = scene.ann, scene.stage
    scene.tell("Ann writes it properly, with a test, and pushes it for main. -o wait stays until the gate has decided.")
    ann.begin("clear")
    before = stage.trunk
    ann.append("shop/cart/basket.py", "\n    def clear(self) -> None:\n        self.items.clear()\n")
    ann.append("tests/cart/test_basket.py", TEST_CLEAR)
    head = ann.commit("Clear a basket")
    pushed = ann.run(SUBMIT)
    scene.output(pushed.lines)
    change = ann.change_of(head)
    scene.check("git push ended well", pushed.code == 0)
    scene.check(f"gate why {change} says landed", scene.why(change)["state"] == "landed")
    scene.check("trunk moved, and has her commit", stage.trunk != before and has(stage, stage.trunk, head))
    scene.check("the checks that it touches were run for it", names(runs_of(stage, change)) == ["cart", "style-cart"])
    return "the push is the whole user interface: no client, no account, no web page."


def failing(scene: Scene) -> str:
    ben, stage = scene.ben, scene.stage
    scene.tell("Ben makes discounts simpler, and does not run the tests.")
    ben.begin("rounding")
    before = stage.trunk
    ben.edit("shop/pricing/discounts.py", "-(-cents * (100 - percent) // 100)", "cents - percent")
    head = ben.commit("Simpler discounts")
    pushed = ben.run(SUBMIT)
    scene.output(pushed.lines)
    why = scene.why(change := ben.change_of(head))
    runs = runs_of(stage, change)
    failed = [test for run in runs for test in run["failed"]]
    scene.check("git push ended with an error", pushed.code != 0)
    scene.check(f"gate why {change} says refused", why["state"] == "refused")
    scene.check(
        "JUnit named the failed test", [test.rpartition("::")[2] for test in failed] == ["test_a_discount_is_taken_off"]
    )
    scene.check("and the refusal names it too", "test_a_discount_is_taken_off" in reasons(why))
    scene.check("trunk did not move", stage.trunk == before)
    scene.check(
        "the checks of the cart were not run: their inputs are the same", names(runs) == ["pricing", "style-pricing"]
    )
    return "trunk never saw the change, and Ben knows which test to look at."


def together(scene: Scene) -> str:
    ann, ben, stage = scene.ann, scene.ben, scene.stage
    scene.tell("Ann gives a function a better name. Ben, at the same time, writes a new file that calls it by the old one.")
    ann.begin("rename")
    ann.edit("shop/pricing/prices.py", "def total(", "def total_cents(")
    for path in ("shop/receipt.py", "tests/pricing/test_prices.py"):
        file = ann.clone / path
        file.write_text(file.read_text().replace("prices.total(", "prices.total_cents("))
    ann_head = ann.commit("Say what a total counts: cents")
    ben.begin("shipping")
    ben.append("shop/pricing/shipping.py", SHIPPING)
    ben.append("tests/pricing/test_shipping.py", TEST_SHIPPING)
    ben_head = ben.commit("Shipping is free from 50 on")
    scene.tell("Each of the two is fine alone: all that the gate will ask for is green in both clones.")
    alone = [person.run("gate check --stage merge") for person in (ann, ben)]
    scene.output(alone[-1].lines[-3:])
    scene.tell("Both push.")
    pushes = submit_both(scene, ann, ben)
    changes = [ann.change_of(ann_head), ben.change_of(ben_head)]
    stories = [scene.why(change) for change in changes]
    landed = [story for story in stories if story["state"] == "landed"]
    refused = [story for story in stories if story["state"] == "refused"]
    scene.check("each of them alone was green", [done.code for done in alone] == [0, 0])
    scene.check("exactly one of them landed, and the other was refused", len(landed) == len(refused) == 1)
    scene.check(
        "the refusal names the check and the test", "test_shipping" in reasons(*refused) and "pricing" in reasons(*refused)
    )
    scene.check("one push ended well, and the other did not", sorted(bool(done.code) for done in pushes) == [False, True])
    heads = [head for head in (ann_head, ben_head) if has(stage, stage.trunk, head)]
    scene.check("trunk has the commit of exactly one of them", len(heads) == 1)
    status = stage.wait_until_judged()
    scene.check("and trunk is green", status["trunk"]["state"] == "green")
    return "neither Git nor the tests of either change saw a problem; the gate tested what trunk would become, and did."


def apart(scene: Scene) -> str:
    ann, ben, stage = scene.ann, scene.ben, scene.stage
    scene.tell("Ann works on the basket, Ben on the discounts. No check has inputs in both parts.")
    ann.begin("has")
    ann.append("shop/cart/basket.py", "\n    def has(self, article: str) -> bool:\n        return article in self.items\n")
    ann_head = ann.commit("Ask what is in a basket")
    ben.begin("students")
    ben.edit("shop/pricing/discounts.py", '    "SPRING": 10,\n', '    "SPRING": 10,\n    "STUDENT": 15,\n')
    ben_head = ben.commit("A discount for students")
    pushes = submit_both(scene, ann, ben)
    cart, pricing = ann.change_of(ann_head), ben.change_of(ben_head)
    logs = [stage.ask("log", str(change)) for change in (cart, pricing)]
    spans = [span(logs[0], "cart"), span(logs[1], "pricing")]
    shared = min(end for _, end in spans) - max(begin for begin, _ in spans)
    own = [["cart", "style-cart"], ["pricing", "style-pricing"]]
    scene.check("both pushes ended well", [done.code for done in pushes] == [0, 0])
    scene.check("both landed", [log["lines"][-1]["verdict"] for log in logs] == ["landed", "landed"])
    scene.check("trunk has both", all(has(stage, stage.trunk, head) for head in (ann_head, ben_head)))
    scene.check(f"their tests ran at the same time, for {max(shared, 0):.2f} s", shared > 0)
    scene.check("each was tested once, by the checks of its own part", [names(log["runs"]) for log in logs] == own)
    return "two parts, two changes, no waiting for each other and no test run twice."


def conflict(scene: Scene) -> str:
    ann, ben, stage = scene.ann, scene.ben, scene.stage
    scene.tell("Both change the price of tea. Ann is first.")
    heads = []
    for person, price in ((ann, 480), (ben, 430)):
        person.begin("tea")
        person.edit("shop/pricing/prices.py", '"tea": 450', f'"tea": {price}')
        heads.append(person.commit(f"Tea costs {price}"))
    first = ann.run(SUBMIT)
    scene.output(first.matching("landed"))
    trunk = stage.trunk
    second = ben.run(SUBMIT)
    scene.output(second.lines)
    why = scene.why(ben.change_of(heads[1]))
    scene.check("Ann's change landed", first.code == 0 and has(stage, trunk, heads[0]))
    scene.check("Ben's was refused", second.code != 0 and why["state"] == "refused")
    scene.check("because of a conflict", [reason["why"] for reason in why["reasons"]] == ["conflict"])
    scene.check("with the file named", "shop/pricing/prices.py" in reasons(why))
    scene.check("trunk did not move", stage.trunk == trunk)
    return "Ben knows the file, and the command that helps."


def direct(scene: Scene) -> str:
    ann, stage = scene.ann, scene.stage
    scene.tell("Ann is in a hurry and pushes to main itself. Her own hook says no first; then she tells git to skip it.")
    ann.begin("hurry")
    ann.append("README.md", "\nBe quick.\n")
    head = ann.commit("Be quick")
    before = stage.trunk
    by_hook = ann.run("git push origin HEAD:main")
    scene.output(by_hook.matching("gate:", "to submit"))
    by_server = ann.run("git push --no-verify origin HEAD:main")
    scene.output(by_server.lines)
    scene.check("both pushes ended with an error", by_hook.code != 0 and by_server.code != 0)
    scene.check("the server's answer names the way to go", "refs/for/main" in by_server.said)
    scene.check("trunk did not move", stage.trunk == before)
    scene.check("nothing on the server has her commit", not stage.git("for-each-ref", "--contains", head))
    return "there is one way onto trunk; the hook is a courtesy, the server is the lock."


def weakened(scene: Scene) -> str:
    mallory, ann, stage = scene.stage.people["mallory"], scene.ann, scene.stage
    scene.tell("Mallory is no maintainer. She has the tests of pricing replaced by `true`, in gate.toml itself.")
    mallory.begin("faster")
    before = stage.trunk
    old = "python3 -m pytest -q -p no:cacheprovider --junitxml={junit} tests/pricing"
    mallory.edit("gate.toml", f'command = "{old}"', 'command = "true"')
    head = mallory.commit("Make the checks faster")
    pushed = mallory.run("git push origin HEAD:refs/for/main")
    scene.output(pushed.lines)
    change = mallory.change_of(head)
    held: Json = {}

    def is_held() -> bool:
        held.update(scene.why(change))
        return bool(held["reasons"]) and held["reasons"][0]["why"] == "needs approval"

    wait_for(is_held, f"gate why {change} says what the change waits for")
    repo = shlex.quote(str(stage.repo))
    scene.output(mallory.must(f"gate why {change} --repo {repo}", folder=stage.folder).lines)
    refused = mallory.run(f"gate approve {change} --repo {repo}", folder=stage.folder)
    scene.output(refused.lines)
    scene.check("the change waits", held["state"] == "waiting")
    scene.check("for Ann, because of gate.toml", "ann" in reasons(held) and "gate.toml" in reasons(held))
    scene.check("Mallory cannot approve it herself", refused.code != 0 and scene.why(change)["state"] == "waiting")
    scene.check("trunk did not move", stage.trunk == before)
    scene.tell("Ann looks at it, and takes it out of the queue.")
    scene.output(ann.must(f'gate cancel {change} "tests are not optional" --repo {repo}', folder=stage.folder).lines)
    wait_for(lambda: str(scene.why(change)["state"]) == "withdrawn", "the change is withdrawn")
    return "the rules come from trunk and not from the change; who may alter them is one of them."


def red_trunk(scene: Scene) -> str:
    ann, ben, stage = scene.ann, scene.ben, scene.stage
    scene.tell(
        "Ann shows amounts with a comma. The tests of pricing agree; how a receipt looks is a check after the landing."
    )
    stage.wait_until_judged()
    promoted = stage.promoted
    scene.check("green/main is at trunk before", promoted == stage.trunk)
    stage.wait_until_deployed(promoted)
    versions = stage.versions()
    ann.begin("comma")
    ann.edit("shop/pricing/money.py", "}.{", "},{")
    ann.edit("tests/pricing/test_money.py", '"9.05"', '"9,05"')
    head = ann.commit("Amounts with a comma")
    scene.output(ann.must(SUBMIT).matching("landed"))
    bad = stage.trunk
    status = stage.wait_until_judged()
    scene.output(ann.must(f"gate status --repo {shlex.quote(str(stage.repo))}", folder=stage.folder).lines[:3])
    scene.check("the change landed", has(stage, bad, head))
    scene.check(
        "the check receipt is red on trunk", status["trunk"]["state"] == "red" and status["trunk"]["red"] == ["receipt"]
    )
    suspects = [suspect["change"] for suspect in status["trunk"]["suspects"]]
    scene.check("the suspect is Ann's change", suspects == [ann.change_of(head)])
    scene.check("green/main stays at the last green commit", stage.promoted == promoted == status["trunk"]["promoted"])
    scene.check("and so do the servers", stage.versions() == versions and set(versions.values()) == {promoted})
    scene.tell("Ben reverts it.")
    ben.begin("revert")
    ben.must(f"git revert --no-edit {head}")
    revert = ben.must(SUBMIT)
    scene.output(revert.lines)
    status = stage.wait_until_judged()
    change = ben.change_of(ben.head)
    scene.check("the revert landed", scene.why(change)["state"] == "landed")
    scene.check("without any run: this content was green before", runs_of(stage, change) == [])
    wait_for(lambda: stage.promoted == stage.trunk, "green/main moves on")
    scene.check("trunk is green again, and green/main is there", status["trunk"]["state"] == "green")
    return "what comes late comes without blocking anybody, and nothing that is red goes further than trunk."


def deploys(scene: Scene) -> str:
    ann, stage = scene.ann, scene.stage
    repo = shlex.quote(str(stage.repo))
    scene.tell("Ten servers (here: folders), in waves of one, three and six. First a good commit: a friendlier greeting.")
    ann.begin("greeting")
    ann.edit("shop/receipt.py", '[settings["greeting"]]', '[settings["greeting"] + "!"]')
    ann.commit("A friendlier greeting")
    scene.output(ann.must(SUBMIT).matching("landed"))
    good = stage.trunk
    deploy = stage.wait_until_deployed(good)
    scene.output(waves_said(stage, good))
    scene.check("the deploy was good", deploy["state"] == "good")
    scene.check("all ten servers have it", set(stage.versions().values()) == {good})
    scene.check("in three waves: 1, 3 and 6", waves_of(stage, good) == WAVES)
    scene.tell(f"Then one that is green in every check, but needs a setting that {OLD_SERVER} never got.")
    ann.begin("currency")
    ann.edit("shop/receipt.py", "(basket.items))}", "(basket.items))} {settings['currency']}")
    head = ann.commit("Receipts name the currency")
    scene.output(ann.must(SUBMIT).matching("landed"))
    bad = stage.trunk
    status = stage.wait_until_judged()
    deploy = stage.wait_until_deployed(bad)
    scene.output(waves_said(stage, bad))
    said = ann.must(f"gate deploys --repo {repo}", folder=stage.folder).lines
    scene.output([said[0], *said[-2:]])
    scene.check(
        "the bad commit is green in every check, and promoted", status["trunk"]["state"] == "green" and stage.promoted == bad
    )
    scene.check("its deploy was rolled back", deploy["state"] == "rolled back")
    scene.check("it reached waves one and two", waves_of(stage, bad) == WAVES[:2])
    untouched = [target for target in WAVES[2] if not any(bad in line for line in stage.history(target))]
    scene.check("the six servers of wave three never saw it", len(untouched) == 6)
    scene.check("all ten servers have the good commit", set(stage.versions().values()) == {good})
    scene.tell("Ann reverts it, so that trunk can be deployed again.")
    ann.must(f"git revert --no-edit {head}")
    scene.output(ann.must(SUBMIT).matching("green already", "landed"))
    mended = stage.trunk
    deploy = stage.wait_until_deployed(mended)
    scene.check("that is on all ten servers", deploy["state"] == "good" and set(stage.versions().values()) == {mended})
    return "a mistake that no test could know was found on four servers of ten, and taken back."


SCENES: tuple[tuple[str, Callable[[Scene], str]], ...] = (
    ("A repository behind a gate", set_up),
    ("A commit stopped by a pre-commit check", hook),
    ("A good change lands", good),
    ("A change whose tests fail is refused", failing),
    ("Two changes pass alone and break together: one lands", together),
    ("Two changes to separate parts do not wait for each other", apart),
    ("A conflict is refused, with the file named", conflict),
    ("A direct push to trunk is rejected", direct),
    ("A change that weakens gate.toml is held for a maintainer", weakened),
    ("A post-commit check goes red: promotion stays at the last green", red_trunk),
    ("A deploy in three waves, and one that is rolled back", deploys),
)

TEST_CLEAR = """

def test_a_cleared_basket_is_empty():
    basket = Basket({"tea": 2})
    basket.clear()
    assert basket.count == 0
"""

SHIPPING = '''"""What sending costs."""

from collections.abc import Mapping

from shop.pricing import prices


def shipping(items: Mapping[str, int]) -> int:
    """In cents."""
    return 0 if prices.total(items) >= 5000 else 490
'''

TEST_SHIPPING = """from shop.pricing.shipping import shipping


def test_shipping_is_free_from_fifty_on():
    assert shipping({"pot": 2}) == 0


def test_shipping_costs_something_below():
    assert shipping({"pot": 1}) == 490
"""


# --- facts --------------------------------------------------------------------------------------------------------------


def has(stage: Stage, trunk: str, commit: str) -> bool:
    """Whether trunk's history holds a commit."""
    return bool(stage.git("rev-list", "--max-count=1", commit)) and stage.git("merge-base", commit, trunk) == commit


def runs_of(stage: Stage, change: int) -> list[Json]:
    """The runs of checks for a change."""
    found: list[Json] = stage.ask("log", str(change))["runs"]
    return found


def names(runs: Sequence[Json]) -> list[str]:
    return sorted(str(run["check"]) for run in runs)


def span(log: Json, check: str) -> tuple[float, float]:
    """When a check began and ended, epoch seconds, by the gate's own log of the change."""
    lines = log["lines"]
    begin = [line["at"] for line in lines if line["text"] == f"{check} started"]
    end = [line["at"] for line in lines if line["text"].startswith(f"{check} green in")]
    if len(begin) != 1 or len(end) != 1:
        raise DidNotHappenError(f"change {log['change']} has {len(begin)} starts and {len(end)} green ends of {check}")
    return begin[0], end[0]


def reasons(*stories: Json) -> str:
    return "; ".join(str(reason["text"]) for story in stories for reason in story["reasons"])


def waves_of(stage: Stage, commit: str) -> tuple[tuple[str, ...], ...]:
    """The servers that a commit was deployed to, by wave, as their own files tell."""
    waves: dict[str, list[str]] = {}
    for target in TARGETS:
        for line in stage.history(target):
            action, what, _, wave = line.split()
            if action == "deploy" and what == commit:
                waves.setdefault(wave, []).append(target)
    return tuple(tuple(waves[wave]) for wave in sorted(waves))


def waves_said(stage: Stage, commit: str) -> list[str]:
    """What the daemon said of the waves of this commit's deploy, and of its end. To be read, not to be checked."""
    said = stage.gate_said()
    begin = next(place for place, line in enumerate(said) if f"deploying {commit[:10]}" in line)
    steps = (" of web", "verify of")
    return [line for line in said[begin:] if "production:" in line and not any(step in line for step in steps)]


def submit_both(scene: Scene, one: Person, other: Person) -> tuple[Done, Done]:
    """Two pushes at the same time; what both say is shown in the end, one after the other."""
    pushes = [one.start(SUBMIT), other.start(SUBMIT)]
    done = (finish(pushes[0]), finish(pushes[1]))
    for person, end in zip((one, other), done, strict=True):
        scene.output([f"{person.name}: {line}" for line in end.lines])
    return done


# --- the play -----------------------------------------------------------------------------------------------------------


def play(scene: Scene, title: str, act: Callable[[Scene], str]) -> bool:
    scene.paper.heading(title)
    try:
        conclusion = act(scene)
    except DidNotHappenError as failure:
        scene.check(str(failure), holds=False)
        conclusion = ""
    scene.paper.so(conclusion if scene.all_held else "this did NOT happen as it should.", good=scene.all_held)
    return scene.all_held


def summarize(paper: Paper, happened: dict[str, bool], took_s: float) -> None:
    paper.heading("Summary")
    width = max(map(len, happened))
    for title, was_so in happened.items():
        paper.tell(f"  {title:<{width}}  {'happened' if was_so else 'DID NOT HAPPEN'}")
    count = sum(happened.values())
    paper.so(f"{count} of {len(SCENES)} scenes happened, in {took_s:.0f} s.", good=count == len(SCENES))


def say_where_to_look(stage: Stage, *, kept: bool) -> None:
    paper, folder = stage.paper, shlex.quote(str(stage.folder))
    paper.heading("Where to look next")
    paper.tell(f"  everything is in {stage.folder}")
    paper.tell("  shop.git   the server's repository      ann, ben   clones with the hooks installed")
    paper.tell("  gate.log   what the gate said           servers    what is deployed where, with its history")
    paper.tell("To be Ann in a shell of your own, and look around:")
    paper.tell(f"  . {folder}/as-ann")
    for line in ("status", "why 2", "log 2 pricing", "deploys"):
        paper.tell(f"  gate {line} --repo ../shop.git")
    if kept:
        paper.tell("The gate goes on serving. To land something yourself:")
        paper.tell("  git switch -c mine origin/main && echo >> README.md && git commit -am 'My first landing'")
        paper.tell(f"  {SUBMIT}")
        paper.tell("To stop the gate:")
        paper.tell(f"  kill $(cat {folder}/gate.pid)")
    else:
        paper.tell("The gate is stopped. To go on with it, in that shell:")
        paper.tell(f"  SHOP_SERVERS={folder}/servers gate serve ../shop.git")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Show what the gate does, on a repository made for it.")
    parser.add_argument(
        "folder", type=Path, nargs="?", help="where (default: a new folder below the system's temporary one)"
    )
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--keep", action="store_true", help="leave the gate running, to play with")
    ending.add_argument("--clean", action="store_true", help="remove the folder in the end")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the gate must not be left behind
    try:
        require_programs()
        folder = make_folder(arguments.folder)
    except DidNotHappenError as failure:
        sys.stderr.write(f"demo: {failure}\n")
        return 2
    stage = Stage(folder, Paper())
    began_at = time.monotonic()
    stage.paper.tell(f"This demo works in {folder}, with a home folder of its own there; it changes nothing else.")
    happened = dict.fromkeys((title for title, _ in SCENES), False)
    is_kept = False
    try:
        for number, (title, act) in enumerate(SCENES):
            happened[title] = play(Scene(stage), f"{number}. {title}" if number else title, act)
            if not happened[title] and act is set_up:
                break  # there is nothing to play the others on
        summarize(stage.paper, happened, time.monotonic() - began_at)
        is_kept = arguments.keep and not stage.gate_is_gone()
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted\n")
        return 130
    except BrokenPipeError:
        # Nobody reads any more; the interpreter's own flush at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        code = None if is_kept else stage.stop_gate()
    if not arguments.clean:
        say_where_to_look(stage, kept=is_kept)
    else:
        shutil.rmtree(folder)
        stage.paper.tell(f"{folder} is removed.")
    if code:
        sys.stderr.write(f"demo: the gate ended with {code}, not with 0; see {stage.gate_log}\n")
    return 0 if all(happened.values()) and not code else 1


if __name__ == "__main__":
    sys.exit(main())
