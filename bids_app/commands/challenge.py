"""What ``cordlesion challenge`` does: one case in, its lesions and their probabilities out."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bids_app.arguments import DEFAULT_CONTRASTS
from bids_app.dataset.challenge import WANTED, Case, find_case
from bids_app.errors import MissingResource, NoUsableData, UsageError
from bids_app.execution.local import StoppedBySignal, stop_on_signals
from bids_app.files import write_text
from bids_app.imaging.grids import from_canonical
from bids_app.imaging.volumes import write_volume
from bids_app.options import Options, checked_cpus
from bids_app.places import absolute
from bids_app.planning import choose_rules
from bids_app.records import Job, Lesion, Session
from bids_app.results import SessionResult
from bids_app.segmentation.archive import unpack
from bids_app.worker import Worker

IMAGE = "instance_segmentation.nii.gz"
TABLE = "lesion_probabilities.csv"


def run_challenge(namespace: argparse.Namespace) -> int:
    """Find the lesions of one case.

    Returns
    -------
    int
        0; everything that goes wrong is raised.

    Raises
    ------
    CordLesionError
        In one sentence, for the first thing that cannot be used.
    """
    start = time.monotonic()
    source, out_dir = absolute(namespace.case_dir), absolute(namespace.out_dir)
    options = Options(
        bids_dir=source,
        out_dir=out_dir,
        model=namespace.model,
        preset=namespace.preset,
        device=namespace.device,
        n_cpus=checked_cpus(namespace.n_cpus, os.environ),
    )
    _check_places(source, out_dir)
    try:
        with stop_on_signals(), _opened(source, namespace.work_dir) as folder:
            case = find_case(folder, DEFAULT_CONTRASTS)
            _make(out_dir)
            result = _find(case, options)
            _write(out_dir, result)
    except StoppedBySignal as stop:
        print(f"Stopped by {stop}; nothing was written.", file=sys.stderr)
        raise SystemExit(stop.exit_code) from None
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    count = len(result.lesions)
    print(
        f"{case.name}: {count} lesion{'' if count == 1 else 's'} in {_contrasts(case)}, "
        f"{time.monotonic() - start:.1f} s. Results: {out_dir}"
    )
    return 0


def _check_places(source: Path, out_dir: Path) -> None:
    if not source.exists():
        raise UsageError(f"CASE_DIR {source} does not exist: give the folder or zip of one case.")
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"OUT_DIR {out_dir} is not a directory.")
    if source.is_dir() and out_dir.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"OUT_DIR {out_dir} is or lies in CASE_DIR: choose a folder outside.")


@contextmanager
def _opened(source: Path, work_dir: Path | None) -> Iterator[Path]:
    """Give the case as a folder; of a zip, the images are unpacked for as long as needed."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="cordlesion-", dir=work_dir) as folder:
        try:
            unpack(source, Path(folder), wanted=WANTED)
        except MissingResource as error:
            raise NoUsableData(str(error)) from error
        yield Path(folder)


def _make(out_dir: Path) -> None:
    """Make OUT_DIR, and find out before the work whether it can be written to."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        writable = os.access(out_dir, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UsageError(f"OUT_DIR {out_dir} cannot be written to: choose another folder.")


def _find(case: Case, options: Options) -> SessionResult:
    """Do with the case what a participant run does with a session."""
    manifest, preset = choose_rules(options.model, options.preset)
    session = Session(case.reference.entities["sub"], None)
    job = Job(session, case.reference, case.second, outputs={})
    return Worker(options, preset, manifest).find(job)


def _write(out_dir: Path, result: SessionResult) -> None:
    """Write both files; the table comes last, and an older one is gone while the image is new."""
    instances = from_canonical(result.findings.instances.astype(np.int16), result.original)
    (out_dir / TABLE).unlink(missing_ok=True)
    write_volume(out_dir / IMAGE, instances.data, instances.affine)
    write_text(out_dir / TABLE, probability_table(result.lesions))


def probability_table(lesions: tuple[Lesion, ...]) -> str:
    r"""Give the challenge's table: a lesion's label and the probability that it is one.

    Parameters
    ----------
    lesions : tuple of Lesion
        `Lesion.probability` counts, where the model is calibrated; else the mean of the voxels.

    Returns
    -------
    str
        CSV with the header ``id,p``; only that when there are no lesions.

    Examples
    --------
    >>> probability_table(())
    'id,p\n'
    """
    rows = [f"{lesion.index},{_probability(lesion):.6f}\n" for lesion in lesions]
    return "".join(["id,p\n", *rows])


def _probability(lesion: Lesion) -> float:
    return lesion.mean_probability if lesion.probability is None else lesion.probability


def _contrasts(case: Case) -> str:
    return "T2w" + (f" with {case.second.contrast}" if case.second else " alone")
