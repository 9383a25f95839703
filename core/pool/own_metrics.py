"""The user's own metrics of a pool: which samples they are shown, and how their numbers are kept.

Axes: R rows, N samples, `...` the sample's own shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.custom_metrics import CheckedMetric
from luceloop.core.data.base import RealData
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.measures.metrics import VECTOR_QUALITY, metric_names

OURS = {name.split("/")[0] for name in metric_names(1, 0.0, VECTOR_QUALITY)}
"""What metrics of ours begin with, before any slash."""
RESERVED = OURS | {"margin", "bound", "finite_n", "seed", "iteration"}
"""Names that a metric of the user's may not take."""


class OwnMetrics:
    """The metrics of one point, with the real samples that each is shown."""

    def __init__(self, config: PointConfig, dataset: RealData, device: str = "cpu") -> None:
        """Import the functions; none is called yet.

        Args:
            config: the point.
            dataset: where real samples come from.
            device: of the samples that the functions are shown.

        Raises:
            ConfigError: if a function cannot be imported, or its name is taken.
        """
        taken = [key for key in config.metrics if key in RESERVED]
        if taken:
            raise ConfigError(f"metrics.{taken[0]}", taken[0], "is the name of a metric of ours")
        self._dataset, self._device = dataset, device
        self._functions = {key: each.build(key) for key, each in config.metrics.items()}
        self._samples = {key: each.samples for key, each in config.metrics.items()}
        self._real: dict[int, Tensor] = {}

    def names(self) -> list[str]:
        """What the metrics are recorded under, found by measuring real samples against others.

        Raises:
            LoopError: if a function breaks its contract there.
        """
        found: list[str] = []
        for key, function in self._functions.items():
            found += function(self._draw(self._samples[key], "metrics-check"), self._shown(key))
        return found

    def of(self, samples: Tensor, pool: Tensor) -> dict[str, Tensor]:
        """The metrics by name, each float64 `(R,)`.

        Args:
            samples: the first of each row's pool `(R, N, ...)`.
            pool: samples of each row's pool, int64 `(R,)`.

        Raises:
            LoopError: if a function breaks its contract.
        """
        metrics: dict[str, Tensor] = {}
        for key, function in self._functions.items():
            first = [min(self._samples[key], size) for size in pool.tolist()]
            rows = [row[:count] for row, count in zip(samples, first, strict=True)]
            metrics |= self._measure(function, key, rows)
        return metrics

    def _measure(
        self, function: CheckedMetric, key: str, rows: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        measured = [function(row.to(self._device), self._shown(key)) for row in rows]
        names = list(measured[0])
        for other in measured[1:]:
            if set(other) != set(names):
                line = f"returned {sorted(names)} for one seed and {sorted(other)} for another"
                raise LoopError(f"metric {key} ({function.name}) {line}")
        return {
            name: torch.tensor([row[name] for row in measured], dtype=torch.float64)
            for name in names
        }

    def _shown(self, key: str) -> Tensor:
        """The real samples that a metric is shown, the same every time."""
        count = self._samples[key]
        if count not in self._real:
            self._real[count] = self._draw(count, "metrics")
        return self._real[count]

    def _draw(self, count: int, purpose: str) -> Tensor:
        drawn = self._dataset.draw(min(count, self._dataset.size), rng.stream(0, purpose))
        return drawn.to(self._device)
