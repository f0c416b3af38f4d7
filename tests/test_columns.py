"""The lesion table: order, rounding, undefined values, dictionary."""

from __future__ import annotations

import re
from dataclasses import fields

from bids_app.lesions.columns import (
    LESION_COLUMNS,
    lesion_color,
    lesion_column_names,
    lesion_dictionary,
    lesion_rows,
)
from bids_app.records import Lesion

LESION = Lesion(
    index=2,
    voxels=7,
    volume_mm3=13.4399999,
    length_mm=None,
    center_mm=(-1.23456, 0.0, 100.005),
    max_axial_diameter_mm=3.14159,
    max_axial_damage_ratio=0.123456,
    mean_probability=0.70001,
    max_probability=1.0,
    ap_width_mm=2.4,
    surface_distance_mm=0.0,
    quadrant="dorsal",
    midsagittal_x_mm=-0.456,
    midsagittal_length_mm=4.0,
    midsagittal_width_mm=1.234,
    dorsal_bridge_mm=0.0,
    ventral_bridge_mm=3.456,
    total_bridge_mm=3.456,
    dorsal_bridge_percent=0.0,
    ventral_bridge_percent=100.0,
    orientation_deg=12.34,
    confluence=1,
    level="C3",
    level_from="C2",
    level_to="C3",
    probability=0.912345,
)


def test_a_row() -> None:
    assert lesion_rows([LESION]) == [
        {
            "index": 2,
            "name": "lesion-2",
            "color": "#56B4E9",
            "voxels": 7,
            "volume_mm3": 13.44,
            "length_mm": None,
            "center_x_mm": -1.23,
            "center_y_mm": 0.0,
            "center_z_mm": 100.0,
            "level": "C3",
            "level_from": "C2",
            "level_to": "C3",
            "max_axial_diameter_mm": 3.14,
            "max_axial_damage_ratio": 0.1235,
            "ap_width_mm": 2.4,
            "midsagittal_x_mm": -0.46,
            "midsagittal_length_mm": 4.0,
            "midsagittal_width_mm": 1.23,
            "dorsal_bridge_mm": 0.0,
            "ventral_bridge_mm": 3.46,
            "total_bridge_mm": 3.46,
            "dorsal_bridge_percent": 0.0,
            "ventral_bridge_percent": 100.0,
            "surface_distance_mm": 0.0,
            "quadrant": "dorsal",
            "orientation_deg": 12.3,
            "confluence": 1,
            "white_matter_fraction": None,
            "grey_matter_fraction": None,
            "tract": None,
            "tract_fraction": None,
            "mean_probability": 0.7,
            "max_probability": 1.0,
            "probability": 0.9123,
        }
    ]


def test_no_lesions_give_no_rows_but_a_header() -> None:
    assert lesion_rows([]) == []
    assert lesion_column_names()[:3] == ["index", "name", "color"]


def test_every_measure_has_a_column() -> None:
    written = set(lesion_column_names()) | {"center_mm"}
    assert {field.name for field in fields(Lesion)} <= written


def test_dictionary_describes_every_column() -> None:
    described = lesion_dictionary()
    assert ["index", *described] == [column.name for column in LESION_COLUMNS]
    assert all(entry["Description"].endswith(".") for entry in described.values())
    assert all(name.endswith("_mm") == (e.get("Units") == "mm") for name, e in described.items())


def test_colors_are_hexadecimal_and_differ() -> None:
    colors = [lesion_color(index) for index in range(1, 8)]
    assert len(set(colors)) == 7
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in colors)
