"""Minibatch transport: permutations that no other permutation beats."""

from __future__ import annotations

import itertools

import ot  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from luceloop.core.learners.coupling import couple


def _batches(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0 = torch.randn(*shape, generator=generator)
    return x_0, 2 * torch.randn(*shape, generator=generator) + 1


def _cost(x_0: Tensor, x_1: Tensor) -> float:
    """Summed squared distance of pairs."""
    return float((x_1.double() - x_0.double()).square().sum())


def _sub_batches(batch: int, ot_batch: int) -> list[slice]:
    return [slice(i, min(i + ot_batch, batch)) for i in range(0, batch, ot_batch)]


@pytest.mark.parametrize(("batch", "ot_batch"), [(12, 4), (13, 4), (3, 8), (16, 16), (9, 2)])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_noise_is_permuted_within_sub_batches(batch, ot_batch, dim):
    x_0, x_1 = _batches(3, batch, dim)
    coupled = couple(x_0, x_1, ot_batch)
    assert coupled.shape == x_0.shape
    for part in _sub_batches(batch, ot_batch):
        for before, after in zip(x_0[:, part], coupled[:, part], strict=True):
            assert sorted(after.tolist()) == sorted(before.tolist())


@pytest.mark.parametrize(("batch", "ot_batch"), [(5, 5), (6, 6), (12, 6), (11, 4), (7, 2)])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_no_permutation_is_cheaper(batch, ot_batch, dim):
    x_0, x_1 = _batches(batch, dim)
    coupled = couple(x_0, x_1, ot_batch)
    for part in _sub_batches(batch, ot_batch):
        noise, data = x_0[part], x_1[part]
        orders = itertools.permutations(range(len(noise)))
        cheapest = min(_cost(noise[list(order)], data) for order in orders)
        assert _cost(coupled[part], data) == pytest.approx(cheapest, rel=1e-6)


@pytest.mark.parametrize("dim", [2, 8])
def test_cost_equals_that_of_an_exact_transport_solver(dim):
    x_0, x_1 = _batches(4, 32, dim)
    coupled = couple(x_0, x_1, 32)
    for noise, data, paired in zip(x_0, x_1, coupled, strict=True):
        cost = torch.cdist(data.double(), noise.double()).square().numpy()
        # Between two uniform measures on 32 points; each carries mass 1/32.
        expected = 32 * ot.emd2([], [], cost)
        assert _cost(paired, data) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ot_batch", [4, 5])
def test_batches_along_leading_axes_are_coupled_apart(ot_batch):
    x_0, x_1 = _batches(2, 3, 12, 2)
    together = couple(x_0, x_1, ot_batch)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(together[i, j], couple(x_0[i, j], x_1[i, j], ot_batch))


def test_sub_batches_of_one_are_left_in_order():
    x_0, x_1 = _batches(3, 10, 2)
    assert torch.equal(couple(x_0, x_1, 1), x_0)


def test_identical_batches_are_paired_with_themselves():
    x, _ = _batches(20, 3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(couple(x[order], x, 20), x)
