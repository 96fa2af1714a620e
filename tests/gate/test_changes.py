"""What the planner is told of a change, read from a real submission."""

from pathlib import Path

import pytest

from ci.model import Sha
from fakes.stand import PARTS, Stand
from gate import commands
from gate.changes import Changes
from gate.config import Config
from gate.model import ChangeId


@pytest.mark.parametrize("claims", [True, False])
def test_the_plan_is_told_who_claims_to_mend_trunk(tmp_path: Path, claims: bool) -> None:
    stand = Stand(tmp_path, PARTS, {"a/check.sh": "true", "b/check.sh": "true"})
    change = ChangeId(stand.submit("mend", {"a/x": "1"}, "draft", *(["fixes-trunk"] if claims else [])))
    stand.settle()
    with commands.office(stand.path) as at:
        submission = at.state.waiting[change]
        described = Changes(at.repository).describe(
            submission, at.state, Config(), Sha(stand.trunk()), may_sandbox=True, is_gate_broken=False
        )
    assert described.fixes_trunk is claims
    assert described.paths == {"a/x"}
