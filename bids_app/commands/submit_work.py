"""What the jobs of ``cordlesion submit`` do: sessions, a second try, the group level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app.app import carry_out, record_failures
from bids_app.commands.submit_container import Container, run
from bids_app.commands.submit_status import report
from bids_app.dataset.templates import TemplateFiles
from bids_app.errors import CordLesionError
from bids_app.execution.batch import Batch, Work
from bids_app.execution.fates import Fate, fates, to_retry
from bids_app.execution.notes import Notes
from bids_app.execution.queue import ask
from bids_app.execution.submission import Submission, read_submission
from bids_app.follow_up import compare_sessions
from bids_app.group_level import run_group
from bids_app.lesions.preset import Preset
from bids_app.options import Options
from bids_app.planning import Plan
from bids_app.records import Job, Outcome
from bids_app.segmentation.manifest import Manifest

if TYPE_CHECKING:
    import submitit

# The accounting lags behind the jobs that have just ended.
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class SessionsWork:
    """Do the sessions of a batch in this process."""

    options: Options
    preset: Preset
    manifest: Manifest
    template: TemplateFiles | None
    command: str

    def __call__(self, jobs: Sequence[Job], notes: Notes) -> None:
        """Do them one after the other; what becomes of each is noted."""
        plan = Plan(tuple(jobs), (), self.preset, self.manifest, self.template)
        carry_out(self.options, plan, notes, self.command)


@dataclass
class Retry:
    """Try again, with the memory of this task, what others ran out of memory at.

    Attributes
    ----------
    folder : Path
        Of the submission.
    index, count : int
        This task takes each `count`-th session.
    work : callable
    notes : Path
    limit_seconds, warning_seconds : int
    """

    folder: Path
    index: int
    count: int
    work: Work
    notes: Path
    limit_seconds: int
    warning_seconds: int
    _batch: Batch | None = field(default=None, repr=False)

    def __call__(self) -> str:
        """Find the sessions and do them; most often there are none."""
        submission = _submission(self.folder)
        numbers = [task.number for task in submission.tasks]
        wanted = to_retry(submission, ask(submission.numbers, numbers, _SETTLE_SECONDS))
        jobs = _planned(submission, wanted)[self.index :: self.count]
        if not jobs:
            return "no session ran out of memory"
        self._batch = Batch(
            *(tuple(jobs), self.work, self.notes, self.limit_seconds, self.warning_seconds)
        )
        return self._batch()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Say what is left to do, as a batch does."""
        from submitit.helpers import DelayedSubmission

        return self._batch.checkpoint() if self._batch else DelayedSubmission(self)


def _submission(folder: Path) -> Submission:
    submission = read_submission(folder)
    if submission is None:
        raise CordLesionError(f"{folder} does not say what was submitted; was it changed?")
    return submission


def _planned(submission: Submission, wanted: dict[str, list[str]]) -> list[Job]:
    """Get the planned jobs of sessions from the tasks that were given them."""
    from submitit.core.utils import DelayedSubmission

    jobs: list[Job] = []
    for task in submission.tasks:
        units = wanted.get(task.name)
        if units:
            path = submission.jobs_folder / f"{task.number}_submitted.pkl"
            batch = DelayedSubmission.load(path).function
            assert isinstance(batch, Batch)  # noqa: S101 - what submit has put there
            jobs += [job for job in batch.jobs if job.session.identifier in units]
    return jobs


@dataclass(frozen=True)
class GroupWork:
    """The group level, once all has ended: it records deaths, compares, counts, and reports.

    Attributes
    ----------
    folder : Path
        Of the submission.
    options : Options
    preset : Preset
    subjects : tuple of str
        Whose sessions were submitted.
    container : Container or None
    """

    folder: Path
    options: Options
    preset: Preset
    subjects: tuple[str, ...]
    container: Container | None = None

    def __call__(self) -> str:
        """Do it.

        Raises
        ------
        NoUsableData
            No session is done.
        """
        submission = _submission(self.folder)
        numbers = [task.number for task in (*submission.tasks, *submission.retries)]
        queue = ask(submission.numbers, numbers, _SETTLE_SECONDS)
        found = fates(submission, queue, self.options.out_dir)
        record_failures(self.options, _deaths(submission, found))
        print(report(found.values()), flush=True)
        if self.container:
            run(self.container.call(self.options, "group"))
            return "done"
        failed = [fate.unit for fate in found.values() if fate.status != "done"]
        if self.options.outputs != "minimal":
            # Where a batch died, nobody compared the sessions that it had done.
            for outcome in compare_sessions(self.options, self.preset, self.subjects, failed):
                if outcome.status != "up-to-date":
                    print(f"{outcome.identifier}: {outcome.status} {outcome.error or ''}".rstrip())
        run_group(self.options)
        return "done"

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Start over: it is all quick, or done already."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _deaths(submission: Submission, found: dict[str, Fate]) -> list[Outcome]:
    """Give the sessions that died with their job, and so could not say so themselves."""
    words = {
        "out of memory": f"OutOfMemory: Slurm ended it at {submission.memory}; submit again with "
        "more --mem, or with --retry-mem 2x.",
    }
    return [
        Outcome(fate.unit, "failed", error=words.get(fate.status, f"JobEnded: {fate.reason}."))
        for fate in found.values()
        if fate.died
    ]
