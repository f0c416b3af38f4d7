"""Work for processes that is no work: what `bids_app.execution.parallel` is tried with."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_info

from bids_app.errors import MissingResource
from bids_app.execution.local import StoppedBySignal, stop_on_signals
from bids_app.execution.parallel import run_at_once
from bids_app.records import Job, Outcome, Scan, Session

log = logging.getLogger("bids_app.crews")


def job(label: str) -> Job:
    return Job(Session(label, None), Scan(Path(f"{label}.nii.gz"), {}, "T2w"), None, {})


@dataclass(frozen=True)
class Work:
    """Do to each job what `fate` says of its subject; tell process and threads in the outcome."""

    folder: Path
    fate: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    home: int = field(default_factory=os.getpid)

    def __call__(self, job: Job) -> Outcome:
        label = job.session.subject
        log.debug("%s in detail", label, extra={"odd": self.__call__})
        (self.folder / f"{label}.pid").write_text(str(os.getpid()))
        fate = self.fate.get(label, "")
        if fate == "kill" and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "fail":
            raise ValueError("odd")
        if fate == "missing":
            raise MissingResource("no weights")
        try:
            time.sleep(self.seconds)
        finally:
            (self.folder / f"{label}.end").touch()
        threads = {str(library["num_threads"]) for library in threadpool_info()}
        return Outcome(job.session.identifier, "done", os.getpid(), warnings=tuple(threads))


def run_until_stopped(folder: Path) -> int:
    """Run four jobs, two at once, that take a minute each, until a signal comes."""
    jobs, work = [job(str(number)) for number in range(4)], Work(folder, seconds=60)
    try:
        with stop_on_signals():
            list(run_at_once(jobs, work, work, processes=2))
    except StoppedBySignal as stop:
        return stop.exit_code
    return 0
