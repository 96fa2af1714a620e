"""gate background and gate local: real commits, real processes after them, and what is told of these."""

import fcntl
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ci import processes
from ci.model import CheckName, InputKey, Outcome, Result, RunId
from ci.results import LocalResults
from fakes.repositories import Repository, git_env
from fakes.stand import wait_for
from hooks import background as background_module
from hooks.background import python_options
from hooks.desk import Desk
from hooks.known import note_green
from hooks.records import KEPT, Answer, Note, Record, keep_note, keep_record, read_notes, read_records, unsettled
from hooks.session import cores, log_file

GATE = Path(sys.executable).with_name("gate")
PATIENCE_S = 60


class Line:
    """A named pipe between a check and a test. Whoever listens waits for the other, and no longer than the test may take."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR)  # so that neither side waits for the other to open it

    def hear(self) -> str:
        """What a check says into it."""
        assert self.is_spoken_into(within_s=PATIENCE_S), f"nothing came through {self.path.name}"
        return os.read(self._end, 1000).decode().strip()

    def is_spoken_into(self, within_s: float = 0) -> bool:
        return bool(select.select([self._end], [], [], within_s)[0])

    def say(self) -> None:
        """Let one check go on that reads from it."""
        os.write(self._end, b"go\n")


class Clone:
    """A developer's clone with our hooks, whose check waits where a test tells it to."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository = repository
        self.path = repository.path
        self.git_dir = repository.git_dir
        self.began = Line(folder / "began")
        self.go = Line(folder / "go")

    def rule(self, text: str) -> None:
        """Commit this gate.toml, past the hooks."""
        self.repository.write("gate.toml", textwrap.dedent(text))
        self.repository.git("add", "gate.toml")
        self.repository.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "-m", "Rules")

    def gate(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GATE, *words], cwd=cwd or self.path, env=git_env(**env), capture_output=True, text=True, check=False
        )

    def commit(self, files: Mapping[str, str] | None = None, *words: str, cwd: Path | None = None, **env: str) -> str:
        """Commit through the hooks; what was said. Returns once nobody holds git's output any more."""
        for path, content in (files or {}).items():
            Repository(cwd or self.path).write(path, content)
        words = words or ("-m", "Work")
        Repository(cwd or self.path).git("add", "-A")
        done = Repository(cwd or self.path).run("commit", "-q", "--allow-empty", *words, env=env)
        assert done.returncode == 0, done.stderr
        return os.fsdecode(done.stdout + done.stderr)

    def local(self, cwd: Path | None = None) -> list[Any]:
        done = self.gate("local", "--json", cwd=cwd)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["commits"])

    def state(self, ref: str = "HEAD") -> str | None:
        """How the work on a commit stands; None when nothing is known of it."""
        commit = self.repository.head(ref)
        return next((each["state"] for each in self.local() if each["commit"] == commit), None)

    def wait(self, ref: str = "HEAD") -> None:
        """Until the work on a commit has come to an end."""
        commit = self.repository.head(ref)

        def is_over() -> bool:
            record = read_records(self.repository.git_dir).get(commit)
            return record is not None and record.ended is not None and Desk(str(self.git_dir)).worked_on() is None

        wait_for(is_over, within_s=PATIENCE_S)


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> Iterator[Clone]:
    clone = Clone(repository, tmp_path)
    assert clone.gate("install", "--hook-type", "pre-commit", "--hook-type", "post-commit").returncode == 0
    yield clone
    clone.gate("background", "--stop")


@pytest.fixture
def waiting(clone: Clone) -> Clone:
    """The check tells its process and waits for a word."""
    clone.rule(f"""
        [[check]]
        name = "unit"
        command = 'echo $$ > {clone.began.path}; read word < {clone.go.path}; test ! -e bad'
    """)
    return clone


UNIT = """
    [[check]]
    name = "unit"
    command = "test ! -e bad"
"""

# A check that names a failed test, as JUnit reports do.
NAMES = """
    [[check]]
    name = "unit"
    command = '''
    test ! -e bad && exit
    echo '<testsuite><testcase classname="tests.test_a" name="test_b"><failure/></testcase></testsuite>' > {junit}
    exit 1
    '''
"""


# --- a commit and its work ----------------------------------------------------------------------------------------------


