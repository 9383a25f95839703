"""The colours of points: the same in figures, in the report and in MLflow.

A sweep of at most eight points gives each its own colour. In a larger one, a colour stands for the
value of one searched key, on a scale on which equal steps look equal.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from luceloop.core.config.parsing import read_value
from luceloop.core.config.search import Dimension
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError

COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
)
"""Okabe and Ito's colours, safe for colour-blind readers, strongest contrast first."""
BETA = "curation.beta"
"""The key that has panels of its own where a sweep is large: some metrics depend on it in kind."""
LIGHTEST = 0.92
"""The part of the colour map that is used; beyond it, yellow lines vanish on white paper."""


def color(index: int) -> str:
    """The colour of category `index`; colours repeat after eight."""
    return COLORS[index % len(COLORS)]


def perceptual(position: float) -> str:
    """A colour from dark (0) to light (1), equal steps of which look equal."""
    table = _map()
    exact = min(max(position, 0.0), 1.0) * LIGHTEST * (len(table) - 1)
    below = min(int(exact), len(table) - 2)
    mixed = table[below] + (exact - below) * (table[below + 1] - table[below])
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


@functools.cache
def _map() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Matplotlib's viridis `(256, 3)`."""
    from matplotlib import colormaps  # a part of a second, that only a large sweep needs

    return np.asarray(colormaps["viridis"](np.linspace(0, 1, 256)))[:, :3]


@dataclass(frozen=True)
class Scale:
    """Where the values of a searched key lie between 0 and 1."""

    key: str
    levels: tuple[Any, ...] | None
    """The values, in order; None for a range."""
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    """Whether a range is searched on its logarithm."""

    @classmethod
    def of_range(cls, key: str, dimension: Dimension) -> Scale:
        """The scale of a key that is searched in a range."""
        low, high = dimension.bounds
        return cls(key, None, low, high, dimension.loguniform is not None)

    @functools.cached_property
    def _ranks(self) -> dict[str, int]:
        return {identity(level): rank for rank, level in enumerate(self.levels or ())}

    def position(self, value: Any) -> float:
        """The place of a value: by rank among listed ones, by size in a range."""
        if self.levels is not None:
            return self._ranks.get(identity(value), 0) / max(len(self.levels) - 1, 1)
        ends = [self.low, self.high, float(value)]
        low, high, here = (math.log(end) for end in ends) if self.is_log else ends
        return (here - low) / (high - low)


class Palette:
    """The colours of a sweep's points, from its configuration alone."""

    def __init__(self, config: SweepConfig | None) -> None:
        """Choose the key that colours stand for; without a configuration there is none."""
        space = {} if config is None else config.search.space
        count = 0 if config is None else config.point_count
        self._read: dict[tuple[str, str], Any] = {}
        """Values as points have them, by key and as they are written in the file."""
        scales = []
        for key, dimension in space.items():
            if dimension.values is None:
                scales.append(Scale.of_range(key, dimension))
                continue
            assert config is not None
            read = [_read(config, key, value) for value in dimension.values]
            self._read |= {
                (key, identity(v)): r for v, r in zip(dimension.values, read, strict=True)
            }
            scales.append(Scale(key, ordered(read)))
        varying = [scale for scale in scales if scale.levels is None or len(scale.levels) > 1]
        plain = [scale for scale in varying if not _holds_mappings(scale)] or varying
        others = [scale for scale in plain if scale.key != BETA] or plain
        few = count <= len(COLORS) or not others
        self.scale: Scale | None = None if few else max(others, key=_size)
        """Of the key that colours stand for; None where every point has a colour of its own."""

    def color(self, index: int, values: Mapping[str, Any]) -> str:
        """The colour of a point.

        Args:
            index: of the point.
            values: of the searched keys.
        """
        if self.scale is None or self.scale.key not in values:
            return color(index)
        key, value = self.scale.key, values[self.scale.key]
        return perceptual(self.scale.position(self._read.get((key, identity(value)), value)))


def _read(config: SweepConfig, key: str, value: Any) -> Any:
    """A listed value as points have it."""
    if is_number(value):
        return value
    try:
        return read_value(config.point, key, value)
    except ConfigError:  # it goes with another searched key, such as the name of its part
        return value


def _size(scale: Scale) -> float:
    return math.inf if scale.levels is None else len(scale.levels)


def _holds_mappings(scale: Scale) -> bool:
    return any(isinstance(level, Mapping) for level in scale.levels or ())


def ordered(values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    """Different values, numbers by size."""
    different = tuple({identity(value): value for value in values}.values())
    numbers = all(is_number(value) for value in different)
    return tuple(sorted(different)) if numbers else different


def is_number(value: Any) -> bool:
    """Whether a value has a size."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def identity(value: Any) -> str:
    """What tells a value of any kind from others; 1 and 1.0 are one."""
    return repr(float(value)) if is_number(value) else json.dumps(value, sort_keys=True)
