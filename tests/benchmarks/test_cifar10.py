"""The benchmark of the CIFAR-10 experiment, at sizes that a CPU can do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cifar10 import BOUND, Speeds


def test_hours_are_those_of_twenty_iterations():
    speeds = Speeds(sampled=500.0, steps=39.0, scored=5000.0, evaluations=40, error=0.0)
    # 50,000 images at 500 a second, 390 steps at 39, 50,000 scores at 5,000: 100 + 10 + 10 s.
    assert speeds.hours == pytest.approx(20 * 120 / 3600)


@pytest.mark.external
@pytest.mark.slow
def test_it_runs_without_a_gpu_and_errors_are_below_the_bound():
    command = [sys.executable, "-m", "benchmarks", "cifar10", "--tiny"]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr
    rows = {
        name: line.removeprefix(name).split()
        for name in ("torchcfm, fp32", "torchcfm at", "Luceloop, fp32", "Luceloop, bf16")
        for line in ran.stdout.splitlines()
        if line.startswith(name)
    }
    assert len(rows) == 4, ran.stdout
    looser = float(rows.pop("torchcfm at")[2])  # after the tolerance and the evaluations
    errors = {name: float(cells[1]) for name, cells in rows.items()}
    assert errors["torchcfm, fp32"] < looser <= max(errors.values())
    assert 0 < errors["torchcfm, fp32"] < 1e-3  # its tolerance is 1e-5 a step
    assert errors["Luceloop, fp32"] < BOUND and errors["Luceloop, bf16"] < BOUND
    assert "QUICK" in ran.stdout
