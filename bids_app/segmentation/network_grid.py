"""From a session's images to the grid on which the network works, and back.

nnU-Net's own functions cut, normalise and resample. What its preprocessor and its export do besides
and prediction does not need is left out: a map of the zeros is not filled and resampled unless the
normalisation asks for it, and no labels are made from the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
)
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from torch import Tensor

from bids_app.records import BoolArray, FloatArray, Volume
from bids_app.segmentation.interpolation import resample_part
from bids_app.segmentation.tiles import Part, bounding_box
from bids_app.segmentation.weights import Model

Box = tuple[slice, ...]

# Options of nnU-Net's resampling with PyTorch that are followed here, or mean nothing for logits.
_KNOWN = {"is_seg", "force_separate_z", "memefficient_seg_resampling"}


@dataclass(frozen=True)
class NetworkGrid:
    """How the network's grid lies in an image, axes in the plans' order.

    Attributes
    ----------
    spacing_mm : tuple of float
        Of the image.
    image_shape : tuple of int
    cut : tuple of slice
        The part of the image that is not zero.
    shape : tuple of int
        Of the grid: the cut, resampled to the plans' spacing.
    """

    spacing_mm: tuple[float, ...]
    image_shape: tuple[int, ...]
    cut: Box
    shape: tuple[int, ...]

    @property
    def cut_shape(self) -> tuple[int, ...]:
        """Give the number of voxels of the image inside the cut."""
        return tuple(part.stop - part.start for part in self.cut)


def to_network(channels: Sequence[Volume | None], model: Model) -> tuple[Tensor, NetworkGrid]:
    """Stack the channels as nnU-Net reads them, (c, z, y, x), and preprocess them.

    The order in memory is that of files read by nnU-Net: sums over another order round
    differently, and half precision makes that visible.

    Parameters
    ----------
    channels : sequence of Volume or None
        In the model's orientation; a missing one is zero everywhere.
    model : Model

    Returns
    -------
    Tensor of shape (channels, z, y, x), float32
    NetworkGrid
    """
    image = next(channel for channel in channels if channel is not None)
    stack = np.zeros((len(channels), *image.data.shape[::-1]), np.float32)
    for place, channel in zip(stack, channels, strict=True):
        if channel is not None:
            place[:] = channel.data.T
    forward = model.plans.transpose_forward
    stack = stack.transpose([0, *(axis + 1 for axis in forward)])
    spacing = tuple(image.spacing_mm[::-1][axis] for axis in forward)
    data, zeros, cut = _cut(stack, model)
    # Normalised before it is resampled, as nnU-Net does.
    data = DefaultPreprocessor(verbose=False)._normalize(
        *(data, zeros, model.configuration),
        model.plans.foreground_intensity_properties_per_channel,
    )
    target = _target_spacing(spacing, model)
    shape = tuple(int(n) for n in compute_new_shape(data.shape[1:], spacing, target))
    grid = NetworkGrid(spacing, stack.shape[1:], cut, shape)
    resampled = np.zeros((len(data), *shape), np.float32)
    # A missing contrast is zero on any grid, and not resampled.
    there = np.array([channel.any() for channel in data])
    if there.any():
        resampled[there] = model.configuration.resampling_fn_data(
            *(data[there], shape, spacing, target)
        )
    return torch.from_numpy(resampled), grid


def write_probabilities(
    part: Part,
    model: Model,
    grid: NetworkGrid,
    image: FloatArray,
    only: Sequence[int] | None = None,
) -> None:
    """Write probabilities into an image of background, from logits on the network's grid.

    Parameters
    ----------
    part : Part
        In half precision as nnU-Net hands logits over: some of its resampling rounds to it again.
        The rest of the grid is background.
    model : Model
    grid : NetworkGrid
    image : ndarray of shape (outputs, z, y, x), float32
        See `background`; axes as nnU-Net reads images. Written to.
    only : sequence of int, optional
        The outputs that are asked for; the others stay background where they are independent of
        these.
    """
    some = list(only) if only is not None and model.labels.has_regions else slice(None)
    logits = replace(part, logits=part.logits[some])
    resampled, box = _from_grid(logits, _background_logits(model)[some], model, grid)
    inside = model.labels.apply_inference_nonlin(resampled).numpy()
    there = tuple(
        slice(cut.start + place.start, cut.start + place.stop)
        for cut, place in zip(grid.cut, box, strict=True)
    )
    turned = image.transpose(0, *(axis + 1 for axis in model.plans.transpose_forward))
    turned[(some, *there)] = inside


def background(model: Model, shape: Sequence[int]) -> FloatArray:
    """Give the probabilities of an image of background, (outputs, *shape)."""
    image = np.zeros((model.labels.num_segmentation_heads, *shape), np.float32)
    if not model.labels.has_regions:
        image[0] = 1
    return image


def join(parts: Sequence[Part], model: Model) -> Part:
    """Lay parts over each other and over background; the last ones count."""
    read = [part for part in parts if part.logits.numel()]
    if not read:
        return parts[-1]
    box = bounding_box([part.box for part in read])
    shape = tuple(place.stop - place.start for place in box)
    logits = _background_logits(model).reshape(-1, 1, 1, 1).repeat(1, *shape)
    for part in read:
        here = tuple(
            slice(place.start - whole.start, place.stop - whole.start)
            for place, whole in zip(part.box, box, strict=True)
        )
        under = logits[(slice(None), *here)]
        logits[(slice(None), *here)] = torch.where(torch.isnan(part.logits), under, part.logits)
    return Part(logits, box)


def mask_to_network(mask: BoolArray, model: Model, grid: NetworkGrid) -> BoolArray:
    """Bring a mask of the image, axes (z, y, x), to the network's grid."""
    turned = mask.transpose(model.plans.transpose_forward)[grid.cut]
    on_grid = np.zeros(grid.shape, bool)
    if turned.any():
        box = tuple(slice(*pair) for pair in get_bbox_from_mask(turned))
        inner = torch.from_numpy(np.ascontiguousarray(turned[box], np.float32))[None]
        share, where = resample_part(inner, box, turned.shape, grid.shape, torch.zeros(1))
        on_grid[where] = share[0].numpy() >= 0.5
    return on_grid


