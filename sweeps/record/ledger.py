"""The append-only record of a sweep, which resuming trusts and tracking is delivered from.

One event a line (`events.py`), one writer (the driver). Whatever is on record happened; repeating
it is refused, so a recovered trial that computes an iteration twice leaves one row. A line cut
short by a killed driver is dropped on opening, one cut short by a full disk at once. A ledger that
was damaged in any other way is not read: see `mending.py`.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from luceloop.core.config.parsing import at_point
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.damage import DamagedError
from luceloop.sweeps.record.events import (
    BudgetReached,
    Event,
    IterationDone,
    PointBegun,
    PointEnded,
    PointGrown,
    PointReopened,
    Row,
    Status,
    decode,
    encode,
)


@dataclass
class Point:
    """What is on record of one configuration point."""

    index: int
    values: dict[str, Any]
    """Searched keys and their values."""
    rows: dict[int, Row] = field(default_factory=dict)
    """By iteration, of its first seeds and of further batches of seeds that are whole."""
    status: Status | None = None
    """How it ended; None while it runs."""
    reason: str = ""
    """Why it failed or was stopped."""
    supremum: float | None = None
    """r*, the least upper bound of its reward; None where it is not known."""
    device: str = ""
    """What it is computed on; empty if an older version began it."""
    reused: dict[int, Sequence[int]] = field(default_factory=dict)
    """Seeds whose values another sweep had on record, by iteration."""
    costs: Mapping[str, Mapping[str, float]] | None = None
    """What it has cost, once it has ended; see `sweeps.costs.recorded`."""

    batches: list[tuple[int, ...]] = field(default_factory=list)
    """Seeds that were added after the first ones, batch by batch."""
    batch_rows: dict[int, Row] = field(default_factory=dict)
    """Rows of the newest batch, by iteration, until it is whole."""
    whole: int = 0
    """How many batches are whole, their values being in `rows`."""
    grown: tuple[Mapping[int, Row], int] | None = None
    """`rows` with the newest whole batch, and since when they are on record, in milliseconds."""

    @property
    def last(self) -> int:
        """The last iteration on record, or -1."""
        return max(self.rows, default=-1)

    @property
    def added(self) -> tuple[int, ...]:
        """Seeds beyond the first ones whose values are in `rows`, in that order."""
        return tuple(itertools.chain(*self.batches[: self.whole]))

    @property
    def batch(self) -> tuple[int, ...]:
        """The seeds that run now, or failed, beyond those in `rows`; empty where there are none."""
        return self.batches[-1] if self.whole < len(self.batches) else ()

    @property
    def running_rows(self) -> dict[int, Row]:
        """Rows of the seeds that run now, by iteration."""
        return self.batch_rows if self.batch else self.rows

    @property
    def reported(self) -> int:
        """The last iteration on record of the seeds that run now, or -1."""
        return max(self.running_rows, default=-1)

    def merge_batch(self, time: int) -> None:
        """Count the newest batch, which is whole since then, among the point's seeds."""
        before, added = self.rows, self.batch_rows
        self.rows = {t: _joined(row, added[t]) for t, row in before.items() if t in added}
        self.whole, self.batch_rows = len(self.batches), {}
        self.grown = self.rows, time  # at once, for another thread that delivers it


