"""``gate init --from-pre-commit``: a check that runs the hooks a repository has already, put at the end of its gate.toml.

Reads the configuration of pre-commit or prek by its lines, for names and stages alone, and runs nothing: what the hooks are
is left to the runner. Appends to gate.toml and never alters what is there.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ci.errors import Unavailable, UserError
from ci.model import words_of
from gate.config import CONFIG_NAME, Config, parse

OURS = ("gate-check", "gate-message", "gate-push", "gate-background")
CONFIGS = (".pre-commit-config.yaml", "prek.toml", ".pre-commit-config.yml")  # only prek reads the last two

_MAX_READ_BYTES = 1_000_000  # of a configuration of hooks
_MOST_NAMED = 20  # hooks, in a comment
_AT_COMMIT = {"pre-commit", "commit"}  # the second is how it was called before
_ID = re.compile(r"""(?:^|[\s,{\[-])["']?id["']?\s*[:=]\s*["']?([\w.-]+)""", re.MULTILINE)
_STAGES = r"""["']?\s*[:=]\s*(\[[^\]]*\]|(?:\n\s*-\s*["']?[\w-]+["']?)+)"""
_NEXT_REPO = re.compile(r"^\s*-\s*repo\s*:|^\s*\[\[repos\]\]", re.MULTILINE)
_ONLY_PREK = re.compile(r"^\s*minimum_prek_version\s*:|^\s*-\s*repo\s*:\s*builtin\b", re.MULTILINE)
_RUNS_HOOKS = re.compile(r"\b(?:pre-commit|prek)\b[^\n;|&]*\brun\b")

# pre-commit asks git for the tree of the index, which takes its lock; a sandbox shows .git read-only.
_OWN_INDEX = (
    'cp "$(git rev-parse --git-path index)" "$TMPDIR/index" || exit',
    'export GIT_INDEX_FILE="$TMPDIR/index"',
)
# The last line is the reason that people are given, and of a runner it is of the last hook, which may have passed.
_NAME_FAILED = (
    r"""failed=$(sed -n 's/\.\.*Failed$/,/p' "$TMPDIR/said" | tr '\n' ' ')""",
    '[ -z "$failed" ] || echo "failed hooks: ${failed%, }"',
    'exit "$(cat "$TMPDIR/code")"',
)
_CACHE = (
    "# anew in each run. To keep them, fill a folder (PRE_COMMIT_HOME=/srv/hooks pre-commit install-hooks), start the gate",
    '# with that PRE_COMMIT_HOME, and in [run] write pass_env = ["PRE_COMMIT_HOME"] and read = ["/srv/hooks"].',
)
_NO_CACHE = (
    "# anew in each run. To keep them, start the gate with PREK_HOME set to a folder, and in [run] write",
    '# pass_env = ["PREK_HOME"] and isolation = "plain": prek must be able to write there, which no sandbox permits.',
)


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of a configuration. stages: those that are written there; empty: all that it can. is_ours: it calls us."""

    name: str
    stages: tuple[str, ...] = ()
    is_ours: bool = False

    @property
    def is_at_commit(self) -> bool:
        return not self.stages or bool(_AT_COMMIT.intersection(self.stages))


def hooks_in(text: str) -> tuple[Hook, ...]:
    """The hooks of a .pre-commit-config.yaml or a prek.toml, in its order."""
    text = re.sub(r"(?:^|(?<=\s))#.*", "", text)
    found = list(_ID.finditer(text))
    if not found:
        return ()
    ends = [*(match.start() for match in found[1:]), len(text)]
    head = text[: found[0].start()]
    # It may stand below the hooks too, and then begins a line.
    default = _stages(head, r"\bdefault_stages") or _stages(text, r"(?m:^)default_stages")
    hooks = []
    for match, end in zip(found, ends, strict=True):
        rest = text[match.end() : end]
        border = _NEXT_REPO.search(rest)
        own = rest[: border.start()] if border else rest
        stages = _stages(own, r"(?<!default_)\bstages") or default
        is_ours = match[1] in OURS or re.search(r"\bgate[ -](?:check|message|push|background)\b", own) is not None
        hooks.append(Hook(match[1], stages, is_ours))
    return tuple(hooks)


def _stages(text: str, key: str) -> tuple[str, ...]:
    found = re.search(key + _STAGES, text)
    return tuple(re.findall(r"[\w-]*\w[\w-]*", found[1].replace("\n", " ").replace(" -", " "))) if found else ()


