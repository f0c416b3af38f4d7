"""The quick look follows the cord, and looks everywhere where there is none to follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_app.evaluation.metrics import dice
from bids_app.segmentation.follow import follow, probable_cord
from bids_app.segmentation.manifest import BOX
from bids_app.segmentation.tiles import Part, slide, tiles
from bids_app.segmentation.weights import Model, load_model
from bids_app.training.anatomy import draw_spine
from bids_app.training.session import ISOTROPIC, Recipe, image_session
from bids_app.training.structures import Array

_SHAPE = (180, 200, 130)


class _BrightCord(torch.nn.Module):
    """Takes bright voxels for cord, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return torch.cat([tile[:, :1] * 20 - 10, torch.full_like(tile[:, :1], -10)], 1)


@pytest.fixture(scope="module")
def box() -> Model:
    return load_model(BOX, torch.device("cpu"), by_pytorch=True)


def _cord(slope: float = 0.0, first: int = 0, last: int = _SHAPE[0]) -> Array:
    """Draw a cord along z that starts in the middle of the image and runs off to the side."""
    z, y, x = np.ogrid[: _SHAPE[0], : _SHAPE[1], : _SHAPE[2]]
    inside = (y - 100 - slope * (z - 90)) ** 2 + (x - 65) ** 2 < 49
    return np.asarray(inside & (z >= first) & (z < last), np.float32)


def _asked(model: Model, image: Array, near: Array | None = None) -> tuple[int, np.ndarray]:
    network = _BrightCord()
    data = torch.from_numpy(np.stack([image, image]))
    known = None if near is None else near.astype(bool)
    with torch.inference_mode():
        logits = _whole(follow(data, replace(model, networks=(network,)), known)[0], data)
    read = torch.isfinite(logits[0]).numpy()
    return network.asked, np.where(read, probable_cord(logits, model), False) * 2 - ~read


def _whole(part: Part, data: torch.Tensor) -> torch.Tensor:
    """Give the logits of the whole image, not a number where nothing was read."""
    logits = torch.full((2, *data.shape[1:]), torch.nan, dtype=torch.half)
    logits[(slice(None), *part.box)] = part.logits
    return logits


def _levels() -> int:
    return len(list(tiles(_SHAPE, (64, 64, 64), 1.0)))


@pytest.mark.parametrize("slope", [0.0, 0.3, -0.4])
def test_a_cord_is_followed_tile_after_tile(box: Model, slope: float) -> None:
    asked, found = _asked(box, _cord(slope))
    assert 3 <= asked <= 7 < _levels()
    np.testing.assert_array_equal(found == 2, _cord(slope) > 0)


def test_where_a_cord_ends_the_whole_level_is_read(box: Model) -> None:
    asked, found = _asked(box, _cord(last=130))
    np.testing.assert_array_equal(found == 2, _cord(last=130) > 0)
    assert (found[150] >= 0).all() and not (found[90] >= 0).all()
    assert asked < _levels()


def test_without_a_cord_everything_is_read(box: Model) -> None:
    asked, found = _asked(box, np.zeros(_SHAPE, np.float32))
    assert (found == 0).all()
    assert asked >= _levels()


def test_a_cord_far_from_the_middle_is_found(box: Model) -> None:
    image = np.roll(_cord(), (-80, 45), (1, 2))
    _, found = _asked(box, image)
    np.testing.assert_array_equal(found == 2, image > 0)


def test_nothing_is_read_far_from_where_to_look(box: Model) -> None:
    near = np.zeros(_SHAPE, np.float32)
    near[:40, 90:110, 55:75] = 1
    asked, found = _asked(box, _cord(), near)
    assert asked == 1
    assert (found[:60, 100, 65] == 2).all() and (found[70:] == -1).all()


def test_the_order_of_two_ways_changes_nothing(box: Model) -> None:
    data = torch.from_numpy(np.stack([_cord(0.3)] * 2))
    one, other = (
        follow(data, replace(box, networks=(_BrightCord(),), at_once=number))[0].logits
        for number in (1, 2)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_the_box_finds_the_cord_that_is_known(box: Model) -> None:
    rng = np.random.default_rng(12)
    imaged = image_session(rng, draw_spine(rng, 5), -110.0, Recipe(ISOTROPIC, None, None))
    image, width = imaged.first[0], imaged.first[0].shape[0]
    data = torch.zeros(2, *image.T.shape[:2], 64)
    normalised = (image - image.mean()) / image.std()
    data[0, :, :, :width] = torch.from_numpy(np.ascontiguousarray(normalised.T))
    with torch.inference_mode():
        logits = _whole(follow(data, box)[0], data)
    found = probable_cord(torch.nan_to_num(logits, nan=-20), box)
    assert dice(found[:, :, :width], imaged.cord.T) > 0.93


@pytest.mark.parametrize("mirror", [False, True])
def test_no_tile_is_read_twice_and_nothing_is_changed_by_that(box: Model, mirror: bool) -> None:
    image = np.stack([_cord(0.3)] * 2) + np.random.default_rng(0).normal(0, 0.1, (2, *_SHAPE))
    data = torch.from_numpy(image.astype(np.float32))
    network = _BrightCord()
    model = replace(box, networks=(network,))
    with torch.inference_mode():
        part, known = follow(data, model)
        before = network.asked
        assert len(known) == before
        cord = np.zeros(_SHAPE, bool)
        cord[part.box] = probable_cord(torch.nan_to_num(part.logits, nan=-20), model)
        again = slide(data, model, 0.5, mirror, cord, known)
        second = network.asked - before
        afresh = slide(data, model, 0.5, mirror, cord)
    assert again.box == afresh.box
    torch.testing.assert_close(again.logits, afresh.logits, rtol=0, atol=0, equal_nan=True)
    used = network.asked - before - 2 * second
    assert before / 2 < used <= before
