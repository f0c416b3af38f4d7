"""Every choice of the user, validated once; from here on, options are values.

`add_app_arguments` (from `bids_app.arguments`) declares the command line,
`options_from_arguments` turns what argparse read into `Options` or raises `UsageError`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bids_app.arguments import (
    DEFAULT_CONTRASTS,
    DEFAULT_REFERENCE,
    OUTPUTS,
    OWN_DECISIONS,
    REFERENCES,
    add_app_arguments,
)
from bids_app.dataset.filters import Filter, read_filters
from bids_app.documents import parse_json
from bids_app.errors import UsageError
from bids_app.places import absolute, check_dataset, check_out_dir, check_outside
from bids_app.resources import machine_cpus, machine_memory_bytes, parse_memory

__all__ = ["DECISIONS_NAME", "Options", "add_app_arguments", "options_from_arguments"]

DECISIONS_NAME = "qc_decisions.tsv"
"""A person's file of decisions at the top of the derivatives; ``--exclude-qc`` names any other."""

_SUFFIX = re.compile(r"[0-9A-Za-z]+")
_DATASET_NAME = re.compile(r"[0-9A-Za-z._-]+")
_KNOWN_CONTRASTS = {name.lower(): name for name in (*REFERENCES, *DEFAULT_CONTRASTS, "PDw")}
# Scan.contrast knows these by their present names only.
_OLD_NAMES = {"MP2RAGE": "UNIT1", "T2star": "T2starw", "PD": "PDw"}


@dataclass(frozen=True)
class BatchOfSessions:
    """Just these sessions, whatever the labels say; what becomes of them is noted in a file."""

    sessions: tuple[str, ...]
    notes: Path


@dataclass(frozen=True)
class Options:
    """What the user asked for; paths are absolute, labels come without ``sub-`` and ``ses-``.

    Attributes
    ----------
    bids_dir, out_dir : Path
    level : str
        ``participant`` or ``group``.
    participant_labels, session_labels : tuple of str
        Empty for all.
    bids_filters : mapping
        By query (``t2w``, ``second``), see `bids_app.dataset.filters.read_filters`.
    reference : str
        Contrast of the scan that gives the grid.
    contrasts : tuple of str
        Contrasts for the second scan, the preferred one first.
    model, preset : str or None
        A name or a path; None for what is in the box.
    derivatives : mapping of str to Path
        Other derivatives by name.
    output_spaces : tuple of str
    outputs : str
        ``all`` or ``minimal``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    n_cpus, memory_bytes : int
        What the run may use.
    work_dir, bids_database_dir : Path or None
    skip_bids_validation, dry_run, force, reports_only, stop_on_first_crash : bool
    group_column : str or None
        Column of participants.tsv that splits the cohort; None for ``group``, if there.
    covariates : tuple of str
        Columns of participants.tsv that group differences are adjusted for.
    decisions_file : Path or None
        A person's decisions about sessions, by which sessions leave the statistics; None to
        leave out none.
    verbosity : int
        How often ``-v`` was given.
    batch : BatchOfSessions or None
        Set when this is a part of what was submitted to a cluster.
    """

    bids_dir: Path
    out_dir: Path
    level: str = "participant"
    participant_labels: tuple[str, ...] = ()
    session_labels: tuple[str, ...] = ()
    bids_filters: Mapping[str, Filter] = field(default_factory=dict)
    reference: str = DEFAULT_REFERENCE
    contrasts: tuple[str, ...] = DEFAULT_CONTRASTS
    model: str | None = None
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    preset: str | None = None
    output_spaces: tuple[str, ...] = (DEFAULT_REFERENCE,)
    outputs: str = OUTPUTS[0]
    device: str = "auto"
    n_cpus: int = 1
    memory_bytes: int = 4 * 2**30
    work_dir: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    dry_run: bool = False
    force: bool = False
    reports_only: bool = False
    stop_on_first_crash: bool = False
    group_column: str | None = None
    covariates: tuple[str, ...] = ()
    decisions_file: Path | None = None
    verbosity: int = 0
    batch: BatchOfSessions | None = None


