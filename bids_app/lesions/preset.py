"""Presets: the post-processing chain as data, by name or from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from bids_app.errors import UsageError

_FRACTIONS = ("lesion_threshold", "cord_threshold")
_CONNECTIVITIES = (6, 18, 26)


@dataclass(frozen=True)
class Preset:
    """How probabilities become cord, lesions and instances.

    A value is kept when it reaches its limit: all comparisons are "at least".

    Attributes
    ----------
    name : str
        Name or file it came from; written into the sidecars.
    description : str
        One sentence for people.
    lesion_threshold, cord_threshold : float in (0, 1]
        Probability from which a voxel is lesion or cord.
    cord_dilation_mm : float
        How far outside the cord a lesion voxel may lie; 0 for none.
    min_lesion_volume_mm3 : float
        Smallest lesion that is kept; 0 for any.
    min_lesion_voxels : int
        The same in voxels, for rules that were made so; both limits hold.
    min_peak_probability : float in [0, 1]
        Probability that at least one voxel of a lesion reaches.
    connectivity : 6, 18 or 26
        Neighbours that join voxels into one lesion: faces, edges too, corners too.
    fill_holes : bool
        Fill what the cord encloses on all sides.
    keep_largest_cord : bool
        Keep the largest piece of cord and the pieces that continue it; drop strays.
    """

    name: str = "default"
    description: str = ""
    lesion_threshold: float = 0.3
    cord_threshold: float = 0.5
    cord_dilation_mm: float = 1.0
    min_lesion_volume_mm3: float = 8.0
    min_lesion_voxels: int = 1
    min_peak_probability: float = 0.8
    connectivity: int = 18
    fill_holes: bool = True
    keep_largest_cord: bool = True


def load_preset(name_or_file: str | Path) -> Preset:
    """Load a shipped preset by its name, or one of your own from a JSON file.

    Parameters
    ----------
    name_or_file : str or Path
        ``default``, ``challenge-multimodal``, ``challenge-monomodal``, or a path.

    Returns
    -------
    Preset

    Raises
    ------
    UsageError
        Neither a name nor a readable file, not JSON, or a value that cannot be used.

    Examples
    --------
    >>> load_preset("challenge-monomodal").min_lesion_voxels
    50
    """
    name = str(name_or_file)
    return parse_preset(_decode(_read(name), name), name)


def preset_names() -> tuple[str, ...]:
    """List the shipped presets, sorted."""
    folder = files("bids_app.lesions") / "presets"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def parse_preset(content: object, name: str) -> Preset:
    """Check the content of a preset file; settings that it leaves out keep their default.

    Parameters
    ----------
    content : object
        What JSON gave: a mapping from setting to value.
    name : str
        Name of the preset, for messages and for `Preset.name`.

    Returns
    -------
    Preset

    Raises
    ------
    UsageError
        Not a mapping, an unknown setting, or a value of the wrong kind or out of range.

    Examples
    --------
    >>> parse_preset({"connectivity": 6}, "mine.json").connectivity
    6
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"Preset {name} must be a JSON object of settings.")
    defaults = {field.name: field.default for field in fields(Preset) if field.name != "name"}
    unknown = [str(key) for key in content if key not in defaults]
    if unknown:
        raise UsageError(_unknown_settings(name, unknown, list(defaults)))
    values = {key: _checked(name, key, value, defaults[key]) for key, value in content.items()}
    return Preset(name=name, **values)


def _read(name: str) -> bytes:
    shipped = preset_names()
    try:
        if name in shipped:
            return (files("bids_app.lesions") / "presets" / f"{name}.json").read_bytes()
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"Preset {name} is neither a shipped preset ({', '.join(shipped)}) nor a file."
        ) from None
    except OSError as error:
        raise UsageError(f"Preset {name} cannot be read: {error.strerror}.") from error


def _decode(content: bytes, name: str) -> object:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UsageError(f"Preset {name} is not valid JSON: {error}.") from error


def _unknown_settings(name: str, unknown: list[str], known: list[str]) -> str:
    hints = sorted({match for key in unknown for match in get_close_matches(key, known, 1)})
    offer = f"did you mean {', '.join(hints)}?" if hints else f"known are {', '.join(known)}."
    return f"Preset {name} has unknown settings {', '.join(unknown)}; {offer}"


def _checked(name: str, key: str, value: Any, default: Any) -> Any:
    """Give `value` as the type of its default, or raise UsageError."""
    # bool is an int to Python: "connectivity": true must not pass as 1.
    accepted = (int, float) if isinstance(default, float) else (type(default),)
    right_type = isinstance(value, accepted) and isinstance(value, bool) == isinstance(
        default, bool
    )
    if not right_type or (rule := _broken_rule(key, value)):
        expected = rule if right_type else _kind(default)
        raise UsageError(f"Preset {name}: {key} must be {expected}, not {json.dumps(value)}.")
    return type(default)(value)


def _kind(default: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(
        type(default), "text"
    )


def _broken_rule(key: str, value: Any) -> str:
    """Say what range `value` should have kept, or nothing."""
    if isinstance(value, str | bool):
        return ""
    if key in _FRACTIONS:
        return "" if 0 < value <= 1 else "above 0 and at most 1"
    if key == "min_peak_probability":
        return "" if 0 <= value <= 1 else "between 0 and 1"
    if key == "connectivity":
        return "" if value in _CONNECTIVITIES else "6, 18 or 26"
    return "" if 0 <= value < float("inf") else "0 or more, and finite"
