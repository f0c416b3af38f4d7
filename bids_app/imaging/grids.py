"""Arithmetic on voxel grids: orientation, boxes, resampling. Nothing here touches the disk."""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from bids_app.imaging._interpolation import Interpolation, interpolate
from bids_app.records import BoolArray, FloatArray, Volume

Box = tuple[slice, slice, slice]

# Full width at half maximum of a Gaussian of standard deviation 1.
_FWHM = 2.3548
# Programs that write the same grid differ by less.
_ROUNDING_MM = 0.1
# Voxels; a centre on the field's edge is inside.
_ON_THE_EDGE = 1e-6


def to_canonical(volume: Volume) -> Volume:
    """Flip and permute axes until they point closest to right, anterior and superior.

    No voxel value changes, and voxels keep their place in the world. On a tie (an axis at 45
    degrees) nibabel's ``io_orientation`` decides, the same way each time.

    Examples
    --------
    >>> left = Volume(np.arange(8).reshape(2, 2, 2), np.diag([-1.0, 1.0, 1.0, 1.0]))
    >>> canonical = to_canonical(left)
    >>> canonical.affine[0].tolist(), canonical.data[0, 0, 0].item()
    ([1.0, 0.0, 0.0, -1.0], 4)
    """
    orientation = orientations.io_orientation(volume.affine)
    data = orientations.apply_orientation(volume.data, orientation)
    change = orientations.inv_ornt_aff(orientation, volume.data.shape)
    return Volume(np.ascontiguousarray(data), volume.affine @ change)


def from_canonical(data: NDArray[Any], like: Volume) -> Volume:
    """Bring an array on ``to_canonical(like)``'s grid back to the grid of `like`.

    Parameters
    ----------
    data : ndarray of shape ``to_canonical(like).data.shape``
    like : Volume
        Gives the orientation, shape and affine.

    Raises
    ------
    ValueError
        `data` does not have the canonical shape of `like`.
    """
    orientation = orientations.io_orientation(like.affine)
    identity = np.array([[0, 1], [1, 1], [2, 1]])
    back = orientations.ornt_transform(identity, orientation)
    # `back` reads an array in the canonical frame into the frame of `like`.
    restored = orientations.apply_orientation(data, back)
    if restored.shape != like.data.shape:
        raise ValueError(f"Shape {restored.shape} is not {like.data.shape}, the grid to return to.")
    return Volume(np.ascontiguousarray(restored), like.affine)


def same_places(one: Volume, other: Volume) -> bool:
    """Tell whether two grids have their outermost voxels at the same places, as programs round.

    Examples
    --------
    >>> one, other = (Volume(np.zeros((9, 9, 9)), np.diag([s, 1, 1, 1])) for s in (1.0, 1.001))
    >>> same_places(one, other), same_places(one, Volume(one.data, np.diag([1.1, 1, 1, 1])))
    (True, False)
    """
    if one.data.shape != other.data.shape:
        return False
    corners = np.array(list(product(*((0, length - 1) for length in one.data.shape))))
    apart = corners @ (one.affine - other.affine)[:3, :3].T + (one.affine - other.affine)[:3, 3]
    return bool(np.linalg.norm(apart, axis=1).max() < _ROUNDING_MM)


def box_around(mask: BoolArray, spacing_mm: tuple[float, float, float], margin_mm: float) -> Box:
    """Give the smallest box that holds a mask and a margin, cut at the array's edges.

    An empty mask gives the whole array: where nothing is known, nothing is cut away.

    Examples
    --------
    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[4, 4, 4] = True
    >>> [(part.start, part.stop) for part in box_around(mask, (1.0, 2.0, 9.0), 2.0)]
    [(2, 7), (3, 6), (3, 6)]
    """
    if not mask.any():
        i, j, k = (slice(0, length) for length in mask.shape)
        return i, j, k
    parts = []
    for axis, spacing in enumerate(spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing))
        start = max(0, int(inside[0]) - margin)
        parts.append(slice(start, min(mask.shape[axis], int(inside[-1]) + 1 + margin)))
    return parts[0], parts[1], parts[2]


