"""Places: what a check finds in its folder, whatever is in the commit and whatever the check before did to it."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ci.entries import TreeRefused, literal_prefixes
from ci.git import GitEnd, GitFailed, PlainGit
from ci.model import Check, CheckName, InputKey, RunId, RunRequest, Sha
from ci.removal import remove_tree
from ci.sandbox import Isolation
from ci.warm import WarmInputs, _Settled
from ci.workspace import Place, Workspace
from fakes.repositories import Repository

HOSTILE = (
    *("with space", 'quote\'d "name"', "new\nline", "-rf", "--help", "tab\there"),
    *("\udcff\udcfe", "$(touch x)", ":(glob)*", "ünï", "#x"),
)


class Bench:
    """One worker slot over a bare repository: ``look`` opens a place, lets the caller use it, and closes it.

    inputs: what checks declare that say nothing else; "**" is the whole tree, "*" says the same and is listed.
    """

    def __init__(self, repository: Repository, folder: Path, inputs: tuple[str, ...] = ("**",)) -> None:
        self.repository = repository
        self.folder = folder
        folder.mkdir(parents=True)
        self.inputs = inputs
        self.workspace = Workspace(PlainGit(repository.git_dir), folder, 0, PlainGit, keeps_inputs=inputs != ("**",))
        self._runs = 0

    @property
    def home(self) -> Path:
        """Of the only warm folder there is."""
        (home,) = (self.folder / "pool").iterdir()
        return home

    def look(
        self,
        commit: str,
        use: Callable[[Path], None] = lambda _: None,
        *,
        inputs: tuple[str, ...] = (),
        git: bool = False,
        isolation: Isolation = Isolation.PLAIN,
        command: str = "true",
    ) -> tuple[Place, dict[str, str | bytes]]:
        """The place, and what was in it, before ``use`` had its way."""
        self._runs += 1
        check = Check(CheckName("c"), command, inputs=inputs or self.inputs, git=git)
        request = RunRequest(RunId(f"run{self._runs}"), check, InputKey("k"), Sha(commit))
        with self.workspace.place(request, isolation) as place:
            found = content(place.folder)
            use(place.folder)
        assert not (self.folder / "runs" / f"run{self._runs}").exists()
        return place, found


def content(folder: Path) -> dict[str, str | bytes]:
    """Everything in a folder: files by content, symlinks as "-> target", empty folders as "folder"."""
    found: dict[str, str | bytes] = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(here, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            elif path.is_file():
                found[key] = path.read_bytes()
            elif not path.is_dir():
                found[key] = "special"
            elif not any(path.iterdir()):
                found[key] = "folder"
    return found


@pytest.fixture(params=[("**",), ("*",)], ids=["whole tree", "kept inputs"])
def bench(repository: Repository, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(repository, tmp_path / "gate", request.param)


FIRST: Mapping[str, bytes] = {"README.md": b"hello\n", "src/a.py": b"A = 1\n", "src/b.py": b"B = 1\n"}


def test_a_whole_tree_is_all_files_and_no_git_metadata(bench: Bench) -> None:
    assert bench.look(bench.repository.head())[1] == FIRST


def test_declared_inputs_are_there_and_nothing_else(bench: Bench) -> None:
    place, found = bench.look(bench.repository.head(), inputs=("src/*.py", "!src/b.py"), command="echo {files}")
    assert found == {"src/a.py": b"A = 1\n"}
    assert place.files == ("src/a.py",)


def test_inputs_that_match_nothing_are_an_empty_folder(bench: Bench) -> None:
    place, found = bench.look(bench.repository.head(), inputs=("nowhere/**",), command="echo {files}")
    assert (found, place.files) == ({}, ())


@pytest.mark.parametrize("inputs", [("**",), ("*",)])
def test_modes_and_symlinks_survive(bench: Bench, inputs: tuple[str, ...]) -> None:
    bench.repository.write("run.sh", "#!/bin/sh\n", executable=True)
    (bench.repository.path / "dangling").symlink_to("../../etc/passwd")
    commit = bench.repository.commit()
    modes = []
    _, found = bench.look(commit, lambda folder: modes.append(os.access(folder / "run.sh", os.X_OK)), inputs=inputs)
    assert found == {**FIRST, "run.sh": b"#!/bin/sh\n", "dangling": "-> ../../etc/passwd"}
    assert modes == [True]


@pytest.mark.parametrize("inputs", [("**",), ("*",), ("/odd/*",)])
def test_every_name_a_file_can_have(bench: Bench, inputs: tuple[str, ...]) -> None:
    named = {f"odd/{name}": name.encode("utf-8", "surrogateescape") for name in HOSTILE}
    commit = bench.repository.commit("odd", dict(named))
    place, found = bench.look(commit, inputs=inputs, command="echo {files}")
    assert {path: found[path] for path in found if path.startswith("odd/")} == named
    assert place.files is not None
    assert set(named) <= set(place.files)


def commit_of_raw_tree(repository: Repository, entries: list[tuple[str, str, str]]) -> str:
    """A commit whose tree holds these (mode, name, object id), with names that git itself would not write."""
    raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    return repository.git("commit-tree", "-m", "raw", tree)


@pytest.mark.parametrize("inputs", [("**",), ("*",)])
@pytest.mark.parametrize("name", ["..", ".git", "."])
def test_a_tree_that_leads_elsewhere_is_refused_by_name(bench: Bench, name: str, inputs: tuple[str, ...]) -> None:
    blob = bench.repository.git("hash-object", "-w", "--stdin", stdin=b"evil")
    inner = bench.repository.git("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    commit = commit_of_raw_tree(bench.repository, [("40000", name, inner)])
    before = content(bench.folder)
    with pytest.raises(TreeRefused, match=f"refuses to write: '?{re.escape(name)}/config"):
        bench.look(commit, inputs=inputs)
    written = {path for path in content(bench.folder) if path not in before and "/git/" not in path}
    assert all(path == "runs" or path.endswith("/tree") for path in written)
    assert bench.look(bench.repository.head())[1] == FIRST


@pytest.mark.parametrize("inputs", [("**",), ("*",)])
def test_a_submodule_is_an_empty_folder_and_no_file(bench: Bench, inputs: tuple[str, ...]) -> None:
    repository = bench.repository
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
    repository.git("commit", "-q", "-m", "submodule")
    commit = repository.head()

    def fill(folder: Path) -> None:
        (folder / "vendor" / "lib" / ".git").mkdir(parents=True)
        (folder / "vendor" / "lib" / "left.txt").touch()

    for use in (fill, fill, lambda _: None, lambda _: None):
        place, found = bench.look(commit, use, inputs=inputs, command="echo {files}")
        assert found == {**FIRST, "vendor/lib": "folder"}
        assert set(place.files or ()) == set(FIRST)


def test_submodules_that_come_and_go(bench: Bench) -> None:
    repository = bench.repository
    without = repository.head()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    repository.git("commit", "-q", "-m", "submodule")
    with_it = repository.head()

    def fill(folder: Path) -> None:
        (folder / "lib").mkdir(exist_ok=True)
        (folder / "lib" / "left.txt").touch()

    for commit in (without, with_it, without, with_it, with_it):
        expected = {**FIRST, "lib": "folder"} if commit == with_it else FIRST
        assert bench.look(commit, fill)[1] == expected


def test_a_file_changed_back_to_its_old_size_and_time_is_noticed(bench: Bench) -> None:
    def tamper(folder: Path) -> None:
        file = folder / "src" / "a.py"
        before = file.stat()
        # Git compares whole seconds, and the content of files that are as new as its index: be as late as real checks are.
        os.utime(folder.parent / "git" / "index", (before.st_mtime + 10, before.st_mtime + 10))
        while int(time.time()) <= int(before.st_ctime):
            threading.Event().wait(int(before.st_ctime) + 1 - time.time())
        file.write_bytes(b"A = 2\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    bench.look(bench.repository.head(), tamper)
    assert bench.look(bench.repository.head())[1] == FIRST


def test_a_file_changed_back_within_the_same_second_is_noticed(bench: Bench) -> None:
    def tamper(folder: Path) -> None:
        file = folder / "src" / "a.py"
        before = file.stat()
        file.write_bytes(b"A = 2\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    for _ in range(3):
        assert bench.look(bench.repository.head(), tamper)[1] == FIRST


def leave_git_folders(folder: Path) -> None:
    for where in (folder, folder / "src", folder / "new"):
        where.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q", str(where)], check=True)
        hook = where / ".git" / "hooks" / "post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {folder.parent}/hook-ran\n")
        hook.chmod(0o755)
        with (where / ".git" / "config").open("a") as config:
            config.write(f"[core]\n\tfsmonitor = touch {folder.parent}/fsmonitor-ran\n")


def leave_git_file(folder: Path) -> None:
    (folder / ".git").write_text("gitdir: /nowhere\n")
    (folder / "src" / ".git").symlink_to("/nowhere")


def leave_ignored_files(folder: Path) -> None:
    (folder / ".gitignore").write_text("*\n")
    (folder / "build").mkdir()
    (folder / "build" / "cache").touch()


def swap_a_folder_for_a_symlink(folder: Path) -> None:
    remove_tree(folder / "src")
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (folder / "src").symlink_to(outside)


def swap_files_for_folders(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    (folder / "README.md" / "x").touch()
    remove_tree(folder / "src")
    (folder / "src").touch()


def leave_special_files(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        handle = os.open(folder, os.O_RDONLY)  # the name of a socket has no more than 107 bytes
        listening.bind(f"/proc/self/fd/{handle}/s")
        os.close(handle)
    (folder / "README.md").chmod(0)


def leave_nothing(folder: Path) -> None:
    remove_tree(folder)


def leave_a_symlink_as_the_folder_itself(folder: Path) -> None:
    remove_tree(folder)
    folder.symlink_to("/nowhere")


@pytest.mark.parametrize(
    "mischief",
    [
        leave_git_folders,
        leave_git_file,
        leave_ignored_files,
        swap_a_folder_for_a_symlink,
        swap_files_for_folders,
        leave_special_files,
        leave_nothing,
        leave_a_symlink_as_the_folder_itself,
    ],
)
def test_the_next_run_finds_the_commit_and_nothing_else(bench: Bench, mischief: Callable[[Path], None]) -> None:
    first = bench.repository.head()
    second = bench.repository.commit("more", {"src/c.py": "C = 1\n", "README.md": "bye\n"})
    bench.look(first, mischief)
    home = bench.home
    assert bench.look(second, mischief)[1] == {**FIRST, "src/c.py": b"C = 1\n", "README.md": b"bye\n"}
    assert bench.look(first)[1] == FIRST
    assert {entry.name for entry in home.iterdir()} <= {"git", "tree", "settled", "outside"}
    assert not any((home / "outside").glob("*"))


AS_NOBODY = """
import os, pathlib, sys
sys.path[:0] = sys.argv[3:]
import pathspec
from ci.git import GitEnd, GitFailed, PlainGit
from ci.model import Check, CheckName, InputKey, RunId, RunRequest, Sha
from ci.sandbox import Isolation
from ci.workspace import Workspace
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.environ["HOME"] = "/"
base = pathlib.Path(sys.argv[1])
workspace = Workspace(PlainGit(base / "repo" / ".git"), base / "gate", 0, PlainGit)
for run in "abc":
    request = RunRequest(RunId(run), Check(CheckName("c"), "true"), InputKey("k"), Sha(sys.argv[2]))
    with workspace.place(request, Isolation.PLAIN) as place:
        assert sorted(os.listdir(place.folder)) == ["README.md", "src"]
        inner = place.folder / "locked" / "inner"
        inner.mkdir(parents=True)
        (inner / "x").touch()
        inner.chmod(0)
        inner.parent.chmod(0)
        (place.folder / "src").chmod(0o500)
        (place.scratch / "home").mkdir()
        (place.scratch / "home").chmod(0)
