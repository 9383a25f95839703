"""Luce's choice: which candidates of a pool the pickers keep.

Among candidates x_1..x_K, x_k is kept with probability e^{βr(x_k)} / Σ_j e^{βr(x_j)}
(Ferbach et al., section 2). By the Gumbel-max trick that is argmax_k βr(x_k) + G_k with
independent standard Gumbel G, which serves every pool at once and reaches the limits exactly:
β=0 and K=1 keep uniformly, β=∞ keeps a best candidate (ties uniformly), K=∞ draws from the
whole pool with weights e^{βr} (Lemma 2.1).

Axes: R rows (each with its own β), N pool, G choices, K candidates, M draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.pickers.pickers import Pickers, liking


def utility(reward: Tensor, beta: Tensor) -> Tensor:
    """Log-weights βr over the last axis, up to a constant; β=∞ is 0 at the maximum, -∞ elsewhere.

    Args:
        reward: `(R, ..., K)`, finite.
        beta: `(R,)`, or one for each choice `(R, ...)`, from 0 to ∞.

    Returns:
        `(R, ..., K)`, at most 0, with maximum 0.
    """
    beta = beta.to(reward).reshape(*beta.shape, *[1] * (reward.dim() - beta.dim()))
    below = reward - reward.amax(-1, keepdim=True)
    return torch.where(below == 0, 0.0, beta * below)


def choose_among_k(
    reward: Tensor, beta: Tensor, k: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Let every consecutive group of K candidates compete.

    Args:
        reward: `(R, N)`; the N mod K candidates at the end take part in no group.
        beta: `(R,)`, or that of each group `(R, N // K)`.
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


def choose_among_k_by(
    rewards: Sequence[Tensor],
    pickers: Pickers,
    who: Tensor,
    k: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """The same as `choose_among_k` where pickers of several kinds choose.

    Args:
        rewards: the rewards that differ, each `(R, N)`.
        pickers: P of them.
        who: chooses in each group, int64 `(R, N // K)`.
        k: candidates per choice, K.
        generators: R streams.
    """
    count = who.shape[1] * k
    liked = torch.zeros_like(rewards[0][:, :count])
    beta = torch.zeros_like(who, dtype=torch.float64)
    for p, (reward, own) in enumerate(_likings(rewards, pickers)):
        chooses = who == p
        liked = reward[:, :count].where(chooses.repeat_interleave(k, 1), liked)
        beta = own[:, None].where(chooses, beta)
    return choose_among_k(liked, beta, k, generators)


def draw_weighted_by(
    rewards: Sequence[Tensor],
    mask: Tensor,
    pickers: Pickers,
    who: Tensor,
    streams: Callable[[], Sequence[torch.Generator]],
) -> WeightedDraws:
    """The same as `draw_weighted` where pickers of several kinds draw.

    Args:
        rewards: the rewards that differ, each `(R, N)`.
        mask: which samples belong to the row's pool `(R, N)`.
        pickers: P of them.
        who: draws, int64 `(R, M)`.
        streams: R streams at their start, from which every picker draws the same numbers.

    Returns:
        Draws `(R, M)`, with the peaks and masses of each picker `(R, P)`.
    """
    each = [
        draw_weighted(reward, mask, beta, who.shape[1], streams())
        for reward, beta in _likings(rewards, pickers)
    ]
    index = torch.stack([draws.index for draws in each], 2)
    chosen = index.gather(2, who[..., None]).squeeze(2)
    peak = torch.stack([draws.peak for draws in each], 1)
    return WeightedDraws(chosen, peak, torch.stack([draws.log_mass for draws in each], 1))


def choose_part_by(
    parts: Sequence[WeightedDraws],
    pickers: Pickers,
    who: Tensor,
    streams: Callable[[], Sequence[torch.Generator]],
) -> Tensor:
    """The same as `choose_part` where pickers of several kinds draw; see `draw_weighted_by`."""
    found = torch.zeros_like(who)
    for p in range(len(pickers)):
        own = [WeightedDraws(x.index, x.peak[:, p], x.log_mass[:, p]) for x in parts]
        chosen = choose_part(own, pickers.beta[:, p].abs(), who.shape[1], streams())
        found = chosen.where(who == p, found)
    return found


def _likings(rewards: Sequence[Tensor], pickers: Pickers) -> Iterator[tuple[Tensor, Tensor]]:
    """What each picker likes more of `(R, N)`, and how much `(R,)`."""
    for p, column in enumerate(pickers.reward):
        reward = rewards[column]
        yield liking(reward, pickers.beta[:, p].to(reward.device))


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
