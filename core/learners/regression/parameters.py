"""The weights of R networks in one vector: what an optimizer step, a moving average, a clip act on.

Axes: R rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class FlatParameters:
    """The weights of R networks in one vector, and by name as `(R, ...)` views of it.

    One vector takes one kernel to update. Every part of it is padded to whole SIMD vectors: a
    kernel's scalar tail may round otherwise, and a row must not depend on how many rows there are.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: str) -> None:
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        self.flat = torch.zeros(
            sum(_padded(shape.numel()) for shape in self._shapes.values()), device=device
        )
        self.gradient = torch.zeros_like(self.flat)
        """Where `backward` adds up gradients, laid out as `flat`."""
        self.flat.grad = self.gradient
        self.named = self.views(self.flat)
        self.gradients = self.views(self.gradient)
        for name, view in self.named.items():
            view.copy_(weights[name])
            view.requires_grad_().grad = self.gradients[name]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Parts of a vector laid out as `flat`, by name."""
        parts, first = {}, 0
        for name, shape in self._shapes.items():
            parts[name] = flat.detach()[first : first + shape.numel()].view(shape)
            first += _padded(shape.numel())
        return parts

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """A vector laid out as `flat` from its parts, the inverse of `views`."""
        flat = torch.zeros_like(self.flat)
        for name, view in self.views(flat).items():
            view.copy_(named[name])
        return flat

    def copy(self) -> dict[str, Tensor]:
        """The weights by name, apart from this."""
        return {name: part.clone() for name, part in self.views(self.flat).items()}

    def __len__(self) -> int:
        """Rows, R."""
        return len(next(iter(self.named.values())))

    def clip_gradient(self, largest: float, apart: bool) -> None:
        """Scale the gradient to norm `largest` at most, that of each row where they are `apart`."""
        if apart:
            clip_rows(list(self.gradients.values()), largest)
        else:
            self.gradient.mul_((largest / self.gradient.square().sum().sqrt()).clamp_max(1))


def clip_rows(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale each row's gradient, over tensors `(R, ...)` together, to norm `largest` at most."""
    # One after another: a single reduction would add in an order that depends on the rows.
    squares = functools.reduce(torch.add, (g.flatten(1).square().sum(1) for g in gradients))
    scale = (largest / squares.sqrt()).clamp_max(1)
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))


def _padded(length: int) -> int:
    return 32 * math.ceil(length / 32)
