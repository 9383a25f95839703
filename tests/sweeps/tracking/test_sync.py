"""`luceloop sync`: what MLflow lacks of a sweep arrives, or a line says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.tracking import delivery
from tests.servers import free_port
from tests.support import QUICK, Cli, curves


@pytest.fixture
def copied(tiny: Path, output: Path) -> Path:
    """The finished sweep beside a store that has none of it."""
    shutil.copytree(tiny / "sweeps", output / "sweeps")
    return output


def test_a_store_that_was_lost_is_filled_again(copied: Path, tiny: Path, cli: Cli):
    store = f"sqlite:///{copied / 'mlflow.db'}"
    folder = Output(copied).find("latest")
    for _ in range(2):  # the second time there is nothing left to do
        ran = cli("sync", "latest", QUICK, "--output", str(copied))
        assert ran.code == 0 and ran.out.endswith(f" events of {folder.id}\n")
        pd.testing.assert_frame_equal(curves(copied), curves(tiny), check_exact=True)
    client = MlflowClient(store)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 2 + 2 * 2 and {run.info.status for run in runs} == {"FINISHED"}


def test_a_store_that_does_not_answer_is_named_in_a_line(
    copied: Path, cli: Cli, monkeypatch, caplog
):
    monkeypatch.setattr(delivery, "PATIENCE", 5.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    folder = Output(copied).find("latest")
    (folder.path / "delivered").unlink()
    ran = cli("sync", "latest", "--output", str(copied))
    assert ran.code == 1 and len(ran.out.splitlines()) == 1
    assert ran.out.startswith("MLflow at http://127.0.0.1:")
    assert f" lacks 46 events of {folder.id} (Connection refused); " in ran.out
    assert "secret" not in ran.out + ran.err + caplog.text and "Traceback" not in ran.err


def test_a_database_elsewhere_leaves_files_in_the_output_folder(
    copied: Path, empty_store: Path, cli: Cli, tmp_path: Path, monkeypatch
):
    here, store = tmp_path / "here", f"sqlite:///{tmp_path / 'other.db'}"
    here.mkdir()
    shutil.copy(empty_store, tmp_path / "other.db")
    monkeypatch.chdir(here)  # where MLflow itself would put them
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert cli("sync", "latest", QUICK, "--output", str(copied)).code == 0
    assert list(here.iterdir()) == []
    client = MlflowClient(store)
    [experiment] = client.search_experiments(filter_string="name LIKE '%/%'")
    [sweep] = client.search_runs([experiment.experiment_id], "tags.`luceloop.kind` = 'sweep'")
    assert {"config.yaml"} <= {item.path for item in client.list_artifacts(sweep.info.run_id)}
    assert sweep.info.artifact_uri.startswith((copied / "artifacts").as_uri())


def test_a_sweep_that_another_process_runs_is_left_to_it(copied: Path, cli: Cli):
    with held(Output(copied).find("latest")):
        ran = cli("sync", "latest", "--output", str(copied))
    assert ran.code == 2 and "is being run by another process" in ran.err
