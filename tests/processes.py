"""Drivers as processes of their own, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import ALONE, QUICK, SMALL

SWEEP = ["run", "demo", "seeds=[1,2]", "iterations=3", "lam=1", *SMALL, "learner.steps=80", QUICK]
ROWS = 2 * 4
"""Iterations of its points."""
LONG = [*SWEEP, "iterations=12", ALONE]
"""The same, long enough for something to happen to it."""


def luceloop(output: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """A driver that writes to `output`; `variables` are of its environment."""
    environment = dict(os.environ, LUCELOOP_OUTPUT=str(output))
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "PYTHONPATH"):
        environment.pop(name, None)
    environment |= variables
    command = [sys.executable, "-c", "from luceloop.__main__ import main; main()", *arguments]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts background jobs, and all that they start, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen, code: int) -> str:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == code, out
    return out


def rows(output: Path) -> list[dict]:
    ledgers = list((output / "sweeps").glob("*/ledger.jsonl"))
    if not ledgers:
        return []
    events = [json.loads(line) for line in ledgers[0].read_text().splitlines() if line]
    return [event for event in events if event["event"] == "iteration"]
