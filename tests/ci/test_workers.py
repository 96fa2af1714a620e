"""Workers on this machine: real threads, real processes, and what is left when they are killed."""

import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci import processes
from ci.errors import Unavailable
from ci.git import Git, PlainGit
from ci.model import Check, CheckName, InputKey, Outcome, RunEnd, RunId, RunRequest, Sha
from ci.run import RunSettings
from ci.sandbox import bubblewrap_trouble
from ci.workers.local import LocalWorkers, reap
from fakes.repositories import Repository
from fakes.stand import wait_for

ISOLATIONS = [
    "plain",
    pytest.param(
        "bubblewrap",
        marks=pytest.mark.skipif(bubblewrap_trouble() is not None, reason=f"bubblewrap: {bubblewrap_trouble()}"),
    ),
]


class Shop:
    """Workers over a bare repository, with verbs for tests."""

    def __init__(self, repository: Repository, isolation: str = "plain", workers: int = 2) -> None:
        self.repository = repository
        self.folder = repository.path / "gate"
        self.ends: queue.Queue[RunEnd] = queue.Queue()
        settings = RunSettings(workers=workers, isolation=isolation)
        self.workers = LocalWorkers(PlainGit(repository.git_dir), self.folder, settings, self.ends.put, PlainGit)
        self.head = Sha(repository.head())

    def request(self, run: str, command: str, inputs: tuple[str, ...] = ("**",), **more: bool) -> RunRequest:
        return RunRequest(RunId(run), Check(CheckName(run), command, inputs=inputs, **more), InputKey("k"), self.head)

    def start(self, run: str, command: str, inputs: tuple[str, ...] = ("**",), **more: bool) -> None:
        self.workers.start(self.request(run, command, inputs, **more))

    def next_end(self) -> RunEnd:
        return self.ends.get(timeout=30)

    def run(self, run: str, command: str, inputs: tuple[str, ...] = ("**",), **more: bool) -> RunEnd:
        self.start(run, command, inputs, **more)
        return self.next_end()

    def log(self, end: RunEnd) -> str:
        return (self.folder / end.log).read_text() if end.log else ""


@pytest.fixture
def bare(repository: Repository, tmp_path: Path) -> Repository:
    return repository.clone(tmp_path / "repo.git", bare=True)


@pytest.fixture(params=ISOLATIONS)
def shop(request: pytest.FixtureRequest, bare: Repository) -> Iterator[Shop]:
    made = Shop(bare, request.param)
    yield made
    made.workers.close()
    assert not list((made.folder / "runs").glob("*"))
    assert processes.marked(made.folder / "runs", below=True) == set()


def test_a_whole_tree_and_declared_inputs(shop: Shop) -> None:
    end = shop.run("whole", "find . -type f | sort; ls -A ..")
    assert (end.outcome, end.isolation) == (Outcome.GREEN, shop.run("x", "true").isolation)
    assert shop.log(end).startswith("./README.md\n./src/a.py\n./src/b.py\n")
    assert shop.log(shop.run("inputs", "find . -type f", ("src/a.py",))) == "./src/a.py\n"


def test_the_log_is_named_relative_to_the_folder_and_absent_when_silent(shop: Shop) -> None:
    assert shop.run("loud", "echo x").log == "logs/loud.log"
    assert shop.run("silent", "true").log == ""


def test_history_is_seen_only_by_a_check_that_asks(shop: Shop) -> None:
    end = shop.run("history", "git log --format=%s && git status --porcelain", git=True)
    assert (end.outcome, shop.log(end)) == (Outcome.GREEN, "first\n")
    end = shop.run("none", "git log")
    assert end.outcome is Outcome.RED
    assert "not a git repository" in shop.log(end)
    inputs = shop.run("none-either", "git log", ("src/**",))
    assert "not a git repository" in shop.log(inputs)


def test_a_check_cannot_reach_the_journal(bare: Repository) -> None:
    if bubblewrap_trouble() is not None:
        pytest.skip(f"bubblewrap: {bubblewrap_trouble()}")
    shop = Shop(bare, "bubblewrap")
    shop.folder.mkdir(exist_ok=True)
    (shop.folder / "journal.sqlite").write_text("tokens")
    end = shop.run(
        "nosy", f"cat {shop.folder}/journal.sqlite; ls -A {bare.path} {shop.folder}; touch {bare.path}/refs/heads/evil"
    )
    shop.workers.close()
    assert "tokens" not in shop.log(end)
    assert shop.log(end).count("gate\n") == 1
    assert not (bare.path / "refs" / "heads" / "evil").exists()


def test_as_many_run_at_once_as_there_are_workers(shop: Shop) -> None:
    assert shop.workers.capacity == 2
    shop.start("slow", "sleep 1000")
    assert shop.run("quick", "true").request.run == "quick"
    shop.workers.cancel(RunId("slow"))
    assert shop.next_end().outcome is None


def test_runs_beyond_the_workers_wait_and_can_be_cancelled_there(bare: Repository) -> None:
    shop = Shop(bare, workers=1)
    shop.start("first", "sleep 1000")
    shop.start("second", "true")
    shop.start("third", "true")
    shop.workers.cancel(RunId("second"))
    shop.workers.cancel(RunId("first"))
    shop.workers.cancel(RunId("unknown"))
    ends = [shop.next_end() for _ in range(3)]
    shop.workers.close()
    assert [(end.request.run, end.outcome) for end in ends] == [("first", None), ("second", None), ("third", Outcome.GREEN)]
    assert ends[1].reason == "cancelled before it began"


