"""Merging without a work tree, against what git itself makes of the same commits in a clone."""

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ci.errors import UserError
from ci.git import GitFailed, PlainGit, ServerGit
from ci.model import Sha
from fakes.repositories import Repository, git_env
from gate.config import Merge
from gate.merge import MOST_COUNTED, Joined, Title, changed_paths, commits_between, merge_change, read_change
from gate.model import ChangeId, Reason, Why

MERGE, SQUASH, REBASE = (Merge(method=method) for method in ("merge", "squash", "rebase"))
METHODS = pytest.mark.parametrize("settings", [MERGE, SQUASH, REBASE], ids=lambda settings: settings.method)
TITLE = Title(ChangeId(12), "Teach it to count", "ann", 1_767_700_000.9)
GATE = "trunkgate <gate@localhost> 1767700000 +0000"

Files = Mapping[str, str | bytes | None]


def land(repository: Repository, onto: str, head: str, settings: Merge = MERGE, **more: object) -> Joined | Reason:
    return merge_change(PlainGit(repository.git_dir), Sha(onto), Sha(head), settings=settings, title=TITLE, **more)  # type: ignore[arg-type]


def joined(repository: Repository, onto: str, head: str, settings: Merge = MERGE, **more: object) -> Joined:
    found = land(repository, onto, head, settings, **more)
    assert isinstance(found, Joined), found
    assert repository.tree(found.commit) == found.tree
    return found


def refused(repository: Repository, onto: str, head: str, settings: Merge = MERGE, **more: object) -> Reason:
    found = land(repository, onto, head, settings, **more)
    assert isinstance(found, Reason), found
    return found


def fork(repository: Repository, topic: list[Files], trunk: list[Files]) -> tuple[str, str]:
    """A topic and a trunk that went apart at the first commit. Returns (onto, head), with trunk checked out."""
    repository.git("checkout", "-q", "-B", "topic", "main")
    for number, files in enumerate(topic):
        repository.commit(f"topic {number}", files)
    repository.git("checkout", "-q", "main")
    for number, files in enumerate(trunk):
        repository.commit(f"trunk {number}", files)
    return repository.head("main"), repository.head("topic")


def log(repository: Repository, commit: str, form: str, *more: str) -> list[str]:
    return repository.git("log", f"--format={form}", commit, *more).split("\n")


# --- the tree is git's own --------------------------------------------------------------------------------------------

LINES = "".join(f"line {number}\n" for number in range(40))
CASES: dict[str, tuple[list[Files], list[Files]]] = {
    "separate files": ([{"new.py": "1"}, {"src/a.py": "A = 2\n"}], [{"README.md": "trunk\n"}]),
    "one file, far apart": ([{"src/long.py": f"first\n{LINES}"}], [{"src/b.py": "B = 2\n"}]),
    "a file renamed on trunk": ([{"src/a.py": f"A = 1\n{LINES}"}], [{"src/b.py": None, "src/c.py": "B = 1\n"}]),
    "a file deleted by the change": ([{"src/a.py": None}], [{"src/b.py": "B = 2\n"}]),
    "a fix of its own first commit": ([{"x": "1"}, {"x": "2"}, {"x": "3"}], [{"y": "1"}]),
    "one commit that is on trunk already": ([{"x": "1"}, {"y": "1"}], [{"x": "1"}]),
    "hostile names": (
        [{"-rf": "1", "a b/'\"\n.py": "2", "$(id)": "3"}, {"-rf": "4"}],
        [{"--output=x": "1", "a b/other": "2"}],
    ),
}


@METHODS
@pytest.mark.parametrize("case", CASES)
def test_the_tree_is_the_one_that_git_makes(repository: Repository, tmp_path: Path, case: str, settings: Merge) -> None:
    onto, head = fork(repository, *CASES[case])
    clone = repository.copy(tmp_path / "clone")
    if settings is REBASE:
        clone.git("checkout", "-q", "topic")
        clone.git("rebase", "-q", "main")
    else:
        clone.git("merge", "-q", "--no-ff", "--no-edit", "topic")
    found = joined(repository, onto, head, settings)
    assert found.tree == clone.tree()
    if settings is REBASE:
        assert log(repository, found.commit, "%s %an %ad %T", f"^{onto}") == log(clone, "HEAD", "%s %an %ad %T", f"^{onto}")


