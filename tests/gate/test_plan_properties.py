"""The planner against random histories: whatever happens, the world's auditor finds nothing that the truth forbids, and
every change gets its verdict in the end. The world and its auditor are in fakes/queue.py."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ci.model import CheckName, Outcome, Result, RunId
from fakes.queue import Code, World, code, refold
from gate.model import ChangeId, Forecast, Hold, Outlook, Plan, Priority, Snapshot, Why
from gate.policy import worthwhile
from gate.view import Policy, Proposal, View

PATHS = ("a", "b", "c", "d")
TEXTS = ("0", "1", "2", "3")
NAMES = tuple(map(CheckName, ("lint", "unit", "e2e")))
AT_MOST = 9  # changes in one history

contents = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(TEXTS), min_size=1, max_size=2)
breaking = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(TEXTS[1:]), min_size=1, max_size=3)


@st.composite
def codes(draw: st.DrawFn) -> tuple[Code, ...]:
    """One to three checks over some of the paths, red on some contents; some pairs break only together."""
    made: list[Code] = []
    for name in NAMES[: draw(st.sampled_from((1, 2, 3)))]:
        inputs = draw(st.sets(st.sampled_from(PATHS), min_size=1))
        breaks = [broken for broken in draw(st.lists(breaking, max_size=3)) if inputs >= broken.keys()]
        is_last = draw(st.booleans())
        needs = (made[-1].check.name,) if made and is_last else ()
        max_age_s = draw(st.sampled_from((None, None, 30.0)))
        retest = draw(st.booleans())
        made.append(code(name, *sorted(inputs), breaks=breaks, needs=needs, max_age_s=max_age_s, retest=retest))
    return tuple(made)


forecasts = st.builds(Forecast, st.sampled_from((0.02, 0.5, 0.9, 0.999)), st.sampled_from((None, 0.5, 600.0)))


@dataclass
class Bounded(World):
    """A world with a bound for batches, and with results that come by themselves."""

    batch: int = 0

    def snapshot(self) -> Snapshot:
        return replace(super().snapshot(), batch=self.batch)

    def turn(self, policy: Policy = worthwhile, *, is_shipped: bool | None = None) -> Plan:
        return super().turn(sound, is_shipped=True) if policy is worthwhile else super().turn(policy)

    def learn(self, result: Result) -> None:
        """A result that no run of this queue was waiting for. From now on a check may have said both of one content."""
        self.is_deterministic = False
        self.store[result.key].append(result)


def sound(view: View) -> Iterator[Proposal]:
    """The shipped policy, which never proposes what the core would object to, or refuse."""
    for proposal in worthwhile(view):
        assert view.objection(proposal.change, proposal.ahead) is None, proposal
        assert not view.hopelessness(proposal.change), proposal
        yield proposal


class Queue(RuleBasedStateMachine):
    """People push, revise, withdraw, retry, close and move; workers end runs one way or another; turns are taken."""

    @initialize(
        codes=codes(),
        workers=st.integers(1, 4),
        every_commit=st.booleans(),
        clashes=st.sets(st.frozensets(st.integers(1, AT_MOST), min_size=2, max_size=2), max_size=2),
        flakes=st.dictionaries(st.sampled_from(NAMES), st.sampled_from((0.01, 0.3)), max_size=2),
        steady=st.sets(st.sampled_from(NAMES), max_size=1),
        forecasts=st.dictionaries(st.integers(1, AT_MOST), forecasts, max_size=AT_MOST),
        durations=st.dictionaries(st.sampled_from(NAMES), st.sampled_from((1.0, 60.0, 3600.0)), max_size=3),
        clash=st.sampled_from((0.0, 0.03, 0.4)),
        batch=st.sampled_from((0, 0, 1, 2)),
        chance=st.integers(0, 2**16),
    )
    def begin(
        self,
        codes: tuple[Code, ...],
        workers: int,
        every_commit: bool,
        clashes: set[frozenset[int]],
        flakes: dict[CheckName, float],
        steady: set[CheckName],
        forecasts: dict[int, Forecast],
        durations: dict[CheckName, float],
        clash: float,
        batch: int,
        chance: int,
    ) -> None:
        self.world = Bounded(
            codes,
            dict.fromkeys(PATHS, "0"),
            workers=workers,
            every_commit=every_commit,
            clashes={frozenset(map(ChangeId, clash)) for clash in clashes},
            outlook=Outlook({ChangeId(at): odds for at, odds in forecasts.items()}, durations, flakes, clash, steady),
            batch=batch,
        )
        self.chance = random.Random(chance)

    @precondition(lambda self: len(self.world.state.revisions) < AT_MOST)
    @rule(
        edits=contents,
        depends=st.sets(st.integers(1, AT_MOST), max_size=1),
        priority=st.sampled_from(Priority),
        kind=st.sampled_from(("", "", "", "draft", "needs approval", "mends gate", "fixes trunk")),
    )
    def push(self, edits: dict[str, str], depends: set[int], priority: Priority, kind: str) -> None:
        self.world.push(
            edits,
            depends=depends,
            priority=priority,
            draft=kind == "draft",
            needs_approval=kind == "needs approval",
            mends_gate=kind == "mends gate",
            fixes_trunk=kind == "fixes trunk",
        )

    @precondition(lambda self: len(self.world.state.revisions) < AT_MOST)
    @rule(edits=contents)
    def push_plainly(self, edits: dict[str, str]) -> None:
        self.world.push(edits)

    @precondition(lambda self: self.world.state.waiting)
    @rule(data=st.data(), edits=contents)
    def revise(self, data: st.DataObject, edits: dict[str, str]) -> None:
        self.world.push(edits, change=data.draw(st.sampled_from(sorted(self.world.state.revisions))))

    @precondition(lambda self: self.world.state.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.cancel(data.draw(st.sampled_from(sorted(self.world.state.waiting))))

    @precondition(lambda self: self.world.state.revisions)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self.world.retry(data.draw(st.sampled_from(sorted(self.world.state.revisions))))

    @precondition(lambda self: self.world.state.waiting)
    @rule(data=st.data())
    def approve(self, data: st.DataObject) -> None:
        self.world.approve(data.draw(st.sampled_from(sorted(self.world.state.waiting))))

    @rule()
    def close_or_open(self) -> None:
        if self.world.state.closed:
            self.world.open()
        else:
            self.world.close()

    @rule(files=contents)
    def somebody_moves_trunk(self, files: dict[str, str]) -> None:
        self.world.move_trunk(files)

    @rule(seconds=st.sampled_from((1.0, 20.0, 700.0)))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def finish_check(self, data: st.DataObject) -> None:
        self.world.finish_check(data.draw(st.sampled_from(sorted(self.world.running))))

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), outcome=st.sampled_from((None, Outcome.INFRASTRUCTURE, Outcome.INFRASTRUCTURE, *Outcome)))
    def finish_badly(self, data: st.DataObject, outcome: Outcome | None) -> None:
        run = data.draw(st.sampled_from(sorted(self.world.running)))
        if outcome is None:
            self.world.lose_run(run)
        else:
            self.world.finish_check(run, outcome)

    @rule(workers=st.integers(1, 4))
    def workers_come_or_vanish(self, workers: int) -> None:
        self.world.workers = workers
        for run in list(self.world.running)[workers:]:
            self.world.lose_run(run)

    @precondition(lambda self: self.world.store)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def a_result_comes_unasked(self, data: st.DataObject, outcome: Outcome) -> None:
        """Late, for what nobody runs any more; and it may say the contrary of what was known, or the same once more."""
        key = data.draw(st.sampled_from(sorted(self.world.store)))
        known = self.world.store[key][-1]
        again = known._replace(outcome=outcome, run=RunId(f"late {len(self.world.store[key])}"), failed=(), tests=())
        self.world.learn(data.draw(st.sampled_from((known, again._replace(finished_at=self.world.now)))))

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @rule()
    def turns(self) -> None:
        self.world.turns()

    @rule(seed=st.integers(0, 2**16))
    def turn_with_a_policy_of_nonsense(self, seed: int) -> None:
        self.world.turn(lambda view: nonsense(self.world, view, random.Random(seed)))

    @invariant()
    def the_journal_tells_it_all(self) -> None:
        if hasattr(self, "world"):
            assert refold(self.world) == self.world.state

    def teardown(self) -> None:
        if hasattr(self, "world"):
            everything_is_decided(self.world, self.chance)


def nonsense(world: World, view: View, chance: random.Random) -> Iterator[Proposal]:
    """Any changes in any order: revisions that are gone, changes that are decided, the same one twice."""
    entries = [(change, revision) for change in world.state.revisions for revision in (1, 2)]
    for _ in range(10 if view.queue else 0):
        change = chance.choice(view.queue)
        ahead = [chance.choice(entries) for _ in range(chance.choice((0, 0, 1, 2, 3)))]
        yield Proposal(change, tuple(ahead))


def everything_is_decided(world: World, chance: random.Random) -> None:
    """People answer what they are asked, workers go on, time passes: then each change has one verdict, save those that a
    person must see to, and those that wait for these."""
    world.open()
    for change in list(world.state.waiting):
        world.approve(change)
    made = world.settle(chance)
    for hold in (decision for decision in made.decisions if isinstance(decision, Hold)):
        assert hold.reasons
        change = hold.change
        while ahead := waited_for(world, change):  # what it waits for must have an excuse of its own
            assert ahead in world.state.waiting
            assert ahead in world.state.waiting[change].depends
            change = ahead
        for reason in world.reasons(change):
            if reason.why is Why.TRUNK_RED:
                assert not world.is_deterministic or reason.check in world.reds(world.tree)
            else:
                assert reason.why is Why.DRAFT, (hold, world.reasons(change))
    verdicts = [entry[0] for train in world.landed for entry in train]
    assert len(set(verdicts)) == len(verdicts), "landed twice"
    waiting = {decision.change for decision in made.decisions if isinstance(decision, Hold)}
    assert waiting == set(world.state.waiting)
    assert world.state.verdicts.keys() | waiting == set(world.state.revisions)


def waited_for(world: World, change: ChangeId) -> ChangeId | None:
    """The one change that it waits for, and for nothing else; a red trunk is told to everyone."""
    reasons = [reason for reason in world.reasons(change) if reason.why is not Why.TRUNK_RED]
    return reasons[0].change if [reason.why for reason in reasons] == [Why.WAITS_FOR_CHANGE] else None


Queue.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestQueue = Queue.TestCase
