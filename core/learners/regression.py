"""Training by regression: what flow matching and diffusion have in common.

Both draw a time and a noisy point of a path from noise to data, and fit a network to a target
there by Adam, with an optional warm-up, gradient clipping and a moving average of the weights. They
differ in their paths and in how they sample.

Axes: C steps of a chunk, R rows, B batch, d coordinates (the product of a sample's shape).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core import rng
from core.config import RegressionConfig
from core.errors import LoopError
from core.learners.base import Fitted, State, TrainingSet, select_row, stack_rows
from core.learners.minibatches import Minibatches
from core.learners.networks import Network
from core.learners.parameters import FlatParameters, clip_rows, moments, restore_moments

CHUNK = 25
"""Steps whose batches are prepared together; part of the meaning of the random streams."""


@dataclass(frozen=True)
class Batch:
    """One regression step: predict `target` at `t`, `x_t`."""

    t: Tensor
    """Times `(..., 1)`, from 0 to 1."""
    x_t: Tensor
    """Points `(..., d)`."""
    target: Tensor
    """`(..., d)`."""


class Regression(ABC):
    """A learner that trains a network on a path's points; see `core.learners.base.Learner`."""

    def __init__(
        self, config: RegressionConfig, network: Network, shape: tuple[int, ...], device: str
    ) -> None:
        self.config, self.network = config, network
        self.shape, self.device = shape, device

    @abstractmethod
    def paths(
        self,
        x_1: Tensor,
        generators: Sequence[torch.Generator],
        times: Sequence[torch.Generator],
    ) -> Batch:
        """Points on the paths to data `x_1` `(C, R, B, d)`, on the CPU.

        Args:
            x_1: data.
            generators: R streams of noise.
            times: R streams of times.
        """

    @abstractmethod
    def transport(self, model: Mapping[str, Tensor], count: int, streams: Streams) -> Tensor:
        """Samples `(R, count, d)` of the model, from noise of these streams."""

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Train by Adam: all rows in one ensemble, or one after another where networks are large.

        Raises:
            LoopError: naming the seeds whose samples or loss are NaN or infinite.
        """
        _check_samples(training, seeds, iteration)
        if self.network.batched or len(seeds) == 1:
            return self._fit(state, training, seeds, iteration)
        rows = []
        for row, seed in enumerate(seeds):
            part = TrainingSet(training.samples[row : row + 1], training.sizes[row : row + 1])
            start = None if state is None else select_row(state, row)
            rows.append(self._fit(start, part, [seed], iteration))
        losses = [fitted.loss for fitted in rows if fitted.loss is not None]
        return Fitted(stack_rows([fitted.state for fitted in rows]), torch.cat(losses))

    def model(self, state: State) -> dict[str, Tensor]:
        """The weights that are sampled: the moving average where there is one."""
        return dict(state["ema"] if self._samples_average else state["weights"])

    def sample(
        self,
        model: Mapping[str, Tensor],
        count: int,
        seeds: Sequence[int],
        iteration: int,
        shard: int,
    ) -> Tensor:
        """Samples from standard normal noise; `(R, count, *shape)`."""
        streams = Streams(seeds, iteration, shard, self.device)
        with torch.no_grad():
            x = self.transport(model, count, streams)
        return x.reshape(len(seeds), count, *self.shape)

    @property
    def _samples_average(self) -> bool:
        return self.config.ema is not None and self.config.sampled == "ema"

    def _fit(
        self, state: State | None, training: TrainingSet, seeds: Sequence[int], iteration: int
    ) -> Fitted:
        config = self.config
        warm = state is not None and config.init == "warm"
        if state is not None and warm:
            weights = state["weights"]
        else:
            weights = self.network.initialize(seeds, iteration)
        steps = config.steps
        if state is None:
            steps = config.initial_steps or 2 * config.steps
        parameters = FlatParameters(weights, self.device)
        optimizer = torch.optim.Adam([parameters.flat], lr=config.lr, fused=True)
        done = 0
        if state is not None and warm and config.carry_optimizer:
            restore_moments(optimizer, parameters, state["adam"])
            done = int(state["adam"]["step"][0])
        ema = None
        if config.ema is not None:
            start = state["ema"] if warm and state is not None else weights
            ema = FlatParameters(start, self.device)
        losses: list[Tensor] = []
        with self.network.training(seeds, iteration):
            for batch in self._batches(training, steps, seeds, iteration):
                self._warm_up(optimizer, done + len(losses))
                losses.append(self._step(parameters, optimizer, batch))
                if ema is not None and config.ema is not None:
                    ema.flat.lerp_(parameters.flat, 1 - config.ema)
                if len(losses) % CHUNK == 0:
                    _check_finite(losses[-CHUNK:], seeds, iteration)
        _check_finite(losses, seeds, iteration)
        new_state: dict[str, Any] = {
            "weights": parameters.copy(),
            "adam": moments(optimizer, parameters),
        }
        if ema is not None:
            new_state["ema"] = ema.copy()
        tail = torch.stack(losses[-max(1, steps // 10) :]).T.tolist()
        # Summed exactly, so in no order that could depend on the number of rows.
        loss = torch.tensor([math.fsum(row) / len(row) for row in tail], dtype=torch.float64)
        return Fitted(new_state, loss)

    def _warm_up(self, optimizer: torch.optim.Adam, step: int) -> None:
        """The learning rate rises linearly over Adam's first `warmup` steps."""
        if self.config.warmup:
            rate = min(1.0, (step + 1) / self.config.warmup)
            optimizer.param_groups[0]["lr"] = self.config.lr * rate

    def _step(
        self, parameters: FlatParameters, optimizer: torch.optim.Adam, batch: Batch
    ) -> Tensor:
        """One step of all rows; the sum over rows keeps their gradients apart. Loss `(R,)`."""
        parameters.gradient.zero_()
        error = self.network(parameters.named, batch.t, batch.x_t) - batch.target
        loss = error.square().mean((1, 2))
        loss.sum().backward()  # type: ignore[no-untyped-call]
        if self.config.clip is not None:
            clip_rows(list(parameters.gradients.values()), self.config.clip)
        optimizer.step()
        return loss.detach()

    def _batches(
        self, training: TrainingSet, steps: int, seeds: Sequence[int], iteration: int
    ) -> Iterator[Batch]:
        """Points on paths to minibatches, prepared a chunk at a time."""
        config = self.config
        minibatches = Minibatches(training, config.batch_size, seeds, iteration)
        noise = rng.streams(seeds, "noise", iteration)
        times = rng.streams(seeds, "times", iteration)
        flips = rng.streams(seeds, "flips", iteration)
        for first in range(0, steps, CHUNK):
            chunk = min(CHUNK, steps - first)
            x_1 = minibatches.take(chunk).cpu()
            if config.flip:
                x_1 = _flipped(x_1, flips)
            path = self.paths(x_1.flatten(3), noise, times)
            for step in range(chunk):
                parts = path.t[step], path.x_t[step], path.target[step]
                yield Batch(*(part.to(self.device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class Streams:
    """The streams of noise that one shard is generated from."""

    seeds: Sequence[int]
    iteration: int
    shard: int
    device: str

    def noise(self, purpose: str = "generate") -> list[torch.Generator]:
        """R streams, from their start."""
        return rng.streams(self.seeds, purpose, self.iteration, self.shard, self.device)


def _flipped(x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Images `(C, R, B, ..., W)`, each mirrored left to right with probability ½."""
    shape = (x.shape[0], x.shape[2])
    mirror = rng.uniform(generators, shape).transpose(0, 1) < 0.5
    return torch.where(mirror.reshape(*x.shape[:3], *[1] * (x.dim() - 3)), x.flip(-1), x)


def _check_samples(training: TrainingSet, seeds: Sequence[int], iteration: int) -> None:
    rows = zip(seeds, training.samples, training.sizes.tolist(), strict=True)
    bad = [seed for seed, samples, size in rows if not samples[:size].isfinite().all()]
    if bad:
        raise LoopError(
            f"training samples are NaN or infinite at iteration {iteration} for seeds {bad}"
        )


def _check_finite(losses: Sequence[Tensor], seeds: Sequence[int], iteration: int) -> None:
    finite = torch.stack(list(losses)).isfinite().all(0)
    if not finite.all():
        bad = [seed for seed, ok in zip(seeds, finite.tolist(), strict=True) if not ok]
        raise LoopError(
            f"training loss is NaN or infinite at iteration {iteration} for seeds {bad}; "
            "a smaller learner.lr or learner.clip may help"
        )
