"""The only NIfTI door of the project: files in as volumes, volumes out as files.

Reading is one pass over the bytes (:func:`read_volume` touches the disk, ``_checks`` only
computes), and writing is atomic and reproducible to the byte.
"""

# nibabel ships as typed, but most of its functions are not.
# mypy: allow-untyped-calls

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import ArrayLike, NDArray

from bids_app.errors import UnreadableImage
from bids_app.files import write_bytes
from bids_app.imaging._checks import (
    HEADER_BYTES,
    Layout,
    UnusableError,
    check_affine,
    check_intensities,
    check_labels,
    check_layout,
    check_size,
    replace_non_finite,
)
from bids_app.records import FloatArray, IntArray, Volume

# Of ISA-L's levels, 0 to 3: labels are smallest with it, images within 1 % of the smallest.
# zlib's first takes five times as long, for images that are 5 % smaller and labels that are larger.
_GZIP_LEVEL = 2
# Bits of a resampled image after the leading one: 1.2e-4 of a value, well below any noise.
_IMAGE_BITS = 12
# What may follow the voxels without harm: padding.
_TRAILING_BYTES = 1 << 20

# ISA-L's error is declared as an instance of it.
_DAMAGED: tuple[Any, ...] = (EOFError, igzip.BadGzipFile, zlib.error, isal_zlib.IsalError)
_SMALL_INTEGERS = tuple(np.dtype(kind) for kind in ("u1", "i1", "<u2", ">u2", "<i2", ">i2"))
_UNSCALED = ((None, None), (1.0, 0.0))
_STORED_AS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.bool_): np.dtype(np.uint8),
    np.dtype(np.int64): np.dtype(np.int32),
    np.dtype(np.uint64): np.dtype(np.int32),
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.float64): np.dtype(np.float32),
}


def read_volume(path: Path, *, constant_ok: bool = False) -> Volume:
    """Read an image as float32 in its own orientation.

    Scaling (``scl_slope``, ``scl_inter``) is applied; a slope of 0 or NaN means none, as
    nibabel treats it. Trailing axes of length one are dropped. Infinite and undefined voxels
    become 0 while they are the minority. A shear in the affine is accepted and kept.

    Parameters
    ----------
    path : Path
        A single-file NIfTI-1 or NIfTI-2, plain or gzipped, of either byte order. It is opened
        read-only.
    constant_ok : bool
        Accept an image with one value everywhere, as a map that we made may be.

    Returns
    -------
    Volume
        float32 data of shape (i, j, k) and the affine to RAS+ millimetres: the sform, else the
        qform; where the one chosen is singular, the next that is not.

    Raises
    ------
    UnreadableImage
        The file is missing, empty, truncated, corrupt, not a NIfTI, not three-dimensional, RGB
        or complex, constant, mostly not finite, or placed by an unusable affine.
    """
    try:
        image, affine = _decode(path)
        data = replace_non_finite(_voxels(image))
        if not constant_ok:
            check_intensities(data)
    except UnusableError as problem:
        raise UnreadableImage(f"{path} {problem}") from problem
    return Volume(data, affine)


def read_label_map(path: Path) -> Volume:
    """Read a mask or label map as int32; one without any label is valid.

    Parameters
    ----------
    path : Path
        As for :func:`read_volume`.

    Returns
    -------
    Volume
        int32 data of shape (i, j, k) and the affine to RAS+ millimetres.

    Raises
    ------
    UnreadableImage
        As for :func:`read_volume`, and where a voxel is not a whole number.
    """
    try:
        image, affine = _decode(path)
        data = _labels(image)
    except UnusableError as problem:
        raise UnreadableImage(f"{path} {problem}") from problem
    return Volume(data, affine)


