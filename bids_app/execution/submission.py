"""The record of what was submitted.

``OUT_DIR/logs/slurm/<id>/`` holds ``submission.json``, ``notes/`` (what the tasks note) and
``jobs/`` (submitit's pickles and logs). Each file has one writer; JSON appears by rename.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bids_app.documents import parse_json
from bids_app.execution.slurm import main_numbers

RECORD = "submission.json"


@dataclass(frozen=True)
class Task:
    """One task of an array: its number once it is submitted, and its sessions.

    Attributes
    ----------
    name : str
        Of its file of notes.
    sessions : tuple of str
        Identifiers; empty for a task that tries again what ran out of memory.
    number : str
        Slurm's, such as ``123_0``.
    """

    name: str
    sessions: tuple[str, ...] = ()
    number: str = ""


@dataclass(frozen=True)
class Submission:
    """What was handed to Slurm at one time.

    Attributes
    ----------
    folder : Path
    tasks, retries : tuple of Task
        `retries` do what ran out of memory once more.
    group : str
        Number of the group job.
    seals : mapping
        By session, the file whose presence means that it is done, relative to OUT_DIR.
    unusable : mapping
        By session, why it was not submitted.
    up_to_date : tuple of str
        Sessions that were done before.
    memory : str
        Of a task, for messages.
    """

    folder: Path
    tasks: tuple[Task, ...]
    retries: tuple[Task, ...] = ()
    group: str = ""
    seals: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    up_to_date: tuple[str, ...] = ()
    memory: str = ""

    @property
    def jobs_folder(self) -> Path:
        """Where submitit keeps pickles and logs."""
        return self.folder / "jobs"

    @property
    def numbers(self) -> list[str]:
        """Give the main numbers of all arrays and the group job."""
        numbers = [task.number for task in (*self.tasks, *self.retries)]
        return [number for number in main_numbers([*numbers, self.group]) if number]

    def notes_path(self, name: str) -> Path:
        """Name a task's file of notes."""
        return self.folder / "notes" / f"{name}.jsonl"

    def write(self, write_json: Callable[[Path, Mapping[str, object]], None]) -> None:
        """Write the record; `write_json` must make it appear whole."""
        document = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(self.folder / RECORD, document)


def read_submissions(folder: Path) -> list[Submission]:
    """Read all submissions below ``OUT_DIR/logs/slurm``, the oldest first, without broken ones."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []
    found = (read_submission(folder / name) for name in names)
    return [submission for submission in found if submission is not None]


def read_submission(folder: Path) -> Submission | None:
    """Read one submission's record, None where it cannot be."""
    try:
        document = parse_json((folder / RECORD).read_bytes())
        for key in ("tasks", "retries"):
            document[key] = tuple(
                Task(task["name"], tuple(task["sessions"]), task["number"])
                for task in document[key]
            )
        document["up_to_date"] = tuple(document["up_to_date"])
        return Submission(folder=folder, **document)
    except (OSError, ValueError, KeyError, TypeError):
        return None