assert os.listdir(base / "gate" / "runs") == []
"""


def test_folders_without_permissions_are_removed_by_an_owner_who_is_not_root(repository: Repository, tmp_path: Path) -> None:
    def lock(folder: Path) -> None:
        (folder / "locked" / "inner").mkdir(parents=True)
        (folder / "locked" / "inner" / "x").touch()
        (folder / "locked" / "inner").chmod(0)
        (folder / "locked").chmod(0)
        (folder / "src").chmod(0o500)

    bench = Bench(repository, tmp_path / "gate")
    if os.getuid() != 0:
        assert bench.look(repository.head(), lock)[1] == FIRST
        assert bench.look(repository.head())[1] == FIRST
        return
    # Root reads everything: the case must be played by somebody else, in a process of its own.
    commit = repository.head()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.lchown(path, 65534, 65534)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path), commit, *sys.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_broken_slot_is_thrown_away_and_made_new(bench: Bench) -> None:
    commit = bench.repository.head()
    bench.look(commit)
    second = bench.repository.commit("more", {"src/c.py": "C = 1\n"})
    git = bench.home / "git"
    (git / "index").write_bytes(b"garbage")
    assert bench.look(second)[1] == {**FIRST, "src/c.py": b"C = 1\n"}
    (git / "index.lock").touch()  # held by a git that is gone, in the eyes of a running daemon
    assert bench.look(commit)[1] == FIRST
    (bench.home / "settled").unlink()  # as if we had been killed in the middle of a reset
    assert bench.look(commit)[1] == FIRST
    (bench.home / "settled").write_bytes(b"1" * 40)  # by another version of ours
    assert bench.look(commit)[1] == FIRST


def test_a_file_becomes_a_folder_and_a_file_again(bench: Bench) -> None:
    repository = bench.repository
    first = repository.head()
    repository.git("rm", "-q", "README.md")
    folder = repository.commit("folder", {"README.md/deep/a": "a\n"})
    for commit in (first, folder, first, folder):
        found = bench.look(commit)[1]
        assert found["README.md" if commit == first else "README.md/deep/a"] in (b"hello\n", b"a\n")
        assert len(found) == len(FIRST)


def test_folders_that_a_run_moved_are_removed_and_what_was_in_them_is_written_again(bench: Bench) -> None:
    """Only the folder itself has another time of change then, not what is in it."""

    def move(folder: Path) -> None:
        (folder / "src").rename(folder / "moved")
        elsewhere = folder.parent.parent.parent / "elsewhere" / "src"
        if elsewhere.exists():
            elsewhere.rename(folder / "src")

    (bench.folder / "elsewhere" / "src").mkdir(parents=True)
    (bench.folder / "elsewhere" / "src" / "a.py").write_bytes(b"A = 2\n")
    (bench.folder / "elsewhere" / "src" / "z.py").touch()
    for _ in range(3):
        assert bench.look(bench.repository.head(), move)[1] == FIRST


def test_what_left_the_commit_is_not_missed_by_a_check_that_mends(bench: Bench) -> None:
    def spoil(folder: Path) -> None:
        for path in ("src/a.py", "src/b.py"):
            (folder / path).write_bytes(b"spoilt\n")

    first = bench.repository.head()
    bench.repository.git("rm", "-q", "src/b.py")
    second = bench.repository.commit("less")
    bench.look(first, spoil)
    altered: list[tuple[str, ...]] = []
    check = Check(CheckName("c"), "true", inputs=bench.inputs)
    with bench.workspace.place(RunRequest(RunId("run"), check, InputKey("k"), Sha(second)), Isolation.PLAIN) as place:
        assert place.altered is not None
        altered.append(place.altered())
        (place.folder / "src/a.py").write_bytes(b"mended\n")
        altered.append(place.altered())
    assert altered == [(), ("src/a.py",)]


def test_inputs_that_nobody_touched_are_given_away_again_without_a_git(repository: Repository, tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    class Door(PlainGit):
        def run(self, *arguments: str, **options: Any) -> GitEnd:
            asked.append(arguments)
            return super().run(*arguments, **options)

    def look(commit: str, spoil: str = "") -> list[str]:
        asked.clear()
        request = RunRequest(RunId("run"), check, InputKey("k"), Sha(commit))
        with workspace.place(request, Isolation.PLAIN) as place:
            assert content(place.folder) == contents[commit]
            (place.folder / (spoil or "untracked")).write_bytes(b"spoilt")
        return [arguments[0] for arguments in asked]

    check = Check(CheckName("c"), "true", inputs=("src/*",))
    workspace = Workspace(PlainGit(repository.git_dir), tmp_path / "gate", 0, Door, keeps_inputs=True)
    first, second = repository.head(), repository.commit("more", {"src/a.py": "A = 2\n"})
    contents = {first: {"src/a.py": b"A = 1\n", "src/b.py": b"B = 1\n"}}
    contents[second] = {**contents[first], "src/a.py": b"A = 2\n"}
    assert look(first) == ["init", "update-index", "checkout-index"]
    assert look(first) == []
    assert look(second, "src/b.py") == ["update-index", "checkout-index"]
    assert look(second) == ["update-index", "checkout-index"]  # what was spoilt
    assert look(second) == []


def test_what_is_as_new_as_the_note_of_it_is_written_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks 250 times a second cannot tell a file as it was written from one altered right after."""
    bench = Bench(repository, tmp_path / "gate", ("*",))
    bench.look(repository.head())
    file = bench.home / "tree" / "src" / "a.py"
    assert (bench.home / "settled").stat().st_ctime_ns > file.stat().st_ctime_ns
    file.write_bytes(b"A = 2\n")
    altered = file.stat()
    read = WarmInputs._read_settled

    def in_one_tick(self: WarmInputs) -> _Settled:
        settled = read(self)
        settled.stamps[b"src/a.py"] = (altered.st_ino, altered.st_ctime_ns)
        return settled._replace(at_ns=altered.st_ctime_ns)

    monkeypatch.setattr(WarmInputs, "_read_settled", in_one_tick)
    assert bench.look(repository.head())[1] == FIRST


