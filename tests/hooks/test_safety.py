"""What hooks must never do: lose an edit, commit what was not checked, obey the name of a file.

Real commits through what gate install has written: killed and interrupted at chosen moments, side by side, with file names,
numbers of files and repositories of the unpleasant kinds.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from fakes.repositories import Repository, git_env

GATE = Path(sys.executable).with_name("gate")

# What is committed, staged and in the work tree: the fix is for the first line, the edit that is not staged in the last.
LINES = "first\n" + "line\n" * 8 + "last\n"
STAGED = LINES.replace("first", "BAD")
MENDED = STAGED.replace("BAD", "GOOD")
EDITED = STAGED.replace("last", "EDIT")

# Both checks tell when they begin, where somebody asked for that moment.
RULES = """
    [[check]]
    name = "mend"
    command = "{pause} mending && sed -i s/BAD/GOOD/ {{files}}"
    stage = "pre-commit"
    inputs = ["*.py"]
    fix = true

    [[check]]
    name = "look"
    command = "! grep BAD {{files}} || exit 0; {pause} checking && ! grep WRONG {{files}}"
    stage = "pre-commit"
    inputs = ["*.py"]
"""

# pause NAME: goes on at once, but where there is a FIFO of this name: there it tells its process number, and stays.
PAUSE = """#!/bin/sh
[ -p "${0%/*}/$1" ] || exit 0
echo $$ > "${0%/*}/$1"
exec sleep 1000
"""


class State(NamedTuple):
    """All that can get lost. files: the whole work tree. index: as ``git ls-files --stage`` tells it."""

    head: str
    index: str
    files: dict[str, bytes]
    stash: str


class Desk:
    """A developer's repository: something staged, unstaged edits there and elsewhere, new files, a stash, our hooks."""

    def __init__(self, repository: Repository, moments: Path) -> None:
        self.repository = repository
        self.path = repository.path
        self.moments = moments

    def state(self) -> State:
        files = {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file() and ".git" not in path.relative_to(self.path).parts
        }
        git = self.repository.git
        return State(git("rev-parse", "HEAD"), git("ls-files", "--stage"), files, git("reflog", "--format=%H %gs", "stash"))

    def commit(self, *words: str) -> "Commit":
        """Begin a commit, in a process group of its own as a shell does."""
        return Commit(self.path, *words)

    def committed(self, *words: str) -> State:
        """What there is after a commit that nobody disturbs."""
        code, said = self.commit(*words).end()
        assert code == 0, said
        return self.state()

    def rule(self, rules: str) -> None:
        """Commit this gate.toml, and nothing else."""
        self.repository.write("gate.toml", textwrap.dedent(rules))
        self.repository.git("commit", "-q", "--no-verify", "-m", "Rules", "--", "gate.toml")

    def pause_at(self, moment: str) -> "Moment":
        return Moment(self.moments / moment)


class Moment:
    """A FIFO by which a process tells that it has come this far."""

    def __init__(self, fifo: Path) -> None:
        self._fifo = fifo
        os.mkfifo(fifo)

    def reached(self) -> int:
        """Wait for it. Returns the number of the process, which goes no further. Later ones do not stop here."""
        with self._fifo.open() as fifo:
            pid = int(fifo.readline())
        self._fifo.unlink()
        return pid


