"""The theory where kept sets accumulate: the map, its limits, the bounds, and loops that follow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import expit

from luceloop.core.config.parsing import parse_config
from luceloop.core.config.parts import Synthetic
from luceloop.core.config.point import PointConfig
from luceloop.core.loop.loop import run_loop
from luceloop.core.loop.state import IterationResult
from luceloop.core.theory.bounds import (
    Bounds,
    applicable,
    largest_ratio,
    lemma_2_2,
    theorem_2_3,
    theorem_2_4,
)
from luceloop.core.theory.density import density_of
from luceloop.core.theory.forecast import forecast
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.population import converge, kl_divergence, limit, population
from luceloop.core.theory.real_law import real_law
from luceloop.core.theory.resampling import draws
from luceloop.core.theory.selection import Array, log_weights

INF = math.inf
LAMS = [0.0, 0.3, 1.0, 4.0, INF]
GROWING: list[Synthetic] = ["accumulate", "subsample"]
TINY = 1e-11


def _path(reward, initial, reference, beta, lam, k, count, synthetic) -> tuple[Array, Array]:
    """p_0 to p_T, and the laws of what is kept of each `(T+1, L)`."""
    point = np.array([lam]), np.array([k])
    laws = population(reward, initial, reference, beta, *point, synthetic)
    pairs = [(now[:, 0], kept[:, 0]) for now, kept in itertools.islice(laws, count + 1)]
    laws_of, kept_of = zip(*pairs, strict=True)
    return np.array(laws_of), np.array(kept_of)


def _laws(count: int, seed: int) -> Iterator[tuple[Array, Array, Array]]:
    """Levels and two laws on them, some of them nearly an atom."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = int(rng.integers(2, 7))
        weights = rng.dirichlet(np.full(size, 10 ** rng.uniform(-1, 1)), 2)
        weights = np.maximum(weights, 1e-12)
        reference, initial = weights / weights.sum(1, keepdims=True)
        yield np.sort(rng.normal(size=size)), reference, initial


# --- the map


@pytest.mark.parametrize("lam", LAMS)
def test_all_kept_sets_count_as_often_as_they_have_samples(lam):
    """Written out with n real samples and t sets of λn: shares of what a training set holds."""
    for reward, reference, initial in _laws(20, seed=1):
        path, _ = _path(reward, initial, reference, 2.0, lam, 2, 6, "accumulate")
        law, sets, n = initial, list[Array](), 0.0 if math.isinf(lam) else 1.0
        m = 1.0 if math.isinf(lam) else lam
        for found in path:
            assert np.abs(found - law).max() < TINY
            sets.append(law * 2 * (law * expit(2.0 * (reward[:, None] - reward))).sum(1))
            law = (n * reference + m * np.sum(sets, 0)) / (n + m * len(sets))


@pytest.mark.parametrize("lam", LAMS)
def test_a_sample_of_all_kept_sets_has_the_law_of_their_average(lam):
    share = 1.0 if math.isinf(lam) else lam / (1 + lam)
    for reward, reference, initial in _laws(20, seed=2):
        path, _ = _path(reward, initial, reference, 2.0, lam, 2, 6, "subsample")
        law, sets = initial, list[Array]()
        for found in path:
            assert np.abs(found - law).max() < TINY
            sets.append(law * 2 * (law * expit(2.0 * (reward[:, None] - reward))).sum(1))
            law = (1 - share) * reference + share * np.mean(sets, 0)


@pytest.mark.parametrize("k", [1, 3, INF])
@pytest.mark.parametrize("lam", LAMS)
def test_the_first_retraining_is_the_same_for_all(lam, k):
    for reward, reference, initial in _laws(10, seed=3):
        given = reward, initial, reference, 2.0, lam, k, 2
        replaced, all_sets, sample = (_path(*given, s)[0] for s in ("replace", *GROWING))
        assert np.array_equal(replaced[1], all_sets[1]) and np.array_equal(replaced[1], sample[1])
        if math.isinf(lam):  # without real data a sample of all has the law of all
            assert np.abs(all_sets - sample).max() < TINY
        if lam == 0:
            assert np.array_equal(replaced, all_sets) and np.array_equal(replaced, sample)


# --- limits