@pytest.mark.parametrize("name", ["src", "."])
def test_a_folder_gets_its_mode_back(bench: Bench, name: str) -> None:
    modes = []

    def lock(folder: Path) -> None:
        modes.append((folder / name).stat().st_mode)
        (folder / name).chmod(0o500)

    for _ in range(3):
        bench.look(bench.repository.head(), lock)
    assert len(set(modes)) == 1


def test_a_note_that_was_cut_short_hides_no_file(repository: Repository, tmp_path: Path) -> None:
    """As on a full disk."""
    bench = Bench(repository, tmp_path / "gate", ("*",))
    bench.look(repository.head())
    settled = bench.home / "settled"
    whole = settled.read_bytes()
    for length in range(0, len(whole), 7):
        settled.write_bytes(whole[:length])
        assert bench.look(repository.head())[1] == FIRST


def test_a_lock_that_a_killed_git_left_keeps_nobody_from_asking_what_was_altered(bench: Bench) -> None:
    check = Check(CheckName("c"), "true", inputs=bench.inputs)
    for run in "ab":
        request = RunRequest(RunId(run), check, InputKey("k"), Sha(bench.repository.head()))
        with bench.workspace.place(request, Isolation.PLAIN) as place:
            assert place.altered is not None
            assert place.altered() == ()
            (bench.home / "git" / "index.lock").touch()


