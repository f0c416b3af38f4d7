"""How alike two images are around the cord: normalised mutual information of local contrast.

Both images are first divided by their own local mean and spread, which takes the receive field
out (surface coils make it steep around the neck), and smoothed to the coarser voxel of the two
along every direction. The entropies are those of Studholme, Hill and Hawkes, Pattern
Recognition 32(1):71-86, 1999.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bids_app.imaging.grids import index_map, resample_to, smooth_to_profile
from bids_app.records import BoolArray, FloatArray, IntArray, Volume

# A turn of 1/30 rad moves points 30 mm from the cord by 1 mm, so that all six parameters of a
# pose are millimetres.
LEVER_MM = 30.0
FINEST_MM = 0.8
_CONTRAST_MM = 12.0
_FWHM = 2.3548
# Of more values than these, every so many are enough for percentiles.
_MANY, _STRIDE = 200_000, 13
# Fewer points than this make a joint histogram of noise.
FEWEST_POINTS = 300


def pose_matrix(pose: FloatArray, centre_mm: FloatArray) -> FloatArray:
    """Turn a pose into the matrix between RAS+ points.

    Parameters
    ----------
    pose : ndarray of shape (6,)
        Translation (mm) of the centre, and rotation vector times ``LEVER_MM``.
    centre_mm : ndarray of shape (3,)
        The point about which the turn happens.

    Returns
    -------
    ndarray of shape (4, 4)
    """
    matrix = np.eye(4)
    turn = _turn(*(float(value) / LEVER_MM for value in pose[3:]))
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre_mm + pose[:3] - (turn * centre_mm).sum(axis=1)
    return matrix


def _turn(x: float, y: float, z: float) -> FloatArray:
    """Turn a rotation vector (rad) into a matrix by Rodrigues' formula.

    SciPy's `Rotation` does the same, but takes a tenth of the whole registration for it.
    """
    angle = math.sqrt(x * x + y * y + z * z)
    # The limits of sin(a) / a and (1 - cos(a)) / a^2 at zero, where the quotients fail.
    first = math.sin(angle) / angle if angle > 1e-8 else 1.0
    second = 2 * (math.sin(angle / 2) / angle) ** 2 if angle > 1e-8 else 0.5
    return np.array(
        [
            [
                1 - second * (y * y + z * z),
                second * x * y - first * z,
                second * x * z + first * y,
            ],
            [
                second * x * y + first * z,
                1 - second * (x * x + z * z),
                second * y * z - first * x,
            ],
            [
                second * x * z - first * y,
                second * y * z + first * x,
                1 - second * (x * x + y * y),
            ],
        ]
    )


@dataclass(frozen=True)
class Similarity:
    """Score poses of one image pair at fixed points; higher is better.

    Attributes
    ----------
    points_mm : ndarray of shape (3, n), float32
        RAS+ points of the fixed image at which both are compared.
    fixed_bins : ndarray of int, shape (n,)
        The fixed image's histogram row at each point, times `bins`.
    other : ndarray of shape (i, j, k)
        The other image, in units of bins.
    other_from_world : ndarray of shape (4, 4)
    centre_mm : ndarray of shape (3,)
    bins : int
    start_count : int
        Number of points inside the other image when the headers place it.
    """

    points_mm: FloatArray
    fixed_bins: IntArray
    other: FloatArray
    other_from_world: FloatArray
    centre_mm: FloatArray
    bins: int
    start_count: int

    def score(self, pose: FloatArray, where: BoolArray | None = None) -> float:
        """Give (H(a) + H(b)) / H(a, b) - 1 over the points inside both images.

        Less than half of the points that overlap by the headers lowers the score in
        proportion: a small overlap is easily alike.

        Parameters
        ----------
        pose : ndarray of shape (6,)
        where : ndarray of bool, shape (n,), optional
            The points to use; without it, all that are covered.
        """
        position = self._position(pose)
        use = self._inside(position) if where is None else where
        count = int(np.count_nonzero(use))
        if count < FEWEST_POINTS:
            return 0.0
        value = _between_voxels(self.other, position)
        below = np.minimum(value.astype(np.int64), self.bins - 2)
        upper = value - below
        lower = 1 - upper
        # Weighing points by nothing takes less time than leaving them out of all arrays.
        if count < use.size:
            upper *= use
            lower *= use
        cell = self.fixed_bins + below
        size = self.bins**2
        counts = np.bincount(cell, lower, size) + np.bincount(cell + 1, upper, size)
        joint = counts.astype(np.float64).reshape(self.bins, self.bins) / count
        both = _entropy(joint)
        if both < 1e-9:  # nothing to be seen in either image
            return 0.0
        alike = (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both - 1
        if where is None:
            alike *= min(1.0, 2 * count / max(1, self.start_count))
        return float(alike)

    def covered(self, pose: FloatArray) -> BoolArray:
        """Tell which points a pose puts inside the other image."""
        return self._inside(self._position(pose))

    def _position(self, pose: FloatArray) -> FloatArray:
        """Give voxel coordinates in the other image, shape (3, n), float32."""
        matrix = self.other_from_world @ pose_matrix(pose, self.centre_mm)
        x, y, z = self.points_mm
        # Spelled out because a matrix product may round differently from thread to thread.
        position = np.empty_like(self.points_mm)
        for row, into in zip(matrix[:3].tolist(), position, strict=True):
            np.multiply(x, row[0], out=into)
            into += row[1] * y
            into += row[2] * z
            into += row[3]
        return position

    def _inside(self, position: FloatArray) -> BoolArray:
        """Tell which voxel coordinates lie in the other image, its outer half voxel too."""
        inside = np.ones(position.shape[1], bool)
        for row, count in zip(position, self.other.shape, strict=True):
            inside &= row >= -0.5
            inside &= row <= count - 0.5
        return inside


def build_similarity(
    fixed: Volume, other: Volume, points_mm: FloatArray, centre_mm: FloatArray, fwhm_mm: float
) -> Similarity:
    """Blur both images and sort them into bins.

    Parameters
    ----------
    fixed, other : Volume
        As :func:`comparable` gives them.
    points_mm : ndarray of shape (3, n)
    centre_mm : ndarray of shape (3,)
    fwhm_mm : float
        Blur on top of the images' own; coarse levels look through it.
    """
    from scipy import ndimage

    bins = 24 if fwhm_mm > 3 else 32
    fixed, other = _blur(fixed, fwhm_mm), _blur(other, fwhm_mm)
    position = _apply(np.linalg.inv(fixed.affine), points_mm)
    rows = np.rint(
        _to_bins(ndimage.map_coordinates(fixed.data, position, order=1, mode="nearest"), bins)
    )
    similarity = Similarity(
        points_mm=np.ascontiguousarray(points_mm, np.float32),
        fixed_bins=rows.astype(np.int64) * bins,
        other=_to_bins(other.data, bins),
        other_from_world=np.linalg.inv(other.affine),
        centre_mm=centre_mm,
        bins=bins,
        start_count=0,
    )
    start = int(np.count_nonzero(similarity.covered(np.zeros(6))))
    return Similarity(**{**vars(similarity), "start_count": start})


def comparable(volume: Volume, partner: Volume) -> Volume:
    """Bring an image to the resolution of its partner and to local contrast.

    Voxels finer than 0.8 mm are merged first: they cost time and do not align better.
    """
    spacing = np.array(volume.spacing_mm)
    working = np.maximum(spacing, FINEST_MM)
    if (working > spacing).any():
        shape = np.maximum(2, np.ceil(np.array(volume.data.shape) * spacing / working))
        affine = volume.affine @ np.diag([*(working / spacing), 1.0])
        # The first coarse voxel begins where the first fine one does.
        affine[:3, 3] += volume.affine[:3, :3] @ ((working / spacing - 1) / 2)
        volume = resample_to(volume, Volume(np.zeros(shape.astype(int)), affine))
    data = volume.data.astype(np.float32, copy=False)
    data = smooth_to_profile(data, index_map(volume, partner))
    return Volume(_local_contrast(data, volume.spacing_mm), volume.affine)


def _local_contrast(data: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Subtract the mean and divide by the spread of each voxel's surroundings."""
    from scipy import ndimage

    sigma = _CONTRAST_MM / np.array(spacing_mm)
    # So wide a Gaussian is smooth: it is told by the means of blocks of a sixth of it.
    block = np.maximum(1, sigma / 6).astype(int)
    means = (_block_mean(part, block) for part in (data, data * data))
    mean, square = (ndimage.gaussian_filter(m, sigma / block, truncate=2.5) for m in means)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    # The floor keeps empty surroundings (air) from being blown up to noise.
    scale = 1 / (spread + 0.1 * spread.mean() + np.finfo(np.float32).tiny)
    result: FloatArray = data - _between_blocks(mean, block, data.shape)
    result *= _between_blocks(scale, block, data.shape)
    return result


