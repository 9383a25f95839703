"""`luceloop forecast` and the gaps that `luceloop show` prints."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from luceloop.analysis.reading.forecasts import load_configs
from luceloop.analysis.reading.store import find_runs
from luceloop.analysis.statistics.seeds import interval
from luceloop.core.config.parsing import at_point, parse_config
from luceloop.core.rewards.mode_distance import ModeDistanceConfig
from luceloop.core.theory.forecast import forecast
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.progress import forecast_gaps
from luceloop.sweeps.search.space import build_suggestions, planned_points
from tests.support import ALONE, QUICK, Cli, Finished


def test_every_point_gets_its_rows_and_a_figure(cli: Cli, tmp_path):
    file, output = tmp_path / "t.csv", tmp_path / "output"
    arguments = ["search.beta.grid=[0,10]", "search.lam.grid=[0,0.5,.inf]", "iterations=3"]
    ran = cli("forecast", "mog", *arguments, "-o", str(file), "--output", str(output))
    assert ran.code == 0, ran.err
    table = pd.read_csv(file)
    assert list(table.columns) == [
        "sweep", "point", "beta", "lam", "k", "seed", "iteration", "metric", "value",
    ]  # fmt: skip
    assert table["seed"].isna().all() and table["value"].notna().all()
    assert not table.duplicated(["point", "iteration", "metric"]).any()
    points = table.groupby("point")[["beta", "lam"]].first().itertuples(index=False, name=None)
    expected = [(beta, lam) for beta in (0.0, 10.0) for lam in (0.0, 0.5, math.inf)]
    assert list(points) == expected
    config = read_config("mog", arguments)
    for index, (beta, lam) in enumerate(expected):
        point = at_point(config, {"curation.beta": beta, "lam": lam})
        [found] = forecast([point], replicates=200)
        simulated = {
            (f"finite_n/{metric}.{statistic}", t): value
            for metric, scatter in found.finite_n.items()
            for t, statistic, value in scatter.statistics()
        }
        rows = table[table["point"] == index].set_index(["metric", "iteration"])["value"]
        expected_rows = {(m, t): v for t, m, v in found.values()} | simulated
        assert dict(rows) == pytest.approx(expected_rows, rel=1e-12)
        bounds = {metric for metric in rows.index.get_level_values(0) if "bound/" in metric}
        mixing = {"bound/theorem_2_3", "bound/theorem_2_4", "bound/theorem_2_4_sup"}
        assert bounds == ({"bound/lemma_2_2"} if math.isinf(lam) else mixing)
    for ending in ("png", "pdf"):
        assert (output / "forecasts" / f"mog.{ending}").stat().st_size > 5000
    assert {path.name for path in output.iterdir()} == {"forecasts"}
    for name in ("β=0 λ=0 K=2", "β=10 λ=0.5 K=2", "β=10 λ=inf K=2"):
        assert name in ran.out


@pytest.mark.external
def test_it_starts_neither_ray_nor_mlflow(tmp_path):
    script = (
        "import sys; from luceloop.sweeps.cli.app import app\n"
        "app(['forecast', 'mog', '--no-figures', '-o', 't.csv'], standalone_mode=False)\n"
        "print(sorted({'ray', 'mlflow'} & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_points_that_results_do_not_decide_are_those_of_the_sweep(sampler, tmp_path):
    search = {"beta": {"loguniform": [0.1, 10]}, "sampler": sampler, "trials": 7}
    config = parse_config({"name": "s", "data": {"name": "two_moons"}, "search": search})
    suggested = build_suggestions(config.search, Ledger(tmp_path / "ledger.jsonl"))
    expected = [at_point(config, suggested.get(index)) for index in range(7)]
    assert planned_points(config) == expected
    assert len({point.beta for point in expected}) == 7


def test_points_that_results_decide_are_the_ends_of_their_ranges():
    points = planned_points(read_config("mog-search", []))
    assert {(point.beta, point.lam) for point in points} == {(0.1, 0.1), (20, 0.1), (0.1, 10)}


def test_a_sweeps_own_p_0_starts_the_forecast_seed_by_seed(
    finished: Finished, cli: Cli, tmp_path, monkeypatch
):
    file = tmp_path / "t.csv"
    arguments = ["search.lam.grid=[2,.inf]", "beta=4", "iterations=2"]
    given = Output(finished.output).find("latest").config_file
    ran = cli("forecast", str(given), *arguments, "--from", "latest", "-o", str(file),
              "--no-figures", "--output", str(finished.output))  # fmt: skip
    assert ran.code == 0, ran.err
    table = pd.read_csv(file).query("metric == 'reward_mean'")
    assert set(table["lam"]) == {2.0, math.inf} and set(table["beta"]) == {4.0}
    wide = table.assign(seed=table["seed"].fillna(-1).astype(int))
    wide = wide.pivot(index=["point", "iteration"], columns="seed", values="value")
    assert [int(seed) for seed in wide.columns] == [-1, *finished.seeds]
    assert np.allclose(wide[-1], wide[list(finished.seeds)].mean(axis=1), rtol=1e-12)
    measured = pd.read_csv(finished.table).query("metric == 'reward_mean' and iteration == 0")
    start = measured[(measured["lam"] == math.inf) & (measured["beta"] == 10)]
    expected = start.dropna(subset="seed").set_index("seed")["value"]
    assert np.allclose(wide.loc[(1, 0), list(finished.seeds)], expected, atol=1e-4)


def test_show_prints_the_gap_as_an_interval_and_a_verdict(finished: Finished, cli: Cli):
    folder = Output(finished.output).find("latest")
    ledger = Ledger(folder.ledger, writable=False)
    gaps = forecast_gaps(folder.config(), ledger, folder)
    table = pd.read_csv(finished.table).query("metric == 'reward_mean' and iteration == 3")
    ran = cli("show", "latest", "--output", str(finished.output))
    lines = [line for line in ran.out.splitlines() if line.startswith("β=")]
    points = [at_point(folder.config(), {"curation.beta": b, "lam": lam})
              for b in (0, 10) for lam in (0.5, math.inf)]  # fmt: skip
    for index, found in enumerate(forecast(points)):
        values = table[(table["point"] == index) & table["seed"].notna()]["value"]
        expected = found.curves["reward_mean"][-1]
        low, high = interval(values.mean(), values.std(ddof=1), 3, high=0.0)  # r* is 0
        gap = gaps[index].gap.whole
        assert gaps[index].metric == "reward_mean"
        assert gaps[index].forecast == pytest.approx(expected, rel=1e-12)
        assert gap.value == pytest.approx(values.mean() - expected, rel=1e-9)
        assert (gap.low, gap.high) == pytest.approx((low - expected, high - expected), rel=1e-9)
        assert gaps[index].gap.learner is not None
        assert f"{expected:.4g}" in lines[index]
        assert (
            gap.words.split()[0] in ("agrees", "above", "below")
            and gap.words.split()[0] in lines[index]
        )


def test_searched_mappings_come_back_from_the_store(local_ray, cli: Cli, output, tmp_path):
    """A whole part may be searched, which no parameter of MLflow holds."""
    file, where = tmp_path / "s.yaml", ["--output", str(output)]
    rewards = [{"name": "mode_distance", "r_min": 0.5}, {"name": "mode_distance", "mode": 3}]
    content = {
        "data": {"name": "eight_gaussians", "size": 40},
        "learner": {"name": "empirical"},
        "iterations": 1,
        "seeds": 2,
        "search": {"reward": {"choice": rewards}},
    }
    file.write_text(yaml.safe_dump(content))
    assert cli("run", str(file), ALONE, *where, QUICK).code == 0
    folder = Output(output).find("latest")
    configs = load_configs(find_runs(Output(output).tracking_uri, folder.id))
    found = [config.reward for config in configs.values()]
    assert found == [ModeDistanceConfig(r_min=0.5), ModeDistanceConfig(mode=3)]
    assert cli("forecast", str(file), "-o", str(tmp_path / "t.csv"), *where, QUICK).code == 0
    table = pd.read_csv(tmp_path / "t.csv").query("metric == 'reward_mean' and iteration == 0")
    assert table["value"].nunique() == 2  # the second reward is wider


@pytest.mark.parametrize(
    "change", ["lam=1e150", "lam=1e17", "lam=1e-320", "beta=1e9", "iterations=0", "name=b0.5"]
)
def test_extreme_settings_are_forecast_without_a_word(change, cli: Cli, tmp_path):
    arguments = ["search.k.grid=[1,2,.inf]", "search.beta.grid=[0,2,.inf]", change]
    file = tmp_path / "t.csv"
    ran = cli("forecast", "demo", *arguments, "-o", str(file), "--output", str(tmp_path))
    assert ran.code == 0 and ran.err == "" and "nan" not in ran.out
    assert np.isfinite(pd.read_csv(file)["value"]).all()
    name = "b0.5" if change == "name=b0.5" else "demo"
    assert (tmp_path / "forecasts" / f"{name}.png").exists()


def test_a_search_that_learns_is_forecast_at_the_ends_of_its_ranges(cli: Cli, tmp_path):
    ran = cli("forecast", "mog-search", "--output", str(tmp_path), QUICK)
    assert ran.code == 0 and "tpe chooses as it goes" in ran.out


def test_data_that_raises_is_one_line(cli: Cli, tmp_path, monkeypatch):
    module = tmp_path / "broken_data.py"
    module.write_text(
        "class Data:\n"
        "    shape, n_classes = (2,), 0\n"
        "    def __init__(self, size): self.size = size\n"
        "    def draw(self, size, generator): raise RuntimeError('no disk')\n"
        "    def classify(self, x): return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["data.name=broken_data:Data", "reward.center=[0,0]"]
    ran = cli("forecast", "demo", *arguments, "--output", str(tmp_path), QUICK)
    assert ran.code == 2
    assert ran.err.strip() == "data broken_data:Data raised RuntimeError: no disk"
