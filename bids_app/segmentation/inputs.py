"""From a session's contrasts to a network's channels: which goes where, and what is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bids_app.records import FloatArray, Prepared, Volume

Box = tuple[slice, slice, slice]

# Names of a channel that stand for the scan that gives the grid.
_REFERENCE = ("T2w", "reference")


def arrange(prepared: Prepared, channels: Sequence[str]) -> tuple[Volume | None, ...]:
    """Put a session's contrasts in the order of a network's channels.

    Parameters
    ----------
    prepared : Prepared
        The reference first, then others.
    channels : sequence of str
        Of the model. ``T2w`` or ``reference`` takes the reference wherever it stands; where
        neither is named, the first channel does. The others follow in order.

    Returns
    -------
    tuple of Volume or None
        One a channel. A network of one channel gets what there is: its own contrast if
        present, else the other.

    Examples
    --------
    >>> image, other = (Volume(np.full((1, 1, 1), n), np.eye(4)) for n in (1, 2))
    >>> both, lone = Prepared((image, other)), Prepared((None, other))
    >>> [v.data.item() for v in arrange(both, ("STIR", "T2w"))]
    [2, 1]
    >>> arrange(both, ("T2w",))[0] is image, arrange(lone, ("T2w",))[0] is other
    (True, True)
    >>> arrange(both, ("second",))[0] is other, arrange(both, ("T2w", "STIR", "PSIR"))[2]
    (True, None)
    """
    present = list(prepared.channels)
    if len(channels) == 1:
        own = 1 if channels[0] == "second" and len(present) > 1 else 0
        return (present[own] if present[own] is not None else prepared.reference,)
    first = next((place for place, name in enumerate(channels) if name in _REFERENCE), 0)
    others = iter(present[1:])
    chosen = [
        present[0] if place == first else next(others, None) for place in range(len(channels))
    ]
    return tuple(chosen)


def separate(prepared: Prepared) -> tuple[Volume, ...]:
    """Give the contrasts that are there."""
    return tuple(channel for channel in prepared.channels if channel is not None)


def cut_round(cord: FloatArray, affine: FloatArray, margin_mm: tuple[float, float, float]) -> Box:
    """Give the box of a cord and a margin, cut at the array's edges; all of it for no cord.

    Parameters
    ----------
    cord : ndarray of shape (i, j, k)
        Probability; at least 0.5 is cord.
    affine : ndarray of shape (4, 4)
    margin_mm : tuple of float
        To each side, right-left, anterior-posterior and superior-inferior, whatever the order
        of the array's axes.

    Examples
    --------
    >>> cord = np.zeros((9, 9, 9))
    >>> cord[4, 4, 4] = 1
    >>> [(part.start, part.stop) for part in cut_round(cord, np.diag([1, 2, 9, 1]), (2, 2, 2))]
    [(2, 7), (3, 6), (3, 6)]
    """
    mask = cord >= 0.5
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    parts = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        if inside.size == 0:
            return slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])
        world = int(np.argmax(np.abs(affine[:3, axis])))
        margin = int(np.ceil(margin_mm[world] / spacing[axis]))
        start = max(0, int(inside[0]) - margin)
        parts.append(slice(start, min(mask.shape[axis], int(inside[-1]) + 1 + margin)))
    return parts[0], parts[1], parts[2]


def crop(prepared: Prepared, box: Box) -> Prepared:
    """Cut a box out of every contrast; what is left keeps its place in the world."""
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in box]
    return Prepared(
        tuple(
            None if channel is None else Volume(channel.data[box], channel.affine @ shift)
            for channel in prepared.channels
        ),
        prepared.alignment,
    )
