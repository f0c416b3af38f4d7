"""Coordinates of the cord itself: length along it, angle and relative radius in its section.

Two cords of different course, thickness and roll meet in these: a point half-way from the centre
to the surface, dorsally, is that in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline
from bids_app.lesions.course import Course, course_of
from bids_app.lesions.place import sections_of
from bids_app.records import BoolArray, FloatArray

_ANGLES = 72
# The voxels' staircase is no anatomy: about a voxel's worth is smoothed away.
_SMOOTHING_ANGLES = 1.5
_SMOOTHING_MM = 1.0
# The cord turns slowly about its axis, and its section tells where it is wide.
_ROLL_SMOOTHING_MM = 20.0
_LARGEST_ROLL_RAD = np.deg2rad(30)
# A round section says nothing about roll: this share of it pulls towards the patient's axes.
_ROUNDNESS_WEIGHT = 0.03
_STATION_MM = 1.0


@dataclass(frozen=True)
class CordPlaces:
    """Where points lie in a cord; all arrays have the shape (n,).

    Attributes
    ----------
    arc_mm : ndarray
        Length along the cord's `Course`: 0 at its lowest slice.
    angle_rad : ndarray
        Direction in the section: 0 is the cord's right, pi/2 its anterior.
    radius : ndarray
        0 on the centreline, 1 on the surface of the cord.
    """

    arc_mm: FloatArray
    angle_rad: FloatArray
    radius: FloatArray


@dataclass(frozen=True)
class CordCoordinates:
    """A cord as a bent tube, known at stations from its lowest slice to its highest.

    Attributes
    ----------
    course : Course
        Its centreline as a curve.
    station_mm : ndarray of shape (n,)
        Lengths along `course` at which the section is known, rising from 0.
    right : ndarray of shape (n, 3)
        Unit vectors in the section towards the cord's own right.
    radius_mm : ndarray of shape (n, angles)
        Distance from the centreline to the surface, evenly over the full turn from `right`
        through anterior.
    """

    course: Course
    station_mm: FloatArray
    right: FloatArray
    radius_mm: FloatArray

    def locate(self, points_mm: FloatArray) -> CordPlaces:
        """Give the cord coordinates of world points of shape (n, 3).

        A point belongs to the section that is perpendicular to the centreline at its foot.
        """
        arc = self.course.arc_at(points_mm)
        center, right, anterior = self._frame(arc)
        offset = points_mm - center
        across, ahead = np.sum(offset * right, axis=1), np.sum(offset * anterior, axis=1)
        angle = np.arctan2(ahead, across)
        return CordPlaces(arc, angle, np.hypot(across, ahead) / self._surface(arc, angle))

    def points(self, places: CordPlaces) -> FloatArray:
        """Give the world points of cord coordinates, shape (n, 3): `locate` undone."""
        center, right, anterior = self._frame(places.arc_mm)
        distance = places.radius * self._surface(places.arc_mm, places.angle_rad)
        across = (distance * np.cos(places.angle_rad))[:, None] * right
        ahead = (distance * np.sin(places.angle_rad))[:, None] * anterior
        return np.asarray(center + across + ahead)

    def _frame(self, arc: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give centre, right and anterior at lengths along the cord, each of shape (n, 3)."""
        tangent = _interpolate(arc, self.course.arc_mm, self.course.tangents)
        right, anterior = _across(tangent, _interpolate(arc, self.station_mm, self.right))
        return self.course.points_at(arc), right, anterior

    def _surface(self, arc: FloatArray, angle: FloatArray) -> FloatArray:
        station = np.interp(arc, self.station_mm, np.arange(len(self.station_mm)))
        turn = np.mod(angle / (2 * np.pi), 1) * self.radius_mm.shape[1]
        return _bilinear(self.radius_mm, station, turn)


