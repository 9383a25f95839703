"""Gathering: the metrics and the kept samples of a pool from what came of its shards.

Axes: R rows, M kept samples, P preview samples, N pool.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from luceloop.core import rng
from luceloop.core.measures import metrics, quality
from luceloop.core.pickers.custom import CheckedCuration
from luceloop.core.pickers.opinions import choice_metrics, merge_users
from luceloop.core.pool import curation
from luceloop.core.pool.own_metrics import OwnMetrics
from luceloop.core.pool.rows import Rows
from luceloop.core.pool.shards import ShardResult


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
    """At t=0: base rewards of the pool `(R, N)`, or of J rewards `(R, N, J)` where users have
    several; NaN beyond a row's pool."""


def gather(
    shards: Iterable[ShardResult],
    rows: Rows,
    iteration: int,
    curate: bool,
    real_bins: Tensor,
    real: quality.RealFeatures | None = None,
    own: OwnMetrics | None = None,
    choose: CheckedCuration | None = None,
) -> Pool:
    """Put the shards of a pool together.

    Args:
        shards: of the pool, in their order.
        rows: whose pool it is.
        iteration: t.
        curate: whether samples were chosen.
        real_bins: shares of the reward bins under p_ref, float64 `(Q,)`.
        real: what the pool's quality is measured against, where it is.
        own: the user's metrics, where there are any.
        choose: the user's curation, where samples are kept by one.

    Raises:
        LoopError: if a metric or a curation of the user's breaks its contract.
    """
    results, features = [], None
    for result in shards:
        if result.features is not None:  # large: added up as they come
            features = result.features if features is None else features + result.features
        results.append(replace(result, features=None))
    pool_metrics = metrics.merge([result.statistics for result in results]).metrics(real_bins)
    pool_metrics |= _user_metrics(results, rows)
    if real is not None and features is not None:
        pool_metrics |= quality.quality_metrics(features, rows.pool, real)
    kept = None
    if curate and int(rows.kept.max()):
        kept, of_choices = _gather_kept(results, rows, iteration, choose)
        pool_metrics |= of_choices
    for stage in results[0].seconds:
        spent = sum(result.seconds[stage] for result in results) / len(rows.seeds)
        pool_metrics[f"seconds/{stage}"] = torch.full((len(rows.seeds),), spent).double()
    if own is not None:
        shown = torch.cat([result.shown for result in results], 1)
        pool_metrics |= own.of(shown, rows.pool)
    preview = torch.cat([result.preview for result in results], 1)
    rewards = [result.reward for result in results if result.reward is not None]
    return Pool(pool_metrics, kept, preview, torch.cat(rewards, 1) if rewards else None)


def _user_metrics(results: Sequence[ShardResult], rows: Rows) -> dict[str, Tensor]:
    """What each user thinks of the pool, where there are several kinds of pickers."""
    parts = [result.users for result in results if result.users is not None]
    if rows.pickers is None or not parts:
        return {}
    return merge_users(parts).metrics(rows.pickers)


def _gather_kept(
    results: Sequence[ShardResult], rows: Rows, iteration: int, choose: CheckedCuration | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Kept samples `(R, M, ...)`, and the metrics of how they were chosen."""
    most, who = int(rows.kept.max()), None
    if choose is None:
        kept, reward, who = _gather_chosen(results, rows, iteration, most)
    else:
        kept, reward = _choose(results, rows, iteration, choose)
    mask = torch.arange(most) < rows.kept[:, None]
    found = {"kept_reward_mean": metrics.Moments.of(reward, mask).mean}
    if rows.pickers is not None and who is not None:
        found |= choice_metrics(rows.pickers, who, mask)
    return kept, found


def _gather_chosen(
    results: Sequence[ShardResult], rows: Rows, iteration: int, most: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Kept samples `(R, M, ...)`, their rewards `(R, M)`, and who chose each `(R, M)`."""
    parts = [result.draws for result in results if result.draws is not None]
    if not parts:
        kept = torch.cat([result.kept for result in results], 1)
        chosen = [result.who for result in results if result.who is not None]
        reward = torch.cat([result.kept_reward for result in results], 1)
        return kept, reward, torch.cat(chosen, 1) if chosen else None
    source, who = _source(parts, rows, iteration, most)
    first = torch.tensor([0, *[result.kept.shape[1] for result in results[:-1]]]).cumsum(0)
    index = torch.stack([part.index for part in parts], 1)  # (R, shards, M)
    position = first[source] + index.gather(1, source[:, None]).squeeze(1)
    row = torch.arange(len(rows.seeds))[:, None]
    kept = torch.cat([result.kept for result in results], 1)[row, position]
    return kept, torch.cat([result.kept_reward for result in results], 1)[row, position], who


def _choose(
    results: Sequence[ShardResult], rows: Rows, iteration: int, choose: CheckedCuration
) -> tuple[Tensor, Tensor]:
    """What code of the user's own keeps of each row's whole pool, and the rewards of it."""
    samples = torch.cat([result.kept for result in results], 1)
    rewards = torch.cat([result.kept_reward for result in results], 1)
    generators = rng.streams(rows.seeds, "curate", iteration)
    kept, kept_reward = [], []
    for row, generator in enumerate(generators):
        pool, count = int(rows.pool[row]), int(rows.kept[row])
        chosen = choose(samples[row, :pool], rewards[row, :pool], count, generator)
        kept.append(samples[row, chosen])
        kept_reward.append(rewards[row, chosen])
    return pad_sequence(kept, batch_first=True), pad_sequence(kept_reward, batch_first=True)


def _source(
    parts: Sequence[curation.WeightedDraws], rows: Rows, iteration: int, most: int
) -> tuple[Tensor, Tensor | None]:
    """At K=∞: the shard that each kept sample comes from `(R, M)`, and who chose it."""
    streams = functools.partial(rng.streams, rows.seeds, "choose-shard", iteration)
    if rows.pickers is None:
        return curation.choose_part(parts, rows.beta.abs(), most, streams()), None
    who = rows.pickers.draw(rows.seeds, most, iteration)
    return curation.choose_part_by(parts, rows.pickers, who, streams), who
