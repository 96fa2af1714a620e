"""What people ask of a gate: functions with plain arguments that return plain data. Printing is in gate/cli.py.

A command reads the journal and, to change something, appends what a person asked for; the daemon does the rest. All of
them work while no daemon runs.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.deploy.model import RollbackRequested
from ci.deploy.plan import ROLLBACK, Deploy
from ci.deploy.text import deploy_line
from ci.errors import UserError
from ci.model import CheckName
from gate import text, trust
from gate.candidates import definition
from gate.config import Config
from gate.feed import read_lines
from gate.journal import Journal
from gate.merge import read_change
from gate.model import (
    ApprovalGiven,
    ChangeId,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Event,
    LandingStarted,
    RetryRequested,
    RunFinished,
    RunStarted,
    Submission,
    TokenAdded,
    TokenRevoked,
    TrunkClosed,
    TrunkOpened,
    Verdict,
    Waived,
)
from gate.nested import rules_among
from gate.repository import PLAN_FILE, Repository, account
from gate.state import TRUNK, State, apply_event, fold
from gate.submissions import news, poke

RECENT = 10  # verdicts shown by status

Json = dict[str, Any]


@dataclass(slots=True)
class Office:
    """One repository's facts, read once. unseen: submissions that no daemon has taken in yet; they are part of the state."""

    repository: Repository
    journal: Journal
    state: State
    unseen: tuple[Event, ...] = ()

    def submission(self, change: int) -> Submission:
        """Newest revision of a change. Raises UserError when there is no such change."""
        found = self.state.newest(ChangeId(change))
        if found is None:
            last = max(self.state.revisions, default=0)
            raise UserError(
                f"there is no change {change} here" + (f": the newest is {last}" if last else ": nothing was submitted")
            )
        return found

    def policy(self) -> Config:
        found = self.repository.rules(self.state.trunk) if self.state.trunk else Config()
        return found if isinstance(found, Config) else Config()

    def record(self, event: Event) -> None:
        self.journal.append(*self.unseen, event)
        poke(self.repository.folder)


@contextmanager
def office(path: Path) -> Iterator[Office]:
    """Open a repository's gate for reading and asking."""
    repository = Repository(path)
    repository.require_installed()
    journal = Journal(repository.journal_path)
    try:
        state = State()
        fold(state, journal.read())
        unseen = tuple(news(repository, state, time.time()))
        for event in unseen:
            apply_event(state, event)
        yield Office(repository, journal, state, unseen)
    finally:
        journal.close()
        repository.close()


def who_asks() -> str:
    """The person at the keyboard: an identity that an ssh forced command set, else the local account."""
    for name in ("GATE_USER", "GL_USER", "REMOTE_USER"):
        if found := os.environ.get(name):
            return text.clean(found)[:100]
    return account(os.getuid())


# --- looking ------------------------------------------------------------------------------------------------------------


def status(at: Office) -> Json:
    """The queue, trunk, what runs, and the newest verdicts."""
    state, trunk = at.state, at.repository.trunk_name
    judged = state.judged.get(state.trunk) if state.trunk else None
    seen = _planned(at.repository)
    waiting = seen["waiting"]
    red = list(dict.fromkeys([*(judged.red if judged else ()), *seen["red"]]))
    return {
        "repository": str(at.repository.git_dir),
        "trunk": {
            "branch": trunk,
            "commit": state.trunk,
            "state": "red" if red else "unknown" if judged is None else "green",
            "red": red,
            "broken": seen["closed"],
            "suspects": [
                {"commit": commit, "change": state.landed_by.get(commit)} for commit in (judged.suspects if judged else ())
            ],
            "promoted": state.promoted,
            "closed": None if state.closed is None else {"by": state.closed.by, "reason": state.closed.reason},
        },
        "waiting": [_waiting(item, waiting) for item in state.waiting.values()],
        "running": [
            {
                "run": run.run,
                "check": run.check,
                "stage": run.stage,
                "changes": list(run.changes),
                "since": text.moment(run.at),
            }
            for run in state.runs.values()
        ],
        "recent": _recent(state, trunk),
        "deploys": deploys(at)["environments"],
        "troubles": seen["troubles"],
        "gate": "running" if is_running(at.repository) else "not running",
    }


