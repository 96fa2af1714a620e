"""The gate of one repository: takes facts in, makes the snapshot, carries decisions out. One thread calls it.

The loop around it is gate/serve.py. What to do is decided in gate/plan.py, ci/pipeline.py and ci/deploy/plan.py, all pure;
here are their effects. What happened is journalled before anything follows from it, and everything here that is not the
journal or Git can be lost.
"""

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import assert_never

from ci import culprit, pipeline, sandbox
from ci.deploy.engine import Deployer
from ci.deploy.model import DeployFact
from ci.errors import Unavailable
from ci.git import GitFailed
from ci.keys import KeyMaker
from ci.model import CheckName, InputKey, Result, RunEnd, RunId, RunRequest, Sha, Stage
from ci.run import RunSettings
from ci.workers import Workers
from gate import config, text
from gate.config import Config
from gate.feed import Feed
from gate.haves import refresh_haves
from gate.journal import Journal
from gate.land import land, recover
from gate.looks import Look, Step
from gate.model import (
    ApprovalGiven,
    Build,
    Cancel,
    Candidate,
    ChangeId,
    ChangeRefused,
    ChangeSubmitted,
    ChangeWithdrawn,
    Decision,
    Event,
    Hold,
    Land,
    Landed,
    Merged,
    Plan,
    Promoted,
    Reason,
    Refuse,
    RetryRequested,
    RunFinished,
    RunStarted,
    Snapshot,
    Start,
    Submission,
    TrunkJudged,
    TrunkMoved,
    Verdict,
    Why,
)
from gate.nested import ANYWHERE
from gate.plan import Planner
from gate.queue import Queue
from gate.repository import PLAN_FILE, SUBMISSIONS, Repository
from gate.state import TRUNK, State, apply_event
from gate.submissions import news

log = logging.getLogger("gate")

UNTOLD = (Why.WAITS_FOR_CHECK, Why.WAITS_FOR_WORKER)  # told by the runs themselves, or not worth a line
LANDING_TRIES = 5  # that fail with nobody between, before it is called trouble and tried again after a pause only
PIPELINE_AT_LEAST_EVERY_S = 1.0  # a queue that is never idle does not keep the post-commit pipeline waiting for longer

MakeWorkers = Callable[[RunSettings, Callable[[RunEnd], None]], Workers]


