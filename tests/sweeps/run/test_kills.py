"""Actors of a running sweep killed: the table is that of the undisturbed one."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.support import TINY, curves, recorded

pytestmark = pytest.mark.processes


class Killer(threading.Thread):
    """Kills one actor of a kind once some iterations are on record."""

    def __init__(self, output: Path, title: str) -> None:
        super().__init__(daemon=True)
        self._output, self._title = output, title
        self.killed: list[int] = []

    def run(self) -> None:
        while recorded(self._output) < 8:
            time.sleep(0.02)
        while not self.killed:
            for process in psutil.Process().children(recursive=True):
                if self._is_meant(process):
                    process.kill()
                    self.killed.append(process.pid)
                    return

    def _is_meant(self, process: psutil.Process) -> bool:
        try:
            return self._title in " ".join(process.cmdline())  # Ray titles a worker by its actor
        except psutil.Error:
            return False


@pytest.mark.slow
@pytest.mark.parametrize("title", ["ray::ResourceTrainable", "ray::Sampler"])
def test_a_killed_actor_changes_nothing(title, tiny, output, cli):
    killer = Killer(output, title)
    killer.start()
    ran = cli(*TINY, "resources.samplers=1", "--output", str(output))
    killer.join(10)
    assert killer.killed and ran.code == 0, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    pd.testing.assert_frame_equal(curves(output), curves(tiny), check_exact=True)
