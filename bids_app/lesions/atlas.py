"""Carry lesions to a template by the cord's own coordinates, and say what tissue they are in.

A place is where it is along the cord (between the same two discs), at which angle, and how far
from the centre to the surface. No image is registered: discs and the two cord masks say it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from bids_app.lesions.centerline import Centerline, trace_centerline
from bids_app.lesions.cord_coordinates import CordCoordinates, CordPlaces, cord_coordinates
from bids_app.lesions.levels import LevelAxis, level_axis
from bids_app.records import BoolArray, FloatArray, IntArray

# Voxel centres on the surface may lie just outside of it; the tissue maps end there.
_INSIDE = 1.0
# What the names of white-matter regions begin with in SCT's atlas.
_WHITE = "WM "


@dataclass(frozen=True)
class TissueMap:
    """A probability map of a template: where one tissue, or one region of the atlas, is.

    Attributes
    ----------
    probability : ndarray of shape (i, j, k)
        0 to 1.
    affine : ndarray of shape (4, 4)
        From its voxel indices to the template's RAS+ millimetres.
    """

    probability: FloatArray
    affine: FloatArray


@dataclass(frozen=True)
class Template:
    """A template cord in arrays.

    Attributes
    ----------
    cord : ndarray of bool, shape (i, j, k)
    affine : ndarray of shape (4, 4)
    discs_mm : mapping of int to ndarray of shape (3,)
        By number, RAS+.
    white, grey : TissueMap or None
    regions : mapping of str to TissueMap
        The atlas, by the name of the region; often empty.
    """

    cord: BoolArray
    affine: FloatArray
    discs_mm: Mapping[int, FloatArray]
    white: TissueMap | None = None
    grey: TissueMap | None = None
    regions: Mapping[str, TissueMap] = field(default_factory=dict)


@dataclass(frozen=True)
class TemplateCord:
    """A template made ready: what is the same for all sessions.

    Attributes
    ----------
    template : Template
    line : Centerline
    coordinates : CordCoordinates
    voxels : ndarray of int, shape (n, 3)
        Of the template's cord.
    places : CordPlaces
        Of these voxels.
    """

    template: Template
    line: Centerline
    coordinates: CordCoordinates
    voxels: IntArray
    places: CordPlaces


@dataclass(frozen=True)
class Passage:
    """The way between a session's cord and the template's.

    Attributes
    ----------
    own : CordCoordinates
    target : TemplateCord
    own_arc_mm, target_arc_mm : ndarray of shape (m,)
        Lengths along the two cords that belong together, both rising.
    """

    own: CordCoordinates
    target: TemplateCord
    own_arc_mm: FloatArray
    target_arc_mm: FloatArray

    def to_template(self, points_mm: FloatArray) -> FloatArray:
        """Carry points of the session to the template, shape (n, 3); NaN where unknown."""
        places = self.own.locate(points_mm)
        arc = _interpolate(places.arc_mm, self.own_arc_mm, self.target_arc_mm)
        radius = np.minimum(places.radius, _INSIDE)
        return _points(self.target.coordinates, CordPlaces(arc, places.angle_rad, radius))

    def from_template(self) -> FloatArray:
        """Give where the template's cord voxels lie in the session, shape (n, 3), or NaN."""
        places = self.target.places
        arc = _interpolate(places.arc_mm, self.target_arc_mm, self.own_arc_mm)
        return _points(self.own, CordPlaces(arc, places.angle_rad, places.radius))


@dataclass(frozen=True)
class Tissue:
    """What a lesion lies in, as fractions of its volume that is placed in the template.

    Attributes
    ----------
    white, grey : float or None
        They add up to 1; None where the template does not tell.
    regions : mapping of str to float
        By the region's name, all of the atlas; empty where it does not tell.
    """

    white: float | None = None
    grey: float | None = None
    regions: Mapping[str, float] = field(default_factory=dict)

    @property
    def tract(self) -> str | None:
        """Name the white-matter tract with the largest share; None without any."""
        best = self._largest()
        return best.removeprefix(_WHITE) if best else None

    @property
    def tract_fraction(self) -> float | None:
        """Give that tract's share."""
        best = self._largest()
        return self.regions[best] if best else None

    def _largest(self) -> str | None:
        tracts = [name for name, share in self.regions.items() if name.startswith(_WHITE) and share]
        return max(tracts, key=lambda name: self.regions[name], default=None)


def template_cord(template: Template) -> TemplateCord:
    """Make a template ready for `passage`: the work that is done once."""
    line = trace_centerline(template.cord, template.affine)
    coordinates = cord_coordinates(template.cord, line)
    voxels = np.argwhere(template.cord)
    places = coordinates.locate(_world(voxels, template.affine))
    return TemplateCord(template, line, coordinates, voxels, places)