@pytest.mark.parametrize(("lam", "k"), [(0.5, 2), (2.0, 5), (1.0, INF), (INF, 2), (INF, INF)])
def test_accumulating_ends_on_the_highest_level_at_any_ratio(lam, k):
    """The other levels' share falls like a power of t, the real data's like 1/t."""
    reward, reference = np.array([-1.0, -0.4, 0.0]), np.array([0.5, 0.3, 0.2])
    end = limit(reward, reference, reference, 50.0, lam, k, "accumulate")
    assert end is not None and end.tolist() == [0, 0, 1]
    path, _ = _path(reward, reference, reference, 50.0, lam, k, 4000, "accumulate")
    left = 1 - path[[4, 40, 400, 4000], 2]
    assert (np.diff(left) < 0).all() and left[-1] < 0.01


def test_levels_that_only_p_0_has_count_as_well():
    reward, reference, initial = np.arange(3.0), np.array([0.5, 0.5, 0]), np.array([0.5, 0, 0.5])
    end = limit(reward, initial, reference, 1.0, 1.0, 2, "accumulate")
    assert end is not None and end.tolist() == [0, 0, 1]
    assert limit(reward, initial, reference, 1.0, 0.0, 2, "accumulate") is reference


@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0, INF])
def test_without_a_taste_accumulating_stands_still_after_one_retraining(lam):
    for reward, reference, initial in _laws(10, seed=4):
        for beta, k in ((0.0, 3), (2.0, 1)):
            end = limit(reward, initial, reference, beta, lam, k, "accumulate")
            path, _ = _path(reward, initial, reference, beta, lam, k, 5, "accumulate")
            assert end is not None and np.abs(path[1:] - end).max() < TINY


@pytest.mark.parametrize(("lam", "k"), [(0.5, 3), (3.0, 2), (1.0, INF), (4.0, INF), (1.0, 1)])
def test_samples_of_all_kept_sets_lead_where_the_last_set_does(lam, k):
    """As a power of t, a slow one where λ is large: by the same factor in every tenfold time."""
    for reward, reference, initial in _laws(3, seed=5):
        given = reward, initial, reference, 1.5, lam, k
        end = limit(*given, "subsample")
        if end is None:
            point = np.array([lam]), np.array([k])
            end = converge(reward, initial[:, None], reference, 1.5, *point)[:, 0]
        path, _ = _path(*given, 4000, "subsample")
        left = np.abs(path[[4, 40, 400, 4000]] - end).sum(1)
        factors = left[1:] / left[:-1]
        assert (factors < 0.7).all() and factors[2] == pytest.approx(factors[1], rel=0.3)


# --- bounds


def test_bounds_apply_where_real_data_keep_their_share():
    mixed = ["theorem_2_3", "theorem_2_4", "theorem_2_4_sup"]
    for k, lam in ((2, 0.3), (1, 7.0)):
        assert applicable(lam, k, 0.0, "subsample") == applicable(lam, k, 0.0, "replace") == mixed
        assert applicable(lam, k, 0.0, "accumulate") == ["theorem_2_3"]
    for synthetic in GROWING:
        assert applicable(INF, 2, 0.0, synthetic) == ["lemma_2_2"]
        assert applicable(0.0, 2, 0.0, synthetic) == mixed  # nothing is kept
        assert applicable(0.3, 2, None, synthetic) == []


def _moments(weight: Array, laws: Array) -> tuple[Array, Array]:
    mean = laws @ weight
    return mean, laws @ weight**2 - mean**2


@pytest.mark.parametrize("synthetic", GROWING)
@pytest.mark.parametrize("beta", [0.3, 3.0, 30.0])
def test_no_law_violates_a_bound_that_applies(beta, synthetic):
    for reward, reference, _ in _laws(60, seed=6):
        weight = np.exp(log_weights(reward, beta))
        for lam, k in itertools.product([0.05, 0.3, 1.0, 5.0, INF], [1, 2, 4, INF]):
            path, _ = _path(reward, reference, reference, beta, lam, k, 12, synthetic)
            mean, variance = _moments(weight, path)
            names = applicable(lam, k, 0.0, synthetic)
            if "lemma_2_2" in names:
                bound = lemma_2_2(mean, variance, k, 1 / np.arange(1.0, 14))
                assert (mean[1:] >= bound[:-1] - TINY).all()
            if "theorem_2_3" in names:
                least = theorem_2_3(float(mean[0]), float(variance[0]), lam, k)
                assert (mean[1:] >= least - TINY).all()
            ratio, divergence = largest_ratio(lam, k), theorem_2_4(lam, k)
            if "theorem_2_4" in names and ratio is not None and divergence is not None:
                assert (path <= reference * ratio * (1 + TINY)).all()
                assert (kl_divergence(path, reference) <= divergence + TINY).all()


