"""The one table of lesion columns: names, units, meaning, and rows for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from bids_app.records import Lesion

Cell = str | int | float | None

# Okabe & Ito (2008): eight colours that colour-blind readers can tell apart, without black.
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


@dataclass(frozen=True)
class Column:
    """One column of the lesion table.

    Attributes
    ----------
    name, description : str
    unit : str or None
        As BIDS writes units; None for labels.
    value : callable
        From a lesion to the cell.
    digits : int or None
        Decimals that are written; None for labels and counts.
    """

    name: str
    unit: str | None
    description: str
    value: Callable[[Lesion], Cell]
    digits: int | None = None

    def cell(self, lesion: Lesion) -> Cell:
        """Give the rounded value, None where it is undefined."""
        value = self.value(lesion)
        if self.digits is None or not isinstance(value, float):
            return value
        return round(value, self.digits)


def lesion_color(index: int) -> str:
    """Give the colour of a lesion's number as hexadecimal RGB; it repeats after seven.

    Examples
    --------
    >>> lesion_color(1), lesion_color(8)
    ('#E69F00', '#E69F00')
    """
    return _COLORS[(index - 1) % len(_COLORS)]


def _measure(name: str, unit: str | None, description: str, digits: int | None = 2) -> Column:
    """Make the column of a measure that has its field's name."""
    return Column(name, unit, description, attrgetter(name), digits)


