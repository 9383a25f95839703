"""Luce's choice as a map of laws: how curation changes the weights of reward levels.

    H_K[p](x) = E_{x_1..x_{K-1} ~ p}[ K w(x) / (w(x) + Σ_i w(x_i)) ],   w = e^{βr}

sees x through r(x) alone. So a law is a vector of weights on reward levels, and everything here is
a function of such vectors (Ferbach et al., arXiv 2407.09499, Lemma 2.1).

Axes: L reward levels, strictly ascending; P points (λ and K) that share β.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Density = Callable[[Array], Array]
"""Maps laws `(L, P)` to H_K of each `(L, P)`, every point with its own K."""

STEP = 0.3
"""Of the trapezoid rule in log u: relative error below 2(2π/h)e^{1-π²/h} = 6e-13."""
TAIL = 32.0
"""Where the rule begins, below log(1/K): what is left out is e^{-32} of the whole."""
HEAD = 3.8
"""Where it ends, beyond the lowest level: e^{-e^{3.8}} is left out."""
BLOCK, MOST_BLOCKS = 256, 4096
"""Nodes of the rule that share a window of levels, or more of them if there are many."""
NO_WEIGHT, FULL_WEIGHT = 6.7, -37.0
"""Values of log(uw) above which e^{-uw} is 0 in double precision, and below which it is 1."""
WIDEST_GAP = 120.0
"""Levels further apart in βr count as this far apart: the lower loses but for e^{-120} of cases."""
LARGEST = 600.0
"""Of log-weights above those that count; their exponential is finite, with room to spare."""


def log_weights(reward: Array, beta: float) -> Array:
    """β(r - max r) `(L,)`; at β=∞, 0 at the highest level and -∞ below."""
    below = reward - reward.max()
    with np.errstate(invalid="ignore"):  # ∞ · 0
        return np.where(below == 0, 0.0, beta * below)


def selection_density(reward: Array, weights: Array, beta: float, k: float) -> Array:
    """H_K[p]: how much likelier than before a sample of each level is after curation.

    Args:
        reward: levels `(L,)`, strictly ascending.
        weights: p `(L,)`, summing to 1.
        beta: from 0 to ∞.
        k: K, a whole number from 1, or ∞.

    Returns:
        `(L,)`, from 0 to K (to ∞ at K=∞), with Σ p H = 1. The relative error is below 1e-10 for K
        to 1024 and neighbouring levels at most 120 apart in βr; beyond, the absolute error is.
    """
    density: Array = selection(reward, beta, np.array([k]))(weights[:, None])[:, 0]
    return density


def selection(reward: Array, beta: float, k: Array) -> Density:
    """H_K for many laws on the same levels.

    Args:
        reward: levels `(L,)`, strictly ascending.
        beta: from 0 to ∞.
        k: each point's K `(P,)`.
    """
    one = (k == 1) | (beta == 0)
    infinite = np.isinf(k) & ~one
    several = ~one & ~infinite
    finite_k = k[several]
    choose: Density = _best_of(finite_k) if math.isinf(beta) else _luce(reward, beta, finite_k)
    level = log_weights(reward, beta)
    if several.all():
        return choose

    def density(p: Array) -> Array:
        found = np.ones_like(p)
        if several.any():
            found[:, several] = choose(p[:, several])
        if infinite.any():
            drawn = p[:, infinite]
            lifted = highest_present(drawn) if math.isinf(beta) else _lifted(level, drawn)
            found[:, infinite] = lifted / (lifted * drawn).sum(0)
        return found

    return density


def _lifted(level: Array, p: Array) -> Array:
    """Weights of log-weights `(L,)`, in units of the highest that has weight in p `(L, P)`."""
    highest = np.where(p > 0, level[:, None], -math.inf).max(0)
    lifted: Array = np.exp(np.minimum(level[:, None] - highest, LARGEST))
    return lifted


def highest_present(p: Array) -> Array:
    """1 at the highest level that has weight, else 0 `(L, P)`."""
    present = p > 0
    top = len(p) - 1 - present[::-1].argmax(0)
    highest: Array = (np.arange(len(p))[:, None] == top).astype(np.float64)
    return highest


def _best_of(k: Array) -> Density:
    """H_K at β=∞: p·H is the law of the best of K, F^K - F_-^K with F the distribution function."""

    def density(p: Array) -> Array:
        upto = p.cumsum(0)
        with np.errstate(divide="ignore", invalid="ignore"):  # levels without weight: the limit
            won = -np.expm1(k * np.log1p(-np.minimum(p / upto, 1))) * upto**k / p
        return np.where(p > 0, won, k * upto ** (k - 1))

    return density


@dataclass(frozen=True)
class _Block:
    """Consecutive nodes u of the rule, and the levels whose e^{-uw} is neither 0 nor 1 there."""

    levels: slice
    survival: Array
    """e^{-uw} `(nodes, levels)`."""
    hit: Array
    """uw e^{-uw} `(nodes, levels)`."""
    unit: float
    """Log of the last u; below the window e^{-uw} is 1, and uw all that is left to add up."""
    scale: Array
    """u by the last u `(nodes,)`."""
    last: slice
    """Levels below the window that are in the window of the next block."""
    linear: Array
    """Their w times the last u `(levels,)`."""


def _luce(reward: Array, beta: float, k: Array) -> Density:
    """H_K = K ∫ uw e^{-uw} L(u)^{K-1} d(log u), L(u) = E_p[e^{-uw}], by the trapezoid rule."""
    if not len(k):
        return np.ones_like
    level = log_weights(reward, beta)
    level = -np.append(np.minimum(np.diff(level), WIDEST_GAP)[::-1].cumsum()[::-1], 0.0)
    blocks = list(_blocks(level, float(k.max())))

    def density(p: Array) -> Array:
        found, linear, unit = np.zeros_like(p), np.zeros(p.shape[1]), 0.0
        below = p.cumsum(0) if blocks[0].levels.start else p  # else no block is above any level
        for block in blocks:
            first = block.levels.start
            survival = block.survival @ p[block.levels]
            if first:
                survival += below[first - 1]
            others = k * STEP * survival ** (k - 1)
            found[block.levels] += block.hit.T @ others
            if first:
                linear = linear * math.exp(unit - block.unit) + block.scale @ others
                unit = block.unit
                found[block.last] += block.linear[:, None] * linear
        return found

    return density


def _blocks(level: Array, most_k: float) -> Iterator[_Block]:
    """The rule's nodes in log u, for log-weights `level` `(L,)` that ascend to 0."""
    count = math.ceil((TAIL + math.log(most_k) - level[0] + HEAD) / STEP) + 1
    nodes = -TAIL - math.log(most_k) + STEP * np.arange(count)
    size = max(BLOCK, math.ceil(count / MOST_BLOCKS))
    starts = range(0, count, size)
    ends = [nodes[min(first + size, count) - 1] for first in starts]
    lows = [int(low) for low in np.searchsorted(level, [FULL_WEIGHT - end for end in ends])]
    for first, end, low, next_low in zip(starts, ends, lows, [*lows[1:], 0], strict=True):
        here = nodes[first : first + size]
        window = slice(low, max(low, int(np.searchsorted(level, NO_WEIGHT - here[0]))))
        product = np.exp(np.minimum(here[:, None] + level[window], LARGEST))
        survival = np.exp(-product)
        last = slice(next_low, low)
        linear = np.exp(level[last] + end)
        yield _Block(window, survival, product * survival, end, np.exp(here - end), last, linear)
