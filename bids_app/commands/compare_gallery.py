"""Choose the scans on which models differ most, and read what the gallery shows of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_app.commands.compare_arguments import CompareOptions
from bids_app.commands.compare_matrix import shared_scans, usable
from bids_app.commands.compare_scores import ScanRow, Scores
from bids_app.commands.compare_text import title
from bids_app.dataset.images import find_image, usual_image_folders
from bids_app.dataset.labels import LesionFile, parse_lesion_name
from bids_app.errors import UnreadableImage
from bids_app.imaging.grids import to_canonical
from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.records import Volume
from bids_app.reports.gallery import Exhibit, GalleryView

_GRID_TOLERANCE_MM = 1e-2


def gallery(every: Sequence[Scores], options: CompareOptions) -> list[Exhibit]:
    """Show for each test set the scans on which the first metric differs most between models.

    Returns
    -------
    list of Exhibit
        One a scan; with a sentence instead of pictures where its files cannot be read.
    """
    return [
        _exhibit(test_set, name, rows, options) for test_set, name, rows in _chosen(every, options)
    ]


def _chosen(
    every: Sequence[Scores], options: CompareOptions
) -> Iterator[tuple[str, str, dict[str, ScanRow]]]:
    shared = shared_scans(every, options)
    for test_set in dict.fromkeys(scores.test_set for scores in every):
        here = {scores.model: scores for scores in every if scores.test_set == test_set}
        own = {model: usable(scores, options) for model, scores in here.items()}
        common = sorted(set.intersection(*(set(shared[model, test_set]) for model in here)))
        rows = {name: {model: own[model][name] for model in here} for name in common}
        ranked = sorted(common, key=lambda name: _spread(rows[name], options), reverse=True)
        for name in ranked[: options.gallery]:
            yield test_set, name, rows[name]


def _spread(rows: Mapping[str, ScanRow], options: CompareOptions) -> tuple[float, float]:
    """Measure how far models lie apart: by the first metric of scans, then by Dice."""
    metrics = [metric for metric in options.metrics if metric != "froc"][:1] or ["f1"]
    return _range(rows, metrics[0]), _range(rows, "dice")


def _range(rows: Mapping[str, ScanRow], metric: str) -> float:
    values = [row.value(metric) for row in rows.values()]
    known = [value for value in values if math.isfinite(value)]
    return max(known) - min(known) if len(known) > 1 else -1.0


def _exhibit(
    test_set: str, name: str, rows: Mapping[str, ScanRow], options: CompareOptions
) -> Exhibit:
    captions = {
        model: ", ".join(
            f"{title(metric)} {row.value(metric):.2f}"
            for metric in dict.fromkeys([*options.metrics[:2], "dice"])
            if math.isfinite(row.value(metric))
        )
        for model, row in rows.items()
    }
    try:
        view = _view(rows, options)
    except (UnreadableImage, OSError) as error:
        return Exhibit(test_set, name, captions, None, f"Not shown: {error}")
    return Exhibit(test_set, name, captions, view)


def _view(rows: Mapping[str, ScanRow], options: CompareOptions) -> GalleryView:
    first = next(iter(rows.values()))
    if first.reference is None:
        raise UnreadableImage("its reference is not named in scans.tsv.")
    reference = read_label_map(first.reference)
    found = {model: _prediction(row, reference) for model, row in rows.items()}
    path = _image_path(first.reference, options)
    image, why = _image(path, reference)
    canonical = to_canonical(Volume(reference.data, reference.affine))
    return GalleryView(
        image=None if image is None else to_canonical(image).data,
        reference=canonical.data != 0,
        models={
            model: to_canonical(Volume(data, reference.affine)).data != 0
            for model, data in found.items()
        },
        spacing_mm=canonical.spacing_mm,
        note=why,
    )


def _prediction(row: ScanRow, reference: Volume) -> np.ndarray:
    if row.status != "scored" or row.prediction is None:
        return np.zeros_like(reference.data)
    volume = read_label_map(row.prediction)
    if not reference.same_grid(volume, _GRID_TOLERANCE_MM):
        raise UnreadableImage(f"{row.prediction} is no longer on its reference's grid.")
    return np.asarray(volume.data)


def _image_path(reference: Path, options: CompareOptions) -> Path | None:
    label = parse_lesion_name(reference)
    folders = list(options.images)
    if label is None:
        name = reference.name.removesuffix(".gz").removesuffix(".nii")
        label = LesionFile(reference, name)
        folders += usual_image_folders(reference.parent)
    else:
        above = [place for place in reference.parents if place.name == label.subject]
        folders += usual_image_folders(above[0].parent) if above else []
    return find_image(label, folders)


def _image(path: Path | None, reference: Volume) -> tuple[Volume | None, str | None]:
    if path is None:
        return None, "No image was found; give its folder with --images."
    try:
        image = read_volume(path)
    except UnreadableImage as error:
        return None, str(error)
    if not reference.same_grid(image, _GRID_TOLERANCE_MM):
        return None, f"{path.name} is not on the reference's grid, so it is not shown."
    return image, None
