"""Optimal-transport conditional flow matching (Tong et al. 2023, arXiv 2302.00482).

The network v(t, x) regresses on x_1 - x_0 along the paths x_t = (1-t) x_0 + t x_1 between noise
x_0 and data x_1, coupled by exact transport within sub-batches.

Axes: C steps of a chunk, R rows, B batch, d coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

from core import rng
from core.config import OTCFMConfig
from core.errors import LoopError
from core.learners import solvers
from core.learners.base import Fitted, State, TrainingSet
from core.learners.coupling import couple
from core.learners.minibatches import Minibatches
from core.learners.networks import EnsembleMLP

CHUNK = 25
"""Steps whose batches are prepared together; part of the meaning of the random streams."""


@dataclass(frozen=True)
class Batch:
    """One regression step: predict `velocity` at `t`, `x_t`."""

    t: Tensor
    x_t: Tensor
    velocity: Tensor


class OTCFM:
    """The learner `otcfm` for vectors."""

    def __init__(self, config: OTCFMConfig, shape: tuple[int, ...], device: str = "cpu") -> None:
        self.config = config
        self.shape = shape
        self.device = device
        self.network = EnsembleMLP(shape[0], config.width, config.depth)
        self._matcher = ConditionalFlowMatcher(sigma=config.sigma)

    def fit(
        self,
        state: State | None,
        training: TrainingSet,
        seeds: Sequence[int],
        iteration: int,
    ) -> Fitted:
        """Train by Adam; see `core.learners.base.Learner`.

        Raises:
            LoopError: naming the seeds whose loss became NaN or infinite.
        """
        config = self.config
        if state is None or config.init == "scratch":
            weights = self.network.initialize(seeds, iteration)
        else:
            weights = state["weights"]
        steps = config.steps
        if state is None:
            steps = config.initial_steps or 2 * config.steps
        parameters = {
            name: weight.detach().clone().to(self.device).requires_grad_()
            for name, weight in weights.items()
        }
        optimizer = torch.optim.Adam(list(parameters.values()), lr=config.lr, fused=True)
        if state is not None and config.init == "warm" and config.carry_optimizer:
            _restore_moments(optimizer, parameters, state["adam"])
        ema = None
        if config.ema is not None:
            warm = state is not None and config.init == "warm"
            start = state["ema"] if warm and state is not None else weights
            ema = {name: value.detach().clone().to(self.device) for name, value in start.items()}
        losses = []
        for batch in self._batches(training, steps, seeds, iteration):
            losses.append(self._step(parameters, optimizer, batch))
            if ema is not None and config.ema is not None:
                trained = [p.detach() for p in parameters.values()]
                torch._foreach_lerp_(list(ema.values()), trained, 1 - config.ema)
            if len(losses) % CHUNK == 0:
                _check_finite(losses[-CHUNK:], seeds, iteration)
        _check_finite(losses, seeds, iteration)
        new_state = {
            "weights": {name: p.detach() for name, p in parameters.items()},
            "adam": _moments(optimizer, parameters),
        }
        if ema is not None:
            new_state["ema"] = ema
        tail = torch.stack(losses[-max(1, steps // 10) :])
        return Fitted(new_state, tail.mean(0).double().cpu())

    def model(self, state: State) -> dict[str, Tensor]:
        """The weights that are sampled: the moving average where there is one."""
        return dict(state["ema"] if self.config.ema is not None else state["weights"])

    def sample(
        self,
        model: Mapping[str, Tensor],
        count: int,
        seeds: Sequence[int],
        iteration: int,
        shard: int,
    ) -> Tensor:
        """Integrate the flow from standard normal noise; `(R, count, d)`."""
        generators = rng.streams(seeds, "generate", iteration, shard, self.device)
        x_0 = rng.normal(generators, (count, *self.shape))
        config = self.config
        with torch.no_grad():
            return solvers.solve(
                lambda t, x: self.network(model, t, x),
                x_0,
                config.solver,
                config.nfe,
                config.tolerance,
            )

    def _step(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Adam,
        batch: Batch,
    ) -> Tensor:
        """One step of all rows; the sum over rows keeps their gradients apart. Loss `(R,)`."""
        error = self.network(parameters, batch.t, batch.x_t) - batch.velocity
        loss = error.square().mean((1, 2))
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        if self.config.clip is not None:
            clip_rows(
                [p.grad for p in parameters.values() if p.grad is not None],
                self.config.clip,
            )
        optimizer.step()
        return loss.detach()

    def _batches(
        self, training: TrainingSet, steps: int, seeds: Sequence[int], iteration: int
    ) -> Iterator[Batch]:
        """Coupled points on paths, prepared a chunk at a time."""
        config = self.config
        minibatches = Minibatches(training, config.batch_size, seeds, iteration)
        noise = rng.streams(seeds, "noise", iteration)
        times = rng.streams(seeds, "times", iteration)
        for first in range(0, steps, CHUNK):
            chunk = min(CHUNK, steps - first)
            x_1 = minibatches.take(chunk)
            shape = (chunk, config.batch_size, *self.shape)
            x_0 = rng.normal(noise, shape).transpose(0, 1)
            t = rng.uniform(times, (chunk, config.batch_size)).transpose(0, 1)
            x_0 = couple(x_0.contiguous(), x_1.cpu(), config.ot_batch)
            ends = x_0.flatten(0, 2), x_1.cpu().flatten(0, 2)
            path = self._paths(*ends, t.flatten(), noise, shape)
            rows = (chunk, len(seeds), config.batch_size, -1)
            t, x_t, velocity = (
                part.reshape(rows).to(self.device) for part in (t, path.x_t, path.velocity)
            )
            for step in range(chunk):
                yield Batch(t[step], x_t[step], velocity[step])

    def _paths(
        self,
        x_0: Tensor,
        x_1: Tensor,
        t: Tensor,
        generators: Sequence[torch.Generator],
        shape: tuple[int, ...],
    ) -> Batch:
        """Points and velocities by torchcfm's matcher, on noise from our streams."""
        if self.config.sigma == 0:
            epsilon = torch.zeros(())
        else:
            epsilon = rng.normal(generators, shape).transpose(0, 1).reshape(x_0.shape)
        x_t = self._matcher.sample_xt(x_0, x_1, t, epsilon)
        return Batch(t, x_t, self._matcher.compute_conditional_flow(x_0, x_1, t, x_t))


def clip_rows(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale each row of gradients `(R, ...)` to a norm, over all tensors, of `largest` at most."""
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    scale = (largest / squares.sqrt()).clamp_max(1)
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))


def _moments(optimizer: torch.optim.Adam, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adam's moments and step count, by name, each with its leading R axis."""
    moments = {}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        moments[f"exp_avg.{name}"] = state["exp_avg"]
        moments[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
        moments["step"] = state["step"].reshape(1).expand(len(parameter)).clone()
    return moments


def _restore_moments(
    optimizer: torch.optim.Adam,
    parameters: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
) -> None:
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": moments["step"][0].clone(),
            "exp_avg": moments[f"exp_avg.{name}"].clone().to(parameter.device),
            "exp_avg_sq": moments[f"exp_avg_sq.{name}"].clone().to(parameter.device),
        }


def _check_finite(losses: Sequence[Tensor], seeds: Sequence[int], iteration: int) -> None:
    finite = torch.stack(list(losses)).isfinite().all(0)
    if not finite.all():
        bad = [seed for seed, ok in zip(seeds, finite.tolist(), strict=True) if not ok]
        raise LoopError(
            f"training loss is NaN or infinite at iteration {iteration} for seeds {bad}; "
            "a smaller learner.lr or learner.clip may help"
        )