class Commit:
    """``git commit`` under way. It is over when nothing that could still write is left of it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._living, living = os.pipe()  # the hook has it from git, and what the hook starts has not
        self.process = subprocess.Popen(
            ["git", "commit", "-q", "-m", "Work", *words],
            cwd=folder,
            env=git_env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(living,),
        )
        os.close(living)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what was said."""
        said, _ = self.process.communicate(timeout=60)
        os.read(self._living, 1)
        os.close(self._living)
        return self.process.returncode, said.decode()

    def hook(self) -> int:
        """The number of the process that git waits for, which the hook has become."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def program(path: Path, script: str) -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path


def install(repository: Repository) -> None:
    """The hooks that run before a commit: what runs after it would take part in what is observed here."""
    kinds = ("--hook-type", "pre-commit", "--hook-type", "pre-merge-commit", "--hook-type", "commit-msg")
    subprocess.run([GATE, "install", *kinds], cwd=repository.path, env=git_env(), capture_output=True, check=True)


@pytest.fixture
def desk(repository: Repository, tmp_path: Path) -> Desk:
    moments = tmp_path / "moments"
    moments.mkdir()
    pause = program(moments / "pause", PAUSE)
    rules = textwrap.dedent(RULES).format(pause=pause)
    repository.commit("Rules", {"gate.toml": rules, "a.py": LINES, "b.py": "B\n", "sub/c.txt": "C\n", ".gitignore": "*.o\n"})
    repository.write("b.py", "stashed\n")
    repository.git("stash", "push", "-q", "-m", "for later")
    install(repository)
    repository.write("a.py", STAGED)
    repository.git("add", "a.py")
    for path, content in {
        "a.py": EDITED,
        "b.py": "edit\n",
        "new.txt": "new\n",
        "ignored.o": "o",
        "idea.py": "idea\n",
    }.items():
        repository.write(path, content)
    repository.git("add", "--intent-to-add", "idea.py")
    (repository.path / "sub/c.txt").unlink()
    return Desk(repository, moments)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- killed -------------------------------------------------------------------------------------------------------------


def assert_nothing_lost(desk: Desk, before: State, done: State) -> None:
    """The commit is there as if nobody had disturbed it, or nothing is but, perhaps, the fix."""
    now = desk.state()
    if now.head != before.head:
        assert now == done
        return
    blobs = [desk.repository.git("hash-object", "--stdin", stdin=content.encode()) for content in (STAGED, MENDED)]
    assert now.stash == before.stash
    assert now.index in (before.index, before.index.replace(*blobs))
    assert now.files in (before.files, done.files)
    assert now.index == before.index or now.files == done.files, "staged and not in the work tree: the next edit undoes it"


def undisturbed(desk: Desk, *words: str) -> State:
    """What a commit makes of a copy of the repository."""
    copy = Desk(desk.repository.copy(desk.path.with_name("copy")), desk.moments)
    return copy.committed(*words)


def remove_locks_of(git: int, desk: Desk) -> None:
    """What git itself leaves when it is killed with SIGKILL, and says how to remove: these locks are its own, not ours."""
    for lock in desk.repository.git_dir.glob("*.lock"):
        assert lock.name in ("index.lock", f"next-index-{git}.lock")
        lock.unlink()


# What the commit is called with decides which index git shows the hook, and which locks it holds meanwhile.
@pytest.mark.parametrize(
    ("style", "moment", "killed"),
    [
        ((), "mending", "git too"),
        ((), "checking", "the hook alone"),
        (("-a",), "mending", "the hook alone"),
        (("-a",), "checking", "git too"),
        (("--", "a.py"), "mending", "git too"),
        (("--", "a.py"), "checking", "the hook alone"),
        (("--", "a.py"), "checking", "git too"),
    ],
)
def test_killed_during_a_check_nothing_is_lost(desk: Desk, style: Sequence[str], moment: str, killed: str) -> None:
    done = undisturbed(desk, *style)
    before = desk.state()
    reached = desk.pause_at(moment)
    commit = desk.commit(*style)
    check = reached.reached()
    if killed == "git too":
        os.killpg(commit.process.pid, signal.SIGKILL)
    else:
        os.kill(commit.hook(), signal.SIGKILL)
    code, _ = commit.end()
    assert code != 0
    if killed == "git too":
        remove_locks_of(commit.process.pid, desk)
    assert_nothing_lost(desk, before, done)
    assert desk.state().head == before.head
    assert desk.committed(*style) == done
    assert not is_alive(check), "the check of a killed hook has outlived the next commit"


# Stands for gate in a hook: kills itself, or its process group and git with it, before its Nth effect; 0: never. An effect
# is a change of a file below the repository, or a git command, which may make one. Writes down those that it came to.
KILLING = """#!{python} -P
import itertools, os, signal, sys
nth, is_alone, told, top = {nth}, {is_alone}, {told!r}, {top!r}
numbers = itertools.count(1)
CHANGES = ("os.rename", "os.link", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate")
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn"):
        effect = " ".join(map(str, arguments[1]))
    elif event in CHANGES or (event == "open" and (arguments[2] or 0) & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)):
        effect = str(arguments[0])
    else:
        return
    if not effect.startswith(("git ", top)):
        return
    if next(numbers) == nth:
        os.kill(os.getpid(), signal.SIGKILL) if is_alone else os.killpg(0, signal.SIGKILL)
    with open(told, "a") as file:
        file.write(effect + "\\n")
