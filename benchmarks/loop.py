"""CPU time of a run of the loop, ours against a loop written on torchcfm, on the same work."""

from __future__ import annotations

from rich.console import Console

from benchmarks.measure import Measured, Options, in_child, new_table, show, spread
from benchmarks.work import QUICK, Curves, Work

TARGET = 30.0
"""Times less CPU time a run."""


def main(options: Options, console: Console) -> None:
    """Run both loops, one after another, and print what they cost and what they found."""
    work = QUICK if options.quick else Work()
    ours_seeds = list(range(options.seeds))
    # Other seeds than ours: the two curves are then independent estimates of the same thing.
    reference_seeds = [1000 + seed for seed in range(options.reference_seeds)]
    reference = in_child("benchmarks.reference_loop", "run", work, reference_seeds)
    ours = in_child("benchmarks.loop", "run", work, ours_seeds)
    _print_cost(console, work, (reference, len(reference_seeds)), (ours, len(ours_seeds)))
    _print_curves(console, work, reference.result, ours.result)
    _print_stages(console, ours.result)


def run(work: Work, seeds: list[int]) -> Curves:
    """Our loop on `work`, all seeds as one ensemble."""
    from luceloop.core.config.parsing import parse_config
    from luceloop.core.loop.loop import run_loop

    config = parse_config(
        {
            "name": "benchmark",
            "data": {
                "name": "eight_gaussians",
                "size": work.size,
                "radius": work.radius,
                "std": work.std,
            },
            "learner": {
                "name": "otcfm",
                "steps": work.steps,
                "initial_steps": work.initial_steps,
                "batch_size": work.batch_size,
                "width": work.width,
                "depth": 3,
                "activation": "selu",  # as the reference
            },
            "reward": {"name": "mode_distance", "mode": 0, "r_min": work.r_min},
            "curation": {"k": 2, "beta": work.beta},
            "lam": float("inf"),
            "iterations": work.iterations,
            "pool_size": work.pool,
            "seeds": seeds,
        }
    )
    results = [result.metrics for result in run_loop(config)]
    rows = range(len(seeds))
    stages = [name for name in results[0] if name.startswith("seconds/")]
    return Curves(
        reward_mean=[[float(m["reward_mean"][row]) for m in results] for row in rows],
        exp_reward_mean=[[float(m["exp_reward_mean"][row]) for m in results] for row in rows],
        seconds={stage: sum(float(m[stage][0]) for m in results) for stage in stages},
    )


def _print_cost(
    console: Console, work: Work, reference: tuple[Measured, int], ours: tuple[Measured, int]
) -> None:
    title = (
        f"Eight Gaussians, T={work.iterations}, {work.steps} steps an iteration "
        f"({work.initial_steps} for p_0), pool {work.pool}, one thread"
    )
    columns = ("runs", "CPU s a run", "CPU s in all", "wall s in all", "imports, CPU s")
    table = new_table("loop", *columns)
    for name, (measured, runs) in {"torchcfm's tutorial": reference, "ours": ours}.items():
        figures = (measured.cpu / runs, measured.cpu, measured.wall, measured.import_cpu)
        table.add_row(name, str(runs), *(f"{figure:.1f}" for figure in figures))
    show(console, title, table)
    ratio = (reference[0].cpu / reference[1]) / (ours[0].cpu / ours[1])
    console.print(f"CPU time a run: {ratio:.1f} times less (target: {TARGET:g} or more)")


def _print_curves(console: Console, work: Work, reference: Curves, ours: Curves) -> None:
    metrics = ("reward_mean", "exp_reward_mean")
    table = new_table("t", *(f"{m}, {whose}" for m in metrics for whose in ("tutorial", "ours")))
    for t in range(work.iterations + 1):
        cells = [spread(curves.at(m, t)) for m in metrics for curves in (reference, ours)]
        table.add_row(str(t), *cells)
    show(console, "Mean over seeds ± standard deviation (r* = 0, so E e^{βr} is at most 1)", table)


def _print_stages(console: Console, ours: Curves) -> None:
    whole = sum(ours.seconds.values())
    table = new_table("stage", "wall s a run", "share")
    for stage, seconds in sorted(ours.seconds.items(), key=lambda item: -item[1]):
        share = f"{seconds / whole:.1%}"
        table.add_row(stage.removeprefix("seconds/"), f"{seconds:.3f}", share)
    show(console, "Ours by stage, from the seconds/* metrics", table)
