"""What travels between the driver, its trials and their samplers.

A trial is given a `TrialSetup` of one point or a pack of them, and answers each time with a report
of every point that goes on: `IterationReport`, or `FailureReport` where it cannot. Tune carries
both in mappings of its own, which only this file packs and unpacks. A sampler is given a
`core.pool.shards.ShardTask` and answers with a `core.pool.shards.ShardResult`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luceloop.core.config.point import PointConfig
from luceloop.core.io.holdings import Holdings
from luceloop.workers.recorded import Recorded

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
class PointSetup:
    """A point that a trial is given, and where it stands.

    Example:
        PointSetup(index=4, point=point, reported=2)
    """

    index: int
    """The point's number, repeated in every report."""
    point: PointConfig
    checkpoint: str | None = None
    """Folder to go on from, a path or a URL; None to begin."""
    reported: int = -1
    """Last iteration that is on record already, or -1."""
    files: Holdings = field(default_factory=dict)
    """Digests of the user's files that the point depends on, by name; on others it does not run."""
    recorded: tuple[Recorded, ...] = ()
    """What other sweeps have on record of some of its seeds, which is not computed again."""
    batch: int = 0
    """Which batch of the point's seeds these are; 0 for those that it began with."""


@dataclass(frozen=True)
class TrialSetup:
    """What a trial is given: a point, or a pack of points that share an ensemble.

    Example:
        TrialSetup((PointSetup(4, point),), cache="/mnt/luceloop/cache")
    """

    points: tuple[PointSetup, ...]
    """In the order of their numbers, and of one `core.loop.pack.pack_key`."""
    cache: str
    """Folder of trained p_0 and classifiers, a path or a URL."""
    samplers: SamplerSetup = SamplerSetup()
    """None where there are several points."""
    trial_gpus: float = 0.0
    """GPUs of the trial itself."""
    states: str | None = None
    """Folder where points keep their last states, a path or a URL; None to keep none."""
    folder: str | None = None
    """The user's folder, as `core.io.plugins.name_folder` calls it; None for what is importable."""
    stops: Any = None
    """Handle of a `workers.stops.Stops`, which tells what points of a pack are to stop early."""

    @property
    def name(self) -> str:
        """Of the trial's folder, unlike any other of the same attempt."""
        first, others = self.points[0], len(self.points) - 1
        batch = f"-batch-{first.batch}" if first.batch else ""
        return f"point-{first.index:04d}{batch}" + (f"-and-{others}-more" if others else "")


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
        IterationReport(4, 3, {"reward_mean": [-1.2, -1.3]}, arrays={"preview": samples})
    """

    index: int
    """The point's number."""
    iteration: int
    """t."""
    metrics: Mapping[str, list[float]]
    """By name, R values."""
    reused: tuple[int, ...] = ()
    """Seeds whose values were on record; the arrays are those of the others."""
    is_last: bool = False
    """Whether the point has run to its end, t = T."""
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

_SETUP, _REPORTS = "setup", "reports"


def pack_setup(setup: TrialSetup) -> dict[str, Any]:
    """A setup as the configuration of one of Tune's trials."""
    return {_SETUP: setup}


def unpack_setup(config: Mapping[str, Any]) -> TrialSetup:
    """The setup that Tune's trial was given."""
    setup = config[_SETUP]
    assert isinstance(setup, TrialSetup)
    return setup


def pack_reports(reports: Sequence[Report], *, done: bool) -> dict[str, Any]:
    """Reports as a result that Tune takes.

    Args:
        reports: what the trial reports, one of each point that has not ended before.
        done: whether they are the trial's last ones.
    """
    return {_REPORTS: list(reports), "done": done}


def unpack_reports(result: Mapping[str, Any]) -> list[Report]:
    """The reports in a result that Tune hands on."""
    reports = result[_REPORTS]
    assert all(isinstance(report, IterationReport | FailureReport) for report in reports)
    return list(reports)
