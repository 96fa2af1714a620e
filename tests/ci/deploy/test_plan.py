"""What deploys do next: facts in, actions out; then random histories against the rules of the module."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
from ci.deploy.plan import (
    DEPLOY,
    MOST_OVERTAKES,
    ROLL_BACK,
    ROLLBACK,
    VERIFY,
    Action,
    Deploy,
    DeployState,
    FinishDeploy,
    FinishWave,
    SendStep,
    StartDeploy,
    apply,
    decide,
    expand_waves,
    fold,
    step_id,
    targets_to_restore,
)
from ci.model import Sha

COMMITS = tuple(Sha(f"{number:02}" * 20) for number in range(12))
A, B, C, D, E, F = COMMITS[:6]
ORDER = {commit: place for place, commit in enumerate(COMMITS)}.get
FOUR = ("t1", "t2", "t3", "t4")
PROD = Environment("prod", "deploy {target}", targets=FOUR, waves=("1", "50%", "100%"))  # waves: t1 · t2 · t3 t4

Says = Callable[[StepSent], str]


def all_done(_: StepSent) -> str:
    return "done"


def failing(*targets: str, outcome: str = "failed", action: str = DEPLOY) -> Says:
    return lambda sent: outcome if sent.target in targets and sent.action == action else "done"


class Play:
    """A repository's deploys without processes: every action becomes its fact, and a step ends as ``says`` has it."""

    def __init__(self, *environments: Environment) -> None:
        self.environments = environments
        self.state = DeployState()
        self.facts: list[DeployFact] = []
        self.promoted: Sha | None = None
        self.now = 1000.0

    def tell(self, fact: DeployFact) -> None:
        self.facts.append(fact)
        self.state = apply(self.state, fact)

    def actions(self) -> tuple[Action, ...]:
        return decide(self.environments, self.state, self.promoted, ORDER, self.now).actions

    def look_again_at(self) -> float | None:
        return decide(self.environments, self.state, self.promoted, ORDER, self.now).look_again_at

    def perform(self, action: Action) -> None:
        match action:
            case StartDeploy():
                waves = action.waves
                if waves is None:
                    waves = expand_waves(action.settings.waves, action.settings.targets)
                self.tell(
                    DeployStarted(
                        self.now,
                        self.state.next_number,
                        action.settings.name,
                        action.commit,
                        action.previous,
                        waves,
                        action.kind,
                        action.by,
                        action.settings,
                    )
                )
            case SendStep():
                self.tell(StepSent(self.now, action.deploy, action.step, action.wave, action.target, action.action))
            case FinishWave():
                self.tell(WaveFinished(self.now, action.deploy, action.wave, action.good, action.reason))
            case FinishDeploy():
                self.tell(DeployFinished(self.now, action.deploy, action.outcome, action.reason))

    def sent(self) -> list[StepSent]:
        """Steps that have not ended."""
        return [
            step.sent for deploy in self.state.running for step in deploy.steps.values() if step.end is None
        ]  # fmt: skip

    def end(self, sent: StepSent, outcome: str) -> None:
        self.tell(StepFinished(self.now, sent.deploy, sent.step, outcome))

    def act(self) -> None:
        """Perform actions until there are none; steps stay where they are."""
        while actions := self.actions():
            for action in actions:
                self.perform(action)

    def run(self, says: Says = all_done, until: Callable[[], bool] = lambda: False) -> "Play":
        """Everything up to where only time or news could change anything, or until it is so at a step's end."""
        self.act()
        while not until() and (sent := self.sent()):
            self.end(sent[0], says(sent[0]))
            self.act()
        return self

    def promote(self, commit: Sha, says: Says = all_done) -> "Play":
        self.promoted = commit
        return self.run(says)

    def ask_rollback(self, environment: str = "prod") -> None:
        asked = sum(isinstance(fact, RollbackRequested) for fact in self.facts)
        self.tell(RollbackRequested(self.now + asked / 1e6, environment, "ann"))  # no person asks twice in one instant

    def outcomes(self) -> list[str]:
        return [fact.outcome for fact in self.facts if isinstance(fact, DeployFinished)]

    def last(self) -> Deploy:
        return self.state.deploys[max(self.state.deploys)]

    def steps(self, action: str) -> list[tuple[int, str]]:
        """(wave, target) of every step of the last deploy with this action, in order of sending."""
        return [(step.sent.wave, step.sent.target) for step in self.last().steps_of(action)]


# --- nothing to do ----------------------------------------------------------------------------------------------------


