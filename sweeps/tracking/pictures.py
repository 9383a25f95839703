"""Pictures of samples for the chart page, where a slider goes through the iterations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luceloop.analysis.drawing.colors import Palette
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger

if TYPE_CHECKING:
    from PIL.Image import Image

    from luceloop.analysis.drawing.squares import Frame

MOST_PICTURED = 100
"""Points that have pictures, each of which costs the driver 16 ms; samples are kept of all."""
SIDE = 320
"""Pixels of a side."""


class SamplePictures:
    """Draws what a sweep keeps of its samples, all of it in the frame of p_0's."""

    def __init__(self, folder: SweepFolder, config: SweepConfig, ledger: Ledger) -> None:
        self._folder, self._palette, self._ledger = folder, Palette(config), ledger
        self._frames: dict[int, Frame | None] = {}

    def picture(self, point: int, iteration: int) -> Image | None:
        """The samples of an iteration's first seed; None if none are kept that can be drawn."""
        samples = None
        if point < MOST_PICTURED:
            samples = _first(self._folder.preview(point, iteration))
        if samples is None:
            return None
        from PIL import Image

        from luceloop.analysis.drawing.squares import square

        tint = self._palette.color(point, self._ledger.points[point].values)
        return Image.fromarray(square(samples, tint, self._frame(point), SIDE))

    def _frame(self, point: int) -> Frame | None:
        """The part of the plane that holds nearly all of p_0's samples."""
        from luceloop.analysis.drawing.squares import sample_limits

        if point not in self._frames:
            initial = _first(self._folder.preview(point, 0))
            planar = [] if initial is None or initial.ndim != 2 else [initial]
            self._frames[point] = sample_limits(planar) if planar else None
        return self._frames[point]


def _first(file: Path) -> np.ndarray | None:
    """The samples of the first seed; None where there are none, or none that can be drawn."""
    from luceloop.analysis.drawing.squares import load_first

    return load_first(file) if file.exists() else None
