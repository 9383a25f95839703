"""Generating, scoring and curating a pool, one shard at a time.

A pool is cut into shards by its configuration alone. A shard is a function of (model, iteration,
shard): any process may compute it, and computing it twice gives the same bits. What leaves a
shard is the winners and sufficient statistics, never the pool. (At K=∞ any sample may win, and how
often is known only when all shards are; there, the samples that a shard drew for itself leave it.)

Axes: R rows, B samples of a shard, G choices of a shard, M kept samples, K candidates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from luceloop.core import curation, metrics, quality, rng
from luceloop.core.config import Config
from luceloop.core.errors import LoopError
from luceloop.core.law import RewardLaw
from luceloop.core.learners.base import Learner
from luceloop.core.scoring import Scorer
from luceloop.core.sizes import training_sizes


@dataclass(frozen=True)
class Rows:
    """The runs of an ensemble: row r has its own seed, β, λ and sizes."""

    seeds: tuple[int, ...]
    beta: Tensor
    """float64 `(R,)`."""
    lam: Tensor
    """float64 `(R,)`."""
    real: Tensor
    """Real samples in each training set, int64 `(R,)`."""
    kept: Tensor
    """Kept samples in each training set, int64 `(R,)`."""
    pool: Tensor
    """Samples generated at each iteration, int64 `(R,)`."""

    @classmethod
    def of(cls, config: Config, data_size: int) -> Rows:
        """The seeds of one point."""
        sizes, count = training_sizes(config, data_size), len(config.seeds)
        return cls(
            seeds=config.seeds,
            beta=torch.full((count,), config.beta, dtype=torch.float64),
            lam=torch.full((count,), config.lam, dtype=torch.float64),
            real=torch.full((count,), sizes.real),
            kept=torch.full((count,), sizes.kept),
            pool=torch.full((count,), sizes.pool),
        )


@dataclass(frozen=True)
class Shard:
    """Positions `start` to `stop` of every row's pool."""

    index: int
    start: int
    stop: int


def cut_into_shards(pool: int, k: int | float, shard_size: int) -> list[Shard]:
    """Cut a pool into shards of about `shard_size` that never divide a group of K candidates."""
    size = shard_size if math.isinf(k) else max(int(k), shard_size - shard_size % int(k))
    starts = range(0, pool, size)
    return [Shard(i, start, min(start + size, pool)) for i, start in enumerate(starts)]


@dataclass(frozen=True)
class ShardResult:
    """What leaves a shard."""

    statistics: metrics.PoolStatistics
    kept: Tensor
    """Winners `(R, G, ...)`; at K=∞ the samples that any row drew."""
    kept_reward: Tensor
    """Their base rewards `(R, G)`."""
    draws: curation.WeightedDraws | None
    """At K=∞: this shard's M draws, as indices into `kept`."""
    preview: Tensor
    """First samples of the shard, for figures `(R, P, ...)`."""
    reward: Tensor | None
    """At t=0: base rewards of all samples `(R, B)`, NaN beyond a row's pool."""
    features: quality.ShardFeatures | None
    """Where the quality of images is measured."""
    seconds: dict[str, float]
    """Time spent by stage."""


