"""Metrics from merged shards against numpy on the whole pool."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from luceloop.core.measures.metrics import Moments, PoolStatistics, merge

ROWS, POOL, CLASSES = 3, 101, 4
EDGES = torch.tensor([-5.0, -0.5, -0.05], dtype=torch.float64)
REAL_BINS = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)


def _pool() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards at most 0, a mask, and classes, each `(ROWS, POOL)`."""
    generator = torch.Generator().manual_seed(0)
    reward = -torch.rand(ROWS, POOL, generator=generator) * torch.tensor([[0.1], [1.0], [30.0]])
    mask = torch.rand(ROWS, POOL, generator=generator) < torch.tensor([[1.1], [0.5], [0.2]])
    return reward, mask, torch.randint(CLASSES, (ROWS, POOL), generator=generator)


def _statistics(reward, mask, beta, supremum, classes=None) -> PoolStatistics:
    n_classes = 0 if classes is None else CLASSES
    return PoolStatistics.of(reward, mask, beta, supremum, classes, n_classes, EDGES)


SPLITS = {
    "whole": [],
    "halves": [50],
    "one by one": list(range(1, POOL)),
    "uneven": [1, 2, 3, 90],
    "with empty parts": [0, 40, 40, POOL],
}


@pytest.mark.parametrize("cuts", SPLITS.values(), ids=SPLITS)
def test_metrics_of_merged_shards_equal_numpy_on_the_pool(cuts):
    reward, mask, classes = _pool()
    beta = torch.tensor([0.5, 2.0, 10.0], dtype=torch.float64)
    edges = [0, *cuts, POOL]
    shards = []
    for start, stop in itertools.pairwise(edges):
        # An empty part stands for a shard all of whose samples lie outside a row's pool.
        part = slice(start, stop) if start < stop else slice(0, 1)
        inside = mask[:, part] & (start < stop)
        shards.append(_statistics(reward[:, part], inside, beta, 0.25, classes[:, part]))
    found = merge(shards).metrics(REAL_BINS)
    for row in range(ROWS):
        r = reward[row][mask[row]].double().numpy()
        weight = np.exp(float(beta[row]) * (r - 0.25))
        share = np.bincount(classes[row][mask[row]].numpy(), minlength=CLASSES) / len(r)
        bins = np.histogram(r, [-np.inf, -5, -0.5, -0.05, np.inf])[0] / len(r)
        real = REAL_BINS.numpy()
        expected = {
            "reward_kl": sum(p * math.log(p / q) for p, q in zip(bins, real, strict=True) if p),
            "reward_mean": r.mean(),
            "reward_std": r.std(),
            "reward_min": r.min(),
            "reward_max": r.max(),
            "exp_reward_mean": weight.mean(),
            "exp_reward_var": weight.var(),
            "class_entropy": -sum(p * math.log(p) for p in share if p > 0),
        } | {f"class_fraction/{i}": p for i, p in enumerate(share)}
        assert set(found) == set(expected)
        # float64 sums of about a hundred terms of one sign: rounding of 1e-14 or so.
        actual = {name: float(found[name][row]) for name in expected}
        assert actual == pytest.approx(expected, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_variance_survives_a_large_mean(offset):
    values = torch.from_numpy(np.random.default_rng(0).normal(offset, 1, size=(1, 4000)))
    halves = [values[:, :1000], values[:, 1000:]]
    parts = [Moments.of(half, torch.ones_like(half, dtype=torch.bool)) for half in halves]
    # The data themselves carry a rounding of |offset|·1e-16 per unit of spread.
    assert float((parts[0] + parts[1]).variance) == pytest.approx(values.numpy().var(), rel=1e-9)


def test_masked_samples_do_not_count():
    reward, mask, classes = _pool()
    beta = torch.ones(ROWS, dtype=torch.float64)
    disturbed = reward.where(mask, 1e6)
    other = classes.where(mask, 0)
    expected = _statistics(reward, mask, beta, 0.0, classes).metrics(REAL_BINS)
    found = _statistics(disturbed, mask, beta, 0.0, other).metrics(REAL_BINS)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_infinite_beta_counts_the_samples_at_the_supremum():
    reward = torch.tensor([[0.0, -1e-30, -1.0, 0.0], [-1.0, -2.0, -3.0, -4.0]])
    everything = torch.ones_like(reward, dtype=torch.bool)
    beta = torch.full((2,), torch.inf, dtype=torch.float64)
    found = _statistics(reward, everything, beta, 0.0).metrics(REAL_BINS)
    assert found["exp_reward_mean"].tolist() == [0.5, 0.0]
    assert found["exp_reward_var"].tolist() == [0.25, 0.0]


def test_zero_beta_gives_every_sample_weight_one():
    reward, mask, _ = _pool()
    found = _statistics(reward, mask, torch.zeros(ROWS, dtype=torch.float64), 0.0).metrics(
        REAL_BINS
    )
    assert found["exp_reward_mean"].tolist() == [1.0] * ROWS
    assert found["exp_reward_var"].tolist() == [0.0] * ROWS


@pytest.mark.parametrize("beta", [0.0, 1.0, 1e30, 1e300, math.inf])
def test_no_reward_overflows(beta):
    reward = torch.tensor([[-1e30, 0.0, -1e-30, -3.0]])
    everything = torch.ones_like(reward, dtype=torch.bool)
    factor = torch.tensor([beta], dtype=torch.float64)
    found = _statistics(reward, everything, factor, 0.0).metrics(REAL_BINS)
    assert all(value.isfinite().all() for value in found.values())
    assert 0 <= float(found["exp_reward_mean"]) <= 1


def test_rewards_above_a_rounded_supremum_weigh_no_more_than_one():
    reward = torch.tensor([[1.0000001, 0.5]])  # the checks of a reward allow for rounding
    everything = torch.ones_like(reward, dtype=torch.bool)
    beta = torch.tensor([1e9], dtype=torch.float64)
    assert (
        float(_statistics(reward, everything, beta, 1.0).metrics(REAL_BINS)["exp_reward_mean"])
        == 0.5
    )


def test_without_a_supremum_there_is_no_exp_reward():
    reward, mask, _ = _pool()
    found = _statistics(reward, mask, torch.ones(ROWS, dtype=torch.float64), None)
    names = set(merge([found, found]).metrics(REAL_BINS))
    assert names == {"reward_mean", "reward_std", "reward_min", "reward_max", "reward_kl"}
