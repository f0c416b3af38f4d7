"""The measures of ANIMA's segmentation performance analyser, the usual set of MS challenges.

Definitions from Commowick et al. (2018, Sci Rep 8:13650) and, for what the paper leaves open,
from what the published program does; written anew here. Lesions are 6-connected components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_app.evaluation.matching import Overlaps, match_instances
from bids_app.evaluation.surface import nearest_mm
from bids_app.records import BoolArray, FloatArray, IntArray

_MIN_COVERED = 0.1
_MAX_OUTSIDE = 0.7
_ENOUGH = 0.65
_FACES = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class AnimaScores:
    """ANIMA's measures of one pair of masks; NaN where a measure is undefined.

    Attributes
    ----------
    jaccard, dice : float
        1 for two empty masks.
    sens, spec, ppv, npv : float
        Of voxels; NaN where the denominator is 0.
    rve : float
        Relative volume error (predicted - reference) / reference; NaN without reference.
    hausdorff_mm : float
        Largest distance of a voxel of one mask to the other mask.
    contour_mean_distance_mm : float
        Mean distance of one mask's contour voxels to the other's; of both directions the larger.
    surface_distance_mm : float
        Mean of those distances over the contour voxels of both masks together.
    ppvl, sensl : float
        Share of predicted lesions that are right, of reference lesions that are found; NaN
        without such lesions.
    f1 : float
        2 ppvl sensl / (ppvl + sensl); 0 when both are 0, NaN when one is NaN.
    """

    jaccard: float
    dice: float
    sens: float
    spec: float
    ppv: float
    npv: float
    rve: float
    hausdorff_mm: float
    contour_mean_distance_mm: float
    surface_distance_mm: float
    ppvl: float
    sensl: float
    f1: float


def anima_scores(
    reference: BoolArray,
    prediction: BoolArray,
    spacing_mm: Sequence[float],
    voxels: int | None = None,
) -> AnimaScores:
    """Compute ANIMA's measures.

    Parameters
    ----------
    reference, prediction : ndarray of bool, shape (i, j, k), the same
        May be cut to where there is something.
    spacing_mm : sequence of float
    voxels : int, optional
        Voxels of the whole image, for specificity and NPV; by default those given.

    Returns
    -------
    AnimaScores
        The three distances are 0 for two empty masks and NaN for one.

    Examples
    --------
    >>> some, empty = np.ones((1, 1, 2), bool), np.zeros((1, 1, 2), bool)
    >>> both = anima_scores(empty, empty, (1, 1, 1))
    >>> both.dice, both.hausdorff_mm, both.sens, both.sensl, both.f1
    (1.0, 0.0, nan, nan, nan)
    >>> missed = anima_scores(some, empty, (1, 1, 1))
    >>> missed.dice, missed.hausdorff_mm, missed.rve, missed.sensl, missed.ppvl
    (0.0, nan, -1.0, 0.0, nan)
    """
    size = reference.size if voxels is None else voxels
    both = int(np.count_nonzero(reference & prediction))
    known, found = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    neither = size - known - found + both
    ppvl, sensl = _lesion_rates(_components(reference), _components(prediction))
    hausdorff, contour_mean, surface = _distances(reference, prediction, spacing_mm)
    total = ppvl + sensl
    return AnimaScores(
        jaccard=_ratio(both, known + found - both, 1.0),
        dice=_ratio(2 * both, known + found, 1.0),
        sens=_ratio(both, known),
        spec=_ratio(neither, size - known),
        ppv=_ratio(both, found),
        npv=_ratio(neither, size - found),
        rve=_ratio(found - known, known),
        hausdorff_mm=hausdorff,
        contour_mean_distance_mm=contour_mean,
        surface_distance_mm=surface,
        ppvl=ppvl,
        sensl=sensl,
        f1=2 * ppvl * sensl / total if total else total,
    )


def _ratio(part: float, whole: float, empty: float = math.nan) -> float:
    return part / whole if whole else empty


def _components(mask: BoolArray) -> IntArray:
    return np.asarray(ndimage.label(mask, _FACES)[0])


def _lesion_rates(reference: IntArray, prediction: IntArray) -> tuple[float, float]:
    """Give PPVL and SensL; the rule is the same with the roles exchanged."""
    overlaps = match_instances(reference, prediction)
    turned = match_instances(prediction, reference)
    ppvl, sensl = (
        float(np.mean([_is_detected(one, row) for row in range(len(one.shared))]))
        if len(one.shared)
        else math.nan
        for one in (turned, overlaps)
    )
    return ppvl, sensl


def _is_detected(overlaps: Overlaps, row: int) -> bool:
    """Tell whether a lesion is detected by the other side's lesions.

    More than 10 % of it must be covered; and those that cover it, taken from the largest overlap
    down until they hold 65 % of the covered part, must each lie outside all lesions with at most
    70 % of their voxels.
    """
    shared = overlaps.shared[row]
    covered = int(shared.sum())
    if covered <= _MIN_COVERED * overlaps.reference_voxels[row]:
        return False
    outside = 1 - overlaps.shared.sum(axis=0) / overlaps.predicted_voxels
    held = 0
    for column in np.argsort(-shared, kind="stable"):
        if held >= _ENOUGH * covered:
            break
        if outside[column] > _MAX_OUTSIDE:
            return False
        held += int(shared[column])
    return True


def _distances(
    reference: BoolArray, prediction: BoolArray, spacing_mm: Sequence[float]
) -> tuple[float, float, float]:
    """Give Hausdorff, contour mean and surface distance between voxel centres."""
    one, other = (_contour(mask, spacing_mm) for mask in (reference, prediction))
    if not len(one) and not len(other):
        return 0.0, 0.0, 0.0
    if not len(one) or not len(other):
        return math.nan, math.nan, math.nan
    apart = nearest_mm(one, other), nearest_mm(other, one)
    # A voxel outside a mask is nearest to the mask's contour; one inside is at distance 0.
    beyond = (
        nearest_mm(_points(reference & ~prediction, spacing_mm), other),
        nearest_mm(_points(prediction & ~reference, spacing_mm), one),
    )
    return (
        max(float(part.max(initial=0.0)) for part in beyond),
        max(float(part.mean()) for part in apart),
        float(np.concatenate(apart).mean()),
    )


def _contour(mask: BoolArray, spacing_mm: Sequence[float]) -> FloatArray:
    """Give the voxels with a face towards the background or the array's edge, in mm."""
    return _points(mask & ~ndimage.binary_erosion(mask, _FACES), spacing_mm)


def _points(mask: BoolArray, spacing_mm: Sequence[float]) -> FloatArray:
    return np.asarray(np.argwhere(mask) * np.asarray(spacing_mm, dtype=float))
