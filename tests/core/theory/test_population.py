"""The population map, its limits and the paper's bounds, against sums written out here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from luceloop.core.theory.bounds import largest_ratio, lemma_2_2, theorem_2_3, theorem_2_4
from luceloop.core.theory.population import (
    TOLERANCE,
    converge,
    fixed_point,
    kl_divergence,
    limit,
    population,
    synthetic_share,
)
from luceloop.core.theory.selection import log_weights, selection, selection_density

INF = math.inf
PROMISED = 1e-10  # relative error of H_K, in its docstring
RULE = 2e-12  # the trapezoid rule's 6e-13 and rounding, where only it and few sums enter


def _levels(rng: np.random.Generator, count: int, span: float) -> np.ndarray:
    """Ascending levels from 0 to `span`, no two of them nearer than span / 1000."""
    gaps = rng.dirichlet(np.ones(count - 1)) + 1e-3
    return span * np.append(0.0, gaps.cumsum() / gaps.sum())


def _weights(rng: np.random.Generator, count: int) -> np.ndarray:
    """A law from nearly one atom to nearly uniform, each level with some weight."""
    law = np.maximum(rng.dirichlet(np.full(count, 10 ** rng.uniform(-1.5, 1))), 1e-30)
    return law / law.sum()


def _pairs(reward: np.ndarray, p: np.ndarray, beta: float) -> np.ndarray:
    """H_2: Bradley-Terry against one other."""
    return 2 * (p * expit(beta * (reward[:, None] - reward))).sum(1)


def _triples(reward: np.ndarray, p: np.ndarray, beta: float) -> np.ndarray:
    """H_3: against two others."""
    log_w = beta * reward
    one, first, second = np.ix_(log_w, log_w, log_w)
    total = logsumexp(np.stack(np.broadcast_arrays(one, first, second)), axis=0)
    return 3 * np.einsum("j,k,ijk->i", p, p, np.exp(one - total))


def _enumerated(reward: np.ndarray, p: np.ndarray, beta: float, k: int) -> np.ndarray:
    """H_K by going through what the K-1 others may be; at β=∞, 1/(1 + ties) of winning a tie."""
    ends = itertools.combinations(range(k + len(p) - 2), len(p) - 1)
    bars = np.array([[-1, *end, k + len(p) - 2] for end in ends])
    others = np.diff(bars, axis=1) - 1  # how many of them are on each level
    ways = [math.factorial(k - 1) // math.prod(map(math.factorial, n)) for n in others.tolist()]
    likelihood = np.array(ways) * np.prod(p**others, axis=1)
    density = []
    for i, level in enumerate(reward):
        if math.isinf(beta):
            wins = ~others[:, i + 1 :].any(1) / (1 + others[:, i])
        else:
            candidates = others + (np.arange(len(p)) == i)
            wins = np.exp(-logsumexp(beta * (reward - level), b=candidates, axis=1))
        density.append(k * (likelihood * wins).sum())
    return np.array(density)


# --- H_K against sums


@pytest.mark.parametrize(("low", "high"), [(-50, 0), (-50, 50), (0, 50), (-1, 0), (-0.01, 0)])
def test_two_and_three_candidates_select_as_their_sums_say(low, high):
    rng = np.random.default_rng(0)
    for _ in range(20):
        reward = low + _levels(rng, 40, high - low)
        p = _weights(rng, 40)
        for k, expected in ((2, _pairs(reward, p, 1.0)), (3, _triples(reward, p, 1.0))):
            found = selection_density(reward, p, 1.0, k)
            assert np.abs(found / expected - 1).max() < PROMISED


@pytest.mark.parametrize("span", [0.0, 1e-9, 1e-3, 0.5, 3.0, 10.0, 30.0, 60.0, 79.0])
def test_two_levels_select_as_their_sum_says_however_far_apart(span):
    reward = np.array([-1e-12 - span, 0.0])
    for rare in (0.5, 1e-3, 1e-9, 1e-15):
        for p in (np.array([rare, 1 - rare]), np.array([1 - rare, rare])):
            found = selection_density(reward, p, 1.0, 2)
            assert np.abs(found / _pairs(reward, p, 1.0) - 1).max() < PROMISED


@pytest.mark.parametrize("k", [2, 3, 16, 1024])
def test_levels_further_apart_than_any_choice_resolves_lose_for_certain(k):
    """Beyond a gap of 80 the lower level's H is wrong by a factor, but no more than e^-80 K/p."""
    for gap in (81.0, 200.0, 1e4):
        low, high = selection_density(np.array([-gap, 0.0]), np.array([0.5, 0.5]), 1.0, k)
        # Against its own kind alone, 1 of K with probability ½^(K-1).
        assert low == pytest.approx(0.5 ** (k - 1), rel=PROMISED, abs=k * math.exp(-80) / 0.5)
        assert high == pytest.approx(2 - 0.5 ** (k - 1), rel=PROMISED)


