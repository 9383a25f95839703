"""Several kinds of pickers in theory: against sums written out here, and the papers' limits."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.point import PointConfig
from luceloop.core.config.users import Picker
from luceloop.core.data.eight_gaussians import EightGaussiansConfig
from luceloop.core.errors import ConfigError
from luceloop.core.theory import mixture
from luceloop.core.theory.bounds import applicable, largest_ratio
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.mixture import curation
from luceloop.core.theory.opinions import Opinions
from luceloop.core.theory.population import limit, population

INF = math.inf
OPPOSITE = [{"reward": {"mode": 0}}, {"reward": {"mode": 4}}]


def _point(curation: dict[str, Any], **keys: Any) -> PointConfig:
    plain = {
        "name": "users",
        "data": {"name": "eight_gaussians"},
        "learner": {"name": "empirical"},
        "iterations": 8,
        "curation": curation,
    }
    return parse_config(plain | keys).point


def _users(first: float, k: float = 2, **keys: Any) -> PointConfig:
    """Two users with opposite tastes, the first of whom makes a share of the choices."""
    weights = [first, 1 - first]
    users = [user | {"weight": w} for user, w in zip(OPPOSITE, weights, strict=True)]
    return _point({"beta": 10, "k": k, "users": users}, **keys)


def _forecast(point: PointConfig, law: RewardLaw | None = None) -> Forecast:
    [found] = forecast([point], None if law is None else [law])
    return found


# --- the map, against sums over all groups of candidates

JOINT = np.array([[-3.0, 0.5], [-2.0, 0.0], [-2.0, 1.5], [-0.5, -1.0], [0.0, 0.25]])
LAW = np.array([0.3, 0.1, 0.2, 0.25, 0.15])
PICKERS = [
    (Picker(0, 0.6, 1.7, 0), Picker(1, 0.4, 0.9, 1)),
    (Picker(0, 0.7, 2.0, 0), Picker(0, 0.3, -2.0, 0, errs=True)),
    (Picker(0, 0.5, INF, 0), Picker(1, 0.2, -INF, 1), Picker(2, 0.3, 0.0, 0)),
    (Picker(0, 1.0, -1.3, 1),),
]


def _by_hand(taste: tuple[Picker, ...], k: int) -> np.ndarray:
    """H_K at every level, by going through all groups of K candidates."""
    found = np.zeros(len(LAW))
    for group in itertools.product(range(len(LAW)), repeat=k):
        chance = LAW[list(group)].prod()
        for picker in taste:
            reward = JOINT[list(group), picker.reward]
            liked = reward if picker.beta >= 0 else -reward
            if math.isinf(picker.beta):
                weight = (liked == liked.max()).astype(float)
            else:
                weight = np.exp(abs(picker.beta) * (liked - liked.max()))
            np.add.at(found, list(group), picker.share * chance * weight / weight.sum())
    return found / LAW


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("taste", PICKERS, ids=lambda taste: f"{len(taste)} from {taste[0].beta}")
def test_the_density_is_that_of_all_groups_of_candidates(taste, k):
    density = curation(JOINT, taste, np.array([float(k)]))(LAW[:, None])[:, 0]
    assert density == pytest.approx(_by_hand(taste, k), rel=1e-9)
    assert density @ LAW == pytest.approx(1, abs=1e-12)


def test_infinitely_many_candidates_are_drawn_by_every_users_weights():
    taste = PICKERS[0]
    expected = sum(
        each.share * (w := np.exp(each.beta * JOINT[:, each.reward])) / (w @ LAW) for each in taste
    )
    density = curation(JOINT, taste, np.array([INF]))(LAW[:, None])[:, 0]
    assert density == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [2, 5, INF])
def test_a_beta_below_zero_likes_the_opposite_reward(k):
    reward, weights = np.sort(JOINT[:, 1]), LAW
    negative = curation(reward, -2.5, np.array([float(k)]))(weights[:, None])[:, 0]
    opposite = curation(-reward[::-1], 2.5, np.array([float(k)]))(weights[::-1, None])[:, 0]
    assert negative == pytest.approx(opposite[::-1], rel=1e-12)


def test_interpolation_on_nodes_is_as_good_as_all_levels(monkeypatch):
    """Cubic interpolation with the spacing h=0.1: errors of about 0.02 h⁴ = 2e-6 a step."""
    rng = np.random.default_rng(0)
    rewards = np.sort(-8 * rng.random((3000, 2)) ** 2, axis=0)
    rewards[:, 1] = rng.permutation(rewards[:, 1])
    taste = (Picker(0, 0.6, 9.0, 0), Picker(1, 0.3, 5.0, 1), Picker(1, 0.1, -5.0, 1, errs=True))
    uniform = np.full(3000, 1 / 3000)
    lam, k = np.array([INF, 1.0, INF]), np.array([2.0, 3.0, INF])

    def fifth() -> np.ndarray:
        laws = population(rewards, uniform, uniform, taste, lam, k)
        return next(itertools.islice(laws, 5, None))[0]

    on_nodes = fifth()
    monkeypatch.setattr(mixture, "EXACT_NODES", 10**6)
    assert np.abs(on_nodes - fifth()).sum(0).max() < 1e-5


def test_neighbours_in_rank_are_one_node_where_rewards_span_far(monkeypatch):
    rng = np.random.default_rng(0)
    rewards = np.column_stack([np.sort(rng.random(20_000)), rng.random(20_000)])
    taste, uniform = (Picker(0, 0.5, 1e5, 0), Picker(1, 0.5, 1e5, 1)), np.full((20_000, 1), 5e-5)
    density = curation(rewards, taste, np.array([3.0]))(uniform)
    best = curation(rewards, [Picker(0, 0.5, INF, 0), Picker(1, 0.5, INF, 1)], np.array([3.0]))
    assert (density * uniform).sum() == pytest.approx(1, abs=1e-9)
    assert np.abs(density - best(uniform)).mean() < 2e-3  # of ties among 8,192 groups


# --- what pluralistic loops come to

SHARES = {0.5: (0.5, 0.5), 0.7: (0.7, 0.3)}


@pytest.mark.parametrize("first", SHARES)
def test_without_real_data_modes_get_the_shares_of_those_who_like_them(first):
    """K=∞: disjoint tastes keep the users' shares (Cover 1984)."""
    found = _forecast(_users(first, INF, iterations=10))
    ends = [found.curves[f"class_fraction/{mode}"][-1] for mode in (0, 4)]
    assert ends == pytest.approx(SHARES[first], abs=1e-3)


