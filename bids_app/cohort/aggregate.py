"""Aggregate a cohort: from its derivatives to its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_app.cohort.comparison import DICTIONARY as STATISTICS_DICTIONARY
from bids_app.cohort.inference import statistics_table
from bids_app.cohort.read import Reading, read_cohort
from bids_app.cohort.session import SessionRecord
from bids_app.cohort.statistics import SUMMARY_DICTIONARY, summary_table
from bids_app.cohort.tables import Dictionary, lesions_table, participant_column, sessions_table


@dataclass(frozen=True)
class CohortTables:
    """The cohort's tables, with missing values where a cell should read ``n/a``.

    Attributes
    ----------
    sessions, lesions, summary, statistics : DataFrame
        One row a session; one row a lesion; one row a measure and part of the cohort; one row
        a comparison.
    dictionaries : mapping
        Name of each table to the description of its columns.
    remarks : tuple of str
        What could not be read and is no session's fault.
    """

    sessions: pd.DataFrame
    lesions: pd.DataFrame
    summary: pd.DataFrame
    statistics: pd.DataFrame
    dictionaries: Mapping[str, Dictionary]
    remarks: tuple[str, ...] = ()


def aggregate(
    out_dir: Path,
    known_sessions: Iterable[str],
    participants: Mapping[str, Mapping[str, Any]],
    group_column: str = "group",
    covariates: Sequence[str] = (),
    years: Mapping[str, float] | None = None,
) -> CohortTables:
    """Bring together what the derivatives of all sessions say.

    Parameters
    ----------
    out_dir : Path
        Derivatives; only small files are read, no image.
    known_sessions : iterable of str
        Identifiers (``sub-01_ses-M0`` or ``sub-01``) of the sessions in the dataset; those
        without results are ``missing``.
    participants : mapping
        From participant to the columns of participants.tsv; may be empty.
    group_column : str
        The one of these columns that splits the cohort.
    covariates : sequence of str
        Those of them that group differences are adjusted for.
    years : mapping, optional
        When a session took place, in years, by identifier.

    Returns
    -------
    CohortTables
    """
    reading = read_cohort(out_dir)
    return tabulate(reading, known_sessions, participants, group_column, covariates, years)


def tabulate(
    reading: Reading,
    known_sessions: Iterable[str],
    participants: Mapping[str, Mapping[str, Any]],
    group_column: str = "group",
    covariates: Sequence[str] = (),
    years: Mapping[str, float] | None = None,
) -> CohortTables:
    """Lay out what was read; like `aggregate`, without touching the disk."""
    missing = {name: SessionRecord(name, "missing") for name in known_sessions}
    records = list({**missing, **reading.sessions}.values())
    sessions, session_dictionary = sessions_table(records, participants)
    lesions, lesion_dictionary = lesions_table(records, reading.lesion_dictionary)
    split_by = participant_column(group_column)
    adjust_for = [participant_column(name) for name in covariates]
    return CohortTables(
        sessions=sessions,
        lesions=lesions,
        summary=summary_table(sessions, split_by),
        statistics=statistics_table(sessions, split_by, adjust_for, years),
        dictionaries={
            "sessions": session_dictionary,
            "lesions": lesion_dictionary,
            "summary": dict(SUMMARY_DICTIONARY),
            "statistics": dict(STATISTICS_DICTIONARY),
        },
        remarks=reading.remarks,
    )
