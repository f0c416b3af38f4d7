"""Hand the selected sessions to Slurm: sessions, second try, group level; all of it or nothing."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from bids_app.app import record_failures
from bids_app.commands.submit_container import ContainerWork
from bids_app.commands.submit_request import Request
from bids_app.commands.submit_selection import Selection, memory_text
from bids_app.commands.submit_status import submissions_folder
from bids_app.commands.submit_work import GroupWork, Retry, SessionsWork
from bids_app.dataset.derivatives import sidecar_path
from bids_app.errors import CordLesionError
from bids_app.execution.batch import Batch, Work
from bids_app.execution.local import describe
from bids_app.execution.slurm import cancel, submit_arrays
from bids_app.execution.submission import Submission, Task
from bids_app.files import write_json
from bids_app.options import Options
from bids_app.records import Outcome
from bids_app.root import set_up


def hand_over(options: Options, request: Request, selection: Selection, command: str) -> Submission:
    """Submit arrays and group job; the record is written after each, so that none is lost.

    When Slurm refuses one of them, the others are taken back: all or nothing is on its way.
    """
    submission = _new_submission(options, request, selection)
    submission.folder.mkdir(parents=True)
    set_up(options)
    failures = [
        Outcome(session.identifier, "failed", error=describe(error))
        for session, error in selection.plan.unusable
    ]
    record_failures(options, failures)
    submission.write(write_json)
    try:
        for stage in (_submit_sessions, _submit_retries, _submit_group):
            submission = stage(options, request, selection, submission, command)
            submission.write(write_json)
    except CordLesionError:
        cancel(submission.numbers)
        shutil.rmtree(submission.folder)
        raise
    return submission


def _submit_sessions(
    options: Options,
    request: Request,
    selection: Selection,
    submission: Submission,
    command: str,
) -> Submission:
    work = _work(options, request, selection, command)
    batches = [
        Batch(jobs, work, submission.notes_path(task.name), *_limits(request))
        for jobs, task in zip(selection.batches, submission.tasks, strict=True)
    ]
    numbers = submit_arrays(submission.jobs_folder, batches, request.resources, request.max_jobs)
    return replace(submission, tasks=_numbered(submission.tasks, numbers))


def _submit_retries(
    options: Options,
    request: Request,
    selection: Selection,
    submission: Submission,
    command: str,
) -> Submission:
    """Submit the second try behind the sessions, where one was asked for."""
    count = len(submission.retries)
    work = _work(options, request, selection, command)
    retries = [
        Retry(
            *(submission.folder, index, count, work, submission.notes_path(task.name)),
            *_limits(request),
        )
        for index, task in enumerate(submission.retries)
    ]
    numbers = submit_arrays(
        *(submission.jobs_folder, retries, request.more_memory, request.max_jobs),
        after=submission.numbers[-1:],
    )
    return replace(submission, retries=_numbered(submission.retries, numbers))


def _submit_group(
    options: Options,
    request: Request,
    selection: Selection,
    submission: Submission,
    _command: str,
) -> Submission:
    """Submit the group job behind the rest; it needs no GPU."""
    subjects = dict.fromkeys(job.session.subject for batch in selection.batches for job in batch)
    everyone = replace(options, level="group", participant_labels=(), session_labels=())
    preset = selection.plan.preset
    group = GroupWork(submission.folder, everyone, preset, tuple(subjects), request.container)
    resources = replace(request.resources, gpus=0)
    # Arrays follow one another: the last has ended when all have.
    after = submission.numbers[-1:]
    (number,) = submit_arrays(submission.jobs_folder, [group], resources, 1, after)
    return replace(submission, group=number)


def _limits(request: Request) -> tuple[int, int]:
    """Give a job's time limit and how long before it Slurm warns, in seconds."""
    return request.resources.minutes * 60, request.resources.warning_seconds


def _new_submission(options: Options, request: Request, selection: Selection) -> Submission:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    jobs = [job for batch in selection.batches for job in batch]
    tasks = tuple(
        Task(f"batch-{index:06d}", tuple(job.session.identifier for job in batch))
        for index, batch in enumerate(selection.batches)
    )
    retries = min(request.max_jobs, len(tasks)) if request.retry_factor else 0
    seals = {
        job.session.identifier: str(
            sidecar_path(job.outputs["lesion_mask"]).relative_to(options.out_dir)
        )
        for job in jobs
    }
    return Submission(
        submissions_folder(options.out_dir) / f"{stamp}-{uuid.uuid4().hex[:4]}",
        tasks,
        tuple(Task(f"retry-{index:06d}") for index in range(retries)),
        seals=seals,
        unusable={
            session.identifier: describe(error) for session, error in selection.plan.unusable
        },
        up_to_date=selection.done,
        memory=memory_text(request.resources.memory_bytes),
    )


def _work(options: Options, request: Request, selection: Selection, command: str) -> Work:
    if request.container:
        return ContainerWork(request.container, options)
    plan = selection.plan
    return SessionsWork(options, plan.preset, plan.manifest, plan.template, command)


def _numbered(tasks: Sequence[Task], numbers: Sequence[str]) -> tuple[Task, ...]:
    return tuple(replace(task, number=number) for task, number in zip(tasks, numbers, strict=True))
