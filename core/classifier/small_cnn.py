"""The classifier `small_cnn`: for small images, trained in seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from luceloop.core.classifier.base import ClassifierConfig, Outputs
from luceloop.core.fields import AtMost, Finite, PositiveInt


class SmallCNNConfig(ClassifierConfig):
    """A small convolutional network, trained on the real images in seconds."""

    name: Literal["small_cnn"] = "small_cnn"
    width: Annotated[PositiveInt, AtMost(4096)] = 32
    """Channels of the first convolution."""
    epochs: PositiveInt = 20
    """Passes over the training images."""
    batch_size: Annotated[PositiveInt, AtMost(1_000_000)] = 64
    """Images of a step."""
    lr: Finite = Field(0.05, gt=0)
    """Highest learning rate of the one-cycle schedule."""
    shift: Annotated[int, Field(ge=0), AtMost(256)] = 1
    """Largest shift of a training image, in pixels."""
    flip: bool = False
    """Whether training mirrors images left to right at random."""

    def build(self, shape: tuple[int, ...], n_classes: int) -> SmallCNN:
        """A new network of random weights."""
        return SmallCNN(shape[0], self.width, n_classes)


class SmallCNN(nn.Module):
    """Three convolutions and two layers: enough for small images, trained in seconds."""

    def __init__(self, channels: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, 2 * width),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, x: Tensor) -> Outputs:
        """Features and logits of images `(B, C, H, W)` in [-1, 1]."""
        features = self.body(x)
        return Outputs(features, self.head(features))
