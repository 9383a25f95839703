"""How a sweep's page in MLflow opens: its main metrics with their intervals, and its samples.

MLflow keeps the state of a shared view as JSON in a tag of the experiment. What is written here is
what its page (3.17) writes itself when somebody arranges charts by hand.
"""

from __future__ import annotations

import json
from typing import Any

from luceloop.analysis.reading import labels
from luceloop.core.config.sweep import SweepConfig

MOST_CHARTS = 3
"""Charts of metrics, beside which there is one of samples; all others wait in closed sections."""
SECTION = "luceloop"
CLOSED = ("Model metrics", "class_fraction", "margin", "seconds")
"""Sections that MLflow makes of metrics that no chart names: by prefix, and the rest."""


def page_view(config: SweepConfig, *, pictures: bool) -> str:
    """The state of the page.

    Args:
        config: of the sweep.
        pictures: whether there are pictures of samples.
    """
    charts = [_lines(metric, len(config.point.seeds) > 1) for metric in story(config)]
    if pictures:
        charts.append(_pictures())
    sections = [_section(SECTION, "The sweep", is_open=True)]
    names = [*CLOSED, *config.point.metrics]  # of users' own metrics, those with several keys
    sections += [_section(f"{SECTION}-{i}", name, is_open=False) for i, name in enumerate(names)]
    view = {
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }
    return json.dumps(view)


def story(config: SweepConfig) -> list[str]:
    """The metrics that a sweep is judged by, and those that every loop is about."""
    metrics = [objective.metric for objective in config.search.objective]
    metrics += ["reward_mean", "class_entropy"]
    if config.point.quality is not None:
        metrics.append("recall" if config.point.classifier else "width_ratio")
    of_beta = [key for key in config.search.space if key.endswith("beta")]
    if not of_beta and config.point.beta >= 0:  # else every β has a unit of its own, or none
        metrics.append("exp_reward_mean")
    return list(dict.fromkeys(metrics))[:MOST_CHARTS]


def _lines(metric: str, with_interval: bool) -> dict[str, Any]:
    """A chart of a metric's mean over seeds by iteration, dashed the ends of its interval."""
    statistics = ("mean", "ci_low", "ci_high") if with_interval else ("mean",)
    names = [labels.aggregate_name(metric, statistic) for statistic in statistics]
    return {
        "type": "LINE",
        "uuid": f"{SECTION}-{metric}",
        "metricSectionId": SECTION,
        "isGenerated": False,
        "deleted": False,
        "metricKey": names[0],
        "selectedMetricKeys": names,
        "scaleType": "linear",
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
    }


def _pictures() -> dict[str, Any]:
    """A card of samples for each point, with a slider over iterations."""
    return {
        "type": "IMAGE",
        "uuid": f"{SECTION}-{labels.PICTURES}",
        "metricSectionId": SECTION,
        "isGenerated": False,
        "deleted": False,
        "imageKeys": [labels.PICTURES],
        "step": 0,
    }


def _section(identity: str, name: str, *, is_open: bool) -> dict[str, Any]:
    return {
        "uuid": identity,
        "name": name,
        "display": is_open,
        "isReordered": False,
        "deleted": False,
        "isGenerated": not is_open,
    }