def why(at: Office, change: int) -> Json:
    """What a change waits for and what would help, or what became of it, with its whole story."""
    item = at.submission(change)
    state, trunk = at.state, at.repository.trunk_name
    decided = state.decided.get((item.change, item.revision))
    verdict = state.verdicts.get(item.change)
    reasons: list[Json] = []
    if verdict is Verdict.REFUSED and decided is not None:
        reasons = [text.as_data(cause, trunk) for cause in decided.reasons]
    elif verdict is None:
        reasons = _planned(at.repository)["waiting"].get(str(change), [])
    story = [{"at": text.moment(event.at), "text": text.event(event, trunk)} for event in _story(at, item)]
    return {
        "change": item.change,
        "revision": item.revision,
        "subject": text.clean(item.subject),
        "by": item.by,
        "head": item.head,
        "submitted": text.moment(item.at),
        "waited_s": round((decided.at if decided else time.time()) - item.at, 3),
        "state": "waiting" if verdict is None else verdict.value,
        "commit": decided.commit if decided else None,
        "reasons": reasons,
        "story": story,
        "gate": "running" if is_running(at.repository) else "not running",
    }


def runs_of(at: Office, change: int, check: str | None) -> list[Json]:
    """Runs for a change, or with change 0 for trunk itself, oldest first, with the path of each log. check None: all."""
    if change != TRUNK:
        at.submission(change)
    events = at.journal.read()
    ends = {event.run: event for _, event in events if isinstance(event, RunFinished)}
    found = []
    for _, event in events:
        if isinstance(event, RunStarted) and (event.changes or (TRUNK,))[-1] == change and check in (None, event.check):
            result = ends[event.run].result if event.run in ends else None
            found.append(
                {
                    "run": event.run,
                    "check": event.check,
                    "commit": event.commit,
                    "started": text.moment(event.at),
                    "started_at": result.started_at if result else event.at,
                    "finished_at": result.finished_at if result else None,
                    "outcome": result.outcome.value if result else "stopped" if event.run in ends else "running",
                    "failed": list(result.failed) if result else [],
                    "isolation": result.isolation if result else None,
                    "log": str(at.repository.log_path(event.log)),
                }
            )
    if check is not None and not found:
        known = sorted({str(name) for name in (each["check"] for each in runs_of(at, change, None))})
        whom = "trunk" if change == TRUNK else f"change {change}"
        raise UserError(
            f"no run of {check!r} for {whom}: " + (f"there are runs of {text.names(known)}" if known else "it has none")
        )
    return found


def feed_of(at: Office, change: int, offset: int = 0) -> tuple[list[dict[str, object]], int]:
    """The change's feed from a byte offset on."""
    at.submission(change)
    return read_lines(at.repository.feed_path(change), offset)


def deploys(at: Office) -> Json:
    """Where every environment stands, and the newest deploys."""
    state = at.state.deploy
    environments = []
    for name, environment in state.environments.items():
        running = state.deploys[environment.running] if environment.running is not None else None
        own = [deploy for deploy in state.deploys.values() if deploy.started.environment == name]
        last = max(own, key=lambda deploy: deploy.number, default=None)
        is_failed = last is not None and last.end is not None and last.end.outcome in ("rolled back", "failed")
        environments.append(
            {
                "environment": name,
                "commit": environment.present,
                "barred": sorted(environment.barred),
                "running": None if running is None else deploy_line(running),
                "failed": f"{deploy_line(last)}{_clause(_why_so(last))}" if last is not None and is_failed else None,
            }
        )
    newest = sorted(state.deploys.values(), key=lambda deploy: deploy.number)[-RECENT:]
    return {
        "environments": environments,
        "deploys": [
            {
                "deploy": deploy.number,
                "environment": deploy.started.environment,
                "commit": deploy.started.commit,
                "kind": deploy.started.kind,
                "by": deploy.started.by,
                "started": text.moment(deploy.started.at),
                "state": deploy.end.outcome if deploy.end else "running",
                "reason": _why_so(deploy),
                "text": f"{deploy_line(deploy)}{_clause(_why_so(deploy))}",
            }
            for deploy in newest
        ],
    }


def _why_so(deploy: Deploy) -> str:
    """Why a deploy ended as it did, or was begun: what failed, or who asked for it."""
    failed = [wave.reason for wave in deploy.waves.values() if not wave.good and wave.reason]
    asked = [f"rollback asked by {deploy.started.by}"] if deploy.started.kind == ROLLBACK else []
    return text.clean("; ".join([*failed, *asked]))


def _clause(reason: str) -> str:
    return f": {reason}" if reason else ""