def cord_coordinates(cord: BoolArray, line: Centerline) -> CordCoordinates:
    """Fit coordinates to a cord.

    In planes across the centreline the surface is found along rays (where the mask, linearly
    interpolated, falls to a half for the last time) and smoothed by about a voxel. Right and
    anterior are the patient's, projected into the section and turned about the cord by its
    roll: the direction in which the section is widest, from its second moments over some 20 mm
    of cord, at most 30 degrees.

    Parameters
    ----------
    cord : ndarray of bool, shape (i, j, k)
    line : Centerline
        Of `cord`.

    Returns
    -------
    CordCoordinates

    Raises
    ------
    ValueError
        The centreline has no direction: cord in fewer than two slices.
    """
    course = course_of(line)
    if course is None:
        raise ValueError("A cord in fewer than two slices has no coordinates.")
    count = max(2, int(np.ceil(course.length_mm / _STATION_MM)) + 1)
    station = np.linspace(0, course.length_mm, count)
    tangents = _interpolate(station, course.arc_mm, course.tangents)
    ahead = np.broadcast_to(line.frame.anterior, tangents.shape)
    right, anterior = _across(tangents, np.cross(ahead, tangents))
    reach = 1.5 * float(np.nanmax(sections_of(cord, line).half_width_mm)) + 2.0
    radius = _rays(cord, line, course.points_at(station), (right, anterior), reach)
    radius = _smooth(radius, station[1] - station[0])
    roll = _roll_rad(radius, station)
    turned = np.cos(roll)[:, None] * right + np.sin(roll)[:, None] * anterior
    turn = np.arange(_ANGLES) + (roll * _ANGLES / (2 * np.pi))[:, None]
    rows = np.broadcast_to(np.arange(float(count))[:, None], turn.shape)
    return CordCoordinates(course, station, turned, _bilinear(radius, rows, turn % _ANGLES))


def _rays(
    cord: BoolArray,
    line: Centerline,
    centers: FloatArray,
    axes: tuple[FloatArray, FloatArray],
    reach_mm: float,
) -> FloatArray:
    """Measure from each centre to the surface, shape (stations, angles)."""
    right, anterior = axes
    step = min(line.frame.spacing_mm) / 2
    distances = np.arange(0, reach_mm + step, step)
    to_index = np.linalg.inv(line.frame.affine)
    radius = np.empty((len(centers), _ANGLES))
    soft = cord.astype(np.float32)
    for number, angle in enumerate(2 * np.pi * np.arange(_ANGLES) / _ANGLES):
        direction = np.cos(angle) * right + np.sin(angle) * anterior
        points = centers[:, None] + distances[:, None] * direction[:, None]
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        profile = ndimage.map_coordinates(soft, np.moveaxis(index, 2, 0), order=1, mode="nearest")
        radius[:, number] = _last_crossing(profile, distances)
    return np.maximum(radius, step)


def _last_crossing(profile: FloatArray, distances: FloatArray) -> FloatArray:
    """Find where each row falls below a half for the last time; 0 where it never reaches it."""
    inside = profile >= 0.5
    last = profile.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    row = np.arange(len(profile))
    after = np.minimum(last + 1, profile.shape[1] - 1)
    value, below = profile[row, last], profile[row, after]
    share = (value - 0.5) / np.maximum(value - below, 1e-6)
    step = distances[1] - distances[0]
    found = distances[last] + np.where(after > last, share * step, 0)
    return np.asarray(np.where(inside.any(axis=1), found, 0.0))


def _smooth(radius: FloatArray, step_mm: float) -> FloatArray:
    around = ndimage.gaussian_filter1d(radius, _SMOOTHING_ANGLES, axis=1, mode="wrap")
    return np.asarray(
        ndimage.gaussian_filter1d(around, _SMOOTHING_MM / step_mm, axis=0, mode="nearest")
    )


def _roll_rad(radius: FloatArray, arc: FloatArray) -> FloatArray:
    """Find the direction in which the section is widest, as an angle from right."""
    angles = 2 * np.pi * np.arange(radius.shape[1]) / radius.shape[1]
    # Second moments of the section as a complex number of twice the angle.
    spread = np.sum(radius**4, axis=1)
    width = np.sum(radius**4 * np.exp(2j * angles), axis=1) + _ROUNDNESS_WEIGHT * spread
    near = np.exp(-0.5 * np.square((arc[:, None] - arc) / _ROLL_SMOOTHING_MM))
    smooth = near @ width
    # A section that is deeper than wide is no section lying on its side.
    wide = np.maximum(smooth.real, _ROUNDNESS_WEIGHT * (near @ spread))
    roll = np.arctan2(smooth.imag, wide) / 2
    return np.asarray(np.clip(roll, -_LARGEST_ROLL_RAD, _LARGEST_ROLL_RAD))


def _bilinear(radius: FloatArray, station: FloatArray, turn: FloatArray) -> FloatArray:
    """Interpolate over stations and the closed turn; beyond the ends the last one holds."""
    closed = np.concatenate([radius, radius[:, :1]], axis=1)
    return np.asarray(ndimage.map_coordinates(closed, [station, turn], order=1, mode="nearest"))


def _across(tangents: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Make unit vectors across the cord of directions that are nearly so."""
    up = _unit(tangents)
    sideways = _unit(right - np.sum(right * up, axis=1, keepdims=True) * up)
    return sideways, np.cross(up, sideways)


def _interpolate(at: FloatArray, where: FloatArray, values: FloatArray) -> FloatArray:
    return np.stack([np.interp(at, where, column) for column in values.T], axis=1)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
