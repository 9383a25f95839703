"""Classifiers of images: what rewards, class shares and feature distances are made of.

Each takes images in [-1, 1] and normalizes them itself. They are trained once, on the real data,
and kept beside the trained p_0.

Axes: B images, C classes, F features.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from luceloop.core import rng
from luceloop.core.cache import data_identity, read, save_atomically
from luceloop.core.config import ClassifierConfig, Config, SmallCNNConfig, VGG11Config
from luceloop.core.errors import ConfigError
from luceloop.core.images import ImageData, LabelledImages
from luceloop.core.locks import lock
from luceloop.core.storage import Folder, local_file, make_folder

logger = logging.getLogger(__name__)

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
"""Of CIFAR-10's channels in [0, 1], as public checkpoints were trained."""
CHUNK = 1024
"""Images classified at a time."""


class Outputs(NamedTuple):
    """What a classifier says of images."""

    features: Tensor
    """`(B, F)`, before the last layers."""
    logits: Tensor
    """`(B, C)`."""


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
        """Of images in [-1, 1]."""
        features = self.body(x)
        return Outputs(features, self.head(features))


class VGG11(nn.Module):
    """torchvision's vgg11_bn with the head that public CIFAR-10 checkpoints have."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

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
        """Of images in [-1, 1]."""
        mean, std = (x.new_tensor(part).reshape(1, 3, 1, 1) for part in (CIFAR_MEAN, CIFAR_STD))
        normalized = ((x + 1) / 2 - mean) / std
        features = functional.adaptive_avg_pool2d(self.features(normalized), 1).flatten(1)
        return Outputs(features, self.classifier(features))


@dataclass(frozen=True)
class Trained:
    """A classifier's weights and the share of held-out images that it gets right."""

    weights: dict[str, Tensor]
    accuracy: float


class Classifier:
    """A classifier of one configuration's images; it is loaded or trained when first asked."""

    def __init__(
        self, config: Config, data: ImageData, device: str = "cpu", cache: Folder | None = None
    ) -> None:
        """Name what is wanted; nothing is trained yet.

        Raises:
            ConfigError: if the classifier does not fit the images, or its file is missing.
        """
        assert config.classifier is not None
        self.config, self.data, self.device, self._cache = config, data, device, cache
        self.n_classes = len(data.names)
        chosen = config.classifier
        if isinstance(chosen, VGG11Config):
            if data.shape != (3, 32, 32):
                allowed = f"takes images (3, 32, 32); data is {data.shape}"
                raise ConfigError("classifier.name", chosen.name, allowed)
            if chosen.weights is not None:
                local_file("classifier.weights", chosen.weights)

    def __call__(self, x: Tensor) -> Outputs:
        """Features and logits of images `(B, C, H, W)` in [-1, 1]."""
        module = self._module
        with torch.no_grad():
            parts = [module(part) for part in torch.split(x, CHUNK)]
        return Outputs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    @functools.cached_property
    def trained(self) -> Trained:
        """Weights from the given file, from the cache, or from training."""
        chosen = self.config.classifier
        if isinstance(chosen, VGG11Config) and chosen.weights is not None:
            return self._from_file(chosen.weights)
        if self._cache is None:
            return self._train()
        make_folder(self._cache)
        path = self._cache / f"classifier-{self._fingerprint()}.pt"
        with lock(path).acquire():
            content = read(path)
            if content is None:
                found = self._train()
                content = {"weights": found.weights, "accuracy": found.accuracy}
                save_atomically(content, path)
        return Trained(content["weights"], content["accuracy"])

    @functools.cached_property
    def _module(self) -> nn.Module:
        module = self._build()
        module.load_state_dict(self.trained.weights)
        return module.to(self.device).eval()

    def _build(self) -> nn.Module:
        match self.config.classifier:
            case VGG11Config():
                return VGG11(self.n_classes)
            case SmallCNNConfig(width=width):
                return SmallCNN(self.data.shape[0], width, self.n_classes)
        raise AssertionError(self.config.classifier)

    def _fingerprint(self) -> str:
        assert self.config.classifier is not None
        determining = {
            "torch": torch.__version__,
            "device": torch.device(self.device).type,
            "threads": self.config.resources.threads,
            "data": data_identity(self.config.data) | {"size": None},
            "classifier": self.config.classifier.model_dump(),
        }
        canonical = json.dumps(determining, sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:24]

    def _from_file(self, file: str) -> Trained:
        """A checkpoint of a public CIFAR-10 model zoo: a plain state dict, read without pickle."""
        copy = local_file("classifier.weights", file)
        try:
            weights = torch.load(copy, weights_only=True, map_location="cpu")
            module = self._build()
            module.load_state_dict(weights)
        except Exception as error:  # a file of another kind can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise ConfigError("classifier.weights", file, f"is no such network: {reason}") from None
        module.to(self.device).eval()
        return Trained(dict(weights), _accuracy(module, self.data.for_classifier()[1], self.device))

    def _train(self) -> Trained:
        assert self.config.classifier is not None
        train, held_out = self.data.for_classifier()
        devices = [self.device] if self.device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):  # weights, order and dropout draw from here
            torch.manual_seed(rng.stream(0, "classifier").initial_seed())
            module = self._build().to(self.device)
            _fit(module, train, self.config.classifier, self.device)
        accuracy = _accuracy(module.eval(), held_out, self.device)
        logger.info("trained a classifier: %.2f %% of held-out images right", 100 * accuracy)
        weights = {name: value.cpu().clone() for name, value in module.state_dict().items()}
        return Trained(weights, accuracy)


def _fit(module: nn.Module, images: LabelledImages, config: ClassifierConfig, device: str) -> None:
    """Train by SGD with momentum on a one-cycle schedule, on shifted and maybe mirrored images."""
    steps = config.epochs * (len(images) // min(config.batch_size, len(images)))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps)
    cuda = device.startswith("cuda")
    module.train()
    for x, labels in _batches(images, config, device):
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            loss = functional.cross_entropy(module(x).logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _batches(
    images: LabelledImages, config: ClassifierConfig, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of all epochs, by the global stream."""
    pixels, labels = images.pixels.to(device), images.labels.to(device)
    held = LabelledImages(pixels, labels, images.highest)
    size = min(config.batch_size, len(images))
    for _ in range(config.epochs):
        order = torch.randperm(len(images))
        for batch in torch.split(order[: len(order) - len(order) % size], size):
            index = batch.to(device)
            yield _augmented(held.scaled(index), config), labels[index]


def _augmented(x: Tensor, config: Any) -> Tensor:
    """Every image shifted by up to `shift` pixels, and mirrored with probability ½ if asked."""
    size, shift = x.shape[-1], config.shift
    if shift:
        padded = functional.pad(x, [shift] * 4, value=-1.0)
        offsets = torch.randint(2 * shift + 1, (2, len(x), 1)).to(x.device)
        steps = torch.arange(size, device=x.device)
        rows, columns = offsets[0] + steps, offsets[1] + steps
        which = torch.arange(len(x), device=x.device)[:, None, None]
        x = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
        x = x.permute(0, 3, 1, 2)
    if config.flip:
        mirror = (torch.rand(len(x)) < 0.5).to(x.device)[:, None, None, None]
        x = torch.where(mirror, x.flip(-1), x)
    return x.contiguous()


def _accuracy(module: nn.Module, images: LabelledImages, device: str) -> float:
    right = 0
    with torch.no_grad():
        for index in torch.split(torch.arange(len(images)), CHUNK):
            found = module(images.scaled(index).to(device)).logits.argmax(1).cpu()
            right += int((found == images.labels[index]).sum())
    return right / len(images)
