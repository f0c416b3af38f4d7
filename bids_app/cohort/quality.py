"""The quality of a cohort's sessions: measures, outliers, and what a person decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bids_app.cohort.outliers import FEWEST, MOST_Z, fences, outliers
from bids_app.records import QUALITY_MEASURES, Decision, FloatArray, Quality, QualityMeasure

SUMMARY_MEASURES = (
    QualityMeasure(
        "cord_length_mm", "Length of the cord", "Length of the cord in view.", "mm", "either", True
    ),
    QualityMeasure(
        "cord_mean_area_mm2", "Mean area", "Mean cross-sectional area of the cord.", "mm^2",
        "either", True,
    ),
    QualityMeasure(
        "lesion_load", "Lesion load", "Fraction of the cord's volume that is lesion.", None,
        "high", limit=0.15, concern="{:.0%} of the cord is marked as lesion",
    ),
    QualityMeasure(
        "expected_count_width", "Width of the interval",
        "Width of the 95 % interval of the number of lesions.", "lesion",
    ),
)  # fmt: skip
"""What is computed from other measures of a session."""

MEASURES = QUALITY_MEASURES + SUMMARY_MEASURES

_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Participant, as in participants.tsv."},
    "session_id": {"Description": "Session; n/a in a dataset without sessions."},
    "status": {"Description": "done, failed or missing, as in group_sessions.tsv."},
    "qc_decision": {
        "Description": "What a person decided, in a file of their own (qc_decisions.tsv, or the "
        "file given with --exclude-qc); n/a for no decision.",
        "Levels": {
            "pass": "Looked at, and good.",
            "fail": "Looked at, and not usable.",
            "exclude": "Usable, but not for this study.",
        },
    },
    "qc_reason": {"Description": "The reason that was given for the decision."},
    "excluded": {
        "Description": "Whether the session is left out of summary, statistics, plots and maps, "
        "because of the decision and --exclude-qc."
    },
    "concerns": {
        "Description": "What a person should look at whatever the other sessions are like: "
        "measures beyond a fixed limit (Limit) and a rejected registration; n/a for nothing."
    },
    "outliers": {
        "Description": "Measures in which the session is unlike the others, each with the side; "
        "n/a for none.",
        "Rule": "Modified z-score 0.6745 (x - median) / MAD beyond "
        f"{MOST_Z} on the worse side (Worse), among at least {FEWEST} sessions that are done and "
        "have the same reference contrast (for measures of the second contrast: the same second "
        "contrast too), of logarithms where Scale says so. Where MAD is 0: (x - median) / "
        "(1.253314 mean absolute deviation).",
        "Source": "Iglewicz B, Hoaglin DC (1993). How to Detect and Handle Outliers. ASQC Basic "
        "References in Quality Control 16; NIST/SEMATECH e-Handbook of Statistical Methods, "
        "section 1.3.5.17.",
    },
    "reference_contrast": {"Description": "Contrast of the reference."},
    "second_contrast": {"Description": "Contrast used beside it; n/a for none."},
    "registration_accepted": {
        "Description": "Whether the second contrast was moved: false when its header was better."
    },
}
_REJECTED = "registration was rejected: the headers align the contrasts at least as well"


def quality_table(
    sessions: pd.DataFrame,
    qualities: Mapping[str, Quality],
    decisions: Mapping[str, Decision],
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Lay out the quality of each session, flag outliers, and say what was decided.

    Parameters
    ----------
    sessions : DataFrame
        The sessions' table.
    qualities : mapping
        By identifier (``sub-01_ses-M0``).
    decisions : mapping
        By identifier.

    Returns
    -------
    table : DataFrame
        One row for each of `sessions`.
    dictionary : dict
        Column to its description; measures with the fences that held for this cohort.
    """
    names = identifiers(sessions)
    values = _values(sessions, [qualities.get(name, {}) for name in names])
    kept = [name for name in _COLUMNS if name in sessions]
    table = sessions[kept].copy()
    decided = [decisions.get(name) for name in names]
    table["qc_decision"] = [one and one.verdict for one in decided]
    table["qc_reason"] = [one and one.reason for one in decided]
    table["concerns"] = _concerns(values, sessions)
    found, limits = _flagged(values, sessions)
    table["outliers"] = found
    table = table.reindex(columns=list(_COLUMNS)).join(_typed(values))
    described = {m.name: _described(m, limits.get(m.name, {})) for m in MEASURES}
    return table, {**_COLUMNS, **described}


