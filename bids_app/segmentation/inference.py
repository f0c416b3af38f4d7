"""Run a network over a session: nnU-Net's preprocessing, sliding window and export.

nnU-Net's own functions prepare the data, weigh the tiles and bring the logits back; what is
ours is where to look. A pass without overlap finds the cord; the full overlap then covers the
cord's box only, because lesions lie in the cord. A pass that finds no cord is not believed:
the whole image is done with full overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from scipy.ndimage import find_objects, label
from torch import Tensor, nn

from bids_app.records import FloatArray, Prepared, Segmentation
from bids_app.segmentation.weights import Model

Box = tuple[slice, slice, slice]

# Room round the cord in which the network is run with full overlap, in voxels of its grid.
_MARGIN = 12
# A piece of the first pass smaller than this share of the largest is not followed.
_MIN_SHARE = 0.05


def segment(prepared: Prepared, model: Model) -> Segmentation:
    """Segment cord and lesions of a session.

    Parameters
    ----------
    prepared : Prepared
        Channels in the model's order and orientation, missing ones None.
    model : Model

    Returns
    -------
    Segmentation
        On the grid of `prepared`. The uncertainty is the binary entropy of the lesion
        probability in bits, 0 where the network is sure and 1 where it is undecided.
    """
    probability = predict(prepared, model)
    cord = probability[model.manifest.outputs["cord"]]
    lesion = probability[model.manifest.outputs["lesion"]]
    return Segmentation(cord=cord, lesion=lesion, uncertainty=entropy_bits(lesion))


def predict_cord(prepared: Prepared, model: Model) -> FloatArray:
    """Give a quick cord probability: one pass without overlap or mirroring."""
    probability = predict(prepared, model, quick=True)
    return np.asarray(probability[model.manifest.outputs["cord"]])


def entropy_bits(probability: FloatArray) -> FloatArray:
    """Binary entropy in bits.

    Examples
    --------
    >>> entropy_bits(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    p = np.clip(probability, 0, 1)
    bits = np.zeros_like(p)
    for share in (p, 1 - p):
        some = share > 0
        bits[some] -= share[some] * np.log2(share[some])
    return np.clip(bits, 0, 1)


def predict(
    prepared: Prepared,
    model: Model,
    *,
    quick: bool = False,
    whole: bool = False,
    mirror: bool = True,
) -> FloatArray:
    """Predict the probability of each output on the grid of `prepared`.

    Parameters
    ----------
    prepared : Prepared
    model : Model
    quick : bool
        Stop after the pass without overlap.
    whole : bool
        Cover the whole image with full overlap, exactly as ``nnUNetPredictor`` does.
    mirror : bool
        Average over the mirrorings the model allows.

    Returns
    -------
    ndarray of shape (outputs, i, j, k), float32
    """
    data, properties = _preprocess(prepared, model)
    with torch.inference_mode():
        padded, reverse = pad_nd_image(
            data, model.configuration.patch_size, "constant", {"value": 0}, True, None
        )
        logits = _predict_logits(padded, model, quick, whole, mirror)
        logits = logits[(slice(None), *reverse[1:])]
        _, probability = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.float(), model.plans, model.configuration, model.labels, properties,
            return_probabilities=True, num_threads_torch=torch.get_num_threads(),
        )  # fmt: skip
    return np.ascontiguousarray(probability.transpose(0, 3, 2, 1), dtype=np.float32)


def _preprocess(prepared: Prepared, model: Model) -> tuple[Tensor, dict[str, object]]:
    """Stack the channels as nnU-Net reads them, (c, z, y, x), and preprocess them."""
    grid = prepared.reference
    stack = np.stack(
        [
            np.zeros(grid.data.shape[::-1], np.float32) if channel is None else channel.data.T
            for channel in prepared.channels
        ]
    )
    properties: dict[str, object] = {"spacing": list(grid.spacing_mm[::-1])}
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        stack, None, properties, model.plans, model.configuration, model.dataset
    )
    return torch.from_numpy(np.ascontiguousarray(data, np.float32)), properties


