"""Draw a random spine: every shape as a function of the height along the cord.

A spine is a table: one row a parameter (half-axes of the cord and of the dural sac, distance to
the next disc, depth of a vertebral body, ...), one column a millimetre of height. Height 0 is
the foramen magnum; heights are negative below it. `structures.py` turns the table into tissues.

Sizes follow published normal ranges: cord and canal diameters by level from the PAM50 template's
statistics (De Leener et al. 2018) and Frostell et al. 2016 (doi:10.3389/fneur.2016.00238).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from bids_app.records import FloatArray

Array = FloatArray

TOP_MM, BOTTOM_MM = 140.0, -660.0
HEIGHTS_MM = np.arange(BOTTOM_MM, TOP_MM + 1.0, 1.0)
VERTEBRAE = (
    *(f"C{i}" for i in range(1, 8)),
    *(f"T{i}" for i in range(1, 13)),
    *(f"L{i}" for i in range(1, 6)),
    *(f"S{i}" for i in range(1, 3)),
)
# Height of a vertebral body with the disc below it, mm (C1 and C2 share the dens).
_LEVEL_MM = np.array(
    [16, 20, *[17.0] * 5, *np.linspace(19, 26, 12), *np.linspace(31, 36, 5), 30, 28]
)

# A ball of 3 mm, the least length of a lesion (Filippi et al. 2019, doi:10.1093/brain/awz144):
# smaller pieces are what a grid cuts off a drawn lesion, and no rater would mark them.
SMALLEST_LESION_MM3 = float(np.pi / 6 * 3.0**3)

_PARAMETERS = (
    "center_x", "center_y", "cord_a", "cord_b", "grey", "sac_a", "sac_b", "sac_x", "sac_y",
    "triangle", "epidural", "to_disc", "to_spinous", "to_root", "body_a", "body_d",
    "skin_a", "skin_b", "skin_y", "neck", "chest", "brain", "canal_csf",
)  # fmt: skip


@dataclass(frozen=True)
class LesionShape:
    """One lesion in cord coordinates.

    Attributes
    ----------
    height_mm, half_length_mm : float
        Centre and half-length along the cord.
    p, q : float
        Centre in the section, in half-axes of the cord (p to the right, q to the front).
    radius_p, radius_q : float
        Half-axes in the section, in half-axes of the cord.
    softness : float
        Width of the edge relative to the lesion's own size; 0.1 is sharp, 0.6 diffuse.
    strength : tuple of float
        Contrast in each channel relative to that contrast's usual lesion, 0 where invisible.
    """

    height_mm: float
    half_length_mm: float
    p: float
    q: float
    radius_p: float
    radius_q: float
    softness: float
    strength: tuple[float, float]


@dataclass(frozen=True)
class Spine:
    """A spine as a table over `HEIGHTS_MM`, with its lesions.

    Attributes
    ----------
    table : ndarray of shape (parameters, heights), float32
    disc_mm : ndarray of shape (levels,)
        Heights of the centres of the discs, from C1/C2 (in name only) downwards.
    conus_mm : float
        Height of the cord's tip.
    lesions : tuple of LesionShape
    seed : int
        Seeds the details that `structures.py` adds (vessels, roots, textures).
    """

    table: Array
    disc_mm: Array
    conus_mm: float
    lesions: tuple[LesionShape, ...]
    seed: int

    def at(self, name: str, height_mm: float) -> float:
        """Look up one parameter at one height."""
        row = self.table[_PARAMETERS.index(name)]
        return float(np.interp(height_mm, HEIGHTS_MM, row))

    def rows(self) -> dict[str, int]:
        """Give the row of the table for each parameter."""
        return {name: row for row, name in enumerate(_PARAMETERS)}


def _wander(rng: np.random.Generator, scale_mm: float, amplitude: float) -> NDArray[np.float64]:
    """Draw a smooth random function of the height with standard deviation `amplitude`."""
    noise = gaussian_filter1d(rng.standard_normal(HEIGHTS_MM.size), scale_mm, mode="reflect")
    return np.asarray(noise * (amplitude / max(noise.std(), 1e-6)))


def _along(landmarks_mm: list[float], values: list[float]) -> NDArray[np.float64]:
    """Interpolate values given at landmarks (from top to bottom), smoothed over 8 mm."""
    line = np.interp(HEIGHTS_MM, landmarks_mm[::-1], values[::-1])
    return np.asarray(gaussian_filter1d(line, 8.0, mode="nearest"))


def _distance_to(centers_mm: NDArray[np.float64], half_mm: NDArray[np.float64]) -> Array:
    """Distance along the height to the nearest slab; negative inside."""
    gaps = np.abs(HEIGHTS_MM[:, None] - centers_mm[None]) - half_mm[None]
    return np.asarray(gaps.min(axis=1), np.float32)


def draw_spine(rng: np.random.Generator, lesion_count: int | None = None) -> Spine:
    """Draw a random spine with its lesions.

    Parameters
    ----------
    rng : numpy.random.Generator
    lesion_count : int, optional
        Number of lesions; drawn from 0 to 12 when None.

    Returns
    -------
    Spine
    """
    size = rng.uniform(0.85, 1.15)
    levels = _LEVEL_MM * size * rng.uniform(0.93, 1.07, _LEVEL_MM.size)
    disc = -8.0 * size - np.cumsum(levels)
    mark = {name: float(z) for name, z in zip(VERTEBRAE, disc, strict=True)}
    conus = mark["L1"] + rng.normal(0.0, 14.0)
    table = {name: np.zeros(HEIGHTS_MM.size) for name in _PARAMETERS}
    _draw_course(rng, table, mark)
    _draw_cord(rng, table, mark, conus)
    _draw_bones(rng, table, mark, disc, levels)
    _draw_canal(rng, table, mark, disc)
    _draw_outline(rng, table, mark)
    count = _draw_count(rng) if lesion_count is None else lesion_count
    return Spine(
        table=np.stack([table[name] for name in _PARAMETERS]).astype(np.float32),
        disc_mm=disc.astype(np.float32),
        conus_mm=float(conus),
        lesions=tuple(draw_lesion(rng, conus + 25.0, -5.0) for _ in range(count)),
        seed=int(rng.integers(2**31)),
    )


def _draw_course(
    rng: np.random.Generator, table: dict[str, NDArray[np.float64]], mark: dict[str, float]
) -> None:
    """Course of the cord's centre: lordosis, kyphosis, scoliosis, as integrated angles."""
    places = [60.0, 0.0, mark["C3"], mark["C6"], mark["T3"], mark["T8"], mark["L1"], mark["L5"]]
    usual = np.array([0, 2, 4, -8, -14, 4, 8, -22])
    sagittal = usual * rng.uniform(-0.4, 1.3) + rng.normal(0, 7, 8)
    coronal = rng.normal(0, 2.5, 8) * (1 + 2 * (rng.random() < 0.15))
    for name, angles in (("center_y", sagittal), ("center_x", coronal)):
        slope = np.tan(np.deg2rad(gaussian_filter1d(_along(places, list(angles)), 15.0)))
        line = np.cumsum(slope)
        table[name] = line - np.interp(0.0, HEIGHTS_MM, line)


