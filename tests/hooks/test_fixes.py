"""What a mending check made of staged files, brought to index and work tree: by real commits through installed hooks."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ci import processes
from ci.errors import Unavailable
from fakes.repositories import Repository, git_env
from fakes.stand import wait_for
from hooks import fixes
from hooks.fixes import Mended, apply_fixes, patch_of
from hooks.staged import Staged, look

GATE = Path(sys.executable).with_name("gate")

RULES = """
    [[check]]
    name = "spelling"
    command = "sed -i s/teh/the/ -- {files}"
    stage = "pre-commit"
    inputs = ["*.txt", ".gitattributes"]
    fix = true
"""
LINES = "".join(f"line {number}\n" for number in range(9))


class Clone:
    """A repository whose commits go through the installed hooks, with a check that spells right."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.path = repository.path
        self.git = repository.git
        self.write = repository.write

    def gate(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        folder = cwd or self.path
        return subprocess.run([GATE, *words], cwd=folder, env=git_env(**env), capture_output=True, text=True, check=False)

    def commit(self, *words: str) -> tuple[int, str]:
        """Exit code of git commit, and all that was said."""
        done = self.repository.run("commit", "-q", "-m", "x", *words)
        return done.returncode, (done.stdout + done.stderr).decode()

    def read(self, path: str) -> str:
        return (self.path / path).read_bytes().decode()

    def committed(self, path: str) -> str:
        return self.repository.run("cat-file", "blob", f"HEAD:{path}").stdout.decode()

    def status(self) -> str:
        return self.repository.run("status", "--porcelain").stdout.decode()


@pytest.fixture
def clone(repository: Repository) -> Clone:
    repository.commit("Rules", {"gate.toml": textwrap.dedent(RULES), "a.txt": LINES, "b.txt": LINES})
    clone = Clone(repository)
    assert clone.gate("install", "--hook-type", "pre-commit").returncode == 0
    return clone


def test_what_is_staged_is_mended_and_committed(clone: Clone) -> None:
    clone.write("new.txt", "teh end\n")
    clone.git("add", "new.txt")
    code, said = clone.commit()
    assert (code, clone.committed("new.txt"), clone.read("new.txt"), clone.status()) == (0, "the end\n", "the end\n", "")
    assert "gate: mended and staged: new.txt" in said


def second_check(clone: Clone, command: str) -> None:
    """One more that mends the same files."""
    rule = textwrap.dedent(RULES).replace('"spelling"', '"second"').replace("sed -i s/teh/the/", command)
    clone.repository.commit("Second", {"gate.toml": textwrap.dedent(RULES) + rule})


def test_two_checks_mend_one_file_in_turn(clone: Clone) -> None:
    second_check(clone, "sed -i s/adn/and/")
    clone.write("a.txt", "teh\nadn\n")
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert code == 0, said
    assert clone.committed("a.txt") == "the\nand\n"


def test_two_checks_that_undo_each_others_work_are_told_on(clone: Clone) -> None:
    second_check(clone, "sed -i s/the/teh/")
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert code == 1
    assert "two checks undo each other's work, or one never ends" in said


def test_lines_that_are_not_staged_stay_so_beside_the_fix(clone: Clone) -> None:
    clone.write("a.txt", LINES.replace("line 1", "teh 1"))
    clone.git("add", "a.txt")
    clone.write("a.txt", LINES.replace("line 1", "teh 1").replace("line 7", "teh draft"))
    assert clone.commit()[0] == 0
    assert clone.committed("a.txt") == LINES.replace("line 1", "the 1")
    assert clone.read("a.txt") == LINES.replace("line 1", "the 1").replace("line 7", "teh draft")
    assert clone.status() == " M a.txt\n"


@pytest.mark.parametrize(
    ("before", "command", "after"),
    [(0o644, "chmod +x", 0o755), (0o600, "chmod +x", 0o700), (0o755, "chmod -x", 0o644), (0o750, "chmod -x", 0o640)],
)
def test_a_check_that_mends_the_mode_alone(clone: Clone, before: int, command: str, after: int) -> None:
    clone.repository.commit("Modes", {"gate.toml": textwrap.dedent(RULES).replace("sed -i s/teh/the/", command)})
    for name, content in (("new.txt", b"run me\n"), ("binary.txt", b"\0\1")):
        (clone.path / name).write_bytes(content)
        (clone.path / name).chmod(before)
        clone.git("add", name)
        (clone.path / name).write_bytes(content + b"and a draft\n")
    code, said = clone.commit()
    assert (code, "mended and staged: binary.txt, new.txt" in said) == (0, True), said
    assert clone.git("ls-tree", "HEAD", "new.txt").startswith(f"100{0o755 if after & 0o100 else 0o644:o} ")
    assert (clone.path / "new.txt").stat().st_mode & 0o777 == after
    assert clone.status() == " M binary.txt\n M new.txt\n"
    assert clone.read("new.txt") == "run me\nand a draft\n"


def test_a_mode_that_is_not_staged_stays_beside_a_fix(clone: Clone) -> None:
    clone.write("new.txt", "teh\n")
    clone.git("add", "new.txt")
    (clone.path / "new.txt").chmod(0o700)
    assert clone.commit()[0] == 0
    assert clone.read("new.txt") == "the\n"
    assert (clone.path / "new.txt").stat().st_mode & 0o777 == 0o700
    assert clone.git("ls-tree", "HEAD", "new.txt").startswith("100644 ")


def test_a_check_that_makes_a_link_of_a_file_leaves_that_as_a_patch(clone: Clone) -> None:
    rules = textwrap.dedent(RULES).replace("sed -i s/teh/the/ -- {files}", "sh -c 'test -L new.txt || ln -sf a.txt new.txt'")
    clone.repository.commit("Links", {"gate.toml": rules})
    clone.write("new.txt", LINES)
    clone.git("add", "new.txt")
    code, said = clone.commit()
    assert code == 1
    assert not (clone.path / "new.txt").is_symlink()
    patch = re.search(r"git apply --cached (\S+)", said)
    assert patch, said
    clone.git("apply", "--cached", patch[1])
    assert clone.git("ls-files", "-s", "new.txt").startswith("120000 ")
    assert clone.git("cat-file", "blob", ":new.txt") == "a.txt"
    assert clone.commit()[0] == 0


def test_a_check_that_moves_a_folder_behind_a_link_takes_nothing_in_from_there(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "c.txt").write_text("secret\n")
    command = f"sh -c 'rm -rf part && ln -s {tmp_path}/far part'"
    clone.repository.commit("Far", {"gate.toml": textwrap.dedent(RULES).replace("sed -i s/teh/the/ -- {files}", command)})
    clone.write("part/c.txt", LINES)
    clone.git("add", "part/c.txt")
    code, said = clone.commit()
    assert code == 1
    assert clone.read("part/c.txt") == LINES
    patch = re.search(r"git apply --cached (\S+)", said)
    assert patch, said
    left = clone.read(patch[1])
    assert "deleted file" in left
    assert "secret" not in left


def test_a_fix_that_meets_lines_that_are_not_staged_is_left_as_a_patch(clone: Clone) -> None:
    clone.write("a.txt", LINES.replace("line 1", "teh 1"))
    clone.write("b.txt", LINES.replace("line 1", "teh 1"))
    clone.git("add", "a.txt", "b.txt")
    clone.write("a.txt", LINES.replace("line 1", "teh one and a half"))
    code, said = clone.commit()
    assert code == 1
    assert clone.read("a.txt") == LINES.replace("line 1", "teh one and a half")
    assert clone.git("show", ":a.txt") == LINES.replace("line 1", "teh 1").removesuffix("\n")
    assert clone.read("b.txt") == LINES.replace("line 1", "the 1")
    patch = re.search(r"git apply --cached (\S+)", said)
    assert patch, said
    clone.git("apply", "--cached", patch[1])
    assert clone.commit()[0] == 0
    assert clone.committed("a.txt") == LINES.replace("line 1", "the 1")


def test_a_patch_of_a_check_of_a_nested_gate_toml_lies_with_the_others(clone: Clone) -> None:
    clone.repository.commit(
        "Nested", {"gate.toml": '[nested]\nfolders = ["sub"]\n', "sub/gate.toml": textwrap.dedent(RULES)}
    )
    clone.write("sub/a.txt", "teh\n")
    clone.git("add", "sub/a.txt")
    patch = re.search(r"git apply --index (\S+)", clone.gate("check").stdout)
    assert patch
    assert (clone.path / patch[1]).parent == clone.path / ".git/gate/logs"
    clone.git("apply", "--index", patch[1])
    assert clone.read("sub/a.txt") == "the\n"


def test_what_is_told_holds_in_the_folder_of_whoever_calls(clone: Clone) -> None:
    """git runs the hook at the top, and git apply passes over what lies above the folder it is called in."""
    (clone.path / "sub").mkdir()
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    clone.write("a.txt", "teh draft\n")
    by_hand = clone.gate("check", cwd=clone.path / "sub").stdout
    by_git = clone.repository.run("-C", "sub", "commit", "-q", "-m", "x").stderr.decode()
    for told in (by_hand, by_git):
        way = re.search(r"or (git .*)", told)
        assert way, told
        command = way[1].replace("--index", "--cached")
        subprocess.run(command, shell=True, cwd=clone.path / "sub", env=git_env(), check=True)
        assert clone.git("show", ":a.txt") == "the"
        clone.git("apply", "--cached", "--reverse", shlex.split(command)[-1])


def test_the_whole_output_is_found_from_the_folder_of_whoever_commits(clone: Clone) -> None:
    rules = textwrap.dedent(RULES).replace("sed -i s/teh/the/ -- {files}", "sh -c 'echo all of it; false'")
    clone.repository.commit("Red", {"gate.toml": rules, "sub/a.txt": ""})
    clone.write("a.txt", "red\n")
    clone.git("add", "a.txt")
    for folder in (clone.path, clone.path / "sub"):
        said = clone.repository.run("-C", str(folder), "commit", "-q", "-m", "x").stderr.decode()
        log = re.search(r"whole output: (.*)", said)
        assert log, said
        assert (folder / log[1]).read_text() == "all of it\n"


def test_a_patch_fits_whatever_the_user_has_git_show_around_a_change(clone: Clone) -> None:
    clone.git("config", "diff.context", "0")
    clone.write("a.txt", LINES.replace("line 1", "teh 1"))
    clone.git("add", "a.txt")
    clone.write("a.txt", LINES.replace("line 1", "teh one and a half"))
    patch = re.search(r"git apply --cached (\S+)", clone.commit()[1])
    assert patch
    clone.git("apply", "--cached", patch[1])
    assert clone.git("show", ":a.txt") + "\n" == LINES.replace("line 1", "the 1")


def test_commit_a_and_commit_of_a_path_commit_what_was_mended(clone: Clone) -> None:
    clone.write("a.txt", LINES + "teh\n")
    assert clone.commit("-a")[0] == 0
    assert (clone.committed("a.txt"), clone.status()) == (LINES + "the\n", "")
    clone.write("a.txt", LINES + "teh path\n")
    clone.write("b.txt", LINES + "teh staged\n")
    clone.git("add", "b.txt")
    assert clone.commit("a.txt")[0] == 0
    assert clone.committed("a.txt") == LINES + "the path\n"
    assert clone.committed("b.txt") == LINES
    assert clone.git("show", ":b.txt") == LINES + "teh staged"
    assert clone.status() == "M  b.txt\n"


@pytest.mark.parametrize(
    "options", [("--skip-worktree",), ("--assume-unchanged",), ("--skip-worktree", "--assume-unchanged")]
)
@pytest.mark.parametrize("words", [(), ("-a",)])
def test_what_git_is_told_to_look_away_from_stays_out_of_commits(
    clone: Clone, options: Sequence[str], words: Sequence[str]
) -> None:
    clone.write("a.txt", LINES.replace("line 1", "teh 1"))
    clone.git("add", "a.txt")
    for option in options:
        clone.git("update-index", option, "a.txt")
    tag = clone.git("ls-files", "-v", "a.txt")
    clone.write("a.txt", LINES.replace("line 1", "teh 1").replace("line 7", "mine"))
    code, said = clone.commit(*words)
    assert code == 0, said
    assert clone.git("ls-files", "-v", "a.txt") == tag
    assert clone.read("a.txt") == LINES.replace("line 1", "the 1").replace("line 7", "mine")
    clone.write("b.txt", "the end\n")
    assert clone.commit("-a")[0] == 0
    assert clone.committed("a.txt") == LINES.replace("line 1", "the 1")


@pytest.mark.parametrize("words", [(), ("-a",), ("[a].txt",)])
def test_git_finds_nothing_altered_after_a_commit_that_was_mended(clone: Clone, words: Sequence[str]) -> None:
    """Not even those of its commands that never look into files."""
    clone.write("[a].txt", LINES + "teh\n")
    clone.git("add", "[a].txt")
    code, said = clone.commit(*words)
    assert code == 0, said
    assert clone.repository.run("diff-index", "--quiet", "HEAD").returncode == 0
    assert clone.repository.run("diff-files", "--quiet").returncode == 0
    clone.write("[a].txt", "the draft\n")
    assert clone.status() == " M [a].txt\n"


@pytest.mark.parametrize("words", [("-a",), ("-i", "a.txt"), ("a.txt",)])
def test_what_git_drops_with_a_commit_that_is_not_made_is_told_to_be_mended_in_the_work_tree(
    clone: Clone, words: Sequence[str]
) -> None:
    red = '[[check]]\nname = "red"\ncommand = "! grep RED {files}"\nstage = "pre-commit"\ninputs = ["*.txt"]\n'
    clone.repository.commit("Red", {"gate.toml": textwrap.dedent(RULES) + red})
    clone.write("a.txt", "teh RED\n")
    code, said = clone.commit(*words)
    assert (code, clone.read("a.txt"), clone.status()) == (1, "the RED\n", " M a.txt\n")
    assert "git drops what it has staged for a commit that is not made: a.txt: mended in the work tree alone" in said
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert (code, "git drops" in said) == (1, False)


def test_a_fix_of_an_index_that_git_drops_is_told_with_what_stages_it_first(clone: Clone) -> None:
    """A runner of hooks mends nothing at the commit."""
    hook = f"#!/bin/sh\nPRE_COMMIT=1 exec {shlex.quote(str(GATE))} check a.txt\n"
    (clone.path / ".git/hooks/pre-commit").write_text(hook)
    for way in ("gate check --fix", "git apply --index"):
        clone.write("a.txt", "teh\n")
        code, said = clone.commit("-a")
        told = re.search(
            r"it would mend a\.txt: (git add a\.txt), and (gate check --fix) does that, or (git apply .*)", said
        )
        assert told, said
        assert (code, clone.status()) == (1, " M a.txt\n")
        add, *ways = told.groups()
        (command,) = [each for each in ways if each.startswith(way)]
        script = f"{add} && {command.replace('gate', str(GATE), 1) if way.startswith('gate') else command}"
        subprocess.run(script, shell=True, cwd=clone.path, env=git_env(), check=True, capture_output=True)
        assert (clone.read("a.txt"), clone.git("show", ":a.txt")) == ("the\n", "the")
        clone.git("reset", "-q", "--hard")


def test_a_patch_of_an_index_that_git_drops_fits_what_is_told_to_be_staged(clone: Clone) -> None:
    rules = textwrap.dedent(RULES).replace("sed -i s/teh/the/ -- {files}", "sh -c 'test -L a.txt || ln -sf b.txt a.txt'")
    clone.repository.commit("Links", {"gate.toml": rules})
    clone.write("a.txt", "more\n")
    code, said = clone.commit("-a")
    told = re.search(r": git add a\.txt, and commit again, or git apply --cached (\S+)", said)
    assert told, said
    assert (code, clone.status()) == (1, " M a.txt\n")
    clone.git("add", "a.txt")
    clone.git("apply", "--cached", told[1])
    assert clone.git("ls-files", "-s", "a.txt").startswith("120000 ")


def test_a_fix_of_nothing_says_what_was_looked_at(clone: Clone) -> None:
    clone.write("a.txt", "teh\n")
    done = clone.gate("check", "--fix")
    assert (done.returncode, clone.read("a.txt")) == (0, "teh\n")
    assert "gate: nothing is staged, so there was nothing to mend: git add first" in done.stderr
    clone.git("add", "a.txt")
    assert "nothing to mend" not in clone.gate("check", "--fix").stderr
    assert "nothing to mend" not in clone.gate("check", "--fix").stderr
    assert "nothing to mend" not in clone.gate("check", "--fix", "--all-files").stderr


def test_without_a_hook_files_are_mended_when_it_is_asked_for(clone: Clone) -> None:
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    told = clone.gate("check")
    assert told.returncode == 1
    assert "it would mend a.txt: gate check --fix does that" in told.stdout
    assert (clone.read("a.txt"), clone.git("show", ":a.txt")) == ("teh\n", "teh")
    assert clone.gate("check", "--fix").returncode == 0
    assert (clone.read("a.txt"), clone.git("show", ":a.txt")) == ("the\n", "the")


def mended_by(told: dict[str, Any]) -> dict[str, list[str]]:
    return {each["name"]: each["mended"] for each in told["checks"]}


def test_what_was_mended_is_in_the_json_of_the_whole_and_of_each_check(clone: Clone) -> None:
    second_check(clone, "sed -i s/adn/and/")
    (clone.path / "sub").mkdir()
    clone.write("a.txt", "teh adn\n")
    clone.write("sub/new\nline \udcff.txt", "adn\n")
    clone.write("b.txt", "teh\n")
    clone.write("fine.txt", "the\n")
    clone.git("add", "-A")
    clone.write("b.txt", "teh draft\n")  # a fix meets it, and is not applied
    done = clone.gate("check", "--fix", "--json", cwd=clone.path / "sub")
    told = json.loads(done.stdout)
    names = ["a.txt", "sub/new\nline \udcff.txt"]
    assert (done.returncode, told["mended"], mended_by(told)) == (1, names, {"spelling": names[:1], "second": names})
    told = json.loads(clone.gate("check", "--json").stdout)
    assert (told["green"], told["mended"], mended_by(told)) == (False, [], {"spelling": [], "second": []})


def test_a_check_that_nothing_concerns_once_it_has_mended_still_tells_what_it_did(clone: Clone) -> None:
    """What it made of the file is what HEAD has."""
    clone.repository.commit("Fine", {"a.txt": "the\n"})
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    told = json.loads(clone.gate("check", "--fix", "--json").stdout)
    assert (told["mended"], mended_by(told)) == (["a.txt"], {"spelling": ["a.txt"]})
    assert told["checks"][0]["idle"] == "no files"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--all-files",), "--all-files"),
        (("--stage", "merge", "--only", "spelling"), "--stage merge"),
        (("a b.txt",), "'a b.txt'"),
        (("--", "-a.txt", "a.txt"), "-- -a.txt a.txt"),
        (("\x1b.txt",), "FILES"),
    ],
)
def test_the_command_that_is_told_of_looks_at_the_same_files(clone: Clone, words: Sequence[str], told: str) -> None:
    for name in ("a b.txt", "-a.txt", "\x1b.txt"):
        clone.write(name, "teh\n")
    clone.git("add", "-A")
    clone.git("commit", "-q", "--no-verify", "-m", "Past the hooks")
    assert f": gate check --fix {told} does that" in clone.gate("check", *words).stdout
    again = [*words] if told == "FILES" else shlex.split(told)
    assert clone.gate("check", "--fix", *again).returncode == 0
    assert clone.gate("check", *words).returncode == 0