LESION_COLUMNS: tuple[Column, ...] = (
    Column("index", None, "Value of the lesion's voxels in the label image.", lambda x: x.index),
    Column("name", None, "Name of the lesion within its session.", lambda x: f"lesion-{x.index}"),
    Column("color", None, "Colour for display, hexadecimal RGB.", lambda x: lesion_color(x.index)),
    _measure("voxels", "voxel", "Number of voxels.", None),
    _measure("volume_mm3", "mm^3", "Volume: voxels times voxel volume."),
    _measure(
        "length_mm",
        "mm",
        "Length along the cord: sum over the lesion's axial slices of slice thickness / "
        "cos(theta), theta being the angle between the cord's centreline and the slice normal.",
    ),
    Column(
        "center_x_mm",
        "mm",
        "Centre of mass, world coordinate towards the patient's right.",
        lambda x: x.center_mm[0],
        2,
    ),
    Column(
        "center_y_mm",
        "mm",
        "Centre of mass, world coordinate towards anterior.",
        lambda x: x.center_mm[1],
        2,
    ),
    Column(
        "center_z_mm",
        "mm",
        "Centre of mass, world coordinate towards superior.",
        lambda x: x.center_mm[2],
        2,
    ),
    _measure(
        "level",
        None,
        "Vertebral level (C3, T1, ...) of the centre of mass; n/a without disc labels there.",
        None,
    ),
    _measure("level_from", None, "Vertebral level of the lesion's upper end.", None),
    _measure("level_to", None, "Vertebral level of the lesion's lower end.", None),
    _measure(
        "max_axial_diameter_mm",
        "mm",
        "Diameter of the circle whose area is the lesion's largest axial area times cos(theta).",
    ),
    _measure(
        "max_axial_damage_ratio",
        "arbitrary",
        "Largest fraction of the cord's area that the lesion takes in one axial slice, 0 to 1.",
        4,
    ),
    _measure(
        "ap_width_mm",
        "mm",
        "Largest antero-posterior extent in an axial slice, times the cosine of the cord's "
        "angle as seen from the side.",
    ),
    _measure(
        "midsagittal_x_mm",
        "mm",
        "World coordinate, towards the patient's right, of the midsagittal slice: mean centre "
        "of mass of the cord over the lesion's axial slices and two beyond either end.",
    ),
    _measure(
        "midsagittal_length_mm",
        "mm",
        "Length along the cord in the midsagittal slice; n/a for a parasagittal lesion, one "
        "that the midsagittal slice does not meet.",
    ),
    _measure(
        "midsagittal_width_mm",
        "mm",
        "Largest antero-posterior width in the midsagittal slice; n/a for a parasagittal lesion.",
    ),
    _measure(
        "dorsal_bridge_mm",
        "mm",
        "Smallest width of healthy cord behind the lesion in the midsagittal slice; n/a for a "
        "parasagittal lesion, 0 where the lesion reaches the surface.",
    ),
    _measure(
        "ventral_bridge_mm",
        "mm",
        "Smallest width of healthy cord before the lesion in the midsagittal slice; n/a for a "
        "parasagittal lesion, 0 where the lesion reaches the surface.",
    ),
    _measure("total_bridge_mm", "mm", "Sum of the dorsal and the ventral tissue bridge."),
    _measure(
        "dorsal_bridge_percent",
        "%",
        "Dorsal tissue bridge as a percentage of both; n/a when both are 0.",
    ),
    _measure(
        "ventral_bridge_percent",
        "%",
        "Ventral tissue bridge as a percentage of both; n/a when both are 0.",
    ),
    _measure(
        "surface_distance_mm",
        "mm",
        "Smallest distance in an axial slice between the lesion and the outermost voxels of "
        "the cord; 0 when it reaches them.",
    ),
    _measure(
        "quadrant",
        None,
        "Part of the cord's section that holds the lesion's mean position: dorsal, ventral, "
        "left or right (the patient's), or central (inner third of the radius).",
        None,
    ),
    _measure(
        "orientation_deg",
        "degree",
        "Angle between the lesion's longest axis and the cord's centreline, 0 (along) to 90 "
        "(across); n/a when the longest axis is less than 1.25 times the second.",
        1,
    ),
    _measure(
        "confluence",
        "lesion",
        "Number of other lesions within a gap of 2 mm of this one, from surface to surface.",
        None,
    ),
    _measure(
        "white_matter_fraction",
        "arbitrary",
        "Share of the lesion that lies in the template's white matter, 0 to 1; n/a without disc "
        "labels or a template that tells.",
        4,
    ),
    _measure("grey_matter_fraction", "arbitrary", "The same in grey matter: the rest.", 4),
    _measure(
        "tract",
        None,
        "White-matter tract of the template's atlas that holds the largest share of the lesion.",
        None,
    ),
    _measure("tract_fraction", "arbitrary", "That share, 0 to 1, of white and grey matter.", 4),
    _measure(
        "mean_probability",
        "arbitrary",
        "Mean lesion probability over the lesion's voxels, 0 to 1.",
        4,
    ),
    _measure(
        "max_probability",
        "arbitrary",
        "Largest lesion probability among the lesion's voxels, 0 to 1.",
        4,
    ),
    _measure(
        "probability",
        "arbitrary",
        "Probability that the lesion is one, 0 to 1: calibrated where the model has a "
        "calibration for the post-processing used, else the mean probability.",
        4,
    ),
)


def lesion_rows(lesions: Iterable[Lesion]) -> list[dict[str, Cell]]:
    """Give one row for each lesion, keyed by column in the order of the table.

    Parameters
    ----------
    lesions : iterable of Lesion

    Returns
    -------
    list of dict
        Empty without lesions; the header is `lesion_column_names`. None where a measure is
        undefined.
    """
    return [{column.name: column.cell(lesion) for column in LESION_COLUMNS} for lesion in lesions]


def lesion_column_names() -> list[str]:
    """List the columns in their order, for a table without rows too."""
    return [column.name for column in LESION_COLUMNS]


def lesion_dictionary() -> Mapping[str, dict[str, str]]:
    """Describe the columns as BIDS does in the JSON file beside a table.

    Without ``index``, which BIDS defines itself: its validator takes a second description for
    a change of type.

    Examples
    --------
    >>> lesion_dictionary()["voxels"]
    {'Description': 'Number of voxels.', 'Units': 'voxel'}
    """
    return {
        column.name: {"Description": column.description}
        | ({"Units": column.unit} if column.unit else {})
        for column in LESION_COLUMNS
        if column.name != "index"
    }
