"""gate.toml: what may stand in it, as frozen types and one table of keys, and how it is read and written.

Reading is strict and pure: every problem of a file is found at once, each with the key's path, its line and what to write
instead. KEYS drives reading, writing, ``gate config show`` and the test of the reference page.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from inspect import Parameter, signature
from itertools import islice
from typing import TYPE_CHECKING, Any

from ci.deploy.model import Environment
from ci.errors import Unavailable
from ci.model import WHOLE_TREE, Check, CheckName, Sha, Stage, words_of
from gate.config_values import (
    COMMAND,
    COMMANDS,
    COMMITTER,
    DURATION,
    ENV,
    EXPRESSION,
    FILE,
    FILES,
    FLAG,
    FOLDERS,
    FROM_TOP,
    GLOBS,
    NAME,
    NEEDS,
    NESTED,
    PEOPLE,
    POSITIVE_DURATION,
    RETEST,
    SIZE,
    SOME_PEOPLE,
    STAGE,
    TAGS,
    TARGETS,
    TRAILERS,
    VARIABLES,
    WAVES,
    Complain,
    Kind,
    kind_word,
    number,
    one_of,
    quoted,
    share,
    shortened,
)

if TYPE_CHECKING:
    from ci.git import Git
    from gate.toml_lines import Path

CONFIG_NAME = "gate.toml"
MAX_BYTES = 1_000_000  # of a gate.toml
LINK_MODE = "120000"  # as git writes it
IS_LINK = "is a symbolic link, and none is followed: commit the file itself"
MOST_CIRCLES = 20  # that one file is told of


@dataclass(frozen=True, slots=True)
class Submit:
    """What may be pushed to refs/for/<trunk>, and by whom. hooks/receive.py reads these keys by itself."""

    trunk_push: str = "refuse"  # refuse | submit
    max_commits: int = 100
    max_size_bytes: int = 50_000_000
    allow: tuple[str, ...] = ("*",)
    wait_timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Merge:
    """How a change becomes commits on trunk."""

    method: str = "merge"  # merge | squash | rebase
    every_commit: bool = False
    signed: str = "refuse"  # refuse | resign: commits that are signed and would be rewritten
    directory_renames: str = "conflict"  # conflict | true | false, as git's merge.directoryRenames
    committer: str = "trunkgate <gate@localhost>"
    max_false_refusals: float = 0.005  # chance that a refusal is wrong, see gate/blame.py
    batch: int = 0  # the most changes that one run tests together; 0: as many as the odds say


@dataclass(frozen=True, slots=True)
class PathRule:
    """Changes that touch these paths need this many approvals by these people."""

    paths: tuple[str, ...]  # gitignore patterns
    approvers: tuple[str, ...]
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may land what. maintainers empty: the account that owns the repository is the only one."""

    maintainers: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ("*",)
    paths: tuple[PathRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Where and how checks run on the server."""

    workers: int = 2
    isolation: str = "auto"  # auto | bubblewrap | plain
    read: tuple[str, ...] = ()  # more folders that checks may read
    pass_env: tuple[str, ...] = ()  # names of variables of the daemon that checks may see
    log_max_bytes: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Protect:
    """Refs that nobody pushes to directly."""

    tags: tuple[str, ...] = ()  # patterns as of fnmatch, without refs/tags/


@dataclass(frozen=True, slots=True)
class Message:
    """Rules for commit messages, checked by gate-message."""

    pattern: str = ""  # regular expression that the subject must match; "": none
    max_subject: int = 0  # characters; 0: no limit
    trailers: tuple[str, ...] = ()  # required trailer names


@dataclass(frozen=True, slots=True)
class Push:
    """What gate-push asks of pushed commits, and when it warns that a branch has been away from trunk for too long."""

    trunk: str = "refuse"  # refuse | allow
    checks: str = "pre-commit"  # none | pre-commit | merge
    max_behind: int = 0  # commits; 0: no limit
    max_age_s: float = 0.0  # age of the oldest commit that is not on trunk; 0: no limit


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the developer's own hooks may cost, in time at a commit and in room, and what they do by themselves."""

    budget_s: float = 0.0  # checks not expected to fit are left to the gate; 0: no limit
    cache_size_bytes: int = 100_000_000
    pool_size_bytes: int = 5_000_000_000
    cache_age_s: float = 30 * 86400.0
    link: tuple[str, ...] = ()  # untracked files and folders that checks see besides what is staged
    background: bool = True  # the post-commit hook, where there is one, runs the checks of stage merge on the commit
    remind: bool = True  # the next commit says what they found red


@dataclass(frozen=True, slots=True)
class Nested:
    """Which folders may have checks in a gate.toml of their own. gate/nested.py puts the files together."""

    folders: tuple[str, ...] = ()  # patterns, of as many steps as the folders have

    def names(self, folder: str) -> bool:
        return any(_is_like(folder, pattern) for pattern in self.folders)


@dataclass(frozen=True, slots=True)
class Config:
    """One gate.toml, or with ``nested`` all of a tree. ``checks`` and ``environments`` keep the order of the file."""

    submit: Submit = field(default_factory=Submit)
    merge: Merge = field(default_factory=Merge)
    trust: Trust = field(default_factory=Trust)
    run: Run = field(default_factory=Run)
    protect: Protect = field(default_factory=Protect)
    message: Message = field(default_factory=Message)
    push: Push = field(default_factory=Push)
    hooks: Hooks = field(default_factory=Hooks)
    nested: Nested = field(default_factory=Nested)
    checks: tuple[Check, ...] = ()
    environments: tuple[Environment, ...] = ()

    def checks_before_landing(self) -> tuple[Check, ...]:
        """The required checks: everything that runs at commit or before landing."""
        return tuple(check for check in self.checks if check.stage is not Stage.POST_COMMIT)

    def checks_after_landing(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.stage is Stage.POST_COMMIT)

    def check(self, name: CheckName) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a gate.toml. path: dotted, as in check[2].stage. line: from 1; 0: the file as a whole."""

    path: str
    line: int
    text: str  # what is wrong and what to write instead
    file: str = ""  # "": the one at the top, or the one that was asked about; else as in services/api/gate.toml

    @property
    def told(self) -> str:
        """In one line, without the file."""
        return ": ".join(filter(None, (f"line {self.line}" if self.line else "", self.path, self.text)))


# --- the table of keys ---------------------------------------------------------------------------------------------------

SECTIONS: Mapping[str, type[Any]] = {
    "": Config,
    "submit": Submit,
    "merge": Merge,
    "trust": Trust,
    "trust.path[]": PathRule,
    "run": Run,
    "protect": Protect,
    "message": Message,
    "push": Push,
    "hooks": Hooks,
    "nested": Nested,
    "check[]": Check,
    "environment[]": Environment,
}
"""Tables of gate.toml and what they become. [] marks an array of tables, whose attribute is the plural of its name."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. path: as in submit.allow or check[].stage. example: what may stand after the equals sign."""

    path: str
    kind: Kind
    example: str
    meaning: str

    @property
    def table(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def attribute(self) -> str:
        return self.name + self.kind.suffix

    @property
    def is_required(self) -> bool:
        return _default(self) is Parameter.empty

    @property
    def default(self) -> Any:
        """As TOML could hold it; None when the key must be given, or is simply not set."""
        default = _default(self)
        return None if default is Parameter.empty else self.kind.write(default)


def _default(key: Key) -> Any:
    return signature(SECTIONS[key.table]).parameters[key.attribute].default


KEYS: tuple[Key, ...] = (
    Key(
        "submit.trunk_push",
        one_of("refuse", "submit"),
        '"submit"',
        "what a plain push to trunk does: it is refused, or it submits a change",
    ),
    Key("submit.max_commits", number(1, "commits"), "20", "most commits of one change"),
    Key("submit.max_size", SIZE, '"20MB"', "most bytes of one push"),
    Key("submit.allow", PEOPLE, '["ann", "ben"]', 'who may submit; "*" is everybody who can push'),
    Key("submit.wait_timeout", POSITIVE_DURATION, '"30m"', "how long a push with -o wait stays connected"),
    Key("merge.method", one_of("merge", "squash", "rebase"), '"squash"', "how a change becomes commits on trunk"),
    Key(
        "merge.every_commit",
        FLAG,
        "true",
        "every first-parent commit of trunk must be green, not only the newest of a landing; not with method rebase",
    ),
    Key(
        "merge.signed",
        one_of("refuse", "resign"),
        '"resign"',
        "signed commits that would have to be rewritten: refuse the change, or sign anew",
    ),
    Key(
        "merge.directory_renames",
        one_of("conflict", "true", "false"),
        '"true"',
        "files added to a folder that the other side renamed; as Git's merge.directoryRenames",
    ),
    Key(
        "merge.committer",
        COMMITTER,
        '"Gate <gate@example.org>"',
        "name and address of the committer of what the gate writes",
    ),
    Key(
        "merge.max_false_refusals",
        share(0.5, "chance"),
        "0.001",
        "a change is refused when the chance that this is wrong is not above it; until then what failed is run again",
    ),
    Key(
        "merge.batch",
        number(0, "changes", 1000),
        "4",
        "most changes that one run may test together; 0: as many as the odds say",
    ),
    Key(
        "trust.maintainers",
        PEOPLE,
        '["ann"]',
        "who may approve, change gate.toml and close trunk; empty: the account that owns the repository",
    ),
    Key("trust.trusted", PEOPLE, '["ben", "cleo"]', 'who lands on green without approval; "*" is everybody'),
    Key("trust.path[].paths", GLOBS, '["db/**"]', "changes that touch one of these files need the approvals below"),
    Key(
        "trust.path[].approvers",
        SOME_PEOPLE,
        '["dana"]',
        "who may give them",
    ),
    Key("trust.path[].approvals", number(1, "approvals"), "2", "how many are needed"),
    Key("run.workers", number(1, "runs", 10_000), "4", "checks that run at the same time"),
    Key(
        "run.isolation",
        one_of("auto", "bubblewrap", "plain"),
        '"bubblewrap"',
        "what keeps a check in; auto: bubblewrap where it works, else plain",
    ),
    Key(
        "run.read",
        FOLDERS,
        '["/opt/sdk"]',
        "more folders of the machine that checks may read",
    ),
    Key("run.pass_env", VARIABLES, '["LANG"]', "variables of the daemon that checks see"),
    Key("run.log_max", SIZE, '"5MB"', "most bytes kept of the output of one run"),
    Key(
        "protect.tags",
        TAGS,
        '["v*"]',
        "tags that nobody pushes; shell patterns, without refs/tags/",
    ),
    Key(
        "message.pattern",
        EXPRESSION,
        "'^[A-Z]'",
        "what must be found in the subject line of a commit; begin it with ^ for the first character; empty: anything",
    ),
    Key("message.max_subject", number(0, "characters"), "72", "longest subject line; 0: no limit"),
    Key(
        "message.trailers",
        TRAILERS,
        '["Signed-off-by"]',
        "trailers that every commit message must have",
    ),
    Key(
        "push.trunk",
        one_of("refuse", "allow"),
        '"allow"',
        "a direct push to trunk: refused, as where a gate lands changes, or allowed, for a server without one",
    ),
    Key(
        "push.checks",
        one_of("none", "pre-commit", "merge"),
        '"merge"',
        "checks that pushed commits must pass: none, those of pre-commit, or all that the gate asks for before landing",
    ),
    Key(
        "push.max_behind",
        number(0, "commits"),
        "50",
        "warn when the branch lacks more commits of trunk than this; 0: never",
    ),
    Key("push.max_age", DURATION, '"2d"', "warn when the oldest commit that is not on trunk is older; 0s: never"),
    Key(
        "hooks.budget",
        DURATION,
        '"5s"',
        "most time that checks take at a commit; what is not expected to fit is left to the gate; 0s: no limit",
    ),
    Key("hooks.cache_size", SIZE, '"200MB"', "most room for kept results and logs in a developer's clone"),
    Key("hooks.pool_size", SIZE, '"1GB"', "most room for the warm work trees that checks run in"),
    Key(
        "hooks.link",
        FILES,
        '[".venv", "node_modules"]',
        "files and folders of the work tree that are not tracked and that checks see besides what is staged",
    ),
    Key("hooks.cache_age", POSITIVE_DURATION, '"7d"', "kept results and logs older than this are removed there"),
    Key("hooks.background", FLAG, "false", "the post-commit hook runs the checks of stage merge on what was committed"),
    Key("hooks.remind", FLAG, "false", "the next commit, and a push, say in one line what they found red"),
    Key(
        "nested.folders",
        NESTED,
        '["services/*", "libs/*"]',
        "folders whose own gate.toml may have checks of what lies in them; * and ? match within one step of a path",
    ),
    Key("check[].name", NAME, '"unit"', "what the check is called everywhere"),
    Key("check[].command", COMMAND, '"pytest --junitxml={junit}"', "what is run; exit status 0 is green"),
    Key("check[].stage", STAGE, '"post-commit"', "when it must have run"),
    Key("check[].inputs", GLOBS, '["src/**", "tests/**"]', "the files that it depends on; it sees these and no others"),
    Key("check[].needs", NEEDS, '["build"]', "checks that must be green before it starts"),
    Key("check[].env", ENV, '{ LANG = "C.UTF-8" }', "environment variables that it gets"),
    Key(
        "check[].tools",
        COMMANDS,
        '["python3 --version"]',
        "commands that print a version; another answer means another input key",
    ),
    Key("check[].timeout", POSITIVE_DURATION, '"90s"', "after this it is ended, with all its processes"),
    Key(
        "check[].max_age",
        POSITIVE_DURATION,
        '"7d"',
        "a green result older than this is not used again; not set: never too old",
    ),
    Key("check[].junit", FILE, '"reports/*.xml"', "where the tool leaves JUnit reports by itself"),
    Key("check[].git", FLAG, "true", "it needs a work tree with Git's own data, not files alone"),
    Key("check[].network", FLAG, "true", "it may use the network"),
    Key("check[].fix", FLAG, "true", "it mends files: a run that alters one of its inputs is red, and hooks apply it"),
    Key(
        "check[].retest",
        RETEST,
        '"pytest --junitxml={junit} {tests}"',
        "runs the failed tests alone, to tell a flake; not set: the whole check runs again",
    ),
    Key("environment[].name", NAME, '"staging"', "what the environment is called everywhere"),
    Key(
        "environment[].command",
        COMMAND,
        '["./deploy", "{target}", "{commit}"]',
        "run once for each target; exit status 0 is deployed",
    ),
    Key(
        "environment[].targets",
        TARGETS,
        '["web1", "web2"]',
        "the targets themselves",
    ),
    Key("environment[].targets_file", FILE, '"deploy/hosts.txt"', "a file of the repository that lists them, one per line"),
    Key("environment[].targets_command", COMMAND, '"./list-hosts production"', "a command that prints them, one per line"),
    Key("environment[].verify", COMMAND, '"./smoke-test {environment}"', "run once after each wave; exit status 0 is good"),
    Key(
        "environment[].rollback",
        COMMAND,
        '["./deploy", "{target}", "{previous}"]',
        "run once for each target to undo; not set: the command, with the last good commit",
    ),
    Key(
        "environment[].waves",
        WAVES,
        '["1", "10%", "100%"]',
        "targets deployed when each wave is over",
    ),
    Key("environment[].after", NAME, '"staging"', "environment in which the commit must be good first; not set: none"),
    Key("environment[].bake", DURATION, '"10m"', "how long a wave must stay good before the next begins"),
    Key("environment[].timeout", POSITIVE_DURATION, '"5m"', "after this one command is ended, and has failed"),
    Key("environment[].max_failures", number(0, "targets"), "1", "failed targets that a deploy survives"),
    Key("environment[].concurrency", number(1, "targets", 10_000), "50", "targets deployed at the same time"),
    Key("environment[].pass_env", VARIABLES, '["DEPLOY_TOKEN"]', "variables of the daemon that its commands see"),
)
"""Every key, in the order of the reference page."""


@cache
def _keys_of(table: str) -> dict[str, Key]:
    return {key.name: key for key in KEYS if key.table == table}


@cache
def _tables_in(table: str) -> dict[str, str]:
    """Name to section, of the tables directly inside a table."""
    inner = {
        section.rpartition(".")[2].removesuffix("[]"): section for section in SECTIONS if section.rpartition(".")[0] == table
    }
    return {name: section for name, section in inner.items() if section}


# --- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was read, with the book of what is wrong in it. Its checks have their full names, and inputs from the
    top of the repository."""

    config: Config
    book: "Book"


def parse(text: bytes, origin: str = CONFIG_NAME) -> Config | tuple[Problem, ...]:
    """The configuration, or every problem of the file in order of lines. origin: what people call the file.

    Of the file at the top of a repository, by itself: with [nested] more checks belong to it, and needs that lead to those
    are left to gate/nested.py.
    """
    source = read_source(text, origin)
    if isinstance(source, Problem):
        return (source,)
    check_needs([source], is_all=not source.config.nested.folders)
    return source.book.problems() or source.config


def read_source(text: bytes, origin: str, folder: str = "") -> Source | Problem:
    """Read one file; what holds between checks of several is for check_needs. folder: of the file; "" is the top."""
    file = origin if folder else ""
    if len(text) > MAX_BYTES:
        return Problem("", 0, f"{origin} has {len(text)} bytes: more than {MAX_BYTES} are not read", file)
    try:
        source = text.decode()
    except UnicodeDecodeError as wrong:
        line = text.count(b"\n", 0, wrong.start) + 1
        what = f"{origin} is not UTF-8: byte 0x{text[wrong.start]:02x} in this line. Save it as UTF-8"
        return Problem("", line, what, file)
    values = _values(source, origin)
    if isinstance(values, Problem):
        return replace(values, file=file)
    book = Book(source, file)
    if folder:
        _leave_to_the_top(values, book)
        values = {name: held for name, held in values.items() if name == "check"}
    config: Config = _read_table("", values, (), book)
    _check_after(config.environments, book)
    _check_merge(config.merge, book)
    return Source(replace(config, checks=tuple(_placed(check, folder) for check in config.checks)), book)


def _leave_to_the_top(values: Mapping[str, Any], book: "Book") -> None:
    for name in values:
        if name in _tables_in("") and name != "check":
            header = f"[[{name}]]" if isinstance(values[name], list) else f"[{name}]"
            book.add((name,), f"{header} belongs in the {CONFIG_NAME} at the top: that of a folder has [[check]] alone")
        elif name != "check":
            book.add((name,), *_unknown(name, "", values[name]))


def _placed(check: Check, folder: str) -> Check:
    """A check as its file has it, as one of the repository."""
    inputs = tuple(_from_top(pattern, folder) for pattern in check.inputs)
    if not folder:
        needs = tuple(CheckName(need.removeprefix(FROM_TOP)) for need in check.needs)
        return check if (inputs, needs) == (check.inputs, check.needs) else check._replace(inputs=inputs, needs=needs)
    name = CheckName(f"{folder}/{check.name}") if check.name else check.name
    needs = tuple(CheckName(need.removeprefix(FROM_TOP) if "/" in need else f"{folder}/{need}") for need in check.needs)
    return check._replace(name=name, inputs=inputs, needs=needs, folder=folder)


def _from_top(pattern: str, folder: str) -> str:
    """A gitignore pattern of a file in this folder, as one at the top. Git reads the .gitignore of a folder likewise."""
    sign, path = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if path.startswith(FROM_TOP):
        return WHOLE_TREE[0] if path == "//**" and not sign else sign + path[1:]
    if not folder:
        return pattern
    if "/" in path.rstrip("/") or path in WHOLE_TREE:
        return f"{sign}/{folder}/{path.removeprefix('/')}"
    return f"{sign}/{folder}/**/{path}"  # without a slash but at its end it matches at any depth


def load(git: "Git", commit: Sha) -> Config | tuple[Problem, ...]:
    """gate.toml at the top of a commit, by itself; without one, a Config that has no checks.

    Raises Unavailable when git cannot tell.
    """
    from ci.git import read_file  # brings subprocess, which users of the types alone need not pay

    text = read_file(git, commit, CONFIG_NAME)
    entry = git.run("ls-tree", "--full-tree", commit, "--", CONFIG_NAME).text
    if entry.startswith(LINK_MODE):
        return (Problem("", 0, f"{CONFIG_NAME} {IS_LINK}"),)
    if text is not None:
        return parse(text)
    # Only a tree that can be read, and does not hold the name, means "no gate.toml". Anything else must not pass for it:
    # a commit without checks lands unchecked.
    if not entry:
        return Config()
    if " blob " in entry:
        raise Unavailable(f"{CONFIG_NAME} of commit {commit} cannot be read: run git fsck in {git.git_dir}")
    return (Problem("", 0, f"{CONFIG_NAME} is not a file: put the configuration in a file of that name"),)


def _values(source: str, origin: str) -> dict[str, Any] | Problem:
    """What tomllib makes of the text."""
    import tomllib  # 17 ms that users of the types alone need not pay

    from gate.toml_lines import MOST_PARTS, long_key  # the same

    if source.startswith("\ufeff"):
        return Problem("", 1, f"{origin} begins with a byte order mark: save it as UTF-8 without one")
    too_long = long_key(source)
    if too_long:
        return Problem("", too_long, f"a key of more than {MOST_PARTS} dotted parts: {origin} has none that long")
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as wrong:
        return _conflict_in(source, origin) or _syntax_problem(str(wrong), source)
    except RecursionError:
        return Problem("", 0, f"{origin} is nested too deeply: no key of it holds lists in lists")
    except ValueError:  # Python refuses to convert whole numbers of thousands of digits
        return Problem("", 0, f"{origin} holds a number that is too long to be read")


_SYNTAX = {
    "Cannot overwrite a value": "this key is there twice: keep one",
    "Cannot declare": "this table is there twice: put its keys under one header",
    "Expected '=' after a key": "expected '=' after the key",
    "Invalid value": "the value is missing, or is not TOML: text needs quotes",
    "Invalid statement": "this is not TOML: expected [table], [[table]] or key = value",
}


def _conflict_in(source: str, origin: str) -> Problem | None:
    """The first mark of a merge that nobody has finished. Asked of what is not TOML: text of several lines may hold one."""
    mark = re.search(r"^(?:<<<<<<<|>>>>>>>)(?= |\r?$)", source, re.MULTILINE)
    if mark is None:
        return None
    line = source.count("\n", 0, mark.start()) + 1
    what = f"{origin} holds an unfinished merge, with a line of {mark[0]}: keep what is right, and take such lines out"
    return Problem("", line, what)


def _syntax_problem(said: str, source: str) -> Problem:
    """tomllib's message in words that name the cure, where it is known."""
    what, _, where = said.partition(" (at ")
    found = re.match(r"line ([0-9]+)", where)
    line = int(found[1]) if found else source.rstrip("\n").count("\n") + 1
    if not found:
        return Problem("", line, f"the file ends in the middle of something: {what[:1].lower()}{what[1:]}")
    cure = next((cure for beginning, cure in _SYNTAX.items() if what.startswith(beginning)), "")
    return Problem("", line, cure or f"not TOML: {shortened(what[:1].lower() + what[1:])}")


class Book:
    """The problems found so far in one file. Lines and near names are looked up at the end, and only for what is told."""

    MOST_TOLD = 200
    MOST_GUESSED = 50  # difflib compares each word with up to 500 others
    MOST_COMPARED = 500

    def __init__(self, source: str, file: str = "") -> None:
        self._source = source
        self._file = file
        self._found: list[tuple[Path, str, tuple[str, Iterable[str]] | None]] = []

    def add(self, path: "Path", text: str, near: tuple[str, Iterable[str]] | None = None) -> None:
        self._found.append((path, text, near))

    def __len__(self) -> int:
        return len(self._found)

    def problems(self) -> tuple[Problem, ...]:
        if not self._found:
            return ()
        from gate.toml_lines import key_lines, line_of  # only a file with problems needs it

        lines = key_lines(self._source)
        placed = sorted(((line_of(lines, found[0]), found) for found in self._found), key=lambda each: each[0])
        told = [
            Problem(_written_path(path), line, text + (_guess(near) if position < self.MOST_GUESSED else ""), self._file)
            for position, (line, (path, text, near)) in enumerate(placed[: self.MOST_TOLD])
        ]
        if len(placed) > len(told):
            told.append(Problem("", 0, f"and {len(placed) - len(told)} more problems", self._file))
        return tuple(told)


def _guess(near: tuple[str, Iterable[str]] | None) -> str:
    if near is None or len(near[0]) > 64:
        return ""
    import difflib  # only a file with problems needs it

    word, known = near
    best = difflib.get_close_matches(word, list(islice(known, Book.MOST_COMPARED)), n=1)
    return f" (did you mean {quoted(best[0])}?)" if best else ""


def _written_path(path: "Path") -> str:
    """As people write it: check[2].env.LANG"""
    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{step}]"
        else:
            shown = step if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", step) else quoted(step)
            written += f".{shown}" if written else shown
    return written


def _read_table(section: str, values: Mapping[str, Any], path: "Path", book: Book) -> Any:
    """The table as its type. Where something is wrong the book knows, and the result serves only to look for more."""
    keys, tables = _keys_of(section), _tables_in(section)
    attributes: dict[str, Any] = {}
    for name, value in values.items():
        here = (*path, name)
        if name in tables:
            inner = tables[name]
            is_array = inner.endswith("[]")
            read = _read_array if is_array else _read_one
            attributes[name + "s" * is_array] = read(inner, value, here, book)
        elif name in keys:
            before = len(book)
            read_value = keys[name].kind.read(value, _complain_at(here, book))
            if len(book) == before:
                attributes[keys[name].attribute] = read_value
        else:
            book.add(here, *_unknown(name, section, value))
    for key in keys.values():
        if key.is_required and key.attribute not in attributes:
            attributes[key.attribute] = ()
            if key.name not in values:
                book.add(path, f"{quoted(key.name)} is missing ({key.meaning}), as in {key.name} = {key.example}")
    if section == "environment[]":
        _check_targets(values, path, book)
    return SECTIONS[section](**attributes)


def _complain_at(path: "Path", book: Book) -> Complain:
    def complain(text: str, *below: str | int, near: tuple[str, Collection[str]] | None = None) -> None:
        book.add((*path, *below), text, near)

    return complain


def _read_one(section: str, value: Any, path: "Path", book: Book) -> Any:
    if isinstance(value, dict):
        return _read_table(section, value, path, book)
    is_list = isinstance(value, list)
    brackets = ", with one pair of brackets" if is_list else ""
    book.add(path, f"must be a table, written [{section}]{brackets}, and is {kind_word(value)}")
    return SECTIONS[section]()


def _read_array(section: str, value: Any, path: "Path", book: Book) -> tuple[Any, ...]:
    header = f"[[{section.removesuffix('[]')}]]"
    if not isinstance(value, list):
        book.add(path, f"must be written {header}, with two pairs of brackets, once for each")
        return ()
    for position, item in enumerate(value):
        if not isinstance(item, dict):
            book.add((*path, position), f"must be a table, written {header}, and is {kind_word(item)}")
    return tuple(
        _read_table(section, item if isinstance(item, dict) else {}, (*path, position), book)
        for position, item in enumerate(value)
    )


def _unknown(name: str, section: str, value: Any) -> tuple[str, tuple[str, Iterable[str]]]:
    """What to say of a key that the section does not have."""
    known = (*_keys_of(section), *_tables_in(section))
    where = f" in [{section}]".replace("[]]", "]") if section else ""
    is_table = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    homes = [] if is_table else [key.table for key in KEYS if key.name == name]  # no key takes tables
    elsewhere = f": it belongs in {' or '.join(_header(home) for home in homes)}" if homes else ""
    return f"unknown key {quoted(name)}{where}{elsewhere}", (name, () if homes else known)


def _header(section: str) -> str:
    return f"[[{section.removesuffix('[]')}]]" if section.endswith("[]") else f"[{section}]"


def _check_targets(values: Mapping[str, Any], path: "Path", book: Book) -> None:
    ways = ("targets", "targets_file", "targets_command")
    given = [way for way in ways if way in values]
    if not given:
        book.add(path, f"names no targets: give one of {', '.join(ways)}")
    elif len(given) > 1:
        book.add((*path, given[1]), f"targets are named more than once, by {' and '.join(given)}: keep one")


# --- what must hold between tables --------------------------------------------------------------------------------------


def check_needs(sources: Sequence[Source], *, is_all: bool = True) -> None:
    """What must hold between the checks of these files. is_all: there are no others, to which a need may lead."""
    places: dict[str, tuple[Source, int]] = {}
    for source in sources:
        for name, position in _positions([check.name for check in source.config.checks], "check", source.book).items():
            places[name] = (source, position)
    order = list(Stage)
    for source in sources:
        for position, check in enumerate(source.config.checks):
            for index, need in enumerate(check.needs):
                here = ("check", position, "needs", index)
                if need not in places:
                    if is_all or "/" not in need:
                        source.book.add(here, *_no_such_check(need, check.folder, places))
                    continue
                other, where = places[need]
                needed = other.config.checks[where].stage
                if order.index(needed) > order.index(check.stage):
                    text = f"{quoted(need)} runs later: a {check.stage} check cannot wait for a {needed} check"
                    source.book.add(here, text)
    edges = {
        name: [need for need in source.config.checks[position].needs if need in places]
        for name, (source, position) in places.items()
    }
    for circle in islice(_circles(edges), MOST_CIRCLES):
        source, position = places[circle[0]]
        source.book.add(("check", position, "needs"), f"needs go in a circle: {_drawn(circle)}")


def _no_such_check(need: str, folder: str, places: Collection[str]) -> tuple[str, tuple[str, Iterable[str]] | None]:
    at_top = need.removeprefix(f"{folder}/") if folder else need
    if folder and at_top in places:
        return f"there is no check {quoted(need)}: the one at the top is written {quoted(FROM_TOP + at_top)} here", None
    return f"there is no check {quoted(need)}", (need, places)


def _check_merge(merge: Merge, book: Book) -> None:
    if merge.every_commit and merge.method == "rebase":
        text = (
            'cannot be kept with method = "rebase", which puts all commits of a change on trunk, and only the last is '
            'tested. Choose "merge" or "squash", or leave it out'
        )
        book.add(("merge", "every_commit"), text)


def _check_after(environments: Sequence[Environment], book: Book) -> None:
    positions = _positions([environment.name for environment in environments], "environment", book)
    for position, environment in enumerate(environments):
        if environment.after and environment.after not in positions:
            text = f"there is no environment {quoted(environment.after)}"
            book.add(("environment", position, "after"), text, (environment.after, positions))
    afters = {name: [environments[position].after] for name, position in positions.items()}
    for circle in _circles({name: [after for after in wanted if after in positions] for name, wanted in afters.items()}):
        book.add(
            ("environment", positions[circle[0]], "after"), f"environments wait for each other in a circle: {_drawn(circle)}"
        )


def _positions(names: Sequence[str], table: str, book: Book) -> dict[str, int]:
    """Name to position of the first that has it; the others are complained of."""
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        if name and positions.setdefault(name, position) != position:
            text = f"there is already a {table} {quoted(name)}, {table}[{positions[name]}]: give each its own name"
            book.add((table, position, "name"), text.replace("a environment", "an environment"))
    return positions


def _circles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """The circles that a walk in the order of the mapping closes. Without recursion: a chain may be thousands long."""
    done: set[str] = set()
    for start in edges:
        trail: dict[str, Iterator[str]] = {} if start in done else {start: iter(edges[start])}
        while trail:
            last = next(reversed(trail))
            for following in trail[last]:
                if following in trail:
                    names = list(trail)
                    yield names[names.index(following) :]
                elif following not in done:
                    trail[following] = iter(edges[following])
                    break
            else:
                del trail[last]
                done.add(last)


def _drawn(circle: Sequence[str]) -> str:
    shown = [*circle[:5], "...", circle[-1]] if len(circle) > 7 else list(circle)
    return " → ".join([*shown, circle[0]])


# --- legal but odd -----------------------------------------------------------------------------------------------------


def warnings(config: Config) -> tuple[str, ...]:
    """What is legal in the configuration but hardly meant, each with the cure."""
    return (
        *_warn_of_checks(config),
        *_warn_of_trust(config),
        *(
            f"[hooks] link: {quoted(name)} is no pattern but a name, so that nothing is linked: name each folder"
            for name in config.hooks.link
            if re.search(r"[*?]", name)
        ),
        *(warning for check in config.checks for warning in _warn_of_check(check)),
        *(warning for environment in config.environments for warning in _warn_of_environment(environment)),
    )


def warnings_at(config: Config, paths: Sequence[str]) -> tuple[str, ...]:
    """The same of what only shows beside files: checks that none of these concerns. paths: all of the tree."""
    from ci.keys import matcher  # nobody who only runs checks needs it

    return tuple(
        f"check {check.name!r} has nothing to look at, as inputs match no file: {', '.join(map(quoted, check.inputs[:5]))}. "
        "They are patterns of a .gitignore, from the top of the repository on, and case counts"
        for check in config.checks
        if not check.is_whole_tree and not any(map(_no_pattern, check.inputs)) and not any(map(matcher(check.inputs), paths))
    )


def _no_pattern(pattern: str) -> str:
    """What a gitignore pattern cannot say; "" when nothing of it is tried."""
    if re.search(r"\{[^{}/]*,[^{}/]*\}", pattern):
        return "holds {a,b}, which means itself in a gitignore pattern"
    return "holds a comma and a blank, and is one pattern" if ", " in pattern else ""


def _is_like(folder: str, pattern: str) -> bool:
    steps, wanted = folder.split("/"), pattern.split("/")
    return len(steps) == len(wanted) and all(map(fnmatchcase, steps, wanted))


def _warn_of_checks(config: Config) -> Iterator[str]:
    for pattern in config.nested.folders:
        if not any(check.folder and _is_like(check.folder, pattern) for check in config.checks):
            yield f"[nested] folders: {quoted(pattern)} leads to no check: put a {CONFIG_NAME} there, or leave it out"
    if not config.checks:
        yield "there are no checks, so every change lands that does not conflict: add a [[check]]"
    elif not config.checks_before_landing():
        yield 'every check is of stage "post-commit", so nothing is checked before it lands: give one stage = "merge"'


def _warn_of_trust(config: Config) -> Iterator[str]:
    trust = config.trust
    if not trust.maintainers and "*" not in trust.trusted:
        yield (
            "[trust] trusted is limited but maintainers is empty, so only the account that owns the repository can approve: "
            "name maintainers"
        )
    if "*" in trust.maintainers:
        yield '[trust] maintainers holds "*", so everybody may change gate.toml and approve: name people'
    if config.run.isolation == "plain" and "*" not in trust.trusted:
        yield (
            '[run] isolation = "plain" lets checks of people who are not trusted read all that the gate can read: '
            'write isolation = "auto"'
        )
    for position, rule in enumerate(trust.paths):
        if "*" not in rule.approvers and rule.approvals > len(rule.approvers):
            yield (
                f"trust.path[{position}] asks for {rule.approvals} approvals but names {len(rule.approvers)} approvers, so "
                "no change to these paths can land: name more approvers or ask for fewer approvals"
            )


def _warn_of_check(check: Check) -> Iterator[str]:
    name = f"check {check.name!r}"
    if check.inputs != WHOLE_TREE and set(check.inputs) <= {"*", "**", "**/*", "**/**"}:
        yield f'{name} has inputs that mean the whole tree: write inputs = ["**"], or leave inputs out'
    for pattern in check.inputs:
        if because := _no_pattern(pattern):
            yield f"{name} has an input that {because}: {quoted(pattern)}. Write a pattern for each, in quotes of its own"
    if check.network and check.max_age_s is None:
        yield (
            f"{name} uses the network, so its outcome depends on more than its inputs, yet a green result is kept for ever: "
            'give it a max_age, such as "1d"'
        )
    if check.git and not check.is_whole_tree and check.inputs != (f"/{check.folder}/**",):
        yield (
            f"{name} has git = true and so sees the whole tree, but its result is kept for its inputs alone: "
            "leave out git, or inputs"
        )
    if check.junit is not None and "{junit}" in check.words:
        yield f"{name} has both junit and {{junit}} in its command: keep the one that its tool writes to"
    yield from _warn_of_command(name, check)
    for variable, value in check.env:
        if re.search(r"\$\{?[A-Za-z_]", value):
            yield f"{name} is given {variable} as it stands, for no shell expands the $ in it: set it in the command instead"
    if check.retest is not None:
        yield from _warn_of_retest(name, check, words_of(check.retest))


def _warn_of_command(name: str, check: Check) -> Iterator[str]:
    from gate.shell import odd  # nobody who only runs checks needs it

    has_others = check.retest is not None and isinstance(check.command, str) and bool(_GOES_ON.search(check.command))
    found = [*odd(check.command, is_told=has_others), *(odd(check.retest, is_told=True) if check.retest else ())]
    yield from (f"{name} {sentence}" for sentence in dict.fromkeys(found))


# What a report does not tell: that the command would have gone on to something else, or to more tests.
_GOES_ON = re.compile(r"&&|\|\||[;|\n]")
_STOPS = re.compile(r"(?:^|\s)(?:-x|--exitfirst|--maxfail\b\S*|-{1,2}fail-?fast|--bail\b\S*)(?=\s|$)")


def _warn_of_retest(name: str, check: Check, retest: str) -> Iterator[str]:
    if check.junit is None and not ("{junit}" in check.words and "{junit}" in retest):
        yield f"{name} has a retest, but no report tells which tests failed and passed: put {{junit}} in command and retest"
    if isinstance(check.command, str) and _GOES_ON.search(check.command):
        yield (
            f"{name} runs more than its tests, which its retest would not run again, so it could pass for green unseen: "
            "make a check of each"
        )
    if _STOPS.search(check.words):
        yield f"{name} stops at a failure, so tests that its retest would not run go unseen: let it run them all"


def _warn_of_environment(environment: Environment) -> Iterator[str]:
    name = f"environment {environment.name!r}"
    words = environment.command if isinstance(environment.command, str) else " ".join(environment.command)
    if "target" not in words.lower() and len(environment.targets) != 1:
        yield f"{name} runs the same command for every target: put {{target}} where the target's name goes"
    if environment.targets and environment.max_failures >= len(environment.targets):
        yield f"{name} survives the failure of all its targets: lower max_failures"
    if environment.bake_s and len(environment.waves) > 1 and not environment.verify:
        yield f"{name} waits after each wave but verifies nothing: give it a verify command"


# --- writing ------------------------------------------------------------------------------------------------------------


def dump(config: Config) -> str:
    """The configuration of one file as TOML, defaults included, which ``parse`` reads as the same configuration."""
    from toml import TomlEncoder, dumps  # for gate config show alone

    encoder: TomlEncoder[Any] = TomlEncoder()
    encoder.dump_funcs[str] = _toml_text  # its own writes control characters in a way that no reader accepts
    plain = _plain(config, "")
    arrays = {name: plain.pop(name) for name in ("check", "environment") if name in plain}
    return dumps(plain, encoder) + "\n" + dumps(arrays, encoder)


def _plain(value: Any, section: str) -> dict[str, Any]:
    """The table as TOML could hold it, without the keys that are not set."""
    plain = {key.name: key.kind.write(getattr(value, key.attribute)) for key in _keys_of(section).values()}
    for name, inner in _tables_in(section).items():
        if inner.endswith("[]"):
            plain[name] = [_plain(item, inner) for item in getattr(value, name + "s")] or None
        else:
            plain[name] = _plain(getattr(value, name), inner)
    return {name: held for name, held in plain.items() if held is not None}


def _toml_text(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + re.sub(r'[\x00-\x1f"\\\x7f]', lambda found: escapes.get(found[0]) or f"\\u{ord(found[0]):04x}", text) + '"'


def toml_value(value: object) -> str:
    """A value as it stands after the equals sign; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_value(held)}" for name, held in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return _toml_text(value) if isinstance(value, str) else str(value)


def effective(
    config: Config, text: bytes, origin: str = CONFIG_NAME, nested: Mapping[str, bytes] | None = None
) -> list[tuple[str, str, str]]:
    """(path, value in TOML, origin) of every key, in the order of KEYS and of the file.

    text: the file that the configuration was parsed from. nested: the files of folders that it was put together with.
    origin is "gate.toml line N" or "default"; the value of a key that is not set is "".
    """
    from gate.toml_lines import key_lines  # for gate config show alone

    origins = {path: f"{origin} line {line}" for path, line in key_lines(text.decode()).items()}
    first: dict[str, int] = {}
    for position, check in enumerate(config.checks):
        first.setdefault(check.folder, position)
    for folder, its_text in (nested or {}).items():
        for path, line in key_lines(its_text.decode()).items() if folder in first else ():
            if len(path) > 1 and isinstance(path[1], int):
                origins[("check", first[folder] + path[1], *path[2:])] = f"{folder}/{CONFIG_NAME} line {line}"
    return list(_effective(config, "", (), origins))


def _effective(value: Any, section: str, path: "Path", origins: Mapping["Path", str]) -> Iterator[tuple[str, str, str]]:
    for key in _keys_of(section).values():
        here = (*path, key.name)
        yield _written_path(here), toml_value(key.kind.write(getattr(value, key.attribute))), origins.get(here, "default")
    for name, inner in _tables_in(section).items():
        if inner.endswith("[]"):
            for position, item in enumerate(getattr(value, name + "s")):
                yield from _effective(item, inner, (*path, name, position), origins)
        else:
            yield from _effective(getattr(value, name), inner, (*path, name), origins)
