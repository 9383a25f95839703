"""Samples as small square pictures, made without Matplotlib: for pages, and for MLflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 160
"""Pixels of a side."""
IMAGES = 25
"""Images of a square."""
Frame = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends `(2,)` of the part of the plane that is shown."""


def square(samples: np.ndarray, tint: str, frame: Frame | None, side: int = SIDE) -> np.ndarray:
    """A picture `(side, side, 3)` of samples, uint8.

    Args:
        samples: vectors `(N, 2)`, or images `(N, channels, H, W)` in [-1, 1].
        tint: colour of vectors.
        frame: ends of the plane that is shown; that of the samples if not given.
        side: pixels of a side.
    """
    if samples.ndim == 2:
        return _scatter(samples, tint, frame or sample_limits([samples]), side)
    whole = (255 * tiled(samples[:IMAGES])).round().astype(np.uint8)
    picture = Image.fromarray(whole).convert("RGB")
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))


def _scatter(samples: np.ndarray, tint: str, frame: Frame, side: int) -> np.ndarray:
    """Dots on white, darker where they overlap."""
    low, high = frame
    extent = float((high - low).max())
    middle = (low + high) / 2
    places = ((samples - middle) / extent + 0.5) * (side - 1)
    columns, rows = places[:, 0].round().astype(int), (side - 1 - places[:, 1]).round().astype(int)
    count = np.zeros((side + 1, side + 1))
    inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):  # a dot is two pixels wide
        np.add.at(count, (rows[inside] + down, columns[inside] + right), 1)
    cover = (1 - 0.5 ** count[:side, :side])[..., None]
    ink = np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)])
    return np.asarray((255 - cover * (255 - ink)).round(), dtype=np.uint8)


def tiled(images: np.ndarray) -> np.ndarray:
    """A square of images `(N, channels, H, W)` in [-1, 1], as one picture in [0, 1].

    `(H', W', 3)`, or `(H', W')` where they are grey.
    """
    side = math.isqrt(len(images))
    tiles = images[: side**2].reshape(side, side, *images.shape[1:])
    whole = tiles.transpose(0, 3, 1, 4, 2).reshape(
        side * images.shape[2], side * images.shape[3], images.shape[1]
    )
    shown = np.asarray(((whole + 1) / 2).clip(0, 1))
    return shown.squeeze(-1) if shown.shape[-1] == 1 else shown


def sample_limits(samples: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ends `(2,)` of a frame about 99.8 % of samples; a stray one does not shrink the rest."""
    low, high = np.quantile(np.concatenate(samples), [0.001, 0.999], axis=0)
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def load_first(file: Path) -> np.ndarray | None:
    """The samples of a file's first seed; None if they are neither of a plane nor images."""
    with np.load(file, allow_pickle=False) as content:
        samples: np.ndarray = content["samples"]
    return samples[0] if is_drawable(samples) else None


def is_drawable(samples: np.ndarray) -> bool:
    """Whether samples `(R, N, ...)` are points of a plane, or images."""
    vectors = samples.ndim == 3 and samples.shape[-1] == 2
    return vectors or (samples.ndim == 5 and samples.shape[2] in (1, 3))
