"""Run a network over images once: nnU-Net's preprocessing, sliding window and export.

nnU-Net's own functions prepare the data, weigh the tiles and bring the logits back; what is
ours is where to look. Where neither aligning the contrasts nor another model has found the cord
already, a pass without overlap does; of the tiles with overlap only those on the cord are computed,
because lesions lie in it. A pass that finds no cord is not believed: the whole image is done with
full overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor

from bids_app.errors import MissingResource
from bids_app.records import BoolArray, FloatArray, Glimpse, Prepared, Volume
from bids_app.segmentation.follow import follow, probable_cord
from bids_app.segmentation.inputs import arrange, crop, cut_round
from bids_app.segmentation.look import large_pieces
from bids_app.segmentation.network_grid import (
    NetworkGrid,
    background,
    join,
    mask_to_network,
    to_network,
    write_probabilities,
)
from bids_app.segmentation.orientation import orient, orient_view
from bids_app.segmentation.tiles import Part, slide
from bids_app.segmentation.weights import Model

# Room round the cord in which a glimpse is kept, in voxels of the network's grid: lesions are not
# looked for beyond the cord, which another reading may see a little elsewhere.
_GLIMPSED_VOXELS = 16


def predict(
    prepared: Prepared,
    model: Model,
    *,
    quick: bool = False,
    search: bool = False,
    whole: bool = False,
    mirror: bool = True,
) -> FloatArray:
    """Predict the probability of each output channel on the grid of `prepared`.

    Parameters
    ----------
    prepared : Prepared
    model : Model
        A late-fusion model of one channel sees the first contrast that is there.
    quick : bool
        Stop after the pass along the cord, which is the only output that is given then.
    search : bool
        The rough cord says only where to look for it; so it does for a quick pass. What is given
        is cut to the surroundings of the cord that is found.
    whole : bool
        Cover the whole image with full overlap, exactly as ``nnUNetPredictor`` does.
    mirror : bool
        Average over the mirrorings the model allows.

    Returns
    -------
    ndarray of shape (outputs, i, j, k), float32
    """
    names = model.manifest.channels
    one = model.manifest.fusion == "late" and len(names) == 1
    channels = (prepared.reference,) if one else arrange(prepared, names)
    image = next(channel for channel in channels if channel is not None)
    letters = model.manifest.orientation
    turned = tuple(None if channel is None else orient(channel, letters) for channel in channels)
    data, grid = to_network(turned, model)
    cord = None if whole else _known_cord(prepared, model, grid)
    probability = background(model, image.data.shape)
    # The same memory in the network's axes, (z, y, x).
    as_read = orient_view(np.moveaxis(probability, 0, -1), letters, image).transpose(3, 2, 1, 0)
    with torch.inference_mode():
        padded, reverse = _pad(data, model)
        if cord is not None:
            cord = _pad(torch.from_numpy(cord), model)[0].numpy()
        part = _read(padded, model, cord, quick, search, whole, mirror)
        part = _without_padding(part, reverse[1:])
        if quick or search:
            part = _round_cord(part, model)
        outputs = model.manifest.outputs["cord"] if quick else None
        write_probabilities(part, model, grid, as_read, outputs)
    return probability


def predict_in_cut(prepared: Prepared, model: Model, cord: FloatArray | None) -> FloatArray:
    """Predict from an image cut round the cord where the model was trained on such cuts."""
    margin = model.manifest.crop_margin_mm
    if margin is None or cord is None:
        return predict(prepared, model)
    box = cut_round(cord, prepared.reference.affine, margin)
    inner = predict(crop(prepared, box), model, whole=True)
    shape = prepared.reference.data.shape
    full = np.zeros((inner.shape[0], *shape), np.float32)
    if not model.labels.has_regions:
        full[0] = 1  # the background
    full[(slice(None), *box)] = inner
    return full


def glimpse(prepared: Prepared, model: Model, *, closely: bool = False) -> Glimpse:
    """Look for the cord, without mirroring: one pass of the first fold along it.

    Where `prepared` has a rough cord, only tiles that meet it are looked at. Far from the cord that
    is found all is background.

    Parameters
    ----------
    prepared : Prepared
    model : Model
    closely : bool
        Read the lesions as well, with all folds and tiles that overlap, if the model reads
        contrasts before they are aligned (`Manifest.reads_closely`).

    Raises
    ------
    MissingResource
        The model finds no cord; ask the box's.
    """
    _check_finds(model, "cord")
    if not (closely and model.manifest.reads_closely):
        probability = predict(prepared, model, quick=True)
        return Glimpse(np.ascontiguousarray(structure(probability, model, "cord")))
    probability = predict(prepared, model, search=True, mirror=False)
    cord, lesion = (structure(probability, model, name) for name in ("cord", "lesion"))
    return Glimpse(np.ascontiguousarray(cord), np.ascontiguousarray(lesion))


def structure(probability: FloatArray, model: Model, name: str) -> FloatArray:
    """Add up the output channels that make a structure."""
    _check_finds(model, name)
    outputs = model.manifest.outputs[name]
    if len(outputs) == 1:
        return np.asarray(probability[outputs[0]])
    return np.asarray(np.clip(probability[list(outputs)].sum(axis=0, dtype=np.float32), 0, 1))


def _check_finds(model: Model, name: str) -> None:
    """Refuse a model that has no output for a structure."""
    if not model.manifest.outputs.get(name):
        raise MissingResource(
            f"Model '{model.manifest.name}' finds no {name}; another model has to."
        )


def _known_cord(prepared: Prepared, model: Model, grid: NetworkGrid) -> BoolArray | None:
    """Bring the rough cord, where there is one, to the network's grid."""
    if prepared.rough_cord is None:
        return None
    volume = Volume(prepared.rough_cord, prepared.reference.affine)
    return mask_to_network(orient(volume, model.manifest.orientation).data.T, model, grid)


