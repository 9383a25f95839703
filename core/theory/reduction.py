"""Reducing laws: the levels of a bin become the two that have its mass and first three moments.

Axes: L reward levels, C classes, N samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack

from luceloop.core.theory.selection import Array


def merge_levels(
    reward: Array, weights: Array, classes: csr_array, bins: NDArray[np.int64]
) -> tuple[Array, Array, csr_array]:
    """Each bin's two-point Gauss rule: levels, weights, and classes of the same mass and mean."""
    present = weights > 0
    reward, weights, classes = reward[present], weights[present], classes[present]
    _, starts, bins = np.unique(bins[present], return_index=True, return_inverse=True)

    def total(values: Array) -> Array:
        summed: Array = np.add.reduceat(values, starts, axis=0)
        return summed

    mass = total(weights)
    mean = total(weights * reward) / mass
    off = reward - mean[bins]
    variance = total(weights * off**2) / mass
    single = variance <= 1e-24 * (reward[-1] - reward[0]) ** 2
    variance[single] = 1.0
    skew = total(weights * off**3) / mass / variance
    gap = np.sqrt(skew**2 + 4 * variance)
    low, high = (skew - gap) / 2, (skew + gap) / 2
    low[single] = high[single] = 0.0
    gap[single] = 1.0
    upper = -low / gap
    # Rounding must not take a level across an edge, or from the supremum.
    least, most = reward[starts], reward[np.append(starts[1:], len(reward)) - 1]
    nodes = [(mean + low).clip(least, most), (mean + high).clip(least, most)]
    level, index = np.unique(np.concatenate(nodes), return_inverse=True)
    both = np.concatenate([mass * (1 - upper), mass * upper])
    shares = csr_array((len(level), classes.shape[1]))
    if classes.shape[1]:
        in_bin = _indicator(bins, len(starts))
        whole = in_bin @ classes
        moment = in_bin @ diags_array(off) @ classes
        above = diags_array(1 / gap) @ (moment - diags_array(low) @ whole)
        shares = csr_array(_indicator(index, len(level)) @ vstack([whole - above, above]))
    return level, sum_at(index, both, len(level)), shares


def sum_at(index: NDArray[np.int64], values: Array, count: int) -> Array:
    """Sums `(count,)` of the values `(N,)` that have the same index."""
    sums = np.zeros(count)
    np.add.at(sums, index, values)
    return sums


def _indicator(index: NDArray[np.int64], count: int) -> csr_array:
    """1 where column n belongs to row `index[n]` `(count, N)`."""
    columns = np.arange(len(index))
    return csr_array((np.ones(len(index)), (index, columns)), shape=(count, len(index)))
