"""What a classifier of images is: its configuration, and what it says of an image.

Each takes images in [-1, 1] and normalizes them itself.

Axes: B images, C classes, F features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from pydantic import Field
from torch import Tensor, nn

from luceloop.core.fields import Finite, PositiveInt, Strict


class Outputs(NamedTuple):
    """What a classifier says of images."""

    features: Tensor
    """`(B, F)`, before the last layers."""
    logits: Tensor
    """`(B, C)`."""


class ClassifierConfig(Strict, ABC):
    """The part `classifier` of a configuration: which network, and how it is trained."""

    name: str
    epochs: PositiveInt
    """Passes over the training images."""
    batch_size: PositiveInt
    """Images of a step."""
    lr: Finite = Field(gt=0)
    """Highest learning rate of the one-cycle schedule."""
    shift: int = Field(ge=0)
    """Largest shift of a training image, in pixels."""
    flip: bool
    """Whether training mirrors images left to right at random."""

    @abstractmethod
    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """A new network from images `(B, *shape)` in [-1, 1] to `Outputs`, random weights."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse images that the network does not take, or a file that is not there.

        Args:
            shape: of an image, `(channels, H, W)`.

        Raises:
            ConfigError: naming what does not fit.
        """

    @property
    def trained_weights(self) -> str | None:
        """A file of trained weights, which is used instead of training; None if there is none."""
        return None
