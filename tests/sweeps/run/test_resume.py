"""Real processes killed at real moments: the resumed sweep equals the undisturbed one."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from tests.processes import SWEEP, finish, luceloop, rows
from tests.support import QUICK, curves, run_main

pytestmark = pytest.mark.processes

SHORT = [*SWEEP, "learner.initial_steps=80", "iterations=4"]
ROWS = 2 * 5
"""Iterations of its points."""


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory, empty_store) -> pd.DataFrame:
    output = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*SHORT, "--output", str(output)) == 0
    return curves(output)


def end_midway(process: subprocess.Popen, output: Path, how: signal.Signals, after: int) -> str:
    """End a driver once so many iterations are on record; what it printed."""
    deadline = time.monotonic() + 120
    while len(rows(output)) < after and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    out = finish(process, 130 if how == signal.SIGINT else -how)
    assert after <= len(rows(output)) < ROWS
    return out


@pytest.mark.slow
def test_a_driver_killed_and_then_interrupted_is_resumed_to_the_same_table(
    undisturbed, output, orphans
):
    process = luceloop(output, *SHORT)
    while not rows(output) and process.poll() is None:
        time.sleep(0.05)
    orphans += psutil.Process(process.pid).children(recursive=True)
    end_midway(process, output, signal.SIGKILL, 3)
    resume = ["resume", "latest", QUICK]
    process = luceloop(output, *resume)
    out = end_midway(process, output, signal.SIGINT, 1 + len(rows(output)))
    assert "luceloop resume" in out and "Traceback" not in out
    done = len(rows(output))
    out = finish(luceloop(output, *resume), 0)
    assert "iteration 4/4" in out  # plain lines where there is no terminal
    assert len(re.findall(r"  iteration \d", out)) == ROWS - done  # nothing on record ran again
    pd.testing.assert_frame_equal(curves(output), undisturbed, check_exact=True)
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if "/" in e.name]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 2 + 2 * 2
    for run in runs:
        for metric in list(run.data.metrics)[:3]:
            steps = [r.step for r in client.get_metric_history(run.info.run_id, metric)]
            assert len(steps) == len(set(steps))
