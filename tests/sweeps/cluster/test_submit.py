"""Sweeps as jobs of a real Ray cluster: three nodes on loopback, tokens asked for."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pandas as pd
import pytest
from upath import UPath

from luceloop.core.io.places import listed
from luceloop.sweeps.cluster.jobs import Cluster, Job
from luceloop.sweeps.record.folders import Output
from tests.processes import rows
from tests.support import QUICK, SECRETS, SMALL, Cli, curves, run_main, users_folder
from tests.sweeps.cluster.nodes import TOKEN, Nodes

pytestmark = pytest.mark.processes

SWEEP = ["mog", "reward.name=users_own:bounded", "data.name=npz", "data.path=mine.npz",
         "seeds=[1,2]", "iterations=7", *SMALL[1:], "learner.steps=150", QUICK]  # fmt: skip
ROWS = 2 * 8


@pytest.fixture(scope="module")
def local(local_ray: None, tmp_path_factory, empty_store: Path) -> pd.DataFrame:
    """The sweep's table of a run on this machine."""
    output = tmp_path_factory.mktemp("local")
    shutil.copy(empty_store, output / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(users_folder(output))
        assert run_main("run", *SWEEP, "--output", str(output)) == 0
    return curves(output)


def wait_for_rows(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(output)) < count:
        assert time.monotonic() < deadline, rows(output)
        time.sleep(0.05)


@pytest.mark.slow
def test_stopped_resumed_and_two_nodes_lost_a_submitted_sweep_equals_a_local_one(
    cluster: Cluster,
    nodes: Nodes,
    cli: Cli,
    local: pd.DataFrame,
    mine: Path,
    output: Path,
    bucket: UPath,
):
    # Only the driver uses the output folder, which could be a disk of the head's.
    where = ["--output", str(output), "--storage", str(bucket)]
    started = cli("submit", *SWEEP, *where, "--no-wait")
    assert started.code == 0, started.err
    wait_for_rows(output, 3)
    [sweep] = [folder.id for folder in Output(output).sweeps()]
    assert started.out.startswith(f"sweep {sweep}  mog: job {sweep}\n")
    assert "RUNNING" in cli("status", "latest").out
    refused = cli("submit", "--resume", sweep)
    assert refused.code == 2 and "stop it first" in refused.err
    stopped = cli("stop", "mog")
    assert stopped.code == 0 and f"luceloop submit --resume {sweep}" in stopped.out
    assert "interrupted; everything on record is kept" in cli("logs", sweep).out
    done = len(rows(output))
    assert 3 <= done < ROWS

    (mine / "mine.npz").unlink()  # the storage has it
    assert {path.name for path in output.iterdir()} <= {"mlflow.db", "sweeps", "artifacts"}
    assert len(listed(bucket, "files/mine-*.npz")) == 1 and listed(bucket, "cache/p0-*.pt")
    killer = Thread(target=kill_twice, args=[nodes, output])
    killer.start()
    resumed = cli("submit", "--resume", sweep[:19], QUICK)  # waits for its end
    killer.join()
    assert resumed.code == 0, resumed.out + resumed.err
    assert resumed.out.endswith(f"job {sweep}-2: SUCCEEDED\n") and resumed.err == ""
    assert f"{sweep}-2: SUCCEEDED" in cli("status", sweep).out
    told = json.loads(cli("status", sweep, "--json").out)
    assert told.pop("started") < told.pop("ended")
    assert told.pop("says").startswith("compare the points in MLflow")
    expected = {"sweep": sweep, "name": "mog", "job": f"{sweep}-2", "status": "SUCCEEDED"}
    assert told == expected | {"exit_code": 0}
    assert cli("logs", "-f", sweep).out in resumed.out
    pd.testing.assert_frame_equal(curves(output), local, check_exact=True)

    jobs = [job for job in cluster.jobs() if job.sweep == sweep]
    assert [job.id for job in jobs] == [sweep, f"{sweep}-2"]
    printed = started.out + stopped.out + resumed.out + cluster.log(sweep)
    shown = printed + repr([job.details for job in jobs])
    for secret in (TOKEN, *SECRETS.values()):
        assert secret not in shown


def kill_twice(nodes: Nodes, output: Path) -> None:
    """Each worker node has a trial to lose."""
    for _ in range(2):
        wait_for_rows(output, len(rows(output)) + 1)
        assert max(row["iteration"] for row in rows(output)) < 7
        nodes.do("kill")
        nodes.do("add")


@pytest.mark.slow
@pytest.mark.parametrize("token", ["another", ""])
def test_a_wrong_token_gets_one_line(token, nodes: Nodes, cli: Cli, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setattr("ray._raylet.AuthenticationTokenLoader", NoToken)
    ran = cli("status", "latest", "--address", nodes.address)
    assert ran.code == 2 and ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1
    assert "RAY_AUTH_TOKEN" in ran.err


class NoToken:
    """This process may have a token for its own Ray."""

    @staticmethod
    def instance() -> SimpleNamespace:
        return SimpleNamespace(get_token_for_http_header=lambda: {})


BAD = [
    (["submit"], "either CONFIG or --resume"),
    (["submit", "mog", "--resume", "latest"], "either CONFIG or --resume"),
    (["submit", "--extends", "mog", "--resume", "mog"], "either CONFIG or --resume"),
    (["submit", "--extends", "mog", "seeds"], "override='seeds'", "must read key=value"),
    (["submit", "--extends", "mog", "seeds=9"], "--address=None", "http://127.0.0.1:8265"),
    (["submit", "mog", "--notify", "ftp://u:pass@host/x"], "notify='…'", "must be an http:// or"),
    (["submit", "--extends", "mog", "notify=ftp://pass"], "notify='…'", "must be an http:// or"),
    (["submit", "mog"], "--address=None", "http://127.0.0.1:8265"),
    (["submit", "mog", "--address", "auto"], "--address='auto'", "http://127.0.0.1:8265"),
    (["submit", "mog", "--address", "http://127.0.0.1:1"], "127.0.0.1:1", "does not answer"),
    (["submit", "mog", "lam=-1", "--address", "http://127.0.0.1:1"], "lam=-1"),
    (["submit", "mog", "real_size=9999"], "real_size=9999", "at most data.size"),
    (["submit", "mog", "--output", "here"], "--output='here'", "absolute path"),
    (["status", "latest", "--address", "http://u:pass@127.0.0.1:1"], "--address='http://127.0"),
    (["logs", "latest", "--address", "http://127.0.0.1:1"], "does not answer"),
    (["stop", "latest", "--address", "http://127.0.0.1:1"], "does not answer"),
    (["run", "mog", "--id", "../../etc"], "--id='../../etc'", "must read like"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: " ".join(case[0]))
def test_bad_input_gets_one_line_and_exit_2(case, cli: Cli, tmp_path, monkeypatch):
    arguments, *expected = case
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUCELOOP_OUTPUT", str(tmp_path / "output"))
    monkeypatch.chdir(tmp_path)
    ran = cli(*arguments)
    assert ran.code == 2 and ran.out == ""
    assert len(ran.err.strip().splitlines()) == 1
    assert all(part in ran.err for part in expected), ran.err
    assert "pass" not in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 1, 1), ("FAILED", 2, 2), ("FAILED", None, 1),
     ("STOPPED", None, 130)],
)  # fmt: skip
def test_the_exit_code_is_the_sweeps(status, driver, code):
    details = SimpleNamespace(status=status, driver_exit_code=driver)
    assert Job(details).exit_code == code
