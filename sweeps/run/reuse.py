"""What a sweep need not compute: rows that other sweeps of the output folder have on record.

A row is a function of its point, its seed and its iteration, so it may stand wherever it was
computed: on the same kind of device, by the same version, from the same files of the user's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luceloop.core.config.dependencies import dependencies
from luceloop.core.config.parts import UNUSED
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, StorageError, one_line
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.io.holdings import digests
from luceloop.core.io.places import listed
from luceloop.core.loop.initial import FORMAT
from luceloop.sweeps.costs.recorded import SECONDS
from luceloop.sweeps.record.damage import read_json
from luceloop.sweeps.record.events import Row
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point, recorded_config
from luceloop.sweeps.record.provenance import read_provenance, versions
from luceloop.sweeps.search.space import reached_points
from luceloop.workers.messages import REAL, IterationReport
from luceloop.workers.recorded import Recorded, state_name

logger = logging.getLogger(__name__)

NUMERIC = ("torch", "torchcfm", "torchdiffeq", "numba", "numpy")
"""Packages whose version decides the last bits of a row."""


def reuses(config: SweepConfig) -> bool:
    """Whether a sweep takes rows that others have on record."""
    return config.reuse or bool(config.extends)


@dataclass(frozen=True)
class Plan:
    """How much of a sweep is on record elsewhere; a row is a point's iteration of one seed."""

    rows: int
    """Of the sweep."""
    reused: int
    """Of them, those that are taken."""
    seconds: float
    """What it took to compute those."""


@dataclass(frozen=True)
class Source:
    """A point that another sweep has computed to its end."""

    sweep: SweepFolder
    point: Point
    config: PointConfig
    states: Mapping[int, str]
    """Files of its last states, by seed; none where none are kept."""

    @property
    def iterations(self) -> int:
        """Its last iteration, T."""
        return self.config.iterations

    def reaches(self, seed: int, iterations: int) -> int:
        """Rows of a seed that a point of so many iterations can take: from 0 up to T+1 of them."""
        if self.iterations == iterations:
            return iterations + 1
        # The last pool is not curated, so a longer loop goes on from the iteration before it.
        goes_on = self.iterations < iterations and seed in self.states and self.iterations > 0
        was_computed = seed not in self.point.reused.get(self.iterations - 1, ())
        return self.iterations if goes_on and was_computed else 0

    def recorded(self, seeds: Sequence[int], iterations: int) -> Recorded:
        """Its rows of these seeds, for a point of so many iterations."""
        count = self.reaches(seeds[0], iterations)
        positions = [self.config.seeds.index(seed) for seed in seeds]
        rows = [_part(self.point.rows[t], positions) for t in range(count)]
        return Recorded(
            tuple(seeds), tuple(rows), self.states[seeds[0]] if count <= iterations else ""
        )


