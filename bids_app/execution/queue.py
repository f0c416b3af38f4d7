"""What Slurm says of its jobs: those that wait or run, and those that have ended."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED", "REQUEUE_HOLD"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING"})
OUT_OF_MEMORY = "OUT_OF_MEMORY"

# The words of slurmstepd, with and without control groups.
_KILLED_FOR_MEMORY = re.compile(
    rb"oom[-_ ]kill|OOM Killed|Exceeded job memory limit|exceeded memory limit", re.IGNORECASE
)
_STARTED = b"Starting with SlurmJobEnvironment"
_RANGE = re.compile(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]")
_TAIL_BYTES = 2**16
_ASKED_AT_ONCE = 200


@dataclass(frozen=True)
class Queue:
    """States of jobs and array tasks by number.

    Attributes
    ----------
    live : mapping
        What squeue knows: waiting and running.
    ended : mapping
        What the accounting (sacct) knows; it lags by seconds.
    known : bool
        False where Slurm cannot be asked, so that nothing is known of what waits and runs.
    """

    live: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    known: bool = True

    def state(self, number: str) -> str:
        """Give a task's state, ``PENDING``, ``FAILED``, ...; ``UNKNOWN`` where none is told."""
        return self.live.get(number) or self.ended.get(number) or "UNKNOWN"

    def is_live(self, number: str) -> bool:
        """Tell whether a task waits or runs."""
        return number in self.live


def ask(numbers: Sequence[str], tasks: Iterable[str] = (), settle_seconds: float = 0.0) -> Queue:
    """Ask Slurm about jobs and all tasks of arrays.

    Parameters
    ----------
    numbers : sequence of str
        Main numbers, without ``_3``.
    tasks : iterable of str
        Tasks that have ended, of which the accounting should know.
    settle_seconds : float
        How long to wait for it; where there is no accounting, nobody waits.
    """
    end = time.monotonic() + settle_seconds
    while True:
        queue = _ask(numbers)
        late = [task for task in tasks if queue.state(task) == "UNKNOWN" or queue.is_live(task)]
        if not late or not queue.ended or time.monotonic() > end:
            return queue
        time.sleep(2)


def _ask(numbers: Sequence[str]) -> Queue:
    live: dict[str, str] = {}
    ended: dict[str, str] = {}
    known = True
    for start in range(0, len(numbers), _ASKED_AT_ONCE):
        some = ",".join(numbers[start : start + _ASKED_AT_ONCE])
        code, said = _run("squeue", "-h", "-r", "-o", "%i|%T", "-j", some)
        # One that has long ended is an invalid job id to squeue: nothing lives.
        known = known and (code == 0 or "Invalid job id" in said)
        live.update(parse_states(said.splitlines()))
        code, said = _run("sacct", "-X", "-P", "-n", "-o", "JobID,State", "-j", some)
        if code == 0:
            ended.update(parse_states(said.splitlines()))
    gone = {number: state for number, state in ended.items() if state not in WAITING | RUNNING}
    alive = {number: state for number, state in live.items() if state in WAITING | RUNNING}
    return Queue(alive, gone, known)


def parse_states(lines: Iterable[str]) -> dict[str, str]:
    """Read ``number|state`` lines as squeue and sacct print them; others are passed over.

    Examples
    --------
    >>> parse_states(["7_1|CANCELLED by 1000", "7_[2-3%4]|PENDING", "8|OUT_OF_MEMORY", "error: x"])
    {'7_1': 'CANCELLED', '7_2': 'PENDING', '7_3': 'PENDING', '8': 'OUT_OF_MEMORY'}
    """
    states: dict[str, str] = {}
    for line in lines:
        number, bar, state = line.strip().partition("|")
        if not bar or not number[:1].isdigit() or not state:
            continue
        word = state.split()[0].rstrip("+")
        states.update(dict.fromkeys(_expand(number), word))
    return states


def _expand(number: str) -> list[str]:
    """Give the tasks that ``7_[0-2,5%4]`` stands for."""
    match = _RANGE.fullmatch(number)
    if match is None:
        return [number]
    tasks = []
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        tasks += [f"{match[1]}_{index}" for index in range(int(first), int(last or first) + 1)]
    return tasks


def log_paths(folder: Path, number: str) -> tuple[Path, Path]:
    """Give the files that a task's output and errors go to."""
    return folder / f"{number}_0_log.out", folder / f"{number}_0_log.err"


def died_of_memory(folder: Path, number: str, queue: Queue) -> bool:
    """Tell whether Slurm ended a task because of its memory.

    Where control groups watch over memory the accounting says so; otherwise only slurmstepd's
    words in the task's log do. A task that was queued again since is judged by its last start.
    """
    if queue.ended.get(number) == OUT_OF_MEMORY:
        return True
    for path in log_paths(folder, number):
        tail = _tail(path)
        if _KILLED_FOR_MEMORY.search(tail[max(0, tail.rfind(_STARTED)) :]):
            return True
    return False


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _run(*command: str) -> tuple[int, str]:
    """Run one of Slurm's commands; give its exit code and all that it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout + done.stderr
