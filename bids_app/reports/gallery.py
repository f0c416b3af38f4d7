"""Pictures of a reference and of several models on the slice where the models differ most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_app.records import BoolArray, FloatArray
from bids_app.reports.pictures import data_address, outline
from bids_app.reports.view import Picture, axial, enlarge, sagittal, to_grey

PLANES = ("sagittal", "coronal", "axial")
_MARGIN_MM = 15.0
_SMALLEST_MM = 45.0
_WIDEST_PIXELS = 300.0
_PIXELS_PER_MM = 6.0
# Slices this much thicker than wide were acquired as slices: they are shown as such.
_THICK = 1.5
_REFERENCE, _RIGHT, _MISSED, _FALSE = (
    (255, 255, 255),
    (0, 158, 115),
    (86, 180, 233),
    (213, 94, 0),
)
_OPACITY = 0.55


@dataclass(frozen=True)
class GalleryView:
    """A scan's masks on one grid in canonical orientation (right, front, head).

    Attributes
    ----------
    image : ndarray of shape (i, j, k) or None
    reference : ndarray of bool
    models : mapping of str to ndarray of bool
    spacing_mm : tuple of float
    note : str or None
        Why there is no image.
    """

    image: FloatArray | None
    reference: BoolArray
    models: Mapping[str, BoolArray]
    spacing_mm: tuple[float, float, float]
    note: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """One scan of the gallery.

    Attributes
    ----------
    test_set, scan : str
    captions : mapping of str to str
        What is said below each model's picture.
    view : GalleryView or None
    note : str or None
        Why there are no pictures.
    """

    test_set: str
    scan: str
    captions: Mapping[str, str]
    view: GalleryView | None
    note: str | None = None


def choose_slice(view: GalleryView) -> tuple[int, int]:
    """Choose plane and slice: as acquired, where most voxels divide the models.

    Where all models agree, where they differ most from the reference; without any lesion, the
    middle.

    Returns
    -------
    axis, index : int

    Examples
    --------
    >>> one, two = np.zeros((2, 3, 3, 4), bool)
    >>> two[1, 2, 3] = True
    >>> choose_slice(GalleryView(None, one, {"a": one, "b": two}, (1.0, 1.0, 4.0)))
    (2, 3)
    """
    thick = int(np.argmax(view.spacing_mm))
    others = [s for axis, s in enumerate(view.spacing_mm) if axis != thick]
    # Isotropic images are cut along the cord.
    axis = thick if view.spacing_mm[thick] >= _THICK * min(others) else 0
    across = tuple(other for other in range(3) if other != axis)
    masks = list(view.models.values())
    divided = np.logical_or.reduce(masks) & ~np.logical_and.reduce(masks)
    wrong = np.logical_or.reduce([mask ^ view.reference for mask in masks])
    for mask in (divided, wrong, view.reference):
        if mask.any():
            return axis, int(mask.sum(axis=across).argmax())
    return axis, view.reference.shape[axis] // 2


def pictures(view: GalleryView) -> tuple[dict[str, str], str]:
    """Draw the scan alone, with its reference, and with each model, all cut alike.

    Returns
    -------
    pictures : dict
        By ``image``, ``reference`` and model: the picture as a data address.
    place : str
        Plane and slice, for the caption.
    """
    axis, index = choose_slice(view)
    planes = {name: _cut(mask, axis, index) for name, mask in view.models.items()}
    reference = _cut(view.reference, axis, index)
    spacing = _plane_spacing(view.spacing_mm, axis)
    window = _window([reference, *planes.values()], spacing)
    height, width = ((part.stop - part.start) * s for part, s in zip(window, spacing, strict=True))
    scale = min(_PIXELS_PER_MM, _WIDEST_PIXELS / width, 1.6 * _WIDEST_PIXELS / height)
    grey = _grey(view, axis, index, window, spacing, scale)
    known = _enlarged(reference[window], spacing, scale)
    result = {"image": data_address(grey)} if view.image is not None else {}
    result["reference"] = data_address(_painted(grey, known, known))
    for name, plane in planes.items():
        result[f"model {name}"] = data_address(
            _painted(grey, known, _enlarged(plane[window], spacing, scale))
        )
    return result, f"{PLANES[axis]} slice {index + 1} of {view.reference.shape[axis]}"


def _cut(data: NDArray[np.generic], axis: int, index: int) -> NDArray[np.generic]:
    if axis == 0:
        return sagittal(data, index)
    if axis == 2:
        return axial(data, index)
    # Coronal: head at the top, the patient's left on the right.
    return np.asarray(data[:, index].T[::-1, ::-1])


def _plane_spacing(spacing_mm: tuple[float, float, float], axis: int) -> tuple[float, float]:
    """Give the spacing of a plane's rows and columns."""
    i, j, k = spacing_mm
    return ((k, j), (k, i), (j, i))[axis]


def _window(
    masks: list[NDArray[np.generic]], spacing_mm: tuple[float, float]
) -> tuple[slice, slice]:
    """Cut to the lesions of all masks and some surroundings; everything without a lesion."""
    any_of = np.logical_or.reduce(masks)
    if not any_of.any():
        return slice(0, any_of.shape[0]), slice(0, any_of.shape[1])
    parts = []
    for axis, step in enumerate(spacing_mm):
        inside = np.flatnonzero(any_of.any(axis=1 - axis))
        low, high = int(inside[0]), int(inside[-1]) + 1
        margin = max(_MARGIN_MM, (_SMALLEST_MM - (high - low) * step) / 2)
        pad = round(margin / step)
        parts.append(slice(max(0, low - pad), min(any_of.shape[axis], high + pad)))
    return parts[0], parts[1]


def _grey(
    view: GalleryView,
    axis: int,
    index: int,
    window: tuple[slice, slice],
    spacing: tuple[float, float],
    scale: float,
) -> Picture:
    if view.image is None:
        plane = np.full(view.reference[:, :, :].shape, 40, np.uint8)
        cut = _cut(plane, axis, index)[window]
    else:
        # Windowed by the whole slice, so that a small window does not look brighter.
        cut = to_grey(np.asarray(_cut(view.image, axis, index), np.float32))[window]
    grey = np.asarray(enlarge(cut, spacing, scale, 1), np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _enlarged(mask: NDArray[np.generic], spacing: tuple[float, float], scale: float) -> BoolArray:
    return np.asarray(enlarge(mask.astype(np.uint8), spacing, scale, 0)) > 0


def _painted(grey: Picture, known: BoolArray, found: BoolArray) -> Picture:
    """Fill what is right, missed and false, and outline the reference."""
    drawn = grey.astype(np.float32)
    for mask, color in (
        (known & found, _RIGHT),
        (known & ~found, _MISSED),
        (found & ~known, _FALSE),
    ):
        drawn[mask] = (1 - _OPACITY) * drawn[mask] + _OPACITY * np.array(color, np.float32)
    colors = np.array([(0, 0, 0), _REFERENCE], np.uint8)
    return outline(np.asarray(drawn, np.uint8), known.astype(np.intp), colors)
