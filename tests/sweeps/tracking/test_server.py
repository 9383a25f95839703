"""MLflow as a server on PostgreSQL: the same table as the default store, through every outage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.run import driver as runner
from tests.servers import MlflowServer, Postgres, needs_postgres
from tests.support import ALONE, QUICK, TINY, TINY_LAST, TINY_ROWS, Cli, Ran, curves, recorded

pytestmark = [pytest.mark.processes, pytest.mark.slow, needs_postgres]

SEEDS = 2


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def module_server(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    server = MlflowServer(postgres.uri, tmp_path_factory.mktemp("served"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(module_server: MlflowServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The tracking store of `cli`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", module_server.uri)
    if not module_server.answers():
        module_server.start()
    return module_server


@pytest.fixture
def undisturbed(tiny: Path) -> pd.DataFrame:
    """The table of the sweep in the default store."""
    return curves(tiny)


def assert_once(server: MlflowServer, folder: SweepFolder) -> None:
    """Every run is there once, ended, and every step of every curve once."""
    client = MlflowClient(server.uri)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 2 + 2 * SEEDS
    for run in runs:
        assert run.info.status == "FINISHED"
        for metric in run.data.metrics:
            if metric.split(".")[0] == "reward_mean":
                steps = [row.step for row in client.get_metric_history(run.info.run_id, metric)]
                assert sorted(steps) == list(range(TINY_LAST + 1))


def assert_same(server: MlflowServer, output: Path, undisturbed: pd.DataFrame) -> None:
    """The sweep in the server is the undisturbed one."""
    pd.testing.assert_frame_equal(curves(output, server.uri), undisturbed, check_exact=True)
    assert_once(server, Output(output).find("latest"))


def test_the_table_is_that_of_the_default_store(server, undisturbed, cli, tmp_path):
    assert cli(*TINY, ALONE, "--output", str(tmp_path)).code == 0
    assert_same(server, tmp_path, undisturbed)
    assert not (tmp_path / "mlflow.db").exists()


def test_sync_copies_a_sweep_of_the_default_store(server, undisturbed, tiny, cli):
    where = ["--output", str(tiny)]
    ran = cli("sync", "latest", QUICK, *where)
    assert ran.code == 0, ran.out
    assert_same(server, tiny, undisturbed)


class Outage(threading.Thread):
    """Kills the server once `after` iterations are on record; starts it `during` ones later."""

    def __init__(self, server: MlflowServer, output: Path, after: int, during: int) -> None:
        super().__init__(daemon=True)
        self._server, self._output, self._after, self._during = server, output, after, during
        self.passed = 0
        """Iterations that went on record while the server was down."""

    def run(self) -> None:
        while recorded(self._output) < self._after:
            time.sleep(0.02)
        before = recorded(self._output)
        self._server.kill()  # at once, but to see that it is gone may take this thread long
        while recorded(self._output) < min(before + self._during, TINY_ROWS):
            time.sleep(0.02)
        self.passed = recorded(self._output) - before
        self._server.start()


def test_a_server_killed_in_mid_sweep_delays_and_loses_nothing(
    server, undisturbed, cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "STORE_PATIENCE", 120.0)  # of a busy machine
    outage = Outage(server, tmp_path, after=8, during=15)
    outage.start()
    ran = cli(*TINY, ALONE, "--output", str(tmp_path))
    outage.join(60)
    assert ran.code == 0, ran.out + ran.err
    assert outage.passed >= 15
    assert_same(server, tmp_path, undisturbed)


def test_sync_delivers_a_sweep_that_ended_while_the_server_was_down(
    server, undisturbed, cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "STORE_PATIENCE", 2.0)
    where = ["--output", str(tmp_path)]
    outage = Outage(server, tmp_path, after=8, during=TINY_ROWS)
    monkeypatch.setattr(server, "start", lambda: None)
    outage.start()
    ran = cli(*TINY, ALONE, *where)
    folder = Output(tmp_path).find("latest")
    assert ran.code == 1 and "Traceback" not in ran.out + ran.err
    assert recorded(tmp_path) == TINY_ROWS
    assert said(ran, f"deliver them with: luceloop sync {folder.id}")
    monkeypatch.setattr("luceloop.sweeps.tracking.delivery.PATIENCE", 2.0)
    ran = cli("sync", folder.id, *where)  # still down
    assert ran.code == 1 and said(
        ran, f"MLflow at {server.uri} cannot be asked what it lacks of the "
    )
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    for _ in range(2):  # the second time there is nothing left to do
        ran = cli("sync", folder.id, *where)
        assert ran.code == 0 and said(ran, f"MLflow at {server.uri} has all "), ran.out
        assert_same(server, tmp_path, undisturbed)
    client = MlflowClient(server.uri)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    [run] = client.search_runs([experiment.experiment_id], "tags.luceloop.kind = 'sweep'")
    attached = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert attached == {"config.yaml", "environment.json", "figures", "provenance", "report.html"}


def said(ran: Ran, part: str) -> bool:
    """Whether exactly one line has `part`."""
    return len([line for line in ran.out.splitlines() if part in line]) == 1


def test_a_database_killed_beneath_the_server_loses_nothing(
    server, postgres, undisturbed, cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "STORE_PATIENCE", 120.0)

    def outage() -> None:
        while recorded(tmp_path) < 8:
            time.sleep(0.02)
        postgres.kill()
        time.sleep(2)
        postgres.start()

    thread = threading.Thread(target=outage, daemon=True)
    thread.start()
    ran = cli(*TINY, ALONE, "--output", str(tmp_path))
    thread.join(60)
    assert ran.code == 0, ran.out + ran.err
    assert_same(server, tmp_path, undisturbed)
