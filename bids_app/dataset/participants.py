"""What ``participants.tsv`` says about each subject, read with patience."""

from __future__ import annotations

import logging
from pathlib import Path

_MISSING = {"", "n/a", "N/A", "NA", "nan", "NaN"}
_log = logging.getLogger(__name__)


def read_participants(bids_dir: Path) -> dict[str, dict[str, str]]:
    """Read the participants' table of a dataset.

    A byte-order mark, other line ends, blank lines, short rows, identifiers without ``sub-`` and
    bytes that are not UTF-8 are put up with; of repeated rows the first counts, with a warning.

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
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return {}
    except OSError as error:
        _log.warning("%s cannot be read: %s.", path, error.strerror or error)
        return {}
    if "\N{REPLACEMENT CHARACTER}" in text:
        _log.warning("%s is not UTF-8: some characters are lost.", path)
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    header = [name.strip() for name in rows[0]] if rows else []
    if "participant_id" not in header:
        _log.warning("%s has no column participant_id: it is not used.", path)
        return {}
    return _by_subject(path, header, rows[1:])


def _by_subject(path: Path, header: list[str], rows: list[list[str]]) -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {}
    for row in rows:
        # Short rows lack their last columns; what is beyond the header has no name.
        values = {
            name: cell.strip()
            for name, cell in zip(header, row, strict=False)
            if cell.strip() not in _MISSING
        }
        subject = values.pop("participant_id", "").removeprefix("sub-")
        if not subject:
            continue
        if subject in result:
            _log.warning("%s has several rows of %s: the first one counts.", path, subject)
            continue
        result[subject] = values
    return result