def _draw_cord(
    rng: np.random.Generator,
    table: dict[str, NDArray[np.float64]],
    mark: dict[str, float],
    conus: float,
) -> None:
    """Half-axes of the cord with its two enlargements and the conus; grey matter's share."""
    places = [55, 32, 12, 0, mark["C2"], mark["C5"], mark["T1"], mark["T4"], mark["T9"],
              mark["T12"] + 10, conus + 22, conus + 8, conus, conus - 12]  # fmt: skip
    wide = [16, 17, 9, 6.6, 6.1, 6.6, 5.4, 4.7, 4.5, 4.9, 4.3, 2.6, 0.8, 0.4]
    deep = [13, 14, 7.5, 5.2, 4.1, 3.95, 3.6, 3.3, 3.3, 3.9, 3.7, 2.3, 0.8, 0.4]
    atrophy = rng.uniform(0.8, 1.0) if rng.random() < 0.2 else 1.0
    size = rng.normal(1.0, 0.06) * atrophy
    places = [float(place) for place in places]
    table["cord_a"] = (
        _along(places, wide) * size * rng.normal(1.0, 0.05) * (1 + _wander(rng, 15, 0.02))
    )
    table["cord_b"] = (
        _along(places, deep) * size * rng.normal(1.0, 0.06) * (1 + _wander(rng, 15, 0.025))
    )
    table["grey"] = _along(
        [0.0, mark["C5"], mark["T4"], mark["T9"], mark["T12"], conus],
        [0.85, 1.1, 0.75, 0.75, 1.15, 1.3],
    ) * rng.uniform(0.9, 1.1)
    prominent = rng.random() < 0.25
    table["canal_csf"] = np.clip(_wander(rng, 25, 0.35) + (0.3 if prominent else -0.5), 0, 1.3)


