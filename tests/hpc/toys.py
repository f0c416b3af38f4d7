"""Work that takes known time, for what Slurm and we do about time: no images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bids_app.execution.notes import Notes
from bids_app.records import Job, Scan, Session

ENDLESS = 10_000


def job(name: str, seconds: int) -> Job:
    """Give a session that takes so many seconds."""
    return Job(Session(f"{name}{seconds}", None), Scan(Path("none"), {}, "T2w"), None, {})


def sleep(jobs: Sequence[Job], notes: Notes) -> None:
    """Sleep through the sessions as a batch does its work."""
    for one in jobs:
        unit = one.session.identifier
        notes.write(unit, "running")
        time.sleep(int("".join(filter(str.isdigit, unit))))
        notes.write(unit, "done")
