"""The table of a subject's lesions over its sessions: columns, their meaning, and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bids_app.records import TrackedLesion

Cell = str | int | float | None

CHANGES = {
    "baseline": "There in the first session that covers its place: nothing to compare with.",
    "new": "Not there in the session that it is compared with, which covers its place.",
    "enlarging": "Its volume grew by at least change_limit_percent.",
    "stable": "Its volume changed by less than change_limit_percent.",
    "shrinking": "Its volume fell by at least change_limit_percent.",
    "merged": "Several earlier lesions are one now; rows without index ended in merged_into.",
    "split": "One earlier lesion is several now.",
    "resolved": "No longer there, though the session covers its place.",
    "not-covered": "The session could not show it: outside its image, or no cord found there.",
}

_COLUMNS: dict[str, dict[str, Any]] = {
    "lesion_id": {"Description": "Number of the lesion in its subject, the same in all sessions."},
    "session_id": {"Description": "Session, in the order of time."},
    "index": {"Description": "Its value in the session's label image; n/a when it is not there."},
    "change": {"Description": "What became of it since compared_with.", "Levels": CHANGES},
    "volume_mm3": {"Description": "Volume; 0 when it resolved.", "Units": "mm^3"},
    "compared_with": {"Description": "The earlier session that it is compared with."},
    "volume_before_mm3": {
        "Description": "Earlier volume, of the part that the present session covers too; of "
        "merged and split lesions, of all that are linked together.",
        "Units": "mm^3",
    },
    "volume_change_percent": {
        "Description": "Change of volume relative to volume_before_mm3, over what both sessions "
        "cover; of merged and split lesions, of all that are linked together.",
        "Units": "%",
    },
    "change_limit_percent": {
        "Description": "Smallest change that counts: that of the preset, or 1.96 times the "
        "standard error of the difference of both volumes where that is larger.",
        "Units": "%",
    },
    "came_from": {"Description": "lesion_id of the earlier lesions that it is linked to."},
    "merged_into": {"Description": "lesion_id of the lesion that it is now a part of."},
    "overlap": {
        "Description": "Overlap with its own earlier place: the larger share of one lesion that "
        "lies within 1 mm of the other, 0 to 1.",
        "Units": "arbitrary",
    },
    "distance_mm": {
        "Description": "Gap between its surface and that of its own earlier place.",
        "Units": "mm",
    },
    "covered_fraction": {
        "Description": "Fraction of the lesion in the field of view of compared_with; of one "
        "that is not there, of this session.",
        "Units": "arbitrary",
    },
}


def track_column_names() -> list[str]:
    """List the columns in their order, for a table without rows too."""
    return list(_COLUMNS)


def track_dictionary() -> dict[str, dict[str, Any]]:
    """Describe the columns as BIDS does in the JSON file beside a table."""
    return {name: dict(entry) for name, entry in _COLUMNS.items()}


def track_rows(lesions: Iterable[TrackedLesion], sessions: Sequence[str]) -> list[dict[str, Cell]]:
    """Give one row for each tracked lesion.

    Parameters
    ----------
    lesions : iterable of TrackedLesion
    sessions : sequence of str
        Name of each visit (``ses-M0``).

    Returns
    -------
    list of dict
        None where a cell is undefined.
    """
    return [_row(lesion, sessions) for lesion in lesions]


def _row(lesion: TrackedLesion, sessions: Sequence[str]) -> dict[str, Cell]:
    compared = lesion.compared_with
    return {
        "lesion_id": lesion.lesion_id,
        "session_id": sessions[lesion.visit],
        "index": lesion.index,
        "change": lesion.change,
        "volume_mm3": _rounded(lesion.volume_mm3, 2),
        "compared_with": None if compared is None else sessions[compared],
        "volume_before_mm3": _rounded(lesion.volume_before_mm3, 2),
        "volume_change_percent": _rounded(lesion.volume_change_percent, 1),
        "change_limit_percent": _rounded(lesion.change_limit_percent, 1),
        "came_from": ",".join(str(number) for number in lesion.came_from) or None,
        "merged_into": lesion.merged_into,
        "overlap": _rounded(lesion.overlap, 3),
        "distance_mm": _rounded(lesion.distance_mm, 2),
        "covered_fraction": _rounded(lesion.covered_fraction, 3),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
