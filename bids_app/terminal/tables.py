"""What a run did, as tables to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from bids_app.records import Outcome

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"done": "green", "up-to-date": "dim", "failed": "bold red", "warning": "yellow"}


def totals_table(outcomes: Sequence[Outcome]) -> Table:
    """Count the units of a run: a row a status, with lesions and seconds.

    Examples
    --------
    >>> table = totals_table([Outcome("sub-01", "done", 2, 30.0), Outcome("sub-02", "failed")])
    >>> [list(column.cells) for column in table.columns][1:]
    [['1', '1'], ['2', ''], ['30.0', '']]
    """
    from rich.table import Table

    table = Table(title="Run", title_justify="left")
    table.add_column("status")
    for heading in ("sessions", "lesions", "median seconds"):
        table.add_column(heading, justify="right")
    for status in ("done", "up-to-date", "failed"):
        part = [one for one in outcomes if one.status == status]
        if not part:
            continue
        known = [one.lesions for one in part if one.lesions is not None]
        table.add_row(
            status,
            str(len(part)),
            str(sum(known)) if known else "",
            f"{median(one.seconds for one in part):.1f}" if status == "done" else "",
            style=_STYLES[status],
        )
    return table


def attention_table(outcomes: Sequence[Outcome]) -> Table | None:
    """List what failed, then what a person should look at; None where there is nothing."""
    from rich.table import Table
    from rich.text import Text

    rows = [(one.identifier, "failed", one.error or "") for one in outcomes if one.error]
    rows += [(one.identifier, "warning", text) for one in outcomes for text in one.warnings]
    if not rows:
        return None
    table = Table(title="To look at", title_justify="left")
    for heading in ("session", "what", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "why")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style=_STYLES[row[1]])
    return table


def cohort_table(counts: Mapping[str, int], title: str = "Cohort") -> Table:
    """Count the sessions of a cohort: a row a status."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("status")
    table.add_column("sessions", justify="right")
    for status, number in counts.items():
        table.add_row(status, str(number))
    return table
