"""A finished sweep tells its theory by itself: nothing is trained, no code of users imported."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from luceloop.analysis.reading.forecasts import forecast_from, load_configs
from luceloop.analysis.reading.results import load_results
from luceloop.analysis.reading.store import find_runs
from luceloop.core.io import plugins
from luceloop.core.theory import real_law
from luceloop.sweeps.record.folders import Output
from tests.support import ALONE, QUICK, Cli, run_main

SWEEP = ["run", "digits", "learner={name: empirical}", "classifier={name: small_cnn, epochs: 1}",
         "reward.name=brightness:mean", "search.beta.grid=[8]", "search.lam.grid=[1]", "k=2",
         "seeds=[1,2]", "iterations=1", "kept_size=50", ALONE, QUICK]  # fmt: skip
REWARD = "def mean(x):\n    return x.flatten(1).mean(1)\n"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a reward of images; the current one."""
    folder = tmp_path_factory.mktemp("users")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(plugins, "_folder", None)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        yield folder
    sys.modules.pop("brightness", None)


@pytest.fixture(scope="module")
def output(local_ray, users: Path, tmp_path_factory, empty_store: Path) -> Path:
    """A sweep that has ended, whose classifier and reward are gone."""
    folder = tmp_path_factory.mktemp("output")
    shutil.copy(empty_store, folder / "mlflow.db")
    (users / "brightness.py").write_text(REWARD)
    assert run_main(*SWEEP, "--output", str(folder)) == 0
    shutil.rmtree(folder / "cache")
    (users / "brightness.py").unlink()
    return folder


@pytest.fixture(autouse=True)
def nothing_is_made_again(output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither trained nor imported nor remembered by this process."""

    def again(*_: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr("luceloop.core.classifier.classifier.fit", again)
    sys.modules.pop("brightness", None)
    real_law._real_rewards.cache_clear()


def test_show_and_report_have_forecasts(output: Path, cli: Cli, tmp_path):
    where = ["--output", str(output)]
    shown = cli("show", "latest", *where)
    assert shown.code == 0 and "no forecast" not in shown.out, shown.out
    assert "forecast of" in shown.out  # a heading, which a narrow table wraps
    page = tmp_path / "report.html"
    ran = cli("report", "latest", "-o", str(page), *where)
    assert ran.code == 0 and "no forecast" not in ran.out + page.read_text(), ran.err
    assert "brightness" not in sys.modules and not (output / "cache").exists()


def test_the_forecast_is_that_of_the_rewards_themselves(output: Path):
    """At t=0 those of every real image; at t=1 and K=2 what the population map makes of them."""
    store = Output(output).tracking_uri
    sweep = Output(output).find("latest").id
    [point] = load_results(store, sweep).points
    data = load_configs(find_runs(store, sweep))[0].data.build()
    assert data.images is not None
    reward = data.images.scaled(slice(None)).flatten(1).mean(1).double().numpy()
    assert point.forecast is not None
    weights = np.exp(8 * (reward - reward.max()))
    chosen = (2 * weights[:, None] / (weights[:, None] + weights[None])).mean(1)
    expected = (reward.mean() + (chosen * reward).mean()) / 2  # λ = 1
    curve = point.forecast.curves["reward_mean"]
    # Laws of more than 512 levels are reduced, to 1e-5 of the reward's range.
    assert curve == pytest.approx([reward.mean(), expected], abs=1e-5 * np.ptp(reward))


def test_a_sweep_of_an_older_version_says_why_it_has_no_forecast(output: Path, cli: Cli):
    folder = Output(output).find("latest")
    file = folder.real_rewards(0)
    hidden = file.rename(file.with_suffix(".hidden"))
    shown = cli("show", "latest", "--output", str(output))
    hidden.rename(file)
    assert shown.code == 0 and "no forecast: reward.name='brightness:mean'" in shown.out


def test_other_points_are_forecast_from_what_the_sweep_recorded(output: Path):
    runs = find_runs(Output(output).tracking_uri, Output(output).find("latest").id)
    found = forecast_from(runs, load_configs(runs))
    assert len(found[0]) == 2  # for each of its seeds
