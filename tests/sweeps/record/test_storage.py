"""Sweeps whose workers share an object store, which outlives the machine they ran on."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from upath import UPath

from luceloop.core.io import locks
from luceloop.core.io.places import files_in, listed, make_folder, remove_folder, write_whole
from luceloop.sweeps.record.events import IterationDone, decode, encode
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mirror import find_or_fetch, mirrored
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
    wait_until(lambda: _has_row(bucket), "a copy of a row", process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    before = rows(lost)
    assert len(before) < TINY_ROWS
    [folder] = Output(lost).sweeps()
    assert {path.name for path in lost.iterdir()} <= {"sweeps", "artifacts"}
    assert not (folder.path / "tune").exists()
    assert {file.name for file in files_in(bucket).values()} > {"loop-0000.pt", "config.yaml"}
    assert listed(bucket, "cache/p0-*.pt")

    (bucket / "sweeps" / folder.id / "record" / "driver.lock").unlink()  # a minute later
    copy = find_or_fetch(Output(tmp_path / "copy", bucket), folder.id)
    with mirrored(copy):
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
    assert not [file for file in files_in(bucket).values() if file.name.startswith("loop-")]


def _has_row(bucket: UPath) -> bool:
    pieces = listed(bucket, "sweeps/*/record/ledger/*")
    return any(b'"event": "iteration"' in piece.read_bytes() for piece in pieces)


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


# --- the copy of the record


@pytest.fixture
def copied(tiny: Path, tmp_path: Path, bucket: UPath) -> SweepFolder:
    """A sweep that has ended, as if its workers had shared the bucket."""
    [sweep] = Output(tiny).sweeps()
    folder = SweepFolder(tmp_path / "here" / "sweeps" / sweep.id)
    shutil.copytree(sweep.path, folder.path)
    folder.keep_storage(bucket)
    return folder


def _copy(folder: SweepFolder, content: bytes) -> None:
    """Copy what a run of the sweep has written until its ledger is `content`."""
    with mirrored(folder) as mirror:
        folder.ledger.write_bytes(content)
        assert mirror is not None
        mirror.copy()
        assert mirror.events == content.count(b"\n")


def _fetched(output: Path, bucket: UPath, sweep: str) -> SweepFolder:
    """The sweep on a machine that has nothing of it."""
    folder = find_or_fetch(Output(output, bucket), sweep)
    with mirrored(folder):
        pass
    return folder


def _places(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*.npz")}


def test_a_copy_made_in_pieces_by_several_runs_is_the_record(
    copied: SweepFolder, bucket: UPath, tmp_path: Path
):
    lines = copied.ledger.read_bytes().splitlines(keepends=True)
    copied.ledger.unlink()
    for count in (3, 4, 20, len(lines)):
        _copy(copied, b"".join(lines[:count]))
    fetched = _fetched(tmp_path / "there", bucket, copied.id)
    assert fetched.path == tmp_path / "there" / "sweeps" / copied.id
    assert fetched.storage == bucket
    assert fetched.ledger.read_bytes() == b"".join(lines)
    assert fetched.config() == copied.config()
    for kind in ("previews", "initial"):
        assert _places(fetched.path / kind) == _places(copied.path / kind) != set()
    assert find_or_fetch(Output(tmp_path / "there"), copied.id[:-1]).path == fetched.path


def test_half_a_line_is_not_copied(copied: SweepFolder, bucket: UPath, tmp_path: Path):
    content = copied.ledger.read_bytes()
    whole = content[: content.rfind(b"\n", 0, -1) + 1]
    copied.ledger.write_bytes(content[:-1])
    with mirrored(copied) as mirror:
        assert mirror is not None
        mirror.copy()
    fetched = _fetched(tmp_path / "there", bucket, copied.id)
    assert fetched.ledger.read_bytes() == whole
    assert len(Ledger(fetched.ledger, writable=False).events) == whole.count(b"\n")


def test_a_machine_that_comes_back_takes_over_what_another_has_done(
    copied: SweepFolder, bucket: UPath, tmp_path: Path
):
    lines = copied.ledger.read_bytes().splitlines(keepends=True)
    _copy(copied, b"".join(lines[:5]))
    other = _fetched(tmp_path / "other", bucket, copied.id)
    _copy(other, b"".join(lines[:9]))
    with mirrored(copied):  # had not copied these, which are the same
        assert copied.ledger.read_bytes() == b"".join(lines[:9])


def test_records_that_have_parted_are_not_mixed(
    copied: SweepFolder, bucket: UPath, tmp_path: Path, cli: Cli
):
    lines = copied.ledger.read_bytes().splitlines(keepends=True)
    _copy(copied, b"".join(lines[:5]))
    other = _fetched(tmp_path / "other", bucket, copied.id)
    _copy(other, b"".join(lines[:6]))
    event = decode(lines[5]).event
    assert isinstance(event, IterationDone)
    recorded = encode(replace(event, time=event.time + 1), 5)  # and not copied: the line broke
    mine = b"".join([*lines[:5], recorded])
    copied.ledger.write_bytes(mine)
    refused = cli("resume", copied.id, "--output", str(copied.path.parents[1]))
    assert refused.code == 2 and "was run on another machine, too" in refused.err
    assert copied.ledger.read_bytes() == mine
    assert _fetched(tmp_path / "third", bucket, copied.id).ledger.read_bytes() == b"".join(
        lines[:6]
    )


def test_two_machines_do_not_run_a_sweep_at_once(
    copied: SweepFolder, bucket: UPath, tmp_path: Path, cli: Cli, monkeypatch
):
    monkeypatch.setattr(locks, "POLL", 0.05)
    monkeypatch.setattr(locks, "RENEW", 0.1)
    monkeypatch.setattr(locks, "DEAD", 1.0)
    where = ["--output", str(tmp_path / "other"), "--storage", str(bucket)]
    with mirrored(copied) as mirror:
        assert mirror is not None
        mirror.copy()
        refused = cli("resume", copied.id, *where)
        assert refused.code == 2 and "is being run on another machine" in refused.err
    with mirrored(copied):
        pass


def test_storage_that_lacks_the_sweep_is_no_place_to_move_to(
    copied: SweepFolder, bucket: UPath, tmp_path: Path, cli: Cli
):
    _copy(copied, copied.ledger.read_bytes())
    where = ["--output", str(copied.path.parents[1])]
    refused = cli("resume", copied.id, "--storage", str(tmp_path / "typo"), *where)
    assert refused.code == 2 and f"from {bucket}" in refused.err
    assert len(refused.err.splitlines()) == 1 and copied.storage == bucket
    sent = files_in(bucket)
    moved = tmp_path / "moved"
    for place, file in sent.items():
        make_folder((moved / place).parent)
        write_whole(file.read_bytes(), moved / place)
    assert cli("resume", copied.id, "--storage", str(moved), QUICK, *where).code == 0
    assert copied.storage == moved


def test_a_copy_that_lacks_a_part_is_refused(
    copied: SweepFolder, bucket: UPath, tmp_path: Path, cli: Cli
):
    lines = copied.ledger.read_bytes().splitlines(keepends=True)
    copied.ledger.unlink()
    for count in (3, 9, len(lines)):
        _copy(copied, b"".join(lines[:count]))
    record = bucket / "sweeps" / copied.id / "record"
    where = ["--output", str(tmp_path / "there"), "--storage", str(bucket)]
    listed(record, "ledger/*")[1].unlink()
    refused = cli("resume", copied.id, *where)
    assert refused.code == 2 and "lacks a part of its ledger" in refused.err
    remove_folder(record)
    shutil.rmtree(tmp_path / "there")
    refused = cli("resume", copied.id, *where)
    assert refused.code == 2 and f"there nor in {bucket}" in refused.err
    assert len(refused.err.splitlines()) == 1 and not (tmp_path / "there").exists()


@pytest.mark.parametrize("kind", ["path", "s3"])
def test_nothing_else_in_the_record_is_touched(
    kind, copied: SweepFolder, bucket: UPath, tmp_path: Path
):
    storage = bucket if kind == "s3" else tmp_path / "storage"
    copied.keep_storage(storage)
    _copy(copied, copied.ledger.read_bytes())
    record = storage / "sweeps" / copied.id / "record"
    make_folder(record / "previews" / "point-0000")
    strange = ["ledger/.000000000000000.jsonl.k3jd8s_a", "ledger/x.jsonl", "escaped.txt",
               "previews/point-0000/escaped.sh"]  # fmt: skip
    for place in strange:
        write_whole(b"strange", record / place)
    if isinstance(record, UPath):
        assert kind == "s3"
        record.fs.pipe_file(f"{record.path}/previews/../../../../../escaped.npz", b"strange")
    there = tmp_path / "a" / "b" / "there"
    fetched = find_or_fetch(Output(there, storage), copied.id)
    with mirrored(fetched):
        pass
    assert fetched.ledger.read_bytes() == copied.ledger.read_bytes()
    assert not [file for file in (tmp_path / "a").rglob("*") if "escaped" in file.name]


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
