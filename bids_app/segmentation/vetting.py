"""Check plans and dataset of a model, both of which a stranger wrote, before they are used."""

from __future__ import annotations

import copy
import inspect
import warnings
from dataclasses import dataclass
from typing import Any, cast

from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from bids_app.errors import MissingResource
from bids_app.segmentation.architecture import check_architecture

_NORMALISATIONS = {
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
}
_RESAMPLINGS = {
    "resample_data_or_seg_to_shape",
    "resample_data_or_seg_to_spacing",
    "resample_torch_simple",
    "resample_torch_fornnunet",
    "no_resampling_hack",
}
_READERS = {"SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"}
_PREPROCESSORS = {"DefaultPreprocessor"}
_LABEL_MANAGERS = {"LabelManager"}
_MAX_PATCH_VOXELS = 2**27


@dataclass(frozen=True)
class Vetted:
    """Plans that may be used.

    Attributes
    ----------
    document : dict
        Plans with the one configuration, inheritance resolved, in nnU-Net's present format.
    plans : PlansManager
    configuration : ConfigurationManager
    labels : LabelManager
    channels : int
        Of the network's input.
    """

    document: dict[str, Any]
    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    channels: int

    @property
    def architecture(self) -> dict[str, Any]:
        """The network, as plans describe it."""
        return cast(dict[str, Any], self.configuration.configuration["architecture"])


def vet(plans: dict[str, Any], dataset: dict[str, Any], configuration: str) -> Vetted:
    """Check that plans name nothing but nnU-Net's own parts, and that they fit together.

    Parameters
    ----------
    plans, dataset : dict
        Content of ``plans.json`` and ``dataset.json``.
    configuration : str
        Such as ``3d_fullres``.

    Raises
    ------
    MissingResource
        In one sentence, for the first thing that is wrong.
    """
    try:
        document = _one_configuration(plans, configuration)
        parts = document["configurations"][configuration]
        _check_names(document, parts)
        parts["architecture"] = check_architecture(parts["architecture"])
        channels = _check_channels(document, parts, dataset)
        _check_geometry(document, parts)
        manager = PlansManager(document)
        labels = manager.get_label_manager(dataset)
        heads = labels.num_segmentation_heads
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise MissingResource(
            "plans.json and dataset.json are not those of an nnU-Net v2 model "
            f"({type(error).__name__}: {str(error)[:200]}); the model cannot be used."
        ) from error
    if heads < 1:
        raise MissingResource("dataset.json names no label beside the background.")
    return Vetted(document, manager, manager.get_configuration(configuration), labels, channels)


def channel_names(dataset: dict[str, Any]) -> tuple[str, ...]:
    """Give the names of the input channels in order; early versions called them modality.

    Examples
    --------
    >>> channel_names({"channel_names": {"1": "STIR", "0": "T2w"}})
    ('T2w', 'STIR')
    """
    names = dataset["modality"] if "modality" in dataset else dataset["channel_names"]
    numbers = sorted(int(key) for key in names)
    if numbers != list(range(len(names))):
        raise ValueError("the channels are not numbered 0, 1, 2, ...")
    return tuple(str(names[str(number)]) for number in numbers)


def _one_configuration(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Resolve inheritance and old formats with nnU-Net's own function; leave the rest out."""
    document = copy.deepcopy(plans)
    if name not in document["configurations"]:
        raise MissingResource(
            f"plans.json has no configuration {name!r}, which the checkpoint was trained in; "
            "the model is not complete."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells users to plan their dataset again
        parts = PlansManager(document).get_configuration(name).configuration
    if parts.get("previous_stage"):
        raise MissingResource(
            f"Configuration {name!r} is the second stage of a cascade, which is not supported."
        )
    parts.pop("inherits_from", None)
    document["configurations"] = {name: parts}
    old = document.pop("foreground_intensity_properties_by_modality", None)
    document.setdefault("foreground_intensity_properties_per_channel", old or {})
    document.setdefault("label_manager", "LabelManager")
    return document


def _check_names(document: dict[str, Any], parts: dict[str, Any]) -> None:
    """Refuse any name that nnU-Net does not ship, because it would be looked up and run."""
    checks = [
        ("image reader", document.get("image_reader_writer", "SimpleITKIO"), _READERS),
        ("label manager", document["label_manager"], _LABEL_MANAGERS),
        ("preprocessor", parts.get("preprocessor_name", "DefaultPreprocessor"), _PREPROCESSORS),
        *(("normalisation", name, _NORMALISATIONS) for name in parts["normalization_schemes"]),
    ]
    for kind in ("data", "seg", "probabilities"):
        checks.append(("resampling", parts[f"resampling_fn_{kind}"], _RESAMPLINGS))
    for what, name, known in checks:
        if not isinstance(name, str) or name not in known:
            raise MissingResource(
                f"plans.json names the {what} {str(name)[:80]!r}, which is not nnU-Net's own; "
                "such a model is not loaded."
            )
    configuration = ConfigurationManager(parts)
    for kind in ("data", "seg", "probabilities"):
        function = getattr(configuration, f"resampling_fn_{kind}").func
        known_options = list(inspect.signature(function).parameters)[4:]
        unknown = set(parts[f"resampling_fn_{kind}_kwargs"]) - set(known_options)
        if unknown:
            raise MissingResource(
                f"plans.json gives resampling the unknown option {sorted(unknown)[0]!r}; "
                "such a model is not loaded."
            )


def _check_channels(
    document: dict[str, Any], parts: dict[str, Any], dataset: dict[str, Any]
) -> int:
    """Count the channels wherever they are counted."""
    count = len(channel_names(dataset))
    statistics = document["foreground_intensity_properties_per_channel"]
    counts = {
        "dataset.json": count,
        "normalization_schemes": len(parts["normalization_schemes"]),
        "use_mask_for_norm": len(parts["use_mask_for_norm"]),
        "foreground_intensity_properties_per_channel": len(
            [number for number in range(count) if str(number) in statistics]
        ),
    }
    if count == 0 or len(set(counts.values())) > 1:
        listed = ", ".join(f"{value} in {where}" for where, value in counts.items())
        raise MissingResource(f"The model's files disagree on its input channels: {listed}.")
    return count


def _check_geometry(document: dict[str, Any], parts: dict[str, Any]) -> None:
    """Check patch, spacing and order of axes."""
    patch, spacing = parts["patch_size"], parts["spacing"]
    dimensions = len(patch)
    whole = all(isinstance(size, int) and size > 0 for size in patch)
    voxels = 1
    for size in patch if whole else ():
        voxels *= size
    orders = [sorted(document[f"transpose_{way}"]) for way in ("forward", "backward")]
    if not (
        dimensions in (2, 3)
        and whole
        and voxels <= _MAX_PATCH_VOXELS
        and len(spacing) == dimensions
        and all(0 < length < 1000 for length in spacing)
        and orders == [[0, 1, 2]] * 2
    ):
        raise MissingResource(
            f"plans.json has a patch of {patch} at a spacing of {spacing}, which cannot be used."
        )
