"""gate.toml files in folders: which have a say, what they come to together, and what is wrong with them."""

from pathlib import Path

import pytest

from ci.git import PlainGit
from ci.keys import KeyMaker
from ci.model import WHOLE_TREE, Check, CheckName, Sha
from fakes.repositories import Repository
from fakes.stand import PLAIN, Stand
from gate.cli import main
from gate.config import IS_LINK, Config, Nested, Trust, warnings
from gate.nested import ANYWHERE, NO_FILE, compose, is_rule, load_all, read_folder, read_tree, roots
from gate.repository import Repository as Gated
from gate.trust import missing_approvals

TOP = b'[nested]\nfolders = ["services/*", "tool"]\n\n[[check]]\nname = "lint"\ncommand = "x"\n'
UNIT = b'[[check]]\nname = "unit"\ncommand = "y"\n'
NAMED = Nested(("services/*", "tool"))


def composed(**files: str) -> Config:
    """Folders by their names, with __ for a slash."""
    found = compose(TOP, {folder.replace("__", "/"): text.encode() for folder, text in files.items()})
    assert isinstance(found, Config), found
    return found


def said(top: bytes, files: dict[str, bytes | str]) -> list[tuple[str, int, str]]:
    found = compose(top, files)
    assert not isinstance(found, Config)
    return [(problem.file, problem.line, problem.text) for problem in found]


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("gate.toml", True),
        ("services/api/gate.toml", True),
        ("tool/gate.toml", True),
        ("services/api/gate.toml/x", True),
        ("gate.toml/x", True),
        ("services/gate.toml", False),
        ("services/api/vendor/gate.toml", False),
        ("services/api/gate.tomlx", False),
        ("vendor/gate.toml", False),
        ("gate.tom", False),
    ],
)
def test_which_paths_are_rules(path: str, counts: bool) -> None:
    assert is_rule(NAMED, path) is counts


def test_on_a_trunk_with_broken_rules_any_such_file_may_mend_them() -> None:
    assert is_rule(ANYWHERE, "a/b/c/gate.toml")
    assert not is_rule(ANYWHERE, "a/b/c/other.toml")


def test_only_folders_that_are_named_need_a_maintainer() -> None:
    trust = Trust(maintainers=("maria",))
    (reason,) = missing_approvals(trust, "ann", ["services/new/gate.toml", "x"], [], "root", NAMED)
    assert reason.paths == ("services/new/gate.toml",)
    assert missing_approvals(trust, "ann", ["services/new/gate.toml"], ["maria"], "root", NAMED) == ()
    assert missing_approvals(trust, "ann", ["vendor/new/gate.toml"], [], "root", NAMED) == ()


def test_without_folders_the_top_is_all() -> None:
    assert [check.name for check in composed().checks] == ["lint"]


def test_a_folder_that_is_not_named_has_no_say() -> None:
    assert [check.name for check in composed(vendor="[[check]]\nrubbish", services__api__deep=UNIT.decode()).checks] == [
        "lint"
    ]


def test_a_check_of_a_folder_begins_there() -> None:
    config = composed(services__api=UNIT.decode(), tool=UNIT.decode())
    assert [check.name for check in config.checks] == ["lint", "services/api/unit", "tool/unit"]
    assert [check.folder for check in config.checks] == ["", "services/api", "tool"]
    assert config.checks[1].inputs == ("/services/api/**",)
    assert warnings(config) == ()


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("*.py", "/tool/**/*.py"),
        ("src/*.py", "/tool/src/*.py"),
        ("/a", "/tool/a"),
        ("src/", "/tool/**/src/"),
        ("!*.md", "!/tool/**/*.md"),
        ("//libs/money/**", "/libs/money/**"),
        ("!//libs/x", "!/libs/x"),
        ("//**", "**"),
    ],
)
def test_inputs_begin_in_the_folder(pattern: str, means: str) -> None:
    config = composed(tool=f'[[check]]\nname = "a"\ncommand = "x"\ninputs = ["**", "{pattern}"]\n')
    assert config.checks[1].inputs == ("/tool/**", means)


