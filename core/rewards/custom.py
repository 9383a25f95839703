"""A reward of the user's own: a function of samples, named `package.module:attribute`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from luceloop.core.data.base import RealData
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.fields import Custom
from luceloop.core.io import plugins
from luceloop.core.rewards.base import RewardConfig


class CustomRewardConfig(Custom, RewardConfig):
    """A function of samples (N, ...) to rewards (N,), with an optional `supremum`."""

    is_cheap: ClassVar[bool] = False

    def least_upper_bound(self) -> float | None:
        """The `supremum` that the user's function has, if it does.

        Raises:
            ConfigError: if it cannot be imported or made, or is no reward.
        """
        return self._checked().supremum

    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> CheckedReward:
        """The user's function, held to its contract.

        Raises:
            ConfigError: if it cannot be imported or made, or is no reward.
        """
        return self._checked()

    def _checked(self) -> CheckedReward:
        return check_reward(self.name, plugins.build("reward.name", self.name, self.args))


def check_reward(name: str, function: Any) -> CheckedReward:
    """A function that is held to the contract of rewards from now on.

    Raises:
        ConfigError: if it is no function, or its supremum no number.
    """
    with plugins.asking("reward.name", name):
        is_function, supremum = callable(function), getattr(function, "supremum", None)
        is_number = isinstance(supremum, int | float) and math.isfinite(supremum)
        shown = f"{supremum}"
    if not is_function:
        raise ConfigError("reward.name", name, "must be a function of samples (N, ...)")
    if supremum is not None and not is_number:
        raise ConfigError("reward.name", name, f"its supremum {shown} is not finite")
    return CheckedReward(name, function, None if supremum is None else float(supremum))


@dataclass(frozen=True)
class CheckedReward:
    """A user's function, held to the contract: one finite number a sample, at most r*."""

    name: str
    function: Callable[[Tensor], Tensor]
    supremum: float | None
    reads_logits: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Rewards `(B,)`.

        Raises:
            LoopError: saying which part of the contract the function broke.
        """
        with plugins.running(f"reward {self.name}"):
            found = self.function(x.clone())  # it may work in place
            is_tensor = isinstance(found, Tensor)
            shape = tuple(found.shape) if is_tensor else type(found).__name__
        if not is_tensor or shape != tuple(x.shape[:1]):
            raise LoopError(
                f"reward {self.name} returned {shape} for samples {tuple(x.shape)}; "
                f"it must return one number a sample, a tensor of shape ({len(x)},)"
            )
        if found.dtype.is_complex or found.is_quantized or found.layout != torch.strided:
            kind = f"a tensor of {str(found.dtype).removeprefix('torch.')}, {found.layout}"
            raise LoopError(f"reward {self.name} returned {kind}; rewards must be real numbers")
        with plugins.running(f"reward {self.name}"):
            reward = found.detach().to(x.device, torch.float32)
        if not reward.isfinite().all():
            bad = int((~reward.isfinite()).sum())
            raise LoopError(f"reward {self.name} is NaN or infinite on {bad} of {len(x)} samples")
        if self.supremum is not None:
            highest = float(reward.max())
            if highest > self.supremum + 1e-5 * (1 + abs(self.supremum)):
                raise LoopError(
                    f"reward {self.name} reached {highest:g}, above its supremum {self.supremum:g}"
                )
            reward = reward.clamp_max(self.supremum)
        return reward
