"""gate install and gate uninstall: real commits and pushes through what is installed, and what becomes of others' hooks."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fakes.repositories import IDENTITY, Repository, bound_by_modes, git_env
from fakes.stand import wait_for
from hooks.install import COMMANDS, MARKER, Did, Refusal, Seen, Step, _is_pythons, decide, is_ours, script, served
from hooks.main import LOCAL_COMMANDS

GATE = Path(sys.executable).with_name("gate")
PROJECT = Path(__file__).parents[2]

RULES = """
    [message]
    pattern = "^[A-Z]"

    [[check]]
    name = "todo"
    command = "! grep -n TODO {files}"
    stage = "pre-commit"
    inputs = ["*.py"]
"""

# A hook of somebody else's, that tells of each of its calls.
TELLS = '#!/bin/sh\necho "theirs $*" >> "{told}"\n'


class Clone:
    """A developer's repository with a gate.toml, and the words to install hooks and to commit."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.path = repository.path
        self.hooks = repository.path / ".git/hooks"
        self.told = repository.path.with_name("told")

    def gate(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        run = [GATE, *words]
        return subprocess.run(run, cwd=cwd or self.path, env=git_env(**env), capture_output=True, text=True, check=False)

    def install(self, *words: str, cwd: Path | None = None, **env: str) -> dict[str, str]:
        """What was done about each hook, in one word."""
        return self._did("install", *words, cwd=cwd, **env)

    def uninstall(self, *words: str) -> dict[str, str]:
        return self._did("uninstall", *words)

    def _did(self, *words: str, cwd: Path | None = None, **env: str) -> dict[str, str]:
        done = self.gate(*words, "--json", cwd=cwd, **env)
        assert done.returncode == 0, done.stderr
        return {each["type"]: each["did"] for each in json.loads(done.stdout)["hooks"]}

    def refused(self, *words: str, **env: str) -> str:
        done = self.gate("install", *words, **env)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    def theirs(self, kind: str, content: str = TELLS, *, mode: int = 0o755) -> Path:
        """A hook that was there before us."""
        self.hooks.mkdir(exist_ok=True)
        hook = self.hooks / kind
        hook.write_text(content.format(told=self.told))
        hook.chmod(mode)
        return hook

    def pretend(self, line: str) -> None:
        """Have the installed hooks call a program of this one line instead of gate."""
        program = self.path.with_name("pretended")
        program.write_text(f"import os, sys\nos.execv('/bin/sh', ['sh', '-c', {line!r}, 'sh', *sys.argv[1:]])\n")
        program.chmod(0o755)
        for kind in COMMANDS:
            hook = self.hooks / kind
            hook.write_text(hook.read_text().replace(f"gate={GATE}\n", f"gate={program}\n"))
            assert str(program) in hook.read_text()

    def heard(self) -> list[str]:
        """What their hooks told of since we last asked."""
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        self.told.unlink(missing_ok=True)
        return lines

    def names(self) -> set[str]:
        return {path.name for path in self.hooks.iterdir() if path.suffix != ".sample"} if self.hooks.exists() else set()

    def commit(self, content: str = "A = 2\n", *words: str, **env: str) -> tuple[int, str]:
        """Stage src/a.py with this content, commit, and return the exit code and what was said."""
        return commit(self.path, content, *words, env=git_env(**env))

    def is_checked(self) -> bool:
        """Whether a commit of bad content is refused by the check, and one of good content is not."""
        return is_checked(self.path)


def commit(folder: Path, content: str, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    (folder / "src/a.py").write_text(content)
    line = ["git", "commit", "-a", "-m", "Work", *words]
    done = subprocess.run(
        line, cwd=folder, env=env or git_env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def is_checked(folder: Path, env: Mapping[str, str] | None = None) -> bool:
    code, said = commit(folder, "A = 1  # TODO\n", env=env)
    assert code == 0 or "todo  RED" in said, said
    good, said = commit(folder, f"A = {os.urandom(8).hex()!r}\n", env=env)
    assert good == 0, said
    return code == 1


@pytest.fixture
def clone(repository: Repository) -> Clone:
    repository.commit("Rules", {"gate.toml": textwrap.dedent(RULES)})
    return Clone(repository)


# --- what is decided -----------------------------------------------------------------------------------------------------

OURS = script("pre-commit", Path("/x/gate"), Path("/x/python"))
OLDER = script("pre-commit", Path("/old/gate"), Path("/old/python"))
SHIM = b"#!/bin/sh\n# File generated by prek: https://github.com/j178/prek\n"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(), Did.WRITTEN),
        (Seen(OURS, is_there=True, is_executable=True), Did.UNCHANGED),
        (Seen(OURS, is_there=True, is_executable=False), Did.RENEWED),
        (Seen(OLDER, is_there=True, is_executable=True), Did.RENEWED),
        (Seen(b"#!/bin/sh\n", is_there=True), Did.CHAINED),
        (Seen(None, is_there=True), Did.CHAINED),  # a dangling link, or one that only its owner may read
        (Seen(SHIM, is_there=True), Did.CHAINED),
        (Seen(SHIM, is_there=True, covered_by="prek.toml"), Did.LEFT),
        (Seen(SHIM, is_there=True, aside=".legacy"), Did.LEFT),
        (Seen(b"#!/bin/sh\nexec gate check\n", is_there=True), Did.LEFT),
        (Seen(b"#!/bin/sh\n# no gate check here\n", is_there=True), Did.CHAINED),
        (Seen(b"#!/bin/sh\nexec gate message\n", is_there=True), Did.CHAINED),
        (Seen(before=b"", before_is_there=True), Did.WRITTEN),
        (Seen(b"", b"", is_there=True, before_is_there=True, is_half_done=True), Did.CHAINED),
        (Seen(b"#!/bin/sh\n", b"#!/bin/sh\n", is_there=True, before_is_there=True), None),
        (Seen(None, is_there=True, is_file=False), None),
        (Seen(OURS, SHIM, is_there=True, before_is_there=True, is_executable=True, covered_by="prek.toml"), Did.RESTORED),
        (Seen(b'#!/bin/sh\nexec "/opt/gate" check\n', is_there=True), Did.LEFT),
    ],
)
def test_what_is_there_decides_what_is_done(seen: Seen, expected: Did | None) -> None:
    step = decide("pre-commit", seen, OURS)
    assert (step.did if isinstance(step, Step) else None) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('HERE="$(cd "$(dirname "$0")" && pwd)"', True),
        ('. "${0%/*}/common"', True),
        ('printf "remove this hook by deleting the \'pre-push\' file in the hooks directory"; git lfs pre-push "$@"', True),
        ('exec ../../scripts/$(basename "$0")', False),
        ("exec ../../scripts/${0##*/}", False),
        ('run "$(basename -- "${BASH_SOURCE[0]}")"', False),
        ("name = os.path.basename(__file__)", False),
        ("name = Path(sys.argv[0]).name", False),
        ("hook = File.basename($0)", False),
        ('. "$(dirname "$0")/h"', False),
        ('. "$(dirname "$0")/husky.sh"', False),
    ],
)
def test_a_hook_that_acts_by_its_name_is_not_renamed(line: str, expected: bool) -> None:
    step = decide("pre-commit", Seen(f"#!/bin/sh\n{line}\n".encode(), is_there=True), OURS)
    assert isinstance(step, Step) is expected
    if isinstance(step, Refusal):
        assert 'add a line to it: gate check "$@" || exit' in step.why