def test_a_folder_can_ask_for_the_whole_tree() -> None:
    config = composed(tool='[[check]]\nname = "a"\ncommand = "x"\ninputs = ["//**"]\n')
    assert config.checks[1].inputs == WHOLE_TREE
    assert config.checks[1].is_whole_tree


def test_needs_lead_to_the_same_file_the_top_and_others() -> None:
    needs = 'needs = ["build", "//lint", "tool/unit"]\n'
    config = composed(
        services__api=f'[[check]]\nname = "build"\ncommand = "x"\n[[check]]\nname = "unit"\ncommand = "x"\n{needs}',
        tool=UNIT.decode(),
    )
    assert config.checks[2].needs == ("services/api/build", "lint", "tool/unit")


def test_the_top_may_need_a_check_of_a_folder() -> None:
    top = TOP + b'needs = ["tool/unit"]\n'
    assert isinstance(compose(top, {"tool": UNIT}), Config)
    assert said(top, {}) == [("", 7, "there is no check 'tool/unit'")]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (b"[trust]\nmaintainers = ['eve']\n", 1, "belongs in the gate.toml at the top"),
        (b"[[environment]]\nname = 'x'\n", 1, "belongs in the gate.toml at the top"),
        (b"[nested]\nfolders = ['a']\n", 1, "belongs in the gate.toml at the top"),
        (b"[chekc]\n", 1, "unknown key"),
        (b"[[check]]\nname = 'a'\ncomand = 'x'\ncommand = 'x'\n", 3, "unknown key"),
        (UNIT + UNIT, 5, "there is already a check 'tool/unit'"),
        (UNIT + b"needs = ['lint']\n", 4, "the one at the top is written '//lint' here"),
        (UNIT + b"needs = ['unit']\n", 4, "circle"),
        (b"[[check\n", 1, ""),
        (b"\n\xff", 2, "not UTF-8"),
        ("is a symbolic link", 0, "tool/gate.toml is a symbolic link"),
    ],
)
def test_what_is_wrong_in_a_folder_is_told_with_file_and_line(text: bytes | str, line: int, part: str) -> None:
    found = said(TOP, {"tool": text, "services/api": UNIT})
    assert [(file, where) for file, where, _ in found] == [("tool/gate.toml", line)]
    assert part in found[0][2]


def test_a_circle_over_two_files_is_told() -> None:
    top = TOP + b'needs = ["tool/unit"]\n'
    assert any("circle" in text for _, _, text in said(top, {"tool": UNIT + b'needs = ["//lint"]\n'}))


def test_a_folder_whose_name_no_check_can_have_is_told() -> None:
    assert "cannot have checks" in said(TOP, {"services/a b": UNIT})[0][2]


@pytest.mark.parametrize("pattern", ["", "/a", "a/", "../a", "a/./b", "a/**", "**", "a b", "a\\\\b", "!a", "a/*/*****"])
def test_patterns_that_lead_to_no_folder_are_refused(pattern: str) -> None:
    assert said(f'[nested]\nfolders = ["{pattern}"]\n'.encode(), {})[0][1] == 2


def test_a_pattern_without_checks_is_warned_of() -> None:
    assert ["'services/*'" in line for line in warnings(composed(tool=UNIT.decode()))] == [True]


def test_where_to_look() -> None:
    assert roots(NAMED) == ("services", "tool")
    assert roots(Nested(("*",))) == ("",)


# --- reading ------------------------------------------------------------------------------------------------------------

TREE = {
    "gate.toml": TOP,
    "services/api/gate.toml": UNIT,
    "services/api/vendor/gate.toml": b"rubbish",
    "services/web/README": b"",
    "services/gate.toml": b"rubbish",
    "tool/gate.toml": UNIT,
    "other/gate.toml": b"rubbish",
}


