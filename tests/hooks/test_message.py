"""Commit messages: the rules as a table, and the hook under real ``git commit``."""

import sys
from pathlib import Path

import pytest

from fakes.repositories import Repository
from gate.config import Message
from hooks.message import Cleanup, clean, decode, judge, subject_of

STRICT = Message(pattern=r"^[A-Z]", max_subject=20, trailers=("Signed-off-by",))


def rules_broken(message: str, rules: Message = STRICT, trailers: tuple[str, ...] = ("Signed-off-by",)) -> list[str]:
    return [broken.rule for broken in judge(message, rules, trailers)]


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("Good\n\nBody", []),
        ("bad", ["pattern"]),
        ("A subject that goes on and on", ["max_subject"]),
        ("bad subject that goes on and on", ["pattern", "max_subject"]),
        ("Twenty characters ok", []),
        ("Zwölf Boxkämpfer äöü", []),  # characters are counted, not bytes
        ("Short\nbut the second\nline is not empty", ["max_subject"]),
        ("fixup! whatever it is that this fixes", []),
        ("squash! bad", []),
        ("amend! bad", []),
        ("Merge branch 'topic' into a-very-long-name", []),
        ("Merge of two things is not git's own wording", ["max_subject"]),
        ('Revert "Something with a long subject"', []),
        ("", ["pattern"]),
    ],
)
def test_a_message_is_judged_by_its_rules(message: str, broken: list[str]) -> None:
    assert rules_broken(message) == broken


def test_a_missing_trailer_is_named_whatever_its_case() -> None:
    rules = Message(trailers=("Signed-off-by", "Change-Id"))
    assert rules_broken("Good", rules, ("signed-OFF-by",)) == ["trailers"]
    assert 'a line "Change-Id: …"' in judge("Good", rules, ("signed-OFF-by",))[0].text
    assert rules_broken("Good", rules, ("Change-Id", "signed-off-by")) == []


def test_a_revert_needs_its_trailers_too() -> None:
    assert rules_broken('Revert "Something with a long subject"', trailers=()) == ["trailers"]


def test_no_rules_no_complaints() -> None:
    assert rules_broken("x" * 500, Message()) == []


@pytest.mark.parametrize(
    ("message", "cleanup", "left"),
    [
        ("Subject\n\n# a comment\nbody  \n\n\n\nend\n", Cleanup(), "Subject\n\nbody\n\nend"),
        ("# Please enter the message\nSubject\n", Cleanup(), "Subject"),
        ("#42 kept\n", Cleanup(strips_comments=False, cuts_at_scissors=False), "#42 kept"),
        ("Subject\n# --------- >8 ----------\ndiff --git a b\n", Cleanup(), "Subject"),
        ("Subject\n# --------- >8 ----------\ndiff\n", Cleanup(strips_comments=False), "Subject"),
        ("Subject\r\n\r\nBody\r\n", Cleanup(), "Subject\n\nBody"),
        ("Subject\n; a comment\n# not one\n", Cleanup(comment=";"), "Subject\n# not one"),
        ("#42 fixed\n\n; git chose its own character\n;\n", Cleanup(comment="auto"), "#42 fixed"),
        ("\n\n  \nSubject\n", Cleanup(), "Subject"),
    ],
)
def test_a_message_is_read_as_git_will_record_it(message: str, cleanup: Cleanup, left: str) -> None:
    assert clean(message, cleanup) == left


@pytest.mark.parametrize(
    ("content", "encoding", "text"),
    [
        ("Größe".encode(), "utf-8", "Größe"),
        ("Größe".encode("latin-1"), "iso-8859-1", "Größe"),
        ("Größe".encode("latin-1"), "utf-8", "Größe"),
        ("Größe".encode("latin-1"), "no-such-encoding", "Größe"),
        ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
        ("\ufeffSubject".encode(), "utf-8", "Subject"),
    ],
)
def test_a_message_in_any_encoding_can_be_judged(content: bytes, encoding: str, text: str) -> None:
    assert decode(content, encoding) == text


def test_the_subject_is_the_first_paragraph() -> None:
    assert subject_of("One\ntwo\n\nthree") == "One two"