def _block_mean(data: FloatArray, block: IntArray) -> FloatArray:
    """Give the mean of each block of voxels; what is missing of the last ones is mirrored.

    An axis at a time and as whole arrays, because NumPy sums short stretches of an axis slowly.
    """
    room = [(0, -length % step) for length, step in zip(data.shape, block, strict=True)]
    data = np.pad(data, room, mode="symmetric") if np.any(room) else data
    for axis, step in enumerate(block.tolist()):
        parts = [slice(None)] * 3
        total: FloatArray | float = 0.0
        for start in range(step):
            parts[axis] = slice(start, None, step)
            total = total + data[tuple(parts)]
        data = np.asarray(total) * (1 / step)
    return data


def _between_blocks(means: FloatArray, block: IntArray, shape: tuple[int, ...]) -> FloatArray:
    """Interpolate linearly between the centres of blocks, an axis at a time.

    SciPy's `zoom` gives the same and takes eight neighbours of each voxel, ten times as long.
    """
    # The last axis first: what is large then is copied in long rows.
    for axis in (2, 1, 0):
        position = (np.arange(shape[axis]) - (block[axis] - 1) / 2) / block[axis]
        position = position.clip(0, means.shape[axis] - 1)
        below = position.astype(int)
        share = (position - below).astype(np.float32).reshape([-1, *[1] * (2 - axis)])
        lower = means.take(below, axis)
        upper = means.take(np.minimum(below + 1, means.shape[axis] - 1), axis)
        means = lower + (upper - lower) * share
    return means


