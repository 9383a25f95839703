"""Is p_0 of every synthetic preset a fair start, and what does the learner alone change after it?

At β=0 and λ=∞ nothing is preferred and no real data corrects: a perfect learner would only scatter
as its sample sizes say. What p_t moves beyond that is the learner's share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Console

from benchmarks.measure import Options, in_child, new_table, show
from luceloop.analysis.statistics.starts import WIDEST
from luceloop.core.config.parsing import with_values
from luceloop.core.loop.loop import run_loop
from luceloop.core.theory.forecast import forecast
from luceloop.sweeps.presets.reading import read_config

PRESETS = ("demo", "mog", "mog-search", "mog-ddpm", "moons", "moons-ddpm")
REPLICATES = 200


@dataclass(frozen=True)
class Sharpness:
    """A preset's loop at β=0 and λ=∞, means over seeds."""

    iterations: int
    width: list[float]
    """width_ratio at each t."""
    precision: list[float]
    reward: float
    """reward_mean at t=T."""
    low: float
    """2.5 % quantile of the same for single seeds of a perfect learner at these sizes."""
    high: float
    """97.5 % quantile."""


def main(options: Options, console: Console) -> None:
    """Run the presets one after another and print a line for each."""
    table = new_table(
        "preset",
        "p_0: width_ratio",
        "precision",
        "t=T: width_ratio",
        "a generation",
        "reward_mean",
        "perfect learner, 95 %",
        "CPU s",
    )
    for name in PRESETS[:1] if options.quick else PRESETS:
        measured = in_child("benchmarks.sharpness", "run", name, options.seeds)
        found: Sharpness = measured.result
        growth = (found.width[-1] / found.width[0]) ** (1 / found.iterations)
        table.add_row(
            name,
            f"{found.width[0]:.3f}",
            f"{found.precision[0]:.3f}",
            f"{found.width[-1]:.3f}",
            f"{100 * (growth - 1):+.1f} %",
            f"{found.reward:.3f}",
            f"{found.low:.3f} to {found.high:.3f}",
            f"{measured.cpu:.0f}",
        )
    title = f"β=0, λ=∞, mean over {options.seeds} seeds; a fair start is at most {WIDEST}"
    show(console, title, table)


def run(name: str, seeds: int) -> Sharpness:
    """The loop of a preset where nothing is preferred."""
    point = read_config(name, [f"seeds={seeds}"]).point
    point = with_values(point, {"curation.beta": 0.0, "lam": math.inf})
    results = [result.metrics for result in run_loop(point)]
    [expected] = forecast([point], replicates=REPLICATES)
    band = expected.finite_n["reward_mean"]
    return Sharpness(
        iterations=point.iterations,
        width=[float(m["width_ratio"].mean()) for m in results],
        precision=[float(m["precision"].mean()) for m in results],
        reward=float(results[-1]["reward_mean"].mean()),
        low=float(band.low[-1]),
        high=float(band.high[-1]),
    )
