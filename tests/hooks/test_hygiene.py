"""Small checks of files: what each finds, what mending does and leaves alone, and that both ways to them say the same."""

import ast
import json
import os
import stat
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.errors import UserError
from fakes.repositories import Repository, git_env
from hooks import hygiene
from hooks.hygiene import CHECKS, DEFAULTS, FIXES, Finding, Options, Spellings, findings, judge, mend, parsed, run

GATE = Path(sys.executable).with_name("gate")
PROJECT = Path(__file__).parents[2]
KEY = b"-----BEGIN RSA PRIVATE " + b"KEY-----\n"
BOM = b"\xef\xbb\xbf"


def lines_of(name: str, path: str, content: bytes, options: Options = DEFAULTS) -> list[int]:
    return [finding.line for finding in findings(name, path, content, options)]


# --- what each check finds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("trailing-whitespace", b"", []),
        ("trailing-whitespace", b"a\n\tb\n\n c\n", []),
        ("trailing-whitespace", b"a b\r\nc\r\n", []),
        ("trailing-whitespace", b"a\n\x0c\nb\n", []),
        ("trailing-whitespace", b"a \nb\nc\t\n", [1, 3]),
        ("trailing-whitespace", b"a\nb \r\n", [2]),
        ("trailing-whitespace", b"a \rb\r", [1]),
        ("trailing-whitespace", b"a\n  \n", [2]),
        ("trailing-whitespace", b"a\nb ", [2]),
        ("end-of-file", b"", []),
        ("end-of-file", b"a\n", []),
        ("end-of-file", b"a\r\nb\r\n", []),
        ("end-of-file", b"a\rb\r", []),
        ("end-of-file", b"a\nb", [2]),
        ("end-of-file", b"a\nb\r", [2]),
        ("end-of-file", b"a\n\n", [2]),
        ("end-of-file", b"\n", [1]),
        ("mixed-line-ending", b"a\nb\n", []),
        ("mixed-line-ending", b"a\r\nb\r\n", []),
        ("mixed-line-ending", b"a\rb\r", []),
        ("mixed-line-ending", b"a\nb\r\nc\n", [2]),
        ("mixed-line-ending", b"a\r\nb\r\nc\n", [3]),
        ("mixed-line-ending", b"a\r\nb\rc\r\n", [2]),
        ("mixed-line-ending", b"a\nb\rc\n", [2]),
        ("byte-order-mark", b"a" + BOM, []),
        ("byte-order-mark", BOM + b"a", [1]),
        ("merge-conflict", b"Heading\n=======\n\ntext\n", []),
        ("merge-conflict", b"Quoted\n=======\n a <<<<<<< b\n <<<<<<< HEAD\n", []),
        ("merge-conflict", b"<<<<<<<\n>>>>>>>\n", []),
        ("merge-conflict", b"<<<<<<<< HEAD\n>>>>>>>> b\n", []),
        ("merge-conflict", b"x\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> topic\nTitle\n=======\n", [2, 4, 6]),
        ("merge-conflict", b"<<<<<<< HEAD\r\na\r\n||||||| base\r\n=======\r\nb\r\n>>>>>>> topic\r\n", [1, 3, 4, 6]),
        ("merge-conflict", b"======= \n>>>>>>> topic\n", [2]),
        ("private-key", b"-----BEGIN PUBLIC KEY-----\nPRIVATE " + b"KEY\n", []),
        ("private-key", b"a\n" + KEY, [2]),
        ("private-key", b'{"k": "' + KEY.strip() + b'\\n"}', [1]),
        ("private-key", b"-----BEGIN OPENSSH PRIVATE " + b"KEY-----", [1]),
        ("private-key", b"-----BEGIN PGP PRIVATE " + b"KEY BLOCK-----", [1]),
        ("private-key", b"PuTTY-User-" + b"Key-File-3: ssh-ed25519", [1]),
        ("private-key", b"AGE-SECRET-" + b"KEY-1ABC", [1]),
    ],
)
def test_of_text(name: str, content: bytes, lines: list[int]) -> None:
    assert lines_of(name, "any", content) == lines


