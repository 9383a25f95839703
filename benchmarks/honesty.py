"""How often our statistics are wrong: intervals that miss, and true bounds that are marked.

Both by simulation: seeds of known laws for the intervals, the loop with the learner `empirical`, of
which every bound is true, for the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.measure import Options, new_table, show
from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.analysis.statistics.verdicts import judge_bound, values_at
from luceloop.core.config.parsing import parse_config
from luceloop.core.loop.loop import run_loop
from luceloop.core.theory.bounds import BOUNDS, is_identity
from luceloop.core.theory.forecast import forecast

TRIALS, GROUPS = 20_000, 1000
SEEDS = 3, 5, 10, 30
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
LAWS: dict[str, tuple[Draw, float, tuple[float, float]]] = {
    "normal, no range": (lambda rng, n: rng.normal(5, 1, n), 5.0, (-math.inf, math.inf)),
    "normal, from 0": (lambda rng, n: rng.normal(5, 1, n), 5.0, (0.0, math.inf)),
    "gamma(4), from 0": (lambda rng, n: rng.gamma(4, 1, n), 4.0, (0.0, math.inf)),
    "exponential, from 0": (lambda rng, n: rng.exponential(1, n), 1.0, (0.0, math.inf)),
    "lognormal(σ=0.5), from 0": (
        lambda rng, n: rng.lognormal(0, 0.5, n),
        math.exp(0.125),
        (0.0, math.inf),
    ),
    "lognormal(σ=1), from 0": (
        lambda rng, n: rng.lognormal(0, 1, n),
        math.exp(0.5),
        (0.0, math.inf),
    ),
    "beta(8, 8), a share": (lambda rng, n: rng.beta(8, 8, n), 0.5, (0.0, 1.0)),
    "beta(2, 18), a share": (lambda rng, n: rng.beta(2, 18, n), 0.1, (0.0, 1.0)),
    "beta(19, 1), a share": (lambda rng, n: rng.beta(19, 1, n), 0.95, (0.0, 1.0)),
    "beta(0.5, 9.5), a share": (lambda rng, n: rng.beta(0.5, 9.5, n), 0.05, (0.0, 1.0)),
    "exponential, no range": (
        lambda rng, n: rng.exponential(1, n),
        1.0,
        (-math.inf, math.inf),
    ),
}
"""Laws of seeds, their means, and the range that is known of the metric."""
TIGHT: dict[str, dict[str, Any]] = {
    "no taste (β=0), λ=1": {"curation": {"k": 2, "beta": 0.0}, "lam": 1},
    "no choice (K=1), λ=1": {"curation": {"k": 1, "beta": 10.0}, "lam": 1},
    "real data alone (λ=0)": {"curation": {"k": 2, "beta": 10.0}, "lam": 0},
    "hardly a taste (β=0.02), λ=∞": {"curation": {"k": 2, "beta": 0.02}, "lam": math.inf},
    "hardly kept (λ=0.02)": {"curation": {"k": 2, "beta": 10.0}, "lam": 0.02},
    "mixed (λ=0.5)": {"curation": {"k": 2, "beta": 10.0}, "lam": 0.5},
    "collapsing (λ=∞)": {"curation": {"k": 2, "beta": 10.0}, "lam": math.inf},
}
"""Points whose bounds are equalities, or nearly so."""


def main(options: Options, console: Console) -> None:
    """Simulate both and print a table of each."""
    trials, groups = (2000, 100) if options.quick else (TRIALS, GROUPS)
    coverage = new_table("law of the seeds", *(f"S={seeds}" for seeds in SEEDS))
    for name in LAWS:
        coverage.add_row(name, *(f"{100 * covered(name, s, trials):.1f} %" for s in SEEDS))
    show(console, f"95 % intervals that hold the mean, of {trials:,}", coverage)
    for replicates, null in ((200, "perfect learners"), (0, "n=∞")):
        marked = new_table("point", *(f"S={seeds}" for seeds in SEEDS[:3]))
        for name in TIGHT:
            shares = (share_marked(name, s, groups, replicates) for s in SEEDS[:3])
            marked.add_row(name, *(f"{100 * share:.1f} %" for share in shares))
        title = f"Groups of seeds with a true bound marked against {null}, of {groups:,}"
        show(console, title, marked)


def covered(name: str, seeds: int, trials: int) -> float:
    """The share of intervals over seeds of a law that hold its mean."""
    draw, mean, ends = LAWS[name]
    found = over_seeds(draw(np.random.default_rng(seeds), (trials, seeds)), *ends)
    return float(((found["ci_low"] <= mean) & (mean <= found["ci_high"])).mean())


def share_marked(name: str, seeds: int, groups: int, replicates: int = 200) -> float:
    """The share of groups of seeds of a perfect learner for which some bound is marked.

    Args:
        name: of the point in `TIGHT`.
        seeds: of a group.
        groups: how many.
        replicates: perfect learners that a group is compared with; with 0, with n=∞.
    """
    plain = {
        "name": "tight",
        "data": {"name": "eight_gaussians", "size": 60},
        "learner": {"name": "empirical"},
        "iterations": 4,
        "seeds": list(range(seeds * groups)),
        "sampling": {"preview": 0},
    }
    point = parse_config(plain | TIGHT[name]).point
    results = [result.metrics for result in run_loop(point)]
    [expected] = forecast([point], replicates=replicates)
    identity = is_identity(point.beta, point.lam, point.k)
    marked = np.zeros(groups, dtype=bool)
    for metric in (metric for metric in results[-1] if metric.startswith("margin/")):
        curves = {t: m[metric].numpy().reshape(groups, seeds) for t, m in enumerate(results) if t}
        scatter, bound = expected.finite_n.get(metric), BOUNDS[metric.removeprefix("margin/")]
        perfect = {t: own for t in curves if (own := values_at(scatter, t)) is not None}
        for group in range(groups):
            margins = {t: values[group] for t, values in curves.items()}
            found = judge_bound(margins, perfect, identity=identity, is_biased=bound.is_biased)
            marked[group] |= found.violated
    return float(marked.mean())
