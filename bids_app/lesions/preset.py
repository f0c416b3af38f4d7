"""Presets: the post-processing chain as data, by name or from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from bids_app.documents import parse_json
from bids_app.errors import UsageError
from bids_app.lesions.check import check_contrast, check_known, check_value
from bids_app.records import Combination

TRACKING = "track_"
"""How the settings that compare sessions begin; a session's own results do not need them."""


@dataclass(frozen=True)
class Preset:
    """How probabilities become cord, lesions and instances: docs/presets.md has the chain.

    A value is kept when it reaches its limit: all comparisons are "at least".

    Attributes
    ----------
    name : str
        Name or file it came from; written into the sidecars.
    description : str
        What it is for and where it comes from.
    combination : {"mean", "vote"}
        The folds' mean probability, or the share of the folds that say lesion.
    fold_threshold : float in (0, 1]
        Probability from which a fold says lesion; for votes.
    min_votes, votes_of : int
        Votes that make a voxel lesion, out of how many folds; a model with another number of
        folds needs the same share. 0: `lesion_threshold` decides.
    zero_below : float in [0, 1]
        Smaller values of the lesion map are set to 0, in each contrast of late fusion.
    min_contrast_peak : float in [0, 1]
        Value that a component of one contrast's map reaches, else it is set to 0 before the
        contrasts are merged; 0 for none.
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
    contrasts : mapping of str to mapping
        Other values for sessions whose second contrast is this one.
    track_min_overlap : float in (0, 1]
        Share of a lesion that must lie in or beside one of another session for a link.
    track_max_distance_mm : float
        Widest gap between lesions of two sessions that overlap too little but have no other.
    track_volume_change : float
        Smallest change of volume, as a fraction, that counts as enlarging or shrinking.
    """

    name: str = "default"
    description: str = ""
    combination: Literal["mean", "vote"] = "mean"
    fold_threshold: float = 0.5
    min_votes: int = 0
    votes_of: int = 5
    zero_below: float = 0.0
    min_contrast_peak: float = 0.0
    lesion_threshold: float = 0.3
    cord_threshold: float = 0.5
    cord_dilation_mm: float = 1.0
    min_lesion_volume_mm3: float = 8.0
    min_lesion_voxels: int = 1
    min_peak_probability: float = 0.8
    connectivity: int = 18
    fill_holes: bool = True
    keep_largest_cord: bool = True
    contrasts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    track_min_overlap: float = 0.25
    track_max_distance_mm: float = 3.0
    track_volume_change: float = 0.3

    @property
    def folds(self) -> Combination:
        """Say how the folds of a model are combined."""
        return Combination(self.combination, self.fold_threshold)

    @property
    def lesion_limit(self) -> float:
        """Give the value of the lesion map from which a voxel is lesion.

        Examples
        --------
        >>> Preset(combination="vote", min_votes=3).lesion_limit
        0.6
        >>> Preset(combination="vote", lesion_threshold=0.5).lesion_limit
        0.5
        """
        return self.min_votes / self.votes_of if self.min_votes else self.lesion_threshold

    def for_contrast(self, second: str | None) -> Preset:
        """Give the values for a second contrast, None for a session without one.

        Examples
        --------
        >>> preset = Preset(contrasts={"STIR": {"lesion_threshold": 0.2}})
        >>> [preset.for_contrast(second).lesion_threshold for second in ("STIR", "PSIR", None)]
        [0.2, 0.3, 0.3]
        """
        values: dict[str, Any] = dict(self.contrasts.get(second or "", {}))
        return replace(self, contrasts={}, **values) if self.contrasts else self

    @property
    def session_settings(self) -> dict[str, Any]:
        """Give what decides a session's results: all but the settings of tracking."""
        return {key: value for key, value in vars(self).items() if not key.startswith(TRACKING)}

    @property
    def tracking_settings(self) -> dict[str, Any]:
        """Give what decides how the lesions of several sessions are compared."""
        return {key: value for key, value in vars(self).items() if key.startswith(TRACKING)}


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
    """Check the content of a preset file; what it leaves out is as in its base.

    Parameters
    ----------
    content : object
        What JSON gave: a mapping from setting to value. ``base`` names a shipped preset, else
        the defaults of `Preset` are the base.
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
    >>> mine = parse_preset({"base": "challenge-monomodal", "zero_below": 0.2}, "mine.json")
    >>> mine.zero_below, mine.min_lesion_voxels
    (0.2, 50)
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"Preset {name} must be a JSON object of settings.")
    where = f"Preset {name}"
    defaults = _defaults()
    check_known(where, content, ["base", *defaults, "contrasts"])
    base = _base(where, content.get("base"))
    values = {
        key: check_value(where, key, value, defaults[key])
        for key, value in content.items()
        if key in defaults
    }
    contrasts = _contrasts(where, content.get("contrasts", {}))
    values["contrasts"] = {**base.contrasts, **contrasts}
    preset = replace(base, **{"name": name, "description": "", **values})
    _check_votes(where, preset, content)
    for contrast, said in preset.contrasts.items():
        _check_votes(f"{where}, {contrast}", preset.for_contrast(contrast), said)
    return preset


def _defaults() -> dict[str, Any]:
    """Give the settings with one value each."""
    return {
        item.name: item.default for item in fields(Preset) if item.name not in ("name", "contrasts")
    }


def _base(where: str, wanted: object) -> Preset:
    if wanted is None:
        return Preset()
    shipped = preset_names()
    if wanted not in shipped:
        hint = get_close_matches(str(wanted), shipped, 1)
        offer = f"did you mean {hint[0]}?" if hint else f"shipped are {', '.join(shipped)}."
        raise UsageError(
            f"{where}: base must be a shipped preset, not {json.dumps(wanted)}; {offer}"
        )
    return load_preset(str(wanted))


def _contrasts(where: str, content: object) -> dict[str, dict[str, float]]:
    """Check what is said of single contrasts: limits only."""
    if not isinstance(content, Mapping) or not all(
        isinstance(values, Mapping) for values in content.values()
    ):
        raise UsageError(
            f"{where}: contrasts must be an object with an object of settings for each contrast, "
            'such as {"STIR": {"min_votes": 1}}.'
        )
    limits = {
        key: default
        for key, default in _defaults().items()
        if isinstance(default, int | float) and not isinstance(default, bool)
        if key not in ("connectivity", "votes_of") and not key.startswith(TRACKING)
    }
    checked = {}
    for contrast, values in content.items():
        check_contrast(where, contrast)
        place = f"{where}, {contrast}"
        check_known(place, values, list(limits))
        checked[contrast] = {
            key: check_value(place, key, value, limits[key]) for key, value in values.items()
        }
    return checked


def _check_votes(where: str, preset: Preset, said: Mapping[Any, Any]) -> None:
    """Refuse settings that contradict one another, or that would have no effect."""
    if preset.min_votes > preset.votes_of:
        raise UsageError(
            f"{where}: min_votes must be at most votes_of, {preset.votes_of}, "
            f"not {preset.min_votes}."
        )
    if preset.min_votes and preset.combination != "vote":
        raise UsageError(f'{where}: min_votes needs "combination": "vote".')
    if preset.min_votes and "lesion_threshold" in said:
        raise UsageError(
            f"{where}: min_votes decides, so lesion_threshold would have no effect; leave it out, "
            "or set min_votes to 0."
        )


def _read(name: str) -> bytes:
    shipped = preset_names()
    try:
        if name in shipped:
            return (files("bids_app.lesions") / "presets" / f"{name}.json").read_bytes()
        return Path(name).read_bytes()
    except FileNotFoundError:
        hint = get_close_matches(name, shipped, 1)
        raise UsageError(
            f"Preset {name} is neither a shipped preset ({', '.join(shipped)}) nor a file"
            + (f"; did you mean {hint[0]}?" if hint else ".")
        ) from None
    except OSError as error:
        raise UsageError(f"Preset {name} cannot be read: {error.strerror}.") from error


def _decode(content: bytes, name: str) -> object:
    try:
        return parse_json(content)
    except ValueError as error:
        raise UsageError(f"Preset {name} is not valid JSON: {error}.") from error
