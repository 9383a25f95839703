"""The forecast at finite n: the same process as the loop of a perfect learner, to the law."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.point import PointConfig
from luceloop.core.loop.loop import run_loop
from luceloop.core.theory.finite_n import FiniteN, simulate
from luceloop.core.theory.forecast import forecast
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.real_law import real_law
from luceloop.core.theory.resampling import resample

SEEDS, REPLICATES, RETRAININGS = 200, 400, 4


def _point(**keys) -> PointConfig:
    plain = {
        "name": "finite",
        "data": {"name": "eight_gaussians", "size": 150},
        "learner": {"name": "empirical"},
        "iterations": RETRAININGS,
        "seeds": list(range(SEEDS)),
        "sampling": {"preview": 0},
    }
    return parse_config(plain | keys).point


CASES = (
    [
        {"curation": {"k": k, "beta": beta}, "lam": lam}
        for (beta, k), lam in itertools.product([(0, 2), (10, 2), (10, math.inf)], [1, math.inf])
    ]
    + [
        {"curation": {"k": 3, "beta": math.inf}, "lam": 0.5},
        {"curation": {"k": 1, "beta": 10}, "lam": math.inf},
        {"curation": {"k": 2, "beta": 10}, "lam": 1, "training": {"real": "fresh"}},
        {"curation": {"k": 2, "beta": 10}, "lam": 1, "real_size": 50},
        {
            "curation": {"k": math.inf, "beta": 5},
            "lam": 0.5,
            "training": {"real": "fresh", "synthetic": "accumulate"},
        },
    ]
    + [
        {"curation": {"k": 2, "beta": 5}, "lam": lam, "training": {"synthetic": synthetic}}
        for synthetic in ("accumulate", "subsample")
        for lam in (1, math.inf)
    ]
)
METRICS = ["reward_mean", "exp_reward_mean", "class_fraction/1", "class_entropy", "reward_kl"]


@pytest.mark.parametrize("keys", CASES, ids=str)
def test_means_and_spreads_are_those_of_loops_with_the_empirical_learner(keys):
    """At every t, within χ² and z intervals at a level divided among all comparisons."""
    point = _point(**keys)
    results = [result.metrics for result in run_loop(point)]
    [found] = forecast([point], replicates=REPLICATES)
    compared = 2 * len(METRICS) * (RETRAININGS + 1) * len(CASES)
    level = 0.01 / compared
    for metric, t in itertools.product(METRICS, range(RETRAININGS + 1)):
        seeds, scatter = results[t][metric].numpy(), found.finite_n[metric]
        ours = scatter.values
        assert ours is not None and scatter.replicates == REPLICATES
        if np.ptp(seeds) == 0:
            assert np.ptp(ours[:, t]) == 0 and seeds[0] == pytest.approx(ours[0, t], abs=1e-6)
            continue
        # Student's and F tests stand for z and χ²: both sides are samples. Levene's version of
        # the latter holds for skewed values, too, as those near the supremum are.
        assert stats.ttest_ind(seeds, ours[:, t], equal_var=False).pvalue > level, (metric, t)
        assert stats.levene(seeds, ours[:, t], center="median").pvalue > level, (metric, t)


@pytest.mark.parametrize("beta", [0, 10])
@pytest.mark.parametrize("lam", [1, math.inf])
def test_the_bands_spread_is_within_a_chi_square_interval_of_200_seeds(beta, lam):
    """Of the mean reward, whose distribution over seeds is close to normal."""
    point = _point(curation={"k": 2, "beta": beta}, lam=lam, iterations=2)
    results = [result.metrics for result in run_loop(point)]
    [found] = forecast([point], replicates=4000)
    for t, metrics in enumerate(results):
        ratio = (SEEDS - 1) * metrics["reward_mean"].var().item()
        ratio /= found.finite_n["reward_mean"].std[t] ** 2
        low, high = stats.chi2.ppf([0.0005, 0.9995], SEEDS - 1)
        assert low < ratio < high


def test_without_a_taste_a_share_drifts_as_wright_and_fisher_say():
    """Var_t = p(1-p) (1 - (1-1/n)^(t+1)) of the training set's share, which starts as n draws."""
    n, classes = 40, 2
    law = RewardLaw.of(np.arange(2.0), np.array([0, 1]), classes, 1.0)
    data = {"name": "two_moons", "size": n}
    curation = {"k": 2, "beta": 0}
    point = _point(data=data, curation=curation, iterations=6, pool_size=50 * n)
    share = resample(law, point, 4000)["class_fraction/0"]
    for t in range(7):
        drift = 0.25 * (1 - (1 - 1 / n) ** (t + 1))
        pool = (0.25 - drift) / (50 * n)  # of the measured pool about the training set
        expected = drift + pool
        assert share[:, t].mean() == pytest.approx(0.5, abs=4 * math.sqrt(expected / 4000))
        # A variance of 4,000 bounded values: relative error of about √(2/4000).
        assert share[:, t].var() == pytest.approx(expected, rel=4 * math.sqrt(2 / 4000))


