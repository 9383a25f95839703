"""The rows of an ensemble: the runs that share every tensor, and how many samples each one has.

Algorithm 1 of Ferbach et al. (arXiv 2407.09499) fixes n real samples and keeps m = ⌊λn⌋; the
paper's CIFAR-10 runs fix m instead.

Axes: R rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.pickers.pickers import Pickers

MOST_SAMPLES = 10**9
"""Samples of a training set or a pool."""


@dataclass(frozen=True)
class Rows:
    """The runs of an ensemble: row r has its own seed, β, λ and sizes."""

    seeds: tuple[int, ...]
    beta: Tensor
    """float64 `(R,)`."""
    lam: Tensor
    """float64 `(R,)`."""
    real: Tensor
    """Real samples in each training set, int64 `(R,)`."""
    kept: Tensor
    """Kept samples in each training set, int64 `(R,)`."""
    pool: Tensor
    """Samples generated at each iteration, int64 `(R,)`."""
    pickers: Pickers | None = None
    """Who makes choices, where there are several kinds; else one, whose β is above."""

    @classmethod
    def of(cls, config: PointConfig, data_size: int) -> Rows:
        """The seeds of one point.

        Raises:
            ConfigError: if its sizes cannot be.
        """
        sizes, count = training_sizes(config, data_size), len(config.seeds)
        if max(sizes.real, sizes.kept, sizes.pool) > MOST_SAMPLES:
            many = sizes.kept <= MOST_SAMPLES < sizes.pool
            key, value = ("curation.k", config.k) if many else ("lam", config.lam)
            allowed = f"at most {MOST_SAMPLES} samples can be real, kept or generated; these are"
            raise ConfigError(key, value, f"{allowed} {sizes.real}, {sizes.kept}, {sizes.pool}")
        return cls(
            seeds=config.seeds,
            beta=torch.full((count,), config.beta, dtype=torch.float64),
            lam=torch.full((count,), config.lam, dtype=torch.float64),
            real=torch.full((count,), sizes.real),
            kept=torch.full((count,), sizes.kept),
            pool=torch.full((count,), sizes.pool),
            pickers=Pickers.of(config, count),
        )


@dataclass(frozen=True)
class Sizes:
    """Samples of one point's training sets and pools."""

    real: int
    """Real samples in each training set."""
    kept: int
    """Kept samples in each training set, m."""
    pool: int
    """Samples generated at each iteration."""


def training_sizes(config: PointConfig, data_size: int) -> Sizes:
    """Sizes by Algorithm 1 (n fixed, m = ⌊λn⌋), or with m fixed as in the paper's CIFAR runs.

    Raises:
        ConfigError: if the data is too small, or the pool too small for the choices.
    """
    lam = config.lam
    n = config.real_size or data_size
    if config.real_size and n > data_size:
        raise ConfigError("real_size", n, f"must be at most data.size, which is {data_size}")
    if config.real_size and config.kept_size and 0 < lam < math.inf:
        raise ConfigError("real_size", n, f"follows from kept_size and lam={lam}; give one of them")
    if lam == 0:
        real, kept = n, 0
    elif math.isinf(lam):
        real, kept = 0, config.kept_size or n
    elif config.kept_size is None:
        real, kept = n, math.floor(Fraction(repr(lam)) * n)  # decimal: 0.29 * 100 is 29
    else:
        real, kept = (
            round(Fraction(config.kept_size) / Fraction(repr(lam))),
            config.kept_size,
        )
        if real > data_size:
            raise ConfigError(
                "kept_size",
                kept,
                f"needs {real} real samples at lam={lam}; there are {data_size}",
            )
    if kept == 0:
        needed, default = 0, n
    elif math.isinf(config.k) or config.curation.is_custom:
        needed, default = 1, 4 * kept
    else:
        needed = default = int(config.k) * kept
    pool = config.pool_size or default
    if pool < needed:
        raise ConfigError(
            "pool_size",
            pool,
            f"must be at least {needed}: {kept} choices among K={config.k}",
        )
    return Sizes(real, kept, pool)
