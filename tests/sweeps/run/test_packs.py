"""Points that share an ensemble: the table, the stops and the record are those of single points."""

from __future__ import annotations

import dataclasses
import re
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.workers.messages import (
    IterationReport,
    PointSetup,
    TrialSetup,
    pack_setup,
    unpack_reports,
)
from luceloop.workers.stops import Stopped
from luceloop.workers.trial import Trial
from tests.processes import finish, luceloop, rows
from tests.support import QUICK, SMALL, Cli, curves
from tests.sweeps.run.test_kills import Killer
from tests.workers.test_trial import curves as of_reports
from tests.workers.test_trial import point_of

GRID = ["run", "mog", *SMALL, "learner.initial_steps=80", "seeds=[1,2]", "iterations=6", QUICK]
GRID += ["search.beta.grid=[0,5,10]", "search.lam.grid=[0.5,inf]", "reward.r_min=0"]
PACKED = [*GRID, "resources.pack=6", "resources.trial.cpus=1"]
ROWS = 6 * 7
"""Iterations of its points."""
SEARCH = ["run", "mog-search", *SMALL, "learner.initial_steps=80", "seeds=2", "iterations=4", QUICK]
SEARCH += ["search.trials=12", "search.early_stop={after: 1, quantile: 0.6, min_trials: 2}"]


@pytest.fixture(scope="module")
def unpacked(local_ray, tmp_path_factory) -> pd.DataFrame:
    from tests.support import run_main

    output = tmp_path_factory.mktemp("unpacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*GRID, "resources.pack=1", "--output", str(output)) == 0
    return curves(output)


def points_of(output: Path) -> list[Point]:
    return list(Ledger(Output(output).find("latest").ledger, writable=False).points.values())


def trials_of(output: Path) -> set[str]:
    """Names of the trials' folders; their checkpoints are gone, what Tune writes of them is not."""
    return {path.name for path in Output(output).find("latest").path.glob("**/point-*")}


def test_a_packed_sweep_has_the_table_of_single_points(unpacked, output, cli: Cli):
    ran = cli(*PACKED, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    pd.testing.assert_frame_equal(curves(output), unpacked, check_exact=True)
    assert "point-0000-and-5-more" in trials_of(output)
    assert [point.status for point in points_of(output)] == ["done"] * 6


@pytest.mark.processes
@pytest.mark.slow
def test_a_killed_trial_of_a_pack_changes_nothing(unpacked, output, cli: Cli, caplog):
    killer = Killer(output, "ray::ResourceTrainable")
    killer.start()
    ran = cli(*PACKED, "--output", str(output))
    killer.join(10)
    assert killer.killed and ran.code == 0, ran.out + ran.err
    assert "points 0, 1, 2, 3, 4, 5 started again" in caplog.text
    pd.testing.assert_frame_equal(curves(output), unpacked, check_exact=True)


@pytest.mark.processes
@pytest.mark.slow
def test_a_driver_of_packs_that_is_killed_is_resumed_to_the_same_table(unpacked, output, orphans):
    process = luceloop(output, *PACKED)
    deadline = time.monotonic() + 120
    while len(rows(output)) < 15 and time.monotonic() < deadline:
        time.sleep(0.02)
    orphans += psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    done = len(rows(output))
    assert 15 <= done < ROWS
    out = finish(luceloop(output, "resume", "latest", QUICK), 0)
    assert len(re.findall(r"  iteration \d", out)) == ROWS - done  # nothing on record ran again
    pd.testing.assert_frame_equal(curves(output), unpacked, check_exact=True)


def test_packed_points_stop_early_where_single_ones_do(local_ray, tmp_path, cli: Cli):
    found = []
    for pack in (1, 3):
        output = tmp_path / str(pack)
        ran = cli(*SEARCH, f"resources.pack={pack}", "--output", str(output))
        assert ran.code == 0, ran.out + ran.err
        found.append([(p.status, p.last, p.reason, p.values) for p in points_of(output)])
    single, packed = found
    assert packed == single
    assert {status for status, *_ in single} == {"done", "stopped"}
    assert min(last for status, last, *_ in single if status == "stopped") < 4
    names = trials_of(tmp_path / "3")
    assert any("-more" in name for name in names), names


class Told:
    """A handle like Ray's, of stops that are kept here."""

    def __init__(self) -> None:
        self.kept = Stopped()

    def __deepcopy__(self, memo: object) -> Told:
        return self  # as a handle's copy leads to the same actor

    @property
    def of(self) -> Any:
        return self

    def remote(self, points: list[int]) -> list[int]:
        return self.kept.of(points)


def iterations_in(result: dict[str, Any]) -> list[IterationReport]:
    reports = unpack_reports(result)
    return [report for report in reports if isinstance(report, IterationReport)]


def test_stopped_points_of_a_pack_are_computed_no_further(monkeypatch, tmp_path):
    monkeypatch.setattr("luceloop.workers.trial.ray.get", lambda answer: answer)
    told, betas = Told(), (0, 2, 4)
    own = tuple(PointSetup(i, point_of(f"beta={beta}")) for i, beta in enumerate(betas))
    setup = TrialSetup(own, cache=str(tmp_path / "cache"), stops=told)
    trial, reports = Trial(pack_setup(setup)), list[IterationReport]()
    for step in range(10):
        if step == 2:
            told.kept.add([1])
        result = trial.train()
        reports += iterations_in(result)
        if result["done"]:
            break
    reached = {i: [r.iteration for r in reports if r.index == i] for i in range(3)}
    assert reached == {0: [0, 1, 2, 3], 1: [0, 1], 2: [0, 1, 2, 3]}
    assert max(trial._runs[1].rows) == 1
    alone = dataclasses.replace(setup, points=own[2:], stops=None)
    single, curve = Trial(pack_setup(alone)), list[IterationReport]()
    while not curve or not curve[-1].is_last:
        curve += iterations_in(single.train())
    assert of_reports([r for r in reports if r.index == 2]) == of_reports(curve)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["resources.pack=2", "resources.samplers=1"], "a pack samples itself"),
        (["resources.pack=0"], "resources.pack=0"),
    ],
)
def test_packs_that_cannot_be_are_refused_in_one_line(given, line, output, cli: Cli):
    ran = cli(*GRID, *given, "--output", str(output))
    assert ran.code == 2 and line in ran.err and len(ran.err.strip().splitlines()) == 1
