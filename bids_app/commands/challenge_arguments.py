"""The command line of ``cordlesion challenge``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bids_app.arguments import DEVICES


def add_challenge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    challenge = commands.add_parser(
        "challenge",
        help="one case in the layout of the MS-Multi-Spine challenge",
        description="Find the lesions of one case in the layout of the MS-Multi-Spine challenge. "
        "Writes instance_segmentation.nii.gz, on the grid of the raw T2, and "
        "lesion_probabilities.csv (id,p).",
    )
    challenge.add_argument(
        "case_dir",
        type=Path,
        metavar="CASE_DIR",
        help="a folder or zip with rawdata/sub-001/01-001_T2.nii.gz and, where there is one, "
        "01-001_STIR, _PSIR or _MP2RAGE",
    )
    challenge.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="made if not there")
    challenge.add_argument("--model", metavar="NAME|DIR", help="default: the model in the box")
    challenge.add_argument(
        "--preset", metavar="NAME|FILE", help="how the network's output is refined"
    )
    challenge.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    challenge.add_argument("--n-cpus", type=int, metavar="N", help="default: all that may be used")
    challenge.add_argument(
        "-w", "--work-dir", type=Path, metavar="DIR", help="an existing folder to unpack a zip in"
    )
    challenge.add_argument(
        "-v", "--verbose", dest="verbosity", action="count", default=0, help="say more"
    )
    challenge.set_defaults(run=_run)


def _run(namespace: argparse.Namespace) -> int:
    from bids_app.commands.challenge import run_challenge

    return run_challenge(namespace)
