"""A batch of sessions as one task of Slurm's: it goes on where it was stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app.execution.notes import RUNNING, Note, Notes, newest
from bids_app.records import Job

if TYPE_CHECKING:
    import submitit

Work = Callable[[Sequence[Job], Notes], None]
# Slurm's clock is coarse: it may warn up to a minute early.
_SLACK_SECONDS = 60


class BatchFailed(Exception):
    """Sessions of the batch failed; raised at its end, so that Slurm's state is true."""


@dataclass
class Batch:
    """Sessions that one task does one after the other.

    Attributes
    ----------
    jobs : tuple of Job
        Those that are left to do.
    work : callable
        Does jobs and takes notes; knows the science. A failed session is noted, not raised.
    notes : Path
        This batch's own file.
    limit_seconds, warning_seconds : int
        Time limit of the task, and how long before it Slurm warns.
    failed : int
        Sessions that failed before the batch was queued again.
    """

    jobs: tuple[Job, ...]
    work: Work
    notes: Path
    limit_seconds: int
    warning_seconds: int
    failed: int = 0
    _start: float = field(default=0.0, repr=False)

    def __call__(self) -> str:
        """Do what is left.

        Returns
        -------
        str
            What was done, for submitit's result.

        Raises
        ------
        BatchFailed
        """
        self._start = time.time()
        if self.jobs:
            self.work(self.jobs, Notes(self.notes, slurm_number(os.environ)))
        failures = self.failed + sum(
            note.status == "failed" for note in self._since_start().values()
        )
        if failures:
            raise BatchFailed(
                f"{failures} of the sessions of this batch failed; see the log above."
            )
        return f"{len(self.jobs)} sessions done"

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Say what is left to do when the task must make way (preemption, time limit).

        A session that was not through with the whole time limit to itself never will be: it is
        noted as failed, so that the batch cannot go round for ever.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self.left(time.time()))

    def left(self, now: float) -> Batch:
        """Give the batch without the sessions that came to an end; `now` in seconds since 1970."""
        notes = self._since_start()
        ended = {unit for unit, note in notes.items() if note.finished}
        failed = self.failed + sum(note.status == "failed" for note in notes.values())
        running = [unit for unit, note in notes.items() if note.status == RUNNING]
        if not ended and running and self._timed_out(now):
            message = (
                f"TimeLimit: not through within {self.limit_seconds // 60} min, which it had to "
                "itself; submit again with a longer --time."
            )
            seconds = now - self._start
            Notes(self.notes, slurm_number(os.environ)).write(
                running[0], "failed", seconds, message
            )
            ended.add(running[0])
            failed += 1
        left = tuple(job for job in self.jobs if job.session.identifier not in ended)
        return replace(self, jobs=left, failed=failed, _start=0.0)

    def _timed_out(self, now: float) -> bool:
        spent = now - self._start
        return spent >= self.limit_seconds - self.warning_seconds - _SLACK_SECONDS

    def _since_start(self) -> Mapping[str, Note]:
        mine = {job.session.identifier for job in self.jobs}
        notes = (note for note in Notes(self.notes).read() if note.time >= self._start)
        return newest(note for note in notes if note.unit in mine)


def slurm_number(environ: Mapping[str, str]) -> str:
    """Give the number of the job or array task that this runs in; empty outside Slurm.

    Examples
    --------
    >>> slurm_number({"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"})
    '12_3'
    >>> slurm_number({"SLURM_JOB_ID": "9"}), slurm_number({})
    ('9', '')
    """
    array = environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environ['SLURM_ARRAY_TASK_ID']}" if array else environ.get("SLURM_JOB_ID", "")


def pack(jobs: Sequence[Job], size: int) -> list[tuple[Job, ...]]:
    """Put jobs into batches of at most `size`; a subject is split only where it must be.

    Sessions of a subject are compared once they are done, best by the job that did them all.

    Parameters
    ----------
    jobs : sequence of Job
        In the order of subjects.
    size : int
        At least 1.
    """
    subjects: dict[str, list[Job]] = {}
    for job in jobs:
        subjects.setdefault(job.session.subject, []).append(job)
    batches: list[list[Job]] = [[]]
    for own in subjects.values():
        pieces = [own[start : start + size] for start in range(0, len(own), size)]
        for piece in pieces:
            if len(batches[-1]) + len(piece) > size:
                batches.append([])
            batches[-1] += piece
    return [tuple(batch) for batch in batches if batch]