class Ledger:
    """The record of one sweep, in memory and on disk."""

    def __init__(self, path: Path, writable: bool = True) -> None:
        """Read what is on record; a writable ledger is created where there is none.

        Raises:
            DamagedError: naming the first line that is not as it was written.
        """
        self.points: dict[int, Point] = {}
        self.events: list[Event] = []
        self.price: Callable[[Point], Mapping[str, Mapping[str, float]]] | None = None
        """Works out what a point has cost, which is put on record where it ends."""
        self.stopped = ""
        """What limit of its budget the sweep has stopped at; empty if it goes on or has ended."""
        self._file: FileIO | None = None
        self._is_numbered = False
        self.is_checked = True
        """Whether all lines that were read have checksums, so that none can be missing."""
        whole = _read_whole_lines(path)
        self._size = len(whole)
        for number, line in enumerate(whole.split(b"\n")[:-1]):
            try:
                self.read(line, number)
            except ValueError as error:
                raise DamagedError(path, number, str(error)) from None
        if writable:
            self._file = open(path, "ab", buffering=0)
            os.truncate(path, len(whole))

    def read(self, line: bytes, number: int) -> None:
        """Take a line of a file.

        Args:
            line: without its end.
            number: of the line, from 0.

        Raises:
            ValueError: saying why it cannot be that line.
        """
        found = decode(line)
        if found.number is None and self._is_numbered:
            raise ValueError("has no number, though the line before has one")
        if found.number is not None and found.number != number:
            raise ValueError(f"was written as line {found.number + 1}")
        self._is_numbered = found.number is not None
        self.is_checked = self.is_checked and self._is_numbered
        self.take(found.event)

    def take(self, event: Event) -> None:
        """Take an event that is on record.

        Raises:
            ValueError: if it cannot follow those before it.
        """
        if reason := _misfit(self.points, event):
            raise ValueError(reason)
        self._apply(event)

    def __getstate__(self) -> dict[str, Any]:
        """Without the file: a copy, as Tune makes of all it is given, can only be read."""
        return self.__dict__ | {"_file": None}

    def begin_point(
        self,
        index: int,
        values: Mapping[str, Any],
        supremum: float | None = None,
        device: str = "",
    ) -> None:
        """Record that a point was chosen; see `PointBegun`."""
        if index not in self.points:
            self._append(PointBegun(index, dict(values), supremum, device))

    def add_iteration(
        self, index: int, iteration: int, metrics: Row, reused: Sequence[int] = ()
    ) -> bool:
        """Record one iteration; False if it was on record already."""
        point = self.points[index]
        if iteration in point.running_rows or point.status is not None:
            return False
        seeds = point.batch
        self._append(IterationDone(index, iteration, _now(), dict(metrics), tuple(reused), seeds))
        return True

    def end_point(self, index: int, status: Status, reason: str = "", detail: str = "") -> bool:
        """Record how a point ended; False if that was on record already."""
        if self.points[index].status is not None:
            return False
        costs = None if self.price is None else self.price(self.points[index])
        self._append(PointEnded(index, status, _now(), reason, detail, costs))
        return True

    def grow(self, batches: Mapping[int, Sequence[int]]) -> None:
        """Record that points get further seeds, all of them or none: a decision is on record whole.

        Args:
            batches: the seeds that are added, by the index of the point.
        """
        self._append(*(PointGrown(index, tuple(seeds)) for index, seeds in batches.items()))

    def reopen_lost(self) -> None:
        """Take lost points as running again."""
        for point in self.points.values():
            if point.status == "lost":
                self._append(PointReopened(point.index))

    def stop(self, reason: str) -> None:
        """Record that the sweep stopped at its budget; see `BudgetReached`."""
        if self.stopped != reason:
            self._append(BudgetReached(_now(), reason))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, *events: Event) -> None:
        assert self._file is not None, "the ledger was opened for reading"
        first = len(self.events)
        line = b"".join(encode(event, first + i) for i, event in enumerate(events))
        try:
            written = 0
            while written < len(line):  # a disk that becomes full takes a part first
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())  # a power cut takes nothing that was shown
        except BaseException:
            os.ftruncate(self._file.fileno(), self._size)  # of half a line no half is left
            raise
        self._size += len(line)
        for event in events:
            self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case PointBegun(index, values, supremum, device):
                self.points[index] = Point(index, dict(values), supremum=supremum, device=device)
            case IterationDone(index, iteration, _, metrics, reused):
                point = self.points[index]
                point.running_rows[iteration] = metrics
                if reused:
                    point.reused[iteration] = (*point.reused.get(iteration, ()), *reused)
            case PointEnded(index, status, when, reason, costs=costs):
                point = self.points[index]
                if point.batch and status == "done":
                    point.merge_batch(when)
                point.status, point.reason, point.costs = status, reason, costs
            case PointReopened(index):
                self.points[index].status, self.points[index].reason = None, ""
                self.points[index].costs = None
            case PointGrown(index, seeds):
                point = self.points[index]
                point.batches.append(tuple(seeds))
                point.batch_rows, point.status, point.reason, point.costs = {}, None, "", None
        self.stopped = event.reason if isinstance(event, BudgetReached) else ""
        self.events.append(event)


def _misfit(points: Mapping[int, Point], event: Event) -> str:
    """Why an event cannot follow what is on record of the points; empty if it can."""
    if isinstance(event, BudgetReached):
        return ""
    point = points.get(event.point)
    if isinstance(event, PointBegun):
        return "" if point is None else f"begins point {event.point}, which has begun before"
    if point is None:
        return f"is of point {event.point}, which has not begun"
    match event:
        case IterationDone() if point.status is not None:
            return f"is of point {point.index} after its end"
        case IterationDone() if event.iteration != point.reported + 1:
            last = f"iteration {point.reported} is the last before it"
            return f"is iteration {event.iteration} of point {point.index}, though {last}"
        case IterationDone() if tuple(event.seeds) != point.batch:
            return f"is of other seeds than point {point.index} runs"
        case IterationDone() if _width(event.metrics) not in _widths(point):
            return f"has {_width(event.metrics)} values a metric, unlike the lines before it"
        case PointEnded() if point.status is not None:
            return f"ends point {point.index}, which has ended before"
        case PointReopened() if point.status != "lost":
            return f"reopens point {point.index}, which is not lost"
        case PointGrown() if point.status is None:
            return f"adds seeds to point {point.index}, which has not ended"
    return ""


def _width(row: Row) -> int:
    """For how many seeds a row has values."""
    return len(next(iter(row.values()), ()))


def _widths(point: Point) -> Collection[int]:
    """For how many seeds the next row of a point can have values."""
    if point.batch:
        return (len(point.batch),)
    before = point.running_rows.get(point.reported)
    return range(2**31) if before is None else (_width(before),)


def recorded_config(config: SweepConfig, point: Point) -> PointConfig:
    """The configuration of a point with all seeds whose values are in its rows.

    Raises:
        ConfigError: naming the first key that does not fit.
    """
    own = at_point(config, point.values)
    return own.model_copy(update={"seeds": (*own.seeds, *point.added)}) if point.added else own


def _joined(first: Row, second: Row) -> dict[str, list[float]]:
    """The metrics of two groups of seeds, one after the other; NaN where a group lacks one."""
    sizes = [len(next(iter(row.values()), ())) for row in (first, second)]
    gaps = [[math.nan] * size for size in sizes]
    return {
        name: [*first.get(name, gaps[0]), *second.get(name, gaps[1])]
        for name in dict.fromkeys([*first, *second])
    }


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _read_whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]
