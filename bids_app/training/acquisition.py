"""From a noise-free signal on a fine grid to what a scanner would have stored.

Slices, partial volume and ringing are linear and act along one axis at a time, so each is a
small matrix: acquiring is three matrix products. The rest (bias, ghosts, noise, quantisation)
works on the acquired grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bids_app.records import FloatArray
from bids_app.training.structures import smooth_noise

Array = FloatArray


@dataclass(frozen=True)
class Protocol:
    """Geometry of an acquisition along the three array axes.

    Attributes
    ----------
    kind : str
        ``sagittal``, ``axial`` or ``isotropic``.
    spacing_mm : tuple of float
    thickness_mm : tuple of float
        Width of the slice profile along each axis; less than the spacing where there is a gap.
    """

    kind: str
    spacing_mm: tuple[float, float, float]
    thickness_mm: tuple[float, float, float]


def draw_protocol(rng: np.random.Generator, kind: str | None = None) -> Protocol:
    """Draw a protocol for an array in RAS order (right, anterior, superior).

    Parameters
    ----------
    rng : numpy.random.Generator
    kind : str, optional
        ``sagittal``, ``axial`` or ``isotropic``; drawn when None.
    """
    if kind is None:
        kind = str(rng.choice(["sagittal", "axial", "isotropic"], p=[0.4, 0.33, 0.27]))
    if kind == "isotropic":
        size = rng.uniform(0.65, 1.35)
        return Protocol(kind, (size, size, size), (size, size, size))
    plane = float(np.exp(rng.uniform(np.log(0.38), np.log(1.05))))
    slab = rng.uniform(2.0, 4.2) if kind == "sagittal" else rng.uniform(2.5, 8.0)
    filled = slab * (1 - rng.uniform(0, 0.2) * (rng.random() < 0.6))
    axis = 0 if kind == "sagittal" else 2
    spacing, thickness = [plane] * 3, [plane] * 3
    spacing[axis], thickness[axis] = slab, filled
    return Protocol(
        kind, (spacing[0], spacing[1], spacing[2]), (thickness[0], thickness[1], thickness[2])
    )


def slice_matrix(
    fine_mm: Array,
    centers_mm: Array,
    thickness_mm: float,
    ringing: float = 0.0,
    truncation: float = 1.0,
) -> Array:
    """Build the matrix that averages a fine axis into slices.

    Parameters
    ----------
    fine_mm : ndarray of shape (n,)
        Evenly spaced positions of the fine grid.
    centers_mm : ndarray of shape (m,)
    thickness_mm : float
        Full width of the slice profile (a box with soft flanks).
    ringing : float
        Share of a sinc profile (Gibbs ringing), 0 to 1.
    truncation : float
        Width of that profile in voxels: above 1 where a scanner interpolates to a finer matrix
        than it has measured.

    Returns
    -------
    ndarray of shape (m, n), float32
        Rows sum to one.

    Examples
    --------
    >>> slice_matrix(np.arange(4.0), np.array([0.5, 2.5]), 2.0).round(2).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    step = float(fine_mm[1] - fine_mm[0])
    gap = np.abs(centers_mm[:, None] - fine_mm[None])
    width = max(thickness_mm, step)
    weight = np.clip((width / 2 - gap) / step + 0.5, 0, 1)
    if ringing:
        period = width * truncation
        lobe = np.sinc(gap / period) * (gap < 6 * period)
        weight = weight / weight.sum(1, keepdims=True).clip(1e-6)
        lobe = lobe / lobe.sum(1, keepdims=True).clip(1e-6)
        weight = (1 - ringing) * weight + ringing * lobe
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray(weight / np.where(np.abs(total) < 1e-6, 1, total), np.float32)


def linear_matrix(source_mm: Array, target_mm: Array) -> Array:
    """Build the matrix that interpolates linearly, edges repeated.

    Examples
    --------
    >>> linear_matrix(np.array([0.0, 2.0]), np.array([-1.0, 0.5, 2.0])).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.0, 1.0]]
    """
    if source_mm.size == 1:
        return np.ones((target_mm.size, 1), np.float32)
    step = source_mm[1] - source_mm[0]
    place = np.clip((target_mm - source_mm[0]) / step, 0, source_mm.size - 1)
    return np.asarray(
        np.clip(1 - np.abs(place[:, None] - np.arange(source_mm.size)), 0, 1), np.float32
    )


