"""Contents that a partial clone has left on its server: fetched, all at once, when files are to be made of them."""

import os
import re
from collections.abc import Iterable

from ci.entries import SUBMODULE
from ci.errors import Unavailable
from ci.git import Git, GitFailed

_PROMISORS = r"^(extensions\.partialclone|remote\..*\.promisor)$"

# What a person may have set for the way to the server. No other git of ours goes there.
_ON_THE_WAY = re.compile(r"(?i)(https?|all|no)_proxy|GIT_(SSH(_COMMAND|_VARIANT)?|ASKPASS|SSL_\w+)|SSH_ASKPASS(_REQUIRE)?")


def fetch_missing(repository: Git, borrower: Git, entries: Iterable[bytes]) -> None:
    """Fetch what is missing of these entries (modes and ids, as in ci.entries), if anything is.

    borrower: a Git directory with the repository's objects and without its remotes, so that it can say what is missing.
    Raises Unavailable when the server does not give it.
    """
    remote = _promisor(repository)
    if remote is None:
        return
    asked = b"".join(b"%b\n" % entry.partition(b" ")[2] for entry in entries if not entry.startswith(SUBMODULE))
    answers = borrower.run("cat-file", "--batch-check=%(objectname)", stdin=asked).out.splitlines()
    missing = [answer.removesuffix(b" missing") for answer in answers if answer.endswith(b" missing")]
    if not missing:
        return
    env = {name: value for name, value in os.environ.items() if _ON_THE_WAY.fullmatch(name)}
    try:
        # As git itself does where it finds that it needs them.
        repository.run(
            *("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"),
            *("--no-auto-maintenance", "--recurse-submodules=no", "--filter=blob:none", "--stdin"),
            *("--end-of-options", remote),
            stdin=b"\n".join((*missing, b"")),
            env=env,
        )
    except GitFailed as failed:
        raise Unavailable(
            f"this is a partial clone, and {len(missing)} of the files to check have yet to be fetched from {remote}, which "
            f"failed: {failed.cause}; try again with a connection to it"
        ) from failed


def _promisor(repository: Git) -> str | None:
    """The remote that has what is missing here; None: this is no partial clone."""
    told = repository.run("config", "-z", "--get-regexp", _PROMISORS, ok=(0, 1)).out
    remotes: list[str] = []
    for setting in told.split(b"\0")[:-1]:
        name, _, value = os.fsdecode(setting).partition("\n")
        if name == "extensions.partialclone":
            return value
        if value in ("", "true"):
            remotes.append(name.removeprefix("remote.").removesuffix(".promisor"))
    return next(iter(remotes), None)