def hooks_file(folder: Path) -> tuple[str, str, str]:
    """(name of the configuration, its text, the program that runs it). Raises UserError when there is none."""
    try:
        installed = (folder / ".git/hooks/pre-commit").read_text(encoding="utf-8", errors="replace")
    except OSError:
        installed = ""  # not set up in this clone, or a linked work tree
    by_prek = re.search(r"\bprek\b", installed) is not None
    order = ("prek.toml", *CONFIGS) if by_prek else CONFIGS
    name = next((name for name in order if (folder / name).is_file()), None)
    if name is None:
        raise UserError(
            f"{folder} has no {CONFIGS[0]}: without hooks there is nothing to take over, so call gate init alone"
        )
    try:
        with (folder / name).open("rb") as file:
            text = file.read(_MAX_READ_BYTES + 1).decode()
    except OSError as cause:
        raise Unavailable(f"{folder / name} cannot be read: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise UserError(f"{folder / name} is not UTF-8: save it as UTF-8") from cause
    if len(text) > _MAX_READ_BYTES:
        raise UserError(f"{folder / name} has more than {_MAX_READ_BYTES} bytes: more are not read")
    is_prek = by_prek or name != CONFIGS[0] or _ONLY_PREK.search(text) is not None
    return name, text, "prek" if is_prek else "pre-commit"


def add_hooks_check(folder: Path) -> Iterator[str]:
    """Put the check at the end of gate.toml, where none of it runs the hooks yet; the lines for people.

    Raises UserError when gate.toml has problems or there are no hooks, Unavailable when it cannot be read or written.
    """
    name, text, program = hooks_file(folder)
    file = folder / CONFIG_NAME
    try:
        before = file.read_bytes()
    except OSError as cause:
        raise Unavailable(f"{file} cannot be read: {cause.strerror}") from cause
    config = parse(before)
    if not isinstance(config, Config):
        raise UserError(f"{file} has problems, so nothing is added to it: see gate config check")
    runner = next((check.name for check in config.checks if _RUNS_HOOKS.search(words_of(check.command))), None)
    if runner is not None:
        yield f"{CONFIG_NAME} has the check {runner}, which runs hooks already: left alone"
        return
    hooks = hooks_in(text)
    if not any(hook.is_at_commit and not hook.is_ours for hook in hooks):
        yield f"{name} has no hooks of the stage pre-commit but the gate's own: nothing to add to {CONFIG_NAME}"
        return
    names = {check.name for check in config.checks}
    called = next(word for word in (program, "hooks", *(f"hooks-{n}" for n in range(2, 10**6))) if word not in names)
    added = hooks_check(name, hooks, program, called)
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    if not isinstance(parse(before + gap + added.encode()), Config):
        raise UserError(f"{file} writes its checks in another form than [[check]], so none can be added: add this\n{added}")
    try:
        with file.open("ab") as opened:
            opened.write(gap + added.encode())
    except OSError as cause:
        raise Unavailable(f"{file} cannot be written: {cause.strerror}") from cause
    yield f"added to {CONFIG_NAME}: the check {called}, which runs the hooks of {name} by {program}"


def hooks_check(config: str, hooks: Sequence[Hook], program: str, called: str) -> str:
    """The check, with comments."""
    ours = sorted({hook.name for hook in hooks if hook.is_ours})
    late = [f"{hook.name} ({', '.join(hook.stages)})" for hook in hooks if not hook.is_at_commit and not hook.is_ours]
    skip = f"SKIP={','.join(ours)} " if ours else ""
    lines = [
        f"# The hooks of {config}, on the files that differ from trunk; on all where there is no trunk to compare with.",
        "# A hook that mends files is red here, as at a commit.",
    ]
    if ours:
        lines.append(f"# Left out, as the gate runs by itself what they run: {_some(ours)}.")
    if late:
        lines.append(f"# Left out, as they are not of the stage pre-commit: {_some(late)}.")
    lines += [
        f"# {program} must be installed where the gate runs. HOME is empty there, so the hooks' environments are made",
        *(_NO_CACHE if program == "prek" else _CACHE),
        "[[check]]",
        f'name = "{called}"',
        "command = '''",
        "set -- --all-files",
        *(_OWN_INDEX if program == "pre-commit" else ()),
        'if [ -n "${GATE_BASE:-}" ]; then set -- --from-ref "$GATE_BASE" --to-ref "$GATE_COMMIT"; fi',
        f'{{ {skip}{program} run --show-diff-on-failure --color never "$@" 2>&1',
        'echo $? >"$TMPDIR/code"; } | tee "$TMPDIR/said"',
        *_NAME_FAILED,
        "'''",
        "git = true",
        "# To fetch the hooks. What is fetched may differ tomorrow, so a green result does not hold for ever:",
        "network = true",
        'max_age = "1d"',
        'timeout = "15m"',
    ]
    return "\n".join([*lines, ""])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
