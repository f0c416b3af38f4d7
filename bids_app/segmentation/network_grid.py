"""From a session's images to the grid on which the network works, and back.

nnU-Net's own functions cut, normalise and resample. What its preprocessor and its export do besides
and prediction does not need is left out: a map of the zeros is not filled and resampled unless the
normalisation asks for it, and no labels are made from the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from torch import Tensor

from bids_app.records import BoolArray, FloatArray, Volume
from bids_app.segmentation.weights import Model

Box = tuple[slice, ...]


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
    resampled = model.configuration.resampling_fn_data(data, shape, spacing, target)
    return torch.from_numpy(np.ascontiguousarray(resampled, np.float32)), grid


def from_network(
    logits: Tensor, model: Model, grid: NetworkGrid, only: Sequence[int] | None = None
) -> Tensor:
    """Give probabilities on the image from logits on the network's grid.

    Parameters
    ----------
    logits : Tensor of shape (outputs, z, y, x)
        In half precision as nnU-Net hands them over: some of its resampling rounds to it again.
    model : Model
    grid : NetworkGrid
    only : sequence of int, optional
        The outputs that are asked for; the others of the result are then empty where they are
        independent of these.

    Returns
    -------
    Tensor of shape (outputs, z, y, x), float32
        Axes as nnU-Net reads images.
    """
    some = list(only) if only is not None and model.labels.has_regions else slice(None)
    resampled = model.configuration.resampling_fn_probabilities(
        logits[some], grid.cut_shape, _target_spacing(grid.spacing_mm, model), grid.spacing_mm
    )
    inside = model.labels.apply_inference_nonlin(resampled)
    image = torch.zeros((logits.shape[0], *grid.image_shape))
    if not model.labels.has_regions:
        image[0] = 1  # the background
    image[(some, *grid.cut)] = inside
    return image.permute(0, *(axis + 1 for axis in model.plans.transpose_backward))


def mask_to_network(mask: BoolArray, model: Model, grid: NetworkGrid) -> BoolArray:
    """Bring a mask of the image, axes (z, y, x), to the network's grid."""
    turned = np.ascontiguousarray(mask.transpose(model.plans.transpose_forward)[grid.cut])
    share = torch.nn.functional.interpolate(
        torch.from_numpy(turned)[None, None].float(), grid.shape, mode="trilinear"
    )
    return np.asarray(share[0, 0].numpy() >= 0.5)


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
