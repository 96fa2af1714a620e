"""What hooks must never do: lose an edit, commit what was not checked, obey the name of a file.

Real commits through what gate install has written: killed and interrupted at chosen moments, side by side, with file names,
numbers of files and repositories of the unpleasant kinds.
"""

import os
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


@pytest.fixture
def desk(repository: Repository, tmp_path: Path) -> Desk:
    moments = tmp_path / "moments"
    moments.mkdir()
    pause = moments / "pause"
    pause.write_text(PAUSE)
    pause.chmod(0o755)
    rules = textwrap.dedent(RULES).format(pause=pause)
    repository.commit("Rules", {"gate.toml": rules, "a.py": LINES, "b.py": "B\n", "sub/c.txt": "C\n", ".gitignore": "*.o\n"})
    repository.write("b.py", "stashed\n")
    repository.git("stash", "push", "-q", "-m", "for later")
    subprocess.run([GATE, "install"], cwd=repository.path, env=git_env(), capture_output=True, check=True)
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
    assert f"gate={GATE}\n" in script
    hook.write_text(script.replace(f"gate={GATE}\n", f"gate={program}\n"))


@pytest.mark.parametrize("is_alone", [True, False], ids=["the hook alone", "git too"])
def test_killed_at_any_moment_nothing_is_lost(desk: Desk, tmp_path: Path, is_alone: bool) -> None:
    """Before and after every change of the developer's own files and index, and before some of the other effects."""
    told, program = tmp_path / "told", tmp_path / "killing"
    let_hook_call(desk, program)
    words = {"python": sys.executable, "is_alone": is_alone, "told": str(told), "top": str(desk.path)}

    def kill_at(nth: int) -> None:
        told.write_text("")
        program.write_text(KILLING.format(nth=nth, **words))
        program.chmod(0o755)

    kill_at(0)
    kept = desk.repository.copy(tmp_path / "kept")
    before = desk.state()
    done = desk.committed()
    effects = told.read_text().splitlines()
    is_near = [effect.startswith((f"{desk.path}/", "git update-index")) and "/.git/gate" not in effect for effect in effects]
    near = {number + after for number, is_one in enumerate(is_near, 1) if is_one for after in (0, 1)}
    assert len(near) >= 5, effects
    for nth in sorted(near | {*range(1 + 4 * is_alone, len(effects), 8)}):
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

# A shell at the terminal on standard input: runs git in its foreground, and stays until the hook has told how it ended.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, lambda *_: None)
ended, *words = sys.argv[1:]
code = subprocess.call(words, stdout=0, stderr=0)
print(code, open(ended).read().strip())
"""

# A check with children that do not mind being asked to end, one of which has left it.
STUBBORN = '''
    [[check]]
    name = "stubborn"
    stage = "pre-commit"
    command = """
    setsid sh -c 'trap "" TERM INT; echo $$ > {begun}; sleep 1000; sleep 1000' &
    sh -c 'trap "" TERM INT; echo $$ > {begun}; sleep 1000; sleep 1000' &
    echo $$ > {begun}
    wait
    """
'''


@pytest.mark.parametrize("style", [(), ("-a",)], ids=["staged", "all"])
def test_ctrl_c_ends_every_process_of_a_check_and_changes_nothing(desk: Desk, tmp_path: Path, style: Sequence[str]) -> None:
    begun, ended, program = tmp_path / "begun", tmp_path / "ended", tmp_path / "telling"
    os.mkfifo(begun)
    os.mkfifo(ended)
    program.write_text(f'#!/bin/sh\ntrap : INT\n"{GATE}" "$@"\ncode=$?\necho $code > {ended}\nexit $code\n')
    program.chmod(0o755)
    let_hook_call(desk, program)
    desk.rule(STUBBORN.format(begun=begun))
    before = desk.state()
    keyboard, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SHELL, str(ended), "git", "commit", "-q", "-m", "Work", *style],
        cwd=desk.path,
        env=git_env(TERM="dumb"),
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        os.close(terminal)
        with open(os.open(begun, os.O_RDWR)) as told:  # noqa: PTH123 - open to write as well: writers come and go
            pids = [int(told.readline()) for _ in range(3)]
        os.write(keyboard, b"\x03")
        said, _ = shell.communicate(timeout=60)
    os.close(keyboard)
    git, gate = said.split()
    assert gate == "130"
    assert git != "0"
    assert [pid for pid in pids if is_alive(pid)] == []
    assert desk.state() == before
    assert not [*desk.repository.git_dir.glob("*.lock")]