# --- under real git ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hooked(repository: Repository) -> Repository:
    """A repository whose commit-msg hook is gate-message, with rules."""
    program = Path(sys.executable).with_name("gate-message")
    repository.write(".git/hooks/commit-msg", f'#!/bin/sh\nexec "{program}" "$@"\n', executable=True)
    rules = '[message]\npattern = "^[A-Z]"\nmax_subject = 30\ntrailers = ["Signed-off-by"]\n'
    repository.commit("Set the rules", {"gate.toml": rules})
    return repository


def test_a_commit_is_stopped_with_the_rule_the_subject_and_the_way_on(hooked: Repository) -> None:
    hooked.write("a.txt", "a\n")
    hooked.git("add", "a.txt")
    before = hooked.head()
    stopped = hooked.run("commit", "-m", "lower case")
    said = stopped.stderr.decode()
    assert stopped.returncode == 1
    assert hooked.head() == before
    assert "lower case" in said
    assert "[message] pattern: the subject does not match the pattern ^[A-Z]" in said
    assert (
        '[message] trailers: the last paragraph must hold a line "Signed-off-by: …" (git commit --signoff adds it)' in said
    )
    assert "git commit --edit --file=.git/COMMIT_EDITMSG" in said
    hooked.git("commit", "-q", "--signoff", "-m", "Upper case")


def test_an_empty_message_is_not_let_through(hooked: Repository) -> None:
    empty = ("commit", "--allow-empty", "--allow-empty-message", "-m", "")
    stopped = hooked.run(*empty)
    assert stopped.returncode == 1
    assert stopped.stderr.decode().splitlines() == [
        "gate: the commit message is empty, which [message] does not allow; nothing is committed"
    ]
    hooked.write("gate.toml", "[message]\nmax_subject = 10\n")
    hooked.git("add", "gate.toml")
    hooked.git(*empty)


def test_rules_come_from_what_is_staged(hooked: Repository) -> None:
    hooked.write("gate.toml", '[message]\npattern = "^[0-9]+ "\n')
    assert hooked.run("commit", "--allow-empty", "-m", "7 dwarfs").returncode == 1
    hooked.git("commit", "-q", "-a", "-m", "7 dwarfs")


def test_a_hash_sign_is_a_comment_only_when_the_message_was_edited(hooked: Repository) -> None:
    hooked.git("commit", "-q", "--no-verify", "--allow-empty", "-m", "x")
    hooked.write("gate.toml", "[message]\nmax_subject = 10\n")
    hooked.git("add", "gate.toml")
    assert hooked.run("commit", "-m", "#42 is a subject when given by -m").returncode == 1
    editor = "printf '%s\\n' 'Short' '# a long comment that is not a subject' >"
    hooked.git("commit", "-q", env={"GIT_EDITOR": editor})
    assert hooked.git("log", "-1", "--format=%s") == "Short"


def test_merge_and_autosquash_pass(hooked: Repository) -> None:
    hooked.git("checkout", "-q", "-b", "topic")
    hooked.commit("On topic", {"t.txt": "t\n"})
    hooked.git("checkout", "-q", "main")
    hooked.commit("On main", {"m.txt": "m\n"})
    hooked.git("merge", "-q", "--no-edit", "topic")
    hooked.write("m.txt", "n\n")
    hooked.git("commit", "-q", "-a", "--fixup=HEAD^")


def test_a_repository_without_rules_takes_any_message(hooked: Repository) -> None:
    hooked.git("rm", "-q", "gate.toml")
    hooked.git("commit", "-q", "--no-verify", "-m", "x")
    hooked.git("commit", "-q", "--allow-empty", "-m", "anything at all, as long as you like it to be")


def test_a_broken_pattern_is_told_to_its_owner(hooked: Repository) -> None:
    hooked.write("gate.toml", '[message]\npattern = "("\n')
    hooked.git("add", "gate.toml")
    stopped = hooked.run("commit", "-m", "Subject")
    assert stopped.returncode == 1  # git's own code for a failed hook
    assert b"gate.toml" in stopped.stderr
    assert b"pattern" in stopped.stderr
