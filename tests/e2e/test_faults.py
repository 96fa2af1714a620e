"""What fails outside: disk, permissions, journal, git. A clear sentence, the right exit code, trunk untouched."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ci.errors import Unavailable
from fakes.repositories import Repository, git_env
from fakes.stand import PLAIN, Stand, wait_for
from gate.journal import Journal
from gate.model import Event, Landed
from gate.serve import open_server

PROGRAMS = Path(sys.executable).parent
CONFIG = PLAIN + '[[check]]\nname = "ok"\ncommand = "true"\n'

UNAVAILABLE = 4
MISUSED = 2


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, CONFIG, {"x": "0"})


def gate(
    *words: str | Path, path: str | None = None, front: tuple[str, ...] = (), cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """The installed program. front: a program that starts it, as another account or in another mount namespace."""
    env = git_env(PATH=path if path is not None else f"{PROGRAMS}:{os.environ['PATH']}")
    return subprocess.run(
        [*front, str(PROGRAMS / "gate"), *map(str, words)], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )


def serve(stand: Stand, *, path: str | None = None, front: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return gate("serve", "--until-idle", stand.path, path=path, front=front)


def sentence(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """What the program said last: one sentence and no traceback, with this exit code."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "a bug in gate" not in done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


# --- git --------------------------------------------------------------------------------------------------------------


