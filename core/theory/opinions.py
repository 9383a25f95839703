"""What each user thinks of laws, and of pools: the metrics of `core.pickers.opinions`, of weights.

Axes: L joint levels, N laws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from luceloop.core.config.point import PointConfig
from luceloop.core.pickers.opinions import COLLECTIVE
from luceloop.core.theory.selection import Array, log_weights

SMALLEST = 1e-280
"""Of means of weights; below, they are summed in units of their own."""


@dataclass(frozen=True)
class _Utility:
    """log E[e^{βr}] of laws, for one picker."""

    level: Array
    """βr `(L,)`."""
    weight: Array
    """e^{βr}, in units of the largest `(L,)`."""

    @classmethod
    def of(cls, level: Array) -> _Utility:
        return cls(level, np.exp(level - level.max()))

    def of_laws(self, laws: Array) -> Array:
        """`(N,)`, of laws `(L, N)`."""
        mean = self.weight @ laws
        found: Array = self.level.max() + np.log(np.maximum(mean, SMALLEST))
        for law in np.flatnonzero(mean <= SMALLEST):  # all that is left is far below the highest
            found[law] = logsumexp(self.level, b=laws[:, law])
        return found


class Opinions:
    """The users of a point; one user alone has none but the metrics that every loop has."""

    def __init__(self, rewards: Array, suprema: Sequence[float | None], point: PointConfig) -> None:
        """Take the levels that laws are on.

        Args:
            rewards: `(L,)`, or several rewards `(L, J)`.
            suprema: r* of each reward, if known.
            point: whose users they are.
        """
        columns = rewards.reshape(len(rewards), -1)
        self._pickers = point.pickers
        self._means: dict[str, Array] = {}
        if len(point.users) > 1:
            for picker in self._pickers:
                if not picker.errs:
                    own, supremum = columns[:, picker.reward], suprema[picker.reward]
                    self._means |= _means(picker.user, own, picker.beta, supremum)
        finite = all(math.isfinite(picker.beta) for picker in self._pickers)
        several = finite and len(self._pickers) > 1
        self._utility = [
            _Utility.of(p.beta * columns[:, p.reward]) for p in self._pickers if several
        ]

    def of(self, laws: Array) -> dict[str, Array]:
        """The metrics by name `(N,)`.

        Args:
            laws: weights of the levels `(L, N)`, each law's summing to 1.
        """
        found = {name: values @ laws for name, values in self._means.items()}
        if self._utility:
            total = np.zeros(laws.shape[1])
            for picker, utility in zip(self._pickers, self._utility, strict=True):
                total += picker.share * utility.of_laws(laws)
            found[COLLECTIVE] = total
        return found

    def of_choices(self) -> dict[str, float]:
        """The shares of choices, which are the users' own."""
        users = sorted({picker.user for picker in self._pickers})
        found = {}
        if len(users) > 1:
            for user in users:
                own = [picker.share for picker in self._pickers if picker.user == user]
                found[f"choice_share/{user}"] = math.fsum(own)
        wrong = [picker.share for picker in self._pickers if picker.errs]
        return found | ({"flip_share": math.fsum(wrong)} if wrong else {})


def _means(user: int, reward: Array, beta: float, supremum: float | None) -> dict[str, Array]:
    """What is averaged for one user, by metric `(L,)`."""
    found = {f"reward_mean/{user}": reward}
    if supremum is not None and beta >= 0:
        levels = np.append(np.minimum(reward, supremum), supremum)
        found[f"exp_reward_mean/{user}"] = np.exp(log_weights(levels, beta)[:-1])
    return found
