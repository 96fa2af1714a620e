"""A push sends the change and not the history, however far trunk has moved since the client last looked."""

import re
from pathlib import Path

from fakes.stand import PARTS, Stand

FILES = {"a/check.sh": "exit 0\n", "a/x": "0", "b/check.sh": "exit 0\n", "b/x": "0"}


def test_a_client_that_has_not_fetched_for_long_sends_no_history(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PARTS, {**FILES, **{f"old/{number}": f"{number}\n" for number in range(40)}})
    stand.settle()
    behind = stand.server.clone(tmp_path / "behind")
    for number in range(5):
        stand.submit(f"more {number}", {"a/x": str(number + 1)})
        stand.settle()
    behind.commit("mine", {"mine": "1\n"})
    pushed = behind.run("push", "--progress", "origin", "HEAD:refs/for/main", env={"GATE_USER": "bob"})
    said = pushed.stderr.decode()
    assert pushed.returncode == 0, said
    sent = re.search(r"Writing objects: 100% \((\d+)/", said)
    assert sent is not None, said
    assert int(sent[1]) == 3  # a commit, a tree and a file


def test_what_is_advertised_does_not_grow_with_history(tmp_path: Path) -> None:
    stand = Stand(tmp_path, PARTS, FILES)
    for number in range(6):
        stand.submit(f"more {number}", {"a/x": str(number + 1)})
        stand.settle()
    haves = stand.server.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/gate/have").splitlines()
    history = stand.server.git("rev-list", "--first-parent", "main").splitlines()
    assert [line.split()[1] for line in haves] == [history[step] for step in (0, 1, 2, 4, 6)]