class Reuse:
    """The rows that a sweep can take from others, by point."""

    def __init__(self, folder: SweepFolder, config: SweepConfig, device: str) -> None:
        """Read what is on record of points like those of a sweep.

        Args:
            folder: of the sweep.
            config: of the sweep.
            device: what it is computed on, such as `cpu`.
        """
        self._config, self._device = config, device
        self._chosen: dict[int, dict[int, Source]] = {}
        self._seeds: dict[int, tuple[int, ...]] = {}
        self._sources: dict[str, list[Source]] = {}
        self._why: dict[str, str] = {}
        self._told: set[str] = set()
        others = [each for each in Output(folder.path.parents[1]).sweeps() if each.id != folder.id]
        for other in others:
            for key, source in self._try_read(other):
                self._sources.setdefault(key, []).append(source)

    def find(self, index: int, point: PointConfig) -> tuple[Recorded, ...]:
        """What other sweeps have on record of a point's seeds."""
        chosen = self._choose(point)
        self._chosen[index], self._seeds[index] = chosen, point.seeds
        of: dict[tuple[str, int, str], list[int]] = {}
        for seed, source in chosen.items():
            file = source.states.get(seed, "")
            of.setdefault((source.sweep.id, source.point.index, file), []).append(seed)
        return tuple(chosen[seeds[0]].recorded(seeds, point.iterations) for seeds in of.values())

    def known(self, point: PointConfig) -> dict[int, int]:
        """By seed, how many rows of a point are taken."""
        chosen = self._choose(point)
        return {seed: each.reaches(seed, point.iterations) for seed, each in chosen.items()}

    def plan(self, points: Sequence[PointConfig]) -> Plan:
        """What running these points would take from other sweeps."""
        rows = sum(len(point.seeds) * (point.iterations + 1) for point in points)
        reused, seconds = 0, 0.0
        for point in points:
            for seed, source in self._choose(point).items():
                found = source.recorded([seed], point.iterations).rows
                reused += len(found)
                seconds += sum(
                    row[name][0] for row in found for name in row if name.startswith(SECONDS)
                )
        return Plan(rows, reused, seconds)

    def _choose(self, point: PointConfig) -> dict[int, Source]:
        """By seed, the source with the most rows, the newest of those; no seed that has none."""
        chosen: dict[int, Source] = {}
        for source in self._sources.get(row_key(point, self._device), ()):
            if reason := self._why.get(source.sweep.id):
                self._tell(source.sweep.id, reason)
                continue
            for seed in source.config.seeds:
                rows = source.reaches(seed, point.iterations)
                best = chosen[seed].reaches(seed, point.iterations) if seed in chosen else 1
                if seed in point.seeds and rows >= best:
                    chosen[seed] = source
        return chosen

    def _tell(self, sweep: str, reason: str) -> None:
        if sweep not in self._told:
            logger.warning("no row of %s is taken: %s", sweep, reason)
        self._told.add(sweep)

    def complete(self, report: IterationReport) -> dict[str, np.ndarray]:
        """The arrays of an iteration with the rows of seeds that were not computed for it."""
        chosen, t = self._chosen[report.index], report.iteration
        if any(seed not in chosen for seed in report.reused):  # a sweep was deleted since then
            return {}
        source, seeds = chosen[report.reused[0]], self._seeds[report.index]
        computed = [seed for seed in seeds if seed not in report.reused]
        if computed and not report.arrays:
            return {}
        found: dict[str, np.ndarray] = {}
        for name in ("preview", "reward") if t == 0 else ("preview",):
            rows = dict(zip(computed, report.arrays.get(name, ()), strict=False))
            for each in {(s.sweep.id, s.point.index): s for s in chosen.values()}.values():
                own = [seed for seed in report.reused if chosen[seed] is each]
                rows |= {seed: row for seed, row in _rows(each, name, t).items() if seed in own}
            if len(rows) == len(seeds):
                found[name] = np.stack([rows[seed] for seed in seeds])
        real = {name: own for name, own in report.arrays.items() if name.startswith(REAL)}
        file = source.sweep.real_rewards(source.point.index)
        if t == 0 and not real and file.exists():
            with np.load(file) as arrays:
                real = {f"{REAL}{name}": arrays[name] for name in arrays.files}
        return found | real

    def _try_read(self, other: SweepFolder) -> list[tuple[str, Source]]:
        """The same as `_read`; none of a sweep that is damaged or of another version."""
        try:
            return list(self._read(other))
        except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("no row of %s is taken: %s", other.id, one_line(error))
            return []

    def _read(self, other: SweepFolder) -> Iterable[tuple[str, Source]]:
        """The points that another sweep has computed to their ends, by key."""
        config = other.config()
        if not _may_share(config, self._config):
            return
        try:
            self._why[other.id] = self._reason(other, config)
        except ConfigError as error:  # code or data of its own is no longer there
            self._why[other.id] = str(error)
        try:
            kept = {file.name: str(file) for file in listed(other.states, "point-*.pt")}
        except (StorageError, ConfigError) as error:
            kept = {}
            logger.warning("no state of %s is taken: %s", other.id, error)
        for point in Ledger(other.ledger, writable=False).points.values():
            if point.status == "done" or point.batches:  # rows are of seeds that are whole
                own = recorded_config(config, point)
                states = _states(kept, point, config.point.seeds)
                yield row_key(own, point.device or "cpu"), Source(other, point, own, states)

    def _reason(self, other: SweepFolder, config: SweepConfig) -> str:
        """Why a sweep's rows may differ from ours; empty if they do not."""
        found = read_provenance(other)
        if found is None or found.format != FORMAT:
            return "it was run by a version that computed other numbers"
        if found.accepted:
            return "files that its numbers depend on changed while it ran"
        now, last = versions(), found.versions
        if other.environment.exists():  # of the last attempt; the first one's are on record, too
            last = read_json(other.environment, lambda plain: dict(plain["packages"]))
        for name in NUMERIC:
            for then in (found.versions.get(name), last.get(name)):
                if then != now[name]:
                    return f"it was run with {name} {then}; this is {now[name]}"
        for name, digest in digests(dependencies(reached_points(config))).items():
            if found.files.get(name) != digest:
                return f"{name} was another file then"
        return ""


def row_key(point: PointConfig, device: str) -> str:
    """Equal for points whose rows of one seed and iteration are the same."""
    apart = {"seeds", "iterations", "resources", "keep"}
    plain = point.model_dump(mode="json", exclude=apart)
    used = {k: v for k, v in plain["curation"].items() if k not in UNUSED or v != UNUSED[k]}
    plain["curation"] = used
    return fingerprint(plain | {"threads": point.resources.threads, "device": device})


def _may_share(one: SweepConfig, other: SweepConfig) -> bool:
    """Whether two sweeps may have a point in common, as far as can be told without their points."""
    searched = {key.partition(".")[0] for key in (*one.search.space, *other.search.space)}
    return all(
        getattr(one.point, part) == getattr(other.point, part)
        for part in {"data", "learner", "reward", "classifier", "sampling"} - searched
    )


def _states(kept: Mapping[str, str], point: Point, first: Sequence[int]) -> dict[int, str]:
    """The files of a point's last states, by seed, of those that are kept."""
    batches = enumerate([first, *point.batches[: point.whole]])
    named = {seed: state_name(point.index, batch) for batch, seeds in batches for seed in seeds}
    return {seed: kept[name] for seed, name in named.items() if name in kept}


def _part(row: Row, positions: Sequence[int]) -> Row:
    return {name: [values[position] for position in positions] for name, values in row.items()}


def _rows(source: Source, name: str, iteration: int) -> dict[int, np.ndarray]:
    """What a source has of an array, by seed; nothing if its file is not there."""
    index, folder = source.point.index, source.sweep
    file = folder.initial_reward(index) if name == "reward" else folder.preview(index, iteration)
    if not file.exists():
        return {}
    with np.load(file) as arrays:
        rows: np.ndarray = arrays["reward" if name == "reward" else "samples"]
    return dict(zip(source.config.seeds, rows, strict=False))  # a batch that is not whole follows
