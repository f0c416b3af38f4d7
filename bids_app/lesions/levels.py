"""Vertebral levels along the cord: a continuous coordinate between labelled discs.

Discs are numbered as in the Spinal Cord Toolbox (De Leener et al. 2017): 1 is the top of C1, 2
lies between C1 and C2 (where no disc is), 3 is the disc C2/C3, 8 is C7/T1, 20 is T12/L1. A place
along the cord is a **disc coordinate**: 3 at the height of disc 3, 3.5 half-way from disc 3 to
disc 4 by length of cord. Vertebral level n (1 is C1, 8 is T1, 20 is L1) reaches from disc n to
disc n + 1; its upper end belongs to it.

These are the levels of vertebrae. The cord's own segments, named by their roots, lie higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from bids_app.lesions.centerline import Centerline
from bids_app.lesions.course import BEYOND_MM, Course, course_of
from bids_app.records import LEVEL_NAMES, FloatArray

EXTRAPOLATION_LEVELS = 1.0
EXTRAPOLATION_MM = 25.0
"""Beyond the outermost discs, levels are told this far at most (the nearer limit holds)."""

FARTHEST_MM = 60.0
"""A disc whose label lies farther than this from the cord's middle is not this cord's."""

_USUAL_LEVEL_MM = (6.0, 60.0)


@dataclass(frozen=True)
class LevelAxis:
    """The centreline with a disc coordinate.

    Attributes
    ----------
    line : Centerline
    coordinate : ndarray of shape (n,)
        Disc coordinate of the cord's middle in each of `line.slices`; it rises downwards. NaN
        where it is not known.
    discs_mm : mapping of int to float
        The discs that were used, and where each lies on `course.arc_mm`; empty when no level
        is known.
    remarks : tuple of str
        What was wrong with the discs, each a whole sentence.
    course : Course or None
        None with cord in fewer than two slices.
    """

    line: Centerline
    coordinate: FloatArray
    discs_mm: Mapping[int, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    course: Course | None = None

    @property
    def known(self) -> bool:
        """Tell whether the cord has a coordinate anywhere."""
        return bool(np.isfinite(self.coordinate).any())

    @property
    def arc_mm(self) -> FloatArray:
        """Give where each of `line.slices` lies on `course.arc_mm`, shape (n,)."""
        if self.course is None:
            return np.zeros(len(self.coordinate))
        return self.course.arc_at(self.line.points_mm)

    @property
    def reach_mm(self) -> tuple[float, float]:
        """Give the lowest and the highest place on `course.arc_mm` with a coordinate."""
        _, places = _knots(self.discs_mm)
        return float(places[0]), float(places[-1])

    def at_points(self, points_mm: FloatArray) -> FloatArray:
        """Give the disc coordinates, shape (n,), of points in the world.

        A point has the coordinate of its foot on the centreline, the nearest point of it: all
        points of a plane across the cord share one.

        Parameters
        ----------
        points_mm : ndarray of shape (n, 3)
            RAS+.

        Returns
        -------
        ndarray of shape (n,)
            NaN where unknown.
        """
        if self.course is None or not self.discs_mm:
            return np.full(len(points_mm), np.nan)
        return self.at_arc(self.course.arc_at(points_mm))

    def at_arc(self, arc_mm: FloatArray) -> FloatArray:
        """Give the disc coordinates of lengths along `course.arc_mm`; NaN where unknown."""
        if not self.discs_mm:
            return np.full(np.shape(arc_mm), np.nan)
        numbers, places = _knots(self.discs_mm)
        return np.asarray(np.interp(arc_mm, places, numbers, left=np.nan, right=np.nan))

    def points_at(self, coordinates: FloatArray) -> FloatArray:
        """Give the points of the centreline, shape (n, 3), RAS+, with these disc coordinates.

        NaN for coordinates that this cord does not show.
        """
        if self.course is None or not self.discs_mm:
            return np.full((*np.shape(coordinates), 3), np.nan)
        numbers, places = _knots(self.discs_mm)
        arc = np.interp(coordinates, numbers[::-1], places[::-1], left=np.nan, right=np.nan)
        outside = (arc < self.course.arc_mm[0]) | (arc > self.course.arc_mm[-1])
        return self.course.points_at(np.where(outside, np.nan, arc))

    @staticmethod
    def name(coordinate: float) -> str | None:
        """Name the vertebral level of a disc coordinate; None where there is none.

        Examples
        --------
        >>> LevelAxis.name(3.0), LevelAxis.name(3.99), LevelAxis.name(8.2), LevelAxis.name(20.5)
        ('C3', 'C3', 'T1', 'L1')
        >>> LevelAxis.name(float("nan")) is None
        True
        """
        number = level_number(coordinate)
        return LEVEL_NAMES[number - 1] if number else None


def level_number(coordinate: float) -> int:
    """Give the number of a disc coordinate's level, 1 for C1; 0 where there is none.

    Examples
    --------
    >>> level_number(1.0), level_number(0.9), level_number(25.9), level_number(26.0)
    (1, 0, 25, 0)
    """
    if not np.isfinite(coordinate):
        return 0
    number = int(np.floor(coordinate))
    return number if 1 <= number <= len(LEVEL_NAMES) else 0


def level_axis(centerline: Centerline, discs: Mapping[int, FloatArray]) -> LevelAxis:
    """Place discs along the cord and number every place between them.

    Each disc goes to its foot on the centreline, that is, along the plane across the cord.
    Between two labelled discs the coordinate is linear in the length of cord, so discs that are
    missing in between are taken as evenly spaced. Beyond the outermost ones it goes on at the
    pace of the last interval for one level, at most 25 mm.

    Parameters
    ----------
    centerline : Centerline
    discs : mapping of int to ndarray of shape (3,)
        By number (see the module), RAS+ mm. Those more than 20 mm beyond the cord's ends are
        not used: of the whole spine's discs only some lie beside the cord in view.

    Returns
    -------
    LevelAxis
        Without a coordinate, and with a remark that says why, when fewer than two discs are
        left or they do not follow one another.
    """
    unknown = np.full(len(centerline.slices), np.nan)
    course = course_of(centerline)
    if course is None:
        remark = "The cord shows in fewer than two slices: vertebral levels are n/a."
        return LevelAxis(centerline, unknown, remarks=(remark,))
    places, remarks = _place(course, discs)
    problem = _problem(places)
    if problem:
        return LevelAxis(centerline, unknown, {}, (*remarks, problem), course)
    remarks += _odd_lengths(places)
    axis = LevelAxis(centerline, unknown, places, remarks, course)
    return LevelAxis(centerline, axis.at_points(centerline.points_mm), places, remarks, course)


def _place(
    course: Course, discs: Mapping[int, FloatArray]
) -> tuple[dict[int, float], tuple[str, ...]]:
    """Find the foot of each disc beside the cord; far ones are named and left out."""
    numbers = sorted(number for number in discs if 1 <= number <= len(LEVEL_NAMES) + 1)
    if not numbers:
        return {}, ()
    points = np.array([np.asarray(discs[number], dtype=float) for number in numbers])
    arcs = course.arc_at(points)
    beside = (arcs >= -BEYOND_MM) & (arcs <= course.length_mm + BEYOND_MM)
    aside = np.linalg.norm(points - course.points_at(arcs), axis=1)
    far = {
        number
        for number, distance, near in zip(numbers, aside, beside, strict=True)
        if near and distance > FARTHEST_MM
    }
    remarks: tuple[str, ...] = ()
    if far:
        remarks = (
            f"Disc labels {_listed(sorted(far))} lie more than {FARTHEST_MM:g} mm from the cord "
            "and are not used: do they belong to this image?",
        )
    return {
        number: float(arc)
        for number, arc, near in zip(numbers, arcs, beside, strict=True)
        if near and number not in far
    }, remarks


def _problem(places: Mapping[int, float]) -> str | None:
    """Say why these discs give no levels, or None."""
    if not places:
        return "No usable disc label lies beside the cord: vertebral levels are n/a."
    if len(places) == 1:
        return (
            f"Only one disc ({_listed(places)}) is labelled beside the cord, two are needed: "
            "vertebral levels are n/a."
        )
    wrong = [
        f"{lower} does not lie below {upper}"
        for upper, lower in pairwise(sorted(places))
        if places[lower] >= places[upper] - 1e-6
    ]
    if wrong:
        return f"The disc labels are out of order ({', '.join(wrong)}): vertebral levels are n/a."
    return None


def _odd_lengths(places: Mapping[int, float]) -> tuple[str, ...]:
    """Remark on levels that are too short or too long for a person's."""
    numbers = sorted(places)
    low, high = _USUAL_LEVEL_MM
    odd = []
    for upper, lower in pairwise(numbers):
        length = (places[upper] - places[lower]) / (lower - upper)
        if not low <= length <= high:
            odd.append(f"{length:.0f} mm a level from {upper} to {lower}")
    if not odd:
        return ()
    return (f"The disc labels have an unusual distance ({'; '.join(odd)}): check their numbers.",)


def _knots(discs_mm: Mapping[int, float]) -> tuple[FloatArray, FloatArray]:
    """Give disc numbers and their places, from the lowest up, ends extrapolated."""
    numbers = np.array(sorted(discs_mm, reverse=True), dtype=float)
    places = np.array([discs_mm[int(number)] for number in numbers])
    paces = np.diff(places) / -np.diff(numbers)
    down = min(EXTRAPOLATION_LEVELS, EXTRAPOLATION_MM / paces[0], len(LEVEL_NAMES) + 1 - numbers[0])
    up = min(EXTRAPOLATION_LEVELS, EXTRAPOLATION_MM / paces[-1], numbers[-1] - 1)
    if down > 0:
        numbers = np.concatenate([[numbers[0] + down], numbers])
        places = np.concatenate([[places[0] - down * paces[0]], places])
    if up > 0:
        numbers = np.concatenate([numbers, [numbers[-1] - up]])
        places = np.concatenate([places, [places[-1] + up * paces[-1]]])
    return numbers, places


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
