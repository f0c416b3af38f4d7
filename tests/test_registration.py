"""Rigid alignment around the cord, and ITK's dialect at the edge."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.errors import UnreadableImage
from bids_app.imaging._centreline import centreline, lay_onto
from bids_app.imaging._similarity import LEVER_MM, _local_contrast, pose_matrix
from bids_app.imaging.grids import coverage, resample_to
from bids_app.imaging.itk import (
    from_image,
    ras_to_lps,
    read_transform,
    to_image,
    transform_text,
    write_transform,
)
from bids_app.imaging.registration import register
from bids_app.imaging.volumes import read_label_map, read_volume
from bids_app.records import Volume

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("CORDLESION_REAL_DATA", ROOT.parent / "shared" / "real"))


def _load(name: str):
    """Import a module of the benchmarks folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


phantoms = _load("phantoms")

OBLIQUE = np.array(
    [
        [-0.4955, 0.0432, 0.5209, 9.4],
        [-0.0434, -0.4981, 0.0, -13.2],
        [0.0518, -0.0045, 7.4819, 2.6],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def _error(alignment, pair):
    return phantoms.error_at_cord(alignment.matrix, pair.matrix, pair.reference_cord)


# -- ITK's dialect -------------------------------------------------------------------------

numbers = st.floats(-50, 50).map(lambda x: round(x, 6))
rigid_matrices = st.tuples(*[numbers] * 6).map(lambda pose: pose_matrix(np.array(pose), np.ones(3)))


@pytest.mark.parametrize("spacing", [(1.0, 0.8, 0.8), (3.0, 0.5, 0.5), (7.5, 0.4, 0.4)])
def test_local_contrast_is_that_of_the_whole_gaussian(spacing) -> None:
    rng = np.random.default_rng(0)
    data = ndimage.gaussian_filter(rng.normal(size=(37, 120, 111)), 2).astype(np.float32) + 3
    sigma = 12 / np.array(spacing)
    mean = ndimage.gaussian_filter(data, sigma, truncate=2.5)
    spread = np.sqrt(ndimage.gaussian_filter((data - mean) ** 2, sigma, truncate=2.5))
    wanted = (data - mean) / (spread + 0.1 * spread.mean())
    found = _local_contrast(data, spacing)
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.995
    assert found.std() == pytest.approx(wanted.std(), rel=0.05)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.floats(-4, 4)] * 3), st.sampled_from([1.0, 1e-3, 1e-7, 1e-9, 0.0]))
def test_a_pose_turns_as_scipy_says(vector: tuple[float, float, float], scale: float) -> None:
    turn = scale * np.array(vector)
    matrix = pose_matrix(np.array([0, 0, 0, *(turn * LEVER_MM)]), np.zeros(3))
    np.testing.assert_allclose(matrix[:3, :3], Rotation.from_rotvec(turn).as_matrix(), atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(rigid_matrices, st.tuples(*[numbers] * 3))
def test_simpleitk_reads_a_written_transform_as_the_same_mapping(tmp_path_factory, matrix, point):
    path = tmp_path_factory.mktemp("xfm") / "from-T2starw_to-T2w_mode-image_xfm.txt"
    write_transform(path, matrix)
    mapped = sitk.ReadTransform(str(path)).TransformPoint((-point[0], -point[1], point[2]))
    np.testing.assert_allclose(
        mapped * np.array([-1, -1, 1]), apply_affine(matrix, point), atol=1e-9
    )
    np.testing.assert_allclose(read_transform(path), matrix, atol=1e-9)


def test_a_transform_file_is_spelled_so():
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    assert transform_text(matrix) == (
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        "Parameters: 1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0 -1.0 -2.0 3.0\n"
        "FixedParameters: 0 0 0\n"
    )


def test_a_rigid_transform_with_a_centre_is_read(tmp_path):
    transform = sitk.Euler3DTransform((10.0, 20.0, 30.0), 0.1, -0.2, 0.05, (1.0, 2.0, 3.0))
    sitk.WriteTransform(transform, str(tmp_path / "euler.tfm"))
    matrix = read_transform(tmp_path / "euler.tfm")
    expected = np.array(transform.TransformPoint((4.0, 5.0, 6.0))) * [-1, -1, 1]
    np.testing.assert_allclose(apply_affine(matrix, [-4, -5, 6]), expected)


def _no_transform(folder: Path) -> Path:
    return folder / "none.txt"


def _text(folder: Path) -> Path:
    (folder / "text.txt").write_text("not a transform")
    return folder / "text.txt"


def _planar(folder: Path) -> Path:
    sitk.WriteTransform(sitk.Euler2DTransform(), str(folder / "planar.txt"))
    return folder / "planar.txt"


@pytest.mark.parametrize(
    ("make", "words"),
    [(_no_transform, "not an ITK"), (_text, "not an ITK"), (_planar, "not a linear")],
)
def test_other_files_are_refused_as_transforms(tmp_path, make, words):
    with pytest.raises(UnreadableImage, match=words):
        read_transform(make(tmp_path))


def test_lps_of_lps_is_ras():
    np.testing.assert_array_equal(ras_to_lps(ras_to_lps(OBLIQUE)), OBLIQUE)


def test_images_keep_values_and_places():
    volume = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), OBLIQUE)
    image = to_image(volume)
    assert image.GetSize() == (2, 3, 4)
    assert image.GetPixel(1, 2, 3) == 23
    place = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3))) * [-1, -1, 1]
    np.testing.assert_allclose(place, apply_affine(OBLIQUE, [1, 2, 3]))
    back = from_image(image)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)


