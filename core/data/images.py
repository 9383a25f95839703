"""Data of labelled images: what the image datasets have in common.

Images are `(channels, size, size)` in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.data.base import CHUNK, RealData
from luceloop.core.data.labelled import LabelledImages
from luceloop.core.errors import ConfigError

HELD_OUT = 0.2
"""Share of the labelled images that a classifier never trains on, where there is no test set."""


class ImageData(RealData):
    """A fixed set of real images; each seed draws its own subset without replacement.

    What class a generated image has only a classifier can tell: see `core.pool.scoring`.
    """

    finite = True

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
        self._images, self._names, self._held_out = images, names, held_out
        self.size = size or len(images)
        if self.size > len(images):
            raise ConfigError("data.size", size, f"must be at most {len(images)}, all images")
        self.shape = tuple(images.pixels.shape[1:])

    @property
    def images(self) -> LabelledImages:
        """All real images."""
        return self._images

    @property
    def class_names(self) -> list[str]:
        """What the classes are called."""
        return self._names

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

    def law_samples(self, cheap: bool) -> Iterator[Tensor]:
        """All images: the law is exact."""
        for first in range(0, len(self.images), CHUNK):
            yield self.images.scaled(slice(first, first + CHUNK))
