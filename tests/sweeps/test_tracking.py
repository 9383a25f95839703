"""Delivery to MLflow: everything once, whatever dies, and a store that is down holds up nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.config import Config
from core.parsing import parse_config
from sweeps.experiment import SweepIdentity, connect
from sweeps.ledger import Ledger
from sweeps.output import Output, SweepFolder
from sweeps.tracking import Tracker

SEEDS = [3, 4]


@pytest.fixture
def config() -> Config:
    search = {"beta": {"grid": [0, 1]}}
    data = {"name": "eight_gaussians"}
    return parse_config({"name": "tracked", "data": data, "seeds": SEEDS, "search": search})


@pytest.fixture
def folder(output: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Output(output).create_sweep(config, "a test")


def row(value: float) -> dict[str, list[float]]:
    return {"reward_mean": [value, value + 1], "class_fraction/0": [0.25, value]}


def record(ledger: Ledger, point: int, iterations: range) -> None:
    ledger.begin_point(point, {"curation.beta": point})
    for iteration in iterations:
        ledger.add_iteration(point, iteration, row(10.0 * point + iteration))


def deliver(output: Path, folder: SweepFolder, config: Config, ledger: Ledger) -> Tracker:
    tracker = Tracker(Output(output), folder, SweepIdentity(folder.id, config, "a test"))
    tracker.start(ledger)
    tracker.close(patience=60)
    return tracker


def history(store: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Every curve in the store by (run name, metric): steps and values, in order."""
    client = MlflowClient(store)
    ids = [e.experiment_id for e in client.search_experiments() if e.name.startswith("tracked/")]
    found = {}
    for run in client.search_runs(ids, max_results=1000):
        for metric in run.data.metrics:
            rows = client.get_metric_history(run.info.run_id, metric)
            name = f"{run.data.tags.get('luceloop.point')} {run.info.run_name}"
            assert (name, metric) not in found, "a run was created twice"
            found[name, metric] = sorted((r.step, r.value) for r in rows)
    return found


def expected(points: dict[int, range]) -> dict[tuple[str, str], list[tuple[int, float]]]:
    curves = {}
    for point, iterations in points.items():
        for position, seed in enumerate(SEEDS):
            for metric in ("reward_mean", "class_fraction/0"):
                curve = [(i, row(10.0 * point + i)[metric][position]) for i in iterations]
                curves[f"{point} seed={seed}", metric] = curve
    return curves


def seed_curves(found: dict) -> dict:
    return {key: curve for key, curve in found.items() if "seed=" in key[0]}


def test_rows_arrive_once_though_delivered_again_and_again(output, folder, config):
    store = Output(output).tracking_uri
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(3))
    assert deliver(output, folder, config, ledger).undelivered == 0
    # A driver that died after writing to MLflow, before it noted so, delivers all of it again.
    (folder.path / "delivered").unlink()
    record(ledger, 0, range(5))
    record(ledger, 1, range(2))
    ledger.end_point(1, "failed", "because")
    assert deliver(output, folder, config, ledger).undelivered == 0
    found = history(store)
    assert seed_curves(found) == expected({0: range(5), 1: range(2)})
    name = "0 β=0 λ=inf K=2"
    assert found[name, "reward_mean.mean"] == [(i, i + 0.5) for i in range(5)]
    assert found[name, "reward_mean.n"] == [(i, 2.0) for i in range(5)]


def test_a_single_seed_has_a_mean_but_no_spread(output, folder, config):
    ledger = Ledger(folder.ledger)
    single = config.model_copy(update={"seeds": (3,)})
    ledger.begin_point(0, {"curation.beta": 0})
    ledger.add_iteration(0, 0, {"reward_mean": [2.0]})
    deliver(output, folder, single, ledger)
    metrics = {metric for _, metric in history(Output(output).tracking_uri)}
    assert metrics == {"reward_mean", "reward_mean.mean", "reward_mean.n"}


@pytest.mark.slow
def test_a_store_that_comes_up_late_gets_everything(output, folder, config, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    ledger = Ledger(folder.ledger)
    tracker = Tracker(Output(output), folder, SweepIdentity(folder.id, config, "a test"))
    started = time.monotonic()
    tracker.start(ledger)
    record(ledger, 0, range(3))
    assert time.monotonic() - started < 1  # recording does not wait for the store
    deadline = time.monotonic() + 60
    while not tracker.error and time.monotonic() < deadline:
        time.sleep(0.1)
    assert tracker.error and tracker.undelivered == 4
    store = f"sqlite:///{output / 'mlflow.db'}"
    server = start_server(store, output / "served", port)
    try:
        record(ledger, 1, range(2))
        tracker.close(patience=90)
        assert tracker.undelivered == 0 and not tracker.error
        found = history(f"http://127.0.0.1:{port}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    assert seed_curves(found) == expected({0: range(3), 1: range(2)})


def start_server(store: str, artifacts: Path, port: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--artifacts-destination", str(artifacts), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return server
        except OSError:
            time.sleep(0.3)
    server.kill()
    raise TimeoutError("mlflow server did not start")


@pytest.mark.slow
def test_a_process_killed_while_making_the_database_leaves_none_or_a_whole_one(tmp_path):
    database = tmp_path / "mlflow.db"
    program = f"from sweeps.experiment import connect; connect('sqlite:///{database}')"
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".mlflow-*/mlflow.db")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not database.exists()
    assert connect(f"sqlite:///{database}").search_experiments()  # opens, with the default one


@pytest.mark.parametrize("noted", ["", "not a number", "999999"])
def test_a_damaged_note_of_what_was_delivered_loses_nothing(noted, output, folder, config):
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(2))
    deliver(output, folder, config, ledger)
    (folder.path / "delivered").write_text(noted)
    record(ledger, 0, range(4))
    assert deliver(output, folder, config, ledger).undelivered == 0
    assert seed_curves(history(Output(output).tracking_uri)) == expected({0: range(4)})


def test_a_run_left_without_parameters_gets_them_later(output, folder, config):
    """A process may die between creating a run and describing it."""
    store = Output(output).tracking_uri
    client = connect(store)
    identity = SweepIdentity(folder.id, config, "a test")
    artifacts = (output / "artifacts").as_uri()
    experiment = client.create_experiment(identity.experiment, artifact_location=artifacts)
    half_made = {"luceloop.kind": "point", "luceloop.sweep": folder.id, "luceloop.point": "0"}
    run = client.create_run(experiment, tags=half_made).info.run_id
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(1))
    deliver(output, folder, config, ledger)
    params = client.get_run(run).data.params
    assert params["curation.beta"] == "0.0" and params["seeds"] == str(SEEDS)