def apply_axes(image: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """Apply one matrix along each of the last three axes.

    Parameters
    ----------
    image : ndarray of shape (..., i, j, k)
    matrices : tuple of ndarray of shape (new, old)

    Returns
    -------
    ndarray of shape (..., new i, new j, new k), float32
    """
    first, second, third = (torch.from_numpy(matrix) for matrix in matrices)
    data = torch.from_numpy(np.ascontiguousarray(image, np.float32)) @ third.T
    data = second @ data
    *lead, i, j, k = data.shape
    data = first @ data.reshape(*lead, i, j * k)
    return np.asarray(data.reshape(*lead, first.shape[0], j, k).numpy())


def degrade(
    image: Array,
    protocol: Protocol,
    rng: np.random.Generator,
    noise_floor: bool,
    strength: float = 1.0,
) -> Array:
    """Add what scanners add: bias, slice jitter, ghosts, noise, quantisation, outliers.

    Parameters
    ----------
    image : ndarray of shape (i, j, k)
        Signal on the acquired grid, tissues between about 0 and 1.
    protocol : Protocol
    rng : numpy.random.Generator
    noise_floor : bool
        Fill the dark background with strong noise, as in UNIT1.
    strength : float
        Scales noise and artefacts; 0 leaves a clean image.

    Returns
    -------
    ndarray of shape (i, j, k), float32
    """
    if strength == 0:
        return image
    size_mm = [n * s for n, s in zip(image.shape, protocol.spacing_mm, strict=True)]
    steps = tuple(
        max(1.0, rng.uniform(35, 120) * n / size)
        for n, size in zip(image.shape, size_mm, strict=True)
    )
    image = image * np.exp(smooth_noise(rng, image.shape, steps) * rng.uniform(0, 0.3) * strength)
    if protocol.kind != "isotropic" and rng.random() < 0.4:
        axis = int(np.argmax(protocol.spacing_mm))
        shape = [1, 1, 1]
        shape[axis] = image.shape[axis]
        image = image * rng.normal(1, 0.06 * strength, shape).astype(np.float32)
    if rng.random() < 0.15:
        axis = int(rng.integers(3))
        roll = int(rng.integers(2, max(3, image.shape[axis] // 2)))
        image = image + strength * rng.uniform(0.02, 0.12) * np.roll(image, roll, axis)
    image = _add_noise(image, rng, noise_floor, strength)
    if rng.random() < 0.3:
        image = _interpolate(image, rng, protocol)
    if rng.random() < 0.12:
        top = max(float(np.abs(image).max()), 1e-3)
        levels = rng.integers(48, 256)
        image = np.round(image / top * levels) / levels
    if rng.random() < 0.1:
        spots = rng.integers(0, image.size, int(rng.integers(1, 12)))
        image.reshape(-1)[spots] = rng.uniform(1, 4)
    return np.asarray(image, np.float32)


def _interpolate(image: Array, rng: np.random.Generator, protocol: Protocol) -> Array:
    """Blur in the plane as interpolation to a finer matrix does: its noise is in blobs."""
    sigma = [rng.uniform(0.3, 0.9)] * 3
    if protocol.kind != "isotropic":
        sigma[int(np.argmax(protocol.spacing_mm))] = 0.0
    return np.asarray(gaussian_filter(image, sigma, truncate=2.5))


def _add_noise(image: Array, rng: np.random.Generator, noise_floor: bool, strength: float) -> Array:
    """Rician or Gaussian noise; a fine voxel is noisier than a coarse one."""
    sigma = float(np.exp(rng.uniform(np.log(0.006), np.log(0.075)))) * strength
    real = image + rng.standard_normal(image.shape, dtype=np.float32) * sigma
    if noise_floor:
        dark = np.clip(1 - image / 0.12, 0, 1) * rng.uniform(0.3, 1.0)
        return np.asarray(real * (1 - dark) + dark * rng.random(image.shape, dtype=np.float32))
    if rng.random() < 0.7:
        imaginary = rng.standard_normal(image.shape, dtype=np.float32) * sigma
        return np.asarray(np.sqrt(real * real + imaginary * imaginary))
    return np.asarray(real)
