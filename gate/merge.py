"""How a change becomes commits on top of a trunk, without a work tree: trees by ``git merge-tree``, commits as objects.

Nothing here moves a ref. The same input gives the same commit, whenever and however often it is asked for: the committer
is the gate's, and its date is the submission's, so that a candidate that is built again after a crash is the same candidate.
Ids are full object ids; no name that a person chose reaches a command line.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ci.errors import UserError
from ci.git import Git, GitEnd, GitFailed
from ci.model import Sha
from gate.config import Merge
from gate.model import ChangeId, Reason, Why

_IDENTITY = re.compile(r"[^<>\x00-\x1f]* <[^<>\x00-\x1f]*>")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_MESSAGES_TOLD = 5  # of git's own words on a conflict; a change may conflict in thousands of files
LARGE_FILE, MOST_COUNTED = "256k", 300  # the diff of more than that would hold everybody up
_SIGNATURES = (b"gpgsig", b"gpgsig-sha256")


@dataclass(frozen=True, slots=True)
class Joined:
    """A commit on top of the trunk it was made for, with the change in it."""

    commit: Sha
    tree: Sha


@dataclass(frozen=True, slots=True)
class Title:
    """What a landing is called, and when: the date of every commit that the gate makes for it. at: epoch seconds UTC."""

    change: ChangeId
    subject: str
    by: str
    at: float


def merge_change(
    git: Git,
    onto: Sha,
    head: Sha,
    *,
    settings: Merge,
    title: Title,
    exclude: Sequence[Sha] = (),
    onto_tree: Sha | None = None,
) -> Joined | Reason:
    """Put a change on top of a commit by the method that settings name.

    exclude: heads of changes that this one is stacked on; their commits are in ``onto`` by now, possibly as other commits,
    and are not taken again. (Not needed by the method merge: history itself tells there.) onto_tree: the tree of ``onto``
    when known, which saves a git call. Reasons: CONFLICT with paths, NOTHING_TO_DO, SIGNED_COMMITS, MERGE_COMMITS,
    UNRELATED. Raises GitFailed when an object is missing, UserError when the settings are unusable.
    """
    committer = _committer(settings.committer, title.at)
    tree = onto_tree or Sha(git.run("rev-parse", "--verify", "--end-of-options", f"{onto}^{{tree}}").text)
    place = _Place(git, settings, committer, title, onto, tree)
    match settings.method:
        case "merge":
            return _by_merge(place, head)
        case "squash":
            return _by_squash(place, head, exclude)
        case "rebase":
            return _by_rebase(place, head, exclude)
        case other:
            raise UserError(f"merge.method {other!r} is none of merge, squash, rebase")


def changed_paths(git: Git, base: Sha, head: Sha) -> frozenset[str]:
    """Paths that differ between head and where it left base; with several such places, from any of them.

    Both ends of a rename are in. Unrelated: every path of head.
    """
    flags = ("-r", "-z", "--name-only", "--no-renames", "--no-relative", "--ignore-submodules=none", "--end-of-options")
    end = git.run("diff-tree", "--merge-base", *flags, base, head, ok=(0, 128))
    if end.code == 0:
        return _paths(end.out)
    bases = git.run("merge-base", "--all", base, head, ok=(0, 1)).text.split()
    if not bases:
        return _paths(git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", "--end-of-options", head).out)
    return frozenset().union(*(_paths(git.run("diff-tree", *flags, each, head).out) for each in bases))


class Read(NamedTuple):
    """What a change holds. commits: newest first. paths: that any of them touches. lines: added and taken away, those of
    binary files and of files larger than LARGE_FILE not counted; None: it has more files than MOST_COUNTED."""

    commits: tuple[Sha, ...]
    paths: frozenset[str]
    lines: int | None


def read_change(git: Git, base: Sha, head: Sha) -> Read:
    """The commits from base to head.

    One call of git where no commit is a merge, and one for the lines; the paths then are those of changed_paths and such as
    were touched and put back. A merge may undo what its parents did without a path of its own, so with merges changed_paths
    is asked as well.
    """
    flags = ("--name-only", "--no-renames", "--no-relative", "--ignore-submodules=none", "--root", "--diff-merges=off")
    mark = os.urandom(16).hex()  # no file name can be taken for it
    told = git.run(
        "log", "--no-show-signature", "-z", f"--format={mark}%H %P", *flags, "--end-of-options", f"{base}..{head}", "--"
    ).out
    commits: list[Sha] = []
    paths: set[str] = set()
    has_merge = False
    for one in told.split(mark.encode())[1:]:
        header, _, names = one.partition(b"\0")
        commit, *parents = header.decode().split()
        commits.append(Sha(commit))
        has_merge |= len(parents) > 1
        paths |= _paths(names.removeprefix(b"\n"))
    lines = _count_lines(git, base, head) if len(paths) <= MOST_COUNTED else None
    return Read(tuple(commits), frozenset(paths) | (changed_paths(git, base, head) if has_merge else frozenset()), lines)


def _count_lines(git: Git, base: Sha, head: Sha) -> int | None:
    flags = ("--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    limit = ("-c", f"core.bigFileThreshold={LARGE_FILE}")
    told = git.run(*limit, "diff", *flags, "--end-of-options", f"{base}...{head}", "--", ok=(0, 128))  # 128: no common past
    counts = [line.split(b"\t", 2)[:2] for line in told.out.splitlines() if line.count(b"\t") >= 2]
    return sum(int(count) for pair in counts for count in pair if count != b"-") if told.code == 0 else None


def commits_between(git: Git, base: Sha, head: Sha, exclude: Sequence[Sha] = ()) -> tuple[Sha, ...]:
    """Commits of head that neither base nor the excluded ones have, parents before children."""
    not_these = [f"^{each}" for each in (base, *exclude)]
    listed = git.run("rev-list", "--reverse", "--topo-order", "--end-of-options", head, *not_these).text
    return tuple(Sha(line) for line in listed.splitlines())


def _paths(listed: bytes) -> frozenset[str]:
    return frozenset(os.fsdecode(path) for path in listed.split(b"\0")[:-1])


# --- the three methods --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a change goes, and in whose name."""

    git: Git
    settings: Merge
    committer: bytes  # as in a commit object: name, address, date, zone
    title: Title
    onto: Sha
    tree: Sha  # of onto