def is_running(repository: Repository) -> bool:
    """Whether a daemon holds the repository."""
    import fcntl

    try:
        handle = os.open(repository.folder / "daemon.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


# --- asking -------------------------------------------------------------------------------------------------------------


def cancel(at: Office, change: int, by: str, reason: str = "") -> Json:
    """Withdraw a waiting change: its author may, and a maintainer."""
    item = at.submission(change)
    _require_waiting(at, item, "be withdrawn")
    if by != item.by and not _is_maintainer(at, by):
        raise UserError(f"change {change} is {item.by}'s: only they or a maintainer can withdraw it, and you are {by}")
    at.record(ChangeWithdrawn(time.time(), item.change, item.revision, by, reason))
    if _is_landing(at, item):
        raise UserError(f"change {change} is landing at this moment, too late to withdraw it: see 'gate why {change}'")
    return {"change": change, "withdrawn": True, "by": by}


def retry(at: Office, change: int, by: str) -> Json:
    """Have a refused or waiting change's red checks run again. change 0: trunk's own pipeline."""
    if change != TRUNK:
        item = at.submission(change)
        verdict = at.state.verdicts.get(item.change)
        if verdict in (Verdict.LANDED, Verdict.WITHDRAWN):
            raise UserError(f"change {change} was {verdict.value}: there is nothing to try again")
    at.record(RetryRequested(time.time(), ChangeId(change), by))
    return {"change": change, "retried": True, "by": by}


def approve(at: Office, change: int, by: str, revision: int | None = None, waive: Sequence[str] = ()) -> Json:
    """Approve the newest revision of a waiting change. revision: the one that was looked at; an error if another came.

    waive: checks that it replaces or removes, and need not pass as trunk has them: a check that is wrong on trunk could
    else never be mended. A change that such a check has refused is tried again.
    """
    item = at.submission(change)
    if revision not in (None, item.revision):
        raise UserError(f"change {change} is at revision {item.revision} now, not {revision}: look at that one first")
    is_refused = bool(waive) and at.state.verdicts.get(item.change) is Verdict.REFUSED
    if not is_refused:
        _require_waiting(at, item, "be approved")
    policy = at.policy()
    rules = policy.trust
    if not trust.may_approve(rules, by, at.repository.owner):
        people = text.names(rules.maintainers or (at.repository.owner,), "or")
        raise UserError(f"{by} may not approve changes here: {people} may")
    waived = _replaced(at, item, by, waive) if waive else ()
    at.record(ApprovalGiven(time.time(), item.change, item.revision, by, waived))
    if is_refused:
        at.record(RetryRequested(time.time(), item.change, by))
    missing: list[str] = []
    if at.state.trunk is not None:
        paths = read_change(at.repository.git, at.state.trunk, item.head).paths
        given = {*at.state.approvals.get((item.change, item.revision), ()), by}
        left = trust.missing_approvals(rules, item.by, paths, given, at.repository.owner, policy.nested)
        missing = [text.reason(cause, at.repository.trunk_name) for cause in left]
    told = {"change": change, "revision": item.revision, "approved": True, "by": by, "missing": missing}
    return told | {"waived": list(waive), "retried": is_refused}


def close(at: Office, by: str, reason: str) -> Json:
    """Land nothing until trunk is opened again. Checks go on."""
    _require_maintainer(at, by, "close trunk")
    at.record(TrunkClosed(time.time(), by, text.clean(reason)))
    return {"closed": True, "by": by, "reason": reason}


def open_trunk(at: Office, by: str) -> Json:
    _require_maintainer(at, by, "open trunk")
    at.record(TrunkOpened(time.time(), by))
    return {"closed": False, "by": by}


def rollback(at: Office, environment: str, by: str, reason: str = "") -> Json:
    """Put an environment back to its last good commit before the present one."""
    known = at.state.deploy.environments.get(environment)
    if known is None:
        names = text.names(at.state.deploy.environments) or "none yet"
        raise UserError(f"nothing was ever deployed to {environment!r}: environments with deploys: {names}")
    if known.earlier is None:
        raise UserError(f"{environment} has no earlier good commit to go back to")
    _require_maintainer(at, by, f"roll {environment} back")
    at.record(RollbackRequested(time.time(), environment, by, text.clean(reason)))
    return {"environment": environment, "to": known.earlier, "by": by}


def token_add(at: Office, name: str) -> Json:
    """A new token for pushing over HTTP as ``name``. It is shown this once; the journal keeps its digest."""
    if not name or name != text.clean(name) or len(name) > 100 or ":" in name:
        raise UserError(f"{name!r} cannot be a token's name: use up to 100 printable characters without a colon")
    if name in at.state.tokens:
        raise UserError(f"{name} has a token already: revoke it first with 'gate token revoke {name}'")
    from gate.web.tokens import new_token

    token, digest = new_token()
    at.record(TokenAdded(time.time(), name, digest))
    return {"name": name, "token": token}


def token_revoke(at: Office, name: str) -> Json:
    if name not in at.state.tokens:
        raise UserError(f"there is no token {name!r}: there are {text.names(sorted(at.state.tokens)) or 'none'}")
    at.record(TokenRevoked(time.time(), name))
    return {"name": name, "revoked": True}


def token_list(at: Office) -> Json:
    return {"tokens": sorted(at.state.tokens)}


# --- parts --------------------------------------------------------------------------------------------------------------


def _planned(repository: Repository) -> Json:
    """What the daemon saw last. waiting: why each change waits, by number. troubles: what keeps deploys from going on. red:
    checks that are red on trunk, for which changes are held. closed: what is wrong with trunk's gate.toml, or None."""
    found: Json = {"waiting": {}, "troubles": [], "red": [], "closed": None}
    with suppress(OSError, ValueError):
        found |= json.loads((repository.folder / PLAN_FILE).read_bytes())
    return found


def _waiting(item: Submission, plan: dict[str, list[Json]]) -> Json:
    return {
        "change": item.change,
        "revision": item.revision,
        "subject": text.clean(item.subject),
        "by": item.by,
        "priority": item.priority.value,
        "submitted": text.moment(item.at),
        "reasons": plan.get(str(item.change), []),
    }


def _recent(state: State, trunk: str) -> list[Json]:
    newest = sorted(state.decided.items(), key=lambda pair: pair[1].at, reverse=True)[:RECENT]
    return [
        {
            "change": entry[0],
            "revision": entry[1],
            "subject": text.clean(_subject(state, entry)),
            "verdict": decided.verdict.value,
            "at": text.moment(decided.at),
            "commit": decided.commit,
            "reasons": [text.reason(cause, trunk) for cause in decided.reasons],
        }
        for entry, decided in newest
    ]


def _subject(state: State, entry: Entry) -> str:
    return next((item.subject for item in state.revisions.get(entry[0], []) if item.revision == entry[1]), "")


def _story(at: Office, item: Submission) -> list[Event]:
    """The change's own events, the runs made for it and the landing that it was in, oldest first."""
    runs: set[str] = set()
    found: list[Event] = []
    for _, event in at.journal.read():
        match event:
            case RunStarted():
                is_ours = bool(event.changes) and event.changes[-1] == item.change
                runs |= {event.run} if is_ours else set()
            case RunFinished():
                is_ours = event.run in runs
            case ChangeSubmitted():
                is_ours = event.submission.change == item.change
            case LandingStarted():
                is_ours = any(change == item.change for change, _ in event.changes)
            case _:
                is_ours = getattr(event, "change", None) == item.change
        if is_ours:
            found.append(event)
    return found


def _require_waiting(at: Office, item: Submission, what: str) -> None:
    verdict = at.state.verdicts.get(item.change)
    if verdict is not None:
        raise UserError(f"change {item.change} was {verdict.value} already: it cannot {what}")


def _replaced(at: Office, item: Submission, by: str, names: Sequence[str]) -> tuple[Waived, ...]:
    """The checks of these names as trunk has them. Raises UserError where the change leaves one as it is, or this person
    may not say that it need not pass it."""
    _require_maintainer(at, by, "waive a check")
    policy, trunk = at.policy(), at.state.trunk
    paths = read_change(at.repository.git, trunk, item.head).paths if trunk is not None else frozenset[str]()
    theirs = at.repository.rules(item.head)
    if not isinstance(theirs, Config):
        raise UserError(f"the gate.toml of change {item.change} is broken: it has to be mended first")
    ours = {check.name: check for check in policy.checks_before_landing()}
    found = []
    for name in names:
        check = ours.get(CheckName(name))
        if check is None:
            raise UserError(f"there is no check {name!r} before landing: there are {text.names(ours) or 'none'}")
        if not rules_among(policy.nested, paths) or check in theirs.checks_before_landing():
            raise UserError(f"change {item.change} leaves the check {name} as it is: only one that it alters can be waived")
        found.append((check.name, definition(check)))
    return tuple(found)


def _is_landing(at: Office, item: Submission) -> bool:
    """Whether a landing of the change had begun when our request was recorded; only one that begins later heeds it."""
    fold(at.state, at.journal.read(at.state.seq))
    under_way = at.state.landing is not None and (item.change, item.revision) in at.state.landing.changes
    return under_way or at.state.verdicts.get(item.change) is Verdict.LANDED


def _is_maintainer(at: Office, person: str) -> bool:
    return trust.is_maintainer(at.policy().trust, person, at.repository.owner)


def _require_maintainer(at: Office, person: str, what: str) -> None:
    if not _is_maintainer(at, person):
        people = text.names(at.policy().trust.maintainers or (at.repository.owner,), "or")
        raise UserError(f"{person} may not {what}: {people} may")
