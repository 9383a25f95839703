"""How long rows take, by what earlier sweeps of the output folder have on record."""

from __future__ import annotations

import heapq
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from luceloop.core.config.parsing import at_point
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.sweeps.costs.recorded import SECONDS
from luceloop.sweeps.costs.sizes import sizes_of
from luceloop.sweeps.record.events import IterationDone
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger

NEWEST = 20
"""Sweeps that are looked through, the newest ones; reading the records of more takes a while."""


@dataclass(frozen=True)
class Places:
    """How a sweep's trials share a cluster.

    Example:
        Places(trials=2, pack=1, device="cpu")
    """

    trials: int
    """That run at once."""
    pack: int
    """Points of a trial."""
    device: str
    """What points are computed on, as the ledger has it."""
    one_by_one: bool = False
    """Whether networks are so large that seeds train one after another."""
    samplers: int = 0
    """Of a trial."""


@dataclass(frozen=True)
class Pace:
    """What a row takes on a device, in seconds.

    Example:
        Pace(fit=0.6, pool=0.2, stretch=1.3, rows=140)
    """

    fit: float
    """Of retraining."""
    pool: float
    """Of generating, scoring and choosing."""
    stretch: float = 1.0
    """Wall-clock time of a trial for each second that its rows take on the device."""
    rows: int = 0
    """On record that say so; 0 where it was measured."""


def cost_key(point: PointConfig, device: str) -> str:
    """Equal for points whose rows take the same time: all but what pickers prefer.

    Raises:
        ConfigError: if the point's data, which tells sizes, cannot be built.
    """
    plain = point.model_dump(mode="json")
    parts = ("learner", "classifier", "sampling", "metrics", "quality", "training")
    same = {key: plain[key] for key in parts}
    sizes = sizes_of(point)
    small = isinstance(point.learner, RegressionConfig)  # a step takes a batch, whatever the rest
    same |= {"data": {key: value for key, value in plain["data"].items() if key != "size"}}
    same |= {"reward": point.reward.name, "k": point.k, "pool": sizes.pool}
    rewards = [user.reward.name for user in point.users]
    same |= {"users": rewards, "pickers": len(point.pickers), "kind": point.curation.kind}
    if point.training.synthetic == "accumulate" and not small:
        same |= {"iterations": point.iterations}  # the last fits are the longest
    same |= {"trained_on": None if small else sizes.real + sizes.kept}
    seeds = len(point.seeds) if "cuda" in device else None  # there, many take as long as one
    return fingerprint(same | {"threads": point.resources.threads, "device": device, "n": seeds})


@dataclass
class _Found:
    """What is on record of the rows of one key."""

    fit: list[float] = field(default_factory=list)
    pool: list[float] = field(default_factory=list)
    stretch: list[float] = field(default_factory=list)


def recorded_paces(
    sweeps: Sequence[SweepFolder],
    wanted: Iterable[str],
    places: Callable[[SweepConfig], Places],
) -> dict[str, Pace]:
    """How long rows took in earlier sweeps, by `cost_key`; none of keys that nothing is known of.

    Args:
        sweeps: oldest first; the newest that know a key are asked.
        wanted: keys.
        places: how the trials of a sweep share the cluster that there is now.
    """
    keys, found, asked = set(wanted), dict[str, _Found](), 0
    for folder in reversed(sweeps):
        if keys <= found.keys() or asked == NEWEST:
            break
        try:
            _read(folder, keys, found, places)
        except (ConfigError, OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or of another version: it tells nothing, and counts for nothing
        asked += 1
    return {key: _pace(each) for key, each in found.items()}


def pace_of(ledger: Ledger, config: SweepConfig, places: Places) -> dict[str, Pace]:
    """How long rows of a sweep took so far, by `cost_key`.

    Raises:
        ConfigError: if data, which tells sizes, cannot be built.
    """
    found = dict[str, _Found]()
    keys = {i: _key_of(ledger, config, i, places.device) for i in list(ledger.points)}
    _add(ledger, keys, found, places)
    return {key: _pace(each) for key, each in found.items()}


def _read(
    folder: SweepFolder,
    keys: set[str],
    found: dict[str, _Found],
    places: Callable[[SweepConfig], Places],
) -> None:
    """Add what a sweep has on record of the keys that nothing newer knows."""
    config = folder.config()
    ledger = Ledger(folder.ledger, writable=False)
    own = {i: _key_of(ledger, config, i, point.device) for i, point in ledger.points.items()}
    missing = keys - found.keys()
    known = {index: key for index, key in own.items() if key in missing}
    if known:
        _add(ledger, known, found, places(config))


def _key_of(ledger: Ledger, config: SweepConfig, index: int, device: str) -> str:
    return cost_key(at_point(config, ledger.points[index].values), device or "cpu")


def _add(ledger: Ledger, keys: Mapping[int, str], found: dict[str, _Found], places: Places) -> None:
    """Add the rows of points whose keys are given that were computed, t >= 1."""
    if stretch := _stretch(ledger, places):
        for key in set(keys.values()):
            found.setdefault(key, _Found()).stretch.append(stretch)
    for index, key in keys.items():
        point = ledger.points[index]
        for t, row in list(point.rows.items()):
            if t and not point.reused.get(t):
                each = found.setdefault(key, _Found())
                each.fit += row.get(f"{SECONDS}fit", [])
                others = [v for n, v in row.items() if n.startswith(SECONDS) and "fit" not in n]
                each.pool += [math.fsum(stages) for stages in zip(*others, strict=True)]
    for key in [key for key, each in found.items() if not each.pool]:
        del found[key]


def _pace(found: _Found) -> Pace:
    # Means, not medians: what waits for its turn now and then is part of what a sweep takes.
    fit, pool = statistics.fmean(found.fit), statistics.fmean(found.pool)
    stretch = statistics.median(found.stretch) if found.stretch else 1.0
    return Pace(fit, pool, stretch, len(found.pool))


def _stretch(ledger: Ledger, places: Places) -> float | None:
    """Wall-clock time of the trials of a sweep over what its rows took; None if nothing tells.

    A gap that no row explains is an interruption, and does not count.
    """
    rows = [event for event in list(ledger.events) if isinstance(event, IterationDone)]
    rows = [event for event in rows if not event.reused]
    wall = spent = 0.0
    for before, event in itertools.pairwise(rows):
        if not event.iteration:
            continue  # what waits for the training of p_0 is no measure of the rest
        own = sum(sum(v) for n, v in event.metrics.items() if n.startswith(SECONDS))
        spent += own
        wall += min((event.time - before.time) / 1000, 3 * places.pack * own + 5)
    points = len({event.point for event in rows})
    at_once = min(places.trials, math.ceil(points / places.pack))
    return wall * at_once / spent if spent else None


def makespan(durations: Iterable[float], places: int) -> float:
    """How long it takes until all are done, so many at once, each as soon as there is a place."""
    ends = [0.0] * max(1, places)
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
