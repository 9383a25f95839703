"""The append-only record of a sweep, which resuming trusts and tracking is delivered from.

One event a line (`events.py`), one writer (the driver). Whatever is on record happened; repeating
it is refused, so a recovered trial that computes an iteration twice leaves one row. A line cut
short by a killed driver is dropped on opening, one cut short by a full disk at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from luceloop.sweeps.record.events import (
    BudgetReached,
    Event,
    IterationDone,
    PointBegun,
    PointEnded,
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
    """By iteration."""
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

    @property
    def last(self) -> int:
        """The last iteration on record, or -1."""
        return max(self.rows, default=-1)


class Ledger:
    """The record of one sweep, in memory and on disk."""

    def __init__(self, path: Path, writable: bool = True) -> None:
        """Read what is on record; a writable ledger is created where there is none."""
        self.points: dict[int, Point] = {}
        self.events: list[Event] = []
        self.price: Callable[[Point], Mapping[str, Mapping[str, float]]] | None = None
        """Works out what a point has cost, which is put on record where it ends."""
        self.stopped = ""
        """What limit of its budget the sweep has stopped at; empty if it goes on or has ended."""
        self._file: FileIO | None = None
        whole = _read_whole_lines(path)
        self._size = len(whole)
        for line in whole.splitlines():
            self._apply(decode(line))
        if writable:
            self._file = open(path, "ab", buffering=0)
            os.truncate(path, len(whole))

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
        if iteration in point.rows or point.status is not None:
            return False
        self._append(IterationDone(index, iteration, _now(), dict(metrics), tuple(reused)))
        return True

    def end_point(self, index: int, status: Status, reason: str = "", detail: str = "") -> bool:
        """Record how a point ended; False if that was on record already."""
        if self.points[index].status is not None:
            return False
        costs = None if self.price is None else self.price(self.points[index])
        self._append(PointEnded(index, status, _now(), reason, detail, costs))
        return True

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

    def _append(self, event: Event) -> None:
        assert self._file is not None, "the ledger was opened for reading"
        line = encode(event)
        try:
            written = 0
            while written < len(line):  # a disk that becomes full takes a part first
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())  # a power cut takes nothing that was shown
        except BaseException:
            os.ftruncate(self._file.fileno(), self._size)  # of half a line no half is left
            raise
        self._size += len(line)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case PointBegun(index, values, supremum, device):
                self.points[index] = Point(index, dict(values), supremum=supremum, device=device)
            case IterationDone(index, iteration, _, metrics, reused):
                self.points[index].rows[iteration] = metrics
                if reused:
                    self.points[index].reused[iteration] = reused
            case PointEnded(index, status, _, reason, costs=costs):
                self.points[index].status, self.points[index].reason = status, reason
                self.points[index].costs = costs
            case PointReopened(index):
                self.points[index].status, self.points[index].reason = None, ""
                self.points[index].costs = None
        self.stopped = event.reason if isinstance(event, BudgetReached) else ""
        self.events.append(event)


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _read_whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]