def test_more_samples_come_closer_to_the_curve_of_infinitely_many():
    errors = []
    for size in (100, 10_000):
        point = _point(data={"name": "eight_gaussians", "size": size}, lam=1, iterations=3)
        [found] = forecast([point], replicates=30)
        scatter = found.finite_n["reward_mean"]
        errors.append(scatter.std.max())
        bias = np.abs(scatter.mean - found.curves["reward_mean"])
        assert (bias < 5 * scatter.std / math.sqrt(30) + 2 / size).all()
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.6)  # like 1/√n; 30 replicates


def test_a_whole_file_is_drawn_without_replacement(tmp_path):
    """Where every seed has all of it, p_0 is the same, and only the pool scatters."""
    file = tmp_path / "all.npz"
    x = np.random.default_rng(0).normal(size=(80, 2))
    np.savez(file, x=x)
    reward = {"name": "mode_distance", "center": [0, 0], "r_min": 0.1}
    whole, half = (
        _point(
            data={"name": "npz", "path": str(file)} | size,
            reward=reward,
            iterations=0,
            pool_size=4000,
            lam=0,
        )
        for size in ({}, {"size": 40})
    )
    law = real_law(whole)
    spread = law.reference @ (law.reward - law.mean) ** 2
    found = [resample(law, point, 3000)["reward_mean"].var() for point in (whole, half)]
    # A subset of n of N has the variance s²/n (1 - n/N), s² with ddof=1.
    subset = spread * 80 / 79 / 40 * (1 - 40 / 80)
    rel = 4 * math.sqrt(2 / 3000)
    assert found[0] == pytest.approx(spread / 4000, rel=rel)
    assert found[1] == pytest.approx(subset + (spread - subset) / 4000, rel=rel)


def test_a_measured_start_is_where_the_first_pool_comes_from():
    point = _point(curation={"k": 2, "beta": 0}, lam=math.inf, iterations=2)
    start = np.random.default_rng(1).normal(-3, 0.2, size=500)
    law = real_law(point).starting_from(start)
    scatter = simulate(law, point, 200)["reward_mean"]
    assert scatter.mean[0] == pytest.approx(start.mean(), abs=4 * 0.2 / math.sqrt(200 * 300))
    assert scatter.mean[2] == pytest.approx(start.mean(), abs=0.02)


def test_numbers_are_a_function_of_the_configuration_and_seed():
    point = _point(curation={"k": 2, "beta": 3}, lam=1)
    law = real_law(point)
    one, again, other = (resample(law, point, 7, seed)["reward_mean"] for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_replicates_of_several_starts_are_put_together():
    """Their spread is within and between: that of single seeds, each with a start of its own."""
    rng = np.random.default_rng(2)
    starts = rng.normal(0, 3, size=6)
    parts = [FiniteN.of(start + rng.normal(size=(300, 1))) for start in starts]
    pooled = FiniteN.pooled(parts)
    assert pooled is not None and pooled.replicates == 1800
    means = np.array([part.mean[0] for part in parts])
    within = np.mean([part.std[0] ** 2 for part in parts])
    assert pooled.std[0] ** 2 == pytest.approx(within + means.var(ddof=1), rel=0.01)