def passage(cord: BoolArray, axis: LevelAxis, target: TemplateCord) -> Passage | None:
    """Match a session's cord to a template's.

    Only discs that both have are used, on both sides: between two of them the cords are
    stretched evenly. Beyond the outermost the match goes as far as levels are told.

    Parameters
    ----------
    cord : ndarray of bool, shape (i, j, k)
        Lesions included.
    axis : LevelAxis
        Of the centreline of `cord`.
    target : TemplateCord

    Returns
    -------
    Passage or None
        None when fewer than two discs are common.
    """
    if axis.course is None or not axis.known:
        return None
    common = sorted(axis.discs_mm.keys() & target.template.discs_mm.keys())
    points = axis.course.points_at(np.array([axis.discs_mm[number] for number in common]))
    own = level_axis(axis.line, dict(zip(common, points, strict=True)))
    discs = {number: target.template.discs_mm[number] for number in common}
    other = level_axis(target.line, discs)
    own_arc, own_level = _known(own)
    other_arc, other_level = _known(other)
    if not len(own_arc) or not len(other_arc):
        return None
    # Levels fall as the arc rises.
    matched = np.interp(-own_level, -other_level, other_arc, left=float("nan"), right=float("nan"))
    usable = np.isfinite(matched)
    if np.count_nonzero(usable) < 2:
        return None
    coordinates = cord_coordinates(cord, axis.line)
    return Passage(coordinates, target, own_arc[usable], matched[usable])


def carry_mask(lesion: BoolArray, affine: FloatArray, way: Passage) -> tuple[BoolArray, BoolArray]:
    """Carry a lesion mask to the template.

    Each voxel of the template's cord is looked up in the session (inverse mapping, nearest
    neighbour), so the result has no holes.

    Parameters
    ----------
    lesion : ndarray of bool, shape (i, j, k)
        On the session's grid.
    affine : ndarray of shape (4, 4)
        Of that grid.
    way : Passage

    Returns
    -------
    lesion, covered : ndarray of bool
        On the template's grid. `covered` are the voxels of the template's cord whose place in
        the session lies in its field of view and beside known levels; elsewhere "no lesion"
        says nothing.
    """
    points = way.from_template()
    seen = np.isfinite(points).all(axis=1)
    index = np.zeros(points.shape, dtype=int)
    to_index = np.linalg.inv(affine)
    index[seen] = np.rint(points[seen] @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
    seen &= np.all((index >= 0) & (index < lesion.shape), axis=1)
    hit = np.zeros(len(points), dtype=bool)
    hit[seen] = lesion[tuple(index[seen].T)]
    return _painted(way.target, hit), _painted(way.target, seen)


def tissue_of(voxels: IntArray, affine: FloatArray, way: Passage) -> Tissue:
    """Say what tissue of the template a lesion lies in.

    Each voxel of the lesion is carried to the template, where the maps are read by linear
    interpolation. With p the probabilities there, the fraction of white matter is the sum of
    p(white) over that of p(white) + p(grey); a region's is the sum of its p over that of all
    regions of the atlas.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Of the lesion.
    affine : ndarray of shape (4, 4)
    way : Passage

    Returns
    -------
    Tissue
        Empty where no voxel could be placed.
    """
    points = way.to_template(_world(voxels, affine))
    points = points[np.isfinite(points).all(axis=1)]
    template = way.target.template
    white = grey = None
    if template.white is not None and template.grey is not None:
        sums = {"white": _sum(template.white, points), "grey": _sum(template.grey, points)}
        share = _shares(sums)
        white, grey = share.get("white"), share.get("grey")
    regions = {name: _sum(tissue, points) for name, tissue in template.regions.items()}
    return Tissue(white, grey, _shares(regions))


def _shares(sums: Mapping[str, float]) -> dict[str, float]:
    total = sum(sums.values())
    return {name: value / total for name, value in sums.items()} if total > 0 else {}


def _sum(tissue: TissueMap, points: FloatArray) -> float:
    to_index = np.linalg.inv(tissue.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    values = ndimage.map_coordinates(tissue.probability, index.T, order=1, mode="constant")
    return float(np.sum(values, dtype=float))


def _known(axis: LevelAxis) -> tuple[FloatArray, FloatArray]:
    """Give the arcs with a known level, from half a slice below the cord to as much above."""
    if axis.course is None:
        return np.empty(0), np.empty(0)
    half = axis.line.frame.thickness_mm / 2
    arc = axis.course.arc_mm
    arc = arc[(arc >= -half - 1e-6) & (arc <= axis.course.length_mm + half + 1e-6)]
    level = axis.at_arc(arc)
    known = np.isfinite(level)
    return arc[known], level[known]


def _interpolate(at: FloatArray, where: FloatArray, values: FloatArray) -> FloatArray:
    return np.interp(at, where, values, left=float("nan"), right=float("nan"))


def _points(cord: CordCoordinates, places: CordPlaces) -> FloatArray:
    """Give the points of places, some of which are NaN."""
    known = np.isfinite(places.arc_mm)
    points = np.full((len(known), 3), np.nan)
    chosen = CordPlaces(places.arc_mm[known], places.angle_rad[known], places.radius[known])
    points[known] = cord.points(chosen)
    return points


def _painted(target: TemplateCord, values: BoolArray) -> BoolArray:
    image = np.zeros(target.template.cord.shape, dtype=bool)
    image[tuple(target.voxels[values].T)] = True
    return image


def _world(voxels: IntArray, affine: FloatArray) -> FloatArray:
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])
