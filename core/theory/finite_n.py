"""The forecast at finite n: how a perfect learner's curves scatter from sample sizes alone.

A learner that only resamples its training set is a Wright-Fisher process with selection on reward
levels (`core.theory.resampling`); what is left between it and a measured curve is the learner's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from luceloop.core.config.point import PointConfig
from luceloop.core.theory.bounds import BOUNDS, Bounds
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.resampling import data_size, resample
from luceloop.core.theory.selection import Array

REPLICATES, MOST_POINTS = 200, 24
"""Replicates that are simulated where nobody says how many, of sweeps of at most so many points."""
MOST_DRAWS = 10**9
"""Samples that all of them together may draw then, which takes some twenty seconds."""
TAILS = 0.025, 0.975
"""Quantiles between which 95 % of single seeds lie."""


@dataclass(frozen=True)
class FiniteN:
    """How one metric of single seeds scatters when a perfect learner has finitely many samples."""

    mean: Array
    """Mean over replicates `(T+1,)`; NaN where there is no value."""
    std: Array
    """Their spread (ddof=1) `(T+1,)`."""
    low: Array
    """Their 2.5 % quantile `(T+1,)`."""
    high: Array
    """Their 97.5 % quantile `(T+1,)`."""
    replicates: int
    """How many were simulated."""
    values: Array | None = field(default=None, repr=False, compare=False)
    """All of them `(R, T+1)`."""
    at: str = ""
    """The sample size that is the same for all λ: `n=2000`, or `m=2500` where that is fixed."""

    @classmethod
    def of(cls, values: Array, at: str = "") -> FiniteN:
        """The statistics of replicates `(R, T+1)`."""
        nothing = np.full(values.shape[1], math.nan)
        std = values.std(0, ddof=1) if len(values) > 1 else nothing
        low, high = np.quantile(values, TAILS, axis=0)
        return cls(values.mean(0), std, low, high, len(values), values, at)

    @classmethod
    def pooled(cls, parts: Sequence[FiniteN]) -> FiniteN | None:
        """Single seeds, of which each starts from a p_0 of its own: the parts' replicates together.

        The parts' means differ as their p_0 do. Before they are put together they are moved apart
        by √(S/(S-1)), so that their spread is an unbiased estimate of that between all p_0, as a
        standard deviation over S seeds is.

        Args:
            parts: one for each of S seeds.

        Returns:
            None where parts do not have their replicates.
        """
        each = [part.values for part in parts if part.values is not None]
        if len(each) < len(parts):
            return None
        means = np.array([values.mean(0) for values in each])
        further = math.sqrt(len(parts) / max(len(parts) - 1, 1)) - 1
        apart = (means - means.mean(0)) * further
        moved = [values + shift for values, shift in zip(each, apart, strict=True)]
        return cls.of(np.concatenate(moved), parts[0].at)

    def statistics(self) -> Iterator[tuple[int, str, float]]:
        """Iteration, name of the statistic and value, where there is one."""
        for name in ("mean", "std", "low", "high"):
            curve = getattr(self, name)
            for iteration in np.flatnonzero(~np.isnan(curve)):
                yield int(iteration), name, float(curve[iteration])


def usual_replicates(points: int) -> int:
    """How many replicates are simulated where nobody says: none for sweeps of many points."""
    return REPLICATES if points <= MOST_POINTS else 0


def simulate(
    law: RewardLaw, point: PointConfig, replicates: int, seed: int = 0
) -> dict[str, FiniteN]:
    """How the curves of single seeds scatter with a perfect learner, by metric.

    These are the metrics of pools and `margin/<bound>`, of the bounds for p_0 = p_ref.

    Args:
        law: of the real data, and where it is measured, of p_0; as it is, not reduced.
        point: the configuration.
        replicates: how many are simulated.
        seed: names their random streams.

    Raises:
        ConfigError: if sizes do not fit each other, or are too large to simulate.
    """
    law = law.seen_by(point)
    metrics = resample(law, point, replicates, seed)
    real = point.real_size or data_size(law, point)
    at = f"m={point.kept_size}" if point.kept_size else f"n={real}"
    metrics |= _margins(law, point, metrics)
    return {name: FiniteN.of(values, at) for name, values in metrics.items()}


def _margins(law: RewardLaw, point: PointConfig, metrics: Mapping[str, Array]) -> dict[str, Array]:
    """How far each replicate stays on the right side of the bounds `(R, T+1)`, as loops do it."""
    synthetic, alike = point.training.synthetic, len(point.pickers) == 1
    start = replace(law, initial=law.reference)
    bounds = Bounds(start, point.beta, point.lam, point.k, synthetic, alike=alike)
    if not bounds.names:
        return {}
    mean, variance = (metrics[f"exp_reward_{moment}"][:, :-1] for moment in ("mean", "var"))
    found = {}
    iterations = np.arange(mean.shape[1], dtype=np.float64)
    for name, bound in bounds.after(mean, variance, iterations).items():
        value = metrics[BOUNDS[name].metric]
        margins = np.full_like(value, math.nan)
        margins[:, 1:] = BOUNDS[name].margin(value[:, 1:], bound)
        found[f"margin/{name}"] = margins
    return found
