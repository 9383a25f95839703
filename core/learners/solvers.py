"""Solving the probability-flow ODE dx/dt = v(t, x) from noise (t=0) to samples (t=1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torchdiffeq import odeint

STAGES = {"euler": 1, "midpoint": 2, "rk4": 4, "ab3": 1}
"""Network evaluations in one step of the fixed-step solvers; the first of ab3 takes two."""
Solver = Literal["euler", "midpoint", "rk4", "ab3", "dopri5"]


def solve(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x_0: Tensor,
    solver: Solver,
    nfe: int,
    tolerance: float,
) -> Tensor:
    """Transport `x_0` from t=0 to t=1.

    Args:
        velocity: v(t, x) with t a scalar tensor and x shaped like `x_0`.
        x_0: noise, any shape.
        solver: dopri5 adapts its steps to `tolerance` (relative and absolute); the others take
            `nfe` evaluations in nfe / STAGES equal steps, ab3 in nfe - 1.
        nfe: evaluations of `velocity`.
        tolerance: of dopri5.

    Returns:
        x at t=1, shaped like `x_0`.
    """
    if solver == "ab3":
        return _adams_bashforth(velocity, x_0, nfe - 1)
    t = torch.tensor([0.0, 1.0], device=x_0.device)
    options: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    if solver != "dopri5":
        steps = nfe // STAGES[solver]
        # torchdiffeq's own step_size accumulates rounding and can add a step; the grid is exact.
        grid = torch.linspace(0, 1, steps + 1, device=x_0.device)
        options = {"options": {"grid_constructor": lambda *_: grid}}
    solution: Tensor = odeint(velocity, x_0, t, method=solver, **options)[-1]
    return solution


def _adams_bashforth(
    velocity: Callable[[Tensor, Tensor], Tensor], x_0: Tensor, steps: int
) -> Tensor:
    """The explicit three-step method of order 3, a new evaluation a step.

    It begins with a midpoint step, then one of two steps, whose error is of the same order. (The
    library's own begins with steps of rk4, nine evaluations more than there may be in all.)
    """
    times = torch.linspace(0, 1, 2 * steps + 1, device=x_0.device)
    x, width, before = x_0, 1 / steps, list[Tensor]()
    for step in range(steps):
        now = velocity(times[2 * step], x)
        match before:
            case []:
                move = velocity(times[1], x + width / 2 * now)
            case [last]:
                move = (3 * now - last) / 2
            case [last, earlier, *_]:
                move = (23 * now - 16 * last + 5 * earlier) / 12
        x, before = x + width * move, [now, *before[:1]]
    return x
