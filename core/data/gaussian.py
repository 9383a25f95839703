"""The dataset `gaussian`: one isotropic normal law, the simplest that a loop can lose."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from luceloop.core.data.base import DatasetConfig, QuasiRandom, normal_quantile
from luceloop.core.fields import Finite, PositiveInt


class GaussianDataConfig(DatasetConfig):
    """One isotropic normal law about the origin."""

    name: Literal["gaussian"] = "gaussian"
    size: PositiveInt = 1000
    """Real samples drawn for each seed."""
    dim: Annotated[PositiveInt, Field(le=1024)] = 2
    """Coordinates of a sample, d."""
    std: Finite = Field(1.0, gt=0)
    """Standard deviation of each coordinate."""

    def build(self) -> GaussianData:
        """The law."""
        return GaussianData(self.size, self.dim, self.std)

    def law_identity(self) -> dict[str, Any]:
        """The law does not depend on how many samples are drawn."""
        return self.model_dump(exclude={"size"})


class GaussianData(QuasiRandom):
    """N(0, σ² I) in d coordinates."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        self.size, self.std = size, std
        self.shape, self.uniforms = (dim,), dim

    @property
    def modes(self) -> Tensor:
        """The mean `(1, d)`."""
        return torch.zeros(1, self.uniforms)

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Samples `(size, d)`."""
        return self.std * torch.randn(size, self.uniforms, generator=generator)

    def from_uniform(self, u: Tensor) -> Tensor:
        """Samples `(N, d)` of as many normal coordinates."""
        return (self.std * normal_quantile(u)).float()

    def classify(self, x: Tensor) -> Tensor:
        """Never called: `n_classes` is 0."""
        raise NotImplementedError("a normal law has no classes")
