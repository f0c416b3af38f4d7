"""Make training examples: two channels of one anatomy, each with its own acquisition.

An example goes the way a real session goes: each contrast is acquired on its own grid; the
second is interpolated onto the first's grid with the misalignment that registration leaves;
both are resampled to the network's spacing by nnU-Net's own function and normalised by z-score.
Arrays here are in RAS order; the last step turns them to nnU-Net's (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_app.records import FloatArray
from bids_app.training.acquisition import (
    Protocol,
    apply_axes,
    degrade,
    draw_protocol,
    linear_matrix,
    slice_matrix,
)
from bids_app.training.anatomy import LesionShape
from bids_app.training.canvas import TISSUES
from bids_app.training.contrasts import draw_wide_contrast, render, usual_kind
from bids_app.training.poses import draw_patch_spine, fine_points
from bids_app.training.structures import Anatomy, paint

Array = FloatArray

# Share of a voxel that a structure must fill on the acquired grid to be labelled.
_CORD_SHARE, _LESION_SHARE = 0.5, 0.42


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes
    ----------
    image : ndarray of shape (2, z, y, x), float32
    target : ndarray of shape (2, z, y, x), uint8
        Regions: cord (lesions included), lesion.
    """

    image: Array
    target: NDArray[np.uint8]


def make_examples(
    rng: np.random.Generator,
    patch: tuple[int, int, int],
    spacing_mm: float,
    renderings: int,
    ease: float = 0.0,
    dense: bool = False,
) -> Iterator[Example]:
    """Draw one anatomy and render it several times.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : tuple of int
        Shape (z, y, x) of the network's patch.
    spacing_mm : float
        The network's isotropic spacing.
    renderings : int
        Examples made of the one anatomy; contrasts, protocols and artefacts differ.
    ease : float
        From 0, the full range of difficulty, to 1: stronger lesions and less noise. Lesions
        are hardly learned at all when training starts with faint ones.
    dense : bool
        Patches on the cord, the field of view never cropped; many lesions unless `ease` is 0.

    Yields
    ------
    Example
    """
    shape = (patch[2] + 8, patch[1] + 8, patch[0] + 8)
    size_mm = (patch[0] * spacing_mm, min(patch) * spacing_mm)
    spine, pose = draw_patch_spine(rng, size_mm, dense, ease > 0)
    spine = replace(spine, lesions=tuple(_strengthen(x, 1 + ease) for x in spine.lesions))
    anatomy = paint(spine, fine_points(shape, spacing_mm, pose), spacing_mm)
    for _ in range(renderings):
        yield _flip(rng, render_example(rng, anatomy, patch, spacing_mm, 1 - 0.7 * ease, dense))


def _strengthen(lesion: LesionShape, factor: float) -> LesionShape:
    first, second = lesion.strength
    return replace(lesion, strength=(first * factor, second * factor))


def _flip(rng: np.random.Generator, example: Example) -> Example:
    """Mirror left and right: anatomy has no preferred side, the generator has a few."""
    if rng.random() < 0.5:
        return example
    return Example(
        np.ascontiguousarray(example.image[..., ::-1]),
        np.ascontiguousarray(example.target[..., ::-1]),
    )


def render_example(
    rng: np.random.Generator,
    anatomy: Anatomy,
    patch: tuple[int, int, int],
    spacing_mm: float,
    noise: float = 1.0,
    whole: bool = False,
) -> Example:
    """Render an anatomy once, as a session with one or two contrasts.

    A second contrast that is alone is acquired as it is read: on its own grid, moved by nothing.
    """
    present = _draw_present(rng)
    lead = 0 if present[0] else 1
    fine = tuple(_centered(n, spacing_mm) for n in anatomy.shape)
    contrast = draw_wide_contrast(rng, lead)
    protocol = draw_protocol(rng, usual_kind(rng, contrast.name))
    field = _draw_field(rng, patch, spacing_mm, whole)
    grid = tuple(
        _aside(rng, _centered(max(2, round(mm / s)), s), spacing_mm)
        for mm, s in zip(field, protocol.spacing_mm, strict=True)
    )
    acquire = _matrices(fine, grid, protocol, _draw_ringing(rng))
    channels: list[Array | None] = [None, None]
    image = render(_uneven_grey(rng, anatomy), contrast, lead, rng)
    signal = apply_axes(_uneven_cord(rng, anatomy, image), acquire)
    channels[lead] = degrade(signal, protocol, rng, contrast.noise_floor, noise)
    if all(present):
        channels[1] = _second(rng, anatomy, fine, grid, noise)
    regions = np.stack([anatomy.cord, visible_lesions(anatomy, present)])
    regions = apply_axes(regions, _matrices(fine, grid, protocol, (0.0, 1.0)))
    images = [
        None if c is None else _to_network(c[None], protocol, spacing_mm)[0] for c in channels
    ]
    target = _to_network(regions, protocol, spacing_mm)
    return _finish(rng, images, target, patch)


