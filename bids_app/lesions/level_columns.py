"""The columns of the table of vertebral levels: names, units, meaning, and rows for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bids_app.lesions.columns import Cell, lesion_color
from bids_app.records import VertebralLevel

# Name, unit as BIDS writes it, decimals, description; the name is the record's field.
_COLUMNS: tuple[tuple[str, str | None, int | None, str], ...] = (
    ("index", None, None, "Value of the level's voxels in the label image."),
    ("name", None, None, "Name of the vertebral level."),
    ("color", None, None, "Colour for display, hexadecimal RGB."),
    ("slices", "slice", None, "Number of slices whose middle of the cord is at the level."),
    (
        "coverage",
        "arbitrary",
        3,
        "Fraction of the level that the cord in view shows, 0 to 1.",
    ),
    (
        "length_mm",
        "mm",
        2,
        "Length of cord: sum over these slices of slice thickness / cos(theta), theta being the "
        "angle between the cord's centreline and the slice normal.",
    ),
    (
        "area_mm2",
        "mm^2",
        2,
        "Cross-sectional area of the cord: mean over these slices of area times cos(theta).",
    ),
    ("ap_diameter_mm", "mm", 2, "Mean antero-posterior diameter, corrected for the angle."),
    ("lr_diameter_mm", "mm", 2, "Mean left-right diameter, corrected for the angle."),
    ("volume_mm3", "mm^3", 2, "Volume of the cord's voxels at the level."),
    ("lesion_count", "lesion", None, "Number of lesions whose centre of mass is at the level."),
    ("lesion_volume_mm3", "mm^3", 2, "Volume of the lesion voxels at the level."),
)


def level_rows(levels: Iterable[VertebralLevel]) -> list[dict[str, Cell]]:
    """Give one row for each level, keyed by column in the order of the table."""
    return [
        {name: _cell(level, name, digits) for name, _, digits, _ in _COLUMNS} for level in levels
    ]


def level_column_names() -> list[str]:
    """List the columns in their order, for a table without rows too."""
    return [name for name, *_ in _COLUMNS]


def level_dictionary() -> Mapping[str, dict[str, str]]:
    """Describe the columns as BIDS does in the JSON file beside a table.

    Without ``index``, which BIDS defines itself.

    Examples
    --------
    >>> level_dictionary()["slices"]["Units"]
    'slice'
    """
    return {
        name: {"Description": description} | ({"Units": unit} if unit else {})
        for name, unit, _, description in _COLUMNS
        if name != "index"
    }


def _cell(level: VertebralLevel, name: str, digits: int | None) -> Cell:
    if name == "color":
        return lesion_color(level.index)
    value: Cell = getattr(level, name)
    return round(value, digits) if digits is not None and isinstance(value, float) else value
