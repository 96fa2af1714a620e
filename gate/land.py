"""Lands candidates: looks once more that the rule holds, writes it down, and moves trunk by compare-and-swap.

    Trunk may move from T to commit C only if T is still the trunk that was assumed, the commits between T and C are exactly
    the listed changes, and for every required check the result for its key is green, looked up for the tree that C has.

Nothing else in the program moves trunk. After a crash the ref says whether a landing that was begun took place.
"""

import time

from ci import processes
from ci.errors import Unavailable
from ci.git import GitFailed
from ci.model import InputKey, Result, Sha
from ci.results import newest_green, results_for_keys
from gate.journal import Journal
from gate.locks import STALE_AFTER_S
from gate.model import Candidate, Landed, LandingFailed, LandingStarted, Merged, Proof
from gate.repository import SUBMISSIONS, Repository
from gate.state import State

MARK = "landing"  # below the gate's folder, and no file: the mark of the git that moves trunk
PATIENCE_S = 10.0  # for such a git, when its daemon was killed


def land(
    repository: Repository,
    journal: Journal,
    candidate: Candidate,
    merged: Merged,
    commits: tuple[Sha, ...],
    state: State,
    now: float,
) -> str | None:
    """Move trunk to the candidate. None: done; else why not, and trunk was not touched.

    state: what the plan knew. A later submission may have withdrawn a revision that is about to land, and somebody who was
    told that their change is withdrawn, or trunk closed, before the landing began must have been told the truth.
    """
    proofs = _prove(journal, merged, now)
    if isinstance(proofs, str):
        return proofs
    if (trouble := _look_again(repository, candidate, merged, commits)) is not None:
        return trouble
    started = LandingStarted(now, candidate.base, merged.commit, merged.tree, candidate.entries, commits, proofs)
    journal.append(started)
    is_news = [event for _, event in journal.read(state.seq)] != [started]
    trouble = "somebody asked for something meanwhile" if is_news else _move(repository, started, state.seen)
    if trouble is not None:
        journal.append(LandingFailed(now, candidate.base, merged.commit, trouble))
        if ".lock': File exists" in trouble:
            raise Unavailable(
                f"{repository.trunk} cannot be moved: {trouble.splitlines()[0]}; the gate removes a lock that is older than "
                f"{STALE_AFTER_S:.0f} s by itself"
            )
        return trouble
    journal.append(Landed(now, candidate.base, merged.commit))
    return None


def recover(repository: Repository, journal: Journal, state: State, now: float) -> None:
    """Finish telling of a landing that a crash cut short: the ref says whether it took place."""
    started = state.landing
    if started is None:
        return
    _outwait_git(repository)
    trunk = repository.look(repository.trunk)
    if trunk is not None and _contains(repository, trunk, started.commit):
        _mark(repository, started)
        journal.append(Landed(now, started.base, started.commit))
    else:
        journal.append(LandingFailed(now, started.base, started.commit, "the gate stopped before trunk moved"))


def _outwait_git(repository: Repository) -> None:
    """Until the git of a killed daemon is gone: it might yet move trunk, after we have looked."""
    give_up_at = time.monotonic() + PATIENCE_S
    while left := processes.marked(repository.folder / MARK):
        if time.monotonic() > give_up_at:
            raise Unavailable(f"git of an earlier gate is still moving {repository.trunk}: processes {sorted(left)}")
        time.sleep(0.005)


def _mark(repository: Repository, started: LandingStarted) -> None:
    """Mark the changes of a landing that took place: git moves one ref after another, and may be killed in between."""
    lines = []
    for (change, _), commit in zip(started.changes, started.commits, strict=True):
        ref = f"refs/changes/{change}/landed"
        if repository.look(ref) != commit:
            (repository.git_dir / f"{ref}.lock").unlink(missing_ok=True)  # nobody but the daemon ever holds it
            lines.append(f"update {ref} {commit}\n")
    if lines:
        repository.git.run("update-ref", "--stdin", stdin="".join(lines).encode())


def _prove(journal: Journal, merged: Merged, now: float) -> tuple[Proof, ...] | str:
    """The green result of every need, from the store itself; or a sentence about the one that has none."""
    keys: list[InputKey] = [need.key for need in merged.needs]
    known: dict[InputKey, list[Result]] = journal.query(lambda execute: results_for_keys(execute, keys))
    proofs: list[Proof] = []
    for need in merged.needs:
        green = newest_green(known.get(need.key, ()), now, need.check.max_age_s)
        if green is None:
            return f"the store has no green result of {need.check.name} for this tree"
        proofs.append(Proof(need.check.name, need.key, green.run))
    return tuple(proofs)


def _look_again(repository: Repository, candidate: Candidate, merged: Merged, commits: tuple[Sha, ...]) -> str | None:
    """What Git itself says against the candidate; None: nothing."""
    if repository.look(repository.trunk) != candidate.base:
        return "somebody else moved trunk"
    if repository.tree_of(merged.commit) != merged.tree:
        return "the commit does not have the tree that was tested"
    listed = repository.git.run(
        "rev-list", "--first-parent", "--reverse", "--end-of-options", f"{candidate.base}..{merged.commit}"
    )
    chain = [Sha(line) for line in listed.text.splitlines()]
    if not commits or not set(commits) <= set(chain) or chain[-1] != merged.commit:
        return "the commits are not the ones that were tested"
    return None


def _move(repository: Repository, started: LandingStarted, seen: Sha | None) -> str | None:
    """One ref transaction: trunk, and a mark on each change that it has landed. None: done."""
    lines = ["start", f"update {repository.trunk} {started.commit} {started.base}"]
    if seen is not None:
        lines.append(f"verify {SUBMISSIONS} {seen}")
    lines += [
        f"update refs/changes/{change}/landed {commit}"
        for (change, _), commit in zip(started.changes, started.commits, strict=True)
    ]
    lines += ["prepare", "commit", ""]
    told = "gate: landed change " + ", ".join(str(change) for change, _ in started.changes[:20])
    try:
        repository.git.run(
            *("update-ref", "-m", told, "--create-reflog", "--stdin"),
            stdin="\n".join(lines).encode(),
            env={processes.MARK: str(repository.folder / MARK)},
        )
    except GitFailed as failed:
        if _contains(repository, repository.look(repository.trunk), started.commit):
            return None
        return failed.end.err.strip().removeprefix("fatal: ") or str(failed)
    return None


def _contains(repository: Repository, trunk: Sha | None, commit: Sha) -> bool:
    if trunk is None:
        return False
    return repository.git.run("merge-base", "--is-ancestor", "--", commit, trunk, ok=(0, 1)).code == 0