@pytest.mark.parametrize(
    ("settings", "attributes", "shown"),
    [
        ({"core.autocrlf": "true"}, "", b"A = 1\r\n"),
        ({"filter.rev.smudge": "rev", "filter.rev.clean": "rev"}, "*.py filter=rev\n", b"1 = A\n"),
        ({}, "*.py text eol=crlf\n", b"A = 1\r\n"),
    ],
)
def test_files_are_made_as_the_repository_says_outside_of_its_commits(
    bench: Bench, settings: Mapping[str, str], attributes: str, shown: bytes
) -> None:
    repository, commit = bench.repository, bench.repository.head()
    assert bench.look(commit)[1] == FIRST
    folder = (bench.home / "tree").stat().st_ino
    repository.git("config", "branch.main.description", "of no interest")
    assert bench.look(commit)[1] == FIRST
    assert (bench.home / "tree").stat().st_ino == folder, "only what decides how files are made counts"
    for name, value in settings.items():
        repository.git("config", name, value)
    (repository.git_dir / "info").mkdir(exist_ok=True)
    (repository.git_dir / "info" / "attributes").write_text(attributes)
    for _ in range(2):
        assert bench.look(commit)[1]["src/a.py"] == shown
    for name in settings:
        repository.git("config", "--unset", name)
    (repository.git_dir / "info" / "attributes").unlink()
    assert bench.look(commit)[1] == FIRST


