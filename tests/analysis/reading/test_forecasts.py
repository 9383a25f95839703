"""Forecasts of a finished sweep: from its configuration, and from the p_0 that it trained."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from luceloop.analysis.pages.report import write_report
from luceloop.analysis.reading.forecasts import average, forecast_from, forecast_table, load_configs
from luceloop.analysis.reading.results import load_results
from luceloop.analysis.reading.store import find_runs
from luceloop.core.config.parsing import at_point, with_values
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.theory.forecast import Forecast, forecast
from luceloop.sweeps.record.folders import Output
from tests.support import Finished


@pytest.fixture(scope="module")
def runs(finished: Finished):
    return find_runs(finished.store, Output(finished.output).find("latest").id)


@pytest.fixture(scope="module")
def table(finished: Finished) -> pd.DataFrame:
    return pd.read_csv(finished.table)


@pytest.fixture(scope="module")
def measured(runs) -> dict[int, list[Forecast]]:
    return forecast_from(runs, load_configs(runs))


def test_configurations_come_back_from_the_store(finished: Finished, runs):
    config = Output(finished.output).find("latest").config()
    values = [(beta, lam) for beta in (0.0, 10.0) for lam in (0.5, math.inf)]
    expected = {
        index: at_point(config, {"curation.beta": beta, "lam": lam})
        for index, (beta, lam) in enumerate(values)
    }
    assert load_configs(runs) == expected


def test_forecasts_from_p_0_start_where_each_seed_was_measured(
    finished: Finished, measured, table: pd.DataFrame
):
    """At t=0 nothing is predicted: rewards of p_0's pool have the metrics of that pool."""
    rows = table[(table["iteration"] == 0) & table["seed"].notna()]
    values = rows.set_index(["point", "seed", "metric"])["value"]
    for point, forecasts in measured.items():
        assert len(forecasts) == len(finished.seeds)
        for seed, found in zip(finished.seeds, forecasts, strict=True):
            for metric in ("reward_mean", "reward_std", "exp_reward_mean", "reward_kl"):
                # Laws keep 1e-5 of the reward's range, which is about 12.
                expected = values[point, seed, metric]
                assert found.curves[metric][0] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_other_points_can_be_forecast_from_the_same_p_0(runs, measured):
    configs = load_configs(runs)
    other = with_values(configs[0], {"curation.beta": 3.0, "curation.k": 16, "lam": math.inf})
    [found] = forecast_from(runs, {0: other}).values()
    for here, there in zip(found, measured[1], strict=True):
        start = there.curves["reward_mean"][0]
        assert here.curves["reward_mean"][0] == pytest.approx(start, abs=1e-4)
        assert set(here.bounds) == {"lemma_2_2"}  # 2.3 and 2.4 need p_0 = p_ref


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [("reward.mode", 3, 0), ("data.size", 299, 300), ("learner.lr", 0.5, 0.005)],
)
def test_a_p_0_of_something_else_is_refused(runs, key, value, there):
    other = with_values(load_configs(runs)[0], {key: value})
    with pytest.raises(ConfigError, match=f"{key}={value}: must be {there}, with which sweep"):
        forecast_from(runs, {0: other})


def test_other_points_start_from_one_pool_the_largest(runs, measured):
    """Points at λ=∞ generate 1,200 samples, those at λ=½ 600; a new point has neither's index."""
    configs = load_configs(runs)
    others = {i: with_values(configs[0], {"curation.beta": 2.0, "lam": 0.1 * i}) for i in range(4)}
    for forecasts in forecast_from(runs, others).values():
        for found, largest in zip(forecasts, measured[1], strict=True):
            start = largest.curves["reward_mean"][0]
            assert found.curves["reward_mean"][0] == pytest.approx(start, abs=1e-4)


def _forecast(value: float) -> Forecast:
    curve, bound = np.array([value, 2 * value]), np.array([np.nan, 2 * value])
    return Forecast({"reward_mean": curve}, {"lemma_2_2": bound}, {"reward_mean": 1})