def test_tree_and_work_tree_are_read_alike(repository: Repository) -> None:
    head = Sha(repository.commit("rules", TREE))
    git = PlainGit(repository.path / ".git")
    expected = {"services/api": UNIT, "tool": UNIT}
    assert read_tree(git, head, NAMED) == expected
    assert read_folder(repository.path, NAMED) == expected
    deep = Nested(("*", "services/*/vendor"))
    assert set(read_tree(git, head, deep)) == set(read_folder(repository.path, deep))
    assert set(read_tree(git, head, deep)) == {"services", "services/api/vendor", "tool", "other"}
    found = load_all(git, head)
    assert isinstance(found, Config)
    assert [check.name for check in found.checks] == ["lint", "services/api/unit", "tool/unit"]


def test_what_is_no_file_is_not_followed(repository: Repository) -> None:
    (repository.path / "tool").mkdir()
    (repository.path / "tool/gate.toml").symlink_to("../elsewhere.toml")
    (repository.path / "services").symlink_to("tool")
    head = Sha(repository.commit("rules", {"elsewhere.toml": UNIT, "gate.toml": TOP}))
    git = PlainGit(repository.path / ".git")
    assert read_tree(git, head, NAMED) == {"tool": IS_LINK} == read_folder(repository.path, NAMED)
    (repository.path / "tool/gate.toml").unlink()
    head = Sha(repository.commit("folder", {"tool/gate.toml/x": ""}))
    assert [read_tree(git, head, NAMED), read_folder(repository.path, NAMED)] == [{"tool": NO_FILE}] * 2


def test_rules_are_read_again_only_when_they_can_have_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Repository.create(tmp_path / "srv.git", bare=True)
    dev = server.clone(tmp_path / "dev")
    dev.git("checkout", "-q", "-B", "main")
    commits = [dev.commit("first", TREE), dev.commit("beside", {"src/x": "1"}), dev.commit("in", {"tool/x": "1"})]
    commits.append(dev.commit("none", {"gate.toml": UNIT}))
    commits.append(dev.commit("beside none", {"tool/x": "2"}))
    dev.git("push", "-q", "origin", "main")
    gated, reads = Gated(server.path), []
    run = type(gated.git).run
    monkeypatch.setattr(type(gated.git), "run", lambda *words, **more: reads.append(words) or run(*words, **more))
    counts = []
    for commit in commits:
        before = len(reads)
        assert isinstance(gated.rules(Sha(commit)), Config)
        counts.append(len(reads) - before)
    gated.close()
    assert counts[0] > 0
    assert counts[1] == 0
    assert counts[2] > 0
    assert counts[4] == 0


def test_the_key_of_a_check_at_the_top_stays_and_a_folder_is_part_of_one(repository: Repository) -> None:
    head = Sha(repository.head())
    keys = [
        KeyMaker(PlainGit(repository.path / ".git")).keys(head, [Check(CheckName("a"), "x", folder=folder)])["a"]
        for folder in ("", "src", "lib")
    ]
    assert len(set(keys)) == 3


# --- commands -----------------------------------------------------------------------------------------------------------


def test_config_check_and_show_read_the_files_of_folders(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("rules", TREE)
    monkeypatch.chdir(repository.path)
    assert main(["config", "check"]) == 0
    assert "with those of 2 folders" in capsys.readouterr().out
    assert main(["config", "show"]) == 0
    assert "services/api/gate.toml line 2" in capsys.readouterr().out
    (repository.path / "tool/gate.toml").write_bytes(UNIT + b"x = 1\n")
    for words in ([], ["tool/gate.toml"]):
        assert main(["config", "check", *words]) == 2
        assert "tool/gate.toml:4: check[0].x" in capsys.readouterr().out


# --- a gate -------------------------------------------------------------------------------------------------------------

SCRIPT = '[[check]]\nname = "unit"\ncommand = "sh check.sh"\n'
FAILS = 'test -z "$(ls | grep bad)"\n'
MONO = PLAIN + '[trust]\nmaintainers = ["maria"]\n[nested]\nfolders = ["services/*"]\n'


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, MONO, {"services/api/gate.toml": SCRIPT, "services/api/check.sh": FAILS, "x": "1"})


