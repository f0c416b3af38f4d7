"""``cordlesion convert``: plan, make cases in several processes, split, put in place, tell."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bids_app import __version__
from bids_app.commands.convert_arguments import ConvertOptions
from bids_app.commands.convert_case import (
    PLACES,
    RECORDS,
    STAGING,
    Converted,
    Settings,
    convert_case,
    find_file,
    read_record,
)
from bids_app.commands.convert_plan import (
    CasePlan,
    LeftOut,
    contrasts_in,
    plan_cases,
    read_exclusions,
)
from bids_app.commands.convert_splits import read_places
from bids_app.conversion.documents import (
    CASE_COLUMNS,
    EXCLUDED_COLUMNS,
    channel_names,
    dataset_document,
)
from bids_app.conversion.splits import (
    TEST,
    Key,
    Member,
    Place,
    assign,
    contrasts_of,
    cross_validation,
)
from bids_app.conversion.text import readme
from bids_app.documents import parse_json
from bids_app.errors import NoUsableData, UnitError, UsageError
from bids_app.files import write_json, write_text, write_tsv

_NOTE = "conversion.json"
_FEWEST_TRAINING = 2
_SHOWN = 20

log = logging.getLogger("bids_app")


def convert(options: ConvertOptions) -> int:
    """Convert, write everything, print the summary.

    Returns
    -------
    int
        0; 1 when a case failed unexpectedly, or when one cannot be used and ``--on-problem fail``
        was given (then the dataset is not completed).

    Raises
    ------
    NoUsableData, UsageError
    """
    console = Console(highlight=False, soft_wrap=True)
    _check_earlier(options)
    excluded = read_exclusions(options.exclude)
    cases, left = plan_cases(options, excluded)
    _check_held_out(options, cases)
    known = _known_places(options, cases)
    # Too few subjects are better found before hours of work than after.
    _split([(case, {}) for case in cases], options, known)
    _note(options)
    results = list(
        track(
            _convert_all(cases, options),
            "Converting",
            len(cases),
            console=Console(stderr=True),
            transient=True,
        )
    )
    bad = [
        LeftOut(case.dataset, case.identifier, one.status, one.error or "")
        for case, one in zip(cases, results, strict=True)
        if not one.row
    ]
    if bad and options.on_problem == "fail":
        return _refuse(console, bad, len(cases))
    made = [(case, one.row) for case, one in zip(cases, results, strict=True) if one.row]
    if not made:
        raise NoUsableData(f"No case can be used. {bad[0].name}: {bad[0].reason}")
    rows, held = _split(made, options, known)
    left = [*left, *bad, *held]
    _finish(options, rows, left)
    _tell(console, options, results, rows, left)
    return int(any(one.kind == "failed" for one in bad))


def _refuse(console: Console, bad: Sequence[LeftOut], tried: int) -> int:
    """Say what is wrong with the cases, as ``--on-problem fail`` wants; give the exit code."""
    for one in bad:
        console.print(f"{one.dataset}, {one.name}: {one.reason}", markup=False)
    console.print(
        f"{len(bad)} of {tried} cases cannot be used: repair them, or give --on-problem exclude. "
        "The others are kept; the dataset is not completed.",
        markup=False,
    )
    return UnitError.exit_code


def _check_earlier(options: ConvertOptions) -> None:
    """Refuse to go on with a conversion of something else in the same place."""
    path = options.folder / _NOTE
    if not path.is_file():
        return
    try:
        note = parse_json(path.read_bytes())
        before = {name: Path(root) for name, root in note["datasets"].items()}
        settings = note["fusion"], note["reference"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged: remove {options.folder} and convert again."
        ) from error
    if settings != (options.fusion, options.reference):
        raise UsageError(
            f"{options.folder} was made with --fusion {settings[0]} --reference {settings[1]}: "
            "give another --id and --name for this one."
        )
    missing = [f"{name}={root}" for name, root in before.items() if name not in options.datasets]
    if missing:
        raise UsageError(
            f"{options.folder} holds cases of {' '.join(missing)} too: name all its datasets, or "
            "give another --id and --name."
        )
    for name, root in before.items():
        now = options.datasets[name]
        if root.resolve() != now.resolve() and root.is_dir():
            raise UsageError(
                f"{name} was {root} before and is {now} now: give one a name of its own, such as "
                f"other={now}."
            )


def _check_held_out(options: ConvertOptions, cases: Sequence[CasePlan]) -> None:
    there = contrasts_in(cases)
    unknown = [one for one in options.held_out_contrasts if one not in there]
    if unknown:
        raise UsageError(
            f"--hold-out-contrast {' '.join(unknown)}: no case shows it. There are "
            f"{', '.join(sorted(there))}."
        )


def _known_places(options: ConvertOptions, cases: Sequence[CasePlan]) -> dict[Key, Place]:
    """Read the split to keep: the one given, else that of the earlier conversion."""
    earlier = options.folder / "cases.tsv"
    path = options.splits or (earlier if earlier.is_file() else None)
    return read_places(path, cases) if path and not options.new_split else {}


def _note(options: ConvertOptions) -> None:
    """Say before anything else what the folder is, so that a stopped conversion is known."""
    document = {
        "software_version": __version__,
        "fusion": options.fusion,
        "reference": options.reference,
        "datasets": options.datasets,
        "seed": options.seed,
        "test_share": options.test_share,
        "folds": options.folds,
        "command": shlex.join(sys.argv),
    }
    write_json(options.folder / _NOTE, document)


def _convert_all(cases: Sequence[CasePlan], options: ConvertOptions) -> Iterator[Converted]:
    """Make every case in its order; a worker holds one case's images at a time."""
    workers = max(1, min(options.n_cpus, len(cases)))
    settings = Settings(options.folder, options.cord, max(1, options.n_cpus // workers))
    work = partial(convert_case, settings=settings)
    if workers == 1:
        yield from map(work, cases)
        return
    # Spawned workers start small; forked ones would share locks of whatever threads run here.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(work, cases)
        except BrokenProcessPool as error:
            raise UnitError(
                "A worker was killed, probably for want of memory: give fewer --n-cpus. The same "
                "command goes on from here."
            ) from error


def _split(
    made: Sequence[tuple[CasePlan, Mapping[str, Any]]],
    options: ConvertOptions,
    known: Mapping[Key, Place],
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Give each case its split; leave out held-out contrasts of subjects that train."""
    of_subject: dict[Key, list[CasePlan]] = {}
    for case, _ in made:
        of_subject.setdefault((case.dataset, case.subject), []).append(case)
    members = [
        Member(
            *key,
            contrasts_of(case.contrast for case in group),
            key[0] in options.held_out_datasets or all(_is_held_out(c, options) for c in group),
        )
        for key, group in of_subject.items()
    ]
    places = assign(members, known, options.folds, options.test_share, options.seed)
    rows, held = [], []
    for case, row in made:
        place = places[(case.dataset, case.subject)]
        contrast_held = _is_held_out(case, options)
        if contrast_held and place.split != TEST:
            reason = f"{case.contrast} is held out, and {case.subject} trains with other cases"
            held.append(LeftOut(case.dataset, case.identifier, "held-out", reason))
            continue
        why = "dataset" if case.dataset in options.held_out_datasets else "share"
        why = "contrast" if contrast_held and why != "dataset" else why
        test = place.split == TEST
        decided = {"split": place.split, "fold": place.fold, "held_out": why if test else None}
        who = {"dataset": case.dataset, "participant_id": case.subject}
        rows.append({**row, **who, **decided})
    training = {(row["dataset"], row["participant_id"]) for row in rows if row["split"] != TEST}
    if len(training) < _FEWEST_TRAINING:
        raise NoUsableData(
            f"{len(training)} subjects are left for training, and a fold needs one to train and "
            "another to validate: add data, or hold out less (--test-share, --hold-out-...)."
        )
    return _renumbered(rows), held


def _renumbered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give folds numbers without gaps, as nnU-Net counts those of its split file."""
    used = sorted({row["fold"] for row in rows if row["fold"] is not None})
    return [
        row if row["fold"] is None else {**row, "fold": used.index(row["fold"])} for row in rows
    ]


def _is_held_out(case: CasePlan, options: ConvertOptions) -> bool:
    return any(part in options.held_out_contrasts for part in case.contrast.split("+"))


def _finish(
    options: ConvertOptions, rows: Sequence[dict[str, Any]], left: Sequence[LeftOut]
) -> None:
    """Put the images where nnU-Net looks for them, and write what is said of them."""
    folder = options.folder
    wanted = {}
    for row in rows:
        end = "Ts" if row["split"] == TEST else "Tr"
        for name in read_record(folder, row["case"])["outputs"]:
            kind = "labels" if name == f"{row['case']}.nii.gz" else "images"
            wanted[name] = folder / (kind + end) / name
    for place in PLACES[1:3]:
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name, target in wanted.items():
        source = find_file(folder, name)
        if source is not None and source != target:
            target.parent.mkdir(exist_ok=True)
            source.replace(target)
    _remove_others(folder, wanted, {row["case"] for row in rows})
    contrasts = [row["contrast"] for row in rows]
    training = {row["case"]: row["fold"] for row in rows if row["split"] != TEST}
    folds = cross_validation(training)
    excluded = [vars(one) for one in left]
    for name, table, columns in (
        ("cases", rows, CASE_COLUMNS),
        ("excluded", excluded, EXCLUDED_COLUMNS),
    ):
        write_tsv(folder / f"{name}.tsv", list(columns), table)
        write_json(folder / f"{name}.json", columns)
    write_text(folder / "splits_final.json", json.dumps(folds, indent=2) + "\n")
    text = readme(folder.name, rows, excluded, len(folds), shlex.join(sys.argv), __version__)
    write_text(folder / "README.md", text)
    channels = channel_names(options.fusion, options.reference, contrasts)
    document = dataset_document(folder.name, options.fusion, channels, len(training), contrasts)
    write_json(folder / "dataset.json", document)


def _remove_others(folder: Path, wanted: Mapping[str, Path], cases: set[str]) -> None:
    """Remove images and records of cases that are no more, and copies in the wrong place.

    Only what an earlier conversion made is known by a record; other files are left alone.
    """
    for record in (folder / RECORDS).glob("*.json"):
        identifier = record.stem
        for name in read_record(folder, identifier).get("outputs", {}):
            for place in PLACES[1:]:
                path = folder / place / name
                if wanted.get(name) != path:
                    path.unlink(missing_ok=True)
        if identifier not in cases:
            record.unlink()
    shutil.rmtree(folder / STAGING, ignore_errors=True)


def _tell(
    console: Console,
    options: ConvertOptions,
    results: Sequence[Converted],
    rows: Sequence[Mapping[str, Any]],
    left: Sequence[LeftOut],
) -> None:
    """Print what was done."""
    for one in left[:_SHOWN]:
        console.print(f"Left out: {one.dataset}, {one.name}: {one.reason}", markup=False)
    if len(left) > _SHOWN:
        console.print(f"... and {len(left) - _SHOWN} more, see excluded.tsv", markup=False)
    count = {
        key: sum(one.status == key for one in results)
        for key in ("done", "up-to-date", "problem", "failed")
    }
    test = sum(row["split"] == TEST for row in rows)
    console.print(
        f"Converted {count['done']}, already up to date {count['up-to-date']}, unusable "
        f"{count['problem'] + count['failed']}. {len(rows) - test} training and {test} test cases "
        f"of {len({(row['dataset'], row['participant_id']) for row in rows})} subjects; "
        f"{len(left)} sessions or scans left out. See {options.folder}/README.md",
        markup=False,
    )