def test_nothing_is_deployed_without_a_promoted_commit() -> None:
    assert Play(PROD).actions() == ()


def test_nothing_is_deployed_where_the_promoted_commit_stands_already() -> None:
    assert Play(PROD).promote(A).actions() == ()


def test_a_commit_that_is_not_on_trunk_is_not_deployed() -> None:
    play = Play(PROD)
    play.promoted = Sha("f" * 40)
    assert play.actions() == ()


def test_an_older_commit_is_never_deployed_by_itself() -> None:
    play = Play(PROD).promote(B)
    play.promoted = A
    assert play.actions() == ()


# --- waves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waves", "count", "sizes"),
    [
        pytest.param(("100%",), 3, [3], id="all at once"),
        pytest.param(("1", "1%", "10%", "100%"), 10, [1, 9], id="shares that add nothing are left out"),
        pytest.param(("1", "1%", "10%", "100%"), 1000, [1, 9, 90, 900], id="one, then one in a hundred, then one in ten"),
        pytest.param(("1%", "100%"), 101, [2, 99], id="shares are rounded up"),
        pytest.param(("33.3%", "100%"), 10, [4, 6], id="shares with a fraction"),
        pytest.param(("10%", "20%", "30%", "100%"), 10, [1, 1, 1, 7], id="exact shares are not rounded up by float noise"),
        pytest.param(("5", "100%"), 3, [3], id="a count above the number of targets"),
        pytest.param(("100%",), 0, [], id="no targets"),
        pytest.param(("50%",), 4, [4], id="the last wave is always everything"),
        pytest.param(("50%", "25%", "100%"), 4, [2, 2], id="a wave that goes back adds nothing"),
    ],
)
def test_waves(waves: Sequence[str], count: int, sizes: list[int]) -> None:
    targets = [f"t{number}" for number in range(count)]
    split = expand_waves(waves, targets)
    assert [len(wave) for wave in split] == sizes
    assert [target for wave in split for target in wave] == targets


def test_waves_follow_one_another() -> None:
    play = Play(PROD).promote(A)
    assert play.steps(DEPLOY) == [(1, "t1"), (2, "t2"), (3, "t3"), (3, "t4")]
    assert play.outcomes() == ["good"]


def test_no_more_targets_at_once_than_allowed() -> None:
    play = Play(replace(PROD, waves=("100%",), concurrency=3))
    play.promoted = A
    play.act()
    assert [sent.target for sent in play.sent()] == ["t1", "t2", "t3"]
    play.end(play.sent()[1], "done")
    play.act()
    assert [sent.target for sent in play.sent()] == ["t1", "t3", "t4"]


def test_verify_runs_once_after_the_targets_of_each_wave() -> None:
    play = Play(replace(PROD, verify="check")).promote(A)
    assert play.steps(VERIFY) == [(1, ""), (2, ""), (3, "")]
    sent = [(fact.wave, fact.action) for fact in play.facts if isinstance(fact, StepSent)]
    assert sent == [(1, DEPLOY), (1, VERIFY), (2, DEPLOY), (2, VERIFY), (3, DEPLOY), (3, DEPLOY), (3, VERIFY)]


def test_a_wave_bakes_before_the_next_and_the_last_before_it_is_good() -> None:
    play = Play(replace(PROD, waves=("1", "100%"), bake_s=60))
    play.promote(A)
    assert play.steps(DEPLOY) == [(1, "t1")]
    assert play.look_again_at() == 1060
    play.now = 1059.9
    assert play.actions() == ()
    play.now = 1060
    play.run()
    assert len(play.steps(DEPLOY)) == 4
    assert (play.outcomes(), play.look_again_at()) == ([], 1120)
    play.now = 1120
    assert play.run().outcomes() == ["good"]


def test_a_running_deploy_keeps_the_settings_it_was_started_with() -> None:
    play = Play(PROD)
    play.promoted = A
    play.act()
    play.environments = (replace(PROD, targets=("new",), waves=("100%",)),)
    play.run()
    assert [target for _, target in play.steps(DEPLOY)] == list(FOUR)


def test_a_deploy_goes_on_when_its_environment_is_no_longer_configured() -> None:
    play = Play(PROD)
    play.promoted = A
    play.act()
    play.environments = ()
    assert play.run().outcomes() == ["good"]


