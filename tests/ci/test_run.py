"""Running one check: what it is told, what is kept of its output, how it ends, and what that counts as."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ci import processes
from ci.model import Check, CheckName, InputKey, Outcome, RunEnd, RunId, RunRequest, Sha, Stage
from ci.run import BATCH_BYTES, RunSettings, run_check
from ci.sandbox import bubblewrap_trouble
from ci.workspace import Place

COMMIT = Sha("c" * 40)
HOSTILE = ("a b", 'quote\'d "x"', "new\nline", "-rf", "--help", "\udcff", "$(touch pwned)", "`x`", "*", "{junit}", "ünï")

needs_bubblewrap = pytest.mark.skipif(bubblewrap_trouble() is not None, reason=f"bubblewrap: {bubblewrap_trouble()}")


class Runner:
    """Runs checks in a folder of the test's, each with a scratch folder of its own."""

    def __init__(self, base: Path, isolation: str) -> None:
        self.isolation = isolation
        self.folder = base / "place"
        self.folder.mkdir()
        self.scratch = base / "scratch"
        self.log = base / "logs" / "run.log"
        self.cancelled = threading.Event()

    def __call__(
        self,
        command: str | tuple[str, ...],
        *,
        files: tuple[str, ...] | None = None,
        timeout_s: float = 60.0,
        env: tuple[tuple[str, str], ...] = (),
        junit: str | None = None,
        shown: tuple[tuple[Path, Path], ...] = (),
        base: Sha | None = None,
        change: str = "",
        pass_env: tuple[str, ...] = (),
        log_max_bytes: int = 1_000_000,
        retest: str | tuple[str, ...] | None = None,
        tests: tuple[str, ...] = (),
    ) -> RunEnd:
        check = Check(CheckName("c"), command, Stage.MERGE, timeout_s=timeout_s, env=env, junit=junit, retest=retest)
        request = RunRequest(RunId("r1"), check, InputKey("k"), COMMIT, base=base, change=change, files=files, tests=tests)
        self.log.unlink(missing_ok=True)
        self.scratch.mkdir(exist_ok=True)
        settings = RunSettings(isolation=self.isolation, pass_env=pass_env, log_max_bytes=log_max_bytes)
        end = run_check(request, Place(self.folder, scratch=self.scratch, shown=shown), settings, self.log, self.cancelled)
        assert end.isolation == self.isolation
        assert processes.marked(self.scratch) == set()
        return end

    @property
    def said(self) -> str:
        return os.fsdecode(self.log.read_bytes()) if self.log.exists() else ""

    def fifo(self) -> Path:
        """A pipe by which a check tells the test where it is; ``read_text`` waits for it."""
        os.mkfifo(self.folder / "fifo")
        return self.folder / "fifo"


