"""A quick look at where the cord is: tile after tile along it, not over the whole image.

The image is cut into levels, a patch long, across the body. On each, a tile is laid where the
level beside it has shown the cord. Only where a cord does not run through that tile, the whole
level is read: at its ends, where it was lost, and where there is none.

All tiles are some of those that overlap by half, which are read afterwards where the cord is; so
none is read twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from torch import Tensor

from bids_app.records import BoolArray, FloatArray
from bids_app.segmentation.look import Tile, large_pieces, meets
from bids_app.segmentation.tiles import Known, Part, Reading, corner, slide, where_it_fits
from bids_app.segmentation.weights import Model

# A cord runs through a level when it is in so many of its slices.
_MIN_RUN = 0.8
# A cord nearer than this many voxels to a tile's side may go on beyond it.
_SIDE = 4
# Slices at the end of a level that tell where the cord enters the next.
_END = 8
# More tiles than these on one level are no saving over all of it.
_MOST_TRIES = 3

Box = tuple[slice, ...]


def follow(data: Tensor, model: Model, near: BoolArray | None = None) -> tuple[Part, Known]:
    """Read an image once along the cord, with one network, without mirroring.

    Parameters
    ----------
    data : Tensor of shape (channels, z, y, x)
        At least a patch wide.
    model : Model
        Finds the cord. Its first network is asked.
    near : ndarray of bool, shape (z, y, x), optional
        Where to look; levels that do not meet it are left out.

    Returns
    -------
    part : Part
        On the CPU.
    known : mapping
        What was read of each tile, for `slide`.
    """
    along = _axis_along(model)
    if along is None:
        return slide(data, model, 1.0, False, near), {}

    def work(there: Tensor, moved: Model) -> tuple[Part, Known]:
        walk = _Walk(there, moved, along, near)
        return walk.walk(), walk.known

    return where_it_fits(data, model, work)


def probable_cord(logits: Tensor, model: Model) -> BoolArray:
    """Tell where the cord is more likely than not.

    Parameters
    ----------
    logits : Tensor of shape (outputs, z, y, x)
    model : Model
    """
    outputs = list(model.manifest.outputs["cord"])
    if model.labels.has_regions and len(outputs) == 1:
        return np.asarray(logits[outputs[0]].numpy() > 0)
    probability = model.labels.apply_inference_nonlin(logits)
    return np.asarray(probability[outputs].sum(0).numpy() > 0.5)


def _axis_along(model: Model) -> int | None:
    """Give the axis of the network's arrays along the body; None for networks of two dimensions."""
    if len(model.configuration.patch_size) < 3:
        return None
    letters = model.manifest.orientation
    place = next(i for i, letter in enumerate(letters) if letter in "SI")
    # Arrays are (z, y, x), and a plan may turn them once more.
    return list(model.plans.transpose_forward).index(2 - place)


