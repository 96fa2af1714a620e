"""The front door, with real git on both sides: what a push to the gate is answered, and what is recorded of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hooks.receive
from fakes.repositories import Repository, git_env
from fakes.servers import Server, expect_line, push, start_push, wake_pipe

RECEIVE = Path(__file__).parents[2] / "hooks" / "receive.py"
FOR_MAIN = "HEAD:refs/for/main"


@pytest.fixture
def server(repository: Repository, tmp_path: Path) -> Server:
    """A gate's repository whose trunk is that of ``repository``, which has it as origin."""
    return Server.found(tmp_path / "server.git", repository)


@pytest.fixture
def clone(server: Server, repository: Repository) -> Repository:
    """A clone with one commit that is not on trunk."""
    repository.commit("Add c", {"src/c.py": "C = 1\n"})
    return repository


def record(server: Server) -> dict[str, object]:
    """The newest record, raw."""
    return json.loads(server.git("log", "-1", "--format=%B", "refs/gate/submissions"))  # type: ignore[no-any-return]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_push_becomes_a_numbered_change_in_one_transaction(server: Server, clone: Repository) -> None:
    code, said = push(clone, "origin", FOR_MAIN, GATE_USER="ann")
    assert code == 0
    assert "remote: gate: change 1 revision 1 submitted: Add c" in said
    assert "* [new reference]   HEAD -> refs/changes/1/1" in said
    assert "the gate is not running now; your change is safe" in said
    [submission] = server.submissions()
    assert (submission.change, submission.revision, submission.head) == (1, 1, clone.head())
    assert (submission.by, submission.subject, submission.draft) == ("ann", "Add c", False)
    assert server.refs("refs/changes") == {"refs/changes/1/1": clone.head()}
    assert server.git("rev-list", "--parents", "-1", "refs/gate/submissions").split()[2] == clone.head()
    assert server.git("fsck", "--strict") == ""