@METHODS
@pytest.mark.parametrize("renames", ["conflict", "true", "false"])
def test_a_renamed_directory_is_followed_as_configured(
    repository: Repository, tmp_path: Path, renames: str, settings: Merge
) -> None:
    repository.commit("two long files", {"old/a.py": LINES, "old/b.py": LINES * 2})
    trunk: Files = {"old/a.py": None, "old/b.py": None, "new/a.py": LINES, "new/b.py": LINES * 2}
    onto, head = fork(repository, [{"old/added.py": "1"}], [trunk])
    configured = replace(settings, directory_renames=renames)
    if renames == "conflict":
        reason = refused(repository, onto, head, configured)
        assert (reason.why, set(reason.paths)) == (Why.CONFLICT, {"new/added.py", "old/added.py"})
        assert "file location" in reason.detail
        return
    clone = repository.copy(tmp_path / "clone")
    clone.git("-c", f"merge.directoryRenames={renames}", "merge", "-q", "--no-edit", "topic")
    assert joined(repository, onto, head, configured).tree == clone.tree()
    assert bool(clone.run("cat-file", "-e", "HEAD:new/added.py").returncode) is (renames == "false")


def test_links_and_submodules_go_through_and_nothing_is_written_beside_the_repository(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("checkout", "-q", "-b", "topic")
    (repository.path / "link").symlink_to("/etc/passwd")
    (repository.path / "up").symlink_to("../../outside")
    repository.git("add", "-A")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{repository.head()},sub")
    repository.git("commit", "-q", "-m", "links")
    head = repository.head()
    onto = repository.git("commit-tree", "-p", "main", "-m", "trunk", repository.tree("main^{}"))
    found = joined(repository, onto, head)
    listed = repository.git("ls-tree", found.commit)
    assert [line.split()[0] for line in listed.splitlines() if line.endswith(("link", "up", "sub"))] == [
        "120000",
        "160000",
        "120000",
    ]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["repo"]


@METHODS
@pytest.mark.parametrize("name", ["..", ".git", "."])
def test_a_tree_with_a_name_that_leads_elsewhere_touches_nothing(
    repository: Repository, tmp_path: Path, name: str, settings: Merge
) -> None:
    """Such a tree gets in only where receive.fsckObjects is off. It stays data: an answer or a clear end, no file."""
    blob = repository.git("rev-parse", "HEAD:README.md")
    below = bytes.fromhex(repository.git("mktree", stdin=f"100644 blob {blob}\tpwned\n".encode()))
    raw = b"40000 %b\0%b" % (name.encode(), below)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    head = repository.git("commit-tree", "-p", "HEAD", "-m", "hostile", tree)
    onto = repository.commit("trunk", {"new": "1"})
    before = sorted(str(file) for file in tmp_path.rglob("*") if "objects" not in file.parts)
    found = land(repository, onto, head, settings)
    assert isinstance(found, (Joined, Reason))
    assert sorted(str(file) for file in tmp_path.rglob("*") if "objects" not in file.parts) == before
    assert changed_paths(PlainGit(repository.git_dir), Sha(onto), Sha(head)) >= {f"{name}/pwned"}


# --- commits ------------------------------------------------------------------------------------------------------------


def test_a_landing_by_merge_says_what_landed(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}], [{"y": "1"}])
    found = joined(repository, onto, head)
    assert repository.git("cat-file", "commit", found.commit) == (
        f"tree {found.tree}\nparent {onto}\nparent {head}\nauthor {GATE}\ncommitter {GATE}\n\n"
        "Merge change 12: Teach it to count\n\nChange: 12\nSubmitted-by: ann"
    )


def test_a_change_right_on_top_of_trunk_is_still_merged(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}], [])
    found = joined(repository, onto, head)
    assert log(repository, found.commit, "%P", "-1") == [f"{onto} {head}"]
    assert found.tree == repository.tree(head)


