"""The NIfTI door: what comes in, what is refused and in which words, what goes out."""

from __future__ import annotations

import gzip
import os
import stat
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import orientations

from bids_app.errors import UnreadableImage
from bids_app.imaging.volumes import read_label_map, read_volume, write_volume

AFFINE = np.array([[-0.5, 0, 0.03, 9.4], [0, 0.5, -0.13, -13.2], [0, 0.01, 7.5, 2.6], [0, 0, 0, 1]])
RAMP = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def _nifti(path: Path, data=RAMP, affine=AFFINE, image=nib.Nifti1Image, **header) -> Path:
    """Write an image with nibabel alone, with header fields set afterwards."""
    made = image(data, affine)
    for field, value in header.items():
        made.header[field] = value
    made.to_filename(path)
    return path


def _patch(path: Path, offset: int, *values: bytes) -> Path:
    """Overwrite bytes of an uncompressed file."""
    content = bytearray(path.read_bytes())
    patch = b"".join(values)
    content[offset : offset + len(patch)] = patch
    path.write_bytes(bytes(content))
    return path


# -- reading: what is accepted -------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("image", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<i4", "f4", "f8", ">i2", ">f4"])
def test_reads_every_scalar_type_and_byte_order(tmp_path, name, image, dtype):
    path = _nifti(tmp_path / name, RAMP.astype(dtype), image=image)
    volume = read_volume(path)
    assert volume.data.dtype == np.float32
    assert volume.data.dtype.isnative
    np.testing.assert_array_equal(volume.data, RAMP)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_reads_a_big_endian_header(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.Nifti1Image(RAMP, AFFINE, header).to_filename(tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii").data, RAMP)


SLOPE_AT, QCODE_AT, SCODE_AT, PIXDIM_AT, SROW_AT, DIM_AT = 112, 252, 254, 76, 280, 40


@pytest.mark.parametrize(
    ("slope", "intercept", "last"),
    [(2.0, 1.0, 47.0), (0.5, -3.0, 8.5), (0.0, 5.0, 23.0), (float("nan"), 5.0, 23.0)],
)
def test_scaling_is_applied_and_a_slope_of_zero_or_nan_means_none(tmp_path, slope, intercept, last):
    path = _patch(_nifti(tmp_path / "s.nii"), SLOPE_AT, struct.pack("<ff", slope, intercept))
    assert read_volume(path).data[1, 2, 3] == last


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 4, 1, 1)])
def test_trailing_axes_of_one_are_dropped(tmp_path, shape):
    volume = read_volume(_nifti(tmp_path / "t.nii.gz", RAMP.reshape(shape)))
    np.testing.assert_array_equal(volume.data, RAMP)


def test_gzip_content_is_read_whatever_the_name(tmp_path):
    _nifti(tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").data[1, 2, 3] == 23


def test_a_minority_of_nan_and_infinite_voxels_becomes_zero(tmp_path):
    data = RAMP.astype(np.float32)
    data[1, 2, 3], data[1, 2, 2] = np.nan, -np.inf
    read = read_volume(_nifti(tmp_path / "n.nii", data)).data
    assert (read[1, 2, 3], read[1, 2, 2], read[1, 2, 1]) == (0, 0, 21)


def test_the_input_is_not_touched_even_where_it_is_read_only(tmp_path):
    path = _nifti(tmp_path / "r.nii.gz")
    path.chmod(0o444)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    read_volume(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.nii.gz"]


def test_sform_is_preferred_to_qform(tmp_path):
    image = nib.Nifti1Image(RAMP, None)
    image.set_qform(np.diag([1.0, 1, 1, 1]), code=1)
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=2)
    image.to_filename(tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").spacing_mm == (2, 2, 2)


@pytest.mark.parametrize(
    ("qform_code", "origin"), [(1, [9.4, -13.2, 2.6]), (0, [0.25, -0.5, -11.25])]
)
def test_a_singular_sform_falls_back_to_qform_and_then_to_voxel_sizes(tmp_path, qform_code, origin):
    path = _nifti(tmp_path / "a.nii")
    _patch(path, SROW_AT, bytes(48))
    _patch(path, QCODE_AT, struct.pack("<hh", qform_code, 1))
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine[:3, 3], origin, atol=5e-3)
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.5, 7.5), atol=2e-3)


