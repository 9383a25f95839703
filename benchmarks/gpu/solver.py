"""How exact samples are by the number of network evaluations, on a flow that has been trained.

The error that bf16 itself makes is what a solver has to stay below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu.common import Bench, relative, training_set
from luceloop.core import rng
from luceloop.core.learners import solvers
from luceloop.core.learners.otcfm import OTCFM

SOLVERS: tuple[solvers.Solver, ...] = ("euler", "midpoint", "rk4", "ab3")
EVALUATIONS = (40, 20, 16, 12)


def run(bench: Bench) -> None:
    """Train a flow on coloured digits, and solve it in several ways."""
    steps, count = (60, 120) if bench.tiny else (6000, 20_000)
    if bench.device == "cpu" and not bench.tiny:
        steps = 400
        bench.say("without a GPU: a network at a fortieth of the preset's cost, fewer images")
    learner = bench.learner(initial_steps=steps)
    fitted = learner.fit(None, training_set(1, count), [0], 0)
    assert fitted.loss is not None
    bench.say(f"a flow trained for {steps} steps, loss {float(fitted.loss[0]):.3f}")
    images = 4 if bench.tiny else 250 if bench.device == "cuda" else 16
    noise = torch.randn(1, images, 3072, generator=rng.stream(0, "noise"))
    # The moving average would still be half of what it began with.
    _compare(bench, dict(fitted.state["weights"]), noise.to(bench.device))


def _compare(bench: Bench, model: dict[str, Tensor], noise: Tensor) -> None:
    """Relative errors of samples from noise `(1, B, d)` against a fine solution in fp32."""
    learners: dict[str, OTCFM] = {
        precision: bench.learner(precision=precision, compile=False)
        for precision in ("fp32", "bf16")
    }

    def solve(precision: str, solver: solvers.Solver, nfe: int, tolerance: float = 0.0) -> Tensor:
        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return learners[precision].network(model, t, x)

        with torch.no_grad():
            return solvers.solve(velocity, noise, solver, nfe, tolerance)

    enough = 24 if bench.tiny else 240 if bench.device == "cuda" else 80
    fine = solve("fp32", "rk4", enough)
    bench.say(f"bf16 itself: {relative(solve('bf16', 'rk4', enough), fine):.1e}")
    # A CPU takes too long in bf16.
    for precision in learners if bench.device == "cuda" else ("fp32",):
        for nfe in EVALUATIONS[-2:] if bench.tiny else EVALUATIONS:
            errors = [
                f"{solver} {relative(solve(precision, solver, nfe), fine):.1e}"
                for solver in SOLVERS
                if nfe % solvers.STAGES[solver] == 0
            ]
            bench.say(f"{precision}, {nfe:2d} evaluations: {', '.join(errors)}")
