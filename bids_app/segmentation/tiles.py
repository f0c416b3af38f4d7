"""The sliding window, as nnU-Net does it: the same tiles, weights and sums."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TypeVar

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from torch import Tensor, nn

from bids_app.networks import has_fast_bf16
from bids_app.records import BoolArray
from bids_app.segmentation.compiled import CompiledNetwork
from bids_app.segmentation.look import Tile, lesser, tiles_for
from bids_app.segmentation.weights import Model, memory_format

log = logging.getLogger("bids_app")
T = TypeVar("T")

Flip = tuple[int, ...]
"""Axes along which a tile is mirrored."""


@dataclass(frozen=True)
class Part:
    """What was read of an image, in a box.

    Attributes
    ----------
    logits : Tensor of shape (outputs, z, y, x), half precision
        Of the box; not a number where no tile was read.
    box : tuple of slice
        Where it lies in the image; empty where nothing was read.
    """

    logits: Tensor
    box: tuple[slice, ...]


def slide(
    data: Tensor,
    model: Model,
    step: float,
    mirror: bool,
    cord: BoolArray | None = None,
    known: Known | None = None,
) -> Part:
    """Slide every fold's network over an image and average them.

    nnU-Net adds up in half precision; doing the same keeps the two equal. An accelerator that runs
    out of memory is asked for less: first image and sums stay in the machine's own memory, then
    the network runs there too.

    Parameters
    ----------
    data : Tensor of shape (channels, z, y, x)
        At least a patch wide.
    model : Model
    step : float
        Distance of neighbouring tiles as a share of the patch.
    mirror : bool
    cord : ndarray of bool, shape (z, y, x), optional
        Tiles that say next to nothing about it are left out.
    known : mapping, optional
        What the first network has said already of tiles, not mirrored.

    Returns
    -------
    Part
        On the CPU.
    """
    axes = model.manifest.mirror_axes if mirror else ()
    return where_it_fits(
        data, model, lambda there, moved: _slide_folds(there, moved, step, axes, cord, known or {})
    )


Known = dict[tuple[int, ...], Tensor]
"""Logits of tiles by their `corner`."""


def corner(tile: Tile) -> tuple[int, ...]:
    """Give where a tile starts, which tells it from the others of an image."""
    return tuple(part.start if isinstance(part, slice) else part for part in tile)


def where_it_fits(data: Tensor, model: Model, work: Callable[[Tensor, Model], T]) -> T:
    """Do work on the model's device or, where memory runs out, with less of it.

    Parameters
    ----------
    data : Tensor
    model : Model
    work : callable
        Given the data where image and sums are to lie, and the model where it is to run.
    """
    ways = _ways(model.device)
    for place, (runs_on, kept_on) in enumerate(ways):
        try:
            there = model if runs_on == model.device else _moved(model, runs_on)
            return work(data.to(kept_on), there)
        except torch.OutOfMemoryError:
            if place + 1 == len(ways):
                raise
            log.warning(_TOLD[place], runs_on)
        # Outside the handler, which would keep the failed attempt's tensors alive.
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
    raise ValueError("there is always a way")


_TOLD = (
    "%s ran out of memory; image and sums are kept in the machine's memory instead.",
    "%s ran out of memory again; this part is read on the CPU, which takes longer.",
)


def _ways(device: torch.device) -> tuple[tuple[torch.device, torch.device], ...]:
    """Give where the network runs and where image and sums lie, the fastest way first.

    Examples
    --------
    >>> [[str(place) for place in way] for way in _ways(torch.device("cuda"))]
    [['cuda', 'cuda'], ['cuda', 'cpu'], ['cpu', 'cpu']]
    >>> len(_ways(torch.device("cpu")))
    1
    """
    cpu = torch.device("cpu")
    return ((cpu, cpu),) if device == cpu else ((device, device), (device, cpu), (cpu, cpu))


def _moved(model: Model, device: torch.device) -> Model:
    """Give a copy of a model elsewhere; the original stays for the next session."""
    networks = tuple(_twin(network, device) for network in model.networks)
    return replace(model, networks=networks, device=device, bf16=has_fast_bf16(device))


def _twin(network: nn.Module, device: torch.device) -> nn.Module:
    """Copy a network to another device, without a copy on its own, which has no room for it."""
    known: dict[int, object] = {
        id(weight): nn.Parameter(weight.detach().to(device), requires_grad=False)
        for weight in network.parameters()
    }
    known |= {id(buffer): buffer.to(device) for buffer in network.buffers()}
    return copy.deepcopy(network, known)


def _slide_folds(
    region: Tensor,
    model: Model,
    step: float,
    axes: Sequence[int],
    cord: BoolArray | None,
    known: Known,
) -> Part:
    """Average the folds, which read the same tiles."""
    near = list(tiles(region.shape[1:], tuple(model.configuration.patch_size), step))
    flips = mirrorings(axes)
    turns = [(tile, flips) for tile in near]
    if cord is not None:
        near = tiles_for(cord, near)
        halved = lesser(cord, near)
        turns = [
            (tile, half(flips) if less else flips) for tile, less in zip(near, halved, strict=True)
        ]
    total: Part | None = None
    for number, network in enumerate(model.networks):
        fold = _slide_fold(region, network, model, turns, {} if number else known)
        total = fold if total is None else replace(fold, logits=total.logits + fold.logits)
        if len(model.networks) > 1 and isinstance(network, CompiledNetwork):
            # Half a gigabyte of a large fold's, while the others need theirs.
            network.release()
    if total is None:
        raise ValueError("a model needs at least one network")
    return replace(total, logits=total.logits / len(model.networks))


def _slide_fold(
    region: Tensor,
    network: nn.Module,
    model: Model,
    turns: Sequence[tuple[Tile, Sequence[Flip]]],
    known: Known,
) -> Part:
    """Read tiles, each mirrored so often, with one network, where the image lies."""
    reading = Reading(region, network, model)

    def say(turn: tuple[Tile, Flip]) -> Tensor:
        tile, flip = turn
        before = None if flip else known.get(corner(tile))
        return reading.read(tile, flip) if before is None else before.to(region.device)

    with ThreadPoolExecutor(model.at_once) as pool:
        over = pool.map if model.at_once > 1 else map
        # Each mirroring by itself, so that no thread waits for another's; but added up in nnU-Net's
        # order, because another one rounds differently, and half precision makes that visible.
        said = iter(over(say, [(tile, flip) for tile, flips in turns for flip in flips]))
        for tile, flips in turns:
            total = next(said)
            for _ in flips[1:]:
                total = total + next(said)
            reading.add(tile, total / len(flips))
    return reading.mean()


class Reading:
    """Tiles of an image as one network reads them, weighed with a Gaussian and added up.

    Parameters
    ----------
    region : Tensor of shape (channels, z, y, x)
        The sums are kept where it lies.
    network : torch.nn.Module
        One of the model's.
    model : Model
    """

    def __init__(self, region: Tensor, network: nn.Module, model: Model) -> None:
        self._region, self._network, self._model = region, network, model
        shape, kept_on = region.shape[1:], region.device
        heads = model.labels.num_segmentation_heads
        self._gaussian = compute_gaussian(
            tuple(model.configuration.patch_size),
            sigma_scale=1.0 / 8,
            value_scaling_factor=10,
            device=kept_on,
        )
        self._summed = _zeros((heads, *shape), kept_on)
        self._weight = _zeros(shape, kept_on)
        self._read: list[Tile] = []
        self._start = time.perf_counter()

    def read(self, tile: Tile, flip: Sequence[int] = ()) -> Tensor:
        """Give the logits of a tile, shape (outputs, z, y, x), float32; `flip` mirrors for it."""
        tile_there = self._region[(slice(None), *tile)][None].to(self._model.device)
        with torch.inference_mode():
            logits = _run(self._network, tile_there, flip, self._model)[0]
        return logits.to(self._region.device)

    def add(self, tile: Tile, logits: Tensor) -> None:
        """Weigh what was read of a tile and add it."""
        self._summed[(slice(None), *tile)] += logits * self._gaussian
        self._weight[tile] += self._gaussian
        self._read.append(tile)

    def mean(self) -> Part:
        """Give the mean logits, on the CPU."""
        log.debug("network: %d tiles in %.3f s", len(self._read), time.perf_counter() - self._start)
        box = bounding_box(self._read) if self._read else (slice(0, 0),) * self._weight.dim()
        return Part((self._summed[(slice(None), *box)] / self._weight[box]).cpu(), box)


def _zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    """Give zeros in half precision; on the CPU those that are never written take no memory."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float16))
    return torch.zeros(tuple(shape), dtype=torch.half, device=device)