@pytest.mark.parametrize("span", [0.3, 5.0, 100.0])
@pytest.mark.parametrize("k", [2, 4, 7, 16])
def test_many_candidates_select_as_the_enumeration_says(k, span):
    rng = np.random.default_rng(k)
    for _ in range(3):
        reward, p = _levels(rng, 4, span), _weights(rng, 4)
        found = selection_density(reward, p, 1.0, k)
        assert np.abs(found / _enumerated(reward, p, 1.0, k) - 1).max() < PROMISED


@pytest.mark.parametrize("beta", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("k", [4, 16])
def test_selection_is_the_expectation_that_defines_it(k, beta):
    draws = 100_000
    rng = np.random.default_rng(k)
    reward, p = np.array([-1.0, -0.6, -0.5, -0.1, 0.0]), np.array([0.3, 0.1, 0.25, 0.3, 0.05])
    weight = np.exp(beta * reward)
    others = rng.multinomial(k - 1, p, size=draws) @ weight
    found = selection_density(reward, p, beta, k)
    for level in range(5):
        values = k * weight[level] / (weight[level] + others)
        # Of 30 comparisons in all, one beyond 5.5 standard errors by chance: 1e-6.
        assert abs(values.mean() - found[level]) < 5.5 * values.std() / math.sqrt(draws)


# --- what holds for every K and β


GRID = list(itertools.product([1, 2, 3, 7, 16, 1024, INF], [0, 0.3, 5.0, 50.0, 1e4, 1e9, INF]))


@pytest.mark.parametrize(("k", "beta"), GRID)
def test_selection_is_a_density_below_k_that_ascends_with_the_reward(k, beta):
    rng = np.random.default_rng(0)
    for count in (1, 2, 300):
        reward = np.sort(rng.uniform(-1, 0, count))
        p = _weights(rng, count)
        density = selection_density(reward, p, beta, k)
        assert np.isfinite(density).all()
        # An error of 6e-13 at each level, and at the worst K roundings of the power L^{K-1}.
        assert abs(p @ density - 1) < 1e-12 + min(k, 1024) * 1e-15
        assert density.min() >= 0 and density.max() <= k * (1 + RULE)
        assert (np.diff(density) >= -RULE * density[1:]).all()
        if count > 1 and k > 1 and 0 < beta <= 50:
            assert density[0] > 0 and (np.diff(density) > 0).all()


@pytest.mark.parametrize("beta", [0.0, 0.5, 9.0, INF])
def test_one_candidate_and_zero_beta_select_nothing(beta):
    rng = np.random.default_rng(0)
    reward, p = _levels(rng, 30, 1.0), _weights(rng, 30)
    assert (selection_density(reward, p, beta, 1) == 1).all()
    for k in (2, 16, INF):
        assert (selection_density(reward, p, 0.0, k) == 1).all()


@pytest.mark.parametrize("k", [1, 2, 16, INF])
@pytest.mark.parametrize("beta", [0.5, 20.0, INF])
def test_adding_a_constant_to_the_rewards_changes_nothing(k, beta):
    rng = np.random.default_rng(0)
    reward = np.unique(rng.integers(-64, 64, 50)) / 64  # exact, as is the sum
    p = _weights(rng, len(reward))
    found = selection_density(reward + 1024, p, beta, k)
    assert np.array_equal(found, selection_density(reward, p, beta, k))


@pytest.mark.parametrize("k", [1, 2, 16, INF])
@pytest.mark.parametrize("factor", [1e-3, 3.0, 1e4])
def test_only_the_product_of_beta_and_reward_matters(k, factor):
    rng = np.random.default_rng(0)
    reward, p = -_levels(rng, 50, 1.0)[::-1], _weights(rng, 50)
    for beta in (0.5, 20.0):
        found = selection_density(factor * reward, p, beta / factor, k)
        # Log-weights to 20, rounded differently: 20 · 2e-16 each.
        expected = selection_density(reward, p, beta, k)
        assert np.allclose(found, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("k", [2, 16, INF])
def test_a_level_split_in_two_nearly_equal_ones_is_selected_as_one(k):
    rng = np.random.default_rng(0)
    reward, p = _levels(rng, 6, 1.0), _weights(rng, 6)
    gap = 1e-12  # far above the levels' rounding; moves log-weights by 2e-11 at most
    finer = np.sort(np.append(reward, reward - gap))
    parts = np.column_stack([0.3 * p, 0.7 * p]).ravel()
    for beta in (0.5, 20.0):
        found = selection_density(finer, parts, beta, k)
        expected = np.repeat(selection_density(reward, p, beta, k), 2)
        assert np.allclose(found, expected, rtol=1e-10, atol=0)
    # At β=∞ any gap decides between the parts, but not between them and others.
    won = (parts * selection_density(finer, parts, INF, k)).reshape(6, 2).sum(1)
    assert np.allclose(won, p * selection_density(reward, p, INF, k), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3, 16, INF])
@pytest.mark.parametrize("beta", [0.5, 50.0, 1e9, INF])
def test_levels_without_weight_change_nothing_for_the_others(k, beta):
    rng = np.random.default_rng(0)
    reward = _levels(rng, 12, 1.0) - 1
    present = np.array([0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0], dtype=bool)
    p = np.zeros(12)
    p[present] = _weights(rng, 5)
    found = selection_density(reward, p, beta, k)
    assert np.isfinite(found).all() and (found >= 0).all()
    alone = selection_density(reward[present], p[present], beta, k)
    # Of β=10⁹, the levels' rounding moves log-weights by less than the gaps' millionth.
    assert np.allclose(found[present], alone, rtol=RULE, atol=1e-30)


def test_levels_without_weight_are_rated_against_those_that_have_some():
    reward, p = np.array([-2.0, -1.0, -0.5, 0.0]), np.array([0, 0.6, 0.4, 0])
    for beta in (0.5, 20.0):
        found = selection_density(reward, p, beta, 2)
        assert np.allclose(found, _pairs(reward, p, beta), rtol=PROMISED)
    # Best of three: F³ - F_-³ of 0.6 and 1 over the weight, and certain above all that is there.
    expected = [0, 0.6**3 / 0.6, (1 - 0.6**3) / 0.4, 3]
    assert np.allclose(selection_density(reward, p, INF, 3), expected, rtol=1e-14)


# --- limits of H_K


@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_selection_approaches_that_of_infinite_k_as_its_reciprocal(beta):
    """By the delta method on 1/mean: K (H_K - H_∞) → w(μ-w)/μ² + wσ²/μ³, with an error of 1/K."""
    rng = np.random.default_rng(0)
    reward, p = _levels(rng, 30, 1.0) - 1, rng.dirichlet(np.ones(30))
    weight = np.exp(beta * reward)
    mean = p @ weight
    variance = p @ (weight - mean) ** 2
    rate = weight * (mean - weight) / mean**2 + weight * variance / mean**3
    many = selection_density(reward, p, beta, INF)
    assert np.allclose(many, weight / mean, rtol=1e-13)
    off = []
    for k in (64, 128, 256, 512):
        error = selection_density(reward, p, beta, k) - many
        off.append(np.abs(k * error - rate).max())
    assert np.abs(rate).max() > 0.05
    assert off[0] < 0.1 * np.abs(rate).max()
    # K times the error is rate + c/K + O(1/K²): the rest halves, but for some 1/K of it.
    for one, other in itertools.pairwise(off):
        assert one / other == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("k", [2, 3, 16])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_infinite_beta_selects_as_the_enumeration_says(k, count):
    rng = np.random.default_rng(k)
    for _ in range(5):
        reward, p = np.sort(rng.normal(size=count)), _weights(rng, count)
        found = selection_density(reward, p, INF, k)
        # Levels of weight 1e-30 under others: 1 - (1 - p)^K to 1e-16 of p.
        assert np.allclose(found, _enumerated(reward, p, INF, k), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("k", [2, 3, 16, INF])
def test_large_beta_approaches_infinite_beta(k):
    rng = np.random.default_rng(0)
    reward, p = np.array([-3.0, -2.0, -1.2, 0.0]), rng.dirichlet(np.ones(4))
    best = selection_density(reward, p, INF, k)
    # A lower candidate beats a higher one with odds of e^{-0.8β}; K/p of them at most.
    for beta in (20.0, 40.0):
        found = selection_density(reward, p, beta, k)
        slip = min(k, 1 / p.min()) ** 2 / p.min() * math.exp(-0.8 * beta)
        assert np.abs(found - best).max() < slip + RULE * best.max()


def test_infinite_k_and_beta_select_the_best_that_is_present():
    reward = np.array([0.0, 1.0, 2.0, 3.0])
    found = selection_density(reward, np.array([0.5, 0.3, 0.2, 0.0]), INF, INF)
    assert found.tolist() == [0, 0, 1 / 0.2, 0]


@pytest.mark.parametrize("beta", [0.0, 0.7, 40.0, INF])
def test_every_point_of_a_group_is_selected_as_it_is_alone(beta):
    rng = np.random.default_rng(0)
    reward = _levels(rng, 200, 1.0)
    k = np.array([1, 2, 7, 16, INF, 2])
    laws = np.column_stack([_weights(rng, 200) for _ in k])
    together = selection(reward, beta, k)(laws)
    for point, candidates in enumerate(k):
        alone = selection_density(reward, laws[:, point], beta, candidates)
        # The rule begins where the largest K needs it to: an error of its own each time.
        assert np.allclose(together[:, point], alone, rtol=RULE, atol=1e-300)


def test_log_weights_are_at_most_zero_and_never_nan():
    reward = np.array([-1e30, -1.0, 1e30])
    assert log_weights(reward, 0.0).tolist() == [0, 0, 0]
    assert log_weights(reward, INF).tolist() == [-INF, -INF, 0]
    assert log_weights(np.array([1.0, 3.0]), 0.5).tolist() == [-1, 0]


# --- the population map


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, INF])
@pytest.mark.parametrize(("k", "chosen"), [(2, _pairs), (3, _triples)])
def test_populations_follow_the_map(k, chosen, lam):
    rng = np.random.default_rng(0)
    reward, reference, initial = _levels(rng, 20, 1.0), _weights(rng, 20), _weights(rng, 20)
    beta, share = 3.0, {0.0: 0.0, 0.3: 3 / 13, 1.0: 1 / 2, INF: 1.0}[lam]
    law = initial
    laws = population(reward, initial, reference, beta, np.array([lam]), np.array([k]))
    for iteration, (found, kept) in zip(range(8), laws, strict=False):
        # Errors of the rule add up over iterations, each multiplied by less than K.
        tolerance = RULE * sum(k**i for i in range(iteration + 1))
        assert np.abs(found[:, 0] - law).max() < tolerance
        expected = law * chosen(reward, law, beta)
        assert np.abs(kept[:, 0] - expected).max() < k * tolerance
        law = (1 - share) * reference + share * expected


