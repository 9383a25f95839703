"""The benchmark of one GPU, at sizes that a CPU can do: every line of it is reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.external, pytest.mark.slow]


def _run(*modes: str) -> str:
    command = [sys.executable, "-m", "benchmarks", "gpu", *modes, "--tiny"]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "FAIL" not in ran.stdout and "QUICK" in ran.stdout
    return ran.stdout


def test_all_that_needs_no_ray_is_checked_timed_and_solved():
    out = _run("correct", "speed", "solver")
    for line in ("U-Net in fp32", "a row trained alone", "another process", "winners from"):
        assert f"ok   {line}" in out
    for line in ("an evaluation in bf16", "a training step of", "scoring:", "quality on cpu"):
        assert line in out
    assert "projected: 20 iterations at 20 evaluations" in out
    errors = [line for line in out.splitlines() if " evaluations: euler" in line]
    assert len(errors) == 2 and all("ab3" in line for line in errors)


def test_a_sweep_that_is_killed_and_resumed_has_the_same_table():
    assert "ok   tables, undisturbed and killed" in _run("sweep")


def test_parts_that_there_are_not_are_refused():
    command = [sys.executable, "-m", "benchmarks", "gpu", "fast"]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2 and "'fast' is not one of correct, speed" in ran.stderr