def bounding_box(tiles: Sequence[Tile]) -> tuple[slice, ...]:
    """Give the smallest box that holds all tiles.

    Examples
    --------
    >>> bounding_box([(3, slice(0, 4)), (5, slice(2, 6))])
    (slice(3, 6, None), slice(0, 6, None))
    """
    sides = [
        [part if isinstance(part, slice) else slice(part, part + 1) for part in axis]
        for axis in zip(*tiles, strict=True)
    ]
    return tuple(slice(min(p.start for p in side), max(p.stop for p in side)) for side in sides)


def tiles(shape: Sequence[int], patch: tuple[int, ...], step: float) -> Iterator[Tile]:
    """Give the places of the sliding window; a flat patch visits every slice of the first axis.

    Examples
    --------
    >>> [(tile[1].start, tile[2].start) for tile in tiles((4, 6, 4), (4, 4, 4), 0.5)]
    [(0, 0), (2, 0)]
    >>> [tile[0] for tile in tiles((3, 4, 4), (4, 4), 0.5)]
    [0, 1, 2]
    """
    flat = len(patch) < len(shape)
    spatial = tuple(shape[1:]) if flat else tuple(shape)
    starts = compute_steps_for_sliding_window(spatial, patch, step)
    for plane in range(shape[0]) if flat else [None]:
        for corner in product(*starts):
            tile = tuple(slice(at, at + size) for at, size in zip(corner, patch, strict=True))
            yield tile if plane is None else (plane, *tile)


