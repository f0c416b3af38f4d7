"""Do the sessions of a run: several at the same time where that is sooner, and there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bids_app.execution.local import run_jobs
from bids_app.execution.parallel import run_at_once
from bids_app.gpus import ask_gpus, may_use_gpu, sessions_on_gpu
from bids_app.records import Job, Outcome
from bids_app.resources import sessions_at_once
from bids_app.segmentation.manifest import find_model
from bids_app.worker import Worker

# CUDA's libraries may take as much of the machine's own memory as a session does. Not measured.
_TIMES_MEMORY_WITH_CUDA = 2


def do_sessions(
    jobs: Sequence[Job], worker: Worker, at_once: Callable[[int], None]
) -> Iterator[Outcome]:
    """Do each session and yield its outcome as soon as it is known.

    Sessions share a GPU, where it has room: most of a session's time is beside the network.

    Parameters
    ----------
    jobs : sequence of Job
    worker : Worker
        Its options say what may be used.
    at_once : callable
        Told the number of sessions that are done at the same time from now on, where it is more
        than one.

    Yields
    ------
    Outcome
        In the order of `jobs`; where several are done at once, those that were up to date come
        first, then the others as they end.

    Raises
    ------
    MissingResource
        The model or a template is not there.
    """
    options = worker.options
    crash = options.stop_on_first_crash
    weights_bytes = _weights_bytes(worker)

    def processes(number: int) -> int:
        on_gpu = may_use_gpu(options.device)
        memory_bytes = options.memory_bytes // (_TIMES_MEMORY_WITH_CUDA if on_gpu else 1)
        most = sessions_at_once(number, options.n_cpus, memory_bytes, weights_bytes)
        return min(most, sessions_on_gpu(ask_gpus())) if on_gpu and most > 1 else most

    if processes(len(jobs)) == 1:
        yield from run_jobs(jobs, worker, crash)
        return
    left = []
    for job in jobs:
        if _is_done(worker, job):
            yield from run_jobs([job], worker)
        else:
            left.append(job)
    number = processes(len(left))
    if number == 1:
        yield from run_jobs(left, worker, crash)
        return
    at_once(number)
    threads = max(1, options.n_cpus // number)
    yield from run_at_once(left, worker.with_cpus(threads), worker, number, threads, crash)


def _weights_bytes(worker: Worker) -> int:
    """Give the size of the model's files; what is missing is missed when it is loaded."""
    folder = find_model(worker.options.model)
    files = (folder / name for name in worker.manifest.weights)
    return sum(file.stat().st_size for file in files if file.is_file())


def _is_done(worker: Worker, job: Job) -> bool:
    """Tell whether a session is up to date; one that cannot be looked at fails when it is done."""
    try:
        return worker.inputs.is_done(job)
    except OSError:
        return False
