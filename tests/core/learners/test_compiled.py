"""Compiled kernels against what they stand in for: SciPy's plans, torch's networks and Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from luceloop.core.compiled import compiled, in_parts
from luceloop.core.learners.assignment import assign
from luceloop.core.learners.networks.mlp import Activation, EnsembleMLP
from luceloop.core.learners.networks.mlp_kernels import exponential
from luceloop.core.learners.regression.adam import Adam
from luceloop.core.learners.regression.parameters import FlatParameters

ROUNDING = 2.0**-23
"""Distance from 1 to the next float32."""


@pytest.mark.parametrize("n", [1, 2, 3, 16, 40])
@pytest.mark.parametrize("kind", ["normal", "many ties", "all equal", "far apart"])
def test_assignments_cost_what_scipy_finds(n, kind):
    generator = np.random.default_rng(n)
    for _ in range(50):
        cost = generator.normal(size=(n, n))
        if kind == "many ties":
            cost = generator.integers(3, size=(n, n)).astype(float)
        elif kind == "all equal":
            cost = np.full((n, n), 0.7)
        elif kind == "far apart":
            cost = np.exp(8 * cost)
        partner = np.empty(n, np.int64)
        assign(cost, partner)
        assert sorted(partner) == list(range(n))
        best = cost[linear_sum_assignment(cost)].sum()
        # Prices are added up along paths of at most n steps, in float64.
        tolerance = n * n * 2.0**-52 * np.abs(cost).max()
        assert cost[np.arange(n), partner].sum() == pytest.approx(best, abs=tolerance)


@compiled
def _exponentials(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = exponential(x[i])


def test_the_exponential_is_right_to_two_bits_and_passes_nan_on():
    x = np.linspace(-87, 87, 1_000_001, dtype=np.float32)
    out = np.empty_like(x)
    _exponentials(x, out)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(out / exact - 1).max() < 2 * ROUNDING
    [nan] = (result := np.array([np.nan], np.float32))
    _exponentials(result, result)
    assert np.isnan(nan) and np.isnan(result[0])


@pytest.mark.parametrize("activation", ["silu", "selu"])
@pytest.mark.parametrize(
    ("rows", "batch", "dim", "depth"), [(3, 256, 2, 3), (1, 1, 1, 1), (2, 300, 7, 2)]
)
def test_outputs_and_gradients_are_those_of_autograd(
    activation: Activation, rows: int, batch: int, dim: int, depth: int
):
    network = EnsembleMLP(dim, 64, depth, activation)
    parameters = FlatParameters(network.initialize(range(rows), 0), "cpu")
    generator = torch.Generator().manual_seed(0)
    x, target = (3 * torch.randn(2, rows, batch, dim, generator=generator)).unbind()
    t = torch.rand(rows, batch, 1, generator=generator)
    output = network(parameters.named, t, x)
    losses = (output - target).square().mean((1, 2))
    losses.sum().backward()
    expected = {name: gradient.clone() for name, gradient in parameters.gradients.items()}
    with torch.no_grad():
        # Sums of 64 products, three layers deep.
        assert torch.allclose(network(parameters.named, t, x), output, rtol=1e-5, atol=1e-5)
    parameters.gradient.zero_()
    found = network.regressor(parameters.named, parameters.gradients)(t, x, target)
    assert torch.allclose(found, losses, rtol=1e-5)
    for name, gradient in parameters.gradients.items():
        largest = float(expected[name].abs().max())
        assert float((gradient - expected[name]).abs().max()) <= 1e-4 * largest, name


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(threads):
    network, generator = EnsembleMLP(2, 32, 2), torch.Generator().manual_seed(1)
    x, target = torch.randn(2, 4, 600, 2, generator=generator).unbind()
    t, found = torch.rand(4, 600, 1, generator=generator), []
    before = torch.get_num_threads()
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            parameters = FlatParameters(network.initialize(range(4), 0), "cpu")
            regress = network.regressor(parameters.named, parameters.gradients)
            losses, adam = regress(t, x, target), Adam(parameters)
            adam.step(0.1)
            with torch.no_grad():
                found.append((losses, parameters.flat.clone(), network(parameters.named, t, x)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_steps_are_those_of_torchs_adam():
    generator = torch.Generator().manual_seed(2)
    start, gradients = (
        torch.randn(96, generator=generator),
        torch.randn(20, 96, generator=generator),
    )
    parameters = FlatParameters({"w": start.reshape(1, 96)}, "cpu")
    adam, reference = Adam(parameters), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.01)
    for step, gradient in enumerate(gradients):
        if step == 10:  # as after a checkpoint
            adam = Adam(parameters, adam.moments())
        parameters.gradient.copy_(gradient)
        adam.step(0.01)
        reference.grad = gradient.clone()
        optimizer.step()
    # Each of 20 steps rounds a weight of at most 4, and a move of about 0.01 a few times.
    difference = (parameters.flat - reference).detach().abs().max()
    assert float(difference) < 20 * (4 + 8 * 0.01) * ROUNDING
    assert adam.moments()["step"].tolist() == [20.0]


def test_parts_cover_everything_once():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            for count in (0, 1, 3, 17):
                parts: list[tuple[int, int]] = []
                in_parts(lambda start, stop, parts=parts: parts.append((start, stop)), count)  # type: ignore[misc]
                assert sorted(i for part in parts for i in range(*part)) == list(range(count))
    finally:
        torch.set_num_threads(before)
