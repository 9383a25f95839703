"""Real processes killed at real moments: the resumed sweep equals the undisturbed one."""

from __future__ import annotations

import re
import shutil
import signal
import time

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from tests.processes import SWEEP, finish, luceloop, rows
from tests.support import QUICK, curves, run_main

pytestmark = pytest.mark.processes

SHORT = [*SWEEP, "learner.initial_steps=80"]


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory, empty_store) -> pd.DataFrame:
    output = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*SHORT, "--output", str(output)) == 0
    return curves(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "after", "code"),
    [
        (signal.SIGKILL, 4, -signal.SIGKILL),
        (signal.SIGINT, 3, 130),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value),
)
def test_a_killed_driver_is_resumed_to_the_same_table(
    how, after, code, undisturbed, output, orphans
):
    process = luceloop(output, *SHORT)
    deadline = time.monotonic() + 120
    while len(rows(output)) < after and time.monotonic() < deadline:
        time.sleep(0.05)
    orphans += psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    out = finish(process, code)
    if code == 130:
        assert "luceloop resume" in out and "Traceback" not in out
    done = len(rows(output))
    assert after <= done < 8
    out = finish(luceloop(output, "resume", "latest", QUICK), 0)
    assert "iteration 3/3" in out  # plain lines where there is no terminal
    assert len(re.findall(r"  iteration \d", out)) == 8 - done  # nothing on record ran again
    pd.testing.assert_frame_equal(curves(output), undisturbed, check_exact=True)
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if "/" in e.name]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 2 + 2 * 2
    for run in runs:
        for metric in list(run.data.metrics)[:3]:
            steps = [r.step for r in client.get_metric_history(run.info.run_id, metric)]
            assert len(steps) == len(set(steps))
