"""What Git calls on the server when somebody pushes: the front door of the gate.

``proc-receive`` turns pushes to ``refs/for/<trunk>`` (and to trunk itself) into numbered changes, recorded in Git in one ref
transaction; ``pre-receive`` refuses direct changes to the refs that only the gate may move. Nothing here decides what lands,
and no push needs the daemon: a recorded change waits for it.

This file stands alone, so that it starts in milliseconds: the standard library and git, nothing from this package, and
costly modules are imported where they are needed. gate/install.py writes the scripts that start it;
gate/submissions.py reads what is recorded here, and a test holds the two together.
"""

# ruff: noqa: N818 - the exceptions here are answers to a pusher, and named as such

from __future__ import annotations

import os
import pwd
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

FORMAT = 1  # of the record; gate/submissions.py refuses any other
SUBMISSIONS = "refs/gate/submissions"
IDENTITY = "trunkgate <gate@localhost>"

# Bounds on what a pusher can make us handle: generous for people, small for a machine.
MAX_COMMANDS = 100
MAX_OPTIONS = 50
MAX_DEPENDS = 50
MAX_NAME = 100  # characters
MAX_TOPIC = 200
MAX_TOLD = 20  # refusals of one push that are told one by one
MAX_SUBJECT = 200
MAX_REASON = 400
MAX_READ_BYTES = 1 << 20  # of one object; the rest is skipped
MAX_LOG_BYTES = 1 << 20
MAX_DEPTH = 1000  # of folders in folders; git overflows its stack at some thousand, and the daemon's git with it
FLAT_BYTES = 20_000  # of new objects that cannot be that deep: each folder is an object of at least 20 bytes

RACE_PATIENCE_S = 30.0  # how long a push tries again while others push at the same moment
LOOK_EVERY_MS = 50  # at the feed, while a push waits
SLOW_PUSHER_MS = 30_000  # after which a pusher who takes no more of what we say has left
ASK_EVERY_S = 1.0  # whether the daemon still runs, while a push waits

FORGED = ("refs/refs/", "refs/heads/refs/", "refs/tags/refs/", "refs/remotes/refs/")  # where Git looks for refs/X besides
OPTIONS = ("wait", "priority", "change", "depends", "draft", "fixes-trunk", "topic")
PRIORITIES = ("urgent", "high", "normal", "low")


