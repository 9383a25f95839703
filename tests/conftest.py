"""One real local Ray for the whole session, and one finished sweep that many tests read."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
import torch
from playwright.sync_api import Page, sync_playwright
from upath import UPath

from tests.servers import ObjectStore
from tests.support import (
    ALONE,
    CHROMIUM,
    PAIRWISE,
    SMALL,
    TINY,
    USERS_OWN,
    Cli,
    Finished,
    Ran,
    run_main,
    users_folder,
)

OFFLINE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


STARTING = {"local_ray", "finished", "tiny", "object_store", "bucket", "page", "nodes", "orphans"}
"""Fixtures that start a process, or need one that another started."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark with `external` what uses such a fixture, be it through another one, or `processes`."""
    for item in items:
        starting = STARTING & set(getattr(item, "fixturenames", ()))
        if starting or item.get_closest_marker("processes"):
            item.add_marker(pytest.mark.external)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of more logical CPUs than the trials of any test at once: actors never queue."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    code = tmp_path_factory.mktemp("code")
    (code / "users_own.py").write_text(USERS_OWN)
    os.environ["PYTHONPATH"] = str(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(code))
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `luceloop` in this process, by its entry point."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = run_main(*arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, a reward and data of the user's own; the current one."""
    folder = users_folder(tmp_path)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A server that speaks S3, which this process and those it starts reach."""
    server = ObjectStore()
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
    server.kill()


@pytest.fixture
def bucket(object_store: ObjectStore) -> UPath:
    """A folder of its own in a bucket."""
    return UPath(f"s3://bucket/{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without a sweep; making one takes several seconds."""
    from luceloop.analysis.reading.store import connect

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{database}")
    return database


@pytest.fixture
def output(empty_store: Path, tmp_path: Path) -> Path:
    """An output folder without a sweep."""
    folder = tmp_path / "output"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="session")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`mog` with other seeds, K, β and λ, on less data."""
    output = tmp_path_factory.mktemp("output")
    table = output / "table.csv"
    where = ["--output", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        arguments = ["iterations=3", "seeds=[7,8,9]", "curation.k=4"]
        arguments += ["search.beta.grid=[0,10]", "search.lam.grid=[0.5,.inf]", *SMALL, *PAIRWISE]
        assert run_main("run", "mog", *arguments, *where) == 0
        assert run_main("export", "latest", "-o", str(table), *where) == 0
    return Finished(output, table)


@pytest.fixture(scope="session")
def tiny(local_ray: None, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `TINY`, undisturbed, in the default store."""
    output = tmp_path_factory.mktemp("tiny")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_main(*TINY, ALONE, "--output", str(output)) == 0
    return output


@pytest.fixture(scope="session")
def orphans() -> Iterator[list[psutil.Process]]:
    """What killed drivers had started, which is gone too by the end of the session."""
    processes: list[psutil.Process] = []
    yield processes
    _, alive = psutil.wait_procs(processes, timeout=150)  # Ray's agents take a minute
    assert not alive, [process.cmdline() for process in alive]


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser.new_page(viewport={"width": 1700, "height": 900})
        browser.close()
