"""Check the settings of a preset, in one sentence for the first thing that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from bids_app.errors import UsageError
from bids_app.records import CONTRASTS, OTHER_NAMES

_CHOICES: dict[str, tuple[object, ...]] = {
    "combination": ("mean", "vote"),
    "connectivity": (6, 18, 26),
}
_ABOVE_ZERO = ("lesion_threshold", "cord_threshold", "fold_threshold", "track_min_overlap")
_FRACTIONS = ("min_peak_probability", "min_contrast_peak", "zero_below")
_NAMES = {name.lower(): name for name in CONTRASTS} | {
    old.lower(): name for old, name in OTHER_NAMES.items()
}
_SUFFIX = re.compile(r"[0-9A-Za-z]+")


def check_known(where: str, given: Iterable[object], known: Sequence[str]) -> None:
    """Refuse settings that do not exist, and offer those that look alike.

    Raises
    ------
    UsageError
    """
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        hints = sorted({match for key in unknown for match in get_close_matches(key, known, 1)})
        offer = f"did you mean {', '.join(hints)}?" if hints else f"known are {', '.join(known)}."
        raise UsageError(f"{where} has unknown settings {', '.join(unknown)}; {offer}")


def check_contrast(where: str, name: str) -> None:
    """Refuse a contrast that is no BIDS suffix, or that looks like another spelling of one.

    Raises
    ------
    UsageError
    """
    if _SUFFIX.fullmatch(name) is None:
        raise UsageError(
            f"{where}: contrast {json.dumps(name)} is no BIDS suffix; write STIR or T1w, say."
        )
    near = get_close_matches(name.lower(), _NAMES, 1, cutoff=0.75)
    if near and _NAMES[near[0]] != name:
        raise UsageError(f"{where}: contrast {name} is unknown; did you mean {_NAMES[near[0]]}?")


def check_value(where: str, key: str, value: Any, default: Any) -> Any:
    """Give `value` as the type of its default.

    Raises
    ------
    UsageError
        Wrong type, or out of range.
    """
    # bool is an int to Python: "connectivity": true must not pass as 1.
    accepted = (int, float) if isinstance(default, float) else (type(default),)
    right_type = isinstance(value, accepted) and isinstance(value, bool) == isinstance(
        default, bool
    )
    if not right_type or (rule := _broken_rule(key, value)):
        expected = rule if right_type else _kind(default)
        raise UsageError(f"{where}: {key} must be {expected}, not {json.dumps(value)}.")
    return type(default)(value)


def _kind(default: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(
        type(default), "text"
    )


def _broken_rule(key: str, value: Any) -> str:
    """Say what range `value` should have kept, or nothing."""
    if key in _CHOICES:
        *others, last = map(str, _CHOICES[key])
        return "" if value in _CHOICES[key] else f"{', '.join(others)} or {last}"
    if isinstance(value, str | bool):
        return ""
    if key in _ABOVE_ZERO:
        return "" if 0 < value <= 1 else "above 0 and at most 1"
    if key in _FRACTIONS:
        return "" if 0 <= value <= 1 else "between 0 and 1"
    if key == "votes_of":
        return "" if value >= 1 else "1 or more"
    return "" if 0 <= value < float("inf") else "0 or more, and finite"
