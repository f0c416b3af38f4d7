"""What makes a NIfTI unusable, each with its sentence; no disk here."""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import numpy as np

from bids_app.records import FloatArray, IntArray

SMALLEST_VOXEL_MM = 0.05
LARGEST_VOXEL_MM = 20.0


class UnusableError(ValueError):
    """The end of a sentence that starts with the file's path."""


def check_layout(content: bytes) -> Any:
    """Choose the nibabel class for a NIfTI's bytes, before its voxels are touched.

    Raises
    ------
    UnusableError
        No NIfTI magic, not three-dimensional, an unsupported type, or fewer bytes than the
        header promises.
    """
    if content[344:348] == b"n+1\x00":
        image_class = nib.Nifti1Image
    elif content[4:12] == b"n+2\x00\r\n\x1a\n":
        image_class = nib.Nifti2Image
    else:
        raise UnusableError(
            "is not a single-file NIfTI (wrong magic). Convert it, e.g. with dcm2niix."
        )
    size = image_class.header_class.template_dtype.itemsize
    try:
        header = image_class.header_class(content[:size], check=False)
        shape = header.get_data_shape()
        dtype = header.get_data_dtype()
    except (nib.spatialimages.HeaderDataError, ValueError, KeyError) as error:
        raise UnusableError(f"has a damaged NIfTI header ({error}). Convert it again.") from error
    _check_shape(shape)
    _check_dtype(dtype)
    needed = int(header["vox_offset"]) + math.prod(map(int, shape)) * dtype.itemsize
    if len(content) < needed:
        raise UnusableError(
            f"is truncated: its header promises {needed} bytes, {len(content)} are there. "
            "Copy or download it again."
        )
    return image_class


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


def check_affine(image: Any) -> FloatArray:
    """Choose the first usable affine: the header's own choice, sform, qform, voxel sizes.

    Returns
    -------
    ndarray of shape (4, 4), float64

    Raises
    ------
    UnusableError
        None is invertible, or its voxel size is outside 0.05 to 20 mm.
    """
    header = image.header
    candidates = [image.affine]
    if header["sform_code"] > 0:
        candidates.append(header.get_sform())
    if header["qform_code"] > 0:
        candidates.append(_qform(header))
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
    if not np.allclose(data, labels, rtol=0, atol=1e-3):
        raise UnusableError(
            "is not a label map: it has values between whole numbers. Threshold it."
        )
    if np.abs(labels).max() > np.iinfo(np.int32).max:
        raise UnusableError("has labels beyond int32. Number them anew.")
    return labels.astype(np.int32)
