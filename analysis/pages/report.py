"""A sweep as one HTML page that needs nothing else: points beside the theory, bounds, figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from luceloop.analysis.drawing.colors import color
from luceloop.analysis.drawing.figures import Drawn
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.answers import load_answers
from luceloop.analysis.reading.forecasts import load_config_text
from luceloop.analysis.reading.results import PointCurves, SweepResults
from luceloop.analysis.statistics.seeds import over_seeds
from luceloop.analysis.statistics.starts import describe_starts
from luceloop.analysis.statistics.verdicts import at, judge_bound, split_gap, values_at
from luceloop.core.measures.ranges import metric_range
from luceloop.core.theory.bounds import BOUNDS, is_identity

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .5em; }
figure { margin: 1.5em 0; } img { max-width: 100%; } .violated { color: #b00; }
pre { background: #f6f6f6; padding: 1em; overflow: auto; } .note { color: #555; }
"""


def write_report(results: SweepResults, figures: Sequence[Drawn], file: Path) -> Path:
    """Write the page.

    Args:
        results: what the sweep came to.
        figures: that were drawn, of which the PNG are embedded.
        file: the page.
    """
    title = html.escape(f"{results.runs.name} ({results.runs.sweep})")
    body = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(results.runs.description)}</p>",
        f'<p class="violated">{html.escape(results.remark)}</p>' if results.remark else "",
        *(f"<p>{html.escape(line)}</p>" for line in describe_starts(_first(results))),
        *_claims_section(results),
        *_points_section(results),
        *_bounds_section(results),
        "<h2>Figures</h2>",
        *(_figure(each.files[0]) for each in figures),
        f"<h2>Configuration</h2><pre>{html.escape(load_config_text(results.runs))}</pre>",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>{''.join(body)}</html>",
        encoding="utf-8",
    )
    return file


def _first(results: SweepResults) -> Iterable[Mapping[str, Sequence[float]]]:
    """Metrics of each point at t=0, a value per seed."""
    first = results.curves[results.curves["iteration"] == 0]
    for _, mine in first.groupby("point"):
        yield {str(metric): rows["value"].tolist() for metric, rows in mine.groupby("metric")}


def _claims_section(results: SweepResults) -> Iterable[str]:
    verdicts = load_answers(results)
    if not verdicts:
        return
    yield "<h2>What the sweep was run to find out</h2>"
    yield (
        '<p class="note">Each claim is answered by t-tests over the seeds, paired where points '
        "share them. All comparisons are adjusted together by Holm's method: any wrong answer has "
        "a probability of at most 5 %.</p>"
    )
    rows = [[html.escape(each.claim.says), html.escape(each.words)] for each in verdicts]
    yield _table(("claim", "answer"), rows)


def _points_section(results: SweepResults) -> Iterable[str]:
    yield "<h2>Points at their last iteration</h2>"
    yield (
        '<p class="note">The gap is the mean over seeds minus the forecast of a perfect learner '
        "with infinitely many samples: positive where the seeds are above it; in brackets its 95 % "
        "interval. Where a perfect learner was simulated at the sweep's own sample sizes, the gap "
        "is split: what finitely many samples explain, and the rest, which is the learner's.</p>"
    )
    head = (
        "point",
        "seeds",
        "t",
        "mean reward",
        "std",
        "95 % interval",
        "forecast",
        "gap",
        "from finite n",
        "the learner's",
    )
    yield _table(head, (_point_row(results, point) for point in results.points))


def _point_row(results: SweepResults, point: PointCurves) -> Sequence[str]:
    last, values = _last(results.curves, point.index, "reward_mean")
    ends = metric_range("reward_mean", supremum=results.runs.suprema.get(point.index))
    over = {name: float(value) for name, value in over_seeds(values, *ends).items()}
    spread = ["", ""]
    if "std" in over:
        spread = [f"{over['std']:.2g}", f"{over['ci_low']:.4g} to {over['ci_high']:.4g}"]
    forecast = ["", "", "", ""]
    if point.forecast is not None:
        expected = float(point.forecast.curves["reward_mean"][last])
        simulated = at(point.forecast.finite_n.get("reward_mean"), last)
        found = split_gap(values, expected, simulated, *ends)
        parts = (found.whole, found.from_n, found.learner)
        forecast = [f"{expected:.4g}", *("" if part is None else part.words for part in parts)]
    name = f'<i style="background: {color(point.index)}"></i>{html.escape(point.name)}'
    return [name, str(point.seeds), str(last), f"{over['mean']:.4g}", *spread, *forecast]


def _bounds_section(results: SweepResults) -> Iterable[str]:
    margins = results.curves[results.curves["metric"].str.startswith("margin/")]
    if margins.empty:
        return
    yield "<h2>The theorems' bounds</h2>"
    yield (
        '<p class="note">A margin is how far a value is on the right side of its bound; shown is '
        "the retraining where its mean over seeds speaks most against the bound. A bound is "
        "violated (red) if a one-sided Student test over the seeds says so at 5 %, divided among "
        "all retrainings. Theorems are about infinitely many samples: as far as a perfect learner "
        "with this sweep's sample sizes would be beyond a bound, seeds may be, too. Where λ=0, "
        "K=1 or β=0 bounds are identities, and nothing is tested. Where no perfect learner was "
        "simulated, as for sweeps of many points, seeds are held to the bound itself (“against "
        "n=∞”), and the divergence of 2.4, which sampling alone makes too high, is not tested. The "
        "interval is of that one retraining, so it may lie below 0 where the bound is kept. 2.3 "
        "and 2.4 also assume that p_0 is the law of the real data.</p>"
    )
    rows = []
    for point in results.points:
        mine = margins[margins["point"] == point.index]
        for metric, group in mine.groupby("metric"):
            rows.append(_margin_row(results, point, str(metric), group))
    head = ("point", "bound", "mean margin", "95 % interval", "at t", "seeds beyond", "verdict")
    yield _table(head, rows)


def _margin_row(
    results: SweepResults, point: PointCurves, metric: str, margins: pd.DataFrame
) -> Sequence[str]:
    name = metric.removeprefix("margin/")
    by_t = {
        int(str(t)): group["value"].to_numpy(dtype=np.float64)
        for t, group in margins.groupby("iteration")
    }
    simulated = None if point.forecast is None else point.forecast.finite_n.get(metric)
    perfect = {t: own for t in by_t if (own := values_at(simulated, t)) is not None}
    params = results.runs.points[point.index].data.params
    key = (float(params[name]) for name in (labels.BETA, labels.LAM, labels.K))
    bound = BOUNDS[name]
    found = judge_bound(by_t, perfect, identity=is_identity(*key), is_biased=bound.is_biased)
    verdict = html.escape(found.words)
    if found.violated:
        verdict = f'<span class="violated">{verdict}</span>'
    interval = "" if np.isnan(found.low) else f"{found.low:+.3g} to {found.high:+.3g}"
    title, beyond = bound.title, f"{found.below} of {found.seeds}"
    cells = [f"{found.margin:+.3g}", interval, str(found.iteration), beyond, verdict]
    return [html.escape(point.name), html.escape(title), *cells]


def _last(
    curves: pd.DataFrame, point: int, metric: str
) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The last iteration of a metric and its value for each seed."""
    mine = curves[(curves["point"] == point) & (curves["metric"] == metric)]
    last = int(mine["iteration"].max())
    return last, mine.loc[mine["iteration"] == last, "value"].to_numpy(dtype=np.float64)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"></figure>'
