"""Grid arithmetic: nothing moves in the world, and nothing is made up outside the field."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import aff2axcodes
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_app.imaging.grids import (
    box_around,
    coverage,
    crop,
    from_canonical,
    paste,
    resample_part,
    resample_to,
    to_canonical,
)
from bids_app.records import Volume

ALL_48 = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
RAMP = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def _affine(order, signs, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), angle=0.0):
    """Build an affine whose axis i points along world axis ``order[i]``, tilted about x."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * np.array(signs) * spacing
    tilt = np.eye(3)
    tilt[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = tilt @ affine[:3, :3]
    affine[:3, 3] = origin
    return affine


def _volume(shape, spacing=1.0, origin=(0.0, 0.0, 0.0), fill=None):
    affine = np.diag([*np.broadcast_to(spacing, 3), 1.0])
    affine[:3, 3] = origin
    data = np.zeros(shape, np.float32) if fill is None else fill
    return Volume(data, affine)


# -- orientation ---------------------------------------------------------------------------


@settings(max_examples=96, deadline=None)
@given(
    st.sampled_from(ALL_48),
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.tuples(*[st.floats(-99, 99)] * 3),
    st.floats(-0.6, 0.6),
)
def test_canonical_and_back_is_the_identity(axes, spacing, origin, angle):
    volume = Volume(RAMP, _affine(*axes, spacing, origin, angle))
    canonical = to_canonical(volume)
    back = from_canonical(canonical.data, volume)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert canonical.data.dtype == volume.data.dtype
    assert canonical.data.flags.c_contiguous


@pytest.mark.parametrize(("order", "signs"), ALL_48)
def test_canonical_is_ras_and_moves_nothing_in_the_world(order, signs):
    volume = Volume(RAMP, _affine(order, signs, (0.5, 1.0, 3.0), (4.0, -5.0, 6.0), 0.2))
    canonical = to_canonical(volume)
    assert aff2axcodes(canonical.affine) == ("R", "A", "S")
    for value in (0, 7, 23):
        before = apply_affine(volume.affine, np.argwhere(volume.data == value)[0])
        after = apply_affine(canonical.affine, np.argwhere(canonical.data == value)[0])
        np.testing.assert_allclose(after, before, atol=1e-9)


def test_from_canonical_refuses_another_shape():
    with pytest.raises(ValueError, match="is not"):
        from_canonical(np.zeros((2, 3, 5)), _volume((2, 3, 4)))


# -- boxes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voxel", "margin_mm", "expected"),
    [
        ((5, 5, 5), 0.0, [(5, 6), (5, 6), (5, 6)]),
        ((5, 5, 5), 3.0, [(2, 9), (3, 8), (4, 7)]),
        ((0, 9, 9), 3.0, [(0, 4), (7, 10), (8, 10)]),
        (None, 3.0, [(0, 10), (0, 10), (0, 10)]),
    ],
)
def test_box_around(voxel, margin_mm, expected):
    mask = np.zeros((10, 10, 10), bool)
    if voxel:
        mask[voxel] = True
    box = box_around(mask, (1.0, 1.5, 6.0), margin_mm)
    assert [(part.start, part.stop) for part in box] == expected


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(ALL_48), st.tuples(*[st.tuples(st.integers(0, 5), st.integers(1, 5))] * 3))
def test_crop_keeps_the_place_and_paste_brings_it_back(axes, corners):
    rng = np.random.default_rng(1)
    volume = Volume(rng.random((10, 10, 10)), _affine(*axes, (0.5, 1.0, 3.0), (1.0, 2.0, 3.0)))
    box = tuple(slice(start, start + length) for start, length in corners)
    part = crop(volume, box)
    corner = [start for start, _ in corners]
    np.testing.assert_allclose(
        apply_affine(part.affine, [0, 0, 0]), apply_affine(volume.affine, corner)
    )
    pasted = paste(part.data, box, volume, fill=-1.0)
    inside = np.zeros((10, 10, 10), bool)
    inside[box] = True
    np.testing.assert_array_equal(pasted.data[inside], volume.data[inside])
    assert (pasted.data[~inside] == -1).all()
    assert pasted.same_grid(volume)


def test_paste_refuses_another_shape():
    with pytest.raises(ValueError, match="does not fill"):
        paste(np.zeros((2, 2, 2)), (slice(0, 3),) * 3, _volume((9, 9, 9)))