@dataclass
class Stopwatch:
    """Adds up the seconds of named stages."""

    device: str = "cpu"
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = self._now()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as `stage`."""
        now = self._now()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()


class ShardSampler:
    """Computes shards: the plain class behind the sampler actor."""

    def __init__(
        self,
        config: Config,
        rows: Rows,
        scorer: Scorer,
        learner: Learner,
        device: str = "cpu",
    ) -> None:
        self.config, self.rows, self.scorer = config, rows, scorer
        self.learner, self.device = learner, device

    def __call__(
        self,
        model: Mapping[str, Tensor],
        iteration: int,
        shard: Shard,
        curate: bool,
        edges: Tensor,
    ) -> ShardResult:
        """Generate, score and, if asked, curate one shard of p_t's pool.

        Args:
            model: what `Learner.model` returned.
            iteration: t.
            shard: which part of the pool.
            curate: whether to choose the kept samples.
            edges: of the reward bins, float64 `(Q-1,)`.

        Raises:
            LoopError: if samples are NaN or infinite or the reward breaks its contract.
        """
        watch = Stopwatch(self.device)
        count = shard.stop - shard.start
        x = self.learner.sample(model, count, self.rows.seeds, iteration, shard.index)
        self._check_samples(x, iteration)
        watch.lap("generate")
        scores = self.scorer(x.flatten(0, 1))
        reward = scores.reward.reshape(x.shape[:2])
        mask = self._positions(shard) < self.rows.pool[:, None].to(self.device)
        statistics = self._statistics(reward, scores.classes, mask, edges)
        features = self._features(scores.features, mask, shard)
        watch.lap("score")
        kept, kept_reward, draws = self._curate(x, reward, mask, iteration, shard, curate)
        watch.lap("curate")
        preview = x[:, : max(0, self.config.sampling.preview - shard.start)]
        return ShardResult(
            statistics=statistics,
            kept=kept.cpu(),
            kept_reward=kept_reward.cpu(),
            draws=draws,
            preview=preview.cpu().clone(),
            reward=reward.where(mask, torch.nan).cpu() if iteration == 0 else None,
            features=features,
            seconds=watch.seconds,
        )

    def _positions(self, shard: Shard) -> Tensor:
        return torch.arange(shard.start, shard.stop, device=self.device)

    def _check_samples(self, x: Tensor, iteration: int) -> None:
        finite = x.flatten(1).isfinite().all(1)
        if not finite.all():
            pairs = zip(self.rows.seeds, finite.tolist(), strict=True)
            bad = [seed for seed, ok in pairs if not ok]
            raise LoopError(f"samples are NaN or infinite at iteration {iteration} for seeds {bad}")

    def _statistics(
        self, reward: Tensor, classes: Tensor | None, mask: Tensor, edges: Tensor
    ) -> metrics.PoolStatistics:
        return metrics.PoolStatistics.of(
            reward,
            mask,
            self.rows.beta.to(self.device),
            self.scorer.supremum,
            None if classes is None else classes.reshape(reward.shape),
            self.scorer.n_classes,
            edges.to(self.device),
        ).cpu()

    def _features(
        self, features: Tensor | None, mask: Tensor, shard: Shard
    ) -> quality.ShardFeatures | None:
        if self.config.quality is None or features is None:
            return None
        features = features.float().reshape(*mask.shape, -1)
        some = features[:, : max(0, self.config.quality.samples - shard.start)]
        moments = quality.FeatureMoments.of(features, mask).cpu()
        return quality.ShardFeatures(moments, some.cpu().clone())

    def _curate(
        self,
        x: Tensor,
        reward: Tensor,
        mask: Tensor,
        iteration: int,
        shard: Shard,
        curate: bool,
    ) -> tuple[Tensor, Tensor, curation.WeightedDraws | None]:
        k, most = self.config.k, int(self.rows.kept.max())
        generators = rng.streams(
            self.rows.seeds, "curate", iteration, shard.index, device=self.device
        )
        beta = self.rows.beta.to(self.device)
        if not curate or most == 0:
            return x[:, :0], reward[:, :0], None
        if math.isinf(k):
            draws = curation.draw_weighted(reward, mask, beta, most, generators)
            drawn, index = torch.unique(draws.index, return_inverse=True)
            draws = curation.WeightedDraws(index, draws.peak, draws.log_mass).cpu()
            return x[:, drawn], reward[:, drawn], draws
        groups = min(x.shape[1] // int(k), max(0, most - shard.start // int(k)))
        competing = reward[:, : groups * int(k)]
        winner = curation.choose_among_k(competing, beta, int(k), generators)
        rows = torch.arange(len(x), device=self.device)[:, None]
        return x[rows, winner], reward[rows, winner], None


@dataclass(frozen=True)
class Pool:
    """What the loop needs to know of p_t's pool."""

    metrics: dict[str, Tensor]
    """By name, float64 `(R,)`."""
    kept: Tensor | None
    """Kept samples `(R, M, ...)`, padded: row r has `rows.kept[r]`. None if nothing was curated."""
    preview: Tensor
    """Some samples of the pool `(R, P, ...)`."""
    reward: Tensor | None
    """At t=0: base rewards of the pool `(R, N)`, NaN beyond a row's pool."""


def gather(
    shards: Iterable[ShardResult],
    rows: Rows,
    iteration: int,
    curate: bool,
    law: RewardLaw,
    real: quality.RealFeatures | None = None,
) -> Pool:
    """Put the shards of a pool together; they come in shard order.

    `law` is that of the real rewards, `real` the features that images are compared with.
    """
    results, features = [], None
    for result in shards:
        if result.features is not None:  # large: added up as they come
            features = result.features if features is None else features + result.features
        results.append(replace(result, features=None))
    real_bins = torch.from_numpy(law.real_bins)
    pool_metrics = metrics.merge([result.statistics for result in results]).metrics(real_bins)
    if real is not None and features is not None:
        pool_metrics |= quality.quality_metrics(features, rows.pool, real)
    most = int(rows.kept.max())
    kept = None
    if curate and most:
        kept, kept_reward = _gather_kept(results, rows, iteration, most)
        mask = torch.arange(most) < rows.kept[:, None]
        pool_metrics["kept_reward_mean"] = metrics.Moments.of(kept_reward, mask).mean
    for stage in results[0].seconds:
        spent = sum(result.seconds[stage] for result in results) / len(rows.seeds)
        pool_metrics[f"seconds/{stage}"] = torch.full((len(rows.seeds),), spent).double()
    preview = torch.cat([result.preview for result in results], 1)
    rewards = [result.reward for result in results if result.reward is not None]
    return Pool(pool_metrics, kept, preview, torch.cat(rewards, 1) if rewards else None)


def _gather_kept(
    results: Sequence[ShardResult], rows: Rows, iteration: int, most: int
) -> tuple[Tensor, Tensor]:
    """Kept samples `(R, M, ...)` and their rewards `(R, M)`."""
    parts = [result.draws for result in results if result.draws is not None]
    if not parts:
        kept = torch.cat([result.kept for result in results], 1)
        return kept, torch.cat([result.kept_reward for result in results], 1)
    generators = rng.streams(rows.seeds, "choose-shard", iteration)
    source = curation.choose_part(parts, rows.beta, most, generators)
    first = torch.tensor([0, *[result.kept.shape[1] for result in results[:-1]]]).cumsum(0)
    index = torch.stack([part.index for part in parts], 1)  # (R, shards, M)
    position = first[source] + index.gather(1, source[:, None]).squeeze(1)
    row = torch.arange(len(rows.seeds))[:, None]
    kept = torch.cat([result.kept for result in results], 1)[row, position]
    return kept, torch.cat([result.kept_reward for result in results], 1)[row, position]
