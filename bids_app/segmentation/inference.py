"""Run a network over a session: nnU-Net's preprocessing, sliding window and export.

nnU-Net's own functions prepare the data, weigh the tiles and bring the logits back; what is
ours is where to look. Where neither aligning the contrasts nor another model has found the cord
already, a pass without overlap does; of the tiles with overlap only those on the cord are computed,
because lesions lie in it. A model may read each contrast by itself as well. A pass that finds no
cord is not believed: the whole image is done with full overlap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor

from bids_app.errors import MissingResource
from bids_app.records import (
    BoolArray,
    Combination,
    FloatArray,
    Glimpse,
    Prepared,
    Segmentation,
    Volume,
)
from bids_app.segmentation.follow import follow, probable_cord
from bids_app.segmentation.inputs import arrange, crop, cut_round, one_by_one
from bids_app.segmentation.look import large_pieces
from bids_app.segmentation.network_grid import (
    NetworkGrid,
    from_network,
    mask_to_network,
    to_network,
)
from bids_app.segmentation.orientation import orient, orient_back
from bids_app.segmentation.tiles import slide
from bids_app.segmentation.weights import Model

# Of a cord, the reference by itself must show so much.
_LEAST_SHARE = 0.1


def segment_contrasts(
    prepared: Prepared,
    model: Model,
    cord_model: Model | None = None,
    combination: Combination | None = None,
) -> tuple[Segmentation, ...]:
    """Segment cord and lesions of a session as often as the model looks at it.

    Parameters and errors are those of `segment`.

    Returns
    -------
    tuple of Segmentation
        One; with late fusion one for each contrast that is there, the reference first.
    """
    views = one_by_one(prepared) if model.manifest.fusion == "late" else (prepared,)
    return tuple(segment(view, model, cord_model, combination) for view in views)


def segment(
    prepared: Prepared,
    model: Model,
    cord_model: Model | None = None,
    combination: Combination | None = None,
) -> Segmentation:
    """Segment cord and lesions from what the network sees at once.

    Parameters
    ----------
    prepared : Prepared
        Reference and second contrast, a missing one None, in any orientation. With late
        fusion the one contrast that is there.
    model : Model
    cord_model : Model, optional
        Gives the cord of a model that has none, and where to cut images for one that was
        trained on cuts (`Manifest.needs_cord_model`); else not used.
    combination : Combination, optional
        Of the folds; the mean by default. With votes, each fold is run as a model by itself;
        cord and uncertainty are of the mean all the same.

    Returns
    -------
    Segmentation
        On the grid of `prepared`, probabilities rounded to multiples of 2^-16. The uncertainty
        is the binary entropy of the lesion probability in bits, 0 where the network is sure and
        1 where it is undecided.

    Raises
    ------
    MissingResource
        The model finds no lesions, or needs a cord model and got none that finds the cord.
    MissingContrast
        The model reads a contrast that the session does not have.
    """
    manifest = model.manifest
    if "lesion" not in manifest.outputs:
        raise MissingResource(
            f"Model '{manifest.name}' finds no lesions; choose another with --model."
        )
    outside = None
    if manifest.needs_cord_model:
        if cord_model is None:
            raise MissingResource(
                f"Model '{manifest.name}' needs a second model that finds the cord, such as 'box'."
            )
        outside = _structure(predict(prepared, cord_model), cord_model, "cord")
        prepared = replace(prepared, rough_cord=outside >= 0.5)
    if combination is not None and combination.rule == "vote":
        return _vote(prepared, model, outside, combination.fold_threshold)
    cord, lesion = _read(prepared, model, outside)
    return Segmentation(cord=cord, lesion=lesion, uncertainty=entropy_bits(lesion))


def _rounded(probability: FloatArray) -> FloatArray:
    """Round to multiples of 2^-16, so that background is 0 and the files take a tenth."""
    rounded = np.rint(probability * np.float32(2**16)) * np.float32(2**-16)
    return np.ascontiguousarray(rounded)


def _read(
    prepared: Prepared, model: Model, outside: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Give the probability of cord and of lesion, the mean of the folds."""
    # Readings of each contrast by itself steady the mean as mirroring does.
    several = model.manifest.reference_alone and _has_both(prepared)
    probability = _predict_in_cut(prepared, model, outside, not several)
    lesion = _structure(probability, model, "lesion")
    cord = outside
    if cord is None or "cord" in model.manifest.outputs:
        cord = _structure(probability, model, "cord")
    if _has_both(prepared):
        cord, lesion = _with_each_alone(prepared, model, outside, cord, lesion)
    return _rounded(cord), _rounded(lesion)