def _predict_logits(data: Tensor, model: Model, quick: bool, whole: bool, mirror: bool) -> Tensor:
    """Decide where the network runs."""
    everywhere: Box = (slice(0, data.shape[1]), slice(0, data.shape[2]), slice(0, data.shape[3]))
    if whole:
        return _slide(data, model, everywhere, 0.5, mirror)
    coarse = _slide(data, model, everywhere, 1.0, False)
    if quick:
        return coarse
    box = cord_box(
        coarse[model.manifest.outputs["cord"]].numpy() > 0, model.configuration.patch_size
    )
    if box is None:
        return _slide(data, model, everywhere, 0.5, mirror)
    logits = coarse
    logits[(slice(None), *box)] = _slide(data, model, box, 0.5, mirror)
    return logits


def cord_box(cord: FloatArray, patch: Sequence[int]) -> Box | None:
    """Box round the large pieces of a mask, at least a patch wide, inside the array.

    Parameters
    ----------
    cord : ndarray of bool, shape (z, y, x)
    patch : sequence of int

    Returns
    -------
    tuple of slice, or None for an empty mask
    """
    pieces, count = label(cord)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    large = np.flatnonzero(sizes >= _MIN_SHARE * sizes.max())
    found = find_objects(pieces)
    box = []
    for axis in range(3):
        low = min(found[piece][axis].start for piece in large) - _MARGIN
        high = max(found[piece][axis].stop for piece in large) + _MARGIN
        short = max(0, patch[axis] - (high - low))
        low, high = low - short // 2, high + short - short // 2
        shift = max(0, -low) - max(0, high - cord.shape[axis])
        low, high = low + shift, high + shift
        box.append(slice(max(0, low), min(cord.shape[axis], high)))
    return box[0], box[1], box[2]


def _slide(data: Tensor, model: Model, box: Box, step: float, mirror: bool) -> Tensor:
    """Slide the network over a box; tiles are weighed and added up as nnU-Net does it.

    nnU-Net adds up in half precision; doing the same keeps the two equal.
    """
    patch = tuple(model.configuration.patch_size)
    region = data[(slice(None), *box)].to(model.device)
    total: Tensor | None = None
    gaussian = compute_gaussian(
        patch, sigma_scale=1.0 / 8, value_scaling_factor=10, device=model.device
    )
    axes = model.manifest.mirror_axes if mirror else ()
    for network in model.networks:
        summed = torch.zeros(
            (model.labels.num_segmentation_heads, *region.shape[1:]),
            dtype=torch.half,
            device=model.device,
        )
        weight = torch.zeros(region.shape[1:], dtype=torch.half, device=model.device)
        for tile in _tiles(region.shape[1:], patch, step):
            where = (slice(None), *tile)
            logits = _run(network, region[where][None], axes, model)[0]
            logits *= gaussian
            summed[where] += logits
            weight[tile] += gaussian
        torch.div(summed, weight, out=summed)
        total = summed if total is None else total + summed
    if total is None:
        raise ValueError("a model needs at least one network")
    return (total / len(model.networks)).cpu()


def _tiles(shape: Sequence[int], patch: tuple[int, ...], step: float) -> Iterator[Box]:
    """Places of the sliding window."""
    starts = compute_steps_for_sliding_window(tuple(shape), patch, step)
    for z, y, x in product(*starts):
        yield slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2])


def _run(network: nn.Module, tile: Tensor, mirror_axes: Sequence[int], model: Model) -> Tensor:
    """Run one tile, averaged over all combinations of mirrored axes."""
    flips = [
        [2 + a for i, a in enumerate(mirror_axes) if code >> i & 1]
        for code in range(2 ** len(mirror_axes))
    ]
    mean: Tensor | None = None
    for flip in flips:
        turned = torch.flip(tile, flip) if flip else tile
        turned = turned.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.bf16):
            logits = network(turned)
        logits = logits.float()
        logits = torch.flip(logits, flip) if flip else logits
        mean = logits if mean is None else mean + logits
    if mean is None:
        raise ValueError("a tile needs at least one orientation")
    return mean / len(flips)