def mark_around(points_mm: FloatArray, image: Volume, margin_mm: float) -> BoolArray:
    """Mark a box of voxels around each point, as far as the image goes.

    Parameters
    ----------
    points_mm : ndarray of shape (n, 3)
        RAS+.
    image : Volume
    margin_mm : float
        Half of the boxes' sides, along the array's axes.

    Returns
    -------
    ndarray of bool, of the image's shape
        Empty where no box meets the image.

    Examples
    --------
    >>> line = Volume(np.zeros((9, 1, 1)), np.diag([2.0, 1.0, 1.0, 1.0]))
    >>> np.flatnonzero(mark_around(np.array([[1.9, 0, 0], [99, 0, 0]]), line, 3.0)).tolist()
    [0, 1, 2]
    """
    marked = np.zeros(image.data.shape, dtype=bool)
    index = (points_mm - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    margin = margin_mm / np.array(image.spacing_mm)
    low = np.clip(np.ceil(index - margin), 0, None).astype(int)
    high = np.clip(np.floor(index + margin) + 1, 0, None).astype(int)
    for start, stop in zip(low, high, strict=True):
        marked[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return marked


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume; what is left keeps its place in the world.

    Parameters
    ----------
    volume : Volume
    box : tuple of three slices
        With start and stop inside the array and no step, as :func:`box_around` gives.
    """
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in box]
    return Volume(volume.data[box], volume.affine @ shift)


def paste(part: NDArray[Any], box: Box, like: Volume, fill: float = 0) -> Volume:
    """Put a cropped array back on the grid of `like`; the rest is `fill`.

    Raises
    ------
    ValueError
        `part` does not have the shape of `box`.
    """
    data = np.full(like.data.shape, fill, dtype=part.dtype)
    if data[box].shape != part.shape:
        raise ValueError(f"Shape {part.shape} does not fill the box of {data[box].shape}.")
    data[box] = part
    return Volume(data, like.affine)


def coverage(moving: Volume, reference: Volume, matrix: FloatArray | None = None) -> BoolArray:
    """Tell which voxels of the reference have their centre inside the moving field of view.

    Parameters
    ----------
    moving, reference : Volume
        Only the shapes and affines are used.
    matrix : ndarray of shape (4, 4), optional
        From RAS+ points of the reference to RAS+ points of the moving image (mm).

    Returns
    -------
    ndarray of bool, of the reference's shape
    """
    i, j, k = np.ogrid[tuple(slice(length) for length in reference.data.shape)]
    first, last = np.zeros((1, 1, 1)), np.full((1, 1, 1), k.size - 1.0)
    # Along each line of voxels those inside are next to each other.
    for row, length in zip(
        index_map(moving, reference, matrix)[:3], moving.data.shape, strict=True
    ):
        before = row[0] * i + row[1] * j + row[3]
        ends = [end - before for end in (-0.5 - _ON_THE_EDGE, length - 0.5 + _ON_THE_EDGE)]
        if abs(row[2]) < _ON_THE_EDGE / k.size:
            last = np.where((ends[0] <= 0) & (ends[1] >= 0), last, -1.0)
            continue
        low, high = (end / row[2] for end in (ends if row[2] > 0 else ends[::-1]))
        first, last = np.maximum(first, np.ceil(low)), np.minimum(last, np.floor(high))
    return np.asarray((k >= first) & (k <= last))


def resample_to(
    moving: Volume,
    reference: Volume,
    matrix: FloatArray | None = None,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
) -> Volume:
    """Resample an image onto the grid of another.

    Where the new voxels are larger than the old ones, the image is first smoothed to a slice
    profile as wide as a new voxel, so that nothing aliases (not for ``nearest``). ``cubic`` is
    a B-spline, clipped to the range of the image. Within half a voxel of the field's edge the
    edge voxel is repeated; beyond lies `fill`, see :func:`coverage`.

    Parameters
    ----------
    moving, reference : Volume
        Of `reference` only the shape and affine are used.
    matrix : ndarray of shape (4, 4), optional
        From RAS+ points of the reference to RAS+ points of the moving image (mm): the
        `matrix` of an `Alignment`. Without it, the headers place the image.
    interpolation : {"nearest", "linear", "cubic"}
        ``nearest`` for labels.
    fill : float
        The value outside the moving field of view.

    Returns
    -------
    Volume
        On the reference's grid, in the dtype of `moving` (float32 where that is an integer or
        bool and values were interpolated).
    """
    to_index = index_map(moving, reference, matrix)
    source = moving.data.astype(_working_dtype(moving.data, interpolation), copy=False)
    if interpolation != "nearest":
        source = smooth_to_profile(source, to_index)
    data = interpolate(source, to_index, reference.data.shape, interpolation)
    data[~coverage(moving, reference, matrix)] = fill
    return Volume(
        data.astype(_result_dtype(moving.data, interpolation), copy=False), reference.affine
    )


def resample_part(
    part: Volume,
    reference: Volume,
    matrix: FloatArray | None = None,
    interpolation: Literal["nearest", "linear"] = "linear",
) -> Volume:
    """Resample an image that is zero in most places, such as a mask; only the rest takes time.

    Parameters are those of `resample_to`, of which it gives the result. There is no ``cubic``,
    because a spline goes up and down far from where the image does.
    """
    empty = Volume(
        np.zeros(reference.data.shape, _result_dtype(part.data, interpolation)), reference.affine
    )
    if not part.data.any():
        return empty
    box = box_around(part.data != 0, (1.0, 1.0, 1.0), 1.0)
    corners = np.array(list(product(*((side.start - 0.5, side.stop - 0.5) for side in box))))
    back = np.linalg.inv(index_map(part, reference, matrix))
    there = corners @ back[:3, :3].T + back[:3, 3]
    # Beyond the corners lies what a new voxel's slice profile still sees.
    extent = np.linalg.norm(back[:3, :3], axis=1) + 3.0
    low = np.floor(there.min(axis=0) - extent).clip(0).astype(int)
    high = np.ceil(there.max(axis=0) + extent).clip(0).astype(int) + 1
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    inner = crop(reference, (i, j, k))
    if inner.data.size:
        empty.data[i, j, k] = resample_to(part, inner, matrix, interpolation).data
    return empty


def index_map(moving: Volume, reference: Volume, matrix: FloatArray | None = None) -> FloatArray:
    """Give the matrix from voxel indices of the reference to voxel indices of the moving."""
    world = np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64)
    result: FloatArray = np.linalg.solve(moving.affine, world @ reference.affine)
    return result


def smooth_to_profile(data: FloatArray, to_index: FloatArray) -> FloatArray:
    """Smooth an image to the voxels of a coarser grid; leave it alone for a finer one.

    The Gaussian's full width at half maximum, added in quadrature to one voxel, is the extent
    of a new voxel along each old axis.
    """
    from scipy import ndimage

    extent = np.linalg.norm(to_index[:3, :3], axis=1)
    sigma = np.sqrt(np.maximum(extent**2 - 1.0, 0.0)) / _FWHM
    # Below a quarter of a voxel the kernel is a delta, and a rotation alone must not blur.
    sigma[sigma < 0.25] = 0.0
    if not sigma.any():
        return data
    smoothed: FloatArray = ndimage.gaussian_filter(data, sigma, mode="nearest", truncate=3.0)
    return smoothed


def _working_dtype(data: NDArray[Any], interpolation: Interpolation) -> np.dtype[Any]:
    """Interpolate in floating point; carry labels as they are (bool as uint8)."""
    if interpolation == "nearest":
        return np.dtype(np.uint8) if data.dtype == np.bool_ else data.dtype
    return data.dtype if data.dtype.kind == "f" else np.dtype(np.float32)


def _result_dtype(data: NDArray[Any], interpolation: Interpolation) -> np.dtype[Any]:
    """Give labels back in their own type, interpolated integers as float32."""
    return data.dtype if interpolation == "nearest" else _working_dtype(data, interpolation)