# -- resampling ----------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("order", "signs"), ALL_48[::5])
def test_the_same_grid_stored_otherwise_gives_the_same_values(order, signs, interpolation):
    rng = np.random.default_rng(0)
    moving = Volume(rng.random((5, 6, 7)).astype(np.float32), _affine(order, signs, (1, 1, 3)))
    canonical = to_canonical(moving)
    result = resample_to(moving, canonical, interpolation=interpolation)
    np.testing.assert_allclose(result.data, canonical.data, atol=1e-5)
    assert coverage(moving, canonical).all()


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_linear_field_is_resampled_exactly_with_a_matrix(interpolation):
    moving = _volume((30, 30, 30), 1.0, (-15, -15, -15))
    world = apply_affine(moving.affine, np.moveaxis(np.indices((30, 30, 30)), 0, -1))
    moving = Volume((world @ [1.0, 2.0, -3.0]).astype(np.float32), moving.affine)
    reference = _volume((9, 9, 9), 0.8, (-4, -3, -3))
    matrix = _affine((0, 1, 2), (1, 1, 1), origin=(0.7, -1.2, 2.1), angle=0.15)
    result = resample_to(moving, reference, matrix, interpolation)
    points = apply_affine(matrix @ reference.affine, np.moveaxis(np.indices((9, 9, 9)), 0, -1))
    np.testing.assert_allclose(result.data, points @ [1.0, 2.0, -3.0], atol=2e-2)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.25, 0.5, 1.0])] * 3),
    shift=st.tuples(*[st.sampled_from([-0.5, -0.25, 0.0, 0.4, 0.5])] * 3),
    angle=st.sampled_from([0.0, 0.2]),
)
def test_between_voxels_and_on_the_edge_values_are_linear(shape, spacing, shift, angle):
    """As SciPy has them, whose time this takes a half of; coarser grids would be smoothed."""
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    affine = _affine((0, 1, 2), (1, 1, 1), spacing, shift, angle)
    found = resample_to(_volume(shape, fill=data), Volume(np.zeros((8, 7, 6)), affine), fill=-1.0)
    places = apply_affine(affine, np.moveaxis(np.indices((8, 7, 6)), 0, -1))
    expected = ndimage.map_coordinates(data, np.moveaxis(places, -1, 0), order=1, mode="nearest")
    inside = found.data != -1
    np.testing.assert_allclose(found.data[inside], expected[inside], atol=1e-5)
    np.testing.assert_array_equal(
        inside, coverage(_volume(shape), Volume(np.zeros((8, 7, 6)), affine))
    )


def test_outside_the_field_is_fill_and_known():
    moving = _volume((4, 4, 4), 2.0, fill=np.ones((4, 4, 4), np.float32))
    reference = _volume((12, 4, 4), 1.0, (-3.0, 1.0, 1.0))
    inside = coverage(moving, reference)
    assert inside[:, 0, 0].tolist() == [False] * 2 + [True] * 9 + [False]
    result = resample_to(moving, reference, fill=-7.0)
    np.testing.assert_array_equal(result.data, np.where(inside, 1.0, -7.0))


@settings(max_examples=60, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.5, 3.0)] * 3),
    origin=st.tuples(*[st.floats(-12.0, 6.0)] * 3),
    angle=st.sampled_from([0.0, 0.0, 0.1, -0.4, np.pi / 2]),
    order=st.sampled_from(ALL_48[::7]),
)
def test_coverage_is_what_each_voxel_says(spacing, origin, angle, order):
    moving = Volume(np.zeros((9, 5, 7)), _affine(*order, (1.0, 2.0, 0.7), (-4, -3, -2)))
    reference = _volume((11, 6, 8))
    matrix = _affine((0, 1, 2), (1, 1, 1), spacing, origin, angle)
    places = np.moveaxis(np.indices(reference.data.shape), 0, -1)
    at = apply_affine(np.linalg.inv(moving.affine) @ matrix @ reference.affine, places)
    sides = np.array(moving.data.shape)
    clear = (np.abs(at + 0.5) > 1e-5) & (np.abs(at + 0.5 - sides) > 1e-5)
    inside = ((at >= -0.5) & (at <= sides - 0.5)).all(-1)
    agree = coverage(moving, reference, matrix) == inside
    assert agree[clear.all(-1)].all()


@settings(max_examples=60, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.4, 4.0)] * 3),
    shift=st.tuples(*[st.floats(-30.0, 30.0)] * 3),
    angle=st.floats(-0.4, 0.4),
    low=st.tuples(*[st.integers(0, 9)] * 3),
    interpolation=st.sampled_from(["nearest", "linear"]),
)
def test_a_part_is_resampled_as_the_whole(spacing, shift, angle, low, interpolation):
    data = np.zeros((20, 16, 12), np.float32)
    part = tuple(slice(start, start + 6) for start in low)
    data[part] = np.random.default_rng(0).random(data[part].shape)
    moving = _volume(data.shape, 1.0, (-10, -8, -6), fill=data)
    reference = Volume(
        np.zeros((18, 15, 14), np.float32), _affine((0, 1, 2), (1, 1, 1), spacing, shift, angle)
    )
    matrix = _affine((0, 1, 2), (1, 1, 1), angle=angle / 2)
    whole = resample_to(moving, reference, matrix, interpolation).data
    found = resample_part(moving, reference, matrix, interpolation)
    np.testing.assert_allclose(found.data, whole, atol=1e-6)
    assert not resample_part(replace(moving, data=data * 0), reference).data.any()