# --- failures and rollback ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "timed out", "unknown"])
def test_one_failure_of_any_kind_rolls_back_what_was_touched_newest_wave_first(outcome: str) -> None:
    play = Play(PROD).promote(A).promote(B, failing("t2", outcome=outcome))
    assert play.steps(ROLL_BACK) == [(2, "t2"), (1, "t1")]
    assert play.outcomes() == ["good", "rolled back"]
    assert play.state.of("prod").present == A


def test_failures_within_the_threshold_are_survived_and_named() -> None:
    play = Play(replace(PROD, max_failures=1)).promote(A, failing("t2"))
    assert play.outcomes() == ["good"]
    assert play.last().end is not None
    assert "t2 failed" in play.last().end.reason


def test_failures_are_counted_over_all_waves() -> None:
    play = Play(replace(PROD, max_failures=1)).promote(A, failing("t1", "t3"))
    assert play.last().waves[2].good
    assert not play.last().waves[3].good


def test_after_too_many_failures_nothing_new_is_sent_and_what_runs_is_waited_for() -> None:
    play = Play(replace(PROD, waves=("100%",), concurrency=2)).promote(A)
    play.promoted = B
    play.act()
    play.end(play.sent()[0], "failed")
    play.act()
    assert [(sent.target, sent.action) for sent in play.sent()] == [("t2", DEPLOY)]
    play.run()
    assert sorted(target for _, target in play.steps(ROLL_BACK)) == ["t1", "t2"]


def test_a_failed_verify_rolls_back() -> None:
    play = Play(replace(PROD, verify="check"))
    play.promote(A).promote(B, lambda sent: "failed" if sent.action == VERIFY and sent.wave == 3 else "done")
    assert play.steps(ROLL_BACK) == [(3, "t3"), (3, "t4"), (2, "t2"), (1, "t1")]
    assert play.last().waves[3].reason == "verify failed"


def test_a_wave_is_rolled_back_before_the_one_below_it_begins() -> None:
    play = Play(replace(PROD, verify="check")).promote(A)
    play.promoted = B
    says: Says = lambda sent: "failed" if sent.action == VERIFY and sent.wave == 3 else "done"  # noqa: E731
    play.run(says, until=lambda: any(sent.action == ROLL_BACK for sent in play.sent()))
    assert [sent.target for sent in play.sent()] == ["t3", "t4"]
    play.end(play.sent()[0], "done")
    assert play.actions() == ()


def test_a_rolled_back_commit_stays_barred_until_trunk_is_past_it() -> None:
    play = Play(PROD).promote(B).promote(D, failing("t1"))
    assert play.actions() == ()
    play.promoted = C  # between the good one and the barred one
    assert play.actions() == ()
    assert play.promote(E).state.of("prod").present == E


def test_a_first_deploy_that_fails_without_a_rollback_command_names_what_it_leaves() -> None:
    play = Play(PROD).promote(A, failing("t2"))
    assert play.outcomes() == ["failed"]
    assert play.steps(ROLL_BACK) == []
    assert play.last().end is not None
    assert play.last().end.reason.endswith(": t2, t1")


def test_a_first_deploy_that_fails_runs_the_rollback_command_it_has() -> None:
    play = Play(replace(PROD, rollback="remove {target}")).promote(A, failing("t2"))
    assert play.steps(ROLL_BACK) == [(2, "t2"), (1, "t1")]
    assert play.outcomes() == ["rolled back"]


def test_a_rollback_goes_on_after_a_failure_and_names_the_target_it_leaves() -> None:
    says: Says = lambda sent: "failed" if (sent.action, sent.target) in ((DEPLOY, "t2"), (ROLL_BACK, "t2")) else "done"  # noqa: E731
    play = Play(PROD).promote(A).promote(B, says)
    assert play.steps(ROLL_BACK) == [(2, "t2"), (1, "t1")]
    assert play.outcomes() == ["good", "failed"]
    assert play.state.of("prod").dirty == ("t2",)


def test_what_a_failed_rollback_left_is_reached_by_the_next() -> None:
    both: Says = lambda sent: "failed" if sent.target == "t2" else "done"  # noqa: E731
    play = Play(PROD).promote(A).promote(B, both).promote(C, failing("t1"))
    assert play.steps(ROLL_BACK) == [(2, "t2"), (1, "t1")]
    assert play.state.of("prod").dirty == ()


# --- a newer commit ------------------------------------------------------------------------------------------------------


def test_a_newer_commit_replaces_a_deploy_that_has_sent_nothing() -> None:
    play = Play(PROD)
    play.promoted = A
    play.perform(play.actions()[0])
    play.promoted = B
    assert [type(action) for action in play.actions()] == [FinishDeploy]
    play.perform(play.actions()[0])
    assert play.state.of("prod").overtakes == 0, "nothing was overtaken"
    play.run()
    assert play.outcomes() == ["superseded", "good"]


