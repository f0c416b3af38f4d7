"""Segment a session: which contrasts a model reads, how often, and how the answers are joined.

One reading is `bids_app.segmentation.prediction`'s. A model may read each contrast by itself as
well, and its folds may vote.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bids_app.errors import MissingResource
from bids_app.records import Combination, FloatArray, Prepared, Segmentation, Volume
from bids_app.segmentation.inputs import one_by_one
from bids_app.segmentation.prediction import predict, predict_in_cut, structure
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
        outside = structure(predict(prepared, cord_model), cord_model, "cord")
        prepared = replace(prepared, rough_cord=outside >= 0.5)
    if combination is not None and combination.rule == "vote":
        return _vote(prepared, model, outside, combination.fold_threshold)
    cord, lesion = _read(prepared, model, outside)
    return Segmentation(cord=cord, lesion=lesion, uncertainty=entropy_bits(lesion))


def _read(
    prepared: Prepared, model: Model, outside: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Give the probability of cord and of lesion, the mean of the folds."""
    # Readings of each contrast by itself steady the mean as mirroring does.
    several = model.manifest.reference_alone and _has_both(prepared)
    probability = predict_in_cut(prepared, model, outside, not several)
    lesion = structure(probability, model, "lesion")
    cord = outside
    if cord is None or "cord" in model.manifest.outputs:
        cord = structure(probability, model, "cord")
    if _has_both(prepared):
        cord, lesion = _with_each_alone(prepared, model, outside, cord, lesion)
    return _rounded(cord), _rounded(lesion)


def _rounded(probability: FloatArray) -> FloatArray:
    """Round to multiples of 2^-16, so that background is 0 and the files take a tenth."""
    rounded = np.rint(probability * np.float32(2**16)) * np.float32(2**-16)
    return np.ascontiguousarray(rounded)


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
    reference that does not show them; it is believed less, `second_alone_penalty` logits. Where
    both are read by themselves, both together are believed no further than the surer of them.
    """
    known = replace(prepared, rough_cord=np.asarray(cord >= 0.5))
    first, *others = prepared.channels
    penalty, by_second = model.manifest.second_alone_penalty, None
    if penalty is not None:
        _, by_second = _alone(known, (None, *others), 1, model, outside)
    if model.manifest.reference_alone:
        own, alone = _alone(known, (first, *(None for _ in others)), 0, model, outside)
        if by_second is not None:
            lesion = np.minimum(lesion, np.maximum(alone, by_second))
        lesion = (lesion + alone) / 2
        if np.count_nonzero(own >= 0.5) < _LEAST_SHARE * np.count_nonzero(cord >= 0.5):
            cord = own
    if penalty is not None and by_second is not None:
        lesion = np.maximum(lesion, _lowered(by_second, penalty))
    return cord, lesion


def _lowered(probability: FloatArray, logits: float) -> FloatArray:
    """Lower a probability by so many logits.

    Examples
    --------
    >>> [round(float(each), 3) for each in _lowered(np.float32([0, 0.5, 1]), 1.0)]
    [0.0, 0.269, 1.0]
    """
    odds_against = (1 - probability) * np.float32(np.exp(logits))
    tiny = np.finfo(np.float32).tiny
    return np.asarray(probability / np.maximum(probability + odds_against, tiny))


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
    probability = predict_in_cut(replace(prepared, channels=channels), model, outside, mirror)
    lesion = structure(probability, model, "lesion")
    if outside is not None and "cord" not in model.manifest.outputs:
        return outside, lesion
    return structure(probability, model, "cord"), lesion


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