def test_the_check_of_a_folder_refuses_what_is_bad_there(stand: Stand) -> None:
    good = stand.submit("good", {"services/api/a": "1"})
    bad = stand.submit("bad", {"services/api/bad": "1"})
    beside = stand.submit("beside", {"bad": "1"})
    stand.settle()
    assert [stand.verdict(change) for change in (good, bad, beside)] == ["landed", "refused", "landed"]
    assert "services/api/unit" in stand.gate("log", str(bad)).stdout
    assert stand.gate_json("log", str(bad), "services/api/unit")["outcome"] == "red"


@pytest.mark.parametrize("text", [SCRIPT, SCRIPT.replace("unit", "other"), None])
def test_a_change_to_a_folders_rules_needs_a_maintainer(stand: Stand, text: str | None) -> None:
    path = "services/new/gate.toml" if text == SCRIPT else "services/api/gate.toml"
    change = stand.submit("rules", {path: text, "services/new/check.sh": "exit 0"})
    stand.settle()
    assert stand.verdict(change) is None
    assert path in stand.why(change)["reasons"][0]["text"]
    stand.gate("approve", str(change), by="maria")
    stand.settle()
    assert stand.verdict(change) == "landed"


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        ({"services/api/gate.toml": None, "services/api/bad": "1"}, "refused"),
        ({"services/api/gate.toml": SCRIPT.replace("check.sh", "no.sh"), "services/api/no.sh": "exit 1"}, "refused"),
        ({"services/new/gate.toml": SCRIPT, "services/new/check.sh": "exit 1"}, "refused"),
        ({"services/new/gate.toml": "[trust]\n"}, "refused"),
        ({"services/new/gate.toml/x": "1"}, "refused"),
        ({"services/api/gate.toml": None, "services/api/check.sh": None}, "landed"),
        ({"services/new/gate.toml": SCRIPT, "services/new/check.sh": "exit 0"}, "landed"),
    ],
)
def test_altered_rules_must_pass_both_gates(stand: Stand, files: dict[str, str | bytes | None], verdict: str) -> None:
    change = stand.submit("rules", files, by="maria")
    stand.settle()
    assert stand.verdict(change) == verdict, stand.gate("log", str(change)).stdout


def test_files_and_reports_begin_in_the_folder(tmp_path: Path) -> None:
    told = "test '{files}' && printf '%s ' {files} > out; cat out; pwd; mkdir -p r; cat libs.xml > r/a.xml; exit 1"
    report = '<testsuite><testcase classname="c" name="sad"><failure/></testcase></testsuite>'
    rules = f'[[check]]\nname = "u"\ncommand = "{told}"\njunit = "r/*.xml"\ninputs = ["*", "//x"]\n'
    stand = Stand(tmp_path, MONO, {"services/api/gate.toml": "", "services/api/libs.xml": report, "x": "1"})
    change = stand.submit("rules", {"services/api/gate.toml": rules}, by="maria")
    stand.settle()
    assert stand.verdict(change) == "refused"
    run = stand.gate_json("log", str(change), "services/api/u")
    output = Path(run["log"]).read_text()
    assert "gate.toml libs.xml ../../x" in output
    assert "/services/api\n" in output
    assert "sad" in stand.gate("log", str(change)).stdout


def test_gate_check_reads_the_staged_files_of_folders(stand: Stand) -> None:
    import os
    import subprocess
    import sys

    program = str(Path(sys.executable).parent / "gate")
    dev = stand.dev.path

    def check(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, "check", *words], cwd=dev, capture_output=True, text=True, check=False, env=os.environ
        )
        return done.returncode, done.stdout + done.stderr

    (dev / "services/api/bad").write_text("1")
    stand.dev.git("add", "-A")
    code, output = check("--stage", "merge")
    assert code == 1, output
    assert "services/api/unit" in output
    assert check("--stage", "merge", "--only", "services/api/unit")[0] == 1
    (dev / "services/api/gate.toml").write_text("[trust]\n")
    assert check("--stage", "merge")[0] == 1  # not staged
    stand.dev.git("add", "-A")
    code, output = check("--stage", "merge")
    assert code == 2
    assert "services/api/gate.toml line 1" in output
