"""The sliding window, as nnU-Net does it: the same tiles, weights and sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import torch
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from torch import Tensor, nn

from bids_app.segmentation.weights import Model, memory_format

Box = tuple[slice, slice, slice]
Tile = tuple[slice | int, ...]


def slide(data: Tensor, model: Model, box: Box, step: float, mirror: bool) -> Tensor:
    """Slide every fold's network over a box and average them.

    nnU-Net adds up in half precision; doing the same keeps the two equal.

    Parameters
    ----------
    data : Tensor of shape (channels, z, y, x)
    model : Model
    box : tuple of three slices
        At least a patch wide.
    step : float
        Distance of neighbouring tiles as a share of the patch.
    mirror : bool

    Returns
    -------
    Tensor of shape (outputs, z, y, x), half precision, on the CPU
        The logits.
    """
    region = data[(slice(None), *box)].to(model.device)
    axes = model.manifest.mirror_axes if mirror else ()
    total: Tensor | None = None
    for network in model.networks:
        fold = _slide_fold(region, network, model, step, axes).cpu()
        total = fold if total is None else total + fold
    if total is None:
        raise ValueError("a model needs at least one network")
    return total / len(model.networks)


def _slide_fold(
    region: Tensor, network: nn.Module, model: Model, step: float, axes: Sequence[int]
) -> Tensor:
    """Weigh the tiles of one network with a Gaussian and add them up."""
    patch = tuple(model.configuration.patch_size)
    shape = region.shape[1:]
    gaussian = compute_gaussian(
        patch, sigma_scale=1.0 / 8, value_scaling_factor=10, device=model.device
    )
    heads = model.labels.num_segmentation_heads
    summed = torch.zeros((heads, *shape), dtype=torch.half, device=model.device)
    weight = torch.zeros(shape, dtype=torch.half, device=model.device)
    for tile in tiles(shape, patch, step):
        where = (slice(None), *tile)
        logits = _run(network, region[where][None], axes, model)[0]
        logits *= gaussian
        summed[where] += logits
        weight[tile] += gaussian
    return torch.div(summed, weight, out=summed)


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


def _run(network: nn.Module, tile: Tensor, mirror_axes: Sequence[int], model: Model) -> Tensor:
    """Run one tile, averaged over all combinations of mirrored axes in nnU-Net's order.

    The order matters: another one rounds differently, and half precision makes that visible.
    """
    flips = [
        [axis + 2 for axis in chosen]
        for count in range(len(mirror_axes) + 1)
        for chosen in combinations(mirror_axes, count)
    ]
    layout = memory_format(model.bf16, tile.dim() - 2)
    mean: Tensor | None = None
    for flip in flips:
        turned = torch.flip(tile, flip) if flip else tile
        turned = turned.contiguous(memory_format=layout)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.bf16):
            logits = network(turned)
        logits = logits.float()
        logits = torch.flip(logits, flip) if flip else logits
        mean = logits if mean is None else mean + logits
    if mean is None:
        raise ValueError("a tile needs at least one orientation")
    return mean / len(flips)
