"""Commands at the same time: in one output folder, on one sweep, and beside one that runs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from luceloop.sweeps.record.folders import Output
from tests.processes import LONG, finish, luceloop, rows
from tests.support import QUICK, curves

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def wait_for_rows(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(output)) < count:
        assert time.monotonic() < deadline, "no rows"
        time.sleep(0.05)


def test_two_drivers_in_one_output_folder_do_not_disturb_each_other(
    undisturbed_long, output, orphans
):
    drivers = [luceloop(output, *LONG) for _ in range(2)]
    for driver in drivers:
        finish(driver, 0)
    sweeps = Output(output).sweeps()
    assert len(sweeps) == 2
    for sweep in sweeps:
        pd.testing.assert_frame_equal(
            curves(output, sweep=sweep.id), undisturbed_long, check_exact=True
        )


def test_a_second_resume_is_refused_and_the_first_one_ends_undisturbed(
    undisturbed_long, output, orphans
):
    first = luceloop(output, *LONG)
    wait_for_rows(output, 3)
    first.send_signal(signal.SIGSTOP)  # it holds the sweep, and does not end meanwhile
    said = finish(luceloop(output, "resume", "latest", QUICK), 2)
    first.send_signal(signal.SIGCONT)
    assert said.endswith("is being run by another process\n") and len(said.splitlines()) == 1
    finish(first, 0)
    pd.testing.assert_frame_equal(curves(output), undisturbed_long, check_exact=True)


def test_what_reads_a_running_sweep_works_and_changes_nothing(
    undisturbed_long, output, tmp_path, cli, orphans
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
    pd.testing.assert_frame_equal(curves(output), undisturbed_long, check_exact=True)
