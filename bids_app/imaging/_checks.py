"""What makes a NIfTI unusable, each with its sentence; no disk here."""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from bids_app.records import FloatArray, IntArray

SMALLEST_VOXEL_MM = 0.05
LARGEST_VOXEL_MM = 20.0
HEADER_BYTES = 540
"""Of a NIfTI-2, the longer of the two."""


class UnusableError(ValueError):
    """The end of a sentence that starts with the file's path."""


@dataclass(frozen=True)
class Layout:
    """What a NIfTI's header promises.

    Attributes
    ----------
    image_class : type
        nibabel's class for it.
    size : int
        Bytes of the whole file, uncompressed.
    has_voxel_size : bool
        Whether the header itself has voxel sizes; nibabel makes 1 mm of those that are missing.
    """

    image_class: Any
    size: int
    has_voxel_size: bool


def check_layout(start: bytes) -> Layout:
    """Read what a NIfTI's header promises, before its voxels are touched.

    Parameters
    ----------
    start : bytes
        At least the first `HEADER_BYTES` bytes of the file, fewer where it has no more.

    Raises
    ------
    UnusableError
        No NIfTI magic, not three-dimensional, an unsupported type, or a header that makes no
        sense.
    """
    if start[344:348] == b"n+1\x00":
        image_class = nib.Nifti1Image
    elif start[4:12] == b"n+2\x00\r\n\x1a\n":
        image_class = nib.Nifti2Image
    else:
        raise UnusableError(
            "is not a single-file NIfTI (wrong magic). Convert it, e.g. with dcm2niix."
        )
    least = image_class.header_class.template_dtype.itemsize
    if len(start) < least:
        raise UnusableError("is truncated within its header. Copy or download it again.")
    try:
        header = image_class.header_class(start[:least], check=False)
        shape = header.get_data_shape()
        dtype = header.get_data_dtype()
        offset = int(header["vox_offset"])
    except (nib.spatialimages.HeaderDataError, ValueError, KeyError, OverflowError) as error:
        raise _damaged(error) from error
    if not 1 <= int(header["dim"][0]) <= 7:
        raise _damaged("its number of axes is not between 1 and 7")
    _check_shape(shape)
    _check_dtype(dtype)
    if offset < least:
        raise _damaged(f"its voxels begin at byte {offset}, within the header")
    sizes = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    size = offset + math.prod(map(int, shape)) * dtype.itemsize
    return Layout(image_class, size, bool(np.isfinite(sizes).all() and (sizes != 0).all()))


def _damaged(why: object) -> UnusableError:
    return UnusableError(f"has a damaged NIfTI header ({why}). Convert it again.")


def check_size(layout: Layout, size: int) -> None:
    """Refuse fewer bytes than the header promises.

    Raises
    ------
    UnusableError
    """
    if size < layout.size:
        raise UnusableError(
            f"is truncated: its header promises {layout.size} bytes, {size} are there. "
            "Copy or download it again."
        )


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse all but three axes of at least two voxels (and trailing axes of one)."""
    text = "x".join(map(str, shape)) or "nothing"
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise UnusableError(f"is not three-dimensional (shape {text}). Provide a 3D volume.")
    if math.prod(map(int, shape[3:])) != 1:
        raise UnusableError(f"is a series of volumes (shape {text}). Extract or average to one.")


def _check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse colours and complex numbers."""
    if dtype.fields is not None:
        raise UnusableError("holds colours (RGB). Provide a scalar image, not a screenshot or map.")
    if dtype.kind == "c":
        raise UnusableError("holds complex numbers. Provide the magnitude image.")
    if dtype.kind not in "iuf":
        raise UnusableError(
            f"has the unsupported voxel type {dtype}. Convert it to int16 or float32."
        )


def check_affine(image: Any, has_voxel_size: bool = True) -> FloatArray:
    """Choose the first usable affine: the header's own choice, sform, qform, voxel sizes.

    Parameters
    ----------
    image : nibabel image
    has_voxel_size : bool
        Whether the voxel sizes are the header's own; only the sform can do without.

    Returns
    -------
    ndarray of shape (4, 4), float64

    Raises
    ------
    UnusableError
        None is invertible, or its voxel size is outside 0.05 to 20 mm.
    """
    header = image.header
    candidates = [image.affine] if has_voxel_size else []
    if header["sform_code"] > 0:
        candidates.append(header.get_sform())
    if header["qform_code"] > 0 and has_voxel_size:
        candidates.append(_qform(header))
    if has_voxel_size:
        candidates.append(header.get_base_affine())
    for candidate in candidates:
        affine = np.asarray(candidate, dtype=np.float64)
        if _invertible(affine):
            _check_voxel_size(affine)
            return affine
    raise UnusableError(
        "has no valid affine: sform, qform and voxel sizes are zero, singular or not finite. "
        "Repair its header or convert it again."
    )


def _qform(header: Any) -> FloatArray:
    """Give the qform, or zeros where its quaternion is none."""
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (nib.spatialimages.HeaderDataError, ValueError):
        return np.zeros((4, 4))


def _invertible(affine: FloatArray) -> bool:
    """Tell whether an affine places voxels in three dimensions, whatever its unit."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() == 0:
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def _check_voxel_size(affine: FloatArray) -> None:
    """Refuse voxels that no scanner makes: most often the unit is not the millimetre."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < SMALLEST_VOXEL_MM or sizes.max() > LARGEST_VOXEL_MM:
        text = " x ".join(f"{size:g}" for size in sizes)
        raise UnusableError(
            f"has voxels of {text} mm, outside {SMALLEST_VOXEL_MM} to {LARGEST_VOXEL_MM} mm. "
            "If its header is in metres or micrometres, rewrite it in millimetres."
        )


def replace_non_finite(data: FloatArray) -> FloatArray:
    """Set NaN and infinite voxels to 0; refuse an image where they are more than half."""
    finite = np.isfinite(data)
    missing = data.size - int(np.count_nonzero(finite))
    if missing == 0:
        return data
    if 2 * missing > data.size:
        raise UnusableError(
            f"is not finite in {100 * missing / data.size:.0f} % of its voxels. Export it again."
        )
    return np.where(finite, data, data.dtype.type(0))


def check_intensities(data: FloatArray) -> None:
    """Refuse an image in which nothing can be seen."""
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise UnusableError(f"has the same value everywhere ({low:g}). Export it again.")


def check_labels(data: FloatArray) -> IntArray:
    """Turn whole numbers into int32; refuse others."""
    labels = np.rint(data)
    if np.abs(data - labels).max(initial=0) > 1e-3:
        raise UnusableError(
            "is not a label map: it has values between whole numbers. Threshold it."
        )
    if np.abs(labels).max() > np.iinfo(np.int32).max:
        raise UnusableError("has labels beyond int32. Number them anew.")
    return labels.astype(np.int32)
