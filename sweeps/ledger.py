"""The append-only record of a sweep, which resuming trusts and tracking is delivered from.

One JSON object a line, one writer (the driver). Four kinds:

    {"event": "point", "point": 0, "values": {...}}
    {"event": "iteration", "point": 0, "iteration": 3, "time": ms, "metrics": {name: [R floats]}}
    {"event": "end", "point": 0, "status": "done" | "stopped" | "failed" | "lost", ...}
    {"event": "reopen", "point": 0}

Whatever is on record happened; repeating it is refused, so a recovered trial that computes an
iteration twice leaves one row. A line cut short by a killed driver is dropped on opening, one cut
short by a full disk at once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal

Event = Mapping[str, Any]
Row = Mapping[str, Sequence[float]]
"""Metrics of one iteration: name to R values, one per seed."""
Status = Literal["done", "stopped", "failed", "lost"]
"""`failed` is what the point came to; `lost` is a process that died again and again."""


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
        self._file: FileIO | None = None
        whole = _read_whole_lines(path)
        self._size = len(whole)
        for line in whole.splitlines():
            self._apply(json.loads(line))
        if writable:
            self._file = open(path, "ab", buffering=0)
            os.truncate(path, len(whole))

    def __getstate__(self) -> dict[str, Any]:
        """Without the file: a copy, as Tune makes of all it is given, can only be read."""
        return self.__dict__ | {"_file": None}

    def begin_point(self, index: int, values: Mapping[str, Any]) -> None:
        """Record that a point was chosen."""
        if index not in self.points:
            self._append({"event": "point", "point": index, "values": dict(values)})

    def add_iteration(self, index: int, iteration: int, metrics: Row) -> bool:
        """Record one iteration; False if it was on record already."""
        point = self.points[index]
        if iteration in point.rows or point.status is not None:
            return False
        self._append(
            {
                "event": "iteration",
                "point": index,
                "iteration": iteration,
                "time": time.time_ns() // 1_000_000,
                "metrics": dict(metrics),
            }
        )
        return True

    def end_point(self, index: int, status: Status, reason: str = "", detail: str = "") -> bool:
        """Record how a point ended; False if that was on record already."""
        if self.points[index].status is not None:
            return False
        event = {
            "event": "end",
            "point": index,
            "status": status,
            "time": time.time_ns() // 10**6,
        }
        extra = {key: text for key, text in (("reason", reason), ("detail", detail)) if text}
        self._append(event | extra)
        return True

    def reopen_lost(self) -> None:
        """Take lost points as running again."""
        for point in self.points.values():
            if point.status == "lost":
                self._append({"event": "reopen", "point": point.index})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, event: Event) -> None:
        assert self._file is not None, "the ledger was opened for reading"
        line = json.dumps(event).encode() + b"\n"
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
        index = event["point"]
        match event["event"]:
            case "point":
                self.points[index] = Point(index, event["values"])
            case "iteration":
                self.points[index].rows[event["iteration"]] = event["metrics"]
            case "end":
                self.points[index].status = event["status"]
                self.points[index].reason = event.get("reason", "")
            case "reopen":
                self.points[index].status, self.points[index].reason = None, ""
        self.events.append(event)


def _read_whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]