def write_volume(path: Path, data: FloatArray | IntArray | NDArray[Any], affine: ArrayLike) -> None:
    """Write a NIfTI-1 image so that it is whole or not there, and the same bytes each time.

    The file takes its name only when it is complete. sform and qform both carry the affine
    (code 1, scanner; a shear is kept by the sform alone), the unit is the millimetre and the
    slope 1. The gzip header holds neither a time nor a name. Missing folders are made.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.
    data : ndarray of shape (i, j, k)
        Kept in its type; bool is stored as uint8, float16 and float64 as float32, int64 and
        uint64 as int32.
    affine : array_like of shape (4, 4)
        From voxel indices to RAS+ millimetres; float32 on disk.

    Raises
    ------
    ValueError
        `path` has another ending, or an integer does not fit into int32.
    OSError
        The disk refuses. Nothing is left behind, and an older file stays as it was.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path} must end in .nii or .nii.gz.")
    encoded = _encode(data, np.asarray(affine, dtype=np.float64))
    if path.name.endswith(".gz"):
        # No time and no name, which would make each copy different.
        encoded = igzip.compress(encoded, _GZIP_LEVEL, mtime=0)
    write_bytes(path, encoded)


def shorten(image: FloatArray) -> FloatArray:
    """Round an image's values to 13 significant bits, so that it compresses by a third.

    Parameters
    ----------
    image : ndarray of float
        Finite.

    Returns
    -------
    ndarray of float32
        Within 1.3e-4 of each value, relative to it; whole numbers up to 8192 stay what they are.

    Examples
    --------
    >>> shorten(np.array([0.0, -3.0, 8191.0, 8193.5])).tolist()
    [0.0, -3.0, 8191.0, 8194.0]
    """
    dropped = 23 - _IMAGE_BITS
    bits = np.ascontiguousarray(image, np.float32).view(np.uint32)
    half, kept = np.uint32(1 << (dropped - 1)), np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))
    return ((bits + half) & kept).view(np.float32)


def _decode(path: Path) -> tuple[Any, FloatArray]:
    """Open a file as a nibabel image whose layout and affine have passed the checks."""
    content, layout = _uncompressed(_content(path))
    try:
        image = layout.image_class.from_stream(io.BytesIO(content))
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise UnusableError(f"has a damaged NIfTI header ({error}). Convert it again.") from error
    return image, check_affine(image, layout.has_voxel_size)


def _content(path: Path) -> bytes:
    """Read a file's bytes, and say what kind of absence an absence is."""
    try:
        # A pipe or a device would never end being read.
        if path.exists() and not path.is_file():
            raise UnusableError("is not a regular file. Put the image itself there.")
        content = path.read_bytes()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UnusableError(
                "is a link to content that is not here. In a DataLad dataset, run "
                f"'datalad get {path.name}' in its folder."
            ) from error
        raise UnusableError("does not exist. Check the dataset folder.") from error
    except OSError as error:
        raise UnusableError(
            f"cannot be opened: {error.strerror}. Check its permissions."
        ) from error
    except MemoryError as error:
        raise UnusableError("does not fit into memory. Ask for more memory.") from error
    if not content:
        raise UnusableError("is empty (0 bytes). Copy or download it again.")
    return content


def _uncompressed(content: bytes) -> tuple[bytes, Layout]:
    """Undo gzip where there is any, whatever the file is called, and check its checksum.

    No more is unpacked than the header promises (and a little): a few megabytes of gzip can hold
    more zeros than any memory.
    """
    if content[:2] != b"\x1f\x8b":
        layout = check_layout(content[:HEADER_BYTES])
        check_size(layout, len(content))
        return content, layout
    try:
        with igzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            start = stream.read(HEADER_BYTES)
            layout = check_layout(start)
            rest = stream.read(max(0, layout.size - len(start)) + _TRAILING_BYTES)
            # At the very end gzip compares its checksum.
            if stream.read(1):
                raise UnusableError(
                    f"holds more than the {layout.size} bytes that its header promises. "
                    "Convert it again."
                )
    except _DAMAGED as error:
        raise UnusableError(
            f"is truncated or corrupt ({error}). Copy or download it again."
        ) from error
    except (MemoryError, OverflowError) as error:
        raise UnusableError("does not fit into memory. Ask for more memory.") from error
    check_size(layout, len(start) + len(rest))
    return start + rest, layout


def _voxels(image: Any, dtype: type[np.floating[Any]] = np.float32) -> FloatArray:
    """Give the scaled voxels in three dimensions and native byte order."""
    try:
        # Values beyond float32 become infinite here and are dealt with as such.
        with np.errstate(over="ignore", invalid="ignore"):
            data: FloatArray = image.get_fdata(dtype=dtype, caching="unchanged")
    except MemoryError as error:
        raise UnusableError("does not fit into memory. Ask for more memory.") from error
    return data.reshape(data.shape[:3], order="F")


def _labels(image: Any) -> IntArray:
    """Give labels as int32: small whole numbers as they are stored, others by their values."""
    header = image.header
    if header.get_data_dtype() in _SMALL_INTEGERS and header.get_slope_inter() in _UNSCALED:
        stored = np.asarray(image.dataobj)
        return stored.reshape(stored.shape[:3], order="F").astype(np.int32)
    return check_labels(replace_non_finite(_voxels(image, np.float64)))


def _encode(data: NDArray[Any], affine: FloatArray) -> bytes:
    """Build the bytes of a NIfTI-1 file."""
    stored: np.dtype[Any] = _STORED_AS.get(data.dtype, data.dtype)
    if stored == np.int32 and data.size and abs(int(data.max())) > np.iinfo(np.int32).max:
        raise ValueError(f"Labels up to {data.max()} do not fit into int32.")
    image = nib.Nifti1Image(data.astype(stored, copy=False), affine, dtype=stored)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    return bytes(image.to_bytes())
