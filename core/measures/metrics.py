"""Metrics of a pool from sufficient statistics, so that a pool never has to be in one place.

Every shard reduces its samples to a `PoolStatistics`; merging them in shard order gives the
same bits wherever the shards were computed. Rewards are reduced in float64.

Axes: R rows, N samples, C classes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each row, float64 `(R,)`."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, values: Tensor, mask: Tensor) -> Moments:
        """Moments of `values` `(R, N)` where `mask` `(R, N)` is true."""
        values = values.double()
        count = mask.sum(1).double()
        mean = (values * mask).sum(1) / count.clamp_min(1)
        squares = ((values - mean[:, None]).square() * mask).sum(1)
        return cls(count, mean, squares)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / count.clamp_min(1)
        squares = self.squares + other.squares + delta.square() * self.count * share
        return Moments(count, self.mean + delta * share, squares)

    def cpu(self) -> Moments:
        """The same on the CPU."""
        return Moments(self.count.cpu(), self.mean.cpu(), self.squares.cpu())

    @property
    def variance(self) -> Tensor:
        """Variance of the set itself (ddof=0) `(R,)`."""
        return self.squares / self.count


@dataclass(frozen=True)
class PoolStatistics:
    """What the metrics of a pool need to know of its rewards and classes."""

    reward: Moments
    lowest: Tensor
    highest: Tensor
    exp_reward: Moments | None
    """Of e^{β(r - r*)}; None where the reward's supremum r* is not known."""
    class_count: Tensor | None
    """Samples of each class, float64 `(R, C)`; None where there are no classes."""
    bin_count: Tensor
    """Samples in each reward bin of the real data's law, float64 `(R, Q)`."""

    @classmethod
    def of(
        cls,
        reward: Tensor,
        mask: Tensor,
        beta: Tensor,
        supremum: float | None,
        classes: Tensor | None,
        n_classes: int,
        edges: Tensor,
    ) -> PoolStatistics:
        """Reduce one shard.

        Args:
            reward: base rewards `(R, N)`.
            mask: which samples belong to the row's pool `(R, N)`.
            beta: `(R,)`.
            supremum: r*, if known.
            classes: int64 `(R, N)`, if the data has classes.
            n_classes: C.
            edges: upper ends of all reward bins but the last, float64 `(Q-1,)`.
        """
        exp_reward = None
        if supremum is not None:
            exp_reward = Moments.of(exp_of_reward(reward.double(), beta, supremum), mask)
        class_count = None
        if classes is not None:
            class_count = _count(classes, mask, n_classes)
        bins = torch.bucketize(reward.double(), edges)  # bin q ends at edge q, included
        infinity = torch.inf
        return cls(
            reward=Moments.of(reward, mask),
            lowest=reward.double().where(mask, infinity).amin(1),
            highest=reward.double().where(mask, -infinity).amax(1),
            exp_reward=exp_reward,
            class_count=class_count,
            bin_count=_count(bins, mask, len(edges) + 1),
        )

    def __add__(self, other: PoolStatistics) -> PoolStatistics:
        """Statistics of both shards together."""
        both_exp = self.exp_reward is not None and other.exp_reward is not None
        both_classes = self.class_count is not None and other.class_count is not None
        return PoolStatistics(
            reward=self.reward + other.reward,
            lowest=torch.minimum(self.lowest, other.lowest),
            highest=torch.maximum(self.highest, other.highest),
            exp_reward=self.exp_reward + other.exp_reward if both_exp else None,  # type: ignore[operator]
            class_count=self.class_count + other.class_count if both_classes else None,  # type: ignore[operator]
            bin_count=self.bin_count + other.bin_count,
        )

    def cpu(self) -> PoolStatistics:
        """The same on the CPU."""
        return PoolStatistics(
            reward=self.reward.cpu(),
            lowest=self.lowest.cpu(),
            highest=self.highest.cpu(),
            exp_reward=None if self.exp_reward is None else self.exp_reward.cpu(),
            class_count=None if self.class_count is None else self.class_count.cpu(),
            bin_count=self.bin_count.cpu(),
        )

    def metrics(self, real_bins: Tensor) -> dict[str, Tensor]:
        """The metrics of the pool by name, each float64 `(R,)`.

        Args:
            real_bins: shares of the reward bins under p_ref, float64 `(Q,)`.
        """
        metrics = {
            "reward_mean": self.reward.mean,
            "reward_std": self.reward.variance.sqrt(),
            "reward_min": self.lowest,
            "reward_max": self.highest,
        }
        if self.exp_reward is not None:
            metrics["exp_reward_mean"] = self.exp_reward.mean
            metrics["exp_reward_var"] = self.exp_reward.variance
        bins = self.bin_count / self.bin_count.sum(1, keepdim=True)
        divergence = torch.special.xlogy(bins, bins / real_bins).sum(1)
        metrics["reward_kl"] = divergence.clamp_min(0)  # rounding alone can make it negative
        if self.class_count is not None:
            share = self.class_count / self.class_count.sum(1, keepdim=True)
            metrics |= {f"class_fraction/{i}": column for i, column in enumerate(share.T)}
            metrics["class_entropy"] = torch.special.entr(share).sum(1)
        return metrics


IMAGE_QUALITY = ("frechet_distance", "precision", "recall")
"""Distances of images to the real data; see `core.measures.quality`."""
VECTOR_QUALITY = (*IMAGE_QUALITY, "sliced_wasserstein", "width_ratio")
"""Distances of vectors."""


def metric_names(n_classes: int, supremum: float | None, quality: Sequence[str] = ()) -> list[str]:
    """Names of the metrics of a loop, for data with `n_classes` and a reward with r*.

    `quality` are those of the distances to the real data that are measured.

    The margins to bounds come on top, `core.theory.bounds.applicable`.
    """
    names = [
        "reward_mean",
        "reward_std",
        "reward_min",
        "reward_max",
        "reward_kl",
        "kept_reward_mean",
        "loss",
    ]
    if supremum is not None:
        names += ["exp_reward_mean", "exp_reward_var"]
    if n_classes:
        names += [*(f"class_fraction/{i}" for i in range(n_classes)), "class_entropy"]
    names += quality
    return names + [f"seconds/{stage}" for stage in ("generate", "score", "curate", "fit")]


def merge(shards: Sequence[PoolStatistics]) -> PoolStatistics:
    """Statistics of a pool from those of its shards, added in the order given."""
    return functools.reduce(PoolStatistics.__add__, shards)


def _count(index: Tensor, mask: Tensor, most: int) -> Tensor:
    """How often each of 0 to `most`-1 is in a row of `index` `(R, N)` where `mask` is true."""
    counts = torch.zeros(len(index), most, dtype=torch.float64, device=index.device)
    return counts.scatter_add_(1, index, mask.double())


def exp_of_reward(reward: Tensor, beta: Tensor, supremum: float) -> Tensor:
    """e^{β(r - r*)} `(R, N)`; at β=∞, 1 where the reward is at its supremum and 0 elsewhere."""
    below = (reward - supremum).clamp_max(0)
    return torch.where(below == 0, 1.0, (beta[:, None].to(below) * below).exp())