@METHODS
def test_the_same_input_gives_the_same_commit(repository: Repository, tmp_path: Path, settings: Merge) -> None:
    onto, head = fork(repository, [{"x": "1"}, {"z": "1"}], [{"y": "1"}])
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    elsewhere = repository.copy(tmp_path / "elsewhere")
    found = joined(repository, onto, head, settings)
    assert found == joined(repository, onto, head, settings)
    assert found == joined(elsewhere, onto, head, settings, onto_tree=Sha(repository.tree(onto)))
    through_the_other_door = merge_change(ServerGit(elsewhere.git_dir), Sha(onto), Sha(head), settings=settings, title=TITLE)
    assert found == through_the_other_door


def test_nobody_adds_a_trailer_by_a_newline(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}], [{"y": "1"}])
    title = replace(TITLE, subject="a\n\nApproved-by: root", by="ann\nApproved-by: \udcffroot")
    found = merge_change(PlainGit(repository.git_dir), Sha(onto), Sha(head), settings=MERGE, title=title)
    assert isinstance(found, Joined)
    trailers = log(repository, found.commit, "%(trailers:key=Approved-by)", "-1")
    assert "".join(trailers) == ""


def test_a_squashed_commit_keeps_its_author_message_and_sign_off(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "topic")
    trailers = "Reviewed-by: Zoë <z@example.org>\nSigned-off-by: Bob <b@example.org>"
    message = f"Count\n\nWhy: it matters.\n---\nnot a divider\n\n{trailers}"
    repository.commit(message, {"x": "1"}, GIT_AUTHOR_NAME="Bob", GIT_AUTHOR_DATE="2026-01-02T03:04:05+05:30")
    head = repository.head()
    repository.git("checkout", "-q", "main")
    onto = repository.commit("trunk", {"y": "1"})
    found = joined(repository, onto, head, SQUASH)
    assert repository.git("cat-file", "commit", found.commit) == (
        f"tree {found.tree}\nparent {onto}\nauthor Bob <ann@example.org> 1767303245 +0530\ncommitter {GATE}\n\n"
        f"{message}\nChange: 12\nSubmitted-by: ann"
    )


def test_several_commits_squashed_name_everybody_once(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "topic")
    sign = "\n\nSigned-off-by: Bob <b@example.org>"
    for subject, author in (("one", "Bob"), ("two", "Ann"), ("three", "Bob"), ("four", "Cid")):
        message = subject + sign + ("\nCo-authored-by: cid <C@example.org>" if subject == "two" else "")
        repository.commit(message, {subject: "1"}, GIT_AUTHOR_NAME=author, GIT_AUTHOR_EMAIL=f"{author[0]}@example.org")
    found = joined(repository, repository.head("main"), repository.head(), SQUASH)
    assert log(repository, found.commit, "%an%n%B", "-1") == [
        "Bob",
        "Teach it to count",
        "",
        "* one",
        "* two",
        "* three",
        "* four",
        "",
        "Signed-off-by: Bob <b@example.org>",
        "Co-authored-by: cid <C@example.org>",
        "Co-authored-by: Ann <A@example.org>",
        "Change: 12",
        "Submitted-by: ann",
        "",
    ]


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "no-such-encoding"])
def test_a_rebased_commit_keeps_its_message_byte_by_byte(repository: Repository, encoding: str) -> None:
    base = repository.head()
    onto = repository.commit("trunk", {"y": "1"})
    repository.git("checkout", "-q", "-b", "topic", base)
    repository.commit("x", {"x": "1"})
    raw = (
        f"tree {repository.tree()}\nparent {base}\nauthor Zo\xeb, .x. <z@example.org> 1767303245 -0330\n"
        f"committer Zo\xeb <z@example.org> 1767303246 -0330\nencoding {encoding}\n\n"
        "  odd \n\n\n\nbody \xe9\n\n\nSigned-off-by: Zo\xeb\n\n"
    ).encode("latin-1")
    head = repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
    found = joined(repository, onto, head, REBASE)
    landed = repository.run("cat-file", "commit", found.commit).stdout
    expected = raw.replace(repository.tree().encode(), found.tree.encode()).replace(base.encode(), onto.encode())
    assert landed == expected.replace("Zo\xeb <z@example.org> 1767303246 -0330".encode("latin-1"), GATE.encode())
    squashed = joined(repository, onto, head, SQUASH)
    assert ("Zoë" in log(repository, squashed.commit, "%an", "-1")[0]) is (encoding == "ISO-8859-1")


