"""The dataset `eight_gaussians`: the paper's mixture on a circle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from luceloop.core.data.base import DatasetConfig, QuasiRandom, normal_quantile
from luceloop.core.fields import Finite, PositiveInt


class EightGaussiansConfig(DatasetConfig):
    """Mixture of eight equal Gaussians on a circle."""

    name: Literal["eight_gaussians"] = "eight_gaussians"
    size: PositiveInt = 5000
    """Real samples drawn for each seed."""
    radius: Finite = Field(5.0, gt=0)
    """Distance of the modes from the origin."""
    std: Finite = Field(0.1**0.25, gt=0)
    """Standard deviation of each coordinate within a mode."""

    def build(self) -> EightGaussians:
        """The mixture."""
        return EightGaussians(self.size, self.radius, self.std)

    def class_names(self) -> list[str]:
        """The modes, by number."""
        return [f"mode {mode}" for mode in range(8)]

    def law_identity(self) -> dict[str, Any]:
        """The law does not depend on how many samples are drawn."""
        return self.model_dump(exclude={"size"})


@dataclass(frozen=True)
class EightGaussians(QuasiRandom):
    """Equal mixture of eight isotropic Gaussians; mode i sits at angle 2πi/8.

    With its default std, 0.1^¼ ≈ 0.562, it is the law torchcfm's `sample_8gaussians` draws: its
    `var=0.1` enters as a covariance of √0.1.
    """

    size: int
    radius: float
    std: float
    shape: tuple[int, ...] = (2,)
    n_classes: int = 8
    uniforms: int = 3

    @property
    def modes(self) -> Tensor:
        """Centres of the Gaussians `(8, 2)`."""
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return (self.radius * torch.stack([angle.cos(), angle.sin()], 1)).float()

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Samples `(size, 2)`."""
        mode = torch.randint(8, (size,), generator=generator)
        return self.modes[mode] + self.std * torch.randn(size, 2, generator=generator)

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, 2)` of a mode and two normal coordinates `(N, 3)`."""
        mode = (8 * u[:, 0]).long().clamp_max(7)
        return (self.modes[mode] + self.std * normal_quantile(u[:, 1:])).float()

    def classify(self, x: Tensor) -> Tensor:
        """Index of the nearest mode `(B,)`."""
        return torch.cdist(x, self.modes.to(x.device)).argmin(1)
