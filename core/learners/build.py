"""The learner a configuration names."""

from __future__ import annotations

import math

from luceloop.core import plugins
from luceloop.core.config import (
    CustomLearnerConfig,
    DDPMConfig,
    EmpiricalConfig,
    LearnerConfig,
    OTCFMConfig,
    RegressionConfig,
)
from luceloop.core.errors import ConfigError
from luceloop.core.learners.base import Learner
from luceloop.core.learners.diffusion import DDPM
from luceloop.core.learners.empirical import Empirical
from luceloop.core.learners.flow_matching import OTCFM
from luceloop.core.learners.networks import EnsembleMLP, Network
from luceloop.core.storage import local_file


def build_learner(config: LearnerConfig, shape: tuple[int, ...], device: str = "cpu") -> Learner:
    """Make the learner for samples of `shape` on `device`.

    A custom learner is called with its `args` and `shape` and `device`.

    Raises:
        ConfigError: if the learner does not fit the data or custom code is unusable.
    """
    match config:
        case OTCFMConfig():
            return OTCFM(config, build_network(config, shape, device), shape, device)
        case DDPMConfig():
            return DDPM(config, build_network(config, shape, device), shape, device)
        case EmpiricalConfig():
            return Empirical(device)
        case CustomLearnerConfig():
            args = config.args | {"shape": shape, "device": device}
            learner: Learner = plugins.build("learner.name", config.name, args)
            missing = [m for m in ("fit", "model", "sample") if not hasattr(learner, m)]
            if missing:
                raise ConfigError("learner.name", config.name, f"has no method {missing[0]}")
            return learner


def build_network(config: RegressionConfig, shape: tuple[int, ...], device: str) -> Network:
    """A perceptron for vectors, a U-Net for square images `(channels, size, size)`.

    Raises:
        ConfigError: for samples of another shape, images that the U-Net cannot halve so often, or
            a checkpoint that is not there.
    """
    if config.checkpoint is not None:
        local_file("learner.checkpoint", config.checkpoint)
    if config.checkpoint is not None and not isinstance(config, OTCFMConfig):
        allowed = "holds a flow, which only learner.name=otcfm can go on with"
        raise ConfigError("learner.checkpoint", config.checkpoint, allowed)
    if len(shape) == 1:
        if config.checkpoint is not None:
            allowed = "is for images: it holds a U-Net"
            raise ConfigError("learner.checkpoint", config.checkpoint, allowed)
        return EnsembleMLP(shape[0], config.width, config.depth)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ConfigError("data", shape, "must be vectors (d,) or images (channels, size, size)")
    halvings = len(config.unet.multipliers) - 1
    if shape[1] % 2**halvings:
        allowed = (
            f"has too many levels: images of {shape[1]} pixels cannot be halved {halvings} times"
        )
        raise ConfigError("learner.unet.multipliers", list(config.unet.multipliers), allowed)
    per_head = config.unet.head_channels or 1
    odd = [m for m in config.unet.multipliers if math.gcd(32, m * config.unet.channels) < 32]
    if odd:
        allowed = "must make every level a multiple of 32 channels, the groups of its normalization"
        raise ConfigError("learner.unet.channels", config.unet.channels, allowed)
    if any(m * config.unet.channels % per_head for m in config.unet.multipliers):
        allowed = "must divide the channels of every level"
        raise ConfigError("learner.unet.head_channels", per_head, allowed)
    # torchcfm's flows take times from 0 to 1 as they are; diffusion steps are further apart.
    scale = 1000.0 if isinstance(config, DDPMConfig) else 1.0
    from luceloop.core.learners.unet import UNet  # seconds, that vectors need not wait for

    return UNet(config, shape, scale, device)
