"""Segment synthetic sessions once, keep what lies round the cord, and compare with the truth.

What counts as true are the lesions that show in a contrast that is there, 6-connected. A candidate
is right when it and a true lesion overlap with IoU 0.2 or more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accuracy import session
from rich.progress import track
from scipy import ndimage

from bids_app import pipeline
from bids_app.evaluation.matching import match_instances
from bids_app.evaluation.metrics import CHALLENGE_IOU
from bids_app.lesions.measure import measure
from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import refine
from bids_app.lesions.uncertainty import Candidate, describe, label_candidates
from bids_app.records import Alignment, BoolArray, FloatArray, Prepared, Volume
from bids_app.segmentation.inference import segment_contrasts
from bids_app.segmentation.weights import Model, choose_device, load_model
from bids_app.training.session import Imaged

WAYS = {"both contrasts": 2, "T2w only": 1}
CANDIDATE_THRESHOLD = 0.1
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
        return pipeline.prepare(reference, second, model, closely=True)
    ours, theirs = pipeline.look(reference, second, model, closely=True)
    if theirs is None:
        return Prepared((reference, None))
    known = Alignment(imaged.matrix, True, float("nan"), float("nan"), "known")
    return pipeline.place(reference, second, (ours, theirs), known)


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
        if path.is_file():
            continue
        found = segment_contrasts(prepare(imaged, contrasts, model, placement), model)[0]
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


def read_cohort(
    count: int, seed: int, collect_one: Callable[[tuple[int, int]], dict[int, Path]],
    preset: Preset, workers: int,
) -> list[Reading]:  # fmt: skip
    """Read all sessions of a seed."""
    tasks = [(seed, index) for index in range(count)]
    with ProcessPoolExecutor(workers) as pool:
        done = list(track(pool.map(collect_one, tasks), f"seed {seed}", total=count))
    return [read(path, n, preset) for paths in done for n, path in paths.items()]
