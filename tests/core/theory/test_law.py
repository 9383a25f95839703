"""Laws of rewards: of data, with few levels that give the same curves, and from configurations."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from luceloop.core import rng as streams
from luceloop.core.data.base import CHUNK, QUASI_SAMPLE, SAMPLE
from luceloop.core.data.eight_gaussians import EightGaussiansConfig
from luceloop.core.data.two_moons import TwoMoonsConfig
from luceloop.core.errors import LoopError
from luceloop.core.theory.law import BINS, EXACT_LEVELS, FINE, RewardLaw
from luceloop.core.theory.population import population
from luceloop.core.theory.real_law import real_law

INF = math.inf
PROMISED = 1e-5  # of the range of a curve, in the docstring of `reduced`
PROMISED_OF_CLASSES = 2e-4


# --- laws of samples


def test_equal_rewards_are_one_level_with_the_weight_of_all_of_them():
    reward = np.array([0.5, -1.0, 0.5, 0.0, 0.5, -1.0, 0.0, 0.5])
    classes = np.array([0, 1, 2, 0, 0, 1, 2, 0])
    law = RewardLaw.of(reward, classes, 4, 1.0)
    assert law.reward.tolist() == [-1.0, 0.0, 0.5]
    assert law.reference.tolist() == [2 / 8, 2 / 8, 4 / 8]
    expected = [[0, 2, 0, 0], [1, 0, 1, 0], [3, 0, 1, 0]]
    assert (8 * law.classes).tolist() == expected
    assert law.starts_at_reference and law.supremum == 1.0


def test_data_without_classes_has_none_in_its_law():
    law = RewardLaw.of(np.array([0.0, 1.0]), None, 0, None)
    assert law.classes.shape == (2, 0) and law.supremum is None


def test_class_shares_sum_to_the_weights_of_levels():
    rng = np.random.default_rng(0)
    law = RewardLaw.of(rng.integers(0, 50, 1000) / 8, rng.integers(0, 5, 1000), 5, None)
    assert (np.diff(law.reward) > 0).all()
    assert law.reference.sum() == pytest.approx(1, abs=1e-14)
    assert np.allclose(law.classes.sum(1), law.reference, rtol=1e-13)


def test_a_measured_initial_law_has_the_levels_of_both():
    law = RewardLaw.of(np.array([0.0, 1.0, 1.0, 3.0]), np.array([0, 1, 1, 0]), 2, 3.0)
    measured = law.starting_from(np.array([2.0, 1.0, 0.5, 2.0, 2.0]))
    assert measured.reward.tolist() == [0.0, 0.5, 1.0, 2.0, 3.0]
    assert measured.reference.tolist() == [0.25, 0, 0.5, 0, 0.25]
    assert measured.initial.tolist() == pytest.approx([0, 0.2, 0.2, 0.6, 0])
    assert not measured.starts_at_reference
    assert measured.classes.shape == (5, 0)  # of what is generated, classes are not known
    assert measured.supremum == 3.0 and measured.edges is law.edges


def test_a_law_measured_on_the_real_data_is_still_a_measured_one():
    reward = np.array([0.0, 1.0, 1.0, 3.0])
    assert not RewardLaw.of(reward, None, 0, None).starting_from(reward).starts_at_reference


def test_exp_reward_is_relative_to_the_supremum():
    law = RewardLaw.of(np.array([-2.0, 0.0, 1.0]), None, 0, 1.0)
    assert law.exp_reward(0.5).tolist() == pytest.approx([math.exp(-1.5), math.exp(-0.5), 1])
    assert law.exp_reward(INF).tolist() == [0, 0, 1]
    assert law.exp_reward(0.0).tolist() == [1, 1, 1]
    below = RewardLaw.of(np.array([-2.0, 0.0]), None, 0, 1.0)
    assert below.exp_reward(INF).tolist() == [0, 0]


# --- reward bins


def _atoms(count: int) -> np.ndarray:
    """Rewards of which a tenth each is on five atoms, and half spread between them."""
    rng = np.random.default_rng(count)
    atoms = np.array([-2.7, -1.3, -0.7, -0.1, 0.0])
    rewards = np.append(np.repeat(atoms, count // 10), rng.uniform(-3, 0, count // 2))
    return rewards.astype(np.float32).astype(np.float64)


def test_every_level_is_in_one_reward_bin_and_bins_ascend():
    for reward in (np.random.default_rng(0).normal(size=4000), _atoms(4000), np.zeros(5)):
        law = RewardLaw.of(reward, None, 0, None)
        bins = law.bins
        assert bins.shape == (len(law.reward), len(law.edges) + 1)
        assert (bins.sum(1) == 1).all() and set(np.unique(bins)) <= {0, 1}
        assert (np.diff(bins.argmax(1)) >= 0).all()
        assert (bins.sum(0) > 0).all()
        # Bin q ends at edge q, which is a level, included.
        assert np.array_equal(law.reward[[np.flatnonzero(c)[-1] for c in bins.T[:-1]]], law.edges)


def test_reward_bins_have_about_equal_mass():
    law = RewardLaw.of(np.random.default_rng(0).normal(size=4000), None, 0, None)
    mass = law.reference @ law.bins
    assert len(mass) == BINS
    assert np.abs(mass - 1 / BINS).max() <= 1 / 4000 + 1e-12  # a level more or less


def test_a_level_that_outweighs_a_bin_has_its_own():
    law = RewardLaw.of(_atoms(4000), None, 0, None)
    heavy = law.reference >= 1 / BINS
    assert heavy.sum() == 5
    its_bin = law.bins.argmax(1)[heavy]
    assert law.bins.sum(0)[its_bin].tolist() == [1] * 5  # one level and no more
    others = np.delete(law.reference @ law.bins, its_bin)
    assert others.max() <= 1 / BINS + 1 / 4000 + 1e-12


def test_one_level_is_one_bin():
    law = RewardLaw.of(np.full(7, 2.5), None, 0, None)
    assert law.edges.shape == (0,) and law.bins.tolist() == [[1.0]]


# --- reduced laws


def _spread(count: int, law: str) -> RewardLaw:
    """A law of `count` samples, whose classes are thirds of the rewards' range that overlap."""
    rng = np.random.default_rng(1)
    match law:
        case "uniform":
            reward = rng.uniform(-3, 0, count)
        case "normal":
            reward = rng.normal(size=count)
        case "long tail":
            reward = -rng.lognormal(sigma=1.5, size=count)
        case "two groups":
            reward = np.append(rng.uniform(-10, -9.9, count // 2), rng.uniform(-0.1, 0, count // 2))
        case "plateau":
            dataset = EightGaussiansConfig().build()
            x = dataset.draw(count, streams.stream(0, "test"))
            distance = np.linalg.norm(x.double().numpy() - np.array([5.0, 0.0]), axis=1)
            reward = -np.maximum(0, distance - 1)
            return RewardLaw.of(reward, dataset.classify(x).numpy(), 8, 0.0)
        case "measured":
            measured = rng.normal(-1, 0.5, count // 2).clip(None, 0)
            return _spread(count, "uniform").starting_from(measured)
        case _:
            raise ValueError(law)
    span = reward.max() - reward.min()
    rank = (reward - reward.min()) / span + rng.normal(0, 0.1, count)
    classes = np.digitize(rank, [1 / 3, 2 / 3])
    return RewardLaw.of(reward, classes, 3, None if law == "normal" else 0.0)


LAWS = ["uniform", "normal", "long tail", "two groups", "plateau", "measured"]
LAM, K = (np.array(c, float) for c in zip(*itertools.product([1, INF], [2, 4, INF]), strict=True))


def _curves(law: RewardLaw, span: float, beta: float, iterations: int) -> dict[str, np.ndarray]:
    """Curves `(T+1, P, ...)` of points that differ in λ and K, in parts of their ranges."""
    statistics = {"reward": law.reward[:, None] / span, "bins": law.bins}
    if law.supremum is not None:
        statistics["exp_reward"] = law.exp_reward(beta)[:, None]
    if law.classes.shape[1]:
        present = np.where(law.reference > 0, law.reference, 1)
        statistics["classes"] = law.classes / present[:, None]
    laws = population(law.reward, law.initial, law.reference, beta, LAM, K)
    found: dict[str, list[np.ndarray]] = {name: [] for name in [*statistics, "kept"]}
    for now, kept in itertools.islice(laws, iterations + 1):
        for name, columns in statistics.items():
            found[name].append(now.T @ columns)
        found["kept"].append(kept.T @ statistics["reward"])
    return {name: np.array(curve) for name, curve in found.items()}


@functools.cache
def _differences(name: str, count: int, iterations: int) -> dict[str, dict[float, float]]:
    """By curve and β, how far a reduced law's are from the full law's at most."""
    law = _spread(count, name)
    assert len(law.reward) > EXACT_LEVELS
    span = float(law.reward[-1] - law.reward[0])
    found: dict[str, dict[float, float]] = {}
    for beta in (0.0, 0.5, 10.0, 50 / span, INF):
        curves = _curves(law.reduced(beta, iterations), span, beta, iterations)
        for curve, exact in _curves(law, span, beta, iterations).items():
            found.setdefault(curve, {})[beta] = float(np.abs(curves[curve] - exact).max())
    return found


# Laws of more than FINE levels are reduced twice; few iterations have the widest bins at the top.
CASES = list(itertools.product(LAWS, [(3000, 50), (FINE + 2000, 8)]))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_reduced_law_gives_the_same_rewards(name, size):
    found = _differences(name, *size)
    for curve in ("reward", "kept"):
        assert max(found[curve].values()) < PROMISED, found[curve]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_reduced_law_gives_the_same_expected_weights(name, size):
    found = _differences(name, *size)
    assert ("exp_reward" in found) == (name != "normal")
    if name != "normal":
        assert max(found["exp_reward"].values()) < PROMISED, found["exp_reward"]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_reduced_law_gives_the_same_shares_of_reward_bins(name, size):
    found = _differences(name, *size)["bins"]
    assert max(found.values()) < PROMISED, found


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_reduced_law_gives_the_same_shares_of_classes(name, size):
    found = _differences(name, *size)
    assert ("classes" in found) == (name != "measured")
    if name != "measured":
        assert max(found["classes"].values()) < PROMISED_OF_CLASSES, found["classes"]


def test_a_reduced_law_keeps_the_highest_levels_apart_where_the_best_of_k_are_kept():
    """At β=∞, p_t is on fewer and fewer of the highest levels, whose gaps are wide in a tail."""
    law = _spread(2**14, "normal")
    span = law.reward[-1] - law.reward[0]
    curves, exact = (_curves(one, span, INF, 16) for one in (law.reduced(INF, 16), law))
    assert np.abs(curves["reward"] - exact["reward"]).max() < PROMISED


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("count", [3000, FINE + 2000])
def test_a_reduced_law_has_fewer_levels_of_the_same_moments(name, count):
    law = _spread(count, name)
    span = law.reward[-1] - law.reward[0]
    for beta, iterations in itertools.product((0.0, 0.5, 50 / span, 1e6, INF), (0, 1, 50)):
        reduced = law.reduced(beta, iterations)
        assert (np.diff(reduced.reward) > 0).all()
        assert reduced.supremum == law.supremum
        assert reduced.starts_at_reference == law.starts_at_reference
        if beta * span <= 1:
            assert len(reduced.reward) <= EXACT_LEVELS
        for which, power in itertools.product(("reference", "initial"), range(4)):
            moment, expected = (
                getattr(one, which) @ (one.reward / span) ** power for one in (reduced, law)
            )
            # Sums of so many terms of up to (max |r| / span)^power = 1, rounded at random.
            assert abs(moment - expected) < 1e-13, (beta, which, power)


@pytest.mark.parametrize("count", [3000, FINE + 2000])
def test_a_reduced_law_has_each_class_with_its_mean_reward(count):
    law = _spread(count, "uniform")
    for beta in (0.0, 0.5, 20.0):
        reduced = law.reduced(beta, 20)
        for power in (0, 1):
            found = reduced.reward**power @ reduced.classes
            assert np.abs(found - law.reward**power @ law.classes).max() < 1e-13
        assert np.allclose(reduced.classes.sum(1), reduced.reference, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("beta", [0.0, 0.5, 10.0, 200.0, INF])
@pytest.mark.parametrize("seed", range(4))
def test_a_reduced_law_has_the_same_mass_in_every_reward_bin(seed, beta):
    """Heavy levels among them, which are bins of their own: an edge may not be crossed."""
    rng = np.random.default_rng(seed)
    atoms = rng.choice([-2.7, -1.3, -0.7, -0.1], 2000)
    reward = np.append(atoms, rng.uniform(-3, 0, 3000)).astype(np.float32).astype(np.float64)
    law = RewardLaw.of(reward, None, 0, 0.0)
    reduced = law.reduced(beta, 8)
    assert np.array_equal(reduced.edges, law.edges)
    found, expected = (one.reference @ one.bins for one in (reduced, law))
    assert np.abs(found - expected).max() < 1e-13


@pytest.mark.parametrize("supremum", [0.7, -1.3, 2.9])
def test_a_reduced_law_reaches_the_supremum_where_the_law_does(supremum):
    """At β=∞ no other level counts in E[w]."""
    rng = np.random.default_rng(0)
    supremum = float(np.float32(supremum))
    for reached in (100, 101, 333):
        below = supremum - rng.exponential(size=1000).astype(np.float32).astype(np.float64)
        law = RewardLaw.of(np.append(below, np.full(reached, supremum)), None, 0, supremum)
        for beta in (0.0, 1.0, 1e6, INF):
            reduced = law.reduced(beta, 8)
            # The level's own rounding is multiplied by β; at β=∞ it may not be rounded at all.
            slack = 1e-12 + (0 if math.isinf(beta) else beta * 1e-15)
            found, expected = (one.reference @ one.exp_reward(beta) for one in (reduced, law))
            assert abs(found - expected) < max(slack, PROMISED if 0 < beta < INF else 0)


def test_laws_of_few_levels_are_not_reduced():
    rng = np.random.default_rng(0)
    law = RewardLaw.of(np.sort(rng.normal(size=EXACT_LEVELS)), None, 0, None)
    assert law.reduced(1.0, 8) is law


# --- laws of configurations


def _eight(make_config, **reward: float) -> RewardLaw:
    return real_law(make_config(data={"name": "eight_gaussians", "size": 50}, reward=reward))


BETAS = [0.3, 1.0, 5.0, 50.0]


def _features(reward: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mass on the plateau, E[r], and E[w] of the β above."""
    columns = [reward == 0, reward, *(np.exp(beta * reward) for beta in BETAS)]
    return np.array([weights @ column for column in columns])


def test_the_law_of_eight_gaussians_is_that_of_the_distance_to_a_mode(make_config):
    """|x - μ*|²/σ² is a non-central χ² with 2 degrees of freedom, for each of the eight modes."""
    law = _eight(make_config)
    std = 0.1**0.25
    angle = np.arange(8) * math.pi / 4
    offset = (5 / std) ** 2 * ((np.cos(angle) - 1) ** 2 + np.sin(angle) ** 2)

    def within(distance: float) -> float:
        return float(stats.ncx2.cdf((distance / std) ** 2, 2, offset).mean())

    def integral(
        function: Callable[[float], float],
    ) -> float:  # all but 1e-30 of samples are nearer than 17
        found, error = integrate.quad(function, 1, 17, points=[1.1, 1.5, 3, 6], limit=500)
        assert error < 1e-7
        return found

    def decline(beta: float, d: float) -> float:
        return beta * math.exp(-beta * (d - 1)) * within(d)

    plateau = within(1)
    expected = [plateau, -integral(lambda d: 1 - within(d))]  # by parts: no density is needed
    for beta in BETAS:
        decay = integral(functools.partial(decline, beta))
        expected.append(decay + math.exp(-16 * beta))

    # How far a scrambled quasi-random sample is off on average, other scrambles of it say.
    dataset = EightGaussiansConfig().build()
    spread = []
    for seed in range(1, 9):
        sobol = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed)
        u = sobol.draw(QUASI_SAMPLE, dtype=torch.float64)
        distance = np.linalg.norm(dataset.from_uniform(u).double() - torch.tensor([5.0, 0]), axis=1)
        reward = np.minimum(0, 1 - distance)
        spread.append(_features(reward, np.full(len(reward), 1 / len(reward))))
    error = np.std(spread, axis=0, ddof=1)
    # A deviation of eight: beyond 10 by chance 2e-5. Levels are float32: 1e-6 of distances near 10.
    found = _features(law.reward, law.reference)
    assert (np.abs(found - expected) < 10 * error + 1e-6).all()
    # And that is less than independent samples of the same number would be off.
    independent = np.array([0.27, 3.0, *[0.32] * 4]) / math.sqrt(QUASI_SAMPLE)
    assert (10 * error < 1.2 * independent).all()
    assert law.supremum == 0 and law.reward[-1] == 0
    assert law.reference[-1] == pytest.approx(plateau, abs=10 * error[0])
    assert np.abs(law.classes.sum(0) - 1 / 8).max() < 5 * 0.33 / math.sqrt(QUASI_SAMPLE)


def _weight(beta: float, reward: np.ndarray) -> np.ndarray:
    return np.exp(beta * reward)


@pytest.mark.parametrize("mode", [0, 3])
def test_the_law_of_two_moons_is_that_of_many_of_their_samples(make_config, mode):
    law = real_law(
        make_config(data={"name": "two_moons", "noise": 0.2}, reward={"mode": mode, "r_min": 0.3})
    )
    dataset = TwoMoonsConfig(noise=0.2).build()
    x = dataset.draw(200_000, streams.stream(0, "test"))
    distance = np.linalg.norm((x - dataset.modes[mode]).double().numpy(), axis=1)
    reward, lower = np.minimum(0, 0.3 - distance), dataset.classify(x).double().numpy()
    features: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "plateau": lambda r: r == 0,
        "mean": lambda r: r,
        "square": lambda r: r**2,
        **{f"w {beta}": functools.partial(_weight, beta) for beta in BETAS},
    }
    for name, feature in features.items():
        values = feature(reward).astype(float)
        # A law of 2^17 quasi-random points is off by no more than so many independent ones.
        error = values.std() * math.sqrt(1 / 200_000 + 1 / QUASI_SAMPLE)
        assert abs(law.reference @ feature(law.reward) - values.mean()) < 5 * error, name
        both = values * lower
        error = both.std() * math.sqrt(1 / 200_000 + 1 / QUASI_SAMPLE)
        assert abs(law.classes[:, 1] @ feature(law.reward) - both.mean()) <= 5 * error, name


@pytest.mark.parametrize(
    "data", [EightGaussiansConfig(), TwoMoonsConfig(), TwoMoonsConfig(noise=0)]
)
def test_uniform_numbers_make_the_samples_that_are_drawn(data):
    count = 50_000
    dataset = data.build()
    u = torch.rand(
        count, dataset.uniforms, dtype=torch.float64, generator=streams.stream(1, "test")
    )
    samples = dataset.from_uniform(u), dataset.draw(count, streams.stream(0, "test"))
    assert samples[0].shape == (count, 2) and samples[0].dtype == torch.float32
    for exponents in itertools.product(range(5), range(5)):
        one, other = ((x.double() ** torch.tensor(exponents)).prod(1).numpy() for x in samples)
        error = math.sqrt((one.var() + other.var()) / count)
        assert abs(one.mean() - other.mean()) <= 5 * error, exponents
    shares = [np.bincount(dataset.classify(x).numpy()) for x in samples]
    assert stats.chi2_contingency(shares).pvalue > 1e-6


def test_uniform_numbers_at_the_ends_make_finite_samples():
    for data in (EightGaussiansConfig(), TwoMoonsConfig()):
        dataset = data.build()
        for end in (0.0, 1 - 2**-53, 1.0):
            u = torch.full((1, dataset.uniforms), end, dtype=torch.float64)
            assert dataset.from_uniform(u).isfinite().all()


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes a data set and gives the keys that name it."""

    def write(x: np.ndarray, y: np.ndarray | None = None, **keys: int) -> dict[str, Any]:
        path = tmp_path / "data.npz"
        if y is None:
            np.savez(path, x=x)
        else:
            np.savez(path, x=x, y=y)
        return {"name": "npz", "path": str(path), **keys}

    return write


def test_the_law_of_a_file_has_exactly_its_rewards(make_config, npz):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-8, 8, (500, 1)) / 4, rng.integers(0, 3, 500)
    # Of all the file, however few of it a seed draws.
    config = make_config(data=npz(x, y, size=20), reward={"center": [0.5], "r_min": 0.25})
    law = real_law(config)
    reward = np.minimum(0, 0.25 - np.abs(x[:, 0] - 0.5))  # quarters: exact in float32
    level, count = np.unique(reward, return_counts=True)
    assert law.reward.tolist() == level.tolist()
    assert np.allclose(law.reference, count / 500, rtol=1e-13)
    assert law.starts_at_reference and law.supremum == 0
    # A sample has the class of the nearest labelled one, here of one of those at its own place.
    assert law.classes.sum() == pytest.approx(1)
    assert np.allclose(law.classes.sum(1), law.reference)


def test_classes_of_a_file_are_those_of_its_samples(make_config, npz):
    x = np.arange(60.0)[:, None]
    law = real_law(make_config(data=npz(x, np.arange(60) % 4), reward={"center": [0], "r_min": 10}))
    assert law.reward.tolist() == [float(10 - place) for place in range(59, 9, -1)]
    for index, place in enumerate(range(59, 10, -1)):
        assert (60 * law.classes[index]).tolist() == pytest.approx(np.eye(4)[place % 4])
    assert (60 * law.classes[-1]).tolist() == pytest.approx([3, 3, 3, 2])


def test_a_file_of_more_samples_than_are_scored_at_a_time_counts_in_full(make_config, npz):
    x = np.arange(CHUNK + 100.0)[:, None]
    law = real_law(make_config(data=npz(x), reward={"center": [0], "r_min": 0}))
    assert np.array_equal(law.reward, -x[::-1, 0])


CUSTOM = """
import torch

class Ramp:
    shape = (1,)
    n_classes = 2

    def __init__(self, size, steps=5):
        self.size, self.steps = size, steps

    def draw(self, size, generator):
        return torch.randint(self.steps, (size, 1), generator=generator).float()

    def classify(self, x):
        return (x[:, 0] >= 2).long()

def first(x):
    first.calls += 1
    return x[:, 0]
first.calls = 0

def capped(x):
    return x[:, 0].clamp_max(3.0)
capped.supremum = 3.0

def broken(x):
    return torch.where(x[:, 0] > 3, torch.nan, x[:, 0])
"""


@pytest.mark.parametrize("size", [100, 50_000])
def test_the_law_of_a_users_dataset_is_that_of_a_large_sample(make_config, write_module, size):
    module = write_module(CUSTOM)
    data = {"name": f"{module}:Ramp", "size": size, "args": {"steps": 4}}
    law = real_law(make_config(data=data, reward={"name": f"{module}:first"}))
    assert law.reward.tolist() == [0, 1, 2, 3] and law.supremum is None
    # Five standard errors of a share of ¼.
    assert np.abs(law.reference - 1 / 4).max() < 5 * math.sqrt(3 / 16 / SAMPLE)
    assert np.allclose(law.classes[:, 1], law.reference * [0, 0, 1, 1], rtol=1e-10)
    assert np.allclose(law.classes[:, 0], law.reference * [1, 1, 0, 0], rtol=1e-10)


def test_a_users_reward_may_have_a_supremum(make_config, write_module):
    module = write_module(CUSTOM)
    config = make_config(data={"name": f"{module}:Ramp"}, reward={"name": f"{module}:capped"})
    law = real_law(config)
    assert law.reward.tolist() == [0, 1, 2, 3] and law.supremum == 3
    assert law.exp_reward(INF).tolist() == [0, 0, 0, 1]


def test_a_users_reward_is_taken_on_the_named_laws_too(make_config, write_module):
    config = make_config(reward={"name": f"{write_module(CUSTOM)}:first"})
    law = real_law(config)
    # x is ±5 or 0 or ±5/√2 with noise of variance √0.1: 12.8 in all.
    assert law.reference @ law.reward == pytest.approx(0, abs=5 * math.sqrt(12.8 / SAMPLE))
    assert len(law.reward) > 0.9 * SAMPLE


def test_a_law_is_worked_out_once(make_config, write_module):
    module = write_module(CUSTOM)
    calls = importlib.import_module(module).first
    keys: dict[str, dict[str, Any]] = {
        "data": {"name": f"{module}:Ramp"},
        "reward": {"name": f"{module}:first"},
    }
    law = real_law(make_config(**keys))
    before = calls.calls
    assert before > 0
    other = make_config(**keys, lam=1, curation={"k": 7, "beta": 3}, seeds=[9], name="other")
    assert real_law(other) is law and calls.calls == before
    keys["data"]["args"] = {"steps": 3}
    assert len(real_law(make_config(**keys)).reward) == 3 and calls.calls > before


def test_a_law_follows_its_file(make_config, npz):
    x = np.array([[0.0], [1.0], [1.0]])
    config = make_config(data=npz(x), reward={"center": [0], "r_min": 0})
    before = real_law(config)
    assert before.reward.tolist() == [-1, 0]
    status = os.stat(config.data.path)
    npz(2 * x)
    os.utime(config.data.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert real_law(config).reward.tolist() == [-2, 0]


def test_a_law_does_not_depend_on_global_random_state(make_config, write_module):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = write_module(CUSTOM)
        keys = {"data": {"name": f"{module}:Ramp"}, "reward": {"name": f"{module}:first"}}
        found.append(real_law(make_config(**keys)))
    assert np.array_equal(found[0].reference, found[1].reference)


def test_a_reward_that_breaks_its_contract_has_no_law(make_config, write_module):
    module = write_module(CUSTOM)
    config = make_config(data={"name": f"{module}:Ramp"}, reward={"name": f"{module}:broken"})
    with pytest.raises(LoopError, match="NaN or infinite"):
        real_law(config)