def _draw_bones(
    rng: np.random.Generator,
    table: dict[str, NDArray[np.float64]],
    mark: dict[str, float],
    disc: NDArray[np.float64],
    levels: NDArray[np.float64],
) -> None:
    """Vertebral bodies, discs (there is none between C1 and C2), spinous processes, roots."""
    half_disc = np.maximum(
        1.2, levels * rng.uniform(0.09, 0.16) * rng.uniform(0.5, 1.15, disc.size)
    )
    table["to_disc"] = _distance_to(disc[1:], half_disc[1:]).astype(float)
    middle = disc + levels * 0.45
    table["to_spinous"] = _distance_to(middle, levels * rng.uniform(0.17, 0.3)).astype(float)
    table["to_root"] = _distance_to(disc + levels * 0.1, levels * 0.14).astype(float)
    places = [0.0, mark["C2"], mark["C4"], mark["T1"], mark["T6"], mark["T12"], mark["L4"]]
    size = rng.uniform(0.85, 1.15)
    table["body_a"] = _along(places, [6, 9, 11, 13, 14, 20, 24]) * size
    table["body_d"] = _along(places, [10, 14, 15, 17, 24, 29, 33]) * size


def _draw_canal(
    rng: np.random.Generator,
    table: dict[str, NDArray[np.float64]],
    mark: dict[str, float],
    disc: NDArray[np.float64],
) -> None:
    """Dural sac round the cord, narrowed where discs bulge; the cord gives way to both."""
    places = [40.0, 10.0, mark["C1"], mark["C3"], mark["C6"], mark["T2"], mark["T8"],
              mark["L1"], mark["L4"], mark["S2"]]  # fmt: skip
    wide = [24, 16, 12.5, 11.2, 11.4, 8.8, 8.3, 9.8, 9.5, 4]
    deep = [20, 13, 8.6, 6.9, 6.6, 6.9, 7.0, 8.3, 8.0, 4]
    size = rng.uniform(0.85, 1.2)
    table["sac_a"] = _along(places, wide) * size * (1 + _wander(rng, 20, 0.03))
    table["sac_b"] = (
        _along(places, deep) * size * rng.uniform(0.9, 1.1) * (1 + _wander(rng, 20, 0.04))
    )
    bulge = np.zeros(HEIGHTS_MM.size)
    degenerate = rng.random() < 0.5
    for center in disc[1:]:
        depth = rng.gamma(1.2, 1.3 if degenerate else 0.4)
        bulge += min(depth, 6.0) * np.exp(-(((HEIGHTS_MM - center) / rng.uniform(3, 6)) ** 2))
    table["sac_b"] = np.maximum(table["sac_b"] - bulge / 2, 2.6)
    compressed = np.minimum(table["cord_b"], np.maximum(table["sac_b"] - 0.4, 1.0))
    below_brain = HEIGHTS_MM < 5
    table["cord_a"] = np.where(
        below_brain,
        table["cord_a"] * (table["cord_b"] / np.maximum(compressed, 0.3)) ** 0.4,
        table["cord_a"],
    )
    table["cord_b"] = np.where(below_brain, compressed, table["cord_b"])
    table["sac_a"] = np.maximum(
        table["sac_a"], np.where(below_brain, table["cord_a"] + 0.8, table["cord_a"] + 4)
    )
    room_y = np.maximum(table["sac_b"] - table["cord_b"] - 0.3, 0)
    room_x = np.maximum(table["sac_a"] - table["cord_a"] - 0.5, 0)
    drift = np.clip(_wander(rng, 40, 0.5) + rng.uniform(-0.4, 0.4), -0.95, 0.95)
    table["sac_y"] = drift * room_y
    table["sac_x"] = np.clip(_wander(rng, 40, 0.12), -0.6, 0.6) * room_x
    table["triangle"] = np.clip(rng.uniform(-0.02, 0.14) + _wander(rng, 30, 0.02), -0.05, 0.2)
    table["epidural"] = np.clip(
        _along(places, [0.5, 1, 1.5, 1.2, 1.5, 2.5, 3.5, 4, 5, 6]) * rng.uniform(0.3, 1.4)
        + _wander(rng, 12, 0.5), 0.2, 7.0,
    )  # fmt: skip