class Refused(Exception):
    """The pusher asked for something that cannot be done. reason: one line; cure: lines that say what to do instead."""

    def __init__(self, reason: str, *cure: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


class Unavailable(Exception):
    """Something outside failed: git, the disk, a record that cannot be read. The sentence is for the pusher."""


class LostRace(Exception):
    """Another push was recorded first. Nothing was written; read again and try again."""


# --- words ------------------------------------------------------------------------------------------------------------


def clean(text: str, limit: int) -> str:
    """One printable line of at most ``limit`` characters: what a terminal or a log may be given of foreign data."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def say(line: str) -> None:
    """Show a line to the pusher, as ``remote: line``. That the pusher has left is no reason to stop."""
    data = clean(line, 2000).encode("utf-8", "replace") + b"\n"
    # Git goes on without its pusher and then empties our pipe no more: look before each write that could block for ever.
    room = select.poll()
    room.register(2, select.POLLOUT)
    try:
        while data and room.poll(SLOW_PUSHER_MS):
            data = data[os.write(2, data[: select.PIPE_BUF]) :]
    except OSError:
        return


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant, as a clause; "" when none is near."""
    import difflib

    found = difflib.get_close_matches(word[:50], known, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


# --- git --------------------------------------------------------------------------------------------------------------


def start_git(arguments: Sequence[str], stdin: int, stdout: int, stderr: int = 2) -> int:
    """Start git and return its process id. Not subprocess: importing it would cost more than running git."""
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
    name, _, mail = IDENTITY.partition(" <")
    env = os.environ | {
        "LC_ALL": "C",
        "LANGUAGE": "C",
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": mail.rstrip(">"),
        # Else whoever may push refs/replace/* shows us another gate.toml or another record than there is.
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
    try:
        return os.posix_spawnp("git", ["git", *arguments], env, file_actions=actions)
    except OSError as cause:
        raise Unavailable(f"git cannot be started on the server: {cause}") from cause


def git(*arguments: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> tuple[int, str, str]:
    """Run git to its end: exit code, output, what it said on stderr. An exit code outside ``ok`` raises Unavailable."""
    child_in, feed = os.pipe()
    out, child_out = os.pipe()
    err, child_err = os.pipe()
    try:
        pid = start_git(arguments, child_in, child_out, child_err)
    finally:
        for end in (child_in, child_out, child_err):
            os.close(end)
    said: dict[int, bytearray] = {out: bytearray(), err: bytearray()}
    waiting = select.poll()
    for end in (out, err):
        waiting.register(end, select.POLLIN)
    if stdin:
        os.set_blocking(feed, False)
        waiting.register(feed, select.POLLOUT)
    else:
        os.close(feed)
    open_ends = 2
    while open_ends:
        for end, _ in waiting.poll():
            if end == feed:
                try:
                    stdin = stdin[os.write(feed, stdin) :]
                except BrokenPipeError:  # git has read enough; its exit code tells why
                    stdin = b""
                if not stdin:
                    waiting.unregister(feed)
                    os.close(feed)
                    feed = -1
                continue
            data = os.read(end, 65536)
            said[end] += data
            if not data:
                waiting.unregister(end)
                os.close(end)
                open_ends -= 1
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    words = os.fsdecode(bytes(said[err])).strip()
    if code not in ok:
        last = words.splitlines()[-1] if words else "it said nothing"
        raise Unavailable(f"git {arguments[0]} failed on the server with exit code {code}: {last}")
    return code, os.fsdecode(bytes(said[out])).removesuffix("\n"), words


class Objects:
    """Reads objects by name through one resident ``git cat-file``; a ref is looked up anew at each question."""

    def __init__(self) -> None:
        child_in, ask = os.pipe()
        answer, child_out = os.pipe()
        self._pid = start_git(("cat-file", "--batch"), child_in, child_out)
        os.close(child_in)
        os.close(child_out)
        self._ask = ask
        self._answer = os.fdopen(answer, "rb")

    def read(self, name: str) -> tuple[str, str, bytes] | None:
        """Id, type and the first MAX_READ_BYTES of an object; None when there is no such object or ref."""
        os.write(self._ask, os.fsencode(name) + b"\n")
        head = os.fsdecode(self._answer.readline())
        words = head.split()
        if head.endswith((" missing\n", " ambiguous\n")):
            return None
        if len(words) != 3:
            raise Unavailable(f"git cat-file ended while it was asked for {name}")
        size = int(words[2])
        content = self._answer.read(min(size, MAX_READ_BYTES))
        left = size - len(content)
        while left > 0:
            left -= len(self._answer.read(min(left, MAX_READ_BYTES)))
        self._answer.read(1)
        return words[0], words[1], content

    def id(self, name: str) -> str | None:
        found = self.read(name)
        return found[0] if found else None

    def close(self) -> None:
        os.close(self._ask)
        self._answer.close()
        os.waitpid(self._pid, 0)


def trunk_ref() -> str:
    """What HEAD points to, as in refs/heads/main. Raises Unavailable when it points to no branch."""
    try:
        with open("HEAD", encoding="ascii", errors="strict") as file:  # noqa: PTH123 - importing pathlib would cost 5 ms
            said = file.read(1000)
    except (OSError, UnicodeDecodeError):
        said = ""
    kind, _, name = said.strip().partition(": ")
    if kind != "ref" or name.endswith("/.invalid"):  # some other store of refs than files
        name = git("symbolic-ref", "-q", "HEAD", ok=(0, 1))[1]
    if not name.startswith("refs/heads/"):
        raise Unavailable(
            "this repository has no trunk: its HEAD points to no branch (its owner repairs it with gate init --trunk)"
        )
    return name


# --- policy -----------------------------------------------------------------------------------------------------------


class Policy:
    """What trunk's gate.toml says about pushes. Names and defaults are those of gate/config.py."""

    def __init__(self, text: bytes = b"") -> None:
        self.trunk_push = "refuse"
        self.max_commits = 100
        self.max_size_bytes = 50_000_000
        self.allow: tuple[str, ...] = ("*",)
        self.wait_timeout_s = 3600.0
        self.protected_tags: tuple[str, ...] = ()
        self.maintainers: tuple[str, ...] = ()
        # Most of what a gate.toml says is not for us. A table that is not spelled in it (an escape could spell it
        # otherwise) is not there, and the parser's import, the dearest of all, is saved.
        if any(word in text for word in (b"submit", b"protect", b"maintainers", b"\\")):
            self._read(text)

    def _read(self, text: bytes) -> None:
        import tomllib

        try:
            tables = tomllib.loads(text.decode())
            submit, protect, trust = (table(tables, name) for name in ("submit", "protect", "trust"))
            trunk_push = submit.get("trunk_push", self.trunk_push)
            max_commits = integer(submit.get("max_commits", self.max_commits))
            max_size_bytes = size_bytes(submit.get("max_size", self.max_size_bytes))
            allow = names(submit.get("allow", self.allow))
            wait_timeout_s = duration_s(submit.get("wait_timeout", self.wait_timeout_s))
            protected_tags = names(protect.get("tags", ()))
            maintainers = names(trust.get("maintainers", ()))
        except (ValueError, RecursionError):
            return  # broken: the defaults hold here, and the daemon tells the maintainers
        self.trunk_push = "submit" if trunk_push == "submit" else "refuse"
        self.max_commits = max_commits
        self.max_size_bytes = max_size_bytes
        self.allow = allow
        self.wait_timeout_s = wait_timeout_s
        self.protected_tags = protected_tags
        self.maintainers = maintainers


def table(tables: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(name)
    return found


def names(value: object) -> tuple[str, ...]:
    """A list of strings, or one string for a list of one."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError(value)


def integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(value)


_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def size_bytes(value: object) -> int:
    if isinstance(value, str):
        number = value.rstrip("bBkKmMgGiI ")
        return int(float(number) * _unit(_SIZES, value[len(number) :].strip().upper()))
    return integer(value)


def duration_s(value: object) -> float:
    if isinstance(value, str):
        total = 0.0
        for part in _parts(value):
            number = part.rstrip("abcdefghijklmnopqrstuvwxyz ")
            total += float(number) * _unit(_DURATIONS, part[len(number) :].strip())
        return total
    if isinstance(value, float):
        return value
    return float(integer(value))


def _parts(value: str) -> list[str]:
    """A duration such as 1h30m as its parts, 1h and 30m."""
    parts = [""]
    for before, letter in zip(" " + value, value, strict=False):
        if before.isalpha() and not letter.isalpha():
            parts.append("")
        parts[-1] += letter
    return [part for part in parts if part.strip()]


def _unit(units: Mapping[str, float], name: str) -> float:
    if name not in units:
        raise ValueError(name)
    return units[name]


def read_policy(objects: Objects, trunk: str) -> Policy:
    found = objects.read(f"{trunk}:gate.toml")
    if found is None or found[1] != "blob" or len(found[2]) >= MAX_READ_BYTES:
        return Policy()
    return Policy(found[2])


def who_pushes() -> str:
    """The name that the transport vouches for, else the local account's."""
    for variable in ("GATE_USER", "GL_USER", "REMOTE_USER"):
        name = clean(os.environ.get(variable, "").strip(), MAX_NAME)
        if name:
            return name
    return account(os.getuid())


def account(uid: int) -> str:
    try:
        return clean(pwd.getpwuid(uid).pw_name, MAX_NAME)
    except KeyError:
        return f"uid {uid}"


def is_maintainer(name: str, policy: Policy) -> bool:
    """Nobody named: the account that owns the repository is the only maintainer."""
    return name in (policy.maintainers or (account(os.stat(".").st_uid),))  # noqa: PTH116 - importing pathlib would cost 5 ms


# --- the conversation with Git ----------------------------------------------------------------------------------------


class Command:
    """One ref that the pusher wants to change, and what became of it."""

    def __init__(self, old: str, new: str, ref: str) -> None:
        self.old = old
        self.new = new
        self.ref = ref
        self.refused = ""  # why; "": it was not
        self.cure: tuple[str, ...] = ()
        self.submission: Submission | None = None

    @property
    def is_deletion(self) -> bool:
        return not self.new.strip("0")

    def refuse(self, refusal: Refused) -> None:
        self.refused = refusal.reason
        self.cure = refusal.cure


class Push:
    def __init__(self, commands: list[Command], options: list[str], *, is_atomic: bool) -> None:
        self.commands = commands
        self.options = options
        self.is_atomic = is_atomic


def read_packet(stream: BinaryIO) -> bytes | None:
    """One packet's payload without its last newline; None for a flush packet."""
    head = stream.read(4)
    try:
        size = int(head, 16)
    except ValueError:
        size = -1
    if len(head) < 4 or size in (-1, 1, 2, 3):
        raise Unavailable("git ended the conversation with its hook in the middle")
    return None if size == 0 else stream.read(size - 4).removesuffix(b"\n")


def read_packets(stream: BinaryIO) -> list[bytes]:
    packets = []
    while (packet := read_packet(stream)) is not None:
        packets.append(packet)
    return packets


def write_packets(stream: BinaryIO, lines: Sequence[str]) -> None:
    """The lines as packets, with a flush packet behind them."""
    for line in lines:
        data = os.fsencode(line) + b"\n"
        stream.write(b"%04x%s" % (len(data) + 4, data))
    stream.write(b"0000")
    stream.flush()


def read_push(stdin: BinaryIO, stdout: BinaryIO) -> Push:
    """Git's side of the conversation: version and capabilities, commands, push options."""
    version, _, capabilities = b"".join(read_packets(stdin)).partition(b"\0")
    if version != b"version=1":
        raise Unavailable(f"this git speaks {clean(os.fsdecode(version), 50)!r} to its hook instead of version=1")
    spoken = [word for word in ("push-options", "atomic") if word.encode() in capabilities.split()]
    write_packets(stdout, ["version=1" + ("\0" + " ".join(spoken) if spoken else "")])
    commands = [Command(*os.fsdecode(line).split(" ", 2)) for line in read_packets(stdin)]
    options = [os.fsdecode(line) for line in read_packets(stdin)] if "push-options" in spoken else []
    return Push(commands, options, is_atomic="atomic" in spoken)


def report(push: Push, stdout: BinaryIO) -> None:
    lines = []
    for command in push.commands:
        if command.refused:
            lines.append(f"ng {command.ref} {clean(command.refused, MAX_REASON)}")
            continue
        lines.append(f"ok {command.ref}")
        if command.submission is not None:
            # The pushed commit under its new name, and never what landed: the pusher's git does not have that one.
            lines += [
                f"option refname {command.submission.ref}",
                f"option old-oid {'0' * len(command.new)}",
                f"option new-oid {command.new}",
            ]
    write_packets(stdout, lines)


# --- push options -----------------------------------------------------------------------------------------------------


class Options:
    """Push options, read. Raises Refused, by name, for one that is unknown or malformed."""

    def __init__(self, given: Sequence[str]) -> None:
        self.wait = False
        self.draft = False
        self.fixes_trunk = False
        self.priority = "normal"
        self.change: int | None = None
        self.topic = ""
        depends: set[int] = set()
        if len(given) > MAX_OPTIONS:
            raise Refused(f"{len(given)} push options are too many: at most {MAX_OPTIONS} are read")
        for option in given:
            name, has_value, value = option.partition("=")
            if name not in OPTIONS:
                known = "known are wait, priority=…, change=N, depends=N, draft, fixes-trunk and topic=NAME"
                raise Refused(f"unknown push option '{clean(name, 40)}'{nearest(name, OPTIONS)}", known)
            if name in ("wait", "draft", "fixes-trunk"):
                if has_value:
                    raise Refused(f"push option '{name}' takes no value: write -o {name}")
                setattr(self, name.replace("-", "_"), True)
            elif name == "priority":
                if value not in PRIORITIES:
                    raise Refused(
                        f"push option priority={clean(value, 40)} is unknown{nearest(value, PRIORITIES)}",
                        f"known are {', '.join(PRIORITIES)}",
                    )
                self.priority = value
            elif name == "change":
                self.change = change_number(name, value)
            elif name == "depends":
                depends.update(change_number(name, part) for part in value.split(",", MAX_DEPENDS + 1))
            else:
                self.topic = checked_topic(value)
        if len(depends) > MAX_DEPENDS:
            raise Refused(f"a change may depend on {MAX_DEPENDS} others, not on {len(depends)}")
        if self.wait and self.draft:
            raise Refused("a draft has no outcome to wait for: leave out -o wait or -o draft")
        self.depends = sorted(depends)

    @property
    def record(self) -> dict[str, object]:
        """What is kept of them."""
        kept: dict[str, object] = {"priority": self.priority, "depends": self.depends, "draft": self.draft}
        if self.fixes_trunk:  # named only where it is set, so that the same push as before it was known is the same still
            kept["fixes_trunk"] = True
        return kept


def change_number(option: str, value: str) -> int:
    number = value.strip()
    if not (number.isascii() and number.isdecimal() and len(number) <= 9 and int(number) > 0):
        raise Refused(f"push option {option}={clean(value, 40)} names no change: write -o {option}=12")
    return int(number)


def checked_topic(value: str) -> str:
    topic = value.strip()
    if not topic or clean(topic, MAX_TOPIC) != topic:
        raise Refused(f"a topic is a line of 1 to {MAX_TOPIC} printable characters, which '{clean(value, 40)}' is not")
    return topic


# --- judging what was pushed ------------------------------------------------------------------------------------------


class Submission:
    """A push that is good to record. change, revision and record are set once it is."""

    def __init__(self, command: Command, topic: str, subject: str, change_id: str) -> None:
        self.head = command.new
        self.topic = topic
        self.subject = subject
        self.change_id = change_id
        self.change = 0
        self.revision = 0
        self.is_repeated = False  # an earlier push had recorded it
        self.is_recorded = False

    @property
    def ref(self) -> str:
        return f"refs/changes/{self.change}/{self.revision}"

    @property
    def name(self) -> str:
        return f"change {self.change} revision {self.revision}"


class Door:
    """What one push is judged against: the repository as it is, the policy, who pushes, and the options."""

    def __init__(self, objects: Objects, given: Sequence[str]) -> None:
        self.objects = objects
        self.trunk = trunk_ref()
        self.name = self.trunk.removeprefix("refs/heads/")
        self.trunk_at = objects.id(self.trunk)
        self.policy = read_policy(objects, self.trunk)
        self.who = who_pushes()
        self.options = Options(given)

    def judge(self, command: Command) -> None:
        """Make the command a submission. Left without one: it founds trunk. Raises Refused."""
        topic = self.topic_of(command)
        if "*" not in self.policy.allow and self.who not in self.policy.allow:
            raise Refused(
                f"{self.who} may not submit here", "who may: submit.allow in gate.toml on trunk; a maintainer can change it"
            )
        found = self.objects.read(command.new)
        if found is None or found[1] != "commit":
            kind = found[1] if found else "missing object"
            raise Refused(f"{command.new[:10]} is a {kind}, not a commit: push HEAD or a branch")
        if self.trunk_at is None:
            return
        self.check_commits(command.new, self.trunk_at)
        subject, change_id = read_message(found[2])
        command.submission = Submission(command, topic, subject, change_id)

    def topic_of(self, command: Command) -> str:
        """The topic of a push to a ref that takes submissions. Raises Refused for any other ref, and for deletions."""
        submit = f"git push origin HEAD:refs/for/{self.name}"
        if command.ref == self.trunk:
            if command.is_deletion:
                raise Refused(f"{self.name} is the trunk of this gate and is not deleted by a push")
            if self.trunk_at is not None and self.policy.trunk_push != "submit":
                raise Refused(f"{self.name} moves only through the gate", "to submit your change instead:", f"  {submit}")
            return self.options.topic
        if command.ref.startswith(self.trunk + "/"):
            raise Refused(f"a branch below {self.name} would be in the way of the trunk itself: choose another name")
        target = command.ref.removeprefix("refs/for/")
        if target != self.name and not target.startswith(self.name + "/"):
            raise Refused(
                f"unknown target branch '{clean(target, 60)}': the trunk here is '{self.name}'", "to submit:", f"  {submit}"
            )
        if command.is_deletion:
            raise Refused("nothing is kept under refs/for, so nothing can be deleted there", "to withdraw: gate cancel N")
        if self.trunk_at is None:
            raise Refused(
                f"{self.name} does not exist yet", "to found it with your commits:", f"  git push origin HEAD:{self.name}"
            )
        topic = target.removeprefix(self.name).removeprefix("/")
        if topic and self.options.topic and topic != self.options.topic:
            raise Refused(
                f"two topics for one change: '{clean(topic, 40)}' in the ref, '{clean(self.options.topic, 40)}' as option"
            )
        return checked_topic(topic) if topic else self.options.topic

    def check_commits(self, head: str, trunk_at: str) -> None:
        """That the head has something to land, grown from trunk, within the limits. Raises Refused."""
        most = self.policy.max_commits
        limit = [f"--max-count={most + 1}"] if most else []
        lines = git("rev-list", "--boundary", *limit, head, f"^{trunk_at}")[1].split()
        commits = sum(not line.startswith("-") for line in lines)
        if commits == 0:
            raise Refused(f"no commits to land: {head[:10]} is already part of {self.name}")
        is_related = commits < len(lines) or git("merge-base", head, trunk_at, ok=(0, 1))[0] == 0
        if not is_related:
            raise Refused(
                f"unrelated history: no commit of {head[:10]} is on {self.name}",
                f"start from the trunk: git fetch origin && git rebase --root --onto origin/{self.name}",
            )
        if most and commits > most:
            raise Refused(
                f"more than {most} commits to land",
                "submit them in parts, or squash them; the limit is submit.max_commits in gate.toml",
            )
        size = int(git("rev-list", "--disk-usage", "--objects", head, f"^{trunk_at}")[1])
        if self.policy.max_size_bytes and size > self.policy.max_size_bytes:
            raise Refused(
                f"too large: {size / 1e6:.3g} MB of new objects, with {self.policy.max_size_bytes / 1e6:.3g} MB allowed",
                "take large files out of the commits; the limit is submit.max_size in gate.toml",
            )
        if size > FLAT_BYTES:
            asked = ("rev-list", "--disk-usage", "--objects", f"--filter=tree:{MAX_DEPTH}", head, f"^{trunk_at}")
            if int(git(*asked)[1]) != size:
                raise Refused(f"folders in folders, more than {MAX_DEPTH} deep", "no machine could check such a tree out")


def read_message(commit: bytes) -> tuple[str, str]:
    """Subject and Change-Id trailer ("" when there is none) of a commit object."""
    message = commit.partition(b"\n\n")[2].decode("utf-8", "replace")
    paragraphs = [part for part in message.replace("\r\n", "\n").split("\n\n") if part.strip()]
    if not paragraphs:
        return "", ""
    subject = clean(paragraphs[0].strip().partition("\n")[0], MAX_SUBJECT)
    change_id = ""
    for line in paragraphs[-1].split("\n") if len(paragraphs) > 1 else ():
        token, colon, value = line.partition(":")
        if colon and token.lower() == "change-id":
            change_id = clean(value.strip(), MAX_NAME)
    return subject, change_id


# --- recording --------------------------------------------------------------------------------------------------------


class Recorder:
    """One attempt to record a push: reads the newest record, collects ref updates, and performs them all or none."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.updates: list[str] = []
        self.names: list[str] = []
        self.fresh: dict[str, Mapping[str, object]] = {}  # records and refs of this very push
        newest = door.objects.read(SUBMISSIONS)
        if newest is None:
            self.tree = git("mktree")[1]
            self.was = "0" * len(self.tree)
            self.at = self.write({"format": FORMAT, "next": 1}, ())
            self.next = 1
        else:
            self.was = self.at = newest[0]
            self.tree = newest[2].partition(b"\n")[0].removeprefix(b"tree ").decode()
            self.next = next_number(newest)

    def add(self, submission: Submission) -> None:
        """Give the submission its number and revision. Raises Refused."""
        submission.is_repeated = False
        keys = self.keys_of(submission)
        previous = self.previous_of(submission, keys)
        record: dict[str, object] = {"format": FORMAT}
        if previous is None:
            submission.change, submission.revision = self.next, 1
            owner: object = self.door.who
        else:
            submission.change, submission.revision = number(previous, "change"), number(previous, "revision")
            owner = previous.get("owner", previous.get("by"))
            if previous.get("head") == submission.head and previous.get("options") == self.door.options.record:
                submission.is_repeated = True
                return
            submission.revision += 1
        self.next = max(self.next, submission.change + 1)
        now = time.time()
        record |= {
            "change": submission.change,
            "revision": submission.revision,
            "next": self.next,
            "head": submission.head,
            "target": self.door.name,
            "by": self.door.who,
            "owner": owner,
            "at": round(now, 3),
            "options": self.door.options.record,
            "topic": submission.topic,
            "change_id": submission.change_id,
            "subject": submission.subject,
        }
        self.at = self.write(record, (self.at, submission.head))
        self.updates.append(f"update {submission.ref} {submission.head}")
        self.fresh[submission.ref] = record
        for key in keys:
            self.names.append(f"update {key} {self.at}")
            self.fresh[key] = record

    def commit(self) -> None:
        """Perform the ref updates in one transaction. Raises LostRace when somebody else's came first.

        git applies them one after another and may be killed in between, so their order matters: a change's ref without a
        record is nothing, and is written over; a record without its names is whole; a name must not lead to no record.
        And we may be killed before git has read them all: only with "commit" are they complete.
        """
        if not self.updates:
            return
        lines = ["start", *self.updates, f"update {SUBMISSIONS} {self.at} {self.was}", *self.names, "prepare", "commit"]
        stdin = "".join(line + "\n" for line in lines).encode()
        code, _, said = git("update-ref", "--stdin", stdin=stdin, ok=(0, 1, 128))
        if code == 0:
            return
        moved = (self.door.objects.id(SUBMISSIONS) or "0" * len(self.was)) != self.was
        if moved or ".lock': File exists" in said:
            raise LostRace(said)
        raise Unavailable(f"the change could not be recorded: {said.splitlines()[-1] if said else 'git update-ref failed'}")

    def keys_of(self, submission: Submission) -> list[str]:
        """Refs under which the change is found again, strongest first: by its head, its topic, its Change-Id."""
        import hashlib

        marks = [f"head {submission.head}"]
        if submission.topic:
            marks.append(f"topic {submission.topic}")
        if submission.change_id:
            marks.append(f"change-id {submission.change_id}")
        front = f"{self.door.who}\0{self.door.name}\0"
        return [
            f"refs/gate/topics/{hashlib.sha256((front + mark).encode('utf-8', 'surrogateescape')).hexdigest()}"
            for mark in marks
        ]

    def previous_of(self, submission: Submission, keys: Sequence[str]) -> Mapping[str, object] | None:
        """Newest record of the change that this is a new push of; None: it is a new change. Raises Refused."""
        asked = self.door.options.change
        if asked is not None:
            return self.claimed(asked)
        by_head, *by_name = (self.record_at(key) for key in keys)
        same_head = by_head is not None and by_head.get("head") == submission.head
        if by_head is not None and same_head and self.is_newest(by_head):
            return by_head
        for record in (*by_name, by_head):
            if record is not None and not self.has_landed(number(record, "change")):
                return record if self.is_newest(record) else self.newest_of(number(record, "change"))
        return None

    def claimed(self, change: int) -> Mapping[str, object]:
        """Newest record of a change that the pusher names. Raises Refused unless it is theirs to push to."""
        if change >= self.next:
            raise Refused(f"change {change} is unknown here", f"leave out -o change={change} to submit a new change")
        if self.has_landed(change):
            raise Refused(f"change {change} has landed already", f"leave out -o change={change} to submit a new change")
        record = self.newest_of(change)
        owner = record.get("owner", record.get("by"))
        if owner != self.door.who and not is_maintainer(self.door.who, self.door.policy):
            raise Refused(
                f"change {change} belongs to {clean(str(owner), MAX_NAME)}",
                "only they or a maintainer push new revisions; leave out -o change to submit a change of your own",
            )
        return record

    def is_newest(self, record: Mapping[str, object]) -> bool:
        """Whether no later revision of an unlanded change is recorded."""
        change, later = number(record, "change"), number(record, "revision") + 1
        ref = f"refs/changes/{change}/{later}"
        return ref not in self.fresh and self.door.objects.id(ref) is None and not self.has_landed(change)

    def has_landed(self, change: int) -> bool:
        return self.door.objects.id(f"refs/changes/{change}/landed") is not None

    def newest_of(self, change: int) -> Mapping[str, object]:
        mine = [record for record in self.fresh.values() if record.get("change") == change]
        if mine:
            return mine[-1]
        # No text that a pusher can choose holds a bare quote, so this finds the key itself.
        pattern = f'"change":{change},'
        found = git("rev-list", "-1", "--first-parent", "--fixed-strings", f"--grep={pattern}", SUBMISSIONS)[1]
        record = self.record_at(found) if found else None
        if record is None:
            raise Unavailable(f"{SUBMISSIONS} has no record of change {change}: the repository is damaged")
        return record

    def record_at(self, name: str) -> Mapping[str, object] | None:
        if name in self.fresh:
            return self.fresh[name]
        found = self.door.objects.read(name)
        return self.parse(found) if found else None

    def parse(self, found: tuple[str, str, bytes]) -> Mapping[str, object]:
        import json

        try:
            record = json.loads(found[2].partition(b"\n\n")[2])
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise unreadable(found[0])
        return record

    def write(self, record: Mapping[str, object], parents: Sequence[str]) -> str:
        """Write a record as a commit of the empty tree, and return its id."""
        signature = f"{IDENTITY} {int(time.time())} +0000"
        lines = [f"tree {self.tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {signature}", f"committer {signature}", "", json_of(record), ""]
        return git("hash-object", "-t", "commit", "-w", "--stdin", stdin="\n".join(lines).encode())[1]


def unreadable(record: str) -> Unavailable:
    return Unavailable(f"the record {record[:10]} on {SUBMISSIONS} cannot be read by this version of the hook")


def next_number(found: tuple[str, str, bytes]) -> int:
    """The number of the next change, which each record starts with; without json, whose import a plain push is spared."""
    message = found[2].partition(b"\n\n")[2]
    front, _, rest = message.partition(b'"next":')
    digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
    if not front.startswith(b'{"format":%d,' % FORMAT) or not digits:
        raise unreadable(found[0])
    return int(digits)


def json_of(value: object) -> str:
    """What a record is made of as JSON: mappings, lists, text, numbers and truth."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_of(name)}:{json_of(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(json_of(part) for part in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _escaped(letter: str) -> str:
    if " " <= letter <= "~" and letter not in '"\\':
        return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4))


def number(record: Mapping[str, object], name: str) -> int:
    value = record.get(name)
    if not isinstance(value, int):
        raise Unavailable(f"a record on {SUBMISSIONS} has no {name}: the repository is damaged")
    return value


def record_push(push: Push, door: Door) -> None:
    """Record every command that is good, in one transaction; when the push is atomic and one is not, none."""
    good = [command for command in push.commands if not command.refused]
    submissions = [command for command in good if command.submission is not None]
    if len(submissions) > 1 and (door.options.change or door.options.topic):
        for command in submissions:
            command.refuse(Refused("-o change and -o topic name one change, and this push has several refs"))
    give_up_at = time.monotonic() + RACE_PATIENCE_S
    pause_s = 0.005
    while True:
        try:
            attempt(push, door)
            return
        except LostRace as race:
            if time.monotonic() > give_up_at:
                raise Unavailable(
                    f"the change could not be recorded, because others are at it all the time: {race}"
                ) from race
            time.sleep(pause_s * (0.5 + os.urandom(1)[0] / 256))
            pause_s = min(pause_s * 1.6, 0.5)


def attempt(push: Push, door: Door) -> None:
    """Read, decide, write. Raises LostRace when another push came between."""
    recorder: Recorder | None = None
    for command in push.commands:
        if command.refused or command.submission is None:
            continue
        recorder = recorder or Recorder(door)
        try:
            unknown = [change for change in door.options.depends if change >= recorder.next]
            if unknown:
                raise Refused(f"depends={unknown[0]}: change {unknown[0]} is unknown here")
            recorder.add(command.submission)
            if command.submission.change in door.options.depends:
                raise Refused(f"change {command.submission.change} cannot depend on itself")
        except Refused as refusal:
            command.refuse(refusal)
    if push.is_atomic and refuse_all_for_one(push):
        return
    founding = [command for command in push.commands if not command.refused and command.submission is None]
    if founding:
        found_trunk(founding[0], door)
    if recorder is not None:
        recorder.commit()
    for command in push.commands:
        if command.submission is not None and not command.refused:
            command.submission.is_recorded = True


def refuse_all_for_one(push: Push) -> bool:
    """In an atomic push one refusal refuses all. Whether there was one."""
    bad = next((command for command in push.commands if command.refused), None)
    if bad is None:
        return False
    for command in push.commands:
        if not command.refused:
            command.refuse(Refused(f"nothing of this atomic push is recorded, because {bad.ref} was refused"))
    return True


def found_trunk(command: Command, door: Door) -> None:
    code, _, said = git("update-ref", "--stdin", stdin=f"create {door.trunk} {command.new}\n".encode(), ok=(0, 1, 128))
    if code == 0:
        return
    if door.objects.id(door.trunk) is not None:
        command.refuse(
            Refused(f"{door.name} was founded by somebody else at this moment", "fetch it, and submit your change to it")
        )
    else:
        raise Unavailable(f"{door.name} could not be founded: {said.splitlines()[-1] if said else 'git update-ref failed'}")


# --- the daemon, and waiting for it -----------------------------------------------------------------------------------


def wake() -> bool:
    """Tell the daemon that there is news. False: nobody listens, which is harmless."""
    try:
        pipe = os.open("gate/wake", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        os.write(pipe, b"p")
    except OSError:
        return True  # full: the daemon has been told often enough
    finally:
        os.close(pipe)
    return True


def is_gate_running() -> bool:
    """Whether a daemon holds its lock. What cannot be looked at (another account's) is taken for running."""
    import fcntl

    try:
        lock = os.open("gate/daemon.lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


class Watch:
    """Follows the feed of one change for one revision, until a verdict."""

    def __init__(self, submission: Submission) -> None:
        import json

        self._json = json
        self.submission = submission
        self.verdict = ""
        self.because = ""
        self._file = -1
        self._rest = b""

    def look(self) -> None:
        """Show what is new. Raises Unavailable when the feed may not be read."""
        if self._file < 0:
            try:
                self._file = os.open(f"gate/feed/{self.submission.change}.jsonl", os.O_RDONLY)
            except FileNotFoundError:
                return
            except OSError as cause:
                raise Unavailable(f"its outcome cannot be followed from this account: {cause.strerror}") from cause
        while not self.verdict and (data := os.read(self._file, 65536)):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = self._json.loads(line)
        except ValueError:
            return  # not ours to judge; the daemon writes whole lines
        if self.verdict or not isinstance(entry, dict) or not isinstance(entry.get("revision"), int):
            return
        if entry["revision"] > self.submission.revision:
            self.verdict, self.because = "withdrawn", f"revision {entry['revision']} came in its place"
            return
        if entry["revision"] < self.submission.revision:
            return
        text = str(entry.get("text", ""))
        for part in text.splitlines():
            say(part)
        verdict = entry.get("verdict")
        if isinstance(verdict, str):
            self.verdict, self.because = verdict, text.strip().partition("\n")[0]


def wait_for_verdicts(push: Push, timeout_s: float) -> None:
    """Follow the submissions of this push until each has a verdict; refuse the commands that did not land."""
    watches = [
        (command, Watch(command.submission)) for command in push.commands if command.submission and not command.refused
    ]
    give_up_at = time.monotonic() + timeout_s
    ask_at = 0.0
    was_running = is_gate_running()  # ahead of the first look: what the feed tells later came from a gate that ran
    is_first = True
    pusher = select.poll()
    pusher.register(1, 0)  # reports an error once nobody holds the other end, which is receive-pack
    while True:
        for _, watch in watches:
            if not watch.verdict:
                watch.look()
        pending = [(command, watch) for command, watch in watches if not watch.verdict]
        now = time.monotonic()
        if not pending or now >= give_up_at or (not is_first and pusher.poll(LOOK_EVERY_MS)):
            break
        if now >= ask_at:
            is_running = was_running if is_first else is_gate_running()
            if is_first and not is_running:
                for command, watch in pending:
                    number = watch.submission.change
                    command.refused = f"submitted as change {number}, but the gate is not running, so its outcome is unknown"
                break
            if was_running and not is_running:
                say("gate: the gate has stopped; your change is safe, waiting for the gate to come back")
            elif is_running and not was_running:
                say("gate: the gate is back")
            was_running = is_running
            ask_at = now + ASK_EVERY_S
        is_first = False
    for command, watch in watches:
        change = watch.submission.change
        if command.refused or watch.verdict == "landed":
            continue
        if watch.verdict:
            front = f"change {change} {watch.verdict}: "  # the daemon's own sentence begins with it
            command.refused = front + watch.because.removeprefix(front)
        else:
            command.refused = f"change {change} has no verdict after {timeout_s:.0f} s; it is still in the queue"


# --- proc-receive -----------------------------------------------------------------------------------------------------


def tell(push: Push, door: Door, *, is_listening: bool) -> None:
    """Say what became of each command."""
    submitted = []
    for command in push.commands:
        submission = command.submission
        if command.refused:
            say(f"gate: {command.ref}: {command.refused}")
            for line in command.cure:
                say(f"gate:   {line}")
        elif submission is None:
            say(f"gate: {door.name} is founded at {command.new[:10]}; from now on changes land through refs/for/{door.name}")
        else:
            submitted.append(submission)
            verb = "had been submitted already" if submission.is_repeated else "submitted"
            say(f"gate: {submission.name} {verb}: {submission.subject}")
            say(f"gate:   follow it on the server: gate log {submission.change} --follow, or gate why {submission.change}")
    if submitted and not is_listening and not is_gate_running():
        say("gate: the gate is not running now; your change is safe, and waits until it is")


def proc_receive() -> int:
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    push = read_push(stdin, stdout)
    try:
        answer(push)
    except Refused as refusal:
        refuse_open(push, refusal)
    except Unavailable as cause:
        refuse_open(push, Refused(str(cause)))
    except Exception:
        refuse_open(push, Refused(log_crash()))
    report(push, stdout)
    return 0


def answer(push: Push) -> None:
    """Judge, record, tell and, when asked, wait. Each command ends as refused, as a submission, or as trunk's founding."""
    if len(push.commands) > MAX_COMMANDS:
        raise Refused(f"{len(push.commands)} refs in one push are too many for the gate: at most {MAX_COMMANDS}")
    objects = Objects()
    try:
        door = Door(objects, push.options)
        for command in push.commands:
            try:
                door.judge(command)
            except Refused as refusal:
                command.refuse(refusal)
        record_push(push, door)
    finally:
        objects.close()
    tell(push, door, is_listening=wake())
    if door.options.wait:
        wait_for_verdicts(push, door.policy.wait_timeout_s)


def refuse_open(push: Push, refusal: Refused) -> None:
    """Refuse every command that has no answer yet, because of something that concerns the push as a whole."""
    for command in push.commands:
        submission = command.submission
        if submission is not None and submission.is_recorded and not command.refused:
            command.refuse(Refused(f"{submission.name} is recorded and safe, but: {refusal.reason}"))
        elif not command.refused:
            command.refuse(refusal)
    say(f"gate: {refusal.reason}")
    for line in refusal.cure:
        say(f"gate:   {line}")


def log_crash() -> str:
    """Keep the traceback for the owner of the server; the sentence for the pusher."""
    import traceback

    path = "gate/hook-errors.log"
    try:
        mode = "a" if not os.path.exists(path) or os.path.getsize(path) < MAX_LOG_BYTES else "w"  # noqa: PTH110, PTH202
        with open(path, mode, encoding="utf-8", errors="backslashreplace") as log:  # noqa: PTH123
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            log.write(f"--- {now} {' '.join(sys.argv[1:])}\n{traceback.format_exc()}")
    except OSError:
        return "the gate's hook failed, and could not even write its log; please tell the owner of the server"
    return f"the gate's hook failed; the owner of the server finds the cause in {path}"


# --- pre-receive ------------------------------------------------------------------------------------------------------


def pre_receive() -> int:
    """Refuse the whole push when it touches a ref that only the gate moves. Works in quarantine: it writes nothing."""
    trunk = trunk_ref()
    guard = Guard(trunk)
    refused = 0
    for line in sys.stdin.buffer:
        old, new, ref = os.fsdecode(line.removesuffix(b"\n")).split(" ", 2)
        try:
            guard.check(Command(old, new, ref))
        except Refused as refusal:
            refused += 1
            if refused <= MAX_TOLD:
                say(f"gate: {refusal.reason}")
                for cure in refusal.cure:
                    say(f"gate:   {cure}")
    if refused > MAX_TOLD:
        say(f"gate: and {refused - MAX_TOLD} more refs of this push are refused likewise")
    return 1 if refused else 0


class Guard:
    """Which refs nobody but the gate may create, move or delete."""

    def __init__(self, trunk: str) -> None:
        self.trunk = trunk
        self.name = trunk.removeprefix("refs/heads/")
        self._routed: set[str] | None = None
        self._tags: tuple[str, ...] | None = None

    def check(self, command: Command) -> None:
        """Raises Refused."""
        ref = aliased(command.ref)
        shown = clean(command.ref, 100)
        # Git takes refs/heads/X or refs/tags/X for X where there is no X: refs/heads/refs/changes/1/landed is a forgery.
        if not command.is_deletion and ref.startswith(FORGED):
            raise Refused(f"{shown} could be taken for another ref: choose a name that does not begin with refs/")
        if ref in ("refs/for", self.trunk) or ref.startswith(("refs/for/", self.trunk + "/")):
            # Git hands these to proc-receive; should its configuration be lost, they must not become plain updates.
            if ref != command.ref or not self.is_routed("refs/for" if ref.startswith("refs/for") else self.trunk):
                raise Refused(
                    f"{shown} leads to {self.name} past the gate: the settings of this repository are damaged",
                    "its owner repairs them with: gate init on this repository",
                )
        elif lies_in(ref, "refs/heads/green"):
            raise Refused(f"{shown} is moved by the gate alone, to commits whose post-commit checks are green")
        elif lies_in(ref, "refs/changes"):
            raise Refused(
                f"{shown} is written by the gate alone", "to submit:", f"  git push origin HEAD:refs/for/{self.name}"
            )
        elif lies_in(ref, "refs/gate") or lies_in(ref, "refs/notes/gate"):
            raise Refused(f"{shown} is a record of the gate, and is written by the gate alone")
        elif ref.startswith("refs/tags/"):
            self.check_tag(ref.removeprefix("refs/tags/"))

    def check_tag(self, tag: str) -> None:
        import fnmatch

        if self._tags is None:
            objects = Objects()
            try:
                self._tags = read_policy(objects, self.trunk).protected_tags
            finally:
                objects.close()
        pattern = next((pattern for pattern in self._tags if fnmatch.fnmatchcase(tag, pattern)), None)
        if pattern is not None:
            raise Refused(
                f"the tag {clean(tag, 100)} is protected by '{clean(pattern, 100)}'",
                "choose another name, or ask a maintainer to change protect.tags in gate.toml",
            )

    def is_routed(self, prefix: str) -> bool:
        """Whether Git hands every push below this prefix to an installed proc-receive hook."""
        if self._routed is None:
            said = git("config", "--get-regexp", r"^(receive\.procreceiverefs|core\.hookspath)$", ok=(0, 1))[1]
            settings = [line.partition(" ") for line in said.splitlines()]
            self._routed = {value.rstrip("/") for name, _, value in settings if name == "receive.procreceiverefs"}
            is_elsewhere = any(name == "core.hookspath" for name, _, _ in settings)
            hooks = git("rev-parse", "--git-path", "hooks")[1] if is_elsewhere else "hooks"
            if not os.access(f"{hooks}/proc-receive", os.X_OK):
                self._routed = set()
        return prefix in self._routed


def lies_in(ref: str, folder: str) -> bool:
    return ref == folder or ref.startswith(folder + "/")


def aliased(ref: str) -> str:
    """The ref that a symbolic ref leads to: an alias of trunk is trunk. Refs are files here, or are no aliases."""
    for _ in range(5):
        try:
            with open(ref, "rb") as file:  # noqa: PTH123 - importing pathlib would cost 5 ms
                said = file.read(1000)
        except (OSError, ValueError):
            return ref
        if not said.startswith(b"ref: "):
            return ref
        ref = os.fsdecode(said[5:].strip())
    return ref


def main() -> int:
    """The one place that ends the process. A crash refuses the push with one sentence; its traceback goes to a log."""
    parts = {"proc-receive": proc_receive, "pre-receive": pre_receive}
    part = parts.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if part is None:
        say("gate: this is a hook of the gate, started by git as 'receive.py proc-receive' or 'receive.py pre-receive'")
        return 2
    try:
        return part()
    except (Refused, Unavailable) as cause:
        say(f"gate: {cause}")
    except KeyboardInterrupt:
        return 130
    except Exception:
        say(f"gate: {log_crash()}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
