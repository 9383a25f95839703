"""The reward `max_confidence`: how sure a classifier is of whatever it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from luceloop.core.data.base import RealData
from luceloop.core.rewards.base import RewardConfig
from luceloop.core.rewards.by_class import ClassifierReward, check_labels


class MaxConfidenceConfig(RewardConfig):
    """r(x) = max_i q_i(x), how sure the classifier is of its answer."""

    name: Literal["max_confidence"] = "max_confidence"

    def least_upper_bound(self) -> float:
        """1, as of every probability."""
        return 1.0

    def build(self, dataset: RealData, class_names: Sequence[str] | None) -> ClassifierReward:
        """The reward, if there is a classifier that knows the class.

        Raises:
            ConfigError: if there is not.
        """
        check_labels(self.name, "", (), class_names)
        return ClassifierReward(None)
