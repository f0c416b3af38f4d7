"""Run sessions one after the other in this process; one failure never stops the others."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from bids_app.errors import CordLesionError, MissingResource, output_refused
from bids_app.records import Job, Outcome

log = logging.getLogger(__name__)


class StoppedBySignal(BaseException):
    """SIGINT or SIGTERM arrived; like KeyboardInterrupt, no ordinary handler swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a function hear of SIGINT and SIGTERM while the block runs."""
    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `StoppedBySignal` while the block runs."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise StoppedBySignal(number)

    with signals_to(stop):
        yield


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Outcome],
    stop_on_first_crash: bool = False,
) -> Iterator[Outcome]:
    """Run each job and yield its outcome as soon as it is known.

    Parameters
    ----------
    jobs : sequence of Job
    work : callable
        Processes one job; what it raises becomes a failed outcome.
    stop_on_first_crash : bool
        Start nothing more after a failure.

    Yields
    ------
    Outcome

    Raises
    ------
    MissingResource
        The model or a template is not there: true for every job, so the run ends.
    """
    for job in jobs:
        outcome = _run_one(job, work)
        yield outcome
        if stop_on_first_crash and outcome.status == "failed":
            return


def _run_one(job: Job, work: Callable[[Job], Outcome]) -> Outcome:
    return guarded(job.session.identifier, lambda: work(job))


def guarded(identifier: str, work: Callable[[], Outcome]) -> Outcome:
    """Do one unit's work and time it; what it raises becomes a failed outcome.

    Raises
    ------
    MissingResource
        True for every unit.
    """
    start = time.monotonic()
    try:
        outcome = work()
    except MissingResource:
        raise
    except CordLesionError as error:
        log.info("%s failed", identifier, exc_info=True)
        return Outcome(identifier, "failed", None, time.monotonic() - start, describe(error))
    except Exception as error:
        log.info("%s failed", identifier, exc_info=True)
        return Outcome(identifier, "failed", None, time.monotonic() - start, _explain(error))
    return replace(outcome, seconds=time.monotonic() - start, error=None)


def _explain(error: Exception) -> str:
    """Say what happened where no stage has said it: memory, the disk, or a fault of ours."""
    # PyTorch's allocators raise a RuntimeError, not a MemoryError.
    memory = "alloc" in str(error) and "memory" in str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and memory):
        return (
            "OutOfMemory: this session needs more memory than there is. Give the run more, then "
            "run again: what is done is kept."
        )
    refused = output_refused(error) if isinstance(error, OSError) else None
    if refused is not None:
        return describe(refused)
    return f"{type(error).__name__}: {error} (unexpected; the log file has the details)"


def describe(error: CordLesionError) -> str:
    """Say what an error says, its family first.

    Examples
    --------
    >>> describe(CordLesionError("broken"))
    'CordLesionError: broken'
    """
    return f"{type(error).__name__}: {error}"
