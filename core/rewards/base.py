"""What a reward is: r(x), what pickers prefer, before the factor β.

`Reward` is what users write, or a plain function of samples. `BaseReward` is what scores a pool: it
may read a classifier's logits instead of the samples. `RewardConfig` builds one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from luceloop.core.data.base import RealData
from luceloop.core.fields import Strict


class Reward(Protocol):
    """Maps samples `(B, *shape)` to rewards `(B,)`."""

    @property
    def supremum(self) -> float | None:
        """r*, the least upper bound of the reward; None where it is not known."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Rewards `(B,)` of samples `(B, *shape)`."""
        ...


class BaseReward(Reward, Protocol):
    """A reward as scoring sees it."""

    @property
    def reads_logits(self) -> bool:
        """Whether it is called with the classifier's logits `(B, C)` in place of samples."""
        ...


class RewardConfig(Strict, ABC):
    """The part `reward` of a configuration: which reward, and what others must know of it."""

    name: str
    is_cheap: ClassVar[bool] = True
    """Whether scoring costs so little that forecasts may score many samples."""

    def least_upper_bound(self) -> float | None:
        """r*, the reward's supremum, as far as it is known without data; None if it is not.

        Raises:
            ConfigError: if custom code is unusable.
        """
        return None

    @property
    def rewarded_classes(self) -> tuple[int, ...]:
        """The classes that are rewarded as such; none where the reward knows no classes."""
        return ()

    @abstractmethod
    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> BaseReward:
        """The reward of samples of a dataset.

        Args:
            dataset: what is scored.
            class_names: of the classifier's classes; None without a classifier.

        Raises:
            ConfigError: if the rewarded mode or class does not exist or custom code is unusable.
        """
