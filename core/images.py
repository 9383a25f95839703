"""Image datasets: real digits that ship with scikit-learn, CIFAR-10, folders of images.

Images are `(channels, size, size)` in [-1, 1], kept as bytes until they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config import Cifar10Config, DigitsConfig, ImageFolderConfig
from luceloop.core.errors import ConfigError

HELD_OUT = 0.2
"""Share of the labelled images that a classifier never trains on, where there is no test set."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and their classes."""

    pixels: Tensor
    """uint8 `(N, C, H, W)`."""
    labels: Tensor
    """int64 `(N,)`."""
    highest: int = 255
    """The value of white."""

    def __len__(self) -> int:
        return len(self.pixels)

    def scaled(self, index: Tensor | slice) -> Tensor:
        """Images in [-1, 1] `(..., C, H, W)`, float32."""
        return self.pixels[index].float() * (2 / self.highest) - 1

    def split(self, index: Tensor) -> LabelledImages:
        """Some of them."""
        return LabelledImages(self.pixels[index], self.labels[index], self.highest)


class ImageData:
    """A fixed set of real images; each seed draws its own subset without replacement.

    What class a generated image has only a classifier can tell: see `core.scoring`.
    """

    n_classes = 0

    def __init__(
        self,
        images: LabelledImages,
        names: list[str],
        size: int | None,
        held_out: LabelledImages | None = None,
    ) -> None:
        """Keep the images.

        Args:
            images: the real data.
            names: of the classes.
            size: real samples of each seed; all if not given.
            held_out: a test set for classifiers, where there is one.

        Raises:
            ConfigError: if there are fewer images than `size`.
        """
        self.images, self.names, self._held_out = images, names, held_out
        self.size = size or len(images)
        if self.size > len(images):
            raise ConfigError("data.size", size, f"must be at most {len(images)}, all images")
        self.shape = tuple(images.pixels.shape[1:])

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """A subset `(size, C, H, W)`."""
        return self.images.scaled(torch.randperm(len(self.images), generator=generator)[:size])

    def classify(self, x: Tensor) -> Tensor:
        """Never called: `n_classes` is 0."""
        raise NotImplementedError("images are classified by a classifier")

    def for_classifier(self) -> tuple[LabelledImages, LabelledImages]:
        """Images that a classifier trains on, and those it is judged by."""
        if self._held_out is not None:
            return self.images, self._held_out
        order = torch.randperm(len(self.images), generator=rng.stream(0, "held-out"))
        count = round(HELD_OUT * len(self.images))
        return self.images.split(order[count:]), self.images.split(order[:count])


def load_digits(config: DigitsConfig) -> ImageData:
    """scikit-learn's 1,797 handwritten digits (UCI), 8×8 and grey."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images.astype(np.uint8))[:, None]
    labels = torch.from_numpy(digits.target.astype(np.int64))
    names = [str(digit) for digit in range(10)]
    return ImageData(LabelledImages(pixels, labels, highest=16), names, config.size)


def load_cifar10(config: Cifar10Config) -> ImageData:
    """CIFAR-10 (Krizhevsky 2009) as torchvision reads it.

    Raises:
        ConfigError: if the archive is neither there nor may be downloaded.
    """
    from torchvision.datasets import CIFAR10

    class ByPresence(CIFAR10):  # type: ignore[misc]
        """A download is checked by its digest; batches that lie there need not be the original."""

        train_list = tuple((name, None) for name, _ in CIFAR10.train_list)
        test_list = tuple((name, None) for name, _ in CIFAR10.test_list)
        meta = CIFAR10.meta | {"md5": None}

    try:
        sets = [ByPresence(config.root, train, download=config.download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        archive = Path(config.root) / "cifar-10-python.tar.gz"
        allowed = (
            f"holds no CIFAR-10 ({str(error).splitlines()[0]}): unpack cifar-10-python.tar.gz to "
            f"{archive.parent / 'cifar-10-batches-py'}, or set data.download=true"
        )
        raise ConfigError("data.root", config.root, allowed) from error
    train, test = (
        LabelledImages(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(part.targets),
        )
        for part in sets
    )
    return ImageData(train, list(sets[0].classes), config.size, held_out=test)


def load_image_folder(config: ImageFolderConfig) -> ImageData:
    """A folder with a folder of images for each class, cropped to squares and resized.

    Raises:
        ConfigError: if there are no images.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.v2 import CenterCrop, Compose, PILToTensor, Resize

    size = config.image_size
    transform = Compose([Resize(size), CenterCrop(size), PILToTensor()])
    try:
        folder = ImageFolder(config.root, transform)
        pixels = torch.stack([image for image, _ in folder])
    except (FileNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        allowed = f"needs a folder of images for each class: {reason}"
        raise ConfigError("data.root", config.root, allowed) from error
    images = LabelledImages(pixels, torch.tensor(folder.targets))
    return ImageData(images, folder.classes, config.size)
