"""The command `reproduce`: the paper's figures from sweeps that are there, or from new ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.sweeps.console import console, print_figures, print_line
from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.reproduction.catalogue import FIGURES, PaperFigure, find_figure
from luceloop.sweeps.reproduction.drawing import Reproduced
from luceloop.sweeps.reproduction.drawing import reproduce as draw
from luceloop.sweeps.reproduction.page import write_page
from luceloop.sweeps.reproduction.sweeps import complete, config_of, done_points, find_sweep


def reproduce(
    name: str | None, overrides: Sequence[str], output: Output, place: Path | None
) -> None:
    """Draw figures of the paper, answer their claims, and write a page of them.

    Args:
        name: one figure, which is run if it has to be; if not given, those that a laptop draws in
            minutes, and of the others those whose sweeps are there.
        overrides: `key=value` in which sweeps differ from the presets.
        output: the output folder.
        place: the folder of the page; that of the output folder if not given.

    Raises:
        ConfigError: if there is no such figure, or its sweep cannot run.
        LoopError: if points failed.
    """
    folder = place or output.path / "reproduction"
    wanted = FIGURES if name is None else (find_figure(name),)
    found: list[Reproduced] = []
    missing: list[tuple[PaperFigure, str]] = []
    for figure in wanted:
        config = config_of(figure, overrides)
        reason = ""
        if name is None and not figure.is_quick:
            reason = _why_not(figure, config, overrides, output)
        if reason:
            missing.append((figure, reason))
            continue
        try:
            sweep = complete(config, find_sweep(config, output), output, console)
            place = folder / figure.name
            found.append(draw(figure, config.claims, overrides, sweep, output, place))
        except (ConfigError, LoopError) as error:  # the other figures are drawn nevertheless
            if name is not None:
                raise
            missing.append((figure, str(error)))
            continue
        _print(found[-1])
    for figure, reason in missing:
        print_line(f"{figure.title}: not drawn, {reason}")
    file = folder / ("README.md" if name is None else f"{wanted[0].name}.md")
    write_page(file, found, missing)
    print_line(f"page {file}")


def _why_not(
    figure: PaperFigure, config: SweepConfig, overrides: Sequence[str], output: Output
) -> str:
    """Why a figure that takes a GPU is not drawn; empty if its sweep is there."""
    sweep = find_sweep(config, output)
    if sweep is not None and done_points(sweep) == config.point_count:
        return ""
    command = shlex.join(["luceloop", "reproduce", figure.name, *overrides])
    return f"no sweep of {config.name} has ended here; run it with: {command}"


def _print(each: Reproduced) -> None:
    console.print(f"{each.figure.title}: {each.figure.shows}", style="bold", highlight=False)
    print_figures(drawn.files[0] for drawn in each.drawn)
    for verdict in each.answers:
        print_line(f"claim: {verdict.claim.says}  {verdict.words}")