@dataclass
class _Walk:
    """One walk along the cord: `cord` fills up as tiles are read."""

    data: Tensor
    model: Model
    along: int
    near: BoolArray | None

    def __post_init__(self) -> None:
        self.patch = tuple(self.model.configuration.patch_size)
        self.shape = tuple(self.data.shape[1:])
        self.reading = Reading(self.data, self.model.networks[0], self.model)
        self.cord = np.zeros(self.shape, bool)
        self.lattice = compute_steps_for_sliding_window(self.shape, self.patch, 0.5)
        self.sparse = [_thinned(*each) for each in zip(self.lattice, self.patch, strict=True)]
        self.starts = self.sparse[self.along]
        self.known: Known = {}
        self._across_axes = tuple(axis for axis in range(3) if axis != self.along)

    def walk(self) -> Part:
        """Read from the middle upwards and downwards."""
        middle = len(self.starts) // 2
        self._read_level(middle, None)
        ways = range(middle + 1, len(self.starts)), range(middle - 1, -1, -1)
        with ThreadPoolExecutor(min(2, self.model.at_once)) as pool:
            list(pool.map(partial(self._go, middle), ways))
        return self.reading.mean()

    def _go(self, came_from: int, levels: Iterable[int]) -> None:
        """Read level after level; upwards and downwards are apart, so both may at once."""
        with torch.inference_mode():
            for level in levels:
                self._read_level(level, came_from)
                came_from = level

    def _read_level(self, level: int, came_from: int | None) -> None:
        """Read a level in one tile where that shows a cord from end to end, else all of it."""
        slab = self._slab(level)
        if self.near is not None and not self.near[slab].any():
            return
        tile = self._tile_round(self._guess(slab, level, came_from), slab)
        shown = np.zeros(self.patch[self.along], bool)
        for _ in range(_MOST_TRIES):
            found = self._look(tile)
            if found is None:
                break
            shown |= found.any(axis=self._across_axes)
            beyond = [each for each in self._beyond(found, tile) if corner(each) not in self.known]
            if not beyond:
                if shown.mean() >= _MIN_RUN:
                    return
                break
            tile = beyond[0]
        starts = list(self.sparse)
        starts[self.along] = [slab[self.along].start]
        for each in (self._tile(at) for at in product(*starts)):
            wanted = self.near is None or meets(each, self.near)
            if wanted and corner(each) not in self.known:
                self._look(each)

    def _look(self, tile: Tile) -> BoolArray | None:
        """Read a tile; gives the large pieces of cord in it."""
        logits = self.known[corner(tile)] = self.reading.read(tile)
        self.reading.add(tile, logits)
        found = probable_cord(logits.cpu(), self.model)
        self.cord[tile] |= found
        return large_pieces(found)

    def _slab(self, level: int) -> Box:
        """Give a level as a part of the image."""
        start = int(self.starts[level])
        return self._across(slice(start, start + self.patch[self.along]))

    def _across(self, part: slice) -> Box:
        slab = [slice(None)] * 3
        slab[self.along] = part
        return tuple(slab)

    def _guess(self, slab: Box, level: int, came_from: int | None) -> FloatArray:
        """Tell where on a level the cord will be: as given, as it left the last, or the middle."""
        if self.near is not None:
            return _mean_place(self.near[slab])
        if came_from is not None:
            last = self._slab(came_from)
            start, stop = last[self.along].start, last[self.along].stop
            end = slice(stop - _END, stop) if level > came_from else slice(start, start + _END)
            for where in (self._across(end), last):
                pieces = large_pieces(self.cord[where])
                if pieces is not None:
                    return _mean_place(pieces)
        return np.array(self.shape) / 2

    def _tile_round(self, place: FloatArray, slab: Box) -> Box:
        """Choose the tile of a level whose middle is nearest to a place."""
        at = [
            min(starts, key=lambda start: abs(start + size / 2 - float(middle)))
            for middle, size, starts in zip(place, self.patch, self.lattice, strict=True)
        ]
        at[self.along] = slab[self.along].start
        return self._tile(at)

    def _tile(self, at: Sequence[int]) -> Box:
        return tuple(slice(n, n + size) for n, size in zip(at, self.patch, strict=True))

    def _beyond(self, found: BoolArray, tile: Box) -> list[Box]:
        """Give the tiles beyond those sides of one that a cord comes near."""
        places = []
        for axis in self._across_axes:
            slices = np.moveaxis(found, axis, 0)
            starts, start = list(self.lattice[axis]), tile[axis].start
            for near, step in ((slices[:_SIDE].any(), -1), (slices[-_SIDE:].any(), 1)):
                at = starts.index(start) + step
                if near and 0 <= at < len(starts):
                    moved = [part.start for part in tile]
                    moved[axis] = starts[at]
                    places.append(self._tile(moved))
        return places


def _thinned(starts: Sequence[int], size: int) -> list[int]:
    """Keep so few starts of tiles that no gap is left.

    Examples
    --------
    >>> _thinned([0, 32, 64, 96], 64), _thinned([0, 23, 47, 70], 64), _thinned([0], 64)
    ([0, 64, 96], [0, 47, 70], [0])
    """
    kept = [starts[0]]
    while kept[-1] < starts[-1]:
        kept.append(max(start for start in starts if start <= kept[-1] + size))
    return kept


def _mean_place(mask: BoolArray) -> FloatArray:
    """Give the mean index of a mask along each axis."""
    return np.array([places.mean() for places in np.nonzero(mask)])