def test_lemma_2_2_holds_from_any_initial_law():
    for reward, reference, initial in _laws(100, seed=7):
        for beta, k in itertools.product([0.3, 3.0], [2, INF]):
            path, _ = _path(reward, initial, reference, beta, INF, k, 8, "accumulate")
            mean, variance = _moments(np.exp(log_weights(reward, beta)), path)
            bound = lemma_2_2(mean, variance, k, 1 / np.arange(1.0, 10))
            assert (mean[1:] >= bound[:-1] - TINY).all()


def test_bounds_of_replacing_do_not_hold_where_they_are_left_out():
    """Lemma 2.2 promises more than a last set of many can give; 2.4 needs real data's share."""
    reward, reference = np.array([-1.0, 0.0]), np.array([0.7, 0.3])
    weight = np.exp(log_weights(reward, 2.0))
    path, _ = _path(reward, reference, reference, 2.0, INF, 2, 4, "accumulate")
    mean, variance = _moments(weight, path)
    assert (mean[2:] < lemma_2_2(mean, variance, 2)[1:-1]).all()
    path, _ = _path(reward, reference, reference, INF, 0.2, 3, 300, "accumulate")
    ratio = largest_ratio(0.2, 3)
    assert ratio is not None and (path[-1] / reference).max() > ratio + 1


def test_the_lemmas_gain_is_divided_among_all_kept_sets():
    law = RewardLaw.of(np.array([-1.0, 0.0]), None, 0, 0.0)
    for synthetic in GROWING:
        bounds = Bounds(law, 0.5, INF, 2, synthetic)
        for t in (0, 1, 4):
            found = bounds.after(0.4, 0.1, t)
            assert found == pytest.approx({"lemma_2_2": 0.4 + 0.05 / (t + 1)})
    assert Bounds(law, 0.5, INF, 2).after(0.4, 0.1, 4) == pytest.approx({"lemma_2_2": 0.45})


# --- loops with a perfect learner

SEEDS, SIZE, RETRAININGS = 200, 600, 3
TRAININGS = list(itertools.product(["fixed", "fresh"], ["replace", *GROWING]))


def _point(real: str = "fixed", synthetic: str = "replace", **keys) -> PointConfig:
    plain = {
        "name": "diets",
        "data": {"name": "eight_gaussians", "size": SIZE},
        "learner": {"name": "empirical"},
        "curation": {"k": 2, "beta": 1},
        "training": {"real": real, "synthetic": synthetic},
        "iterations": RETRAININGS,
        "seeds": SEEDS,
        "sampling": {"shard_size": 2**14, "preview": 0},
    }
    return parse_config(plain | keys).point


def _excess(results: list[IterationResult], curves: dict[str, Array]) -> float:
    """The farthest mean over seeds from curves, in tolerated distances.

    Tolerated are five standard errors of 200 seeds, and 12/n of a metric's range for what n samples
    alone change: a choice among K=2 is quadratic in the law that n samples stand for.
    """
    worst = 0.0
    for t, result in enumerate(results):
        for name in ("reward_mean", "exp_reward_mean", "class_fraction/0", "class_fraction/4"):
            values = result.metrics[name].numpy()
            error = values.std(ddof=1) / math.sqrt(SEEDS)
            span = 10.0 if name == "reward_mean" else 1.0
            tolerated = 5 * error + 12 * span / (SEEDS * SIZE)
            worst = max(worst, abs(values.mean() - curves[name][t]) / tolerated)
    return worst


@pytest.mark.parametrize("lam", [1.0, INF])
@pytest.mark.parametrize(("real", "synthetic"), TRAININGS)
def test_two_hundred_loops_follow_the_forecast_of_their_diet(real, synthetic, lam):
    point = _point(real, synthetic, lam=lam)
    [found] = forecast([point])
    assert found.curves["reward_mean"][-1] > found.curves["reward_mean"][0] + 0.5
    assert _excess(list(run_loop(point)), found.curves) < 1


