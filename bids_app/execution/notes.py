"""Notes that a batch takes of its sessions, so that its fate can be told when it is killed.

One process writes one file, a line at a time: on a shared disk nothing else is safe without locks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bids_app.documents import parse_json
from bids_app.records import Job, Outcome

RUNNING = "running"


@dataclass(frozen=True)
class Note:
    """What was last noted of a session.

    Attributes
    ----------
    unit : str
        Identifier, ``sub-01_ses-M0``.
    status : str
        ``running``, ``done``, ``up-to-date`` or ``failed``.
    time : float
        Seconds since 1970, by the clock of the node.
    job : str
        Slurm's number of the job or array task.
    seconds : float
    error : str or None
    """

    unit: str
    status: str
    time: float
    job: str = ""
    seconds: float = 0.0
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Tell whether the session came to an end, a failure included."""
        return self.status != RUNNING


class Notes:
    """A file of notes.

    Parameters
    ----------
    path : Path
        Made with the first note.
    job : str
        Slurm's number of the job that writes.
    """

    def __init__(self, path: Path, job: str = "") -> None:
        self.path, self.job = path, job

    def write(self, unit: str, status: str, seconds: float = 0.0, error: str | None = None) -> None:
        """Add a note; it is on the disk when this returns."""
        note = Note(unit, status, time.time(), self.job, round(seconds, 2), error)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A process that was killed may have left half a line: begin a new one.
        start = "" if _ends_whole(self.path) else "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{start}{json.dumps(asdict(note), ensure_ascii=False)}\n")

    def outcome(self, outcome: Outcome) -> None:
        """Note how a session ended."""
        self.write(outcome.identifier, outcome.status, outcome.seconds, outcome.error)

    def announcing(self, work: Callable[[Job], Outcome]) -> Callable[[Job], Outcome]:
        """Give `work` with a note before it begins."""

        def noted(job: Job) -> Outcome:
            self.write(job.session.identifier, RUNNING)
            return work(job)

        return noted

    def read(self) -> list[Note]:
        """Give all notes in their order; a line that is not whole is passed over."""
        try:
            lines = self.path.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [note for line in lines if (note := _parse(line)) is not None]


def newest(notes: Iterable[Note]) -> dict[str, Note]:
    """Give the newest note of each session; of equally new ones the later in order."""
    found: dict[str, Note] = {}
    for note in notes:
        if note.unit not in found or note.time >= found[note.unit].time:
            found[note.unit] = note
    return found


def _parse(line: str) -> Note | None:
    try:
        return Note(**parse_json(line))
    except (ValueError, TypeError):
        return None


def _ends_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"
    except OSError:  # not there, or empty
        return True
