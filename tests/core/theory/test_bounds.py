"""Which bounds apply, what they say, and the margins that runs have to them."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.pool.rows import Rows
from luceloop.core.theory.bounds import BOUNDS, Bounds, Margins, applicable
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.real_law import real_law

INF = math.inf
MIXED = ["theorem_2_3", "theorem_2_4", "theorem_2_4_sup"]


@pytest.mark.parametrize(
    ("lam", "k", "names"),
    [
        (INF, 1, ["lemma_2_2"]),
        (INF, 2, ["lemma_2_2"]),
        (INF, INF, ["lemma_2_2"]),
        (0.0, 1, MIXED),
        (0.0, 2, MIXED),
        (0.0, INF, MIXED),
        (5.0, 1, MIXED),
        (0.3, 2, MIXED),
        (0.99, 2, MIXED),
        (0.49, 3, MIXED),
        (1.0, 2, ["theorem_2_3"]),
        (0.5, 3, ["theorem_2_3"]),
        (7.0, 2, ["theorem_2_3"]),
        (1e-3, INF, ["theorem_2_3"]),
    ],
)
def test_bounds_apply_where_their_conditions_are_met(lam, k, names):
    assert applicable(lam, k, 0.0) == names
    assert applicable(lam, k, -3.5) == names
    assert applicable(lam, k, None) == []


def test_every_bound_is_described():
    assert list(BOUNDS) == ["lemma_2_2", *MIXED]


def test_margins_are_positive_on_the_right_side():
    for name, bound in BOUNDS.items():
        below = name in ("theorem_2_4", "theorem_2_4_sup")
        assert bound.margin(0.2, 0.5) == pytest.approx(0.3 if below else -0.3)
        assert bound.margin(0.5, 0.2) == pytest.approx(-0.3 if below else 0.3)
        assert bound.margin(0.4, 0.4) == 0


# --- values


REWARD = np.array([-2.0, -1.0, -1.0, 0.0])  # levels -2, -1, 0 of weights ¼, ½, ¼


def _law(supremum: float | None = 0.0) -> RewardLaw:
    return RewardLaw.of(REWARD, None, 0, supremum)


def _moments(beta: float, supremum: float = 0.0) -> tuple[float, float]:
    """E[w] and Var[w] under the real data, w being 1 at the supremum."""
    weight = np.exp(beta * (REWARD - supremum))
    return float(weight.mean()), float(weight.var())


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("supremum", [0.0, 1.5])
def test_bounds_with_real_data_are_those_of_its_moments(beta, supremum):
    mean, variance = _moments(beta, supremum)
    found = Bounds(_law(supremum), beta, 0.3, 2).after(0.9, 0.8)  # whatever the last moments
    assert found == pytest.approx(
        {
            "theorem_2_3": mean + 0.3 / 1.3**3 / 2 * variance,
            "theorem_2_4": -math.log(0.7),
            "theorem_2_4_sup": mean / 0.7,
        }
    )
    found = Bounds(_law(supremum), beta, 2.0, INF).after(0.9, 0.8)
    assert found == pytest.approx({"theorem_2_3": mean + 2 / 27 * variance})
    found = Bounds(_law(supremum), beta, 0.0, 7).after(0.9, 0.8)
    assert found == pytest.approx({"theorem_2_3": mean, "theorem_2_4": 0, "theorem_2_4_sup": mean})


def test_infinite_beta_counts_the_best_alone():
    found = Bounds(_law(), INF, 0.3, 2).after(0.9, 0.8)
    assert found["theorem_2_3"] == pytest.approx(1 / 4 + 0.3 / 1.3**3 / 2 * 3 / 16)
    assert Bounds(_law(1.5), INF, 0.3, 2).after(0.9, 0.8)["theorem_2_3"] == 0


@pytest.mark.parametrize(("k", "share"), [(1, 0), (2, 1 / 2), (4, 3 / 4), (INF, 1)])
def test_without_real_data_a_bound_follows_from_the_last_moments(k, share):
    bounds = Bounds(_law(), 0.5, INF, k)
    assert bounds.names == ["lemma_2_2"]
    assert bounds.after(0.4, 0.1) == pytest.approx({"lemma_2_2": 0.4 + share * 0.1})
    assert bounds.after(0.6, 0.0) == pytest.approx({"lemma_2_2": 0.6})


def test_a_measured_initial_law_leaves_lemma_2_2_alone():
    law = _law().starting_from(np.array([-2.0, -2.0, 0.0]))
    for lam, k in itertools.product((0.0, 0.3, 1.0), (1, 2, INF)):
        bounds = Bounds(law, 0.5, lam, k)
        assert bounds.names == [] and bounds.after(0.4, 0.1) == {}
    assert Bounds(law, 0.5, INF, 2).after(0.4, 0.1) == pytest.approx({"lemma_2_2": 0.45})


def test_a_reward_without_supremum_has_no_bounds():
    for lam in (0.0, 0.3, INF):
        bounds = Bounds(_law(None), 0.5, lam, 2)
        assert bounds.names == [] and bounds.after(0.4, 0.1) == {}


# --- margins of an ensemble


def _rows(points: list[tuple[float, float]]) -> Rows:
    """Rows with these β and λ; no margin depends on sizes."""
    beta, lam = (torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True))
    sizes = torch.full((len(points),), 4)
    return Rows(tuple(range(len(points))), beta, lam, sizes, sizes, sizes)


def _metrics(**columns: list[float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}


def test_every_row_has_the_margins_of_its_own_point():
    points = [(0.5, INF), (0.5, 0.3), (4.0, 0.3), (0.5, 1.0), (4.0, INF), (0.5, 0.3)]
    last = _metrics(
        exp_reward_mean=[0.40, 0.41, 0.42, 0.43, 0.44, 0.45],
        exp_reward_var=[0.10, 0.11, 0.12, 0.13, 0.14, 0.15],
    )
    now = _metrics(
        exp_reward_mean=[0.50, 0.51, 0.52, 0.53, 0.41, 0.30], reward_kl=[1.0, 0.1, 0.2, 0.3, 1, 0.5]
    )
    found = Margins(_law(), _rows(points), 2).after(last, now)
    nan = math.nan
    low, low_var = _moments(0.5)
    high, high_var = _moments(4.0)
    gain = 0.3 / 1.3**3 / 2
    expected = {
        "margin/lemma_2_2": [0.5 - 0.45, nan, nan, nan, 0.41 - 0.51, nan],
        "margin/theorem_2_3": [
            nan,
            0.51 - low - gain * low_var,
            0.52 - high - gain * high_var,
            0.53 - low - low_var / 16,
            nan,
            0.30 - low - gain * low_var,
        ],
        "margin/theorem_2_4": [
            nan,
            -math.log(0.7) - 0.1,
            -math.log(0.7) - 0.2,
            nan,
            nan,
            -math.log(0.7) - 0.5,
        ],
        "margin/theorem_2_4_sup": [
            nan,
            low / 0.7 - 0.51,
            high / 0.7 - 0.52,
            nan,
            nan,
            low / 0.7 - 0.3,
        ],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == torch.float64
        assert found[name].tolist() == pytest.approx(values, nan_ok=True), name
    violated = {name for name, values in found.items() if (values < 0).any()}
    assert violated == expected.keys()


def test_rows_that_no_bound_applies_to_have_no_margins():
    rows = _rows([(0.5, 0.3), (0.5, INF)])
    now = _metrics(exp_reward_mean=[0.5, 0.5], exp_reward_var=[0.1, 0.1], reward_kl=[0.1, 0.1])
    assert Margins(_law(None), rows, 2).after({}, {"reward_mean": now["reward_kl"]}) == {}
    measured = Margins(_law().starting_from(REWARD), rows, 2).after(now, now)
    assert measured.keys() == {"margin/lemma_2_2"}
    assert measured["margin/lemma_2_2"].tolist() == pytest.approx([math.nan, -0.05], nan_ok=True)


def test_metrics_stay_as_they_are():
    now = _metrics(exp_reward_mean=[0.5], exp_reward_var=[0.1], reward_kl=[0.1])
    copies = {name: value.clone() for name, value in now.items()}
    Margins(_law(), _rows([(0.5, 0.3)]), 2).after(now, now)
    for name, value in copies.items():
        assert torch.equal(now[name], value)


# --- margins of the loop


def _margins(result: IterationResult) -> dict[str, torch.Tensor]:
    return {name: value for name, value in result.metrics.items() if name.startswith("margin/")}


@pytest.mark.parametrize("k", [1, 2, 5, INF])
@pytest.mark.parametrize("beta", [0.4, 3.0, INF])
def test_runs_without_real_data_have_margins_to_lemma_2_2(make_config, k, beta):
    config = make_config(curation={"k": k, "beta": beta}, iterations=3)
    last: IterationResult | None = None
    for result in run_loop(config):
        margins = _margins(result)
        if last is None:
            assert margins == {}
        else:
            assert margins.keys() == {"margin/lemma_2_2"}
            gain = (1 - 1 / k) * last.metrics["exp_reward_var"]
            expected = result.metrics["exp_reward_mean"] - last.metrics["exp_reward_mean"] - gain
            assert margins["margin/lemma_2_2"].tolist() == pytest.approx(
                expected.tolist(), abs=1e-14
            )
        last = result


@pytest.mark.parametrize(("lam", "k"), [(1, 2), (0.3, 2), (0.3, 5), (0.3, INF), (0, 2), (1, 1)])
@pytest.mark.parametrize("beta", [0.4, 3.0])
def test_runs_with_real_data_have_margins_to_the_bounds_of_its_law(make_config, lam, k, beta):
    config = make_config(curation={"k": k, "beta": beta}, lam=lam, iterations=3)
    law = real_law(config)
    weight = np.exp(beta * law.reward)
    mean = float(law.reference @ weight)
    variance = float(law.reference @ weight**2) - mean**2
    first, *rest = run_loop(config)
    assert _margins(first) == {}
    for result in rest:
        value, divergence = (result.metrics[name] for name in ("exp_reward_mean", "reward_kl"))
        gain = lam / (1 + lam) ** 3 * (1 - 1 / k) * variance
        expected = {"margin/theorem_2_3": value - mean - gain}
        if lam * (k - 1 if lam else 0) < 1:
            ratio = 1 / (1 - lam * (k - 1)) if lam else 1.0
            expected["margin/theorem_2_4"] = math.log(ratio) - divergence
            expected["margin/theorem_2_4_sup"] = ratio * mean - value
        found = _margins(result)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            # 10^5 levels: sums of so many terms are rounded in another order.
            assert found[name].tolist() == pytest.approx(values.tolist(), abs=1e-11), name


@pytest.mark.parametrize("lam", [0.3, 1.0, INF])
def test_a_resumed_run_has_the_margins_of_an_undisturbed_one(make_config, lam):
    config = make_config(lam=lam, iterations=3)
    undisturbed = list(run_loop(config))
    for stopped in undisturbed[:-1]:
        buffer = io.BytesIO()
        torch.save(stopped.state.plain(), buffer)
        buffer.seek(0)
        state = LoopState.of(torch.load(buffer, weights_only=True))
        resumed = list(Loop(config).run(state))
        for result, other in zip(resumed, undisturbed[stopped.iteration + 1 :], strict=True):
            expected = _margins(other)
            assert expected and _margins(result).keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(_margins(result)[name], value)


CUSTOM = """
def first(x):
    return x[:, 0]

def bounded(x):
    return x[:, 0].clamp_max(2.0) - 1
bounded.supremum = 1.0
"""


@pytest.fixture
def custom(write_module: Callable[[str], str]) -> Callable[[str], dict[str, Any]]:
    """Names an attribute of the module above."""
    module = write_module(CUSTOM)
    return lambda attribute: {"name": f"{module}:{attribute}"}


@pytest.mark.parametrize("lam", [0.3, INF])
def test_runs_have_margins_where_their_reward_has_a_supremum(make_config, custom, lam):
    for attribute, some in (("first", False), ("bounded", True)):
        for result in run_loop(make_config(reward=custom(attribute), lam=lam)):
            assert bool(_margins(result)) == (some and result.iteration > 0)


def test_a_run_without_iterations_has_no_margins(make_config):
    (only,) = run_loop(make_config(iterations=0))
    assert _margins(only) == {}
