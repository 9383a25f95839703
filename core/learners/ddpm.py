"""Denoising diffusion (Ho, Jain and Abbeel 2020, arXiv 2006.11239).

The network predicts the noise ε in x_s = √ᾱ_s x + √(1-ᾱ_s) ε of step s = 1 … S, where
ᾱ_s = Π (1 - β_i) with β rising linearly, or the velocity √ᾱ_s ε - √(1-ᾱ_s) x (Salimans and
Ho 2022). Its time is s/S: 0 is data, 1 is noise.

An ancestral step adds noise of the posterior's variance β̃_s (`fixed_small`), which is right for
data of no width, or of the forward step's β_s (`fixed_large`), right for data of variance 1
(section 3.2).

Axes: C steps of a chunk, R rows, B batch, d coordinates, S diffusion steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from luceloop.core import rng
from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, Finite, PositiveInt
from luceloop.core.learners.networks.base import Network
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.networks import build_network
from luceloop.core.learners.regression.regression import Batch, Regression, Streams


class DDPMConfig(RegressionConfig):
    """Denoising diffusion with a linear schedule, the paper's learner on synthetic data."""

    name: Literal["ddpm"] = "ddpm"
    # torchcfm's flows take times from 0 to 1 as they are; diffusion steps are further apart.
    time_scale: ClassVar[float] = 1000.0
    timesteps: Annotated[int, Field(ge=2, strict=True), AtMost(100_000)] = 250
    """Steps of the diffusion."""
    noise: tuple[Finite, Finite] | None = None
    """First and last β of the schedule; 0.1 and 20 over `timesteps` if not given."""
    prediction: Literal["noise", "velocity"] = "noise"
    """What the network predicts; velocity is √ᾱ ε - √(1-ᾱ) x, which ddim prefers."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """ancestral takes every step with new noise; ddim is deterministic (Song et al. 2021)."""
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"
    """Variance of an ancestral step's noise: the posterior's β̃_s, or the forward step's β_s."""
    ddim_steps: PositiveInt = 50
    """Network evaluations of ddim, evenly spaced."""

    @model_validator(mode="after")
    def _sensible(self) -> DDPMConfig:
        first, last = self.schedule
        if not 0 < first <= last < 1:
            raise ConfigError("noise", [first, last], "needs 0 < first <= last < 1")
        if self.sampler == "ddim" and self.ddim_steps > self.timesteps:
            raise ConfigError("ddim_steps", self.ddim_steps, f"must be at most {self.timesteps}")
        return self

    @property
    def schedule(self) -> tuple[float, float]:
        """First and last β."""
        return self.noise or (0.1 / self.timesteps, 20 / self.timesteps)

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> DDPM:
        """The learner of diffusions of samples of `shape`.

        Raises:
            ConfigError: if there is no network for such samples.
        """
        return DDPM(self, build_network(self, shape, device), shape, device)

    def initial_fit(self) -> dict[str, Any]:
        """Everything here that determines a trained p_0; the rest may differ between points."""
        return self._initial_fit({"sampler", "variance", "ddim_steps"})


class DDPM(Regression):
    """The learner `ddpm`."""

    config: DDPMConfig

    def __init__(
        self, config: DDPMConfig, network: Network, shape: tuple[int, ...], device: str = "cpu"
    ) -> None:
        super().__init__(config, network, shape, device)
        betas = np.linspace(*config.schedule, config.timesteps)
        self.alpha_bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
        """ᾱ_s for s = 0 … S."""

    def draw(
        self,
        x_1: Tensor,
        generators: Sequence[torch.Generator],
        times: Sequence[torch.Generator],
    ) -> tuple[Tensor, ...]:
        """Data, noise, and a uniform step for each, as a time and as its ᾱ."""
        chunk, rows, batch, dim = x_1.shape
        steps = self.config.timesteps
        noise = rng.normal(generators, (chunk, batch, dim)).transpose(0, 1)
        most = torch.full((rows,), steps)
        step = 1 + rng.integers(times, most, chunk * batch).reshape(rows, chunk, batch, 1)
        step = step.transpose(0, 1)
        alpha_bar = torch.from_numpy(self.alpha_bar).float()[step]
        return x_1, noise, step / steps, alpha_bar

    def path(self, *drawn: Tensor) -> Batch:
        """Noisy points, and their noise or velocity."""
        x_1, noise, t, alpha_bar = drawn
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        target = noise
        if self.config.prediction == "velocity":
            target = signal * noise - spread * x_1
        return Batch(t, signal * x_1 + spread * noise, target)

    def transport(self, model: Mapping[str, Tensor], count: int, streams: Streams) -> Tensor:
        """Walk back from standard normal noise; `(R, count, d)`."""
        generators = streams.noise()
        x = rng.normal(generators, (count, *self.shape)).flatten(2)
        walked = self._steps()
        for step, before in zip(walked, [*walked[1:], 0], strict=True):
            predicted = self._predict(model, step, x)
            x = self._back(x, predicted, step, before, generators)
        return x

    def _steps(self) -> list[int]:
        """The diffusion steps that sampling visits, from S down."""
        config = self.config
        if config.sampler == "ancestral":
            return list(range(config.timesteps, 0, -1))
        spaced = np.linspace(config.timesteps, 1, config.ddim_steps).round()
        return [int(step) for step in spaced]

    def _predict(self, model: Mapping[str, Tensor], step: int, x: Tensor) -> Tensor:
        """The noise in x `(R, B, d)`."""
        t = torch.tensor(step / self.config.timesteps, device=x.device)
        predicted = self.network(model, t, x)
        if self.config.prediction == "velocity":
            here = float(self.alpha_bar[step])
            predicted = (1 - here) ** 0.5 * x + here**0.5 * predicted
        return predicted

    def _back(
        self,
        x: Tensor,
        noise: Tensor,
        step: int,
        before: int,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """From x_s to x at the step `before`: the posterior's mean and, if ancestral, noise."""
        here, there = float(self.alpha_bar[step]), float(self.alpha_bar[before])
        data = (x - (1 - here) ** 0.5 * noise) / here**0.5
        posterior = 0.0
        if self.config.sampler == "ancestral":
            posterior = (1 - there) / (1 - here) * (1 - here / there)
        x = there**0.5 * data + (1 - there - posterior) ** 0.5 * noise
        if posterior:  # the last step adds none
            large = self.config.variance == "fixed_large"
            variance = 1 - here / there if large else posterior
            fresh = rng.normal(generators, (x.shape[1], *self.shape)).flatten(2)
            x = x + variance**0.5 * fresh
        return x
