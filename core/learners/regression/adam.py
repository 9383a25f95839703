"""Adam (Kingma and Ba 2015) on one vector: torch's on a GPU, compiled on a CPU.

There torch's optimizer takes ten times as long to be called as the arithmetic takes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.adam import adam

from luceloop.core.compiled import in_parts
from luceloop.core.learners.regression.parameters import FlatParameters

BETAS = 0.9, 0.999
"""Decay of the averages of gradients and of their squares, as in torch."""
EPSILON = 1e-8


class Adam:
    """The moments of an ensemble's weights, and steps by them."""

    def __init__(
        self, parameters: FlatParameters, moments: Mapping[str, Any] | None = None
    ) -> None:
        """Begin anew, or go on.

        Args:
            parameters: what steps are made of.
            moments: what `moments` returned earlier; None to begin.
        """
        self._parameters = parameters
        self._average = torch.zeros_like(parameters.flat)
        self._square = torch.zeros_like(parameters.flat)
        self._steps = torch.zeros((), device=parameters.flat.device)
        self.steps = 0
        """Steps so far."""
        if moments is not None:
            self._average = parameters.pack(moments["exp_avg"])
            self._square = parameters.pack(moments["exp_avg_sq"])
            self.steps = int(moments["step"][0])
            self._steps.fill_(self.steps)

    def step(self, lr: float) -> None:
        """Change the weights by their gradient, at a learning rate."""
        self.steps += 1
        flat, gradient = self._parameters.flat.detach(), self._parameters.gradient
        if not flat.is_cpu:
            average, square, steps = [self._average], [self._square], [self._steps]
            options: dict[str, Any] = {"amsgrad": False, "maximize": False, "fused": True}
            options |= {"beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": 0.0, "eps": EPSILON}
            adam([flat], [gradient], average, square, [], steps, lr=lr, **options)
            return
        from luceloop.core.learners.regression import adam_kernel

        arrays = flat.numpy(), gradient.numpy(), self._average.numpy(), self._square.numpy()
        scales = lr / (1 - BETAS[0] ** self.steps), (1 - BETAS[1] ** self.steps) ** -0.5
        in_parts(functools.partial(adam_kernel.step, *arrays, *scales, *BETAS, EPSILON), len(flat))

    def moments(self) -> dict[str, Any]:
        """The averages by name, and the number of steps `(R,)`."""
        views = self._parameters.views
        return {
            "exp_avg": {name: part.clone() for name, part in views(self._average).items()},
            "exp_avg_sq": {name: part.clone() for name, part in views(self._square).items()},
            "step": torch.full((len(self._parameters),), float(self.steps)),
        }
