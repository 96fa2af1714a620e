"""Placeholders never let data into a shell string."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.deploy.command import arguments, environ

VALUES = {"target": "a b", "commit": "c" * 40, "previous": "", "environment": "prod", "wave": "2"}


def printed(command: str | tuple[str, ...], **values: str) -> str:
    told = VALUES | values
    done = subprocess.run(arguments(command, told), env=environ(told, {}, ()), capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("printf '<%s>' {target} {wave}", "<a b><2>"),
        ("printf '<%s>' \"{target}\"", "<a b>"),
        ("printf '<%s>' '{target}'", "<a b>"),
        ("printf '<%s>' host={target}:80", "<host=a b:80>"),
        ("printf '<%s>' \"host={target}:80 \"", "<host=a b:80 >"),
        ("printf '<%s>' 'it is {target}, \"{wave}\"'", '<it is a b, "2">'),
        ("printf '<%s>' \"don't {target}\"", "<don't a b>"),
        ('printf \'<%s>\' "say \\" {target}"', '<say " a b>'),
        ("printf '<%s>' it\\'s {target}", "<it's><a b>"),
        ("printf '<%s>' 'a\\' {target}", "<a\\><a b>"),
        ("printf '<%s>' {previous} end", "<><end>"),
        ("printf '<%s>' {files} ${HOME:+x}", "<{files}><x>"),
        (("printf", "<%s>", "{target}", "--on={target}/{wave}", "{other}"), "<a b><--on=a b/2><{other}>"),
    ],
)
def test_a_placeholder_is_one_word_wherever_it_stands(command: str | tuple[str, ...], expected: str) -> None:
    assert printed(command) == expected


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
@settings(max_examples=40, deadline=None)
def test_any_text_passes_through_a_shell_unchanged(target: str) -> None:
    assert printed("printf '%s|%s|%s' {target} \"{target}\" '{target}'", target=target) == "|".join((target,) * 3)


def test_the_environment_holds_what_is_named_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "secret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    env = environ(VALUES, {"GATE_STEP": "s"}, ("DEPLOY_TOKEN", "NOT_SET"))
    assert env["DEPLOY_TOKEN"] == "secret"
    assert env["GATE_TARGET"] == "a b"
    assert env["GATE_STEP"] == "s"
    assert {name for name in env if not name.startswith("GATE_")} <= {"PATH", "HOME", "LANG", "DEPLOY_TOKEN"}
