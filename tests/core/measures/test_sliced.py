"""The sliced Wasserstein distance against a sort, an assignment and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from luceloop.core.measures.sliced import DIRECTIONS, Slices, wasserstein_squared


def _sorted(*shape: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.sort(np.random.default_rng(seed).normal(size=shape)))


def test_equal_sizes_are_a_sort_and_a_mean():
    left, right = _sorted(3, 50, seed=0), _sorted(3, 50, seed=1)
    expected = ((left - right) ** 2).mean(1)
    torch.testing.assert_close(wasserstein_squared(left, right), expected)


@pytest.mark.parametrize(("n", "m"), [(1, 7), (6, 4), (30, 45), (8, 8), (13, 5)])
def test_any_sizes_are_the_best_assignment_of_repeated_samples(n, m):
    left, right = _sorted(n, seed=2), _sorted(m, seed=3)
    common = np.lcm(n, m)
    x, y = left.numpy().repeat(common // n), right.numpy().repeat(common // m)
    cost = (x[:, None] - y[None]) ** 2
    rows, columns = linear_sum_assignment(cost)
    assert float(wasserstein_squared(left, right)) == pytest.approx(cost[rows, columns].mean())


def test_a_shift_is_its_square_and_mean_absolute_distance_is_never_larger():
    left, right = _sorted(40, seed=4), _sorted(25, seed=5)
    assert float(wasserstein_squared(left, left + 3)) == pytest.approx(9)
    root = float(wasserstein_squared(left, right)) ** 0.5
    assert wasserstein_distance(left.numpy(), right.numpy()) <= root + 1e-12


def test_the_distance_is_that_of_a_loop_over_directions():
    generator = np.random.default_rng(6)
    real, x = generator.normal(size=(60, 3)), generator.normal(size=(60, 3)) + 0.5
    slices = Slices.of(torch.from_numpy(real))
    assert slices.directions.shape == (3, DIRECTIONS)
    squares = []
    for direction in slices.directions.T.numpy():
        gap = np.sort(x @ direction) - np.sort(real @ direction)
        squares.append((gap**2).mean())
    expected = np.mean(squares) ** 0.5
    assert slices.distance(torch.from_numpy(x)) == pytest.approx(expected)


def test_directions_are_unit_vectors_that_depend_on_nothing_but_the_dimension():
    first, second = (Slices.of(_sorted(9, 4, seed=seed)).directions for seed in (0, 1))
    assert torch.equal(first, second)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(DIRECTIONS, dtype=torch.float64))


def test_a_shift_of_vectors_by_s_is_s_by_the_root_of_the_dimension_on_average():
    # E (direction · s)² = |s|²/F for uniform directions; 64 of them estimate it to
    # 3 std of the mean, of squares whose variance is 2(F-1)/(F²(F+2)).
    dim, shift = 5, torch.tensor([3.0, 0.0, -4.0, 0.0, 0.0], dtype=torch.float64)
    real = _sorted(200, dim, seed=7)
    squared = Slices.of(real).distance(real + shift) ** 2
    spread = 25 * (2 * (dim - 1) / (dim**2 * (dim + 2)) / DIRECTIONS) ** 0.5
    assert squared == pytest.approx(25 / dim, abs=3 * spread)


def test_samples_of_the_same_law_come_closer_as_they_get_more():
    generator = torch.Generator().manual_seed(8)
    slices = Slices.of(torch.randn(20000, 2, generator=generator))
    far, near = (slices.distance(torch.randn(n, 2, generator=generator)) for n in (100, 10000))
    assert near < far / 3  # like 1/√n, up to a logarithm
