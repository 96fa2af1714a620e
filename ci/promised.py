"""Contents that a partial clone has left on its server: fetched, all at once, when files are to be made of them."""

import os
from collections.abc import Callable, Iterable, Iterator

from ci.entries import SUBMODULE
from ci.errors import Unavailable
from ci.git import Git, GitFailed, traveller_environment

_REMOTES = r"^remote\..*\.promisor$"

# As git itself does where it finds that it needs something; and a server that says nothing is given up, where git can tell.
_FETCH = (
    *("-c", "fetch.negotiationAlgorithm=noop", "-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"),
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--recurse-submodules=no"),
    *("--filter=blob:none", "--stdin", "--end-of-options"),
)


def fetch_missing(repository: Git, borrower: Git, entries: Callable[[], Iterable[bytes]]) -> bool:
    """Fetch what is missing of these entries (modes and ids, as in ci.entries). False: nothing is, or the clone is whole.

    borrower: a Git directory with the repository's objects and without its remotes, so that it can say what is missing.
    Raises Unavailable when no server gives it.
    """
    remotes = list(dict.fromkeys(_promisors(repository)))
    if not remotes:
        return False
    asked = [entry.partition(b" ")[2] for entry in entries() if not entry.startswith(SUBMODULE)]
    missing = first = _missing(borrower, asked)
    failures = []
    for remote in remotes if missing else ():
        try:
            repository.run(*_FETCH, remote, stdin=b"\n".join((*missing, b"")), env=traveller_environment())
        except GitFailed as failed:
            failures.append(f"{remote}: {failed.cause}")
        if not (missing := _missing(borrower, missing)):
            break
    if missing:
        raise Unavailable(
            f"this is a partial clone, and {len(missing)} of the files to check have yet to be fetched, which failed from "
            f"{'; from '.join(failures) or ', '.join(remotes)}; try again with a connection to it"
        )
    return bool(first)


def _promisors(repository: Git) -> Iterator[str]:
    """The remotes that may have what is missing here, in git's order; none: this is no partial clone."""
    named = repository.run("config", "-z", "--get", "extensions.partialclone", ok=(0, 1)).out
    last = os.fsdecode(named.removesuffix(b"\0"))
    told = repository.run("config", "--type=bool", "-z", "--get-regexp", _REMOTES, ok=(0, 1)).out
    for setting in told.split(b"\0")[:-1]:
        name, _, is_one = os.fsdecode(setting).partition("\n")
        remote = name.removeprefix("remote.").removesuffix(".promisor")
        if is_one != "false" and remote != last:
            yield remote
    if last:
        yield last


def _missing(borrower: Git, ids: Iterable[bytes]) -> list[bytes]:
    asked = b"".join([id_ + b"\n" for id_ in ids])
    answers = borrower.run("cat-file", "--batch-check=%(objectname)", stdin=asked).out.splitlines()
    return [answer.removesuffix(b" missing") for answer in answers if answer.endswith(b" missing")]
