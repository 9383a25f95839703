"""The loop that a careful user of torchcfm writes today, from its tutorial, seed after seed.

torchcfm's MLP, matcher and exact transport plans as they ship, torch's Adam, torchdyn's NeuralODE
to sample, and a vectorised choice.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchcfm.models.models import MLP
from torchcfm.utils import torch_wrapper
from torchdyn.core import NeuralODE

from benchmarks.work import Curves, Work


def run(work: Work, seeds: list[int]) -> Curves:
    """The curves of one run per seed."""
    warnings.filterwarnings("ignore")  # torchdyn's dependencies deprecate each other
    rewards, exp_rewards = [], []
    for seed in seeds:
        curve = _run(work, seed)
        rewards.append([float(reward.mean()) for reward in curve])
        exp_rewards.append([float((work.beta * reward).exp().mean()) for reward in curve])
    return Curves(rewards, exp_rewards)


def _run(work: Work, seed: int) -> list[Tensor]:
    """The rewards of the pools of p_0 to p_T."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - torchcfm draws its plans from the global state
    model = MLP(dim=2, w=work.width, time_varying=True)
    training_set = eight_gaussians(work)
    rewards = []
    for iteration in range(work.iterations + 1):
        train(model, training_set, work.steps if iteration else work.initial_steps, work.batch_size)
        pool = sample(model, work.pool)
        rewards.append(reward(pool, work))
        training_set = choose(pool, rewards[-1], work.beta)
    return rewards


def eight_gaussians(work: Work) -> Tensor:
    """Real samples `(N, 2)`."""
    angle = torch.randint(8, (work.size,)) * (2 * math.pi / 8)
    modes = work.radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return modes + work.std * torch.randn(work.size, 2)


def reward(x: Tensor, work: Work) -> Tensor:
    """-max(0, |x - μ*| - r_min) `(N,)`, with μ* the mode at angle 0."""
    distance = torch.linalg.vector_norm(x - torch.tensor([work.radius, 0.0]), dim=1)
    return -(distance - work.r_min).clamp(min=0)


def train(model: MLP, data: Tensor, steps: int, batch_size: int) -> None:
    """OT-CFM by Adam at its default learning rate."""
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        x_1 = data[torch.randint(len(data), (batch_size,))]
        x_0 = torch.randn_like(x_1)
        t, x_t, velocity = matcher.sample_location_and_conditional_flow(x_0, x_1)
        predicted = model(torch.cat([x_t, t[:, None]], dim=-1))
        loss = torch.mean((predicted - velocity) ** 2)
        loss.backward()
        optimizer.step()


def sample(model: MLP, count: int) -> Tensor:
    """Samples `(count, 2)`, by dopri5."""
    node = NeuralODE(
        torch_wrapper(model), solver="dopri5", sensitivity="adjoint", atol=1e-4, rtol=1e-4
    )
    with torch.no_grad():
        trajectory = node.trajectory(torch.randn(count, 2), t_span=torch.linspace(0, 1, 2))
    return trajectory[-1]


def choose(pool: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Luce's choice from consecutive pairs `(N // 2, 2)`."""
    probability = torch.softmax(beta * rewards.view(-1, 2), dim=1)
    winner = torch.multinomial(probability, 1).squeeze(1)
    return pool.view(-1, 2, 2)[torch.arange(len(winner)), winner]
