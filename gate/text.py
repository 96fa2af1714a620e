"""Every sentence the gate says to people, rendered from typed facts: what happened, to what, why, and what to do now.

Pure. No sentence contains control characters: names and paths come from pushes.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ci.deploy import text as deploy_text
from ci.deploy.model import (
    DeployFinished,
    DeployStarted,
    RollbackRequested,
    StepFinished,
    StepSent,
    WaveFinished,
)
from ci.deploy.plan import DeployState
from ci.model import Outcome, Result
from gate.model import (
    ApprovalGiven,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Event,
    Landed,
    LandedBefore,
    LandingFailed,
    LandingStarted,
    Promoted,
    Reason,
    RetryRequested,
    RunFinished,
    RunStarted,
    TokenAdded,
    TokenRevoked,
    TrunkClosed,
    TrunkJudged,
    TrunkMoved,
    TrunkOpened,
    Why,
)

SHOWN = 5  # names listed before "and n more"


def reason(cause: Reason, trunk: str = "main") -> str:
    """One typed reason as a clause that goes on from "because" or "waits:"."""
    match cause.why:
        case Why.CHECK_RED:
            tests = f": {names(cause.tests)} failed" if cause.tests else f": {cause.detail}" if cause.detail else ""
            then = f", by itself on {trunk} as of {cause.base[:10]}" if cause.base else ""
            return clean(f"the check {cause.check} is red{tests}{then}{_blame(cause)}")
        case Why.CONFLICT:
            other = f"change {cause.change}" if cause.change else trunk
            return clean(f"it conflicts with {other} in {names(cause.paths) or 'its history'}")
        case Why.NOTHING_TO_DO:
            return clean(f"there is nothing to do: {trunk} has all of it already")
        case Why.BROKEN_CONFIG:
            return clean(f"its {names(cause.paths) or 'gate.toml'} is broken: {cause.detail}")
        case Why.SIGNED_COMMITS:
            return clean(f"it has signed commits, and landing it would rewrite them{_after(cause.detail)}")
        case Why.MERGE_COMMITS:
            return clean(f"it contains merge commits, which cannot be rebased{_after(cause.detail)}")
        case Why.UNRELATED:
            return clean(f"it shares no history with {trunk}")
        case Why.DEPENDENCY_GONE:
            return clean(f"it depends on change {cause.change}, which cannot land{_after(cause.detail)}")
        case Why.NO_ISOLATION:
            return "its author is not among the trusted, and this machine has no sandbox to run their checks in"
        case Why.DRAFT:
            return "it is a draft: push it again without -o draft"
        case Why.NEEDS_APPROVAL:
            what = names(cause.paths)
            touched = f", for it touches {what}" if what else ""
            return clean(
                f"it needs an approval by {names(cause.people, 'or') or 'a maintainer'}{touched}{_bracket(cause.detail)}"
            )
        case Why.TRUNK_CLOSED:
            return clean(f"{trunk} is closed{_after(cause.detail)}")
        case Why.TRUNK_RED:
            tests = f" ({names(cause.tests)} failed)" if cause.tests else ""
            return clean(f"{trunk} itself is red: {cause.check} fails there without this change{tests}{_blame(cause)}")
        case Why.WAITS_FOR_CHANGE:
            where = f" in {names(cause.paths)}" if cause.paths else ""
            check = f", on top of which {cause.check} is red" if cause.check else ""
            conflict = f", with which it conflicts{where}" if cause.paths else ""
            return clean(f"change {cause.change} is ahead of it and undecided{conflict}{check}{_blame(cause)}")
        case Why.WAITS_FOR_CHECK:
            if cause.check is None:
                return clean(cause.detail or "its checks are being prepared")
            if cause.odds:
                what = f"{names(cause.tests)} of {cause.check}" if cause.tests else str(cause.check)
                return clean(f"{what} was red, which may be nobody's fault, and is run once more{_blame(cause)}")
            return clean(f"{cause.check} is being run{_bracket(cause.detail)}")
        case Why.WAITS_FOR_WORKER:
            return "every worker is busy"
        case Why.INFRASTRUCTURE:
            what = f"{cause.check} cannot be run on this machine" if cause.check else "git cannot read it"
            return clean(f"{what}{_after(cause.detail)}")


def cure(cause: Reason, trunk: str = "main") -> str:
    """What to do about a reason to refuse or to wait; "" when waiting is all there is to do."""
    match cause.why:
        case Why.CONFLICT:
            return f"git fetch && git rebase origin/{trunk}, mend the conflict, and push again"
        case Why.CHECK_RED:
            return "mend it and push again; gate retry tries the same commits once more, and trunk without them"
        case Why.BROKEN_CONFIG:
            return "mend gate.toml ('gate config check' shows all that is wrong) and push again"
        case Why.SIGNED_COMMITS:
            return 'push unsigned commits, or have [merge] use method = "merge" or signed = "resign"'
        case Why.MERGE_COMMITS:
            return f"git rebase origin/{trunk}, and push again"
        case Why.UNRELATED:
            return f"base it on {trunk} and push again"
        case Why.DEPENDENCY_GONE:
            return "rebase it onto what it needs and push again"
        case Why.NEEDS_APPROVAL:
            return "one of them runs 'gate approve' on the server"
        case Why.TRUNK_RED:
            return (
                f"'gate log' with the change and {cause.check} shows its output; land a change that mends {trunk}, "
                "or, when the gate's machine lacks something, add it and run 'gate retry'; where the check itself is wrong, "
                f"land a gate.toml that mends it with 'gate approve --waive {cause.check}'"
            )
        case Why.INFRASTRUCTURE:
            return "see to the machine, then 'gate retry'"
        case _:
            return ""


def as_data(cause: Reason, trunk: str = "main") -> dict[str, object]:
    """A reason for a program that asks why: its kind, both sentences, and whose fault it may be with the chance of each."""
    told: dict[str, object] = {"why": cause.why.value, "text": reason(cause, trunk), "cure": cure(cause, trunk)}
    return told | ({"odds": dict(cause.odds)} if cause.odds else {})


def event(fact: Event, trunk: str = "main", deploys: DeployState | None = None) -> str:
    """One line about one event. deploys: the state after it, for sentences that name an environment."""
    match fact:
        case ChangeSubmitted(submission=item):
            return clean(f"change {item.change} revision {item.revision} submitted by {item.by}: {item.subject}")
        case ChangeRefused():
            return f"change {fact.change} refused: {'; '.join(reason(cause, trunk) for cause in fact.reasons)}"
        case ChangeWithdrawn():
            return clean(f"change {fact.change} withdrawn by {fact.by}{_after(fact.detail)}")
        case RunStarted():
            of = f" for change {fact.changes[-1]}" if fact.changes else f" on {trunk}"
            return clean(f"{fact.check} started{of}")
        case RunFinished():
            return clean(f"run {fact.run} was stopped{_after(fact.detail)}") if fact.result is None else result(fact.result)
        case LandingStarted():
            return f"landing {_changes(fact)}"
        case Landed():
            return f"{trunk} moved to {fact.commit[:10]}"
        case LandingFailed():
            return clean(f"landing {fact.commit[:10]} was given up: {fact.detail}")
        case LandedBefore():
            return f"change {fact.change} had landed as {fact.commit[:10]}, before this journal was begun"
        case TrunkMoved(old=None):
            return f"{trunk} is at {fact.new[:10]}"
        case TrunkMoved():
            return f"{trunk} was moved to {fact.new[:10]} by somebody else than the gate"
        case ApprovalGiven():
            without = f", without {names([name for name, _ in fact.waived])} as trunk has it" if fact.waived else ""
            return clean(f"change {fact.change} revision {fact.revision} approved by {fact.by}{without}")
        case RetryRequested():
            what = f"change {fact.change}" if fact.change else f"the pipeline on {trunk}"
            return clean(f"{what} is tried again, asked by {fact.by}")
        case TrunkClosed():
            return clean(f"{trunk} closed by {fact.by}: {fact.reason}")
        case TrunkOpened():
            return clean(f"{trunk} opened by {fact.by}")
        case TrunkJudged(green=True):
            return f"{trunk} at {fact.commit[:10]} is green"
        case TrunkJudged():
            since = "" if len(fact.suspects) < 2 else f"; {len(fact.suspects)} commits can have done it"
            return clean(f"{trunk} at {fact.commit[:10]} is red: {names(fact.red)}{since}")
        case Promoted():
            return f"green/{trunk} moved to {fact.commit[:10]}"
        case TokenAdded():
            return clean(f"token {fact.name} added")
        case TokenRevoked():
            return clean(f"token {fact.name} revoked")
        case DeployStarted() | StepSent() | StepFinished() | WaveFinished() | DeployFinished() | RollbackRequested():
            return clean(deploy_text.fact_line(fact, deploys))


def result(found: Result) -> str:
    """One line about how a run ended: the check, the outcome, how long, and which tests failed."""
    took = duration(found.duration_s)
    match found.outcome:
        case Outcome.GREEN:
            return clean(f"{found.check} green in {took}")
        case Outcome.RED:
            tests = f": {names(found.failed)} failed" if found.failed else f": {found.reason}" if found.reason else ""
            return clean(f"{found.check} RED in {took}{tests}")
        case Outcome.TIMED_OUT:
            return clean(f"{found.check} TIMED OUT after {took}")
        case Outcome.INFRASTRUCTURE:
            return clean(f"{found.check} could not be run{_after(found.reason)}")


def landed(change: ChangeId, commit: str, trunk: str, waited_s: float) -> str:
    return f"change {change} landed on {trunk} as {commit[:10]}, {duration(waited_s)} after it was submitted"


def waits(reasons: Iterable[Reason], trunk: str) -> str:
    """Why a change waits and what would help, for a pusher who watches."""
    causes = list(reasons)
    cures = dict.fromkeys(found for cause in causes if (found := cure(cause, trunk)))
    to_help = f"; to help: {'; '.join(cures)}" if cures else ""
    return f"waits: {'; '.join(reason(cause, trunk) for cause in causes)}{to_help}"


def refused(change: ChangeId, reasons: Iterable[Reason], trunk: str) -> str:
    """The verdict and, after it, what to do about it."""
    causes = list(reasons)
    cures = dict.fromkeys(found for cause in causes if (found := cure(cause, trunk)))
    to_fix = f"; to fix: {'; '.join(cures)}" if cures else ""
    return f"change {change} refused: {'; '.join(reason(cause, trunk) for cause in causes)}{to_fix}"


def names(items: Iterable[object], last: str = "and") -> str:
    """A short list in words."""
    all_items = [str(item) for item in items]
    if len(all_items) > SHOWN:
        return f"{', '.join(all_items[:SHOWN])} and {len(all_items) - SHOWN} more"
    if len(all_items) < 2:
        return "".join(all_items)
    return f"{', '.join(all_items[:-1])} {last} {all_items[-1]}"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def moment(at: float) -> str:
    """Epoch seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clean(sentence: str) -> str:
    """Without control characters and undecodable bytes, and of a bounded length: it may hold names out of a push."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in sentence.replace("\n", " "))
    return shown if len(shown) <= 1000 else shown[:997] + "..."


def odds(each: Iterable[tuple[str, float]]) -> str:
    """Chances in words, the first first: "the change 97 %, a flake 2 %". "" when there is nothing to doubt."""
    told = [(who, chance) for who, chance in each if chance >= 0.01]
    if not told or told[0][1] >= 0.9995:
        return ""
    return ", ".join(f"{who} {_percent(chance)}" for who, chance in told)


def _percent(chance: float) -> str:
    """Whole, but never rounded to certainty."""
    return f"{100 * chance:.0f} %" if chance < 0.99 else f"{int(1000 * chance) / 10:.1f} %"


def _blame(cause: Reason) -> str:
    """How often it was red, where tests took its place before, and whose doing that is."""
    said = [*([cause.detail] if cause.detail and cause.tests else []), *([odds(cause.odds)] if odds(cause.odds) else [])]
    return f" ({': '.join(said)})" if cause.odds and said else ""


def _after(detail: str) -> str:
    return f": {detail}" if detail else ""


def _bracket(detail: str) -> str:
    return f" ({detail})" if detail else ""


def _changes(fact: LandingStarted) -> str:
    numbers: Sequence[int] = [change for change, _ in fact.changes]
    return f"change {numbers[0]}" if len(numbers) == 1 else f"changes {names(numbers)}"
