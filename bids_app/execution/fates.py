"""What became of each session that was submitted: notes, Slurm's states and the disk together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bids_app.execution.notes import Note, Notes, newest
from bids_app.execution.queue import RUNNING, Queue, died_of_memory, log_paths
from bids_app.execution.submission import Submission, Task

STATUSES = ("done", "failed", "out of memory", "running", "pending", "missing")


@dataclass(frozen=True)
class Fate:
    """What became of a session.

    Attributes
    ----------
    unit : str
    status : str
        One of `STATUSES`.
    reason : str
        Why it is not done.
    number : str
        Task that had it last.
    log : Path or None
        Where that task's errors are.
    died : bool
        It ended with its job, in the middle, and could not say so itself.
    """

    unit: str
    status: str
    reason: str = ""
    number: str = ""
    log: Path | None = None
    died: bool = False


def fates(submission: Submission, queue: Queue, out_dir: Path) -> dict[str, Fate]:
    """Tell what became of each session of a submission.

    Parameters
    ----------
    submission : Submission
    queue : Queue
        Asked before; the notes are read here, so that they are never older.
    out_dir : Path

    Returns
    -------
    dict of str to Fate
    """
    again = _notes_of_retries(submission)
    result = {unit: Fate(unit, "failed", why) for unit, why in submission.unusable.items()}
    result |= {unit: Fate(unit, "done") for unit in submission.up_to_date}
    waiting = any(queue.is_live(task.number) for task in submission.retries)
    for task in submission.tasks:
        own = newest(Notes(submission.notes_path(task.name)).read())
        died = _died_of_memory(submission, task, queue, own)
        for unit in task.sessions:
            fate = _fate(unit, own.get(unit), task, queue, died)
            fate = _after_retry(fate, again.get(unit), waiting and died, submission, queue)
            result[unit] = fate
    return {
        unit: _with_log(_sealed(fate, submission, out_dir), submission)
        for unit, fate in result.items()
    }


def _fate(unit: str, note: Note | None, task: Task, queue: Queue, died: bool) -> Fate:
    """Judge one session by its newest note and its task's state."""
    state = queue.state(task.number)
    if note is not None and note.status in ("done", "up-to-date"):
        return Fate(unit, "done", number=task.number)
    if note is not None and note.status == "failed":
        error = note.error or ""
        status = "out of memory" if error.startswith("OutOfMemory") else "failed"
        return Fate(unit, status, error, task.number)
    if not task.number:
        return Fate(unit, "missing", "Slurm was never given it")
    if queue.is_live(task.number):
        begun = note is not None and state in RUNNING
        reason = "" if begun or state not in RUNNING else "its job is at another session"
        return Fate(unit, "running" if begun else "pending", reason, task.number)
    if not queue.known:
        return Fate(unit, "pending", "Slurm cannot be asked here", task.number)
    if note is None:
        return Fate(unit, "missing", _why_not_begun(state, died), task.number)
    if died:
        reason = "Slurm ended it for its memory"
        return Fate(unit, "out of memory", reason, task.number, died=True)
    if state == "CANCELLED":
        return Fate(unit, "missing", "its job was cancelled", task.number)
    reason = f"its job ended in the middle of it ({state})"
    return Fate(unit, "failed", reason, task.number, died=True)


def _why_not_begun(state: str, died: bool) -> str:
    if died:
        return "its job ran out of memory at another session"
    # Slurm keeps no account of an array's task that was cancelled before it ran.
    known = "" if state == "UNKNOWN" else f" ({state})"
    return f"its job was cancelled or ended{known} before it began"


def _died_of_memory(
    submission: Submission, task: Task, queue: Queue, notes: Mapping[str, Note]
) -> bool:
    """Tell whether a task that left sessions undone was ended for its memory."""
    if queue.is_live(task.number) or not queue.known:
        return False
    finished = {unit for unit, note in notes.items() if note.finished}
    if finished.issuperset(task.sessions):
        return False
    return died_of_memory(submission.jobs_folder, task.number, queue)


def to_retry(submission: Submission, queue: Queue) -> dict[str, list[str]]:
    """Give the sessions that deserve another try with more memory, by the name of their task.

    Those that Slurm ended or that found no memory left, and those that their batch did not reach
    because of it. What tasks that try again have noted since does not count: they all see the same.
    """
    found: dict[str, list[str]] = {}
    for task in submission.tasks:
        notes = newest(Notes(submission.notes_path(task.name)).read())
        died = _died_of_memory(submission, task, queue, notes)
        again = [
            unit for unit in task.sessions
            if _fate(unit, notes.get(unit), task, queue, died).status == "out of memory"
            or (died and unit not in notes)
        ]  # fmt: skip
        if again:
            found[task.name] = again
    return found


def _notes_of_retries(submission: Submission) -> dict[str, tuple[Task, Note]]:
    owners: dict[str, tuple[Task, Note]] = {}
    for task in submission.retries:
        for unit, note in newest(Notes(submission.notes_path(task.name)).read()).items():
            if unit not in owners or note.time >= owners[unit][1].time:
                owners[unit] = task, note
    return owners


def _after_retry(
    fate: Fate,
    again: tuple[Task, Note] | None,
    waiting: bool,
    submission: Submission,
    queue: Queue,
) -> Fate:
    """Let the second try, where there is one, say the last word."""
    if again is not None:
        task, note = again
        alone = replace(task, sessions=(fate.unit,))
        died = not note.finished and _died_of_memory(submission, alone, queue, {})
        return _fate(fate.unit, note, task, queue, died)
    if waiting and fate.status in ("out of memory", "missing"):
        return Fate(fate.unit, "pending", "waits for another try with more memory", fate.number)
    return fate


def _sealed(fate: Fate, submission: Submission, out_dir: Path) -> Fate:
    """Believe the disk: done is what has its seal."""
    if fate.status == "done":
        seal = submission.seals.get(fate.unit)
        if seal and not (out_dir / seal).exists():
            return replace(fate, status="missing", reason="its results are gone")
    return fate


def _with_log(fate: Fate, submission: Submission) -> Fate:
    if fate.status in ("done", "pending", "running") or not fate.number:
        return fate
    return replace(fate, log=log_paths(submission.jobs_folder, fate.number)[1])


def all_fates(submissions: Iterable[Submission], queue: Queue, out_dir: Path) -> dict[str, Fate]:
    """Tell what became of each session over all submissions: the newest that has it counts.

    A session that a later submission found up to date is done; one that is still running in an
    earlier one is running.
    """
    result: dict[str, Fate] = {}
    for submission in submissions:
        for unit, fate in fates(submission, queue, out_dir).items():
            earlier = result.get(unit)
            if earlier and earlier.status == "running" and fate.status != "done":
                continue
            result[unit] = fate
    return result
