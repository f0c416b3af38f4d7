"""The centreline as a smooth curve: length along it, and the foot of any point on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial import cKDTree

from bids_app.lesions.centerline import Centerline
from bids_app.records import FloatArray

BEYOND_MM = 20.0
"""How far the curve is carried straight on beyond the first and the last slice with cord."""

_STEP_MM = 0.1


@dataclass(frozen=True)
class Course:
    """The centreline as a curve, sampled densely from its lower to its upper end.

    Attributes
    ----------
    points_mm, tangents : ndarray of shape (m, 3)
        Positions (RAS+) and unit directions, the straight ends included.
    arc_mm : ndarray of shape (m,)
        Length along the curve: 0 at the lowest slice with cord, negative below it.
    length_mm : float
        From the lowest to the highest slice with cord.
    """

    points_mm: FloatArray
    tangents: FloatArray
    arc_mm: FloatArray
    length_mm: float

    def arc_at(self, points_mm: FloatArray) -> FloatArray:
        """Give where along the curve points lie, shape (n,): at their feet.

        The foot is the nearest point of the curve, so the line to it is perpendicular to the
        cord. Beyond the curve's ends its end direction counts.

        Parameters
        ----------
        points_mm : ndarray of shape (n, 3)
            RAS+.
        """
        _, nearest = cKDTree(self.points_mm).query(points_mm)
        offset = np.asarray(points_mm) - self.points_mm[nearest]
        return np.asarray(
            self.arc_mm[nearest] + np.einsum("ij,ij->i", offset, self.tangents[nearest])
        )

    def points_at(self, arc_mm: FloatArray) -> FloatArray:
        """Give the curve's points, shape (n, 3), at lengths along it; its ends at most."""
        columns = [np.interp(arc_mm, self.arc_mm, column) for column in self.points_mm.T]
        return np.stack(columns, axis=-1)


def course_of(line: Centerline) -> Course | None:
    """Draw a curve with a continuous direction through the points of a centreline.

    Parameters
    ----------
    line : Centerline

    Returns
    -------
    Course or None
        None with cord in fewer than two slices: then there is no direction.
    """
    if len(line.slices) < 2:
        return None
    height = line.points_mm @ line.frame.normal
    order = np.argsort(height)
    height, slopes = height[order], line.slopes[order]
    spline = CubicHermiteSpline(height, line.points_mm[order], slopes)
    count = max(2, int(np.ceil((height[-1] - height[0]) / _STEP_MM)) + 1)
    at = np.linspace(height[0], height[-1], count)
    middle = spline(at)
    tangents = _unit(spline(at, nu=1))
    steps = np.arange(_STEP_MM, BEYOND_MM + _STEP_MM, _STEP_MM)
    below = middle[0] - steps[::-1, None] * tangents[0]
    above = middle[-1] + steps[:, None] * tangents[-1]
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(middle, axis=0), axis=1))])
    return Course(
        points_mm=np.concatenate([below, middle, above]),
        tangents=np.concatenate(
            [
                np.tile(tangents[0], (len(steps), 1)),
                tangents,
                np.tile(tangents[-1], (len(steps), 1)),
            ]
        ),
        arc_mm=np.concatenate([-steps[::-1], arc, arc[-1] + steps]),
        length_mm=float(arc[-1]),
    )


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
