"""Reading a store makes none, whatever its address."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from luceloop.sweeps.record.folders import Output
from tests.support import Cli

LAYOUT = sorted((Path(__file__).parents[1] / "record" / "layouts").iterdir())[-1]
FROM_THE_RECORD = [["export", "latest", "-o", "table.csv"], ["show", "latest"], ["list"]]
FROM_THE_STORE = [
    ["compare", "latest"],
    ["plot", "latest"],
    ["report", "latest"],
    ["ui"],
]


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An output folder that holds a sweep and no store, and commands that write elsewhere."""
    shutil.copytree(LAYOUT / "sweeps", tmp_path / "output" / "sweeps")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ["--output", str(tmp_path / "output")]


def stores(folder: Path) -> list[str]:
    return ["", f"sqlite:///{folder}/no/such/folder/x.db", "sqlite:///relative.db"]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("command", FROM_THE_RECORD, ids=lambda command: command[0])
def test_what_is_on_record_is_read_without_a_store(
    command, number, where, cli: Cli, tmp_path, monkeypatch
):
    if store := stores(tmp_path)[number]:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    before = everything(tmp_path)
    assert cli(*command, *where).code == 0
    written = {path.name for path in everything(tmp_path) - before}
    assert written <= {"table.csv", "cache", "laws"} and not list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("command", FROM_THE_STORE, ids=lambda command: command[0])
def test_a_store_that_is_not_there_is_said_to_be_so_and_not_made(
    command, number, where, cli: Cli, tmp_path, monkeypatch
):
    store = stores(tmp_path)[number]
    if store:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    before = everything(tmp_path)
    ran = cli(*command, *where)
    assert ran.code == 2 and ran.err.count("\n") == 1, ran.out + ran.err
    assert "there is no database" in ran.err and "MLFLOW_TRACKING_URI=" in ran.err
    assert everything(tmp_path) == before


def test_a_database_without_tables_gets_none(where, cli: Cli, tmp_path, monkeypatch):
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table mine (x)")
    content = file.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    ran = cli("compare", "latest", *where)
    assert ran.code == 2 and "the database has no tables of MLflow" in ran.err
    assert file.read_bytes() == content


def test_deleting_a_sweep_makes_no_store(where, cli: Cli, tmp_path, monkeypatch):
    folder = Output(tmp_path / "output").find("latest")
    other = folder.path.with_name("20991231-235959000-0af1")
    shutil.copytree(folder.path, other)
    assert cli("rm", other.name, "--yes", *where).code == 0
    assert not list(tmp_path.rglob("*.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/no/x.db")
    ran = cli("rm", folder.id, "--yes", *where)  # a store that was named may have runs
    assert ran.code == 1 and "there is no database" in ran.out
    assert not (tmp_path / "no").exists() and not folder.path.exists()
