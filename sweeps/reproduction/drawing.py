"""One figure of the paper, drawn from a sweep: its pictures, and its claims answered by seeds."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure

from luceloop.analysis.drawing.density import draw_density, draw_density_plane
from luceloop.analysis.drawing.figures import Drawn, Wish, draw_one
from luceloop.analysis.drawing.sheets import Drawing, legend, style
from luceloop.analysis.drawing.wording import Band
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.answers import load_answers
from luceloop.analysis.reading.results import SweepResults, load_results
from luceloop.analysis.reading.store import SweepRuns
from luceloop.analysis.statistics.claims import Verdict
from luceloop.core.config.claims import ClaimConfig
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError
from luceloop.core.rng import stream
from luceloop.core.theory.density import density_by_bin, density_of
from luceloop.core.theory.real_law import real_law
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.reproduction.catalogue import PaperFigure

REAL_SAMPLES = 4000
"""Real samples in the picture of the plane."""


@dataclass(frozen=True)
class Reproduced:
    """A figure of the paper as our seeds have it."""

    figure: PaperFigure
    sweep: str
    """Id of the sweep that it is drawn from."""
    drawn: Sequence[Drawn]
    answers: Sequence[Verdict]
    """To the claims of the figure; all claims of a sweep are one family."""
    command: str
    """What runs the sweep."""


def reproduce(
    figure: PaperFigure,
    claims: Sequence[ClaimConfig],
    overrides: Sequence[str],
    folder: SweepFolder,
    output: Output,
    place: Path,
) -> Reproduced:
    """Draw a figure.

    Args:
        figure: of the paper.
        claims: of the preset that stands for it.
        overrides: in what its sweep differs from the figure's own.
        folder: of the sweep that it is drawn from.
        output: the output folder.
        place: the folder of its pictures.
    """
    results = load_results(output.tracking_uri, folder.id, cache=folder.cache)
    answers = [each for each in load_answers(results, claims) if each.claim.of == figure.title]
    shown = _restricted(results, figure)
    drawn = []
    for panel in figure.panels:
        if panel.figure == "density":
            drawn.append(_density(shown, place))
        else:
            wish = Wish(panel.metric, band=cast(Band, panel.band))
            drawn.append(draw_one(shown, panel.figure, place, wish))
    command = shlex.join(["luceloop", "run", figure.preset, *figure.overrides, *overrides])
    return Reproduced(figure, folder.id, drawn, answers, command)


def _restricted(results: SweepResults, figure: PaperFigure) -> SweepResults:
    """The points that a figure is about.

    Raises:
        ConfigError: if the sweep has none.
    """
    wanted = figure.point.items()
    kept = [p for p in results.points if all(p.values.get(key) == value for key, value in wanted)]
    if not kept:
        values = ", ".join(f"{key}={value}" for key, value in wanted)
        raise ConfigError("search", values, f"is needed for {figure.title}, and has no point")
    return replace(results, points=kept)


def _density(results: SweepResults, place: Path) -> Drawn:
    """The density that the first point settles at, measured and in theory."""
    point = results.points[0]
    config = results.configs[point.index]
    law = real_law(config)
    theory = density_of(law, config)
    rewards = _rewards(results.runs, point.index, config)
    measured = np.array([density_by_bin(law, reward) for reward in rewards])
    bins = law.bins
    centres = (law.reference * law.reward) @ bins / law.real_bins
    data = config.data.build()
    samples = data.draw(REAL_SAMPLES, stream(0, "picture of the real data"))
    with style("paper") as scale:
        sheet = Figure(figsize=(7.6 * scale, 3.4 * scale), layout="constrained")
        left, right = sheet.subplots(1, 2)
        reward = config.reward.build(data, None)(samples).double().numpy()
        draw_density_plane(left, samples.numpy(), reward, theory)
        draw_density(right, theory, centres, measured, config.iterations)
        legend(sheet, None, scale)
        caption = (
            "Left: real samples, coloured by the limit of p_t/p_ref. Right: p_t/p_ref against the "
            f"reward, in {len(centres)} bins of equal real mass; mean over {len(measured)} seeds "
            "with 95 % intervals, on the density of a perfect learner and its limit."
        )
        drawing = Drawing("density", caption, sheet)
        place.mkdir(parents=True, exist_ok=True)
        return Drawn("density", caption, tuple(drawing.save(place)))


def _rewards(runs: SweepRuns, index: int, config: PointConfig) -> np.ndarray:
    """Rewards of the samples that the last iteration keeps, for each seed `(S, N)`."""
    name = f"{labels.SAMPLES}/iteration-{config.iterations:04d}.npz"
    with tempfile.TemporaryDirectory() as temporary:
        run = runs.points[index].info.run_id
        with np.load(runs.client.download_artifacts(run, name, temporary)) as content:
            samples = torch.from_numpy(content["samples"])
    reward = config.reward.build(config.data.build(), None)
    found = reward(samples.flatten(0, 1)).double().numpy()
    return np.asarray(found.reshape(samples.shape[:2]))
