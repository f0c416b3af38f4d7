"""The order of the stages of a session: prepare, segment, refine, measure, judge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import NoCordFound
from bids_app.given import UNKNOWN, Known, add_levels, as_given
from bids_app.imaging.centring import offset_across
from bids_app.imaging.grids import mark_around, resample_part, resample_to, to_canonical
from bids_app.imaging.registration import register
from bids_app.lesions.fusion import fuse
from bids_app.lesions.measure import measure
from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import refine
from bids_app.lesions.uncertainty import applicable, assess, find_candidates
from bids_app.quality import judge_quality
from bids_app.records import (
    Alignment,
    BoolArray,
    Calibration,
    Findings,
    FloatArray,
    Glimpse,
    Prepared,
    Segmentation,
    Volume,
)
from bids_app.results import SessionResult
from bids_app.terminal.stages import entering

if TYPE_CHECKING:
    from bids_app.segmentation.weights import Model


# A centimetre of a thin cord. In noise and in a brain less than this is taken for one.
_LEAST_CORD_MM3 = 400.0
# The second contrast's cord is looked for so far from where the headers put the reference's.
_HEADERS_MAY_ERR_MM = 30.0
_MOST_POINTS = 300


def find_lesions(
    original: Volume,
    second: Volume | None,
    model: Model,
    preset: Preset,
    cord_model: Model | None = None,
    known: Known = UNKNOWN,
    threads: int = 1,
) -> SessionResult:
    """Go from images to lesions: prepare, segment, fuse, refine, measure, judge.

    Parameters
    ----------
    original : Volume
        The reference, in any orientation.
    second : Volume, optional
        The second contrast on its own grid, canonical.
    model : Model
    preset : Preset
    cord_model : Model, optional
        Finds the cord where `model` does not.
    known : Known
        A cord mask in place of the network's; disc labels for levels; what the contrasts are.
    threads : int
        For the alignment.

    Returns
    -------
    SessionResult
        On the canonical grid of the reference.

    Raises
    ------
    NoCordFound
    """
    reference = to_canonical(original)
    finder = cord_model or model
    aligned = prepare(reference, second, finder, known.cord, threads, closely=finder is model)
    segmentation, findings = _segment(aligned, model, cord_model, preset, known)
    prepared = replace(aligned, contrasts=known.contrasts, glimpses=())
    entering("measure")
    lesions, cord = measure(findings, segmentation.lesion, reference.affine)
    parts = (original, prepared, segmentation, findings, lesions, cord, _warnings(prepared))
    quality = judge_quality(prepared, segmentation, findings, second)
    result = SessionResult(*parts, quality=quality)
    return add_levels(judge(result, preset, model.manifest.calibration), known.discs)


def _segment(
    aligned: Prepared,
    model: Model,
    cord_model: Model | None,
    preset: Preset,
    known: Known,
) -> tuple[Segmentation, Findings]:
    """Segment, merge what the contrasts say, refine; a cord that is known replaces theirs.

    What was glimpsed is of use here only; it is as large as images, and not kept.
    """
    from bids_app.segmentation.inference import segment_contrasts

    entering("segment")
    rules, cord = preset.for_contrast(known.second), known.cord
    spacing_mm = aligned.reference.spacing_mm
    prepared = replace(aligned, contrasts=known.contrasts)
    readings = seen = segment_contrasts(prepared, model, cord_model, rules.folds)
    if cord is not None:
        rules = as_given(rules)
        readings = tuple(replace(each, cord=cord.astype(np.float32)) for each in seen)
    found = fuse(readings, spacing_mm, rules)
    findings = refine(found.cord, found.lesion, spacing_mm, rules, found.reach)
    if cord is not None:
        found = replace(found, cord=seen[0].cord)
    volume_mm3 = np.count_nonzero(findings.cord) * float(np.prod(spacing_mm))
    if cord is None and volume_mm3 < _LEAST_CORD_MM3:
        raise NoCordFound(
            f"No spinal cord was found in the image ({volume_mm3:.0f} mm³ look like one), so it "
            "cannot be said to be free of lesions. Look at it: wrong body part, mirrored or "
            "damaged? See --bids-filter-file."
        )
    return found, findings


def judge(result: SessionResult, preset: Preset, calibration: Calibration | None) -> SessionResult:
    """Add how sure the lesions are, as far as the model is calibrated for the preset."""
    known = applicable(calibration, preset)
    prepared, probability = result.prepared, result.segmentation.lesion
    candidates = find_candidates(
        result.findings, probability, prepared.reference.voxel_mm3, preset, known
    )
    contrasts = sum(channel is not None for channel in prepared.channels)
    lesions, expected = assess(result.lesions, result.cord, candidates, known, contrasts)
    return replace(result, lesions=lesions, expected=expected)


def prepare(
    reference: Volume,
    second: Volume | None,
    cord_model: Model,
    cord: BoolArray | FloatArray | None = None,
    threads: int = 1,
    *,
    closely: bool = False,
) -> Prepared:
    """Bring the second contrast to the reference's grid, aligned by cord and surroundings.

    A reference without a cord to align by stays alone.

    Parameters
    ----------
    reference : Volume
    second : Volume, optional
        On its own grid.
    cord_model : Model
        Finds the cord in both.
    cord : ndarray of bool or float, optional
        The cord on the reference where it is known; the model is then asked for the other only.
    threads : int
        For the alignment.
    closely : bool
        `cord_model` is to segment too, see `look`.
    """
    if second is None:
        return Prepared((reference, None))
    entering("align")
    ours, theirs = look(reference, second, cord_model, cord, closely=closely)
    if theirs is None:
        return Prepared((reference, None))
    alignment = align(reference, second, (ours, theirs), threads)
    return place(reference, second, (ours, theirs), alignment, threads)


def look(
    reference: Volume,
    second: Volume,
    model: Model,
    cord: BoolArray | FloatArray | None = None,
    *,
    closely: bool = False,
) -> tuple[Glimpse, Glimpse | None]:
    """Look at both contrasts, each on its own grid.

    Parameters
    ----------
    reference, second : Volume
    model : Model
        Finds the cord.
    cord : ndarray of bool or float, optional
        The cord on the reference where it is known; the reference is then not looked at.
    closely : bool
        Read lesions as well, with models that read contrasts before they are aligned.

    Returns
    -------
    tuple of Glimpse
        The second is None where the reference shows no cord: one that only the other image shows
        would be drawn into an image of something else.
    """
    from bids_app.segmentation.prediction import glimpse

    if cord is None:
        ours = glimpse(Prepared((reference, None)), model, closely=closely)
    else:
        ours = Glimpse(cord.astype(np.float32))
    shown_mm3 = np.count_nonzero(ours.cord >= 0.5) * reference.voxel_mm3
    if cord is None and shown_mm3 < _LEAST_CORD_MM3:
        return ours, None
    return ours, _look_at_second(second, Volume(ours.cord, reference.affine), model, closely)


def align(
    reference: Volume, second: Volume, seen: tuple[Glimpse, Glimpse], threads: int = 1
) -> Alignment:
    """Align the second contrast by the cords that were seen, see `register`.

    By masks, not by probabilities: these differ in the last digits between machines, and the
    search's way to the same height may then end tenths of a millimetre elsewhere.
    """
    ours, theirs = seen
    return register(second, reference, ours.cord >= 0.5, theirs.cord >= 0.5, threads=threads)


def place(
    reference: Volume,
    second: Volume,
    seen: tuple[Glimpse, Glimpse],
    alignment: Alignment,
    threads: int = 1,
) -> Prepared:
    """Bring the second contrast, and what was seen of it, to the reference's grid.

    What was seen is put cord on cord: an offset across the cord that the alignment has left
    (`offset_across`), such as a cord leaves that has moved in its canal, is taken out.

    Parameters
    ----------
    reference, second : Volume
    seen : tuple of Glimpse
        Of both, see `look`.
    alignment : Alignment
    threads : int
    """
    ours, theirs = seen
    matrix = np.asarray(alignment.matrix)

    def moved(data: FloatArray, to_second: FloatArray) -> FloatArray:
        return resample_part(replace(second, data=data), reference, to_second).data

    with ThreadPoolExecutor(threads) as pool:
        image = pool.submit(lambda: resample_to(second, reference, matrix).data)
        centred = matrix @ _translation(
            offset_across(ours.cord, moved(theirs.cord, matrix), reference)
        )
        cord = pool.submit(moved, theirs.cord, centred)
        lesion = None if theirs.lesion is None else pool.submit(moved, theirs.lesion, centred)
    glimpse = Glimpse(cord.result(), None if lesion is None else lesion.result())
    return Prepared(
        (reference, Volume(image.result(), reference.affine)),
        alignment,
        rough_cord=np.logical_or(ours.cord >= 0.5, glimpse.cord >= 0.5),
        glimpses=(ours, glimpse),
    )


def _translation(offset_mm: FloatArray) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, 3] = offset_mm
    return matrix


def _look_at_second(second: Volume, cord: Volume, model: Model, closely: bool) -> Glimpse:
    """Look for the second contrast's cord where the headers put the reference's, or anywhere."""
    from bids_app.segmentation.prediction import glimpse

    voxels = np.argwhere(cord.data >= 0.5)
    some = voxels[:: max(1, len(voxels) // _MOST_POINTS)]
    points = some @ cord.affine[:3, :3].T + cord.affine[:3, 3]
    near = mark_around(points, second, _HEADERS_MAY_ERR_MM)
    if near.any():
        found = glimpse(Prepared((None, second), rough_cord=near), model, closely=closely)
        seen = found.cord >= 0.5
        # A cord beyond the place that was looked at was seen in part only.
        inside = np.count_nonzero(seen & near) >= 0.9 * np.count_nonzero(seen)
        if inside and np.count_nonzero(seen) * second.voxel_mm3 >= _LEAST_CORD_MM3:
            return found
    return glimpse(Prepared((None, second)), model, closely=closely)


def _warnings(prepared: Prepared) -> tuple[str, ...]:
    if prepared.alignment is not None and not prepared.alignment.accepted:
        return ("registration rejected: the headers align the contrasts at least as well",)
    return ()
