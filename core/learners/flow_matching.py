"""Optimal-transport conditional flow matching (Tong et al. 2023, arXiv 2302.00482).

The network v(t, x) regresses on x_1 - x_0 along the paths x_t = (1-t) x_0 + t x_1 between noise
x_0 and data x_1, coupled by exact transport within sub-batches.

Axes: C steps of a chunk, R rows, B batch, d coordinates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
            LoopError: naming the seeds whose samples or loss are NaN or infinite.
        """
        config = self.config
        _check_samples(training, seeds, iteration)
        if state is None or config.init == "scratch":
            weights = self.network.initialize(seeds, iteration)
        else:
            weights = state["weights"]
        steps = config.steps
        if state is None:
            steps = config.initial_steps or 2 * config.steps
        parameters = FlatParameters(weights, self.device)
        optimizer = torch.optim.Adam([parameters.flat], lr=config.lr, fused=True)
        if state is not None and config.init == "warm" and config.carry_optimizer:
            _restore_moments(optimizer, parameters, state["adam"])
        ema = None
        if config.ema is not None:
            warm = state is not None and config.init == "warm"
            start = state["ema"] if warm and state is not None else weights
            ema = FlatParameters(start, self.device)
        losses = []
        for batch in self._batches(training, steps, seeds, iteration):
            losses.append(self._step(parameters, optimizer, batch))
            if ema is not None and config.ema is not None:
                ema.flat.lerp_(parameters.flat, 1 - config.ema)
            if len(losses) % CHUNK == 0:
                _check_finite(losses[-CHUNK:], seeds, iteration)
        _check_finite(losses, seeds, iteration)
        new_state: dict[str, Any] = {
            "weights": parameters.copy(),
            "adam": _moments(optimizer, parameters),
        }
        if ema is not None:
            new_state["ema"] = ema.copy()
        tail = torch.stack(losses[-max(1, steps // 10) :]).T.tolist()
        # Summed exactly, so in no order that could depend on the number of rows.
        loss = torch.tensor([math.fsum(row) / len(row) for row in tail], dtype=torch.float64)
        return Fitted(new_state, loss)

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
        rows = [slice(None)]
        if config.solver == "dopri5":  # its steps adapt to all it is given, so a row goes alone
            rows = [slice(row, row + 1) for row in range(len(seeds))]
        with torch.no_grad():
            return torch.cat([self._transport(model, x_0, part) for part in rows])

    def _transport(self, model: Mapping[str, Tensor], x_0: Tensor, rows: slice) -> Tensor:
        config, part = self.config, {name: weight[rows] for name, weight in model.items()}
        return solvers.solve(
            lambda t, x: self.network(part, t, x),
            x_0[rows],
            config.solver,
            config.nfe,
            config.tolerance,
        )

    def _step(
        self, parameters: FlatParameters, optimizer: torch.optim.Adam, batch: Batch
    ) -> Tensor:
        """One step of all rows; the sum over rows keeps their gradients apart. Loss `(R,)`."""
        parameters.gradient.zero_()
        error = self.network(parameters.named, batch.t, batch.x_t) - batch.velocity
        loss = error.square().mean((1, 2))
        loss.sum().backward()  # type: ignore[no-untyped-call]
        if self.config.clip is not None:
            clip_rows(list(parameters.gradients.values()), self.config.clip)
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


class FlatParameters:
    """The weights of R networks in one vector, and by name as `(R, ...)` views of it.

    One vector takes one kernel to update. Every part of it is padded to whole SIMD vectors: a
    kernel's scalar tail may round otherwise, and a row must not depend on how many rows there are.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: str) -> None:
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        self.flat = torch.zeros(
            sum(_padded(shape.numel()) for shape in self._shapes.values()), device=device
        )
        self.gradient = torch.zeros_like(self.flat)
        """Where `backward` adds up gradients, laid out as `flat`."""
        self.flat.grad = self.gradient
        self.named = self.views(self.flat)
        self.gradients = self.views(self.gradient)
        for name, view in self.named.items():
            view.copy_(weights[name])
            view.requires_grad_().grad = self.gradients[name]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Parts of a vector laid out as `flat`, by name."""
        parts, first = {}, 0
        for name, shape in self._shapes.items():
            parts[name] = flat.detach()[first : first + shape.numel()].view(shape)
            first += _padded(shape.numel())
        return parts

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """A vector laid out as `flat` from its parts, the inverse of `views`."""
        flat = torch.zeros_like(self.flat)
        for name, view in self.views(flat).items():
            view.copy_(named[name])
        return flat

    def copy(self) -> dict[str, Tensor]:
        """The weights by name, apart from this."""
        return _cloned(self.views(self.flat))


def clip_rows(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale each row's gradient, over tensors `(R, ...)` together, to norm `largest` at most."""
    # One after another: a single reduction would add in an order that depends on the rows.
    squares = functools.reduce(torch.add, (g.flatten(1).square().sum(1) for g in gradients))
    scale = (largest / squares.sqrt()).clamp_max(1)
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))


def _moments(optimizer: torch.optim.Adam, parameters: FlatParameters) -> dict[str, Any]:
    """Adam's moments by name and its step count `(R,)`."""
    state = optimizer.state[parameters.flat]
    rows = len(next(iter(parameters.named.values())))
    return {
        "exp_avg": _cloned(parameters.views(state["exp_avg"])),
        "exp_avg_sq": _cloned(parameters.views(state["exp_avg_sq"])),
        "step": state["step"].reshape(1).expand(rows).clone(),
    }


def _restore_moments(
    optimizer: torch.optim.Adam, parameters: FlatParameters, moments: Mapping[str, Any]
) -> None:
    """The inverse of `_moments`; Adam keeps one count, since all rows step together."""
    optimizer.state[parameters.flat] = {
        "step": moments["step"][0].clone(),
        "exp_avg": parameters.pack(moments["exp_avg"]),
        "exp_avg_sq": parameters.pack(moments["exp_avg_sq"]),
    }


def _cloned(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in named.items()}


def _padded(length: int) -> int:
    return 32 * math.ceil(length / 32)


def _check_samples(training: TrainingSet, seeds: Sequence[int], iteration: int) -> None:
    rows = zip(seeds, training.samples, training.sizes.tolist(), strict=True)
    bad = [seed for seed, samples, size in rows if not samples[:size].isfinite().all()]
    if bad:
        raise LoopError(
            f"training samples are NaN or infinite at iteration {iteration} for seeds {bad}"
        )


def _check_finite(losses: Sequence[Tensor], seeds: Sequence[int], iteration: int) -> None:
    finite = torch.stack(list(losses)).isfinite().all(0)
    if not finite.all():
        bad = [seed for seed, ok in zip(seeds, finite.tolist(), strict=True) if not ok]
        raise LoopError(
            f"training loss is NaN or infinite at iteration {iteration} for seeds {bad}; "
            "a smaller learner.lr or learner.clip may help"
        )
