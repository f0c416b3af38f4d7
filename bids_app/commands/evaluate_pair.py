"""Read one reference and its prediction, and score them: what a worker of `evaluate` does."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bids_app.dataset.labels import LesionFile
from bids_app.dataset.pairs import Pair
from bids_app.documents import parse_json
from bids_app.errors import UnreadableImage
from bids_app.evaluation.levels import levels_of
from bids_app.evaluation.scan import ScanScore, score_scan
from bids_app.imaging.volumes import read_label_map
from bids_app.records import IntArray, Volume

CONNECTIVITY = {6: 1, 18: 2, 26: 3}
"""Neighbours that join voxels: the rank of SciPy's structuring element."""

# Tools write the same affine with different rounding; a voxel is never off by this little.
_GRID_TOLERANCE_MM = 1e-2
# The reference masks of the challenge are cut into lesions so.
_MASK_CONNECTIVITY = 6
_INDEX = ("index", "label", "id")
_PROBABILITY = ("probability", "p", "mean_probability")


@dataclass(frozen=True)
class Settings:
    """What holds for all scans.

    Attributes
    ----------
    threshold : float
        Probability from which the challenge's counts keep a predicted lesion.
    connectivity : int or None
        6, 18 or 26: how masks are cut into lesions. None: BIDS masks by 6, and plain files are
        instance label maps.
    """

    threshold: float = 0.5
    connectivity: int | None = None


@dataclass(frozen=True)
class Scanned:
    """A scan's scores and how they came about; small enough to leave a worker.

    Attributes
    ----------
    pair : Pair
    status : str
        ``scored``; ``missing``: there is no prediction, an empty one was scored; ``unusable``:
        the prediction cannot be used, an empty one was scored; ``failed``: the reference cannot
        be used, nothing was scored.
    score : ScanScore or None
    contrast : str or None
    probability : str
        Where the probabilities come from: ``csv``, the column of the ``tsv``, or ``none``: all 1.
    error : str or None
    one_in_pieces : bool
        An instance map with one label, in several pieces: it may be a mask.
    """

    pair: Pair
    status: str
    score: ScanScore | None
    contrast: str | None = None
    probability: str = "none"
    error: str | None = None
    one_in_pieces: bool = False


@dataclass(frozen=True)
class Lesions:
    """The lesions of one label image: numbered voxels, and a probability for each number."""

    volume: Volume
    probabilities: Mapping[int, float]
    source: str
    one_in_pieces: bool


def score_pair(pair: Pair, settings: Settings) -> Scanned:
    """Read and score one pair; what is wrong with its files becomes its status."""
    try:
        reference = read_lesions(pair.reference, settings, predicted=False)
    except (UnreadableImage, OSError) as error:
        return Scanned(pair, "failed", None, pair.contrast, error=str(error))
    status, error_text, found = "scored", None, None
    if pair.prediction is None:
        status = "missing"
    else:
        try:
            found = read_lesions(pair.prediction, settings, predicted=True)
            _check_grids(pair, reference.volume, found.volume)
        except (UnreadableImage, OSError) as error:
            status, error_text, found = "unusable", str(error), None
    prediction = np.zeros_like(reference.volume.data) if found is None else found.volume.data
    score = score_scan(
        reference.volume.data,
        prediction,
        found.probabilities if found else {},
        reference.volume.spacing_mm,
        settings.threshold,
    )
    return Scanned(
        pair,
        status,
        _with_levels(score, pair, reference.volume, prediction),
        _contrast_in_sidecar(pair.prediction) or pair.contrast,
        found.source if found else "none",
        error_text,
        reference.one_in_pieces or (found is not None and found.one_in_pieces),
    )


def read_lesions(label: LesionFile, settings: Settings, predicted: bool) -> Lesions:
    """Read a label image as instances, those of a prediction with a probability each."""
    volume = read_label_map(label.path)
    if volume.data.min(initial=0) < 0:
        raise UnreadableImage(f"{label.path} has negative labels. Number lesions from 1.")
    source, stated = _probabilities(label) if predicted else (label.path, {})
    connectivity, pieces = _cut_by(label, volume.data, settings, bool(stated)), False
    if connectivity is not None:
        volume = Volume(_components(volume.data, connectivity), volume.affine)
    elif settings.connectivity is None and label.kind == "unknown":
        pieces = _is_mask(volume.data) and int(_components(volume.data, 26).max(initial=0)) > 1
    labels = [int(n) for n in np.unique(volume.data[volume.data != 0])]
    if not stated:
        return Lesions(volume, dict.fromkeys(labels, 1.0), "none", pieces)
    absent = [n for n in labels if n not in stated]
    if absent:
        raise UnreadableImage(
            f"{label.path} has lesions without a probability in {source}: label "
            f"{', '.join(map(str, absent[:5]))}. Add their rows, or remove the table for p = 1."
        )
    kind = "csv" if source.suffix == ".csv" else _probability_column(source) or "none"
    return Lesions(volume, {n: stated[n] for n in labels}, kind, pieces)


def _cut_by(label: LesionFile, data: IntArray, settings: Settings, stated: bool) -> int | None:
    """Decide by which connectivity an image is cut into lesions; None to take its numbers."""
    if label.kind == "mask":
        return settings.connectivity or _MASK_CONNECTIVITY
    # A table of probabilities, or several numbers, show that lesions are numbered already.
    if label.kind == "unknown" and not stated and settings.connectivity and _is_mask(data):
        return settings.connectivity
    return None