def test_a_hook_is_served_once_its_command_is_there() -> None:
    assert list(served({"check", "message", "push", "status"})) == [
        "pre-commit",
        "pre-merge-commit",
        "commit-msg",
        "pre-push",
    ]
    assert list(served({"check", "background"})) == ["pre-commit", "pre-merge-commit", "post-commit", "post-rewrite"]
    assert served(LOCAL_COMMANDS) == COMMANDS


def test_ours_is_known_by_its_mark_in_the_second_line() -> None:
    assert all(is_ours(script(kind, GATE, Path(sys.executable))) for kind in COMMANDS)
    assert not is_ours(b"#!/bin/sh\necho hello\n" + MARKER.encode())
    assert not is_ours(None)


# --- installing, and taking away ------------------------------------------------------------------------------------------


def test_an_installed_hook_checks_what_is_committed(clone: Clone) -> None:
    assert clone.install() == dict.fromkeys(COMMANDS, "written")
    assert clone.names() == set(COMMANDS)
    assert clone.is_checked()
    code, said = clone.commit("A = 3\n", "-m", "more", "--cleanup=verbatim", "--allow-empty-message", "-m", "")
    assert code == 0, said


def test_the_message_is_judged_and_no_verify_passes_everything(clone: Clone) -> None:
    clone.install()
    clone.repository.write("src/a.py", "TODO\n")
    done = clone.repository.run("commit", "-a", "-m", "lower case", "--no-verify")
    assert done.returncode == 0
    clone.repository.write("src/a.py", "A = 3\n")
    done = clone.repository.run("commit", "-a", "-m", "lower case")
    assert done.returncode == 1
    assert b"[message] pattern" in done.stderr


def test_a_push_to_trunk_is_stopped(clone: Clone, tmp_path: Path) -> None:
    bare = clone.repository.clone(tmp_path / "central.git", bare=True)
    clone.repository.git("remote", "add", "origin", str(bare.path))
    clone.repository.git("fetch", "-q", "origin")
    clone.install()
    clone.repository.commit("Work", {"w.txt": "w\n"})
    stopped = clone.repository.run("push", "origin", "HEAD:main")
    assert stopped.returncode == 1
    assert b"git push origin HEAD:refs/for/main" in stopped.stderr
    assert clone.repository.run("push", "origin", "HEAD:topic").returncode == 0
    assert clone.repository.run("push", "origin", "HEAD:topic").returncode == 0  # nothing to push


def test_a_merge_without_conflict_is_checked_too(clone: Clone) -> None:
    clone.install()
    clone.repository.git("checkout", "-q", "-b", "topic")
    clone.repository.commit("Unchecked", {"src/c.py": "TODO\n"})
    clone.repository.git("checkout", "-q", "main")
    clone.repository.commit("Meanwhile", {"src/b.py": "B = 2\n"})
    merged = clone.repository.run("merge", "--no-edit", "topic")
    assert merged.returncode == 1
    assert b"todo  RED" in merged.stdout + merged.stderr
    clone.repository.write("src/c.py", "C = 1\n")
    clone.repository.git("add", "src/c.py")
    clone.repository.git("commit", "-q", "--no-edit")
    assert clone.repository.git("rev-list", "--count", "--merges", "HEAD") == "1"


def test_a_program_that_is_no_script_of_python_starts_by_itself(clone: Clone, tmp_path: Path) -> None:
    """As packagers make one that sets variables first."""
    wrapper, long = tmp_path / "gate", tmp_path / "long"
    wrapper.write_text(f'#!/bin/sh\nexec "{GATE}" "$@"\n')
    wrapper.chmod(0o755)
    long.write_text("#!/bin/sh\n" + "'" * 3 + 'exec\' /a/long/path/python "$0" "$@"\n')
    assert [_is_pythons(each) for each in (GATE, wrapper, long, tmp_path / "gone")] == [True, False, True, False]
    clone.install()
    (clone.hooks / "pre-commit").write_bytes(script("pre-commit", wrapper, Path(sys.executable)))
    code, said = clone.commit()
    assert code == 0, said


