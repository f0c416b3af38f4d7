"""Where the network looks, and what it says in odd orientations."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from scipy import ndimage

from bids_app import pipeline
from bids_app.errors import MissingResource, NoCordFound
from bids_app.evaluation.metrics import dice
from bids_app.imaging.centring import offset_across
from bids_app.imaging.grids import resample_to
from bids_app.lesions.preset import load_preset
from bids_app.lesions.refine import refine
from bids_app.pipeline import find_lesions
from bids_app.records import Alignment, Combination, Glimpse, Prepared, Volume
from bids_app.segmentation import prediction, tiles
from bids_app.segmentation.inference import entropy_bits, segment_contrasts
from bids_app.segmentation.look import large_pieces, meets, tiles_for
from bids_app.segmentation.manifest import BOX, read_manifest
from bids_app.segmentation.merging import highest
from bids_app.segmentation.prediction import glimpse, predict
from bids_app.segmentation.weights import Model, load_model
from bids_app.training.acquisition import Protocol
from bids_app.training.anatomy import draw_spine
from bids_app.training.session import AXIAL, ISOTROPIC, Imaged, Recipe, image_session


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(BOX, torch.device("cpu"))


@pytest.fixture(scope="module")
def imaged() -> Imaged:
    rng = np.random.default_rng(12)
    return image_session(rng, draw_spine(rng, 5), -110.0, Recipe(ISOTROPIC, None, None))


def test_only_large_pieces_of_a_quick_cord_are_followed() -> None:
    cord = np.zeros((200, 100, 90), bool)
    cord[40:160, 40:50, 40:52] = True
    followed = cord.copy()
    cord[5, 90, 80] = True
    np.testing.assert_array_equal(large_pieces(cord), followed)
    assert large_pieces(np.zeros_like(cord)) is None


def test_looking_at_the_cord_only_gives_what_looking_everywhere_gives(
    model: Model, imaged: Imaged
) -> None:
    prepared, preset = Prepared((Volume(*imaged.first), None)), load_preset("box")
    near, everywhere = (
        refine(found[0], found[1], prepared.reference.spacing_mm, preset)
        for found in (predict(prepared, model), predict(prepared, model, whole=True))
    )
    assert dice(near.cord, everywhere.cord) >= 0.995
    assert dice(near.lesion, everywhere.lesion) >= 0.995
    assert near.instances.max() == everywhere.instances.max()


def test_a_cord_that_is_known_saves_a_pass_and_changes_nothing(
    model: Model, imaged: Imaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Prepared((Volume(*imaged.first), None))
    rough = predict(alone, model, quick=True)[0] >= 0.5
    found = predict(alone, model)
    calls = []
    monkeypatch.setattr(
        prediction, "slide", lambda *given: calls.append(given) or tiles.slide(*given)
    )
    again = predict(replace(alone, rough_cord=rough), model)
    assert len(calls) == 1
    for one, other in zip(found, again, strict=True):
        assert dice(one >= 0.5, other >= 0.5) >= 0.995
    nothing = predict(replace(alone, rough_cord=np.zeros_like(rough)), model)
    np.testing.assert_array_equal(nothing, predict(alone, model, whole=True))


def test_tiles_far_from_the_cord_are_left_out(model: Model) -> None:
    data = torch.randn(2, 160, 64, 64)
    cord = np.zeros((160, 64, 64), bool)
    cord[:10, 30:34, 30:34] = True
    with torch.inference_mode():
        everywhere = tiles.slide(data, model, 0.5, False)
        near = tiles.slide(data, model, 0.5, False, cord)
    assert everywhere.logits.shape == data.shape
    assert near.box[0].start == 0 and 64 <= near.box[0].stop <= 128
    assert torch.isfinite(near.logits).all()
    torch.testing.assert_close(near.logits[:, :32], everywhere.logits[:, :32])


def test_tiles_that_weigh_less_are_read_in_half_of_the_mirrorings(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def note(_: object, tile: Any, flip: tuple[int, ...] = ()) -> torch.Tensor:
        read.setdefault(tiles.corner(tile), []).append(flip)
        return torch.zeros(2, 64, 64, 64)

    monkeypatch.setattr(tiles.Reading, "read", note)
    cord = np.zeros((64, 96, 64), bool)
    cord[:, 40:44, 30:34] = True
    mirrored = replace(model, manifest=replace(model.manifest, mirror_axes=(0, 1, 2)))
    tiles.slide(torch.zeros(2, 64, 96, 64), mirrored, 0.5, True, cord)
    assert read == {
        (0, 0, 0): tiles.mirrorings((0, 1, 2)),
        (0, 32, 0): [(), (0, 1), (0, 2), (1, 2)],
    }


class _Crowded(torch.nn.Module):
    """A network on a device that has no room for its first calls, its copies counted too."""

    def __init__(self, network: torch.nn.Module, failures: int) -> None:
        super().__init__()
        self.network, self.left = network, [failures]

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.nn.Module:
        twin = _Crowded(copy.deepcopy(self.network, memo), 0)
        twin.left = self.left
        return twin

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        if self.left[0]:
            self.left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        result: torch.Tensor = self.network(tile)
        return result


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_an_accelerator_without_memory_is_asked_for_less(
    imaged: Imaged,
    failures: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(
        tiles, "_ways", lambda _: ((cpu, cpu), (cpu, cpu), (torch.device("cpu", 0), cpu))
    )
    monkeypatch.setattr(tiles, "has_fast_bf16", lambda _: False)
    prepared = Prepared((Volume(*imaged.first), None))
    plain = load_model(BOX, cpu, by_pytorch=True)  # as on an accelerator
    crowded = replace(plain, networks=(_Crowded(plain.networks[0], failures),))
    probability = predict(prepared, crowded, quick=True)
    assert np.array_equal(probability, predict(prepared, plain, quick=True))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * failures
    assert ("the CPU, which takes longer" in caplog.text) == (failures == 2)


def test_a_session_without_memory_anywhere_is_told(model: Model, imaged: Imaged) -> None:
    crowded = replace(model, networks=(_Crowded(model.networks[0], 9),))
    with pytest.raises(torch.OutOfMemoryError):
        predict(Prepared((Volume(*imaged.first), None)), crowded, quick=True)


@pytest.mark.parametrize("letters", ["PSR", "LPI"])
def test_orientation_changes_nothing_but_orientation(
    model: Model, imaged: Imaged, letters: str
) -> None:
    data, affine = imaged.first
    data, affine = data[:, 20:84, 40:110], affine @ _shift(0, 20, 40)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(letters))
    turned = Volume(apply_orientation(data, turn), affine @ inv_ornt_aff(turn, data.shape))
    preset = load_preset("box")
    straight = find_lesions(Volume(data, affine), None, model, preset)
    other = find_lesions(turned, None, model, preset)
    np.testing.assert_array_equal(straight.findings.cord, other.findings.cord)
    assert straight.lesions == pytest.approx(other.lesions)
    assert straight.findings.cord.any()


def _shift(i: int, j: int, k: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = i, j, k
    return matrix


def test_each_contrast_is_read_by_itself_and_the_higher_counts(model: Model) -> None:
    rng = np.random.default_rng(21)
    imaged = image_session(rng, draw_spine(rng, 6), -110.0, Recipe(ISOTROPIC, ISOTROPIC, "STIR"))
    reference, second = Volume(*imaged.first), Volume(*(imaged.second or imaged.first))
    placed = resample_to(second, reference, np.asarray(imaged.matrix))
    both = Prepared((reference, placed), rough_cord=imaged.cord)
    alone = [
        predict(Prepared(channels, rough_cord=imaged.cord), model)
        for channels in ((reference, None), (None, placed))
    ]
    odds = alone[1][1] / (1 - alone[1][1])
    lowered = odds * np.exp(-0.25) / (1 + odds * np.exp(-0.25))
    assert model.manifest.second_alone_penalty == 0.25 and model.manifest.fusion == "late"
    (found,) = segment_contrasts(both, model)
    first = alone[0][1]
    near = ndimage.maximum_filter(alone[1][1], 11) >= 0.2
    shown = ndimage.maximum_filter(alone[1][0], 5) >= 0.5
    doubted = first / (first + (1 - first) * np.exp(1.5))
    doubted = np.where(~near & shown & (first > 0.5), np.maximum(doubted, 0.5), first)
    assert model.manifest.reference_alone_penalty == 1.5
    assert np.abs(found.lesion - np.maximum(doubted, lowered)).max() <= 2**-15
    assert np.abs(found.cord - alone[0][0]).max() <= 2**-16
    np.testing.assert_array_equal(found.uncertainty, entropy_bits(found.lesion))
    assert ((lowered >= 0.5) & (alone[0][1] < 0.5)).any()
    seen = (Glimpse(alone[1][0], alone[1][1]), Glimpse(alone[0][0], alone[0][1]))
    (again,) = segment_contrasts(replace(both, glimpses=seen), model)
    agreed = (alone[0][1] < 0.01) & (alone[1][1] < 0.5)
    assert np.abs(again.lesion - alone[1][1])[agreed].max() < 0.01
    assert np.abs(again.cord - alone[1][0]).max() <= 2**-16
    votes = Combination("vote", 0.5)
    (voted,) = segment_contrasts(both, model, combination=votes)
    np.testing.assert_array_equal(
        voted.lesion, np.maximum(*(np.rint(each[1] * 2**16) * 2**-16 >= 0.5 for each in alone))
    )


def test_a_contrast_that_is_alone_is_read_mirrored_too(model: Model, imaged: Imaged) -> None:
    lone = Prepared((Volume(*imaged.first), None), rough_cord=imaged.cord)
    mirrored = predict(lone, model)[1]
    (found,) = segment_contrasts(lone, model)
    assert np.abs(found.lesion - mirrored).max() <= 2**-16
    assert np.abs(mirrored - predict(lone, model, mirror=False)[1]).max() > 0.1


def test_what_only_the_reference_shows_has_to_be_surer_and_keeps_its_extent() -> None:
    cord, lesion, other = np.zeros((3, 20, 20, 60), np.float32)
    cord[5:15, 5:15] = 1
    lesion[8:12, 8:12, 10:15] = lesion[8:12, 8:12, 40:45] = 0.6
    lesion[9:11, 9:11, 12] = lesion[9:11, 9:11, 42] = 0.9
    other[8:12, 8:12, 44:47] = 0.3  # near all of the second lesion
    first, second = (cord, lesion), (cord, other)
    _, merged = highest((first, second), (1.0, 1.0, 1.0), 0.25, 1.5)
    assert merged[9, 9, 12] == pytest.approx(0.9 / (0.9 + 0.1 * np.exp(1.5)), abs=1e-6)
    assert merged[8, 8, 12] == 0.5
    np.testing.assert_array_equal(merged >= 0.5, lesion >= 0.5)
    np.testing.assert_array_equal(merged[..., 40:45], lesion[..., 40:45])
    blind = np.zeros_like(cord), other  # it does not show the cord there
    unseen = highest((first, blind), (1.0, 1.0, 1.0), 0.25, 1.5)[1]
    np.testing.assert_array_equal(unseen[..., :45], lesion[..., :45])


@pytest.mark.parametrize("grid", [ISOTROPIC, AXIAL])
def test_a_session_is_what_it_is_with_all_tiles(
    model: Model, grid: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(21)
    imaged = image_session(rng, draw_spine(rng, 6), -110.0, Recipe(ISOTROPIC, grid, "STIR"))
    reference, second = Volume(*imaged.first), Volume(*(imaged.second or imaged.first))
    ours = find_lesions(reference, second, model, load_preset("box")).findings
    every = partial(prediction.predict, whole=True)
    monkeypatch.setattr(prediction, "predict", every)
    theirs = find_lesions(reference, second, model, load_preset("box")).findings
    assert ours.lesion.any() and ours.instances.max() == theirs.instances.max()
    assert dice(ours.cord, theirs.cord) >= 0.995
    # With slices of 5 mm: 0.9979 in bfloat16, with AMX and without, 0.9958 in float32.
    assert dice(ours.lesion, theirs.lesion) >= 0.995


def test_what_the_alignment_saw_of_the_contrasts_lies_on_the_grid_of_the_reference(
    model: Model,
) -> None:
    rng = np.random.default_rng(21)
    imaged = image_session(rng, draw_spine(rng, 6), -110.0, Recipe(ISOTROPIC, AXIAL, "STIR"))
    reference, second = Volume(*imaged.first), Volume(*(imaged.second or imaged.first))
    seen = pipeline.look(reference, second, model, closely=True)
    assert seen[1] is not None and seen[1].cord.shape == second.data.shape
    known = Alignment(imaged.matrix, True, 0.0, 1.0, "known")
    prepared = pipeline.place(reference, second, (seen[0], seen[1]), known)
    for glimpse_of in prepared.glimpses:
        assert glimpse_of is not None and glimpse_of.lesion is not None
        assert dice(glimpse_of.cord >= 0.5, imaged.cord) > 0.9
        assert glimpse_of.lesion[imaged.lesion].mean() > 5 * glimpse_of.lesion[imaged.cord].mean()
    quick = pipeline.look(reference, second, model)
    assert [each and each.lesion for each in quick] == [None, None]
    by_hand = pipeline.look(reference, second, model, imaged.cord, closely=True)[0]
    assert by_hand.lesion is None and (by_hand.cord == imaged.cord).all()


def test_an_image_without_a_cord_is_an_error_not_a_zero(model: Model) -> None:
    noise = np.random.default_rng(0).normal(100, 1, (64, 64, 64)).astype(np.float32)
    with pytest.raises(NoCordFound, match="cannot be said to be free of lesions"):
        find_lesions(Volume(noise, np.eye(4)), None, model, load_preset("box"))


def test_the_box_is_complete_and_small() -> None:
    manifest = read_manifest(BOX)
    assert manifest.channels == ("T2w", "second")
    assert sum(path.stat().st_size for path in BOX.iterdir()) < 20e6
    assert {"command", "seed", "steps", "hours"} <= set(manifest.training)


def test_damaged_weights_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for path in BOX.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = next(tmp_path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(MissingResource, match="damaged"):
        load_model(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize("away_mm", [0.0, 25.0, 70.0, 500.0])
def test_the_second_cord_is_found_near_the_first_ones_place_or_anywhere(
    model: Model, imaged: Imaged, away_mm: float
) -> None:
    image = Volume(*imaged.first)
    shift = np.eye(4)
    shift[:3, 3] = [0, away_mm, 0]  # the headers put the two so far apart
    cord = Volume(imaged.cord.astype(np.float32), shift @ image.affine)
    found = pipeline._look_at_second(image, cord, model, False).cord >= 0.5
    whole = glimpse(Prepared((None, image)), model).cord >= 0.5
    assert dice(found, whole) > 0.99
    assert dice(found, imaged.cord) > 0.9


@pytest.mark.parametrize("closely", [False, True])
def test_a_glimpse_is_the_whole_reading_near_the_cord_and_nothing_far_away(
    model: Model, imaged: Imaged, closely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared((Volume(*imaged.first), None))
    near = glimpse(prepared, model, closely=closely)
    monkeypatch.setattr(prediction, "_round_cord", lambda part, _: part)
    whole = glimpse(prepared, model, closely=closely)
    cord = np.argwhere(whole.cord >= 0.5)
    low, high = cord.min(axis=0), cord.max(axis=0) + 1
    room = 12 / np.array(prepared.reference.spacing_mm)
    inner = tuple(
        slice(max(0, int(a - r)), int(b + r)) for a, b, r in zip(low, high, room, strict=True)
    )
    assert (near.lesion is not None) == (whole.lesion is not None) == closely
    pairs = [(near.cord, whole.cord)]
    pairs += [(near.lesion, whole.lesion)] if near.lesion is not None else []
    for ours, theirs in pairs:
        assert theirs is not None
        np.testing.assert_array_equal(ours[inner], theirs[inner])
        assert np.count_nonzero(ours) < 0.8 * np.count_nonzero(theirs)
    if closely:
        read = predict(prepared, model, mirror=False)
        for ours, theirs in zip((whole.cord, whole.lesion), read, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(
    offset=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    slope=st.floats(-0.3, 0.3),
    spacing=st.sampled_from([(3.0, 0.8, 0.8), (0.7, 0.7, 5.0), (1.0, 1.0, 1.0)]),
    torn=st.booleans(),
)
def test_an_offset_across_the_cord_is_measured(
    offset: tuple[float, float], slope: float, spacing: tuple[float, float, float], torn: bool
) -> None:
    shape = tuple(int(mm / step) for mm, step in zip((50, 50, 60), spacing, strict=True))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -20, -25, 7
    x, y, z = (np.indices(shape).T @ affine[:3, :3].T + affine[:3, 3]).transpose(3, 2, 1, 0)

    def cord(right: float, front: float) -> np.ndarray:
        far = np.hypot((x - 5 - right) / 6.5, (y - slope * (z - 30) - front) / 4.5)
        return np.clip((1.3 - far) / 0.6, 0, 1).astype(np.float32)

    one, other = cord(0, 0), cord(*offset)
    if torn:
        other[..., : shape[2] // 3] = 0
    found = offset_across(one, other, Volume(one, affine))
    wanted = np.array([*offset, 0]) if np.hypot(*offset) <= 5.9 else found
    np.testing.assert_allclose(found, wanted, atol=0.25)
    np.testing.assert_allclose(offset_across(other, one, Volume(one, affine)), -found, atol=1e-6)
    other[..., 2:] = 0
    assert not offset_across(one, other, Volume(one, affine)).any()


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (1.2, 1.2, 0.0), (-2.0, 1.0, 0.0)])
def test_what_is_seen_is_put_cord_on_cord(shift: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(3)
    imaged = image_session(rng, draw_spine(rng, 5), -110.0, Recipe(ISOTROPIC, ISOTROPIC, "STIR"))
    reference, second = Volume(*imaged.first), Volume(*(imaged.second or imaged.first))
    cord = ndimage.gaussian_filter(imaged.cord.astype(np.float32), 0.7)
    on_second = resample_to(Volume(cord, reference.affine), second, np.linalg.inv(imaged.matrix))
    lesion = resample_to(
        Volume(imaged.lesion.astype(np.float32), reference.affine),
        second,
        np.linalg.inv(imaged.matrix),
    )
    seen = Glimpse(cord), Glimpse(on_second.data, lesion.data)
    matrix = np.array(imaged.matrix, float)
    matrix[:3, 3] += shift
    there = Alignment(matrix, True, 0.0, 1.0, "known")
    prepared = pipeline.place(reference, second, seen, there)
    placed = prepared.glimpses[1]
    assert placed is not None and placed.lesion is not None
    assert dice(placed.cord >= 0.5, cord >= 0.5) > 0.95
    assert dice(placed.lesion >= 0.5, imaged.lesion) > 0.75
    # The image itself stays where the alignment has put it.
    expected = resample_to(second, reference, matrix).data
    assert prepared.channels[1] is not None
    np.testing.assert_array_equal(prepared.channels[1].data, expected)


@settings(max_examples=12, deadline=None)
@given(
    patch=st.sampled_from([(64, 64, 64), (96, 96, 64), (128, 128, 64), (128, 64, 80)]),
    shape=st.tuples(st.integers(130, 260), st.integers(130, 220), st.integers(80, 100)),
    seed=st.integers(0, 99),
)
def test_tiles_that_are_left_out_see_nothing_alone(
    patch: tuple[int, int, int], shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    course = np.cumsum(rng.normal(0, 0.7, (shape[0], 2)), axis=0) + np.array(shape[1:]) / 2
    cord = np.zeros(shape, bool)
    for level, (y, x) in enumerate(course.clip(6, np.array(shape[1:]) - 7).astype(int)):
        cord[level, y - 5 : y + 6, x - 6 : x + 7] = True
    places = list(tiles.tiles(shape, patch, 0.5))
    met = [tile for tile in places if meets(tile, cord)]
    gaussian = compute_gaussian(patch, dtype=torch.float32, device=torch.device("cpu")).numpy()

    def weight(tile: tuple[slice, ...]) -> np.ndarray:
        whole = np.zeros(shape, np.float32)
        whole[tile] = gaussian
        return whole[cord]

    weights = np.array([weight(tile) for tile in met])
    shares = weights / weights.sum(axis=0)
    # nnU-Net's Gaussian is a filtered impulse, not quite the formula: at the limit either is right.
    heavy = [tile for tile, share in zip(met, shares, strict=True) if share.max() >= 0.049]
    kept = tiles_for(cord, places)
    assert [tile for tile in heavy if tile in kept] == kept
    # Without a tile that weighs a fifth, masks of lesions agree with 0.99 and no more.
    assert all(tile in kept for tile, s in zip(met, shares, strict=True) if s.max() >= 0.21)

    def depth(tile: tuple[slice, ...]) -> np.ndarray:
        """How far each voxel lies from the tile's borders within the image; negative outside."""
        far = np.full(shape, np.inf)
        for axis, part in enumerate(tile):
            along = np.arange(shape[axis])
            low = along - part.start + 1 if part.start > 0 else np.full(shape[axis], np.inf)
            low = np.where(along < part.start, -1, low)
            high = part.stop - along if part.stop < shape[axis] else np.full(shape[axis], np.inf)
            sides = [shape[axis] if other == axis else 1 for other in range(3)]
            far = np.minimum(far, np.minimum(low, high).reshape(sides))
        return far

    best, ours = (np.max([depth(tile) for tile in some], axis=0)[cord] for some in (heavy, kept))
    # Well seen by one, or seen by all that ever did.
    assert ((ours >= 24) | (ours == best)).all()
    if patch == (64, 64, 64):
        certain = [tile for tile, share in zip(met, shares, strict=True) if share.max() >= 0.051]
        assert [tile for tile in kept if tile in certain] == certain
