"""From a session's contrasts to a network's channels: which goes where, and what is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bids_app.errors import MissingContrast
from bids_app.records import CONTRASTS, OTHER_NAMES, FloatArray, Prepared, Volume

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
        neither is named, its own contrast or else the first channel does. A channel with the
        name of another contrast (``UNIT1``) takes the scan of that contrast, where `prepared`
        says what its scans are. What is left follows in order.

    Returns
    -------
    tuple of Volume or None
        One a channel. A network of one channel gets what there is: its own contrast if
        present, else the other.

    Raises
    ------
    MissingContrast
        A network of one channel reads a contrast that the session is known not to have.

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
    >>> known = Prepared((image, other), contrasts=("T2w", "PSIR"))
    >>> arrange(known, ("PSIR",))[0] is other
    True
    >>> [v and v.data.item() for v in arrange(known, ("T2w", "STIR", "PSIR"))]
    [1, None, 2]
    >>> [v and v.data.item() for v in arrange(known, ("PSIR", "T2w"))]
    [2, 1]
    """
    present = list(prepared.channels)
    if len(channels) == 1:
        return (_single(prepared, channels[0]),)
    contrasts = prepared.contrasts or (None,) * len(present)
    places = {_contrast(name): place for place, name in enumerate(channels)}
    places.pop(None, None)
    first = next((place for place, name in enumerate(channels) if name in _REFERENCE), None)
    chosen = {places.get(contrasts[0], 0) if first is None else first: present[0]}
    waiting = []
    for volume, contrast in zip(present[1:], contrasts[1:], strict=True):
        if places.get(contrast) in (None, *chosen):
            waiting.append(volume)
        else:
            chosen[places[contrast]] = volume
    free = (place for place in range(len(channels)) if place not in chosen)
    chosen.update(zip(free, waiting, strict=False))
    return tuple(chosen.get(place) for place in range(len(channels)))


def _single(prepared: Prepared, name: str) -> Volume:
    """Choose the scan for a network of one channel."""
    contrast = _contrast(name)
    if contrast is not None and name not in _REFERENCE and prepared.contrasts:
        for volume, own in zip(prepared.channels, prepared.contrasts, strict=True):
            if own == contrast and volume is not None:
                return volume
        there = ", ".join(own for own in prepared.contrasts if own is not None)
        raise MissingContrast(
            f"The model reads {contrast}, and of this session {there} is used; is there another "
            f"scan? --contrasts {contrast} or --reference {contrast} would choose it."
        )
    own_place = 1 if name == "second" and len(prepared.channels) > 1 else 0
    return prepared.channels[own_place] or prepared.reference


def _contrast(channel: str) -> str | None:
    """Give the contrast that a channel is named after, if any.

    Examples
    --------
    >>> _contrast("unit1"), _contrast("MP2RAGE"), _contrast("second")
    ('UNIT1', 'UNIT1', None)
    """
    names = {name.lower(): name for name in CONTRASTS}
    names |= {other.lower(): name for other, name in OTHER_NAMES.items()}
    return names.get(channel.lower())


def one_by_one(prepared: Prepared) -> tuple[Prepared, ...]:
    """Give each contrast that is there by itself, in its own place.

    Examples
    --------
    >>> image, other = (Volume(np.full((1, 1, 1), n), np.eye(4)) for n in (1, 2))
    >>> [alone.channels[1] is other for alone in one_by_one(Prepared((image, other)))]
    [False, True]
    """
    return tuple(
        replace(
            prepared,
            channels=tuple(
                channel if place == own else None for place, channel in enumerate(prepared.channels)
            ),
        )
        for own, there in enumerate(prepared.channels)
        if there is not None
    )


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
    return replace(
        prepared,
        channels=tuple(
            None if channel is None else Volume(channel.data[box], channel.affine @ shift)
            for channel in prepared.channels
        ),
        rough_cord=None if prepared.rough_cord is None else prepared.rough_cord[box],
        glimpses=(),
    )