@pytest.fixture(params=["plain", pytest.param("bubblewrap", marks=needs_bubblewrap)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return Runner(tmp_path, request.param)


@pytest.fixture
def plain(tmp_path: Path) -> Runner:
    return Runner(tmp_path, "plain")


# --- what it is told ----------------------------------------------------------------------------------------------------


def test_the_environment_is_built_and_not_inherited(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "GIT_DIR", "GIT_INDEX_FILE", "GATE_USER", "PYTHONPATH", "ALLOWED"):
        monkeypatch.setenv(name, "inherited")
    run(
        ("env", "-0"),
        env=(("EXTRA", "1"), ("GATE_COMMIT", "forged"), ("LANG", "de_DE.UTF-8")),
        pass_env=("ALLOWED", "UNSET"),
    )
    told = dict(line.split("=", 1) for line in run.said.split("\0")[:-1])
    junit, home, mark = (told.pop(name) for name in ("GATE_JUNIT", "HOME", "GATE_MARK"))
    assert (junit, home, mark) == (f"{run.scratch}/junit.xml", f"{run.scratch}/home", f"{run.scratch}")
    user = told.pop("USER")
    assert told.pop("LOGNAME") == user
    assert told.pop("TMPDIR") == (f"{run.scratch}/tmp" if run.isolation == "plain" else "/tmp")
    assert told.pop("PATH") == os.environ["PATH"]
    told.pop("PWD", None)  # the shell's own
    assert told == {
        "LANG": "de_DE.UTF-8",
        "TZ": "UTC",
        "CI": "true",
        "GATE": "1",
        "GATE_CHECK": "c",
        "GATE_STAGE": "merge",
        "GATE_RUN": "r1",
        "GATE_COMMIT": COMMIT,
        "EXTRA": "1",
        "ALLOWED": "inherited",
    }


def test_change_and_base_are_told_when_known(run: Runner) -> None:
    run('echo "$GATE_CHANGE/$GATE_BASE"', change="41", base=Sha("b" * 40))
    assert run.said == f"41/{'b' * 40}\n"


@pytest.mark.parametrize("command", ["printf '%s\\0' {files}", ("printf", "%s\\0", "{files}")])
def test_file_names_arrive_as_they_are_and_are_never_options(run: Runner, command: str | tuple[str, ...]) -> None:
    run(command, files=HOSTILE)
    assert run.said.split("\0")[:-1] == [f"./{name}" if name.startswith("-") else name for name in HOSTILE]
    assert list(run.folder.iterdir()) == []


def test_placeholders_in_both_forms(run: Runner) -> None:
    expected = f"--out={run.scratch}/junit.xml {COMMIT} x=a x=b\n"
    run(("echo", "--out={junit}", "{commit}", "x={files}"), files=("a", "b"))
    assert run.said == expected
    run('echo --out={junit} {commit} "x=$1" "x=$2"; : {files}', files=("a", "b"))
    assert run.said == expected


def test_no_files_is_green_without_a_run(run: Runner) -> None:
    end = run("false {files}", files=())
    assert (end.outcome, end.reason, run.said) == (Outcome.GREEN, "nothing to do: no file matches", "")


def test_a_check_that_names_no_files_runs_without_any(run: Runner) -> None:
    assert run("false", files=()).outcome is Outcome.RED


def test_many_files_come_in_batches_that_must_all_pass(run: Runner) -> None:
    files = tuple(f"{number:05}-{'x' * 100}" for number in range(3000))
    assert run('echo $#; printf "%s\\n" {files}; test "$1" != ' + files[0], files=files).outcome is Outcome.RED
    counts = [int(line) for line in run.said.splitlines() if len(line) < 100]
    assert len(counts) == 4
    assert sum(counts) == 3000
    assert tuple(line for line in run.said.splitlines() if len(line) > 100) == files
    assert max(counts) * 107 < BATCH_BYTES + 107


def test_a_single_name_longer_than_a_batch_still_runs(run: Runner) -> None:
    assert run("test $# = 1 && : {files}", files=("x" * (BATCH_BYTES + 1), "y")).outcome is Outcome.GREEN


# --- its output -----------------------------------------------------------------------------------------------------------


def test_output_and_errors_are_one_log_in_order(run: Runner) -> None:
    run("echo a; echo b >&2; echo c")
    assert run.said == "a\nb\nc\n"


def test_a_silent_check_has_no_log_file(run: Runner) -> None:
    run("true")
    assert not run.log.exists()


def test_output_is_in_the_log_while_the_check_runs(run: Runner) -> None:
    fifo = run.fifo()
    seen: list[str] = []

    def watch() -> None:
        fifo.read_text()  # the check has printed
        while not run.said:  # and the line is on its way
            threading.Event().wait(0.001)
        seen.append(run.said)
        fifo.write_text("go on")

    watcher = threading.Thread(target=watch)
    watcher.start()
    run("echo first; : > fifo; read -r _ < fifo; echo second")
    watcher.join()
    assert seen == ["first\n"]
    assert run.said == "first\nsecond\n"


def test_a_log_of_100_mb_is_cut_and_costs_no_memory(run: Runner) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = run("head -c 100000000 /dev/zero; echo end >&2; exit 3", log_max_bytes=10_000)
    assert (end.outcome, end.exit_code) == (Outcome.RED, 3)
    assert run.said == "\0" * 10_000 + "\ngate: the output is longer than 10000 bytes; the rest is dropped\n"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000


# --- its end --------------------------------------------------------------------------------------------------------------


NOT_HERE = "the program {!r} cannot be started on this machine (exit code {})"
NOT_THERE = "the program {!r} is missing or not executable in the check's folder (exit code {})"
KILLED = "something outside killed it (SIGKILL), most often for lack of memory"


@pytest.mark.parametrize(
    ("command", "outcome", "code", "reason"),
    [
        ("true", Outcome.GREEN, 0, ""),
        ("exit 3", Outcome.RED, 3, "exit code 3"),
        (("false",), Outcome.RED, 1, "exit code 1"),
        ("no-such-tool", Outcome.INFRASTRUCTURE, 127, NOT_HERE.format("no-such-tool", 127)),
        (("no-such-tool", "x"), Outcome.INFRASTRUCTURE, 127, NOT_HERE.format("no-such-tool", 127)),
        (("/etc/passwd",), Outcome.INFRASTRUCTURE, 126, NOT_HERE.format("/etc/passwd", 126)),
        # Named by a path in the folder: that it is missing is the change's doing.
        ("./gone.sh", Outcome.RED, 127, NOT_THERE.format("./gone.sh", 127)),
        (("./plain",), Outcome.RED, 126, NOT_THERE.format("./plain", 126)),
        ("exit 127", Outcome.RED, 127, "exit code 127"),  # nobody said that a program is missing
        ("kill -SEGV $$", Outcome.RED, 139, "it died of SIGSEGV"),
        ("kill -KILL $$", Outcome.INFRASTRUCTURE, 137, KILLED),
    ],
)
def test_what_an_end_counts_as(
    run: Runner, command: str | tuple[str, ...], outcome: Outcome, code: int, reason: str
) -> None:
    (run.folder / "plain").write_text("no program")
    end = run(command)
    assert (end.outcome, end.exit_code, end.reason) == (outcome, code, reason)


@needs_bubblewrap
def test_a_sandbox_that_cannot_be_set_up_is_infrastructure_and_not_red(tmp_path: Path) -> None:
    run = Runner(tmp_path, "bubblewrap")
    end = run("true", shown=((tmp_path / "gone", tmp_path / "place" / "x"),))
    assert end.outcome is Outcome.INFRASTRUCTURE
    assert end.reason.startswith("the sandbox failed: bwrap: ")


def test_a_folder_that_is_gone_is_infrastructure(plain: Runner) -> None:
    plain.folder.rmdir()
    assert plain("true").outcome is Outcome.INFRASTRUCTURE


STRAYS: list[tuple[str, str]] = [
    ("a child", "sleep 1000 & "),
    ("a session of its own", "setsid sleep 1000 & "),
    ("an orphan in a session of its own", "(setsid sh -c 'sleep 1000 & sleep 1000' &) ; "),
    ("deaf to requests", "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' &) ; "),
    ("without output", "setsid sleep 1000 > /dev/null 2>&1 & "),
]


@pytest.mark.parametrize("stray", [stray for _, stray in STRAYS], ids=[name for name, _ in STRAYS])
def test_nothing_that_a_check_started_outlives_it(run: Runner, stray: str) -> None:
    end = run(f"{stray} echo done")
    assert end.outcome is Outcome.GREEN
    assert run.said.startswith("done\n")  # a shell may say that its sleep was killed


@pytest.mark.parametrize("stray", [stray for _, stray in STRAYS], ids=[name for name, _ in STRAYS])
def test_timeout_ends_the_whole_tree(run: Runner, stray: str) -> None:
    end = run(f"{stray} echo begun; exec sleep 1000", timeout_s=0.3)
    assert (end.outcome, end.reason) == (Outcome.TIMED_OUT, "it did not end within 0.3 s")
    assert run.said.startswith("begun\n")  # a shell may say that its sleep was killed


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "], ids=["", "deaf to requests, unlike its parents"])
def test_a_process_that_wipes_its_environment_is_ended_with_its_family(plain: Runner, deaf: str) -> None:
    fifo, pids = plain.fifo(), []

    def cancel() -> None:
        pids.append(int(fifo.read_text()))  # it is in a session of its own by now
        plain.cancelled.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    (plain.folder / "stray").write_text(f"{deaf}echo $$ > fifo; exec sleep 1000")
    plain("env -i sh -c 'setsid sh stray & exec sleep 1000'")
    canceller.join()
    assert not processes.is_alive(pids[0])


def test_a_cancelled_run_has_no_outcome_and_may_say_goodbye(run: Runner) -> None:
    fifo = run.fifo()

    def cancel() -> None:
        fifo.read_text()
        run.cancelled.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    end = run("trap 'echo bye; exit 0' TERM; : > fifo; while :; do sleep 0.01; done")
    canceller.join()
    assert (end.outcome, end.reason, end.result) == (None, "cancelled", None)
    assert run.said.endswith("bye\n")  # after what the shell says of its sleep


def test_closing_its_output_is_not_the_end_of_a_check(run: Runner) -> None:
    end = run("exec > out 2>&1; sleep 0.15; exit 4")
    assert (end.outcome, end.exit_code) == (Outcome.RED, 4)


# --- reports --------------------------------------------------------------------------------------------------------------

REPORT = '<testsuite><testcase name="good"/><testcase name="bad"><failure message="no"/></testcase></testsuite>'


def test_failing_tests_are_named(run: Runner) -> None:
    end = run(f"echo '{REPORT}' > {{junit}}; exit 1")
    assert (end.outcome, end.reason) == (Outcome.RED, "1 of 2 tests failed: bad")
    assert [test.name for test in end.tests] == ["good", "bad"]


def test_the_exit_status_rules_whatever_the_report_says(run: Runner) -> None:
    end = run(f"echo '{REPORT}' > {{junit}}")
    assert (end.outcome, end.reason) == (Outcome.GREEN, "")
    assert end.tests[1].is_failure


def test_a_broken_report_changes_nothing_but_the_log(run: Runner) -> None:
    end = run("echo '<!DOCTYPE x><testsuite/>' > {junit}")
    assert (end.outcome, end.tests) == (Outcome.GREEN, ())
    assert (
        run.said == "gate: report 'junit.xml' is not read: it has a document type declaration, which could hold entities\n"
    )


def test_reports_that_the_tool_places_by_itself(run: Runner) -> None:
    (run.folder / "out").mkdir()
    (run.folder / "out" / "old.xml").write_text(REPORT.replace("bad", "stale"))
    end = run(f"echo '{REPORT}' > out/new.xml; exit 1", junit="out/*.xml")
    assert [test.name for test in end.tests] == ["good", "bad"]


def test_each_batch_has_a_report_of_its_own(run: Runner) -> None:
    files = tuple(f"{number:05}-{'x' * 100}" for number in range(1500))
    end = run("echo \"<testsuite><testcase name='$1'/></testsuite>\" > {junit}; : {files}", files=files)
    assert [test.name for test in end.tests] == [files[0], files[BATCH_BYTES // 109]]


def test_a_hostile_report_path_is_not_followed(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_text(REPORT)
    end = run(f"ln -s {tmp_path}/secret.xml {{junit}}; ln -s {tmp_path}/secret.xml a.xml", junit="*.xml")
    assert end.tests == ()
    assert "is not read" in run.said


# --- for the local hooks --------------------------------------------------------------------------------------------------


def test_a_run_in_a_folder_that_exists_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    request = RunRequest(RunId("r"), Check(CheckName("c"), "touch $HOME/x $TMPDIR/y"), InputKey("k"), COMMIT)
    end = run_check(request, Place(tmp_path), RunSettings(isolation="plain"), tmp_path / "log", threading.Event())
    assert end.outcome is Outcome.GREEN
    assert list(made.iterdir()) == []


def test_running_a_check_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, threading, pathlib; from ci.run import *; from ci.run import run_check; from ci.model import *\n"
        "from ci.workspace import Place; folder = pathlib.Path(sys.argv[1])\n"
        "end = run_check(RunRequest(RunId('r'), Check(CheckName('c'), 'true'), InputKey('k'), Sha('c')), Place(folder), "
        "RunSettings(isolation='plain'), folder / 'log', threading.Event()); assert end.outcome == 'green', end\n"
        "print(sorted({'git', 'asyncio', 'sqlalchemy', 'junitparser', 'pathspec', 'xml', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_processes_are_told_apart_by_their_start(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        ticks = processes.start_ticks(process.pid)
        assert ticks is not None
        assert processes.family(process.pid) == {process.pid}
        killed: Callable[[], set[int]] = lambda: processes.family(process.pid)  # noqa: E731
        assert processes.kill_until_gone(killed)
        assert process.wait() == -signal.SIGKILL
    assert processes.start_ticks(process.pid) is None


def test_a_red_check_without_a_report_is_explained_by_its_last_words(run: Runner) -> None:
    end = run("printf 'long story\\n\\033[31mNo module named pytest\\n\\n'; exit 1")
    assert end.outcome is Outcome.RED
    assert end.reason == "exit code 1: ?[31mNo module named pytest"
    assert run("exit 3").reason == "exit code 3"


# --- single tests again -----------------------------------------------------------------------------------------------

SUITE = """
import pathlib, pytest

class TestSums:
    @pytest.mark.parametrize("word", ["a b", "x::y", "$(touch pwned)", "-k"])
    def test_words(self, word):
        assert pathlib.Path("mended").exists() or word == "x::y"

def test_plain():
    assert pathlib.Path("mended").exists()

def test_never_asked_for():
    pathlib.Path("asked").write_text("")

def test_skipped_once_mended():
    if pathlib.Path("mended").exists():
        pytest.skip("not now")
    raise AssertionError
"""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "--junitxml={junit}")
PASSES = "<testsuite><testcase name='a'/><testcase name='b'/></testsuite>"
FAILS = "<testsuite><testcase name='a'/><testcase name='b'><failure message='no'/></testcase></testsuite>"


def write(document: str) -> str:
    return f'cat > "$GATE_JUNIT" <<END\n{document}\nEND\n'


@pytest.mark.parametrize("form", ["list", "string"])
def test_the_failed_tests_of_a_real_suite_run_again_by_the_names_of_its_report(run: Runner, form: str) -> None:
    (run.folder / "deep").mkdir()
    (run.folder / "deep" / "test_it.py").write_text(SUITE)
    retest = (*PYTEST, "{tests}") if form == "list" else f"{' '.join(PYTEST)} {{tests}}"
    whole = run(PYTEST)
    assert whole.result is not None
    failed = tuple(name for name in whole.result.failed if "skipped" not in name)
    assert failed == (
        *(f"deep/test_it.py::TestSums::test_words[{word}]" for word in ("a b", "$(touch pwned)", "-k")),
        "deep/test_it.py::test_plain",
    )
    (run.folder / "asked").unlink()

    still_red = run(PYTEST, retest=retest, tests=failed)
    assert (still_red.outcome, still_red.result and still_red.result.failed) == (Outcome.RED, failed)
    (run.folder / "mended").touch()
    mended = run(PYTEST, retest=retest, tests=failed)
    assert (mended.outcome, mended.reason) == (Outcome.GREEN, "")
    assert mended.result is not None
    assert mended.result.tests == failed
    assert len(mended.tests) == 4
    assert not (run.folder / "asked").exists()
    assert not (run.folder / "pwned").exists()

    skipped = run(PYTEST, retest=retest, tests=("deep/test_it.py::test_skipped_once_mended",))
    assert skipped.outcome is Outcome.INFRASTRUCTURE
    assert "does not show that deep/test_it.py::test_skipped_once_mended ran" in skipped.reason
    unknown = run(PYTEST, retest=retest, tests=("deep/test_it.py::test_gone",))
    assert unknown.outcome is Outcome.INFRASTRUCTURE
    assert "exit code 4" in unknown.reason


@pytest.mark.parametrize(
    ("retest", "outcome"),
    [
        (write(PASSES), Outcome.GREEN),
        (write(PASSES) + "exit 1", Outcome.INFRASTRUCTURE),  # not its tests' fault, then
        (write(FAILS) + "exit 1", Outcome.RED),
        (write(FAILS), Outcome.RED),  # whatever its exit status says
        ("true", Outcome.INFRASTRUCTURE),  # no report at all
        (write("<testsuite><testcase name='a'/></testsuite>"), Outcome.INFRASTRUCTURE),
        (
            write("<testsuite><testcase name='a'/><testcase name='b'><skipped/></testcase></testsuite>"),
            Outcome.INFRASTRUCTURE,
        ),
        (
            write("<testsuite><testcase name='a'/><testcase name='b'/><testcase name='b'><skipped/></testcase></testsuite>"),
            Outcome.INFRASTRUCTURE,
        ),
        (write(PASSES.replace("'b'/>", "'b'/><testcase name='c'><error/></testcase>")), Outcome.RED),
        (write(PASSES[:-3]), Outcome.INFRASTRUCTURE),  # broken off
        ("exec sleep 100", Outcome.TIMED_OUT),
        ("no-such-program", Outcome.INFRASTRUCTURE),
    ],
)
def test_a_retest_is_green_only_when_its_report_shows_that_all_it_was_asked_for_passed(
    plain: Runner, retest: str, outcome: Outcome
) -> None:
    end = plain("exit 1", retest=f"{retest} # {{tests}}", tests=("a", "b"), timeout_s=1 if "sleep" in retest else 60)
    assert end.outcome is outcome
    assert bool(end.reason) == (outcome is not Outcome.GREEN)


def test_names_of_tests_are_data_in_both_forms(run: Runner) -> None:
    names = tuple(name for name in HOSTILE if not name.startswith("-"))
    for retest in ("printf '%s\\0' {tests}", ("printf", "%s\\0", "{tests}")):
        run("exit 1", retest=retest, tests=names)
        assert run.said == "".join(f"{name}\0" for name in names)


def test_a_check_of_files_runs_its_tests_again_though_no_file_matches(plain: Runner) -> None:
    assert plain("echo {files}", files=(), retest=write(PASSES) + "# {tests}", tests=("a",)).tests != ()
    assert plain(("echo", "{tests}"), files=()).outcome is Outcome.GREEN
    assert plain.said == "{tests}\n"  # of the command itself it is no placeholder


# --- a check that mends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fix", "status", "altered", "outcome"),
    [
        (True, 0, ("a.py",), Outcome.RED),
        (True, 1, ("a.py",), Outcome.RED),
        (True, 0, (), Outcome.GREEN),
        (True, 1, (), Outcome.RED),
        (False, 0, ("a.py",), Outcome.GREEN),  # what it wrote besides its word is its own affair
    ],
)
def test_what_was_mended_was_not_right(
    tmp_path: Path, fix: bool, status: int, altered: tuple[str, ...], outcome: Outcome
) -> None:
    check = Check(CheckName("c"), f"exit {status}", fix=fix)
    place = Place(tmp_path, altered=lambda: altered)
    request = RunRequest(RunId("r1"), check, InputKey("k"), COMMIT)
    end = run_check(request, place, RunSettings(isolation="plain"), tmp_path / "log", threading.Event())
    assert end.outcome is outcome
    assert end.altered == (altered if fix else ())
    assert ("mended a.py" in end.reason) is bool(fix and altered)
