"""BIDS file names as fields, and fields as BIDS file names: pure string work, no disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

# Official order of BIDS 1.11 (schema `rules.entities`), with the long names of the schema and
# of pybids beside each key. `from`, `to` and `mode` name transforms and are in no schema yet.
_ENTITIES: tuple[tuple[str, ...], ...] = (
    ("sub", "subject", "participant"),
    ("tpl", "template"),
    ("ses", "session"),
    ("cohort",),
    ("sample",),
    ("task",),
    ("tracksys",),
    ("acq", "acquisition"),
    ("nuc", "nucleus"),
    ("voi", "volume"),
    ("ce", "ceagent"),
    ("trc", "tracer"),
    ("stain", "staining"),
    ("rec", "reconstruction"),
    ("dir", "direction"),
    ("run",),
    ("mod", "modality"),
    ("echo",),
    ("flip",),
    ("inv", "inversion"),
    ("mt", "mtransfer"),
    ("part",),
    ("proc", "processing"),
    ("hemi", "hemisphere"),
    ("space",),
    ("split",),
    ("recording",),
    ("chunk",),
    ("atlas",),
    ("seg", "segmentation"),
    ("scale",),
    ("res", "resolution"),
    ("den", "density"),
    ("from",),
    ("to",),
    ("mode",),
    ("label",),
    ("desc", "description"),
)
_ORDER = {names[0]: rank for rank, names in enumerate(_ENTITIES)}
_SHORT = {name: names[0] for names in _ENTITIES for name in names}
# Entities that nobody has standardised stay with the acquisition, before what describes results.
_UNKNOWN_RANK = _ORDER["space"] - 0.5

INDEX_ENTITIES = frozenset({"run", "echo", "flip", "inv", "split", "chunk"})
"""Entities whose values are numbers: ``run-1`` and ``run-01`` are the same run."""

_ENTITY = re.compile(r"([a-zA-Z]+)-([0-9a-zA-Z+]+)")
_TAIL = re.compile(r"([0-9a-zA-Z]+)((?:\.[0-9a-zA-Z]+)+)")
_LABEL = re.compile(r"[0-9a-zA-Z+]+")


class ParsedName(NamedTuple):
    """The three parts of a BIDS file name.

    Attributes
    ----------
    entities : dict of str to str
        By short key, in the order of the name.
    suffix : str
    extension : str
        With its dot, and double where the name's is (``.nii.gz``).
    """

    entities: dict[str, str]
    suffix: str
    extension: str


def parse_name(name: str) -> ParsedName | None:
    """Take a BIDS file name apart.

    Parameters
    ----------
    name : str
        A file name without folders.

    Returns
    -------
    ParsedName or None
        None when `name` does not follow the grammar: at least one ``key-label``, no key twice,
        ``sub`` first if it is there, then a suffix and an extension. Unknown keys are kept.

    Examples
    --------
    >>> parse_name("sub-01_acq-sag_T2w.nii.gz")
    ParsedName(entities={'sub': '01', 'acq': 'sag'}, suffix='T2w', extension='.nii.gz')
    >>> parse_name("._sub-01_T2w.nii.gz") is None
    True
    """
    *pairs, tail = name.split("_")
    end = _TAIL.fullmatch(tail)
    matches = [_ENTITY.fullmatch(pair) for pair in pairs]
    if end is None or not matches or any(match is None for match in matches):
        return None
    fields = [(match[1], match[2]) for match in matches if match]
    entities = dict(fields)
    if len(entities) != len(fields) or "sub" in [key for key, _ in fields[1:]]:
        return None
    return ParsedName(entities, end[1], end[2])


def build_name(entities: Mapping[str, str], suffix: str, extension: str) -> str:
    """Put a BIDS file name together, entities in the official order.

    Parameters
    ----------
    entities : mapping of str to str
        By short key. Keys that BIDS does not know go before ``space``, alphabetically.
    suffix : str
    extension : str
        With its dot.

    Raises
    ------
    ValueError
        When the parts cannot make a BIDS name, such as a label with a hyphen.

    Examples
    --------
    >>> build_name({"desc": "preproc", "space": "T2w", "sub": "01"}, "STIR", ".nii.gz")
    'sub-01_space-T2w_desc-preproc_STIR.nii.gz'
    """
    keys = _in_order(tuple(entities))
    name = "_".join([f"{key}-{entities[key]}" for key in keys] + [suffix + extension])
    fits = all(_is_entity(key, label) for key, label in entities.items())
    if not keys or not fits or not _is_tail(suffix, extension):
        raise ValueError(f"{name!r} is not a BIDS name")
    return name


# A plan builds tens of thousands of names of the same few parts.
@lru_cache(maxsize=1024)
def _in_order(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(keys, key=lambda key: (_ORDER.get(key, _UNKNOWN_RANK), key)))


@lru_cache(maxsize=1024)
def _is_entity(key: str, label: str) -> bool:
    match = _ENTITY.fullmatch(f"{key}-{label}")
    return match is not None and match.groups() == (key, label)


@lru_cache(maxsize=1024)
def _is_tail(suffix: str, extension: str) -> bool:
    match = _TAIL.fullmatch(suffix + extension)
    return match is not None and match.groups() == (suffix, extension)


def short_key(name: str) -> str | None:
    """Give an entity's short key for its short or long name, or None when BIDS has none such.

    Examples
    --------
    >>> short_key("acquisition"), short_key("acq"), short_key("colour")
    ('acq', 'acq', None)
    """
    return _SHORT.get(name)


def is_label(text: str) -> bool:
    """Tell whether `text` can be an entity's label: ASCII letters, digits and ``+``."""
    return _LABEL.fullmatch(text) is not None


def same_value(key: str, one: str, other: str) -> bool:
    """Tell whether two labels of one entity mean the same; indices compare as numbers.

    Examples
    --------
    >>> same_value("run", "01", "1"), same_value("acq", "01", "1")
    (True, False)
    """
    if key in INDEX_ENTITIES and one.isdecimal() and other.isdecimal():
        return int(one) == int(other)
    return one == other