def test_a_commit_does_not_wait_for_its_check(waiting: Clone) -> None:
    assert waiting.commit() == "gate: nothing is staged, so there is nothing to check (--all-files checks everything)\n"
    waiting.began.hear()
    wait_for(lambda: [each["name"] for each in waiting.local()[0]["running"]] == ["unit"], within_s=PATIENCE_S)
    assert waiting.state() == "running"
    waiting.go.say()
    waiting.wait()
    (seen,) = waiting.local()
    assert (seen["state"], seen["age"], seen["subject"]) == ("finished", 0, "Work")
    assert [(each["name"], each["outcome"]) for each in seen["checks"]] == [("unit", "green")]


def test_nobody_who_reads_what_git_says_waits_either(waiting: Clone) -> None:
    """Also not on a descriptor of their own, which git and the hook hand down without knowing."""
    line = "git commit -q --allow-empty -m Work 2>&1 3>&1 | cat"
    subprocess.run(["sh", "-c", line], cwd=waiting.path, env=git_env(), check=True, capture_output=True, timeout=PATIENCE_S)
    waiting.began.hear()
    assert waiting.state() == "running"


def test_the_work_stays_out_of_the_way(waiting: Clone) -> None:
    waiting.commit(None, GATE_SKIP="unit", GIT_EDITOR="true")
    check = int(waiting.began.hear())
    worker = worker_of(check)
    assert os.getpriority(os.PRIO_PROCESS, check) == 19
    assert os.getsid(worker) == worker
    environment = Path(f"/proc/{worker}/environ").read_text().split("\0")
    names = {entry.partition("=")[0] for entry in environment}
    assert names.isdisjoint({"GATE_HOOK", "GATE_SKIP", "GIT_EDITOR", "GIT_INDEX_FILE"})
    assert {"PATH", "GIT_CONFIG_GLOBAL"} <= names


def test_one_core_is_left_to_its_owner(clone: Clone) -> None:
    names = [f"c{number}" for number in range(cores() + 1)]
    clone.rule("".join(f'[[check]]\nname = "{name}"\ncommand = "read word < {clone.go.path}"\n' for name in names))
    clone.commit()
    wait_for(lambda: clone.local() and clone.local()[0]["running"], within_s=PATIENCE_S)
    assert len(clone.local()[0]["running"]) == max(1, cores() - 1)


@pytest.mark.parametrize(("name", "words"), [("a b", "'a b'"), ("-a", "-- -a")])
def test_what_a_check_would_mend_is_said_with_the_command_that_does(clone: Clone, name: str, words: str) -> None:
    clone.rule("""
        [[check]]
        name = "good"
        stage = "pre-commit"
        command = 'for file in {files}; do echo GOOD > "$file"; done'
        inputs = ["/*a*", "!/gate.toml"]
        fix = true
    """)
    clone.commit({name: "BAD\n"}, "--no-verify", "-m", "Work")
    clone.wait()
    (found,) = clone.local()[0]["checks"]
    assert found["reason"] == f"it would mend {name}: gate check --fix {words} does that in your work tree"
    assert clone.repository.git("show", f"HEAD:{name}") == "BAD"


def test_what_the_gate_asks_for_is_run_on_the_whole_commit(clone: Clone) -> None:
    clone.rule("""
        [[check]]
        name = "early"
        stage = "pre-commit"
        command = "true"

        [[check]]
        name = "files"
        command = 'test "$(echo {files})" = "src/a.py src/b.py"'
        inputs = ["src/"]

        [[check]]
        name = "late"
        stage = "post-commit"
        command = "false"
    """)
    clone.commit({"src/a.py": "A = 2\n"})
    clone.repository.write("src/a.py", "unstaged\n")
    clone.wait()
    assert {each["name"]: each["outcome"] for each in clone.local()[0]["checks"]} == {"early": "green", "files": "green"}
    assert [each["cached"] for each in json.loads(clone.gate("check", "--stage", "merge", "--json").stdout)["checks"]] == [
        True,
        True,
    ]


def test_what_is_green_is_not_run_again(waiting: Clone) -> None:
    waiting.commit()
    waiting.began.hear()
    waiting.go.say()
    waiting.wait()
    waiting.commit()
    waiting.wait()
    assert waiting.local()[0]["checks"][0]["cached"]
    assert not waiting.began.is_spoken_into()


def test_a_newer_commit_takes_the_place_of_an_older_one(waiting: Clone) -> None:
    waiting.commit({"a.txt": "1\n"})
    first = int(waiting.began.hear())
    waiting.commit({"a.txt": "2\n"})
    second = int(waiting.began.hear())
    assert second != first
    assert not processes.is_alive(first)
    assert (waiting.state("HEAD~1"), waiting.state()) == ("superseded", "running")


