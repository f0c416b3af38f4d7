"""Put a checkpoint's weights into the network of the plans, or say why they do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bids_app.errors import MissingResource
from bids_app.networks import build_network
from bids_app.segmentation.vetting import Vetted

_MAX_WEIGHTS = 10**9


def fit_network(weights: Mapping[str, Tensor], vetted: Vetted, name: str) -> nn.Module:
    """Build the network with the weights of a checkpoint.

    The network is first built without memory, so that forged plans cannot ask for any.

    Parameters
    ----------
    weights : mapping
    vetted : Vetted
    name : str
        Of the fold, for messages.

    Returns
    -------
    torch.nn.Module
        In single precision.

    Raises
    ------
    MissingResource
        Names or shapes differ, the network cannot run on its patch, or a weight is no number.
    """
    network = _build_empty(vetted)
    _try_patch(network, vetted)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    _compare(expected, weights, name)
    network.load_state_dict(dict(weights), strict=True, assign=True)
    network = network.float().requires_grad_(False)
    if not all(bool(torch.isfinite(weight).all()) for weight in network.parameters()):
        raise MissingResource(f"{name} has weights that are not finite numbers; it is not used.")
    return network


def _build_empty(vetted: Vetted) -> nn.Module:
    """Build the network on PyTorch's device without memory."""
    try:
        with torch.device("meta"):
            network = build_network(
                vetted.architecture,
                vetted.channels,
                vetted.labels.num_segmentation_heads,
                deep=False,
                start=False,
            )
    except Exception as error:  # constructors check their arguments each in their own way
        raise MissingResource(
            f"plans.json describes a network that cannot be built ({type(error).__name__}: "
            f"{str(error)[:200]}); the model cannot be used."
        ) from error
    count = sum(weight.numel() for weight in network.parameters())
    if count > _MAX_WEIGHTS:
        raise MissingResource(
            f"plans.json describes a network of {count:.1e} weights, more than any published one; "
            "it is not built."
        )
    return network


def _try_patch(network: nn.Module, vetted: Vetted) -> None:
    """Check that the network takes the plans' patch and gives one output a class."""
    patch = tuple(vetted.configuration.patch_size)
    wanted = (1, vetted.labels.num_segmentation_heads, *patch)
    found: tuple[int, ...] | str
    try:
        with torch.inference_mode():
            output = network.eval()(torch.empty((1, vetted.channels, *patch), device="meta"))
        found = tuple(output.shape)
    except Exception as error:  # layers fail in many ways on a patch that does not suit them
        found = f"{type(error).__name__}: {str(error)[:200]}"
    if found != wanted:
        raise MissingResource(
            f"The network of plans.json makes {found} of a patch of {list(patch)}, not {wanted}; "
            "the model cannot be used."
        )


def _compare(
    expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], name: str
) -> None:
    """Compare names and shapes of all weights."""
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if found == expected:
        return
    differing = sorted(key for key in {*expected, *found} if expected.get(key) != found.get(key))
    key = differing[0]
    raise MissingResource(
        f"The checkpoint of {name} does not fit plans.json: {len(differing)} weights differ, "
        f"such as {key[:100]} ({found.get(key, 'missing')} instead of "
        f"{expected.get(key, 'none')}); was it trained with a network of its own?"
    )
