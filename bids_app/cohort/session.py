"""Read what the derivatives of one session say: its sidecar and its lesion table."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bids_app.documents import parse_json
from bids_app.records import QUALITY_MEASURES, Quality

Cell = str | int | float | None
CohortStatus = Literal["done", "failed", "missing"]

SIDECAR_END = "_label-lesion_mask.json"
_TABLE_END = "_seg-lesions_dseg.tsv"
_TABLE_DICTIONARY_END = "_seg-lesions_dseg.json"
_REQUIRED = ("lesion_count", "lesion_volume_mm3", "cord_volume_mm3")
_OPTIONAL = (
    "cord_length_mm",
    "cord_mean_area_mm2",
    "cord_ap_diameter_mm",
    "cord_lr_diameter_mm",
    "lesion_count_cervical",
    "lesion_count_thoracic",
    "lesion_count_lumbar",
    "expected_lesion_count",
    "expected_lesion_count_low",
    "expected_lesion_count_high",
    "expected_lesion_volume_mm3",
    "expected_lesion_volume_mm3_low",
    "expected_lesion_volume_mm3_high",
)


@dataclass(frozen=True)
class SessionRecord:
    """What is known about one session.

    Attributes
    ----------
    identifier : str
        ``sub-01_ses-M0``, or ``sub-01`` without sessions.
    status : done, failed or missing
    error : str or None
        Why it failed.
    numbers : mapping
        ``lesion_count``, ``lesion_volume_mm3``, ``cord_volume_mm3``, ``cord_length_mm``,
        ``cord_mean_area_mm2``, ``cord_ap_diameter_mm``, ``cord_lr_diameter_mm``,
        ``lesion_count_`` ``cervical``, ``thoracic`` and ``lumbar``, and the expected count and
        volume with their ``_low`` and ``_high``; empty unless done, because "not processed" is
        not "none". What an older version did not write is None, and so is the count of a region
        whose levels are not known and what is expected where the model has no calibration.
    facts : mapping
        ``reference_contrast``, ``second_contrast``, ``registration_accepted``, ``model``,
        ``software_version``.
    quality : mapping
        Value by the name of a quality measure; None for what an older version did not write.
    lesion_columns, lesions
        Header and rows of its lesion table.
    inputs_hash : str or None
        What its results were made from.
    changes : mapping
        Counts of new, resolved, ... lesions; empty where sessions were not compared.
    """

    identifier: str
    status: CohortStatus
    error: str | None = None
    numbers: Mapping[str, int | float | None] = field(default_factory=dict)
    facts: Mapping[str, Cell] = field(default_factory=dict)
    quality: Quality = field(default_factory=dict)
    lesion_columns: tuple[str, ...] = ()
    lesions: tuple[Mapping[str, Cell], ...] = ()
    inputs_hash: str | None = None
    changes: Mapping[str, int] = field(default_factory=dict)


class UnusableFileError(Exception):
    """A file says less than a finished session does; its sentence becomes the error."""


def read_session(identifier: str, sidecar: Path) -> SessionRecord:
    """Read one session from its lesion mask's sidecar and the lesion table beside it.

    Parameters
    ----------
    identifier : str
        ``sub-01_ses-M0``, or ``sub-01`` without sessions.
    sidecar : Path
        The session's ``*_label-lesion_mask.json``.

    Returns
    -------
    SessionRecord
        Done, or failed with the reason when a file is broken, says less than it should, or
        the two disagree; never an exception.
    """
    try:
        content = read_json(sidecar)
        numbers = _numbers(content, sidecar.name)
        columns, rows = read_table(_beside(sidecar, _TABLE_END))
        if len(rows) != numbers["lesion_count"]:
            raise UnusableFileError(
                f"{sidecar.name} counts {numbers['lesion_count']} lesions, "
                f"but its table has {len(rows)} rows"
            )
    except UnusableFileError as error:
        return SessionRecord(identifier, "failed", f"{error}; run this session again with --force")
    return SessionRecord(
        identifier,
        "done",
        None,
        numbers,
        _facts(content),
        _quality(content),
        columns,
        rows,
        inputs_hash=_text(content.get("InputsHash")),
    )


def _beside(sidecar: Path, end: str) -> Path:
    return sidecar.with_name(sidecar.name.removesuffix(SIDECAR_END) + end)


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object; raise UnusableFileError where there is none."""
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise UnusableFileError(f"{path.name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UnusableFileError(f"{path.name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise UnusableFileError(f"{path.name} is not a JSON object")
    return content


def _numbers(content: Mapping[str, Any], name: str) -> dict[str, int | float | None]:
    summary = content.get("Summary")
    if not isinstance(summary, dict):
        raise UnusableFileError(f"{name} has no Summary")
    numbers: dict[str, Any] = {key: summary.get(key) for key in (*_REQUIRED, *_OPTIONAL)}
    for key, value in numbers.items():
        if value is None and key in _OPTIONAL:
            continue
        if not _is_number(value) or value < 0:
            raise UnusableFileError(f"{name} gives no usable {key}")
    if not isinstance(numbers["lesion_count"], int):
        raise UnusableFileError(f"{name} gives no usable lesion_count")
    return numbers


def _facts(content: Mapping[str, Any]) -> dict[str, Cell]:
    """Pick the facts that are told; none of them is needed for a session to count."""
    accepted = _within(content, "Registration").get("Accepted")
    generators = content.get("GeneratedBy")
    generator = generators[0] if isinstance(generators, list) and generators else {}
    version = content.get("SoftwareVersion") or (
        generator.get("Version") if isinstance(generator, dict) else None
    )
    return {
        "reference_contrast": _text(_within(content, "Contrasts").get("reference")),
        "second_contrast": _text(_within(content, "Contrasts").get("second")),
        "registration_accepted": accepted if isinstance(accepted, bool) else None,
        "model": _text(_within(content, "Model").get("Name")),
        "software_version": _text(version),
    }


def _quality(content: Mapping[str, Any]) -> Quality:
    """Take the quality measures that are numbers; a session counts without them."""
    given = _within(content, "Quality")
    values = {measure.name: given.get(measure.name) for measure in QUALITY_MEASURES}
    return {name: value if _is_number(value) else None for name, value in values.items()}


def _is_number(value: object) -> bool:
    # Compared, not converted: JSON knows whole numbers that are too large for a float.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _within(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def read_table(path: Path) -> tuple[tuple[str, ...], tuple[dict[str, Cell], ...]]:
    """Read a table's header and rows; raise UnusableFileError where there is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise UnusableFileError(f"{path.name} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableFileError(f"{path.name} is not a table ({error})") from error
    if not rows:
        raise UnusableFileError(f"{path.name} has no header")
    header, *body = rows
    if any(len(row) != len(header) for row in body):
        raise UnusableFileError(f"{path.name} has rows that do not fit its header")
    return tuple(header), tuple(dict(zip(header, map(_cell, row), strict=True)) for row in body)


def _cell(text: str) -> Cell:
    if text in ("n/a", ""):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return None
    try:
        return int(text)
    except ValueError:
        return number


def read_table_dictionary(sidecar: Path) -> Mapping[str, Any]:
    """Read the description of a session's lesion table; empty where it cannot be read."""
    try:
        return read_json(_beside(sidecar, _TABLE_DICTIONARY_END))
    except UnusableFileError:
        return {}


def read_shared_dictionary(out_dir: Path) -> Mapping[str, Any]:
    """Read the description of lesion tables that stands once for all, where there is one."""
    try:
        return read_json(out_dir / _TABLE_DICTIONARY_END.removeprefix("_"))
    except UnusableFileError:
        return {}
