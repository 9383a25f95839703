"""The choice among K: 50,000 samples in groups of 4, against a loop over the groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.measure import Options, in_child, median_ms, new_table, show
from luceloop.core import rng
from luceloop.core.pool.curation import choose_among_k, draw_weighted

POOL, K, BETA = 50_000, 4, 5.0


@dataclass(frozen=True)
class Timing:
    """One way to choose, and its cost for each row."""

    name: str
    milliseconds: float
    """CPU time of a call."""
    rows: int
    """Rows that a call serves."""
    kept_reward: float
    """Mean reward of what one call keeps: all ways at the same K must agree."""


def main(options: Options, console: Console) -> None:
    """Time every way in one process and print them."""
    repetitions, loop_groups = (5, 500) if options.quick else (100, POOL // K)
    timings: list[Timing] = in_child("benchmarks.curation", "run", repetitions, loop_groups).result
    table = new_table("", "CPU ms a call", "a row", "mean reward kept")
    for timing in timings:
        each = timing.milliseconds / timing.rows
        figures = f"{timing.milliseconds:.3f}", f"{each:.3f}", f"{timing.kept_reward:.3f}"
        table.add_row(timing.name, *figures)
    title = f"Choosing from a pool of {POOL}, β={BETA:g}: median of {repetitions} calls, one thread"
    show(console, title, table)


def run(repetitions: int, loop_groups: int) -> list[Timing]:
    """Time our kernels for 1 and 5 rows, and what a user would write for one."""
    reward = torch.randn(1, POOL, generator=rng.stream(0, "reward"))
    timings = [
        _choose_in_python(reward[0], loop_groups),
        _choose_by_multinomial(reward[0], repetitions),
    ]
    timings += [_choose(reward, rows, repetitions) for rows in (1, 5)]
    timings += [_draw_by_multinomial(reward[0], repetitions)]
    return timings + [_draw(reward, rows, repetitions) for rows in (1, 5)]


def _choose(reward: Tensor, rows: int, repetitions: int) -> Timing:
    generators, beta = rng.streams(range(rows), "curate"), torch.full((rows,), BETA)
    pools = reward.repeat(rows, 1)
    ms = median_ms(lambda: choose_among_k(pools, beta, K, generators), repetitions)
    kept = pools.gather(1, choose_among_k(pools, beta, K, generators))
    return Timing(f"ours, K={K}, {_rows(rows)}", ms, rows, float(kept.mean()))


def _draw(reward: Tensor, rows: int, repetitions: int) -> Timing:
    generators, beta = rng.streams(range(rows), "curate"), torch.full((rows,), BETA)
    pools = reward.repeat(rows, 1)
    mask = torch.ones_like(pools, dtype=torch.bool)

    def draw() -> Tensor:
        return draw_weighted(pools, mask, beta, POOL // K, generators).index

    ms = median_ms(draw, repetitions)
    return Timing(f"ours, K=∞, {_rows(rows)}", ms, rows, float(pools.gather(1, draw()).mean()))


def _choose_in_python(reward: Tensor, groups: int) -> Timing:
    """A loop over the first `groups` groups, timed once and scaled to all of them."""
    torch.manual_seed(0)
    kept = []

    def choose() -> None:
        for group in reward.view(-1, K)[:groups]:
            winner = torch.multinomial(torch.softmax(BETA * group, 0), 1)
            kept.append(group[winner].item())

    scale = POOL / K / groups
    ms = scale * median_ms(choose, repetitions=1, warm_up=0)
    note = "once" if scale == 1 else f"{groups} groups, scaled"
    return Timing(f"Python loop, K={K} ({note})", ms, 1, math.fsum(kept) / len(kept))


def _choose_by_multinomial(reward: Tensor, repetitions: int) -> Timing:
    groups = reward.view(-1, K)

    def choose() -> Tensor:
        return torch.multinomial(torch.softmax(BETA * groups, 1), 1)

    ms = median_ms(choose, repetitions)
    return Timing(f"torch.multinomial, K={K}", ms, 1, float(groups.gather(1, choose()).mean()))


def _draw_by_multinomial(reward: Tensor, repetitions: int) -> Timing:
    def draw() -> Tensor:
        weight = torch.softmax(BETA * reward, 0)
        return torch.multinomial(weight, POOL // K, replacement=True)

    ms = median_ms(draw, repetitions)
    return Timing("torch.multinomial, K=∞", ms, 1, float(reward[draw()].mean()))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
