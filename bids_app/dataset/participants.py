"""What is known about the participants: the columns of ``participants.tsv``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from pathlib import Path

from bids_app.dataset.tsv import read_tsv
from bids_app.errors import UnknownColumn

_log = logging.getLogger(__name__)


def read_participants(bids_dir: Path) -> dict[str, dict[str, str]]:
    """Read the participants' table of a dataset.

    What `bids_app.dataset.tsv.read_tsv` puts up with, and identifiers without ``sub-``; of
    repeated rows the first counts, with a warning.

    Parameters
    ----------
    bids_dir : Path

    Returns
    -------
    dict
        By subject label, without ``sub-``: value by column. Missing values (``n/a``) are left
        out. Empty when there is no table, or one that has no ``participant_id`` (with a warning).
    """
    return read_table(bids_dir / "participants.tsv")


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Read a participants' table of any name; see `read_participants`."""
    header, rows = read_tsv(path)
    if not header:
        return {}
    if "participant_id" not in header:
        _log.warning("%s has no column participant_id: it is not used.", path)
        return {}
    result: dict[str, dict[str, str]] = {}
    for row in rows:
        subject = row.pop("participant_id", "").removeprefix("sub-")
        if not subject:
            continue
        if subject in result:
            _log.warning("%s has several rows of %s: the first one counts.", path, subject)
            continue
        result[subject] = row
    return result


def check_columns(bids_dir: Path, names: Iterable[str]) -> None:
    """Make sure that ``participants.tsv`` has the columns that are asked for.

    Raises
    ------
    UnknownColumn
        All unknown ones are named, close ones offered.
    """
    asked = list(dict.fromkeys(names))
    if not asked:
        return
    path = bids_dir / "participants.tsv"
    header, _ = read_tsv(path)
    known = [name for name in header if name and name != "participant_id"]
    unknown = [name for name in asked if name not in known]
    if not unknown:
        return
    described = []
    for name in unknown:
        close = _close(name, known)
        described.append(f"{name} (did you mean {' or '.join(close)}?)" if close else name)
    plural = "s" if len(unknown) > 1 else ""
    have = f"{path} has {', '.join(known)}." if known else f"{path} is not there or has no columns."
    raise UnknownColumn(f"Unknown column{plural}: {', '.join(described)}. {have}")


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Offer columns that differ in case only, else those spelled much alike."""
    known = list(known)
    same = [other for other in known if other.casefold() == name.casefold()]
    return same or difflib.get_close_matches(name, known, n=3)