def test_the_hook_tells_the_command_which_it_is(clone: Clone) -> None:
    """hooks/local.py asks for GATE_HOOK. A hook that was there before does not get it: it may call gate itself."""
    clone.theirs("commit-msg", '#!/bin/sh\necho "theirs $GATE_HOOK" >> "{told}"\n')
    clone.install()
    clone.pretend(f'echo "$GATE_HOOK: $*" >> "{clone.told}"')
    assert clone.commit()[0] == 0
    assert clone.heard()[:3] == ["pre-commit: check", "theirs ", "commit-msg: message .git/COMMIT_EDITMSG"]


def test_a_branch_without_a_gate_toml_is_not_checked(clone: Clone) -> None:
    """The hooks are the clone's, the configuration is the branch's."""
    clone.install()
    clone.repository.git("rm", "-q", "gate.toml")
    code, said = clone.commit("A = 1  # TODO\n")
    assert code == 0, said
    clone.repository.git("checkout", "-q", "HEAD~")
    assert clone.is_checked()
    (clone.path / "gate.toml").unlink()  # staged it is
    clone.repository.write("src/a.py", "TODO\n")
    clone.repository.git("add", "src/a.py")
    refused = clone.repository.run("commit", "-m", "Work")
    assert refused.returncode == 1
    assert b"todo  RED" in refused.stdout + refused.stderr


def test_checks_for_the_gate_alone_are_no_news_at_each_commit(clone: Clone) -> None:
    clone.install()
    clone.repository.write("gate.toml", '[[check]]\nname = "unit"\ncommand = "true"\n')
    for content in ("A = 2\n", "A = 3\n"):  # the second commit finds kept how the checks were chosen
        code, said = clone.commit(content, "-q")
        assert (code, said) == (0, "")
    clone.repository.write("src/a.py", "A = 4\n")
    clone.repository.git("add", "src/a.py")
    assert clone.gate("check").stdout == "no check for this stage in gate.toml (gate config show: the stage of each)\n"


@pytest.mark.parametrize("words", [("-N",), ()], ids=["with intent", "not at all"])
def test_a_gate_toml_that_nobody_has_added_stops_no_commit(clone: Clone, words: tuple[str, ...]) -> None:
    clone.install()
    clone.repository.git("rm", "-q", "--cached", "gate.toml")
    if words:
        clone.repository.git("add", *words, "gate.toml")
    clone.repository.write("src/a.py", "A = 1  # TODO\n")
    clone.repository.git("add", "src/a.py")
    done = clone.repository.run("commit", "-m", "Work")
    assert done.returncode == 0, done.stderr
    assert b"gate.toml is there and not staged: git add gate.toml; nothing was checked" in done.stdout + done.stderr


@pytest.mark.parametrize("how", ["link", "call"])
def test_a_merge_hook_that_is_the_pre_commit_hook_is_enough(clone: Clone, how: str) -> None:
    """A link would lead to ours then, and be taken for ours."""
    clone.theirs("pre-commit")
    merges = clone.hooks / "pre-merge-commit"
    if how == "link":
        merges.symlink_to("pre-commit")
    else:  # as in git's own sample
        clone.theirs("pre-merge-commit", '#!/bin/sh\nexec "$GIT_DIR/hooks/pre-commit"\n')
    is_there = merges.readlink if how == "link" else merges.read_bytes
    before = is_there()
    for _ in range(2):
        assert clone.install()["pre-merge-commit"] == "left"
    assert clone.uninstall("--hook-type", "pre-merge-commit") == {"pre-merge-commit": "left"}
    assert is_there() == before
    done = subprocess.run([merges], cwd=clone.path, env=git_env(GIT_DIR=str(clone.path / ".git")), check=False)
    assert done.returncode == 0
    assert clone.heard() == ["theirs "]
    assert clone.uninstall()["pre-commit"] == "restored"
    assert is_there() == before


def test_installing_twice_changes_nothing(clone: Clone) -> None:
    clone.theirs("pre-commit")
    clone.install()
    before = {path.name: (path.read_bytes(), path.stat()) for path in clone.hooks.iterdir()}
    assert clone.install() == dict.fromkeys(COMMANDS, "unchanged")
    assert {path.name: (path.read_bytes(), path.stat()) for path in clone.hooks.iterdir()} == before


def test_only_what_was_asked_for_is_installed_and_taken_away(clone: Clone) -> None:
    assert clone.install("--hook-type", "pre-push", "--hook-type", "commit-msg") == {
        "pre-push": "written",
        "commit-msg": "written",
    }
    assert clone.uninstall("--hook-type", "pre-push") == {"pre-push": "removed"}
    assert clone.names() == {"commit-msg"}
    assert clone.uninstall() == {kind: "removed" if kind == "commit-msg" else "absent" for kind in COMMANDS}
    assert clone.names() == set()
    assert clone.gate("install", "--hook-type", "post-checkout").returncode == 2


def test_a_hook_of_another_installation_is_renewed(clone: Clone) -> None:
    clone.theirs(
        "pre-commit",
        script("pre-commit", Path("/gone/gate"), Path("/gone/python")).decode().replace("{", "{{").replace("}", "}}"),
    )
    clone.hooks.joinpath("commit-msg").write_bytes(script("commit-msg", GATE, Path(sys.executable)))  # not executable
    assert clone.install()["pre-commit"] == "renewed"
    assert os.access(clone.hooks / "commit-msg", os.X_OK)
    assert clone.is_checked()


def test_people_are_told_what_was_done(clone: Clone) -> None:
    clone.theirs("pre-commit")
    clone.theirs("commit-msg", mode=0o644)
    said = clone.gate("install").stdout.splitlines()
    assert said[0] == f"hooks in {clone.hooks}"
    assert "  pre-commit: installed; what was there before runs first, as pre-commit.before-gate" in said
    assert any("commit-msg: installed; what" in line and "it cannot be executed" in line for line in said)
    assert "  pre-push: installed" in said
    assert "  pre-commit: removed; the hook that was there before is back" in clone.gate("uninstall").stdout.splitlines()


# --- hooks of others ------------------------------------------------------------------------------------------------------


