"""Perceptrons for vectors: all rows of an ensemble in one batched matrix product a layer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from luceloop.core import rng
from luceloop.core.compiled import in_parts
from luceloop.core.learners.networks.base import Regressor, regress_by_autograd

Array = np.ndarray[Any, np.dtype[np.float32]]
Activation = Literal["silu", "selu"]
"""Names of the hidden units' activations."""
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "selu": functools.partial(functional.selu, inplace=True),
}


@dataclass(frozen=True)
class EnsembleMLP:
    """R perceptrons v(t, x), the shape of torchcfm's `MLP(time_varying=True)`.

    A row's outputs and gradients are bitwise those it would have alone, so ensembles of any
    composition agree.
    """

    dim: int
    """Coordinates of a sample, d."""
    width: int
    depth: int
    """Hidden layers."""
    activation: Activation = "silu"
    """Of the hidden units; torchcfm's are SELU."""
    batched: bool = True

    def training(
        self, seeds: Sequence[int], iteration: int, segment: int = 0
    ) -> AbstractContextManager[None]:
        """Nothing to switch."""
        return nullcontext()

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer; the input is x and t.

        A single output would be computed by another kernel for one row than for several, so there
        are two at least, of which `dim` are used.
        """
        sizes = [self.dim + 1, *[self.width] * self.depth, max(2, self.dim)]
        return list(itertools.pairwise(sizes))

    @property
    def parameters_count(self) -> int:
        """Weights of a row."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers)

    def initialize(self, seeds: Sequence[int], iteration: int) -> dict[str, Tensor]:
        """New weights, uniform on ±1/√inputs as in `torch.nn.Linear`, from each seed's stream."""
        generators = rng.streams(seeds, "weights", iteration)
        parameters = {}
        for i, (inputs, outputs) in enumerate(self.layers):
            bound = 1 / math.sqrt(inputs)
            for name, shape in (("weight", (inputs, outputs)), ("bias", (1, outputs))):
                parameters[f"{name}{i}"] = (2 * rng.uniform(generators, shape) - 1) * bound
        return parameters

    def __call__(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        """Outputs `(R, B, d)` at times `t` `(R, B, 1)` or scalar, points `x` `(R, B, d)`.

        A single point would be computed by another kernel for one row than for several, so it is
        computed twice.
        """
        if x.is_cpu and not torch.is_grad_enabled():
            return self._evaluate(parameters, t, x)
        count = x.shape[1]
        h = torch.cat([x, t.expand(*x.shape[:2], 1)], dim=-1)
        if count == 1:
            h = h.expand(-1, 2, -1)
        last = len(self.layers) - 1
        for i in range(last + 1):
            h = torch.baddbmm(parameters[f"bias{i}"], h, parameters[f"weight{i}"])
            if i < last:
                h = ACTIVATIONS[self.activation](h)
        return h[:, :count, : self.dim]

    def _evaluate(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        """The outputs, by compiled kernels."""
        from luceloop.core.learners.networks import mlp_kernels  # which GPUs need not wait for

        out, time = torch.empty(x.shape), t.reshape(1, 1, 1) if t.numel() == 1 else t
        given = (*_arrays(parameters), _array(time), _array(x), self.activation == "selu")
        tiles = len(x) * math.ceil(x.shape[1] / mlp_kernels.TILE)
        in_parts(functools.partial(mlp_kernels.evaluate, *given, out.numpy()), tiles)
        return out

    def regressor(
        self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> Regressor:
        """See `Network.regressor`; on a CPU by compiled kernels."""
        if not parameters["weight0"].is_cpu:
            return regress_by_autograd(self, parameters)
        from luceloop.core.learners.networks import mlp_kernels

        weights, into = _arrays(parameters), _arrays(gradients)
        rows, selu = len(parameters["weight0"]), self.activation == "selu"

        def regress(t: Tensor, x: Tensor, target: Tensor) -> Tensor:
            losses = torch.empty(rows)
            batch = _array(t), _array(x), _array(target), selu
            given = (*weights, *batch, *into, losses.numpy())
            in_parts(functools.partial(mlp_kernels.regress, *given), rows)
            return losses

        return regress


def _arrays(named: Mapping[str, Tensor]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The weights, or gradients, of all layers in order, and the biases, sharing their memory."""
    layers = range(len(named) // 2)
    weights, biases = ([_array(named[f"{kind}{i}"]) for i in layers] for kind in ("weight", "bias"))
    return tuple(weights), tuple(biases)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().numpy()
    return array
