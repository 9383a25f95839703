"""The reward `mode_distance`: the paper's reward on synthetic data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from luceloop.core.data.base import RealData
from luceloop.core.errors import ConfigError
from luceloop.core.fields import Finite
from luceloop.core.rewards.base import RewardConfig


class ModeDistanceConfig(RewardConfig):
    """r(x) = -max(0, |x - center| - r_min): flat within r_min of a mode, falling outside."""

    name: Literal["mode_distance"] = "mode_distance"
    mode: int = Field(0, ge=0)
    """Which of the data's modes is rewarded."""
    center: tuple[Finite, ...] | None = None
    """The rewarded point, where it is not one of the data's modes."""
    r_min: Finite = Field(1.0, ge=0)
    """Radius within which the reward is at its maximum, 0."""

    def least_upper_bound(self) -> float:
        """0, the reward near the mode."""
        return 0.0

    @property
    def rewarded_mode(self) -> int | None:
        """The rewarded mode of the data; None where a centre is given."""
        return self.mode if self.center is None else None

    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> ModeDistance:
        """The reward about the given centre or mode.

        Raises:
            ConfigError: if the data has no such mode, or the centre does not fit it.
        """
        return ModeDistance(self._center(dataset), self.r_min)

    def _center(self, dataset: RealData) -> tuple[float, ...]:
        if len(dataset.shape) != 1:
            raise ConfigError("reward.name", self.name, f"needs vectors; data is {dataset.shape}")
        if self.center is not None:
            if len(self.center) != dataset.shape[0]:
                allowed = f"must have {dataset.shape[0]} coordinates"
                raise ConfigError("reward.center", list(self.center), allowed)
            return self.center
        modes = dataset.modes
        if modes is None:
            raise ConfigError("reward.center", None, "must be given: this data declares no modes")
        if self.mode >= len(modes):
            raise ConfigError("reward.mode", self.mode, f"must be at most {len(modes) - 1}")
        return tuple(modes[self.mode].tolist())


@dataclass(frozen=True)
class ModeDistance:
    """r(x) = -max(0, |x - μ*| - r_min), the paper's reward on synthetic data (section 4)."""

    center: tuple[float, ...]
    r_min: float
    reads_logits: bool = False

    @property
    def supremum(self) -> float:
        """0, reached within r_min of μ*."""
        return 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Rewards `(B,)`."""
        distance: Tensor = torch.linalg.vector_norm(x - x.new_tensor(self.center), dim=1)
        return (self.r_min - distance).clamp_max(0)
