"""How good an image is at the cord: signal, contrast and evenness against its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_app.imaging.grids import box_around
from bids_app.records import BoolArray, FloatArray, IntArray

# Second differences along both axes of a slice: straight edges and slow changes give nothing.
_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Noise of standard deviation 1 gives such differences one of 6; the median of |N(0, 1)|.
_DIFFERENCES_SD, _MEDIAN_OF_NORMAL = 6.0, 0.67449
_SURROUND_MM = (1.0, 3.0)
_FEWEST = 20


@dataclass(frozen=True)
class CordSignal:
    """What an image shows at the cord; None where it is undefined.

    Attributes
    ----------
    snr : float or None
        Median signal of the cord over the noise.
    cnr : float or None
        Difference to what surrounds the cord over the noise.
    signal_range : float or None
        5th to 95th percentile of the slices' medians over their median.
    """

    snr: float | None
    cnr: float | None
    signal_range: float | None


def judge_signal(
    image: NDArray[np.generic],
    cord: BoolArray,
    lesion: BoolArray,
    spacing_mm: tuple[float, float, float],
) -> CordSignal:
    """Measure signal, contrast and noise of an image at the cord.

    Parameters
    ----------
    image : ndarray of shape (i, j, k)
        Intensities of any scale, as they were acquired; the third axis runs along the cord.
    cord, lesion : ndarray of bool, shape (i, j, k)
        Lesions are left out, since they are no noise and no fault.
    spacing_mm : tuple of float

    Returns
    -------
    CordSignal
        The noise is estimated in the plane of the slices (across the thickest voxel side) from
        Immerkaer's differences (1996, Comput Vis Image Underst 64:300-302), by the median so
        that edges do not count. SNR and CNR are None when fewer than 20 voxels of the cord have
        all their neighbours in it, and for images without noise, such as a constant one.
    """
    box = box_around(cord, spacing_mm, _SURROUND_MM[1] + 2 * max(spacing_mm))
    data = np.asarray(image[box], np.float32)
    inside, healthy = cord[box], cord[box] & ~lesion[box]
    if healthy.sum() < _FEWEST:
        return CordSignal(None, None, None)
    signal = float(np.median(data[healthy]))
    noise = noise_sd(data, healthy, spacing_mm)
    around = _surround(inside, spacing_mm)
    snr = abs(signal) / noise if noise else None
    cnr = None
    if noise and around.sum() >= _FEWEST:
        cnr = abs(float(np.median(data[around])) - signal) / noise
    return CordSignal(snr, cnr, _range_along(data, healthy))


def noise_sd(
    data: FloatArray, inside: BoolArray, spacing_mm: tuple[float, float, float]
) -> float | None:
    """Estimate the noise's standard deviation where all neighbours in the slice are inside.

    Returns
    -------
    float or None
        In the image's unit; None for fewer than 20 such voxels, or without any noise.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(100, 5, (40, 40, 10)).astype(np.float32)
    >>> round(noise_sd(noise, np.ones(noise.shape, bool), (0.5, 0.5, 3.0)))
    5
    """
    across = int(np.argmax(np.round(spacing_mm, 3)))
    window = np.expand_dims(np.ones((3, 3), bool), across)
    core = ndimage.binary_erosion(inside, window)
    if core.sum() < _FEWEST:
        return None
    differences = ndimage.convolve(data, np.expand_dims(_DIFFERENCES, across), mode="nearest")
    size = float(np.median(np.abs(differences[core])))
    return size / (_DIFFERENCES_SD * _MEDIAN_OF_NORMAL) or None


def _surround(cord: BoolArray, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Take what lies a little outside the cord, beside it and not beyond its ends."""
    distance = ndimage.distance_transform_edt(~cord, sampling=spacing_mm)
    near = (distance >= _SURROUND_MM[0]) & (distance <= _SURROUND_MM[1])
    return np.asarray(near & cord.any(axis=(0, 1)))


def _range_along(data: FloatArray, healthy: BoolArray) -> float | None:
    shown: IntArray = np.flatnonzero(healthy.any(axis=(0, 1)))
    medians = [float(np.median(data[:, :, k][healthy[:, :, k]])) for k in shown]
    middle = abs(float(np.median(medians)))
    low, high = np.percentile(medians, (5, 95))
    return float(high - low) / middle if middle else None
