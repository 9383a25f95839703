"""Population dynamics: retraining with a perfect learner and infinitely many samples.

    p_{t+1} = 1/(1+λ) p_ref + λ/(1+λ) p_t · H_K[p_t]

where the last kept set replaces all others. Where it does not, the average of all kept laws so far
stands for p_t · H_K[p_t] (`core.config.parts.Synthetic`); all of them beside p_ref have the share
λ(t+1)/(1+λ(t+1)), a sample of so many λ/(1+λ). All of this is

on vectors of weights on reward levels; `core.theory.law` makes them of data, `core.theory.forecast`
makes curves of them (Ferbach et al., arXiv 2407.09499).

Axes: L reward levels, strictly ascending; P points (λ and K) that share β; T retrainings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from luceloop.core.config.parts import Synthetic
from luceloop.core.theory.mixture import Taste, curation
from luceloop.core.theory.selection import Array, highest_present, log_weights

TOLERANCE, MOST_STEPS = 1e-8, 3000
"""Of limits that are found by iterating the map: total variation that may be left, and retrainings
after which they count as not found."""
JOINT_STEPS = 200
"""The same where levels are joint ones of several rewards, of which there are many more."""
ROUNDING = 1e-14
"""Total variation of a step that is rounding alone."""


def population(
    reward: Array,
    initial: Array,
    reference: Array,
    beta: Taste,
    lam: Array,
    k: Array,
    synthetic: Synthetic = "replace",
) -> Iterator[tuple[Array, Array]]:
    """Iterate the population map without end.

    Args:
        reward: levels `(L,)`, ascending, or joint levels of several rewards `(L, J)`.
        initial: p_0 `(L,)`.
        reference: p_ref `(L,)`.
        beta: of any sign, or pickers of several kinds.
        lam: each point's λ `(P,)`, from 0 to ∞.
        k: each point's K `(P,)`.
        synthetic: which kept sets a retraining is given.

    Yields:
        For t = 0, 1, ...: p_t `(L, P)` and the law of what is kept of it, p_t · H_K[p_t] `(L, P)`.
    """
    density, share = curation(reward, beta, k), synthetic_share(lam)
    law = np.repeat(initial[:, None], len(k), 1)
    given = np.zeros_like(law)
    for sets in itertools.count(1):
        kept = law * density(law)
        kept /= kept.sum(0)  # else an error of the sum would grow by a factor of K
        yield law, kept
        given = kept if synthetic == "replace" else given + (kept - given) / sets
        if synthetic == "accumulate":
            share = synthetic_share(lam * sets)
        law = (1 - share) * reference[:, None] + share * given


def converge(
    reward: Array, start: Array, reference: Array, beta: Taste, lam: Array, k: Array
) -> Array:
    """Iterate the population map until its law stands still.

    The distance that is left is estimated from the last two steps, as of a geometric series.

    Args:
        reward: levels `(L,)`, ascending, or joint levels of several rewards `(L, J)`.
        start: where to begin `(L, P)`.
        reference: p_ref `(L,)`.
        beta: of any sign, or pickers of several kinds.
        lam: each point's λ `(P,)`.
        k: each point's K `(P,)`.

    Returns:
        The limits `(L, P)`, right to `TOLERANCE` in total variation; NaN where `MOST_STEPS`, or
        `JOINT_STEPS`, are not enough.
    """
    density, synthetic = curation(reward, beta, k), synthetic_share(lam)
    law, last = start, np.full(len(k), math.nan)
    for _ in range(MOST_STEPS if reward.ndim == 1 else JOINT_STEPS):
        kept = law * density(law)
        new = (1 - synthetic) * reference[:, None] + synthetic * (kept / kept.sum(0))
        step = np.abs(new - law).sum(0) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = step / last
            left = np.where(rate < 1, step * rate / (1 - rate), math.inf)
        law, last = new, step
        done = (left < TOLERANCE) | (step < ROUNDING)
        if done.all():
            break
    return np.where(done, law, math.nan)


def synthetic_share(lam: Array) -> Array:
    """λ/(1+λ), the share of kept samples in a training set; 1 at λ=∞."""
    return 1 - 1 / (1 + np.asarray(lam, dtype=np.float64))


def limit(
    reward: Array,
    initial: Array,
    reference: Array,
    beta: Taste,
    lam: float,
    k: float,
    synthetic: Synthetic = "replace",
) -> Array | None:
    """The limit of p_t where it is known in closed form, else None (1 < K < ∞ with 0 < λ < ∞).

    Without real data it is p_0 on its highest level (Theorem 2.1), and so it is where all kept sets
    outnumber the real one; at K=∞, `fixed_point`, unless p_0 has levels above all real ones, which
    may persist. Samples of all kept sets lead where the last set does, but at a rate of 1/t.
    Pickers of several kinds have limits that are not known, unless nobody chooses.
    """
    one = beta if isinstance(beta, int | float) else None
    if one is not None and one < 0:
        turned = -reward[::-1], initial[::-1], reference[::-1]
        end = limit(*turned, -one, lam, k, synthetic)
        return None if end is None else end[::-1]
    if lam == 0:
        return reference
    mixed = initial if math.isinf(lam) else (reference + lam * initial) / (1 + lam)  # of 2 sets
    if k == 1 or one == 0:
        lasts = math.isinf(lam) or synthetic == "accumulate"
        return mixed if lasts else reference
    if one is None:
        return None
    if math.isinf(lam) or synthetic == "accumulate":
        return _on_top(mixed)
    above = initial[np.flatnonzero(reference)[-1] + 1 :].any()
    if math.isinf(k) and not above:
        return fixed_point(reward, reference, one, lam)
    return None


def _on_top(p: Array) -> Array:
    return highest_present(p[:, None])[:, 0]


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


def kl_divergence(p: Array, q: Array) -> Array:
    """KL(p ‖ q) in nats over the last axis; ∞ where p has weight and q none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    divergence: Array = terms.sum(-1)
    return divergence.clip(0)  # rounding alone can make it negative
