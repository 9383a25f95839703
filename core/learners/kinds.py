"""The learners that a configuration may name."""

from __future__ import annotations

from luceloop.core.kinds import Kinds
from luceloop.core.learners.custom import CustomLearnerConfig
from luceloop.core.learners.ddpm import DDPMConfig
from luceloop.core.learners.empirical import EmpiricalConfig
from luceloop.core.learners.gaussian import GaussianConfig
from luceloop.core.learners.otcfm import OTCFMConfig

LEARNERS = Kinds(
    OTCFMConfig,
    DDPMConfig,
    EmpiricalConfig,
    GaussianConfig,
    custom=CustomLearnerConfig,
    unnamed="otcfm",
)
