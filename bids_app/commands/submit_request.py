"""What ``cordlesion submit`` was asked for, checked once."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bids_app.commands.submit_container import Container
from bids_app.errors import MissingResource, UsageError
from bids_app.execution.slurm import Resources
from bids_app.options import Options, options_from_arguments
from bids_app.places import absolute

_MINUTE = 60
# Slurm's clock is a minute coarse, and a job needs time to start before it can be warned.
_LEAST_MINUTES = 5
_OUR_OWN = {"array", "dependency", "output", "error", "time", "mem", "signal", "requeue"}


@dataclass(frozen=True)
class Request:
    """How sessions are to be handed to Slurm.

    Attributes
    ----------
    resources : Resources
        Of a job.
    sessions_per_job, max_jobs : int
        Size of a batch; jobs at the same time.
    retry_factor : float or None
        How much more memory a second try gets.
    container : Container or None
        That does the work, instead of this Python.
    """

    resources: Resources
    sessions_per_job: int
    max_jobs: int
    retry_factor: float | None = None
    container: Container | None = None

    @property
    def more_memory(self) -> Resources:
        """Give what the second try asks for."""
        more = int(self.resources.memory_bytes * (self.retry_factor or 1))
        return replace(self.resources, memory_bytes=more)


def read_request(namespace: argparse.Namespace) -> tuple[Options, Request]:
    """Check all that was asked for; nothing is written.

    Raises
    ------
    UsageError
    MissingResource
        There is no program that runs containers.
    """
    options = options_from_arguments(namespace)
    for name in ("sessions_per_job", "max_jobs"):
        if getattr(namespace, name) < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {getattr(namespace, name)} is too few: give 1 or more.")
    minutes = parse_minutes(namespace.time)
    if minutes < _LEAST_MINUTES:
        raise UsageError(
            f"--time {namespace.time} is too short: Slurm's clock is a minute coarse; give "
            f"{_LEAST_MINUTES} minutes or more."
        )
    if namespace.gpus < 0:
        raise UsageError(f"--gpus {namespace.gpus} is less than none.")
    resources = Resources(
        n_cpus=options.n_cpus,
        memory_bytes=options.memory_bytes,
        minutes=minutes,
        gpus=namespace.gpus,
        partition=namespace.partition,
        account=namespace.account,
        setup=tuple(namespace.setup),
        more=_pairs(namespace.slurm),
    )
    factor = None if namespace.retry_mem is None else parse_factor(namespace.retry_mem)
    container = _container(namespace, options)
    return options, Request(
        resources, namespace.sessions_per_job, namespace.max_jobs, factor, container
    )


def parse_minutes(text: str) -> int:
    """Read a time limit as sbatch does, in whole minutes, begun ones too.

    Parameters
    ----------
    text : str
        ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``,
        ``days-hours:minutes`` or ``days-hours:minutes:seconds``.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> [parse_minutes(text) for text in ("90", "2:30", "02:00:00", "1-0", "1-2:30")]
    [90, 3, 120, 1440, 1590]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise UsageError(f"--time {text!r} is no time; write HH:MM:SS, such as 02:00:00.")
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is None and len(parts) < 3:
        parts.insert(0, 0)  # minutes[:seconds]
    parts += [0] * (3 - len(parts))
    hours, minutes, seconds = parts
    total = (int(days or 0) * 24 + hours) * 3600 + minutes * _MINUTE + seconds
    if total == 0:
        raise UsageError(f"--time {text!r} is no time at all.")
    return -(-total // _MINUTE)


def parse_factor(text: str) -> float:
    """Read how much more memory a second try gets.

    Examples
    --------
    >>> parse_factor("2x"), parse_factor("1.5")
    (2.0, 1.5)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text.strip().lower())
    factor = float(match[1]) if match else 0.0
    if not 1 < factor <= 64:
        raise UsageError(f"--retry-mem {text!r}: write a factor above 1, such as 2x.")
    return factor


def _pairs(items: Iterable[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` options of sbatch; those that are decided here are refused."""
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.lstrip("-").replace("_", "-")
        if not (key and equals and value):
            raise UsageError(f"--slurm {item!r} is not KEY=VALUE, such as qos=long.")
        if key in _OUR_OWN:
            raise UsageError(f"--slurm {item!r}: {key} is decided by submit's own options.")
        pairs[key] = value
    return pairs


def _container(namespace: argparse.Namespace, options: Options) -> Container | None:
    if namespace.container is None:
        return None
    image = absolute(namespace.container)
    if not image.exists():
        raise UsageError(f"--container {image} does not exist.")
    found = [name for name in ("apptainer", "singularity") if shutil.which(name)]
    if not found and not namespace.setup and not namespace.dry_run:
        raise MissingResource(
            "Neither apptainer nor singularity is found here, so --container cannot be used; where "
            "only the nodes have it, name what loads it: --setup 'module load apptainer'."
        )
    program = found[0] if found else "apptainer"
    filter_file = namespace.bids_filter_file
    return Container.of(
        program,
        image,
        options,
        absolute(filter_file) if filter_file else None,
        os.environ,
        namespace.gpus > 0,
    )
