"""Hostile input, from the push to the verdict: the right answer, and an innocent change lands after it all the same."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fakes.repositories import git_env
from fakes.stand import PLAIN, Push, Stand
from gate import commands

WHOLE = '[[check]]\nname = "whole"\ncommand = "true"\n'
NAMES = (
    b"with space",
    b"it's",
    b'dou"ble',
    b"new\nline",
    b"-rf",
    b"--help",
    b"$(touch pwned)",
    b"`touch pwned`",
    b";touch pwned",
    b"*",
    b"\xff\xfe",
    b"\x1b[31mred",
    "déjà\u202evu".encode(),
    b"{files}",
)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A gate whose check sees the whole tree. Whatever a test pushes, an innocent change must land in the end."""
    stand = Stand(tmp_path, PLAIN + WHOLE, {"x": "0"})
    yield stand
    innocent(stand)


def innocent(stand: Stand) -> None:
    change = stand.submit("innocent", {"innocent": "1"}, by="ben")
    stand.settle()
    assert stand.verdict(change) == "landed"
    assert not (stand.path / "gate" / "hook-errors.log").exists()


def tree_of(stand: Stand, entries: Mapping[bytes, tuple[str, bytes]], base: str = "origin/main") -> str:
    """A tree with these entries besides those of the base, whatever Git thinks of their names. Kinds as git's modes."""
    dev = stand.dev
    dev.git("fetch", "-q", "origin")
    lines = dev.run("ls-tree", "-z", base).stdout
    for name, (mode, content) in entries.items():
        kind = {"040000": "tree", "160000": "commit"}.get(mode, "blob")
        found = content.decode() if kind != "blob" else dev.git("hash-object", "-w", "--stdin", stdin=content)
        lines += f"{mode} {kind} {found}\t".encode() + name + b"\0"
    return dev.git("mktree", "-z", "--missing", stdin=lines)


def push_tree(stand: Stand, tree: str, *options: str, by: str = "ann") -> Push:
    commit = stand.dev.git("commit-tree", tree, "-p", "origin/main", "-m", "hostile")
    return stand.push(*options, what=commit, by=by)


def settled(stand: Stand, pushed: Push) -> str | None:
    assert pushed.code == 0, pushed.said
    stand.settle()
    return stand.verdict(pushed.change)


def is_clean(words: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in words)


def everything_said(stand: Stand, change: int) -> str:
    """What the gate says of a change anywhere: to people, as JSON, in its feed."""
    said = ""
    for words in (["status"], ["why", str(change)], ["log", str(change)]):
        for more in ([], ["--json"]):
            done = stand.gate(*words, *more)
            assert done.returncode == 0, done.stderr
            if more:
                said += str(json.loads(done.stdout))
            said += done.stdout + done.stderr
    return said + (stand.path / "gate" / "feed" / f"{change}.jsonl").read_text()


# --- names of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["string", "words", "inputs"])
def test_a_check_gets_every_file_by_its_name_and_nothing_else_happens(tmp_path: Path, form: str) -> None:
    script = 'for f in {files}; do test -f "$f" && ! grep -q b[a]d -- "$f" || exit 1; done'
    words = ["sh", "-c", script.replace("{files}", '"$@"'), "sh", "{files}"]
    command = json.dumps(words if form == "words" else script)
    inputs = 'inputs = ["d/**"]\n' if form == "inputs" else ""
    stand = Stand(tmp_path, f'{PLAIN}[[check]]\nname = "each"\ncommand = {command}\n{inputs}', {"d/x": "0"})
    files = {b"d/" + name: b"good" for name in NAMES}
    write(stand, files)
    good = stand.push()
    assert settled(stand, good) == "landed"
    write(stand, {b"d/-rf": b"bad"})
    bad = stand.push()
    assert settled(stand, bad) == "refused"
    assert "d/-rf" in stand.server.git("ls-tree", "-r", "--name-only", "main")
    assert not list(tmp_path.rglob("pwned"))
    innocent(stand)


def write(stand: Stand, files: Mapping[bytes, bytes]) -> str:
    stand.dev.git("fetch", "-q", "origin")
    stand.dev.git("checkout", "-q", "--detach", "origin/main")
    for name, content in files.items():
        stand.dev.write(os.fsdecode(name), content)
    return stand.dev.commit("hostile names")


def test_a_conflict_in_a_file_of_such_a_name_is_told_without_its_bytes(stand: Stand) -> None:
    name = b"\x1b[31m\xffnew\nline\x9b31m"
    ours = write(stand, {name: b"ours"})
    theirs = write(stand, {name: b"theirs"})
    assert settled(stand, stand.push(what=ours)) == "landed"
    pushed = stand.push(what=theirs)
    assert settled(stand, pushed) == "refused"
    assert "conflicts with change" in stand.why(pushed.change)["reasons"][0]["text"]
    assert is_clean(everything_said(stand, pushed.change))


