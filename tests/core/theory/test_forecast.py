"""Forecasts against sums written out here, and the loop itself against forecasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luceloop.core.config.point import PointConfig
from luceloop.core.loop.loop import run_loop
from luceloop.core.measures.metrics import metric_names
from luceloop.core.pool.rows import Rows
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.core.theory.real_law import real_law

INF = math.inf
NOT_FORECAST = {"reward_min", "reward_max", "loss"}  # of a pool or a learner, not of a law


# --- forecasts against sums


PLACES = np.arange(-7, 9) / 4  # rewards -|x| in quarters: exact in float32
COUNTS = np.array([3, 1, 4, 2, 5, 1, 2, 6, 5, 3, 4, 5, 2, 3, 1, 1])
LABELS = np.arange(16) % 3
T = 4


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """A file of 48 samples at 16 places, in three classes."""
    path = tmp_path / "data.npz"
    np.savez(path, x=np.repeat(PLACES, COUNTS)[:, None], y=np.repeat(LABELS, COUNTS))
    return {"name": "npz", "path": str(path)}


@pytest.fixture
def point(
    make_config: Callable[..., PointConfig], data: dict[str, Any]
) -> Callable[..., PointConfig]:
    """A point on that file: r(x) = -|x|, K=2, β=1.5 and λ=∞ unless keywords say otherwise."""

    def build(**keys: Any) -> PointConfig:
        curation = {"k": keys.pop("k", 2), "beta": keys.pop("beta", 1.5)}
        shared = {"data": data, "reward": {"center": [0], "r_min": 0}, "iterations": T}
        return make_config(**(shared | {"curation": curation} | keys))

    return build


def _places(beta: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """K=2, over places rather than levels: p_t and what is kept of it `(T+1, 16)`."""
    reward, real = -np.abs(PLACES), COUNTS / 48
    share = 1.0 if math.isinf(lam) else lam / (1 + lam)
    wins = 1 / (1 + np.exp(-beta * (reward[:, None] - reward)))
    law, laws, chosen = real, [], []
    for _ in range(T + 1):
        kept = np.array(
            [sum(2 * law[i] * law[j] * wins[i, j] for j in range(16)) for i in range(16)]
        )
        laws.append(law)
        chosen.append(kept)
        law = (1 - share) * real + share * kept
    return np.array(laws), np.array(chosen)


@pytest.mark.parametrize("lam", [0.0, 0.5, 2.0, INF])
@pytest.mark.parametrize("beta", [0.0, 1.5, 20.0])
def test_curves_are_the_metrics_of_the_laws_that_the_map_gives(point, beta, lam):
    (found,) = forecast([point(beta=beta, lam=lam)])
    laws, chosen = _places(beta, lam)
    reward = -np.abs(PLACES)
    mean, weight = laws @ reward, np.exp(beta * reward)
    # Fewer than 32 levels, each its own reward bin: every level outweighs 1/32 or is next to such.
    levels = np.unique(reward)
    bins = laws @ (reward[:, None] == levels)
    shares = laws @ np.eye(3)[LABELS]
    expected = {
        "reward_mean": mean,
        "reward_std": np.sqrt(laws @ reward**2 - mean**2),
        "exp_reward_mean": laws @ weight,
        "exp_reward_var": laws @ weight**2 - (laws @ weight) ** 2,
        "class_entropy": -(shares * np.log(shares)).sum(1),
        **{f"class_fraction/{i}": shares[:, i] for i in range(3)},
    }
    for name, curve in expected.items():
        # H_2 to 6e-13, amplified at most by 2 in each of four steps; a root of a variance near 1.
        assert np.abs(found.curves[name] - curve).max() < 1e-10, name
    if lam:
        kept = found.curves["kept_reward_mean"]
        assert math.isnan(kept[T]) and np.abs(kept[:T] - (chosen @ reward)[:T]).max() < 1e-10
    law = real_law(point())
    assert np.array_equal(law.reward, levels)
    merged = bins @ law.bins  # reward bins may hold several levels
    divergence = (merged * np.log(merged / merged[0])).sum(1)
    assert np.abs(found.curves["reward_kl"] - divergence).max() < 1e-10
    assert found.curves["reward_kl"][0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.5, INF])
def test_curves_have_the_names_of_the_loops_metrics(point, lam):
    config = point(lam=lam)
    (found,) = forecast([config])
    named = {name for name in metric_names(3, 0.0) if not name.startswith("seconds/")}
    expected = named - NOT_FORECAST - (set() if lam else {"kept_reward_mean"})
    assert found.curves.keys() == expected
    assert {len(curve) for curve in found.curves.values()} == {T + 1}
    results = list(run_loop(config))
    for result in results:
        measured = {name for name in result.metrics if "/" not in name or name.startswith("class")}
        forecast_there = {
            name for name, c in found.curves.items() if not np.isnan(c[result.iteration])
        }
        assert forecast_there == measured - NOT_FORECAST


def test_what_is_not_known_is_not_forecast(make_config, write_module, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(30, 2)))
    data = {"name": "npz", "path": str(tmp_path / "data.npz")}
    reward = {"name": f"{write_module('def first(x): return x[:, 0]')}:first"}
    (found,) = forecast([make_config(data=data, reward=reward)])
    assert found.curves.keys() == {"reward_mean", "reward_std", "reward_kl", "kept_reward_mean"}
    assert found.bounds == {}


@pytest.mark.parametrize("k", [1, 2, 5, INF])
@pytest.mark.parametrize("beta", [0.7, INF])
def test_without_real_data_the_next_law_is_what_was_kept(point, k, beta):
    curves = forecast([point(k=k, beta=beta)])[0].curves
    assert np.allclose(
        curves["kept_reward_mean"][:T], curves["reward_mean"][1:], rtol=0, atol=1e-14
    )


def test_with_real_data_the_next_law_is_a_mixture(point):
    curves = forecast([point(lam=0.5)])[0].curves
    kept, mean = curves["kept_reward_mean"][:T], curves["reward_mean"]
    assert np.allclose(mean[1:], (2 * mean[0] + kept) / 3, rtol=0, atol=1e-14)


def test_points_forecast_together_are_as_they_are_alone(point, make_config):
    points = [
        *(point(beta=b, lam=lam, k=k) for b in (0.5, INF) for lam in (0.3, INF) for k in (2, 16)),
        point(k=INF, lam=1),
        point(k=1),
        point(iterations=2),
        point(iterations=0),
        point(lam=0),
        point(reward={"center": [1], "r_min": 0}),
        make_config(data={"name": "two_moons"}, lam=1),
    ]
    for config, together in zip(points, forecast(points), strict=True):
        (alone,) = forecast([config])
        for found, expected in (
            (together.curves, alone.curves),
            (together.bounds, alone.bounds),
            (together.limit, alone.limit),
        ):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                # The rule's grid depends on the largest K of a group: 6e-13 of H, times 16 a step;
                # a deviation is a root of a variance that is rounded to 1e-16.
                assert np.shape(found[name]) == np.shape(value)
                assert np.allclose(found[name], value, rtol=1e-7, atol=1e-7, equal_nan=True), name
    assert len(forecast([point(iterations=0)])[0].curves["reward_mean"]) == 1


def test_no_points_have_no_forecasts():
    assert forecast([]) == []


# --- bounds, limits and values of a forecast


CONDITIONS = [
    (INF, 2, {"lemma_2_2"}),
    (0.3, 2, {"theorem_2_3", "theorem_2_4", "theorem_2_4_sup"}),
    (1.0, 2, {"theorem_2_3"}),
    (0.3, INF, {"theorem_2_3"}),
]


@pytest.mark.parametrize(("lam", "k", "names"), CONDITIONS)
def test_bounds_begin_at_the_first_retraining_and_hold(point, lam, k, names):
    (found,) = forecast([point(lam=lam, k=k)])
    assert found.bounds.keys() == names
    for bound in found.bounds.values():
        assert math.isnan(bound[0]) and not np.isnan(bound[1:]).any() and len(bound) == T + 1
    mean, curves = found.curves["exp_reward_mean"], found.curves
    for name in names & {"lemma_2_2", "theorem_2_3"}:
        assert (mean[1:] >= found.bounds[name][1:] - 1e-12).all()
    if "theorem_2_4" in names:
        assert (curves["reward_kl"][1:] <= found.bounds["theorem_2_4"][1:]).all()
        assert (mean[1:] <= found.bounds["theorem_2_4_sup"][1:]).all()


def test_bounds_have_the_values_of_their_formulas(point):
    beta = 1.5
    weight = np.exp(-beta * np.abs(PLACES))
    laws, _ = _places(beta, INF)
    variance = laws @ weight**2 - (laws @ weight) ** 2
    (found,) = forecast([point(beta=beta)])
    assert found.bounds["lemma_2_2"][1:] == pytest.approx((laws @ weight + variance / 2)[:-1])
    (found,) = forecast([point(beta=beta, lam=0.3)])
    mean = float(laws[0] @ weight)
    for name, value in {
        "theorem_2_3": mean + 0.3 / 1.3**3 / 2 * variance[0],
        "theorem_2_4": -math.log(0.7),
        "theorem_2_4_sup": mean / 0.7,
    }.items():
        assert found.bounds[name][1:].tolist() == pytest.approx([value] * T)


def test_values_are_those_of_curves_and_bounds_where_there_are_any(point):
    (found,) = forecast([point(lam=0.3)])
    values = {(metric, iteration): value for iteration, metric, value in found.values()}
    assert not any(math.isnan(value) for value in values.values())
    for metric, curve in found.curves.items():
        last = T if metric == "kept_reward_mean" else T + 1
        assert [values.pop((metric, i)) for i in range(last)] == curve[:last].tolist()
    for name, bound in found.bounds.items():
        assert [values.pop((f"bound/{name}", i)) for i in range(1, T + 1)] == bound[1:].tolist()
    assert values == {}


def test_an_infinite_value_is_a_value():
    curve = np.array([0.0, INF, math.nan])
    assert list(Forecast({"reward_kl": curve}, {}, {}).values()) == [
        (0, "reward_kl", 0.0),
        (1, "reward_kl", INF),
    ]


def test_limits_are_the_metrics_that_curves_end_with(point):
    points = [point(k=4), point(beta=INF), point(k=INF, lam=2), point(k=1, lam=1), point(lam=0)]
    long = [config.model_copy(update={"iterations": 400}) for config in points]
    for found in forecast(long):
        assert found.limit.keys() == found.curves.keys() - {"kept_reward_mean"}
        for name, value in found.limit.items():
            assert found.curves[name][-1] == pytest.approx(value, abs=1e-9), name
    for found in forecast([point(lam=0.5), point(lam=3, k=7)]):
        assert found.limit == {}
    top = forecast(points)[0].limit
    assert top["reward_mean"] == 0 and top["exp_reward_mean"] == 1
    assert top["reward_kl"] == pytest.approx(math.log(48 / 6))  # six samples are at 0
    assert top["class_fraction/1"] == pytest.approx(1)
    assert top["class_entropy"] == pytest.approx(0, abs=1e-12)


# --- a measured p_0


@pytest.mark.parametrize("lam", [0.0, 0.5, INF])
def test_a_measured_initial_law_starts_the_curves_elsewhere(point, lam):
    config = point(lam=lam)
    real = real_law(config)
    measured = np.array([-0.6, -0.5, -0.5, -3.0])
    (found,) = forecast([config], [real.starting_from(measured)])
    reward = np.union1d(real.reward, measured)
    law = np.array([np.mean(measured == level) for level in reward])
    reference = np.array([real.reference[real.reward == level].sum() for level in reward])
    share = 1.0 if math.isinf(lam) else lam / (1 + lam)
    wins = 1 / (1 + np.exp(-1.5 * (reward[:, None] - reward)))
    for mean, variance in zip(
        found.curves["reward_mean"], found.curves["reward_std"] ** 2, strict=True
    ):
        assert mean == pytest.approx(law @ reward, abs=1e-10)
        assert variance == pytest.approx(law @ (reward - law @ reward) ** 2, abs=1e-10)
        law = (1 - share) * reference + share * 2 * law * (wins @ law)
    assert not any(name.startswith("class") for name in found.curves)
    assert found.bounds.keys() == ({"lemma_2_2"} if math.isinf(lam) else set())
    assert found.curves["reward_kl"][0] > 0


# --- the loop follows the forecast


SEEDS = 64
SIZE = 600

FIXED = """
import torch

