"""The learner a configuration names."""

from __future__ import annotations

from core import plugins
from core.config import CustomLearnerConfig, EmpiricalConfig, LearnerConfig, OTCFMConfig
from core.errors import ConfigError
from core.learners.base import Learner
from core.learners.empirical import Empirical
from core.learners.flow_matching import OTCFM


def build_learner(config: LearnerConfig, shape: tuple[int, ...], device: str = "cpu") -> Learner:
    """Make the learner for samples of `shape` on `device`.

    A custom learner is called with its `args` and `shape` and `device`.

    Raises:
        ConfigError: if the learner does not fit the data or custom code is unusable.
    """
    match config:
        case OTCFMConfig():
            if len(shape) != 1:
                raise ConfigError("learner.name", config.name, f"needs vectors; data is {shape}")
            return OTCFM(config, shape, device)
        case EmpiricalConfig():
            return Empirical(device)
        case CustomLearnerConfig():
            args = config.args | {"shape": shape, "device": device}
            learner: Learner = plugins.build("learner.name", config.name, args)
            missing = [m for m in ("fit", "model", "sample") if not hasattr(learner, m)]
            if missing:
                raise ConfigError("learner.name", config.name, f"has no method {missing[0]}")
            return learner
