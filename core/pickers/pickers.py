"""Pickers of several kinds: who makes each choice of a pool, and what each of them likes.

Every choice among K candidates is made by one picker, drawn by the shares from a stream of its own,
so that who chooses depends neither on the samples nor on who computes them.

Axes: R rows, P pickers, M choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig


@dataclass(frozen=True)
class Pickers:
    """The pickers of an ensemble: in row r, picker p makes `share[r, p]` of the choices."""

    share: Tensor
    """float64 `(R, P)`, summing to 1."""
    beta: Tensor
    """From -∞ to ∞, float64 `(R, P)`."""
    reward: tuple[int, ...]
    """Which of the point's rewards each picker has."""
    user: tuple[int, ...]
    """Which user each picker is."""
    errs: tuple[bool, ...]
    """Which pickers are users in error."""

    @classmethod
    def of(cls, config: PointConfig, rows: int) -> Pickers | None:
        """Those of a point, in every row; None where there is one, who needs no draw.

        Args:
            config: the point.
            rows: R.
        """
        each = config.pickers
        if len(each) == 1:
            return None
        share = torch.tensor([picker.share for picker in each], dtype=torch.float64)
        beta = torch.tensor([picker.beta for picker in each], dtype=torch.float64)
        return cls(
            share.repeat(rows, 1),
            beta.repeat(rows, 1),
            tuple(picker.reward for picker in each),
            tuple(picker.user for picker in each),
            tuple(picker.errs for picker in each),
        )

    @property
    def first_of_users(self) -> tuple[int, ...]:
        """Of each user, the picker who does not err."""
        return tuple(self.user.index(user) for user in dict.fromkeys(self.user))

    def __len__(self) -> int:
        return len(self.user)

    def draw(self, seeds: Sequence[int], choices: int, iteration: int, shard: int = 0) -> Tensor:
        """Who makes each of M choices, int64 `(R, M)` on the CPU, on whatever device they are made.

        Args:
            seeds: of the rows.
            choices: M.
            iteration: t.
            shard: where the choices are made; 0 where they are made among the whole pool.
        """
        generators = rng.streams(seeds, "picker", iteration, shard)
        upto = self.share.cumsum(1)
        point = rng.uniform(generators, (choices,), torch.float64) * upto[:, -1:]
        return torch.searchsorted(upto, point, right=True).clamp_max(len(self) - 1)

    def count(self, who: Tensor, mask: Tensor) -> Tensor:
        """Choices of each picker, float64 `(R, P)`.

        Args:
            who: made each choice `(R, M)`.
            mask: which choices count `(R, M)`.
        """
        counts = torch.zeros(len(who), len(self), dtype=torch.float64)
        return counts.scatter_add_(1, who, mask.double())


def liking(reward: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """A reward and β of any sign as a reward of which more is preferred, and a β from 0.

    Args:
        reward: `(R, N)`.
        beta: from -∞ to ∞ `(R,)`.
    """
    sign = torch.where(beta < 0, -1.0, 1.0).to(reward)
    return reward * sign[:, None], beta.abs()
