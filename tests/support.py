"""What several test modules share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SMALL = ["data.size=300", "learner.steps=40", "learner.batch_size=64", "sampling.shard_size=200"]
"""Overrides that make a sweep with the real learner take seconds."""


QUICK = "--no-figures"

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


def run_main(*arguments: str) -> int:
    """The exit code of `luceloop ARGUMENTS`."""
    from sweeps.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["luceloop", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
    return int(exit_.value.code or 0)


@dataclass(frozen=True)
class Finished:
    """A sweep of 2 x 2 points and 3 seeds that has ended."""

    output: Path
    table: Path
    points: int = 4
    seeds: tuple[int, ...] = (7, 8, 9)
    iterations: int = 3

    @property
    def store(self) -> str:
        return f"sqlite:///{self.output / 'mlflow.db'}"
