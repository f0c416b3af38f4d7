"""The pictures of a session report: colours as arrays, and PNG for a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from bids_app.records import IntArray
from bids_app.reports.view import (
    Picture,
    SessionView,
    axial,
    cord_course,
    enlarge,
    follow,
    project,
    sagittal,
    to_grey,
)

_CARD_PIXELS_PER_MM = 5.0
_CARD_HALF_MM = (16.0, 16.0, 26.0)
_OVERVIEW_PIXELS_PER_MM = 4.0
_CORD_COLOR = (120, 170, 255)
_LOAD_COLUMNS, _LOAD_COLOR = 90, (230, 159, 0)
# Half the time of the usual 6, and a twentieth more in size.
_PNG_LEVEL = 3


@dataclass(frozen=True)
class LesionPictures:
    """The cuts through one lesion, each as a data address; None without a second contrast."""

    axial: str
    sagittal: str
    axial_second: str | None
    slice_number: int


def data_address(picture: Picture) -> str:
    """Write a picture as PNG into a ``data:`` address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def outline(picture: Picture, labels: IntArray, colors: NDArray[np.uint8]) -> Picture:
    """Draw the inner border of each label.

    Parameters
    ----------
    picture : ndarray of shape (rows, columns, 3)
    labels : ndarray of shape (rows, columns)
    colors : ndarray of shape (labels + 1, 3)
        By label; label 0 is not drawn.
    """
    drawn = picture.copy()
    border = find_boundaries(labels, mode="inner") & (labels > 0)
    drawn[border] = colors[labels[border]]
    return drawn


def overview(view: SessionView, colors: NDArray[np.uint8]) -> dict[str, str]:
    """Show the whole cord along its course, bent straight from side to side.

    Returns
    -------
    dict
        ``plain``, ``lesions`` (outlines of cord and lesions, seen through from the side),
        ``uncertainty`` and ``load`` (share of each section that is lesion, as bars), all of one
        height.
    """
    course, spacing = cord_course(view.cord), _sagittal_spacing(view)
    grey = _enlarged_grey(follow(view.reference, course), spacing, _OVERVIEW_PIXELS_PER_MM)
    cord = _enlarged(follow(view.cord.astype(np.uint8), course), spacing)
    lesions = _enlarged(project(view.instances), spacing)
    marked = outline(grey, cord, np.array([(0, 0, 0), _CORD_COLOR], np.uint8))
    doubt = view.uncertainty.max(axis=0).T[::-1, ::-1]
    doubt = enlarge(doubt, spacing, _OVERVIEW_PIXELS_PER_MM, 1)
    heat = np.asarray(colormaps["viridis"](doubt)[..., :3] * 255, np.uint8)
    return {
        "plain": data_address(grey),
        "lesions": data_address(outline(marked, lesions, colors)),
        "uncertainty": data_address(heat),
        "load": data_address(_load_bars(view, grey.shape[0])),
    }


def alignment(view: SessionView) -> tuple[str, str] | None:
    """Show reference and second contrast in the same cuts, with the same outline of the cord."""
    if view.second is None:
        return None
    return _strip(view, view.reference), _strip(view, view.second)


def lesion_pictures(view: SessionView, index: int, colors: NDArray[np.uint8]) -> LesionPictures:
    """Cut through one lesion where it is largest.

    Parameters
    ----------
    view : SessionView
    index : int
        The lesion's number.
    colors : ndarray of shape (labels + 1, 3)
    """
    mask = view.instances == index
    i = int(mask.sum(axis=(1, 2)).argmax())
    k = int(mask.sum(axis=(0, 1)).argmax())
    center = [round(float(axis.mean())) for axis in np.nonzero(mask)]
    window = [
        slice(max(0, c - round(half / s)), c + round(half / s) + 1)
        for c, half, s in zip(center, _CARD_HALF_MM, view.spacing_mm, strict=True)
    ]
    across = (window[0], window[1], slice(None))
    along = (slice(None), window[1], window[2])
    flat = (view.spacing_mm[1], view.spacing_mm[0])

    def cut(
        data: NDArray[np.generic], spacing: tuple[float, float], labels: NDArray[np.generic]
    ) -> str:
        grey = _enlarged_grey(data, spacing, _CARD_PIXELS_PER_MM)
        enlarged = enlarge(labels, spacing, _CARD_PIXELS_PER_MM, 0)
        return data_address(outline(grey, np.asarray(enlarged, np.intp), colors))

    labels = axial(view.instances[across], k)
    second = None
    if view.second is not None:
        second = cut(axial(view.second[across], k), flat, labels)
    return LesionPictures(
        axial=cut(axial(view.reference[across], k), flat, labels),
        sagittal=cut(
            sagittal(view.reference[along], i),
            _sagittal_spacing(view),
            sagittal(view.instances[along], i),
        ),
        axial_second=second,
        slice_number=k,
    )


def _sagittal_spacing(view: SessionView) -> tuple[float, float]:
    return view.spacing_mm[2], view.spacing_mm[1]


def _enlarged_grey(
    plane: NDArray[np.generic], spacing_mm: tuple[float, float], pixels_per_mm: float
) -> Picture:
    grey = enlarge(to_grey(np.asarray(plane)), spacing_mm, pixels_per_mm, 1)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def _enlarged(labels: NDArray[np.generic], spacing_mm: tuple[float, float]) -> IntArray:
    return np.asarray(enlarge(labels, spacing_mm, _OVERVIEW_PIXELS_PER_MM, 0), np.intp)


def _load_bars(view: SessionView, rows: int) -> Picture:
    """Draw a bar for each slice, as long as its section's share of lesion; full width is all."""
    cord = view.cord.sum(axis=(0, 1))
    lesion = (view.instances > 0).sum(axis=(0, 1))
    share = np.divide(lesion, cord, out=np.zeros(len(cord)), where=cord > 0)[::-1]
    slice_of_row = (np.arange(rows) * len(share) // rows).clip(0, len(share) - 1)
    length = np.ceil(share[slice_of_row] * _LOAD_COLUMNS)
    bars = np.full((rows, _LOAD_COLUMNS, 3), 245, np.uint8)
    bars[np.arange(_LOAD_COLUMNS)[None] < length[:, None]] = _LOAD_COLOR
    return bars


def _strip(view: SessionView, data: NDArray[np.generic]) -> str:
    """Put the bent sagittal cut and three axial ones side by side."""
    course, spacing = cord_course(view.cord), _sagittal_spacing(view)
    color = np.array([(0, 0, 0), _CORD_COLOR], np.uint8)
    side = _enlarged_grey(follow(data, course), spacing, _OVERVIEW_PIXELS_PER_MM)
    cord = _enlarged(follow(view.cord.astype(np.uint8), course), spacing)
    parts = [outline(side, cord, color)]
    seen = np.flatnonzero(view.cord.any(axis=(0, 1)))
    flat = (view.spacing_mm[1], view.spacing_mm[0])
    column = []
    for share in (0.8, 0.5, 0.2):
        k = int(seen[int(share * (len(seen) - 1))])
        grey = _enlarged_grey(axial(data, k), flat, _OVERVIEW_PIXELS_PER_MM)
        mask = _enlarged(axial(view.cord.astype(np.uint8), k), flat)
        column.append(outline(grey, mask, color))
    parts.append(np.concatenate(column))
    height = max(part.shape[0] for part in parts)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 6), (0, 0))) for p in parts]
    return data_address(np.concatenate(padded, axis=1))
