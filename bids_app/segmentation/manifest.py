"""What a model says of itself: a JSON file beside its weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bids_app.documents import parse_json
from bids_app.errors import MissingResource
from bids_app.records import Calibration
from bids_app.segmentation.store import installed_models, is_name, models_folder

BOX = Path(__file__).resolve().parent.parent / "box"
Fusion = Literal["early", "late"]


@dataclass(frozen=True)
class Manifest:
    """A model's description (``model.json``).

    Attributes
    ----------
    name, version : str
    configuration : str
        nnU-Net configuration, such as ``3d_fullres``.
    channels : tuple of str
        What each input channel is: ``T2w`` for the reference, ``second`` or the name of a
        contrast for another one.
    outputs : mapping
        The network's output channels whose probabilities add up to ``cord`` and to ``lesion``.
        A model may lack one of the two: lesion-only models need a second model for the cord.
    orientation : str
        Axis directions of the training images in nibabel's letters (``RAS`` is SCT's ``LPI``).
    mirror_axes : tuple of int
        Axes of the patch, (z, y, x) or (y, x), along which predictions may be mirrored and
        averaged.
    weights : mapping
        SHA-256 of each safetensors file, one a fold.
    licence, intended_use, citation : str
    training : mapping
        Command, seed, steps, hours and machine that made the weights.
    fusion : {"early", "late"}
        The network sees all contrasts at once, or each of them by itself: in its own channel, if
        the network has several.
    second_alone_penalty : float or None
        Of a late-fusion model whose readings are merged by the higher probability of lesion:
        logits taken off what any contrast but the reference says. Each contrast is read on its own
        grid, before it is aligned. None where they are read on the reference's grid and merged by
        coverage (`bids_app.lesions.fusion.fuse`).
    reference_alone_penalty : float
        Of such a model: logits taken off what the reference says of lesions where another contrast
        shows the cord and no lesion near (`bids_app.segmentation.merging.highest`).
    preset : str or None
        Name of the post-processing that suits the model, or of a JSON file in its folder.
    crop_margin_mm : tuple of float or None
        Room round the cord (right-left, anterior-posterior, superior-inferior) to which images
        are cut before the network sees them, for models trained on such cuts.
    calibration : Calibration or None
        How often the model is right and what it misses; models made elsewhere have none.
    source : mapping
        Where an installed model came from: ``origin`` and ``sha256``, one entry a file.
    installed_by : str
        Program and version that installed it.
    """

    name: str
    version: str
    configuration: str
    channels: tuple[str, ...]
    outputs: dict[str, tuple[int, ...]]
    orientation: str
    mirror_axes: tuple[int, ...]
    weights: dict[str, str]
    licence: str
    intended_use: str
    citation: str
    training: dict[str, Any] = field(default_factory=dict)
    fusion: Fusion = "early"
    second_alone_penalty: float | None = None
    reference_alone_penalty: float = 0.0
    preset: str | None = None
    crop_margin_mm: tuple[float, float, float] | None = None
    calibration: Calibration | None = None
    source: dict[str, str] = field(default_factory=dict)
    installed_by: str = ""

    @property
    def fingerprint(self) -> str:
        """Give one hash for all folds."""
        return ",".join(self.weights[name] for name in sorted(self.weights))

    @property
    def needs_cord_model(self) -> bool:
        """Tell whether the cord has to come from another model, such as the box."""
        return "cord" not in self.outputs or self.crop_margin_mm is not None

    @property
    def reads_closely(self) -> bool:
        """Tell whether each contrast is read on its own grid, before it is aligned."""
        late = self.fusion == "late" and self.second_alone_penalty is not None
        return late and "lesion" in self.outputs and not self.needs_cord_model

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def find_model(name: str | None, environ: Mapping[str, str] | None = None) -> Path:
    """Give the folder of a model: the box's, an installed one's, or one named by the user.

    Parameters
    ----------
    name : str or None
        None and ``box`` are the model that ships with the app. A name in the store goes before
        a folder of the same name; write ``./name`` for the folder.
    environ : mapping, optional
        Says where the store is; the process's environment by default.

    Raises
    ------
    MissingResource
        No such model.
    """
    if name is None or name == "box":
        return BOX
    store = models_folder(os.environ if environ is None else environ)
    if is_name(name) and (store / name / "model.json").is_file():
        return store / name
    try:
        folder = Path(name).expanduser()
    except RuntimeError:
        folder = Path(name)
    if (folder / "model.json").is_file():
        return folder
    others = ", ".join(path.name for path in installed_models(store)) or "none"
    raise MissingResource(
        f"No model '{name}': neither an installed one ({others} in {store}) nor a folder with a "
        "model.json. 'box' is the model that ships with the app; "
        "'cordlesion models install' adds others."
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a model's manifest.

    Raises
    ------
    MissingResource
        The manifest is missing or not complete.
    """
    path = folder / "model.json"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingResource(
            f"{path} cannot be read ({error}); install the model again."
        ) from error
    try:
        return Manifest(**normalise(content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MissingResource(
            f"{path} is not a complete manifest ({error}); install the model again."
        ) from error


def normalise(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the known keys of a JSON manifest, as the types that `Manifest` has.

    An output may be written as one number: ``{"cord": 0}`` is ``{"cord": [0]}``.
    """
    known = {item.name for item in fields(Manifest)}
    values = {key: value for key, value in content.items() if key in known}
    for key in ("channels", "mirror_axes"):
        if key in values:
            values[key] = tuple(values[key])
    if "outputs" in values:
        values["outputs"] = {
            structure: tuple(channels) if isinstance(channels, list | tuple) else (int(channels),)
            for structure, channels in values["outputs"].items()
        }
    if values.get("crop_margin_mm") is not None:
        right, front, top = (float(margin) for margin in values["crop_margin_mm"])
        values["crop_margin_mm"] = (right, front, top)
    for key in ("second_alone_penalty", "reference_alone_penalty"):
        if values.get(key) is not None:
            values[key] = _penalty(key, values[key])
    if values.get("calibration") is not None:
        values["calibration"] = read_calibration(values["calibration"])
    return values


def _penalty(key: str, value: Any) -> float:
    """Check logits that are taken off a reading."""
    penalty = float(value)
    if not 0 <= penalty < math.inf:
        raise ValueError(f"its {key} is {penalty}, and has to be 0 or more")
    return penalty


def read_calibration(content: Mapping[str, Any]) -> Calibration:
    """Make the record of a manifest's ``calibration``; keys of later versions are left out.

    Raises
    ------
    TypeError, ValueError
        A key is missing, or its value is not of its kind or not finite.
    """
    known = {item.name for item in fields(Calibration)}
    values = {key: value for key, value in content.items() if key in known}
    one, two = values.get("missed_per_mm", (math.nan, math.nan))
    values["missed_per_mm"] = (one, two)
    calibration = Calibration(**values)
    numbers = [v for key, v in values.items() if key not in ("missed_per_mm", "preset", "source")]
    if not all(math.isfinite(number) for number in (*numbers, one, two)):
        raise ValueError("its calibration holds a number that is not finite")
    spreads = (calibration.volume_log_sd, calibration.missed_volume_log_sd)
    if min(one, two, calibration.missed_dispersion, *spreads) < 0:
        raise ValueError("its calibration holds a negative rate or spread")
    return calibration