def _two_basins(first: float, k: int) -> float:
    """The stable s = (1-q)(1-(1-s)^K) + q s^K that iterating from s = 1/2 comes to."""
    share = 0.5
    for _ in range(5000):
        share = (1 - first) * (1 - (1 - share) ** k) + first * share**k
    return share


@pytest.mark.parametrize(("k", "end"), [(2, 0), (3, 0), (4, 0.1213), (8, 0.2778), (20, 0.2998)])
def test_a_minoritys_basin_survives_where_k_times_its_share_exceeds_one(k, end):
    assert _two_basins(0.7, k) == pytest.approx(end, abs=1e-4)
    assert (k * 0.3 > 1) == (end > 0)
    # Two hard basins: levels that one user likes alone, at a β that decides every choice.
    law = RewardLaw.of(np.array([[0.0, -1.0], [-1.0, 0.0]]), None, 0, 0.0)
    users = [{"weight": 0.7, "reward": {"mode": 0}}, {"weight": 0.3, "reward": {"mode": 4}}]
    point = _point({"k": k, "beta": 500, "users": users}, iterations=300)
    assert -_forecast(point, law).curves["reward_mean/0"][-1] == pytest.approx(end, abs=2e-4)


@pytest.mark.parametrize("k", [4, 8, 20])
def test_eight_gaussians_come_close_to_two_hard_basins(k):
    share = _forecast(_users(0.7, k, iterations=40)).curves["class_fraction/4"][-1]
    assert share == pytest.approx(_two_basins(0.7, k), abs=1e-3)


FLIPS = {0.0: -0.001, 0.1: -0.006, 0.2: -0.116, 0.3: -0.812, 0.4: -2.69, 0.5: -5.43}
"""E[r] at t=8 on 20,000 points."""


@pytest.mark.parametrize("flip", FLIPS)
def test_errors_hold_the_reward_back(flip):
    """On 131,072 points; the masses of modes of 20,000 random ones have errors of 2 %."""
    found = _forecast(_point({"beta": 10, "flip": flip})).curves["reward_mean"][-1]
    assert found == pytest.approx(FLIPS[flip], abs=5e-4 + 0.03 * abs(FLIPS[flip]))


def test_pickers_who_err_as_often_as_not_change_nothing():
    """K=2: σ(βΔ) and σ(-βΔ) are 1 together, so H = 1 at φ = 1/2."""
    curve = _forecast(_point({"beta": 10, "flip": 0.5})).curves["reward_mean"]
    assert curve == pytest.approx(curve[0], abs=1e-9)


