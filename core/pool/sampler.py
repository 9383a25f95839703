"""Generating, scoring and curating a pool, one shard at a time.

What leaves a shard is the winners and sufficient statistics, never the pool. (At K=∞ any sample may
win, and how often is known only when all shards are; there, the samples that a shard drew for
itself leave it.)

Axes: R rows, B samples of a shard, G choices of a shard, M kept samples, K candidates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from luceloop.core.pickers.opinions import UserStatistics
from luceloop.core.pickers.pickers import liking
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
        rewards = _rewards(scores, x)
        reward = rewards[0]
        mask = self._positions(shard) < self.rows.pool[:, None].to(self.device)
        statistics = self._statistics(reward, scores.classes, mask, task.edges)
        features = self._features(scores, mask, shard) if task.measured else None
        users = self._users(rewards, mask)
        watch.lap("score")
        kept = self._curate(x, rewards, mask, task)
        watch.lap("curate")
        preview = x[:, : max(0, self.config.sampling.preview - shard.start)]
        return ShardResult(
            statistics=statistics,
            kept=kept.samples.cpu(),
            kept_reward=kept.reward.cpu(),
            draws=kept.draws,
            preview=preview.cpu().clone(),
            reward=_initial(rewards, mask).cpu() if iteration == 0 else None,
            features=features,
            shown=x[:, : max(0, self._shown - shard.start)].cpu().clone(),
            seconds=watch.seconds,
            users=users,
            who=kept.who,
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
            None if (self.rows.beta < 0).any() else self.scorer.supremum,
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

    def _users(self, rewards: Sequence[Tensor], mask: Tensor) -> UserStatistics | None:
        if self.rows.pickers is None:
            return None
        return UserStatistics.of(rewards, mask, self.rows.pickers, self.scorer.suprema)

    def _curate(self, x: Tensor, rewards: Sequence[Tensor], mask: Tensor, task: ShardTask) -> _Kept:
        most, reward = int(self.rows.kept.max()), rewards[0]
        if not task.curate or most == 0:
            return _Kept(x[:, :0], reward[:, :0])
        if self.config.curation.is_custom:  # which sees the whole pool
            return _Kept(x, reward)
        if math.isinf(self.config.k):
            draws = self._draw_weighted(rewards, mask, task, most)
            drawn, index = torch.unique(draws.index, return_inverse=True)
            draws = curation.WeightedDraws(index, draws.peak, draws.log_mass).cpu()
            return _Kept(x[:, drawn], reward[:, drawn], draws)
        k = int(self.config.k)
        groups = min(x.shape[1] // k, max(0, most - task.shard.start // k))
        competing = [each[:, : groups * k] for each in rewards]
        winner, who = self._choose_among_k(competing, k, task)
        rows = torch.arange(len(x), device=self.device)[:, None]
        return _Kept(x[rows, winner], reward[rows, winner], who=who)

    def _choose_among_k(
        self, rewards: Sequence[Tensor], k: int, task: ShardTask
    ) -> tuple[Tensor, Tensor | None]:
        """Winners `(R, G)`, and who chose them where that may be one of several."""
        pickers, generators = self.rows.pickers, self._streams(task)
        if pickers is None:
            liked, beta = liking(rewards[0], self.rows.beta.to(self.device))
            return curation.choose_among_k(liked, beta, k, generators), None
        groups = rewards[0].shape[1] // k
        who = pickers.draw(self.rows.seeds, groups, task.iteration, task.shard.index)
        there = who.to(self.device)
        return curation.choose_among_k_by(rewards, pickers, there, k, generators), who

    def _draw_weighted(
        self, rewards: Sequence[Tensor], mask: Tensor, task: ShardTask, most: int
    ) -> curation.WeightedDraws:
        """This shard's draws, one for each choice from the whole pool."""
        pickers = self.rows.pickers
        if pickers is None:
            liked, beta = liking(rewards[0], self.rows.beta.to(self.device))
            return curation.draw_weighted(liked, mask, beta, most, self._streams(task))
        who = pickers.draw(self.rows.seeds, most, task.iteration).to(self.device)
        streams = functools.partial(self._streams, task)
        return curation.draw_weighted_by(rewards, mask, pickers, who, streams)

    def _streams(self, task: ShardTask) -> list[torch.Generator]:
        seeds, place = self.rows.seeds, (task.iteration, task.shard.index)
        return rng.streams(seeds, "curate", *place, device=self.device)


@dataclass(frozen=True)
class _Kept:
    """What was chosen in a shard."""

    samples: Tensor
    """`(R, G, ...)`."""
    reward: Tensor
    """`(R, G)`."""
    draws: curation.WeightedDraws | None = None
    who: Tensor | None = None


def _rewards(scores: Scores, x: Tensor) -> list[Tensor]:
    """The rewards that users differ in, each `(R, B)`."""
    others = () if scores.others is None else scores.others.unbind(1)
    return [reward.reshape(x.shape[:2]) for reward in (scores.reward, *others)]


def _initial(rewards: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Rewards of p_0's pool `(R, B)`, or of several `(R, B, J)`, NaN beyond a row's pool."""
    if len(rewards) == 1:
        return rewards[0].where(mask, torch.nan)
    return torch.stack(list(rewards), 2).where(mask[..., None], torch.nan)
