"""Luce's choice against its closed forms and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from luceloop.core import rng
from luceloop.core.pool.curation import (
    WeightedDraws,
    choose_among_k,
    choose_part,
    draw_weighted,
    utility,
)

CHOICES = 20_000
TOO_UNLIKELY = 1e-6  # a false alarm once in a million runs of a test


def _streams(rows: int, purpose: str = "test") -> list[torch.Generator]:
    return rng.streams(range(rows), purpose)


def _softmax(utilities: list[float]) -> np.ndarray:
    weights = np.exp(np.array(utilities) - max(utilities))
    return weights / weights.sum()


def _assert_law(index: torch.Tensor, law: np.ndarray) -> None:
    """Draws `index` `(M,)` follow `law`, by a chi-square test, and avoid what it excludes."""
    counts = np.bincount(index.numpy(), minlength=len(law))
    assert len(counts) == len(law)
    possible = law > 0
    assert counts[~possible].sum() == 0
    if possible.sum() > 1:
        expected = law[possible] * len(index)
        assert stats.chisquare(counts[possible], expected).pvalue > TOO_UNLIKELY


def _choices(rewards: list[float], beta: float, count: int = CHOICES) -> torch.Tensor:
    """Which of `rewards` won, in each of `count` choices among them."""
    pool = torch.tensor(rewards).repeat(count)[None]
    winner = choose_among_k(pool, torch.tensor([beta]), len(rewards), _streams(1))
    return winner[0] - torch.arange(0, count * len(rewards), len(rewards))


# --- among K


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("rewards", [[0.5, -0.5], [0.0, -1.0, 0.4], [-2.0, -1.5, -1.0, 0.0, -1.0]])
def test_choices_follow_the_softmax(rewards, beta):
    _assert_law(_choices(rewards, beta), _softmax([beta * r for r in rewards]))


@pytest.mark.parametrize("beta", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("gap", [-0.4, -0.1, 0.0, 0.05, 0.2])
def test_two_candidates_compete_as_bradley_and_terry_say(gap, beta):
    wins = float((_choices([gap, 0.0], beta) == 0).double().mean())
    probability = 1 / (1 + math.exp(-beta * gap))
    # Five standard errors of a binomial share.
    assert abs(wins - probability) < 5 * math.sqrt(probability * (1 - probability) / CHOICES)


@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_the_effective_factor_is_beta_and_no_multiple_of_it(beta):
    gap = 1 / beta
    wins = float((_choices([gap, 0.0], beta) == 0).double().mean())
    estimate = math.log(wins / (1 - wins)) / gap
    # Delta method: a log-odds has standard error 1/√(M p (1-p)).
    error = 1 / math.sqrt(CHOICES * wins * (1 - wins)) / gap
    assert abs(estimate - beta) < 5 * error
    for mistaken in (beta / 10, 10 * beta, 2 * beta):  # the test is sharp enough to see these
        assert abs(estimate - mistaken) > 20 * error


def test_zero_beta_keeps_uniformly():
    _assert_law(_choices([0.0, -1e30, 5.0, 1e30], 0.0), np.full(4, 0.25))


@pytest.mark.parametrize("beta", [0.0, 2.0, math.inf])
def test_one_candidate_is_kept(beta):
    reward = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    winner = choose_among_k(reward, torch.full((2,), beta), 1, _streams(2))
    assert torch.equal(winner, torch.arange(50).expand(2, 50))


@pytest.mark.parametrize("k", [2, 3, 7])
def test_infinite_beta_keeps_a_best_candidate(k):
    reward = torch.randn(3, 70 * k, generator=torch.Generator().manual_seed(0))
    winner = choose_among_k(reward, torch.full((3,), math.inf), k, _streams(3))
    assert torch.equal(reward.gather(1, winner), reward.reshape(3, 70, k).amax(2))


def test_infinite_beta_breaks_ties_uniformly():
    law = np.array([0, 1, 1, 0, 1]) / 3
    _assert_law(_choices([0.0, 2.0, 2.0, 1.9999, 2.0], math.inf), law)


def test_winners_come_from_their_own_groups_and_the_rest_takes_no_part():
    reward = torch.zeros(2, 3 * 40 + 2)
    reward[:, -2:] = 100.0  # irresistible, but in no group
    winner = choose_among_k(reward, torch.ones(2), 3, _streams(2))
    assert winner.shape == (2, 40)
    assert torch.equal(winner // 3, torch.arange(40).expand(2, 40))


def test_choices_of_different_groups_are_independent():
    index = _choices([0.0, 0.7], 1.0)
    pairs = np.zeros((2, 2))
    np.add.at(pairs, (index[0::2].numpy(), index[1::2].numpy()), 1)
    assert stats.chi2_contingency(pairs).pvalue > TOO_UNLIKELY


def test_each_row_has_its_own_beta():
    rewards, betas = [0.0, 0.5, -1.0], [0.0, 1.0, 5.0, math.inf]
    pool = torch.tensor(rewards).repeat(CHOICES).expand(len(betas), -1)
    winner = choose_among_k(pool, torch.tensor(betas), 3, _streams(len(betas)))
    laws = [_softmax([beta * r for r in rewards]) for beta in betas[:-1]]
    for row, law in zip(winner, [*laws, np.array([0.0, 1.0, 0.0])], strict=True):
        _assert_law(row % 3, law)


def test_adding_a_constant_to_the_rewards_changes_nothing():
    steps = torch.randint(-64, 64, (2, 600), generator=torch.Generator().manual_seed(0))
    reward = steps / 64  # exact in float32, as is the sum
    beta = torch.tensor([1.0, 30.0])
    expected = choose_among_k(reward, beta, 4, _streams(2))
    assert torch.equal(choose_among_k(reward + 1024, beta, 4, _streams(2)), expected)


# --- overflow


@pytest.mark.parametrize("beta", [1e6, 1e30, 1e300, math.inf])
@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_huge_utilities_choose_the_best_and_stay_finite(scale, beta):
    reward = scale * torch.tensor([[-1.0, 1.0, 0.5]])
    factor = torch.tensor([beta], dtype=torch.float64)
    generators = _streams(1)
    assert not utility(reward, factor).isnan().any()
    assert choose_among_k(reward, factor, 3, generators).tolist() == [[1]]
    draws = draw_weighted(reward, reward > -torch.inf, factor, 100, generators)
    assert (draws.index == 1).all()
    assert draws.log_mass.tolist() == [0.0]
    assert choose_part([draws, draws], factor, 10, generators).shape == (1, 10)


@pytest.mark.parametrize("beta", [1e30, math.inf])
def test_equal_rewards_compete_evenly_whatever_their_size(beta):
    _assert_law(_choices([1e30, 1e30], beta), np.full(2, 0.5))


def test_utility_is_zero_at_the_maximum_and_below_it_elsewhere():
    reward = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    beta = torch.tensor([0.0, 2.0, math.inf])
    found = utility(reward, beta)
    assert (found.amax(2) == 0).all() and (found <= 0).all()
    expected = 2 * (reward[1] - reward[1].amax(1, keepdim=True))
    assert torch.allclose(found[1], expected, rtol=1e-6)
    assert (found[0] == 0).all()
    assert torch.equal(found[2] == 0, reward[2] == reward[2].amax(1, keepdim=True))


# --- K = ∞


@pytest.mark.parametrize("beta", [0.0, 0.7, 5.0])
def test_infinite_k_draws_with_weights_e_to_the_beta_r(beta):
    rewards = [0.0, -0.3, 0.6, -2.0, 0.1, 0.6]
    reward = torch.tensor([rewards])
    mask = torch.ones_like(reward, dtype=torch.bool)
    draws = draw_weighted(reward, mask, torch.tensor([beta]), CHOICES, _streams(1))
    _assert_law(draws.index[0], _softmax([beta * r for r in rewards]))


def test_infinite_k_and_beta_draw_uniformly_from_the_best():
    reward = torch.tensor([[0.0, 1.0, 0.5, 1.0]])
    mask = torch.ones_like(reward, dtype=torch.bool)
    draws = draw_weighted(reward, mask, torch.tensor([math.inf]), CHOICES, _streams(1))
    _assert_law(draws.index[0], np.array([0.0, 0.5, 0.0, 0.5]))


def test_draws_stay_inside_the_mask():
    reward = torch.tensor([[9.0, 0.0, 1.0, 9.0], [0.0, 0.0, -1.0, 9.0]])
    mask = torch.tensor([[False, True, True, False], [True, True, True, False]])
    beta = torch.tensor([1.0, math.inf])
    draws = draw_weighted(reward, mask, beta, CHOICES, _streams(2))
    first = _softmax([0.0, 1.0])
    _assert_law(draws.index[0], np.array([0.0, *first, 0.0]))
    _assert_law(draws.index[1], np.array([0.5, 0.5, 0.0, 0.0]))


def test_consecutive_weighted_draws_are_independent():
    reward = torch.tensor([[0.0, 0.5, 1.0]])
    mask = torch.ones_like(reward, dtype=torch.bool)
    index = draw_weighted(reward, mask, torch.ones(1), CHOICES, _streams(1)).index[0].numpy()
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (index[0::2], index[1::2]), 1)
    assert stats.chi2_contingency(pairs).pvalue > TOO_UNLIKELY


# A pool of four rows in parts of 3, 2, 1 and 4 samples. Row 0's second part is empty, row 1 lacks
# samples in two parts, row 2 has only one part; the best rewards lie in different parts.
PARTS = [3, 2, 1, 4]
REWARD = torch.tensor(
    [
        [0.0, -0.4, 0.9, 7.0, 7.0, -3.0, 0.2, 0.3, -0.8, 0.9],
        [1.0, 1.5, 0.0, -0.5, 0.7, 2.0, 0.2, 9.0, 9.0, -1.0],
        [5.0, 5.0, 5.0, 1.0, 1.4, 5.0, 5.0, 5.0, 5.0, 5.0],
        [0.5, -9.0, 0.1, 0.5, 0.0, 0.4, 0.5, -1.0, 0.2, 0.3],
    ]
)
MASK = torch.ones(4, 10, dtype=torch.bool)
MASK[0, 3:5] = False
MASK[1, [0, 7, 8]] = False
MASK[2, [0, 1, 2, 5, 6, 7, 8, 9]] = False
BETA = torch.tensor([1.0, 3.0, 2.0, math.inf], dtype=torch.float64)


def _draw_from_parts(rows: list[int]) -> torch.Tensor:
    """Draws from the whole pool `(len(rows), CHOICES)` made of draws from its parts."""
    parts: list[WeightedDraws] = []
    starts = np.cumsum([0, *PARTS[:-1]]).tolist()
    for number, (start, size) in enumerate(zip(starts, PARTS, strict=True)):
        part = slice(start, start + size)
        generators = rng.streams(rows, "part", shard=number)
        drawn = draw_weighted(REWARD[rows, part], MASK[rows, part], BETA[rows], CHOICES, generators)
        parts.append(drawn)
    source = choose_part(parts, BETA[rows], CHOICES, rng.streams(rows, "choose"))
    position = torch.stack([part.index for part in parts])  # (parts, R, M)
    return position.gather(0, source[None])[0] + torch.tensor(starts)[source]


def test_drawing_from_parts_has_the_law_of_drawing_from_the_pool():
    found = _draw_from_parts([0, 1, 2, 3])
    for row in range(3):
        utilities = (BETA[row] * REWARD[row]).where(MASK[row], -torch.inf)
        _assert_law(found[row], _softmax(utilities.tolist()))
    best = (REWARD[3] == 0.5).double().numpy()
    _assert_law(found[3], best / best.sum())


def test_draws_from_parts_are_independent_of_one_another():
    index = _draw_from_parts([0])[0].numpy()
    occurring = {value: i for i, value in enumerate(np.unique(index).tolist())}
    number = np.array([occurring[value] for value in index.tolist()])
    pairs = np.zeros((len(occurring), len(occurring)))
    np.add.at(pairs, (number[0::2], number[1::2]), 1)
    common = pairs.sum(0) > 300  # the chi-square approximation needs some counts in every cell
    table = pairs[np.ix_(common, common)]
    assert stats.chi2_contingency(table).pvalue > TOO_UNLIKELY


# --- rows


def test_rows_choose_the_same_whatever_their_neighbours():
    reward = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    beta = torch.tensor([0.5, 2.0, 8.0])
    together = choose_among_k(reward, beta, 3, rng.streams([4, 5, 6], "test"))
    alone = choose_among_k(reward[[2]], beta[[2]], 3, rng.streams([6], "test"))
    assert torch.equal(alone[0], together[2])


def test_rows_draw_the_same_whatever_their_neighbours():
    together = _draw_from_parts([0, 1, 2, 3])
    for row in range(4):
        assert torch.equal(_draw_from_parts([row])[0], together[row])