def _pad(data: Tensor, model: Model) -> tuple[Tensor, tuple[slice, ...]]:
    """Make an array at least a patch wide; gives the place of the original in it too."""
    padded, reverse = pad_nd_image(
        data, model.configuration.patch_size, "constant", {"value": 0}, True, None
    )
    return padded, reverse


def _within(part: Part, bounds: Sequence[slice]) -> Part:
    """Cut a part to what lies within bounds, which may go beyond it."""
    kept, box = [], []
    for place, inside in zip(part.box, bounds, strict=True):
        start = max(place.start, inside.start)
        stop = max(start, min(place.stop, inside.stop))
        kept.append(slice(start - place.start, stop - place.start))
        box.append(slice(start, stop))
    return Part(part.logits[(slice(None), *kept)], tuple(box))


def _without_padding(part: Part, inner: Sequence[slice]) -> Part:
    """Cut a part of a padded array to what lies in the array, and give its place there."""
    cut = _within(part, inner)
    box = (
        slice(place.start - inside.start, place.stop - inside.start)
        for place, inside in zip(cut.box, inner, strict=True)
    )
    return replace(cut, box=tuple(box))


def _round_cord(part: Part, model: Model) -> Part:
    """Cut a part to the surroundings of the probable cord, where a glimpse is of use."""
    cord = probable_cord(part.logits, model)
    if not cord.any():
        return part
    bounds = [
        slice(place.start + low - _GLIMPSED_VOXELS, place.start + high + _GLIMPSED_VOXELS)
        for place, (low, high) in zip(part.box, get_bbox_from_mask(cord), strict=True)
    ]
    return _within(part, bounds)


def _read(
    data: Tensor,
    model: Model,
    cord: BoolArray | None,
    quick: bool,
    search: bool,
    whole: bool,
    mirror: bool,
) -> Part:
    """Decide where the network runs."""
    unguided = cord is None and not quick and "cord" not in model.manifest.outputs
    if whole or unguided:
        return slide(data, model, 0.5, mirror)
    parts, known = [], None
    if quick or search or cord is None:
        # One fold says well enough where to look.
        one = replace(model, networks=model.networks[:1])
        part, known = follow(data, one, cord)
        parts.append(join([part], model))
        if quick:
            return parts[0]
        near, cord = cord, np.zeros(tuple(data.shape[1:]), bool)
        cord[parts[0].box] = probable_cord(parts[0].logits, model)
        if near is not None and not cord.any():
            return parts[0]
    close = slide(data, model, 0.5, mirror, large_pieces(cord), known)
    return join([*parts, close], model)
