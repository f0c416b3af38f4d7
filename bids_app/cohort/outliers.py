"""Which sessions are unlike the others: modified z-scores, by the rule of Iglewicz and Hoaglin."""

from __future__ import annotations

import numpy as np

from bids_app.records import FloatArray, QualityMeasure

MOST_Z = 3.5
"""Beyond it a value is an outlier (Iglewicz & Hoaglin 1993)."""
FEWEST = 10
"""With fewer values to compare nothing is called an outlier: the rule was tried from 10 on."""

# Make both deviations estimate the standard deviation of normal values.
_PER_MEDIAN_DEVIATION, _PER_MEAN_DEVIATION = 0.6745, 1.253314


def outliers(values: FloatArray, measure: QualityMeasure) -> FloatArray:
    """Give +1 where a value is an outlier above, -1 below, 0 elsewhere.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of sessions that can be compared; NaN where there is none.
    measure : QualityMeasure
        Says which side counts, and whether logarithms are compared.

    Returns
    -------
    ndarray of shape (n,)
        All 0 with fewer than ten values. Values on the better side are never outliers.

    Examples
    --------
    >>> measure = QualityMeasure("cord_pieces", "Pieces", "Pieces of the cord.")
    >>> outliers(np.array([1.0] * 11 + [3.0]), measure).tolist()[-2:]
    [0.0, 1.0]
    >>> outliers(np.array([1.0] * 5 + [3.0]), measure).any()
    np.False_
    """
    z = modified_z(_comparable(values, measure))
    signs = np.where(np.abs(np.nan_to_num(z)) > MOST_Z, np.sign(z), 0.0)
    if measure.worse != "either":
        signs[signs == (-1.0 if measure.worse == "high" else 1.0)] = 0.0
    return signs


def fences(values: FloatArray, measure: QualityMeasure) -> tuple[float | None, float | None]:
    """Give the values beyond which one is an outlier; None for a side that has none.

    Examples
    --------
    >>> measure = QualityMeasure("x", "X", "X.")
    >>> fences(np.arange(1.0, 12.0), measure)
    (None, 21.567)
    """
    compared = _comparable(values, measure)
    centre, scale = _centre_and_scale(compared)
    if scale is None:
        return None, None
    ends = (centre - MOST_Z * scale, centre + MOST_Z * scale)
    low, high = (float(f"{np.exp(x) if measure.logarithmic else x:.5g}") for x in ends)
    return (
        None if measure.worse == "high" else low,
        None if measure.worse == "low" else high,
    )


def modified_z(values: FloatArray) -> FloatArray:
    """Give (value - median) / (median absolute deviation / 0.6745); NaN where it is undefined.

    Where more than half of the values are equal the median deviation is 0; then the mean absolute
    deviation times 1.253314 stands in for it, as in IBM's Cognos Analytics. Where all are equal,
    or fewer than ten are given, nothing is defined.

    Examples
    --------
    >>> modified_z(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 50])).round(2)[[4, 9]].tolist()
    [-0.13, 12.01]
    """
    centre, scale = _centre_and_scale(values)
    if scale is None:
        return np.full(values.shape, np.nan)
    return np.asarray((values - centre) / scale)


def _comparable(values: FloatArray, measure: QualityMeasure) -> FloatArray:
    if not measure.logarithmic:
        return values
    positive = np.where(values > 0, values, np.nan)
    return np.asarray(np.log(positive))


def _centre_and_scale(values: FloatArray) -> tuple[float, float | None]:
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return float("nan"), None
    centre = float(np.median(known))
    deviations = np.abs(known - centre)
    scale = float(np.median(deviations)) / _PER_MEDIAN_DEVIATION
    return centre, scale or float(deviations.mean()) * _PER_MEAN_DEVIATION or None
