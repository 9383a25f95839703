"""Metrics of the user's own: functions of a pool's samples and real ones, measured each iteration.

    metrics: {spread: "my_metrics:spread"}

names `def spread(samples, real): ...`, which returns a number, on record as `spread`, or a mapping
of names to numbers, on record as `spread/<name>`.

Axes: N samples, M real samples, `...` the sample's own shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import BeforeValidator, StringConstraints
from torch import Tensor

from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.fields import Custom, PositiveInt
from luceloop.core.io import plugins

NAME = r"[A-Za-z][\w.-]*"
"""What a metric, or a part of one, may be called: tracking stores take no more."""


class Metric(Protocol):
    """Measures the samples of a pool against real ones."""

    def __call__(self, samples: Tensor, real: Tensor, /) -> float | Tensor | Mapping[str, Any]:
        """A finite number, or several by name, of samples `(N, ...)` and real ones `(M, ...)`.

        Both lie on one device: that of the trial, which is a GPU where Ray granted it one.
        """
        ...


class CustomMetricConfig(Custom):
    """A metric of the user's own; see `luceloop.Metric`."""

    samples: PositiveInt = 2000
    """Samples it is called with at most: the first of a seed's pool, and as many real ones."""

    def build(self, key: str) -> CheckedMetric:
        """The user's function, held to its contract.

        Args:
            key: what the metric is called in the configuration.

        Raises:
            ConfigError: if it cannot be imported or made, or is no function.
        """
        function = plugins.build(f"metrics.{key}.name", self.name, self.args)
        return check_metric(key, self.name, function)


def _named(value: Any) -> Any:
    """A name alone stands for a metric without arguments."""
    return {"name": value} if isinstance(value, str) else value


CustomMetrics = dict[
    Annotated[str, StringConstraints(pattern=f"^{NAME}$", max_length=100)],
    Annotated[CustomMetricConfig, BeforeValidator(_named)],
]
"""The part `metrics` of a configuration: metrics by the names they are recorded under."""


def check_metric(key: str, name: str, function: Any) -> CheckedMetric:
    """A function that is held to the contract of metrics from now on.

    Args:
        key: what the metric is called in the configuration.
        name: of the function.
        function: what the name stands for.

    Raises:
        ConfigError: if it is no function.
    """
    with plugins.asking(f"metrics.{key}.name", name):
        is_function = callable(function)
    if not is_function:
        allowed = "must be a function of samples (N, ...) and real samples (M, ...)"
        raise ConfigError(f"metrics.{key}.name", name, allowed)
    return CheckedMetric(key, name, function)


@dataclass(frozen=True)
class CheckedMetric:
    """A user's function, held to the contract: finite numbers under names that can be kept."""

    key: str
    name: str
    function: Metric

    def __call__(self, samples: Tensor, real: Tensor) -> dict[str, float]:
        """The numbers by the names they are recorded under.

        Raises:
            LoopError: saying which part of the contract the function broke.
        """
        with plugins.running(f"metric {self.key} ({self.name})"):
            found = self.function(samples.clone(), real.clone())  # it may work in place
            named = dict(found.items()) if isinstance(found, Mapping) else None
        if named is None:
            return {self.key: self._number(found, "")}
        numbers = {}
        for part, value in named.items():
            if not (isinstance(part, str) and re.fullmatch(NAME, part)):
                allowed = "letters, digits, and _ . - after the first letter"
                raise self._broken(f"returned a number called {part!r}; names may hold {allowed}")
            numbers[f"{self.key}/{part}"] = self._number(value, f" for {part!r}")
        return numbers

    def _number(self, value: Any, which: str) -> float:
        with plugins.running(f"metric {self.key} ({self.name})"):
            single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
            plain = value.item() if single else value
            number = float(plain) if isinstance(plain, Real) else None
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        if number is None:
            kind = type(value).__name__ + shape
            raise self._broken(f"returned {kind}{which}; it must return a number, or several named")
        if not np.isfinite(number):
            raise self._broken(f"returned {number}{which}; it must be finite")
        return number

    def _broken(self, what: str) -> LoopError:
        return LoopError(f"metric {self.key} ({self.name}) {' '.join(what.split())}")