def test_what_was_found_before_a_newer_commit_came_is_kept(clone: Clone) -> None:
    clone.rule(f"""
        [[check]]
        name = "first"
        command = "echo first > {clone.began.path}"
        inputs = ["src/"]

        [[check]]
        name = "second"
        command = 'echo $$ > {clone.began.path}; exec sleep 1000'
        needs = ["first"]
    """)
    clone.commit({"a.txt": "1\n"})
    assert clone.began.hear() == "first"
    clone.began.hear()
    clone.commit({"a.txt": "2\n"})
    assert clone.began.hear() != "first"
    assert [(each["name"], each["cached"]) for each in clone.local()[0]["checks"]] == [("first", True)]
    assert [(each["name"], each["cached"]) for each in clone.local()[1]["checks"]] == [("first", False)]


def test_an_amended_commit_is_worked_on_instead(waiting: Clone) -> None:
    waiting.gate("install")
    waiting.commit({"a.txt": "1\n"})
    first = int(waiting.began.hear())
    waiting.commit({"a.txt": "2\n"}, "--amend", "--no-edit")
    waiting.began.hear()
    assert not processes.is_alive(first)
    assert [each["age"] for each in waiting.local()] == [0]
    assert "has seen the amended commit" in waiting.gate("background", "amend").stderr


def test_it_can_be_stopped_and_started_by_hand(waiting: Clone) -> None:
    waiting.commit()
    check = int(waiting.began.hear())
    stopped = waiting.gate("background", "--stop")
    assert "has ended" in stopped.stderr
    assert not processes.is_alive(check)
    assert waiting.state() == "stopped"
    assert "nothing runs" in waiting.gate("background", "--stop").stderr
    waiting.go.say()
    done = waiting.gate("background", "--foreground")
    assert (done.returncode, waiting.state()) == (0, "finished")
    assert done.stdout.startswith("unit  green")


def test_foreground_has_the_exit_code_of_the_checks(clone: Clone) -> None:
    clone.rule("[hooks]\nbackground = false\n" + textwrap.dedent(UNIT))
    clone.commit({"bad": ""})
    assert clone.local() == []
    assert clone.gate("background", "--foreground").returncode == 1  # whatever the hook's own process does meanwhile
    assert clone.state() == "finished"


# --- nothing to do, and what goes wrong ---------------------------------------------------------------------------------


def test_a_repository_without_a_gate_toml_hears_nothing(clone: Clone) -> None:
    assert clone.commit({"a.txt": "1\n"}) == ""
    assert not (clone.git_dir / "gate").exists()
    assert "HEAD has no gate.toml" in clone.gate("background").stderr
    assert clone.gate("local").stdout.startswith("nothing is known")


