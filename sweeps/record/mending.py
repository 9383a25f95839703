"""Mending a ledger that was damaged: what is sound is kept, what is missing is computed again.

A mended ledger is one that an interruption could have left, from which a sweep goes on to the
numbers that it would have come to anyway. Where points depend on what others came to, that is the
part before the damage. Where they do not, it is what came before the damage of each point.

sweeps/<id>/ledger.damaged-1.jsonl    the ledger as it was found
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence

from luceloop.core.config.parsing import at_point
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.files import write_atomically
from luceloop.sweeps.record.damage import DamagedError
from luceloop.sweeps.record.delivered import note_of
from luceloop.sweeps.record.events import (
    BudgetReached,
    Event,
    Line,
    PointEnded,
    decode,
    encode,
)
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point

logger = logging.getLogger(__name__)


def read_ledger(folder: SweepFolder, config: SweepConfig) -> Ledger:
    """The ledger of a sweep, to be read, which has all that points which have ended must have.

    Raises:
        DamagedError: naming the first line that is not as it was written.
    """
    ledger = Ledger(folder.ledger, writable=False)
    if ledger.is_checked:
        return ledger
    ends = {e.point: i for i, e in enumerate(ledger.events) if isinstance(e, PointEnded)}
    for index, number in ends.items():
        point = ledger.points[index]
        if point.status == "done" and (reason := _shortfall(config, point)):
            raise DamagedError(folder.ledger, number, reason)
    return ledger


def is_sound(content: bytes) -> bool:
    """Whether the lines of a ledger are as they were written."""
    kept = _Scratch()
    try:
        for number, line in enumerate(content.split(b"\n")[:-1]):
            kept.read(line, number)
    except ValueError:
        return False
    return True


def mend(folder: SweepFolder, config: SweepConfig) -> bool:
    """Mend the ledger of a sweep if it is damaged, and keep it aside as it was found.

    Returns:
        Whether it was damaged.
    """
    try:
        read_ledger(folder, config)
    except DamagedError as error:
        damage = error
    else:
        return False
    content = folder.ledger.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
    kept = sound_part(lines, config)
    aside = set_aside(folder, content)
    note_of(folder).ask_anew()
    write_atomically(b"".join(map(encode, kept, itertools.count())), folder.ledger)
    logger.warning(
        "%s, line %d, %s; %d of %d lines are kept, what is missing is computed again; "
        "the ledger as it was found is %s",
        *(damage.path, damage.number + 1, damage.reason, len(kept), len(lines), aside),
    )
    return True


def set_aside(folder: SweepFolder, content: bytes) -> str:
    """Keep a damaged ledger; the name of the copy."""
    names = (folder.path / f"ledger.damaged-{i}.jsonl" for i in itertools.count(1))
    copy = next(name for name in names if not name.exists())
    write_atomically(content, copy)
    return copy.name


def sound_part(lines: Sequence[bytes], config: SweepConfig) -> list[Event]:
    """The events of a damaged ledger from which its sweep can go on."""
    search = config.search
    alone = not search.learns and config.seed_rule is None
    kept, spoilt, damaged = _Scratch(), set[int](), False
    for event in _in_order([_try_decode(line) for line in lines]):
        if event is None:
            damaged = True
        elif isinstance(event, BudgetReached):
            continue  # it says nothing but that a run has ended
        elif event.point not in spoilt and not _try_take(kept, event, config, damaged):
            spoilt.add(event.point)
            damaged = True
        if damaged and not alone:
            break
    return kept.events


class _Scratch(Ledger):
    """A ledger in memory alone."""

    def __init__(self) -> None:
        self.points, self.events = {}, []
        self._is_numbered, self.is_checked = False, True


def _try_take(kept: Ledger, event: Event, config: SweepConfig, damaged: bool) -> bool:
    """Take an event, unless it cannot follow those before it."""
    if isinstance(event, PointEnded) and event.point in kept.points:
        short = _shortfall(config, kept.points[event.point])
        if short and (event.status == "done" or damaged):  # rows before it may be among the lost
            return False
    try:
        kept.take(event)
    except ValueError:
        return False
    return True


def _shortfall(config: SweepConfig, point: Point) -> str:
    """What a point that has run to its end lacks; empty if it lacks nothing."""
    try:
        own = at_point(config, point.values)
    except ConfigError as error:
        return f"is of point {point.index}, which cannot be: {error}"
    if point.reported < own.iterations:
        return f"ends point {point.index} after iteration {point.reported} of {own.iterations}"
    seeds = len(own.seeds) + len(point.added)
    for t, row in point.rows.items():
        if {len(values) for values in row.values()} - {seeds}:
            return f"ends point {point.index}, whose iteration {t} is not of {seeds} seeds"
    return ""


def _try_decode(line: bytes) -> Line | None:
    try:
        return decode(line)
    except ValueError:
        return None


def _in_order(found: Sequence[Line | None]) -> Iterable[Event | None]:
    """Events in the order they were written in, each once; None where one is damaged or missing."""
    numbered: dict[int, Event] = {}
    for line in found:
        if line is not None and line.number is not None:
            numbered.setdefault(line.number, line.event)
    by_number = (line is not None and line.number is not None for line in found)
    older = next((i for i, is_numbered in enumerate(by_number) if is_numbered), len(found))
    begin = [None if line is None else line.event for line in found[:older]]
    whole = [event for event in begin if event is not None]
    if numbered and min(numbered) <= len(whole):
        begin = list(whole)  # the others were no lines of the ledger
    yield from begin
    if not numbered:
        return
    first, last = min(numbered), max(numbered)
    if first > len(begin):
        yield None
    yield from (numbered.get(number) for number in range(first, last + 1))
