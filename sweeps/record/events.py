"""Events: what a ledger holds, a line each, and the one place that reads and writes those lines.

{"event": "point", "point": 0, "values": {...}}
{"event": "iteration", "point": 0, "iteration": 3, "time": ms, "metrics": {name: [R floats]}}
{"event": "end", "point": 0, "status": "done" | "stopped" | "failed" | "lost", ...}
{"event": "reopen", "point": 0}
{"event": "grow", "point": 0, "seeds": [5, 6, 7]}
{"event": "budget", "time": ms, "reason": "..."}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Row = Mapping[str, Sequence[float]]
"""Metrics of one iteration: name to R values, one per seed."""
Status = Literal["done", "stopped", "failed", "lost"]
"""How a point ended: `failed` is what it came to; `lost` is a process that died again and again."""


@dataclass(frozen=True)
class PointBegun:
    """A point was chosen.

    Example:
        PointBegun(0, {"curation.beta": 10.0, "lam": 1.0})
    """

    kind: ClassVar[str] = "point"
    point: int
    values: Mapping[str, Any]
    """Searched keys and their values."""
    supremum: float | None = None
    """r*, the least upper bound of the point's reward; None where it is not known."""
    device: str = ""
    """What it is computed on: `cpu`, `cuda`, or `cpu+cuda` where samplers have another kind.

    Bits are the same on one kind of device.
    """


@dataclass(frozen=True)
class IterationDone:
    """An iteration of a point was computed.

    Example:
        IterationDone(0, 3, 1700000000000, {"reward_mean": [-1.2, -1.3]})
    """

    kind: ClassVar[str] = "iteration"
    point: int
    iteration: int
    time: int
    """Milliseconds since the epoch."""
    metrics: Row
    reused: Sequence[int] = ()
    """Seeds whose values another sweep had on record."""
    seeds: Sequence[int] = ()
    """Whose values these are, where seeds were added later; else they are the first ones'."""


@dataclass(frozen=True)
class PointEnded:
    """A point ended, one way or another.

    Example:
        PointEnded(0, "failed", 1700000000000, reason="training loss is NaN")
    """

    kind: ClassVar[str] = "end"
    point: int
    status: Status
    time: int
    """Milliseconds since the epoch."""
    reason: str = ""
    """Why it failed or was stopped, in one line."""
    detail: str = ""
    """What its process left, such as a traceback."""
    costs: Mapping[str, Mapping[str, float]] | None = None
    """What its rows have cost; see `sweeps.costs.recorded`."""


@dataclass(frozen=True)
class PointReopened:
    """A lost point is tried again.

    Example:
        PointReopened(0)
    """

    kind: ClassVar[str] = "reopen"
    point: int


@dataclass(frozen=True)
class PointGrown:
    """A point that has ended gets further seeds, and runs again.

    Example:
        PointGrown(0, [5, 6, 7])
    """

    kind: ClassVar[str] = "grow"
    point: int
    seeds: Sequence[int]
    """Those that are added."""


@dataclass(frozen=True)
class BudgetReached:
    """A run of the sweep has stopped in order, at its budget.

    Example:
        BudgetReached(1700000000000, "1.01 hours of budget.hours=1 are used")
    """

    kind: ClassVar[str] = "budget"
    time: int
    """Milliseconds since the epoch."""
    reason: str
    """What was reached."""


Event = PointBegun | IterationDone | PointEnded | PointReopened | PointGrown | BudgetReached

_KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        PointBegun,
        IterationDone,
        PointEnded,
        PointReopened,
        PointGrown,
        BudgetReached,
    )
}


def encode(event: Event) -> bytes:
    """The line of an event; texts that are empty, and values that are not there, are left out."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    present = {name: value for name, value in fields.items() if value not in ("", None, ())}
    return json.dumps({"event": event.kind} | present).encode() + b"\n"


def decode(line: bytes) -> Event:
    """The event of a line."""
    fields = json.loads(line)
    return _KINDS[fields.pop("event")](**fields)
