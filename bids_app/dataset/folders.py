"""Which subjects and sessions a dataset has, from its folders, and which of them are meant."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bids_app.dataset.entities import is_label
from bids_app.errors import NoUsableData, UnknownLabel
from bids_app.records import Session

_SHOWN = 8
_log = logging.getLogger(__name__)


def list_sessions(
    bids_dir: Path, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> tuple[Session, ...]:
    """List the sessions of a dataset, still without their scans.

    Folders count, ``participants.tsv`` does not. A subject without ``ses-`` folders is one
    session; one with ``ses-`` folders and an ``anat`` folder beside them has that one too.

    Parameters
    ----------
    bids_dir : Path
    participants, sessions : sequence of str
        Labels to keep, compared case-sensitively; empty for all.

    Returns
    -------
    tuple of Session
        In the order of subject and session labels.

    Raises
    ------
    UnknownLabel
        For labels that the dataset does not have; all are named, close ones offered.
    NoUsableData
        When there is no subject, or no session is both a kept subject's and a kept one.
    """
    subjects = _labels_in(bids_dir, "sub-")
    _check_labels("participant", participants, subjects)
    if not subjects:
        raise NoUsableData(f"{bids_dir} has no sub-* folder: give the top of a BIDS dataset.")
    chosen = [label for label in subjects if not participants or label in set(participants)]
    found = [session for subject in chosen for session in _sessions_of(bids_dir, subject)]
    kept = tuple(one for one in found if not sessions or one.session in set(sessions))
    if not set(sessions) <= {one.session for one in kept}:
        everywhere = [one for label in subjects for one in _sessions_of(bids_dir, label)]
        known = {one.session for one in everywhere if one.session is not None}
        _check_labels("session", sessions, sorted(known))
    if not kept:
        raise NoUsableData(
            f"No selected participant of {bids_dir} has session {', '.join(sessions)}."
        )
    return kept


def anat_folder(session: Session) -> str:
    """Give the folder of a session's scans, relative to the dataset, with forward slashes."""
    middle = f"/ses-{session.session}" if session.session else ""
    return f"sub-{session.subject}{middle}/anat"


def _sessions_of(bids_dir: Path, subject: str) -> list[Session]:
    folder = bids_dir / f"sub-{subject}"
    result = [Session(subject, label) for label in _labels_in(folder, "ses-")]
    if not result or (folder / "anat").is_dir():
        result.insert(0, Session(subject, None))
    return result


def _labels_in(folder: Path, prefix: str) -> list[str]:
    """List the labels of the folders that start with `prefix`, links to folders included."""
    try:
        with os.scandir(folder) as entries:
            names = [
                item.name for item in entries if item.name.startswith(prefix) and _is_dir(item)
            ]
    except OSError as error:
        _log.warning("%s cannot be listed: %s.", folder, error.strerror or error)
        return []
    labels = sorted(name.removeprefix(prefix) for name in names)
    for label in labels:
        if not is_label(label):
            _log.warning("%s is no BIDS folder name; it is left out.", folder / (prefix + label))
    return [label for label in labels if is_label(label)]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop
        return False


def _check_labels(kind: str, asked: Iterable[str], known: Sequence[str]) -> None:
    unknown = [label for label in asked if label not in set(known)]
    if not unknown:
        return
    described = []
    for label in unknown:
        close = _close_labels(label, known)
        described.append(f"{label} (did you mean {' or '.join(close)}?)" if close else label)
    shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    have = f"The dataset has {shown} ({len(known)} in all)." if known else "The dataset has none."
    plural = "s" if len(unknown) > 1 else ""
    raise UnknownLabel(f"Unknown {kind} label{plural}: {', '.join(described)}. {have}")


def _close_labels(label: str, known: Sequence[str]) -> list[str]:
    """Offer labels that differ in case or leading zeros only, else those spelled much alike."""
    bare = label.lower().lstrip("0")
    same = [other for other in known if bare and other.lower().lstrip("0") == bare]
    return same or difflib.get_close_matches(label, known, n=3)
