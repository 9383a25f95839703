"""What travels between the driver, its trials and their samplers.

A trial is given a `TrialSetup` and answers with a report for each iteration: `IterationReport`, or
`FailureReport` where the point cannot go on. Tune carries both in mappings of its own, which only
this file packs and unpacks. A sampler is given a `core.pool.shards.ShardTask` and answers with a
`core.pool.shards.ShardResult`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luceloop.core.config.point import PointConfig
from luceloop.core.io.holdings import Holdings

REAL = "real/"
"""Start of the names of arrays that tell the real data's rewards."""


@dataclass(frozen=True)
class SamplerSetup:
    """The sampler actors of a trial.

    Example:
        SamplerSetup(count=2, cpus=1.0, gpus=0.0)
    """

    count: int = 0
    """How many there are; with 0 the trial samples itself."""
    cpus: float = 1.0
    """CPUs of each."""
    gpus: float = 0.0
    """GPUs of each."""


@dataclass(frozen=True)
class TrialSetup:
    """What a trial is given: one point, and where it stands.

    Example:
        TrialSetup(index=4, point=point, cache="/mnt/luceloop/cache", reported=2)
    """

    index: int
    """The point's number, repeated in every report."""
    point: PointConfig
    cache: str
    """Folder of trained p_0 and classifiers, a path or a URL."""
    samplers: SamplerSetup = SamplerSetup()
    trial_gpus: float = 0.0
    """GPUs of the trial itself."""
    checkpoint: str | None = None
    """Folder to go on from, a path or a URL; None to begin."""
    reported: int = -1
    """Last iteration that is on record already, or -1."""
    folder: str | None = None
    """The user's folder, as `core.io.plugins.name_folder` calls it; None for what is importable."""
    files: Holdings = field(default_factory=dict)
    """Digests of the user's files that the point depends on, by name; on others it does not run."""


@dataclass(frozen=True)
class Work:
    """The point that a sampler works for.

    Example:
        Work(point, {"my_rewards.py": "9f86d0…"})
    """

    point: PointConfig
    files: Holdings = field(default_factory=dict)
    """Digests of the user's files that the point depends on; see `TrialSetup.files`."""


@dataclass(frozen=True)
class IterationReport:
    """One iteration of a point.

    Example:
        IterationReport(4, 3, {"reward_mean": [-1.2, -1.3]}, {"preview": samples})
    """

    index: int
    """The point's number."""
    iteration: int
    """t."""
    metrics: Mapping[str, list[float]]
    """By name, R values."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """A `preview` `(R, P, ...)`, and at t=0 `reward`, those of p_0's pool `(R, N)`.

    At t=0 also the arrays of `core.theory.real_law.RealRewards`, where a sweep records those; their
    names begin with `REAL`.

    Empty where the iteration had been computed before. Whoever has delivered them empties it, since
    Tune keeps reports.
    """


@dataclass(frozen=True)
class FailureReport:
    """Why a point cannot go on, which is its result.

    Example:
        FailureReport(4, "training loss is NaN or infinite at iteration 2", traceback.format_exc())
    """

    index: int
    """The point's number."""
    reason: str
    """One line for the user."""
    traceback: str


Report = IterationReport | FailureReport

_SETUP, _REPORT = "setup", "report"


def pack_setup(setup: TrialSetup) -> dict[str, Any]:
    """A setup as the configuration of one of Tune's trials."""
    return {_SETUP: setup}


def unpack_setup(config: Mapping[str, Any]) -> TrialSetup:
    """The setup that Tune's trial was given."""
    setup = config[_SETUP]
    assert isinstance(setup, TrialSetup)
    return setup


def pack_report(report: Report, *, done: bool) -> dict[str, Any]:
    """A report as a result that Tune takes.

    Args:
        report: what the trial reports.
        done: whether it is the last one.
    """
    return {_REPORT: report, "done": done}


def unpack_report(result: Mapping[str, Any]) -> Report:
    """The report in a result that Tune hands on."""
    report = result[_REPORT]
    assert isinstance(report, IterationReport | FailureReport)
    return report
