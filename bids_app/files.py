"""Files that appear whole or not at all, whoever else writes at the same moment."""

from __future__ import annotations

import contextlib
import json
import math
import numbers
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# As a spreadsheet sees it; numbers with a sign are none.
_FORMULA = re.compile(r"[=@]|[+-](?![0-9.]|inf|n/a|$)")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a new path beside `path` to write to, and rename it to `path` at the end.

    When the block raises, `path` stays as it was and nothing is left beside it. Parent folders
    are made. The file gets the permissions of any new file (the umask's), which those of
    ``tempfile`` do not.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Path
        Hidden, in the same folder, with the same extension; it is for the block to create it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    extension = "".join(path.suffixes[-2:])
    aside = path.with_name(f".{uuid.uuid4().hex}{extension}")
    try:
        yield aside
        os.replace(aside, path)  # noqa: PTH105 - says what it does: rename over what is there
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, and wait until the disk has them.

    Without the wait a power cut may leave the new name on an empty file.
    """
    with written_aside(path) as aside, aside.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 with its line ends as they are."""
    with written_aside(path) as aside:
        aside.write_bytes(text.encode("utf-8", errors="replace"))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, in the order of its keys.

    Paths become text, NumPy numbers plain ones, and numbers that JSON does not have (``nan``,
    ``inf``) null.

    Raises
    ------
    TypeError
        For values that JSON has no notion of.
    """
    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a BIDS table: tabs between, a header line, ``n/a`` for what is missing.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The header; keys of a row that are not in it are not written.
    rows : iterable of mapping
        None, ``nan``, infinities, empty text and missing keys become ``n/a``. Floats are written
        with up to ten significant digits. Tabs, line ends and other control characters inside
        a text become spaces, and a text that a spreadsheet would run as a formula begins with an
        apostrophe.
    """
    lines = ["\t".join(_cell(column) for column in columns)]
    lines += ["\t".join(_cell(row.get(column)) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def plain(value: Any) -> Any:
    """Turn nested values into those that JSON has; see `write_json`.

    Examples
    --------
    >>> plain({"a": (1, float("nan")), "b": Path("x")})
    {'a': [1, None], 'b': 'x'}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays, without importing it
        return plain(value.tolist())
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    text = " ".join(_CONTROL.sub(" ", str(value)).split())
    return f"'{text}" if _FORMULA.match(text) else text or "n/a"
