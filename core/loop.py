"""Algorithm 1 of Ferbach et al. (arXiv 2407.09499): the self-consuming loop with curation.

    for result in run_loop(config):
        print(result.iteration, result.metrics["reward_mean"])

needs no Ray: it runs in a notebook as it does in a trial, to the same bits.

Axes: R rows, N real samples, M kept samples, `...` the sample's own shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import rng
from core.bounds import Margins
from core.cache import InitialModels, fingerprint
from core.config import Config
from core.errors import ConfigError
from core.images import ImageData
from core.law import CHUNK, RewardLaw, real_law
from core.learners.base import Fitted, State, TrainingSet, to_device
from core.learners.build import build_learner
from core.quality import RealFeatures
from core.sampling import (
    Rows,
    Shard,
    ShardResult,
    ShardSampler,
    Stopwatch,
    cut_into_shards,
    gather,
)
from core.scoring import build_scorer

ShardRunner = Callable[
    [Mapping[str, Tensor], int, Sequence[Shard], bool, Tensor], list[ShardResult]
]
"""Computes shards of p_t's pool, (model, iteration, shards, curate, edges of the reward bins) to
results in shard order."""


@dataclass(frozen=True)
class LoopState:
    """Where a loop stands after iteration t: all that iteration t+1 depends on."""

    iteration: int
    learner: State
    kept: Tensor | None
    """Kept samples of p_t's pool `(R, M, ...)`; None if none are kept."""
    metrics: Mapping[str, Tensor]
    """Of p_t, by name, float64 `(R,)`: Lemma 2.2 bounds the next ones by them."""

    def plain(self) -> dict[str, Any]:
        """Plain types that `torch.load(weights_only=True)` reads."""
        return {
            "iteration": self.iteration,
            "learner": dict(self.learner),
            "kept": self.kept,
            "metrics": dict(self.metrics),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> LoopState:
        """The inverse of `plain`."""
        return cls(plain["iteration"], plain["learner"], plain["kept"], plain["metrics"])


@dataclass(frozen=True)
class IterationResult:
    """One retraining iteration."""

    iteration: int
    metrics: dict[str, Tensor]
    """By name, float64 `(R,)`."""
    preview: Tensor
    """Some samples of p_t's pool `(R, P, ...)`."""
    reward: Tensor | None
    """At t=0: base rewards of p_0's pool `(R, N)`, NaN beyond a row's pool."""
    state: LoopState


class Loop:
    """The self-consuming loop of one configuration point, all its rows at once."""

    def __init__(self, config: Config, device: str = "cpu", cache: Path | None = None) -> None:
        """Build the parts of the loop; nothing runs yet.

        Args:
            config: one point; a search in it is ignored.
            device: of the learner and the reward.
            cache: folder of trained p_0 and classifiers; without one, they are trained anew.

        Raises:
            ConfigError: if the parts do not fit each other.
        """
        self.config, self.device, self.cache = config, device, cache
        self.scorer = build_scorer(config, device, cache)
        self.dataset = self.scorer.dataset
        self.rows = Rows.of(config, self.dataset.size)
        self.learner = build_learner(config.learner, self.dataset.shape, device)
        self.sampler = ShardSampler(config, self.rows, self.scorer, self.learner, device)
        self._check_quality()
        self.shards = cut_into_shards(
            int(self.rows.pool.max()), config.k, config.sampling.shard_size
        )

    def _check_quality(self) -> None:
        wanted, dataset = self.config.quality, self.dataset
        if wanted is None or not isinstance(dataset, ImageData):
            return
        fewest = min(int(self.rows.pool.min()), len(dataset.images))
        if fewest <= wanted.neighbours:
            allowed = f"must be below {fewest}, the images of the smaller of pool and data"
            raise ConfigError("quality.neighbours", wanted.neighbours, allowed)

    def run(
        self, start: LoopState | None = None, run_shards: ShardRunner | None = None
    ) -> Iterator[IterationResult]:
        """Yield the iterations after `start`, or all of 0 to T.

        Args:
            start: where an interrupted loop stood; the rest is bitwise what it would have been.
            run_shards: who computes the shards; this process if not given.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
            ValueError: if `start` was the end of a shorter loop, where nothing was kept to go on.
        """
        if start is not None and start.kept is None and int(self.rows.kept.max()):
            if start.iteration < self.config.iterations:
                raise ValueError(f"a loop of {start.iteration} iterations cannot be prolonged")
        run_shards = run_shards or self.run_shards_here
        real, edges = self._real_data(), torch.from_numpy(self.law.edges)
        first = 0 if start is None else start.iteration + 1
        for iteration in range(first, self.config.iterations + 1):
            watch = Stopwatch(self.device)
            fitted = self._fit(real, start, iteration)
            watch.lap("fit")
            curate = iteration < self.config.iterations
            model = self.learner.model(fitted.state)
            results = run_shards(model, iteration, self.shards, curate, edges)
            pool = gather(results, self.rows, iteration, curate, self.law, self.real_features)
            count = len(self.rows.seeds)
            share = torch.full((count,), watch.seconds["fit"] / count, dtype=torch.float64)
            found = pool.metrics | {"seconds/fit": share}
            if fitted.loss is not None:
                found["loss"] = fitted.loss
            if start is not None:
                found |= self.margins.after(start.metrics, found)
            start = LoopState(iteration, fitted.state, pool.kept, found)
            yield IterationResult(iteration, found, pool.preview, pool.reward, start)

    @functools.cached_property
    def margins(self) -> Margins:
        """The bounds that the theory gives these rows."""
        return Margins(self.law, self.rows, self.config.k)

    @functools.cached_property
    def law(self) -> RewardLaw:
        """The law of the real data's rewards; worked out when the loop first runs."""
        return real_law(self.config, self.device, self.cache)

    @functools.cached_property
    def real_features(self) -> RealFeatures | None:
        """What the quality of images is measured against; None where it is not."""
        wanted, dataset = self.config.quality, self.dataset
        if wanted is None or not isinstance(dataset, ImageData):
            return None
        features = []
        for index in torch.split(torch.arange(len(dataset.images)), CHUNK):
            found = self.scorer(dataset.images.scaled(index).to(self.device)).features
            assert found is not None
            features.append(found.float())
        return RealFeatures.of(torch.cat(features), wanted.samples, wanted.neighbours)

    def run_shards_here(
        self,
        model: Mapping[str, Tensor],
        iteration: int,
        shards: Sequence[Shard],
        curate: bool,
        edges: Tensor,
    ) -> list[ShardResult]:
        """Compute shards one after another in this process."""
        return [self.sampler(model, iteration, shard, curate, edges) for shard in shards]

    def _fit(self, real: Tensor, last: LoopState | None, iteration: int) -> Fitted:
        if last is None:
            return self._initial(real)
        training = self._training_set(real, last.kept, iteration)
        state = to_device(last.learner, self.device)
        return self.learner.fit(state, training, self.rows.seeds, iteration)

    def _initial(self, real: Tensor) -> Fitted:
        """p_0, trained on all real samples."""
        seeds = self.rows.seeds

        def train(rows: list[int]) -> Fitted:
            sizes = torch.full((len(rows),), real.shape[1])
            return self.learner.fit(
                None, TrainingSet(real[rows], sizes), [seeds[row] for row in rows], 0
            )

        if self.cache is None:
            return train(list(range(len(seeds))))
        fitted = InitialModels(self.cache).get(fingerprint(self.config, self.device), seeds, train)
        return Fitted(to_device(fitted.state, self.device), fitted.loss)

    def _real_data(self) -> Tensor:
        """Each row's real samples `(R, N, ...)`, a function of its seed alone."""
        generators = rng.streams(self.rows.seeds, "real-data")
        return torch.stack([self.dataset.draw(self.dataset.size, g) for g in generators])

    def _training_set(self, real: Tensor, kept: Tensor | None, iteration: int) -> TrainingSet:
        """D_real ∪ D_kept; where fewer real samples are wanted than there are, a new subset."""
        sets = []
        for row, generator in enumerate(rng.streams(self.rows.seeds, "real-subset", iteration)):
            wanted = int(self.rows.real[row])
            part = real[row]
            if wanted < len(part):
                part = part[torch.randperm(len(part), generator=generator)[:wanted]]
            if kept is not None:
                part = torch.cat([part, kept[row, : int(self.rows.kept[row])]])
            sets.append(part)
        padded = torch.nn.utils.rnn.pad_sequence(sets, batch_first=True)
        return TrainingSet(padded, torch.tensor([len(part) for part in sets]))


def run_loop(config: Config, device: str = "cpu") -> Iterator[IterationResult]:
    """Run the loop of one point in this process; see `Loop.run`.

    Sets torch's number of CPU threads to the configuration's, on which the last bits depend.
    """
    torch.set_num_threads(config.resources.threads)
    return Loop(config, device).run()
