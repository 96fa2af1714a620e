"""What people read about deploys."""

import pytest

from ci.deploy.model import (
    DeployFact,
    DeployFinished,
    DeployStarted,
    Environment,
    RollbackRequested,
    StepFinished,
    StepSent,
    WaveFinished,
)
from ci.deploy.plan import DeployState, fold
from ci.deploy.text import deploy_line, fact_line
from ci.model import Sha

OLD, NEW = Sha("1a" * 20), Sha("2b" * 20)
WAVES = (("web1",), ("web2", "web3", "web4"), ("web5",))
STARTED = DeployStarted(1.0, 4, "staging", NEW, OLD, WAVES, settings=Environment("staging", "deploy"))
BACK = DeployStarted(9.0, 5, "staging", OLD, NEW, WAVES, "rollback", "ann")


def sent(wave: int, target: str, action: str = "deploy") -> StepSent:
    return StepSent(2.0, 4, f"{wave}{target}{action}", wave, target, action)


FACTS: tuple[DeployFact, ...] = (
    STARTED,
    sent(1, "web1"),
    WaveFinished(3.0, 4, 1, True),
    *(sent(2, target) for target in WAVES[1]),
    sent(2, "", "verify"),
)
STATE = fold(FACTS)


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (STARTED, "staging: deploying 2b2b2b2b2b to 5 targets in 3 waves"),
        (BACK, "staging: going back from 2b2b2b2b2b to 1a1a1a1a1a on 5 targets, asked by ann"),
        (sent(2, "web3"), "staging: deploy of web3 started"),
        (sent(2, "", "verify"), "staging: verify of wave 2 started"),
        (StepFinished(3.0, 4, "2web3deploy", "done", 0), "staging: deploy of web3 done"),
        (
            StepFinished(3.0, 4, "2web3deploy", "failed", 3, "exit code 3: disk full"),
            "staging: deploy of web3 FAILED: exit code 3: disk full",
        ),
        (WaveFinished(3.0, 4, 2, True), "staging: wave 2 of 3 (3 targets) is good"),
        (
            WaveFinished(3.0, 4, 2, False, "verify failed (exit code 1)"),
            "staging: wave 2 of 3 (3 targets) FAILED: verify failed (exit code 1); rolling back 4 targets to 1a1a1a1a1a",
        ),
        (DeployFinished(4.0, 4, "good"), "staging: deploy 4 of 2b2b2b2b2b is good"),
        (DeployFinished(4.0, 4, "rolled back"), "staging: deploy 4 of 2b2b2b2b2b was rolled back, back on 1a1a1a1a1a"),
        (DeployFinished(4.0, 4, "superseded", "too old"), "staging: deploy 4 of 2b2b2b2b2b was given up: too old"),
        (DeployFinished(4.0, 4, "failed", "left behind: web1"), "staging: deploy 4 of 2b2b2b2b2b FAILED: left behind: web1"),
        (RollbackRequested(4.0, "staging", "ann", "slow pages"), "staging: ann asked for a rollback: slow pages"),
    ],
)  # fmt: skip
def test_a_fact_is_one_sentence(fact: DeployFact, line: str) -> None:
    assert fact_line(fact, STATE) == line
    assert fact_line(fact)
    assert fact_line(fact, DeployState())


def test_a_deploy_says_where_it_stands() -> None:
    front = "deploy 4: staging, 2b2b2b2b2b"
    done = fold([StepFinished(3.0, 4, "1web1deploy", "done", 0)], STATE)
    assert deploy_line(done.deploys[4]) == f"{front}: wave 2 of 3, 1 of 5 targets deployed"
    back = fold([WaveFinished(4.0, 4, 2, False)], STATE)
    assert deploy_line(back.deploys[4]) == f"{front}: rolling back, 4 of 4 targets to go"
    over = fold([DeployFinished(5.0, 4, "rolled back")], back)
    assert deploy_line(over.deploys[4]) == f"{front}: rolled back"