def test_loops_follow_no_other_diets_forecast():
    for lam in (1.0, INF):
        points = [_point(synthetic=each, lam=lam) for each in ("replace", *GROWING)]
        loops = [list(run_loop(point)) for point in points]
        found = [each.curves for each in forecast(points)]
        for i, j in itertools.product(range(3), range(3)):
            alike = i == j or (math.isinf(lam) and 0 not in (i, j))
            assert (_excess(loops[i], found[j]) < 1) == alike, (i, j, lam)


def test_points_of_other_diets_are_forecast_together_as_they_are_alone():
    points = [_point(real, synthetic, lam=1) for real, synthetic in TRAININGS]
    together = forecast(points, limits=True)
    for point, found in zip(points, together, strict=True):
        [alone] = forecast([point], limits=True)
        for name, curve in alone.curves.items():
            assert found.curves[name] == pytest.approx(curve, abs=1e-12, nan_ok=True)
        assert found.limit == pytest.approx(alone.limit, abs=1e-9)
    ends = [found.limit["reward_mean"] for found in together[:3]]
    assert ends[0] == pytest.approx(ends[2], abs=1e-6)  # the same fixed point
    assert ends[0] < -1 < ends[1] == 0  # and the highest reward


def test_where_real_samples_are_fresh_the_forecast_is_the_same():
    fixed, fresh = forecast([_point("fixed", lam=1), _point("fresh", lam=1)])
    assert np.array_equal(fixed.curves["reward_mean"], fresh.curves["reward_mean"])


@pytest.mark.parametrize("lam", [0.5, INF])
@pytest.mark.parametrize("synthetic", GROWING)
def test_measured_margins_are_those_of_the_bounds(lam, synthetic):
    point = _point(synthetic=synthetic, lam=lam, seeds=3, curation={"k": 2, "beta": 2})
    bounds = Bounds(real_law(point), 2.0, lam, 2, synthetic)
    results = [result.metrics for result in run_loop(point)]
    for t, (last, now) in enumerate(itertools.pairwise(results)):
        found = {name for name in now if name.startswith("margin/")}
        assert found == {f"margin/{name}" for name in applicable(lam, 2, 0.0, synthetic)}
        mean, variance = (last[f"exp_reward_{moment}"].numpy() for moment in ("mean", "var"))
        for name, bound in bounds.after(mean, variance, t).items():
            if name == "theorem_2_4":
                continue
            margin = now["exp_reward_mean"].numpy() - bound
            margin = -margin if name == "theorem_2_4_sup" else margin
            assert now[f"margin/{name}"].numpy() == pytest.approx(margin, abs=1e-12)


def test_the_density_is_that_of_the_diet():
    accumulated, replaced = (
        density_of(real_law(point), point)
        for point in (_point(synthetic=each, lam=0.5) for each in ("accumulate", "replace"))
    )
    # More kept sets, more of them with the best; in the end they are all there is.
    assert accumulated.last[-1] > replaced.last[-1] > 1
    assert accumulated.limit[0] == 0 and accumulated.limit[-1] > replaced.limit[-1]


def test_limits_that_would_take_too_many_retrainings_are_left_out():
    """Going on as if sets were replaced would end elsewhere than where all of them lead."""
    plain = {"name": "x", "data": {"name": "eight_gaussians"}, "lam": 1, "iterations": 200}
    plain |= {"curation": {"beta": 5, "k": 2, "flip": 0.2}}
    limits = {}
    for synthetic in ("accumulate", "subsample", "replace"):
        point = parse_config(plain | {"training": {"synthetic": synthetic}}).point
        [found] = forecast([point], limits=True)
        limits[synthetic] = found.limit.get("reward_mean", math.nan)
    assert math.isnan(limits["accumulate"])
    assert limits["subsample"] == pytest.approx(limits["replace"])


def test_what_all_kept_sets_take_to_simulate_is_counted():
    law = real_law(_point(lam=1))
    few = draws(law, _point(lam=1, iterations=10))
    assert draws(law, _point(lam=1, iterations=10, synthetic="accumulate")) == few / 2 * 11
