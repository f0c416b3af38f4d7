"""The fast instance norm is nnU-Net's, forwards and backwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bids_app.networks import build_network, hasten_norms
from bids_app.training.plan import box_architecture


def _gradients(norm: nn.InstanceNorm3d, image: Tensor, above: Tensor) -> tuple[Tensor, ...]:
    image = image.clone(memory_format=torch.preserve_format).requires_grad_(True)
    result = norm(image)
    below, weight, bias = torch.autograd.grad(result, (image, norm.weight, norm.bias), above)
    return result.detach(), below, weight, bias


def test_the_norm_and_its_gradient_are_torchs() -> None:
    torch.manual_seed(1)
    norm = nn.InstanceNorm3d(5, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image = (3 * torch.randn(2, 5, 7, 6, 4) + 2).contiguous(memory_format=torch.channels_last_3d)
    above = torch.randn_like(image)
    expected = _gradients(norm, image, above)
    hasten_norms(norm)
    found = _gradients(norm, image, above)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(norm(image), expected[0], rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(2)
    norm = nn.InstanceNorm3d(2, affine=True).double()
    hasten_norms(norm)
    image = torch.randn(2, 2, 3, 2, 2, dtype=torch.double).requires_grad_(True)
    assert torch.autograd.gradcheck(norm, (image,), atol=1e-3, eps=1e-4)


def test_a_whole_network_keeps_its_answer_and_the_names_of_its_weights() -> None:
    torch.manual_seed(3)
    plain = build_network(box_architecture(), 2, 2, deep=False, start=True).eval()
    names = list(plain.state_dict())
    image = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        expected = plain(image)
        hasten_norms(plain)
        found = plain(image.contiguous(memory_format=torch.channels_last_3d))
    assert list(plain.state_dict()) == names
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
