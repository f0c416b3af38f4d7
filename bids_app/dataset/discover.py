"""Find the scans of each session: the only place that uses pybids."""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bids_app.dataset.database import (
    DATABASE_NAME,
    UnusableIndex,
    folder_times,
    publish,
    saved_images,
)
from bids_app.dataset.entities import parse_name
from bids_app.dataset.folders import anat_folder, list_sessions
from bids_app.options import Options
from bids_app.records import Scan, Session

_EXTENSIONS = (".nii", ".nii.gz")
_SHOWN = 5
_log = logging.getLogger(__name__)


def discover(options: Options) -> tuple[Session, ...]:
    """Find the sessions that `options` select and the anatomical scans of each.

    Only ``sub-*[/ses-*]/anat`` of the raw dataset is looked at, and nothing is written to it.
    Links that lead nowhere (git-annex without its content) count as scans: whoever opens one
    will say so. A session without scans is a session still.

    Parameters
    ----------
    options : Options
        ``bids_dir``, the labels, ``bids_database_dir`` and ``dry_run`` matter here; the filters
        do not, they choose among what is found (`bids_app.dataset.select`).

    Returns
    -------
    tuple of Session
        In the order of their labels, each with its scans in the order of their names.

    Raises
    ------
    UnknownLabel, NoUsableData
        See `bids_app.dataset.folders.list_sessions`.
    """
    sessions = list_sessions(options.bids_dir, options.participant_labels, options.session_labels)
    found: dict[str, list[Scan]] = {anat_folder(session): [] for session in sessions}
    misnamed = []
    for folder, name in _images(options, sessions):
        if folder not in found:
            continue
        scan = _scan(options.bids_dir, folder, name)
        if scan is None:
            misnamed.append(f"{folder}/{name}")
        else:
            found[folder].append(scan)
    _warn_of_misnamed(sorted(misnamed))
    return tuple(
        replace(one, scans=tuple(sorted(found[anat_folder(one)], key=lambda scan: scan.path.name)))
        for one in sessions
    )


def _scan(bids_dir: Path, folder: str, name: str) -> Scan | None:
    """Read a scan's name; None when it is no BIDS name or belongs to another folder."""
    parsed = parse_name(name)
    if parsed is None or parsed.extension not in _EXTENSIONS:
        return None
    places = [f"{key}-{parsed.entities[key]}" for key in ("sub", "ses") if key in parsed.entities]
    if "/".join([*places, "anat"]) != folder:
        return None
    return Scan(bids_dir / folder / name, parsed.entities, parsed.suffix)


def _warn_of_misnamed(names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        _log.warning("%d images do not have the BIDS name of their place: %s", len(names), shown)


_Images = list[tuple[str, str]]


def _images(options: Options, sessions: Sequence[Session]) -> _Images:
    """Ask the saved index where there is a good one, otherwise index the selected subjects.

    Gives each image's folder below the dataset, and its name.
    """
    subjects = sorted({session.subject for session in sessions})
    directory = options.bids_database_dir
    if directory is None:
        return _index(options.bids_dir, subjects)
    if not (directory / DATABASE_NAME).exists():
        if options.dry_run:
            return _index(options.bids_dir, subjects)
        return _index_and_save(options.bids_dir, directory)
    times = folder_times(options.bids_dir, map(anat_folder, sessions))
    try:
        return saved_images(directory, options.bids_dir, times)
    except UnusableIndex as problem:
        _log.warning(
            "The index in %s %s: the folders are read instead. Delete it to have it made again.",
            directory,
            problem,
        )
    return _index(options.bids_dir, subjects)


def _index_and_save(bids_dir: Path, directory: Path) -> _Images:
    """Index the whole dataset aside and keep the index for other runs."""
    times = folder_times(bids_dir, map(anat_folder, list_sessions(bids_dir)))
    with tempfile.TemporaryDirectory(prefix="cordlesion-index-") as aside:
        images = _query(bids_dir, None, Path(aside))
        try:
            publish(Path(aside) / DATABASE_NAME, directory, bids_dir, times, images)
        except (OSError, sqlite3.Error) as error:
            _log.warning("The index could not be saved in %s: %s.", directory, error)
    return images


def _index(bids_dir: Path, subjects: Sequence[str]) -> _Images:
    return _query(bids_dir, subjects, None)


def _query(bids_dir: Path, subjects: Sequence[str] | None, database: Path | None) -> _Images:
    """List the images that pybids sees, in memory or with a database that is made.

    pybids takes entities from the whole path, so a dataset below ``/data/sub-9/func`` would
    look odd: all but the extension is therefore read from our own relative paths.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, ignore=_ignored(subjects), index_metadata=False)
    layout = BIDSLayout(
        str(bids_dir),
        validate=False,
        derivatives=False,
        database_path=None if database is None else str(database),
        indexer=indexer,
    )
    with _closing(layout):
        names = layout.get(return_type="file", extension=list(_EXTENSIONS))
    paths = [Path(name) for name in names]
    return [(path.parent.relative_to(bids_dir).as_posix(), path.name) for path in paths]


@contextlib.contextmanager
def _closing(layout: Any) -> Iterator[None]:
    """Close pybids' connections, which it leaves open: the file is moved or deleted next."""
    try:
        yield
    finally:
        layout.connection_manager.session.close()
        layout.connection_manager.engine.dispose()


def _ignored(subjects: Iterable[str] | None) -> list[re.Pattern[str]]:
    """Build the patterns of what pybids shall not enter: all but the subjects' anat folders.

    pybids searches them in the path relative to the dataset, which starts with a slash.
    """
    labels = "[^/]+" if subjects is None else f"(?:{'|'.join(map(re.escape, subjects))})"
    return [
        re.compile(r"/\."),
        re.compile(rf"^/(?!sub-{labels}(?:/|$))"),
        re.compile(r"^/sub-[^/]+/(?!(?:anat|ses-[^/]+)(?:/|$))"),
        re.compile(r"^/sub-[^/]+/ses-[^/]+/(?!anat(?:/|$))"),
        re.compile(r"^/sub-[^/]+/(?:ses-[^/]+/)?anat/[^/]+/"),
    ]
