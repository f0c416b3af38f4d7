"""What would be done, as a table for ``--dry-run``."""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, TextIO

from bids_app.errors import CordLesionError
from bids_app.records import Job, Session

if TYPE_CHECKING:
    from rich.table import Table


_HEADINGS = ("session", "reference", "second contrast", "given", "set aside", "status")


def show_plan(
    jobs: Sequence[Job],
    unusable: Sequence[tuple[Session, CordLesionError]],
    up_to_date: Container[str],
    stream: TextIO | None = None,
) -> None:
    """Print a plan: a table on a terminal, tab-separated lines anywhere else.

    Parameters
    ----------
    jobs, unusable, up_to_date
        See `plan_table`.
    stream : file, optional
        Standard output by default.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        from rich.console import Console

        Console(file=stream).print(plan_table(jobs, unusable, up_to_date))
        return
    rows = _rows(jobs, unusable, up_to_date)
    # A tab or a line's end in a file's name would make two cells of one.
    cells = [[" ".join(cell.replace("\n", "; ").split()) for cell in row] for row in rows]
    lines = ["\t".join(cell or "n/a" for cell in row) for row in (_HEADINGS, *cells)]
    stream.write("\n".join([*lines, _caption(jobs, unusable, up_to_date)]) + "\n")


def plan_table(
    jobs: Sequence[Job],
    unusable: Sequence[tuple[Session, CordLesionError]] = (),
    up_to_date: Container[str] = (),
) -> Table:
    """Lay out the plan of a run, a row a session, in the order of their identifiers.

    Parameters
    ----------
    jobs : sequence of Job
    unusable : sequence of (Session, CordLesionError)
        Sessions that cannot be processed, each with its reason.
    up_to_date : container of str
        Identifiers of jobs whose results are there already.

    Returns
    -------
    rich.table.Table
        Print it with ``rich.console.Console().print``. Its cells are plain text, so that
        brackets in file names stay what they are.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Plan", caption=_caption(jobs, unusable, up_to_date))
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in _rows(jobs, unusable, up_to_date):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _caption(
    jobs: Sequence[Job],
    unusable: Sequence[tuple[Session, CordLesionError]],
    up_to_date: Container[str],
) -> str:
    current = sum(job.session.identifier in up_to_date for job in jobs)
    return (
        f"{len(jobs) - current} would run, {current} up to date, {len(unusable)} cannot. "
        "Nothing was written."
    )


def _rows(
    jobs: Sequence[Job],
    unusable: Sequence[tuple[Session, CordLesionError]],
    up_to_date: Container[str],
) -> list[tuple[str, ...]]:
    rows = [_row(job, job.session.identifier in up_to_date) for job in jobs]
    return sorted([*rows, *(_unusable_row(session, error) for session, error in unusable)])


def _row(job: Job, is_up_to_date: bool) -> tuple[str, ...]:
    second = f"{job.second.path.name} ({job.second.contrast})" if job.second else "none"
    return (
        job.session.identifier,
        job.reference.path.name,
        second,
        "\n".join(
            f"{what}: {file.dataset}/{file.path.name}"
            for what, file in (("cord", job.cord), ("discs", job.discs))
            if file
        ),
        "\n".join(f"{scan.path.name}: {reason}" for scan, reason in job.set_aside),
        "up to date" if is_up_to_date else "would run",
    )


def _unusable_row(session: Session, error: CordLesionError) -> tuple[str, ...]:
    found = "\n".join(scan.path.name for scan in session.scans)
    return (session.identifier, "none", "none", "", found, f"cannot: {error}")