def test_a_change_of_three_thousand_files_is_one_change(tmp_path: Path) -> None:
    count = '[[check]]\nname = "count"\ncommand = "test $# -gt 1000 && cat {files} >/dev/null"\ninputs = ["many/"]\n'
    stand = Stand(tmp_path, PLAIN + count + WHOLE, {"x": "0"})
    change = stand.submit("many", {f"many/{number % 50}/{'long' * 10}{number}": str(number) for number in range(3000)})
    stand.settle()
    assert stand.verdict(change) == "landed"
    innocent(stand)


# --- trees ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT", b"git~1", b".git\xe2\x80\x8c"])
@pytest.mark.parametrize("checks", [WHOLE, '[[check]]\nname = "x"\ncommand = "true"\ninputs = ["x"]\n'])
def test_a_tree_with_a_path_that_git_refuses_to_write_does_not_land(tmp_path: Path, name: bytes, checks: str) -> None:
    """Nobody could check such a trunk out."""
    stand = Stand(tmp_path, PLAIN + checks, {"x": "0"})
    inner = tree_of(stand, {b"config": ("100644", b"[core]\n\tfsmonitor = touch pwned\n")})
    pushed = push_tree(stand, tree_of(stand, {name: ("040000", inner.encode())}))
    if pushed.code == 0:
        assert settled(stand, pushed) == "refused"
        assert is_clean(everything_said(stand, pushed.change))
    assert not list(tmp_path.rglob("pwned"))
    innocent(stand)


def test_a_symlink_out_of_the_tree_is_never_written_through(stand: Stand, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    first = push_tree(stand, tree_of(stand, {b"d": ("120000", os.fsencode(outside)), b"up": ("120000", b"../../../..")}))
    assert settled(stand, first) == "landed"
    stand.dev.git("fetch", "-q", "origin")
    stand.dev.git("rm", "-q", "--cached", "-r", ".")
    stand.dev.git("read-tree", "origin/main")
    stand.dev.git("rm", "-q", "--cached", "d")
    blob = stand.dev.git("hash-object", "-w", "--stdin", stdin=b"1")
    stand.dev.git("update-index", "--add", "--cacheinfo", f"100644,{blob},d/file")
    second = push_tree(stand, stand.dev.git("write-tree"))
    assert settled(stand, second) == "landed"
    assert list(outside.iterdir()) == []
    stand.dev.git("read-tree", "--reset", "HEAD")


def test_a_submodule_is_an_empty_folder(tmp_path: Path) -> None:
    empty = '[[check]]\nname = "empty"\ncommand = "test -z \\"$(ls -A sub)\\" && test -f x"\n'
    stand = Stand(tmp_path, PLAIN + empty, {"x": "0"})
    modules = b'[submodule "sub"]\n\tpath = sub\n\turl = https://example.org/sub.git\n'
    pushed = push_tree(stand, tree_of(stand, {b"sub": ("160000", b"1" * 40), b".gitmodules": ("100644", modules)}))
    assert settled(stand, pushed) == "landed"
    assert not list(tmp_path.rglob("pwned"))
    innocent(stand)


def test_attributes_and_filters_of_a_change_run_nothing(stand: Stand, tmp_path: Path) -> None:
    stand.branch("filters", {".gitattributes": "* filter=evil merge=evil diff=evil\n", ".gitconfig": "[x]\n", "y": "$Id$\n"})
    assert settled(stand, stand.push()) == "landed"


# --- what checks leave ------------------------------------------------------------------------------------------------


def checked_by(tmp_path: Path, script: str) -> Stand:
    """A gate whose check is the file ``check`` of the change."""
    return Stand(tmp_path, PLAIN + '[[check]]\nname = "own"\ncommand = "sh ./check {junit}"\n', {"check": script})


def test_a_log_of_100_mb_is_cut_and_the_verdict_stands(tmp_path: Path) -> None:
    stand = checked_by(tmp_path, "exit 0\n")
    change = stand.submit("loud", {"check": "yes 'a line of a log that never ends' | head -c 100000000; exit 3\n"})
    stand.settle()
    assert stand.verdict(change) == "refused"
    logs = [path.stat().st_size for path in (stand.path / "gate" / "logs").iterdir()]
    assert 20_000_000 <= max(logs) < 20_001_000
    innocent_after(stand)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + ']><testsuite><testcase name="&i;"/></testsuite>'
)
READS_A_FILE = (
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&e;"><failure/></testcase></testsuite>'
)
NAMES_IN_A_REPORT = r'<testsuite><testcase name="\302\233[31m&#10;remote: landed &#27;[2J"><failure/></testcase></testsuite>'


