"""One sweep, disturbed until it ends all the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from luceloop.core.errors import ConfigError
from tests import processes
from tests.chaos.disturbances import CLUSTER, KINDS, Scene
from tests.processes import finish, luceloop, rows
from tests.servers import MlflowServer, Postgres
from tests.support import QUICK, curves

LAST = 80
ROWS = 2 * (LAST + 1)
"""Iterations of both points."""
SWEEP = [*processes.SWEEP, f"iterations={LAST}", "resources.samplers=1"]
RESUME = ["resume", "latest", QUICK]
UNDER_WAY = 2
"""Rows that may have been computed before a disturbance and be put on record after it."""
GRACE = 180.0
"""Seconds that processes of a killed driver may take to notice it, as Ray's agents do."""
LONGEST = 240.0
"""Seconds after which a sweep that does not go on is taken for hung."""
NODES = Path(__file__).parents[1] / "sweeps" / "cluster" / "ray_cluster.py"


@dataclass
class Disturbance:
    """What one disturbance did."""

    kind: str
    recorded: int
    """Rows on record before it; one is an iteration of a point."""
    lost: int = 0
    """Of them, those that were gone after it."""
    waited: float = 0.0
    """Seconds from its beginning until there was a row that was computed after it, or the end."""


@dataclass
class Report:
    """What became of a sweep."""

    disturbances: list[Disturbance] = field(default_factory=list)
    same: bool = False
    """Whether its exported table is that of the undisturbed sweep."""
    orphans: int = 0
    """Processes that were still there `GRACE` seconds after it."""
    trouble: str = ""
    """What went wrong; empty if nothing did."""
    printed: list[str] = field(default_factory=list)
    """What its drivers printed, one after another."""

    @property
    def passed(self) -> bool:
        lost = any(each.lost for each in self.disturbances)
        return self.same and not (lost or self.orphans or self.trouble)


@dataclass
class Servers:
    """What the sweeps are delivered to."""

    server: MlflowServer
    database: Postgres


class DisturbedSweep:
    """Runs the sweep, disturbs it in turn, and resumes it whenever its driver has ended.

    Args:
        output: its output folder, empty.
        servers: what it is delivered to.
        draw: of kinds and moments.
        most: disturbances at most.
        undisturbed: the table that it is to end with.
        on_cluster: whether it runs on a cluster of two worker nodes.
    """

    def __init__(
        self,
        output: Path,
        servers: Servers,
        draw: random.Random,
        most: int,
        undisturbed: pd.DataFrame,
        *,
        on_cluster: bool,
    ) -> None:
        self._undisturbed = undisturbed
        self._output, self._servers, self._draw, self._most = output, servers, draw, most
        self._nodes = start_nodes(output) if on_cluster else None
        self._left: dict[int, psutil.Process] = {}
        self._pending: tuple[Disturbance, float, list[dict]] | None = None
        """The last disturbance, its beginning and the rows before it, until the sweep goes on."""
        self.report = Report()

    def run(self) -> Report:
        """Run it to its end, and say what became of it."""
        try:
            self._run()
        except (AssertionError, ConfigError, subprocess.TimeoutExpired) as error:
            self.report.trouble = str(error)[-2000:] or repr(error)
        finally:
            self._end()
        return self.report

    def _run(self) -> None:
        driver = self._start(*SWEEP)
        while True:
            if len(self.report.disturbances) < self._most:
                # At any moment, be it while Ray starts or the figures are drawn.
                self._watch(driver, self._draw.uniform(0, 12))
                self._disturb(driver)
            self._watch(driver, LONGEST, until_it_goes_on=True)
            if driver.poll() is None:
                continue
            out = driver.communicate()[0]
            self.report.printed.append(out)
            if driver.returncode == 0:
                break
            assert "Traceback" not in out
            if driver.returncode == 1 and "luceloop resume" not in out:  # MLflow lacks some of it
                finish(luceloop(self._output, "sync", "latest", **self._variables()), 0)
                break
            assert driver.returncode in (1, 130, -signal.SIGKILL, -signal.SIGTERM)
            started = list((self._output / "sweeps").glob("*/config.yaml"))
            driver = self._start(*(RESUME if started else SWEEP))
        self._settle(over=True)
        table = curves(self._output, self._servers.server.uri)
        self.report.same = table.equals(self._undisturbed)

    def _start(self, *arguments: str) -> subprocess.Popen:
        return luceloop(self._output, *arguments, **self._variables())

    def _variables(self) -> dict[str, str]:
        found = {"MLFLOW_TRACKING_URI": self._servers.server.uri}
        if self._nodes is not None:
            first = Path(self._output, "ray", "0", "ray_current_cluster")
            found["RAY_ADDRESS"] = first.read_text()
        return found

    def _watch(
        self, driver: subprocess.Popen, seconds: float, *, until_it_goes_on: bool = False
    ) -> None:
        """Let it run; remember the processes that it starts, and when it goes on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and driver.poll() is None:
            self._remember(driver)
            self._settle()
            if until_it_goes_on and self._pending is None:
                if len(self.report.disturbances) >= self._most:
                    driver.wait(LONGEST)
                return
            time.sleep(0.1)

    def _settle(self, *, over: bool = False) -> None:
        """Note how long it took to go on after the last disturbance, once it has."""
        if self._pending is None:
            return
        found, began, before = self._pending
        after = rows(self._output)
        found.waited = time.monotonic() - began
        found.lost = sum(row not in after for row in before)
        assert found.waited < LONGEST, f"hung for {LONGEST:.0f} s after: {found.kind}"
        if over or len(after) >= min(len(before) + UNDER_WAY + 1, ROWS):
            self._pending = None

    def _remember(self, driver: subprocess.Popen) -> None:
        try:
            for process in psutil.Process(driver.pid).children(recursive=True):
                self._left[process.pid] = process
        except psutil.NoSuchProcess:
            pass

    def _disturb(self, driver: subprocess.Popen) -> None:
        kinds = sorted(CLUSTER if self._nodes else set(KINDS) - {"node killed"})
        kind = self._draw.choice(kinds)
        before, began = rows(self._output), time.monotonic()
        scene = Scene(driver, self._servers.server, self._servers.database, self._nodes)
        if driver.poll() is None and KINDS[kind](scene, self._draw):
            found = Disturbance(kind, len(before))
            self.report.disturbances.append(found)
            self._pending = found, began, before

    def _end(self) -> None:
        if self._nodes is not None:
            self._left |= {p.pid: p for p in psutil.Process(self._nodes.pid).children(True)}
            assert self._nodes.stdin
            self._nodes.stdin.close()
            self._nodes.wait(60)
        _, alive = psutil.wait_procs(list(self._left.values()), timeout=GRACE)
        self.report.orphans = len(alive)
        for process in alive:
            process.kill()


def start_nodes(output: Path) -> subprocess.Popen:
    """A cluster of a head and two worker nodes, in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has 107 characters
    (output / "ray").symlink_to(folder)
    process = subprocess.Popen(
        [sys.executable, str(NODES), str(folder)],
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout and process.stdout.readline().strip(), "the cluster did not start"
    return process


def run_undisturbed(output: Path, servers: Servers) -> tuple[pd.DataFrame, float]:
    """The table of the sweep, and the seconds that it took."""
    began = time.monotonic()
    finish(luceloop(output, *SWEEP, MLFLOW_TRACKING_URI=servers.server.uri), 0)
    return curves(output, servers.server.uri), time.monotonic() - began
