"""The command line of the BIDS App: names, defaults and help; no checks beyond argparse's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from bids_app import __version__

DEFAULT_REFERENCE = "T2w"
REFERENCES = ("T2w", "UNIT1", "T1w", "T2starw")
DEFAULT_CONTRASTS = ("STIR", "PSIR", "UNIT1", "T1w", "T2starw")
LEVELS = ("participant", "group")
# Stands for the file in OUT_DIR, which is not known yet.
OWN_DECISIONS = ""
DEVICES = ("auto", "cpu", "cuda")
OUTPUTS = ("all", "minimal")


def add_app_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of the BIDS App to `parser`.

    Parameters
    ----------
    parser : ArgumentParser
        That of ``run.py`` or of a subcommand; what it parses goes to `options_from_arguments`.
    """
    _add_places(parser)
    _add_resources(parser.add_argument_group("resources"))
    conduct = add_shared_arguments(parser)
    conduct.add_argument(
        "--reports-only", action="store_true", help="write the reports again, from derivatives"
    )
    conduct.add_argument(
        "--stop-on-first-crash", action="store_true", help="start nothing after a failure"
    )
    # What submit hands to a container: the sessions of one batch.
    conduct.add_argument("--batch", type=Path, metavar="FILE", help=argparse.SUPPRESS)


def add_shared_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that mean the same to the BIDS App and to ``submit``.

    Returns
    -------
    argument group
        That of the conduct of the run, to which there may be more to add.
    """
    _add_selection(parser.add_argument_group("selection"))
    _add_processing(parser.add_argument_group("processing"))
    _add_cohort(parser.add_argument_group("cohort (group level)"))
    conduct = parser.add_argument_group("conduct of the run")
    _add_conduct(conduct)
    return conduct


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="the raw BIDS dataset")
    parser.add_argument(
        "out_dir",
        type=Path,
        metavar="OUT_DIR",
        help="where the derivatives go, such as BIDS_DIR/derivatives/cordlesion",
    )
    parser.add_argument(
        "level",
        choices=LEVELS,
        help="participant: segment each session; group: tables over what participant left",
    )


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        *("--participant-label", "--participant_label"),
        *("--participant-labels", "--participant_labels"),
        dest="participant_labels",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="only these participants, with or without sub-",
    )
    group.add_argument(
        *("--session-label", "--session_label", "--session-labels", "--session_labels"),
        dest="session_labels",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="only these sessions, with or without ses-",
    )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON {"t2w": {entity: value}, "second": {...}}; null: absent, "*": any',
    )
    group.add_argument(
        "--reference",
        choices=REFERENCES,
        default=DEFAULT_REFERENCE,
        help="the contrast that gives the grid and the masks (default: %(default)s)",
    )
    group.add_argument(
        "--contrasts",
        nargs="+",
        metavar="CONTRAST",
        help="order of preference for the second contrast "
        f"(default: {' '.join(DEFAULT_CONTRASTS)})",
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="DIR",
        help="keep the index of the dataset here; made when it is not there",
    )
    group.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="do without a dataset_description.json",
    )


def _add_processing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME|DIR", help="default: the model that comes with this program"
    )
    group.add_argument(
        "--derivatives",
        nargs="+",
        action="extend",
        metavar="NAME=DIR",
        help="other derivatives to use: existing cord masks, disc labels",
    )
    group.add_argument("--preset", metavar="NAME|FILE", help="how the network's output is refined")
    group.add_argument(
        "--output-spaces",
        nargs="+",
        action="extend",
        metavar="SPACE",
        help="T2w (the reference itself; default) and templates such as PAM50",
    )
    group.add_argument(
        "--outputs",
        choices=OUTPUTS,
        default=OUTPUTS[0],
        help="minimal: per session the lesion mask, its sidecar and the lesion table, no more "
        "(default: %(default)s)",
    )
    group.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="for temporary files; never inside BIDS_DIR",
    )


def _add_resources(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--n-cpus", type=int, metavar="N", help="default: all that may be used")
    group.add_argument("--mem", metavar="8G", help="with a unit; default: all that may be used")


def _add_cohort(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--group-column",
        metavar="NAME",
        help="column of participants.tsv whose groups are compared (default: group, if there)",
    )
    group.add_argument(
        "--covariates",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="columns of participants.tsv that group differences are adjusted for",
    )
    group.add_argument(
        "--exclude-qc",
        "--exclude_qc",
        nargs="?",
        const=OWN_DECISIONS,
        metavar="FILE",
        help="leave sessions that FILE marks fail or exclude out of the statistics "
        "(default: qc_decisions.tsv in OUT_DIR)",
    )


def _add_conduct(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run", action="store_true", help="print what would be done and touch nothing"
    )
    group.add_argument("--force", action="store_true", help="do again what is already up to date")
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="count",
        default=0,
        help="-v: the stages of each session; -vv: everything",
    )
    group.add_argument("--version", action="version", version=f"cordlesion {__version__}")
