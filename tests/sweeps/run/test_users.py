"""Sweeps over users: what is recorded, drawn and forecast of them, and of choices of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luceloop.analysis.reading.forecasts import forecast_from, load_configs
from luceloop.analysis.reading.results import load_results
from luceloop.analysis.reading.store import find_runs
from luceloop.core.errors import ConfigError
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.loop.loop import Loop
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.run.check import check
from luceloop.sweeps.run.reuse import row_key
from tests.support import ALONE, QUICK, Cli, curves, run_main

SMALL = ["data.size=200", "iterations=2", "seeds=[1,2]", "claims=[]"]
OF_USERS = ["run", "pluralism", *SMALL, "search.k.grid=[2]", "curation.users.0.weight=0.7",
            "search.curation.users.1.beta.grid=[-1,10]",
            "search.curation.users.1.flip.grid=[0.2]", "search.objective.metric=class_fraction/4",
            ALONE, QUICK]  # fmt: skip
NAMES = {"reward_mean/0", "reward_mean/1", "exp_reward_mean/0", "choice_share/0", "choice_share/1",
         "flip_share", "collective_utility"}  # fmt: skip


@pytest.fixture(scope="module")
def output(local_ray, tmp_path_factory: pytest.TempPathFactory, empty_store) -> Iterator[Path]:
    """A sweep over what one of two users likes."""
    folder = tmp_path_factory.mktemp("users")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*OF_USERS, "--output", str(folder)) == 0
        yield folder


def test_what_is_on_record_of_users_is_in_mlflow(output: Path):
    sweep = Output(output).find("latest")
    recorded = recorded_table(sweep).drop(columns="sweep")
    recorded = recorded[~recorded["metric"].str.startswith("seconds/")].reset_index(drop=True)
    pd.testing.assert_frame_equal(recorded, curves(output), check_exact=True)
    metrics = set(recorded.loc[recorded["seed"].notna(), "metric"])
    assert metrics >= NAMES and not any(name.startswith("margin/") for name in metrics)
    assert set(recorded["curation.users.1.beta"]) == {-1, 10}
    # A β below 0 has no known supremum of βr.
    own = recorded[recorded["metric"] == "exp_reward_mean/1"]
    assert set(own["curation.users.1.beta"]) == {10}


def test_forecasts_start_from_the_measured_rewards_of_all_users(output: Path):
    runs = find_runs(f"sqlite:///{output / 'mlflow.db'}", Output(output).find("latest").id)
    configs = load_configs(runs)
    found = forecast_from(runs, configs)
    table = recorded_table(Output(output).find("latest"))
    for index in configs:
        for seed, each in zip((1, 2), found[index], strict=True):
            rows = table[(table["point"] == index) & (table["seed"] == seed)]
            first = rows[rows["iteration"] == 0].set_index("metric")["value"]
            for metric in ("reward_mean/0", "reward_mean/1", "collective_utility"):
                assert each.curves[metric][0] == pytest.approx(first[metric], rel=1e-5)


def test_a_sweep_of_users_has_forecasts_and_a_report(output: Path, cli: Cli):
    sweep = Output(output).find("latest").id
    results = load_results(f"sqlite:///{output / 'mlflow.db'}", sweep)
    assert not results.remark
    for point in results.points:
        assert point.forecast is not None and point.forecast.curves.keys() >= NAMES
    shown = cli("show", "latest", "--output", str(output))
    assert shown.code == 0 and "no forecast" not in shown.out


@pytest.mark.parametrize("name", ["pluralism", "adversaries"])
def test_checks_know_the_metrics_that_loops_have(name):
    """An objective is refused exactly where the loop does not measure it."""
    config = read_config(name, [*SMALL, "search={}", "curation.flip=0.3"])
    results = list(Loop(config.point).run())
    measured = set.union(*(set(result.metrics) for result in results))
    for metric in sorted(measured):
        check(read_config(name, [*SMALL, "search={}", "curation.flip=0.3",
                                 f"search.objective.metric={metric}"]))  # fmt: skip
    with pytest.raises(ConfigError) as error:
        check(read_config(name, [*SMALL, "search={}", "search.objective.metric=nothing"]))
    listed = error.value.allowed.removeprefix("must be one of ").split(", ")
    plain = set.union(*(
        set(result.metrics)
        for result in Loop(read_config(name, [*SMALL, "search={}"]).point).run()
    ))  # fmt: skip
    assert set(listed) == plain


def test_an_objective_in_units_of_beta_is_refused_where_a_users_beta_is_searched():
    searched = "search.curation.users.1.beta.grid=[1,2]"
    for metric in ("exp_reward_mean/0", "collective_utility"):
        with pytest.raises(ConfigError, match="another quantity for every beta"):
            check(read_config("pluralism", [*SMALL, searched, f"search.objective.metric={metric}"]))


def test_points_without_users_have_the_fingerprint_that_they_had():
    """That of the keys that there were before users."""
    point = read_config("demo", []).point
    plain = point.model_dump(mode="json", exclude={"seeds", "iterations", "resources", "keep"})
    plain["curation"] = {"kind": "luce", "k": 2, "beta": 10.0}
    expected = fingerprint(plain | {"threads": point.resources.threads, "device": "cpu"})
    assert row_key(point, "cpu") == expected
    for changed in ("curation.flip=0.1", "curation.users=[{beta: 10}]"):
        assert row_key(read_config("demo", [changed]).point, "cpu") != expected


# --- choices of one's own

TOP = "def top(samples, reward, count, generator):\n    return reward.argsort()[-count:]\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a curation in it."""
    (tmp_path / "my_choice.py").write_text(TOP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_forecast_of_choices_of_ones_own_says_that_there_is_none(own: Path, cli: Cli):
    ran = cli("forecast", "demo", "curation.kind=my_choice:top", "--output", str(own / "out"))
    assert ran.code == 2 and "Traceback" not in ran.err
    assert "curation.kind='my_choice:top'" in ran.err and "no theory" in " ".join(ran.err.split())


def test_choices_of_ones_own_run_beside_ours(local_ray, own: Path, cli: Cli):
    where = ["--output", str(own / "out")]
    kinds = "search.curation.kind.grid=[luce,'my_choice:top']"
    arguments = ["adversaries", *SMALL, "search={}", "curation.flip=0", kinds, "lam=1"]
    assert cli("run", *arguments, ALONE, QUICK, *where).code == 0
    table = recorded_table(Output(own / "out").find("latest"))
    assert set(table["curation.kind"]) == {"luce", "my_choice:top"}
    last = table[(table["metric"] == "kept_reward_mean.mean") & (table["iteration"] == 1)]
    kept = last.set_index("curation.kind")["value"]
    assert kept["my_choice:top"] > kept["luce"]
    shown = cli("show", "latest", *where)
    assert shown.code == 0 and np.isfinite(kept).all()
    results = load_results(
        f"sqlite:///{own / 'out' / 'mlflow.db'}", Output(own / "out").find("latest").id
    )
    assert "code of your own" in results.remark
    assert [point.forecast is None for point in results.points] == [False, True]
