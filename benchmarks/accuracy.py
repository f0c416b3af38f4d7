"""Accuracy of the box on a held-out synthetic cohort, and what each contrast adds.

    python benchmarks/accuracy.py [--sessions 60 --seed 2026] [--model DIR] [--preset NAME]

Each session is a whole synthetic scan with a second contrast on a grid of its own, displaced by
up to 4 mm and 4 degrees; a fifth have no lesion. The app's own functions read it seven ways: both
contrasts as registered, the T2w only, the second only (on the T2w's grid), both with the second
moved by a further 2 mm (1.7 mm of it across the cord, 1.06 along it; or all along it), both as
their headers place them, and both at once by a network that sees the two channels together. The
second and third are also merged by coverage. Lesion metrics are the challenge's (a reference
lesion counts as found at IoU 0.2 or more; predictions count from probability 0.5); the probability
of a lesion is its mean. Pieces of lesion smaller than a ball of 3 mm are not counted as lesions of
the reference, except in the row that says so. Seeds differ from those of the training. A second
table tells lesions that show in the T2w from those that show in the second contrast alone, and
small ones from large ones.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

from bids_app import pipeline
from bids_app.evaluation.calibration import expected_calibration_error
from bids_app.evaluation.froc import froc
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import Scored, detect_at, dice, score_predictions
from bids_app.lesions.fusion import fuse
from bids_app.lesions.preset import Preset, load_preset
from bids_app.lesions.refine import refine
from bids_app.records import Prepared, Segmentation, Volume
from bids_app.segmentation.inference import segment, segment_contrasts
from bids_app.segmentation.manifest import find_model
from bids_app.segmentation.weights import Model, choose_device, load_model
from bids_app.training.anatomy import draw_lesion, draw_spine
from bids_app.training.session import (
    AXIAL,
    FIELD_MM,
    ISOTROPIC,
    SAGITTAL,
    Imaged,
    Recipe,
    image_session,
)

GRIDS = (SAGITTAL, AXIAL, ISOTROPIC)
SECONDS = ("STIR", "PSIR", "UNIT1", "T1w", "T2starw")


@dataclass(frozen=True)
class Result:
    """One session read one way."""

    scored: Scored
    cord_dice: float
    lesion_dice: float
    chances: np.ndarray
    right: np.ndarray
    known: tuple[Known, ...] = ()


@dataclass(frozen=True)
class Known:
    """A reference lesion, and whether it was found."""

    in_first: bool
    volume_mm3: float
    found: bool


def session(index: int, seed: int) -> Imaged:
    """Image one session of the cohort."""
    rng = np.random.default_rng((seed, index))
    spine = draw_spine(rng, 0)
    height = float(rng.uniform(-300, -80))
    low, high = height - FIELD_MM[2] * 0.4, height + FIELD_MM[2] * 0.4
    low = max(low, spine.conus_mm + 25)
    number = 0 if index % 5 == 4 else int(rng.integers(1, 7))
    lesions = tuple(draw_lesion(rng, low, high) for _ in range(number))
    spine = type(spine)(spine.table, spine.disc_mm, spine.conus_mm, lesions, spine.seed)
    recipe = Recipe(GRIDS[index % 3], GRIDS[(index // 3) % 3], SECONDS[index % 5 - 1])
    return image_session(rng, spine, height, recipe)


def read(
    imaged: Imaged, found: Segmentation, preset: Preset, lesion: np.ndarray | None = None
) -> Result:
    """Refine as the app does, and compare with the truth, or with another mask of lesions."""
    lesion = imaged.lesion if lesion is None else lesion
    spacing_mm = Volume(*imaged.first).spacing_mm
    findings = refine(found.cord, found.lesion, spacing_mm, preset, found.reach)
    truth, _ = ndimage.label(lesion, ndimage.generate_binary_structure(3, 1))
    overlaps = match_instances(truth, findings.instances)
    labels = np.asarray(overlaps.predicted_labels)
    chances = np.array([found.lesion[findings.instances == label].mean() for label in labels])
    fits = np.asarray(overlaps.iou) >= 0.2
    right = fits.any(axis=0) if len(labels) else np.zeros(0, bool)
    voxel_mm3 = float(np.prod(spacing_mm))
    known = [
        Known(
            bool(imaged.lesion_in_first[truth == label].mean() >= 0.5),
            float((truth == label).sum() * voxel_mm3),
            bool(fit.any()),
        )
        for label, fit in zip(overlaps.reference_labels, fits, strict=True)
    ]
    return Result(
        score_predictions(overlaps, chances),
        dice(imaged.cord, findings.cord),
        dice(lesion, findings.lesion),
        chances,
        right,
        tuple(known),
    )


def ways(imaged: Imaged, model: Model) -> dict[str, Prepared]:
    """Prepare a session in each of the ways."""
    reference = Volume(*imaged.first)
    second = Volume(*imaged.second) if imaged.second else None
    if second is None:
        raise ValueError("the cohort's sessions have two contrasts")
    ours, theirs = pipeline.look(reference, second, model, closely=True)
    if theirs is None:
        raise ValueError("no cord was found")
    alignment = pipeline.align(reference, second, (ours, theirs))

    def placed(matrix: np.ndarray, x: float = 0, y: float = 0, z: float = 0) -> Prepared:
        moved = np.array(matrix, dtype=float)
        moved[:3, 3] += (x, y, z)
        return pipeline.place(reference, second, (ours, theirs), replace(alignment, matrix=moved))

    both = placed(alignment.matrix)
    return {
        "both": both,
        "T2w only": Prepared((reference, None)),
        "second only": Prepared((None, both.channels[1])),
        "both, 2 mm apart": placed(alignment.matrix, 1.2, 1.2, 1.06),
        "both, 2 mm along": placed(alignment.matrix, z=2.0),
        "both, by headers": placed(np.eye(4)),
        "both, read at once": Prepared(both.channels, rough_cord=both.rough_cord),
    }


def summarise(results: list[Result]) -> list[str]:
    """Give the cells of a row."""
    detections = [detect_at(result.scored) for result in results]
    empty = [d for d in detections if d.true_positives + d.false_negatives == 0]
    some = [(d, r) for d, r in zip(detections, results, strict=True) if d not in empty]
    f1 = np.mean([d.f1 for d in detections])
    sensitivity = np.mean([d.sensitivity for d, _ in some])
    cells = [
        f1,
        sensitivity,
        np.mean([d.precision for d in detections]),
        np.mean([d.false_positives for d in detections]),
        np.mean([d.false_positives for d in empty]) if empty else float("nan"),
        froc([result.scored for result in results]),
        np.mean([result.lesion_dice for _, result in some]),
        np.mean([result.cord_dice for result in results]),
        min(result.cord_dice for result in results),
        expected_calibration_error(
            np.concatenate([result.chances for result in results]),
            np.concatenate([result.right for result in results]),
        ),
    ]
    return [f"{cell:.3f}" for cell in cells]


@cache
def _model(folder: Path) -> Model:
    """Load the model once in each process; a session a core is faster than a core a session."""
    torch.set_num_threads(1)
    return load_model(folder, choose_device("auto"))


def read_session(
    index: int,
    seed: int,
    folder: Path,
    preset: Preset,
    thresholds: Sequence[float],
    only: Sequence[str],
) -> dict[str, Result]:
    """Image a session and read it in each of the ways, or with each of the thresholds."""
    model, imaged = _model(folder), session(index, seed)
    if thresholds:
        second = Volume(*imaged.second) if imaged.second else None
        prepared = pipeline.prepare(Volume(*imaged.first), second, model, closely=True)
        both = segment_contrasts(prepared, model)[0]
        changed = {n: replace(preset, lesion_threshold=n) for n in thresholds}
        return {f"both, from {n}": read(imaged, both, rules) for n, rules in changed.items()}
    views = {n: p for n, p in ways(imaged, model).items() if not only or n in only}
    at_once = {n: segment(views.pop(n), model) for n in ("both, read at once",) if n in views}
    found = {name: segment_contrasts(p, model)[0] for name, p in views.items()} | at_once
    alone = [found[name] for name in ("T2w only", "second only") if name in found]
    if len(alone) == 2:
        found["both, by coverage"] = fuse(alone, Volume(*imaged.first).spacing_mm, preset)
    results = {name: read(imaged, each, preset) for name, each in found.items()}
    if "both" in found:
        every = imaged.lesion | imaged.specks
        results["both, specks counted"] = read(imaged, found["both"], preset, every)
    return results


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--model", default=None)
    parser.add_argument("--preset", default="box")
    parser.add_argument("--only", nargs="+", default=(), help="some of the ways, by name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--lesion-thresholds",
        type=float,
        nargs="+",
        default=(),
        help="in place of the preset's; both only",
    )
    arguments = parser.parse_args()
    one = partial(
        read_session,
        seed=arguments.seed,
        folder=Path(find_model(arguments.model)),
        preset=load_preset(arguments.preset),
        thresholds=tuple(arguments.lesion_thresholds),
        only=tuple(arguments.only),
    )
    results: dict[str, list[Result]] = defaultdict(list)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        done = pool.map(one, range(arguments.sessions))
        for found in track(done, "sessions", total=arguments.sessions):
            for name, result in found.items():
                results[name].append(result)
    table = Table(title=f"{arguments.sessions} held-out synthetic sessions")
    headings = ("input", "F1", "sensitivity", "precision", "FP/image", "FP, no lesion", "FROC",
                "lesion Dice", "cord Dice", "worst cord", "ECE")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "input" else "right")
    for name, rows in results.items():
        table.add_row(name, *summarise(rows))
    console = Console(width=140)
    console.print(table)
    console.print(_found_table(results))


_SIZES_MM3 = ((0.0, 30.0), (30.0, 120.0), (120.0, np.inf))


def _found_table(results: dict[str, list[Result]]) -> Table:
    """Count the lesions that were found, by where they show and by size."""
    table = Table(title="lesions found, of those there are")
    table.add_column("input")
    groups = [(first, low, high) for first in (True, False) for low, high in _SIZES_MM3]
    for first, low, high in groups:
        where = "in the T2w" if first else "second alone"
        table.add_column(f"{where}, {low:g} to {high:g} mm³", justify="right")
    for name, rows in results.items():
        lesions = [lesion for row in rows for lesion in row.known]
        cells = []
        for first, low, high in groups:
            some = [x for x in lesions if x.in_first == first and low <= x.volume_mm3 < high]
            cells.append(f"{sum(x.found for x in some)} of {len(some)}")
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    main()
