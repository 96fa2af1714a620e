"""What bubblewrap keeps a check from, and what it leaves it. Each claim is tried by a real process."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ci.errors import Unavailable
from ci.sandbox import Isolation, bubblewrap, bubblewrap_trouble, choose

needs_bubblewrap = pytest.mark.skipif(bubblewrap_trouble() is not None, reason=f"bubblewrap: {bubblewrap_trouble()}")


class Sandbox:
    """Runs shell text in a sandbox over ``base/place``."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folder = base / "place"
        self.scratch = base / "scratch"
        self.folder.mkdir()
        self.scratch.mkdir()
        self.network = False
        self.read: tuple[str, ...] = ()
        self.hidden: tuple[Path, ...] = ()
        self.shown: tuple[tuple[Path, Path], ...] = ()
        self.path = os.environ["PATH"]

    def __call__(self, text: str) -> str:
        """What the shell printed, errors and all."""
        words = bubblewrap(
            folder=self.folder,
            scratch=self.scratch,
            network=self.network,
            read=self.read,
            hidden=self.hidden,
            shown=self.shown,
            path=self.path,
        )
        env = {"PATH": self.path, "LC_ALL": "C"}
        done = subprocess.run([*words, "/bin/sh", "-c", text], env=env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    if bubblewrap_trouble() is not None:
        pytest.skip(f"bubblewrap: {bubblewrap_trouble()}")
    return Sandbox(tmp_path.resolve())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path.resolve() / "home"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(made))
    return made


def test_only_its_folders_can_be_written(sandbox: Sandbox) -> None:
    (sandbox.base / "outside").mkdir()
    assert sandbox("touch mine ../scratch/report /tmp/x /var/tmp/x && echo fine") == "fine\n"
    assert "Read-only file system" in sandbox("touch /etc/x")
    assert "Read-only file system" in sandbox("touch /root/x")
    sandbox(f"mkdir -p {sandbox.base}/outside; touch {sandbox.base}/outside/x {sandbox.base}/y")
    assert sorted(entry.name for entry in sandbox.base.iterdir()) == ["outside", "place", "scratch"]
    assert list((sandbox.base / "outside").iterdir()) == []
    assert (sandbox.folder / "mine").exists()
    assert (sandbox.scratch / "report").exists()


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/etc/passwd"]
)
def test_the_machine_cannot_be_altered_even_by_root(sandbox: Sandbox, path: str) -> None:
    # Asks only whether it could: should this fail, nothing has been written.
    assert sandbox(f"test -w {path} && echo writable") == ""


def test_it_has_no_capabilities(sandbox: Sandbox) -> None:
    assert sandbox("grep CapEff /proc/self/status").split()[1].strip("0") == ""


def test_home_folders_and_the_gate_are_hidden(sandbox: Sandbox, home: Path) -> None:
    (home / ".netrc").write_text("secret")
    gate = sandbox.base / "repo.git"
    (gate / "gate").mkdir(parents=True)
    (gate / "gate" / "journal.sqlite").write_text("tokens")
    sandbox.hidden = (gate,)
    assert "secret" not in sandbox(f"cat {home}/.netrc")
    assert sandbox(f"ls {gate}") == ""
    sandbox.read = (str(sandbox.base),)  # even where somebody shows the folder around it
    assert sandbox(f"ls {gate}") == ""
    assert sandbox("ls /run /home") == "/home:\n\n/run:\n"


def test_a_place_inside_of_what_is_hidden_is_there(sandbox: Sandbox) -> None:
    sandbox.hidden = (sandbox.base,)
    assert sandbox("echo x > a; cat a; ls ..") == "x\nplace\nscratch\n"
    assert (sandbox.folder / "a").read_text() == "x\n"


def test_no_secrets_of_the_machine(sandbox: Sandbox) -> None:
    assert "root:" not in sandbox("cat /etc/shadow")
    assert "key" not in sandbox("ls /etc/ssh")


def test_other_processes_are_not_there(sandbox: Sandbox) -> None:
    assert len(sandbox("ls -d /proc/[0-9]*/").split()) < 8


def serve_once(listening: socket.socket) -> None:
    with listening.accept()[0] as connection:
        connection.sendall(b"hello")


