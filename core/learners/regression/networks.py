"""The network that a learner trains: which one fits the samples, and what does not fit it."""

from __future__ import annotations

import math

from luceloop.core.errors import ConfigError
from luceloop.core.io.places import local_file
from luceloop.core.learners.networks.base import Network
from luceloop.core.learners.networks.mlp import EnsembleMLP
from luceloop.core.learners.networks.unet import UNet
from luceloop.core.learners.regression.config import RegressionConfig


def build_network(config: RegressionConfig, shape: tuple[int, ...], device: str) -> Network:
    """A perceptron for vectors, a U-Net for square images `(channels, size, size)`.

    Raises:
        ConfigError: for samples of another shape, images that the U-Net cannot halve so often, or
            a checkpoint that is not there.
    """
    if config.checkpoint is not None:
        local_file("learner.checkpoint", config.checkpoint)
    if config.checkpoint is not None and not config.takes_checkpoint:
        allowed = "holds a flow, which only learner.name=otcfm can go on with"
        raise ConfigError("learner.checkpoint", config.checkpoint, allowed)
    if len(shape) == 1:
        if config.checkpoint is not None:
            allowed = "is for images: it holds a U-Net"
            raise ConfigError("learner.checkpoint", config.checkpoint, allowed)
        return EnsembleMLP(shape[0], config.width, config.depth, config.activation)
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
    return UNet(
        config.unet,
        shape,
        device,
        time_scale=config.time_scale,
        bf16=config.precision == "bf16",
        fused=config.compile,
    )