class Gate:
    """One repository's gate. ``turn`` until it says that nothing happened; then wait for news."""

    def __init__(
        self,
        repository: Repository,
        journal: Journal,
        make_workers: MakeWorkers,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """wake: "take a turn soon"; called from other threads."""
        self.repository = repository
        self.journal = journal
        self.state = State()
        self.config = Config()
        self.plan = Plan()
        self._planner = Planner()
        self.wake_at: float | None = None  # when to take a turn even if nothing is heard
        self._make_workers = make_workers
        self._wake = wake
        self._clock = clock
        self._workers: Workers | None = None
        self._settings: RunSettings | None = None
        self._ends: SimpleQueue[RunEnd] = SimpleQueue()
        self._ended: list[RunEnd] = []  # taken from there, and not in the journal yet
        self._feed = Feed(repository)
        self._queue = Queue(repository, journal)
        self._trunk_trouble: str | None = None
        self._failed_landings = 0  # since one succeeded
        self._planned_at = -1  # the newest event that a plan knew
        self._pipeline_keys = KeyMaker(repository.git)
        self._pipeline_commit: Sha | None = None
        self._pipeline_waits = False
        self._pipeline_looked_at = 0.0
        self._places = _Places(repository)
        self._promoted_for: tuple[Sha, Sha] | None = None  # trunk and newest judged commit that promotion was decided for
        self._shown_trunk: Sha | None = None
        self._published: dict[str, object] | None = None
        self._deployer = Deployer(repository.git, repository.folder, self._record_deploy, wake, clock)

    # --- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fold the journal, and finish what an earlier daemon was killed in the middle of."""
        self._catch_up(is_news=False)
        now = self._clock()
        self.journal.note(Look(Step.STARTED, now, self.state.seq))
        recover(self.repository, self.journal, self.state, now)
        self._catch_up(is_news=False)
        self._record(*(RunFinished(now, run, None, "the gate stopped while it ran") for run in self.state.runs))
        for change, verdict in self.state.verdicts.items():
            newest = self.state.newest(change)
            if newest is not None and (change, newest.revision) in self.state.decided:
                at = self.state.decided[change, newest.revision].at
                self._feed.repeat_verdict(newest, self._verdict_line(newest), at, verdict)
        self._deployer.resume(self.state.deploy)
        self._warm_up()

    def _warm_up(self) -> None:
        """Make trunk's keys now: the first listing of a large tree takes a second, and later ones build on it."""
        trunk = self.repository.look(self.repository.trunk)
        if trunk is None:
            return
        if trunk != self.state.trunk:
            self._record(TrunkMoved(self._clock(), self.state.trunk, trunk))
        self._read_policy(trunk)
        self.journal.note(Look(Step.WARMED, self._clock(), self.state.seq))
        self._queue.build(Candidate(trunk), self.config, self.state, self._told_green)

    def is_idle(self, until: float) -> bool:
        """Nothing runs, and nothing is due before ``until``."""
        is_busy = bool(self.state.runs) or not self._ends.empty() or not self._deployer.is_idle
        return not is_busy and (self.wake_at is None or self.wake_at > until)

    def _show_haves(self) -> None:
        """Let pushing clients know what is here, when trunk has moved."""
        if self.state.trunk is not None and self.state.trunk != self._shown_trunk:
            self._shown_trunk = self.state.trunk
            try:
                refresh_haves(self.repository, self.state.trunk)
            except GitFailed as failed:  # they only spare pushes some bytes: a lock there stops nothing
                log.warning("%s: pushes may send more than they need: %s", self.repository.name, failed)

    def publish(self) -> None:
        """Let ``gate why`` and ``gate status`` see why each change waits: a derived file, replaced when it differs."""
        trunk = self.repository.trunk_name
        waiting = {
            str(decision.change): [text.as_data(cause, trunk) for cause in decision.reasons]
            for decision in self.plan.decisions
            if isinstance(decision, Hold)
        }
        holds = [decision for decision in self.plan.decisions if isinstance(decision, Hold)]
        red = {str(cause.check) for hold in holds for cause in hold.reasons if cause.why is Why.TRUNK_RED}
        made: dict[str, object] = {
            "waiting": waiting,
            "troubles": list(self._deployer.troubles),
            "red": sorted(red),
            "closed": self._trunk_trouble,
        }
        if made == self._published:
            return
        path = self.repository.folder / PLAN_FILE
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(made))
            fresh.replace(path)
        except OSError as trouble:  # tried again at the next pause; nothing rests on it
            log.warning("%s: %s cannot be written: %s", self.repository.name, path, trouble.strerror)
            return
        self._published = made

    def close(self) -> None:
        """End every run; steps of deploys go on and are found again. Twice is harmless."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None
            self._take_in_ends()
        self._deployer.close()
        self.repository.close()

    # --- one turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Take in, plan, act. True: something happened, so another turn may find more to do."""
        happened = self._take_in()
        trunk = self.state.trunk
        if trunk is None or self.repository.look(self.repository.trunk) is None:
            self.wake_at = None
            return happened  # nobody has founded trunk yet, or somebody deleted it
        self._read_policy(trunk)
        snapshot = self._snapshot(trunk)
        planned_at = self._clock()
        self.plan = self._planner.plan(snapshot, planned_at)
        self._note(snapshot, planned_at)
        try:
            happened |= self._perform(self.plan)
        except (Unavailable, OSError):
            self.journal.note(Look(Step.BROKEN_OFF, planned_at, self.state.seq))
            raise
        moments = [self.plan.look_again_at]
        now = self._clock()
        if not happened or now - self._pipeline_looked_at > PIPELINE_AT_LEAST_EVERY_S:
            self._pipeline_looked_at = now
            happened |= self._run_pipeline()
            seq = self.state.seq
            moments.append(self._deploy())
            happened |= self.state.seq != seq
        if not happened:
            self._show_haves()
        self.wake_at = min((moment for moment in moments if moment is not None), default=None)
        return happened

    def _take_in(self) -> bool:
        """Ends of runs, what people asked for, a trunk that somebody moved, and new submissions."""
        happened = self._take_in_ends()
        happened |= self._catch_up()
        if self.state.landing is not None:  # begun, and then the disk or git failed
            recover(self.repository, self.journal, self.state, self._clock())
            happened |= self._catch_up()
        trunk = self.repository.look(self.repository.trunk)
        if trunk is not None and trunk != self.state.trunk:
            self._record(TrunkMoved(self._clock(), self.state.trunk, trunk))
            happened = True
        newest = self.repository.look(SUBMISSIONS)
        if newest is not None and newest != self.state.seen and trunk is not None:
            found = news(self.repository, self.state, self._clock())
            self._record(*found)
            happened |= bool(found)
        return happened

    def _take_in_ends(self) -> bool:
        with suppress(Empty):
            while True:
                self._ended.append(self._ends.get_nowait())
        if not self._ended:
            return False
        results = [(result, end.tests) for end in self._ended if (result := end.result) is not None]
        finished = (RunFinished(end.finished_at, end.request.run, end.result, end.reason) for end in self._ended)
        self.journal.append(*finished, results=results)
        self._ended.clear()  # only now: an end that is lost would leave its run under way for ever
        self._catch_up()
        for result, tests in results:
            self._queue.odds.learn_tests(result, tests)
        return True

    def _take_end(self, end: RunEnd) -> None:
        """Called by workers, from their threads."""
        self._ends.put(end)
        self._wake()

    # --- events: recorded, folded, told ---------------------------------------------------------------------------------

    def _record(self, *events: Event) -> None:
        if events:
            self.journal.append(*events)
            self._catch_up()

    def _record_deploy(self, fact: DeployFact) -> None:
        self._record(fact)

    def _catch_up(self, *, is_news: bool = True) -> bool:
        """Fold what the journal has that we do not know yet: our own events, and those that people's commands wrote."""
        found = self.journal.read(self.state.seq)
        if not is_news:
            self._queue.read_back(event for _, event in found)
        for seq, event in found:
            before = self.state.waiting.get(event.submission.change) if isinstance(event, ChangeSubmitted) else None
            apply_event(self.state, event)
            self.state.seq = seq
            self._queue.notice(event, self.state)
            if is_news:
                log.info("%s: %s", self.repository.name, text.event(event, self.repository.trunk_name, self.state.deploy))
                self._tell(event, before)
        return bool(found)

    def _tell(self, event: Event, before: Submission | None) -> None:
        """Put into the feeds what the pushers who wait want to see. before: the revision that a new one withdraws."""
        match event:
            case ChangeSubmitted(submission=item):
                if self.state.verdicts.get(item.change) is Verdict.LANDED:  # while this revision was being pushed
                    self._feed.tell(item, self.state.seq, self._verdict_line(item), event.at, Verdict.REFUSED)
                if before is not None:
                    line = f"change {item.change} revision {before.revision} withdrawn: revision {item.revision} was pushed"
                    self._feed.tell(before, self.state.seq, line, event.at, Verdict.WITHDRAWN)
            case ChangeRefused() | ChangeWithdrawn():
                self._tell_verdict(event.change, event.at)
            case Landed():
                for change, _ in self.state.landings[-1][1].changes:
                    self._tell_verdict(change, event.at)
            case RunStarted():
                self._tell_users(event.key, f"{event.check} started", event.at)
            case RunFinished(result=Result() as result):
                self._tell_users(result.key, text.result(result), event.at)
            case ApprovalGiven() | RetryRequested():
                self._tell_line(event.change, text.event(event, self.repository.trunk_name), event.at)
            case _:
                pass

    def _tell_users(self, key: InputKey, line: str, at: float) -> None:
        for change in self._queue.users_of(key):
            self._tell_line(change, line, at)

    def _tell_line(self, change: ChangeId, line: str, at: float) -> None:
        newest = self.state.waiting.get(change)
        if newest is not None:
            self._feed.tell(newest, self.state.seq, line, at)

    def _tell_verdict(self, change: ChangeId, at: float) -> None:
        newest = self.state.newest(change)
        verdict = self.state.verdicts.get(change)
        if newest is not None and verdict is not None:
            self._feed.tell(newest, self.state.seq, self._verdict_line(newest), at, verdict)

    def _verdict_line(self, submission: Submission) -> str:
        decided = self.state.decided.get((submission.change, submission.revision))
        trunk = self.repository.trunk_name
        if decided is None:
            return f"change {submission.change} has landed already, as an earlier revision: push this as a new change"
        if decided.commit is not None:
            return text.landed(submission.change, decided.commit, trunk, decided.at - submission.at)
        if decided.verdict is Verdict.WITHDRAWN:
            return f"change {submission.change} withdrawn by {decided.by}"
        return text.refused(submission.change, decided.reasons, trunk)

    # --- policy and snapshot ------------------------------------------------------------------------------------------

    def _read_policy(self, trunk: Sha) -> None:
        """Policy comes from trunk's gate.toml. One that cannot be read closes trunk to all but what mends it."""
        found = self.repository.rules(trunk)
        before = self._trunk_trouble
        policy, self._trunk_trouble = in_force(found)
        if policy != self.config or self._trunk_trouble != before or self._workers is None:
            self.config = policy
            self._queue.forget_policy(trunk)
            self._renew_workers()
        elif self._settings != self._run_settings():
            self._renew_workers()

    def _run_settings(self) -> RunSettings:
        run = self.config.run
        return RunSettings(run.workers, run.isolation, run.read, run.pass_env, run.log_max_bytes, (self.repository.git_dir,))

    @property
    def _is_renewing(self) -> bool:
        """The workers are of an earlier policy and finish what they run. They get no more, else they would never be done."""
        return self._settings != self._run_settings()

    def _renew_workers(self) -> None:
        settings = self._run_settings()
        if settings == self._settings and self._workers is not None:
            return
        if self._workers is not None:
            if self.state.runs:
                return  # when they have ended; every turn looks
            self._workers.close()
        self._settings = settings
        self._workers = self._make_workers(settings, self._take_end)

    def _note(self, snapshot: Snapshot, planned_at: float) -> None:
        """Have it remembered that there was a plan, for gate simulate. One that knew nothing new and does nothing, leaves
        nothing behind."""
        does = any(not isinstance(decision, Hold) for decision in self.plan.decisions)
        if does or self.state.seq != self._planned_at:
            self._planned_at = self.state.seq
            may_start = not self._is_renewing
            self.journal.note(Look(Step.PLANNED, planned_at, self.state.seq, snapshot.workers, self._may_sandbox, may_start))

    @property
    def _may_sandbox(self) -> bool:
        return self.config.run.isolation != "plain" and sandbox.bubblewrap_trouble() is None

    def _snapshot(self, trunk: Sha) -> Snapshot:
        assert self._workers is not None
        elsewhere = sum(run.stage == Stage.POST_COMMIT for run in self.state.runs.values())
        if self._pipeline_waits and self._workers.capacity > 1:
            elsewhere = max(1, elsewhere)  # one worker is kept for a pipeline that has something to run
        workers = max(1, self._workers.capacity - elsewhere)
        return self._queue.snapshot(
            self.state, self.config, trunk, workers=workers, may_sandbox=self._may_sandbox, trouble=self._trunk_trouble
        )

    # --- decisions ----------------------------------------------------------------------------------------------------

    def _perform(self, made: Plan) -> bool:
        """Carry a plan out. True: it altered something that the next plan should know."""
        now = self._clock()
        happened = False
        starts = [decision for decision in made.decisions if isinstance(decision, Start) and not self._is_renewing]
        if starts:
            self._start(starts, now)  # first: workers are idle until then, and no other decision bears on them
        for decision in made.decisions:
            happened |= self._perform_one(decision, now)
        return happened or bool(starts)

    def _perform_one(self, decision: Decision, now: float) -> bool:
        match decision:
            case Refuse(change=change, revision=revision, reasons=reasons):
                named = tuple(self._name_rival(change, cause) for cause in reasons)
                self._record(ChangeRefused(now, change, revision, named))
            case Land(candidate=candidate):
                return self._land(candidate, now)
            case Cancel(run=run):
                if self._workers is not None:
                    self._workers.cancel(run)
                return False  # its end is the news
            case Build(candidate=candidate):
                return self._queue.build(candidate, self.config, self.state, self._told_green)
            case Hold(change=change, reasons=reasons):
                told = [cause for cause in reasons if cause.why not in UNTOLD or cause.odds]  # with odds: it will run again
                if told:
                    self._tell_line(change, text.waits(told, self.repository.trunk_name), now)
                return False
            case Start():
                return False  # all of a plan's at once, before the others
            case _:
                assert_never(decision)
        return True

    def _told_green(self, change: ChangeId, line: str) -> None:
        self._tell_line(change, line, self._clock())

    def _start(self, starts: list[Start], now: float) -> None:
        requests: list[RunRequest] = []
        events: list[RunStarted] = []
        for start in starts:
            merged = self._queue.merges[start.candidate]
            assert isinstance(merged, Merged)
            run = RunId(f"r{self.state.run_count + len(requests) + 1}")
            changes = tuple(change for change, _ in start.candidate.entries)
            label = str(changes[-1]) if changes else ""
            base = start.candidate.base
            listing = self._queue.listing(merged.commit, start.check)
            requests.append(
                RunRequest(run, start.check, start.key, merged.commit, base, label, listing=listing, tests=start.tests)
            )
            events.append(
                RunStarted(now, run, start.check.name, start.key, merged.commit, changes, start.check.stage, _log_name(run))
            )
        self._launch(requests, events)

    def _launch(self, requests: list[RunRequest], events: list[RunStarted]) -> None:
        assert self._workers is not None
        self.journal.append(*events)
        for request in requests:  # before anything else can fail: what is written down as started must end
            self._workers.start(request)
        self._catch_up()

    def _land(self, candidate: Candidate, now: float) -> bool:
        merged = self._queue.merges[candidate]
        assert isinstance(merged, Merged)
        commits = self._queue.commits(candidate)
        trouble = land(self.repository, self.journal, candidate, merged, commits, self.state, now)
        self._catch_up()
        if trouble is None:
            self._failed_landings = 0
            return True
        log.warning("%s: nothing landed: %s", self.repository.name, trouble)
        self.journal.note(Look(Step.DOUBTED, now, self.state.seq))
        self._queue.doubt(candidate)
        look = self.repository.look
        if look(self.repository.trunk) == candidate.base and look(SUBMISSIONS) == self.state.seen:  # nobody came between
            self._failed_landings += 1
        if self._failed_landings >= LANDING_TRIES:
            raise Unavailable(f"{self.repository.trunk} could not be moved, {self._failed_landings} times by now: {trouble}")
        return True

    def _name_rival(self, change: ChangeId, cause: Reason) -> Reason:
        """For a conflict with trunk: the landed change that last touched a path in conflict."""
        newest = self.state.newest(change)
        if cause.why is not Why.CONFLICT or cause.change is not None or newest is None or not cause.paths:
            return cause
        wanted = set(cause.paths)
        # No path limit: git would simplify the history by it, and pass over a landing whose tree is its change's own.
        asked = (
            "log",
            "--no-show-signature",
            "-z",
            "-n",
            "500",
            "--format=%x01%H",
            "--first-parent",
            "--diff-merges=first-parent",
            "--name-only",
        )
        told = self.repository.git.run(*asked, "--end-of-options", f"{newest.head}..{self.state.trunk}", "--").out
        for landing in told.split(b"\1")[1:]:
            commit, _, paths = os.fsdecode(landing).partition("\0")
            if not wanted.isdisjoint(paths.lstrip("\n").split("\0")):
                rival = self.state.landed_by.get(Sha(commit))
                break
        else:
            rival = None
        return Reason(cause.why, change=rival, paths=cause.paths, detail=cause.detail)

    # --- after the commit ---------------------------------------------------------------------------------------------

    def _run_pipeline(self) -> bool:
        """Take trunk's post-commit pipeline a step further. True: something happened."""
        assert self.state.trunk is not None
        assert self._workers is not None
        if self._promote():
            return True
        judged = {commit: event.green for commit, event in self.state.judged.items()}
        commit = pipeline.choose_commit(self.state.trunk, judged, self._pipeline_commit)
        if commit is None:
            self._pipeline_waits = False
            return False
        self._pipeline_commit = commit
        found = self.repository.rules(commit)
        checks = found.checks_after_landing() if isinstance(found, Config) else ()
        if commit not in self.state.landed_by and isinstance(found, Config):
            checks = found.checks  # it did not come through the gate, so nothing is known of it
        keys = self._pipeline_keys.keys(commit, checks, self.state.promoted) if checks else {}
        evidence = self._queue.evidence_for(keys.values(), self.state.retried_at.get(TRUNK, 0.0))
        running = {run.key for run in self.state.runs.values()}
        now = self._clock()
        status = pipeline.decide(checks, keys, evidence, running, now)
        if status.is_over:
            self._pipeline_waits = False
            red = status.red + status.could_not_run
            suspects = () if status.is_green else self._suspects(commit, status.red or red)
            self._record(TrunkJudged(now, commit, status.is_green, red, suspects, status.could_not_run))
            return True
        free = 0 if self._is_renewing else self._workers.capacity - len(self.state.runs)
        starts = status.start[: max(0, free)]
        self._pipeline_waits = len(starts) < len(status.start)
        requests = [
            RunRequest(RunId(f"r{self.state.run_count + 1 + place}"), check, keys[check.name], commit, self.state.promoted)
            for place, check in enumerate(starts)
        ]
        events = [
            RunStarted(now, item.run, item.check.name, item.key, commit, (), Stage.POST_COMMIT, _log_name(item.run))
            for item in requests
        ]
        if requests:
            self._launch(requests, events)
        return bool(requests)

    def _suspects(self, commit: Sha, red: tuple[CheckName, ...]) -> tuple[Sha, ...]:
        since = (f"^{self.state.promoted}",) if self.state.promoted else ()
        asked = ("rev-list", "--first-parent", "--reverse", "-n", "1000", "--end-of-options", commit, *since)
        history = [Sha(line) for line in self.repository.git.run(*asked).text.splitlines()]
        ended = self.state.judged.items()
        judged = {each: event.seen_red for each, event in ended if event.green or event.seen_red}
        return culprit.suspects(history, judged | {commit: red})

    def _promote(self) -> bool:
        """Move the promotion ref to the newest green commit that trunk still has, if it is not there yet."""
        green = self._newest_green()
        if green is None or green == self.state.promoted:
            return False
        ref = self.repository.promotion
        was = self.repository.look(ref)
        if was != green:
            try:
                self.repository.git.run("update-ref", "-m", "gate: green", "--", ref, green, was or "0" * len(green))
            except GitFailed as failed:
                log.warning("%s: %s could not be moved: %s", self.repository.name, ref, failed)
                return False
        self._record(Promoted(self._clock(), green))
        return True

    def _newest_green(self) -> Sha | None:
        """Judged green, and on trunk as it is: somebody may have moved trunk back behind it."""
        trunk, judged = self.state.trunk, self.state.green
        if trunk is None or judged is None or (trunk, judged) == self._promoted_for:
            return self.state.promoted
        place_of = self._places.on(trunk)
        green = (commit for commit, event in self.state.judged.items() if event.green and place_of(commit) is not None)
        self._promoted_for = (trunk, judged)
        return max(green, key=lambda commit: place_of(commit) or 0, default=None)

    def _deploy(self) -> float | None:
        """Take the deploys a step further. Returns when to look again."""
        promoted = self.state.promoted
        if promoted is None:
            return None
        found = self.repository.rules(promoted)
        environments = found.environments if isinstance(found, Config) else ()
        if not environments and not self.state.deploy.running:
            return None
        assert self.state.trunk is not None
        order = self._places.on(self.state.trunk)
        return self._deployer.tick(environments, self.state.deploy, promoted, order, self._clock())