FETCH_TEXT = "import socket, sys; print(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).recv(9))"
FETCH = f'{sys.executable} -c "{FETCH_TEXT}" '


def test_the_network_is_there_only_for_those_who_ask(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert "ConnectionRefusedError" in sandbox(FETCH + str(port))
        threading.Thread(target=serve_once, args=(listening,)).start()
        sandbox.network = True
        assert sandbox(FETCH + str(port)) == "b'hello'\n"


def test_its_own_loopback_works(sandbox: Sandbox) -> None:
    text = (
        "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname()); print('up')"
    )
    assert sandbox(f'{sys.executable} -c "{text}"') == "up\n"


def test_the_python_that_runs_us_works_inside(sandbox: Sandbox) -> None:
    assert sandbox(f"{sys.executable} -c 'import sys; print(sys.prefix)'") == f"{sys.prefix}\n"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_tools_below_a_home_work_and_what_lies_beside_them_is_hidden(sandbox: Sandbox, home: Path) -> None:
    # As pipx installs: a link in ~/.local/bin to an environment elsewhere, whose program needs its lib folder.
    env = home / ".local" / "share" / "pipx" / "venvs" / "tool"
    program(env / "bin" / "tool", f"cat {env}/lib/answer")
    (env / "lib").mkdir()
    (env / "lib" / "answer").write_text("42\n")
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "tool").symlink_to("../share/pipx/venvs/tool/bin/tool")
    (home / ".local" / "share" / "keyrings").mkdir()
    program(home / ".cargo" / "bin" / "cargo-x", "echo built")
    (home / ".cargo" / "credentials.toml").write_text("token")
    program(home / "bin" / "mine", "echo mine")
    (home / "notes").write_text("private")
    sandbox.path = f"{home}/.local/bin:{home}/.cargo/bin:{home}/bin:{sandbox.path}"
    assert sandbox("tool; cargo-x; mine") == "42\nbuilt\nmine\n"
    assert sandbox(f"ls -A {home} {home}/.cargo {home}/.local/share") == (
        f"{home}:\n.cargo\n.local\nbin\n\n{home}/.cargo:\nbin\n\n{home}/.local/share:\npipx\n"
    )


def test_symlinks_on_the_way_to_a_tool(sandbox: Sandbox, home: Path) -> None:
    program(home / "opt" / "v2" / "bin" / "tool", "echo v2")
    (home / "current").symlink_to("opt/v2")
    (home / "alias").symlink_to(home / "current")
    sandbox.path = f"{home}/alias/bin:{sandbox.path}"
    assert sandbox("tool") == "v2\n"


def test_a_folder_that_the_settings_name_is_shown_read_only(sandbox: Sandbox, home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "x").write_text("data\n")
    sandbox.read = ("~/data",)
    assert sandbox(f"cat {home}/data/x") == "data\n"
    assert "Read-only file system" in sandbox(f"touch {home}/data/y")


def test_what_is_shown_in_the_place_is_read_only(sandbox: Sandbox) -> None:
    source = sandbox.base / "git"
    source.mkdir()
    (source / "HEAD").write_text("x\n")
    sandbox.shown = ((source, sandbox.folder / ".git"),)
    assert sandbox("cat .git/HEAD") == "x\n"
    assert "Read-only file system" in sandbox("echo y > .git/HEAD")


@needs_bubblewrap
def test_auto_takes_bubblewrap_where_it_works() -> None:
    assert choose("auto") is Isolation.BUBBLEWRAP
    assert choose("plain") is Isolation.PLAIN


def test_without_bubblewrap_auto_is_plain_and_a_demand_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.sandbox.bubblewrap_trouble", lambda: "there is no bwrap on PATH")
    assert choose("auto") is Isolation.PLAIN
    with pytest.raises(Unavailable, match="no bwrap on PATH"):
        choose("bubblewrap")


@pytest.mark.parametrize(
    ("script", "word"), [("echo no permission >&2; exit 1", "no permission"), ("exit 7", "exit code 7"), (None, "no bwrap")]
)
def test_a_bubblewrap_that_does_not_work_is_known_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, word: str
) -> None:
    if script is not None:
        program(tmp_path / "bwrap", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert word in (bubblewrap_trouble.__wrapped__() or "")
