"""What travels to a cluster, and what a job makes of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from luceloop.core.errors import ConfigError, without_password
from luceloop.core.parsing import parse_config
from luceloop.sweeps import job
from luceloop.sweeps.output import Output, is_sweep_id, new_sweep_id
from luceloop.sweeps.upload import CONFIG, ENVIRONMENT, gather
from tests.support import SECRETS


def config(**data: object):
    return parse_config({"name": "mine", "data": {"name": "npz", **data}, "lam": 1})


def test_an_upload_holds_code_and_named_files_and_nothing_else(mine: Path, tmp_path, monkeypatch):
    for unwanted in (".git/config", ".venv/x.py", "venv/pyvenv.cfg", "venv/lib.py", "out/mlflow.db",
                     "out/x.py", "__pycache__/x.pyc", "data/large.npz", ".env"):  # fmt: skip
        (mine / unwanted).parent.mkdir(parents=True, exist_ok=True)
        (mine / unwanted).touch()
    for wanted in ("package/__init__.py", "package/weights.pt", "data/loader.py"):
        (mine / wanted).parent.mkdir(exist_ok=True)
        (mine / wanted).touch()
    shutil.copy("mine.npz", "data/mine.npz")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    target = tmp_path / "upload"
    target.mkdir()
    gather(target, config(path="data/mine.npz"))
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    ours = {file for file in files if file.startswith("luceloop/")}
    presets = "luceloop/sweeps/presets/mog.yaml"
    assert {"luceloop/core/loop.py", presets, "luceloop/analysis/report.py"} <= ours
    assert files - ours == {
        "mine.npz", "mine.yaml", "users_own.py", "package/__init__.py", "package/weights.pt",
        "data/loader.py", "data/mine.npz", str(CONFIG), str(ENVIRONMENT),
    }  # fmt: skip
    assert "path: data/mine.npz" in (target / CONFIG).read_text()
    assert json.loads((target / ENVIRONMENT).read_text()) == SECRETS
    assert (target / ENVIRONMENT).stat().st_mode & 0o777 == 0o600


def test_too_large_an_upload_names_the_file_to_move(mine: Path, tmp_path, monkeypatch):
    monkeypatch.setattr("luceloop.sweeps.upload.MOST_BYTES", 3000)
    with pytest.raises(ConfigError, match=r"mine\.npz: move it"):
        gather(tmp_path, None)


@pytest.mark.parametrize("store", ["sqlite:////home/me/mlflow.db", "./mlruns"])
def test_a_store_that_is_a_file_of_this_machine_is_refused(store, mine, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    target = tmp_path / "upload"
    target.mkdir()
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        gather(target, None)


def test_a_job_takes_its_environment_and_keeps_its_files(mine: Path, tmp_path, monkeypatch):
    target, output = tmp_path / "upload", tmp_path / "output"
    target.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        gather(target, config(path="mine.npz"))
    (target / ENVIRONMENT).chmod(0o644)  # as Ray unpacks it
    monkeypatch.chdir(target)
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("sys.argv", ["job", "run", str(CONFIG), "--output", str(output)])
    seen = []
    monkeypatch.setattr("luceloop.sweeps.cli.main", lambda: seen.append(dict(os.environ)))
    job.main()
    [environment] = seen
    assert SECRETS.items() <= environment.items()
    assert (target / ENVIRONMENT).stat().st_mode & 0o777 == 0o600
    [kept] = Output(output).files.iterdir()
    assert kept.read_bytes() == (mine / "mine.npz").read_bytes()
    assert f"path: {kept}" in (target / CONFIG).read_text()


def test_a_job_without_an_output_folder_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.delenv("LUCELOOP_OUTPUT", raising=False)
    monkeypatch.setattr("sys.argv", ["job", "run", str(CONFIG)])
    with pytest.raises(SystemExit) as end:
        job.main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_ids_sort_by_time_and_no_other_text_is_one():
    first, second = new_sweep_id(), new_sweep_id()
    assert is_sweep_id(first) and first[:18] <= second[:18] and first != second
    for text in ("", "latest", "..", f"{first}/x", f"{first}\n", f" {first}"):
        assert not is_sweep_id(text)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("postgresql://me:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("request to https://me:pass@host/api failed", "request to https://host/api failed"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_addresses_are_shown_without_passwords(text, without):
    assert without_password(text) == without