@pytest.mark.parametrize("lam", [1, INF])
def test_a_flip_is_an_adversary_with_that_share(lam):
    flipped = _forecast(_point({"beta": 3, "flip": 0.3}, lam=lam, iterations=3))
    users = [{"weight": 0.7, "beta": 3}, {"weight": 0.3, "beta": -3}]
    apart = _forecast(_point({"users": users}, lam=lam, iterations=3))
    for metric in ("reward_mean", "reward_kl", "class_entropy", "collective_utility"):
        assert flipped.curves[metric] == pytest.approx(apart.curves[metric], rel=1e-12), metric
    assert flipped.curves["flip_share"][0] == pytest.approx(0.3)
    assert apart.curves["choice_share/1"][0] == pytest.approx(0.3)


# --- users and one user


def test_one_user_alone_is_what_there_was_before():
    keys = {"lam": 1, "iterations": 4}
    plain = _forecast(_point({"beta": 7, "k": 3}, **keys))
    listed = _forecast(_point({"k": 3, "users": [{"beta": 7, "weight": 0.2}]}, **keys))
    assert (
        plain.curves.keys() == listed.curves.keys() and plain.bounds.keys() == listed.bounds.keys()
    )
    for name, curve in plain.curves.items():
        assert np.array_equal(curve, listed.curves[name], equal_nan=True)


def test_users_who_like_the_same_are_one():
    same = _forecast(_point({"beta": 4, "users": [{"weight": 1}, {"weight": 2}]}, iterations=4))
    alone = _forecast(_point({"beta": 4}, iterations=4))
    reward = same.curves["reward_mean"]
    # Laws are reduced in two ways, each to 1e-5 of the rewards' range.
    assert reward == pytest.approx(alone.curves["reward_mean"], abs=1e-4)
    assert same.curves["reward_mean/1"] == pytest.approx(reward)


def test_laws_reduced_from_both_ends_give_the_curves_of_all_levels(monkeypatch):
    point = _point({"beta": 10, "flip": 0.2}, iterations=5, lam=1)
    reduced = _forecast(point)
    monkeypatch.setattr("luceloop.core.theory.law.EXACT_LEVELS", 10**9)
    whole = _forecast(point)
    for metric, within in (("reward_mean", 1e-4), ("class_entropy", 1e-3), ("reward_kl", 1e-3)):
        assert reduced.curves[metric] == pytest.approx(whole.curves[metric], abs=within), metric


def test_a_beta_below_zero_goes_where_the_opposite_reward_is_highest():
    reward = np.array([-3.0, -2.0, 0.0])
    law = RewardLaw.of(np.repeat(reward, [2, 5, 3]), None, 0, 0.0)
    found = _forecast(_point({"beta": -2}, iterations=40), law)
    assert found.curves["reward_mean"][-1] == pytest.approx(-3, abs=1e-6)
    assert found.limit["reward_mean"] == -3
    assert "exp_reward_mean" not in found.curves and not found.bounds
    mixed = limit(reward, law.initial, law.reference, -2.0, 1.0, INF)
    opposite = limit(-reward[::-1], law.initial[::-1], law.reference[::-1], 2.0, 1.0, INF)
    assert mixed is not None and opposite is not None
    assert mixed == pytest.approx(opposite[::-1])


# --- collective utility and bounds


@pytest.mark.parametrize("seed", range(5))
def test_the_collective_utility_never_falls_at_infinitely_many_candidates(seed):
    """Cover's algorithm for log-optimal portfolios, for rewards and β of any kind."""
    rng = np.random.default_rng(seed)
    rewards = np.round(rng.normal(size=(200, 2)), 2)
    law = RewardLaw.of(rewards[np.argsort(rewards[:, 0])], None, 0, None)
    users = [
        {"weight": 0.6, "beta": 3, "flip": 0.2, "reward": {"mode": 0}},
        {"weight": 0.4, "beta": -2, "reward": {"mode": 1}},
    ]
    point = _point({"k": INF, "users": users}, iterations=30)
    utility = _forecast(point, law).curves["collective_utility"]
    assert (np.diff(utility) > -1e-12).all() and utility[-1] > utility[0] + 0.1


def test_it_may_fall_where_few_candidates_compete():
    """K=2: the majority takes the minority's basin, whose log utility goes to its least."""
    utility = _forecast(_users(0.7, 2, iterations=30)).curves["collective_utility"]
    assert utility[-1] < utility.max() - 1


