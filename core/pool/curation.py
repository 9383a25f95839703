"""Luce's choice: which candidates of a pool the pickers keep.

Among candidates x_1..x_K, x_k is kept with probability e^{βr(x_k)} / Σ_j e^{βr(x_j)}
(Ferbach et al., section 2). By the Gumbel-max trick that is argmax_k βr(x_k) + G_k with
independent standard Gumbel G, which serves every pool at once and reaches the limits exactly:
β=0 and K=1 keep uniformly, β=∞ keeps a best candidate (ties uniformly), K=∞ draws from the
whole pool with weights e^{βr} (Lemma 2.1).

Axes: R rows (each with its own β), N pool, G choices, K candidates, M draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng


def utility(reward: Tensor, beta: Tensor) -> Tensor:
    """Log-weights βr over the last axis, up to a constant; β=∞ is 0 at the maximum, -∞ elsewhere.

    Args:
        reward: `(R, ..., K)`, finite.
        beta: `(R,)`, from 0 to ∞.

    Returns:
        `(R, ..., K)`, at most 0, with maximum 0.
    """
    beta = beta.to(reward).reshape(-1, *[1] * (reward.dim() - 1))
    below = reward - reward.amax(-1, keepdim=True)
    return torch.where(below == 0, 0.0, beta * below)


def choose_among_k(
    reward: Tensor, beta: Tensor, k: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Let every consecutive group of K candidates compete.

    Args:
        reward: `(R, N)`; the N mod K candidates at the end take part in no group.
        beta: `(R,)`.
        k: candidates per choice, K.
        generators: R streams.

    Returns:
        Index into the pool of each group's winner, int64 `(R, N // K)`.
    """
    groups = reward.shape[1] // k
    candidates = reward[:, : groups * k].reshape(len(reward), groups, k)
    score = utility(candidates, beta) + rng.gumbel(generators, candidates.shape[1:])
    first = torch.arange(0, groups * k, k, device=reward.device)
    return score.argmax(-1) + first


@dataclass(frozen=True)
class WeightedDraws:
    """Draws from one part of a pool, with what it takes to draw from all parts together."""

    index: Tensor
    """Index into the part of each draw, int64 `(R, M)`."""
    peak: Tensor
    """Highest reward of the part `(R,)`; where the part is empty, -∞."""
    log_mass: Tensor
    """log Σ e^{β(r - peak)} over the part, float64 `(R,)`; where the part is empty, -∞."""

    def cpu(self) -> WeightedDraws:
        """The same on the CPU."""
        return WeightedDraws(self.index.cpu(), self.peak.cpu(), self.log_mass.cpu())


def draw_weighted(
    reward: Tensor,
    mask: Tensor,
    beta: Tensor,
    draws: int,
    generators: Sequence[torch.Generator],
) -> WeightedDraws:
    """Draw from a pool with weights e^{βr}, with replacement: Luce's choice at K=∞.

    Args:
        reward: `(R, N)`.
        mask: which samples belong to the row's pool `(R, N)`.
        beta: `(R,)`.
        draws: M, for each row.
        generators: R streams.
    """
    lowest = reward.amin(-1, keepdim=True)
    weight = utility(reward.where(mask, lowest), beta).double().exp() * mask
    peak = reward.where(mask, -torch.inf).amax(-1)
    # A GPU's sums may differ in the last bits from one time to the next.
    cumulative = weight.cpu().cumsum(-1).to(weight.device)
    mass = cumulative[:, -1:].clone()
    point = rng.uniform(generators, (draws,), torch.float64) * mass
    index = torch.searchsorted(cumulative, point, right=True).clamp_max(reward.shape[1] - 1)
    return WeightedDraws(index, peak, mass[:, 0].log())


def choose_part(
    parts: Sequence[WeightedDraws],
    beta: Tensor,
    draws: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Which part each of M draws comes from, so that together they are drawn from the whole pool.

    Returns:
        Index into `parts`, int64 `(R, M)`.
    """
    peak = torch.stack([part.peak for part in parts], 1).double()
    peak = peak.where(peak > -torch.inf, peak.amax(1, keepdim=True))  # empty: no mass anyway
    log_mass = torch.stack([part.log_mass for part in parts], 1)
    weight = (utility(peak, beta) + log_mass).softmax(1)
    cumulative = weight.cumsum(-1)
    point = rng.uniform(generators, (draws,), torch.float64) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, point, right=True)
    return index.clamp_max(len(parts) - 1)