def test_a_shear_is_kept(tmp_path):
    sheared = np.array([[1.0, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = nib.Nifti1Image(RAMP, sheared)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, sheared, atol=1e-6)


@pytest.mark.parametrize(("dtype", "top"), [("u1", 23), ("f4", 23), ("i2", 23)])
def test_label_maps_come_as_int32(tmp_path, dtype, top):
    labels = read_label_map(_nifti(tmp_path / "l.nii.gz", RAMP.astype(dtype)))
    assert labels.data.dtype == np.int32
    assert labels.data.max() == top


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "i4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(None, None), (1, 0), (2, 0), (1, 3)])
def test_labels_are_the_scaled_values_whatever_holds_them(tmp_path, dtype, slope, inter):
    image = nib.Nifti1Image(RAMP.astype(dtype), AFFINE)
    image.to_filename(tmp_path / "l.nii")
    numbers = (float("nan") if slope is None else slope, inter or 0)
    _patch(tmp_path / "l.nii", SLOPE_AT, struct.pack("<ff", *numbers))
    labels = read_label_map(tmp_path / "l.nii").data
    assert labels.dtype == np.dtype(np.int32)
    np.testing.assert_array_equal(labels, RAMP * (slope or 1) + (inter or 0))


def test_an_empty_mask_is_a_valid_label_map(tmp_path):
    assert not read_label_map(_nifti(tmp_path / "e.nii.gz", np.zeros_like(RAMP))).data.any()


# -- reading: what is refused --------------------------------------------------------------


def _missing(folder: Path) -> Path:
    return folder / "no.nii.gz"


def _dangling(folder: Path) -> Path:
    (folder / "annex.nii.gz").symlink_to(".git/annex/objects/MD5E-s1--0")
    return folder / "annex.nii.gz"


def _folder(folder: Path) -> Path:
    (folder / "dir.nii").mkdir()
    return folder / "dir.nii"


def _zero_bytes(folder: Path) -> Path:
    (folder / "zero.nii.gz").touch()
    return folder / "zero.nii.gz"


def _truncated_gzip(folder: Path) -> Path:
    path = _nifti(folder / "cut.nii.gz", np.random.default_rng(0).random((9, 9, 9)))
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _corrupt_gzip(folder: Path) -> Path:
    path = _nifti(folder / "bad.nii.gz", np.random.default_rng(0).random((9, 9, 9)))
    return _patch(path, 900, b"\xff\xff\xff\xff")


def _truncated_plain(folder: Path) -> Path:
    path = _nifti(folder / "cut.nii")
    path.write_bytes(path.read_bytes()[:-1])
    return path


def _header_only(folder: Path) -> Path:
    """Write a header that claims 1024 cubed voxels without any."""
    path = _patch(_nifti(folder / "huge.nii"), DIM_AT, struct.pack("<4h", 3, 1024, 1024, 1024))
    (folder / "huge.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder / "huge.nii.gz"


def _text(folder: Path) -> Path:
    (folder / "text.nii").write_text("sub-01 " * 100)
    return folder / "text.nii"


def _series(folder: Path) -> Path:
    return _nifti(folder / "bold.nii", np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2))


def _rgb(folder: Path) -> Path:
    colours = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return _nifti(folder / "rgb.nii", colours)


def _complex(folder: Path) -> Path:
    return _nifti(folder / "complex.nii", RAMP.astype(np.complex64))


def _slice(folder: Path) -> Path:
    return _nifti(folder / "slice.nii", RAMP[:, :, :1])


def _plane(folder: Path) -> Path:
    return _nifti(folder / "plane.nii", RAMP[:, :, 0])


def _negative_shape(folder: Path) -> Path:
    return _patch(_nifti(folder / "neg.nii"), DIM_AT, struct.pack("<4h", 3, -2, 3, 4))


def _unknown_type(folder: Path) -> Path:
    return _patch(_nifti(folder / "type.nii"), 70, struct.pack("<h", 9999))


def _all_zero(folder: Path) -> Path:
    return _nifti(folder / "zero.nii", np.zeros_like(RAMP))


def _constant(folder: Path) -> Path:
    return _nifti(folder / "seven.nii", np.full_like(RAMP, 7))


def _mostly_nan(folder: Path) -> Path:
    data = RAMP.astype(np.float32)
    data[:, :, 1:] = np.nan
    return _nifti(folder / "nan.nii", data)


def _no_affine(folder: Path) -> Path:
    path = _patch(_nifti(folder / "flat.nii"), SROW_AT, bytes(48))
    _patch(path, QCODE_AT, struct.pack("<hh", 0, 1))
    return _patch(path, PIXDIM_AT, struct.pack("<4f", 1, np.nan, np.nan, np.nan))


def _metres(folder: Path) -> Path:
    return _nifti(folder / "metres.nii", affine=np.diag([0.001, 0.001, 0.003, 1]))


def _metre_voxels(folder: Path) -> Path:
    return _nifti(folder / "giant.nii", affine=np.diag([1.0, 1.0, 500.0, 1]))


REFUSED = [
    (_missing, "does not exist"),
    (_dangling, "datalad get annex.nii.gz"),
    (_folder, "not a regular file"),
    (_zero_bytes, "is empty (0 bytes)"),
    (_truncated_gzip, "is truncated or corrupt"),
    (_corrupt_gzip, "is truncated or corrupt"),
    (_truncated_plain, "is truncated: its header promises 400 bytes, 399 are there"),
    (_header_only, "is truncated: its header promises 2147484000 bytes, 400 are there"),
    (_text, "wrong magic"),
    (_series, "is a series of volumes (shape 2x3x4x2)"),
    (_rgb, "holds colours"),
    (_complex, "holds complex numbers"),
    (_slice, "is not three-dimensional (shape 2x3x1)"),
    (_plane, "is not three-dimensional (shape 2x3)"),
    (_negative_shape, "is not three-dimensional (shape -2x3x4)"),
    (_unknown_type, "damaged NIfTI header"),
    (_all_zero, "has the same value everywhere (0)"),
    (_constant, "has the same value everywhere (7)"),
    (_mostly_nan, "is not finite in 75 % of its voxels"),
    (_no_affine, "has no valid affine"),
    (_metres, "metres"),
    (_metre_voxels, "outside 0.05 to 20.0 mm"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_refuses_with_the_path_and_a_reason(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(UnreadableImage) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert words in message
    assert "\n" not in message


def test_a_probability_map_is_no_label_map(tmp_path):
    path = _nifti(tmp_path / "p.nii", RAMP / 10)
    with pytest.raises(UnreadableImage, match="not a label map"):
        read_label_map(path)


# -- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("bool", "uint8"),
        ("uint8", "uint8"),
        ("int16", "int16"),
        ("int32", "int32"),
        ("int64", "int32"),
        ("float32", "float32"),
        ("float64", "float32"),
    ],
)
def test_types_on_disk(tmp_path, given, stored):
    data = (RAMP % 2).astype(given)
    write_volume(tmp_path / "w.nii.gz", data, AFFINE)
    image = nib.load(tmp_path / "w.nii.gz")
    assert image.get_data_dtype() == np.dtype(stored)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), RAMP % 2)


def test_header_on_disk(tmp_path):
    write_volume(tmp_path / "w.nii", RAMP, AFFINE)
    content = (tmp_path / "w.nii").read_bytes()
    assert struct.unpack_from("<ff", content, SLOPE_AT) == (1.0, 0.0)
    header = nib.load(tmp_path / "w.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(header.get_sform(), AFFINE.astype(np.float32))
    np.testing.assert_allclose(header.get_qform(), AFFINE, atol=0.05)


def test_a_label_beyond_int32_is_refused(tmp_path):
    with pytest.raises(ValueError, match="do not fit"):
        write_volume(tmp_path / "w.nii", np.full((2, 2, 2), 2**40), AFFINE)
    assert not list(tmp_path.iterdir())


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        write_volume(tmp_path / "w.mgz", RAMP, AFFINE)


def test_bytes_are_the_same_each_time_and_under_each_name(tmp_path):
    for name in ("one.nii.gz", "two.nii.gz", "deep/er/three.nii.gz"):
        write_volume(tmp_path / name, RAMP, AFFINE)
    contents = {path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    assert len(contents) == 1
    (content,) = contents
    assert content[3] == 0, "no file name in the gzip header"
    assert content[4:8] == bytes(4), "no time in the gzip header"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_volume(tmp_path / "w.nii.gz", RAMP, AFFINE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.nii.gz").stat().st_mode) == mode


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "w.nii.gz"
    write_volume(path, RAMP, AFFINE)
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_volume(path, RAMP + 1, AFFINE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.nii.gz"]


ORIENTATIONS = [
    (order, flips)
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for flips in np.ndindex(2, 2, 2)
]


@settings(max_examples=48, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.1, 10)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
    st.floats(-0.7, 0.7),
)
def test_written_volumes_are_read_back_alike(tmp_path_factory, axes, spacing, origin, angle):
    order, flips = axes
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * np.where(flips, -1, 1) * spacing
    affine[:2, :3] = turn @ affine[:2, :3]
    affine[:3, 3] = origin
    path = tmp_path_factory.mktemp("round") / "w.nii.gz"
    write_volume(path, RAMP, affine)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, RAMP)
    np.testing.assert_array_equal(volume.affine, affine.astype(np.float32))
    # A half turn's quaternion in float32 loses what turns it by less than about a thousandth more.
    lost = 2e-3 * max(1, *spacing)
    np.testing.assert_allclose(nib.load(path).get_qform(), affine, atol=lost)
    np.testing.assert_array_equal(
        orientations.io_orientation(volume.affine), orientations.io_orientation(affine)
    )
