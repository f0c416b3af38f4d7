"""What a model says of itself: a JSON file beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bids_app.errors import MissingResource

BOX = Path(__file__).resolve().parent.parent / "box"


@dataclass(frozen=True)
class Manifest:
    """A model's description (``model.json``).

    Attributes
    ----------
    name, version : str
    configuration : str
        nnU-Net configuration, such as ``3d_fullres``.
    channels : tuple of str
        What each input channel is: ``T2w``, ``second``.
    outputs : mapping
        Output channel of ``cord`` and of ``lesion``.
    orientation : str
        Axis directions of the training images in nibabel's letters (``RAS`` is SCT's ``LPI``).
    mirror_axes : tuple of int
        Axes of (z, y, x) along which predictions may be mirrored and averaged.
    weights : mapping
        SHA-256 of each safetensors file, one a fold.
    licence, intended_use, citation : str
    training : mapping
        Command, seed, steps, hours and machine that made the weights.
    """

    name: str
    version: str
    configuration: str
    channels: tuple[str, ...]
    outputs: dict[str, int]
    orientation: str
    mirror_axes: tuple[int, ...]
    weights: dict[str, str]
    licence: str
    intended_use: str
    citation: str
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Give one hash for all folds."""
        return ",".join(self.weights[name] for name in sorted(self.weights))

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def find_model(name: str | None) -> Path:
    """Give the folder of a model: the box's, or a folder named by the user.

    Raises
    ------
    MissingResource
        No such model.
    """
    if name is None or name == "box":
        return BOX
    folder = Path(name).expanduser()
    if (folder / "model.json").is_file():
        return folder
    raise MissingResource(
        f"No model '{name}': neither a known name nor a folder with a model.json. "
        "'box' is the model that ships with the app."
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
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingResource(
            f"{path} cannot be read ({error}); install the model again."
        ) from error
    known = {item.name for item in fields(Manifest)}
    try:
        values = {key: value for key, value in content.items() if key in known}
        for key in ("channels", "mirror_axes"):
            values[key] = tuple(values[key])
        return Manifest(**values)
    except (AttributeError, KeyError, TypeError) as error:
        raise MissingResource(
            f"{path} is not a complete manifest ({error}); install the model again."
        ) from error