def test_close_ends_what_runs_and_reports_it(shop: Shop) -> None:
    shop.start("a", "setsid sleep 1000 & sleep 1000")
    shop.start("b", "sleep 1000")
    shop.start("c", "true")
    shop.workers.close()
    shop.workers.close()
    assert {shop.next_end().request.run for _ in range(3)} == {"a", "b", "c"}
    assert shop.ends.empty()
    with pytest.raises(Unavailable, match="closed"):
        shop.start("late", "true")


def test_a_commit_that_is_not_there_is_infrastructure(shop: Shop) -> None:
    request = shop.request("lost", "true")._replace(commit=Sha("d" * 40))
    for again in (request, request._replace(check=request.check._replace(inputs=("src/**",)))):
        shop.workers.start(again)
        end = shop.next_end()
        assert end.outcome is Outcome.INFRASTRUCTURE
        assert "git" in end.reason
    assert shop.run("next", "true").outcome is Outcome.GREEN


def test_a_path_that_git_refuses_is_the_commits_fault(shop: Shop) -> None:
    blob = shop.repository.git("hash-object", "-w", "--stdin", stdin=b"evil")
    inner = shop.repository.git("mktree", stdin=f"100644 blob {blob}\tx\n".encode())
    raw = b"40000 ..\0" + bytes.fromhex(inner)
    tree = shop.repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    commit = Sha(shop.repository.git("commit-tree", "-m", "evil", tree))
    shop.workers.start(shop.request("evil", "true")._replace(commit=commit))
    end = shop.next_end()
    assert end.outcome is Outcome.RED
    assert "refuses to write" in end.reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_is_reported_as_infrastructure_and_the_worker_lives_on(
    bare: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    def door(git_dir: Path, work_tree: Path | None) -> Git:
        if broken[0]:
            raise ZeroDivisionError("a bug")
        return PlainGit(git_dir, work_tree)

    ends: queue.Queue[RunEnd] = queue.Queue()
    shop = Shop(bare)
    shop.workers.close()
    workers = LocalWorkers(PlainGit(bare.git_dir), shop.folder, RunSettings(workers=1, isolation="plain"), ends.put, door)
    workers.start(shop.request("one", "true"))
    first = ends.get(timeout=30)
    broken[0] = False
    workers.start(shop.request("two", "true"))
    second = ends.get(timeout=30)
    workers.close()
    assert (first.outcome, second.outcome) == (Outcome.INFRASTRUCTURE, Outcome.GREEN)
    assert "a bug in the gate" in first.reason
    assert "ZeroDivisionError" in caplog.text


DAEMON = """
import sys, threading
from pathlib import Path
from ci.git import PlainGit
from ci.model import *
from ci.run import RunSettings
from ci.workers.local import LocalWorkers
repo, isolation, head = sys.argv[1:]
workers = LocalWorkers(PlainGit(Path(repo)), Path(repo) / "gate", RunSettings(isolation=isolation), print, PlainGit)
hide = "env -i setsid sleep 1000 & " if isolation == "plain" else ""
check = Check(CheckName("c"), hide + "setsid sleep 1000 & echo ready; exec sleep 1000")
workers.start(RunRequest(RunId("r"), check, InputKey("k"), Sha(head)))
log = Path(repo) / "gate/logs/r.log"
while not log.exists():
    threading.Event().wait(0.002)
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_killed_daemon_leaves_nothing_once_the_next_has_begun(bare: Repository, isolation: str) -> None:
    folder = bare.path / "gate"
    command = [sys.executable, "-c", DAEMON, str(bare.path), isolation, bare.head()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready\n"
        leader = int((folder / "runs" / "r.process").read_text().split()[0])
        family = processes.family(leader)
        assert len(family) > 1
        daemon.kill()
    ended = reap(folder)
    if isolation == "plain":
        assert ended >= 2
    # What was in a sandbox is ended by the kernel, with the process that had made it, and that takes its moment.
    wait_for(lambda: not any(processes.is_alive(pid) for pid in family), within_s=30)
    assert list((folder / "runs").iterdir()) == []
    assert reap(folder) == 0
    shop = Shop(bare)
    assert shop.run("r", "true").outcome is Outcome.GREEN
    shop.workers.close()


def test_reaping_leaves_others_alone(bare: Repository, tmp_path: Path) -> None:
    # A record of a process that ended long ago, whose number somebody else has now; and a shell that stands in the folder.
    record = bare.path / "gate" / "runs" / "old.process"
    record.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"], cwd=record.parent, env={"PWD": str(record.parent)}) as innocent:
        record.write_text(f"{innocent.pid} 1\n")
        assert reap(bare.path / "gate") == 0
        assert innocent.poll() is None
        innocent.send_signal(signal.SIGKILL)
    assert not record.exists()


def test_reaping_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert reap(tmp_path / "nowhere") == 0
    assert list(tmp_path.iterdir()) == []
