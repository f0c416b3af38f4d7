"""Whether a volume has changed by more than its own uncertainty."""

from __future__ import annotations

import numpy as np

from bids_app.records import BoolArray, Change

_TWO_SIDED_95 = 1.96


def volume_sd_mm3(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Estimate the standard error of a lesion's volume from its surface voxels.

    Each side of a lesion is known to within a voxel: moving it by a uniform error of up to
    half a voxel (standard deviation: voxel / sqrt(12)) gains or loses that share of the
    voxels along it. Of the N faces along an array axis each side has half, the six sides err
    independently, and so

        sd = voxel volume * sqrt(sum over the axes of 2 (N / 2)^2 / 12).

    Parameters
    ----------
    mask : ndarray of bool, shape (i, j, k)
        One lesion.
    spacing_mm : tuple of float

    Returns
    -------
    float
        In mm³; 0 for an empty mask.

    Examples
    --------
    >>> round(volume_sd_mm3(np.ones((2, 2, 2), dtype=bool), (1.0, 1.0, 1.0)), 4)
    2.8284
    """
    padded = np.pad(mask, 1).astype(np.int8)
    faces = [np.count_nonzero(np.diff(padded, axis=axis)) for axis in range(3)]
    return float(np.prod(spacing_mm) * np.sqrt(np.sum(np.square(faces, dtype=float)) / 24))


def change_limit(
    before_mm3: float, before_sd_mm3: float, after_sd_mm3: float, least: float
) -> float:
    """Give the relative change of volume from which on it counts.

    It is the repeatability coefficient of the two measurements (Bland & Altman 1986), 1.96
    times the standard error of their difference over the earlier volume, and at least `least`.

    Examples
    --------
    >>> change_limit(100.0, 3.0, 4.0, 0.3), round(change_limit(10.0, 3.0, 4.0, 0.3), 3)
    (0.3, 0.98)
    """
    error = float(np.hypot(before_sd_mm3, after_sd_mm3))
    return max(least, _TWO_SIDED_95 * error / before_mm3)


def volume_class(relative_change: float, limit: float) -> Change:
    """Name a change of volume; the limit itself counts as changed.

    Examples
    --------
    >>> volume_class(0.3, 0.3), volume_class(-0.2, 0.3), volume_class(-0.5, 0.3)
    ('enlarging', 'stable', 'shrinking')
    """
    # Rounding of a quotient must not undo a tie.
    if relative_change >= limit - 1e-9:
        return "enlarging"
    return "shrinking" if relative_change <= -limit + 1e-9 else "stable"