def _draw_present(rng: np.random.Generator) -> tuple[bool, bool]:
    """Which channels there are: one alone in nine of ten examples, as a session is read.

    The second a little more often: it has more kinds, and fewer of its lesions are found.
    """
    chance = rng.random()
    return (True, True) if chance < 0.1 else ((True, False) if chance < 0.52 else (False, True))


def _draw_field(
    rng: np.random.Generator, patch: tuple[int, int, int], spacing_mm: float, whole: bool
) -> tuple[float, float, float]:
    """Field of view in RAS order: usually fills the patch, at times cropped."""
    full = np.array(patch[::-1]) * spacing_mm
    if not whole and rng.random() < 0.25:
        full = full * np.array([rng.uniform(0.36, 1), rng.uniform(0.38, 1), rng.uniform(0.35, 1)])
    return float(full[0]), float(full[1]), float(full[2])


def _draw_ringing(rng: np.random.Generator) -> tuple[float, float]:
    """Share and width of the sinc profile: bright CSF rings into the cord in half of the scans.

    In some of them at the highest frequency that the voxels can hold, from one to the next.
    """
    if rng.random() < 0.5:
        return 0.0, 1.0
    width = 1.0 if rng.random() < 0.35 else rng.uniform(1.0, 1.6)
    return rng.uniform(0.2, 1.0), width


def _uneven_cord(rng: np.random.Generator, anatomy: Anatomy, image: Array) -> Array:
    """Let the cord be brighter here than there, without a lesion.

    Along a real cord the signal wanders by a tenth over a centimetre or two, and not with that of
    the tissues round it.
    """
    weights = rng.uniform(-0.06, 0.06, 2) * (rng.random() < 0.6)
    field = np.tensordot(weights.astype(np.float32), anatomy.texture[:2], 1)
    return np.asarray(image * (1 + anatomy.cord * field), np.float32)


def _uneven_grey(rng: np.random.Generator, anatomy: Anatomy) -> Anatomy:
    """Let grey matter be seen better in some places than in others: it is no lesion there."""
    weights = rng.uniform(-0.8, 0.8, 3) * (rng.random() < 0.6)
    grey = TISSUES.index("grey")
    noise = anatomy.texture.reshape(3, -1)
    layers = []
    for layer in anatomy.layers:
        if layer.tissue == grey:
            share = np.clip(1 + weights.astype(np.float32) @ noise[:, layer.where], 0, 1)
            layer = replace(layer, membership=layer.membership * share)
        layers.append(layer)
    return replace(anatomy, layers=tuple(layers))


def _centered(count: int, spacing_mm: float) -> Array:
    """Positions of a centred axis, mm."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * spacing_mm, np.float32)


def _aside(rng: np.random.Generator, axis_mm: Array, painted_mm: float) -> Array:
    """Move an axis off the painted grid by part of its voxel.

    On that grid a sinc as wide as its voxels rings nowhere, unlike in a scanner.
    """
    return axis_mm + np.float32(rng.uniform(-0.5, 0.5) * painted_mm)


def _matrices(
    fine: tuple[Array, ...],
    grid: tuple[Array, ...],
    protocol: Protocol,
    ringing: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """Acquisition matrices of the three axes; ringing along the in-plane ones."""
    thick = int(np.argmax(protocol.spacing_mm)) if protocol.kind != "isotropic" else -1
    rows = [
        slice_matrix(
            *(fine[a], grid[a], protocol.thickness_mm[a]), *((0.0, 1.0) if a == thick else ringing)
        )
        for a in range(3)
    ]
    return rows[0], rows[1], rows[2]


def _second(
    rng: np.random.Generator,
    anatomy: Anatomy,
    fine: tuple[Array, ...],
    grid: tuple[Array, ...],
    noise: float,
) -> Array:
    """Acquire the second contrast on a grid of its own and bring it to the first's."""
    contrast = draw_wide_contrast(rng, 1)
    protocol = draw_protocol(rng, usual_kind(rng, contrast.name))
    step_mm = float(fine[0][1] - fine[0][0])
    own = tuple(
        _aside(rng, _centered(max(2, int(axis.size * step_mm / s)), s), step_mm)
        for axis, s in zip(fine, protocol.spacing_mm, strict=True)
    )
    acquire = _matrices(fine, own, protocol, _draw_ringing(rng))
    image = render(_uneven_grey(rng, anatomy), contrast, 1, rng)
    signal = apply_axes(_uneven_cord(rng, anatomy, image), acquire)
    image = degrade(signal, protocol, rng, contrast.noise_floor, noise)
    upsample = [linear_matrix(source, target) for source, target in zip(own, fine, strict=True)]
    image = apply_axes(image, (upsample[0], upsample[1], upsample[2]))
    image = misalign(rng, image, step_mm)
    sample = [linear_matrix(source, target) for source, target in zip(fine, grid, strict=True)]
    image = apply_axes(image, (sample[0], sample[1], sample[2]))
    if rng.random() < 0.12:
        _cut_field(rng, image)
    return image