def test_a_newer_commit_overtakes_at_a_wave_border_and_not_before() -> None:
    play = Play(replace(PROD, waves=("50%", "100%")))
    play.promoted = A
    play.act()
    play.promoted = B
    assert play.actions() == ()
    play.end(play.sent()[0], "done")
    assert play.actions() == ()
    play.run()
    assert play.outcomes() == ["superseded", "good"]
    assert len(play.state.deploys[1].waves) == 1


def test_a_newer_commit_does_not_wait_for_a_bake() -> None:
    play = Play(replace(PROD, waves=("50%", "100%"), bake_s=60)).promote(A)
    play.promote(B)
    assert play.outcomes() == ["superseded"]


def test_a_deploy_behind_its_last_wave_is_not_overtaken() -> None:
    play = Play(replace(PROD, waves=("100%",), bake_s=60)).promote(A)
    play.promoted = B
    assert play.actions() == ()
    play.now += 60
    play.act()
    assert play.outcomes() == ["good"]


def test_after_three_overtakes_one_must_finish() -> None:
    play = Play(replace(PROD, waves=("1", "2", "3", "100%")))
    commits = iter(COMMITS)
    play.promoted = next(commits)
    for _ in range(40):
        play.act()
        sent = play.sent()
        if not sent:
            break
        play.promoted = next(commits, play.promoted)  # trunk is faster than any wave
        play.end(sent[0], "done")
    assert play.outcomes()[: MOST_OVERTAKES + 1] == ["superseded"] * MOST_OVERTAKES + ["good"]


def test_the_one_that_must_finish_is_still_replaced_while_it_has_sent_nothing() -> None:
    play = Play(replace(PROD, waves=("1", "2", "100%")))
    play.promoted = A
    for newer in (B, C, D):
        play.act()
        play.promoted = newer
        play.end(play.sent()[0], "done")
    while play.state.of("prod").overtakes < MOST_OVERTAKES or not play.state.running:
        play.perform(play.actions()[0])
    play.promoted = E
    assert [type(action) for action in play.actions()] == [FinishDeploy]


def test_a_rollback_reaches_targets_that_only_overtaken_deploys_touched() -> None:
    play = Play(replace(PROD, waves=("1", "3", "100%"))).promote(A)
    play.promoted = B
    play.run(until=lambda: len(play.state.deploys[2].waves) == 1)  # and t2 and t3 are being deployed
    play.promoted = C
    play.run(failing("t1"))
    assert play.last().started.commit == C
    assert {target for _, target in play.steps(ROLL_BACK)} >= {"t1", "t2", "t3"}
    assert play.outcomes()[-1] == "rolled back"


def test_targets_that_left_the_list_are_rolled_back_last() -> None:
    play = Play(replace(PROD, targets=("gone", "t1", "t2"), waves=("1", "100%"), bake_s=60)).promote(A)
    play.now += 60
    play.run()
    play.now += 60
    play.run()
    assert play.outcomes() == ["good"]
    play.promote(B)
    play.environments = (replace(PROD, targets=("t1", "t2"), waves=("1", "100%")),)
    play.promote(C, failing("t1"))
    assert play.steps(ROLL_BACK) == [(1, "t1"), (0, "gone")]


# --- environment after environment -------------------------------------------------------------------------------------

STAGING = Environment("staging", "deploy", targets=("s1",))
LATER = replace(PROD, after="staging")


def test_an_environment_waits_for_the_one_before_it() -> None:
    play = Play(STAGING, LATER)
    play.promoted = A
    play.act()
    assert [deploy.started.environment for deploy in play.state.running] == ["staging"]
    play.run()
    assert (play.outcomes(), play.state.of("prod").present) == (["good", "good"], A)


def test_a_commit_that_failed_in_the_environment_before_goes_no_further() -> None:
    play = Play(STAGING, LATER).promote(A).promote(B, failing("s1"))
    assert play.state.of("prod").present == A
    assert play.actions() == ()


def test_a_commit_that_is_about_to_be_rolled_back_goes_no_further() -> None:
    play = Play(STAGING, LATER).promote(A)
    play.environments = (STAGING,)
    play.promote(B)
    play.environments = (STAGING, LATER)
    play.ask_rollback("staging")
    starts = [action for action in play.actions() if isinstance(action, StartDeploy)]
    assert [(start.settings.name, start.kind, start.commit) for start in starts] == [("staging", ROLLBACK, A)]


