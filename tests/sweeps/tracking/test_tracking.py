"""Delivery to MLflow: everything once, whatever dies, and a store that is down holds up nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from luceloop.analysis.reading.store import connect
from luceloop.core.config.parsing import at_point, parse_config, with_values
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mirror import mirrored
from luceloop.sweeps.tracking.experiment import Experiment, SweepIdentity
from luceloop.sweeps.tracking.follower import Follower
from luceloop.sweeps.tracking.tracker import Tracker
from tests.servers import MlflowServer

SEEDS = [3, 4]


@pytest.fixture
def config() -> SweepConfig:
    search = {"beta": {"grid": [0, 1]}}
    data = {"name": "eight_gaussians"}
    return parse_config({"name": "tracked", "data": data, "seeds": SEEDS, "search": search})


@pytest.fixture
def folder(output: Path, config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Output(output).create_sweep(config, "a test")


def row(value: float) -> dict[str, list[float]]:
    return {"reward_mean": [value, value + 1], "class_fraction/0": [0.25, value]}


def record(ledger: Ledger, point: int, iterations: range) -> None:
    ledger.begin_point(point, {"curation.beta": point})
    for iteration in iterations:
        ledger.add_iteration(point, iteration, row(10.0 * point + iteration))


def follow(
    output: Path, folder: SweepFolder, config: SweepConfig, ledger: Ledger
) -> tuple[Tracker, Follower]:
    """What delivers a ledger, and the thread that has it do so from now on."""
    identity = SweepIdentity(folder.id, config, "a test")
    tracker = Tracker(Output(output), folder, identity, ledger)
    follower = Follower(ledger, tracker)
    follower.start()
    return tracker, follower


def deliver(output: Path, folder: SweepFolder, config: SweepConfig, ledger: Ledger) -> Tracker:
    tracker, follower = follow(output, folder, config, ledger)
    follower.close(patience=60)
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
    assert found[name, "reward_mean.median"] == [(i, i + 0.5) for i in range(5)]


def test_a_single_seed_has_a_mean_but_no_spread(output, folder, config):
    ledger = Ledger(folder.ledger)
    single = config.model_copy(update={"point": with_values(config.point, {"seeds": [3]})})
    ledger.begin_point(0, {"curation.beta": 0})
    ledger.add_iteration(0, 0, {"reward_mean": [2.0]})
    deliver(output, folder, single, ledger)
    metrics = {metric for _, metric in history(Output(output).tracking_uri)}
    assert metrics == {"reward_mean", "reward_mean.mean"}


@pytest.mark.external
@pytest.mark.slow
def test_a_store_that_comes_up_late_gets_everything(output, folder, config, monkeypatch):
    server = MlflowServer(f"sqlite:///{output / 'mlflow.db'}", output / "served")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    ledger = Ledger(folder.ledger)
    started = time.monotonic()
    tracker, follower = follow(output, folder, config, ledger)
    record(ledger, 0, range(3))
    assert time.monotonic() - started < 1  # recording does not wait for the store
    deadline = time.monotonic() + 60
    while not tracker.error and time.monotonic() < deadline:
        time.sleep(0.1)
    assert tracker.error and tracker.undelivered == 4
    try:
        server.start()
        record(ledger, 1, range(2))
        follower.close(patience=90)
        assert tracker.undelivered == 0 and not tracker.error
        found = history(server.uri)
    finally:
        server.kill()
    assert seed_curves(found) == expected({0: range(3), 1: range(2)})


@pytest.mark.external
@pytest.mark.slow
def test_a_process_killed_while_making_the_database_leaves_none_or_a_whole_one(tmp_path):
    database = tmp_path / "mlflow.db"
    program = (
        f"from luceloop.analysis.reading.store import connect; connect('sqlite:///{database}')"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".mlflow-*/mlflow.db")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not database.exists()
    assert connect(f"sqlite:///{database}").search_experiments()  # opens, with the default one


NOTES = ["", "not a note", "7", '{"rows": 1}', '{"experiment": "", "rows": 99, "files": 0}']


@pytest.mark.parametrize("noted", NOTES)
def test_a_damaged_note_of_what_was_delivered_loses_nothing(noted, output, folder, config):
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(2))
    deliver(output, folder, config, ledger)
    (folder.path / "delivered").write_text(noted)
    record(ledger, 0, range(4))
    assert deliver(output, folder, config, ledger).undelivered == 0
    assert seed_curves(history(Output(output).tracking_uri)) == expected({0: range(4)})


def test_another_store_gets_everything_whatever_the_first_has(
    output, folder, config, empty_store, tmp_path, monkeypatch
):
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(3))
    deliver(output, folder, config, ledger)
    shutil.copy(empty_store, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.chdir(tmp_path)  # where such a store puts its files
    assert deliver(output, folder, config, ledger).undelivered == 0
    assert seed_curves(history(f"sqlite:///{tmp_path / 'other.db'}")) == expected({0: range(3)})


def test_a_run_made_twice_is_left_once_with_all_its_rows(output, folder, config):
    """A store may have made a run though its answer was lost, and now or later another."""
    store = Output(output).tracking_uri
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(3))
    deliver(output, folder, config, ledger)
    client = MlflowClient(store)
    [experiment] = client.search_experiments(filter_string="name LIKE 'tracked/%'")
    for run in client.search_runs([experiment.experiment_id]):
        for start in (run.info.start_time - 9, run.info.start_time + 9):
            client.create_run(experiment.experiment_id, start, run.data.tags, run.info.run_name)
    deliver(output, folder, config, ledger)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 1 + len(SEEDS)
    assert seed_curves(history(store)) == expected({0: range(3)})


def test_files_that_the_store_refuses_hold_up_no_rows(output, folder, config, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(Experiment, "log_file", refuse)
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(60))
    tracker, follower = follow(output, folder, config, ledger)
    follower.close(patience=2)
    assert tracker.undelivered == 61 and tracker.error == "not here"
    assert seed_curves(history(Output(output).tracking_uri)) == expected({0: range(60)})


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
    assert params == {"curation.beta": "0.0", "curation.k": "2", "lam": "inf", "seeds": "2"}
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(client.download_artifacts(run, "config.yaml", temporary)).read_text()
    assert parse_config(yaml.safe_load(whole)).point == at_point(config, ledger.points[0].values)


class Hanging(Tracker):
    """A store that takes a call and does not answer until it is told to."""

    def __init__(self, *given):
        super().__init__(*given)
        self.called, self.answer = threading.Event(), threading.Event()

    def try_deliver(self, known: int) -> bool:
        self.called.set()
        self.answer.wait(60)
        return super().try_deliver(known)


def test_a_store_that_hangs_keeps_nothing_from_the_storage(output, folder, config, tmp_path):
    """What came on record while the store was asked is copied before the thread is given up."""
    folder.keep_storage(tmp_path / "storage")
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(1))
    with mirrored(folder) as mirror:
        assert mirror is not None
        tracker = Hanging(
            Output(output), folder, SweepIdentity(folder.id, config, "a test"), ledger
        )
        follower = Follower(ledger, tracker, mirror)
        follower.start()
        assert tracker.called.wait(30)
        record(ledger, 0, range(3))
        follower.close(patience=0.3)
        assert mirror.events == len(ledger.events) == 4 and not mirror.error
        assert tracker.undelivered == 4 and tracker.error == "no answer in 0.3 s"
        tracker.answer.set()


def test_a_backlog_is_delivered_in_parts_between_which_the_storage_has_its_turn(
    output, folder, config, tmp_path
):
    folder.keep_storage(tmp_path / "storage")
    ledger = Ledger(folder.ledger)
    record(ledger, 0, range(120))
    with mirrored(folder) as mirror:
        assert mirror is not None and mirror.try_copy()
        identity = SweepIdentity(folder.id, config, "a test")
        tracker = Tracker(Output(output), folder, identity, ledger)
        assert tracker.try_deliver(mirror.events)
        assert tracker.lacks(mirror.events) and tracker.undelivered == 121
        follower = Follower(ledger, tracker, mirror)
        follower.start()
        follower.close(patience=60)
        assert tracker.undelivered == 0 and not tracker.lacks(121)
    assert seed_curves(history(Output(output).tracking_uri)) == expected({0: range(120)})


def test_a_lost_point_that_is_tried_again_is_no_failure_any_more(output, folder, config):
    """Neither in its status nor in its description, which said why it was lost."""
    client, ledger = MlflowClient(Output(output).tracking_uri), Ledger(folder.ledger)
    record(ledger, 0, range(2))
    ledger.end_point(0, "lost", "the node went away")
    deliver(output, folder, config, ledger)

    def point() -> Run:
        [experiment] = [e for e in client.search_experiments() if e.name.startswith("tracked/")]
        wanted = "tags.luceloop.kind = 'point'"
        [found] = client.search_runs([experiment.experiment_id], wanted)
        return found

    assert point().info.status == "FAILED" and point().data.tags["luceloop.status"] == "lost"
    assert point().data.tags["mlflow.note.content"] == "the node went away"
    ledger.reopen_lost()
    record(ledger, 0, range(2, 3))
    deliver(output, folder, config, ledger)
    assert point().info.status == "RUNNING" and not point().data.tags["mlflow.note.content"]
    ledger.end_point(0, "done")
    deliver(output, folder, config, ledger)
    assert point().info.status == "FINISHED" and point().data.tags["luceloop.status"] == "done"
    (folder.path / "delivered").unlink()  # and all of it once more
    deliver(output, folder, config, ledger)
    assert point().info.status == "FINISHED" and not point().data.tags["mlflow.note.content"]


def test_pictures_and_configurations_are_attached_once(output, folder, config):
    client, ledger = MlflowClient(Output(output).tracking_uri), Ledger(folder.ledger)
    for iteration in range(3):
        file = folder.preview(0, iteration)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, samples=np.random.default_rng(iteration).normal(size=(2, 50, 2)))
    record(ledger, 0, range(3))
    for _ in range(2):
        deliver(output, folder, config, ledger)
        (folder.path / "delivered").unlink()
    [experiment] = [e for e in client.search_experiments() if e.name.startswith("tracked/")]
    [run] = client.search_runs([experiment.experiment_id], "tags.luceloop.kind = 'point'")
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    steps = sorted(name.split("+step+")[1].split("+")[0] for name in images if ".png" in name)
    assert steps == ["0", "1", "2"]
    assert (
        "IMAGE"
        in client.get_experiment(experiment.experiment_id).tags["mlflow.sharedViewState.luceloop"]
    )
