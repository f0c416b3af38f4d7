"""The options of ``cordlesion evaluate``, validated once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bids_app.errors import UsageError
from bids_app.places import absolute
from bids_app.resources import machine_cpus

GROUPS = ("contrast", "dataset", "site")
"""What scans are grouped by unless told otherwise."""

_EXAMPLE = """\
example, from nothing (the second line takes minutes):
  cordlesion demo spines --subjects 2
  cordlesion run spines spines-found participant
  cordlesion evaluate spines spines-found spines-scores

plain folders of NAME.nii.gz, masks on both sides:
  cordlesion evaluate labelsTs predictions scores --connectivity 6
"""


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate and how.

    Attributes
    ----------
    reference_dir, prediction_dir, out_dir : Path
        Absolute.
    connectivity : int or None
        6, 18 or 26.
    threshold : float
        Probability from which the challenge's counts keep a predicted lesion.
    rater : str or None
        The ``desc`` of the references to use.
    by : tuple of str
        What scans are grouped by.
    participants : Path or None
        Table to group by.
    n_cpus : int
    """

    reference_dir: Path
    prediction_dir: Path
    out_dir: Path
    connectivity: int | None
    threshold: float
    rater: str | None
    by: tuple[str, ...]
    participants: Path | None
    n_cpus: int


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand; what runs it is imported when it runs."""
    parser = commands.add_parser(
        "evaluate",
        help="score predicted lesions against reference labels",
        description="Score predicted lesions against reference labels: per scan, per lesion, "
        "with the challenge's metrics, FROC, calibration, intervals and plots. Both folders are "
        "BIDS derivatives, paired by entities, or plain folders, paired by file name. See "
        "docs/evaluation.md.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "reference_dir",
        type=Path,
        metavar="REFERENCE_DIR",
        help="BIDS dataset or derivatives with lesion labels, or a folder of NAME.nii.gz",
    )
    parser.add_argument(
        "prediction_dir",
        type=Path,
        metavar="PREDICTION_DIR",
        help="BIDS derivatives, or a folder of NAME.nii.gz; NAME.csv beside it with the columns "
        "label,p or id,p gives each lesion's probability (without: 1)",
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="where the results go")
    _add_options(parser)
    parser.set_defaults(run=_run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connectivity",
        type=int,
        choices=(6, 18, 26),
        help="plain files with one label value are masks: cut them into lesions so (without it "
        "each label value is a lesion); BIDS masks are always cut, by 6 unless told here",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="the challenge's counts keep predicted lesions from this probability "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--rater", metavar="LABEL", help="use references named desc-LABEL, such as rater1"
    )
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="COLUMN",
        default=list(GROUPS),
        help="group scans by these: contrast, or columns of the participants' table "
        f"(default: {' '.join(GROUPS)})",
    )
    parser.add_argument(
        "--participants",
        type=Path,
        metavar="TSV",
        help="table with participant_id (or the scan's name) and columns to group by (default: "
        "the dataset's participants.tsv)",
    )
    parser.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all")
    parser.add_argument(
        "-v", action="count", default=0, dest="verbosity", help="say more; twice for everything"
    )


def evaluate_options(
    namespace: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> EvaluateOptions:
    """Validate the command line.

    Raises
    ------
    UsageError
    """
    reference, prediction, out = (
        absolute(path)
        for path in (namespace.reference_dir, namespace.prediction_dir, namespace.out_dir)
    )
    if not 0 <= namespace.threshold <= 1:
        raise UsageError(f"--threshold {namespace.threshold} is no probability: give 0 to 1.")
    if namespace.n_cpus is not None and namespace.n_cpus < 1:
        raise UsageError(f"--n-cpus {namespace.n_cpus} is too few: give 1 or more.")
    table = absolute(namespace.participants) if namespace.participants else None
    if table and not table.is_file():
        raise UsageError(f"--participants {table} is not a file.")
    for name, folder in (("REFERENCE_DIR", reference), ("PREDICTION_DIR", prediction)):
        if not folder.is_dir():
            raise UsageError(f"{name} {folder} is not a directory.")
        if out.resolve() == folder.resolve() or folder.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"OUT_DIR {out} is or contains {name}: choose a folder of its own.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"OUT_DIR {out} is not a directory.")
    return EvaluateOptions(
        reference,
        prediction,
        out,
        namespace.connectivity,
        namespace.threshold,
        namespace.rater,
        tuple(dict.fromkeys(namespace.by)),
        table,
        namespace.n_cpus or machine_cpus(environ),
    )


def _run(namespace: argparse.Namespace) -> int:
    options = evaluate_options(namespace)
    from bids_app.commands.evaluate import evaluate

    return evaluate(options)
