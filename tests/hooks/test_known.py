"""The short way to "everything is green already", against the long one, in real repositories."""

import json
import subprocess
import sys
from pathlib import Path
from time import time
from typing import Any

import pytest

from fakes.repositories import Repository, git_env
from hooks import in_process
from hooks import known as known_module
from hooks.check import run as check
from hooks.known import Known, greens, tree_of
from hooks.staged import look

GATE = Path(sys.executable).with_name("gate")
RULES = """
[[check]]
name = "python"
command = "! grep -n TODO {files}"
stage = "pre-commit"
inputs = ["*.py"]

[[check]]
name = "source"
command = "! grep -rn BROKEN src"
stage = "pre-commit"
inputs = ["src/"]

[[check]]
name = "whole"
command = "! grep -rn FAULT src docs"
stage = "pre-commit"
"""


class Clone:
    """A repository in which both ways are asked about the same thing."""

    def __init__(self, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = repository
        self.path = repository.path
        repository.commit("Rules", {"gate.toml": RULES, "src/a.py": "A\n", "docs/a.md": "A\n"})
        monkeypatch.chdir(self.path)
        for name in ("PRE_COMMIT", "GATE_HOOK", "GATE_SKIP"):
            monkeypatch.delenv(name, raising=False)
        for name, value in git_env().items():
            monkeypatch.setenv(name, value)

    def stage(self, **files: str | None) -> None:
        for name, content in files.items():
            path = name.replace("__", "/").replace("_", ".")
            if content is None:
                self.repository.git("rm", "-qf", path)
            else:
                self.repository.write(path, content)
                self.repository.git("add", path)

    def short(self, *names: str) -> dict[str, str] | None:
        """What the short way says of each check; None when it leaves the answer to the long one."""
        known = self.known(*names)
        if known is None:
            return None
        return dict.fromkeys(known.idle, "no files") | dict.fromkeys(known.cached, "cached")

    def known(self, *names: str) -> Known | None:
        staged = look()
        assert staged is not None
        return greens(staged, [*names], time())

    def long(self, *words: str) -> dict[str, str]:
        done = subprocess.run([GATE, "check", "--json", *words], capture_output=True, text=True, check=False)
        told = json.loads(done.stdout)["checks"]
        return {each["name"]: "cached" if each["cached"] else each["outcome"] or each["reason"] for each in told}


@pytest.fixture
def clone(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Clone:
    return Clone(repository, monkeypatch)


def test_both_ways_say_the_same_through_a_day_of_work(clone: Clone) -> None:
    """Where the short way answers, it says what the long one says, and what was checked once it does answer."""
    steps: list[dict[str, str | None] | str] = [
        {"src__a_py": "B\n"},
        "commit",
        {"src__a_py": "C\n", "docs__a_md": "B\n"},
        {"docs__b_md": "new\n"},
        "commit",
        {"docs__b_md": None},
        {"src__a_py": "B\n"},
        {"src__new_py": "N\n", "src__a_py": None},
        "commit",
        {"src__new_py": "TODO\n"},
        {"src__new_py": "FAULT\n"},
        {"src__new_py": "N2\n"},
        "amend",
        {"src__a_py": "C\n"},
        "commit",
    ]
    answered = 0
    for step in steps:
        if isinstance(step, str):
            clone.repository.git("commit", "-qm", "Step", *(["--amend"] if step == "amend" else []))
            continue
        clone.stage(**step)
        first, said = clone.short(), clone.long()
        assert first is None or first == said, step
        again, said = clone.short(), clone.long()
        if set(said.values()) <= {"cached", "no files"}:
            answered += 1
            assert again == said, step
        else:
            assert again is None, step
    assert answered == 8


def test_a_result_for_the_same_inputs_answers_beside_other_changes(clone: Clone) -> None:
    """No marker speaks of this content, and the table's base is another commit."""
    clone.stage(src__a_py="B\n")
    clone.long()
    clone.repository.git("commit", "-qm", "B")
    clone.stage(docs__a_md="B\n")
    assert clone.short() is None  # the tree is new, so that "whole" must run
    clone.long()
    clone.repository.git("commit", "-qm", "Docs")
    clone.repository.git("reset", "-q", "--soft", "HEAD~2")
    assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}


def test_names_that_a_runner_gives_are_those_that_are_staged(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RULES[: RULES.index('[[check]]\nname = "whole"')]
    clone.repository.commit("No whole", {"gate.toml": config})
    clone.stage(src__a_py="B\n", src__b_py="B\n")
    clone.long()
    assert clone.short("src/a.py") is None
    assert clone.short("src/b.py", "src/a.py") == {"python": "cached", "source": "cached"}
    monkeypatch.setenv("PRE_COMMIT", "1")
    assert clone.short("src/a.py", "src/b.py") == {"python": "cached", "source": "cached"}


def test_the_tree_is_written_once_for_all_checks_over_it(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.repository.commit(
        "Two", {"gate.toml": RULES + RULES[RULES.index('[[check]]\nname = "whole"') :].replace("whole", "two")}
    )
    clone.stage(src__a_py="B\n")
    clone.long()
    asked = []
    monkeypatch.setattr(known_module, "tree_of", lambda staged: asked.append(1) or tree_of(staged))
    assert clone.short() == dict.fromkeys(("python", "source", "whole", "two"), "cached")
    assert len(asked) == 1


def test_how_the_tree_of_head_differs_from_the_base_is_asked_once(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = known_module.ask_git
    monkeypatch.setattr(known_module, "ask_git", lambda *questions, **how: asked.extend(questions) or ask(*questions, **how))
    clone.stage(src__a_py="B\n")
    clone.long()  # writes the table; its base is this tree
    clone.repository.git("commit", "-qm", "B")
    clone.stage(src__a_py="C\n")
    clone.long()  # notes how this tree differs
    clone.repository.git("commit", "-qm", "C")
    clone.stage(src__a_py="B\n")
    assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}
    assert [words[0] for words in asked] == ["write-tree"]
    other = clone.repository.git("commit-tree", "HEAD^^^{tree}", "-p", "HEAD", "-m", "A")  # that no check has seen
    clone.repository.git("update-ref", "HEAD", other)
    for questions in (["diff-tree", "write-tree"], ["write-tree"]):
        asked.clear()
        assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}
        assert [words[0] for words in asked] == questions


JSON = """
[[check]]
name = "json"
command = "gate hygiene json-syntax -- {files}"
stage = "pre-commit"
inputs = ["*.json"]
"""


def test_what_is_staged_while_it_looks_is_not_taken_for_looked_at(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clone.repository.commit("Rules", {"gate.toml": JSON, "a.json": "{}\n"})
    clone.stage(a_json="[]\n")
    clone.long()
    judge = in_process.judged

    def judged(*given: Any) -> Any:
        clone.stage(a_json="{broken\n")
        return judge(*given)

    monkeypatch.setattr(in_process, "judged", judged)
    clone.stage(a_json="[1]\n")
    assert check([]) == 1
    assert "json  RED" in capfd.readouterr().out


def test_a_check_over_the_whole_tree_under_a_runner_is_for_the_long_way(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run in the work tree, whose edits nobody has looked at."""
    clone.stage(src__a_py="B\n")
    clone.long()
    assert clone.short() is not None
    monkeypatch.setenv("PRE_COMMIT", "1")
    assert clone.short() is None


def test_what_it_cannot_know_it_leaves_alone(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.stage(src__a_py="B\n")
    clone.long()
    assert clone.short() is not None
    monkeypatch.setenv("GATE_SKIP", "python")
    assert clone.short() is None
    monkeypatch.delenv("GATE_SKIP")
    table = clone.path / ".git/gate/keys"
    kept = table.read_bytes()
    table.write_bytes(kept[:200])
    assert clone.short() is None
    table.write_bytes(kept.replace(b"0.1.0", b"0.0.9", 1))
    assert clone.short() is None
    table.write_bytes(kept)
    assert clone.short() is not None
    clone.stage(gate_toml=RULES.replace("TODO", "FIXME"))
    assert clone.short() is None
    assert clone.long()["python"] == "green"


@pytest.mark.parametrize("more", ['tools = ["git --version"]', "git = true"])
def test_checks_that_hang_on_more_than_content_are_for_the_long_way(clone: Clone, more: str) -> None:
    clone.repository.commit("More", {"gate.toml": RULES.replace('name = "whole"', f'name = "whole"\n{more}')})
    clone.stage(src__a_py="B\n")
    clone.long()
    assert clone.short() is None


def test_a_result_that_grows_old_says_when(clone: Clone) -> None:
    clone.repository.commit("Old", {"gate.toml": RULES.replace('name = "source"', 'name = "source"\nmax_age = "1h"')})
    clone.stage(src__a_py="B\n")
    clone.long()
    known = clone.known()
    assert known is not None
    assert 3500 < known.until - time() <= 3600
    for note in (clone.path / ".git/gate/known").iterdir():
        note.write_text(f"{time() - 3700}\n")
    assert clone.short() is None


def test_it_prints_what_the_long_way_prints(clone: Clone) -> None:
    clone.stage(docs__a_md="B\n")
    subprocess.run([GATE, "check"], capture_output=True, check=True)

    def printed(*words: str) -> list[str]:
        done = subprocess.run([GATE, "check", *words], capture_output=True, text=True, check=True)
        return [line.rpartition("; ")[0] or line for line in done.stdout.splitlines()]

    for marker in (clone.path / ".git/gate/greens").iterdir():
        marker.unlink()
    short = printed()
    assert short == printed("--no-budget")
    assert short[-1] == "1 green (1 cached); 2 without files"


def test_far_from_its_base_a_new_table_is_written(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    clone.stage(src__a_py="B\n")
    clone.long()
    before = (clone.path / ".git/gate/keys").read_bytes()
    clone.repository.commit("Many", {f"many/{number}.py": "M\n" for number in range(600)})
    clone.stage(src__a_py="C\n")
    assert clone.short() is None
    assert clone.long()["source"] == "green"
    assert (clone.path / ".git/gate/keys").read_bytes() != before
    assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}


def test_a_check_that_looks_at_history_may_have_inputs_of_its_own(clone: Clone) -> None:
    history = '[[check]]\nname = "history"\ncommand = "ls {files}"\nstage = "pre-commit"\ngit = true\ninputs = ["docs/"]\n'
    clone.stage(gate_toml=RULES + history)
    clone.long()
    clone.stage(src__a_py="B\n", docs__a_md="B\n")
    assert clone.short() is None
    assert clone.long() == {"python": "green", "source": "green", "whole": "green", "history": "green"}


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_damaged_table_is_written_anew(clone: Clone, damage: str) -> None:
    clone.stage(src__a_py="B\n")
    clone.long()
    table = clone.path / ".git/gate/keys"
    kept = table.read_bytes()
    table.write_bytes(kept[: len(kept) // 2] + (b"\0" * (len(kept) - len(kept) // 2) if damage == "zeros" else b""))
    clone.stage(src__a_py="C\n")
    assert clone.short() is None
    assert clone.long() == {"python": "green", "source": "green", "whole": "green"}
    assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}


def test_words_in_gate_toml_do_not_close_the_short_way_for_good(clone: Clone) -> None:
    clone.stage(src__a_py="B\n")
    clone.long()
    clone.stage(gate_toml=RULES + "# Words that alter no check.\n")
    clone.long()
    clone.repository.git("commit", "-qm", "Words")
    clone.stage(src__a_py="C\n")
    clone.long()
    assert clone.short() == {"python": "cached", "source": "cached", "whole": "cached"}
