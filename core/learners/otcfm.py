"""Optimal-transport conditional flow matching (Tong et al. 2023, arXiv 2302.00482).

The network v(t, x) regresses on x_1 - x_0 along the paths x_t = (1-t) x_0 + t x_1 between noise
x_0 and data x_1, coupled by exact transport within sub-batches.

Axes: C steps of a chunk, R rows, B batch, d coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from luceloop.core import rng
from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, Finite, PositiveInt
from luceloop.core.learners import solvers
from luceloop.core.learners.coupling import couple
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.networks import build_network
from luceloop.core.learners.regression.regression import Batch, Regression, Streams


class OTCFMConfig(RegressionConfig):
    """Optimal-transport conditional flow matching: a perceptron for vectors, a U-Net for images."""

    name: Literal["otcfm"] = "otcfm"
    takes_checkpoint: ClassVar[bool] = True
    sigma: Finite = Field(0.0, ge=0)
    """Standard deviation around the straight paths."""
    ot_batch: Annotated[PositiveInt, AtMost(4096)] = 16
    """Samples coupled by one exact transport plan; 1 couples independently."""
    solver: solvers.Solver = "rk4"
    """ODE solver; dopri5 is adaptive, the others take `nfe` evaluations."""
    nfe: PositiveInt = 12
    """Network evaluations of a fixed-step solver."""
    tolerance: Finite = Field(1e-5, gt=0)
    """Relative and absolute tolerance of dopri5."""

    @model_validator(mode="after")
    def _whole_steps(self) -> OTCFMConfig:
        stages = solvers.STAGES.get(self.solver, 1)
        if self.solver == "ab3" and self.nfe < 3:
            raise ConfigError(
                "nfe", self.nfe, "must be at least 3 for ab3, which takes a step less"
            )
        if self.nfe % stages:
            allowed = f"must be a multiple of {stages}, the evaluations of a step of {self.solver}"
            raise ConfigError("nfe", self.nfe, allowed)
        return self

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> OTCFM:
        """The learner of flows between noise and samples of `shape`.

        Raises:
            ConfigError: if there is no network for such samples, or no such checkpoint.
        """
        return OTCFM(self, build_network(self, shape, device), shape, device)

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0; the rest may differ between points."""
        return self._initial_fit({"solver", "nfe", "tolerance"})


class OTCFM(Regression):
    """The learner `otcfm`."""

    config: OTCFMConfig

    def draw(
        self,
        x_1: Tensor,
        generators: Sequence[torch.Generator],
        times: Sequence[torch.Generator],
    ) -> tuple[Tensor, ...]:
        """Times, coupled ends, and where `sigma` scatters the points about their paths."""
        chunk, _, batch, dim = x_1.shape
        shape = (chunk, batch, dim)
        x_0 = rng.normal(generators, shape).transpose(0, 1)
        t = rng.uniform(times, shape[:2]).transpose(0, 1)
        x_0 = couple(x_0.contiguous(), x_1, self.config.ot_batch)
        epsilon = torch.zeros(())
        if self.config.sigma:
            epsilon = rng.normal(generators, shape).transpose(0, 1)
        return t, x_0, x_1, epsilon

    def path(self, *drawn: Tensor) -> Batch:
        """Points and velocities, as torchcfm's `ConditionalFlowMatcher` has them."""
        t, x_0, x_1, epsilon = drawn
        time = t[..., None]
        x_t = time * x_1 + (1 - time) * x_0
        if self.config.sigma:
            x_t += self.config.sigma * epsilon
        return Batch(time, x_t, x_1 - x_0)

    def transport(self, model: Mapping[str, Tensor], count: int, streams: Streams) -> Tensor:
        """Integrate the flow from standard normal noise; `(R, count, d)`."""
        generators = streams.noise()
        x_0 = rng.normal(generators, (count, *self.shape)).flatten(2)
        rows = [slice(None)]
        # dopri5's steps adapt to all it is given, so a row goes alone.
        if self.config.solver == "dopri5":
            rows = [slice(row, row + 1) for row in range(len(generators))]
        return torch.cat([self._solve(model, x_0, part) for part in rows])

    def _solve(self, model: Mapping[str, Tensor], x_0: Tensor, rows: slice) -> Tensor:
        config, part = self.config, {name: weight[rows] for name, weight in model.items()}
        return solvers.solve(
            lambda t, x: self.network(part, t, x),
            x_0[rows],
            config.solver,
            config.nfe,
            config.tolerance,
        )
