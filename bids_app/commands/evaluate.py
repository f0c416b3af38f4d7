"""``cordlesion evaluate``: pair, score scan by scan in several processes, sum up, write."""

from __future__ import annotations

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
from bids_app.commands.evaluate_arguments import EvaluateOptions
from bids_app.commands.evaluate_pair import Scanned, Settings, score_pair
from bids_app.commands.evaluate_text import markdown, notes, terminal_table
from bids_app.dataset.labels import choose_labels, find_lesion_labels
from bids_app.dataset.pairs import Pair, Pairing, pair_labels
from bids_app.dataset.participants import read_participants, read_table
from bids_app.errors import NoUsableData, UnitError, UsageError
from bids_app.evaluation.columns import lesion_dictionary, scan_dictionary
from bids_app.evaluation.froc import froc_curve
from bids_app.evaluation.summary import Case, found_by_size, predicted, size_class, summarise
from bids_app.files import write_json, write_text, write_tsv

_AT_ONCE = 4
# Up to so many pairs are scored before a second process would have started.
_FEW = 8
_SHOWN = 3

Table = Mapping[str, Mapping[str, str]]


def evaluate(options: EvaluateOptions) -> int:
    """Evaluate, write everything to OUT_DIR, print the main numbers.

    Parameters
    ----------
    options : EvaluateOptions

    Returns
    -------
    int
        0, or 1 when a label could not be used.

    Raises
    ------
    NoUsableData
        No reference has a prediction, or none of them could be scored.
    """
    summary = score_folders(options)
    console = Console(highlight=False)
    console.print(terminal_table(summary))
    for note in notes(summary):
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"Wrote {options.out_dir}/summary.md", markup=False, soft_wrap=True)
    return int(any(summary["status"][name] for name in ("unusable", "failed")))