def test_simpleitk_resamples_with_the_file_as_we_do_with_the_matrix(tmp_path):
    rng = np.random.default_rng(0)
    moving = Volume(rng.random((20, 18, 16)).astype(np.float32), OBLIQUE)
    affine = OBLIQUE @ np.diag([0.7, 0.7, 0.8, 1.0])
    affine[:3, 3] += OBLIQUE[:3, :3] @ [5, 5, 3]
    reference = Volume(np.zeros((12, 12, 12), np.float32), affine)
    matrix = pose_matrix(np.array([0.7, -0.4, 2.0, 1.0, -1.0, 2.0]), np.zeros(3))
    write_transform(tmp_path / "x.txt", matrix)
    theirs = sitk.Resample(
        to_image(moving),
        to_image(reference),
        sitk.ReadTransform(str(tmp_path / "x.txt")),
        sitk.sitkLinear,
    )
    ours = resample_to(moving, reference, matrix).data
    both = coverage(moving, reference, matrix) & (from_image(theirs).data != 0)
    assert both.sum() > 200
    np.testing.assert_allclose(ours[both], from_image(theirs).data[both], atol=1e-4)


# -- centrelines ---------------------------------------------------------------------------


def _tube(middle_mm, spacing=(1.0, 1.0, 2.0), shape=(40, 40, 40)):
    """Draw a cord of radius 4 mm around ``middle_mm(height)``."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    x, y, z = np.moveaxis(apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
    right, front = middle_mm(z)
    return Volume(((x - right) ** 2 + (y - front) ** 2 < 16).astype(np.uint8), affine)


def test_the_centreline_of_a_tilted_tube():
    cord = _tube(lambda z: (0.2 * z, 3 + 0.0 * z))
    cord.data[:3, :3, :3] = 1  # a false positive away from the cord
    line = centreline(cord)
    np.testing.assert_allclose(line[0], 0.2 * line[2], atol=0.3)
    np.testing.assert_allclose(line[1], 3, atol=0.3)
    assert (np.diff(line[2]) > 0).all()


@pytest.mark.parametrize("keep", [slice(0), slice(0, 2)])
def test_too_little_cord_has_no_centreline(keep):
    cord = _tube(lambda z: (0 * z, 0 * z))
    few = np.zeros_like(cord.data)
    few[:, :, keep] = cord.data[:, :, keep]
    assert centreline(Volume(few, cord.affine)) is None


@pytest.mark.parametrize("along", [-4.0, 0.0, 5.0])
def test_laying_a_line_onto_a_moved_one_finds_the_movement_across(along):
    height = np.arange(-40.0, 41.0, 2.0)
    line = np.stack([2 * np.sin(height / 20), 4 * np.cos(height / 25), height])
    pose = np.array([5.0, -7.0, along, 3.0, -2.0, 0.0])
    centre = np.array([1.0, 2.0, 3.0])
    matrix = pose_matrix(pose, centre)
    moved = matrix[:3, :3] @ line + matrix[:3, 3:]
    wrong = moved.copy()
    wrong[0, :4] += 9.0  # a stretch that is no cord
    for target in (moved, wrong):
        np.testing.assert_allclose(lay_onto(line, target, centre, along), pose, atol=0.05)


def test_lines_without_a_common_height_are_not_laid():
    line = np.stack([np.zeros(9), np.zeros(9), np.arange(9.0)])
    assert lay_onto(line, line + np.array([[0], [0], [100]]), np.zeros(3), 0.0) is None


# -- registration --------------------------------------------------------------------------

# Seed, grids, contrast and the largest error accepted (mm). Along the cord, thick slices with a
# small field of view say little: there the bound is wider.
PAIRS = [
    (101, "isotropic", "isotropic", "T1w", 0.5),
    (102, "isotropic", "axial", "STIR", 0.7),
    (103, "sagittal", "sagittal", "PSIR", 0.7),
    (104, "sagittal", "thick", "T2starw", 3.0),
]


@pytest.mark.parametrize(("seed", "reference", "moving", "contrast", "most_mm"), PAIRS)
def test_a_known_displacement_is_found(seed, reference, moving, contrast, most_mm):
    pair = phantoms.make_pair(seed, reference, moving, contrast)
    alignment = register(pair.moving, pair.reference, pair.reference_cord.data > 0)
    assert alignment.accepted
    assert alignment.score_registered > alignment.score_headers
    assert _error(alignment, pair) < most_mm
    turn = alignment.matrix[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)


def test_a_cord_that_is_seen_a_voxel_wider_changes_next_to_nothing():
    pair = phantoms.make_pair(7, "isotropic", "axial", "STIR")
    cord, other = pair.reference_cord, pair.moving_cord
    wider = cord.data.copy()
    wider[tuple(np.argwhere(cord.data)[0] - (1, 0, 0))] = 1
    one, two = (
        register(pair.moving, pair.reference, mask, other.data).matrix
        for mask in (cord.data, wider)
    )
    assert phantoms.error_at_cord(one, two, cord) < 0.05


def test_the_number_of_threads_changes_nothing():
    pair = phantoms.make_pair(*PAIRS[0][:4])
    cords = (pair.reference_cord.data, pair.moving_cord.data)
    alone, together = (
        register(pair.moving, pair.reference, *cords, threads=threads) for threads in (1, 3)
    )
    np.testing.assert_array_equal(alone.matrix, together.matrix)
    assert alone.score_registered == together.score_registered


def test_noisy_cords_on_both_reach_beyond_the_search_by_intensity():
    pair = phantoms.make_pair(105, "isotropic", "isotropic", "T1w", displacement_mm=3.0)
    far = np.eye(4)
    far[:2, 3] = 14.0, -11.0
    rng = np.random.default_rng(0)
    moving = Volume(pair.moving.data, far @ pair.moving.affine)
    cord = phantoms.noisy_cord(pair.reference_cord, rng).data
    moving_cord = phantoms.noisy_cord(pair.moving_cord, rng).data
    alignment = register(moving, pair.reference, cord, moving_cord)
    error = phantoms.error_at_cord(alignment.matrix, far @ pair.matrix, pair.reference_cord)
    assert alignment.accepted
    assert error < 0.7


def test_aligned_images_stay_where_they_are():
    pair = phantoms.make_pair(
        106, "isotropic", "axial", "STIR", displacement_mm=0.0, rotation_deg=0.0
    )
    alignment = register(pair.moving, pair.reference, pair.reference_cord.data > 0)
    assert _error(alignment, pair) < 0.3


def test_an_image_with_itself_is_not_accepted_as_an_improvement():
    image = phantoms.make_pair(107, "isotropic").reference
    alignment = register(image, image)
    assert not alignment.accepted
    np.testing.assert_array_equal(alignment.matrix, np.eye(4))
    assert alignment.score_headers > 0.5


def test_noise_is_not_accepted():
    pair = phantoms.make_pair(108, "isotropic", "isotropic")
    rng = np.random.default_rng(0)
    noise = Volume(rng.random(pair.moving.data.shape, np.float32), pair.moving.affine)
    alignment = register(noise, pair.reference, pair.reference_cord.data)
    assert not alignment.accepted
    np.testing.assert_array_equal(alignment.matrix, np.eye(4))


def test_an_image_without_contrast_is_not_accepted():
    reference = phantoms.make_pair(108, "isotropic").reference
    flat = Volume(np.zeros_like(reference.data), reference.affine)
    assert not register(flat, reference).accepted
    assert not register(flat, flat).accepted


def test_no_overlap_gives_the_identity_and_no_score():
    pair = phantoms.make_pair(109, "isotropic", "isotropic")
    away = pair.moving.affine.copy()
    away[2, 3] += 500
    alignment = register(Volume(pair.moving.data, away), pair.reference, pair.reference_cord.data)
    assert not alignment.accepted
    np.testing.assert_array_equal(alignment.matrix, np.eye(4))
    assert np.isnan([alignment.score_headers, alignment.score_registered]).all()


@pytest.mark.parametrize("which", ["mask", "moving_cord"])
def test_a_cord_of_another_shape_is_refused(which):
    image = Volume(np.zeros((5, 5, 5), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="shape"):
        register(image, image, **{which: np.zeros((5, 5, 4))})


_HASH = """
import sys, hashlib
sys.path[:0] = [{root!r}, {root!r} + "/benchmarks"]
from phantoms import make_pair
from bids_app.imaging.registration import register
pair = make_pair(110, "isotropic", "thick", "T2starw")
alignment = register(pair.moving, pair.reference, pair.reference_cord.data)
print(hashlib.sha256(alignment.matrix.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_matrix_is_the_same_bytes_on_one_thread_and_on_two():
    hashes = set()
    for threads in ("1", "2", "2"):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        result = subprocess.run(
            [sys.executable, "-c", _HASH.format(root=str(ROOT))],
            env={**os.environ, **limits},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(result.stdout.strip())
    assert len(hashes) == 1


def test_importing_the_stage_does_not_load_simpleitk_or_torch():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        "import bids_app.imaging.registration, bids_app.imaging.itk; "
        "print([name for name in ('SimpleITK', 'torch') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# -- one real pair -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    if not (REAL / "rawdata").is_dir():
        pytest.skip("the optional development folder shared/real is not here")
    scans = REAL / "rawdata" / "sub-real01" / "anat"
    labels = REAL / "derivatives" / "labels" / "sub-real01" / "anat"
    return phantoms.Pair(
        "real",
        read_volume(scans / "sub-real01_T2w.nii.gz"),
        read_volume(scans / "sub-real01_T2starw.nii.gz"),
        read_label_map(labels / "sub-real01_T2w_label-cord_mask.nii.gz"),
        read_label_map(labels / "sub-real01_T2starw_label-cord_mask.nii.gz"),
        np.eye(4),
    )


def _dice(pair, matrix):
    soft = Volume(pair.moving_cord.data.astype(np.float32), pair.moving_cord.affine)
    moved = resample_to(soft, pair.reference, matrix).data > 0.5
    cord = (pair.reference_cord.data > 0) & coverage(pair.moving, pair.reference, matrix)
    return 2 * (moved & cord).sum() / (moved.sum() + cord.sum())


def test_the_headers_of_the_real_pair_are_not_good_enough(real):
    assert _dice(real, np.eye(4)) == pytest.approx(0.51, abs=0.02)


@pytest.mark.parametrize("cords", [False, True])
@pytest.mark.parametrize("shift_mm", [(0, 0, 0), (4, -3, 2), (-5, 2, -3)])
def test_the_real_pair_is_aligned_from_displaced_headers(real, shift_mm, cords):
    extra = np.eye(4)
    extra[:3, 3] = shift_mm
    moving = Volume(real.moving.data, extra @ real.moving.affine)
    moving_cord = real.moving_cord.data if cords else None
    alignment = register(moving, real.reference, real.reference_cord.data, moving_cord)
    assert alignment.accepted
    assert _dice(real, np.linalg.inv(extra) @ alignment.matrix) > 0.80
