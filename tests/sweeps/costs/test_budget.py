"""Budgets: a sweep stops in order, and goes on to the table of an undisturbed one."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

import luceloop
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.sweeps.costs.budget import Budget
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.check import check
from tests.support import QUICK, TINY, TINY_ROWS, Cli, curves, recorded

POOL = 2 * 200
"""Samples of an iteration: two seeds with a pool of K·m = 200."""
PACKED = ["resources.samplers=0", "resources.pack=2"]
"""Both points in one trial."""
ONE_BY_ONE = ["resources.samplers=0", "resources.trial.cpus=4"]
"""On the session's Ray of four CPUs one trial runs and others wait."""


def _stopped(output: Path) -> str:
    return Ledger(Output(output).find("latest").ledger, writable=False).stopped


@pytest.mark.parametrize("where", [["resources.samplers=0"], PACKED, ONE_BY_ONE])
def test_a_sweep_stops_at_its_samples_and_resumes_to_the_undisturbed_table(
    tiny, output, cli: Cli, where
):
    at = ["--output", str(output)]
    budget = 7 * POOL
    ran = cli(*TINY, *where, f"budget.samples={budget}", *at)
    assert ran.code == 0, ran.out + ran.err
    sweep = Output(output).find("latest").id
    last = ran.out.splitlines()[-1]
    assert last.startswith(f"stopped at its budget: {budget:,} samples") or "samples of" in last
    assert f"go on with: luceloop resume {sweep}" in last and "budget.samples=" in last
    rows = recorded(output)
    assert 7 <= rows <= 7 + 3 and rows < TINY_ROWS  # running trials end after an iteration
    assert _stopped(output)
    assert f"{2 * TINY_ROWS} rows: {TINY_ROWS * POOL:,} samples, " in ran.out  # of two seeds each
    assert " left, by the first iterations" in ran.out  # no earlier sweep told the time
    assert luceloop.load(sweep, output=output).stopped == _stopped(output)
    assert "stopped at its budget" in cli("show", "latest", *at).out
    [listed] = json.loads(cli("list", "--json", *at).out)
    assert listed["stopped"] and "stopped at its budget" in listed["state"]
    again = cli("resume", "latest", QUICK, *at)  # the budget is used up
    assert again.code == 0 and recorded(output) == rows
    ran = cli("resume", "latest", "budget.samples=1e9", QUICK, *at)
    assert ran.code == 0, ran.out + ran.err
    assert recorded(output) == TINY_ROWS and not _stopped(output)
    assert "stopped" not in json.loads(cli("list", "--json", *at).out)[0]["state"]
    pd.testing.assert_frame_equal(curves(output), curves(tiny), check_exact=True)


def test_waiting_trials_never_begin_once_the_budget_is_reached(local_ray, output, cli: Cli):
    at = ["--output", str(output)]
    ran = cli(*TINY, *ONE_BY_ONE, "resources.pack=1", f"budget.samples={3 * POOL}", *at)
    assert ran.code == 0, ran.out + ran.err
    points = Ledger(Output(output).find("latest").ledger, writable=False).points
    assert [point.last for point in points.values()][:1] == [2]
    assert all(not point.rows for point in list(points.values())[1:])
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if "/" in e.name]
    runs = client.search_runs([experiment.experiment_id])
    [sweep] = [run for run in runs if run.data.tags["luceloop.kind"] == "sweep"]
    assert "budget.samples" in sweep.data.tags["luceloop.stopped"]
    assert sweep.info.status == "FINISHED"


def test_hours_are_of_a_run_and_resume_has_as_many_again(tiny, output, cli: Cli):
    at = ["--output", str(output)]
    ran = cli(*TINY, "resources.samplers=0", "--hours", "1e-6", *at)
    assert ran.code == 0, ran.out + ran.err
    assert "budget.hours=" in ran.out.splitlines()[-1]
    before = recorded(output)
    assert before < TINY_ROWS
    ran = cli("resume", "latest", QUICK, *at)
    assert "stopped at its budget" in ran.out.splitlines()[-1]
    ran = cli("resume", "latest", "--hours", "2", QUICK, *at)
    assert ran.code == 0 and recorded(output) == TINY_ROWS
    pd.testing.assert_frame_equal(curves(output), curves(tiny), check_exact=True)


def _config(**more):
    plain = {"name": "s", "data": {"name": "eight_gaussians", "size": 10}, "seeds": 2}
    return parse_config(plain | {"learner": {"name": "empirical"}} | more)


def _ledger(path: Path, config, iterations: int) -> Ledger:
    ledger = Ledger(path / "ledger.jsonl")
    ledger.begin_point(0, {})
    for t in range(iterations):
        ledger.add_iteration(0, t, {"seconds/fit": [1800.0, 1800.0], "reward_mean": [0.0, 0.0]})
    return ledger


@pytest.mark.parametrize(
    ("limits", "iterations"),
    [
        ({"samples": 2 * 20 * 3}, 3),
        ({"comparisons": 2 * 10 * 2}, 2),
        ({"device_hours": 4}, 4),
        ({"samples": 2 * 20 * 3, "device_hours": 2}, 2),
    ],
)
def test_a_budget_is_reached_by_the_record_whoever_began_it(tmp_path, limits, iterations):
    config = _config(budget=limits)
    for before, reached in ((iterations - 1, False), (iterations, True)):
        folder = tmp_path / str(before)
        folder.mkdir()
        ledger = _ledger(folder, config, before)
        assert Budget(config.budget, config, ledger).is_reached() == reached


def test_rows_of_other_sweeps_use_nothing_of_a_budget(tmp_path):
    config = _config(budget={"samples": 20})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {})
    ledger.add_iteration(0, 0, {"seconds/fit": [1.0, 1.0]}, reused=[0, 1])
    budget = Budget(config.budget, config, ledger)
    assert not budget.is_reached()
    ledger.add_iteration(0, 1, {"seconds/fit": [1.0, 1.0]}, reused=[0])
    assert budget.is_reached()


def test_hours_count_from_when_the_run_begins(tmp_path):
    config = _config(budget={"hours": 0.2 / 3600})
    budget = Budget(config.budget, config, _ledger(tmp_path, config, 5))
    assert not budget.is_reached()
    time.sleep(0.25)
    assert budget.is_reached() and re.search(r"budget\.hours=", budget.reached)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hours": 0}, "budget.hours=0"),
        ({"samples": -1}, "budget.samples=-1"),
        ({"hour": 1}, "did you mean hours"),
    ],
)
def test_budgets_that_are_none_are_refused_in_a_line(given, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        _config(budget=given)


def test_comparisons_at_infinite_k_cannot_be_limited():
    config = _config(budget={"comparisons": 5}, search={"k": {"grid": [2, float("inf")]}})
    with pytest.raises(ConfigError, match="infinitely many"):
        check(config)
    check(_config(budget={"comparisons": 5}, curation={"k": float("inf")}, lam=0))


def test_resume_changes_nothing_but_the_budget(tiny, cli: Cli):
    ran = cli("resume", "latest", "seeds=9", QUICK, "--output", str(tiny))
    assert ran.code == 2 and "luceloop extend" in ran.err
