"""ODE solvers: their cost and their order of convergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luceloop.core.learners.solvers import STAGES, solve

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4, "ab3": 3}
X_0 = torch.tensor([[1.0, -0.5], [2.0, 0.25]])


def _growth(t: Tensor, x: Tensor) -> Tensor:
    """dx/dt = x, so x(1) = e x(0)."""
    return x


def _damping(t: Tensor, x: Tensor) -> Tensor:
    """dx/dt = -3 t² x, so x(1) = x(0)/e: a solver that gets its times wrong fails here."""
    return -3 * t**2 * x


PROBLEMS = {"growth": (_growth, math.e), "damping": (_damping, 1 / math.e)}


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("steps", [3, 10, 49])
def test_the_velocity_is_evaluated_nfe_times(solver, steps):
    times = []

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        times.append(float(t))
        return x

    nfe = steps * STAGES[solver]
    x_1 = solve(velocity, X_0, solver, nfe, 1e-5)
    assert len(times) == nfe
    assert 0 <= min(times) and max(times) <= 1
    assert x_1.shape == X_0.shape


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize(("velocity", "factor"), PROBLEMS.values(), ids=PROBLEMS)
def test_errors_shrink_with_the_order_of_the_solver(solver, velocity, factor):
    errors = []
    for steps in (32, 64):
        evaluations = steps * STAGES[solver] + (solver == "ab3")  # whose first step takes two
        x_1 = solve(velocity, X_0.double(), solver, evaluations, 1e-5)
        errors.append(float((x_1 / X_0 - factor).abs().max()))
    # Half the step, 2^-order of the error; the next order bends the slope a little.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[solver], abs=0.25)


@pytest.mark.parametrize(("velocity", "factor"), PROBLEMS.values(), ids=PROBLEMS)
def test_dopri5_keeps_its_tolerance(velocity, factor):
    errors = []
    for tolerance in (1e-3, 1e-6):
        x_1 = solve(velocity, X_0.double(), "dopri5", 1, tolerance)
        errors.append(float((x_1 - factor * X_0).abs().max()))
        # Local errors are controlled, relative and absolute; a few steps of them add up.
        assert errors[-1] < 10 * tolerance * (1 + factor * 2)
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("velocity", "factor"), PROBLEMS.values(), ids=PROBLEMS)
def test_solvers_agree_with_dopri5(velocity, factor):
    reference = solve(velocity, X_0.double(), "dopri5", 1, 1e-9)
    x_1 = solve(velocity, X_0.double(), "rk4", 400, 1e-5)
    # 100 steps of order 4: errors of 1e-8 times a constant of order 1.
    assert torch.allclose(x_1, reference, rtol=1e-6)


@pytest.mark.parametrize("solver", [*ORDERS, "dopri5"])
def test_straight_paths_are_followed_exactly(solver):
    shift = torch.tensor([1.0, -2.0])
    x_1 = solve(lambda t, x: shift.expand_as(x), X_0, solver, 4, 1e-5)
    assert torch.allclose(x_1, X_0 + shift, rtol=1e-6)


@pytest.mark.parametrize("solver", [*ORDERS, "dopri5"])
def test_the_starting_point_is_left_alone(solver):
    x_0 = X_0.clone()
    solve(_growth, x_0, solver, 4, 1e-5)
    assert torch.equal(x_0, X_0)
