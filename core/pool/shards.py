"""Shards: the parts of a pool, what one is computed from, and what comes of it.

A pool is cut into shards by its configuration alone. A shard is a function of (model, task): any
process may compute it, and computing it twice gives the same bits.

Axes: R rows, B samples of a shard, G choices of a shard, M kept samples, K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from luceloop.core.measures.metrics import PoolStatistics
from luceloop.core.measures.quality import ShardFeatures
from luceloop.core.pickers.opinions import UserStatistics
from luceloop.core.pool.curation import WeightedDraws


@dataclass(frozen=True)
class Shard:
    """Positions `start` to `stop` of every row's pool."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class ShardTask:
    """All that a sampler must be told, beside the model, to compute one shard of p_t's pool.

    Example:
        ShardTask(iteration=3, shard=Shard(0, 0, 1024), curate=True, edges=law.edges)
    """

    iteration: int
    """t."""
    shard: Shard
    """Which part of the pool."""
    curate: bool
    """Whether to choose the kept samples."""
    edges: Tensor
    """Upper ends of all reward bins but the last, float64 `(Q-1,)`."""
    measured: bool = True
    """Whether quality is measured, where it is at all."""


def shard_length(k: int | float, shard_size: int) -> int:
    """Samples of a shard but the last: about `shard_size`, in whole groups of K candidates."""
    return shard_size if math.isinf(k) else max(int(k), shard_size - shard_size % int(k))


def cut_into_shards(pool: int, k: int | float, shard_size: int) -> list[Shard]:
    """Cut a pool into shards that never divide a group of K candidates."""
    size = shard_length(k, shard_size)
    starts = range(0, pool, size)
    return [Shard(i, start, min(start + size, pool)) for i, start in enumerate(starts)]


@dataclass(frozen=True)
class ShardResult:
    """What leaves a shard."""

    statistics: PoolStatistics
    kept: Tensor
    """Winners `(R, G, ...)`; at K=∞ the samples that any row drew; all samples where code of the
    user's own is to choose."""
    kept_reward: Tensor
    """Their base rewards `(R, G)`."""
    draws: WeightedDraws | None
    """At K=∞: this shard's M draws, as indices into `kept`."""
    preview: Tensor
    """First samples of the shard, for figures `(R, P, ...)`."""
    reward: Tensor | None
    """At t=0: base rewards of all samples `(R, B)`, or of J rewards `(R, B, J)` where users have
    several; NaN beyond a row's pool."""
    features: ShardFeatures | None
    """Where quality is measured."""
    shown: Tensor
    """First samples of the shard, for metrics of the user's own `(R, N, ...)`."""
    seconds: dict[str, float]
    """Time spent by stage."""
    users: UserStatistics | None = None
    """Where pickers are of several kinds."""
    who: Tensor | None = None
    """Where they chose among K: the picker of each winner, int64 `(R, G)`."""
