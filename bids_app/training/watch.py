"""The course of a run: a line on the terminal, a table in its folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

COURSE_FILE = "progress.tsv"


class Watch:
    """Follow the events of a run; quiet where the output is no terminal.

    Parameters
    ----------
    folder : Path
        Of the run; gets ``progress.tsv``.
    labels : sequence of str
        What the pseudo-Dice values are of, in nnU-Net's order.
    epochs : int
    console : Console
    """

    def __init__(self, folder: Path, labels: Sequence[str], epochs: int, console: Console) -> None:
        self._labels, self._epochs = labels, epochs
        self._table = folder / COURSE_FILE
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            # nnU-Net's epochs take minutes: an average over the last hour is none too long.
            speed_estimate_period=3600,
        )
        self._begin("starting")

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def tell(self, event: Mapping[str, Any]) -> None:
        """Take in one event of `bids_app.training.nnunet_child`."""
        if event["event"] == "stage":
            self._begin(event["stage"])
        elif event["event"] == "start":
            what = f"fold {event['fold']} on {event['device']}"
            self._begin(what, self._epochs, event["epoch"])
        elif event["event"] == "epoch":
            self._bars.update(self._task, completed=event["epoch"], values=self._values(event))
            self._write(event)

    def _begin(self, what: str, total: int | None = None, done: int = 0) -> None:
        """Show what is done now in place of what was done before."""
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        self._task = self._bars.add_task(what, total=total, completed=done, values="")

    def _values(self, event: Mapping[str, Any]) -> str:
        dice = ", ".join(
            f"{label} {value:.2f}"
            for label, value in zip(self._labels, event["pseudo_dice"], strict=True)
        )
        return f"loss {event['loss']:.3f}, pseudo-Dice {dice}"

    def _write(self, event: Mapping[str, Any]) -> None:
        """Add a row to the table; epochs that are done again after a stop come twice."""
        row = {
            "fold": event["fold"],
            "epoch": event["epoch"],
            "loss": f"{event['loss']:.4f}",
            "val_loss": f"{event['val_loss']:.4f}",
            **{
                f"pseudo_dice_{label}": f"{value:.4f}"
                for label, value in zip(self._labels, event["pseudo_dice"], strict=True)
            },
            "seconds": f"{event['seconds']:.1f}",
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        is_new = not self._table.exists()
        with self._table.open("a", encoding="utf-8") as table:
            if is_new:
                table.write("\t".join(row) + "\n")
            table.write("\t".join(map(str, row.values())) + "\n")
