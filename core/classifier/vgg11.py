"""The classifier `vgg11_bn`: the paper's classifier of CIFAR-10."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from luceloop.core.classifier.base import ClassifierConfig, Outputs
from luceloop.core.errors import ConfigError
from luceloop.core.fields import AtMost, File, Finite, PositiveInt
from luceloop.core.io.places import local_file

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
"""Mean and deviation of CIFAR-10's channels in [0, 1], as public checkpoints were trained."""


class VGG11Config(ClassifierConfig):
    """VGG11 with batch normalization, the paper's classifier of CIFAR-10."""

    name: Literal["vgg11_bn"] = "vgg11_bn"
    weights: File | None = None
    """A state dict of a public CIFAR-10 model zoo's network; trained from scratch without one."""
    epochs: PositiveInt = 60
    """Passes over the training images."""
    batch_size: Annotated[PositiveInt, AtMost(1_000_000)] = 256
    """Images of a step."""
    lr: Finite = Field(0.1, gt=0)
    """Highest learning rate of the one-cycle schedule."""
    shift: Annotated[int, Field(ge=0), AtMost(256)] = 4
    """Largest shift of a training image, in pixels."""
    flip: bool = True
    """Whether training mirrors images left to right at random."""

    def build(self, shape: tuple[int, ...], n_classes: int) -> VGG11:
        """A new network of random weights."""
        return VGG11(n_classes)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another size than CIFAR-10's, and weights that are not there."""
        if shape != (3, 32, 32):
            allowed = f"takes images (3, 32, 32); data is {shape}"
            raise ConfigError("classifier.name", self.name, allowed)
        if self.weights is not None:
            local_file("classifier.weights", self.weights)

    @property
    def trained_weights(self) -> str | None:
        """The given state dict, if one is."""
        return self.weights


class VGG11(nn.Module):
    """torchvision's vgg11_bn with the head that public CIFAR-10 checkpoints have."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers  # seconds, that only images need

        self.features = make_layers(cfgs["A"], batch_norm=True)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):  # as torchvision initializes it
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.classifier = nn.Sequential(
            nn.Linear(512, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, n_classes),
        )

    def forward(self, x: Tensor) -> Outputs:
        """Features and logits of images `(B, 3, 32, 32)` in [-1, 1]."""
        mean, std = (x.new_tensor(part).reshape(1, 3, 1, 1) for part in (CIFAR_MEAN, CIFAR_STD))
        normalized = ((x + 1) / 2 - mean) / std
        features = functional.adaptive_avg_pool2d(self.features(normalized), 1).flatten(1)
        return Outputs(features, self.classifier(features))
