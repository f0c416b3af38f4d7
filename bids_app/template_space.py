"""Template space: from installed files to arrays, from a session's findings to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_app.dataset.derivatives import sidecar_path
from bids_app.dataset.templates import RESOLUTION, TemplateFiles
from bids_app.errors import MissingResource, UnreadableImage
from bids_app.files import write_json, write_tsv
from bids_app.imaging.grids import box_around, crop
from bids_app.imaging.volumes import read_label_map, read_volume, write_volume
from bids_app.lesions.atlas import (
    Template,
    TemplateCord,
    Tissue,
    TissueMap,
    carry_mask,
    passage,
    template_cord,
    tissue_of,
)
from bids_app.lesions.discs import find_discs
from bids_app.lesions.levels import LevelAxis
from bids_app.lesions.region_columns import (
    DESCRIPTION,
    region_column_names,
    region_dictionary,
    region_rows,
)
from bids_app.records import BoolArray, Findings, FloatArray, Job, Lesion, Volume

SPATIAL_REFERENCE = (
    "https://github.com/spinalcordtoolbox/PAM50/blob/master/template/PAM50_t2.nii.gz"
)
# Room round the cord for the tissue maps, which are read by interpolation.
_MARGIN_MM = 2.0


@dataclass(frozen=True)
class InTemplate:
    """What became of a session in template space.

    Attributes
    ----------
    lesion, covered : ndarray of bool
        On the template's grid; `covered` is the part of its cord that the session shows.
    affine : ndarray of shape (4, 4)
    tissues : tuple of Tissue
        One a lesion.
    """

    lesion: BoolArray
    covered: BoolArray
    affine: FloatArray
    tissues: tuple[Tissue, ...]


def load_template(files: TemplateFiles) -> TemplateCord:
    """Read an installed template.

    Raises
    ------
    MissingResource
        A file of it is damaged.
    """
    try:
        cord = read_label_map(files.images["cord"])
        labels = read_label_map(files.images["label_disc"])
        box = box_around(cord.data > 0, cord.spacing_mm, _MARGIN_MM)

        def tissue(path: Path | None) -> TissueMap | None:
            if path is None:
                return None
            part = crop(read_volume(path), box)
            return TissueMap(np.ascontiguousarray(part.data), part.affine)

        template = Template(
            cord=cord.data > 0,
            affine=cord.affine,
            discs_mm=find_discs(labels.data, labels.affine).positions_mm,
            white=tissue(files.images.get("wm")),
            grey=tissue(files.images.get("gm")),
            regions={r.name: m for r in files.regions if (m := tissue(r.path)) is not None},
        )
    except UnreadableImage as error:
        raise MissingResource(f"The template is damaged, install it again: {error}") from error
    return template_cord(template)


def carry(
    findings: Findings, affine: FloatArray, axis: LevelAxis, template: TemplateCord
) -> InTemplate:
    """Carry a session's lesions to the template; where levels are unknown nothing is covered.

    Parameters
    ----------
    findings : Findings
    affine : ndarray of shape (4, 4)
        Of their grid.
    axis : LevelAxis
        Of the cord with its lesions.
    template : TemplateCord
    """
    cord = findings.cord | findings.lesion
    way = passage(cord, axis, template)
    grid = template.template
    count = int(findings.instances.max(initial=0))
    if way is None:
        empty = np.zeros(grid.cord.shape, dtype=bool)
        return InTemplate(empty, empty, grid.affine, (Tissue(),) * count)
    lesion, covered = carry_mask(findings.lesion, affine, way)
    tissues = tuple(
        tissue_of(np.argwhere(findings.instances == index), affine, way)
        for index in range(1, count + 1)
    )
    return InTemplate(lesion, covered, grid.affine, tissues)


def with_tissue(lesions: Sequence[Lesion], tissues: Sequence[Tissue]) -> tuple[Lesion, ...]:
    """Write what lesions lie in into their records."""
    return tuple(
        replace(
            lesion,
            white_matter_fraction=tissue.white,
            grey_matter_fraction=tissue.grey,
            tract=tissue.tract,
            tract_fraction=tissue.tract_fraction,
        )
        for lesion, tissue in zip(lesions, tissues, strict=True)
    )


def write_in_template(job: Job, result: InTemplate, common: Mapping[str, Any]) -> None:
    """Write a session's masks in template space, and its table of regions.

    Parameters
    ----------
    job : Job
        Those of its outputs that it does not name are not written.
    result : InTemplate
    common : mapping
        What all sidecars of the session say.
    """
    about = {
        "template_lesion_mask": {
            "Type": "Lesion",
            "Description": "Lesions carried to the template by cord coordinates: length between "
            "the same discs, angle, and share of the radius. Nearest neighbour.",
        },
        "template_cord_mask": {
            "Type": "ROI",
            "Description": "The part of the template's cord that the session shows, with known "
            "levels; elsewhere the lesion mask says nothing.",
        },
    }
    for key, data in (
        ("template_lesion_mask", result.lesion),
        ("template_cord_mask", result.covered),
    ):
        if key in job.outputs:
            grid = Volume(data, result.affine)
            write_volume(job.outputs[key], data.astype(np.uint8), result.affine)
            write_json(
                sidecar_path(job.outputs[key]), {**common, **about[key], **describe_space(grid)}
            )
    if "template_regions" in job.outputs:
        rows = region_rows([tissue.regions for tissue in result.tissues])
        write_tsv(job.outputs["template_regions"], region_column_names(), rows)
        about_table = {**common, "Type": "Lesion", "Description": DESCRIPTION}
        write_json(
            job.outputs["template_regions_dictionary"], {**about_table, **region_dictionary()}
        )


def describe_space(grid: Volume) -> dict[str, Any]:
    """Say which space and which voxels an image of the template has."""
    size = " x ".join(f"{step:g}" for step in np.round(grid.spacing_mm, 4))
    return {
        "SpatialReference": SPATIAL_REFERENCE,
        "Resolution": f"res-{RESOLUTION} of the installed template: voxels of {size} mm",
    }
