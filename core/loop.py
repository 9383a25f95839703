"""Algorithm 1 of Ferbach et al. (arXiv 2407.09499): the self-consuming loop with curation.

    for result in run_loop(config):
        print(result.iteration, result.metrics["reward_mean"])

needs no Ray: it runs in a notebook as it does in a trial, to the same bits.

Axes: R rows, N real samples, M kept samples, `...` the sample's own shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.bounds import Margins
from luceloop.core.cache import InitialModels, fingerprint
from luceloop.core.config import Config, RegressionConfig
from luceloop.core.device import settle
from luceloop.core.errors import ConfigError
from luceloop.core.images import ImageData
from luceloop.core.law import CHUNK, RewardLaw, real_law
from luceloop.core.learners.base import (
    Fitted,
    PatientLearner,
    Progress,
    State,
    TrainingSet,
    select_row,
    to_device,
)
from luceloop.core.learners.build import build_learner
from luceloop.core.quality import RealFeatures
from luceloop.core.sampling import (
    Rows,
    Shard,
    ShardResult,
    ShardSampler,
    Stopwatch,
    cut_into_shards,
    gather,
)
from luceloop.core.scoring import build_scorer
from luceloop.core.storage import Folder

MOST_SHARDS = 100_000
"""Of a pool; each is a call of its own."""

ShardRunner = Callable[
    [Mapping[str, Tensor], int, Sequence[Shard], bool, Tensor], Iterable[ShardResult]
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

    def row(self, row: int) -> LoopState:
        """Where one row stands, its leading axis kept with length 1."""
        kept = None if self.kept is None else self.kept[row : row + 1]
        metrics = {name: values[row : row + 1] for name, values in self.metrics.items()}
        return LoopState(self.iteration, select_row(self.learner, row), kept, metrics)

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

    def __init__(self, config: Config, device: str = "cpu", cache: Folder | None = None) -> None:
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
        self._drawn: dict[int, Tensor] = {}
        self.sampler = ShardSampler(config, self.rows, self.scorer, self.learner, device)
        self._check_quality()
        pool, size = int(self.rows.pool.max()), config.sampling.shard_size
        if pool > MOST_SHARDS * size:
            allowed = f"makes more than {MOST_SHARDS} shards of a pool of {pool}"
            raise ConfigError("sampling.shard_size", size, allowed)
        self.shards = cut_into_shards(pool, config.k, size)

    def _check_quality(self) -> None:
        wanted, dataset = self.config.quality, self.dataset
        if wanted is None or not isinstance(dataset, ImageData):
            return
        fewest = min(int(self.rows.pool.min()), len(dataset.images))
        if fewest <= wanted.neighbours:
            allowed = f"must be below {fewest}, the images of the smaller of pool and data"
            raise ConfigError("quality.neighbours", wanted.neighbours, allowed)

    def run(
        self,
        start: LoopState | None = None,
        run_shards: ShardRunner | None = None,
        fit: Callable[[LoopState | None], Fitted] | None = None,
    ) -> Iterator[IterationResult]:
        """Yield the iterations after `start`, or all of 0 to T.

        Args:
            start: where an interrupted loop stood; the rest is bitwise what it would have been.
            run_shards: who computes the shards; this process if not given.
            fit: who trains the next model of all rows; this process if not given.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
            ValueError: if `start` was the end of a shorter loop, where nothing was kept to go on.
        """
        if start is not None and start.kept is None and int(self.rows.kept.max()):
            if start.iteration < self.config.iterations:
                raise ValueError(f"a loop of {start.iteration} iterations cannot be prolonged")
        run_shards, fit = run_shards or self.run_shards_here, fit or self.fit
        edges = torch.from_numpy(self.law.edges)
        first = 0 if start is None else start.iteration + 1
        for iteration in range(first, self.config.iterations + 1):
            watch = Stopwatch(self.device)
            fitted = fit(start)
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
    ) -> Iterator[ShardResult]:
        """Compute shards one after another in this process."""
        return (self.sampler(model, iteration, shard, curate, edges) for shard in shards)

    def fit(self, start: LoopState | None, rows: Sequence[int] | None = None) -> Fitted:
        """Train the next model of some rows, or of all.

        Args:
            start: where these rows stand; None for p_0.
            rows: positions in the configuration's seeds.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
        """
        rows = range(len(self.rows.seeds)) if rows is None else rows
        if start is None:
            return self._initial(rows)
        training = self._training_set(rows, start.kept, start.iteration + 1)
        state = to_device(start.learner, self.device)
        return self.learner.fit(state, training, self._seeds(rows), start.iteration + 1)

    @property
    def one_by_one(self) -> bool:
        """Whether rows gain nothing by training together."""
        return isinstance(self.learner, PatientLearner) and self.learner.one_by_one

    def _initial(self, rows: Sequence[int]) -> Fitted:
        """p_0, trained on all real samples."""
        seeds = self._seeds(rows)

        def train(missing: list[int], progress: Progress | None) -> Fitted:
            real = [self._real(rows[position]) for position in missing]
            samples = real[0][None] if len(real) == 1 else torch.stack(real)
            training = TrainingSet(samples, torch.tensor([len(part) for part in real]))
            chosen = [seeds[position] for position in missing]
            if progress is not None and isinstance(self.learner, PatientLearner):
                return self.learner.fit_initial(training, chosen, progress)
            return self.learner.fit(None, training, chosen, 0)

        if self.cache is None or self._is_given:
            fitted = train(list(range(len(seeds))), None)
        else:
            key = fingerprint(self.config, self.device)
            fitted = InitialModels(self.cache).get(key, seeds, train, self.one_by_one)
        return Fitted(to_device(fitted.state, self.device), fitted.loss)

    @property
    def _is_given(self) -> bool:
        """Whether p_0 is read from the user's file."""
        learner = self.config.learner
        return isinstance(learner, RegressionConfig) and learner.checkpoint is not None

    def _seeds(self, rows: Sequence[int]) -> list[int]:
        return [self.rows.seeds[row] for row in rows]

    def _real(self, row: int) -> Tensor:
        """A row's real samples `(N, ...)`, a function of its seed alone."""
        if row in self._drawn:
            return self._drawn[row]
        generator = rng.stream(self.rows.seeds[row], "real-data")
        drawn = self.dataset.draw(self.dataset.size, generator)
        if int(self.rows.real[row]):  # else only p_0 needs them
            self._drawn[row] = drawn
        return drawn

    def _training_set(
        self, rows: Sequence[int], kept: Tensor | None, iteration: int
    ) -> TrainingSet:
        """D_real ∪ D_kept; where fewer real samples are wanted than there are, a new subset."""
        sets = []
        generators = rng.streams(self._seeds(rows), "real-subset", iteration)
        for position, (row, generator) in enumerate(zip(rows, generators, strict=True)):
            wanted, parts = int(self.rows.real[row]), []
            if wanted:
                part = self._real(row)
                if wanted < len(part):
                    part = part[torch.randperm(len(part), generator=generator)[:wanted]]
                parts.append(part)
            if kept is not None:
                parts.append(kept[position, : int(self.rows.kept[row])])
            sets.append(torch.cat(parts))
        padded = torch.nn.utils.rnn.pad_sequence(sets, batch_first=True)
        return TrainingSet(padded, torch.tensor([len(part) for part in sets]))


def run_loop(config: Config, device: str = "cpu") -> Iterator[IterationResult]:
    """Run the loop of one point in this process; see `Loop.run`.

    Sets torch's number of CPU threads to the configuration's, on which the last bits depend.
    """
    settle(config.resources.threads)
    return Loop(config, device).run()
