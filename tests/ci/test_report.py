"""JUnit reports as real tools write them, and as an attacker would."""

import os
from pathlib import Path

import pytest

from ci.model import TestCase
from ci.report import ReportLimits, Reports, find_reports, read_reports


def read(tmp_path: Path, content: str | bytes, **limits: int) -> Reports:
    file = tmp_path / "junit.xml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_reports([file], ReportLimits(**limits), folder=tmp_path)


def outcomes(reports: Reports) -> dict[str, str]:
    assert reports.notes == ()
    return {test.name: test.outcome for test in reports.tests}


PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">
<testsuite name="pytest" errors="1" tests="5">
<testcase classname="tests.test_a" name="test_good" time="0.25" />
<testcase classname="tests.test_a.TestB" name="test_bad[1]" time="0.5">
<failure message="assert 1 == 2&#10;more">long</failure></testcase>
<testcase classname="tests.test_a" name="test_both"><failure message="f"/><error message="teardown broke"/></testcase>
<testcase classname="" name="tests.test_broken"><error message="collection failure">x</error></testcase>
<testcase classname="tests.test_a" name="test_skipped"><skipped type="pytest.skip" message="no"/></testcase>
</testsuite></testsuites>"""


def test_what_pytest_writes_becomes_names_that_pytest_takes(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").touch()
    assert read(tmp_path, PYTEST).tests == (
        TestCase("tests/test_a.py::test_good", "passed", 0.25),
        TestCase("tests/test_a.py::TestB::test_bad[1]", "failed", 0.5, "assert 1 == 2"),
        TestCase("tests/test_a.py::test_both", "error", 0.0, "teardown broke"),
        TestCase("tests.test_broken", "error", 0.0, "collection failure"),
        TestCase("tests/test_a.py::test_skipped", "skipped", 0.0, "no"),
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('<testsuite><testcase name="a"/></testsuite>', {"a": "passed"}),
        (
            '<testsuites><testsuite><testsuite><testcase name="deep"/></testsuite></testsuite></testsuites>',
            {"deep": "passed"},
        ),
        ('<testsuites><testcase name="loose"><failure/></testcase></testsuites>', {"loose": "failed"}),
        ('\ufeff<?xml version="1.0"?>\n<testsuite><testcase name="bom"/></testsuite>', {"bom": "passed"}),
        ('\n\n  <?xml version="1.0"?><testsuite><testcase name="late"/></testsuite>', {"late": "passed"}),
        ('<testsuite xmlns="http://example.org/x"><testcase name="ns"/></testsuite>', {"ns": "passed"}),
        ('<testsuite><testcase classname="com.acme.FooTest" name="bar"/></testsuite>', {"com.acme.FooTest::bar": "passed"}),
        ('<testsuite><testcase file="a/b_test.go" classname="b" name="T"/></testsuite>', {"a/b_test.go::T": "passed"}),
        ('<testsuite><testcase name="f"><flakyFailure message="once"/></testcase></testsuite>', {"f": "passed"}),
        ('<testsuite><testcase name="r"><failure/><rerunFailure message="again"/></testcase></testsuite>', {"r": "failed"}),
        (
            '<testsuite><properties><property name="p" value="v"/></properties><testcase name="p"/></testsuite>',
            {"p": "passed"},
        ),
        ("", {}),
        ("  \n", {}),
        ("<testsuites/>", {}),
    ],
)
def test_forms_that_tools_write(tmp_path: Path, document: str, expected: dict[str, str]) -> None:
    assert outcomes(read(tmp_path, document)) == expected


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1.5", 1.5),
        ("1,234.5", 1234.5),
        ("0,25", 0.25),
        ("1,234,567", 1234567.0),
        ("2s", 2.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-1", 0.0),
        ("nan", 0.0),
    ],
)
def test_durations_in_every_accent(tmp_path: Path, said: str, seconds: float) -> None:
    assert read(tmp_path, f'<testsuite><testcase name="a" time="{said}"/></testsuite>').tests[0].duration_s == seconds


def test_characters_that_xml_forbids_are_replaced(tmp_path: Path) -> None:
    document = (
        b'<testsuite><testcase name="a&#27;[31m&#x0;"><failure message="\x1b[1mred\xff">x</failure></testcase></testsuite>'
    )
    assert read(tmp_path, document).tests == (TestCase("a\ufffd[31m\ufffd", "failed", 0.0, "\ufffd[1mred\ufffd"),)


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "utf-8"])
def test_declared_encodings(tmp_path: Path, encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><testsuite><testcase name="größe"/></testsuite>'
    assert outcomes(read(tmp_path, document.encode(encoding))) == {"größe": "passed"}


def bomb() -> str:
    lines = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)]
    return f'<!DOCTYPE t [<!ENTITY e0 "ha">{"".join(lines)}]><testsuite><testcase name="&e9;"/></testsuite>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_entity_bomb_is_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    reports = read(tmp_path, bomb().encode(encoding))
    assert reports.tests == ()
    assert "document type declaration" in reports.notes[0]


def test_an_external_entity_is_never_fetched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    document = f'<!DOCTYPE t [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]><testsuite><testcase name="&s;"/></testsuite>'
    reports = read(tmp_path, document)
    assert reports.tests == ()
    assert "hunter2" not in str(reports)


@pytest.mark.parametrize("depth", [51, 200_000])
def test_deep_nesting_is_refused_before_it_costs_anything(tmp_path: Path, depth: int) -> None:
    reports = read(tmp_path, "<testsuite>" * depth + "</testsuite>" * depth)
    assert reports == Reports((), ("report 'junit.xml' is not read: its elements are nested more than 50 deep",))


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ("<testsuite><testcase name='a'>", "no XML"),  # the tool was killed while it wrote
        ("<html/>", "root element is 'html'"),
        ("<!DOCTYPE testsuite><testsuite/>", "document type declaration"),
        ("not xml", "no XML"),
        ("<testsuite>&nbsp;</testsuite>", "no XML"),
    ],
)
def test_a_broken_report_is_a_note_and_no_tests(tmp_path: Path, document: str, word: str) -> None:
    reports = read(tmp_path, document)
    assert reports.tests == ()
    assert word in reports.notes[0]


def test_limits_of_size_tests_and_files(tmp_path: Path) -> None:
    one = '<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
    assert "more than 10" in read(tmp_path, one, max_bytes=10).notes[0]
    assert "more than 1 tests" in read(tmp_path, one, max_tests=1).notes[0]
    (tmp_path / "2.xml").write_text(one)
    both = read_reports([tmp_path / "junit.xml", tmp_path / "2.xml"], ReportLimits(max_files=1))
    assert len(both.tests) == 2
    assert "more than 1 reports" in both.notes[0]


def test_huge_output_in_a_report_is_dropped_while_reading(tmp_path: Path) -> None:
    output = "x" * 5_000_000
    document = f'<testcase name="a"><system-out>{output}<b>y</b>z</system-out><failure>boom</failure></testcase>'
    reports = read(tmp_path, f"<testsuite>{document}</testsuite>")
    assert reports.tests == (TestCase("a", "failed", 0.0, "boom"),)


def test_a_symlinked_report_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
    (tmp_path / "link.xml").symlink_to("real.xml")
    os.mkfifo(tmp_path / "fifo.xml")
    reports = read_reports([tmp_path / "link.xml", tmp_path / "fifo.xml", tmp_path / "missing.xml"])
    assert reports.tests == ()
    assert len(reports.notes) == 3


def test_reports_are_found_inside_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    outside = tmp_path / "outside"
    for made in (folder / "out" / "deep", outside):
        made.mkdir(parents=True)
        (made / "a.xml").touch()
    (folder / "out" / "link.xml").symlink_to(outside / "a.xml")
    (folder / "loop").symlink_to(".")
    (folder / "away").symlink_to(outside)
    found = [folder / "out" / "deep" / "a.xml"]
    assert list(find_reports(folder, "out/**/*.xml")) == found
    assert list(find_reports(folder, "**/*.xml")) == found
    assert list(find_reports(folder, "../outside/*.xml")) == []
    assert list(find_reports(folder, "away/*.xml")) == []


def test_a_report_that_was_written_again_has_another_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("1")
    (tmp_path / "b.xml").write_text("1")
    before = find_reports(tmp_path, "*.xml")
    (tmp_path / "a.xml").write_text("22")
    after = find_reports(tmp_path, "*.xml")
    assert [path.name for path in after if after[path] != before[path]] == ["a.xml"]