def test_commits_in_their_place_already_stay_as_they_are(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}, {"z": "1"}], [])
    assert joined(repository, onto, head, REBASE).commit == head


@pytest.mark.parametrize("settings", [SQUASH, REBASE], ids=lambda settings: settings.method)
def test_a_message_with_a_nul_byte_is_no_trouble(repository: Repository, settings: Merge) -> None:
    base = repository.head()
    onto = repository.commit("trunk", {"y": "1"})
    head, readme = base, repository.git("rev-parse", f"{base}:README.md")
    for number in (1, 2):
        listed = repository.git("ls-tree", base) + f"\n100644 blob {readme}\tn{number}\n"
        tree = repository.git("mktree", stdin=listed.encode())
        raw = f"tree {tree}\nparent {head}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\none\0two {number}\n\nX: y\n"
        head = repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode())
    found = joined(repository, onto, head, settings)
    assert repository.git("diff", "--name-status", onto, found.commit) == "A\tn2"


def test_what_is_empty_after_the_rebase_is_dropped(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}, {"z": "1"}, {}], [{"x": "1"}])
    found = joined(repository, onto, head, REBASE)
    assert log(repository, found.commit, "%s", f"^{onto}") == ["topic 1"]


# --- what is not landed -------------------------------------------------------------------------------------------------


@METHODS
def test_a_conflict_names_the_files_and_says_what_git_says(repository: Repository, settings: Merge) -> None:
    odd = "src/n\nl.py"
    repository.commit("odd", {odd: "1\n"})
    topic: Files = {"src/a.py": "topic\n", odd: "topic\n", "src/b.py": None, "fine": "1"}
    onto, head = fork(repository, [topic], [{"src/a.py": "trunk\n", odd: "trunk\n", "src/b.py": "B = 7\n"}])
    reason = refused(repository, onto, head, settings)
    assert (reason.why, reason.paths) == (Why.CONFLICT, ("src/a.py", "src/b.py", odd))
    assert "Merge conflict in src/a.py" in reason.detail
    assert "deleted in the change" in reason.detail
    assert "modified in trunk" in reason.detail
    assert "\n" not in reason.detail
    if settings is REBASE:
        assert head[:12] in reason.detail


@METHODS
@pytest.mark.parametrize("how", ["merged", "the same files", "undone by itself", "trunk itself"])
def test_a_change_that_trunk_contains_is_nothing_to_do(repository: Repository, how: str, settings: Merge) -> None:
    match how:
        case "merged":
            onto, head = fork(repository, [{"x": "1"}], [])
            onto = joined(repository, onto, head).commit
        case "the same files":
            onto, head = fork(repository, [{"x": "1"}], [{"x": "1"}, {"y": "1"}])
        case "undone by itself":
            onto, head = fork(repository, [{"x": "1"}, {"x": None}], [{"y": "1"}])
        case _:
            onto = head = repository.head()
    assert refused(repository, onto, head, settings).why is Why.NOTHING_TO_DO


@METHODS
def test_unrelated_history_is_refused(repository: Repository, settings: Merge) -> None:
    head = repository.git("commit-tree", "-m", "root", repository.tree())
    assert refused(repository, repository.head(), head, settings).why is Why.UNRELATED


def test_a_change_with_merges_is_not_rebased_but_can_be_squashed(repository: Repository) -> None:
    _, _ = fork(repository, [{"x": "1"}], [{"y": "1"}])
    repository.git("checkout", "-q", "topic")
    repository.git("merge", "-q", "--no-edit", "main")
    head = repository.commit("after", {"z": "1"})
    repository.git("checkout", "-q", "main")
    onto = repository.commit("more", {"w": "1"})
    reason = refused(repository, onto, head, REBASE)
    assert reason.why is Why.MERGE_COMMITS
    assert "squash" in reason.detail
    assert repository.git("diff", "--name-only", onto, joined(repository, onto, head, SQUASH).commit) == "x\nz"


