"""Fit the calibration of a model's lesions, and show on other sessions whether it holds.

    python benchmarks/calibration.py [--fit 40 100] [--check 40 200] [--write]

Each session is one of `benchmarks/accuracy.py`'s, from a seed of its own, read with both contrasts
and with the T2w only; what counts as true are the lesions that show in a contrast that is there,
6-connected. A candidate is right when it and a true lesion overlap with IoU 0.2 or more. The fit
sees the sessions of the first seed, the tables are of those of the second. `--write` puts the
record into the model's ``model.json``.

Segmentations are kept under `--cache` by the weights' hash, so an interrupted run goes on where
it was and another fit takes seconds. `--placement known` puts the second contrast where the
generator says, which saves a third of the time; the app itself registers it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accuracy import session
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

from bids_app import pipeline
from bids_app.evaluation.calibration import (
    calibration_error,
    fit_dispersion,
    fit_logistic,
    fit_temperature,
    reliability,
)
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import CHALLENGE_IOU
from bids_app.imaging.grids import resample_to
from bids_app.lesions.measure import measure
from bids_app.lesions.preset import Preset, load_preset
from bids_app.lesions.refine import refine
from bids_app.lesions.uncertainty import (
    Candidate,
    chances_of,
    describe,
    expected_count,
    expected_volume,
    label_candidates,
    settings_of,
)
from bids_app.records import BoolArray, Calibration, FloatArray, Prepared, Volume
from bids_app.segmentation.inference import segment
from bids_app.segmentation.manifest import find_model, read_manifest
from bids_app.segmentation.weights import Model, choose_device, load_model
from bids_app.training.session import Imaged

WAYS = {"both contrasts": 2, "T2w only": 1}
CANDIDATE_THRESHOLD = 0.1
FEWEST_MISSED = 5
_MARGIN_VOXELS = 8


@dataclass(frozen=True)
class Reading:
    """One session read one way, beside its truth.

    Attributes
    ----------
    candidates : tuple of Candidate
    mean_probability : ndarray of float
        Of each candidate: what an uncalibrated table says.
    right : ndarray of bool
        Whether each is a lesion.
    true_mm3 : ndarray of float
        Volume of the true lesions that each stands for, 0 for none.
    missed_mm3 : ndarray of float
        Volume of each true lesion that no candidate stands for.
    lesions : int
    volume_mm3 : float
        The truth.
    cord_mm : float
    contrasts : int
    """

    candidates: tuple[Candidate, ...]
    mean_probability: FloatArray
    right: BoolArray
    true_mm3: FloatArray
    missed_mm3: FloatArray
    lesions: int
    volume_mm3: float
    cord_mm: float
    contrasts: int

    @property
    def reported(self) -> BoolArray:
        """Tell which candidates are in the lesion table."""
        return np.array([each.index > 0 for each in self.candidates], dtype=bool)


def prepare(imaged: Imaged, contrasts: int, model: Model, placement: str) -> Prepared:
    """Put the contrasts of a session on one grid."""
    reference = Volume(*imaged.first)
    if contrasts == 1 or imaged.second is None:
        return Prepared((reference, None))
    second = Volume(*imaged.second)
    if placement == "registered":
        return pipeline.prepare(reference, second, model)
    moved = resample_to(second, reference, np.asarray(imaged.matrix), interpolation="linear")
    return Prepared((reference, moved))


def collect(
    task: tuple[int, int], folder: Path, model_folder: Path, placement: str
) -> dict[int, Path]:
    """Segment a session in each way and keep what lies round the cord, unless that is there."""
    seed, index = task
    paths = {n: folder / f"{placement}-{seed}-{index:03d}-{n}.npz" for n in WAYS.values()}
    if all(path.is_file() for path in paths.values()):
        return paths
    torch.set_num_threads(1)
    model = load_model(model_folder, choose_device("auto"))
    imaged = session(index, seed)
    for contrasts, path in paths.items():
        found = segment(prepare(imaged, contrasts, model, placement), model)
        visible = imaged.lesion if contrasts == 2 else imaged.lesion_in_first
        truth, _ = ndimage.label(visible, ndimage.generate_binary_structure(3, 1))
        inside = np.argwhere((found.cord > 0.1) | imaged.cord)
        low = np.maximum(inside.min(axis=0) - _MARGIN_VOXELS, 0)
        high = inside.max(axis=0) + _MARGIN_VOXELS + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        affine = np.array(imaged.first[1], dtype=float)
        affine[:3, 3] += affine[:3, :3] @ low
        arrays = {"cord": found.cord[box], "lesion": found.lesion[box], "truth": truth[box]}
        aside = path.with_suffix(f".{os.getpid()}")
        with aside.open("wb") as file:
            np.savez_compressed(file, **arrays, affine=affine)
        aside.replace(path)
    return paths


def read(path: Path, contrasts: int, preset: Preset) -> Reading:
    """Refine as the app does and compare each candidate with the truth."""
    with np.load(path) as kept:
        cord, lesion, truth, affine = (kept[k] for k in ("cord", "lesion", "truth", "affine"))
    volume = Volume(lesion, affine)
    findings = refine(cord, lesion, volume.spacing_mm, preset)
    _, measured = measure(findings, lesion, affine)
    labels = label_candidates(findings, lesion, preset, CANDIDATE_THRESHOLD)
    candidates = describe(labels, lesion, volume.voxel_mm3, int(findings.instances.max()))
    overlaps = match_instances(truth, labels)
    hits = overlaps.iou >= CHALLENGE_IOU
    sizes = overlaps.reference_voxels * volume.voxel_mm3
    # A true lesion in two candidates counts for the one that shares more with it.
    first = np.zeros_like(hits)
    if hits.size:
        first[np.arange(len(sizes)), overlaps.iou.argmax(axis=1)] = True
    return Reading(
        candidates,
        np.array([lesion[labels == label].mean() for label in overlaps.predicted_labels]),
        hits.any(axis=0),
        sizes @ (hits & first) if hits.size else np.zeros(len(candidates)),
        sizes[~hits.any(axis=1)],
        len(sizes),
        float(sizes.sum()),
        measured.length_mm or 0.0,
        contrasts,
    )


def joined(readings: Sequence[Reading], part: Callable[[Reading], FloatArray]) -> FloatArray:
    """Put one array of all readings together."""
    return np.concatenate([part(reading) for reading in readings])


def features_of(reading: Reading) -> FloatArray:
    """Give the features of the candidates, shape (candidates, 3)."""
    return np.array([each.features for each in reading.candidates]).reshape(-1, 3)


def fit(readings: Sequence[Reading], preset: Preset, source: str) -> Calibration:
    """Fit all of a calibration record."""
    features = joined(readings, features_of)
    right = joined(readings, lambda r: r.right)
    intercept, weights = fit_logistic(features, right)
    per_mm = [
        sum(len(r.missed_mm3) for r in readings if r.contrasts == n)
        / sum(r.cord_mm for r in readings if r.contrasts == n)
        for n in (1, 2)
    ]
    counts = np.array([len(r.missed_mm3) for r in readings])
    means = np.array([per_mm[r.contrasts - 1] * r.cord_mm for r in readings])
    true_mm3 = joined(readings, lambda r: r.true_mm3)
    known = true_mm3 > 0
    slope, offset = np.polyfit(features[known, 2], np.log(true_mm3[known]), 1)
    off = np.log(true_mm3[known]) - offset - slope * features[known, 2]
    missed_mm3 = joined(readings, lambda r: r.missed_mm3)
    # Too few to have a spread of their own: of the size of those that were found.
    unseen = np.log(missed_mm3 if len(missed_mm3) >= FEWEST_MISSED else true_mm3[known])
    return Calibration(
        intercept=round(intercept, 4),
        mean_logit_weight=round(float(weights[0]), 4),
        peak_logit_weight=round(float(weights[1]), 4),
        log_volume_weight=round(float(weights[2]), 4),
        candidate_threshold=CANDIDATE_THRESHOLD,
        missed_per_mm=(round(per_mm[0], 6), round(per_mm[1], 6)),
        missed_dispersion=round(fit_dispersion(counts, means), 4),
        volume_log_intercept=round(float(offset), 4),
        volume_log_slope=round(float(slope), 4),
        volume_log_sd=round(float(off.std(ddof=2)), 4),
        missed_volume_log_mean=round(float(unseen.mean()), 4),
        missed_volume_log_sd=round(float(unseen.std(ddof=1)), 4),
        preset=settings_of(preset),
        source=source,
    )


def chance_table(
    fitted: Sequence[Reading], checked: Sequence[Reading], record: Calibration
) -> Table:
    """Compare the ways to calibrate the probability of reported lesions."""

    def of(readings: Sequence[Reading], part: Callable[[Reading], FloatArray]) -> FloatArray:
        return joined(readings, lambda r: part(r)[r.reported])

    def right_of(readings: Sequence[Reading]) -> FloatArray:
        return of(readings, lambda r: r.right)

    temperature = fit_temperature(of(fitted, features_of)[:, 0], right_of(fitted))
    offset, slope = fit_logistic(of(fitted, features_of)[:, :1], right_of(fitted))
    logits = of(checked, features_of)[:, 0]
    chances = {
        "mean probability, uncalibrated": of(checked, lambda r: r.mean_probability),
        f"temperature {temperature:.2f}": 1 / (1 + np.exp(-logits / temperature)),
        "mean log-odds (Platt)": 1 / (1 + np.exp(-offset - logits * slope[0])),
        "the record": of(checked, lambda r: chances_of(r.candidates, record)),
    }
    right = right_of(checked)
    table = Table(
        "probability", "ECE", "by chance", "Brier", title=f"{len(right)} reported lesions"
    )
    for name, values in chances.items():
        cells = (
            calibration_error(values, right),
            error_by_chance(values),
            np.mean((values - right) ** 2),
        )
        table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    return table


def error_by_chance(chances: FloatArray, draws: int = 500) -> float:
    """Give the mean ECE of probabilities that are exactly right, for so few lesions."""
    rng = np.random.default_rng(0)
    drawn = rng.random((draws, len(chances))) < chances
    return float(np.mean([calibration_error(chances, right) for right in drawn]))


def reliability_table(readings: Sequence[Reading], record: Calibration) -> Table:
    """Show what became of lesions by their calibrated probability."""
    right = joined(readings, lambda r: r.right[r.reported])
    chances = joined(readings, lambda r: chances_of(r.candidates, record)[r.reported])
    table = Table("lesions", "probability", "right", title="Reliability")
    for each in reliability(chances, right):
        table.add_row(str(each.count), f"{each.probability:.3f}", f"{each.right:.3f}")
    return table


def coverage_table(readings: Sequence[Reading], record: Calibration) -> Table:
    """Show how often the intervals hold the truth."""
    headings = ("sessions", "n", "count covered", "width", "expected", "true", "reported",
                "no missed rate", "volume covered", "expected mm3", "true mm3")  # fmt: skip
    table = Table(*headings, title="95 % intervals")
    groups: list[tuple[str, Callable[[Reading], bool]]] = [("all", lambda r: r.lesions >= 0)]
    groups += [(way, lambda r, n=n: r.contrasts == n) for way, n in WAYS.items()]
    for low, high, name in (
        (0, 0, "no lesion"),
        (1, 2, "1-2"),
        (3, 4, "3-4"),
        (5, 99, "5 or more"),
    ):
        groups.append((name, lambda r, a=low, b=high: a <= r.lesions <= b))
    rows = [(reading, *_check(reading, record)) for reading in readings]
    for name, belongs in groups:
        some = [row[1:] for row in rows if belongs(row[0])]
        if some:
            cells = np.mean(np.array(some, dtype=float), axis=0)
            table.add_row(name, str(len(some)), *(f"{cell:.3g}" for cell in cells))
    return table


def _check(reading: Reading, record: Calibration) -> tuple[float, ...]:
    """Give the cells of one session."""
    chances = chances_of(reading.candidates, record)
    missed = record.missed_mean(reading.cord_mm, reading.contrasts)
    count = expected_count(chances, missed, record.missed_dispersion)
    plain = expected_count(chances, 0, 0)
    volumes = np.array([each.volume_mm3 for each in reading.candidates])
    volume = expected_volume(chances, volumes, missed, record)
    return (
        count.low <= reading.lesions <= count.high,
        count.high - count.low,
        count.expected,
        reading.lesions,
        float(reading.reported.sum()),
        plain.low <= reading.lesions <= plain.high,
        volume.low <= reading.volume_mm3 <= volume.high,
        volume.expected,
        reading.volume_mm3,
    )


def read_cohort(
    count: int, seed: int, collect_one: Callable[[tuple[int, int]], dict[int, Path]],
    preset: Preset, workers: int,
) -> list[Reading]:  # fmt: skip
    """Read all sessions of a seed."""
    tasks = [(seed, index) for index in range(count)]
    with ProcessPoolExecutor(workers) as pool:
        done = list(track(pool.map(collect_one, tasks), f"seed {seed}", total=count))
    return [read(path, n, preset) for paths in done for n, path in paths.items()]


def main() -> None:
    """Fit, show, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--preset", default=None, help="default: the model's own")
    parser.add_argument("--fit", type=int, nargs=2, default=(40, 100), metavar=("N", "SEED"))
    parser.add_argument("--check", type=int, nargs=2, default=(40, 200), metavar=("N", "SEED"))
    parser.add_argument("--cache", type=Path, default=Path("checkpoints/calibration"))
    parser.add_argument("--placement", choices=("registered", "known"), default="registered")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the record into model.json")
    arguments = parser.parse_args()
    model_folder = Path(find_model(arguments.model))
    manifest = read_manifest(model_folder)
    preset = load_preset(arguments.preset or manifest.preset or "default")
    folder = arguments.cache / manifest.fingerprint[:12]
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(collect, folder=folder, model_folder=model_folder, placement=arguments.placement)
    fitted = read_cohort(*arguments.fit, work, preset, arguments.workers)
    checked = read_cohort(*arguments.check, work, preset, arguments.workers)
    number, seed = arguments.fit
    source = f"{number} synthetic sessions (seed {seed}), with and without a second contrast"
    record = fit(fitted, preset, source)
    console = Console(width=150)
    console.print(record)
    console.print(chance_table(fitted, checked, record))
    console.print(reliability_table(checked, record))
    console.print(coverage_table(checked, record))
    if arguments.write:
        path = model_folder / "model.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["calibration"] = asdict(record)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        console.print(f"Wrote the calibration into {path}.")


if __name__ == "__main__":
    main()
