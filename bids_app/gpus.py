"""Whether there is a GPU, and how many sessions may share it, without asking PyTorch.

PyTorch takes seconds to load, and a process that has asked it for a GPU holds some of its memory.
"""

from __future__ import annotations

import logging
import subprocess
from functools import cache
from pathlib import Path

log = logging.getLogger("bids_app")

# On the safe side, not measured: CUDA's own share in each process, weights, and a large patch.
# A process that runs out all the same goes on in the machine's memory, see `segmentation.tiles`.
_SESSION_MIB = 6 * 1024
_QUERY = "--query-gpu=memory.free,compute_mode,mig.mode.current"
_ANSWER_SECONDS = 20.0


def may_use_gpu(device: str, devices: Path = Path("/dev")) -> bool:
    """Tell whether a GPU may be used.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    devices : Path
        Where drivers put what they serve: NVIDIA's, AMD's ``kfd``, and ``dxg`` on Windows.
    """
    if device != "auto":
        return device != "cpu"
    return any(next(devices.glob(name), None) for name in ("nvidia[0-9]*", "kfd", "dxg"))


def sessions_on_gpu(report: str) -> int:
    """Give how many processes, a session each, may use a GPU at the same time.

    Which of several GPUs PyTorch takes is not known here, so each has to have room for all.

    Parameters
    ----------
    report : str
        A line for each GPU: free memory in MiB, compute mode, and whether it is cut into
        instances, separated by commas, as ``nvidia-smi`` prints them.

    Returns
    -------
    int
        1 where a GPU is not to be shared, or where nothing is known about it.

    Examples
    --------
    >>> sessions_on_gpu("81000, Default, Disabled")
    13
    >>> sessions_on_gpu("24000, Default, [N/A]"), sessions_on_gpu("8000, Default, [N/A]")
    (3, 1)
    >>> sessions_on_gpu("81000, Exclusive_Process, Disabled"), sessions_on_gpu("")
    (1, 1)
    """
    room = [_room(line) for line in report.splitlines() if line.strip()]
    return max(1, min(room, default=1))


def _room(line: str) -> int:
    free, mode, instances = [*(word.strip() for word in line.split(",")), "", ""][:3]
    if mode != "Default" or instances == "Enabled" or not free.isdecimal():
        return 1
    return int(free) // _SESSION_MIB


@cache
def ask_gpus() -> str:
    """Ask NVIDIA's own program about the GPUs; what it cannot tell is an empty text."""
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603 - nothing of the user's in it
            command, capture_output=True, text=True, check=True, timeout=_ANSWER_SECONDS
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("nvidia-smi says nothing (%s): one session at a time on a GPU", error)
        return ""
    return answer.stdout
