"""Run the participant level: plan, work, tell, and leave a record of the run."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bids_app import __version__
from bids_app.errors import MissingResource, NoUsableData
from bids_app.execution.batch import slurm_number
from bids_app.execution.local import StoppedBySignal, describe, run_jobs, stop_on_signals
from bids_app.execution.notes import Notes
from bids_app.files import write_json
from bids_app.follow_up import compare_sessions
from bids_app.options import Options
from bids_app.planning import Plan, plan_run
from bids_app.records import Job, Outcome
from bids_app.reporting import write_reports
from bids_app.resources import machine_memory_bytes
from bids_app.root import set_up
from bids_app.sessions import do_sessions
from bids_app.terminal.progress import RunProgress
from bids_app.terminal.tables import attention_table, totals_table
from bids_app.worker import Worker

log = logging.getLogger("bids_app")

_LEAST_MEMORY = 500 << 20


@dataclass
class Record:
    """What ``logs/run-<id>_summary.json`` will say; written whatever happens."""

    options: Options
    identifier: str
    start: float = field(default_factory=time.monotonic)
    outcomes: list[Outcome] = field(default_factory=list)
    comparisons: list[Outcome] = field(default_factory=list)
    stopped: str | None = None

    @property
    def folder(self) -> Path:
        """Where records of runs and their logs are."""
        return self.options.out_dir / "logs"

    def write(self, exit_code: int | None) -> None:
        """Write what is known by now; without an exit code while the run goes on."""
        units = [
            {
                "unit": outcome.identifier,
                "status": outcome.status,
                "seconds": round(outcome.seconds, 2),
                "lesions": outcome.lesions,
                "warnings": list(outcome.warnings),
                "error": outcome.error,
            }
            for outcome in (*self.outcomes, *self.comparisons)
        ]
        document = {
            "version": __version__,
            "level": self.options.level,
            "exit_code": exit_code,
            "stopped": self.stopped,
            "seconds": round(time.monotonic() - self.start, 2),
            "units": units,
        }
        write_json(self.folder / f"run-{self.identifier}_summary.json", document)


def run_participant(options: Options) -> int:
    """Process the selected sessions; a dry run is `bids_app.dry_run`'s and never comes here.

    Returns
    -------
    int
        0, or 1 when a session failed; 128 + n after signal n.

    Raises
    ------
    CordLesionError
        When nothing can be done at all: unknown labels, no usable data, no model.
    """
    if options.reports_only:
        return _run_reports(options)
    _check_memory(machine_memory_bytes(os.environ))
    plan = plan_run(options)
    if not plan.jobs:
        reasons = " ".join(str(error) for _, error in plan.unusable[:5])
        raise NoUsableData(f"No session of the selection can be processed. {reasons}")
    notes = options.batch.notes if options.batch else None
    with stop_on_signals():
        return carry_out(options, plan, Notes(notes, slurm_number(os.environ)) if notes else None)


def _check_memory(allowed: int) -> None:
    """Refuse a limit under which libraries fail while they are loaded, some by never ending."""
    if allowed < _LEAST_MEMORY:
        raise MissingResource(
            f"This process may use {allowed >> 20} MB of memory, and loading the libraries alone "
            f"takes {_LEAST_MEMORY >> 20} MB. Raise the limit (ulimit, container or cluster job)."
        )


def carry_out(
    options: Options, plan: Plan, notes: Notes | None = None, command: str | None = None
) -> int:
    """Do what was planned, session by session, and leave a record of the run.

    Parameters
    ----------
    options : Options
    plan : Plan
    notes : Notes, optional
        Told when a session begins and how it ends, for whoever watches from outside.
    command : str, optional
        What the sidecars name as the command; that of this process by default.

    Returns
    -------
    int
        0, or 1 when a session failed.
    """
    set_up(options)
    total = len(plan.jobs) + len(plan.unusable)
    with recording(options) as record, RunProgress(total) as progress:
        _remark_on_labels(plan)
        for session, error in plan.unusable:
            _tell(progress, record, Outcome(session.identifier, "failed", error=describe(error)), 0)
        worker = Worker(options, plan.preset, plan.manifest, plan.template, command)
        if not (options.stop_on_first_crash and plan.unusable):
            # Closed at once when the run is stopped: no process must outlive it.
            with closing(_outcomes(plan.jobs, worker, notes, progress)) as outcomes:
                for outcome in outcomes:
                    _tell(progress, record, outcome, total)
                    if notes:
                        # A cluster may kill this at the next session: what is known is kept.
                        record.write(None)
                        notes.outcome(outcome)
        failed = [one.identifier for one in record.outcomes if one.status == "failed"]
        if options.outputs == "minimal":
            log.info("Sessions are not compared over time: --outputs minimal keeps no instances.")
        elif not (options.stop_on_first_crash and failed):
            subjects = dict.fromkeys(session.subject for session in plan.sessions)
            for outcome in compare_sessions(options, plan.preset, subjects, failed):
                record.comparisons.append(outcome)
                _print(progress, outcome)
    return _finish(progress, record)


def _outcomes(
    jobs: Sequence[Job], worker: Worker, notes: Notes | None, progress: RunProgress
) -> Generator[Outcome, None, None]:
    """Do the sessions; notes are of one at a time, so with notes one at a time is done."""
    if notes:
        crash = worker.options.stop_on_first_crash
        yield from run_jobs(jobs, notes.announcing(worker), crash)
    else:
        yield from do_sessions(jobs, worker, progress.at_once)


def _remark_on_labels(plan: Plan) -> None:
    """Say once what follows from there being no disc labels, or no template."""
    labelled = sum(job.discs is not None for job in plan.jobs)
    if labelled < len(plan.jobs):
        log.info(
            "Disc labels for %d of %d sessions (--derivatives); vertebral levels of the others "
            "are n/a.",
            *(labelled, len(plan.jobs)),
        )
    if labelled and plan.template is None:
        log.info(
            "No usable template (cordlesion templates install PAM50 SOURCE): tissue fractions "
            "are n/a."
        )


def record_failures(options: Options, failures: Sequence[Outcome]) -> None:
    """Leave a record of sessions that failed without a run of their own to say so."""
    if failures:
        with recording(options) as record:
            record.outcomes += failures
            record.write(1)


def _run_reports(options: Options) -> int:
    """Write the reports again from the derivatives."""
    failed = 0
    count = 0
    for identifier, error in write_reports(options):
        count += 1
        failed += error is not None
        print(f"{identifier}: {'report written' if error is None else error}")
    print(f"Reports: {count - failed} written, {failed} failed. Results: {options.out_dir}")
    return 1 if failed else 0


@contextmanager
def recording(options: Options) -> Iterator[Record]:
    """Keep a log file and a record of the run; the record is written even after a signal."""
    # Many jobs start in the same second, in containers with the same process number.
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    record = Record(options, f"{stamp}-{uuid.uuid4().hex[:8]}")
    record.folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(record.folder / f"run-{record.identifier}.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield record
    except StoppedBySignal as stop:
        record.stopped = str(stop)
        record.write(stop.exit_code)
        print(
            f"Stopped by {stop}. Finished sessions are kept; the same command goes on from here.",
            file=sys.stderr,
        )
        raise SystemExit(stop.exit_code) from None
    except SystemExit:
        # The task makes way: it was checkpointed and queued again.
        record.stopped = "queued again"
        record.write(143)
        raise
    except BaseException:
        record.write(70)
        raise
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        handler.close()


def _tell(progress: RunProgress, record: Record, outcome: Outcome, total: int) -> None:
    """Note an outcome and print one line about it."""
    record.outcomes.append(outcome)
    progress.ended(outcome)
    _print(progress, outcome, f"[{len(record.outcomes)}/{total}] " if total else "")


def _print(progress: RunProgress, outcome: Outcome, place: str = "") -> None:
    """Print one line about an outcome, and log it."""
    line = f"{place}{outcome.identifier}: {outcome.status}"
    if outcome.lesions is not None:
        line += f", {outcome.lesions} lesion{'' if outcome.lesions == 1 else 's'}"
    if outcome.status == "done":
        line += f", {outcome.seconds:.1f} s"
    line += "".join(f"; warning: {warning}" for warning in outcome.warnings)
    line += f". {outcome.error}" if outcome.error else ""
    progress.line(line)
    log.info("%s", line, extra={"told": True})


def _finish(progress: RunProgress, record: Record) -> int:
    """Print what became of the run, write the record, and give the exit code."""
    count = {
        status: sum(outcome.status == status for outcome in record.outcomes)
        for status in ("done", "up-to-date", "failed")
    }
    # Comparing sessions is no session of its own, but a failure of it is a failure.
    count["failed"] += sum(outcome.status == "failed" for outcome in record.comparisons)
    code = 1 if count["failed"] else 0
    record.write(code)
    if progress.live:
        attention = attention_table((*record.outcomes, *record.comparisons))
        for table in (totals_table(record.outcomes), attention):
            if table is not None:
                progress.console.print(table)
    progress.line(
        f"Participant: {count['done']} done, {count['up-to-date']} already up to date, "
        f"{count['failed']} failed in {time.monotonic() - record.start:.1f} s. "
        f"Results: {record.options.out_dir}"
    )
    return code