def test_an_index_that_is_broken_is_told_once_and_made_anew(bench: Bench) -> None:
    check = Check(CheckName("c"), "true", inputs=bench.inputs)
    for run, is_broken in (("a", True), ("b", False)):
        request = RunRequest(RunId(run), check, InputKey("k"), Sha(bench.repository.head()))
        with bench.workspace.place(request, Isolation.PLAIN) as place:
            assert place.altered is not None
            if is_broken:
                (bench.home / "git" / "index").write_bytes(b"garbage")
                with pytest.raises(GitFailed):
                    place.altered()
            else:
                assert place.altered() == ()


def test_files_are_made_as_the_account_says_now(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``git lfs install``, which adds a filter to the account's settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    commit = bench.repository.head()
    assert bench.look(commit)[1] == FIRST
    (tmp_path / ".gitconfig").write_text("[core]\n\tautocrlf = true\n")
    assert bench.look(commit)[1]["src/a.py"] == b"A = 1\r\n"


@pytest.mark.parametrize(
    ("setting", "says", "says_not"),
    [
        ("include.path", "[core]\n\tautocrlf = true\n", "[core]\n\tautocrlf = false\n"),
        ("core.attributesFile", "*.py text eol=crlf\n", ""),
    ],
)
def test_files_are_made_as_a_file_says_that_a_setting_names(
    bench: Bench, tmp_path: Path, setting: str, says: str, says_not: str
) -> None:
    commit, named = bench.repository.head(), tmp_path / "named"
    bench.repository.git("config", setting, str(named))
    assert bench.look(commit)[1] == FIRST
    named.write_text(says)
    assert bench.look(commit)[1]["src/a.py"] == b"A = 1\r\n"
    named.write_text(says_not)
    assert bench.look(commit)[1] == FIRST
    folder = (bench.home / "tree").stat().st_ino
    assert bench.look(commit)[1] == FIRST
    assert (bench.home / "tree").stat().st_ino == folder, "as long as that says the same, nothing is made anew"


def test_files_are_made_as_the_file_says_that_the_environment_names(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    commit = bench.repository.head()
    assert bench.look(commit)[1] == FIRST
    settings.write_text("[core]\n\tautocrlf = true\n")
    assert bench.look(commit)[1]["src/a.py"] == b"A = 1\r\n"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "")  # none at all
    assert bench.look(commit)[1] == FIRST
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(settings))
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM", raising=False)
    assert bench.look(commit)[1]["src/a.py"] == b"A = 1\r\n"
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert bench.look(commit)[1] == FIRST


