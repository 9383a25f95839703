"""What memory a sweep is judged by: this machine's, a cluster's, or that of nodes still to come."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from luceloop.sweeps.run.machines import knows_cluster


@pytest.mark.parametrize(
    ("address", "known"),
    [(None, False), ("", False), ("local", False), ("auto", True), ("10.0.0.1:6379", True)],
)
def test_a_session_that_is_started_here_is_no_cluster(address, known, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert knows_cluster() is known


@pytest.mark.slow
@pytest.mark.processes
def test_only_a_cluster_that_can_become_no_larger_is_judged_by_its_nodes():
    """A head without CPUs runs no trial; a node that an autoscaler has started is not the last."""
    folder, root = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), Path(__file__).parents[3]
    environment = dict(os.environ, PYTHONPATH=str(root), RAY_AUTH_MODE="disabled")
    environment |= {"RAY_TMPDIR": folder, "XDG_CACHE_HOME": folder}
    environment.pop("RAY_ADDRESS", None)
    child = [sys.executable, "-m", "tests.sweeps.run.machines_child", folder]
    ran = subprocess.run(child, cwd=root, env=environment, capture_output=True, text=True)
    shutil.rmtree(folder, ignore_errors=True)
    assert ran.returncode == 0, ran.stderr
    head, grown, scaled = json.loads(ran.stdout.splitlines()[-1])
    assert grown["is_known"] and not grown["is_shared"]
    assert grown["host"] == pytest.approx(3e9, rel=0.1)
    for room in (head, scaled):
        assert not room["is_known"] and not room["is_shared"] and room["host"] > 1e13
