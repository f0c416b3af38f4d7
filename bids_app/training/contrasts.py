"""Draw the intensities of a contrast: realistic ranges for known ones, anything for the rest.

Ranges are relative to a maximum of one. They are read off typical images, not fitted to any;
domain randomisation (Billot et al. 2023, SynthSeg, doi:10.1016/j.media.2023.102789) asks that
the training contrasts be wider than reality, not that they match it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bids_app.records import FloatArray
from bids_app.training.canvas import TISSUES
from bids_app.training.structures import Anatomy

Array = FloatArray
Range = tuple[float, float]

# Tissue ranges; `grey` and `lesion` are offsets from the cord.
_COMMON: dict[str, Range] = {
    "air": (0.0, 0.03), "airway": (0.0, 0.04), "lung": (0.01, 0.12), "implant": (0.5, 1.3),
    "bone": (0.01, 0.12), "ligament": (0.02, 0.15), "vessel_a": (0.02, 0.9),
    "vessel_b": (0.02, 0.9), "vessel_c": (0.02, 0.9), "vein": (0.1, 0.9), "organ_a": (0.1, 0.8),
    "organ_b": (0.1, 0.8), "oesophagus": (0.1, 0.5), "cartilage": (0.1, 0.6),
}  # fmt: skip
_CONTRASTS: dict[str, dict[str, Range]] = {
    "T2w": {
        "csf": (0.75, 1.0), "cord": (0.22, 0.5), "grey": (0.0, 0.08), "lesion": (0.12, 0.4),
        "muscle": (0.06, 0.28), "fat": (0.25, 0.95), "marrow": (0.1, 0.6), "disc": (0.08, 0.35),
        "nucleus": (0.08, 0.75), "root": (0.2, 0.5), "canal": (0.5, 1.0),
    },
    "STIR": {
        "csf": (0.8, 1.0), "cord": (0.28, 0.5), "grey": (0.0, 0.1), "lesion": (0.14, 0.45),
        "muscle": (0.12, 0.35), "fat": (0.0, 0.12), "marrow": (0.03, 0.2), "disc": (0.05, 0.3),
        "nucleus": (0.1, 0.7), "root": (0.3, 0.6), "canal": (0.5, 1.0),
    },
    "T2starw": {
        "csf": (0.6, 1.0), "cord": (0.38, 0.6), "grey": (0.04, 0.22), "lesion": (0.1, 0.32),
        "muscle": (0.2, 0.5), "fat": (0.2, 0.6), "marrow": (0.05, 0.3), "disc": (0.2, 0.6),
        "nucleus": (0.3, 0.7), "root": (0.4, 0.65), "canal": (0.5, 0.9),
    },
    "T1w": {
        "csf": (0.08, 0.28), "cord": (0.4, 0.65), "grey": (-0.08, 0.0), "lesion": (-0.22, -0.07),
        "muscle": (0.25, 0.5), "fat": (0.7, 1.0), "marrow": (0.35, 0.8), "disc": (0.25, 0.5),
        "nucleus": (0.25, 0.45), "root": (0.3, 0.5), "canal": (0.15, 0.4),
    },
    "PSIR": {
        "csf": (0.0, 0.15), "cord": (0.65, 0.95), "grey": (-0.25, -0.06), "lesion": (-0.5, -0.15),
        "muscle": (0.45, 0.75), "fat": (0.75, 1.0), "marrow": (0.5, 0.95), "disc": (0.3, 0.6),
        "nucleus": (0.2, 0.5), "root": (0.4, 0.7), "canal": (0.1, 0.5),
        "air": (0.2, 0.5), "bone": (0.2, 0.5), "airway": (0.2, 0.5),
    },
    "UNIT1": {
        "csf": (0.0, 0.12), "cord": (0.6, 0.9), "grey": (-0.25, -0.06), "lesion": (-0.5, -0.15),
        "muscle": (0.35, 0.6), "fat": (0.6, 1.0), "marrow": (0.5, 0.9), "disc": (0.25, 0.5),
        "nucleus": (0.2, 0.45), "root": (0.4, 0.7), "canal": (0.1, 0.4),
    },
    "MT": {
        "csf": (0.3, 0.9), "cord": (0.25, 0.55), "grey": (0.02, 0.15), "lesion": (0.08, 0.25),
        "muscle": (0.1, 0.4), "fat": (0.4, 1.0), "marrow": (0.2, 0.7), "disc": (0.2, 0.5),
        "nucleus": (0.2, 0.6), "root": (0.3, 0.55), "canal": (0.3, 0.8),
    },
}  # fmt: skip
_FIRST = (
    ("T2w", 0.56),
    ("T2starw", 0.10),
    ("T1w", 0.09),
    ("MT", 0.07),
    ("UNIT1", 0.04),
    ("any", 0.14),
)
_SECOND = (("STIR", 0.2), ("PSIR", 0.25), ("UNIT1", 0.25), ("T1w", 0.08), ("T2starw", 0.1),
           ("T2w", 0.03), ("any", 0.09))  # fmt: skip
# Share of scans acquired as usual for their contrast.
_USUAL = 0.7


@dataclass(frozen=True)
class Contrast:
    """The signal of each tissue.

    Attributes
    ----------
    name : str
    signal : ndarray of shape (tissues,), float32
    lesion : float
        Change of the cord's signal by a lesion of strength one.
    noise_floor : bool
        True where the background is noise (UNIT1) instead of dark.
    """

    name: str
    signal: Array
    lesion: float
    noise_floor: bool


def draw_contrast(rng: np.random.Generator, channel: int, name: str | None = None) -> Contrast:
    """Draw a contrast for the first (0) or second (1) channel, or a named one.

    Parameters
    ----------
    rng : numpy.random.Generator
    channel : int
    name : str, optional
        ``T2w``, ``STIR``, ``T2starw``, ``T1w``, ``PSIR``, ``UNIT1``, ``MT`` or ``any``.
    """
    if name is None:
        names, shares = zip(*(_FIRST, _SECOND)[channel], strict=True)
        name = str(rng.choice(names, p=shares))
    ranges = _any_ranges(rng) if name == "any" else _COMMON | _CONTRASTS[name]
    value = {tissue: float(rng.uniform(*limits)) for tissue, limits in ranges.items()}
    cord = value["cord"]
    value["grey"] = cord + value["grey"]
    value.setdefault("skin_fat", value["fat"] * rng.uniform(0.8, 1.2))
    value.setdefault("epidural", value["fat"] * rng.uniform(0.5, 1.1))
    value.setdefault("brain", cord * rng.uniform(0.8, 1.2))
    value.setdefault("cerebellum", cord * rng.uniform(0.75, 1.25))
    signal = np.array([value[tissue] for tissue in TISSUES], np.float32)
    floor = name == "UNIT1" and bool(rng.random() < 0.6)
    return Contrast(name, signal, value["lesion"], floor)


def draw_wide_contrast(rng: np.random.Generator, channel: int) -> Contrast:
    """Draw a contrast for training: at times with more grey matter to be seen than is usual.

    Grey matter that stands out is what a network takes for lesion on real scans.

    Parameters
    ----------
    rng : numpy.random.Generator
    channel : int
    """
    contrast = draw_contrast(rng, channel)
    cord, grey = TISSUES.index("cord"), TISSUES.index("grey")
    signal = contrast.signal.copy()
    if rng.random() < 0.4:
        side = np.sign(contrast.lesion)
        signal[grey] += side * rng.uniform(0, 0.5) * abs(contrast.lesion)
        signal[grey] = max(float(signal[grey]), 0.2 * float(signal[cord]))
    return replace(contrast, signal=signal)


def usual_kind(rng: np.random.Generator, name: str) -> str | None:
    """Draw how a contrast is usually acquired; None leaves it open.

    Examples
    --------
    >>> usual_kind(np.random.default_rng(0), "T2w") is None
    True
    """
    kind = {"T2starw": "axial", "MT": "axial", "UNIT1": "isotropic"}.get(name)
    return kind if rng.random() < _USUAL else None


def _any_ranges(rng: np.random.Generator) -> dict[str, Range]:
    """Ranges of an unknown contrast: all free, the lesion on the CSF's side of the cord."""
    ranges: dict[str, Range] = dict.fromkeys(TISSUES, (0.0, 1.0))
    ranges |= {key: _COMMON[key] for key in ("air", "airway", "bone")}
    for derived in ("skin_fat", "epidural", "brain", "cerebellum"):
        del ranges[derived]
    cord = rng.uniform(0.15, 0.85)
    gap = rng.uniform(0.12, 0.6) * rng.choice([-1, 1])
    csf = float(np.clip(cord + gap, 0.0, 1.0))
    sign = float(np.sign(csf - cord)) or 1.0
    ranges["cord"], ranges["csf"] = (cord, cord), (csf, csf)
    ranges["grey"] = (sign * 0.0, sign * 0.1) if sign > 0 else (-0.1, 0.0)
    ranges["lesion"] = (0.1, 0.35) if sign > 0 else (-0.35, -0.1)
    return ranges


