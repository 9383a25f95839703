"""The density p_t/p_ref that retraining leads to: a function of the reward alone.

Retraining with real data multiplies p_ref by a factor that depends on x through r(x) only, so a
curve over rewards tells all of it (Ferbach et al., arXiv 2407.09499).

Axes: L reward levels, Q reward bins.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from luceloop.core.config.point import PointConfig
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.population import converge, limit, population
from luceloop.core.theory.selection import Array


@dataclass(frozen=True)
class Density:
    """How often a perfect learner generates a sample, as a multiple of how often it is real."""

    reward: Array
    """Levels `(L,)`, ascending."""
    last: Array
    """p_T/p_ref `(L,)`."""
    limit: Array
    """lim p_t/p_ref `(L,)`; NaN where it is not found, or not a density (λ=∞)."""


def density_of(law: RewardLaw, point: PointConfig) -> Density:
    """The density of a point, from p_0 = p_ref with infinitely many samples.

    Args:
        law: of the real data.
        point: the configuration.
    """
    law = law.suited_to(point)
    lam, k = np.array([point.lam]), np.array([float(point.k)])
    synthetic = point.training.synthetic
    levels = law.rewards, law.reference, law.reference, point.taste, lam, k
    last, _ = next(itertools.islice(population(*levels, synthetic), point.iterations, None))
    end = limit(*levels[:4], point.lam, float(point.k), synthetic)
    if end is None and synthetic != "accumulate":  # which would take too many retrainings
        end = converge(law.rewards, last, law.reference, point.taste, lam, k)[:, 0]
    if end is None or np.isinf(point.lam):
        end = np.full_like(law.reference, np.nan)
    return Density(law.reward, last[:, 0] / law.reference, end / law.reference)


def density_by_bin(law: RewardLaw, reward: ArrayLike) -> Array:
    """p/p_ref of samples in reward bins of about equal real mass, `(Q,)`.

    Args:
        law: of the real data.
        reward: of the samples `(N,)`.
    """
    rewards = np.asarray(reward, dtype=np.float64)
    bins = np.searchsorted(law.edges, rewards)
    shares = np.bincount(bins, minlength=len(law.edges) + 1) / len(rewards)
    found: Array = shares / law.real_bins
    return found
