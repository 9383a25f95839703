"""Samples as small pictures for pages: a strip for each point, a square for each iteration."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from luceloop.analysis.drawing.colors import Palette
from luceloop.analysis.drawing.pictures import load_samples
from luceloop.analysis.drawing.squares import Frame, sample_limits, square
from luceloop.analysis.drawing.styles import arrange, short_name, varying
from luceloop.analysis.reading.results import SweepResults

MOST_BYTES = 450_000
"""Bytes of all strips of a page; what does not fit is left out and named."""

MOST_SQUARES = 60
"""Iterations of a strip; WebP allows no picture of more than 16,383 pixels."""


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
    looks = arrange(results.points, Palette(results.config)).looks
    keys = varying(results.points)
    strips: list[Strip] = []
    size, left_out = 0, 0
    frame: Frame | None = None
    for point in results.points:
        if size > MOST_BYTES:
            left_out += 1
            continue
        found = load_samples(results.runs, point.index)
        if not found:
            continue
        if frame is None and next(iter(found.values())).ndim == 2:
            frame = sample_limits(list(found.values()))
        found = _thinned(found)
        tint = looks[point.index].color
        content = draw_strip(found, tint, frame)
        size += len(content)
        uri = "data:image/webp;base64," + base64.b64encode(content).decode()
        strips.append(Strip(short_name(point, keys), tint, uri, sorted(found)))
    return strips, left_out


def _thinned(found: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """At most `MOST_SQUARES` iterations, evenly spread from the first to the last."""
    times = sorted(found)
    if len(times) > MOST_SQUARES:
        chosen = np.linspace(0, len(times) - 1, MOST_SQUARES).round().astype(int)
        times = [times[i] for i in chosen]
    return {t: found[t] for t in times}


def draw_strip(found: Mapping[int, np.ndarray], tint: str, frame: Frame | None) -> bytes:
    """A WebP picture with a square for each iteration, side by side."""
    squares = [square(found[iteration], tint, frame) for iteration in sorted(found)]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(squares, axis=1)).save(file, "webp", quality=65)
    return file.getvalue()