@pytest.mark.parametrize("beta", [0.5, 20.0, INF])
def test_populations_stay_laws_for_hundreds_of_iterations(beta):
    rng = np.random.default_rng(0)
    reward, reference = _levels(rng, 50, 1.0), _weights(rng, 50)
    lam, k = np.array([0.3, 1, INF, INF, INF]), np.array([16, 16, 16, 1, INF])
    laws = population(reward, reference, reference, beta, lam, k)
    for found, kept in itertools.islice(laws, 201):
        for law in (found, kept):
            assert (law >= 0).all()
            assert np.abs(law.sum(0) - 1).max() < 1e-14  # 50 summands of a law that was normalised


def test_points_of_a_group_go_where_they_go_alone():
    rng = np.random.default_rng(0)
    reward, reference, initial = _levels(rng, 30, 1.0), _weights(rng, 30), _weights(rng, 30)
    lam, k = np.array([0.3, INF, 0, 1, 1]), np.array([2, 3, 2, INF, 1])
    together = itertools.islice(population(reward, initial, reference, 4.0, lam, k), 6)
    alone = [
        itertools.islice(population(reward, initial, reference, 4.0, lam[[i]], k[[i]]), 6)
        for i in range(5)
    ]
    for (laws, kept), *singles in zip(together, *alone, strict=True):
        for point, (law, its_kept) in enumerate(singles):
            assert np.abs(laws[:, point] - law[:, 0]).max() < 3**6 * RULE
            assert np.abs(kept[:, point] - its_kept[:, 0]).max() < 3**6 * RULE


