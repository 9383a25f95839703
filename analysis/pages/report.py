"""A sweep as one HTML page that needs nothing else: claims, curves, samples, figures, tables."""

from __future__ import annotations

import base64
import io
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from luceloop.analysis.drawing.figures import Drawn
from luceloop.analysis.pages.chart import as_script, chart_data, chart_library
from luceloop.analysis.pages.sprites import sample_strips
from luceloop.analysis.pages.tables import (
    bounds_table,
    comparisons_table,
    failures_table,
    first_metrics,
    points_table,
    times_table,
)
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.answers import load_answers
from luceloop.analysis.reading.forecasts import load_config_text
from luceloop.analysis.reading.results import SweepResults
from luceloop.analysis.reading.store import SweepRuns
from luceloop.analysis.statistics.starts import describe_starts

EMBEDDED = ("response", "overview", "class_shares", "kept_against_pool", "margins")
"""Figures of the page; single metrics and samples are there to play with instead."""
WIDEST = 1600
"""Pixels of an embedded figure."""


@dataclass(frozen=True)
class Picture:
    """A figure in the page."""

    name: str
    caption: str
    uri: str
    """The picture itself."""


def write_report(results: SweepResults, figures: Sequence[Drawn], file: Path) -> Path:
    """Write the page.

    Args:
        results: what the sweep came to.
        figures: that were drawn.
        file: the page.
    """
    page = _template("report.html").render(_content(results, figures))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    return file


def _content(results: SweepResults, figures: Sequence[Drawn]) -> dict[str, Any]:
    """What the template is filled with; whatever is not `Markup` is escaped there."""
    runs = results.runs
    chart = chart_data(results)
    metric = chart["metrics"][0]["name"] if chart["metrics"] else "reward_mean"
    pairs, pairs_left_out = comparisons_table(results, metric)
    strips, strips_left_out = sample_strips(results)
    environment = _attached(runs, "environment.json")
    return {
        "title": f"{runs.name} ({runs.sweep})",
        "description": runs.description,
        "remark": results.remark,
        "starts": list(describe_starts(first_metrics(results))),
        "claims": load_answers(results),
        "sweep": runs.sweep,
        "metric": metric,
        "chart": chart,
        "last": int(results.curves["iteration"].max()),
        "strips": strips,
        "strips_left_out": strips_left_out,
        "ends": points_table(results),
        "pairs": pairs,
        "pairs_left_out": pairs_left_out,
        "bounds": bounds_table(results),
        "figures": [_embedded(each) for each in figures if each.name in EMBEDDED],
        "failures": failures_table(results),
        "times": times_table(results),
        "command": shlex.join(_command(environment)),
        "link": _link(runs),
        "code": _code(_attached(runs, f"{labels.PROVENANCE}/provenance.json")),
        "environment": _environment(environment),
        "configuration": load_config_text(runs),
        "css": Markup(_text("report.css")),
        "spec": Markup(_text("chart.json")),
        "data": Markup(as_script(chart)),
        "library": Markup(chart_library()),
        "script": Markup(_text("report.js")),
    }


def _text(name: str) -> str:
    return (files("luceloop.analysis") / "pages" / "template" / name).read_text("utf-8")


def _template(name: str) -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_text(name))


def _embedded(figure: Drawn) -> Picture:
    """A figure as a WebP picture, a third of the size of its PNG."""
    picture = Image.open(figure.files[0]).convert("RGB")
    picture.thumbnail((WIDEST, 4 * WIDEST))
    file = io.BytesIO()
    picture.save(file, "webp", quality=82)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(figure.name, figure.caption, uri)


def _attached(runs: SweepRuns, path: str) -> dict[str, Any]:
    """A JSON file of the sweep's run; empty if it has none, as sweeps of older versions."""
    folder, _, name = path.rpartition("/")
    if runs.run is None:
        return {}
    run = runs.run.info.run_id
    listed = {Path(each.path).name for each in runs.client.list_artifacts(run, folder or None)}
    if name not in listed:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        content = Path(runs.client.download_artifacts(run, path, temporary)).read_text()
    return dict(json.loads(content))


def _command(environment: Mapping[str, Any]) -> list[str]:
    """The command line, the program by its name alone."""
    program, *arguments = environment.get("command") or [""]
    return [Path(program).name, *arguments] if program else []


def _environment(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return []
    lines = [f"Python {found['python']}", str(found["platform"]), f"{found['cpus']} CPUs"]
    return lines + [f"{name} {version}" for name, version in found["packages"].items()]


def _code(found: Mapping[str, Any]) -> list[str]:
    """What the sweep's numbers come from, a line each."""
    lines = []
    git = found.get("git")
    if git:
        state = ", with changes that are in the sweep's folder" if git.get("dirty") else ""
        lines.append(f"git commit {git.get('commit')}{state}")
    lines += [f"{name}: {digest}" for name, digest in dict(found.get("files", {})).items()]
    for each in found.get("accepted", []):
        names = ", ".join(str(change.get("file")) for change in each["changes"])
        lines.append(f"changes accepted at {each['time']}: {names}")
    return lines


def _link(runs: SweepRuns) -> str:
    """The address of the sweep's page in MLflow; empty where no server is known."""
    uri = runs.uri
    if not uri.startswith(("http://", "https://")) or runs.run is None:
        return ""
    experiment = runs.run.info.experiment_id
    return labels.chart_page(uri.rstrip("/"), str(experiment))
