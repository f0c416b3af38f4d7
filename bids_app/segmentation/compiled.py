"""Networks as OpenVINO runs them, the fastest way on a CPU: twice PyTorch's speed and more.

PyTorch's graph tracer lists the layers; each becomes an operation of OpenVINO's. A network with
a layer that is not known here stays with PyTorch, and all do where OpenVINO is not installed.
"""

from __future__ import annotations

import importlib
import operator
import queue
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

# Memory of the layers' results is needed once a stream; more streams than this are of little use.
_MOST_STREAMS = 8
_ADDITIONS = (operator.add, operator.iadd, torch.add)


class CannotCompile(Exception):
    """The network has a layer that has no counterpart here, or OpenVINO is not installed."""


class CompiledNetwork(nn.Module):
    """A network that OpenVINO has compiled; several threads may call it at the same time.

    Each call runs on one thread of OpenVINO's, because with another number sums are taken in
    another order: so results do not depend on how many there are.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, its weights in float32.
    shape : sequence of int
        Of the input: one image, channels, and the patch.
    streams : int
        Calls that may run at the same time.
    bf16 : bool
        Compute in bfloat16, for CPUs that multiply it in hardware; else in float32.

    Raises
    ------
    CannotCompile
    """

    def __init__(
        self, network: nn.Module, shape: Sequence[int], streams: int, *, bf16: bool
    ) -> None:
        super().__init__()
        openvino = _load_openvino()
        self.streams = min(streams, _MOST_STREAMS)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": self.streams,
            # Pinned to cores, two processes would choose the same ones.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino.Core().compile_model(_translate(network, shape), "CPU", settings)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(self._compiled.create_infer_request())

    def forward(self, tile: Tensor) -> Tensor:
        """Give the logits of a tile of the shape that the network was compiled for."""
        request = self._requests.get()
        try:
            result = request.infer([np.ascontiguousarray(tile.numpy())])[0].copy()
        finally:
            self._requests.put(request)
        return torch.from_numpy(result)

    def release(self) -> None:
        """Give back the memory of the layers' results, which the next call takes anew.

        While another thread is at work with it, it keeps the memory, for that thread to give back.
        """
        idle: list[Any] = []
        try:
            while len(idle) < self.streams:
                idle.append(self._requests.get_nowait())
            self._compiled.release_memory()
        except queue.Empty:
            pass
        finally:
            for request in idle:
                self._requests.put(request)


def _load_openvino() -> ModuleType:
    """Import OpenVINO without the part of it that reports to its makers.

    As it is imported, its model converter, which is not needed here, would look up an address on
    the network. It does without that part where it is not installed, which is what it is told.

    Raises
    ------
    CannotCompile
        OpenVINO is not installed.
    """
    part = "openvino_telemetry"
    before = sys.modules.get(part)
    sys.modules[part] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise CannotCompile("OpenVINO is not installed") from error
    finally:
        if before is None:
            del sys.modules[part]
        else:
            sys.modules[part] = before


class _Tracer(fx.Tracer):
    """See layers as layers, those of our own kind too."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, _ConvNd | _InstanceNorm) or super().is_leaf_module(module, name)


def _translate(network: nn.Module, shape: Sequence[int]) -> Any:
    """Write a network as a model of OpenVINO's."""
    openvino = _load_openvino()
    try:
        graph = _Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError) as error:
        raise CannotCompile(f"the network cannot be traced: {error}") from error
    ops, layers = openvino.opset13, dict(network.named_modules())
    image = ops.parameter(list(shape), np.float32)
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        given = [values[each] for each in node.all_input_nodes]
        if node.op == "placeholder":
            values[node] = image
        elif node.op == "call_module":
            values[node] = _layer(ops, layers[node.target], given[0])
        elif node.op == "call_function" and node.target is torch.cat:
            values[node] = ops.concat(given, 1)
        elif node.op == "call_function" and node.target in _ADDITIONS and len(given) == 2:
            values[node] = ops.add(*given)
        elif node.op == "output" and len(given) == 1:
            return openvino.Model(given, [image], "network")
        else:
            raise CannotCompile(f"{node.op} {node.target}")
    raise CannotCompile("no output")


def _layer(ops: Any, layer: nn.Module, image: Any) -> Any:
    """Write one layer; `ops` are OpenVINO's operations."""
    for kind, write in _WRITERS.items():
        if isinstance(layer, kind):
            return write(ops, layer, image)
    raise CannotCompile(type(layer).__name__)


def _numbers(ops: Any, weights: Tensor, dimensions: int = 0) -> Any:
    """Give weights as a constant; with `dimensions`, one number a channel."""
    values = weights.detach().float().numpy()
    if dimensions:
        values = values.reshape(1, -1, *[1] * dimensions)
    return ops.constant(values, shared_memory=True)


def _convolve(ops: Any, layer: Any, image: Any) -> Any:
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise CannotCompile("a convolution in groups, or padded otherwise than with zeros")
    padding = list(layer.padding)
    where = {"strides": list(layer.stride), "pads_begin": padding, "pads_end": padding}
    where["dilations"] = list(layer.dilation)
    if isinstance(layer, _ConvTransposeNd):
        if any(layer.output_padding):
            raise CannotCompile("a transposed convolution with padded output")
        result = ops.convolution_backprop_data(image, _numbers(ops, layer.weight), **where)
    else:
        result = ops.convolution(image, _numbers(ops, layer.weight), **where)
    if layer.bias is None:
        return result
    return ops.add(result, _numbers(ops, layer.bias, len(padding)))


def _normalise(ops: Any, layer: Any, image: Any) -> Any:
    if layer.track_running_stats:
        raise CannotCompile("an instance norm with statistics of its own")
    dimensions = len(image.get_output_shape(0)) - 2
    axes = ops.constant(np.arange(2, 2 + dimensions))
    result = ops.mvn(image, axes, True, layer.eps, "INSIDE_SQRT")
    if not layer.affine:
        return result
    scaled = ops.multiply(result, _numbers(ops, layer.weight, dimensions))
    return ops.add(scaled, _numbers(ops, layer.bias, dimensions))


def _pool(ops: Any, layer: Any, image: Any) -> Any:
    dimensions = len(image.get_output_shape(0)) - 2
    size, stride, padding = (
        [each] * dimensions if isinstance(each, int) else list(each)
        for each in (layer.kernel_size, layer.stride, layer.padding)
    )
    if any(padding) or layer.ceil_mode:
        raise CannotCompile("a pooling with padding")
    return ops.avg_pool(image, stride, padding, padding, size, True)


def _leak(ops: Any, layer: Any, image: Any) -> Any:
    return ops.prelu(image, ops.constant(np.array([layer.negative_slope], np.float32)))


def _pass(_ops: Any, _layer: Any, image: Any) -> Any:
    return image


_WRITERS: dict[Any, Callable[[Any, Any, Any], Any]] = {
    _ConvNd: _convolve,
    _InstanceNorm: _normalise,
    nn.LeakyReLU: _leak,
    nn.ReLU: lambda ops, _, image: ops.relu(image),
    nn.AvgPool2d | nn.AvgPool3d: _pool,
    # They do nothing once a network is trained.
    nn.Identity | nn.Dropout | nn.Dropout2d | nn.Dropout3d: _pass,
}
