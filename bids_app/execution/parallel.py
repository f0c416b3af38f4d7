"""Run several sessions at the same time, each in a process of its own.

Only what is small crosses between processes: a job goes out; an outcome comes back, and with it
what was logged meanwhile.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from logging.handlers import QueueHandler
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from threadpoolctl import ThreadpoolController

from bids_app.errors import MissingResource
from bids_app.execution.local import StoppedBySignal, run_jobs, signals_to, stop_on_signals
from bids_app.records import Job, Outcome

log = logging.getLogger(__name__)

# Loggers whose levels hold in the processes too; those of ours have no others.
_LEVELLED = ("", "bids_app")
# How often a process looks whether the one that started it is still there.
_LOOK_SECONDS = 1.0
# How long a process that is stopped may take to remove what it has half written.
_GRACE_SECONDS = 2.0


def run_at_once(
    jobs: Sequence[Job],
    work: Callable[[Job], Outcome],
    alone: Callable[[Job], Outcome],
    processes: int,
    threads: int = 1,
    stop_on_first_crash: bool = False,
) -> Iterator[Outcome]:
    """Run jobs in several processes and yield each outcome as soon as it is known.

    When a process is killed from outside, as the kernel does where memory is short, the jobs
    that have not ended are run one after the other in this process.

    Parameters
    ----------
    jobs : sequence of Job
    work : callable
        Processes one job; what it raises becomes a failed outcome. Each process gets a pickled
        copy of it once.
    alone : callable
        Does the same in this process, where it may have all threads.
    processes : int
        At least 1.
    threads : int
        What the libraries of each process may use.
    stop_on_first_crash : bool
        Start nothing more after a failure; what runs then comes to its end.

    Yields
    ------
    Outcome
        In the order in which jobs end.

    Raises
    ------
    MissingResource
        The model or a template is not there: true for every job, so the run ends.
    """
    tasks = _Tasks(deque(jobs), pickle.dumps(work), threads, stop_on_first_crash)
    yield from _in_processes(tasks, processes)
    if tasks.lost and not tasks.over:
        log.warning(
            "A process was killed or could not be started, most likely for want of memory: "
            "%d sessions are done one after the other now. With less --mem or fewer --n-cpus "
            "fewer are done at once.",
            len(tasks.lost),
        )
        yield from run_jobs(tasks.lost, alone, stop_on_first_crash)


@dataclass(frozen=True)
class _Back:
    """What comes back for a job: its outcome, or what ends the run; neither when it was stopped."""

    outcome: Outcome | None
    records: tuple[Mapping[str, Any], ...]
    missing: MissingResource | None = None


@dataclass
class _Tasks:
    """Jobs by where they are: waiting, with a process, or lost with the process that had them."""

    waiting: deque[Job]
    work: bytes
    threads: int
    stop_on_first_crash: bool
    flying: dict[Future[_Back], Job] = field(default_factory=dict)
    lost: list[Job] = field(default_factory=list)
    over: bool = False

    def note(self, outcome: Outcome) -> None:
        """Start nothing more after a failure, where that is wanted."""
        if self.stop_on_first_crash and outcome.status == "failed":
            self.over = True
            self.waiting.clear()

    def lose_all(self) -> None:
        """Take all that has not ended as lost."""
        self.lost += [*self.flying.values(), *self.waiting]
        self.flying.clear()
        self.waiting.clear()


def _in_processes(tasks: _Tasks, processes: int) -> Iterator[Outcome]:
    """Run what waits, and yield outcomes; what cannot be run so is in ``tasks.lost`` then."""
    try:
        pool = _new_pool(processes)
    except (OSError, NotImplementedError):  # a container may have no semaphores
        log.info("No processes can be started", exc_info=True)
        tasks.lose_all()
        return
    before = set(multiprocessing.active_children())
    try:
        while tasks.waiting or tasks.flying:
            yield from _next_ended(tasks, pool, processes)
    finally:
        with _signals_wait():
            _stop(pool, tasks, set(multiprocessing.active_children()) - before)


def _next_ended(tasks: _Tasks, pool: ProcessPoolExecutor, processes: int) -> Iterator[Outcome]:
    """Keep all processes at work, wait until jobs end, and yield their outcomes.

    No more is handed out than can be begun at once: nothing has to be called back after a failure.
    """
    try:
        while tasks.waiting and len(tasks.flying) < processes:
            with _no_interrupts():
                future = pool.submit(_do, tasks.work, tasks.threads, tasks.waiting[0])
            tasks.flying[future] = tasks.waiting.popleft()
    except (BrokenProcessPool, OSError):
        log.info("A process cannot be used", exc_info=True)
        tasks.lose_all()
        return
    for future in wait(tasks.flying, return_when=FIRST_COMPLETED).done:
        job = tasks.flying.pop(future)
        try:
            back = future.result()
        except BrokenProcessPool:
            log.info("%s: its process, or one beside it, ended", job.session.identifier)
            tasks.lost.append(job)
            continue
        for attributes in back.records:
            record = logging.makeLogRecord(dict(attributes))
            logging.getLogger(record.name).handle(record)
        if back.missing is not None:
            raise back.missing
        if back.outcome is None:
            tasks.lost.append(job)
        else:
            tasks.note(back.outcome)
            yield back.outcome


def _new_pool(processes: int) -> ProcessPoolExecutor:
    """Prepare a pool; its processes start with the first jobs."""
    # Started later, it would let interrupts through to the processes, see `_no_interrupts`.
    resource_tracker.ensure_running()
    levels = {name: logging.getLogger(name).level for name in _LEVELLED}
    # Spawned processes start small; forked ones would share locks of whatever threads run here.
    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(), levels, gc.get_threshold()),
    )


def _stop(pool: ProcessPoolExecutor, tasks: _Tasks, children: set[BaseProcess]) -> None:
    """End all processes; those at work may clean up for a moment."""
    if tasks.flying:
        for child in children:
            child.terminate()
        wait(tasks.flying, _GRACE_SECONDS)
    for child in children:
        child.kill()
    pool.shutdown()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let what is started in the block be deaf to SIGINT.

    A terminal sends it to all its processes, and this one alone is to decide what follows.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Keep SIGINT and SIGTERM until the block has ended: an impatient one must leave nothing."""
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with signals_to(keep):
        yield
    if came:
        signal.raise_signal(came[0])


