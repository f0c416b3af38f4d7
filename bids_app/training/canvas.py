"""Tissues, soft-edged layers of them, and the cord's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_app.records import FloatArray

Array = FloatArray

TISSUES = (
    "air", "muscle", "fat", "skin_fat", "bone", "marrow", "disc", "nucleus", "ligament", "csf",
    "cord", "grey", "canal", "root", "epidural", "vessel_a", "vessel_b", "vessel_c", "airway",
    "oesophagus", "lung", "organ_a", "organ_b", "brain", "cerebellum", "implant", "vein",
    "cartilage",
)  # fmt: skip
TISSUE = {name: index for index, name in enumerate(TISSUES)}


@dataclass(frozen=True)
class Layer:
    """A tissue painted over `where` (flat indices) with `membership` in [0, 1]."""

    tissue: int
    where: NDArray[np.int64]
    membership: Array


class Canvas:
    """Collects layers; keeps only the points a layer touches."""

    def __init__(self, count: int, blur_mm: float) -> None:
        self.layers: list[Layer] = [
            Layer(TISSUE["air"], np.arange(count), np.ones(count, np.float32))
        ]
        self.blur_mm = blur_mm

    def soft(self, inside_mm: Array) -> Array:
        """Membership from the depth below a surface (positive inside)."""
        return np.asarray(np.clip(inside_mm / self.blur_mm + 0.5, 0, 1), np.float32)

    def paint(self, tissue: str, inside_mm: Array, where: NDArray[np.int64] | None = None) -> None:
        """Paint a tissue where the depth is above minus half a blur."""
        near = np.flatnonzero(inside_mm > -0.5 * self.blur_mm)
        if near.size == 0:
            return
        index = near if where is None else where[near]
        self.layers.append(Layer(TISSUE[tissue], index, self.soft(inside_mm[near])))

    def cover(self, tissue: str, membership: Array, where: NDArray[np.int64]) -> None:
        """Paint a tissue with a given membership."""
        keep = membership > 0.01
        if keep.any():
            self.layers.append(Layer(TISSUE[tissue], where[keep], membership[keep]))


@dataclass(frozen=True)
class Frame:
    """Points in cord coordinates, and the spine's table looked up at their heights."""

    u: Array
    v: Array
    h: Array
    value: dict[str, Array]

    def take(self, where: NDArray[np.int64], *names: str) -> Frame:
        """Restrict to some points and parameters."""
        return Frame(
            self.u[where], self.v[where], self.h[where],
            {name: self.value[name][where] for name in names},
        )  # fmt: skip


def ellipse(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """Approximate depth below an ellipse's edge along the ray from its centre, mm."""
    rho = np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-6
    return np.asarray(np.sqrt(u * u + v * v) * (1 / rho - 1), np.float32)
