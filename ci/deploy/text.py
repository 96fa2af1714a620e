"""The words for people about deploys: one line for each fact and for each deploy. Names of targets may hold any printable
text; who prints to a terminal still cleans the whole line.
"""

from typing import assert_never

from ci.deploy.model import (
    DeployFact,
    DeployFinished,
    DeployStarted,
    RollbackRequested,
    StepFinished,
    StepSent,
    WaveFinished,
)
from ci.deploy.plan import DEPLOY, DONE, ROLLBACK, VERIFY, Deploy, DeployState, targets_to_restore


def fact_line(fact: DeployFact, state: DeployState | None = None) -> str:
    """One sentence about a fact. state: with the fact or from just before it; without, the sentence can name less."""
    match fact:
        case DeployStarted():
            return _started(fact)
        case RollbackRequested():
            return f"{fact.environment}: {fact.by} asked for a rollback{_clause(fact.reason)}"
        case StepSent() | StepFinished() | WaveFinished() | DeployFinished():
            deploy = None if state is None else state.deploys.get(fact.deploy)
            front = f"deploy {fact.deploy}" if deploy is None else deploy.started.environment
            return f"{front}: {_progress(fact, deploy)}"
        case _:
            assert_never(fact)


def deploy_line(deploy: Deploy) -> str:
    """One line about a deploy and where it stands."""
    started = deploy.started
    front = f"deploy {deploy.number}: {started.environment}, {started.commit[:10]}"
    if deploy.end is not None:
        return f"{front}: {deploy.end.outcome}{_clause(deploy.end.reason)}"
    if deploy.is_rolling_back:
        left = len(deploy.left_behind())
        return f"{front}: rolling back, {left} of {_count(len(targets_to_restore(deploy)), 'target')} to go"
    done = sum(step.is_done for step in deploy.steps_of(DEPLOY))
    total = sum(len(wave) for wave in started.waves)
    wave = min(len(deploy.waves) + 1, len(started.waves))
    return f"{front}: wave {wave} of {len(started.waves)}, {done} of {_count(total, 'target')} deployed"


def _started(fact: DeployStarted) -> str:
    targets = _count(sum(len(wave) for wave in fact.waves), "target")
    if fact.kind == ROLLBACK:
        left = "" if fact.previous is None else f" from {fact.previous[:10]}"
        return f"{fact.environment}: going back{left} to {fact.commit[:10]} on {targets}, asked by {fact.by}"
    return f"{fact.environment}: deploying {fact.commit[:10]} to {targets} in {_count(len(fact.waves), 'wave')}"


def _progress(fact: StepSent | StepFinished | WaveFinished | DeployFinished, deploy: Deploy | None) -> str:
    match fact:
        case StepSent():
            return f"{_what(fact)} started"
        case StepFinished():
            step = None if deploy is None else deploy.steps.get(fact.step)
            what = f"step {fact.step}" if step is None else _what(step.sent)
            return f"{what} {fact.outcome.upper() if fact.outcome != DONE else DONE}{_clause(fact.reason)}"
        case WaveFinished():
            return _wave(fact, deploy)
        case DeployFinished():
            return _finished(fact, deploy)
        case _:
            assert_never(fact)


def _what(sent: StepSent) -> str:
    return f"verify of wave {sent.wave}" if sent.action == VERIFY else f"{sent.action} of {sent.target}"


def _wave(fact: WaveFinished, deploy: Deploy | None) -> str:
    name = f"wave {fact.wave}"
    goes_on = ""
    if deploy is not None:
        waves = deploy.started.waves
        name += f" of {len(waves)} ({_count(len(waves[fact.wave - 1]), 'target')})"
        goal = f" to {deploy.restores[:10]}" if deploy.restores is not None else ""
        goes_on = f"; rolling back {_count(len(targets_to_restore(deploy)), 'target')}{goal}"
    if fact.good:
        return f"{name} is good{_clause(fact.reason)}"
    return f"{name} FAILED{_clause(fact.reason)}{goes_on}"


def _finished(fact: DeployFinished, deploy: Deploy | None) -> str:
    name = f"deploy {fact.deploy}" if deploy is None else f"deploy {fact.deploy} of {deploy.started.commit[:10]}"
    back = "" if deploy is None or deploy.restores is None else f", back on {deploy.restores[:10]}"
    match fact.outcome:
        case "good":
            return f"{name} is good{_clause(fact.reason)}"
        case "rolled back":
            return f"{name} was rolled back{back}{_clause(fact.reason)}"
        case "superseded":
            return f"{name} was given up{_clause(fact.reason)}"
        case _:
            return f"{name} {fact.outcome.upper()}{_clause(fact.reason)}"


def _clause(reason: str) -> str:
    return f": {reason}" if reason else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