def test_the_patch_that_is_told_of_applies_to_index_and_work_tree(clone: Clone) -> None:
    clone.write("a b.txt", "teh\n")
    clone.git("add", "a b.txt")
    patch = re.search(r"git apply --index (\S+)", clone.gate("check").stdout)
    assert patch
    clone.git("apply", "--index", patch[1])
    assert (clone.read("a b.txt"), clone.git("show", ":a b.txt")) == ("the\n", "the")


@pytest.mark.parametrize("name", ["-n.txt", "a'\"\t.txt", "ä.txt", "new\nline.txt", "\udcff.txt", "漢" * 83 + ".txt"])
def test_any_name_of_a_file_is_only_a_name(clone: Clone, name: str) -> None:
    clone.write(name, "teh\n")
    clone.git("add", "--", name)
    code, said = clone.commit()
    assert code == 0, said
    assert (clone.read(name), clone.status()) == ("the\n", "")


def test_files_of_all_names_are_mended_together_and_each_as_its_attributes_want_it(clone: Clone) -> None:
    names = ["-n.txt", " b.txt", "\tt.txt", "a'\"\\1.txt", "ä.txt", "x\ny.txt", "\r\n.txt", "\udcff.txt", "\n/ \r/.txt"]
    ends = dict.fromkeys(names, "\r\n") | {" lf.txt": "\n"}
    clone.repository.commit("Rule", {".gitattributes": '*.txt text eol=crlf\n" lf.txt" eol=lf\n'})
    for name, end in ends.items():
        clone.write(name, f"teh {name!a}{end}")
    clone.git("add", "-A")
    code, said = clone.commit()
    assert code == 0, said
    for name, end in ends.items():
        assert clone.committed(name) == f"the {name!a}\n"
        assert clone.read(name) == f"the {name!a}{end}"
    assert clone.status() == ""


