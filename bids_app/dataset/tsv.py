"""Read tab-separated tables as they come from people and spreadsheets."""

from __future__ import annotations

import logging
from pathlib import Path

_MISSING = {"", "n/a", "N/A", "NA", "nan", "NaN"}
_log = logging.getLogger(__name__)


def read_tsv(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Read a table that people have touched.

    A byte-order mark, other line ends, blank lines, short rows and bytes that are not UTF-8 are
    put up with.

    Parameters
    ----------
    path : Path

    Returns
    -------
    header : tuple of str
        Empty when the file is absent, or cannot be read (with a warning).
    rows : list of dict
        Value by column; missing values (``n/a``) are left out.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return (), []
    except OSError as error:
        _log.warning("%s cannot be read: %s.", path, error.strerror or error)
        return (), []
    if "\N{REPLACEMENT CHARACTER}" in text:
        _log.warning("%s is not UTF-8: some characters are lost.", path)
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    header = tuple(name.strip() for name in lines[0]) if lines else ("",)
    return header, [_row(header, line) for line in lines[1:]]


def _row(header: tuple[str, ...], line: list[str]) -> dict[str, str]:
    # Short rows lack their last columns; what is beyond the header has no name.
    cells = zip(header, (cell.strip() for cell in line), strict=False)
    return {name: cell for name, cell in cells if cell not in _MISSING}
