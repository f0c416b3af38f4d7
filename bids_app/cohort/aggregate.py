"""Aggregate a cohort: from its derivatives to its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bids_app.cohort.comparison import DICTIONARY as STATISTICS_DICTIONARY
from bids_app.cohort.inference import statistics_table
from bids_app.cohort.quality import quality_table
from bids_app.cohort.read import Reading, read_cohort
from bids_app.cohort.session import SessionRecord
from bids_app.cohort.statistics import SUMMARY_DICTIONARY, summary_table
from bids_app.cohort.tables import Dictionary, lesions_table, participant_column, sessions_table
from bids_app.records import Decision


@dataclass(frozen=True)
class CohortTables:
    """The cohort's tables, with missing values where a cell should read ``n/a``.

    Attributes
    ----------
    sessions, lesions, summary, statistics, qc : DataFrame
        One row a session; one row a lesion; one row a measure and part of the cohort; one row
        a comparison; one row a session.
    dictionaries : mapping
        Name of each table to the description of its columns.
    remarks : tuple of str
        What could not be read and is no session's fault.
    """

    sessions: pd.DataFrame
    lesions: pd.DataFrame
    summary: pd.DataFrame
    statistics: pd.DataFrame
    qc: pd.DataFrame
    dictionaries: Mapping[str, Dictionary]
    remarks: tuple[str, ...] = ()

    @property
    def counted(self) -> pd.DataFrame:
        """Give the sessions' table with the status ``excluded`` where a session is left out."""
        return _counted(self.sessions)


def aggregate(
    out_dir: Path,
    known_sessions: Iterable[str],
    participants: Mapping[str, Mapping[str, Any]],
    group_column: str = "group",
    covariates: Sequence[str] = (),
    years: Mapping[str, float] | None = None,
    decisions: Mapping[str, Decision] | None = None,
    exclude: bool = False,
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
    decisions : mapping, optional
        What a person decided about a session, by identifier.
    exclude : bool
        Whether sessions leave summary and statistics by these decisions; they stay in the
        tables of sessions, lesions and quality all the same.

    Returns
    -------
    CohortTables
    """
    reading = read_cohort(out_dir)
    return tabulate(
        *(reading, known_sessions, participants, group_column, covariates, years),
        *(decisions, exclude),
    )


def tabulate(
    reading: Reading,
    known_sessions: Iterable[str],
    participants: Mapping[str, Mapping[str, Any]],
    group_column: str = "group",
    covariates: Sequence[str] = (),
    years: Mapping[str, float] | None = None,
    decisions: Mapping[str, Decision] | None = None,
    exclude: bool = False,
) -> CohortTables:
    """Lay out what was read; like `aggregate`, without touching the disk."""
    missing = {name: SessionRecord(name, "missing") for name in known_sessions}
    records = list({**missing, **reading.sessions}.values())
    decided = decisions or {}
    # One that is not done is out already, and its status says why.
    done = {record.identifier for record in records if record.status == "done"}
    left_out = {name for name, one in decided.items() if exclude and one.leaves and name in done}
    sessions, session_dictionary = sessions_table(records, participants, decided, left_out)
    lesions, lesion_dictionary = lesions_table(records, reading.lesion_dictionary, left_out)
    qualities = {record.identifier: record.quality for record in records}
    qc, qc_dictionary = quality_table(sessions, qualities, decided)
    counted = _counted(sessions)
    split_by = participant_column(group_column)
    adjust_for = [participant_column(name) for name in covariates]
    return CohortTables(
        sessions=sessions,
        lesions=lesions,
        summary=summary_table(counted, split_by),
        statistics=statistics_table(counted, split_by, adjust_for, years),
        qc=qc,
        dictionaries={
            "sessions": session_dictionary,
            "lesions": lesion_dictionary,
            "summary": dict(SUMMARY_DICTIONARY),
            "statistics": dict(STATISTICS_DICTIONARY),
            "qc": qc_dictionary,
        },
        remarks=(*reading.remarks, *_waiting(decided, exclude)),
    )


def _counted(sessions: pd.DataFrame) -> pd.DataFrame:
    """Give excluded sessions a status of their own, which no statistic takes for done."""
    return sessions.assign(status=sessions["status"].mask(sessions["excluded"], "excluded"))


def _waiting(decisions: Mapping[str, Decision], exclude: bool) -> tuple[str, ...]:
    """Say that decisions were made which nobody asked to honour."""
    waiting = sum(one.leaves for one in decisions.values())
    if exclude or not waiting:
        return ()
    who = "1 session marked fail or exclude still counts"
    if waiting > 1:
        who = f"{waiting} sessions marked fail or exclude still count"
    return (f"{who}; --exclude-qc leaves them out.",)
