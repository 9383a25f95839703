"""Training by regression: what flow matching and diffusion have in common.

Both draw a time and a noisy point of a path from noise to data, and fit a network to a target
there by Adam, with an optional warm-up, gradient clipping and a moving average of the weights. They
differ in their paths and in how they sample. The steps themselves are in `training.py`.

Axes: C steps of a chunk, R rows, B batch, d coordinates (the product of a sample's shape).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.errors import LoopError
from luceloop.core.learners.base import Fitted, Progress, State, TrainingSet, select_row, stack_rows
from luceloop.core.learners.networks.base import Network
from luceloop.core.learners.regression.checkpoints import read_checkpoint
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.minibatches import Minibatches
from luceloop.core.learners.regression.training import Training

CHUNK = 25
"""Steps whose batches are prepared together; part of the meaning of the random streams."""
SEGMENT = 1000
"""Steps after which all streams begin anew, by name: from there an interrupted training goes on."""


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
        self,
        config: RegressionConfig,
        network: Network,
        shape: tuple[int, ...],
        device: str = "cpu",
    ) -> None:
        self.config, self.network = config, network
        self.shape, self.device = shape, device

    @abstractmethod
    def draw(
        self,
        x_1: Tensor,
        generators: Sequence[torch.Generator],
        times: Sequence[torch.Generator],
    ) -> tuple[Tensor, ...]:
        """What `path` needs of a path to each of the data `x_1` `(C, R, B, d)`, on the CPU.

        Args:
            x_1: data.
            generators: R streams of noise.
            times: R streams of times.
        """

    @abstractmethod
    def path(self, *drawn: Tensor) -> Batch:
        """Points on the paths that `draw` drew, on this learner's device."""

    @abstractmethod
    def transport(self, model: Mapping[str, Tensor], count: int, streams: Streams) -> Tensor:
        """Samples `(R, count, d)` of the model, from noise of these streams."""

    @property
    def one_by_one(self) -> bool:
        """Whether the network is large enough to fill a device by itself."""
        return not self.network.batched

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Train by Adam: all rows in one ensemble, or one after another where networks are large.

        Raises:
            ConfigError: if a checkpoint is to be p_0 and cannot be.
            LoopError: naming the seeds whose samples or loss are NaN or infinite.
        """
        if state is None and self.config.checkpoint is not None:
            return self._from_checkpoint(self.config.checkpoint, len(seeds))
        _check_samples(training, seeds, iteration)
        if len(seeds) == 1 or not self.one_by_one:
            if state is None:
                return self.fit_initial(training, seeds, None)
            return self._retrain(state, training, seeds, iteration)
        rows = []
        for row, seed in enumerate(seeds):
            start = None if state is None else select_row(state, row)
            rows.append(self.fit(start, _select_training(training, row), [seed], iteration))
        return Fitted.stack(rows)

    def fit_initial(
        self, training: TrainingSet, seeds: Sequence[int], progress: Progress | None
    ) -> Fitted:
        """Train p_0 from new weights, or go on where `progress` stands.

        Raises:
            LoopError: naming the seeds whose samples or loss are NaN or infinite.
        """
        _check_samples(training, seeds, 0)
        config, decay = self.config, self.config.initial_decay
        snapshot = None if progress is None else progress.load()
        if snapshot is None:
            start = {"weights": self.network.initialize(seeds, 0)}
            run = Training(config, self.network, decay, start, self.device)
        else:
            run = Training.restore(config, self.network, decay, snapshot, self.device)
        loss = self._train(run, training, config.first_steps, seeds, 0, progress)
        return Fitted(run.state(with_moments=True), loss)

    def _retrain(
        self, state: State, training: TrainingSet, seeds: Sequence[int], iteration: int
    ) -> Fitted:
        config = self.config
        if config.init == "warm":
            start = {key: state[key] for key in ("weights", "ema") if key in state}
            if config.carry_optimizer and "adam" in state:
                start["adam"] = state["adam"]
        else:
            start = {"weights": self.network.initialize(seeds, iteration)}
        run = Training(config, self.network, config.ema, start, self.device)
        loss = self._train(run, training, config.steps, seeds, iteration, None)
        return Fitted(run.state(config.carry_optimizer), loss)

    def check_checkpoint(self) -> None:
        """Refuse a checkpoint that could not be p_0.

        Raises:
            ConfigError: naming the file and what is wrong with it.
        """
        if self.config.checkpoint is not None:
            read_checkpoint(self.config.checkpoint, self.network, self.config.ema is not None)

    def _from_checkpoint(self, file: str, rows: int) -> Fitted:
        found = read_checkpoint(file, self.network, self.config.ema is not None)
        return Fitted(stack_rows([found] * rows), None)

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

    def _train(
        self,
        run: Training,
        training: TrainingSet,
        steps: int,
        seeds: Sequence[int],
        iteration: int,
        progress: Progress | None,
    ) -> Tensor:
        """Train up to `steps` steps; the mean loss of the last tenth of them `(R,)`."""
        while run.done < steps:
            segment, stop = run.done // SEGMENT, min(steps, run.done - run.done % SEGMENT + SEGMENT)
            batches = self.batches(training, stop - run.done, seeds, iteration, segment)
            with self.network.training(seeds, iteration, segment):
                for chunk in ahead(batches) if self._on_gpu else batches:
                    for parts in zip(chunk.t, chunk.x_t, chunk.target, strict=True):
                        run.step(*parts)
                    if not self._on_gpu:  # which would have to wait for it
                        run.check(seeds, iteration)
            run.check(seeds, iteration)
            if progress is not None:
                progress.save(run.snapshot)
        return run.loss(max(1, steps // 10))

    @property
    def _on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def batches(
        self,
        training: TrainingSet,
        steps: int,
        seeds: Sequence[int],
        iteration: int,
        segment: int = 0,
    ) -> Iterator[Batch]:
        """Points on paths to minibatches, by chunks, on this learner's device."""
        config = self.config
        minibatches = Minibatches(training, config.batch_size, seeds, iteration, segment)
        noise, times, flips = (
            rng.streams(seeds, purpose, iteration, segment)
            for purpose in ("noise", "times", "flips")
        )
        for first in range(0, steps, CHUNK):
            x_1 = minibatches.take(min(CHUNK, steps - first)).cpu()
            if config.flip:
                x_1 = _flipped(x_1, flips)
            drawn = self.draw(x_1.flatten(3), noise, times)
            if self._on_gpu:  # pinned, else copies would wait
                drawn = tuple(
                    part.pin_memory().to(self.device, non_blocking=True) for part in drawn
                )
            yield self.path(*drawn)


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


def _select_training(training: TrainingSet, row: int) -> TrainingSet:
    """The training set of one row, its leading axis kept with length 1."""
    return TrainingSet(training.samples[row : row + 1], training.sizes[row : row + 1])


def _check_samples(training: TrainingSet, seeds: Sequence[int], iteration: int) -> None:
    """Refuse training samples that are not finite.

    Raises:
        LoopError: naming the seeds.
    """
    rows = zip(seeds, training.samples, training.sizes.tolist(), strict=True)
    bad = [seed for seed, samples, size in rows if not samples[:size].isfinite().all()]
    if bad:
        raise LoopError(
            f"training samples are NaN or infinite at iteration {iteration} for seeds {bad}"
        )


def ahead(items: Iterator[Batch]) -> Iterator[Batch]:
    """The same items, the next of which a thread prepares while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
