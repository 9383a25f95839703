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
from tests.support import QUICK, curves

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, empty_store) -> pd.DataFrame:
    output = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, output / "mlflow.db")
    out = finish(luceloop(output, *SWEEP), 0)
    assert "iteration 3/3" in out  # plain lines where there is no terminal
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
    how, after, code, undisturbed, output, empty_store
):
    process = luceloop(output, *SWEEP)
    deadline = time.monotonic() + 120
    while len(rows(output)) < after and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    out = finish(process, code)
    if code == 130:
        assert "luceloop resume" in out and "Traceback" not in out
    done = len(rows(output))
    assert after <= done < 8
    out = finish(luceloop(output, "resume", "latest", QUICK), 0)
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
    wait_for_end(children)  # beside the resumed run until here


def wait_for_end(children: list[psutil.Process]) -> None:
    """No process of a killed driver outlives it."""
    _, alive = psutil.wait_procs(children, timeout=150)  # Ray's agents take their time
    assert not alive, [child.cmdline() for child in alive]
