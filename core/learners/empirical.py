"""The learner `empirical`: a perfect learner at finite n, which resamples its training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.learners.base import Fitted, LearnerConfig, State, TrainingSet


class EmpiricalConfig(LearnerConfig):
    """A perfect learner at finite n: stores its training set and resamples it."""

    name: Literal["empirical"] = "empirical"
    has_loss: ClassVar[bool] = False

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> Empirical:
        """The learner, for samples of any shape."""
        return Empirical(device)


class Empirical:
    """Fits by storing the training set; samples from it with replacement."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Store `training`; there is no loss."""
        samples = training.samples.to(self.device, copy=True)
        stored = {"samples": samples, "sizes": training.sizes.clone()}
        return Fitted(stored, loss=None)

    def model(self, state: State) -> dict[str, Tensor]:
        """All of the state."""
        return dict(state)

    def sample(
        self,
        model: Mapping[str, Tensor],
        count: int,
        seeds: Sequence[int],
        iteration: int,
        shard: int,
    ) -> Tensor:
        """Stored samples `(R, count, ...)`, uniformly with replacement."""
        generators = rng.streams(seeds, "generate", iteration, shard, self.device)
        index = rng.integers(generators, model["sizes"], count)
        rows = torch.arange(len(seeds), device=self.device)[:, None]
        return model["samples"][rows, index]