def score_folders(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate, write everything to OUT_DIR, and give the summary; see `evaluate`."""
    references, left_out = choose_labels(find_lesion_labels(options.reference_dir, options.rater))
    predictions, further = choose_labels(find_lesion_labels(options.prediction_dir))
    pairing = pair_labels(references, predictions)
    pairing = Pairing(
        pairing.pairs, pairing.without_reference, (*pairing.left_out, *left_out, *further)
    )
    _refuse_no_pairs(pairing, options)
    try:
        options.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"OUT_DIR {options.out_dir} cannot be made: {error.strerror}.") from error
    table = _table(options)
    scanned = list(
        track(
            _score_all(pairing.pairs, options),
            "Scoring",
            len(pairing.pairs),
            console=Console(stderr=True),
            transient=True,
        )
    )
    if not any(one.status == "scored" for one in scanned):
        raise NoUsableData(next(one.error for one in scanned if one.error) or "no pair is usable")
    cases = [_case(one, table) for one in scanned if one.score]
    summary = {
        **summarise(cases, options.by, options.threshold),
        **_account(scanned, pairing, options),
    }
    _write_tables(options, scanned, cases)
    write_json(options.out_dir / "summary.json", summary)
    write_text(options.out_dir / "summary.md", markdown(summary))
    _write_plots(options, cases, summary)
    return summary


def _refuse_no_pairs(pairing: Pairing, options: EvaluateOptions) -> None:
    if any(pair.prediction for pair in pairing.pairs):
        return
    known = ", ".join(pair.name for pair in pairing.pairs[:_SHOWN])
    found = ", ".join(label.scan for label in pairing.without_reference[:_SHOWN])
    raise NoUsableData(
        f"No prediction in {options.prediction_dir} belongs to a reference in "
        f"{options.reference_dir}. References are for {known}, ...; predictions for {found}, ... "
        "Entities, or file names in plain folders, must be the same."
    )


def _score_all(pairs: Sequence[Pair], options: EvaluateOptions) -> Iterator[Scanned]:
    """Score every pair in its order; a worker holds one pair's images at a time."""
    work = partial(score_pair, settings=Settings(options.threshold, options.connectivity))
    if options.n_cpus == 1 or len(pairs) <= _FEW:
        yield from map(work, pairs)
        return
    workers = min(options.n_cpus, len(pairs))
    # Spawned workers start small; forked ones would share locks of whatever threads run here.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(work, pairs, chunksize=_AT_ONCE)
        except BrokenProcessPool as error:
            raise UnitError(
                "A worker was killed, probably for want of memory: give fewer --n-cpus."
            ) from error


def _table(options: EvaluateOptions) -> Table:
    if options.participants:
        return read_table(options.participants)
    # A dataset's labels lie in its derivatives folder, two levels below its table.
    places = [options.reference_dir, *options.reference_dir.parents[:2], options.prediction_dir]
    return next((found for place in places if (found := read_participants(place))), {})


def _case(one: Scanned, table: Table) -> Case:
    if one.score is None:
        raise ValueError(f"{one.pair.name} has no score")
    label = one.pair.reference
    row = table.get(label.scan) or table.get(label.subject.removeprefix("sub-")) or {}
    groups = dict(row) | ({"contrast": one.contrast} if one.contrast else {})
    return Case(one.pair.name, row.get("subject", label.subject), one.score, groups)


def _account(
    scanned: Sequence[Scanned], pairing: Pairing, options: EvaluateOptions
) -> dict[str, Any]:
    """Say what was read, what was not, and how."""
    return {
        "status": {
            name: [one.pair.name for one in scanned if one.status == name]
            for name in ("missing", "unusable", "failed")
        },
        "errors": {one.pair.name: one.error for one in scanned if one.error},
        "predictions_without_reference": [
            label.path.relative_to(options.prediction_dir).as_posix()
            for label in pairing.without_reference
        ],
        "left_out": [
            {"path": str(label.path), "reason": reason} for label, reason in pairing.left_out
        ],
        "probabilities": {
            source: sum(one.probability == source and one.status == "scored" for one in scanned)
            for source in sorted({one.probability for one in scanned if one.status == "scored"})
        },
        "one_label_in_pieces": sum(one.one_in_pieces for one in scanned),
        "settings": {
            "reference_dir": str(options.reference_dir),
            "prediction_dir": str(options.prediction_dir),
            "connectivity": options.connectivity,
            "threshold": options.threshold,
            "rater": options.rater,
            "software_version": __version__,
        },
    }


def _write_tables(
    options: EvaluateOptions, scanned: Sequence[Scanned], cases: Sequence[Case]
) -> None:
    """Write one row a scan and one row a lesion, each table with its dictionary."""
    of_scan, of_lesion = scan_dictionary(options.threshold), lesion_dictionary(options.threshold)
    case_of = {case.name: case for case in cases}
    scans, lesions = [], []
    for one in scanned:
        case = case_of.get(one.pair.name)
        who = _who(one, case)
        prediction = one.pair.prediction
        scans.append(
            {
                **who,
                "status": one.status,
                "error": one.error,
                "reference": _relative(one.pair.reference.path, options.reference_dir),
                "prediction": _relative(prediction.path, options.prediction_dir)
                if prediction
                else None,
                "probability_source": one.probability if one.status == "scored" else None,
                **(case.score.measures if case else {}),
            }
        )
        for lesion in case.score.lesions if case else ():
            more = {
                "outcome": lesion.outcome(options.threshold),
                "size": size_class(lesion.volume_mm3),
            }
            lesions.append(who | vars(lesion) | more)
    for name, rows, columns in (("scans", scans, of_scan), ("lesions", lesions, of_lesion)):
        write_tsv(options.out_dir / f"{name}.tsv", list(columns), rows)
        write_json(options.out_dir / f"{name}.json", columns)


def _who(one: Scanned, case: Case | None) -> dict[str, Any]:
    groups = case.groups if case else {}
    return {
        "scan": one.pair.name,
        "participant_id": case.subject if case else one.pair.reference.subject,
        "session_id": one.pair.reference.session,
        "contrast": one.contrast,
        "dataset": groups.get("dataset"),
        "site": groups.get("site"),
    }


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _write_plots(
    options: EvaluateOptions, cases: Sequence[Case], summary: Mapping[str, Any]
) -> None:
    # Matplotlib takes a while to import, and a command that is refused needs none of it.
    from bids_app.evaluation.calibration import reliability
    from bids_app.evaluation.plots import plot_froc, plot_reliability, plot_sizes, plot_volumes

    chances, right, _ = predicted(cases)
    known, found = (
        [case.score.measures[f"{side}_volume_mm3"] for case in cases]
        for side in ("reference", "predicted")
    )
    figures = {
        "froc": plot_froc(
            froc_curve([case.score.scored for case in cases]), summary["challenge"]["froc"]
        ),
        "reliability": plot_reliability(reliability(chances, right), summary["calibration"]["ece"]),
        "volume_agreement": plot_volumes(known, found),
        "sensitivity_by_size": plot_sizes(found_by_size(cases, options.threshold)),
    }
    for name, figure in figures.items():
        figure.savefig(options.out_dir / f"{name}.png", dpi=150)
