"""Segment a session: which contrasts a model reads at once, and how the answers are joined.

One reading is `bids_app.segmentation.prediction`'s. A model may read each contrast by itself, and
its folds may vote.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bids_app.errors import MissingResource
from bids_app.records import Combination, FloatArray, Prepared, Segmentation
from bids_app.segmentation.inputs import one_by_one
from bids_app.segmentation.merging import highest
from bids_app.segmentation.prediction import predict, predict_in_cut, structure
from bids_app.segmentation.weights import Model


def segment_contrasts(
    prepared: Prepared,
    model: Model,
    cord_model: Model | None = None,
    combination: Combination | None = None,
) -> tuple[Segmentation, ...]:
    """Segment cord and lesions of a session as often as the model looks at it.

    Parameters and errors are those of `segment`. What was seen of the contrasts before they were
    aligned (`Prepared.glimpses`) is not read again, except for votes: it is the mean of the folds.

    Returns
    -------
    tuple of Segmentation
        One; with late fusion by coverage one for each contrast that is there, the reference first.
    """
    manifest = model.manifest
    views = one_by_one(prepared) if manifest.fusion == "late" else (prepared,)
    if manifest.second_alone_penalty is None or len(views) == 1:
        return tuple(segment(view, model, cord_model, combination) for view in views)
    votes = combination is not None and combination.rule == "vote"
    penalties = (manifest.second_alone_penalty, manifest.reference_alone_penalty)
    # A share of votes has no logits to take off.
    if votes:
        penalties = (0.0, 0.0)

    def answer(view: Prepared) -> tuple[FloatArray, FloatArray]:
        seen = None if votes else _seen(view)
        if seen is not None:
            return seen
        found = segment(view, model, cord_model, combination)
        return found.cord, found.lesion

    readings = [answer(view) for view in views]
    merged = highest(readings, prepared.reference.spacing_mm, *penalties)
    cord, lesion = (_rounded(each) for each in merged)
    return (Segmentation(cord=cord, lesion=lesion, uncertainty=entropy_bits(lesion)),)


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
        Reference and second contrast, a missing one None, in any orientation.
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
    probability = predict_in_cut(prepared, model, outside)
    cord = outside
    if cord is None or "cord" in model.manifest.outputs:
        cord = structure(probability, model, "cord")
    return _rounded(cord), _rounded(structure(probability, model, "lesion"))


def _seen(prepared: Prepared) -> tuple[FloatArray, FloatArray] | None:
    """Give cord and lesion of the one contrast that is there, where they are known already."""
    there = [place for place, channel in enumerate(prepared.channels) if channel is not None]
    if len(there) != 1 or not prepared.glimpses:
        return None
    seen = prepared.glimpses[there[0]]
    return None if seen is None or seen.lesion is None else (seen.cord, seen.lesion)


def _rounded(probability: FloatArray) -> FloatArray:
    """Round to multiples of 2^-16, so that background is 0 and the files take a tenth."""
    steps = np.multiply(probability, np.float32(2**16), order="C")
    np.rint(steps, out=steps)
    return np.multiply(steps, np.float32(2**-16), out=steps)


def _vote(
    prepared: Prepared, model: Model, outside: FloatArray | None, threshold: float
) -> Segmentation:
    """Run the folds one by one, and count those that say lesion."""
    shape = prepared.reference.data.shape
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