def test_a_hook_that_was_there_runs_first_and_comes_back(clone: Clone) -> None:
    theirs = {kind: clone.theirs(kind).read_bytes() for kind in ("pre-commit", "commit-msg")}
    assert clone.install()["pre-commit"] == "chained"
    assert clone.is_checked()
    heard = clone.heard()
    assert heard[0] == "theirs "
    assert heard[-1] == "theirs .git/COMMIT_EDITMSG"
    assert len(heard) == 3  # the second commit's message, too, and no message of the first, which our check has refused
    assert clone.uninstall()["pre-commit"] == "restored"
    assert {kind: (clone.hooks / kind).read_bytes() for kind in theirs} == theirs
    assert clone.names() == set(theirs)
    assert not clone.is_checked()


def test_the_failure_of_a_hook_that_was_there_stops_the_commit_with_its_exit_code(clone: Clone) -> None:
    clone.theirs("pre-commit", "#!/bin/sh\nexit 7\n")
    clone.install()
    code, said = clone.commit("A = 2  # TODO\n")
    assert code == 1
    assert "todo" not in said
    hook = subprocess.run([clone.hooks / "pre-commit"], cwd=clone.path, env=git_env(), check=False)
    assert hook.returncode == 7


@pytest.mark.parametrize("reads", [True, False])
def test_both_hooks_get_what_is_pushed(clone: Clone, tmp_path: Path, reads: bool) -> None:
    bare = clone.repository.clone(tmp_path / "central.git", bare=True)
    clone.repository.git("remote", "add", "origin", str(bare.path))
    clone.repository.git("fetch", "-q", "origin")
    clone.theirs("pre-push", TELLS + ('while read -r line; do echo "read $line" >> "{told}"; done\n' if reads else ""))
    clone.install()
    clone.repository.commit("Work", {"w.txt": "w\n"})
    refs = [f"HEAD:refs/heads/{'x' * 60}-{number}" for number in range(600)]  # more than a pipe holds
    stopped = clone.repository.run("push", "origin", *refs, "HEAD:main")
    assert stopped.returncode == 1
    assert b"main is the trunk of origin" in stopped.stderr
    assert b"roken pipe" not in stopped.stderr
    heard = clone.heard()
    assert heard[0] == f"theirs origin {bare.path}"
    assert len(heard) == (602 if reads else 1)
    assert clone.repository.run("push", "-q", "origin", "HEAD:topic").returncode == 0
    clone.heard()
    clone.repository.git("push", "-q", "origin", "HEAD:topic")
    assert clone.heard() == [f"theirs origin {bare.path}"]  # nothing to push: not even an empty line


def test_their_refusal_of_a_push_counts(clone: Clone, tmp_path: Path) -> None:
    bare = clone.repository.clone(tmp_path / "central.git", bare=True)
    clone.repository.git("remote", "add", "origin", str(bare.path))
    clone.theirs("pre-push", "#!/bin/sh\nread -r line\nexit 9\n")
    clone.install()
    hook = [clone.hooks / "pre-push", "origin", "url"]
    line = f"refs/heads/main {clone.repository.head()} refs/heads/topic {'0' * 40}\n"
    done = subprocess.run(hook, cwd=clone.path, env=git_env(), input=line.encode(), check=False)
    assert done.returncode == 9
    assert clone.repository.run("push", "-q", "origin", "HEAD:topic").returncode == 1


def test_a_hook_that_git_does_not_run_is_not_run_by_us_either(clone: Clone) -> None:
    hook = clone.theirs("pre-commit", "#!/bin/sh\nexit 1\n", mode=0o640)
    assert "what was there before is kept, as pre-commit.before-gate (it cannot be executed" in clone.gate("install").stdout
    assert clone.is_checked()
    clone.uninstall()
    assert hook.stat().st_mode & 0o777 == 0o640


def test_a_hook_without_a_first_line_runs_as_git_runs_it(clone: Clone) -> None:
    clone.theirs("pre-commit", 'echo "theirs" >> "{told}"\n')
    clone.install()
    assert clone.is_checked()
    assert clone.heard() == ["theirs", "theirs"]


def test_links_are_kept_as_links(clone: Clone) -> None:
    clone.hooks.mkdir(exist_ok=True)
    clone.repository.write("scripts/check.sh", f'#!/bin/sh\necho linked >> "{clone.told}"\n', executable=True)
    (clone.hooks / "pre-commit").symlink_to("../../scripts/check.sh")
    (clone.hooks / "commit-msg").symlink_to("../../nowhere")
    assert clone.install()["commit-msg"] == "chained"
    assert clone.is_checked()
    assert clone.heard() == ["linked", "linked"]
    assert (clone.path / "scripts/check.sh").read_text().startswith("#!/bin/sh\necho linked")
    clone.uninstall()
    assert (clone.hooks / "pre-commit").readlink() == Path("../../scripts/check.sh")
    assert (clone.hooks / "commit-msg").readlink() == Path("../../nowhere")


def test_one_hook_that_cannot_be_installed_leaves_all_as_they_are(clone: Clone) -> None:
    clone.theirs("pre-push", '#!/bin/sh\nexec "scripts/$(basename "$0")"\n')
    said = clone.refused()
    assert "nothing was changed" in said
    assert "pre-push: the hook that is there acts by its own name" in said
    assert clone.names() == {"pre-push"}
    clone.install("--hook-type", "pre-commit")
    (clone.hooks / "pre-push").unlink()
    (clone.hooks / "pre-push").mkdir()
    assert "pre-push: what has this name among the hooks is no file" in clone.refused()