@pytest.mark.parametrize(
    ("name", "path", "content", "lines"),
    [
        ("python-syntax", "a.py", b"x = 1\n", []),
        ("python-syntax", "a.py", b"# coding: latin-1\nx = '\xe9'\n", []),
        ("python-syntax", "a.py", b"x = '\\d'\n", []),
        ("python-syntax", "a.txt", b"x = =\n", []),
        ("python-syntax", "a.py", b"x = 1\nx = =\n", [2]),
        ("python-syntax", "a.PYI", b"x = (\n", [1]),
        ("python-syntax", "a.py", b"return 1\n", [1]),
        ("python-syntax", "a.py", b"x = '\xe9'\n", [1]),
        ("python-syntax", "a.py", b"# coding: no-such\n", [1]),
        ("python-syntax", "a.py", b"x\0", [1]),
        ("json-syntax", "a.json", b'{"a": [1, 2.5, null]}', []),
        ("json-syntax", "a.json", BOM + b"{}", []),
        ("json-syntax", "a.json", b"1" * 5000, []),
        ("json-syntax", "a.json", b'[{"a": 1}, {"a": 1}]', []),
        ("json-syntax", "a.jsonc", b"// no", []),
        ("json-syntax", "a.json", b'{\n"a": 1,\n"b"}', [3]),
        ("json-syntax", "a.json", b"", [1]),
        ("json-syntax", "a.json", b"[NaN]", [1]),
        ("json-syntax", "a.json", b'{"a": 1, "b": 2, "a": 1}', [1]),
        ("json-syntax", "a.json", b'{\n"a": "\xff"}', [2]),
        ("json-syntax", "a.json", "{}".encode("utf-16"), [1]),
        ("toml-syntax", "a.toml", b'a = 1\n[b]\nc.d = "e"\n', []),
        ("toml-syntax", "a.toml", b'a = "' + b"." * 2000 + b'"\n', []),
        ("toml-syntax", "a.toml", b"".join(b'k%d = "1.2"\n' % n for n in range(3000)), []),
        ("toml-syntax", "a.txt", b"=", []),
        ("toml-syntax", "a.toml", b"a = 1\nb =\n", [2]),
        ("toml-syntax", "a.toml", b"a = 1\na = 2\n", [2]),
        ("toml-syntax", "a.toml", b"a = 1\nb = [\n", [2]),
        ("toml-syntax", "a.toml", b"a = 1\n# \xff\n", [2]),
    ],
)
def test_of_a_syntax(name: str, path: str, content: bytes, lines: list[int]) -> None:
    assert lines_of(name, path, content) == lines


@pytest.mark.parametrize("name", sorted({*CHECKS} - {"large-file", "case-conflict"}))
def test_what_is_binary_or_encrypted_is_passed_over(name: str) -> None:
    content = b"\0GITCRYPT\0" + BOM + b" \r\n \n<<<<<<< HEAD\n" + KEY
    for path in ("a", "a.py", "a.json", "a.toml"):
        assert findings(name, path, content, executable=True) == []
    assert mend([name], content) == (content, ())
    late = b"a\n" * 4000 + b" \n\0"
    assert bool(findings(name, "a", late)) == (name in ("trailing-whitespace", "end-of-file"))


@pytest.mark.parametrize("name", sorted({*FIXES, "merge-conflict", "private-key"}))
def test_a_nul_makes_any_text_binary(name: str) -> None:
    content = BOM + b" \r\n \n<<<<<<< HEAD\n" + KEY + b"x"
    assert findings(name, "a", content)
    assert findings(name, "a", content + b"\0") == []


