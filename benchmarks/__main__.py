"""Run the benchmarks: `python -m benchmarks [NAME...] [--quick]`, or `gpu` and its parts."""

from __future__ import annotations

import argparse
import importlib

from rich.console import Console

from benchmarks.measure import Options, machine

MODES = ("correct", "speed", "solver", "sweep")
"""Parts of the benchmark `gpu`."""
NAMES = (
    "curation", "forecast", "honesty", "sequential", "sharpness", "trial_overhead", "scaling",
    "control_plane", "packs", "loop", "cifar10", "gpu",
)  # fmt: skip


def main() -> None:
    """Run the named benchmarks, or all, one after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}")
    parser.add_argument(
        "--quick", "--tiny", action="store_true", help="reduced sizes: only a check"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds of our loop (5)")
    parser.add_argument(
        "--reference-seeds", type=int, help="seeds of the reference loop (2; 1 with --quick)"
    )
    given = parser.parse_args()
    names: list[str] = given.names
    modes: tuple[str, ...] = ()
    if names[:1] == ["gpu"]:
        names, modes = ["gpu"], tuple(names[1:])
        if unknown := [mode for mode in modes if mode not in MODES]:
            parser.error(f"gpu {unknown[0]!r} is not one of {', '.join(MODES)}")
    for name in names:
        if name not in NAMES:
            parser.error(f"{name!r} is not one of {', '.join(NAMES)}")
    options = Options(
        quick=given.quick,
        seeds=given.seeds,
        reference_seeds=given.reference_seeds or (1 if given.quick else 2),
        modes=modes,
    )
    console = Console(highlight=False, width=100)
    console.print(machine())
    if options.quick:
        console.print("QUICK: reduced sizes; these figures are no results", style="bold")
    for name in names or NAMES:
        console.print()
        importlib.import_module(f"benchmarks.{name}").main(options, console)


if __name__ == "__main__":
    main()