def test_a_hook_that_replaced_ours_is_not_touched(clone: Clone) -> None:
    first = clone.theirs("pre-commit").read_bytes()
    clone.install()
    clone.theirs("pre-commit.new", "#!/bin/sh\n# another\n").replace(clone.hooks / "pre-commit")
    assert "pre-commit.before-gate as well" in clone.refused()
    assert clone.uninstall()["pre-commit"] == "left"
    assert (clone.hooks / "pre-commit").read_text() == "#!/bin/sh\n# another\n"
    assert (clone.hooks / "pre-commit.before-gate").read_bytes() == first
    (clone.hooks / "pre-commit").unlink()
    assert clone.uninstall()["pre-commit"] == "restored"
    assert (clone.hooks / "pre-commit").read_bytes() == first


def test_a_hook_that_calls_gate_by_hand_does_not_run_it_twice(clone: Clone) -> None:
    clone.theirs("pre-commit", "#!/bin/sh\nexec gate check\n")
    assert clone.install()["pre-commit"] == "left"
    assert clone.uninstall()["pre-commit"] == "left"
    assert clone.names() == {"pre-commit"}


def test_lefthook_that_took_our_place_gives_it_back(clone: Clone) -> None:
    """It renames what it finds, and does not run it any more."""
    clone.theirs("pre-commit")
    clone.install()
    (clone.hooks / "pre-commit").rename(clone.hooks / "pre-commit.old")
    clone.theirs("pre-commit", "#!/bin/sh\ntrue lefthook\n")
    assert "gate uninstall, then gate install again" in clone.refused()
    assert clone.uninstall()["pre-commit"] == "restored"
    assert (clone.hooks / "pre-commit.old").read_text().startswith('#!/bin/sh\necho "theirs')
    assert clone.install()["pre-commit"] == "chained"
    assert clone.is_checked()


def test_a_glance_tells_of_a_hook_that_was_moved_aside(clone: Clone) -> None:
    clone.install()
    assert clone.gate("local").stderr == ""
    for kind in ("pre-commit", "pre-push"):
        (clone.hooks / kind).rename(clone.hooks / f"{kind}.old")
        clone.theirs(kind, "#!/bin/sh\ntrue lefthook\n")
    said = clone.gate("local").stderr
    assert "hooks of ours aside" in said
    assert "pre-commit (now pre-commit.old), pre-push (now pre-push.old)\n" in said
    calls = clone.repository.write("lefthook.yml", "pre-push:\n  jobs:\n    - run: gate push\n")
    assert "pre-commit (now pre-commit.old)\n" in clone.gate("local").stderr
    calls.unlink()
    assert clone.install()["pre-commit"] == "chained"
    assert clone.gate("local").stderr == ""


# --- runners of hooks -----------------------------------------------------------------------------------------------------

ANOTHER = 'repos: [{repo: local, hooks: [{id: tells, name: tells, language: system, entry: sh -c "echo ran >> TOLD"}]}]\n'


class Runner:
    def __init__(self, name: str, clone: Clone) -> None:
        self.name = name
        self.clone = clone
        home = str(clone.path.with_name("home"))
        self.env = {"PRE_COMMIT_HOME": home, "PREK_HOME": home}

    def __call__(self, *words: str) -> None:
        program = Path(sys.executable).with_name(self.name)
        done = subprocess.run(
            [program, *words], cwd=self.clone.path, env=git_env(**self.env), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def is_checked(self) -> bool:
        return is_checked(self.clone.path, git_env(**self.env))


@pytest.fixture(params=["pre-commit", "prek"])
def runner(request: pytest.FixtureRequest, clone: Clone) -> Runner:
    """A runner of hooks, with a configuration that has a hook of its own and none of ours."""
    config = ANOTHER.replace("TOLD", str(clone.told))
    clone.repository.commit("Runner", {".pre-commit-config.yaml": config})
    return Runner(request.param, clone)


def test_a_runner_without_our_hooks_runs_first(clone: Clone, runner: Runner) -> None:
    runner("install")
    assert clone.install()["pre-commit"] == "chained"
    assert runner.is_checked()
    assert clone.heard() == ["ran", "ran"]
    clone.uninstall()
    assert not runner.is_checked()
    assert clone.heard() == ["ran", "ran"]


def test_a_runner_with_our_hooks_is_left_to_it(clone: Clone, runner: Runner) -> None:
    config = f"repos: [{{repo: local, hooks: [{{id: gate-check, name: x, language: system, entry: {GATE} check --}}]}}]\n"
    clone.repository.commit("Ours", {".pre-commit-config.yaml": config})
    runner("install")
    shim = (clone.hooks / "pre-commit").read_bytes()
    assert clone.install() == {kind: "left" if kind == "pre-commit" else "written" for kind in COMMANDS}
    assert (clone.hooks / "pre-commit").read_bytes() == shim
    assert f"pre-commit: left alone: {runner.name} runs gate-check already" in clone.gate("install").stdout


def test_a_runner_that_gets_our_hooks_later_has_its_place_back(clone: Clone, runner: Runner) -> None:
    runner("install")
    shim = (clone.hooks / "pre-commit").read_bytes()
    assert clone.install()["pre-commit"] == "chained"
    config = f"repos: [{{repo: local, hooks: [{{id: gate-check, name: x, language: system, entry: {GATE} check --}}]}}]\n"
    clone.repository.commit("Ours", {".pre-commit-config.yaml": config})
    said = clone.gate("install").stdout
    assert f"the hook that was there before is back: {runner.name} runs gate-check already" in said
    assert (clone.hooks / "pre-commit").read_bytes() == shim
    assert "pre-commit.before-gate" not in clone.names()
    assert clone.install()["pre-commit"] == "left"


def test_a_runner_that_is_installed_on_top_calls_us(clone: Clone, runner: Runner) -> None:
    clone.theirs("pre-commit")
    clone.install()
    runner("install")
    assert runner.is_checked()
    assert clone.heard().count("theirs ") == 2
    assert clone.install()["pre-commit"] == "left"
    assert clone.uninstall()["pre-commit"] == "restored"
    assert not runner.is_checked()
    assert clone.heard().count("theirs ") == 2


def test_a_runner_that_is_installed_once_more_on_top_of_us_is_not_called_in_a_circle(clone: Clone, runner: Runner) -> None:
    runner("install")
    clone.install()
    runner("install")
    assert (clone.hooks / "pre-commit.legacy").exists()
    assert runner.is_checked()
    assert clone.heard() == ["ran", "ran"]
    assert clone.uninstall()["pre-commit"] == "removed"
    assert "pre-commit.legacy" not in clone.names()
    assert "pre-commit.before-gate" not in clone.names()
    assert not runner.is_checked()


# --- where ----------------------------------------------------------------------------------------------------------------


def test_linked_work_trees_share_the_hooks(clone: Clone, tmp_path: Path) -> None:
    clone.repository.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    clone.install(cwd=tmp_path / "linked")
    assert clone.names() == set(COMMANDS)
    assert is_checked(tmp_path / "linked")
    assert clone.is_checked()


def test_a_subfolder_is_as_good_as_the_top(clone: Clone) -> None:
    clone.install(cwd=clone.path / "src")
    clone.repository.write("src/a.py", "TODO\n")
    done = subprocess.run(
        ["git", "commit", "-am", "Work"], cwd=clone.path / "src", env=git_env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "todo  RED" in done.stdout + done.stderr


def test_a_submodule_has_hooks_of_its_own(clone: Clone, tmp_path: Path) -> None:
    above = Repository.create(tmp_path / "above")
    above.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone.path), "sub")
    clone.install(cwd=above.path / "sub")
    assert (above.path / ".git/modules/sub/hooks/pre-commit").exists()
    assert not (above.path / ".git/hooks/pre-commit").exists()
    assert is_checked(above.path / "sub")


