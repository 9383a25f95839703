"""Commands at the same time: in one output folder, on one sweep, and beside one that runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from luceloop.sweeps.record.folders import Output
from tests.processes import SWEEP, finish, luceloop, rows
from tests.support import ALONE, QUICK, curves, run_main

pytestmark = [pytest.mark.processes, pytest.mark.slow]

LONG = [*SWEEP, "iterations=12", ALONE]


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory, empty_store) -> pd.DataFrame:
    output = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*LONG, "--output", str(output)) == 0
    return curves(output)


def wait_for_rows(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(output)) < count:
        assert time.monotonic() < deadline, "no rows"
        time.sleep(0.05)


def test_two_drivers_in_one_output_folder_do_not_disturb_each_other(undisturbed, output, orphans):
    drivers = [luceloop(output, *LONG) for _ in range(2)]
    for driver in drivers:
        finish(driver, 0)
    sweeps = Output(output).sweeps()
    assert len(sweeps) == 2
    for sweep in sweeps:
        pd.testing.assert_frame_equal(curves(output, sweep=sweep.id), undisturbed, check_exact=True)


def test_a_second_resume_is_refused_and_the_first_one_ends_undisturbed(
    undisturbed, output, orphans
):
    first = luceloop(output, *LONG)
    wait_for_rows(output, 3)
    said = finish(luceloop(output, "resume", "latest", QUICK), 2)
    assert said.endswith("is being run by another process\n") and len(said.splitlines()) == 1
    finish(first, 0)
    pd.testing.assert_frame_equal(curves(output), undisturbed, check_exact=True)


def test_what_reads_a_running_sweep_works_and_changes_nothing(
    undisturbed, output, tmp_path, cli, orphans
):
    driver = luceloop(output, *LONG)
    wait_for_rows(output, 3)
    where = ["--output", str(output)]
    table = tmp_path / "table.csv"
    commands = [
        ["list"],
        ["show", "latest"],
        ["show", "latest", "--json"],
        ["export", "latest", "-o", str(table)],
        ["plot", "latest"],
        ["report", "latest"],
    ]
    asked = 0
    while driver.poll() is None or not asked:
        for command in commands:
            ran = cli(*command, *where)
            assert ran.code == 0 and "Traceback" not in ran.err, (command, ran.out + ran.err)
        part = pd.read_csv(table)
        assert part["iteration"].max() <= 12
        asked += 1
    finish(driver, 0)
    pd.testing.assert_frame_equal(curves(output), undisturbed, check_exact=True)
