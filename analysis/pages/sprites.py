"""Samples as small pictures for pages: a strip for each point, a square for each iteration."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from luceloop.analysis.drawing.colors import Palette
from luceloop.analysis.drawing.panels import tiled
from luceloop.analysis.drawing.pictures import load_samples, sample_limits
from luceloop.analysis.drawing.styles import short_name, varying
from luceloop.analysis.reading.results import SweepResults

SIDE = 160
"""Pixels of a square."""
MOST_BYTES = 450_000
"""Bytes of all strips of a page; what does not fit is left out and named."""
IMAGES = 25
"""Images of a square."""


@dataclass(frozen=True)
class Strip:
    """The samples of one point."""

    name: str
    color: str
    uri: str
    """Of the picture, its data in it."""
    iterations: Sequence[int]
    """Of the squares, from left to right."""


def sample_strips(results: SweepResults) -> tuple[list[Strip], int]:
    """A strip for each point that keeps samples a page can show, and how many were left out."""
    palette, keys = Palette(results.config), varying(results.points)
    strips: list[Strip] = []
    size, left_out = 0, 0
    frame: tuple[np.ndarray, np.ndarray] | None = None
    for point in results.points:
        if size > MOST_BYTES:
            left_out += 1
            continue
        found = load_samples(results.runs, point.index)
        if not found:
            continue
        if frame is None and next(iter(found.values())).ndim == 2:
            frame = sample_limits(list(found.values()))
        tint = palette.color(point.index, point.values)
        content = draw_strip(found, tint, frame)
        size += len(content)
        uri = "data:image/webp;base64," + base64.b64encode(content).decode()
        strips.append(Strip(short_name(point, keys), tint, uri, sorted(found)))
    return strips, left_out


def draw_strip(
    found: Mapping[int, np.ndarray], tint: str, frame: tuple[np.ndarray, np.ndarray] | None
) -> bytes:
    """A WebP picture with a square for each iteration, side by side."""
    squares = [square(found[iteration], tint, frame) for iteration in sorted(found)]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(squares, axis=1)).save(file, "webp", quality=65)
    return file.getvalue()


def square(
    samples: np.ndarray, tint: str, frame: tuple[np.ndarray, np.ndarray] | None, side: int = SIDE
) -> np.ndarray:
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


def _scatter(
    samples: np.ndarray, tint: str, frame: tuple[np.ndarray, np.ndarray], side: int
) -> np.ndarray:
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
