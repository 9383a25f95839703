"""The reward `label_set`: how sure a classifier is that the class is one of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from luceloop.core.data.base import RealData
from luceloop.core.rewards.base import RewardConfig
from luceloop.core.rewards.by_class import ClassifierReward, check_labels


class LabelSetConfig(RewardConfig):
    """r(x) = Σ q_i(x) over several classes."""

    name: Literal["label_set"] = "label_set"
    labels: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1)
    """The classes."""

    def least_upper_bound(self) -> float:
        """1, as of every probability."""
        return 1.0

    @property
    def rewarded_classes(self) -> tuple[int, ...]:
        """What pickers like."""
        return self.labels

    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> ClassifierReward:
        """The reward, if there is a classifier that knows the class.

        Raises:
            ConfigError: if there is not.
        """
        return ClassifierReward(check_labels(self.name, "labels", self.labels, class_names))
