"""Labelled images: pixels and classes, kept as bytes until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
