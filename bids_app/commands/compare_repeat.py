"""``cordlesion compare --repeat``: how well repeated scans of the same people agree."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from bids_app import __version__
from bids_app.commands.compare_arguments import CompareOptions, Source
from bids_app.commands.compare_repeat_text import (
    REPEATABILITY,
    SCANS,
    TESTS,
    repeat_notes,
    repeat_table,
)
from bids_app.commands.compare_repeat_values import Estimated, estimates, repeat_tests
from bids_app.commands.compare_scores import is_evaluation, read_scores
from bids_app.commands.evaluate_pair import Settings, read_lesions
from bids_app.dataset.labels import choose_labels, find_lesion_labels
from bids_app.errors import NoUsableData, UnreadableImage, UsageError
from bids_app.files import plain, write_json, write_text, write_tsv
from bids_app.records import FloatArray

MEASURES = ("lesion_volume_mm3", "lesion_count")
_SUBJECT = re.compile(r"sub-[0-9a-zA-Z+]+")


@dataclass(frozen=True)
class Reading:
    """What one scan has of lesions; `error` says why nothing is known."""

    repeat: str
    unit: str
    subject: str
    scan: str
    volume_mm3: float = math.nan
    count: float = math.nan
    error: str | None = None


@dataclass(frozen=True)
class Repeated:
    """One model's repeated scans.

    Attributes
    ----------
    model : str
    units : tuple of str
        What was scanned repeatedly: the scans' names without what counts the repeats.
    subjects : tuple of str
        Whose they are.
    scans : tuple of tuple of str
        Names by unit, in the order of the repeats.
    values : mapping of str to ndarray of shape (units, repeats)
        By measure.
    single : tuple of str
        Units with too few repeats, left out.
    extra : int
        Scans beyond the number of repeats that most units have, left out.
    errors : mapping of str to str
        Scans that cannot be used.
    """

    model: str
    units: tuple[str, ...]
    subjects: tuple[str, ...]
    scans: tuple[tuple[str, ...], ...]
    values: Mapping[str, FloatArray]
    single: tuple[str, ...]
    extra: int
    errors: Mapping[str, str]


def compare_repeats(options: CompareOptions) -> int:
    """Measure repeatability for each model, write everything to OUT_DIR, print the main numbers.

    Returns
    -------
    int
        0, or 1 when a label could not be used.

    Raises
    ------
    NoUsableData
        Nothing was scanned twice.
    """
    every = []
    for model in options.models:
        readings = [
            reading
            for number, source in enumerate(s for s in options.sources if s.model == model)
            for reading in _readings(source, number, options)
        ]
        every.append(group_readings(model, readings))
    if not any(one.units for one in every):
        raise NoUsableData(_nothing(every, options))
    try:
        options.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"OUT_DIR {options.out_dir} cannot be made: {error.strerror}.") from error
    rows = [row for one in every if one.units for row in estimates(one, MEASURES)]
    tests = repeat_tests([one for one in every if one.units], options)
    said = repeat_notes(every, tests, options)
    _write(options, every, rows, tests, said)
    console = Console(highlight=False)
    console.print(repeat_table(rows))
    for line in said:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Wrote {options.out_dir}/repeat.html", markup=False, soft_wrap=True)
    return int(any(one.errors for one in every))


def _nothing(every: Sequence[Repeated], options: CompareOptions) -> str:
    found = [name for one in every for name in one.single][:3]
    how = {
        "session": "two sessions of one subject (ses-1, ses-2)",
        "run": "two runs of one session (run-1, run-2)",
        "folder": "files of the same name in two folders",
    }[options.repeat or "folder"]
    seen = f" There is {', '.join(found)}, ..." if found else ""
    return f"Nothing was scanned twice: --repeat {options.repeat} looks for {how}.{seen}"


def _readings(source: Source, number: int, options: CompareOptions) -> Iterator[Reading]:
    """Measure each scan of a folder; of what `evaluate` wrote its predictions are taken."""
    if is_evaluation(source.path):
        for row in read_scores(source.model, "", source.path).scans.values():
            if row.status in {"scored", "failed"} and "predicted_volume_mm3" in row.measures:
                yield _reading(
                    row.name,
                    number,
                    options,
                    volume_mm3=row.measures["predicted_volume_mm3"],
                    count=row.measures["predicted_lesions"],
                )
        return
    settings = Settings(options.threshold, options.connectivity)
    labels, _ = choose_labels(find_lesion_labels(source.path, options.rater))
    for label in labels:
        name = f"{label.scan}_{label.contrast}" if label.contrast else label.scan
        try:
            volume = read_lesions(label, settings, predicted=False).volume
        except (UnreadableImage, OSError) as error:
            yield _reading(name, number, options, error=str(error))
            continue
        inside = volume.data != 0
        yield _reading(
            name,
            number,
            options,
            volume_mm3=float(inside.sum()) * volume.voxel_mm3,
            count=float(len(np.unique(volume.data[inside]))),
        )


def _reading(scan: str, number: int, options: CompareOptions, **found: Any) -> Reading:
    match = _SUBJECT.match(scan)
    subject = match[0] if match else scan
    if options.repeat == "folder":
        return Reading(f"folder {number + 1}", scan, subject, scan, **found)
    key = {"session": "ses", "run": "run"}[options.repeat or ""]
    repeat, unit = without_entity(scan, key)
    return Reading(repeat, unit, subject, scan, **found)


def without_entity(scan: str, key: str) -> tuple[str, str]:
    """Split a scan's name into the value of an entity and the rest.

    Examples
    --------
    >>> without_entity("sub-01_ses-2_run-1", "ses")
    ('2', 'sub-01_run-1')
    >>> without_entity("sub-01", "ses")
    ('', 'sub-01')
    """
    parts = scan.split("_")
    value = next((part.removeprefix(f"{key}-") for part in parts if part.startswith(f"{key}-")), "")
    return value, "_".join(part for part in parts if not part.startswith(f"{key}-"))


def group_readings(model: str, readings: Sequence[Reading]) -> Repeated:
    """Line up the repeats of each unit.

    The number of repeats is the one that most units have (of several such, the larger); units
    with more are cut to the first ones in the order of their names, units with fewer are left out.
    """
    by_unit: dict[str, list[Reading]] = {}
    for reading in sorted(readings, key=lambda r: (r.unit, _natural(r.repeat), r.scan)):
        of = by_unit.setdefault(reading.unit, [])
        if reading.error is None:
            of.append(reading)
    numbers = Counter(len(of) for of in by_unit.values() if len(of) > 1)
    repeats = max(numbers, key=lambda n: (numbers[n], n)) if numbers else 2
    kept = {unit: of[:repeats] for unit, of in by_unit.items() if len(of) >= repeats}
    return Repeated(
        model,
        tuple(kept),
        tuple(of[0].subject for of in kept.values()),
        tuple(tuple(r.scan for r in of) for of in kept.values()),
        {
            "lesion_volume_mm3": _table([[r.volume_mm3 for r in of] for of in kept.values()]),
            "lesion_count": _table([[r.count for r in of] for of in kept.values()]),
        },
        tuple(unit for unit in by_unit if unit not in kept),
        sum(len(by_unit[unit]) - repeats for unit in kept),
        {r.scan: r.error for r in readings if r.error is not None},
    )


def _table(rows: Sequence[Sequence[float]]) -> FloatArray:
    return np.array(rows, dtype=float).reshape(len(rows), -1)


def _natural(text: str) -> list[tuple[int, str]]:
    """Order numbers inside names by their value: 2 before 10."""
    return [(int(part or 0) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", text)]


def _write(
    options: CompareOptions,
    every: Sequence[Repeated],
    rows: Sequence[Estimated],
    tests: Sequence[Mapping[str, Any]],
    said: Sequence[str],
) -> None:
    from bids_app.reports.repeat import repeat_page

    document: dict[str, Any] = {
        "models": [one.model for one in every],
        "repeat": options.repeat,
        "notes": list(said),
        "repeatability": [dict(vars(row)) for row in rows],
        "tests": list(tests),
        "scans": [row for one in every for row in _scan_rows(one)],
        "settings": {
            "folders": {
                one.model: [str(s.path) for s in options.sources if s.model == one.model]
                for one in every
            },
            "connectivity": options.connectivity,
            "correction": options.correction,
            "software_version": __version__,
        },
    }
    tables = (("repeatability", REPEATABILITY), ("scans", SCANS), ("tests", TESTS))
    for name, columns in tables:
        write_tsv(options.out_dir / f"{name}.tsv", list(columns), document[name])
        write_json(options.out_dir / f"{name}.json", columns)
    write_json(options.out_dir / "summary.json", document)
    write_text(options.out_dir / "repeat.html", repeat_page(plain(document)))


def _scan_rows(one: Repeated) -> Iterator[dict[str, Any]]:
    for index, unit in enumerate(one.units):
        for number, scan in enumerate(one.scans[index]):
            yield {
                "model": one.model,
                "unit": unit,
                "participant_id": one.subjects[index],
                "repeat": number + 1,
                "scan": scan,
                **{name: float(values[index, number]) for name, values in one.values.items()},
            }
