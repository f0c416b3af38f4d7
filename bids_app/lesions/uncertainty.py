"""How sure a session's lesions are: probability of each, expected number and volume of all.

The network's probabilities say where lesions may be, but not how often it is right, and nothing
of lesions it does not see. Both are fitted on sessions with known lesions (`Calibration`); here
the fit is applied. Without one there is nothing to apply, and the answers are None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage, special, stats

from bids_app.lesions.preset import Preset
from bids_app.lesions.refine import neighbourhood
from bids_app.records import (
    Calibration,
    Cord,
    Expected,
    Findings,
    FloatArray,
    IntArray,
    Interval,
    Lesion,
)

_DRAWS = 20_000
_SEED = 0
# Keeps the log-odds finite; networks in half precision say 0 and 1 well before certainty.
_SURE = 1e-4
# What is left out of the tail of the missed lesions' number.
_TAIL = 1e-10
# A dispersion that no count can tell from none.
_POISSON = 1e-6
_WORDS = ("name", "description")


@dataclass(frozen=True)
class Candidate:
    """A place that may be a lesion, reported or too faint for it.

    Attributes
    ----------
    mean_logit, peak_logit : float
        Mean and largest log-odds over its voxels, probabilities cut at 0.0001 and 0.9999.
    volume_mm3 : float
    index : int
        Number of the reported lesion; 0 for one that the preset's rules leave out.
    """

    mean_logit: float
    peak_logit: float
    volume_mm3: float
    index: int = 0

    @property
    def features(self) -> tuple[float, float, float]:
        """Give what its probability is computed from: log-odds and log volume."""
        return self.mean_logit, self.peak_logit, math.log(self.volume_mm3)


def settings_of(preset: Preset) -> dict[str, Any]:
    """Give what of a preset decides which lesions there are, as JSON has it."""
    settings = preset.session_settings
    return {key: value for key, value in settings.items() if key not in _WORDS}


def applicable(calibration: Calibration | None, preset: Preset) -> Calibration | None:
    """Give the calibration if it was fitted with this very post-processing, else None.

    Settings that it does not name came later; they are taken to have been at their defaults.
    """
    if calibration is None:
        return None
    if settings_of(Preset()) | dict(calibration.preset) != settings_of(preset):
        return None
    return calibration


def assess(
    lesions: tuple[Lesion, ...],
    cord: Cord,
    candidates: Sequence[Candidate],
    calibration: Calibration | None,
    contrasts: int,
) -> tuple[tuple[Lesion, ...], Expected | None]:
    """Give each lesion its probability, and the session its expected number and volume.

    Parameters
    ----------
    lesions : tuple of Lesion
    cord : Cord
        Its length says how much room there was for lesions that left no trace.
    candidates : sequence of Candidate
        Of the same session, the reported lesions among them.
    calibration : Calibration or None
    contrasts : int
        How many the network saw.

    Returns
    -------
    lesions : tuple of Lesion
        Without a calibration the probability is the mean over the voxels.
    expected : Expected or None
        None without a calibration and where the cord has no length.
    """
    if calibration is None:
        return tuple(replace(each, probability=each.mean_probability) for each in lesions), None
    chances = chances_of(candidates, calibration)
    by_index = {each.index: p for each, p in zip(candidates, chances, strict=True) if each.index}
    judged = tuple(replace(each, probability=float(by_index[each.index])) for each in lesions)
    if cord.length_mm is None:
        return judged, None
    missed = calibration.missed_mean(cord.length_mm, contrasts)
    volumes = np.array([each.volume_mm3 for each in candidates])
    return judged, Expected(
        count=expected_count(chances, missed, calibration.missed_dispersion),
        volume_mm3=expected_volume(chances, volumes, missed, calibration),
    )


def find_candidates(
    findings: Findings,
    probability: FloatArray,
    voxel_mm3: float,
    preset: Preset,
    calibration: Calibration | None,
) -> tuple[Candidate, ...]:
    """Find all places in the cord that may be a lesion.

    Parameters
    ----------
    findings : Findings
    probability : ndarray of float, shape (i, j, k)
        Of lesion.
    voxel_mm3 : float
    preset : Preset
        Says which voxels are neighbours.
    calibration : Calibration or None
        Says how faint a candidate may be; without one there are none.

    Returns
    -------
    tuple of Candidate
        The reported lesions in their order, then the others.
    """
    if calibration is None:
        return ()
    labels = label_candidates(findings, probability, preset, calibration.candidate_threshold)
    return describe(labels, probability, voxel_mm3, int(findings.instances.max(initial=0)))


def label_candidates(
    findings: Findings, probability: FloatArray, preset: Preset, threshold: float
) -> IntArray:
    """Give the candidates numbers: reported lesions keep theirs, the others come after.

    A candidate that was not reported is a group of neighbouring voxels in the cord whose
    probability is at least `threshold`. What touches a reported lesion is its fringe, not a
    candidate. NaN counts as 0.
    """
    labels = np.array(findings.instances)
    boxes = ndimage.find_objects(findings.cord.astype(np.int8))
    if not boxes:
        return labels
    inner = labels[boxes[0]]
    likely = (probability[boxes[0]] >= threshold) & findings.cord[boxes[0]]
    faint, _ = ndimage.label(likely | (inner > 0), structure=neighbourhood(preset))
    fringe = np.isin(faint, faint[inner > 0])
    # Gaps in the numbers do no harm, so the fringes' own are left unused.
    others = (faint > 0) & ~fringe
    inner[others] = faint[others] + labels.max()
    return labels


def describe(
    labels: IntArray, probability: FloatArray, voxel_mm3: float, reported: int
) -> tuple[Candidate, ...]:
    """Describe the candidates of a label image; those up to `reported` are reported lesions."""
    inside = labels > 0
    present, owner = np.unique(labels[inside], return_inverse=True)
    logits = special.logit(np.clip(probability[inside].astype(float), _SURE, 1 - _SURE))
    voxels = np.bincount(owner, minlength=len(present))
    means = np.bincount(owner, logits, minlength=len(present)) / voxels
    peaks = np.full(len(present), -np.inf)
    np.maximum.at(peaks, owner, logits)
    return tuple(
        Candidate(float(mean), float(peak), float(n * voxel_mm3), int(label) * (label <= reported))
        for label, mean, peak, n in zip(present, means, peaks, voxels, strict=True)
    )


def chances_of(candidates: Sequence[Candidate], calibration: Calibration) -> FloatArray:
    """Give each candidate's probability of being a lesion, shape (candidates,).

    Logistic in the log-odds and the log volume (Platt 1999); with a weight for the mean log-odds
    only it is temperature scaling (Guo et al. 2017).
    """
    weights = np.array(
        [
            calibration.mean_logit_weight,
            calibration.peak_logit_weight,
            calibration.log_volume_weight,
        ]
    )
    features = np.array([each.features for each in candidates]).reshape(-1, len(weights))
    return np.asarray(special.expit(calibration.intercept + features @ weights))


def count_distribution(chances: FloatArray, missed: float, dispersion: float) -> FloatArray:
    """Give the probability of each number of lesions from 0 on.

    The number of right candidates is Poisson-binomial (independent, each with its own chance);
    that of lesions without a trace is negative binomial with mean `missed` and variance
    `missed` + `dispersion` `missed`², Poisson for a dispersion of 0. Their sum is the exact
    convolution.

    Examples
    --------
    >>> count_distribution(np.array([0.5, 0.5]), 0, 0).tolist()
    [0.25, 0.5, 0.25]
    """
    found = np.ones(1)
    if len(chances):
        found = stats.poisson_binom.pmf(np.arange(len(chances) + 1), np.clip(chances, 0, 1))
    if missed <= 0:
        return np.asarray(found)
    unseen: Any = stats.poisson(missed)
    if dispersion > _POISSON:
        unseen = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * missed))
    return np.convolve(found, unseen.pmf(np.arange(int(unseen.isf(_TAIL)) + 1)))


def expected_count(
    chances: FloatArray, missed: float, dispersion: float, confidence: float = 0.95
) -> Interval:
    """Give the expected number of lesions and its central interval.

    Parameters
    ----------
    chances : ndarray of shape (candidates,)
    missed : float
        Expected number of lesions without a trace.
    dispersion : float
        See `count_distribution`.
    confidence : float
        The whole numbers of the interval hold at least this much probability, and at most half
        of the rest lies on either side. An interval that would not hold the mean, as when one
        lesion has a chance of 1 %, is widened to do so.
    """
    cumulative = np.cumsum(count_distribution(chances, missed, dispersion))
    mean = float(np.sum(chances) + max(missed, 0))
    # Rounding leaves the sum a little off 1; no tail is thinner than that.
    tail = max((1 - confidence) / 2, 1e-9)
    low = int(np.searchsorted(cumulative, tail))
    high = int(np.searchsorted(cumulative, cumulative[-1] - tail))
    return Interval(mean, min(low, math.floor(mean)), max(high, math.ceil(mean - 1e-9)))


def expected_volume(
    chances: FloatArray,
    volumes_mm3: FloatArray,
    missed: float,
    calibration: Calibration,
    confidence: float = 0.95,
) -> Interval:
    """Give the expected volume of all lesions in mm³ and its central interval.

    A candidate counts with its chance, and then with a true volume that is log-normal round
    exp(a) v^b, v being its volume in the mask; lesions without a trace come in the number of
    `count_distribution`, each of a log-normal volume. The mean is exact, the interval is that
    of 20,000 draws from a fixed seed, widened to hold the mean.
    """
    scale = calibration.volume_log_intercept + calibration.volume_log_slope * np.log(volumes_mm3)
    half = calibration.volume_log_sd**2 / 2
    unseen_log, unseen_sd = calibration.missed_volume_log_mean, calibration.missed_volume_log_sd
    mean = float(np.sum(chances * np.exp(scale + half)))
    mean += max(missed, 0) * math.exp(unseen_log + unseen_sd**2 / 2)
    rng = np.random.default_rng(_SEED)
    total = np.zeros(_DRAWS)
    for chance, center in zip(chances, scale, strict=True):
        drawn = np.exp(rng.normal(center, calibration.volume_log_sd, _DRAWS))
        total += np.where(rng.random(_DRAWS) < chance, drawn, 0)
    if missed > 0:
        distribution = count_distribution(np.zeros(0), missed, calibration.missed_dispersion)
        numbers = rng.choice(len(distribution), _DRAWS, p=distribution / distribution.sum())
        sizes = np.exp(rng.normal(unseen_log, unseen_sd, int(numbers.sum())))
        total += np.bincount(np.repeat(np.arange(_DRAWS), numbers), sizes, minlength=_DRAWS)
    low, high = np.quantile(total, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, min(float(low), mean), max(float(high), mean))
