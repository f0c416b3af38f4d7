"""Read what became of each subject's lesions, and lay it beside the sessions it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bids_app.cohort.session import (
    Cell,
    SessionRecord,
    UnusableFileError,
    read_json,
    read_table,
)

COUNTED = ("new", "enlarging", "stable", "shrinking", "merged", "split", "resolved")
"""Changes that are counted for each session; see `bids_app.lesions.track_columns`."""

COUNT_COLUMNS: dict[str, dict[str, Any]] = {
    "new_lesion_count": {
        "Description": "Lesions that the session compared with does not show, though it covers "
        "their place. This count and those that follow are n/a in a subject's first session and "
        "where sessions were not compared.",
        "Units": "lesion",
    },
    "enlarging_lesion_count": {"Description": "Lesions that grew.", "Units": "lesion"},
    "stable_lesion_count": {
        "Description": "Lesions whose volume changed by less than what counts.",
        "Units": "lesion",
    },
    "shrinking_lesion_count": {"Description": "Lesions that shrank.", "Units": "lesion"},
    "merged_lesion_count": {
        "Description": "Lesions of this session that several earlier ones became.",
        "Units": "lesion",
    },
    "split_lesion_count": {
        "Description": "Lesions of this session that came from one that is now several.",
        "Units": "lesion",
    },
    "resolved_lesion_count": {
        "Description": "Earlier lesions that are no longer there, though the session covers "
        "their place.",
        "Units": "lesion",
    },
}


def add_changes(out_dir: Path, sessions: Mapping[str, SessionRecord]) -> dict[str, SessionRecord]:
    """Give each session its counts of change, and its lesions their ``lesion_id``.

    Parameters
    ----------
    out_dir : Path
        Derivatives; ``sub-01/sub-01_lesions.tsv`` and its JSON are read where they are.
    sessions : mapping
        From identifier to record.

    Returns
    -------
    dict
        The same sessions. One keeps no counts and no ``lesion_id`` when it is not done, when
        its subject's files are not there or cannot be read, or when they were written about
        other results than those that are there now.
    """
    subjects = dict.fromkeys(name.partition("_")[0] for name in sessions)
    courses = {subject: _read(out_dir / subject / f"{subject}_lesions.tsv") for subject in subjects}
    return {
        name: _with_changes(record, courses[name.partition("_")[0]])
        for name, record in sessions.items()
    }


def _read(table: Path) -> tuple[dict[str, str], list[Mapping[str, Cell]]]:
    """Give the sessions in order, each with the hash of its inputs, and the rows."""
    try:
        listed = read_json(table.with_suffix(".json"))["Sessions"]
        hashes = {str(one["session_id"]): str(one["InputsHash"]) for one in listed}
        _, rows = read_table(table)
    except (UnusableFileError, KeyError, TypeError):
        return {}, []
    return hashes, list(rows)


def _with_changes(
    record: SessionRecord, course: tuple[dict[str, str], list[Mapping[str, Cell]]]
) -> SessionRecord:
    hashes, rows = course
    name = record.identifier.partition("_")[2] or "n/a"
    if record.status != "done" or name not in hashes or hashes[name] != record.inputs_hash:
        return record
    mine = [row for row in rows if (row.get("session_id") or "n/a") == name]
    numbers = {row["index"]: row.get("lesion_id") for row in mine if row.get("index") is not None}
    lesions = tuple(
        {**lesion, "lesion_id": numbers.get(lesion.get("index"))} for lesion in record.lesions
    )
    if name == next(iter(hashes)):
        return replace(record, lesions=lesions)
    # Lesions that ended in another are told by a row without index.
    shown = [
        row.get("change") for row in mine
        if row.get("index") is not None or row.get("change") == "resolved"
    ]  # fmt: skip
    return replace(
        record,
        lesions=lesions,
        changes={f"{change}_lesion_count": shown.count(change) for change in COUNTED},
    )
