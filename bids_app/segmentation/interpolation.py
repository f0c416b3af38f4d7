"""Linear interpolation of a part of an array, with the results that PyTorch has for the whole.

A cord fills a hundredth of an image. What the network says elsewhere is one number, and need not be
interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Box = tuple[slice, ...]


def resample_part(
    part: Tensor,
    box: Box,
    shape: Sequence[int],
    new_shape: Sequence[int],
    fill: Tensor,
    nearest: int | None = None,
) -> tuple[Tensor, Box]:
    """Resample a part of an array that has one value everywhere else.

    Parameters
    ----------
    part : Tensor of shape (channels, z, y, x)
    box : tuple of slice
        Where the part lies in the array; not empty.
    shape, new_shape : sequence of int
        (z, y, x) of the whole array, before and after.
    fill : Tensor of shape (channels,)
        The value elsewhere.
    nearest : int, optional
        The axis along which nothing is interpolated.

    Returns
    -------
    Tensor of shape (channels, z, y, x), float32
        What differs from `fill`. The formulas are those of ``torch.nn.functional.interpolate``
        with its modes ``trilinear`` and ``nearest-exact``.
    tuple of slice
        Where that lies in the new array.
    """
    data, places = part.float(), []
    for axis, (place, size, new) in enumerate(zip(box, shape, new_shape, strict=True)):
        if size == new:
            places.append(place)
            continue
        low, high, share = _neighbours(size, new, axis == nearest)
        touched = torch.nonzero((high >= place.start) & (low < place.stop))[:, 0]
        if not len(touched):
            places.append(slice(0, 0))
            data = data.narrow(axis + 1, 0, 0)
            continue
        where = slice(int(touched[0]), int(touched[-1]) + 1)
        # One more voxel on each side: neighbours of the part's own.
        border = fill.reshape(-1, 1, 1, 1).expand_as(data.narrow(axis + 1, 0, 1))
        wider = torch.cat([border, data, border], axis + 1)
        one, other = (
            wider.index_select(axis + 1, index[where] - (place.start - 1)) for index in (low, high)
        )
        data = torch.lerp(one, other, share[where].reshape([-1] + [1] * (2 - axis)))
        places.append(where)
    return data, tuple(places)


def _neighbours(size: int, new: int, nearest: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Give the two old places that each new one lies between, and the second one's share.

    Examples
    --------
    >>> [each.tolist() for each in _neighbours(4, 2, False)]
    [[0, 2], [1, 3], [0.5, 0.5]]
    >>> _neighbours(4, 2, True)[0].tolist()
    [1, 3]
    """
    scale = torch.tensor(size / new, dtype=torch.float32)
    middle = (torch.arange(new) + 0.5) * scale
    if nearest:
        low = middle.floor().long().clamp(max=size - 1)
        return low, low, torch.zeros(new)
    place = (middle - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=size - 1)
    return low, (low + 1).clamp(max=size - 1), place - low