def test_the_share_of_kept_samples_is_lambda_over_one_plus_lambda():
    found = synthetic_share(np.array([0.0, 0.25, 1.0, 4.0, INF]))
    assert found.tolist() == pytest.approx([0, 0.2, 0.5, 0.8, 1], abs=1e-15)


# --- limits


@pytest.mark.parametrize("k", [2, 3, 16, INF])
@pytest.mark.parametrize("beta", [1.0, 20.0, INF])
def test_without_real_data_the_law_ends_on_the_top_level(k, beta):
    """Theorem 2.1: KL(p* ‖ p_t) descends to 0, p* being p_0 on its highest level."""
    reward = np.array([-2.0, -1.0, -0.3, 0.0, 1.0])
    initial = np.array([0.3, 0.25, 0.4, 0.05, 0.0])  # the highest is one that p_0 lacks
    top = limit(reward, initial, np.full(5, 0.2), beta, INF, k)
    assert top is not None
    assert top.tolist() == [0, 0, 0, 1, 0]
    laws = population(reward, initial, np.full(5, 0.2), beta, np.array([INF]), np.array([k]))
    found = [float(kl_divergence(top, law[:, 0])) for law, _ in itertools.islice(laws, 200)]
    assert found[0] == pytest.approx(math.log(20))
    # Rounding of a mass near 1; 0.3 below the top H_2 is at most 0.86, and 0.86^200 is 1e-13.
    assert (np.diff(found) < 1e-15).all() and abs(found[-1]) < 1e-11