def test_files_of_all_kinds_are_mended_together_and_what_must_be_left_alone_is_left(clone: Clone) -> None:
    # No command is told of links. This one names it all the same, and puts a file in its place.
    rules = textwrap.dedent(RULES).replace("{files}", "{files} `ls link.txt`")
    clone.repository.commit("Links", {"gate.toml": rules})
    clone.write("run.txt", "teh\n", executable=True)
    (clone.path / "link.txt").symlink_to("a.txt")
    for name in ("clean.txt", "draft.txt", "met.txt", "gone.txt"):
        clone.write(name, LINES.replace("line 1", "teh 1"))
    clone.git("add", "-A")
    clone.write("draft.txt", LINES.replace("line 1", "teh 1") + "draft\n")
    clone.write("met.txt", LINES.replace("line 1", "teh one and a half"))
    (clone.path / "gone.txt").unlink()
    code, said = clone.commit()
    patch = re.search(r"git apply --cached (\S+)", said)
    assert code == 1
    assert patch, said
    patched = re.findall(r"^diff --git a/(\S+)", (clone.path / patch[1]).read_text(), re.MULTILINE)
    assert patched == ["gone.txt", "link.txt", "link.txt", "met.txt"]  # git tells a link and a file in its place apart
    assert (clone.read("run.txt"), clone.git("show", ":run.txt")) == ("the\n", "the")
    assert clone.git("ls-files", "-s", "run.txt").startswith("100755")
    assert clone.read("clean.txt") + "draft\n" == clone.read("draft.txt") == LINES.replace("line 1", "the 1") + "draft\n"
    assert clone.git("ls-files", "-s", "link.txt").startswith("120000")
    assert (clone.path / "link.txt").readlink() == Path("a.txt")
    assert clone.read("met.txt") == LINES.replace("line 1", "teh one and a half")
    found = dict(line.split()[::-1] for line in clone.status().splitlines())
    plain = dict.fromkeys(("clean.txt", "link.txt", "run.txt"), "A")
    assert found == plain | {"draft.txt": "AM", "met.txt": "AM", "gone.txt": "AD"}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [("", "teh\n"), ("gate hygiene trailing-whitespace --fix {files}", "the \n")],
    ids=["process", "hygiene"],
)
def test_many_files_take_as_many_processes_of_git_as_a_few(clone: Clone, tmp_path: Path, command: str, wrong: str) -> None:
    if command:
        rule = f'[[check]]\nname = "blanks"\ncommand = "{command}"\nstage = "pre-commit"\ninputs = ["*.txt"]\nfix = true\n'
        clone.repository.commit("Rule", {"gate.toml": rule})
    counting, asked = tmp_path / "counting/git", tmp_path / "asked"
    counting.parent.mkdir()
    counting.write_text(f'#!/bin/sh\necho >>{asked}\nexec {shutil.which("git")} "$@"\n')
    counting.chmod(0o755)
    counts = []
    for turn, number in enumerate((2, 2, 40)):
        for at in range(number):
            clone.write(f"{turn}/{at}.txt", wrong)
        clone.git("add", "-A")
        asked.write_text("")
        assert clone.gate("check", "--fix", PATH=f"{counting.parent}:{os.environ['PATH']}").returncode == 0
        counts.append(len(asked.read_text()))
        assert clone.git("show", f":{turn}/1.txt") == "the"
        clone.git("commit", "-q", "--no-verify", "-m", "Mended")
    assert counts[2] == counts[1] > 0


