"""Folders that all nodes see: a local path and an object store behave alike."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import Timeout
from upath import UPath

from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError, StorageError
from luceloop.core.io import locks
from luceloop.core.io.locks import Lease, lock
from luceloop.core.io.places import (
    Folder,
    fetch_files,
    files_in,
    listed,
    local_file,
    make_folder,
    open_folder,
    open_whole,
    remove_folder,
    send_files,
    try_writing,
    write_whole,
)
from luceloop.core.io.saved import read_saved, save_atomically
from luceloop.core.learners.base import Fitted
from luceloop.core.loop.initial import InitialModels, ProgressFile, initial_key
from luceloop.core.loop.loop import Loop


@pytest.fixture(params=["path", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "path":
        return open_folder("--storage", str(tmp_path / "storage"))
    return open_folder("--storage", str(request.getfixturevalue("bucket")))


# --- files


def test_what_is_written_is_read_listed_and_removed(folder: Folder):
    try_writing("--storage", folder)
    assert files_in(folder) == {}
    for name in ("a-2", "a-1", "b-1"):
        make_folder(folder / name)
        write_whole(name.encode(), folder / name / "file")
        write_whole(b"", folder / name / ".unfinished")
    places = [f"{name}/file" for name in ("a-1", "a-2", "b-1")]
    assert {place: str(file) for place, file in files_in(folder).items()} == {
        place: f"{folder}/{place}" for place in places
    }
    assert [found.name for found in listed(folder, "a-*")] == ["a-1", "a-2"]
    assert listed(folder / "none", "*") == []
    with open_whole(folder / "a-2" / "file") as file:
        assert file.read() == b"a-2"
    for name in ("a-1", "a-2", "gone"):
        remove_folder(folder / name)
    assert list(files_in(folder)) == ["b-1/file"]
    with pytest.raises(FileNotFoundError):
        open_whole(folder / "a-2" / "file")


def test_many_files_travel_there_and_back(folder: Folder, tmp_path: Path):
    here = {tmp_path / f"{i}.bin": f"deep/{i % 3}/{i}.bin" for i in range(20)}
    for file in here:
        file.write_bytes(file.name.encode() * 1000)
    send_files({file: folder / place for file, place in here.items()})
    found = files_in(folder)
    assert found.keys() == set(here.values())
    fetch_files({found[place]: tmp_path / "back" / place for place in found})
    for file, place in here.items():
        assert (tmp_path / "back" / place).read_bytes() == file.read_bytes()
    send_files({})
    fetch_files({})


def test_a_url_of_this_machines_files_is_a_path(tmp_path: Path):
    assert open_folder("--storage", f"file://{tmp_path}") == tmp_path
    assert open_folder("--storage", f"local://{tmp_path}/x") == tmp_path / "x"
    assert isinstance(open_folder("--storage", "relative"), Path)
    assert open_folder("--storage", "relative").is_absolute()


BAD = [
    ("nonsense://bucket/x", "fsspec URL", "'nonsense'"),
    ("gs://bucket/x", "gcsfs"),
    ("sftp://host/x", "s3://, gs:// or az://"),
    ("abfs://container@account.dfs.core.windows.net/x", "s3://, gs:// or az://"),
    ("s3://me:word-of-pass@bucket/x", "credentials belong in the environment"),
    ("s3://me:word-of/pass@bucket/x", "credentials belong in the environment"),
    ("simplecache::s3://me:word-of-pass@bucket/x", "credentials belong in the environment"),
    ("simplecache::s3://bucket/x", "fsspec URL"),
    ("memory://x", "storage that all processes share"),
    ("s3:/bucket/x", "two slashes"),
    ("s3://", "fsspec URL"),
    ("s3:///", "fsspec URL"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0])
def test_what_cannot_be_shared_is_refused_in_one_line(case):
    url, *expected = case
    with pytest.raises(ConfigError) as refused:
        open_folder("--storage", url)
    line = str(refused.value)
    assert line.startswith("--storage=") and "\n" not in line and "word-of" not in line
    assert all(part in line for part in expected), line


def test_storage_that_cannot_be_written_is_refused_in_one_line(bucket: UPath, tmp_path: Path):
    (tmp_path / "file").touch()
    there = "s3://bucket-that-is-not-there"
    for place in (there, f"{there}/x", f"{there}/x/y", str(tmp_path / "file")):
        with pytest.raises(ConfigError, match=r"--storage=.*cannot be written") as refused:
            try_writing("--storage", open_folder("--storage", place))
        assert "\n" not in str(refused.value) and ".luceloop" not in str(refused.value)
    assert [name.strip("/") for name in bucket.fs.ls("")] == ["bucket"]  # none was made


# --- locks


def test_a_lock_has_one_holder(folder: Folder, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.05)
    make_folder(folder)
    counter = folder / "counter"
    write_whole(b"0", counter)

    def count() -> None:
        for _ in range(3):
            with lock(counter).acquire():
                with open_whole(counter) as file:
                    before = int(file.read())
                time.sleep(0.05)
                write_whole(str(before + 1).encode(), counter)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_whole(counter) as file:
        assert file.read() == b"9"


def test_who_waits_no_longer_gets_a_timeout(folder: Folder, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.05)
    make_folder(folder)
    with lock(folder / "x").acquire():
        for patience in (0.0, 0.2):
            with pytest.raises(Timeout), lock(folder / "x").acquire(timeout=patience):
                pass
    with lock(folder / "x").acquire(timeout=0.0):
        pass


def test_a_lease_passes_on_once_its_holder_is_silent(bucket: UPath, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.05)
    monkeypatch.setattr(locks, "RENEW", 0.2)
    monkeypatch.setattr(locks, "DEAD", 1.0)
    file = bucket / "x.lock"
    with Lease(file).acquire():  # renewed, it outlives any patience
        waiting = Lease(file)
        started = time.monotonic()
        while time.monotonic() < started + 2.5:
            with pytest.raises(Timeout), waiting.acquire(timeout=0.3):
                pass
    write_whole(b"someone 7", file)  # as a killed holder leaves it
    waiting, started = Lease(file), time.monotonic()
    with pytest.raises(Timeout), waiting.acquire(timeout=0.3):
        pass
    with waiting.acquire():
        assert 1.0 <= time.monotonic() - started < 10
        assert not open_whole(file).read().startswith(b"someone")
    assert files_in(bucket) == {}


def test_what_a_holder_of_the_same_name_left_is_not_waited_for(bucket: UPath):
    file, started = bucket / "x.lock", time.monotonic()
    write_whole(b"me 7", file)
    with Lease(file, "me").acquire(timeout=0.0):
        with pytest.raises(Timeout), Lease(file, "m").acquire(timeout=0.0):
            pass
        assert open_whole(file).read().startswith(b"me ")
    assert time.monotonic() - started < locks.DEAD
    write_whole(b"", file)  # half written, perhaps
    with pytest.raises(Timeout), Lease(file, "me").acquire(timeout=0.0):
        pass


def test_a_holder_who_was_silent_too_long_leaves_the_lease_to_the_next(bucket: UPath, monkeypatch):
    monkeypatch.setattr(locks, "RENEW", 0.1)
    file = bucket / "x.lock"
    with Lease(file).acquire():
        write_whole(b"the next 1", file)
        time.sleep(0.5)
    assert open_whole(file).read() == b"the next 1"


# --- what workers keep there


def test_models_are_trained_once_for_all(folder: Folder, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.05)
    trained: list[int] = []

    def train(rows, progress):
        time.sleep(0.5)
        trained.extend(rows)
        values = torch.tensor(rows, dtype=torch.float64)[:, None]
        return Fitted({"w": values}, None)

    found: list[Fitted] = []

    def get() -> None:
        found.append(InitialModels(folder).get("key", [5, 6], train, one_by_one=True))

    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(trained) == [0, 1]
    assert [fitted.state["w"].tolist() for fitted in found] == [[[0.0], [1.0]]] * 2
    assert {file.suffix for file in files_in(folder).values()} <= {".pt", ".lock"}


def test_damaged_content_is_made_anew_but_silence_is_no_damage(folder: Folder):
    make_folder(folder)
    assert read_saved(folder / "none.pt") is None
    write_whole(b"half a fi", folder / "torn.pt")
    assert read_saved(folder / "torn.pt") is None
    save_atomically({"w": torch.ones(2)}, folder / "torn.pt")
    saved = read_saved(folder / "torn.pt")
    assert saved is not None and saved["w"].tolist() == [1, 1]
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:1/model.pt: "):
        read_saved(UPath("http://127.0.0.1:1/model.pt"))


def test_progress_is_kept(folder: Folder):
    make_folder(folder)
    progress = ProgressFile(folder / "p0.unfinished.pt", every=0.0)
    assert progress.load() is None
    progress.save(lambda: {"step": 3, "w": torch.ones(2)})
    noted = ProgressFile(folder / "p0.unfinished.pt").load()
    assert noted is not None and noted["step"] == 3


# --- files that a configuration names


def _config(path: str):
    data, reward = {"name": "npz", "path": path}, {"name": "mode_distance", "center": [0, 0]}
    learner = {"name": "empirical"}
    return parse_config(
        {"name": "mine", "data": data, "learner": learner, "reward": reward, "lam": 1}
        | {"iterations": 2, "seeds": [1, 2]}
    ).point


def test_data_at_a_url_give_the_loop_of_the_same_file(bucket: UPath, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).normal(size=(50, 2)))
    write_whole((tmp_path / "mine.npz").read_bytes(), bucket / "mine.npz")
    here, there = _config(str(tmp_path / "mine.npz")), _config(f"{bucket}/mine.npz")
    assert there.files() == {"data.path": f"{bucket}/mine.npz"}
    assert initial_key(here, "cpu") == initial_key(there, "cpu")
    for one, other in zip(Loop(here).run(), Loop(there).run(), strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        for name, values in one.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(values, other.metrics[name]), name


def test_a_file_is_fetched_once_until_it_changes(bucket: UPath, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = f"{bucket}/weights.pt"
    write_whole(b"one", bucket / "weights.pt")
    first = local_file("classifier.weights", url)
    first.write_bytes(b"the same copy")
    assert local_file("classifier.weights", url) == first
    assert first.read_bytes() == b"the same copy"
    write_whole(b"another", bucket / "weights.pt")
    second = local_file("classifier.weights", url)
    assert second != first and second.read_bytes() == b"another"
    assert second.suffix == ".pt"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/nowhere/x.npz", "no such file"),
        ("file:///nowhere/x.npz", "no such file"),
        ("s3://bucket/nowhere/x.npz", "no such file"),
        ("http://127.0.0.1:1/x.npz", "no such file"),
        ("nonsense://x/x.npz", "fsspec URL"),
    ],
)
def test_a_file_that_is_not_there_gets_one_line(name, reason, object_store):
    with pytest.raises(ConfigError, match=f"data.path=.*{reason}") as refused:
        local_file("data.path", name)
    assert "\n" not in str(refused.value)


def test_storage_that_does_not_answer_is_no_fault_of_the_configuration(monkeypatch, object_store):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    UPath("s3://bucket").fs.clear_instance_cache()
    try:
        with pytest.raises(StorageError) as error:
            local_file("data.path", "s3://bucket/x.npz")
        assert str(error.value).startswith("s3://bucket/x.npz: ")
        assert "\n" not in str(error.value)
    finally:
        UPath("s3://bucket").fs.clear_instance_cache()
