"""The work that ``gate background`` starts: the checks of stage merge on a commit, one look at a time for a newer one.

What is green already, from the commit or from before, is not run again, and what ends here spares a later ``gate check`` its
run. The record of the commit is written anew whenever there is something to tell, so that whoever kills this process loses
no more than the checks under way. Here is also decided what the next commit is told (``gate/said``): words that are ready to
be printed, because ``gate check`` must not read records.
"""

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ci.errors import Unavailable, UserError
from ci.git import PlainGit, read_file
from ci.model import Sha, Stage
from ci.run import RunSettings
from gate.config import CONFIG_NAME, Config
from hooks import text
from hooks.config import composed
from hooks.desk import Desk, Made
from hooks.inputs import Inputs
from hooks.local import (
    EXIT_UNAVAILABLE,
    Scope,
    Wish,
    ended_by_signals,
    exit_code,
    jobs_of,
    leave_hook_environment,
    select_checks,
)
from hooks.markers import SAID
from hooks.pool import Pool
from hooks.records import Answer, Ended, Record, keep_record, read_records, unsettled
from hooks.report import Report
from hooks.session import Session, cores

_NICE = 19
_LOOKED_BACK = 1000  # commits; a red that is further away is old news


class _Superseded(Exception):  # noqa: N818 - no error
    """Another commit is wanted here, or none."""


def work_unseen(made: Made) -> int:
    """``work`` in a process of its own, which nobody waits for: out of the way of everything else."""
    os.nice(_NICE)
    try:
        return work(made)
    except Exception:
        if _is_there(made):
            raise
        return EXIT_UNAVAILABLE  # its owner has removed or renamed the repository or the work tree, and wants nothing of it


def _is_there(made: Made) -> bool:
    return Path(made.git_dir, "gate").is_dir() and Path(made.common_dir).is_dir() and Path(made.top).is_dir()


def work(made: Made) -> int:
    """Run what is not known to be green.

    Exit code: as of ``gate check``; 4 too when a newer commit came in between. Raises UserError and Unavailable.
    """
    desk = Desk(made.git_dir)
    lock = desk.take(made.commit)
    if lock is None:
        text.warn(text.background_is_done_by_another(made.commit))
        return EXIT_UNAVAILABLE
    try:
        leave_hook_environment()
        with ended_by_signals(outlives_caller=True):
            return _Work(made, desk).run()
    finally:
        os.close(lock)