def _is_mask(data: IntArray) -> bool:
    inside = data[data != 0]
    return not len(inside) or int(inside.min()) == int(inside.max())


def _components(data: IntArray, connectivity: int) -> IntArray:
    structure = ndimage.generate_binary_structure(3, CONNECTIVITY[connectivity])
    found: IntArray = ndimage.label(data != 0, structure)[0]
    return found


def _check_grids(pair: Pair, reference: Volume, prediction: Volume) -> None:
    if reference.same_grid(prediction, _GRID_TOLERANCE_MM) or pair.prediction is None:
        return
    shapes = [" x ".join(map(str, v.data.shape)) for v in (prediction, reference)]
    what = (
        f"is {shapes[0]} voxels, the reference {shapes[1]}"
        if shapes[0] != shapes[1]
        else "has the reference's shape, but its affine places the voxels elsewhere"
    )
    raise UnreadableImage(
        f"{pair.prediction.path} is not on the grid of {pair.reference.path}: it {what}. "
        "Resample the prediction to the reference (nearest neighbour) and evaluate again."
    )


def _probabilities(label: LesionFile) -> tuple[Path, dict[int, float]]:
    """Read the table beside a label image; empty where there is none or it states none."""
    table = next(
        (path for end in (".csv", ".tsv") if (path := Path(f"{label.stem}{end}")).is_file()), None
    )
    if table is None or _probability_column(table) is None:
        return label.path, {}
    column = _probability_column(table)
    found: dict[int, float] = {}
    for number, row in enumerate(_rows(table), start=2):
        index = next((row[name] for name in _INDEX if name in row), "")
        try:
            value = float(row[column or ""])
            found[int(float(index))] = value
        except ValueError as error:
            raise UnreadableImage(
                f"{table}, line {number}: '{index}' and '{row[column or '']}' are not a label and "
                "a probability. Write whole numbers under 'label' and numbers under 'p'."
            ) from error
        if not 0 <= value <= 1 or math.isnan(value):
            raise UnreadableImage(
                f"{table}, line {number}: {value} is no probability. Give one from 0 to 1."
            )
    # A header alone is a statement too: there are no lesions.
    return table, found or {0: 0.0}


def _probability_column(table: Path) -> str | None:
    """Find the column of probabilities; a CSV must have one, a TSV may."""
    header = _header(table)
    column = next((name for name in _PROBABILITY if name in header), None)
    has_index = any(name in header for name in _INDEX)
    if table.suffix == ".csv" and (column is None or not has_index):
        raise UnreadableImage(
            f"{table} has the columns {', '.join(header) or '(none)'}. Its first line must name "
            "the label and its probability: 'label,p' or 'id,p'."
        )
    return column if has_index else None


def _header(table: Path) -> list[str]:
    return list(next(csv.reader(_lines(table), delimiter=_delimiter(table)), []))


def _rows(table: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(_lines(table), delimiter=_delimiter(table), restval="")
    return [{key: str(value).strip() for key, value in row.items() if key} for row in rows]


def _lines(table: Path) -> list[str]:
    text = table.read_bytes().decode("utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines:
        delimiter = _delimiter(table)
        lines[0] = delimiter.join(name.strip() for name in lines[0].split(delimiter))
    return lines


def _delimiter(table: Path) -> str:
    return "\t" if table.suffix == ".tsv" else ","


def _contrast_in_sidecar(label: LesionFile | None) -> str | None:
    """Read which contrasts our own derivatives were made from, from beside the mask."""
    if label is None:
        return None
    place = f"{label.stem}".replace("_seg-lesions_dseg", "_label-lesion_mask") + ".json"
    try:
        contrasts: Any = parse_json(Path(place).read_bytes())["Contrasts"]
        used = [contrasts["reference"], contrasts.get("second")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return "+".join(str(name) for name in used if name)


def _with_levels(
    score: ScanScore, pair: Pair, reference: Volume, prediction: IntArray
) -> ScanScore:
    """Add each lesion's vertebral level where a map of levels lies beside either label."""
    found = [_vertebrae(label, reference) for label in (pair.prediction, pair.reference) if label]
    vertebrae, names = next((one for one in found if one is not None), (None, {}))
    if vertebrae is None:
        return score
    levels = {
        "reference": levels_of(reference.data, vertebrae),
        "prediction": levels_of(prediction, vertebrae),
    }
    lesions = tuple(
        replace(one, level=names.get(level, str(level)))
        if (level := levels[one.kind].get(one.label))
        else one
        for one in score.lesions
    )
    return ScanScore(score.measures, lesions)


def _vertebrae(label: LesionFile, grid: Volume) -> tuple[IntArray, dict[int, str]] | None:
    stem = label.stem.name
    for end in ("_seg-lesions_dseg", "_label-lesion_mask", "_label-lesion_seg"):
        stem = stem.removesuffix(end)
    place = label.path.with_name(f"{stem}_seg-vertebrae_dseg.nii.gz")
    if not place.is_file():
        return None
    try:
        volume = read_label_map(place)
        table = Path(str(place).removesuffix(".nii.gz") + ".tsv")
        rows = _rows(table) if table.is_file() else []
        names = {int(row["index"]): row["name"] for row in rows}
    except (UnreadableImage, OSError, ValueError, KeyError):
        return None
    return (volume.data, names) if volume.same_grid(grid, _GRID_TOLERANCE_MM) else None
