"""A whole sweep, from the command to the table: what the contract promises of it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from luceloop.sweeps.record.folders import Output
from tests.support import PAIRWISE, QUICK, SMALL, Cli, Finished

CURATED = {"kept_reward_mean"}
EVERY = {
    "reward_mean", "reward_std", "reward_min", "reward_max", "exp_reward_mean", "exp_reward_var",
    "reward_kl", "frechet_distance", "precision", "recall", "sliced_wasserstein", "width_ratio",
    "class_entropy", "loss", "seconds/generate", "seconds/score", "seconds/curate", "seconds/fit",
} | {f"class_fraction/{i}" for i in range(8)}  # fmt: skip
BOUND = {0.5: "margin/theorem_2_3", math.inf: "margin/lemma_2_2"}
"""By λ: at K=4, λ=0.5 is not below 1/(K-1) as Theorem 2.4 asks."""
STATISTICS = ("mean", "std", "ci_low", "ci_high", "median", "q25", "q75", "n")


@pytest.fixture(scope="module")
def table(finished: Finished) -> pd.DataFrame:
    return pd.read_csv(finished.table)


@pytest.fixture(scope="module")
def runs(finished: Finished) -> dict[str, list]:
    client = MlflowClient(finished.store)
    [experiment] = [e for e in client.search_experiments() if e.name.startswith("mog/")]
    by_kind: dict[str, list] = {"sweep": [], "point": [], "seed": []}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        by_kind[run.data.tags["luceloop.kind"]].append(run)
    return by_kind


def test_the_table_has_exactly_the_rows_of_the_contract(finished: Finished, table: pd.DataFrame):
    assert list(table.columns) == [
        "sweep", "point", "beta", "lam", "k", "seed", "iteration", "metric", "value",
    ]  # fmt: skip
    expected = set()
    for point, lam in enumerate((0.5, math.inf) * 2):
        for iteration in range(finished.iterations + 1):
            metrics = EVERY | (CURATED if iteration < finished.iterations else set())
            metrics |= {BOUND[lam]} if iteration else set()
            for metric in metrics:
                expected |= {(point, s, iteration, metric) for s in finished.seeds}
                expected |= {(point, -1, iteration, f"{metric}.{s}") for s in STATISTICS}
    rows = table.assign(seed=table["seed"].fillna(-1).astype(int))
    found = list(rows[["point", "seed", "iteration", "metric"]].itertuples(index=False, name=None))
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert table["value"].notna().all()
    points = table.groupby("point")[["beta", "lam", "k"]].first().itertuples(index=False, name=None)
    assert list(points) == [(b, lam, 4) for b in (0.0, 10.0) for lam in (0.5, math.inf)]


def test_aggregates_agree_with_the_seeds_they_summarize(table: pd.DataFrame):
    seeds = table.dropna(subset="seed")
    keys = ["point", "iteration", "metric"]
    grouped = seeds.groupby(keys)["value"]
    t_975_2 = 4.302652729749464  # Student's t, 2 degrees of freedom, from a printed table
    half = t_975_2 * grouped.std(ddof=1) / np.sqrt(3)
    free = [*BOUND.values(), "loss"]  # metrics without a range
    below = -grouped.mean()  # of mean rewards, from r* = 0
    by_hand = {
        "mean": (grouped.mean(), None), "std": (grouped.std(ddof=1), None),
        "n": (grouped.count(), None), "median": (grouped.median(), None),
        "q25": (grouped.quantile(0.25), None), "q75": (grouped.quantile(0.75), None),
        "ci_low": (grouped.mean() - half, free), "ci_high": (grouped.mean() + half, free),
    }  # fmt: skip
    scaled = {"ci_low": -below * np.exp(half / below), "ci_high": -below * np.exp(-half / below)}
    for statistic, (expected, metrics) in by_hand.items():
        found = _aggregate(table, statistic)
        same = expected.loc[found.index]
        names = found.index.get_level_values("metric")
        chosen = names.isin(metrics or list(names))
        assert chosen.any()
        assert np.allclose(found[chosen], same[chosen], rtol=1e-9, atol=1e-12)
    for statistic, expected in scaled.items():
        found = _aggregate(table, statistic)
        found = found[found.index.get_level_values("metric") == "reward_mean"]
        assert np.allclose(found, expected.loc[found.index], rtol=1e-9)


def _aggregate(table: pd.DataFrame, statistic: str) -> pd.Series:
    """One statistic of every metric, by point, iteration and metric."""
    rows = table[table["seed"].isna() & table["metric"].str.endswith(f".{statistic}")]
    rows = rows.assign(metric=rows["metric"].str.removesuffix(f".{statistic}"))
    return rows.set_index(["point", "iteration", "metric"])["value"].sort_index()


def test_points_share_p_0_of_each_seed(table: pd.DataFrame):
    """Points with the same pool size see the very same pool of p_0, whatever β is."""
    first = table[(table["iteration"] == 0) & table["seed"].notna()]
    for metric in ("reward_mean", "class_entropy", "loss"):
        chosen = first[first["metric"] == metric]
        assert (chosen.groupby(["lam", "seed"])["value"].nunique() == 1).all()
        assert chosen["value"].nunique() >= 3  # and seeds differ
    losses = first[first["metric"] == "loss"].groupby("seed")["value"]
    assert (losses.nunique() == 1).all()  # one p_0 for all four points


def test_kept_samples_are_better_only_where_there_is_a_preference(table: pd.DataFrame):
    seeds = table[table["seed"].notna()]
    wide = seeds.pivot_table(index=["beta", "lam", "seed", "iteration"], columns="metric",
                             values="value").dropna(subset="kept_reward_mean")  # fmt: skip
    gain = wide["kept_reward_mean"] - wide["reward_mean"]
    # Without preference the kept are 150 or 300 uniform ones: 5 standard errors of their mean.
    slack = 5 * wide["reward_std"] / np.sqrt(150)
    indifferent = wide.index.get_level_values("beta") == 0
    assert (gain[indifferent].abs() < slack[indifferent]).all()
    assert (gain[~indifferent] > slack[~indifferent]).all()


def test_mlflow_holds_a_run_per_sweep_point_and_seed(finished: Finished, runs: dict[str, list]):
    assert {kind: len(found) for kind, found in runs.items()} == {
        "sweep": 1, "point": 4, "seed": 12,
    }  # fmt: skip

    def every(run) -> set[str]:
        return EVERY | CURATED | {BOUND[float(run.data.params["lam"])]}

    names = sorted(run.info.run_name for run in runs["point"])
    assert names == ["β=0 λ=0.5 K=4", "β=0 λ=inf K=4", "β=10 λ=0.5 K=4", "β=10 λ=inf K=4"]
    points = {run.data.tags["luceloop.point"]: run for run in runs["point"]}
    [sweep] = runs["sweep"]
    assert sweep.info.run_name == "sweep" and not sweep.data.metrics
    for run in runs["point"] + runs["sweep"]:
        assert "mlflow.parentRunId" not in run.data.tags
    for run in runs["seed"]:
        parent = points[run.data.tags["luceloop.point"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["mlflow.runColor"] == parent.data.tags["mlflow.runColor"]
        assert run.data.params["curation.beta"] == parent.data.params["curation.beta"]
        assert run.data.params["lam"] == parent.data.params["lam"]
        assert set(run.data.metrics) == every(run)
    for run in runs["point"]:
        # The number of seeds is a parameter: it would be a flat chart of every metric.
        shown = [statistic for statistic in STATISTICS if statistic != "n"]
        assert set(run.data.metrics) == {f"{m}.{s}" for m in every(run) for s in shown}
    statuses = {run.info.status for found in runs.values() for run in found}
    assert statuses == {"FINISHED"}
    latest = Output(finished.output).find("latest").id
    assert {r.data.tags["luceloop.sweep"] for found in runs.values() for r in found} == {latest}


def test_mlflow_steps_are_the_iterations_once_each(finished: Finished, runs: dict[str, list]):
    client = MlflowClient(finished.store)
    for run in [*runs["point"], *runs["seed"]]:
        for metric in list(run.data.metrics)[:6]:
            steps = sorted(row.step for row in client.get_metric_history(run.info.run_id, metric))
            last = finished.iterations - ("kept_reward_mean" in metric)
            assert steps == list(range("margin/" in metric, last + 1))


def test_the_aggregates_in_mlflow_are_those_of_the_table(
    finished: Finished, runs: dict[str, list], table: pd.DataFrame
):
    client = MlflowClient(finished.store)
    rows = table[table["seed"].isna()].set_index(["point", "metric", "iteration"])["value"]
    for run in runs["point"]:
        point = int(run.data.tags["luceloop.point"])
        for statistic in STATISTICS:
            metric = f"reward_mean.{statistic}"
            for row in client.get_metric_history(run.info.run_id, metric):
                assert row.value == pytest.approx(rows[point, metric, row.step], rel=1e-9)


def test_configuration_environment_and_figures_are_artifacts(
    finished: Finished, runs: dict[str, list]
):
    client, [sweep] = MlflowClient(finished.store), runs["sweep"]
    names = {item.path for item in client.list_artifacts(sweep.info.run_id)}
    assert {"config.yaml", "environment.json", "figures", "report.html"} <= names
    figures = {item.path for item in client.list_artifacts(sweep.info.run_id, "figures")}
    shown = ("overview", "reward_mean", "kept_against_pool", "class_shares", "samples", "margins")
    for name in shown:
        assert {f"figures/{name}.png", f"figures/{name}.pdf"} <= figures


def test_the_number_of_samplers_changes_no_bit(local_ray: None, cli: Cli, output, tmp_path):
    tables = {}
    where = ["--output", str(output)]
    for samplers in (0, 1, 3):
        arguments = ["seeds=[1,2]", "iterations=1", "beta=5", "lam=1", f"name=with{samplers}"]
        ran = cli("run", "mog", *arguments, *SMALL, f"resources.samplers={samplers}", *where, QUICK)
        assert ran.code == 0, ran.out + ran.err
        file = tmp_path / f"{samplers}.parquet"
        assert cli("export", f"with{samplers}", "-o", str(file), *where).code == 0
        read = pd.read_parquet(file).drop(columns="sweep")
        curves = read[~read["metric"].str.startswith("seconds/")]
        tables[samplers] = curves.reset_index(drop=True)
    for samplers in (1, 3):
        pd.testing.assert_frame_equal(tables[samplers], tables[0], check_exact=True)


BAD_REWARDS = {
    "wrong_shape": "it must return one number a sample",
    "nan": "is NaN or infinite",
    "raises": "raised KeyError",
    "leaves": "called sys.exit(0)",
    "ends": "called os._exit(0)",
}


def test_a_bad_reward_fails_its_trial_with_the_reason(local_ray: None, cli: Cli, output):
    where = ["--output", str(output)]
    small = ["learner.name=empirical", "data.size=50", "seeds=1", "iterations=1", "lam=1"]
    names = ",".join(f"'users_own:{reward}'" for reward in BAD_REWARDS)
    ran = cli("run", "demo", *small, f"search.reward.name.grid=[{names}]", *PAIRWISE, *where, QUICK)
    assert ran.code == 1, ran.out
    assert "Traceback" not in ran.out + ran.err
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    ids = [e.experiment_id for e in client.search_experiments() if "/" in e.name]
    points = client.search_runs(ids, "tags.`luceloop.kind` = 'point'")
    assert len(points) == 2 * len(BAD_REWARDS)
    for reward, reason in BAD_REWARDS.items():
        said = f"failed: reward users_own:{reward}"
        lines = [line for line in ran.out.splitlines() if said in line]
        assert len(lines) >= 2 and all(reason in line for line in lines)  # both points say why
        runs = [run for run in points if run.data.params["reward.name"] == f"users_own:{reward}"]
        assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
        assert all(reason in run.data.tags["mlflow.note.content"] for run in runs)


def test_a_reward_of_the_users_own_runs(local_ray: None, cli: Cli, output, tmp_path):
    where = ["--output", str(output)]
    small = ["learner.name=empirical", "data.size=50", "seeds=2", "iterations=1", "lam=1", "beta=1"]
    rewards = "search.reward.name.grid=['users_own:right','users_own:bounded']"
    assert cli("run", "demo", *small, rewards, *PAIRWISE, *where, QUICK).code == 0
    assert cli("export", "demo", "-o", str(tmp_path / "t.csv"), *where).code == 0
    found = pd.read_csv(tmp_path / "t.csv").groupby("reward.name")["metric"].agg(set)
    without, with_supremum = found["users_own:right"], found["users_own:bounded"]
    assert {m.split(".")[0] for m in with_supremum - without} == {
        "exp_reward_mean", "exp_reward_var", "margin/theorem_2_3",
    }  # fmt: skip
