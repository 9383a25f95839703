"""Points that share an ensemble against the same points one after another, on the device there is.

The curves are the same to the bit; what a pack saves is calls.
"""

from __future__ import annotations

import time

import torch
from rich.console import Console

from benchmarks.measure import Options, in_child, new_table, show
from luceloop.core.config.parsing import parse_point
from luceloop.core.device import make_repeatable, own_device
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.pack import Member, iterate_all
from luceloop.core.loop.state import IterationResult, LoopState

ON_CPU = ((8, 1), (4, 2), (8, 5))
ON_GPU = ((8, 1), (8, 5), (100, 10))
"""Points, and seeds of each."""


def main(options: Options, console: Console) -> None:
    """Time one retraining of packs of several sizes."""
    device = own_device()
    table = new_table("points x seeds", "rows", "one by one, s", "packed, s", "ratio")
    for points, seeds in ON_CPU if device == "cpu" else ON_GPU:
        single, packed = in_child("benchmarks.packs", "run", points, seeds, options.quick).result
        figures = f"{single:.2f}", f"{packed:.2f}", f"{single / packed:.2f}"
        table.add_row(f"{points} x {seeds}", str(points * seeds), *figures)
    show(console, f"A retraining of 300 steps, pools of 4,000, on {device}: best of three", table)


def run(points: int, seeds: int, quick: bool) -> tuple[float, float]:
    """Seconds of an iteration of all points, one by one and as one pack."""
    make_repeatable(1)
    loops = [_loop(point, seeds, 20 if quick else 300) for point in range(points)]
    start = iterate_all({i: Member(loop, None) for i, loop in enumerate(loops)})
    states = [_state(start[i]) for i in range(points)]
    members = {i: Member(loop, states[i]) for i, loop in enumerate(loops)}
    single, packed = [], []
    for _ in range(1 if quick else 3):
        single.append(_seconds(lambda: [m.loop.iterate(m.state) for m in members.values()]))
        packed.append(_seconds(lambda: iterate_all(members)))
    return min(single), min(packed)


def _loop(point: int, seeds: int, steps: int) -> Loop:
    learner = {"steps": steps, "initial_steps": 10}
    plain = {"data": {"name": "eight_gaussians", "size": 2000}, "learner": learner, "lam": 1}
    config = parse_point(plain | {"curation": {"beta": float(point)}, "seeds": seeds})
    return Loop(config, own_device())


def _state(result: IterationResult | Exception) -> LoopState:
    assert isinstance(result, IterationResult), result
    return result.state


def _seconds(call: object) -> float:
    start = time.perf_counter()
    assert callable(call)
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
