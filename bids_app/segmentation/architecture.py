"""Which classes a plan may name: networks of one package, layers of PyTorch, nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any, cast

from torch import nn

from bids_app.errors import MissingResource

_NETWORKS = "dynamic_network_architectures.architectures"
_UNETS = f"{_NETWORKS}.unet"
_PREFIXES = ("torch.nn.", "dynamic_network_architectures.")
# Words that start with a letter: no private names, nothing with two underscores.
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")
# No published network has as many channels, convolutions or stages as this.
_MAX_NUMBER = 4096
_MAX_STAGES = 16


def check_architecture(architecture: dict[str, Any]) -> dict[str, Any]:
    """Check what a plan says of its network, before anything of it is imported.

    Parameters
    ----------
    architecture : dict
        ``network_class_name``, ``arch_kwargs`` and ``_kw_requires_import`` of a plan.

    Returns
    -------
    dict
        The same, with the place where the installed package has the class.

    Raises
    ------
    MissingResource
        Anything but a network of ``dynamic_network_architectures`` with layers of ``torch.nn``.
    """
    try:
        name = architecture["network_class_name"]
        arguments = dict(architecture["arch_kwargs"])
        imports = list(architecture["_kw_requires_import"])
    except (KeyError, TypeError, ValueError) as error:
        raise MissingResource(
            f"plans.json does not describe its network ({error}); the model cannot be used."
        ) from error
    network = _network_class(name)
    for key in imports:
        if arguments.get(key) is not None:
            _layer_class(key, arguments[key])
    _check_numbers(arguments)
    stages = arguments.get("n_stages")
    if isinstance(stages, int) and stages > _MAX_STAGES:
        raise MissingResource(f"plans.json asks for a network of {stages} stages; {_TOO_MUCH}")
    return {
        "network_class_name": f"{network.__module__}.{network.__name__}",
        "arch_kwargs": arguments,
        "_kw_requires_import": [key for key in imports if key in arguments],
    }


_TOO_MUCH = "that is more than any published one, so it is not built."


def _network_class(path: object) -> type[nn.Module]:
    """Find a network's class; it may have moved within its package."""
    if not isinstance(path, str) or not _PATH.fullmatch(path) or not path.startswith(_NETWORKS):
        raise MissingResource(
            f"plans.json names the network class {str(path)[:80]!r}, which is not one of "
            "dynamic_network_architectures; such a model is not loaded."
        )
    module, _, name = path.rpartition(".")
    package = importlib.import_module(_NETWORKS)
    places = [f"{_NETWORKS}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    for place in sorted(places, key=lambda place: (place != module, place != _UNETS, place)):
        try:
            found = getattr(importlib.import_module(place), name, None)
        except Exception:  # noqa: S112 - some need packages that may be missing or broken
            continue
        if _is_module_class(found, _NETWORKS + "."):
            return cast(type[nn.Module], found)
    raise MissingResource(
        f"plans.json names the network class {path[:80]!r}, which the installed "
        "dynamic_network_architectures does not have; such a model cannot be loaded."
    )


def _layer_class(key: str, path: object) -> None:
    """Check a class that the network is given as an argument."""
    if isinstance(path, str) and _PATH.fullmatch(path) and path.startswith(_PREFIXES):
        module, _, name = path.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            found = None
        if any(_is_module_class(found, prefix) for prefix in _PREFIXES):
            return
    raise MissingResource(
        f"plans.json names {str(path)[:80]!r} as the network's {key}, which is no layer of "
        "torch.nn; such a model is not loaded."
    )


def _is_module_class(found: object, prefix: str) -> bool:
    """Tell whether it is a class of layers that the package itself defines."""
    return (
        inspect.isclass(found)
        and issubclass(found, nn.Module)
        and f"{found.__module__}.".startswith(prefix)
    )


def _check_numbers(value: object) -> None:
    """Refuse numbers that would build without end."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) > _MAX_NUMBER:
            raise MissingResource(f"plans.json has a list of {len(value)} numbers; {_TOO_MUCH}")
        for item in value:
            _check_numbers(item)
    elif isinstance(value, int | float) and not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise MissingResource(f"plans.json asks for a network with {value} of a kind; {_TOO_MUCH}")