def test_a_file_keeps_its_mode_and_its_name_for_git(clone: Clone) -> None:
    clone.write("run.txt", "teh\n", executable=True)
    (clone.path / "run.txt").chmod(0o750)
    clone.git("add", "run.txt")
    assert clone.commit()[0] == 0
    assert (clone.path / "run.txt").stat().st_mode & 0o777 == 0o750
    assert clone.git("ls-tree", "HEAD", "run.txt").startswith("100755")


def turned(content: str) -> str:
    return "".join(f"{line[::-1]}\n" for line in content.splitlines())


@pytest.mark.parametrize("rule", ["*.txt text eol=crlf", "*.txt filter=upper", "*.txt filter=rev"])
def test_a_file_is_as_its_attributes_want_it(clone: Clone, rule: str) -> None:
    """The filter keeps small letters for Git and shows large ones; the check sees what people see."""
    clone.git("config", "filter.upper.clean", "tr A-Z a-z")
    clone.git("config", "filter.upper.smudge", "tr a-z A-Z")
    for way in ("clean", "smudge"):
        clone.git("config", f"filter.rev.{way}", "rev")
    clone.repository.commit(
        "Rule", {".gitattributes": rule + "\n", "gate.toml": textwrap.dedent(RULES).replace("s/teh/the/", "s/teh/the/i")}
    )
    kept = turned if "rev" in rule else str
    shown = (lambda content: content.replace("\n", "\r\n")) if "crlf" in rule else str.upper if "upper" in rule else str
    clone.write("c.txt", shown("one\nteh two\nthree\nfour\nfive\n"))
    clone.git("add", "c.txt")
    clone.write("c.txt", shown("one\nteh two\nthree\nfour\nfive\ndraft\n"))
    code, said = clone.commit()
    assert code == 0, said
    assert clone.committed("c.txt") == kept("one\nthe two\nthree\nfour\nfive\n")
    assert clone.read("c.txt") == shown("one\nthe two\nthree\nfour\nfive\ndraft\n")
    assert clone.status() == " M c.txt\n"


