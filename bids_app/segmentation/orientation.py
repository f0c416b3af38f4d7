"""Axis directions: two dialects of letters, and arrays turned from one orientation to another."""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

from nibabel import orientations
from numpy.typing import NDArray

from bids_app.errors import UsageError
from bids_app.records import FloatArray, Volume

_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
_AXES = ({"R", "L"}, {"A", "P"}, {"S", "I"})


def from_sct_letters(letters: str) -> str:
    """Translate the Spinal Cord Toolbox's letters, where an axis starts, to where it points.

    Parameters
    ----------
    letters : str
        Three letters, one of each of R/L, A/P and S/I, in any order and case.

    Returns
    -------
    str
        In nibabel's letters.

    Raises
    ------
    UsageError
        Not an orientation.

    Examples
    --------
    >>> from_sct_letters("LPI"), from_sct_letters("AIL"), from_sct_letters("rpi")
    ('RAS', 'PSR', 'LAS')
    """
    return "".join(_OPPOSITE[letter] for letter in check_letters(letters))


def to_sct_letters(letters: str) -> str:
    """Translate nibabel's letters to the Spinal Cord Toolbox's; the same exchange.

    Examples
    --------
    >>> to_sct_letters("RAS")
    'LPI'
    """
    return from_sct_letters(letters)


def check_letters(letters: str) -> str:
    """Give the letters in upper case.

    Raises
    ------
    UsageError
        Not three letters, one of each axis.
    """
    upper = letters.upper() if isinstance(letters, str) else ""
    if len(upper) != 3 or not all(set(upper) & axis for axis in _AXES):
        raise UsageError(
            f"{letters!r} is no orientation: give one letter of each of R/L, A/P and S/I, like LPI."
        )
    return upper


def orient(volume: Volume, letters: str) -> Volume:
    """Flip and permute axes until they point where `letters` (nibabel's) say; nothing is resampled.

    Examples
    --------
    >>> import numpy as np
    >>> ras = Volume(np.arange(24).reshape(2, 3, 4), np.eye(4))
    >>> orient(ras, "PSR").data.shape, orient(ras, "LAS").data[0, 0, 0].item()
    ((3, 4, 2), 12)
    """
    turn = _turn(volume, letters)
    data = orientations.apply_orientation(volume.data, turn)
    change = orientations.inv_ornt_aff(turn, volume.data.shape)
    return Volume(data, volume.affine @ change)


def orient_view(data: FloatArray, letters: str, like: Volume) -> FloatArray:
    """Turn an array on the grid of `like`, with more axes, as `orient` does; a view of it."""
    view: FloatArray = orientations.apply_orientation(data, _turn(like, letters))
    return view


def _turn(volume: Volume, letters: str) -> NDArray[Any]:
    """Give nibabel's transform from a volume's own orientation."""
    own = orientations.io_orientation(volume.affine)
    turn: NDArray[Any] = orientations.ornt_transform(own, orientations.axcodes2ornt(letters))
    return turn