@METHODS
def test_a_commit_that_does_not_exist_is_trouble_and_no_reason(repository: Repository, settings: Merge) -> None:
    with pytest.raises(GitFailed):
        land(repository, repository.head(), "1" * 40, settings)


def test_settings_that_mean_nothing_are_an_error(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}], [])
    for wrong in (Merge(method="fold"), Merge(committer="nobody"), Merge(committer="a\nb <c>")):
        with pytest.raises(UserError, match="merge"):
            land(repository, onto, head, wrong)


# --- signed -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, env=git_env())
    return path


def sign_topic(repository: Repository, key: Path) -> tuple[str, str]:
    base = repository.head()
    onto = repository.commit("trunk", {"y": "1"})
    repository.git("checkout", "-q", "-b", "topic", base)
    repository.write("x", "1")
    repository.git("add", "-A")
    signing = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}")
    repository.git(*signing, "commit", "-q", "-S", "-m", "signed\n\nSigned-off-by: A <a@example.org>")
    assert "gpgsig" in repository.git("cat-file", "commit", "HEAD")
    return onto, repository.head()


def test_a_signed_commit_is_merged_untouched(repository: Repository, key: Path) -> None:
    onto, head = sign_topic(repository, key)
    assert log(repository, joined(repository, onto, head).commit, "%P", "-1") == [f"{onto} {head}"]


def test_a_signed_commit_in_its_place_keeps_its_signature(repository: Repository, key: Path) -> None:
    _, head = sign_topic(repository, key)
    assert joined(repository, repository.head("topic^"), head, REBASE).commit == head


@pytest.mark.parametrize("settings", [SQUASH, REBASE], ids=lambda settings: settings.method)
def test_a_signed_commit_is_not_rewritten_unless_the_gate_signs(repository: Repository, key: Path, settings: Merge) -> None:
    onto, head = sign_topic(repository, key)
    reason = refused(repository, onto, head, settings)
    assert reason.why is Why.SIGNED_COMMITS
    assert head[:12] in reason.detail
    resign = replace(settings, signed="resign")
    assert "user.signingKey" in refused(repository, onto, head, resign).detail
    repository.git("config", "gpg.format", "ssh")
    repository.git("config", "user.signingKey", str(key))
    assert refused(repository, onto, head, settings) == reason  # a key alone is no permission
    found = joined(repository, onto, head, resign)
    assert found == joined(repository, onto, head, resign)
    raw = repository.git("cat-file", "commit", found.commit)
    assert f"\nauthor Ann Author <ann@example.org> 1767614400 +0000\ncommitter {GATE}\ngpgsig -----BEGIN SSH" in raw
    assert "signed\n\nSigned-off-by: A <a@example.org>" in raw


# --- stacked ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SQUASH, REBASE], ids=lambda settings: settings.method)
def test_a_change_on_top_of_another_adds_only_its_own_commits(repository: Repository, settings: Merge) -> None:
    """Also where both edit the same lines, and the lower one is on trunk as another commit by now."""
    onto, upper = fork(repository, [{"src/a.py": "A = 2\n"}, {"src/a.py": "A = 3\n", "u": "1"}], [{"y": "1"}])
    lower = repository.head("topic^")
    onto = joined(repository, onto, lower, settings).commit
    found = joined(repository, onto, upper, settings, exclude=[Sha(lower)])
    assert repository.git("diff", "--name-only", onto, found.commit) == "src/a.py\nu"
    assert repository.git("show", f"{found.commit}:src/a.py") == "A = 3"
    assert log(repository, found.commit, "%s", f"^{onto}") == ["topic 1"]


# --- questions about history ----------------------------------------------------------------------------------------------


