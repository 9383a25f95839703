"""Tables and statistics: from MLflow alone, and right by independent arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from luceloop.analysis.reading.curves import load_curves, load_table, tidy, write_table
from luceloop.analysis.reading.store import find_runs
from luceloop.analysis.statistics.seeds import aggregate, band
from luceloop.core.errors import ConfigError
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.tracking.load import aggregates
from tests.support import PAIRWISE, QUICK, Finished


@pytest.fixture
def curves() -> pd.DataFrame:
    """Two points, one of which lacks a seed from iteration 1 on, as a failed trial would."""
    random, rows = np.random.default_rng(3), []
    for point, seeds in ((0, (1, 2, 3, 4)), (1, (1, 2))):
        for iteration in range(3):
            for seed in seeds[: 3 if point == 0 and iteration else None]:
                rows.append((point, seed, iteration, "reward_mean", random.normal()))
    table = pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
    return table.astype({"seed": "Int64"})


def test_aggregates_match_an_independent_computation(curves):
    found = aggregate(curves).set_index(["point", "iteration", "metric"])["value"]
    for (point, iteration), rows in curves.groupby(["point", "iteration"]):
        values = rows["value"].to_numpy(dtype=float)
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        expected = {
            "mean": np.mean(values), "std": stats.tstd(values), "n": len(values),
            "ci_low": low, "ci_high": high,
        }  # fmt: skip
        for statistic, value in expected.items():
            name = f"reward_mean.{statistic}"
            assert found[point, iteration, name] == pytest.approx(value, rel=1e-12)
    assert len(found) == 6 * 8


def test_aggregates_have_no_seed_and_the_columns_of_the_seeds(curves):
    table = aggregate(curves)
    assert list(table.columns) == list(curves.columns)
    assert table["seed"].isna().all()


def test_the_band_of_one_seed_is_its_value(curves):
    table = band(aggregate(curves[curves["seed"] == 1].query("point == 0")), "reward_mean")
    assert (table["ci_low"] == table["mean"]).all() and (table["ci_high"] == table["mean"]).all()


def test_a_band_takes_its_own_metric_only():
    rows = [(0, pd.NA, 0, f"{name}.mean", value) for name, value in (("loss", 1.0), ("loss2", 2.0))]
    table = pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
    assert band(table, "loss")["mean"].tolist() == [1.0]


def test_csv_and_parquet_hold_the_same_table(finished: Finished, tmp_path):
    sweep = Output(finished.output).find("latest").id
    table = load_table(finished.store, sweep)
    write_table(table, tmp_path / "t.parquet")
    parquet = pd.read_parquet(tmp_path / "t.parquet")
    csv = pd.read_csv(finished.table, dtype={"seed": "Int64"})
    pd.testing.assert_frame_equal(csv, parquet.astype(csv.dtypes), check_exact=True)


def test_an_infinite_k_and_further_keys_are_columns(local_ray, cli, output, tmp_path):
    where = ["--output", str(output)]
    arguments = ["demo", "learner.name=empirical", "data.size=40", "iterations=1", "seeds=[4]"]
    space = ["lam=1", "beta=2", "search.k.grid=[2,.inf]", "search.reward.r_min.grid=[0.5,1]"]
    assert cli("run", *arguments, *space, *PAIRWISE, *where, QUICK).code == 0
    assert cli("export", "demo", "-o", str(tmp_path / "t.csv"), *where).code == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table.columns)[:6] == ["sweep", "point", "beta", "lam", "k", "reward.r_min"]
    points = table.groupby("point")[["k", "reward.r_min"]].first()
    assert [tuple(row) for row in points.to_numpy()] == [
        (2, 0.5), (2, 1), (math.inf, 0.5), (math.inf, 1),
    ]  # fmt: skip
    assert cli("plot", "demo", "--to", str(tmp_path / "figures"), *where).code == 0


def test_an_unknown_sweep_or_a_silent_store_is_one_clear_error(finished: Finished):
    with pytest.raises(ConfigError, match="has no runs"):
        find_runs(finished.store, "19990101-000000-0000")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        find_runs("http://127.0.0.1:9", "latest")


def test_curves_hold_every_seed_of_every_point(finished: Finished):
    sweep = Output(finished.output).find("latest").id
    curves = load_curves(find_runs(finished.store, sweep))
    assert curves.groupby("point")["seed"].unique().map(list).tolist() == [[7, 8, 9]] * 4
    assert not curves.duplicated(["point", "seed", "iteration", "metric"]).any()


def test_aggregating_many_points_grows_with_the_rows_alone():
    """Random points differ in every key: no product of their values may be formed."""
    random = np.random.default_rng(0)
    points = pd.DataFrame({"point": range(300), "beta": random.random(300)})
    points["lam"] = random.random(300)
    seeds = pd.DataFrame({"seed": [1, 2]}, dtype="Int64")
    rows = points.merge(seeds, how="cross").assign(iteration=0, metric="reward_mean", value=1.0)
    assert len(aggregate(rows)) == 300 * 8


def test_a_metric_that_a_point_lacks_has_an_empty_band(curves):
    """Points at λ=0 keep nothing, beside points that do."""
    table = band(aggregate(curves), "kept_reward_mean")
    assert table.empty and "mean" in table


def test_points_with_other_classes_have_the_intervals_that_mlflow_has():
    """A sweep may search over `data.name`: eight modes beside two."""
    per_point = {}
    for point, count in ((0, 8), (1, 2)):
        shares = {f"class_fraction/{i}": [1 / count, 1 / count] for i in range(count)}
        per_point[point] = shares | {"class_entropy": [f * math.log(count) for f in (0.2, 0.6)]}
    rows = [
        (point, seed, 0, metric, value)
        for point, row in per_point.items()
        for metric, values in row.items()
        for seed, value in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["point", "seed", "iteration", "metric", "value"])
    found = aggregate(table.astype({"seed": "Int64"})).set_index(["point", "metric"])["value"]
    for point, row in per_point.items():
        logged = aggregates(row)
        assert {name: found[point, name] for name in logged} == pytest.approx(logged, rel=1e-12)
    assert found[1, "class_entropy.ci_high"] <= math.log(2)


def test_parquet_holds_columns_of_mixed_kinds(tmp_path):
    rows = [("s", 0, 1.0, 1.0, 2, value, 0, 0, "loss", 0.5) for value in (100, "None", "warm")]
    table = tidy(rows, ["real_size"])
    write_table(table, tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["real_size"].tolist() == ["100", "None", "warm"]