class _Work:
    """One commit, and what is known of it so far."""

    def __init__(self, made: Made, desk: Desk) -> None:
        self._made = made
        self._desk = desk
        self._git = PlainGit(Path(made.git_dir))
        self._common_dir = Path(made.common_dir)
        self._record = Record(made.commit, made.git_dir, time.time())
        self._is_reminding = True

    def run(self) -> int:
        try:
            config = self._config()
            self._is_reminding = config.hooks.remind
            self._tell()
            reports = self._reports(config)
        except _Superseded:
            self._tell(ended=Ended.SUPERSEDED if self._desk.wanted() else Ended.STOPPED)
            text.warn(text.background_superseded(self._made.commit))
            return EXIT_UNAVAILABLE
        except KeyboardInterrupt:
            self._tell(ended=Ended.STOPPED)
            raise
        except (UserError, Unavailable, OSError) as trouble:
            with suppress(OSError):  # the disk that is full may be the one that the record goes to
                self._tell(ended=Ended.FAILED, trouble=str(trouble))
            raise
        self._tell(ended=Ended.FINISHED)
        self._remind()
        return exit_code(reports)

    def _config(self) -> Config:
        content = read_file(self._git, Sha(self._made.commit), CONFIG_NAME)
        if content is None:
            raise UserError(text.no_config())
        return composed(self._git, self._tree(), content, f"{CONFIG_NAME} of {text.short(self._made.commit)}")

    def _tree(self) -> Sha:
        return Sha(self._git.run("rev-parse", "--verify", f"{self._made.commit}^{{tree}}").text)

    def _reports(self, config: Config) -> list[Report]:
        commit = Sha(self._made.commit)
        checks = select_checks(config.checks, Wish(stage=Stage.MERGE))
        tree = self._tree()
        inputs = Inputs(self._git, tree, checks, commit=commit, top=self._made.top)
        jobs, _ = jobs_of(inputs, Scope(tree, None), checks, None)
        self._tell(wanted=tuple(job.check.name for job in jobs))
        Pool(self._common_dir).end_leftovers()
        printer = text.LinePrinter(checks)
        reports = []
        by_name = {check.name: check for check in checks}
        started_at = time.monotonic()
        self._look_up()  # the session makes our folder anew, should its owner just be removing the repository
        with self._session(config, commit) as session:
            kept = session.kept(jobs)
            for report in session.reports(session.in_order(jobs, kept, 0.0)[0], kept):
                if report.fixes:
                    paths = [fix.path for fix in report.fixes]
                    report = report._replace(reason=text.would_mend_there(by_name[report.check], paths))
                reports.append(report)
                printer.tell(report)
                self._add(report)
                self._look_up()
            if session.has_run:
                session.tidy(config.hooks.cache_age_s, config.hooks.cache_size_bytes, config.hooks.pool_size_bytes)
        printer.finish(reports, time.monotonic() - started_at)
        return reports

    def _session(self, config: Config, commit: Sha) -> Session:
        run = config.run
        return Session(
            self._common_dir,
            RunSettings(isolation="plain", pass_env=run.pass_env, log_max_bytes=run.log_max_bytes),
            commit,
            lambda: commit,
            top=Path(self._made.top),
            links=config.hooks.link,
            at_once=_cores_for_us(),
            watch=self._watch,
        )

    def _look_up(self) -> None:
        if self._desk.wanted() != self._made.commit:
            raise _Superseded

    def _watch(self, running: list[tuple[str, float]]) -> None:
        """Twice a second."""
        self._look_up()
        if {name for name, _ in running} != {*self._record.running}:
            now = time.time()
            self._tell(running={name: now - seconds for name, seconds in running})

    def _add(self, report: Report) -> None:
        answer = Answer(
            report.check, report.outcome, report.is_cached, report.duration_s, report.reason, report.failed, report.log
        )
        running = {name: since for name, since in self._record.running.items() if name != report.check}
        self._tell(answers=(*self._record.answers, answer), running=running)
        if answer.is_bad:
            self._remind()  # the next commit may come before this work is at its end

    def _tell(self, *, ended: Ended | None = None, **facts: object) -> None:
        if ended is not None:
            facts |= {"ended": ended, "ended_at": time.time(), "running": {}}
        self._record = replace(self._record, **facts)  # type: ignore[arg-type]
        # Without either folder the repository is gone, or another one is in its place.
        if any(Path(folder, "gate").is_dir() for folder in (self._made.git_dir, self._made.common_dir)):
            keep_record(self._common_dir, self._record)

    def _remind(self) -> None:
        """Write down the words for the next commits, with the commit that these must have in their history."""
        said = Path(self._made.git_dir, SAID)
        records = read_records(self._common_dir) if self._is_reminding else {}
        history = self._git.run("rev-list", f"--max-count={_LOOKED_BACK}", self._made.commit).text.split("\n")
        found = unsettled([records[commit] for commit in history if commit in records])
        if found is None:
            said.unlink(missing_ok=True)
            return
        record, reds = found
        unfinished = said.with_name(f"{said.name}.new")  # there is one worker in each work tree
        words = text.reds([(answer.name, answer.failed) for answer in reds])
        unfinished.write_text(f"{record.commit} {words}\n", encoding="utf-8", errors="backslashreplace")
        unfinished.replace(said)


def _cores_for_us() -> int:
    """One is left to whoever goes on working meanwhile."""
    return max(1, cores() - 1)