def test_utilities_are_right_where_their_weights_vanish():
    reward = np.array([[-1000.0, 0.0], [0.0, -1000.0]])
    point = _point({"beta": 2, "users": OPPOSITE})
    laws = np.array([[1.0, 1e-4], [0.0, 1 - 1e-4]])
    found = Opinions(reward, [0.0, 0.0], point).of(laws)["collective_utility"]
    expected = [0.5 * -2000, 0.5 * (math.log1p(-1e-4) + math.log(1e-4))]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_theorem_2_4_holds_whoever_chooses(seed):
    rng = np.random.default_rng(seed)
    lam, k = 0.3, 3
    ratio = largest_ratio(lam, k)
    assert ratio is not None
    taste = (Picker(0, 0.7, 5.0, 0), Picker(1, 0.3, -4.0, 1))
    rewards, reference = np.sort(rng.normal(size=(60, 2)), 0), rng.dirichlet(np.ones(60))
    arguments = rewards, reference, reference, taste, np.array([lam]), np.array([float(k)])
    for law, _ in itertools.islice(population(*arguments), 30):
        assert (law[:, 0] / reference).max() <= ratio


def test_only_bounds_that_hold_are_given():
    assert applicable(INF, 2, 0.0, alike=False) == []
    assert applicable(0.5, 2, 0.0, alike=False) == ["theorem_2_4", "theorem_2_4_sup"]
    assert "theorem_2_3" in applicable(0.5, 2, 0.0)
    assert applicable(0.5, 2, None) == []
    found = _forecast(_users(0.7, 2, lam=0.5, iterations=4))
    assert found.bounds.keys() == {"theorem_2_4", "theorem_2_4_sup"}
    assert (found.curves["exp_reward_mean"][1:] <= found.bounds["theorem_2_4_sup"][1:]).all()
    assert (found.curves["reward_kl"][1:] <= found.bounds["theorem_2_4"][1:]).all()


# --- laws of several rewards


def test_a_joint_law_counts_samples_that_agree_in_all_rewards():
    reward = np.array([[1.0, 5.0], [0.0, 2.0], [1.0, 4.0], [1.0, 5.0]])
    law = RewardLaw.of(reward, np.array([0, 1, 1, 1]), 2, 1.0)
    assert law.rewards.tolist() == [[0, 2], [1, 4], [1, 5]]
    assert law.reference.tolist() == [0.25, 0.25, 0.5]
    assert law.classes.tolist() == [[0, 0.25], [0, 0.25], [0.25, 0.25]]
    measured = law.starting_from(np.array([[1.0, 4.0], [0.5, 9.0]]))
    assert measured.rewards.tolist() == [[0, 2], [0.5, 9], [1, 4], [1, 5]]
    assert measured.initial.tolist() == [0, 0.5, 0.5, 0]
    assert measured.reference.tolist() == [0.25, 0, 0.25, 0.5]


def test_a_joint_law_has_the_bins_of_its_first_reward():
    rng = np.random.default_rng(0)
    reward = rng.integers(0, 20, (2000, 2)).astype(float)
    joint, alone = RewardLaw.of(reward, None, 0, None), RewardLaw.of(reward[:, 0], None, 0, None)
    assert joint.edges.tolist() == alone.edges.tolist()
    assert joint.real_bins == pytest.approx(alone.real_bins)


def test_code_of_ones_own_has_no_forecast():
    with pytest.raises(ConfigError, match=r"curation\.kind.*no theory"):
        forecast([_point({"kind": "mine:top"})])


def test_rewards_of_all_users_make_the_law():
    data = EightGaussiansConfig().build()
    x = torch.cat(list(data.law_samples(cheap=False)))
    far = [
        (torch.linalg.vector_norm(x - data.modes[m].to(x), dim=1) - 1).clamp_min(0) for m in (0, 4)
    ]
    found = _forecast(_users(0.5))
    for user, distance in enumerate(far):
        mean = -float(distance.mean())
        assert found.curves[f"reward_mean/{user}"][0] == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_an_adversary_hides_no_metric_of_others_wherever_it_stands(order):
    users = [{"weight": 0.3, "beta": -5}, {"weight": 0.7, "beta": 5}][::order]
    curves = _forecast(_point({"users": users}, iterations=2)).curves
    picky = [user["beta"] for user in users].index(5)
    found = {name for name in curves if name.startswith("exp_reward_mean/")}
    assert found == {f"exp_reward_mean/{picky}"}
