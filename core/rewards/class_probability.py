"""The reward `class_probability`: how sure a classifier is of one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from luceloop.core.data.base import RealData
from luceloop.core.rewards.base import RewardConfig
from luceloop.core.rewards.by_class import ClassifierReward, check_labels


class ClassProbabilityConfig(RewardConfig):
    """r(x) = q_label(x), the probability that the classifier gives one class."""

    name: Literal["class_probability"] = "class_probability"
    label: int = Field(0, ge=0)
    """The class."""

    def least_upper_bound(self) -> float:
        """1, as of every probability."""
        return 1.0

    @property
    def rewarded_classes(self) -> tuple[int, ...]:
        """What pickers like."""
        return (self.label,)

    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> ClassifierReward:
        """The reward, if there is a classifier that knows the class.

        Raises:
            ConfigError: if there is not.
        """
        return ClassifierReward(check_labels(self.name, "label", (self.label,), class_names))