# Samples at -23/8, -22/8, ..., 23/8: enough everywhere for their counts to be about normal.
COUNTS = [7 + (7 * i) % 11 for i in range(47)]
COUNTS[23] += 600 - sum(COUNTS)

class Fixed:
    '''Real data of which every seed gets all, so that p_ref is the same for all of them.'''
    size, shape, n_classes = 600, (1,), 3

    def __init__(self, size):
        assert size == self.size

    def draw(self, size, generator):
        assert size == self.size
        places = (torch.arange(47) - 23) / 8
        return places.repeat_interleave(torch.tensor(COUNTS))[:, None]

    def classify(self, x):
        return (x[:, 0] > 0).long() + (x[:, 0] >= 1).long()
"""


@pytest.fixture
def fixed(make_config: Callable[..., PointConfig], write_module: Callable[[str], str]) -> Any:
    """A point on that data, with r(x) = -|x| of 24 levels."""
    data = {"name": f"{write_module(FIXED)}:Fixed", "size": SIZE}

    def build(k: float, beta: float, lam: float) -> PointConfig:
        return make_config(
            data=data,
            reward={"center": [0], "r_min": 0},
            curation={"k": k, "beta": beta},
            lam=lam,
            iterations=3,
            seeds=SEEDS,
            sampling={"shard_size": 2**14, "preview": 0},
        )

    return build


def _excess(config: PointConfig, found: Forecast) -> dict[tuple[str, int], float]:
    """By metric and t, how far the mean over seeds is from a forecast, in tolerated distances.

    Tolerated are six standard errors. Five are for chance. One is for curvature: the mean of p_t is
    off by half its second derivative along the covariance of m kept samples, so by some 1/m, which
    by that formula is no more than 1.0 standard errors, some 1/√(mS), anywhere on the grid below.
    And twelve samples: a rare level's count, of mean μ, is within 5√μ + 12 of it however small μ.
    """
    results = list(run_loop(config))
    kept = int(Rows.of(config, SIZE).kept[0]) or SIZE
    metrics = {name for name in found.curves if name.startswith("class_fraction")}
    assert len(metrics) >= 3
    excess = {}
    for name in metrics | {"reward_mean", "exp_reward_mean", "kept_reward_mean"}:
        farthest = 23 / 8 if "reward_mean" in name.replace("exp_reward", "") else 1
        for t, result in enumerate(results):
            if name not in result.metrics:
                assert name == "kept_reward_mean" and (t == config.iterations or config.lam == 0)
                continue
            values = result.metrics[name].numpy()
            error = values.std(ddof=1) / math.sqrt(len(values))
            tolerated = 6 * error + 12 * farthest / (len(values) * kept)
            excess[name, t] = abs(values.mean() - found.curves[name][t]) / tolerated
    return excess


@pytest.mark.parametrize("beta", [0.0, 0.5, 5.0, INF])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 16, INF])
def test_the_loop_follows_the_forecast(fixed, k, beta):
    points = [fixed(k, beta, lam) for lam in (0.0, 0.3, 1.0, INF)]
    for config, found in zip(points, forecast(points), strict=True):
        excess = _excess(config, found)
        assert len(excess) == 5 * 4 + (3 if config.lam else 0)
        worst = max(excess, key=lambda key: excess[key])
        assert excess[worst] < 1, (config.lam, worst)


def test_the_loop_follows_no_other_forecast(fixed):
    """The comparison above tells another K, β and λ, and a retraining left out."""
    config = fixed(3, 0.5, 1.0)
    (right,) = forecast([config])
    assert max(_excess(config, right).values()) < 1
    others = [(2, 0.5, 1), (4, 0.5, 1), (3, 0.35, 1), (3, 0.7, 1), (3, 0.5, 0.5), (3, 0.5, 2)]
    mistaken = forecast([fixed(*point) for point in others])
    late = {name: curve[[0, 0, 1, 2]] for name, curve in right.curves.items()}
    for found in [*mistaken, Forecast(late, {}, {})]:
        assert max(_excess(config, found).values()) > 1.2


def test_what_is_certain_is_forecast_exactly(fixed):
    """At K=β=λ=∞ every seed keeps the samples at 0 alone, and those are of class 0."""
    config = fixed(INF, INF, INF)
    (found,) = forecast([config])
    first, *rest = run_loop(config)
    assert first.metrics["kept_reward_mean"].tolist() == [0] * SEEDS
    assert found.curves["kept_reward_mean"][:3].tolist() == pytest.approx([0] * 3, abs=1e-12)
    certain = {"reward_mean": 0, "exp_reward_mean": 1, "class_fraction/0": 1, "class_entropy": 0}
    for name, value in certain.items():
        assert found.curves[name][1:].tolist() == pytest.approx([value] * 3, abs=1e-12)
        for result in rest:
            assert result.metrics[name].tolist() == [value] * SEEDS


@pytest.mark.parametrize("lam", [1.0, INF])
def test_the_loop_follows_the_forecast_on_gaussians(make_config, lam):
    """Here each seed has real data of its own, and rewards are continuous beside their plateau."""
    config = make_config(
        data={"name": "eight_gaussians", "size": 2000},
        curation={"k": 2, "beta": 10},
        lam=lam,
        iterations=4,
        seeds=40,
        sampling={"shard_size": 2**14, "preview": 0},
    )
    (found,) = forecast([config])
    assert found.curves["reward_mean"][4] > found.curves["reward_mean"][0] + 1.5
    for t, result in enumerate(run_loop(config)):
        for name, curve in found.curves.items():
            if name in ("reward_kl", "class_entropy"):
                continue  # entropies of counts are biased by (bins - 1)/2n, which is not small here
            if name in result.metrics:
                values = result.metrics[name].numpy()
                error = values.std(ddof=1) / math.sqrt(40)
                # As above, of distances up to 12.
                tolerated = 6 * error + 12 * (12 if "reward_mean" in name else 1) / (40 * 2000)
                assert abs(values.mean() - curve[t]) < tolerated, (name, t)