def test_options_and_topic_are_recorded(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    clone.commit("Add d", {"src/d.py": "D = 1\n"})
    code, _ = push(
        clone, "-o", "priority=high", "-o", "depends=1", "-o", "draft", "origin", "HEAD:refs/for/main/faster/sums"
    )
    assert code == 0
    submission = server.submissions()[-1]
    assert (submission.priority, submission.depends, submission.draft) == ("high", (1,), True)
    assert submission.topic == "faster/sums"
    assert record(server)["next"] == 3


def test_a_change_may_claim_to_mend_trunk(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    push(clone, "-o", "fixes-trunk", "origin", FOR_MAIN)
    plain, claim = server.submissions()
    assert [(one.revision, one.fixes_trunk) for one in (plain, claim)] == [(1, False), (2, True)]
    assert "fixes_trunk" not in json.loads(server.git("log", "-1", "--format=%B", plain.record))["options"]


def test_reading_goes_on_behind_a_known_record(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    [first] = server.submissions()
    assert server.submissions(first.record) == []
    clone.commit("Add d", {"src/d.py": "D = 1\n"})
    push(clone, "origin", FOR_MAIN)
    assert [one.subject for one in server.submissions(first.record)] == ["Add d"]


def test_the_same_head_again_is_answered_with_its_number(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 0
    assert "change 1 revision 1 had been submitted already" in said
    assert len(server.submissions()) == 1


def test_the_same_head_by_somebody_else_is_their_own_change(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN, GATE_USER="ann")
    push(clone, "origin", FOR_MAIN, GATE_USER="bob")
    assert [(one.change, one.by) for one in server.submissions()] == [(1, "ann"), (2, "bob")]


def test_the_same_head_with_other_options_is_a_new_revision(server: Server, clone: Repository) -> None:
    push(clone, "-o", "draft", "origin", FOR_MAIN)
    push(clone, "origin", FOR_MAIN)
    assert [(one.change, one.revision, one.draft) for one in server.submissions()] == [(1, 1, True), (1, 2, False)]


@pytest.mark.parametrize("again", ["option", "topic", "change-id"])
def test_a_new_push_of_a_change_is_its_next_revision(server: Server, clone: Repository, again: str) -> None:
    target = "HEAD:refs/for/main/sums" if again == "topic" else FOR_MAIN
    trailer = "\n\nChange-Id: I0123456789" if again == "change-id" else ""
    clone.git("commit", "-q", "--amend", "-m", f"Add c{trailer}")
    push(clone, "origin", target)
    clone.git("commit", "-q", "--amend", "-m", f"Add c, better{trailer}")
    code, said = push(clone, *(["-o", "change=1"] if again == "option" else []), "origin", target)
    assert code == 0
    assert "change 1 revision 2 submitted: Add c, better" in said
    assert [(one.change, one.revision) for one in server.submissions()] == [(1, 1), (1, 2)]
    assert list(server.refs("refs/changes")) == ["refs/changes/1/1", "refs/changes/1/2"]


def test_a_revision_that_came_back_is_a_new_one(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    first = clone.head()
    clone.git("commit", "-q", "--amend", "-m", "Add c, better")
    push(clone, "-o", "change=1", "origin", FOR_MAIN)
    push(clone, "origin", f"{first}:refs/for/main")
    assert [(one.change, one.revision, one.head == first) for one in server.submissions()] == [
        (1, 1, True),
        (1, 2, False),
        (1, 3, True),
    ]


def test_a_topic_whose_change_has_landed_starts_a_new_change(server: Server, clone: Repository) -> None:
    push(clone, "origin", "HEAD:refs/for/main/sums")
    server.git("update-ref", "refs/changes/1/landed", clone.head())
    clone.commit("Add d", {"src/d.py": "D = 1\n"})
    push(clone, "origin", "HEAD:refs/for/main/sums")
    assert [(one.change, one.revision) for one in server.submissions()] == [(1, 1), (2, 1)]


def test_several_changes_in_one_push(server: Server, clone: Repository) -> None:
    first = clone.head()
    clone.git("checkout", "-q", "-b", "other", "origin/main")
    clone.commit("Add d", {"src/d.py": "D = 1\n"})
    code, said = push(clone, "origin", f"{first}:refs/for/main/one", "HEAD:refs/for/main/two", "HEAD:refs/heads/mine")
    assert code == 0, said
    assert sorted((one.change, one.topic) for one in server.submissions()) == [(1, "one"), (2, "two")]
    assert server.head("refs/heads/mine") == clone.head()


def test_one_bad_ref_does_not_stop_the_others(server: Server, clone: Repository) -> None:
    code, said = push(clone, "origin", FOR_MAIN, "HEAD:refs/for/elsewhere")
    assert code == 1
    assert "unknown target branch 'elsewhere': the trunk here is 'main'" in said
    assert len(server.submissions()) == 1


def test_an_atomic_push_with_one_bad_ref_records_nothing(server: Server, clone: Repository) -> None:
    code, said = push(clone, "--atomic", "origin", FOR_MAIN, "HEAD:refs/for/elsewhere")
    assert code == 1
    assert "nothing of this atomic push is recorded, because refs/for/elsewhere was refused" in said
    assert server.submissions() == []
    assert server.refs("refs/changes", "refs/gate") == {}


def test_an_atomic_push_records_all(server: Server, clone: Repository) -> None:
    code, said = push(clone, "--atomic", "origin", FOR_MAIN, "HEAD~1:refs/heads/mine")
    assert code == 0, said
    assert len(server.submissions()) == 1


def test_twelve_pushes_at_once_lose_nothing_and_share_no_number(server: Server, clone: Repository) -> None:
    heads = []
    for number in range(12):
        clone.git("checkout", "-q", "--detach", "origin/main")
        heads.append(clone.commit(f"Add {number}", {f"src/n{number}.py": "N = 1\n"}))
    pushes = [start_push(clone, "origin", f"{head}:refs/for/main") for head in heads]
    ends = [(one.communicate(timeout=100)[0], one.returncode) for one in pushes]
    assert all(code == 0 for _, code in ends), ends
    submissions = server.submissions()
    assert [one.change for one in submissions] == list(range(1, 13))
    assert {one.head for one in submissions} == set(heads)
    assert len(server.refs("refs/changes")) == 12


def test_a_lock_that_nobody_gives_back_is_named(server: Server, clone: Repository, tmp_path: Path) -> None:
    impatient = tmp_path / "receive.py"
    impatient.write_text(RECEIVE.read_text().replace("RACE_PATIENCE_S = 30.0", "RACE_PATIENCE_S = 0.1"))
    (server.path / "hooks/proc-receive").write_text(f"#!/bin/sh\nexec {sys.executable} -I -S {impatient} proc-receive\n")
    (server.path / "refs/gate").mkdir(parents=True)
    (server.path / "refs/gate/submissions.lock").touch()
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 1
    assert "refs/gate/submissions.lock': File exists" in said


# --- who and what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refspec", "words"),
    [
        ("HEAD~1:refs/for/main", "no commits to land: "),
        ("HEAD:refs/for/elsewhere", "unknown target branch 'elsewhere': the trunk here is 'main'"),
        ("HEAD:refs/for/mainly", "unknown target branch 'mainly'"),
        ("HEAD:main", "main moves only through the gate"),
        (":main", "main is the trunk of this gate and is not deleted by a push"),
        (":refs/for/main", "nothing is kept under refs/for"),
        ("HEAD:refs/heads/main/below", "a branch below main would be in the way of the trunk itself"),
        ("HEAD:src:refs/for/main", "is a tree, not a commit"),
        ("a-tag:refs/for/main", "is a tag, not a commit"),
        ("HEAD:refs/heads/green/main", "refs/heads/green/main is moved by the gate alone"),
        ("HEAD:refs/notes/gate", "refs/notes/gate is a record of the gate"),
        ("HEAD:refs/changes/7/1", "refs/changes/7/1 is written by the gate alone"),
        ("HEAD:refs/gate/submissions", "refs/gate/submissions is a record of the gate"),
    ],
)
def test_refused_with_the_reason(server: Server, clone: Repository, refspec: str, words: str) -> None:
    clone.git("tag", "-m", "x", "a-tag")
    if refspec.startswith("HEAD:src:"):
        refspec = f"{clone.git('rev-parse', 'HEAD:src')}:refs/for/main"
    before = server.refs()
    code, said = push(clone, "origin", refspec)
    assert code == 1
    assert words in said
    assert server.refs() == before


def test_a_push_to_trunk_is_told_what_to_do_instead(server: Server, clone: Repository) -> None:
    _, said = push(clone, "origin", "HEAD:main")
    assert "git push origin HEAD:refs/for/main" in said


def test_unrelated_history_is_refused(server: Server, clone: Repository) -> None:
    clone.git("checkout", "-q", "--orphan", "alien")
    clone.commit("Alien")
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 1
    assert "unrelated history" in said
    assert server.submissions() == []


def test_limits_of_the_policy_hold(server: Server, clone: Repository) -> None:
    server.set_policy('[submit]\nmax_commits = 2\nmax_size = "20KB"\nallow = ["ann"]\n')
    assert "bob may not submit here" in push(clone, "origin", FOR_MAIN, GATE_USER="bob")[1]
    clone.commit("Large", {"noise": os.urandom(30_000)})
    said = push(clone, "origin", FOR_MAIN, GATE_USER="ann")[1]
    assert "too large: 0.03" in said
    assert "MB of new objects, with 0.02 MB allowed" in said
    clone.commit("Third")
    assert "more than 2 commits to land" in push(clone, "origin", FOR_MAIN, GATE_USER="ann")[1]
    assert push(clone, "origin", "HEAD~2:refs/for/main", GATE_USER="ann")[0] == 0
    assert len(server.submissions()) == 1


@pytest.mark.parametrize("text", ["[submit\n", "submit = 3\n", '[submit]\nmax_size = "many"\n', "\xff"])
def test_a_broken_policy_on_trunk_leaves_the_defaults(server: Server, clone: Repository, text: str) -> None:
    server.set_policy(text)
    assert push(clone, "origin", FOR_MAIN)[0] == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("prioritty=high", "unknown push option 'prioritty' (did you mean 'priority'?)"),
        ("priority=hihg", "push option priority=hihg is unknown (did you mean 'high'?)"),
        ("wait=yes", "push option 'wait' takes no value"),
        ("fixes-trunk=1", "push option 'fixes-trunk' takes no value: write -o fixes-trunk"),
        ("fixes_trunk", "unknown push option 'fixes_trunk' (did you mean 'fixes-trunk'?)"),
        ("change=x", "push option change=x names no change"),
        ("change=0", "push option change=0 names no change"),
        ("change=7", "change 7 is unknown here"),
        ("depends=7", "depends=7: change 7 is unknown here"),
        ("depends=1,,2", "push option depends= names no change"),
        ("topic=", "a topic is a line of 1 to 200 printable characters"),
        ("topic=a\x1b[31mb", "a topic is a line of 1 to 200 printable characters"),
        ("depends=" + ",".join(str(number) for number in range(1, 60)), "names no change"),
    ],
)
def test_options_are_refused_by_name(server: Server, clone: Repository, option: str, words: str) -> None:
    code, said = push(clone, "-o", option, "origin", FOR_MAIN)
    assert code == 1
    assert words in said
    assert "\x1b" not in said
    assert server.submissions() == []


def test_many_options_are_refused(server: Server, clone: Repository) -> None:
    options = [word for _ in range(200) for word in ("-o", "draft")]
    code, said = push(clone, *options, "origin", FOR_MAIN)
    assert code == 1
    assert "200 push options are too many" in said


def test_a_change_of_somebody_else_is_theirs(server: Server, clone: Repository) -> None:
    server.set_policy('[trust]\nmaintainers = ["mia"]\n')
    push(clone, "origin", FOR_MAIN, GATE_USER="ann")
    clone.git("commit", "-q", "--amend", "-m", "Mine now")
    code, said = push(clone, "-o", "change=1", "origin", FOR_MAIN, GATE_USER="bob")
    assert code == 1
    assert "change 1 belongs to ann" in said
    assert push(clone, "-o", "change=1", "origin", FOR_MAIN, GATE_USER="mia")[0] == 0
    clone.git("commit", "-q", "--amend", "-m", "Mine again")
    assert push(clone, "-o", "change=1", "origin", FOR_MAIN, GATE_USER="ann")[0] == 0
    assert [(one.change, one.revision, one.by) for one in server.submissions()] == [
        (1, 1, "ann"),
        (1, 2, "mia"),
        (1, 3, "ann"),
    ]


def test_a_landed_change_takes_no_revision(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN)
    server.git("update-ref", "refs/changes/1/landed", clone.head())
    clone.git("commit", "-q", "--amend", "-m", "Too late")
    code, said = push(clone, "-o", "change=1", "origin", FOR_MAIN)
    assert code == 1
    assert "change 1 has landed already" in said


def test_protected_tags_and_no_others(server: Server, clone: Repository) -> None:
    server.set_policy('[protect]\ntags = ["v*"]\n')
    code, said = push(clone, "origin", "HEAD:refs/tags/v1")
    assert code == 1
    assert "the tag v1 is protected by 'v*'" in said
    assert push(clone, "origin", "HEAD:refs/tags/mine", "HEAD:refs/heads/mine")[0] == 0


def test_an_alias_of_trunk_is_trunk(server: Server, clone: Repository) -> None:
    server.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    before = server.head("main")
    code, said = push(clone, "origin", "HEAD:refs/heads/alias")
    assert code == 1
    assert "refs/heads/alias leads to main past the gate" in said
    assert server.head("main") == before


@pytest.mark.parametrize("lost", ["setting", "hook"])
@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/for/main"])
def test_trunk_stays_when_the_settings_are_lost(server: Server, clone: Repository, lost: str, ref: str) -> None:
    if lost == "setting":
        server.git("config", "--unset-all", "receive.procReceiveRefs")
    else:
        (server.path / "hooks/proc-receive").unlink()
    before = server.refs()
    code, said = push(clone, "origin", f"HEAD:{ref}")
    assert code == 1
    assert "gate init" in said
    assert server.refs() == before


# --- trunk itself -----------------------------------------------------------------------------------------------------


def test_the_first_push_founds_trunk(repository: Repository, tmp_path: Path) -> None:
    server = Server.found(tmp_path / "server.git", repository)
    server.git("update-ref", "-d", "refs/heads/main")
    code, said = push(repository, "origin", FOR_MAIN)
    assert code == 1
    assert "main does not exist yet" in said
    code, said = push(repository, "origin", "main")
    assert code == 0
    assert "main is founded at" in said
    assert server.head("main") == repository.head()
    assert server.submissions() == []


def test_by_setting_a_push_to_trunk_submits(server: Server, clone: Repository) -> None:
    server.set_policy('[submit]\ntrunk_push = "submit"\n')
    clone.git("fetch", "-q")
    clone.git("rebase", "-q", "origin/main")
    before = server.head("main")
    code, said = push(clone, "origin", "main")
    assert code == 0, said
    assert "main -> refs/changes/1/1" in said
    assert "error" not in said
    assert server.head("main") == before == clone.head("origin/main")
    assert [one.head for one in server.submissions()] == [clone.head()]


# --- hostile or broken ------------------------------------------------------------------------------------------------


def test_hostile_subjects_are_shown_harmless(server: Server, clone: Repository) -> None:
    subject = 'x\x1b[2J\x07","change":99,"format":1' + "y" * 5000
    clone.git("commit", "-q", "--amend", "-F", "-", stdin=subject.encode())
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 0
    assert "\x1b" not in said.replace("\x1b[K", "")
    clone.git("commit", "-q", "--amend", "-m", "next")
    push(clone, "-o", "change=1", "origin", FOR_MAIN)
    assert [(one.change, one.revision) for one in server.submissions()] == [(1, 1), (1, 2)]
    assert len(server.submissions()[0].subject) == 200


def test_records_are_json_whatever_they_hold() -> None:
    hostile = "".join(map(chr, range(0x250))) + "\u2028\ufeff\U0001f600\udcff"
    value = {"a": hostile, hostile: [1, 2], "c": {"d": True, "e": False, "f": 1795449517.767}, "g": []}
    written = hooks.receive.json_of(value)
    assert json.loads(written) == value
    assert written.isascii()
    assert written.isprintable()


def test_hostile_names_are_cut_and_cleaned(server: Server, clone: Repository) -> None:
    push(clone, "origin", FOR_MAIN, GATE_USER="a\x1b\u202e" + "n" * 500)
    [submission] = server.submissions()
    assert len(submission.by) == 100
    assert submission.by.isprintable()


def test_odd_topics_survive(server: Server, clone: Repository) -> None:
    for topic in ("-o", "$(reboot)", "ünï'cödé\"", "a/b/c"):
        assert push(clone, "origin", f"HEAD:refs/for/main/{topic}")[0] == 0
    assert server.submissions()[-1].change == 1


def test_a_ref_name_that_is_not_text_is_refused(server: Server, clone: Repository) -> None:
    done = subprocess.run(
        [b"git", b"push", b"origin", b"HEAD:refs/for/main/\xff\xfe"],
        cwd=clone.path,
        env=git_env(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"a topic is a line of" in done.stderr
    assert server.submissions() == []


def test_a_damaged_record_refuses_in_a_sentence(server: Server, clone: Repository) -> None:
    server.git("update-ref", "refs/gate/submissions", server.head("main"))
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 1
    assert "cannot be read by this version of the hook" in said
    assert "Traceback" not in said


def test_a_crash_refuses_in_one_sentence_and_keeps_the_traceback(server: Server, clone: Repository, tmp_path: Path) -> None:
    broken = tmp_path / "receive.py"
    broken.write_text(RECEIVE.read_text().replace("def record_push(", "def record_push(*_):\n    1 / 0\n\n\ndef unused("))
    hook = server.path / "hooks/proc-receive"
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S {broken} proc-receive\n")
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 1
    assert "the gate's hook failed; the owner of the server finds the cause in gate/hook-errors.log" in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in (server.state / "hook-errors.log").read_text()
    assert server.submissions() == []


def test_a_full_disk_refuses_and_records_nothing(server: Server, clone: Repository) -> None:
    """A ref store that cannot be written stands in for the disk; not by permissions, which root ignores."""
    (server.path / "refs/changes").write_text("")
    code, said = push(clone, "origin", FOR_MAIN)
    assert code == 1
    assert "the change could not be recorded" in said
    assert server.submissions() == []


def test_the_hook_needs_no_package_and_no_site(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(RECEIVE), "pre-receive"],
        cwd=server.path,
        env={"PATH": os.environ["PATH"]},
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_hook_started_by_hand_says_what_it_is(server: Server) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(RECEIVE)], cwd=server.path, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"started by git as" in done.stderr


def test_git_that_ends_the_conversation_is_answered(server: Server) -> None:
    for said in (b"", b"000eversion=", b"zzzz", b"000eversion=7\n0000"):
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(RECEIVE), "proc-receive"],
            cwd=server.path,
            input=said,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(b"gate: ")
        assert b"Traceback" not in done.stderr


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(server: Server) -> Iterator[Server]:
    with server.running():
        yield server


def test_wait_streams_until_the_change_landed(running: Server, clone: Repository) -> None:
    with start_push(clone, "-o", "wait", "origin", FOR_MAIN) as process:
        expect_line(process, "change 1 revision 1 submitted")
        running.tell(1, "check unit is running")
        expect_line(process, "check unit is running")
        running.tell(1, "landed as abc\x1b[31m", verdict="landed")
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "landed as abc" in said
    assert "\x1b[31m" not in said


@pytest.mark.parametrize("verdict", ["refused", "withdrawn"])
def test_wait_fails_when_the_change_does_not_land(running: Server, clone: Repository, verdict: str) -> None:
    running.tell(1, "check unit is red: test_sum\nand more", verdict=verdict)
    code, said = push(clone, "-o", "wait", "origin", FOR_MAIN)
    assert code == 1
    assert f"(change 1 {verdict}: check unit is red: test_sum)" in said


def test_wait_minds_its_own_revision(running: Server, clone: Repository) -> None:
    push(clone, "origin", "HEAD:refs/for/main/sums")
    clone.git("commit", "-q", "--amend", "-m", "Better")
    running.tell(1, "red", verdict="refused")
    running.tell(1, "landed", revision=2, verdict="landed")
    assert push(clone, "-o", "wait", "origin", "HEAD:refs/for/main/sums")[0] == 0


def test_wait_ends_when_a_newer_revision_comes(running: Server, clone: Repository) -> None:
    running.tell(1, "submitted", revision=2)
    code, said = push(clone, "-o", "wait", "origin", FOR_MAIN)
    assert code == 1
    assert "change 1 withdrawn: revision 2 came in its place" in said


def test_wait_for_several_changes(running: Server, clone: Repository) -> None:
    clone.git("checkout", "-q", "-b", "other", "origin/main")
    clone.commit("Add d", {"src/d.py": "D = 1\n"})
    running.tell(1, "fine", verdict="landed")
    running.tell(2, "red", verdict="refused")
    code, said = push(clone, "-o", "wait", "origin", "main:refs/for/main/one", "HEAD:refs/for/main/two")
    assert code == 1
    assert "main -> refs/changes/1/1" in said
    assert "other -> refs/for/main/two (change 2 refused: red)" in said.replace("HEAD ->", "other ->")


def test_wait_without_a_gate_fails_but_the_change_is_safe(server: Server, clone: Repository) -> None:
    code, said = push(clone, "-o", "wait", "origin", FOR_MAIN)
    assert code == 1
    assert "submitted as change 1, but the gate is not running, so its outcome is unknown" in said
    assert len(server.submissions()) == 1


def test_wait_outlasts_a_restart_of_the_gate(server: Server, clone: Repository) -> None:
    with server.running():
        process = start_push(clone, "-o", "wait", "origin", FOR_MAIN)
        expect_line(process, "submitted")
        server.tell(1, "queued")
        expect_line(process, "queued")
    expect_line(process, "the gate has stopped; your change is safe")
    with server.running():
        expect_line(process, "the gate is back")
        server.tell(1, "landed", verdict="landed")
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_wait_ends_at_its_timeout(running: Server, clone: Repository) -> None:
    running.set_policy('[submit]\nwait_timeout = "1s"\n')
    code, said = push(clone, "-o", "wait", "origin", FOR_MAIN)
    assert code == 1
    assert "change 1 has no verdict after 1 s; it is still in the queue" in said


def test_a_pusher_who_leaves_loses_nothing(running: Server, clone: Repository) -> None:
    with start_push(clone, "-o", "wait", "origin", FOR_MAIN) as process:
        expect_line(process, "submitted")
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        process.communicate(timeout=30)  # ends when the last process that holds the pipe has ended: the hook, too
    assert len(running.submissions()) == 1
    assert not (running.state / "hook-errors.log").exists()


def test_the_daemon_is_woken(server: Server, clone: Repository) -> None:
    pipe = wake_pipe(server)
    try:
        code, said = push(clone, "origin", FOR_MAIN)
        assert os.read(pipe, 10) != b""
    finally:
        os.close(pipe)
    assert code == 0
    assert "not running" not in said
