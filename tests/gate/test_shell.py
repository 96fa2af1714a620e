"""What is odd in a command: what earns a sentence, and above all what does not."""

import pytest

from gate.shell import odd

ODD = [
    # quotes around what brings its own
    ('! grep -n BAD "{files}"', "{files} between double quotes"),
    ("! grep -n BAD '{files}'", "{files} between single quotes"),
    ("for each in '{files}'; do lint $each; done", "{files} between single quotes"),
    ("pytest --junitxml='{junit}'", "{junit} between single quotes"),
    ('git diff "base..{commit}"', "{commit} between double quotes"),
    ('test -z "$(lint "{files}")"', "{files} between double quotes"),
    # exit codes that nobody sees
    ("grep -v BAD {files}\necho done", "when 'grep' fails before: begin it with set -e"),
    ("cd web; A=1 lint {files}; pytest", "'lint'"),
    ("! grep -n BAD {files}\n! grep -n WORSE {files}", "'grep'"),
    ("lint {files} | tee out", "ends as 'tee' does, so that nobody sees when 'lint' fails before the pipe"),
    ("lint 2>&1 |\n  sort |\n  tail -5", "ends as 'tail' does"),
    ("lint | tee out > /dev/null", "ends as 'tee' does"),
    ("set -e\nlint | tee out", "ends as 'tee' does"),
    # words that are none
    (("ruff check {files}",), "the program 'ruff check {files}', with a blank in its name"),
    (("cat", "{files}", "|", "wc"), "hands '|' to its program"),
    # placeholders that are none
    ("ruff {file}", "did you mean {files}?"),
    (("ruff", "{staged_files}"), "did you mean {files}?"),
    ("pytest --junitxml={junitxml}", "did you mean {junit}?"),
]


@pytest.mark.parametrize(("command", "words"), ODD)
def test_what_is_odd_is_said_once(command: str | tuple[str, ...], words: str) -> None:
    (sentence,) = odd(command)
    assert words in sentence


@pytest.mark.parametrize(
    "command",
    [
        "! grep -n BAD {files}",
        'test -z "$(gofmt -l {files})"',
        'test -z "`gofmt -l {files}`"',
        "sh -c 'pytest --junitxml={junit}'",
        "ruff {files} # don't {commit}",
        "set -e\nlint\npytest",
        "set -u -xe\nlint\npytest",
        "lint &&\n  pytest",
        "lint \\\n  --all",
        "cd web\nexport A=1\nB=$(c)\npytest",
        "lint || exit 1\npytest",
        "lint\ncode=$?\npytest && exit $code",
        "for each in {files}; do lint $each || exit 1; done",
        "if lint; then pytest; else exit 1; fi",
        "case $X in a) lint;; b) pytest;; esac",
        "f() { lint; pytest; }; f",
        "serve &\npytest",
        'python3 -c "\nimport a\nprint(1)\n"',
        "cat <<END\nit's\nEND\npytest",
        "! git grep X | grep -v allowed",
        "if lint | tail -1; then exit 1; fi",
        'test -z "$(lint | head -1)"',
        "git ls-files | sort > list && lint list",
        "git ls-files | while read file; do lint $file || exit 1; done",
        "set -o pipefail; lint | tee out",
        "echo x | sed s/x/y/",
        ("find", ".", "-exec", "lint", "{}", ";"),
        ("/opt/a tool/lint", "a b", "{files}"),
        "awk '{print}' ${file} {{file}} @{upstream}",
        "retest {tests}",
    ],
)
def test_what_is_usual_is_passed_over(command: str | tuple[str, ...]) -> None:
    assert list(odd(command)) == []


def test_what_another_warning_is_about_is_not_said_again() -> None:
    assert list(odd("lint; pytest", is_told=True)) == []
