"""The Python interface: what the commands do, raising where they exit."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import luceloop
from luceloop.core.config.parsing import at_point
from luceloop.core.errors import ConfigError, StorageError
from luceloop.sweeps import api
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.tracking.delivery import Delivery
from tests.support import Cli, Finished

TINY = {
    "name": "tiny",
    "data": {"name": "eight_gaussians", "size": 60},
    "learner": {"name": "empirical"},
    "iterations": 2,
    "seeds": 2,
    "resources": {"samplers": 0},
    "search": {"lam": {"grid": [1, math.inf]}},
}


@pytest.fixture(autouse=True)
def default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_sweep_is_run_loaded_and_drawn(local_ray, output: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = luceloop.run(TINY, "beta=3", output=output)
    assert results.config == luceloop.parse_config(TINY | {"curation": {"beta": 3}})
    assert list(results.points["status"]) == ["done", "done"]
    assert list(results.points["lam"]) == [1, math.inf] and set(results.points["iteration"]) == {2}
    assert list(results.points["name"]) == ["β=3 λ=1 K=2", "β=3 λ=inf K=2"]
    again = luceloop.load(results.id[:-2], output=output)
    pd.testing.assert_frame_equal(again.curves, results.curves)
    rewards = again.curves.query("metric == 'reward_mean' and seed == 1 and point == 0")
    loop = list(luceloop.run_loop(at_point(results.config, {"lam": 1})))
    assert list(rewards["value"]) == [float(r.metrics["reward_mean"][1]) for r in loop]
    drawn = again.plot(tmp_path / "figures")
    assert (tmp_path / "figures" / "overview.png") in drawn and all(f.exists() for f in drawn)


def test_an_extension_is_that_of_the_command_and_equals_a_fresh_run(local_ray, output, tmp_path):
    first = luceloop.run(TINY, "notify=none", output=output)
    more = ["seeds=3", "search.lam.grid=[1,2,.inf]"]
    grown = luceloop.extend("tiny", *more, output=output)
    assert grown.config.extends == first.id and grown.id != first.id
    assert (grown.folder.path / "notify").read_text() == "none"  # as the extended sweep has it
    reused = [point.reused for point in Ledger(grown.folder.ledger, writable=False).points.values()]
    assert [len(rows) for rows in reused] == [3, 0, 3]
    fresh = luceloop.run(TINY, *more, output=tmp_path / "fresh")
    found, expected = (
        each.curves[~each.curves["metric"].str.startswith("seconds/")].drop(columns="sweep")
        for each in (grown, fresh)
    )
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    with pytest.raises(luceloop.ConfigError, match="is no sweep's name"):
        luceloop.extend("nothing", output=output)
    with pytest.raises(luceloop.ConfigError, match=r"seeds=0: "):
        luceloop.extend("tiny", "seeds=0", output=output)


def test_the_table_of_a_sweep_is_that_of_the_command(finished: Finished):
    results = luceloop.load(output=finished.output)
    exported = pd.read_csv(finished.table).drop(columns="seed")
    loaded = results.curves.drop(columns="seed")
    pd.testing.assert_frame_equal(loaded, exported, check_dtype=False)


def test_a_forecast_is_that_of_the_command(cli: Cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["search.beta.grid=[0,10]", "iterations=3"]
    assert cli("forecast", "mog", *arguments, "--no-figures", "-o", "t.csv").code == 0
    found, expected = luceloop.forecast("mog", *arguments), pd.read_csv("t.csv")
    assert list(found.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(
        found.drop(columns="seed"), expected.drop(columns="seed"), check_dtype=False
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_what_cannot_run_raises_and_writes_nothing(tmp_path):
    for wrong in (["lam=-1"], ["reward.name=no_such_module:f"], ["pool_size=1"]):
        with pytest.raises(luceloop.ConfigError):
            luceloop.run("demo", *wrong, output=tmp_path / "out")
    with pytest.raises(luceloop.ConfigError, match="there are no sweeps"):
        luceloop.load("latest", output=tmp_path / "out")
    with pytest.raises(TypeError, match="not parsed yet"):
        luceloop.run(luceloop.parse_config(TINY), "lam=1", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_points_that_fail_raise_and_the_others_can_be_loaded(local_ray, output: Path, mine: Path):
    broken = {"reward": {"name": "mode_distance"}, "search": {}}
    search = {"reward": {"grid": [{"name": "users_own:bounded"}, {"name": "late_reward:late"}]}}
    (mine / "late_reward.py").write_text(LATE)
    with pytest.raises(luceloop.LoopError, match=r"1 of 2 points failed.*late.*luceloop\.load"):
        luceloop.run(TINY | broken | {"search": search}, output=output)
    results = luceloop.load(output=output)
    assert list(results.points["status"]) == ["done", "failed"]
    assert "raised KeyError" in results.points["reason"][1]


LATE = """
def late(x):
    if len(x) == 240:  # a pool of both seeds, not real samples
        raise KeyError("late")
    return x[:, 0]
"""


def test_a_store_that_lacks_a_part_raises(local_ray, output: Path, monkeypatch):
    monkeypatch.setattr(api, "finish", lambda *_, **__: Delivery(3, 1, "the store is down"))
    with pytest.raises(StorageError, match="the store is down"):
        luceloop.run(TINY, output=output)


@pytest.mark.external
def test_importing_the_package_imports_nothing_heavy():
    code = "import luceloop, sys; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_mapping_that_no_configuration_can_be_is_refused_and_nothing_written(tmp_path):
    args: dict = {}
    args["q"] = [args]
    nested: dict = {}
    for _ in range(500):
        nested = {"a": nested}
    for given in (args, nested, {"x": 10**5000}, {"x": [[0] * 1000] * 1000}):
        plain = TINY | {"reward": {"name": "mine:reward", "args": given}}
        for call in (luceloop.run, luceloop.forecast):
            with pytest.raises(ConfigError) as error:
                call(plain, **({"output": tmp_path} if call is luceloop.run else {}))
            assert error.value.key.startswith("reward.args") and len(str(error.value)) < 400
    assert not list(tmp_path.iterdir())
