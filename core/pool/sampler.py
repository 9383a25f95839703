"""Generating, scoring and curating a pool, one shard at a time.

What leaves a shard is the winners and sufficient statistics, never the pool. (At K=∞ any sample may
win, and how often is known only when all shards are; there, the samples that a shard drew for
itself leave it.)

Axes: R rows, B samples of a shard, G choices of a shard, M kept samples, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.device import Stopwatch
from luceloop.core.errors import LoopError
from luceloop.core.learners.base import Learner, PatientLearner
from luceloop.core.measures.metrics import PoolStatistics
from luceloop.core.measures.quality import FeatureMoments, ShardFeatures
from luceloop.core.measures.width import ClassMoments
from luceloop.core.pool import curation
from luceloop.core.pool.rows import Rows
from luceloop.core.pool.scoring import Scorer, Scores
from luceloop.core.pool.shards import Shard, ShardResult, ShardTask, shard_length


class ShardSampler:
    """Computes shards: the plain class behind the sampler actor."""

    def __init__(
        self,
        config: PointConfig,
        rows: Rows,
        scorer: Scorer,
        learner: Learner,
        device: str = "cpu",
    ) -> None:
        self.config, self.rows, self.scorer = config, rows, scorer
        self.learner, self.device = learner, device
        self._shown = max((each.samples for each in config.metrics.values()), default=0)

    def __call__(self, model: Mapping[str, Tensor], task: ShardTask) -> ShardResult:
        """Generate, score and, if asked, curate one shard of p_t's pool.

        Args:
            model: what `Learner.model` returned.
            task: which shard, and what of it is wanted.

        Raises:
            LoopError: if samples are NaN or infinite or the reward breaks its contract.
        """
        shard, watch = task.shard, Stopwatch(self.device)
        count = whole = shard.stop - shard.start
        if shard.start and isinstance(self.learner, PatientLearner) and self.learner.one_by_one:
            # The last shard takes the shape of the others, so that nothing compiles for it again.
            whole = shard_length(self.config.k, self.config.sampling.shard_size)
        x = self.learner.sample(model, whole, self.rows.seeds, task.iteration, shard.index)
        x = x[:, :count]
        watch.lap("generate")
        return self.measure(x, task, watch)

    def measure(self, x: Tensor, task: ShardTask, watch: Stopwatch) -> ShardResult:
        """Score and, if asked, curate the samples of a shard.

        Args:
            x: the samples `(R, B, ...)`.
            task: what was generated, and what of it is wanted.
            watch: which has taken the time of generating them.

        Raises:
            LoopError: if samples are NaN or infinite or the reward breaks its contract.
        """
        shard, iteration = task.shard, task.iteration
        self._check_samples(x, iteration)
        scores = self.scorer.of_rows(x, measured=task.measured)
        reward = scores.reward.reshape(x.shape[:2])
        mask = self._positions(shard) < self.rows.pool[:, None].to(self.device)
        statistics = self._statistics(reward, scores.classes, mask, task.edges)
        features = self._features(scores, mask, shard) if task.measured else None
        watch.lap("score")
        kept, kept_reward, draws = self._curate(x, reward, mask, task)
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
            shown=x[:, : max(0, self._shown - shard.start)].cpu().clone(),
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
    ) -> PoolStatistics:
        return PoolStatistics.of(
            reward,
            mask,
            self.rows.beta.to(self.device),
            self.scorer.supremum,
            None if classes is None else classes.reshape(reward.shape),
            self.scorer.n_classes,
            edges.to(self.device),
        ).cpu()

    def _features(self, scores: Scores, mask: Tensor, shard: Shard) -> ShardFeatures | None:
        if self.config.quality is None or scores.features is None:
            return None
        features = scores.features.float().reshape(*mask.shape, -1)
        some = features[:, : max(0, self.config.quality.samples - shard.start)]
        moments = FeatureMoments.of(features, mask).to("cpu")
        return ShardFeatures(moments, some.cpu().clone(), self._spread(scores, mask))

    def _spread(self, scores: Scores, mask: Tensor) -> ClassMoments | None:
        """Within classes, of which all samples are one where there are none."""
        if scores.across is None:
            return None
        classes = torch.zeros_like(mask, dtype=torch.int64)
        if scores.classes is not None:
            classes = scores.classes.reshape(mask.shape)
        across = scores.across.reshape(*mask.shape, -1)
        return ClassMoments.of(across, classes, mask, max(1, self.scorer.n_classes))

    def _curate(
        self, x: Tensor, reward: Tensor, mask: Tensor, task: ShardTask
    ) -> tuple[Tensor, Tensor, curation.WeightedDraws | None]:
        shard = task.shard
        k, most = self.config.k, int(self.rows.kept.max())
        generators = rng.streams(
            self.rows.seeds, "curate", task.iteration, shard.index, device=self.device
        )
        beta = self.rows.beta.to(self.device)
        if not task.curate or most == 0:
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
