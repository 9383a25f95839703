"""Laws of the reward: p_ref and p_0 as weights on reward levels, all that the theory needs to know.

Axes: L reward levels, N samples, C classes, Q reward bins.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from luceloop.core.config.point import PointConfig
from luceloop.core.theory.reduction import merge_levels, sum_at
from luceloop.core.theory.selection import Array, log_weights

BINS = 32
"""Reward bins of about equal real mass, over which the divergence from the real data is taken."""
EXACT_LEVELS = 512
"""Laws of at most so many levels are taken as they are."""
WIDTH, NARROWING = 0.5, 10.0
"""Bins of `reduced` are this wide in βr, but a 1/10 of their distance from the top near it."""
FINE = 4096
"""Bins of a law that is reduced once for many β."""
FAR, FAR_BINS, TOP_BINS = 400.0, 4096, 256
"""Below this distance from the top, and at β=∞, bins have equal mass; or, toward the top, equal
shares of what is above them."""


@dataclass(frozen=True)
class RewardLaw:
    """The rewards of real samples and of p_0's; p_t/p_ref depends on x through them alone."""

    reward: Array
    """Levels `(L,)`, strictly ascending."""
    reference: Array
    """p_ref `(L,)`."""
    initial: Array
    """p_0 `(L,)`."""
    sparse_classes: csr_array
    """p_ref of level and class `(L, C)`; C=0 where the data has none, or p_0 is not p_ref."""
    supremum: float | None
    """r*, if known."""
    edges: Array
    """Upper ends of all reward bins but the last `(Q-1,)`."""
    samples: int = 0
    """Equally likely real samples that p_ref is made of; 0 where that is not known."""
    initial_samples: int = 0
    """The same of p_0."""
    finite: bool = False
    """Whether the real data is these very samples, of which seeds draw without replacement."""
    size: int | None = None
    """Real samples that each seed draws, where only the user's code tells."""
    others: Array | None = None
    """Further rewards of each level `(L, J-1)`, where users like different things: levels are then
    ascending in the first reward, not strictly."""
    other_suprema: tuple[float | None, ...] = ()
    """r* of those."""
    first_supremum: float | None = None
    """r* of the first reward where `supremum` leaves it out; see `seen_by`."""

    @classmethod
    def of(
        cls,
        reward: Array,
        classes: NDArray[np.int64] | None,
        n_classes: int,
        supremum: float | None,
        *,
        finite: bool = False,
    ) -> RewardLaw:
        """The law of equally likely real samples, with p_0 = p_ref.

        Args:
            reward: of each sample `(N,)`, or several rewards `(N, J)`.
            classes: of each sample `(N,)`, if the data has classes.
            n_classes: C.
            supremum: r*, if known.
            finite: whether seeds draw from these very samples, without replacement.
        """
        level, index, count = _distinct(reward)
        shares = csr_array((len(level), n_classes))
        if classes is not None:
            each = np.full(len(reward), 1 / len(reward))
            shares = csr_array((each, (index, classes)), shape=shares.shape)
        weights = count / len(reward)
        several = level.ndim > 1
        return cls(
            level[:, 0] if several else level,
            weights,
            weights,
            shares,
            supremum,
            _edges(*_first(level, weights)),
            samples=len(reward),
            initial_samples=len(reward),
            finite=finite,
            others=level[:, 1:] if several else None,
        )

    def starting_from(self, reward: Array) -> RewardLaw:
        """The same real data, p_0 being the law of these rewards `(N,)`, or of several `(N, J)`."""
        level, _, count = _distinct(reward)
        union, index, _ = _distinct(np.concatenate([self.rewards, level]))
        reference, initial = np.zeros(len(union)), np.zeros(len(union))
        reference[index[: len(self.reward)]] = self.reference
        initial[index[len(self.reward) :]] = count / len(reward)
        nothing = csr_array((len(union), 0))
        several = union.ndim > 1
        return replace(
            self,
            reward=union[:, 0] if several else union,
            others=union[:, 1:] if several else None,
            reference=reference,
            initial=initial,
            sparse_classes=nothing,
            initial_samples=len(reward),
        )

    @property
    def rewards(self) -> Array:
        """The reward of each level `(L,)`, or several rewards `(L, J)`."""
        if self.others is None:
            return self.reward
        return np.column_stack([self.reward, self.others])

    @property
    def suprema(self) -> tuple[float | None, ...]:
        """r* of every reward, if known."""
        others = 0 if self.others is None else self.others.shape[1]
        first = self.first_supremum if self.supremum is None else self.supremum
        return (first, *(self.other_suprema or (None,) * others))

    @property
    def classes(self) -> Array:
        """`sparse_classes` with its zeros; for reduced laws, or few classes."""
        shares: Array = self.sparse_classes.toarray()
        return shares

    @property
    def starts_at_reference(self) -> bool:
        """Whether p_0 = p_ref."""
        return self.initial is self.reference

    @property
    def mean(self) -> float:
        """The mean reward of the real data."""
        return float(self.reference @ self.reward)

    def exp_reward(self, beta: float) -> Array:
        """e^{β(r - r*)} `(L,)`, for laws that know r*."""
        assert self.supremum is not None
        return np.exp(log_weights(np.append(self.reward, self.supremum), beta)[:-1])

    @property
    def bins(self) -> Array:
        """Which reward bin a level is in, 1 or 0 `(L, Q)`; bin q ends at edge q, included."""
        found: Array = np.eye(len(self.edges) + 1)[np.searchsorted(self.edges, self.reward)]
        return found

    @functools.cached_property
    def real_bins(self) -> Array:
        """Shares of the reward bins under p_ref `(Q,)`."""
        return self.reference @ self.bins

    def suited_to(self, point: PointConfig) -> RewardLaw:
        """The law as a point's curves need it: reduced to the levels that matter to its pickers."""
        law = self.seen_by(point)
        if len(point.pickers) == 1 and point.beta >= 0:
            return law.reduced(point.beta, point.iterations)
        strongest = max(abs(picker.beta) for picker in point.pickers)
        return law.reduced(strongest, point.iterations, both_ends=True)

    def seen_by(self, point: PointConfig) -> RewardLaw:
        """The law of what a point's pickers like: r* is of no use where β is below 0."""
        if point.beta >= 0:
            return self
        return replace(self, supremum=None, first_supremum=self.supremum)

    def reduced(self, beta: float, iterations: int, *, both_ends: bool = False) -> RewardLaw:
        """A law of far fewer levels that gives the same curves for this β and so many iterations.

        Levels close in βr become the two that have the same mass and first three moments (their
        Gauss rule). Near the top, where laws concentrate as iterations pass, levels stay apart;
        and near the bottom, where they may go `both_ends`, as some pickers have a β below 0.
        Curves move by less than 1e-5 of the reward's range, shares of classes by less than 2e-4.
        A law of several rewards stays as it is.
        """
        if len(self.reward) <= EXACT_LEVELS or self.others is not None:
            return self
        if both_ends:
            return self._merged(self._bins_from_both_ends(beta, 0.3 / max(iterations, 1)))
        fine = beta * (self.reward[-1] - self.reward[0]) < FINE * WIDTH / 4
        law = self._fine if fine and len(self.reward) > FINE else self
        level = log_weights(law.reward, beta)
        return law._merged(law._bins(level, 0.3 / max(iterations, 1), FAR))

    @functools.cached_property
    def _fine(self) -> RewardLaw:
        """A law that serves every β of ordinary size, and is quicker to reduce."""
        level = FINE * WIDTH * (self.reward / (self.reward[-1] - self.reward[0]))
        return self._merged(self._bins(level - level[-1], 1e-5, math.inf))

    def _merged(self, bins: NDArray[np.int64]) -> RewardLaw:
        """Two levels for each bin."""
        classes = self.sparse_classes
        level, reference, classes = merge_levels(self.reward, self.reference, classes, bins)
        initial = reference
        if not self.starts_at_reference:
            more, measured, _ = merge_levels(self.reward, self.initial, self.sparse_classes, bins)
            union, index = np.unique(np.concatenate([level, more]), return_inverse=True)
            initial = sum_at(index[len(level) :], measured, len(union))
            reference = sum_at(index[: len(level)], reference, len(union))
            level, classes = union, csr_array((len(union), 0))
        return replace(
            self, reward=level, reference=reference, initial=initial, sparse_classes=classes
        )

    def _bins_from_both_ends(self, beta: float, narrowest: float) -> NDArray[np.int64]:
        """The same as `_bins`, seen from the top by the upper half of levels, else from below."""
        down = self._numbers(log_weights(self.reward, beta), self._weights, narrowest, FAR)
        mirrored = log_weights(-self.reward[::-1], beta)
        up = self._numbers(mirrored, self._weights[::-1], narrowest, FAR)[::-1]
        upper = self.reward > (self.reward[0] + self.reward[-1]) / 2
        return self._cut(np.where(upper, down, -up), np.append(False, np.diff(upper)))

    def _bins(self, level: Array, narrowest: float, farthest: float) -> NDArray[np.int64]:
        """Ascending numbers of the bins of levels `(L,)` that end at 0; none crosses an edge.

        At the top a bin is as wide as `narrowest`; beyond `farthest`, bins have equal mass.
        """
        return self._cut(self._numbers(level, self._weights, narrowest, farthest))

    @property
    def _weights(self) -> Array:
        return (self.initial + self.reference) / 2

    def _numbers(self, level: Array, weights: Array, narrowest: float, farthest: float) -> Array:
        """Numbers of bins, different ones in neighbouring bins; see `_bins`."""
        narrowest = min(narrowest, WIDTH)
        turn = NARROWING * (WIDTH - narrowest)
        far = -level > farthest
        distance = np.minimum(-level, farthest)
        near = NARROWING * np.log1p(np.minimum(distance, turn) / (NARROWING * narrowest))
        number: Array = np.ceil(near + np.maximum(distance - turn, 0) / WIDTH)
        above = weights[::-1].cumsum()[::-1]
        number[far] = -1 - np.floor(FAR_BINS * (1 - above[far]))
        number[far] += np.floor(TOP_BINS * np.log(above[far]))
        return number

    def _cut(self, number: Array, also: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Bins that begin where numbers change, at edges, and where `also` says."""
        edge = np.searchsorted(self.edges, self.reward)
        changes = (np.diff(number) != 0) | (np.diff(edge) != 0)
        if also is not None:
            changes |= also[1:]
        return np.concatenate([[0], changes.cumsum()])


def _distinct(reward: Array) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Different rewards in ascending order, where each is among them, and how often they come.

    Args:
        reward: `(N,)`, or several rewards `(N, J)`, of which the first decides first.
    """
    if reward.ndim == 1:
        return np.unique(reward, return_inverse=True, return_counts=True)
    order = np.lexsort(reward.T[::-1])
    ordered = reward[order]
    begins = np.append(True, (ordered[1:] != ordered[:-1]).any(1))
    index = np.empty(len(reward), np.intp)
    index[order] = begins.cumsum() - 1
    return ordered[begins], index, np.bincount(index)


def _first(level: Array, weights: Array) -> tuple[Array, Array]:
    """The levels and weights of the first reward alone."""
    if level.ndim == 1:
        return level, weights
    begins = np.flatnonzero(np.append(True, np.diff(level[:, 0]) != 0))
    return level[begins, 0], np.add.reduceat(weights, begins)


def _edges(level: Array, weights: Array) -> Array:
    """Upper ends of bins of about equal mass; a level that outweighs a bin has its own."""
    ends = np.searchsorted(weights.cumsum(), np.arange(1, BINS) / BINS)
    heavy = np.flatnonzero(weights >= 1 / BINS)
    ends = np.unique(np.concatenate([ends, heavy, heavy - 1]))
    return level[ends[(ends >= 0) & (ends < len(level) - 1)]]
