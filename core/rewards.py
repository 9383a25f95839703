"""Base rewards r(x): what pickers prefer, before the factor β."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from luceloop.core import plugins
from luceloop.core.config import (
    ClassProbabilityConfig,
    CustomRewardConfig,
    LabelSetConfig,
    MaxConfidenceConfig,
    ModeDistanceConfig,
    RewardConfig,
)
from luceloop.core.data import Dataset
from luceloop.core.errors import ConfigError, LoopError


class Reward(Protocol):
    """Maps samples `(B, *shape)` to rewards `(B,)`."""

    @property
    def supremum(self) -> float | None:
        """r*, the least upper bound of the reward; None where it is not known."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Rewards `(B,)` of samples `(B, *shape)`."""
        ...


@dataclass(frozen=True)
class ModeDistance:
    """r(x) = -max(0, |x - μ*| - r_min), the paper's reward on synthetic data (section 4)."""

    center: tuple[float, ...]
    r_min: float

    @property
    def supremum(self) -> float:
        """0, reached within r_min of μ*."""
        return 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Rewards `(B,)`."""
        distance: Tensor = torch.linalg.vector_norm(x - x.new_tensor(self.center), dim=1)
        return (self.r_min - distance).clamp_max(0)


@dataclass(frozen=True)
class ClassifierReward:
    """Σ q_i over some classes, or max_i q_i, of a classifier's probabilities q (section 4)."""

    labels: tuple[int, ...] | None
    """The classes; None for the largest probability."""

    @property
    def supremum(self) -> float:
        """1."""
        return 1.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Rewards `(B,)` of logits `(B, C)`."""
        probability = logits.float().softmax(1)
        if self.labels is None:
            return probability.amax(1)
        return probability[:, list(self.labels)].sum(1).clamp_max(1)


@dataclass(frozen=True)
class CheckedReward:
    """A user's function, held to the contract: one finite number a sample, at most r*."""

    name: str
    function: Callable[[Tensor], Tensor]
    supremum: float | None

    def __call__(self, x: Tensor) -> Tensor:
        """Rewards `(B,)`.

        Raises:
            LoopError: saying which part of the contract the function broke.
        """
        try:
            reward = self.function(x.clone())  # it may work in place
        except Exception as error:  # user code may raise anything; the trial fails with its words
            kind = type(error).__name__
            raise LoopError(f"reward {self.name} raised {kind}: {error}") from error
        if not isinstance(reward, Tensor) or reward.shape != x.shape[:1]:
            shape = tuple(reward.shape) if isinstance(reward, Tensor) else type(reward).__name__
            raise LoopError(
                f"reward {self.name} returned {shape} for samples {tuple(x.shape)}; "
                f"it must return one number a sample, a tensor of shape ({len(x)},)"
            )
        reward = reward.detach().to(torch.float32)
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


def build_reward(
    config: RewardConfig, dataset: Dataset, names: list[str] | None = None
) -> Reward | ClassifierReward:
    """The reward a configuration names, for samples of `dataset`.

    Args:
        config: the reward.
        dataset: what is scored.
        names: of the classifier's classes, if there is a classifier.

    Raises:
        ConfigError: if the rewarded mode or class does not exist or custom code is unusable.
    """
    match config:
        case ClassProbabilityConfig(label=label):
            return ClassifierReward(_labels(config.name, "label", (label,), names))
        case LabelSetConfig(labels=labels):
            return ClassifierReward(_labels(config.name, "labels", labels, names))
        case MaxConfidenceConfig():
            _labels(config.name, "", (), names)
            return ClassifierReward(None)
        case ModeDistanceConfig():
            return ModeDistance(_center(config, dataset), config.r_min)
        case CustomRewardConfig():
            return _custom(config)


def _labels(
    reward: str, key: str, labels: tuple[int, ...], names: list[str] | None
) -> tuple[int, ...]:
    if names is None:
        raise ConfigError("reward.name", reward, "needs a classifier; set classifier.name")
    missing = [label for label in labels if label >= len(names)]
    if missing:
        listed = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise ConfigError(f"reward.{key}", missing[0], f"must be one of {listed}")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"reward.{key}", list(labels), "must not repeat a class")
    return labels


def _center(config: ModeDistanceConfig, dataset: Dataset) -> tuple[float, ...]:
    if len(dataset.shape) != 1:
        raise ConfigError("reward.name", config.name, f"needs vectors; data is {dataset.shape}")
    if config.center is not None:
        if len(config.center) != dataset.shape[0]:
            raise ConfigError(
                "reward.center",
                list(config.center),
                f"must have {dataset.shape[0]} coordinates",
            )
        return config.center
    modes: Tensor | None = getattr(dataset, "modes", None)
    if modes is None:
        raise ConfigError("reward.center", None, "must be given: this data declares no modes")
    if config.mode >= len(modes):
        raise ConfigError("reward.mode", config.mode, f"must be at most {len(modes) - 1}")
    return tuple(modes[config.mode].tolist())


def _custom(config: CustomRewardConfig) -> CheckedReward:
    function = plugins.build("reward.name", config.name, config.args)
    if not callable(function):
        raise ConfigError("reward.name", config.name, "must be a function of samples (N, ...)")
    supremum = getattr(function, "supremum", None)
    if supremum is not None:
        if not isinstance(supremum, int | float) or not math.isfinite(supremum):
            raise ConfigError("reward.name", config.name, f"its supremum {supremum} is not finite")
        supremum = float(supremum)
    return CheckedReward(config.name, function, supremum)
