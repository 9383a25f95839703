"""The datasets that a configuration may name."""

from __future__ import annotations

from luceloop.core.data.cifar10 import Cifar10Config
from luceloop.core.data.custom import CustomDataConfig
from luceloop.core.data.digits import DigitsConfig
from luceloop.core.data.eight_gaussians import EightGaussiansConfig
from luceloop.core.data.gaussian import GaussianDataConfig
from luceloop.core.data.image_folder import ImageFolderConfig
from luceloop.core.data.npz import NpzConfig
from luceloop.core.data.two_moons import TwoMoonsConfig
from luceloop.core.kinds import Kinds

DATASETS = Kinds(
    EightGaussiansConfig,
    TwoMoonsConfig,
    GaussianDataConfig,
    NpzConfig,
    DigitsConfig,
    Cifar10Config,
    ImageFolderConfig,
    custom=CustomDataConfig,
)
