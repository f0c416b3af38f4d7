"""Where the network has to look closely: at large pieces of what a quick pass took for cord."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from scipy.ndimage import find_objects, label

from bids_app.records import BoolArray, FloatArray, IntArray

Tile = tuple[slice | int, ...]

# The quick pass may be wrong about the cord's edge by so many voxels.
_MARGIN = 4
# What a network says so many voxels from a tile's border is hardly changed by a neighbour that sees
# further. Patches of four times as much see all of a cord so well, those of the box do not.
_ENOUGH = 24
# A tile that has less of the tiles' weight all along the cord is left out. Four voxels further on,
# where the cord's edge may really be, it would have a quarter.
_MIN_WEIGHT = 0.05
# One that has more of it somewhere is not, however well others see: the network answers a little
# otherwise in each, and without it masks of lesions agree with 0.987 to 0.995 (docs/speed.md).
_MUCH_WEIGHT = 0.2
# A tile with less than this everywhere is the lesser one wherever the cord runs.
_HALF = 0.5
# A piece of the first pass smaller than this share of the largest is not followed.
_MIN_SHARE = 0.05


def large_pieces(cord: BoolArray) -> BoolArray | None:
    """Keep the pieces of a mask that are worth looking at.

    Parameters
    ----------
    cord : ndarray of bool, shape (z, y, x)

    Returns
    -------
    ndarray of bool, or None for an empty mask

    Examples
    --------
    >>> cord = np.zeros((1, 1, 100), bool)
    >>> cord[..., :60] = cord[..., 70:73] = cord[..., 80:82] = True
    >>> np.flatnonzero(np.diff(large_pieces(cord)[0, 0]))
    array([59, 69, 72])
    """
    if not cord.any():
        return None
    # Most of an image is none of it, and labelling takes as long there.
    (box,) = find_objects(cord.view(np.uint8), 1)
    pieces, _ = label(cord[box])
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = np.zeros_like(cord)
    kept[box] = (sizes >= _MIN_SHARE * sizes.max())[pieces]
    return kept


def tiles_for(cord: BoolArray, tiles: Sequence[Tile]) -> list[Tile]:
    """Choose the tiles that decide what is said of a cord.

    Of those that meet it, some weigh next to nothing wherever it runs. Others weigh little, and see
    nothing that their neighbours do not see with ample surroundings.

    Parameters
    ----------
    cord : ndarray of bool, shape (z, y, x)
    tiles : sequence of tuple
        All there are.

    Examples
    --------
    >>> cord = np.zeros((200, 128), bool)
    >>> cord[:, 50] = True
    >>> small = [(slice(0, 200), slice(start, start + 64)) for start in (0, 32, 64)]
    >>> [tile[1].start for tile in tiles_for(cord, small)]
    [0, 32]
    >>> large = [(slice(0, 200), slice(start, start + 96)) for start in (0, 20, 40)]
    >>> [tile[1].start for tile in tiles_for(cord, large)]
    [0, 20]
    """
    near = [tile for tile in tiles if meets(tile, cord)]
    boxes = [tuple(part for part in tile if isinstance(part, slice)) for tile in near]
    # Flat patches are one in each slice, and none of them sees what another does.
    if not near or any(len(box) < cord.ndim for box in boxes):
        return near
    places = np.argwhere(cord)
    share = _weightiest(boxes, places)
    heavy = share >= _MIN_WEIGHT
    near, boxes, share = list(compress(near, heavy)), list(compress(boxes, heavy)), share[heavy]
    well = [_sees_well(box, places, cord.shape) for box in boxes]
    badly = places[~np.any(well, axis=0)]
    kept = [
        bool(each >= _MUCH_WEIGHT or _holds(box, badly).any())
        for box, each in zip(boxes, share, strict=True)
    ]
    left = np.any(well, axis=0)
    for each, keep in zip(well, kept, strict=True):
        left &= ~(each & keep)
    while left.any():
        best = int(np.argmax([np.count_nonzero(each & left) for each in well]))
        kept[best] = True
        left &= ~well[best]
    return [tile for tile, keep in zip(near, kept, strict=True) if keep]


def lesser(cord: BoolArray, tiles: Sequence[Tile]) -> list[bool]:
    """Tell which tiles have less than half of the tiles' weight wherever a cord runs.

    Parameters are those of `tiles_for`, of which the tiles are.

    Examples
    --------
    >>> cord = np.zeros((200, 128), bool)
    >>> cord[:, 42] = True
    >>> lesser(cord, [(slice(0, 200), slice(start, start + 64)) for start in (0, 32)])
    [False, True]
    """
    boxes = [tuple(part for part in tile if isinstance(part, slice)) for tile in tiles]
    if any(len(box) < cord.ndim for box in boxes):
        return [False] * len(boxes)
    return [bool(share < _HALF) for share in _weightiest(boxes, np.argwhere(cord))]


def _weightiest(boxes: Sequence[tuple[slice, ...]], places: IntArray) -> FloatArray:
    """Give the highest share of the tiles' weight that each has among places, shape (n, 3).

    Tiles are weighed with nnU-Net's Gaussian, whose standard deviation is an eighth of a patch.

    Examples
    --------
    >>> boxes = [(slice(start, start + 64),) for start in (0, 32, 64)]
    >>> _weightiest(boxes, np.array([[40], [74]])).round(3).tolist()
    [0.982, 0.953, 0.047]
    """
    weights = [np.zeros(len(places), np.float32) for _ in boxes]
    for weight, box in zip(weights, boxes, strict=True):
        inside, exponent = np.ones(len(places), bool), np.zeros(len(places), np.float32)
        for part, place in zip(box, places.T, strict=True):
            size = part.stop - part.start
            inside &= (place >= part.start) & (place < part.stop)
            exponent += ((place - part.start - size // 2) / (size / 8)) ** 2
        weight[inside] = np.exp(-exponent[inside] / 2)
    total = np.maximum(sum(weights), np.finfo(np.float32).tiny)
    return np.array([np.max(weight / total, initial=0.0) for weight in weights], float)


def _holds(box: tuple[slice, ...], places: IntArray) -> BoolArray:
    """Tell which places, shape (n, 3), lie in a tile or next to it."""
    inside = np.ones(len(places), bool)
    for part, place in zip(box, places.T, strict=True):
        inside &= (place >= part.start - _MARGIN) & (place < part.stop + _MARGIN)
    return inside


def _sees_well(box: tuple[slice, ...], places: IntArray, shape: Sequence[int]) -> BoolArray:
    """Tell which places lie far from those borders of a tile beyond which there is more to see."""
    well = np.ones(len(places), bool)
    for part, place, size in zip(box, places.T, shape, strict=True):
        well &= place >= (part.start + _ENOUGH if part.start > 0 else 0)
        well &= place < (part.stop - _ENOUGH if part.stop < size else size)
    return well


def meets(tile: Tile, cord: BoolArray) -> bool:
    """Tell whether the cord lies in a tile, and not only in its margins.

    A tile's Gaussian weight is a hundredth of its highest three standard deviations, 3/8 of a
    patch, from the middle, where neighbours with half a patch of overlap have nearly all. At the
    image's own border there is no neighbour.

    Examples
    --------
    >>> cord = np.zeros((200, 64, 64), bool)
    >>> cord[100] = True
    >>> places = [slice(n, n + 64) for n in (0, 36, 40, 41, 96, 97, 136)]
    >>> [meets((place, slice(0, 64), slice(0, 64)), cord) for place in places]
    [False, False, False, True, True, False, False]
    >>> meets((100, slice(0, 64), slice(0, 64)), cord)
    True
    """
    core = []
    for part, size in zip(tile, cord.shape, strict=True):
        if isinstance(part, int):
            core.append(slice(max(0, part - _MARGIN), part + 1 + _MARGIN))
            continue
        inside = (part.stop - part.start) // 8 - _MARGIN
        low = part.start + inside if part.start > 0 else 0
        high = part.stop - inside if part.stop < size else size
        core.append(slice(max(0, low), high))
    return bool(np.any(cord[tuple(core)]))