# --- a person asks for the commit before ----------------------------------------------------------------------------------


def test_a_person_gets_the_commit_before_and_the_present_one_is_barred() -> None:
    play = Play(PROD).promote(A).promote(B)
    play.ask_rollback()
    play.run()
    assert play.steps(ROLL_BACK) == [(3, "t3"), (3, "t4"), (2, "t2"), (1, "t1")]
    assert (play.last().started.kind, play.last().started.by) == (ROLLBACK, "ann")
    assert (play.state.of("prod").present, play.outcomes()) == (A, ["good"] * 3)
    assert play.actions() == (), "the promoted commit is not put back"
    assert play.promote(C).state.of("prod").present == C


def test_a_second_request_goes_one_further_back() -> None:
    play = Play(PROD).promote(A).promote(B).promote(C)
    play.ask_rollback()
    play.run()
    play.ask_rollback()
    assert play.run().state.of("prod").present == A


def test_a_request_with_nothing_before_changes_nothing() -> None:
    play = Play(PROD).promote(A)
    play.ask_rollback()
    assert play.actions() == ()
    assert play.state.of("prod").barred == frozenset()


def test_a_request_during_a_deploy_is_heard_at_the_wave_border_and_not_in_the_bake() -> None:
    play = Play(replace(PROD, waves=("50%", "100%"))).promote(A)
    play.environments = (replace(PROD, waves=("50%", "100%"), bake_s=600),)
    play.promoted = B
    play.act()
    play.ask_rollback()
    assert play.actions() == ()
    play.run()
    assert play.steps(ROLL_BACK) == [(1, "t1"), (1, "t2")]
    assert (play.outcomes(), play.state.of("prod").present) == (["good", "rolled back"], A)
    assert play.state.of("prod").request is None


def test_a_request_during_a_rollback_is_already_granted() -> None:
    play = Play(PROD).promote(A).promote(B)
    play.promoted = C
    play.run(failing("t1"), until=lambda: any(sent.action == ROLL_BACK for sent in play.sent()))
    play.ask_rollback()
    assert play.run().state.of("prod").present == B


def test_a_rollback_is_not_overtaken() -> None:
    play = Play(PROD).promote(A).promote(B)
    play.ask_rollback()
    play.act()
    play.promoted = C
    play.run()
    assert play.outcomes() == ["good"] * 4
    assert [deploy.started.commit for deploy in play.state.deploys.values()] == [A, B, A, C]


# --- facts --------------------------------------------------------------------------------------------------------------


def test_facts_that_are_heard_twice_change_nothing() -> None:
    play = Play(replace(PROD, verify="check")).promote(A).promote(B, failing("t3"))
    play.ask_rollback()
    doubled = [fact for fact in play.facts for _ in range(2)]
    assert fold(doubled) == fold(play.facts) == play.state


def test_the_first_end_of_a_step_stands_whatever_is_told_later() -> None:
    play = Play(PROD)
    play.promoted = A
    play.act()
    (sent,) = play.sent()
    play.end(sent, "failed")
    before = play.state
    play.tell(sent)
    play.end(sent, "done")
    assert play.state == before


def test_the_first_who_asks_for_a_rollback_is_named() -> None:
    play = Play(PROD).promote(A).promote(B)
    play.ask_rollback()
    play.tell(RollbackRequested(play.now, "prod", "bob"))
    assert play.run().last().started.by == "ann"
    assert play.state.of("prod").present == A


def test_facts_about_an_unknown_deploy_are_ignored() -> None:
    assert apply(DeployState(), StepSent(1.0, 9, "s", 1, "t", DEPLOY)) == DeployState()


def test_step_ids_are_stable_distinct_and_fit_for_a_file_name() -> None:
    names = {
        step_id(deploy, wave, target, action)
        for deploy in (1, 11)
        for wave in (1, 2)
        for target in ("a", "../a", "a b\n", "\udcff", "")
        for action in (DEPLOY, VERIFY, ROLL_BACK)
    }
    assert len(names) == 60
    assert all(name.replace("-", "").isalnum() for name in names)
    assert step_id(1, 2, "web1", DEPLOY) == step_id(1, 2, "web1", DEPLOY)