def render(anatomy: Anatomy, contrast: Contrast, channel: int, rng: np.random.Generator) -> Array:
    """Paint an anatomy with a contrast.

    Parameters
    ----------
    anatomy : Anatomy
    contrast : Contrast
    channel : int
        Which of a lesion's two strengths counts.
    rng : numpy.random.Generator
        Draws the textures.

    Returns
    -------
    ndarray of shape `anatomy.shape`, float32
        Noise-free signal, not clipped.
    """
    noise = anatomy.texture.reshape(3, -1)
    mixed = rng.normal(0, 1, 3).astype(np.float32)
    mixed /= max(float(np.abs(mixed).sum()), 1e-3)
    grain = mixed @ noise[:, : noise.shape[1]]
    image = np.zeros(noise.shape[1], np.float32)
    spread = _spreads(rng)
    for layer in anatomy.layers:
        value = contrast.signal[layer.tissue] * (1 + spread[layer.tissue] * grain[layer.where])
        image[layer.where] += layer.membership * (value - image[layer.where])
    _add_flow(anatomy, contrast, image, rng)
    base = contrast.signal[TISSUES.index("cord")]
    for where, membership, strengths in anatomy.lesions:
        if strengths[channel]:
            target = base + contrast.lesion * strengths[channel]
            image[where] += membership * (target - image[where])
    return image.reshape(anatomy.shape)


def _spreads(rng: np.random.Generator) -> Array:
    """Relative signal variation inside each tissue; small in the cord."""
    spread = rng.uniform(0.0, 0.35, len(TISSUES)).astype(np.float32)
    for tissue, most in (
        ("cord", 0.04),
        ("grey", 0.03),
        ("csf", 0.12),
        ("root", 0.1),
        ("canal", 0.1),
    ):
        spread[TISSUES.index(tissue)] = rng.uniform(0, most)
    return spread


def _add_flow(anatomy: Anatomy, contrast: Contrast, image: Array, rng: np.random.Generator) -> None:
    """Darken parts of a bright CSF where it flows."""
    csf = TISSUES.index("csf")
    if contrast.signal[csf] < 0.5 or rng.random() < 0.5:
        return
    depth = rng.uniform(0.1, 0.75)
    noise = anatomy.texture.reshape(3, -1)
    for layer in anatomy.layers:
        if layer.tissue == csf:
            void = np.clip(noise[1][layer.where] * 0.8 + noise[0][layer.where] - 0.9, 0, 1)
            cord = anatomy.cord.reshape(-1)[layer.where]
            image[layer.where] *= 1 - depth * void * (1 - cord) * layer.membership