@pytest.mark.parametrize("beta", [0.3, 2.0, 30.0, INF])
@pytest.mark.parametrize("lam", [0.1, 1.0, 10.0])
def test_the_fixed_point_is_where_infinite_k_goes(beta, lam):
    rng = np.random.default_rng(0)
    point = np.array([lam]), np.array([INF])
    for _ in range(3):
        # Every level has a share of 1/25 at least, but one that has none.
        reward, reference = _levels(rng, 7, 1.0), 1 / 25 + 19 / 25 * rng.dirichlet(np.ones(6))
        reference = np.insert(reference, rng.integers(0, 7), 0)
        found = fixed_point(reward, reference, beta, lam)
        assert found.sum() == pytest.approx(1, abs=1e-13) and (found >= 0).all()
        assert np.array_equal(found == 0, reference == 0)
        _, (after, _) = itertools.islice(population(reward, found, reference, beta, *point), 2)
        assert np.abs(after[:, 0] - found).max() < 1e-13
        # A level's distance shrinks by 1 - p_ref/(p(1+λ)) ≤ 1 - 1/(25(1+λ)), so by e^-29 in all.
        steps = math.ceil(29 * 25 * (1 + lam))
        for initial in (reference, np.where(reference > 0, 1 / 6, 0)):
            laws = population(reward, initial, reference, beta, *point)
            end, _ = next(itertools.islice(laws, steps, None))
            assert np.abs(end[:, 0] - found).max() < 1e-11


@pytest.mark.parametrize("reference", [(1.0, 0.0, 0.0), (0.2, 0.8, 0.0), (0.5, 0.5, 1e-9)])
def test_no_fixed_point_counts_that_is_not_where_the_map_goes(reference):
    """A level that p_0 has above all of p_ref's may persist: at K=∞, if w ≥ (1+1/λ) E[w]."""
    reward, initial = np.array([-1.0, -0.9, 0.0]), np.array([0.2, 0.3, 0.5])
    reference = np.array(reference) / sum(reference)
    found = limit(reward, initial, reference, 2.0, 3.0, INF)
    laws = population(reward, initial, reference, 2.0, np.array([3.0]), np.array([INF]))
    end, _ = next(itertools.islice(laws, 3000, None))
    assert found is None or np.abs(end[:, 0] - found).max() < 1e-6


