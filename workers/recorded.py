"""What another sweep has on record of a point's seeds: its rows stand, and its states go on.

A point may have seeds that were computed before, as far as they went, beside seeds that begin. Rows
never depend on each other, so computing only what is missing yields the bits of computing it all.

Axes: R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from luceloop.core.io.places import Folder, open_folder, open_whole
from luceloop.core.io.saved import save_atomically
from luceloop.core.loop.state import LoopState

Row = Mapping[str, Sequence[float]]
"""Metrics of one iteration: name to values, one per seed."""


class StatesGoneError(Exception):
    """States that a point was to go on from have been deleted: its seeds begin anew."""


@dataclass(frozen=True)
class Recorded:
    """Rows of some seeds of a point, iteration 0 and on.

    Example:
        Recorded((0, 1), ({"reward_mean": [-5.1, -5.3]}, {"reward_mean": [-3.2, -3.1]}))
    """

    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    """Of iterations 0, 1, ...; a value per seed."""
    state: str = ""
    """File of the states after the last of these rows; empty where no iteration follows."""

    def plain(self) -> dict[str, Any]:
        """Plain types that `torch.load(weights_only=True)` reads."""
        rows = [{name: list(values) for name, values in row.items()} for row in self.rows]
        return asdict(self) | {"rows": rows}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Recorded:
        """The inverse of `plain`."""
        return cls(tuple(plain["seeds"]), tuple(plain["rows"]), plain["state"])


def to_compute(
    seeds: Sequence[int], recorded: Sequence[Recorded], iteration: int
) -> tuple[int, ...]:
    """The seeds of a point whose rows of an iteration are not on record, in the point's order."""
    known = {seed for each in recorded if iteration < len(each.rows) for seed in each.seeds}
    return tuple(seed for seed in seeds if seed not in known)


def whole_row(
    seeds: Sequence[int],
    recorded: Sequence[Recorded],
    iteration: int,
    computed: Mapping[int, Mapping[str, float]],
) -> dict[str, list[float]]:
    """The metrics of all seeds at an iteration.

    Args:
        seeds: of the point.
        recorded: what is on record of some.
        iteration: t.
        computed: metrics of the others, by seed.
    """
    found = dict(computed)
    for each in recorded:
        if iteration < len(each.rows):
            for position, seed in enumerate(each.seeds):
                row = each.rows[iteration]
                found[seed] = {name: values[position] for name, values in row.items()}
    names = dict.fromkeys(name for seed in seeds for name in found[seed])
    return {name: [found[seed].get(name, float("nan")) for seed in seeds] for name in names}


def start_of(
    seeds: Sequence[int],
    recorded: Sequence[Recorded],
    iteration: int,
    state: LoopState | None,
    of_state: Sequence[int],
) -> LoopState | None:
    """Where the loop of these seeds stands before an iteration; None at t=0.

    Args:
        seeds: those to compute, whose states are put together.
        recorded: of them, the seeds that were on record up to here have their states in files.
        iteration: t.
        state: of the seeds that were computed before.
        of_state: which those are.

    Raises:
        StatesGoneError: if a file of states is gone.
    """
    if not iteration or tuple(of_state) == tuple(seeds):
        return state
    rows = {} if state is None else {seed: state.row(r) for r, seed in enumerate(of_state)}
    for each in recorded:
        if len(each.rows) == iteration and each.state:
            rows |= _read_states(each.state)
    return LoopState.stack([rows[seed] for seed in seeds])


def keep_state(
    folder: Folder, index: int, batch: int, seeds: Sequence[int], state: LoopState
) -> None:
    """Keep the states of a batch of a point's seeds, from which a longer loop can go on."""
    content = {"seeds": list(seeds), "state": state.plain()}
    save_atomically(content, folder / state_name(index, batch))


def state_name(index: int, batch: int = 0) -> str:
    """The file of the last states of a point's seeds: those it began with, or a later batch."""
    return f"point-{index:04d}{batch_suffix(batch)}.pt"


def batch_suffix(batch: int) -> str:
    """What the names of a batch's files end in; nothing for the seeds that a point began with."""
    return f"-{batch}" if batch else ""


def _read_states(file: str) -> dict[int, LoopState]:
    """States by seed."""
    place = open_folder("kept state", file)
    try:
        with open_whole(place) as opened:
            content = torch.load(opened, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise StatesGoneError(file) from None
    state = LoopState.of(content["state"])
    return {seed: state.row(row) for row, seed in enumerate(content["seeds"])}
