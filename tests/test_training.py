"""The synthetic spines and the training on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage, special

from bids_app.cli import main
from bids_app.training import patches
from bids_app.training.acquisition import Protocol, apply_axes, degrade, slice_matrix
from bids_app.training.anatomy import draw_lesion, draw_spine
from bids_app.training.canvas import TISSUES
from bids_app.training.contrasts import draw_contrast, render
from bids_app.training.fit import FitSettings, fit
from bids_app.training.package import package_box
from bids_app.training.patches import (
    _uneven_cord,
    make_examples,
    misalign,
    render_example,
    visible_lesions,
)
from bids_app.training.plan import WEIGHTS_FILE
from bids_app.training.poses import fine_points
from bids_app.training.structures import paint

PATCH = (48, 32, 32)


def _pose(spine: object, height: float) -> np.ndarray:
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = [spine.at("center_x", height), spine.at("center_y", height), height]  # type: ignore[attr-defined]
    return pose


@pytest.mark.parametrize("seed", range(8))
def test_a_spine_has_a_cord_of_human_size_inside_its_sac(seed: int) -> None:
    spine = draw_spine(np.random.default_rng(seed))
    for height, low, high in ((-70.0, 40, 130), (-230.0, 25, 95)):
        a, b = spine.at("cord_a", height), spine.at("cord_b", height)
        assert low < np.pi * a * b < high
        assert spine.at("sac_a", height) > a
        assert spine.at("sac_b", height) > b
    assert -560 < spine.conus_mm < -320
    assert np.all(np.diff(spine.disc_mm) < 0)


def test_painted_cord_has_the_area_of_its_ellipse() -> None:
    spine = draw_spine(np.random.default_rng(3), lesion_count=0)
    height = -100.0
    anatomy = paint(spine, fine_points((40, 40, 3), 0.5, _pose(spine, height)), 0.5)
    area = float(anatomy.cord[:, :, 1].sum()) * 0.25
    expected = np.pi * spine.at("cord_a", height) * spine.at("cord_b", height)
    assert area == pytest.approx(expected, rel=0.06)


def test_the_cord_is_one_piece_along_a_patch() -> None:
    spine = draw_spine(np.random.default_rng(4), lesion_count=0)
    anatomy = paint(spine, fine_points((40, 40, 60), 1.0, _pose(spine, -120.0)), 1.0)
    _, count = ndimage.label(anatomy.cord > 0.5)
    assert count == 1
    assert (anatomy.cord > 0.5).any(axis=(0, 1)).all()


@pytest.mark.parametrize(("name", "sign"), [("T2w", 1), ("STIR", 1), ("PSIR", -1), ("UNIT1", -1)])
def test_lesions_are_bright_or_dark_as_the_contrast_has_them(name: str, sign: int) -> None:
    rng = np.random.default_rng(5)
    spine = draw_spine(rng, lesion_count=0)
    lesions = tuple(draw_lesion(rng, -125, -115, visible=(1.0, 1.0)) for _ in range(3))
    spine = type(spine)(spine.table, spine.disc_mm, spine.conus_mm, lesions, spine.seed)
    anatomy = paint(spine, fine_points((40, 40, 60), 1.0, _pose(spine, -120.0)), 1.0)
    image = render(anatomy, draw_contrast(rng, 0, name), 0, rng)
    lesion = visible_lesions(anatomy, (True, False)) > 0.7
    healthy = (anatomy.cord > 0.95) & (visible_lesions(anatomy, (True, True)) < 0.01)
    assert lesion.sum() > 20
    assert sign * (np.median(image[lesion]) - np.median(image[healthy])) > 0.03


def test_known_contrasts_separate_cord_and_fluid() -> None:
    rng = np.random.default_rng(0)
    cord, csf = TISSUES.index("cord"), TISSUES.index("csf")
    for name, sign in (("T2w", 1), ("STIR", 1), ("T1w", -1), ("PSIR", -1), ("UNIT1", -1)):
        for _ in range(20):
            signal = draw_contrast(rng, 0, name).signal
            assert sign * (signal[csf] - signal[cord]) > 0.05


def test_examples_repeat_with_their_seed_and_differ_without() -> None:
    first, again = (next(make_examples(np.random.default_rng(7), PATCH, 1.0, 1)) for _ in "ab")
    other = next(make_examples(np.random.default_rng(8), PATCH, 1.0, 1))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.image, other.image)


def test_examples_are_what_the_network_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    dropped = set()
    for _ in range(12):
        for example in make_examples(rng, PATCH, 1.0, 1):
            assert example.image.shape == example.target.shape == (2, *PATCH)
            assert np.isfinite(example.image).all()
            assert set(np.unique(example.target)) <= {0, 1}
            assert not (example.target[1] & ~example.target[0].astype(bool)).any()
            dropped.add(tuple(bool(channel.any()) for channel in example.image))
    assert {(True, False), (False, True)} <= dropped
    drawn = {patches._draw_present(rng) for _ in range(200)}
    assert drawn == {(True, True), (True, False), (False, True)}
    monkeypatch.setattr(patches, "_draw_present", lambda _: (True, True))
    both = next(make_examples(rng, PATCH, 1.0, 1)).image
    assert np.isfinite(both).all() and both.any(axis=(1, 2, 3)).all()


def test_dense_examples_show_cord_and_lesions() -> None:
    rng = np.random.default_rng(10)
    shares = [
        next(make_examples(rng, (64, 48, 32), 1.0, 1, 1.0, True)).target.any(axis=(1, 2, 3))
        for _ in range(8)
    ]
    assert np.mean([share[0] for share in shares]) == 1
    assert np.mean([share[1] for share in shares]) >= 0.8


def test_misaligning_moves_by_millimetres_not_more() -> None:
    ball = np.zeros((40, 40, 40), np.float32)
    ball[18:22, 18:22, 18:22] = 1
    for seed in range(10):
        moved = misalign(np.random.default_rng(seed), ball, 1.0)
        shift = np.array(ndimage.center_of_mass(moved)) - 19.5
        assert np.linalg.norm(shift) < 8


def test_acquiring_keeps_the_mean_of_a_flat_image_and_averages_slices() -> None:
    fine, slices = np.arange(30.0), np.array([4.5, 14.5, 24.5])
    matrix = slice_matrix(fine, slices, 10.0, ringing=0.3)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    ramp = np.broadcast_to(fine.astype(np.float32), (4, 5, 30))
    eye = (np.eye(4, dtype=np.float32), np.eye(5, dtype=np.float32))
    acquired = apply_axes(np.ascontiguousarray(ramp), (*eye, slice_matrix(fine, slices, 10.0)))
    np.testing.assert_allclose(acquired[0, 0], [4.5, 14.5, 24.5], atol=0.1)


def test_an_edge_rings_as_a_truncated_fourier_series_does() -> None:
    # The fine grid holds means over its voxels; what is acquired lies half a voxel off.
    fine, acquired = np.arange(-200.0, 201.0), np.arange(-8.0, 9.0) + 0.5
    known, expected = [], []
    for edge in np.linspace(-0.5, 0.5, 11):
        beyond = (acquired > edge + 1.2) & (acquired < edge + 5)
        matrix = slice_matrix(fine, acquired, 1.0, ringing=1.0)
        known.append((matrix @ np.clip(fine - edge + 0.5, 0, 1))[beyond])
        expected.append(0.5 + special.sici(np.pi * (acquired - edge))[0][beyond] / np.pi)
    ours, theirs = np.concatenate(known) - 1, np.concatenate(expected) - 1
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert 1 < ours.std() / theirs.std() < 1.5


def test_a_cord_without_lesions_is_not_equally_bright_along_its_course() -> None:
    spine = replace(draw_spine(np.random.default_rng(11), 0), lesions=())
    anatomy = paint(spine, fine_points((48, 48, 64), 1.0, _pose(spine, -90.0)), 1.0)
    even, wander = np.ones(anatomy.shape, np.float32), []
    for seed in range(12):
        image = _uneven_cord(np.random.default_rng(seed), anatomy, even)
        wander.append(float(image[anatomy.cord > 0.99].std()))
        np.testing.assert_array_equal(image[anatomy.cord == 0], 1)
    assert min(wander) < 0.01 and 0.03 < max(wander) < 0.12


def test_degrading_with_strength_zero_changes_nothing() -> None:
    image = np.random.default_rng(0).random((8, 9, 10), dtype=np.float32)
    protocol = Protocol("isotropic", (1, 1, 1), (1, 1, 1))
    np.testing.assert_array_equal(
        degrade(image, protocol, np.random.default_rng(1), False, 0), image
    )


def test_rendering_needs_no_channel_but_one() -> None:
    spine = draw_spine(np.random.default_rng(11), 2)
    anatomy = paint(spine, fine_points((40, 40, 56), 1.0, _pose(spine, -90.0)), 1.0)
    for seed in range(10):
        example = render_example(np.random.default_rng(seed), anatomy, PATCH, 1.0)
        assert example.image.any(axis=(1, 2, 3)).any()


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumes_and_its_package_loads(tmp_path: Path) -> None:
    from bids_app.segmentation.weights import load_model

    run = tmp_path / "run"
    fit(FitSettings(run, steps=2, batch_size=1, workers=0, device="cpu"))
    state = fit(FitSettings(run, steps=4, batch_size=1, workers=0, device="cpu"))
    assert torch.load(state, weights_only=True)["step"] == 4
    package_box(state, tmp_path / "model", "0.0.0")
    model = load_model(tmp_path / "model", torch.device("cpu"), by_pytorch=True)
    assert model.manifest.training["seed"] == 1
    assert model.manifest.training["steps"] == 4
    wanted = torch.load(state, weights_only=True)["average"][
        "module.encoder.stages.0.0.convs.0.conv.weight"
    ]
    found = model.networks[0].state_dict()["encoder.stages.0.0.convs.0.conv.weight"]
    torch.testing.assert_close(found, wanted.half().float())
    blank = tmp_path / "blank"
    package_box(state, blank, "0.0.0")
    weights = load_file(blank / WEIGHTS_FILE)
    save_file({name: 0 * weight for name, weight in weights.items()}, blank / WEIGHTS_FILE)
    package_box(state, tmp_path / "mixed", "0.0.0", start=blank, keep=0.25)
    mixed = load_model(tmp_path / "mixed", torch.device("cpu"), by_pytorch=True)
    assert mixed.manifest.training["kept_of_start"] == 0.25
    less = mixed.networks[0].state_dict()["encoder.stages.0.0.convs.0.conv.weight"]
    torch.testing.assert_close(less, (0.75 * wanted).half().float())


def test_a_share_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--keep", "1.5", "--start", str(tmp_path)], ["--keep", "0.4"]):
        assert main(["train", "box", str(tmp_path / "run"), *wrong]) == 2
        assert "give a share from 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
