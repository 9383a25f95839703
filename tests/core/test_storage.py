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

from core import storage
from core.cache import InitialModels, ProgressFile, fingerprint, read, save_atomically
from core.errors import ConfigError
from core.learners.base import Fitted
from core.loop import Loop
from core.parsing import parse_config
from core.storage import (
    Folder,
    Lease,
    files_in,
    listed,
    local_file,
    lock,
    open_folder,
    open_whole,
    remove_folders,
    try_writing,
    write_whole,
)


@pytest.fixture(params=["path", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "path":
        return open_folder("--storage", str(tmp_path / "storage"))
    return open_folder("--storage", str(request.getfixturevalue("bucket")))


# --- files


def test_what_is_written_is_read_listed_and_removed(folder: Folder):
    try_writing("--storage", folder)
    assert files_in(folder) == []
    for name in ("a-2", "a-1", "b-1"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_whole(name.encode(), folder / name / "file")
    assert [str(file) for file in files_in(folder)] == [
        f"{folder}/{name}/file" for name in ("a-1", "a-2", "b-1")
    ]
    assert [found.name for found in listed(folder, "a-*")] == ["a-1", "a-2"]
    assert listed(folder / "none", "*") == []
    with open_whole(folder / "a-2" / "file") as file:
        assert file.read() == b"a-2"
    remove_folders([folder / "a-1", folder / "a-2", folder / "gone"])
    remove_folders([folder / "gone"])
    assert [file.parent.name for file in files_in(folder)] == ["b-1"]
    with pytest.raises(FileNotFoundError):
        open_whole(folder / "a-2" / "file")


def test_a_url_of_this_machines_files_is_a_path(tmp_path: Path):
    assert open_folder("--storage", f"file://{tmp_path}") == tmp_path
    assert open_folder("--storage", f"local://{tmp_path}/x") == tmp_path / "x"
    assert isinstance(open_folder("--storage", "relative"), Path)
    assert open_folder("--storage", "relative").is_absolute()


BAD = [
    ("nonsense://bucket/x", "fsspec URL", "'nonsense'"),
    ("sftp://host/x", "paramiko"),
    ("s3://me:word-of-pass@bucket/x", "credentials belong in the environment"),
    ("memory://x", "storage that all processes share"),
    ("simplecache::s3://bucket/x", "storage that all processes share"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0].split(":")[0])
def test_what_cannot_be_shared_is_refused_in_one_line(case):
    url, *expected = case
    with pytest.raises(ConfigError) as refused:
        open_folder("--storage", url)
    line = str(refused.value)
    assert line.startswith("--storage=") and "\n" not in line and "word-of-pass" not in line
    assert all(part in line for part in expected), line


def test_storage_that_cannot_be_written_is_refused_in_one_line(bucket: UPath, tmp_path: Path):
    (tmp_path / "file").touch()
    for place in ("s3://bucket-that-is-not-there/x", str(tmp_path / "file")):
        with pytest.raises(ConfigError, match=r"--storage=.*cannot be written") as refused:
            try_writing("--storage", open_folder("--storage", place))
        assert "\n" not in str(refused.value)
    assert [name.strip("/") for name in bucket.fs.ls("")] == ["bucket"]  # none was made


# --- locks


def test_a_lock_has_one_holder(folder: Folder, monkeypatch):
    monkeypatch.setattr(storage, "POLL", 0.05)
    folder.mkdir(parents=True, exist_ok=True)
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
    monkeypatch.setattr(storage, "POLL", 0.05)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "x").acquire():
        for patience in (0.0, 0.2):
            with pytest.raises(Timeout), lock(folder / "x").acquire(timeout=patience):
                pass
    with lock(folder / "x").acquire(timeout=0.0):
        pass


def test_a_lease_passes_on_once_its_holder_is_silent(bucket: UPath, monkeypatch):
    monkeypatch.setattr(storage, "POLL", 0.05)
    monkeypatch.setattr(storage, "RENEW", 0.2)
    monkeypatch.setattr(storage, "DEAD", 1.0)
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
    assert files_in(bucket) == []


# --- what workers keep there


def test_models_are_trained_once_for_all(folder: Folder, monkeypatch):
    monkeypatch.setattr(storage, "POLL", 0.05)
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
    assert {file.suffix for file in files_in(folder)} <= {".pt", ".lock"}


def test_damaged_content_is_made_anew_but_silence_is_no_damage(folder: Folder):
    folder.mkdir(parents=True, exist_ok=True)
    assert read(folder / "none.pt") is None
    write_whole(b"half a fi", folder / "torn.pt")
    assert read(folder / "torn.pt") is None
    save_atomically({"w": torch.ones(2)}, folder / "torn.pt")
    assert read(folder / "torn.pt")["w"].tolist() == [1, 1]
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        read(UPath("http://127.0.0.1:1/model.pt"))


def test_progress_is_kept(folder: Folder):
    folder.mkdir(parents=True, exist_ok=True)
    progress = ProgressFile(folder / "p0.unfinished.pt", every=0.0)
    assert progress.load() is None
    progress.save(lambda: {"step": 3, "w": torch.ones(2)})
    assert ProgressFile(folder / "p0.unfinished.pt").load()["step"] == 3


# --- files that a configuration names


def _config(path: str):
    data, reward = {"name": "npz", "path": path}, {"name": "mode_distance", "center": [0, 0]}
    learner = {"name": "empirical"}
    return parse_config(
        {"name": "mine", "data": data, "learner": learner, "reward": reward, "lam": 1}
        | {"iterations": 2, "seeds": [1, 2]}
    )


def test_data_at_a_url_give_the_loop_of_the_same_file(bucket: UPath, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).normal(size=(50, 2)))
    write_whole((tmp_path / "mine.npz").read_bytes(), bucket / "mine.npz")
    here, there = _config(str(tmp_path / "mine.npz")), _config(f"{bucket}/mine.npz")
    assert there.data.path == f"{bucket}/mine.npz"
    assert fingerprint(here, "cpu") == fingerprint(there, "cpu")
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
