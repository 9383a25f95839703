"""Shards, and ensembles whose rows belong to different points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from luceloop.core.learners.base import TrainingSet, select_row, stack_rows
from luceloop.core.learners.empirical import Empirical
from luceloop.core.pool.gather import Pool, gather
from luceloop.core.pool.rows import Rows
from luceloop.core.pool.sampler import ShardSampler
from luceloop.core.pool.scoring import build_scorer
from luceloop.core.pool.shards import ShardTask, cut_into_shards
from luceloop.core.theory.real_law import real_law


@pytest.mark.parametrize("pool", [1, 5, 100, 1001])
@pytest.mark.parametrize("k", [1, 2, 7, 40, math.inf])
@pytest.mark.parametrize("shard_size", [1, 16, 100, 5000])
def test_shards_cover_the_pool_and_divide_no_group(pool, k, shard_size):
    shards = cut_into_shards(pool, k, shard_size)
    positions = [i for shard in shards for i in range(shard.start, shard.stop)]
    assert positions == list(range(pool))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    for shard in shards:
        if k != math.inf:
            assert shard.start % k == 0
            assert shard.stop - shard.start <= max(k, shard_size)
        else:
            assert shard.stop - shard.start <= shard_size


# Three points with one seed each: their own β, sizes and pools, whole shards of 24 apart.
SEEDS = (3, 5, 7)
BETA = [0.0, 2.0, math.inf]
KEPT = [12, 0, 30]
POOL = [24, 48, 96]


def _rows(rows: list[int]) -> Rows:
    def take(values: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([values[row] for row in rows], dtype=dtype)

    return Rows(
        seeds=tuple(SEEDS[row] for row in rows),
        beta=take(BETA, torch.float64),
        lam=take([1.0, 0.0, math.inf], torch.float64),
        real=take([10, 10, 0], torch.int64),
        kept=take(KEPT, torch.int64),
        pool=take(POOL, torch.int64),
    )


def _pool(make_config, k: int | float, rows: list[int]) -> Pool:
    """The gathered pool of some of the points, packed into one ensemble."""
    config = make_config(curation={"k": k}, sampling={"shard_size": 24})
    learner, packed = Empirical(), _rows(rows)
    data = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0)) * 5
    fitted = learner.fit(None, TrainingSet(data, torch.full((3,), 40)), SEEDS, 0)
    state = stack_rows([select_row(fitted.state, row) for row in rows])
    sampler = ShardSampler(config, packed, build_scorer(config), learner)
    shards = cut_into_shards(int(packed.pool.max()), k, 24)
    law = real_law(config)
    tasks = [ShardTask(1, shard, True, torch.from_numpy(law.edges)) for shard in shards]
    results = [sampler(learner.model(state), task) for task in tasks]
    return gather(results, packed, 1, True, torch.from_numpy(law.real_bins))


@pytest.mark.parametrize("k", [1, 2, 3, math.inf])
def test_rows_of_different_points_do_not_mix(make_config, k):
    if k == 3:  # the smallest pool for its choices
        assert k * KEPT[2] <= POOL[2] and k * KEPT[0] > POOL[0]
    rows = [0, 1, 2] if k != 3 else [1, 2]
    packed = _pool(make_config, k, rows)
    for position, row in enumerate(rows):
        alone = _pool(make_config, k, [row])
        for name, value in alone.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(packed.metrics[name][position], value[0]), name
        if KEPT[row]:
            assert packed.kept is not None and alone.kept is not None
            assert torch.equal(packed.kept[position, : KEPT[row]], alone.kept[0])
        else:
            assert alone.kept is None