@pytest.mark.parametrize(
    ("rule", "autocrlf", "end", "after"),
    [
        ("* text=auto", "false", "\r\n", "\n"),
        ("", "input", "\r\n", "\n"),
        ("", "true", "\n", "\r\n"),
        ("*.txt text eol=crlf", "false", "\n", "\r\n"),
    ],
)
def test_a_file_with_other_line_ends_than_git_writes_has_nothing_unstaged(
    clone: Clone, rule: str, autocrlf: str, end: str, after: str
) -> None:
    clone.git("config", "core.autocrlf", autocrlf)
    clone.repository.commit("Rule", {".gitattributes": rule + "\n"})
    names = ["new.txt", '\n"ä.txt']
    for name in names:
        clone.write(name, f"one{end}teh{end}")
    clone.write("draft.txt", f"one{end}teh{end}")
    clone.git("add", "-A")
    clone.write("draft.txt", f"one{end}teh draft{end}")
    code, said = clone.commit()
    assert code == 1
    assert "it would mend draft.txt, where it meets lines that are not staged" in said
    clone.git("rm", "-q", "-f", "draft.txt")
    assert clone.commit()[0] == 0
    for name in names:
        assert (clone.committed(name), clone.read(name)) == ("one\nthe\n", f"one{after}the{after}")
    assert clone.status() == ""