def mirrorings(axes: Sequence[int]) -> list[Flip]:
    """Give the combinations of mirrored axes in nnU-Net's order, none first.

    Examples
    --------
    >>> mirrorings((0, 2))
    [(), (0,), (2,), (0, 2)]
    """
    counts = range(len(axes) + 1)
    return [chosen for count in counts for chosen in combinations(axes, count)]


def half(flips: Sequence[Flip]) -> list[Flip]:
    """Leave out every other one of eight mirrorings, for tiles that do not weigh much.

    Of the four along no axis or two, each axis is mirrored in two: what a single axis changes, and
    a pair of them, is gone from their mean as it is from that of all eight (a half fraction of a
    2^3 factorial design; Box, Hunter and Hunter, Statistics for Experimenters, 1978).

    Examples
    --------
    >>> half(mirrorings((0, 1, 2)))
    [(), (0, 1), (0, 2), (1, 2)]
    >>> half(mirrorings((0, 2)))
    [(), (0,), (2,), (0, 2)]
    """
    return [flip for flip in flips if len(flips) < 8 or len(flip) % 2 == 0]


def _run(network: nn.Module, tile: Tensor, flip: Sequence[int], model: Model) -> Tensor:
    """Run one tile, mirrored along some of its axes."""
    there = [axis + 2 for axis in flip]
    turned = torch.flip(tile, there) if flip else tile
    turned = turned.contiguous(memory_format=memory_format(model.bf16, tile.dim() - 2))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.bf16):
        logits = network(turned).float()
    return torch.flip(logits, there) if flip else logits
