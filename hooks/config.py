"""The gate.toml that applies in a working repository, read with the hook's own view of the index."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ci.errors import UserError
from ci.model import Sha
from gate.config import CONFIG_NAME, IS_LINK, LINK_MODE, Config, parse
from hooks.staged import ask_git
from hooks.text import broken_config

if TYPE_CHECKING:
    from ci.git import Git


def read_config(*revisions: str) -> Config | None:
    """The gate.toml of the first of these that has one: "" is the index, anything else a full ref name or HEAD.

    None: none of them has one. Raises UserError when the one that was found is broken.
    """
    for revision in revisions:
        failed, content = ask_git(("cat-file", "blob", f"{revision}:{CONFIG_NAME}"))[0]
        if not failed:
            where = f"{revision or 'the staged'}{':' if revision else ' '}{CONFIG_NAME}"
            return parsed(content, where, lambda revision=revision: _entry(revision))  # type: ignore[misc]
    return None


def _entry(revision: str) -> bytes:
    tree = ("ls-tree", "--full-tree", revision, "--", CONFIG_NAME)
    return ask_git(tree if revision else ("ls-files", "--stage", "--", f":/{CONFIG_NAME}"))[0][1]


def composed(git: "Git", tree: Sha, content: bytes, where: str) -> Config:
    """The same with the gate.toml files of the tree's folders. content: of the file at the tree's top."""
    config = parsed(content, where, lambda: git.run("ls-tree", "--full-tree", tree, "--", CONFIG_NAME).out)
    if not config.nested.folders:
        return config
    from gate.nested import compose, read_tree  # for the few that have them

    outcome = compose(content, read_tree(git, tree, config.nested))
    if isinstance(outcome, Config):
        return outcome
    raise UserError(broken_config(where, outcome))


def parsed(content: bytes, where: str, entry: Callable[[], bytes] = bytes) -> Config:
    """The configuration, or a UserError that lists what is wrong with it. where: how people would name this file. entry: the
    line that git has of it, with its mode: what a symbolic link leads to, which git keeps as its content, is no TOML.
    """
    outcome = parse(content)
    if isinstance(outcome, Config):
        return outcome
    if entry().startswith(LINK_MODE.encode()):
        raise UserError(f"{where} {IS_LINK}")
    raise UserError(broken_config(where, outcome))