def test_the_average_is_the_mean_over_seeds():
    found = average([_forecast(1.0), _forecast(4.0)])
    assert found.curves["reward_mean"].tolist() == [2.5, 5.0]
    assert np.isnan(found.bounds["lemma_2_2"][0]) and found.bounds["lemma_2_2"][1] == 5.0
    assert found.limit == {"reward_mean": 1}


def test_limits_that_not_every_seed_has_are_left_out():
    without = Forecast(_forecast(1.0).curves, _forecast(1.0).bounds, {})
    assert average([_forecast(1.0), without]).limit == {}


def test_the_table_has_a_row_for_each_value_and_none_for_gaps(make_point):
    points = {0: make_point(2.0, 2), 1: make_point(3.0, math.inf)}
    forecasts = {0: [_forecast(1.0)], 1: [_forecast(2.0)]}
    table = forecast_table("some", ["curation.beta", "learner.lr"], points, forecasts, [])
    assert list(table.columns) == [
        "sweep", "point", "beta", "lam", "k", "learner.lr", "seed", "iteration", "metric", "value",
    ]  # fmt: skip
    assert table["seed"].isna().all() and not table["value"].isna().any()
    rows = table[["point", "beta", "k", "iteration", "metric", "value"]]
    assert [tuple(row) for row in rows.itertuples(index=False)] == [
        (0, 2.0, 2.0, 1, "bound/lemma_2_2", 2.0),
        (0, 2.0, 2.0, 0, "reward_mean", 1.0),
        (0, 2.0, 2.0, 1, "reward_mean", 2.0),
        (1, 3.0, math.inf, 1, "bound/lemma_2_2", 4.0),
        (1, 3.0, math.inf, 0, "reward_mean", 2.0),
        (1, 3.0, math.inf, 1, "reward_mean", 4.0),
    ]


@pytest.fixture
def make_point(runs):
    base = load_configs(runs)[0]

    def build(beta: float, k: float) -> PointConfig:
        return with_values(base, {"curation.beta": beta, "curation.k": k})

    return build


def test_forecasts_of_seeds_have_their_rows_and_the_mean_has_none(runs, make_point):
    forecasts = {0: [_forecast(1.0), _forecast(4.0)]}
    table = forecast_table("some", [], {0: make_point(2.0, 2)}, forecasts, [7, 9])
    last = table[(table["metric"] == "reward_mean") & (table["iteration"] == 1)]
    by_seed = last.set_index(last["seed"].fillna(-1).astype(int))["value"]
    assert by_seed.to_dict() == {7: 2.0, 9: 8.0, -1: 5.0}


def test_results_hold_the_forecast_that_is_asked_for(finished: Finished, runs, measured):
    exact = forecast(list(load_configs(runs).values()))
    by_start = {
        start: load_results(finished.store, runs.sweep, start).points
        for start in ("law", "measured", "off")
    }
    for index in range(finished.points):
        assert by_start["off"][index].forecast is None
        expected = {"law": exact[index], "measured": average(measured[index])}
        for start, wanted in expected.items():
            found = by_start[start][index].forecast
            assert found is not None
            assert np.array_equal(found.curves["reward_mean"], wanted.curves["reward_mean"])


def test_what_was_measured_is_shown_where_the_sweeps_code_is_not(
    finished: Finished, runs, monkeypatch, tmp_path
):
    def gone(config: PointConfig, cache: object) -> None:
        raise ConfigError("reward.name", "gone:reward", "cannot be imported")

    monkeypatch.setattr("luceloop.core.theory.forecast.real_law", gone)
    results = load_results(finished.store, runs.sweep)
    assert results.remark == "no forecast: reward.name='gone:reward': cannot be imported"
    assert [point.forecast for point in results.points] == [None] * finished.points
    text = write_report(results, [], tmp_path / "report.html").read_text()
    assert "no forecast: reward.name" in text
