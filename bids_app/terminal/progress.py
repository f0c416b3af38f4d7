"""The progress of a run: a live line on a terminal, nothing of it anywhere else."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from bids_app.records import Outcome
from bids_app.terminal.stages import LOGGER

_MINUTE, _HOUR = 60.0, 3600.0


class RunProgress:
    """Show how far a run is, and print a line for each unit that ends.

    On a terminal a live line names the session, its stage and the time left. In a pipe, a file or
    a terminal that cannot move its cursor there are the units' lines only.

    Parameters
    ----------
    total : int
        Number of units that are waited for.
    stream : file, optional
        Standard output by default.
    clock : callable, optional
        Gives seconds.
    """

    def __init__(
        self,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream = stream or sys.stdout
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.live = is_live(stream)
        self.left = TimeLeft(total, clock)
        self._listener = _Listener(self._heard)
        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
            disable=not self.live,
        )
        self._task = self._progress.add_task("", total=total, left="")
        self._unit = ""
        self._at_once = 0

    def __enter__(self) -> Self:
        logging.getLogger(LOGGER).addHandler(self._listener)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        logging.getLogger(LOGGER).removeHandler(self._listener)

    @property
    def shown(self) -> str:
        """What the live line says is at work."""
        return self._progress.tasks[self._task].description

    def line(self, text: str) -> None:
        """Print a line above the progress."""
        self.console.print(text, markup=False)

    def at_once(self, number: int) -> None:
        """Take so many units as at work from now on, until one starts in this process."""
        self._at_once = number
        self.left.at_once(number)
        self._progress.update(self._task, description=self._crowd())

    def ended(self, outcome: Outcome) -> None:
        """Take a unit as ended."""
        self.left.ended(outcome)
        self._progress.update(
            self._task, advance=1, description=self._crowd(), left=self.left.text()
        )

    def _crowd(self) -> str:
        """Say how many units are at work where it is not one with a name."""
        number = min(self._at_once, self.left.open)
        return f"{number} session{'' if number == 1 else 's'} at work" if number else ""

    def _heard(self, unit: str | None, stage: str | None) -> None:
        if unit is not None:
            self._unit, self._at_once = unit, 0
            self.left.started()
        shown = " · ".join(part for part in (self._unit, stage) if part)
        self._progress.update(self._task, description=shown, left=self.left.text())


def is_live(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can move its cursor.

    What ``FORCE_COLOR`` says does not count: a pipe is a pipe.
    """
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class TimeLeft:
    """How long the units that are left will take, by those that were really done.

    Units that were up to date or failed at once say nothing about the others.
    """

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.open, self._clock = total, clock
        self._seconds: list[float] = []
        self._since: float | None = None
        self._at_once = 1

    def at_once(self, number: int) -> None:
        """Note that so many units are at work from now on."""
        self._at_once, self._since = number, self._clock()

    def started(self) -> None:
        """Note that a unit starts, the only one at work."""
        self._at_once, self._since = 1, self._clock()

    def ended(self, outcome: Outcome) -> None:
        """Note that a unit ended."""
        self.open, self._since = self.open - 1, self._clock() if self._at_once > 1 else None
        if outcome.status == "done":
            self._seconds.append(outcome.seconds)

    def seconds(self) -> float | None:
        """Give the seconds left; None before the first unit is done."""
        if not self._seconds:
            return None
        spent = self._clock() - self._since if self._since is not None else 0.0
        # So long it is from one end to the next.
        mean = sum(self._seconds) / len(self._seconds) / self._at_once
        return max(0.0, mean * self.open - min(spent, mean))

    def text(self) -> str:
        """Give the time left in words; nothing where it is not known."""
        left = self.seconds()
        return "" if left is None or not self.open else f"{duration(left)} left"


def duration(seconds: float) -> str:
    """Say a duration as a person would.

    Examples
    --------
    >>> [duration(s) for s in (3.2, 59.4, 90, 3600 * 2 + 60 * 5)]
    ['3 s', '59 s', '2 min', '2 h 05 min']
    """
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // 60} h {minutes % 60:02d} min"


class _Listener(logging.Handler):
    """Hand on what `bids_app.terminal.stages` says in this process: from others it comes late."""

    def __init__(self, heard: Callable[[str | None, str | None], None]) -> None:
        super().__init__(logging.INFO)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if record.process != os.getpid():
            return
        self._heard(getattr(record, "unit", None), getattr(record, "stage", None))