def test_what_a_filter_keeps_from_git_stays_in_the_file(clone: Clone) -> None:
    """As outputs of notebooks, or secrets: git add makes what is staged of the file, and yet there is more in it."""
    clone.git("config", "filter.strip.clean", "sed /^OUTPUT/d")
    clone.repository.commit("Filter", {".gitattributes": "*.txt filter=strip\n"})
    content = "one\nteh\nOUTPUT hours of work\nfour\nfive\n"
    clone.write("a.txt", content)
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert code == 1
    assert "it would mend a.txt, where" in said
    assert clone.read("a.txt") == content


def test_a_link_in_place_of_a_file_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    (tmp_path / "elsewhere").write_text("teh\n")
    (clone.path / "a.txt").unlink()
    (clone.path / "a.txt").symlink_to(tmp_path / "elsewhere")
    code, said = clone.commit()
    assert code == 1
    assert "git apply --cached" in said
    assert (tmp_path / "elsewhere").read_text() == "teh\n"


def test_nothing_is_written_through_a_link_in_place_of_a_folder(clone: Clone, tmp_path: Path) -> None:
    clone.write("d/a.txt", "teh\n")
    clone.git("add", "d/a.txt")
    (clone.path / "d").rename(tmp_path / "elsewhere")
    (clone.path / "d").symlink_to(tmp_path / "elsewhere")
    code, said = clone.commit()
    assert code == 1
    assert "git apply --cached" in said
    assert (tmp_path / "elsewhere/a.txt").read_text() == "teh\n"


def test_a_file_that_was_deleted_after_it_was_staged_does_not_come_back(clone: Clone) -> None:
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    (clone.path / "a.txt").unlink()
    assert clone.commit()[0] == 1
    assert not (clone.path / "a.txt").exists()


# --- without a check ----------------------------------------------------------------------------------------------------