def test_no_overlap_is_all_fill():
    moving = _volume((4, 4, 4), fill=np.ones((4, 4, 4), np.float32))
    reference = _volume((4, 4, 4), origin=(100.0, 0.0, 0.0))
    assert not coverage(moving, reference).any()
    assert not resample_to(moving, reference, interpolation="cubic").data.any()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32"])
def test_labels_keep_their_type_and_no_label_is_made_up(dtype):
    rng = np.random.default_rng(0)
    moving = _volume((9, 9, 9), 1.0, fill=(rng.integers(0, 2, (9, 9, 9)) * 5).astype(dtype))
    result = resample_to(moving, _volume((20, 20, 6), (0.4, 0.4, 1.3)), interpolation="nearest")
    assert result.data.dtype == np.dtype(dtype)
    assert set(np.unique(result.data)) <= set(np.unique(moving.data)) | {0}


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_integers_are_interpolated_as_float32(interpolation):
    moving = _volume((5, 5, 5), fill=np.full((5, 5, 5), 3, np.int16))
    result = resample_to(moving, _volume((4, 4, 4), 0.9, (0.3, 0.3, 0.3)), None, interpolation)
    assert result.data.dtype == np.float32
    np.testing.assert_allclose(result.data, 3.0, atol=1e-5)


def test_coarser_voxels_do_not_alias():
    """Stripes of one voxel on a grid of eight: their mean must come out, not stripes."""
    stripes = np.zeros((16, 16, 64), np.float32)
    stripes[:, :, ::2] = 1.0
    moving = _volume((16, 16, 64), 1.0, fill=stripes)
    coarse = resample_to(moving, _volume((16, 16, 5), (1.0, 1.0, 8.0), (0, 0, 12)))
    np.testing.assert_allclose(coarse.data, 0.5, atol=0.02)


def test_a_turn_on_the_same_spacing_does_not_blur():
    point = np.zeros((9, 9, 9), np.float32)
    point[4, 4, 4] = 1.0
    moving = _volume((9, 9, 9), 1.0, (-4, -4, -4), fill=point)
    tilted = _affine((0, 1, 2), (1, 1, 1), angle=0.1)
    assert resample_to(moving, moving, tilted).data[4, 4, 4] == pytest.approx(1.0, abs=1e-5)


def test_cubic_stays_in_the_range_of_the_image():
    step = np.zeros((20, 4, 4), np.float32)
    step[10:] = 1000.0
    result = resample_to(
        _volume((20, 4, 4), 1.0, fill=step), _volume((60, 4, 4), (0.3, 1, 1)), None, "cubic"
    )
    assert result.data.min() >= 0.0
    assert result.data.max() <= 1000.0


@settings(max_examples=40, deadline=None)
@given(
    radii=st.tuples(*[st.floats(4.0, 9.0)] * 3),
    own=st.tuples(*[st.floats(0.5, 1.3)] * 3),
    other=st.tuples(*[st.floats(0.5, 1.6)] * 3),
    shift=st.tuples(*[st.floats(-1.0, 1.0)] * 3),
    angle=st.floats(-0.3, 0.3),
)
def test_a_volume_in_mm3_survives_resampling(radii, own, other, shift, angle):
    """Within 3 %: what a mask holds before, and its interpolated shares of voxels after."""
    shape = tuple(int(28 / s) for s in own)
    moving = _volume(shape, own, tuple(-(n - 1) / 2 * s for n, s in zip(shape, own, strict=True)))
    world = apply_affine(moving.affine, np.moveaxis(np.indices(shape), 0, -1))
    mask = (((world - shift) / radii) ** 2).sum(-1) < 1
    moving = Volume(mask.astype(np.float32), moving.affine)
    wide = tuple(int(40 / s) for s in other)
    center = tuple(-(n - 1) / 2 * s for n, s in zip(wide, other, strict=True))
    reference = Volume(
        np.zeros(wide, np.float32), _affine((0, 1, 2), (1, 1, 1), other, center, angle)
    )
    after = resample_to(moving, reference).data.sum() * np.prod(other)
    assert after == pytest.approx(mask.sum() * np.prod(own), rel=0.03)
