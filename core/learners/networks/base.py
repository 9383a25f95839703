"""What a network is: R networks of one shape, a function of their parameters.

Axes: R rows, B batch, d coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor


class Network(Protocol):
    """R networks of one shape."""

    @property
    def batched(self) -> bool:
        """Whether all rows take one kernel; else rows are better trained one after another."""
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
