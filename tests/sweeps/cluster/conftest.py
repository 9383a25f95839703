"""A real Ray cluster of three nodes on loopback, which asks for tokens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from luceloop.sweeps.cluster.jobs import Cluster
from tests.servers import ObjectStore
from tests.support import SECRETS
from tests.sweeps.cluster.nodes import TOKEN, Nodes


@pytest.fixture(scope="session")
def nodes(object_store: ObjectStore) -> Iterator[Nodes]:
    """A cluster that asks for a token, for all tests that submit."""
    environment = dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("PYTHONPATH", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "LUCELOOP_OUTPUT"):
        environment.pop(name, None)
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path has 107 characters
    environment["XDG_CACHE_HOME"] = folder
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_cluster.py")), folder],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    address = process.stdout.readline().strip()
    assert address, "the cluster did not start"
    yield Nodes(process, address)
    process.stdin.close()
    process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The same, for this process's commands."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", nodes.address)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Cluster(nodes.address)