def test_files_are_made_as_the_settings_of_the_work_tree_say(bench: Bench) -> None:
    commit = bench.repository.head()
    bench.repository.git("config", "extensions.worktreeConfig", "true")
    assert bench.look(commit)[1] == FIRST
    bench.repository.git("config", "--worktree", "core.autocrlf", "true")
    assert bench.look(commit)[1]["src/a.py"] == b"A = 1\r\n"


def test_a_commit_that_was_refused_leaves_nothing_that_a_check_that_mends_would_miss(bench: Bench) -> None:
    repository = bench.repository
    bench.look(repository.head())
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"evil")
    inner = repository.git("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    refused = commit_of_raw_tree(repository, [("100644", "a", blob), ("40000", "..", inner), ("100644", "z", blob)])
    with pytest.raises(TreeRefused):
        bench.look(refused)
    check = Check(CheckName("c"), "true", inputs=bench.inputs)
    request = RunRequest(RunId("run"), check, InputKey("k"), Sha(repository.head()))
    with bench.workspace.place(request, Isolation.PLAIN) as place:
        assert place.altered is not None
        assert place.altered() == ()


def test_an_attributes_file_that_a_check_left_has_no_say_in_the_next_run(bench: Bench) -> None:
    first = bench.repository.head()
    second = bench.repository.commit("more", {"src/a.py": "A = 2\n", "new/c.py": "C = 1\n"})

    def leave_attributes(folder: Path) -> None:
        for where in (folder, folder / "src", folder / "new"):
            where.mkdir(exist_ok=True)
            (where / ".gitattributes").write_text("* text eol=crlf\n")

    bench.look(first, leave_attributes)
    assert bench.look(second, leave_attributes)[1] == {**FIRST, "src/a.py": b"A = 2\n", "new/c.py": b"C = 1\n"}
    assert bench.look(first)[1] == FIRST


def test_a_change_of_attributes_alone_rewrites_the_files_they_speak_of(bench: Bench) -> None:
    first = bench.repository.head()
    second = bench.repository.commit("crlf", {".gitattributes": "*.py text eol=crlf\n"})
    bench.look(first)
    assert bench.look(second)[1]["src/a.py"] == b"A = 1\r\n"
    assert bench.look(first)[1]["src/a.py"] == b"A = 1\n"


def test_the_canonical_repository_knows_nothing_of_it(bench: Bench) -> None:
    git_dir = bench.repository.git_dir

    def state() -> dict[str, str | bytes]:
        return {path: what for path, what in content(git_dir).items() if not path.startswith("gate/")}

    before = state()
    bench.look(bench.repository.head(), git=True)
    bench.look(bench.repository.head(), inputs=("src/**",))
    assert state() == before


def test_history_is_there_for_a_check_that_asks_and_gone_for_the_next(bench: Bench) -> None:
    commit = bench.repository.commit("second", {"x": "x"})
    seen = []

    def history(folder: Path) -> None:
        done = subprocess.run(["git", "log", "--format=%s"], cwd=folder, capture_output=True, text=True, check=True)
        clean = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True)
        seen.append((done.stdout, clean.stdout))

    bench.look(commit, history, git=True)
    assert seen == [("second\nfirst\n", "")]
    assert bench.look(commit)[1] == {**FIRST, "x": b"x"}