def _blur(volume: Volume, fwhm_mm: float) -> Volume:
    """Blur an image, on voxels of up to half the width of the blur: nothing finer is left."""
    from scipy import ndimage

    spacing = np.array(volume.spacing_mm)
    block = np.maximum(1, fwhm_mm / 2 / spacing).astype(int)
    affine = volume.affine @ np.diag([*block, 1.0])
    affine[:3, 3] += volume.affine[:3, :3] @ ((block - 1) / 2)
    data = _block_mean(volume.data, block) if (block > 1).any() else volume.data
    # The means of blocks are a blur already, of this variance.
    variance = (fwhm_mm / _FWHM) ** 2 - spacing**2 * (block**2 - 1) / 12
    sigma = np.sqrt(variance.clip(0)) / (spacing * block)
    sigma[sigma < 0.25] = 0
    if sigma.any():
        data = ndimage.gaussian_filter(data, sigma, truncate=3.0)
    return Volume(data, affine)


def _to_bins(values: FloatArray, bins: int) -> FloatArray:
    """Scale from the 1st to the 99th percentile into [0, bins - 1]."""
    # A prime stride, so that some are taken of every row and column.
    some = values.ravel()[:: _STRIDE if values.size > _MANY else 1]
    low, high = np.percentile(some, [1, 99]).tolist()
    scaled: FloatArray = np.subtract(values, low, dtype=np.float32)
    scaled *= (bins - 1) / max(high - low, 1e-12)
    return np.clip(scaled, 0, bins - 1, out=scaled)


def _between_voxels(image: FloatArray, position: FloatArray) -> FloatArray:
    """Interpolate linearly at voxel coordinates of shape (3, n); beyond the image its edge counts.

    SciPy's `map_coordinates` of order 1 gives the same and takes twice as long, most of the search.

    Examples
    --------
    >>> image = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    >>> places = np.array([[0.0, 0.5, 1.4], [0, 0.5, 1], [0.25, 0.5, 9]], np.float32)
    >>> _between_voxels(image, places).tolist()
    [0.25, 3.5, 7.0]
    """
    values, strides = image.ravel(), np.array(image.strides) // image.itemsize
    place = np.zeros(position.shape[1], np.int64)
    steps, shares = [], []
    for row, length, stride in zip(position, image.shape, strides.tolist(), strict=True):
        share = np.maximum(row, 0)
        np.minimum(share, length - 1, out=share)
        low = np.floor(share)
        np.minimum(low, max(0, length - 2), out=low)
        share -= low
        place += low.astype(np.int64) * stride
        shares.append(share)
        steps.append(stride if length > 1 else 0)

    def along(axis: int, at: IntArray) -> FloatArray:
        if axis == 3:
            return values.take(at)
        one, other = along(axis + 1, at), along(axis + 1, at + steps[axis])
        other -= one
        other *= shares[axis]
        other += one
        return other

    return along(0, place)


def _entropy(share: FloatArray) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _apply(matrix: FloatArray, points: FloatArray) -> FloatArray:
    result: FloatArray = matrix[:3, :3] @ points + matrix[:3, 3:]
    return result