def test_a_folder_of_hooks_that_is_missing_is_made(clone: Clone) -> None:
    shutil.rmtree(clone.hooks)
    clone.install()
    assert clone.is_checked()


@pytest.mark.parametrize("value", [".git/my hooks", ".githooks"])
def test_a_local_hooks_path_inside_the_repository_is_used(clone: Clone, value: str) -> None:
    clone.repository.git("config", "core.hooksPath", value)
    done = clone.gate("install", cwd=clone.path / "src")
    assert done.returncode == 0, done.stderr
    assert (clone.path / value / "pre-commit").exists()
    assert ("of their own" in done.stderr) is (value == ".githooks")
    assert clone.is_checked()


def test_a_hooks_path_of_somebodys_settings_counts_by_where_it_leads(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    settings = tmp_path / "settings"
    settings.write_text(f"[core]\n\thooksPath = {tmp_path}/all\n")
    said = clone.refused(GIT_CONFIG_GLOBAL=str(settings))
    assert f"{tmp_path}/all (by core.hooksPath of your global settings)" in said
    assert "in every repository that uses the folder" in said
    assert list((tmp_path / "all").iterdir()) == []
    cure = re.search(r"git config core\.hooksPath .*", said)
    assert cure
    subprocess.run(["sh", "-c", cure[0]], cwd=clone.path, env=git_env(GIT_CONFIG_GLOBAL=str(settings)), check=True)
    clone.install(GIT_CONFIG_GLOBAL=str(settings))
    assert is_checked(clone.path, git_env(GIT_CONFIG_GLOBAL=str(settings)))


def test_the_line_for_hooks_of_all_repositories_works_as_it_is_told(clone: Clone, tmp_path: Path) -> None:
    clone.repository.git("config", "core.hooksPath", str(tmp_path / "all"))
    line = re.search(r"its pre-commit: (.*)", clone.refused())
    assert line
    (tmp_path / "all").mkdir()
    (tmp_path / "all/pre-commit").write_text(f"#!/bin/sh\n{line[1].replace('gate check', f'{GATE} check')}\n")
    (tmp_path / "all/pre-commit").chmod(0o755)
    assert clone.is_checked()
    clone.repository.commit("Without", {"gate.toml": None})
    assert not clone.is_checked()


def test_tracked_hooks_are_not_written_to(clone: Clone) -> None:
    clone.repository.commit("Hooks", {".githooks/pre-commit": "#!/bin/sh\n"})
    clone.repository.git("config", "core.hooksPath", ".githooks")
    said = clone.refused()
    assert "git tracks the hooks" in said
    assert 'gate check "$@" to pre-commit' in said
    assert clone.repository.git("status", "--porcelain") == ""


def test_a_folder_of_hooks_that_is_a_link_counts_by_where_it_leads(clone: Clone, tmp_path: Path) -> None:
    shutil.rmtree(clone.hooks)
    (tmp_path / "elsewhere").mkdir()
    clone.hooks.symlink_to(tmp_path / "elsewhere")
    assert f"{tmp_path}/elsewhere (by a symbolic link)" in clone.refused()
    clone.hooks.unlink()
    (clone.path / ".git/real").mkdir()
    clone.hooks.symlink_to("real")
    clone.install()
    assert (clone.path / ".git/real/pre-commit").exists()
    assert clone.is_checked()
    clone.uninstall()
    assert clone.hooks.readlink() == Path("real")


def test_the_hooks_of_husky_are_left_to_husky(clone: Clone) -> None:
    """They act by their own name, and are written anew whenever husky is installed."""
    dispatcher = '#!/usr/bin/env sh\n. "$(dirname "$0")/h"'
    for path, content in {".gitignore": "*", "h": 'n=$(basename "$0")\n', "pre-commit": dispatcher}.items():
        clone.repository.write(f".husky/_/{path}", content, executable=True)
    clone.repository.git("config", "core.hooksPath", ".husky/_")
    said = clone.refused()
    assert 'add below .husky: gate check "$@" to pre-commit' in said
    assert (clone.path / ".husky/_/pre-commit").read_text() == dispatcher


def test_hooks_that_are_switched_off_stay_so(clone: Clone) -> None:
    clone.repository.git("config", "core.hooksPath", os.devnull)
    assert "hooks are switched off here" in clone.refused()


def test_nobody_commits_in_a_bare_repository_or_in_none(clone: Clone, tmp_path: Path) -> None:
    bare = clone.repository.clone(tmp_path / "bare.git", bare=True)
    done = clone.gate("install", cwd=bare.path)
    assert done.returncode == 2
    assert "is a bare repository" in done.stderr
    (tmp_path / "none").mkdir()
    done = clone.gate("install", cwd=tmp_path / "none", GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert done.returncode == 2
    assert "not in the work tree of a git repository" in done.stderr
    assert clone.gate("install", PATH="/nowhere").returncode == 4


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_why_git_names_no_folder_is_told(clone: Clone, command: str) -> None:
    assert "safe.directory" in clone.gate(command, GIT_TEST_ASSUME_DIFFERENT_OWNER="1").stderr
    clone.repository.git("config", "core.hooksPath", "")
    done = clone.gate(command)
    assert done.returncode == 2
    assert "core.hooksPath is empty" in done.stderr


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_folder_of_hooks_that_may_not_be_written_is_said(clone: Clone, command: str) -> None:
    clone.theirs("pre-commit")
    if command == "uninstall":
        clone.install()
    names = clone.names()
    clone.hooks.chmod(0o555)
    try:
        run = [*bound_by_modes(), str(GATE), command]
        done = subprocess.run(run, cwd=clone.path, env=git_env(), capture_output=True, text=True, check=False)
        assert done.returncode == 4, done.stderr
        assert f"{clone.hooks}: Permission denied" in done.stderr
        assert clone.names() == names
    finally:
        clone.hooks.chmod(0o755)


# --- environments ---------------------------------------------------------------------------------------------------------


def test_a_client_without_terminal_settings_or_path(clone: Clone) -> None:
    clone.install()
    bare_env = {"PATH": "/usr/bin:/bin", **IDENTITY}
    assert is_checked(clone.path, bare_env)
    clone.repository.write("src/a.py", "TODO\n")
    done = subprocess.run(
        ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in bare_env.items()), "git", "commit", "-am", "Work"],
        cwd=clone.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"todo  RED" in done.stdout + done.stderr


def test_a_repository_that_is_named_by_environment(clone: Clone, tmp_path: Path) -> None:
    where = {"GIT_DIR": str(clone.path / ".git"), "GIT_WORK_TREE": str(clone.path)}
    (tmp_path / "other").mkdir()
    clone.install(cwd=tmp_path / "other", **where)
    clone.repository.write("src/a.py", "TODO\n")
    words = ["git", "commit", "-am", "Work"]
    done = subprocess.run(words, cwd=tmp_path / "other", env=git_env(**where), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "todo  RED" in done.stdout + done.stderr
    clone.repository.write("src/a.py", "A = 7\n")
    subprocess.run(words, cwd=tmp_path / "other", env=git_env(**where), check=True, capture_output=True)


def test_another_index_is_what_is_checked(clone: Clone, tmp_path: Path) -> None:
    clone.install()
    other = {"GIT_INDEX_FILE": str(tmp_path / "index")}
    clone.repository.git("read-tree", "HEAD", env=other)
    clone.repository.write("src/a.py", "TODO\n")
    clone.repository.git("add", "src/a.py", env=other)
    clone.repository.write("src/a.py", "A = 1\n")
    refused = clone.repository.run("commit", "-m", "Work", env=other)
    assert refused.returncode == 1
    assert b"todo  RED" in refused.stdout + refused.stderr


def test_packages_of_the_project_that_are_called_like_ours(clone: Clone) -> None:
    """PYTHONPATH is meant for the project's Python: checks see it, and what runs them does not."""
    clone.install()
    files = {f"{name}/__init__.py": "raise SystemExit(1)\n" for name in ("ci", "gate", "hooks", "json")}
    rules = """
        [run]
        pass_env = ["PYTHONPATH"]

        [[check]]
        name = "path"
        stage = "pre-commit"
        command = 'test "$PYTHONPATH" = .'
    """
    clone.repository.git("config", "core.hooksPath", os.devnull)
    clone.repository.commit("Rules", files | {"gate.toml": textwrap.dedent(rules)})
    clone.repository.git("config", "--unset", "core.hooksPath")
    assert clone.commit(PYTHONPATH=".")[0] == 0

    def states() -> list[str]:
        return [each["state"] for each in json.loads(clone.gate("local", "--json").stdout)["commits"]]

    wait_for(lambda: states() == ["finished"], within_s=60)


def test_packages_that_are_called_like_ours_by_hand(clone: Clone) -> None:
    for name in ("ci", "gate"):
        clone.repository.write(f"{name}/__init__.py", "raise SystemExit(1)\n")
    assert clone.gate("check", PYTHONPATH=".").returncode == 0
    assert clone.gate("config", "check", PYTHONPATH=".").returncode == 0


def test_a_gate_that_is_found_by_pythonpath_is_found_by_its_hooks(clone: Clone) -> None:
    assert clone.gate("install", PYTHONPATH=f"{PROJECT}:elsewhere").returncode == 0
    assert '"$python" -P "$gate" check' in (clone.hooks / "pre-commit").read_text()


@pytest.mark.parametrize("gone", ["gate", "python"])
def test_a_program_that_is_gone_is_looked_for_on_the_path(clone: Clone, tmp_path: Path, gone: str) -> None:
    places = {"gate": GATE, "python": Path(sys.executable)} | {gone: Path("/gone/it's")}
    (clone.hooks / "pre-commit").write_bytes(script("pre-commit", **places))
    (clone.hooks / "pre-commit").chmod(0o755)
    assert clone.commit(PATH="/usr/bin:/bin")[0] == 1
    code, said = clone.commit(PATH="/usr/bin:/bin")
    assert code == 1
    assert f"the program that this pre-commit hook calls is gone: {places['gate']}" in said
    assert "gate install" in said
    assert is_checked(clone.path, git_env(PATH=f"{GATE.parent}:/usr/bin:/bin"))


def test_two_commits_at_the_same_time_in_two_work_trees(clone: Clone, tmp_path: Path) -> None:
    """The check of each waits for that of the other to run: one after the other, both would time out."""
    clone.install()
    one, two = tmp_path / "one", tmp_path / "two"
    os.mkfifo(one)
    os.mkfifo(two)
    meetings = {"here": f"echo here > {one}; cat {two}", "there": f"cat {one}; echo there > {two}"}
    running = []
    for name, meeting in meetings.items():
        clone.repository.git("worktree", "add", "-q", str(tmp_path / name), "-b", name)
        tree = Repository(tmp_path / name)
        tree.write(
            "gate.toml",
            f'[[check]]\nname = "meet"\nstage = "pre-commit"\ntimeout = "60s"\ncommand = "{meeting}; cat src/a.py"\n',
        )
        tree.write("src/a.py", f"{name}\n")
        tree.git("add", "-A")
        words = ["git", "commit", "-m", name.title()]
        running.append(
            subprocess.Popen(
                words, cwd=tree.path, env=git_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    ends = [(process.communicate(timeout=120)[0], process.returncode) for process in running]
    assert [code for _, code in ends] == [0, 0], ends
    for name in meetings:
        assert clone.repository.git("show", f"{name}:src/a.py") == name


# --- whatever happens, nothing is lost -------------------------------------------------------------------------------------

# Runs a command and kills it before its Nth change below the folder of hooks; says at its end how many there were.
KILLED = """
import errno, os, signal, sys
nth, folder, links, *sys.argv[1:] = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "links", *sys.argv[4:]
count = 0
def watch(event, arguments):
    global count
    changes = event in ("os.rename", "os.link", "os.remove", "os.chmod", "os.mkdir", "os.truncate")
    if event == "open" and isinstance(arguments[2], int):
        changes = arguments[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
    if changes and str(arguments[0]).startswith(folder):
        count += 1
        if count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
if not links:
    def link(*_, **__): raise OSError(errno.EPERM, "no hard links here")
    os.link = link
from hooks.main import main
sys.addaudithook(watch)
code = main()
print(count, file=sys.stderr)
sys.exit(code)
"""


def killed(clone: Clone, nth: int, command: str, *, links: bool) -> bool:
    """Whether the command was killed before its nth change; else it came to its end."""
    words = [sys.executable, "-P", "-c", KILLED, str(nth), str(clone.hooks), "links" if links else "", command]
    done = subprocess.run(words, cwd=clone.path, env=git_env(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    assert done.returncode == -9 or int(done.stderr.split()[-1]) > 1, "no change was seen"
    return done.returncode == -9


def kills(clone: Clone, command: str, *, links: bool) -> Iterator[int]:
    """Kill the command before its first change, its second and so on; the caller puts things back each time."""
    nth = 1
    while killed(clone, nth, command, links=links):
        yield nth
        nth += 1
    assert nth > 3


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without"])
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_killed_at_any_moment_nothing_is_lost(clone: Clone, command: str, links: bool) -> None:
    theirs = {kind: clone.theirs(kind, TELLS + f"# {kind}\n").read_bytes() for kind in ("pre-commit", "commit-msg")}
    if command == "uninstall":
        clone.install()
    for nth in kills(clone, command, links=links):
        for kind, content in theirs.items():
            kept = [path for path in (clone.hooks / kind, clone.hooks / f"{kind}.before-gate") if path.exists()]
            assert content in [path.read_bytes() for path in kept], nth
        code, said = clone.commit(f"N = {nth}\n")
        assert code == 0, said
        heard = clone.heard()
        if links:
            assert heard == ["theirs ", "theirs .git/COMMIT_EDITMSG"], nth
        again = nth % 2  # either way it goes on from there
        if again:
            assert set(clone.install().values()) <= {"written", "chained", "renewed", "unchanged"}
            assert clone.names() == {*COMMANDS, *(f"{kind}.before-gate" for kind in theirs)}
            assert clone.commit(f"N = {nth} # again\n")[0] == 0
            assert len(clone.heard()) == 2
        clone.uninstall()
        assert clone.names() == set(theirs)
        assert {kind: (clone.hooks / kind).read_bytes() for kind in theirs} == theirs
        if command == "uninstall":
            clone.install()


def test_many_installs_at_once_come_to_one_end(clone: Clone) -> None:
    content = clone.theirs("pre-commit").read_bytes()
    running = [
        subprocess.Popen([GATE, "install"], cwd=clone.path, env=git_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [process.communicate()[1] for process in running] == [b""] * 4
    assert clone.names() == {*COMMANDS, "pre-commit.before-gate"}
    assert (clone.hooks / "pre-commit.before-gate").read_bytes() == content
    assert clone.is_checked()


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_the_hook_becomes_the_command_and_starts_nothing_else(clone: Clone, kind: str) -> None:
    """The process stays the same one, and with this PATH the shell finds no program to start."""
    clone.install()
    clone.pretend('echo "$$ $*"; read -r line; echo "$line"')
    hook = subprocess.Popen(
        [clone.hooks / kind, "one", "two words"],
        cwd=clone.path,
        env={"PATH": "/nowhere"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = hook.communicate("a line\n")
    assert said == f"{hook.pid} {COMMANDS[kind]} one two words\na line\n"


def test_json_tells_all(clone: Clone) -> None:
    clone.theirs("pre-commit")
    told: Any = json.loads(clone.gate("install", "--json").stdout)
    assert told["folder"] == str(clone.hooks)
    assert told["hooks"][0] == {
        "type": "pre-commit",
        "did": "chained",
        "path": str(clone.hooks / "pre-commit"),
        "before": str(clone.hooks / "pre-commit.before-gate"),
        "why": "",
    }
