"""The checks of ``gate push``: whether the commits that are pushed pass what a commit has to pass when it is made.

A merge without conflicts, a rebase and ``--no-verify`` go past the hook that asks for it. The commit counts, which need not
be the one that is checked out: checks run in the pool, also under a runner, and never in the work tree. What is green by its
key is not run again, so that a commit that met the hook costs next to nothing.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ci.errors import UserError
from ci.git import PlainGit, read_file
from ci.model import Check, CheckName, Sha, Stage
from ci.run import RunSettings
from gate.config import CONFIG_NAME, Config
from hooks import lines, text
from hooks.config import composed
from hooks.inputs import Inputs
from hooks.lines import shown
from hooks.local import (
    SKIP,
    Scope,
    Wish,
    ended_by_signals,
    exit_code,
    jobs_of,
    leave_hook_environment,
    select_checks,
    skipped_checks,
    vain_skips,
)
from hooks.report import Report
from hooks.session import Session
from hooks.staged import NO_FILES, ask_git, differences

_SOON_S = 0.001  # a budget that is used up: 0 would mean that there is none


class Checked(NamedTuple):
    """What one pushed commit came to. names: of all that are pushed with it."""

    names: tuple[str, ...]
    commit: Sha
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """Equal questions are asked once. changed: paths that differ from trunk; None: all, for trunk is not known."""

    scope: Scope
    changed: frozenset[str] | None
    checks: tuple[Check, ...]
    config: Config
    history: Sha | None  # the commit, when a check may look at what is behind it


def check_commits(commits: Iterable[tuple[str, Sha]], trunk: str, *, quiet: bool) -> tuple[int, list[Checked]]:
    """Check what is pushed, as far as each commit's own gate.toml asks for it. Returns the exit code as well.

    commits: each with a name for people, and with a gate.toml. trunk: full name of the ref that says where the remote's
    trunk was. quiet: print nothing but what went wrong. Raises UserError and Unavailable.
    """
    leave_hook_environment()
    since = time.monotonic()
    git, top = _places()
    asked: dict[_Question, list[tuple[str, Sha]]] = {}
    for name, commit in commits:
        question = _question(git, name, commit, trunk)
        if question is not None:
            asked.setdefault(question, []).append((name, commit))
    checked = []
    with ended_by_signals():
        for question, pushed in asked.items():
            names, commit = tuple(dict.fromkeys(name for name, _ in pushed)), pushed[0][1]
            printer: text.Printer = text.SilentPrinter() if quiet else text.LinePrinter(question.checks)
            if len(asked) > 1:
                printer.note(text.push_checks_of(names, commit))
            reports = _answers(git, question, commit, top, printer, since)
            checked.append(Checked(names, commit, tuple(reports)))
            fine = {report.check for report in reports if report.is_fine}
            bad = [check.name for check in question.checks if check.name not in fine]
            for line in text.push_not_green(names, commit, bad) if bad else ():
                text.warn(line)
    return exit_code(report for each in checked for report in each.reports), checked


def _places() -> tuple[PlainGit, Path | None]:
    """The repository, and the top of the work tree that the push was started in; None: it has none."""
    words = ("rev-parse", "--path-format=absolute")
    (lost, common_dir), (is_bare, top) = ask_git((*words, "--git-common-dir"), (*words, "--show-toplevel"))
    if lost:
        raise UserError(text.no_work_tree())
    return PlainGit(_path(common_dir)), None if is_bare else _path(top)


def _path(answer: bytes) -> Path:
    return Path(os.fsdecode(answer.removesuffix(b"\n")))


def _question(git: PlainGit, name: str, commit: Sha, trunk: str) -> _Question | None:
    """What to ask of a commit. None: nothing."""
    tree = Sha(git.run("rev-parse", "--verify", f"{commit}^{{tree}}").text)
    content = read_file(git, tree, CONFIG_NAME)
    if content is None:
        return None
    config = composed(git, tree, content, f"{CONFIG_NAME} of {shown(name)}")
    if config.push.checks == "none":
        return None
    stage = Stage(config.push.checks)
    checks = select_checks(config.checks, Wish(stage))
    base = _merge_base(trunk, commit)
    if not checks or base == commit:
        return None  # what trunk has went through the gate
    history = commit if any(check.git for check in checks) else None
    raw = git.diff(base, commit) if base is not None else None
    if raw is None:
        return _Question(Scope(tree, None), None, checks, config, history)
    found = [(mode, status, os.fsdecode(path)) for mode, status, path in differences(raw)]
    files = tuple(path for mode, status, path in found if status != b"D" and mode not in NO_FILES)
    besides = tuple(path for mode, status, path in found if status == b"D" or mode in NO_FILES)
    # Past the commit the gate hands all files to a check, of those that have something new among their inputs.
    scope = Scope(tree, files, besides) if stage is Stage.PRE_COMMIT else Scope(tree, None)
    return _Question(scope, frozenset({*files, *besides}), checks, config, history)


def _merge_base(trunk: str, commit: Sha) -> Sha | None:
    """None: trunk was never fetched, has nothing in common with the commit, or a shallow clone does not reach so far."""
    failed, answer = ask_git(("merge-base", trunk, commit))[0]
    return None if failed else Sha(answer.decode().split()[0])


def _answers(
    git: PlainGit, question: _Question, commit: Sha, top: Path | None, printer: text.Printer, since: float
) -> list[Report]:
    """The report of every check, each told as it comes. since: when the push began to wait, by the monotonic clock: the
    budget is for all of its commits together."""
    config, began = question.config, time.monotonic()
    for line in vain_skips(config.checks):
        text.warn(f"gate: {line}")
    skipped = skipped_checks(question.checks)
    wanted = [check for check in question.checks if check.name not in skipped]
    inputs = Inputs(git, question.scope.tree, question.checks, commit=commit, top=str(top or ""))
    jobs, idle = jobs_of(inputs, question.scope, wanted, question.changed)
    idle += [Report(name, None, idle=lines.SKIPPED, reason=text.skipped_by(SKIP)) for name in skipped]
    settings = RunSettings(isolation="plain", pass_env=config.run.pass_env, log_max_bytes=config.run.log_max_bytes)
    links = config.hooks.link
    with Session(git.git_dir, settings, commit, lambda: commit, top=top, links=links, watch=printer.watch) as session:
        kept = session.kept(jobs)
        if len(kept) == len(jobs) and not skipped:
            if jobs:
                printer.note(text.push_known(commit, len(jobs)))
            return [*idle, *session.reports(jobs, kept)]
        budget_s, spent_s = config.hooks.budget_s, began - since
        chosen, left = session.in_order(jobs, kept, max(budget_s - spent_s, _SOON_S) if budget_s else 0.0)
        for name, ends_at_s in left.items():
            idle.append(
                Report(CheckName(name), None, idle=lines.LEFT, reason=text.left_to_the_gate(spent_s + ends_at_s, budget_s))
            )
        reports = []
        by_name = {check.name: check for check in question.checks}
        for report in chain(idle, session.reports(chosen, kept)):
            if report.fixes:
                paths = [fix.path for fix in report.fixes]
                report = report._replace(reason=text.would_mend_there(by_name[report.check], paths))
            printer.tell(report)
            reports.append(report)
        if session.has_run:
            session.tidy(config.hooks.cache_age_s, config.hooks.cache_size_bytes, config.hooks.pool_size_bytes)
    for line in session.warnings():
        text.warn(f"gate: {line}")
    printer.finish(reports, time.monotonic() - began)
    return reports
