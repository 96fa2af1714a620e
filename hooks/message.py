"""commit-msg: judges a commit message by the [message] rules of gate.toml. It never changes the message."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ci.errors import UserError
from gate.config import Message
from hooks import text
from hooks.config import read_config
from hooks.staged import ask_git

_SCISSORS = ">8 ----"

# Subjects that git writes by itself.
_FIXUP = re.compile(r"(fixup|squash|amend)! ")
_MERGE = re.compile(
    r"Merge (branch|branches|remote-tracking branch|tag|tags|commit|commits|pull request|[0-9a-f]{7,} into) "
)
_REVERT = re.compile(r'(Revert|Reapply) "')


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What git will do to the message before it becomes a commit. comment: how a comment line begins, or "auto"."""

    strips_comments: bool = True
    cuts_at_scissors: bool = True
    comment: str = "#"
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the message breaks. rule: the key below [message]."""

    rule: str
    text: str


def run(words: list[str]) -> int:
    """words: the path of the message, as git passes it. 0: fine, 1: a rule is broken. Raises UserError."""
    if words in (["-h"], ["--help"]):
        sys.stdout.write(text.MESSAGE_HELP)
        return 0
    if len(words) != 1:
        raise UserError(text.message_usage())
    config = read_config("", "HEAD")
    if config is None or config.message == Message():
        return 0
    cleanup = _ask_for_cleanup()
    message = clean(decode(_read(Path(words[0])), cleanup.encoding), cleanup)
    broken = judge(message, config.message, _trailer_names(message) if config.message.trailers else ())
    if not broken:
        return 0
    if not message:
        text.warn(text.MESSAGE_EMPTY)
        return 1
    for line in text.message_refused(subject_of(message), words[0], ((each.rule, each.text) for each in broken)):
        text.warn(line)
    return 1


def judge(message: str, rules: Message, trailers: tuple[str, ...]) -> tuple[Broken, ...]:
    """The rules that a cleaned message breaks, in the order of the file. trailers: names of those that it has."""
    subject = subject_of(message)
    if _FIXUP.match(subject) or _MERGE.match(subject):
        # A fixup loses its subject before it lands, and a merge has git's words.
        return ()
    broken = []
    if not _REVERT.match(subject):
        if rules.pattern and not _search(rules.pattern, subject):
            broken.append(Broken("pattern", text.subject_unlike_pattern(rules.pattern)))
        if rules.max_subject and len(subject) > rules.max_subject:
            runs_on = "\n" in message.split("\n\n")[0].strip("\n")
            broken.append(Broken("max_subject", text.subject_too_long(len(subject), rules.max_subject, runs_on=runs_on)))
    present = {name.lower() for name in trailers}
    missing = tuple(name for name in rules.trailers if name.lower() not in present)
    if missing:
        broken.append(Broken("trailers", text.trailers_missing(missing)))
    return tuple(broken)


def subject_of(message: str) -> str:
    """The subject as git shows it: the first paragraph, its lines joined by blanks."""
    return " ".join(line.strip() for line in message.strip("\n").split("\n\n")[0].split("\n")).strip()


def clean(message: str, cleanup: Cleanup) -> str:
    """The message that git will record: cut at the scissors, without comments, without blanks at the ends of lines."""
    lines = message.replace("\r\n", "\n").split("\n")
    comment = cleanup.comment
    if comment == "auto":
        comment = _comment_of(lines)
    if cleanup.cuts_at_scissors:
        scissors = (at for at, line in enumerate(lines) if line.startswith(comment) and _SCISSORS in line)
        lines = lines[: next(scissors, len(lines))]
    if cleanup.strips_comments:
        lines = [line for line in lines if not line.startswith(comment)]
    # Lines of blanks alone part paragraphs, as they do for git.
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def decode(content: bytes, encoding: str) -> str:
    """Text of a message. git takes UTF-8 or what i18n.commitEncoding says; anything else is read byte by byte."""
    for candidate in ("utf-8", encoding):
        try:
            return content.decode(candidate).removeprefix("\ufeff")
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("latin-1")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise UserError(text.message_unreadable(str(path), cause.strerror or str(cause))) from cause


def _search(pattern: str, subject: str) -> bool:
    try:
        return re.search(pattern, subject) is not None
    except re.error as cause:
        raise UserError(text.bad_pattern(pattern, str(cause))) from cause


def _ask_for_cleanup() -> Cleanup:
    (_, answer), *_ = ask_git(
        ("config", "-z", "--get-regexp", r"^(core\.comment(char|string)|commit\.cleanup|i18n\.commitencoding)$")
    )
    settings = dict(entry.partition("\n")[::2] for entry in os.fsdecode(answer).split("\0") if entry)
    # git tells hooks with GIT_EDITOR=: that nobody edits the message; then it keeps comments, unless it was told otherwise.
    edited = os.environ.get("GIT_EDITOR") != ":"
    mode = settings.get("commit.cleanup", "default")
    return Cleanup(
        strips_comments=mode == "strip" or (mode == "default" and edited),
        cuts_at_scissors=edited and mode != "verbatim",
        comment=settings.get("core.commentstring") or settings.get("core.commentchar") or "#",
        encoding=settings.get("i18n.commitencoding") or "utf-8",
    )


def _comment_of(lines: list[str]) -> str:
    """The comment character that git chose by itself: that of its own last block."""
    last = next((line for line in reversed(lines) if line.strip()), "#")
    return last[0] if last[0] in "#;@!$%^&|:" else "#"


def _trailer_names(message: str) -> tuple[str, ...]:
    # "---" in a body would otherwise end the message, as if it were a patch.
    asked = ("git", "interpret-trailers", "--parse", "--no-divider")
    done = subprocess.run(asked, input=message.encode(errors="replace") + b"\n", capture_output=True, check=False)
    return tuple(line.partition(":")[0].strip() for line in done.stdout.decode(errors="replace").splitlines())
