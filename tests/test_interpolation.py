"""Interpolating a part of an array gives what PyTorch gives for the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

from bids_app.segmentation.interpolation import resample_part

_SIDES = st.tuples(*[st.integers(2, 24)] * 3)


def _pasted(part: torch.Tensor, box: tuple[slice, ...], shape: tuple[int, ...]) -> torch.Tensor:
    whole = torch.tensor([-20.0, 20.0]).reshape(2, 1, 1, 1).repeat(1, *shape)
    whole[(slice(None), *box)] = part
    return whole


@settings(max_examples=150, deadline=None)
@given(_SIDES, _SIDES, st.integers(0, 2**32 - 1))
def test_a_part_is_as_in_the_whole(shape: tuple[int, ...], new: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in shape]
    box = tuple(slice(*pair) for pair in ends)
    part = torch.from_numpy(
        rng.normal(0, 10, (2, *(p.stop - p.start for p in box))).astype(np.float32)
    )
    expected = torch.nn.functional.interpolate(
        _pasted(part, box, shape)[None], new, mode="trilinear"
    )[0]
    found = resample_part(part, box, shape, new, torch.tensor([-20.0, 20.0]))
    torch.testing.assert_close(_pasted(*found, new), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_thick_slices_are_as_nnunet_has_them(thick: int) -> None:
    shape, new = [30, 30, 30], [36, 36, 36]
    new[thick] = 7
    spacing = [0.8] * 3
    spacing[thick] = 4.0
    rng = np.random.default_rng(3)
    box = (slice(5, 20), slice(11, 30), slice(2, 9))
    part = torch.from_numpy(rng.normal(0, 10, (2, 15, 19, 7)).astype(np.float32))
    expected = resample_torch_fornnunet(_pasted(part, box, shape), new, [1.0] * 3, spacing)
    found = resample_part(part, box, shape, new, torch.tensor([-20.0, 20.0]), thick)
    torch.testing.assert_close(_pasted(*found, new), expected, rtol=0, atol=1e-4)
