"""Choices by code of the user's own: any rule that says which samples of a pool are kept.

    curation: {kind: "my_curation:top"}

names `def top(samples, reward, count, generator): ...`, which returns positions in the pool. Unlike
Luce's choices it sees the whole pool, which therefore travels to where the loop runs.

Axes: N samples of a pool, M kept samples, `...` the sample's own shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.io import plugins


class Curation(Protocol):
    """Says which samples of a pool are kept."""

    def __call__(
        self, samples: Tensor, reward: Tensor, count: int, generator: torch.Generator, /
    ) -> Tensor:
        """Positions of the kept samples, int64 `(M,)`; one may be kept several times.

        Args:
            samples: the pool of one seed `(N, ...)`, on the CPU.
            reward: of each `(N,)`.
            count: M, how many are kept.
            generator: where chance comes from; one of the seed's and iteration's own.
        """
        ...


def build_curation(config: PointConfig) -> CheckedCuration | None:
    """The user's function, held to its contract; None where choices are Luce's.

    Raises:
        ConfigError: if it cannot be imported or made, or is no function.
    """
    curation = config.curation
    if not curation.is_custom:
        return None
    return check_curation(
        curation.kind, plugins.build("curation.kind", curation.kind, curation.args)
    )


def check_curation(name: str, function: Any) -> CheckedCuration:
    """A function that is held to the contract of curations from now on.

    Raises:
        ConfigError: if it is no function.
    """
    with plugins.asking("curation.kind", name):
        is_function = callable(function)
    if not is_function:
        allowed = "must be a function of samples (N, ...), rewards (N,), count and generator"
        raise ConfigError("curation.kind", name, allowed)
    return CheckedCuration(name, function)


@dataclass(frozen=True)
class CheckedCuration:
    """A user's function, held to the contract: as many positions as asked for, all in the pool."""

    name: str
    function: Curation

    def __call__(
        self, samples: Tensor, reward: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Positions of the kept samples, int64 `(M,)`; see `Curation`.

        Raises:
            LoopError: saying which part of the contract the function broke.
        """
        with plugins.running(f"curation {self.name}"):
            kept = self.function(samples.clone(), reward.clone(), count, generator)
        if not isinstance(kept, Tensor) or kept.shape != (count,) or kept.dtype != torch.int64:
            found = type(kept).__name__
            if isinstance(kept, Tensor):
                found = f"{str(kept.dtype).removeprefix('torch.')} of shape {tuple(kept.shape)}"
            raise self._broken(f"returned {found}; it must return int64 of shape ({count},)")
        outside = kept[(kept < 0) | (kept >= len(samples))]
        if len(outside):
            allowed = f"positions are from 0 to {len(samples) - 1}"
            raise self._broken(f"returned position {int(outside[0])}; {allowed}")
        return kept.cpu()

    def rehearse(self, samples: Tensor, reward: Tensor) -> None:
        """Call it once on real samples `(N, ...)`, so that what breaks its contract fails early.

        Raises:
            LoopError: saying which part of the contract the function broke.
        """
        self(samples, reward, max(1, len(samples) // 2), rng.stream(0, "curation-check"))

    def _broken(self, what: str) -> LoopError:
        return LoopError(f"curation {self.name} {' '.join(what.split())}")
