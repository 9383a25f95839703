"""An extension as a job of a real cluster, of a sweep that only the storage still has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from luceloop.core.io.places import listed
from luceloop.sweeps.cluster.jobs import Cluster
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.ledger import Ledger
from tests.support import ALONE, QUICK, Cli, curves
from tests.sweeps.notify.listener import TOKEN, Listener, listening

pytestmark = pytest.mark.processes

SWEEP = ["mog", "learner={name: empirical}", "data={name: npz, path: mine.npz}",
         "reward={name: 'users_own:bounded'}", "search.beta.grid=[0,10]", "search.lam.grid=[1]",
         "iterations=3", QUICK]  # fmt: skip
MORE = ["seeds=[1,2,3]", "iterations=5", "data.path=mine.npz"]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.slow
def test_a_submitted_extension_equals_a_fresh_run_and_its_address_stays_hidden(
    cluster: Cluster,
    cli: Cli,
    mine: Path,
    output: Path,
    tmp_path: Path,
    bucket: UPath,
    listener: Listener,
    local_ray: None,
):
    there = ["--storage", str(bucket)]
    told = ["--notify", listener.address]
    first = cli("submit", *SWEEP, "seeds=[1,2]", "--output", str(output), *there, *told)
    assert first.code == 0, first.out + first.err
    [begun] = Output(output).sweeps()
    shutil.rmtree(output)

    second = tmp_path / "second"
    arguments = [*MORE, f"notify={listener.address}", "--output", str(second), *there, QUICK]
    ran = cli("submit", "--extends", begun.id, *arguments)
    assert ran.code == 0, ran.out + ran.err
    found = Output(second).find("latest")
    assert found.config().extends == begun.id
    assert ran.out.startswith(f"sweep {found.id}  mog: job {found.id}\n")
    assert "12 of 36 rows are on record and taken" in ran.out
    points = Ledger(found.ledger, writable=False).points.values()
    assert [sorted(point.reused) for point in points] == [[0, 1, 2]] * 2
    fresh = tmp_path / "fresh"
    assert cli("run", *SWEEP, *MORE, ALONE, "--output", str(fresh)).code == 0
    pd.testing.assert_frame_equal(curves(second), curves(fresh), check_exact=True)
    kept = found.config().point.files()["data.path"]  # the upload goes with its job
    assert [str(path) for path in listed(bucket, "files/mine-*.npz")] == [kept]

    assert [each["sweep"] for each in listener.of("end")] == [begun.id, found.id]
    assert {each["status"] for each in listener.of("end")} == {"done"}
    jobs = [job for job in cluster.jobs() if job.sweep in (begun.id, found.id)]
    logged = [cluster.log(job.id) for job in jobs]
    assert len(jobs) == 2
    assert TOKEN not in first.out + ran.out + repr(logged) + repr([job.details for job in jobs])
    assert (found.path / "notify").read_text() == listener.address
    for file in bucket.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