def test_limits_are_given_where_they_are_known_and_nowhere_else():
    rng = np.random.default_rng(0)
    reward, initial, reference = _levels(rng, 9, 1.0), _weights(rng, 9), _weights(rng, 9)

    def end(beta: float, lam: float, k: float) -> np.ndarray | None:
        return limit(reward, initial, reference, beta, lam, k)

    for beta, k in itertools.product([0, 0.5, INF], [1, 2, INF]):
        assert end(beta, 0, k) is reference
    for lam in (0.5, 1.0, 20.0):
        for beta, k in ((0.5, 1), (INF, 1), (0, 2), (0, INF)):
            assert end(beta, lam, k) is reference
        for beta, k in itertools.product([0.5, INF], [2, 3, 16]):
            assert end(beta, lam, k) is None
        for beta in (0.5, INF):
            expected = fixed_point(reward, reference, beta, lam)
            found = end(beta, lam, INF)
            assert found is not None and np.array_equal(found, expected)
    for beta, k in ((0.5, 1), (INF, 1), (0, 2), (0, INF)):
        assert end(beta, INF, k) is initial
    for beta, k in itertools.product([0.5, INF], [2, 16, INF]):
        found = end(beta, INF, k)
        assert found is not None and found.tolist() == [0] * 8 + [1]


@pytest.mark.parametrize(
    "case", [(0.5, 0, 2), (0.5, 0.7, 1), (0, 0.7, 3), (2, 0.7, INF), (9, INF, 2)]
)
def test_the_map_goes_to_the_limit(case):
    rng = np.random.default_rng(0)
    beta, lam, k = case
    reward, initial, reference = _levels(rng, 9, 1.0), _weights(rng, 9), _weights(rng, 9)
    laws = population(reward, initial, reference, beta, np.array([lam]), np.array([k]))
    law, _ = next(itertools.islice(laws, 1000, None))
    found = limit(reward, initial, reference, beta, lam, k)
    assert found is not None
    assert np.abs(law[:, 0] - found).max() < 1e-11


# --- divergences


def test_divergences_are_their_sums():
    p, q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([0.25, 0.5, 0.25])
    expected = [0.5 * math.log(2), 0.2 * math.log(0.8) + 0.3 * math.log(0.6) + 0.5 * math.log(2)]
    assert kl_divergence(p, q).tolist() == pytest.approx(expected, rel=1e-14)
    assert kl_divergence(q, p[0]) == INF
    assert kl_divergence(q, q) == 0


# --- bounds on random laws from p_0 = p_ref


KS = [1, 2, 3, 5, 16, INF]
LAMS = [0.0, 0.02, 0.2, 0.6, 1.0, 3.0, INF]
POINTS = list(itertools.product(LAMS, KS))
TINY = 1e-11  # Of E[w]/w*, of KL in nats and, relatively, of ratios: the rule's error times K.


def _instances(count: int, seed: int) -> Iterator[tuple]:
    """Random laws: their w/w*, p_ref, and p_0 ... p_5 `(6, L, P)` at every point of POINTS."""
    rng = np.random.default_rng(seed)
    lam, k = (np.array(column, dtype=float) for column in zip(*POINTS, strict=True))
    for _ in range(count):
        size = int(rng.integers(2, 9))
        reward, reference = np.sort(rng.normal(size=size)), _weights(rng, size)
        beta = float(10 ** rng.uniform(-2, 2)) if rng.random() < 0.9 else INF
        laws = population(reward, reference, reference, beta, lam, k)
        found = np.array([law for law, _ in itertools.islice(laws, 6)])
        yield np.exp(log_weights(reward, beta)), reference, found


