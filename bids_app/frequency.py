"""Lesion frequency maps of the cohort: from the sessions' masks to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_app.cohort.atlas import (
    FrequencyMap,
    carried_sessions,
    describe_map,
    frequency_maps,
    map_labels,
)
from bids_app.dataset.derivatives import sidecar_path
from bids_app.dataset.templates import RESOLUTION
from bids_app.errors import UnreadableImage
from bids_app.files import write_json
from bids_app.imaging.volumes import read_label_map, write_volume
from bids_app.records import BoolArray, FloatArray, Volume
from bids_app.template_space import describe_space


def write_frequency_maps(
    out_dir: Path, sessions: Any, space: str, group_column: str = "group"
) -> tuple[list[FrequencyMap], tuple[str, ...]]:
    """Write the cohort's lesion frequency maps from the sessions' masks in template space.

    Parameters
    ----------
    out_dir : Path
        Derivatives.
    sessions : DataFrame
        The sessions' table.
    space : str
        The template's name.
    group_column : str
        Column of the table that splits the cohort.

    Returns
    -------
    maps : list of FrequencyMap
        What was written. Maps of an earlier run are removed.
    remarks : tuple of str
        Sessions that were left out, and why.
    """
    for old in out_dir.glob(f"group_space-{space}_*"):
        old.unlink()
    carried = carried_sessions(out_dir, sessions, space, group_column)
    maps, remarks = frequency_maps(carried, _read_mask)
    labels = map_labels(maps)
    for one in maps:
        stem = f"group_space-{space}_res-{RESOLUTION}"
        frequency = out_dir / f"{stem}_label-lesion_desc-{labels[one.group]}_probseg.nii.gz"
        count = out_dir / f"{stem}_label-cord_desc-{labels[one.group]}_count.nii.gz"
        about = {**describe_map(one, space), **describe_space(Volume(one.covered, one.affine))}
        write_volume(frequency, one.frequency, one.affine)
        write_json(sidecar_path(frequency), about)
        write_volume(count, one.covered.astype(np.int16), one.affine)
        number = "Number of participants whose images show the place."
        write_json(sidecar_path(count), {**about, "Description": number})
    return maps, remarks


def _read_mask(path: Path) -> tuple[BoolArray, FloatArray]:
    try:
        volume = read_label_map(path)
    except UnreadableImage as error:
        raise ValueError(str(error)) from error
    return volume.data > 0, volume.affine
