"""The file of ``--bids-filter-file``: which scans may be the reference and the second contrast."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_app.dataset.entities import short_key
from bids_app.documents import parse_json
from bids_app.errors import UsageError

FilterValue = tuple[str, ...] | None
Filter = Mapping[str, FilterValue]

ANY = ("*",)
"""The value of an entity that must be there, whatever it says."""

QUERIES = ("t2w", "second")
"""The names that a filter file may have at its top: the reference and the second contrast."""

_NOT_ENTITIES = ("suffix", "extension", "datatype")
_log = logging.getLogger(__name__)


def read_filters(path: Path) -> dict[str, Filter]:
    """Read a filter file.

    Parameters
    ----------
    path : Path
        JSON such as ``{"t2w": {"acquisition": "sag", "run": null}, "second": {"rec": "*"}}``.
        Entities have their long or short name; ``suffix``, ``extension`` and ``datatype`` work
        too. A value is a text or number, a list of these (one of them must match), null (the
        entity must be absent) or ``"*"`` (it must be there, with any value).

    Returns
    -------
    dict
        By query (``t2w``, ``second``), each filter by short key. Unknown queries and entities
        are left out with a warning.

    Raises
    ------
    UsageError
        When the file cannot be read, is not UTF-8 or not JSON, or a value is of another kind.
    """
    document = _load(path)
    if not isinstance(document, dict):
        raise UsageError(
            f'{path} holds no JSON object. Write {{"t2w": {{"acquisition": "sag"}}}}, for instance.'
        )
    for name in sorted(set(document) - set(QUERIES)):
        _log.warning("%s: %r is ignored; filters are %s.", path, name, " and ".join(QUERIES))
    return {name: _filter(path, name, document[name]) for name in QUERIES if name in document}


def _load(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"The filter file {path} cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The filter file {path} is not UTF-8: byte {error.start + 1} cannot be decoded. "
            "Save it as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise UsageError(
            f"The filter file {path} is not JSON: line {error.lineno}, column {error.colno}: "
            f"{error.msg}."
        ) from error
    except ValueError as error:
        raise UsageError(f"The filter file {path} cannot be used: {error}.") from error


def _filter(path: Path, name: str, entries: object) -> Filter:
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: {name!r} must be an object of entities and values.")
    result: dict[str, FilterValue] = {}
    for entity, value in entries.items():
        key = entity if entity in _NOT_ENTITIES else short_key(entity)
        if key is None:
            _log.warning("%s: %r has no entity %r in BIDS; it is ignored.", path, name, entity)
        else:
            result[key] = _value(path, f"{name}.{entity}", value)
    return result


def _value(path: Path, place: str, value: object) -> FilterValue:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not values or not all(
        isinstance(item, str | int) and not isinstance(item, bool) for item in values
    ):
        raise UsageError(
            f"{path}: the value of {place} must be a text, a whole number, a list of these, "
            'null (absent) or "*" (any).'
        )
    return ANY if "*" in values else tuple(str(item) for item in values)