def _by_merge(place: _Place, head: Sha) -> Joined | Reason:
    """A merge commit also where trunk could be fast-forwarded: the first parents of trunk are its landings."""
    tree = _merged_tree(place, place.onto, head)
    if isinstance(tree, Reason):
        return tree
    if tree == place.tree:
        return _nothing()
    title = place.title
    message = f"Merge change {title.change}: {_line(title.subject)}\n\n{_landing_trailers(title)}"
    return Joined(_write_commit(place, tree, (place.onto, head), place.committer, _utf8(message)), tree)


def _by_squash(place: _Place, head: Sha, exclude: Sequence[Sha]) -> Joined | Reason:
    commits = _read_commits(place.git, commits_between(place.git, place.onto, head, exclude))
    if not commits:
        return _nothing()
    refusal = _refuse_signed(place, commits)
    if refusal is not None:
        return refusal
    # As though onto contained the changes below this one: then they are part of the merge base, not of either side.
    ours = _helper(place, place.tree, (place.onto, *exclude)) if exclude else place.onto
    tree = _merged_tree(place, ours, head)
    if isinstance(tree, Reason):
        return tree
    if tree == place.tree:
        return _nothing()
    message = _squash_message(place, commits)
    author = _in_utf8(commits[0].author, commits[0].encoding)
    is_signed = any(commit.is_signed for commit in commits)
    return Joined(_write_commit(place, tree, (place.onto,), author, message, is_signed=is_signed), tree)


def _by_rebase(place: _Place, head: Sha, exclude: Sequence[Sha]) -> Joined | Reason:
    """Each commit again, with its author, dates and message byte by byte. Commits that are in their place already stay as
    they are, as with ``git rebase``: their ids and signatures remain true. What has nothing left to add is dropped."""
    commits = _read_commits(place.git, commits_between(place.git, place.onto, head, exclude))
    merges = [commit for commit in commits if len(commit.parents) > 1]
    if merges:
        cure = 'rebase the change and push it again, or let gate.toml say [merge] method = "squash"'
        return Reason(Why.MERGE_COMMITS, detail=f"commit {merges[0].id[:12]} is a merge and cannot be rebased: {cure}")
    if any(not commit.parents for commit in commits):
        return _unrelated()
    tip, tree = place.onto, place.tree
    for commit in commits:
        if commit.parents == (tip,):
            tip, tree = commit.id, commit.tree
            continue
        # The helper's only parent is the commit's, so that one is the merge base: a cherry-pick by merge-tree.
        merged = _merged_tree(place, _helper(place, tree, commit.parents), commit.id)
        if isinstance(merged, Reason):
            return replace(merged, detail=f"commit {commit.id[:12]}: {merged.detail}")
        if merged == tree:
            continue
        refusal = _refuse_signed(place, [commit])
        if refusal is not None:
            return refusal
        tip = _write_commit(
            place, merged, (tip,), commit.author, commit.message, encoding=commit.encoding, is_signed=commit.is_signed
        )
        tree = merged
    return _nothing() if tree == place.tree else Joined(tip, tree)


