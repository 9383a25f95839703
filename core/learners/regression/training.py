"""Adam on the weights of R networks, with a warm-up, gradient clipping and a moving average.

Axes: R rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from luceloop.core.errors import LoopError
from luceloop.core.learners.networks.base import Network
from luceloop.core.learners.regression.adam import Adam
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.parameters import FlatParameters


class Training:
    """One training of an ensemble, from its weights to those of the next model."""

    def __init__(
        self,
        config: RegressionConfig,
        network: Network,
        decay: float | None,
        start: Mapping[str, Any],
        device: str,
    ) -> None:
        """Begin; nothing of `start` is changed.

        Args:
            config: how to train.
            network: what is trained.
            decay: of the moving average of the weights; None for no average.
            start: `weights` and maybe their average `ema` and Adam's moments `adam`, by name.
            device: where to train.
        """
        self.config, self.network, self._decay = config, network, decay
        self.parameters = FlatParameters(start["weights"], device)
        self.average = None
        if decay is not None:
            self.average = FlatParameters(start.get("ema", start["weights"]), device)
        self._regress = network.regressor(self.parameters.named, self.parameters.gradients)
        self._adam = Adam(self.parameters, start.get("adam"))
        self.done = 0
        """Steps of this training."""
        self._losses: list[Tensor] = []
        self._checked: list[Tensor] = []

    def step(self, t: Tensor, x_t: Tensor, target: Tensor) -> None:
        """One step of all rows.

        Args:
            t: times `(R, B, 1)`.
            x_t: points `(R, B, d)`.
            target: of the network there `(R, B, d)`.
        """
        parameters, rate = self.parameters, self.config.lr
        if self.config.warmup:
            rate *= min(1.0, (self._adam.steps + 1) / self.config.warmup)
        parameters.gradient.zero_()
        loss = self._regress(t, x_t, target)
        if self.config.clip is not None:
            parameters.clip_gradient(self.config.clip, apart=self.network.batched)
        self._adam.step(rate)
        if self.average is not None and self._decay is not None:
            self.average.flat.lerp_(parameters.flat, 1 - self._decay)
        self._losses.append(loss)
        self.done += 1

    def check(self, seeds: Sequence[int], iteration: int) -> None:
        """Refuse losses that are not finite; waits for the device.

        Raises:
            LoopError: naming the seeds.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).cpu()
        finite = losses.isfinite().all(0).tolist()
        if not all(finite):
            bad = [seed for seed, ok in zip(seeds, finite, strict=True) if not ok]
            raise LoopError(
                f"training loss is NaN or infinite at iteration {iteration} for seeds {bad}; "
                "a smaller learner.lr or learner.clip may help"
            )
        self._checked.append(losses)
        self._losses.clear()

    def loss(self, steps: int) -> Tensor:
        """Mean loss of the last `steps` steps, float64 `(R,)`; all losses have been checked."""
        tail = torch.cat(self._checked)[-steps:].T.tolist()
        # Summed exactly, so in no order that could depend on the number of rows.
        return torch.tensor([math.fsum(row) / len(row) for row in tail], dtype=torch.float64)

    def state(self, with_moments: bool) -> dict[str, Any]:
        """What the next training can start from."""
        found: dict[str, Any] = {"weights": self.parameters.copy()}
        if with_moments:
            found["adam"] = self._adam.moments()
        if self.average is not None:
            found["ema"] = self.average.copy()
        return found

    def snapshot(self) -> dict[str, Any]:
        """Where this training stands, for `restore`; all losses have been checked."""
        losses = torch.cat(self._checked)
        return {"state": self.state(True), "done": self.done, "losses": losses}

    @classmethod
    def restore(
        cls,
        config: RegressionConfig,
        network: Network,
        decay: float | None,
        snapshot: Mapping[str, Any],
        device: str,
    ) -> Training:
        """A training of new weights that goes on, to the bit, where `snapshot` was taken."""
        training = cls(config, network, decay, snapshot["state"], device)
        training.done = snapshot["done"]
        training._checked = [snapshot["losses"]]
        return training