def _from_grid(
    part: Part, background: Tensor, model: Model, grid: NetworkGrid
) -> tuple[Tensor, Box]:
    """Resample logits to the image; of nnU-Net's PyTorch variant, the part that was read alone."""
    target = _target_spacing(grid.spacing_mm, model)
    resample = model.configuration.resampling_fn_probabilities
    whole = all(p == slice(0, n) for p, n in zip(part.box, grid.shape, strict=True))
    linear = resample.func is resample_torch_fornnunet and set(resample.keywords) <= _KNOWN
    if linear and not whole:
        if not part.logits.numel():
            return part.logits.float(), part.box
        _, thick = determine_do_sep_z_and_axis(
            resample.keywords.get("force_separate_z"), target, grid.spacing_mm
        )
        nearest = None if thick is None else int(np.ravel(thick)[0])
        return resample_part(
            *(part.logits, part.box, grid.shape, grid.cut_shape), background.float(), nearest
        )
    logits = background.reshape(-1, 1, 1, 1).repeat(1, *grid.shape)
    logits[(slice(None), *part.box)] = part.logits
    resampled = resample(logits, grid.cut_shape, target, grid.spacing_mm)
    return torch.as_tensor(resampled), tuple(slice(0, n) for n in grid.cut_shape)


def _background_logits(model: Model) -> Tensor:
    """Give the logits of background, half precision, one for each output."""
    logits = torch.full((model.labels.num_segmentation_heads,), -20, dtype=torch.half)
    if not model.labels.has_regions:
        logits[0] = 20
    return logits


def _cut(stack: FloatArray, model: Model) -> tuple[FloatArray, FloatArray, Box]:
    """Cut to what is not zero; gives what is left, nnU-Net's map of its zeros, and the box."""
    if any(model.configuration.use_mask_for_norm):
        data, zeros, bounds = crop_to_nonzero(stack)
        return data, zeros, tuple(slice(*pair) for pair in bounds)
    bounds = get_bbox_from_mask((stack != 0).any(axis=0))
    cut = tuple(slice(*pair) for pair in bounds)
    data = stack[(slice(None), *cut)]
    return data, np.zeros((1, 1, 1, 1), np.int8), cut


def _target_spacing(spacing: Sequence[float], model: Model) -> tuple[float, ...]:
    """Give the plans' spacing; one of two dimensions leaves the distance of slices as it is."""
    target = tuple(model.configuration.spacing)
    return target if len(target) == len(spacing) else (spacing[0], *target)