def test_a_large_file_is_one_of_more_bytes_than_allowed() -> None:
    assert findings("large-file", "a", b"\0" * 10, Options(10)) == []
    assert findings("large-file", "a", b"\0" * 11, Options(10)) == [Finding(1, "has 11 bytes, and 10 are allowed")]


@pytest.mark.parametrize(
    ("paths", "others", "told"),
    [
        (["a", "b", "c/a"], [], []),
        (["a", "a", "./a"], [], []),
        (["a", "A"], [], ["a", "A"]),
        (["src/x", "Src/y", "Src/z"], [], ["src/x", "Src/y"]),
        (["A/x", "a/b", "a/m", "a/M"], [], ["A/x", "a/m", "a/M"]),
        (["x/b", "y/B"], [], []),
        (["straße", "STRASSE"], [], ["straße", "STRASSE"]),
        (["\u00e9", "e\u0301"], [], ["\u00e9", "e\u0301"]),
        (["a"], ["A", "b"], ["a"]),
        (["b"], ["a", "A"], []),
    ],
)
def test_names_that_are_one_where_case_does_not_count(paths: list[str], others: list[str], told: list[str]) -> None:
    options = Options(spellings=Spellings(paths, others))
    found = [path for path in dict.fromkeys(paths) if findings("case-conflict", path, b"", options)]
    assert found == told


def test_without_other_names_there_is_no_conflict() -> None:
    assert findings("case-conflict", "A", b"") == []


@pytest.mark.parametrize(
    ("content", "executable", "is_fine"),
    [
        (b"#!/bin/sh\n", True, True),
        (b"#! /usr/bin/env python3\n", True, True),
        (b"x\n", False, True),
        (b"#![allow(x)]\n", False, True),
        (b"#!/bin/sh\n", None, True),
        (b"x\n", True, False),
        (b"#!/bin/sh\n", False, False),
    ],
)
def test_a_shebang_and_the_executable_bit_go_together(content: bytes, executable: bool | None, is_fine: bool) -> None:
    assert (findings("shebang", "a", content, executable=executable) == []) == is_fine


def test_many_findings_become_a_number() -> None:
    found = findings("trailing-whitespace", "a", b" \n" * 1000)
    assert [finding.line for finding in found] == [*range(1, 51), 1000]
    assert "950 more" in found[-1].text


def test_a_finding_is_a_pair() -> None:
    (finding,) = findings("byte-order-mark", "a", BOM)
    line, text = finding
    assert (finding.line, finding.text) == (line, text) == finding


def test_an_unknown_name_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        findings("no-such", "a", b"")


# --- what was made to do harm -------------------------------------------------------------------------------------------

