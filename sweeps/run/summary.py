"""A sweep in a line: when it ran, how long, how much it takes, and its best point."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luceloop.analysis.statistics.claims import Verdict
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.files import write_atomically
from luceloop.core.io.memory import in_words as in_words
from luceloop.core.io.places import Folder, files_in
from luceloop.sweeps.costs.recorded import PointCosts, sweep_costs
from luceloop.sweeps.record.damage import read_json
from luceloop.sweeps.record.events import IterationDone, PointEnded
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.run.progress import name_of
from luceloop.sweeps.search import objective

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """What the user has written about a sweep."""

    text: str = ""
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Best:
    """The point of a sweep that does best by its first objective, among those that have ended."""

    point: str
    metric: str
    value: float


@dataclass(frozen=True)
class Summary:
    """What a list tells of a sweep."""

    id: str
    name: str
    description: str
    begun: str
    """When, in UTC, as ISO 8601 has it; empty if nothing is on record."""
    seconds: float
    """From there to the last event on record."""
    size: int
    """Bytes of its files in the output folder."""
    points: int
    seeds: int
    ended: int
    """Points that have ended, be it with failure."""
    failed: int
    """Of them, those that failed or were lost."""
    stopped: str
    """What limit of its budget it has stopped at; empty if it goes on or has ended."""
    best: Best | None
    claims: Mapping[str, int] | None
    """How many of its claims are answered how, by what is on record; None where that is not known
    without asking, which `luceloop show` does."""
    costs: PointCosts | None
    """Of all points so far; None where data that tells sizes is not here."""
    extends: str
    note: str
    tags: Sequence[str]

    @property
    def state(self) -> str:
        """How far it is, in words."""
        state = "done" if self.ended == self.points else f"{self.ended} of {self.points} done"
        state += f", {self.failed} failed" if self.failed else ""
        return state + (", stopped at its budget" if self.stopped else "")

    @property
    def claims_in_words(self) -> str:
        """How its claims are answered: `4 hold, 1 undecided`; empty where that is not known."""
        words = {"holds": "hold", "contradicted": "contradicted", "undecided": "undecided"}
        counts = self.claims or {}
        return ", ".join(f"{counts[each]} {words[each]}" for each in words if counts.get(each))

    def plain(self) -> dict[str, Any]:
        """Plain types for JSON."""
        costs = None if self.costs is None else self.costs.plain()
        return asdict(self) | {"state": self.state, "tags": list(self.tags), "costs": costs}


def summarize(folder: SweepFolder) -> Summary:
    """Read what is on record of a sweep.

    Raises:
        ConfigError: if its configuration cannot be read.
    """
    config, ledger = folder.config(), Ledger(folder.ledger, writable=False)
    points, note = list(ledger.points.values()), read_note(folder)
    timed = IterationDone | PointEnded
    times = [event.time / 1000 for event in ledger.events if isinstance(event, timed)]
    first = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times[0])) if times else ""
    return Summary(
        id=folder.id,
        name=config.name,
        description=config.description,
        begun=first,
        seconds=times[-1] - times[0] if times else 0.0,
        size=size_of(folder.path),
        points=config.point_count,
        seeds=len(config.point.seeds),
        ended=sum(point.status is not None for point in points),
        failed=sum(point.status in ("failed", "lost") for point in points),
        stopped=ledger.stopped,
        best=_best(config, points),
        claims=_read_answers(folder, len(ledger.events)),
        costs=sweep_costs(config, points),
        extends=config.extends,
        note=note.text,
        tags=note.tags,
    )


def _best(config: SweepConfig, points: Sequence[Point]) -> Best | None:
    wanted = config.search.objective[0]
    ended = [p for p in points if p.status == "done" and objective.is_measured([wanted], p)]
    if not ended:
        return None
    best = max if wanted.mode == "max" else min
    found = best(ended, key=lambda point: objective.of_point(wanted, point))
    value = objective.of_point(wanted, found)
    return Best(name_of(config, found), wanted.metric, value)


def write_answers(folder: SweepFolder, verdicts: Sequence[Verdict]) -> None:
    """Put on record how claims are answered by what is on record now."""
    events = len(Ledger(folder.ledger, writable=False).events)
    counts = dict(Counter(each.answer for each in verdicts))
    write_atomically(json.dumps({"events": events, "answers": counts}), folder.answers)


def _read_answers(folder: SweepFolder, events: int) -> dict[str, int] | None:
    """The same; None where nobody answered them since the last of so many events."""
    if not folder.answers.exists():
        return None
    try:
        of, found = read_json(folder.answers, lambda plain: (plain["events"], plain["answers"]))
        return dict(found) if of == events else None
    except (ConfigError, ValueError, TypeError):  # the next run answers them again
        logger.warning("%s is damaged, and left out", folder.answers)
        return None


def read_note(folder: SweepFolder) -> Note:
    """What the user has written about a sweep."""
    if not folder.note.exists():
        return Note()
    return read_json(folder.note, lambda plain: Note(plain["text"], tuple(plain["tags"])))


def write_note(folder: SweepFolder, note: Note) -> None:
    """Put that on record, in place of what was there."""
    write_atomically(json.dumps(asdict(note), ensure_ascii=False), folder.note)


def size_of(folder: Folder) -> int:
    """Bytes of the files beneath a folder; 0 if there is none.

    Raises:
        StorageError: if a URL cannot be listed.
    """
    if not isinstance(folder, Path):
        return sum(file.stat().st_size for file in files_in(folder).values())
    size = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # a running sweep deletes checkpoints
                size += os.stat(os.path.join(place, file)).st_size
    return size
