"""The group level: from the derivatives of all sessions to tables, maps and the cohort's page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console

from bids_app.cohort.aggregate import CohortTables, aggregate
from bids_app.cohort.read import find_sessions
from bids_app.cohort.tables import participant_column
from bids_app.dataset.decisions import read_decisions
from bids_app.dataset.folders import list_sessions
from bids_app.dataset.participants import check_columns, read_participants
from bids_app.dataset.templates import PAM50
from bids_app.dataset.times import read_years
from bids_app.errors import NoUsableData, UsageError
from bids_app.files import write_json, write_tsv
from bids_app.frequency import write_frequency_maps
from bids_app.group_report import write_group_report
from bids_app.options import DECISIONS_NAME, Options
from bids_app.records import Decision
from bids_app.root import set_up
from bids_app.terminal.progress import is_live
from bids_app.terminal.tables import cohort_table

TABLES = ("sessions", "lesions", "summary", "statistics", "qc")
"""Each is written as ``group_<name>.tsv`` with a JSON file beside it."""

log = logging.getLogger("bids_app")


def run_group(options: Options) -> int:
    """Write the tables of the cohort from the derivatives.

    Returns
    -------
    int
        Always 0: failed and missing sessions are in the tables.

    Raises
    ------
    NoUsableData
        When no session has results, or all are left out.
    """
    tables = tabulate_cohort(options) if options.dry_run else summarise(options)
    counted = tables.counted["status"].value_counts()
    counts = {key: int(counted.get(key, 0)) for key in ("done", "failed", "missing", "excluded")}
    for remark in tables.remarks:
        log.warning("%s", remark)
    if not counts["done"]:
        raise NoUsableData(
            f"No session in {options.out_dir} is done and counts, so there is nothing to "
            "summarise; run the participant level first."
        )
    if is_live(sys.stdout):
        Console().print(cohort_table(counts))
    if not counts["excluded"] and options.decisions_file is None:
        del counts["excluded"]
    parts = ", ".join(f"{number} {key}" for key, number in counts.items())
    end = "Nothing was written." if options.dry_run else f"Tables: {options.out_dir}/group_*.tsv"
    print(f"Group: {parts}. {end}")
    return 0


def tabulate_cohort(options: Options) -> CohortTables:
    """Make the group tables from the derivatives; nothing is written.

    Raises
    ------
    UsageError
        A column or a session that is asked for does not exist, or the file of decisions cannot
        be used.
    """
    known = [
        session.identifier
        for session in list_sessions(
            options.bids_dir, options.participant_labels, options.session_labels
        )
    ]
    column = options.group_column
    check_columns(options.bids_dir, [*([column] if column else []), *options.covariates])
    return aggregate(
        options.out_dir,
        known,
        read_participants(options.bids_dir),
        column or "group",
        options.covariates,
        read_years(options.bids_dir, known),
        _decisions(options),
        exclude=options.decisions_file is not None,
    )


def summarise(options: Options) -> CohortTables:
    """Write the group tables, maps and report from the derivatives.

    Returns
    -------
    CohortTables

    Raises
    ------
    UsageError
        As `tabulate_cohort`; nothing is written then.
    """
    tables = tabulate_cohort(options)
    set_up(options)
    rows = {}
    for name in TABLES:
        frame = getattr(tables, name)
        path = options.out_dir / f"group_{name}.tsv"
        rows[name] = as_rows(frame)
        write_tsv(path, list(frame.columns), rows[name])
        write_json(path.with_suffix(".json"), tables.dictionaries[name])
    column = participant_column(options.group_column or "group")
    maps, remarks = write_frequency_maps(options.out_dir, tables.counted, PAM50, column)
    write_group_report(options.out_dir, rows, tables.dictionaries["qc"], column, maps)
    return replace(tables, remarks=(*tables.remarks, *remarks))


def _decisions(options: Options) -> Mapping[str, Decision]:
    """Read the decisions that are asked for; those of OUT_DIR are shown in any case."""
    if options.decisions_file is not None:
        return read_decisions(options.decisions_file, _every_session(options))
    own = options.out_dir / DECISIONS_NAME
    if not own.is_file():
        return {}
    try:
        return read_decisions(own, _every_session(options))
    except UsageError as error:
        # Nobody asked for them, so they stop nothing.
        log.warning("%s They are not shown.", error)
        return {}


def _every_session(options: Options) -> list[str]:
    """Name the sessions of the dataset and of the derivatives, selected or not."""
    raw = (session.identifier for session in list_sessions(options.bids_dir))
    return list(dict.fromkeys([*raw, *(name for name, _ in find_sessions(options.out_dir))]))


def as_rows(frame: object) -> list[dict[str, object]]:
    """Give a table's rows, with None for missing values."""
    records = frame.astype(object).where(frame.notna(), None)  # type: ignore[attr-defined]
    return [dict(row) for row in records.to_dict("records")]