def _has_both(prepared: Prepared) -> bool:
    """Tell whether there is a reference and something beside it."""
    first, *others = prepared.channels
    return first is not None and any(other is not None for other in others)


def _with_each_alone(
    prepared: Prepared,
    model: Model,
    outside: FloatArray | None,
    cord: FloatArray,
    lesion: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Add what the contrasts say by themselves, where the model reads them so too.

    The reference by itself is as good a witness of lesions as both together: the mean of the two is
    steadier. A cord of which it shows next to nothing is the second contrast's alone, and not
    believed. In the second contrast alone a network may find lesions that it does not see beside a
    reference that does not show them; it is believed less, `second_alone_penalty` logits.
    """
    known = replace(prepared, rough_cord=np.asarray(cord >= 0.5))
    first, *others = prepared.channels
    if model.manifest.reference_alone:
        own, alone = _alone(known, (first, *(None for _ in others)), 0, model, outside)
        lesion = (lesion + alone) / 2
        if np.count_nonzero(own >= 0.5) < _LEAST_SHARE * np.count_nonzero(cord >= 0.5):
            cord = own
    penalty = model.manifest.second_alone_penalty
    if penalty is not None:
        _, chance = _alone(known, (None, *others), 1, model, outside)
        odds_against = (1 - chance) * np.float32(np.exp(penalty))
        tiny = np.finfo(np.float32).tiny
        lesion = np.maximum(lesion, chance / np.maximum(chance + odds_against, tiny))
    return cord, lesion


def _alone(
    prepared: Prepared,
    channels: tuple[Volume | None, ...],
    place: int,
    model: Model,
    outside: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Give cord and lesion of some channels: as a quick pass has shown them, or read anew."""
    seen = prepared.glimpses[place] if prepared.glimpses else None
    if seen is not None and seen.lesion is not None:
        return seen.cord, seen.lesion
    mirror = not model.manifest.reference_alone
    probability = _predict_in_cut(replace(prepared, channels=channels), model, outside, mirror)
    lesion = _structure(probability, model, "lesion")
    if outside is not None and "cord" not in model.manifest.outputs:
        return outside, lesion
    return _structure(probability, model, "cord"), lesion


def _vote(
    prepared: Prepared, model: Model, outside: FloatArray | None, threshold: float
) -> Segmentation:
    """Run the folds one by one, and count those that say lesion."""
    shape = prepared.reference.data.shape
    prepared = replace(prepared, glimpses=())  # they are of the first fold
    cord, lesion, votes = (np.zeros(shape, np.float32) for _ in range(3))
    for network in model.networks:
        one_cord, one_lesion = _read(prepared, replace(model, networks=(network,)), outside)
        cord += one_cord
        lesion += one_lesion
        votes += one_lesion >= threshold
    # Division, not multiplication by 1/n: three of five has to be the number nearest to 0.6.
    folds = np.float32(len(model.networks))
    return Segmentation(_rounded(cord / folds), votes / folds, entropy_bits(lesion / folds))


def glimpse(prepared: Prepared, model: Model) -> Glimpse:
    """Look quickly: one pass of the first fold along the cord, without mirroring.

    Where `prepared` has a rough cord, only tiles that meet it are looked at. Lesions are given, and
    tiles overlap along the cord, if the model is one that reads contrasts by themselves as well.

    Raises
    ------
    MissingResource
        The model finds no cord; ask the box's.
    """
    _check_finds(model, "cord")
    probability = predict(prepared, model, quick=True)
    cord = np.ascontiguousarray(_structure(probability, model, "cord"))
    if not _glimpses_lesions(model):
        return Glimpse(cord)
    return Glimpse(cord, np.ascontiguousarray(_structure(probability, model, "lesion")))


def _glimpses_lesions(model: Model) -> bool:
    """Tell whether a quick pass is of use for lesions."""
    manifest = model.manifest
    several = manifest.reference_alone or manifest.second_alone_penalty is not None
    return several and "lesion" in manifest.outputs and not manifest.needs_cord_model


def _glimpsed(model: Model) -> tuple[int, ...]:
    """Give the outputs that a quick pass is asked for."""
    outputs = model.manifest.outputs
    return (*outputs["cord"], *(outputs["lesion"] if _glimpses_lesions(model) else ()))


def entropy_bits(probability: FloatArray) -> FloatArray:
    """Binary entropy in bits.

    Examples
    --------
    >>> entropy_bits(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    bits = np.zeros_like(probability)
    unsure = (probability > 0) & (probability < 1)
    p = probability[unsure]
    bits[unsure] = np.clip(-p * np.log2(p) - (1 - p) * np.log2(1 - p), 0, 1)
    return bits


def predict(
    prepared: Prepared,
    model: Model,
    *,
    quick: bool = False,
    whole: bool = False,
    mirror: bool = True,
) -> FloatArray:
    """Predict the probability of each output channel on the grid of `prepared`.

    Parameters
    ----------
    prepared : Prepared
    model : Model
        With late fusion it sees one contrast, the first that is there.
    quick : bool
        Stop after the pass along the cord; only the outputs that `glimpse` gives are to be used.
    whole : bool
        Cover the whole image with full overlap, exactly as ``nnUNetPredictor`` does.
    mirror : bool
        Average over the mirrorings the model allows.

    Returns
    -------
    ndarray of shape (outputs, i, j, k), float32
        In memory as the network's axes are.
    """
    late = model.manifest.fusion == "late"
    channels = (prepared.reference,) if late else arrange(prepared, model.manifest.channels)
    image = next(channel for channel in channels if channel is not None)
    letters = model.manifest.orientation
    turned = tuple(None if channel is None else orient(channel, letters) for channel in channels)
    data, grid = to_network(turned, model)
    cord = None if whole else _known_cord(prepared, model, grid)
    with torch.inference_mode():
        padded, reverse = _pad(data, model)
        if cord is not None:
            cord = _pad(torch.from_numpy(cord), model)[0].numpy()
        logits = _predict_logits(padded, model, cord, quick, whole, mirror)
        logits = logits[(slice(None), *reverse[1:])]
        only = _glimpsed(model) if quick else None
        probability = from_network(logits, model, grid, only).numpy()
    # A view: transposing each output in memory would take longer than some of the steps above.
    turned_back = orient_back(probability.transpose(3, 2, 1, 0), letters, image)
    return np.moveaxis(turned_back, -1, 0)


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


def _predict_logits(
    data: Tensor, model: Model, cord: BoolArray | None, quick: bool, whole: bool, mirror: bool
) -> Tensor:
    """Decide where the network runs."""
    unguided = cord is None and not quick and "cord" not in model.manifest.outputs
    if whole or unguided:
        return slide(data, model, 0.5, mirror)
    logits = _nothing(model, tuple(data.shape[1:]))
    # One fold says well enough where to look.
    one = replace(model, networks=model.networks[:1])
    if quick:
        return _over(follow(data, one, cord, between=_glimpses_lesions(model)), logits)
    if cord is None:
        logits = _over(follow(data, one), logits)
        cord = probable_cord(logits, model)
    close = slide(data, model, 0.5, mirror, large_pieces(cord))
    return _over(close, logits)


def _over(close: Tensor, logits: Tensor) -> Tensor:
    """Lay what was looked at over what is taken for granted."""
    return torch.where(torch.isnan(close), logits, close)


def _nothing(model: Model, shape: tuple[int, ...]) -> Tensor:
    """Give the logits of background, half precision."""
    logits = torch.full((model.labels.num_segmentation_heads, *shape), -20, dtype=torch.half)
    if not model.labels.has_regions:
        logits[0] = 20
    return logits


def _predict_in_cut(
    prepared: Prepared, model: Model, cord: FloatArray | None, mirror: bool
) -> FloatArray:
    """Predict from an image cut round the cord where the model was trained on such cuts."""
    margin = model.manifest.crop_margin_mm
    if margin is None or cord is None:
        return predict(prepared, model, mirror=mirror)
    box = cut_round(cord, prepared.reference.affine, margin)
    inner = predict(crop(prepared, box), model, whole=True, mirror=mirror)
    shape = prepared.reference.data.shape
    full = np.zeros((inner.shape[0], *shape), np.float32)
    if not model.labels.has_regions:
        full[0] = 1  # the background
    full[(slice(None), *box)] = inner
    return full


def _structure(probability: FloatArray, model: Model, name: str) -> FloatArray:
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
