"""Keys: the same for the same inputs whichever way they were computed, different for any input that differs."""

import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.errors import UserError
from ci.git import Git, GitEnd, GitFailed, PlainGit, ServerGit
from ci.keys import NOTHING_MATCHED, KeyMaker, Matched, definition_digest, matcher, matching, tool_version, touched
from ci.model import Check, CheckName, Sha, Stage
from fakes.repositories import Repository, git_env

PYTHON = Check(CheckName("python"), "pytest {files}", inputs=("*.py",))
EVERYTHING = Check(CheckName("everything"), "make")
HISTORY = Check(CheckName("history"), "make", git=True)


class CountingGit(PlainGit):
    """A real door that counts how often it is used."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(repository.git_dir)
        self.commands: list[str] = []

    def run(self, *arguments: str, **options: object) -> GitEnd:
        self.commands.append(next(word for word in arguments if not word.startswith("-")))
        return super().run(*arguments, **options)  # type: ignore[arg-type]


def door(repository: Repository) -> Git:
    return PlainGit(repository.git_dir)


def key_of(repository: Repository, commit: str, check: Check) -> str:
    """By a full scan: a maker that has seen nothing."""
    return KeyMaker(door(repository)).keys(Sha(commit), [check])[check.name]


# --- what matches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "path", "is_input"),
    [
        (("**",), "a/b.py", True),
        (("*.py",), "a/b.py", True),
        (("/*.py",), "a/b.py", False),
        (("src/",), "lib/src/a.py", True),
        (("src/",), "src", False),  # a file of that name is no folder
        (("/src",), "src/a/b.py", True),
        (("src/**", "!src/vendor/**"), "src/vendor/a.py", False),
        (("src/", "!src/keep.py"), "src/keep.py", False),  # the last match decides, below a folder too
        (("src/", "!*.md", "src/README.md"), "src/README.md", True),
        (("*.py", "!vendor/"), "vendor/a.py", True),  # as with git, a folder's pattern yields to a file's
        (("*.py", "!vendor/**"), "vendor/a.py", False),
        (("!src/",), "src/a.py", False),
        ((), "src/a.py", False),
        (("*.py",), "new\nline/a.py", True),  # a newline in a name hides nothing
        (("a/**/c",), "a/new\nline/c", True),
        (("*.py",), "a.py\n", False),
        (("**",), "\n", True),
        (("*", "!x"), "\n", True),
        (("*.py",), os.fsdecode(b"\xff/\xfe.py"), True),
        (("*.py",), "-rf.py", True),
        (("/a",), "../a", False),
        (("\\!x",), "!x", True),
    ],
)
def test_a_path_is_an_input_as_gitignore_would_have_it(patterns: tuple[str, ...], path: str, is_input: bool) -> None:
    assert matcher(patterns)(path) is is_input


def test_a_pattern_that_is_none_is_the_owners_to_correct() -> None:
    with pytest.raises(UserError, match="inputs"):
        matcher(("/", "a\\"))


def test_checks_are_touched_by_their_inputs_and_history_by_everything() -> None:
    checks = (PYTHON, EVERYTHING, HISTORY)
    assert touched(checks, []) == {"history"}
    assert touched(checks, ["README.md"]) == {"everything", "history"}
    assert touched(checks, ["README.md", "a/b.py"]) == {"python", "everything", "history"}


def test_matching_lists_paths_in_order_with_names_that_are_not_utf8(repository: Repository) -> None:
    commit = repository.commit("odd", {os.fsdecode(b"src/\xff.py"): "1", "src/with\nnewline.py": "2", "-x.py": "3"})
    found = matching(door(repository), Sha(commit), ("*.py", "!b.py"))
    assert found == ("-x.py", "src/a.py", "src/with\nnewline.py", os.fsdecode(b"src/\xff.py"))


# --- what is in a key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        PYTHON._replace(name=CheckName("other")),
        PYTHON._replace(command="pytest  {files}"),
        PYTHON._replace(command=("pytest {files}",)),
        PYTHON._replace(inputs=("*.py", "!*.py")),
        PYTHON._replace(inputs=("*.py", "*.py")),
        PYTHON._replace(env=(("A", "b"),)),
        PYTHON._replace(timeout_s=1.5),
        PYTHON._replace(junit=""),
        PYTHON._replace(junit="report.xml"),
        PYTHON._replace(git=True),
        PYTHON._replace(network=True),
        PYTHON._replace(retest="pytest {tests}"),
        PYTHON._replace(fix=True),
        PYTHON._replace(tools=("git --version",)),
        PYTHON._replace(inputs=("**",)),
    ],
)
def test_whatever_decides_the_outcome_is_in_the_key(repository: Repository, other: Check) -> None:
    head = repository.head()
    assert key_of(repository, head, PYTHON) != key_of(repository, head, other)


def test_when_a_check_runs_and_how_long_it_is_believed_is_not_in_the_key(repository: Repository) -> None:
    other = PYTHON._replace(stage=Stage.PRE_COMMIT, needs=(CheckName("x"),), max_age_s=3.0)
    assert key_of(repository, repository.head(), PYTHON) == key_of(repository, repository.head(), other)


def test_a_check_without_a_retest_has_the_keys_of_before_there_were_any() -> None:
    """Else an upgrade would run every check of every repository again. The digest was made by the version before."""
    made = definition_digest(
        Check(
            CheckName("unit"),
            "pytest {files}",
            inputs=("src/**",),
            env=(("A", "1"),),
            tools=("python3 --version",),
            junit="r.xml",
        ),
        {"python3 --version": "Python 3"},
    )
    assert made.hex() == "a9f61161feceb2036aad3d6468cbee704967d93cb51a2bc0e1c66e5b2bcc0b33"


def test_the_order_of_variables_does_not_matter() -> None:
    one, two = (PYTHON._replace(env=env) for env in ((("A", "1"), ("B", "2")), (("B", "2"), ("A", "1"))))
    assert definition_digest(one, {}) == definition_digest(two, {})


fields = st.tuples(
    st.one_of(st.text(max_size=4), st.lists(st.text(max_size=4), min_size=1, max_size=3).map(tuple)),
    st.lists(st.text(max_size=4), max_size=3).map(tuple),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(lambda env: tuple(sorted(env.items()))),
    st.one_of(st.none(), st.text(max_size=3)),
)


@given(fields, fields)
def test_different_definitions_never_meet_by_concatenation(one: tuple, two: tuple) -> None:  # type: ignore[type-arg]
    digests = [
        definition_digest(Check(CheckName("x"), command, inputs=inputs, env=env, junit=junit), {})
        for command, inputs, env, junit in (one, two)
    ]
    assert (digests[0] == digests[1]) == (one == two)


def test_a_new_version_of_a_tool_is_a_new_key(repository: Repository) -> None:
    check = PYTHON._replace(tools=("node --version",))
    keys = [
        KeyMaker(door(repository), version).keys(Sha(repository.head()), [check])[check.name]
        for version in ("v20 of {}".format, "v22 of {}".format, "v20 of {}".format)
    ]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    "command",
    [("gate", "hygiene", "end-of-file", "{files}"), "cd src && gate  hygiene end-of-file *", "./gate-hygiene x {files}"],
)
def test_what_calls_our_own_checks_has_a_new_key_with_a_new_version(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, command: str | tuple[str, ...]
) -> None:
    ours = PYTHON._replace(command=command)
    before = [key_of(repository, repository.head(), check) for check in (ours, PYTHON)]
    monkeypatch.setattr("ci.keys.RUNTIME", "0.0.9, Python 3.11.0")
    after = [key_of(repository, repository.head(), check) for check in (ours, PYTHON)]
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_the_same_tree_in_another_commit_has_the_same_key_unless_history_is_an_input(repository: Repository) -> None:
    first = repository.head()
    second = repository.commit("nothing")
    for check, is_same in ((PYTHON, True), (EVERYTHING, True), (HISTORY, False)):
        assert (key_of(repository, first, check) == key_of(repository, second, check)) is is_same, check.name


def test_a_tree_in_no_commit_has_the_keys_that_its_commit_will_have(repository: Repository) -> None:
    tree = repository.tree()
    maker = KeyMaker(door(repository))
    assert maker.keys(Sha(tree), [PYTHON, EVERYTHING]) == maker.keys(Sha(repository.head()), [PYTHON, EVERYTHING])
    assert maker.keys(Sha(tree), [EVERYTHING], tree=Sha(tree)) == maker.keys(Sha(tree), [EVERYTHING])


@pytest.mark.parametrize(
    ("files", "alters"),
    [
        ({"src/a.py": "A = 2\n"}, True),
        ({"src/c.py": ""}, True),
        ({"src/a.py": None}, True),
        ({"README.md": "other\n"}, False),
        ({"src/py": "x"}, False),
    ],
)
def test_a_key_follows_the_inputs_and_nothing_else(
    repository: Repository, files: Mapping[str, str | None], alters: bool
) -> None:
    before = repository.head()
    after = repository.commit("edit", files)
    maker = KeyMaker(door(repository))
    near = maker.keys(Sha(before), [PYTHON])[PYTHON.name]
    incremental = maker.keys(Sha(after), [PYTHON], Sha(before))[PYTHON.name]
    assert (incremental != near) is alters
    assert incremental == key_of(repository, after, PYTHON)


def test_a_mode_a_symbolic_link_and_a_submodule_are_content(repository: Repository) -> None:
    maker = KeyMaker(door(repository))
    commits = [repository.head()]
    repository.write("src/a.py", "A = 1\n", executable=True)
    commits.append(repository.commit("mode"))
    (repository.path / "src/a.py").unlink()
    (repository.path / "src/a.py").symlink_to("A = 1\n")
    commits.append(repository.commit("link"))
    for target in (commits[0], commits[1]):
        (repository.path / "src/a.py").unlink(missing_ok=True)
        repository.git("update-index", "--add", "--replace", "--cacheinfo", f"160000,{target},src/a.py")
        repository.git("commit", "-q", "-m", "submodule")
        commits.append(repository.head())
    keys = [maker.keys(Sha(commit), [PYTHON])[PYTHON.name] for commit in commits]
    assert len(set(keys)) == len(commits)
    assert keys == [key_of(repository, commit, PYTHON) for commit in commits]


def test_a_gitmodules_file_cannot_hide_a_submodule_from_the_key(repository: Repository) -> None:
    heads = [repository.head(), repository.commit("another target for the submodule")]
    commits = []
    for target in heads:
        repository.write(".gitmodules", '[submodule "m"]\n\tpath = m.py\n\turl = ./m\n\tignore = all\n')
        repository.git("add", ".gitmodules")
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{target},m.py")
        repository.git("commit", "-q", "-m", "submodule")
        commits.append(repository.head())
    maker = KeyMaker(PlainGit(repository.git_dir, repository.path))
    one, two = (maker.keys(Sha(commit), [PYTHON])[PYTHON.name] for commit in commits)
    assert one != two


def test_a_replaced_object_is_seen_as_every_clone_sees_it(repository: Repository) -> None:
    head = repository.head()
    key, tree = key_of(repository, head, PYTHON), key_of(repository, head, EVERYTHING)
    other = repository.commit("other", {"src/a.py": "evil\n"})
    repository.git("replace", head, other)
    assert (key_of(repository, head, PYTHON), key_of(repository, head, EVERYTHING)) == (key, tree)


# --- incremental ------------------------------------------------------------------------------------------------------

names = st.sampled_from(
    [b"a.py", b"b.md", b"sub/c.py", b"sub/d", b"sub/deep/\xff.py", b"x y.py", b"n\nl.py", b"vendor/e.py"]
)
entries = st.tuples(st.sampled_from(["100644", "100755", "120000", "160000"]), st.sampled_from(["1", "2", "3"]))
trees = st.dictionaries(names, entries, max_size=8)
INPUTS = [("*.py",), ("sub/",), ("*", "!vendor/**"), ("*.py", "!/sub/*"), ("**",)]


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.create(tmp_path_factory.mktemp("depot") / "repo.git", bare=True)


def _tree(depot: Repository, content: Mapping[bytes, tuple[str, str]]) -> Sha:
    env = {"GIT_INDEX_FILE": str(depot.path / "index.for-tests")}
    lines = []
    for path, (mode, text) in content.items():
        blob = depot.git("hash-object", "-w", "--stdin", stdin=text.encode())
        lines.append(f"{mode} {blob}\t".encode() + path + b"\0")
    depot.git("read-tree", "--empty", env=env)
    depot.git("update-index", "-z", "--index-info", stdin=b"".join(lines), env=env)
    return Sha(depot.git("write-tree", "--missing-ok", env=env))


@settings(max_examples=25, deadline=None)
@given(st.lists(trees, min_size=2, max_size=4))
def test_keys_by_steps_equal_keys_by_full_scan(depot: Repository, history: list[dict[bytes, tuple[str, str]]]) -> None:
    checks = [Check(CheckName(str(number)), "true", inputs=inputs) for number, inputs in enumerate(INPUTS)]
    by_steps = KeyMaker(door(depot))
    near = None
    seen: dict[str, list[tuple[object, str]]] = {check.name: [] for check in checks}
    for content in history:
        tree = _tree(depot, content)
        keys = by_steps.keys(tree, checks, near)
        assert keys == KeyMaker(door(depot)).keys(tree, checks)
        near = tree
        for check in checks:
            is_input = matcher(check.inputs)
            inputs = {path: entry for path, entry in content.items() if is_input(os.fsdecode(path))}
            for others, key in seen[check.name]:
                assert (key == keys[check.name]) == (others == inputs), check.inputs
            seen[check.name].append((inputs, keys[check.name]))


records = st.dictionaries(st.text(min_size=1, max_size=3), st.binary(min_size=1, max_size=3), max_size=30)


@given(records, records)
def test_matched_paths_have_one_digest_however_they_were_reached(start: dict[str, bytes], end: dict[str, bytes]) -> None:
    """Records as in a tree: with the path inside and a byte at the end that is nowhere else."""
    first, last = (
        {path: b"%b\t%b\0" % (blob.hex().encode(), os.fsencode(path)) for path, blob in each.items() if "\0" not in path}
        for each in (start, end)
    )
    gone: dict[str, bytes | None] = dict.fromkeys(first)
    there = NOTHING_MATCHED.edited(first)
    assert there.edited(gone | last).digest == NOTHING_MATCHED.edited(last).digest
    assert (there.digest == NOTHING_MATCHED.edited(last).digest) == (first == last)


def test_one_edit_shares_all_other_buckets() -> None:
    before = NOTHING_MATCHED.edited({f"f{number}": b"1 %d\0" % number for number in range(5000)})
    after = before.edited({"f7": b"2 7\0"})

    def buckets(matched: Matched) -> set[int]:
        return {id(bucket) for group in matched.groups for bucket in group.buckets}

    assert len(buckets(after) - buckets(before)) == 1
    there_and_back = before.edited({"f7": None}).edited({"f7": b"1 7\0"})
    assert there_and_back.digest == before.digest  # although its bucket was filled in another order


# --- cost -------------------------------------------------------------------------------------------------------------


def test_a_tree_that_is_known_costs_no_git_call(repository: Repository) -> None:
    counting = CountingGit(repository)
    maker = KeyMaker(counting)
    head, tree = Sha(repository.head()), Sha(repository.tree())
    first = maker.keys(head, [PYTHON, EVERYTHING], tree=tree)
    assert counting.commands == ["ls-tree"]
    again = Sha(repository.commit("same tree"))
    assert maker.keys(again, [PYTHON, EVERYTHING], tree=tree) == first
    assert counting.commands == ["ls-tree"]


def test_one_diff_serves_all_checks(repository: Repository) -> None:
    counting = CountingGit(repository)
    maker = KeyMaker(counting)
    checks = [PYTHON, PYTHON._replace(name=CheckName("docs"), inputs=("*.md",))]
    maker.keys(Sha(repository.head()), checks)
    counting.commands.clear()
    maker.keys(Sha(repository.commit("edit", {"src/a.py": "A = 3\n"})), checks, Sha(repository.head("HEAD^")))
    assert counting.commands == ["diff-tree"]


def test_an_unknown_neighbour_is_no_reason_to_scan(repository: Repository) -> None:
    """Whatever was seen last is near enough."""
    counting = CountingGit(repository)
    maker = KeyMaker(counting)
    maker.keys(Sha(repository.head()), [PYTHON])
    counting.commands.clear()
    maker.keys(Sha(repository.commit("edit", {"src/a.py": "A = 3\n"})), [PYTHON], Sha("0" * 40))
    assert counting.commands == ["diff-tree"]


def test_checks_over_the_whole_tree_cost_one_look_at_the_tree(repository: Repository) -> None:
    counting = CountingGit(repository)
    KeyMaker(counting).keys(Sha(repository.head()), [EVERYTHING, EVERYTHING._replace(name=CheckName("b"))])
    assert counting.commands == ["rev-parse"]


def test_a_check_that_joins_later_is_scanned_for(repository: Repository) -> None:
    maker = KeyMaker(door(repository))
    maker.keys(Sha(repository.head()), [PYTHON])
    late = PYTHON._replace(name=CheckName("late"), inputs=("src/",))
    commit = repository.commit("edit", {"src/c": "3"})
    assert maker.keys(Sha(commit), [PYTHON, late])[late.name] == key_of(repository, commit, late)
    assert maker.keys(Sha(commit), [late])[late.name] == key_of(repository, commit, late)


def test_a_neighbour_that_git_has_lost_means_a_scan(repository: Repository) -> None:
    maker = KeyMaker(door(repository))
    gone = repository.commit("gone", {"src/gone.py": "1"})
    maker.keys(Sha(gone), [PYTHON])
    repository.git("reset", "-q", "--hard", "HEAD^")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("prune", "--expire=now")
    head = repository.head()
    assert maker.keys(Sha(head), [PYTHON], Sha(gone))[PYTHON.name] == key_of(repository, head, PYTHON)


@pytest.mark.parametrize("check", [PYTHON, EVERYTHING])
def test_a_commit_that_does_not_exist_is_said(repository: Repository, check: Check) -> None:
    maker = KeyMaker(door(repository))
    maker.keys(Sha(repository.head()), [PYTHON])
    with pytest.raises(GitFailed):
        maker.keys(Sha("1" * 40), [check])


def test_what_is_remembered_is_bounded(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.keys._STATES_KEPT", 2)
    maker = KeyMaker(door(repository))
    commits = [repository.head(), *(repository.commit(str(n), {"src/a.py": f"A = {n}\n"}) for n in range(4))]
    keys = [maker.keys(Sha(commit), [PYTHON], tree=Sha(repository.tree(commit)))[PYTHON.name] for commit in commits]
    assert keys == [key_of(repository, commit, PYTHON) for commit in commits]
    assert len(maker._states) == len(maker._trees) == 2


def test_both_doors_make_the_same_keys(repository: Repository) -> None:
    head, checks = Sha(repository.head()), [PYTHON, EVERYTHING, HISTORY]
    assert KeyMaker(ServerGit(repository.git_dir)).keys(head, checks) == KeyMaker(door(repository)).keys(head, checks)


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_version_is_what_the_tool_prints_on_either_stream() -> None:
    assert tool_version("printf %s 'a  b'") == "a  b"
    assert "usage" in tool_version("git --no-such-flag").lower()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-tool-anywhere --version", "cannot be started"),
        ("false", "exit code 1"),
        ("'", "cannot be read"),
        ("", "empty"),
        ("echo $(id)", "$(id)"),  # no shell
    ],
)
def test_a_tool_that_does_not_answer_is_a_version_of_its_own(command: str, said: str) -> None:
    assert said in tool_version(command)


def test_a_tool_that_hangs_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ci.keys._TOOL_TIMEOUT_S", 0.2)
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert "did not answer" in tool_version(f"sh -c 'exec 7>{fifo}; sleep 600 & sleep 600'")
        readable, _, _ = select.select([reader], [], [], 10)
        assert readable, "a child of the tool still holds the pipe"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


# --- the local path ---------------------------------------------------------------------------------------------------


def test_whole_tree_keys_load_nothing_heavy(repository: Repository) -> None:
    program = (
        "import sys; from pathlib import Path; from ci.git import PlainGit; from ci.keys import KeyMaker;"
        "from ci.model import Check, CheckName;"
        f"git = PlainGit(Path({str(repository.git_dir)!r}));"
        f"KeyMaker(git).keys({repository.head()!r}, [Check(CheckName('x'), 'true')]);"
        "print([name for name in ('git', 'sqlalchemy', 'asyncio', 'pathspec', 'json') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=git_env(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_listing_of_a_key_is_what_the_tree_has_of_the_inputs(repository: Repository) -> None:
    maker = KeyMaker(door(repository))
    maker.keys(Sha(repository.head()), [PYTHON])
    commit = Sha(repository.commit("edit", {"src/a.py": "A = 2\n", "src/new.py": "N = 1\n", "src/b.py": None}))
    maker.keys(commit, [PYTHON], Sha(repository.head("HEAD^")))
    listed = repository.run("ls-tree", "-r", "-z", commit, "--", "src").stdout.replace(b" blob ", b" ")
    found = maker.listing(commit, PYTHON)
    assert found is not None
    assert sorted(found) == sorted(line + b"\0" for line in listed.split(b"\0")[:-1] if line.endswith(b".py"))
    assert maker.listing(commit, EVERYTHING) is None
    assert maker.listing(Sha("1" * 40), PYTHON) is None
