"""``cordlesion train tune``: the preset's limits that suit a model, by its validation cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from bids_app.commands.tune_cases import TuneCase
from bids_app.errors import NoUsableData, UnitError, UsageError
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import find_hits
from bids_app.evaluation.search import LIMITS, Candidates, Found, Grid, Metric, Point, search
from bids_app.files import write_json, write_tsv
from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import refine
from bids_app.records import FloatArray, IntArray

PRESET_FILE, CURVE_FILE, TUNING_FILE = "preset.json", "tuning.tsv", "tuning.json"
# The challenge's reference lesions are joined by faces only.
_FACES = ndimage.generate_binary_structure(3, 1)
_FEW = 4


@dataclass(frozen=True)
class Tuning:
    """The preset that was found, and how.

    Attributes
    ----------
    preset : mapping
        Content of a preset file.
    record : mapping
        Metric, cases, score before and after, and the curve along each limit.
    found : Found
    """

    preset: Mapping[str, Any]
    record: Mapping[str, Any]
    found: Found


def tune(
    cases: Sequence[TuneCase],
    base: Preset,
    metric: Metric,
    n_cpus: int,
    grid: Grid | None = None,
) -> Tuning:
    """Search the limits that score best on validation cases.

    Parameters
    ----------
    cases : sequence of TuneCase
    base : Preset
        Gives what is not searched.
    metric : {"f1", "dice", "froc"}
    n_cpus : int
    grid : Grid, optional

    Raises
    ------
    UsageError
        The base has rules for single folds or contrasts, which one map a case cannot tell.
    NoUsableData
        No case, or none with a lesion where the metric needs one.
    """
    _refuse_parts(base)
    grid = _with_base(grid or Grid(), base)
    images = list(
        track(
            _all_candidates(cases, base, grid.lesion_threshold, n_cpus),
            "Finding lesions",
            len(cases),
            console=Console(stderr=True),
            transient=True,
        )
    )
    start = _point(base)
    try:
        found = search(images, grid, metric, start, [case.group for case in cases])
    except ValueError as error:
        raise NoUsableData(f"Nothing to tune with: {error}.") from error
    record = {
        "metric": metric,
        "cases": len(cases),
        "base": base.name,
        "score_of_base": _score(found, start),
        "score": found.best.score,
        "score_held_out": found.held_out,
        "chosen": dict(zip(LIMITS, found.best.point, strict=True)),
        "curves": {
            limit: {f"{value:g}": score for value, score in found.curve(limit).items()}
            for limit in LIMITS
        },
    }
    return Tuning(_preset_file(base, found, metric, len(cases)), record, found)


def write_tuning(tuning: Tuning, folder: Path) -> None:
    """Write the preset, the whole grid and the record."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PRESET_FILE, tuning.preset)
    rows = [
        {**dict(zip(LIMITS, one.point, strict=True)), tuning.record["metric"]: one.score}
        for one in tuning.found.tried
    ]
    write_tsv(folder / CURVE_FILE, [*LIMITS, str(tuning.record["metric"])], rows)
    write_json(folder / TUNING_FILE, tuning.record)


def describe_tuning(tuning: Tuning) -> str:
    """Say in lines for people what was found."""
    record = tuning.record
    chosen = ", ".join(f"{name} {value:g}" for name, value in record["chosen"].items())
    held_out = record["score_held_out"]
    honest = (
        "one group of cases only, so there is no held-out score"
        if np.isnan(held_out)
        else f"{held_out:.3f} on folds left out of the search"
    )
    return (
        f"{record['metric']} over {record['cases']} validation cases: {record['score']:.3f} "
        f"({record['base']}: {record['score_of_base']:.3f}; {honest}).\nChosen: {chosen}."
    )


def find_candidates_of(
    case: TuneCase, base: Preset, thresholds: Sequence[float]
) -> tuple[Candidates, ...]:
    """Find a case's lesions at each threshold, none dropped for its size or peak.

    Raises
    ------
    UnitError
        A file cannot be read, or the grids differ.
    """
    reference = read_label_map(case.reference)
    truth = (
        np.isin(reference.data, case.lesion_values) if case.lesion_values else reference.data > 0
    )
    cord, lesion = case_probabilities(case)
    if lesion.shape != truth.shape:
        raise UnitError(
            f"{case.name}: the probabilities have the shape {lesion.shape}, the reference "
            f"{case.reference} has {truth.shape}."
        )
    known, _ = ndimage.label(truth, structure=_FACES)
    found = []
    for threshold in thresholds:
        open_preset = replace(
            base, lesion_threshold=threshold, min_peak_probability=0.0, min_lesion_volume_mm3=0.0
        )
        instances = refine(cord, lesion, reference.spacing_mm, open_preset).instances
        found.append(_candidates(instances, lesion, known, reference.spacing_mm))
    return tuple(found)


