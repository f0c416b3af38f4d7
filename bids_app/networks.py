"""Networks as nnU-Net builds them, and what makes them fast on a CPU.

Below the stages: the one that trains and the one that predicts both need it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn


def build_network(
    architecture: dict[str, Any], channels: int, outputs: int, *, deep: bool, start: bool
) -> nn.Module:
    """Build the network that a plan describes, by nnU-Net's own function.

    Parameters
    ----------
    architecture : dict
        ``architecture`` of a configuration in ``plans.json``.
    channels, outputs : int
        Images in, logits out.
    deep : bool
        Deep supervision: answers of every resolution, for training.
    start : bool
        Draw starting weights; not needed where they are loaded.

    Returns
    -------
    torch.nn.Module
    """
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        outputs,
        allow_init=start,
        deep_supervision=deep,
    )
    return cast(nn.Module, network)


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; without it bfloat16 is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def hasten_norms(network: nn.Module) -> None:
    """Let the instance norms of a network work on channels-last tensors without copies.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place; its weights and their names stay.
    """
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d) and module.affine:
            module.__class__ = ChannelsLastNorm


class ChannelsLastNorm(nn.InstanceNorm3d):
    """Instance norm as a group norm with one channel a group, which is the same.

    PyTorch's instance norm is a batch norm over a reshaped tensor: on a CPU a channels-last one is
    copied to another layout and back. Its group norm reads channels last as it is, but takes ten
    times as long backwards; the gradient is therefore our own.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Normalise each channel of each image of shape (n, c, z, y, x)."""
        result = _Norm.apply(image, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return cast(Tensor, result)


class _Norm(torch.autograd.Function):
    """Instance norm with a gradient for channels-last tensors.

    With x' the normalised image, g its gradient from above and means over a channel of one image,
    the gradient is w / std * (g - mean(g) - x' * mean(g * x')) (Ulyanov et al. 2016,
    arXiv:1607.08022, differentiated). Written as a * g + k * x + t with three numbers a channel.
    """

    @staticmethod
    def forward(context: Any, image: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        batch, channels = image.shape[:2]
        dtype, voxels = image.dtype, image[0, 0].numel()
        result, mean, inverse = torch.native_group_norm(
            image, weight.to(dtype), bias.to(dtype), batch, channels, voxels, channels, eps
        )
        context.save_for_backward(image, weight, mean, inverse)
        return result

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        image, weight, mean, inverse = context.saved_tensors
        batch, channels = image.shape[:2]
        voxels, dtype = image[0, 0].numel(), image.dtype
        mean, inverse = mean.float().view(batch, channels), inverse.float().view(batch, channels)
        above = above.contiguous(memory_format=torch.channels_last_3d)
        rows = above.permute(0, 2, 3, 4, 1).reshape(batch, voxels, channels)
        columns = image.permute(0, 2, 3, 4, 1).reshape(batch, voxels, channels)
        # Sums as matrix products: reductions over all but the last axis are slow in PyTorch.
        ones = torch.ones((batch, 1, voxels), dtype=dtype)
        total = torch.bmm(ones, rows)[:, 0].float()
        products = torch.diagonal(torch.bmm(rows.transpose(1, 2), columns), dim1=1, dim2=2).float()
        along = (products - mean * total) * inverse
        a = weight * inverse
        k = -a * inverse * along / voxels
        t = -a * total / voxels - k * mean
        each = (batch, channels, 1, 1, 1)
        below = torch.addcmul(t.view(each).to(dtype), image, k.view(each).to(dtype))
        below.addcmul_(above, a.view(each).to(dtype))
        return below, along.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype), None