def _moments(weight: np.ndarray, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[w] and Var[w] of laws `(..., L)`."""
    mean = laws @ weight
    return mean, (laws * (weight - mean[..., None]) ** 2).sum(-1)


def test_no_law_violates_a_bound():
    checked = 0
    for weight, reference, laws in _instances(1000, seed=0):
        expected, spread = _moments(weight, reference)
        for (lam, k), path in zip(POINTS, laws.transpose(2, 0, 1), strict=True):
            mean, variance = _moments(weight, path)
            if math.isinf(lam):
                for now, var, after in zip(mean, variance, mean[1:], strict=False):
                    assert after >= lemma_2_2(now, var, k) - TINY
            else:
                assert (
                    mean[1:] >= theorem_2_3(float(expected), float(spread), lam, k) - TINY
                ).all()
                # What our sketch of its proof gives: a square where the paper has a cube.
                assert (
                    mean[1:] >= expected + lam / (1 + lam) ** 2 * (1 - 1 / k) * spread - TINY
                ).all()
            ratio, divergence = largest_ratio(lam, k), theorem_2_4(lam, k)
            assert (ratio is None) == (divergence is None)
            if ratio is not None and divergence is not None:
                assert (path <= reference * ratio * (1 + TINY)).all()
                assert (kl_divergence(path, reference) <= divergence + TINY).all()
                assert (mean <= ratio * expected + TINY).all()
            checked += 1
    assert checked == 1000 * len(POINTS)


def test_lemma_2_2_holds_from_any_initial_law():
    rng = np.random.default_rng(0)
    for _ in range(300):
        reward = np.sort(rng.normal(size=5))
        beta, k = float(10 ** rng.uniform(-2, 2)), float(rng.choice(KS))
        path = _path(reward, _weights(rng, 5), _weights(rng, 5), beta, INF, k, 4)
        mean, variance = _moments(np.exp(log_weights(reward, beta)), path)
        for now, var, after in zip(mean, variance, mean[1:], strict=False):
            assert after >= lemma_2_2(now, var, k) - TINY


def _path(
    reward: np.ndarray,
    initial: np.ndarray,
    reference: np.ndarray,
    beta: float,
    lam: float,
    k: float,
    iterations: int,
) -> np.ndarray:
    """p_0 to p_T `(T+1, L)` of one point."""
    laws = population(reward, initial, reference, beta, np.array([lam]), np.array([k]))
    return np.array([law[:, 0] for law, _ in itertools.islice(laws, iterations + 1)])


@pytest.mark.parametrize("k", [2, 5, INF])
def test_gains_come_near_to_those_that_lemma_2_2_and_theorem_2_3_promise(k):
    """For w near w* throughout, as at small β, the proofs lose little; so the bounds are sharp."""
    reward, reference = np.array([-1.0, -0.5, 0.0]), np.array([0.3, 0.3, 0.4])
    beta = 0.01
    weight = np.exp(beta * reward)
    mean, variance = _moments(weight, _path(reward, reference, reference, beta, INF, k, 3))
    pairs = zip(mean[:-1].tolist(), variance[:-1].tolist(), strict=True)
    promised = np.array([lemma_2_2(now, var, k) - now for now, var in pairs])
    assert (np.diff(mean) > promised).all()
    # w/w* is at least 1-β, and the proof replaces it by 1.
    assert (np.diff(mean) < promised * (1 + 2 * beta)).all()
    lam = 0.01
    mean, variance = _moments(weight, _path(reward, reference, reference, beta, lam, k, 3))
    promised = theorem_2_3(mean[0], variance[0], lam, k) - mean[0]
    assert (mean[1:] - mean[0] > promised).all()
    # At t=1 the share is λ/(1+λ), which is (1+λ)² of the bound's; at t→∞ λ: (1+λ)³.
    assert (mean[1:] - mean[0] < promised * (1 + lam) ** 3 * (1 + 2 * beta)).all()


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_ratio_comes_near_to_its_bound_where_the_best_are_rare(k):
    """At β=∞ a rare best level grows K-fold; Kρλ/(1+λ) + 1/(1+λ) = ρ has ρ = 1/(1-λ(K-1))."""
    reward, reference = np.array([-1.0, 0.0]), np.array([1 - 1e-6, 1e-6])
    for load in (0.1, 0.5, 0.9):
        lam = load / (k - 1)
        path = _path(reward, reference, reference, INF, lam, k, 300)
        ratio = float((path / reference).max())
        bound = largest_ratio(lam, k)
        assert bound is not None
        # A share p of the best competes with itself: relative losses of Kp, p ≤ 10⁻⁵, and of
        # what such a loss does to 1/(1-load), which is at most 10 times it.
        assert bound * (1 - 10 * k * 1e-5) < ratio < bound


def test_without_its_condition_theorem_2_4_has_nothing_to_say():
    """At λ(K-1) = 2 the divergence exceeds any limit, for best samples that are rare enough."""
    found = []
    for rare in (1e-2, 1e-4, 1e-6, 1e-8):
        reference = np.array([1 - rare, rare])
        path = _path(np.array([-1.0, 0.0]), reference, reference, INF, 1.0, 3, 200)
        found.append(float(kl_divergence(path, reference).max()))
    # The share of the best grows to one that does not depend on how rare it was: p log 1/rare.
    assert (np.diff(found) > 1).all()
    assert theorem_2_4(1.0, 3) is None and largest_ratio(1.0, 3) is None


def test_theorems_2_3_and_2_4_need_p_0_to_be_the_real_law():
    reward, reference = np.array([-1.0, 0.0]), np.array([0.5, 0.5])
    beta, lam, k = 2.0, 0.5, 2
    weight = np.exp(beta * reward)
    expected, spread = _moments(weight, reference)
    low = _path(reward, np.array([0.999, 0.001]), reference, beta, lam, k, 1)
    assert low[1] @ weight < theorem_2_3(float(expected), float(spread), lam, k) - 0.05
    reference = np.array([0.01, 0.99])
    far = _path(reward, np.array([0.999, 0.001]), reference, beta, lam, k, 1)
    ratio, divergence = largest_ratio(lam, k), theorem_2_4(lam, k)
    assert ratio is not None and divergence is not None
    assert kl_divergence(far[1], reference) > divergence + 0.1
    assert (far[1] / reference).max() > 10 * ratio


def test_bounds_have_the_values_of_their_formulas():
    assert lemma_2_2(0.3, 0.1, 2) == pytest.approx(0.35)
    assert lemma_2_2(0.3, 0.1, INF) == pytest.approx(0.4)
    assert lemma_2_2(0.3, 0.1, 1) == 0.3
    assert theorem_2_3(0.3, 0.1, 1.0, 2) == pytest.approx(0.3 + 0.05 / 8)
    assert theorem_2_3(0.3, 0.1, 0.5, INF) == pytest.approx(0.3 + 0.05 / 1.5**3)
    assert theorem_2_3(0.3, 0.1, 0.0, 4) == 0.3
    assert theorem_2_4(0.5, 2) == pytest.approx(math.log(2))
    assert theorem_2_4(0.1, 4) == pytest.approx(-math.log(0.7))
    assert largest_ratio(0.1, 4) == pytest.approx(1 / 0.7)
    for k in (1, 2, 16, INF):
        assert (largest_ratio(0.0, k), theorem_2_4(0.0, k)) == (1, 0)
    for lam in (0.5, 30.0):
        assert (largest_ratio(lam, 1), theorem_2_4(lam, 1)) == (1, 0)
    for lam, k in ((1.0, 2), (0.5, 3), (0.4, 4), (0.01, INF), (INF, 2), (INF, 1)):
        assert largest_ratio(lam, k) is None and theorem_2_4(lam, k) is None


LEVELS = np.sort(np.random.default_rng(11).random(60))
REFERENCE = np.random.default_rng(12).dirichlet(np.ones(60))


@pytest.mark.parametrize("lam", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_iterating_comes_to_the_fixed_point_where_a_formula_has_it(beta, lam):
    given = LEVELS, REFERENCE[:, None], REFERENCE, beta, np.array([lam]), np.array([math.inf])
    expected = fixed_point(LEVELS, REFERENCE, beta, lam)
    assert np.abs(converge(*given)[:, 0] - expected).sum() / 2 < 2 * TOLERANCE


def test_a_limit_without_a_formula_is_mapped_to_itself():
    lam, k = np.array([0.2, 1.0, 3.0]), np.array([2.0, 8.0, 3.0])
    start = np.repeat(REFERENCE[:, None], 3, 1)
    ends = converge(LEVELS, start, REFERENCE, 4.0, lam, k)
    for i in range(3):
        chosen = ends[:, i] * selection_density(LEVELS, ends[:, i], 4.0, k[i])
        share = lam[i] / (1 + lam[i])
        again = (1 - share) * REFERENCE + share * chosen / chosen.sum()
        assert np.abs(again - ends[:, i]).sum() / 2 < TOLERANCE


def test_a_limit_that_is_too_far_is_not_told():
    """Without a taste and with hardly any real data a law moves back by a thousandth at a time."""
    start = np.zeros((60, 2))
    start[:10] = 0.1
    lam = np.array([10_000.0, 1.0])
    ends = converge(LEVELS, start, REFERENCE, 0.0, lam, np.array([2.0, 2.0]))
    assert np.isnan(ends[:, 0]).all()
    assert np.abs(ends[:, 1] - REFERENCE).sum() / 2 < TOLERANCE
