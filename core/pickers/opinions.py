"""What each user thinks of a pool: sums that shards can add, and the metrics that they make.

The collective utility is Σ q_i log E[e^{β_i r_i}] over pickers with shares q_i, in nats. It never
falls where choices are among the whole pool (K=∞) and no real data is mixed in: the map is then
Cover's algorithm for log-optimal portfolios (1984), with samples for stocks and users for days.

Axes: R rows, N samples, U users, P pickers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core.config.point import PointConfig
from luceloop.core.measures.metrics import Moments, exp_of_reward
from luceloop.core.pickers.pickers import Pickers

COLLECTIVE = "collective_utility"
"""Name of the metric that all users share."""


def user_metric_names(
    config: PointConfig, suprema: Sequence[float | None], *, curates: bool
) -> list[str]:
    """Names of the metrics that a loop has where its pickers are of several kinds.

    Args:
        config: the point.
        suprema: r* of each reward, if known.
        curates: whether samples are chosen.
    """
    pickers, users = config.pickers, len(config.users)
    finite = all(math.isfinite(picker.beta) for picker in pickers)
    names = [COLLECTIVE] if len(pickers) > 1 and finite else []
    for picker in pickers if users > 1 else ():
        if not picker.errs:
            names.append(f"reward_mean/{picker.user}")
            known = picker.beta >= 0 and suprema[picker.reward] is not None
            names += [f"exp_reward_mean/{picker.user}"] if known else []
            names += [f"choice_share/{picker.user}"] if curates else []
    return names + (["flip_share"] if curates and any(p.errs for p in pickers) else [])


@dataclass(frozen=True)
class UserStatistics:
    """What the metrics of users need to know of a pool."""

    reward: tuple[Moments, ...]
    """Of each user's r_i; none where there is one user."""
    exp_reward: tuple[Moments | None, ...]
    """Of each user's e^{β_i(r_i - r*_i)}; None where the exponent has no known supremum."""
    count: Tensor
    """Samples, float64 `(R,)`."""
    peak: Tensor
    """Highest βr of each picker, float64 `(R, P)`; where there are no samples, -∞."""
    mass: Tensor
    """Σ e^{βr - peak} of each picker, float64 `(R, P)`."""

    @classmethod
    def of(
        cls,
        rewards: Sequence[Tensor],
        mask: Tensor,
        pickers: Pickers,
        suprema: Sequence[float | None],
    ) -> UserStatistics:
        """Reduce one shard.

        Args:
            rewards: the rewards that differ, each `(R, N)`.
            mask: which samples belong to the row's pool `(R, N)`.
            pickers: of the rows.
            suprema: r* of each reward, if known.
        """
        moments, weights = list[Moments](), list[Moments | None]()
        for p in pickers.first_of_users if len(pickers.first_of_users) > 1 else ():
            reward, supremum = rewards[pickers.reward[p]], suprema[pickers.reward[p]]
            moments.append(Moments.of(reward, mask).cpu())
            weights.append(_weights(reward, mask, pickers.beta[:, p].to(mask.device), supremum))
        levels = [
            _utility(rewards[column].double(), pickers.beta[:, p].to(mask.device))
            for p, column in enumerate(pickers.reward)
        ]
        level = torch.stack(levels, 1).where(mask[:, None], -torch.inf)
        peak = level.amax(-1)
        mass = (level - _finite(peak)[..., None]).exp().sum(-1)
        count = mask.sum(1).double()
        return cls(tuple(moments), tuple(weights), count.cpu(), peak.cpu(), mass.cpu())

    def __add__(self, other: UserStatistics) -> UserStatistics:
        """Statistics of both shards together."""
        peak = torch.maximum(self.peak, other.peak)
        mine, theirs = (part.mass * (part.peak - _finite(peak)).exp() for part in (self, other))
        return UserStatistics(
            tuple(a + b for a, b in zip(self.reward, other.reward, strict=True)),
            tuple(
                a + b if a is not None and b is not None else None
                for a, b in zip(self.exp_reward, other.exp_reward, strict=True)
            ),
            self.count + other.count,
            peak,
            mine + theirs,
        )

    def metrics(self, pickers: Pickers) -> dict[str, Tensor]:
        """The metrics of the pool by name, each float64 `(R,)`."""
        metrics = {f"reward_mean/{i}": moments.mean for i, moments in enumerate(self.reward)}
        for i, moments in enumerate(self.exp_reward):
            if moments is not None:
                metrics[f"exp_reward_mean/{i}"] = moments.mean
        if pickers.beta.isfinite().all():
            logs = self.peak + (self.mass / self.count[:, None]).log()
            metrics[COLLECTIVE] = (pickers.share * logs).sum(1)
        return metrics


def merge_users(shards: Sequence[UserStatistics]) -> UserStatistics:
    """Statistics of a pool from those of its shards, added in the order given."""
    return functools.reduce(UserStatistics.__add__, shards)


def choice_metrics(pickers: Pickers, who: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Shares of the choices that each user made, and that were errors, float64 `(R,)`.

    Args:
        pickers: of the rows.
        who: made each choice `(R, M)`.
        mask: which choices count `(R, M)`.
    """
    count = pickers.count(who, mask)
    share = count / count.sum(1, keepdim=True)
    metrics = {}
    if len(pickers.first_of_users) > 1:
        for user in range(len(pickers.first_of_users)):
            own = [p for p, each in enumerate(pickers.user) if each == user]
            metrics[f"choice_share/{user}"] = share[:, own].sum(1)
    wrong = [p for p, errs in enumerate(pickers.errs) if errs]
    return metrics | ({"flip_share": share[:, wrong].sum(1)} if wrong else {})


def _weights(reward: Tensor, mask: Tensor, beta: Tensor, supremum: float | None) -> Moments | None:
    """Moments of e^{β(r - r*)}; None where the exponent's supremum is not known."""
    if supremum is None or (beta < 0).any():
        return None
    return Moments.of(exp_of_reward(reward.double(), beta, supremum), mask).cpu()


def _finite(peak: Tensor) -> Tensor:
    """Peaks, 0 where there are no samples."""
    return peak.where(peak > -torch.inf, 0.0)


def _utility(reward: Tensor, beta: Tensor) -> Tensor:
    """βr `(R, N)`; 0 at β=0 and, where β is infinite, which has no utility."""
    finite = beta.where(beta.isfinite(), 0.0)
    return finite[:, None] * reward
