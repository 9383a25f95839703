"""Events: what a ledger holds, a line each, and the one place that reads and writes those lines.

{"event": "point", "point": 0, "values": {...}}
{"event": "iteration", "point": 0, "iteration": 3, "time": ms, "metrics": {name: [R floats]}}
{"event": "end", "point": 0, "status": "done" | "stopped" | "failed" | "lost", ...}
{"event": "reopen", "point": 0}
{"event": "grow", "point": 0, "seeds": [5, 6, 7]}
{"event": "budget", "time": ms, "reason": "..."}

Each ends with its number in the ledger and a checksum, `"line": 7, "check": "1a2b3c4d"`, by which
lines are told that were damaged, lost or written twice. Older versions wrote neither.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

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


@dataclass(frozen=True)
class Line:
    """A line of a ledger that could be read."""

    event: Event
    number: int | None
    """Its number, from 0; None where an older version wrote it."""


def encode(event: Event, number: int | None = None) -> bytes:
    """The line of an event; texts that are empty, and values that are not there, are left out.

    Args:
        event: what happened.
        number: of the line in its ledger; without one it gets no checksum either.
    """
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    present = {name: value for name, value in fields.items() if value not in ("", None, ())}
    if number is None:
        return json.dumps({"event": event.kind} | present).encode() + b"\n"
    body = json.dumps({"event": event.kind} | present | {"line": number})[:-1].encode()
    return body + b', "check": "%08x"}\n' % zlib.crc32(body)


def decode(line: bytes) -> Line:
    """What a line says.

    Raises:
        ValueError: saying what is wrong with it.
    """
    checked = _CHECKED.fullmatch(line.removesuffix(b"\n"))
    if checked is not None and int(checked[2], 16) != zlib.crc32(checked[1]):
        raise ValueError("is not what was written: its checksum is another")
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ValueError("is no JSON" if line.strip() else "is empty") from None
    if not isinstance(fields, dict):
        raise ValueError("is no event")
    number, check = fields.pop("line", None), fields.pop("check", None)
    if (number is not None or check is not None) and checked is None:
        raise ValueError("is not what was written: its checksum is not whole")
    kind = fields.pop("event", None)
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise ValueError(f"is of an event {kind!r:.40} that this version does not know")
    return Line(_event(known, fields), number)


_CHECKED = re.compile(rb'(.*), "check": "([0-9a-f]{8})"}', re.DOTALL)


def _event(kind: type[Event], fields: Mapping[str, Any]) -> Event:
    """The event of a kind that has these fields, whose types are checked."""
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"has a field {name!r:.40} that this version does not know")
        if not _FITS[name](value):
            raise ValueError(f"has a {name} that it cannot have")
    for name, field in known.items():
        if name not in fields and field.default is dataclasses.MISSING:
            raise ValueError(f"has no {name}")
    return kind(**fields)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_row(value: Any) -> bool:
    """Whether metrics have as many numbers each, a number for each seed."""
    if not isinstance(value, dict) or not all(type(each) is list for each in value.values()):
        return False
    same = len({len(each) for each in value.values()}) <= 1
    return same and all(all(map(_is_number, each)) for each in value.values())


def _are_costs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(part, dict) and all(map(_is_number, part.values())) for part in value.values()
    )


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "point": _is_count,
    "iteration": _is_count,
    "time": _is_count,
    "values": lambda value: isinstance(value, dict),
    "supremum": _is_number,
    "metrics": _is_row,
    "reused": _are_counts,
    "seeds": _are_counts,
    "status": lambda value: value in get_args(Status),
    "costs": _are_costs,
} | dict.fromkeys(("device", "reason", "detail"), lambda value: isinstance(value, str))
"""By the name of a field, whether it can have a value."""
