"""JSON that others wrote."""

from __future__ import annotations

import json
from typing import Any


def parse_json(content: str | bytes | bytearray) -> Any:
    """Parse JSON; whatever is wrong with it is a ValueError.

    Python's own parser answers nesting that is too deep with a RecursionError, which nobody expects
    of a file.

    Parameters
    ----------
    content : str, bytes or bytearray
        Bytes are UTF-8, UTF-16 or UTF-32.

    Raises
    ------
    ValueError
        Not JSON, not the text it should be, or nested too deep.

    Examples
    --------
    >>> parse_json(b'{"a": [1, null]}')
    {'a': [1, None]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: nested too deeply
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