# --- random histories -----------------------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from(["done"] * 12 + ["failed", "timed out", "unknown"])
MOVES = st.lists(
    st.tuples(st.sampled_from(["end"] * 10 + ["promote", "time", "rollback", "crash"]), st.integers(0, 9), OUTCOMES),
    max_size=80,
)
SETTINGS = st.builds(
    Environment,
    name=st.just("prod"),
    command=st.just("deploy"),
    targets=st.integers(1, 7).map(lambda count: tuple(f"t{number}" for number in range(count))),
    waves=st.sampled_from([("100%",), ("1", "100%"), ("1", "50%", "100%"), ("1", "2", "3", "100%")]),
    verify=st.sampled_from(["", "check"]),
    rollback=st.sampled_from(["", "undo"]),
    max_failures=st.integers(0, 2),
    concurrency=st.integers(1, 4),
    bake_s=st.sampled_from([0.0, 60.0]),
)


def prove(play: Play) -> None:
    """The rules, looked up in the facts alone."""
    sent = [fact for fact in play.facts if isinstance(fact, StepSent)]
    assert set(Counter(fact.step for fact in sent).values()) <= {1}, "no step is sent twice"
    for fact in sent:
        before = play.facts[: play.facts.index(fact)]
        good = {
            wave.wave for wave in before if isinstance(wave, WaveFinished) and wave.deploy == fact.deploy and wave.good
        }  # fmt: skip
        if fact.action == DEPLOY:
            assert good == set(range(1, fact.wave)), "no target of a wave before the earlier ones are good"
    started = [fact for fact in play.facts if isinstance(fact, DeployStarted) and fact.kind != ROLLBACK]
    ended = {fact.deploy: fact.outcome for fact in play.facts if isinstance(fact, DeployFinished)}
    for fact in started:
        if fact.environment == "prod":
            earlier = fold(play.facts[: play.facts.index(fact)]).of("staging")
            assert fact.commit == earlier.present, "only what is good in the environment before"
    for environment in {fact.environment for fact in started}:
        own = [fact for fact in started if fact.environment == environment]
        assert [ORDER(fact.commit) for fact in own] == sorted({ORDER(fact.commit) for fact in own}), (
            "trunk's order, no commit twice: what was rolled back is never started again by itself"
        )
        streak = 0
        for fact in own:
            overtaken = ended.get(fact.deploy) == "superseded" and bool(play.state.deploys[fact.deploy].steps)
            streak = streak + 1 if overtaken else streak if ended.get(fact.deploy) == "superseded" else 0
            assert streak <= MOST_OVERTAKES
    for number, outcome in ended.items():
        deploy = play.state.deploys[number]
        if outcome == "rolled back":
            restored = {step.sent.target for step in deploy.steps_of(ROLL_BACK) if step.is_done}
            assert restored == {target for _, target in targets_to_restore(deploy)}, "every touched target is restored"
            assert restored >= set(deploy.touched())
        if outcome == "good" and deploy.started.kind != ROLLBACK:
            assert len(deploy.failures()) <= deploy.settings.max_failures


@example(
    first=Environment("prod", "deploy", targets=("t0",)),
    second=Environment("prod", "deploy", targets=("t0",)),
    moves=[("end", 0, "done")] * 2 + [(move, 0, "done") for move in ("rollback", "promote", "end", "crash")],
)  # the whole history told twice, with a rollback in it that is over
@given(first=SETTINGS, second=SETTINGS, moves=MOVES)
@settings(max_examples=200, deadline=None)
def test_no_history_breaks_a_rule_and_every_deploy_ends(
    first: Environment, second: Environment, moves: list[tuple[str, int, str]]
) -> None:
    play = Play(replace(first, name="staging"), replace(second, after="staging"))
    play.promoted = COMMITS[0]
    for move, number, outcome in moves:
        play.act()
        for deploy in play.state.running:
            running = sum(step.end is None for step in deploy.steps.values())
            assert running <= deploy.settings.concurrency
        match move:
            case "end" if sent := play.sent():
                play.end(sent[number % len(sent)], outcome)
            case "promote":
                play.promoted = COMMITS[min((ORDER(play.promoted) or 0) + 1, len(COMMITS) - 1)]
            case "time":
                play.now += 10 * number
            case "rollback":
                play.ask_rollback(("staging", "prod")[number % 2])
            case "crash":  # the controller dies and all that is left of it are the facts, some of them told again
                play.state = fold(play.facts + play.facts[-number:])
    for _ in range(100):
        play.run()
        if not play.state.running:
            break
        play.now += 60
    assert not play.state.running, "every deploy ends"
    assert all(state.request is None for state in play.state.environments.values())
    assert play.state == fold(play.facts)
    prove(play)
