"""Reading what the hook recorded. That writer and reader agree is tested with real pushes in tests/hooks/test_receive.py."""

import json
import os
from pathlib import Path

import pytest

import hooks.receive
from ci.errors import Unavailable
from fakes.repositories import Repository
from fakes.servers import Server, push, wake_pipe
from gate import submissions
from gate.config import Submit
from gate.model import Priority
from gate.submissions import poke


@pytest.fixture
def server(repository: Repository, tmp_path: Path) -> Server:
    return Server.found(tmp_path / "server.git", repository)


def test_nothing_was_submitted_yet(server: Server) -> None:
    assert server.submissions() == []


def test_oldest_first_and_only_the_gates_own_chain(server: Server, repository: Repository) -> None:
    """The pushed history hangs on the chain as well; none of it is a record, whatever its messages say."""
    repository.commit('{"format":1,"change":99,"revision":1,"next":100}')
    for name in ("b", "c", "d"):
        repository.commit(name, {name: "1"})
        assert push(repository, "origin", "HEAD:refs/for/main")[0] == 0
    assert [(one.change, one.subject) for one in server.submissions()] == [(1, "b"), (2, "c"), (3, "d")]


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"format":1,"change":1}', '{"format":2}', '{"format":1,"change":1,"options":3}'],
)
def test_a_record_that_cannot_be_read_is_named(server: Server, text: str) -> None:
    tree = server.git("mktree")
    root = server.git("commit-tree", tree, "-m", '{"format":1,"next":1}')
    bad = server.git("commit-tree", tree, "-p", root, "-F", "-", stdin=text.encode())
    server.git("update-ref", "refs/gate/submissions", bad)
    with pytest.raises(Unavailable, match=bad):
        server.submissions()


def test_a_record_that_is_gone_is_an_error(server: Server, repository: Repository) -> None:
    repository.commit("b", {"b": "1"})
    push(repository, "origin", "HEAD:refs/for/main")
    with pytest.raises(Unavailable, match="refs/gate/submissions cannot be read"):
        server.submissions(after="1" * 40)


def test_the_hook_spells_the_words_of_the_gate() -> None:
    """The hook stands alone; these are the words and defaults that it repeats."""
    assert tuple(Priority) == hooks.receive.PRIORITIES
    assert submissions.FORMAT == hooks.receive.FORMAT
    assert submissions.SUBMISSIONS == hooks.receive.SUBMISSIONS
    policy, submit = hooks.receive.Policy(), Submit()
    assert policy.trunk_push == submit.trunk_push
    assert policy.max_commits == submit.max_commits
    assert policy.max_size_bytes == submit.max_size_bytes
    assert policy.allow == submit.allow
    assert policy.wait_timeout_s == submit.wait_timeout_s


def test_poking_without_a_daemon_is_harmless(server: Server) -> None:
    assert not poke(server.state)
    os.mkfifo(server.state / "wake")
    assert not poke(server.state)


def test_poking_wakes_and_never_blocks(server: Server) -> None:
    pipe = wake_pipe(server)
    try:
        assert all(poke(server.state) for _ in range(70_000))
        assert os.read(pipe, 1)
    finally:
        os.close(pipe)


def test_records_are_one_line_of_json(server: Server, repository: Repository) -> None:
    repository.commit("b", {"b": "1"})
    push(repository, "origin", "HEAD:refs/for/main", GATE_USER="ann")
    raw = json.loads(server.git("log", "-1", "--format=%B", "refs/gate/submissions"))
    at = raw.pop("at")
    assert isinstance(at, float)
    assert raw == {
        "format": 1,
        "change": 1,
        "revision": 1,
        "next": 2,
        "head": repository.head(),
        "target": "main",
        "by": "ann",
        "owner": "ann",
        "options": {"priority": "normal", "depends": [], "draft": False},
        "topic": "",
        "change_id": "",
        "subject": "b",
    }
    assert server.git("log", "-1", "--format=%an <%ae>", "refs/gate/submissions") == "trunkgate <gate@localhost>"
