"""The theory of Ferbach et al. (arXiv 2407.09499): population dynamics, limits and bounds.

With a perfect learner and infinitely many samples, retraining is a map of laws,

    p_{t+1} = 1/(1+λ) p_ref + λ/(1+λ) p_t · H_K[p_t]
    H_K[p](x) = E_{x_1..x_{K-1} ~ p}[ K w(x) / (w(x) + Σ_i w(x_i)) ],   w = e^{βr},

and H_K sees x through r(x) alone. So a law is a vector of weights on reward levels, and everything
here is a function of such vectors; `core.law` makes them of data, `core.forecast` makes curves.

Axes: L reward levels, strictly ascending; P points (λ and K) that share β; T retrainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

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
            lifted = _highest_present(drawn) if math.isinf(beta) else _lifted(level, drawn)
            found[:, infinite] = lifted / (lifted * drawn).sum(0)
        return found

    return density


def _lifted(level: Array, p: Array) -> Array:
    """Weights of log-weights `(L,)`, in units of the highest that has weight in p `(L, P)`."""
    highest = np.where(p > 0, level[:, None], -math.inf).max(0)
    lifted: Array = np.exp(np.minimum(level[:, None] - highest, LARGEST))
    return lifted


def _highest_present(p: Array) -> Array:
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


def population(
    reward: Array,
    initial: Array,
    reference: Array,
    beta: float,
    lam: Array,
    k: Array,
) -> Iterator[tuple[Array, Array]]:
    """Iterate the population map without end.

    Args:
        reward: levels `(L,)`, strictly ascending.
        initial: p_0 `(L,)`.
        reference: p_ref `(L,)`.
        beta: from 0 to ∞.
        lam: each point's λ `(P,)`, from 0 to ∞.
        k: each point's K `(P,)`.

    Yields:
        For t = 0, 1, ...: p_t `(L, P)` and the law of what is kept of it, p_t · H_K[p_t] `(L, P)`.
    """
    density, synthetic = selection(reward, beta, k), synthetic_share(lam)
    law = np.repeat(initial[:, None], len(k), 1)
    while True:
        kept = law * density(law)
        kept /= kept.sum(0)  # else an error of the sum would grow by a factor of K
        yield law, kept
        law = (1 - synthetic) * reference[:, None] + synthetic * kept


def synthetic_share(lam: Array) -> Array:
    """λ/(1+λ), the share of kept samples in a training set; 1 at λ=∞."""
    return 1 - 1 / (1 + np.asarray(lam, dtype=np.float64))


# --- limits


def limit(
    reward: Array, initial: Array, reference: Array, beta: float, lam: float, k: float
) -> Array | None:
    """The limit of p_t where it is known in closed form, else None (1 < K < ∞ with 0 < λ < ∞).

    Without real data it is p_0 on its highest level (Theorem 2.1); at K=∞, `fixed_point`, unless
    p_0 has levels above all real ones, which may persist.
    """
    indifferent = k == 1 or beta == 0
    if lam == 0 or (indifferent and not math.isinf(lam)):
        return reference
    if math.isinf(lam):
        return initial if indifferent else _on_top(initial)
    above = initial[np.flatnonzero(reference)[-1] + 1 :].any()
    if math.isinf(k) and not above:
        return fixed_point(reward, reference, beta, lam)
    return None


def _on_top(p: Array) -> Array:
    return _highest_present(p[:, None])[:, 0]


def fixed_point(reward: Array, reference: Array, beta: float, lam: float) -> Array:
    """The law that retraining with 0 < λ < ∞ at K=∞ converges to, `(L,)`.

    p_ref (1-η) Z / (Z - ηw) with η = λ/(1+λ) and Z solving (1-η) Σ p_ref w / (Z - ηw) = 1.
    """
    share, real = lam / (1 + lam), 1 / (1 + lam)
    weight = np.exp(log_weights(reward[reference > 0], beta))
    mass = reference[reference > 0]

    def excess(gap: float) -> float:
        return real * float((mass * weight / (share * (1 - weight) + gap)).sum()) - 1

    # Z = η + gap: the sum is at least its last term, and at most 1/gap.
    gap = brentq(excess, real * mass[-1] * 0.5, 1.0, xtol=1e-300, rtol=1e-15, maxiter=1000)
    law = np.zeros_like(reference)
    law[reference > 0] = mass * real * (share + gap) / (share * (1 - weight) + gap)
    return law


# --- bounds, in units of w* = max w: E and Var are those of e^{β(r - r*)}


def lemma_2_2(mean: float, variance: float, k: float) -> float:
    """Least E_{t+1}[w]/w* without real data (λ=∞), from the moments at t."""
    return mean + (1 - 1 / k) * variance


def theorem_2_3(mean: float, variance: float, lam: float, k: float) -> float:
    """Least E_t[w]/w* for all t ≥ 1 with real data (λ<∞), from the moments of p_ref = p_0."""
    real = 1 / (1 + lam)
    return mean + lam * real * real * real * (1 - 1 / k) * variance


def largest_ratio(lam: float, k: float) -> float | None:
    """Upper bound 1/(1 - λ(K-1)) of p_t/p_ref where p_0 = p_ref; None unless λ(K-1) < 1.

    It is in the proof of Theorem 2.4, and bounds every expectation under p_t.
    """
    if math.isinf(lam) or (lam > 0 and lam * (k - 1) >= 1):
        return None
    return 1.0 if lam == 0 else 1 / (1 - lam * (k - 1))


def theorem_2_4(lam: float, k: float) -> float | None:
    """Upper bound of KL(p_t ‖ p_ref) where p_0 = p_ref; None unless λ(K-1) < 1."""
    ratio = largest_ratio(lam, k)
    return None if ratio is None else math.log(ratio)


def kl_divergence(p: Array, q: Array) -> Array:
    """KL(p ‖ q) in nats over the last axis; ∞ where p has weight and q none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    divergence: Array = terms.sum(-1)
    return divergence.clip(0)  # rounding alone can make it negative