def identifiers(sessions: pd.DataFrame) -> list[str]:
    """Join participant and session of each row."""
    return [
        participant if pd.isna(session) else f"{participant}_{session}"
        for participant, session in zip(
            sessions["participant_id"], sessions["session_id"], strict=True
        )
    ]


def _values(sessions: pd.DataFrame, qualities: Sequence[Quality]) -> pd.DataFrame:
    columns = {
        measure.name: [quality.get(measure.name) for quality in qualities]
        for measure in QUALITY_MEASURES
    }
    for measure in SUMMARY_MEASURES:
        if measure.name in sessions:
            columns[measure.name] = list(sessions[measure.name].astype("Float64"))
    high, low = (sessions[f"expected_lesion_count_{end}"].astype("Float64")
                 for end in ("high", "low"))  # fmt: skip
    columns["expected_count_width"] = list(high - low)
    frame = pd.DataFrame(columns, index=sessions.index).astype("Float64").astype(float)
    return frame[[measure.name for measure in MEASURES]]


def _flagged(
    values: pd.DataFrame, sessions: pd.DataFrame
) -> tuple[list[str | None], dict[str, dict[str, dict[str, float | None]]]]:
    """Name the measures in which each session is an outlier; and the fences by contrast."""
    done = sessions["status"] == "done"
    flags: list[list[str]] = [[] for _ in range(len(values))]
    limits: dict[str, dict[str, dict[str, float | None]]] = {}
    for measure in MEASURES:
        for contrast, rows in _comparable(sessions, measure.second):
            used = rows & done.to_numpy()
            column: FloatArray = values[measure.name].where(used, np.nan).to_numpy(dtype=float)
            low, high = fences(column, measure)
            if low is None and high is None:
                continue
            limits.setdefault(measure.name, {})[contrast] = {"Low": low, "High": high}
            signs = outliers(column, measure)
            for row in np.flatnonzero(signs):
                flags[row].append(f"{measure.name} {'high' if signs[row] > 0 else 'low'}")
    return ["; ".join(one) or None for one in flags], limits


def _comparable(sessions: pd.DataFrame, second: bool) -> list[tuple[str, Any]]:
    """Tell which sessions have the same contrasts, and what these are."""
    reference = sessions["reference_contrast"].fillna("n/a").astype(str)
    keys = reference
    if second:
        keys = reference + " and " + sessions["second_contrast"].fillna("n/a").astype(str)
    return [(key, (keys == key).to_numpy()) for key in sorted(set(keys))]


def _concerns(values: pd.DataFrame, sessions: pd.DataFrame) -> list[str | None]:
    accepted = sessions["registration_accepted"]
    listed = []
    for row, was_accepted in zip(values.to_dict("records"), accepted, strict=True):
        found = [_REJECTED] if was_accepted is not pd.NA and not was_accepted else []
        found += [
            (measure.concern or measure.name).format(row[measure.name])
            for measure in MEASURES
            if measure.beyond(None if np.isnan(row[measure.name]) else row[measure.name])
        ]
        listed.append("; ".join(found) or None)
    return listed


def _typed(values: pd.DataFrame) -> pd.DataFrame:
    """Write counts as counts."""
    counts = ("cord_pieces", "lesions_at_edge", "expected_count_width")
    return values.astype(dict.fromkeys(counts, "Int64"))


def _described(measure: QualityMeasure, limits: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"LongName": measure.title, "Description": measure.description}
    if measure.unit:
        entry["Units"] = measure.unit
    entry["Worse"] = measure.worse
    if measure.logarithmic:
        entry["Scale"] = "logarithmic"
    if measure.limit is not None:
        entry["Limit"] = measure.limit
    entry["OutliersBeyond"] = limits or "n/a"
    return entry
