"""Hand batches of sessions to Slurm through submitit; what a batch does is passed in.

Slurm keeps the order, the memory, the logs and the state of each task; nothing of ours stays
running. Sessions are skipped by content when they are done, so a batch can start again any time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.errors import MissingResource, UsageError

if TYPE_CHECKING:
    import submitit

NAME = "cordlesion"
# Slurm warns this long before the end of the time limit, or a minute earlier at most.
WARNING_SECONDS = 90
# submitit counts time-outs; a batch that makes progress may have any number of them.
_ANY_NUMBER = 10**6
_DEFAULT_ARRAY_SIZE = 1001


@dataclass(frozen=True)
class Resources:
    """What one task asks Slurm for.

    Attributes
    ----------
    n_cpus, gpus : int
    memory_bytes : int
    minutes : int
        Time limit.
    partition, account : str or None
    setup : tuple of str
        Shell commands before the work, such as ``module load apptainer``.
    more : mapping
        Further options of sbatch by name, without dashes.
    warning_seconds : int
        How long before the time limit a task is told to make way.
    """

    n_cpus: int
    memory_bytes: int
    minutes: int
    gpus: int = 0
    partition: str | None = None
    account: str | None = None
    setup: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    warning_seconds: int = WARNING_SECONDS

    def parameters(self, after: Sequence[str], at_once: int) -> dict[str, Any]:
        """Give submitit's parameters.

        Parameters
        ----------
        after : sequence of str
            Jobs that must have ended, however they did.
        at_once : int
            Tasks of the array that may run at the same time.
        """
        # Since Slurm 22.05 srun does not take the cores of its job by itself.
        wanted: dict[str, Any] = {
            "job_name": NAME,
            "time": self.minutes,
            "mem": f"{-(-self.memory_bytes // 2**20)}M",
            "cpus_per_task": self.n_cpus,
            "srun_args": [f"--cpus-per-task={self.n_cpus}"],
            "signal_delay_s": self.warning_seconds,
            "array_parallelism": at_once,
            "wckey": None,
            "partition": self.partition,
            "account": self.account,
            "gpus_per_node": self.gpus or None,
            "setup": list(self.setup) or None,
            "dependency": f"afterany:{':'.join(after)}" if after else None,
            "additional_parameters": {"requeue": True, **self.more},
        }
        return {key: value for key, value in wanted.items() if value is not None}


def require_slurm() -> None:
    """Refuse to go on where jobs cannot be submitted.

    Raises
    ------
    MissingResource
    """
    try:
        import submitit  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingResource(
            "submitit, which hands jobs to Slurm, is not installed: "
            "pip install 'cordlesion[slurm]'."
        ) from error
    missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
    if missing:
        raise MissingResource(
            f"Slurm's {' and '.join(missing)} cannot be found here: submit from a machine of the "
            "cluster, or process the sessions on this one with 'cordlesion run'."
        )


def submit_arrays(
    folder: Path,
    tasks: Sequence[Callable[[], object]],
    resources: Resources,
    at_once: int,
    after: Sequence[str] = (),
    most: int | None = None,
) -> list[str]:
    """Submit tasks as an array, or as several behind one another where Slurm takes no more in one.

    Parameters
    ----------
    folder : Path
        On a disk that all nodes share; pickles and logs go there.
    tasks : sequence of callable
        Each can be pickled. One with a ``checkpoint`` method is asked for what is left to do when
        it has to make way, and is then queued again.
    resources : Resources
        Of each task.
    at_once : int
    after : sequence of str
        Jobs that must have ended.
    most : int, optional
        Tasks in one array; what Slurm's configuration says by default.

    Returns
    -------
    list of str
        Number of each task, such as ``123_0``; or ``123`` when there is just one in its array.

    Raises
    ------
    UsageError
        Slurm refused, in its own words.
    """
    most = most or largest_array()
    identifiers: list[str] = []
    before = list(after)
    for start in range(0, len(tasks), most):
        try:
            jobs = _submit(folder, tasks[start : start + most], resources, at_once, before)
        except UsageError:
            cancel(main_numbers(identifiers))
            raise
        identifiers += [job.job_id for job in jobs]
        before = [main_number(jobs[0].job_id)]
    return identifiers


def cancel(numbers: Sequence[str]) -> None:
    """Take jobs back, as far as Slurm can be asked to."""
    if numbers:
        command = ["scancel", *numbers]
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=60)  # noqa: S603


def main_number(identifier: str) -> str:
    """Give the number of a task's array.

    Examples
    --------
    >>> main_number("123_4"), main_number("123")
    ('123', '123')
    """
    return identifier.partition("_")[0]


def main_numbers(identifiers: Sequence[str]) -> list[str]:
    """Give the numbers of all arrays that tasks belong to, each once."""
    return list(dict.fromkeys(main_number(one) for one in identifiers))


def largest_array() -> int:
    """Ask Slurm how many tasks one array may have."""
    try:
        said = subprocess.run(
            ["scontrol", "show", "config"],  # noqa: S607 - the cluster's own, from PATH
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    # An index must be smaller than MaxArraySize.
    return max(1, (int(match[1]) if match else _DEFAULT_ARRAY_SIZE) - 1)


def _submit(
    folder: Path,
    tasks: Sequence[Callable[[], object]],
    resources: Resources,
    at_once: int,
    after: Sequence[str],
) -> list[submitit.Job[Any]]:
    import submitit

    with _outside_any_job():
        executor = submitit.SlurmExecutor(folder, max_num_timeout=_ANY_NUMBER)
        executor.update_parameters(**resources.parameters(after, at_once))
        try:
            with executor.batch():
                return [executor.submit(task) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            words = " ".join(str(error).split())
            raise UsageError(f"Slurm refused the job: {words}") from error


@contextmanager
def _outside_any_job() -> Iterator[None]:
    """Hide the variables of the job that this may run in: sbatch would take them for options.

    submitit calls sbatch with this process's environment and leaves no other way.
    """
    prefixes = ("SLURM_", "SRUN_", "SUBMITIT_")
    names = [name for name in os.environ if name.startswith(prefixes) and name != "SLURM_CONF"]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