# --- trees --------------------------------------------------------------------------------------------------------------


def _merged_tree(place: _Place, ours: Sha, theirs: Sha) -> Sha | Reason:
    renames = f"merge.directoryRenames={place.settings.directory_renames}"
    arguments = ("-c", renames, "merge-tree", "--write-tree", "-z", "--end-of-options", ours, theirs)
    end = place.git.run(*arguments, ok=(0, 1, 128))
    if end.code == 0:
        return Sha(os.fsdecode(end.out.split(b"\0", 1)[0]))
    if end.code == 1 and end.out:  # without output: a commit that is not there, also exit code 1
        return _conflict(end, ours, theirs)
    if "unrelated histories" in end.err:
        return _unrelated()
    raise GitFailed(arguments, end)


def _conflict(end: GitEnd, ours: Sha, theirs: Sha) -> Reason:
    """What merge-tree says after its tree id: entries ``mode SP blob SP stage TAB path`` up to an empty one, then messages,
    each as the number of its paths, the paths, its kind and its text."""
    fields = [os.fsdecode(field) for field in end.out.split(b"\0")]
    middle = fields.index("", 1)
    paths = {entry.partition("\t")[2] for entry in fields[1:middle]}
    texts = []
    rest = fields[middle + 1 :]
    while len(rest) > 2:
        count = int(rest[0])
        kind, text = rest[1 + count], rest[2 + count]
        if kind.startswith("CONFLICT"):
            paths |= set(rest[1 : 1 + count])
            texts.append(_line(text.replace(ours, "trunk").replace(theirs, "the change")))
        rest = rest[3 + count :]
    return Reason(Why.CONFLICT, paths=tuple(sorted(paths)), detail="; ".join(texts[:_MESSAGES_TOLD]))


# --- commits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit as it is stored; author and message in its own encoding."""

    id: Sha
    tree: Sha
    parents: tuple[Sha, ...]
    author: bytes
    encoding: bytes  # b"": UTF-8
    is_signed: bool
    message: bytes


def _read_commits(git: Git, ids: Sequence[Sha]) -> list[_Commit]:
    if not ids:
        return []
    out = git.run("cat-file", "--batch", stdin="".join(f"{each}\n" for each in ids).encode()).out
    commits = []
    at = 0
    for each in ids:
        line_end = out.index(b"\n", at)
        size = int(out[at:line_end].split(b" ")[2])
        commits.append(_parsed_commit(each, out[line_end + 1 : line_end + 1 + size]))
        at = line_end + 1 + size + 1
    return commits


def _parsed_commit(name: Sha, raw: bytes) -> _Commit:
    header, _, message = raw.partition(b"\n\n")
    # A line that begins with a space goes on with the one before, as signatures do.
    fields = [line.partition(b" ")[::2] for line in header.split(b"\n") if not line.startswith(b" ")]
    first = dict(reversed(fields))
    return _Commit(
        id=name,
        tree=Sha(first[b"tree"].decode()),
        parents=tuple(Sha(value.decode()) for field, value in fields if field == b"parent"),
        author=first[b"author"],
        encoding=first.get(b"encoding", b""),
        is_signed=any(field in first for field in _SIGNATURES),
        message=message,
    )


def _helper(place: _Place, tree: Sha, parents: Sequence[Sha]) -> Sha:
    """A commit that nobody will see: it tells merge-tree what to take for the merge base."""
    return _write_commit(place, tree, parents, place.committer, b"helper\n")


def _write_commit(
    place: _Place,
    tree: Sha,
    parents: Sequence[Sha],
    author: bytes,
    message: bytes,
    *,
    encoding: bytes = b"",
    is_signed: bool = False,
) -> Sha:
    """Written as bytes, not by ``commit-tree``, which tidies names and takes its encoding from whoever's settings."""
    if is_signed:
        return _write_signed(place, tree, parents, author, message, encoding)
    lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
    lines += [b"author " + author, b"committer " + place.committer]
    if encoding:
        lines.append(b"encoding " + encoding)
    raw = b"\n".join(lines) + b"\n\n" + message
    return place.git.store_commit(raw)


