"""The dataset `two_moons`: two interleaved half circles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from luceloop.core.data.base import DatasetConfig, QuasiRandom, normal_quantile
from luceloop.core.fields import Finite, PositiveInt


class TwoMoonsConfig(DatasetConfig):
    """Two interleaved half circles of radius 1."""

    name: Literal["two_moons"] = "two_moons"
    size: PositiveInt = 5000
    """Real samples drawn for each seed."""
    noise: Finite = Field(0.1, ge=0)
    """Standard deviation of the noise on each coordinate."""

    def build(self) -> TwoMoons:
        """The moons."""
        return TwoMoons(self.size, self.noise)

    def law_identity(self) -> dict[str, Any]:
        """The law does not depend on how many samples are drawn."""
        return self.model_dump(exclude={"size"})


@dataclass(frozen=True)
class TwoMoons(QuasiRandom):
    """Two half circles of radius 1: the upper about (0, 0), the lower about (1, ½).

    The same law as scikit-learn's `make_moons`, each moon with probability ½.
    """

    size: int
    noise: float
    shape: tuple[int, ...] = (2,)
    n_classes: int = 2
    uniforms: int = 4

    @property
    def modes(self) -> Tensor:
        """The four tips `(4, 2)`: upper left and right, lower left and right."""
        return torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [2.0, 0.5]])

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Samples `(size, 2)`."""
        lower = torch.randint(2, (size,), generator=generator).bool()
        angle = math.pi * torch.rand(size, generator=generator)
        return _on_moon(lower, angle) + self.noise * torch.randn(size, 2, generator=generator)

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, 2)` of a moon, an angle and two normal coordinates `(N, 4)`."""
        on_moon = _on_moon(u[:, 0] >= 0.5, math.pi * u[:, 1])
        return (on_moon + self.noise * normal_quantile(u[:, 2:])).float()

    def classify(self, x: Tensor) -> Tensor:
        """0 where the upper moon is nearer, 1 where the lower is `(B,)`."""
        upper, lower = (_distance_to_half_circle(own) for own in _seen_from_moons(x))
        return (lower.abs() < upper.abs()).long()

    def across(self, x: Tensor) -> Tensor:
        """Signed distance from the nearer moon, outside it positive `(B, 1)`."""
        upper, lower = (_distance_to_half_circle(own) for own in _seen_from_moons(x))
        return torch.where(lower.abs() < upper.abs(), lower, upper)[:, None]


def _on_moon(lower: Tensor, angle: Tensor) -> Tensor:
    """Points `(B, 2)` of the lower or upper moon at an angle."""
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], 1)


def _seen_from_moons(x: Tensor) -> tuple[Tensor, Tensor]:
    """Points `(B, 2)` where the upper moon, or the lower one, is the upper unit half circle."""
    origin, turn = x.new_tensor([0.0, 0.0]), x.new_tensor([1.0, 0.5])
    return x - origin, turn - x


def _distance_to_half_circle(x: Tensor) -> Tensor:
    """Distance `(B,)` of points `(B, 2)` to the upper half unit circle, negative inside it."""
    from_arc = x.norm(dim=1) - 1
    nearest_tip = torch.stack([x[:, 0].abs() - 1, x[:, 1]], 1).norm(dim=1)
    return torch.where(x[:, 1] >= 0, from_arc, nearest_tip)
