"""Pickers of several kinds as a map of laws: H = Σ_i q_i H_K^{(i)}, with shares q_i.

Each has its own w_i = e^{β_i r_i}. H depends on x through (r_1(x), …, r_J(x)) alone, so a law is a
vector of weights on joint levels. Each H^{(i)} is a smooth function of β_i r_i, whatever the law: a
convolution in log w_i. So it is computed on evenly spaced nodes of β_i r_i, onto which weights are
spread by cubic interpolation, and from which it is read by the same: Σ p H = 1 stays exact, and one
quadrature serves a picker.

Axes: L joint levels, J rewards, G nodes; P points (λ and K) that share pickers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from luceloop.core.config.users import Picker
from luceloop.core.theory.selection import Array, Density, selection

SPACING = 0.1
"""Of nodes, in βr; curves of eight Gaussians move by less than 1e-7 of the reward's range."""
EXACT_NODES = 512
"""Levels of at most this number are nodes themselves."""
MOST_NODES = 8192
"""Of a picker; where βr spans more, levels are nodes, neighbours in rank being one."""

Taste = float | Sequence[Picker]
"""What choices follow: one β, or pickers with shares."""


def curation(rewards: Array, taste: Taste, k: Array) -> Density:
    """H_K for many laws on the same levels, of one picker or several.

    Args:
        rewards: levels `(L,)`, ascending, or joint levels `(L, J)`.
        taste: β of any sign, or the pickers.
        k: each point's K `(P,)`.
    """
    if isinstance(taste, int | float):
        if taste >= 0 and rewards.ndim == 1:
            return selection(rewards, taste, k)
        taste = [Picker(0, 1.0, taste, 0)]
    columns = rewards.reshape(len(rewards), -1)
    chosen = [
        (each.share, _picker(columns[:, each.reward], each.beta, k)) for each in taste if each.share
    ]

    def density(p: Array) -> Array:
        found = np.zeros_like(p)
        for share, of_picker in chosen:
            found += share * of_picker(p)
        return found

    return density


def _picker(reward: Array, beta: float, k: Array) -> Density:
    """H_K of one picker, whose reward at the joint levels is `reward` `(L,)`."""
    if beta == 0:
        return np.ones_like
    liked = reward if beta > 0 else -reward
    nodes, spread = _nodes(liked, abs(beta))
    on_nodes, gather = selection(nodes, abs(beta), k), csr_array(spread.T)

    def density(p: Array) -> Array:
        found: Array = spread @ on_nodes(gather @ p)
        return found

    return density


def _nodes(liked: Array, beta: float) -> tuple[Array, csr_array]:
    """Ascending nodes `(G,)` of what a picker likes, and how levels lie among them `(L, G)`."""
    levels, index = np.unique(liked, return_inverse=True)
    span = beta * (levels[-1] - levels[0])
    count = max(math.ceil(span / SPACING) + 1, 4) if math.isfinite(span) else len(levels)
    few = len(levels) <= EXACT_NODES or len(levels) <= MOST_NODES < count
    if few or math.isinf(beta):  # the best of K takes no quadrature
        return levels, _one_hot(index, len(levels))
    if count > MOST_NODES:
        group = np.arange(len(levels)) * (MOST_NODES - 1) // (len(levels) - 1)
        means = np.bincount(group, levels) / np.bincount(group)
        return means, _one_hot(group[index], len(means))
    nodes = levels[-1] - (SPACING / beta) * np.arange(count - 1, -1, -1.0)
    return nodes, _cubic((liked - nodes[0]) * (beta / SPACING), count)


def _one_hot(index: NDArray[np.intp], count: int) -> csr_array:
    rows = np.arange(len(index))
    return csr_array((np.ones(len(index)), (rows, index)), shape=(len(index), count))


def _cubic(place: Array, count: int) -> csr_array:
    """Lagrange's weights of the four nodes about each place `(L,)`, in units of the spacing."""
    first = np.clip(np.floor(place).astype(np.intp) - 1, 0, count - 4)
    x = place - first
    weights = np.stack(
        [
            -(x - 1) * (x - 2) * (x - 3) / 6,
            x * (x - 2) * (x - 3) / 2,
            -x * (x - 1) * (x - 3) / 2,
            x * (x - 1) * (x - 2) / 6,
        ],
        1,
    )
    rows = np.repeat(np.arange(len(place)), 4)
    columns = (first[:, None] + np.arange(4)).ravel()
    return csr_array((weights.ravel(), (rows, columns)), shape=(len(place), count))