def _cut_field(rng: np.random.Generator, image: Array) -> None:
    """Blank an end of the image: the second contrast often covers less."""
    axis = int(rng.choice([0, 1, 2, 2, 2]))
    cut = int(image.shape[axis] * rng.uniform(0.1, 0.6))
    where = [slice(None)] * 3
    where[axis] = slice(0, cut) if rng.random() < 0.5 else slice(image.shape[axis] - cut, None)
    image[tuple(where)] = 0


def misalign(rng: np.random.Generator, image: Array, spacing_mm: float) -> Array:
    """Shift and turn by what registration leaves: mostly below half a millimetre and a degree."""
    scale = rng.choice([0.0, 0.3, 0.8, 1.5], p=[0.24, 0.32, 0.24, 0.2])
    shift = rng.normal(0, scale, 3)
    turn = Rotation.from_euler("xyz", rng.normal(0, 0.8 * scale, 3), degrees=True).as_matrix()
    half = np.array(image.shape) * spacing_mm / 2
    # affine_grid speaks in half-widths and in (z, y, x) order; our axes are its reversed ones.
    matrix = (turn * half[None, :] / half[:, None])[::-1, ::-1].copy()
    theta = np.concatenate([matrix, (shift / half)[::-1, None]], axis=1).astype(np.float32)
    size = [1, 1, *image.shape]
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta)[None], size, align_corners=False)
    moved = torch.nn.functional.grid_sample(
        torch.from_numpy(image)[None, None], grid, padding_mode="border", align_corners=False
    )
    return np.asarray(moved[0, 0].numpy())


def visible_lesions(anatomy: Anatomy, present: tuple[bool, bool]) -> Array:
    """Union of the lesions that show in a channel that is there."""
    union = np.zeros(anatomy.cord.size, np.float32)
    for where, membership, strengths in anatomy.lesions:
        if any(strength and here for strength, here in zip(strengths, present, strict=True)):
            union[where] = np.maximum(union[where], membership)
    return union.reshape(anatomy.shape)


def _to_network(image: Array, protocol: Protocol, spacing_mm: float) -> Array:
    """Resample (c, i, j, k) to the network's spacing by nnU-Net's function; gives (c, z, y, x)."""
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

    data = np.ascontiguousarray(image.transpose(0, 3, 2, 1))
    current = protocol.spacing_mm[::-1]
    shape = [round(n * s / spacing_mm) for n, s in zip(data.shape[1:], current, strict=True)]
    resampled = resample_torch_fornnunet(data, shape, current, [spacing_mm] * 3, num_threads=1)
    return np.asarray(resampled, np.float32)


def _finish(
    rng: np.random.Generator,
    image: list[Array | None],
    regions: Array,
    patch: tuple[int, int, int],
) -> Example:
    """Normalise, threshold, and crop or pad to the patch at a random place."""
    target = np.stack([regions[0] > _CORD_SHARE, regions[1] > _LESION_SHARE])
    target[0] |= target[1]
    size = regions.shape[1:]
    start = [
        int(rng.integers(min(0, p - n), max(0, p - n) + 1))
        for n, p in zip(size, patch, strict=True)
    ]
    into = tuple(
        slice(max(0, s), max(0, s) + min(n, p)) for s, n, p in zip(start, size, patch, strict=True)
    )
    out_of = tuple(
        slice(max(0, -s), max(0, -s) + min(n, p))
        for s, n, p in zip(start, size, patch, strict=True)
    )
    canvas = np.zeros((2, *patch), np.float32)
    labels = np.zeros((2, *patch), np.uint8)
    labels[(slice(None), *into)] = target[(slice(None), *out_of)]
    for channel, data in enumerate(image):
        if data is not None:
            canvas[channel][into] = _normalise(rng, data)[out_of]
    return Example(canvas, labels)


def _normalise(rng: np.random.Generator, data: Array) -> Array:
    """Z-score, then what a different field of view or windowing would have changed of it."""
    if rng.random() < 0.3:
        low = float(data.min())
        span = max(float(data.max()) - low, 1e-6)
        data = ((data - low) / span) ** np.exp(rng.normal(0, 0.25)) * span + low
    data = (data - data.mean()) / max(float(data.std()), 1e-6)
    # Air, brain and fat outside the patch move the mean and widen the spread of a real scan.
    gain = np.exp(rng.normal(0.05, 0.38))
    return np.asarray(data * gain + rng.normal(0, 0.5) * gain, np.float32)
