"""What a sweep will cost, before it runs: samples, comparisons, disk and time.

Counts follow from the configuration and are exact, but for points that stop early or are not known
yet. Time is that of earlier sweeps whose rows take as long, or is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luceloop.core.config.point import PointConfig
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.sweeps.costs.disk import Disk
from luceloop.sweeps.costs.pace import Pace, Places, cost_key, makespan
from luceloop.sweeps.costs.recorded import Costs
from luceloop.sweeps.costs.sizes import row_counts
from luceloop.sweeps.costs.table import count

STARTING, ENDING = 15.0, 10.0
"""Seconds that starting Ray and its first trial takes, and drawing with what is delivered then."""


@dataclass(frozen=True)
class Work:
    """A point that is to be run, and what of it is on record elsewhere.

    Example:
        Work(point, known={0: 4, 1: 4})
    """

    point: PointConfig
    known: Mapping[int, int]
    """By seed, iterations from 0 on that are taken instead of computed."""

    @property
    def rows(self) -> int:
        """That are to be computed."""
        return sum(max(0, self.point.iterations + 1 - self.known.get(s, 0)) for s in self._seeds)

    @property
    def _seeds(self) -> Sequence[int]:
        return self.point.seeds

    def counts(self) -> Costs:
        """What the rows to be computed take, but for the time."""
        found = Costs()
        for t in range(self.point.iterations + 1):
            each = row_counts(self.point, t)
            rows = sum(t >= self.known.get(seed, 0) for seed in self.point.seeds)
            comparisons = rows * each.comparisons if rows else 0.0
            found += Costs(rows, rows * each.samples, rows * each.choices, comparisons)
        return found

    def seconds(self, pace: Pace) -> float:
        """Time of its rows on the device; p_0, which points share, is trained beside."""
        first = sum(not self.known.get(seed, 0) for seed in self.point.seeds)
        return self.rows * (pace.fit + pace.pool) - first * pace.fit


@dataclass(frozen=True)
class Estimate:
    """What a sweep will cost."""

    points: int
    costs: Costs
    """Of the rows that are to be computed; `device_seconds` is 0 where the time is not known."""
    taken: int
    """Rows that other sweeps have on record."""
    disk: Disk
    seconds: float | None
    """Wall-clock time on the machine there is, from start to figures; None if nothing tells."""
    basis: str
    """Where the time comes from."""
    trials: int
    """That run at once."""
    bounded: str = ""
    """Why it may be less; empty if it may not."""
    grows: bool = False
    """Whether it may be more, as points may get further seeds."""
    memory: int = 0
    """Bytes that a trial of the largest point takes, in all its processes."""
    remark: str = ""
    """That trials at once take more memory than there is, and what helps; empty if they do not."""

    def plain(self) -> dict[str, Any]:
        """Plain types for JSON."""
        costs = asdict(self.costs)
        if self.seconds is None:
            costs["device_seconds"] = None
        own = {"seconds": self.seconds, "basis": self.basis, "trials_at_once": self.trials}
        own |= {"rows_taken": self.taken, "at_most": self.bounded, "at_least": self.grows}
        return costs | own | {"disk": self.disk.plain(), "memory": self.memory}

    def lines(self, in_words: Callable[[int], str], duration: Callable[[float], str]) -> list[str]:
        """What a user is told.

        Args:
            in_words: spells bytes.
            duration: spells seconds.
        """
        most = "with the first seeds " if self.grows else ""
        most += "at most " if self.bounded else ""
        own = self.costs
        taken = f" ({self.taken:,} more are on record and taken)" if self.taken else ""
        first = f"{most}{own.rows:,} rows{taken}: {count(own.samples)} samples, "
        first += (
            f"{count(own.choices)} choices by pickers with {count(own.comparisons)} comparisons"
        )
        disk = f"about {in_words(self.disk.total)} on disk"
        disk += f", {in_words(self.memory)} of memory a trial"
        if self.seconds is None:
            return [first, f"{disk}; time is told by the first iterations ({self.basis})"]
        at_once = f"{self.trials} trial{'s' if self.trials > 1 else ''} at once"
        spelled = f"{most}about {duration(self.seconds)} with {at_once}, by {self.basis}"
        return [first, f"{spelled}; {disk}"]


def device_time(work: Sequence[Work], paces: Mapping[str, Pace], places: Places) -> float | None:
    """Device-seconds of rows, without p_0; None where nothing is known of some."""
    found = [_pace(each, paces, places) for each in work]
    if any(pace is None for pace in found):
        return None
    pairs = zip(work, found, strict=True)
    return math.fsum(each.seconds(pace) for each, pace in pairs if pace is not None)


def wall_time(
    work: Sequence[Work],
    paces: Mapping[str, Pace],
    places: Places,
    untrained: Mapping[str, int],
    *,
    started: bool = False,
) -> float | None:
    """Seconds from start to figures; None where nothing is known of some rows.

    Args:
        work: what is to be run, in order.
        paces: by `cost_key`.
        places: how trials share the cluster.
        untrained: by `cost_key`, seeds whose p_0 is not in the cache, each counted once.
        started: whether the first rows are there.
    """
    trials, initial = [], 0.0
    for first in range(0, len(work), places.pack):
        pack = work[first : first + places.pack]
        found = [_pace(each, paces, places) for each in pack if each.rows]
        if any(pace is None for pace in found):
            return None
        known = [pace for pace in found if pace is not None]
        pairs = zip((each for each in pack if each.rows), known, strict=True)
        trials.append(math.fsum(pace.stretch * each.seconds(pace) for each, pace in pairs))
    for each in {cost_key(each.point, places.device): each for each in work}.values():
        key = cost_key(each.point, places.device)
        if untrained.get(key):
            initial += untrained[key] * initial_fit(each.point, paces[key])
    initial /= min(places.trials, max(1, len(work))) if places.one_by_one else 1
    return (0 if started else STARTING) + initial + makespan(trials, places.trials) + ENDING


def initial_fit(point: PointConfig, pace: Pace) -> float:
    """Seconds of training p_0 of a seed: as a retraining, but for the number of steps."""
    learner = point.learner
    if learner.reads_initial:
        return 0.0
    steps = learner.first_steps / learner.steps if isinstance(learner, RegressionConfig) else 1.0
    return pace.fit * steps


def _pace(work: Work, paces: Mapping[str, Pace], places: Places) -> Pace | None:
    return paces.get(cost_key(work.point, places.device))
