"""The cohort's page from what the group level wrote: tables, maps, and the sessions' pages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_app.cohort.atlas import FrequencyMap
from bids_app.dataset.templates import PAM50, find_template, templates_home
from bids_app.errors import MissingResource, UnreadableImage
from bids_app.files import write_text
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_label_map
from bids_app.lesions.discs import find_discs
from bids_app.records import LEVEL_NAMES, FloatArray, Volume


def write_group_report(
    out_dir: Path,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    described: Mapping[str, Mapping[str, Any]],
    group_column: str = "group",
    maps: Sequence[FrequencyMap] = (),
) -> Path:
    """Write ``group_report.html``.

    Parameters
    ----------
    out_dir : Path
    rows : mapping
        Of the group tables ``sessions``, ``lesions``, ``summary``, ``statistics`` and ``qc``.
    described : mapping
        From column of the quality table to its description.
    group_column : str
        Column of the sessions that splits the cohort.
    maps : sequence of FrequencyMap
        In template space; often none.

    Returns
    -------
    Path
    """
    from bids_app.reports.cohort import Cohort, cohort_page
    from bids_app.reports.cohort_figures import identifier
    from bids_app.reports.cohort_maps import FrequencyView

    names = [identifier(row) for row in rows["sessions"]]
    discs_mm = _discs_mm() if maps else {}

    def view(one: FrequencyMap) -> FrequencyView:
        volume = to_canonical(Volume(one.frequency, one.affine))
        discs = [(name, _height(volume, place)) for name, place in discs_mm.items()]
        return FrequencyView(
            one.group, len(one.sessions), volume.data, volume.spacing_mm, discs
        )  # fmt: skip

    page = out_dir / "group_report.html"
    cohort = Cohort(
        sessions=rows["sessions"],
        lesions=rows["lesions"],
        summary=rows["summary"],
        statistics=rows["statistics"],
        quality=rows["qc"],
        described=described,
        group_column=group_column,
        reports={name: f"{name}.html" for name in names if (out_dir / f"{name}.html").exists()},
        maps=[view(one) for one in maps],
    )
    write_text(page, cohort_page(cohort))
    return page


def _discs_mm() -> dict[str, FloatArray]:
    """Give the template's discs by name, in RAS+ mm; none where it is not installed."""
    try:
        files = find_template(templates_home(os.environ), PAM50)
        labels = read_label_map(files.images["label_disc"])
    except (MissingResource, UnreadableImage):
        return {}
    found = find_discs(labels.data, labels.affine).positions_mm
    return {
        # Disc 3 lies between C2 and C3, the second and the third level.
        f"{LEVEL_NAMES[number - 2]}/{LEVEL_NAMES[number - 1]}": place
        for number, place in sorted(found.items())
        if 3 <= number <= len(LEVEL_NAMES)
    }


def _height(volume: Volume, place_mm: FloatArray) -> float:
    """Give the index of a place along the third axis."""
    return float(np.linalg.solve(volume.affine, [*place_mm, 1.0])[2])