def test_changed_paths_are_those_of_the_change_alone(repository: Repository) -> None:
    topic: list[Files] = [{"src/a.py": None, "src/moved.py": "A = 1\n"}, {"n\nl": "1"}]
    onto, head = fork(repository, topic, [{"y": "1"}])
    git = PlainGit(repository.git_dir)
    assert changed_paths(git, Sha(onto), Sha(head)) == {"src/a.py", "src/moved.py", "n\nl"}
    assert changed_paths(git, Sha(head), Sha(head)) == frozenset()
    landed = joined(repository, onto, head).commit
    assert changed_paths(git, Sha(onto), landed) == {"src/a.py", "src/moved.py", "n\nl"}


def test_a_change_is_read_with_its_paths_and_lines(repository: Repository) -> None:
    base = repository.commit("Base", {"a": "1\n2\n3\n", "gone": "1\n2\n", "moved": "1\n"})
    (repository.path / "gone").unlink()
    (repository.path / "moved").rename(repository.path / "t\tab\nnl")
    (repository.path / "link").symlink_to("a")
    repository.write("bin", "\0" * 100)
    repository.write("huge", "line\n" * 200_000)
    repository.write("empty", "")
    first = repository.commit("One", {"a": "1\nz\n3\n"})
    second = repository.commit("Back again", {"a": "1\n2\n3\n"})
    found = read_change(PlainGit(repository.git_dir), Sha(base), Sha(second))
    assert found.commits == (second, first)
    assert found.paths == {"a", "gone", "moved", "t\tab\nnl", "link", "bin", "huge", "empty"}
    assert found.lines == 2 + 1 + 1 + 1  # gone; moved, and where to; the link
    repository.commit("Many", {f"many/{number}": "1\n" for number in range(MOST_COUNTED + 1)})
    assert read_change(PlainGit(repository.git_dir), Sha(second), Sha(repository.head())).lines is None


def test_changed_paths_of_histories_that_crossed_miss_nothing(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}], [{"y": "1"}])
    tree = repository.git("merge-tree", "--write-tree", onto, head)
    one, two = (
        repository.git("commit-tree", "-p", first, "-p", second, "-m", "cross", tree)
        for first, second in ((onto, head), (head, onto))
    )
    repository.git("checkout", "-q", "--detach", two)
    top = repository.commit("top", {"z": "1"})
    assert changed_paths(PlainGit(repository.git_dir), Sha(one), Sha(top)) == {"x", "y", "z"}


def test_changed_paths_of_unrelated_history_are_all_of_it(repository: Repository) -> None:
    head = repository.git("commit-tree", "-m", "root", repository.tree())
    found = changed_paths(PlainGit(repository.git_dir), Sha(repository.head()), Sha(head))
    assert found == {"README.md", "src/a.py", "src/b.py"}


def test_a_gitmodules_file_cannot_hide_a_changed_submodule(repository: Repository) -> None:
    heads = [repository.head(), repository.commit("another")]
    commits = []
    for target in heads:
        repository.write(".gitmodules", '[submodule "m"]\n\tpath = m\n\turl = ./m\n\tignore = all\n')
        repository.git("add", ".gitmodules")
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{target},m")
        repository.git("commit", "-q", "-m", "submodule")
        commits.append(Sha(repository.head()))
    assert changed_paths(PlainGit(repository.git_dir, repository.path), *commits) == {"m"}


def test_commits_between_come_oldest_first_without_the_excluded(repository: Repository) -> None:
    onto, head = fork(repository, [{"x": "1"}, {"x": "2"}, {"x": "3"}], [{"y": "1"}])
    commits = tuple(repository.head(f"topic{back}") for back in ("~2", "~1", ""))
    git = PlainGit(repository.git_dir)
    assert commits_between(git, Sha(onto), Sha(head)) == commits
    assert commits_between(git, Sha(onto), Sha(head), [Sha(commits[0])]) == commits[1:]
    assert commits_between(git, Sha(head), Sha(onto)) == (onto,)
    assert commits_between(git, Sha(head), Sha(head)) == ()


def test_a_merge_starts_git_twice(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    onto, head = fork(repository, [{"x": "1"}], [{"y": "1"}])
    tree = Sha(repository.tree(onto))
    started = []
    run = subprocess.run

    def counted(words: list[str], **options: object) -> object:
        started.append(words)
        return run(words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counted)
    assert isinstance(land(repository, onto, head, onto_tree=tree), Joined)
    assert len(started) == 2