from hooks.main import main
sys.addaudithook(watch)
sys.exit(main())
"""


def let_hook_call(desk: Desk, program: Path) -> None:
    """The hook before the commit; the others call gate as ever."""
    hook = desk.path / ".git/hooks/pre-commit"
    script = hook.read_text()
    called = '"$python" -P -E "$gate"'
    assert f"gate={GATE}\n" in script
    assert called in script
    hook.write_text(script.replace(f"gate={GATE}\n", f"gate={program}\n").replace(called, '"$gate"'))


@pytest.mark.parametrize("is_alone", [True, False], ids=["the hook alone", "git too"])
def test_killed_at_any_moment_nothing_is_lost(desk: Desk, tmp_path: Path, is_alone: bool) -> None:
    """Before and after every change of the developer's own files and index, and before some of the other effects."""
    effects_told, killing = tmp_path / "told", tmp_path / "killing"
    let_hook_call(desk, killing)
    words = {"python": sys.executable, "is_alone": is_alone, "told": str(effects_told), "top": str(desk.path)}

    def kill_at(nth: int) -> None:
        effects_told.write_text("")
        program(killing, KILLING.format(nth=nth, **words))

    kill_at(0)
    kept = desk.repository.copy(tmp_path / "kept")
    before = desk.state()
    done = desk.committed()
    effects = effects_told.read_text().splitlines()
    is_near = [effect.startswith((f"{desk.path}/", "git update-index")) and "/.git/gate" not in effect for effect in effects]
    near = {number + after for number, is_one in enumerate(is_near, 1) if is_one for after in (0, 1)}
    assert len(near) >= 5, effects
    for nth in sorted(near | {*range(1 + 4 * is_alone, len(effects), 12)}):
        shutil.rmtree(desk.path)
        kept.copy(desk.path)
        kill_at(nth)
        commit = desk.commit()
        code, _ = commit.end()
        if code == 0:  # threads do things in another order each time, and may have done less
            assert desk.state() == done
            continue
        if not is_alone:
            remove_locks_of(commit.process.pid, desk)
        assert_nothing_lost(desk, before, done)
        kill_at(0)
        assert desk.committed() == done, nth


def test_a_fix_reaches_a_work_tree_on_another_disk_than_the_repository(desk: Desk) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == desk.path.stat().st_dev:
            pytest.skip("there is one file system only")
        shutil.move(desk.path / ".git", f"{elsewhere}/git")
        desk.repository.write(".git", f"gitdir: {elsewhere}/git\n")
        before = desk.state()
        after = desk.committed()
        assert after.files == before.files | {"a.py": EDITED.replace("BAD", "GOOD").encode()}
        assert desk.repository.git("show", "HEAD:a.py") + "\n" == MENDED


# --- interrupted --------------------------------------------------------------------------------------------------------