def _write_signed(place: _Place, tree: Sha, parents: Sequence[Sha], author: bytes, message: bytes, encoding: bytes) -> Sha:
    """Signed with the key in the repository's settings, by the one command that can."""
    who: dict[str, str] = {}
    for role, identity in (("AUTHOR", author), ("COMMITTER", place.committer)):
        name, _, rest = os.fsdecode(identity).partition(" <")
        mail, _, date = rest.partition("> ")
        who |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": mail, f"GIT_{role}_DATE": f"@{date}"}
    settings = ("-c", f"i18n.commitEncoding={os.fsdecode(encoding) or 'UTF-8'}")
    above = [word for parent in parents for word in ("-p", parent)]
    return Sha(place.git.run(*settings, "commit-tree", "-S", *above, tree, stdin=message, env=who).text)


def _refuse_signed(place: _Place, commits: Sequence[_Commit]) -> Reason | None:
    """Why these commits, which would be rewritten, must not be; None when they may."""
    signed = [commit for commit in commits if commit.is_signed]
    if not signed:
        return None
    which = f"commit {signed[0].id[:12]} is signed, and {place.settings.method} would rewrite it"
    if place.settings.signed != "resign":
        return Reason(Why.SIGNED_COMMITS, detail=which)
    if place.git.run("config", "--get", "user.signingKey", ok=(0, 1)).code != 0:
        return Reason(
            Why.SIGNED_COMMITS,
            detail=f'{which}; [merge] signed = "resign" needs user.signingKey in the settings of the gate\'s repository',
        )
    return None


# --- words in commits -----------------------------------------------------------------------------------------------------


def _squash_message(place: _Place, commits: Sequence[_Commit]) -> bytes:
    """The message of the only commit; of several: their subjects under the change's, trailers once, and who else wrote."""
    # git log brings every message to UTF-8 and knows trailers as git does.
    form = "%B%x00%an <%ae>%x00%(trailers:only=true,unfold=true)"
    listed = place.git.run(
        *("log", "--no-walk=unsorted", "-z", "--stdin", "--encoding=UTF-8", "--no-show-signature", "--no-notes"),
        *("--no-color", "--no-mailmap", f"--format=tformat:{form}"),
        stdin="".join(f"{commit.id}\n" for commit in commits).encode(),
    ).out.decode("utf-8", "surrogateescape")
    fields = listed.split("\0")
    bodies = [body.strip("\n") for body in fields[:-1:3]]
    authors = list(dict.fromkeys(fields[1::3]))
    trailers = dict.fromkeys(line for block in fields[2::3] for line in block.splitlines() if line)
    landing = _landing_trailers(place.title)
    if len(commits) == 1:
        return _utf8(f"{bodies[0]}\n{'' if trailers else chr(10)}{landing}")
    known = {line.lower() for line in trailers}
    trailers |= dict.fromkeys(
        line for line in (f"Co-authored-by: {who}" for who in authors[1:]) if line.lower() not in known
    )
    subjects = [f"* {_line(body.partition(chr(10))[0])}\n" for body in bodies]
    block = "".join(f"{line}\n" for line in trailers)
    return _utf8(f"{_line(place.title.subject)}\n\n{''.join(subjects)}\n{block}{landing}")


def _landing_trailers(title: Title) -> str:
    return f"Change: {title.change}\nSubmitted-by: {_line(title.by)}\n"


def _committer(identity: str, at: float) -> bytes:
    if _IDENTITY.fullmatch(identity) is None:
        raise UserError(f"merge.committer {identity!r} is not of the form 'name <address>'")
    return f"{identity} {max(0, int(at))} +0000".encode()


def _line(text: str) -> str:
    """Text of a person's as one line: nobody adds trailers of their own by a newline in a name."""
    return _CONTROLS.sub(" ", text).strip()


def _in_utf8(text: bytes, encoding: bytes) -> bytes:
    try:
        return text.decode(encoding.decode() or "utf-8").encode()
    except (LookupError, UnicodeError):
        return text  # of an encoding that only its writer knows


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _nothing() -> Reason:
    return Reason(Why.NOTHING_TO_DO, detail="trunk already contains it")


def _unrelated() -> Reason:
    return Reason(Why.UNRELATED, detail="it has no commit in common with trunk")
