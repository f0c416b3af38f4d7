"""The group level: from the derivatives of all sessions to tables, maps and the cohort's page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from bids_app.cohort.aggregate import CohortTables, aggregate
from bids_app.dataset.atomic import write_json, write_tsv
from bids_app.dataset.folders import list_sessions
from bids_app.dataset.participants import check_columns, read_participants
from bids_app.dataset.rootfiles import write_root_files
from bids_app.dataset.templates import (
    PAM50,
)
from bids_app.dataset.times import read_years
from bids_app.frequency import write_frequency_maps
from bids_app.options import Options
from bids_app.reporting import write_cohort_report


def set_up(options: Options) -> None:
    """Write the files at the top of the derivatives."""
    write_root_files(options.out_dir, options.bids_dir, os.environ, options.derivatives)


def summarise(options: Options) -> CohortTables:
    """Write the group tables from the derivatives.

    Returns
    -------
    CohortTables
    """
    known = [
        session.identifier
        for session in list_sessions(
            options.bids_dir, options.participant_labels, options.session_labels
        )
    ]
    column = options.group_column
    check_columns(options.bids_dir, [*([column] if column else []), *options.covariates])
    tables = aggregate(
        options.out_dir,
        known,
        read_participants(options.bids_dir),
        column or "group",
        options.covariates,
        read_years(options.bids_dir, known),
    )
    set_up(options)
    for name, frame in (
        ("sessions", tables.sessions),
        ("lesions", tables.lesions),
        ("summary", tables.summary),
        ("statistics", tables.statistics),
    ):
        path = options.out_dir / f"group_{name}.tsv"
        write_tsv(path, list(frame.columns), _rows(frame))
        write_json(path.with_suffix(".json"), tables.dictionaries[name])
    sessions, lesions, statistics = (
        _rows(frame) for frame in (tables.sessions, tables.lesions, tables.statistics)
    )
    write_cohort_report(options.out_dir, sessions, lesions, statistics, column or "group")
    remarks = write_frequency_maps(options.out_dir, tables.sessions, PAM50)
    return replace(tables, remarks=(*tables.remarks, *remarks))


def _rows(frame: object) -> Sequence[dict[str, object]]:
    records = frame.astype(object).where(frame.notna(), None)  # type: ignore[attr-defined]
    return [dict(row) for row in records.to_dict("records")]