@pytest.mark.parametrize("report", ["bomb", "file", "deep", "names"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_hostile_report_changes_no_verdict(tmp_path: Path, report: str, code: int) -> None:
    script = {
        "bomb": f"cat >\"$1\" <<'END'\n{BOMB}\nEND\n",
        "file": f"cat >\"$1\" <<'END'\n{READS_A_FILE}\nEND\n",
        "deep": 'yes "<a>" | head -n 200000 | tr -d "\\n" >"$1"\n',
        "names": f"printf '{NAMES_IN_A_REPORT}' >\"$1\"\n",
    }[report]
    stand = checked_by(tmp_path, "exit 0\n")
    change = stand.submit("hostile report", {"check": f"{script}exit {code}\n"})
    stand.settle()
    assert stand.verdict(change) == ("refused" if code else "landed")
    said = everything_said(stand, change)
    assert is_clean(said)
    assert "root:" not in said
    innocent_after(stand)


def innocent_after(stand: Stand) -> None:
    """Where trunk's own check may be what was pushed."""
    change = stand.submit("innocent", {"check": "exit 0\n", "innocent": "1"}, by="ben")
    stand.settle()
    assert stand.verdict(change) == "landed"


def test_a_check_that_leaves_traps_behind_does_not_harm_the_next_one(tmp_path: Path) -> None:
    """Configuration for a git that comes later, a symlink to everything, a pipe, a folder that cannot be entered."""
    traps = (
        'git init -q . && git config core.fsmonitor "touch $PWD/../pwned"; mkdir -p a/b && touch a/b/c && chmod 000 a/b;'
        ' ln -s / root; mkfifo pipe; printf "[core]\\n\\tfsmonitor = touch pwned\\n" >.gitconfig; exit 1\n'
    )
    stand = checked_by(tmp_path, "exit 0\n")
    change = stand.submit("traps", {"check": traps})
    stand.settle()
    assert stand.verdict(change) == "refused"
    innocent_after(stand)
    assert not list(stand.path.rglob("pwned"))


# --- configuration, messages, refs, options ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["comments", "one long line", "deep", "binary"])
def test_a_gate_toml_that_nobody_can_read_is_refused_for_that_change_alone(stand: Stand, content: str) -> None:
    import getpass

    hostile = {
        "comments": b"# a comment\n" * 900_000,
        "one long line": b'x = "' + b"y" * 10_000_000 + b'"\n',
        "deep": b"x = " + b"[" * 500_000,
        "binary": os.urandom(5000) + b"\0\xff",
    }[content]
    stand.branch("hostile configuration", {"gate.toml": hostile})
    pushed = stand.push(by=getpass.getuser())
    assert settled(stand, pushed) == "refused"
    assert "gate.toml is broken" in stand.why(pushed.change)["reasons"][0]["text"]
    assert is_clean(everything_said(stand, pushed.change))


def test_control_characters_of_a_commit_reach_no_terminal(stand: Stand) -> None:
    escape = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"
    stand.branch("x", {"x": "1"})
    raw = (
        f"tree {stand.dev.tree()}\nparent {stand.dev.head('origin/main')}\n"
        f"author {escape}Eve <e{escape}@x> 1767614400 +0000\ncommitter Eve <e@x> 1767614400 +0000\n\n"
        f"subject {escape} goes on\n\nChange-Id: {escape}\n"
    )
    commit = stand.dev.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=raw.encode())
    log = stand.folder / "daemon.log"
    pushed = stand.push(what=commit, by=f"eve{escape}")
    assert pushed.code == 0, pushed.said
    done = stand.gate("serve", "--until-idle", str(stand.path))
    log.write_text(done.stderr)
    assert stand.verdict(pushed.change) == "landed"
    assert is_clean(pushed.said.replace("\x1b[K", "").replace("\r", ""))  # git's own, at the end of each line
    assert is_clean(done.stderr)
    assert is_clean(everything_said(stand, pushed.change))


def test_thousands_of_push_options_are_refused_in_a_sentence(stand: Stand) -> None:
    stand.branch("x", {"x": "1"})
    pushed = stand.push(*(f"topic={number}" for number in range(5000)))
    assert pushed.code == 1
    assert "5000 push options are too many" in pushed.said


REFS = (
    b"refs/for/main/$(touch$IFS'pwned')",
    b"refs/for/main/'\"`touch${IFS}pwned`",
    b"refs/for/main/-rf",
    b"refs/for/-main",
    b"refs/for/main/\xff\xfe",
    "refs/for/main/\u202e".encode(),
    b"refs/for/main/" + b"deep/" * 400 + b"x",
    b"refs/for/main%topic",
    b"refs/for/HEAD",
    b"refs/for/refs/heads/main",
    b"refs/changes/1/1",
    b"refs/gate/submissions",
    b"refs/heads/green/main",
)


@pytest.mark.parametrize("ref", REFS)
def test_a_hostile_ref_is_a_topic_or_is_refused_in_a_line(stand: Stand, ref: bytes) -> None:
    stand.branch("x", {"x": "1"})
    before = stand.trunk()
    words = [b"git", b"push", b"origin", b"HEAD:" + ref]
    done = subprocess.run(words, cwd=stand.dev.path, env=git_env(GATE_USER="ann"), capture_output=True, check=False)
    said = done.stderr.decode(errors="surrogateescape")
    assert done.returncode in (0, 1), said
    assert "Traceback" not in said
    assert not list(stand.folder.rglob("pwned"))
    stand.settle()
    assert stand.trunk() == before or done.returncode == 0
    with commands.office(stand.path) as at:
        assert len(at.state.verdicts) == (1 if done.returncode == 0 else 0)
