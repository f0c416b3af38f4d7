"""How many cores and how much memory this process may use: pure of the machine it runs on.

Every function takes the environment and the place of the control groups as arguments;
`machine_cpus` and `machine_memory_bytes` are the only ones that ask the operating system.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MEBIBYTE = 2**20
# A session of ordinary size, with everything that its process loads, takes two thirds of it.
_SESSION_BYTES = 1536 * _MEBIBYTE
# Large networks take more: measured with one and five folds of 410 MB, see docs/speed.md.
_BESIDE_WEIGHTS_BYTES = 1280 * _MEBIBYTE
_TIMES_WEIGHTS = 3
# Another process takes seconds to start: with fewer sessions that is not won back.
_FEWEST_SESSIONS = 3
# Slurm, Docker and Kubernetes all read a bare 8G as 8 x 2**30; GB is 10**9 as the SI says.
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)(B?)\s*", re.IGNORECASE)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def parse_memory(text: str) -> int | None:
    """Read an amount of memory with its unit.

    Parameters
    ----------
    text : str
        ``8G``, ``8Gi`` and ``8GiB`` are 8 x 1024^3 bytes, ``8GB`` is 8 x 1000^3; likewise K, M
        and T, in either case.

    Returns
    -------
    int or None
        Bytes; None when there is no unit, no number, or nothing is left of it.

    Examples
    --------
    >>> parse_memory("8G"), parse_memory("1.5GB"), parse_memory("8")
    (8589934592, 1500000000, None)
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        return None
    number, prefix, binary, byte = match.groups()
    base = 1000 if byte and not binary else 1024
    return int(float(number) * base ** _POWERS[prefix.upper()]) or None


def slurm_cpus(environ: Mapping[str, str]) -> int | None:
    """Give the cores of a Slurm task, or None outside Slurm."""
    return _positive(environ.get("SLURM_CPUS_PER_TASK")) or _positive(
        environ.get("SLURM_CPUS_ON_NODE")
    )


def slurm_memory_bytes(environ: Mapping[str, str]) -> int | None:
    """Give the memory of a Slurm task in bytes, or None where Slurm sets no limit.

    Slurm counts in MiB; a ``SLURM_MEM_PER_NODE`` of 0 stands for the whole node.
    """
    per_node = _positive(environ.get("SLURM_MEM_PER_NODE"))
    if per_node is not None:
        return per_node * _MEBIBYTE
    per_cpu = _positive(environ.get("SLURM_MEM_PER_CPU"))
    return None if per_cpu is None else per_cpu * (slurm_cpus(environ) or 1) * _MEBIBYTE


def cgroup_cpus(root: Path, membership: str = "") -> int | None:
    """Give the cores that the control groups' quota allows, rounded up, or None without one.

    Parameters
    ----------
    root : Path
        Where the control groups are mounted, usually ``/sys/fs/cgroup``.
    membership : str
        Text of ``/proc/self/cgroup``. Without it, only `root` itself is looked at, as is right
        inside a container.
    """
    quotas = []
    for folder in _folders(root, membership, "cpu"):
        quota, period = _v2_quota(folder) or _v1_quota(folder) or (0, 0)
        if quota > 0 and period > 0:
            quotas.append(max(1, -(-quota // period)))
    return min(quotas, default=None)


def cgroup_memory_bytes(root: Path, membership: str = "") -> int | None:
    """Give the control groups' memory limit in bytes, or None without one.

    See `cgroup_cpus` for the parameters. The huge number by which version 1 says "no limit" is
    returned as it is: the caller takes the smallest of several amounts anyhow.
    """
    limits = []
    for folder in _folders(root, membership, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits.append(_positive(_read(folder / name)))
    return min((limit for limit in limits if limit is not None), default=None)


def default_cpus(
    available: int, environ: Mapping[str, str], root: Path, membership: str = ""
) -> int:
    """Give the smallest of the cores at hand, the control groups' and Slurm's; at least 1."""
    limits = (available, cgroup_cpus(root, membership), slurm_cpus(environ))
    return max(1, min(limit for limit in limits if limit is not None))


def default_memory_bytes(
    available: int, environ: Mapping[str, str], root: Path, membership: str = ""
) -> int:
    """Give the smallest of the machine's memory, the control groups' limit and Slurm's."""
    limits = (available, cgroup_memory_bytes(root, membership), slurm_memory_bytes(environ))
    return min(limit for limit in limits if limit is not None)


def machine_cpus(environ: Mapping[str, str]) -> int:
    """Ask this machine how many cores the process may use."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:  # macOS has no affinity
        available = os.cpu_count() or 1
    return default_cpus(available, environ, _CGROUP_ROOT, _read(_MEMBERSHIP))


def machine_memory_bytes(environ: Mapping[str, str]) -> int:
    """Ask this machine how much memory in bytes the process may use."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    available = min([available, *(limit for limit in own if limit != resource.RLIM_INFINITY)])
    return default_memory_bytes(available, environ, _CGROUP_ROOT, _read(_MEMBERSHIP))


def sessions_at_once(sessions: int, cpus: int, memory_bytes: int, weights_bytes: int = 0) -> int:
    """Give how many sessions to do at the same time, each in a process of its own.

    Parameters
    ----------
    sessions : int
        Those that are not up to date.
    cpus, memory_bytes : int
        What all of them together may use.
    weights_bytes : int
        Of the model's files, which each of them loads.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> sessions_at_once(10, 4, 16 * 2**30), sessions_at_once(10, 4, 4 * 2**30)
    (4, 2)
    >>> sessions_at_once(10, 4, 16 * 2**30, 5 * 410_000_000)
    2
    >>> sessions_at_once(2, 4, 16 * 2**30)
    1
    """
    if sessions < _FEWEST_SESSIONS:
        return 1
    each = max(_SESSION_BYTES, _BESIDE_WEIGHTS_BYTES + _TIMES_WEIGHTS * weights_bytes)
    return max(1, min(sessions, cpus, memory_bytes // each))


def _folders(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """Yield the folders whose limits hold: the process's own group and all above it."""
    for mount in (root, root / controller, root / "cpu,cpuacct"):
        yield mount
        for line in membership.splitlines():
            _, controllers, group = [*line.split(":", 2), "", ""][:3]
            if controllers and controller not in controllers.split(","):
                continue
            parts = [part for part in group.split("/") if part not in {"", ".", ".."}]
            for depth in range(1, len(parts) + 1):
                yield mount.joinpath(*parts[:depth])


def _v2_quota(folder: Path) -> tuple[int, int] | None:
    """Read ``cpu.max``: quota and period in microseconds, ``max`` for no quota."""
    words = _read(folder / "cpu.max").split()
    quota, period = [_positive(word) for word in [*words, "", ""][:2]]
    return None if quota is None or period is None else (quota, period)


def _v1_quota(folder: Path) -> tuple[int, int] | None:
    quota = _positive(_read(folder / "cpu.cfs_quota_us"))
    period = _positive(_read(folder / "cpu.cfs_period_us"))
    return None if quota is None or period is None else (quota, period)


def _read(path: Path) -> str:
    """Read a small file of the kernel; one that is missing or closed to us says nothing."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _positive(text: str | None) -> int | None:
    """Read a whole number above zero; None for anything else, such as ``max`` or ``-1``."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if number > 0 else None
