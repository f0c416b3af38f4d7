"""ITK's dialect at the edge: LPS for RAS, (z, y, x) arrays, transform files.

Everything else in this project speaks RAS+ millimetres and (i, j, k) arrays.
"""

# SimpleITK has no types.
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_app.errors import UnreadableImage
from bids_app.files import write_bytes
from bids_app.records import FloatArray, Volume

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER = "#Insight Transform File V1.0"


def ras_to_lps(matrix: FloatArray) -> FloatArray:
    """Turn a matrix between RAS+ points into the same mapping between LPS+ points, or back.

    Examples
    --------
    >>> moved = np.eye(4)
    >>> moved[:3, 3] = 1, 2, 3
    >>> ras_to_lps(moved)[:3, 3].tolist()
    [-1.0, -2.0, 3.0]
    """
    result: FloatArray = _FLIP @ matrix @ _FLIP
    return result


def to_image(volume: Volume) -> Any:
    """Make a SimpleITK image that lies where the volume lies.

    A shear in the affine is carried by the direction matrix, which ITK accepts in memory.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    SimpleITK.Image
    """
    import SimpleITK as sitk  # noqa: N813 (the name its own documentation uses)

    affine = _FLIP @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    data = volume.data.astype(np.uint8) if volume.data.dtype == np.bool_ else volume.data
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def from_image(image: Any) -> Volume:
    """Make a volume that lies where the SimpleITK image lies."""
    import SimpleITK as sitk  # noqa: N813

    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(np.ascontiguousarray(data), _FLIP @ affine)


def transform_text(matrix: FloatArray) -> str:
    """Spell an ITK transform file (an ``AffineTransform`` in LPS).

    ITK resamples by pulling: the transform maps points of the reference to points of the
    moving image, as `Alignment.matrix` does, so nothing is inverted. ``antsApplyTransforms
    -t`` and 3D Slicer read it as the transform that brings the moving image to the reference.

    Parameters
    ----------
    matrix : ndarray of shape (4, 4)
        From RAS+ points of the reference to RAS+ points of the moving image (mm).
    """
    lps = ras_to_lps(matrix)
    numbers = [*lps[:3, :3].ravel(), *lps[:3, 3]]
    # Adding 0.0 turns -0.0 into 0.0; repr keeps every bit of the number.
    parameters = " ".join(repr(float(number) + 0.0) for number in numbers)
    return (
        f"{_HEADER}\n"
        "#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        f"Parameters: {parameters}\n"
        "FixedParameters: 0 0 0\n"
    )


def write_transform(path: Path, matrix: FloatArray) -> None:
    """Write an ITK ``.txt`` transform atomically; see :func:`transform_text`."""
    write_bytes(path, transform_text(matrix).encode())


def read_transform(path: Path) -> FloatArray:
    """Read a linear ITK transform file (affine, rigid or a translation) of any writer.

    Returns
    -------
    ndarray of shape (4, 4)
        From RAS+ points of the reference to RAS+ points of the moving image (mm).

    Raises
    ------
    UnreadableImage
        The file is missing, not an ITK transform, or not a linear one in three dimensions.
    """
    import SimpleITK as sitk  # noqa: N813

    try:
        transform = sitk.ReadTransform(str(path))
    except (RuntimeError, UnicodeDecodeError) as error:  # the second while telling the first
        raise UnreadableImage(
            f"{path} is not an ITK transform that can be read. Write it again."
        ) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise UnreadableImage(f"{path} is not a linear transform in 3D. Provide a rigid one.")
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, 3] = origin
    for axis, unit in enumerate(np.eye(3)):
        lps[:3, axis] = np.array(transform.TransformPoint(unit.tolist())) - origin
    return ras_to_lps(lps)