class _Places:
    """Positions of commits on trunk's first-parent history."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._trunk: Sha | None = None
        self._place: dict[Sha, int] = {}

    def on(self, trunk: Sha) -> Callable[[Sha], int | None]:
        """Larger is newer; None: not on this trunk."""
        if trunk != self._trunk:
            since = (f"^{self._trunk}",) if self._trunk is not None else ()
            asked = ("rev-list", "--first-parent", "--parents", "--reverse", "--end-of-options", trunk, *since)
            lines = [line.split() for line in self._repository.git.run(*asked).text.splitlines()]
            if since and not (lines and lines[0][1:2] == [self._trunk]):  # trunk did not just move on from there
                self._trunk, self._place = None, {}
                return self.on(trunk)
            for line in lines:
                self._place[Sha(line[0])] = len(self._place)
            self._trunk = trunk
        return self._place.get


def _log_name(run: RunId) -> str:
    return str(Path("logs") / f"{run}.log")


def in_force(found: Config | tuple[config.Problem, ...]) -> tuple[Config, str | None]:
    """The policy of a trunk with this gate.toml, and why trunk is closed by it."""
    if isinstance(found, Config):
        return found, None
    first = found[0]
    name = first.file or config.CONFIG_NAME
    return Config(nested=ANYWHERE), f"its {name} is broken, {first.told}"