def test_a_glance_at_signed_commits_where_git_shows_signatures(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.repository.git("config", "log.showSignature", "true")
    signed = clone.repository.sign()
    assert clone.gate("background", "--foreground").returncode == 0
    assert [seen["commit"] for seen in clone.local()] == [signed]


def test_the_first_commit_of_all(tmp_path: Path) -> None:
    clone = Clone(Repository.create(tmp_path / "new"), tmp_path)
    assert clone.gate("background").returncode == 0
    assert clone.gate("local").returncode == 0
    clone.gate("install")
    clone.commit({"gate.toml": UNIT})
    clone.wait()
    assert clone.state() == "finished"


def test_a_setting_turns_it_off(clone: Clone) -> None:
    clone.rule("[hooks]\nbackground = false\n" + textwrap.dedent(UNIT))
    clone.commit()
    assert not (clone.git_dir / "gate/background.wanted").exists()  # nobody was started
    assert clone.local() == []


@pytest.mark.parametrize("config", ["[hooks]\nbackground = true", "[hooks\nbackground = false", "hooks = 'background'"])
def test_what_does_not_turn_it_off(clone: Clone, config: str) -> None:
    clone.rule(config)
    clone.commit()
    clone.wait()
    assert clone.state() in ("finished", "failed")


@pytest.mark.parametrize("linked", [False, True])
def test_a_repository_that_is_gone_does_not_come_back(waiting: Clone, tmp_path: Path, linked: bool) -> None:
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    temporary.mkdir()
    if linked:
        waiting.repository.git("worktree", "add", "-q", "-b", "topic", str(folder))
    else:
        folder = waiting.path
    waiting.commit({"a.txt": "1\n"}, cwd=folder, TMPDIR=str(temporary))
    commit = Repository(folder).head()
    pid = int(waiting.began.hear())
    if linked:
        waiting.repository.git("worktree", "remove", "--force", str(folder))
    else:
        folder.rename(tmp_path / "elsewhere")
    wait_for(lambda: not is_named_by_a_process(commit), PATIENCE_S)
    assert processes.start_ticks(pid) is None
    assert not folder.exists()
    assert [*temporary.iterdir()] == []
    if linked:
        assert read_records(waiting.git_dir)[commit].ended == "stopped"
    else:
        (tmp_path / "elsewhere").rename(folder)


def test_a_worker_whose_repository_is_gone_before_it_begins_says_nothing(clone: Clone, tmp_path: Path) -> None:
    gone, temporary = tmp_path / "gone", tmp_path / "temporary"
    temporary.mkdir()
    git_dir = str(gone / ".git")
    done = clone.gate("background", "--work", git_dir, git_dir, str(gone), "0" * 40, TMPDIR=str(temporary))
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")
    assert not gone.exists()
    assert [*temporary.iterdir()] == []


def test_nothing_that_is_kept_makes_a_git_folder(tmp_path: Path) -> None:
    gone = tmp_path / ".git"
    with pytest.raises(FileNotFoundError):
        keep_record(gone, Record("0" * 40, str(gone), 0.0))
    note_green(str(gone), "key", 1.0)
    with pytest.raises(FileNotFoundError):
        log_file(gone / "gate", "log")
    with LocalResults(gone / "gate/results.sqlite") as results:
        results.record(Result(InputKey("k"), CheckName("c"), Outcome.GREEN, RunId("r"), 0.0, 1.0))
    assert not gone.exists()


def is_named_by_a_process(word: str) -> bool:
    """Whether a process has this among the words that it was started with."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if word.encode() in words.read_bytes():
                return True
    return False


def test_variables_of_python_count_only_where_they_lead_to_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = Path(background_module.__file__).parents[1]
    for name in ("PYTHONPATH", "PYTHONUSERBASE"):
        monkeypatch.delenv(name, raising=False)
    assert python_options() == ("-P", "-E")
    for name, folder in (("PYTHONPATH", f"{tmp_path}{os.pathsep}{ours}"), ("PYTHONUSERBASE", str(ours.parent))):
        with monkeypatch.context() as context:
            context.setenv(name, str(tmp_path))
            assert python_options() == ("-P", "-E")
            context.setenv(name, folder)
            assert python_options() == ("-P",)


def test_a_killed_worker_shows_as_interrupted_and_the_next_one_cleans_up(waiting: Clone) -> None:
    waiting.commit({"a.txt": "1\n"})
    check = int(waiting.began.hear())
    os.kill(worker_of(check), signal.SIGKILL)
    wait_for(lambda: waiting.state() == "interrupted", within_s=PATIENCE_S)
    assert "interrupted" in waiting.gate("local").stdout
    assert processes.is_alive(check)
    waiting.commit({"a.txt": "2\n"})
    waiting.began.hear()
    assert not processes.is_alive(check)
    waiting.go.say()
    waiting.wait()
    assert (waiting.state("HEAD~1"), waiting.state()) == ("interrupted", "finished")


def test_what_a_killed_worker_left_does_not_outlive_the_next_commit(waiting: Clone) -> None:
    """Also where that has nothing to run, and so needs no place that it would tidy up first."""
    waiting.commit({"a.txt": "1\n"})
    check = int(waiting.began.hear())
    os.kill(worker_of(check), signal.SIGKILL)
    waiting.commit({"gate.toml": "[message]\nmax_subject = 72\n"})
    waiting.wait()
    assert not processes.is_alive(check)


def test_what_a_runner_left_that_was_killed_does_not_outlive_the_next_one(waiting: Clone) -> None:
    """Though the check runs in the work tree, and in no place that would be tidied up."""
    waiting.rule((waiting.path / "gate.toml").read_text() + 'stage = "pre-commit"\n')
    words, env = [GATE, "check", "--all-files"], git_env(PRE_COMMIT="1")
    killed = subprocess.Popen(words, cwd=waiting.path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check = int(waiting.began.hear())
    killed.kill()
    killed.wait()
    waiting.rule("""
        [[check]]
        name = "other"
        command = "true"
        stage = "pre-commit"
    """)
    done = waiting.gate("check", "--all-files", PRE_COMMIT="1")
    assert done.returncode == 0, done.stdout
    assert not processes.is_alive(check)


def test_a_worker_that_is_asked_to_end_ends_its_checks(waiting: Clone) -> None:
    waiting.commit()
    check = int(waiting.began.hear())
    os.kill(worker_of(check), signal.SIGTERM)
    waiting.wait()
    assert waiting.state() == "stopped"
    assert not processes.is_alive(check)


def worker_of(check: int) -> int:
    """The process that runs this one."""
    return int(Path(f"/proc/{check}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_broken_gate_toml_is_told(clone: Clone) -> None:
    clone.repository.write(".git/hooks/pre-commit", "#!/bin/sh\n", executable=True)
    clone.commit({"gate.toml": "[[check]]\nname = 'x'\nstge = 'merge'\n"})
    clone.wait()
    (seen,) = clone.local()
    assert seen["state"] == "failed"
    assert "stge" in seen["trouble"]
    assert "stge" in clone.gate("local").stdout


def test_a_folder_that_cannot_be_written_does_not_undo_the_commit(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.repository.write(".git/gate", "in the way")
    said = clone.commit({"a.txt": "1\n"})
    assert clone.repository.git("status", "--porcelain") == ""
    assert "could not be started in the background" in said


# --- many commits at once -----------------------------------------------------------------------------------------------


def topic(clone: Clone, count: int = 3) -> None:
    """A branch with so many commits beside a trunk that went on, all made without our hooks."""
    clone.repository.git("checkout", "-q", "-b", "topic")
    for number in range(count):
        clone.repository.git("config", "core.hooksPath", os.devnull)
        clone.repository.commit(f"Topic {number}", {f"t{number}.txt": "t\n"})
    clone.repository.git("checkout", "-q", "main")
    clone.repository.commit("Meanwhile", {"m.txt": "m\n"})
    clone.repository.git("config", "--unset", "core.hooksPath")


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_a_rebase_starts_work_at_its_end(clone: Clone, backend: str) -> None:
    clone.rule(UNIT)
    clone.gate("install")
    topic(clone)
    clone.repository.git("checkout", "-q", "topic")
    clone.repository.git("rebase", "-q", backend, "main")
    clone.wait()
    assert [each["subject"] for each in clone.local()] == ["Topic 2"]


def test_a_rebase_that_has_stopped_starts_nothing(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.gate("install")
    topic(clone)
    clone.repository.git("checkout", "-q", "topic")
    clone.repository.run("rebase", "-q", "-x", "false", "main")
    clone.commit({"more.txt": "m\n"})
    asked = clone.gate("background")
    assert "more commits are about to be made" in asked.stderr
    assert clone.local() == []


@pytest.mark.parametrize("command", ["cherry-pick", "revert"])
def test_a_series_of_picks_starts_work_at_its_last(clone: Clone, command: str) -> None:
    clone.rule(UNIT)
    topic(clone)
    commits = ["main..topic"]
    if command == "revert":
        clone.repository.git("checkout", "-q", "topic")
        commits = ["--no-edit", "HEAD~2..HEAD"]
    clone.repository.git(command, *commits)
    clone.wait()
    assert [each["age"] for each in clone.local()] == [0]


def test_a_series_that_has_stopped_has_started_nothing(clone: Clone) -> None:
    clone.rule(UNIT)
    topic(clone)
    clone.repository.commit("In the way", {"t1.txt": "other\n"}, GIT_CONFIG_PARAMETERS=f"'core.hooksPath={os.devnull}'")
    assert clone.repository.run("cherry-pick", "main~1..topic").returncode == 1
    assert clone.repository.git("log", "-1", "--format=%s") == "Topic 0"
    assert Desk(str(clone.git_dir)).wanted() == ""


# --- several work trees -------------------------------------------------------------------------------------------------


def test_work_trees_do_not_disturb_each_other(waiting: Clone, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    waiting.repository.git("worktree", "add", "-q", str(linked), "-b", "linked")
    waiting.commit({"a.txt": "1\n"})
    first = int(waiting.began.hear())
    waiting.commit({"a.txt": "2\n"}, cwd=linked)
    second = int(waiting.began.hear())
    assert processes.is_alive(first)
    assert waiting.local(cwd=linked)[0]["state"] == "running"
    assert waiting.state() == "running"
    waiting.gate("background", "--stop", cwd=linked)
    assert not processes.is_alive(second)
    assert processes.is_alive(first)


# --- what the next commit is told ---------------------------------------------------------------------------------------


def reminded(said: str) -> list[str]:
    return [line for line in said.splitlines() if "gate local says more" in line]


def test_the_next_commits_are_told_of_a_red_one_until_it_is_green(clone: Clone) -> None:
    clone.rule(NAMES)
    clone.commit({"bad": ""})
    clone.wait()
    found = "unit is red, tests.test_a::test_b (gate local says more)"
    assert reminded(clone.commit({"bad": "still"}, "--no-verify", "-m", "Unheard")) == []
    clone.wait()
    assert reminded(clone.commit({"bad": "and still"})) == [f"gate: HEAD: {found}"]
    clone.gate("background", "--stop")
    clone.repository.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "--allow-empty", "-m", "More")
    (line,) = reminded(clone.commit())
    assert line.startswith("gate: ")
    assert line.endswith(found)
    clone.repository.git("rm", "-q", "bad")
    clone.commit()
    clone.wait()
    assert clone.state() == "finished"
    assert reminded(clone.commit()) == []
    assert not (clone.git_dir / "gate/said").exists()


def test_a_red_check_is_told_while_others_still_run(clone: Clone) -> None:
    clone.rule(f"""
        [[check]]
        name = "unit"
        command = "false"

        [[check]]
        name = "late"
        command = "read word < {clone.go.path}"
    """)
    clone.commit()
    wait_for((clone.git_dir / "gate/said").exists, within_s=PATIENCE_S)
    assert clone.state() == "running"
    assert reminded(clone.commit()) == ["gate: HEAD: unit is red (gate local says more)"]


def test_the_line_counts_the_commits_since(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.commit({"bad": ""})
    clone.wait()
    for count in (1, 2):
        clone.repository.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "--allow-empty", "-m", "More")
        done = clone.gate("check", GATE_HOOK="pre-commit")
        when = f"{count} commit{'s' if count > 1 else ''} ago"
        assert reminded(done.stderr) == [f"gate: {when}: unit is red (gate local says more)"]
    assert reminded(clone.gate("check").stderr) == []  # nobody is committing
    assert len(reminded(clone.gate("check", PRE_COMMIT="1").stderr)) == 1


def test_what_was_cleared_is_not_told_any_more(clone: Clone, tmp_path: Path) -> None:
    clone.rule(UNIT)
    clone.repository.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    for tree in (clone.path, tmp_path / "other"):
        clone.commit({"bad": ""}, cwd=tree)
    said = [clone.git_dir / "gate/said", clone.git_dir / "worktrees/other/gate/said"]
    wait_for(lambda: all(path.exists() for path in said), within_s=PATIENCE_S)
    clone.wait()
    clone.wait("other")
    assert clone.gate("cache", "clear").returncode == 0
    assert not any(path.exists() for path in said)
    assert reminded(clone.commit()) == []


def test_a_push_of_head_is_told_too_and_goes_on(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.commit({"bad": ""})
    clone.wait()
    clone.repository.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "--allow-empty", "-m", "More")

    def push(ref: str) -> dict[str, Any]:
        line = f"refs/heads/{ref} {clone.repository.head(ref)} refs/for/main {'0' * 40}\n"
        words = (GATE, "push", "--json", "origin", "url")
        done = subprocess.run(words, cwd=clone.path, env=git_env(), input=line, capture_output=True, text=True, check=True)
        facts: dict[str, Any] = json.loads(done.stdout)
        assert done.stderr.splitlines() == facts["warnings"]
        return facts

    told = "gate: 1 commit ago: unit is red (gate local says more)"
    assert (push("HEAD")["warnings"], push("HEAD")["green"]) == ([told], True)
    assert push("HEAD~1")["warnings"] == []  # of what is not checked out nobody asked


def test_a_commit_without_the_red_one_in_its_history_is_not_told(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.commit({"bad": ""})
    clone.wait()
    clone.repository.git("reset", "-q", "--hard", "HEAD~1")
    assert reminded(clone.commit({"a.txt": "1\n"})) == []


def test_a_setting_turns_the_line_off(clone: Clone) -> None:
    clone.rule("[hooks]\nremind = false\n" + textwrap.dedent(UNIT))
    clone.commit({"bad": ""})
    clone.wait()
    assert clone.local()[0]["checks"][0]["outcome"] == "red"
    assert reminded(clone.commit()) == []


def test_a_damaged_reminder_is_passed_over(clone: Clone) -> None:
    clone.rule(UNIT)
    for content in (b"", b"\xff\xfe", b"no-commit is red\n", b"--all words\n"):
        clone.repository.write(".git/gate/said", content)
        assert reminded(clone.gate("check", GATE_HOOK="pre-commit").stderr) == []


# --- what a glance shows ------------------------------------------------------------------------------------------------


def test_a_glance_reads_as_sentences(clone: Clone) -> None:
    clone.rule(NAMES)
    clone.commit({"a.txt": "1\n"}, "-m", "Good")
    clone.wait()
    clone.repository.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "--allow-empty", "-m", "Unknown")
    clone.commit({"bad": ""}, "-m", "Bad")
    clone.wait()
    head, good = clone.repository.head()[:7], clone.repository.head("HEAD~2")[:7]
    assert clone.gate("local").stdout.splitlines() == [
        f"HEAD           {head}  Bad",
        "  unit is red: 1 of 1 tests failed: tests.test_a::test_b",
        "    failed: tests.test_a::test_b",
        "  0 of 1 green",
        f"2 commits ago  {good}  Good",
        "  1 of 1 green",
    ]


def test_what_a_commit_was_made_without_is_shown(clone: Clone) -> None:
    clone.rule("""
        [hooks]
        budget = "1ms"
        background = false

        [[check]]
        name = "slow"
        stage = "pre-commit"
        command = "sleep 0.01; echo {files}"

        [[check]]
        name = "style"
        stage = "pre-commit"
        command = "true {files}"
    """)
    assert clone.gate("check", "--all-files").returncode == 0  # now it is known how long they take
    clone.commit({"a.txt": "1\n"}, GATE_SKIP="style")
    (seen,) = clone.local()
    assert (seen["state"], seen["skipped"], seen["left"]) == (None, ["style"], ["slow"])
    assert "committed without: style (skipped)" in clone.gate("local").stdout
    assert "committed without: slow (no time)" in clone.gate("local").stdout


def test_a_second_try_without_skips_takes_the_note_of_the_first_away(clone: Clone) -> None:
    """Also where no check is to be run any more, since what the check looks at is green already."""
    clone.rule("""
        [hooks]
        background = false

        [[check]]
        name = "style"
        stage = "pre-commit"
        command = "true"
        inputs = ["*.txt"]
    """)
    for name in ("a.txt", "b.md"):
        clone.repository.write(name, "1\n")
        clone.repository.git("add", name)
        skips = {"GATE_SKIP": "style", "GATE_HOOK": "pre-commit"} if name == "b.md" else {}
        assert clone.gate("check", **skips).returncode == 0
    assert [*(clone.git_dir / "gate/notes").iterdir()] != []
    assert "style  cached" in clone.commit()
    assert clone.local() == []


def test_a_check_that_nobody_commits_by_leaves_no_note(clone: Clone) -> None:
    clone.rule('[[check]]\nname = "style"\nstage = "pre-commit"\ncommand = "true"\n')
    clone.repository.write("a.txt", "1\n")
    clone.repository.git("add", "a.txt")
    assert clone.gate("check", GATE_SKIP="style").returncode == 0
    assert not (clone.git_dir / "gate/notes").exists()


def test_what_is_known_can_be_cleared(clone: Clone) -> None:
    clone.rule(UNIT)
    clone.commit()
    clone.wait()
    assert clone.gate("cache", "clear").returncode == 0
    assert clone.local() == []


def test_a_glance_outside_of_a_repository_says_so(clone: Clone, tmp_path: Path) -> None:
    for command in ("local", "background"):
        done = clone.gate(command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "not in the work tree" in done.stderr


# --- records ------------------------------------------------------------------------------------------------------------


def test_only_the_newest_records_and_notes_stay(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        keep_record(tmp_path, Record(f"{number:040}", "", 0.0))
        keep_note(tmp_path, f"{number:040}", Note(skipped=("x",)))
        for name in ("background", "notes"):
            os.utime(tmp_path / "gate" / name / f"{number:040}.json", (number, number))
    kept = {f"{number:040}" for number in range(5, KEPT + 5)}
    assert set(read_records(tmp_path)) == kept
    assert set(read_notes(tmp_path)) == kept


def test_a_note_of_nothing_takes_the_former_one_away(tmp_path: Path) -> None:
    keep_note(tmp_path, "tree", Note(left=("x",)))
    keep_note(tmp_path, "tree", Note())
    assert read_notes(tmp_path) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"commit": "x"}', '{"answers": [{}], "ended": ""}', "\udc80"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    keep_record(tmp_path, Record("good", "", 0.0, answers=(Answer("unit", "red", failed=("a\udc80",)),)))
    for name in ("background", "notes"):
        (tmp_path / "gate" / name).mkdir(exist_ok=True)
        (tmp_path / "gate" / name / "bad.json").write_bytes(os.fsencode(content))
    assert set(read_records(tmp_path)) == {"good"}
    assert read_notes(tmp_path) == {}


def record(*answers: tuple[str, str | None], wanted: str = "unit lint") -> Record:
    return Record("c", "", 0.0, tuple(wanted.split()), tuple(Answer(name, outcome) for name, outcome in answers))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], None),
        ([record(("unit", "green"))], None),
        ([record(("unit", "red"), ("lint", "green"))], (0, ["unit"])),
        ([record(("unit", "timed out"))], (0, ["unit"])),
        ([record(("unit", "green")), record(("unit", "red"))], None),
        ([record(("unit", "red")), record(("unit", "red"), ("lint", "red"))], (0, ["unit"])),
        ([record(("unit", "green")), record(("unit", "red"), ("lint", "red"))], (1, ["lint"])),
        ([record(), record(("unit", "red"))], (1, ["unit"])),
        ([record(("unit", None)), record(("unit", "red"))], (1, ["unit"])),
        ([record(("unit", "infrastructure error")), record(("unit", "red"))], (1, ["unit"])),
        ([record(wanted="lint"), record(("unit", "red"))], None),
        ([record(wanted=""), record(("unit", "red"))], (1, ["unit"])),
        ([record(("unit", "red")), record(("unit", "green"))], (0, ["unit"])),
    ],
)
def test_a_red_check_counts_until_a_later_commit_has_an_answer(
    history: list[Record], expected: tuple[int, list[str]] | None
) -> None:
    found = unsettled(history)
    assert (found and (history.index(found[0]), [answer.name for answer in found[1]])) == expected


# --- through a runner ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pre-commit", "prek"])
def test_a_runner_does_not_wait_for_the_work(waiting: Clone, tmp_path: Path, name: str) -> None:
    """Runners read a hook's output to its end. What they build environments for is told by tests/hooks/test_published.py."""
    program = Path(sys.executable).with_name(name)
    home = {"PRE_COMMIT_HOME": str(tmp_path / "home"), "PREK_HOME": str(tmp_path / "home")}
    entry = shlex.quote(str(GATE.with_name("gate-background")))
    waiting.repository.write(
        ".pre-commit-config.yaml",
        f"repos:\n- repo: local\n  hooks:\n  - {{id: gate-background, name: x, entry: {entry}, language: system,\n"
        "     stages: [post-commit, post-rewrite], always_run: true, pass_filenames: false}\n",
    )
    waiting.gate("uninstall")
    kinds = ("-t", "post-commit", "-t", "post-rewrite")
    subprocess.run([program, "install", *kinds], cwd=waiting.path, env=git_env(**home), check=True, capture_output=True)
    said = waiting.commit({"a.txt": "1\n"}, **home)
    assert "Failed" not in said
    first = int(waiting.began.hear())
    assert waiting.state() == "running"
    waiting.commit({"a.txt": "2\n"}, "--amend", "-m", "Amended", **home)
    waiting.began.hear()
    assert not processes.is_alive(first)
    assert (waiting.state(), waiting.began.is_spoken_into()) == ("running", False)


def test_a_look_at_the_lock_is_not_taken_for_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit was worked on before, is asked for again, and gate local looks at the same moment."""
    found = Desk(str(tmp_path))
    found.want("c" * 40)
    worked = found.take("c" * 40)
    assert worked is not None
    os.close(worked)
    looker = os.open(tmp_path / "gate/background.lock", os.O_RDONLY)
    fcntl.flock(looker, fcntl.LOCK_SH)
    monkeypatch.setattr("hooks.desk.time.sleep", lambda _: fcntl.flock(looker, fcntl.LOCK_UN))
    again = found.take("c" * 40)
    assert again is not None
    monkeypatch.undo()
    assert found.take("c" * 40) is None
    os.close(again)
    os.close(looker)