def _begin(parent: int, levels: Mapping[str, int], thresholds: tuple[int, int, int]) -> None:
    """Prepare a process: it logs and collects garbage as its parent does, and ends with it."""
    # While a job runs SIGTERM stops that job; an idle process waits to be ended by its parent.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    gc.set_threshold(*thresholds)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, were it by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _do(packed: bytes, threads: int, job: Job) -> _Back:
    """Run one job in this process, one of several."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(records)
    logging.getLogger().addHandler(handler)
    outcome, missing = None, None
    try:
        with stop_on_signals():
            (outcome,) = run_jobs([job], _unpacked(packed, threads))
    except MissingResource as error:
        missing = error
    except StoppedBySignal:
        log.info("%s was stopped", job.session.identifier)
    finally:
        logging.getLogger().removeHandler(handler)
    taken = [records.get() for _ in range(records.qsize())]
    return _Back(outcome, tuple(_plain(record) for record in taken), missing)


@cache
def _unpacked(packed: bytes, threads: int) -> Callable[[Job], Outcome]:
    """Unpack the work at its first job, and keep it with what it has loaded.

    The libraries that came with it, NumPy's and SciPy's, then use no more threads than `threads`.
    """
    work: Callable[[Job], Outcome] = pickle.loads(packed)  # noqa: S301 - from our own parent
    for library in ThreadpoolController().lib_controllers:
        library.set_num_threads(min(threads, library.num_threads))
    return work


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    """Give a record's attributes without those that might not be picklable."""
    return {
        name: value
        for name, value in vars(record).items()
        if value is None or isinstance(value, str | int | float)
    }
