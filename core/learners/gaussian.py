"""The learner `gaussian`: the normal law that makes its training set likeliest, sampled exactly.

The covariance is the unbiased one (ddof=1), so that neither it nor the mean drifts in expectation
when the law is fitted to its own samples. What such a loop comes to is known in closed form, which
makes it the field's test bed (Shumailov et al. 2024; Gerstgrasser et al. 2024, arXiv 2404.01413;
Kazdan et al. 2024, arXiv 2410.16713).

Axes: R rows, N training samples, B drawn samples, d coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.errors import ConfigError
from luceloop.core.learners.base import Fitted, LearnerConfig, State, TrainingSet

MOST_COORDINATES = 4096
"""The most coordinates that samples may have; a covariance of so many takes 128 MiB a seed."""


class GaussianConfig(LearnerConfig):
    """The normal law of the training set's mean and unbiased covariance, sampled exactly."""

    name: Literal["gaussian"] = "gaussian"
    has_loss: ClassVar[bool] = False

    def build(self, shape: tuple[int, ...], device: str = "cpu") -> Gaussian:
        """The learner, for samples of any shape.

        Raises:
            ConfigError: if samples have so many coordinates that covariances are too large.
        """
        if math.prod(shape) > MOST_COORDINATES:
            allowed = f"takes samples of at most {MOST_COORDINATES} coordinates; data is {shape}"
            raise ConfigError("learner.name", self.name, allowed)
        return Gaussian(shape, device)


class Gaussian:
    """Fits a normal law by its mean and unbiased covariance; of a single sample, that sample.

    Rows are computed one after another, each from its own samples alone: the order in which a
    batched product adds up depends on what else is in the batch.
    """

    def __init__(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        self.shape, self.device = shape, device

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Fit each row's law, in float64; `state` does not matter, and there is no loss."""
        sets = zip(training.samples, training.sizes.tolist(), strict=True)
        laws = [_law(samples[:size].flatten(1).to(self.device)) for samples, size in sets]
        means, roots = zip(*laws, strict=True)
        return Fitted({"mean": torch.stack(means), "root": torch.stack(roots)}, loss=None)

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
        """Samples `(R, count, ...)` of each row's law."""
        generators = rng.streams(seeds, "generate", iteration, shard, self.device)
        normal = rng.normal(generators, (count, math.prod(self.shape))).double()
        laws = zip(normal, model["mean"], model["root"], strict=True)
        x = torch.stack([mean + z @ root for z, mean, root in laws])
        return x.float().reshape(len(seeds), count, *self.shape)


def _law(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(d,)` and symmetric root of the covariance `(d, d)`, float64, of samples `(N, d)`."""
    x = samples.double()
    mean = x.mean(0)
    deviation = x - mean
    covariance = deviation.T @ deviation / max(len(x) - 1, 1)
    # On the CPU, which has the same bits however many rows there are; d is small.
    values, vectors = torch.linalg.eigh(covariance.cpu())
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return mean, root.to(mean.device)