@pytest.fixture
def staged(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Staged:
    """a.txt is staged with an error."""
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    monkeypatch.chdir(clone.path)
    found = look()
    assert found is not None
    return found


def mend(clone: Clone, content: str | None, path: str = "a.txt") -> Mended:
    mended = None if content is None else clone.git("hash-object", "-w", "--stdin", stdin=content.encode())
    return Mended(path, "100644", clone.git("rev-parse", f":{path}"), mended, "100644")


def test_what_a_check_removed_is_never_removed_for_it(clone: Clone, staged: Staged) -> None:
    applied = apply_fixes(staged, [mend(clone, None)])
    assert applied.paths == ()
    assert b"deleted file mode 100644" in applied.patch
    assert (clone.read("a.txt"), clone.git("show", ":a.txt")) == ("teh\n", "teh")


def test_bytes_that_no_merge_knows_are_left_alone_when_both_sides_altered_them(clone: Clone, staged: Staged) -> None:
    clone.write("a.txt", "\0draft\n")
    applied = apply_fixes(staged, [mend(clone, "\0the\n")])
    assert (applied.paths, clone.read("a.txt")) == ((), "\0draft\n")
    assert patch_of(staged, [mend(clone, "\0the\n")]) == applied.patch != b""


def test_what_is_mended_in_the_work_tree_already_is_staged(clone: Clone, staged: Staged) -> None:
    clone.write("a.txt", "the\n")
    assert apply_fixes(staged, [mend(clone, "the\n")]) == (("a.txt",), b"")
    assert clone.git("show", ":a.txt") == "the"
    assert clone.status() == "M  a.txt\n"


# --- meanwhile ----------------------------------------------------------------------------------------------------------


def with_rule(clone: Clone, script: str) -> None:
    """The check mends, and does this in the repository, as its owner may while a check runs."""
    (clone.path / ".git/meanwhile").write_text(f"cd {clone.path}\n{script}\n")
    command = f"sh -c 'sed -i s/teh/the/ -- \"$@\"; sh {clone.path}/.git/meanwhile' - {{files}}"
    rules = textwrap.dedent(RULES).replace('"sed -i s/teh/the/ -- {files}"', json.dumps(command))
    clone.repository.commit("Rules", {"gate.toml": rules})


def test_what_is_taken_from_the_index_meanwhile_is_not_staged_again(clone: Clone) -> None:
    with_rule(clone, "git restore --staged a.txt")
    clone.write("a.txt", "teh\n" + LINES)
    clone.write("b.txt", "teh\n" + LINES)
    clone.git("add", "a.txt", "b.txt")
    code, said = clone.commit()
    assert code == 0, said
    assert "mended and staged: b.txt" in said
    assert clone.git("show", "--format=", "--name-only", "HEAD") == "b.txt"
    assert clone.read("a.txt") == "teh\n" + LINES
    assert clone.status() == " M a.txt\n"


def test_what_is_staged_meanwhile_stays_staged(clone: Clone) -> None:
    with_rule(clone, "grep -q mine a.txt || { echo mine >> a.txt; git add a.txt; }")
    clone.write("a.txt", "teh\n" + LINES)
    clone.git("add", "a.txt")
    assert clone.commit()[0] == 1
    assert clone.read("a.txt") == "teh\n" + LINES + "mine\n"
    assert clone.git("show", ":a.txt") == "teh\n" + LINES + "mine"
    assert clone.commit()[0] == 0
    assert clone.committed("a.txt") == "the\n" + LINES + "mine\n"


def test_an_interruption_while_files_are_mended_waits_for_all_of_them(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.path)
    staged = look()
    assert staged is not None
    given = [mend(clone, "mended\n", path) for path in ("a.txt", "b.txt")]
    replace = fixes._replace

    def interrupted(*words: Any) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return replace(*words)

    monkeypatch.setattr(fixes, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply_fixes(staged, given)
    assert (clone.read("a.txt"), clone.read("b.txt"), clone.status()) == ("mended\n", "mended\n", "M  a.txt\nM  b.txt\n")


def test_what_was_mended_before_a_file_that_cannot_be_is_told_and_staged_with_it(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by permissions, which root ignores."""
    monkeypatch.chdir(clone.path)
    staged = look()
    assert staged is not None
    given = [mend(clone, "mended\n", path) for path in ("a.txt", "b.txt", "gate.toml")]
    replace = fixes._replace

    def full(staged: Staged, file: Path, *words: Any) -> bool:
        if file.name == "gate.toml":
            raise OSError(errno.EROFS, "Read-only file system")
        return replace(staged, file, *words)

    monkeypatch.setattr(fixes, "_replace", full)
    told = r"^gate\.toml cannot be mended: Read-only .*; nothing was staged; .*; a\.txt, b\.txt: mended in the work tree"
    with pytest.raises(Unavailable, match=told):
        apply_fixes(staged, given)
    monkeypatch.setattr(fixes, "_replace", replace)
    assert clone.status() == " M a.txt\n M b.txt\n"
    assert apply_fixes(staged, given).paths == ("a.txt", "b.txt", "gate.toml")
    assert clone.status() == "M  a.txt\nM  b.txt\nM  gate.toml\n"


def test_a_merge_that_git_made_before_it_was_mended_is_left_to_git_commit(clone: Clone) -> None:
    """git takes the tree of a merge before it calls the hook: a mended index would stay behind, and HEAD be as it was."""
    assert clone.gate("install").returncode == 0
    clone.git("checkout", "-q", "-b", "side")
    clone.write("a.txt", "teh\n" + LINES)
    clone.git("commit", "-q", "-a", "--no-verify", "-m", "Side")
    clone.git("checkout", "-q", "main")
    clone.repository.commit("Main", {"new.txt": "new\n"})
    done = clone.repository.run("merge", "--no-edit", "side")
    assert done.returncode == 1
    assert "git commit has all in it" in (done.stdout + done.stderr).decode()
    clone.git("commit", "-q", "--no-edit")
    assert (clone.committed("a.txt"), clone.status()) == ("the\n" + LINES, "")
    assert clone.git("rev-parse", "HEAD^2") == clone.git("rev-parse", "side")


def test_nothing_is_mended_on_top_of_what_is_red(clone: Clone) -> None:
    syntax = '[[check]]\nname = "syntax"\ncommand = "! grep -q BROKEN a.txt"\nstage = "pre-commit"\ninputs = ["*.txt"]\n'
    clone.repository.commit("Needs", {"gate.toml": textwrap.dedent(RULES) + 'needs = ["syntax"]\n' + syntax})
    clone.write("a.txt", "teh BROKEN\n")
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert (code, clone.read("a.txt"), clone.status()) == (1, "teh BROKEN\n", "M  a.txt\n")
    assert "syntax    RED" in said
    assert "it needs syntax" in said
    clone.write("a.txt", "teh end\n")
    clone.git("add", "a.txt")
    assert clone.commit()[0] == 0
    assert clone.committed("a.txt") == "the end\n"


def test_a_commit_takes_no_file_that_its_owner_did_not_stage(clone: Clone) -> None:
    clone.repository.commit("All", {"gate.toml": textwrap.dedent(RULES).replace("-- {files}", "*.txt"), "old.txt": "teh\n"})
    clone.write("new.txt", "teh\n")
    clone.git("add", "new.txt")
    code, said = clone.commit()
    assert (code, clone.read("new.txt"), clone.read("old.txt"), clone.status()) == (1, "the\n", "teh\n", "A  new.txt\n")
    assert "it would mend old.txt too, of which nothing is staged: gate check --fix --all-files does that" in said
    assert clone.gate("check", "--fix", "--all-files").returncode == 0
    assert clone.status() == "A  new.txt\nM  old.txt\n"


def test_what_would_be_mended_only_where_nothing_is_staged_is_left_as_a_patch(clone: Clone) -> None:
    clone.repository.commit("All", {"gate.toml": textwrap.dedent(RULES).replace("-- {files}", "*.txt"), "old.txt": "teh\n"})
    clone.write("new.txt", "the\n")
    clone.git("add", "new.txt")
    code, said = clone.commit()
    assert code == 1
    patch = re.search(r"of which nothing is staged: gate check .* or git apply --index (\S+)", said)
    assert patch
    clone.git("apply", "--index", patch[1])
    assert clone.read("old.txt") == "the\n"


def test_a_commit_of_which_nothing_is_left_is_not_made(clone: Clone) -> None:
    clone.repository.commit("Right", {"a.txt": "the\n"})
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    head = clone.git("rev-parse", "HEAD")
    code, said = clone.commit()
    assert (code, clone.git("rev-parse", "HEAD"), clone.status()) == (1, head, "")
    assert "gate: a.txt was mended to what HEAD has, and nothing is left to commit" in said


def test_the_lock_of_a_git_that_is_gone_is_not_made_anew(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would remove it any more."""
    monkeypatch.chdir(clone.path)
    lock = clone.path / ".git/index.lock"
    shutil.copyfile(clone.path / ".git/index", lock)
    monkeypatch.setenv("GIT_INDEX_FILE", str(lock))
    staged = look()
    assert staged is not None
    replace = fixes._replace

    def git_dies(*words: Any) -> bool:
        lock.unlink()
        return replace(*words)

    with monkeypatch.context() as during:
        during.setattr(fixes, "_replace", git_dies)
        apply_fixes(staged, [mend(clone, "mended\n")])
    assert not lock.exists()
    assert clone.read("a.txt") == "mended\n"


def test_a_fix_waits_for_whoever_looks_at_the_repository(
    clone: Clone, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = clone.path / ".git/index.lock"
    lock.touch()
    monkeypatch.setattr(fixes, "_LOCK_HELD_S", 0.0)
    with pytest.raises(Unavailable, match=r"index\.lock': File exists\.; the files are mended, and not staged: git add"):
        apply_fixes(staged, [mend(clone, "once\n")])
    monkeypatch.setattr(fixes, "_LOCK_HELD_S", 60.0)
    monkeypatch.setattr(fixes.time, "sleep", lambda _: lock.unlink())
    clone.write("a.txt", clone.git("show", ":a.txt") + "\n")
    assert apply_fixes(staged, [mend(clone, "mended\n")]).paths == ("a.txt",)
    assert clone.git("show", ":a.txt") == "mended"


@pytest.mark.parametrize("words", [(), ("-a",)])
def test_nothing_is_mended_for_a_git_that_was_ended(clone: Clone, words: Sequence[str]) -> None:
    """A program with windows ends git alone, and neither its group nor us."""
    slow = f'"sh -c \'echo $$ > {clone.path}/.git/running; sleep 60; sed -i s/teh/the/ -- \\"$@\\"\' - {{files}}"'
    rules = textwrap.dedent(RULES).replace('"sed -i s/teh/the/ -- {files}"', slow)
    clone.repository.commit("Slow", {"gate.toml": rules})
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    running = clone.path / ".git/running"
    command = ["git", "commit", "-q", "-m", "x", *words]
    with subprocess.Popen(command, cwd=clone.path, env=git_env(), stderr=subprocess.PIPE, start_new_session=True) as git:
        wait_for(lambda: running.exists() and running.read_text().endswith("\n"))
        git.terminate()
        assert git.stderr is not None
        said = git.stderr.read()  # to the end of the hook as well, which has it open
    assert b"gate: interrupted" in said
    assert not processes.is_alive(int(running.read_text()))
    assert (clone.read("a.txt"), clone.status()) == ("teh\n", "M  a.txt\n")
    assert not (clone.path / ".git/index.lock").exists()


@pytest.mark.parametrize("folder", ["", "sub/"])
def test_a_check_that_rewrites_what_it_is_given_is_red_unless_it_may(clone: Clone, folder: str) -> None:
    """Else it would be green, and what it looked at not be right."""
    rules = textwrap.dedent(RULES).replace("fix = true\n", "")
    clone.repository.commit("No fix", {"gate.toml": '[nested]\nfolders = ["sub"]\n' + ("" if folder else rules)})
    if folder:
        clone.repository.commit("Nested", {"sub/gate.toml": rules})
    clone.write(f"{folder}a.txt", "teh\n")
    clone.git("add", f"{folder}a.txt")
    code, said = clone.commit()
    assert (code, clone.read(f"{folder}a.txt"), clone.status().split()[1]) == (1, "teh\n", f"{folder}a.txt")
    assert f"it rewrote {folder}a.txt, which reached nobody: give the check fix = true, or have it only look" in said


def test_a_check_may_write_what_it_is_not_given(clone: Clone) -> None:
    command = '"touch a.txt; echo more >> b.txt; : {files}"'
    rules = textwrap.dedent(RULES).replace("fix = true\n", "").replace('"sed -i s/teh/the/ -- {files}"', command)
    clone.repository.commit("Other", {"gate.toml": rules})
    clone.write("a.txt", "teh\n")
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert code == 0, said


def test_hygiene_that_may_mend_nothing_says_so(clone: Clone) -> None:
    rules = textwrap.dedent(RULES).replace("fix = true\n", "")
    rules = rules.replace("sed -i s/teh/the/ -- {files}", "gate hygiene trailing-whitespace --fix -- {files}")
    clone.repository.commit("Hygiene", {"gate.toml": rules})
    clone.write("a.txt", "blank \n")
    clone.git("add", "a.txt")
    code, said = clone.commit()
    assert (code, clone.read("a.txt")) == (1, "blank \n")
    assert "1 finding; what --fix mends reaches nobody unless the check has fix = true" in said