def _draw_outline(
    rng: np.random.Generator, table: dict[str, NDArray[np.float64]], mark: dict[str, float]
) -> None:
    """Skin, and the weights that say where neck, chest and brain are."""
    places = [110.0, 40.0, mark["C3"], mark["C6"], mark["T2"], mark["T8"], mark["L3"]]
    girth = rng.uniform(0.85, 1.25)
    table["skin_a"] = _along(places, [75, 75, 58, 62, 130, 160, 150]) * girth
    table["skin_b"] = _along(places, [95, 92, 62, 60, 85, 110, 105]) * girth
    table["skin_y"] = _along(places, [20, 18, 12, 14, 30, 45, 40]) * girth
    table["neck"] = _along(
        [60, mark["C1"], mark["C3"], mark["C7"], mark["T3"]], [0.3, 0.6, 1, 1, 0]
    )
    table["chest"] = _along([mark["C7"], mark["T2"], mark["T9"], mark["L1"]], [0, 1, 1, 0])
    table["brain"] = np.clip(HEIGHTS_MM / 8.0, -1.0, 1.0)


def _draw_count(rng: np.random.Generator) -> int:
    """Draw the number of lesions of a cord; long tailed, none in a fifth of the cords."""
    return 0 if rng.random() < 0.2 else int(min(1 + rng.geometric(0.22), 14))


def draw_lesion(
    rng: np.random.Generator,
    lowest_mm: float,
    highest_mm: float,
    visible: tuple[float, float] = (0.85, 0.85),
) -> LesionShape:
    """Draw one lesion between two heights.

    Parameters
    ----------
    rng : numpy.random.Generator
    lowest_mm, highest_mm : float
        Range of its centre along the cord.
    visible : tuple of float
        Probability of showing in the first and in the second channel; it always shows in one.

    Returns
    -------
    LesionShape
    """
    kind = rng.choice(
        ["lateral", "dorsal", "central", "ventral", "wide"], p=[0.36, 0.28, 0.12, 0.12, 0.12]
    )
    side = rng.choice([-1.0, 1.0])
    p, q = {
        "lateral": (side * rng.uniform(0.4, 0.85), rng.uniform(-0.45, 0.35)),
        "dorsal": (side * rng.uniform(0.0, 0.35), -rng.uniform(0.4, 0.85)),
        "central": (rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)),
        "ventral": (side * rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.8)),
        "wide": (rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)),
    }[str(kind)]
    radius = rng.uniform(0.55, 1.1) if kind == "wide" else rng.uniform(0.24, 0.58)
    shown = [rng.random() < chance for chance in visible]
    if not any(shown):
        shown[int(rng.integers(2))] = True
    strengths = [float(rng.uniform(0.6, 1.4)) * flag for flag in shown]
    return LesionShape(
        height_mm=float(rng.uniform(lowest_mm, highest_mm)),
        half_length_mm=float(np.exp(rng.uniform(np.log(2.5), np.log(16.0)))),
        p=float(p),
        q=float(q),
        radius_p=float(radius * rng.uniform(0.75, 1.1)),
        radius_q=float(radius * rng.uniform(0.9, 1.35)),
        softness=float(rng.uniform(0.08, 0.6) if kind == "wide" else rng.uniform(0.08, 0.35)),
        strength=(strengths[0], strengths[1]),
    )
