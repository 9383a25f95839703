"""What a network is: R networks of one shape, a function of their parameters.

Axes: R rows, B batch, d coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

Regressor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of times `(R, B, 1)`, points and targets `(R, B, d)`: mean squared errors `(R,)`.

It adds their gradients to those of the parameters.
"""


class Network(Protocol):
    """R networks of one shape."""

    @property
    def batched(self) -> bool:
        """Whether all rows take one kernel; else rows are better trained one after another."""
        ...

    @property
    def parameters_count(self) -> int:
        """Weights of a row."""
        ...

    def initialize(self, seeds: Sequence[int], iteration: int) -> dict[str, Tensor]:
        """New weights `(R, ...)` by name, from each seed's stream."""
        ...

    def training(
        self, seeds: Sequence[int], iteration: int, segment: int = 0
    ) -> AbstractContextManager[None]:
        """Within it the network trains: units drop out, by the seed's stream, where it has that."""
        ...

    def __call__(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        """Outputs `(R, B, d)` at points `x` `(R, B, d)`, times `t` `(R, B, 1)` or one in [0, 1]."""
        ...

    def regressor(
        self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> Regressor:
        """What computes each row's error on a batch, and its gradient.

        Args:
            parameters: by name, whose `grad` are `gradients`.
            gradients: shaped like `parameters`; zeros whenever the regressor is called.
        """
        ...


def regress_by_autograd(network: Network, parameters: Mapping[str, Tensor]) -> Regressor:
    """A regressor by torch's automatic differentiation."""

    def regress(t: Tensor, x: Tensor, target: Tensor) -> Tensor:
        # The sum over rows keeps their gradients apart.
        losses = (network(parameters, t, x) - target).square().mean((1, 2))
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    return regress
