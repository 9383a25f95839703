"""Sweeps whose workers share an object store, which outlives the machine they ran on."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from upath import UPath

from core.storage import files_in, listed, remove_folders, write_whole
from sweeps.ledger import Ledger
from sweeps.mirror import Mirror, find_or_fetch
from sweeps.output import Output, SweepFolder
from tests.processes import finish, luceloop, rows
from tests.servers import wait_until
from tests.support import QUICK, TINY, TINY_ROWS, Cli, curves


@pytest.mark.slow
@pytest.mark.processes
def test_a_machine_that_is_lost_costs_nothing_that_the_storage_has(
    bucket: UPath, empty_store: Path, tiny: Path, tmp_path: Path
):
    lost, other = tmp_path / "lost", tmp_path / "other"
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"  # a server's, that is: not lost
    storage = ["--storage", str(bucket)]
    process = luceloop(lost, *TINY, *storage, MLFLOW_TRACKING_URI=store)
    wait_for_rows(lost, 8)
    wait_until(lambda: bool(listed(bucket, "sweeps/*/record/ledger/*")), "a copy", process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    before = rows(lost)
    assert len(before) < TINY_ROWS
    [folder] = Output(lost).sweeps()
    assert {path.name for path in lost.iterdir()} <= {"sweeps", "artifacts"}
    assert not (folder.path / "tune").exists()
    assert {file.name for file in files_in(bucket)} > {"loop.pt", "config.yaml"}
    assert listed(bucket, "cache/p0-*.pt")

    copy = find_or_fetch(Output(tmp_path / "copy", bucket), folder.id)
    copied = rows(tmp_path / "copy")
    assert copied == before[: len(copied)] != []
    for row in copied:
        for file, _ in folder.iteration_files(row["point"], row["iteration"]):
            if file.exists():
                assert (copy.path / file.relative_to(folder.path)).read_bytes() == file.read_bytes()

    shutil.rmtree(lost)
    resume = luceloop(other, "resume", folder.id, QUICK, *storage, MLFLOW_TRACKING_URI=store)
    finish(resume, 0)
    pd.testing.assert_frame_equal(curves(other, store), curves(tiny), check_exact=True)
    assert_no_step_twice(store)
    assert not [file for file in files_in(bucket) if file.name == "loop.pt"]


def wait_for_rows(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(output)) < count:
        assert time.monotonic() < deadline, rows(output)
        time.sleep(0.02)


def assert_no_step_twice(store: str) -> None:
    client = MlflowClient(store)
    [experiment] = [found for found in client.search_experiments() if "/" in found.name]
    for run in client.search_runs([experiment.experiment_id]):
        for metric in run.data.metrics:
            steps = [row.step for row in client.get_metric_history(run.info.run_id, metric)]
            assert len(steps) == len(set(steps)), (run.info.run_name, metric)


def _places(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in files_in(folder)}


# --- the copy of the record


@pytest.fixture
def copied(tiny: Path, tmp_path: Path, bucket: UPath) -> SweepFolder:
    """A sweep that has ended, as if its workers had shared the bucket."""
    [sweep] = Output(tiny).sweeps()
    folder = SweepFolder(tmp_path / "here" / "sweeps" / sweep.id)
    shutil.copytree(sweep.path, folder.path)
    folder.keep_storage(bucket)
    return folder


def test_a_copy_made_in_pieces_by_several_runs_is_the_record(
    copied: SweepFolder, bucket: UPath, tmp_path: Path
):
    content = copied.ledger.read_bytes()
    cuts = [0, 1000, 1001, len(content) // 2, len(content)]
    for first in (0, 1, 3):  # a run copies from the start what others had copied in pieces
        mirror = Mirror(copied)
        for cut in cuts[first:]:
            copied.ledger.write_bytes(content[:cut])
            mirror.copy()
    assert mirror.events == content.count(b"\n")
    there = Output(tmp_path / "there", bucket)
    fetched = find_or_fetch(there, copied.id)
    assert fetched.path == there.path / "sweeps" / copied.id
    assert fetched.storage == bucket
    assert fetched.ledger.read_bytes() == content
    assert fetched.config() == copied.config()
    for kind in ("previews", "initial"):
        assert _places(fetched.path / kind) == _places(copied.path / kind)
    assert find_or_fetch(there, copied.id[:-1]).path == fetched.path  # found here from now on


def test_half_a_line_is_not_copied(copied: SweepFolder, bucket: UPath, tmp_path: Path):
    content = copied.ledger.read_bytes()
    whole = content[: content.rfind(b"\n", 0, -1) + 1]
    copied.ledger.write_bytes(content[:-1])
    Mirror(copied).copy()
    fetched = find_or_fetch(Output(tmp_path / "there", bucket), copied.id)
    assert fetched.ledger.read_bytes() == whole
    assert len(Ledger(fetched.ledger, writable=False).events) == whole.count(b"\n")


def test_a_copy_that_lacks_a_part_is_refused(
    copied: SweepFolder, bucket: UPath, tmp_path: Path, cli: Cli
):
    content = copied.ledger.read_bytes()
    mirror = Mirror(copied)
    for cut in (2000, 9000, len(content)):
        copied.ledger.write_bytes(content[:cut])
        mirror.copy()
    record = bucket / "sweeps" / copied.id / "record"
    where = ["--output", str(tmp_path / "there"), "--storage", str(bucket)]
    pieces = listed(record, "ledger/*")
    middle = pieces[1].read_bytes()
    pieces[1].unlink()
    refused = cli("resume", copied.id, *where)
    assert refused.code == 2 and "lacks a part of its ledger" in refused.err
    write_whole(middle, pieces[1])
    (record / "config.yaml").unlink()
    refused = cli("resume", copied.id, *where)
    assert refused.code == 2 and "has no whole copy" in refused.err
    remove_folders([record])
    refused = cli("resume", copied.id, *where)
    assert refused.code == 2 and "there are no sweeps" in refused.err
    assert not (tmp_path / "there").exists()


# --- the option


BAD = [
    (["run", "demo", "--storage", "s3://no-such-bucket/x"], "--storage=", "cannot be written"),
    (["run", "demo", "--storage", "memory://x"], "--storage=", "all processes share"),
    (["submit", "mog", "--storage", "here"], "--storage='here'", "absolute path"),
    (["submit", "mog", "--storage", "s3://me:word@bucket/x"], "='s3://bucket/x'", "no password"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: " ".join(case[0]))
def test_bad_storage_gets_one_line_and_nothing_is_begun(
    case, object_store, cli: Cli, tmp_path, monkeypatch
):
    arguments, *expected = case
    monkeypatch.setenv("LUCELOOP_OUTPUT", str(tmp_path / "output"))
    ran = cli(*arguments)
    assert ran.code == 2 and ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1
    assert all(part in ran.err for part in expected), ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_be_storage_and_is_remembered(
    local_ray, cli: Cli, output: Path, tmp_path: Path, monkeypatch
):
    storage = tmp_path / "shared"
    monkeypatch.setenv("LUCELOOP_STORAGE", str(storage))
    where = ["--output", str(output)]
    ran = cli("run", *TINY[1:], "iterations=2", "resources.samplers=0", *where)
    assert ran.code == 0, ran.err
    monkeypatch.delenv("LUCELOOP_STORAGE")
    folder = Output(output).find("latest")
    assert folder.storage == storage and folder.cache == storage / "cache"
    assert {path.name for path in storage.iterdir()} == {"cache", "sweeps"}
    assert not (output / "cache").exists() and not (folder.path / "tune").exists()
    assert cli("resume", "latest", *where).code == 0
    moved = tmp_path / "moved"
    assert cli("resume", "latest", "--storage", str(moved), *where).code == 0
    assert folder.storage == moved
