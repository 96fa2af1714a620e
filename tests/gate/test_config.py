"""Reading gate.toml: what is refused, where, and with which words; what is read, and what only earns a warning."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from ci.errors import Unavailable
from ci.git import PlainGit
from ci.model import Check, CheckName, Sha, Stage
from fakes.repositories import Repository
from gate import config_values
from gate.config import IS_LINK, Config, PathRule, load, parse, warnings, warnings_at

CHECK = '[[check]]\nname = "unit"\ncommand = "true"\n'
ENVIRONMENT = '[[environment]]\nname = "live"\ncommand = "deploy {target}"\n'


def read(text: str) -> Config:
    config = parse(text.encode())
    assert isinstance(config, Config), config
    return config


def problems(text: str) -> list[tuple[str, int, str]]:
    found = parse(text.encode())
    assert isinstance(found, tuple), "this was to be refused"
    return [(problem.path, problem.line, problem.text) for problem in found]


REFUSED = {
    # unknown keys and tables
    "an unknown key": (
        CHECK + 'stge = "merge"',
        "check[0].stge",
        4,
        "unknown key 'stge' in [check] (did you mean 'stage'?)",
    ),
    "an unknown table": ("[submitt]\n", "submitt", 1, "(did you mean 'submit'?)"),
    "a plural table": ('[[checks]]\nname = "a"\n', "checks", 1, "(did you mean 'check'?)"),
    "a table in the plural": ('[checks.a]\ncommand = "a"\n', "checks", 1, "(did you mean 'check'?)"),
    "a key of another table": ("[submit]\nworkers = 3", "submit.workers", 2, "it belongs in [run]"),
    "a key before its table": ('\n\nmethod = "merge"', "method", 3, "it belongs in [merge]"),
    "a key with a unit in its name": (CHECK + "timeout_s = 3", "check[0].timeout_s", 4, "(did you mean 'timeout'?)"),
    "an unknown key of a path rule": (
        '[[trust.path]]\npaths = ["a"]\napprovers = ["b"]\n[[trust.path]]\npaths = ["a"]\napprovers = ["b"]\napproval = 1',
        "trust.path[1].approval",
        7,
        "(did you mean 'approvals'?)",
    ),
    "a dotted key": ('submit.trunk_pusch = "refuse"', "submit.trunk_pusch", 1, "(did you mean 'trunk_push'?)"),
    "a key that needs quotes": ('[run]\n"a\\u001bb" = 1', r"run.'a\x1bb'", 2, "unknown key"),
    # tables of the wrong form
    "one check as a table": ('[check]\nname = "a"', "check", 1, "must be written [[check]], with two pairs of brackets"),
    "a table as an array": ("[[submit]]\n", "submit", 1, "must be a table, written [submit], with one pair of brackets"),
    "a table as a number": ("submit = 3", "submit", 1, "must be a table, written [submit], and is a whole number"),
    "checks that are texts": ('check = [\n"a"]', "check[0]", 2, "must be a table, written [[check]], and is text"),
    # types
    "a number for text": ("[merge]\nmethod = 1", "merge.method", 2, "must be one of 'merge', 'squash', 'rebase', in quotes"),
    "true without quotes": ("[merge]\ndirectory_renames = true", "merge.directory_renames", 2, "as in 'true'"),
    "text for a number": ('[run]\nworkers = "2"', "run.workers", 2, "must be a whole number, and is text"),
    "a float for a number": ("[run]\nworkers = 2.5", "run.workers", 2, "must be a whole number, and is a number"),
    "true for a number": ("[run]\nworkers = true", "run.workers", 2, "must be a whole number, and is true or false"),
    "text for a flag": (CHECK + 'git = "yes"', "check[0].git", 4, "must be true or false, without quotes, and is text"),
    "a date for text": ("[merge]\nmethod = 2026-01-01", "merge.method", 2, "and is a date or time"),
    "text for a list": (
        '[trust]\nmaintainers = "ann"',
        "trust.maintainers",
        2,
        "must be a list, as in ['ann'], and is text",
    ),
    "a number in a list": ('[trust]\nmaintainers = [\n"ann",\n3]', "trust.maintainers[1]", 4, "must be a name, in quotes"),
    "one name twice in a list": ('[trust]\nmaintainers = ["ann", "ann"]', "trust.maintainers[1]", 2, "'ann' is there twice"),
    "every commit of a rebase": (
        '[merge]\nmethod = "rebase"\nevery_commit = true',
        "merge.every_commit",
        3,
        'cannot be kept with method = "rebase"',
    ),
    # choices and numbers
    "an unknown method": ('[merge]\nmethod = "squish"', "merge.method", 2, "and is 'squish' (did you mean 'squash'?)"),
    "an unknown stage": (
        CHECK + 'stage = "premerge"',
        "check[0].stage",
        4,
        "must be one of 'pre-commit', 'merge', 'post-commit'",
    ),
    "an unknown isolation": ('[run]\nisolation = "docker"', "run.isolation", 2, "must be one of"),
    "a chance that is text": (
        '[merge]\nmax_false_refusals = "0.1"',
        "merge.max_false_refusals",
        2,
        "from 0 to 0.5, and is text",
    ),
    "a chance beyond a half": ("[merge]\nmax_false_refusals = 0.6", "merge.max_false_refusals", 2, "must be from 0 to 0.5"),
    "a chance that is none": ("[merge]\nmax_false_refusals = nan", "merge.max_false_refusals", 2, "must be from 0 to 0.5"),
    "a retest of nothing": (CHECK + 'retest = "pytest"', "check[0].retest", 4, "put {tests} there"),
    "a retest of files": (CHECK + 'retest = "t {tests} {files}"', "check[0].retest", 4, "it is given the names of tests"),
    "a negative number": ("[push]\nmax_behind = -1", "push.max_behind", 2, "must not be negative"),
    "no workers": ("[run]\nworkers = 0", "run.workers", 2, "must be 1 or more"),
    "too many workers": ("[run]\nworkers = 1000000", "run.workers", 2, "must be 10000 or less"),
    "negative failures": (ENVIRONMENT + 'targets = ["a"]\nmax_failures = -3', "environment[0].max_failures", 5, "negative"),
    # durations and sizes
    "a duration as a number": (CHECK + "timeout = 90", "check[0].timeout", 4, 'must be text with a unit, as in "90s"'),
    "a duration without unit": (CHECK + 'timeout = "90"', "check[0].timeout", 4, "'90' is not a duration"),
    "a duration with a fraction": (CHECK + 'timeout = "1.5h"', "check[0].timeout", 4, "write a whole number and ms"),
    "a duration of other digits": (CHECK + 'timeout = "٣s"', "check[0].timeout", 4, "is not a duration"),
    "a negative duration": (CHECK + 'max_age = "-1d"', "check[0].max_age", 4, "is not a duration"),
    "no time at all": (CHECK + 'timeout = "0s"', "check[0].timeout", 4, 'must be longer than "0s"'),
    "ten years and a day": (CHECK + 'timeout = "3651d"', "check[0].timeout", 4, "must be 3650d or less"),
    "a size without unit": ('[run]\nlog_max = "20"', "run.log_max", 2, "'20' is not a size"),
    "a size of unknown unit": ('[run]\nlog_max = "20mb"', "run.log_max", 2, "'20mb' is not a size"),
    "no bytes": ("[submit]\nmax_size = 0", "submit.max_size", 2, "must be 1 byte or more"),
    # names
    "a name with a slash": ('[[check]]\nname = "a/b"\ncommand = "x"', "check[0].name", 2, "'a/b' is not a name"),
    "a name with a dash in front": (
        '[[check]]\nname = "-a"\ncommand = "x"',
        "check[0].name",
        2,
        "begin with a letter or a digit",
    ),
    "a name of other letters": ('[[check]]\nname = "tést"\ncommand = "x"', "check[0].name", 2, "is not a name"),
    "a name that is too long": (f'[[check]]\nname = "{"a" * 65}"\ncommand = "x"', "check[0].name", 2, "1 to 64 letters"),
    "a name with a newline": ('[[check]]\nname = "a\\n"\ncommand = "x"', "check[0].name", 2, "is not a name"),
    "two checks of one name": (CHECK + CHECK, "check[1].name", 5, "there is already a check 'unit', check[0]"),
    "two environments of one name": (
        (ENVIRONMENT + 'targets = ["a"]\n') * 2,
        "environment[1].name",
        6,
        "there is already an environment 'live', environment[0]",
    ),
    "a check without a name": ('\n[[check]]\ncommand = "x"', "check[0]", 2, "'name' is missing"),
    "a check without a command": ('\n[[check]]\nname = "x"', "check[0]", 2, "'command' is missing"),
    "a path rule without approvers": ('[[trust.path]]\npaths = ["a"]', "trust.path[0]", 1, "'approvers' is missing"),
    "a path rule of nobody": (
        '[[trust.path]]\npaths = ["a"]\napprovers = []',
        "trust.path[0].approvers",
        3,
        "is an empty list",
    ),
    # commands
    "an empty command": ('[[check]]\nname = "a"\ncommand = " "', "check[0].command", 3, "is empty"),
    "an empty list for a command": ('[[check]]\nname = "a"\ncommand = []', "check[0].command", 3, "is an empty command"),
    "an empty program": ('[[check]]\nname = "a"\ncommand = ["", "x"]', "check[0].command[0]", 3, "is an empty command"),
    "a number in a command": ('[[check]]\nname = "a"\ncommand = ["x",\n 1]', "check[0].command[1]", 4, "must be text"),
    "a NUL in a command": ('[[check]]\nname = "a"\ncommand = "a\\u0000b"', "check[0].command", 3, "NUL"),
    "a NUL in a list": ('[[check]]\nname = "a"\ncommand = ["a", "\\u0000b"]', "check[0].command[1]", 3, "NUL"),
    # globs
    "a glob that climbs": (CHECK + 'inputs = ["src/../../x"]', "check[0].inputs[0]", 4, "climbs out"),
    "a glob with a dot step": (CHECK + 'inputs = ["./src"]', "check[0].inputs[0]", 4, "matches nothing"),
    "an empty glob": (CHECK + 'inputs = [""]', "check[0].inputs[0]", 4, "is empty"),
    "no globs": (CHECK + "inputs = []", "check[0].inputs", 4, "is an empty list"),
    "a NUL in a glob": (CHECK + 'inputs = ["a\\u0000"]', "check[0].inputs[0]", 4, "NUL"),
    "a newline in a glob": (CHECK + 'inputs = ["a\\nb"]', "check[0].inputs[0]", 4, "control character"),
    "a glob that pathspec refuses": (CHECK + 'inputs = ["a\\\\"]', "check[0].inputs[0]", 4, "is not a gitignore pattern"),
    "a glob with a range backwards": (CHECK + 'inputs = ["[z-a]"]', "check[0].inputs[0]", 4, "is not a gitignore pattern"),
    "a glob with an open bracket": (CHECK + 'inputs = ["a["]', "check[0].inputs[0]", 4, "matches nothing"),
    "a comment for a glob": (CHECK + 'inputs = ["#a"]', "check[0].inputs[0]", 4, "matches nothing"),
    "only exclusions": (CHECK + 'inputs = ["!docs/**"]', "check[0].inputs", 4, "only excludes"),
    "a glob of many stars": (CHECK + 'inputs = ["*a*a*a*b"]', "check[0].inputs[0]", 4, "too many stars"),
    "a glob of many folders": (CHECK + 'inputs = ["**/a/**/b/**/c"]', "check[0].inputs[0]", 4, "too many stars"),
    "a glob in a path rule": (
        '[[trust.path]]\npaths = ["../x"]\napprovers = ["b"]',
        "trust.path[0].paths[0]",
        2,
        "climbs out",
    ),
    # needs
    "needs of an unknown check": (
        CHECK + 'needs = ["unti"]',
        "check[0].needs[0]",
        4,
        "no check 'unti' (did you mean 'unit'?)",
    ),
    "a check that needs itself": (CHECK + 'needs = ["unit"]', "check[0].needs", 4, "in a circle: unit → unit"),
    "a circle of three": (
        "".join(
            f'[[check]]\nname = "{a}"\ncommand = "x"\nneeds = ["{b}"]\nstage = "post-commit"\n'
            for a, b in ("ab", "bc", "ca")
        ),
        "check[0].needs",
        4,
        "needs go in a circle: a → b → c → a",
    ),
    "a merge check that needs a later one": (
        CHECK + 'needs = ["slow"]\n[[check]]\nname = "slow"\ncommand = "x"\nstage = "post-commit"',
        "check[0].needs[0]",
        4,
        "'slow' runs later: a merge check cannot wait for a post-commit check",
    ),
    # the rest of a check
    "a bad variable": (CHECK + 'env = { "A-B" = "x" }', "check[0].env.A-B", 4, "is not the name of an environment variable"),
    "a variable of the gate": (
        CHECK + '[check.env]\nGATE_COMMIT = "x"',
        "check[0].env.GATE_COMMIT",
        5,
        "is set by the gate",
    ),
    "a variable that is a number": (CHECK + "[check.env]\nA = 1", "check[0].env.A", 5, "must be text, in quotes"),
    "a variable with a NUL": (CHECK + 'env.A = "\\u0000"', "check[0].env.A", 4, "NUL"),
    "variables as a list": (CHECK + 'env = ["A=1"]', "check[0].env", 4, "must be a table"),
    "reports elsewhere": (CHECK + 'junit = "../x.xml"', "check[0].junit", 4, "leaves the repository"),
    "reports at the root": (CHECK + 'junit = "/tmp/x.xml"', "check[0].junit", 4, "leaves the repository"),
    "an expression that is none": ('[message]\npattern = "(["', "message.pattern", 2, "is not a regular expression: "),
    "an expression of a giant": ('[message]\npattern = "a{99999999999}"', "message.pattern", 2, "repeats too often"),
    "a trailer with a colon": (
        '[message]\ntrailers = ["Signed-off-by:"]',
        "message.trailers[0]",
        2,
        "is not the name of a trailer",
    ),
    "a tag with its whole name": ('[protect]\ntags = ["refs/tags/v*"]', "protect.tags[0]", 2, "leave that out"),
    "a folder that is relative": ('[run]\nread = ["~/sdk"]', "run.read[0]", 2, "is not absolute"),
    "a bad variable to pass": (
        '[run]\npass_env = ["A=1"]',
        "run.pass_env[0]",
        2,
        "is not the name of an environment variable",
    ),
    "a committer without address": ('[merge]\ncommitter = "gate"', "merge.committer", 2, "is not of the form"),
    "a committer with a newline": ('[merge]\ncommitter = "a\\nb <c@d>"', "merge.committer", 2, "is not of the form"),
    # environments
    "no targets": (ENVIRONMENT, "environment[0]", 1, "names no targets"),
    "an empty list of targets": (ENVIRONMENT + "targets = []", "environment[0].targets", 4, "is an empty list"),
    "two ways to name targets": (
        ENVIRONMENT + 'targets = ["a"]\ntargets_file = "b"',
        "environment[0].targets_file",
        5,
        "by targets and targets_file: keep one",
    ),
    "a target like an option": (
        ENVIRONMENT + 'targets = ["-oProxyCommand=x"]',
        "environment[0].targets[0]",
        4,
        "no '-' in front",
    ),
    "a targets file elsewhere": (
        ENVIRONMENT + 'targets_file = "../x"',
        "environment[0].targets_file",
        4,
        "leaves the repository",
    ),
    "after an unknown environment": (
        ENVIRONMENT + 'targets = ["a"]\nafter = "alive"',
        "environment[0].after",
        5,
        "there is no environment 'alive' (did you mean 'live'?)",
    ),
    "environments in a circle": (
        "".join(f'[[environment]]\nname = "{a}"\ncommand = "x"\ntargets = ["t"]\nafter = "{b}"\n' for a, b in ("ab", "ba")),
        "environment[0].after",
        5,
        "wait for each other in a circle: a → b → a",
    ),
    "waves that fall": (
        ENVIRONMENT + 'targets = ["a"]\nwaves = ["10%",\n"5%", "100%"]',
        "environment[0].waves[1]",
        6,
        "does not rise",
    ),
    "waves that stay": (ENVIRONMENT + 'targets = ["a"]\nwaves = ["2", "2", "100%"]', "environment[0].waves[1]", 5, "twice"),
    "waves that end early": (
        ENVIRONMENT + 'targets = ["a"]\nwaves = ["10%"]',
        "environment[0].waves",
        5,
        'must end with "100%"',
    ),
    "no waves": (ENVIRONMENT + 'targets = ["a"]\nwaves = []', "environment[0].waves", 5, "is an empty list"),
    "a count after a share": (
        ENVIRONMENT + 'targets = ["a"]\nwaves = ["1%", "2", "100%"]',
        "environment[0].waves[1]",
        5,
        "counts come first",
    ),
    "a wave beyond all": (ENVIRONMENT + 'targets = ["a"]\nwaves = ["101%"]', "environment[0].waves[0]", 5, "is not a wave"),
    "a wave of none": (
        ENVIRONMENT + 'targets = ["a"]\nwaves = ["0", "100%"]',
        "environment[0].waves[0]",
        5,
        "is not a wave",
    ),
    "a wave as a number": (ENVIRONMENT + 'targets = ["a"]\nwaves = [1, "100%"]', "environment[0].waves[0]", 5, 'as in "1"'),
    "a link to everything": ('[hooks]\nlink = [\n"."]', "hooks.link[0]", 3, "is the whole repository"),
    "a link to everything, as a folder": ('[hooks]\nlink = ["./"]', "hooks.link[0]", 2, "is the whole repository"),
    # TOML itself
    "a value that is missing": ("[run]\nworkers =\n", "", 2, "the value is missing"),
    "text without quotes": ("[merge]\nmethod = squash\n", "", 2, "text needs quotes"),
    "a merge": (
        "\n<<<<<<< HEAD\n[run]\n=======\n[run]\n>>>>>>> x\n",
        "",
        2,
        "holds an unfinished merge, with a line of <<<<<<<",
    ),
    "the end of a merge": (
        "[run]\nread = [\n'/a',\n>>>>>>>\r\n'/b',\n]",
        "",
        4,
        "with a line of >>>>>>>: keep",
    ),
    "a line that a heading may have": ('[run]\nread = ["""\n=======\n"""]\nworkers = =\n', "", 5, "the value is missing"),
    "a key twice": ("[run]\nworkers = 1\nworkers = 2\n", "", 3, "this key is there twice"),
    "a table twice": ("[run]\nworkers = 1\n[run]\n", "", 3, "this table is there twice"),
    "a line that is nothing": ("[run]\n!\n", "", 2, "not TOML"),
    "a line without a value": ("[run]\nworkers\n", "", 2, "expected '='"),
    "a file that ends in a list": ('[run]\nread = ["/a",\n', "", 2, "the file ends in the middle of something"),
}


@pytest.mark.parametrize(("text", "path", "line", "words"), REFUSED.values(), ids=REFUSED)
def test_is_refused_with_its_path_its_line_and_the_cure(text: str, path: str, line: int, words: str) -> None:
    found = problems(text)
    assert any(at == path and on == line and words in said for at, on, said in found), found


@pytest.mark.parametrize(("text", "path"), [(text, path) for text, path, _, _ in REFUSED.values()], ids=REFUSED)
def test_one_mistake_is_told_once(text: str, path: str) -> None:
    found = problems(text)
    assert len({at for at, _, _ in found}) == 1, found


def test_all_problems_are_told_in_the_order_of_lines() -> None:
    found = problems(
        '[run]\nworkers = 0\n[[check]]\nname = "a"\nstge = "x"\n[merge]\nmethod = "x"\n[[check]]\nneeds = ["b"]\n'
    )
    assert [(path, line) for path, line, _ in found] == [
        ("run.workers", 2),
        ("check[0]", 3),
        ("check[0].stge", 5),
        ("merge.method", 7),
        ("check[1]", 8),
        ("check[1]", 8),
        ("check[1].needs[0]", 9),
    ]


def test_an_empty_file_is_the_defaults() -> None:
    assert read("") == Config()


def test_a_check_may_need_checks_of_its_own_stage_and_of_earlier_ones() -> None:
    config = read(
        CHECK + '[[check]]\nname = "b"\ncommand = "x"\nneeds = ["unit"]\n'
        '[[check]]\nname = "c"\ncommand = "x"\nneeds = ["b", "unit"]\nstage = "post-commit"\n'
    )
    assert [check.needs for check in config.checks] == [(), ("unit",), ("b", "unit")]


def test_checks_are_read_with_their_units() -> None:
    config = read(
        CHECK
        + 'stage = "pre-commit"\ninputs = ["src/**", "!src/x"]\ntimeout = "1500ms"\nmax_age = "2d"\njunit = "out/*.xml"\n'
        'tools = ["python3 --version"]\ngit = true\nnetwork = true\n[check.env]\nB = "2"\nA = "1"\n'
    )
    assert config.checks == (
        Check(
            CheckName("unit"),
            "true",
            Stage.PRE_COMMIT,
            ("src/**", "!src/x"),
            env=(("A", "1"), ("B", "2")),
            tools=("python3 --version",),
            timeout_s=1.5,
            max_age_s=172_800.0,
            junit="out/*.xml",
            git=True,
            network=True,
        ),
    )


@pytest.mark.parametrize(
    ("written", "size"),
    [("5", 5), ('"7B"', 7), ('"20MB"', 20_000_000), ('"1GiB"', 2**30), ('"3 KiB"', 3072), ('"2kB"', 2000)],
)
def test_sizes_are_numbers_of_bytes_or_have_a_unit(written: str, size: int) -> None:
    assert read(f"[run]\nlog_max = {written}").run.log_max_bytes == size


def test_the_order_of_variables_does_not_matter() -> None:
    assert read(CHECK + 'env = { A = "1", B = "2" }') == read(CHECK + 'env = { B = "2", A = "1" }')


def test_a_command_may_be_words_for_a_program() -> None:
    assert read('[[check]]\nname = "a"\ncommand = ["x", "", "y z"]').checks[0].command == ("x", "", "y z")


# --- warnings ------------------------------------------------------------------------------------------------------------

ODD = {
    "no checks": ("", "there are no checks"),
    "only late checks": (CHECK + 'stage = "post-commit"', "nothing is checked before it lands"),
    "nobody can approve": (CHECK + '[trust]\ntrusted = ["ann"]', "name maintainers"),
    "everybody is a maintainer": (CHECK + '[trust]\nmaintainers = ["*"]', "everybody may change gate.toml"),
    "strangers without a sandbox": (
        CHECK + '[trust]\nmaintainers = ["a"]\ntrusted = []\n[run]\nisolation = "plain"',
        'write isolation = "auto"',
    ),
    "more approvals than approvers": (
        CHECK + '[[trust.path]]\npaths = ["a"]\napprovers = ["b"]\napprovals = 2',
        "trust.path[0] asks for 2 approvals but names 1 approvers",
    ),
    "another way to say everything": (CHECK + 'inputs = ["**/*"]', 'write inputs = ["**"]'),
    "braces in a pattern": (CHECK + 'inputs = ["*.md", "*.{py,js}"]', "holds {a,b}, which means itself"),
    "patterns in one text": (
        CHECK + 'inputs = ["*.py, *.js"]',
        "holds a comma and a blank, and is one pattern: '*.py, *.js'",
    ),
    "a network that is trusted for ever": (CHECK + 'inputs = ["a"]\nnetwork = true', "give it a max_age"),
    "git beside inputs": (CHECK + 'inputs = ["a"]\ngit = true', "leave out git, or inputs"),
    "a retest without a report": (CHECK + 'retest = "t {tests}"', "put {junit} in command and retest"),
    "a retest whose report is missing": (
        '[[check]]\nname = "a"\ncommand = "t {junit}"\nretest = "t {tests}"',
        "put {junit}",
    ),
    "a retest of half a check": (
        '[[check]]\nname = "a"\ncommand = "t {junit} && lint"\nretest = "t {junit} {tests}"',
        "make a check of each",
    ),
    "a retest of a check that stops": (
        '[[check]]\nname = "a"\ncommand = ["t", "-x", "{junit}"]\nretest = "t {junit} {tests}"',
        "let it run them all",
    ),
    "quotes around a placeholder": (CHECK.replace("true", "t '{files}'"), "check 'unit' has {files} between single"),
    "quotes in a retest": (
        CHECK.replace("true", "t {junit}") + "retest = 't {junit} \"{tests}\"'",
        "has {tests} between double quotes",
    ),
    "an environment that nobody expands": (CHECK + 'env = { PATH = "./bin:$PATH" }', "is given PATH as it stands"),
    "a pattern of links": ('[hooks]\nlink = ["*/node_modules"]\n' + CHECK, "'*/node_modules' is no pattern but a name"),
    "reports twice": ('[[check]]\nname = "a"\ncommand = "t {junit}"\njunit = "x.xml"', "keep the one"),
    "a command that forgets its target": (
        CHECK + '[[environment]]\nname = "e"\ncommand = "x"\ntargets = ["a", "b"]',
        "put {target}",
    ),
    "a deploy that cannot fail": (CHECK + ENVIRONMENT + 'targets = ["a", "b"]\nmax_failures = 2', "lower max_failures"),
    "a wait for nothing": (
        CHECK + ENVIRONMENT + 'targets = ["a"]\nwaves = ["1", "100%"]\nbake = "1m"',
        "give it a verify command",
    ),
}


@pytest.mark.parametrize(("text", "words"), ODD.values(), ids=ODD)
def test_odd_values_are_read_and_warned_of(text: str, words: str) -> None:
    (warning,) = warnings(read(text))
    assert words in warning


@pytest.mark.parametrize(
    "text",
    [
        CHECK,
        CHECK + 'network = true\nmax_age = "1d"',
        CHECK + "git = true",
        '[[check]]\nname = "a"\ncommand = "t --fast-exit {junit}"\nretest = "t {junit} {tests}"',
        CHECK + 'junit = "r.xml"\nretest = ["t", "{tests}"]',
        CHECK + 'env = { PRICE = "5$", RULE = "$(x)" }\n[hooks]\nlink = ["app/[id]"]',
        CHECK + '[trust]\nmaintainers = ["a"]\ntrusted = ["b"]',
        CHECK + '[[trust.path]]\npaths = ["a"]\napprovers = ["*"]\napprovals = 2',
        CHECK + ENVIRONMENT + 'targets = ["a"]',
    ],
)
def test_plain_values_earn_no_warning(text: str) -> None:
    assert warnings(read(text)) == ()


@pytest.mark.parametrize("pattern", ["/home/me/src", "\\\\.py$", "SRC/**", "src\\\\a.py", "*.rb", "/a.py"])
def test_inputs_that_match_nothing_are_warned_of(pattern: str) -> None:
    (warning,) = warnings_at(read(CHECK + f'inputs = ["{pattern}", "*.sh"]'), ["src/a.py", "README"])
    assert "check 'unit' has nothing to look at" in warning
    assert repr(pattern.replace("\\\\", "\\")) in warning


@pytest.mark.parametrize("inputs", ["", 'inputs = ["*.rb", "src/"]', 'inputs = ["*.{py,js}"]'])
def test_inputs_that_match_something_or_were_warned_of_are_not(inputs: str) -> None:
    assert warnings_at(read(CHECK + inputs), ["src/a.py"]) == ()


# --- from a commit -------------------------------------------------------------------------------------------------------


def test_the_file_of_a_commit_is_read(repository: Repository) -> None:
    commit = repository.commit(files={"gate.toml": CHECK})
    git = PlainGit(repository.git_dir)
    assert load(git, Sha(commit)) == read(CHECK)


def test_a_commit_without_the_file_has_no_checks(repository: Repository) -> None:
    assert load(PlainGit(repository.git_dir), Sha(repository.head())) == Config()


def test_a_broken_file_of_a_commit_is_told_by_line(repository: Repository) -> None:
    commit = repository.commit(files={"gate.toml": "\n[run]\nworkers = 0\n"})
    found = load(PlainGit(repository.git_dir), Sha(commit))
    assert isinstance(found, tuple)
    assert [(problem.path, problem.line) for problem in found] == [("run.workers", 3)]


def test_a_folder_of_that_name_does_not_pass_for_no_file(repository: Repository) -> None:
    commit = repository.commit(files={"gate.toml/x": "y"})
    found = load(PlainGit(repository.git_dir), Sha(commit))
    assert isinstance(found, tuple)
    assert "is not a file" in found[0].text


@pytest.mark.parametrize("target", ["conf/gate.toml", "check = []"])
def test_what_a_link_leads_to_is_not_read(repository: Repository, target: str) -> None:
    repository.write("conf/gate.toml", CHECK)
    (repository.path / "gate.toml").symlink_to(target)
    found = load(PlainGit(repository.git_dir), Sha(repository.commit(files={})))
    assert isinstance(found, tuple)
    assert [problem.told for problem in found] == [f"gate.toml {IS_LINK}"]


def test_a_commit_that_cannot_be_read_does_not_pass_for_one_without_checks(repository: Repository) -> None:
    with pytest.raises(Unavailable):
        load(PlainGit(repository.git_dir), Sha("1" * 40))


def test_a_file_that_git_has_lost_does_not_pass_for_no_file(repository: Repository) -> None:
    commit = repository.commit(files={"gate.toml": CHECK})
    blob = repository.git("rev-parse", f"{commit}:gate.toml")
    lost = Path(repository.git_dir) / "objects" / blob[:2] / blob[2:]
    lost.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        load(PlainGit(repository.git_dir), Sha(commit))


def test_path_rules_keep_their_order() -> None:
    text = (
        '[[trust.path]]\npaths = ["a"]\napprovers = ["x"]\n[[trust.path]]\npaths = ["b"]\napprovers = ["y"]\napprovals = 1\n'
    )
    assert read(text).trust.paths == (PathRule(("a",), ("x",)), PathRule(("b",), ("y",)))


def test_a_glob_may_be_anchored_at_the_top_as_in_a_gitignore() -> None:
    found = parse(b'[[check]]\nname = "a"\ncommand = "true"\ninputs = ["/*.toml", "!/gate.toml"]\n')
    assert isinstance(found, Config)
    assert found.checks[0].inputs == ("/*.toml", "!/gate.toml")


@given(st.text("!/ab.*-", min_size=1, max_size=12))
def test_what_passes_for_a_plain_glob_is_one_for_pathspec(pattern: str) -> None:
    """Plain ones are not shown to pathspec, whose import a hook would have to wait for."""
    assume(config_values._PLAIN_GLOB.fullmatch(pattern))
    _, include = GitIgnoreSpecPattern.pattern_to_regex(pattern)
    assert include is not None
