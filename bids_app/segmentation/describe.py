"""Infer what a model's channels and labels mean, as far as the user has not said it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from bids_app.errors import UsageError
from bids_app.segmentation.manifest import Fusion, normalise
from bids_app.segmentation.orientation import check_letters, from_sct_letters

_LESION = re.compile(r"lesion|plaque", re.I)
_CORD = re.compile(r"(?<![a-z])(sc|cord|spinal[ _-]?cord)(?![a-z])", re.I)
_NOT_CORD = re.compile(r"canal|csf", re.I)
_T2W = re.compile(r"t2[ _-]?w?", re.I)


@dataclass(frozen=True)
class Choices:
    """What the user says of a model; what is left empty is inferred.

    Attributes
    ----------
    manifest : mapping
        Keys of ``model.json``; the other attributes go before it.
    channels : tuple of str
    cord, lesion : tuple of str
        Names of labels in ``dataset.json``.
    orientation : str or None
        In the Spinal Cord Toolbox's letters.
    fusion, preset, licence : str or None
    crop_margin_mm : tuple of float or None
    """

    manifest: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    cord: tuple[str, ...] = ()
    lesion: tuple[str, ...] = ()
    orientation: str | None = None
    fusion: str | None = None
    preset: str | None = None
    licence: str | None = None
    crop_margin_mm: tuple[float, float, float] | None = None


def describe(
    dataset: Mapping[str, Any], channels: Sequence[str], reader: str, choices: Choices
) -> tuple[dict[str, Any], list[str]]:
    """Give the fields of a manifest that say what goes in and what comes out.

    Parameters
    ----------
    dataset : mapping
        Content of ``dataset.json``.
    channels : sequence of str
        Its channels in order.
    reader : str
        nnU-Net's image reader; one of them turns every image to RAS.
    choices : Choices

    Returns
    -------
    fields : dict
        Of `Manifest`.
    notes : list of str
        What was assumed.

    Raises
    ------
    UsageError
        Something can neither be inferred nor was it said, or does not fit.
    """
    given = normalise(choices.manifest)
    orientation, notes = _orientation(dataset, reader, choices, given)
    fields: dict[str, Any] = {
        "channels": choices.channels or given.get("channels") or tuple(map(_contrast, channels)),
        "outputs": _outputs(dataset, choices, given),
        "orientation": orientation,
        "fusion": choices.fusion or given.get("fusion", "early"),
        "second_alone_penalty": given.get("second_alone_penalty"),
        "reference_alone_penalty": given.get("reference_alone_penalty") or 0.0,
        "preset": choices.preset or given.get("preset"),
        "crop_margin_mm": choices.crop_margin_mm or given.get("crop_margin_mm"),
        "version": given.get("version", str(dataset.get("release", "unknown"))),
        "licence": choices.licence
        or given.get("licence")
        or str(dataset.get("licence") or dataset.get("license") or "not stated; ask its authors"),
        "intended_use": given.get("intended_use", "Research use only."),
        "citation": given.get("citation", str(dataset.get("reference", "not stated"))),
    }
    if len(fields["channels"]) != len(channels):
        raise UsageError(
            f"{len(fields['channels'])} channels are named ({' '.join(fields['channels'])}), but "
            f"the network has {len(channels)}: {', '.join(channels)}."
        )
    if fields["fusion"] not in get_args(Fusion):
        raise UsageError(f"Fusion {fields['fusion']!r} is neither early nor late.")
    by_coverage = fields["fusion"] == "late" and fields["second_alone_penalty"] is None
    if by_coverage and len(channels) > 1:
        raise UsageError(
            f"Late fusion runs a one-channel network on each contrast; this has {len(channels)}."
        )
    return fields, notes


def _contrast(name: str) -> str:
    """Spell T2w as BIDS does; other names stay.

    Examples
    --------
    >>> _contrast("t2"), _contrast("T2-w"), _contrast("STIR")
    ('T2w', 'T2w', 'STIR')
    """
    return "T2w" if _T2W.fullmatch(name) else name


def _orientation(
    dataset: Mapping[str, Any], reader: str, choices: Choices, given: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """Give the orientation in nibabel's letters, and a note when it was assumed."""
    if choices.orientation:
        return from_sct_letters(choices.orientation), []
    if given.get("orientation"):
        return check_letters(given["orientation"]), []
    if dataset.get("image_orientation"):
        return from_sct_letters(dataset["image_orientation"]), []
    if reader == "NibabelIOWithReorient":
        return "RAS", []
    note = (
        "dataset.json does not say how the training images were oriented; LPI in the Spinal Cord "
        "Toolbox's letters is assumed. If that is wrong, install again with --orientation."
    )
    return "RAS", [note]


def _outputs(
    dataset: Mapping[str, Any], choices: Choices, given: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Give the network's output channels that add up to cord and to lesion."""
    if "outputs" in given and not (choices.cord or choices.lesion):
        return dict(given["outputs"])
    labels = {name: _values(value) for name, value in dataset["labels"].items()}
    labels = {name: values for name, values in labels.items() if name != "ignore" and any(values)}
    lesion = _named(labels, choices.lesion) or [n for n in labels if _LESION.search(n)]
    cord = _named(labels, choices.cord) or [
        name
        for name in labels
        if _CORD.search(name) and not _NOT_CORD.search(name) and name not in lesion
    ]
    if not cord and not lesion:
        raise UsageError(
            f"None of the labels {', '.join(labels)} is called lesion or cord; say which is which "
            "with --lesion-label and --cord-label."
        )
    if any(len(values) > 1 for values in labels.values()):
        return _region_outputs(labels, cord, lesion)
    return _label_outputs(labels, cord, lesion)


def _region_outputs(
    labels: Mapping[str, tuple[int, ...]], cord: Sequence[str], lesion: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Give a region's own channel; regions overlap, so the cord mostly has its lesions already.

    Examples
    --------
    >>> _region_outputs({"sc": (1, 2), "lesion": (2,)}, ["sc"], ["lesion"])
    {'cord': (0,), 'lesion': (1,)}
    """
    order = list(labels)
    outputs = {"lesion": tuple(order.index(name) for name in lesion)} if lesion else {}
    if cord:
        covered = {value for name in cord for value in labels[name]}
        missing = [name for name in lesion if not covered & set(labels[name])]
        outputs = {"cord": tuple(order.index(name) for name in [*cord, *missing]), **outputs}
    return outputs


def _label_outputs(
    labels: Mapping[str, tuple[int, ...]], cord: Sequence[str], lesion: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Give the softmax channels of labels; lesions are in the cord, so they count as cord too.

    Examples
    --------
    >>> _label_outputs({"sc": (1,), "lesion": (2,)}, ["sc"], ["lesion"])
    {'cord': (1, 2), 'lesion': (2,)}
    >>> _label_outputs({"lesion": (1,)}, [], ["lesion"])
    {'lesion': (1,)}
    """
    order = sorted({0, *(value for values in labels.values() for value in values)})
    channel = {name: order.index(values[0]) for name, values in labels.items()}
    outputs = {"lesion": tuple(sorted(channel[name] for name in lesion))} if lesion else {}
    if cord:
        both = {channel[name] for name in [*cord, *lesion]}
        outputs = {"cord": tuple(sorted(both)), **outputs}
    return outputs


def _values(value: object) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(str(value)),)


def _named(labels: Mapping[str, object], wanted: Sequence[str]) -> list[str]:
    """Check that the labels the user names are there."""
    for name in wanted:
        if name not in labels:
            raise UsageError(
                f"The model has no label {name!r}; its labels are {', '.join(labels)}."
            )
    return list(wanted)