def case_probabilities(case: TuneCase) -> tuple[FloatArray, FloatArray]:
    """Read the probabilities of cord and lesion on the reference's grid, (i, j, k).

    Without a cord lesions may lie anywhere.
    """
    if case.probability.suffix == ".npz":
        try:
            with np.load(case.probability) as archive:
                # nnU-Net's arrays are (channel, z, y, x).
                stack = archive["probabilities"].transpose(0, 3, 2, 1).astype(np.float32)
        except (OSError, ValueError, KeyError) as error:
            raise UnitError(f"{case.probability} cannot be read ({error}).") from error
        lesion = _sum(stack, case.outputs["lesion"])
        cord = _sum(stack, case.outputs["cord"]) if "cord" in case.outputs else None
    else:
        lesion = read_volume(case.probability, constant_ok=True).data
        cord = read_volume(case.cord, constant_ok=True).data if case.cord else None
    return (np.ones_like(lesion) if cord is None else cord), lesion


def _sum(stack: FloatArray, channels: Sequence[int]) -> FloatArray:
    return np.asarray(np.clip(stack[list(channels)].sum(axis=0), 0, 1), dtype=np.float32)


def _candidates(
    instances: IntArray, probability: FloatArray, known: IntArray, spacing_mm: Sequence[float]
) -> Candidates:
    """Keep of one image what any limits need."""
    overlaps = match_instances(known, instances)
    index = overlaps.predicted_labels
    peaks: Any = ndimage.maximum(probability, instances, index=index) if len(index) else []
    means: Any = ndimage.mean(probability, instances, index=index) if len(index) else []
    return Candidates(
        volumes_mm3=overlaps.predicted_voxels * float(np.prod(spacing_mm)),
        peaks=np.asarray(peaks, dtype=probability.dtype),
        chances=np.asarray(means, dtype=float),
        voxels=overlaps.predicted_voxels,
        shared_voxels=overlaps.shared.sum(axis=0),
        hits=find_hits(overlaps),
        reference_voxels=int(overlaps.reference_voxels.sum()),
    )


def _refuse_parts(base: Preset) -> None:
    """Refuse rules for what a validation prediction has not kept apart."""
    rules = {
        "combination": base.combination != "mean",
        "contrasts": bool(base.contrasts),
        "zero_below": base.zero_below > 0,
        "min_contrast_peak": base.min_contrast_peak > 0,
    }
    used = [name for name, is_used in rules.items() if is_used]
    if used:
        raise UsageError(
            f"--preset {base.name} sets {', '.join(used)}, rules for single folds or contrasts, "
            "and a validation prediction is one map; give a preset without."
        )


def _all_candidates(
    cases: Sequence[TuneCase], base: Preset, thresholds: Sequence[float], n_cpus: int
) -> Iterator[tuple[Candidates, ...]]:
    """Go through the cases in their order, in several processes where it pays."""
    work = partial(find_candidates_of, base=base, thresholds=thresholds)
    if n_cpus == 1 or len(cases) <= _FEW:
        yield from map(work, cases)
        return
    with ProcessPoolExecutor(min(n_cpus, len(cases)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, cases)


def _with_base(grid: Grid, base: Preset) -> Grid:
    """Put the limits in use on the grid, so that they are compared with."""
    values = {
        limit: tuple(sorted({*getattr(grid, limit), float(getattr(base, limit))}))
        for limit in LIMITS
    }
    return Grid(**values)


def _point(base: Preset) -> Point:
    return base.lesion_threshold, base.min_peak_probability, base.min_lesion_volume_mm3


def _score(found: Found, start: Point) -> float:
    """Look up the score of the limits in use; a peak below the threshold is none."""
    wanted = start if start[1] > start[0] else (start[0], 0.0, start[2])
    return next(one.score for one in found.tried if one.point == wanted)


def _preset_file(base: Preset, found: Found, metric: str, count: int) -> dict[str, Any]:
    """Write the tuned preset as the content of a preset file: what is not the default."""
    default = Preset()
    kept = {
        field.name: getattr(base, field.name)
        for field in fields(Preset)
        if field.name not in ("name", "description")
        and getattr(base, field.name) != getattr(default, field.name)
    }
    return {
        "description": f"{base.name}, its limits tuned for {metric} on {count} validation cases.",
        **kept,
        **dict(zip(LIMITS, found.best.point, strict=True)),
    }
