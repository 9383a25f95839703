"""What a row costs by its configuration alone: samples generated, and the pickers' work.

A row is a point's iteration of one seed. A choice keeps one of K candidates, which takes K-1
comparisons; at K=∞, a limit, it takes infinitely many. Code of the user's own compares in its own
way, which is not counted. The last pool is not curated.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from luceloop.core.config.point import PointConfig
from luceloop.core.data.base import DatasetConfig
from luceloop.core.data.custom import CustomDataConfig
from luceloop.core.pool.rows import Sizes, training_sizes


@dataclass(frozen=True)
class RowCounts:
    """Samples and choices of a row.

    Example:
        RowCounts(samples=4000, choices=2000, comparisons=2000.0)
    """

    samples: int
    """Generated."""
    choices: int
    """Kept samples, each of which a picker chose."""
    comparisons: float
    """By pickers, choices times K-1; infinite where there are choices at K=∞."""


def sizes_of(point: PointConfig) -> Sizes:
    """Samples of a point's training sets and pools.

    Raises:
        ConfigError: if its data cannot be built, or is too small.
    """
    return training_sizes(point, _real_samples(_Key(point.data)))


def row_counts(point: PointConfig, iteration: int) -> RowCounts:
    """What a row of a point takes at an iteration, whatever its seed.

    Raises:
        ConfigError: if the point's data cannot be built, or is too small.
    """
    sizes = sizes_of(point)
    choices = sizes.kept if iteration < point.iterations else 0
    compared = choices and not point.curation.is_custom
    return RowCounts(sizes.pool, choices, choices * (point.k - 1) if compared else 0.0)


@dataclass(frozen=True)
class _Key:
    """A configuration of data, told from others by its values, some of which are not hashable."""

    data: DatasetConfig

    def __hash__(self) -> int:
        return hash(self.data.model_dump_json())


@functools.lru_cache(maxsize=256)
def _real_samples(key: _Key) -> int:
    """Real samples of each seed; data is read where its configuration does not tell."""
    if key.data.size is None or isinstance(key.data, CustomDataConfig):
        return key.data.build().size
    return key.data.size
