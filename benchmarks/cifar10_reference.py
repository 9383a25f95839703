"""The CIFAR-10 recipe that a user of torchcfm runs today: its own network, training step, solver.

fp32 throughout, with torch's own settings: cuDNN chooses its convolutions by timing them and may
round their factors (TF32). Sampling is by torchdiffeq's adaptive dopri5.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchdiffeq import odeint

LR, WARMUP, DECAY, CLIP = 2e-4, 5000, 0.9999, 1.0
TOLERANCE = 1e-5
"""Of dopri5 in the recipe, relative and absolute."""
LOOSER = (1e-4, 1e-3, 1e-2)
"""Tolerances at which samples may be as inexact as another way's."""


@contextmanager
def as_torch_comes() -> Iterator[None]:
    """Let cuDNN use TF32 and add in any order, its default, and time its convolutions."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, cudnn.deterministic
    cudnn.benchmark, cudnn.allow_tf32, cudnn.deterministic = True, True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, cudnn.deterministic = before


class Reference:
    """One network and its training."""

    def __init__(self, network: nn.Module, images: Tensor, batch_size: int) -> None:
        self.network, self.images, self.batch_size = network, images, batch_size
        self.average = copy.deepcopy(network)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=LR)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(step, WARMUP) / WARMUP
        )
        self.matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)

    def train(self, steps: int) -> None:
        """So many training steps."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One training step."""
        self.network.train()
        self.optimizer.zero_grad()
        x_1 = self.images[torch.randint(len(self.images), (self.batch_size,))]
        x_1 = x_1.to(next(self.network.parameters()).device)
        x_0 = torch.randn_like(x_1)
        t, x_t, velocity = self.matcher.sample_location_and_conditional_flow(x_0, x_1)
        loss = torch.mean((self.network(t, x_t) - velocity) ** 2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.schedule.step()
        new = self.network.state_dict()
        for name, weight in self.average.state_dict().items():
            weight.copy_(weight * DECAY + new[name] * (1 - DECAY))

    def sample(self, x_0: Tensor, tolerance: float = TOLERANCE) -> tuple[Tensor, int]:
        """Images from noise `x_0` `(B, C, H, W)`, and the evaluations that it took."""
        evaluations = 0

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            out: Tensor = self.network(t, x)
            return out

        self.network.eval()
        t = torch.linspace(0, 1, 2, device=x_0.device)
        with torch.no_grad():
            found = odeint(velocity, x_0, t, method="dopri5", rtol=tolerance, atol=tolerance)
        return found[-1], evaluations
