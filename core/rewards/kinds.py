"""The rewards that a configuration may name."""

from __future__ import annotations

from luceloop.core.kinds import Kinds
from luceloop.core.rewards.class_probability import ClassProbabilityConfig
from luceloop.core.rewards.custom import CustomRewardConfig
from luceloop.core.rewards.label_set import LabelSetConfig
from luceloop.core.rewards.max_confidence import MaxConfidenceConfig
from luceloop.core.rewards.mode_distance import ModeDistanceConfig

REWARDS = Kinds(
    ModeDistanceConfig,
    ClassProbabilityConfig,
    MaxConfidenceConfig,
    LabelSetConfig,
    custom=CustomRewardConfig,
    unnamed="mode_distance",
)