def test_a_repository_of_long_object_ids(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "long")
    repository.path.mkdir()
    repository.git("init", "-q", "--object-format=sha256", ".")
    commit = repository.commit("first", {"a": "a"})
    bench = Bench(repository, tmp_path / "gate")
    assert bench.look(commit)[1] == {"a": b"a"}
    assert bench.look(commit, inputs=("a",))[1] == {"a": b"a"}


@pytest.mark.parametrize(
    ("inputs", "prefixes"),
    [
        (("src/**",), ["src"]),
        (("/src/*.py", "docs/a.md", "!docs/**"), ["src", "docs/a.md"]),
        (("src/",), []),  # a folder of this name anywhere
        (("/src/",), ["src"]),
        (("*.py",), []),
        (("/src/**", "README.md"), []),
        (("**/x/y",), []),
        (("a/[b]/c",), ["a"]),
        (("a/../b/c",), []),
        (("# comment", "", "a/b"), ["a/b"]),
        (("a\\ b/c",), []),
    ],
)
def test_where_to_look_for_inputs(inputs: tuple[str, ...], prefixes: list[str]) -> None:
    assert literal_prefixes(inputs) == prefixes


@pytest.mark.parametrize(
    "inputs", [("/src/*.py",), ("src/",), ("s*/a.py",), ("/src", "!/src/b.py"), ("/src/a.py/x", "b.py")]
)
def test_looking_only_there_finds_the_same(bench: Bench, inputs: tuple[str, ...]) -> None:
    narrow, _ = bench.look(bench.repository.head(), inputs=inputs)
    wide, _ = bench.look(bench.repository.head(), inputs=("*.nothing", *inputs))
    assert narrow.files == wide.files


# --- what a run altered --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [("**",), ("*.txt",)])
def test_a_place_tells_which_of_its_files_are_other_than_they_were_written(bench: Bench, inputs: tuple[str, ...]) -> None:
    commit = bench.repository.commit("First", {"kept.txt": "1", "edited.txt": "1", "gone.txt": "1", "same.txt": "1"})
    told: list[tuple[str, ...] | None] = []

    check = Check(CheckName("c"), "true", inputs=inputs)
    with bench.workspace.place(RunRequest(RunId("r"), check, InputKey("k"), Sha(commit)), Isolation.PLAIN) as place:
        assert place.altered is not None
        told.append(place.altered())
        (place.folder / "edited.txt").write_text("2")
        (place.folder / "gone.txt").unlink()
        (place.folder / "same.txt").write_text("1")
        (place.folder / "made.txt").write_text("by the way")
        told.append(place.altered())
    assert told == [(), ("edited.txt", "gone.txt")]