def options_from_arguments(
    namespace: argparse.Namespace, environ: Mapping[str, str] | None = None
) -> Options:
    """Check what argparse read and make `Options` of it; nothing is written.

    Parameters
    ----------
    namespace : Namespace
        From a parser that went through `add_app_arguments`.
    environ : mapping, optional
        The environment, for Slurm's limits; that of the process by default.

    Raises
    ------
    UsageError
        In one sentence, for the first thing that cannot be used.
    """
    environ = os.environ if environ is None else environ
    bids_dir = absolute(namespace.bids_dir)
    check_dataset(bids_dir, namespace.skip_bids_validation)
    reference: str = namespace.reference
    filter_file: Path | None = namespace.bids_filter_file
    return Options(
        bids_dir=bids_dir,
        out_dir=check_out_dir(absolute(namespace.out_dir), bids_dir),
        level=namespace.level,
        participant_labels=_labels(namespace.participant_labels, "sub-"),
        session_labels=_labels(namespace.session_labels, "ses-"),
        bids_filters=read_filters(absolute(filter_file)) if filter_file else {},
        reference=reference,
        contrasts=_contrasts(namespace.contrasts, reference),
        model=namespace.model,
        derivatives=_derivatives(namespace.derivatives),
        preset=namespace.preset,
        output_spaces=_unique(namespace.output_spaces or [reference]),
        outputs=namespace.outputs,
        device=namespace.device,
        n_cpus=checked_cpus(namespace.n_cpus, environ),
        memory_bytes=_memory(namespace.mem, environ),
        work_dir=check_outside(namespace.work_dir, "--work-dir", bids_dir),
        bids_database_dir=check_outside(
            namespace.bids_database_dir, "--bids-database-dir", bids_dir
        ),
        skip_bids_validation=namespace.skip_bids_validation,
        dry_run=namespace.dry_run,
        force=namespace.force,
        reports_only=namespace.reports_only,
        stop_on_first_crash=namespace.stop_on_first_crash,
        group_column=namespace.group_column,
        covariates=_covariates(namespace.covariates, namespace.group_column),
        decisions_file=_decisions_file(namespace.exclude_qc, absolute(namespace.out_dir)),
        verbosity=namespace.verbosity,
        batch=_batch(namespace.batch),
    )


def _batch(file: Path | None) -> BatchOfSessions | None:
    if file is None:
        return None
    try:
        content = parse_json(absolute(file).read_bytes())
        return BatchOfSessions(tuple(content["sessions"]), Path(content["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--batch {file} is no batch that 'cordlesion submit' wrote.") from error


def _labels(labels: Iterable[str] | None, prefix: str) -> tuple[str, ...]:
    # A trailing slash comes from the shell's completion of folder names.
    bare = [label.strip().rstrip("/").removeprefix(prefix) for label in labels or ()]
    if "" in bare:
        raise UsageError(f"An empty label was given; write {prefix}01 or 01.")
    return _unique(bare)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _contrasts(names: Iterable[str] | None, reference: str) -> tuple[str, ...]:
    """Check the contrasts asked for; of the default ones, leave out the reference's own."""
    if names is None:
        return tuple(name for name in DEFAULT_CONTRASTS if name != reference)
    present = [_OLD_NAMES.get(name, name) for name in names]
    for name in present:
        meant = _KNOWN_CONTRASTS.get(name.lower(), name)
        if _SUFFIX.fullmatch(name) is None:
            raise UsageError(f"--contrasts {name!r} is no BIDS suffix; write STIR T1w, say.")
        if meant != name:
            raise UsageError(f"--contrasts {name} is unknown; did you mean {meant}?")
    return _unique(present)


def _derivatives(items: Iterable[str] | None) -> dict[str, Path]:
    result: dict[str, Path] = {}
    for item in items or ():
        name, equals, folder = item.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--derivatives {item!r} is not NAME=DIR, such as sct=/data/sct.")
        if name in result:
            raise UsageError(f"--derivatives gives {name!r} twice.")
        if name == "raw" or _DATASET_NAME.fullmatch(name) is None:
            raise UsageError(
                f"--derivatives {item!r}: {name!r} cannot be a name; take letters, digits, '.', "
                "'_' and '-', and not raw, which is BIDS_DIR."
            )
        result[name] = absolute(Path(folder))
        if not result[name].is_dir():
            raise UsageError(f"--derivatives {item}: {result[name]} is not a directory.")
    return result


def _covariates(names: Iterable[str] | None, group_column: str | None) -> tuple[str, ...]:
    if (group_column or "group") in (names or ()):
        raise UsageError(
            f"--covariates {group_column or 'group'}: groups cannot be adjusted for themselves; "
            "leave it out or compare others with --group-column."
        )
    return _unique(names or ())


def _decisions_file(given: str | None, out_dir: Path) -> Path | None:
    if given is None:
        return None
    return out_dir / DECISIONS_NAME if given == OWN_DECISIONS else absolute(Path(given))


def checked_cpus(number: int | None, environ: Mapping[str, str]) -> int:
    """Give the number of cores to use: all that may be used unless the user says otherwise.

    Raises
    ------
    UsageError
        For less than one.
    """
    if number is None:
        return machine_cpus(environ)
    if number < 1:
        raise UsageError(f"--n-cpus {number} is too few: give 1 or more.")
    return number


def _memory(text: str | None, environ: Mapping[str, str]) -> int:
    if text is None:
        return machine_memory_bytes(environ)
    amount = parse_memory(text)
    if amount is None:
        raise UsageError(f"--mem {text!r} needs a number and a unit, such as 8G or 500M.")
    return amount
