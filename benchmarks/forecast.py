"""Forecasts of 12 points over 50 iterations from 10^4 rewards, against simulating them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from benchmarks.measure import Options, in_child, median_ms, new_table, show
from luceloop.core.config.parsing import parse_point, with_values
from luceloop.core.config.point import PointConfig
from luceloop.core.theory.forecast import forecast
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.population import population
from luceloop.core.theory.selection import Array
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.search.space import planned_points

LEVELS, ITERATIONS = 10_000, 50
SPAN = 50.0
"""Of βr at the largest β."""
SIMULATED = 100_000
"""Samples of the simulation, whose mean then has a standard error of 0.1 % of the range."""
TARGET_MS = 20.0
PRESETS = ("demo", "mog", "moons")


@dataclass(frozen=True)
class Timing:
    """Both ways, and how far they are from the law that is not reduced."""

    forecast_ms: float
    first_ms: float
    """Of the first call for a law, which bins it."""
    apart_ms: float
    """Of a first call for points of which no two share β."""
    simulation_ms: float
    """Of one point, and scaled to all."""
    forecast_error: float
    simulation_error: float
    """Largest error of the mean reward, in the range of the rewards."""
    finite_ms: dict[str, tuple[int, float]]
    """By preset, its points and what 200 replicates of a perfect learner at their n take."""


def main(options: Options, console: Console) -> None:
    """Time both and print them."""
    timing: Timing = in_child("benchmarks.forecast", "run", options.quick).result
    table = new_table("way", "CPU ms", "largest error of the mean, of the range")
    table.add_row("Luceloop", f"{timing.forecast_ms:.1f}", f"{timing.forecast_error:.1e}")
    table.add_row("Luceloop, a law's first call", f"{timing.first_ms:.1f}", "")
    table.add_row("the same, 12 different β", f"{timing.apart_ms:.1f}", "")
    table.add_row(
        f"simulation, {SIMULATED:,} samples (one point, scaled)",
        f"{timing.simulation_ms:.0f}",
        f"{timing.simulation_error:.1e}",
    )
    title = f"12 points x {ITERATIONS} iterations x {LEVELS:,} rewards, one thread"
    show(console, title, table)
    finite = new_table("finite n, 200 replicates", "points", "CPU ms")
    for name, (points, spent) in timing.finite_ms.items():
        finite.add_row(name, str(points), f"{spent:.0f}")
    show(console, "Perfect learners at the presets' own sample sizes", finite)
    ratio = timing.simulation_ms / timing.first_ms
    console.print(f"ratio {ratio:.0f}, first call; target: at most {TARGET_MS:g} ms")


def run(quick: bool) -> Timing:
    """Time both, and compare them with the law as it is."""
    reward = np.random.default_rng(0).random(LEVELS)
    law, points = RewardLaw.of(reward, None, 0, float(reward.max())), _points(reward)
    forecast(points[:1], [law])  # imports, BLAS
    repetitions = 3 if quick else 20
    first_ms = median_ms(lambda: forecast(points, [replace(law)] * len(points)), repetitions)
    again_ms = median_ms(lambda: forecast(points, [law] * len(points)), repetitions)
    apart = [_with_beta(point, SPAN * (i + 1) / 12) for i, point in enumerate(points)]
    apart_ms = median_ms(lambda: forecast(apart, [replace(law)] * len(points)), repetitions)
    chosen = points[-1]  # the largest β, K=16, λ=∞
    simulated: list[Array] = []
    one_ms = median_ms(
        lambda: simulated.append(_simulate(reward, chosen)), repetitions=1, warm_up=0
    )
    exact, span = _exact(law, chosen), float(np.ptp(reward))
    found = forecast([chosen], [law])[0].curves["reward_mean"]
    return Timing(
        forecast_ms=again_ms,
        first_ms=first_ms,
        apart_ms=apart_ms,
        simulation_ms=one_ms * len(points),
        forecast_error=float(np.abs(found - exact).max()) / span,
        simulation_error=float(np.abs(simulated[0] - exact).max()) / span,
        finite_ms={name: _finite_n(name) for name in (PRESETS[:1] if quick else PRESETS)},
    )


def _finite_n(name: str) -> tuple[int, float]:
    """Points of a preset, and the milliseconds that their bands at finite n add to a forecast."""
    points = planned_points(read_config(name, []))
    forecast(points)  # the law
    with_bands = median_ms(lambda: forecast(points, replicates=200), repetitions=3, warm_up=0)
    return len(points), with_bands - median_ms(lambda: forecast(points), repetitions=3, warm_up=0)


def _points(reward: Array) -> list[PointConfig]:
    """β from weak to |βr| = 50, K = 2 and 16, with as many real samples and without."""
    largest = SPAN / float(np.ptp(reward))
    return [
        parse_point(
            {
                "data": {"name": "eight_gaussians"},
                "curation": {"k": k, "beta": beta},
                "lam": lam,
                "iterations": ITERATIONS,
            }
        )
        for beta in (largest / 100, largest / 10, largest)
        for k in (2, 16)
        for lam in (1, math.inf)
    ]


def _with_beta(point: PointConfig, beta: float) -> PointConfig:
    return with_values(point, {"curation.beta": beta})


def _simulate(reward: Array, point: PointConfig) -> Array:
    """A perfect learner's loop on rewards, as one would write it: mean reward by iteration."""
    random, k = np.random.default_rng(1), int(point.k)
    share = 1.0 if math.isinf(point.lam) else point.lam / (1 + point.lam)
    pool, means = random.choice(reward, SIMULATED), []
    for _ in range(ITERATIONS + 1):
        means.append(pool.mean())
        candidates = random.choice(pool, (SIMULATED, k))
        utility = point.beta * candidates + random.gumbel(size=candidates.shape)
        kept = np.take_along_axis(candidates, utility.argmax(1)[:, None], 1)[:, 0]
        real = random.random(SIMULATED) >= share
        pool = np.where(real, random.choice(reward, SIMULATED), kept)
    return np.array(means)


def _exact(law: RewardLaw, point: PointConfig) -> Array:
    """The mean reward from all levels."""
    lam, k = np.array([point.lam]), np.array([float(point.k)])
    laws = population(law.reward, law.initial, law.reference, point.beta, lam, k)
    steps = zip(range(ITERATIONS + 1), laws, strict=False)
    return np.array([float(law.reward @ now[:, 0]) for _, (now, _) in steps])