def test_without_git_it_says_what_to_install(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words in (["serve", "--until-idle"], ["status", "--repo"], ["init"]):
        said = sentence(gate(*words, stand.path, path=str(tmp_path / "empty")), UNAVAILABLE)
        assert "git cannot be started" in said
        assert "install Git 2.38 or newer" in said


def test_a_git_that_is_too_old_is_named_with_what_is_needed(stand: Stand, tmp_path: Path) -> None:
    old = tmp_path / "old" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    said = sentence(serve(stand, path=f"{old.parent}:{os.environ['PATH']}"), UNAVAILABLE)
    assert said == "gate: git 2.30 is too old: merging without a work tree needs git 2.38 or newer"


def test_git_that_goes_away_under_a_daemon_is_waited_for(stand: Stand, tmp_path: Path) -> None:
    """The daemon tries again by itself, and says so once."""
    real = shutil.which("git")
    assert real is not None
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(real)
    env = git_env(PATH=f"{programs}:/nowhere")
    process = subprocess.Popen(
        [str(PROGRAMS / "gate"), "serve", str(stand.path)], env=env, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        while "serving" not in (line := process.stderr.readline()):
            assert line, "it did not start"
        (programs / "git").unlink()
        change = stand.submit("good", {"x": "1"})
        while "git cannot be started" not in (line := process.stderr.readline()):
            assert line, "it ended"
        assert "trying again" in line
        (programs / "git").symlink_to(real)
        wait_for(lambda: stand.verdict(change) == "landed")
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert "Traceback" not in rest


def test_a_lock_on_what_only_spares_pushes_some_bytes_stops_nothing(stand: Stand) -> None:
    stand.settle()
    (stand.path / "refs" / "gate" / "have" / "0.lock").touch()
    change = stand.submit("good", {"x": "1"})
    done = serve(stand)
    assert done.returncode == 0, done.stderr
    assert "pushes may send more than they need" in done.stderr
    assert stand.verdict(change) == "landed"


# --- where it should work ---------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    for words in (["serve", "--until-idle"], ["status", "--repo"]):
        said = sentence(gate(*words, tmp_path), MISUSED)
        cure = "give the folder that 'git init --bare' made, or name it with --repo"
        assert said == f"gate: {tmp_path} is not a bare Git repository: {cure}"
    said = sentence(gate("serve", tmp_path / "nowhere"), MISUSED)
    assert "is not a bare Git repository" in said


def test_a_repository_with_a_work_tree_is_refused(tmp_path: Path) -> None:
    made = Repository.create(tmp_path / "work")
    made.commit()
    assert "is not a bare Git repository" in sentence(gate("serve", made.path), MISUSED)


def test_a_repository_without_a_gate_is_told_how_to_get_one(tmp_path: Path) -> None:
    bare = Repository.create(tmp_path / "srv.git", bare=True)
    for words in (["serve", "--until-idle"], ["status", "--repo"]):
        said = sentence(gate(*words, bare.path), MISUSED)
        assert said == f"gate: {bare.path} has no gate yet: run 'gate init {bare.path}'"


def test_a_detached_head_is_no_trunk(stand: Stand) -> None:
    (stand.path / "HEAD").write_text(stand.trunk() + "\n")
    said = sentence(serve(stand), MISUSED)
    assert "HEAD" in said
    assert "gate init --trunk" in said


def test_a_second_daemon_is_refused_and_the_first_one_goes_on(stand: Stand) -> None:
    with stand.daemon():
        said = sentence(serve(stand), MISUSED)
        assert "another 'gate serve' has" in said
        change = stand.submit("good", {"x": "1"})
        wait_for(lambda: stand.verdict(change) == "landed")


def test_of_several_repositories_none_is_held_when_one_is_bad(stand: Stand, tmp_path: Path) -> None:
    assert "is not a bare Git repository" in sentence(gate("serve", "--until-idle", stand.path, tmp_path), MISUSED)
    assert serve(stand).returncode == 0


# --- the journal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["garbage", "truncated", "torn", "folder", "an event that nobody knows", "half an event"])
def test_a_corrupt_journal_is_named_and_nothing_is_touched(stand: Stand, damage: str) -> None:
    stand.submit("good", {"x": "1"})
    stand.settle()
    stand.submit("waiting", {"x": "2"})
    journal = stand.path / "gate" / "journal.sqlite"
    for path in stand.path.glob("gate/journal.sqlite-*"):
        path.unlink()
    whole = journal.read_bytes()
    match damage:
        case "garbage":
            journal.write_bytes(b"\xff" * len(whole))
        case "truncated":
            journal.write_bytes(whole[: len(whole) // 3])
        case "torn":
            journal.write_bytes(whole[:4096] + b"\0" * (len(whole) - 4096))
        case "folder":
            journal.unlink()
            journal.mkdir()
        case _:
            import sqlite3

            data = b"{}" if damage.startswith("half") else b'{"at": 1.0}'
            kind = "Landed" if damage.startswith("half") else "Vaporised"
            with sqlite3.connect(journal) as connection:
                connection.execute("insert into events (at, kind, data) values (1.0, ?, ?)", (kind, data))
            connection.close()
    before = stand.trunk()
    for done in (serve(stand), gate("status", "--repo", stand.path)):
        said = sentence(done, UNAVAILABLE)
        assert "journal" in said
    assert stand.trunk() == before


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_journal_that_was_moved_away_is_begun_anew_from_what_git_knows(tmp_path: Path, method: str) -> None:
    """The cure that the sentence names. What waits is found again; what landed and was taken back stays taken back."""
    stand = Stand(tmp_path, f'[merge]\nmethod = "{method}"\n{CONFIG}', {"x": "0", "y": "0"})
    landed = stand.submit("good", {"x": "1"})
    stand.settle()
    back = stand.submit("take it back", {"x": "0"})
    stand.settle()
    before = stand.trunk()
    waiting = stand.submit("waiting", {"y": "1"})
    for path in stand.path.glob("gate/journal.sqlite*"):
        path.unlink()
    assert stand.gate("approve", str(waiting), by=getpass.getuser()).returncode == 0  # a command may come first
    assert serve(stand).returncode == 0
    assert [stand.verdict(change) for change in (landed, back, waiting)] == ["landed"] * 3
    assert (stand.show("x"), stand.show("y")) == ("0", "1")
    assert stand.server.head("main^1") == before


def test_a_landing_that_cannot_be_told_is_told_later(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trunk has moved, and the disk is full at that moment: the daemon that goes on knows whose doing it was."""
    stand.settle()
    change = stand.submit("good", {"x": "1"})
    server = open_server([stand.path])
    append = Journal.append

    def fail_once(journal: Journal, *events: Event, **more: Any) -> None:
        if any(isinstance(event, Landed) for event in events):
            monkeypatch.setattr(Journal, "append", append)
            raise Unavailable("the disk is full")
        append(journal, *events, **more)

    monkeypatch.setattr(Journal, "append", fail_once)
    try:
        with pytest.raises(Unavailable):
            server.run(until_idle=True)
        assert stand.show("x") == "1"
        server.run(until_idle=True)
    finally:
        server.close()
    assert stand.verdict(change) == "landed"


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Take all the space but ``leave`` bytes."""
    ballast = place / "ballast"
    stat = os.statvfs(place)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        left = stat.f_bavail * stat.f_frsize - leave
        while left > 0:
            left -= file.write(b"\0" * min(left, 1 << 16))
    return ballast


def test_a_full_disk_stops_the_gate_with_a_sentence_and_loses_nothing(small_disk: Path) -> None:
    stand = Stand(small_disk, CONFIG, {"x": "0"})
    stand.settle()
    change = stand.submit("good", {"x": "1"})
    before = stand.trunk()
    ballast = fill(small_disk)
    said = sentence(serve(stand), UNAVAILABLE)
    assert "disk" in said
    assert "full" in said
    assert stand.trunk() == before
    ballast.unlink()
    assert serve(stand).returncode == 0
    assert stand.verdict(change) == "landed"


@pytest.mark.parametrize("leave", [8192, 24576, 49152, 98304])
def test_a_disk_that_fills_up_on_the_way_loses_nothing(small_disk: Path, leave: int) -> None:
    """Wherever the last byte goes: an object, a ref, the journal, a log."""
    stand = Stand(small_disk, CONFIG, {"x": "0"})
    change = stand.submit("good", {"x": "1"})
    ballast = fill(small_disk, leave)
    done = serve(stand)
    assert done.returncode in (0, UNAVAILABLE), done.stderr
    assert "Traceback" not in done.stderr
    assert stand.server.run("fsck", "--connectivity-only").returncode == 0
    ballast.unlink()
    done = serve(stand)
    if stand.verdict(change) is None:  # nothing but machine errors: those are not tried for ever
        assert "cannot be run on this machine" in str(stand.why(change)["reasons"])
        assert stand.gate("retry", str(change)).returncode == 0
        done = serve(stand)
    assert done.returncode == 0, done.stderr
    assert stand.verdict(change) == "landed"


def test_a_push_to_a_full_disk_fails_whole_and_the_next_one_works(small_disk: Path) -> None:
    stand = Stand(small_disk / "a", CONFIG, {"x": "0"})
    stand.branch("good", {"x": "1"})
    ballast = fill(small_disk)
    pushed = stand.push()
    assert pushed.code != 0
    assert "Traceback" not in pushed.said
    ballast.unlink()
    assert stand.server.run("rev-parse", "--verify", "-q", "refs/gate/submissions").returncode == 1
    assert stand.push().change == 1


def test_a_log_that_grows_past_the_process_limit_is_an_error_of_the_machine(stand: Stand) -> None:
    """RLIMIT_FSIZE: what a quota looks like from inside."""
    change = stand.submit("good", {"x": "1"})
    before = stand.trunk()
    done = serve(stand, front=("prlimit", "--fsize=2048"))
    assert done.returncode in (0, UNAVAILABLE), done.stderr
    assert "Traceback" not in done.stderr
    assert stand.trunk() == before
    serve(stand)
    assert stand.verdict(change) in ("landed", None)


def test_a_repository_on_a_disk_that_is_read_only_is_named(stand: Stand) -> None:
    stand.submit("good", {"x": "1"})
    before = stand.trunk()
    mounted = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    front = ("unshare", "--mount", "/bin/sh", "-c", mounted, "sh", str(stand.path))
    if subprocess.run([*front, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    said = sentence(serve(stand, front=front), UNAVAILABLE)
    assert "written" in said
    assert "Read-only file system" in said
    assert stand.trunk() == before


def test_an_account_that_may_not_write_is_told_so(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    if not shutil.which("setpriv"):
        pytest.skip("there is no setpriv")
    stand = Stand(tmp_path, CONFIG, {"x": "0"})
    front = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    place = Path("/tmp") / f"gate-faults-{os.getpid()}"
    shutil.copytree(stand.path, place)
    try:
        place.chmod(0o755)
        if subprocess.run([*front, str(PROGRAMS / "gate"), "--version"], capture_output=True, check=False).returncode != 0:
            pytest.skip("another account may not read this installation")
        done = gate("serve", "--until-idle", place, front=front)
        said = sentence(done, UNAVAILABLE)
        assert "written" in done.stderr or "belongs to another account" in done.stderr
        assert said.endswith("chown it"), said
    finally:
        shutil.rmtree(place)