N = 200_000


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.py", b"(" * N),
        ("a.py", b"{1:" * N),
        ("a.py", b"-" * N + b"1"),
        ("a.py", b"a" + b".b" * N),
        ("a.py", b"not " * N),
        ("a.py", b"x = " + b"1 if 1 else " * N),
        ("a.py", b"9" * N),
        ("a.py", b"# coding: utf-7\n" + b"+" * N),
        ("a.json", b"[" * N),
        ("a.json", b'{"a":' * N),
        ("a.toml", b"a = " + b"[" * N),
        ("a.toml", b"a = " + b"{a=" * N),
        ("a.toml", b"a." * N + b"a = 1"),
        ("a.toml", b"[" + b".".join([b"a"] * 900) + b"]\n" + b"\n".join(b"k%d.b=1" % n for n in range(N // 8))),
        ("a.toml", b"a = " + b"1" * N),
    ],
)
def test_hostile_content_is_refused_in_a_sentence_and_soon(path: str, content: bytes) -> None:
    began = time.process_time()
    found = judge([*CHECKS], path, content)
    assert time.process_time() - began < 3
    assert any(name.endswith("-syntax") for name, _ in found)
    assert all(finding.text.isprintable() and len(finding.text) < 300 for _, finding in found)


@pytest.mark.parametrize("piece", [b" ", b"\t\r", b"\r", b"\n", b"<<<<<<< ", b"=======\n", b"-----BEGIN ", BOM, b" \n"])
def test_time_is_linear(piece: bytes) -> None:
    """A megabyte of anything: what is quadratic would take minutes."""
    began = time.process_time()
    content = piece * (1_000_000 // len(piece))
    judge([*CHECKS], "a", content)
    mend([*FIXES], content)
    assert time.process_time() - began < 5


def test_what_a_parser_quotes_cannot_steer_a_terminal() -> None:
    hostile = {
        "a.toml": b"a = \x1b[2J\n",
        "a.json": b'{"\\u001b": 1, "\\u001b": 1}',
        "a.py": b"# coding: \n'\xe2\x80\xae'; \xe2\x80\xae\n",
        "b.py": b"import \n" + b"x = " + b"a" * 5000 + b" \xc2\x85\n",
    }
    for path, content in hostile.items():
        found = judge([*CHECKS], path, content)
        assert found, path
        assert all(finding.text.isprintable() for _, finding in found)
    assert hygiene._said("a\x1b\u202e" + "b" * 500) == "a  " + "b" * 197
    assert hygiene._said("a\x1b[2J\nb\u202e") == "a [2J b "


def test_warnings_of_the_compiler_are_nobodys_and_threads_do_not_meddle() -> None:
    failures: list[object] = []

    def work() -> None:
        try:
            failures.extend(findings("python-syntax", "a.py", b"x = '\\d'; assert (1, 'x')\n"))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- mending ------------------------------------------------------------------------------------------------------------

pieces = st.sampled_from([b" ", b"\t", b"\n", b"\r", b"\r\n", BOM, b"a", b"b c", b"=======", b"\xff", b"\x0c", b"\0"])
contents = st.lists(pieces, max_size=25).map(b"".join)
some_fixes = st.lists(st.sampled_from([*FIXES]), min_size=1, unique=True)


def words_of(content: bytes) -> bytes:
    """All that no fix may touch."""
    return content.translate(None, b" \t\r\n" + BOM)


@given(contents, some_fixes)
@settings(max_examples=600, deadline=None)
def test_after_mending_all_is_green_and_nothing_is_left_to_mend(content: bytes, names: list[str]) -> None:
    better, altered = mend(names, content)
    assert mend(names, better) == (better, ())
    assert judge(names, "a", better) == []
    assert bool(altered) == (better != content)
    assert set(altered) <= set(names)
    assert mend(names[::-1], content) == (better, altered)
    assert words_of(better) == words_of(content)


@given(contents, st.sampled_from([*FIXES]))
@settings(max_examples=600, deadline=None)
def test_a_fix_alters_exactly_what_its_check_finds(content: bytes, name: str) -> None:
    better = FIXES[name](content)
    assert FIXES[name](better) == better
    if not hygiene.is_binary(content):
        assert (better != content) == bool(findings(name, "a", content))


@given(contents)
@settings(max_examples=600, deadline=None)
def test_each_fix_touches_its_own_thing_only(content: bytes) -> None:
    trimmed = FIXES["trailing-whitespace"](content)
    # Line by line the same, with the same ends, but for blanks before an end.
    assert [line.rstrip(b" \t\r\n") for line in trimmed.split(b"\n")] == [
        b"\r".join(part.rstrip(b" \t") for part in line.split(b"\r")).rstrip(b"\r") for line in content.split(b"\n")
    ]
    assert trimmed.count(b"\r") == content.count(b"\r")
    ended = FIXES["end-of-file"](content)
    assert ended.rstrip(b"\r\n") == content.rstrip(b"\r\n")
    same = FIXES["mixed-line-ending"](content)
    assert same.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert content.endswith(FIXES["byte-order-mark"](content))
    assert content.removesuffix(FIXES["byte-order-mark"](content)).replace(BOM, b"") == b""


@pytest.mark.parametrize(
    ("names", "before", "after"),
    [
        (["end-of-file"], b"a\r\nb", b"a\r\nb\r\n"),
        (["end-of-file"], b"a\r\n\r\n", b"a\r\n"),
        (["end-of-file"], b"\n\n", b""),
        (["mixed-line-ending"], b"a\r\nb\r\nc\n", b"a\r\nb\r\nc\r\n"),
        (["mixed-line-ending"], b"a\r\nb\n", b"a\nb\n"),
        (["trailing-whitespace", "end-of-file"], b"a \n \n", b"a\n"),
        (["trailing-whitespace"], b"a \r\nb\t\r\n", b"a\r\nb\r\n"),
        (["merge-conflict"], b"<<<<<<< a\n", b"<<<<<<< a\n"),
    ],
)
def test_mended(names: list[str], before: bytes, after: bytes) -> None:
    assert mend(names, before)[0] == after


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lines_and_the_code_when_something_was_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b").write_bytes(b"x\ny \n")
    (folder / "a").write_bytes(b"z")
    assert run(["trailing-whitespace,end-of-file", "b", "a"]) == 1
    said = capsys.readouterr()
    assert said.out == "a:1: no line end at the end\nb:2: blanks at the end of the line\n"
    assert said.err == ""


def test_nothing_found_is_silence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a").write_bytes(b"x\n")
    assert run(["trailing-whitespace", "a"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--fix"],
        ["no-such", "a"],
        ["trailing-whitespace,", "a"],
        ["end-of-file", "--no-such", "a"],
        ["end-of-file", "-x.py"],
        ["large-file", "--max"],
        ["large-file", "--max", "5 kB", "a"],
        ["large-file", "--max=-1", "a"],
        ["large-file", "--max", "1" * 5000, "a"],
        ["large-file", "--max=٣", "a"],
    ],
)
def test_usage(words: list[str]) -> None:
    with pytest.raises(UserError):
        run(words)


def test_the_codes_of_the_program(folder: Path) -> None:
    (folder / "a").write_bytes(b"x ")

    def code(*words: str) -> int:
        return subprocess.run([GATE, "hygiene", *words], env=git_env(), capture_output=True, check=False).returncode

    assert code("merge-conflict", "a") == 0
    assert code("trailing-whitespace", "a") == 1
    assert code("trailing-blanks", "a") == 2
    assert code("merge-conflict", "gone", "a") == 4
    assert code("trailing-whitespace", "gone", "a") == 1


@pytest.mark.parametrize(
    ("size", "most"), [("10", 10), ("2kB", 2000), ("2KB", 2000), ("2KiB", 2048), ("1MB", 10**6), ("1B", 1), ("1GiB", 2**30)]
)
def test_sizes(size: str, most: int) -> None:
    for words in (["--max", size], [f"--max={size}"]):
        request = parsed(("gate", "hygiene", "large-file", *words, "{files}"))
        assert request is not None
        assert request.options.max_bytes == most


def test_names_that_could_steer_a_terminal_are_quoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a\x1b[2J", "b\nc", "d\u202e", os.fsdecode(b"e\xff")):
        (folder / name).write_bytes(b" ")
    names = sorted(path.name for path in folder.iterdir())
    assert run(["trailing-whitespace", "--", *names, "gone\x1b"]) == 1
    said = capsys.readouterr()
    assert all(line.isprintable() for line in [*said.out.splitlines(), *said.err.splitlines()])
    assert len(said.out.splitlines()) == 4
    assert len(said.err.splitlines()) == 1


def test_names_with_dashes_after_two_dashes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "--fix").write_bytes(b"x ")
    assert run(["trailing-whitespace", "--", "--fix"]) == 1
    assert capsys.readouterr().out == "--fix:1: blanks at the end of the line\n"
    assert (folder / "--fix").read_bytes() == b"x "


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a").write_bytes(b"x \n<<<<<<< HEAD\n")
    assert run(["trailing-whitespace,merge-conflict", "--json", "--fix", "a", "gone"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "green": False,
        "findings": [{"check": "merge-conflict", "path": "a", "line": 2, "text": "a mark of an unfinished merge"}],
        "mended": [{"path": "a", "checks": ["trailing-whitespace"]}],
        "unreadable": [{"path": "gone", "text": "No such file or directory"}],
    }


def test_mending_keeps_the_mode_and_counts_as_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "a"
    file.write_bytes(b"x \n\n")
    file.chmod(0o754)
    assert run(["end-of-file,trailing-whitespace", "--fix", "a"]) == 1
    assert capsys.readouterr().out == "a: mended: trailing-whitespace, end-of-file\n"
    assert file.read_bytes() == b"x\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o754
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert run(["end-of-file,trailing-whitespace", "--fix", "a"]) == 0


def test_what_is_fine_is_not_written(folder: Path) -> None:
    (folder / "a").write_bytes(b"x\n")
    before = (folder / "a").stat()
    assert run(["end-of-file", "--fix", "a"]) == 0
    after = (folder / "a").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_without_fix_nothing_is_written(folder: Path) -> None:
    (folder / "a").write_bytes(b"x ")
    assert run([",".join(FIXES), "a"]) == 1
    assert (folder / "a").read_bytes() == b"x "


def test_no_link_is_followed(folder: Path) -> None:
    (folder / "target").write_bytes(b"x ")
    (folder / "link").symlink_to("target")
    (folder / "lost").symlink_to("nowhere")
    assert run([",".join(CHECKS), "--fix", "link", "lost"]) == 0
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_bytes() == b"x "


def test_no_link_is_followed_that_came_since_somebody_looked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "target").write_bytes(b"x ")
    (folder / "link").symlink_to("target")
    monkeypatch.setattr(os, "lstat", os.stat)
    assert run(["trailing-whitespace", "--fix", "link"]) == 4
    assert "link" in capsys.readouterr().err
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_bytes() == b"x "


def test_a_link_that_comes_at_the_last_moment_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "target").write_bytes(b"x ")
    file = folder / "a"
    file.write_bytes(b"y ")
    opened = os.open

    def late(path: str, *flags: int) -> int:
        if path == "a" and not file.is_symlink():
            file.unlink()
            file.symlink_to("target")
        return opened(path, *flags)

    monkeypatch.setattr(os, "open", late)
    assert run(["trailing-whitespace", "--fix", "a"]) == 4
    assert file.is_symlink()
    assert (folder / "target").read_bytes() == b"x "


def test_a_pipe_and_a_folder_are_no_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    assert run(["end-of-file", "--fix", "pipe", "sub"]) == 4
    assert run(["large-file", "pipe", "sub"]) == 4
    assert capsys.readouterr().err == "gate: pipe: is not a file\ngate: sub: is a folder: name the files in it\n" * 2


def test_a_mending_that_fails_leaves_the_file_and_tells_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(b"x ")

    def no_space(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    assert run(["trailing-whitespace", "--fix", "a"]) == 1
    said = capsys.readouterr()
    assert said.out == "a:1: blanks at the end of the line\n"
    assert said.err == "gate: a: No space left on device\n"
    assert (folder / "a").read_bytes() == b"x "
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_file_that_somebody_else_alters_meanwhile_is_theirs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "a"
    file.write_bytes(b"x ")

    def fsync(handle: int) -> None:
        file.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", fsync)
    assert run(["trailing-whitespace", "--fix", "a"]) == 1
    assert file.read_bytes() == b"theirs"
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_every_file_is_looked_at_once_and_names_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "A").write_bytes(b"x ")
    (folder / "a").write_bytes(b"x\n")
    assert run(["case-conflict,trailing-whitespace", "a", "A", "A"]) == 1
    assert capsys.readouterr().out == (
        "A:1: A and a are the same name where case does not count\n"
        "A:1: blanks at the end of the line\n"
        "a:1: a and A are the same name where case does not count\n"
    )


def test_names_are_compared_with_what_lies_beside_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "B").mkdir()
    for name in ("A", "a", "B/c", "B/C"):
        (folder / name).write_bytes(b"x\n")
    assert run(["case-conflict", "./a", "B/c", "gone"]) == 1
    twice = (
        "./a:1: a and A are the same name where case does not count\n"
        "B/c:1: B/c and B/C are the same name where case does not count\n"
    )
    assert twice in capsys.readouterr().out


def test_names_are_compared_with_all_that_git_tracks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit("Names", {"src/a": "A\n", "docs/x": "A\n"})
    repository.write("src/A", "untracked: it is asked about")
    repository.write("docs/X", "untracked")
    monkeypatch.chdir(repository.path)
    assert run(["case-conflict", "docs/x"]) == 0
    assert run(["case-conflict", "src/A"]) == 1
    monkeypatch.chdir(repository.path / "src")
    assert run(["case-conflict", "A"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "src/A:1: src/A and src/a are the same name where case does not count",
        "A:1: A and a are the same name where case does not count",
    ]


files = st.dictionaries(
    st.sampled_from(["a", "A", "b.py", "c.json", "d.toml", "e/f", "E/g"]),
    st.one_of(contents, st.sampled_from([b"x = 1\n", b'{"a": 1}\n', KEY, b"<<<<<<< HEAD\n", b"#!/bin/sh\n"])),
    max_size=5,
)


@given(files, st.lists(st.sampled_from([*CHECKS]), min_size=1, unique=True))
@settings(max_examples=100, deadline=None)
def test_in_this_process_as_on_the_command_line(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes], names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for path, content in tree.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    request = parsed(f"gate hygiene {','.join(names)} --max 20 -- {{files}}")
    assert request is not None
    options = request.options_among(tree)
    expected = [
        {"check": name, "path": path, "line": line, "text": text}
        for path in sorted(tree)
        for name in request.names
        for line, text in findings(name, path, tree[path], options, executable=False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said: list[str] = []
        patch.setattr(sys.stdout, "write", said.append)
        code = run([",".join(names), "--max", "20", "--json", "--", *tree])
    answer = json.loads("".join(said))
    assert answer["findings"] == expected
    assert code == (1 if expected else 0)


# --- what may be done without a process ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("gate", "hygiene", "trailing-whitespace", "{files}"),
        ("gate", "hygiene", "trailing-whitespace", "--", "{files}"),
        ("gate", "hygiene", "--fix", "trailing-whitespace", "--max", "5kB", "--", "{files}"),
        "gate hygiene trailing-whitespace -- {files}",
        "  gate  hygiene trailing-whitespace,trailing-whitespace --max=5kB --fix {files} ",
    ],
)
def test_recognized(command: str | tuple[str, ...]) -> None:
    request = parsed(command)
    assert request is not None
    assert request.names == ("trailing-whitespace",)
    assert request.fix == ("--fix" in command)
    assert request.options.max_bytes == (5000 if "5kB" in str(command) else 500_000)


@pytest.mark.parametrize(
    "command",
    [
        "",
        (),
        "gate hygiene",
        "gate hygiene {files}",
        "gate hygiene trailing-whitespace",
        "gate check trailing-whitespace {files}",
        "/usr/bin/gate hygiene trailing-whitespace {files}",
        "gate hygiene no-such {files}",
        "gate hygiene --help {files}",
        "gate hygiene trailing-whitespace --json {files}",
        "gate hygiene trailing-whitespace {files} --fix",
        "gate hygiene trailing-whitespace a {files}",
        "gate hygiene trailing-whitespace {files} {files}",
        "gate hygiene trailing-whitespace -- -- {files}",
        'gate hygiene trailing-whitespace "{files}"',
        "gate hygiene 'trailing-whitespace' {files}",
        "gate hygiene trailing-whitespace {files}; true",
        "gate hygiene trailing-whitespace {files} ; true",
        "gate hygiene trailing-whitespace {files} | cat",
        "gate hygiene trailing-whitespace\n{files}",
        "gate hygiene trailing-whitespace\t{files}",
        "gate hygiene trailing-whitespace {files}\n",
        "gate hygiene $NAMES {files}",
        "gate hygiene large-file --max $MAX {files}",
        "gate hygiene large-file --max {files}",
        "FOO=1 gate hygiene trailing-whitespace {files}",
        "exec gate hygiene trailing-whitespace {files}",
        "gate hygiene trailing-whitespace -- {files}x",
        ("gate", "hygiene", "trailing-whitespace", "-- {files}"),
        ("gate", "hygiene", "trailing-whitespace -- {files}"),
        ("gate hygiene", "trailing-whitespace", "{files}"),
    ],
)
def test_not_recognized(command: str | tuple[str, ...]) -> None:
    assert parsed(command) is None


@given(
    st.lists(
        st.sampled_from(["gate", "hygiene", "end-of-file", "--fix", "--max", "1", "--", "{files}", ";", "|", "$x", "`"])
    )
)
@settings(max_examples=500, deadline=None)
def test_what_is_recognized_means_nothing_to_a_shell(words: list[str]) -> None:
    request = parsed(("gate", "hygiene", "end-of-file", *words, "{files}"))
    assert (request is None) == (parsed(" ".join(["gate", "hygiene", "end-of-file", *words, "{files}"])) is None)
    if request is not None:
        assert {*words} <= {"--fix", "--max", "1", "--"}


# --- what it costs, and where it is named -------------------------------------------------------------------------------


def test_only_os_and_sys_are_imported_at_the_top() -> None:
    tree = ast.parse((PROJECT / "hooks/hygiene.py").read_bytes())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in top] == ["import os", "import sys"]


def loaded_by(work: str) -> set[str]:
    program = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import os; before = set(sys.modules)\n"
        f"from hooks import hygiene\n{work}\nprint(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_is_loaded() -> None:
    assert loaded_by("") == {"hooks", "hooks.hygiene"}
    cheap = [name for name in CHECKS if not name.endswith("-syntax")]
    assert loaded_by(f"hygiene.judge({cheap!r}, 'a.py', b'x = 1 \\n')") == {"hooks", "hooks.hygiene"}
    assert "json" not in loaded_by("hygiene.judge([*hygiene.CHECKS], 'a.py', b'x = 1 \\n')")


def test_the_program_its_hook_and_its_page() -> None:
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["gate-hygiene"] == "hooks.main:hygiene"
    published = (PROJECT / ".pre-commit-hooks.yaml").read_text().partition("- id: gate-hygiene\n")[2].partition("- id:")[0]
    assert "entry: gate-hygiene\n" in published
    assert "stages: [pre-commit]\n" in published
    assert "require_serial: true\n" in published
    (names,) = [line.strip().removeprefix("- ") for line in published.splitlines() if "," in line and "- " in line]
    assert sorted(names.split(",")) == sorted({*CHECKS} - {"shebang"})
    assert published.count('- "--"\n') == 1
    page = (PROJECT / "docs/reference/hygiene.md").read_text()
    for name in CHECKS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert (not row.endswith(" | |")) == (name in FIXES)
        (said,) = [line for line in hygiene.HELP.splitlines() if line.startswith(f"  {name} ")]
        assert said.endswith("(*)") == (name in FIXES)


def test_the_console_script_runs_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hooks.main

    (folder / "a").write_bytes(b"x ")
    monkeypatch.setattr(sys, "argv", ["gate-hygiene", "trailing-whitespace", "a"])
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    assert hooks.main.hygiene() == 1
