"""A world for the planner to decide over: a trunk, changes, checks with a truth, and workers, all of it symbolic.

The world owns the state and offers verbs: ``push``, ``finish_check``, ``move_trunk``, ... ``turn`` makes a plan and carries
it out as gate/gate.py does, and an auditor holds every decision against what is true in the world, never against what the
planner was told. A commit's id is a digest of its base and entries, a key the digest of a check and of the content of its
inputs, so equal things have equal names here as they do in Git.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeVar

from ci.model import Check, CheckName, InputKey, Outcome, Result, RunId, Sha
from ci.proof import proofs
from gate.findings import FindingBook
from gate.model import (
    ApprovalGiven,
    Build,
    Cancel,
    Candidate,
    Change,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Entry,
    Event,
    Evidence,
    Finding,
    Hold,
    Land,
    Landed,
    LandingStarted,
    Merged,
    MergeOutcome,
    Need,
    Outlook,
    Plan,
    Priority,
    Proof,
    Reason,
    Refuse,
    RetryRequested,
    RunFinished,
    Running,
    RunStarted,
    Snapshot,
    Start,
    Submission,
    TrunkClosed,
    TrunkMoved,
    TrunkOpened,
    Unmerged,
    Verdict,
    Why,
)
from gate.plan import Planner, plan
from gate.policy import worthwhile
from gate.state import State, apply_event, fold
from gate.trials import TrialBook
from gate.view import Policy

TURNS_TO_SETTLE = 400  # far more than a queue of this size can need; reached only when something is planned for ever

TESTS = ("test_sum", "test_more")  # of every check that can run single ones

RECHECKS = 12  # looks at a later moment, after which nothing new is expected: more than retests of a few changes take

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Tree:
    """Content of a commit. holds: the changes in it, for conflicts that no path tells of (a renamed folder)."""

    files: tuple[tuple[str, str], ...]
    holds: frozenset[ChangeId] = frozenset()

    def content(self) -> dict[str, str]:
        return dict(self.files)


@dataclass(frozen=True)
class Edit:
    """What a change does to one file: merges where the file is as it was, or as it will be."""

    old: str
    new: str


@dataclass(frozen=True)
class Code:
    """A check, and the truth about it: red where the tree holds all the files of one of ``breaks``."""

    check: Check
    inputs: frozenset[str]
    breaks: tuple[tuple[tuple[str, str], ...], ...] = ()

    def sees(self, tree: Tree) -> dict[str, str]:
        return {path: text for path, text in tree.files if path in self.inputs}

    def key(self, tree: Tree) -> InputKey:
        return InputKey(digest(self.check.name, *sorted(self.sees(tree).items())))

    def is_red(self, tree: Tree) -> bool:
        seen = set(self.sees(tree).items())
        return any(seen.issuperset(broken) for broken in self.breaks)


def code(
    name: str,
    *inputs: str,
    breaks: Iterable[Mapping[str, str]] = (),
    needs: tuple[str, ...] = (),
    max_age_s: float | None = None,
    retest: bool = False,
) -> Code:
    """A check of these paths. breaks: contents with which it is red. retest: it names what failed, and can run just that."""
    check = Check(
        CheckName(name),
        "true",
        inputs=inputs,
        needs=tuple(CheckName(need) for need in needs),
        max_age_s=max_age_s,
        retest="true {tests}" if retest else None,
    )
    return Code(check, frozenset(inputs), tuple(tuple(sorted(broken.items())) for broken in breaks))


class Wrong(AssertionError):  # noqa: N818 - a finding, not a failure of the code that finds it
    """A decision that the truth forbids."""


@dataclass
class World:
    """One repository's queue. Every verb appends events; ``state`` is their fold."""

    codes: tuple[Code, ...]
    files: dict[str, str]
    workers: int = 2
    every_commit: bool = False
    outlook: Outlook = field(default_factory=Outlook)
    clashes: set[frozenset[ChangeId]] = field(default_factory=set)  # conflict with each other, though their paths do not
    now: float = 1_000.0
    events: list[Event] = field(default_factory=list)
    state: State = field(default_factory=State)
    edits: dict[Entry, dict[str, Edit]] = field(default_factory=dict)
    store: dict[InputKey, list[Result]] = field(default_factory=dict)
    trees: dict[Sha, Tree] = field(default_factory=dict)
    merges: dict[Candidate, MergeOutcome] = field(default_factory=dict)
    built: dict[ChangeId, Candidate] = field(default_factory=dict)
    alone: dict[ChangeId, Candidate] = field(default_factory=dict)
    book: TrialBook = field(default_factory=TrialBook)
    running: dict[RunId, Start] = field(default_factory=dict)
    started: list[Start] = field(default_factory=list)
    approvals_needed: set[Entry] = field(default_factory=set)
    mending: set[ChangeId] = field(default_factory=set)
    is_deterministic: bool = True  # no check has said red and green of the same content
    landed: list[tuple[Entry, ...]] = field(default_factory=list)
    told: Plan = field(default_factory=Plan)
    planner: Planner = field(default_factory=Planner)

    def __post_init__(self) -> None:
        self.move_trunk({})

    # --- verbs of people ---------------------------------------------------------------------------------------------

    def push(
        self,
        edits: Mapping[str, str | Edit],
        *,
        change: int | None = None,
        depends: Iterable[int] = (),
        priority: Priority = Priority.NORMAL,
        draft: bool = False,
        needs_approval: bool = False,
        mends_gate: bool = False,
        fixes_trunk: bool = False,
    ) -> ChangeId:
        """Submit a change, or with ``change`` its next revision. edits: against trunk as it is now, unless an Edit."""
        id_ = ChangeId(change or len(self.state.revisions) + 1)
        revision = len(self.state.revisions.get(id_, ())) + 1
        here = self.tree.content()
        self.edits[id_, revision] = {
            path: edit if isinstance(edit, Edit) else Edit(here.get(path, ""), edit) for path, edit in edits.items()
        }
        record = Sha(digest("record", id_, revision))
        submission = Submission(
            record,
            id_,
            revision,
            Sha(digest("head", id_, revision)),
            "ann",
            self.now,
            priority,
            tuple(ChangeId(needed) for needed in depends),
            draft,
            fixes_trunk=fixes_trunk,
        )
        if needs_approval:
            self.approvals_needed.add((id_, revision))
        if mends_gate:
            self.mending.add(id_)
        self._record(ChangeSubmitted(self.now, submission))
        self._drop_candidates(id_)
        self.book.forget(id_)
        return id_

    def cancel(self, change: int) -> None:
        submission = self.state.waiting[ChangeId(change)]
        self._record(ChangeWithdrawn(self.now, submission.change, submission.revision, "ann"))
        self._drop_candidates(submission.change)
        self.book.forget(submission.change)

    def retry(self, change: int) -> None:
        self._record(RetryRequested(self.now, ChangeId(change), "ann"))
        self.alone.pop(ChangeId(change), None)

    def approve(self, change: int) -> None:
        newest = self.state.revisions[ChangeId(change)][-1]
        self._record(ApprovalGiven(self.now, newest.change, newest.revision, "maria"))

    def close(self, reason: str = "release") -> None:
        self._record(TrunkClosed(self.now, "maria", reason))

    def open(self) -> None:
        self._record(TrunkOpened(self.now, "maria"))

    def move_trunk(self, files: Mapping[str, str]) -> None:
        """Somebody else than the gate puts this content on trunk."""
        before = self.state.trunk
        content = (self.tree.content() if before else dict(self.files)) | dict(files)
        holds = self.tree.holds if before else frozenset[ChangeId]()
        tree = Tree(tuple(sorted(content.items())), holds)
        commit = Sha(digest("pushed", before, tree.files))
        self.trees[commit] = tree
        self._record(TrunkMoved(self.now, before, commit))
        self.book.forget()
        self.alone = {}
        self._forget_old_merges()

    def wait(self, seconds: float) -> None:
        self.now += seconds

    # --- verbs of workers --------------------------------------------------------------------------------------------

    def finish_check(self, run: RunId, outcome: Outcome | None = None) -> None:
        """End a run as the truth has it, or with this outcome. Takes a second."""
        start = self.running.pop(run)
        truth = Outcome.RED if self.code(start.check.name).is_red(self.tree_of(start.candidate)) else Outcome.GREEN
        outcome = outcome or truth
        if outcome is not Outcome.INFRASTRUCTURE and (outcome is Outcome.GREEN) != (truth is Outcome.GREEN):
            self.is_deterministic = False
        self.wait(1.0)
        failed = (start.tests or TESTS[:1]) if outcome is Outcome.RED and start.check.retest else ()
        result = Result(
            start.key,
            start.check.name,
            outcome,
            run,
            self.now - 1.0,
            self.now,
            reason=outcome.value,
            failed=failed,
            tests=start.tests,
        )
        self.store.setdefault(start.key, []).append(result)
        self._record(RunFinished(self.now, run, result))

    def finish(self, check: str, change: int | None = None, outcome: Outcome | None = None) -> None:
        """End the run of this check for this change; None: for trunk alone."""
        (run,) = (
            run
            for run, start in self.running.items()
            if start.check.name == check and (start.candidate.entries[-1][0] if start.candidate.entries else None) == change
        )
        self.finish_check(run, outcome)

    def lose_run(self, run: RunId) -> None:
        """It ends without a result: the daemon died under it."""
        del self.running[run]
        self._record(RunFinished(self.now, run, None, "lost"))

    # --- the gate's part ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        closed = self.state.closed
        return Snapshot(
            trunk=self.trunk,
            changes=tuple(self._describe(submission) for submission in self.state.waiting.values()),
            merges=dict(self.merges),
            places=self._places(),
            findings=self._findings(),
            trials={change: dict(assumed) for change, assumed in self.book.trials.items()},
            built=dict(self.built),
            alone=dict(self.alone),
            evidence={key: _evidence(results) for key, results in self.store.items()},
            running=tuple(
                Running(run, start.check.name, start.key, self.now, tuple(change for change, _ in start.candidate.entries))
                for run, start in self.running.items()
            ),
            decided=dict(self.state.verdicts),
            closed=closed.reason if closed else None,
            every_commit=self.every_commit,
            workers=self.workers,
            outlook=self.outlook,
        )

    def turn(self, policy: Policy = worthwhile, *, is_shipped: bool | None = None) -> Plan:
        """Plan once and carry it out; every decision is held against the truth first.

        is_shipped: the policy proposes what the shipped one does, so a planner with a memory has to plan the same.
        """
        snapshot = self.snapshot()
        made = plan(snapshot, self.now, policy)
        if policy is worthwhile if is_shipped is None else is_shipped:
            remembered = self.planner.plan(snapshot, self.now)
            _require(made == remembered, "another plan by a planner that remembers", (made, remembered))
        self.told = made
        self._audit(made)
        again = plan(_shuffled(snapshot), self.now, policy)
        _require(made == again, "another plan from the same facts", (made, again))
        for decision in made.decisions:
            match decision:
                case Refuse():
                    self._record(ChangeRefused(self.now, decision.change, decision.revision, decision.reasons))
                    self._drop_candidates(decision.change)
                case Land(candidate=candidate):
                    self._land(candidate)
                case Cancel(run=run):
                    del self.running[run]
                    self._record(RunFinished(self.now, run, None, decision.because))
                case Build(candidate=candidate):
                    self._build(candidate)
                case Start():
                    self._start(decision)
                case Hold():
                    pass
        return made

    def turns(self, policy: Policy = worthwhile) -> Plan:
        """Take turns until nothing new comes of it; nothing that runs ends meanwhile."""
        for _ in range(TURNS_TO_SETTLE):
            before = (len(self.events), len(self.merges))
            made = self.turn(policy)
            if (len(self.events), len(self.merges)) == before:
                return made
        raise Wrong(f"it never comes to rest: {made}")

    def settle(self, chance: random.Random | None = None) -> Plan:
        """Let workers end their runs in some order, and time pass, until nothing can happen without people."""
        rechecks = 0
        for _ in range(TURNS_TO_SETTLE):
            made = self.turns()
            if self.running:
                runs = list(self.running)
                self.finish_check(chance.choice(runs) if chance else runs[0])
            elif made.look_again_at is None or rechecks > RECHECKS:
                return made
            else:
                rechecks += 1
                self.now = max(self.now, made.look_again_at)
        raise Wrong(f"it never comes to rest: {made}")

    def _findings(self) -> dict[ChangeId, Finding]:
        book = FindingBook()
        known: dict[InputKey, Evidence] = {}
        for event in self.events:
            match event:
                case RunStarted():
                    book.begin(event.run, event.check, event.changes)
                case RunFinished(result=None):
                    book.end(event.run, None)
                case RunFinished(result=Result() as result):
                    known[result.key] = now = known.get(result.key, Evidence()).learn(result)
                    says_all = not result.tests or result.outcome is not Outcome.GREEN or now.green is result
                    book.end(event.run, result.outcome if says_all else None)
                case ChangeSubmitted(submission=item):
                    book.forget([item.change])
                case RetryRequested(change=change) | ChangeRefused(change=change) | ChangeWithdrawn(change=change):
                    book.forget([change])
                case LandingStarted(changes=entries):
                    landed = [self._newest(entry) for entry in entries]
                    book.forget(change.id for change in landed)
                    there = (item for item in self.state.waiting.values() if item.at <= event.at)
                    book.land(landed, [self._describe(submission) for submission in there])
                case _:
                    pass
        return dict(book.findings)

    def _places(self) -> dict[ChangeId, int]:
        places: dict[ChangeId, int] = {}
        for event in self.events:
            if isinstance(event, RunStarted):
                for change in event.changes:
                    places.setdefault(change, len(places))
        return places

    # --- questions about what is true --------------------------------------------------------------------------------

    @property
    def trunk(self) -> Sha:
        assert self.state.trunk is not None
        return self.state.trunk

    @property
    def tree(self) -> Tree:
        return self.trees[self.trunk]

    def code(self, name: CheckName) -> Code:
        return next(code for code in self.codes if code.check.name == name)

    def merge(self, candidate: Candidate) -> Tree | Reason | None:
        """The candidate's content; why its last change does not go on top; None: one before the last does not."""
        tree = self.trees[candidate.base]
        for entry in candidate.entries:
            merged = self._apply(tree, entry)
            if isinstance(merged, Reason):
                return merged if entry == candidate.entries[-1] else None
            tree = merged
        return tree

    def tree_of(self, candidate: Candidate) -> Tree:
        tree = self.merge(candidate)
        assert isinstance(tree, Tree)
        return tree

    def reds(self, tree: Tree) -> frozenset[CheckName]:
        return frozenset(code.check.name for code in self.codes if code.is_red(tree))

    def verdict(self, change: int) -> Verdict | None:
        return self.state.verdicts.get(ChangeId(change))

    def reasons(self, change: int) -> tuple[Reason, ...]:
        """Why it was refused, or why it waits as of the last plan."""
        newest = self.state.revisions[ChangeId(change)][-1]
        decided = self.state.decided.get((newest.change, newest.revision))
        if decided is not None:
            return decided.reasons
        return next((held.reasons for held in self.told.decisions if isinstance(held, Hold) and held.change == change), ())

    def whys(self, change: int) -> list[Why]:
        return [reason.why for reason in self.reasons(change)]

    def tested(self) -> set[tuple[str, tuple[int, ...]]]:
        """The runs under way: the check, and the changes of the candidate."""
        return {
            (start.check.name, tuple(change for change, _ in start.candidate.entries)) for start in self.running.values()
        }

    # --- details -----------------------------------------------------------------------------------------------------

    def _record(self, event: Event) -> None:
        self.events.append(event)
        apply_event(self.state, event)
        self.state.seq += 1

    def _describe(self, submission: Submission) -> Change:
        entry = (submission.change, submission.revision)
        paths = frozenset(self.edits[entry])
        is_unapproved = entry in self.approvals_needed and entry not in self.state.approvals
        approval = (Reason(Why.NEEDS_APPROVAL),) if is_unapproved else ()
        retried_at = self.state.retried_at.get(submission.change, 0.0)
        return Change(
            id=submission.change,
            revision=submission.revision,
            head=submission.head,
            by=submission.by,
            submitted_at=submission.at,
            priority=submission.priority,
            depends=submission.depends,
            paths=paths,
            touches=frozenset(code.check.name for code in self.codes if code.inputs & paths),
            holds=((Reason(Why.DRAFT),) if submission.draft else ()) + approval,
            may_run=not is_unapproved,
            evidence_from=max(submission.at, retried_at),
            retried_at=retried_at,
            mends_gate=submission.change in self.mending,
            fixes_trunk=submission.fixes_trunk,
        )

    def _newest(self, entry: Entry) -> Change:
        return self._describe(self.state.revisions[entry[0]][-1])

    def _apply(self, tree: Tree, entry: Entry) -> Tree | Reason:
        content = tree.content()
        edits = self.edits[entry]
        conflicts = [path for path, edit in edits.items() if content.get(path, "") not in (edit.old, edit.new)]
        if conflicts or any(entry[0] in clash and clash & tree.holds for clash in self.clashes):
            return Reason(Why.CONFLICT, paths=tuple(sorted(conflicts)))
        if all(content.get(path, "") == edit.new for path, edit in edits.items()):
            return Reason(Why.NOTHING_TO_DO)
        content |= {path: edit.new for path, edit in edits.items()}
        return Tree(tuple(sorted(content.items())), tree.holds | {entry[0]})

    def _build(self, candidate: Candidate) -> None:
        """As gate/candidates.py: nothing is learned of a candidate when one of its earlier changes does not merge."""
        tree = self.merge(candidate)
        if tree is None:
            return
        if isinstance(tree, Reason):
            self.merges[candidate] = Unmerged(tree)
            self.book.drop(candidate)
        else:
            commit = Sha(digest(candidate.base, *candidate.entries)) if candidate.entries else candidate.base
            self.trees[commit] = tree
            needs = tuple(Need(code.check, code.key(tree)) for code in self.codes)
            self.merges[candidate] = Merged(commit, Sha(digest(tree.files)), needs)
        if candidate.entries:
            self.built[candidate.entries[-1][0]] = candidate
            merged = self.merges[candidate]
            if isinstance(merged, Merged) and candidate.base == self.trunk:
                tested = map(self._newest, candidate.entries[-candidate.together :])
                ahead = map(self._newest, candidate.entries[: -candidate.together])
                self.book.note(candidate, merged.needs, tested, self._is_green, ahead)

    def _is_green(self, key: InputKey) -> bool:
        return any(True for _ in proofs(self.store.get(key, ())))

    def _start(self, start: Start) -> None:
        _require(start.candidate in self.merges, "a landing of the same plan has made the candidate old", start)
        run = RunId(f"r{self.state.run_count + 1}")
        changes = tuple(change for change, _ in start.candidate.entries)
        self._record(RunStarted(self.now, run, start.check.name, start.key, Sha("-"), changes))
        self.running[run] = start
        self.started.append(start)
        if len(changes) == 1 and start.candidate.base == self.trunk:
            self.alone[changes[0]] = start.candidate

    def _land(self, candidate: Candidate) -> None:
        merged = self.merges[candidate]
        assert isinstance(merged, Merged)
        commits = tuple(
            Sha(digest(candidate.base, *candidate.entries[: count + 1])) for count in range(len(candidate.entries))
        )
        proofs = tuple(Proof(need.check.name, need.key, RunId("-")) for need in merged.needs)
        self._record(
            LandingStarted(self.now, candidate.base, merged.commit, merged.tree, candidate.entries, commits, proofs)
        )
        self._record(Landed(self.now, candidate.base, merged.commit))
        waiting = {change: self._describe(submission) for change, submission in self.state.waiting.items()}
        self.book.move(map(self._newest, candidate.entries), waiting)
        self.landed.append(candidate.entries)
        self._forget_old_merges()

    def _drop_candidates(self, change: ChangeId) -> None:
        self.built.pop(change, None)
        self.alone.pop(change, None)

    def _forget_old_merges(self) -> None:
        """As gate/queue.py: kept are the merges on trunk, and the last ones of each waiting change."""
        self.built = {change: candidate for change, candidate in self.built.items() if change in self.state.waiting}
        self.alone = {change: candidate for change, candidate in self.alone.items() if change in self.state.waiting}
        kept = {*self.built.values(), *self.alone.values(), *(candidate.parent for candidate in self.alone.values())}
        self.merges = {
            candidate: outcome
            for candidate, outcome in self.merges.items()
            if candidate.base == self.trunk or candidate in kept
        }

    # --- the auditor -------------------------------------------------------------------------------------------------

    def _audit(self, made: Plan) -> None:
        """Hold a plan against the truth. Raises Wrong."""
        landing = [decision.candidate for decision in made.decisions if isinstance(decision, Land)]
        refused = [decision for decision in made.decisions if isinstance(decision, Refuse)]
        held = [decision for decision in made.decisions if isinstance(decision, Hold)]
        _require(len(landing) <= 1, "more than one landing in a plan", landing)
        for candidate in landing:
            self._audit_landing(candidate)
        for refusal in refused:
            self._audit_refusal(refusal)
        answers = [entry[0] for candidate in landing for entry in candidate.entries]
        answers += [decision.change for decision in refused] + [decision.change for decision in held]
        _require(sorted(answers) == sorted(self.state.waiting), "not one answer for every change", made)
        _require(all(hold.reasons for hold in held), "a change waits for no reason", held)
        _require(made.look_again_at is None or made.look_again_at > self.now, "a look into the past", made)
        self._audit_runs(made)
        builds = [decision.candidate for decision in made.decisions if isinstance(decision, Build)]
        _require(len(set(builds)) == len(builds), "built twice", builds)
        _require(not any(candidate in self.merges for candidate in builds), "built again", builds)

    def _audit_landing(self, candidate: Candidate) -> None:
        """The rule of design section 3, from the truth: base, exactly these changes, every check green for this tree."""
        _require(candidate.base == self.trunk, "the base is not trunk", candidate)
        _require(len(set(candidate.entries)) == len(candidate.entries) > 0, "a change twice, or none", candidate)
        for at, (change, revision) in enumerate(candidate.entries):
            submission = self.state.waiting.get(change)
            _require(submission is not None and submission.revision == revision, "not a waiting revision", candidate)
            described = self._describe(self.state.waiting[change])
            _require(not described.holds, "a held change lands", candidate)
            _require(self.state.closed is None or described.mends_gate, "trunk is closed", candidate)
            before = {entry[0] for entry in candidate.entries[:at]}
            for needed in described.depends:
                landed = self.verdict(needed) is Verdict.LANDED
                _require(landed or needed in before, f"lands before change {needed}, which it depends on", candidate)
        shortest = 1 if self.every_commit else len(candidate.entries)
        for count in range(shortest, len(candidate.entries) + 1):
            tree = self.tree_of(Candidate(candidate.base, candidate.entries[:count]))
            for code in self.codes:
                greens = [
                    result
                    for result in proofs(self.store.get(code.key(tree), ()))
                    if result.is_green_at(self.now, code.check.max_age_s)
                ]
                _require(bool(greens), f"{code.check.name} is not green", candidate)
                _require(not self.is_deterministic or not code.is_red(tree), "a red tree", candidate)

    def _audit_refusal(self, refusal: Refuse) -> None:
        submission = self.state.waiting.get(refusal.change)
        _require(submission is not None and submission.revision == refusal.revision, "not a waiting revision", refusal)
        _require(bool(refusal.reasons), "for no reason", refusal)
        alone = self.merge(Candidate(self.trunk, ((refusal.change, refusal.revision),)))
        earlier = self.alone.get(refusal.change)
        for reason in refusal.reasons:
            match reason.why:
                case Why.CHECK_RED if self.is_deterministic and earlier is not None and self._is_guilty(reason, earlier):
                    pass  # on trunk as it was, by its own run
                case Why.CHECK_RED if self.is_deterministic:
                    _require(isinstance(alone, Tree), "it does not even merge", refusal)
                    assert isinstance(alone, Tree)
                    _require(reason.check in self.reds(alone), "it is innocent: green on trunk", refusal)
                    _require(reason.check not in self.reds(self.tree), "it is innocent: trunk is red", refusal)
                case Why.CONFLICT | Why.NOTHING_TO_DO:
                    _require(isinstance(alone, Reason) and alone.why is reason.why, "it merges", refusal)
                case Why.DEPENDENCY_GONE:
                    assert reason.change is not None
                    fate = self.verdict(reason.change)
                    waits = reason.change in self.state.waiting
                    _require(fate is not Verdict.LANDED, "what it depends on has landed", refusal)
                    _require(not waits or reason.change == refusal.change, "what it depends on waits", refusal)
                case Why.CHECK_RED:
                    pass
                case _:
                    raise Wrong(f"an unexpected reason: {refusal}")

    def _is_guilty(self, reason: Reason, alone: Candidate) -> bool:
        tree = self.merge(alone)
        is_red = isinstance(tree, Tree) and reason.check in self.reds(tree)
        return is_red and reason.check not in self.reds(self.trees[alone.base])

    def _audit_runs(self, made: Plan) -> None:
        starts = [decision for decision in made.decisions if isinstance(decision, Start)]
        cancels = [decision.run for decision in made.decisions if isinstance(decision, Cancel)]
        _require(len(set(cancels)) == len(cancels) and self.running.keys() >= set(cancels), "cancelled twice", cancels)
        going_on = {start.key for start in self.running.values()}
        keys = [start.key for start in starts]
        _require(len(set(keys)) == len(keys) and going_on.isdisjoint(keys), "one key is run twice", starts)
        _require(not starts or len(self.running) - len(cancels) + len(starts) <= self.workers, "too many runs", starts)
        for start in starts:
            tree = self.tree_of(start.candidate)
            _require(self.code(start.check.name).key(tree) == start.key, "a wrong key", start)
            _require(not start.tests or start.check.retest is not None, "a retest that the check has no words for", start)
            for change, revision in start.candidate.entries:
                submission = self.state.waiting.get(change)
                _require(submission is not None and submission.revision == revision, "not a waiting revision", start)
                _require(self._describe(self.state.waiting[change]).may_run, "code that nobody has approved is run", start)


def digest(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:16]


def _require(condition: bool, what: str, about: object) -> None:
    if not condition:
        raise Wrong(f"{what}: {about}")


def _shuffled(snapshot: Snapshot) -> Snapshot:
    """The same facts, in mappings of another order."""
    return replace(
        snapshot,
        merges=_reversed(snapshot.merges),
        trials={change: _reversed(assumed) for change, assumed in _reversed(snapshot.trials).items()},
        built=_reversed(snapshot.built),
        alone=_reversed(snapshot.alone),
        evidence=_reversed(snapshot.evidence),
        decided=_reversed(snapshot.decided),
    )


def _reversed(mapping: Mapping[K, V]) -> dict[K, V]:
    return dict(reversed(list(mapping.items())))


def _evidence(results: Iterable[Result]) -> Evidence:
    """As gate/gate.py folds the results of one key."""
    known = Evidence()
    for result in results:
        known = known.learn(result)
    return known


def refold(world: World) -> State:
    """The state as it is after a restart: folded from the journal alone."""
    state = State()
    fold(state, enumerate(world.events, 1))
    return state