# A shell at the terminal on standard input: runs git in its foreground, and stays until the hook, which may outlive git, has
# ended; what the hook writes to 9 is told.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, lambda *_: None)
ours, theirs = os.pipe()
os.dup2(theirs, 9)
os.close(theirs)
code = subprocess.call(sys.argv[1:], stdout=0, stderr=0, pass_fds=[9])
os.close(9)
print(code, open(ours).read().strip())
"""

# A check that does not mind being asked to end, nor do its children, one of which has left it.
STUBBORN = '''
    [[check]]
    name = "stubborn"
    stage = "pre-commit"
    command = """
    trap "" TERM INT
    setsid sh -c 'echo $$ > {begun}; sleep 1000; sleep 1000' &
    sh -c 'echo $$ > {begun}; sleep 1000; sleep 1000' &
    echo $$ > {begun}
    wait
    """
'''


def lines_from(fifo: Path, count: int) -> list[bytes]:
    handle = os.open(fifo, os.O_RDWR)  # to write as well: writers come and go
    said = b""
    while said.count(b"\n") < count:
        assert select.select([handle], [], [], 60.0)[0], f"nobody writes more than {said!r}"
        said += os.read(handle, 1000)
    os.close(handle)
    return said.splitlines()


# Between git and gate check: one tells how gate ended; the other is gate itself, whose caller is gone at the first Ctrl-C.
CALLERS = {
    "that stays": f'trap : INT\n"{GATE}" "$@"\ncode=$?\necho $code >&9\nexit $code\n',
    "that ends": f'exec "{GATE}" "$@"\n',
}


@pytest.mark.parametrize("style", [(), ("-a",)], ids=["staged", "all"])
@pytest.mark.parametrize(("caller", "presses"), [("that stays", 1), ("that ends", 1), ("that ends", 3)])
def test_ctrl_c_ends_every_process_of_a_check_and_changes_nothing(
    desk: Desk, tmp_path: Path, style: Sequence[str], caller: str, presses: int
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    let_hook_call(desk, program(tmp_path / "telling", "#!/bin/sh\n" + CALLERS[caller]))
    desk.rule(STUBBORN.format(begun=begun))
    before = desk.state()
    keyboard, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SHELL, "git", "commit", "-q", "-m", "Work", *style],
        cwd=desk.path,
        env=git_env(TERM="dumb"),
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        os.close(terminal)
        pids = [int(line) for line in lines_from(begun, 3)]
        os.write(keyboard, b"\x03" * presses)
        said, _ = shell.communicate(timeout=60)
    os.close(keyboard)
    git, *gate = said.split()
    assert gate == (["130"] if caller == "that stays" else [])
    assert git != "0"
    assert [pid for pid in pids if is_alive(pid)] == []
    assert desk.state() == before
    assert not [*desk.repository.git_dir.glob("*.lock")]


# --- names, numbers and places of the unpleasant kinds ---------------------------------------------------------------------

HOSTILE = [
    *("new\nline.py", "-rf.py", "--fix", "quote'\".py", " blanks .py", "\udcff\udcfe.py", "*.py", "[a-z]?.py"),
    *(":(top)x", ":!x", "{files}", "{commit}.py", "%s%n", "back\\slash", "\x1b]0;owned\x07\x1b[2J.py", "\u202egnp.py"),
    *("é.py", "$(touch x).py", "a\tb", "#x", "!x", "~", "sub/:(glob)**", "sub/\r.py"),
]

# Its command tells the names as it got them, in a file of this name beside it.
TELLS = '#!/bin/sh\nprintf "%s\\0" "$@" >> "$0.told"\n'


def told(path: Path) -> list[str]:
    """The names that a program was given, as they are called in the repository."""
    words = os.fsdecode(path.with_name(f"{path.name}.told").read_bytes()).split("\0")[:-1]
    return [word.removeprefix("./") for word in words]


def test_a_hostile_name_is_only_a_name(repository: Repository, tmp_path: Path) -> None:
    line, words = program(tmp_path / "line", TELLS), program(tmp_path / "words", TELLS)
    rules = f"""
        [[check]]
        name = "mend"
        command = "sed -i s/BAD/GOOD/ {{files}}"
        stage = "pre-commit"
        inputs = ["/*", "/sub/", "!/gate.toml"]
        fix = true

        [[check]]
        name = "line"
        command = "{line} {{files}}"
        stage = "pre-commit"
        inputs = ["/*", "/sub/", "!/gate.toml"]

        [[check]]
        name = "words"
        command = ["{words}", "{{files}}"]
        stage = "pre-commit"

        [[check]]
        name = "one"
        command = "grep GOOD {{files}}"
        stage = "pre-commit"
        inputs = ["/:(top)x"]
        needs = ["mend"]
    """
    repository.commit("Rules", {"gate.toml": textwrap.dedent(rules)})
    install(repository)
    for name in HOSTILE:
        repository.write(name, "BAD\n")
    repository.git("add", "-A")
    code, said = Commit(repository.path).end()
    assert code == 0, said
    assert all(letter.isprintable() for letter in said.replace("\n", "")), said
    blobs = {tuple(entry.split("\t", 1)) for entry in repository.git("ls-tree", "-r", "-z", "HEAD").split("\0")[:-1]}
    good = repository.git("hash-object", "--stdin", stdin=b"GOOD\n")
    assert {path for meta, path in blobs if meta.endswith(good)} == {*HOSTILE}
    assert {(repository.path / name).read_bytes() for name in HOSTILE} == {b"GOOD\n"}
    assert repository.git("status", "--porcelain") == ""
    for one in (line, words):
        assert {*told(one)} == {*HOSTILE}


def test_hostile_names_in_json_and_in_a_red_commit_steer_nothing(repository: Repository) -> None:
    rules = '[[check]]\nname = "red"\ncommand = "printf %s {files}; false"\nstage = "pre-commit"\n'
    repository.commit("Rules", {"gate.toml": rules})
    install(repository)
    for name in HOSTILE:
        repository.write(name, "BAD\n")
    repository.git("add", "-A")
    code, said = Commit(repository.path).end()
    assert code == 1
    assert all(letter.isprintable() for letter in said.replace("\n", "").replace("\t", "")), said
    done = subprocess.run([GATE, "check", "--json"], cwd=repository.path, env=git_env(), capture_output=True, check=False)
    assert json.loads(done.stdout.decode("ascii"))["checks"][0]["outcome"] == "red"


def test_more_files_than_a_command_line_takes(repository: Repository, tmp_path: Path) -> None:
    """Every one is told once. A check may even join those of a batch into one word, of which Linux takes 128 KiB."""
    tells = program(tmp_path / "tells", TELLS)
    rules = f"""
        [[check]]
        name = "many"
        command = '{tells} {{files}}; set -- {{files}}; /bin/echo "$*"'
        stage = "pre-commit"
        inputs = ["many/"]
    """
    repository.commit("Rules", {"gate.toml": textwrap.dedent(rules)})
    install(repository)
    names = [f"many/{number:0200}" for number in range(10_000)]
    assert sum(map(len, names)) > 2_000_000
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"x\n")
    repository.git("update-index", "--index-info", stdin="".join(f"100644 {blob}\t{name}\n" for name in names).encode())
    code, said = Commit(repository.path).end()
    assert code == 0, said[-2000:]
    assert told(tells) == names


def test_two_work_trees_mend_at_the_same_time_each_its_own(desk: Desk, tmp_path: Path) -> None:
    """The check of each waits for that of the other to run, in one repository and out of one pool."""
    one, two = tmp_path / "one", tmp_path / "two"
    os.mkfifo(one)
    os.mkfifo(two)
    commits = {}
    for name, meeting in {"here": f"echo here > {one}; cat {two}", "there": f"cat {one}; echo there > {two}"}.items():
        desk.repository.git("worktree", "add", "-q", str(tmp_path / name), "-b", name)
        tree = Repository(tmp_path / name)
        rules = f"""
            [[check]]
            name = "mend"
            command = "grep GOOD a.py && exit; {meeting}; echo GOOD {name} > a.py"
            stage = "pre-commit"
            inputs = ["a.py"]
            timeout = "60s"
            fix = true
        """
        tree.write("gate.toml", textwrap.dedent(rules))
        tree.write("a.py", f"BAD {name}\n")
        tree.git("add", "-A")
        commits[name] = Commit(tree.path)
    ends = {name: commit.end() for name, commit in commits.items()}
    for name, (code, said) in ends.items():
        assert code == 0, said
        assert desk.repository.git("show", f"{name}:a.py") == f"GOOD {name}"
        assert (tmp_path / name / "a.py").read_text() == f"GOOD {name}\n"


@pytest.mark.parametrize("style", [(), ("-a",)], ids=["staged", "all"])
def test_a_red_commit_changes_nothing(desk: Desk, style: Sequence[str]) -> None:
    desk.rule('[[check]]\nname = "red"\ncommand = "rm a.py; false"\nstage = "pre-commit"\n')
    before = desk.state()
    code, said = desk.commit(*style).end()
    assert code == 1, said
    assert desk.state() == before


def test_a_fix_changes_the_file_that_it_is_for_and_leaves_the_stash(desk: Desk) -> None:
    before = desk.state()
    after = desk.committed()
    assert after.files == before.files | {"a.py": EDITED.replace("BAD", "GOOD").encode()}
    assert after.stash == before.stash


def test_a_branch_without_a_commit_is_mended_too(desk: Desk) -> None:
    desk.repository.git("switch", "-q", "--orphan", "unborn", "--discard-changes")
    desk.repository.git("checkout", "-q", "main", "--", "gate.toml")
    desk.repository.write("a.py", STAGED)
    desk.repository.git("add", "a.py")
    desk.repository.write("a.py", EDITED)
    after = desk.committed()
    assert desk.repository.git("show", "HEAD:a.py") + "\n" == MENDED
    assert desk.repository.git("rev-list", "--count", "HEAD") == "1"
    assert after.files["a.py"] == EDITED.replace("BAD", "GOOD").encode()


def test_a_home_and_a_cache_that_cannot_be_written_are_done_without(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in their place holds for every account, also for root."""
    nowhere = str(desk.moments / "pause")
    monkeypatch.setenv("HOME", nowhere)
    monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
    desk.committed()
    assert desk.repository.git("show", "HEAD:a.py") + "\n" == MENDED


def test_a_relative_cache_folder_is_no_place_in_the_work_tree(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    desk.committed()
    assert not (desk.path / "cache").exists()


def test_names_that_differ_by_case_alone_are_two_files(desk: Desk) -> None:
    """Also where git was told that the file system thinks otherwise."""
    desk.repository.git("config", "core.ignorecase", "true")
    desk.rule('[[check]]\nname = "both"\ncommand = "grep lower readme && grep UPPER README"\nstage = "pre-commit"\n')
    for name, content in (("readme", "lower\n"), ("README", "UPPER\n")):
        blob = desk.repository.git("hash-object", "-w", "--stdin", stdin=content.encode())
        desk.repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    desk.committed()
    assert desk.repository.git("show", "HEAD:readme") == "lower"
